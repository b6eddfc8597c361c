//! key_table.zig: 32-byte keys, each with a 32-bit value, found in about one cache line if they are not there.
//! May touch: its own memory. May not touch: what the values mean.
//! How: keys and values stand densely, in two arrays, in no order. Where a key stands, a hash table says that grows one
//! small segment at a time (extendible hashing): no operation ever waits for all keys to be moved. A segment has 32 lines
//! of 64 bytes: 31 marks of 16 bits, and 16 bits that tell whether a key had to go to the next line. So a key that is
//! not there costs one line, as a rule: a mark is right by chance 1 time in 65,535.
//! Keys are chosen by others, so the hash is keyed: SipHash-1-3. Why that one: ADR 0008.

const std = @import("std");
const Pages = @import("span.zig").Pages;
const Span = @import("span.zig").Span;
const assert = std.debug.assert;

pub const Key = [32]u8;

const lane_count = 32;
const overflow_lane = 31;
const line_count = 32;
/// A segment with this many keys is split before another one is added: 0.8 of its places.
const split_at = 793;
/// Never reached but by a hash that spreads badly: a full segment is refused, some places always stay free.
const segment_keys_max = 960;
const depth_max = 18;
/// Keys of a segment that left a place after which others were put: when so many did, it is set up afresh.
const stale_max = 64;
pub const batch_max = 64;
/// So that 2^depth_max segments are far more than enough.
pub const keys_max_max = 1 << 24;

const Line = [lane_count]u16;
const Lanes = @Vector(lane_count, u16);
const Places = [lane_count]u32; // the last one is not used
const Segment = struct { key_count: u16, stale_count: u16, depth: u8 };
const Place = struct { line: usize, lane: u5, is_displaced: bool };

