//! pool_test.zig: the pool against a model of plain arrays, against a kernel without memory, and at its limits.

const std = @import("std");
const builtin = @import("builtin");
const platform = @import("platform/mod.zig");
const pool_room = @import("pool.zig");
const pool_soak = @import("pool_soak.zig");
const Pool = pool_room.Pool;
const Block = pool_room.Block;
const testing = std.testing;
const gpa = testing.allocator;

const mib = 1024 * 1024;
const second = std.time.ns_per_s;

fn map(size: usize) ![]align(4096) u8 {
    const mapped = platform.pages(size);
    if (mapped.code < 0) return error.OutOfMemory;
    return @as([*]align(4096) u8, @ptrFromInt(mapped.address))[0..size];
}

fn unmap(memory: []align(4096) u8) void {
    platform.unmap(@intFromPtr(memory.ptr), memory.len);
}

/// A source of pages that runs dry.
var pages_left: u32 = 0;

fn scarcePages(size: usize) usize {
    if (pages_left == 0) return 0;
    pages_left -= 1;
    return pool_room.systemPages(size);
}

test "init refuses memory and connections out of bounds; without memory it leaves nothing" {
    const memory = try map(2 * mib);
    defer unmap(memory);
    try testing.expectError(error.BadArgument, Pool.init(memory[0 .. 1 * mib - 65536], 1));
    try testing.expectError(error.BadArgument, Pool.init(memory[0 .. 1 * mib + 4096], 1));
    try testing.expectError(error.BadArgument, Pool.init(memory[0..0], 1));
    try testing.expectError(error.BadArgument, Pool.init(memory, 0));
    try testing.expectError(error.BadArgument, Pool.init(memory, 1281));
    for (0..2) |allowed| {
        pages_left = @intCast(allowed);
        try testing.expectError(error.OutOfMemory, Pool.initWithPages(memory, 1024, scarcePages));
    }
    pages_left = 2;
    var pool: Pool = try .initWithPages(memory, 1024, scarcePages);
    pool.deinit();
}

test "a pool of the largest size hands out both of its ends" {
    // Only address space: nothing is written.
    const memory = map(pool_room.memory_bytes_max) catch return error.SkipZigTest;
    defer unmap(memory);
    var pool: Pool = try .init(memory, 1);
    defer pool.deinit();
    pool.poisons = false;
    try testing.expectEqual(pool_room.block_bytes_max, pool.allocSizeMax());
    const low = pool.alloc(1).?;
    const high = pool.alloc(pool_room.block_bytes_max).?;
    try testing.expectEqual(0, pool.offset(low));
    try testing.expectEqual(@intFromPtr(memory.ptr) + memory.len, @intFromPtr(pool.bytes(high).ptr) + pool_room.block_bytes_max);
    var count: usize = 0;
    while (pool.alloc(pool_room.block_bytes_max)) |_| count += 1;
    try testing.expectEqual((memory.len - 256) / pool_room.block_bytes_max - 1, count);
    try pool.blocks.verify();
}

test "alloc, offer, advance: a block is free when the last cursor has passed it" {
    const memory = try map(mib);
    defer unmap(memory);
    var pool: Pool = try .init(memory, 4);
    defer pool.deinit();
    try testing.expect(pool.alloc(0) == null);
    try testing.expect(pool.alloc(pool_room.block_bytes_max + 1) == null);
    try testing.expect(pool.alloc(std.math.maxInt(usize)) == null);
    try testing.expect(pool.alloc(mib + 1) == null);

    const block = pool.alloc(1000).?;
    try testing.expectEqual(1000, pool.bytes(block).len);
    try testing.expectEqual(0, @intFromPtr(pool.bytes(block).ptr) % 64);
    const generation = pool.generation(block);
    try testing.expect(generation != 0);
    try testing.expectEqual(1024, pool.usedBytes());
    try pool.offer(block, 0, 176);
    try pool.offer(block, 3, 352);
    pool.discard(block); // offered: nothing happens
    pool.advance(0, 175);
    pool.advance(1, std.math.maxInt(u64));
    pool.advance(2, 0);
    try testing.expectEqual(1024, pool.pinnedBytes(0));
    try testing.expectEqual(1024, pool.pinnedBytes(3));
    pool.advance(0, 176);
    try testing.expectEqual(0, pool.pinnedBytes(0));
    try testing.expectEqual(1024, pool.pinnedBytes(3));
    try testing.expectEqual(1024, pool.usedBytes());
    pool.advance(3, 1000);
    try testing.expectEqual(0, pool.usedBytes());
    try testing.expectEqual(0, pool.pinnedBytes(3));

    // The same place at once, under another generation.
    const next = pool.alloc(900).?;
    try testing.expectEqual(0, pool.offset(next));
    try testing.expect(pool.generation(next) != generation);
    pool.discard(next);
    try testing.expectEqual(0, pool.usedBytes());
}

