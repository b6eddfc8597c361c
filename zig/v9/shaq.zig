//! shaq.zig: the ring of the Rust original, a queue of bytes in shared memory (crate shaq, module mpmc, ABI 2.0 and 3.0),
//! for the only producer or the only consumer of one. Frames are `u32 length` and body, unpadded, and may wrap anywhere.
//! May touch: one mapped ring, its private cursors. May not touch: files, wakes, what frames mean (frame.zig).
//! Source of the format: docs/interop.md. Every word that the other side writes is read once and checked: it is input.

const std = @import("std");
const layout = @import("../layout.zig");
const platform = @import("../platform/mod.zig");
const frame = @import("frame.zig");
const copy = @import("../copy.zig").copy;

const prefix_size = @sizeOf(u32);
/// What one `poll` does at most, for frames that may all be in vain: a ring can be full of ones that can't be decoded.
const skipped_max = 4096;
const decompressed_max = 16 * 1024 * 1024; // and one frame more

/// Where the bytes begin, by the version of the ABI.
pub fn headerSize(version: u32) usize {
    return if (version == layout.shaq_version_3) @sizeOf(layout.ShaqHeader3) else @sizeOf(layout.ShaqHeader);
}

pub const Producer = struct {
    header: *layout.ShaqHeader,
    data: [*]u8,
    capacity: u64,
    version: u32 = layout.shaq_version_2,
    /// Bytes ever published. The shared words are copies, so that nothing that a peer could reach is ever read back.
    position: u64 = 0,
    release_cached: u64 = 0,

    pub const PushError = error{ Full, TooLarge, PeerCorrupt };

    /// Copies one frame in and publishes it, whole: a consumer never sees a part of one.
    pub fn push(producer: *Producer, head: []const u8, tail: []const u8) PushError!void {
        const size = prefix_size + head.len + tail.len;
        try producer.claim(size);
        var prefix: [prefix_size]u8 = undefined;
        std.mem.writeInt(u32, &prefix, @intCast(head.len + tail.len), .little);
        producer.write(producer.position, &prefix);
        producer.write(producer.position + prefix_size, head);
        producer.write(producer.position + prefix_size + head.len, tail);
        producer.publish(size);
    }

    /// Where `size` bytes can be written in one piece, to be published by `publish` then; null if they would wrap.
    pub inline fn claimPiece(producer: *Producer, size: usize) PushError!?[*]u8 {
        const offset: usize = @intCast(producer.position & (producer.capacity - 1));
        if (size > producer.capacity - offset) return null;
        try producer.claim(size);
        return producer.data + offset;
    }

    /// The close sentinel, if there is room for it.
    pub fn close(producer: *Producer) PushError!void {
        try producer.claim(prefix_size);
        var prefix: [prefix_size]u8 = undefined;
        std.mem.writeInt(u32, &prefix, layout.v9_sentinel, .little);
        producer.write(producer.position, &prefix);
        producer.publish(prefix_size);
    }

    inline fn claim(producer: *Producer, size: usize) PushError!void {
        if (size > producer.capacity) return error.TooLarge;
        if (producer.used() > producer.capacity - size) try producer.makeRoom(size);
        // Monotonic: only for joiners and recovery; a lone producer's consumer never reads it.
        producer.header.producer_reservation.store(producer.position + size, .monotonic);
    }

    noinline fn makeRoom(producer: *Producer, size: usize) PushError!void {
        try producer.sync();
        if (producer.used() > producer.capacity - size) return error.Full;
    }

    pub fn used(producer: *const Producer) u64 {
        return producer.position - producer.release_cached;
    }

    /// The consumer wrote this number, so it is input: check it, do not assert it.
    pub fn sync(producer: *Producer) error{PeerCorrupt}!void {
        // Acquire: pairs with the consumer's release store of this cursor (shaq's step C7, `Consumer.release`).
        const cursor = producer.header.consumer_release.load(.acquire);
        if (cursor < producer.release_cached or cursor > producer.position) return error.PeerCorrupt;
        producer.release_cached = cursor;
    }

    fn write(producer: *Producer, position: u64, bytes: []const u8) void {
        const offset: usize = @intCast(position & (producer.capacity - 1));
        const first = @min(bytes.len, producer.capacity - offset);
        copy(producer.data + offset, bytes[0..first]);
        if (first < bytes.len) copy(producer.data, bytes[first..]);
    }

    /// One whole frame, written behind what was published before.
    pub inline fn publish(producer: *Producer, size: usize) void {
        producer.position += size;
        // Release: pairs with the consumer's acquire load (shaq's step C2, `Consumer.poll`). One store for a whole frame.
        producer.header.producer_publication.store(producer.position, .release);
        if (producer.version == layout.shaq_version_3) producer.wakeWaiters(size);
    }

    /// ABI 3.0: consumers may sleep on the low half of the publication cursor.
    fn wakeWaiters(producer: *Producer, size: usize) void {
        const header: *layout.ShaqHeader3 = @ptrCast(@alignCast(producer.header));
        // The fence orders our publication before this look; a waiter counts itself, fences, and looks at the cursor.
        platform.storeLoadFence();
        const waiters = header.waiters.load(.monotonic);
        if (waiters == 0) return;
        const count = @min(waiters, size, std.math.maxInt(i32));
        platform.futexWake(@ptrCast(&header.base.producer_publication), @intCast(count));
    }
};

