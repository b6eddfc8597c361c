//! snapshots.zig: requests for state: what the sender knows of what a filter asks for goes into the consumer's ring, paced
//! by the room in it, and then a mark that says that this was all (design D14).
//! May touch: the engine's store, index and rings, between updates. May not touch: the order of updates.
//! Why exactly once, and never backwards: a request takes effect at a sequence S. An account that was published after S
//! went out live, so the walk leaves it out; of all others the newest version is offered, before anything newer of it can
//! be. Records keep their places, so a walk meets each once.
//! Bounded: by time in each call, by keys that wait (`key_bytes_max`), by requests of one consumer.

const std = @import("std");
const layout = @import("layout.zig");
const platform = @import("platform/mod.zig");
const ring = @import("ring.zig");
const filter_program = @import("filter_program.zig");
const engine_file = @import("engine.zig");
const consumers = @import("consumers.zig");
const edits = @import("edits.zig");
const publishing = @import("publishing.zig");
const matching = @import("matching.zig");
const records = @import("records.zig");
const delivery = @import("delivery.zig");
const waiting = @import("waiting.zig");
const marks = @import("marks.zig");
const state_file = @import("state.zig");
const forks = @import("forks.zig");
const tracker = @import("tracker.zig");
const Engine = engine_file.Engine;
const Consumer = engine_file.Consumer;
const Update = engine_file.Update;
const Slices = engine_file.Slices;
const Key = state_file.Key;
const FrameHeader = layout.FrameHeader;
const assert = std.debug.assert;

/// Keys of all requests of a sender that are not answered yet.
const key_bytes_max = layout.state_request_bytes_max;
/// Of one consumer.
const requests_max = layout.state_requests_max;
/// Live frames find that part of a ring free of state, if they do not take it themselves.
const live_share = 4;

/// One message that asks for state. What follows in memory is a copy of its keys.
pub const Request = struct {
    next: ?*Request,
    size: usize,
    filter: u16,
    filter_generation: u16,
    bit: u6,
    /// Matches all that its filter does, by no keys.
    is_all: bool,
    /// Who asks is to take over, and needs what may hold again once a bank is dead; and which banks are.
    has_versions: bool,
    /// The answer comes behind what this one asks for; else with a later one.
    is_last: bool,
    generation: u32,
    /// What was published after it went out live.
    sequence: u64,
    account_count: u32,
    owner_count: u32,
    has_keys: bool,

    fn accounts(request: *Request) []Key {
        return request.keys(0, request.account_count);
    }

    fn owners(request: *Request) []Key {
        return request.keys(request.account_count, request.owner_count);
    }

    fn keys(request: *Request, from: usize, count: usize) []Key {
        if (!request.has_keys) return &.{};
        const all: [*]Key = @ptrFromInt(@intFromPtr(request) + @sizeOf(Request));
        return all[from..][0..count];
    }

    fn isDense(request: *const Request) bool {
        return request.is_all or request.owner_count > 0;
    }
};

/// What one consumer waits for, in its order, and how far the first of it has come.
pub const Queue = struct {
    first: ?*Request = null,
    last: ?*Request = null,
    count: u16 = 0,
    is_started: bool = false,
    is_dense: bool = false,
    /// Keys: the request and the key in it that come next. Then records, by their places.
    at: ?*Request = null,
    index: u32 = 0,
    place: u32 = 0,
    known: u64 = 0,
    unknown: u64 = 0,
    /// Of the record at `place`, if all versions are wanted: the last one that was sent. And what was told of forks.
    sent: ?tracker.Version = null,
    fork: u32 = 0,
};

/// How much one call may do.
pub const Budget = struct {
    deadline_ns: u64,
    steps: u32 = steps_max,
    is_over: bool = false,

    const steps_max = 1024;
    const clock_every = 32;

    pub fn of(ns: u64) Budget {
        return .{ .deadline_ns = platform.monotonicNs() + ns };
    }

    pub fn spend(budget: *Budget) bool {
        if (budget.is_over) return false;
        budget.charge(1);
        return true;
    }

    /// What one step took beyond the usual: a consumer decides by its requests and filters how long one is.
    pub fn charge(budget: *Budget, steps: u32) void {
        const before = budget.steps;
        budget.steps -|= steps;
        const is_clock_due = before / clock_every != budget.steps / clock_every;
        if (budget.steps == 0 or (is_clock_due and platform.monotonicNs() >= budget.deadline_ns)) budget.is_over = true;
    }
};

