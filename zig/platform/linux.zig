//! linux.zig: raw system calls, no libc (design D20): one binary per CPU for glibc and musl, errors are -errno by nature.
//! Kernel 5.1 or newer (F_SEAL_FUTURE_WRITE).

const std = @import("std");
const builtin = @import("builtin");
const linux = std.os.linux;
const aio = @import("aio.zig");
const credentials = @import("credentials.zig");
const vdso = @import("vdso.zig");
const mod = @import("mod.zig");
const Code = mod.Code;
const FileInfo = mod.FileInfo;

/// The errno values that callers tell apart.
pub const errno = struct {
    pub const again: Code = -11;
    pub const bad_descriptor: Code = -9;
    pub const connection_refused: Code = -111;
    pub const exists: Code = -17;
    pub const interrupted: Code = -4;
    pub const invalid: Code = -22;
    pub const no_entry: Code = -2;
    pub const no_memory: Code = -12;
    pub const no_process: Code = -3;
    pub const no_space: Code = -28;
    pub const no_system_call: Code = -38;
    pub const not_supported: Code = -95;
    pub const not_connected: Code = -107;
    pub const pipe: Code = -32;
    pub const connection_reset: Code = -104;
};

const tmpfs_magic = 0x01021994;
const statfs_type_offset = 0; // `struct statfs` begins with its type, a long, on all 64-bit CPUs.
const mfd_noexec_seal = 0x0008;
const unix_path_max = 107;

pub fn codeOf(result: usize) Code {
    const signed: isize = @bitCast(result);
    // Only descriptors, counts below 2 GiB and -errno come through here.
    return std.math.cast(Code, signed) orelse errno.invalid;
}

/// Found once. 0: not yet looked for, or none.
var vdso_clock = std.atomic.Value(usize).init(0);

/// Looks for the fast clock. Safe to repeat and from several threads: all find the same.
pub fn init() void {
    // Monotonic: the function's code was there before any of us.
    if (vdso.find()) |found| vdso_clock.store(@intFromPtr(found), .monotonic);
}

pub fn close(fd: i32) Code {
    return codeOf(linux.close(fd));
}

/// Closes what a peer handed over. A TCP socket with a linger time would make `close` wait for as long as the peer wants.
pub fn closeForeign(fd: i32) Code {
    const at_once: extern struct { on: i32, seconds: i32 } = .{ .on = 1, .seconds = 0 };
    _ = linux.setsockopt(fd, linux.SOL.SOCKET, linux.SO.LINGER, @ptrCast(&at_once), @sizeOf(@TypeOf(at_once)));
    return close(fd);
}

pub fn duplicate(fd: i32) Code {
    const dup_cloexec = 1030; // F_DUPFD_CLOEXEC
    return codeOf(linux.fcntl(fd, dup_cloexec, 3));
}

/// Duplicates to a number of at least `minimum`.
pub fn duplicateAbove(fd: i32, minimum: u31) Code {
    const dup_cloexec = 1030; // F_DUPFD_CLOEXEC
    return codeOf(linux.fcntl(fd, dup_cloexec, minimum));
}

/// The first number that a descriptor can't have.
pub fn descriptorLimit() u64 {
    var limit: linux.rlimit = undefined;
    return if (codeOf(linux.getrlimit(.NOFILE, &limit)) < 0) 0 else limit.cur;
}

pub fn getPid() i32 {
    return linux.getpid();
}

pub fn effectiveUid() u32 {
    return linux.geteuid();
}

pub fn realtimeNs() u64 {
    return clock(.REALTIME);
}

pub fn monotonicNs() u64 {
    return clock(.MONOTONIC);
}

