//! aio.zig: raises an eventfd that a peer has too, without ever waiting for that peer. Linux only.
//! May touch: one AIO context and one private memfd per process. May not touch: anything of a peer's but its eventfd.
//! Why not write(2): the flag O_NONBLOCK belongs to the description, which the peer shares. It can take the flag away and
//! fill the counter; then a write waits until it reads. What the kernel itself raises when an AIO request is done is
//! saturated at the counter's maximum instead. So each signal is a request that is done at once: reading nothing from a
//! memfd of ours.

const std = @import("std");
const linux = std.os.linux;
const Code = @import("mod.zig").Code;
const system = @import("linux.zig");
const errno = system.errno;
const Atomic = std.atomic.Value;

/// `struct iocb`.
const Request = extern struct {
    data: u64 = 0,
    /// The kernel writes here.
    key: u32 = 0,
    rw_flags: u32 = 0,
    operation: u16 = pread,
    priority: i16 = 0,
    fd: i32,
    buffer: u64 = 0,
    size: u64 = 0,
    offset: i64 = 0,
    reserved: u64 = 0,
    flags: u32 = flag_result_fd,
    result_fd: i32,

    const pread = 0; // IOCB_CMD_PREAD
    const flag_result_fd = 1; // IOCB_FLAG_RESFD

    comptime {
        std.debug.assert(@sizeOf(Request) == 64);
    }
};

/// `struct io_event`.
const Event = extern struct { data: u64, request: u64, result: i64, result_2: i64 };

const requests_max = 64;
/// Every so many signals their completions, of which nobody wants to know, are taken out.
const reap_every = 32;

const State = enum(u32) { untried, starting, ready, missing };
var state = Atomic(u32).init(@backingInt(State.untried));
/// Both are set before `state` says ready, and never again.
var context: usize = 0;
var source_fd: i32 = -1;
var submitted = Atomic(u32).init(0);

/// Makes the context if there is none. Several threads may call it. False: this kernel, or its policy, has no AIO for us.
/// Repeating it tries again: the context may have been refused since others have too many.
pub fn start() bool {
    while (true) {
        // Acquire: pairs with the release below.
        const now: State = @fromBackingInt(state.load(.acquire));
        switch (now) {
            .ready => return true,
            .starting => system.threadYield(), // another thread is at it
            .untried, .missing => {
                const starting = @backingInt(State.starting);
                if (state.cmpxchgStrong(@backingInt(now), starting, .acquire, .monotonic) != null) continue;
                const next: State = if (startOnce() < 0) .missing else .ready;
                state.store(@backingInt(next), .release);
                return next == .ready;
            },
        }
    }
}

fn startOnce() Code {
    const memory = system.memoryCreate(0, .read_only);
    if (memory.code < 0) return memory.code;
    context = 0;
    const made = codeOf(linux.syscall2(.io_setup, requests_max, @intFromPtr(&context)));
    if (made < 0) {
        _ = system.close(memory.fd);
        return made;
    }
    source_fd = memory.fd;
    return 0;
}

/// Adds 1 to the counter, or leaves it at its maximum. Never waits. Below zero: not signalled; another way may do it.
pub fn signal(fd: i32) Code {
    // Acquire: pairs with the release in `start`.
    if (state.load(.acquire) != @backingInt(State.ready)) return errno.not_supported;
    var code = submit(fd);
    if (code == errno.again) {
        // Others may have filled the context between two of their reaps.
        reap();
        code = submit(fd);
    }
    if (code < 0) return code;
    // Monotonic: who comes by at the right number does it for all.
    if (submitted.fetchAdd(1, .monotonic) % reap_every == reap_every - 1) reap();
    return 0;
}

fn submit(fd: i32) Code {
    var request: Request = .{ .fd = source_fd, .result_fd = fd };
    const list = [_]*Request{&request};
    return codeOf(linux.syscall3(.io_submit, context, list.len, @intFromPtr(&list)));
}

fn reap() void {
    var events: [requests_max]Event = undefined;
    const at_once: linux.timespec = .{ .sec = 0, .nsec = 0 };
    _ = linux.syscall5(.io_getevents, context, 0, events.len, @intFromPtr(&events), @intFromPtr(&at_once));
}

fn codeOf(result: usize) Code {
    return std.math.cast(Code, @as(isize, @bitCast(result))) orelse errno.invalid;
}

// Tests

const testing = std.testing;

fn counterOf(fd: i32) u64 {
    var value: u64 = 0;
    _ = linux.read(fd, std.mem.asBytes(&value), @sizeOf(u64));
    return value;
}

test "a signal counts one each, and never waits: not on a full counter that its other holder made blocking" {
    if (!start()) return error.SkipZigTest;
    const fd: i32 = @intCast(linux.eventfd(0, linux.EFD.CLOEXEC));
    defer _ = system.close(fd);
    for (0..10 * requests_max) |_| try testing.expectEqual(0, signal(fd));
    try testing.expectEqual(10 * requests_max, counterOf(fd));
    const full: u64 = std.math.maxInt(u64) - 1;
    try testing.expectEqual(8, linux.write(fd, std.mem.asBytes(&full), @sizeOf(u64)));
    for (0..10) |_| try testing.expectEqual(0, signal(fd)); // a write would wait here
    try testing.expectEqual(std.math.maxInt(u64), counterOf(fd));
}

test "several threads signal at once, and each signal counts" {
    if (!start()) return error.SkipZigTest;
    const fd: i32 = @intCast(linux.eventfd(0, linux.EFD.CLOEXEC));
    defer _ = system.close(fd);
    const rounds = 20_000;
    var threads: [4]std.Thread = undefined;
    for (&threads) |*thread| thread.* = try std.Thread.spawn(.{}, struct {
        fn run(to: i32) void {
            for (0..rounds) |_| while (signal(to) < 0) {};
        }
    }.run, .{fd});
    for (threads) |thread| thread.join();
    try testing.expectEqual(threads.len * rounds, counterOf(fd));
}

test "without AIO a signal is a write, and none to an event that its other holder made blocking" {
    _ = start();
    // A context belongs to one process: a child has none, as where a policy forbids AIO.
    const pid = linux.fork();
    if (pid == 0) {
        const fd: i32 = @intCast(linux.eventfd(0, linux.EFD.NONBLOCK));
        if (signal(fd) >= 0) linux.exit_group(1);
        if (system.eventSignalShared(fd) != 0 or counterOf(fd) != 1) linux.exit_group(2);
        _ = linux.fcntl(fd, linux.F.SETFL, 0);
        const full: u64 = std.math.maxInt(u64) - 1;
        _ = linux.write(fd, std.mem.asBytes(&full), @sizeOf(u64));
        linux.exit_group(if (system.eventSignalShared(fd) < 0) 0 else 3);
    }
    var status: i32 = 0;
    while (linux.errno(linux.wait4(@intCast(pid), &status, 0, null)) == .INTR) {}
    try testing.expectEqual(0, status);
}
