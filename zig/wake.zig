//! wake.zig: the byte that wakes a parked peer through its own runtime's event loop.
//! May touch: stream sockets. May not touch: epochs (ring.zig decides whether to notify), links, memory.
//! Why a socketpair: it is the only descriptor that both runtimes can take into their event loops, and its end tells
//! of the peer's death. A stream socket holds a few hundred unread bytes; a full one means "already signalled".

const std = @import("std");
const layout = @import("layout.zig");
const platform = @import("platform/mod.zig");
const Code = platform.Code;

/// The peer's end: what we write to.
pub const Wake = struct {
    fd: i32,

    pub fn notify(wake: Wake) Code {
        const code = platform.sendMessage(wake.fd, "!", &.{});
        if (code == platform.errno.again) return 0;
        return if (code < 0) code else 0;
    }

    pub fn destroy(wake: Wake) void {
        _ = platform.close(wake.fd);
    }
};

/// `out[0]` is for our own event loop, `out[1]` for the peer.
pub fn create(out: *[2]i32) Code {
    const code = platform.socketPair(out);
    // Nobody may send descriptors into a runtime's read, which would close them in our event loop.
    if (code >= 0) platform.refuseDescriptors(out[0]);
    return code;
}

/// Takes what a peer handed over. Anything but a connected Unix stream socket is refused: a write to it might block,
/// raise a signal, or go into a file. On failure the descriptor stays the caller's.
pub fn open(fd: i32, out: *Wake) Code {
    if (!platform.isUnixStream(fd)) return @backingInt(layout.Status.bad_descriptor);
    out.* = .{ .fd = fd };
    return 0;
}

const testing = std.testing;

test "notify arrives, a full socket counts as signalled, a closed one is an error" {
    var pair: [2]i32 = undefined;
    try testing.expectEqual(0, create(&pair));
    var wake: Wake = undefined;
    try testing.expectEqual(0, open(pair[1], &wake));
    for (0..10_000) |_| try testing.expectEqual(0, wake.notify());
    var buffer: [64]u8 = undefined;
    var truncated = false;
    try testing.expect(platform.receiveMessage(pair[0], &buffer, &.{}, &truncated).code > 0);
    _ = platform.close(pair[0]);
    try testing.expect(wake.notify() < 0);
    wake.destroy();
}

test "open refuses what is no Unix stream socket" {
    var passed: [2]i32 = undefined;
    var regions: @import("region.zig").Regions = undefined;
    try testing.expectEqual(0, @import("region.zig").create(.{
        .capacity_bytes = 65536,
        .reserved_bytes = 16384,
        .sender_id = @splat(0),
        .connection_id = 0,
    }, &passed, &regions));
    defer regions.unmap();
    var wake: Wake = undefined;
    try testing.expectEqual(@backingInt(layout.Status.bad_descriptor), open(passed[0], &wake));
    for (passed) |fd| _ = platform.close(fd);
    try testing.expectEqual(@backingInt(layout.Status.bad_descriptor), open(-1, &wake));
    const listening = platform.socketStream();
    defer _ = platform.close(listening);
    const path = @import("testing.zig").path("wake.sock");
    try testing.expectEqual(0, platform.socketBind(listening, &path));
    defer _ = platform.unlink(&path);
    try testing.expectEqual(0, platform.socketListen(listening));
    try testing.expectEqual(@backingInt(layout.Status.bad_descriptor), open(listening, &wake));
}
