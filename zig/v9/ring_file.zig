//! v9/ring_file.zig: the memory of a shaq ring: made by the sender, found by its path and joined by the consumer.
//! May touch: files and mappings, through platform/. The words that identify a ring (magic, version, mask).
//! May not touch: cursors, frames: those are shaq.zig's.
//! Why by path: the Rust original's consumer opens the ring by a path, and takes the ring for closed once that path leads
//! nowhere. So the path stays until the end, and its end is the last thing that a consumer is told.
//! What a peer can do: the original seals nothing, so who made a ring file can make it smaller while we read it, which
//! ends our process (SIGBUS): the one exception from "no input reaches a crash". `Joined.is_sealed` tells where it can't.

const std = @import("std");
const layout = @import("../layout.zig");
const platform = @import("../platform/mod.zig");
const Atomic = std.atomic.Value;
const Code = platform.Code;
const Status = layout.Status;
const assert = std.debug.assert;

const header_size = @sizeOf(layout.ShaqHeader);
const header_size_3 = @sizeOf(layout.ShaqHeader3);
const default_place = "/dev/shm";
const default_prefix = "qlaster-";
/// Of how many entries of a directory `clean` looks at.
const entries_max = 4096;

pub const uid_any = std.math.maxInt(u32);

fn codeOf(status: Status) Code {
    return @backingInt(status);
}

pub const Path = struct {
    bytes: [layout.v9_path_bytes_max + 1]u8 = @splat(0),
    length: usize = 0,

    pub fn slice(path: *const Path) []const u8 {
        return path.bytes[0..path.length];
    }

    fn z(path: *const Path) [:0]const u8 {
        return path.bytes[0..path.length :0];
    }

    /// False: it does not fit; then nothing was appended.
    fn append(path: *Path, text: []const u8) bool {
        if (text.len > layout.v9_path_bytes_max - path.length) return false;
        @memcpy(path.bytes[path.length..][0..text.len], text);
        path.length += text.len;
        path.bytes[path.length] = 0;
        return true;
    }

    fn cut(path: *Path, length: usize) void {
        assert(length <= path.length);
        path.length = length;
        path.bytes[length] = 0;
    }

    /// Makes a relative path absolute: the other process has another working directory.
    fn setAbsolute(path: *Path, text: []const u8) Code {
        if (text.len == 0 or std.mem.indexOfScalar(u8, text, 0) != null) return codeOf(.bad_argument);
        path.* = .{};
        if (text[0] != '/') {
            var buffer: [4096]u8 = undefined;
            const size = platform.workingDirectory(&buffer);
            if (size < 0) return size;
            if (!path.append(buffer[0..@intCast(size)])) return codeOf(.path_too_long);
            if (!path.append("/")) return codeOf(.path_too_long);
        }
        if (!path.append(text)) return codeOf(.path_too_long);
        while (path.length > 1 and path.bytes[path.length - 1] == '/') path.cut(path.length - 1);
        return 0;
    }
};

pub fn capacityIsValid(capacity: u64) bool {
    return capacity >= layout.shaq_capacity_bytes_min and
        capacity <= layout.shaq_capacity_bytes_max and
        std.math.isPowerOfTwo(capacity);
}

/// A ring that we made.
pub const Created = struct {
    /// Keeps the lock of a file, or is what the path of a memfd names. -1 once removed.
    fd: i32,
    address: usize,
    /// Of the file and the mapping.
    size: usize,
    capacity: u64,
    /// Where a consumer finds it.
    path: Path,
    is_file: bool,
    /// Which file it is, so that `remove` removes nothing that somebody else put there.
    info: platform.FileInfo,

    pub fn pathSlice(created: *const Created) []const u8 {
        return created.path.slice();
    }

    pub fn header(created: *const Created) *layout.ShaqHeader {
        return @ptrFromInt(created.address);
    }

    pub fn dataAddress(created: *const Created) usize {
        return created.address + header_size;
    }

    /// The path leads nowhere from here on: consumers take the ring for closed. The mapping stays, so that the wake that
    /// has to follow can still look at the ring. Repeating it does nothing.
    pub fn remove(created: *Created) void {
        if (created.fd < 0) return;
        if (created.is_file) {
            _ = unlinkSame(.{ .path = &created.path, .info = created.info });
            removeOwnDirectory(&created.path);
        }
        // After the unlink: who finds the file unlocked at its path must be right that it is a leftover.
        _ = platform.close(created.fd);
        created.fd = -1;
    }

    pub fn destroy(created: *Created) void {
        created.remove();
        platform.unmap(created.address, created.size);
    }
};

