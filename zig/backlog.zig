//! backlog.zig: frames of one connection that wait, at the sender, for room in its ring: in order, bounded in bytes. With
//! a key, a newer frame takes the place of an older one, at the end of the order (the policy `conflate`), unless `keep` says
//! that this one has to be seen.
//! May touch: its own memory, which nobody shares. May not touch: rings, counts: who asks decides what a loss is.
//! Why a log and not a list: frames are copied once, next to each other. What was replaced stays as a hole until the log
//! is full of holes; then what lives is moved together. A hole is moved past at most once, a frame moves O(1) times for
//! each byte that is pushed.

const std = @import("std");
const layout = @import("layout.zig");
const platform = @import("platform/mod.zig");
const assert = std.debug.assert;

pub const Key = [layout.address_size]u8;
const SipHash = std.crypto.auth.siphash.SipHash64(1, 3);

const Entry = extern struct {
    /// Of this header and the frame, padded to 8.
    size: u32,
    head_length: u32,
    tail_length: u32,
    state: State,
    filter_mask: u64,
    /// The caller's.
    slot: u64,
    key: Key,

    const State = enum(u32) { keyed, plain, hole };

    fn bytes(entry: *Entry) [*]align(8) u8 {
        const address: [*]align(8) u8 = @ptrCast(entry);
        return @alignCast(address + @sizeOf(Entry));
    }
};

/// A frame that waits.
pub const Waiting = struct {
    head: []align(8) u8,
    tail: []const u8,
    filter_mask: u64,
    slot: u64,
};

/// `replaced`: a frame that had the same key went for it.
pub const Outcome = enum { queued, replaced };
pub const PushError = error{ Full, TooLarge, OutOfMemory };

/// Places in the map: position + 1 of an entry in the log, 0 for none.
const Place = u32;
/// The smallest frame that has a key.
const keyed_size_min = @sizeOf(Entry) + @sizeOf(layout.FrameHeader) + @sizeOf(layout.AccountBody);
/// Compaction has to win at least this share of the log, or the push is refused: it must not become the rule.
const gain_min_divisor = 4;