// Asking

/// Before the edit is made, so that it can be refused.
pub fn create(engine: *Engine, consumer: *const Consumer, edit: *const edits.Edit) error{ TooMany, OutOfMemory }!*Request {
    if (consumer.snapshots.count >= requests_max) return error.TooMany;
    // Who knows nothing needs no keys to say so.
    const has_keys = engine.state != null;
    const count = if (has_keys) edit.accounts.len + edit.owners.len else 0;
    const size = @sizeOf(Request) + count * @sizeOf(Key);
    if (engine.request_bytes + size > key_bytes_max) return error.TooMany;
    const memory = platform.pages(size);
    if (memory.code < 0) return error.OutOfMemory;
    engine.request_bytes += size;
    const request: *Request = @ptrFromInt(memory.address);
    request.* = .{
        .next = null,
        .size = size,
        .filter = engine_file.none,
        .filter_generation = 0,
        .bit = edit.bit,
        .is_all = false,
        .has_versions = edit.wants_versions,
        .is_last = edit.is_last,
        .generation = 0,
        .sequence = 0,
        .account_count = @intCast(edit.accounts.len),
        .owner_count = @intCast(edit.owners.len),
        .has_keys = has_keys,
    };
    if (has_keys) {
        @memcpy(request.accounts(), edit.accounts);
        @memcpy(request.owners(), edit.owners);
    }
    return request;
}

pub fn destroy(engine: *Engine, request: *Request) void {
    engine.request_bytes -= request.size;
    platform.unmap(@intFromPtr(request), request.size);
}

/// The edit is made: the request waits for its turn. `filter` is the one that it was about.
pub fn append(engine: *Engine, id: u16, request: *Request, filter: u16) void {
    const consumer = &engine.consumers[id];
    const queue = &consumer.snapshots;
    const state = &engine.filters[filter];
    request.filter = filter;
    request.filter_generation = state.generation;
    request.generation = consumer.generation;
    request.sequence = waiting.positionOf(engine, consumer);
    request.is_all = state.any_place != engine_file.none;
    if (request.isDense()) {
        std.sort.heap(Key, request.accounts(), {}, isLess);
        std.sort.heap(Key, request.owners(), {}, isLess);
    }
    // One that was to go on and does not is answered by itself.
    if (queue.last) |last| if (!last.is_last and last.filter != filter) {
        last.is_last = true;
    };
    if (queue.last) |last| last.next = request else queue.first = request;
    queue.last = request;
    queue.count += 1;
    state.snapshots += 1;
    if (request.has_versions and !consumer.is_heir) {
        consumer.is_heir = true;
        engine.heir_count += 1;
    }
    engine.snapshot_count += 1;
    engine.has_work = true;
}

/// A filter of several messages is in force: from here on its updates are live.
pub fn onActivated(engine: *Engine, id: u16, filter: u16) void {
    const consumer = &engine.consumers[id];
    var next = consumer.snapshots.first;
    while (next) |request| : (next = request.next) {
        if (request.filter == filter and request.filter_generation == engine.filters[filter].generation) request.sequence = waiting.positionOf(engine, consumer);
    }
}

/// What came up to here did not all come live after all.
pub fn restart(consumer: *Consumer, sequence: u64) void {
    var next = consumer.snapshots.first;
    while (next) |request| : (next = request.next) request.sequence = sequence;
}

fn isLess(_: void, a: Key, b: Key) bool {
    return std.mem.order(u8, &a, &b) == .lt;
}

fn contains(keys: []const Key, key: *const Key) bool {
    var low: usize = 0;
    var high: usize = keys.len;
    while (low < high) {
        const middle = low + (high - low) / 2;
        switch (std.mem.order(u8, &keys[middle], key)) {
            .lt => low = middle + 1,
            .gt => high = middle,
            .eq => return true,
        }
    }
    return false;
}

