//! links.zig: the door, listeners, links and wakes.

const std = @import("std");
const layout = @import("../layout.zig");
const platform = @import("../platform/mod.zig");
const handles = @import("../handles.zig");
const wake = @import("../wake.zig");
const Link = @import("../link.zig").Link;
const Listener = @import("../listener.zig").Listener;
const results = @import("results.zig");
const Code = platform.Code;
const codeOf = results.codeOf;
const register = results.register;

// Listener

export fn qlaster_listen(path: ?[*]const u8, length: u32, any_uid: u32) Code {
    const text = path orelse return codeOf(.bad_argument);
    var listener: Listener = undefined;
    const code = Listener.create(text[0..length], any_uid != 0, &listener);
    if (code < 0) return code;
    return register(.{ .listener = listener }) orelse {
        listener.destroy();
        return codeOf(.handles_exhausted);
    };
}

export fn qlaster_listener_fd(handle: u32) Code {
    const listener = handles.pin(handle, .listener) orelse return codeOf(.bad_handle);
    defer handles.unpin(handle);
    return listener.duplicate();
}

/// Duplicates of the lock's and the socket's descriptor, the caller's, for another process that goes on with the path.
export fn qlaster_listener_pass(handle: u32, out: ?*[2]i32) Code {
    const descriptors = out orelse return codeOf(.bad_argument);
    const listener = handles.pin(handle, .listener) orelse return codeOf(.bad_handle);
    defer handles.unpin(handle);
    return listener.pass(descriptors);
}

/// Another process has the path from here on: closing the handle removes nothing.
export fn qlaster_listener_yield(handle: u32) Code {
    const listener = handles.pin(handle, .listener) orelse return codeOf(.bad_handle);
    defer handles.unpin(handle);
    listener.is_passed = true;
    return 0;
}

/// A listener made of what `qlaster_listener_pass` gave in another process. The descriptors are ours, whatever the outcome.
export fn qlaster_listener_take(path: ?[*]const u8, length: u32, any_uid: u32, lock_fd: i32, listen_fd: i32) Code {
    const text = path orelse return codeOf(.bad_argument);
    var listener: Listener = undefined;
    const code = Listener.take(text[0..length], any_uid != 0, lock_fd, listen_fd, &listener);
    if (code < 0) return code;
    return register(.{ .listener = listener }) orelse {
        listener.destroy();
        return codeOf(.handles_exhausted);
    };
}

/// A link, or `would_block`.
export fn qlaster_listener_accept(handle: u32) Code {
    const listener = handles.pin(handle, .listener) orelse return codeOf(.bad_handle);
    defer handles.unpin(handle);
    var link: Link = undefined;
    const code = listener.accept(&link);
    return if (code < 0) code else registerLink(link);
}

// Link

fn registerLink(link: Link) Code {
    return register(.{ .link = link }) orelse {
        link.destroy();
        return codeOf(.handles_exhausted);
    };
}

export fn qlaster_link_adopt(fd: i32) Code {
    var link: Link = undefined;
    const code = Link.adopt(fd, &link);
    return if (code < 0) code else registerLink(link);
}

/// A duplicate of the socket, the caller's: for a runtime's event loop.
export fn qlaster_link_fd(handle: u32) Code {
    const link = handles.pin(handle, .link) orelse return codeOf(.bad_handle);
    defer handles.unpin(handle);
    return link.share();
}

export fn qlaster_link_connect(path: ?[*]const u8, length: u32) Code {
    const text = path orelse return codeOf(.bad_argument);
    var buffer: [128]u8 = @splat(0);
    if (length >= buffer.len) return codeOf(.path_too_long);
    @memcpy(buffer[0..length], text[0..length]);
    var link: Link = undefined;
    const code = Link.connect(buffer[0..length :0], &link);
    return if (code < 0) code else registerLink(link);
}

/// `out`: i32 pid, u32 uid, u32 gid.
export fn qlaster_link_peer(handle: u32, out: ?*align(4) platform.Peer) Code {
    const peer = out orelse return codeOf(.bad_argument);
    const link = handles.pin(handle, .link) orelse return codeOf(.bad_handle);
    defer handles.unpin(handle);
    return link.peer(peer);
}

export fn qlaster_link_send(handle: u32, bytes: ?[*]const u8, length: u32, descriptors: ?[*]align(4) const i32, count: u32) Code {
    const text = bytes orelse return codeOf(.bad_argument);
    if (count > layout.link_descriptors_max) return codeOf(.too_many_descriptors);
    const list: []const i32 = if (count == 0) &.{} else (descriptors orelse return codeOf(.bad_argument))[0..count];
    const link = handles.pin(handle, .link) orelse return codeOf(.bad_handle);
    defer handles.unpin(handle);
    return link.send(text[0..@min(length, std.math.maxInt(i32))], list);
}

/// `descriptors`: in [0] their number, then room for `count`. At the end of the stream: `end_of_stream`.
export fn qlaster_link_receive(handle: u32, bytes: ?[*]u8, length: u32, descriptors: ?[*]align(4) u32, count: u32) Code {
    const text = bytes orelse return codeOf(.bad_argument);
    const list = descriptors orelse return codeOf(.bad_argument);
    if (count > layout.link_descriptors_max) return codeOf(.too_many_descriptors);
    const link = handles.pin(handle, .link) orelse return codeOf(.bad_handle);
    defer handles.unpin(handle);
    return link.receive(text[0..@min(length, std.math.maxInt(i32))], @ptrCast(list[1..][0..count]), &list[0]);
}

// Wake

/// `out`: our end, the peer's end.
export fn qlaster_wake_create(out: ?*align(4) [2]i32) Code {
    return wake.create(out orelse return codeOf(.bad_argument));
}

/// Takes the descriptor over, whatever the outcome.
export fn qlaster_wake_open(fd: i32) Code {
    var opened: wake.Wake = undefined;
    const code = wake.open(fd, &opened);
    if (code < 0) {
        if (fd >= 0) _ = platform.closeForeign(fd);
        return code;
    }
    return register(.{ .wake = opened }) orelse {
        opened.destroy();
        return codeOf(.handles_exhausted);
    };
}

export fn qlaster_wake_notify(handle: u32) Code {
    const opened = handles.pin(handle, .wake) orelse return codeOf(.bad_handle);
    defer handles.unpin(handle);
    return opened.notify();
}
