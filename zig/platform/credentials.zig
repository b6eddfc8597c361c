//! credentials.zig: which processes may open our descriptors by /proc. Linux only.
//! May touch: what /proc and the kernel say of a process. May not touch: any descriptor but those that it opens itself.

const std = @import("std");
const linux = std.os.linux;
const system = @import("linux.zig");
const FileInfo = @import("mod.zig").FileInfo;
const close = system.close;
const codeOf = system.codeOf;
const getPid = system.getPid;
const statPath = system.statPath;

/// Whether another process of our user may open our descriptors by /proc. A process itself always may.
pub fn isDumpable() bool {
    const get_dumpable = 3;
    return codeOf(linux.prctl(get_dumpable, 0, 0, 0, 0)) == 1;
}

/// Whether that process can open `/proc/<our pid>/fd/<n>`, as far as the kernel's rules for it go (ptrace(2), "access mode
/// checking", PTRACE_MODE_READ_FSCREDS). False also if that can't be known.
pub fn canOpenOurDescriptors(pid: i32) bool {
    if (pid <= 0) return false;
    if (pid == getPid()) return true;
    // Our pid has to mean us there, and its capabilities have to count for us.
    if (!inSameNamespace(pid, "pid") or !inSameNamespace(pid, "user")) return false;
    const theirs = credentialsOf(pid) orelse return false;
    const ours = credentialsOf(getPid()) orelse return false;
    // The directory is its owner's alone.
    const searches = 1 << cap_dac_override | 1 << cap_dac_read_search;
    if (ours.uids[1] != theirs.uids[3] and theirs.effective & searches == 0) return false;
    if (theirs.effective & (1 << cap_sys_ptrace) != 0) return true;
    for (0..3) |which| { // real, effective, saved: against the one for the file system
        if (ours.uids[which] != theirs.uids[3] or ours.gids[which] != theirs.gids[3]) return false;
    }
    return ours.permitted & ~theirs.effective == 0;
}

fn inSameNamespace(pid: i32, comptime kind: []const u8) bool {
    var buffer: [40]u8 = undefined;
    const name = std.fmt.bufPrintSentinel(&buffer, "/proc/{d}/ns/" ++ kind, .{pid}, 0) catch return false;
    var theirs: FileInfo = undefined;
    var ours: FileInfo = undefined;
    if (statPath(name, &theirs, true) < 0) return false;
    if (statPath("/proc/self/ns/" ++ kind, &ours, true) < 0) return false;
    return ours.same(theirs);
}

const cap_dac_override = 1;
const cap_dac_read_search = 2;
const cap_sys_ptrace = 19;

/// Users and groups: real, effective, saved, for the file system. Capabilities: a bit each.
const Credentials = struct { uids: [4]u32, gids: [4]u32, permitted: u64, effective: u64 };

fn credentialsOf(pid: i32) ?Credentials {
    const version_3 = 0x2008_0522;
    const header: extern struct { version: u32, pid: i32 } = .{ .version = version_3, .pid = pid };
    const Half = extern struct { effective: u32, permitted: u32, inheritable: u32 };
    var halves: [2]Half = undefined;
    if (codeOf(linux.syscall2(.capget, @intFromPtr(&header), @intFromPtr(&halves))) < 0) return null;

    // Both lines stand near the beginning; others, such as that of all groups, may be of any length.
    var buffer: [40]u8 = undefined;
    const name = std.fmt.bufPrintSentinel(&buffer, "/proc/{d}/status", .{pid}, 0) catch return null;
    const fd = codeOf(linux.open(name, .{ .CLOEXEC = true }, 0));
    if (fd < 0) return null;
    defer _ = close(fd);
    var bytes: [1024]u8 = undefined;
    const size = codeOf(linux.read(fd, &bytes, bytes.len));
    if (size < 0) return null;
    const text = bytes[0..@intCast(size)];
    return .{
        .uids = statusIds(text, "\nUid:") orelse return null,
        .gids = statusIds(text, "\nGid:") orelse return null,
        .permitted = @as(u64, halves[1].permitted) << 32 | halves[0].permitted,
        .effective = @as(u64, halves[1].effective) << 32 | halves[0].effective,
    };
}

fn statusIds(text: []const u8, label: []const u8) ?[4]u32 {
    const at = std.mem.find(u8, text, label) orelse return null;
    const line = std.mem.sliceTo(text[at + label.len ..], '\n');
    var words = std.mem.tokenizeAny(u8, line, "\t ");
    var ids: [4]u32 = undefined;
    for (&ids) |*id| id.* = std.fmt.parseInt(u32, words.next() orelse return null, 10) catch return null;
    return ids;
}
