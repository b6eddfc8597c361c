//! rollback.zig: dead banks taken back in parts, at random, against a model that keeps every version.

const std = @import("std");
const layout = @import("../layout.zig");
const scenes = @import("scene.zig");
const testing = std.testing;
const Scene = scenes.Scene;
const key = scenes.key;
const Account = scenes.Account;

/// Accounts, banks and their deaths at random, taken back one at a time.
const Forking = struct {
    const accounts = 40;
    const banks_max = 400;
    const Version = struct { slot: u64 = 0, bank: u64 = 0, mark: u8 = 0 };

    random: std.Random,
    scene: *Scene,
    banks: [banks_max]Version = undefined,
    is_dead: [banks_max + 1]bool = @splat(false),
    bank_count: usize = 0,
    /// By account and bank, the last write.
    marks: [accounts][banks_max + 1]u8 = @splat(@splat(0)),
    mark: u8 = 0,
    /// What each consumer has of each account, and of which banks it knows that they are dead.
    known: [2][accounts]Version = @splat(@splat(.{})),
    told: [2][banks_max + 1]bool = @splat(@splat(false)),

    fn bank(forking: *Forking) Version {
        if (forking.bank_count == 0 or forking.random.uintLessThan(u32, 16) == 0) {
            const number = forking.bank_count + 1;
            const newest = if (forking.bank_count == 0) 10 else forking.banks[forking.bank_count - 1].slot;
            forking.banks[forking.bank_count] = .{ .slot = newest + forking.random.uintLessThan(u64, 2), .bank = number };
            forking.bank_count += 1;
        }
        const back = forking.random.uintLessThan(usize, @min(forking.bank_count, 4));
        return forking.banks[forking.bank_count - 1 - back];
    }

    fn step(forking: *Forking) !void {
        const scene = forking.scene;
        const where = forking.bank();
        switch (forking.random.uintLessThan(u32, 16)) {
            0 => {
                _ = scene.bankDies(where.slot, where.bank);
                forking.is_dead[where.bank] = true;
            },
            1 => scene.engine.pumpOn(),
            2 => if (forking.random.uintLessThan(u32, 20) == 0) scene.engine.finishRollback(),
            else => {
                const account = forking.random.uintLessThan(u32, accounts);
                forking.mark = forking.mark % 250 + 1;
                var head = std.mem.zeroes(Account);
                head.header.kind = @backingInt(layout.FrameKind.account);
                head.body.pubkey = key(account);
                head.body.owner = key(100);
                head.body.slot = where.slot;
                head.body.bank_id = where.bank;
                head.body.write_version = scene.engine.sequence + 1000;
                head.body.data_length = 1;
                _ = scene.engine.publish(std.mem.asBytes(&head), &.{forking.mark}, false);
                if (!forking.is_dead[where.bank]) forking.marks[account][where.bank] = forking.mark;
            },
        }
    }

    fn read(forking: *Forking, reader: usize) !void {
        while (try forking.scene.read(&forking.scene.consumers[reader])) |frame| switch (frame.kind) {
            .rollback => forking.told[reader][frame.bank] = true,
            .withdrawn => {
                const before = &forking.known[reader][frame.account];
                if (before.bank != 0) try testing.expect(forking.told[reader][before.bank]);
                before.* = .{};
            },
            .account => {
                const before = &forking.known[reader][frame.account];
                const is_restored = frame.flags & layout.frame_flag_restored != 0;
                const is_back = frame.slot < before.slot or (frame.slot == before.slot and frame.bank < before.bank);
                // A step back only if it is said, and after its reason.
                if (is_back) try testing.expect(is_restored);
                if (is_restored and before.bank != 0) try testing.expect(forking.told[reader][before.bank]);
                before.* = .{ .slot = frame.slot, .bank = frame.bank, .mark = frame.first_byte };
            },
            else => {},
        };
    }

    fn holding(forking: *const Forking, account: usize) Version {
        var found: Version = .{};
        for (forking.banks[0..forking.bank_count]) |each| {
            const mark = forking.marks[account][each.bank];
            if (mark == 0 or forking.is_dead[each.bank]) continue;
            if (each.slot > found.slot or (each.slot == found.slot and each.bank > found.bank)) found = .{ .slot = each.slot, .bank = each.bank, .mark = mark };
        }
        return found;
    }

    fn run(seed: u64) !u32 {
        var prng = std.Random.DefaultPrng.init(seed);
        var scene: Scene = try .initWithHistory(4 << 20, 1 << 20);
        defer scene.deinit();
        scene.engine.rollback_pace = .{ .accounts = 1, .ns_max = 0 };
        var forking: Forking = .{ .random = prng.random(), .scene = &scene };
        const first = try scene.connect(.disconnect);
        try scene.subscribe(first, &.{}, &.{key(100)});
        var in_parts: u32 = 0;
        for (0..400) |i| {
            try forking.step();
            if (scene.engine.is_rolling_back) in_parts += 1;
            if (i == 200) { // in the midst of it, as a rule
                const second = try scene.connect(.disconnect);
                try testing.expectEqual(0, scene.engine.edit(second.id, &.{
                    .op = .replace,
                    .bit = 1,
                    .takes_transactions = false,
                    .is_last = true,
                    .accounts = &.{},
                    .owners = &.{key(100)},
                    .program = &.{},
                    .wants_state = true,
                }));
            }
            for (0..scene.count) |reader| try forking.read(reader);
        }
        while (scene.engine.has_work) {
            scene.engine.pumpOn();
            for (0..scene.count) |reader| try forking.read(reader);
        }
        try testing.expect(!scene.engine.is_rolling_back);
        try scene.engine.state.?.verify();
        for (0..accounts) |account| {
            const expected = forking.holding(account);
            for (0..2) |reader| try testing.expectEqual(expected, forking.known[reader][account]);
        }
        return in_parts;
    }
};

test "a dead bank that is taken back in parts: consumers end with what holds, and never see a step back that is not said" {
    var in_parts: u32 = 0;
    for (0..300) |seed| in_parts += Forking.run(seed) catch |err| {
        std.debug.print("seed {d}\n", .{seed});
        return err;
    };
    try testing.expect(in_parts > 10_000);
}
