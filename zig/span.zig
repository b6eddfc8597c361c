//! span.zig: private memory that grows and shrinks in place: addresses for its largest size, reserved once, of which only
//! the first part is committed.
//! May touch: private mappings, through a page source. May not touch: what stands in them.
//! Why not an allocator: an item's address never changes, growth copies nothing, and a refusal of the kernel is an error
//! that leaves everything as it was.

const std = @import("std");
const platform = @import("platform/mod.zig");
const assert = std.debug.assert;

/// Where memory comes from. Tests put one here that fails.
pub const Pages = struct {
    context: ?*anyopaque = null,
    /// Addresses, or 0.
    reserve: *const fn (context: ?*anyopaque, size: usize) usize = systemReserve,
    /// False: there is no memory.
    commit: *const fn (context: ?*anyopaque, address: usize, size: usize) bool = systemCommit,
    /// False: it could not be given back, and stays usable with what is in it.
    decommit: *const fn (context: ?*anyopaque, address: usize, size: usize) bool = systemDecommit,
    release: *const fn (context: ?*anyopaque, address: usize, size: usize) void = systemRelease,

    fn systemReserve(_: ?*anyopaque, size: usize) usize {
        const mapped = platform.reserve(size);
        return if (mapped.code < 0) 0 else mapped.address;
    }

    fn systemCommit(_: ?*anyopaque, address: usize, size: usize) bool {
        return platform.commit(address, size) >= 0;
    }

    fn systemDecommit(_: ?*anyopaque, address: usize, size: usize) bool {
        return platform.decommit(address, size) >= 0;
    }

    fn systemRelease(_: ?*anyopaque, address: usize, size: usize) void {
        platform.unmap(address, size);
    }
};

/// A multiple of every page size.
const step_min = 64 * 1024;
/// What is taken and given back at once, so that no call waits long for the kernel: some 64 pages.
const step_max = 256 * 1024;

fn roundUp(size: usize) usize {
    if (size >= step_max) return std.mem.alignForward(usize, size, step_max);
    return @max(step_min, std.math.ceilPowerOfTwoAssert(usize, size));
}

pub fn Span(comptime T: type) type {
    return struct {
        items: [*]T,
        pages: Pages,
        reserved_size: usize,
        committed_size: usize = 0,

        const Self = @This();

        pub fn init(pages: Pages, count_max: usize) error{OutOfMemory}!Self {
            comptime assert(@alignOf(T) <= 4096);
            const size = roundUp(count_max * @sizeOf(T));
            const address = pages.reserve(pages.context, size);
            if (address == 0) return error.OutOfMemory;
            return .{ .items = @ptrFromInt(address), .pages = pages, .reserved_size = size };
        }

        pub fn deinit(span: *Self) void {
            span.pages.release(span.pages.context, @intFromPtr(span.items), span.reserved_size);
            span.* = undefined;
        }

        /// Makes the first `count` items usable. Those never used before are zero.
        pub inline fn ensure(span: *Self, count: usize) error{OutOfMemory}!void {
            if (count * @sizeOf(T) > span.committed_size) try span.grow(count);
        }

        fn grow(span: *Self, count: usize) error{OutOfMemory}!void {
            @branchHint(.cold);
            const size = roundUp(count * @sizeOf(T));
            assert(size <= span.reserved_size);
            const end = @intFromPtr(span.items) + span.committed_size;
            if (!span.pages.commit(span.pages.context, end, size - span.committed_size)) return error.OutOfMemory;
            span.committed_size = size;
        }

        /// Gives a step of what the first `count` items do not need back, if that is much: going up and down costs no
        /// system calls. True: there is no more to give back.
        pub inline fn shrink(span: *Self, count: usize) bool {
            const needed = count * @sizeOf(T);
            const spare = if (count == 0) step_min else 4 * step_max + needed / 8;
            return needed + spare >= span.committed_size or span.trim();
        }

        fn trim(span: *Self) bool {
            @branchHint(.cold);
            const kept = if (span.committed_size > step_max) span.committed_size - step_max else step_min;
            const end = @intFromPtr(span.items) + kept;
            if (!span.pages.decommit(span.pages.context, end, span.committed_size - kept)) return true;
            span.committed_size = kept;
            return kept == step_min;
        }
    };
}

const testing = std.testing;

test "Span: grows in place, gives back step by step, and what is new is zero" {
    var span: Span(u64) = try .init(.{}, 4 << 20);
    defer span.deinit();
    try testing.expectEqual(0, span.committed_size);
    const first = span.items;
    var count: usize = 1;
    while (count <= 4 << 20) : (count *= 4) {
        try span.ensure(count);
        try testing.expectEqual(0, span.items[count - 1]);
        span.items[count - 1] = count;
    }
    try testing.expectEqual(first, span.items);
    const before = span.committed_size;
    try testing.expect(!span.shrink(16));
    try testing.expectEqual(before - step_max, span.committed_size);
    while (!span.shrink(16)) {}
    try testing.expect(span.committed_size <= 5 * step_max);
    try testing.expectEqual(16, span.items[15]);
    try span.ensure(4 << 20);
    try testing.expectEqual(0, span.items[(4 << 20) - 1]);
    while (!span.shrink(0)) {}
    try testing.expectEqual(step_min, span.committed_size);
    try testing.expect(span.shrink(0));
}
