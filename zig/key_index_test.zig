//! key_index_test.zig: the index against a plain model, at its limits, and without memory.

const std = @import("std");
const key_index = @import("key_index.zig");
const span = @import("span.zig");
const Key = key_index.Key;
const Kind = key_index.Kind;
const KeyIndex = key_index.KeyIndex;
const testing = std.testing;

const Members = std.StaticBitSet(key_index.consumer_count_max);

fn keyOf(number: u64) Key {
    var key: Key = @splat(0xa5);
    std.mem.writeInt(u64, key[24..32], number, .little);
    return key;
}

/// Memory that is refused now and then, or from some moment on.
const Refusing = struct {
    random: std.Random,
    one_in: u32 = 0,
    refused: u64 = 0,
    /// Reservations and commits that are still granted.
    granted: u64 = std.math.maxInt(u64),
    reserved: usize = 0,

    fn pages(refusing: *Refusing) span.Pages {
        return .{ .context = refusing, .reserve = reserve, .commit = commit, .decommit = decommit, .release = release };
    }

    fn isRefused(refusing: *Refusing) bool {
        const by_chance = refusing.one_in > 0 and refusing.random.uintLessThan(u32, refusing.one_in) == 0;
        if (refusing.granted > 0 and !by_chance) {
            refusing.granted -= 1;
            return false;
        }
        refusing.refused += 1;
        return true;
    }

    fn of(context: ?*anyopaque) *Refusing {
        return @ptrCast(@alignCast(context.?));
    }

    const system: span.Pages = .{};

    fn reserve(context: ?*anyopaque, size: usize) usize {
        if (of(context).isRefused()) return 0;
        const address = system.reserve(null, size);
        if (address != 0) of(context).reserved += size;
        return address;
    }

    fn commit(context: ?*anyopaque, address: usize, size: usize) bool {
        return !of(context).isRefused() and system.commit(null, address, size);
    }

    fn decommit(context: ?*anyopaque, address: usize, size: usize) bool {
        return !of(context).isRefused() and system.decommit(null, address, size);
    }

    fn release(context: ?*anyopaque, address: usize, size: usize) void {
        of(context).reserved -= size;
        system.release(null, address, size);
    }
};

const Model = struct {
    const Map = std.AutoHashMap(Key, Members);

    maps: [2]Map,
    counts: [key_index.consumer_count_max]u32 = @splat(0),
    /// Most keys of each.
    bounds: [key_index.consumer_count_max]u32 = @splat(0),

    fn init() Model {
        return .{ .maps = .{ Map.init(testing.allocator), Map.init(testing.allocator) } };
    }

    fn deinit(model: *Model) void {
        for (&model.maps) |*map| map.deinit();
    }

    fn of(model: *Model, kind: Kind, key: Key) Members {
        return model.maps[@backingInt(kind)].get(key) orelse Members.empty;
    }

    fn set(model: *Model, kind: Kind, key: Key, consumer: u16, wanted: bool) !bool {
        const map = &model.maps[@backingInt(kind)];
        var members = model.of(kind, key);
        if (members.isSet(consumer) == wanted) return false;
        members.setValue(consumer, wanted);
        if (members.count() == 0) _ = map.remove(key) else try map.put(key, members);
        if (wanted) model.counts[consumer] += 1 else model.counts[consumer] -= 1;
        return true;
    }

    fn forget(model: *Model, consumer: u16) !void {
        for (&model.maps) |*map| {
            var gone: std.ArrayList(Key) = .empty;
            defer gone.deinit(testing.allocator);
            var entries = map.iterator();
            while (entries.next()) |entry| {
                entry.value_ptr.unset(consumer);
                if (entry.value_ptr.count() == 0) try gone.append(testing.allocator, entry.key_ptr.*);
            }
            for (gone.items) |key| _ = map.remove(key);
        }
        model.counts[consumer] = 0;
    }
};

fn expectMembers(expected: Members, found: []const u16) !void {
    try testing.expectEqual(expected.count(), found.len);
    for (found, 0..) |consumer, i| {
        if (i > 0) try testing.expect(found[i - 1] < consumer);
        try testing.expect(expected.isSet(consumer));
    }
}

