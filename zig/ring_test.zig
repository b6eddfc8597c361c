//! ring_test.zig: the ring against a plain model, and against peers that write nonsense.

const std = @import("std");
const layout = @import("layout.zig");
const platform = @import("platform/mod.zig");
const region = @import("region.zig");
const connection = @import("connection.zig");
const ring = @import("ring.zig");
const testing = std.testing;

const head_size = @sizeOf(layout.FrameHeader) + @sizeOf(layout.AccountBody);
const Head = struct { bytes: [head_size]u8 align(8) };

fn accountHead(sequence: u64, data_length: u32) Head {
    var head: Head = .{ .bytes = @splat(0) };
    const header: *layout.FrameHeader = @ptrCast(&head.bytes);
    header.kind = @backingInt(layout.FrameKind.account);
    header.sequence = sequence;
    const body: *layout.AccountBody = @ptrCast(@alignCast(head.bytes[@sizeOf(layout.FrameHeader)..]));
    body.data_length = data_length;
    return head;
}

fn goodbye(producer: *ring.Producer) !void {
    const size = @sizeOf(layout.FrameHeader) + @sizeOf(layout.GoodbyeBody);
    var bytes: [size]u8 align(8) = @splat(0);
    const header: *layout.FrameHeader = @ptrCast(&bytes);
    header.kind = @backingInt(layout.FrameKind.goodbye);
    try producer.offer(&.{ .head = &bytes, .publish_ns = 1 });
}

const Pair = struct {
    producer: connection.ProducerEnd,
    consumer: connection.ConsumerEnd,

    fn init(pair: *Pair) !void {
        var passed: [2]i32 = undefined;
        try testing.expectEqual(0, connection.ProducerEnd.create(.{
            .capacity_bytes = 65536,
            .reserved_bytes = 16384,
            .sender_id = @splat(1),
            .connection_id = 1,
        }, &passed, &pair.producer));
        try testing.expectEqual(0, connection.ConsumerEnd.join(passed[0], passed[1], null, 65536, region.uid_any, &pair.consumer));
    }

    /// Both ends as if `cursor` bytes had passed.
    fn startAt(pair: *Pair, cursor: u64) void {
        const producer = &pair.producer.ring;
        producer.cursor = cursor;
        producer.committed = cursor;
        producer.consumer_cursor_cached = cursor;
        producer.header.producer_cursor.store(cursor, .release);
        const consumer = &pair.consumer.ring;
        consumer.cursor = cursor;
        consumer.released = cursor;
        consumer.producer_cursor_cached = cursor;
        consumer.page.consumer_cursor.store(cursor, .release);
    }

    fn deinit(pair: *Pair) void {
        pair.producer.destroy();
        pair.consumer.destroy();
    }

    fn put(pair: *Pair, sequence: u64, data: []const u8) !void {
        const head = accountHead(sequence, @intCast(data.len));
        pair.producer.ring.offer(&.{ .head = &head.bytes, .parts = &.{data}, .publish_ns = 5 }) catch |err| {
            if (err == error.TooLarge) pair.producer.ring.countLost(false);
            return err;
        };
    }

    fn header(pair: *Pair, record: layout.PollRecord) *const layout.FrameHeader {
        return @ptrCast(@alignCast(pair.consumer.ring.data + record.frame_offset));
    }

    fn payload(pair: *Pair, record: layout.PollRecord) []const u8 {
        return pair.consumer.ring.data[record.payload_offset..][0..record.payload_length];
    }
};

