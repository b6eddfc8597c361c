//! waiting.zig: what waits at the sender: frames in backlogs for room, requests for state and catching up for room and time, what
//! is taken back for time.
//! May touch: backlogs, rings. May not touch: the order of updates.
//! Why nothing is overtaken: while a frame waits, all that is newer waits behind it.
//! Bounded: backlogs in bytes, each turn of what may go on in time.

const layout = @import("layout.zig");
const platform = @import("platform/mod.zig");
const ring = @import("ring.zig");
const key_index = @import("key_index.zig");
const snapshots = @import("snapshots.zig");
const catch_up = @import("catch_up.zig");
const engine_file = @import("engine.zig");
const consumers = @import("consumers.zig");
const publishing = @import("publishing.zig");
const rollback = @import("rollback.zig");
const delivery = @import("delivery.zig");
const marks = @import("marks.zig");
const Engine = engine_file.Engine;
const Consumer = engine_file.Consumer;
const Payload = engine_file.Payload;
const Update = engine_file.Update;
const LossReason = engine_file.LossReason;
const codeOf = engine_file.codeOf;
const FrameHeader = layout.FrameHeader;
const FrameKind = layout.FrameKind;
const Key = key_index.Key;
const Code = platform.Code;

/// Where a consumer's stream is: what was published after it is still to come.
pub fn positionOf(engine: *const Engine, consumer: *const Consumer) u64 {
    return if (consumer.isBehind()) consumer.progress.reached() else engine.sequence;
}

/// A consumer that was held has its filters: it gets what it missed, and then what comes.
pub fn startHeld(engine: *Engine, id: u16) Code {
    const consumer = consumers.consumerAt(engine, id) orelse return codeOf(.bad_argument);
    if (consumer.state != .live or consumer.progress.state != .held) return codeOf(.bad_argument);
    consumer.progress.state = .catching;
    engine.has_work = true;
    return 0;
}

// What waits for time

/// How long snapshots may take of a publish, and of a call of their own.
pub const pump_publish_ns = 20_000;

const pump_ns = 200_000;

/// Goes on with what waits for nothing but time, each consumer in its turn.
pub fn pump(engine: *Engine, budget_ns: u64) void {
    engine.has_work = false;
    if (engine.is_rolling_back) {
        rollback.goOn(engine, budget_ns);
        publishing.commit(engine);
        engine.has_work = true; // others wait for this
        return;
    }
    if (engine.snapshot_count + engine.behind_count == 0 or engine.live_count == 0) return;
    var budget: snapshots.Budget = .of(budget_ns);
    // A step may end a consumer, which moves another one to its place.
    const count = engine.live_count;
    for (0..count) |_| {
        if (engine.live_count == 0) return;
        engine.pump_turn = (engine.pump_turn + 1) % engine.live_count;
        const id = engine.live[engine.pump_turn];
        const consumer = &engine.consumers[id];
        if (consumer.waits_for_room or (consumer.snapshots.first == null and !consumer.isBehind())) continue;
        goOnOrWait(engine, id, &budget);
        if (engine.consumers[id].state == .live) publishing.commitOne(engine, id);
        if (budget.is_over) {
            engine.has_work = true;
            return;
        }
    }
}

/// As far as there is room and time; else the consumer tells us of room. Not before it has been asked anew: it answers each
/// question once, and may have answered the last one before what is written here.
fn goOnOrWait(engine: *Engine, id: u16, budget: *snapshots.Budget) void {
    const consumer = &engine.consumers[id];
    consumer.waits_for_room = false;
    goOnWith(engine, id, budget);
    while (consumer.state == .live and consumer.waits_for_room) {
        const producer = &consumer.producer.native.ring;
        const before = producer.cursor;
        producer.awaitMoreRoom();
        // It may have moved before it could see that.
        consumer.waits_for_room = false;
        goOnWith(engine, id, budget);
        if (producer.cursor == before) return;
    }
}

fn goOnWith(engine: *Engine, id: u16, budget: *snapshots.Budget) void {
    catch_up.step(engine, id, budget);
    snapshots.step(engine, id, budget);
}

pub fn pumpOn(engine: *Engine) void {
    pump(engine, pump_ns);
}

/// Who waits for room may have some, and have said so to nobody.
pub fn pumpWaiting(engine: *Engine) void {
    if (engine.snapshot_count + engine.behind_count == 0 and !engine.is_rolling_back) return;
    for (engine.live[0..engine.live_count]) |id| engine.consumers[id].waits_for_room = false;
    pump(engine, pump_ns);
}

// What waits for room

