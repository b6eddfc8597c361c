//! engine_test.zig: the fan-out with real rings, consumers read in the same process.

const std = @import("std");
const layout = @import("layout.zig");
const handles = @import("handles.zig");
const connection = @import("connection.zig");
const region = @import("region.zig");
const ring = @import("ring.zig");
const Engine = @import("engine.zig").Engine;
const testing = std.testing;

const capacity = 65536;
const reserved = 16384;
const Key = [layout.address_size]u8;

fn key(n: u32) Key {
    var bytes: Key = @splat(0);
    std.mem.writeInt(u32, bytes[0..4], n, .little);
    return bytes;
}

const Account = extern struct { header: layout.FrameHeader, body: layout.AccountBody };
const Transaction = extern struct { header: layout.FrameHeader, body: layout.TransactionBody };
const Slot = extern struct { header: layout.FrameHeader, body: layout.SlotBody };

const Scene = struct {
    engine: *Engine,
    consumers: [4]Reader = undefined,
    count: usize = 0,

    const Reader = struct { id: u16, producer: u32, end: connection.ConsumerEnd };

    const pool_bytes = 1 << 20;
    const threshold = 2000;
    const keys_per_consumer_max = 5_000;

    fn init() !Scene {
        return .{ .engine = try Engine.create(.{
            .seed = .{ 1, 2 },
            .keys_max = 10_000,
            .keys_per_consumer_max = keys_per_consumer_max,
            .pool_bytes = pool_bytes,
            .pool_threshold = threshold,
            .tracked_max = 1000,
            .guard = .drop,
        }) };
    }

    fn deinit(scene: *Scene) void {
        scene.engine.destroy();
        for (scene.consumers[0..scene.count]) |*consumer| {
            _ = handles.close(consumer.producer);
            consumer.end.destroy();
        }
    }

    fn connect(scene: *Scene, policy: layout.Policy) !*Reader {
        return scene.connectWith(policy, policy, 1 << 20);
    }

    fn connectWith(scene: *Scene, policy: layout.Policy, transactions: layout.Policy, backlog_bytes: u32) !*Reader {
        const reader = &scene.consumers[scene.count];
        var passed: [2]i32 = undefined;
        var producer: connection.ProducerEnd = undefined;
        try testing.expectEqual(0, connection.ProducerEnd.create(.{
            .capacity_bytes = capacity,
            .reserved_bytes = reserved,
            .sender_id = @splat(1),
            .connection_id = 1,
        }, &passed, &producer));
        try testing.expectEqual(0, connection.ConsumerEnd.join(passed[0], passed[1], .{ .fd = scene.engine.poolDescriptor(), .size = pool_bytes }, capacity, region.uid_any, &reader.end));
        reader.producer = handles.add(.{ .producer = producer }).?;
        const id = scene.engine.add(reader.producer, .{
            .policy = policy,
            .transaction_policy = transactions,
            .statuses = 1,
            .backlog_bytes = backlog_bytes,
            .pool_bytes = pool_bytes / 4,
            .seed = @splat(5),
        });
        try testing.expect(id >= 0);
        reader.id = @intCast(id);
        scene.count += 1;
        return reader;
    }

    fn subscribe(scene: *Scene, reader: *Reader, accounts: []const Key, owners: []const Key) !void {
        try testing.expectEqual(0, scene.edit(reader, .add, 0, accounts, owners));
    }

    fn edit(scene: *Scene, reader: *Reader, op: layout.FilterOp, bit: u6, accounts: []const Key, owners: []const Key) i32 {
        return scene.engine.edit(reader.id, &.{
            .op = op,
            .bit = bit,
            .takes_transactions = false,
            .is_last = true,
            .accounts = accounts,
            .owners = owners,
            .program = &.{},
        });
    }

    fn account(scene: *Scene, pubkey: u32, owner: u32, slot: u64, data: []const u8) i32 {
        var head = std.mem.zeroes(Account);
        head.header.kind = @backingInt(layout.FrameKind.account);
        head.body.pubkey = key(pubkey);
        head.body.owner = key(owner);
        head.body.slot = slot;
        head.body.data_length = @intCast(data.len);
        return scene.engine.publish(std.mem.asBytes(&head), data, false);
    }

    fn slotFrame(scene: *Scene, number: u64, status: u32) i32 {
        var head = std.mem.zeroes(Slot);
        head.header.kind = @backingInt(layout.FrameKind.slot);
        head.body.slot = number;
        head.body.status = status;
        return scene.engine.publish(std.mem.asBytes(&head), "", false);
    }

    const Seen = struct { kind: layout.FrameKind, sequence: u64, mask: u64, lost: u32, conflated: u32, slot: u64, first_byte: u8, accounts_lost: u64 };

    /// The next frame, released at once; null if there is none.
    fn read(scene: *Scene, reader: *Reader) !?Seen {
        var records: [1]layout.PollRecord = undefined;
        if (try reader.end.ring.poll(&records) == 0) {
            // It may have skipped all there was, and so have made room.
            _ = scene.engine.flush(reader.id);
            scene.engine.commit();
            if (try reader.end.ring.poll(&records) == 0) return null;
        }
        const record = records[0];
        const data = reader.end.ring.data;
        const header: *const layout.FrameHeader = @ptrCast(@alignCast(data + record.frame_offset));
        const body = data + record.frame_offset + @sizeOf(layout.FrameHeader);
        var seen: Seen = .{
            .kind = @fromBackingInt(@intCast(record.kind)),
            .sequence = header.sequence,
            .mask = header.filter_mask,
            .lost = record.lost,
            .conflated = header.conflated,
            .slot = 0,
            .first_byte = if (record.payload_length > 0) data[record.payload_offset] else 0,
            .accounts_lost = 0,
        };
        switch (seen.kind) {
            .account => seen.slot = @as(*const layout.AccountBody, @ptrCast(@alignCast(body))).slot,
            .slot => {
                const slot: *const layout.SlotBody = @ptrCast(@alignCast(body));
                seen.slot = slot.slot;
                seen.accounts_lost = slot.accounts_lost;
            },
            else => {},
        }
        try reader.end.ring.release(record.ring_bytes);
        _ = scene.engine.flush(reader.id);
        scene.engine.commit();
        return seen;
    }

    fn expectSequence(scene: *Scene, reader: *Reader, sequence: ?u64) !void {
        const seen = try scene.read(reader);
        try testing.expectEqual(sequence, if (seen) |frame| frame.sequence else null);
    }
};