fn clock(id: linux.clockid_t) u64 {
    var time: linux.timespec = .{ .sec = 0, .nsec = 0 };
    const id_number = @backingInt(id);
    const address = vdso_clock.load(.monotonic);
    const fast = address != 0 and @as(vdso.ClockGettime, @ptrFromInt(address))(id_number, &time) == 0;
    if (!fast and linux.syscall2(.clock_gettime, id_number, @intFromPtr(&time)) != 0) return 0;
    const seconds = std.math.cast(u64, time.sec) orelse return 0;
    return seconds *% std.time.ns_per_s +% @as(u64, @intCast(time.nsec));
}

/// Orders all earlier stores before all later loads. Zig has no fence of its own.
pub inline fn storeLoadFence() void {
    switch (builtin.cpu.arch) {
        .x86_64 => asm volatile ("lock orl $0, -8(%%rsp)" ::: .{ .memory = true, .cc = true }),
        .aarch64 => asm volatile ("dmb ish" ::: .{ .memory = true }),
        else => @compileError("no store-load fence for this CPU"),
    }
}

/// Orders all earlier loads before all later ones. On x86-64 they are, if the compiler leaves them so.
pub inline fn loadLoadFence() void {
    switch (builtin.cpu.arch) {
        .x86_64 => asm volatile ("" ::: .{ .memory = true }),
        .aarch64 => asm volatile ("dmb ishld" ::: .{ .memory = true }),
        else => @compileError("no load-load fence for this CPU"),
    }
}

/// Two descriptors of one eventfd: ours, and one to pass. Non-blocking, since the original reads it until it would block.
pub fn eventCreate(out: *[2]i32) Code {
    _ = aio.start(); // now, and not at the first signal
    const fd = codeOf(linux.eventfd(0, linux.EFD.NONBLOCK | linux.EFD.CLOEXEC));
    if (fd < 0) return fd;
    const passed = duplicate(fd);
    if (passed < 0) {
        _ = close(fd);
        return passed;
    }
    out.* = .{ fd, passed };
    return 0;
}

/// Signals an event that a peer has too, whatever the peer has done to it: the peer's own loss then, but nothing to wait for.
pub fn eventSignalShared(fd: i32) Code {
    const code = aio.signal(fd);
    if (code >= 0) return code;
    // No AIO here: a policy forbids it, or others have all of it. What remains then is a moment between our look and the
    // write in which a hostile consumer can take the flag away: docs/interop.md.
    if (!eventIsNonBlocking(fd)) return errno.invalid;
    return @min(eventSignal(fd), 0);
}

/// Whether an event's description still has the flag that we gave it, and every honest consumer needs.
pub fn eventIsNonBlocking(fd: i32) bool {
    const flags = codeOf(linux.fcntl(fd, linux.F.GETFL, 0));
    const nonblock: u32 = @bitCast(linux.O{ .NONBLOCK = true });
    return flags >= 0 and @as(u32, @intCast(flags)) & nonblock != 0;
}

/// Of an event that nobody else has: with another holder it may wait. EAGAIN: its counter is full, it has been signalled.
pub fn eventSignal(fd: i32) Code {
    const one: u64 = 1;
    while (true) {
        const code = codeOf(linux.write(fd, std.mem.asBytes(&one), @sizeOf(u64)));
        if (code != errno.interrupted) return code;
    }
}

/// Zeros that nobody shares.
pub fn pages(size: usize) mod.Mapped {
    return mapped(linux.mmap(null, size, protection(true), .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .NORESERVE = true }, -1, 0));
}

/// Wakes up to `count` threads of any process that wait on this word.
pub fn futexWake(word: *const anyopaque, count: i32) void {
    const futex_wake = 1; // not the private kind: the waiters are other processes
    _ = linux.syscall3(.futex, @intFromPtr(word), futex_wake, @as(u32, @intCast(count)));
}

/// Sleeps while the word has that value, or less long. Between threads of this process.
pub fn futexWait(word: *const u32, value: u32) void {
    const futex_wait_private = 0 | 128;
    _ = linux.syscall4(.futex, @intFromPtr(word), futex_wait_private, value, 0);
}

