//! pool_soak.zig: hours of allocations in seconds: does a pool that stays 60 to 80 % full crumble? What do those that lag
//! leave of it to one that reads?
//! May touch: a Pool of its own, whose memory it never reads or writes. For pool_test.zig and stress/pool_bench.zig.
//! May not touch: what is shipped; nothing there refers to this file.

const std = @import("std");
const platform = @import("platform/mod.zig");
const Pool = @import("pool.zig").Pool;
const Block = @import("pool.zig").Block;

/// Sizes of account data on mainnet (reference/solana.md §1.2), from 1 KiB on: below that, frames carry their payload.
pub fn sizeOf(random: std.Random) usize {
    while (true) {
        const share = random.uintLessThan(u32, 3000);
        // In 1/10,000 of all updates: 1200, 1000, 700, 99, 1.
        const size: usize = if (share < 1200)
            random.intRangeAtMost(usize, 200, 1500)
        else if (share < 2200)
            random.intRangeAtMost(usize, 1536, 5 * 1024)
        else if (share < 2900)
            random.intRangeAtMost(usize, 5 * 1024, 25 * 1024)
        else if (share < 2999)
            random.intRangeAtMost(usize, 25 * 1024, 100 * 1024)
        else
            random.intRangeAtMost(usize, 1024 * 1024, 10 * 1024 * 1024);
        if (size >= 1024) return size;
    }
}

pub const Lifetimes = enum {
    /// Any block may be the next to go. The hardest: no neighbours die together.
    random,
    /// The oldest goes first, but for one in a hundred, which a slow consumer keeps until it is one of too many.
    queue_with_stragglers,
};

pub const Options = struct {
    memory_size: usize,
    allocations: u64,
    lifetimes: Lifetimes,
    seed: u64,
};

pub const Result = struct {
    /// Blocks in use when last 80 % full.
    blocks: usize = 0,
    /// Bytes in blocks over bytes asked for, less 1; summed over all allocations.
    internal_waste: f64 = 0,
    /// Allocations refused at 60-80 %, among how many.
    refused: u64 = 0,
    allocations: u64 = 0,
    /// The fill was brought down to 50 % this often; so often 10 MiB were free in one piece; the least that the
    /// largest free piece ever was.
    probes: u64 = 0,
    probes_10_mib: u64 = 0,
    piece_min: usize = std.math.maxInt(usize),
    /// Likewise when 80 % full.
    full_piece_min: usize = std.math.maxInt(usize),
    /// Mean of the largest free piece at 50 %, in the first and the last quarter of the run: does it get worse?
    piece_first: f64 = 0,
    piece_last: f64 = 0,
};

const Soak = struct {
    pool: *Pool,
    random: std.Random,
    lifetimes: Lifetimes,
    live: std.ArrayList(Block) = .empty,
    head: usize = 0,
    stragglers: std.ArrayList(Block) = .empty,

    const stragglers_max = 300;

    fn add(soak: *Soak, gpa: std.mem.Allocator, block: Block) !void {
        if (soak.lifetimes == .queue_with_stragglers and soak.random.uintLessThan(u32, 100) == 0) {
            if (soak.stragglers.items.len == stragglers_max) {
                const which = soak.random.uintLessThan(usize, stragglers_max);
                soak.pool.discard(soak.stragglers.items[which]);
                soak.stragglers.items[which] = block;
            } else try soak.stragglers.append(gpa, block);
            return;
        }
        try soak.live.append(gpa, block);
    }

    fn drop(soak: *Soak) void {
        switch (soak.lifetimes) {
            .random => soak.pool.discard(soak.live.swapRemove(soak.random.uintLessThan(usize, soak.live.items.len))),
            .queue_with_stragglers => {
                soak.pool.discard(soak.live.items[soak.head]);
                soak.head += 1;
                if (soak.head > 100_000) {
                    soak.live.replaceRangeAssumeCapacity(0, soak.head, &.{});
                    soak.head = 0;
                }
            },
        }
    }
};

