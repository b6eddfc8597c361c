//! rollback.zig: a dead bank is taken back: consumers are told, and then for each account whose newest version it had
//! written, the version that holds again, or that there is none.
//! May touch: the engine between two updates; its store and tracker. May not touch: requests for state: what is restored is
//! published, and so has a sequence behind theirs.
//! Bounded: each call takes back so many accounts, or for so long, and the next calls go on (`goOn`).
//! Why in parts, and why nobody notices: publishers of other threads wait for the lock. An account is taken back before anything
//! else is said of it: before it is written (`settleAccount`), before it goes out as state (snapshots.zig waits for all of it), before
//! the order of updates is handed over. So the older version never follows a newer one.

const std = @import("std");
const layout = @import("layout.zig");
const platform = @import("platform/mod.zig");
const engine_file = @import("engine.zig");
const publishing = @import("publishing.zig");
const matching = @import("matching.zig");
const records = @import("records.zig");
const delivery = @import("delivery.zig");
const state_file = @import("state.zig");
const forks_file = @import("forks.zig");
const Engine = engine_file.Engine;
const Update = engine_file.Update;
const State = state_file.State;
const FrameHeader = layout.FrameHeader;
const FrameKind = layout.FrameKind;

/// How much a call does.
pub const Pace = struct {
    /// Accounts that it takes back at least, and after how many it looks at the clock again.
    accounts: u32 = 64,
    ns_max: u64 = std.math.maxInt(u64),
};
/// How long the call may take that publishes the bank's end. Who has few accounts is done by then.
const first_ns = 300_000;
const forever_ns = std.math.maxInt(u32);

/// Looks at a slot update that was published.
pub fn noteSlot(engine: *Engine, body: *const layout.SlotBody) void {
    const state = if (engine.state) |*one| one else return;
    const verdict = &engine.verdict;
    state.noteSlot(body, verdict);
    var is_unnumbered = false;
    for (verdict.deads()) |number| {
        state.forks.condemn(number);
        const bank = &state.forks.banks[number];
        if (!bank.is_pending) continue;
        engine.is_rolling_back = true;
        // Another try at its slot could not be told from it.
        is_unnumbered = is_unnumbered or bank.bank_id == 0;
    }
    state.forks.settle(verdict);
    if (!engine.is_rolling_back) return;
    if (is_unnumbered) finish(engine) else goOn(engine, first_ns);
    engine.has_work = engine.has_work or engine.is_rolling_back;
}

/// Takes back what is left.
pub fn finish(engine: *Engine) void {
    while (engine.is_rolling_back) goOn(engine, forever_ns);
}

/// Goes on with it for a moment. What it publishes is to be committed.
pub fn goOn(engine: *Engine, budget_ns: u64) void {
    const state = &engine.state.?;
    const deadline = platform.monotonicNs() + @min(budget_ns, engine.rollback_pace.ns_max);
    var count: u32 = 0;
    while (state.forks.nextPending()) |number| {
        const bank = &state.forks.banks[number];
        tell(engine, number);
        while (bank.first != 0) : (count += 1) {
            if (count == engine.rollback_pace.accounts) {
                if (platform.monotonicNs() >= deadline) return;
                count = 0;
            }
            takeBack(engine, state, bank.first);
        }
        state.forks.finish(number);
    }
    engine.is_rolling_back = false;
}

/// Something is to be published of an account: what a dead bank wrote of it goes first.
pub fn settleAccount(engine: *Engine, key: *const state_file.Key) void {
    const state = &engine.state.?;
    const record = state.find(key) orelse return;
    const newest = record.newest;
    const bank = state.versionOf(newest).bank;
    if (!state.forks.isPending(bank)) return;
    tell(engine, @intCast(bank - 1));
    takeBack(engine, state, newest);
}

/// Says that a bank is dead, before the first account of it.
fn tell(engine: *Engine, number: u16) void {
    const state = &engine.state.?;
    const bank = &state.forks.banks[number];
    if (bank.is_told) return;
    bank.is_told = true;
    const is_uncertain = bank.has_forgotten or (bank.newest_count > 0 and mayBeCut(state, bank));
    if (bank.newest_count == 0 and !is_uncertain) return; // nobody has anything of it that still stands
    state.rollbacks += 1;
    state.rolled_back += bank.newest_count;
    sayRollback(engine, bank, bank.newest_count, if (is_uncertain) @max(1, state.evicted) else 0);
}

/// Versions of a bank that are looked at for that.
const looks_max = 4096;

/// Whether of an account of a bank that is not taken back nobody may know what holds again. Of more than can be looked at:
/// perhaps.
fn mayBeCut(state: *const State, bank: *const forks_file.Bank) bool {
    if (state.evicted == 0 and !state.has_dropped) return false;
    var id = bank.first;
    for (0..looks_max) |_| {
        if (id == 0) return false;
        const version = state.versionOf(id);
        const record = &state.records.items[version.record];
        if (record.newest == id and record.is_cut) return true;
        id = version.bank_next;
    }
    return true;
}