pub fn futexWakeOne(word: *const u32) void {
    const futex_wake_private = 1 | 128;
    _ = linux.syscall3(.futex, @intFromPtr(word), futex_wake_private, 1);
}

pub fn threadYield() void {
    _ = linux.sched_yield();
}

pub fn writeStderr(text: []const u8) void {
    _ = linux.write(2, text.ptr, text.len);
}

pub fn raiseDescriptorLimit() Code {
    var limit: linux.rlimit = undefined;
    const got = codeOf(linux.getrlimit(.NOFILE, &limit));
    if (got < 0) return got;
    if (limit.cur >= limit.max) return 0;
    limit.cur = limit.max;
    return codeOf(linux.setrlimit(.NOFILE, &limit));
}

// Memory

/// Memory of a fixed size. Both descriptors are the same one here: seals, not descriptors, keep readers from writing.
pub fn memoryCreate(size: u64, access: mod.Access) mod.Memory {
    _ = access;
    const fd = memfd(size);
    return .{ .code = if (fd < 0) fd else 0, .fd = fd, .passed_fd = fd };
}

fn memfd(size: u64) Code {
    const flags = linux.MFD.CLOEXEC | linux.MFD.ALLOW_SEALING;
    var fd = codeOf(linux.memfd_create("qlaster", flags | mfd_noexec_seal));
    if (fd == errno.invalid) fd = codeOf(linux.memfd_create("qlaster", flags)); // before Linux 6.3
    if (fd < 0) return fd;
    const sized = codeOf(linux.ftruncate(fd, @intCast(size)));
    if (sized < 0) {
        _ = close(fd);
        return sized;
    }
    return fd;
}

fn sealBits(seals: mod.Seals) u32 {
    const size = linux.F.SEAL_SHRINK | linux.F.SEAL_GROW | linux.F.SEAL_SEAL;
    return switch (seals) {
        .size => size,
        .size_and_future_write => size | linux.F.SEAL_FUTURE_WRITE,
    };
}

pub fn memorySeal(fd: i32, seals: mod.Seals) Code {
    return codeOf(linux.fcntl(fd, linux.F.ADD_SEALS, sealBits(seals)));
}

/// Whether `fd` is memory of exactly that size with those seals. What a peer handed over is checked before it is mapped.
pub fn memoryCheck(fd: i32, size: u64, seals: mod.Seals) mod.MemoryVerdict {
    // A regular file on tmpfs that answers F_GET_SEALS. hugetlbfs answers too: its pages can be missing (SIGBUS).
    var statfs: [128]u8 align(8) = @splat(0);
    const asked = codeOf(linux.syscall2(.fstatfs, @as(u32, @bitCast(fd)), @intFromPtr(&statfs)));
    if (asked < 0) return .not_memory;
    if (std.mem.readInt(u32, statfs[statfs_type_offset..][0..4], .little) != tmpfs_magic) return .not_memory;
    const info = statDescriptor(fd) orelse return .not_memory;
    if (info.kind != .regular) return .not_memory;
    const present = codeOf(linux.fcntl(fd, linux.F.GET_SEALS, 0));
    if (present < 0) return .seal_missing;
    const wanted = sealBits(seals);
    if (@as(u32, @intCast(present)) & wanted != wanted) return .seal_missing;
    // Only after the seals: before them, the size can change again.
    if (info.size != size) return .wrong_size;
    return .ok;
}

fn protection(writable: bool) linux.PROT {
    return .{ .READ = true, .WRITE = writable };
}

pub fn mapped(result: usize) mod.Mapped {
    const signed: isize = @bitCast(result);
    if (signed < 0 and signed >= -4095) return .{ .code = @intCast(signed) };
    return .{ .code = 0, .address = result };
}

pub fn map(fd: i32, size: usize, writable: bool) mod.Mapped {
    return mapped(linux.mmap(null, size, protection(writable), .{ .TYPE = .SHARED }, fd, 0));
}

