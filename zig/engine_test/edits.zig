//! edits.zig: who gets an update: by its key, its owner, by named filters as they are edited, and up to which limits.

const layout = @import("../layout.zig");
const Engine = @import("../engine.zig").Engine;
const scenes = @import("scene.zig");
const std = @import("std");
const testing = std.testing;
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
    const other = try scene.connect(.drop_newest);
    const third = try scene.connect(.drop_newest);
    try testing.expectEqual(0, scene.edit(other, .add, 0, keys[most..][0..most], &.{}));
    try testing.expectEqual(@backingInt(layout.Status.keys_limit), scene.edit(third, .add, 0, keys[2 * most ..], &.{}));
    try testing.expectEqual(0, scene.edit(third, .add, 0, keys[0..1], keys[2 * most ..]));
}

test "the limit of keys is a consumer's, over all of its filters; a filter can be replaced, and others have theirs" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.drop_newest);
    const most = Scene.keys_per_consumer_max;
    const limit = @backingInt(layout.Status.filter_keys_limit);
    const keys = try testing.allocator.alloc(Key, most);
    defer testing.allocator.free(keys);
    for (keys, 0..) |*each, i| each.* = key(@intCast(1000 + i));
    try testing.expectEqual(0, scene.edit(reader, .add, 0, keys[0 .. most - 10], &.{}));
    try testing.expectEqual(limit, scene.edit(reader, .replace, 1, keys[0..11], &.{}));
    try testing.expectEqual(0, scene.edit(reader, .replace, 1, keys[0..5], keys[0..5]));
    try testing.expectEqual(limit, scene.edit(reader, .add, 2, &.{key(1)}, &.{}));
    try testing.expectEqual(limit, scene.edit(reader, .add, 1, &.{key(1)}, &.{}));
    // Those of the filter that goes do not count for the one that takes its place.
    try testing.expectEqual(0, scene.edit(reader, .replace, 0, keys[10..], &.{}));
    try testing.expectEqual(limit, scene.edit(reader, .replace, 0, keys[9..], &.{}));
    try testing.expectEqual(0, scene.edit(reader, .remove, 1, &.{}, keys[0..1]));
    try testing.expectEqual(0, scene.edit(reader, .add, 2, &.{key(1)}, &.{}));
    const other = try scene.connect(.drop_newest);
    try testing.expectEqual(0, scene.edit(other, .add, 0, keys, &.{}));
}

/// What a consumer's filters may have together, by plain lists: the rule of docs/protocol.md.
const BoundModel = struct {
    const bits = 3;
    const keys_max = 24;
    const Keys = std.StaticBitSet(2 * keys_max);

    limit: u32,
    in_force: [bits]?Keys = @splat(null),
    staged: ?struct { bit: u6, keys: Keys } = null,

    fn sum(filters: [bits]?Keys) usize {
        var total: usize = 0;
        for (filters) |keys| total += if (keys) |all| all.count() else 0;
        return total;
    }

    fn after(model: *const BoundModel, filters: [bits]?Keys) usize {
        var out = filters;
        if (model.staged) |staged| out[staged.bit] = staged.keys;
        return sum(out);
    }

    /// False: refused.
    fn edit(model: *BoundModel, op: layout.FilterOp, bit: u6, is_last: bool, keys: Keys) bool {
        switch (op) {
            .drop => {
                model.in_force[bit] = null;
                if (model.staged) |staged| if (staged.bit == bit) {
                    model.staged = null;
                };
            },
            .remove => if (model.in_force[bit]) |*all| {
                all.* = all.differenceWith(keys);
            },
            .replace => {
                model.staged = .{ .bit = bit, .keys = keys };
                return model.finish(is_last);
            },
            .add => {
                if (model.staged) |*staged| if (staged.bit == bit) {
                    staged.keys.setUnion(keys);
                    return model.finish(is_last);
                };
                var filters = model.in_force;
                filters[bit] = (filters[bit] orelse Keys.empty).unionWith(keys);
                const is_more = !filters[bit].?.eql(model.in_force[bit] orelse Keys.empty);
                if (is_more and @max(sum(filters), model.after(filters)) > model.limit) return false;
                model.in_force = filters;
            },
            else => unreachable,
        }
        return true;
    }

    fn finish(model: *BoundModel, is_last: bool) bool {
        const staged = model.staged.?;
        var filters = model.in_force;
        filters[staged.bit] = staged.keys;
        const is_refused = staged.keys.count() > 0 and sum(filters) > model.limit;
        if (is_refused or is_last) model.staged = null;
        if (is_last and !is_refused) model.in_force = filters;
        return !is_refused;
    }
};

