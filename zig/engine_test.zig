//! engine_test.zig: the fan-out with real rings, consumers read in the same process.

const std = @import("std");
const builtin = @import("builtin");
const layout = @import("layout.zig");
const handles = @import("handles.zig");
const connection = @import("connection.zig");
const region = @import("region.zig");
const ring = @import("ring.zig");
const snapshots = @import("snapshots.zig");
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

fn sum(counts: *const [layout.loss_reasons]f64) f64 {
    var total: f64 = 0;
    for (counts) |count| total += count;
    return total;
}

const Scene = struct {
    engine: *Engine,
    consumers: [4]Reader = undefined,
    count: usize = 0,

    const Reader = struct { id: u16, producer: u32, end: connection.ConsumerEnd };

    const pool_bytes = 1 << 20;
    const threshold = 2000;
    const keys_per_consumer_max = 5_000;

    fn init() !Scene {
        return .initWith(0);
    }

    fn initWith(state_bytes: usize) !Scene {
        return .initWithHistory(state_bytes, 0);
    }

    /// With a history the state keeps all accounts: nobody is there yet who asks for them.
    fn initWithHistory(state_bytes: usize, history_bytes: usize) !Scene {
        return .{ .engine = try Engine.create(.{
            .seed = .{ 1, 2 },
            .keys_max = 10_000,
            .keys_per_consumer_max = keys_per_consumer_max,
            .pool_bytes = pool_bytes,
            .pool_threshold = threshold,
            .tracked_max = 1000,
            .guard = .drop,
            .state_bytes = state_bytes,
            .state_keeps_all = history_bytes > 0,
            .history_bytes = history_bytes,
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
        return scene.resumeWith(policy, transactions, backlog_bytes, null);
    }

    fn resumeWith(scene: *Scene, policy: layout.Policy, transactions: layout.Policy, backlog_bytes: u32, after: ?u64) !*Reader {
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
        try testing.expectEqual(0, reader.end.prepareToSkip());
        reader.producer = handles.add(.{ .producer = producer }).?;
        const id = scene.engine.add(reader.producer, .{
            .policy = policy,
            .transaction_policy = transactions,
            .statuses = 1,
            .backlog_bytes = backlog_bytes,
            .pool_bytes = pool_bytes / 4,
            .seed = @splat(5),
            .resume_after = after,
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

    /// Goes on with all that waits for nothing but time, however little of it there was for each turn.
    fn pumpAll(scene: *Scene) void {
        scene.engine.pumpOn();
        while (scene.engine.has_work) scene.engine.pumpOn();
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

    fn accountIn(scene: *Scene, pubkey: u32, slot: u64, bank: u64) i32 {
        var head = std.mem.zeroes(Account);
        head.header.kind = @backingInt(layout.FrameKind.account);
        head.body.pubkey = key(pubkey);
        head.body.slot = slot;
        head.body.bank_id = bank;
        return scene.engine.publish(std.mem.asBytes(&head), "", false);
    }

    /// Updates that a consumer did not get, by reason; and all of them.
    fn lostBy(scene: *Scene, reader: *const Reader, reason: layout.LossReason) f64 {
        var info: layout.FanoutConsumerInfo = undefined;
        _ = scene.engine.consumerInfo(reader.id, &info);
        return info.lost_by[@backingInt(reason)];
    }

    fn lostInAll(scene: *Scene, reader: *const Reader) f64 {
        var info: layout.FanoutConsumerInfo = undefined;
        _ = scene.engine.consumerInfo(reader.id, &info);
        return sum(&info.lost_by);
    }

    fn bankDies(scene: *Scene, slot: u64, bank: u64) i32 {
        var head = std.mem.zeroes(Slot);
        head.header.kind = @backingInt(layout.FrameKind.slot);
        head.body.slot = slot;
        head.body.bank_id = bank;
        head.body.status = 6;
        return scene.engine.publish(std.mem.asBytes(&head), "", false);
    }

    fn slotFrame(scene: *Scene, number: u64, status: u32) i32 {
        var head = std.mem.zeroes(Slot);
        head.header.kind = @backingInt(layout.FrameKind.slot);
        head.body.slot = number;
        head.body.status = status;
        return scene.engine.publish(std.mem.asBytes(&head), "", false);
    }

    const Seen = struct { kind: layout.FrameKind, sequence: u64, flags: u16, mask: u64, lost: u32, conflated: u32, slot: u64, bank: u64, account: u32, first_byte: u8, accounts_lost: u64 };

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
            .flags = header.flags,
            .mask = header.filter_mask,
            .lost = record.lost,
            .conflated = header.conflated,
            .slot = 0,
            .bank = 0,
            .account = 0,
            .first_byte = if (record.payload_length > 0 and record.kind == @backingInt(layout.FrameKind.account)) data[record.payload_offset] else 0,
            .accounts_lost = 0,
        };
        switch (seen.kind) {
            .account => {
                const account_body: *const layout.AccountBody = @ptrCast(@alignCast(body));
                seen.slot = account_body.slot;
                seen.bank = account_body.bank_id;
                seen.account = std.mem.readInt(u32, account_body.pubkey[0..4], .little);
            },
            .withdrawn => {
                const gone: *const layout.LeftBody = @ptrCast(@alignCast(body));
                seen.account = std.mem.readInt(u32, gone.pubkey[0..4], .little);
            },
            .rollback => {
                const dead: *const layout.RollbackBody = @ptrCast(@alignCast(body));
                seen.bank = dead.bank_id;
            },
            .slot => {
                const slot: *const layout.SlotBody = @ptrCast(@alignCast(body));
                seen.slot = slot.slot;
                seen.accounts_lost = slot.accounts_lost + record.payload_length;
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

test "a loss has a reason: the ring, the share of the pool, the pool, the queue, or that it can never fit" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const small: [1000]u8 = @splat(1); // below the pool's threshold
    const large: [30_000]u8 = @splat(2);
    const huge: [300_000]u8 = @splat(3);
    const first = try scene.connect(.drop_newest);
    try scene.subscribe(first, &.{key(1)}, &.{});
    while (scene.account(1, 1, 7, &small) == 1) {}
    try testing.expectEqual(1, scene.lostBy(first, .ring_full));
    scene.engine.remove(first.id, true);

    const second = try scene.connect(.drop_newest);
    try scene.subscribe(second, &.{key(2)}, &.{});
    while (scene.account(2, 1, 7, &large) == 1) {}
    try testing.expectEqual(1, scene.lostBy(second, .pool_share));
    try testing.expectEqual(1, scene.lostInAll(second));

    const third = try scene.connect(.drop_newest);
    try scene.subscribe(third, &.{key(3)}, &.{});
    const giant: [Scene.pool_bytes + 1]u8 = @splat(4);
    _ = scene.account(3, 1, 7, &giant);
    try testing.expectEqual(1, scene.lostBy(third, .too_large));

    // Others hold the rest of the pool: what has no block there goes into the ring, and has no room there either.
    const pool = &scene.engine.pool.?;
    while (pool.alloc(16 * 1024)) |_| {}
    while (scene.account(3, 1, 7, &large) == 1) {}
    try testing.expectEqual(1, scene.lostBy(third, .pool_full));
    _ = scene.account(3, 1, 7, &huge); // would fit the pool alone
    try testing.expectEqual(2, scene.lostBy(third, .pool_full));
    try testing.expectEqual(3, scene.lostInAll(third));

    const fourth = try scene.connectWith(.conflate, .conflate, 4096);
    try scene.subscribe(fourth, &.{}, &.{key(9)});
    var published: u32 = 100;
    while (scene.lostInAll(fourth) == 0) : (published += 1) _ = scene.account(published, 9, 7, &small);
    try testing.expectEqual(1, scene.lostBy(fourth, .queue_full));
    for (0..4) |_| _ = scene.account(5000, 9, 7, &small);
    try testing.expectEqual(5, scene.lostBy(fourth, .queue_full));
    var all: layout.FanoutInfo = undefined;
    scene.engine.info(&all);
    try testing.expectEqual(10, sum(&all.lost_by));
}

test "drop-oldest: a consumer that comes back gets the newest, and knows what it missed" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connectWith(.drop_oldest, .drop_oldest, 20 * 1024);
    try scene.subscribe(reader, &.{ key(1), key(2) }, &.{});
    const data: [1000]u8 = @splat(1);
    for (0..200) |i| _ = if (i % 4 == 0) scene.account(2, 1, 8, &data) else scene.account(1, 1, 7, &data);
    _ = scene.slotFrame(7, 0);
    var total: u64 = 0;
    var last: u64 = 0;
    var first: u64 = 0;
    var came: u64 = 0;
    var came_of_slot: u64 = 0;
    while (try scene.read(reader)) |frame| {
        if (first == 0) first = frame.sequence;
        total += 1 + frame.lost;
        last = frame.sequence;
        if (frame.kind == .account) came += 1;
        if (frame.kind == .account and frame.slot == 7) came_of_slot += 1;
        // What was skipped in the ring, and what was lost at the sender while newer ones waited.
        if (frame.kind == .slot) try testing.expectEqual(150 - came_of_slot, frame.accounts_lost);
    }
    try testing.expectEqual(201, last);
    try testing.expectEqual(201, total);
    try testing.expect(first > 180);
    // The sender knows it as well, since the consumer has read on.
    try testing.expectEqual(200 - came, @as(u64, @intFromFloat(scene.lostInAll(reader))));
    const skipped = scene.lostBy(reader, .skipped);
    const queued = scene.lostBy(reader, .queue_full);
    try testing.expect(skipped > 0 and queued > 0);
    try testing.expectEqual(scene.lostInAll(reader), skipped + queued);
    var all: layout.FanoutInfo = undefined;
    scene.engine.info(&all);
    try testing.expectEqual(scene.lostInAll(reader), sum(&all.lost_by));
    scene.engine.remove(reader.id, true);
    scene.engine.info(&all);
    try testing.expectEqual(skipped, all.lost_by[@backingInt(layout.LossReason.skipped)]);
    try testing.expectEqual(queued, all.lost_by[@backingInt(layout.LossReason.queue_full)]);
}

test "a sender without memory for what would wait loses that and says why, and goes on once there is some" {
    if (builtin.os.tag != .linux) return error.SkipZigTest; // elsewhere the limit does not hold
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connectWith(.drop_oldest, .drop_oldest, 20 * 1024);
    try scene.subscribe(reader, &.{key(1)}, &.{});
    const data: [1000]u8 = @splat(1);
    const limits = try std.posix.getrlimit(.AS);
    try std.posix.setrlimit(.AS, .{ .cur = 0, .max = limits.max }); // no mapping more
    const published = for (0..100) |i| {
        if (scene.account(1, 1, 7, &data) < 0) break i;
    } else 100;
    try std.posix.setrlimit(.AS, limits);
    try testing.expectEqual(100, published);
    const lost = scene.lostBy(reader, .no_memory);
    try testing.expect(lost > 0);
    try testing.expectEqual(lost, scene.lostInAll(reader));
    for (0..100) |_| _ = scene.account(1, 1, 8, &data);
    try testing.expectEqual(lost, scene.lostBy(reader, .no_memory));
    try testing.expect(scene.lostBy(reader, .queue_full) > 0); // so that now some wait
    var total: u64 = 0;
    while (try scene.read(reader)) |frame| total += 1 + frame.lost;
    try testing.expectEqual(200, total);
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
    try testing.expectEqual(19, scene.lostBy(reader, .replaced));
    try testing.expectEqual(19, scene.lostInAll(reader));
    try testing.expectEqual(null, try scene.read(reader));
}

test "conflate: nothing is replaced across a rollback, so that each version comes once and a step back is announced" {
    var scene: Scene = try .initWith(8 << 20);
    defer scene.deinit();
    const reader = try scene.connect(.conflate);
    try scene.subscribe(reader, &.{ key(1), key(2) }, &.{});
    try testing.expectEqual(1, scene.accountIn(2, 8, 1));
    try testing.expectEqual(8, (try scene.read(reader)).?.slot);
    const data: [1000]u8 = @splat(1);
    while (scene.account(1, 1, 7, &data) == 1) {}
    _ = scene.accountIn(2, 10, 2);
    _ = scene.bankDies(10, 2);
    // Of another fork: newer than what holds, older than what was dead.
    _ = scene.accountIn(2, 9, 3);
    _ = scene.accountIn(2, 11, 4);
    const expected = [_]struct { layout.FrameKind, u64, u16 }{
        .{ .account, 10, 0 },
        .{ .rollback, 0, 0 },
        .{ .account, 8, layout.frame_flag_restored },
        .{ .account, 11, 0 },
    };
    var found: usize = 0;
    while (try scene.read(reader)) |seen| {
        if (seen.kind == .account and seen.slot == 7) continue;
        try testing.expect(found < expected.len);
        try testing.expectEqual(expected[found], .{ seen.kind, seen.slot, seen.flags });
        found += 1;
    }
    try testing.expectEqual(expected.len, found);
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
    _ = scene.engine.sweep(0);
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
    try testing.expect(!scene.engine.sweep(0));
    try testing.expect(!slow.end.ring.isRevoked());
    pool.expire(std.math.maxInt(u64)); // its time is over
    try testing.expect(slow.end.ring.isRevoked());
    try testing.expectEqual(0, pool.usedBytes());
    try testing.expect(scene.engine.sweep(0));
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
    try testing.expect(scene.engine.sweep(0));
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
    try testing.expectEqual(@as(f64, @floatFromInt(lost)), scene.lostBy(slow, .ended));
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

test "block: where others have filled the pool, payloads go into the ring, and wait for room there" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const slow = try scene.connect(.block);
    try scene.subscribe(slow, &.{key(1)}, &.{});
    const pool = &scene.engine.pool.?;
    while (pool.alloc(16 * 1024)) |_| {}
    const large: [16 * 1024]u8 = @splat(1);
    var count: usize = 0;
    const code = while (count < 1000) : (count += 1) {
        const reached = scene.account(1, 1, 7, &large);
        if (reached != 1) break reached;
    } else return error.NeverFull;
    try testing.expect(count > 0);
    try testing.expectEqual(@backingInt(layout.Status.would_block), code);
    try testing.expectEqual(0, scene.lostInAll(slow));
    while (try scene.read(slow)) |_| {}
    try testing.expect(scene.engine.flush(slow.id));
    try testing.expectEqual(1, scene.account(1, 1, 7, &large));
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
    _ = scene.engine.sweep(0);
    try testing.expectEqual(1, try reader.end.ring.poll(&records));
}

test "addresses that a transaction loads are keys as those of its message, wherever its parts travel" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.disconnect);
    // One filter is found by a key, one excludes another, each of which is loaded by some.
    const Wish = struct { bit: u6, accounts: []const Key, program: []const u8 };
    for ([_]Wish{
        .{ .bit = 1, .accounts = &.{key(5)}, .program = &program(.transactions, .required, 1, &comptime key(1)) },
        .{ .bit = 2, .accounts = &.{}, .program = &program(.transactions, .excluded, 1, &comptime key(6)) },
    }) |wish| try testing.expectEqual(0, scene.engine.edit(reader.id, &.{
        .op = .replace,
        .bit = wish.bit,
        .takes_transactions = false,
        .is_last = true,
        .accounts = wish.accounts,
        .owners = &.{},
        .program = wish.program,
    }));
    const message = [_]u8{ 1, 0, 0, 1 } ++ key(1) ++ key(0); // header, one key, blockhash: 68 bytes, and 4 of padding
    const padding: [4]u8 = @splat(0);
    const large: [Scene.threshold]u8 = @splat(9);
    const Case = struct { loaded: []const Key, writable: u16, meta: []const u8, mask: u64 };
    for ([_]Case{
        .{ .loaded = &.{}, .writable = 0, .meta = "", .mask = 4 },
        .{ .loaded = &.{key(5)}, .writable = 1, .meta = "", .mask = 6 },
        .{ .loaded = &.{ key(7), key(5) }, .writable = 1, .meta = "meta", .mask = 6 },
        .{ .loaded = &.{ key(5), key(6) }, .writable = 0, .meta = "meta", .mask = 2 },
        .{ .loaded = &.{ key(5), key(7) }, .writable = 2, .meta = &large, .mask = 6 }, // in the pool
    }) |case| {
        var head = std.mem.zeroes(Transaction);
        head.header.kind = @backingInt(layout.FrameKind.transaction);
        if (case.meta.len > 0) head.header.flags = layout.frame_flag_meta;
        head.body.message_length = message.len;
        head.body.meta_length = @intCast(case.meta.len);
        head.body.loaded_writable_count = case.writable;
        head.body.loaded_readonly_count = @intCast(case.loaded.len - case.writable);
        const is_alone = case.loaded.len == 0 and case.meta.len == 0;
        const tail = try std.mem.concat(testing.allocator, u8, &.{
            &message, if (is_alone) "" else &padding, std.mem.sliceAsBytes(case.loaded), case.meta,
        });
        defer testing.allocator.free(tail);
        try testing.expectEqual(1, scene.engine.publish(std.mem.asBytes(&head), tail, false));
        var records: [1]layout.PollRecord = undefined;
        try testing.expectEqual(1, try reader.end.ring.poll(&records));
        const record = records[0];
        const data = reader.end.ring.data;
        const header: *const layout.FrameHeader = @ptrCast(@alignCast(data + record.frame_offset));
        try testing.expectEqual(case.mask, header.filter_mask);
        try testing.expectEqual(tail.len >= Scene.threshold, header.pool_generation != 0);
        try testing.expectEqualSlices(u8, &message, data[record.payload_offset..][0..record.payload_length]);
        try testing.expectEqualSlices(u8, case.meta, data[record.extra_offset..][0..record.extra_length]);
        const loaded = data[record.extra_offset - 32 * case.loaded.len .. record.extra_offset];
        try testing.expectEqualSlices(u8, std.mem.sliceAsBytes(case.loaded), loaded);
        try reader.end.ring.release(record.ring_bytes);
        // No other length will do.
        for ([_]usize{ tail.len - 1, tail.len + 1 }) |length| {
            const other = try testing.allocator.alloc(u8, length);
            defer testing.allocator.free(other);
            @memset(other, 0);
            try testing.expect(scene.engine.publish(std.mem.asBytes(&head), other, false) < 0);
        }
        head.body.loaded_writable_count = layout.loaded_keys_max + 1;
        try testing.expect(scene.engine.publish(std.mem.asBytes(&head), tail, false) < 0);
    }
}

test "a refused addition to a filter leaves it as it was, keys that it named and had included" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.drop_newest);
    var keys: [Scene.keys_per_consumer_max + 100]Key = undefined;
    for (&keys, 0..) |*each, i| each.* = key(@intCast(1000 + i));
    // Every third of the first ones, so that each group of 64 has some that are there already.
    var before: [100]Key = undefined;
    for (&before, 0..) |*each, i| each.* = keys[3 * i];
    const owners = [_]Key{ key(1), key(2) };
    try scene.subscribe(reader, &before, &owners);
    // Too many accounts; too many owners, behind accounts that had room.
    for ([_][2][]const Key{ .{ &keys, &.{} }, .{ keys[0..1000], keys[1000..] }, .{ &.{}, &keys } }) |lists| {
        try testing.expectEqual(@backingInt(layout.Status.filter_keys_limit), scene.edit(reader, .add, 0, lists[0], lists[1]));
        var info: layout.FanoutConsumerInfo = undefined;
        try testing.expectEqual(0, scene.engine.consumerInfo(reader.id, &info));
        try testing.expectEqual(before.len, info.account_keys);
        try testing.expectEqual(owners.len, info.owner_keys);
        for (0..3 * before.len) |i| {
            const expected: i32 = if (i % 3 == 0) 1 else 0;
            try testing.expectEqual(expected, scene.account(@intCast(1000 + i), 9, 7, ""));
            while (try scene.read(reader)) |_| {}
        }
        try testing.expectEqual(1, scene.account(9, 2, 7, ""));
        try testing.expectEqual(0, scene.account(9, 1000, 7, ""));
        while (try scene.read(reader)) |_| {}
    }
}

fn editMark(scene: *Scene, reader: *Scene.Reader, generation: u32) i32 {
    var frame = std.mem.zeroes(extern struct { header: layout.FrameHeader, body: layout.FilterMarkBody });
    frame.header.kind = @backingInt(layout.FrameKind.filter);
    frame.body.generation = generation;
    return scene.engine.mark(reader.id, std.mem.asBytes(&frame));
}

fn isEnded(scene: *Scene) bool {
    return if (scene.engine.nextEvent()) |event| event.reason == .slow_consumer else false;
}

test "the mark of an edit that finds no room comes when there is some, before the first update after it; the newest is enough" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.drop_newest);
    try scene.subscribe(reader, &.{key(1)}, &.{});
    const full: i32 = @backingInt(layout.Status.full);
    var slots: u64 = 0;
    while (scene.slotFrame(7, 0) == 1) slots += 1;
    try testing.expectEqual(full, editMark(&scene, reader, 2));
    try testing.expectEqual(full, editMark(&scene, reader, 3));
    // By the ring alone, without the sender's event loop.
    var records: [2]layout.PollRecord = undefined;
    try testing.expectEqual(2, try reader.end.ring.poll(&records));
    try reader.end.ring.release(records[0].ring_bytes + records[1].ring_bytes);
    try testing.expectEqual(1, scene.slotFrame(8, 0));
    for (2..slots) |_| try testing.expectEqual(.slot, (try scene.read(reader)).?.kind);
    const mark = (try scene.read(reader)).?;
    try testing.expectEqual(.filter, mark.kind);
    try testing.expectEqual(slots + 1, mark.sequence);
    try testing.expectEqual(1, mark.lost);
    try testing.expectEqual(slots + 2, (try scene.read(reader)).?.sequence);
    try testing.expectEqual(null, try scene.read(reader));
}

test "behind frames that wait, the mark of an edit waits in its place; one that must make room is said again" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connectWith(.drop_oldest, .drop_oldest, 8 * 1024);
    try scene.subscribe(reader, &.{key(1)}, &.{});
    const data: [1000]u8 = @splat(1);
    while (scene.account(1, 1, 7, &data) == 1) {} // the last one waits
    try testing.expectEqual(0, editMark(&scene, reader, 5));
    for (0..3) |_| _ = scene.account(1, 1, 7, &data);
    var seen: [8]layout.FrameKind = undefined;
    var count: usize = 0;
    while (try scene.read(reader)) |frame| : (count += 1) seen[count] = frame.kind;
    try testing.expectEqualSlices(layout.FrameKind, &.{ .account, .filter, .account, .account, .account }, seen[0..count]);
    while (scene.account(1, 1, 7, &data) == 1) {}
    try testing.expectEqual(0, editMark(&scene, reader, 6));
    for (0..20) |_| _ = scene.account(1, 1, 7, &data); // the oldest of what waits goes, the mark with it
    var marks: usize = 0;
    while (try scene.read(reader)) |frame| marks += @intFromBool(frame.kind == .filter);
    _ = scene.engine.flushAwaited(reader.id);
    while (try scene.read(reader)) |frame| marks += @intFromBool(frame.kind == .filter);
    try testing.expectEqual(1, marks);
}

