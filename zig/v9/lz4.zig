//! lz4.zig: LZ4 blocks, as in account payloads of wire version 9: no size in front, no frame, no checksum.
//! May touch: the memory that it is handed. May not touch: anything else; nothing is allocated, no system call is made.
//! The only door to LZ4's own C code (release 1.9.4), which build.zig compiles from where it was fetched to.
//! Why the source has to be ours alone: the C code checks what it reads, and is free to read it once more afterwards.
//! What a peer can still write is copied to private memory first, then decompressed.

const std = @import("std");
const assert = std.debug.assert;

// lz4.h, LZ4_VERSION_NUMBER 10904.
extern fn LZ4_compress_fast_extState(
    state: *State,
    source: [*]const u8,
    target: [*]u8,
    source_length: c_int,
    target_length: c_int,
    acceleration: c_int,
) c_int;
extern fn LZ4_decompress_safe(source: [*]const u8, target: [*]u8, source_length: c_int, target_length: c_int) c_int;

/// LZ4_MAX_INPUT_SIZE: what is longer can't be compressed into one block.
pub const source_max = 0x7e00_0000;

/// What the compressor works in: 16 KB, which is why the caller keeps it. It need not be initialised, and nothing of it
/// lives on between two calls. The size is LZ4_STREAM_MINSIZE with the default LZ4_MEMORY_USAGE.
pub const State = extern struct { bytes: [(1 << 14) + 32]u8 align(8) };

/// The most that `length` bytes can take when they don't compress. At most `source_max`.
pub fn bound(length: usize) usize {
    assert(length <= source_max);
    return length + length / 255 + 16;
}

/// Returns how many bytes of `target` the block takes; null when it does not fit, or when `source` is too long.
pub fn compress(source: []const u8, target: []u8, state: *align(8) State) ?usize {
    if (source.len > source_max) return null;
    // The fastest that compresses at all is acceleration 1; more only gives up ratio.
    const room = clamp(target.len);
    const length = LZ4_compress_fast_extState(state, source.ptr, target.ptr, @intCast(source.len), room, 1);
    if (length <= 0) return null;
    assert(length <= target.len);
    return @intCast(length);
}

/// Returns how many bytes were written to `target`, which may be fewer than fit: the caller knows how many it wants.
/// Null when `source` is not one whole block, or gives more than fits. Any input is safe. The bytes of `target` behind
/// those that count are undefined.
/// What this takes the Rust original takes too, with the same bytes. The reverse does not hold for blocks that break
/// the format's rule that the last five bytes are literals: they are refused here, and no compressor writes them.
pub fn decompress(source: []const u8, target: []u8) ?usize {
    if (source.len == 0 or source.len > std.math.maxInt(c_int)) return null;
    const length = LZ4_decompress_safe(source.ptr, target.ptr, @intCast(source.len), clamp(target.len));
    if (length < 0) return null;
    assert(length <= target.len);
    if (hasOffsetZero(source)) return null;
    return @intCast(length);
}

fn clamp(length: usize) c_int {
    return @intCast(@min(length, std.math.maxInt(c_int)));
}

/// An offset of 0 is no distance. The C code takes it, and lets the match be whatever was in `target` before: somebody
/// else's bytes. The Rust original's decoder refuses it. This walks from token to token and touches nothing between;
/// that takes up to three quarters of the time of decompressing (640 KB on x64: at most 0.12 ms).
fn hasOffsetZero(source: []const u8) bool {
    var at: usize = 0;
    while (at < source.len) {
        const token = source[at];
        at += 1;
        var literals: usize = token >> 4;
        if (literals == 15) literals += lengthAt(source, &at);
        at += literals;
        if (source.len -| at < 2) break; // the last sequence has literals only
        if (source[at] == 0 and source[at + 1] == 0) return true;
        at += 2;
        if (token & 15 == 15) _ = lengthAt(source, &at);
    }
    return false;
}

