//! ring.zig: one producer and one consumer pass frames, in order, through one region.
//! May touch: its RingHeader, ConsumerPage and data, by the types in layout.zig.
//! May not touch: system calls, allocation, clocks, logging. Sending the wake-up byte is wake.zig's.
//! Why no frame is lost or seen half-written: the comments at `commit` and `park`, and docs/adr/0002.

const std = @import("std");
const layout = @import("layout.zig");
const platform = @import("platform/mod.zig");
const copy = @import("copy.zig").copy;
const Tail = @import("transaction.zig").Tail;
const SlotCounts = @import("slot_counts.zig").SlotCounts;
const FrameHeader = layout.FrameHeader;
const FrameKind = layout.FrameKind;
const assert = std.debug.assert;

pub fn paddedSize(length: usize) usize {
    return std.mem.alignForward(usize, length, layout.frame_align);
}

/// Data frames leave the reserved room alone; marks may use it (design D11).
pub fn mayUseReserved(kind: FrameKind) bool {
    return switch (kind) {
        .slot, .gap, .filter, .goodbye, .snapshot_complete, .rollback, .resumed => true,
        else => false,
    };
}

pub fn isUpdate(kind: FrameKind) bool {
    return switch (kind) {
        .account, .transaction, .slot, .left, .rollback, .withdrawn => true,
        else => false,
    };
}

/// What one frame consists of. The words that differ per connection come from here and from the producer.
pub const Frame = struct {
    /// A FrameHeader and the fixed part of the body.
    head: []align(layout.frame_align) const u8,
    /// The rest of the body, in order.
    parts: []const []const u8 = &.{},
    publish_ns: u64,
    filter_mask: u64 = std.math.maxInt(u64),
    /// Where the payload lies, if not in the frame; generation 0: in the frame.
    pool_block: u32 = 0,
    pool_generation: u32 = 0,

    fn length(frame: *const Frame) usize {
        var sum = frame.head.len;
        for (frame.parts) |part| sum += part.len;
        return sum;
    }

    fn kind(frame: *const Frame) FrameKind {
        const header: *const FrameHeader = @ptrCast(frame.head.ptr);
        return @fromBackingInt(@intCast(header.kind));
    }
};

const line_size = 64;
const next_lines_max = 8;

