//! rings.zig: the door, both ends of rings, of either protocol.

const std = @import("std");
const layout = @import("../layout.zig");
const platform = @import("../platform/mod.zig");
const handles = @import("../handles.zig");
const region = @import("../region.zig");
const ring = @import("../ring.zig");
const wake = @import("../wake.zig");
const connection = @import("../connection.zig");
const v9 = @import("../v9/ends.zig");
const v9_shaq = @import("../v9/shaq.zig");
const Lock = @import("../lock.zig").Lock;
const results = @import("results.zig");
const Code = platform.Code;
const codeOf = results.codeOf;
const register = results.register;

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

/// Gives the producer's end the consumer's wake, or the consumer's end that of a sender which may wait for room: a
/// duplicate, so that the handle stays good for messages on the link.
export fn qlaster_ring_attach(handle: u32, wake_handle: u32) Code {
    const opened = handles.pin(wake_handle, .wake) orelse return codeOf(.bad_handle);
    defer handles.unpin(wake_handle);
    if (handles.pin(handle, .producer)) |end| {
        defer handles.unpin(handle);
        return attach(&end.wake, opened.fd);
    }
    const end = handles.pin(handle, .consumer) orelse return codeOf(.bad_handle);
    defer handles.unpin(handle);
    end.ring.is_awaited = true;
    const prepared = end.prepareToSkip();
    if (prepared < 0) return prepared;
    return attach(&end.wake, opened.fd);
}

fn attach(slot: *?wake.Wake, fd: i32) Code {
    if (slot.* != null) return codeOf(.bad_argument);
    const own = platform.duplicate(fd);
    if (own < 0) return own;
    slot.* = .{ .fd = own };
    return 0;
}

/// Takes all descriptors over, whatever the outcome. A pool of 0 bytes is none, and has no descriptor.
export fn qlaster_ring_join(ring_fd: i32, page_fd: i32, pool_fd: i32, capacity_bytes: u32, pool_bytes: u32, uid: u32) Code {
    var end: connection.ConsumerEnd = undefined;
    const pool: ?region.PoolDescriptor = if (pool_bytes == 0) null else .{ .fd = pool_fd, .size = pool_bytes };
    const code = connection.ConsumerEnd.join(ring_fd, page_fd, pool, capacity_bytes, uid, &end);
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
    if (Producer.pin(handle)) |producer| switch (producer) {
        inline else => |end| {
            defer handles.unpin(handle);
            const turn = RingTurn.begin(end.lock);
            defer turn.over();
            return end.info(info);
        },
    };
    switch (Consumer.pin(handle) orelse return codeOf(.bad_handle)) {
        inline else => |end| {
            defer handles.unpin(handle);
            return end.info(info);
        },
    }
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
        .native => |end| {
            const frame: ring.Frame = .{ .head = head, .parts = &.{tail}, .publish_ns = publish_ns };
            end.ring.offer(&frame) catch |err| return switch (err) {
                error.Full => codeOf(.full),
                error.TooLarge => codeOf(.too_large),
                error.PeerCorrupt => codeOf(.peer_corrupt),
            };
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

/// A producer's end for the time of one call that does not come through its fan-out: threads that publish take turns
/// with it. Only the thread that adds and removes consumers gets here, so the lock stays.
const RingTurn = struct {
    lock: ?*Lock,

    fn begin(lock: ?*Lock) RingTurn {
        if (lock) |held| held.acquire();
        return .{ .lock = lock };
    }

    fn over(turn: RingTurn) void {
        if (turn.lock) |held| held.release();
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
            .native => |producer| _ = producer.ring.commit(0),
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

export fn qlaster_ring_end(handle: u32, reason: u32) Code {
    switch (Producer.pin(handle) orelse return codeOf(.bad_handle)) {
        inline else => |end| {
            defer handles.unpin(handle);
            const turn = RingTurn.begin(end.lock);
            defer turn.over();
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
            // What was skipped may have been given back.
            if (@TypeOf(end) == *connection.ConsumerEnd) {
                if (found == 0) end.notifyIfAwaited() else end.report(out[0..found]);
            }
            return @intCast(found);
        },
    }
}

/// 0, or `revoked`: given back all the same, but payloads in the pool may not have been what they were.
export fn qlaster_ring_release(handle: u32, size: u32) Code {
    switch (Consumer.pin(handle) orelse return codeOf(.bad_handle)) {
        .native => |end| {
            defer handles.unpin(handle);
            const is_revoked = end.ring.isRevoked();
            end.ring.release(size) catch |err| return switch (err) {
                error.BadArgument => codeOf(.bad_argument),
            };
            end.notifyIfAwaited();
            return if (is_revoked) codeOf(.revoked) else 0;
        },
        .v9 => |end| {
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
            return if (end.park()) 1 else 0;
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
/// fault. The wake that was attached is closed. `qlaster_close` frees the addresses, later.
export fn qlaster_ring_retire(handle: u32) Code {
    switch (Consumer.pin(handle) orelse return codeOf(.bad_handle)) {
        .native => |end| {
            defer handles.unpin(handle);
            return end.retire();
        },
        .v9 => |end| {
            defer handles.unpin(handle);
            return end.retire();
        },
    }
}

export fn qlaster_ring_spin(handle: u32, budget_us: u32) Code {
    switch (Consumer.pin(handle) orelse return codeOf(.bad_handle)) {
        .native => |end| {
            defer handles.unpin(handle);
            return end.spin(budget_us);
        },
        .v9 => |end| {
            defer handles.unpin(handle);
            return connection.spinOn(&end.ring, budget_us);
        },
    }
}
