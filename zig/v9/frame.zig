//! frame.zig: data frames of wire version 9: from our native frames, and from bytes that a foreign sender wrote.
//! May touch: the bytes that it is given. May not touch: rings, files.
//! Source of the format and of the order of checks: docs/interop.md. What the original accepts is accepted, the rest is
//! refused with the original's kind of error.

const std = @import("std");
const layout = @import("../layout.zig");
const copy = @import("../copy.zig").copy;
const lz4 = @import("lz4.zig");
const FrameHeader = layout.FrameHeader;
const FrameKind = layout.FrameKind;
const Tag = layout.V9Tag;

/// A block of 10 MiB that does not compress grows by a 255th.
const compressed_bytes_max = layout.payload_bytes_max + layout.payload_bytes_max / 255 + 16;
pub const body_bytes_max = @sizeOf(layout.V9Account) + compressed_bytes_max;
/// Private memory that is enough for any one frame: a copy of it, and its payload decompressed.
pub const scratch_bytes_min = body_bytes_max + compressed_bytes_max;

// Encoding

pub const EncodeError = error{ Unsupported, Malformed };

/// One frame in the form of version 9. `head` and `payload` together are the body.
pub const Encoded = struct {
    /// The ring's prefix, then the head.
    buffer: [prefix_size + @sizeOf(layout.V9Account)]u8,
    head_length: usize,
    payload: []const u8,

    pub fn head(encoded: *const Encoded) []const u8 {
        return encoded.buffer[prefix_size..][0..encoded.head_length];
    }

    /// From a native frame: `source` is its header and fixed body, `tail` what follows. Only accounts, transactions and
    /// slots have a form in version 9. What it has no field for is left out: docs/interop.md lists it.
    pub fn from(source: []align(8) const u8, tail: []const u8, publish_ns: u64, out: *Encoded) EncodeError!void {
        const sizes = try Sizes.of(source, tail);
        sizes.encode(source, publish_ns, &out.buffer);
        out.head_length = sizes.framed - prefix_size;
        out.payload = tail[0..sizes.payload];
    }

    /// Whether the original would try to compress this one.
    pub fn mayCompress(encoded: *const Encoded) bool {
        return encoded.buffer[prefix_size + 1] == @backingInt(Tag.account) and encoded.payload.len >= layout.v9_compress_bytes_min;
    }

    /// Compresses the payload by the original's rule: first a probe, and only if the whole gets smaller.
    /// @param target At least as long as the payload.
    pub fn compress(encoded: *Encoded, target: []u8, state: *align(8) lz4.State) void {
        const raw = encoded.payload;
        const probe_bytes = layout.v9_compress_probe_bytes;
        const probe = lz4.compress(raw[0..probe_bytes], target[0 .. probe_bytes - 1], state) orelse return;
        const gain = (probe_bytes - probe) * 10_000 / probe_bytes;
        if (gain < layout.v9_compress_gain_min) return;
        const length = lz4.compress(raw, target[0 .. raw.len - 1], state) orelse return;
        encoded.payload = target[0..length];
        const head_bytes = encoded.buffer[prefix_size..];
        put(layout.V9Account, head_bytes, "flags", layout.v9_flag_lz4);
        put(layout.V9Account, head_bytes, "wire_length", @as(u32, @intCast(length)));
    }
};

const prefix_size = @sizeOf(u32);

