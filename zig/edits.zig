//! edits.zig: edits of named filters: keys go into the index and out of it, programs are checked and copied; and what all
//! of that asks of a source (demand).
//! May touch: the engine's filters, its lists of them, the index. May not touch: rings, the order of updates.
//! Why an edit is whole or not at all: a filter of several messages is made beside the one in force and takes its place
//! with the last; what is refused takes back what it has added.
//! Why no consumer takes what is others': keys and sets are bounded for all of its filters together, and the last filters
//! are kept for who has none.

const layout = @import("layout.zig");
const platform = @import("platform/mod.zig");
const key_index = @import("key_index.zig");
const filter_program = @import("filter_program.zig");
const snapshots = @import("snapshots.zig");
const engine_file = @import("engine.zig");
const consumers = @import("consumers.zig");
const Engine = engine_file.Engine;
const Consumer = engine_file.Consumer;
const Filter = engine_file.Filter;
const filters_max = engine_file.filters_max;
const none = engine_file.none;
const keys_per_edit_max = engine_file.keys_per_edit_max;
const sweep_budget = engine_file.sweep_budget;
const codeOf = engine_file.codeOf;
const consumers_max = engine_file.consumers_max;
const Demand = @import("demand.zig").Demand;
const Key = key_index.Key;
const Code = platform.Code;

/// What an edit asks for. In force when the call returns, for every update with a greater sequence.
pub const Edit = struct {
    op: layout.FilterOp,
    bit: u6,
    takes_transactions: bool,
    is_last: bool,
    accounts: []align(1) const Key,
    owners: []align(1) const Key,
    program: []const u8,
    /// What is known of these keys, or of what the new filter matches, comes first.
    wants_state: bool = false,
    /// It is to take over: see `snapshots`.
    wants_versions: bool = false,
};

/// 0, or why it was refused; then nothing has changed.
pub fn edit(engine: *Engine, id: u16, request: *const Edit) Code {
    const consumer = consumers.consumerAt(engine, id) orelse return codeOf(.bad_argument);
    if (consumer.state != .live) return codeOf(.bad_argument);
    defer _ = engine.index.sweep(sweep_budget);
    defer if (engine.demand) |*demand| {
        demand.touch(.account, request.accounts);
        demand.touch(.owner, request.owners);
    };
    const wish = if (request.wants_state and consumer.producer == .native)
        snapshots.create(engine, consumer, request) catch |err| return codeOf(switch (err) {
            error.TooMany => .requests_limit,
            error.OutOfMemory => .memory_limit,
        })
    else
        null;
    const code = change(engine, consumer, id, request);
    if (code < 0) {
        if (wish) |made| snapshots.destroy(engine, made);
        return code;
    }
    consumer.generation +%= 1;
    if (wish) |made| {
        const is_staged = consumer.staged != none and engine.filters[consumer.staged].bit == request.bit;
        const filter = if (is_staged) consumer.staged else consumer.filters[request.bit];
        // An edit that took the filter away asks for the state of nothing.
        if (filter == none) snapshots.destroy(engine, made) else snapshots.append(engine, id, made, filter);
    }
    return code;
}

fn change(engine: *Engine, consumer: *Consumer, id: u16, request: *const Edit) Code {
    return switch (request.op) {
        .add => addToFilter(engine, consumer, id, request),
        .remove => removeFromFilter(engine, consumer, request),
        .replace => replaceFilter(engine, consumer, id, request),
        .drop => blk: {
            if (consumer.staged != none and engine.filters[consumer.staged].bit == request.bit) {
                dropFilter(engine, consumer.staged);
                consumer.staged = none;
            }
            const filter = consumer.filters[request.bit];
            if (filter != none) dropFilter(engine, filter);
            consumer.filters[request.bit] = none;
            noteSlotFilter(engine, consumer, request.bit);
            break :blk 0;
        },
        _ => codeOf(.bad_argument),
    };
}

fn addToFilter(engine: *Engine, consumer: *Consumer, id: u16, request: *const Edit) Code {
    if (request.program.len > 0) return codeOf(.bad_argument);
    // Keys for a filter that is being made go there.
    const staged = consumer.staged != none and engine.filters[consumer.staged].bit == request.bit;
    var filter = if (staged) consumer.staged else consumer.filters[request.bit];
    const is_new = filter == none;
    if (is_new) {
        const made = makeFilter(engine, id, request.bit);
        if (made < 0) return made;
        filter = @intCast(made);
    }
    const code = addKeys(engine, filter, request);
    if (code < 0) {
        // Half a filter is none. What is added to its bit from now on is for the one that is in force.
        if (staged) consumer.staged = none;
        if (staged or is_new) dropFilter(engine, filter);
        return code;
    }
    if (request.takes_transactions) takeTransactions(engine, filter);
    if (is_new) {
        engine.filters[filter].is_active = true;
        consumer.filters[request.bit] = filter;
    }
    if (staged and request.is_last) {
        activate(engine, consumer);
        if (engine.demand) |*demand| demand.touchAll();
    }
    return 0;
}