test "updates reach who asked for the account or its owner, once each; slots reach everybody" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const one = try scene.connect(.disconnect);
    const two = try scene.connect(.disconnect);
    try scene.subscribe(one, &.{key(1)}, &.{key(100)});
    try scene.subscribe(two, &.{ key(2), key(1) }, &.{});
    try testing.expectEqual(2, scene.account(1, 100, 5, "a")); // key and owner of one: still one frame
    try testing.expectEqual(1, scene.account(3, 100, 5, "b"));
    try testing.expectEqual(1, scene.account(2, 7, 5, "c"));
    try testing.expectEqual(0, scene.account(4, 7, 5, "d"));
    try testing.expectEqual(2, scene.slotFrame(5, 0));
    try testing.expectEqual(0, scene.slotFrame(5, 1)); // a status that nobody asked for
    for ([_]?u64{ 1, 2, 5, null }) |sequence| try scene.expectSequence(one, sequence);
    for ([_]?u64{ 1, 3, 5, null }) |sequence| try scene.expectSequence(two, sequence);
}

test "named filters: the mask says which matched; remove, replace and drop are in force at once" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.disconnect);
    try scene.subscribe(reader, &.{ key(1), key(2) }, &.{});
    try testing.expectEqual(0, scene.edit(reader, .replace, 5, &.{}, &.{key(100)}));
    _ = scene.account(1, 100, 1, "a");
    _ = scene.account(1, 101, 1, "a");
    try testing.expectEqual(1 | 1 << 5, (try scene.read(reader)).?.mask);
    try testing.expectEqual(1, (try scene.read(reader)).?.mask);
    try testing.expectEqual(0, scene.edit(reader, .remove, 0, &.{key(1)}, &.{}));
    try testing.expectEqual(1, scene.account(1, 100, 1, "a"));
    try testing.expectEqual(1 << 5, (try scene.read(reader)).?.mask);
    try testing.expectEqual(0, scene.edit(reader, .replace, 5, &.{key(9)}, &.{}));
    try testing.expectEqual(0, scene.account(1, 100, 1, "a"));
    try testing.expectEqual(1, scene.account(9, 100, 1, "a"));
    try testing.expectEqual(0, scene.edit(reader, .drop, 5, &.{}, &.{}));
    try testing.expectEqual(0, scene.account(9, 100, 1, "a"));
    try testing.expectEqual(1, scene.account(2, 100, 1, "a"));
}

test "a filter in several messages is in force with the last; of a refused or dropped one nothing is left" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.disconnect);
    const too_many = try testing.allocator.alloc(Key, Scene.keys_per_consumer_max + 1);
    defer testing.allocator.free(too_many);
    for (too_many, 0..) |*each, i| each.* = key(@intCast(1000 + i));
    const start: Engine.Edit = .{
        .op = .replace,
        .bit = 5,
        .takes_transactions = false,
        .is_last = false,
        .accounts = &.{key(9)},
        .owners = &.{},
        .program = &.{},
    };
    try testing.expectEqual(0, scene.edit(reader, .replace, 5, &.{key(1)}, &.{}));

    try testing.expectEqual(0, scene.engine.edit(reader.id, &start));
    try testing.expectEqual(0, scene.account(9, 100, 1, "a"));
    try testing.expectEqual(0, scene.edit(reader, .add, 5, &.{key(8)}, &.{}));
    try testing.expectEqual(1, scene.account(9, 100, 1, "a"));
    try testing.expectEqual(1, scene.account(8, 100, 1, "a"));
    try testing.expectEqual(0, scene.account(1, 100, 1, "a"));

    var second = start;
    second.accounts = &.{key(7)};
    try testing.expectEqual(0, scene.engine.edit(reader.id, &second));
    try testing.expect(scene.edit(reader, .add, 5, too_many, &.{}) < 0);
    try testing.expectEqual(0, scene.edit(reader, .add, 5, &.{key(6)}, &.{}));
    try testing.expectEqual(0, scene.account(7, 100, 1, "a"));
    try testing.expectEqual(1, scene.account(6, 100, 1, "a"));
    try testing.expectEqual(1, scene.account(9, 100, 1, "a"));

    try testing.expectEqual(0, scene.engine.edit(reader.id, &second));
    try testing.expectEqual(0, scene.edit(reader, .drop, 5, &.{}, &.{}));
    try testing.expectEqual(0, scene.edit(reader, .add, 5, &.{key(5)}, &.{}));
    try testing.expectEqual(0, scene.account(7, 100, 1, "a"));
    try testing.expectEqual(0, scene.account(9, 100, 1, "a"));
    try testing.expectEqual(1, scene.account(5, 100, 1, "a"));
}