/// Makes the memory of a ring, ready for a consumer. An empty directory: memory without a file, Linux only. `unsupported`
/// then means that other processes could not open it by its path; a file can take its place.
pub fn create(directory: []const u8, slot_index: u8, generation: u64, capacity: u64, out: *Created) Code {
    if (!capacityIsValid(capacity)) return codeOf(.bad_argument);
    out.fd = -1;
    out.capacity = capacity;
    out.size = header_size + @as(usize, @intCast(capacity));
    out.is_file = directory.len > 0;
    const made = if (out.is_file) makeFile(directory, slot_index, generation, out) else makeMemory(out);
    if (made < 0) return made;
    const mapped = platform.map(out.fd, out.size, true);
    if (mapped.code < 0) {
        out.remove();
        return mapped.code;
    }
    out.address = mapped.address;

    // A new file is zero, so the cursors are.
    const header = out.header();
    header.buffer_mask = @intCast(capacity - 1);
    header.version = layout.shaq_version_2;
    // Release: pairs with the acquire load of a consumer that joins. Whoever sees the magic sees the rest.
    header.magic.store(layout.shaq_magic, .release);
    return 0;
}

fn makeMemory(out: *Created) Code {
    if (comptime !platform.is_linux) return codeOf(.unsupported);
    if (!platform.isDumpable()) return codeOf(.unsupported);
    const memory = platform.memoryCreate(out.size, .read_write);
    if (memory.code < 0) return memory.code;
    // Not against writing: the consumer writes its cursors into the same file.
    const sealed = platform.memorySeal(memory.fd, .size);
    if (sealed < 0) {
        _ = platform.close(memory.fd);
        return sealed;
    }
    const fd = raise(memory.fd);
    if (fd < 0) {
        _ = platform.close(memory.fd);
        return codeOf(.unsupported);
    }
    out.fd = fd;
    out.info = platform.statDescriptor(fd) orelse return abandon(out, platform.errno.bad_descriptor);

    var buffer: [40]u8 = undefined;
    const name = std.fmt.bufPrint(&buffer, "/proc/{d}/fd/{d}", .{ platform.getPid(), fd }) catch unreachable;
    out.path = .{};
    assert(out.path.append(name));
    // /proc may be missing, or another pid namespace's.
    var found: platform.FileInfo = undefined;
    const reachable = platform.statPath(out.path.z(), &found, true) == 0 and found.same(out.info);
    return if (reachable) 0 else abandon(out, codeOf(.unsupported));
}

fn abandon(out: *Created, code: Code) Code {
    _ = platform.close(out.fd);
    out.fd = -1;
    return code;
}

var raise_turn = Atomic(u32).init(0);

/// With fewer descriptors than that, their numbers come again too soon.
const descriptors_min = 1024;

/// Moves a descriptor to a number that the kernel, which gives out the lowest free one, will not give out again for long:
/// a consumer that still knows our path must not find something else there. Numbers take turns for the same reason.
/// Below zero: there is no such number, and the descriptor is as it was.
fn raise(fd: i32) Code {
    const limit: u32 = @intCast(@min(platform.descriptorLimit(), 65536));
    if (limit < descriptors_min) return codeOf(.unsupported);
    const first = limit / 2;
    const count = limit - first;
    // Monotonic: any other number does, it need not be the next.
    const turn = raise_turn.fetchAdd(1, .monotonic) % count;
    for ([_]u32{ first + turn, first }) |minimum| {
        const raised = platform.duplicateAbove(fd, @intCast(minimum));
        if (raised < 0) continue; // all from there on are taken
        _ = platform.close(fd);
        return raised;
    }
    return codeOf(.unsupported);
}