/// Sweeps, each of a second, until the consumer is ended; at most `limit`.
fn secondsUntilEnd(scene: *Scene, limit: u32) !u32 {
    for (0..limit) |seconds| {
        if (isEnded(scene)) return @intCast(seconds);
        _ = scene.engine.sweep(1000);
    }
    return limit;
}

test "who leaves no room for marks and gives nothing back is ended after the time that counts, and not before" {
    inline for (.{ .disconnect, .drop_newest, .drop_oldest, .conflate }) |policy| {
        var scene: Scene = try .init();
        defer scene.deinit();
        scene.engine.stall_ms = 10_000;
        const reader = try scene.connectWith(policy, policy, 1 << 20);
        const other = try scene.connect(.conflate);
        // To the last byte of the reserved room: what follows it is lost, or waits.
        for (0..capacity / 128) |_| try testing.expectEqual(2, scene.slotFrame(7, 0));
        if (policy != .disconnect) try testing.expectEqual(0, scene.slotFrame(7, 0));
        _ = editMark(&scene, reader, 1);
        while (try scene.read(other)) |_| {}
        _ = scene.engine.sweep(0xffffffff); // the time begins when it is first seen
        for (0..9) |_| _ = scene.engine.sweep(1000);
        for (0..100) |_| _ = scene.engine.sweep(0); // time in which we stood still
        try testing.expect(!isEnded(&scene));
        try testing.expectEqual(1, try secondsUntilEnd(&scene, 30));
        try testing.expectEqual(1, scene.engine.live_count);
        try testing.expectEqual(other.id, scene.engine.live[0]);
    }
}

