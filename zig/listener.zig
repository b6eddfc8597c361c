//! listener.zig: owns a socket path for as long as it lives (design D23).
//! May touch: the path, its lock file, a temporary name beside it. May not touch: connections.
//! Why two senders can't share a path, and a dead one's leftovers don't matter: the lock is the kernel's and ends with
//! its holder; only the holder looks at the old socket, and the new one takes its name by an atomic rename.

const std = @import("std");
const layout = @import("layout.zig");
const platform = @import("platform/mod.zig");
const Link = @import("link.zig").Link;
const Code = platform.Code;
const Status = layout.Status;

/// The shorter of the two systems' limits for a socket's name, less the longest suffix that we append.
pub const path_bytes_max = (if (@import("builtin").os.tag == .macos) 103 else 107) - suffix_max;
const suffix_max = ".4194304.new".len;
const lock_suffix = ".lock";

fn codeOf(status: Status) Code {
    return @backingInt(status);
}

const PathBuffer = struct {
    bytes: [128]u8 = @splat(0),
    len: usize = 0,

    fn of(parts: []const []const u8) PathBuffer {
        var buffer: PathBuffer = .{};
        for (parts) |part| {
            @memcpy(buffer.bytes[buffer.len..][0..part.len], part);
            buffer.len += part.len;
        }
        return buffer;
    }

    fn z(buffer: *const PathBuffer) [:0]const u8 {
        return buffer.bytes[0..buffer.len :0];
    }
};

