//! lag.zig: how far a consumer is behind is said by its ring's header and by the engine, whether or not it gets anything.

const std = @import("std");
const layout = @import("../layout.zig");
const handles = @import("../handles.zig");
const scenes = @import("scene.zig");
const testing = std.testing;
const Scene = scenes.Scene;
const key = scenes.key;

/// What its ring's header says.
fn toldSlot(reader: *Scene.Reader) u64 {
    return reader.end.ring.header.newest_slot.load(.monotonic);
}

fn toldOrdinal(reader: *Scene.Reader) u64 {
    return reader.end.ring.header.producer_ordinal.load(.monotonic);
}

fn infoOf(scene: *Scene, reader: *const Scene.Reader) layout.FanoutConsumerInfo {
    var out: layout.FanoutConsumerInfo = undefined;
    _ = scene.engine.consumerInfo(reader.id, &out);
    return out;
}

fn wakes(reader: *const Scene.Reader) u64 {
    const end = handles.pin(reader.producer, .producer).?;
    defer handles.unpin(reader.producer);
    return end.wakes;
}

test "the newest slot is said to every ring at the next commit: a full one, one that nothing goes into, a new one" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const full = try scene.connect(.drop_newest);
    try scene.subscribe(full, &.{key(1)}, &.{});
    const idle = try scene.connect(.disconnect);
    const data: [1000]u8 = @splat(1);
    while (scene.account(1, 1, 7, &data) == 1) {}
    try testing.expectEqual(7, toldSlot(full));
    try testing.expectEqual(7, toldSlot(idle));
    // Its status is none that they get; and what it carries finds no room.
    try testing.expectEqual(0, scene.slotFrame(8, 1));
    try testing.expectEqual(8, toldSlot(full));
    try testing.expectEqual(8, toldSlot(idle));
    try testing.expectEqual(0, scene.account(1, 1, 9, &data));
    try testing.expectEqual(9, toldSlot(full));
    // It only grows.
    try testing.expectEqual(0, scene.account(2, 1, 5, &data));
    try testing.expectEqual(9, toldSlot(idle));
    const newcomer = try scene.connect(.disconnect);
    try testing.expectEqual(9, toldSlot(newcomer));
}

test "an open batch is said nothing of before it is committed" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.drop_newest);
    try scene.subscribe(reader, &.{key(1)}, &.{});
    var head = std.mem.zeroes(scenes.Account);
    head.header.kind = @backingInt(layout.FrameKind.account);
    head.body.pubkey = key(1);
    head.body.slot = 7;
    try testing.expectEqual(1, scene.engine.publish(std.mem.asBytes(&head), "", true));
    try testing.expectEqual(0, toldSlot(reader));
    try testing.expectEqual(0, toldOrdinal(reader));
    scene.engine.commit();
    try testing.expectEqual(7, toldSlot(reader));
    try testing.expectEqual(1, toldOrdinal(reader));
}

test "the ordinal counts what matched, written, waiting or lost; so does the engine what is unread, until it is given back" {
    const data: [1000]u8 = @splat(1);
    for ([_]layout.Policy{ .drop_newest, .drop_oldest, .conflate }) |policy| {
        var scene: Scene = try .init();
        defer scene.deinit();
        const reader = try scene.connectWith(policy, policy, 20 * 1024);
        try scene.subscribe(reader, &.{}, &.{key(9)});
        for (1..201) |i| {
            _ = scene.account(@intCast(i % 50), 9, 7, &data);
            try testing.expectEqual(i, toldOrdinal(reader));
            try testing.expectEqual(@as(f64, @floatFromInt(i)), infoOf(&scene, reader).unread_frames);
        }
        try testing.expect(infoOf(&scene, reader).oldest_us > 0);
        var read: u64 = 0;
        while (try scene.read(reader)) |seen| {
            read += @as(u64, @intFromBool(seen.kind == .account)) + seen.lost;
            try testing.expectEqual(200, toldOrdinal(reader));
            if (policy == .drop_oldest) continue; // what it has jumped over is known once it says so
            try testing.expectEqual(@as(f64, @floatFromInt(200 - read)), infoOf(&scene, reader).unread_frames);
        }
        _ = scene.engine.sweep(0); // says what no frame has
        while (try scene.read(reader)) |seen| read += seen.lost;
        try testing.expectEqual(200, read);
        try testing.expectEqual(0, infoOf(&scene, reader).unread_frames);
        try testing.expectEqual(0, infoOf(&scene, reader).oldest_us);
    }
}

test "what waits has an age when the ring is empty; handed out, a frame is unread until it is given back" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.conflate);
    try scene.subscribe(reader, &.{}, &.{key(9)});
    scene.engine.clock_ns = 5_000;
    const data: [1000]u8 = @splat(1);
    var published: u32 = 0;
    while (infoOf(&scene, reader).waiting_frames == 0) : (published += 1) _ = scene.account(published, 9, 7, &data);
    try testing.expectEqual(5, infoOf(&scene, reader).oldest_us);
    scene.engine.clock_ns = 9_000;
    _ = scene.account(published, 9, 7, &data);
    var records: [64]layout.PollRecord = undefined;
    const count = try reader.end.ring.poll(&records);
    try testing.expectEqual(@as(f64, @floatFromInt(count + 2)), infoOf(&scene, reader).unread_frames);
    for (records[0..count]) |record| try reader.end.ring.release(record.ring_bytes);
    // Nobody has moved what waits into the ring yet.
    try testing.expectEqual(2, infoOf(&scene, reader).unread_frames);
    try testing.expectEqual(5, infoOf(&scene, reader).oldest_us);
    while (try scene.read(reader)) |_| {}
    try testing.expectEqual(0, infoOf(&scene, reader).unread_frames);
}

test "figures alone wake nobody" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.drop_newest);
    try scene.subscribe(reader, &.{key(1)}, &.{});
    const data: [1000]u8 = @splat(1);
    while (scene.account(1, 1, 7, &data) == 1) {}
    // All is handed out and nothing given back: it has no room, and sleeps.
    var records: [64]layout.PollRecord = undefined;
    const count = try reader.end.ring.poll(&records);
    try testing.expect(reader.end.park());
    const before = toldOrdinal(reader);
    try testing.expectEqual(0, scene.account(1, 1, 8, &data));
    try testing.expectEqual(0, scene.slotFrame(9, 1));
    try testing.expectEqual(before + 1, toldOrdinal(reader));
    try testing.expectEqual(9, toldSlot(reader));
    try testing.expectEqual(0, wakes(reader));
    for (records[0..count]) |record| try reader.end.ring.release(record.ring_bytes);
    try testing.expectEqual(1, scene.account(1, 1, 10, &data));
    try testing.expectEqual(1, wakes(reader));
}

test "a cursor that lies within a frame spoils the figure, and nothing else" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.drop_newest);
    try scene.subscribe(reader, &.{key(1)}, &.{});
    const data: [1000]u8 = @splat(0xff);
    for (0..8) |_| _ = scene.account(1, 1, 7, &data);
    var at: u64 = 8;
    while (at < 8 * 1000) : (at += 8) {
        reader.end.ring.page.consumer_cursor.store(at, .release);
        try testing.expect(infoOf(&scene, reader).unread_frames <= 8);
    }
    // One that can't be is not even looked at.
    reader.end.ring.page.consumer_cursor.store(1 << 40, .release);
    try testing.expect(infoOf(&scene, reader).unread_frames <= 8);
}
