//! state.zig: what a sender knows of accounts: of each the newest version that is final, and those of banks that may
//! still die, so that a dead bank can be taken back (design D14).
//! May touch: its own memory. May not touch: consumers, filters: whoever asks says what to keep.
//! Bounded in bytes: payloads in an arena, records and table beside it. When there is no room, the account that nothing was
//! published of for longest goes (the clock algorithm), with all of its versions, and is counted.
//! Records keep their places: a walk meets each once, whatever comes and goes meanwhile.

const std = @import("std");
const layout = @import("layout.zig");
const key_table = @import("key_table.zig");
const copy = @import("copy.zig").copy;
const arena_file = @import("arena.zig");
const forks_file = @import("forks.zig");
const platform = @import("platform/mod.zig");
const tracker = @import("tracker.zig");
const Arena = arena_file.Arena;
const Forks = forks_file.Forks;
const Verdict = forks_file.Verdict;
const KeyTable = key_table.KeyTable;
const Pages = @import("span.zig").Pages;
const Span = @import("span.zig").Span;
const FrameHeader = layout.FrameHeader;
const assert = std.debug.assert;

pub const Key = key_table.Key;
pub const Id = arena_file.Id;

/// Versions that are kept of one account: more banks than that are not open at once, as a rule; the oldest go.
pub const versions_max = 64;
/// A version of least size takes 256 bytes of the arena; an account about half of that beside it.
const arena_share = 11;
const share_parts = 16;
const record_bytes = 128;
/// What the smallest tables take.
const fixed_bytes = 1 << 20;

/// One version, in the arena. Its head and tail follow: the frame as it was published.
pub const Version = extern struct {
    record: u32,
    /// The next older one of the account.
    older: Id,
    /// Its bank's number + 1 while that is open, and its neighbours in the list of the bank.
    bank: u32,
    bank_next: Id,
    bank_previous: Id,
    head_length: u32,
    tail_length: u32,
    pad_0: u32,

    pub fn head(version: *Version) []align(8) u8 {
        const start: [*]align(8) u8 = @ptrCast(@alignCast(version));
        return @alignCast(start[@sizeOf(Version)..][0..version.head_length]);
    }

    pub fn tail(version: *Version) []const u8 {
        const start: [*]const u8 = @ptrCast(version);
        return start[@sizeOf(Version) + version.head_length ..][0..version.tail_length];
    }

    pub fn body(version: *Version) *layout.AccountBody {
        return @ptrCast(@alignCast(version.head()[@sizeOf(FrameHeader)..].ptr));
    }

    fn order(version: *Version) tracker.Version {
        return orderOf(version.body());
    }
};

pub fn orderOf(body: *const layout.AccountBody) tracker.Version {
    return .{
        .source_epoch = body.source_epoch,
        .slot = body.slot,
        .bank_id = body.bank_id,
        .write_version = body.write_version,
    };
}

pub const Record = struct {
    /// 0: the place is free, and `sequence` the next free one.
    newest: Id,
    count: u16,
    /// Published since the clock's hand was here.
    is_recent: bool,
    /// Versions may have been forgotten: older ones than are here, or newer ones, if what is here came late. Nobody knows what
    /// holds once the newest is dead. Until a version is final that is newer than all that was forgotten.
    is_cut: bool,
    /// At which the newest version was published, or restored.
    sequence: u64,
};

const no_record = std.math.maxInt(u32);

