//! publishing.zig: one update from what JavaScript has written to what is committed: checked, matched, compared with what is
//! known, given its place in the one order, delivered, made visible.
//! May touch: the engine's order, counts, state and history. May not touch: rings, but to commit them.
//! Why state and history come before delivery: who asks for them later must find what somebody else already has.

const std = @import("std");
const layout = @import("layout.zig");
const platform = @import("platform/mod.zig");
const forks = @import("forks.zig");
const rollback = @import("rollback.zig");
const engine_file = @import("engine.zig");
const consumers = @import("consumers.zig");
const matching = @import("matching.zig");
const records = @import("records.zig");
const delivery = @import("delivery.zig");
const waiting = @import("waiting.zig");
const figures = @import("figures.zig");
const Engine = engine_file.Engine;
const Update = engine_file.Update;
const sweep_budget = engine_file.sweep_budget;
const codeOf = engine_file.codeOf;
const Tail = @import("transaction.zig").Tail;
const FrameHeader = layout.FrameHeader;
const FrameKind = layout.FrameKind;
const Code = platform.Code;

/// Publishes one update: `head` is a FrameHeader and the fixed part of the body, `tail` the rest. Sequence, time and
/// counts are filled in here. Returns the number of consumers that got it, or `would_block`: then nobody did.
/// @param is_batch It stays unseen until `commit`.
pub fn publish(engine: *Engine, head: []align(8) u8, tail: []const u8, is_batch: bool) Code {
    var update: Update = undefined;
    if (!parse(engine, head, tail, &update)) return codeOf(.bad_argument);
    defer update.deinit();
    makeReady(engine, &update);
    switch (update.kind) {
        .account => matching.matchAccount(engine, &update),
        .transaction => matching.matchTransaction(engine, &update),
        else => matching.matchSlot(engine, &update),
    }
    const code = publishMatched(engine, &update, is_batch);
    sweepSome(engine);
    if (engine.has_work) waiting.pump(engine, waiting.pump_publish_ns);
    return code;
}

/// Before an update is matched.
pub inline fn makeReady(engine: *Engine, update: *const Update) void {
    if (engine.is_rolling_back) if (update.account) |account| rollback.settleAccount(engine, &account.pubkey);
}

/// Only between updates whose filters are looked up: what was found is good until the next sweep.
pub fn sweepSome(engine: *Engine) void {
    if (engine.index.leaving_count > 0) _ = engine.index.sweep(sweep_budget);
}

pub fn publishMatched(engine: *Engine, update: *Update, is_batch: bool) Code {
    if (update.kind == .account and (isRefusedByState(engine, update) or !records.compareWithRecord(engine, update))) {
        keepUnpublished(engine, update);
        if (!is_batch) commit(engine);
        return 0;
    }
    if (engine.blocking_count > 0 and delivery.isBlocked(engine, update)) {
        commit(engine);
        if (delivery.isBlocked(engine, update)) return codeOf(.would_block);
    }
    records.record(engine, update);
    takePlace(engine, update);
    if (update.kind == .account) keep(engine, update);
    var reached: Code = 0;
    if (update.tail.len >= engine.pool_threshold) delivery.collectTouched(engine);
    // Compressing for version 9 takes its time: nobody else shall wait for it.
    const is_split = engine.v9_count > 0 and update.tail.len >= layout.v9_compress_bytes_min;
    const touched = engine.touched[0..engine.touched_count];
    const is_cold = update.tail.len >= delivery.large_payload_min and touched.len > delivery.ask_ahead;
    for (touched, 0..) |id, i| {
        // From the second one on: it was for the first that the payload was copied.
        if (is_cold and i % delivery.ask_ahead == 1) delivery.askForBooks(engine, touched[i..]);
        if (touched.len > delivery.near_consumers_max) delivery.askAhead(engine, touched[i..]);
        if (is_split and engine.consumers[id].producer == .v9) continue;
        if (delivery.deliver(engine, id, update)) reached += 1;
    }
    if (is_split) {
        if (!is_batch) commit(engine);
        for (touched) |id| {
            if (engine.consumers[id].producer == .v9 and delivery.deliver(engine, id, update)) reached += 1;
        }
    }
    delivery.settle(engine, &update.payload);
    for (update.leavers[0..update.leaver_count]) |leaver| records.sayLeft(engine, leaver.consumer, leaver.mask, update);
    engine.counts.deliveries += @intCast(reached);
    if (update.kind == .slot) rollback.noteSlot(engine, @ptrCast(update.head[@sizeOf(FrameHeader)..].ptr));
    if (!is_batch) commit(engine);
    return reached;
}

