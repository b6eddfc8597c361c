//! linux_only.zig: what no other system has: leases, namespaces, eventfds of others, epoll, threads that no runtime knows of.
//! Raw system calls without libc, as in linux.zig. Who uses it asks `is_linux` at comptime (mod.zig).

const std = @import("std");
const linux = std.os.linux;
const mod = @import("mod.zig");
const system = @import("linux.zig");
const Code = mod.Code;
const FileInfo = mod.FileInfo;
const errno = system.errno;
const close = system.close;
const codeOf = system.codeOf;
const mapped = system.mapped;
const overlay = system.overlay;
const setNonBlocking = system.setNonBlocking;
const statPath = system.statPath;
const unmap = system.unmap;

// Leftovers

/// Whether any other open descriptor or mapping of this file exists anywhere on this machine, in whatever namespace.
/// The kernel gives a write lease only to the sole user of a file. If it does, `then` (unlink) is done while opening it
/// fails or waits, and the lease is given back.
pub fn withSoleUse(fd: i32, context: anytype, comptime then: fn (@TypeOf(context)) Code) mod.SoleUse {
    const f_setsig = 10;
    const f_setlease = 1024;
    const write_lease = 1; // F_WRLCK
    const no_lease = 2; // F_UNLCK
    // Who opens the file meanwhile has the kernel signal us. The default, SIGIO, would end the process; this one is
    // ignored by default.
    const sigurg = 23;
    if (codeOf(linux.fcntl(fd, f_setsig, sigurg)) < 0) return .unknown;
    const leased = codeOf(linux.fcntl(fd, f_setlease, write_lease));
    if (leased == errno.again) return .{ .code = errno.again };
    if (leased < 0) return .unknown;
    const code = then(context);
    _ = linux.fcntl(fd, f_setlease, no_lease);
    return .{ .code = code };
}

/// Whether pids mean here what they mean to most: those of the machine's first namespace.
pub fn inFirstPidNamespace() bool {
    const first_inode = 0xefff_fffc; // PROC_PID_INIT_INO
    var info: FileInfo = undefined;
    return statPath("/proc/self/ns/pid", &info, true) == 0 and info.inode == first_inode;
}

/// Reads the names in a directory, of at most `count_max` entries. Without allocation.
pub const Directory = struct {
    fd: i32,
    buffer: [4096]u8 align(8),
    at: usize,
    filled: usize,
    left: u32,

    pub fn open(directory: *Directory, path: [:0]const u8, count_max: u32) Code {
        const fd = codeOf(linux.open(path, .{ .DIRECTORY = true, .CLOEXEC = true, .NONBLOCK = true }, 0));
        if (fd < 0) return fd;
        directory.fd = fd;
        directory.at = 0;
        directory.filled = 0;
        directory.left = count_max;
        return 0;
    }

    /// The next name, until the next call. Null: no more.
    pub fn next(directory: *Directory) ?[]const u8 {
        const name_offset = 19; // `struct linux_dirent64`: inode, offset, u16 size, u8 type, name
        if (directory.left == 0) return null;
        if (directory.at >= directory.filled) {
            const read = codeOf(linux.getdents64(directory.fd, &directory.buffer, directory.buffer.len));
            if (read <= 0) return null;
            directory.filled = @min(@as(usize, @intCast(read)), directory.buffer.len);
            directory.at = 0;
        }
        const rest = directory.buffer[directory.at..directory.filled];
        if (rest.len <= name_offset) return null;
        const size = std.mem.readInt(u16, rest[16..18], .little);
        if (size <= name_offset or size > rest.len) return null;
        directory.at += size;
        directory.left -= 1;
        return std.mem.sliceTo(rest[name_offset..size], 0);
    }

    pub fn close(directory: *Directory) void {
        _ = linux.close(directory.fd);
    }
};

// Events

pub const Drains = enum {
    /// The kernel takes what is there and never waits, whatever the peer does.
    at_once,
    /// Before Linux 5.8, and in sandboxes that are no Linux: a read that may wait, if the peer wants it so.
    may_wait,
};

/// How a wake that a peer has handed over can be read. Null: it is no eventfd. Anything else is refused, also a pipe: who
/// writes to one from memory whose pages do not come holds its lock meanwhile, and a read waits for that lock.
pub fn eventDrains(fd: i32) ?Drains {
    var name_buffer: [32]u8 = undefined;
    const name = std.fmt.bufPrintSentinel(&name_buffer, "/proc/self/fd/{d}", .{fd}, 0) catch return null;
    var target: [64]u8 = undefined;
    const size = codeOf(linux.readlink(name, &target, target.len));
    if (size < 0 or !std.mem.eql(u8, target[0..@intCast(size)], "anon_inode:[eventfd]")) return null;
    const code = eventDrainAtOnce(fd);
    if (code >= 0 or code == errno.again) return .at_once;
    return if (code == errno.not_supported or code == errno.invalid or code == errno.no_system_call) .may_wait else null;
}

/// Takes what was signalled. Bytes, or -EAGAIN: nothing there. Where the kernel can't (`Drains`), another code.
pub fn eventDrainAtOnce(fd: i32) Code {
    const nowait = 8; // RWF_NOWAIT
    var buffer: [8]u8 align(8) = undefined;
    const parts = [_]std.posix.iovec{.{ .base = &buffer, .len = buffer.len }};
    while (true) {
        const code = codeOf(linux.preadv2(fd, &parts, parts.len, -1, nowait));
        if (code != errno.interrupted) return code;
    }
}

