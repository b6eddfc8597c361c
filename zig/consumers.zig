//! consumers.zig: the life of a consumer in the engine: taken in, silenced, ended, kept for a while, forgotten.
//! May touch: the engine's table of consumers and its lists; what a consumer owns. May not touch: links and sockets: what
//! JavaScript has to close is told by `nextEvent`.
//! Why its number outlives it: its process may still look at the pool, so nothing of that is reused before it is told.

const layout = @import("layout.zig");
const platform = @import("platform/mod.zig");
const handles = @import("handles.zig");
const slot_counts = @import("slot_counts.zig");
const snapshots = @import("snapshots.zig");
const engine_file = @import("engine.zig");
const edits = @import("edits.zig");
const publishing = @import("publishing.zig");
const delivery = @import("delivery.zig");
const waiting = @import("waiting.zig");
const marks = @import("marks.zig");
const Engine = engine_file.Engine;
const Consumer = engine_file.Consumer;
const Producer = engine_file.Producer;
const consumers_max = engine_file.consumers_max;
const none = engine_file.none;
const sweep_budget = engine_file.sweep_budget;
const codeOf = engine_file.codeOf;
const Lock = @import("lock.zig").Lock;
const Missing = slot_counts.Missing;
const Code = platform.Code;

pub const AddOptions = struct {
    policy: layout.Policy,
    transaction_policy: layout.Policy,
    statuses: u32,
    backlog_bytes: u32,
    pool_bytes: u32 = 0,
    seed: [16]u8,
    /// It gets nothing until `startHeld`, and then what came after this sequence.
    resume_after: ?u64 = null,
};

/// Takes a ring in. It gets slots from now on, and what its filters ask for.
pub fn add(engine: *Engine, handle: u32, options: AddOptions) Code {
    const id: u16 = for (&engine.consumers, 0..) |*consumer, i| {
        if (consumer.state == .free) break @intCast(i);
    } else return codeOf(.consumers_limit);
    const producer: Producer = if (handles.pin(handle, .producer)) |native|
        .{ .native = native }
    else if (handles.pin(handle, .v9_producer)) |foreign|
        .{ .v9 = foreign }
    else
        return codeOf(.bad_handle);
    // The original's rings tell nobody of room: they know loss and end.
    if (producer == .v9 and (mayWait(options.policy) or mayWait(options.transaction_policy))) {
        handles.unpin(handle);
        return codeOf(.bad_argument);
    }
    const consumer = &engine.consumers[id];
    consumer.* = .{
        .state = .live,
        .handle = handle,
        .producer = producer,
        .policy = options.policy,
        .transaction_policy = options.transaction_policy,
        .statuses = options.statuses,
        .backlog = .init(options.backlog_bytes, options.seed),
        .pool_bytes_max = if (engine.pool != null and producer == .native) options.pool_bytes else 0,
    };
    if (options.resume_after) |after| if (producer == .native) {
        consumer.progress = .{ .state = .held, .after = after, .at = after };
        engine.behind_count += 1;
    };
    setLock(producer, &engine.lock);
    // Nothing may ever be written for it.
    if (producer == .native) producer.native.ring.tellSlot(engine.told_slot);
    engine.live[engine.live_count] = id;
    engine.live_count += 1;
    if (delivery.mayBlock(consumer)) engine.blocking_count += 1;
    if (producer == .v9) engine.v9_count += 1;
    return id;
}

fn setLock(producer: Producer, lock: ?*Lock) void {
    switch (producer) {
        inline else => |producer_end| producer_end.lock = lock,
    }
}

fn mayWait(policy: layout.Policy) bool {
    return policy != .disconnect and policy != .drop_newest;
}

/// Forgets a consumer. Its ring's handle can be closed.
/// @param is_gone Nobody reads the pool through it any longer. Else its ring, and what it may look at in the pool, are
/// kept for a second, and it is told before anything of that is reused.
pub fn remove(engine: *Engine, id: u16, is_gone: bool) void {
    const consumer = consumerAt(engine, id) orelse return;
    if (consumer.state == .quarantined) {
        if (is_gone) free(engine, id);
        return;
    }
    marks.noteSkipped(engine, consumer);
    silence(engine, id);
    takeFrom(engine, &engine.events, &engine.events_count, id);
    if (consumer.missing) |missing| platform.unmap(@intFromPtr(missing), @sizeOf(Missing));
    consumer.missing = null;
    consumer.backlog.deinit();
    const is_read = !is_gone and delivery.collect(engine, id) and consumer.pool_bytes_max > 0 and engine.pool.?.referenceCount(id) > 0;
    setLock(consumer.producer, null);
    if (engine.stats) |page| page.clear(id);
    if (is_read) {
        consumer.state = .quarantined;
        engine.quarantined_count += 1;
        engine.pool.?.revoke(id, platform.monotonicNs());
        return;
    }
    free(engine, id);
}

