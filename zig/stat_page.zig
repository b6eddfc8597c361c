//! stat_page.zig: what a sender shows of itself, in memory that others only read, so that they see it also while its event
//! loop stands still (ADR 0024).
//! May touch: its own region. May not touch: consumers, cursors; figures.zig says what they are.
//! Why no reader can hurt us: sizes and future writes are sealed, so what is read back (to count on) is our own.
//! Readers have no mapping: the kernel copies the page for them (src/stat/page.ts), the version of an entry before and after.

const std = @import("std");
const layout = @import("layout.zig");
const platform = @import("platform/mod.zig");

const entry_count = layout.fanout_consumers_max;
pub const size = std.mem.alignForward(usize, layout.stat_header_size + entry_count * @sizeOf(layout.StatEntry), layout.part_size);

/// Monotonic: each word is information by itself. Pairs with the kernel's copy for a reader, which takes words whole.
pub fn put(word: *u64, value: u64) void {
    @atomicStore(u64, word, value, .monotonic);
}

/// Where a latency counts: four buckets for each power of two.
pub fn bucketOf(ns: u64) usize {
    const shifted = @max(ns, @as(u64, 1) << layout.latency_shift_min);
    const power: usize = 63 - @as(usize, @clz(shifted));
    const quarter: usize = @intCast((shifted >> @intCast(power - 2)) & 3);
    return @min(4 * (power - layout.latency_shift_min) + quarter, layout.latency_buckets - 1);
}

pub const StatPage = struct {
    memory: platform.Memory,
    address: usize,

    pub fn create(id: [16]u8) error{OutOfMemory}!StatPage {
        const memory = platform.memoryCreate(size, .read_only);
        if (memory.code < 0) return error.OutOfMemory;
        errdefer closeMemory(memory);
        const mapped = platform.map(memory.fd, size, true);
        if (mapped.code < 0) return error.OutOfMemory;
        errdefer platform.unmap(mapped.address, size);
        // Our own writable mapping exists; from here on nobody gets another one.
        if (platform.memorySeal(memory.fd, .size_and_future_write) < 0) return error.OutOfMemory;
        const page: StatPage = .{ .memory = memory, .address = mapped.address };
        const head = page.header();
        head.version = layout.stat_version;
        head.header_size = layout.stat_header_size;
        head.entry_size = @sizeOf(layout.StatEntry);
        head.entry_count = entry_count;
        head.id = id;
        head.pid = @intCast(platform.getPid());
        head.started_ns = platform.realtimeNs();
        head.beat_ns = head.started_ns;
        // Last: nobody knows of the page yet.
        head.magic = layout.stat_magic;
        return page;
    }

    fn closeMemory(memory: platform.Memory) void {
        _ = platform.close(memory.fd);
        if (memory.passed_fd != memory.fd) _ = platform.close(memory.passed_fd);
    }

    pub fn destroy(page: StatPage) void {
        platform.unmap(page.address, size);
        closeMemory(page.memory);
    }

    pub fn header(page: StatPage) *layout.StatHeader {
        return @ptrFromInt(page.address);
    }

    pub fn entry(page: StatPage, id: u16) *layout.StatEntry {
        return @ptrFromInt(page.address + layout.stat_header_size + @as(usize, id) * @sizeOf(layout.StatEntry));
    }

    /// A consumer takes the entry.
    pub fn identify(page: StatPage, id: u16, identity: *const layout.StatIdentity) void {
        const slot = page.entry(id);
        beginChange(&slot.version);
        // Plain stores, up to `endChange`: who copies them meanwhile finds the version odd, or another one afterwards.
        slot.state = 1;
        slot.id = whole(identity.id);
        slot.connected_ms = whole(identity.connected_ms);
        slot.pid = identity.pid;
        slot.uid = identity.uid;
        slot.protocol = identity.protocol;
        slot.policy = identity.policy;
        slot.transaction_policy = identity.transaction_policy;
        slot.name_length = @min(identity.name_length, layout.name_bytes_max);
        slot.name = identity.name;
        endChange(&slot.version);
        if (page.header().entries_used <= id) put(&page.header().entries_used, @as(u64, id) + 1);
    }

    /// Nobody has it any longer, and the next one starts from zeros.
    pub fn clear(page: StatPage, id: u16) void {
        const slot = page.entry(id);
        if (slot.state == 0) return;
        beginChange(&slot.version);
        const version = slot.version;
        @memset(std.mem.asBytes(slot)[@sizeOf(u32)..], 0);
        slot.version = version;
        endChange(&slot.version);
    }

    fn beginChange(version: *u32) void {
        // Release, and a fence behind it: who sees anything of the change also sees the odd version. Pairs with a reader's
        // second look at the version, a system call after its copy (`StatPage` in page.ts).
        @atomicStore(u32, version, version.* | 1, .release);
        platform.storeLoadFence();
    }

    fn endChange(version: *u32) void {
        // Release: who sees the even version sees the whole change. Pairs with the version in a reader's first copy.
        @atomicStore(u32, version, (version.* | 1) +% 1, .release);
    }

    pub fn beat(page: StatPage, given: *const layout.StatBeat) void {
        const head = page.header();
        const stall_ns = whole(given.stall_ns);
        put(&head.beat_ns, platform.realtimeNs());
        put(&head.beat_interval_ns, whole(given.interval_ns));
        put(&head.beats, head.beats +% 1);
        put(&head.stall_total_ns, head.stall_total_ns +% stall_ns);
        put(&head.stall_max_ns, @max(head.stall_max_ns, stall_ns));
        const bucket = &head.stalls[bucketOf(stall_ns)];
        put(bucket, bucket.* +% 1);
        put(&head.connections, whole(given.connections));
        put(&head.refused, whole(given.refused));
        put(&head.memory_bytes, whole(given.memory_bytes));
        for (&head.ended, given.ended) |*count, value| put(count, whole(value));
        if (given.dropped.at_ms > 0 and given.dropped.id != head.dropped.id) page.showDropped(given);
    }

    /// One that the sender has ended.
    fn showDropped(page: StatPage, given: *const layout.StatBeat) void {
        const head = page.header();
        beginChange(&head.dropped_version);
        head.dropped_reason = given.dropped_reason;
        head.dropped = given.dropped;
        head.dropped.name_length = @min(given.dropped.name_length, layout.name_bytes_max);
        endChange(&head.dropped_version);
    }
};