const Run = struct {
    seed: u64,
    steps: u32,
    /// The size of the key space grows to this and shrinks again, some times in a run.
    keys: u32,
    consumers: u16,
    refuse_one_in: u32 = 0,
    /// Now and then somebody may have up to so many keys from there on; 0: never.
    bounds_max: u32 = 0,
    options: key_index.Options,
};

fn runModel(run: Run) !void {
    var prng: std.Random.DefaultPrng = .init(run.seed);
    const random = prng.random();
    var refusing: Refusing = .{ .random = random };
    var options = run.options;
    options.seed = .{ random.int(u64), random.int(u64) };
    options.pages = refusing.pages();
    const index = try KeyIndex.create(options);
    refusing.one_in = run.refuse_one_in;
    var model = Model.init();
    defer model.deinit();
    const scratch = try testing.allocator.alloc(u32, 2 * (options.sets_max + 16));
    defer testing.allocator.free(scratch);
    var without_memory: u64 = 0;
    errdefer std.debug.print("seed {d}\n", .{run.seed});

    for (0..run.steps) |step| {
        errdefer std.debug.print("step {d}\n", .{step});
        // Mostly adding for a while, then mostly removing.
        const phase = step * 6 / run.steps;
        const is_growing = phase % 2 == 0;
        const kind: Kind = if (random.boolean()) .account else .owner;
        const consumer = spread(random.uintLessThan(u16, run.consumers));
        const key = keyOf(random.uintLessThan(u64, run.keys));
        const what = random.uintLessThan(u32, 1000);
        if (what < 5) {
            if (index.isLive(consumer)) {
                if (what < 2) {
                    index.dismiss(consumer);
                    try model.forget(consumer);
                    try testing.expect(!index.isLive(consumer));
                }
            } else if (index.isFree(consumer)) {
                try index.admit(consumer);
                model.bounds[consumer] = options.keys_per_consumer_max;
            } else {
                try testing.expectError(error.StillLeaving, index.admit(consumer));
            }
        } else if (what < 10 and run.bounds_max > 0) {
            // Also below what it has: that stays, and can be removed.
            if (!index.isLive(consumer)) continue;
            model.bounds[consumer] = random.uintAtMost(u32, run.bounds_max);
            index.bound(consumer, model.bounds[consumer], options.sets_per_consumer_max);
        } else if (what < 60) {
            _ = index.sweep(random.uintLessThan(u32, 20_000));
        } else if (what < 100) {
            try lookMany(index, &model, random, run.keys);
        } else if (what < 110) {
            try addMany(index, &model, random, run.keys, kind, consumer, &without_memory);
        } else if (what < 300) {
            var out: [key_index.consumer_count_max]u16 = undefined;
            const other = keyOf(random.uintLessThan(u64, run.keys));
            const expected = model.of(.account, key).unionWith(model.of(.owner, other));
            try expectMembers(expected, index.unionOf(index.lookup(.account, &key), index.lookup(.owner, &other), &out));
            const pair = index.lookupPair(&key, &other);
            try testing.expectEqual([2]key_index.SetId{ index.lookup(.account, &key), index.lookup(.owner, &other) }, pair);
        } else if (random.uintLessThan(u32, 10) < @as(u32, if (is_growing) 7 else 2)) {
            const added = index.add(kind, &key, consumer) catch |err| {
                try expectRefusal(index, &model, err, kind, key, consumer);
                without_memory += @intFromBool(err == error.OutOfMemory);
                continue;
            };
            try testing.expect(!added or model.counts[consumer] < model.bounds[consumer]);
            try testing.expectEqual(try model.set(kind, key, consumer, true), added);
        } else {
            const removed = index.remove(kind, &key, consumer) catch |err| {
                if (err != error.NotAdmitted) try testing.expect(model.of(kind, key).isSet(consumer));
                try testing.expectEqual(index.isLive(consumer), err != error.NotAdmitted);
                without_memory += @intFromBool(err == error.OutOfMemory);
                continue;
            };
            try testing.expectEqual(try model.set(kind, key, consumer, false), removed);
        }
        if (step % (run.steps / 20) == 0) {
            try index.check(scratch);
            try compare(index, &model);
        }
    }
    try compare(index, &model);
    if (run.refuse_one_in > 0) try testing.expect(without_memory > 0);

    for (0..run.consumers) |number| index.dismiss(spread(@intCast(number)));
    var rounds: u32 = 0;
    while (!index.sweep(10_000)) rounds += 1;
    try testing.expect(rounds < 100_000);
    try index.check(scratch);
    try testing.expectEqual(0, index.keyCount(.account) + index.keyCount(.owner));
    try testing.expectEqual(0, index.sets.set_count);
    for (0..key_index.consumer_count_max) |number| try testing.expect(index.isFree(@intCast(number)));
    index.destroy();
    try testing.expectEqual(0, refusing.reserved);
}

