//! tracker.zig: what a sender remembers of the accounts that filters of its consumers ask about: the newest version, a
//! digest of the content, and which filters matched last, so that it can tell a write without a change, an older version
//! after a newer one, and an account that has left a filter.
//! May touch: its own memory. May not touch: consumers, the index.
//! Bounded: when it is full, the account that nothing was published of for longest goes (the clock algorithm). What is
//! forgotten counts as new: a filter that asks for changes gets one update too many, never one too few.

const std = @import("std");
const layout = @import("layout.zig");
const key_table = @import("key_table.zig");
const Pages = @import("span.zig").Pages;
const Span = @import("span.zig").Span;
const KeyTable = key_table.KeyTable;
const assert = std.debug.assert;

pub const Key = key_table.Key;
const SipHash = std.crypto.auth.siphash.SipHash64(1, 3);

/// A version of an account, in the order in which they are compared (design D14).
pub const Version = struct {
    source_epoch: u32,
    slot: u64,
    bank_id: u64,
    write_version: u64,

    pub fn isOlderThan(version: Version, other: Version) bool {
        if (version.source_epoch != other.source_epoch) return version.source_epoch < other.source_epoch;
        if (version.slot != other.slot) return version.slot < other.slot;
        if (version.bank_id != other.bank_id) return version.bank_id < other.bank_id;
        return version.write_version < other.write_version;
    }
};

/// A filter by its number and the count of those that have had this number before.
pub const FilterRef = struct { id: u16, generation: u16 };

/// Filters that one account can be remembered to be in. Beyond, it leaves them without a word (docs/protocol.md).
pub const filters_max = 8;

pub const Record = struct {
    version: Version,
    /// Null: nobody has asked about changes since.
    digest: ?u64,
    /// `Tracker.era` when the digest was made.
    era: u32,
    filters: [filters_max]FilterRef,
    filter_count: u8,
    /// Published since the clock's hand was here.
    is_recent: bool,
    /// Its key's, so that forgetting it asks for no more than where that stands.
    hash: u64,

    pub fn matched(record: *const Record) []const FilterRef {
        return record.filters[0..record.filter_count];
    }
};

/// How many records before it is there the clock's hand asks for what forgetting one reads.
const hand_ahead = 16;

pub const Tracker = struct {
    table: KeyTable,
    /// At the index of the key in the table: no key is ever taken out, but replaced.
    records: Span(Record),
    /// Where the clock's hand is, in the order of the table.
    hand: u32 = 0,
    seed: [16]u8,
    /// Somebody published without looking here, since no filter asked; so digests of this era say nothing any more once a
    /// filter asks again.
    is_blind: bool = false,
    era: u32 = 0,

    pub fn init(pages: Pages, seed: [2]u64, accounts_max: u32) error{OutOfMemory}!Tracker {
        var table: KeyTable = try .init(pages, seed, accounts_max);
        errdefer table.deinit();
        return .{ .table = table, .records = try .init(pages, accounts_max), .seed = @bitCast(seed) };
    }

    pub fn deinit(tracker: *Tracker) void {
        tracker.table.deinit();
        tracker.records.deinit();
    }

    pub fn find(tracker: *Tracker, key: *const Key) ?*Record {
        return tracker.findHashed(tracker.hashOf(key), key);
    }

    pub fn hashOf(tracker: *const Tracker, key: *const Key) u64 {
        return tracker.table.hashOf(key);
    }

    pub fn findHashed(tracker: *Tracker, hash: u64, key: *const Key) ?*Record {
        const index = tracker.table.findHashed(hash, key) orelse return null;
        return &tracker.records.items[index];
    }

    pub const Got = struct { record: *Record, is_new: bool };

    /// The account's record, made if there is none: then it holds nothing yet. Null: there is no memory for it.
    pub fn get(tracker: *Tracker, key: *const Key) ?Got {
        return tracker.getHashed(tracker.hashOf(key), key);
    }

    pub fn getHashed(tracker: *Tracker, hash: u64, key: *const Key) ?Got {
        if (tracker.findHashed(hash, key)) |record| return .{ .record = record, .is_new = false };
        const index = tracker.add(hash, key) catch blk: {
            if (tracker.table.len == 0) return null;
            const oldest = tracker.findOldest();
            tracker.table.replaceAt(oldest, tracker.records.items[oldest].hash, hash, key) catch return null;
            break :blk oldest;
        };
        const record = &tracker.records.items[index];
        record.* = .{
            .hash = hash,
            .version = .{ .source_epoch = 0, .slot = 0, .bank_id = 0, .write_version = 0 },
            .digest = null,
            .era = tracker.era,
            .filters = undefined,
            .filter_count = 0,
            .is_recent = true,
        };
        return .{ .record = record, .is_new = true };
    }

    fn add(tracker: *Tracker, hash: u64, key: *const Key) error{ OutOfMemory, KeysFull }!u32 {
        const index = tracker.table.len;
        try tracker.table.prepare(hash);
        try tracker.records.ensure(index + 1);
        tracker.table.insert(hash, key, index);
        return index;
    }

    // For many keys, whose reads from memory overlap: each step for all of them before the next one.

    pub fn askForKey(tracker: *const Tracker, hash: u64) void {
        tracker.table.prefetchPlaces(hash);
    }

    pub fn askForRecord(tracker: *const Tracker, hash: u64) void {
        const index = tracker.table.guess(hash) orelse return;
        @prefetch(&tracker.table.keys.items[index], .{});
        const record: [*]const u8 = @ptrCast(&tracker.records.items[index]);
        @prefetch(record, .{ .rw = .write });
        @prefetch(record + @sizeOf(Record) - 1, .{ .rw = .write });
    }

    /// From now on every write is looked at.
    pub fn openEyes(tracker: *Tracker) void {
        if (tracker.is_blind) tracker.era +%= 1;
        tracker.is_blind = false;
    }

    /// Returns its index.
    fn findOldest(tracker: *Tracker) u32 {
        // Twice round at most: the first time makes all of them old.
        for (0..2 * @as(usize, tracker.table.len) + 1) |_| {
            if (tracker.hand >= tracker.table.len) tracker.hand = 0;
            const index = tracker.hand;
            tracker.hand += 1;
            const ahead = index + hand_ahead;
            if (ahead < tracker.table.len) tracker.table.prefetchPlaces(tracker.records.items[ahead].hash);
            const record = &tracker.records.items[index];
            if (!record.is_recent) return index;
            record.is_recent = false;
        }
        unreachable;
    }

    /// Of all that a consumer can see of an account, its version aside.
    pub fn digestOf(tracker: *const Tracker, body: *const layout.AccountBody, flags: u16, data: []const u8) u64 {
        var hash = SipHash.init(&tracker.seed);
        hash.update(&body.owner);
        hash.update(std.mem.asBytes(&body.lamports));
        hash.update(std.mem.asBytes(&body.rent_epoch));
        hash.update(&.{@intFromBool(flags & layout.frame_flag_executable != 0)});
        hash.update(data);
        return hash.finalInt();
    }
};