pub const Backlog = struct {
    /// Bytes of the log, given when it is made; memory is taken at the first push and given back by `deinit`,
    /// after which it can be used again.
    bytes_max: u32,
    seed: [16]u8,
    log: []align(8) u8 = &.{},
    map: []Place = &.{},
    begin: u32 = 0,
    end: u32 = 0,
    count: u32 = 0,
    hole_bytes: u32 = 0,

    pub fn init(bytes_max: u32, seed: [16]u8) Backlog {
        return .{ .bytes_max = std.mem.alignForward(u32, @min(bytes_max, std.math.maxInt(u31)), 4096), .seed = seed };
    }

    pub fn deinit(backlog: *Backlog) void {
        if (backlog.log.len > 0) platform.unmap(@intFromPtr(backlog.log.ptr), backlog.log.len);
        if (backlog.map.len > 0) platform.unmap(@intFromPtr(backlog.map.ptr), backlog.map.len * @sizeOf(Place));
        backlog.* = .init(backlog.bytes_max, backlog.seed);
    }

    pub fn isEmpty(backlog: *const Backlog) bool {
        return backlog.count == 0;
    }

    /// Bytes of frames that wait.
    pub fn usedBytes(backlog: *const Backlog) u32 {
        return backlog.end - backlog.begin - backlog.hole_bytes;
    }

    /// Puts a frame at the end. With a key, the frame that has the same one goes.
    pub fn push(backlog: *Backlog, key: ?*const Key, head: []align(8) const u8, parts: []const []const u8, filter_mask: u64, slot: u64) PushError!Outcome {
        var tail_length: usize = 0;
        for (parts) |part| tail_length += part.len;
        const wanted = std.mem.alignForward(usize, @sizeOf(Entry) + head.len + tail_length, 8);
        if (wanted > backlog.bytes_max) return error.TooLarge;
        const size: u32 = @intCast(wanted);
        try backlog.prepare();
        const older = if (key) |wanted_key| backlog.find(wanted_key) else null;
        if (backlog.log.len - backlog.end < size) try backlog.compact(size);
        // The older one goes only now: a push that is refused changes nothing. (Compaction may have moved it.)
        var outcome: Outcome = .queued;
        if (older != null) {
            const position = backlog.find(key.?).?;
            outcome = .replaced;
            backlog.remove(position);
        }

        const entry: *Entry = @ptrCast(@alignCast(backlog.log[backlog.end..].ptr));
        entry.* = .{
            .size = size,
            .head_length = @intCast(head.len),
            .tail_length = @intCast(tail_length),
            .state = if (key == null) .plain else .keyed,
            .filter_mask = filter_mask,
            .slot = slot,
            .key = if (key) |given| given.* else @splat(0),
        };
        @memcpy(entry.bytes()[0..head.len], head);
        var copied = head.len;
        for (parts) |part| {
            @memcpy(entry.bytes()[copied..][0..part.len], part);
            copied += part.len;
        }
        if (key != null) backlog.insert(backlog.end);
        backlog.end += size;
        backlog.count += 1;
        return outcome;
    }

    /// The frame that waits under this key stays, whatever comes under it.
    pub fn keep(backlog: *Backlog, key: *const Key) void {
        if (backlog.count == 0) return;
        const position = backlog.find(key) orelse return;
        backlog.erase(key);
        backlog.at(position).state = .plain;
    }

    /// The frame that has waited longest. Valid until the next push or pop.
    pub fn front(backlog: *Backlog) ?Waiting {
        if (backlog.count == 0) return null;
        const entry = backlog.at(backlog.begin);
        assert(entry.state != .hole);
        return .{
            .head = entry.bytes()[0..entry.head_length],
            .tail = entry.bytes()[entry.head_length..][0..entry.tail_length],
            .filter_mask = entry.filter_mask,
            .slot = entry.slot,
        };
    }

    pub fn pop(backlog: *Backlog) void {
        backlog.remove(backlog.begin);
        if (backlog.count == 0) {
            backlog.begin = 0;
            backlog.end = 0;
            backlog.hole_bytes = 0;
        }
    }

    /// Takes a frame away, wherever it stands.
    fn remove(backlog: *Backlog, position: u32) void {
        const entry = backlog.at(position);
        if (entry.state == .keyed) backlog.erase(&entry.key);
        entry.state = .hole;
        backlog.count -= 1;
        backlog.hole_bytes += entry.size;
        // The front is never a hole.
        while (backlog.begin < backlog.end) {
            const first = backlog.at(backlog.begin);
            if (first.state != .hole) break;
            backlog.begin += first.size;
            backlog.hole_bytes -= first.size;
        }
    }

    fn at(backlog: *const Backlog, position: u32) *Entry {
        return @ptrCast(@alignCast(backlog.log[position..].ptr));
    }

    fn prepare(backlog: *Backlog) error{OutOfMemory}!void {
        if (backlog.log.len > 0) return;
        const log = platform.pages(backlog.bytes_max);
        if (log.code < 0) return error.OutOfMemory;
        // Half full at most.
        const places = std.math.ceilPowerOfTwoAssert(usize, 2 * (backlog.bytes_max / keyed_size_min + 1));
        const map = platform.pages(places * @sizeOf(Place));
        if (map.code < 0) {
            platform.unmap(log.address, backlog.bytes_max);
            return error.OutOfMemory;
        }
        backlog.log = @as([*]align(8) u8, @ptrFromInt(log.address))[0..backlog.bytes_max];
        backlog.map = @as([*]Place, @ptrFromInt(map.address))[0..places];
    }

    /// Moves what lives to the start of the log.
    fn compact(backlog: *Backlog, size: u32) error{Full}!void {
        const gain = backlog.begin + backlog.hole_bytes;
        if (backlog.log.len - backlog.end + gain < size) return error.Full;
        if (gain < backlog.log.len / gain_min_divisor) return error.Full;
        var from = backlog.begin;
        var to: u32 = 0;
        while (from < backlog.end) {
            const entry = backlog.at(from);
            const length = entry.size;
            if (entry.state != .hole) {
                if (entry.state == .keyed) backlog.map[backlog.placeOf(&entry.key).?] = to + 1;
                std.mem.copyForwards(u8, backlog.log[to..][0..length], backlog.log[from..][0..length]);
                to += length;
            }
            from += length;
        }
        backlog.begin = 0;
        backlog.end = to;
        backlog.hole_bytes = 0;
    }

    // The map from keys to positions: open addressing, linear probing, no tombstones.

    fn home(backlog: *const Backlog, key: *const Key) usize {
        return SipHash.toInt(key, &backlog.seed) & (backlog.map.len - 1);
    }

    fn placeOf(backlog: *const Backlog, key: *const Key) ?usize {
        var place = backlog.home(key);
        while (backlog.map[place] != 0) : (place = (place + 1) & (backlog.map.len - 1)) {
            if (std.mem.eql(u8, &backlog.at(backlog.map[place] - 1).key, key)) return place;
        }
        return null;
    }

    fn find(backlog: *const Backlog, key: *const Key) ?u32 {
        return backlog.map[backlog.placeOf(key) orelse return null] - 1;
    }

    fn insert(backlog: *Backlog, position: u32) void {
        var place = backlog.home(&backlog.at(position).key);
        while (backlog.map[place] != 0) place = (place + 1) & (backlog.map.len - 1);
        backlog.map[place] = position + 1;
    }

    /// Closes the gap by moving back what belongs further forward.
    fn erase(backlog: *Backlog, key: *const Key) void {
        const mask = backlog.map.len - 1;
        var gap = backlog.placeOf(key) orelse return;
        var place = gap;
        while (true) {
            place = (place + 1) & mask;
            if (backlog.map[place] == 0) break;
            const wanted = backlog.home(&backlog.at(backlog.map[place] - 1).key);
            // It may move if its home is not between the gap and where it stands.
            if ((place -% wanted) & mask < (place -% gap) & mask) continue;
            backlog.map[gap] = backlog.map[place];
            gap = place;
        }
        backlog.map[gap] = 0;
    }
};