fn makeFile(directory: []const u8, slot_index: u8, generation: u64, out: *Created) Code {
    const absolute = out.path.setAbsolute(directory);
    if (absolute < 0) return absolute;
    const directory_length = out.path.length;
    var buffer: [48]u8 = undefined;
    const name = std.fmt.bufPrint(&buffer, "/{d}-{d}-{d}", .{ platform.getPid(), slot_index, generation }) catch unreachable;

    // Before a directory is made for nothing.
    if (name.len > layout.v9_path_bytes_max - directory_length) return codeOf(.path_too_long);

    // Whoever cleans may remove an empty directory between our two steps, and a dead process may have had our pid.
    for (0..10) |_| {
        out.path.cut(directory_length);
        const prepared = prepareDirectory(&out.path);
        if (prepared < 0) return prepared;
        if (!out.path.append(if (directory_length == 1) name[1..] else name)) return codeOf(.path_too_long);
        const fd = platform.createFile(out.path.z());
        if (fd == platform.errno.no_entry) continue;
        if (fd == platform.errno.exists) {
            if (removeLeftover(&out.path)) continue;
            return codeOf(.path_in_use);
        }
        if (fd < 0) return fd;
        const filled = fill(fd, out);
        if (filled >= 0) return 0;
        _ = platform.unlink(out.path.z());
        removeOwnDirectory(&out.path);
        _ = platform.close(fd);
        out.fd = -1;
        return filled;
    }
    return platform.errno.no_entry;
}

fn fill(fd: i32, out: *Created) Code {
    out.fd = fd;
    const locked = platform.lockExclusive(fd);
    if (locked < 0) return locked;
    // Every page now: on a full file system a missing one would end whoever writes to it.
    const allocated = platform.allocate(fd, out.size);
    if (allocated < 0) return allocated;
    out.info = platform.statDescriptor(fd) orelse return platform.errno.bad_descriptor;
    return 0;
}

/// Creates the directory and those above it (0700) where missing. Nobody else may be able to replace files in it, nor any
/// part of the way there.
fn prepareDirectory(path: *const Path) Code {
    var part: Path = path.*;
    var info: platform.FileInfo = undefined;
    const looked = platform.statPath("/", &info, true);
    if (looked < 0) return looked;
    // Who owns it can do as he likes in any case. In a user namespace it may be none of those that have a name there.
    const root_uid = info.uid;
    if (isWritableByOthers(info)) return codeOf(.directory_unsafe);
    var end: usize = 1;
    while (end <= path.length) : (end += 1) {
        if (end < path.length and path.bytes[end] != '/') continue;
        part.bytes[end] = 0;
        part.length = end;
        // A link can be replaced by who owns it.
        var code = platform.statPath(part.z(), &info, false);
        if (code == platform.errno.no_entry) {
            const made = platform.makeDirectory(part.z());
            if (made < 0 and made != platform.errno.exists) return made;
            code = platform.statPath(part.z(), &info, false);
        }
        if (code < 0) return code;
        if (!isTrusted(info.uid) and info.uid != root_uid) return codeOf(.directory_unsafe);
        code = platform.statPath(part.z(), &info, true);
        if (code < 0) return code;
        if (!isTrusted(info.uid) and info.uid != root_uid) return codeOf(.directory_unsafe);
        if (isWritableByOthers(info)) return codeOf(.directory_unsafe);
        if (end < path.length) part.bytes[end] = '/';
    }
    return if (isTrusted(info.uid)) 0 else codeOf(.directory_unsafe);
}

/// Others can replace what is in such a directory, whoever it belongs to.
fn isWritableByOthers(info: platform.FileInfo) bool {
    const is_sticky = info.mode & 0o1000 != 0;
    return info.mode & 0o022 != 0 and !is_sticky;
}

fn isTrusted(uid: u32) bool {
    return uid == platform.effectiveUid() or uid == 0;
}

/// The directory of the file at `path`, if it is named after this process. One that is not empty stays.
fn removeOwnDirectory(path: *const Path) void {
    const slash = std.mem.lastIndexOfScalar(u8, path.slice(), '/') orelse return;
    const directory = path.bytes[0..slash];
    const above = std.mem.lastIndexOfScalar(u8, directory, '/') orelse return;
    const pid = pidOfDirectory(directory[above + 1 ..]) orelse return;
    if (pid != platform.getPid()) return;
    var copy: Path = path.*;
    copy.cut(slash);
    _ = platform.removeDirectory(copy.z());
}

const Candidate = struct { path: *const Path, info: platform.FileInfo };

/// Only if it still is that file. Between the two steps only our own user can put another one there.
fn unlinkSame(candidate: Candidate) Code {
    var found: platform.FileInfo = undefined;
    const code = platform.statPath(candidate.path.z(), &found, false);
    if (code < 0) return code;
    return if (found.same(candidate.info)) platform.unlink(candidate.path.z()) else platform.errno.no_entry;
}