pub const KeyTable = struct {
    seed: [2]u64,
    /// Keys that are there: the first of `keys` and `values`.
    len: u32 = 0,
    keys_max: u32,
    /// 64 less the bits of a hash that choose an entry of the directory.
    shift: u6 = 63,
    segment_count: u32 = 0,
    /// For tests: less than `depth_max`.
    depth_limit: u8 = depth_max,
    directory: Span(u32),
    lines: Span(Line),
    places: Span(Places),
    segments: Span(Segment),
    keys: Span(Key),
    values: Span(u32),

    pub fn init(pages: Pages, seed: [2]u64, keys_max: u32) error{OutOfMemory}!KeyTable {
        assert(keys_max <= keys_max_max);
        // Twice what the smallest mean load of a segment asks for.
        const segments_max: usize = 16 + @as(usize, keys_max) / (split_at / 4);
        var directory: Span(u32) = try .init(pages, 1 << depth_max);
        errdefer directory.deinit();
        var lines: Span(Line) = try .init(pages, segments_max * line_count);
        errdefer lines.deinit();
        var places: Span(Places) = try .init(pages, segments_max * line_count);
        errdefer places.deinit();
        var segments: Span(Segment) = try .init(pages, segments_max);
        errdefer segments.deinit();
        var keys: Span(Key) = try .init(pages, keys_max);
        errdefer keys.deinit();
        const values: Span(u32) = try .init(pages, keys_max);
        return .{
            .seed = seed,
            .keys_max = keys_max,
            .directory = directory,
            .lines = lines,
            .places = places,
            .segments = segments,
            .keys = keys,
            .values = values,
        };
    }

    pub fn deinit(table: *KeyTable) void {
        inline for (spans) |name| @field(table, name).deinit();
        table.* = undefined;
    }

    const spans = .{ "directory", "lines", "places", "segments", "keys", "values" };

    /// Bytes that are ours: no more than these can be resident.
    pub fn committedSize(table: *const KeyTable) usize {
        var size: usize = 0;
        inline for (spans) |name| size += @field(table, name).committed_size;
        return size;
    }

    pub inline fn hashOf(table: *const KeyTable, key: *const Key) u64 {
        return sipHash13(table.seed, key);
    }

    /// Where the key stands in `keys` and `values`, until the next change of the table.
    pub fn find(table: *const KeyTable, key: *const Key) ?u32 {
        if (table.len == 0) return null;
        return table.findHashed(table.hashOf(key), key);
    }

    pub fn findHashed(table: *const KeyTable, hash: u64, key: *const Key) ?u32 {
        @setRuntimeSafety(false); // every number here is masked or ours
        if (table.len == 0) return null;
        const mark = markOf(hash);
        const first = table.firstLine(hash);
        var line = first + hash % line_count;
        for (0..line_count) |_| {
            const lanes: Lanes = table.lines.items[line];
            var hits = lanesWith(lanes, mark);
            while (hits != 0) : (hits &= hits - 1) {
                const index = table.places.items[line][@ctz(hits)];
                if (equal(&table.keys.items[index], key)) return index;
            }
            if (!overflowed(lanes[overflow_lane], mark)) return null;
            line = first + (line + 1) % line_count;
        }
        return null;
    }

    /// For each key its value, 0 where it is not there. Reads of several keys overlap: first all lines are asked for, then
    /// the places of those whose mark is there, then their keys.
    pub fn findBatch(table: *const KeyTable, keys: []const *const Key, out: []u32) void {
        assert(keys.len <= batch_max);
        assert(out.len >= keys.len);
        @setRuntimeSafety(false); // lengths are checked; as above
        if (table.len == 0) {
            @memset(out[0..keys.len], 0);
            return;
        }
        var hashes: [batch_max]u64 = undefined;
        var at: [batch_max]*const Line = undefined;
        for (keys, 0..) |key, i| {
            const hash = table.hashOf(key);
            hashes[i] = hash;
            at[i] = &table.lines.items[table.firstLine(hash) + hash % line_count];
            @prefetch(at[i], .{});
        }
        var likely: [batch_max]u8 = undefined;
        var found: [batch_max]*const u32 = undefined;
        var likely_count: usize = 0;
        for (0..keys.len) |i| {
            const mark = markOf(hashes[i]);
            const lanes: Lanes = at[i].*;
            const hits = lanesWith(lanes, mark);
            out[i] = 0;
            // Without a branch: whether a key is there is as random as the keys are.
            const line = (@intFromPtr(at[i]) - @intFromPtr(table.lines.items)) / @sizeOf(Line);
            likely[likely_count] = @intCast(i);
            found[likely_count] = &table.places.items[line][@ctz(hits | 1 << overflow_lane)];
            likely_count += @intFromBool(hits != 0 or overflowed(lanes[overflow_lane], mark));
        }
        if (likely_count == 0) return;
        for (found[0..likely_count]) |address| @prefetch(address, .{});
        for (found[0..likely_count]) |address| {
            // A place that is not in use holds what it held before, or zero: an index, but perhaps not one of ours.
            @prefetch(&table.keys.items[address.*], .{});
            @prefetch(&table.values.items[address.*], .{});
        }
        for (likely[0..likely_count]) |i| {
            if (table.findHashed(hashes[i], keys[i])) |index| out[i] = table.values.items[index];
        }
    }

    /// Asks for what `find` and `insert` will read first.
    pub inline fn prefetch(table: *const KeyTable, hash: u64) void {
        if (table.len == 0) return;
        @prefetch(&table.lines.items[table.firstLine(hash) + hash % line_count], .{});
    }

    /// Asks at once for all that finding a key reads in turn, but for the key itself: two lines more, one wait less.
    pub inline fn prefetchPlaces(table: *const KeyTable, hash: u64) void {
        if (table.len == 0) return;
        const line = table.firstLine(hash) + hash % line_count;
        @prefetch(&table.lines.items[line], .{});
        @prefetch(&table.places.items[line][0], .{});
        @prefetch(&table.places.items[line][lane_count / 2], .{});
    }

    /// Where a key with this hash probably stands, by the lines that `prefetchPlaces` has asked for. Null: it is not there, or
    /// not where its hash belongs.
    pub fn guess(table: *const KeyTable, hash: u64) ?u32 {
        if (table.len == 0) return null;
        const line = table.firstLine(hash) + hash % line_count;
        const hits = lanesWith(table.lines.items[line], markOf(hash));
        return if (hits == 0) null else table.places.items[line][@ctz(hits)];
    }

    /// Makes room for one key, so that `insert` can't fail. An error changes nothing that can be seen.
    pub fn prepare(table: *KeyTable, hash: u64) error{ OutOfMemory, KeysFull }!void {
        if (table.len >= table.keys_max) return error.KeysFull;
        try table.keys.ensure(table.len + 1);
        try table.values.ensure(table.len + 1);
        return table.prepareSegment(hash);
    }

    fn prepareSegment(table: *KeyTable, hash: u64) error{ OutOfMemory, KeysFull }!void {
        if (table.segment_count == 0) {
            try table.directory.ensure(2);
            try table.ensureSegments(1);
            table.directory.items[0..2].* = .{ 0, 0 };
            table.shift = 63;
            table.segment_count = 1;
            table.segments.items[0] = .{ .key_count = 0, .stale_count = 0, .depth = 0 };
            @memset(table.linesOf(0), @splat(0));
        }
        while (true) {
            const segment = table.segmentOf(hash);
            const at = &table.segments.items[segment];
            if (at.key_count < split_at) return;
            if (at.depth == table.depth_limit or table.segment_count == table.segmentsMax()) {
                return if (at.key_count < segment_keys_max) {} else error.KeysFull;
            }
            try table.split(hash);
        }
    }

    /// The key must not be there, and `prepare` must have made room for it.
    pub fn insert(table: *KeyTable, hash: u64, key: *const Key, value: u32) void {
        assert(table.len < table.keys_max);
        assert(table.segments.items[table.segmentOf(hash)].key_count < segment_keys_max);
        const index = table.len;
        table.keys.items[index] = key.*;
        table.values.items[index] = value;
        table.len += 1;
        table.place(hash, index);
    }

    /// A key that is not there takes the index of one that is. An error changes nothing that can be seen.
    /// @param before The hash of the one that goes.
    pub fn replaceAt(table: *KeyTable, index: u32, before: u64, hash: u64, key: *const Key) error{ OutOfMemory, KeysFull }!void {
        assert(index < table.len);
        try table.prepareSegment(hash);
        const is_displaced = table.unplace(before, index);
        table.keys.items[index] = key.*;
        table.place(hash, index);
        if (is_displaced) table.noteStale(before);
    }

    /// The last key takes the place of the removed one.
    pub fn removeAt(table: *KeyTable, index: u32) void {
        assert(index < table.len);
        const hash = table.hashOf(&table.keys.items[index]);
        const is_displaced = table.unplace(hash, index);

        const last = table.len - 1;
        if (index != last) {
            const moved = table.placeOf(table.hashOf(&table.keys.items[last]), last);
            table.places.items[moved.line][moved.lane] = index;
            table.keys.items[index] = table.keys.items[last];
            table.values.items[index] = table.values.items[last];
        }
        table.len = last;
        _ = table.tidy();
        if (last > 0 and is_displaced) table.noteStale(hash);
    }

    /// Whether it had to go to a line that is not its hash's.
    fn unplace(table: *KeyTable, hash: u64, index: u32) bool {
        const found = table.placeOf(hash, index);
        table.lines.items[found.line][found.lane] = 0;
        table.segments.items[table.segmentOf(hash)].key_count -= 1;
        return found.is_displaced;
    }

    fn noteStale(table: *KeyTable, hash: u64) void {
        const segment = &table.segments.items[table.segmentOf(hash)];
        segment.stale_count += 1;
        if (segment.stale_count == stale_max) table.refresh(table.segmentOf(hash));
    }

    /// Gives some of the memory back that is not needed. True: there is no more.
    pub fn tidy(table: *KeyTable) bool {
        var is_done = table.keys.shrink(table.len);
        is_done = table.values.shrink(table.len) and is_done;
        if (table.len > 0) return is_done;
        // The table itself is never merged: it goes as a whole, with its last key.
        table.segment_count = 0;
        inline for (.{ "directory", "lines", "places", "segments" }) |name| {
            is_done = @field(table, name).shrink(0) and is_done;
        }
        return is_done;
    }

    inline fn segmentOf(table: *const KeyTable, hash: u64) u32 {
        return table.directory.items[hash >> table.shift];
    }

    inline fn firstLine(table: *const KeyTable, hash: u64) usize {
        return @as(usize, table.segmentOf(hash)) * line_count;
    }

    fn linesOf(table: *KeyTable, segment: u32) []Line {
        return table.lines.items[@as(usize, segment) * line_count ..][0..line_count];
    }

    fn segmentsMax(table: *const KeyTable) u32 {
        return 16 + table.keys_max / (split_at / 4);
    }

    fn ensureSegments(table: *KeyTable, count: u32) error{OutOfMemory}!void {
        try table.lines.ensure(@as(usize, count) * line_count);
        try table.places.ensure(@as(usize, count) * line_count);
        try table.segments.ensure(count);
    }

    /// Puts the index of a key where its hash belongs, or into the next line that has room.
    fn place(table: *KeyTable, hash: u64, index: u32) void {
        const mark = markOf(hash);
        const segment = table.segmentOf(hash);
        const lines = table.linesOf(segment);
        var at: usize = hash % line_count;
        table.segments.items[segment].key_count += 1;
        for (0..line_count) |_| {
            const free = lanesWith(lines[at], 0);
            if (free != 0) {
                const lane = @ctz(free);
                lines[at][lane] = mark;
                table.places.items[@as(usize, segment) * line_count + at][lane] = index;
                return;
            }
            lines[at][overflow_lane] |= overflowBit(mark);
            at = (at + 1) % line_count;
        }
        unreachable; // there are more places than `segment_keys_max`
    }

    fn placeOf(table: *const KeyTable, hash: u64, index: u32) Place {
        const mark = markOf(hash);
        const first = table.firstLine(hash);
        var line = first + hash % line_count;
        for (0..line_count) |step| {
            var hits = lanesWith(table.lines.items[line], mark);
            while (hits != 0) : (hits &= hits - 1) {
                const lane: u5 = @intCast(@ctz(hits));
                if (table.places.items[line][lane] == index) return .{ .line = line, .lane = lane, .is_displaced = step > 0 };
            }
            line = first + (line + 1) % line_count;
        }
        unreachable; // every key has a place
    }

    /// Divides the segment of `hash` into two by one more bit. An error changes nothing.
    fn split(table: *KeyTable, hash: u64) error{OutOfMemory}!void {
        const segment = table.segmentOf(hash);
        const added = table.segment_count;
        try table.ensureSegments(added + 1);
        const depth = table.segments.items[segment].depth;
        if (depth == 64 - @as(u8, table.shift)) {
            const count = @as(usize, 1) << @intCast(depth);
            try table.directory.ensure(2 * count);
            var i = count;
            while (i > 0) {
                i -= 1;
                const entry = table.directory.items[i];
                table.directory.items[2 * i ..][0..2].* = .{ entry, entry };
            }
            table.shift -= 1;
        }
        table.segment_count += 1;
        table.segments.items[segment].depth = depth + 1;
        table.segments.items[added] = .{ .key_count = 0, .stale_count = 0, .depth = depth + 1 };
        @memset(table.linesOf(added), @splat(0));
        // The entries whose first `depth` bits are those of the hash: the upper half of them is the new segment's.
        const below = 64 - @as(u8, table.shift) - depth;
        const range = @as(usize, 1) << @intCast(below);
        const start = (hash >> table.shift) & ~(range - 1);
        for (table.directory.items[start + range / 2 .. start + range]) |*entry| {
            assert(entry.* == segment);
            entry.* = added;
        }
        table.refresh(segment);
    }

    /// Places all keys of a segment again, wherever the directory now says.
    fn refresh(table: *KeyTable, segment: u32) void {
        var indexes: [lane_count * line_count]u32 = undefined;
        var count: usize = 0;
        const first = @as(usize, segment) * line_count;
        for (first..first + line_count) |line| {
            var used = ~lanesWith(table.lines.items[line], 0) & ~(@as(u32, 1) << overflow_lane);
            while (used != 0) : (used &= used - 1) {
                const index = table.places.items[line][@ctz(used)];
                @prefetch(&table.keys.items[index], .{});
                indexes[count] = index;
                count += 1;
            }
        }
        @memset(table.linesOf(segment), @splat(0));
        table.segments.items[segment].key_count = 0;
        table.segments.items[segment].stale_count = 0;
        for (indexes[0..count]) |index| table.place(table.hashOf(&table.keys.items[index]), index);
    }

    /// For tests: whether every key has exactly one place, and the directory is what it should be.
    pub fn check(table: *KeyTable) !void {
        var places: usize = 0;
        for (0..table.segment_count) |segment| {
            var count: usize = 0;
            for (table.linesOf(@intCast(segment))) |line| count += @popCount(~lanesWith(line, 0) & ~(@as(u32, 1) << overflow_lane));
            if (count != table.segments.items[segment].key_count) return error.WrongCount;
            places += count;
        }
        if (places != table.len) return error.WrongCount;
        for (0..table.len) |index| {
            const key = &table.keys.items[index];
            if (table.find(key) != @as(u32, @intCast(index))) return error.KeyLost;
            _ = table.placeOf(table.hashOf(key), @intCast(index));
        }
    }
};