pub const Consumer = struct {
    header: *layout.ShaqHeader,
    /// Start of the one buffer: the mapped file, then private memory. Offsets in records count from here.
    base: [*]u8,
    data_offset: u32,
    capacity: u64,
    scratch: frame.Scratch,
    /// Bytes ever handed out by `poll`, and bytes ever given back.
    cursor: u64,
    released: u64,
    publication_cached: u64,
    /// Bytes behind the last record handed out that nobody will give back: frames that could not be decoded.
    skipped_bytes: u64 = 0,
    /// Frames that could not be decoded.
    undecodable: u64 = 0,
    is_closed: bool = false,

    /// `WouldBlock`: nothing yet, but more is there: it has done what one call may do.
    pub const PollError = error{ PeerCorrupt, EndOfStream, WouldBlock };

    /// Goes on where the last consumer stopped: at 0 in a new ring. What lies at its cursors is the other side's word.
    pub fn start(header: *layout.ShaqHeader, base: [*]u8, data_offset: u32, capacity: u64, scratch: frame.Scratch) Consumer {
        const cursor = header.consumer_release.load(.acquire);
        return .{
            .header = header,
            .base = base,
            .data_offset = data_offset,
            .capacity = capacity,
            .scratch = scratch,
            .cursor = cursor,
            .released = cursor,
            .publication_cached = cursor,
        };
    }

    /// Describes up to `out.len` frames that follow those handed out before, and voids those. 0: none is there yet.
    /// A frame that can't be decoded is skipped, as the original does; framing that makes no sense is an error.
    pub fn poll(consumer: *Consumer, out: []layout.PollRecord) PollError!u32 {
        try consumer.refresh();
        consumer.scratch.reset();
        var count: u32 = 0;
        var is_cut = false;
        const skipped_end = consumer.undecodable + skipped_max;
        while (count < out.len and !consumer.is_closed and consumer.cursor != consumer.publication_cached) {
            if (consumer.undecodable >= skipped_end or consumer.scratch.decompressed > decompressed_max) {
                is_cut = true;
                break;
            }
            const taken = consumer.take(&out[count]) catch |err| {
                if (count == 0) return err;
                break; // what came before it is good
            };
            if (taken orelse break) count += 1;
        }
        if (count == 0 and consumer.skipped_bytes > 0 and consumer.cursor - consumer.released == consumer.skipped_bytes) {
            consumer.giveBack(consumer.skipped_bytes);
            consumer.skipped_bytes = 0;
        }
        if (count > 0 or out.len == 0) return count;
        if (is_cut) return error.WouldBlock;
        return if (consumer.is_closed) error.EndOfStream else 0;
    }

    fn refresh(consumer: *Consumer) error{PeerCorrupt}!void {
        // Acquire: pairs with the producer's release store (shaq's step P7, `Producer.publish`).
        const cursor = consumer.header.producer_publication.load(.acquire);
        if (cursor < consumer.publication_cached) return error.PeerCorrupt;
        if (cursor - consumer.released > consumer.capacity) return error.PeerCorrupt;
        consumer.publication_cached = cursor;
    }

    /// True: `record` describes the next frame. False: it was the sentinel, or skipped. Null: it needs private memory, and
    /// what there is serves the frames before it: it comes with the next poll.
    fn take(consumer: *Consumer, record: *layout.PollRecord) error{PeerCorrupt}!?bool {
        const left = consumer.publication_cached - consumer.cursor;
        if (left < prefix_size) return error.PeerCorrupt;
        const length = consumer.readPrefix();
        if (length == layout.v9_sentinel) {
            consumer.is_closed = true;
            consumer.skip(prefix_size);
            return false;
        }
        // A producer publishes whole frames only.
        if (length > left - prefix_size) return error.PeerCorrupt;
        const size: u32 = prefix_size + length;
        consumer.describe(length, record) catch |err| {
            if (err == error.NoRoom) return null;
            consumer.undecodable += 1;
            consumer.skip(size);
            return false;
        };
        record.ring_bytes = size + @as(u32, @intCast(consumer.skipped_bytes));
        consumer.skipped_bytes = 0;
        consumer.cursor += size;
        return true;
    }

    fn skip(consumer: *Consumer, size: u64) void {
        consumer.skipped_bytes += size;
        consumer.cursor += size;
    }

    fn describe(consumer: *Consumer, length: u32, record: *layout.PollRecord) frame.DescribeError!void {
        if (length > frame.body_bytes_max) return error.TooLarge;
        const offset: u32 = @intCast((consumer.cursor + prefix_size) & (consumer.capacity - 1));
        const in_ring = consumer.base + consumer.data_offset + offset;
        if (length <= consumer.capacity - offset) {
            return frame.describe(in_ring[0..length], consumer.data_offset + offset, .shared, &consumer.scratch, record);
        }
        // It wraps: the one case where bytes are copied. Private memory lies behind the ring in the same buffer.
        const mark = consumer.scratch.used;
        const piece = try consumer.scratch.take(length);
        errdefer consumer.scratch.used = mark;
        consumer.read(consumer.cursor + prefix_size, piece);
        return frame.describe(piece, consumer.scratch.offsetOf(piece), .private, &consumer.scratch, record);
    }

    inline fn readPrefix(consumer: *const Consumer) u32 {
        const offset: usize = @intCast(consumer.cursor & (consumer.capacity - 1));
        if (consumer.capacity - offset >= prefix_size) {
            // One move. Volatile: it is looked at more than once, and must not be read more than once.
            const word: *align(1) const volatile u32 = @ptrCast(consumer.base + consumer.data_offset + offset);
            return std.mem.littleToNative(u32, word.*);
        }
        var prefix: [prefix_size]u8 = undefined;
        consumer.read(consumer.cursor, &prefix);
        return std.mem.readInt(u32, &prefix, .little);
    }

    /// Each byte is read once; what is done with them happens in `out`.
    fn read(consumer: *const Consumer, position: u64, out: []u8) void {
        const offset: usize = @intCast(position & (consumer.capacity - 1));
        const data = consumer.base + consumer.data_offset;
        const first = @min(out.len, consumer.capacity - offset);
        copy(out.ptr, data[offset..][0..first]);
        if (first < out.len) copy(out.ptr + first, data[0 .. out.len - first]);
    }

    /// Gives `size` bytes of what was handed out back to the producer. Views into them are void from here on.
    pub fn release(consumer: *Consumer, size: u64) error{BadArgument}!void {
        if (size > consumer.cursor - consumer.released - consumer.skipped_bytes) return error.BadArgument;
        consumer.giveBack(size);
    }

    fn giveBack(consumer: *Consumer, size: u64) void {
        consumer.released += size;
        // Monotonic: only for joiners and recovery; a producer never reads it.
        consumer.header.consumer_reservation.store(consumer.released, .monotonic);
        // Release: pairs with the producer's acquire load (shaq's step P2, `Producer.sync`). Our reads are done.
        consumer.header.consumer_release.store(consumer.released, .release);
    }

    pub fn hasMore(consumer: *const Consumer) bool {
        // Acquire only for symmetry: `poll` loads again before it reads a frame.
        return consumer.is_closed or consumer.header.producer_publication.load(.acquire) != consumer.cursor;
    }
};

