//! darwin.zig: macOS through libSystem. Compiled and symbol-checked by cross-compilation; it has not been run.
//! Where it differs from Linux: no seals (a reader gets a read-only descriptor of an unlinked object, whose size can be
//! set only once), no MSG_CMSG_CLOEXEC and no MSG_NOSIGNAL (set on the descriptor instead).

const std = @import("std");
const builtin = @import("builtin");
const c = std.c;
const mod = @import("mod.zig");
const Code = mod.Code;
const FileInfo = mod.FileInfo;

/// The errno values that callers tell apart.
pub const errno = struct {
    pub const again: Code = -35;
    pub const bad_descriptor: Code = -9;
    pub const connection_refused: Code = -61;
    pub const exists: Code = -17;
    pub const interrupted: Code = -4;
    pub const invalid: Code = -22;
    pub const no_entry: Code = -2;
    pub const no_memory: Code = -12;
    pub const no_process: Code = -3;
    pub const no_space: Code = -28;
    pub const not_supported: Code = -45;
    pub const not_connected: Code = -57;
    pub const pipe: Code = -32;
    pub const connection_reset: Code = -54;
};

// From the system's headers. Declared here with plain C types, so that nothing depends on how the standard library
// happens to shape them.
const af_unix = 1;
const sock_stream = 1;
const sol_socket = 0xffff;
const so_acceptconn = 0x0002;
const so_linger = 0x0080;
const shut_wr = 1;
const so_type = 0x1008;
const so_nosigpipe = 0x1022;
const sol_local = 0;
const local_peerpid = 2;
const scm_rights = 1;
const msg_ctrunc = 0x20;
const msg_dontwait = 0x80;
const f_setfd = 2;
const f_getfl = 3;
const f_setfl = 4;
const f_preallocate = 42;
const f_dupfd_cloexec = 67;
const f_setnosigpipe = 73;
const f_allocate_all = 4;
const f_peof_mode = 3;
const fd_cloexec = 1;
const o_rdonly = 0x0000;
const o_rdwr = 0x0002;
const o_nonblock = 0x0004;
const o_nofollow = 0x0100;
const o_creat = 0x0200;
const o_excl = 0x0800;
const o_noctty = 0x20000;
const o_cloexec = 0x1000000;
const prot_none = 0;
const prot_read = 1;
const prot_write = 2;
const map_shared = 0x0001;
const map_private = 0x0002;
const map_fixed = 0x0010;
const map_anonymous = 0x1000;
const lock_exclusive = 2;
const lock_nonblocking = 4;
const rlimit_nofile = 8;
const clock_realtime = 0;
const clock_monotonic = 6;
const at_fdcwd = -2;
const at_symlink_nofollow = 0x20;
const unix_path_max = 103;

const SockaddrUn = extern struct { len: u8 = @sizeOf(SockaddrUn), family: u8 = af_unix, path: [104]u8 = @splat(0) };
const Iovec = extern struct { base: ?*const anyopaque, len: usize };
const MessageHeader = extern struct {
    name: ?*anyopaque = null,
    name_length: u32 = 0,
    parts: [*]const Iovec,
    part_count: c_int,
    control: ?*anyopaque = null,
    control_length: u32 = 0,
    flags: c_int = 0,
};
const ControlHeader = extern struct { len: u32, level: c_int, type: c_int };
const Limit = extern struct { current: u64, maximum: u64 };
const Store = extern struct { flags: c_uint, mode: c_int, offset: i64, length: i64, allocated: i64 = 0 };
const Time = extern struct { seconds: isize, nanoseconds: isize };

