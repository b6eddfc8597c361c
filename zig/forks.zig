//! forks.zig: which banks there are, which of them are final, and which never were: from the slot updates that a sender
//! publishes.
//! May touch: its own tables. May not touch: accounts: each bank has a word for whoever keeps what it wrote.
//! Bounded: some 1,000 banks that are not final, and the parents of some 2,000 slots. What is older than that counts as
//! final: a fork that long has never been.
//! Source of the statuses: Yellowstone's `SlotStatus`; a finalized slot makes its ancestors final, and what its chain
//! skips never was.

const std = @import("std");
const assert = std.debug.assert;

pub const banks_max = 1024;
const slots_max = 2048;

pub const Bank = struct {
    slot: u64,
    /// 0: unknown.
    bank_id: u64,
    /// The caller's: the versions of accounts that it wrote, and how many of them are their account's newest.
    first: u32,
    newest_count: u32 = 0,
    state: enum(u8) { free, alive, dead },
    /// It is dead, and not all that it wrote is taken back, or told.
    is_pending: bool = false,
    /// Its end was told.
    is_told: bool = false,
    /// The caller's: it has forgotten accounts whose newest version this bank had written.
    has_forgotten: bool = false,
};

const Slot = struct {
    slot: u64,
    parent: u64,
    is_parent_known: bool,
    is_final: bool,
};

const no_slot = std.math.maxInt(u64);

/// What becomes of a write.
pub const Standing = union(enum) {
    /// Its slot is final, or older than what is known.
    final,
    /// Its bank is dead: it never was.
    dead,
    /// Its bank, by its number, may become either.
    open: u16,
};

/// What a slot update did. Banks by their numbers: of those that are alive, who became final and who is to be taken back.
pub const Verdict = struct {
    final: [banks_max]u16 = undefined,
    final_count: u16 = 0,
    dead: [banks_max]u16 = undefined,
    dead_count: u16 = 0,

    pub fn finals(verdict: *const Verdict) []const u16 {
        return verdict.final[0..verdict.final_count];
    }

    /// Newest first.
    pub fn deads(verdict: *const Verdict) []const u16 {
        return verdict.dead[0..verdict.dead_count];
    }
};

/// A slot update by its parts.
pub const Told = struct { slot: u64, parent: u64 = 0, bank_id: u64 = 0, status: u32 };

/// How much there is to tell at most.
pub const tell_count = slots_max + banks_max + 1;

pub const status_processed = 0;
pub const status_finalized = 2;
const status_dead = 6;

