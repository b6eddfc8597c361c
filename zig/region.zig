//! region.zig: the two regions of a connection, created and sealed by the sender, checked and joined by the consumer.
//! May touch: mappings, through platform/. The words that identify a region (magic, version, sizes).
//! May not touch: cursors, epochs, frames: those are ring.zig's.
//! Why a peer can't pull the ground away: sizes are sealed before a descriptor is passed on, and checked after it came.

const std = @import("std");
const layout = @import("layout.zig");
const platform = @import("platform/mod.zig");
const Code = platform.Code;
const Status = layout.Status;
const assert = std.debug.assert;

pub const header_size = layout.part_size;
const page_size = layout.part_size;

fn codeOf(status: Status) Code {
    return @backingInt(status);
}

pub const Options = struct {
    capacity_bytes: u32,
    reserved_bytes: u32,
    sender_id: [16]u8,
    connection_id: u64,
};

/// Both regions of one connection, mapped. `ring` is writable at the sender only, `page` at the consumer only.
pub const Regions = struct {
    ring_address: usize,
    ring_size: usize,
    page_address: usize,
    capacity_bytes: u32,
    reserved_bytes: u32,
    /// Of the pool that is mapped right behind the ring's data, at the consumer only.
    pool_bytes: u32 = 0,

    pub fn header(regions: Regions) *layout.RingHeader {
        return @ptrFromInt(regions.ring_address);
    }

    pub fn data(regions: Regions) [*]align(layout.frame_align) u8 {
        return @ptrFromInt(regions.dataAddress());
    }

    pub fn dataAddress(regions: Regions) usize {
        return regions.ring_address + header_size;
    }

    pub fn page(regions: Regions) *layout.ConsumerPage {
        return @ptrFromInt(regions.page_address);
    }

    /// Puts private zeros in the place of both regions: the shared memory is let go, the addresses stay taken. The page
    /// stays writable, for a call that was parked when this happened.
    pub fn retire(regions: Regions) Code {
        const for_ring = platform.overlay(regions.ring_address, regions.ring_size, false);
        const for_page = platform.overlay(regions.page_address, page_size, true);
        return @min(for_ring.code, for_page.code);
    }

    pub fn unmap(regions: Regions) void {
        platform.unmap(regions.ring_address, regions.ring_size);
        platform.unmap(regions.page_address, page_size);
    }
};

pub fn capacityIsValid(capacity_bytes: u32) bool {
    return capacity_bytes >= layout.capacity_bytes_min and
        capacity_bytes <= layout.capacity_bytes_max and
        std.math.isPowerOfTwo(capacity_bytes);
}

pub fn reservedIsValid(reserved_bytes: u32, capacity_bytes: u32) bool {
    return reserved_bytes % layout.frame_align == 0 and
        reserved_bytes >= layout.reserved_bytes_min and
        reserved_bytes <= capacity_bytes / 2;
}

fn ringSize(capacity_bytes: u32) usize {
    return header_size + 2 * @as(usize, capacity_bytes);
}