/// Numbers far apart, the largest among them.
fn spread(number: u16) u16 {
    return key_index.consumer_count_max - 1 - number * 37 % key_index.consumer_count_max;
}

fn expectRefusal(index: *KeyIndex, model: *Model, err: key_index.AddError, kind: Kind, key: Key, consumer: u16) !void {
    switch (err) {
        error.NotAdmitted => try testing.expect(!index.isLive(consumer)),
        error.ConsumerKeysFull => try testing.expect(model.counts[consumer] >= model.bounds[consumer]),
        error.KeysFull => try testing.expect(model.of(kind, key).count() == 0 and index.keyCount(kind) == index.options.keys_max),
        error.SetsFull, error.SetBytesFull, error.ConsumerSetsFull => try testing.expect(!model.of(kind, key).isSet(consumer)),
        error.OutOfMemory => {},
    }
}

fn lookMany(index: *KeyIndex, model: *Model, random: std.Random, key_count: u32) !void {
    const max = 3 * key_index.batch_max + 1;
    var keys: [max]Key = undefined;
    var pointers: [max]*const Key = undefined;
    var found: [max]key_index.SetId = undefined;
    var out: [key_index.consumer_count_max]u16 = undefined;
    const count = random.uintAtMost(usize, max);
    for (keys[0..count], pointers[0..count]) |*key, *pointer| {
        key.* = keyOf(random.uintLessThan(u64, 2 * key_count));
        pointer.* = key;
    }
    const kind: Kind = if (random.boolean()) .account else .owner;
    index.lookupBatch(kind, pointers[0..count], &found);
    for (keys[0..count], found[0..count]) |key, id| {
        try testing.expectEqual(index.lookup(kind, &key), id);
        try expectMembers(model.of(kind, key), index.unionOf(id, key_index.empty, &out));
        try expectMembers(model.of(kind, key), index.unionOf(key_index.empty, id, &out));
    }
}

fn addMany(
    index: *KeyIndex,
    model: *Model,
    random: std.Random,
    key_count: u32,
    kind: Kind,
    consumer: u16,
    without_memory: *u64,
) !void {
    var keys: [key_index.batch_max]Key = undefined;
    var pointers: [key_index.batch_max]*const Key = undefined;
    const count = random.uintAtMost(usize, key_index.batch_max);
    for (keys[0..count], pointers[0..count]) |*key, *pointer| {
        key.* = keyOf(random.uintLessThan(u64, key_count));
        pointer.* = key;
    }
    const added = index.addBatch(kind, pointers[0..count], consumer) catch |err| {
        try testing.expectEqual(index.isLive(consumer), err != error.NotAdmitted);
        without_memory.* += @intFromBool(err == error.OutOfMemory);
        return;
    };
    for (keys[0..count], 0..) |key, i| {
        try testing.expectEqual(try model.set(kind, key, consumer, true), added >> @intCast(i) & 1 == 1);
    }
    try testing.expect(added == 0 or model.counts[consumer] <= model.bounds[consumer]);
}

