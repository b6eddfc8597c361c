//! matching.zig: filter programs: of writes that change nothing, slices of the data, accounts that leave, transactions by key.

const std = @import("std");
const layout = @import("../layout.zig");
const scenes = @import("scene.zig");
const testing = std.testing;
const Scene = scenes.Scene;
const Key = scenes.Key;
const key = scenes.key;
const Transaction = scenes.Transaction;
const poll = scenes.poll;

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

fn expectFrames(scene: *Scene, reader: *Scene.Reader, kinds: []const layout.FrameKind, masks: []const u64) !void {
    for (kinds, masks) |kind, mask| {
        const seen = (try scene.read(reader)) orelse return error.NotSent;
        try testing.expectEqual(kind, seen.kind);
        try testing.expectEqual(mask, seen.mask);
        try testing.expectEqual(0, seen.lost);
    }
    try testing.expectEqual(null, try scene.read(reader));
}

test "onlyChanged: an account does not leave by writes that change nothing; once it leaves, that is said once" {
    for ([_][]const Key{ &.{}, &.{key(1)} }) |accounts| {
        var scene: Scene = try .init();
        defer scene.deinit();
        const reader = try scene.connect(.disconnect);
        const owners: []const Key = if (accounts.len == 0) &.{key(100)} else &.{};
        try setFilter(&scene, reader, 3, accounts, owners, &program(.accounts, .changed, 0, ""));
        for ([_][]const u8{ "a", "a", "a", "b", "b" }, 1..) |data, slot| _ = scene.account(1, 100, slot, data);
        try testing.expectEqual(3, scene.engine.counts.unchanged);
        // By its key it can't leave: another owner is a change like others.
        _ = scene.account(1, 200, 6, "b");
        _ = scene.account(1, 200, 7, "b");
        const last: layout.FrameKind = if (accounts.len == 0) .left else .account;
        try expectFrames(&scene, reader, &.{ .account, .account, last }, &.{ 8, 8, 8 });
        try testing.expectEqual(@as(u64, if (accounts.len == 0) 3 else 4), scene.engine.counts.unchanged);
    }
}

test "onlyChanged: who leaves by what is no change of the account has left" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.disconnect);
    // Of writes that are not of the source's start; and changes only.
    const one = program(.accounts, .startup, 0, "");
    var both: [one.len + 8]u8 = undefined;
    @memcpy(both[0..one.len], &one);
    @memcpy(both[one.len..], program(.accounts, .changed, 0, "")[8..]);
    std.mem.writeInt(u16, both[2..4], 2, .little);
    std.mem.writeInt(u32, both[4..8], both.len, .little);
    try setFilter(&scene, reader, 1, &.{key(1)}, &.{}, &both);
    var head = std.mem.zeroes(scenes.Account);
    head.header.kind = @backingInt(layout.FrameKind.account);
    head.body.pubkey = key(1);
    const expected = [_]?layout.FrameKind{ .account, null, .left, null, null };
    for ([_]bool{ false, false, true, true, false }, expected) |is_startup, kind| {
        head.header.flags = if (is_startup) layout.frame_flag_startup else 0;
        _ = scene.engine.publish(std.mem.asBytes(&head), "", false);
        const seen = try scene.read(reader);
        try testing.expectEqual(kind, if (seen) |frame| frame.kind else null);
    }
    try testing.expectEqual(2, scene.engine.counts.unchanged);
}

test "onlyChanged beside a filter that takes all: each is told what concerns it, of both when both are left" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.disconnect);
    const other = try scene.connect(.disconnect);
    try testing.expectEqual(0, scene.edit(reader, .add, 0, &.{}, &.{key(100)}));
    try setFilter(&scene, reader, 1, &.{}, &.{key(100)}, &program(.accounts, .changed, 0, ""));
    try setFilter(&scene, other, 2, &.{}, &.{key(100)}, &program(.accounts, .changed, 0, ""));
    try testing.expectEqual(2, scene.account(1, 100, 1, "a"));
    try testing.expectEqual(1, scene.account(1, 100, 2, "a"));
    try testing.expectEqual(2, scene.engine.counts.unchanged);
    try testing.expectEqual(0, scene.account(1, 200, 3, "a"));
    try expectFrames(&scene, reader, &.{ .account, .account, .left }, &.{ 3, 1, 3 });
    try expectFrames(&scene, other, &.{ .account, .left }, &.{ 4, 4 });
}