/// A ring that another process made.
pub const Joined = struct {
    /// One mapping: the file's, from its first byte, then private memory, up to `total_size`.
    address: usize,
    ring_mapped_size: usize,
    /// Where the private memory begins, counted from `address`.
    scratch_offset: usize,
    total_size: usize,
    capacity: u64,
    /// Where the data begin, by the ring's version: 320 or 384.
    header_size: usize,
    /// Keeps the file's identity: while it is open, no other file can get its inode.
    fd: i32,
    info: platform.FileInfo,
    path: Path,
    /// Nobody can make the file smaller. Otherwise its maker can, and who then reads it is ended by the kernel.
    is_sealed: bool,

    pub fn header(joined: *const Joined) *layout.ShaqHeader {
        return @ptrFromInt(joined.address);
    }

    pub fn dataAddress(joined: *const Joined) usize {
        return joined.address + joined.header_size;
    }

    /// Whether the path still leads to this ring. If not, its maker has closed it. That the maker dies says nothing: he loses
    /// the way to his descriptors before they are closed, and his socket, which is one of them, tells of his end.
    pub fn present(joined: *const Joined) bool {
        var found: platform.FileInfo = undefined;
        const path = joined.path.slice();
        const is_descriptor = isDescriptorPath(path);
        const code = platform.statPath(joined.path.z(), &found, is_descriptor);
        if (code == 0 and found.same(joined.info)) return true;
        return code != 0 and is_descriptor and platform.isDying(makerOf(path));
    }

    /// Puts private zeros in the place of everything: the shared memory is let go, the addresses stay taken.
    pub fn retire(joined: *Joined) Code {
        if (joined.fd >= 0) _ = platform.close(joined.fd);
        joined.fd = -1;
        return platform.overlay(joined.address, joined.total_size, true).code;
    }

    pub fn destroy(joined: *Joined) void {
        platform.unmap(joined.address, joined.total_size);
        if (joined.fd >= 0) _ = platform.close(joined.fd);
        joined.fd = -1;
    }
};

/// Exactly /proc/<pid>/fd/<number>: what a sender without a file names. It is a link by nature, and the kernel's own.
fn isDescriptorPath(path: []const u8) bool {
    var parts = std.mem.splitScalar(u8, path, '/');
    const first = parts.next() orelse return false;
    const proc = parts.next() orelse return false;
    const pid = parts.next() orelse return false;
    const fd = parts.next() orelse return false;
    const number = parts.next() orelse return false;
    return parts.next() == null and first.len == 0 and std.mem.eql(u8, proc, "proc") and isDigits(pid) and
        std.mem.eql(u8, fd, "fd") and isDigits(number);
}

/// The process of a descriptor's path.
fn makerOf(path: []const u8) []const u8 {
    const start = "/proc/".len;
    return path[start..std.mem.indexOfScalarPos(u8, path, start, '/').?];
}

fn isDigits(text: []const u8) bool {
    for (text) |byte| if (!std.ascii.isDigit(byte)) return false;
    return text.len > 0;
}

const Head = struct { magic: u64, version: u32, mask: u32 };

/// Read from the file, not from a mapping: if the file has become shorter by now, that is a short read.
fn readHead(fd: i32) ?Head {
    var bytes: [16]u8 = undefined;
    if (platform.readAt(fd, &bytes, 0) != bytes.len) return null;
    return .{
        .magic = std.mem.readInt(u64, bytes[0..8], .little),
        .version = std.mem.readInt(u32, bytes[8..12], .little),
        .mask = std.mem.readInt(u32, bytes[12..16], .little),
    };
}

const Shape = struct { header_size: usize, capacity: u64 };

/// What a file is by its first bytes and its size, or why it is no ring.
fn shapeOf(head: Head, size: u64) union(enum) { ring: Shape, code: Code } {
    if (head.magic != layout.shaq_magic) return .{ .code = codeOf(.bad_magic) };
    const shape: Shape = .{
        .capacity = @as(u64, head.mask) + 1,
        .header_size = switch (head.version) {
            layout.shaq_version_2 => header_size,
            layout.shaq_version_3 => header_size_3,
            else => return .{ .code = codeOf(.bad_version) },
        },
    };
    if (!capacityIsValid(shape.capacity)) return .{ .code = codeOf(.bad_size) };
    const needed = shape.header_size + shape.capacity;
    if (size < needed or size >= needed + shape.capacity) return .{ .code = codeOf(.bad_size) };
    return .{ .ring = shape };
}