fn compare(index: *KeyIndex, model: *Model) !void {
    var out: [key_index.consumer_count_max]u16 = undefined;
    for ([_]Kind{ .account, .owner }) |kind| {
        const map = &model.maps[@backingInt(kind)];
        var entries = map.iterator();
        while (entries.next()) |entry| {
            try expectMembers(entry.value_ptr.*, index.unionOf(index.lookup(kind, entry.key_ptr), key_index.empty, &out));
        }
        if (index.leaving_count == 0) try testing.expectEqual(map.count(), index.keyCount(kind));
    }
    for (0..key_index.consumer_count_max) |consumer| {
        try testing.expectEqual(model.counts[consumer], index.keyCountOf(@intCast(consumer)));
    }
}

const is_debug = @import("builtin").mode == .debug;

test "KeyIndex: a million random edits, lookups and departures against a model" {
    // A few keys of many consumers, many keys of a few, and many of both.
    const steps: u32 = if (is_debug) 100_000 else 400_000;
    try runModel(.{ .seed = 1, .steps = steps, .keys = 50, .consumers = 200, .options = .{ .seed = undefined } });
    try runModel(.{ .seed = 2, .steps = steps, .keys = 40_000, .consumers = 3, .options = .{ .seed = undefined } });
    try runModel(.{ .seed = 3, .steps = steps, .keys = 3_000, .consumers = 20, .options = .{ .seed = undefined } });
}

test "KeyIndex: the same at its limits" {
    const steps: u32 = if (is_debug) 50_000 else 200_000;
    try runModel(.{ .seed = 4, .steps = steps, .keys = 3_000, .consumers = 20, .bounds_max = 500, .options = .{
        .seed = undefined,
        .keys_max = 1_000,
        .keys_per_consumer_max = 500,
        .sets_max = 300,
        .sets_per_consumer_max = 40,
        .set_bytes_max = 1 << 20,
    } });
    try runModel(.{ .seed = 5, .steps = steps, .keys = 300, .consumers = 200, .options = .{
        .seed = undefined,
        .set_bytes_max = 32 * 4096,
    } });
}

test "KeyIndex: the same with memory that is refused now and then" {
    const steps: u32 = if (is_debug) 50_000 else 200_000;
    for (0..4) |i| {
        const few = i % 2 == 0;
        try runModel(.{
            .seed = 10 + i,
            .steps = steps,
            .keys = if (few) 400 else 40_000,
            .consumers = if (few) 200 else 8,
            .refuse_one_in = 2,
            .options = .{ .seed = undefined },
        });
    }
}

test "KeyIndex.create(): every refusal of memory is an error that leaves nothing behind" {
    var prng: std.Random.DefaultPrng = .init(1);
    for (0..64) |granted| {
        var refusing: Refusing = .{ .random = prng.random(), .granted = granted };
        const index = KeyIndex.create(.{ .seed = .{ 1, 2 }, .pages = refusing.pages() }) catch |err| {
            try testing.expectEqual(error.OutOfMemory, err);
            try testing.expectEqual(0, refusing.reserved);
            continue;
        };
        index.destroy();
        try testing.expectEqual(0, refusing.reserved);
        try testing.expect(granted > 15);
        return;
    }
    return error.NeverCreated;
}

test "KeyIndex.create(), admit(): nonsense is refused" {
    try testing.expectError(error.BadArgument, KeyIndex.create(.{ .seed = .{ 1, 2 }, .keys_max = 0 }));
    try testing.expectError(error.BadArgument, KeyIndex.create(.{ .seed = .{ 1, 2 }, .keys_max = std.math.maxInt(u32) }));
    try testing.expectError(error.BadArgument, KeyIndex.create(.{ .seed = .{ 1, 2 }, .sets_max = 0 }));
    try testing.expectError(error.BadArgument, KeyIndex.create(.{ .seed = .{ 1, 2 }, .set_bytes_max = std.math.maxInt(u32) }));
    const index = try KeyIndex.create(.{ .seed = .{ 1, 2 } });
    defer index.destroy();
    try testing.expectError(error.BadArgument, index.admit(key_index.consumer_count_max));
    try index.admit(5);
    try testing.expectError(error.BadArgument, index.admit(5));
    try testing.expectError(error.NotAdmitted, index.add(.owner, &keyOf(1), 6));
    try testing.expectError(error.NotAdmitted, index.add(.owner, &keyOf(1), std.math.maxInt(u16)));
    try testing.expectError(error.NotAdmitted, index.remove(.owner, &keyOf(1), 6));
    index.dismiss(std.math.maxInt(u16));
    try testing.expect(!index.isFree(std.math.maxInt(u16)));
}

