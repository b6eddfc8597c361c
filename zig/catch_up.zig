//! catch_up.zig: a consumer that lost its connection goes on where it was: it gets from the history what came after the
//! sequence that it had handled, matched by its filters as they are now, at the pace of its ring; then it is live.
//! May touch: the engine's history and rings, between updates. May not touch: the order of updates.
//! Why without a gap and without a duplicate: until it is live, nothing goes to it but from the history, into which every
//! update is put before anybody gets it; it becomes live within one call, having had the newest one.

const std = @import("std");
const layout = @import("layout.zig");
const engine_file = @import("engine.zig");
const consumers = @import("consumers.zig");
const publishing = @import("publishing.zig");
const matching = @import("matching.zig");
const records = @import("records.zig");
const delivery = @import("delivery.zig");
const marks = @import("marks.zig");
const snapshots = @import("snapshots.zig");
const filter_program = @import("filter_program.zig");
const Engine = engine_file.Engine;
const Consumer = engine_file.Consumer;
const Update = engine_file.Update;
const Slices = engine_file.Slices;
const FrameHeader = layout.FrameHeader;
const FrameKind = layout.FrameKind;
const assert = std.debug.assert;

/// Where one consumer is.
pub const Resume = struct {
    state: enum {
        live,
        /// Its filters are on their way: it gets nothing yet.
        held,
        /// It gets what it missed.
        catching,
    } = .live,
    /// The sequence that it had handled when it came.
    after: u64 = 0,
    /// It has been offered everything up to here.
    at: u64 = 0,
    /// Of what follows, in the history; 0: to be looked for. (Positions that have been read are beyond an entry.)
    position: u64 = 0,
    /// Filters that the account of the next update has left, to be said; and whether the update itself is in the ring.
    left_due: u64 = 0,
    is_offered: bool = false,

    /// It has been matched up to here. An update of which only a `left` is still to be said counts: what it matches was said by
    /// the filters of before, so an edit holds from behind it on.
    pub fn reached(progress: *const Resume) u64 {
        return progress.at + @intFromBool(progress.is_offered);
    }
};

/// Goes on with one consumer, until it is live, or there is no room, or no time.
pub fn step(engine: *Engine, id: u16, budget: *snapshots.Budget) void {
    const consumer = &engine.consumers[id];
    const progress = &consumer.progress;
    while (consumer.state == .live and progress.state == .catching) {
        if (!consumer.backlog.isEmpty()) return snapshots.wait(consumer);
        if (progress.at >= engine.sequence) return finish(engine, id, progress.at);
        const history = if (engine.history) |*one| one else return finish(engine, id, engine.sequence);
        // It was too slow, or the history too short.
        if (progress.at < history.from() or progress.at + 1 >= history.next) return finish(engine, id, engine.sequence);
        if (!budget.spend()) return;
        if (progress.position == 0) progress.position = history.find(progress.at + 1);
        const item = history.read(progress.position);
        assert(item.sequence == progress.at + 1);
        switch (offer(engine, id, item.head, item.tail, budget)) {
            .taken, .too_large => {},
            .full => {
                if (consumer.is_dirty) publishing.commitOne(engine, id);
                return snapshots.wait(consumer);
            },
            .corrupt => return consumers.end(engine, id, .peer_corrupt),
        }
        progress.at = item.sequence;
        progress.position = item.next;
    }
}

/// It is live from here on. What lies between its place and `live_after` is lost, and said.
fn finish(engine: *Engine, id: u16, live_after: u64) void {
    const consumer = &engine.consumers[id];
    const progress = &consumer.progress;
    var frame = std.mem.zeroes(extern struct { header: FrameHeader, body: layout.ResumedBody });
    frame.header.kind = @backingInt(FrameKind.resumed);
    frame.body = .{ .after = progress.after, .replayed_to = progress.at, .live_after = live_after, .evicted = engine.inherited_evicted };
    const code = marks.mark(engine, id, std.mem.asBytes(&frame));
    if (code == @backingInt(layout.Status.full)) return snapshots.wait(consumer);
    if (code < 0) return consumers.end(engine, id, .peer_corrupt);
    if (live_after > progress.at) snapshots.restart(consumer, live_after);
    progress.* = .{};
    engine.behind_count -= 1;
    engine.has_work = true; // requests for state have waited for this
}

