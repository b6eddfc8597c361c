//! fanout.zig: what the fan-out of a sender costs, called from Zig: by consumer, by size, by the number of keys.
//! May touch: an Engine, both ends of its rings, the clock. May not touch: the door (exports.zig): that is what the
//! runtimes' figures have on top.
//! How: updates are made beforehand, rings are emptied between two pieces that count, by moving the consumers' cursors.
//! Only a reader that is asked for reads: the first consumer, in another process.
//! A run's figure is the median of its pieces of some microseconds: who else is on the core ruins a few of them, not all.

const std = @import("std");
const qlaster = @import("qlaster");
const layout = qlaster.layout;
const connection = qlaster.connection;
const Engine = qlaster.engine.Engine;
const process = @import("process.zig");
const report = @import("report.zig");
const now = qlaster.platform.monotonicNs;

pub const Api = enum {
    /// Each is seen at once.
    one,
    /// Seen together, `batch` at a time.
    batch,
    /// The same by one call, which looks keys up together.
    many,
};

const batch = 64;
const warm_up_runs = 2;
const runs_max = 64;
const consumers_max = layout.fanout_consumers_max;
const payload_max = layout.payload_bytes_max;
const head_size = @sizeOf(layout.FrameHeader) + @sizeOf(layout.AccountBody);
const Item = Engine.Item;
const Key = [layout.address_size]u8;
const allocator = std.heap.page_allocator;

/// As random as the keys of Solana, and made from a number.
fn keyOf(number: u64) Key {
    var prng: std.Random.SplitMix64 = .init(number);
    var words: [4]u64 = undefined;
    for (&words) |*word| word.* = prng.next();
    return @bitCast(words);
}

const Consumer = struct {
    handle: u32,
    id: u16,
    /// Ours, to move its cursor; nothing is read through it.
    end: connection.ConsumerEnd,
    passed: [2]i32,

    /// Gives all that is committed back, unread.
    inline fn empty(consumer: *Consumer) void {
        const cursor = consumer.end.ring.header.producer_cursor.load(.monotonic);
        consumer.end.ring.page.consumer_cursor.store(cursor, .release);
    }
};

const Scene = struct {
    engine: *Engine,
    consumers: []Consumer,
    pool_bytes: u32,
    ring_bytes: u32,

    const Options = struct { consumers: u32, ring_bytes: u32, pool_bytes: u32 = 0, threshold: u32 = 0, tracked_max: u32 = 0 };

    fn create(options: Options) !Scene {
        var scene: Scene = .{
            .engine = try Engine.create(.{
                .seed = .{ 1, 2 },
                .keys_max = 4 << 20,
                .keys_per_consumer_max = 1_000_000,
                .pool_bytes = options.pool_bytes,
                .pool_threshold = if (options.pool_bytes > 0) options.threshold else std.math.maxInt(u32),
                .tracked_max = options.tracked_max,
            }),
            .consumers = try allocator.alloc(Consumer, options.consumers),
            .pool_bytes = options.pool_bytes,
            .ring_bytes = options.ring_bytes,
        };
        for (scene.consumers) |*consumer| try scene.connect(consumer);
        return scene;
    }

    fn connect(scene: *Scene, consumer: *Consumer) !void {
        var producer: connection.ProducerEnd = undefined;
        if (connection.ProducerEnd.create(.{
            .capacity_bytes = scene.ring_bytes,
            .reserved_bytes = scene.ring_bytes / layout.reserved_fraction,
            .sender_id = @splat(1),
            .connection_id = 1,
        }, &consumer.passed, &producer) < 0) return error.CreateFailed;
        // A ring that was used for a while has its memory.
        var at: usize = 0;
        while (at < scene.ring_bytes) : (at += 4096) @atomicStore(u8, &producer.ring.data[at], 0, .monotonic);
        // The descriptors stay with us: a reader in another process joins with them.
        const own: [2]i32 = .{ qlaster.platform.duplicate(consumer.passed[0]), qlaster.platform.duplicate(consumer.passed[1]) };
        if (scene.join(own, &consumer.end) < 0) return error.JoinFailed;
        consumer.handle = qlaster.handles.add(.{ .producer = producer }) orelse return error.HandlesExhausted;
        const id = scene.engine.add(consumer.handle, .{
            .policy = .disconnect,
            .transaction_policy = .disconnect,
            .statuses = 1,
            .backlog_bytes = 0,
            .pool_bytes = scene.pool_bytes,
            .seed = @splat(5),
        });
        if (id < 0) return error.AddFailed;
        consumer.id = @intCast(id);
    }

    fn join(scene: *Scene, passed: [2]i32, out: *connection.ConsumerEnd) i32 {
        const pool: ?qlaster.region.PoolDescriptor = if (scene.pool_bytes == 0) null else .{
            .fd = scene.engine.poolDescriptor(),
            .size = scene.pool_bytes,
        };
        return connection.ConsumerEnd.join(passed[0], passed[1], pool, scene.ring_bytes, qlaster.region.uid_any, out);
    }

    fn subscribe(scene: *Scene, consumer: *const Consumer, keys: []const Key, owners: []const Key) !void {
        const code = scene.engine.edit(consumer.id, &.{
            .op = .add,
            .bit = 0,
            .takes_transactions = false,
            .is_last = true,
            .accounts = keys,
            .owners = owners,
            .program = &.{},
        });
        if (code < 0) return error.EditFailed;
    }

    fn empty(scene: *Scene, from: usize) void {
        for (scene.consumers[from..]) |*consumer| consumer.empty();
    }
};

