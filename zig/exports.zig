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
const Engine = @import("engine.zig").Engine;
const v9_frame = @import("v9/frame.zig");
const v9_shaq = @import("v9/shaq.zig");
const v9_ring_file = @import("v9/ring_file.zig");
const filter_program = @import("filter_program.zig");
const Link = @import("link.zig").Link;
const Lock = @import("lock.zig").Lock;
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

var instance = std.atomic.Value(u64).init(0);

/// What tells this loaded copy of the library from all others, in this process and elsewhere: the `candidate` of whoever
/// asked first, a random whole number from 1 on.
export fn qlaster_instance(candidate: f64) f64 {
    if (!(candidate >= 1 and candidate <= 1 << 53)) return 0;
    const own: u64 = @intFromFloat(candidate);
    // Monotonic: the number is all that is passed on.
    return @floatFromInt(instance.cmpxchgStrong(0, own, .monotonic, .monotonic) orelse own);
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

// Fan-out

export fn qlaster_fanout_create(options: ?*align(4) const layout.FanoutOptions) Code {
    const given = options orelse return codeOf(.bad_argument);
    const engine = Engine.create(.{
        .seed = @bitCast(given.seed),
        .keys_max = given.keys_max,
        .keys_per_consumer_max = given.keys_per_consumer_max,
        .pool_bytes = given.pool_bytes,
        .pool_threshold = given.pool_threshold,
        .tracked_max = given.tracked_max,
        .guard = @fromBackingInt(@intCast(@min(given.guard, 2))),
        .state_bytes = if (given.state_parts == 0) 0 else @as(usize, std.math.clamp(given.state_parts, layout.state_parts_min, layout.state_parts_max)) * layout.part_size,
        .state_keeps_all = given.state_keep != 0,
        .history_bytes = @as(usize, @min(given.history_parts, layout.state_parts_max)) * layout.part_size,
        .stat_id = if (given.has_stats != 0) given.stat_id else null,
        .stall_ms = given.stall_ms,
    }) catch |err| return codeOf(switch (err) {
        error.OutOfMemory => .memory_limit,
        error.BadArgument => .bad_argument,
    });
    return register(.{ .fanout = engine }) orelse {
        engine.destroy();
        return codeOf(.handles_exhausted);
    };
}

/// A fan-out for the time of one call. Threads take turns (design D10).
const Turn = struct {
    handle: u32,
    engine: *Engine,

    fn begin(handle: u32) ?Turn {
        const engine = (handles.pin(handle, .fanout) orelse return null).*;
        engine.lock.acquire();
        return .{ .handle = handle, .engine = engine };
    }

    fn over(turn: Turn) void {
        turn.engine.lock.release();
        handles.unpin(turn.handle);
    }

    /// A count, and in bit 30 whether there is an event to ask for, in bit 29 whether there is work that only wants time.
    fn result(turn: Turn, code: Code) Code {
        if (code < 0) return code;
        var out = code;
        if (turn.engine.events_count > 0) out |= event_flag;
        if (turn.engine.has_work) out |= layout.fanout_work_flag;
        return out;
    }
};
const event_flag = layout.fanout_event_flag;

fn consumerId(number: u32) u16 {
    return std.math.cast(u16, number) orelse std.math.maxInt(u16);
}

/// Takes a ring, of whichever kind, as a consumer. Returns its number, below 1024. Its handle stays good, and must be
/// removed before it is closed for good.
export fn qlaster_fanout_add(handle: u32, ring_handle: u32, options: ?*align(8) const layout.FanoutConsumer) Code {
    const given = options orelse return codeOf(.bad_argument);
    if (!(given.resume_after >= 0 and given.resume_after <= 1 << 53)) return codeOf(.bad_argument);
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    return turn.engine.add(ring_handle, .{
        .policy = @fromBackingInt(given.policy),
        .transaction_policy = @fromBackingInt(given.transaction_policy),
        .statuses = given.statuses,
        .backlog_bytes = given.backlog_bytes,
        .pool_bytes = given.pool_bytes,
        .seed = given.seed,
        .resume_after = if (given.is_held != 0) @intFromFloat(given.resume_after) else null,
    });
}

/// @param is_gone Its process is, so nobody reads the pool through it any longer.
export fn qlaster_fanout_remove(handle: u32, id: u32, is_gone: u32) Code {
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    turn.engine.remove(consumerId(id), is_gone != 0);
    return 0;
}

/// What has to be done now and then: once a second, and after consumers left. 1: nothing is left to do.
/// @param elapsed_ms Since the last time, as far as it counts for who leaves no room.
export fn qlaster_fanout_sweep(handle: u32, elapsed_ms: u32) Code {
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    return turn.result(if (turn.engine.sweep(elapsed_ms)) 1 else 0);
}

/// What the next batches are stamped with, in microseconds since the Unix epoch, up to 2^53; 0: the machine's clock.
export fn qlaster_fanout_clock(handle: u32, us: f64) Code {
    if (!(us >= 0 and us <= 1 << 53)) return codeOf(.bad_argument);
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    turn.engine.clock_ns = @as(u64, @intFromFloat(us)) * std.time.ns_per_us;
    return turn.result(0);
}

/// The descriptor of the pool, for a consumer: the caller's. `unsupported`: there is no pool.
export fn qlaster_fanout_pool_fd(handle: u32) Code {
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    return turn.engine.poolDescriptor();
}

/// `body`: a FilterBody and what follows it, as it came over the link: checked here.
export fn qlaster_fanout_edit(handle: u32, id: u32, body: ?[*]const u8, length: u32) Code {
    const bytes = (body orelse return codeOf(.bad_argument))[0..length];
    if (length < @sizeOf(layout.FilterBody)) return codeOf(.bad_argument);
    const head: *align(1) const layout.FilterBody = @ptrCast(bytes.ptr);
    const keys = bytes[@sizeOf(layout.FilterBody)..];
    const accounts_size = @as(u64, head.account_count) * layout.address_size;
    const owners_size = @as(u64, head.owner_count) * layout.address_size;
    if (accounts_size + owners_size + head.program_length != keys.len) return codeOf(.bad_argument);
    if (head.bit >= layout.filters_per_consumer_max) return codeOf(.bad_argument);
    const owners_at: usize = @intCast(accounts_size);
    const program_at: usize = @intCast(accounts_size + owners_size);
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    return turn.result(turn.engine.edit(consumerId(id), &.{
        .op = @fromBackingInt(head.op),
        .bit = @intCast(head.bit),
        .takes_transactions = head.transactions != 0,
        .is_last = head.is_last != 0,
        .accounts = std.mem.bytesAsSlice([layout.address_size]u8, keys[0..owners_at]),
        .owners = std.mem.bytesAsSlice([layout.address_size]u8, keys[owners_at..program_at]),
        .program = keys[program_at..],
        .wants_state = head.flags & layout.filter_flag_state != 0,
        .wants_versions = head.flags & layout.filter_flag_versions != 0,
    }));
}

/// Publishes one update. Returns how many consumers got it, with a flag for events, or `would_block`: nobody did.
export fn qlaster_fanout_publish(handle: u32, head: ?[*]align(8) u8, head_length: u32, tail: ?[*]const u8, tail_length: u32, is_batch: u32) Code {
    const head_bytes = (head orelse return codeOf(.bad_argument))[0..head_length];
    if (tail_length > 3 * layout.payload_bytes_max) return codeOf(.bad_argument);
    const tail_bytes: []const u8 = if (tail_length == 0) &.{} else (tail orelse return codeOf(.bad_argument))[0..tail_length];
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    if (turn.engine.is_frozen) return codeOf(.bad_handle);
    return turn.result(turn.engine.publish(head_bytes, tail_bytes, is_batch != 0));
}

/// Publishes many updates that stand in one buffer, as a batch. The first word of the buffer says, afterwards, how many
/// of its bytes are done. Returns the number of deliveries.
export fn qlaster_fanout_publish_many(handle: u32, items: ?[*]align(8) u8, length: u32, commit: u32) Code {
    const bytes = (items orelse return codeOf(.bad_argument))[0..length];
    if (length < 8) return codeOf(.bad_argument);
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    if (turn.engine.is_frozen) return codeOf(.bad_handle);
    var done: usize = 0;
    const code = turn.engine.publishMany(@alignCast(bytes[8..]), &done);
    if (commit != 0) turn.engine.commit();
    std.mem.writeInt(u64, bytes[0..8], done, .little);
    return turn.result(code);
}

export fn qlaster_fanout_commit(handle: u32) Code {
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    turn.engine.commit();
    return turn.result(0);
}

/// A resumed consumer has its filters: it gets what it missed, and then what comes.
export fn qlaster_fanout_start(handle: u32, id: u32) Code {
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    return turn.result(turn.engine.startHeld(consumerId(id)));
}

/// Goes on with what waits for nothing but time: snapshots, resumed consumers. The result's flag says whether there is more.
export fn qlaster_fanout_pump(handle: u32) Code {
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    turn.engine.pumpOn();
    return turn.result(0);
}

/// From here on nobody publishes, in no thread: as if the fan-out were closed. 0 takes it back.
export fn qlaster_fanout_freeze(handle: u32, is_frozen: u32) Code {
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    turn.engine.finishRollback();
    turn.engine.commit();
    turn.engine.is_frozen = is_frozen != 0;
    return turn.result(0);
}

/// Takes into state and history what another sender has published: a frame as it came, with its sequence.
export fn qlaster_fanout_seed(handle: u32, head: ?[*]align(8) u8, head_length: u32, tail: ?[*]const u8, tail_length: u32) Code {
    const head_bytes = (head orelse return codeOf(.bad_argument))[0..head_length];
    if (tail_length > 3 * layout.payload_bytes_max) return codeOf(.bad_argument);
    const tail_bytes: []const u8 = if (tail_length == 0) &.{} else (tail orelse return codeOf(.bad_argument))[0..tail_length];
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    return turn.engine.seed(head_bytes, tail_bytes);
}

/// Goes on with the order of another sender, of which these were the last sequence, the newest slot, and the accounts that it had
/// forgotten. Only before the first update.
export fn qlaster_fanout_adopt(handle: u32, sequence: f64, newest_slot: f64, evicted: f64) Code {
    for ([_]f64{ sequence, newest_slot, evicted }) |number| if (!(number >= 0 and number <= 1 << 53)) return codeOf(.bad_argument);
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    return turn.engine.adopt(@intFromFloat(sequence), @intFromFloat(newest_slot), @intFromFloat(evicted));
}

/// Moves what waits for a consumer into its ring. 1: nothing waits any longer. 0: it is full again.
export fn qlaster_fanout_flush(handle: u32, id: u32) Code {
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    const is_empty = turn.engine.flushAwaited(consumerId(id));
    turn.engine.commit();
    return turn.result(if (is_empty) 1 else 0);
}

/// Puts a mark behind all frames of one consumer. 0, or `full`.
export fn qlaster_fanout_mark(handle: u32, id: u32, head: ?[*]align(8) u8, head_length: u32) Code {
    const head_bytes = (head orelse return codeOf(.bad_argument))[0..head_length];
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    return turn.engine.mark(consumerId(id), head_bytes);
}

/// A consumer that has to be ended: its number, and its `EndReason` times 65536. `would_block`: none.
export fn qlaster_fanout_event(handle: u32) Code {
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    const event = turn.engine.nextEvent() orelse return codeOf(.would_block);
    return @intCast(@as(u32, event.id) | @backingInt(event.reason) << 16);
}

export fn qlaster_fanout_info(handle: u32, out: ?*align(8) layout.FanoutInfo) Code {
    const info = out orelse return codeOf(.bad_argument);
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    turn.engine.info(info);
    return 0;
}

export fn qlaster_fanout_demand_start(handle: u32) Code {
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    return turn.engine.startDemand();
}

/// Writes a DemandHead and `records_max` DemandRecords at most, having looked at `steps` keys at most. Returns their number.
export fn qlaster_fanout_demand(handle: u32, out: ?*align(4) layout.DemandHead, records_max: u32, steps: u32) Code {
    const head = out orelse return codeOf(.bad_argument);
    if (records_max > 1 << 20) return codeOf(.bad_argument);
    const records = @as([*]layout.DemandRecord, @ptrFromInt(@intFromPtr(head) + @sizeOf(layout.DemandHead)));
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    return turn.engine.collectDemand(head, records[0..records_max], steps);
}

export fn qlaster_fanout_consumer_info(handle: u32, id: u32, out: ?*align(8) layout.FanoutConsumerInfo) Code {
    const info = out orelse return codeOf(.bad_argument);
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    return turn.engine.consumerInfo(consumerId(id), info);
}

// Stat page

/// Writes into the listener's lock file where the fan-out's stat page is found: pid, descriptor, id.
export fn qlaster_fanout_stat_announce(handle: u32, listener_handle: u32) Code {
    const listener = handles.pin(listener_handle, .listener) orelse return codeOf(.bad_handle);
    defer handles.unpin(listener_handle);
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    const page = turn.engine.stats orelse return codeOf(.unsupported);
    return listener.announce(page.memory.passed_fd, page.header().id);
}

export fn qlaster_fanout_stat_identify(handle: u32, id: u32, identity: ?*align(8) const layout.StatIdentity) Code {
    const given = identity orelse return codeOf(.bad_argument);
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    return turn.engine.identify(consumerId(id), given);
}

/// 1: there is a page; 0: there is none.
export fn qlaster_fanout_stat_beat(handle: u32, beat: ?*align(8) const layout.StatBeat) Code {
    const given = beat orelse return codeOf(.bad_argument);
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    return turn.engine.beat(given);
}

// Filters

/// Runs a filter program against one native frame, without an index: for tests, and to see why a filter does not match.
/// `changed`: 0 no, 1 yes, else unknown. Returns the outcome, or `peer_corrupt` for bytes that are no program.
export fn qlaster_filter_evaluate(
    program: ?[*]const u8,
    program_length: u32,
    head: ?[*]align(8) const u8,
    head_length: u32,
    tail: ?[*]const u8,
    tail_length: u32,
    changed: i32,
    verdict: ?*align(4) layout.FilterVerdict,
) Code {
    const program_bytes: []const u8 = if (program_length == 0) &.{} else (program orelse return codeOf(.bad_argument))[0..program_length];
    const head_bytes = (head orelse return codeOf(.bad_argument))[0..head_length];
    const out = verdict orelse return codeOf(.bad_argument);
    const tail_bytes: []const u8 = if (tail_length == 0) &.{} else (tail orelse return codeOf(.bad_argument))[0..tail_length];
    const checked = filter_program.validate(program_bytes) catch |err| return switch (err) {
        error.Malformed => codeOf(.peer_corrupt),
    };
    const outcome = filter_program.evaluateFrame(&checked, head_bytes, tail_bytes, switch (changed) {
        0 => false,
        1 => true,
        else => null,
    }, out) catch |err| return switch (err) {
        error.Malformed => codeOf(.bad_argument),
    };
    return @intCast(@backingInt(outcome));
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