/// The fill goes from 60 % to 80 % and back; now and then down to 50 %, and a look.
pub fn run(gpa: std.mem.Allocator, options: Options) !Result {
    const mapped = platform.pages(options.memory_size);
    if (mapped.code < 0) return error.OutOfMemory;
    defer platform.unmap(mapped.address, options.memory_size);
    const memory: []align(4096) u8 = @as([*]align(4096) u8, @ptrFromInt(mapped.address))[0..options.memory_size];
    var pool: Pool = try .init(memory, 1);
    defer pool.deinit();
    pool.poisons = false;

    var prng = std.Random.DefaultPrng.init(options.seed);
    var soak: Soak = .{ .pool = &pool, .random = prng.random(), .lifetimes = options.lifetimes };
    defer soak.live.deinit(gpa);
    defer soak.stragglers.deinit(gpa);
    var result: Result = .{ .allocations = options.allocations };
    var asked: f64 = 0;
    var given: f64 = 0;
    // In between, as much comes as is there.
    const interval = @max(20_000, options.memory_size / 10_000);
    const quarter = options.allocations / 4;
    var first_count: f64 = 0;
    var last_count: f64 = 0;
    const full = options.memory_size / 10 * 8;
    var is_filling = true;
    for (1..options.allocations + 1) |i| {
        const size = sizeOf(soak.random);
        // The largest must not carry the fill beyond what is said.
        while (pool.usedBytes() + size > full) {
            if (is_filling) {
                is_filling = false;
                result.blocks = soak.live.items.len - soak.head + soak.stragglers.items.len;
                result.full_piece_min = @min(result.full_piece_min, pool.blocks.sizeMax());
            }
            soak.drop();
        }
        if (!is_filling) {
            // Three go for each that comes.
            for (0..3) |_| soak.drop();
            if (pool.usedBytes() < options.memory_size / 10 * 6) is_filling = true;
        }
        const before = pool.usedBytes();
        if (pool.alloc(size)) |block| {
            asked += @floatFromInt(size);
            given += @floatFromInt(pool.usedBytes() - before);
            try soak.add(gpa, block);
        } else result.refused += 1;
        if (i % interval != 0) continue;
        while (pool.usedBytes() > options.memory_size / 2) soak.drop();
        const piece = pool.blocks.sizeMax();
        result.probes += 1;
        if (piece >= 10 * 1024 * 1024) result.probes_10_mib += 1;
        result.piece_min = @min(result.piece_min, piece);
        if (i <= quarter) {
            result.piece_first += @floatFromInt(piece);
            first_count += 1;
        }
        if (i > options.allocations - quarter) {
            result.piece_last += @floatFromInt(piece);
            last_count += 1;
        }
    }
    if (result.probes == 0) result.piece_min = 0;
    if (result.blocks == 0) result.full_piece_min = 0;
    if (first_count > 0) result.piece_first /= first_count;
    if (last_count > 0) result.piece_last /= last_count;
    result.internal_waste = given / asked - 1;
    try pool.blocks.verify();
    return result;
}

pub const LagOptions = struct {
    memory_size: usize,
    laggards: u16,
    /// Updates of each that lags, and of the one that reads.
    rounds: u64,
    has_shares: bool,
    seed: u64,
};

pub const LagResult = struct {
    /// Means, at the end of each round, over the second half of them.
    held_of_one: f64 = 0,
    free: f64 = 0,
    /// Payloads of who reads that found no block; those of 1 MiB and more among them; and how many there were.
    refused: u64 = 0,
    refused_large: u64 = 0,
    large: u64 = 0,
};

/// Each of those that lag gets updates of its own, and reads its oldest only when it may have no more. Who reads has each of
/// its updates read before the next.
pub fn lag(options: LagOptions) !LagResult {
    const mapped = platform.pages(options.memory_size);
    if (mapped.code < 0) return error.OutOfMemory;
    defer platform.unmap(mapped.address, options.memory_size);
    const memory: []align(4096) u8 = @as([*]align(4096) u8, @ptrFromInt(mapped.address))[0..options.memory_size];
    var pool: Pool = try .init(memory, options.laggards + 1);
    defer pool.deinit();
    pool.poisons = false;

    var prng = std.Random.DefaultPrng.init(options.seed);
    const random = prng.random();
    var result: LagResult = .{};
    var oldest: [64]u64 = @splat(0);
    for (1..options.rounds + 1) |position| {
        for (0..options.laggards) |i| {
            const one: u16 = @intCast(i);
            const size = sizeOf(random);
            while (!mayHold(&pool, one, size, options)) {
                oldest[one] += 1;
                pool.advance(one, oldest[one]);
            }
            if (pool.alloc(size)) |block| try pool.offer(block, one, position);
        }
        const size = sizeOf(random);
        if (size >= 1 << 20) result.large += 1;
        if (pool.alloc(size)) |block| pool.discard(block) else {
            result.refused += 1;
            if (size >= 1 << 20) result.refused_large += 1;
        }
        if (position <= options.rounds / 2) continue;
        const used = pool.usedBytes();
        result.held_of_one += @as(f64, @floatFromInt(used)) / @as(f64, @floatFromInt(options.laggards));
        result.free += @floatFromInt(options.memory_size - used);
    }
    const counted: f64 = @floatFromInt(options.rounds - options.rounds / 2);
    result.held_of_one /= counted;
    result.free /= counted;
    return result;
}

fn mayHold(pool: *const Pool, connection: u16, size: usize, options: LagOptions) bool {
    const pinned = pool.pinnedBytes(connection);
    if (pinned > 0 and pinned + size > options.memory_size / 4) return false;
    return !options.has_shares or pool.hasShare(connection, size, true);
}