test "5,000 random edits of one consumer's filters are refused exactly where its keys would be too many" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.drop_newest);
    var model: BoundModel = .{ .limit = 30 };
    scene.engine.index.options.keys_per_consumer_max = model.limit;
    var prng: std.Random.DefaultPrng = .init(7);
    const random = prng.random();
    var refused: u32 = 0;
    var staged: u32 = 0;
    for (0..5_000) |step| {
        errdefer std.debug.print("step {d}\n", .{step});
        const op = random.enumValue(enum { add, replace, remove, drop });
        const bit = random.uintLessThan(u6, BoundModel.bits);
        const is_last = op != .replace or random.boolean();
        var wanted: BoundModel.Keys = .empty;
        var lists: [2][BoundModel.keys_max]Key = undefined;
        var counts: [2]usize = @splat(0);
        if (op != .drop) for (0..2 * BoundModel.keys_max) |i| {
            if (random.uintLessThan(u32, 4) > 0) continue;
            const kind = i / BoundModel.keys_max;
            lists[kind][counts[kind]] = key(@intCast(1000 + i));
            counts[kind] += 1;
            wanted.set(i);
        };
        const request: Engine.Edit = .{
            .op = switch (op) {
                inline else => |one| @field(layout.FilterOp, @tagName(one)),
            },
            .bit = bit,
            .takes_transactions = false,
            .is_last = is_last,
            .accounts = lists[0][0..counts[0]],
            .owners = lists[1][0..counts[1]],
            .program = &.{},
        };
        const is_done = model.edit(request.op, bit, is_last, wanted);
        refused += @intFromBool(!is_done);
        staged += @intFromBool(model.staged != null);
        const expected = if (is_done) 0 else @backingInt(layout.Status.filter_keys_limit);
        try testing.expectEqual(expected, scene.engine.edit(reader.id, &request));
        var info: layout.FanoutConsumerInfo = undefined;
        try testing.expectEqual(0, scene.engine.consumerInfo(reader.id, &info));
        const in_force: f64 = @floatFromInt(BoundModel.sum(model.in_force));
        try testing.expectEqual(in_force, info.account_keys + info.owner_keys);
    }
    try testing.expect(refused > 500 and staged > 500);
}

test "the limit of sets made is a consumer's, over all of its filters" {
    var scene: Scene = try .init();
    defer scene.deinit();
    scene.engine.index.options.sets_per_consumer_max = 3;
    const reader = try scene.connect(.drop_newest);
    const limit = @backingInt(layout.Status.sets_limit);
    try testing.expectEqual(0, scene.edit(reader, .add, 0, &.{ key(1), key(2) }, &.{})); // {0}
    try testing.expectEqual(0, scene.edit(reader, .add, 1, &.{ key(1), key(3) }, &.{})); // {0, 1}, {1}
    try testing.expectEqual(limit, scene.edit(reader, .add, 2, &.{key(1)}, &.{}));
    try testing.expectEqual(limit, scene.edit(reader, .replace, 2, &.{key(9)}, &.{}));
    try testing.expectEqual(0, scene.edit(reader, .add, 1, &.{key(2)}, &.{})); // there is {0, 1}
    // Anew: without the sets of the one that goes, {0, 1} can be made again, and one more.
    try testing.expectEqual(0, scene.edit(reader, .replace, 1, &.{ key(1), key(4) }, &.{}));
    const other = try scene.connect(.drop_newest);
    try testing.expectEqual(0, scene.edit(other, .add, 0, &.{ key(1), key(2), key(5) }, &.{}));
}

