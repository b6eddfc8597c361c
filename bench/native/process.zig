//! process.zig: two processes pinned to two cores, and the memory in which the second one reports.
//! May touch: the kernel, directly: no libc, so that nothing stands between a figure and what is measured.
//! May not touch: rings, pipes. They are the benches'.

const std = @import("std");
const linux = std.os.linux;

pub const core_near = 0;
pub const core_far = 1;

/// Gives this process a core of its own. On a machine with one core, or where it is not allowed, it stays where it is.
pub fn pin(core: u6) void {
    var set: linux.cpu_set_t = @splat(0);
    set[0] = @as(usize, 1) << core;
    linux.sched_setaffinity(0, &set) catch {};
}

/// Words that a forked process writes and its parent reads.
pub fn sharedWords(count: usize) ![]u64 {
    const size = @max(4096, count * @sizeOf(u64));
    const address = linux.mmap(null, size, .{ .READ = true, .WRITE = true }, .{ .TYPE = .SHARED, .ANONYMOUS = true }, -1, 0);
    if (@as(isize, @bitCast(address)) < 0) return error.OutOfMemory;
    const words: [*]u64 = @ptrFromInt(address);
    @memset(words[0..count], 0); // no page fault while something is measured
    return words[0..count];
}

pub const Role = enum { near, far };

/// Forks and pins both. The far one must end with `finish`; the near one with `join`.
pub fn split() !struct { role: Role, child: i32 } {
    const child: isize = @bitCast(linux.fork());
    if (child < 0) return error.ForkFailed;
    pin(if (child == 0) core_far else core_near);
    return .{ .role = if (child == 0) .far else .near, .child = @intCast(child) };
}

/// Ends the far process.
pub fn finish(outcome: anyerror!void) noreturn {
    outcome catch |err| {
        std.debug.print("far side: {t}\n", .{err});
        linux.exit_group(1);
    };
    linux.exit_group(0);
}

pub fn join(child: i32) !void {
    var status: i32 = 0;
    _ = linux.wait4(child, &status, 0, null);
    if (status != 0) return error.FarSideFailed;
}

/// Looks at nothing for a while: whoever waits must not disturb the other side's cache lines.
pub fn pause() void {
    const time: linux.timespec = .{ .sec = 0, .nsec = 200 * std.time.ns_per_us };
    _ = linux.nanosleep(&time, null);
}