/// Maps a ring's file (data, then one part of header) as: header, data, data again. A frame that wraps is contiguous.
/// @param extra Bytes of addresses kept behind, for `mapAt`.
pub fn mapRing(fd: i32, header_size: usize, capacity: usize, writable: bool, extra: usize) mod.Mapped {
    const total = header_size + 2 * capacity + extra;
    const reserved = mapped(linux.mmap(null, total, .{}, .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .NORESERVE = true }, -1, 0));
    if (reserved.code < 0) return reserved;
    const base = reserved.address;
    const parts = [_]struct { at: usize, size: usize, offset: usize }{
        .{ .at = base, .size = header_size, .offset = capacity },
        .{ .at = base + header_size, .size = capacity, .offset = 0 },
        .{ .at = base + header_size + capacity, .size = capacity, .offset = 0 },
    };
    for (parts) |part| {
        const placed = mapped(linux.mmap(
            @ptrFromInt(part.at),
            part.size,
            protection(writable),
            .{ .TYPE = .SHARED, .FIXED = true },
            fd,
            @intCast(part.offset),
        ));
        if (placed.code < 0) {
            unmap(base, total);
            return placed;
        }
    }
    return reserved;
}

/// Maps over addresses that are ours.
pub fn mapAt(address: usize, fd: i32, size: usize, writable: bool) mod.Mapped {
    return mapped(linux.mmap(@ptrFromInt(address), size, protection(writable), .{ .TYPE = .SHARED, .FIXED = true }, fd, 0));
}

/// Private zeros in the place of a mapping.
pub fn overlay(address: usize, size: usize, writable: bool) mod.Mapped {
    const flags: linux.MAP = .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .NORESERVE = true, .FIXED = true };
    return mapped(linux.mmap(@ptrFromInt(address), size, protection(writable), flags, -1, 0));
}

pub fn unmap(address: usize, size: usize) void {
    _ = linux.munmap(@ptrFromInt(address), size);
}

/// Private addresses without memory behind them: what is committed of them is ours alone, and zero at first.
pub fn reserve(size: usize) mod.Mapped {
    return mapped(linux.mmap(null, size, .{}, .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .NORESERVE = true }, -1, 0));
}

/// Makes a part of what was reserved usable. The kernel gives a page when it is first written.
pub fn commit(address: usize, size: usize) Code {
    return codeOf(linux.mprotect(@ptrFromInt(address), size, protection(true)));
}

/// Gives the memory of a part back; the addresses stay reserved.
pub fn decommit(address: usize, size: usize) Code {
    const flags: linux.MAP = .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .NORESERVE = true, .FIXED = true };
    return mapped(linux.mmap(@ptrFromInt(address), size, .{}, flags, -1, 0)).code;
}

// Sockets

pub fn socketStream() Code {
    return codeOf(linux.socket(linux.AF.UNIX, linux.SOCK.STREAM | linux.SOCK.NONBLOCK | linux.SOCK.CLOEXEC, 0));
}

pub fn socketPair(out: *[2]i32) Code {
    return codeOf(linux.socketpair(linux.AF.UNIX, linux.SOCK.STREAM | linux.SOCK.NONBLOCK | linux.SOCK.CLOEXEC, 0, out));
}

const Name = struct { address: linux.sockaddr.un, size: linux.socklen_t };

fn nameOf(path: [:0]const u8) ?Name {
    if (path.len > unix_path_max) return null;
    var name: Name = .{ .address = .{ .path = @splat(0) }, .size = 0 };
    @memcpy(name.address.path[0..path.len], path);
    name.size = @intCast(@offsetOf(linux.sockaddr.un, "path") + path.len + 1);
    return name;
}

pub fn socketBind(fd: i32, path: [:0]const u8) Code {
    const name = nameOf(path) orelse return errno.invalid;
    return codeOf(linux.bind(fd, @ptrCast(&name.address), name.size));
}

pub fn socketListen(fd: i32) Code {
    return codeOf(linux.listen(fd, 1024));
}