// Tests

const testing = std.testing;

fn testKey(n: u32) Key {
    var key: Key = @splat(0);
    std.mem.writeInt(u32, key[0..4], n, .little);
    return key;
}

test "frames come out in order; a newer one with the same key replaces the older and goes to the end" {
    var backlog: Backlog = .init(4096, @splat(1));
    defer backlog.deinit();
    const head: [8]u8 align(8) = "headhead".*;
    try testing.expectEqual(null, backlog.front());
    try testing.expectEqual(.queued, try backlog.push(&testKey(1), &head, &.{"a"}, 1, 70));
    try testing.expectEqual(.queued, try backlog.push(null, &head, &.{"slot"}, 2, 0));
    try testing.expectEqual(.queued, try backlog.push(&testKey(2), &head, &.{"b"}, 3, 0));
    try testing.expectEqual(.replaced, try backlog.push(&testKey(1), &head, &.{"c"}, 4, 71));
    for ([_]struct { []const u8, u64 }{ .{ "slot", 2 }, .{ "b", 3 }, .{ "c", 4 } }) |expected| {
        const waiting = backlog.front().?;
        try testing.expectEqualStrings(expected[0], waiting.tail);
        try testing.expectEqualStrings(&head, waiting.head);
        try testing.expectEqual(expected[1], waiting.filter_mask);
        backlog.pop();
    }
    try testing.expect(backlog.isEmpty());
}

