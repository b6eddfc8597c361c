//! marks.zig: marks of edits in full rings, and the end of who never makes room for them.

const std = @import("std");
const layout = @import("../layout.zig");
const scenes = @import("scene.zig");
const testing = std.testing;
const Scene = scenes.Scene;
const key = scenes.key;
const capacity = scenes.capacity;

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