test "poll returns 0 when nothing is committed; a batch appears at its commit" {
    var pair: Pair = undefined;
    try pair.init();
    defer pair.deinit();
    var records: [8]layout.PollRecord = undefined;
    try testing.expectEqual(0, try pair.consumer.ring.poll(&records));
    try testing.expect(!pair.producer.ring.commit(0));
    try pair.put(3, "three");
    try testing.expectEqual(0, try pair.consumer.ring.poll(&records));
    try testing.expect(pair.producer.ring.commit(0));
    try testing.expectEqual(1, try pair.consumer.ring.poll(&records));
    try testing.expectEqual(3, pair.header(records[0]).sequence);
    try testing.expectEqual(5, pair.header(records[0]).publish_ns);
    try testing.expectEqualStrings("three", pair.payload(records[0]));
    try testing.expectEqual(0, try pair.consumer.ring.poll(&records));
}

test "poll hands out no more than asked for and goes on where it stopped" {
    var pair: Pair = undefined;
    try pair.init();
    defer pair.deinit();
    for (1..6) |sequence| try pair.put(sequence, "x");
    _ = pair.producer.ring.commit(0);
    var records: [2]layout.PollRecord = undefined;
    var expected: u64 = 1;
    for ([_]u32{ 2, 2, 1, 0 }) |count| {
        try testing.expectEqual(count, try pair.consumer.ring.poll(&records));
        for (records[0..count]) |record| {
            try testing.expectEqual(expected, pair.header(record).sequence);
            expected += 1;
        }
    }
}

test "a full ring is full for data, not for marks; room returns by release" {
    var pair: Pair = undefined;
    try pair.init();
    defer pair.deinit();
    const data: [1000]u8 = @splat(9);
    var count: u32 = 0;
    while (pair.put(count + 1, &data)) |_| count += 1 else |err| try testing.expectEqual(error.Full, err);
    const frame_size = ring.paddedSize(head_size + data.len);
    try testing.expectEqual((65536 - 16384) / frame_size, count);
    try goodbye(&pair.producer.ring);
    _ = pair.producer.ring.commit(0);

    var records: [64]layout.PollRecord = undefined;
    try testing.expectEqual(count + 1, try pair.consumer.ring.poll(&records));
    try testing.expectError(error.Full, pair.put(1, &data));
    try testing.expectError(error.BadArgument, pair.consumer.ring.release(65536));
    try testing.expectError(error.BadArgument, pair.consumer.ring.release(1));
    try pair.consumer.ring.release(2 * frame_size);
    try pair.put(1, &data);
}

test "a frame that can never fit is counted, and reported by the next one" {
    var pair: Pair = undefined;
    try pair.init();
    defer pair.deinit();
    const huge: [50_000]u8 = @splat(0);
    try testing.expectError(error.TooLarge, pair.put(1, &huge));
    try testing.expectError(error.TooLarge, pair.put(2, &huge));
    try pair.put(4, "");
    try pair.put(5, "");
    _ = pair.producer.ring.commit(0);
    var records: [4]layout.PollRecord = undefined;
    try testing.expectEqual(2, try pair.consumer.ring.poll(&records));
    try testing.expectEqual(2, pair.header(records[0]).lost);
    try testing.expectEqual(2, records[0].lost);
    try testing.expectEqual(0, pair.header(records[1]).lost);
    try testing.expectEqual(0, records[1].lost);
    try testing.expectEqual(2, pair.producer.ring.lost_total);
}

test "the end: everything before it is delivered, then end of stream" {
    var pair: Pair = undefined;
    try pair.init();
    defer pair.deinit();
    try pair.put(1, "last");
    _ = pair.producer.ring.commit(0);
    pair.producer.ring.end(.sender_closed);
    var records: [4]layout.PollRecord = undefined;
    try testing.expectEqual(1, try pair.consumer.ring.poll(&records));
    try testing.expectError(error.EndOfStream, pair.consumer.ring.poll(&records));
}