// State and history

/// A write of a bank that is dead, or one older than what is known, where such are not published.
fn isRefusedByState(engine: *Engine, update: *Update) bool {
    const state = if (engine.state) |*one| one else return false;
    const account = update.account.?;
    const is_refused = state.forks.isDead(account.slot, account.bank_id) or (engine.guard == .drop and state.isOld(account));
    if (is_refused) engine.counts.stale += 1;
    return is_refused;
}

/// It may hold once the newer one is taken back.
fn keepUnpublished(engine: *Engine, update: *Update) void {
    if (engine.state) |*state| state.put(update.head, update.tail, 0, false);
    if (engine.heir_count > 0) tellHeirs(engine, update);
}

/// Who is to take over has to know it as well. It is no part of the order.
fn tellHeirs(engine: *Engine, update: *Update) void {
    const header: *FrameHeader = @ptrCast(update.head.ptr);
    const flags = header.flags;
    header.flags |= layout.frame_flag_state;
    header.sequence = engine.sequence;
    update.publish_ns = now(engine);
    // From the end: who is ended gives its place to the last one.
    var place = engine.live_count;
    while (place > 0) {
        place -= 1;
        const id = engine.live[place];
        const consumer = &engine.consumers[id];
        if (!consumer.is_heir) continue;
        consumer.mask = std.math.maxInt(u64);
        consumer.slices = &.{};
        _ = delivery.deliver(engine, id, update);
    }
    header.flags = flags;
    delivery.settle(engine, &update.payload);
}

fn keep(engine: *Engine, update: *Update) void {
    const state = if (engine.state) |*one| one else return;
    const header: *FrameHeader = @ptrCast(update.head.ptr);
    header.publish_ns = update.publish_ns;
    state.put(update.head, update.tail, engine.sequence, engine.touched_count > 0 and !update.is_stale);
}

/// What no order of ours ever reaches: TypeScript's numbers hold no more.
const sequence_max = 1 << 53;

/// Takes into state and history what another sender has published, with its sequence. Before anybody is connected. The frame
/// is that sender's word: all of it is checked.
pub fn seed(engine: *Engine, head: []align(8) u8, tail: []const u8) Code {
    if (head.len < @sizeOf(FrameHeader)) return codeOf(.bad_argument);
    const header: *FrameHeader = @ptrCast(head.ptr);
    if (header.sequence > sequence_max) return codeOf(.bad_argument);
    const kind: FrameKind = @fromBackingInt(header.kind);
    const body = head[@sizeOf(FrameHeader)..];
    var is_update = true;
    var update: Update = undefined;
    switch (kind) {
        .account => {
            if (!parse(engine, head, tail, &update)) return codeOf(.bad_argument);
            const flags = header.flags;
            is_update = flags & layout.frame_flag_state == 0;
            // They are of this delivery, not of the version.
            header.flags &= ~(layout.frame_flag_state | layout.frame_flag_restored);
            if (engine.state) |*state| state.put(head, tail, header.sequence, true);
            header.flags = flags;
        },
        .transaction => if (!parse(engine, head, tail, &update)) return codeOf(.bad_argument),
        .slot => {
            if (!parse(engine, head, tail, &update)) return codeOf(.bad_argument);
            is_update = header.flags & layout.frame_flag_state == 0;
            var slot: layout.SlotBody = @as(*const layout.SlotBody, @ptrCast(@alignCast(body.ptr))).*;
            // What becomes final, and what is skipped by that, is judged once all is known of forks.
            if (is_update and !engine.is_seeded and slot.status == forks.status_finalized) slot.status = forks.status_processed;
            if (engine.state) |*state| rollback.seedSlot(state, &engine.verdict, &slot);
        },
        .rollback => if (body.len != @sizeOf(layout.RollbackBody)) return codeOf(.bad_argument),
        .withdrawn => if (body.len != @sizeOf(layout.LeftBody)) return codeOf(.bad_argument),
        .snapshot_complete => {
            engine.is_seeded = true;
            is_update = false;
        },
        else => return codeOf(.bad_argument),
    }
    if (!is_update or header.sequence <= engine.sequence) return 0;
    engine.sequence = header.sequence;
    if (engine.history) |*history| history.append(header.sequence, head, tail);
    return 0;
}

