//! pool_blocks.zig: which part of a pool's memory is a block in use and which is free.
//! May touch: its private books, which it gets by whole pages. It never looks at the memory itself, only at offsets.
//! May not touch: the pool's memory, references, clocks.
//! Why the time does not depend on the pool: two-level segregated fit (TLSF) in each of up to 64 zones. Free blocks hang in
//! bins by size, 32 to an octave; bitmaps find the zone, and the first bin of it that is large enough. Why zones, and why
//! the pool does not crumble: docs/adr/0009.

const std = @import("std");
const platform = @import("platform/mod.zig");
const assert = std.debug.assert;

/// Blocks start and end on multiples of this.
pub const unit_size = 64;
/// No block is smaller: it bounds the number of blocks, and so the books.
const units_min = 4;
/// Blocks from here on come from the last zone that has room, smaller ones from the first: each kind leaves the other's end
/// of the memory in one piece, and what is never needed is never touched.
const units_large = 256 * 1024 / unit_size;

const bins_per_octave_log2 = 5;
const bins_per_octave = 1 << bins_per_octave_log2;
/// Sizes up to 2 GiB, that is 2^25 units: the linear bins, then an octave for each further power of two, and the last one.
const octave_count = 22;

/// One for each bit of a word.
const zone_count_max = 64;

/// The free blocks that begin in one part of the memory. All zero: there are none.
const Zone = struct {
    octaves: u32,
    bins: [octave_count]u32,
    /// By bin: its first block.
    heads: [octave_count * bins_per_octave]u32,
};
pub const Zones = [zone_count_max]Zone;

/// Private memory in pieces of one size, so that it grows by pages, moves nothing, and fails before anything has changed.
pub const Slabs = struct {
    source: Pages,
    addresses: []usize,
    count: u32 = 0,

    pub const size = 64 * 1024;

    pub fn grow(slabs: *Slabs) error{OutOfMemory}!usize {
        if (slabs.count == slabs.addresses.len) return error.OutOfMemory;
        const address = slabs.source(size);
        if (address == 0) return error.OutOfMemory;
        slabs.addresses[slabs.count] = address;
        slabs.count += 1;
        return address;
    }

    pub fn deinit(slabs: *Slabs) void {
        for (slabs.addresses[0..slabs.count]) |address| platform.unmap(address, size);
        slabs.count = 0;
    }
};

/// Where private memory comes from: an address of zeros, or 0. Tests put one here that fails.
pub const Pages = *const fn (size: usize) usize;

pub fn systemPages(size: usize) usize {
    const mapped = platform.pages(size);
    return if (mapped.code < 0) 0 else mapped.address;
}

/// What is known about one block, in use or free. All zero is nothing.
pub const Record = extern struct {
    /// In units from the start of the memory.
    offset: u32,
    units: u32,
    /// The neighbours in memory.
    before: u32,
    after: u32,
    /// References in all (or `free_mark`), and those of them that belong to evicted connections. The Pool's to change.
    references: u32,
    quarantined: u32,
    of: extern union {
        used: extern struct { size: u32, generation: u32 },
        free: extern struct { next: u32, previous: u32 },
    },

    const free_mark = std.math.maxInt(u32);

    pub fn isFree(record: *const Record) bool {
        return record.references == free_mark;
    }

    comptime {
        assert(@sizeOf(Record) == 32); // two in a cache line
    }
};

const records_per_slab_log2 = 11;
const records_per_slab = 1 << records_per_slab_log2;