/// Updates that stand one behind the other, as `publishMany` takes them.
const Updates = struct {
    bytes: []align(8) u8,
    item_size: usize,
    data_size: u32,
    count: usize,

    fn create(data_size: u32, count: usize) !Updates {
        const item_size = @sizeOf(Item) + std.mem.alignForward(usize, head_size, 8) + std.mem.alignForward(usize, data_size, 8);
        const updates: Updates = .{
            .bytes = try allocator.alignedAlloc(u8, .@"8", item_size * count),
            .item_size = item_size,
            .data_size = data_size,
            .count = count,
        };
        @memset(updates.bytes, 0);
        for (0..count) |i| {
            const item: *Item = @ptrCast(@alignCast(updates.bytes[i * item_size ..].ptr));
            item.* = .{ .head_length = head_size, .tail_length = data_size };
            const header: *layout.FrameHeader = @ptrCast(updates.head(i).ptr);
            header.kind = @backingInt(layout.FrameKind.account);
            updates.body(i).data_length = data_size;
            updates.body(i).slot = 7;
            @memset(updates.tail(i), 1);
        }
        return updates;
    }

    inline fn head(updates: *const Updates, i: usize) []align(8) u8 {
        return @alignCast(updates.bytes[i * updates.item_size + @sizeOf(Item) ..][0..head_size]);
    }

    inline fn body(updates: *const Updates, i: usize) *layout.AccountBody {
        return @ptrCast(@alignCast(updates.head(i)[@sizeOf(layout.FrameHeader)..].ptr));
    }

    inline fn tail(updates: *const Updates, i: usize) []u8 {
        return updates.bytes[i * updates.item_size + @sizeOf(Item) + head_size ..][0..updates.data_size];
    }
};

const pieces_max = 1024;

/// The time of a typical piece.
const Pieces = struct {
    times: [pieces_max]u64 = undefined,
    count: usize = 0,

    fn add(pieces: *Pieces, ns: u64) void {
        pieces.times[pieces.count] = ns;
        pieces.count += 1;
    }

    /// And starts again.
    fn median(pieces: *Pieces) u64 {
        const times = pieces.times[0..pieces.count];
        std.mem.sort(u64, times, {}, std.sort.asc(u64));
        pieces.count = 0;
        return times[times.len / 2];
    }
};

/// Publishes the first `count`. Its own function, so that a profile can be asked for it alone.
noinline fn publishSome(engine: *Engine, updates: *const Updates, count: usize, api: Api, wanted: i32) !void {
    var reached: i32 = 0;
    switch (api) {
        .one => for (0..count) |i| {
            reached += engine.publish(updates.head(i), updates.tail(i), false);
        },
        .batch => {
            for (0..count) |i| reached += engine.publish(updates.head(i), updates.tail(i), true);
            engine.commit();
        },
        .many => {
            var done: usize = 0;
            reached = engine.publishMany(updates.bytes[0 .. count * updates.item_size], &done);
            engine.commit();
        },
    }
    if (reached != wanted) return error.NotAllReached;
}

