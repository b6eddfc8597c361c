//! link.zig: one connected Unix socket that carries bytes and descriptors. Framing is TypeScript's (src/stream/link.ts).
//! May touch: its socket. May not touch: regions, rings.
//! Why no descriptor leaks: all that a message brings are counted here; more than were asked for, or a truncated
//! list, closes every one of them and is an error.

const std = @import("std");
const layout = @import("layout.zig");
const platform = @import("platform/mod.zig");
const Code = platform.Code;
const Status = layout.Status;

fn codeOf(status: Status) Code {
    return @backingInt(status);
}

pub const Link = struct {
    fd: i32,
    /// A runtime has a duplicate to read from, and closes it some turns of its event loop after it was told to.
    is_shared: bool = false,

    /// Keeps a duplicate of what a runtime accepted; the runtime closes its own.
    pub fn adopt(fd: i32, out: *Link) Code {
        if (!platform.isUnixStream(fd)) return codeOf(.bad_descriptor);
        const own = platform.duplicate(fd);
        if (own < 0) return own;
        const prepared = platform.setNonBlocking(own);
        if (prepared < 0) {
            _ = platform.close(own);
            return prepared;
        }
        out.* = .{ .fd = own };
        return 0;
    }

    /// Never blocks. EAGAIN: the listener's queue is full, try again.
    pub fn connect(path: [:0]const u8, out: *Link) Code {
        const fd = platform.socketStream();
        if (fd < 0) return fd;
        const code = platform.socketConnect(fd, path);
        if (code < 0) {
            _ = platform.close(fd);
            return code;
        }
        out.* = .{ .fd = fd };
        return 0;
    }

    /// Who was on the other side when the connection was made, by the kernel's word. The pid is information only.
    pub fn peer(link: Link, out: *platform.Peer) Code {
        return platform.socketPeer(link.fd, out);
    }

    /// Sends as much as fits now: the number of bytes, or `would_block`, or `end_of_stream`.
    pub fn send(link: Link, bytes: []const u8, descriptors: []const i32) Code {
        if (bytes.len == 0) return codeOf(.bad_argument);
        if (descriptors.len > layout.link_descriptors_max) return codeOf(.too_many_descriptors);
        return translate(platform.sendMessage(link.fd, bytes, descriptors));
    }

    /// Receives what is there: the number of bytes, or `would_block`, or `end_of_stream`. Descriptors go into `out`,
    /// their number into `out_count`; the caller owns them.
    pub fn receive(link: Link, buffer: []u8, out: []i32, out_count: *u32) Code {
        out_count.* = 0;
        if (buffer.len == 0) return codeOf(.bad_argument);
        var truncated = false;
        const received = platform.receiveMessage(link.fd, buffer, out, &truncated);
        if (received.code < 0) return translate(received.code);
        if (truncated or received.descriptor_count > out.len) {
            for (out[0..@min(received.descriptor_count, out.len)]) |fd| _ = platform.closeForeign(fd);
            return codeOf(if (truncated) .control_truncated else .too_many_descriptors);
        }
        out_count.* = received.descriptor_count;
        return if (received.code == 0) codeOf(.end_of_stream) else received.code;
    }

    /// A duplicate for a runtime.
    pub fn share(link: *Link) Code {
        const duplicate = platform.duplicate(link.fd);
        if (duplicate >= 0) link.is_shared = true;
        return duplicate;
    }

    /// The other side reads the end at once, whenever the runtime closes its duplicate.
    pub fn destroy(link: Link) void {
        if (link.is_shared) platform.socketShutdown(link.fd);
        _ = platform.close(link.fd);
    }
};

fn translate(code: Code) Code {
    return switch (code) {
        platform.errno.again => codeOf(.would_block),
        platform.errno.pipe, platform.errno.connection_reset, platform.errno.not_connected => codeOf(.end_of_stream),
        else => code,
    };
}

const testing = std.testing;

