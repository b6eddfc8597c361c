//! state.zig: what a sender knows: asked for, caught up with, and taken over from another sender.

const std = @import("std");
const layout = @import("../layout.zig");
const snapshots = @import("../snapshots.zig");
const Engine = @import("../engine.zig").Engine;
const scenes = @import("scene.zig");
const testing = std.testing;
const Scene = scenes.Scene;
const key = scenes.key;
const Slot = scenes.Slot;
const capacity = scenes.capacity;
const reserved = scenes.reserved;

test "catching up: a slot frame says how much was published before it, as it did to those who were there" {
    var scene: Scene = try .initWithHistory(4 << 20, 1 << 20);
    defer scene.deinit();
    for (0..3) |_| _ = scene.account(1, 7, 8, "a");
    _ = scene.slotFrame(8, 0);
    _ = scene.account(1, 7, 8, "a");
    const reader = try scene.resumeWith(.disconnect, .disconnect, 0, 0);
    try scene.subscribe(reader, &.{key(1)}, &.{});
    try testing.expectEqual(0, scene.engine.startHeld(reader.id));
    scene.pumpAll();
    for (1..4) |sequence| try scene.expectSequence(reader, sequence);
    const slot = (try scene.read(reader)).?;
    try testing.expectEqual(.{ 3, 0 }, .{ slot.accounts_published, slot.accounts_lost });
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
