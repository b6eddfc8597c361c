//! state_test.zig: the store against a model that keeps every version ever written and works out what holds.

const std = @import("std");
const layout = @import("layout.zig");
const state_file = @import("state.zig");
const forks = @import("forks.zig");
const rollback = @import("rollback.zig");
const tracker = @import("tracker.zig");
const State = state_file.State;
const testing = std.testing;

const Account = extern struct { header: layout.FrameHeader, body: layout.AccountBody };

fn key(n: u64) state_file.Key {
    var bytes: state_file.Key = @splat(0);
    std.mem.writeInt(u64, bytes[0..8], n, .little);
    return bytes;
}

const Write = struct { account: u64, order: tracker.Version, mark: u64, is_final: bool };

/// Slots are a tree; a bank's number is unique, so the model knows of each slot whether it is final, dead or open.
const Model = struct {
    writes: std.ArrayList(Write) = .empty,
    parents: std.AutoHashMapUnmanaged(u64, u64) = .empty,
    dead_banks: std.AutoHashMapUnmanaged([2]u64, void) = .empty,
    root: ?u64 = null,

    fn deinit(model: *Model) void {
        model.writes.deinit(testing.allocator);
        model.parents.deinit(testing.allocator);
        model.dead_banks.deinit(testing.allocator);
    }

    fn isInChain(model: *const Model, slot: u64, tip: u64) bool {
        var at = tip;
        while (at > slot) at = model.parents.get(at) orelse return true; // beyond what is known: final
        return at == slot;
    }

    fn isDead(model: *const Model, order: tracker.Version) bool {
        if (model.dead_banks.contains(.{ order.slot, order.bank_id })) return true;
        const root = model.root orelse return false;
        return order.slot <= root and !model.isInChain(order.slot, root);
    }

    fn write(model: *Model, one: Write) !void {
        if (model.isDead(one.order)) return;
        for (model.writes.items) |*other| {
            if (other.account != one.account) continue;
            const is_same_bank = other.order.source_epoch == one.order.source_epoch and other.order.slot == one.order.slot and other.order.bank_id == one.order.bank_id;
            if (!is_same_bank) continue;
            if (one.order.write_version >= other.order.write_version) other.* = one;
            return;
        }
        try model.writes.append(testing.allocator, one);
    }

    /// What is dead goes for good.
    fn clean(model: *Model) void {
        var i: usize = 0;
        while (i < model.writes.items.len) {
            if (model.isDead(model.writes.items[i].order)) _ = model.writes.swapRemove(i) else i += 1;
        }
    }

    fn newest(model: *const Model, account: u64) ?Write {
        var best: ?Write = null;
        for (model.writes.items) |one| {
            if (one.account == account and (best == null or best.?.order.isOlderThan(one.order))) best = one;
        }
        return best;
    }

    /// Versions that a newer final one has made worthless can't come back, so they need not be kept here either.
    fn prune(model: *Model) void {
        const root = model.root orelse return;
        var i: usize = 0;
        outer: while (i < model.writes.items.len) {
            const one = model.writes.items[i];
            for (model.writes.items) |other| {
                if (other.account != one.account or other.order.slot > root) continue;
                if (one.order.isOlderThan(other.order)) {
                    _ = model.writes.swapRemove(i);
                    continue :outer;
                }
            }
            i += 1;
        }
    }
};

fn put(state: *State, account: u64, order: tracker.Version, mark: u64, size: usize) void {
    var head = std.mem.zeroes(Account);
    head.header.kind = @backingInt(layout.FrameKind.account);
    head.body.pubkey = key(account);
    head.body.slot = order.slot;
    head.body.bank_id = order.bank_id;
    head.body.write_version = order.write_version;
    head.body.source_epoch = order.source_epoch;
    head.body.lamports = mark;
    var data: [4096]u8 = undefined;
    @memset(data[0..size], @truncate(mark));
    head.body.data_length = @intCast(size);
    state.put(std.mem.asBytes(&head), data[0..size], mark, true);
}