/// TypeScript's numbers come as f64: whatever they are, a whole number comes out.
fn whole(value: f64) u64 {
    if (!(value >= 0)) return 0;
    return @intFromFloat(@min(value, 1 << 53));
}

/// A consumer's page is its own: what stands there is copied, and means no more than it says.
pub fn copyReport(to: *layout.ReadReport, from: *const layout.ReadReport) void {
    const words = @sizeOf(layout.ReadReport) / @sizeOf(u64);
    const target: *[words]u64 = @ptrCast(to);
    const source: *const [words]u64 = @ptrCast(from);
    // Monotonic: pairs with the store of each word by the consumer (`put` in its `report`); no word says anything of another.
    for (target, source) |*word, *given| put(word, @atomicLoad(u64, given, .monotonic));
}

const testing = std.testing;

test "buckets: four for each power of two, the ends take what is beyond" {
    try testing.expectEqual(0, bucketOf(0));
    try testing.expectEqual(0, bucketOf(159));
    try testing.expectEqual(1, bucketOf(160));
    try testing.expectEqual(3, bucketOf(255));
    try testing.expectEqual(4, bucketOf(256));
    try testing.expectEqual(layout.latency_buckets - 1, bucketOf(std.math.maxInt(u64)));
    var last: usize = 0;
    var ns: u64 = 1;
    while (ns < 1 << 40) : (ns += ns / 16 + 1) {
        const bucket = bucketOf(ns);
        try testing.expect(bucket >= last and bucket - last <= 1);
        last = bucket;
    }
}

test "an entry: odd while it changes, zeros for who comes next; numbers that are none" {
    const page = try StatPage.create(@splat(7));
    defer page.destroy();
    var identity: layout.StatIdentity = .{
        .id = std.math.nan(f64),
        .connected_ms = -1,
        .pid = 3,
        .uid = 4,
        .protocol = 0,
        .policy = 1,
        .transaction_policy = 2,
        .name_length = 1000,
        .name = @splat('a'),
    };
    page.identify(5, &identity);
    const slot = page.entry(5);
    try testing.expectEqual(2, slot.version);
    try testing.expectEqual(1, slot.state);
    try testing.expectEqual(0, slot.id);
    try testing.expectEqual(layout.name_bytes_max, slot.name_length);
    try testing.expectEqual(6, page.header().entries_used);
    put(&slot.frames, 9);
    page.clear(5);
    try testing.expectEqual(4, slot.version);
    try testing.expectEqual(0, slot.state);
    try testing.expectEqual(0, slot.frames);
    page.beat(&.{
        .interval_ns = 1e9,
        .stall_ns = std.math.inf(f64),
        .connections = 2,
        .refused = 3,
        .memory_bytes = 4,
        .ended = .{ 1, -1, std.math.nan(f64), 2, 3 },
        .dropped_reason = 2,
        .dropped = .{ .id = 7, .at_ms = 8, .pid = 9, .name_length = 1000, .name = @splat('a') },
    });
    try testing.expectEqual(1, page.header().beats);
    try testing.expectEqual([_]u64{ 1, 0, 0, 2, 3 }, page.header().ended);
    try testing.expectEqual(2, page.header().dropped_version);
    try testing.expectEqual(layout.name_bytes_max, page.header().dropped.name_length);
    try testing.expectEqual(1, page.header().stalls[layout.latency_buckets - 1]);
}

test "nobody can map the page writable" {
    if (@import("builtin").os.tag != .linux) return error.SkipZigTest;
    const page = try StatPage.create(@splat(7));
    defer page.destroy();
    try testing.expectEqual(-1, platform.map(page.memory.passed_fd, size, true).code); // EPERM
}