test "generations skip 0 when they wrap" {
    const memory = try map(mib);
    defer unmap(memory);
    var pool: Pool = try .init(memory, 1);
    defer pool.deinit();
    pool.blocks.generation = std.math.maxInt(u32) - 1;
    for ([_]u32{ std.math.maxInt(u32), 1, 2 }) |expected| {
        const block = pool.alloc(1).?;
        try testing.expectEqual(expected, pool.generation(block));
        pool.discard(block);
    }
}

test "abort takes back what is beyond a position, across pages of references" {
    const memory = try map(mib);
    defer unmap(memory);
    var pool: Pool = try .init(memory, 1);
    defer pool.deinit();
    const kept = pool.alloc(100).?;
    const taken_back = pool.alloc(100).?;
    pool.retain(taken_back);
    // Positions near the end of a u64.
    const start = std.math.maxInt(u64) - 100_000;
    for (0..1000) |i| try pool.offer(if (i < 200) kept else taken_back, 0, start + i);
    try testing.expectEqual(1000, pool.referenceCount(0));
    pool.abort(0, start + 199);
    try testing.expectEqual(200, pool.referenceCount(0));
    pool.abort(0, start + 199);
    for (0..1000) |i| try pool.offer(taken_back, 0, start + 200 + i);
    pool.abort(0, 0);
    try testing.expectEqual(0, pool.referenceCount(0));
    try testing.expectEqual(256, pool.usedBytes());
    pool.release(taken_back);
    try testing.expectEqual(0, pool.usedBytes());
}

test "what nobody refers to any more is poisoned in Debug, what anybody refers to is not" {
    const memory = try map(mib);
    defer unmap(memory);
    var pool: Pool = try .init(memory, 2);
    defer pool.deinit();
    pool.poisons = true;
    const block = pool.alloc(80_000).?;
    const other = pool.alloc(80_000).?;
    const bytes = pool.bytes(block);
    @memset(bytes, 7);
    @memset(pool.bytes(other), 8);
    try pool.offer(block, 0, 10);
    try pool.offer(block, 1, 10);
    pool.advance(0, 10);
    try testing.expect(std.mem.allEqual(u8, bytes, 7));
    pool.advance(1, 10);
    try testing.expect(std.mem.allEqual(u8, bytes[0 .. 64 * 1024], 0xaa));
    try testing.expect(std.mem.allEqual(u8, pool.bytes(other), 8));
    pool.discard(other);
}

