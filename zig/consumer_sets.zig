//! consumer_sets.zig: sets of consumers, each kept once however many keys have it.
//! May touch: its own memory. May not touch: keys; it only counts how many refer to a set.
//! How: a set is a sorted array of u16 in a block of a size class. Its hash is the exclusive or of a secret number of each
//! member, so that of a set with one member more or less is known before that set is looked for. What was found last is
//! remembered in a small cache of transitions. All growth is one set at a time: there is nothing to rehash.

const std = @import("std");
const layout = @import("layout.zig");
const Pages = @import("span.zig").Pages;
const Span = @import("span.zig").Span;
const sipHash13 = @import("key_table.zig").sipHash13;
const assert = std.debug.assert;

/// Twice the consumers of a sender, so that a consumer's filter can be replaced: the new one is put together under
/// another id while the old one is swept away.
pub const consumer_count_max = layout.filters_max;
pub const Consumers = std.StaticBitSet(consumer_count_max);

pub const SetId = u32;
/// Nobody. Always there.
pub const empty: SetId = 0;
const none: SetId = std.math.maxInt(SetId);
pub const set_count_max = 1 << 24;
const consumer_none = std.math.maxInt(u16);

/// Adding may not use the last part; removing may, so that a limit does not keep anyone from removing.
pub const reserve_fraction = 8;

const page_size = 4096;
const class_size_min = 8;
const class_count = 10;
const cache_size = 4096;

const Header = struct {
    hash: u64,
    /// Keys, and sets that lead here by `forward`. 0: the id is free.
    reference_count: u32,
    /// In the chain of a bucket, or of free ids. 0 ends it.
    next: SetId,
    /// Where the members are, in units of the smallest class.
    block: u32,
    /// While consumers are swept: the set that keys with this one shall have. Then this one is in no bucket.
    forward: SetId,
    /// Changes with the meaning of the id.
    generation: u32,
    len: u16,
    /// Whose adding made it.
    maker: u16,
};

const Page = struct {
    /// Free blocks, as a list through the blocks: 1 + the offset in units; 0 ends it. After them, those never used.
    free_block: u16,
    unused_block: u16,
    used_count: u16,
    class: u8,
    /// Among the pages of its class that have room, or among the free ones. 0 ends the list: page 0 is not used.
    next: u32,
    previous: u32,
};

const Transition = struct {
    from: SetId,
    to: SetId,
    from_generation: u32,
    to_generation: u32,
    consumer: u16,
    change: Change,
};

pub const Change = enum(u8) { none, add, remove };

pub const Limits = struct {
    sets_max: u32,
    bytes_max: u32,
};

pub const Error = error{ OutOfMemory, SetsFull, SetBytesFull, ConsumerSetsFull };

