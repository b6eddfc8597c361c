//! v9.zig: the door, what only wire version 9 has (docs/interop.md).

const std = @import("std");
const layout = @import("../layout.zig");
const platform = @import("../platform/mod.zig");
const handles = @import("../handles.zig");
const v9 = @import("../v9/ends.zig");
const v9_frame = @import("../v9/frame.zig");
const v9_ring_file = @import("../v9/ring_file.zig");
const results = @import("results.zig");
const Code = platform.Code;
const codeOf = results.codeOf;
const register = results.register;

/// Creates a ring and its wake. `created` holds the descriptor to pass, the caller's, and the path to name.
export fn qlaster_v9_ring_create(
    directory: ?[*]const u8,
    directory_length: u32,
    slot_index: u32,
    generation: f64,
    capacity_bytes: f64,
    created: ?*align(4) layout.V9Created,
) Code {
    const out = created orelse return codeOf(.bad_argument);
    const text: []const u8 = if (directory_length == 0) &.{} else (directory orelse return codeOf(.bad_argument))[0..directory_length];
    const slot = std.math.cast(u8, slot_index) orelse return codeOf(.bad_argument);
    if (!(generation >= 0 and generation <= 1 << 53)) return codeOf(.bad_argument);
    if (!(capacity_bytes >= 0 and capacity_bytes <= 1 << 53)) return codeOf(.bad_argument);
    var end: v9.ProducerEnd = undefined;
    const code = v9.ProducerEnd.create(text, slot, @intFromFloat(generation), @intFromFloat(capacity_bytes), out, &end);
    if (code < 0) return code;
    return register(.{ .v9_producer = end }) orelse {
        _ = platform.close(out.wake_fd);
        end.destroy();
        return codeOf(.handles_exhausted);
    };
}

/// Takes `wake_fd` over, whatever the outcome.
export fn qlaster_v9_ring_join(path: ?[*]const u8, length: u32, wake_fd: i32, uid: u32) Code {
    const text = path orelse {
        if (wake_fd >= 0) _ = platform.closeForeign(wake_fd);
        return codeOf(.bad_argument);
    };
    var end: v9.ConsumerEnd = undefined;
    const code = v9.ConsumerEnd.join(text[0..length], wake_fd, uid, &end);
    if (code < 0) return code;
    return register(.{ .v9_consumer = end }) orelse {
        end.destroy();
        return codeOf(.handles_exhausted);
    };
}

/// Bytes of the one buffer at `qlaster_ring_address`: the ring's file, then private memory. 0: no such consumer.
export fn qlaster_v9_ring_size(handle: u32) f64 {
    const end = handles.pin(handle, .v9_consumer) orelse return 0;
    defer handles.unpin(handle);
    return @floatFromInt(end.file.total_size);
}

/// 1: the ring's path still leads to it; 0: it has vanished, which is how the original tells of an eviction.
export fn qlaster_v9_ring_present(handle: u32) Code {
    const end = handles.pin(handle, .v9_consumer) orelse return codeOf(.bad_handle);
    defer handles.unpin(handle);
    return if (end.file.present()) 1 else 0;
}

/// Takes `fd` over, whatever the outcome.
export fn qlaster_v9_relay(handle: u32, fd: i32) Code {
    const end = handles.pin(handle, .v9_consumer) orelse {
        if (fd >= 0) _ = platform.close(fd);
        return codeOf(.bad_handle);
    };
    defer handles.unpin(handle);
    return end.relayTo(fd);
}

/// Removes what killed senders left in a directory (length 0: where they usually leave it). Returns how many.
export fn qlaster_v9_clean(directory: ?[*]const u8, length: u32) Code {
    const text: []const u8 = if (length == 0) &.{} else (directory orelse return codeOf(.bad_argument))[0..length];
    return v9_ring_file.clean(text);
}

export fn qlaster_v9_reaches(pid: i32) Code {
    return if (v9_ring_file.reaches(pid)) 1 else 0;
}

/// One native frame as the body of a frame of version 9. Returns its length; `too_large`: `out` is too short.
export fn qlaster_v9_encode(
    head: ?[*]align(8) const u8,
    head_length: u32,
    tail: ?[*]const u8,
    tail_length: u32,
    compress: u32,
    out: ?[*]u8,
    out_length: u32,
) Code {
    const head_bytes = (head orelse return codeOf(.bad_argument))[0..head_length];
    const target = (out orelse return codeOf(.bad_argument))[0..out_length];
    if (head_length < @sizeOf(layout.FrameHeader)) return codeOf(.bad_argument);
    if (tail_length > 3 * layout.payload_bytes_max) return codeOf(.bad_argument);
    const tail_bytes: []const u8 = if (tail_length == 0) &.{} else (tail orelse return codeOf(.bad_argument))[0..tail_length];
    const header: *const layout.FrameHeader = @ptrCast(head_bytes.ptr);
    var outgoing: v9.Outgoing = .{ .may_compress = compress != 0 };
    defer outgoing.deinit();
    const code = outgoing.get(head_bytes, tail_bytes, header.publish_ns);
    if (code < 0) return code;
    const encoded_head = outgoing.encoded.head();
    const payload = outgoing.encoded.payload;
    if (encoded_head.len + payload.len > target.len) return codeOf(.too_large);
    @memcpy(target[0..encoded_head.len], encoded_head);
    @memcpy(target[encoded_head.len..][0..payload.len], payload);
    return @intCast(encoded_head.len + payload.len);
}

/// Checks the body of a frame. Offsets in `record` count from its start; a payload that was compressed lies in `scratch`.
export fn qlaster_v9_decode(frame: ?[*]const u8, length: u32, record: ?*align(4) layout.PollRecord, scratch: ?[*]u8, scratch_length: u32) Code {
    const bytes: []const u8 = if (length == 0) &.{} else (frame orelse return codeOf(.bad_argument))[0..length];
    const out = record orelse return codeOf(.bad_argument);
    var memory: v9_frame.Scratch = .{
        .memory = if (scratch_length == 0) &.{} else (scratch orelse return codeOf(.bad_argument))[0..scratch_length],
        .base_offset = 0,
    };
    if (length > v9_frame.body_bytes_max) return codeOf(.v9_too_large);
    v9_frame.describe(bytes, 0, .private, &memory, out) catch |err| return codeOf(switch (err) {
        error.WrongVersion => .v9_version,
        error.WrongTag => .v9_tag,
        error.Malformed => .v9_malformed,
        error.TooLarge => .v9_too_large,
        error.Undecodable => .v9_decode,
        error.NoRoom => .memory_limit,
    });
    return 0;
}