// Tests

const testing = std.testing;

const TestRing = struct {
    memory: []align(64) u8,
    header: *layout.ShaqHeader,
    capacity: u64,

    const scratch_size = 64 * 1024;

    fn create(capacity: u64, version: u32) !TestRing {
        const at = headerSize(version);
        const memory = try testing.allocator.alignedAlloc(u8, .@"64", at + capacity + scratch_size);
        @memset(memory, 0);
        return .{ .memory = memory, .header = @ptrCast(memory.ptr), .capacity = capacity };
    }

    fn producer(ring: TestRing, version: u32) Producer {
        return .{ .header = ring.header, .data = ring.memory.ptr + headerSize(version), .capacity = ring.capacity, .version = version };
    }

    fn consumer(ring: TestRing, version: u32) Consumer {
        const at = headerSize(version) + ring.capacity;
        const scratch: frame.Scratch = .{ .memory = ring.memory[@intCast(at)..], .base_offset = @intCast(at) };
        return .start(ring.header, ring.memory.ptr, @intCast(headerSize(version)), ring.capacity, scratch);
    }

    fn words(ring: TestRing) [4]u64 {
        return .{
            ring.header.producer_reservation.load(.monotonic), ring.header.producer_publication.load(.monotonic),
            ring.header.consumer_reservation.load(.monotonic), ring.header.consumer_release.load(.monotonic),
        };
    }

    fn free(ring: TestRing) void {
        testing.allocator.free(ring.memory);
    }
};

