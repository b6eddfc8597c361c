//! delivery.zig: an update into the ring of one consumer: its payload in the ring, in slices, or in the pool; and what a
//! full ring means by the consumer's policy.
//! May touch: rings, the pool, an update's payload. May not touch: the index, filters, the order of updates.
//! Why nothing here waits: a consumer is no reason to hold up the others. What finds no room is lost, waits in its backlog
//! (waiting.zig), or was refused before anybody got it.

const layout = @import("layout.zig");
const copy = @import("copy.zig").copy;
const ring = @import("ring.zig");
const connection = @import("connection.zig");
const filter_program = @import("filter_program.zig");
const engine_file = @import("engine.zig");
const consumers = @import("consumers.zig");
const publishing = @import("publishing.zig");
const waiting = @import("waiting.zig");
const marks = @import("marks.zig");
const Engine = engine_file.Engine;
const Consumer = engine_file.Consumer;
const Payload = engine_file.Payload;
const Update = engine_file.Update;
const Slices = engine_file.Slices;
const LossReason = engine_file.LossReason;
const codeOf = engine_file.codeOf;
const Block = @import("pool.zig").Block;
const FrameHeader = layout.FrameHeader;

/// Whether a consumer with the policy `block` has no room for it, or for being told that the account has left.
pub fn isBlocked(engine: *Engine, update: *const Update) bool {
    var is_blocked = false;
    for (engine.touched[0..engine.touched_count]) |id| is_blocked = isBlockedBy(engine, id, update) or is_blocked;
    for (update.leavers[0..update.leaver_count]) |leaver| {
        if (engine.consumers[leaver.consumer].stamp == engine.stamp) continue; // it was asked with the others
        is_blocked = isBlockedBy(engine, leaver.consumer, update) or is_blocked;
    }
    return is_blocked;
}

fn isBlockedBy(engine: *Engine, id: u16, update: *const Update) bool {
    const consumer = &engine.consumers[id];
    if (policyFor(engine, consumer, update) != .block or consumer.isBehind()) return false;
    if (!consumer.backlog.isEmpty() and !waiting.flush(engine, id)) {
        consumer.is_blocking = consumer.state == .live;
        return consumer.is_blocking;
    }
    if (hasRoom(engine, id, update)) return false;
    consumer.producer.native.ring.awaitRoom();
    consumer.is_blocking = !hasRoom(engine, id, update);
    return consumer.is_blocking;
}

/// A cursor that can't be counts as room: the offer will find out.
fn hasRoom(engine: *Engine, id: u16, update: *const Update) bool {
    const consumer = &engine.consumers[id];
    const producer = &consumer.producer.native.ring;
    var size: usize = 0;
    consumer.promised_stamp = 0;
    if (consumer.stamp == engine.stamp) {
        const is_sliced = consumer.slices.len > 0;
        var has_share = true;
        var is_pooled = !is_sliced and update.tail.len >= engine.pool_threshold and consumer.pool_bytes_max > 0;
        if (is_pooled) {
            if (!collect(engine, id)) return true;
            if (isOverLimit(engine, id, update.tail.len)) return false;
            var asked = update.payload;
            has_share = hasShare(engine, id, &asked);
            // What others have filled is no reason to end this one.
            is_pooled = has_share and hasBlockFor(engine, update.tail.len);
            if (is_pooled) consumer.promised_stamp = engine.stamp;
        }
        const payload = if (is_pooled) 0 else if (is_sliced) slicedLength(consumer.slices, update) else update.tail.len;
        size = ring.paddedSize(update.head.len + payload);
        if (size > producer.capacity - producer.reserved) {
            // Once it has read what it has, the pool takes it.
            if (!has_share) return false;
            size = 0; // It never fits: a loss, and no reason to wait.
        }
    }
    for (update.leavers[0..update.leaver_count]) |leaver| {
        if (leaver.consumer == id) size += @sizeOf(FrameHeader) + @sizeOf(layout.LeftBody);
    }
    // The mark goes before the update.
    if (size > 0 and consumer.is_edit_due) size += @sizeOf(FrameHeader) + @sizeOf(layout.FilterMarkBody);
    return size == 0 or producer.hasRoomFor(size, update.kind) catch true;
}

pub fn slicedLength(slices: Slices, update: *const Update) usize {
    var length: usize = 0;
    for (slices) |wanted| length += filter_program.cut(wanted, @intCast(update.tail.len)).length;
    return length;
}

/// Copying a payload of this length drives what is known of consumers out of the near cache.
pub const large_payload_min = 32 * 1024;
/// Consumers that are asked for at once. For so few the asking takes as long as it saves.
pub const ask_ahead = 16;