pub fn socketAccept(fd: i32) Code {
    return codeOf(linux.accept4(fd, null, null, linux.SOCK.NONBLOCK | linux.SOCK.CLOEXEC));
}

pub fn socketConnect(fd: i32, path: [:0]const u8) Code {
    const name = nameOf(path) orelse return errno.invalid;
    return codeOf(linux.connect(fd, &name.address, name.size));
}

pub fn socketPeer(fd: i32, out: *mod.Peer) Code {
    var size: linux.socklen_t = @sizeOf(mod.Peer); // the shape of `struct ucred`
    return codeOf(linux.getsockopt(fd, linux.SOL.SOCKET, linux.SO.PEERCRED, @ptrCast(out), &size));
}

fn socketOption(fd: i32, option: u32) Code {
    var value: i32 = 0;
    var size: linux.socklen_t = @sizeOf(i32);
    const code = codeOf(linux.getsockopt(fd, linux.SOL.SOCKET, option, @ptrCast(&value), &size));
    return if (code < 0) code else value;
}

/// Makes sending descriptors to this socket an error of who tries (Linux 6.16; before, the kernel drops them at the read).
pub fn refuseDescriptors(fd: i32) void {
    const so_passrights = 83;
    const off: i32 = 0;
    _ = linux.setsockopt(fd, linux.SOL.SOCKET, so_passrights, @ptrCast(&off), @sizeOf(i32));
}

pub fn isUnixStream(fd: i32) bool {
    return socketOption(fd, linux.SO.DOMAIN) == linux.AF.UNIX and
        socketOption(fd, linux.SO.TYPE) == linux.SOCK.STREAM and
        socketOption(fd, linux.SO.ACCEPTCONN) == 0;
}

/// Whether it is a Unix stream socket that listens.
pub fn isUnixListener(fd: i32) bool {
    return socketOption(fd, linux.SO.DOMAIN) == linux.AF.UNIX and
        socketOption(fd, linux.SO.TYPE) == linux.SOCK.STREAM and
        socketOption(fd, linux.SO.ACCEPTCONN) == 1;
}

pub fn setNonBlocking(fd: i32) Code {
    const flags = codeOf(linux.fcntl(fd, linux.F.GETFL, 0));
    if (flags < 0) return flags;
    const nonblock: u32 = @bitCast(linux.O{ .NONBLOCK = true });
    return codeOf(linux.fcntl(fd, linux.F.SETFL, @as(u32, @intCast(flags)) | nonblock));
}

/// Room for the most descriptors that SCM_RIGHTS carries at once (SCM_MAX_FD), so that none can stay unseen.
const descriptors_max = 253;
const ControlBuffer = extern struct {
    header: linux.cmsghdr,
    descriptors: [descriptors_max + 1]i32,
};

/// Sends what fits. Never blocks, never raises SIGPIPE. The descriptors travel with the first byte.
pub fn sendMessage(fd: i32, bytes: []const u8, descriptors: []const i32) Code {
    var control: ControlBuffer = undefined;
    const control_size = @sizeOf(linux.cmsghdr) + descriptors.len * @sizeOf(i32);
    var parts = [_]std.posix.iovec_const{.{ .base = bytes.ptr, .len = bytes.len }};
    var message: linux.msghdr_const = .{
        .name = null,
        .namelen = 0,
        .iov = &parts,
        .iovlen = 1,
        .control = null,
        .controllen = 0,
        .flags = 0,
    };
    if (descriptors.len > 0) {
        if (descriptors.len > descriptors_max) return errno.invalid;
        control.header = .{ .len = control_size, .level = linux.SOL.SOCKET, .type = linux.SCM.RIGHTS };
        @memcpy(control.descriptors[0..descriptors.len], descriptors);
        message.control = &control;
        message.controllen = std.mem.alignForward(usize, control_size, @alignOf(linux.cmsghdr));
    }
    while (true) {
        const code = codeOf(linux.sendmsg(fd, &message, linux.MSG.DONTWAIT | linux.MSG.NOSIGNAL));
        if (code != errno.interrupted) return code;
    }
}