/// How a native frame will look in version 9, checked: what is left to do can't fail.
pub const Sizes = struct {
    kind: FrameKind,
    /// Prefix and fixed part.
    framed: usize,
    payload: usize,

    pub inline fn of(source: []align(8) const u8, tail: []const u8) EncodeError!Sizes {
        if (source.len < @sizeOf(FrameHeader)) return error.Malformed;
        const header: *const FrameHeader = @ptrCast(source.ptr);
        const body = source[@sizeOf(FrameHeader)..];
        const kind: FrameKind = @fromBackingInt(@intCast(header.kind));
        switch (kind) {
            .account => {
                const account = bodyOf(layout.AccountBody, body) orelse return error.Malformed;
                if (tail.len != account.data_length) return error.Malformed;
                return .{ .kind = kind, .framed = prefix_size + @sizeOf(layout.V9Account), .payload = tail.len };
            },
            .transaction => {
                const transaction = bodyOf(layout.TransactionBody, body) orelse return error.Malformed;
                const length = transaction.message_length;
                if (tail.len < length) return error.Malformed;
                return .{ .kind = kind, .framed = prefix_size + @sizeOf(layout.V9Transaction), .payload = length };
            },
            .slot => {
                if (body.len < @sizeOf(layout.SlotBody)) return error.Malformed;
                return .{ .kind = kind, .framed = prefix_size + @sizeOf(layout.V9Slot), .payload = 0 };
            },
            else => return error.Unsupported,
        }
    }

    /// Writes prefix and fixed part to `target`, and reads nothing from it: it may be the ring.
    pub inline fn encode(sizes: Sizes, source: []align(8) const u8, publish_ns: u64, target: [*]u8) void {
        const header: *const FrameHeader = @ptrCast(source.ptr);
        const body = source[@sizeOf(FrameHeader)..];
        const length: u32 = @intCast(sizes.payload);
        std.mem.writeInt(u32, target[0..prefix_size], @intCast(sizes.framed - prefix_size + sizes.payload), .little);
        const head = target + prefix_size;
        switch (sizes.kind) {
            .account => {
                const account: *const layout.AccountBody = @ptrCast(body.ptr);
                write(layout.V9Account, head, .account, .{
                    .created_ns = publish_ns,
                    .pubkey = account.pubkey,
                    .owner = account.owner,
                    .lamports = account.lamports,
                    .executable = @intFromBool(header.flags & layout.frame_flag_executable != 0),
                    .rent_epoch = account.rent_epoch,
                    .slot = account.slot,
                    .write_version = account.write_version,
                    .flags = 0,
                    .raw_length = length,
                    .wire_length = length,
                });
            },
            .transaction => {
                const transaction: *const layout.TransactionBody = @ptrCast(body.ptr);
                write(layout.V9Transaction, head, .transaction, .{
                    .created_ns = publish_ns,
                    .slot = transaction.slot,
                    .index = transaction.index,
                    .vote = @intFromBool(header.flags & layout.frame_flag_vote != 0),
                    .signature = transaction.signature,
                    .payload_length = length,
                });
            },
            .slot => {
                const slot: *const layout.SlotBody = @ptrCast(body.ptr);
                write(layout.V9Slot, head, .slot, .{ .created_ns = publish_ns, .slot = slot.slot });
            },
            else => unreachable,
        }
    }

    /// Whether the original would try to compress this one.
    pub inline fn mayCompress(sizes: Sizes) bool {
        return sizes.kind == .account and sizes.payload >= layout.v9_compress_bytes_min;
    }
};

inline fn write(comptime T: type, target: [*]u8, tag: Tag, values: anytype) void {
    put(T, target, "version", layout.v9_version);
    put(T, target, "tag", @backingInt(tag));
    inline for (@typeInfo(@TypeOf(values)).@"struct".field_names) |name| put(T, target, name, @field(values, name));
}

inline fn put(comptime T: type, head: [*]u8, comptime name: []const u8, value: anytype) void {
    const size = @sizeOf(@FieldType(T, name));
    const target = head[@offsetOf(T, name)..][0..size];
    if (@TypeOf(value) == [size]u8) {
        target.* = value;
    } else {
        std.mem.writeInt(@Int(.unsigned, 8 * size), target, value, .little);
    }
}

fn bodyOf(comptime T: type, body: []align(8) const u8) ?*const T {
    return if (body.len < @sizeOf(T)) null else @ptrCast(body.ptr);
}

// Decoding

pub const DecodeError = error{ WrongVersion, WrongTag, Malformed, TooLarge, Undecodable };
pub const DescribeError = DecodeError || error{NoRoom};

/// Private memory behind a ring, for what does not lie in one piece in it.
pub const Scratch = struct {
    memory: []u8,
    /// Offset of `memory` in the buffer that records refer to.
    base_offset: u32,
    used: usize = 0,
    /// Bytes that were decompressed since `reset`, or at least tried.
    decompressed: u64 = 0,

    /// Voids what was handed out.
    pub fn reset(scratch: *Scratch) void {
        scratch.used = 0;
        scratch.decompressed = 0;
    }

    pub fn take(scratch: *Scratch, size: usize) error{NoRoom}![]u8 {
        if (size > scratch.memory.len - scratch.used) return error.NoRoom;
        defer scratch.used += size;
        return scratch.memory[scratch.used..][0..size];
    }

    pub fn offsetOf(scratch: *const Scratch, piece: []const u8) u32 {
        return scratch.base_offset + @as(u32, @intCast(@intFromPtr(piece.ptr) - @intFromPtr(scratch.memory.ptr)));
    }
};