fn slotBody(k: u8) [18]u8 {
    return [_]u8{ 9, 7 } ++ @as([8]u8, @splat(k * 0x11)) ++ [_]u8{ k, 0, 0, 0, 0, 0, 0, 0 };
}

test "the executed trace of the reference: 64 bytes, three slot frames, full, wrap, sentinel" {
    const ring = try TestRing.create(64, layout.shaq_version_2);
    defer ring.free();
    var producer = ring.producer(layout.shaq_version_2);
    var consumer = ring.consumer(layout.shaq_version_2);
    var records: [4]layout.PollRecord = undefined;

    try producer.push(&slotBody(1), "");
    try testing.expectEqual([4]u64{ 22, 22, 0, 0 }, ring.words());
    try producer.push(&slotBody(2), "");
    try testing.expectError(error.Full, producer.push(&slotBody(3), ""));
    try testing.expectEqual([4]u64{ 44, 44, 0, 0 }, ring.words());

    try testing.expectEqual(1, try consumer.poll(records[0..1]));
    try testing.expectEqual(320 + 4, records[0].frame_offset);
    try testing.expectEqual(22, records[0].ring_bytes);
    try consumer.release(22);
    try testing.expectEqual([4]u64{ 44, 44, 22, 22 }, ring.words());
    try producer.push(&slotBody(3), "");
    try testing.expectEqual([4]u64{ 66, 66, 22, 22 }, ring.words());
    const expected =
        "\x00\x00\x00\x00\x09\x07\x11\x11\x11\x11\x11\x11\x11\x11\x01\x00" ++
        "\x00\x00\x00\x00\x00\x00\x12\x00\x00\x00\x09\x07\x22\x22\x22\x22" ++
        "\x22\x22\x22\x22\x02\x00\x00\x00\x00\x00\x00\x00\x12\x00\x00\x00" ++
        "\x09\x07\x33\x33\x33\x33\x33\x33\x33\x33\x03\x00\x00\x00\x00\x00";
    try testing.expectEqualSlices(u8, expected, ring.memory[320..384]);

    try testing.expectEqual(2, try consumer.poll(&records));
    const wrapped = records[1];
    try testing.expectEqual(384, wrapped.frame_offset); // copied: private memory starts behind the ring
    try testing.expectEqualSlices(u8, &slotBody(3), ring.memory[384..][0..18]);
    try consumer.release(44);
    try testing.expectEqual([4]u64{ 66, 66, 66, 66 }, ring.words());
    try testing.expectEqual(0, try consumer.poll(&records));
    try producer.close();
    try testing.expectEqual([4]u64{ 70, 70, 66, 66 }, ring.words());
    try testing.expectEqualSlices(u8, "\x00\x00\xff\xff\xff\xff\x11\x11", ring.memory[320..328]);
    try testing.expectError(error.EndOfStream, consumer.poll(&records));
    try testing.expectEqual([4]u64{ 70, 70, 70, 70 }, ring.words());
}

test "a frame that fills the ring fits; a larger one is too large; the sentinel needs four bytes" {
    const ring = try TestRing.create(64, layout.shaq_version_2);
    defer ring.free();
    var producer = ring.producer(layout.shaq_version_2);
    const body: [61]u8 = @splat(1);
    try testing.expectError(error.TooLarge, producer.push(&body, ""));
    try producer.push(body[0..40], body[0..17]);
    try testing.expectError(error.Full, producer.close());
    ring.header.consumer_release.store(61, .release);
    try producer.close();
}

