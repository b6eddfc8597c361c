//! transaction.zig: what stands behind the body of a transaction frame, and where: the message, the addresses that the
//! transaction loaded from lookup tables, the meta.
//! May touch: nothing. Its numbers may be a peer's: read once by who calls, checked here.

const std = @import("std");
const layout = @import("layout.zig");

/// Offsets from the start of what stands behind the body, in the frame or in a block of the pool.
pub const Tail = struct {
    loaded_offset: u32,
    /// Addresses, the writable ones first.
    loaded_count: u32,
    meta_offset: u32,
    /// All of it.
    length: u32,

    pub const Parts = struct {
        message_length: u32,
        meta_length: u32,
        loaded_writable_count: u16,
        loaded_readonly_count: u16,
        has_meta: bool,
    };

    /// Null: no transaction has such parts.
    pub fn from(parts: Parts) ?Tail {
        if (parts.message_length > layout.payload_bytes_max) return null;
        if (parts.meta_length > layout.payload_bytes_max) return null;
        if (!parts.has_meta and parts.meta_length != 0) return null;
        const loaded_count = @as(u32, parts.loaded_writable_count) + parts.loaded_readonly_count;
        if (loaded_count > layout.loaded_keys_max) return null;
        const is_alone = loaded_count == 0 and !parts.has_meta;
        const padded = std.mem.alignForward(u32, parts.message_length, layout.frame_align);
        const loaded_offset = if (is_alone) parts.message_length else padded;
        const meta_offset = loaded_offset + layout.address_size * loaded_count;
        return .{
            .loaded_offset = loaded_offset,
            .loaded_count = loaded_count,
            .meta_offset = meta_offset,
            .length = meta_offset + parts.meta_length,
        };
    }

    /// Of a body that nobody else writes to.
    pub fn of(body: *const layout.TransactionBody, flags: u16) ?Tail {
        return from(.{
            .message_length = body.message_length,
            .meta_length = body.meta_length,
            .loaded_writable_count = body.loaded_writable_count,
            .loaded_readonly_count = body.loaded_readonly_count,
            .has_meta = flags & layout.frame_flag_meta != 0,
        });
    }
};

const testing = std.testing;

test "message, loaded addresses, meta: each where the next one starts" {
    const parts: Tail.Parts = .{
        .message_length = 5,
        .meta_length = 0,
        .loaded_writable_count = 0,
        .loaded_readonly_count = 0,
        .has_meta = false,
    };
    try testing.expectEqual(Tail{ .loaded_offset = 5, .loaded_count = 0, .meta_offset = 5, .length = 5 }, Tail.from(parts));
    var changed = parts;
    changed.has_meta = true;
    changed.meta_length = 3;
    try testing.expectEqual(Tail{ .loaded_offset = 8, .loaded_count = 0, .meta_offset = 8, .length = 11 }, Tail.from(changed));
    changed.loaded_writable_count = 1;
    changed.loaded_readonly_count = 2;
    try testing.expectEqual(Tail{ .loaded_offset = 8, .loaded_count = 3, .meta_offset = 104, .length = 107 }, Tail.from(changed));
    changed.has_meta = false;
    try testing.expectEqual(null, Tail.from(changed));
    changed.meta_length = 0;
    try testing.expectEqual(Tail{ .loaded_offset = 8, .loaded_count = 3, .meta_offset = 104, .length = 104 }, Tail.from(changed));
}

test "numbers that no transaction has" {
    const largest: Tail.Parts = .{
        .message_length = layout.payload_bytes_max,
        .meta_length = layout.payload_bytes_max,
        .loaded_writable_count = layout.loaded_keys_max,
        .loaded_readonly_count = 0,
        .has_meta = true,
    };
    try testing.expectEqual(2 * layout.payload_bytes_max + 32 * layout.loaded_keys_max, Tail.from(largest).?.length);
    inline for (.{
        .{ "message_length", layout.payload_bytes_max + 1 }, .{ "message_length", std.math.maxInt(u32) },
        .{ "meta_length", layout.payload_bytes_max + 1 },    .{ "meta_length", std.math.maxInt(u32) },
        .{ "loaded_readonly_count", 1 },                     .{ "loaded_readonly_count", std.math.maxInt(u16) },
        .{ "loaded_writable_count", std.math.maxInt(u16) },  .{ "has_meta", false },
    }) |change| {
        var parts = largest;
        @field(parts, change[0]) = change[1];
        try testing.expectEqual(null, Tail.from(parts));
    }
}