/// Checks the body of one frame and says where its parts are.
/// @param offset Where `body` lies in the buffer that records refer to.
/// @param whose Shared bytes may change under us: what is decided on is copied first.
pub fn describe(body: []const u8, offset: u32, whose: enum { shared, private }, scratch: *Scratch, record: *layout.PollRecord) DescribeError!void {
    if (body.len < 2) return error.Malformed;
    // The longest fixed part, read once.
    var head: [@sizeOf(layout.V9Account)]u8 = @splat(0);
    // Sizes that the compiler knows are a few moves each. Volatile, or it could leave the copy out and read twice.
    const shared: [*]const volatile u8 = body.ptr;
    if (body.len >= head.len) {
        head = shared[0..head.len].*;
    } else if (body.len == @sizeOf(layout.V9Slot)) {
        head[0..@sizeOf(layout.V9Slot)].* = shared[0..@sizeOf(layout.V9Slot)].*;
    } else {
        for (head[0..body.len], shared) |*to, from| to.* = from;
    }
    record.* = .{
        .frame_offset = offset,
        .kind = 0,
        .flags = layout.frame_flag_lossy, // the format has no sequence: a loss can't be seen
        .ring_bytes = 0,
        .lost = 0,
        .payload_offset = offset + @as(u32, @intCast(body.len)),
        .payload_length = 0,
        .extra_offset = offset + @as(u32, @intCast(body.len)),
        .extra_length = 0,
    };
    switch (@as(Tag, @fromBackingInt(head[1]))) {
        .account => {
            try fixedPart(layout.V9Account, &head, body.len);
            if (try flag(layout.V9Account, "executable", &head)) record.flags |= layout.frame_flag_executable;
            const flags = get(layout.V9Account, "flags", &head);
            if (flags & ~layout.v9_flag_lz4 != 0) return error.Malformed;
            const raw_length = get(layout.V9Account, "raw_length", &head);
            if (raw_length > layout.payload_bytes_max) return error.TooLarge;
            const wire_length = get(layout.V9Account, "wire_length", &head);
            if (wire_length != body.len - @sizeOf(layout.V9Account)) return error.Malformed;
            record.kind = @backingInt(FrameKind.account);
            record.payload_offset = offset + @sizeOf(layout.V9Account);
            record.payload_length = wire_length;
            if (flags & layout.v9_flag_lz4 == 0) {
                if (wire_length != raw_length) return error.Malformed;
                return;
            }
            const payload = body[@sizeOf(layout.V9Account)..];
            const raw = try decompress(payload, raw_length, whose == .shared, scratch);
            record.flags |= layout.frame_flag_decompressed;
            record.payload_offset = scratch.offsetOf(raw);
            record.payload_length = raw_length;
        },
        .transaction => {
            try fixedPart(layout.V9Transaction, &head, body.len);
            if (try flag(layout.V9Transaction, "vote", &head)) record.flags |= layout.frame_flag_vote;
            const payload_length = get(layout.V9Transaction, "payload_length", &head);
            if (payload_length > layout.payload_bytes_max) return error.TooLarge;
            if (payload_length != body.len - @sizeOf(layout.V9Transaction)) return error.Malformed;
            record.kind = @backingInt(FrameKind.transaction);
            record.payload_offset = offset + @sizeOf(layout.V9Transaction);
            record.payload_length = payload_length;
        },
        .slot => {
            try fixedPart(layout.V9Slot, &head, body.len);
            if (body.len != @sizeOf(layout.V9Slot)) return error.Malformed;
            record.kind = @backingInt(FrameKind.slot);
        },
        // READY and READY_SHM can be decoded and do not belong here; the others are nobody's data.
        else => return error.WrongTag,
    }
}

fn fixedPart(comptime T: type, head: []const u8, length: usize) DecodeError!void {
    if (length < @sizeOf(T)) return error.Malformed;
    if (get(T, "version", head) != layout.v9_version) return error.WrongVersion;
}

fn get(comptime T: type, comptime name: []const u8, head: []const u8) @Int(.unsigned, 8 * @sizeOf(@FieldType(T, name))) {
    const size = @sizeOf(@FieldType(T, name));
    return std.mem.readInt(@Int(.unsigned, 8 * size), head[@offsetOf(T, name)..][0..size], .little);
}

fn flag(comptime T: type, comptime name: []const u8, head: []const u8) error{Malformed}!bool {
    return switch (get(T, name, head)) {
        0 => false,
        1 => true,
        else => error.Malformed,
    };
}

/// The compressed bytes are copied first if somebody else may write to them: LZ4 reads them more than once.
fn decompress(block: []const u8, raw_length: u32, is_shared: bool, scratch: *Scratch) DescribeError![]u8 {
    if (block.len > compressed_bytes_max) return error.TooLarge;
    const mark = scratch.used;
    errdefer scratch.used = mark;
    const raw = try scratch.take(raw_length);
    const after = scratch.used;
    defer scratch.used = after;
    const source = if (is_shared) try scratch.take(block.len) else block;
    if (is_shared) copy(@constCast(source.ptr), block);
    scratch.decompressed += raw_length;
    const length = lz4.decompress(source, raw) orelse return error.Undecodable;
    return if (length == raw_length) raw else error.Malformed;
}

