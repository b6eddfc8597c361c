//! engine_stress.zig: threads publish through one fan-out while another asks its rings for figures, ends, removes, sweeps
//! and makes consumers anew, and yet others read: all at once, for as long as it takes to do that many things.
//! Usage: engine-stress [steps] [seed]. Exit code 0: nobody looked corrupt, every reader saw one order and whole payloads,
//! and nothing is left.
//! What it is for: `ring_info` and `ring_end` take turns with publishers by the engine's lock (`RingTurn` in exports/rings.zig).
//! Without that, cursors that are looked at in the middle of a publish make sound consumers look corrupt.

const std = @import("std");
const qlaster = @import("qlaster");
const layout = qlaster.layout;
const Atomic = std.atomic.Value;

const capacity = layout.capacity_bytes_min;
const pool_bytes = 4 << 20;
const pool_threshold = 2048;
const publishers_count = 3;
const readers_count = 3;
const accounts = 16;
const looks = 200;
const head_size = @sizeOf(layout.FrameHeader) + @sizeOf(layout.AccountBody);
const payload_max = 6000;
const Code = i32;

// The door, as the runtimes call it.
extern fn qlaster_close(handle: u32) Code;
extern fn qlaster_fd_close(fd: i32) Code;
extern fn qlaster_wake_create(out: *align(4) [2]i32) Code;
extern fn qlaster_wake_open(fd: i32) Code;
extern fn qlaster_ring_create(capacity_bytes: u32, reserved_bytes: u32, connection_id: f64, sender_id: *align(1) const [16]u8, passed: *align(4) [2]i32) Code;
extern fn qlaster_ring_join(ring_fd: i32, page_fd: i32, pool_fd: i32, capacity_bytes: u32, pool_bytes: u32, uid: u32) Code;
extern fn qlaster_ring_attach(handle: u32, wake: u32) Code;
extern fn qlaster_ring_address(handle: u32) f64;
extern fn qlaster_ring_info(handle: u32, out: *align(8) layout.RingInfo) Code;
extern fn qlaster_ring_end(handle: u32, reason: u32) Code;
extern fn qlaster_ring_poll(handle: u32, records: [*]align(4) layout.PollRecord, count: u32) Code;
extern fn qlaster_ring_release(handle: u32, size: u32) Code;
extern fn qlaster_fanout_create(options: *align(4) const layout.FanoutOptions) Code;
extern fn qlaster_fanout_pool_fd(handle: u32) Code;
extern fn qlaster_fanout_add(handle: u32, ring: u32, options: *align(4) const layout.FanoutConsumer) Code;
extern fn qlaster_fanout_remove(handle: u32, id: u32, is_gone: u32) Code;
extern fn qlaster_fanout_sweep(handle: u32, elapsed_ms: u32) Code;
extern fn qlaster_fanout_edit(handle: u32, id: u32, body: [*]const u8, length: u32) Code;
extern fn qlaster_fanout_publish(handle: u32, head: [*]align(8) u8, head_length: u32, tail: [*]const u8, tail_length: u32, is_batch: u32) Code;
extern fn qlaster_fanout_commit(handle: u32) Code;
extern fn qlaster_fanout_flush(handle: u32, id: u32) Code;
extern fn qlaster_fanout_mark(handle: u32, id: u32, head: [*]align(8) u8, head_length: u32) Code;
extern fn qlaster_fanout_event(handle: u32) Code;
extern fn qlaster_fanout_info(handle: u32, out: *align(8) layout.FanoutInfo) Code;
extern fn qlaster_fanout_consumer_info(handle: u32, id: u32, out: *align(8) layout.FanoutConsumerInfo) Code;

var fanout: u32 = 0;
var is_over: Atomic(bool) = .init(false);
var failures: Atomic(u32) = .init(0);
var published: Atomic(u64) = .init(0);
var read: Atomic(u64) = .init(0);

fn fail(comptime format: []const u8, values: anytype) void {
    std.debug.print("stress: " ++ format ++ "\n", values);
    _ = failures.fetchAdd(1, .monotonic);
    is_over.store(true, .monotonic);
}

fn expect(code: Code, comptime what: []const u8) u32 {
    if (code >= 0) return @intCast(code);
    fail(what ++ " gave {d}", .{code});
    std.process.exit(1);
}

fn keyOf(number: u64) [32]u8 {
    var key: [32]u8 = @splat(7);
    std.mem.writeInt(u64, key[0..8], number, .little);
    return key;
}