pub const Listener = struct {
    path: PathBuffer,
    lock_path: PathBuffer,
    lock_fd: i32,
    /// Ours; runtimes get duplicates.
    listen_fd: i32,
    /// What we bound, so that `destroy` removes nothing that somebody else put there.
    socket: platform.FileInfo,
    /// Another process goes on with it: nothing of it is ours to remove.
    is_passed: bool = false,

    /// Binds and listens. `any_uid`: other users may connect as far as the directory lets them; TypeScript checks who.
    pub fn create(path: []const u8, any_uid: bool, out: *Listener) Code {
        if (path.len == 0 or std.mem.indexOfScalar(u8, path, 0) != null) return codeOf(.bad_argument);
        if (path.len > path_bytes_max) return codeOf(.path_too_long);
        out.path = .of(&.{path});
        out.lock_path = .of(&.{ path, lock_suffix });

        const directory = prepareDirectory(path);
        if (directory < 0) return directory;
        const lock_fd = takeLock(&out.lock_path);
        if (lock_fd < 0) return lock_fd;
        out.lock_fd = lock_fd;
        out.listen_fd = -1;
        out.is_passed = false;

        const free = probe(&out.path);
        const bound = if (free < 0) free else out.bind(any_uid);
        if (bound < 0) {
            out.dropLock();
            return bound;
        }
        return 0;
    }

    fn bind(listener: *Listener, any_uid: bool) Code {
        var digits: [12]u8 = undefined;
        const pid = std.fmt.bufPrint(&digits, ".{d}", .{platform.getPid()}) catch return codeOf(.bad_argument);
        const temporary: PathBuffer = .of(&.{ listener.path.z(), pid, ".new" });
        const fd = platform.socketStream();
        if (fd < 0) return fd;
        _ = platform.unlink(temporary.z()); // of an earlier process with our pid, which died between bind and rename
        const code = bindAt(fd, temporary.z(), listener.path.z(), any_uid, &listener.socket);
        if (code < 0) {
            _ = platform.unlink(temporary.z());
            _ = platform.close(fd);
            return code;
        }
        listener.listen_fd = fd;
        return 0;
    }

    /// Goes on with what another process of our user held, which leaves both descriptors to us: the lock is the open file's,
    /// so it was free at no moment, and who connected meanwhile waits in the queue. They are ours, whatever the outcome.
    pub fn take(path: []const u8, any_uid: bool, lock_fd: i32, listen_fd: i32, out: *Listener) Code {
        const code = check(path, any_uid, lock_fd, listen_fd, out);
        if (code < 0) {
            _ = platform.closeForeign(listen_fd);
            _ = platform.closeForeign(lock_fd);
        }
        return code;
    }

    fn check(path: []const u8, any_uid: bool, lock_fd: i32, listen_fd: i32, out: *Listener) Code {
        if (path.len == 0 or std.mem.indexOfScalar(u8, path, 0) != null) return codeOf(.bad_argument);
        if (path.len > path_bytes_max) return codeOf(.path_too_long);
        out.* = .{ .path = .of(&.{path}), .lock_path = .of(&.{ path, lock_suffix }), .lock_fd = lock_fd, .listen_fd = listen_fd, .socket = undefined };
        if (!platform.isUnixListener(listen_fd)) return codeOf(.bad_descriptor);
        // Ours already, if it is what the other one held.
        const locked = platform.lockExclusive(lock_fd);
        if (locked < 0) return codeOf(.bad_descriptor);
        var at_path: platform.FileInfo = undefined;
        if (platform.statPath(out.lock_path.z(), &at_path, false) < 0) return codeOf(.bad_descriptor);
        const own = platform.statDescriptor(lock_fd) orelse return codeOf(.bad_descriptor);
        if (!own.same(at_path)) return codeOf(.bad_descriptor);
        const known = platform.statPath(out.path.z(), &out.socket, false);
        if (known < 0) return known;
        if (out.socket.kind != .socket) return codeOf(.path_not_socket);
        return platform.setMode(out.path.z(), if (any_uid) 0o666 else 0o600);
    }

    /// Duplicates of the lock's and the socket's descriptor, for who takes the path over; they are the caller's.
    pub fn pass(listener: *const Listener, out: *[2]i32) Code {
        const lock_fd = platform.duplicate(listener.lock_fd);
        if (lock_fd < 0) return lock_fd;
        const listen_fd = platform.duplicate(listener.listen_fd);
        if (listen_fd < 0) {
            _ = platform.close(lock_fd);
            return listen_fd;
        }
        out.* = .{ lock_fd, listen_fd };
        return 0;
    }

    /// A duplicate of the listening descriptor, for a runtime's event loop; it is the caller's.
    pub fn duplicate(listener: *const Listener) Code {
        return platform.duplicate(listener.listen_fd);
    }

    /// Accepts a connection if one waits: for what a runtime left in the queue when descriptors ran out.
    pub fn accept(listener: *const Listener, out: *Link) Code {
        const fd = platform.socketAccept(listener.listen_fd);
        if (fd == platform.errno.again) return codeOf(.would_block);
        if (fd < 0) return fd;
        out.* = .{ .fd = fd };
        return 0;
    }

    /// Says in the lock file where to find a descriptor of this process, for who may open it by `/proc`. What a dead sender
    /// had said there is replaced; until then it leads nowhere, since the id is another one.
    pub fn announce(listener: *const Listener, fd: i32, id: [16]u8) Code {
        var text: [96]u8 = undefined;
        const line = std.fmt.bufPrint(&text, "{d} {d} {x}\n", .{ platform.getPid(), fd, id }) catch return codeOf(.bad_argument);
        return platform.replaceContents(listener.lock_fd, line);
    }

    pub fn destroy(listener: *Listener) void {
        _ = platform.close(listener.listen_fd);
        if (listener.is_passed) {
            _ = platform.close(listener.lock_fd);
            return;
        }
        var present: platform.FileInfo = undefined;
        if (platform.statPath(listener.path.z(), &present, false) == 0 and present.same(listener.socket)) {
            _ = platform.unlink(listener.path.z());
        }
        listener.dropLock();
    }

    /// The file goes first, while we still hold the lock: who opened it before will see that it is no longer the one
    /// at the path (`takeLock`).
    fn dropLock(listener: *Listener) void {
        _ = platform.unlink(listener.lock_path.z());
        _ = platform.close(listener.lock_fd);
    }
};

