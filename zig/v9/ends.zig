//! ends.zig: the two ends of a ring of version 9: file, ring and wake together, with the calls of connection.zig's ends.
//! May touch: what it is made of. May not touch: sockets, filters, policies: TypeScript decides.

const std = @import("std");
const layout = @import("../layout.zig");
const Lock = @import("../lock.zig").Lock;
const platform = @import("../platform/mod.zig");
const copy = @import("../copy.zig").copy;
const frame = @import("frame.zig");
const lz4 = @import("lz4.zig");
const relay = @import("relay.zig");
const ring_file = @import("ring_file.zig");
const shaq = @import("shaq.zig");
const Code = platform.Code;

fn codeOf(status: layout.Status) Code {
    return @backingInt(status);
}

fn codeOfEncode(err: frame.EncodeError) Code {
    return codeOf(switch (err) {
        error.Unsupported => .unsupported,
        error.Malformed => .bad_argument,
    });
}

fn codeOfPush(err: shaq.Producer.PushError) Code {
    return codeOf(switch (err) {
        error.Full => .full,
        error.TooLarge => .too_large,
        error.PeerCorrupt => .peer_corrupt,
    });
}

/// Private memory of a consumer: for several large frames in one poll. Only what is used takes memory.
const scratch_size = 64 * 1024 * 1024;

comptime {
    std.debug.assert(scratch_size >= frame.scratch_bytes_min);
}

/// One update in the form of version 9, made when the first ring wants it and shared by the others.
pub const Outgoing = struct {
    state: union(enum) { none, ready, failed: Code } = .none,
    encoded: frame.Encoded = undefined,
    memory: []u8 = &.{},
    may_compress: bool = true,

    pub fn get(outgoing: *Outgoing, head: []align(8) const u8, tail: []const u8, publish_ns: u64) Code {
        switch (outgoing.state) {
            .ready => return 0,
            .failed => |code| return code,
            .none => {},
        }
        frame.Encoded.from(head, tail, publish_ns, &outgoing.encoded) catch |err| {
            outgoing.state = .{ .failed = codeOfEncode(err) };
            return outgoing.state.failed;
        };
        outgoing.state = .ready;
        if (outgoing.may_compress and outgoing.encoded.mayCompress()) outgoing.compress();
        return 0;
    }

    /// Memory for half a megabyte and more: from the kernel, for this one update. Without it the frame goes as it is.
    fn compress(outgoing: *Outgoing) void {
        const size = std.mem.alignForward(usize, @sizeOf(lz4.State), 64) + outgoing.encoded.payload.len;
        const pages = platform.pages(size);
        if (pages.code < 0) return;
        outgoing.memory = @as([*]u8, @ptrFromInt(pages.address))[0..size];
        const state: *align(8) lz4.State = @ptrCast(@alignCast(outgoing.memory.ptr));
        outgoing.encoded.compress(outgoing.memory[size - outgoing.encoded.payload.len ..], state);
    }

    pub fn deinit(outgoing: *Outgoing) void {
        if (outgoing.memory.len > 0) platform.unmap(@intFromPtr(outgoing.memory.ptr), outgoing.memory.len);
    }
};