test "filters are kept back for consumers that may come: each has two, whatever others take" {
    var scene: Scene = try .init();
    defer scene.deinit();
    scene.engine.keepBack(4);
    const index = scene.engine.index;
    const limit = @backingInt(layout.Status.filters_limit);
    const one = try scene.connect(.drop_newest);
    const two = try scene.connect(.drop_newest);
    // All but twenty are somebody's.
    var taken: u16 = 0;
    for (0..layout.filters_max) |id| {
        if (index.freeCount() == 20) break;
        try index.admit(@intCast(id));
        taken = @intCast(id);
    }
    var count: u6 = 0;
    while (scene.edit(one, .add, count, &.{key(1)}, &.{}) == 0) count += 1;
    try testing.expectEqual(20 - 3 * 2, count);
    try testing.expectEqual(limit, scene.edit(one, .add, count, &.{key(1)}, &.{}));
    try testing.expectEqual(limit, scene.edit(one, .replace, 0, &.{key(2)}, &.{}));
    for (0..2) |bit| try testing.expectEqual(0, scene.edit(two, .replace, @intCast(bit), &.{key(2)}, &.{}));
    try testing.expectEqual(limit, scene.edit(two, .replace, 2, &.{key(2)}, &.{}));
    const three = try scene.connect(.drop_newest);
    try testing.expectEqual(0, scene.edit(three, .add, 5, &.{key(3)}, &.{}));
    // It can replace it once; what that leaves is swept before another one has its number.
    try testing.expectEqual(0, scene.edit(three, .replace, 5, &.{key(4)}, &.{}));
    const four = try scene.connect(.drop_newest);
    for (0..2) |bit| try testing.expectEqual(0, scene.edit(four, .add, @intCast(bit), &.{key(4)}, &.{}));
    // What one gives back others may have again, once it is swept.
    for (0..4) |bit| try testing.expectEqual(0, scene.edit(one, .drop, @intCast(bit), &.{}, &.{}));
    while (!index.sweep(100_000)) {}
    for (10..14) |bit| try testing.expectEqual(0, scene.edit(two, .add, @intCast(bit), &.{key(1)}, &.{}));
    try testing.expectEqual(limit, scene.edit(two, .add, 14, &.{key(1)}, &.{}));
    // And who goes leaves two to who comes.
    scene.engine.remove(one.id, true);
    while (!index.sweep(100_000)) {}
    for (20..28) |bit| try testing.expectEqual(0, scene.edit(four, .add, @intCast(bit), &.{key(1)}, &.{}));
    try testing.expectEqual(limit, scene.edit(four, .add, 28, &.{key(1)}, &.{}));
    for (0..@as(usize, taken) + 1) |id| index.dismiss(@intCast(id));
}

test "two filters are kept back for each of up to 512 consumers, one for each of more, and never all" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.drop_newest);
    const index = scene.engine.index;
    const permitted = [_]u32{ 0, 1, 512, 513, layout.fanout_consumers_max, std.math.maxInt(u32) };
    for (permitted, [_]u32{ 0, 2, 1024, 513, 1280, 1280 }) |count, kept| {
        scene.engine.keepBack(count);
        try testing.expectEqual(kept, scene.engine.kept_count);
    }
    // So one consumer has all that it may have even then.
    for (0..layout.filters_per_consumer_max) |bit| try testing.expectEqual(0, scene.edit(reader, .add, @intCast(bit), &.{key(1)}, &.{}));
    try testing.expectEqual(layout.filters_max - layout.filters_per_consumer_max, index.freeCount());
}

test "the first filter of a consumer does not wait for those of one that has just gone" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const index = scene.engine.index;
    const one = try scene.connect(.drop_newest);
    const two = try scene.connect(.drop_newest);
    var keys: [3_000]Key = undefined;
    for (&keys, 0..) |*each, i| each.* = key(@intCast(1000 + i));
    try testing.expectEqual(0, scene.edit(one, .add, 0, &keys, &.{}));
    var id: u16 = layout.filters_max;
    while (index.freeCount() > 0) {
        id -= 1;
        try index.admit(id);
    }
    try testing.expectEqual(@backingInt(layout.Status.filters_limit), scene.edit(two, .add, 0, &.{key(1)}, &.{}));
    scene.engine.remove(one.id, true);
    try testing.expectEqual(0, index.freeCount());
    try testing.expectEqual(0, scene.edit(two, .add, 0, &.{key(1)}, &.{}));
    while (id < layout.filters_max) : (id += 1) index.dismiss(id);
}
