//! arena.zig: private memory in blocks that keep their place: parts of up to 1 GiB, each with books of its own, made when
//! they are first needed and kept.
//! May touch: its own memory. May not touch: what stands in it.

const std = @import("std");
const platform = @import("platform/mod.zig");
const pool_blocks = @import("pool_blocks.zig");
const Blocks = pool_blocks.Blocks;
const Zones = pool_blocks.Zones;
const assert = std.debug.assert;

/// Names a block for as long as it is in use; 0 is none.
pub const Id = u32;

const part_bytes_max = 1 << 30;
/// A part has at most 2^22 blocks, and one that is no block.
const index_bits = 23;
const parts_max = 64;
pub const bytes_max = parts_max * part_bytes_max;

const Part = struct {
    memory: []align(4096) u8,
    blocks: Blocks,
    zones: *Zones,
    addresses: []usize,

    fn init(size: usize) error{OutOfMemory}!Part {
        const memory = platform.pages(size);
        if (memory.code < 0) return error.OutOfMemory;
        errdefer platform.unmap(memory.address, size);
        const zones = platform.pages(@sizeOf(Zones));
        if (zones.code < 0) return error.OutOfMemory;
        errdefer platform.unmap(zones.address, @sizeOf(Zones));
        const count = Blocks.slabsMax(size);
        const addresses = platform.pages(count * @sizeOf(usize));
        if (addresses.code < 0) return error.OutOfMemory;
        errdefer platform.unmap(addresses.address, count * @sizeOf(usize));
        const list = @as([*]usize, @ptrFromInt(addresses.address))[0..count];
        const zone_list: *Zones = @ptrFromInt(zones.address);
        return .{
            .memory = @as([*]align(4096) u8, @ptrFromInt(memory.address))[0..size],
            .blocks = try .init(size, list, zone_list, pool_blocks.systemPages),
            .zones = zone_list,
            .addresses = list,
        };
    }

    fn deinit(part: *Part) void {
        part.blocks.deinit();
        platform.unmap(@intFromPtr(part.addresses.ptr), part.addresses.len * @sizeOf(usize));
        platform.unmap(@intFromPtr(part.zones), @sizeOf(Zones));
        platform.unmap(@intFromPtr(part.memory.ptr), part.memory.len);
    }

    fn usedBytes(part: *const Part) usize {
        return @as(usize, part.blocks.units_used) * pool_blocks.unit_size;
    }
};

pub const Arena = struct {
    size_max: usize,
    parts: [parts_max]Part = undefined,
    part_count: u32 = 0,
    size: usize = 0,

    /// @param size_max A multiple of 4,096, at most `bytes_max`.
    pub fn init(size_max: usize) Arena {
        assert(size_max <= bytes_max and size_max % 4096 == 0);
        return .{ .size_max = size_max };
    }

    pub fn deinit(arena: *Arena) void {
        for (arena.parts[0..arena.part_count]) |*part| part.deinit();
        arena.part_count = 0;
        arena.size = 0;
    }

    /// Null: no part has room. Then nothing has changed.
    pub fn take(arena: *Arena, size: usize) ?Id {
        if (size > part_bytes_max) return null;
        for (arena.parts[0..arena.part_count], 0..) |*part, i| {
            if (part.blocks.take(@intCast(size))) |index| return idOf(i, index);
        }
        const rest = arena.size_max - arena.size;
        if (rest < size + 4096 or arena.part_count == parts_max) return null;
        const part_size = @min(rest, part_bytes_max);
        arena.parts[arena.part_count] = Part.init(part_size) catch return null;
        arena.part_count += 1;
        arena.size += part_size;
        const index = arena.parts[arena.part_count - 1].blocks.take(@intCast(size)) orelse return null;
        return idOf(arena.part_count - 1, index);
    }

    fn idOf(part: usize, index: u32) Id {
        assert(index != Blocks.none and index < 1 << index_bits);
        return @as(u32, @intCast(part)) << index_bits | index;
    }

    pub fn give(arena: *Arena, id: Id) void {
        arena.parts[id >> index_bits].blocks.give(id & ((1 << index_bits) - 1));
    }

    pub inline fn bytes(arena: *const Arena, id: Id) [*]align(pool_blocks.unit_size) u8 {
        const part = &arena.parts[id >> index_bits];
        const record = part.blocks.at(id & ((1 << index_bits) - 1));
        return @alignCast(part.memory.ptr + @as(usize, record.offset) * pool_blocks.unit_size);
    }

    /// Bytes of blocks in use, as they were rounded up.
    pub fn usedBytes(arena: *const Arena) usize {
        var sum: usize = 0;
        for (arena.parts[0..arena.part_count]) |*part| sum += part.usedBytes();
        return sum;
    }

    /// Bytes of the books.
    pub fn bookBytes(arena: *const Arena) usize {
        var sum: usize = 0;
        for (arena.parts[0..arena.part_count]) |*part| sum += part.blocks.slabs.count * pool_blocks.Slabs.size + @sizeOf(Zones);
        return sum;
    }

    /// For tests.
    pub fn verify(arena: *const Arena) !void {
        for (arena.parts[0..arena.part_count]) |*part| try part.blocks.verify();
    }
};

test "blocks keep their place and their bytes until they are given back" {
    const testing = std.testing;
    var arena: Arena = .init(1 << 20);
    defer arena.deinit();
    var ids: [64]Id = undefined;
    for (&ids, 0..) |*id, i| {
        id.* = arena.take(1000 + i).?;
        @memset(arena.bytes(id.*)[0 .. 1000 + i], @intCast(i));
    }
    for (ids, 0..) |id, i| try testing.expectEqual(i, arena.bytes(id)[999 + i]);
    try testing.expectEqual(null, arena.take(1 << 20));
    for (ids) |id| arena.give(id);
    try testing.expectEqual(0, arena.usedBytes());
    try arena.verify();
}