test "disconnect: a full ring ends the connection, and everything before it can be read" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.disconnect);
    try scene.subscribe(reader, &.{key(1)}, &.{});
    const data: [1000]u8 = @splat(1);
    var published: u64 = 0;
    while (scene.account(1, 1, 1, &data) == 1) published += 1;
    const event = scene.engine.nextEvent().?;
    try testing.expectEqual(reader.id, event.id);
    try testing.expectEqual(.slow_consumer, event.reason);
    try testing.expectEqual(null, scene.engine.nextEvent());
    try testing.expectEqual(0, scene.account(1, 1, 1, "x"));
    var read: u64 = 0;
    while (try scene.read(reader)) |_| read += 1;
    try testing.expectEqual(published, read);
}

test "drop-newest: what does not fit is lost, counted, and said by the next frame and the slot's" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.drop_newest);
    try scene.subscribe(reader, &.{key(1)}, &.{});
    const data: [1000]u8 = @splat(1);
    var taken: u64 = 0;
    for (0..100) |_| taken += @intCast(scene.account(1, 1, 7, &data));
    try testing.expect(taken < 100);
    try testing.expectEqual(1, scene.slotFrame(7, 0)); // reserved room
    for (0..@intCast(taken)) |_| try testing.expectEqual(0, (try scene.read(reader)).?.lost);
    const slot = (try scene.read(reader)).?;
    try testing.expectEqual(.slot, slot.kind);
    try testing.expectEqual(100 - taken, slot.lost);
    try testing.expectEqual(100 - taken, slot.accounts_lost);
    try testing.expectEqual(1, scene.account(1, 1, 7, &data));
    try testing.expectEqual(0, (try scene.read(reader)).?.lost);
}

test "drop-oldest: a consumer that comes back gets the newest, and knows what it missed" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connectWith(.drop_oldest, .drop_oldest, 20 * 1024);
    try scene.subscribe(reader, &.{key(1)}, &.{});
    const data: [1000]u8 = @splat(1);
    for (0..200) |_| _ = scene.account(1, 1, 7, &data);
    var total: u64 = 0;
    var last: u64 = 0;
    var first: u64 = 0;
    while (try scene.read(reader)) |frame| {
        if (first == 0) first = frame.sequence;
        total += 1 + frame.lost;
        last = frame.sequence;
    }
    try testing.expectEqual(200, last);
    try testing.expectEqual(200, total);
    try testing.expect(first > 180);
}

test "conflate: the newest of each account comes, in the order of its last write; slots keep their place behind it" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connectWith(.conflate, .drop_newest, 1 << 20);
    try scene.subscribe(reader, &.{ key(1), key(2), key(3) }, &.{});
    const data: [1000]u8 = @splat(1);
    while (true) {
        _ = scene.account(1, 1, 7, &data);
        var out: layout.FanoutConsumerInfo = undefined;
        _ = scene.engine.consumerInfo(reader.id, &out);
        if (out.waiting_frames > 0) break;
    }
    const filled = scene.engine.sequence;
    for (0..10) |_| {
        _ = scene.account(1, 1, 8, &data);
        _ = scene.account(2, 1, 8, &data);
    }
    _ = scene.account(3, 1, 8, &data);
    _ = scene.slotFrame(8, 0);
    var total: u64 = 0;
    for (1..filled) |sequence| {
        try scene.expectSequence(reader, sequence);
        total += 1;
    }
    // Of account 1 the newest of eleven, of account 2 the newest of ten.
    const expected = [_]struct { u64, u32 }{ .{ filled + 19, 10 }, .{ filled + 20, 9 }, .{ filled + 21, 0 }, .{ filled + 22, 0 } };
    var conflated: u64 = 0;
    for (expected) |frame| {
        const seen = (try scene.read(reader)).?;
        try testing.expectEqual(frame[0], seen.sequence);
        total += 1 + seen.lost;
        conflated += seen.conflated;
        if (seen.kind == .slot) try testing.expectEqual(18, seen.accounts_lost);
    }
    try testing.expectEqual(filled + 22, total);
    try testing.expectEqual(19, conflated);
    try testing.expectEqual(null, try scene.read(reader));
}