const system = struct {
    extern "c" fn __error() *c_int;
    extern "c" fn close(fd: c_int) c_int;
    extern "c" fn fcntl(fd: c_int, command: c_int, ...) c_int;
    extern "c" fn open(path: [*:0]const u8, flags: c_int, ...) c_int;
    extern "c" fn shm_open(name: [*:0]const u8, flags: c_int, ...) c_int;
    extern "c" fn shm_unlink(name: [*:0]const u8) c_int;
    extern "c" fn pwrite(fd: c_int, bytes: [*]const u8, size: usize, offset: i64) isize;
    extern "c" fn ftruncate(fd: c_int, size: i64) c_int;
    extern "c" fn mmap(address: ?*anyopaque, size: usize, protection: c_int, flags: c_int, fd: c_int, offset: i64) usize;
    extern "c" fn munmap(address: usize, size: usize) c_int;
    extern "c" fn mprotect(address: usize, size: usize, protection: c_int) c_int;
    extern "c" fn socket(domain: c_int, kind: c_int, protocol: c_int) c_int;
    extern "c" fn socketpair(domain: c_int, kind: c_int, protocol: c_int, out: *[2]c_int) c_int;
    extern "c" fn bind(fd: c_int, address: *const SockaddrUn, size: u32) c_int;
    extern "c" fn listen(fd: c_int, backlog: c_int) c_int;
    extern "c" fn accept(fd: c_int, address: ?*anyopaque, size: ?*u32) c_int;
    extern "c" fn connect(fd: c_int, address: *const SockaddrUn, size: u32) c_int;
    extern "c" fn shutdown(fd: c_int, how: c_int) c_int;
    extern "c" fn getsockopt(fd: c_int, level: c_int, option: c_int, value: *anyopaque, size: *u32) c_int;
    extern "c" fn setsockopt(fd: c_int, level: c_int, option: c_int, value: *const anyopaque, size: u32) c_int;
    extern "c" fn getsockname(fd: c_int, address: *SockaddrUn, size: *u32) c_int;
    extern "c" fn getpeereid(fd: c_int, uid: *u32, gid: *u32) c_int;
    extern "c" fn sendmsg(fd: c_int, message: *const MessageHeader, flags: c_int) isize;
    extern "c" fn recvmsg(fd: c_int, message: *MessageHeader, flags: c_int) isize;
    extern "c" fn flock(fd: c_int, operation: c_int) c_int;
    extern "c" fn rename(from: [*:0]const u8, to: [*:0]const u8) c_int;
    extern "c" fn unlink(path: [*:0]const u8) c_int;
    extern "c" fn chmod(path: [*:0]const u8, mode: c_uint) c_int;
    extern "c" fn mkdir(path: [*:0]const u8, mode: c_uint) c_int;
    extern "c" fn rmdir(path: [*:0]const u8) c_int;
    extern "c" fn getcwd(buffer: [*]u8, size: usize) ?[*:0]u8;
    extern "c" fn pread(fd: c_int, buffer: [*]u8, size: usize, offset: i64) isize;
    extern "c" fn kill(pid: c_int, signal: c_int) c_int;
    extern "c" fn getpid() c_int;
    extern "c" fn geteuid() u32;
    extern "c" fn getrlimit(resource: c_int, limit: *Limit) c_int;
    extern "c" fn setrlimit(resource: c_int, limit: *const Limit) c_int;
    extern "c" fn clock_gettime(clock: c_int, time: *Time) c_int;
    extern "c" fn write(fd: c_int, bytes: [*]const u8, size: usize) isize;
    extern "c" fn sched_yield() c_int;
    extern "c" fn pipe(out: *[2]c_int) c_int;
    extern "c" fn arc4random_buf(bytes: [*]u8, size: usize) void;
};

fn codeOf(result: anytype) Code {
    if (result == -1) return -@as(Code, system.__error().*);
    return std.math.cast(Code, result) orelse errno.invalid;
}

pub fn init() void {}

pub fn close(fd: i32) Code {
    return codeOf(system.close(fd));
}

pub fn closeForeign(fd: i32) Code {
    const at_once: extern struct { on: c_int, seconds: c_int } = .{ .on = 1, .seconds = 0 };
    _ = system.setsockopt(fd, sol_socket, so_linger, &at_once, @sizeOf(@TypeOf(at_once)));
    return close(fd);
}

pub fn duplicate(fd: i32) Code {
    return codeOf(system.fcntl(fd, f_dupfd_cloexec, @as(c_int, 3)));
}