fn replaceFilter(engine: *Engine, consumer: *Consumer, id: u16, request: *const Edit) Code {
    if (consumer.staged != none) dropFilter(engine, consumer.staged);
    consumer.staged = none;
    const made = makeFilter(engine, id, request.bit);
    if (made < 0) return made;
    const filter: u16 = @intCast(made);
    const code = fillFilter(engine, filter, request);
    if (code < 0) {
        dropFilter(engine, filter);
        return code;
    }
    consumer.staged = filter;
    if (request.is_last) activate(engine, consumer);
    return 0;
}

fn fillFilter(engine: *Engine, filter: u16, request: *const Edit) Code {
    const state = &engine.filters[filter];
    if (request.program.len > 0) {
        // A private copy: what was checked is what runs.
        const memory = platform.pages(request.program.len);
        if (memory.code < 0) return codeOf(.memory_limit);
        state.program_bytes = @as([*]u8, @ptrFromInt(memory.address))[0..request.program.len];
        @memcpy(state.program_bytes, request.program);
        state.program = filter_program.validate(state.program_bytes) catch return codeOf(.bad_argument);
        const is_unkeyed = request.accounts.len == 0 and request.owners.len == 0 and request.is_last;
        if (state.program.?.kind == .accounts and !state.program.?.is_empty) trackFilter(engine, filter);
        if (state.program.?.only_changed) engine.change_filters += 1;
        switch (state.program.?.kind) {
            .accounts => if (is_unkeyed) {
                state.any_place = engine.any_accounts.add(filter);
            },
            .transactions => if (is_unkeyed) {
                takeTransactions(engine, filter);
            } else {
                state.is_keyed = true;
                engine.keyed_transactions += 1;
            },
            else => {},
        }
    }
    if (request.takes_transactions) takeTransactions(engine, filter);
    return addKeys(engine, filter, request);
}

/// The one that was being made takes over, in one step.
fn activate(engine: *Engine, consumer: *Consumer) void {
    const filter = consumer.staged;
    const bit = engine.filters[filter].bit;
    if (consumer.filters[bit] != none) dropFilter(engine, consumer.filters[bit]);
    consumer.filters[bit] = filter;
    consumer.staged = none;
    engine.filters[filter].is_active = true;
    noteSlotFilter(engine, consumer, bit);
    if (engine.filters[filter].snapshots > 0) snapshots.onActivated(engine, engine.filters[filter].consumer, filter);
}

fn noteSlotFilter(engine: *Engine, consumer: *Consumer, bit: u6) void {
    const flag = @as(u64, 1) << bit;
    consumer.slot_filters &= ~flag;
    const filter = consumer.filters[bit];
    if (filter == none) return;
    const program = engine.filters[filter].program orelse return;
    if (program.kind == .slots) consumer.slot_filters |= flag;
}

fn removeFromFilter(engine: *Engine, consumer: *Consumer, request: *const Edit) Code {
    const filter = consumer.filters[request.bit];
    if (filter == none) return 0;
    // A key at a time: what has been removed stays removed, whatever becomes of the next one.
    for ([_][]align(1) const Key{ request.accounts, request.owners }, 0..) |keys, kind| {
        for (keys) |*key| {
            const aligned = key.*;
            const removed = engine.index.remove(@fromBackingInt(@intCast(kind)), &aligned, filter) catch return codeOf(.memory_limit);
            if (removed) keyCount(engine, filter, @fromBackingInt(@intCast(kind))).* -= 1;
        }
    }
    if (request.takes_transactions) dropTransactions(engine, filter);
    return 0;
}

/// Two for each consumer, so that it can replace one under a fresh number, where that leaves half of all to who wants
/// more; else one. @param permitted Consumers that may be there at a time.
pub fn keepBack(engine: *Engine, permitted: u32) void {
    const count: u32 = @min(permitted, consumers_max);
    engine.kept_each = if (2 * count <= filters_max / 2) 2 else 1;
    engine.kept_count = count * engine.kept_each;
}

/// A consumer without filters gets one while there is any; who has some, only what is not kept back for others.
fn mayMakeFilter(engine: *Engine, id: u16) bool {
    const index = engine.index;
    const held = engine.consumers[id].filter_count;
    if (held == 0) {
        // Its own may be among those of consumers that left a moment ago.
        if (index.freeCount() == 0) _ = index.sweep(first_filter_budget);
        return index.freeCount() > 0;
    }
    const kept_for_others = engine.kept_count -| engine.kept_taken -| (engine.kept_each -| held);
    return index.freeCount() > kept_for_others;
}