test "onlyChanged: of more filters than are remembered of an account, none that still matches is said to have been left" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.disconnect);
    const second = try scene.connect(.disconnect);
    // Remembered first, since nobody else matches; tried last, since it has no key.
    try setFilter(&scene, reader, 60, &.{}, &.{}, &program(.accounts, .changed, 0, ""));
    try testing.expectEqual(1, scene.account(1, 200, 1, "a"));
    for (0..9) |bit| try testing.expectEqual(0, scene.edit(second, .add, @intCast(bit), &.{}, &.{key(200)}));
    try testing.expectEqual(1, scene.account(1, 200, 2, "a"));
    try testing.expectEqual(1, scene.account(1, 200, 3, "a"));
    try expectFrames(&scene, reader, &.{.account}, &.{1 << 60});
    try expectFrames(&scene, second, &.{ .account, .account }, &.{ 0x1ff, 0x1ff });
}

test "onlyChanged: what follows an older version that came late is sent, since who keeps the newest does not have that" {
    var scene: Scene = try .init();
    defer scene.deinit();
    scene.engine.guard = .count;
    const reader = try scene.connect(.disconnect);
    try setFilter(&scene, reader, 0, &.{key(1)}, &.{}, &program(.accounts, .changed, 0, ""));
    try testing.expectEqual(1, scene.account(1, 1, 5, "B"));
    try testing.expectEqual(1, scene.account(1, 1, 4, "A"));
    try testing.expectEqual(1, scene.account(1, 1, 6, "A")); // the newest had B
    try testing.expectEqual(0, scene.account(1, 1, 7, "A"));
    // An older one that says what the newest does changes nothing for anybody.
    try testing.expectEqual(0, scene.account(1, 1, 3, "A"));
    try testing.expectEqual(1, scene.account(1, 1, 8, "A"));
}

test "onlyChanged: what is not published is not counted: it has no room, or it is older than what is known" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const slow = try scene.connect(.block);
    const reader = try scene.connect(.drop_newest);
    try scene.subscribe(slow, &.{key(1)}, &.{});
    try setFilter(&scene, reader, 1, &.{key(1)}, &.{}, &program(.accounts, .changed, 0, ""));
    const data: [1000]u8 = @splat(1);
    var published: u64 = 0;
    while (scene.account(1, 1, 2, &data) > 0) published += 1;
    try testing.expectEqual(published - 1, scene.engine.counts.unchanged);
    for (0..10) |_| try testing.expectEqual(@backingInt(layout.Status.would_block), scene.account(1, 1, 2, &data));
    try testing.expectEqual(published - 1, scene.engine.counts.unchanged);
    _ = try scene.read(slow);
    try testing.expectEqual(1, scene.account(1, 1, 2, &data));
    try testing.expectEqual(published, scene.engine.counts.unchanged);
    try testing.expectEqual(0, scene.account(1, 1, 1, &data));
    try testing.expectEqual(published, scene.engine.counts.unchanged);
    try testing.expectEqual(1, scene.engine.counts.stale);
}

test "onlyChanged: who catches up gets all of it, which nobody counts as left out" {
    var scene: Scene = try .initWithHistory(4 << 20, 1 << 20);
    defer scene.deinit();
    const first = try scene.connect(.disconnect);
    try setFilter(&scene, first, 1, &.{}, &.{key(100)}, &program(.accounts, .changed, 0, ""));
    _ = scene.account(1, 100, 1, "a");
    const late = try scene.resumeWith(.disconnect, .disconnect, 0, 0);
    try setFilter(&scene, late, 2, &.{}, &.{key(100)}, &program(.accounts, .changed, 0, ""));
    _ = scene.account(1, 100, 2, "a");
    try testing.expectEqual(1, scene.engine.counts.unchanged);
    try testing.expectEqual(0, scene.engine.startHeld(late.id));
    scene.pumpAll();
    _ = scene.account(1, 100, 3, "a");
    try testing.expectEqual(3, scene.engine.counts.unchanged);
    _ = scene.account(1, 200, 4, "a");
    try expectFrames(&scene, first, &.{ .account, .left }, &.{ 2, 2 });
    try expectFrames(&scene, late, &.{ .account, .account, .resumed, .left }, &.{ 4, 4, std.math.maxInt(u64), 4 });
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
    try testing.expectEqual(0, scene.transaction());
}