/// The rest of a length that did not fit its half of the token: bytes of 255, and one that is less.
fn lengthAt(source: []const u8, at: *usize) usize {
    var length: usize = 0;
    while (at.* < source.len) {
        const byte = source[at.*];
        at.* += 1;
        length += byte;
        if (byte != 255) break;
    }
    return length;
}

// Tests

const testing = std.testing;
const builtin = @import("builtin");

extern fn LZ4_versionNumber() c_int;
extern fn LZ4_sizeofState() c_int;
extern fn LZ4_compressBound(length: c_int) c_int;

var test_state: State = undefined;

/// Memory that ends where its page does: whoever reads or writes behind it, dies. Before it stand bytes that `check`
/// wants to find again.
const Fenced = struct {
    pages: []align(std.heap.page_size_min) u8,
    bytes: []u8,

    fn init(length: usize) !Fenced {
        const page = std.heap.pageSize();
        const size = std.mem.alignForward(usize, length + 1, page);
        const pages = try std.heap.page_allocator.alignedAlloc(u8, .fromByteUnits(std.heap.page_size_min), size + page);
        @memset(pages, 0xa5);
        if (builtin.os.tag == .linux) {
            try testing.expectEqual(0, std.os.linux.mprotect(pages.ptr + size, page, .{}));
        }
        return .{ .pages = pages, .bytes = pages[size - length ..][0..length] };
    }

    fn of(content: []const u8) !Fenced {
        const fenced: Fenced = try .init(content.len);
        @memcpy(fenced.bytes, content);
        return fenced;
    }

    fn check(fenced: Fenced) !void {
        const before = @intFromPtr(fenced.bytes.ptr) - @intFromPtr(fenced.pages.ptr);
        try testing.expect(std.mem.allEqual(u8, fenced.pages[0..before], 0xa5));
    }

    fn deinit(fenced: Fenced) void {
        // Not `free`: in debug mode that writes to every byte, the fence too.
        std.heap.page_allocator.rawFree(fenced.pages, .fromByteUnits(std.heap.page_size_min), @returnAddress());
    }
};

/// Bytes of which about `noise` in 256 are random, the others repeat: from all the same to incompressible.
fn fill(bytes: []u8, random: std.Random, noise: u9) void {
    for (bytes, 0..) |*byte, index| {
        byte.* = if (random.int(u8) < noise) random.int(u8) else @truncate(index % 7);
    }
}

fn compressed(source: []const u8) ![]u8 {
    const target = try testing.allocator.alloc(u8, bound(source.len));
    errdefer testing.allocator.free(target);
    const length = compress(source, target, &test_state) orelse return error.DoesNotFit;
    return testing.allocator.realloc(target, length);
}

test "the C code is the release that we mean, and its sizes are ours" {
    try testing.expectEqual(10904, LZ4_versionNumber());
    try testing.expectEqual(@sizeOf(State), @as(usize, @intCast(LZ4_sizeofState())));
    for ([_]usize{ 0, 1, 254, 255, 256, 8192, 1 << 20, source_max }) |length| {
        try testing.expectEqual(bound(length), @as(usize, @intCast(LZ4_compressBound(@intCast(length)))));
    }
}

test "decompress reads what the Rust original's compressor writes" {
    const block = [_]u8{ 0x1f, 0x00, 0x01, 0x00, 0x26, 0x60, 0, 0, 0, 0, 0, 0 };
    var target: [64]u8 = @splat(1);
    try testing.expectEqual(64, decompress(&block, &target));
    try testing.expectEqualSlices(u8, &@as([64]u8, @splat(0)), &target);
    try testing.expectEqual(null, decompress(&block, target[0..63]));

    // 512 000 zeros: one literal, a match of offset 1 whose length fills the block, six literals.
    const zeros = 512_000;
    var long: [2019]u8 = @splat(255);
    long[0..4].* = .{ 0x1f, 0x00, 0x01, 0x00 };
    long[long.len - 8 ..][0..8].* = .{ 0xbd, 0x60, 0, 0, 0, 0, 0, 0 };
    const output = try testing.allocator.alloc(u8, zeros);
    defer testing.allocator.free(output);
    @memset(output, 1);
    try testing.expectEqual(zeros, decompress(&long, output));
    try testing.expect(std.mem.allEqual(u8, output, 0));
    try testing.expectEqual(null, decompress(&long, output[0 .. zeros - 1]));
}