pub const ProducerEnd = struct {
    file: ring_file.Created,
    ring: shaq.Producer,
    /// An eventfd, or a pipe's end where there are none.
    wake_fd: i32,
    wakes: u64 = 0,
    /// Frames were published that nobody was woken for.
    is_dirty: bool = false,
    slot_index: u8,
    /// The lock of the fan-out that publishes into it, if any: other threads may do so at any time.
    lock: ?*Lock = null,

    /// On success the caller owns the descriptor in `created`.
    pub fn create(directory: []const u8, slot_index: u8, generation: u64, capacity: u64, created: *layout.V9Created, out: *ProducerEnd) Code {
        var wake: [2]i32 = undefined;
        const woken = platform.eventCreate(&wake);
        if (woken < 0) return woken;
        var file: ring_file.Created = undefined;
        const code = ring_file.create(directory, slot_index, generation, capacity, &file);
        if (code < 0) {
            for (wake) |fd| _ = platform.close(fd);
            return code;
        }
        out.* = .{
            .file = file,
            .wake_fd = wake[0],
            .slot_index = slot_index,
            .ring = .{
                .header = @ptrFromInt(file.address),
                .data = @ptrFromInt(file.address + shaq.headerSize(layout.shaq_version_2)),
                .capacity = capacity,
            },
        };
        created.* = .{ .wake_fd = wake[1], .path_length = @intCast(file.pathSlice().len), .path = @splat(0) };
        @memcpy(created.path[0..file.pathSlice().len], file.pathSlice());
        return 0;
    }

    /// Publishes one frame at once, and leaves the wake to `commit`.
    pub fn offer(end: *ProducerEnd, outgoing: *Outgoing, head: []align(8) const u8, tail: []const u8, publish_ns: u64) Code {
        const sizes = frame.Sizes.of(head, tail) catch |err| return codeOfEncode(err);
        const size = sizes.framed + sizes.payload;
        if (sizes.mayCompress()) return end.offerEncoded(outgoing, head, tail, publish_ns);
        const piece = end.ring.claimPiece(size) catch |err| return codeOfPush(err);
        const target = piece orelse return end.offerEncoded(outgoing, head, tail, publish_ns);
        // Straight into the ring: bytes that were just written in small pieces are slow to copy in large ones.
        sizes.encode(head, publish_ns, target);
        copy(target + sizes.framed, tail[0..sizes.payload]);
        end.ring.publish(size);
        end.is_dirty = true;
        return 0;
    }

    /// What wraps, and what may be compressed.
    noinline fn offerEncoded(end: *ProducerEnd, outgoing: *Outgoing, head: []align(8) const u8, tail: []const u8, publish_ns: u64) Code {
        const encoded = outgoing.get(head, tail, publish_ns);
        if (encoded < 0) return encoded;
        end.ring.push(outgoing.encoded.head(), outgoing.encoded.payload) catch |err| return codeOfPush(err);
        end.is_dirty = true;
        return 0;
    }

    /// One signal for all that was published since the last: the consumer drains its ring after each.
    pub fn commit(end: *ProducerEnd) void {
        if (!end.is_dirty) return;
        end.is_dirty = false;
        end.signal();
    }

    /// The system call orders it after the publication. Where it fails, the consumer has broken its own wake (`info`).
    fn signal(end: *ProducerEnd) void {
        end.wakes += 1;
        _ = platform.eventSignalShared(end.wake_fd);
    }

    /// Nothing follows. Where the sentinel does not fit, the vanished path has to do.
    pub fn finish(end: *ProducerEnd) Code {
        end.ring.close() catch {};
        end.is_dirty = false;
        end.signal();
        return 0;
    }

    pub fn info(end: *ProducerEnd, out: *layout.RingInfo) Code {
        var code: Code = if (end.ring.sync()) 0 else |_| codeOf(.peer_corrupt);
        // Only who wants us to wait takes the flag away. Looked for here, since it is cheap only if it is rare.
        if (!platform.eventIsNonBlocking(end.wake_fd)) code = codeOf(.peer_corrupt);
        out.* = std.mem.zeroes(layout.RingInfo);
        out.capacity_bytes = @floatFromInt(end.ring.capacity);
        out.producer_cursor = @floatFromInt(end.ring.position);
        out.consumer_cursor = @floatFromInt(end.ring.release_cached);
        out.connection_id = @floatFromInt(end.slot_index);
        out.wakes = @floatFromInt(end.wakes);
        return code;
    }

    /// The path goes first, then a last signal: a consumer that wakes finds it gone. (The original signals before it
    /// unlinks, so its consumer may go back to sleep for ever.)
    pub fn destroy(end: *ProducerEnd) void {
        end.file.destroy();
        end.signal();
        _ = platform.close(end.wake_fd);
    }
};

pub const ConsumerEnd = struct {
    file: ring_file.Joined,
    ring: shaq.Consumer,
    /// The sender's wake, until a relay takes it.
    wake_fd: i32,
    relay_entry: ?u32 = null,

    /// Takes the descriptor over, whatever the outcome.
    pub fn join(path: []const u8, wake_fd: i32, uid: u32, out: *ConsumerEnd) Code {
        var file: ring_file.Joined = undefined;
        const code = ring_file.join(path, uid, scratch_size, &file);
        if (code < 0) {
            if (wake_fd >= 0) _ = platform.closeForeign(wake_fd);
            return code;
        }
        const base: [*]u8 = @ptrFromInt(file.address);
        const scratch: frame.Scratch = .{
            .memory = base[file.scratch_offset..file.total_size],
            .base_offset = @intCast(file.scratch_offset),
        };
        out.* = .{
            .file = file,
            .wake_fd = wake_fd,
            .ring = .start(@ptrFromInt(file.address), base, @intCast(file.header_size), file.capacity, scratch),
        };
        return 0;
    }

    /// From now on the wake's signals arrive as bytes in `fd`, which is taken over, whatever the outcome.
    pub fn relayTo(end: *ConsumerEnd, fd: i32) Code {
        if (end.relay_entry != null or end.wake_fd < 0) {
            _ = platform.close(fd);
            return codeOf(.bad_argument);
        }
        const wake_fd = end.wake_fd;
        end.wake_fd = -1;
        const entry = relay.add(wake_fd, fd);
        if (entry < 0) return entry;
        end.relay_entry = @intCast(entry);
        return 0;
    }

    /// Whether a byte will come for what is published from now on. The relay is armed before the look at the ring, and
    /// the sender publishes before it signals: one of the two finds the frame.
    pub fn park(end: *ConsumerEnd) bool {
        if (end.relay_entry) |entry| _ = relay.arm(entry);
        return !end.ring.hasMore();
    }

    pub fn info(end: *ConsumerEnd, out: *layout.RingInfo) Code {
        out.* = std.mem.zeroes(layout.RingInfo);
        out.capacity_bytes = @floatFromInt(end.ring.capacity);
        out.producer_cursor = @floatFromInt(end.ring.header.producer_publication.load(.monotonic));
        out.consumer_cursor = @floatFromInt(end.ring.released);
        out.closing = if (end.ring.is_closed) 1 else 0;
        out.lost_pending = @floatFromInt(end.ring.undecodable);
        return 0;
    }

    /// Lets everything go but the addresses.
    pub fn retire(end: *ConsumerEnd) Code {
        end.closeWake();
        return end.file.retire();
    }

    fn closeWake(end: *ConsumerEnd) void {
        if (end.relay_entry) |entry| relay.remove(entry);
        end.relay_entry = null;
        if (end.wake_fd >= 0) _ = platform.closeForeign(end.wake_fd);
        end.wake_fd = -1;
    }

    pub fn destroy(end: *ConsumerEnd) void {
        end.closeWake();
        end.file.destroy();
    }
};

