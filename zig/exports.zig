//! exports.zig: the door (design D19). The only file with `export fn`; no logic: find the object, call one method, map
//! the outcome to a code by an exhaustive switch.
//! Arguments come from our own TypeScript; still, no argument may lead to a panic.

const std = @import("std");
const layout = @import("layout.zig");
const abi = @import("abi.zig");
const platform = @import("platform/mod.zig");
const handles = @import("handles.zig");
const region = @import("region.zig");
const ring = @import("ring.zig");
const wake = @import("wake.zig");
const connection = @import("connection.zig");
const v9 = @import("v9/ends.zig");
const v9_frame = @import("v9/frame.zig");
const v9_shaq = @import("v9/shaq.zig");
const v9_ring_file = @import("v9/ring_file.zig");
const Link = @import("link.zig").Link;
const Listener = @import("listener.zig").Listener;
const Status = layout.Status;
const Code = platform.Code;

fn codeOf(status: Status) Code {
    return @backingInt(status);
}

fn register(object: handles.Object) ?Code {
    const handle = handles.add(object) orelse return null;
    return @intCast(handle);
}

export fn qlaster_abi_hash() u32 {
    platform.init();
    return abi.hash;
}

export fn qlaster_layout_version() u32 {
    return layout.layout_version;
}

/// Microseconds since the Unix epoch. An f64 resolves a quarter of one.
export fn qlaster_clock_us() f64 {
    return @as(f64, @floatFromInt(platform.realtimeNs())) / std.time.ns_per_us;
}

export fn qlaster_uid() u32 {
    return platform.effectiveUid();
}

export fn qlaster_close(handle: u32) Code {
    return if (handles.close(handle)) 0 else codeOf(.bad_handle);
}

/// For descriptors that may be a peer's: closing one can't be made to wait.
export fn qlaster_fd_close(fd: i32) Code {
    return platform.closeForeign(fd);
}

export fn qlaster_limits_raise() Code {
    return platform.raiseDescriptorLimit();
}

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
    return platform.duplicate(link.fd);
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

// Ring

/// `sender_id`: 16 bytes. `passed`: the descriptors of ring and page, the caller's.
export fn qlaster_ring_create(
    capacity_bytes: u32,
    reserved_bytes: u32,
    connection_id: f64,
    sender_id: ?*align(1) const [16]u8,
    passed: ?*align(4) [2]i32,
) Code {
    const out = passed orelse return codeOf(.bad_argument);
    const id = sender_id orelse return codeOf(.bad_argument);
    if (!(connection_id >= 0 and connection_id <= 1 << 53)) return codeOf(.bad_argument);
    var end: connection.ProducerEnd = undefined;
    const code = connection.ProducerEnd.create(.{
        .capacity_bytes = capacity_bytes,
        .reserved_bytes = reserved_bytes,
        .sender_id = id.*,
        .connection_id = @intFromFloat(connection_id),
    }, out, &end);
    if (code < 0) return code;
    return register(.{ .producer = end }) orelse {
        for (out) |fd| _ = platform.close(fd);
        end.destroy();
        return codeOf(.handles_exhausted);
    };
}

/// Gives the ring the consumer's wake: a duplicate, so that the handle stays good for messages on the link.
export fn qlaster_ring_attach(handle: u32, wake_handle: u32) Code {
    const end = handles.pin(handle, .producer) orelse return codeOf(.bad_handle);
    defer handles.unpin(handle);
    const opened = handles.pin(wake_handle, .wake) orelse return codeOf(.bad_handle);
    defer handles.unpin(wake_handle);
    if (end.wake != null) return codeOf(.bad_argument);
    const own = platform.duplicate(opened.fd);
    if (own < 0) return own;
    end.wake = .{ .fd = own };
    return 0;
}

/// Takes both descriptors over, whatever the outcome.
export fn qlaster_ring_join(ring_fd: i32, page_fd: i32, capacity_bytes: u32, uid: u32) Code {
    var end: connection.ConsumerEnd = undefined;
    const code = connection.ConsumerEnd.join(ring_fd, page_fd, capacity_bytes, uid, &end);
    if (code < 0) return code;
    return register(.{ .consumer = end }) orelse {
        end.destroy();
        return codeOf(.handles_exhausted);
    };
}

/// Where the consumer's data begins; they are 2 × capacity bytes long. 0: no such consumer.
export fn qlaster_ring_address(handle: u32) f64 {
    if (handles.pin(handle, .consumer)) |end| {
        defer handles.unpin(handle);
        return @floatFromInt(end.regions.dataAddress());
    }
    const end = handles.pin(handle, .v9_consumer) orelse return 0;
    defer handles.unpin(handle);
    return @floatFromInt(end.file.address);
}