test "block: nothing is published while a blocking consumer has no room, and it says so" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const slow = try scene.connect(.block);
    const quick = try scene.connect(.disconnect);
    try scene.subscribe(slow, &.{key(1)}, &.{});
    try scene.subscribe(quick, &.{key(1)}, &.{});
    const data: [1000]u8 = @splat(1);
    var published: u64 = 0;
    while (scene.account(1, 1, 1, &data) == 2) {
        published += 1;
        _ = try scene.read(quick);
    }
    try testing.expectEqual(published, scene.engine.sequence);
    try testing.expectEqual(null, try scene.read(quick));
    try testing.expectEqual(1, slow.end.ring.header.space_epoch.load(.monotonic) % 2);
    slow.end.ring.is_awaited = true;
    var records: [1]layout.PollRecord = undefined;
    try testing.expectEqual(1, try slow.end.ring.poll(&records));
    try slow.end.ring.release(records[0].ring_bytes);
    try testing.expect(slow.end.ring.shouldNotify());
    try testing.expect(scene.engine.flush(slow.id));
    try testing.expectEqual(2, scene.account(1, 1, 1, &data));
    // What it does not want does not wait for it.
    try testing.expectEqual(0, scene.account(2, 1, 1, &data));
}

test "publishMany: the same as one by one, and one commit" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.disconnect);
    try scene.subscribe(reader, &.{ key(1), key(3) }, &.{});
    var buffer: [200 * (8 + @sizeOf(Account) + 8)]u8 align(8) = undefined;
    var at: usize = 0;
    for (0..150) |i| {
        var head = std.mem.zeroes(Account);
        head.header.kind = @backingInt(layout.FrameKind.account);
        head.body.pubkey = key(@intCast(i % 5));
        head.body.data_length = 3;
        std.mem.writeInt(u32, buffer[at..][0..4], @sizeOf(Account), .little);
        std.mem.writeInt(u32, buffer[at + 4 ..][0..4], 3, .little);
        @memcpy(buffer[at + 8 ..][0..@sizeOf(Account)], std.mem.asBytes(&head));
        at += 8 + @sizeOf(Account) + 8;
    }
    var done: usize = 0;
    try testing.expectEqual(60, scene.engine.publishMany(buffer[0..at], &done));
    try testing.expectEqual(at, done);
    var records: [1]layout.PollRecord = undefined;
    try testing.expectEqual(0, try reader.end.ring.poll(&records));
    scene.engine.commit();
    var seen: u64 = 0;
    while (try scene.read(reader)) |frame| {
        seen += 1;
        try testing.expect(frame.sequence % 5 == 2 or frame.sequence % 5 == 4);
    }
    try testing.expectEqual(60, seen);
}

test "a consumer that leaves gets nothing more, and its number is given again" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const one = try scene.connect(.disconnect);
    try scene.subscribe(one, &.{key(1)}, &.{});
    const id = one.id;
    scene.engine.remove(id, true);
    try testing.expectEqual(0, scene.account(1, 1, 1, "x"));
    const two = try scene.connect(.disconnect);
    try testing.expectEqual(id, two.id);
    try testing.expectEqual(0, scene.account(1, 1, 1, "x"));
    try scene.subscribe(two, &.{key(1)}, &.{});
    try testing.expectEqual(1, scene.account(1, 1, 1, "x"));
}

fn poll(reader: *Scene.Reader) !layout.PollRecord {
    var records: [1]layout.PollRecord = undefined;
    try testing.expectEqual(1, try reader.end.ring.poll(&records));
    return records[0];
}

test "large payloads are written once, into the pool, and freed when the last consumer has given them back" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const one = try scene.connect(.disconnect);
    const two = try scene.connect(.disconnect);
    for ([_]*Scene.Reader{ one, two }) |reader| try scene.subscribe(reader, &.{key(1)}, &.{});
    var data: [100_000]u8 = undefined;
    for (&data, 0..) |*byte, i| byte.* = @truncate(i * 7);
    // Larger than the ring: only the pool makes it possible.
    try testing.expectEqual(2, scene.account(1, 1, 1, &data));
    const pool = &scene.engine.pool.?;
    const used = pool.usedBytes();
    try testing.expect(used >= data.len and used < 2 * data.len);
    for ([_]*Scene.Reader{ one, two }) |reader| {
        const record = try poll(reader);
        try testing.expectEqual(data.len, record.payload_length);
        try testing.expectEqualSlices(u8, &data, reader.end.ring.data[record.payload_offset..][0..data.len]);
        try testing.expect(!reader.end.ring.isRevoked());
        try reader.end.ring.release(record.ring_bytes);
    }
    try testing.expectEqual(used, pool.usedBytes());
    _ = scene.engine.sweep();
    try testing.expectEqual(0, pool.usedBytes());
    // Nobody wants it: it is not written at all, or given back at once.
    try testing.expectEqual(0, scene.account(2, 1, 1, &data));
    try testing.expectEqual(0, pool.usedBytes());
}