/// Listens under the temporary name first, so that nobody finds a socket at the path that refuses connections.
fn bindAt(fd: i32, temporary: [:0]const u8, path: [:0]const u8, any_uid: bool, out: *platform.FileInfo) Code {
    const bound = platform.socketBind(fd, temporary);
    if (bound < 0) return bound;
    const moded = platform.setMode(temporary, if (any_uid) 0o666 else 0o600);
    if (moded < 0) return moded;
    const listening = platform.socketListen(fd);
    if (listening < 0) return listening;
    const known = platform.statPath(temporary, out, false);
    if (known < 0) return known;
    return platform.rename(temporary, path);
}

/// Creates the directory (0700) if it is missing. One that others may write to needs the sticky bit, or they could
/// replace our socket by theirs.
fn prepareDirectory(path: []const u8) Code {
    const slash = std.mem.lastIndexOfScalar(u8, path, '/');
    const directory: PathBuffer = if (slash) |at| .of(&.{if (at == 0) "/" else path[0..at]}) else .of(&.{"."});
    var info: platform.FileInfo = undefined;
    var code = platform.statPath(directory.z(), &info, true);
    if (code == platform.errno.no_entry) {
        const made = platform.makeDirectory(directory.z());
        if (made < 0 and made != platform.errno.exists) return made;
        code = platform.statPath(directory.z(), &info, true);
    }
    if (code < 0) return code;
    const writable_by_others = info.mode & 0o022 != 0;
    const sticky = info.mode & 0o1000 != 0;
    return if (writable_by_others and !sticky) codeOf(.directory_unsafe) else 0;
}

fn takeLock(lock_path: *const PathBuffer) Code {
    // A holder that ends unlinks the file we may just have opened; then the path has a new one, or none.
    for (0..100) |_| {
        const fd = platform.openLockFile(lock_path.z());
        if (fd < 0) return fd;
        const locked = platform.lockExclusive(fd);
        if (locked < 0) {
            _ = platform.close(fd);
            return if (locked == platform.errno.again) codeOf(.path_in_use) else locked;
        }
        var at_path: platform.FileInfo = undefined;
        const found = platform.statPath(lock_path.z(), &at_path, false);
        if (found == 0) if (platform.statDescriptor(fd)) |own| if (own.same(at_path)) return fd;
        _ = platform.close(fd);
    }
    return codeOf(.path_in_use);
}

/// What stands at the path: nothing, or a dead sender's socket (0); a live one's, such as the Rust original's, which
/// takes no lock; or something that is not ours to remove.
fn probe(path: *const PathBuffer) Code {
    var info: platform.FileInfo = undefined;
    const code = platform.statPath(path.z(), &info, false);
    if (code == platform.errno.no_entry) return 0;
    if (code < 0) return code;
    if (info.kind != .socket) return codeOf(.path_not_socket);
    const fd = platform.socketStream();
    if (fd < 0) return fd;
    defer _ = platform.close(fd);
    const connected = platform.socketConnect(fd, path.z());
    if (connected == platform.errno.connection_refused or connected == platform.errno.no_entry) return 0;
    // Connected, or its queue is full (EAGAIN): somebody listens. Any other error: not provably dead.
    return if (connected == 0 or connected == platform.errno.again) codeOf(.path_in_use) else connected;
}

const testing = std.testing;
const common = @import("testing.zig");

fn exists(path: [:0]const u8) bool {
    var info: platform.FileInfo = undefined;
    return platform.statPath(path, &info, false) == 0;
}

fn existsLock(path: []const u8) bool {
    var buffer: [path_bytes_max + lock_suffix.len + 1]u8 = undefined;
    return exists(std.fmt.bufPrintSentinel(&buffer, "{s}{s}", .{ path, lock_suffix }, 0) catch unreachable);
}