inline fn markOf(hash: u64) u16 {
    const bits: u16 = @truncate(hash >> 5); // those of the line are below, those of the segment far above
    return @max(bits, 1); // 0 is a free place
}

inline fn lanesWith(lanes: Lanes, mark: u16) u32 {
    const all: u32 = @bitCast(lanes == @as(Lanes, @splat(mark)));
    return all & ~(@as(u32, 1) << overflow_lane);
}

inline fn overflowBit(mark: u16) u16 {
    return @as(u16, 1) << @truncate(mark);
}

inline fn overflowed(bits: u16, mark: u16) bool {
    return bits & overflowBit(mark) != 0;
}

inline fn equal(a: *const Key, b: *const Key) bool {
    var difference: u64 = 0;
    // Word by word: what the compiler makes of two arrays of bytes is ten times longer.
    inline for (0..4) |i| {
        difference |= std.mem.readInt(u64, a[8 * i ..][0..8], .native) ^ std.mem.readInt(u64, b[8 * i ..][0..8], .native);
    }
    return difference == 0;
}

/// SipHash with one round a word and three to finish: what Rust's maps use. Source: Aumasson and Bernstein, "SipHash: a
/// fast short-input PRF"; unrolled for 32 bytes.
pub inline fn sipHash13(seed: [2]u64, key: *const Key) u64 {
    var v0 = seed[0] ^ 0x736f6d6570736575;
    var v1 = seed[1] ^ 0x646f72616e646f6d;
    var v2 = seed[0] ^ 0x6c7967656e657261;
    var v3 = seed[1] ^ 0x7465646279746573;
    inline for (0..8) |i| {
        const word: u64 = if (i < 4) std.mem.readInt(u64, key[8 * i ..][0..8], .little) else if (i == 4) 32 << 56 else 0;
        if (i == 5) v2 ^= 0xff;
        if (i < 5) v3 ^= word;
        v0 +%= v1;
        v1 = std.math.rotl(u64, v1, 13) ^ v0;
        v0 = std.math.rotl(u64, v0, 32);
        v2 +%= v3;
        v3 = std.math.rotl(u64, v3, 16) ^ v2;
        v0 +%= v3;
        v3 = std.math.rotl(u64, v3, 21) ^ v0;
        v2 +%= v1;
        v1 = std.math.rotl(u64, v1, 17) ^ v2;
        v2 = std.math.rotl(u64, v2, 32);
        if (i < 5) v0 ^= word;
    }
    return v0 ^ v1 ^ v2 ^ v3;
}