test "KeyIndex: all sets distinct: refused with a reason, per consumer and in all; nothing else suffers" {
    const index = try KeyIndex.create(.{ .seed = .{ 1, 2 }, .sets_max = 10_000, .sets_per_consumer_max = 2_000 });
    defer index.destroy();
    const consumers = 24;
    for (0..consumers) |consumer| try index.admit(@intCast(consumer));
    // Key k is wanted by those whose bit is set in a number that no other key has.
    var refused: struct { consumer: u64 = 0, all: u64 = 0 } = .{};
    for (0..60_000) |k| {
        const bits = (k + 1) *% 0x9e3779b1 % (1 << consumers);
        for (0..consumers) |consumer| {
            if (bits >> @intCast(consumer) & 1 == 0) continue;
            _ = index.add(.account, &keyOf(k), @intCast(consumer)) catch |err| switch (err) {
                error.ConsumerSetsFull => refused.consumer += 1,
                error.SetsFull => refused.all += 1,
                else => return err,
            };
        }
    }
    try testing.expect(refused.consumer > 0 and refused.all > 0);
    try testing.expect(index.sets.set_count <= 10_000);
    // A set that is there already can still be had, and the departure of all needs no memory.
    try index.admit(consumers);
    try testing.expectError(error.SetsFull, index.add(.owner, &keyOf(1), consumers));
    for (0..consumers) |consumer| index.dismiss(@intCast(consumer));
    var steps: u32 = 0;
    while (!index.sweep(100_000)) steps += 1;
    try testing.expect(steps > 1);
    try testing.expectEqual(0, index.keyCount(.account));
    try testing.expect(try index.add(.owner, &keyOf(1), consumers));
}

test "KeyIndex.bound(): fewer keys and sets from here on; what there is stays, and no other's is less" {
    const index = try KeyIndex.create(.{ .seed = .{ 1, 2 }, .keys_per_consumer_max = 10, .sets_per_consumer_max = 10 });
    defer index.destroy();
    for (1..4) |number| try index.admit(@intCast(number));
    for (0..4) |k| _ = try index.add(.account, &keyOf(k), 1);
    index.bound(1, 2, 10);
    try testing.expectError(error.ConsumerKeysFull, index.add(.account, &keyOf(4), 1));
    try testing.expect(!try index.add(.account, &keyOf(0), 1));
    try testing.expectEqual(4, index.keyCountOf(1));
    for (0..9) |k| try testing.expect(try index.add(.owner, &keyOf(k), 2));
    index.bound(1, 100, 10); // what holds for all holds on
    for (4..10) |k| try testing.expect(try index.add(.account, &keyOf(k), 1));
    try testing.expectError(error.ConsumerKeysFull, index.add(.account, &keyOf(10), 1));

    try testing.expectEqual(1, index.setsMadeBy(1));
    index.bound(3, 10, 1);
    try testing.expect(try index.add(.account, &keyOf(0), 3)); // makes the set of 1 and 3
    try testing.expect(try index.add(.account, &keyOf(1), 3));
    try testing.expectError(error.ConsumerSetsFull, index.add(.owner, &keyOf(0), 3));
    try testing.expectEqual(1, index.setsMadeBy(3));
    index.dismiss(3);
    while (!index.sweep(10_000)) {}
    try index.admit(3); // anew, with all that it may have
    try testing.expect(try index.add(.owner, &keyOf(0), 3));
    try testing.expect(try index.add(.account, &keyOf(0), 3));
}