pub fn duplicateAbove(fd: i32, minimum: u31) Code {
    return codeOf(system.fcntl(fd, f_dupfd_cloexec, @as(c_int, minimum)));
}

pub fn descriptorLimit() u64 {
    var limit: Limit = undefined;
    return if (codeOf(system.getrlimit(rlimit_nofile, &limit)) < 0) 0 else limit.current;
}

pub fn getPid() i32 {
    return system.getpid();
}

pub fn effectiveUid() u32 {
    return system.geteuid();
}

pub fn realtimeNs() u64 {
    return clock(clock_realtime);
}

pub fn monotonicNs() u64 {
    return clock(clock_monotonic);
}

fn clock(id: c_int) u64 {
    var time: Time = undefined;
    if (system.clock_gettime(id, &time) != 0) return 0;
    const seconds = std.math.cast(u64, time.seconds) orelse return 0;
    return seconds *% std.time.ns_per_s +% @as(u64, @intCast(time.nanoseconds));
}

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

/// A pipe's ends: ours to write, one to pass.
pub fn eventCreate(out: *[2]i32) Code {
    var ends: [2]c_int = undefined;
    const made = codeOf(system.pipe(&ends));
    if (made < 0) return made;
    for (ends) |fd| {
        _ = system.fcntl(fd, f_setfd, @as(c_int, fd_cloexec));
        _ = system.fcntl(fd, f_setnosigpipe, @as(c_int, 1));
        _ = setNonBlocking(fd);
    }
    out.* = .{ ends[1], ends[0] };
    return 0;
}

/// There is no /proc, and so nothing that would be asked about by it.
pub fn isDying(pid: []const u8) bool {
    _ = pid;
    return false;
}

/// EAGAIN: the pipe is full, so it has been signalled already.
/// The flag belongs to the description, which a peer that got this end could change; ours stays here, and it gets the other.
pub fn eventSignalShared(fd: i32) Code {
    return codeOf(system.write(fd, "\x01", 1));
}

/// Zeros that nobody shares.
pub fn pages(size: usize) mod.Mapped {
    return mapped(system.mmap(null, size, protection(true), map_private | map_anonymous, -1, 0));
}

/// The crate waits on futexes on Linux only.
pub fn futexWake(word: *const anyopaque, count: i32) void {
    _ = .{ word, count };
}

/// Gives way instead of sleeping: the system's futex is private to it.
pub fn futexWait(word: *const u32, value: u32) void {
    _ = .{ word, value };
    _ = system.sched_yield();
}

pub fn futexWakeOne(word: *const u32) void {
    _ = word;
}

pub fn writeStderr(text: []const u8) void {
    _ = system.write(2, text.ptr, text.len);
}

pub fn raiseDescriptorLimit() Code {
    const open_max = 10240; // the kernel refuses more, whatever the hard limit says
    var limit: Limit = undefined;
    const got = codeOf(system.getrlimit(rlimit_nofile, &limit));
    if (got < 0) return got;
    const wanted = @min(limit.maximum, open_max);
    if (limit.current >= wanted) return 0;
    limit.current = wanted;
    return codeOf(system.setrlimit(rlimit_nofile, &limit));
}

// Memory

pub fn memoryCreate(size: u64, access: mod.Access) mod.Memory {
    var random: [8]u8 = undefined;
    system.arc4random_buf(&random, random.len);
    var name: [32:0]u8 = @splat(0);
    const text = std.fmt.bufPrint(&name, "/qlaster-{x}", .{std.mem.readInt(u64, &random, .little)}) catch return .{ .code = errno.invalid };
    name[text.len] = 0;

    const fd = codeOf(system.shm_open(&name, o_rdwr | o_creat | o_excl, @as(c_uint, 0o600)));
    if (fd < 0) return .{ .code = fd };
    defer _ = system.shm_unlink(&name);
    const passed = switch (access) {
        .read_write => fd,
        .read_only => codeOf(system.shm_open(&name, o_rdonly, @as(c_uint, 0))),
    };
    if (passed < 0) {
        _ = close(fd);
        return .{ .code = passed };
    }
    for ([_]i32{ fd, passed }) |descriptor| _ = system.fcntl(descriptor, f_setfd, @as(c_int, fd_cloexec));
    const sized = codeOf(system.ftruncate(fd, @intCast(size)));
    if (sized < 0) {
        if (passed != fd) _ = close(passed);
        _ = close(fd);
        return .{ .code = sized };
    }
    return .{ .code = 0, .fd = fd, .passed_fd = passed };
}