pub const Deliver = struct {
    bytes: u32,
    consumers: u32,
    ring_bytes: u32,
    /// Payloads from this size on go into the pool; 0: there is none.
    threshold: u32,
    api: Api,
    /// Updates that are published, and with `batch` and `many` seen, together, if so many fit.
    piece: u32,
    runs: u32,
    /// The first consumer reads, in another process.
    has_reader: bool,
};

const pool_bytes = 256 * 1024 * 1024;
/// Of a run, at least; and as many updates at most.
const run_bytes = 16 * 1024 * 1024;
const run_updates_max = 64 * 256;

/// Prints the sender's nanoseconds by update, and those of the first consumer's reading.
pub fn deliver(plan: Deliver) !void {
    if (plan.bytes > payload_max or plan.consumers == 0 or plan.consumers > consumers_max) return error.BadArgument;
    if (plan.runs == 0 or plan.runs > runs_max or plan.piece == 0 or plan.piece > batch) return error.BadArgument;
    const has_pool = plan.threshold > 0 and plan.bytes >= plan.threshold;
    var scene: Scene = try .create(.{
        .consumers = plan.consumers,
        .ring_bytes = plan.ring_bytes,
        .pool_bytes = if (has_pool) pool_bytes else 0,
        .threshold = plan.threshold,
    });
    const key = keyOf(7);
    for (scene.consumers) |*consumer| try scene.subscribe(consumer, &.{key}, &.{});
    // In pieces that fit half a ring, and half a pool, and stand in the near caches if they are small.
    const frame_size = qlaster.ring.paddedSize(head_size + if (has_pool) 0 else plan.bytes);
    const in_ring = plan.ring_bytes / 2 / frame_size;
    const in_pool = pool_bytes / 2 / @max(plan.bytes, 1);
    const piece = @max(1, @min(plan.piece, in_ring, if (has_pool) in_pool else batch));
    // A sender's updates come from anywhere: only small ones are hot when they are published.
    const updates: Updates = try .create(plan.bytes, piece);
    for (0..piece) |i| updates.body(i).pubkey = key;
    const pieces = @min(pieces_max, @max(16, @min(run_updates_max, run_bytes / @max(plan.bytes, 256)) / piece));

    const words = try process.sharedWords(4 + 2 * runs_max);
    const sync = words[0..2];
    const read_times = words[4..][0..plan.runs];
    var times: [runs_max]u64 = undefined;
    var child: i32 = 0;
    if (plan.has_reader) {
        const self = try process.split();
        if (self.role == .far) process.finish(readAll(&scene, sync, read_times, pieces * (warm_up_runs + plan.runs), pieces, piece));
        child = self.child;
    } else process.pin(process.core_near);

    var spent: Pieces = .{};
    var round: u64 = 0;
    for (0..warm_up_runs + plan.runs) |run| {
        for (0..pieces) |_| {
            const started = now();
            try publishSome(scene.engine, &updates, piece, plan.api, @intCast(piece * plan.consumers));
            spent.add(now() - started);
            scene.empty(if (plan.has_reader) 1 else 0);
            round += 1;
            if (!plan.has_reader) continue;
            @atomicStore(u64, &sync[0], round, .release);
            while (@atomicLoad(u64, &sync[1], .acquire) != round) std.atomic.spinLoopHint();
        }
        const typical = spent.median();
        if (run >= warm_up_runs) times[run - warm_up_runs] = typical;
    }
    if (plan.has_reader) try process.join(child);
    report.lists(&.{
        .{ .name = "publishNs", .values = times[0..plan.runs], .divisor = piece },
        .{ .name = "readNs", .values = if (plan.has_reader) read_times else &.{}, .divisor = piece },
    });
}

