//! handles.zig: u32 handle -> object, in one table (design D19); large kinds in pages of their own.
//! May touch: its own table. May not touch: what the objects do, except to destroy them.
//! Why a stale handle can't reach memory: a handle carries the generation of its entry, and the generation changes when
//! the object is destroyed. A call pins the entry, so `close` in the middle of it defers the destruction to its end.

const std = @import("std");
const layout = @import("layout.zig");
const connection = @import("connection.zig");
const platform = @import("platform/mod.zig");
const Link = @import("link.zig").Link;
const Listener = @import("listener.zig").Listener;
const Wake = @import("wake.zig").Wake;
const v9 = @import("v9/ends.zig");
const Engine = @import("engine.zig").Engine;
const Atomic = std.atomic.Value;
const assert = std.debug.assert;

pub const Object = union(enum) {
    listener: Listener,
    link: Link,
    wake: Wake,
    producer: connection.ProducerEnd,
    consumer: connection.ConsumerEnd,
    v9_producer: v9.ProducerEnd,
    v9_consumer: v9.ConsumerEnd,
    fanout: *Engine,
};

pub const Tag = std.meta.Tag(Object);

fn Kind(comptime tag: Tag) type {
    return @FieldType(Object, @tagName(tag));
}

/// A consumer has three handles at either end: entries are no longer than those need. What is longer is rare (a listener, ends
/// of version 9 with their paths), and stands in pages of its own.
const inline_size_max = 184;

fn isInline(comptime tag: Tag) bool {
    return @sizeOf(Kind(tag)) <= inline_size_max;
}

comptime {
    assert(isInline(.link) and isInline(.wake) and isInline(.producer) and isInline(.consumer) and isInline(.fanout));
}

const index_bits = 12;
pub const count_max = 1 << index_bits;
/// A handle is returned as an i32 of at least 0: 31 bits, less those of the index.
const Generation = u19;

const State = packed struct(u64) {
    pins: u16,
    phase: enum(u2) { free, claimed, live, closing },
    tag: u4,
    generation: Generation,
    unused: u23 = 0,
};

const Entry = struct {
    state: Atomic(u64),
    /// The object, or where it is.
    storage: [inline_size_max]u8 align(8),

    fn object(entry: *Entry, comptime tag: Tag) *Kind(tag) {
        comptime assert(@alignOf(Kind(tag)) <= 8);
        if (comptime isInline(tag)) return @ptrCast(&entry.storage);
        const place: *const *Kind(tag) = @ptrCast(&entry.storage);
        return place.*;
    }

    /// Only after `makeRoom`.
    fn put(entry: *Entry, stored: Object, room: usize) void {
        switch (stored) {
            inline else => |value, tag| {
                if (comptime !isInline(tag)) std.mem.writeInt(usize, entry.storage[0..@sizeOf(usize)], room, .native);
                entry.object(tag).* = value;
            },
        }
    }

    fn destroy(entry: *Entry, tag: Tag) void {
        switch (tag) {
            .fanout => entry.object(.fanout).*.destroy(),
            inline else => |known| {
                const stored = entry.object(known);
                stored.destroy();
                if (comptime !isInline(known)) platform.unmap(@intFromPtr(stored), @sizeOf(Kind(known)));
            },
        }
    }
};

/// Pages for an object that is too long for the table; 0 for one that is not. Null: there is no memory.
fn makeRoom(object: Object) ?usize {
    switch (object) {
        inline else => |_, tag| {
            if (comptime isInline(tag)) return 0;
            const memory = platform.pages(@sizeOf(Kind(tag)));
            return if (memory.code < 0) null else memory.address;
        },
    }
}

fn giveBack(object: Object, room: usize) void {
    switch (object) {
        inline else => |_, tag| if (comptime !isInline(tag)) platform.unmap(room, @sizeOf(Kind(tag))),
    }
}

/// All zero (free, generation 0), so it takes no room in the file and none in memory until it is used.
var entries: [count_max]Entry = @splat(.{ .state = .init(0), .storage = @splat(0) });
var search_from = Atomic(u32).init(0);

fn load(state: *const Atomic(u64), comptime order: std.builtin.AtomicOrder) State {
    return @bitCast(state.load(order));
}

fn swap(state: *Atomic(u64), old: State, new: State, comptime order: std.builtin.AtomicOrder) bool {
    return state.cmpxchgWeak(@bitCast(old), @bitCast(new), order, .monotonic) == null;
}

/// Stores `object`. Returns its handle, or null if the table or the memory is full (then the object is still the caller's).
pub fn add(object: Object) ?u32 {
    const room = makeRoom(object) orelse return null;
    const start = search_from.fetchAdd(1, .monotonic);
    for (0..count_max) |step| {
        const index: u32 = @intCast((start + step) % count_max);
        const entry = &entries[index];
        const old = load(&entry.state, .monotonic);
        if (old.phase != .free) continue;
        const generation: Generation = if (old.generation == std.math.maxInt(Generation)) 1 else old.generation + 1;
        const claimed: State = .{ .pins = 0, .phase = .claimed, .tag = 0, .generation = generation };
        // Acquire: pairs with the release in `drop`: the old object is gone before we overwrite it.
        if (!swap(&entry.state, old, claimed, .acquire)) continue;
        entry.put(object, room);
        var live = claimed;
        live.phase = .live;
        live.tag = @backingInt(std.meta.activeTag(object));
        // Release: pairs with the acquire in `pin`.
        entry.state.store(@bitCast(live), .release);
        return @as(u32, generation) << index_bits | index;
    }
    giveBack(object, room);
    return null;
}