pub const Producer = struct {
    header: *layout.RingHeader,
    page: *const layout.ConsumerPage,
    data: [*]align(layout.frame_align) u8,
    capacity: u64,
    reserved: u64,
    /// Bytes ever claimed; `committed` of them are visible. The shared `producer_cursor` is a copy of the latter, so
    /// that nothing that a peer could reach is ever read back.
    cursor: u64 = 0,
    committed: u64 = 0,
    consumer_cursor_cached: u64 = 0,
    /// The odd epoch that was already answered with a byte.
    epoch_notified: u32 = 0,
    /// Odd while we wait for room.
    space_epoch: u32 = 0,
    /// Matching updates so far, lost ones included.
    ordinal: u64 = 0,
    /// Matching updates that did not get in and that no frame has reported yet, and those of them that were conflated.
    lost: u32 = 0,
    conflated: u32 = 0,
    /// Matching updates that wait at the sender for room: not numbered yet, but no less matched.
    waiting: u32 = 0,
    lost_total: u64 = 0,
    /// Updates that the consumer says it has skipped, as far as that can be.
    skipped_updates: u64 = 0,

    pub const OfferError = error{ Full, TooLarge, PeerCorrupt };

    /// Copies one frame in, unseen until `commit`.
    pub fn offer(producer: *Producer, frame: *const Frame) OfferError!void {
        assert(frame.head.len >= @sizeOf(FrameHeader));
        const length = frame.length();
        const kind = frame.kind();
        const offset = try producer.claim(length, mayUseReserved(kind));
        const target = producer.data + offset;
        copy(target, frame.head);
        var at = frame.head.len;
        for (frame.parts) |part| {
            copy(target + at, part);
            at += part.len;
        }
        if (isUpdate(kind)) producer.ordinal += 1;
        const header: *FrameHeader = @ptrCast(@alignCast(target));
        header.length = @intCast(length);
        header.body_length = @intCast(length - @sizeOf(FrameHeader));
        header.publish_ns = frame.publish_ns;
        header.filter_mask = frame.filter_mask;
        header.pool_block = frame.pool_block;
        header.pool_generation = frame.pool_generation;
        header.lost = producer.lost;
        header.conflated = producer.conflated;
        header.ordinal = @truncate(producer.ordinal);
        producer.lost = 0;
        producer.conflated = 0;
        producer.askForNext(paddedSize(length));
    }

    /// The next frame is as long as this one, as a rule, and will be written once others got theirs: its lines can come
    /// from memory meanwhile. A ring that is larger than the caches has none of them there.
    inline fn askForNext(producer: *Producer, size: usize) void {
        const next = producer.data + @as(usize, @intCast(producer.cursor & (producer.capacity - 1)));
        var at: usize = 0;
        // Lines beyond the end are those of the second mapping.
        while (at < @min(size, next_lines_max * line_size)) : (at += line_size) @prefetch(next + at, .{ .rw = .write });
    }

    /// Asks for what offering and committing a small frame will read and write in the shared memory.
    pub fn askForFrame(producer: *Producer) void {
        @prefetch(&producer.page.park_epoch, .{});
        @prefetch(&producer.header.producer_cursor, .{ .rw = .write });
        producer.askForNext(next_lines_max * line_size);
    }

    /// A matching update that this connection does not get.
    /// @param is_conflated A newer value of the same account takes its place.
    pub fn countLost(producer: *Producer, is_conflated: bool) void {
        producer.ordinal += 1;
        producer.lost_total += 1;
        producer.lost +|= 1;
        if (is_conflated) producer.conflated +|= 1;
    }

    /// Whether a frame of `length` bytes would get in now.
    pub fn hasRoomFor(producer: *Producer, length: usize, kind: FrameKind) error{PeerCorrupt}!bool {
        const limit = producer.limitOf(mayUseReserved(kind));
        if (producer.used() + paddedSize(length) <= limit) return true;
        try producer.sync();
        return producer.used() + paddedSize(length) <= limit;
    }

    fn limitOf(producer: *const Producer, use_reserved: bool) u64 {
        return if (use_reserved) producer.capacity else producer.capacity - producer.reserved;
    }

    /// Takes room for a frame of `length` bytes. Returns its offset from the start of the data.
    fn claim(producer: *Producer, length: usize, use_reserved: bool) OfferError!usize {
        const size = paddedSize(length);
        const limit = producer.limitOf(use_reserved);
        if (size > limit) return error.TooLarge;
        if (producer.used() + size > limit) {
            try producer.sync();
            if (producer.used() + size > limit) return error.Full;
        }
        const offset = producer.cursor & (producer.capacity - 1);
        producer.cursor += size;
        assert(producer.used() <= producer.capacity);
        return @intCast(offset);
    }

    pub fn used(producer: *const Producer) u64 {
        return producer.cursor - producer.consumer_cursor_cached;
    }

    /// The consumer wrote this number, so it is input: check it, do not assert it.
    pub fn sync(producer: *Producer) error{PeerCorrupt}!void {
        // Acquire: pairs with the release store in `Consumer.release`. The bytes are ours again only after it.
        const cursor = producer.page.consumer_cursor.load(.acquire);
        if (cursor < producer.consumer_cursor_cached) return error.PeerCorrupt;
        if (cursor > producer.committed) return error.PeerCorrupt;
        if (cursor % layout.frame_align != 0) return error.PeerCorrupt;
        producer.consumer_cursor_cached = cursor;
    }

    /// Matching updates so far, whatever became of them: in a frame, lost, or waiting.
    pub fn matched(producer: *const Producer) u64 {
        return producer.ordinal + producer.waiting;
    }

    /// Makes all claimed frames visible, and in any case how much there is to know of. Returns whether there were any frames: for
    /// figures alone nobody is woken.
    pub fn commit(producer: *Producer, newest_slot: u64) bool {
        assert(producer.cursor >= producer.committed);
        // Monotonic: information, which the release below makes visible before the frames that it counts. (Without frames it
        // orders nothing: who looks at it sees it some time soon.) Pairs with the loads in `ConsumerEnd.info`.
        producer.header.producer_ordinal.store(producer.matched(), .monotonic);
        producer.tellSlot(newest_slot);
        if (producer.cursor == producer.committed) return false;
        producer.committed = producer.cursor;
        // Release: pairs with the acquire load in `Consumer.poll`. The frames have to be visible before the cursor
        // that announces them.
        producer.header.producer_cursor.store(producer.cursor, .release);
        return true;
    }

    /// How far the sender is, for a consumer that gets nothing of it, too.
    pub fn tellSlot(producer: *Producer, newest_slot: u64) void {
        // Monotonic: as in `commit`.
        producer.header.newest_slot.store(newest_slot, .monotonic);
    }

    /// Lets the consumer skip all that is committed. It moves its own cursor, so nothing that it looks at is overwritten.
    pub fn skipCommitted(producer: *Producer) void {
        // Release: pairs with the acquire load in `Consumer.poll`, which loads the cursor after it.
        producer.header.skip_to.store(producer.committed, .release);
    }

    /// Updates that were written for the consumer and that it has jumped over. Its own word, so that it can only spoil its own
    /// figures: the number never decreases, and is never more than what was written.
    pub fn skippedUpdates(producer: *Producer) u64 {
        // Monotonic: a figure that orders nothing. Pairs with the store in `Consumer.poll`.
        const said = producer.page.skipped_updates.load(.monotonic);
        const written = producer.ordinal - producer.lost_total;
        producer.skipped_updates = @max(producer.skipped_updates, @min(said, written));
        return producer.skipped_updates;
    }

    /// From now on blocks that this connection still sees may be reused.
    pub fn revoke(producer: *Producer) void {
        // Pairs with the load in `Consumer.isRevoked`: the fence puts it before whatever is written into a block from now on,
        // so a reader that sees such a byte sees this, too.
        producer.header.revoked.store(1, .release);
        platform.storeLoadFence();
    }

    /// Says that we want to be woken when there is room. Look for room again after it. May be repeated.
    pub fn awaitRoom(producer: *Producer) void {
        if (producer.space_epoch % 2 == 1) return;
        producer.space_epoch +%= 1;
        // Monotonic, then a full fence, then the look at the consumer's cursor; the consumer stores its cursor, fences,
        // and looks at this epoch (`Consumer.release`). One of the two sees the other's store.
        producer.header.space_epoch.store(producer.space_epoch, .monotonic);
        platform.storeLoadFence();
    }

    /// The consumer has told us once, and that room was not enough: it shall tell us again. Look for room again after it.
    pub fn awaitMoreRoom(producer: *Producer) void {
        producer.space_epoch +%= 1 + producer.space_epoch % 2;
        // As in `awaitRoom`: another odd epoch, which the consumer has not answered yet.
        producer.header.space_epoch.store(producer.space_epoch, .monotonic);
        platform.storeLoadFence();
    }

    pub fn stopAwaitingRoom(producer: *Producer) void {
        if (producer.space_epoch % 2 == 0) return;
        producer.space_epoch +%= 1;
        // Monotonic: a consumer that still sees the odd value sends one byte too many, which is harmless.
        producer.header.space_epoch.store(producer.space_epoch, .monotonic);
    }

    /// Nothing follows. The goodbye frame, if there was room for it, is committed already.
    pub fn end(producer: *Producer, reason: layout.EndReason) void {
        // Release: pairs with the acquire load in `Consumer.poll`, which reads the cursor after it.
        producer.header.closing.store(@backingInt(reason), .release);
    }

    /// Whether the consumer sleeps and has not been told yet. Call after `storeLoadFence()`, which follows the stores
    /// of all cursors: either we see its odd epoch here, or it sees our cursor in `park`.
    pub fn shouldNotify(producer: *Producer) bool {
        // Monotonic: the fence orders it. Pairs with the store and fence in `Consumer.park`.
        const epoch = producer.page.park_epoch.load(.monotonic);
        if (epoch % 2 == 0 or epoch == producer.epoch_notified) return false;
        producer.epoch_notified = epoch;
        return true;
    }

    /// When the oldest frame that has not been given back was published; 0: there is none.
    pub fn oldestNs(producer: *const Producer) u64 {
        if (producer.consumer_cursor_cached == producer.committed) return 0;
        const offset: usize = @intCast(producer.consumer_cursor_cached & (producer.capacity - 1));
        const header: *const FrameHeader = @ptrCast(@alignCast(producer.data + offset));
        return header.publish_ns;
    }

    /// Matching updates that the consumer has not given back: in the ring, waiting, lost and not told of yet. What its ordinals
    /// would tell the consumer; of its own words only the cursor goes in, as it was checked last. One that lies within a frame
    /// makes this figure wrong, and nothing else.
    pub fn unreadFrames(producer: *const Producer) u64 {
        if (producer.consumer_cursor_cached == producer.cursor) return @as(u64, producer.lost) + producer.waiting;
        const offset: usize = @intCast(producer.consumer_cursor_cached & (producer.capacity - 1));
        const oldest: *const FrameHeader = @ptrCast(@alignCast(producer.data + offset));
        // Nobody else can write there; but where the cursor is a lie, it is no header.
        const before = oldest.ordinal -% oldest.lost -% @intFromBool(isUpdate(@fromBackingInt(oldest.kind)));
        // Both wrap at 32 bits here.
        const in_ring: u64 = @as(u32, @truncate(producer.ordinal)) -% before;
        return @min(in_ring, producer.ordinal) + producer.waiting;
    }

    pub fn isParked(producer: *const Producer) bool {
        // Monotonic: for show. Pairs with the stores in `Consumer.park` and `unpark`.
        return producer.page.park_epoch.load(.monotonic) % 2 == 1;
    }
};