test "a consumer cursor from the future, from the past or out of line is refused" {
    for ([_]u64{ 1 << 40, 8 + 65536, std.math.maxInt(u64), 4 }) |nonsense| {
        var pair: Pair = undefined;
        try pair.init();
        defer pair.deinit();
        pair.startAt(1 << 33);
        const consumer_cursor = &pair.consumer.ring.page.consumer_cursor;
        consumer_cursor.store((1 << 33) +% nonsense, .release);
        try testing.expectError(error.PeerCorrupt, pair.producer.ring.sync());
        consumer_cursor.store((1 << 33) - 8, .release);
        try testing.expectError(error.PeerCorrupt, pair.producer.ring.sync());
        consumer_cursor.store(1 << 33, .release);
        try pair.producer.ring.sync();
    }
}

test "a producer that writes nonsense gets an error, never a read out of bounds" {
    const Damage = struct {
        fn apply(pair: *Pair, which: usize) void {
            const producer = &pair.producer.ring;
            const frame: *layout.FrameHeader = @ptrCast(producer.data);
            const body: *layout.AccountBody = @ptrCast(@alignCast(producer.data + @sizeOf(layout.FrameHeader)));
            const cursor = &producer.header.producer_cursor;
            switch (which) {
                0 => frame.length = 0,
                1 => frame.length = 63,
                2 => frame.length = std.math.maxInt(u32),
                3 => frame.length = 65536,
                4 => frame.length += 1,
                5 => frame.kind = 0,
                6 => frame.kind = @backingInt(layout.FrameKind.left),
                7 => frame.kind = 999,
                8 => frame.kind = @backingInt(layout.FrameKind.transaction),
                9 => frame.kind = @backingInt(layout.FrameKind.slot),
                10 => frame.kind = @backingInt(layout.FrameKind.gap),
                11 => frame.kind = @backingInt(layout.FrameKind.goodbye),
                12 => frame.flags = layout.frame_flag_signature,
                13 => body.data_length = std.math.maxInt(u32),
                14 => body.data_length = 11,
                15 => cursor.store(cursor.load(.monotonic) + 65536, .release),
                16 => cursor.store(std.math.maxInt(u64), .release),
                17 => cursor.store(0, .release),
                18 => cursor.store(cursor.load(.monotonic) + 1, .release),
                19 => cursor.store(8, .release),
                else => unreachable,
            }
        }
    };
    for (0..20) |which| {
        var pair: Pair = undefined;
        try pair.init();
        defer pair.deinit();
        pair.startAt(65536 * 3);
        try pair.put(1, "0123456789");
        _ = pair.producer.ring.commit(0);
        Damage.apply(&pair, which);
        var records: [4]layout.PollRecord = undefined;
        if (which == 17) { // back to before the start
            try testing.expectError(error.PeerCorrupt, pair.consumer.ring.poll(&records));
            continue;
        }
        testing.expectError(error.PeerCorrupt, pair.consumer.ring.poll(&records)) catch |err| {
            std.debug.print("damage {d}\n", .{which});
            return err;
        };
    }
}

test "random bytes as a ring never lead out of bounds" {
    var prng = std.Random.DefaultPrng.init(42);
    const random = prng.random();
    var pair: Pair = undefined;
    try pair.init();
    defer pair.deinit();
    for (0..2000) |round| {
        const producer = &pair.producer.ring;
        // Start near the end, so that frames wrap.
        pair.startAt(65536 * (round + 1) - 512);
        const published = 8 * random.uintLessThan(u64, 256);
        for (0..published / 8) |i| {
            const word: *u64 = @ptrCast(@alignCast(producer.data + ((producer.cursor + 8 * i) & 65535)));
            word.* = random.int(u64);
            const length: *u32 = @ptrCast(word);
            const kind: *u16 = @ptrCast(@alignCast(@as([*]u8, @ptrCast(word)) + 4));
            if (random.boolean()) length.* = random.uintAtMost(u32, 600);
            if (random.boolean()) kind.* = random.uintAtMost(u16, 7);
        }
        producer.header.producer_cursor.store(producer.cursor + published, .release);
        var records: [64]layout.PollRecord = undefined;
        const count = pair.consumer.ring.poll(&records) catch continue;
        for (records[0..count]) |record| {
            const end = record.frame_offset + record.ring_bytes;
            try testing.expect(end <= 2 * 65536);
            try testing.expect(record.payload_offset + record.payload_length <= end);
            try testing.expect(record.extra_offset + record.extra_length <= end);
        }
    }
}