// Tests

const testing = std.testing;

fn Native(comptime Body: type) type {
    return extern struct { header: FrameHeader, body: Body };
}

fn describeAlone(body: []const u8, record: *layout.PollRecord) DescribeError!void {
    var scratch: Scratch = .{ .memory = &.{}, .base_offset = 0 };
    return describe(body, 0, .private, &scratch, record);
}

fn accountExample() [119]u8 {
    return [_]u8{ 9, 2, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11 } ++ @as([32]u8, @splat(0xaa)) ++ @as([32]u8, @splat(0xbb)) ++
        [_]u8{ 5, 0, 0, 0, 0, 0, 0, 0, 1, 6, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0 } ++
        [_]u8{ 0, 3, 0, 0, 0, 3, 0, 0, 0, 'h', 'e', 'y' };
}

test "the golden account, from a native frame and described" {
    var native = std.mem.zeroes(Native(layout.AccountBody));
    native.header.kind = @backingInt(FrameKind.account);
    native.header.flags = layout.frame_flag_executable;
    native.body = .{
        .pubkey = @splat(0xaa),
        .owner = @splat(0xbb),
        .lamports = 5,
        .rent_epoch = 6,
        .slot = 7,
        .bank_id = 99,
        .write_version = 8,
        .data_length = 3,
        .source_epoch = 0,
        .full_length = 3,
        .pad_0 = 0,
    };
    var encoded: Encoded = undefined;
    try Encoded.from(std.mem.asBytes(&native), "hey", 0x1122334455667788, &encoded);
    const expected = accountExample();
    try testing.expectEqualSlices(u8, expected[0..116], encoded.head());
    try testing.expectEqualSlices(u8, "hey", encoded.payload);
    var record: layout.PollRecord = undefined;
    try describeAlone(&expected, &record);
    try testing.expectEqual(116, record.payload_offset);
    try testing.expectEqual(3, record.payload_length);
    try testing.expectEqual(layout.frame_flag_executable | layout.frame_flag_lossy, record.flags);
}

test "the golden slot and transaction" {
    var native = std.mem.zeroes(Native(layout.SlotBody));
    native.header.kind = @backingInt(FrameKind.slot);
    native.body.slot = 456;
    var encoded: Encoded = undefined;
    try Encoded.from(std.mem.asBytes(&native), "", 0x1122334455667788, &encoded);
    const slot = [_]u8{ 9, 7, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0xc8, 1, 0, 0, 0, 0, 0, 0 };
    try testing.expectEqualSlices(u8, &slot, encoded.head());
    var record: layout.PollRecord = undefined;
    try describeAlone(&slot, &record);
    try testing.expectError(error.Malformed, describeAlone(&(slot ++ .{0}), &record));

    var source = std.mem.zeroes(Native(layout.TransactionBody));
    source.header.kind = @backingInt(FrameKind.transaction);
    source.body.slot = 7;
    source.body.index = 3;
    source.body.signature = @splat(0xcc);
    source.body.message_length = 2;
    try Encoded.from(std.mem.asBytes(&source), "tx      meta", 0x1122334455667788, &encoded);
    const head = [_]u8{ 9, 6, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0 } ++
        @as([64]u8, @splat(0xcc)) ++ [_]u8{ 2, 0, 0, 0 };
    try testing.expectEqualSlices(u8, &head, encoded.head());
    try testing.expectEqualSlices(u8, "tx", encoded.payload);
}

test "every malformed frame has the original's kind of error" {
    var record: layout.PollRecord = undefined;
    const good = accountExample();
    const Change = struct { at: usize, to: u8, expected: anyerror };
    for ([_]Change{
        .{ .at = 0, .to = 8, .expected = error.WrongVersion },
        .{ .at = 1, .to = 1, .expected = error.WrongTag },
        .{ .at = 1, .to = 3, .expected = error.WrongTag },
        .{ .at = 1, .to = 5, .expected = error.WrongTag },
        .{ .at = 1, .to = 200, .expected = error.WrongTag },
        .{ .at = 82, .to = 2, .expected = error.Malformed },
        .{ .at = 107, .to = 2, .expected = error.Malformed },
        .{ .at = 108, .to = 4, .expected = error.Malformed },
        .{ .at = 111, .to = 1, .expected = error.TooLarge },
        .{ .at = 112, .to = 4, .expected = error.Malformed },
    }) |change| {
        var bad = good;
        bad[change.at] = change.to;
        try testing.expectError(change.expected, describeAlone(&bad, &record));
    }
    for (0..good.len) |length| try testing.expectError(error.Malformed, describeAlone(good[0..length], &record));
}
