//! history.zig: the newest updates of a sender, as they were published, in their order: for consumers that lost their
//! connection and go on where they were.
//! May touch: its own memory. May not touch: consumers; catch_up.zig replays.
//! Bounded: a log of fixed size. The oldest updates make room for new ones; one that would take more than half of it clears
//! it. Sequences in it have no holes.

const std = @import("std");
const platform = @import("platform/mod.zig");
const copy = @import("copy.zig").copy;
const assert = std.debug.assert;

/// In front of an update; head and tail follow, padded to 8 together. With a length of 0 for the head: nothing up to
/// the end of the memory.
const Entry = extern struct {
    sequence: u64,
    size: u32,
    head_length: u32,
    tail_length: u32,
    pad_0: u32,
};

/// Where updates with such sequences stand is remembered.
const mark_every = 64;
/// The smallest update, a rollback.
const entry_size_min = @sizeOf(Entry) + 88;

pub const Item = struct {
    sequence: u64,
    head: []align(8) const u8,
    tail: []const u8,
    /// Where the next one stands, or will.
    next: u64,
};

pub const History = struct {
    log: []align(8) u8,
    marks: []u64,
    /// Positions grow for ever; their place is the rest by the size.
    begin: u64 = 0,
    end: u64 = 0,
    /// Of the oldest update that is there, and of the next one to come.
    first: u64 = 1,
    next: u64 = 1,

    pub fn init(size: usize) error{OutOfMemory}!History {
        assert(size % 4096 == 0);
        const log = platform.pages(size);
        if (log.code < 0) return error.OutOfMemory;
        errdefer platform.unmap(log.address, size);
        const mark_count = size / (entry_size_min * mark_every) + 2;
        const marks = platform.pages(mark_count * @sizeOf(u64));
        if (marks.code < 0) return error.OutOfMemory;
        return .{
            .log = @as([*]align(8) u8, @ptrFromInt(log.address))[0..size],
            .marks = @as([*]u64, @ptrFromInt(marks.address))[0..mark_count],
        };
    }

    pub fn deinit(history: *History) void {
        platform.unmap(@intFromPtr(history.log.ptr), history.log.len);
        platform.unmap(@intFromPtr(history.marks.ptr), history.marks.len * @sizeOf(u64));
    }

    /// Who has handled this sequence, or a greater one, can be given all that followed.
    pub fn from(history: *const History) u64 {
        return history.first - 1;
    }

    pub fn usedBytes(history: *const History) u64 {
        return history.end - history.begin;
    }

    /// Begins anew, behind that sequence.
    pub fn clear(history: *History, sequence: u64) void {
        history.begin = history.end;
        history.first = sequence + 1;
        history.next = sequence + 1;
    }

    pub fn append(history: *History, sequence: u64, head: []const u8, tail: []const u8) void {
        if (sequence != history.next) history.clear(sequence - 1);
        const size = std.mem.alignForward(usize, @sizeOf(Entry) + head.len + tail.len, 8);
        if (size > history.log.len / 2) return history.clear(sequence);
        const rest = history.restAt(history.end);
        if (rest < size) {
            // An update stands in one piece.
            history.makeRoom(rest);
            if (rest >= @sizeOf(Entry)) history.entryAt(history.end).* = .{ .sequence = 0, .size = @intCast(rest), .head_length = 0, .tail_length = 0, .pad_0 = 0 };
            history.end += rest;
        }
        history.makeRoom(size);
        const entry = history.entryAt(history.end);
        entry.* = .{ .sequence = sequence, .size = @intCast(size), .head_length = @intCast(head.len), .tail_length = @intCast(tail.len), .pad_0 = 0 };
        const bytes = history.bytesAt(history.end);
        copy(bytes + @sizeOf(Entry), head);
        copy(bytes + @sizeOf(Entry) + head.len, tail);
        if (sequence % mark_every == 0) history.marks[sequence / mark_every % history.marks.len] = history.end;
        history.end += size;
        history.next = sequence + 1;
    }

    fn restAt(history: *const History, position: u64) usize {
        return history.log.len - @as(usize, @intCast(position % history.log.len));
    }

    fn bytesAt(history: *const History, position: u64) [*]align(8) u8 {
        return @alignCast(history.log.ptr + @as(usize, @intCast(position % history.log.len)));
    }

    fn entryAt(history: *const History, position: u64) *Entry {
        return @ptrCast(history.bytesAt(position));
    }

    /// The oldest go until there is room for `size` bytes behind the end.
    fn makeRoom(history: *History, size: usize) void {
        while (history.end + size - history.begin > history.log.len) {
            if (history.begin == history.end) return;
            const start = history.skipRest(history.begin);
            if (start >= history.end) {
                history.begin = history.end;
                return;
            }
            history.begin = start + history.entryAt(start).size;
            history.first += 1;
        }
        history.begin = @min(history.skipRest(history.begin), history.end);
    }

    /// Past what stands for nothing at the end of the memory.
    fn skipRest(history: *const History, position: u64) u64 {
        if (position >= history.end) return position;
        const rest = history.restAt(position);
        if (rest < @sizeOf(Entry)) return position + rest;
        return if (history.entryAt(position).head_length == 0) position + rest else position;
    }

    /// Where an update stands. It must be there.
    pub fn find(history: *const History, sequence: u64) u64 {
        assert(sequence >= history.first and sequence < history.next);
        const marked = sequence - sequence % mark_every;
        var position = history.begin;
        if (marked >= history.first) position = history.marks[marked / mark_every % history.marks.len];
        while (true) {
            const found = history.read(position);
            if (found.sequence == sequence) return position;
            position = found.next;
        }
    }

    /// The update at a position that `find` or `read` gave, while it is there: it is if its sequence is at least `first`.
    pub fn read(history: *const History, position: u64) Item {
        const start = history.skipRest(position);
        assert(start >= history.begin and start < history.end);
        const entry = history.entryAt(start);
        const bytes = history.bytesAt(start);
        return .{
            .sequence = entry.sequence,
            .head = @alignCast(bytes[@sizeOf(Entry)..][0..entry.head_length]),
            .tail = bytes[@sizeOf(Entry) + entry.head_length ..][0..entry.tail_length],
            .next = start + entry.size,
        };
    }
};