test "compress makes little of zeros, and of the probe's 8192 bytes" {
    const zeros = try testing.allocator.alloc(u8, 512_000);
    defer testing.allocator.free(zeros);
    @memset(zeros, 0);
    for ([_]struct { usize, usize }{ .{ 64, 12 }, .{ 8192, 8130 }, .{ 512_000, 2019 } }) |row| {
        const length, const most = row;
        const block = try compressed(zeros[0..length]);
        defer testing.allocator.free(block);
        try testing.expect(block.len <= most);
        const target = try testing.allocator.alloc(u8, length);
        defer testing.allocator.free(target);
        @memset(target, 1);
        try testing.expectEqual(length, decompress(block, target));
        try testing.expect(std.mem.allEqual(u8, target, 0));
    }
}

test "nothing is one byte, and no bytes are no block" {
    var block: [16]u8 = undefined;
    try testing.expectEqual(1, compress(&.{}, &block, &test_state));
    try testing.expectEqual(0, block[0]);
    try testing.expectEqual(0, decompress(block[0..1], &.{}));
    try testing.expectEqual(0, decompress(block[0..1], block[8..]));
    try testing.expectEqual(null, decompress(&.{}, &block));
    try testing.expectEqual(null, decompress(&.{}, &.{}));
}

test "what was compressed comes back, whatever its size and entropy, and fits no smaller target" {
    var prng: std.Random.DefaultPrng = .init(4);
    const random = prng.random();
    for ([_]usize{ 1, 2, 4, 5, 12, 13, 14, 31, 64, 255, 4096, 8192, 65_535, 65_536, 65_547, 200_000 }) |length| {
        for ([_]u9{ 0, 1, 16, 128, 256 }) |noise| {
            const source: Fenced = try .init(length);
            defer source.deinit();
            fill(source.bytes, random, noise);
            const block = try compressed(source.bytes);
            defer testing.allocator.free(block);
            const input: Fenced = try .of(block);
            defer input.deinit();
            const target: Fenced = try .init(length);
            defer target.deinit();
            try testing.expectEqual(length, decompress(input.bytes, target.bytes));
            try testing.expectEqualSlices(u8, source.bytes, target.bytes);
            try testing.expectEqual(null, decompress(input.bytes, target.bytes[1..]));
            try target.check();

            // Into exactly what it takes, and into one byte less.
            const exact: Fenced = try .init(block.len);
            defer exact.deinit();
            try testing.expectEqual(block.len, compress(source.bytes, exact.bytes, &test_state));
            try testing.expectEqual(null, compress(source.bytes, exact.bytes[1..], &test_state));
            try testing.expectEqual(null, compress(source.bytes, &.{}, &test_state));
            try exact.check();
        }
    }
}

test "a block cut anywhere is refused or gives less, and touches nothing else" {
    var prng: std.Random.DefaultPrng = .init(5);
    var source: [3000]u8 = undefined;
    for ([_]u9{ 0, 8, 64, 256 }) |noise| {
        fill(&source, prng.random(), noise);
        const block = try compressed(&source);
        defer testing.allocator.free(block);
        const target: Fenced = try .init(source.len);
        defer target.deinit();
        for (0..block.len) |length| {
            const input: Fenced = try .of(block[0..length]);
            defer input.deinit();
            if (decompress(input.bytes, target.bytes)) |given| try testing.expect(given < source.len);
        }
        try target.check();
    }
}