test "a consumer that lags pins blocks up to its limit, and no others pay for it" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const slow = try scene.connect(.drop_newest);
    const quick = try scene.connect(.disconnect);
    for ([_]*Scene.Reader{ slow, quick }) |reader| try scene.subscribe(reader, &.{key(1)}, &.{});
    const data: [50_000]u8 = @splat(3);
    var both: u32 = 0;
    for (0..100) |_| {
        const reached = scene.account(1, 1, 1, &data);
        try testing.expect(reached >= 1);
        if (reached == 2) both += 1;
        try testing.expect(try scene.read(quick) != null);
    }
    try testing.expectEqual(5, both); // a quarter of 1 MiB
    try testing.expectEqual(null, scene.engine.nextEvent());
}

test "an evicted consumer's blocks are kept for a while; it can tell that they may be reused" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const slow = try scene.connect(.disconnect);
    try scene.subscribe(slow, &.{key(1)}, &.{});
    const data: [50_000]u8 = @splat(3);
    _ = scene.account(1, 1, 1, &data);
    _ = try poll(slow);
    const pool = &scene.engine.pool.?;
    const used = pool.usedBytes();
    scene.engine.remove(slow.id, false);
    try testing.expectEqual(used, pool.usedBytes());
    try testing.expect(!slow.end.ring.isRevoked());
    try testing.expect(!scene.engine.sweep());
    try testing.expect(!slow.end.ring.isRevoked());
    pool.expire(std.math.maxInt(u64)); // its time is over
    try testing.expect(slow.end.ring.isRevoked());
    try testing.expectEqual(0, pool.usedBytes());
    try testing.expect(scene.engine.sweep());
}

test "evicted consumers' blocks are an eighth of the pool at most: who loses the first of them is told" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const slow = try scene.connect(.disconnect);
    try scene.subscribe(slow, &.{key(1)}, &.{});
    const data: [50_000]u8 = @splat(3);
    for (0..3) |_| _ = scene.account(1, 1, 1, &data);
    _ = try poll(slow);
    const pool = &scene.engine.pool.?;
    scene.engine.remove(slow.id, false);
    try testing.expect(pool.usedBytes() > 0);
    try testing.expect(slow.end.ring.isRevoked());
    scene.engine.remove(slow.id, true); // its process is gone
    try testing.expectEqual(0, pool.usedBytes());
    try testing.expect(scene.engine.sweep());
}

test "a pooled frame that points out of the pool is refused" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.disconnect);
    try scene.subscribe(reader, &.{key(1)}, &.{});
    const data: [50_000]u8 = @splat(3);
    _ = scene.account(1, 1, 1, &data);
    const producer = &scene.engine.consumers[reader.id].producer.native.ring;
    const header: *layout.FrameHeader = @ptrCast(producer.data);
    header.pool_block = Scene.pool_bytes / layout.pool_unit - 1;
    var records: [1]layout.PollRecord = undefined;
    try testing.expectError(error.PeerCorrupt, reader.end.ring.poll(&records));
}

/// A program with one condition that needs no payload, or with slices.
fn program(kind: layout.FilterKind, opcode: layout.FilterOpcode, argument: u16, comptime payload: []const u8) [16 + payload.len]u8 {
    var bytes: [16 + payload.len]u8 = undefined;
    std.mem.writeInt(u16, bytes[0..2], @backingInt(kind), .little);
    std.mem.writeInt(u16, bytes[2..4], 1, .little);
    std.mem.writeInt(u32, bytes[4..8], bytes.len, .little);
    std.mem.writeInt(u16, bytes[8..10], @backingInt(opcode), .little);
    std.mem.writeInt(u16, bytes[10..12], argument, .little);
    std.mem.writeInt(u32, bytes[12..16], payload.len, .little);
    @memcpy(bytes[16..], payload);
    return bytes;
}

fn setFilter(scene: *Scene, reader: *Scene.Reader, bit: u6, accounts: []const Key, owners: []const Key, bytes: []const u8) !void {
    try testing.expectEqual(0, scene.engine.edit(reader.id, &.{
        .op = .replace,
        .bit = bit,
        .takes_transactions = false,
        .is_last = true,
        .accounts = accounts,
        .owners = owners,
        .program = bytes,
    }));
}

test "onlyChanged: a write that changes nothing is counted and not sent" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.disconnect);
    try setFilter(&scene, reader, 3, &.{key(1)}, &.{}, &program(.accounts, .changed, 0, ""));
    try testing.expectEqual(1, scene.account(1, 1, 1, "same"));
    try testing.expectEqual(0, scene.account(1, 1, 2, "same"));
    try testing.expectEqual(1, scene.account(1, 1, 3, "other"));
    try testing.expectEqual(1, scene.account(1, 2, 4, "other"));
    try testing.expectEqual(1, scene.engine.counts.unchanged);
}