/// Receives what is there. Descriptors beyond `out.len` are closed; `truncated` is set if the kernel had to drop some.
pub fn receiveMessage(fd: i32, buffer: []u8, out: []i32, truncated: *bool) mod.Received {
    var control: ControlBuffer = undefined;
    var parts = [_]std.posix.iovec{.{ .base = buffer.ptr, .len = buffer.len }};
    var message: linux.msghdr = .{
        .name = null,
        .namelen = 0,
        .iov = &parts,
        .iovlen = 1,
        .control = &control,
        .controllen = @sizeOf(ControlBuffer),
        .flags = 0,
    };
    var received: mod.Received = .{ .code = errno.interrupted };
    while (received.code == errno.interrupted) {
        message.controllen = @sizeOf(ControlBuffer);
        received.code = codeOf(linux.recvmsg(fd, &message, linux.MSG.DONTWAIT | linux.MSG.CMSG_CLOEXEC));
    }
    truncated.* = false;
    if (received.code < 0) return received;
    truncated.* = message.flags & linux.MSG.CTRUNC != 0;

    const bytes: [*]align(@alignOf(linux.cmsghdr)) const u8 = @ptrCast(&control);
    var at: usize = 0;
    const filled = @min(message.controllen, @sizeOf(ControlBuffer));
    while (at + @sizeOf(linux.cmsghdr) <= filled) {
        const header: *align(4) const linux.cmsghdr = @ptrCast(@alignCast(bytes + at));
        if (header.len < @sizeOf(linux.cmsghdr) or header.len > filled - at) break;
        if (header.level == linux.SOL.SOCKET and header.type == linux.SCM.RIGHTS) {
            var from = at + @sizeOf(linux.cmsghdr);
            while (from + @sizeOf(i32) <= at + header.len) : (from += @sizeOf(i32)) {
                const descriptor = std.mem.readInt(i32, bytes[from..][0..4], .little);
                if (received.descriptor_count < out.len) {
                    out[received.descriptor_count] = descriptor;
                } else {
                    _ = closeForeign(descriptor);
                }
                received.descriptor_count += 1;
            }
        }
        at += std.mem.alignForward(usize, header.len, @alignOf(linux.cmsghdr));
    }
    return received;
}

/// No more bytes from us: the other end reads the end of the stream.
pub fn socketShutdown(fd: i32) void {
    _ = linux.shutdown(fd, linux.SHUT.WR);
}

// Files

pub fn openLockFile(path: [:0]const u8) Code {
    return codeOf(linux.open(path, .{ .ACCMODE = .RDWR, .CREAT = true, .CLOEXEC = true, .NOFOLLOW = true, .NONBLOCK = true }, 0o600));
}

pub fn lockExclusive(fd: i32) Code {
    return codeOf(linux.flock(fd, 2 | 4)); // LOCK_EX | LOCK_NB
}

const at_symlink_nofollow = 0x100;
const at_empty_path = 0x1000;

fn stat(fd: i32, path: [*:0]const u8, flags: u32) union(enum) { info: FileInfo, code: Code } {
    var buffer: linux.Statx = undefined;
    const mask: linux.STATX = .{ .TYPE = true, .MODE = true, .UID = true, .INO = true, .SIZE = true };
    const code = codeOf(linux.statx(fd, path, flags, mask, &buffer));
    if (code < 0) return .{ .code = code };
    return .{ .info = .{
        .kind = switch (buffer.mode & 0o170000) {
            0o100000 => .regular,
            0o040000 => .directory,
            0o140000 => .socket,
            0o010000 => .pipe,
            else => .other,
        },
        .device = @as(u64, buffer.dev_major) << 32 | buffer.dev_minor,
        .inode = buffer.ino,
        .mode = buffer.mode & 0o7777,
        .uid = buffer.uid,
        .size = buffer.size,
    } };
}

