//! latency.zig: one-way latency without a runtime: our ring (spinning or parked), and the kernel's own wake-ups.
//! May touch: a ring, a pipe or a socket pair, the clock. May not touch: event loops.
//! A sample is the time from just before the message is handed over to just after it was read, both CLOCK_REALTIME.

const std = @import("std");
const qlaster = @import("qlaster");
const layout = qlaster.layout;
const connection = qlaster.connection;
const frame = @import("frame.zig");
const process = @import("process.zig");
const report = @import("report.zig");
const linux = std.os.linux;

pub const Strategy = enum { spin, park };
pub const Channel = enum { pipe, pair };

const payload_size = 165;
const stamp_at = 8;
const warm_up = 100;
const samples_max = 1_000_000;

fn now() u64 {
    return qlaster.platform.realtimeNs();
}

/// Keeps the sender's core busy, as the TypeScript senders do.
fn waitUntil(time: u64) void {
    while (now() < time) std.atomic.spinLoopHint();
}

pub fn ring(strategy: Strategy, gap_us: u32, samples: u32) !void {
    const ages = try agesOf(samples);
    var ends = try frame.Ends.create();
    var wake: [2]i32 = undefined;
    if (qlaster.wake.create(&wake) < 0) return error.WakeFailed;
    const self = try process.split();
    if (self.role == .far) process.finish(receive(&ends, strategy, wake[0], ages));
    ends.producer.wake = .{ .fd = wake[1] };

    var payload: [payload_size]u8 = undefined;
    var template: frame.Template = .init(&payload);
    var next = now() + std.time.ns_per_ms * 20; // the other process is forked, joined and waiting by then
    for (1..warm_up + ages.len + 1) |sequence| {
        waitUntil(next);
        template.number(sequence);
        const stamp = now();
        std.mem.writeInt(u64, payload[stamp_at..][0..8], stamp, .little);
        try ends.producer.ring.offer(&.{ .head = &template.head, .parts = &.{&payload}, .publish_ns = stamp });
        frame.publish(&ends.producer);
        next = stamp + @as(u64, gap_us) * std.time.ns_per_us;
    }
    try process.join(self.child);
    report.lists(&.{.{ .name = "samples", .values = ages }});
}

fn agesOf(samples: u32) ![]u64 {
    if (samples == 0 or samples > samples_max) return error.BadArgument;
    return process.sharedWords(samples);
}

fn receive(ends: *frame.Ends, strategy: Strategy, wake_fd: i32, ages: []u64) !void {
    var end = try ends.join();
    var records: [frame.batch_max]layout.PollRecord = undefined;
    var sequence: u64 = 1;
    while (sequence <= warm_up + ages.len) {
        const found = try end.ring.poll(&records);
        for (records[0..found]) |record| {
            const read = now();
            const payload = end.ring.data[record.payload_offset..][0..record.payload_length];
            if (!frame.check(payload, sequence)) return error.WrongMessage;
            const stamp = std.mem.readInt(u64, payload[stamp_at..][0..8], .little);
            if (sequence > warm_up) ages[sequence - warm_up - 1] = read - stamp;
            sequence += 1;
            try end.ring.release(record.ring_bytes);
        }
        if (found > 0) continue;
        switch (strategy) {
            .spin => std.atomic.spinLoopHint(),
            .park => if (end.ring.park()) {
                try waitReadable(wake_fd);
                var drain: [256]u8 = undefined;
                _ = linux.read(wake_fd, &drain, drain.len);
                end.ring.unpark();
            },
        }
    }
}

fn waitReadable(fd: i32) !void {
    var ready: [1]linux.pollfd = .{.{ .fd = fd, .events = linux.POLL.IN, .revents = 0 }};
    if (linux.poll(&ready, 1, 10_000) != 1) return error.WakeLost;
}

/// `poll`, then `read`, of a message that travels through the kernel: what no event loop can beat.
pub fn descriptors(channel: Channel, gap_us: u32, samples: u32) !void {
    const ages = try agesOf(samples);
    var fds: [2]i32 = undefined;
    const opened = switch (channel) {
        .pipe => linux.pipe2(&fds, .{}),
        .pair => linux.socketpair(linux.AF.UNIX, linux.SOCK.STREAM, 0, &fds),
    };
    if (opened != 0) return error.OpenFailed;
    const self = try process.split();
    if (self.role == .far) process.finish(receiveBytes(fds[0], ages));
    var message: [payload_size]u8 = @splat(1);
    var next = now() + std.time.ns_per_ms * 20;
    for (0..warm_up + ages.len) |_| {
        waitUntil(next);
        const stamp = now();
        std.mem.writeInt(u64, message[stamp_at..][0..8], stamp, .little);
        if (linux.write(fds[1], &message, message.len) != message.len) return error.WriteFailed;
        next = stamp + @as(u64, gap_us) * std.time.ns_per_us;
    }
    try process.join(self.child);
    report.lists(&.{.{ .name = "samples", .values = ages }});
}

fn receiveBytes(fd: i32, ages: []u64) !void {
    var message: [payload_size]u8 = undefined;
    for (0..warm_up + ages.len) |i| {
        var filled: usize = 0;
        while (filled < message.len) {
            try waitReadable(fd);
            const count: isize = @bitCast(linux.read(fd, message[filled..].ptr, message.len - filled));
            if (count <= 0) return error.ReadFailed;
            filled += @intCast(count);
        }
        const read = now();
        const stamp = std.mem.readInt(u64, message[stamp_at..][0..8], .little);
        if (i >= warm_up) ages[i - warm_up] = read - stamp;
    }
}