fn run(seed: u64, steps: usize, size_max: usize, is_bounded: bool) !void {
    errdefer std.debug.print("seed {d}\n", .{seed});
    var prng: std.Random.DefaultPrng = .init(seed);
    const random = prng.random();
    var state: State = try .init(.{}, .{ seed, 1 }, size_max, true);
    defer state.deinit();
    var hand_overs: usize = 0;
    var model: Model = .{};
    defer model.deinit();
    const verdict = try testing.allocator.create(forks.Verdict);
    defer testing.allocator.destroy(verdict);
    verdict.* = .{};
    var tip: u64 = 100; // of the chain that will be final
    var last: u64 = 100;
    var bank: u64 = 0;
    var banks: [64][2]u64 = undefined;
    var bank_count: usize = 0;
    banks[0] = .{ 100, 0 };
    bank_count = 1;
    const accounts: u64 = if (is_bounded) 3000 else 12;
    for (0..steps) |step| {
        errdefer std.debug.print("step {d}\n", .{step});
        switch (random.uintLessThan(u8, 100)) {
            0...79 => {
                const where = banks[random.uintLessThan(usize, bank_count)];
                const order: tracker.Version = .{
                    .source_epoch = @intFromBool(random.uintLessThan(u8, 200) == 0),
                    .slot = where[0],
                    .bank_id = where[1],
                    .write_version = random.uintLessThan(u64, 5),
                };
                const account = random.uintLessThan(u64, accounts);
                const mark = step + 1;
                put(&state, account, order, mark, random.uintLessThan(usize, if (is_bounded) 4096 else 32));
                if (!is_bounded) try model.write(.{ .account = account, .order = order, .mark = mark, .is_final = false });
            },
            80...91 => {
                // A new slot, on the main chain or beside it.
                last += 1 + random.uintLessThan(u64, 2);
                bank += 1;
                const is_main = random.uintLessThan(u8, 4) != 0;
                const parent = if (is_main) tip else banks[random.uintLessThan(usize, bank_count)][0];
                note(&state, verdict, last, parent, bank, 0);
                try model.parents.put(testing.allocator, last, parent);
                if (is_main) tip = last;
                if (bank_count == banks.len) {
                    std.mem.copyForwards([2]u64, banks[0 .. banks.len - 1], banks[1..]);
                    bank_count -= 1;
                }
                banks[bank_count] = .{ last, bank };
                bank_count += 1;
            },
            92...94 => {
                const where = banks[random.uintLessThan(usize, bank_count)];
                const root = model.root orelse 0;
                if (where[1] == 0 or where[0] <= root or model.isInChain(where[0], tip)) continue; // that would be a lie
                note(&state, verdict, where[0], model.parents.get(where[0]) orelse 0, where[1], 6);
                try model.dead_banks.put(testing.allocator, where, {});
                model.clean();
            },
            else => {
                // Something on the main chain is final.
                var final = tip;
                for (0..random.uintLessThan(usize, 20)) |_| final = model.parents.get(final) orelse break;
                if (final <= model.root orelse 0) continue;
                note(&state, verdict, final, model.parents.get(final) orelse 0, 0, 2);
                model.root = final;
                model.clean();
                model.prune();
            },
        }
        if (!is_bounded and random.uintLessThan(u8, 200) == 0) {
            const next = try handOver(&state, verdict, seed);
            state.deinit();
            state = next;
            hand_overs += 1;
        }
        if (!is_bounded) for (0..accounts) |account| {
            const expected = model.newest(account);
            const record = state.find(&key(account));
            try testing.expectEqual(expected != null, record != null);
            if (expected) |write| try testing.expectEqual(write.mark, state.versionOf(record.?.newest).body().lamports);
        };
        if (step % 500 == 0) try state.verify();
        if (is_bounded) try testing.expect(state.usedBytes() <= size_max);
    }
    try state.verify();
    if (is_bounded) try testing.expect(state.evicted > 0) else try testing.expect(hand_overs > 0);
}

/// Another store is told what this one knows, as by a walk for who takes over.
fn handOver(state: *State, verdict: *forks.Verdict, seed: u64) !State {
    var next: State = try .init(.{}, .{ seed, 2 }, 64 << 20, true);
    for (0..state.record_count) |place| {
        const record = state.at(@intCast(place)) orelse continue;
        var id = record.newest;
        while (id != 0) : (id = state.versionOf(id).older) {
            const version = state.versionOf(id);
            next.put(version.head(), version.tail(), 0, true);
        }
    }
    for (0..forks.tell_count) |at| {
        const told = state.forks.tell(@intCast(at)) orelse continue;
        note(&next, verdict, told.slot, told.parent, told.bank_id, told.status);
    }
    try next.verify();
    return next;
}

/// What a consumer keeps that is told of each rollback, where the store forgets. The sender says of a bank only that something
/// is forgotten; here it counts for those accounts that it is true of.
const Follower = struct {
    /// By account: the marks that it has; null: none.
    known: [follower_accounts]?u64 = @splat(null),
    order: [follower_accounts]tracker.Version = undefined,
    /// That it can't be trusted.
    told: [follower_accounts]bool = @splat(false),
};

const follower_accounts = 40;