pub const ConsumerSets = struct {
    limits: Limits,
    headers: Span(Header),
    /// Ids ever used, with the empty set.
    id_count: u32 = 1,
    free_id: SetId = 0,
    set_count: u32 = 0,
    buckets: Span(SetId),
    bucket_mask: u32,
    blocks: Span([class_size_min]u8),
    pages: Span(Page),
    page_count: u32 = 1,
    free_page: u32 = 0,
    used_page_count: u32 = 0,
    room: [class_count]u32 = @splat(0),
    cache: Span(Transition),
    secrets: [consumer_count_max]u64,
    made_counts: [consumer_count_max]u32 = @splat(0),
    /// Most of them.
    made_bounds: [consumer_count_max]u32 = @splat(0),

    pub fn init(sets: *ConsumerSets, pages: Pages, seed: [2]u64, limits: Limits) error{OutOfMemory}!void {
        assert(limits.sets_max > 0 and limits.sets_max <= set_count_max);
        const id_count_max = 1 + setsWithReserve(limits.sets_max);
        const page_count_max = 1 + pagesWithReserve(limits.bytes_max);
        const bucket_count = std.math.ceilPowerOfTwoAssert(u32, limits.sets_max);
        var headers: Span(Header) = try .init(pages, id_count_max);
        errdefer headers.deinit();
        var buckets: Span(SetId) = try .init(pages, bucket_count);
        errdefer buckets.deinit();
        var blocks: Span([class_size_min]u8) = try .init(pages, @as(usize, page_count_max) * page_size / class_size_min);
        errdefer blocks.deinit();
        var page_span: Span(Page) = try .init(pages, page_count_max);
        errdefer page_span.deinit();
        var cache: Span(Transition) = try .init(pages, cache_size);
        errdefer cache.deinit();
        try headers.ensure(1);
        try buckets.ensure(bucket_count); // the kernel gives only what is written to
        try cache.ensure(cache_size);
        sets.* = .{
            .limits = limits,
            .headers = headers,
            .buckets = buckets,
            .bucket_mask = bucket_count - 1,
            .blocks = blocks,
            .pages = page_span,
            .cache = cache,
            .secrets = undefined,
        };
        for (&sets.secrets, 0..) |*secret, id| {
            var key: [32]u8 = @splat(0);
            std.mem.writeInt(u64, key[0..8], id, .little);
            // Not the hash of keys: a key may have these bytes.
            secret.* = sipHash13(.{ ~seed[0], seed[1] }, &key);
        }
        sets.headers.items[empty] = .{
            .hash = 0,
            .reference_count = 1,
            .next = 0,
            .block = 0,
            .forward = none,
            .generation = 0,
            .len = 0,
            .maker = consumer_none,
        };
    }

    const spans = .{ "headers", "buckets", "blocks", "pages", "cache" };

    pub fn deinit(sets: *ConsumerSets) void {
        inline for (spans) |name| @field(sets, name).deinit();
        sets.* = undefined;
    }

    pub fn committedSize(sets: *const ConsumerSets) usize {
        var size: usize = 0;
        inline for (spans) |name| size += @field(sets, name).committed_size;
        return size;
    }

    /// Ascending. Valid until the next change.
    /// Ask for what `members` reads first, and then for the members.
    pub inline fn askFor(sets: *const ConsumerSets, id: SetId) void {
        @prefetch(&sets.headers.items[id], .{});
    }

    pub inline fn askForMembers(sets: *const ConsumerSets, id: SetId) void {
        @prefetch(sets.memory(sets.headers.items[id].block), .{});
    }

    pub inline fn members(sets: *const ConsumerSets, id: SetId) []const u16 {
        assert(id < sets.id_count);
        const header = &sets.headers.items[id];
        return sets.memory(header.block)[0..header.len];
    }

    pub fn contains(sets: *const ConsumerSets, id: SetId, consumer: u16) bool {
        const all = sets.members(id);
        const at = lowerBound(all, consumer);
        return at < all.len and all[at] == consumer;
    }

    /// The set that keys with this one shall have by now.
    pub inline fn resolve(sets: *const ConsumerSets, id: SetId) SetId {
        var at = id;
        while (sets.headers.items[at].forward != none) at = sets.headers.items[at].forward;
        return at;
    }

    pub inline fn isForwarded(sets: *const ConsumerSets, id: SetId) bool {
        return sets.headers.items[id].forward != none;
    }

    pub fn acquire(sets: *ConsumerSets, id: SetId) void {
        if (id == empty) return;
        sets.headers.items[id].reference_count += 1;
    }

    pub fn release(sets: *ConsumerSets, id: SetId) void {
        var at = id;
        while (at != empty and at != none) {
            const header = &sets.headers.items[at];
            assert(header.reference_count > 0);
            header.reference_count -= 1;
            if (header.reference_count > 0) return;
            const next = header.forward;
            sets.destroy(at);
            at = next;
        }
    }

    /// The set with one consumer more, or one less. Null: there is nothing to change. The caller acquires it at once.
    /// `id` must be what `cleaned` returned.
    pub fn changed(sets: *ConsumerSets, id: SetId, consumer: u16, change: Change) Error!?SetId {
        assert(!sets.isForwarded(id));
        const cached = &sets.cache.items[cacheIndex(id, consumer, change)];
        if (cached.from == id and cached.consumer == consumer and cached.change == change and
            cached.from_generation == sets.headers.items[id].generation and
            cached.to_generation == sets.headers.items[cached.to].generation) return cached.to;

        const all = sets.members(id);
        const at = lowerBound(all, consumer);
        const is_member = at < all.len and all[at] == consumer;
        if (is_member == (change == .add)) return null;
        const to = try sets.find(id, at, consumer, change);
        cached.* = .{
            .from = id,
            .to = to,
            .from_generation = sets.headers.items[id].generation,
            .to_generation = sets.headers.items[to].generation,
            .consumer = consumer,
            .change = change,
        };
        return to;
    }

    fn find(sets: *ConsumerSets, id: SetId, at: usize, consumer: u16, change: Change) Error!SetId {
        const from = sets.members(id);
        const len = if (change == .add) from.len + 1 else from.len - 1;
        if (len == 0) return empty;
        const hash = sets.headers.items[id].hash ^ sets.secrets[consumer];
        const rest = if (change == .add) from[at..] else from[at + 1 ..];
        const own: usize = @intFromBool(change == .add);
        var candidate = sets.bucketOf(hash).*;
        while (candidate != 0) : (candidate = sets.headers.items[candidate].next) {
            const header = &sets.headers.items[candidate];
            if (header.hash != hash or header.len != len) continue;
            const all = sets.members(candidate);
            if (own == 1 and all[at] != consumer) continue;
            if (std.mem.eql(u16, all[0..at], from[0..at]) and std.mem.eql(u16, all[at + own ..], rest)) return candidate;
        }

        const is_reserved = change == .remove;
        if (!is_reserved and sets.made_counts[consumer] >= sets.made_bounds[consumer]) return error.ConsumerSetsFull;
        const max = if (is_reserved) setsWithReserve(sets.limits.sets_max) else sets.limits.sets_max;
        if (sets.set_count >= max) return error.SetsFull;
        if (sets.free_id == 0) try sets.headers.ensure(sets.id_count + 1);
        const block = try sets.allocate(classOf(len), is_reserved);
        const out = sets.memory(block);
        @memcpy(out[0..at], from[0..at]);
        if (own == 1) out[at] = consumer;
        @memcpy(out[at + own .. len], rest);

        const made = sets.takeId();
        const maker = if (is_reserved) consumer_none else consumer;
        if (!is_reserved) sets.made_counts[consumer] += 1;
        const header = &sets.headers.items[made];
        header.* = .{
            .hash = hash,
            .reference_count = 0,
            .next = 0,
            .block = block,
            .forward = none,
            .generation = header.generation,
            .len = @intCast(len),
            .maker = maker,
        };
        sets.enter(made);
        sets.set_count += 1;
        return made;
    }

    fn takeId(sets: *ConsumerSets) SetId {
        const id = sets.free_id;
        if (id != 0) {
            sets.free_id = sets.headers.items[id].next;
            return id;
        }
        sets.id_count += 1;
        sets.headers.items[sets.id_count - 1].generation = 0;
        return sets.id_count - 1;
    }

    /// Takes `leaving` out of a set, where it stands: this needs no memory and can't fail. Where that makes it equal to
    /// another set, or empty, it leads there from now on. Returns what its keys shall have.
    pub fn cleaned(sets: *ConsumerSets, id: SetId, leaving: *const Consumers) SetId {
        const start = sets.resolve(id);
        if (start == empty) return empty;
        const header = &sets.headers.items[start];
        const all = sets.memory(header.block)[0..header.len];
        var hash = header.hash;
        var len: usize = 0;
        for (all) |member| {
            if (leaving.isSet(member)) hash ^= sets.secrets[member] else len += 1;
        }
        if (len == all.len) return start;

        sets.leave(start);
        header.generation +%= 1;
        const equal_set = if (len == 0) empty else sets.equalTo(all, leaving, hash, len);
        if (equal_set) |target| {
            header.forward = target;
            sets.acquire(target);
            return target;
        }
        var at: usize = 0;
        for (all) |member| {
            if (leaving.isSet(member)) continue;
            all[at] = member;
            at += 1;
        }
        header.len = @intCast(len);
        header.hash = hash;
        sets.enter(start);
        return start;
    }

    fn equalTo(sets: *const ConsumerSets, all: []const u16, leaving: *const Consumers, hash: u64, len: usize) ?SetId {
        var candidate = sets.bucketOf(hash).*;
        next: while (candidate != 0) : (candidate = sets.headers.items[candidate].next) {
            const header = &sets.headers.items[candidate];
            if (header.hash != hash or header.len != len) continue;
            const other = sets.members(candidate);
            var at: usize = 0;
            for (all) |member| {
                if (leaving.isSet(member)) continue;
                if (other[at] != member) continue :next;
                at += 1;
            }
            return candidate;
        }
        return null;
    }

    /// One step of a sweep. Returns the number of members that were looked at.
    pub fn sweep(sets: *ConsumerSets, id: SetId, leaving: *const Consumers) u32 {
        const header = &sets.headers.items[id];
        if (id == empty or header.reference_count == 0) return 0;
        if (header.maker != consumer_none and leaving.isSet(header.maker)) {
            sets.made_counts[header.maker] -= 1;
            header.maker = consumer_none;
        }
        const len = header.len;
        if (header.forward == none) _ = sets.cleaned(id, leaving);
        return len;
    }

    fn destroy(sets: *ConsumerSets, id: SetId) void {
        const header = &sets.headers.items[id];
        assert(header.reference_count == 0);
        if (header.forward == none) sets.leave(id);
        sets.free(header.block);
        if (header.maker != consumer_none) sets.made_counts[header.maker] -= 1;
        header.generation +%= 1;
        header.forward = none;
        header.len = 0;
        header.maker = consumer_none;
        header.next = sets.free_id;
        sets.free_id = id;
        sets.set_count -= 1;
        if (sets.set_count > 0) return;
        // Nothing refers to any id: what the blocks held does not matter any more. The headers stay, for the sake of
        // the generations, which the cache compares.
        sets.page_count = 1;
        sets.free_page = 0;
        sets.used_page_count = 0;
        sets.room = @splat(0);
    }

    /// Gives some of the memory back that is not needed. True: there is no more. Pages go when the last set goes.
    pub fn tidy(sets: *ConsumerSets) bool {
        if (sets.page_count > 1) return true;
        const is_done = sets.blocks.shrink(0);
        return sets.pages.shrink(0) and is_done;
    }

    inline fn bucketOf(sets: *const ConsumerSets, hash: u64) *SetId {
        return &sets.buckets.items[@as(u32, @truncate(hash)) & sets.bucket_mask];
    }

    fn enter(sets: *ConsumerSets, id: SetId) void {
        const bucket = sets.bucketOf(sets.headers.items[id].hash);
        sets.headers.items[id].next = bucket.*;
        bucket.* = id;
    }

    fn leave(sets: *ConsumerSets, id: SetId) void {
        var at = sets.bucketOf(sets.headers.items[id].hash);
        while (at.* != id) at = &sets.headers.items[at.*].next;
        at.* = sets.headers.items[id].next;
    }

    // Blocks

    inline fn memory(sets: *const ConsumerSets, block: u32) [*]u16 {
        return @ptrCast(@alignCast(sets.blocks.items + block));
    }

    fn allocate(sets: *ConsumerSets, class: u8, is_reserved: bool) error{ OutOfMemory, SetBytesFull }!u32 {
        if (sets.room[class] == 0) try sets.addPage(class, is_reserved);
        const number = sets.room[class];
        const page = &sets.pages.items[number];
        const first = number * (page_size / class_size_min);
        const units = @as(u32, 1) << @intCast(class);
        var offset: u32 = page.unused_block;
        if (page.free_block != 0) {
            offset = page.free_block - 1;
            page.free_block = sets.memory(first + offset)[0];
        } else {
            page.unused_block += @intCast(units);
        }
        page.used_count += 1;
        if (page.used_count == page_size / class_size_min / units) sets.unlist(number);
        return first + offset;
    }

    fn addPage(sets: *ConsumerSets, class: u8, is_reserved: bool) error{ OutOfMemory, SetBytesFull }!void {
        const bytes_max = sets.limits.bytes_max;
        const max = if (is_reserved) pagesWithReserve(bytes_max) else bytes_max / page_size;
        if (sets.used_page_count >= max) return error.SetBytesFull;
        var number = sets.free_page;
        if (number == 0) {
            number = sets.page_count;
            try sets.pages.ensure(number + 1);
            try sets.blocks.ensure(@as(usize, number + 1) * page_size / class_size_min);
            sets.page_count += 1;
        } else {
            sets.free_page = sets.pages.items[number].next;
        }
        sets.used_page_count += 1;
        sets.pages.items[number] = .{
            .free_block = 0,
            .unused_block = 0,
            .used_count = 0,
            .class = class,
            .next = 0,
            .previous = 0,
        };
        sets.list(number);
    }

    fn free(sets: *ConsumerSets, block: u32) void {
        const number = block / (page_size / class_size_min);
        const page = &sets.pages.items[number];
        const per_page = @as(u32, page_size / class_size_min) >> @intCast(page.class);
        sets.memory(block)[0] = page.free_block;
        page.free_block = @intCast(1 + block % (page_size / class_size_min));
        if (page.used_count == per_page) sets.list(number);
        page.used_count -= 1;
        if (page.used_count > 0) return;
        sets.unlist(number);
        page.next = sets.free_page;
        sets.free_page = number;
        sets.used_page_count -= 1;
    }

    fn list(sets: *ConsumerSets, number: u32) void {
        const page = &sets.pages.items[number];
        page.previous = 0;
        page.next = sets.room[page.class];
        if (page.next != 0) sets.pages.items[page.next].previous = number;
        sets.room[page.class] = number;
    }

    fn unlist(sets: *ConsumerSets, number: u32) void {
        const page = &sets.pages.items[number];
        if (page.next != 0) sets.pages.items[page.next].previous = page.previous;
        if (page.previous != 0) {
            sets.pages.items[page.previous].next = page.next;
        } else {
            sets.room[page.class] = page.next;
        }
    }

    /// For tests: whether the books are right, given how often keys refer to each set.
    pub fn check(sets: *const ConsumerSets, references: []u32) !void {
        var count: u32 = 0;
        for (1..sets.id_count) |id| {
            const forward = sets.headers.items[id].forward;
            if (sets.headers.items[id].reference_count > 0 and forward != none and forward != empty) references[forward] += 1;
        }
        for (1..sets.id_count) |id| {
            const header = &sets.headers.items[id];
            if (header.reference_count != references[id]) return error.WrongReferenceCount;
            if (header.reference_count == 0) continue;
            count += 1;
            var hash: u64 = 0;
            const all = sets.members(@intCast(id));
            for (all, 0..) |member, i| {
                hash ^= sets.secrets[member];
                if (i > 0 and all[i - 1] >= member) return error.NotAscending;
            }
            if (hash != header.hash) return error.WrongHash;
            if (header.forward != none) continue;
            var at = sets.bucketOf(hash).*;
            var found: u32 = 0;
            while (at != 0) : (at = sets.headers.items[at].next) {
                if (std.mem.eql(u16, all, sets.members(at))) found += 1;
            }
            if (found != 1) return error.NotOnce;
        }
        if (count != sets.set_count) return error.WrongSetCount;
    }
};

fn setsWithReserve(sets_max: u32) u32 {
    return sets_max + sets_max / reserve_fraction + 1;
}

fn pagesWithReserve(bytes_max: u32) u32 {
    return bytes_max / page_size + bytes_max / page_size / reserve_fraction + class_count;
}

fn classOf(len: usize) u8 {
    assert(len > 0 and len <= consumer_count_max);
    const size = @max(class_size_min, std.math.ceilPowerOfTwoAssert(usize, len * @sizeOf(u16)));
    return @ctz(size / class_size_min);
}

fn lowerBound(all: []const u16, consumer: u16) usize {
    var from: usize = 0;
    var to = all.len;
    while (from < to) {
        const middle = (from + to) / 2;
        if (all[middle] < consumer) from = middle + 1 else to = middle;
    }
    return from;
}

inline fn cacheIndex(id: SetId, consumer: u16, change: Change) usize {
    const mixed = (@as(u64, id) << 17 | @as(u64, consumer) << 1 | @intFromBool(change == .add)) *% 0x9e3779b97f4a7c15;
    return @intCast(mixed >> comptime (64 - @as(u8, @ctz(@as(u32, cache_size)))));
}
