//! sizes.zig: sizes that more than one part of the layout is made of.

const std = @import("std");

pub const cache_line_size = 64;

/// Solana's limit for the data of an account; it also bounds a transaction's message and meta.
pub const payload_bytes_max = 10 * 1024 * 1024;
pub const signature_size = 64;
pub const address_size = 32;

/// Of a consumer, in UTF-8.
pub const name_bytes_max = 64;

/// What a region starts with: eight letters, as a number.
pub fn magic(comptime text: *const [8]u8) u64 {
    return std.mem.readInt(u64, text, .little);
}