fn follow(seed: u64, steps: usize) !Follower {
    errdefer std.debug.print("seed {d}\n", .{seed});
    var prng: std.Random.DefaultPrng = .init(seed);
    const random = prng.random();
    var state: State = try .init(.{}, .{ seed, 1 }, 4 << 20, true);
    defer state.deinit();
    var model: Model = .{};
    defer model.deinit();
    const verdict = try testing.allocator.create(forks.Verdict);
    defer testing.allocator.destroy(verdict);
    verdict.* = .{};
    var follower: Follower = .{};
    var slot: u64 = 100;
    var parent: u64 = 99;
    var chain: [8]u64 = @splat(99);
    // Few slots are long ones, in which accounts are written and forgotten.
    const slot_changes: u16 = if (seed % 2 == 0) 10 else 300;
    const weights = [_]u16{ 9_000, 500, slot_changes / 2, slot_changes / 2, slot_changes / 3 };
    const Step = enum { fill, write, next, dead, final };
    for (0..steps) |step| {
        errdefer std.debug.print("step {d}\n", .{step});
        const bank = slot; // each slot is tried once
        switch (@as(Step, @fromBackingInt(@intCast(random.weightedIndex(u16, &weights))))) {
            // Large ones that nobody follows push the others out.
            .fill => put(&state, follower_accounts + random.uintLessThan(u64, 3000), .{ .source_epoch = 0, .slot = slot, .bank_id = bank, .write_version = 0 }, 1, 4000),
            .write => {
                const account = random.uintLessThan(u64, follower_accounts);
                const is_late = random.uintLessThan(u8, 4) == 0;
                const at = if (is_late) chain[random.uintLessThan(usize, chain.len)] else slot;
                const order: tracker.Version = .{ .source_epoch = 0, .slot = at, .bank_id = at, .write_version = step };
                const record = state.find(&key(account));
                // An older one is not published, as far as the store knows; and the follower compares.
                const is_published = record == null or !order.isOlderThan(versionAt(&state, record.?.newest));
                put(&state, account, order, step + 1, 20);
                try model.write(.{ .account = account, .order = order, .mark = step + 1, .is_final = false });
                if (!is_published) continue;
                if (follower.known[account] != null and order.isOlderThan(follower.order[account])) continue;
                follower.known[account] = step + 1;
                follower.order[account] = order;
            },
            .next => {
                note(&state, verdict, slot, parent, bank, 0);
                try model.parents.put(testing.allocator, slot, parent);
                parent = slot;
                chain[@intCast(slot % chain.len)] = slot;
                slot += 1;
            },
            .dead => {
                // The bank of this moment is dead. What the sender says of that, as in rollback.zig.
                for (&state.forks.banks) |*one| {
                    if (one.state != .alive or one.slot != slot) continue;
                    if (one.has_forgotten) for (&follower.told, 0..) |*is_told, account| {
                        // What the follower has of this bank the store has not.
                        if (follower.known[account] == null or follower.order[account].slot != slot) continue;
                        const record = state.find(&key(account));
                        if (record == null or versionAt(&state, record.?.newest).slot != slot) is_told.* = true;
                    };
                    var id = one.first;
                    while (id != 0) : (id = state.versionOf(id).bank_next) {
                        const place = state.versionOf(id).record;
                        const record = state.at(place).?;
                        if (record.newest != id) continue;
                        const account = std.mem.readInt(u64, state.versionOf(id).body().pubkey[0..8], .little);
                        if (account >= follower_accounts) continue;
                        if (record.is_cut) follower.told[account] = true;
                        const older = state.versionOf(id).older;
                        follower.known[account] = null;
                        if (older == 0) continue;
                        follower.known[account] = state.versionOf(older).body().lamports;
                        follower.order[account] = versionAt(&state, older);
                    }
                }
                note(&state, verdict, slot, parent, bank, 6);
                try model.dead_banks.put(testing.allocator, .{ slot, bank }, {});
                model.clean();
                slot += 1;
            },
            .final => {
                note(&state, verdict, parent, model.parents.get(parent) orelse 0, parent, 2);
                model.root = parent;
                model.clean();
                model.prune();
            },
        }
        for (0..follower_accounts) |account| {
            if (follower.told[account]) continue;
            const expected: ?u64 = if (model.newest(account)) |write| write.mark else null;
            try testing.expectEqual(expected, follower.known[account]);
        }
    }
    return follower;
}

fn versionAt(state: *State, id: state_file.Id) tracker.Version {
    return state_file.orderOf(state.versionOf(id).body());
}

fn note(state: *State, verdict: *forks.Verdict, slot: u64, parent: u64, bank_id: u64, status: u32) void {
    var body = std.mem.zeroes(layout.SlotBody);
    body.slot = slot;
    body.parent = parent;
    body.bank_id = bank_id;
    body.status = status;
    rollback.seedSlot(state, verdict, &body);
}

test "the newest version that holds is the model's, through forks, dead banks and finality" {
    for (0..20) |seed| try run(seed, 5_000, 64 << 20, false);
}

test "a store that is too small forgets, and its books stay true" {
    for (0..3) |seed| try run(100 + seed, 20_000, 4 << 20, true);
}

test "who follows what is said of dead banks knows what holds, or is told that some is forgotten" {
    var told: usize = 0;
    for (0..40) |seed| {
        const follower = try follow(500 + seed, 8_000);
        told += std.mem.count(bool, &follower.told, &.{true});
    }
    try testing.expect(told > 100 and told < 40 * follower_accounts);
}