/// In nanoseconds: what the largest edit takes.
const first_filter_budget = 20_000_000;

fn makeFilter(engine: *Engine, consumer: u16, bit: u6) Code {
    if (!mayMakeFilter(engine, consumer)) return codeOf(.filters_limit);
    for (0..filters_max) |step| {
        const filter: u16 = @intCast((engine.filter_search + step) % filters_max);
        if (engine.filters[filter].consumer != none) continue;
        engine.index.admit(filter) catch continue; // something is left in the index of the one who had this number
        engine.filter_search = filter + 1;
        const generation = engine.filters[filter].generation;
        engine.filters[filter] = .{ .consumer = consumer, .bit = bit, .generation = generation };
        const held = &engine.consumers[consumer].filter_count;
        if (held.* < engine.kept_each) engine.kept_taken += 1;
        held.* += 1;
        return filter;
    }
    unreachable; // one was free
}

/// Matches nothing from now on.
pub fn dropFilter(engine: *Engine, filter: u16) void {
    const state = &engine.filters[filter];
    const consumer = &engine.consumers[state.consumer];
    // That an account has left it is news to nobody, and of the filter that follows it would be wrong.
    if (consumer.filters[state.bit] == filter) consumer.progress.left_due &= ~(@as(u64, 1) << state.bit);
    engine.index.dismiss(filter);
    consumer.filter_count -= 1;
    if (consumer.filter_count < engine.kept_each) engine.kept_taken -= 1;
    if (engine.demand) |*demand| {
        if (state.is_active and state.account_keys + state.owner_keys > 0) demand.touchTold();
    }
    if (state.any_place != none) {
        const moved = engine.any_accounts.remove(state.any_place);
        if (moved != none) engine.filters[moved].any_place = state.any_place;
    }
    dropTransactions(engine, filter);
    if (state.program) |program| engine.change_filters -= @intFromBool(program.only_changed);
    freeProgram(state);
    if (state.is_tracked) engine.tracked_filters -= 1;
    if (state.is_keyed) engine.keyed_transactions -= 1;
    state.* = .{ .generation = state.generation +% 1 };
}

/// By owner or by content: then an account can leave it.
fn trackFilter(engine: *Engine, filter: u16) void {
    const state = &engine.filters[filter];
    if (state.is_tracked or engine.consumers[state.consumer].producer != .native) return;
    state.is_tracked = true;
    engine.tracked_filters += 1;
    if (engine.tracker) |*tracker| tracker.openEyes();
}

pub fn freeProgram(filter: *Filter) void {
    if (filter.program_bytes.len > 0) platform.unmap(@intFromPtr(filter.program_bytes.ptr), filter.program_bytes.len);
    filter.program_bytes = &.{};
    filter.program = null;
}

fn takeTransactions(engine: *Engine, filter: u16) void {
    const state = &engine.filters[filter];
    if (state.takesTransactions()) return;
    if (signatureOf(state)) |signature| {
        engine.signatures.add(signature, filter);
        state.is_signed = true;
    } else {
        state.transactions_place = engine.transactions.add(filter);
    }
}

fn signatureOf(filter: *const Filter) ?*const [layout.signature_size]u8 {
    return if (filter.program) |*program| program.signature else null;
}

fn dropTransactions(engine: *Engine, filter: u16) void {
    const state = &engine.filters[filter];
    if (state.is_signed) engine.signatures.remove(signatureOf(state).?, filter);
    state.is_signed = false;
    if (state.transactions_place == none) return;
    const moved = engine.transactions.remove(state.transactions_place);
    if (moved != none) engine.filters[moved].transactions_place = state.transactions_place;
    state.transactions_place = none;
}

/// All of them or none: those that were there before stay in any case.
fn addKeys(engine: *Engine, filter: u16, request: *const Edit) Code {
    const lists = [_][]align(1) const Key{ request.accounts, request.owners };
    for (lists) |keys| if (keys.len > keys_per_edit_max) return codeOf(.bad_argument);
    if (request.owners.len > 0) trackFilter(engine, filter);
    boundFilter(engine, filter);
    for (lists, 0..) |keys, kind| {
        var done: usize = 0;
        while (done < keys.len) {
            const some = keys[done..][0..@min(key_index.batch_max, keys.len - done)];
            const added = &engine.added[kind][done / key_index.batch_max];
            const code = addSome(engine, filter, @fromBackingInt(@intCast(kind)), some, added);
            if (code < 0) {
                if (kind > 0) removeAdded(engine, filter, .account, lists[0]);
                removeAdded(engine, filter, @fromBackingInt(@intCast(kind)), keys[0..done]);
                return code;
            }
            done += some.len;
        }
    }
    return 0;
}

/// Keys, and sets made: of both a consumer may have so many, in all of its filters.
const Held = @Vector(2, u32);