fn testPair() ![2]Link {
    var pair: [2]i32 = undefined;
    try testing.expectEqual(0, platform.socketPair(&pair));
    return .{ .{ .fd = pair[0] }, .{ .fd = pair[1] } };
}

test "bytes and descriptors arrive; the end is told; sending to a closed peer raises nothing" {
    const ends = try testPair();
    var buffer: [64]u8 = undefined;
    var descriptors: [4]i32 = undefined;
    var count: u32 = 0;
    try testing.expectEqual(codeOf(.would_block), ends[1].receive(&buffer, &descriptors, &count));
    try testing.expectEqual(5, ends[0].send("hello", &.{ ends[0].fd, ends[1].fd }));
    try testing.expectEqual(5, ends[1].receive(&buffer, &descriptors, &count));
    try testing.expectEqual(2, count);
    try testing.expect(platform.isUnixStream(descriptors[0]));
    for (descriptors[0..2]) |fd| _ = platform.close(fd);
    ends[0].destroy();
    try testing.expectEqual(codeOf(.end_of_stream), ends[1].receive(&buffer, &descriptors, &count));
    try testing.expectEqual(codeOf(.end_of_stream), ends[1].send("x", &.{}));
    ends[1].destroy();
}

test "receive refuses more descriptors than asked for, and leaks none" {
    const ends = try testPair();
    defer for (ends) |end| end.destroy();
    var buffer: [8]u8 = undefined;
    var one: [1]i32 = undefined;
    var count: u32 = 9;
    const before = platform.duplicate(ends[0].fd);
    _ = platform.close(before);
    const many: [200]i32 = @splat(ends[0].fd);
    try testing.expectEqual(1, platform.sendMessage(ends[0].fd, "x", &many));
    try testing.expectEqual(codeOf(.too_many_descriptors), ends[1].receive(&buffer, &one, &count));
    try testing.expectEqual(0, count);
    const after = platform.duplicate(ends[0].fd);
    _ = platform.close(after);
    try testing.expectEqual(before, after); // the lowest free number is what it was
}

test "receive tells that the kernel had to drop descriptors for want of room, and keeps none" {
    if (!platform.is_linux) return error.SkipZigTest;
    const linux = std.os.linux;
    const ends = try testPair();
    defer for (ends) |end| end.destroy();
    // In a process of its own, whose limit leaves room for one descriptor more.
    const pid = linux.fork();
    if (pid == 0) {
        const lowest = platform.duplicate(ends[0].fd);
        _ = platform.close(lowest);
        const limit: linux.rlimit = .{ .cur = @intCast(lowest + 1), .max = @intCast(lowest + 1) };
        if (linux.setrlimit(.NOFILE, &limit) != 0) linux.exit_group(2);
        var buffer: [8]u8 = undefined;
        var descriptors: [4]i32 = undefined;
        for ([_]usize{ 2, 3, 253 }) |sent| {
            const many: [253]i32 = @splat(ends[0].fd);
            if (platform.sendMessage(ends[0].fd, "x", many[0..sent]) != 1) linux.exit_group(3);
            var count: u32 = 9;
            if (ends[1].receive(&buffer, &descriptors, &count) != codeOf(.control_truncated)) linux.exit_group(4);
            if (count != 0) linux.exit_group(5);
            if (platform.duplicate(ends[0].fd) != lowest) linux.exit_group(6); // room as before: the one that came is closed
            _ = platform.close(lowest);
        }
        linux.exit_group(0);
    }
    var status: i32 = 0;
    while (linux.errno(linux.wait4(@intCast(pid), &status, 0, null)) == .INTR) {}
    try testing.expectEqual(0, status);
}

test "send stops when the peer does not read" {
    const ends = try testPair();
    defer for (ends) |end| end.destroy();
    const chunk: [4096]u8 = @splat(1);
    var sends: usize = 0;
    while (ends[0].send(&chunk, &.{}) > 0) : (sends += 1) try testing.expect(sends < 10_000);
    try testing.expectEqual(codeOf(.would_block), ends[0].send(&chunk, &.{}));
}