/// Creates both regions. On success `passed` holds the descriptors of ring and page, for the consumer; the caller owns them.
pub fn create(options: Options, passed: *[2]i32, out: *Regions) Code {
    if (!capacityIsValid(options.capacity_bytes)) return codeOf(.bad_argument);
    if (!reservedIsValid(options.reserved_bytes, options.capacity_bytes)) return codeOf(.bad_argument);

    const ring = platform.memoryCreate(@as(u64, options.capacity_bytes) + header_size, .read_only);
    if (ring.code < 0) return ring.code;
    defer if (ring.fd != ring.passed_fd) {
        _ = platform.close(ring.fd);
    };
    const ring_mapped = platform.mapRing(ring.fd, header_size, options.capacity_bytes, true, 0);
    if (ring_mapped.code < 0) return abandon(ring_mapped.code, &.{ring.passed_fd}, &.{});
    const ring_map: Map = .{ .address = ring_mapped.address, .size = ringSize(options.capacity_bytes) };
    const header: *layout.RingHeader = @ptrFromInt(ring_map.address);
    header.layout_version = layout.layout_version;
    header.header_size = header_size;
    header.capacity_bytes = options.capacity_bytes;
    header.reserved_bytes = options.reserved_bytes;
    header.sender_id = options.sender_id;
    header.connection_id = options.connection_id;
    // Last of all words. No ordering needed: the consumer sees the region through a message that the kernel carries.
    header.magic = layout.ring_magic;
    // Our own writable mapping exists; from here on nobody gets another one.
    const ring_sealed = platform.memorySeal(ring.fd, .size_and_future_write);
    if (ring_sealed < 0) return abandon(ring_sealed, &.{ring.passed_fd}, &.{ring_map});

    const page = platform.memoryCreate(page_size, .read_write);
    if (page.code < 0) return abandon(page.code, &.{ring.passed_fd}, &.{ring_map});
    defer if (page.fd != page.passed_fd) {
        _ = platform.close(page.fd);
    };
    const written = writePage(page.fd);
    if (written < 0) return abandon(written, &.{ ring.passed_fd, page.passed_fd }, &.{ring_map});
    const page_sealed = platform.memorySeal(page.fd, .size);
    if (page_sealed < 0) return abandon(page_sealed, &.{ ring.passed_fd, page.passed_fd }, &.{ring_map});
    const page_mapped = platform.map(page.fd, page_size, false);
    if (page_mapped.code < 0) return abandon(page_mapped.code, &.{ ring.passed_fd, page.passed_fd }, &.{ring_map});

    passed.* = .{ ring.passed_fd, page.passed_fd };
    out.* = .{
        .ring_address = ring_map.address,
        .ring_size = ring_map.size,
        .page_address = page_mapped.address,
        .capacity_bytes = options.capacity_bytes,
        .reserved_bytes = options.reserved_bytes,
    };
    return 0;
}

const Map = struct { address: usize, size: usize };

fn abandon(code: Code, descriptors: []const i32, maps: []const Map) Code {
    for (descriptors) |descriptor| _ = platform.close(descriptor);
    for (maps) |map| platform.unmap(map.address, map.size);
    return code;
}

fn writePage(fd: i32) Code {
    const mapped = platform.map(fd, page_size, true);
    if (mapped.code < 0) return mapped.code;
    defer platform.unmap(mapped.address, page_size);
    const page: *layout.ConsumerPage = @ptrFromInt(mapped.address);
    page.layout_version = layout.layout_version;
    page.magic = layout.page_magic;
    return 0;
}

pub const uid_any = std.math.maxInt(u32);

/// A pool as a consumer gets it.
pub const PoolDescriptor = struct { fd: i32, size: u32 };

pub fn poolSizeIsValid(size: u32) bool {
    return size >= layout.pool_bytes_min and size <= layout.pool_bytes_max and size % layout.part_size == 0;
}

/// Checks what the sender handed over and maps it. The descriptors stay the caller's.
pub fn join(ring_fd: i32, page_fd: i32, pool: ?PoolDescriptor, capacity_bytes: u32, uid: u32, out: *Regions) Code {
    if (!capacityIsValid(capacity_bytes)) return codeOf(.bad_argument);
    if (pool) |given| {
        if (!poolSizeIsValid(given.size)) return codeOf(.bad_argument);
        const pool_verdict = check(given.fd, given.size, .size_and_future_write, uid);
        if (pool_verdict < 0) return pool_verdict;
    }
    const pool_size: usize = if (pool) |given| given.size else 0;
    const ring_verdict = check(ring_fd, @as(u64, capacity_bytes) + header_size, .size_and_future_write, uid);
    if (ring_verdict < 0) return ring_verdict;
    const page_verdict = check(page_fd, page_size, .size, uid);
    if (page_verdict < 0) return page_verdict;

    const ring = platform.mapRing(ring_fd, header_size, capacity_bytes, false, pool_size);
    if (ring.code < 0) return ring.code;
    const ring_map: Map = .{ .address = ring.address, .size = ringSize(capacity_bytes) + pool_size };
    if (pool) |given| {
        const placed = platform.mapAt(ring.address + ringSize(capacity_bytes), given.fd, given.size, false);
        if (placed.code < 0) return abandon(placed.code, &.{}, &.{ring_map});
    }
    const header: *const volatile layout.RingHeader = @ptrFromInt(ring.address);
    const reserved_bytes = header.reserved_bytes;
    const wrong: ?Status = if (header.magic != layout.ring_magic)
        .bad_magic
    else if (header.layout_version != layout.layout_version)
        .bad_version
    else if (header.header_size != header_size or header.capacity_bytes != capacity_bytes)
        .bad_size
    else if (reserved_bytes > capacity_bytes or !reservedIsValid(@intCast(reserved_bytes), capacity_bytes))
        .bad_size
    else
        null;
    if (wrong) |status| return abandon(codeOf(status), &.{}, &.{ring_map});

    const page = platform.map(page_fd, page_size, true);
    if (page.code < 0) return abandon(page.code, &.{}, &.{ring_map});
    const page_header: *const volatile layout.ConsumerPage = @ptrFromInt(page.address);
    const page_wrong: ?Status = if (page_header.magic != layout.page_magic)
        .bad_magic
    else if (page_header.layout_version != layout.layout_version)
        .bad_version
    else
        null;
    if (page_wrong) |status| {
        return abandon(codeOf(status), &.{}, &.{ ring_map, .{ .address = page.address, .size = page_size } });
    }
    out.* = .{
        .ring_address = ring.address,
        .ring_size = ring_map.size,
        .page_address = page.address,
        .capacity_bytes = capacity_bytes,
        .reserved_bytes = @intCast(reserved_bytes),
        .pool_bytes = @intCast(pool_size),
    };
    return 0;
}