test "quarantine: an evicted connection's blocks stay until it is gone, or a second has passed, or the oldest are too much" {
    const memory = try map(mib); // 128 KiB of quarantine
    defer unmap(memory);
    var pool: Pool = try .init(memory, 4);
    defer pool.deinit();
    const kib16 = 16 * 1024;

    // Gone.
    try pool.offer(pool.alloc(kib16).?, 0, 1);
    pool.revoke(0, 5 * second);
    pool.revoke(0, 9 * second); // the first time counts
    try testing.expectEqual(kib16, pool.quarantinedBytes());
    pool.expire(6 * second - 1);
    try testing.expectEqual(kib16, pool.usedBytes());
    pool.forget(0);
    try testing.expectEqual(0, pool.usedBytes());
    try testing.expectEqual(0, pool.quarantinedBytes());
    try pool.offer(pool.alloc(kib16).?, 0, 1); // the number is somebody else's now
    pool.advance(0, 1);

    // A second.
    try pool.offer(pool.alloc(kib16).?, 0, 2);
    try pool.offer(pool.alloc(kib16).?, 1, 2);
    pool.revoke(1, 5 * second);
    pool.revoke(0, 5 * second + 1);
    pool.expire(6 * second);
    try testing.expectEqual(kib16, pool.usedBytes());
    pool.expire(0); // a clock that goes back frees nothing
    try testing.expectEqual(kib16, pool.usedBytes());
    pool.expire(6 * second + 1);
    try testing.expectEqual(0, pool.usedBytes());
    pool.forget(0);
    pool.forget(1);

    // A block that a living connection has too is not in quarantine, until that one is done with it.
    const shared = pool.alloc(kib16).?;
    try pool.offer(shared, 0, 3);
    try pool.offer(shared, 1, 3);
    pool.revoke(0, 0);
    try testing.expectEqual(0, pool.quarantinedBytes());
    pool.advance(1, 3);
    try testing.expectEqual(kib16, pool.quarantinedBytes());
    pool.forget(0);
    try testing.expectEqual(0, pool.usedBytes());

    // Too much: the oldest go, of the first one evicted first.
    for (0..6) |i| {
        try pool.offer(pool.alloc(kib16).?, 2, i + 10);
        try pool.offer(pool.alloc(kib16).?, 0, i + 10);
    }
    pool.revoke(2, 100);
    try testing.expectEqual(6 * kib16, pool.quarantinedBytes());
    pool.revoke(0, 101);
    try testing.expectEqual(8 * kib16, pool.quarantinedBytes());
    try testing.expectEqual(2, pool.referenceCount(2));
    try testing.expectEqual(6, pool.referenceCount(0));
    // Likewise if blocks get there because the living are done with them.
    for (0..9) |i| try pool.offer(pool.alloc(kib16).?, 1, i + 20);
    pool.advance(1, 20);
    try testing.expectEqual(2, pool.referenceCount(2));
    pool.revoke(1, 102);
    try testing.expectEqual(0, pool.referenceCount(2));
    try testing.expectEqual(0, pool.referenceCount(0));
    try testing.expectEqual(8, pool.referenceCount(1));
    for (0..4) |i| pool.forget(@intCast(i));
    try testing.expectEqual(0, pool.usedBytes());
    try testing.expectEqual(0, pool.quarantinedBytes());
    try pool.blocks.verify();
}

test "references are bounded for each connection, and without memory nothing changes" {
    const memory = try map(mib);
    defer unmap(memory);
    pages_left = 2;
    var pool: Pool = try .initWithPages(memory, 3, scarcePages);
    defer pool.deinit();
    const block = pool.alloc(100).?;
    try testing.expectError(error.OutOfMemory, pool.offer(block, 0, 1));
    try testing.expectEqual(0, pool.pinnedBytes(0));
    pages_left = 1; // 16 chunks
    for (0..16 * 340) |i| try pool.offer(block, 0, i);
    for (0..2) |_| {
        try testing.expectError(error.OutOfMemory, pool.offer(block, 0, 16 * 340));
        try testing.expectError(error.OutOfMemory, pool.offer(block, 1, 1));
    }
    try testing.expectEqual(16 * 340, pool.referenceCount(0));
    pool.advance(0, 339); // one chunk comes back
    try pool.offer(block, 1, 1);
    try testing.expectError(error.OutOfMemory, pool.offer(block, 2, 1));
    pages_left = std.math.maxInt(u32);
    for (0..pool_room.connection_references_max - 1) |i| try pool.offer(block, 1, i + 2);
    try testing.expectError(error.OutOfMemory, pool.offer(block, 1, 1 << 30));
    try testing.expectEqual(pool_room.connection_references_max * 256, pool.pinnedBytes(1));
    try pool.offer(block, 2, 1);
    for (0..3) |i| pool.forget(@intCast(i));
    try testing.expectEqual(0, pool.usedBytes());

    // Books of the blocks: a slab has 2,048 records, of which one is nobody's and one is what is left of the memory.
    pages_left = 0;
    var blocks: [4096]Block = undefined;
    var count: usize = 0;
    while (pool.alloc(64)) |next| : (count += 1) blocks[count] = next;
    try testing.expectEqual(2046, count);
    try testing.expect(pool.allocSizeMax() > 64);
    try pool.blocks.verify();
    pages_left = 2;
    while (pool.alloc(64)) |next| : (count += 1) blocks[count] = next;
    try testing.expectEqual(4096, count);
    try testing.expectEqual(0, pages_left);
    try testing.expectEqual(mib, pool.usedBytes());
    try testing.expectEqual(0, pool.allocSizeMax());
    for (blocks) |each| pool.discard(each);
    try testing.expectEqual(0, pool.usedBytes());
    try testing.expectEqual(mib, pool.allocSizeMax());
}