const testing = std.testing;

fn testKey(n: u32) Key {
    var key: Key = @splat(0);
    std.mem.writeInt(u32, key[0..4], n, .little);
    return key;
}

test "a full tracker forgets what nothing was published of for longest" {
    var tracker: Tracker = try .init(.{}, .{ 1, 2 }, 100);
    defer tracker.deinit();
    for (0..100) |i| {
        const found = tracker.get(&testKey(@intCast(i))).?;
        try testing.expect(found.is_new);
        found.record.digest = i;
        found.record.is_recent = i < 50;
    }
    for (0..50) |round| {
        for (0..50) |i| tracker.find(&testKey(@intCast(i))).?.is_recent = true;
        const found = tracker.get(&testKey(@intCast(1000 + round))).?;
        try testing.expect(found.is_new);
        found.record.is_recent = false;
    }
    try testing.expectEqual(100, tracker.table.len);
    for (0..50) |i| try testing.expectEqual(i, tracker.find(&testKey(@intCast(i))).?.digest.?);
    try tracker.table.check();
}

test "a full tracker: each newcomer takes the place of one that goes, and nobody else is moved" {
    var tracker: Tracker = try .init(.{}, .{ 1, 2 }, 3000);
    defer tracker.deinit();
    const kept = testKey(1_000_000);
    tracker.get(&kept).?.record.digest = 1_000_000;
    for (0..40_000) |i| {
        const key = testKey(@intCast(i));
        tracker.askForKey(tracker.hashOf(&key));
        tracker.askForRecord(tracker.hashOf(&key));
        const found = tracker.get(&key).?;
        try testing.expect(found.is_new);
        found.record.digest = i;
        found.record.is_recent = false;
        // What is written to again and again stays where it is.
        try testing.expectEqual(&tracker.records.items[0], tracker.find(&kept).?);
        tracker.find(&kept).?.is_recent = true;
    }
    try testing.expectEqual(3000, tracker.table.len);
    try tracker.table.check();
    for (tracker.table.keys.items[0..3000], tracker.records.items[0..3000]) |*key, *record| {
        try testing.expectEqual(tracker.hashOf(key), record.hash);
        try testing.expectEqual(record, tracker.find(key).?);
        try testing.expectEqual(std.mem.readInt(u32, key[0..4], .little), record.digest.?);
    }
    // The newest of all are there.
    for (40_000 - 1000..40_000) |i| try testing.expect(tracker.find(&testKey(@intCast(i))) != null);
}

test "versions are ordered by source epoch, slot, bank, write version" {
    const base: Version = .{ .source_epoch = 1, .slot = 5, .bank_id = 2, .write_version = 9 };
    try testing.expect(!base.isOlderThan(base));
    try testing.expect((Version{ .source_epoch = 0, .slot = 9, .bank_id = 9, .write_version = 9 }).isOlderThan(base));
    try testing.expect((Version{ .source_epoch = 1, .slot = 4, .bank_id = 9, .write_version = 99 }).isOlderThan(base));
    try testing.expect((Version{ .source_epoch = 1, .slot = 5, .bank_id = 1, .write_version = 99 }).isOlderThan(base));
    try testing.expect((Version{ .source_epoch = 1, .slot = 5, .bank_id = 2, .write_version = 8 }).isOlderThan(base));
}