pub const Consumer = struct {
    header: *const layout.RingHeader,
    page: *layout.ConsumerPage,
    data: [*]align(layout.frame_align) const u8,
    capacity: u64,
    /// Bytes ever handed out by `poll`, and bytes ever given back.
    cursor: u64 = 0,
    released: u64 = 0,
    producer_cursor_cached: u64 = 0,
    epoch: u32 = 0,
    /// The odd epoch of a producer that waits for room and has been told.
    space_epoch_notified: u32 = 0,
    /// Whether the producer may wait for room at all: only then is a release followed by a look at its epoch.
    is_awaited: bool = false,
    /// Bytes that `skip_to` made us jump over and that no record has accounted for.
    skipped_bytes: u64 = 0,
    /// Updates in skipped frames; and accounts and transactions of them, by slot, where there is memory for that.
    skipped_updates: u64 = 0,
    skipped: ?*SlotCounts = null,
    /// `FrameHeader.ordinal` of the last frame handed out.
    ordinal: u32 = 0,
    /// Of the pool, which lies behind the second mapping of the data.
    pool_bytes: u32 = 0,
    /// Among the frames handed out and not given back, some have their payload in the pool.
    has_pooled: bool = false,

    pub const PollError = error{ PeerCorrupt, EndOfStream };

    /// Describes up to `out.len` frames that follow those handed out before. 0: none is there yet.
    /// Everything in shared memory is the producer's word: each length is read once, checked, and used from `out`.
    pub fn poll(consumer: *Consumer, out: []layout.PollRecord) PollError!u32 {
        // Acquire, and both before the cursor: pair with the release stores in `Producer.end` and `skipCommitted`. Once
        // closing is set, the cursor that we load next is the last one; and it is never behind what we may skip to.
        const closing = consumer.header.closing.load(.acquire);
        const skip_to = consumer.header.skip_to.load(.acquire);
        const fresh = try consumer.refresh();
        if (skip_to > consumer.cursor) {
            if (skip_to > consumer.producer_cursor_cached or skip_to % layout.frame_align != 0) return error.PeerCorrupt;
        }
        const skipped_before = consumer.skipped_updates;
        var count: u32 = 0;
        while (count < out.len and consumer.cursor < consumer.producer_cursor_cached) {
            if (consumer.cursor < skip_to and try consumer.skipFrame(skip_to)) continue;
            const left = consumer.producer_cursor_cached - consumer.cursor;
            const offset: u32 = @intCast(consumer.cursor & (consumer.capacity - 1));
            const record = &out[count];
            const size = try consumer.describe(offset, left, record);
            record.ring_bytes = @intCast(size + consumer.skipped_bytes);
            consumer.skipped_bytes = 0;
            consumer.cursor += size;
            count += 1;
        }
        if (consumer.skipped_updates != skipped_before) {
            // Monotonic: a figure. Pairs with the load in `Producer.skippedUpdates`.
            consumer.page.skipped_updates.store(consumer.skipped_updates, .monotonic);
        }
        if (count == 0) consumer.releaseSkipped();
        if (fresh == 0 and closing != 0) return error.EndOfStream;
        return count;
    }

    /// When a frame that was handed out had been published. The producer's word.
    pub fn publishNs(consumer: *const Consumer, record: layout.PollRecord) u64 {
        return readOnce(u64, @alignCast(consumer.data + record.frame_offset), @offsetOf(FrameHeader, "publish_ns"));
    }

    /// Jumps over a frame that the producer gave up as stale, and counts what it was: nobody else knows which of those were not
    /// handed out. False: it is a mark that is handed out all the same, since nothing would say it again.
    fn skipFrame(consumer: *Consumer, end: u64) error{PeerCorrupt}!bool {
        const offset: usize = @intCast(consumer.cursor & (consumer.capacity - 1));
        const frame: [*]align(layout.frame_align) const u8 = @alignCast(consumer.data + offset);
        const length = try lengthAt(frame, end - consumer.cursor);
        const kind: FrameKind = @fromBackingInt(readOnce(u16, frame, @offsetOf(FrameHeader, "kind")));
        if (!isUpdate(kind) and kind != .gap) return false;
        if (isUpdate(kind)) {
            consumer.skipped_updates += 1;
            consumer.countSkipped(frame, kind, length);
        }
        consumer.skipped_bytes += paddedSize(length);
        consumer.cursor += paddedSize(length);
        return true;
    }

    /// By its slot, if it was published of one: neither state nor what a rollback brings back is.
    fn countSkipped(consumer: *Consumer, frame: [*]align(layout.frame_align) const u8, kind: FrameKind, length: u32) void {
        const table = consumer.skipped orelse return;
        const head = @sizeOf(FrameHeader);
        const flags = readOnce(u16, frame, @offsetOf(FrameHeader, "flags"));
        if (flags & (layout.frame_flag_state | layout.frame_flag_restored) != 0) return;
        switch (kind) {
            .account => if (length >= head + @sizeOf(layout.AccountBody)) {
                table.of(readOnce(u64, frame, head + @offsetOf(layout.AccountBody, "slot"))).accounts += 1;
            },
            .transaction => if (length >= head + @sizeOf(layout.TransactionBody)) {
                table.of(readOnce(u64, frame, head + @offsetOf(layout.TransactionBody, "slot"))).transactions += 1;
            },
            else => {},
        }
    }

    /// The length of a frame that has to end within `left` bytes.
    fn lengthAt(frame: [*]align(layout.frame_align) const u8, left: u64) error{PeerCorrupt}!u32 {
        if (left < @sizeOf(FrameHeader)) return error.PeerCorrupt;
        const length = readOnce(u32, frame, @offsetOf(FrameHeader, "length"));
        if (length < @sizeOf(FrameHeader)) return error.PeerCorrupt;
        if (paddedSize(length) > left) return error.PeerCorrupt;
        return length;
    }

    /// With nothing behind them that could account for them, skipped bytes go back by themselves, once all is released.
    fn releaseSkipped(consumer: *Consumer) void {
        if (consumer.skipped_bytes == 0 or consumer.cursor - consumer.released != consumer.skipped_bytes) return;
        const size = consumer.skipped_bytes;
        consumer.skipped_bytes = 0;
        consumer.giveBack(size);
    }

    /// Bytes that are published and not handed out.
    fn refresh(consumer: *Consumer) error{PeerCorrupt}!u64 {
        // Acquire: pairs with the release store in `Producer.commit`.
        const cursor = consumer.header.producer_cursor.load(.acquire);
        if (cursor < consumer.producer_cursor_cached) return error.PeerCorrupt;
        if (cursor - consumer.released > consumer.capacity) return error.PeerCorrupt;
        if (cursor % layout.frame_align != 0) return error.PeerCorrupt;
        consumer.producer_cursor_cached = cursor;
        return cursor - consumer.cursor;
    }

    fn readOnce(comptime T: type, address: [*]align(layout.frame_align) const u8, comptime at: usize) T {
        const word: *const T = @ptrCast(@alignCast(address + at));
        // Monotonic: one load, which the compiler may neither repeat nor split.
        return @atomicLoad(T, word, .monotonic);
    }

    /// Fills in one record. Returns the bytes that the frame takes in the ring.
    fn describe(consumer: *Consumer, offset: u32, left: u64, record: *layout.PollRecord) error{PeerCorrupt}!u64 {
        const frame: [*]align(layout.frame_align) const u8 = @alignCast(consumer.data + offset);
        const length = try lengthAt(frame, left);
        const size = paddedSize(length);
        const kind = readOnce(u16, frame, @offsetOf(FrameHeader, "kind"));
        const flags = readOnce(u16, frame, @offsetOf(FrameHeader, "flags"));
        const ordinal = readOnce(u32, frame, @offsetOf(FrameHeader, "ordinal"));
        const body_length: u32 = length - @sizeOf(FrameHeader);
        // Of two updates in a row, the second has the next number; a mark has that of the update before it.
        const expected = consumer.ordinal +% @intFromBool(isUpdate(@fromBackingInt(@intCast(kind))));
        record.* = .{
            .frame_offset = offset,
            .kind = kind,
            .flags = flags,
            .ring_bytes = 0,
            .lost = ordinal -% expected,
            .payload_offset = offset + length,
            .payload_length = 0,
            .extra_offset = offset + length,
            .extra_length = 0,
        };
        const body = offset + @sizeOf(FrameHeader);
        const pool_generation = readOnce(u32, frame, @offsetOf(FrameHeader, "pool_generation"));
        const pool_block = readOnce(u32, frame, @offsetOf(FrameHeader, "pool_block"));
        switch (@as(FrameKind, @fromBackingInt(@intCast(kind)))) {
            .account => {
                const Body = layout.AccountBody;
                if (body_length < @sizeOf(Body)) return error.PeerCorrupt;
                const data_length = readOnce(u32, frame, @sizeOf(FrameHeader) + @offsetOf(Body, "data_length"));
                const signature: u32 = if (flags & layout.frame_flag_signature != 0) layout.signature_size else 0;
                if (data_length > layout.payload_bytes_max) return error.PeerCorrupt;
                const inline_length = if (pool_generation == 0) data_length else 0;
                if (body_length != @sizeOf(Body) + signature + inline_length) return error.PeerCorrupt;
                record.extra_offset = body + @sizeOf(Body);
                record.extra_length = signature;
                record.payload_offset = if (pool_generation == 0)
                    record.extra_offset + signature
                else
                    try consumer.inPool(pool_block, data_length);
                record.payload_length = data_length;
            },
            .transaction => {
                const Body = layout.TransactionBody;
                if (body_length < @sizeOf(Body)) return error.PeerCorrupt;
                const parts: Tail.Parts = .{
                    .message_length = readOnce(u32, frame, @sizeOf(FrameHeader) + @offsetOf(Body, "message_length")),
                    .meta_length = readOnce(u32, frame, @sizeOf(FrameHeader) + @offsetOf(Body, "meta_length")),
                    .loaded_writable_count = readOnce(u16, frame, @sizeOf(FrameHeader) + @offsetOf(Body, "loaded_writable_count")),
                    .loaded_readonly_count = readOnce(u16, frame, @sizeOf(FrameHeader) + @offsetOf(Body, "loaded_readonly_count")),
                    .has_meta = flags & layout.frame_flag_meta != 0,
                };
                const tail = Tail.from(parts) orelse return error.PeerCorrupt;
                const inline_length = if (pool_generation == 0) tail.length else 0;
                if (body_length != @sizeOf(Body) + inline_length) return error.PeerCorrupt;
                record.payload_offset = if (pool_generation == 0)
                    body + @sizeOf(Body)
                else
                    try consumer.inPool(pool_block, tail.length);
                record.payload_length = parts.message_length;
                // What lies between the message, padded, and this are the loaded addresses: the view takes their number so.
                record.extra_offset = record.payload_offset + tail.meta_offset;
                record.extra_length = parts.meta_length;
            },
            .slot => {
                if (body_length != @sizeOf(layout.SlotBody)) return error.PeerCorrupt;
                if (consumer.skipped_updates > 0) if (consumer.skipped) |table| {
                    const skipped = table.get(readOnce(u64, frame, @sizeOf(FrameHeader) + @offsetOf(layout.SlotBody, "slot")));
                    record.payload_length = std.math.lossyCast(u32, skipped.accounts);
                    record.extra_length = std.math.lossyCast(u32, skipped.transactions);
                };
            },
            .gap => {
                if (body_length != @sizeOf(layout.GapBody)) return error.PeerCorrupt;
                record.payload_length = @truncate(consumer.skipped_updates);
                record.extra_length = @truncate(consumer.skipped_updates >> 32);
            },
            .goodbye => if (body_length != @sizeOf(layout.GoodbyeBody)) return error.PeerCorrupt,
            .filter => if (body_length != @sizeOf(layout.FilterMarkBody)) return error.PeerCorrupt,
            .left, .withdrawn => if (body_length != @sizeOf(layout.LeftBody)) return error.PeerCorrupt,
            .snapshot_complete => if (body_length != @sizeOf(layout.SnapshotCompleteBody)) return error.PeerCorrupt,
            .rollback => if (body_length != @sizeOf(layout.RollbackBody)) return error.PeerCorrupt,
            .resumed => if (body_length != @sizeOf(layout.ResumedBody)) return error.PeerCorrupt,
            _ => return error.PeerCorrupt,
        }
        consumer.ordinal = ordinal;
        return size;
    }

    /// Where a payload in the pool lies, counted like all offsets from the start of the data.
    fn inPool(consumer: *Consumer, block: u32, length: u32) error{PeerCorrupt}!u32 {
        const at = @as(u64, block) * layout.pool_unit;
        if (at + length > consumer.pool_bytes) return error.PeerCorrupt;
        consumer.has_pooled = true;
        return @intCast(2 * consumer.capacity + at);
    }

    /// Whether payloads in the pool that were handed out may have been overwritten: asked after they were used, and
    /// before they are given back (design D5).
    pub fn isRevoked(consumer: *Consumer) bool {
        if (!consumer.has_pooled) return false;
        // The fence puts it after all reads of payloads; pairs with the store and fence in `Producer.revoke`.
        platform.loadLoadFence();
        return consumer.header.revoked.load(.acquire) != 0;
    }

    /// Gives `size` bytes of what was handed out back to the producer. Views into them are void from here on.
    pub fn release(consumer: *Consumer, size: u64) error{BadArgument}!void {
        if (size > consumer.cursor - consumer.released - consumer.skipped_bytes) return error.BadArgument;
        if (size % layout.frame_align != 0) return error.BadArgument;
        consumer.giveBack(size);
    }

    fn giveBack(consumer: *Consumer, size: u64) void {
        consumer.released += size;
        if (consumer.released == consumer.cursor) consumer.has_pooled = false;
        // Release: pairs with the acquire load in `Producer.sync`. Our reads are done before the producer may write.
        consumer.page.consumer_cursor.store(consumer.released, .release);
    }

    /// Whether the producer waits for room and has not been told yet. Call after a release.
    pub fn shouldNotify(consumer: *Consumer) bool {
        if (!consumer.is_awaited) return false;
        platform.storeLoadFence();
        // Monotonic: the fence orders it. Pairs with the store and fence in `Producer.awaitRoom`.
        const epoch = consumer.header.space_epoch.load(.monotonic);
        if (epoch % 2 == 0 or epoch == consumer.space_epoch_notified) return false;
        consumer.space_epoch_notified = epoch;
        return true;
    }

    /// When the first frame that was not handed out was published; 0 if there is none. The sender's word: for show.
    pub fn oldestNs(consumer: *const Consumer) u64 {
        // Acquire: pairs with the release store in `Producer.commit`.
        const cursor = consumer.header.producer_cursor.load(.acquire);
        if (cursor <= consumer.cursor or cursor - consumer.cursor < @sizeOf(FrameHeader)) return 0;
        const offset: usize = @intCast(consumer.cursor & (consumer.capacity - 1));
        return readOnce(u64, @alignCast(consumer.data + offset), @offsetOf(FrameHeader, "publish_ns"));
    }

    pub fn hasMore(consumer: *const Consumer) bool {
        // Acquire only for symmetry: `poll` loads again before it reads a frame.
        return consumer.header.producer_cursor.load(.acquire) != consumer.cursor or
            consumer.header.closing.load(.acquire) != 0;
    }

    /// Says that we are about to sleep. False: something came meanwhile, we stay awake.
    pub fn park(consumer: *Consumer) bool {
        if (consumer.epoch % 2 == 0) consumer.epoch +%= 1;
        // Monotonic, then a full fence, then the look at the cursor; the producer stores its cursor, fences, and looks
        // at the epoch (`Producer.shouldNotify`). One of the two sees the other's store: no wake-up is lost.
        consumer.page.park_epoch.store(consumer.epoch, .monotonic);
        platform.storeLoadFence();
        if (!consumer.hasMore()) return true;
        consumer.unpark();
        return false;
    }

    /// Awake again: no byte is wanted.
    pub fn unpark(consumer: *Consumer) void {
        if (consumer.epoch % 2 == 0) return;
        consumer.epoch +%= 1;
        // Monotonic: a producer that still sees the odd value sends one byte too many, which is harmless.
        consumer.page.park_epoch.store(consumer.epoch, .monotonic);
    }
};