/// Its updates say who published them, and the how-manieth each is: the rest of a payload repeats the latter's last byte.
fn publish(number: u64, seed: u64) void {
    var prng = std.Random.DefaultPrng.init(seed +% number);
    const random = prng.random();
    var head: [head_size]u8 align(8) = @splat(0);
    const header: *layout.FrameHeader = @ptrCast(&head);
    const body: *layout.AccountBody = @ptrCast(@alignCast(head[@sizeOf(layout.FrameHeader)..]));
    header.kind = @backingInt(layout.FrameKind.account);
    var payload: [payload_max]u8 = undefined;
    var count: u64 = 0;
    while (!is_over.load(.monotonic)) {
        count += 1;
        // Log-uniform: mostly small, now and then so large that it goes into the pool.
        const bits = random.uintAtMost(u5, 12);
        const length = 16 + @min(payload_max - 16, random.uintLessThan(u32, @as(u32, 1) << bits));
        @memset(payload[0..length], @truncate(count));
        std.mem.writeInt(u64, payload[0..8], number, .little);
        std.mem.writeInt(u64, payload[8..16], count, .little);
        body.pubkey = keyOf(random.uintLessThan(u64, accounts));
        body.data_length = length;
        const is_batch = random.uintLessThan(u32, 3) > 0;
        if (qlaster_fanout_publish(fanout, &head, head.len, &payload, length, @intFromBool(is_batch)) < 0) fail("a publish was refused", .{});
        if (is_batch and random.uintLessThan(u32, 8) == 0) _ = qlaster_fanout_commit(fanout);
        if (random.uintLessThan(u32, 64) == 0) std.Thread.yield() catch {};
    }
    _ = qlaster_fanout_commit(fanout);
    _ = published.fetchAdd(count, .monotonic);
}

/// One consumer at a time: made and ended by the sender's thread, read by a thread of its own.
const Seat = struct {
    state: Atomic(State) = .init(.empty),
    consumer: u32 = 0,
    producer: u32 = 0,
    id: u32 = 0,
    is_removed: bool = false,

    const State = enum(u8) { empty, live, read_to_the_end, over };
};

fn readSeat(seat: *Seat) void {
    while (true) {
        // Acquire: pairs with the release in `connect`.
        switch (seat.state.load(.acquire)) {
            .live => {
                readToTheEnd(seat.consumer) catch |err| fail("a reader: {t}", .{err});
                // Release: pairs with the acquire in `step`: we are done with the handle.
                seat.state.store(.read_to_the_end, .release);
            },
            .over => return,
            else => std.Thread.yield() catch {},
        }
    }
}

fn readToTheEnd(consumer: u32) !void {
    const data: [*]const u8 = @ptrFromInt(@as(usize, @intFromFloat(qlaster_ring_address(consumer))));
    var records: [32]layout.PollRecord = undefined;
    var sequence: u64 = 0;
    var counts: [publishers_count]u64 = @splat(0);
    while (true) {
        const found = qlaster_ring_poll(consumer, &records, records.len);
        if (found == @backingInt(layout.Status.end_of_stream)) return;
        if (found < 0) return error.PollFailed;
        if (found == 0) std.Thread.yield() catch {};
        var bytes: u32 = 0;
        var is_whole = true;
        var is_ordered = true;
        for (records[0..@intCast(found)]) |record| {
            bytes += record.ring_bytes;
            const header: *const layout.FrameHeader = @ptrCast(@alignCast(data + record.frame_offset));
            const is_update = record.kind == @backingInt(layout.FrameKind.account);
            if (header.sequence < sequence or (is_update and header.sequence == sequence)) return error.OutOfOrder;
            sequence = header.sequence;
            if (!is_update) continue;
            const payload = data[record.payload_offset..][0..record.payload_length];
            const number = std.mem.readInt(u64, payload[0..8], .little);
            const count = std.mem.readInt(u64, payload[8..16], .little);
            const last: u8 = @truncate(count);
            for (payload[16..]) |byte| is_whole = is_whole and byte == last;
            if (number >= publishers_count) {
                is_whole = false;
                continue;
            }
            is_ordered = is_ordered and count > counts[number];
            counts[number] = count;
        }
        _ = read.fetchAdd(@intCast(found), .monotonic);
        const released = qlaster_ring_release(consumer, bytes);
        if (released == @backingInt(layout.Status.revoked)) {
            // What was read last may have been overwritten: that is the end of it, once the sender says so, too.
            while (qlaster_ring_poll(consumer, &records, 1) >= 0) {}
            return;
        }
        if (released != 0) return error.ReleaseFailed;
        // Judged only now: what had been overwritten would look like anything, and so would all behind it.
        if (!is_whole) return error.WrongBytes;
        if (!is_ordered) return error.PublisherOutOfOrder;
    }
}