/// Asks for what delivering to the next ones will read, so that the waits overlap: their books, then what these point to.
pub fn askForBooks(engine: *Engine, touched: []const u16) void {
    const some = touched[0..@min(ask_ahead, touched.len)];
    for (some) |id| {
        askFor(&engine.consumers[id]);
        if (engine.pool) |*pool| pool.askForBooks(id);
    }
    for (some) |id| {
        if (nativeOf(engine, id)) |producer| askFor(producer);
        if (engine.pool) |*pool| pool.askForReferences(id);
    }
    for (some) |id| if (nativeOf(engine, id)) |producer| producer.ring.askForFrame();
}

/// Of more consumers a near cache does not have the books.
pub const near_consumers_max = 256;

/// Asks for the books of one that comes soon. Its frame's lines were asked for behind the one before.
pub inline fn askAhead(engine: *Engine, left: []const u16) void {
    if (left.len <= 8) return;
    askFor(&engine.consumers[left[8]]);
    if (nativeOf(engine, left[4])) |producer| askFor(producer);
}

pub inline fn nativeOf(engine: *Engine, id: u16) ?*connection.ProducerEnd {
    const consumer = &engine.consumers[id];
    return if (consumer.state == .live and consumer.producer == .native) consumer.producer.native else null;
}

/// All lines of a private object, to be written.
pub inline fn askFor(object: anytype) void {
    const bytes: [*]const u8 = @ptrCast(object);
    const size = @sizeOf(@TypeOf(object.*));
    inline for (0..(size + 63) / 64) |line| @prefetch(bytes + 64 * line, .{ .rw = .write });
    @prefetch(bytes + size - 1, .{ .rw = .write });
}

/// Whether it is in the ring.
pub fn deliver(engine: *Engine, id: u16, update: *Update) bool {
    const consumer = &engine.consumers[id];
    if (consumer.state != .live or consumer.isBehind()) return false;
    // It was in force before this update. (Which has no place in the order, if it is for who takes over alone.)
    if (consumer.is_edit_due) marks.sayEdit(engine, id, engine.sequence -| 1);
    if (!consumer.backlog.isEmpty() and !waiting.flush(engine, id)) {
        // A cursor that can't be has ended it, and freed the filter that says what of the update travels.
        if (consumer.state == .live) waiting.wait(engine, id, update);
        return false;
    }
    return switch (offer(engine, id, update)) {
        .taken => true,
        .full => onFull(engine, id, update),
        .too_large => blk: {
            marks.loseRefused(engine, id, update);
            // It can never fit this ring: a loss that is said at once, and not an end.
            marks.sayGap(engine, id);
            break :blk false;
        },
        .corrupt => blk: {
            consumers.end(engine, id, .peer_corrupt);
            break :blk false;
        },
    };
}

/// Whether one more payload is more than the consumer may ever hold of the pool. The first it may.
fn isOverLimit(engine: *Engine, id: u16, length: usize) bool {
    const pinned = engine.pool.?.pinnedBytes(id);
    return pinned > 0 and pinned + length > engine.consumers[id].pool_bytes_max;
}

/// Whether the pool has as much left beside the consumer as it would then hold: or those that lag, each within its limit,
/// would leave nothing to who reads.
pub fn hasShare(engine: *Engine, id: u16, payload: *Payload) bool {
    const pool = &engine.pool.?;
    if (pool.hasShare(id, payload.bytes.len, payload.block == null)) return true;
    collectFor(engine, payload);
    return pool.hasShare(id, payload.bytes.len, payload.block == null);
}

pub const Offer = enum { taken, full, too_large, corrupt };

/// Blocks whose frames the consumer has given back are its no longer. False: its cursor can't be.
pub fn collect(engine: *Engine, id: u16) bool {
    const consumer = &engine.consumers[id];
    if (consumer.pool_bytes_max == 0) return true;
    const producer = &consumer.producer.native.ring;
    producer.sync() catch return false;
    engine.pool.?.advance(id, producer.consumer_cursor_cached);
    return true;
}

/// Before the first of them is offered a payload: then what nobody reads any longer is free, and the payload goes where
/// one was written not long ago, which the caches still have.
pub fn collectTouched(engine: *Engine) void {
    for (engine.touched[0..engine.touched_count]) |id| _ = collect(engine, id);
}

fn collectAll(engine: *Engine) void {
    for (engine.live[0..engine.live_count]) |id| _ = collect(engine, id);
}

/// Once for each payload: what many are refused is not looked for by each of them.
fn collectFor(engine: *Engine, payload: *Payload) void {
    if (payload.has_collected) return;
    payload.has_collected = true;
    collectAll(engine);
}