test "a sign of life begins the time anew; room for what was due ends it" {
    var scene: Scene = try .init();
    defer scene.deinit();
    scene.engine.stall_ms = 10_000;
    const reader = try scene.connect(.conflate);
    for (0..capacity / 128 + 300) |_| _ = scene.slotFrame(7, 0);
    for (0..10) |_| _ = scene.engine.sweep(1000);
    var records: [1]layout.PollRecord = undefined;
    try testing.expectEqual(1, try reader.end.ring.poll(&records));
    try reader.end.ring.release(records[0].ring_bytes);
    try testing.expectEqual(11, try secondsUntilEnd(&scene, 30));

    const newest = try scene.connect(.drop_newest);
    for (0..capacity / 128 + 300) |_| _ = scene.slotFrame(7, 0);
    for (0..10) |_| _ = scene.engine.sweep(1000);
    try testing.expectEqual(1, try newest.end.ring.poll(&records));
    try newest.end.ring.release(records[0].ring_bytes);
    try testing.expectEqual(30, try secondsUntilEnd(&scene, 30)); // the gap is said
}

test "a refused addition says which limit it was" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.drop_newest);
    const most = Scene.keys_per_consumer_max;
    const keys = try testing.allocator.alloc(Key, 2 * most + 1);
    defer testing.allocator.free(keys);
    for (keys, 0..) |*each, i| each.* = key(@intCast(1000 + i));
    try testing.expectEqual(0, scene.edit(reader, .add, 0, keys[0..most], &.{}));
    try testing.expectEqual(@backingInt(layout.Status.filter_keys_limit), scene.edit(reader, .add, 0, &.{}, &.{key(1)}));
    try testing.expectEqual(0, scene.edit(reader, .add, 1, keys[most..][0..most], &.{}));
    try testing.expectEqual(@backingInt(layout.Status.keys_limit), scene.edit(reader, .add, 2, keys[2 * most ..], &.{}));
    try testing.expectEqual(0, scene.edit(reader, .add, 2, keys[0..1], keys[2 * most ..]));
}