pub const Forks = struct {
    banks: [banks_max]Bank,
    bank_count: u32,
    slots: [slots_max]Slot,
    /// The newest final slot; `no_slot` before the first.
    root: u64,
    /// From here to the root every final slot is known; what is between them never was.
    chain_from: u64,

    pub fn clear(forks: *Forks) void {
        for (&forks.banks) |*bank| bank.* = .{ .slot = 0, .bank_id = 0, .first = 0, .state = .free };
        for (&forks.slots) |*slot| slot.* = .{ .slot = no_slot, .parent = 0, .is_parent_known = false, .is_final = false };
        forks.bank_count = 0;
        forks.root = no_slot;
        forks.chain_from = 0;
    }

    fn isRootKnown(forks: *const Forks) bool {
        return forks.root != no_slot;
    }

    fn slotAt(forks: *Forks, number: u64) *Slot {
        const slot = &forks.slots[number % slots_max];
        if (slot.slot != number) {
            slot.* = .{ .slot = number, .parent = 0, .is_parent_known = false, .is_final = false };
        }
        return slot;
    }

    fn known(forks: *const Forks, number: u64) ?*const Slot {
        const slot = &forks.slots[number % slots_max];
        return if (slot.slot == number) slot else null;
    }

    /// Whether a write of the bank never was.
    pub fn isDead(forks: *const Forks, slot: u64, bank_id: u64) bool {
        if (forks.isRootKnown() and slot <= forks.root) return forks.isSkipped(slot);
        if (bank_id == 0) return false; // the same slot may be tried again
        const number = forks.find(slot, bank_id) orelse return false;
        return forks.banks[number].state == .dead;
    }

    fn isSkipped(forks: *const Forks, slot: u64) bool {
        // The table holds newer slots, too: half of it is certainly there.
        if (slot < forks.chain_from or forks.root - slot >= slots_max / 2) return false;
        const entry = forks.known(slot) orelse return true;
        return !entry.is_final;
    }

    fn find(forks: *const Forks, slot: u64, bank_id: u64) ?u16 {
        if (forks.bank_count == 0) return null;
        const start = slot % banks_max;
        for (0..probes) |step| {
            const number = (start + step) % banks_max;
            const bank = &forks.banks[number];
            if (bank.state != .free and bank.slot == slot and bank.bank_id == bank_id) return @intCast(number);
        }
        return null;
    }

    /// Banks stand near the place that their slot leads to: within that many.
    const probes = 64;

    /// Where a write stands. A new bank takes a place; if there is none near, `evicted` is the bank that has to count as
    /// final to make one.
    pub fn standing(forks: *Forks, slot: u64, bank_id: u64, evicted: *?u16) Standing {
        evicted.* = null;
        if (forks.isDead(slot, bank_id)) return .dead;
        if (forks.isRootKnown() and slot <= forks.root) return .final;
        if (forks.find(slot, bank_id)) |number| return if (forks.banks[number].state == .dead) .dead else .{ .open = number };
        const start = slot % banks_max;
        var oldest: ?usize = null;
        var chosen: ?usize = null;
        for (0..probes) |step| {
            const number = (start + step) % banks_max;
            const bank = &forks.banks[number];
            if (bank.state == .free) {
                chosen = number;
                break;
            }
            if (!bank.is_pending and (oldest == null or bank.slot < forks.banks[oldest.?].slot)) oldest = number;
        }
        const number = chosen orelse blk: {
            const candidate = oldest orelse return .final;
            // A write of long ago: there is no room to find out.
            if (slot < forks.banks[candidate].slot) return .final;
            if (forks.banks[candidate].state == .alive) evicted.* = @intCast(candidate);
            break :blk candidate;
        };
        if (evicted.* == null) forks.open(@intCast(number), slot, bank_id);
        return .{ .open = @intCast(number) };
    }

    /// Gives a place to a bank. After `standing` has named one to be evicted, once that has nothing left.
    pub fn open(forks: *Forks, number: u16, slot: u64, bank_id: u64) void {
        const bank = &forks.banks[number];
        assert(bank.first == 0);
        if (bank.state == .free) forks.bank_count += 1;
        bank.* = .{ .slot = slot, .bank_id = bank_id, .first = 0, .state = .alive };
    }

    fn free(forks: *Forks, number: u16) void {
        const bank = &forks.banks[number];
        if (bank.state != .free) forks.bank_count -= 1;
        bank.state = .free;
    }

    /// A slot update. Banks in the verdict keep their places until `settle`.
    pub fn note(forks: *Forks, slot: u64, parent: u64, bank_id: u64, status: u32, verdict: *Verdict) void {
        verdict.final_count = 0;
        verdict.dead_count = 0;
        const is_past = forks.isRootKnown() and slot <= forks.root;
        if (!is_past and parent < slot and (parent != 0 or slot == 1)) {
            const entry = forks.slotAt(slot);
            entry.parent = parent;
            entry.is_parent_known = true;
        }
        if (is_past) return;
        if (status == status_dead) forks.noteDead(slot, bank_id, verdict);
        if (status == status_finalized) forks.noteFinal(slot, bank_id, verdict);
        sortNewestFirst(forks, verdict.dead[0..verdict.dead_count]);
    }

    fn noteDead(forks: *Forks, slot: u64, bank_id: u64, verdict: *Verdict) void {
        for (&forks.banks, 0..) |*bank, number| {
            if (bank.state != .alive or bank.slot != slot) continue;
            if (bank_id != 0 and bank.bank_id != 0 and bank.bank_id != bank_id) continue;
            verdict.dead[verdict.dead_count] = @intCast(number);
            verdict.dead_count += 1;
        }
        if (bank_id == 0 or forks.find(slot, bank_id) != null) return;
        // It is dead before it wrote anything that we know: what is on its way never was.
        var evicted: ?u16 = null;
        switch (forks.standing(slot, bank_id, &evicted)) {
            .open => |number| if (evicted == null) {
                forks.banks[number].state = .dead;
            },
            else => {},
        }
    }

    fn noteFinal(forks: *Forks, slot: u64, bank_id: u64, verdict: *Verdict) void {
        const root_before = forks.root;
        var at = slot;
        var lowest = slot;
        var is_connected = false;
        for (0..slots_max) |_| {
            const entry = forks.slotAt(at);
            entry.is_final = true;
            lowest = at;
            if (!entry.is_parent_known) break;
            if (root_before != no_slot and entry.parent <= root_before) {
                is_connected = true;
                lowest = root_before + 1;
                break;
            }
            if (slot - entry.parent >= slots_max / 2) break;
            at = entry.parent;
        }
        forks.root = slot;
        if (!is_connected) forks.chain_from = lowest;
        for (&forks.banks, 0..) |*bank, number| {
            if (bank.state == .free or bank.slot > slot) continue;
            if (bank.state == .dead) {
                if (!bank.is_pending) forks.free(@intCast(number));
                continue;
            }
            const entry = forks.known(bank.slot);
            const is_final = if (entry) |one| one.is_final else false;
            const is_other = bank.slot == slot and bank_id != 0 and bank.bank_id != 0 and bank.bank_id != bank_id;
            if (is_other or (!is_final and bank.slot >= lowest)) {
                verdict.dead[verdict.dead_count] = @intCast(number);
                verdict.dead_count += 1;
            } else {
                verdict.final[verdict.final_count] = @intCast(number);
                verdict.final_count += 1;
            }
        }
    }

    fn sortNewestFirst(forks: *const Forks, numbers: []u16) void {
        // Heap sort, here and in snapshots.zig: the others of std are 13 and 21 KB of code, and no two banks are equal.
        std.sort.heap(u16, numbers, forks, struct {
            fn isBefore(context: *const Forks, a: u16, b: u16) bool {
                return isNewer(&context.banks[a], &context.banks[b]);
            }
        }.isBefore);
    }

    /// A bank of a verdict is dead. What it wrote, if anything, is still to be taken back or told.
    pub fn condemn(forks: *Forks, number: u16) void {
        const bank = &forks.banks[number];
        bank.state = .dead;
        bank.is_pending = bank.first != 0 or bank.has_forgotten;
        bank.is_told = false;
    }

    /// The newest bank of which not all is taken back.
    pub fn nextPending(forks: *const Forks) ?u16 {
        var newest: ?u16 = null;
        for (&forks.banks, 0..) |*bank, number| {
            if (!bank.is_pending) continue;
            if (newest) |other| if (isNewer(&forks.banks[other], bank)) continue;
            newest = @intCast(number);
        }
        return newest;
    }

    /// Whether what a bank wrote is still to be taken back. @param bank Its number + 1, or 0 for none.
    pub fn isPending(forks: *const Forks, bank: u32) bool {
        return bank != 0 and forks.banks[bank - 1].is_pending;
    }

    /// All that it wrote is taken back.
    pub fn finish(forks: *Forks, number: u16) void {
        const bank = &forks.banks[number];
        assert(bank.first == 0);
        bank.is_pending = false;
        forks.bury(number);
    }

    /// It is remembered, if it can be told from another try at the same slot, until that slot is past.
    fn bury(forks: *Forks, number: u16) void {
        const bank = &forks.banks[number];
        if (bank.bank_id != 0 and forks.isOpen(bank.slot)) bank.state = .dead else forks.free(number);
    }

    /// What the verdict asked for is done, but for what is pending: nothing of these banks is kept any longer.
    pub fn settle(forks: *Forks, verdict: *const Verdict) void {
        for (verdict.finals()) |number| {
            assert(forks.banks[number].first == 0);
            forks.free(number);
        }
        for (verdict.deads()) |number| {
            const bank = &forks.banks[number];
            if (bank.is_pending) continue;
            assert(bank.first == 0);
            forks.bury(number);
        }
    }

    /// What another one has to be told, one after the other, so as to know the same: parents, then banks that are dead, and last the
    /// newest final slot, which makes its ancestors final. Null: nothing at this place.
    pub fn tell(forks: *const Forks, at: u32) ?Told {
        if (at < slots_max) {
            const entry = &forks.slots[at];
            if (entry.slot == no_slot or !entry.is_parent_known) return null;
            return .{ .slot = entry.slot, .parent = entry.parent, .status = status_processed };
        }
        if (at < slots_max + banks_max) {
            const bank = &forks.banks[at - slots_max];
            return if (bank.state == .dead) .{ .slot = bank.slot, .bank_id = bank.bank_id, .status = status_dead } else null;
        }
        return if (forks.isRootKnown()) .{ .slot = forks.root, .status = status_finalized } else null;
    }

    fn isOpen(forks: *const Forks, slot: u64) bool {
        return !forks.isRootKnown() or slot > forks.root;
    }
};