const testing = std.testing;

test "sipHash13 is the standard library's" {
    var prng: std.Random.DefaultPrng = .init(1);
    for (0..1000) |_| {
        var seed: [2]u64 = undefined;
        var key: Key = undefined;
        prng.random().bytes(std.mem.asBytes(&seed));
        prng.random().bytes(&key);
        const SipHash = std.crypto.auth.siphash.SipHash64(1, 3);
        try testing.expectEqual(SipHash.toInt(&key, std.mem.asBytes(&seed)), sipHash13(seed, &key));
    }
}

fn testKey(number: u64) Key {
    var key: Key = @splat(0);
    std.mem.writeInt(u64, key[8..16], number, .little);
    return key;
}

test "KeyTable: grows and shrinks over many splits, finds exactly what is there" {
    var table: KeyTable = try .init(.{}, .{ 7, 8 }, 100_000);
    defer table.deinit();
    for ([_]u32{ 792, 793, 794, 5_000, 100_000 }) |count| {
        for (0..count) |i| {
            const key = testKey(i);
            const hash = table.hashOf(&key);
            try testing.expectEqual(null, table.find(&key));
            try table.prepare(hash);
            table.insert(hash, &key, @intCast(i + 1));
        }
        try table.check();
        for (0..count) |i| try testing.expectEqual(@as(u32, @intCast(i + 1)), table.values.items[table.find(&testKey(i)).?]);
        if (count == 100_000) try testing.expectError(error.KeysFull, table.prepare(0));
        for (0..count) |i| {
            const key = testKey((i * 7919) % count);
            const index = table.find(&key) orelse continue;
            table.removeAt(index);
            try testing.expectEqual(null, table.find(&key));
            if (i == count / 2) try table.check();
        }
        while (table.len > 0) table.removeAt(table.len / 2);
        try testing.expectEqual(0, table.segment_count);
        while (!table.tidy()) {}
        try testing.expect(table.committedSize() <= 6 * 65536);
    }
}