test "a second sender is refused while the first lives; the end leaves nothing" {
    const path = &common.path("listener-a.sock");
    var first: Listener = undefined;
    try testing.expectEqual(0, Listener.create(path, false, &first));
    var second: Listener = undefined;
    try testing.expectEqual(codeOf(.path_in_use), Listener.create(path, false, &second));
    var link: Link = undefined;
    var accepted: Link = undefined;
    try testing.expectEqual(codeOf(.would_block), first.accept(&accepted));
    try testing.expectEqual(0, Link.connect(path, &link));
    try testing.expectEqual(0, first.accept(&accepted));
    try testing.expectEqual(2, link.send("hi", &.{}));
    accepted.destroy();
    link.destroy();
    first.destroy();
    try testing.expect(!exists(path));
    try testing.expect(!existsLock(path));
    try testing.expectEqual(0, Listener.create(path, false, &second));
    second.destroy();
}

test "a dead sender's socket and lock file are taken over" {
    const path = &common.path("listener-b.sock");
    var dead: Listener = undefined;
    try testing.expectEqual(0, Listener.create(path, false, &dead));
    _ = platform.close(dead.listen_fd); // as the kernel does at kill -9
    _ = platform.close(dead.lock_fd);
    var next: Listener = undefined;
    try testing.expectEqual(0, Listener.create(path, false, &next));
    var link: Link = undefined;
    try testing.expectEqual(0, Link.connect(path, &link));
    link.destroy();
    next.destroy();
    try testing.expect(!exists(path));
}

test "who takes a path over holds it without a break; who gave it up removes nothing of it" {
    const path = &common.path("listener-d.sock");
    var old: Listener = undefined;
    try testing.expectEqual(0, Listener.create(path, false, &old));
    var passed: [2]i32 = undefined;
    try testing.expectEqual(0, old.pass(&passed));
    var early: Link = undefined;
    try testing.expectEqual(0, Link.connect(path, &early));
    defer early.destroy();
    old.is_passed = true;
    old.destroy();
    var third: Listener = undefined;
    try testing.expectEqual(codeOf(.path_in_use), Listener.create(path, false, &third));
    var new: Listener = undefined;
    try testing.expectEqual(0, Listener.take(path, false, passed[0], passed[1], &new));
    try testing.expectEqual(codeOf(.path_in_use), Listener.create(path, false, &third));
    var accepted: Link = undefined;
    try testing.expectEqual(0, new.accept(&accepted));
    accepted.destroy();
    new.destroy();
    try testing.expect(!exists(path));
    try testing.expect(!existsLock(path));
    // What is no such pair is closed, and refused.
    const fd = platform.socketStream();
    try testing.expectEqual(codeOf(.bad_descriptor), Listener.take(path, false, fd, platform.duplicate(fd), &new));
}

test "refuses a live socket without a lock, a path that is no socket, an unsafe directory, a long path" {
    const path = &common.path("listener-c.sock");
    var listener: Listener = undefined;
    const foreign = platform.socketStream();
    try testing.expectEqual(0, platform.socketBind(foreign, path));
    try testing.expectEqual(0, platform.socketListen(foreign));
    try testing.expectEqual(codeOf(.path_in_use), Listener.create(path, false, &listener));
    _ = platform.close(foreign);
    _ = platform.unlink(path);

    const file = platform.openLockFile(path);
    try testing.expectEqual(codeOf(.path_not_socket), Listener.create(path, false, &listener));
    try testing.expect(exists(path));
    _ = platform.close(file);
    _ = platform.unlink(path);
    try testing.expect(!existsLock(path));

    const directory = common.path("listener-directory");
    const within = common.path("listener-directory/s");
    _ = platform.makeDirectory(&directory);
    defer _ = std.os.linux.rmdir(&directory);
    try testing.expectEqual(0, platform.setMode(&directory, 0o777));
    try testing.expectEqual(codeOf(.directory_unsafe), Listener.create(&within, false, &listener));
    try testing.expectEqual(0, platform.setMode(&directory, 0o1777));
    try testing.expectEqual(0, Listener.create(&within, false, &listener));
    listener.destroy();

    const long: [path_bytes_max + 1]u8 = @splat('a');
    try testing.expectEqual(codeOf(.path_too_long), Listener.create(&long, false, &listener));
    try testing.expectEqual(codeOf(.bad_argument), Listener.create("", false, &listener));
}