test "1,024 connections share each block" {
    const memory = try map(16 * mib);
    defer unmap(memory);
    var pool: Pool = try .init(memory, 1024);
    defer pool.deinit();
    pool.poisons = false;
    for (1..101) |position| {
        const block = pool.alloc(8064).?;
        for (0..1024) |connection| try pool.offer(block, @intCast(connection), position);
    }
    try testing.expectEqual(100 * 8064, pool.usedBytes());
    for (0..1023) |connection| pool.advance(@intCast(connection), 100 - connection % 3);
    try testing.expectEqual(100 * 8064, pool.usedBytes());
    try testing.expectEqual(100 * 8064, pool.pinnedBytes(1023));
    pool.advance(1023, 60);
    try testing.expectEqual(40 * 8064, pool.usedBytes());
    for (0..1024) |connection| if (connection % 2 == 0) pool.revoke(@intCast(connection), connection);
    for (0..1024) |connection| if (connection % 2 == 1) pool.forget(@intCast(connection));
    try testing.expectEqual(2 * 8064, pool.quarantinedBytes());
    pool.expire(1022 + second);
    try testing.expectEqual(0, pool.usedBytes());
}

test "a pool 60 to 80 % full for 1,200,000 allocations does not crumble: at 50 %, 10 MiB are free in one piece" {
    for ([_]pool_soak.Lifetimes{ .random, .queue_with_stragglers }) |lifetimes| {
        const result = try pool_soak.run(gpa, .{ .memory_size = 512 * mib, .allocations = 600_000, .lifetimes = lifetimes, .seed = 7 });
        try testing.expect(result.probes > 0);
        try testing.expectEqual(result.probes, result.probes_10_mib);
        try testing.expect(result.refused < result.allocations / 10_000);
        try testing.expect(result.internal_waste < 0.03);
    }
}

// The model