pub const Blocks = struct {
    slabs: Slabs,
    record_count: u32,
    /// Records that are about nothing, chained by `after`.
    unused: u32 = none,
    units_total: u32,
    units_used: u32 = 0,
    generation: u32 = 0,
    zones: *Zones,
    zone_shift: u5,
    /// By octave: the zones that have a block of it.
    octave_zones: [octave_count]u64 = @splat(0),

    /// A record that is never free, so that a block at either end of the memory has a neighbour like any other.
    pub const none = 0;

    /// How many addresses `init` needs room for.
    pub fn slabsMax(memory_size: usize) usize {
        return (memory_size / (units_min * unit_size) + 1) / records_per_slab + 1;
    }

    /// One free block that is all of the memory. `addresses` has `slabsMax` items, `zones` are zero, and both outlive the
    /// result.
    pub fn init(memory_size: usize, addresses: []usize, zones: *Zones, source: Pages) error{OutOfMemory}!Blocks {
        comptime assert(@sizeOf(Record) * records_per_slab == Slabs.size);
        assert(addresses.len == slabsMax(memory_size));
        const units_total: u32 = @intCast(memory_size / unit_size);
        var blocks: Blocks = .{
            .slabs = .{ .source = source, .addresses = addresses },
            .record_count = 1,
            .units_total = units_total,
            .zones = zones,
            .zone_shift = @intCast(std.math.log2_int_ceil(u32, units_total) - comptime std.math.log2_int(u32, zone_count_max)),
        };
        const all = try blocks.takeRecord();
        blocks.at(all).units = blocks.units_total;
        blocks.putFree(all);
        return blocks;
    }

    pub fn deinit(blocks: *Blocks) void {
        blocks.slabs.deinit();
    }

    pub inline fn at(blocks: *const Blocks, index: u32) *Record {
        // A slab that is not there has the address 0, which the cast refuses.
        const slab: [*]Record = @ptrFromInt(blocks.slabs.addresses[index >> records_per_slab_log2]);
        return &slab[index & (records_per_slab - 1)];
    }

    /// Whether `index` names a block in use.
    pub fn isUsed(blocks: *const Blocks, index: u32) bool {
        if (index == none or index >= blocks.record_count) return false;
        const record = blocks.at(index);
        return record.units != 0 and !record.isFree();
    }

    /// Null: no free block is large enough, or there is no memory for the books. Then nothing has changed.
    pub fn take(blocks: *Blocks, size: u32) ?u32 {
        const units = roundUp(@max(units_min, std.math.divCeil(u32, size, unit_size) catch unreachable));
        const index = blocks.find(units) orelse return null;
        const block = blocks.at(index);
        const rest_units = block.units - units;
        var used = index;
        if (rest_units >= units_min) {
            const other_index = blocks.takeRecord() catch return null;
            const other = blocks.at(other_index);
            blocks.takeFree(index);
            const lower_units = if (units >= units_large) rest_units else units;
            other.offset = block.offset + lower_units;
            other.units = block.units - lower_units;
            other.before = index;
            other.after = block.after;
            if (block.after != none) blocks.at(block.after).before = other_index;
            block.after = other_index;
            block.units = lower_units;
            used = if (units >= units_large) other_index else index;
            blocks.putFree(if (units >= units_large) index else other_index);
        } else blocks.takeFree(index);

        const record = blocks.at(used);
        assert(record.units >= units);
        blocks.generation +%= 1;
        // 0 is what a frame without a block says.
        if (blocks.generation == 0) blocks.generation = 1;
        record.references = 0;
        record.quarantined = 0;
        record.of = .{ .used = .{ .size = size, .generation = blocks.generation } };
        blocks.units_used += record.units;
        return used;
    }

    /// Makes the block free, one with its free neighbours.
    pub fn give(blocks: *Blocks, index: u32) void {
        assert(blocks.isUsed(index));
        var whole = index;
        var record = blocks.at(index);
        assert(blocks.units_used >= record.units);
        blocks.units_used -= record.units;
        const after = record.after;
        if (after != none and blocks.at(after).isFree()) {
            blocks.takeFree(after);
            blocks.absorb(record, index, after);
        }
        const before = record.before;
        if (before != none and blocks.at(before).isFree()) {
            blocks.takeFree(before);
            blocks.absorb(blocks.at(before), before, index);
            whole = before;
            record = blocks.at(before);
        }
        blocks.putFree(whole);
    }

    /// Makes `upper` a part of the block below it.
    fn absorb(blocks: *Blocks, lower: *Record, lower_index: u32, upper_index: u32) void {
        const upper = blocks.at(upper_index);
        assert(lower.offset + lower.units == upper.offset);
        lower.units += upper.units;
        lower.after = upper.after;
        if (lower.after != none) blocks.at(lower.after).before = lower_index;
        upper.units = 0;
        upper.references = 0;
        upper.after = blocks.unused;
        blocks.unused = upper_index;
    }

    /// The largest size that `take` grants now, in bytes.
    pub fn sizeMax(blocks: *const Blocks) usize {
        var octave: u32 = octave_count;
        while (octave > 0) {
            octave -= 1;
            var zones = blocks.octave_zones[octave];
            if (zones == 0) continue;
            var bins: u32 = 0;
            while (zones != 0) : (zones &= zones - 1) bins |= blocks.zones[@ctz(zones)].bins[octave];
            const bin = octave * bins_per_octave + 31 - @clz(bins);
            const units = if (octave == 0) bin else (bin - (octave - 1) * bins_per_octave) << @intCast(octave - 1);
            return if (units < units_min) 0 else @as(usize, units) * unit_size;
        }
        return 0;
    }

    // Records

    fn takeRecord(blocks: *Blocks) error{OutOfMemory}!u32 {
        const index = blocks.unused;
        if (index != none) {
            blocks.unused = blocks.at(index).after;
            return index;
        }
        if (blocks.record_count >= blocks.slabs.count * records_per_slab) _ = try blocks.slabs.grow();
        blocks.record_count += 1;
        return blocks.record_count - 1;
    }

    // Bins

    /// The smallest size of a bin that is at least `units`: what lies in that bin is large enough, whatever it is.
    fn roundUp(units: u32) u32 {
        if (units < 2 * bins_per_octave) return units;
        const step = @as(u32, 1) << @intCast(31 - @as(u32, @clz(units)) - bins_per_octave_log2);
        return (units + step - 1) & ~(step - 1);
    }

    /// The last bin whose smallest size is at most `units`.
    fn binOf(units: u32) u32 {
        if (units < bins_per_octave) return units;
        const shift: u5 = @intCast(31 - @as(u32, @clz(units)) - bins_per_octave_log2);
        return @as(u32, shift) * bins_per_octave + (units >> shift);
    }

    /// A free block of at least `units`, which are rounded up.
    fn find(blocks: *const Blocks, units: u32) ?u32 {
        const first = binOf(units);
        var octave = first / bins_per_octave;
        if (octave >= octave_count) return null;
        const enough = ~@as(u32, 0) << @intCast(first % bins_per_octave);
        const zone = &blocks.zones[blocks.findZone(octave, enough, units >= units_large) orelse return null];
        var bins = zone.bins[octave] & enough;
        if (bins == 0) {
            octave = @ctz(zone.octaves & (~@as(u32, 1) << @intCast(octave)));
            bins = zone.bins[octave];
        }
        const index = zone.heads[octave * bins_per_octave + @ctz(bins)];
        assert(index != none);
        return index;
    }

    /// The first or last zone that has a block of a larger octave, or in one of these bins.
    fn findZone(blocks: *const Blocks, octave: u32, bins: u32, from_end: bool) ?u32 {
        var larger: u64 = 0;
        for (blocks.octave_zones[octave + 1 ..]) |zones| larger |= zones;
        var same = blocks.octave_zones[octave] & ~larger;
        if (from_end) {
            const last: u32 = @clz(larger);
            while (@clz(same) < last) {
                const zone: u6 = @intCast(63 - @clz(same));
                if (blocks.zones[zone].bins[octave] & bins != 0) return zone;
                same &= ~(@as(u64, 1) << zone);
            }
            return if (last == 64) null else 63 - last;
        }
        const first: u32 = @ctz(larger);
        while (@ctz(same) < first) : (same &= same - 1) {
            if (blocks.zones[@ctz(same)].bins[octave] & bins != 0) return @ctz(same);
        }
        return if (first == 64) null else first;
    }

    /// In front: what was freed last, and may still be in a cache, is used first.
    fn putFree(blocks: *Blocks, index: u32) void {
        const record = blocks.at(index);
        const zone_index: u6 = @intCast(record.offset >> blocks.zone_shift);
        const zone = &blocks.zones[zone_index];
        const bin = binOf(record.units);
        const octave = bin / bins_per_octave;
        const head = zone.heads[bin];
        record.references = Record.free_mark;
        record.of = .{ .free = .{ .next = head, .previous = none } };
        if (head != none) blocks.at(head).of.free.previous = index;
        zone.heads[bin] = index;
        zone.bins[octave] |= @as(u32, 1) << @intCast(bin % bins_per_octave);
        zone.octaves |= @as(u32, 1) << @intCast(octave);
        blocks.octave_zones[octave] |= @as(u64, 1) << zone_index;
    }

    fn takeFree(blocks: *Blocks, index: u32) void {
        const record = blocks.at(index);
        assert(record.isFree());
        const next = record.of.free.next;
        const previous = record.of.free.previous;
        if (next != none) blocks.at(next).of.free.previous = previous;
        if (previous != none) {
            blocks.at(previous).of.free.next = next;
            return;
        }
        const zone_index: u6 = @intCast(record.offset >> blocks.zone_shift);
        const zone = &blocks.zones[zone_index];
        const bin = binOf(record.units);
        assert(zone.heads[bin] == index);
        zone.heads[bin] = next;
        if (next != none) return;
        const octave = bin / bins_per_octave;
        zone.bins[octave] &= ~(@as(u32, 1) << @intCast(bin % bins_per_octave));
        if (zone.bins[octave] != 0) return;
        zone.octaves &= ~(@as(u32, 1) << @intCast(octave));
        blocks.octave_zones[octave] &= ~(@as(u64, 1) << zone_index);
    }

    /// For tests: whether the books are true. Walks all blocks.
    pub fn verify(blocks: *const Blocks) !void {
        var index: u32 = none;
        for (1..blocks.record_count) |i| {
            const record = blocks.at(@intCast(i));
            if (record.units != 0 and record.before == none and record.offset == 0) index = @intCast(i);
        }
        var end: u32 = 0;
        var used: u32 = 0;
        var free_count: u32 = 0;
        var was_free = false;
        var before: u32 = none;
        while (index != none) {
            const record = blocks.at(index);
            if (record.offset != end or record.before != before or record.units == 0) return error.Neighbours;
            if (record.isFree() and was_free) return error.NotMerged;
            was_free = record.isFree();
            if (record.isFree()) free_count += 1 else used += record.units;
            end += record.units;
            before = index;
            index = record.after;
        }
        if (end != blocks.units_total) return error.Hole;
        if (used != blocks.units_used) return error.UsedWrong;
        for (blocks.zones, 0..) |*zone, zone_index| {
            for (zone.heads, 0..) |head, bin| {
                const bit = zone.bins[bin / bins_per_octave] >> @intCast(bin % bins_per_octave) & 1;
                if ((head != none) != (bit == 1)) return error.BitmapWrong;
                var member = head;
                while (member != none) : (member = blocks.at(member).of.free.next) {
                    const record = blocks.at(member);
                    if (!record.isFree() or binOf(record.units) != bin) return error.BinWrong;
                    if (record.offset >> blocks.zone_shift != zone_index) return error.ZoneWrong;
                    free_count -%= 1;
                }
            }
            for (zone.bins, blocks.octave_zones, 0..) |bins, zones, octave| {
                if ((bins != 0) != (zone.octaves >> @intCast(octave) & 1 == 1)) return error.BitmapWrong;
                if ((bins != 0) != (zones >> @intCast(zone_index) & 1 == 1)) return error.BitmapWrong;
            }
        }
        if (free_count != 0) return error.FreeLost;
    }
};

test "a size rounded up is the smallest of its bin, and at most 1/32 larger" {
    for (1..1 << 16) |i| {
        for ([_]u32{ @intCast(i), @as(u32, @intCast(i)) << 9 }) |units| {
            const rounded = Blocks.roundUp(units);
            try std.testing.expect(rounded >= units and rounded - units <= units / 32);
            try std.testing.expectEqual(Blocks.binOf(rounded) - 1, Blocks.binOf(rounded - 1));
            try std.testing.expect(Blocks.binOf(units) < octave_count * bins_per_octave);
        }
    }
}