export fn qlaster_ring_info(handle: u32, out: ?*align(8) layout.RingInfo) Code {
    const info = out orelse return codeOf(.bad_argument);
    if (handles.pin(handle, .producer)) |end| {
        defer handles.unpin(handle);
        return end.info(info);
    }
    if (handles.pin(handle, .consumer)) |end| {
        defer handles.unpin(handle);
        return end.info(info);
    }
    if (handles.pin(handle, .v9_producer)) |end| {
        defer handles.unpin(handle);
        return end.info(info);
    }
    const end = handles.pin(handle, .v9_consumer) orelse return codeOf(.bad_handle);
    defer handles.unpin(handle);
    return end.info(info);
}

/// Copies one frame into each target's ring, unseen until it is committed. Writes each target's outcome and, if it was
/// 0, the time into the head's `publish_ns`. Returns the number of targets that took it.
export fn qlaster_ring_offer(
    head: ?[*]align(8) u8,
    head_length: u32,
    tail: ?[*]const u8,
    tail_length: u32,
    targets: ?[*]align(4) layout.OfferTarget,
    target_count: u32,
    commit: u32,
) Code {
    const head_bytes = head orelse return codeOf(.bad_argument);
    if (head_length < @sizeOf(layout.FrameHeader)) return codeOf(.bad_argument);
    if (@as(u64, head_length) + tail_length > 3 * layout.payload_bytes_max) return codeOf(.bad_argument);
    const tail_bytes: []const u8 = if (tail_length == 0) &.{} else (tail orelse return codeOf(.bad_argument))[0..tail_length];
    const list = (targets orelse return codeOf(.bad_argument))[0..target_count];
    const header: *layout.FrameHeader = @ptrCast(head_bytes);
    if (header.publish_ns == 0) header.publish_ns = platform.realtimeNs();

    var taken: Code = 0;
    var rest = list;
    var v9_outgoing: v9.Outgoing = .{};
    defer v9_outgoing.deinit();
    while (rest.len > 0) {
        const some = rest[0..@min(rest.len, Pinned.max)];
        rest = rest[some.len..];
        var pinned: Pinned = .{};
        defer pinned.unpin();
        for (some) |*target| {
            target.status = offerOne(pinned.add(target.ring), &v9_outgoing, head_bytes[0..head_length], tail_bytes, header.publish_ns);
            if (target.status == 0) taken += 1;
        }
        if (commit != 0) pinned.commit();
    }
    return taken;
}

fn offerOne(producer: ?Producer, v9_outgoing: *v9.Outgoing, head: []align(8) const u8, tail: []const u8, publish_ns: u64) Code {
    switch (producer orelse return codeOf(.bad_handle)) {
        .native => |end| end.ring.offer(head, tail, publish_ns) catch |err| return switch (err) {
            error.Full => codeOf(.full),
            error.TooLarge => codeOf(.too_large),
            error.PeerCorrupt => codeOf(.peer_corrupt),
        },
        .v9 => |end| return end.offer(v9_outgoing, head, tail, publish_ns),
    }
    return 0;
}

const Producer = union(enum) {
    native: *connection.ProducerEnd,
    v9: *v9.ProducerEnd,

    fn pin(handle: u32) ?Producer {
        if (handles.pin(handle, .producer)) |end| return .{ .native = end };
        if (handles.pin(handle, .v9_producer)) |end| return .{ .v9 = end };
        return null;
    }
};

/// Producers of one call, each pinned once for all that the call does with it.
const Pinned = struct {
    handles: [max]u32 = undefined,
    ends: [max]Producer = undefined,
    count: usize = 0,

    /// Few, since a safe build fills undefined arrays; more targets go in several rounds.
    const max = 16;

    fn add(pinned: *Pinned, handle: u32) ?Producer {
        const end = Producer.pin(handle) orelse return null;
        pinned.handles[pinned.count] = handle;
        pinned.ends[pinned.count] = end;
        pinned.count += 1;
        return end;
    }

    /// All cursors, one fence, then all epochs (design D6).
    fn commit(pinned: *const Pinned) void {
        for (pinned.ends[0..pinned.count]) |end| switch (end) {
            .native => |producer| _ = producer.ring.commit(),
            .v9 => |producer| producer.commit(),
        };
        platform.storeLoadFence();
        // A failed byte means that the peer is gone: its socket's end tells our event loop.
        for (pinned.ends[0..pinned.count]) |end| switch (end) {
            .native => |producer| _ = producer.notifyIfParked(),
            .v9 => {},
        };
    }

    fn unpin(pinned: *const Pinned) void {
        for (pinned.handles[0..pinned.count]) |handle| handles.unpin(handle);
    }
};