/// Nobody waits for an answer any longer.
pub fn clear(engine: *Engine, consumer: *Consumer) void {
    while (consumer.snapshots.first != null) pop(engine, consumer);
}

fn pop(engine: *Engine, consumer: *Consumer) void {
    const queue = &consumer.snapshots;
    const request = queue.first.?;
    queue.first = request.next;
    if (queue.first == null) queue.last = null;
    queue.count -= 1;
    queue.is_started = false;
    engine.snapshot_count -= 1;
    if (isCurrent(engine, request)) engine.filters[request.filter].snapshots -= 1;
    destroy(engine, request);
}

fn isCurrent(engine: *const Engine, request: *const Request) bool {
    const filter = &engine.filters[request.filter];
    return filter.consumer != engine_file.none and filter.generation == request.filter_generation;
}

// Answering

/// Goes on with what one consumer waits for, until there is no room, or no time.
pub fn step(engine: *Engine, id: u16, budget: *Budget) void {
    if (engine.is_rolling_back) return; // what is known is not what holds
    const consumer = &engine.consumers[id];
    const queue = &consumer.snapshots;
    while (consumer.state == .live and !consumer.isBehind()) {
        const first = queue.first orelse return;
        const last = lastOf(first) orelse {
            // Not all of it has come. If the filter that was being made is gone, nobody waits for an answer.
            if (isCurrent(engine, first)) return;
            pop(engine, consumer);
            continue;
        };
        if (!consumer.backlog.isEmpty()) return wait(consumer);
        if (!queue.is_started) start(queue);
        const is_current = isCurrent(engine, first);
        if (is_current) switch (walk(engine, id, first, last, budget)) {
            .done => {},
            .no_room => return wait(consumer),
            .no_time, .over => return,
        };
        if (!sayComplete(engine, id, last, !is_current)) return wait(consumer);
        if (consumer.state != .live) return;
        while (true) {
            const was_last = queue.first == last;
            pop(engine, consumer);
            if (was_last) break;
        }
    }
}

fn lastOf(first: *Request) ?*Request {
    var request = first;
    while (!request.is_last) request = request.next orelse return null;
    return request;
}

fn start(queue: *Queue) void {
    queue.is_started = true;
    queue.at = queue.first;
    queue.index = 0;
    queue.place = 0;
    queue.known = 0;
    queue.unknown = 0;
    queue.is_dense = false;
    queue.sent = null;
    queue.fork = 0;
    var request = queue.first.?;
    while (true) : (request = request.next.?) {
        if (request.isDense()) queue.is_dense = true;
        if (request.is_last) break;
    }
}

/// The consumer's wake goes on with it.
pub fn wait(consumer: *Consumer) void {
    consumer.waits_for_room = true;
    consumer.producer.native.ring.awaitRoom();
}

const Outcome = enum {
    done,
    no_room,
    no_time,
    /// The consumer is.
    over,
};

fn walk(engine: *Engine, id: u16, first: *Request, last: *Request, budget: *Budget) Outcome {
    const queue = &engine.consumers[id].snapshots;
    while (queue.at) |request| {
        const outcome = walkKeys(engine, id, request, budget);
        if (outcome != .done) return outcome;
        queue.at = if (request == last) null else request.next;
        queue.index = 0;
    }
    if (queue.is_dense) {
        const outcome = walkRecords(engine, id, first, budget);
        if (outcome != .done) return outcome;
    }
    return if (first.has_versions) walkForks(engine, id, first, budget) else .done;
}

/// Key by key. Where records are walked as well, this only counts those that are unknown.
fn walkKeys(engine: *Engine, id: u16, request: *Request, budget: *Budget) Outcome {
    const queue = &engine.consumers[id].snapshots;
    const state = if (engine.state) |*one| one else {
        queue.unknown += request.account_count;
        return .done;
    };
    const keys = request.accounts();
    while (queue.index < keys.len) : (queue.index += 1) {
        if (!budget.spend()) return .no_time;
        const record = state.find(&keys[queue.index]) orelse {
            queue.unknown += 1;
            continue;
        };
        if (queue.is_dense) continue;
        const outcome = consider(engine, id, request.filter, record, request.sequence);
        if (outcome != .done) return outcome;
    }
    return .done;
}

