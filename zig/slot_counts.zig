//! slot_counts.zig: how many accounts and transactions belong to a slot, for the newest slots: what a sender published of
//! it, and what a connection lost of it, so that a slot frame can say both: of all that stands before it in the order.
//! May touch: its own table. Bounded: a slot's place is its number modulo the size, and a newcomer takes it over.

const std = @import("std");

const places = 512;

pub const Counts = struct {
    accounts: u64 = 0,
    transactions: u64 = 0,

    fn less(counts: Counts, other: Counts) Counts {
        return .{ .accounts = counts.accounts - other.accounts, .transactions = counts.transactions - other.transactions };
    }
};

pub const SlotCounts = struct {
    slots: [places]u64,
    counts: [places]Counts,

    const none = std.math.maxInt(u64);

    pub fn clear(table: *SlotCounts) void {
        @memset(&table.slots, none);
    }

    pub fn of(table: *SlotCounts, slot: u64) *Counts {
        const place = slot % places;
        if (table.slots[place] != slot) {
            table.slots[place] = slot;
            table.counts[place] = .{};
        }
        return &table.counts[place];
    }

    /// Zeros for a slot of which nothing is known.
    pub fn get(table: *const SlotCounts, slot: u64) Counts {
        const place = slot % places;
        return if (table.slots[place] == slot) table.counts[place] else .{};
    }
};

/// What one connection was not given when it was published. It is lost, or waits; what has waited comes late, or is lost.
///
/// A slot frame that waits is asked about twice. When it joins the queue, all that was missed so far stands before it in the
/// order. When it leaves, all that stood before it has come or never will; and nothing behind it has come yet. So what was
/// missed then, less what has come late by now, is what was lost of all before it, and of nothing behind it.
pub const Missing = struct {
    slots: [places]u64,
    /// The update that the place was taken for: of what came before it in the order nothing is known here.
    since: [places]u64,
    missed: [places]Counts,
    late: [places]Counts,

    pub fn clear(table: *Missing) void {
        @memset(&table.slots, SlotCounts.none);
    }

    /// An update was not given to it.
    pub fn miss(table: *Missing, slot: u64, sequence: u64) *Counts {
        const place = slot % places;
        if (table.slots[place] != slot) {
            table.slots[place] = slot;
            table.since[place] = sequence;
            table.missed[place] = .{};
            table.late[place] = .{};
        }
        return &table.missed[place];
    }

    /// One that was missed has come. Null: that is not known here, since another slot has needed the place.
    pub fn comeLate(table: *Missing, slot: u64, sequence: u64) ?*Counts {
        const place = slot % places;
        return if (table.knows(slot, sequence)) &table.late[place] else null;
    }

    /// What was missed of a slot so far.
    pub fn soFar(table: *const Missing, slot: u64) Counts {
        const place = slot % places;
        return if (table.slots[place] == slot) table.missed[place] else .{};
    }

    /// What was lost before a slot frame that is about to be given: of `missed` when it was published. Zeros if nothing is known.
    pub fn lostOf(table: *const Missing, slot: u64, sequence: u64, missed: Counts) Counts {
        return if (table.knows(slot, sequence)) missed.less(table.late[slot % places]) else .{};
    }

    fn knows(table: *const Missing, slot: u64, sequence: u64) bool {
        const place = slot % places;
        return table.slots[place] == slot and table.since[place] <= sequence;
    }
};

test "counts are kept by slot, until another slot needs the place" {
    const testing = std.testing;
    var table: SlotCounts = undefined;
    table.clear();
    table.of(5).accounts += 2;
    table.of(6).transactions += 1;
    try testing.expectEqual(Counts{ .accounts = 2 }, table.get(5));
    try testing.expectEqual(Counts{ .transactions = 1 }, table.get(6));
    try testing.expectEqual(Counts{}, table.get(5 + places));
    table.of(5 + places).accounts += 1;
    try testing.expectEqual(Counts{}, table.get(5));
}

test "what is lost behind a slot frame that waits is not said by it, what is lost in front of it is" {
    const testing = std.testing;
    var table: Missing = undefined;
    table.clear();
    // Three wait, and then the slot's frame; two behind it never come.
    for (1..4) |sequence| table.miss(5, sequence).accounts += 1;
    const missed = table.soFar(5);
    for (5..7) |sequence| table.miss(5, sequence).accounts += 1;
    // Of the three one is dropped; the others come.
    for (2..4) |sequence| table.comeLate(5, sequence).?.accounts += 1;
    try testing.expectEqual(Counts{ .accounts = 1 }, table.lostOf(5, 4, missed));
    // The next frame says all.
    try testing.expectEqual(Counts{ .accounts = 3 }, table.lostOf(5, 7, table.soFar(5)));
    try testing.expectEqual(Counts{}, table.soFar(6));
}

test "a slot whose place was needed says nothing of what came before it had it again" {
    const testing = std.testing;
    var table: Missing = undefined;
    table.clear();
    table.miss(5, 1).accounts += 1;
    const missed = table.soFar(5);
    table.miss(5 + places, 3).accounts += 1;
    try testing.expectEqual(Counts{}, table.lostOf(5, 2, missed));
    try testing.expectEqual(null, table.comeLate(5, 1));
    table.miss(5, 4).accounts += 1;
    try testing.expectEqual(null, table.comeLate(5, 1));
    try testing.expectEqual(Counts{}, table.lostOf(5, 2, missed));
    table.comeLate(5, 4).?.accounts += 1;
    try testing.expectEqual(Counts{}, table.lostOf(5, 5, table.soFar(5)));
}