test "slices: only they travel, the frame says so; filters that differ get the whole" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.disconnect);
    const slice = program(.accounts, .slices, 2, "\x01\x00\x00\x00\x02\x00\x00\x00\x05\x00\x00\x00\x09\x00\x00\x00");
    try setFilter(&scene, reader, 1, &.{key(1)}, &.{}, &slice);
    try testing.expectEqual(1, scene.account(1, 1, 1, "abcdefgh"));
    const record = try poll(reader);
    const data = reader.end.ring.data;
    try testing.expectEqualStrings("bcfgh", data[record.payload_offset..][0..record.payload_length]);
    try testing.expectEqual(layout.frame_flag_sliced | layout.frame_flag_clipped, record.flags);
    const body: *const layout.AccountBody = @ptrCast(@alignCast(data + record.frame_offset + @sizeOf(layout.FrameHeader)));
    try testing.expectEqual(8, body.full_length);
    try scene.subscribe(reader, &.{key(1)}, &.{});
    try testing.expectEqual(1, scene.account(1, 1, 1, "abcdefgh"));
    const whole = try poll(reader);
    try testing.expectEqualStrings("abcdefgh", data[whole.payload_offset..][0..whole.payload_length]);
    try testing.expectEqual(0, whole.flags);
}

test "an account that stops matching leaves the filter, once" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.disconnect);
    try scene.subscribe(reader, &.{}, &.{key(100)});
    try testing.expectEqual(1, scene.account(1, 100, 1, "a"));
    try testing.expectEqual(0, scene.account(1, 200, 2, "a"));
    try testing.expectEqual(0, scene.account(1, 200, 3, "a"));
    try testing.expectEqual(1, scene.account(1, 100, 4, "a"));
    for ([_]layout.FrameKind{ .account, .left, .account }) |kind| {
        const seen = (try scene.read(reader)).?;
        try testing.expectEqual(kind, seen.kind);
        try testing.expectEqual(0, seen.lost);
        try testing.expectEqual(1, seen.mask);
    }
    try testing.expectEqual(null, try scene.read(reader));
    // A filter that is gone has nobody to tell.
    try testing.expectEqual(0, scene.edit(reader, .drop, 0, &.{}, &.{}));
    try testing.expectEqual(0, scene.account(1, 200, 5, "a"));
    try testing.expectEqual(null, try scene.read(reader));
}

test "more filters match an account than are remembered of it: none that still matches is said to have been left" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.disconnect);
    try testing.expectEqual(0, scene.edit(reader, .add, 0, &.{}, &.{key(200)}));
    for (1..9) |bit| try testing.expectEqual(0, scene.edit(reader, .add, @intCast(bit), &.{}, &.{ key(100), key(200) }));
    try testing.expectEqual(1, scene.account(1, 100, 1, "a"));
    try testing.expectEqual(1, scene.account(1, 200, 2, "a"));
    for ([_]u64{ 0b1_1111_1110, 0b1_1111_1111 }) |mask| {
        const seen = (try scene.read(reader)).?;
        try testing.expectEqual(.account, seen.kind);
        try testing.expectEqual(mask, seen.mask);
    }
    try testing.expectEqual(null, try scene.read(reader));
}

test "a goodbye says how much waited and never came" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const slow = try scene.connectWith(.conflate, .conflate, 1 << 20);
    try scene.subscribe(slow, &.{}, &.{key(9)});
    const large: [1900]u8 = @splat(1);
    var published: u32 = 0;
    while (published < 500) : (published += 1) _ = scene.account(published, 9, 7, &large);
    try testing.expect(!scene.engine.consumers[slow.id].backlog.isEmpty());
    var goodbye = std.mem.zeroes(extern struct { header: layout.FrameHeader, body: layout.GoodbyeBody });
    goodbye.header.kind = @backingInt(layout.FrameKind.goodbye);
    try testing.expectEqual(0, scene.engine.mark(slow.id, std.mem.asBytes(&goodbye)));
    try testing.expect(scene.engine.consumers[slow.id].backlog.isEmpty());
    var records: [256]layout.PollRecord = undefined;
    var came: u32 = 0;
    var lost: u32 = 0;
    while (true) {
        const count = try slow.end.ring.poll(&records);
        if (count == 0) break;
        for (records[0..count]) |record| {
            lost += record.lost;
            if (record.kind == @backingInt(layout.FrameKind.account)) came += 1;
            try slow.end.ring.release(record.ring_bytes);
        }
    }
    try testing.expect(came > 0 and lost > 0);
    try testing.expectEqual(published, came + lost);
}

test "guard: an older version after a newer one is counted and not published" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.disconnect);
    try scene.subscribe(reader, &.{key(1)}, &.{});
    try testing.expectEqual(1, scene.account(1, 1, 5, "a"));
    try testing.expectEqual(0, scene.account(1, 1, 4, "b"));
    try testing.expectEqual(1, scene.account(1, 1, 5, "c"));
    try testing.expectEqual(1, scene.engine.counts.stale);
    try testing.expectEqual(2, scene.engine.sequence);
}

/// A filter of all accounts, of whose data four bytes travel.
const four_bytes = extern struct {
    program: layout.FilterProgram = .{
        .kind = @backingInt(layout.FilterKind.accounts),
        .condition_count = 1,
        .length = @sizeOf(layout.FilterProgram) + @sizeOf(layout.FilterCondition) + @sizeOf(layout.FilterRange),
    },
    condition: layout.FilterCondition = .{
        .opcode = @backingInt(layout.FilterOpcode.slices),
        .argument = 1,
        .length = @sizeOf(layout.FilterRange),
    },
    range: layout.FilterRange = .{ .offset = 0, .length = 4 },
};

