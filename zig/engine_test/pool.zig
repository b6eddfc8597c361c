//! pool.zig: payloads in the pool: who pins them, for how long, and what of that others pay.

const std = @import("std");
const layout = @import("../layout.zig");
const scenes = @import("scene.zig");
const testing = std.testing;
const Scene = scenes.Scene;
const key = scenes.key;
const poll = scenes.poll;

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

test "consumers that lag, each within its limit, leave as much of the pool to who reads as each of them holds" {
    var scene: Scene = try .init();
    defer scene.deinit();
    var laggards: [4]*Scene.Reader = undefined;
    for (&laggards, 0..) |*laggard, i| {
        laggard.* = try scene.connect(.drop_newest);
        try scene.subscribe(laggard.*, &.{key(@intCast(10 + i))}, &.{});
    }
    const quick = try scene.connect(.disconnect);
    try scene.subscribe(quick, &.{key(1)}, &.{});
    const held: [64 * 1024]u8 = @splat(3); // fits no ring
    for (0..6) |_| for (0..laggards.len) |i| {
        _ = scene.account(@intCast(10 + i), 1, 1, &held);
    };
    const pool = &scene.engine.pool.?;
    for (laggards) |laggard| {
        try testing.expectEqual(3 * held.len, pool.pinnedBytes(laggard.id));
        try testing.expectEqual(3, scene.lostBy(laggard, .pool_share));
        try testing.expectEqual(3, scene.lostInAll(laggard));
    }
    const data: [100_000]u8 = @splat(4);
    for (0..10) |_| {
        try testing.expectEqual(1, scene.account(1, 1, 1, &data));
        try testing.expect(try scene.read(quick) != null);
    }
    try testing.expectEqual(0, scene.lostInAll(quick));
    // Who reads has its part again.
    while (try scene.read(laggards[0])) |_| {}
    try testing.expectEqual(1, scene.account(10, 1, 1, &held));
    try testing.expectEqual(null, scene.engine.nextEvent());
}

test "beyond its share a payload goes into the consumer's own ring, as long as that has room" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const slow = try scene.connect(.drop_newest);
    try scene.subscribe(slow, &.{key(1)}, &.{});
    const data: [16 * 1024]u8 = @splat(3);
    try testing.expectEqual(1, scene.account(1, 1, 1, &data));
    // Others hold nearly all of the pool.
    const pool = &scene.engine.pool.?;
    while (pool.memory.len - pool.usedBytes() > 2 * data.len) _ = pool.alloc(data.len);
    const used = pool.usedBytes();
    try testing.expectEqual(1, scene.account(1, 1, 1, &data));
    try testing.expectEqual(1, scene.account(1, 1, 1, &data));
    try testing.expectEqual(used, pool.usedBytes());
    try testing.expectEqual(0, scene.account(1, 1, 1, &data));
    try testing.expectEqual(1, scene.lostBy(slow, .pool_share));
    for (0..3) |_| try testing.expectEqual(3, (try scene.read(slow)).?.first_byte);
    // With nothing unread it may have what is left.
    try testing.expectEqual(1, scene.account(1, 1, 1, &data));
    try testing.expectEqual(used, pool.usedBytes());
}

test "a blocking consumer that has had its share holds up the others until it reads, and is not ended for it" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const slow = try scene.connect(.block);
    try scene.subscribe(slow, &.{key(1)}, &.{});
    const data: [64 * 1024]u8 = @splat(3); // fits no ring
    try testing.expectEqual(1, scene.account(1, 1, 1, &data));
    const pool = &scene.engine.pool.?;
    while (pool.memory.len - pool.usedBytes() > 2 * data.len) _ = pool.alloc(data.len);
    try testing.expectEqual(@backingInt(layout.Status.would_block), scene.account(1, 1, 1, &data));
    try testing.expectEqual(null, scene.engine.nextEvent());
    try testing.expect(try scene.read(slow) != null);
    try testing.expectEqual(1, scene.account(1, 1, 1, &data));
    try testing.expectEqual(0, scene.lostInAll(slow));
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