fn walkRecords(engine: *Engine, id: u16, first: *Request, budget: *Budget) Outcome {
    const queue = &engine.consumers[id].snapshots;
    const state = if (engine.state) |*one| one else return .done;
    while (queue.place < state.record_count) : (queue.place += 1) {
        if (!budget.spend()) return .no_time;
        const record = state.at(queue.place) orelse continue;
        const body = state.versionOf(record.newest).body();
        // Of several messages that ask for it, the first to be in force counts: from there on it came live.
        var sequence: ?u64 = null;
        var request = first;
        var others: u32 = 0;
        while (true) : (request = request.next.?) {
            const is_asked = request.is_all or contains(request.accounts(), &body.pubkey) or contains(request.owners(), &body.owner);
            if (is_asked) sequence = @min(sequence orelse request.sequence, request.sequence);
            if (request.is_last) break;
            others += 1;
        }
        budget.charge(others);
        const since = sequence orelse continue;
        const outcome = if (first.has_versions)
            offerVersions(engine, id, first.filter, record, budget)
        else
            consider(engine, id, first.filter, record, since);
        if (outcome != .done) return outcome;
    }
    return .done;
}

/// All versions of an account, the newest first, live ones once more: who takes over puts each in its place.
fn offerVersions(engine: *Engine, id: u16, filter: u16, record: *const state_file.Record, budget: *Budget) Outcome {
    const queue = &engine.consumers[id].snapshots;
    const state = &engine.state.?;
    var next = record.newest;
    while (next != 0) {
        const version = state.versionOf(next);
        const order = state_file.orderOf(version.body());
        next = version.older;
        // Of a bank that is taken back just now: who takes over has been told of its death.
        if (version.bank != 0 and state.forks.banks[version.bank - 1].state == .dead) continue;
        // What came into the record meanwhile came live, or was told (publishing.zig).
        if (queue.sent) |sent| if (!order.isOlderThan(sent)) continue;
        const outcome = offerVersion(engine, id, filter, version, &.{});
        if (outcome != .done) return outcome;
        budget.charge(1);
        queue.sent = order;
    }
    queue.sent = null;
    queue.known += 1;
    return .done;
}

/// What is known of forks, in slot frames by which another sender comes to know the same.
fn walkForks(engine: *Engine, id: u16, first: *const Request, budget: *Budget) Outcome {
    const consumer = &engine.consumers[id];
    const state = if (engine.state) |*one| one else return .done;
    while (consumer.snapshots.fork < forks.tell_count) : (consumer.snapshots.fork += 1) {
        if (!budget.spend()) return .no_time;
        const told = state.forks.tell(consumer.snapshots.fork) orelse continue;
        var head = std.mem.zeroes(extern struct { header: FrameHeader, body: layout.SlotBody });
        head.header.kind = @backingInt(layout.FrameKind.slot);
        head.header.flags = layout.frame_flag_state;
        head.header.sequence = engine.sequence;
        head.body.slot = told.slot;
        head.body.parent = told.parent;
        head.body.bank_id = told.bank_id;
        head.body.status = told.status;
        var update: Update = undefined;
        if (!publishing.parse(engine, std.mem.asBytes(&head), &.{}, &update)) continue;
        if (!hasRoom(engine, id, &update, &.{})) return .no_room;
        update.publish_ns = platform.realtimeNs();
        const outcome = offerFor(engine, id, first.filter, &update, &.{});
        if (outcome != .done) return outcome;
    }
    return .done;
}

/// For the sake of one filter.
fn offerFor(engine: *Engine, id: u16, filter: u16, update: *Update, slices: Slices) Outcome {
    const consumer = &engine.consumers[id];
    consumer.mask = @as(u64, 1) << engine.filters[filter].bit;
    consumer.slices = slices;
    switch (delivery.offer(engine, id, update)) {
        .taken => {},
        .full => return .no_room,
        // It can never fit this ring: a loss, as if it came live.
        .too_large => marks.loseRefused(engine, id, update),
        .corrupt => {
            consumers.end(engine, id, .peer_corrupt);
            return .over;
        },
    }
    return .done;
}