/// Notes why a frame was not taken.
fn refuse(consumer: *Consumer, outcome: Offer, reason: LossReason) Offer {
    consumer.refused_by = reason;
    return outcome;
}

fn refuseBy(consumer: *Consumer, err: ring.Producer.OfferError) Offer {
    return switch (err) {
        error.Full => refuse(consumer, .full, .ring_full),
        error.TooLarge => refuse(consumer, .too_large, .too_large),
        error.PeerCorrupt => .corrupt,
    };
}

/// Offers a frame to a native ring: its payload in the pool, if it is large and the consumer has one, else in the ring; there
/// too, if the pool has no room for it, or none for this consumer beside the others (unless that was promised: `hasRoom`).
pub fn offerFrame(
    engine: *Engine,
    id: u16,
    head: []align(8) u8,
    payload: *Payload,
    publish_ns: u64,
    mask: u64,
    is_promised: bool,
) Offer {
    const consumer = &engine.consumers[id];
    const producer = &consumer.producer.native.ring;
    var frame: ring.Frame = .{ .head = head, .parts = &.{payload.bytes}, .publish_ns = publish_ns, .filter_mask = mask };
    // Slices that had to wait were cut for this one consumer: no other frame would refer to their block.
    const is_sliced = @as(*const FrameHeader, @ptrCast(head.ptr)).flags & layout.frame_flag_sliced != 0;
    const is_pooled = !is_sliced and payload.bytes.len >= engine.pool_threshold and consumer.pool_bytes_max > 0;
    var has_share = true;
    if (is_pooled) {
        if (!collect(engine, id)) return .corrupt;
        if (isOverLimit(engine, id, payload.bytes.len)) return refuse(consumer, .full, .pool_share);
        has_share = is_promised or hasShare(engine, id, payload);
        if (has_share) if (blockFor(engine, payload)) |block| {
            const pool = &engine.pool.?;
            const end = producer.cursor + ring.paddedSize(head.len);
            pool.offer(block, id, end) catch return refuse(consumer, .full, .pool_share);
            frame.parts = &.{};
            frame.pool_block = pool.offset(block);
            frame.pool_generation = pool.generation(block);
        };
    }
    const is_pool_full = is_pooled and frame.pool_generation == 0 and payload.bytes.len <= engine.pool.?.memory.len;
    producer.offer(&frame) catch |err| {
        if (frame.pool_generation != 0) engine.pool.?.abort(id, producer.cursor);
        const outcome = refuseBy(consumer, err);
        // Once it has read what it has, the pool takes it, however small its ring.
        if (!has_share and outcome != .corrupt) return refuse(consumer, .full, .pool_share);
        // It would not have needed that room.
        if (is_pool_full) consumer.refused_by = .pool_full;
        return outcome;
    };
    return .taken;
}

/// The parts of an account's data that a consumer wants, and the head that says so.
pub const Sliced = struct {
    head: [head_bytes_max]u8 align(8),
    head_length: usize,
    parts: [layout.filter_slices_max][]const u8,
    part_count: usize,

    const head_bytes_max = @sizeOf(FrameHeader) + @sizeOf(layout.AccountBody) + layout.signature_size;

    pub fn from(slices: Slices, update: *const Update, out: *Sliced) void {
        out.head_length = @min(update.head.len, head_bytes_max);
        @memcpy(out.head[0..out.head_length], update.head[0..out.head_length]);
        out.part_count = slices.len;
        var length: u32 = 0;
        var is_clipped = false;
        for (slices, 0..) |wanted, i| {
            const part = filter_program.cut(wanted, @intCast(update.tail.len));
            out.parts[i] = update.tail[part.offset..][0..part.length];
            length += part.length;
            is_clipped = is_clipped or part.length < wanted.length;
        }
        const header: *FrameHeader = @ptrCast(&out.head);
        header.flags |= layout.frame_flag_sliced;
        if (is_clipped) header.flags |= layout.frame_flag_clipped;
        const body: *layout.AccountBody = @ptrCast(@alignCast(out.head[@sizeOf(FrameHeader)..].ptr));
        body.data_length = length;
    }

    pub fn slice(sliced: *const Sliced) []const []const u8 {
        return sliced.parts[0..sliced.part_count];
    }
};

fn offerSlices(engine: *Engine, consumer: *Consumer, update: *const Update) Offer {
    _ = engine;
    var sliced: Sliced = undefined;
    Sliced.from(consumer.slices, update, &sliced);
    consumer.producer.native.ring.offer(&.{
        .head = sliced.head[0..sliced.head_length],
        .parts = sliced.slice(),
        .publish_ns = update.publish_ns,
        .filter_mask = consumer.mask,
    }) catch |err| return refuseBy(consumer, err);
    return .taken;
}