test "full is full, and changes nothing; what is too large never fits" {
    var backlog: Backlog = .init(4096, @splat(1));
    defer backlog.deinit();
    const head: [8]u8 align(8) = @splat(0);
    const tail: [1000]u8 = @splat(7);
    const huge: [4096]u8 = @splat(7);
    try testing.expectError(error.TooLarge, backlog.push(null, &head, &.{&huge}, 0, 0));
    for (0..3) |i| _ = try backlog.push(&testKey(@intCast(i)), &head, &.{&tail}, 0, 9);
    try testing.expectError(error.Full, backlog.push(null, &head, &.{&tail}, 0, 9));
    // Not even a replacement: it needs room before the older one goes.
    try testing.expectError(error.Full, backlog.push(&testKey(1), &head, &.{&tail}, 0, 9));
    try testing.expectEqual(3, backlog.count);
    backlog.pop();
    try testing.expectEqual(.replaced, try backlog.push(&testKey(1), &head, &.{&tail}, 0, 9));
    try testing.expectEqual(2, backlog.count);
}

test "a frame that is kept is replaced by nothing; what comes under its key is behind it, and is replaced as ever" {
    var backlog: Backlog = .init(4096, @splat(1));
    defer backlog.deinit();
    const head: [8]u8 align(8) = "headhead".*;
    backlog.keep(&testKey(1)); // nothing waits yet
    _ = try backlog.push(&testKey(1), &head, &.{"a"}, 1, 0);
    backlog.keep(&testKey(2));
    backlog.keep(&testKey(1));
    try testing.expectEqual(.queued, try backlog.push(&testKey(1), &head, &.{"b"}, 1, 71));
    try testing.expectEqual(.replaced, try backlog.push(&testKey(1), &head, &.{"c"}, 1, 72));
    for ([_][]const u8{ "a", "c" }) |expected| {
        try testing.expectEqualStrings(expected, backlog.front().?.tail);
        backlog.pop();
    }
    try testing.expect(backlog.isEmpty());
}

test "random pushes and pops agree with a plain list" {
    var prng = std.Random.DefaultPrng.init(testing.random_seed);
    const random = prng.random();
    var backlog: Backlog = .init(16 * 1024, @splat(3));
    defer backlog.deinit();
    const Item = struct { key: ?u32, value: u32, length: usize };
    var model: std.ArrayList(Item) = .empty;
    defer model.deinit(testing.allocator);
    const head: [8]u8 align(8) = @splat(9);
    var tail: [300]u8 = undefined;
    for (0..200_000) |step| {
        if (random.uintLessThan(u32, 5) < 3) {
            const key: ?u32 = if (random.uintLessThan(u32, 4) == 0) null else random.uintLessThan(u32, 40);
            const length = random.intRangeAtMost(usize, 4, tail.len);
            std.mem.writeInt(u32, tail[0..4], @intCast(step), .little);
            const given = testKey(key orelse 0);
            const outcome = backlog.push(if (key == null) null else &given, &head, &.{tail[0..length]}, step, step) catch |err| {
                try testing.expectEqual(error.Full, err);
                continue;
            };
            const older = for (model.items, 0..) |item, i| {
                if (key != null and item.key == key) break i;
            } else null;
            const expected: Outcome = if (older == null) .queued else .replaced;
            try testing.expectEqual(expected, outcome);
            if (older) |i| _ = model.orderedRemove(i);
            try model.append(testing.allocator, .{ .key = key, .value = @intCast(step), .length = length });
        } else if (model.items.len > 0) {
            const expected = model.orderedRemove(0);
            const waiting = backlog.front().?;
            try testing.expectEqual(expected.length, waiting.tail.len);
            try testing.expectEqual(expected.value, std.mem.readInt(u32, waiting.tail[0..4], .little));
            backlog.pop();
        }
        try testing.expectEqual(model.items.len, backlog.count);
        var used: usize = 0;
        for (model.items) |item| used += std.mem.alignForward(usize, @sizeOf(Entry) + head.len + item.length, 8);
        if (step % 100 == 0) try testing.expectEqual(used, backlog.usedBytes());
    }
}