/// The object stays until the matching `unpin`. Null: not a live handle of that kind.
pub fn pin(handle: u32, comptime tag: Tag) ?*Kind(tag) {
    const entry = pinEntry(handle, tag) orelse return null;
    return entry.object(tag);
}

fn pinEntry(handle: u32, tag: ?Tag) ?*Entry {
    const entry = &entries[handle % count_max];
    const generation = handle >> index_bits;
    while (true) {
        const old = load(&entry.state, .monotonic);
        if (old.phase != .live or old.generation != generation) return null;
        if (tag) |wanted| if (old.tag != @backingInt(wanted)) return null;
        if (old.pins == std.math.maxInt(u16)) return null;
        var new = old;
        new.pins += 1;
        // Acquire: pairs with the release in `add`.
        if (swap(&entry.state, old, new, .acquire)) return entry;
    }
}

pub fn unpin(handle: u32) void {
    const entry = &entries[handle % count_max];
    while (true) {
        const old = load(&entry.state, .monotonic);
        assert(old.pins > 0);
        var new = old;
        new.pins -= 1;
        const last = new.pins == 0 and old.phase == .closing;
        // Release: what was done under this pin is done before the object can be destroyed; acquire for the destroyer.
        if (!swap(&entry.state, old, new, .acq_rel)) continue;
        if (last) drop(entry, new);
        return;
    }
}

fn drop(entry: *Entry, last: State) void {
    entry.destroy(@fromBackingInt(@intCast(last.tag)));
    const free: State = .{ .pins = 0, .phase = .free, .tag = 0, .generation = last.generation };
    // Release: pairs with the acquire in `add`.
    entry.state.store(@bitCast(free), .release);
}

/// Destroys the object, now or when the last call that uses it returns. False: not a live handle.
pub fn close(handle: u32) bool {
    const entry = pinEntry(handle, null) orelse return false;
    while (true) {
        const old = load(&entry.state, .monotonic);
        if (old.phase == .closing) { // another thread was first
            unpin(handle);
            return false;
        }
        var new = old;
        new.phase = .closing;
        if (swap(&entry.state, old, new, .monotonic)) break;
    }
    unpin(handle);
    return true;
}

pub fn liveCount() u32 {
    var count: u32 = 0;
    for (&entries) |*entry| {
        if (load(&entry.state, .monotonic).phase != .free) count += 1;
    }
    return count;
}

const testing = std.testing;

fn testWake() !Object {
    var pair: [2]i32 = undefined;
    try testing.expectEqual(0, platform.socketPair(&pair));
    _ = platform.close(pair[0]);
    return .{ .wake = .{ .fd = pair[1] } };
}

test "a handle names its object and kind until it is closed, and never another" {
    const before = liveCount();
    const handle = add(try testWake()).?;
    try testing.expect(pin(handle, .link) == null);
    const wake = pin(handle, .wake).?;
    try testing.expect(close(handle)); // deferred: it is pinned
    try testing.expect(platform.isUnixStream(wake.fd));
    try testing.expect(pin(handle, .wake) == null);
    try testing.expect(!close(handle));
    const fd = wake.fd;
    unpin(handle);
    try testing.expect(!platform.isUnixStream(fd));
    for (0..3 * count_max) |_| {
        const next = add(try testWake()).?;
        try testing.expect(next != handle);
        try testing.expect(pin(handle, .wake) == null);
        try testing.expect(close(next));
    }
    try testing.expectEqual(before, liveCount());
}

test "what is too long for the table stands elsewhere, and goes with its handle" {
    const before = liveCount();
    for (0..3) |_| {
        var listener: Listener = undefined;
        try testing.expectEqual(0, Listener.create(&@import("testing.zig").path("handles.sock"), false, &listener));
        const handle = add(.{ .listener = listener }).?;
        const pinned = pin(handle, .listener).?;
        try testing.expect(std.meta.eql(listener, pinned.*));
        try testing.expect(pin(handle, .producer) == null);
        try testing.expect(close(handle)); // deferred: it is pinned
        try testing.expect(std.meta.eql(listener, pinned.*));
        unpin(handle);
        try testing.expect(pin(handle, .listener) == null);
    }
    try testing.expectEqual(before, liveCount());
}

test "a full table and nonsense are refused" {
    var count: u32 = 0;
    var handles: [count_max]u32 = undefined;
    var pair: [2]i32 = undefined;
    try testing.expectEqual(0, platform.socketPair(&pair));
    // No descriptors behind these: closing -1 does nothing.
    while (add(.{ .wake = .{ .fd = -1 } })) |handle| : (count += 1) handles[count] = handle;
    try testing.expect(count <= count_max);
    for (handles[0..count]) |handle| try testing.expect(close(handle));
    for ([_]u32{ 0, 1, count_max, std.math.maxInt(u32), 1 << 31 }) |nonsense| {
        try testing.expect(pin(nonsense, .wake) == null);
        try testing.expect(!close(nonsense));
    }
    for (pair) |fd| _ = platform.close(fd);
}