pub fn memorySeal(fd: i32, seals: mod.Seals) Code {
    _ = fd;
    _ = seals;
    return 0; // The kernel lets the size of an object be set once.
}

pub fn memoryCheck(fd: i32, size: u64, seals: mod.Seals) mod.MemoryVerdict {
    _ = seals;
    const info = statDescriptor(fd) orelse return .not_memory;
    if (info.kind == .socket or info.kind == .directory) return .not_memory;
    return if (info.size == size) .ok else .wrong_size;
}

fn protection(writable: bool) c_int {
    return if (writable) prot_read | prot_write else prot_read;
}

fn mapped(result: usize) mod.Mapped {
    if (result == std.math.maxInt(usize)) return .{ .code = -@as(Code, system.__error().*) };
    return .{ .code = 0, .address = result };
}

pub fn map(fd: i32, size: usize, writable: bool) mod.Mapped {
    return mapped(system.mmap(null, size, protection(writable), map_shared, fd, 0));
}

/// @param extra Bytes of addresses kept behind, for `mapAt`.
pub fn mapRing(fd: i32, header_size: usize, capacity: usize, writable: bool, extra: usize) mod.Mapped {
    const total = header_size + 2 * capacity + extra;
    const reserved = mapped(system.mmap(null, total, prot_none, map_private | map_anonymous, -1, 0));
    if (reserved.code < 0) return reserved;
    const base = reserved.address;
    const parts = [_]struct { at: usize, size: usize, offset: usize }{
        .{ .at = base, .size = header_size, .offset = capacity },
        .{ .at = base + header_size, .size = capacity, .offset = 0 },
        .{ .at = base + header_size + capacity, .size = capacity, .offset = 0 },
    };
    for (parts) |part| {
        const flags = map_shared | map_fixed;
        const placed = mapped(system.mmap(@ptrFromInt(part.at), part.size, protection(writable), flags, fd, @intCast(part.offset)));
        if (placed.code < 0) {
            unmap(base, total);
            return placed;
        }
    }
    return reserved;
}

pub fn mapAt(address: usize, fd: i32, size: usize, writable: bool) mod.Mapped {
    return mapped(system.mmap(@ptrFromInt(address), size, protection(writable), map_shared | map_fixed, fd, 0));
}

pub fn overlay(address: usize, size: usize, writable: bool) mod.Mapped {
    const flags = map_private | map_anonymous | map_fixed;
    return mapped(system.mmap(@ptrFromInt(address), size, protection(writable), flags, -1, 0));
}

pub fn unmap(address: usize, size: usize) void {
    _ = system.munmap(address, size);
}

pub fn reserve(size: usize) mod.Mapped {
    return mapped(system.mmap(null, size, prot_none, map_private | map_anonymous, -1, 0));
}

pub fn commit(address: usize, size: usize) Code {
    return codeOf(system.mprotect(address, size, prot_read | prot_write));
}

pub fn decommit(address: usize, size: usize) Code {
    return mapped(system.mmap(@ptrFromInt(address), size, prot_none, map_private | map_anonymous | map_fixed, -1, 0)).code;
}

// Sockets

fn prepareSocket(fd: i32) Code {
    const on: c_int = 1;
    const silent = codeOf(system.setsockopt(fd, sol_socket, so_nosigpipe, &on, @sizeOf(c_int)));
    if (silent < 0) return silent;
    _ = system.fcntl(fd, f_setfd, @as(c_int, fd_cloexec));
    return setNonBlocking(fd);
}