fn connect(seat: *Seat, wake: u32, random: std.Random) void {
    var passed: [2]i32 = undefined;
    seat.producer = expect(qlaster_ring_create(capacity, layout.reserved_bytes_min, 1, &@splat(3), &passed), "ring_create");
    const pool_fd = expect(qlaster_fanout_pool_fd(fanout), "fanout_pool_fd");
    seat.consumer = expect(qlaster_ring_join(passed[0], passed[1], @intCast(pool_fd), capacity, pool_bytes, qlaster.region.uid_any), "ring_join");
    _ = expect(qlaster_ring_attach(seat.consumer, wake), "ring_attach");
    _ = expect(qlaster_ring_attach(seat.producer, wake), "ring_attach");
    const policies = [_]layout.Policy{ .disconnect, .drop_newest, .drop_oldest, .conflate };
    const policy: u32 = @backingInt(policies[random.uintLessThan(usize, policies.len)]);
    var options = std.mem.zeroes(layout.FanoutConsumer);
    options.seed = @splat(5);
    options.policy = @intCast(policy);
    options.transaction_policy = @intCast(policy);
    options.backlog_bytes = 64 * 1024;
    options.pool_bytes = pool_bytes / 4;
    seat.id = expect(qlaster_fanout_add(fanout, seat.producer, &options), "fanout_add");
    var body: [@sizeOf(layout.FilterBody) + 32 * accounts]u8 align(8) = @splat(0);
    const head: *layout.FilterBody = @ptrCast(&body);
    head.op = @backingInt(layout.FilterOp.add);
    head.is_last = 1;
    head.account_count = accounts;
    for (0..accounts) |i| body[@sizeOf(layout.FilterBody) + 32 * i ..][0..32].* = keyOf(i);
    _ = expect(qlaster_fanout_edit(fanout, seat.id, &body, body.len), "fanout_edit");
    seat.is_removed = false;
    // Release: pairs with the acquire in `readSeat`.
    seat.state.store(.live, .release);
}

/// As TypeScript does it: the last words, the end, then the engine forgets it. Its reader may take its time.
fn endSeat(seat: *Seat, random: std.Random) void {
    if (seat.is_removed) return;
    seat.is_removed = true;
    var goodbye: [@sizeOf(layout.FrameHeader) + @sizeOf(layout.GoodbyeBody)]u8 align(8) = @splat(0);
    @as(*layout.FrameHeader, @ptrCast(&goodbye)).kind = @backingInt(layout.FrameKind.goodbye);
    if (random.boolean()) _ = qlaster_fanout_mark(fanout, seat.id, &goodbye, goodbye.len);
    look(seat);
    _ = expect(qlaster_ring_end(seat.producer, @backingInt(layout.EndReason.slow_consumer)), "ring_end");
    look(seat);
    _ = expect(qlaster_fanout_remove(fanout, seat.id, 0), "fanout_remove");
    look(seat);
    if (qlaster_close(seat.producer) != 0) fail("a ring was closed already", .{});
}

/// The consumer is sound: its ring must look so at any moment.
fn look(seat: *const Seat) void {
    var info: layout.RingInfo = undefined;
    const code = qlaster_ring_info(seat.producer, &info);
    if (code != 0) return fail("ring_info gave {d}", .{code});
    if (info.consumer_cursor > info.producer_cursor) return fail("a consumer at {d} of {d}", .{ info.consumer_cursor, info.producer_cursor });
    if (info.producer_cursor - info.consumer_cursor > capacity) fail("{d} bytes in a ring", .{info.producer_cursor - info.consumer_cursor});
}

fn endGivenUp(seats: []Seat, random: std.Random) u32 {
    var ended: u32 = 0;
    while (true) : (ended += 1) {
        const event = qlaster_fanout_event(fanout);
        if (event < 0) return ended;
        if (event >> 16 != @backingInt(layout.EndReason.slow_consumer)) fail("a consumer was given up for {d}", .{event >> 16});
        for (seats) |*seat| if (!seat.is_removed and seat.state.load(.monotonic) != .empty and seat.id == event & 0xffff) endSeat(seat, random);
    }
}