const Model = struct {
    const connections = 12;
    const memory_size = 2 * mib;

    const Item = struct {
        block: Block,
        offset: u32,
        size: u32,
        units: u32,
        generation: u32,
        tag: u64,
        is_live: bool,
        retained: u32,
        /// Nobody was offered it yet: the publish is not over.
        is_new: bool,
    };
    const Reference = struct { position: u64, item: u32 };
    const State = enum { live, quarantined, revoked };

    pool: *Pool,
    items: std.ArrayList(Item) = .empty,
    /// Indices of live items.
    live: std.ArrayList(u32) = .empty,
    references: [connections]std.ArrayList(Reference) = @splat(.empty),
    state: [connections]State = @splat(.live),
    revoked_ns: [connections]u64 = @splat(0),
    /// In order of eviction.
    evicted: std.ArrayList(u16) = .empty,
    position: [connections]u64 = @splat(0),
    /// By unit: whose it is, as item + 1.
    owner: []u32,
    /// By unit: the generation of the last block that began there.
    generations: []u32,
    now_ns: u64 = 0,
    /// Consumers hardly read: the pool fills up.
    is_slow: bool = false,
    seen: Seen = .{},

    /// How often a run came to where it hurts; the test fails if it did not.
    const Seen = struct { full: u32 = 0, no_memory: u32 = 0, quarantine_full: u32 = 0, pages_of_references: u32 = 0 };

    fn init(pool: *Pool) !Model {
        const owner = try gpa.alloc(u32, memory_size / 64);
        @memset(owner, 0);
        const generations = try gpa.alloc(u32, memory_size / 64);
        @memset(generations, 0);
        return .{ .pool = pool, .owner = owner, .generations = generations };
    }

    fn deinit(model: *Model) void {
        gpa.free(model.owner);
        gpa.free(model.generations);
        model.items.deinit(gpa);
        model.live.deinit(gpa);
        model.evicted.deinit(gpa);
        for (&model.references) |*list| list.deinit(gpa);
    }

    /// A write into a block shows if anybody else writes into it later.
    fn tags(bytes: []u8) [2]*align(1) u64 {
        return .{ @ptrCast(bytes.ptr), @ptrCast(bytes[bytes.len - 8 ..].ptr) };
    }

    fn add(model: *Model, size: u32) !?u32 {
        const before = model.pool.usedBytes();
        const may = size <= model.pool.allocSizeMax();
        const block = model.pool.alloc(size) orelse {
            try testing.expect(!may or pages_left == 0);
            if (may) model.seen.no_memory += 1 else model.seen.full += 1;
            try testing.expectEqual(before, model.pool.usedBytes());
            return null;
        };
        try testing.expect(may);
        const index: u32 = @intCast(model.items.items.len);
        const units: u32 = @intCast((model.pool.usedBytes() - before) / 64);
        const offset = model.pool.offset(block);
        try testing.expect(units * 64 >= size);
        for (model.owner[offset..][0..units]) |*owner| {
            if (owner.* != 0) return error.LiveBlockHandedOut;
            owner.* = index + 1;
        }
        const generation = model.pool.generation(block);
        try testing.expect(model.generations[offset] != generation);
        model.generations[offset] = generation;
        const bytes = model.pool.bytes(block);
        try testing.expectEqual(size, bytes.len);
        for (tags(bytes)) |tag| tag.* = generation;
        try model.items.append(gpa, .{
            .block = block,
            .offset = offset,
            .size = size,
            .units = units,
            .generation = generation,
            .tag = generation,
            .is_live = true,
            .retained = 0,
            .is_new = true,
        });
        try model.live.append(gpa, index);
        return index;
    }

    const Count = struct { all: u32 = 0, evicted: u32 = 0 };

    /// By item, from the lists: nothing is remembered, so nothing can be remembered wrong.
    fn counts(model: *Model, out: []Count) void {
        for (model.live.items) |index| out[index] = .{ .all = model.items.items[index].retained };
        for (model.references, model.state) |list, state| for (list.items) |reference| {
            out[reference.item].all += 1;
            if (state != .live) out[reference.item].evicted += 1;
        };
    }

    /// What must be true after an operation: frees what nobody refers to, lets the oldest go if too much is in quarantine,
    /// and compares.
    fn settle(model: *Model, scratch: *std.ArrayList(Count)) !void {
        try scratch.resize(gpa, model.items.items.len);
        var used: u64 = 0;
        var quarantined: u64 = 0;
        model.counts(scratch.items);
        for (model.live.items) |index| {
            const count = scratch.items[index];
            if (count.all > 0 and count.all == count.evicted) quarantined += model.items.items[index].units;
        }
        if (quarantined > memory_size / 64 / 8) model.seen.quarantine_full += 1;
        while (quarantined > memory_size / 64 / 8) {
            const connection = model.evicted.items[0];
            const list = &model.references[connection];
            if (list.items.len == 0) {
                _ = model.evicted.orderedRemove(0);
                model.state[connection] = .revoked;
                continue;
            }
            const reference = list.orderedRemove(0);
            const count = &scratch.items[reference.item];
            count.all -= 1;
            count.evicted -= 1;
            if (count.all == 0) quarantined -= model.items.items[reference.item].units;
        }
        var i: usize = 0;
        while (i < model.live.items.len) {
            const index = model.live.items[i];
            const item = &model.items.items[index];
            if (scratch.items[index].all == 0 and !item.is_new) {
                item.is_live = false;
                @memset(model.owner[item.offset..][0..item.units], 0);
                _ = model.live.swapRemove(i);
                if (builtin.mode == .debug) try testing.expectEqual(0xaa, model.pool.memory[@as(usize, item.offset) * 64]);
                continue;
            }
            used += item.units;
            i += 1;
        }
        try testing.expectEqual(used * 64, model.pool.usedBytes());
        try testing.expectEqual(quarantined * 64, model.pool.quarantinedBytes());
    }

    /// What takes longer.
    fn compare(model: *Model) !void {
        for (model.live.items) |index| {
            const item = model.items.items[index];
            try testing.expectEqual(item.offset, model.pool.offset(item.block));
            try testing.expectEqual(item.generation, model.pool.generation(item.block));
            for (tags(model.pool.bytes(item.block))) |tag| try testing.expectEqual(item.tag, tag.*);
        }
        for (model.references, 0..) |list, connection| {
            var pinned: u64 = 0;
            for (list.items) |reference| pinned += model.items.items[reference.item].units * 64;
            try testing.expectEqual(pinned, model.pool.pinnedBytes(@intCast(connection)));
            try testing.expectEqual(list.items.len, model.pool.referenceCount(@intCast(connection)));
        }
        try model.pool.blocks.verify();
    }

    fn offer(model: *Model, index: u32, connection: u16, size: u64) !void {
        if (model.state[connection] != .live) return;
        const position = model.position[connection] + size;
        model.pool.offer(model.items.items[index].block, connection, position) catch {
            try testing.expectEqual(0, pages_left);
            model.seen.no_memory += 1;
            return;
        };
        model.position[connection] = position;
        try model.references[connection].append(gpa, .{ .position = position, .item = index });
    }

    fn step(model: *Model, random: std.Random) !void {
        const connection = random.uintLessThan(u16, connections);
        const list = &model.references[connection];
        switch (random.uintLessThan(u32, 100)) {
            0...34 => { // publish
                const bits = random.intRangeAtMost(u5, 4, if (random.uintLessThan(u32, if (model.is_slow) 12 else 50) == 0) 20 else 14);
                const size = 16 + random.uintLessThan(u32, @as(u32, 1) << bits);
                const index = try model.add(size) orelse return;
                for (0..random.uintAtMost(u32, 5)) |_| {
                    try model.offer(index, random.uintLessThan(u16, connections), random.intRangeAtMost(u64, 0, 40) * 8);
                }
                model.items.items[index].is_new = false;
                if (random.uintLessThan(u32, 20) == 0) {
                    model.pool.retain(model.items.items[index].block);
                    model.items.items[index].retained += 1;
                }
                model.pool.discard(model.items.items[index].block);
            },
            35...49 => { // from a queue
                if (model.live.items.len == 0) return;
                const index = model.live.items[random.uintLessThan(usize, model.live.items.len)];
                const item = &model.items.items[index];
                if (item.retained == 0) {
                    model.pool.retain(item.block);
                    item.retained += 1;
                } else {
                    // Now and then so often that the references take more than one page.
                    const is_burst = random.uintLessThan(u32, 300) == 0;
                    if (is_burst) model.seen.pages_of_references += 1;
                    for (0..if (is_burst) 700 else 1) |_| try model.offer(index, connection, 176);
                    item.retained -= 1;
                    model.pool.release(item.block);
                }
            },
            50...84 => { // a consumer reads
                if (list.items.len == 0) return model.pool.advance(connection, random.int(u64));
                if (model.is_slow and random.uintLessThan(u32, 8) != 0) return;
                const most: usize = if (random.uintLessThan(u32, 16) == 0) 800 else 12;
                const count = random.uintAtMost(usize, @min(list.items.len, most));
                const position = if (count == 0) list.items[0].position -| 1 else list.items[count - 1].position;
                var passed: usize = 0;
                while (passed < list.items.len and list.items[passed].position <= position) passed += 1;
                list.replaceRangeAssumeCapacity(0, passed, &.{});
                model.pool.advance(connection, position);
            },
            85...91 => { // frames are taken back
                const keep = list.items.len -| random.uintAtMost(usize, if (random.uintLessThan(u32, 64) == 0) 500 else 4);
                const position = if (keep == 0) 0 else list.items[keep - 1].position;
                while (list.items.len > 0 and list.items[list.items.len - 1].position > position) _ = list.pop();
                model.pool.abort(connection, position);
            },
            92...93 => { // it is gone
                if (random.uintLessThan(u32, 3) != 0 and model.state[connection] == .live) return;
                list.clearRetainingCapacity();
                if (model.state[connection] == .quarantined) model.leave(connection);
                model.state[connection] = .live;
                model.pool.forget(connection);
            },
            94 => { // it is evicted, and sometimes half of the others
                if (model.is_slow and random.uintLessThan(u32, 4) != 0) return;
                try model.evict(connection);
                if (random.uintLessThan(u32, 8) != 0) return;
                for (0..connections) |other| if (random.boolean()) try model.evict(@intCast(other));
            },
            95...98 => { // time passes
                model.now_ns += random.uintLessThan(u64, if (model.is_slow) second / 50 else second / 4);
                while (model.evicted.items.len > 0) {
                    const oldest = model.evicted.items[0];
                    if (model.now_ns - model.revoked_ns[oldest] < second) break;
                    model.references[oldest].clearRetainingCapacity();
                    model.leave(oldest);
                    model.state[oldest] = .revoked;
                }
                model.pool.expire(model.now_ns);
            },
            // The kernel has a page, once in a while.
            else => pages_left = @intFromBool(random.uintLessThan(u32, 500) == 0),
        }
    }

    fn evict(model: *Model, connection: u16) !void {
        model.pool.revoke(connection, model.now_ns);
        if (model.state[connection] != .live) return;
        model.state[connection] = .quarantined;
        model.revoked_ns[connection] = model.now_ns;
        try model.evicted.append(gpa, connection);
    }

    fn leave(model: *Model, connection: u16) void {
        for (model.evicted.items, 0..) |each, i| if (each == connection) {
            _ = model.evicted.orderedRemove(i);
            return;
        };
    }

    /// Dead items take no more part; live ones move to the front.
    fn compact(model: *Model) !void {
        var moved: std.AutoHashMapUnmanaged(u32, u32) = .empty;
        defer moved.deinit(gpa);
        std.mem.sort(u32, model.live.items, {}, std.sort.asc(u32));
        for (model.live.items, 0..) |old, new| {
            try moved.put(gpa, old, @intCast(new));
            const item = model.items.items[old];
            model.items.items[new] = item;
            @memset(model.owner[item.offset..][0..item.units], @intCast(new + 1));
        }
        model.items.shrinkRetainingCapacity(model.live.items.len);
        for (model.live.items, 0..) |*index, new| index.* = @intCast(new);
        for (&model.references) |*list| for (list.items) |*reference| {
            reference.item = moved.get(reference.item).?;
        };
    }
};

