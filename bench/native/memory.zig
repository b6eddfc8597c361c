//! memory.zig: what the machine's memory takes of a fan-out, with nothing around it: frames copied into rings that are read by
//! nobody, lines of cache at random. No engine can be quicker than that.
//! May touch: its own memory, the clock.

const std = @import("std");
const qlaster = @import("qlaster");
const process = @import("process.zig");
const report = @import("report.zig");
const now = qlaster.platform.monotonicNs;

const runs_max = 64;
const warm_up_runs = 2;
const line_size = 64;
/// Ahead of the copy: the lines of the frame behind it.
const ahead_max = 8 * line_size;
const allocator = std.heap.page_allocator;

fn median(times: []u64) u64 {
    std.mem.sort(u64, times, {}, std.sort.asc(u64));
    return times[times.len / 2];
}

/// Prints nanoseconds by frame of `bytes` that is copied into all rings, `piece` of them one behind the other.
pub fn copies(bytes: u32, rings: u32, ring_bytes: u32, piece: u32, runs: u32) !void {
    if (runs == 0 or runs > runs_max or rings == 0 or piece == 0 or bytes == 0 or bytes > ring_bytes / 2) return error.BadArgument;
    process.pin(process.core_near);
    const memory = try allocator.alloc([]u8, rings);
    for (memory) |*ring| {
        ring.* = try allocator.alloc(u8, ring_bytes + ahead_max);
        @memset(ring.*, 0);
    }
    const frame = try allocator.alloc(u8, bytes);
    @memset(frame, 1);
    const size = std.mem.alignForward(usize, bytes, 8);
    var times: [runs_max]u64 = undefined;
    var pieces: [256]u64 = undefined;
    var at: usize = 0;
    for (0..warm_up_runs + runs) |run| {
        for (&pieces) |*spent| {
            const started = now();
            for (0..piece) |_| {
                if (at + 2 * size > ring_bytes) at = 0;
                for (memory) |ring| {
                    @memcpy(ring[at..][0..frame.len], frame);
                    var next: usize = 0;
                    while (next < @min(size, ahead_max)) : (next += line_size) @prefetch(ring.ptr + at + size + next, .{ .rw = .write });
                }
                at += size;
            }
            spent.* = now() - started;
        }
        const typical = median(&pieces);
        if (run >= warm_up_runs) times[run - warm_up_runs] = typical;
    }
    report.lists(&.{.{ .name = "copyNs", .values = times[0..runs], .divisor = piece }});
}

const group = 64;

/// Prints nanoseconds by line of so much memory, at random: 64 are asked for, then read.
pub fn lines(bytes: u32, runs: u32) !void {
    if (runs == 0 or runs > runs_max or bytes < 1024 * 1024) return error.BadArgument;
    process.pin(process.core_near);
    const memory = try allocator.alloc(u8, bytes);
    @memset(memory, 1);
    var prng: std.Random.DefaultPrng = .init(42);
    var times: [runs_max]u64 = undefined;
    var pieces: [1024]u64 = undefined;
    for (0..warm_up_runs + runs) |run| {
        for (&pieces) |*spent| {
            var at: [group]usize = undefined;
            for (&at) |*one| one.* = prng.random().uintLessThan(u32, bytes / line_size) * @as(usize, line_size);
            const started = now();
            for (at) |one| @prefetch(memory.ptr + one, .{});
            var sum: u64 = 0;
            for (at) |one| sum += memory[one];
            if (sum != group) return error.WrongMemory;
            spent.* = now() - started;
        }
        const typical = median(&pieces);
        if (run >= warm_up_runs) times[run - warm_up_runs] = typical;
    }
    report.lists(&.{.{ .name = "lineNs", .values = times[0..runs], .divisor = group }});
}