pub fn socketStream() Code {
    const fd = codeOf(system.socket(af_unix, sock_stream, 0));
    if (fd < 0) return fd;
    const prepared = prepareSocket(fd);
    if (prepared >= 0) return fd;
    _ = close(fd);
    return prepared;
}

pub fn socketPair(out: *[2]i32) Code {
    const made = codeOf(system.socketpair(af_unix, sock_stream, 0, out));
    if (made < 0) return made;
    for (out) |fd| {
        const prepared = prepareSocket(fd);
        if (prepared >= 0) continue;
        for (out) |either| _ = close(either);
        return prepared;
    }
    return 0;
}

fn nameOf(path: [:0]const u8) ?SockaddrUn {
    if (path.len > unix_path_max) return null;
    var address: SockaddrUn = .{};
    @memcpy(address.path[0..path.len], path);
    return address;
}

pub fn socketBind(fd: i32, path: [:0]const u8) Code {
    const address = nameOf(path) orelse return errno.invalid;
    return codeOf(system.bind(fd, &address, @sizeOf(SockaddrUn)));
}

pub fn socketListen(fd: i32) Code {
    return codeOf(system.listen(fd, 128));
}

pub fn socketAccept(fd: i32) Code {
    const accepted = codeOf(system.accept(fd, null, null));
    if (accepted < 0) return accepted;
    const prepared = prepareSocket(accepted);
    if (prepared >= 0) return accepted;
    _ = close(accepted);
    return prepared;
}

pub fn socketConnect(fd: i32, path: [:0]const u8) Code {
    const address = nameOf(path) orelse return errno.invalid;
    return codeOf(system.connect(fd, &address, @sizeOf(SockaddrUn)));
}

pub fn socketPeer(fd: i32, out: *mod.Peer) Code {
    const known = codeOf(system.getpeereid(fd, &out.uid, &out.gid));
    if (known < 0) return known;
    var size: u32 = @sizeOf(i32);
    out.pid = 0;
    _ = system.getsockopt(fd, sol_local, local_peerpid, &out.pid, &size);
    return 0;
}

fn socketOption(fd: i32, option: c_int) Code {
    var value: c_int = 0;
    var size: u32 = @sizeOf(c_int);
    const code = codeOf(system.getsockopt(fd, sol_socket, option, &value, &size));
    return if (code < 0) code else value;
}

/// There is no such option here: the kernel drops descriptors at a plain read.
pub fn refuseDescriptors(fd: i32) void {
    _ = fd;
}

pub fn isUnixStream(fd: i32) bool {
    var address: SockaddrUn = .{};
    var size: u32 = @sizeOf(SockaddrUn);
    if (codeOf(system.getsockname(fd, &address, &size)) < 0) return false;
    return address.family == af_unix and socketOption(fd, so_type) == sock_stream and socketOption(fd, so_acceptconn) == 0;
}

/// Whether it is a Unix stream socket that listens.
pub fn isUnixListener(fd: i32) bool {
    var address: SockaddrUn = .{};
    var size: u32 = @sizeOf(SockaddrUn);
    if (codeOf(system.getsockname(fd, &address, &size)) < 0) return false;
    // An option that is on is not 0 there.
    return address.family == af_unix and socketOption(fd, so_type) == sock_stream and socketOption(fd, so_acceptconn) > 0;
}

pub fn eventIsNonBlocking(fd: i32) bool {
    const flags = codeOf(system.fcntl(fd, f_getfl));
    return flags >= 0 and flags & o_nonblock != 0;
}

/// No more bytes from us: the other end reads the end of the stream.
pub fn socketShutdown(fd: i32) void {
    _ = system.shutdown(fd, shut_wr);
}

pub fn setNonBlocking(fd: i32) Code {
    const flags = codeOf(system.fcntl(fd, f_getfl));
    if (flags < 0) return flags;
    return codeOf(system.fcntl(fd, f_setfl, flags | o_nonblock));
}

const descriptors_max = 253;
const ControlBuffer = extern struct { header: ControlHeader, descriptors: [descriptors_max + 1]i32 };