test "the producer checks the release cursor: never back, never ahead" {
    const ring = try TestRing.create(64, layout.shaq_version_2);
    defer ring.free();
    var producer = ring.producer(layout.shaq_version_2);
    const body: [40]u8 = @splat(1);
    try producer.push(&body, "");
    ring.header.consumer_release.store(45, .release);
    try testing.expectError(error.PeerCorrupt, producer.push(&body, ""));
    ring.header.consumer_release.store(44, .release);
    try producer.push(&body, "");
    ring.header.consumer_release.store(43, .release);
    try testing.expectError(error.PeerCorrupt, producer.push(&body, ""));
}

test "the consumer checks: a cursor ahead or back, lengths beyond what is published, parts of a prefix" {
    const version = layout.shaq_version_2;
    const Case = struct { publication: u64, bytes: []const u8 };
    const cases = [_]Case{
        .{ .publication = 65, .bytes = "" },
        .{ .publication = std.math.maxInt(u64), .bytes = "" },
        .{ .publication = 3, .bytes = "\x00\x00\x00\x00" },
        .{ .publication = 22, .bytes = "\x13\x00\x00\x00" },
        .{ .publication = 22, .bytes = "\xfe\xff\xff\xff" },
        .{ .publication = 64, .bytes = "\x3d\x00\x00\x00" },
    };
    for (cases) |case| {
        const ring = try TestRing.create(64, version);
        defer ring.free();
        var consumer = ring.consumer(version);
        @memcpy(ring.memory[320..][0..case.bytes.len], case.bytes);
        ring.header.producer_publication.store(case.publication, .release);
        var records: [2]layout.PollRecord = undefined;
        try testing.expectError(error.PeerCorrupt, consumer.poll(&records));
    }
    const ring = try TestRing.create(64, version);
    defer ring.free();
    var consumer = ring.consumer(version);
    var producer = ring.producer(version);
    try producer.push(&slotBody(1), "");
    var records: [2]layout.PollRecord = undefined;
    try testing.expectEqual(1, try consumer.poll(&records));
    ring.header.producer_publication.store(21, .release);
    try testing.expectError(error.PeerCorrupt, consumer.poll(&records));
}

test "what can't be decoded is skipped and given back with its neighbour, or alone" {
    const version = layout.shaq_version_3;
    const ring = try TestRing.create(128, version);
    defer ring.free();
    var producer = ring.producer(version);
    var consumer = ring.consumer(version);
    var records: [8]layout.PollRecord = undefined;
    try producer.push("", "");
    try producer.push("\x09\x63", "");
    try producer.push(&slotBody(1), "");
    try producer.push("\x08\x07", "");
    try testing.expectEqual(1, try consumer.poll(&records));
    try testing.expectEqual(4 + 6 + 22, records[0].ring_bytes);
    try testing.expectEqual(384 + 14, records[0].frame_offset);
    try testing.expectEqual(3, consumer.undecodable);
    try testing.expectError(error.BadArgument, consumer.release(33));
    try consumer.release(32);
    try testing.expectEqual(0, try consumer.poll(&records));
    try testing.expectEqual([4]u64{ 38, 38, 38, 38 }, ring.words());
}

test "frames that can't be decoded are skipped in portions, and what is behind them comes" {
    const version = layout.shaq_version_2;
    const capacity = 64 * 1024;
    const ring = try TestRing.create(capacity, version);
    defer ring.free();
    var producer = ring.producer(version);
    var consumer = ring.consumer(version);
    var records: [8]layout.PollRecord = undefined;
    const empty = (capacity - 22) / prefix_size; // all zero: frames of no bytes
    for (0..empty) |_| try producer.push("", "");
    try producer.push(&slotBody(1), "");
    for (1..empty / skipped_max + 1) |round| {
        try testing.expectError(error.WouldBlock, consumer.poll(&records));
        try testing.expect(consumer.hasMore());
        try testing.expectEqual(round * skipped_max, consumer.undecodable);
        try testing.expectEqual(round * skipped_max * prefix_size, ring.words()[3]); // the room is given back
    }
    try testing.expectEqual(1, try consumer.poll(&records));
    try testing.expectEqual(empty, consumer.undecodable);
    try consumer.release(records[0].ring_bytes);
    try testing.expectEqual(0, try consumer.poll(&records));
    try testing.expect(!consumer.hasMore());

    // A portion that ends with the ring, and the sentinel.
    for (0..skipped_max) |_| try producer.push("", "");
    try testing.expectEqual(0, try consumer.poll(&records));
    for (0..skipped_max) |_| try producer.push("", "");
    try producer.close();
    try testing.expectError(error.WouldBlock, consumer.poll(&records));
    try testing.expectError(error.EndOfStream, consumer.poll(&records));
    try testing.expectEqual(consumer.cursor, consumer.released);
}