test "park and notify: one byte per sleep, none while awake, none lost" {
    var pair: Pair = undefined;
    try pair.init();
    defer pair.deinit();
    const producer = &pair.producer.ring;
    const consumer = &pair.consumer.ring;
    try testing.expect(!producer.shouldNotify());
    try testing.expect(consumer.park());
    try testing.expect(producer.shouldNotify());
    try testing.expect(!producer.shouldNotify());
    consumer.unpark();
    try testing.expect(!producer.shouldNotify());
    try pair.put(1, "");
    _ = producer.commit(0);
    try testing.expect(!consumer.park()); // there is something: stay awake
    try testing.expect(!producer.shouldNotify());
    var records: [1]layout.PollRecord = undefined;
    _ = try consumer.poll(&records);
    try testing.expect(consumer.park());
    try testing.expect(consumer.park()); // again without waking: still the same sleep
    try testing.expect(producer.shouldNotify());
    consumer.epoch = std.math.maxInt(u32); // odd; wraps to even
    consumer.unpark();
    try testing.expectEqual(0, consumer.epoch);
    producer.end(.sender_closed);
    try testing.expect(!consumer.park());
}

// The same operations on a list: what must come out.
test "a million random steps agree with a plain list" {
    var seed: u64 = 1;
    while (seed <= 4) : (seed += 1) try compareWithModel(seed, 250_000);
}

/// Accounts of these slots, marks of filter edits (sizes of frames: `markSize`), frames of slots.
const Item = struct {
    kind: layout.FrameKind,
    sequence: u64,
    length: u32,
    lost: u32,
    slot: u64,

    fn size(item: Item) usize {
        return ring.paddedSize(switch (item.kind) {
            .account => head_size + item.length,
            .slot => @sizeOf(layout.FrameHeader) + @sizeOf(layout.SlotBody),
            else => @sizeOf(layout.FrameHeader) + @sizeOf(layout.FilterMarkBody),
        });
    }

    fn updates(item: Item) u32 {
        return @intFromBool(ring.isUpdate(item.kind)) + item.lost;
    }

    fn offer(item: Item, pair: *Pair, data: []const u8) !void {
        var bytes: [head_size]u8 align(8) = accountHead(item.sequence, item.length).bytes;
        const header: *layout.FrameHeader = @ptrCast(&bytes);
        header.kind = @backingInt(item.kind);
        const body = bytes[@sizeOf(layout.FrameHeader)..];
        switch (item.kind) {
            .account => @as(*layout.AccountBody, @ptrCast(@alignCast(body.ptr))).slot = item.slot,
            .slot => @as(*layout.SlotBody, @ptrCast(@alignCast(body.ptr))).slot = item.slot,
            else => {},
        }
        const is_account = item.kind == .account;
        const length = if (is_account) head_size else item.size();
        pair.producer.ring.offer(&.{
            .head = bytes[0..length],
            .parts = &.{if (is_account) data[0..item.length] else ""},
            .publish_ns = 5,
        }) catch |err| {
            if (err == error.TooLarge) pair.producer.ring.countLost(false);
            return err;
        };
    }
};

