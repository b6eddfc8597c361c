//! marks.zig: what a consumer is told besides updates: what it has lost, and from where on an edit of its filters holds.
//! May touch: rings and backlogs, counts of losses. May not touch: the order of updates: a mark has the sequence of the
//! update before it.
//! Why a mark that finds no room is not lost: it is due, and said before the next update, or by a sweep.

const std = @import("std");
const layout = @import("layout.zig");
const platform = @import("platform/mod.zig");
const ring = @import("ring.zig");
const slot_counts = @import("slot_counts.zig");
const engine_file = @import("engine.zig");
const consumers = @import("consumers.zig");
const publishing = @import("publishing.zig");
const delivery = @import("delivery.zig");
const waiting = @import("waiting.zig");
const Engine = engine_file.Engine;
const Consumer = engine_file.Consumer;
const Update = engine_file.Update;
const LossReason = engine_file.LossReason;
const codeOf = engine_file.codeOf;
const Missing = slot_counts.Missing;
const Counts = slot_counts.Counts;
const FrameHeader = layout.FrameHeader;
const FrameKind = layout.FrameKind;
const Code = platform.Code;

/// What this connection was not given of the slot so far, in its own slot frame: until that leaves the queue.
pub fn noteMissed(consumer: *const Consumer, head: []align(8) u8) void {
    sayLost(head, if (consumer.missing) |table| table.soFar(slotOf(head).slot) else .{});
}

/// Of what its slot frame says was missed, what has come meanwhile is not lost.
pub fn noteLost(consumer: *const Consumer, head: []align(8) u8) void {
    const table = consumer.missing orelse return;
    const header: *const FrameHeader = @ptrCast(head.ptr);
    const body = slotOf(head);
    const missed: Counts = .{ .accounts = body.accounts_lost, .transactions = body.transactions_lost };
    sayLost(head, table.lostOf(body.slot, header.sequence, missed));
}

fn slotOf(head: []align(8) u8) *layout.SlotBody {
    return @ptrCast(head[@sizeOf(FrameHeader)..].ptr);
}

fn sayLost(head: []align(8) u8, lost: Counts) void {
    const body = slotOf(head);
    body.accounts_lost = lost.accounts;
    body.transactions_lost = lost.transactions;
}

/// Whether it was published of its slot: neither state nor what a rollback brings back is.
fn isOfSlot(header: *const FrameHeader) bool {
    if (header.flags & (layout.frame_flag_state | layout.frame_flag_restored) != 0) return false;
    return header.kind == @backingInt(FrameKind.account) or header.kind == @backingInt(FrameKind.transaction);
}

fn count(header: *const FrameHeader, counts: *Counts) void {
    if (header.kind == @backingInt(FrameKind.account)) counts.accounts += 1 else counts.transactions += 1;
}

/// A matching update that the consumer is not given now: it waits, or is lost.
pub fn miss(consumer: *Consumer, header: *const FrameHeader, slot: u64) void {
    if (!isOfSlot(header)) return;
    const table = consumer.missing orelse blk: {
        const memory = platform.pages(@sizeOf(Missing));
        if (memory.code < 0) return; // the total is right all the same
        const table: *Missing = @ptrFromInt(memory.address);
        table.clear();
        consumer.missing = table;
        break :blk table;
    };
    count(header, table.miss(slot, header.sequence));
}

/// It has waited, and is given.
pub fn comeLate(consumer: *Consumer, header: *const FrameHeader, slot: u64) void {
    if (!isOfSlot(header)) return;
    const table = consumer.missing orelse return;
    count(header, table.comeLate(slot, header.sequence) orelse return);
}

/// What it has jumped over was counted as delivered, and is a loss: by its own word, since only it knows how far it had read.
pub fn noteSkipped(engine: *Engine, consumer: *Consumer) void {
    if (consumer.producer != .native or !delivery.maySkip(consumer)) return;
    const skipped = consumer.producer.native.ring.skippedUpdates();
    const known = &consumer.lost_by[@backingInt(LossReason.skipped)];
    if (skipped == known.*) return;
    engine.counts.lost_by[@backingInt(LossReason.skipped)] += skipped - known.*;
    known.* = skipped;
    noteLossDue(engine, consumer);
}

/// Tells a consumer of its losses, if no frame has since, now or when there is room.
pub fn sayGap(engine: *Engine, id: u16) void {
    const consumer = &engine.consumers[id];
    if (consumer.producer != .native) return;
    const producer = &consumer.producer.native.ring;
    if (producer.lost == 0) {
        consumer.is_gap_due = false;
        return;
    }
    var frame = std.mem.zeroes(extern struct { header: FrameHeader, body: layout.GapBody });
    frame.header.kind = @backingInt(FrameKind.gap);
    frame.body.lost_total = consumer.lost;
    _ = mark(engine, id, std.mem.asBytes(&frame));
}

/// The sequence of a mark: that of the newest update which the consumer was given, or could have been.
fn markedAt(engine: *const Engine, consumer: *const Consumer) u64 {
    return if (consumer.isBehind()) consumer.progress.reached() else engine.sequence;
}

/// Says what had no room before, if there is room now.
pub fn sayDue(engine: *Engine, id: u16) void {
    if (engine.consumers[id].is_edit_due) sayEdit(engine, id, markedAt(engine, &engine.consumers[id]));
    if (engine.consumers[id].is_gap_due) sayGap(engine, id);
}