test "KeyTable: churn at one size does not wear the lines out" {
    var table: KeyTable = try .init(.{}, .{ 7, 8 }, 2_000);
    defer table.deinit();
    for (0..200_000) |i| {
        if (table.len == 780) table.removeAt(@intCast(i * 7919 % 780));
        const key = testKey(i);
        try table.prepare(table.hashOf(&key));
        table.insert(table.hashOf(&key), &key, 1);
    }
    try table.check();
    var overflows: u32 = 0;
    for (table.linesOf(0)) |line| overflows += @popCount(line[overflow_lane]);
    try testing.expect(overflows < 8 * line_count);
}

test "KeyTable: a hash that does not spread is refused, not waited for" {
    var table: KeyTable = try .init(.{}, .{ 7, 8 }, 100_000);
    defer table.deinit();
    table.depth_limit = 1; // as if all hashes began with the same bits, but one
    var count: u32 = 0;
    const refused = while (true) : (count += 1) {
        const key = testKey(count);
        table.prepare(table.hashOf(&key)) catch |err| break err;
        table.insert(table.hashOf(&key), &key, 1);
    };
    try testing.expectEqual(error.KeysFull, refused);
    try testing.expectEqual(2, table.segment_count);
    try testing.expect(count >= segment_keys_max and count <= 2 * segment_keys_max);
    try table.check();
}