test "catching up: a filter that is set anew between an update and word of what it left gets what that update wrote as state" {
    var found = false;
    // Whatever room is left when the update comes: somewhere there is enough for it, and not for the word behind it.
    for (0..40) |step| {
        var scene: Scene = try .initWithHistory(4 << 20, 1 << 20);
        defer scene.deinit();
        _ = scene.account(1, 7, 1, "a");
        const filler: [900]u8 = @splat(0);
        const size = 64 + 120 + filler.len + 4;
        const fillers = (capacity - reserved) / size;
        for (0..fillers - 1) |_| _ = scene.account(2, 0, 1, &filler);
        _ = scene.account(2, 0, 1, filler[0 .. 40 + step * 20]);
        _ = scene.account(1, 8, 2, "b"); // leaves the filter by owner
        const reader = try scene.resumeWith(.disconnect, .disconnect, 0, 0);
        try scene.subscribe(reader, &.{ key(1), key(2) }, &.{});
        try testing.expectEqual(0, scene.edit(reader, .replace, 1, &.{}, &.{key(7)}));
        try testing.expectEqual(0, scene.engine.startHeld(reader.id));
        scene.pumpAll();
        const is_between = scene.engine.consumers[reader.id].progress.is_offered;
        found = found or is_between;
        try testing.expectEqual(0, scene.engine.edit(reader.id, &.{
            .op = .replace,
            .bit = 1,
            .takes_transactions = false,
            .is_last = true,
            .accounts = &.{},
            .owners = &.{key(8)},
            .program = &.{},
            .wants_state = true,
        }));
        var matched: u32 = 0;
        for (0..500) |_| {
            const seen = try scene.read(reader) orelse {
                if (!scene.engine.consumers[reader.id].isBehind() and scene.engine.consumers[reader.id].snapshots.first == null) break;
                _ = scene.engine.flushAwaited(reader.id);
                scene.engine.pumpOn();
                continue;
            };
            // By the new filter: live in the replay if that was before it, else as state; never told to have left.
            if (seen.kind == .account and seen.first_byte == 'b' and seen.mask & 2 != 0) matched += 1;
            if (is_between and seen.kind == .left) return error.Left;
        }
        try testing.expectEqual(1, matched);
    }
    try testing.expect(found);
}