test "KeyIndex.removeSome(): who leaves matches nothing at once; the number comes back when all is swept" {
    const index = try KeyIndex.create(.{ .seed = .{ 1, 2 } });
    defer index.destroy();
    const count: u32 = if (is_debug) 50_000 else 500_000;
    try index.admit(1);
    try index.admit(2);
    for (0..count) |k| {
        try testing.expect(try index.add(.account, &keyOf(k), 1));
        if (k % 2 == 0) try testing.expect(try index.add(.account, &keyOf(k), 2));
    }
    var out: [key_index.consumer_count_max]u16 = undefined;
    var steps: u32 = 1;
    var k: u64 = 0;
    while (!index.removeSome(1, 10_000)) : (steps += 1) {
        try testing.expectEqual(0, index.keyCountOf(1));
        for (0..4) |_| {
            const both = index.unionOf(index.lookup(.account, &keyOf(k)), key_index.empty, &out);
            try testing.expectEqualSlices(u16, if (k % 2 == 0) &.{2} else &.{}, both);
            k = (k + 7919) % count;
        }
        // Edits go on meanwhile, of old keys and of new ones.
        try testing.expect(try index.add(.account, &keyOf(count + steps), 2));
        try testing.expect(try index.add(.owner, &keyOf(steps), 2));
    }
    try testing.expect(steps > 100);
    try testing.expect(index.isFree(1));
    try testing.expectEqual(count / 2 + steps - 1, index.keyCount(.account));
    try testing.expectEqual(1, index.sets.set_count);
    var scratch: [64]u32 = undefined;
    try index.check(&scratch);
    try index.admit(1);
    try testing.expectEqual(key_index.empty, index.lookup(.account, &keyOf(1)));
}

test "KeyIndex.sweep(): keys that go while a sweep is in the middle of them are not looked at again" {
    const index = try KeyIndex.create(.{ .seed = .{ 1, 2 } });
    defer index.destroy();
    const count = 4_000;
    for (1..4) |consumer| try index.admit(@intCast(consumer));
    for (0..count) |k| {
        _ = try index.add(.account, &keyOf(k), 1);
        if (k % 2 == 0) _ = try index.add(.account, &keyOf(k), 2);
        _ = try index.add(.account, &keyOf(count + k), 2);
        _ = try index.add(.account, &keyOf(2 * count + k), 3);
    }
    // The sets {1} and {1, 2} lead elsewhere; the cursor is at the last key.
    index.dismiss(1);
    while (index.sweep_phase != .accounts) _ = index.sweep(1);
    try testing.expect(index.sweep_cursor > 3 * count / 2);
    for (0..count) |k| {
        if (k % 2 == 0) try testing.expect(try index.remove(.account, &keyOf(k), 2));
        try testing.expect(try index.remove(.account, &keyOf(count + k), 2));
        if (k % 2 == 1) try testing.expect(try index.remove(.account, &keyOf(2 * count + k), 3));
    }
    var scratch: [64]u32 = undefined;
    try index.check(&scratch);
    while (!index.sweep(100)) {}
    try index.check(&scratch);
    try testing.expectEqual(count / 2, index.keyCount(.account));
    try testing.expectEqual(1, index.sets.set_count);
}

test "KeyIndex: at most 64 bytes a key at every size, what the sets of 1,024 consumers take included" {
    const index = try KeyIndex.create(.{ .seed = .{ 1, 2 } });
    defer index.destroy();
    for (0..1024) |consumer| try index.admit(@intCast(consumer));
    const count: u32 = if (is_debug) 100_000 else 1_000_000;
    var worst: usize = 0;
    for (0..count) |k| {
        _ = try index.add(.account, &keyOf(k), @intCast(k % 1024));
        const len = k + 1;
        // Below, the pages at the end of each part are what counts.
        if (len < 50_000 or len % 100 != 0) continue;
        worst = @max(worst, residentSize(index) / len);
    }
    try testing.expect(worst <= 64);
}

/// What is in use, in whole pages.
fn residentSize(index: *const KeyIndex) usize {
    const keys = &index.tables[0];
    const page = 4096;
    var size: usize = 6 * page + @sizeOf(KeyIndex) + index.sets.used_page_count * 4096 + index.sets.id_count * 36;
    size += keys.len * (@sizeOf(Key) + @sizeOf(u32));
    size += keys.segment_count * @as(usize, 32 * (64 + 128) + 6);
    size += @as(usize, 4) << @intCast(64 - @as(u32, keys.shift));
    return size;
}