test "bits that flip, and noise, do no harm" {
    var prng: std.Random.DefaultPrng = .init(6);
    const random = prng.random();
    var source: [600]u8 = undefined;
    for ([_]u9{ 0, 8, 64 }) |noise| {
        fill(&source, random, noise);
        const block = try compressed(&source);
        defer testing.allocator.free(block);
        const input: Fenced = try .of(block);
        defer input.deinit();
        const target: Fenced = try .init(source.len);
        defer target.deinit();
        for (0..block.len * 8) |bit| {
            const mask = @as(u8, 1) << @intCast(bit % 8);
            input.bytes[bit / 8] ^= mask;
            if (decompress(input.bytes, target.bytes)) |given| try testing.expect(given <= source.len);
            input.bytes[bit / 8] ^= mask;
        }
        for (0..20_000) |_| {
            const length = random.intRangeAtMost(usize, 1, input.bytes.len);
            const noisy = input.bytes[input.bytes.len - length ..];
            random.bytes(noisy);
            const room = target.bytes[random.uintAtMost(usize, target.bytes.len)..];
            if (decompress(noisy, room)) |given| try testing.expect(given <= room.len);
        }
        try target.check();
    }
}

test "decompress refuses what the Rust original's decoder refuses, and what breaks the rule for the end" {
    var target: [64]u8 = @splat(1);
    for ([_][]const u8{
        &.{ 0x1f, 0x00, 0x01, 0x00, 0x26 }, // ends with a match: no last token
        &.{ 0x1f, 0x00, 0x01, 0x00, 0x26, 0x60, 0, 0, 0, 0, 0 }, // a literal is missing
        &.{ 0x1f, 0x00, 0x01, 0x00, 0x26, 0x60, 0, 0, 0, 0, 0, 0, 0 }, // a byte too many
        &.{ 0x1f, 0x00, 0x02, 0x00, 0x26, 0x60, 0, 0, 0, 0, 0, 0 }, // a match from before the start
        &.{ 0x1f, 0x00, 0x00, 0x00, 0x26, 0x60, 0, 0, 0, 0, 0, 0 }, // a match of itself
        &.{ 0x40, 0, 0, 0, 0x1f, 0x00, 0x01, 0x00, 0x26, 0x60, 0, 0, 0, 0, 0, 0 }, // a size in front
        // The last five bytes come from a match; this one the original takes.
        &.{ 0x1f, 0x00, 0x01, 0x00, 0x26, 0x02, 0x01, 0x00, 0x00 },
        &.{ 0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82, 0, 0, 0, 0 }, // an LZ4 frame
    }) |block| try testing.expectEqual(null, decompress(block, &target));
}

test "hasOffsetZero finds the offset wherever it stands, and takes no literal for one" {
    const zeros: [40]u8 = @splat(0);
    // 15 + 25 literals of 0, a match of 4 + 15 + 255 + 1, five literals.
    const good = [_]u8{ 0xff, 25 } ++ zeros ++ [_]u8{ 1, 0, 255, 1, 0x50 } ++ zeros[0..5].*;
    try testing.expect(!hasOffsetZero(&good));
    var output: [320]u8 = undefined;
    try testing.expectEqual(320, decompress(&good, &output));

    const bad = [_]u8{ 0xff, 25 } ++ zeros ++ [_]u8{ 0, 0, 255, 1, 0x50 } ++ zeros[0..5].*;
    try testing.expect(hasOffsetZero(&bad));
    try testing.expectEqual(null, decompress(&bad, &output));
    // The second sequence, after a good one.
    const second = good[0..46].* ++ [_]u8{ 0x10, 7, 0, 0, 0x50 } ++ zeros[0..5].*;
    try testing.expect(hasOffsetZero(&second));
    try testing.expectEqual(null, decompress(&second, &output));
    for (0..second.len) |length| _ = hasOffsetZero(second[0..length]);
}
