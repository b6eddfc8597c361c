//! index_bench.zig: what does a lookup in the filter index cost? ns per update (a probe for its key and one for its
//! owner), for 1,024 consumers and uniform random keys. Usage: index-bench [keys] [case]. Rival: the same work in the
//! same run with a `std.AutoHashMap` under the standard library's hash, which is not keyed.
//! May touch: memory, clocks. The inputs are made beforehand; answers are checked.
//! With [case], 0 to 2, only one short run of each way, for instruction counts: with this file and zig/root.zig built by
//! zig build-exe -fno-strip: valgrind --tool=callgrind --toggle-collect='*runBatches*' ./index-bench 100000 0.

const std = @import("std");
const qlaster = @import("qlaster");
const key_index = qlaster.key_index;
const Key = key_index.Key;
const KeyIndex = key_index.KeyIndex;
const now = qlaster.platform.monotonicNs;

const consumers = 1024;
const batch = key_index.batch_max;
/// More than the caches hold, each with its own keys.
const update_count = 1 << 20;
/// Updates in a run. Runs are short and many, so that on a busy machine some of them are not interrupted, and no run
/// finds in the caches what an earlier one read.
const run_size = 1 << 13;
const run_count = update_count / run_size;

const allocator = std.heap.page_allocator;

/// As random as the keys of Solana, and made from a number.
fn keyOf(number: u64) Key {
    var prng: std.Random.SplitMix64 = .init(number);
    var words: [4]u64 = undefined;
    for (&words) |*word| word.* = prng.next();
    return @bitCast(words);
}

const Update = struct { account: Key, owner: Key };

const Case = struct { name: []const u8, account_hits: bool, owner_hits: bool };

const cases = [_]Case{
    .{ .name = "nobody matches", .account_hits = false, .owner_hits = false },
    .{ .name = "its key matches", .account_hits = true, .owner_hits = false },
    .{ .name = "key and owner match", .account_hits = true, .owner_hits = true },
};

fn makeUpdates(out: []Update, case: Case, key_count: u32) void {
    var prng: std.Random.DefaultPrng = .init(42);
    const random = prng.random();
    for (out, 0..) |*update, i| {
        const missing = 1 << 40 | i;
        update.account = keyOf(if (case.account_hits) random.uintLessThan(u32, key_count) else missing);
        update.owner = keyOf(if (case.owner_hits) 1 << 32 | @as(u64, random.uintLessThan(u32, key_count)) else 1 << 41 | i);
    }
}

noinline fn runBatches(index: *const KeyIndex, updates: []const Update) u64 {
    var accounts: [batch]*const Key = undefined;
    var owners: [batch]*const Key = undefined;
    var of_accounts: [batch]key_index.SetId = undefined;
    var of_owners: [batch]key_index.SetId = undefined;
    var out: [key_index.consumer_count_max]u16 = undefined;
    var delivered: u64 = 0;
    var at: usize = 0;
    while (at < updates.len) : (at += batch) {
        for (updates[at..][0..batch], &accounts, &owners) |*update, *account, *owner| {
            account.* = &update.account;
            owner.* = &update.owner;
        }
        index.lookupBatch(.account, &accounts, &of_accounts);
        index.lookupBatch(.owner, &owners, &of_owners);
        for (of_accounts, of_owners) |a, b| delivered += index.unionOf(a, b, &out).len;
    }
    return delivered;
}

noinline fn runSingles(index: *const KeyIndex, updates: []const Update) u64 {
    var out: [key_index.consumer_count_max]u16 = undefined;
    var delivered: u64 = 0;
    for (updates) |*update| {
        // What a publish does next depends on the answer: nothing of the next update may begin before.
        const found = index.lookupPair(&update.account, &update.owner);
        delivered += index.unionOf(found[0], found[1], &out).len;
        asm volatile ("" ::: .{ .memory = true });
    }
    return delivered;
}

const Rival = std.AutoHashMap(Key, u32);

noinline fn runRival(accounts: *const Rival, owners: *const Rival, updates: []const Update) u64 {
    var delivered: u64 = 0;
    for (updates) |*update| {
        delivered += @intFromBool(accounts.get(update.account) != null);
        delivered += @intFromBool(owners.get(update.owner) != null);
    }
    return delivered;
}

fn report(name: []const u8, way: []const u8, times: []u64) void {
    std.mem.sort(u64, times, {}, std.sort.asc(u64));
    const per = @as(f64, run_size);
    std.debug.print("{s:<22} {s:<10} min {d:>7.1}  median {d:>7.1}  max {d:>7.1} ns an update\n", .{
        name,                                                way,                                                 @as(f64, @floatFromInt(times[0])) / per,
        @as(f64, @floatFromInt(times[times.len / 2])) / per, @as(f64, @floatFromInt(times[times.len - 1])) / per,
    });
}