/// Bytes of the longest head: an account with a signature.
const head_bytes_max = @sizeOf(FrameHeader) + @sizeOf(layout.AccountBody) + layout.signature_size;

/// One update of the history, to a consumer whose filters it matches.
fn offer(engine: *Engine, id: u16, head: []align(8) const u8, tail: []const u8, budget: *snapshots.Budget) delivery.Offer {
    const consumer = &engine.consumers[id];
    var copy: [head_bytes_max]u8 align(8) = undefined;
    if (head.len > copy.len) return .too_large; // none of ours
    @memcpy(copy[0..head.len], head);
    const header: *FrameHeader = @ptrCast(&copy);
    const kind: FrameKind = @fromBackingInt(header.kind);
    var update: Update = undefined;
    switch (kind) {
        .account, .transaction, .slot => if (!publishing.parse(engine, copy[0..head.len], tail, &update)) return .too_large,
        else => update = .{ .kind = kind, .head = copy[0..head.len], .tail = tail, .slot = 0, .publish_ns = 0, .payload = .{ .bytes = tail } },
    }
    update.publish_ns = header.publish_ns;
    const body = copy[@sizeOf(FrameHeader)..];
    consumer.mask = 0;
    consumer.slices = &.{};
    var missed: u64 = 0; // tracked filters that it does not match
    switch (kind) {
        .account => for (consumer.filters) |filter| if (filter != engine_file.none) {
            const bit = @as(u64, 1) << engine.filters[filter].bit;
            budget.charge(1);
            const slices = matching.matchOne(engine, filter, &update) orelse {
                if (engine.filters[filter].is_tracked) missed |= bit;
                continue;
            };
            // Filters that want different parts get the whole.
            const is_same = consumer.mask == 0 or std.mem.eql(u8, std.mem.sliceAsBytes(consumer.slices), std.mem.sliceAsBytes(slices));
            consumer.slices = if (is_same) slices else &.{};
            consumer.mask |= bit;
        },
        .transaction => consumer.mask = matching.transactionMask(engine, consumer, &update),
        .slot => {
            const slot: *const layout.SlotBody = @ptrCast(@alignCast(body.ptr));
            consumer.mask = matching.slotMask(engine, consumer, @as(u32, 1) << @intCast(slot.status), slot.status);
        },
        .withdrawn => {
            const gone: *const layout.LeftBody = @ptrCast(@alignCast(body.ptr));
            consumer.mask = matching.keyMask(engine, consumer, &gone.pubkey, &gone.owner);
        },
        else => consumer.mask = std.math.maxInt(u64),
    }
    const progress = &consumer.progress;
    // An edit may have made a filter match since there was no room for it.
    if (!progress.is_offered) progress.left_due &= ~consumer.mask;
    if (progress.left_due == 0 and missed != 0) progress.left_due = records.forgetFor(engine, id, &update.account.?.pubkey, missed);
    if (consumer.mask != 0 and !progress.is_offered) {
        defer delivery.settle(engine, &update.payload);
        const outcome = delivery.offer(engine, id, &update);
        switch (outcome) {
            .taken => engine.counts.deliveries += 1,
            .too_large => marks.loseRefused(engine, id, &update),
            .full, .corrupt => return outcome,
        }
        records.rememberAll(engine, id, update.account, consumer.mask);
        if (kind == .withdrawn) _ = records.forgetFor(engine, id, &@as(*const layout.LeftBody, @ptrCast(@alignCast(body))).pubkey, std.math.maxInt(u64));
    }
    progress.is_offered = true;
    if (progress.left_due != 0) {
        const outcome = offerLeft(engine, id, &update, progress.left_due);
        if (outcome != .taken) return outcome;
    }
    progress.left_due = 0;
    progress.is_offered = false;
    return .taken;
}

/// It matched when it was replayed last, and matches no longer.
fn offerLeft(engine: *Engine, id: u16, update: *const Update, mask: u64) delivery.Offer {
    const consumer = &engine.consumers[id];
    const header: *const FrameHeader = @ptrCast(update.head.ptr);
    var frame = records.departure(.left, header.*, update.account.?);
    var gone = records.departureUpdate(.left, &frame, update.publish_ns, false);
    consumer.mask = mask;
    consumer.slices = &.{};
    return delivery.offer(engine, id, &gone);
}