test "seed: another sender's frame is its word; what no order of ours reaches is refused" {
    const engine = try Engine.create(.{
        .seed = .{ 1, 2 },
        .keys_max = 1000,
        .keys_per_consumer_max = 1000,
        .pool_bytes = 0,
        .pool_threshold = 0,
        .tracked_max = 0,
        .guard = .off,
        .state_bytes = 1 << 24,
        .history_bytes = 1 << 20,
    });
    defer engine.destroy();
    var slot = std.mem.zeroes(Slot);
    slot.header.kind = @backingInt(layout.FrameKind.slot);
    for ([_]u64{ std.math.maxInt(u64), (1 << 53) + 1 }) |sequence| {
        slot.header.sequence = sequence;
        try testing.expectEqual(@backingInt(layout.Status.bad_argument), engine.seed(std.mem.asBytes(&slot), ""));
        try testing.expectEqual(@backingInt(layout.Status.bad_argument), engine.adopt(sequence, 0, 0));
    }
    slot.header.sequence = 1 << 53;
    try testing.expectEqual(0, engine.seed(std.mem.asBytes(&slot), ""));
    try testing.expectEqual(0, engine.adopt(1 << 53, 0, 0));
    // Slots of any number, final or dead, and parents that can't be.
    for ([_]u64{ 0, 1, std.math.maxInt(u64) - 1, std.math.maxInt(u64) }) |number| {
        for ([_]u64{ 0, number, std.math.maxInt(u64) }) |parent| for ([_]u32{ 0, 2, 6, 31 }) |status| {
            slot.body = .{ .slot = number, .parent = parent, .bank_id = number, .status = status, .pad_0 = 0, .accounts_published = 0, .transactions_published = 0, .accounts_lost = 0, .transactions_lost = 0 };
            try testing.expectEqual(0, engine.seed(std.mem.asBytes(&slot), ""));
        };
    }
    slot.body.status = 32;
    try testing.expectEqual(@backingInt(layout.Status.bad_argument), engine.seed(std.mem.asBytes(&slot), ""));
}