fn heldBy(engine: *const Engine, filter: u16) Held {
    return if (filter == none) @splat(0) else .{ engine.index.keyCountOf(filter), engine.index.setsMadeBy(filter) };
}

/// What its consumer's other filters leave to it. One that is being made counts in place of the one that it will replace:
/// else who has more than half of the limit could replace nothing. So neither what is in force is ever more, nor what
/// will be when the staged one takes over.
fn boundFilter(engine: *Engine, filter: u16) void {
    const state = &engine.filters[filter];
    const consumer = &engine.consumers[state.consumer];
    var now: Held = @splat(0);
    for (consumer.filters, 0..) |other, bit| {
        if (bit != state.bit) now += heldBy(engine, other);
    }
    var then = now;
    if (consumer.staged != none and consumer.staged != filter) {
        const replaced = consumer.filters[engine.filters[consumer.staged].bit];
        then = now - heldBy(engine, replaced) + heldBy(engine, consumer.staged);
    }
    const options = &engine.index.options;
    const left = Held{ options.keys_per_consumer_max, options.sets_per_consumer_max } -| @max(now, then);
    engine.index.bound(filter, left[0], left[1]);
}

/// @param added A bit for each that was not there already.
fn addSome(engine: *Engine, filter: u16, kind: key_index.Kind, keys: []align(1) const Key, added: *u64) Code {
    var copies: [key_index.batch_max]Key = undefined;
    var pointers: [key_index.batch_max]*const Key = undefined;
    for (keys, 0..) |key, i| {
        copies[i] = key;
        pointers[i] = &copies[i];
    }
    added.* = engine.index.addBatch(kind, pointers[0..keys.len], filter) catch |err| return codeOf(switch (err) {
        error.OutOfMemory => .memory_limit,
        error.NotAdmitted => .bad_argument,
        error.ConsumerKeysFull => .filter_keys_limit,
        error.KeysFull => .keys_limit,
        error.SetsFull, error.SetBytesFull, error.ConsumerSetsFull => .sets_limit,
    });
    keyCount(engine, filter, kind).* += @popCount(added.*);
    return 0;
}

fn keyCount(engine: *Engine, filter: u16, kind: key_index.Kind) *u32 {
    const state = &engine.filters[filter];
    return if (kind == .account) &state.account_keys else &state.owner_keys;
}

/// Takes back what this request has added.
fn removeAdded(engine: *Engine, filter: u16, kind: key_index.Kind, keys: []align(1) const Key) void {
    for (keys, 0..) |key, i| {
        const added = engine.added[@backingInt(kind)][i / key_index.batch_max];
        if (added >> @intCast(i % key_index.batch_max) & 1 == 0) continue;
        if (engine.index.remove(kind, &key, filter) catch false) keyCount(engine, filter, kind).* -= 1;
    }
}

// Demand

/// From now on it is known which keys are wanted. 0, or `memory_limit`.
pub fn startDemand(engine: *Engine) Code {
    if (engine.demand != null) return 0;
    const options = &engine.index.options;
    engine.demand = Demand.init(options.pages, options.seed, options.keys_max) catch return codeOf(.memory_limit);
    return 0;
}

/// Writes what has changed of it since the last call: at most as many records as there is room for, looking at about
/// `steps` keys. Returns their number, or `memory_limit`.
pub fn collectDemand(engine: *Engine, head: *layout.DemandHead, out: []layout.DemandRecord, steps: u32) Code {
    const demand = if (engine.demand) |*demand| demand else return codeOf(.bad_argument);
    const count = demand.collect(engine.index, engine, out, steps) catch return codeOf(.memory_limit);
    head.* = .{
        .is_done = @intFromBool(demand.isDone()),
        .all_accounts = @intFromBool(isAnyInForce(engine, engine.any_accounts.slice())),
        .all_transactions = @intFromBool(isAnyInForce(engine, engine.transactions.slice()) or isAnySignedInForce(engine)),
        .pad_0 = 0,
    };
    return @intCast(count);
}

fn isAnyInForce(engine: *const Engine, filters: []const u16) bool {
    for (filters) |filter| if (engine.filters[filter].is_active) return true;
    return false;
}

/// For the source it is as any: no other list of what is wanted can find a transaction by its signature.
fn isAnySignedInForce(engine: *const Engine) bool {
    if (engine.signatures.count == 0) return false;
    for (&engine.filters) |*filter| if (filter.is_signed and filter.is_active) return true;
    return false;
}

/// What the keys of a filter are for, once it is in force.
pub fn wants(engine: *const Engine, filter: u16) u8 {
    const state = &engine.filters[filter];
    if (!state.is_active) return 0;
    if (state.is_keyed) return layout.demand_transactions;
    const program = state.program orelse return layout.demand_accounts;
    return if (program.kind == .accounts) layout.demand_accounts else 0;
}
