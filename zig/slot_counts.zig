//! slot_counts.zig: how many accounts and transactions belong to a slot, for the newest slots: what a sender published of
//! it, and what a connection lost of it, so that a slot frame can say both.
//! May touch: its own table. Bounded: a slot's place is its number modulo the size, and a newcomer takes it over.

const std = @import("std");

const places = 512;

pub const Counts = struct { accounts: u64 = 0, transactions: u64 = 0 };

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
