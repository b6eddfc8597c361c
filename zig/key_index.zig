//! key_index.zig: which consumers want an update: from the keys of accounts and of owners to sets of consumers. Exact.
//! May touch: its own memory. May not touch: consumers, of which it knows no more than a number; clocks; locks: whoever
//! calls holds the sender's.
//! Cost: one probe per key, whatever the number of consumers and keys. Who leaves matches nothing from that moment on;
//! what is left of it is swept away in steps as small as the caller wants. Reasons and figures: ADR 0008.
//! Every error leaves the index as it was.

const std = @import("std");
const key_table = @import("key_table.zig");
const consumer_sets = @import("consumer_sets.zig");
const Pages = @import("span.zig").Pages;
const Span = @import("span.zig").Span;
const ConsumerSets = consumer_sets.ConsumerSets;
const KeyTable = key_table.KeyTable;
const layout = @import("layout.zig");
const assert = std.debug.assert;

pub const Key = key_table.Key;
pub const SetId = consumer_sets.SetId;
pub const empty = consumer_sets.empty;
pub const consumer_count_max = consumer_sets.consumer_count_max;
/// Keys that are looked up or added at once.
pub const batch_max = key_table.batch_max;

/// What a key is compared with.
pub const Kind = enum(u1) { account, owner };

pub const Options = struct {
    /// Random and secret: keys are chosen by others.
    seed: [2]u64,
    /// Different keys of each kind.
    keys_max: u32 = 4 << 20,
    /// Of both kinds. Less where `bound` says so.
    keys_per_consumer_max: u32 = 1_000_000,
    sets_max: u32 = layout.filter_sets_max,
    /// Sets that exist because this consumer was added to another one.
    sets_per_consumer_max: u32 = layout.filter_sets_made_max,
    set_bytes_max: u32 = layout.filter_set_bytes_max,
    pages: Pages = .{},
};

pub const AddError = consumer_sets.Error || error{ NotAdmitted, KeysFull, ConsumerKeysFull };
pub const RemoveError = consumer_sets.Error || error{NotAdmitted};

const Sweep = enum { idle, sets, accounts, owners };

/// What the steps of a sweep cost, about 1 ns each.
const set_cost = 4;
const key_cost = 2;
const move_cost = 10;
const remove_cost = 200;
const tidy_cost = 20_000;

/// How many keys ahead a sweep asks for what it will need.
const sweep_ahead = 16;