pub fn sendMessage(fd: i32, bytes: []const u8, descriptors: []const i32) Code {
    var control: ControlBuffer = undefined;
    const part: [1]Iovec = .{.{ .base = bytes.ptr, .len = bytes.len }};
    var message: MessageHeader = .{ .parts = &part, .part_count = 1 };
    if (descriptors.len > 0) {
        if (descriptors.len > descriptors_max) return errno.invalid;
        const size: u32 = @intCast(@sizeOf(ControlHeader) + descriptors.len * @sizeOf(i32));
        control.header = .{ .len = size, .level = sol_socket, .type = scm_rights };
        @memcpy(control.descriptors[0..descriptors.len], descriptors);
        message.control = &control;
        message.control_length = size;
    }
    while (true) {
        const code = codeOf(system.sendmsg(fd, &message, msg_dontwait));
        if (code != errno.interrupted) return code;
    }
}

pub fn receiveMessage(fd: i32, buffer: []u8, out: []i32, truncated: *bool) mod.Received {
    var control: ControlBuffer = undefined;
    const part: [1]Iovec = .{.{ .base = buffer.ptr, .len = buffer.len }};
    var message: MessageHeader = .{ .parts = &part, .part_count = 1, .control = &control };
    var received: mod.Received = .{ .code = errno.interrupted };
    while (received.code == errno.interrupted) {
        message.control_length = @sizeOf(ControlBuffer);
        received.code = codeOf(system.recvmsg(fd, &message, msg_dontwait));
    }
    truncated.* = false;
    if (received.code < 0) return received;
    truncated.* = message.flags & msg_ctrunc != 0;

    const bytes: [*]align(4) const u8 = @ptrCast(&control);
    var at: usize = 0;
    const filled = @min(message.control_length, @sizeOf(ControlBuffer));
    while (at + @sizeOf(ControlHeader) <= filled) {
        const header: *const ControlHeader = @ptrCast(@alignCast(bytes + at));
        if (header.len < @sizeOf(ControlHeader) or header.len > filled - at) break;
        if (header.level == sol_socket and header.type == scm_rights) {
            var from = at + @sizeOf(ControlHeader);
            while (from + @sizeOf(i32) <= at + header.len) : (from += @sizeOf(i32)) {
                const descriptor = std.mem.readInt(i32, bytes[from..][0..4], .little);
                _ = system.fcntl(descriptor, f_setfd, @as(c_int, fd_cloexec));
                if (received.descriptor_count < out.len) {
                    out[received.descriptor_count] = descriptor;
                } else {
                    _ = closeForeign(descriptor);
                }
                received.descriptor_count += 1;
            }
        }
        at += std.mem.alignForward(usize, header.len, 4);
    }
    return received;
}

// Files

pub fn openLockFile(path: [:0]const u8) Code {
    return codeOf(system.open(path, o_rdwr | o_creat | o_cloexec | o_nofollow | o_nonblock, @as(c_uint, 0o600)));
}

pub fn lockExclusive(fd: i32) Code {
    return codeOf(system.flock(fd, lock_exclusive | lock_nonblocking));
}

fn infoOf(stat: c.Stat) FileInfo {
    return .{
        .kind = switch (stat.mode & 0o170000) {
            0o100000 => .regular,
            0o040000 => .directory,
            0o140000 => .socket,
            0o010000 => .pipe,
            else => .other,
        },
        .device = @as(u32, @bitCast(stat.dev)),
        .inode = stat.ino,
        .mode = stat.mode & 0o7777,
        .uid = stat.uid,
        .size = std.math.cast(u64, stat.size) orelse 0,
    };
}

pub fn statPath(path: [:0]const u8, out: *FileInfo, follow: bool) Code {
    var stat: c.Stat = undefined;
    const code = codeOf(c.fstatat(at_fdcwd, path, &stat, if (follow) 0 else at_symlink_nofollow));
    if (code < 0) return code;
    out.* = infoOf(stat);
    return 0;
}

pub fn statDescriptor(fd: i32) ?FileInfo {
    var stat: c.Stat = undefined;
    if (codeOf(c.fstat(fd, &stat)) < 0) return null;
    return infoOf(stat);
}