/// Checks the ring at `path` and maps it, with `scratch_size` bytes of private memory, or a few more, behind it. `uid`: whose
/// file it has to be, or `uid_any`.
pub fn join(path: []const u8, uid: u32, scratch_size: u32, out: *Joined) Code {
    if (path.len == 0 or std.mem.indexOfScalar(u8, path, 0) != null) return codeOf(.bad_argument);
    out.path = .{};
    if (!out.path.append(path)) return codeOf(.path_too_long);
    const opened = platform.openRegular(out.path.z(), isDescriptorPath(path));
    if (opened.code == platform.errno.invalid) return codeOf(.bad_descriptor);
    if (opened.code < 0) return opened.code;
    out.fd = opened.fd;
    const joined = joinFile(uid, scratch_size, out);
    if (joined >= 0) return 0;
    _ = platform.close(opened.fd);
    out.fd = -1;
    return joined;
}

fn joinFile(uid: u32, scratch_size: u32, out: *Joined) Code {
    if (platform.hasHugePages(out.fd)) return codeOf(.bad_descriptor);
    out.is_sealed = platform.isShrinkSealed(out.fd);
    // Only after the seals: before them, the size can change again.
    out.info = platform.statDescriptor(out.fd) orelse return codeOf(.bad_descriptor);
    if (uid != uid_any and out.info.uid != uid) return codeOf(.wrong_uid);
    const size = out.info.size;
    const head = readHead(out.fd) orelse return codeOf(.bad_size);
    switch (shapeOf(head, size)) {
        .code => |code| return code,
        .ring => |shape| {
            out.header_size = shape.header_size;
            out.capacity = shape.capacity;
        },
    }
    // Builds between the two versions have the header of 3.0 and say 2.0: their data would be read from 64 bytes before.
    if (head.version == layout.shaq_version_2 and size == header_size_3 + out.capacity) return codeOf(.bad_version);

    const needed = out.header_size + out.capacity;
    const part_size = layout.part_size; // of any page size a multiple
    const scratch_offset = std.mem.alignForward(u64, needed, part_size);
    out.ring_mapped_size = @intCast(needed);
    out.scratch_offset = @intCast(scratch_offset);
    out.total_size = @intCast(scratch_offset + std.mem.alignForward(u64, scratch_size, part_size));
    const mapped = platform.mapWithTail(out.fd, out.ring_mapped_size, out.total_size);
    if (mapped.code < 0) return mapped.code;
    out.address = mapped.address;
    return 0;
}

/// Whether memory that we make without a file is within that process's reach: it has to open it by our path below /proc.
pub fn reaches(pid: i32) bool {
    return platform.canOpenOurDescriptors(pid);
}

// Leftovers: what a sender that was killed could not remove.

/// Removes the ring files in a directory that no process has open or mapped. An empty directory: the default places.
/// Returns how many, or a code.
pub fn clean(directory: []const u8) Code {
    if (comptime !platform.is_linux) return if (directory.len == 0) 0 else codeOf(.unsupported);
    if (directory.len == 0) return cleanDefault();
    var path: Path = undefined;
    const absolute = path.setAbsolute(directory);
    return if (absolute < 0) absolute else cleanDirectory(&path);
}

fn cleanDefault() Code {
    var path: Path = .{};
    assert(path.append(default_place));
    var names: platform.Directory = undefined;
    const opened = names.open(path.z(), entries_max);
    if (opened == platform.errno.no_entry) return 0;
    if (opened < 0) return opened;
    defer names.close();
    var count: Code = 0;
    while (names.next()) |name| {
        const pid = pidOfDirectory(name) orelse continue;
        path.cut(default_place.len);
        if (!path.append("/") or !path.append(name)) continue;
        var info: platform.FileInfo = undefined;
        if (platform.statPath(path.z(), &info, false) < 0) continue;
        if (info.kind != .directory or info.uid != platform.effectiveUid()) continue;
        const cleaned = cleanDirectory(&path);
        if (cleaned < 0) continue;
        count += cleaned;
        // One that is not empty stays. A sender that is about to use an empty one makes it again (`makeFile`).
        if (cleaned > 0 or !platform.processExists(pid)) _ = platform.removeDirectory(path.z());
    }
    return count;
}