test "an account's head is as long as its flags say: longer ones are refused, not copied to where they don't fit" {
    var scene: Scene = try .initWith(1 << 24);
    defer scene.deinit();
    const Long = extern struct { account: Account, signature: [layout.signature_size]u8, more: [64]u8 };
    var head = std.mem.zeroes(Long);
    head.account.header.kind = @backingInt(layout.FrameKind.account);
    const bytes: []align(8) u8 = std.mem.asBytes(&head);
    const refused = @backingInt(layout.Status.bad_argument);
    try testing.expectEqual(refused, scene.engine.publish(bytes, "", false));
    try testing.expectEqual(refused, scene.engine.publish(@alignCast(bytes[0 .. @sizeOf(Account) + layout.signature_size]), "", false));
    head.account.header.flags = layout.frame_flag_signature;
    try testing.expectEqual(refused, scene.engine.publish(bytes, "", false));
    try testing.expectEqual(refused, scene.engine.publish(@alignCast(bytes[0..@sizeOf(Account)]), "", false));
    try testing.expectEqual(0, scene.engine.publish(@alignCast(bytes[0 .. @sizeOf(Account) + layout.signature_size]), "", false));
}

test "requests for state: who asks in many messages makes no step of the walk longer than it counts" {
    var scene: Scene = try .initWith(1 << 26);
    defer scene.deinit();
    const reader = try scene.connect(.disconnect);
    try scene.subscribe(reader, &.{}, &.{key(7)});
    for (0..2000) |n| {
        try testing.expectEqual(1, scene.account(@intCast(1000 + n), 7, 1, ""));
        _ = try scene.read(reader);
    }
    const requests = 200;
    for (0..requests) |i| try testing.expectEqual(0, scene.engine.edit(reader.id, &.{
        .op = .add,
        .bit = 0,
        .takes_transactions = false,
        .is_last = i + 1 == requests,
        .accounts = &.{},
        .owners = &.{key(@intCast(8 + i))},
        .program = &.{},
        .wants_state = true,
    }));
    const queue = &scene.engine.consumers[reader.id].snapshots;
    try testing.expectEqual(requests, queue.count);
    var budget: snapshots.Budget = .{ .deadline_ns = std.math.maxInt(u64) };
    const steps = budget.steps;
    snapshots.step(scene.engine, reader.id, &budget);
    try testing.expect(budget.is_over);
    try testing.expect(queue.place > 0 and queue.place <= steps / requests + 1);
}