/// As if published by somebody else: only what is known changes.
pub fn seedSlot(state: *State, verdict: *@import("forks.zig").Verdict, body: *const layout.SlotBody) void {
    state.noteSlot(body, verdict);
    for (verdict.deads()) |number| {
        const bank = &state.forks.banks[number];
        while (bank.first != 0) {
            const id = bank.first;
            const version = state.versionOf(id);
            const place = version.record;
            const key = version.body().pubkey;
            state.unlink(place, id);
            if (state.records.items[place].newest == 0) state.removeEmpty(place, &key);
            state.giveBack(id);
        }
    }
    state.forks.settle(verdict);
}

/// One version of a dead bank.
fn takeBack(engine: *Engine, state: *State, dead: state_file.Id) void {
    const version = state.versionOf(dead);
    const place = version.record;
    const record = &state.records.items[place];
    const was_newest = record.newest == dead;
    state.unlink(place, dead);
    defer state.giveBack(dead);
    if (!was_newest) return;
    while (record.newest != 0) {
        const next = record.newest;
        if (!isDead(state, state.versionOf(next))) break;
        state.unlink(place, next);
        state.giveBack(next);
    }
    if (record.newest == 0) {
        const key = version.body().pubkey;
        sayWithdrawn(engine, version);
        state.removeEmpty(place, &key);
    } else {
        restore(engine, state.versionOf(record.newest));
        record.sequence = engine.sequence;
    }
}

fn isDead(state: *const State, version: *const state_file.Version) bool {
    return version.bank != 0 and state.forks.banks[version.bank - 1].state == .dead;
}

/// To everybody whose protocol knows it.
/// @param evicted Not 0 if it can't be said of all that the bank had written what holds again.
fn sayRollback(engine: *Engine, bank: *const forks_file.Bank, accounts: u64, evicted: u64) void {
    const slot = bank.slot;
    var frame = std.mem.zeroes(extern struct { header: FrameHeader, body: layout.RollbackBody });
    frame.header.kind = @backingInt(FrameKind.rollback);
    frame.body = .{ .slot = slot, .bank_id = bank.bank_id, .accounts = accounts, .evicted = evicted };
    var update: Update = .{
        .kind = .rollback,
        .head = std.mem.asBytes(&frame),
        .tail = &.{},
        .slot = slot,
        .publish_ns = 0,
        .payload = .{ .bytes = &.{} },
        .is_due = true,
    };
    matching.startMatch(engine);
    for (engine.live[0..engine.live_count]) |id| {
        const consumer = &engine.consumers[id];
        if (consumer.producer != .native) continue;
        consumer.stamp = engine.stamp;
        consumer.mask = std.math.maxInt(u64);
        consumer.slices = &.{};
        engine.touched[engine.touched_count] = id;
        engine.touched_count += 1;
    }
    publishing.takeOrder(engine, &update);
    deliver(engine, &update);
}

/// The version that holds again goes to whom it matches; filters that only the dead one matched are left.
fn restore(engine: *Engine, version: *state_file.Version) void {
    var head: [@sizeOf(FrameHeader) + @sizeOf(layout.AccountBody) + layout.signature_size]u8 align(8) = undefined;
    @memcpy(head[0..version.head_length], version.head());
    const header: *FrameHeader = @ptrCast(&head);
    header.flags |= layout.frame_flag_restored;
    var update: engine_file.Update = undefined;
    if (!publishing.parse(engine, head[0..version.head_length], version.tail(), &update)) return;
    update.is_due = true;
    update.changed = true;
    matching.matchAccount(engine, &update);
    records.rewind(engine, &update);
    publishing.takeOrder(engine, &update);
    deliver(engine, &update);
    delivery.settle(engine, &update.payload);
    for (update.leavers[0..update.leaver_count]) |leaver| records.sayLeft(engine, leaver.consumer, leaver.mask, &update);
}

/// Who had matched the dead version knows an account of which there is nothing any more.
fn sayWithdrawn(engine: *Engine, version: *state_file.Version) void {
    var matched: engine_file.Update = undefined;
    if (!publishing.parse(engine, version.head(), version.tail(), &matched)) return;
    matched.changed = true;
    matching.matchAccount(engine, &matched);
    records.forgetRecord(engine, &version.body().pubkey);
    var frame = records.departure(.withdrawn, std.mem.zeroes(FrameHeader), version.body());
    var update = records.departureUpdate(.withdrawn, &frame, 0, true);
    for (engine.touched[0..engine.touched_count]) |id| engine.consumers[id].slices = &.{};
    publishing.takeOrder(engine, &update);
    deliver(engine, &update);
}

fn deliver(engine: *Engine, update: *Update) void {
    for (engine.touched[0..engine.touched_count]) |id| {
        if (engine.consumers[id].producer != .native) continue;
        if (delivery.deliver(engine, id, update)) engine.counts.deliveries += 1;
    }
}