/// It waits in the backlog for room, by the consumer's policy.
pub fn wait(engine: *Engine, id: u16, update: *Update) void {
    const consumer = &engine.consumers[id];
    const producer = &consumer.producer.native.ring;
    const policy = delivery.policyFor(engine, consumer, update);
    if (policy == .disconnect) {
        marks.loseRefused(engine, id, update);
        return consumers.end(engine, id, .slow_consumer);
    }
    if (policy == .drop_newest) return marks.loseRefused(engine, id, update);
    // All that is in the ring is older than this; but what another policy cares for must not go with the rest.
    const drops_oldest = delivery.maySkip(consumer);
    if (drops_oldest) producer.skipCommitted();
    const header: *FrameHeader = @ptrCast(update.head.ptr);
    header.publish_ns = update.publish_ns;
    if (update.kind == .slot) marks.noteMissed(consumer, update.head);
    var key: ?*const Key = if (policy == .conflate) if (update.account) |account| &account.pubkey else null else null;
    // What holds again follows the dead version, and allows the step back that a live write may be: both are replaced
    // by nothing, or the consumer would get a version twice, or take a newer write for an older one.
    if (key) |pubkey| if (header.flags & layout.frame_flag_restored != 0) {
        consumer.backlog.keep(pubkey);
        key = null;
    };
    var sliced: delivery.Sliced = undefined;
    if (consumer.slices.len > 0) delivery.Sliced.from(consumer.slices, update, &sliced);
    const head: []align(8) const u8 = if (consumer.slices.len > 0) sliced.head[0..sliced.head_length] else update.head;
    const parts: []const []const u8 = if (consumer.slices.len > 0) sliced.slice() else &.{update.tail};
    while (true) {
        const outcome = consumer.backlog.push(key, head, parts, consumer.mask, update.slot) catch |err| {
            if (err == error.Full and drops_oldest and !consumer.backlog.isEmpty()) {
                loseWaiting(engine, id, .queue_full);
                continue;
            }
            return marks.lose(engine, id, update, switch (err) {
                error.Full => .queue_full,
                error.TooLarge => .too_large,
                error.OutOfMemory => .no_memory,
            });
        };
        marks.miss(consumer, header, update.slot);
        if (outcome == .replaced) {
            marks.countLoss(engine, id, .replaced);
        } else if (ring.isUpdate(update.kind)) {
            producer.waiting += 1;
        }
        delivery.markDirty(engine, id);
        if (ring.mayUseReserved(update.kind)) consumer.waiting_marks += 1;
        break;
    }
    producer.awaitRoom();
    // The consumer may have moved before it could see that we wait.
    _ = flush(engine, id);
}

/// The oldest frame of the backlog is not delivered: it makes room for a newer one, has none itself, or it is too late.
pub fn loseWaiting(engine: *Engine, id: u16, reason: LossReason) void {
    const consumer = &engine.consumers[id];
    const waiting = consumer.backlog.front().?;
    const header: *const FrameHeader = @ptrCast(waiting.head.ptr);
    const kind: FrameKind = @fromBackingInt(@intCast(header.kind));
    if (ring.isUpdate(kind)) marks.countLoss(engine, id, reason);
    popWaiting(consumer, kind);
    // The mark of an edit is no loss, but has to be said again, unless a newer one waits.
    if (kind == .filter and consumer.waiting_edits == 0) consumer.is_edit_due = true;
}

fn popWaiting(consumer: *Consumer, kind: FrameKind) void {
    consumer.backlog.pop();
    if (ring.isUpdate(kind)) consumer.producer.native.ring.waiting -= 1;
    if (ring.mayUseReserved(kind)) consumer.waiting_marks -= 1;
    if (kind == .filter) consumer.waiting_edits -= 1;
}

/// Moves what waits into the ring, as far as there is room. True: nothing waits any longer.
pub fn flush(engine: *Engine, id: u16) bool {
    const consumer = consumers.consumerAt(engine, id) orelse return true;
    if (consumer.state != .live or consumer.producer != .native) return true;
    const producer = &consumer.producer.native.ring;
    if (!consumer.backlog.isEmpty()) _ = delivery.collect(engine, id);
    while (consumer.backlog.front()) |waiting| {
        const header: *const FrameHeader = @ptrCast(waiting.head.ptr);
        // While it has waited, some of its slot came, and others were lost. It may be tried more than once.
        var slot_head: [@sizeOf(FrameHeader) + @sizeOf(layout.SlotBody)]u8 align(8) = undefined;
        const is_slot = header.kind == @backingInt(FrameKind.slot);
        if (is_slot) {
            @memcpy(&slot_head, waiting.head);
            marks.noteLost(consumer, &slot_head);
        }
        const head = if (is_slot) &slot_head else waiting.head;
        var payload: Payload = .{ .bytes = waiting.tail };
        defer delivery.settle(engine, &payload);
        switch (delivery.offerFrame(engine, id, head, &payload, header.publish_ns, waiting.filter_mask, false)) {
            .taken => {},
            .full => {
                publishing.commitOne(engine, id);
                return false;
            },
            .too_large => {
                loseWaiting(engine, id, consumer.refused_by);
                continue;
            },
            .corrupt => {
                consumers.end(engine, id, .peer_corrupt);
                return false;
            },
        }
        const kind: FrameKind = @fromBackingInt(@intCast(header.kind));
        if (ring.isUpdate(kind)) {
            consumer.frames += 1;
            consumer.bytes += waiting.head.len + waiting.tail.len;
            if (kind != .left) engine.counts.deliveries += 1;
        }
        marks.comeLate(consumer, header, waiting.slot);
        delivery.markDirty(engine, id);
        popWaiting(consumer, kind);
    }
    consumer.is_blocking = false;
    if (!consumer.waits_for_room) producer.stopAwaitingRoom();
    return true;
}

/// `flush` after a wake-up: if that was not enough room, the consumer shall say when there is more. Not within a
/// publish: a gap that is said here has the sequence of the newest update, which must be before it.
pub fn flushAwaited(engine: *Engine, id: u16) bool {
    const consumer = consumers.consumerAt(engine, id) orelse return true;
    var is_empty = flush(engine, id);
    if (consumer.state != .live) return true;
    if (!is_empty) {
        consumer.producer.native.ring.awaitMoreRoom();
        // It may have moved before it could see that.
        is_empty = flush(engine, id);
    }
    if (consumer.state == .live) marks.sayDue(engine, id);
    const has_more = consumer.snapshots.first != null or consumer.isBehind();
    if (is_empty and consumer.state == .live and has_more) goOn(engine, id);
    return is_empty;
}

/// There may be room for more of a snapshot, or of what it missed.
fn goOn(engine: *Engine, id: u16) void {
    var budget: snapshots.Budget = .of(pump_ns);
    goOnOrWait(engine, id, &budget);
    if (budget.is_over) engine.has_work = true;
}
