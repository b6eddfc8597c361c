//! demand.zig: which keys anybody wants by now, as differences from what was told last.
//! May touch: its own memory; the key index, to look. May not touch: filters, consumers: what a filter wants, the engine
//! says; locks: whoever calls holds the sender's.
//! How: what was told stands in two tables of its own. An edit leaves its keys to be looked at again. Where no list of keys
//! says what has changed (a filter has gone, or came in several messages) all keys are walked through, in steps as small
//! as the caller wants. What is told is always found by asking the index: no account of edits is kept that could be wrong.

const std = @import("std");
const layout = @import("layout.zig");
const key_index = @import("key_index.zig");
const key_table = @import("key_table.zig");
const Pages = @import("span.zig").Pages;
const Span = @import("span.zig").Span;
const Key = key_index.Key;
const KeyIndex = key_index.KeyIndex;
const KeyTable = key_table.KeyTable;
const Kind = key_index.Kind;
const assert = std.debug.assert;

pub const Record = layout.DemandRecord;

/// Keys of edits that wait to be looked at. Beyond, all keys are walked through.
const touched_max = 1 << 16;

const Touched = struct { key: Key, kind: Kind };

/// What to walk through. The first two find what is wanted and was not told, the last two what is wanted no longer.
const Phase = enum { index_accounts, index_owners, told_accounts, told_owners, done };

pub const Demand = struct {
    told: [2]KeyTable,
    touched: Span(Touched),
    touched_len: u32 = 0,
    /// Keys below it are still to be looked at.
    cursor: u32 = 0,
    phase: Phase = .done,
    /// Where the next walk has to begin, once this one is through; `done`: there is none to come.
    next: Phase = .index_accounts,
    /// What has gone was taken out of a full table, and everything is looked at again.
    is_retry: bool = false,

    /// @param keys_max Of the index, for each kind.
    pub fn init(pages: Pages, seed: [2]u64, keys_max: u32) error{OutOfMemory}!Demand {
        // Told are, for a while, also keys that have gone.
        const told_max: u32 = @intCast(@min(2 * @as(u64, keys_max), key_table.keys_max_max));
        var accounts: KeyTable = try .init(pages, .{ ~seed[0], seed[1] }, told_max);
        errdefer accounts.deinit();
        var owners: KeyTable = try .init(pages, .{ ~seed[0], ~seed[1] }, told_max);
        errdefer owners.deinit();
        return .{ .told = .{ accounts, owners }, .touched = try .init(pages, touched_max) };
    }

    pub fn deinit(demand: *Demand) void {
        for (&demand.told) |*one| one.deinit();
        demand.touched.deinit();
    }

    /// Whether a key is wanted may have changed.
    pub fn touch(demand: *Demand, kind: Kind, keys: []align(1) const Key) void {
        if (demand.touched_len + keys.len > touched_max) return demand.walk(.index_accounts);
        demand.touched.ensure(demand.touched_len + keys.len) catch return demand.walk(.index_accounts);
        for (keys) |key| {
            demand.touched.items[demand.touched_len] = .{ .key = key, .kind = kind };
            demand.touched_len += 1;
        }
    }

    /// A filter is in force whose keys came before.
    pub fn touchAll(demand: *Demand) void {
        demand.walk(.index_accounts);
    }

    /// A filter has gone.
    pub fn touchTold(demand: *Demand) void {
        demand.walk(.told_accounts);
    }

    fn walk(demand: *Demand, from: Phase) void {
        // A walk under way may be past what has changed: then there has to be another one.
        if (demand.phase != .done and @backingInt(from) > @backingInt(demand.phase)) return;
        if (@backingInt(from) < @backingInt(demand.next)) demand.next = from;
    }

    pub fn isDone(demand: *const Demand) bool {
        return demand.touched_len == 0 and demand.phase == .done and demand.next == .done;
    }

    /// Writes what has changed since it was told last, until `out` is full or `steps` keys have been looked at.
    /// @param filters Has `wants(filter: u16) u8`: the bits of `layout.demand_…` of one that is in force, else 0.
    pub fn collect(demand: *Demand, index: *const KeyIndex, filters: anytype, out: []Record, steps: u32) error{OutOfMemory}!usize {
        var collector: Collector(@TypeOf(filters)) = .{ .demand = demand, .index = index, .filters = filters, .out = out, .left = steps };
        while (collector.goesOn() and !demand.isDone()) {
            demand.step(&collector) catch |err| switch (err) {
                // More of what was told than there can be keys has gone since: that first, then everything again.
                error.KeysFull => {
                    if (demand.is_retry) return error.OutOfMemory;
                    demand.is_retry = true;
                    demand.touched_len = 0;
                    demand.next = .index_accounts;
                    demand.begin(.told_accounts, index);
                },
                // What is in `out` counts as told.
                error.OutOfMemory => {
                    if (collector.count == 0) return error.OutOfMemory;
                    break;
                },
            };
        }
        if (demand.touched_len == 0) _ = demand.touched.shrink(0);
        return collector.count;
    }

    fn begin(demand: *Demand, phase: Phase, index: *const KeyIndex) void {
        demand.phase = phase;
        if (phase == .done) demand.is_retry = false;
        demand.cursor = if (phase == .done) 0 else demand.walked(index).len;
    }

    fn step(demand: *Demand, collector: anytype) error{ OutOfMemory, KeysFull }!void {
        const index = collector.index;
        if (demand.touched_len > 0) {
            const touched = &demand.touched.items[demand.touched_len - 1];
            try collector.look(touched.kind, &touched.key, index.lookup(touched.kind, &touched.key));
            demand.touched_len -= 1;
            return;
        }
        if (demand.phase == .done) {
            demand.begin(demand.next, index);
            demand.next = .done;
        }
        const table = demand.walked(index);
        // What has gone meanwhile had its place taken by keys that were looked at: those from the cursor on.
        demand.cursor = @min(demand.cursor, table.len);
        if (demand.cursor == 0) return demand.begin(@fromBackingInt(@backingInt(demand.phase) + 1), index);
        const at = demand.cursor - 1;
        const key = table.keys.items[at];
        switch (demand.phase) {
            .index_accounts => try collector.look(.account, &key, table.values.items[at]),
            .index_owners => try collector.look(.owner, &key, table.values.items[at]),
            .told_accounts => try collector.look(.account, &key, index.lookup(.account, &key)),
            .told_owners => try collector.look(.owner, &key, index.lookup(.owner, &key)),
            .done => unreachable,
        }
        demand.cursor = at;
    }

    fn walked(demand: *const Demand, index: *const KeyIndex) *const KeyTable {
        return switch (demand.phase) {
            .index_accounts => &index.tables[0],
            .index_owners => &index.tables[1],
            .told_accounts => &demand.told[0],
            .told_owners => &demand.told[1],
            .done => unreachable,
        };
    }
};