const testing = std.testing;

test "History: what is there is what was put in last, from any sequence on, whatever the sizes" {
    var prng: std.Random.DefaultPrng = .init(7);
    const random = prng.random();
    var history: History = try .init(64 * 1024);
    defer history.deinit();
    var sequence: u64 = 0;
    var lengths: [100_000]u32 = @splat(0);
    for (0..200_000) |step| {
        sequence += if (random.uintLessThan(u32, 20_000) == 0) 3 else 1;
        if (sequence >= lengths.len) break;
        var bytes: [40_000]u8 = undefined;
        const tail_length = if (random.uintLessThan(u32, 2_000) == 0) 40_000 - 1 else random.uintLessThan(u32, 400);
        const head_length = 88 + 8 * random.uintLessThan(u32, 12);
        @memset(bytes[0..tail_length], @truncate(sequence));
        var head: [256]u8 = @splat(@truncate(sequence *% 3));
        lengths[sequence] = tail_length;
        history.append(sequence, head[0..head_length], bytes[0..tail_length]);
        try testing.expectEqual(sequence + 1, history.next);
        if (tail_length > 32_000) {
            try testing.expectEqual(sequence, history.from());
            continue;
        }
        try testing.expect(history.first <= sequence);
        if (step % 16 != 0) continue;
        var at = history.first + random.uintLessThan(u64, sequence + 1 - history.first);
        var position = history.find(at);
        while (at <= sequence) : (at += 1) {
            const item = history.read(position);
            try testing.expectEqual(at, item.sequence);
            try testing.expectEqual(lengths[@intCast(at)], item.tail.len);
            if (item.tail.len > 0) try testing.expectEqual(@as(u8, @truncate(at)), item.tail[item.tail.len - 1]);
            try testing.expectEqual(@as(u8, @truncate(at *% 3)), item.head[0]);
            position = item.next;
        }
        try testing.expectEqual(history.end, position);
    }
}