pub const KeyIndex = struct {
    home: Span(KeyIndex),
    options: Options,
    tables: [2]KeyTable,
    sets: ConsumerSets,
    live: consumer_sets.Consumers = .empty,
    /// Their numbers may still stand in sets.
    leaving: consumer_sets.Consumers = .empty,
    leaving_count: u32 = 0,
    /// Those of them that the sweep under way takes out.
    sweeping: consumer_sets.Consumers = .empty,
    sweep_phase: Sweep = .idle,
    /// Sets or keys below it are still to be looked at.
    sweep_cursor: u32 = 0,
    key_counts: [consumer_count_max]u32 = @splat(0),
    /// Most of them.
    key_bounds: [consumer_count_max]u32 = @splat(0),

    pub fn create(options: Options) error{ OutOfMemory, BadArgument }!*KeyIndex {
        if (options.keys_max == 0 or options.keys_max > key_table.keys_max_max) return error.BadArgument;
        if (options.sets_max == 0 or options.sets_max > consumer_sets.set_count_max) return error.BadArgument;
        if (options.set_bytes_max > 1 << 30) return error.BadArgument;
        var home: Span(KeyIndex) = try .init(options.pages, 1);
        errdefer home.deinit();
        try home.ensure(1);
        var accounts: KeyTable = try .init(options.pages, options.seed, options.keys_max);
        errdefer accounts.deinit();
        // The same keys in both tables must not meet in the same lines: another seed.
        var owners: KeyTable = try .init(options.pages, .{ options.seed[0], ~options.seed[1] }, options.keys_max);
        errdefer owners.deinit();
        const index = &home.items[0];
        index.* = .{ .home = home, .options = options, .tables = .{ accounts, owners }, .sets = undefined };
        try index.sets.init(options.pages, options.seed, .{
            .sets_max = options.sets_max,
            .bytes_max = options.set_bytes_max,
        });
        return index;
    }

    pub fn destroy(index: *KeyIndex) void {
        for (&index.tables) |*keys| keys.deinit();
        index.sets.deinit();
        var home = index.home;
        home.deinit();
    }

    pub fn keyCount(index: *const KeyIndex, kind: Kind) u32 {
        return index.table(kind).len;
    }

    pub fn keyCountOf(index: *const KeyIndex, consumer: u16) u32 {
        return if (index.isLive(consumer)) index.key_counts[consumer] else 0;
    }

    /// Sets that exist because this consumer was added to another one.
    pub fn setsMadeBy(index: *const KeyIndex, consumer: u16) u32 {
        return if (index.isLive(consumer)) index.sets.made_counts[consumer] else 0;
    }

    /// Bytes that the tables and sets may use without asking the kernel again.
    pub fn committedSize(index: *const KeyIndex) usize {
        var size = index.home.committed_size + index.sets.committedSize();
        for (&index.tables) |*one| size += one.committedSize();
        return size;
    }

    fn table(index: *const KeyIndex, kind: Kind) *const KeyTable {
        return &index.tables[@backingInt(kind)];
    }

    fn tableOf(index: *KeyIndex, kind: Kind) *KeyTable {
        return &index.tables[@backingInt(kind)];
    }

    // Consumers

    pub fn isLive(index: *const KeyIndex, consumer: u16) bool {
        return consumer < consumer_count_max and index.live.isSet(consumer);
    }

    /// Whether the number can be given to another consumer.
    pub fn isFree(index: *const KeyIndex, consumer: u16) bool {
        return consumer < consumer_count_max and !index.live.isSet(consumer) and !index.leaving.isSet(consumer);
    }

    /// From now on keys can be added for it. Refused while something is left of the one who had this number before.
    pub fn admit(index: *KeyIndex, consumer: u16) error{ BadArgument, StillLeaving }!void {
        if (consumer >= consumer_count_max or index.live.isSet(consumer)) return error.BadArgument;
        if (index.leaving.isSet(consumer)) return error.StillLeaving;
        assert(index.key_counts[consumer] == 0);
        index.live.set(consumer);
        index.bound(consumer, index.options.keys_per_consumer_max, index.options.sets_per_consumer_max);
    }

    /// What it may have, and make, from here on: who has several numbers shares one limit among them. What there is stays.
    pub fn bound(index: *KeyIndex, consumer: u16, keys_max: u32, sets_max: u32) void {
        assert(index.isLive(consumer));
        index.key_bounds[consumer] = @min(keys_max, index.options.keys_per_consumer_max);
        index.sets.made_bounds[consumer] = @min(sets_max, index.options.sets_per_consumer_max);
    }

    /// Numbers that can be given at once.
    pub fn freeCount(index: *const KeyIndex) u32 {
        return @intCast(consumer_count_max - index.live.count() - index.leaving_count);
    }

    /// From now on it matches nothing. Its number is free again when `sweep` says that it is done.
    pub fn dismiss(index: *KeyIndex, consumer: u16) void {
        if (!index.isLive(consumer)) return;
        index.live.unset(consumer);
        if (index.key_counts[consumer] == 0) {
            assert(index.sets.made_counts[consumer] == 0);
            return; // it is in no set
        }
        index.leaving.set(consumer);
        index.leaving_count += 1;
    }

    /// Dismisses a consumer and sweeps for a while. True: its number is free.
    pub fn removeSome(index: *KeyIndex, consumer: u16, budget: u32) bool {
        index.dismiss(consumer);
        _ = index.sweep(budget);
        return index.isFree(consumer);
    }

    /// Takes those who left out of sets and keys, for about `budget` ns. All who left before a round began are swept in
    /// that round; those who leave meanwhile, in the next. Then gives back memory that is not needed any more, also what
    /// `remove` left. True: nothing is left to do.
    pub fn sweep(index: *KeyIndex, budget: u32) bool {
        var left: i64 = budget;
        while (true) {
            const is_through = switch (index.sweep_phase) {
                .idle => blk: {
                    if (index.leaving_count == 0) return index.tidy(&left);
                    index.sweeping = index.leaving;
                    break :blk true;
                },
                .sets => index.sweepSets(&left),
                .accounts => index.sweepKeys(.account, &left),
                .owners => index.sweepKeys(.owner, &left),
            };
            if (!is_through) return false;
            index.sweep_phase = switch (index.sweep_phase) {
                .idle => .sets,
                .sets => .accounts,
                .accounts => .owners,
                .owners => .idle,
            };
            index.sweep_cursor = switch (index.sweep_phase) {
                .idle => 0,
                .sets => index.sets.id_count,
                .accounts => index.tables[0].len,
                .owners => index.tables[1].len,
            };
            if (index.sweep_phase == .idle) index.finishRound();
        }
    }

    /// After this no set that any key gets from now on has one of those who left: new sets are made of clean ones.
    fn sweepSets(index: *KeyIndex, left: *i64) bool {
        while (index.sweep_cursor > 0) {
            if (left.* <= 0) return false;
            index.sweep_cursor -= 1;
            left.* -= set_cost + index.sets.sweep(index.sweep_cursor, &index.leaving);
        }
        return true;
    }

    /// From the last key down: what takes the place of a removed key has been looked at, or is looked at there.
    fn sweepKeys(index: *KeyIndex, kind: Kind, left: *i64) bool {
        const keys = index.tableOf(kind);
        index.sweep_cursor = @min(index.sweep_cursor, keys.len);
        while (index.sweep_cursor > 0) {
            if (left.* <= 0) return false;
            index.sweep_cursor -= 1;
            const at = index.sweep_cursor;
            left.* -= key_cost;
            const id = keys.values.items[at];
            if (at >= sweep_ahead) {
                const ahead = at - sweep_ahead;
                if (index.sets.isForwarded(keys.values.items[ahead])) keys.prefetch(keys.hashOf(&keys.keys.items[ahead]));
            }
            if (!index.sets.isForwarded(id)) continue;
            const to = index.sets.resolve(id);
            if (to == empty) {
                keys.removeAt(at);
                left.* -= remove_cost;
            } else {
                keys.values.items[at] = to;
                index.sets.acquire(to);
                left.* -= move_cost;
            }
            index.sets.release(id);
        }
        return true;
    }

    fn tidy(index: *KeyIndex, left: *i64) bool {
        while (left.* > 0) : (left.* -= tidy_cost) {
            var is_done = index.sets.tidy();
            for (&index.tables) |*keys| is_done = keys.tidy() and is_done;
            if (is_done) return true;
        }
        return false;
    }

    fn finishRound(index: *KeyIndex) void {
        var gone = index.sweeping.iterator(.{});
        while (gone.next()) |consumer| {
            assert(index.sets.made_counts[consumer] == 0);
            index.leaving.unset(consumer);
            index.leaving_count -= 1;
            index.key_counts[consumer] = 0;
        }
    }

    // Edits

    /// False: it was there already.
    pub fn add(index: *KeyIndex, kind: Kind, key: *const Key, consumer: u16) AddError!bool {
        const before = try index.addHeld(kind, index.table(kind).hashOf(key), key, consumer) orelse return false;
        index.sets.release(before);
        return true;
    }

    /// All of them or none. Returns one bit per key that was not there already.
    pub fn addBatch(index: *KeyIndex, kind: Kind, keys: []const *const Key, consumer: u16) AddError!u64 {
        assert(keys.len <= batch_max);
        const keys_of = index.tableOf(kind);
        var hashes: [batch_max]u64 = undefined;
        for (keys, hashes[0..keys.len]) |key, *hash| {
            hash.* = keys_of.hashOf(key);
            keys_of.prefetch(hash.*);
        }
        // The sets that the keys had, each held, so that going back needs no memory.
        var before: [batch_max]SetId = undefined;
        var added: u64 = 0;
        var refusal: ?AddError = null;
        for (keys, hashes[0..keys.len], 0..) |key, hash, i| {
            const change = index.addHeld(kind, hash, key, consumer) catch |err| {
                refusal = err;
                break;
            } orelse continue;
            before[i] = change;
            added |= @as(u64, 1) << @intCast(i);
        }
        var done = added;
        while (done != 0) {
            const i = 63 - @clz(done);
            done ^= @as(u64, 1) << @intCast(i);
            if (refusal == null) {
                index.sets.release(before[i]);
                continue;
            }
            const at = keys_of.findHashed(hashes[i], keys[i]).?;
            const id = keys_of.values.items[at];
            if (before[i] == empty) keys_of.removeAt(at) else keys_of.values.items[at] = before[i];
            index.sets.release(id);
            index.key_counts[consumer] -= 1;
        }
        return refusal orelse added;
    }

    /// Returns the set that the key had, still held for the caller, who releases it; null if nothing was to be done.
    fn addHeld(index: *KeyIndex, kind: Kind, hash: u64, key: *const Key, consumer: u16) AddError!?SetId {
        if (!index.isLive(consumer)) return error.NotAdmitted;
        const keys = index.tableOf(kind);
        const at = keys.findHashed(hash, key);
        const id = if (at) |found| keys.values.items[found] else empty;
        const from = index.cleaned(id);
        if (index.key_counts[consumer] >= index.key_bounds[consumer]) {
            return if (index.sets.contains(from, consumer)) null else error.ConsumerKeysFull;
        }
        if (at == null) try keys.prepare(hash);
        const to = try index.sets.changed(from, consumer, .add) orelse return null;
        index.sets.acquire(to);
        if (at) |found| keys.values.items[found] = to else keys.insert(hash, key, to);
        index.key_counts[consumer] += 1;
        return id;
    }

    /// False: it was not there.
    pub fn remove(index: *KeyIndex, kind: Kind, key: *const Key, consumer: u16) RemoveError!bool {
        if (!index.isLive(consumer)) return error.NotAdmitted;
        const keys = index.tableOf(kind);
        const at = keys.find(key) orelse return false;
        const id = keys.values.items[at];
        const from = index.cleaned(id);
        const to = try index.sets.changed(from, consumer, .remove) orelse return false;
        index.sets.acquire(to);
        if (to == empty) keys.removeAt(at) else keys.values.items[at] = to;
        index.sets.release(id);
        index.key_counts[consumer] -= 1;
        return true;
    }

    fn cleaned(index: *KeyIndex, id: SetId) SetId {
        if (index.leaving_count == 0) return id;
        return index.sets.cleaned(id, &index.leaving);
    }

    // Matching

    /// Who wants the key, until the next edit or sweep. While consumers leave, a set may turn out to have nobody.
    pub fn lookup(index: *const KeyIndex, kind: Kind, key: *const Key) SetId {
        const keys = index.table(kind);
        const at = keys.find(key) orelse return empty;
        return keys.values.items[at];
    }

    /// Who wants the key of an account, and who its owner: what a single publish asks. The two wait for memory together.
    pub fn lookupPair(index: *const KeyIndex, account: *const Key, owner: *const Key) [2]SetId {
        const accounts = &index.tables[0];
        const owners = &index.tables[1];
        const account_hash = accounts.hashOf(account);
        accounts.prefetchPlaces(account_hash);
        const owner_hash = owners.hashOf(owner);
        owners.prefetchPlaces(owner_hash);
        const account_at = accounts.findHashed(account_hash, account);
        const owner_at = owners.findHashed(owner_hash, owner);
        return .{
            if (account_at) |at| accounts.values.items[at] else empty,
            if (owner_at) |at| owners.values.items[at] else empty,
        };
    }

    /// The same for many keys, whose reads from memory overlap.
    pub fn lookupBatch(index: *const KeyIndex, kind: Kind, keys: []const *const Key, out: []SetId) void {
        assert(out.len >= keys.len);
        var done: usize = 0;
        while (done < keys.len) {
            const count = @min(batch_max, keys.len - done);
            index.table(kind).findBatch(keys[done..][0..count], out[done..][0..count]);
            done += count;
        }
    }

    /// Each consumer of either set once, ascending. The result is in `out` or in the index, and valid until the next edit
    /// or sweep.
    pub fn unionOf(index: *const KeyIndex, a: SetId, b: SetId, out: *[consumer_count_max]u16) []const u16 {
        if (a | b == empty) return &.{};
        const left = index.sets.members(a);
        const right = index.sets.members(b);
        if (index.leaving_count == 0) {
            if (b == empty or a == b) return left;
            if (a == empty) return right;
        }
        var count: usize = 0;
        var i: usize = 0;
        var j: usize = 0;
        while (i < left.len and j < right.len) : (count += 1) {
            out[count] = @min(left[i], right[j]);
            const in_left = left[i] == out[count];
            const in_right = right[j] == out[count];
            i += @intFromBool(in_left);
            j += @intFromBool(in_right);
        }
        @memcpy(out[count..][0 .. left.len - i], left[i..]);
        count += left.len - i;
        @memcpy(out[count..][0 .. right.len - j], right[j..]);
        count += right.len - j;
        if (index.leaving_count == 0) return out[0..count];
        var kept: usize = 0;
        for (out[0..count]) |consumer| {
            out[kept] = consumer;
            kept += @intFromBool(index.live.isSet(consumer));
        }
        return out[0..kept];
    }

    /// For tests: whether all books are right.
    pub fn check(index: *KeyIndex, scratch: []u32) !void {
        const references = scratch[0..index.sets.id_count];
        @memset(references, 0);
        for (&index.tables) |*keys| {
            try keys.check();
            for (keys.values.items[0..keys.len]) |id| {
                if (id == empty) return error.KeyWithoutSet;
                references[id] += 1;
            }
        }
        try index.sets.check(references);
        for (0..consumer_count_max) |consumer| {
            if (index.isFree(@intCast(consumer)) and index.key_counts[consumer] != 0) return error.WrongKeyCount;
        }
        if (index.leaving_count != index.leaving.count()) return error.WrongLeavingCount;
    }
};