/// The far side: reads each piece as soon as all of it is there, one byte of each cache line.
fn readAll(scene: *Scene, sync: []u64, times: []u64, rounds: usize, pieces: usize, piece: usize) !void {
    var end: connection.ConsumerEnd = undefined;
    if (scene.join(scene.consumers[0].passed, &end) < 0) return error.JoinFailed;
    var records: [batch]layout.PollRecord = undefined;
    var spent: Pieces = .{};
    for (1..rounds + 1) |round| {
        while (@atomicLoad(u64, &sync[0], .acquire) != round) std.atomic.spinLoopHint();
        const started = now();
        var sum: u64 = 0;
        var left = piece;
        while (left > 0) {
            const found = try end.ring.poll(records[0..@min(left, records.len)]);
            var size: u64 = 0;
            for (records[0..found]) |record| {
                const payload = end.ring.data[record.payload_offset..][0..record.payload_length];
                var at: usize = 0;
                while (at < payload.len) : (at += 64) sum += payload[at];
                size += record.ring_bytes;
            }
            try end.ring.release(size);
            left -= found;
        }
        spent.add(now() - started);
        const run = (round - 1) / pieces;
        if (round % pieces == 0) {
            const typical = spent.median();
            if (run >= warm_up_runs) times[run - warm_up_runs] = typical;
        }
        if (sum == 0 and end.ring.cursor == 0) return error.NothingRead;
        @atomicStore(u64, &sync[1], round, .release);
    }
}

pub const Index = struct {
    keys: u32,
    consumers: u32,
    runs: u32,
    /// Whether each update is one that a consumer wants.
    matches: bool,
    api: Api,
    /// Accounts that are remembered, as where a filter can be left; 0: none.
    tracked: u32,
};

const index_pieces = 512;

/// Prints nanoseconds by update: with one key in the index, and with all. Updates are fresh in the cache, as what a
/// decoder has just made; their keys are random, so that the index never is.
pub fn index(plan: Index) !void {
    if (plan.runs == 0 or plan.runs > runs_max or plan.consumers == 0 or plan.consumers > consumers_max) return error.BadArgument;
    process.pin(process.core_near);
    var few: Scene = try .create(.{ .consumers = 1, .ring_bytes = 256 * 1024, .tracked_max = plan.tracked });
    var all: Scene = try .create(.{ .consumers = plan.consumers, .ring_bytes = 256 * 1024, .tracked_max = plan.tracked });
    // An owner makes a filter one that can be left: its accounts are remembered.
    if (plan.matches) try few.subscribe(&few.consumers[0], &.{keyOf(0)}, if (plan.tracked > 0) &.{keyOf(1 << 40)} else &.{});
    const group = 64;
    var keys: [group]Key = undefined;
    var at: u64 = 0;
    while (at < plan.keys) : (at += group) {
        const count: usize = @min(group, plan.keys - at);
        for (keys[0..count], 0..) |*key, i| key.* = keyOf(at + i);
        try all.subscribe(&all.consumers[at / group % plan.consumers], keys[0..count], &.{});
    }
    // And an owner each, so that both tables are asked.
    for (all.consumers, 0..) |*consumer, i| try all.subscribe(consumer, &.{}, &.{keyOf(1 << 40 | i)});

    const wanted = try allocator.alloc(Key, index_pieces * batch);
    const updates: Updates = try .create(165, batch);
    var prng: std.Random.DefaultPrng = .init(42);
    var times: [2][runs_max]u64 = undefined;
    var spent: Pieces = .{};
    for (0..warm_up_runs + plan.runs) |run| {
        for (wanted, 0..) |*key, i| key.* = if (plan.matches)
            keyOf(prng.random().uintLessThan(u32, plan.keys))
        else
            keyOf(1 << 50 | run * wanted.len + i);
        for ([_]*Scene{ &few, &all }, 0..) |scene, which| {
            for (0..index_pieces) |piece| {
                for (0..batch) |i| {
                    updates.body(i).pubkey = if (plan.matches and which == 0) keyOf(0) else wanted[piece * batch + i];
                    updates.body(i).owner = keyOf(1 << 60 | i);
                }
                const started = now();
                try publishSome(scene.engine, &updates, batch, plan.api, if (plan.matches) batch else 0);
                spent.add(now() - started);
                if (which == 0 or piece % 128 == 127) scene.empty(0);
            }
            const typical = spent.median();
            if (run >= warm_up_runs) times[which][run - warm_up_runs] = typical;
        }
    }
    report.lists(&.{
        .{ .name = "fewNs", .values = times[0][0..plan.runs], .divisor = batch },
        .{ .name = "allNs", .values = times[1][0..plan.runs], .divisor = batch },
    });
}