/// Tells of the newest edit, which had no room.
pub fn sayEdit(engine: *Engine, id: u16, sequence: u64) void {
    var frame = std.mem.zeroes(extern struct { header: FrameHeader, body: layout.FilterMarkBody });
    frame.header.kind = @backingInt(FrameKind.filter);
    frame.body.generation = engine.consumers[id].marked_generation;
    if (putMark(engine, id, std.mem.asBytes(&frame), sequence) == 0) publishing.commitOne(engine, id);
}

/// The stat page has to have them.
fn noteLossDue(engine: *Engine, consumer: *Consumer) void {
    consumer.is_loss_due = true;
    engine.counts.is_loss_due = true;
}

/// A matching update that the consumer does not get.
pub fn lose(engine: *Engine, id: u16, update: *const Update, reason: LossReason) void {
    countLoss(engine, id, reason);
    miss(&engine.consumers[id], @ptrCast(update.head.ptr), update.slot);
}

/// The same, for the reason for which it was offered in vain.
pub fn loseRefused(engine: *Engine, id: u16, update: *const Update) void {
    lose(engine, id, update, engine.consumers[id].refused_by);
}

/// Of one that has waited nothing else is to be noted: it was missed before.
pub fn countLoss(engine: *Engine, id: u16, reason: LossReason) void {
    const consumer = &engine.consumers[id];
    consumer.lost += 1;
    consumer.lost_by[@backingInt(reason)] += 1;
    engine.counts.lost_by[@backingInt(reason)] += 1;
    noteLossDue(engine, consumer);
    if (consumer.producer == .native) {
        consumer.producer.native.ring.countLost(reason == .replaced);
        // Its ring says how much there was, too. Who was ended gets no commit any more.
        if (consumer.state == .live) delivery.markDirty(engine, id);
    }
    consumer.is_gap_due = true;
}

/// Puts a mark behind all frames of one consumer: a gap, an edit's place in the order, a goodbye. 0, or `full`.
pub fn mark(engine: *Engine, id: u16, head: []align(8) u8) Code {
    const consumer = consumers.consumerAt(engine, id) orelse return codeOf(.bad_argument);
    if (consumer.state == .quarantined) return codeOf(.bad_argument); // it was told its end
    if (consumer.producer != .native) return 0;
    if (head.len < @sizeOf(FrameHeader)) return codeOf(.bad_argument);
    const header: *const FrameHeader = @ptrCast(head.ptr);
    if (header.kind == @backingInt(FrameKind.goodbye)) {
        // What has no room now never will: it is lost, and these last words say so.
        _ = waiting.flush(engine, id);
        // A sender that goes on with our order may have it.
        if (engine.is_frozen and !consumer.backlog.isEmpty()) return codeOf(.full);
        while (!consumer.backlog.isEmpty()) waiting.loseWaiting(engine, id, .ended);
    }
    const kind: FrameKind = @fromBackingInt(@intCast(header.kind));
    if (ring.isUpdate(kind)) return codeOf(.bad_argument);
    if (kind == .filter) {
        if (head.len != @sizeOf(FrameHeader) + @sizeOf(layout.FilterMarkBody)) return codeOf(.bad_argument);
        const body: *const layout.FilterMarkBody = @ptrCast(head[@sizeOf(FrameHeader)..].ptr);
        consumer.marked_generation = body.generation;
    }
    var code = putMark(engine, id, head, markedAt(engine, consumer));
    if (kind == .filter and code == codeOf(.full)) {
        consumer.is_edit_due = true;
        // The consumer may have moved before it could see that we wait.
        consumer.producer.native.ring.awaitRoom();
        code = putMark(engine, id, head, markedAt(engine, consumer));
    }
    if (code == 0) publishing.commitOne(engine, id);
    return code;
}

/// Into the ring, uncommitted, or, if it is an edit's and frames wait, behind those. 0, `full`, or why it never will.
fn putMark(engine: *Engine, id: u16, head: []align(8) u8, sequence: u64) Code {
    const consumer = &engine.consumers[id];
    const header: *FrameHeader = @ptrCast(head.ptr);
    const is_edit = header.kind == @backingInt(FrameKind.filter);
    header.sequence = sequence;
    header.publish_ns = platform.realtimeNs();
    if (!consumer.backlog.isEmpty()) {
        if (!is_edit) return codeOf(.full); // it would overtake what waits
        _ = consumer.backlog.push(null, head, &.{}, std.math.maxInt(u64), 0) catch return codeOf(.full);
        consumer.waiting_marks += 1;
        consumer.waiting_edits += 1;
        consumer.is_edit_due = false;
        return 0;
    }
    const mask = if (header.kind == @backingInt(FrameKind.snapshot_complete)) header.filter_mask else std.math.maxInt(u64);
    consumer.producer.native.ring.offer(&.{ .head = head, .publish_ns = header.publish_ns, .filter_mask = mask }) catch |err| return codeOf(switch (err) {
        error.Full => .full,
        error.TooLarge => .too_large,
        error.PeerCorrupt => .peer_corrupt,
    });
    delivery.markDirty(engine, id);
    consumer.is_gap_due = false;
    if (is_edit) consumer.is_edit_due = false;
    return 0;
}