const testing = std.testing;

test "an update is compressed once for all rings, and not before one wants it" {
    if (!platform.is_linux) return error.SkipZigTest;
    const Source = extern struct { header: layout.FrameHeader, body: layout.AccountBody };
    var source: Source align(8) = std.mem.zeroes(Source);
    source.header.kind = @backingInt(layout.FrameKind.account);
    source.body.data_length = layout.v9_compress_bytes_min;
    const head: []align(8) const u8 = std.mem.asBytes(&source);
    const data: [layout.v9_compress_bytes_min]u8 = @splat(7);
    var ends: [2]ProducerEnd = undefined;
    for (&ends, 0..) |*end, index| {
        var created: layout.V9Created = undefined;
        try testing.expectEqual(0, ProducerEnd.create("", @intCast(index), 1, 1 << 20, &created, end));
        _ = platform.close(created.wake_fd);
    }
    defer for (&ends) |*end| end.destroy();

    var outgoing: Outgoing = .{};
    defer outgoing.deinit();
    try testing.expectEqual(0, outgoing.memory.len);
    try testing.expectEqual(0, ends[0].offer(&outgoing, head, &data, 5));
    const block = outgoing.encoded.payload;
    try testing.expect(block.len < 4000);
    const memory = outgoing.memory; // taken anew for each compression
    try testing.expectEqual(0, ends[1].offer(&outgoing, head, &data, 6));
    try testing.expectEqual(block, outgoing.encoded.payload);
    try testing.expectEqual(memory.ptr, outgoing.memory.ptr);
    const size = 4 + @sizeOf(layout.V9Account) + block.len;
    const rings = [_][*]const u8{ ends[0].ring.data, ends[1].ring.data };
    try testing.expectEqualSlices(u8, rings[0][0..size], rings[1][0..size]); // the time, too
}

test "a consumer that makes the wake wait stops nobody, and is found out" {
    if (!platform.is_linux) return error.SkipZigTest;
    const linux = std.os.linux;
    const Source = extern struct { header: layout.FrameHeader, body: layout.SlotBody };
    var source: Source align(8) = std.mem.zeroes(Source);
    source.header.kind = @backingInt(layout.FrameKind.slot);
    var created: layout.V9Created = undefined;
    var end: ProducerEnd = undefined;
    try testing.expectEqual(0, ProducerEnd.create("", 0, 1, 4096, &created, &end));
    defer _ = platform.close(created.wake_fd);
    var info: layout.RingInfo = undefined;
    try testing.expectEqual(0, end.info(&info));
    // The description is one and the same.
    try testing.expectEqual(0, linux.fcntl(created.wake_fd, linux.F.SETFL, 0));
    const full: u64 = std.math.maxInt(u64) - 1;
    try testing.expectEqual(8, linux.write(created.wake_fd, std.mem.asBytes(&full), @sizeOf(u64)));
    for (0..100) |_| {
        var outgoing: Outgoing = .{};
        try testing.expectEqual(0, end.offer(&outgoing, std.mem.asBytes(&source), "", 5));
        end.commit();
    }
    try testing.expectEqual(codeOf(.peer_corrupt), end.info(&info));
    try testing.expectEqual(100, info.wakes);
    try testing.expectEqual(0, end.finish());
    end.destroy();
}