test "transactions by signature: that one, by whom it is wanted as long as it is; none costs the others a try" {
    var scene: Scene = try .init();
    defer scene.deinit();
    const reader = try scene.connect(.drop_newest);
    for ([_]u8{ 1, 2, 1, 3 }, 0..) |number, bit| try waitFor(&scene, reader, @intCast(bit), number, bit < 3);
    try testing.expectEqual(0, scene.engine.transactions.len);
    try testing.expectEqual(0b101, try maskOfSigned(&scene, reader, 1));
    try testing.expectEqual(0b010, try maskOfSigned(&scene, reader, 2));
    try testing.expectEqual(0, try maskOfSigned(&scene, reader, 3)); // not whole yet
    try testing.expectEqual(0, try maskOfSigned(&scene, reader, 4));
    var info: layout.FanoutConsumerInfo = undefined;
    try testing.expectEqual(0, scene.engine.consumerInfo(reader.id, &info));
    try testing.expectEqual(1, info.takes_transactions);

    // Its source has to bring all transactions, until nobody waits for one.
    try testing.expectEqual(0, scene.engine.startDemand());
    var head: layout.DemandHead = undefined;
    var records: [8]layout.DemandRecord = undefined;
    try testing.expectEqual(0, scene.engine.collectDemand(&head, &records, 1000));
    try testing.expectEqual(1, head.all_transactions);
    try testing.expectEqual(0, scene.edit(reader, .drop, 0, &.{}, &.{}));
    try testing.expectEqual(0b100, try maskOfSigned(&scene, reader, 1));
    for ([_]u6{ 1, 2 }) |bit| try testing.expectEqual(0, scene.engine.edit(reader.id, &.{
        .op = .remove,
        .bit = bit,
        .takes_transactions = true,
        .is_last = true,
        .accounts = &.{},
        .owners = &.{},
        .program = &.{},
    }));
    for (1..4) |number| try testing.expectEqual(0, try maskOfSigned(&scene, reader, @intCast(number)));
    try testing.expectEqual(0, scene.engine.collectDemand(&head, &records, 1000));
    try testing.expectEqual(0, head.all_transactions);
    scene.engine.remove(reader.id, true);
    try testing.expectEqual(0, scene.engine.signatures.count);
}

test "catching up: transactions by signature" {
    var scene: Scene = try .initWithHistory(4 << 20, 1 << 20);
    defer scene.deinit();
    for (1..4) |number| _ = publishSigned(&scene, @intCast(number));
    const reader = try scene.resumeWith(.disconnect, .disconnect, 0, 0);
    try waitFor(&scene, reader, 4, 2, true);
    try testing.expectEqual(0, scene.engine.startHeld(reader.id));
    scene.pumpAll();
    const seen = (try scene.read(reader)).?;
    try testing.expectEqual(.{ 2, 1 << 4 }, .{ seen.sequence, seen.mask });
    try testing.expectEqual(.resumed, (try scene.read(reader)).?.kind);
}

fn waitFor(scene: *Scene, reader: *Scene.Reader, bit: u6, number: u8, is_last: bool) !void {
    var bytes = program(.transactions, .first_signature, 0, &@as([layout.signature_size]u8, @splat(0)));
    @memset(bytes[16..], number);
    try testing.expectEqual(0, scene.engine.edit(reader.id, &.{
        .op = .replace,
        .bit = bit,
        .takes_transactions = bit == 2, // says nothing else
        .is_last = is_last,
        .accounts = &.{},
        .owners = &.{},
        .program = &bytes,
    }));
}

fn publishSigned(scene: *Scene, number: u8) i32 {
    var head = std.mem.zeroes(Transaction);
    head.header.kind = @backingInt(layout.FrameKind.transaction);
    head.body.signature = @splat(number);
    return scene.engine.publish(std.mem.asBytes(&head), "", false);
}

fn maskOfSigned(scene: *Scene, reader: *Scene.Reader, number: u8) !u64 {
    if (publishSigned(scene, number) == 0) return 0;
    return (try scene.read(reader)).?.mask;
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