fn Collector(comptime Filters: type) type {
    return struct {
        demand: *Demand,
        index: *const KeyIndex,
        filters: Filters,
        out: []Record,
        count: usize = 0,
        left: u32,
        /// What the set looked at last amounts to: many keys share one.
        set: key_index.SetId = key_index.empty,
        set_wants: u8 = 0,

        const Self = @This();

        fn goesOn(collector: *const Self) bool {
            return collector.count < collector.out.len and collector.left > 0;
        }

        /// An error leaves it to be looked at again.
        fn look(collector: *Self, kind: Kind, key: *const Key, set: key_index.SetId) error{ OutOfMemory, KeysFull }!void {
            collector.left -= 1;
            const now = collector.wanted(set) & mask(kind);
            const told = &collector.demand.told[@backingInt(kind)];
            const hash = told.hashOf(key);
            const at = told.findHashed(hash, key);
            const was: u8 = if (at) |found| @intCast(told.values.items[found]) else 0;
            if (was == now) return;
            if (at) |found| {
                if (now == 0) told.removeAt(found) else told.values.items[found] = now;
            } else {
                try told.prepare(hash);
                told.insert(hash, key, now);
            }
            collector.out[collector.count] = .{ .key = key.*, .kind = @backingInt(kind), .was = was, .now = now };
            collector.count += 1;
        }

        fn wanted(collector: *Self, set: key_index.SetId) u8 {
            if (set == collector.set) return collector.set_wants;
            var wants: u8 = 0;
            for (collector.index.sets.members(set)) |filter| wants |= collector.filters.wants(filter);
            collector.set = set;
            collector.set_wants = wants;
            return wants;
        }
    };
}

/// Keys of transactions are never owners.
fn mask(kind: Kind) u8 {
    return if (kind == .account) layout.demand_accounts | layout.demand_transactions else layout.demand_accounts;
}

const testing = std.testing;

/// Filters as the engine has them, as far as demand asks.
const ModelFilters = struct {
    const count = 12;
    is_admitted: [count]bool = @splat(false),
    is_active: [count]bool = @splat(false),
    is_keyed: [count]bool = @splat(false),
    has: [2][count][key_count]bool = @splat(@splat(@splat(false))),

    const key_count = 40;

    fn wants(filters: *const ModelFilters, filter: u16) u8 {
        if (!filters.is_active[filter]) return 0;
        return if (filters.is_keyed[filter]) layout.demand_transactions else layout.demand_accounts;
    }

    fn wanted(filters: *const ModelFilters, kind: usize, key: usize) u8 {
        var wants_of_all: u8 = 0;
        for (0..count) |filter| {
            if (filters.has[kind][filter][key]) wants_of_all |= filters.wants(@intCast(filter));
        }
        return if (kind == 1) wants_of_all & layout.demand_accounts else wants_of_all;
    }
};