fn check(fd: i32, size: u64, seals: platform.Seals, uid: u32) Code {
    switch (platform.memoryCheck(fd, size, seals)) {
        .ok => {},
        .not_memory => return codeOf(.bad_descriptor),
        .wrong_size => return codeOf(.bad_size),
        .seal_missing => return codeOf(.seal_missing),
    }
    if (uid == uid_any) return 0;
    const info = platform.statDescriptor(fd) orelse return codeOf(.bad_descriptor);
    return if (info.uid == uid) 0 else codeOf(.wrong_uid);
}

// Tests

const testing = std.testing;

fn testOptions() Options {
    return .{ .capacity_bytes = 65536, .reserved_bytes = 16384, .sender_id = @splat(7), .connection_id = 9 };
}

test "create and join: both see the same words, the data is mapped twice in a row" {
    var passed: [2]i32 = undefined;
    var sender: Regions = undefined;
    try testing.expectEqual(0, create(testOptions(), &passed, &sender));
    defer sender.unmap();
    defer for (passed) |fd| {
        _ = platform.close(fd);
    };
    var consumer: Regions = undefined;
    try testing.expectEqual(0, join(passed[0], passed[1], null, 65536, platform.effectiveUid(), &consumer));
    defer consumer.unmap();

    sender.data()[65535] = 1;
    sender.data()[65536] = 2; // the mirror of byte 0
    try testing.expectEqual(1, consumer.data()[65535 + 65536]);
    try testing.expectEqual(2, consumer.data()[0]);
    consumer.page().consumer_cursor.store(5, .release);
    try testing.expectEqual(5, sender.page().consumer_cursor.load(.acquire));
    try testing.expectEqual(9, consumer.header().connection_id);
}

test "retire: the memory reads as zeros, the other side keeps its own" {
    var passed: [2]i32 = undefined;
    var sender: Regions = undefined;
    try testing.expectEqual(0, create(testOptions(), &passed, &sender));
    defer sender.unmap();
    var consumer: Regions = undefined;
    try testing.expectEqual(0, join(passed[0], passed[1], null, 65536, uid_any, &consumer));
    for (passed) |fd| _ = platform.close(fd);
    sender.data()[3] = 7;
    try testing.expectEqual(7, consumer.data()[3]);
    try testing.expectEqual(0, consumer.retire());
    try testing.expectEqual(0, consumer.data()[3]);
    try testing.expectEqual(0, consumer.header().magic);
    consumer.page().park_epoch.store(1, .monotonic);
    try testing.expectEqual(0, sender.page().park_epoch.load(.monotonic));
    try testing.expectEqual(7, sender.data()[3]);
    consumer.unmap();
}

test "create refuses a capacity that is no power of two, too small or too large, and room that is out of range" {
    var passed: [2]i32 = undefined;
    var regions: Regions = undefined;
    for ([_]u32{ 0, 1, 65535, 32768, 100_000, 2 << 30 }) |capacity| {
        var options = testOptions();
        options.capacity_bytes = capacity;
        try testing.expectEqual(codeOf(.bad_argument), create(options, &passed, &regions));
    }
    for ([_]u32{ 0, 8, 16385, 65536 }) |reserved| {
        var options = testOptions();
        options.reserved_bytes = reserved;
        try testing.expectEqual(codeOf(.bad_argument), create(options, &passed, &regions));
    }
}