/// Accounts, banks and their deaths at random, taken back one at a time.
const Forking = struct {
    const accounts = 40;
    const banks_max = 400;
    const Version = struct { slot: u64 = 0, bank: u64 = 0, mark: u8 = 0 };

    random: std.Random,
    scene: *Scene,
    banks: [banks_max]Version = undefined,
    is_dead: [banks_max + 1]bool = @splat(false),
    bank_count: usize = 0,
    /// By account and bank, the last write.
    marks: [accounts][banks_max + 1]u8 = @splat(@splat(0)),
    mark: u8 = 0,
    /// What each consumer has of each account, and of which banks it knows that they are dead.
    known: [2][accounts]Version = @splat(@splat(.{})),
    told: [2][banks_max + 1]bool = @splat(@splat(false)),

    fn bank(forking: *Forking) Version {
        if (forking.bank_count == 0 or forking.random.uintLessThan(u32, 16) == 0) {
            const number = forking.bank_count + 1;
            const newest = if (forking.bank_count == 0) 10 else forking.banks[forking.bank_count - 1].slot;
            forking.banks[forking.bank_count] = .{ .slot = newest + forking.random.uintLessThan(u64, 2), .bank = number };
            forking.bank_count += 1;
        }
        const back = forking.random.uintLessThan(usize, @min(forking.bank_count, 4));
        return forking.banks[forking.bank_count - 1 - back];
    }

    fn step(forking: *Forking) !void {
        const scene = forking.scene;
        const where = forking.bank();
        switch (forking.random.uintLessThan(u32, 16)) {
            0 => {
                _ = scene.bankDies(where.slot, where.bank);
                forking.is_dead[where.bank] = true;
            },
            1 => scene.engine.pumpOn(),
            2 => if (forking.random.uintLessThan(u32, 20) == 0) scene.engine.finishRollback(),
            else => {
                const account = forking.random.uintLessThan(u32, accounts);
                forking.mark = forking.mark % 250 + 1;
                var head = std.mem.zeroes(Account);
                head.header.kind = @backingInt(layout.FrameKind.account);
                head.body.pubkey = key(account);
                head.body.owner = key(100);
                head.body.slot = where.slot;
                head.body.bank_id = where.bank;
                head.body.write_version = scene.engine.sequence + 1000;
                head.body.data_length = 1;
                _ = scene.engine.publish(std.mem.asBytes(&head), &.{forking.mark}, false);
                if (!forking.is_dead[where.bank]) forking.marks[account][where.bank] = forking.mark;
            },
        }
    }

    fn read(forking: *Forking, reader: usize) !void {
        while (try forking.scene.read(&forking.scene.consumers[reader])) |frame| switch (frame.kind) {
            .rollback => forking.told[reader][frame.bank] = true,
            .withdrawn => {
                const before = &forking.known[reader][frame.account];
                if (before.bank != 0) try testing.expect(forking.told[reader][before.bank]);
                before.* = .{};
            },
            .account => {
                const before = &forking.known[reader][frame.account];
                const is_restored = frame.flags & layout.frame_flag_restored != 0;
                const is_back = frame.slot < before.slot or (frame.slot == before.slot and frame.bank < before.bank);
                // A step back only if it is said, and after its reason.
                if (is_back) try testing.expect(is_restored);
                if (is_restored and before.bank != 0) try testing.expect(forking.told[reader][before.bank]);
                before.* = .{ .slot = frame.slot, .bank = frame.bank, .mark = frame.first_byte };
            },
            else => {},
        };
    }

    fn holding(forking: *const Forking, account: usize) Version {
        var found: Version = .{};
        for (forking.banks[0..forking.bank_count]) |each| {
            const mark = forking.marks[account][each.bank];
            if (mark == 0 or forking.is_dead[each.bank]) continue;
            if (each.slot > found.slot or (each.slot == found.slot and each.bank > found.bank)) found = .{ .slot = each.slot, .bank = each.bank, .mark = mark };
        }
        return found;
    }

    fn run(seed: u64) !u32 {
        var prng = std.Random.DefaultPrng.init(seed);
        var scene: Scene = try .initWithHistory(4 << 20, 1 << 20);
        defer scene.deinit();
        scene.engine.rollback_pace = .{ .accounts = 1, .ns_max = 0 };
        var forking: Forking = .{ .random = prng.random(), .scene = &scene };
        const first = try scene.connect(.disconnect);
        try scene.subscribe(first, &.{}, &.{key(100)});
        var in_parts: u32 = 0;
        for (0..400) |i| {
            try forking.step();
            if (scene.engine.is_rolling_back) in_parts += 1;
            if (i == 200) { // in the midst of it, as a rule
                const second = try scene.connect(.disconnect);
                try testing.expectEqual(0, scene.engine.edit(second.id, &.{
                    .op = .replace,
                    .bit = 1,
                    .takes_transactions = false,
                    .is_last = true,
                    .accounts = &.{},
                    .owners = &.{key(100)},
                    .program = &.{},
                    .wants_state = true,
                }));
            }
            for (0..scene.count) |reader| try forking.read(reader);
        }
        while (scene.engine.has_work) {
            scene.engine.pumpOn();
            for (0..scene.count) |reader| try forking.read(reader);
        }
        try testing.expect(!scene.engine.is_rolling_back);
        try scene.engine.state.?.verify();
        for (0..accounts) |account| {
            const expected = forking.holding(account);
            for (0..2) |reader| try testing.expectEqual(expected, forking.known[reader][account]);
        }
        return in_parts;
    }
};