pub fn rename(from: [:0]const u8, to: [:0]const u8) Code {
    return codeOf(system.rename(from, to));
}

pub fn unlink(path: [:0]const u8) Code {
    return codeOf(system.unlink(path));
}

pub fn setMode(path: [:0]const u8, mode: u32) Code {
    return codeOf(system.chmod(path, mode));
}

pub fn makeDirectory(path: [:0]const u8) Code {
    return codeOf(system.mkdir(path, 0o700));
}

pub fn removeDirectory(path: [:0]const u8) Code {
    return codeOf(system.rmdir(path));
}

pub fn workingDirectory(buffer: []u8) Code {
    const path = system.getcwd(buffer.ptr, buffer.len) orelse return -@as(Code, system.__error().*);
    return std.math.cast(Code, std.mem.len(path)) orelse errno.invalid;
}

pub fn createFile(path: [:0]const u8) Code {
    return codeOf(system.open(path, o_rdwr | o_creat | o_excl | o_cloexec | o_nofollow, @as(c_uint, 0o600)));
}

/// There is no way to look at a file without opening it; what stands at the path is asked before, and again after.
pub fn openRegular(path: [:0]const u8, follow: bool) mod.Opened {
    var info: FileInfo = undefined;
    const known = statPath(path, &info, follow);
    if (known < 0) return .{ .code = known };
    if (info.kind != .regular) return .{ .code = errno.invalid };
    const no_follow: c_int = if (follow) 0 else o_nofollow;
    const fd = codeOf(system.open(path, o_rdwr | o_cloexec | o_nonblock | o_noctty | no_follow));
    if (fd < 0) return .{ .code = fd };
    const opened = statDescriptor(fd);
    if (opened == null or opened.?.kind != .regular or !opened.?.same(info)) {
        _ = close(fd);
        return .{ .code = errno.invalid };
    }
    return .{ .code = 0, .fd = fd, .info = opened.? };
}

pub fn readAt(fd: i32, buffer: []u8, offset: u32) Code {
    while (true) {
        const code = codeOf(system.pread(fd, buffer.ptr, buffer.len, offset));
        if (code != errno.interrupted) return code;
    }
}

pub fn replaceContents(fd: i32, text: []const u8) Code {
    const written = codeOf(system.pwrite(fd, text.ptr, text.len, 0));
    if (written < 0) return written;
    return codeOf(system.ftruncate(fd, written));
}

pub fn allocate(fd: i32, size: u64) Code {
    const length = std.math.cast(i64, size) orelse return errno.invalid;
    var store: Store = .{ .flags = f_allocate_all, .mode = f_peof_mode, .offset = 0, .length = length };
    const allocated = codeOf(system.fcntl(fd, f_preallocate, &store));
    // A file system that can't do it makes the file sparse.
    if (allocated < 0 and allocated != errno.not_supported and allocated != errno.invalid) return allocated;
    return codeOf(system.ftruncate(fd, length));
}

pub fn hasHugePages(fd: i32) bool {
    _ = fd;
    return false;
}

pub fn isShrinkSealed(fd: i32) bool {
    _ = fd;
    return false;
}

pub fn mapWithTail(fd: i32, file_size: usize, total_size: usize) mod.Mapped {
    const reserved = mapped(system.mmap(null, total_size, protection(true), map_private | map_anonymous, -1, 0));
    if (reserved.code < 0) return reserved;
    const flags = map_shared | map_fixed;
    const placed = mapped(system.mmap(@ptrFromInt(reserved.address), file_size, protection(true), flags, fd, 0));
    if (placed.code < 0) {
        unmap(reserved.address, total_size);
        return placed;
    }
    return reserved;
}

pub fn isDumpable() bool {
    return false; // there is no /proc
}

/// There are no namespaces here.
pub fn canOpenOurDescriptors(pid: i32) bool {
    return pid > 0;
}

pub fn processExists(pid: i32) bool {
    return codeOf(system.kill(pid, 0)) != errno.no_process;
}