/// Written once, for however many consumers. Null: the pool is full; then each gets a copy in its ring.
fn blockFor(engine: *Engine, payload: *Payload) ?Block {
    if (payload.block) |block| return block;
    const pool = &engine.pool.?;
    const block = pool.alloc(payload.bytes.len) orelse blk: {
        collectFor(engine, payload);
        break :blk pool.alloc(payload.bytes.len) orelse return null;
    };
    pool.retain(block); // until `settle`: an offer that is taken back must not free it
    copy(pool.bytes(block).ptr, payload.bytes);
    payload.block = block;
    return block;
}

/// Whether `blockFor` would find one.
fn hasBlockFor(engine: *Engine, length: usize) bool {
    const pool = &engine.pool.?;
    if (length <= pool.allocSizeMax()) return true;
    collectAll(engine);
    return length <= pool.allocSizeMax();
}

/// Nobody else will be offered it.
pub fn settle(engine: *Engine, payload: *Payload) void {
    if (payload.block) |block| engine.pool.?.release(block);
    payload.block = null;
    payload.has_collected = false;
}

pub fn offer(engine: *Engine, id: u16, update: *Update) Offer {
    const consumer = &engine.consumers[id];
    switch (consumer.producer) {
        .native => {
            if (update.kind == .slot) {
                marks.noteMissed(consumer, update.head);
                marks.noteLost(consumer, update.head);
            }
            const is_promised = consumer.promised_stamp == engine.stamp;
            const outcome = if (consumer.slices.len > 0)
                offerSlices(engine, consumer, update)
            else
                offerFrame(engine, id, update.head, &update.payload, update.publish_ns, consumer.mask, is_promised);
            if (outcome != .taken) return outcome;
        },
        .v9 => |producer| switch (producer.offer(&update.v9_frame, update.head, update.tail, update.publish_ns)) {
            0 => {},
            codeOf(.full) => return refuse(consumer, .full, .ring_full),
            codeOf(.peer_corrupt) => return .corrupt,
            else => return refuse(consumer, .too_large, .too_large),
        },
    }
    consumer.frames += 1;
    consumer.bytes += update.head.len + update.tail.len;
    markDirty(engine, id);
    return .taken;
}

pub fn markDirty(engine: *Engine, id: u16) void {
    const consumer = &engine.consumers[id];
    if (consumer.is_dirty) return;
    consumer.is_dirty = true;
    engine.dirty[engine.dirty_count] = id;
    engine.dirty_count += 1;
}

/// Whether it has frames that it was not shown; without any it may be dirty for its figures' sake.
fn hasHidden(consumer: *const Consumer) bool {
    return switch (consumer.producer) {
        .native => |producer| producer.ring.cursor != producer.ring.committed,
        .v9 => true,
    };
}

/// There is no room. Returns whether it got in at a second try.
fn onFull(engine: *Engine, id: u16, update: *Update) bool {
    const consumer = &engine.consumers[id];
    // Frames of an open batch are room that the consumer can't give back: show them, look again.
    if (consumer.is_dirty and hasHidden(consumer)) {
        publishing.commitOne(engine, id);
        _ = collect(engine, id);
        switch (offer(engine, id, update)) {
            .taken => return true,
            .corrupt => {
                consumers.end(engine, id, .peer_corrupt);
                return false;
            },
            else => {},
        }
    }
    const policy = policyFor(engine, consumer, update);
    if (policy == .block and update.is_due) {
        waiting.wait(engine, id, update);
        return false;
    }
    switch (policy) {
        .drop_newest => {
            marks.loseRefused(engine, id, update);
            if (consumer.producer == .native) consumer.producer.native.ring.awaitRoom(); // to say so when there is some
        },
        .drop_oldest, .conflate => waiting.wait(engine, id, update),
        // A blocking consumer was asked before; what was published around that is all that gets here.
        .disconnect, .block, _ => {
            marks.loseRefused(engine, id, update);
            consumers.end(engine, id, .slow_consumer);
        },
    }
    return false;
}

pub fn mayBlock(consumer: *const Consumer) bool {
    return consumer.policy == .block or consumer.transaction_policy == .block;
}

pub fn policyFor(engine: *Engine, consumer: *const Consumer, update: *const Update) layout.Policy {
    _ = engine;
    return if (update.kind == .transaction) consumer.transaction_policy else consumer.policy;
}

/// Whether it is made to skip what is in its ring: that is older than all else, of whatever kind.
pub fn maySkip(consumer: *const Consumer) bool {
    return consumer.policy == .drop_oldest and consumer.transaction_policy == .drop_oldest;
}