test "1,000,000 random operations: the pool frees what the model frees, when it does, and nothing else" {
    const seeds = [_]u64{ 1, 2, 3, 4 };
    const steps = 250_000;
    for (seeds) |seed| {
        const memory = try map(Model.memory_size);
        defer unmap(memory);
        pages_left = 2;
        var pool: Pool = try .initWithPages(memory, Model.connections, scarcePages);
        defer pool.deinit();
        pool.blocks.generation = std.math.maxInt(u32) - 1000;
        var model: Model = try .init(&pool);
        defer model.deinit();
        var scratch: std.ArrayList(Model.Count) = .empty;
        defer scratch.deinit(gpa);
        var prng = std.Random.DefaultPrng.init(seed);
        for (0..steps) |i| {
            errdefer std.debug.print("seed {d}, step {d}\n", .{ seed, i });
            if (i % 4096 == 0) model.is_slow = !model.is_slow;
            try model.step(prng.random());
            try model.settle(&scratch);
            if (i % 256 == 0) try model.compare();
            if (model.items.items.len > 2000) try model.compact();
        }
        for (0..Model.connections) |connection| {
            pool.forget(@intCast(connection));
            model.references[connection].clearRetainingCapacity();
            model.state[connection] = .live;
        }
        model.evicted.clearRetainingCapacity();
        for (model.live.items) |index| {
            const item = &model.items.items[index];
            while (item.retained > 0) : (item.retained -= 1) pool.release(item.block);
        }
        try model.settle(&scratch);
        try model.compare();
        try testing.expectEqual(0, pool.usedBytes());
        try testing.expectEqual(Model.memory_size, pool.blocks.sizeMax());
        inline for (@typeInfo(Model.Seen).@"struct".field_names) |name| {
            errdefer std.debug.print("seed {d}: {s} {d}\n", .{ seed, name, @field(model.seen, name) });
            try testing.expect(@field(model.seen, name) > 20);
        }
    }
}