fn testKey(number: usize) Key {
    var key: Key = @splat(7);
    key[0] = @intCast(number);
    return key;
}

test "Demand: what is told amounts to what is wanted, whatever is edited meanwhile" {
    for (0..300) |seed| {
        errdefer std.debug.print("seed {d}\n", .{seed});
        var prng: std.Random.DefaultPrng = .init(seed);
        const random = prng.random();
        const index = try KeyIndex.create(.{ .seed = .{ seed, 2 }, .keys_max = 64 });
        defer index.destroy();
        // Every third run its tables of what was told are full before long.
        var demand: Demand = try .init(.{}, .{ seed, 2 }, if (seed % 3 == 0) ModelFilters.key_count / 2 else 64);
        defer demand.deinit();
        var filters: ModelFilters = .{};
        var told: [2][ModelFilters.key_count]u8 = @splat(@splat(0));
        for (0..400) |_| {
            const filter = random.uintLessThan(u16, ModelFilters.count);
            const kind = random.enumValue(Kind);
            const number = random.uintLessThan(usize, ModelFilters.key_count);
            const key = testKey(number);
            switch (random.uintLessThan(u8, 8)) {
                0 => if (!filters.is_admitted[filter] and index.isFree(filter)) {
                    try index.admit(filter);
                    filters.is_admitted[filter] = true;
                    filters.is_keyed[filter] = random.boolean();
                    filters.is_active[filter] = random.boolean();
                },
                1 => if (filters.is_admitted[filter] and !filters.is_active[filter]) {
                    filters.is_active[filter] = true;
                    demand.touchAll();
                },
                2 => if (filters.is_admitted[filter] and random.boolean()) {
                    index.dismiss(filter);
                    filters.is_admitted[filter] = false;
                    filters.is_active[filter] = false;
                    for (&filters.has) |*of_kind| of_kind[filter] = @splat(false);
                    demand.touchTold();
                },
                3, 4 => if (filters.is_admitted[filter]) {
                    _ = try index.add(kind, &key, filter);
                    filters.has[@backingInt(kind)][filter][number] = true;
                    demand.touch(kind, &.{key});
                },
                5 => if (filters.is_admitted[filter]) {
                    _ = try index.remove(kind, &key, filter);
                    filters.has[@backingInt(kind)][filter][number] = false;
                    demand.touch(kind, &.{key});
                },
                6 => _ = index.sweep(random.uintLessThan(u32, 3000)),
                else => try takeRecords(&demand, index, &filters, &told, 1 + random.uintLessThan(usize, 4), 1 + random.uintLessThan(u32, 20)),
            }
        }
        while (!demand.isDone()) try takeRecords(&demand, index, &filters, &told, 8, 100);
        for (0..2) |kind| {
            for (0..ModelFilters.key_count) |number| try testing.expectEqual(filters.wanted(kind, number), told[kind][number]);
            try demand.told[kind].check();
        }
        try takeRecords(&demand, index, &filters, &told, 8, 100);
    }
}

fn takeRecords(demand: *Demand, index: *const KeyIndex, filters: *const ModelFilters, told: *[2][ModelFilters.key_count]u8, room: usize, steps: u32) !void {
    var records: [8]Record = undefined;
    const was_done = demand.isDone();
    const count = try demand.collect(index, filters, records[0..room], steps);
    if (was_done) try testing.expectEqual(0, count);
    for (records[0..count]) |record| {
        const is = &told[record.kind][record.key[0]];
        try testing.expectEqual(is.*, record.was);
        try testing.expect(record.now != record.was);
        is.* = record.now;
    }
}

test "Demand: more keys than are noted are found by a walk" {
    const index = try KeyIndex.create(.{ .seed = .{ 1, 2 }, .keys_max = 1 << 18 });
    defer index.destroy();
    var demand: Demand = try .init(.{}, .{ 1, 2 }, 1 << 18);
    defer demand.deinit();
    var filters: ModelFilters = .{};
    var none: [0]Record = .{};
    try testing.expectEqual(0, try demand.collect(index, &filters, &none, 100));
    var records: [1000]Record = undefined;
    while (!demand.isDone()) _ = try demand.collect(index, &filters, &records, 1000);
    try index.admit(3);
    filters.is_active[3] = true;
    const total = touched_max + 10_000;
    for (0..total) |number| {
        var key: Key = @splat(0);
        std.mem.writeInt(u32, key[0..4], @intCast(number), .little);
        _ = try index.add(.account, &key, 3);
        demand.touch(.account, &.{key});
    }
    var count: usize = 0;
    while (!demand.isDone()) count += try demand.collect(index, &filters, &records, 1500);
    try testing.expectEqual(total, count);
    index.dismiss(3);
    filters.is_active[3] = false;
    demand.touchTold();
    while (!demand.isDone()) count -= try demand.collect(index, &filters, &records, 1500);
    try testing.expectEqual(0, count);
    try testing.expectEqual(0, demand.told[0].len);
}