test "a dead bank that is taken back in parts: consumers end with what holds, and never see a step back that is not said" {
    var in_parts: u32 = 0;
    for (0..300) |seed| in_parts += Forking.run(seed) catch |err| {
        std.debug.print("seed {d}\n", .{seed});
        return err;
    };
    try testing.expect(in_parts > 10_000);
}

test "state that waits for room asks for it anew each time, also where it went on by itself" {
    var scene: Scene = try .initWithHistory(4 << 20, 1 << 20);
    defer scene.deinit();
    const data: [1500]u8 = @splat(1);
    for (0..200) |i| _ = scene.account(@intCast(i), 7, 1, &data);
    const reader = try scene.connect(.disconnect);
    reader.end.ring.is_awaited = true; // as the grant of a sender with state says
    try testing.expectEqual(0, scene.engine.edit(reader.id, &.{
        .op = .replace,
        .bit = 1,
        .takes_transactions = false,
        .is_last = true,
        .accounts = &.{},
        .owners = &.{key(7)},
        .program = &.{},
        .wants_state = true,
    }));
    var accounts: usize = 0;
    var rounds: usize = 0;
    while (scene.engine.consumers[reader.id].snapshots.first != null) : (rounds += 1) {
        // Nobody has told of room: a sweep, and what is left of a turn.
        _ = scene.engine.sweep(0);
        scene.pumpAll();
        var is_asked = scene.engine.consumers[reader.id].snapshots.first == null;
        var records: [8]layout.PollRecord = undefined;
        while (true) {
            const count = try reader.end.ring.poll(&records);
            if (count == 0) break;
            for (records[0..count]) |record| {
                accounts += @intFromBool(record.kind == @backingInt(layout.FrameKind.account));
                try reader.end.ring.release(record.ring_bytes);
                if (reader.end.ring.shouldNotify()) is_asked = true;
            }
        }
        try testing.expect(is_asked);
        try testing.expect(rounds < 100);
    }
    try testing.expectEqual(200, accounts);
    try testing.expect(rounds > 3);
}