/// The same in every way that there is. If the peer takes the flag away between our two calls and empties the counter, this
/// waits for its next signal: only for a thread whose waiting harms nobody but those that it serves.
pub fn eventDrain(fd: i32) Code {
    const at_once = eventDrainAtOnce(fd);
    if (at_once >= 0 or at_once == errno.again) return at_once;
    const set = setNonBlocking(fd);
    if (set < 0) return set;
    var buffer: [8]u8 align(8) = undefined;
    while (true) {
        const code = codeOf(linux.read(fd, &buffer, buffer.len));
        if (code != errno.interrupted) return code;
    }
}

/// A set of descriptors of which a thread waits for one that was armed.
pub const Poller = struct {
    fd: i32,

    pub const events_max = 32;

    pub fn create(out: *Poller) Code {
        const fd = codeOf(linux.epoll_create1(linux.EPOLL.CLOEXEC));
        if (fd < 0) return fd;
        out.* = .{ .fd = fd };
        return 0;
    }

    pub const Mode = enum {
        /// Reports every time.
        always,
        /// Reports once, then has to be armed again.
        once,
        /// Reports only that the other end is gone, once.
        disarmed,
    };

    pub fn add(poller: Poller, fd: i32, token: u64, mode: Mode) Code {
        return poller.control(linux.EPOLL.CTL_ADD, fd, token, mode);
    }

    /// What is there already is reported too. Full barrier: the kernel takes and drops the description's lock.
    pub fn arm(poller: Poller, fd: i32, token: u64) Code {
        return poller.control(linux.EPOLL.CTL_MOD, fd, token, .once);
    }

    pub fn remove(poller: Poller, fd: i32) void {
        _ = linux.epoll_ctl(poller.fd, linux.EPOLL.CTL_DEL, fd, null);
    }

    fn control(poller: Poller, operation: u32, fd: i32, token: u64, mode: Mode) Code {
        const bits: u32 = switch (mode) {
            .always => linux.EPOLL.IN,
            .once => linux.EPOLL.IN | linux.EPOLL.ONESHOT,
            .disarmed => linux.EPOLL.ONESHOT,
        };
        var event: linux.epoll_event = .{ .events = bits, .data = .{ .u64 = token } };
        return codeOf(linux.epoll_ctl(poller.fd, operation, fd, &event));
    }

    /// Waits. Returns the tokens of what is ready.
    pub fn wait(poller: Poller, out: *[events_max]u64) []const u64 {
        var events: [events_max]linux.epoll_event = undefined;
        while (true) {
            const code = codeOf(linux.epoll_pwait(poller.fd, &events, events.len, -1, null));
            if (code == errno.interrupted) continue;
            // Somebody has closed our set. Nothing can be done, and nothing must turn without end.
            if (code < 0) _ = linux.syscall4(.ppoll, 0, 0, 0, 0);
            if (code < 0) continue;
            const count: usize = @intCast(code);
            for (out[0..count], events[0..count]) |*token, event| token.* = event.data.u64;
            return out[0..count];
        }
    }

    pub fn destroy(poller: Poller) void {
        _ = close(poller.fd);
    }
};

// Threads

const thread_stack_size = 256 * 1024;
const thread_guard_size = 64 * 1024; // at least a page on every machine

/// Starts a thread that no runtime knows of. Its rules: no thread-local variable (it shares those of the thread that
/// started it), no allocation, no lock of others, no return. No signal is delivered to it.
pub fn threadStart(comptime run: fn () noreturn) Code {
    const total = thread_guard_size + thread_stack_size;
    const anonymous: linux.MAP = .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .NORESERVE = true };
    const reserved = mapped(linux.mmap(null, total, .{}, anonymous, -1, 0));
    if (reserved.code < 0) return reserved.code;
    const stack = reserved.address + thread_guard_size;
    const usable = overlay(stack, thread_stack_size, true);
    if (usable.code < 0) {
        unmap(reserved.address, total);
        return usable.code;
    }

    // The new thread inherits the mask, so that not even its first instruction can be interrupted.
    const every: linux.sigset_t = @splat(std.math.maxInt(@typeInfo(linux.sigset_t).array.child));
    var before: linux.sigset_t = undefined;
    const blocked = codeOf(linux.sigprocmask(linux.SIG.SETMASK, &every, &before));
    if (blocked < 0) {
        unmap(reserved.address, total);
        return blocked;
    }
    const entry = struct {
        fn start(argument: usize) callconv(.c) u8 {
            _ = argument;
            const set_name = 15;
            _ = linux.prctl(set_name, @intFromPtr("qlaster-relay"), 0, 0, 0);
            run();
        }
    };
    const flags = linux.CLONE.VM | linux.CLONE.FS | linux.CLONE.FILES | linux.CLONE.SIGHAND | linux.CLONE.THREAD |
        linux.CLONE.SYSVSEM;
    const started = codeOf(linux.clone(entry.start, stack + thread_stack_size, flags, 0, null, 0, null));
    _ = linux.sigprocmask(linux.SIG.SETMASK, &before, null);
    if (started < 0) unmap(reserved.address, total);
    return @min(started, 0);
}