/// Goes on with the order of another sender, of which this was the last sequence. What that one had forgotten this one does not know
/// either.
pub fn adopt(engine: *Engine, sequence: u64, newest_slot: u64, evicted: u64) Code {
    if (sequence < engine.sequence or sequence > sequence_max) return codeOf(.bad_argument);
    engine.sequence = sequence;
    engine.newest_slot = newest_slot;
    engine.inherited_evicted = evicted;
    if (engine.state) |*state| if (evicted > 0) {
        state.evicted += evicted;
        state.forgotten_slot = @max(state.forgotten_slot, newest_slot);
    };
    if (engine.history) |*history| if (history.next != sequence + 1) history.clear(sequence);
    return 0;
}

// Order

/// False: it is no update.
pub fn parse(engine: *Engine, head: []align(8) u8, tail: []const u8, update: *Update) bool {
    _ = engine;
    if (head.len < @sizeOf(FrameHeader)) return false;
    const header: *FrameHeader = @ptrCast(head.ptr);
    const body = head[@sizeOf(FrameHeader)..];
    const kind: FrameKind = @fromBackingInt(@intCast(header.kind));
    update.* = .{ .kind = kind, .head = head, .tail = tail, .slot = 0, .publish_ns = 0, .payload = .{ .bytes = tail } };
    switch (kind) {
        .account => {
            // Exactly: whoever copies a head has room for the longest, and no more.
            const signature_size: usize = if (header.flags & layout.frame_flag_signature != 0) layout.signature_size else 0;
            if (body.len != @sizeOf(layout.AccountBody) + signature_size) return false;
            const account: *layout.AccountBody = @ptrCast(body.ptr);
            if (account.data_length != tail.len) return false;
            account.full_length = account.data_length;
            update.account = account;
            update.slot = account.slot;
        },
        .transaction => {
            if (body.len != @sizeOf(layout.TransactionBody)) return false;
            const transaction: *const layout.TransactionBody = @ptrCast(body.ptr);
            const parts = Tail.of(transaction, header.flags) orelse return false;
            if (parts.length != tail.len) return false;
            update.slot = transaction.slot;
        },
        .slot => {
            if (body.len != @sizeOf(layout.SlotBody)) return false;
            const slot: *const layout.SlotBody = @ptrCast(body.ptr);
            if (slot.status >= 32) return false;
            update.slot = slot.slot;
        },
        else => return false,
    }
    return true;
}

/// Nanoseconds since the Unix epoch.
fn now(engine: *const Engine) u64 {
    return if (engine.clock_ns != 0) engine.clock_ns else platform.realtimeNs();
}

pub fn takeOrder(engine: *Engine, update: *Update) void {
    engine.sequence += 1;
    if (engine.batch_ns == 0) engine.batch_ns = now(engine);
    update.publish_ns = engine.batch_ns;
    engine.published_ns = engine.batch_ns;
    const header: *FrameHeader = @ptrCast(update.head.ptr);
    header.sequence = engine.sequence;
    if (engine.history) |*history| {
        header.publish_ns = update.publish_ns;
        history.append(engine.sequence, update.head, update.tail);
    }
}