/// 0 and `out` filled, or -errno. A symbolic link counts as itself.
pub fn statPath(path: [:0]const u8, out: *FileInfo, follow: bool) Code {
    const at_cwd = -100;
    switch (stat(at_cwd, path, if (follow) 0 else at_symlink_nofollow)) {
        .code => |code| return code,
        .info => |info| out.* = info,
    }
    return 0;
}

pub fn statDescriptor(fd: i32) ?FileInfo {
    return switch (stat(fd, "", at_empty_path)) {
        .code => null,
        .info => |info| info,
    };
}

pub fn rename(from: [:0]const u8, to: [:0]const u8) Code {
    return codeOf(linux.rename(from, to));
}

pub fn unlink(path: [:0]const u8) Code {
    return codeOf(linux.unlink(path));
}

pub fn setMode(path: [:0]const u8, mode: u32) Code {
    return codeOf(linux.chmod(path, mode));
}

pub fn makeDirectory(path: [:0]const u8) Code {
    return codeOf(linux.mkdir(path, 0o700));
}

pub fn removeDirectory(path: [:0]const u8) Code {
    return codeOf(linux.rmdir(path));
}

/// The working directory, without the 0 at its end.
pub fn workingDirectory(buffer: []u8) Code {
    const size = codeOf(linux.getcwd(buffer.ptr, buffer.len));
    // A directory outside of our root begins with "(unreachable)".
    if (size > 0 and buffer[0] != '/') return errno.no_entry;
    return if (size < 0) size else size - 1;
}

/// A new file for reading and writing, 0600. Whatever stands at the path already is an error.
pub fn createFile(path: [:0]const u8) Code {
    return codeOf(linux.open(path, .{
        .ACCMODE = .RDWR,
        .CREAT = true,
        .EXCL = true,
        .CLOEXEC = true,
        .NOFOLLOW = true,
    }, 0o600));
}

const open_existing: linux.O = .{ .ACCMODE = .RDWR, .CLOEXEC = true, .NONBLOCK = true, .NOCTTY = true };

/// Opens a regular file for reading and writing. Whatever else stands at the path is not touched at all: opening a device
/// can do something, and opening a FIFO is seen at its other end. `follow`: the path itself may be a link.
pub fn openRegular(path: [:0]const u8, follow: bool) mod.Opened {
    const found = codeOf(linux.open(path, .{ .PATH = true, .CLOEXEC = true, .NOFOLLOW = !follow }, 0));
    if (found < 0) return .{ .code = found };
    defer _ = close(found);
    const info = statDescriptor(found) orelse return .{ .code = errno.bad_descriptor };
    if (info.kind != .regular) return .{ .code = errno.invalid };

    var buffer: [32]u8 = undefined;
    const name = std.fmt.bufPrintSentinel(&buffer, "/proc/self/fd/{d}", .{found}, 0) catch return .{ .code = errno.invalid };
    var fd = codeOf(linux.open(name, open_existing, 0));
    if (fd == errno.no_entry) { // no /proc
        var flags = open_existing;
        flags.NOFOLLOW = !follow;
        fd = codeOf(linux.open(path, flags, 0));
    }
    if (fd < 0) return .{ .code = fd };
    const opened = statDescriptor(fd);
    if (opened == null or opened.?.kind != .regular or !opened.?.same(info)) {
        _ = close(fd);
        return .{ .code = errno.invalid };
    }
    return .{ .code = 0, .fd = fd, .info = opened.? };
}

/// Reads from a place of a file. Fewer bytes than asked for: its end.
pub fn readAt(fd: i32, buffer: []u8, offset: u32) Code {
    while (true) {
        const code = codeOf(linux.pread(fd, buffer.ptr, buffer.len, offset));
        if (code != errno.interrupted) return code;
    }
}

