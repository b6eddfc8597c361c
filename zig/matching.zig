//! matching.zig: the consumers that want an update: by the index's keys, by lists of filters without keys, by programs.
//! May touch: the engine's `touched`, and of each consumer the mask and slices of the update at hand. May not touch: rings.
//! Why a stamp: it says which update a consumer's mask is of, so that nothing has to be cleared between two.

const std = @import("std");
const layout = @import("layout.zig");
const key_index = @import("key_index.zig");
const filter_program = @import("filter_program.zig");
const engine_file = @import("engine.zig");
const records = @import("records.zig");
const Engine = engine_file.Engine;
const Consumer = engine_file.Consumer;
const Filter = engine_file.Filter;
const Update = engine_file.Update;
const Slices = engine_file.Slices;
const Program = filter_program.Program;
const Verdict = filter_program.Verdict;
const none = engine_file.none;
const look_ahead = engine_file.look_ahead;
const FrameHeader = layout.FrameHeader;
const Key = key_index.Key;

/// Which filters of a consumer a transaction matches.
pub fn transactionMask(engine: *Engine, consumer: *const Consumer, update: *const Update) u64 {
    const reference = filter_program.TransactionRef.init(update.head, update.tail) catch return 0;
    var mask: u64 = 0;
    for (consumer.filters) |id| if (id != none) {
        const filter = &engine.filters[id];
        if (!filter.is_active) continue;
        const bit = @as(u64, 1) << filter.bit;
        const program = if (filter.program) |*given| given else null;
        const is_candidate = filter.takesTransactions() or
            (filter.is_keyed and (hasKey(engine, id, reference.keys) or hasKey(engine, id, reference.loaded)));
        if (!is_candidate) continue;
        if (program) |one| if (one.kind == .transactions and !filter_program.evaluateTransaction(one, &reference)) continue;
        mask |= bit;
    };
    return mask;
}

fn hasKey(engine: *Engine, filter: u16, keys: []const Key) bool {
    for (keys) |*key| {
        const set = engine.index.lookup(.account, key);
        if (set != key_index.empty and engine.index.sets.contains(set, filter)) return true;
    }
    return false;
}

/// Which filters of accounts of a consumer have one of these keys, or all accounts.
pub fn keyMask(engine: *Engine, consumer: *const Consumer, account: *const Key, owner: *const Key) u64 {
    const by_key = engine.index.lookup(.account, account);
    const by_owner = engine.index.lookup(.owner, owner);
    const sets = &engine.index.sets;
    var mask: u64 = 0;
    for (consumer.filters) |id| if (id != none) {
        const filter = &engine.filters[id];
        if (!filter.is_active or filter.is_keyed) continue;
        const is_found = filter.any_place != none or (by_key != key_index.empty and sets.contains(by_key, id)) or
            (by_owner != key_index.empty and sets.contains(by_owner, id));
        if (is_found) mask |= @as(u64, 1) << filter.bit;
    };
    return mask;
}

/// Whether one filter matches an account, changed or not: what of the data travels. Null: it does not.
pub fn matchOne(engine: *Engine, id: u16, update: *const Update) ?Slices {
    const filter = &engine.filters[id];
    if (!filter.is_active) return null;
    if (filter.any_place == none) {
        const account = update.account.?;
        const by_key = engine.index.lookup(.account, &account.pubkey);
        const by_owner = engine.index.lookup(.owner, &account.owner);
        const sets = &engine.index.sets;
        const is_found = (by_key != key_index.empty and sets.contains(by_key, id)) or (by_owner != key_index.empty and sets.contains(by_owner, id));
        if (!is_found) return null;
    }
    const program = if (filter.program) |*given| given else return &.{};
    if (program.kind != .accounts) return null;
    var reference = filter_program.AccountUpdateRef.init(update.head, update.tail) catch return null;
    reference.changed = true;
    const verdict = filter_program.evaluateAccount(program, &reference);
    return if (verdict.matched()) verdict.slices else null;
}

// The consumers that want the update go into `touched`, each with the mask of its filters that match.

pub fn matchAccount(engine: *Engine, update: *Update) void {
    const account = update.account.?;
    const by_key, const by_owner = engine.index.lookupPair(&account.pubkey, &account.owner);
    matchSets(engine, update, by_key, by_owner);
}

pub fn matchSets(engine: *Engine, update: *Update, by_key: key_index.SetId, by_owner: key_index.SetId) void {
    startMatch(engine);
    for (engine.index.unionOf(by_key, by_owner, &engine.union_buffer)) |filter| tryAccount(engine, update, filter);
    for (engine.any_accounts.slice()) |filter| tryAccount(engine, update, filter);
}

inline fn tryAccount(engine: *Engine, update: *Update, id: u16) void {
    const filter = &engine.filters[id];
    if (!filter.is_active) return;
    const program = if (filter.program) |*given| given else {
        if (filter.is_tracked) records.remember(engine, update, id, filter);
        return touch(engine, filter, &.{});
    };
    const verdict = evaluate(engine, update, filter, program);
    if (verdict.outcome == .no) return;
    // Changed or not: what matches has not left.
    if (filter.is_tracked) records.remember(engine, update, id, filter);
    if (verdict.matched()) touch(engine, filter, verdict.slices) else leaveOut(engine, update, filter);
}

