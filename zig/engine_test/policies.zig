//! policies.zig: what happens when a ring is full, by the policy of its consumer.

const std = @import("std");
const layout = @import("../layout.zig");
const scenes = @import("scene.zig");
const testing = std.testing;
const Scene = scenes.Scene;
const key = scenes.key;
const sum = scenes.sum;

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

/// A consumer with a full ring, of whose backlog nothing of slot 8 is part.
fn connectFull(scene: *Scene, policy: layout.Policy, transactions: layout.Policy, backlog_bytes: u32) !*Scene.Reader {
    const reader = try scene.connectWith(policy, transactions, backlog_bytes);
    try scene.subscribe(reader, &.{ key(1), key(2), key(3), key(4) }, &.{});
    const data: [1000]u8 = @splat(1);
    while (scene.engine.consumers[reader.id].backlog.isEmpty()) _ = scene.account(4, 1, 7, &data);
    return reader;
}

/// What each frame of slot 8 says: published, lost; and that this is what came of it until then.
fn expectBarriers(scene: *Scene, reader: *Scene.Reader, expected: []const [2]u64) !void {
    var found: usize = 0;
    var came: u64 = 0;
    while (try scene.read(reader)) |seen| {
        if (seen.slot != 8) continue;
        if (seen.kind == .account) came += 1;
        if (seen.kind != .slot) continue;
        try testing.expectEqual(expected[found], .{ seen.accounts_published, seen.accounts_lost });
        try testing.expectEqual(seen.accounts_published, came + seen.accounts_lost);
        found += 1;
    }
    try testing.expectEqual(expected.len, found);
}

test "conflate: a slot frame that waits says what was replaced before it, and not what was behind it" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try connectFull(&scene, .conflate, .drop_newest, 1 << 20);
    const data: [1000]u8 = @splat(1);
    _ = scene.slotFrame(8, 0); // nothing was published of it
    for (0..3) |_| _ = scene.account(1, 1, 8, &data);
    _ = scene.account(2, 1, 8, &data);
    _ = scene.slotFrame(8, 0); // of account 1 two have been replaced, the third will be
    for (0..4) |_| _ = scene.account(1, 1, 8, &data);
    _ = scene.slotFrame(8, 0); // three more
    _ = scene.account(2, 1, 8, &data); // takes one from before the second, and stands behind all
    _ = scene.slotFrame(8, 0);
    try expectBarriers(&scene, reader, &.{ .{ 0, 0 }, .{ 4, 4 }, .{ 8, 7 }, .{ 9, 7 } });
}

test "what is refused, or never fits, while a slot frame waits is not said by that one but by the next" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try connectFull(&scene, .conflate, .drop_newest, 8192);
    const data: [3000]u8 = @splat(1);
    const huge: [9000]u8 = @splat(1);
    _ = scene.slotFrame(8, 0);
    _ = scene.account(2, 1, 8, "small");
    for (0..5) |_| _ = scene.account(3, 1, 8, &huge); // for no backlog of this size
    _ = scene.slotFrame(8, 0);
    for (0..5) |i| _ = scene.account(@intCast(1 + i % 3), 1, 8, &data);
    const refused = scene.lostBy(reader, .queue_full);
    try testing.expectEqual(.{ 4, 5 }, .{ refused, scene.lostBy(reader, .too_large) });
    try expectBarriers(&scene, reader, &.{ .{ 0, 0 }, .{ 6, 5 } });
    _ = scene.slotFrame(8, 0);
    try testing.expectEqual(9, (try scene.read(reader)).?.accounts_lost);
}

test "drop-oldest: a slot frame that waits says what was dropped in front of it, out of the queue and out of the ring" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try connectFull(&scene, .drop_oldest, .drop_oldest, 20 * 1024);
    const data: [1000]u8 = @splat(1);
    for (0..30) |_| _ = scene.account(1, 1, 8, &data); // more than wait
    _ = scene.slotFrame(8, 0);
    for (0..5) |_| _ = scene.account(2, 1, 8, &data);
    _ = scene.slotFrame(8, 0);
    for (0..9) |_| _ = scene.account(3, 1, 8, &data);
    // The ring takes a part of what waits, and that is skipped for what comes then.
    try testing.expectEqual(8, (try scene.read(reader)).?.slot);
    for (0..70) |_| _ = scene.account(3, 1, 9, &data);
    _ = scene.slotFrame(8, 0);
    var came: u64 = 1;
    var slots: u64 = 0;
    while (try scene.read(reader)) |seen| {
        if (seen.kind == .account and seen.slot == 8) came += 1;
        if (seen.kind != .slot) continue;
        slots += 1;
        try testing.expectEqual(seen.accounts_published, came + seen.accounts_lost);
    }
    try testing.expect(slots > 0 and scene.lostBy(reader, .skipped) > 0 and scene.lostBy(reader, .queue_full) > 0);
}