fn free(engine: *Engine, id: u16) void {
    const consumer = &engine.consumers[id];
    handles.unpin(consumer.handle);
    if (consumer.state == .quarantined) engine.quarantined_count -= 1;
    if (engine.pool) |*pool| if (consumer.pool_bytes_max > 0) pool.forget(id);
    consumer.* = .{};
}

/// What has to be done now and then. True: nothing is left to do.
/// @param elapsed_ms Since the last time, without what JavaScript stood still: consumers could not be heard then (design D9).
pub fn sweep(engine: *Engine, elapsed_ms: u32) bool {
    // A thread that was ended in the middle of a batch commits no more.
    publishing.commit(engine);
    const is_swept = engine.index.sweep(sweep_budget * 100);
    if (engine.pool) |*pool| {
        pool.expire(platform.monotonicNs());
        for (&engine.consumers, 0..) |*consumer, id| {
            if (engine.quarantined_count == 0) break;
            if (consumer.state == .quarantined and pool.referenceCount(@intCast(id)) == 0) free(engine, @intCast(id));
        }
        for (engine.live[0..engine.live_count]) |id| _ = delivery.collect(engine, id);
    }
    waiting.pumpWaiting(engine);
    // From the end: who is ended gives its place to the last one.
    var place = engine.live_count;
    while (place > 0) {
        place -= 1;
        const id = engine.live[place];
        const backlog = &engine.consumers[id].backlog;
        if (backlog.isEmpty()) backlog.deinit(); // for the bytes of a bad moment are not kept for good
        marks.sayDue(engine, id);
        noteStall(engine, id, elapsed_ms);
    }
    return is_swept and engine.quarantined_count == 0;
}

/// Ends a consumer that leaves no room even for marks and gives nothing back, once that has lasted (design D11).
fn noteStall(engine: *Engine, id: u16, elapsed_ms: u32) void {
    const consumer = &engine.consumers[id];
    const is_due = consumer.is_gap_due or consumer.is_edit_due or consumer.waiting_marks > 0;
    if (consumer.state != .live or consumer.producer != .native or !is_due) {
        consumer.is_stalled = false;
        return;
    }
    const producer = &consumer.producer.native.ring;
    producer.sync() catch return end(engine, id, .peer_corrupt);
    if (!consumer.is_stalled or consumer.stalled_at != producer.consumer_cursor_cached) {
        consumer.is_stalled = true;
        consumer.stalled_at = producer.consumer_cursor_cached;
        consumer.stalled_ms = 0;
        return;
    }
    consumer.stalled_ms +|= elapsed_ms;
    if (consumer.stalled_ms >= engine.stall_ms) end(engine, id, .slow_consumer);
}

pub fn consumerAt(engine: *Engine, id: u16) ?*Consumer {
    if (id >= consumers_max or engine.consumers[id].state == .free) return null;
    return &engine.consumers[id];
}

/// It gets nothing from now on.
fn silence(engine: *Engine, id: u16) void {
    const consumer = &engine.consumers[id];
    if (consumer.state != .live) return;
    consumer.state = .over;
    if (delivery.mayBlock(consumer)) engine.blocking_count -= 1;
    if (consumer.producer == .v9) engine.v9_count -= 1;
    for (consumer.filters) |filter| if (filter != none) edits.dropFilter(engine, filter);
    if (consumer.staged != none) edits.dropFilter(engine, consumer.staged);
    snapshots.clear(engine, consumer);
    if (consumer.isBehind()) engine.behind_count -= 1;
    if (consumer.is_heir) engine.heir_count -= 1;
    consumer.is_heir = false;
    consumer.progress = .{};
    consumer.filters = @splat(none);
    consumer.staged = none;
    takeFrom(engine, &engine.live, &engine.live_count, id);
    if (consumer.is_dirty) takeFrom(engine, &engine.dirty, &engine.dirty_count, id);
}

pub fn takeFrom(engine: *Engine, list: *[consumers_max]u16, count: *u16, id: u16) void {
    _ = engine;
    for (list[0..count.*], 0..) |other, i| {
        if (other != id) continue;
        count.* -= 1;
        list[i] = list[count.*];
        return;
    }
}

/// JavaScript has to end it: `nextEvent` says so.
pub fn end(engine: *Engine, id: u16, reason: layout.EndReason) void {
    silence(engine, id);
    engine.consumers[id].end_reason = reason;
    engine.events[engine.events_count] = id;
    engine.events_count += 1;
}

/// A consumer that has to be ended, once each.
pub fn nextEvent(engine: *Engine) ?struct { id: u16, reason: layout.EndReason } {
    if (engine.events_count == 0) return null;
    engine.events_count -= 1;
    const id = engine.events[engine.events_count];
    return .{ .id = id, .reason = engine.consumers[id].end_reason };
}