fn takeFourBytes(scene: *Scene, reader: *Scene.Reader) !void {
    try testing.expectEqual(0, scene.engine.edit(reader.id, &.{
        .op = .replace,
        .bit = 0,
        .takes_transactions = true,
        .is_last = true,
        .accounts = &.{},
        .owners = &.{},
        .program = std.mem.asBytes(&four_bytes{}),
    }));
}

fn transaction(scene: *Scene) i32 {
    var head = std.mem.zeroes(Transaction);
    head.header.kind = @backingInt(layout.FrameKind.transaction);
    return scene.engine.publish(std.mem.asBytes(&head), "", false);
}

test "a forged cursor is found while frames wait: one event, and nothing is read of the filter that went with it" {
    var scene: Scene = try .init();
    defer scene.deinit();
    for ([_]layout.Policy{ .conflate, .disconnect }) |transactions| {
        const hostile = try scene.connectWith(.conflate, transactions, 1 << 20);
        try takeFourBytes(&scene, hostile);
        // Slots of no data fill the ring to its end, so that they wait behind.
        while (scene.engine.consumers[hostile.id].backlog.isEmpty()) try testing.expect(scene.slotFrame(7, 0) >= 0);
        hostile.end.ring.page.consumer_cursor.store(1 << 40, .release);
        try testing.expectEqual(0, if (transactions == .conflate) scene.account(1, 2, 7, "abcdefgh") else transaction(&scene));
        const event = scene.engine.nextEvent().?;
        try testing.expectEqual(hostile.id, event.id);
        try testing.expectEqual(layout.EndReason.peer_corrupt, event.reason);
        try testing.expectEqual(null, scene.engine.nextEvent());
        scene.engine.remove(hostile.id, true);
    }
}

test "publishMany: what was looked up stays good while consumers leave" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const slow = [_]*Scene.Reader{ try scene.connect(.disconnect), try scene.connect(.disconnect) };
    const other = try scene.connect(.drop_newest);
    // Each key's set has all of them, and is replaced twice: the first slow one leaves at the second update, the second one
    // at the twelfth, and the numbers of sets that the first one has left are given again.
    var keys: [64]Key = undefined;
    for (&keys, 0..) |*one, i| one.* = key(@intCast(i));
    const data: [1856]u8 = @splat(1); // below the pool's threshold
    for (slow, 0..) |reader, i| {
        try scene.subscribe(reader, &keys, &.{});
        try scene.subscribe(reader, &.{key(@intCast(100 + i))}, &.{});
        for (0..24) |_| try testing.expectEqual(1, scene.account(@intCast(100 + i), 1, 7, data[0 .. data.len - 80 * i]));
    }
    for (0..8) |bit| try testing.expectEqual(0, scene.edit(other, .add, @intCast(bit), keys[8 * bit ..][0..8], &.{}));

    const Item = extern struct { item: Engine.Item, account: Account };
    var items: [64]Item = undefined;
    for (&items, 0..) |*item, i| {
        item.* = .{ .item = .{ .head_length = @sizeOf(Account), .tail_length = 0 }, .account = std.mem.zeroes(Account) };
        item.account.header.kind = @backingInt(layout.FrameKind.account);
        item.account.body.pubkey = keys[i];
    }
    var done: usize = 0;
    try testing.expect(scene.engine.publishMany(std.mem.sliceAsBytes(&items), &done) >= 64);
    scene.engine.commit();
    for (slow) |_| try testing.expectEqual(layout.EndReason.slow_consumer, scene.engine.nextEvent().?.reason);
    for (0..64) |i| try testing.expectEqual(@as(u64, 1) << @intCast(i / 8), (try scene.read(other)).?.mask);
    try testing.expectEqual(null, try scene.read(other));
}

test "a wake-up that did not bring enough room is followed by another one" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const slow = try scene.connectWith(.conflate, .conflate, 1 << 20);
    try scene.subscribe(slow, &.{ key(1), key(2) }, &.{});
    slow.end.ring.is_awaited = true;
    while (scene.engine.consumers[slow.id].backlog.isEmpty()) try testing.expect(scene.account(1, 9, 7, "small") >= 0);
    const large: [1900]u8 = @splat(1);
    try testing.expectEqual(0, scene.account(1, 9, 7, &large)); // in place of the small one: it needs more room
    var records: [1]layout.PollRecord = undefined;
    var told: usize = 0;
    while (!scene.engine.consumers[slow.id].backlog.isEmpty()) {
        try testing.expectEqual(1, try slow.end.ring.poll(&records));
        try slow.end.ring.release(records[0].ring_bytes);
        if (!slow.end.ring.shouldNotify()) continue;
        told += 1;
        _ = scene.engine.flushAwaited(slow.id);
    }
    try testing.expect(told > 1);
}