/// It takes its place in the order.
fn takePlace(engine: *Engine, update: *Update) void {
    engine.newest_slot = @max(engine.newest_slot, update.slot);
    countPublished(engine, update);
    takeOrder(engine, update);
}

/// Before it goes into the history: who gets a slot frame from there is told the same.
fn countPublished(engine: *Engine, update: *Update) void {
    switch (update.kind) {
        .account => {
            engine.counts.accounts += 1;
            engine.counts.unchanged += update.unchanged;
            engine.slots.of(update.slot).accounts += 1;
        },
        .transaction => {
            engine.counts.transactions += 1;
            engine.slots.of(update.slot).transactions += 1;
        },
        else => {
            engine.counts.slots += 1;
            const published = engine.slots.get(update.slot);
            const body: *layout.SlotBody = @ptrCast(update.head[@sizeOf(FrameHeader)..].ptr);
            body.accounts_published = published.accounts;
            body.transactions_published = published.transactions;
        },
    }
}

// Committing

/// Makes what was published visible, and wakes who sleeps: all cursors, one fence, then all epochs (design D6).
pub fn commit(engine: *Engine) void {
    engine.batch_ns = 0;
    if (engine.stats) |page| figures.showCounts(engine, page);
    if (engine.told_slot != engine.newest_slot) tellSlot(engine);
    const dirty = engine.dirty[0..engine.dirty_count];
    if (dirty.len == 0) return;
    // In front, those that have something to read: only they are woken.
    var written_count: usize = 0;
    for (dirty, 0..) |id, i| {
        const consumer = &engine.consumers[id];
        consumer.is_dirty = false;
        const is_written = switch (consumer.producer) {
            .native => |producer| producer.ring.commit(engine.newest_slot),
            .v9 => |producer| blk: {
                producer.commit();
                break :blk true;
            },
        };
        if (!is_written) continue;
        // As a rule they all have: then nothing is moved, which each delivery would pay for.
        if (written_count != i) std.mem.swap(u16, &dirty[i], &dirty[written_count]);
        written_count += 1;
    }
    platform.storeLoadFence();
    for (dirty[0..written_count]) |id| switch (engine.consumers[id].producer) {
        // A failed byte means that the peer is gone: its socket's end tells our event loop.
        .native => |producer| _ = producer.notifyIfParked(),
        .v9 => {},
    };
    engine.dirty_count = 0;
    if (engine.stats) |page| {
        for (dirty) |id| figures.showConsumer(engine, page, id);
        // Now and then, for an event loop that stands still while it publishes.
        if (engine.published_ns >= engine.reading_shown_ns + engine_file.reading_interval_ns) {
            engine.reading_shown_ns = engine.published_ns;
            for (engine.live[0..engine.live_count]) |id| figures.showReading(engine, page, id);
        }
    }
}

/// How far we are is said to each ring, also to those that nothing is written into: once per slot.
fn tellSlot(engine: *Engine) void {
    engine.told_slot = engine.newest_slot;
    for (engine.live[0..engine.live_count]) |id| switch (engine.consumers[id].producer) {
        .native => |producer| producer.ring.tellSlot(engine.newest_slot),
        .v9 => {},
    };
}

pub fn commitOne(engine: *Engine, id: u16) void {
    const consumer = &engine.consumers[id];
    if (!consumer.is_dirty) return;
    consumer.is_dirty = false;
    consumers.takeFrom(engine, &engine.dirty, &engine.dirty_count, id);
    switch (consumer.producer) {
        .native => |producer| {
            if (!producer.ring.commit(engine.newest_slot)) return;
            platform.storeLoadFence();
            _ = producer.notifyIfParked();
        },
        .v9 => |producer| producer.commit(),
    }
}