const linux_only = @import("builtin").os.tag == .linux;

test "nobody can map a passed ring writable, nor resize it" {
    if (!linux_only) return error.SkipZigTest;
    var passed: [2]i32 = undefined;
    var sender: Regions = undefined;
    try testing.expectEqual(0, create(testOptions(), &passed, &sender));
    defer sender.unmap();
    defer for (passed) |fd| {
        _ = platform.close(fd);
    };
    const linux = std.os.linux;
    try testing.expectEqual(-1, platform.map(passed[0], 65536, true).code); // EPERM
    for (passed) |fd| {
        for ([_]i64{ 0, 1 << 20 }) |size| {
            try testing.expectEqual(linux.E.PERM, linux.errno(linux.ftruncate(fd, size)));
        }
    }
}

/// A region that a hostile sender made: `damage` gets to it before it is sealed.
fn forge(size: usize, seals: ?platform.Seals, magic: u64, version: u32) !i32 {
    const memory = platform.memoryCreate(size, .read_write);
    try testing.expectEqual(0, memory.code);
    const mapped = platform.map(memory.fd, size, true);
    try testing.expectEqual(0, mapped.code);
    defer platform.unmap(mapped.address, size);
    // A ring's header stands behind its data; a page's at its start.
    const at = if (magic == layout.page_magic) mapped.address else mapped.address + size - header_size;
    const header: *layout.RingHeader = @ptrFromInt(at);
    header.magic = magic;
    header.layout_version = version;
    if (magic != layout.page_magic) {
        header.header_size = header_size;
        header.capacity_bytes = size - header_size;
        header.reserved_bytes = 16384;
    }
    if (seals) |wanted| try testing.expectEqual(0, platform.memorySeal(memory.fd, wanted));
    return memory.fd;
}

test "join refuses: missing seals, wrong size, wrong magic, wrong version, another uid, no memory at all" {
    if (!linux_only) return error.SkipZigTest;
    const ring_size = 65536 + header_size;
    const version = layout.layout_version;
    const good_page = try forge(page_size, .size, layout.page_magic, version);
    const good_ring = try forge(ring_size, .size_and_future_write, layout.ring_magic, version);
    var regions: Regions = undefined;
    try testing.expectEqual(0, join(good_ring, good_page, null, 65536, uid_any, &regions));
    regions.unmap();

    const Case = struct { ring: i32, page: i32, expected: Status };
    const cases = [_]Case{
        .{ .ring = try forge(ring_size, null, layout.ring_magic, version), .page = good_page, .expected = .seal_missing },
        .{ .ring = try forge(ring_size, .size, layout.ring_magic, version), .page = good_page, .expected = .seal_missing },
        .{ .ring = try forge(ring_size - header_size, .size_and_future_write, layout.ring_magic, version), .page = good_page, .expected = .bad_size },
        .{ .ring = try forge(ring_size * 2, .size_and_future_write, layout.ring_magic, version), .page = good_page, .expected = .bad_size },
        .{ .ring = try forge(ring_size, .size_and_future_write, 1, version), .page = good_page, .expected = .bad_magic },
        .{ .ring = try forge(ring_size, .size_and_future_write, layout.ring_magic, version + 1), .page = good_page, .expected = .bad_version },
        .{ .ring = good_ring, .page = try forge(page_size, null, layout.page_magic, version), .expected = .seal_missing },
        .{ .ring = good_ring, .page = try forge(page_size, .size, layout.page_magic, version + 1), .expected = .bad_version },
        .{ .ring = good_ring, .page = good_ring, .expected = .bad_size },
        .{ .ring = 0x7fff_0000, .page = good_page, .expected = .bad_descriptor },
    };
    for (cases) |case| {
        try testing.expectEqual(codeOf(case.expected), join(case.ring, case.page, null, 65536, uid_any, &regions));
        if (case.ring != good_ring and case.ring < 0x7fff_0000) _ = platform.close(case.ring);
        if (case.page != good_page and case.page != good_ring) _ = platform.close(case.page);
    }
    try testing.expectEqual(codeOf(.wrong_uid), join(good_ring, good_page, null, 65536, platform.effectiveUid() +% 1, &regions));
    _ = platform.close(good_ring);
    _ = platform.close(good_page);
}
