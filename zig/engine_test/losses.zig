//! losses.zig: what a consumer did not get is counted by its reason, and told to it and to the sender alike.

const std = @import("std");
const builtin = @import("builtin");
const layout = @import("../layout.zig");
const scenes = @import("scene.zig");
const testing = std.testing;
const Scene = scenes.Scene;
const key = scenes.key;
const sum = scenes.sum;

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