/// One account that was asked for: counted if it matches, and sent if it has not come live.
fn consider(engine: *Engine, id: u16, filter: u16, record: *const state_file.Record, sequence: u64) Outcome {
    const consumer = &engine.consumers[id];
    const version = engine.state.?.versionOf(record.newest);
    var update: engine_file.Update = undefined;
    if (!publishing.parse(engine, version.head(), version.tail(), &update)) return .done;
    const slices = matching.matchOne(engine, filter, &update) orelse return .done;
    if (record.sequence <= sequence) {
        const outcome = offerVersion(engine, id, filter, version, slices);
        if (outcome != .done) return outcome;
        records.rememberFor(engine, filter, version.body(), state_file.orderOf(version.body()));
    }
    consumer.snapshots.known += 1;
    return .done;
}

fn offerVersion(engine: *Engine, id: u16, filter: u16, version: *state_file.Version, slices: Slices) Outcome {
    var head: [head_bytes_max]u8 align(8) = undefined;
    const length = version.head_length;
    @memcpy(head[0..length], version.head());
    const header: *FrameHeader = @ptrCast(&head);
    var update: engine_file.Update = undefined;
    if (!publishing.parse(engine, head[0..length], version.tail(), &update)) return .done;
    if (!hasRoom(engine, id, &update, slices)) return .no_room;
    header.flags |= layout.frame_flag_state;
    header.sequence = engine.sequence;
    update.publish_ns = header.publish_ns;
    defer delivery.settle(engine, &update.payload);
    return offerFor(engine, id, filter, &update, slices);
}

const head_bytes_max = @sizeOf(FrameHeader) + @sizeOf(layout.AccountBody) + layout.signature_size;

/// Whether state may take that much of the ring: it leaves some to live frames, unless the ring is empty.
fn hasRoom(engine: *Engine, id: u16, update: *const Update, slices: Slices) bool {
    const consumer = &engine.consumers[id];
    const producer = &consumer.producer.native.ring;
    if (consumer.is_dirty) publishing.commitOne(engine, id);
    const is_pooled = slices.len == 0 and update.tail.len >= engine.pool_threshold and consumer.pool_bytes_max > 0;
    if (is_pooled) {
        if (!delivery.collect(engine, id)) return true; // the offer finds out
        const pinned = engine.pool.?.pinnedBytes(id);
        if (pinned > 0 and pinned + update.tail.len > consumer.pool_bytes_max / 2) return false;
        var asked = update.payload;
        if (!delivery.hasShare(engine, id, &asked)) return false;
    }
    const payload = if (is_pooled) 0 else if (slices.len > 0) delivery.slicedLength(slices, update) else update.tail.len;
    const size = ring.paddedSize(update.head.len + payload);
    const limit = producer.capacity - producer.reserved - producer.capacity / live_share;
    if (producer.used() + size <= limit) return true;
    producer.sync() catch return true; // likewise
    return producer.used() == 0 or producer.used() + size <= limit;
}

fn sayComplete(engine: *Engine, id: u16, last: *const Request, is_cut: bool) bool {
    const queue = &engine.consumers[id].snapshots;
    var frame = std.mem.zeroes(extern struct { header: FrameHeader, body: layout.SnapshotCompleteBody });
    frame.header.kind = @backingInt(layout.FrameKind.snapshot_complete);
    frame.header.filter_mask = @as(u64, 1) << last.bit;
    frame.body = .{
        .as_of_sequence = last.sequence,
        .known = queue.known,
        .unknown_keys = queue.unknown,
        .evicted = if (engine.state) |*state| state.evicted else 0,
        .generation = last.generation,
        .is_cut = @intFromBool(is_cut),
    };
    const code = marks.mark(engine, id, std.mem.asBytes(&frame));
    if (code == @backingInt(layout.Status.peer_corrupt)) consumers.end(engine, id, .peer_corrupt);
    return code != @backingInt(layout.Status.full);
}
