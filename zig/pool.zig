//! pool.zig: payload memory that one sender owns. A payload is written once; frames in the rings of many connections refer
//! to it; the sender keeps the books: which connection was given which block, at which position of its ring (design D5).
//! May touch: the memory that `init` is given, which it only hands out (and poisons in Debug), and its private books.
//! May not touch: rings, regions, clocks. It reads nothing from shared memory, so no consumer can reach its books.
//! Not thread-safe: its sender's lock protects it. Why this allocator, and what it costs: docs/adr/0009.

const std = @import("std");
const builtin = @import("builtin");
const platform = @import("platform/mod.zig");
const blocks_room = @import("pool_blocks.zig");
const Blocks = blocks_room.Blocks;
const Slabs = blocks_room.Slabs;
const assert = std.debug.assert;

pub const unit_size = blocks_room.unit_size;
pub const Pages = blocks_room.Pages;
pub const systemPages = blocks_room.systemPages;

pub const memory_bytes_min = 1024 * 1024;
pub const memory_bytes_max = 2 * 1024 * 1024 * 1024;
pub const memory_bytes_step = 64 * 1024;
/// The largest payload (10 MiB, `layout.payload_bytes_max`) and what may stand beside it.
pub const block_bytes_max = 11 * 1024 * 1024;
pub const connections_max_max = 1280;
/// References of one connection: no ring of the default size holds as many frames.
pub const connection_references_max = 1 << 20;
/// Memory for the references of all connections: some 11 million.
pub const references_bytes_max = 128 * 1024 * 1024;
/// How long an evicted connection's blocks are kept, and how much of the pool they may be (design D5).
pub const quarantine_ns = std.time.ns_per_s;
pub const quarantine_fraction = 8;

const poison_byte = 0xaa;
/// Enough to show; a whole 10 MiB would only make tests slow.
const poison_bytes_max = 64 * 1024;

/// A block in use: `FrameHeader.pool_block` where the pool's own end needs it. Never 0. It means nothing to a consumer,
/// which gets `offset`.
pub const Block = enum(u32) { _ };

/// A page of one connection's first-in first-out list of references.
const Chunk = extern struct {
    positions: [references_per_chunk]u64,
    blocks: [references_per_chunk]u32,
    before: ?*Chunk,
    after: ?*Chunk,

    comptime {
        assert(@sizeOf(Chunk) == 4096);
        assert(Slabs.size % @sizeOf(Chunk) == 0);
    }
};
const references_per_chunk = 340;

/// Of no connection's reference: so that `advance` needs one comparison to see that there is nothing to do.
const position_none = std.math.maxInt(u64);

const Connection = struct {
    /// Of the oldest reference.
    front: u64 = position_none,
    first: ?*Chunk = null,
    last: ?*Chunk = null,
    /// Where the oldest reference stands in `first`, and behind the newest one in `last`.
    first_index: u32 = 0,
    last_end: u32 = 0,
    count: u32 = 0,
    state: State = .live,
    /// Neighbours among those in quarantine, in order of eviction.
    earlier: u16 = no_connection,
    later: u16 = no_connection,
    revoked_ns: u64 = 0,
    /// `on_reuse` was called for it.
    is_told: bool = false,

    const State = enum(u8) {
        live,
        /// Evicted: it may still read what its references name.
        quarantined,
        /// Evicted, and its time is over.
        revoked,
    };
};
const no_connection = std.math.maxInt(u16);

pub const Hook = struct { context: *anyopaque, call: *const fn (context: *anyopaque, connection: u16) void };

