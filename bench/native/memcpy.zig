//! memcpy.zig: libc's memcpy in pieces over 64 MiB, then one byte of each cache line read: the floor of a copying ring.
//! May touch: libc, the clock. One thread on one core; the ring has two, so it may come out above this floor.

const std = @import("std");
const qlaster = @import("qlaster");
const frame = @import("frame.zig");
const process = @import("process.zig");
const report = @import("report.zig");

extern fn memcpy(noalias target: *anyopaque, noalias source: *const anyopaque, size: usize) *anyopaque;

const warm_up_runs = 2;
const runs_max = 32;
var source: [1024 * 1024]u8 align(64) = @splat(1);

pub fn run(bytes: u32, runs: u32) !void {
    if (bytes < 64 or bytes > source.len or runs == 0 or runs > runs_max) return error.BadArgument;
    process.pin(process.core_near);
    const target = std.mem.sliceAsBytes(try process.sharedWords(frame.capacity / 8));
    const step = std.mem.alignForward(usize, bytes, 8);
    const count = target.len / step;
    var times: [runs_max]u64 = undefined;
    for (0..warm_up_runs + runs) |i| {
        const started = qlaster.platform.monotonicNs();
        for (0..count) |k| _ = memcpy(target[k * step ..].ptr, &source, bytes);
        var sum: u64 = 0;
        for (0..count) |k| {
            var at: usize = 0;
            while (at < bytes) : (at += 64) sum += target[k * step + at];
        }
        if (sum != count * ((bytes + 63) / 64)) return error.WrongBytes;
        if (i >= warm_up_runs) times[i - warm_up_runs] = qlaster.platform.monotonicNs() - started;
    }
    report.lists(&.{.{ .name = "copyNs", .values = times[0..runs], .divisor = count }});
}
