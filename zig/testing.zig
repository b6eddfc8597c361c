//! testing.zig: what the tests of several rooms need: paths that no other process has, and patience.
//! May touch: the clock, this process's number. May not touch: what is tested; only tests import it.

const std = @import("std");
const platform = @import("platform/mod.zig");

/// How long anything may take that a test waits for, in milliseconds: the machine is shared, and slow at times.
pub const patience_ms = 60_000;

/// A path of this process alone: several may run the tests at once.
pub fn path(comptime name: []const u8) [pathSize(name):0]u8 {
    var text: [pathSize(name):0]u8 = undefined;
    _ = std.fmt.bufPrint(&text, path_format ++ name, .{@as(u32, @intCast(platform.getPid()))}) catch unreachable;
    text[text.len] = 0;
    return text;
}

const path_format = "/tmp/qlaster-test-{d:0>10}-";

fn pathSize(comptime name: []const u8) usize {
    return "/tmp/qlaster-test-0123456789-".len + name.len;
}

/// Waits by giving way to other threads.
pub const Patience = struct {
    deadline_ns: u64,

    pub fn begin() Patience {
        return .{ .deadline_ns = platform.monotonicNs() + patience_ms * std.time.ns_per_ms };
    }

    /// False once it has taken too long.
    pub fn goesOn(patience: Patience) bool {
        platform.threadYield();
        return platform.monotonicNs() < patience.deadline_ns;
    }
};
