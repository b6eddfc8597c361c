//! publishing.zig: one update or many: their order, their versions, what is staged and when it shows, what is refused.

const std = @import("std");
const layout = @import("../layout.zig");
const Engine = @import("../engine.zig").Engine;
const scenes = @import("scene.zig");
const testing = std.testing;
const Scene = scenes.Scene;
const Key = scenes.Key;
const key = scenes.key;
const Account = scenes.Account;
const Slot = scenes.Slot;

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

test "who sleeps is woken once for a batch, by its commit, and not again until it has slept again" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.disconnect);
    try scene.subscribe(reader, &.{key(1)}, &.{});
    const producer = scene.engine.consumers[reader.id].producer.native;
    for (1..4) |round| {
        try testing.expect(reader.end.ring.park());
        for (0..64) |_| {
            var head = std.mem.zeroes(Account);
            head.header.kind = @backingInt(layout.FrameKind.account);
            head.body.pubkey = key(1);
            head.body.slot = 1;
            try testing.expectEqual(1, scene.engine.publish(std.mem.asBytes(&head), "", true));
            try testing.expectEqual(round - 1, producer.wakes); // nothing is to be seen yet
        }
        scene.engine.commit();
        try testing.expectEqual(round, producer.wakes);
        try testing.expectEqual(1, scene.account(1, 9, 1, ""));
        try testing.expectEqual(round, producer.wakes); // it has been told
        reader.end.ring.unpark();
        while (try scene.read(reader)) |_| {}
        try testing.expectEqual(1, scene.account(1, 9, 1, ""));
        try testing.expectEqual(round, producer.wakes); // it is awake
        while (try scene.read(reader)) |_| {}
    }
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