/// Makes what was offered visible and wakes who sleeps.
export fn qlaster_ring_commit(targets: ?[*]align(4) layout.OfferTarget, target_count: u32) Code {
    var rest: []const layout.OfferTarget = (targets orelse return codeOf(.bad_argument))[0..target_count];
    while (rest.len > 0) {
        const some = rest[0..@min(rest.len, Pinned.max)];
        rest = rest[some.len..];
        var pinned: Pinned = .{};
        defer pinned.unpin();
        for (some) |target| _ = pinned.add(target.ring);
        pinned.commit();
    }
    return 0;
}

export fn qlaster_ring_abort(handle: u32) Code {
    const end = handles.pin(handle, .producer) orelse return codeOf(.bad_handle);
    defer handles.unpin(handle);
    end.ring.abort();
    return 0;
}

export fn qlaster_ring_end(handle: u32, reason: u32) Code {
    switch (Producer.pin(handle) orelse return codeOf(.bad_handle)) {
        inline else => |end| {
            defer handles.unpin(handle);
            return if (@TypeOf(end) == *v9.ProducerEnd) end.finish() else end.finish(@fromBackingInt(@intCast(reason)));
        },
    }
}

const Consumer = union(enum) {
    native: *connection.ConsumerEnd,
    v9: *v9.ConsumerEnd,

    fn pin(handle: u32) ?Consumer {
        if (handles.pin(handle, .consumer)) |end| return .{ .native = end };
        if (handles.pin(handle, .v9_consumer)) |end| return .{ .v9 = end };
        return null;
    }
};

/// Describes up to `count` frames in `records`. Returns their number; `would_block`: none yet, but ask again, after a turn of
/// the event loop.
export fn qlaster_ring_poll(handle: u32, records: ?[*]align(4) layout.PollRecord, count: u32) Code {
    const out = (records orelse return codeOf(.bad_argument))[0..@min(count, std.math.maxInt(i32))];
    switch (Consumer.pin(handle) orelse return codeOf(.bad_handle)) {
        inline else => |end| {
            defer handles.unpin(handle);
            const found = end.ring.poll(out) catch |err| return switch (@as(v9_shaq.Consumer.PollError, err)) {
                error.EndOfStream => codeOf(.end_of_stream),
                error.PeerCorrupt => codeOf(.peer_corrupt),
                error.WouldBlock => codeOf(.would_block),
            };
            return @intCast(found);
        },
    }
}

export fn qlaster_ring_release(handle: u32, size: u32) Code {
    switch (Consumer.pin(handle) orelse return codeOf(.bad_handle)) {
        inline else => |end| {
            defer handles.unpin(handle);
            end.ring.release(size) catch |err| return switch (err) {
                error.BadArgument => codeOf(.bad_argument),
            };
            return 0;
        },
    }
}

/// 1: parked, a byte will come. 0: something is there already.
export fn qlaster_ring_park(handle: u32) Code {
    switch (Consumer.pin(handle) orelse return codeOf(.bad_handle)) {
        .native => |end| {
            defer handles.unpin(handle);
            return if (end.ring.park()) 1 else 0;
        },
        .v9 => |end| {
            defer handles.unpin(handle);
            return if (end.park()) 1 else 0;
        },
    }
}

export fn qlaster_ring_unpark(handle: u32) Code {
    switch (Consumer.pin(handle) orelse return codeOf(.bad_handle)) {
        .native => |end| end.ring.unpark(),
        .v9 => {}, // the original signals whether or not we sleep
    }
    handles.unpin(handle);
    return 0;
}

/// Replaces the consumer's mappings by zeros that nobody shares: the memory is given back, and who still reads gets no
/// fault. `qlaster_close` frees the addresses, later.
export fn qlaster_ring_retire(handle: u32) Code {
    switch (Consumer.pin(handle) orelse return codeOf(.bad_handle)) {
        .native => |end| {
            defer handles.unpin(handle);
            return end.regions.retire();
        },
        .v9 => |end| {
            defer handles.unpin(handle);
            return end.retire();
        },
    }
}

export fn qlaster_ring_spin(handle: u32, budget_us: u32) Code {
    switch (Consumer.pin(handle) orelse return codeOf(.bad_handle)) {
        inline else => |end| {
            defer handles.unpin(handle);
            return connection.spinOn(&end.ring, budget_us);
        },
    }
}

// Wire version 9 (docs/interop.md)

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
