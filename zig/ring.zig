//! ring.zig: one producer and one consumer pass frames, in order, through one region.
//! May touch: its RingHeader, ConsumerPage and data, by the types in layout.zig.
//! May not touch: system calls, allocation, clocks, logging. Sending the wake-up byte is wake.zig's.
//! Why no frame is lost or seen half-written: the comments at `commit` and `park`, and docs/adr/0002.

const std = @import("std");
const layout = @import("layout.zig");
const platform = @import("platform/mod.zig");
const copy = @import("copy.zig").copy;
const FrameHeader = layout.FrameHeader;
const FrameKind = layout.FrameKind;
const assert = std.debug.assert;

pub fn paddedSize(length: usize) usize {
    return std.mem.alignForward(usize, length, layout.frame_align);
}

/// Data frames leave the reserved room alone; marks may use it (design D11).
fn mayUseReserved(kind: FrameKind) bool {
    return switch (kind) {
        .slot, .gap, .filter, .goodbye => true,
        else => false,
    };
}

fn countsAsLost(kind: FrameKind) bool {
    return switch (kind) {
        .account, .transaction, .slot => true,
        else => false,
    };
}

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
    /// Matching updates that did not get in and that no frame has reported yet.
    lost: u32 = 0,
    /// What the frames claimed since the last commit report: `abort` takes it back.
    lost_claimed: u32 = 0,
    lost_total: u64 = 0,

    pub const OfferError = error{ Full, TooLarge, PeerCorrupt };

    /// Copies one frame in, unseen until `commit`. `head` is a FrameHeader and the fixed part of the body, `tail` the rest.
    /// The words that differ per connection (length, lost) are set here.
    pub fn offer(producer: *Producer, head: []align(layout.frame_align) const u8, tail: []const u8, publish_ns: u64) OfferError!void {
        assert(head.len >= @sizeOf(FrameHeader));
        const length = head.len + tail.len;
        const source: *const FrameHeader = @ptrCast(head.ptr);
        const kind: FrameKind = @fromBackingInt(@intCast(source.kind));

        const offset = producer.claim(length, mayUseReserved(kind)) catch |err| {
            if (err == error.TooLarge and countsAsLost(kind)) producer.countLost();
            return err;
        };
        const target = producer.data + offset;
        copy(target, head);
        copy(target + head.len, tail);
        const frame: *FrameHeader = @ptrCast(@alignCast(target));
        frame.length = @intCast(length);
        frame.body_length = @intCast(length - @sizeOf(FrameHeader));
        frame.publish_ns = publish_ns;
        frame.lost = producer.lost;
        frame.conflated = 0;
        producer.lost_claimed +|= producer.lost;
        producer.lost = 0;
    }

    fn countLost(producer: *Producer) void {
        producer.lost +|= 1;
        producer.lost_total += 1;
    }

    /// Takes room for a frame of `length` bytes. Returns its offset from the start of the data.
    fn claim(producer: *Producer, length: usize, use_reserved: bool) OfferError!usize {
        const size = paddedSize(length);
        const limit = if (use_reserved) producer.capacity else producer.capacity - producer.reserved;
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

    /// Makes all claimed frames visible. Returns whether there were any.
    pub fn commit(producer: *Producer) bool {
        assert(producer.cursor >= producer.committed);
        if (producer.cursor == producer.committed) return false;
        producer.committed = producer.cursor;
        producer.lost_claimed = 0;
        // Release: pairs with the acquire load in `Consumer.poll`. The frames have to be visible before the cursor
        // that announces them.
        producer.header.producer_cursor.store(producer.cursor, .release);
        return true;
    }

    /// Gives back all frames since the last commit, unseen.
    pub fn abort(producer: *Producer) void {
        producer.cursor = producer.committed;
        producer.lost +|= producer.lost_claimed;
        producer.lost_claimed = 0;
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

    pub fn isParked(producer: *const Producer) bool {
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

    pub const PollError = error{ PeerCorrupt, EndOfStream };

    /// Describes up to `out.len` frames that follow those handed out before. 0: none is there yet.
    /// Everything in shared memory is the producer's word: each length is read once, checked, and used from `out`.
    pub fn poll(consumer: *Consumer, out: []layout.PollRecord) PollError!u32 {
        // Acquire, and before the cursor: pairs with the release store in `Producer.end`. Once it is set, the cursor
        // that we load next is the last one.
        const closing = consumer.header.closing.load(.acquire);
        const fresh = try consumer.refresh();
        var count: u32 = 0;
        var cursor = consumer.cursor;
        while (count < out.len and cursor < consumer.producer_cursor_cached) : (count += 1) {
            const left = consumer.producer_cursor_cached - cursor;
            const offset: u32 = @intCast(cursor & (consumer.capacity - 1));
            const size = try consumer.describe(offset, left, &out[count]);
            cursor += size;
        }
        consumer.cursor = cursor;
        if (fresh == 0 and closing != 0) return error.EndOfStream;
        return count;
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
    fn describe(consumer: *const Consumer, offset: u32, left: u64, record: *layout.PollRecord) error{PeerCorrupt}!u64 {
        if (left < @sizeOf(FrameHeader)) return error.PeerCorrupt;
        const frame: [*]align(layout.frame_align) const u8 = @alignCast(consumer.data + offset);
        const length = readOnce(u32, frame, @offsetOf(FrameHeader, "length"));
        if (length < @sizeOf(FrameHeader)) return error.PeerCorrupt;
        const size = paddedSize(length);
        if (size > left) return error.PeerCorrupt;
        const kind = readOnce(u16, frame, @offsetOf(FrameHeader, "kind"));
        const flags = readOnce(u16, frame, @offsetOf(FrameHeader, "flags"));
        const body_length: u32 = length - @sizeOf(FrameHeader);
        record.* = .{
            .frame_offset = offset,
            .kind = kind,
            .flags = flags,
            .ring_bytes = @intCast(size),
            .payload_offset = offset + length,
            .payload_length = 0,
            .extra_offset = offset + length,
            .extra_length = 0,
        };
        const body = offset + @sizeOf(FrameHeader);
        switch (@as(FrameKind, @fromBackingInt(@intCast(kind)))) {
            .account => {
                const Body = layout.AccountBody;
                if (body_length < @sizeOf(Body)) return error.PeerCorrupt;
                const data_length = readOnce(u32, frame, @sizeOf(FrameHeader) + @offsetOf(Body, "data_length"));
                const signature: u32 = if (flags & layout.frame_flag_signature != 0) layout.signature_size else 0;
                if (data_length > layout.payload_bytes_max) return error.PeerCorrupt;
                if (body_length != @sizeOf(Body) + signature + data_length) return error.PeerCorrupt;
                record.extra_offset = body + @sizeOf(Body);
                record.extra_length = signature;
                record.payload_offset = record.extra_offset + signature;
                record.payload_length = data_length;
            },
            .transaction => {
                const Body = layout.TransactionBody;
                if (body_length < @sizeOf(Body)) return error.PeerCorrupt;
                const message_length = readOnce(u32, frame, @sizeOf(FrameHeader) + @offsetOf(Body, "message_length"));
                const meta_length = readOnce(u32, frame, @sizeOf(FrameHeader) + @offsetOf(Body, "meta_length"));
                if (message_length > layout.payload_bytes_max) return error.PeerCorrupt;
                if (meta_length > layout.payload_bytes_max) return error.PeerCorrupt;
                const has_meta = flags & layout.frame_flag_meta != 0;
                if (!has_meta and meta_length != 0) return error.PeerCorrupt;
                const message_room: u32 = if (has_meta) @intCast(paddedSize(message_length)) else message_length;
                if (body_length != @sizeOf(Body) + message_room + meta_length) return error.PeerCorrupt;
                record.payload_offset = body + @sizeOf(Body);
                record.payload_length = message_length;
                record.extra_offset = record.payload_offset + message_room;
                record.extra_length = meta_length;
            },
            .slot => if (body_length != @sizeOf(layout.SlotBody)) return error.PeerCorrupt,
            .gap => if (body_length != @sizeOf(layout.GapBody)) return error.PeerCorrupt,
            .goodbye => if (body_length != @sizeOf(layout.GoodbyeBody)) return error.PeerCorrupt,
            .filter, _ => return error.PeerCorrupt,
        }
        return size;
    }

    /// Gives `size` bytes of what was handed out back to the producer. Views into them are void from here on.
    pub fn release(consumer: *Consumer, size: u64) error{BadArgument}!void {
        if (size > consumer.cursor - consumer.released) return error.BadArgument;
        if (size % layout.frame_align != 0) return error.BadArgument;
        consumer.released += size;
        // Release: pairs with the acquire load in `Producer.sync`. Our reads are done before the producer may write.
        consumer.page.consumer_cursor.store(consumer.released, .release);
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
