//! pool_bench.zig: what does the pool cost, does it crumble, and who gets what of it? Usage: bench-pool [rounds
//! [allocations]]; allocations: of the second and third question, 0 leaves them out (for instruction counts: two numbers of
//! rounds, and the difference). Touches no payload: the books only. Built as it is shipped.

const std = @import("std");
const qlaster = @import("qlaster");
const platform = qlaster.platform;
const Pool = qlaster.pool.Pool;
const soak = qlaster.pool_soak;

const consumers = 10;
/// Many and short, so that most of them lie between two interruptions of the scheduler.
const runs = 101;

const Size = struct { name: []const u8, bytes: usize };
const sizes = [_]Size{
    .{ .name = "1 KiB", .bytes = 1024 },
    .{ .name = "7.3 KB", .bytes = 7300 },
    .{ .name = "90 KB", .bytes = 90_000 },
    .{ .name = "1.7 MB", .bytes = 1_700_000 },
    .{ .name = "10 MiB", .bytes = 10 * 1024 * 1024 },
};

const memory_size = 512 * 1024 * 1024;

fn mapMemory() ![]align(4096) u8 {
    const mapped = platform.pages(memory_size);
    if (mapped.code < 0) return error.OutOfMemory;
    return @as([*]align(4096) u8, @ptrFromInt(mapped.address))[0..memory_size];
}

/// `lag` frames are in each ring before the oldest is read. Returns nanoseconds per update.
fn measure(pool: *Pool, size: usize, lag: u64, rounds: u64) !f64 {
    var position: u64 = 0;
    for (0..lag) |_| {
        position += 176;
        const block = pool.alloc(size) orelse return error.PoolFull;
        for (0..consumers) |connection| try pool.offer(block, @intCast(connection), position);
    }
    const started = platform.monotonicNs();
    for (0..rounds) |_| {
        position += 176;
        const block = pool.alloc(size) orelse return error.PoolFull;
        for (0..consumers) |connection| try pool.offer(block, @intCast(connection), position);
        for (0..consumers) |connection| pool.advance(@intCast(connection), position - lag * 176);
    }
    const elapsed = platform.monotonicNs() - started;
    for (0..consumers) |connection| pool.forget(@intCast(connection));
    if (pool.usedBytes() != 0) return error.Leaked;
    return @as(f64, @floatFromInt(elapsed)) / @as(f64, @floatFromInt(rounds));
}

fn medianOf(pool: *Pool, size: usize, lag: u64, rounds: u64) !struct { min: f64, median: f64, max: f64 } {
    var figures: [runs]f64 = undefined;
    for (&figures) |*figure| figure.* = try measure(pool, size, lag, rounds);
    std.mem.sort(f64, &figures, {}, std.sort.asc(f64));
    return .{ .min = figures[0], .median = figures[runs / 2], .max = figures[runs - 1] };
}

pub fn main(init: std.process.Init.Minimal) !void {
    var args = init.args.iterate();
    _ = args.next();
    const rounds = if (args.next()) |text| try std.fmt.parseInt(u64, text, 10) else 2000;
    const allocations = if (args.next()) |text| try std.fmt.parseInt(u64, text, 10) else 2_000_000;
    const print = std.debug.print;

    const memory = try mapMemory();
    defer platform.unmap(@intFromPtr(memory.ptr), memory.len);
    var pool: Pool = try .init(memory, 1024);
    defer pool.deinit();

    print("alloc + {d} offer + {d} advance + free, ns per update: median of {d} runs of {d} (min-max)\n", .{ consumers, consumers, runs, rounds });
    print("{s:>8}  {s:>24}  {s:>24}\n", .{ "", "read at once", "20 frames behind" });
    for (sizes) |size| {
        const at_once = try medianOf(&pool, size.bytes, 0, rounds);
        const behind = try medianOf(&pool, size.bytes, 20, rounds);
        print("{s:>8}  {d:>10.1} ({d:.1}-{d:.1})  {d:>10.1} ({d:.1}-{d:.1})\n", .{
            size.name, at_once.median, at_once.min, at_once.max, behind.median, behind.min, behind.max,
        });
    }
    const deep = try medianOf(&pool, 1024, 20_000, rounds);
    print("{s:>8}  20,000 frames behind {d:.1} ({d:.1}-{d:.1})\n", .{ "1 KiB", deep.median, deep.min, deep.max });

    const started = platform.monotonicNs();
    const idle_rounds = rounds * 1000;
    for (0..idle_rounds) |i| {
        pool.advance(@intCast(i % 1024), i);
        std.mem.doNotOptimizeAway(&pool);
    }
    const idle = platform.monotonicNs() - started;
    print("advance with nothing to do, 1,024 connections in turn: {d:.2} ns\n", .{
        @as(f64, @floatFromInt(idle)) / @as(f64, @floatFromInt(idle_rounds)),
    });

    if (allocations == 0) return;
    print("\nfragmentation, {d} allocations of 1 KiB and more at 60-80 %, now and then down to 50 %\n", .{allocations});
    for ([_]soak.Lifetimes{ .random, .queue_with_stragglers }) |lifetimes| {
        for ([_]usize{ 64, 128, 256, 512 }) |mib| {
            const result = try soak.run(std.heap.page_allocator, .{
                .memory_size = mib * 1024 * 1024,
                .allocations = allocations,
                .lifetimes = lifetimes,
                .seed = 1,
            });
            print("{t} {d} MiB: {d} blocks, waste {d:.2} %, refused {d} of {d}; at 50 %: 10 MiB free {d} of {d}, smallest {d} KiB, " ++
                "mean {d:.1} MiB, then {d:.1}; at 80 % smallest {d} KiB\n", .{
                lifetimes,
                mib,
                result.blocks,
                result.internal_waste * 100,
                result.refused,
                result.allocations,
                result.probes_10_mib,
                result.probes,
                result.piece_min / 1024,
                result.piece_first / (1 << 20),
                result.piece_last / (1 << 20),
                result.full_piece_min / 1024,
            });
        }
    }

    print("\nthose that lag, 256 MiB, each with updates of its own; and one that reads each at once\n", .{});
    for ([_]bool{ false, true }) |has_shares| {
        for ([_]u16{ 1, 3, 4, 8, 16, 63 }) |laggards| {
            const result = try soak.lag(.{
                .memory_size = 256 * 1024 * 1024,
                .laggards = laggards,
                .rounds = allocations / laggards,
                .has_shares = has_shares,
                .seed = 1,
            });
            print("{s} {d}: each {d:.1} MiB, free {d:.1} MiB; refused who reads {d} of {d}, from 1 MiB on {d} of {d}\n", .{
                if (has_shares) "with shares" else "without",
                laggards,
                result.held_of_one / (1 << 20),
                result.free / (1 << 20),
                result.refused,
                allocations / laggards,
                result.refused_large,
                result.large,
            });
        }
    }
}