fn step(seat: *Seat, wake: u32, random: std.Random) void {
    // Acquire: pairs with the release in `readSeat`.
    switch (seat.state.load(.acquire)) {
        .empty => return connect(seat, wake, random),
        .read_to_the_end => {
            endSeat(seat, random); // its reader failed, if it was not ended before
            if (qlaster_close(seat.consumer) != 0) fail("a consumer's end was closed already", .{});
            return seat.state.store(.empty, .monotonic);
        },
        else => if (seat.is_removed) return,
    }
    switch (random.uintLessThan(u32, 100)) {
        // Many at a time: the moment in which a publish would matter is short.
        0...59 => for (0..looks) |_| look(seat),
        60...74 => _ = qlaster_fanout_flush(fanout, seat.id),
        75...84 => {
            var info: layout.FanoutConsumerInfo = undefined;
            _ = expect(qlaster_fanout_consumer_info(fanout, seat.id, &info), "fanout_consumer_info");
        },
        85...89 => {
            var info: layout.FanoutInfo = undefined;
            _ = expect(qlaster_fanout_info(fanout, &info), "fanout_info");
        },
        90...94 => {
            var mark: [@sizeOf(layout.FrameHeader) + @sizeOf(layout.FilterMarkBody)]u8 align(8) = @splat(0);
            @as(*layout.FrameHeader, @ptrCast(&mark)).kind = @backingInt(layout.FrameKind.filter);
            _ = qlaster_fanout_mark(fanout, seat.id, &mark, mark.len);
        },
        95...97 => _ = qlaster_fanout_sweep(fanout, 0),
        else => if (random.uintLessThan(u32, 10) == 0) endSeat(seat, random),
    }
}

fn argument(args: *std.process.Args.Iterator, default: u64) !u64 {
    const text = args.next() orelse return default;
    return std.fmt.parseInt(u64, text, 10);
}

pub fn main(init: std.process.Init.Minimal) !void {
    var args = init.args.iterate();
    _ = args.next();
    const steps = try argument(&args, 200_000);
    const seed = try argument(&args, 1);
    qlaster.platform.init();
    var options = std.mem.zeroes(layout.FanoutOptions);
    options.seed = @splat(9);
    options.keys_max = 1000;
    options.keys_per_consumer_max = 1000;
    options.pool_bytes = pool_bytes;
    options.pool_threshold = pool_threshold;
    options.stall_ms = 10_000;
    fanout = expect(qlaster_fanout_create(&options), "fanout_create");
    var pair: [2]i32 = undefined;
    _ = expect(qlaster_wake_create(&pair), "wake_create");
    const wake = expect(qlaster_wake_open(pair[1]), "wake_open");

    const started = qlaster.platform.monotonicNs();
    var seats: [readers_count]Seat = @splat(.{});
    var threads: [publishers_count + readers_count]std.Thread = undefined;
    for (0..publishers_count) |i| threads[i] = try std.Thread.spawn(.{}, publish, .{ i, seed });
    for (&seats, publishers_count..) |*seat, i| threads[i] = try std.Thread.spawn(.{}, readSeat, .{seat});
    var prng = std.Random.DefaultPrng.init(seed);
    const random = prng.random();
    var given_up: u32 = 0;
    var done: u64 = 0;
    while (done < steps and !is_over.load(.monotonic)) : (done += 1) {
        step(&seats[random.uintLessThan(usize, seats.len)], wake, random);
        given_up += endGivenUp(&seats, random);
        // As a thread with an event loop: the others get their turns.
        if (random.uintLessThan(u32, 8) == 0) std.Thread.yield() catch {};
    }
    is_over.store(true, .monotonic);
    for (threads[0..publishers_count]) |thread| thread.join();
    for (&seats) |*seat| {
        if (seat.state.load(.acquire) != .empty) {
            endSeat(seat, random);
            while (seat.state.load(.acquire) == .live) std.Thread.yield() catch {};
            _ = qlaster_close(seat.consumer);
        }
        seat.state.store(.over, .release);
    }
    for (threads[publishers_count..]) |thread| thread.join();
    for ([_]u32{ fanout, wake }) |handle| if (qlaster_close(handle) != 0) fail("a handle was closed already", .{});
    _ = qlaster_fd_close(pair[0]);
    if (qlaster.handles.liveCount() != 0) fail("{d} handles are left", .{qlaster.handles.liveCount()});
    const elapsed_ms = (qlaster.platform.monotonicNs() - started) / std.time.ns_per_ms;
    const failed: u32 = if (failures.load(.monotonic) == 0) 0 else 1;
    std.debug.print("engine stress: {d} steps, {d} updates, {d} frames read, {d} consumers given up, {d} ms, seed {d}\n{d} passed, {d} failed\n", .{
        done, published.load(.monotonic), read.load(.monotonic), given_up, elapsed_ms, seed, 1 - failed, failed,
    });
    if (failed != 0) return error.StressFailed;
}