/// A filter of all accounts, but not of writes that change nothing.
const changes_only = extern struct {
    program: layout.FilterProgram = .{
        .kind = @backingInt(layout.FilterKind.accounts),
        .condition_count = 1,
        .length = @sizeOf(layout.FilterProgram) + @sizeOf(layout.FilterCondition),
    },
    condition: layout.FilterCondition = .{ .opcode = @backingInt(layout.FilterOpcode.changed), .argument = 0, .length = 0 },
};

fn takeChanges(scene: *Scene, reader: *Scene.Reader) !void {
    try testing.expectEqual(0, scene.engine.edit(reader.id, &.{
        .op = .replace,
        .bit = 0,
        .takes_transactions = false,
        .is_last = true,
        .accounts = &.{},
        .owners = &.{},
        .program = std.mem.asBytes(&changes_only{}),
    }));
}

test "onlyChanged: what was written while no filter asked counts as unknown" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.drop_newest);
    try takeChanges(&scene, reader);
    try testing.expectEqual(1, scene.account(1, 2, 7, "a"));
    try testing.expectEqual(0, scene.account(1, 2, 7, "a"));
    try testing.expectEqual(0, scene.edit(reader, .drop, 0, &.{}, &.{}));
    try testing.expectEqual(0, scene.account(1, 2, 7, "b"));
    try takeChanges(&scene, reader);
    try testing.expectEqual(1, scene.account(1, 2, 7, "a"));
    try testing.expectEqual(0, scene.account(1, 2, 7, "a"));
}

test "guard: an older version that is not published still shows the batch before it" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.drop_newest);
    try scene.subscribe(reader, &.{key(1)}, &.{});
    var head = std.mem.zeroes(Account);
    head.header.kind = @backingInt(layout.FrameKind.account);
    head.body.pubkey = key(1);
    head.body.slot = 7;
    try testing.expectEqual(1, scene.engine.publish(std.mem.asBytes(&head), "", true));
    try testing.expect(!reader.end.ring.hasMore());
    try testing.expectEqual(0, scene.account(1, 2, 6, ""));
    try testing.expect(reader.end.ring.hasMore());
}

test "block: what is asked is what would be offered: slices, and being told of an account that left" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const slow = try scene.connect(.block);
    try takeFourBytes(&scene, slow);
    const large: [60_000]u8 = @splat(1);
    var count: usize = 0;
    const code = while (count < 1000) : (count += 1) {
        const reached = scene.account(1, 2, 7, &large);
        if (reached != 1) break reached;
    } else return error.NeverFull;
    try testing.expectEqual(@backingInt(layout.Status.would_block), code);
    try testing.expectEqual(null, scene.engine.nextEvent());
    scene.engine.remove(slow.id, true);

    const left = try scene.connect(.block);
    try scene.subscribe(left, &.{key(5)}, &.{key(2)});
    try testing.expectEqual(1, scene.account(1, 2, 7, "")); // by its owner
    while (scene.account(5, 9, 7, "") == 1) {}
    try testing.expectEqual(@backingInt(layout.Status.would_block), scene.account(1, 3, 8, ""));
    try testing.expectEqual(null, scene.engine.nextEvent());
}

test "transactions by account: only those that name a key of the list" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.drop_newest);
    const all: layout.FilterProgram = .{
        .kind = @backingInt(layout.FilterKind.transactions),
        .condition_count = 0,
        .length = @sizeOf(layout.FilterProgram),
    };
    try testing.expectEqual(0, scene.engine.edit(reader.id, &.{
        .op = .replace,
        .bit = 3,
        .takes_transactions = false,
        .is_last = true,
        .accounts = &.{ key(1), key(2) },
        .owners = &.{},
        .program = std.mem.asBytes(&all),
    }));
    // Header, two keys, blockhash.
    const message = [_]u8{ 1, 0, 0, 2 } ++ key(1) ++ key(2) ++ key(0);
    const other = [_]u8{ 1, 0, 0, 2 } ++ key(3) ++ key(4) ++ key(0);
    for ([_][]const u8{ &message, &other, "" }, [_]i32{ 1, 0, 0 }) |bytes, expected| {
        var head = std.mem.zeroes(Transaction);
        head.header.kind = @backingInt(layout.FrameKind.transaction);
        head.body.message_length = @intCast(bytes.len);
        try testing.expectEqual(expected, scene.engine.publish(std.mem.asBytes(&head), bytes, false));
    }
    try testing.expectEqual(8, (try scene.read(reader)).?.mask);
    try testing.expectEqual(0, scene.account(1, 2, 7, "")); // the keys are for transactions
    try testing.expectEqual(0, scene.edit(reader, .remove, 3, &.{ key(1), key(2) }, &.{}));
    try testing.expectEqual(0, transaction(&scene));
}

test "a sweep shows what a thread has staged and left" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.disconnect);
    var head = std.mem.zeroes(Slot);
    head.header.kind = @backingInt(layout.FrameKind.slot);
    try testing.expectEqual(1, scene.engine.publish(std.mem.asBytes(&head), "", true));
    var records: [1]layout.PollRecord = undefined;
    try testing.expectEqual(0, try reader.end.ring.poll(&records));
    _ = scene.engine.sweep();
    try testing.expectEqual(1, try reader.end.ring.poll(&records));
}