test "what a rollback brings back is of no slot's accounts, lost or not" {
    var scene: Scene = try .initWith(8 << 20);
    defer scene.deinit();
    const reader = try scene.connect(.drop_newest);
    try scene.subscribe(reader, &.{ key(1), key(2) }, &.{});
    _ = scene.accountIn(2, 8, 1);
    _ = scene.accountIn(2, 10, 2);
    const data: [1000]u8 = @splat(1);
    while (scene.account(1, 1, 7, &data) == 1) {}
    while (scene.account(1, 1, 7, "") == 1) {}
    _ = scene.bankDies(10, 2);
    _ = scene.slotFrame(8, 0);
    var found = false;
    while (try scene.read(reader)) |seen| {
        if (seen.kind != .slot or seen.slot != 8) continue;
        try testing.expectEqual(.{ 1, 0 }, .{ seen.accounts_published, seen.accounts_lost });
        found = true;
    }
    try testing.expect(found);
    try testing.expect(scene.lostBy(reader, .ring_full) > 2);
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

/// A filter of all accounts, of whose data so many bytes travel.
const first_bytes = extern struct {
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
    range: layout.FilterRange,
};

fn takeBytes(scene: *Scene, reader: *Scene.Reader, length: u32) !void {
    try testing.expectEqual(0, scene.engine.edit(reader.id, &.{
        .op = .replace,
        .bit = 0,
        .takes_transactions = true,
        .is_last = true,
        .accounts = &.{},
        .owners = &.{},
        .program = std.mem.asBytes(&first_bytes{ .range = .{ .offset = 0, .length = length } }),
    }));
}

test "a forged cursor is found while frames wait: one event, and nothing is read of the filter that went with it" {
    var scene: Scene = try .init();
    defer scene.deinit();
    for ([_]layout.Policy{ .conflate, .disconnect }) |transactions| {
        const hostile = try scene.connectWith(.conflate, transactions, 1 << 20);
        try takeBytes(&scene, hostile, 4);
        // Slots of no data fill the ring to its end, so that they wait behind.
        while (scene.engine.consumers[hostile.id].backlog.isEmpty()) try testing.expect(scene.slotFrame(7, 0) >= 0);
        hostile.end.ring.page.consumer_cursor.store(1 << 40, .release);
        try testing.expectEqual(0, if (transactions == .conflate) scene.account(1, 2, 7, "abcdefgh") else scene.transaction());
        const event = scene.engine.nextEvent().?;
        try testing.expectEqual(hostile.id, event.id);
        try testing.expectEqual(layout.EndReason.peer_corrupt, event.reason);
        try testing.expectEqual(null, scene.engine.nextEvent());
        scene.engine.remove(hostile.id, true);
    }
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

test "slices travel in the ring, also those that had to wait for room there" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const slow = try scene.connect(.conflate);
    try takeBytes(&scene, slow, 8192);
    const data: [20_000]u8 = @splat(1);
    const backlog = &scene.engine.consumers[slow.id].backlog;
    var sent: u32 = 0;
    while (backlog.count < 3) : (sent += 1) _ = scene.account(sent, 2, 7, &data);
    for (0..sent) |_| {
        const seen = (try scene.read(slow)).?;
        try testing.expect(seen.flags & layout.frame_flag_sliced != 0);
        try testing.expectEqual(1, seen.first_byte);
        try testing.expectEqual(0, scene.engine.pool.?.usedBytes());
        _ = scene.engine.flush(slow.id);
        scene.engine.commit();
    }
    try testing.expect(backlog.isEmpty());
    try testing.expectEqual(0, scene.lostInAll(slow));
}

test "block: what is asked is what would be offered: slices, and being told of an account that left" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const slow = try scene.connect(.block);
    try takeBytes(&scene, slow, 4);
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