/// The pid in qlaster-<pid>.
fn pidOfDirectory(name: []const u8) ?i32 {
    if (!std.mem.startsWith(u8, name, default_prefix)) return null;
    return pidOf(name[default_prefix.len..]);
}

fn pidOf(text: []const u8) ?i32 {
    const pid = numberOf(i32, text) orelse return null;
    return if (pid > 0) pid else null;
}

/// As a sender writes it: digits, the first of several being no 0.
fn numberOf(comptime T: type, text: []const u8) ?T {
    if (!isDigits(text) or (text.len > 1 and text[0] == '0')) return null;
    return std.fmt.parseInt(T, text, 10) catch null;
}

/// The pid in <pid>-<slot>-<generation>. Null: not the name of a ring file.
fn pidOfFile(name: []const u8) ?i32 {
    var parts = std.mem.splitScalar(u8, name, '-');
    const pid = parts.next() orelse return null;
    const slot_index = parts.next() orelse return null;
    const generation = parts.next() orelse return null;
    if (parts.next() != null) return null;
    const slot = numberOf(u8, slot_index) orelse return null;
    if (slot == layout.v9_slot_none or numberOf(u64, generation) == null) return null;
    return pidOf(pid);
}

fn cleanDirectory(path: *Path) Code {
    var names: platform.Directory = undefined;
    const opened = names.open(path.z(), entries_max);
    if (opened < 0) return opened;
    defer names.close();
    const length = path.length;
    defer path.cut(length);
    var count: Code = 0;
    while (names.next()) |name| {
        if (pidOfFile(name) == null) continue;
        path.cut(length);
        if (!path.append("/") or !path.append(name)) continue;
        if (removeLeftover(path)) count += 1;
    }
    return count;
}

/// Removes the file of ours at `path` if it is a ring, or not yet one, and no process uses it. Whoever makes one holds it
/// open from its first moment to its last, and whoever joins one has it mapped: only the dead let go of it.
/// A name like a ring's says nothing: a date is one, too.
fn removeLeftover(path: *const Path) bool {
    if (comptime !platform.is_linux) return false;
    const slash = std.mem.lastIndexOfScalar(u8, path.slice(), '/') orelse return false;
    const pid = pidOfFile(path.slice()[slash + 1 ..]) orelse return false;
    const opened = platform.openRegular(path.z(), false);
    if (opened.code < 0) return false;
    defer _ = platform.close(opened.fd);
    const info = opened.info;
    if (info.uid != platform.effectiveUid()) return false;
    // An empty one has nothing but names that speak for it.
    const is_ring = if (info.size > 0) looksLikeRing(opened.fd, info.size) else isInOwnPlace(path) and isDead(pid);
    if (!is_ring) return false;
    const candidate: Candidate = .{ .path = path, .info = info };
    switch (platform.withSoleUse(opened.fd, candidate, unlinkSame)) {
        .code => |code| return code == 0,
        .unknown => {},
    }
    // A file system without leases. Ours are locked as long as they live, also a mapping's; the original's are not, so the
    // pid in the name decides.
    if (platform.lockExclusive(opened.fd) < 0 or !isDead(pid)) return false;
    return unlinkSame(candidate) == 0;
}

/// Whether the file at `path` lies in a directory that only senders make, and not in one that somebody named to us.
fn isInOwnPlace(path: *const Path) bool {
    const slash = std.mem.lastIndexOfScalar(u8, path.slice(), '/') orelse return false;
    const directory = path.bytes[0..slash];
    const above = std.mem.lastIndexOfScalar(u8, directory, '/') orelse return false;
    return pidOfDirectory(directory[above + 1 ..]) != null;
}

/// Whether that process is gone, where this can be known: a pid of another namespace says nothing.
fn isDead(pid: i32) bool {
    return platform.inFirstPidNamespace() and !platform.processExists(pid);
}

/// Whether a file is a ring, or what a maker leaves that dies before it stores the magic.
fn looksLikeRing(fd: i32, size: u64) bool {
    var bytes: [header_size]u8 align(8) = undefined;
    if (platform.readAt(fd, &bytes, 0) != bytes.len) return false;
    const head = readHead(fd) orelse return false;
    if (head.magic != 0) return shapeOf(head, size) == .ring;
    // A header of zeros, with data behind it of a size that a ring can have.
    const capacity = size -| header_size; // it may have grown since it was looked at
    return capacityIsValid(capacity) and std.mem.allEqual(u8, &bytes, 0);
}