fn compareWithModel(seed: u64, steps: usize) !void {
    var prng = std.Random.DefaultPrng.init(seed);
    const random = prng.random();
    var pair: Pair = undefined;
    try pair.init();
    defer pair.deinit();
    try testing.expectEqual(0, pair.consumer.prepareToSkip());
    pair.startAt(std.math.maxInt(u64) / 2 / 65536 * 65536 - 8 * 100);

    var queue: [2048]Item = undefined; // committed and claimed, oldest first, modulo
    var read: usize = 0;
    var visible: usize = 0;
    var written: usize = 0;
    var polled_bytes: u64 = 0;
    var skip_to: usize = 0;
    var skipped_bytes: u64 = 0;
    var skipped_updates: u64 = 0;
    var skipped_of_slot: [4]u32 = @splat(0);
    var lost_before: u32 = 0;
    var lost: u32 = 0;
    var sequence: u64 = 0;
    var data: [60_000]u8 = undefined;
    for (0..steps) |step| {
        errdefer std.debug.print("seed {d} step {d}\n", .{ seed, step });
        switch (random.uintLessThan(u32, 10)) {
            0...4 => {
                sequence += 1;
                const item: Item = .{
                    .kind = switch (random.uintLessThan(u32, 12)) {
                        0 => .filter,
                        1 => .slot,
                        else => .account,
                    },
                    .sequence = sequence,
                    .length = if (random.uintLessThan(u32, 50) == 0) 60_000 else random.uintLessThan(u32, 700),
                    .lost = lost,
                    .slot = random.uintLessThan(u64, 4),
                };
                @memset(data[0..item.length], @truncate(sequence));
                if (item.offer(&pair, &data)) |_| {
                    queue[written % queue.len] = item;
                    written += 1;
                    lost = 0;
                } else |err| switch (err) {
                    error.Full => {},
                    error.TooLarge => lost += 1,
                    error.PeerCorrupt => return err,
                }
            },
            5, 6 => {
                try testing.expectEqual(visible != written, pair.producer.ring.commit(0));
                visible = written;
            },
            7 => if (random.uintLessThan(u32, 20) == 0) {
                pair.producer.ring.skipCommitted();
                skip_to = visible;
            },
            else => {
                var records: [16]layout.PollRecord = undefined;
                const limit = random.uintAtMost(usize, records.len);
                const count = try pair.consumer.ring.poll(records[0..limit]);
                var handed: usize = 0;
                while (handed < limit and read < visible) {
                    const expected = queue[read % queue.len];
                    read += 1;
                    // Marks are not skipped.
                    if (read <= skip_to and ring.isUpdate(expected.kind)) {
                        lost_before += expected.updates();
                        skipped_bytes += expected.size();
                        skipped_updates += 1;
                        if (expected.kind == .account) skipped_of_slot[expected.slot] += 1;
                        continue;
                    }
                    try testing.expect(handed < count);
                    const record = records[handed];
                    handed += 1;
                    try testing.expectEqual(@backingInt(expected.kind), record.kind);
                    try testing.expectEqual(expected.sequence, pair.header(record).sequence);
                    try testing.expectEqual(expected.lost, pair.header(record).lost);
                    try testing.expectEqual(expected.lost + lost_before, record.lost);
                    lost_before = 0;
                    try testing.expectEqual(expected.size() + skipped_bytes, record.ring_bytes);
                    skipped_bytes = 0;
                    polled_bytes += record.ring_bytes;
                    switch (expected.kind) {
                        .account => {
                            const bytes = pair.payload(record);
                            try testing.expectEqual(expected.length, bytes.len);
                            for (bytes) |byte| if (byte != @as(u8, @truncate(expected.sequence))) return error.WrongByte;
                        },
                        .slot => try testing.expectEqual(skipped_of_slot[expected.slot], record.payload_length),
                        else => {},
                    }
                }
                try testing.expectEqual(count, handed);
                try testing.expectEqual(skipped_updates, pair.producer.ring.skippedUpdates());
                if (count == 0 and polled_bytes == 0) skipped_bytes = 0; // given back at once
                const give = if (random.boolean()) polled_bytes else polled_bytes / 2 / 8 * 8;
                try pair.consumer.ring.release(give);
                polled_bytes -= give;
            },
        }
    }
}
