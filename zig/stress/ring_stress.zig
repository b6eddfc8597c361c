//! ring_stress.zig: two real processes pass frames of random sizes through one small ring; the receiver checks each
//! sequence and each byte of the payload by a checksum. Usage: ring-stress [frames] [seed]. Exit code 0: all arrived.
//! Linux only: it forks, so that the two sides share nothing but the regions and a socket pair.

const std = @import("std");
const qlaster = @import("qlaster");
const layout = qlaster.layout;
const connection = qlaster.connection;
const linux = std.os.linux;

const capacity = 256 * 1024;
const payload_max = 8 * 1024;
/// How long nothing may come: a bound on hanging, since the other side may not be run for seconds.
const patience_ms = 60_000;
const head_size = @sizeOf(layout.FrameHeader) + @sizeOf(layout.AccountBody);

/// What both sides compute from the seed, without a word between them.
const Script = struct {
    prng: std.Random.DefaultPrng,

    fn next(script: *Script) struct { length: u32, pattern: u64 } {
        const random = script.prng.random();
        // Log-uniform: mostly small, now and then large.
        const bits = random.uintAtMost(u5, 13);
        const length = @min(payload_max, random.uintLessThan(u32, @as(u32, 1) << bits));
        return .{ .length = length, .pattern = random.int(u64) };
    }
};

fn fill(bytes: []u8, pattern: u64) void {
    for (bytes, 0..) |*byte, i| byte.* = @truncate((pattern >> @intCast(i % 8 * 8)) +% i);
}

fn check(bytes: []const u8, pattern: u64) bool {
    for (bytes, 0..) |byte, i| if (byte != @as(u8, @truncate((pattern >> @intCast(i % 8 * 8)) +% i))) return false;
    return true;
}

fn produce(end: *connection.ProducerEnd, frames: u64, seed: u64) !void {
    var script: Script = .{ .prng = .init(seed) };
    var batches = std.Random.DefaultPrng.init(seed +% 1);
    var head: [head_size]u8 align(8) = @splat(0);
    const header: *layout.FrameHeader = @ptrCast(&head);
    const body: *layout.AccountBody = @ptrCast(@alignCast(head[@sizeOf(layout.FrameHeader)..]));
    header.kind = @backingInt(layout.FrameKind.account);
    var payload: [payload_max]u8 = undefined;
    var in_batch: u32 = 0;
    for (1..frames + 1) |sequence| {
        const next = script.next();
        fill(payload[0..next.length], next.pattern);
        header.sequence = sequence;
        body.data_length = next.length;
        while (true) {
            end.ring.offer(&.{ .head = &head, .parts = &.{payload[0..next.length]}, .publish_ns = 1 }) catch |err| switch (err) {
                error.Full => {
                    publish(end);
                    in_batch = 0;
                    _ = linux.sched_yield();
                    continue;
                },
                else => return err,
            };
            break;
        }
        in_batch += 1;
        if (in_batch > batches.random().uintLessThan(u32, 16)) {
            publish(end);
            in_batch = 0;
        }
    }
    publish(end);
    _ = end.finish(.sender_closed);
}

fn publish(end: *connection.ProducerEnd) void {
    _ = end.ring.commit(0);
    qlaster.platform.storeLoadFence();
    _ = end.notifyIfParked();
}

fn consume(end: *connection.ConsumerEnd, wake_fd: i32, frames: u64, seed: u64) !struct { sleeps: u64 } {
    var script: Script = .{ .prng = .init(seed) };
    var records: [32]layout.PollRecord = undefined;
    var expected: u64 = 1;
    var sleeps: u64 = 0;
    while (true) {
        const count = end.ring.poll(&records) catch |err| switch (err) {
            error.EndOfStream => break,
            else => return err,
        };
        var bytes: u64 = 0;
        for (records[0..count]) |record| {
            const next = script.next();
            const header: *const layout.FrameHeader = @ptrCast(@alignCast(end.ring.data + record.frame_offset));
            if (header.sequence != expected) return error.WrongSequence;
            if (record.payload_length != next.length) return error.WrongLength;
            if (!check(end.ring.data[record.payload_offset..][0..record.payload_length], next.pattern)) return error.WrongBytes;
            expected += 1;
            bytes += record.ring_bytes;
        }
        try end.ring.release(bytes);
        if (count > 0 or end.spin(20) == 1) continue;
        if (!end.ring.park()) continue;
        var ready: [1]linux.pollfd = .{.{ .fd = wake_fd, .events = linux.POLL.IN, .revents = 0 }};
        const answer = linux.poll(&ready, 1, patience_ms);
        if (answer == 0) return error.WakeLost;
        var drain: [256]u8 = undefined;
        _ = linux.read(wake_fd, &drain, drain.len);
        end.ring.unpark();
        sleeps += 1;
    }
    if (expected != frames + 1) return error.FramesMissing;
    return .{ .sleeps = sleeps };
}

fn argument(args: *std.process.Args.Iterator, default: u64) !u64 {
    const text = args.next() orelse return default;
    return std.fmt.parseInt(u64, text, 10);
}

pub fn main(init: std.process.Init.Minimal) !void {
    var args = init.args.iterate();
    _ = args.next();
    const frames = try argument(&args, 1_000_000);
    const seed = try argument(&args, 1);

    var passed: [2]i32 = undefined;
    var producer: connection.ProducerEnd = undefined;
    const created = connection.ProducerEnd.create(.{
        .capacity_bytes = capacity,
        .reserved_bytes = 16 * 1024,
        .sender_id = @splat(0),
        .connection_id = 1,
    }, &passed, &producer);
    if (created < 0) return error.CreateFailed;
    var wake: [2]i32 = undefined;
    if (qlaster.wake.create(&wake) < 0) return error.WakeFailed;

    const started = qlaster.platform.monotonicNs();
    const child: isize = @bitCast(linux.fork());
    if (child < 0) return error.ForkFailed;
    if (child == 0) {
        producer.destroy();
        var consumer: connection.ConsumerEnd = undefined;
        if (connection.ConsumerEnd.join(passed[0], passed[1], null, capacity, qlaster.region.uid_any, &consumer) < 0) linux.exit_group(2);
        _ = qlaster.platform.close(wake[1]);
        const result = consume(&consumer, wake[0], frames, seed) catch |err| {
            std.debug.print("consumer: {t}\n", .{err});
            linux.exit_group(1);
        };
        std.debug.print("consumer: {d} frames, slept {d} times\n", .{ frames, result.sleeps });
        linux.exit_group(0);
    }
    _ = qlaster.platform.close(wake[0]);
    producer.wake = .{ .fd = wake[1] };
    try produce(&producer, frames, seed);
    var status: i32 = 0;
    _ = linux.wait4(@intCast(child), &status, 0, null);
    const elapsed_ms = (qlaster.platform.monotonicNs() - started) / std.time.ns_per_ms;
    const passed_count: u32 = if (status == 0) 1 else 0;
    std.debug.print("stress: {d} frames in {d} ms, seed {d}\n{d} passed, {d} failed\n", .{
        frames, elapsed_ms, seed, passed_count, 1 - passed_count,
    });
    if (status != 0) return error.StressFailed;
}
