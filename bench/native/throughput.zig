//! throughput.zig: what a frame costs from Zig to Zig on our ring: the same phases as bench/ring_throughput.ts.
//! May touch: both ends of a ring, the clock. May not touch: the door (exports.zig): it is what a floor leaves out.

const std = @import("std");
const qlaster = @import("qlaster");
const layout = qlaster.layout;
const connection = qlaster.connection;
const frame = @import("frame.zig");
const process = @import("process.zig");
const report = @import("report.zig");

const warm_up_runs = 2;
const runs_max = 32;
const fill_bytes = 56 * 1024 * 1024;
const stream_bytes = 256 * 1024 * 1024;
const stream_frames_max = 500_000;
const payload_max = 1024 * 1024;

const Plan = struct { bytes: u32, batch: u32, runs: u32, frame_size: u64, fill_frames: u64, stream_frames: u64 };

var payload_buffer: [payload_max]u8 = undefined;

pub fn run(bytes: u32, batch: u32, runs: u32) !void {
    if (bytes < 8 or bytes > payload_max or batch == 0 or runs == 0 or runs > runs_max) return error.BadArgument;
    const size = qlaster.ring.paddedSize(frame.head_size + bytes);
    const plan: Plan = .{
        .bytes = bytes,
        .batch = batch,
        .runs = runs,
        .frame_size = size,
        .fill_frames = fill_bytes / size,
        .stream_frames = @min(stream_frames_max, stream_bytes / size),
    };
    const words = try process.sharedWords(2 * runs_max);
    const drain = words[0..runs];
    const stream = words[runs_max..][0..runs];
    var fill_buffer: [runs_max]u64 = undefined;
    const fill = fill_buffer[0..runs];

    var ends = try frame.Ends.create();
    const self = try process.split();
    if (self.role == .far) process.finish(consumeAll(&ends, plan, drain, stream));
    try produceAll(&ends.producer, plan, fill);
    try process.join(self.child);
    report.lists(&.{
        .{ .name = "fillNs", .values = fill, .divisor = plan.fill_frames },
        .{ .name = "drainNs", .values = drain, .divisor = plan.fill_frames },
        .{ .name = "streamNs", .values = stream, .divisor = plan.stream_frames },
    });
}

fn produceAll(end: *connection.ProducerEnd, plan: Plan, fill: []u64) !void {
    var template: frame.Template = .init(payload_buffer[0..plan.bytes]);
    var sequence: u64 = 1;
    for (0..warm_up_runs + plan.runs) |i| {
        try waitUntilEmpty(end);
        const started = qlaster.platform.monotonicNs();
        try produce(end, &template, plan.batch, &sequence, plan.fill_frames);
        if (i >= warm_up_runs) fill[i - warm_up_runs] = qlaster.platform.monotonicNs() - started;
    }
    try waitUntilEmpty(end);
    try produce(end, &template, plan.batch, &sequence, (warm_up_runs + plan.runs) * plan.stream_frames);
}

fn waitUntilEmpty(end: *connection.ProducerEnd) !void {
    while (true) {
        try end.ring.sync();
        if (end.ring.used() == 0) return;
        process.pause();
    }
}

fn produce(end: *connection.ProducerEnd, template: *frame.Template, batch: u32, sequence: *u64, count: u64) !void {
    var in_batch: u32 = 0;
    var publish_ns = qlaster.platform.realtimeNs();
    for (0..count) |_| {
        template.number(sequence.*);
        sequence.* += 1;
        while (true) {
            end.ring.offer(&.{ .head = &template.head, .parts = &.{template.payload}, .publish_ns = publish_ns }) catch |err| switch (err) {
                error.Full => {
                    frame.publish(end);
                    in_batch = 0;
                    std.atomic.spinLoopHint();
                    continue;
                },
                else => return err,
            };
            break;
        }
        in_batch += 1;
        if (in_batch < batch) continue;
        frame.publish(end);
        in_batch = 0;
        publish_ns = qlaster.platform.realtimeNs(); // as the door does: one time for each batch
    }
    frame.publish(end);
}

fn consumeAll(ends: *frame.Ends, plan: Plan, drain: []u64, stream: []u64) !void {
    var end = try ends.join();
    var sequence: u64 = 1;
    for (0..warm_up_runs + plan.runs) |i| {
        const full = plan.fill_frames * plan.frame_size;
        while (end.ring.header.producer_cursor.load(.acquire) - end.ring.released != full) process.pause();
        const started = qlaster.platform.monotonicNs();
        try consume(&end, &sequence, plan.fill_frames);
        if (i >= warm_up_runs) drain[i - warm_up_runs] = qlaster.platform.monotonicNs() - started;
    }
    var started = qlaster.platform.monotonicNs();
    for (0..warm_up_runs + plan.runs) |i| {
        try consume(&end, &sequence, plan.stream_frames);
        const now = qlaster.platform.monotonicNs();
        if (i >= warm_up_runs) stream[i - warm_up_runs] = now - started;
        started = now;
    }
}

fn consume(end: *connection.ConsumerEnd, sequence: *u64, count: u64) !void {
    var records: [frame.batch_max]layout.PollRecord = undefined;
    var left = count;
    while (left > 0) {
        const found = try end.ring.poll(records[0..@min(left, records.len)]);
        if (found == 0) {
            std.atomic.spinLoopHint();
            continue;
        }
        var bytes: u64 = 0;
        for (records[0..found]) |record| {
            const payload = end.ring.data[record.payload_offset..][0..record.payload_length];
            if (!frame.check(payload, sequence.*)) return error.WrongMessage;
            sequence.* += 1;
            const size = record.ring_bytes;
            bytes += size;
            if (bytes >= frame.capacity / 8) { // room for large frames goes back early, as in reader.ts
                try end.ring.release(bytes);
                bytes = 0;
            }
        }
        try end.ring.release(bytes);
        left -= found;
    }
}