fn evaluate(engine: *Engine, update: *Update, filter: *const Filter, program: *const Program) Verdict {
    if (program.kind != .accounts) return .{ .outcome = .no };
    var reference = filter_program.AccountUpdateRef.init(update.head, update.tail) catch return .{ .outcome = .no };
    // While its state is on its way, what is published does not come as state: so it comes, changed or not.
    if (program.only_changed and filter.snapshots == 0) reference.changed = records.isChanged(engine, update);
    return filter_program.evaluateAccount(program, &reference);
}

/// It matches, but changes nothing, and the filter asks for changes only. It counts once it is published (publishing.zig).
fn leaveOut(engine: *Engine, update: *Update, filter: *Filter) void {
    filter.stamp = engine.stamp;
    // From the history it comes all the same.
    if (!engine.consumers[filter.consumer].isBehind()) update.unchanged += 1;
}

pub fn startMatch(engine: *Engine) void {
    engine.stamp += 1;
    engine.touched_count = 0;
}

inline fn touch(engine: *Engine, filter: *const Filter, slices: Slices) void {
    const consumer = &engine.consumers[filter.consumer];
    const bit = @as(u64, 1) << filter.bit;
    if (consumer.stamp == engine.stamp) {
        consumer.mask |= bit;
        // Filters that want different parts get the whole.
        if (!std.mem.eql(u8, std.mem.sliceAsBytes(consumer.slices), std.mem.sliceAsBytes(slices))) consumer.slices = &.{};
        return;
    }
    consumer.slices = slices;
    consumer.stamp = engine.stamp;
    consumer.mask = bit;
    engine.touched[engine.touched_count] = filter.consumer;
    engine.touched_count += 1;
}

pub fn matchTransaction(engine: *Engine, update: *const Update) void {
    startMatch(engine);
    if (engine.transactions.len == 0 and engine.keyed_transactions == 0 and engine.signatures.count == 0) return;
    const reference = filter_program.TransactionRef.init(update.head, update.tail) catch return; // `parse` has looked
    for (engine.transactions.slice()) |id| {
        const filter = &engine.filters[id];
        if (!filter.is_active) continue;
        if (filter.program) |*program| {
            if (program.kind == .transactions and !filter_program.evaluateTransaction(program, &reference)) continue;
        }
        touch(engine, filter, &.{});
    }
    var signed = engine.signatures.candidates(&reference.body.signature);
    while (signed.next()) |id| {
        const filter = &engine.filters[id];
        if (filter.is_active and filter_program.evaluateTransaction(&filter.program.?, &reference)) touch(engine, filter, &.{});
    }
    if (engine.keyed_transactions == 0) return;
    matchTransactionKeys(engine, &reference, reference.keys);
    matchTransactionKeys(engine, &reference, reference.loaded);
}

/// A probe for each key that the transaction names, many at a time: the cost follows those, not the filters.
fn matchTransactionKeys(engine: *Engine, reference: *const filter_program.TransactionRef, keys: []const Key) void {
    var rest = keys;
    while (rest.len > 0) {
        const some = rest[0..@min(look_ahead, rest.len)];
        rest = rest[some.len..];
        for (some, engine.probes.keys[0..some.len]) |*key, *pointer| pointer.* = key;
        const sets = engine.probes.sets[0..some.len];
        engine.index.lookupBatch(.account, engine.probes.keys[0..some.len], sets);
        for (sets) |set| for (engine.index.unionOf(set, key_index.empty, &engine.union_buffer)) |id| {
            const filter = &engine.filters[id];
            if (!filter.is_active or !filter.is_keyed or filter.stamp == engine.stamp) continue;
            filter.stamp = engine.stamp;
            if (filter_program.evaluateTransaction(&filter.program.?, reference)) touch(engine, filter, &.{});
        };
    }
}

pub fn matchSlot(engine: *Engine, update: *const Update) void {
    const body: *const layout.SlotBody = @ptrCast(update.head[@sizeOf(FrameHeader)..].ptr);
    const wanted = @as(u32, 1) << @intCast(body.status);
    startMatch(engine);
    for (engine.live[0..engine.live_count]) |id| {
        const consumer = &engine.consumers[id];
        const mask = slotMask(engine, consumer, wanted, body.status);
        if (mask == 0) continue;
        consumer.stamp = engine.stamp;
        consumer.mask = mask;
        consumer.slices = &.{};
        engine.touched[engine.touched_count] = id;
        engine.touched_count += 1;
    }
}

/// Without filters for slots a consumer gets those of its statuses, and all bits; with them, what they ask for.
pub fn slotMask(engine: *Engine, consumer: *const Consumer, wanted: u32, status: u32) u64 {
    if (consumer.slot_filters == 0) return if (consumer.statuses & wanted != 0) std.math.maxInt(u64) else 0;
    var mask: u64 = 0;
    var rest = consumer.slot_filters;
    while (rest != 0) : (rest &= rest - 1) {
        const bit: u6 = @intCast(@ctz(rest));
        const program = &(engine.filters[consumer.filters[bit]].program orelse continue);
        if (filter_program.evaluateSlot(program, status)) mask |= @as(u64, 1) << bit;
    }
    return mask;
}