fn isNewer(left: *const Bank, right: *const Bank) bool {
    return if (left.slot != right.slot) left.slot > right.slot else left.bank_id > right.bank_id;
}

const testing = std.testing;

fn testForks() !*Forks {
    const forks = try testing.allocator.create(Forks);
    forks.clear();
    return forks;
}

fn testOpen(forks: *Forks, slot: u64, bank_id: u64) u16 {
    var evicted: ?u16 = null;
    return forks.standing(slot, bank_id, &evicted).open;
}

test "a finalized slot makes its ancestors final, and what its chain skips dead; what is older than is known is final" {
    const forks = try testForks();
    defer testing.allocator.destroy(forks);
    var verdict: Verdict = .{};
    const old = testOpen(forks, 90, 0);
    const a = testOpen(forks, 100, 1);
    const skipped = testOpen(forks, 101, 2);
    const b = testOpen(forks, 102, 3);
    const ahead = testOpen(forks, 103, 4);
    forks.note(101, 100, 2, 0, &verdict);
    forks.note(102, 100, 3, 0, &verdict);
    forks.note(103, 102, 4, 0, &verdict);
    try testing.expectEqual(0, verdict.final_count + verdict.dead_count);
    forks.note(102, 100, 3, status_finalized, &verdict);
    try testing.expectEqualSlices(u16, &.{skipped}, verdict.deads());
    try testing.expectEqual(3, verdict.final_count);
    for ([_]u16{ old, a, b }) |number| try testing.expect(std.mem.indexOfScalar(u16, verdict.finals(), number) != null);
    forks.settle(&verdict);
    try testing.expect(forks.isDead(101, 9));
    try testing.expect(!forks.isDead(100, 9));
    try testing.expect(!forks.isDead(99, 9)); // before anything was known
    try testing.expectEqual(ahead, testOpen(forks, 103, 4));
    var evicted: ?u16 = null;
    try testing.expectEqual(Standing.final, forks.standing(100, 1, &evicted));
    try testing.expectEqual(Standing.dead, forks.standing(101, 2, &evicted));
}

