//! edits.zig: who gets an update: by its key, its owner, by named filters as they are edited, and up to which limits.

const layout = @import("../layout.zig");
const Engine = @import("../engine.zig").Engine;
const scenes = @import("scene.zig");
const testing = @import("std").testing;
const Scene = scenes.Scene;
const Key = scenes.Key;
const key = scenes.key;

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