fn fill(index: *KeyIndex, key_count: u32) !void {
    for ([_]key_index.Kind{ .account, .owner }) |kind| {
        var total: u64 = 0;
        var longest: u64 = 0;
        var k: u64 = 0;
        var keys: [batch]Key = undefined;
        var pointers: [batch]*const Key = undefined;
        for (&keys, &pointers) |*key, *pointer| pointer.* = key;
        while (k < key_count) {
            // Few updates have a consumer that wants both their key and their owner.
            const consumer: u16 = @intCast((k / batch + @as(u64, @backingInt(kind)) * consumers / 2) % consumers);
            const count: usize = @min(batch, key_count - k);
            for (keys[0..count]) |*key| {
                key.* = keyOf(@as(u64, @backingInt(kind)) << 32 | k);
                k += 1;
            }
            const before = now();
            _ = try index.addBatch(kind, pointers[0..count], consumer);
            const took = now() - before;
            longest = @max(longest, took);
            total += took;
        }
        std.debug.print("{t}: {d} keys added, {d} ns each, the longest batch of {d} {d} us\n", .{
            kind, key_count, total / key_count, batch, longest / 1000,
        });
    }
}

/// A consumer that wants everything is added, then leaves in steps of about 20 us.
fn sweepOne(index: *KeyIndex, key_count: u32) !void {
    const consumer = consumers;
    try index.admit(consumer);
    const count = @min(key_count, 1_000_000);
    var started = now();
    for (0..count) |k| {
        const key = keyOf(k);
        _ = try index.add(.account, &key, consumer);
    }
    std.debug.print("one consumer more for all keys: {d} ns a key\n", .{(now() - started) / count});
    try measureSweep(index, consumer, "its keys stay others'");

    try index.admit(consumer);
    started = now();
    for (0..count) |k| _ = try index.add(.owner, &keyOf(1 << 50 | k), consumer);
    std.debug.print("as many keys that nobody has: {d} ns a key\n", .{(now() - started) / count});
    try measureSweep(index, consumer, "its keys go with it");
}

fn measureSweep(index: *KeyIndex, consumer: u16, what: []const u8) !void {
    const started = now();
    var longest: u64 = 0;
    var steps: u32 = 0;
    while (true) {
        const before = now();
        const done = index.removeSome(consumer, 20_000);
        longest = @max(longest, now() - before);
        steps += 1;
        if (done) break;
    }
    std.debug.print("it leaves, {s}: {d} us in {d} steps, the longest {d} us\n", .{
        what, (now() - started) / 1000, steps, longest / 1000,
    });
}

fn residentKiB() !u64 {
    var buffer: [128]u8 = undefined;
    const fd = std.os.linux.open("/proc/self/statm", .{}, 0);
    const size = std.os.linux.read(@intCast(fd), &buffer, buffer.len);
    _ = std.os.linux.close(@intCast(fd));
    var fields = std.mem.tokenizeScalar(u8, buffer[0..size], ' ');
    _ = fields.next();
    return try std.fmt.parseInt(u64, fields.next().?, 10) * 4;
}

pub fn main(init: std.process.Init.Minimal) !void {
    var args = init.args.iterate();
    _ = args.next();
    const key_count: u32 = if (args.next()) |text| try std.fmt.parseInt(u32, text, 10) else 1_000_000;
    const only: ?usize = if (args.next()) |text| try std.fmt.parseInt(usize, text, 10) else null;
    qlaster.platform.init();

    const updates = try allocator.alloc(Update, if (only == null) update_count else run_size);
    const resident_before = try residentKiB();
    const index = try KeyIndex.create(.{ .seed = .{ 0x0123456789abcdef, 0xfedcba9876543210 } });
    defer index.destroy();
    for (0..consumers) |consumer| try index.admit(@intCast(consumer));
    try fill(index, key_count);
    const resident = try residentKiB() - resident_before;
    std.debug.print("{d} + {d} keys, {d} sets: {d} KiB resident, {d} bytes a key\n", .{
        index.keyCount(.account), index.keyCount(.owner), index.sets.set_count, resident, resident * 1024 / (2 * key_count),
    });

    var rivals: [2]Rival = .{ .init(allocator), .init(allocator) };
    if (only == null) for (&rivals, 0..) |*rival, kind| {
        try rival.ensureTotalCapacity(key_count);
        for (0..key_count) |k| rival.putAssumeCapacity(keyOf(@as(u64, kind) << 32 | k), 1);
    };

    for (cases, 0..) |case, number| {
        if (only) |wanted| if (number != wanted) continue;
        makeUpdates(updates, case, key_count);
        var times: [3][run_count]u64 = undefined;
        var delivered: [3]u64 = @splat(0);
        for (0..if (only == null) 3 else 2) |way| {
            for (times[way][0 .. updates.len / run_size], 0..) |*time, run| {
                const some = updates[run * run_size ..][0..run_size];
                const started = now();
                delivered[way] += switch (way) {
                    0 => runBatches(index, some),
                    1 => runSingles(index, some),
                    else => runRival(&rivals[0], &rivals[1], some),
                };
                time.* = now() - started;
            }
        }
        if (delivered[0] != delivered[1]) return error.WrongAnswer;
        if (only != null) return;
        const expected = updates.len * (@as(u64, @intFromBool(case.account_hits)) + @intFromBool(case.owner_hits));
        if (delivered[2] != expected) return error.WrongAnswer;
        // A consumer of both the key and the owner gets an update once.
        if (delivered[0] > expected or delivered[0] < expected * 99 / 100) return error.WrongAnswer;
        report(case.name, "batch 64", &times[0]);
        report(case.name, "single", &times[1]);
        report(case.name, "AutoHashMap", &times[2]);
    }
    try sweepOne(index, key_count);
}