test "a dead bank stays dead; another bank of its slot is another try, and one without a number may be" {
    const forks = try testForks();
    defer testing.allocator.destroy(forks);
    var verdict: Verdict = .{};
    const one = testOpen(forks, 7, 5);
    forks.note(7, 6, 5, status_dead, &verdict);
    try testing.expectEqualSlices(u16, &.{one}, verdict.deads());
    forks.settle(&verdict);
    try testing.expect(forks.isDead(7, 5));
    try testing.expect(!forks.isDead(7, 6));
    _ = testOpen(forks, 7, 6);
    const unknown = testOpen(forks, 8, 0);
    forks.note(8, 7, 3, status_dead, &verdict);
    try testing.expectEqualSlices(u16, &.{unknown}, verdict.deads());
    forks.settle(&verdict);
    try testing.expect(!forks.isDead(8, 0));
    try testing.expect(forks.isDead(8, 3)); // told before it wrote anything
}

test "without a word of finality the oldest bank makes room" {
    const forks = try testForks();
    defer testing.allocator.destroy(forks);
    var evictions: usize = 0;
    for (0..5000) |slot| {
        var evicted: ?u16 = null;
        const standing = forks.standing(slot, 0, &evicted);
        if (evicted) |number| {
            evictions += 1;
            try testing.expect(forks.banks[number].slot < slot - banks_max / 2);
            forks.open(number, slot, 0);
        }
        try testing.expect(standing == .open);
    }
    try testing.expect(evictions >= 5000 - banks_max);
    try testing.expect(forks.bank_count <= banks_max);
}