/// A short text in the place of what stands in a file.
pub fn replaceContents(fd: i32, text: []const u8) Code {
    const written = codeOf(linux.pwrite(fd, text.ptr, text.len, 0));
    if (written < 0) return written;
    return codeOf(linux.ftruncate(fd, @intCast(written)));
}

/// Gives a new file its size and every page of it, so that no page can be missing later.
pub fn allocate(fd: i32, size: u64) Code {
    // The size first: who dies in between leaves a file that shows what it was to be.
    const sized = codeOf(linux.ftruncate(fd, std.math.cast(i64, size) orelse return errno.invalid));
    if (sized < 0) return sized;
    // In parts, since a signal undoes what one call has done: a profiler's would let a large one never end.
    const part_size = 16 << 20;
    var at: u64 = 0;
    while (at < size) {
        const part = @min(size - at, part_size);
        const code = codeOf(linux.fallocate(fd, 0, @intCast(at), @intCast(part)));
        if (code == errno.interrupted) continue;
        if (code == errno.not_supported) return allocateByWriting(fd, size);
        if (code < 0) return code;
        at += part;
    }
    return 0;
}

fn allocateByWriting(fd: i32, size: u64) Code {
    const zeros: [4096]u8 = @splat(0);
    var at: u64 = 0;
    while (at < size) {
        const written = codeOf(linux.pwrite(fd, &zeros, @min(zeros.len, size - at), @intCast(at)));
        if (written == errno.interrupted) continue;
        if (written < 0) return written;
        if (written == 0) return errno.no_space;
        at += @intCast(written);
    }
    return 0;
}

/// Whether a mapping of this file may cover more than was asked for: its pages are huge.
pub fn hasHugePages(fd: i32) bool {
    const hugetlbfs_magic = 0x958458f6;
    var statfs: [128]u8 align(8) = @splat(0);
    if (codeOf(linux.syscall2(.fstatfs, @as(u32, @bitCast(fd)), @intFromPtr(&statfs))) < 0) return false;
    return std.mem.readInt(u32, statfs[statfs_type_offset..][0..4], .little) == hugetlbfs_magic;
}

/// Whether nobody can make this file smaller, ever.
pub fn isShrinkSealed(fd: i32) bool {
    const present = codeOf(linux.fcntl(fd, linux.F.GET_SEALS, 0));
    return present >= 0 and @as(u32, @intCast(present)) & linux.F.SEAL_SHRINK != 0;
}

/// Maps the first `file_size` bytes of a file, read and write, and behind it private zeros up to `total_size`.
pub fn mapWithTail(fd: i32, file_size: usize, total_size: usize) mod.Mapped {
    const anonymous: linux.MAP = .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .NORESERVE = true };
    const reserved = mapped(linux.mmap(null, total_size, protection(true), anonymous, -1, 0));
    if (reserved.code < 0) return reserved;
    const shared: linux.MAP = .{ .TYPE = .SHARED, .FIXED = true };
    const placed = mapped(linux.mmap(@ptrFromInt(reserved.address), file_size, protection(true), shared, fd, 0));
    if (placed.code < 0) {
        unmap(reserved.address, total_size);
        return placed;
    }
    return reserved;
}

// Other processes

pub const isDumpable = credentials.isDumpable;
pub const canOpenOurDescriptors = credentials.canOpenOurDescriptors;

pub fn processExists(pid: i32) bool {
    const code = codeOf(linux.syscall2(.kill, @as(u32, @bitCast(pid)), 0));
    return code != errno.no_process;
}

/// Whether a process has no program any more: it dies, or is dead. Its memory goes first, then its descriptors, at the latest
/// with its last thread.
pub fn isDying(pid: []const u8) bool {
    var name_buffer: [32]u8 = undefined;
    const name = std.fmt.bufPrintSentinel(&name_buffer, "/proc/{s}/exe", .{pid}, 0) catch return false;
    var target: [1]u8 = undefined;
    return codeOf(linux.readlink(name, &target, target.len)) == errno.no_entry;
}