pub const Pool = struct {
    memory: []align(4096) u8,
    connections: []Connection,
    /// By connection: bytes of the blocks that it has references to.
    pinned: []u64,
    blocks: Blocks,
    chunk_slabs: Slabs,
    chunks_unused: ?*Chunk = null,
    /// The part of the private memory that `init` took.
    books: []u8,
    quarantine_first: u16 = no_connection,
    quarantine_last: u16 = no_connection,
    /// In units: blocks that only evicted connections have references to.
    quarantined_units: u32 = 0,
    quarantined_units_max: u32,
    /// Called before the first block of an evicted connection is given up, and so before any is reused.
    on_reuse: ?Hook = null,
    /// Freed blocks are overwritten, so that a reader that still looks at one gets caught.
    poisons: bool = builtin.mode == .debug,

    /// `memory` is mapped and stays so until `deinit`; its contents don't matter. Connections are 0 … `connections_max - 1`.
    /// Errors: BadArgument if a bound is not kept, OutOfMemory.
    pub fn init(memory: []align(4096) u8, connections_max: u32) error{ BadArgument, OutOfMemory }!Pool {
        return initWithPages(memory, connections_max, systemPages);
    }

    /// Likewise, with another source of private memory.
    pub fn initWithPages(memory: []align(4096) u8, connections_max: u32, source: Pages) error{ BadArgument, OutOfMemory }!Pool {
        if (memory.len < memory_bytes_min or memory.len > memory_bytes_max) return error.BadArgument;
        if (memory.len % memory_bytes_step != 0) return error.BadArgument;
        if (connections_max == 0 or connections_max > connections_max_max) return error.BadArgument;

        const block_slabs_max = Blocks.slabsMax(memory.len);
        const chunk_slabs_max = references_bytes_max / Slabs.size;
        var layout: Layout = .{};
        const connections_at = layout.add(Connection, connections_max);
        const pinned_at = layout.add(u64, connections_max);
        const block_slabs_at = layout.add(usize, block_slabs_max);
        const zones_at = layout.add(blocks_room.Zones, 1);
        const chunk_slabs_at = layout.add(usize, chunk_slabs_max);
        const size = std.mem.alignForward(usize, layout.size, Slabs.size);
        const address = source(size);
        if (address == 0) return error.OutOfMemory;
        errdefer platform.unmap(address, size);

        const connections = @as([*]Connection, @ptrFromInt(address + connections_at))[0..connections_max];
        @memset(connections, .{});
        const block_slabs = @as([*]usize, @ptrFromInt(address + block_slabs_at))[0..block_slabs_max];
        return .{
            .memory = memory,
            .connections = connections,
            .pinned = @as([*]u64, @ptrFromInt(address + pinned_at))[0..connections_max],
            .blocks = try .init(memory.len, block_slabs, @ptrFromInt(address + zones_at), source),
            .chunk_slabs = .{
                .source = source,
                .addresses = @as([*]usize, @ptrFromInt(address + chunk_slabs_at))[0..chunk_slabs_max],
            },
            .books = @as([*]u8, @ptrFromInt(address))[0..size],
            .quarantined_units_max = @intCast(memory.len / unit_size / quarantine_fraction),
        };
    }

    /// Gives the books back. The memory is its owner's.
    pub fn deinit(pool: *Pool) void {
        pool.blocks.deinit();
        pool.chunk_slabs.deinit();
        platform.unmap(@intFromPtr(pool.books.ptr), pool.books.len);
        pool.* = undefined;
    }

    // Blocks

    /// A block of `size` bytes with no references: offer it, or discard it. Null: `size` is 0 or above
    /// `block_bytes_max`, no free part of the memory is large enough (see `allocSizeMax`), or the books can't grow.
    pub fn alloc(pool: *Pool, size: usize) ?Block {
        if (size == 0 or size > block_bytes_max) return null;
        const index = pool.blocks.take(@intCast(size)) orelse return null;
        return @fromBackingInt(index);
    }

    /// The block's memory, as many bytes as were asked for. Valid until its last reference is gone.
    pub fn bytes(pool: *const Pool, block: Block) []u8 {
        const record = pool.used(block);
        return pool.memory[@as(usize, record.offset) * unit_size ..][0..record.of.used.size];
    }

    /// Where it begins, in units of 64 bytes from the start of the memory.
    pub fn offset(pool: *const Pool, block: Block) u32 {
        return pool.used(block).offset;
    }

    /// Number of the `alloc` that made it, modulo 2^32 and never 0: the next block at the same place has another one.
    pub fn generation(pool: *const Pool, block: Block) u32 {
        return pool.used(block).of.used.generation;
    }

    /// Frees the block if nothing refers to it; else it does nothing. For the end of a publish that reached nobody.
    pub fn discard(pool: *Pool, block: Block) void {
        if (pool.used(block).references == 0) pool.free(@backingInt(block));
    }

    /// A reference of the sender's own, at no position: what waits in a queue for room in a ring.
    pub fn retain(pool: *Pool, block: Block) void {
        pool.refer(pool.used(block));
    }

    /// Drops a reference of `retain`.
    pub fn release(pool: *Pool, block: Block) void {
        assert(pool.used(block).references > pool.used(block).quarantined);
        pool.drop(@backingInt(block), false);
        pool.limitQuarantine();
    }

    inline fn used(pool: *const Pool, block: Block) *blocks_room.Record {
        assert(pool.blocks.isUsed(@backingInt(block)));
        return pool.blocks.at(@backingInt(block));
    }

    fn free(pool: *Pool, index: u32) void {
        if (pool.poisons) {
            const record = pool.blocks.at(index);
            const size = @min(poison_bytes_max, @as(usize, record.units) * unit_size);
            @memset(pool.memory[@as(usize, record.offset) * unit_size ..][0..size], poison_byte);
        }
        pool.blocks.give(index);
    }

    // References

    /// What `offer` reads and writes of a connection: first its books, then the newest references, which these point to.
    pub fn askForBooks(pool: *const Pool, connection: u16) void {
        @prefetch(&pool.connections[connection], .{ .rw = .write });
        @prefetch(&pool.pinned[connection], .{ .rw = .write });
    }

    pub fn askForReferences(pool: *const Pool, connection: u16) void {
        const state = &pool.connections[connection];
        const chunk = state.last orelse return;
        if (state.last_end == references_per_chunk) return;
        @prefetch(&chunk.positions[state.last_end], .{ .rw = .write });
        @prefetch(&chunk.blocks[state.last_end], .{ .rw = .write });
    }

    /// The frame that ends at `position` of this connection's ring refers to the block. Positions of one connection never
    /// decrease. Error OutOfMemory: the books can't grow, or a bound is reached; nothing has changed.
    pub fn offer(pool: *Pool, block: Block, connection: u16, position: u64) error{OutOfMemory}!void {
        const state = &pool.connections[connection];
        const record = pool.used(block);
        assert(state.state == .live);
        assert(position != position_none);
        assert(state.count == 0 or position >= backOf(state));
        if (state.count == connection_references_max) return error.OutOfMemory;

        var chunk = state.last orelse try pool.takeChunk(state);
        if (state.last_end == references_per_chunk) chunk = try pool.takeChunk(state);
        chunk.positions[state.last_end] = position;
        chunk.blocks[state.last_end] = @backingInt(block);
        state.last_end += 1;
        if (state.count == 0) state.front = position;
        state.count += 1;
        pool.refer(record);
        pool.pinned[connection] += bytesOf(record);
    }

    /// The consumer's cursor is at `position`: what ends there or before is given back. Costs one comparison if that is
    /// nothing, else a constant time per reference.
    pub inline fn advance(pool: *Pool, connection: u16, position: u64) void {
        if (position < pool.connections[connection].front) return;
        pool.advanceSome(connection, position);
    }

    fn advanceSome(pool: *Pool, connection: u16, position: u64) void {
        const state = &pool.connections[connection];
        while (state.count > 0 and state.front <= position) pool.dropFront(connection);
        pool.limitQuarantine();
    }

    /// Frames beyond `position` were taken back before anybody saw them.
    pub fn abort(pool: *Pool, connection: u16, position: u64) void {
        const state = &pool.connections[connection];
        while (state.count > 0 and backOf(state) > position) pool.dropBack(connection);
        pool.limitQuarantine();
    }

    /// Nobody reads through this connection any more: all its references are dropped, in quarantine or not, and its
    /// number may be used for another one.
    pub fn forget(pool: *Pool, connection: u16) void {
        const state = &pool.connections[connection];
        pool.dropAll(connection);
        pool.leaveQuarantine(connection);
        assert(pool.pinned[connection] == 0);
        if (state.last) |chunk| pool.putChunk(chunk);
        state.* = .{};
        pool.limitQuarantine();
    }

    // Quarantine

    /// The connection is evicted, but its process may be reading. Its blocks are kept until `forget`, `expire`, or until
    /// those that only evicted connections have are more than 1/8 of the pool: then the oldest go at once. `on_reuse` tells
    /// when; it may be called before this returns. It can't be offered anything until `forget`.
    /// Costs a constant time per reference.
    pub fn revoke(pool: *Pool, connection: u16, now_ns: u64) void {
        const state = &pool.connections[connection];
        if (state.state != .live) return;
        var at: ?*Chunk = state.first;
        var index = state.first_index;
        for (0..state.count) |_| {
            if (index == references_per_chunk) {
                at = at.?.after;
                index = 0;
            }
            const record = pool.blocks.at(at.?.blocks[index]);
            index += 1;
            record.quarantined += 1;
            assert(record.quarantined <= record.references);
            if (record.quarantined == record.references) pool.quarantined_units += record.units;
        }
        state.state = .quarantined;
        state.revoked_ns = now_ns;
        state.earlier = pool.quarantine_last;
        if (pool.quarantine_last == no_connection) pool.quarantine_first = connection else pool.connections[pool.quarantine_last].later = connection;
        pool.quarantine_last = connection;
        pool.limitQuarantine();
    }

    /// Ends the quarantine of those evicted a second ago or earlier. Cheap if there are none; call it now and then.
    pub fn expire(pool: *Pool, now_ns: u64) void {
        while (pool.quarantine_first != no_connection) {
            const connection = pool.quarantine_first;
            if (now_ns -| pool.connections[connection].revoked_ns < quarantine_ns) return;
            pool.tell(connection);
            pool.dropAll(connection);
            pool.leaveQuarantine(connection);
        }
    }

    fn leaveQuarantine(pool: *Pool, connection: u16) void {
        const state = &pool.connections[connection];
        if (state.state != .quarantined) return;
        assert(state.count == 0);
        if (state.earlier == no_connection) pool.quarantine_first = state.later else pool.connections[state.earlier].later = state.later;
        if (state.later == no_connection) pool.quarantine_last = state.earlier else pool.connections[state.later].earlier = state.earlier;
        state.earlier = no_connection;
        state.later = no_connection;
        state.state = .revoked;
    }

    fn tell(pool: *Pool, connection: u16) void {
        const state = &pool.connections[connection];
        if (state.is_told or state.count == 0) return;
        state.is_told = true;
        if (pool.on_reuse) |hook| hook.call(hook.context, connection);
    }

    inline fn limitQuarantine(pool: *Pool) void {
        if (pool.quarantined_units > pool.quarantined_units_max) pool.shrinkQuarantine();
    }

    fn shrinkQuarantine(pool: *Pool) void {
        @branchHint(.cold);
        while (pool.quarantined_units > pool.quarantined_units_max) {
            const connection = pool.quarantine_first;
            pool.tell(connection);
            if (pool.connections[connection].count == 0) pool.leaveQuarantine(connection) else pool.dropFront(connection);
        }
    }

    // Figures

    /// Bytes of blocks that this connection has references to, each as often as it is referred to.
    pub fn pinnedBytes(pool: *const Pool, connection: u16) u64 {
        return pool.pinned[connection];
    }

    /// Whether a connection may have a payload of `size` bytes: if it has something pinned already, only while it then pins
    /// no more than is then free, whoever holds the rest. `is_new`: no block has it yet. Why: docs/adr/0031.
    pub fn hasShare(pool: *const Pool, connection: u16, size: u64, is_new: bool) bool {
        const pinned = pool.pinned[connection];
        if (pinned == 0) return true;
        const free_bytes = pool.memory.len - pool.usedBytes();
        return pinned + size + @as(u64, if (is_new) size else 0) <= free_bytes;
    }

    pub fn referenceCount(pool: *const Pool, connection: u16) u32 {
        return pool.connections[connection].count;
    }

    /// Bytes of the memory in blocks, rounding included.
    pub fn usedBytes(pool: *const Pool) u64 {
        return @as(u64, pool.blocks.units_used) * unit_size;
    }

    /// Bytes of those that only evicted connections have references to.
    pub fn quarantinedBytes(pool: *const Pool) u64 {
        return @as(u64, pool.quarantined_units) * unit_size;
    }

    /// The largest size that `alloc` would grant now, as far as the memory goes.
    pub fn allocSizeMax(pool: *const Pool) usize {
        return @min(block_bytes_max, pool.blocks.sizeMax());
    }

    // One reference

    fn bytesOf(record: *const blocks_room.Record) u64 {
        return @as(u64, record.units) * unit_size;
    }

    fn isQuarantined(record: *const blocks_room.Record) bool {
        return record.quarantined > 0 and record.quarantined == record.references;
    }

    inline fn refer(pool: *Pool, record: *blocks_room.Record) void {
        if (isQuarantined(record)) pool.quarantined_units -= record.units;
        record.references += 1;
        assert(!record.isFree());
    }

    fn drop(pool: *Pool, index: u32, quarantined: bool) void {
        const record = pool.blocks.at(index);
        assert(pool.blocks.isUsed(index) and record.references > 0);
        if (isQuarantined(record)) pool.quarantined_units -= record.units;
        record.references -= 1;
        if (quarantined) record.quarantined -= 1;
        if (record.references == 0) return pool.free(index);
        if (isQuarantined(record)) pool.quarantined_units += record.units;
    }

    fn dropFront(pool: *Pool, connection: u16) void {
        const state = &pool.connections[connection];
        const chunk = state.first.?;
        const index = chunk.blocks[state.first_index];
        state.first_index += 1;
        state.count -= 1;
        if (state.count == 0) {
            emptied(state);
        } else if (state.first_index < references_per_chunk) {
            state.front = chunk.positions[state.first_index];
        } else {
            state.first = chunk.after;
            state.first.?.before = null;
            state.first_index = 0;
            state.front = state.first.?.positions[0];
            pool.putChunk(chunk);
        }
        pool.unpin(connection, index);
    }

    fn dropBack(pool: *Pool, connection: u16) void {
        const state = &pool.connections[connection];
        const chunk = state.last.?;
        state.last_end -= 1;
        const index = chunk.blocks[state.last_end];
        state.count -= 1;
        if (state.count == 0) {
            emptied(state);
        } else if (state.last_end == 0) {
            state.last = chunk.before;
            state.last.?.after = null;
            state.last_end = references_per_chunk;
            pool.putChunk(chunk);
        }
        pool.unpin(connection, index);
    }

    fn dropAll(pool: *Pool, connection: u16) void {
        while (pool.connections[connection].count > 0) pool.dropFront(connection);
    }

    fn unpin(pool: *Pool, connection: u16, index: u32) void {
        const size = bytesOf(pool.blocks.at(index));
        assert(pool.pinned[connection] >= size);
        pool.pinned[connection] -= size;
        pool.drop(index, pool.connections[connection].state != .live);
    }

    /// The one chunk that is left stays, and is used from its start: the same cache lines, and no search next time.
    fn emptied(state: *Connection) void {
        assert(state.first == state.last);
        state.front = position_none;
        state.first_index = 0;
        state.last_end = 0;
    }

    fn backOf(state: *const Connection) u64 {
        return state.last.?.positions[state.last_end - 1];
    }

    // Chunks

    /// Appends an empty chunk to the connection's list.
    fn takeChunk(pool: *Pool, state: *Connection) error{OutOfMemory}!*Chunk {
        @branchHint(.unlikely);
        if (pool.chunks_unused == null) {
            const chunks: [*]Chunk = @ptrFromInt(try pool.chunk_slabs.grow());
            for (0..Slabs.size / @sizeOf(Chunk)) |i| pool.putChunk(&chunks[i]);
        }
        const chunk = pool.chunks_unused.?;
        pool.chunks_unused = chunk.after;
        chunk.before = state.last;
        chunk.after = null;
        if (state.last) |last| last.after = chunk else state.first = chunk;
        state.last = chunk;
        state.last_end = 0;
        return chunk;
    }

    fn putChunk(pool: *Pool, chunk: *Chunk) void {
        chunk.after = pool.chunks_unused;
        pool.chunks_unused = chunk;
    }
};

/// Places arrays one behind the other, each from a cache line of its own.
const Layout = struct {
    size: usize = 0,

    fn add(layout: *Layout, comptime T: type, count: usize) usize {
        const at = std.mem.alignForward(usize, layout.size, 64);
        layout.size = at + count * @sizeOf(T);
        return at;
    }
};