test "what is decompressed in vain counts too" {
    const version = layout.shaq_version_2;
    const scratch_size = 2 * frame.scratch_bytes_min;
    const memory = try testing.allocator.alignedAlloc(u8, .@"64", 320 + 65536 + scratch_size);
    defer testing.allocator.free(memory);
    @memset(memory[0 .. 320 + 65536], 0);
    const ring: TestRing = .{ .memory = memory, .header = @ptrCast(memory.ptr), .capacity = 65536 };
    var producer = ring.producer(version);
    const scratch: frame.Scratch = .{ .memory = memory[320 + 65536 ..], .base_offset = 320 + 65536 };
    var consumer: Consumer = .start(ring.header, memory.ptr, 320, ring.capacity, scratch);
    var head = std.mem.zeroes(layout.V9Account);
    head.version = 9;
    head.tag = @backingInt(layout.V9Tag.account);
    head.flags = layout.v9_flag_lz4;
    std.mem.writeInt(u32, &head.raw_length, layout.payload_bytes_max, .little);
    std.mem.writeInt(u32, &head.wire_length, 3, .little);
    for (0..5) |_| try producer.push(std.mem.asBytes(&head), "\x00\x00\x00");
    try producer.push(&slotBody(1), "");
    var records: [8]layout.PollRecord = undefined;
    try testing.expectError(error.WouldBlock, consumer.poll(&records));
    try testing.expectEqual(2, consumer.undecodable);
    try testing.expectError(error.WouldBlock, consumer.poll(&records));
    try testing.expectEqual(1, try consumer.poll(&records));
    try testing.expectEqual(5, consumer.undecodable);
    // In front of what is good they end the batch, and nothing is lost.
    try consumer.release(records[0].ring_bytes);
    try producer.push(&slotBody(1), "");
    for (0..3) |_| try producer.push(std.mem.asBytes(&head), "\x00\x00\x00");
    try producer.push(&slotBody(2), "");
    try testing.expectEqual(1, try consumer.poll(&records));
    try consumer.release(records[0].ring_bytes);
    try testing.expectEqual(1, try consumer.poll(&records));
    try consumer.release(records[0].ring_bytes);
    try testing.expectEqual([4]u64{ consumer.cursor, consumer.cursor, consumer.cursor, consumer.cursor }, ring.words());
}

test "random frames through small rings, in pieces: bytes and order hold" {
    var prng = std.Random.DefaultPrng.init(testing.random_seed);
    const random = prng.random();
    for ([_]u64{ 256, 512, 1024 }) |capacity| {
        const ring = try TestRing.create(capacity, layout.shaq_version_2);
        defer ring.free();
        var producer = ring.producer(layout.shaq_version_2);
        var consumer = ring.consumer(layout.shaq_version_2);
        var pushed: u64 = 0;
        var seen: u64 = 0;
        var payload: [128]u8 = undefined;
        while (seen < 5_000) {
            for (0..random.uintLessThan(usize, 4)) |_| {
                const length = random.uintLessThan(usize, payload.len);
                @memset(payload[0..length], @truncate(pushed));
                var head: layout.V9Transaction = std.mem.zeroes(layout.V9Transaction);
                head.version = 9;
                head.tag = @backingInt(layout.V9Tag.transaction);
                std.mem.writeInt(u64, &head.slot, pushed, .little);
                std.mem.writeInt(u32, &head.payload_length, @intCast(length), .little);
                producer.push(std.mem.asBytes(&head), payload[0..length]) catch |err| {
                    try testing.expectEqual(error.Full, err);
                    break;
                };
                pushed += 1;
            }
            var records: [3]layout.PollRecord = undefined;
            const count = try consumer.poll(records[0..random.intRangeAtMost(usize, 1, 3)]);
            for (records[0..count]) |record| {
                const at = record.frame_offset + @offsetOf(layout.V9Transaction, "slot");
                try testing.expectEqual(seen, std.mem.readInt(u64, ring.memory[at..][0..8], .little));
                for (ring.memory[record.payload_offset..][0..record.payload_length]) |byte| {
                    try testing.expectEqual(@as(u8, @truncate(seen)), byte);
                }
                try consumer.release(record.ring_bytes);
                seen += 1;
            }
        }
        try testing.expectEqual(0, consumer.undecodable);
    }
}