pub const State = struct {
    arena: Arena,
    forks: *Forks,
    table: KeyTable,
    records: Span(Record),
    /// Places that were ever used.
    record_count: u32 = 0,
    free_record: u32 = no_record,
    records_max: u32,
    hand: u32 = 0,
    keeps_all: bool,
    versions: u64 = 0,
    evicted: u64 = 0,
    /// No version of a later slot was the newest of an account that was forgotten.
    forgotten_slot: u64 = 0,
    /// Of some account a version was dropped that could have held again.
    has_dropped: bool = false,
    rollbacks: u64 = 0,
    rolled_back: u64 = 0,

    pub fn init(pages: Pages, seed: [2]u64, size_max: usize, keeps_all: bool) error{OutOfMemory}!State {
        assert(size_max > fixed_bytes);
        const share = (size_max - fixed_bytes) / share_parts;
        const records_max: u32 = @intCast(@min(key_table.keys_max_max, share * (share_parts - arena_share) / record_bytes));
        const memory = platform.pages(@sizeOf(Forks));
        if (memory.code < 0) return error.OutOfMemory;
        errdefer platform.unmap(memory.address, @sizeOf(Forks));
        const forks: *Forks = @ptrFromInt(memory.address);
        forks.clear();
        var table: KeyTable = try .init(pages, seed, records_max);
        errdefer table.deinit();
        return .{
            .arena = .init(std.mem.alignBackward(usize, share * arena_share, 4096)),
            .forks = forks,
            .table = table,
            .records = try .init(pages, records_max),
            .records_max = records_max,
            .keeps_all = keeps_all,
        };
    }

    pub fn deinit(state: *State) void {
        state.arena.deinit();
        state.table.deinit();
        state.records.deinit();
        platform.unmap(@intFromPtr(state.forks), @sizeOf(Forks));
    }

    pub fn usedBytes(state: *const State) usize {
        return state.arena.usedBytes() + state.arena.bookBytes() + state.table.committedSize() +
            state.records.committed_size + @sizeOf(Forks);
    }

    pub inline fn versionOf(state: *const State, id: Id) *Version {
        return @ptrCast(@alignCast(state.arena.bytes(id)));
    }

    pub fn find(state: *State, key: *const Key) ?*Record {
        return &state.records.items[state.placeOf(key) orelse return null];
    }

    fn placeOf(state: *const State, key: *const Key) ?u32 {
        return state.table.values.items[state.table.find(key) orelse return null];
    }

    /// The record at a place of the walk; null: there is none.
    pub inline fn at(state: *State, place: u32) ?*Record {
        const record = &state.records.items[place];
        return if (record.newest == 0) null else record;
    }

    /// Whether the newest version that is known is newer than this one.
    pub fn isOld(state: *State, body: *const layout.AccountBody) bool {
        const record = state.find(&body.pubkey) orelse return false;
        return orderOf(body).isOlderThan(state.versionOf(record.newest).order());
    }

    // Writing

    /// Takes a version in. An account that is known is always brought up to date: else a later subscriber would get an old
    /// value; of one that is not known, `may_begin` says whether it shall be.
    /// @param sequence At which it was published; if it is not the newest, that does not matter.
    pub fn put(state: *State, head: []align(8) const u8, tail: []const u8, sequence: u64, may_begin: bool) void {
        const body: *const layout.AccountBody = @ptrCast(@alignCast(head[@sizeOf(FrameHeader)..].ptr));
        const hash = state.table.hashOf(&body.pubkey);
        const found = state.table.findHashed(hash, &body.pubkey);
        if (found == null and !may_begin and !state.keeps_all) return;
        var evicted: ?u16 = null;
        const standing = state.forks.standing(body.slot, body.bank_id, &evicted);
        if (evicted) |number| {
            state.makeFinal(number);
            state.forks.open(number, body.slot, body.bank_id);
        }
        if (standing == .dead) return;
        const bank: u32 = switch (standing) {
            .open => |number| @as(u32, number) + 1,
            else => 0,
        };
        const order = orderOf(body);
        const place = if (found) |index| state.table.values.items[index] else null;
        if (place) |known| {
            if (state.isSuperseded(known, order)) return;
            state.dropSame(known, order);
        }
        const id = state.store(place, head, tail) orelse {
            // It can't be kept, and what is kept of it is old.
            if (place) |known| {
                const newest = state.records.items[known].newest;
                if (newest != 0) {
                    const version = state.versionOf(newest);
                    state.markForgotten(version.bank, version.body().slot);
                    state.forget(known);
                } else state.removeEmpty(known, &body.pubkey);
            }
            state.noteForgotten(bank, body.slot);
            return;
        };
        const target = place orelse state.begin(hash, &body.pubkey) orelse {
            state.arena.give(id);
            state.noteForgotten(bank, body.slot);
            return;
        };
        state.link(target, id, bank, order, sequence);
    }

    /// Whether the account has something that makes this version worthless: a newer write of the same bank, or a newer one
    /// that is final.
    fn isSuperseded(state: *State, place: u32, order: tracker.Version) bool {
        var id = state.records.items[place].newest;
        while (id != 0) {
            const version = state.versionOf(id);
            const other = version.order();
            if (isSameBank(order, other)) return order.write_version < other.write_version;
            if (order.isOlderThan(other) and version.bank == 0) return true;
            id = version.older;
        }
        return false;
    }

    fn isSameBank(a: tracker.Version, b: tracker.Version) bool {
        return a.source_epoch == b.source_epoch and a.slot == b.slot and a.bank_id == b.bank_id;
    }

    /// An earlier write of the same bank goes. If it was the account's only version, the record stays for the moment.
    fn dropSame(state: *State, place: u32, order: tracker.Version) void {
        var id = state.records.items[place].newest;
        while (id != 0) {
            const version = state.versionOf(id);
            const older = version.older;
            if (isSameBank(order, version.order())) {
                state.unlink(place, id);
                state.arena.give(id);
                return;
            }
            id = older;
        }
    }

    /// Room for a version, and its bytes. `place` is not evicted for it.
    fn store(state: *State, place: ?u32, head: []align(8) const u8, tail: []const u8) ?Id {
        const size = @sizeOf(Version) + head.len + tail.len;
        const id = while (true) {
            if (state.arena.take(size)) |id| break id;
            // What the account itself has in excess goes first: one that is large and often written pushes out no others.
            if (place) |known| if (state.dropOldest(known)) continue;
            if (!state.evict(place)) return null;
        };
        const version = state.versionOf(id);
        version.* = .{
            .record = no_record,
            .older = 0,
            .bank = 0,
            .bank_next = 0,
            .bank_previous = 0,
            .head_length = @intCast(head.len),
            .tail_length = @intCast(tail.len),
            .pad_0 = 0,
        };
        @memcpy(version.head(), head);
        copy(state.arena.bytes(id) + @sizeOf(Version) + head.len, tail);
        return id;
    }

    /// A record without versions yet.
    fn begin(state: *State, hash: u64, key: *const Key) ?u32 {
        if (state.table.len == state.records_max and !state.evict(null)) return null;
        state.table.prepare(hash) catch {
            if (!state.evict(null)) return null;
            state.table.prepare(hash) catch return null;
        };
        var place = state.free_record;
        if (place == no_record) {
            place = state.record_count;
            state.records.ensure(place + 1) catch return null;
            state.record_count += 1;
        } else state.free_record = @intCast(state.records.items[place].sequence);
        state.records.items[place] = .{ .newest = 0, .count = 0, .is_recent = true, .is_cut = state.evicted > 0, .sequence = 0 };
        state.table.insert(hash, key, place);
        return place;
    }

    fn link(state: *State, place: u32, id: Id, bank: u32, order: tracker.Version, sequence: u64) void {
        const record = &state.records.items[place];
        const version = state.versionOf(id);
        version.record = place;
        var before: ?*Version = null;
        var next = record.newest;
        while (next != 0) {
            const other = state.versionOf(next);
            if (other.order().isOlderThan(order)) break;
            before = other;
            next = other.older;
        }
        version.older = next;
        if (before) |newer| newer.older = id else {
            state.countNewest(next, -1);
            record.newest = id;
            record.sequence = sequence;
        }
        record.count += 1;
        record.is_recent = true;
        state.versions += 1;
        if (bank != 0) state.enlist(id, bank) else state.dropOlder(place, id);
        if (record.count > versions_max) _ = state.dropOldest(place);
    }

    fn enlist(state: *State, id: Id, bank: u32) void {
        const version = state.versionOf(id);
        const owner = &state.forks.banks[bank - 1];
        version.bank = bank;
        version.bank_next = owner.first;
        if (owner.first != 0) state.versionOf(owner.first).bank_previous = id;
        owner.first = id;
        if (state.isNewest(version, id)) state.countNewest(id, 1);
    }

    fn isNewest(state: *const State, version: *const Version, id: Id) bool {
        return state.records.items[version.record].newest == id;
    }

    /// A version is its account's newest from now on, or no longer. 0 is none.
    fn countNewest(state: *State, id: Id, change: i2) void {
        if (id == 0) return;
        const bank = state.versionOf(id).bank;
        if (bank == 0) return;
        const count = &state.forks.banks[bank - 1].newest_count;
        if (change > 0) count.* += 1 else count.* -= 1;
    }

    fn delist(state: *State, version: *Version, id: Id) void {
        if (version.bank == 0) return;
        if (state.isNewest(version, id)) state.countNewest(id, -1);
        if (version.bank_next != 0) state.versionOf(version.bank_next).bank_previous = version.bank_previous;
        if (version.bank_previous != 0)
            state.versionOf(version.bank_previous).bank_next = version.bank_next
        else
            state.forks.banks[version.bank - 1].first = version.bank_next;
        version.bank = 0;
        version.bank_next = 0;
        version.bank_previous = 0;
    }

    /// Takes a version out of its account and its bank. It stays in the arena.
    pub fn unlink(state: *State, place: u32, id: Id) void {
        const record = &state.records.items[place];
        const version = state.versionOf(id);
        state.delist(version, id);
        if (record.newest == id) {
            record.newest = version.older;
            state.countNewest(record.newest, 1);
        } else {
            var newer = state.versionOf(record.newest);
            while (newer.older != id) newer = state.versionOf(newer.older);
            newer.older = version.older;
        }
        version.older = 0;
        record.count -= 1;
        state.versions -= 1;
    }

    pub fn giveBack(state: *State, id: Id) void {
        state.arena.give(id);
    }

    /// All that is older than a final version was only kept in case that it is not.
    fn dropOlder(state: *State, place: u32, id: Id) void {
        if (state.versionOf(id).body().slot > state.forgotten_slot) state.records.items[place].is_cut = false;
        while (true) {
            const older = state.versionOf(id).older;
            if (older == 0) return;
            state.unlink(place, older);
            state.arena.give(older);
        }
    }

    /// False: there is but one.
    fn dropOldest(state: *State, place: u32) bool {
        const record = &state.records.items[place];
        if (record.count < 2) return false;
        var id = record.newest;
        while (true) {
            const older = state.versionOf(id).older;
            if (older == 0) break;
            id = older;
        }
        state.unlink(place, id);
        state.arena.give(id);
        record.is_cut = true;
        state.has_dropped = true;
        return true;
    }

    // Forgetting

    /// An account is known no longer whose newest version was of this slot, published by the bank with that number + 1; 0: by none
    /// that may die.
    fn noteForgotten(state: *State, bank: u32, slot: u64) void {
        state.evicted += 1;
        state.markForgotten(bank, slot);
    }

    fn markForgotten(state: *State, bank: u32, slot: u64) void {
        state.forgotten_slot = @max(state.forgotten_slot, slot);
        if (bank != 0) state.forks.banks[bank - 1].has_forgotten = true;
    }

    /// The account goes, with all its versions.
    fn forget(state: *State, place: u32) void {
        const record = &state.records.items[place];
        const newest = record.newest;
        assert(newest != 0);
        const index = state.table.find(&state.versionOf(newest).body().pubkey).?;
        while (record.newest != 0) {
            const id = record.newest;
            state.unlink(place, id);
            state.arena.give(id);
        }
        state.table.removeAt(index);
        state.freeRecord(place);
    }

    /// The last version of an account has been unlinked.
    pub fn removeEmpty(state: *State, place: u32, key: *const Key) void {
        assert(state.records.items[place].newest == 0);
        state.table.removeAt(state.table.find(key).?);
        state.freeRecord(place);
    }

    fn freeRecord(state: *State, place: u32) void {
        state.records.items[place] = .{ .newest = 0, .count = 0, .is_recent = false, .is_cut = false, .sequence = state.free_record };
        state.free_record = place;
    }

    /// False: there is nothing to forget but what stands at `spared`.
    fn evict(state: *State, spared: ?u32) bool {
        // Twice round at most: the first time makes all of them old.
        for (0..2 * @as(usize, state.record_count) + 1) |_| {
            if (state.record_count == 0) return false;
            if (state.hand >= state.record_count) state.hand = 0;
            const place = state.hand;
            state.hand += 1;
            const record = &state.records.items[place];
            if (record.newest == 0 or place == spared) continue;
            // Its consumers are still to be told what holds.
            if (state.forks.isPending(state.versionOf(record.newest).bank)) continue;
            if (record.is_recent) {
                record.is_recent = false;
                continue;
            }
            const newest = state.versionOf(record.newest);
            state.noteForgotten(newest.bank, newest.body().slot);
            state.forget(place);
            return true;
        }
        return false;
    }

    // Forks

    /// A slot update: what it makes final is made so here; what it makes dead stands in the verdict, to be taken back before
    /// `settle`.
    pub fn noteSlot(state: *State, body: *const layout.SlotBody, verdict: *Verdict) void {
        state.forks.note(body.slot, body.parent, body.bank_id, body.status, verdict);
        for (verdict.finals()) |number| state.makeFinal(number);
    }

    fn makeFinal(state: *State, number: u16) void {
        const bank = &state.forks.banks[number];
        while (bank.first != 0) {
            const id = bank.first;
            const version = state.versionOf(id);
            state.delist(version, id);
            state.dropOlder(version.record, id);
        }
    }

    /// For tests: whether the books are true.
    pub fn verify(state: *State) !void {
        try state.arena.verify();
        try state.table.check();
        var versions: usize = 0;
        var records: usize = 0;
        for (0..state.record_count) |i| {
            const place: u32 = @intCast(i);
            const record = state.at(place) orelse continue;
            records += 1;
            var id = record.newest;
            var count: u16 = 0;
            var last: ?tracker.Version = null;
            var has_final = false;
            while (id != 0) : (id = state.versionOf(id).older) {
                const version = state.versionOf(id);
                if (version.record != place) return error.WrongRecord;
                if (last) |newer| if (!version.order().isOlderThan(newer)) return error.WrongOrder;
                if (has_final) return error.OlderThanFinal;
                has_final = version.bank == 0;
                last = version.order();
                count += 1;
            }
            if (count != record.count) return error.WrongCount;
            versions += count;
            if (state.placeOf(&state.versionOf(record.newest).body().pubkey) != place) return error.NotFound;
        }
        if (versions != state.versions or records != state.table.len) return error.WrongCount;
        for (&state.forks.banks, 0..) |*bank, number| {
            var id = bank.first;
            var previous: Id = 0;
            var newest: u32 = 0;
            while (id != 0) : (id = state.versionOf(id).bank_next) {
                const version = state.versionOf(id);
                if (state.isNewest(version, id)) newest += 1;
                if (version.bank != number + 1 or version.bank_previous != previous) return error.WrongBank;
                if (version.body().slot != bank.slot or version.body().bank_id != bank.bank_id) return error.WrongBank;
                previous = id;
            }
            if (bank.state != .free and bank.newest_count != newest) return error.WrongCount;
        }
    }
};
