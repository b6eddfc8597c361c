//! engine.zig: the fan-out of one sender: gives updates their one order, finds who wants them, copies each into the rings
//! of all that match, and does to a consumer whose ring is full what its policy says.
//! May touch: its consumers' rings, the index, backlogs, the pool. May not touch: links, sockets, clocks but for the time
//! of a frame; what JavaScript has to decide or to close is told by `nextEvent`.
//! Why nothing here waits: a consumer is no reason to hold up the others. Threads of one process take turns by `lock`,
//! which is held for one call (design D10).

const std = @import("std");
const layout = @import("layout.zig");
const platform = @import("platform/mod.zig");
const handles = @import("handles.zig");
const region = @import("region.zig");
const connection = @import("connection.zig");
const copy = @import("copy.zig").copy;
const ring = @import("ring.zig");
const key_index = @import("key_index.zig");
const filter_program = @import("filter_program.zig");
const v9 = @import("v9/ends.zig");
const Backlog = @import("backlog.zig").Backlog;
const Lock = @import("lock.zig").Lock;
const Pool = @import("pool.zig").Pool;
const Block = @import("pool.zig").Block;
const slot_counts = @import("slot_counts.zig");
const SlotCounts = slot_counts.SlotCounts;
const tracker_file = @import("tracker.zig");
const Tracker = tracker_file.Tracker;
const FilterRef = tracker_file.FilterRef;
const FrameHeader = layout.FrameHeader;
const FrameKind = layout.FrameKind;
const KeyIndex = key_index.KeyIndex;
const Key = key_index.Key;
const Code = platform.Code;
const Status = layout.Status;
const assert = std.debug.assert;

pub const consumers_max = layout.fanout_consumers_max;
pub const filters_max = key_index.consumer_count_max;
const filters_per_consumer = 64;
/// Stands for no filter and no consumer.
const none = std.math.maxInt(u16);
/// What an edit of the index may cost a publish, in nanoseconds, while the filters of those who left are swept out.
const sweep_budget = 2_000;

fn codeOf(status: Status) Code {
    return @backingInt(status);
}

/// One named filter of one consumer, and what the index calls a consumer: it maps keys to sets of these.
const Filter = struct {
    consumer: u16 = none,
    bit: u6 = 0,
    /// False while it is being made, until all of its keys are in the index.
    is_active: bool = false,
    /// Counts those that have had this number.
    generation: u16 = 0,
    /// It is told of accounts that match it no longer, or asks for changes only.
    is_tracked: bool = false,
    account_keys: u32 = 0,
    owner_keys: u32 = 0,
    program: ?filter_program.Program = null,
    program_bytes: []u8 = &.{},
    /// Place in `any_accounts`, for a filter of accounts that the index holds no key of.
    any_place: u16 = none,
    transactions_place: u16 = none,
    /// A filter of transactions that the index has keys of: one of those must be the transaction's.
    is_keyed: bool = false,
    /// The update that it was tried for last.
    stamp: u64 = 0,
};

const Slices = []align(1) const layout.FilterRange;

const Producer = union(enum) {
    native: *connection.ProducerEnd,
    v9: *v9.ProducerEnd,
};

const Consumer = struct {
    state: enum {
        free,
        live,
        /// JavaScript has to end it.
        over,
        /// Ended; its process may still look at the pool, so its number is kept for a while.
        quarantined,
    } = .free,
    /// Pinned for as long as the consumer is here.
    handle: u32 = 0,
    producer: Producer = undefined,
    policy: layout.Policy = .disconnect,
    transaction_policy: layout.Policy = .disconnect,
    /// A bit for each slot status that it gets.
    statuses: u32 = 0,
    /// Its filters for slots, by bit.
    slot_filters: u64 = 0,
    /// Most bytes of the pool that frames in its ring may hold; 0: it has no pool.
    pool_bytes_max: u64 = 0,
    /// Holds frames that are not committed.
    is_dirty: bool = false,
    /// Losses that no frame has reported.
    is_gap_due: bool = false,
    /// The update that matched last, and by which filters.
    stamp: u64 = 0,
    mask: u64 = 0,
    /// What of the data travels; none: all of it.
    slices: Slices = &.{},
    filters: [filters_per_consumer]u16 = @splat(none),
    /// Being made: takes the place of the filter with its bit when it is complete.
    staged: u16 = none,
    frames: u64 = 0,
    bytes: u64 = 0,
    lost: u64 = 0,
    conflated: u64 = 0,
    end_reason: layout.EndReason = .none,
    backlog: Backlog = .{ .bytes_max = 0, .seed = @splat(0) },
    losses: ?*SlotCounts = null,
};

/// A list of filters without order: adding and removing take constant time.
const FilterList = struct {
    items: [filters_max]u16 = undefined,
    len: u16 = 0,

    fn add(list: *FilterList, filter: u16) u16 {
        list.items[list.len] = filter;
        list.len += 1;
        return list.len - 1;
    }

    /// Returns the filter that has moved to `place`, or `none`.
    fn remove(list: *FilterList, place: u16) u16 {
        list.len -= 1;
        if (place == list.len) return none;
        list.items[place] = list.items[list.len];
        return list.items[place];
    }

    fn slice(list: *const FilterList) []const u16 {
        return list.items[0..list.len];
    }
};

pub const Options = struct {
    seed: [2]u64,
    keys_max: u32,
    keys_per_consumer_max: u32,
    pool_bytes: u32 = 0,
    pool_threshold: u32 = std.math.maxInt(u32),
    tracked_max: u32 = 0,
    guard: Guard = .off,
};

/// What becomes of an older version of an account after a newer one.
pub const Guard = enum(u8) { off = 0, count = 1, drop = 2 };

/// The bytes behind a head, and the block of the pool that they were written into once somebody wanted them from there.
const Payload = struct {
    bytes: []const u8,
    block: ?Block = null,
};

/// The update that is being published.
const Update = struct {
    kind: FrameKind,
    head: []align(8) u8,
    tail: []const u8,
    slot: u64,
    publish_ns: u64,
    /// The account; null for other kinds.
    account: ?*const layout.AccountBody = null,
    v9_frame: v9.Outgoing = .{},
    payload: Payload,
    /// Whether the write changed anything, and the digest of what it wrote, once somebody has asked.
    changed: ?bool = null,
    digest: ?u64 = null,
    /// What is remembered of the account, if it was compared with that; and what came of it.
    record: ?*tracker_file.Record = null,
    is_compared: bool = false,
    is_guarded: bool = false,
    is_stale: bool = false,
    /// The tracked filters that match.
    refs: [tracker_file.filters_max]FilterRef = undefined,
    ref_count: u8 = 0,
    /// The consumers that the account leaves filters of, and which.
    leavers: [tracker_file.filters_max]struct { consumer: u16, mask: u64 } = undefined,
    leaver_count: u8 = 0,

    fn deinit(update: *Update) void {
        update.v9_frame.deinit();
    }
};

pub const Engine = struct {
    lock: Lock = .{},
    index: *KeyIndex,
    /// Sequence of the newest update; 0 before the first.
    sequence: u64 = 0,
    newest_slot: u64 = 0,
    /// The time of an open batch; 0 for none.
    batch_ns: u64 = 0,
    counts: struct {
        accounts: u64 = 0,
        transactions: u64 = 0,
        slots: u64 = 0,
        deliveries: u64 = 0,
        lost: u64 = 0,
        conflated: u64 = 0,
        unchanged: u64 = 0,
        stale: u64 = 0,
    } = .{},
    slots: SlotCounts,
    consumers: [consumers_max]Consumer,
    live: [consumers_max]u16 = undefined,
    live_count: u16 = 0,
    /// Consumers with policy `block`, for whatever kind.
    blocking_count: u16 = 0,
    v9_count: u16 = 0,
    filters: [filters_max]Filter,
    filter_search: u16 = 0,
    any_accounts: FilterList = .{},
    transactions: FilterList = .{},
    /// Filters of transactions that are found by keys.
    keyed_transactions: u16 = 0,
    /// The consumers that the update at hand goes to, and how many updates were matched so far.
    touched: [consumers_max]u16 = undefined,
    touched_count: u16 = 0,
    stamp: u64 = 0,
    dirty: [consumers_max]u16 = undefined,
    dirty_count: u16 = 0,
    /// Consumers whose state JavaScript has not been told.
    events: [consumers_max]u16 = undefined,
    events_count: u16 = 0,
    union_buffer: [filters_max]u16 = undefined,
    pool: ?Pool = null,
    pool_memory: platform.Memory = .{ .code = 0 },
    /// Payloads from this size on go into the pool.
    pool_threshold: u32 = std.math.maxInt(u32),
    quarantined_count: u16 = 0,
    tracker: ?Tracker = null,
    tracked_filters: u16 = 0,
    /// Those of them that want changes only.
    change_filters: u16 = 0,
    guard: Guard = .off,

    pub fn create(options: Options) error{ OutOfMemory, BadArgument }!*Engine {
        const memory = platform.pages(@sizeOf(Engine));
        if (memory.code < 0) return error.OutOfMemory;
        errdefer platform.unmap(memory.address, @sizeOf(Engine));
        const index = try KeyIndex.create(.{
            .seed = options.seed,
            .keys_max = options.keys_max,
            .keys_per_consumer_max = options.keys_per_consumer_max,
        });
        errdefer index.destroy();
        const engine: *Engine = @ptrFromInt(memory.address);
        engine.reset(index);
        if (options.tracked_max > 0) engine.tracker = try .init(.{}, .{ options.seed[1], options.seed[0] }, options.tracked_max);
        errdefer if (engine.tracker) |*tracker| tracker.deinit();
        engine.guard = options.guard;
        if (options.pool_bytes > 0) try engine.makePool(options.pool_bytes, options.pool_threshold);
        return engine;
    }

    /// Field by field: as one value it would be a template of half a megabyte in the library. The memory is all zeros,
    /// which is what numbers and empty lists start from.
    fn reset(engine: *Engine, index: *KeyIndex) void {
        engine.lock = .{};
        engine.index = index;
        engine.counts = .{};
        engine.pool = null;
        engine.pool_memory = .{ .code = 0 };
        engine.pool_threshold = std.math.maxInt(u32);
        engine.tracker = null;
        engine.guard = .off;
        for (&engine.consumers) |*consumer| consumer.* = .{};
        for (&engine.filters) |*filter| filter.* = .{};
        engine.slots.clear();
    }

    fn makePool(engine: *Engine, size: u32, threshold: u32) error{ OutOfMemory, BadArgument }!void {
        if (!region.poolSizeIsValid(size)) return error.BadArgument;
        const memory = platform.memoryCreate(size, .read_only);
        if (memory.code < 0) return error.OutOfMemory;
        errdefer closeMemory(memory);
        const mapped = platform.map(memory.fd, size, true);
        if (mapped.code < 0) return error.OutOfMemory;
        errdefer platform.unmap(mapped.address, size);
        // Our own writable mapping exists; from here on nobody gets another one.
        if (platform.memorySeal(memory.fd, .size_and_future_write) < 0) return error.OutOfMemory;
        engine.pool = try .init(@as([*]align(4096) u8, @ptrFromInt(mapped.address))[0..size], consumers_max);
        engine.pool.?.on_reuse = .{ .context = engine, .call = onReuse };
        engine.pool_memory = memory;
        engine.pool_threshold = @max(threshold, 1);
    }

    fn closeMemory(memory: platform.Memory) void {
        _ = platform.close(memory.fd);
        if (memory.passed_fd != memory.fd) _ = platform.close(memory.passed_fd);
    }

    /// A duplicate, the caller's.
    pub fn poolDescriptor(engine: *Engine) Code {
        if (engine.pool == null) return codeOf(.unsupported);
        return platform.duplicate(engine.pool_memory.passed_fd);
    }

    pub fn destroy(engine: *Engine) void {
        for (0..consumers_max) |id| engine.remove(@intCast(id), true);
        if (engine.pool) |*pool| {
            const memory = pool.memory;
            pool.deinit();
            platform.unmap(@intFromPtr(memory.ptr), memory.len);
            closeMemory(engine.pool_memory);
        }
        for (&engine.filters) |*filter| freeProgram(filter);
        if (engine.tracker) |*tracker| tracker.deinit();
        engine.index.destroy();
        platform.unmap(@intFromPtr(engine), @sizeOf(Engine));
    }

    // Consumers

    pub const AddOptions = struct {
        policy: layout.Policy,
        transaction_policy: layout.Policy,
        statuses: u32,
        backlog_bytes: u32,
        pool_bytes: u32 = 0,
        seed: [16]u8,
    };

    /// Takes a ring in. It gets slots from now on, and what its filters ask for.
    pub fn add(engine: *Engine, handle: u32, options: AddOptions) Code {
        const id: u16 = for (&engine.consumers, 0..) |*consumer, i| {
            if (consumer.state == .free) break @intCast(i);
        } else return codeOf(.consumers_limit);
        const producer: Producer = if (handles.pin(handle, .producer)) |native|
            .{ .native = native }
        else if (handles.pin(handle, .v9_producer)) |foreign|
            .{ .v9 = foreign }
        else
            return codeOf(.bad_handle);
        // The original's rings tell nobody of room: they know loss and end.
        if (producer == .v9 and (mayWait(options.policy) or mayWait(options.transaction_policy))) {
            handles.unpin(handle);
            return codeOf(.bad_argument);
        }
        const consumer = &engine.consumers[id];
        consumer.* = .{
            .state = .live,
            .handle = handle,
            .producer = producer,
            .policy = options.policy,
            .transaction_policy = options.transaction_policy,
            .statuses = options.statuses,
            .backlog = .init(options.backlog_bytes, options.seed),
            .pool_bytes_max = if (engine.pool != null and producer == .native) options.pool_bytes else 0,
        };
        setLock(producer, &engine.lock);
        engine.live[engine.live_count] = id;
        engine.live_count += 1;
        if (mayBlock(consumer)) engine.blocking_count += 1;
        if (producer == .v9) engine.v9_count += 1;
        return id;
    }

    fn setLock(producer: Producer, lock: ?*Lock) void {
        switch (producer) {
            inline else => |producer_end| producer_end.lock = lock,
        }
    }

    fn mayWait(policy: layout.Policy) bool {
        return policy != .disconnect and policy != .drop_newest;
    }

    /// Forgets a consumer. Its ring's handle can be closed.
    /// @param is_gone Nobody reads the pool through it any longer. Else its ring, and what it may look at in the pool, are
    /// kept for a second, and it is told before anything of that is reused.
    pub fn remove(engine: *Engine, id: u16, is_gone: bool) void {
        const consumer = engine.consumerAt(id) orelse return;
        if (consumer.state == .quarantined) {
            if (is_gone) engine.free(id);
            return;
        }
        engine.silence(id);
        engine.takeFrom(&engine.events, &engine.events_count, id);
        if (consumer.losses) |losses| platform.unmap(@intFromPtr(losses), @sizeOf(SlotCounts));
        consumer.losses = null;
        consumer.backlog.deinit();
        const is_read = !is_gone and engine.collect(id) and consumer.pool_bytes_max > 0 and engine.pool.?.referenceCount(id) > 0;
        setLock(consumer.producer, null);
        if (is_read) {
            consumer.state = .quarantined;
            engine.quarantined_count += 1;
            engine.pool.?.revoke(id, platform.monotonicNs());
            return;
        }
        engine.free(id);
    }

    /// The pool is about to reuse what an evicted consumer may be looking at. Its ring is still pinned, to be told here.
    fn onReuse(context: *anyopaque, id: u16) void {
        const engine: *Engine = @ptrCast(@alignCast(context));
        engine.consumers[id].producer.native.ring.revoke();
    }

    fn free(engine: *Engine, id: u16) void {
        const consumer = &engine.consumers[id];
        handles.unpin(consumer.handle);
        if (consumer.state == .quarantined) engine.quarantined_count -= 1;
        if (engine.pool) |*pool| if (consumer.pool_bytes_max > 0) pool.forget(id);
        consumer.* = .{};
    }

    /// What has to be done now and then. True: nothing is left to do.
    pub fn sweep(engine: *Engine) bool {
        // A thread that was ended in the middle of a batch commits no more.
        engine.commit();
        const is_swept = engine.index.sweep(sweep_budget * 100);
        if (engine.pool) |*pool| {
            pool.expire(platform.monotonicNs());
            for (&engine.consumers, 0..) |*consumer, id| {
                if (engine.quarantined_count == 0) break;
                if (consumer.state == .quarantined and pool.referenceCount(@intCast(id)) == 0) engine.free(@intCast(id));
            }
            for (engine.live[0..engine.live_count]) |id| _ = engine.collect(id);
        }
        for (engine.live[0..engine.live_count]) |id| {
            const backlog = &engine.consumers[id].backlog;
            if (backlog.isEmpty()) backlog.deinit(); // for the bytes of a bad moment are not kept for good
            if (engine.consumers[id].is_gap_due) engine.sayGap(id);
        }
        return is_swept and engine.quarantined_count == 0;
    }

    fn consumerAt(engine: *Engine, id: u16) ?*Consumer {
        if (id >= consumers_max or engine.consumers[id].state == .free) return null;
        return &engine.consumers[id];
    }

    /// It gets nothing from now on.
    fn silence(engine: *Engine, id: u16) void {
        const consumer = &engine.consumers[id];
        if (consumer.state != .live) return;
        consumer.state = .over;
        if (mayBlock(consumer)) engine.blocking_count -= 1;
        if (consumer.producer == .v9) engine.v9_count -= 1;
        for (consumer.filters) |filter| if (filter != none) engine.dropFilter(filter);
        if (consumer.staged != none) engine.dropFilter(consumer.staged);
        consumer.filters = @splat(none);
        consumer.staged = none;
        engine.takeFrom(&engine.live, &engine.live_count, id);
        if (consumer.is_dirty) engine.takeFrom(&engine.dirty, &engine.dirty_count, id);
    }

    fn takeFrom(engine: *Engine, list: *[consumers_max]u16, count: *u16, id: u16) void {
        _ = engine;
        for (list[0..count.*], 0..) |other, i| {
            if (other != id) continue;
            count.* -= 1;
            list[i] = list[count.*];
            return;
        }
    }

    /// JavaScript has to end it: `nextEvent` says so.
    fn end(engine: *Engine, id: u16, reason: layout.EndReason) void {
        engine.silence(id);
        engine.consumers[id].end_reason = reason;
        engine.events[engine.events_count] = id;
        engine.events_count += 1;
    }

    /// A consumer that has to be ended, once each.
    pub fn nextEvent(engine: *Engine) ?struct { id: u16, reason: layout.EndReason } {
        if (engine.events_count == 0) return null;
        engine.events_count -= 1;
        const id = engine.events[engine.events_count];
        return .{ .id = id, .reason = engine.consumers[id].end_reason };
    }

    // Filters

    /// What an edit asks for. In force when the call returns, for every update with a greater sequence.
    pub const Edit = struct {
        op: layout.FilterOp,
        bit: u6,
        takes_transactions: bool,
        is_last: bool,
        accounts: []align(1) const Key,
        owners: []align(1) const Key,
        program: []const u8,
    };

    /// 0, or why it was refused; then nothing has changed.
    pub fn edit(engine: *Engine, id: u16, request: *const Edit) Code {
        const consumer = engine.consumerAt(id) orelse return codeOf(.bad_argument);
        if (consumer.state != .live) return codeOf(.bad_argument);
        defer _ = engine.index.sweep(sweep_budget);
        return switch (request.op) {
            .add => engine.addToFilter(consumer, id, request),
            .remove => engine.removeFromFilter(consumer, request),
            .replace => engine.replaceFilter(consumer, id, request),
            .drop => blk: {
                if (consumer.staged != none and engine.filters[consumer.staged].bit == request.bit) {
                    engine.dropFilter(consumer.staged);
                    consumer.staged = none;
                }
                const filter = consumer.filters[request.bit];
                if (filter != none) engine.dropFilter(filter);
                consumer.filters[request.bit] = none;
                engine.noteSlotFilter(consumer, request.bit);
                break :blk 0;
            },
            _ => codeOf(.bad_argument),
        };
    }

    fn addToFilter(engine: *Engine, consumer: *Consumer, id: u16, request: *const Edit) Code {
        if (request.program.len > 0) return codeOf(.bad_argument);
        // Keys for a filter that is being made go there.
        const staged = consumer.staged != none and engine.filters[consumer.staged].bit == request.bit;
        var filter = if (staged) consumer.staged else consumer.filters[request.bit];
        const is_new = filter == none;
        if (is_new) {
            const made = engine.makeFilter(id, request.bit);
            if (made < 0) return made;
            filter = @intCast(made);
        }
        const code = engine.addKeys(filter, request);
        if (code < 0) {
            // Half a filter is none. What is added to its bit from now on is for the one that is in force.
            if (staged) consumer.staged = none;
            if (staged or is_new) engine.dropFilter(filter);
            return code;
        }
        if (request.takes_transactions) engine.takeTransactions(filter);
        if (is_new) {
            engine.filters[filter].is_active = true;
            consumer.filters[request.bit] = filter;
        }
        if (staged and request.is_last) engine.activate(consumer);
        return 0;
    }

    fn replaceFilter(engine: *Engine, consumer: *Consumer, id: u16, request: *const Edit) Code {
        if (consumer.staged != none) engine.dropFilter(consumer.staged);
        consumer.staged = none;
        const made = engine.makeFilter(id, request.bit);
        if (made < 0) return made;
        const filter: u16 = @intCast(made);
        const code = engine.fillFilter(filter, request);
        if (code < 0) {
            engine.dropFilter(filter);
            return code;
        }
        consumer.staged = filter;
        if (request.is_last) engine.activate(consumer);
        return 0;
    }

    fn fillFilter(engine: *Engine, filter: u16, request: *const Edit) Code {
        const state = &engine.filters[filter];
        if (request.program.len > 0) {
            // A private copy: what was checked is what runs.
            const memory = platform.pages(request.program.len);
            if (memory.code < 0) return codeOf(.memory_limit);
            state.program_bytes = @as([*]u8, @ptrFromInt(memory.address))[0..request.program.len];
            @memcpy(state.program_bytes, request.program);
            state.program = filter_program.validate(state.program_bytes) catch return codeOf(.bad_argument);
            const is_unkeyed = request.accounts.len == 0 and request.owners.len == 0 and request.is_last;
            if (state.program.?.kind == .accounts and !state.program.?.is_empty) engine.trackFilter(filter);
            if (state.program.?.only_changed) engine.change_filters += 1;
            switch (state.program.?.kind) {
                .accounts => if (is_unkeyed) {
                    state.any_place = engine.any_accounts.add(filter);
                },
                .transactions => if (is_unkeyed) {
                    engine.takeTransactions(filter);
                } else {
                    state.is_keyed = true;
                    engine.keyed_transactions += 1;
                },
                else => {},
            }
        }
        if (request.takes_transactions) engine.takeTransactions(filter);
        return engine.addKeys(filter, request);
    }

    /// The one that was being made takes over, in one step.
    fn activate(engine: *Engine, consumer: *Consumer) void {
        const filter = consumer.staged;
        const bit = engine.filters[filter].bit;
        if (consumer.filters[bit] != none) engine.dropFilter(consumer.filters[bit]);
        consumer.filters[bit] = filter;
        consumer.staged = none;
        engine.filters[filter].is_active = true;
        engine.noteSlotFilter(consumer, bit);
    }

    fn noteSlotFilter(engine: *Engine, consumer: *Consumer, bit: u6) void {
        const flag = @as(u64, 1) << bit;
        consumer.slot_filters &= ~flag;
        const filter = consumer.filters[bit];
        if (filter == none) return;
        const program = engine.filters[filter].program orelse return;
        if (program.kind == .slots) consumer.slot_filters |= flag;
    }

    fn removeFromFilter(engine: *Engine, consumer: *Consumer, request: *const Edit) Code {
        const filter = consumer.filters[request.bit];
        if (filter == none) return 0;
        // A key at a time: what has been removed stays removed, whatever becomes of the next one.
        for ([_][]align(1) const Key{ request.accounts, request.owners }, 0..) |keys, kind| {
            for (keys) |*key| {
                const aligned = key.*;
                const removed = engine.index.remove(@fromBackingInt(@intCast(kind)), &aligned, filter) catch return codeOf(.memory_limit);
                if (removed) engine.keyCount(filter, @fromBackingInt(@intCast(kind))).* -= 1;
            }
        }
        if (request.takes_transactions) engine.dropTransactions(filter);
        return 0;
    }

    fn makeFilter(engine: *Engine, consumer: u16, bit: u6) Code {
        for (0..filters_max) |step| {
            const filter: u16 = @intCast((engine.filter_search + step) % filters_max);
            if (engine.filters[filter].consumer != none) continue;
            engine.index.admit(filter) catch continue; // something is left in the index of the one who had this number
            engine.filter_search = filter + 1;
            const generation = engine.filters[filter].generation;
            engine.filters[filter] = .{ .consumer = consumer, .bit = bit, .generation = generation };
            return filter;
        }
        return codeOf(.filters_limit);
    }

    /// Matches nothing from now on.
    fn dropFilter(engine: *Engine, filter: u16) void {
        const state = &engine.filters[filter];
        engine.index.dismiss(filter);
        if (state.any_place != none) {
            const moved = engine.any_accounts.remove(state.any_place);
            if (moved != none) engine.filters[moved].any_place = state.any_place;
        }
        engine.dropTransactions(filter);
        if (state.program) |program| engine.change_filters -= @intFromBool(program.only_changed);
        freeProgram(state);
        if (state.is_tracked) engine.tracked_filters -= 1;
        if (state.is_keyed) engine.keyed_transactions -= 1;
        state.* = .{ .generation = state.generation +% 1 };
    }

    /// By owner or by content: then an account can leave it.
    fn trackFilter(engine: *Engine, filter: u16) void {
        const state = &engine.filters[filter];
        if (state.is_tracked or engine.consumers[state.consumer].producer != .native) return;
        state.is_tracked = true;
        engine.tracked_filters += 1;
        if (engine.tracker) |*tracker| tracker.openEyes();
    }

    fn freeProgram(filter: *Filter) void {
        if (filter.program_bytes.len > 0) platform.unmap(@intFromPtr(filter.program_bytes.ptr), filter.program_bytes.len);
        filter.program_bytes = &.{};
        filter.program = null;
    }

    fn takeTransactions(engine: *Engine, filter: u16) void {
        const state = &engine.filters[filter];
        if (state.transactions_place == none) state.transactions_place = engine.transactions.add(filter);
    }

    fn dropTransactions(engine: *Engine, filter: u16) void {
        const state = &engine.filters[filter];
        if (state.transactions_place == none) return;
        const moved = engine.transactions.remove(state.transactions_place);
        if (moved != none) engine.filters[moved].transactions_place = state.transactions_place;
        state.transactions_place = none;
    }

    /// All of them or none.
    fn addKeys(engine: *Engine, filter: u16, request: *const Edit) Code {
        if (request.owners.len > 0) engine.trackFilter(filter);
        const lists = [_][]align(1) const Key{ request.accounts, request.owners };
        for (lists, 0..) |keys, kind| {
            var done: usize = 0;
            while (done < keys.len) {
                const some = keys[done..][0..@min(key_index.batch_max, keys.len - done)];
                const added = engine.addSome(filter, @fromBackingInt(@intCast(kind)), some);
                if (added < 0) {
                    // Those of earlier batches that were there before this request go too: a refused edit of a filter that
                    // was there is rare enough to say so (docs/protocol.md).
                    for (lists[0..kind]) |earlier| engine.removeKeys(filter, .account, earlier);
                    engine.removeKeys(filter, @fromBackingInt(@intCast(kind)), keys[0..done]);
                    return added;
                }
                done += some.len;
            }
        }
        return 0;
    }

    fn addSome(engine: *Engine, filter: u16, kind: key_index.Kind, keys: []align(1) const Key) Code {
        var copies: [key_index.batch_max]Key = undefined;
        var pointers: [key_index.batch_max]*const Key = undefined;
        for (keys, 0..) |key, i| {
            copies[i] = key;
            pointers[i] = &copies[i];
        }
        const added = engine.index.addBatch(kind, pointers[0..keys.len], filter) catch |err| return codeOf(switch (err) {
            error.OutOfMemory => .memory_limit,
            error.NotAdmitted => .bad_argument,
            else => .filters_limit,
        });
        engine.keyCount(filter, kind).* += @popCount(added);
        return 0;
    }

    fn keyCount(engine: *Engine, filter: u16, kind: key_index.Kind) *u32 {
        const state = &engine.filters[filter];
        return if (kind == .account) &state.account_keys else &state.owner_keys;
    }

    fn removeKeys(engine: *Engine, filter: u16, kind: key_index.Kind, keys: []align(1) const Key) void {
        for (keys) |key| {
            if (engine.index.remove(kind, &key, filter) catch false) engine.keyCount(filter, kind).* -= 1;
        }
    }

    // Publishing

    /// Publishes one update: `head` is a FrameHeader and the fixed part of the body, `tail` the rest. Sequence, time and
    /// counts are filled in here. Returns the number of consumers that got it, or `would_block`: then nobody did.
    /// @param is_batch It stays unseen until `commit`.
    pub fn publish(engine: *Engine, head: []align(8) u8, tail: []const u8, is_batch: bool) Code {
        var update = engine.parse(head, tail) orelse return codeOf(.bad_argument);
        defer update.deinit();
        switch (update.kind) {
            .account => engine.matchAccount(&update),
            .transaction => engine.matchTransaction(&update),
            else => engine.matchSlot(&update),
        }
        const code = engine.publishMatched(&update, is_batch);
        engine.sweepSome();
        return code;
    }

    /// Only between updates whose filters are looked up: what was found is good until the next sweep.
    fn sweepSome(engine: *Engine) void {
        if (engine.index.leaving_count > 0) _ = engine.index.sweep(sweep_budget);
    }

    /// Starts each update of `publishMany`; head and tail follow, each padded to 8 bytes.
    pub const Item = extern struct { head_length: u32, tail_length: u32 };
    const look_ahead = 64;

    /// Publishes updates that stand one behind the other, unseen until `commit`. Their keys are looked up in groups, so
    /// that reads from memory overlap. Returns the number of deliveries; stops at the first update that can't be
    /// published, which `done` says the place of.
    pub fn publishMany(engine: *Engine, bytes: []align(8) u8, done: *usize) Code {
        var reached: Code = 0;
        while (done.* < bytes.len) {
            var updates: [look_ahead]Update = undefined;
            var ends: [look_ahead]usize = undefined;
            const count_ = engine.parseSome(bytes, done.*, &updates, &ends);
            if (count_ == 0) return codeOf(.bad_argument);
            var sets: [2][look_ahead]key_index.SetId = undefined;
            engine.lookUp(updates[0..count_], &sets);
            for (updates[0..count_], 0..) |*update, i| {
                defer update.deinit();
                switch (update.kind) {
                    .account => engine.matchSets(update, sets[0][i], sets[1][i]),
                    .transaction => engine.matchTransaction(update),
                    else => engine.matchSlot(update),
                }
                const code = engine.publishMatched(update, true);
                if (code < 0) return code;
                reached += code;
                done.* = ends[i];
            }
            engine.sweepSome();
        }
        return reached;
    }

    fn parseSome(engine: *Engine, bytes: []align(8) u8, start: usize, updates: *[look_ahead]Update, ends: *[look_ahead]usize) usize {
        var at = start;
        var found: usize = 0;
        while (found < look_ahead and bytes.len - at >= @sizeOf(Item)) : (found += 1) {
            const item: *const Item = @ptrCast(@alignCast(bytes[at..].ptr));
            at += @sizeOf(Item);
            const head_size = std.mem.alignForward(usize, item.head_length, 8);
            const tail_size = std.mem.alignForward(usize, item.tail_length, 8);
            if (head_size + tail_size > bytes.len - at) break;
            const head: []align(8) u8 = @alignCast(bytes[at..][0..item.head_length]);
            updates[found] = engine.parse(head, bytes[at + head_size ..][0..item.tail_length]) orelse break;
            at += head_size + tail_size;
            ends[found] = at;
        }
        return found;
    }

    fn lookUp(engine: *Engine, updates: []const Update, sets: *[2][look_ahead]key_index.SetId) void {
        var keys: [2][look_ahead]*const Key = undefined;
        var places: [look_ahead]usize = undefined;
        var accounts: usize = 0;
        for (updates, 0..) |update, i| {
            const account = update.account orelse continue;
            keys[0][accounts] = &account.pubkey;
            keys[1][accounts] = &account.owner;
            places[accounts] = i;
            accounts += 1;
        }
        for (0..2) |kind| {
            var found: [look_ahead]key_index.SetId = undefined;
            engine.index.lookupBatch(@fromBackingInt(@intCast(kind)), keys[kind][0..accounts], found[0..accounts]);
            for (places[0..accounts], found[0..accounts]) |place, set| sets[kind][place] = set;
            engine.askForMatches(found[0..accounts]);
        }
    }

    /// What a match needs stands behind five pointers, none of them in a cache when there are many consumers. For a group
    /// of updates each step is asked for before the next one is taken, so that the waits overlap. Of each set, the first
    /// filter: where many match, the others cost more than the wait.
    fn askForMatches(engine: *Engine, sets: []const key_index.SetId) void {
        var wanted: [look_ahead]key_index.SetId = undefined;
        var count_: usize = 0;
        for (sets) |set| {
            if (set == key_index.empty) continue;
            engine.index.sets.askFor(set);
            wanted[count_] = set;
            count_ += 1;
        }
        if (count_ < 2) return;
        for (wanted[0..count_]) |set| engine.index.sets.askForMembers(set);
        var some: [look_ahead]u16 = undefined;
        for (wanted[0..count_], some[0..count_]) |set, *filter| {
            const members = engine.index.sets.members(set);
            filter.* = if (members.len > 0) members[0] else 0;
            askFor(&engine.filters[filter.*]);
        }
        var consumers: [look_ahead]u16 = undefined;
        for (some[0..count_], consumers[0..count_]) |filter, *consumer| {
            const id = engine.filters[filter].consumer;
            consumer.* = if (id == none) 0 else id;
            askFor(&engine.consumers[consumer.*]);
        }
        for (consumers[0..count_]) |id| if (engine.nativeOf(id)) |producer| askFor(producer);
        for (consumers[0..count_]) |id| if (engine.nativeOf(id)) |producer| producer.ring.askForFrame();
    }

    inline fn nativeOf(engine: *Engine, id: u16) ?*connection.ProducerEnd {
        const consumer = &engine.consumers[id];
        return if (consumer.state == .live and consumer.producer == .native) consumer.producer.native else null;
    }

    /// All lines of a private object, to be written.
    inline fn askFor(object: anytype) void {
        const bytes: [*]const u8 = @ptrCast(object);
        const size = @sizeOf(@TypeOf(object.*));
        inline for (0..(size + 63) / 64) |line| @prefetch(bytes + 64 * line, .{ .rw = .write });
        @prefetch(bytes + size - 1, .{ .rw = .write });
    }

    fn publishMatched(engine: *Engine, update: *Update, is_batch: bool) Code {
        if (update.kind == .account and !engine.compareWithRecord(update)) {
            if (!is_batch) engine.commit();
            return 0;
        }
        if (engine.blocking_count > 0 and engine.isBlocked(update)) {
            engine.commit();
            if (engine.isBlocked(update)) return codeOf(.would_block);
        }
        engine.record(update);
        engine.takePlace(update);
        var reached: Code = 0;
        if (update.tail.len >= engine.pool_threshold) engine.collectTouched();
        // Compressing for version 9 takes its time: nobody else shall wait for it.
        const is_split = engine.v9_count > 0 and update.tail.len >= layout.v9_compress_bytes_min;
        for (engine.touched[0..engine.touched_count]) |id| {
            if (is_split and engine.consumers[id].producer == .v9) continue;
            if (engine.deliver(id, update)) reached += 1;
        }
        if (is_split) {
            if (!is_batch) engine.commit();
            for (engine.touched[0..engine.touched_count]) |id| {
                if (engine.consumers[id].producer == .v9 and engine.deliver(id, update)) reached += 1;
            }
        }
        engine.settle(&update.payload);
        for (update.leavers[0..update.leaver_count]) |leaver| engine.sayLeft(leaver.consumer, leaver.mask, update);
        engine.counts.deliveries += @intCast(reached);
        if (!is_batch) engine.commit();
        return reached;
    }

    fn parse(engine: *Engine, head: []align(8) u8, tail: []const u8) ?Update {
        _ = engine;
        if (head.len < @sizeOf(FrameHeader)) return null;
        const header: *FrameHeader = @ptrCast(head.ptr);
        const body = head[@sizeOf(FrameHeader)..];
        const kind: FrameKind = @fromBackingInt(@intCast(header.kind));
        var update: Update = .{ .kind = kind, .head = head, .tail = tail, .slot = 0, .publish_ns = 0, .payload = .{ .bytes = tail } };
        switch (kind) {
            .account => {
                if (body.len < @sizeOf(layout.AccountBody)) return null;
                const account: *layout.AccountBody = @ptrCast(body.ptr);
                if (account.data_length != tail.len) return null;
                account.full_length = account.data_length;
                update.account = account;
                update.slot = account.slot;
            },
            .transaction => {
                if (body.len < @sizeOf(layout.TransactionBody)) return null;
                const transaction: *const layout.TransactionBody = @ptrCast(body.ptr);
                if (transaction.message_length > tail.len) return null;
                update.slot = transaction.slot;
            },
            .slot => {
                if (body.len != @sizeOf(layout.SlotBody)) return null;
                const slot: *const layout.SlotBody = @ptrCast(body.ptr);
                if (slot.status >= 32) return null;
                update.slot = slot.slot;
            },
            else => return null,
        }
        return update;
    }

    /// It takes its place in the order.
    fn takePlace(engine: *Engine, update: *Update) void {
        engine.sequence += 1;
        engine.newest_slot = @max(engine.newest_slot, update.slot);
        if (engine.batch_ns == 0) engine.batch_ns = platform.realtimeNs();
        update.publish_ns = engine.batch_ns;
        const header: *FrameHeader = @ptrCast(update.head.ptr);
        header.sequence = engine.sequence;
        switch (update.kind) {
            .account => {
                engine.counts.accounts += 1;
                engine.slots.of(update.slot).accounts += 1;
            },
            .transaction => {
                engine.counts.transactions += 1;
                engine.slots.of(update.slot).transactions += 1;
            },
            else => {
                engine.counts.slots += 1;
                const published = engine.slots.get(update.slot);
                const body: *layout.SlotBody = @ptrCast(update.head[@sizeOf(FrameHeader)..].ptr);
                body.accounts_published = published.accounts;
                body.transactions_published = published.transactions;
            },
        }
    }

    // Matching: the consumers that want the update go into `touched`, each with the mask of its filters that match.

    fn matchAccount(engine: *Engine, update: *Update) void {
        const account = update.account.?;
        const by_key = engine.index.lookup(.account, &account.pubkey);
        const by_owner = engine.index.lookup(.owner, &account.owner);
        engine.matchSets(update, by_key, by_owner);
    }

    fn matchSets(engine: *Engine, update: *Update, by_key: key_index.SetId, by_owner: key_index.SetId) void {
        engine.startMatch();
        for (engine.index.unionOf(by_key, by_owner, &engine.union_buffer)) |filter| engine.tryAccount(update, filter);
        for (engine.any_accounts.slice()) |filter| engine.tryAccount(update, filter);
    }

    inline fn tryAccount(engine: *Engine, update: *Update, id: u16) void {
        const filter = &engine.filters[id];
        if (!filter.is_active) return;
        const program = if (filter.program) |*given| given else {
            if (filter.is_tracked) remember(update, id, filter);
            return engine.touch(filter, &.{});
        };
        const slices = engine.evaluate(update, program) orelse return;
        if (filter.is_tracked) remember(update, id, filter);
        engine.touch(filter, slices);
    }

    /// Null: it does not match.
    fn evaluate(engine: *Engine, update: *Update, program: *const filter_program.Program) ?Slices {
        if (program.kind != .accounts) return null;
        var reference = filter_program.AccountUpdateRef.init(update.head, update.tail) catch return null;
        if (program.only_changed) reference.changed = engine.isChanged(update);
        const verdict = filter_program.evaluateAccount(program, &reference);
        if (verdict.outcome == .unchanged) engine.counts.unchanged += 1;
        return if (verdict.matched()) verdict.slices else null;
    }

    /// What is not remembered counts as changed.
    fn isChanged(engine: *Engine, update: *Update) bool {
        if (update.changed) |known| return known;
        const is_changed = if (engine.tracker) |*tracker| blk: {
            const known = tracker.find(&update.account.?.pubkey) orelse break :blk true;
            const before = known.digest orelse break :blk true;
            break :blk known.era != tracker.era or before != engine.digestOf(update);
        } else true;
        update.changed = is_changed;
        return is_changed;
    }

    fn digestOf(engine: *Engine, update: *Update) u64 {
        if (update.digest) |known| return known;
        const header: *const FrameHeader = @ptrCast(update.head.ptr);
        update.digest = engine.tracker.?.digestOf(update.account.?, header.flags, update.tail);
        return update.digest.?;
    }

    fn remember(update: *Update, id: u16, filter: *const Filter) void {
        if (update.ref_count == update.refs.len) return;
        update.refs[update.ref_count] = .{ .id = id, .generation = filter.generation };
        update.ref_count += 1;
    }

    /// Compares the account with what was published of it before. False: an older version, which is not to be published.
    fn compareWithRecord(engine: *Engine, update: *Update) bool {
        const tracker = if (engine.tracker) |*one| one else return true;
        update.is_guarded = engine.guard != .off and engine.touched_count > 0;
        if (engine.tracked_filters == 0 and !update.is_guarded) {
            tracker.is_blind = true;
            return true;
        }
        update.is_compared = true;
        const found = tracker.find(&update.account.?.pubkey) orelse return true;
        update.record = found;
        update.is_stale = engine.guard != .off and versionOf(update).isOlderThan(found.version);
        if (update.is_stale and engine.guard == .drop) {
            engine.counts.stale += 1;
            return false;
        }
        for (found.matched()) |ref| engine.findLeaver(update, ref);
        return true;
    }

    /// Remembers the account as it is published. Who is in no filter, and was in none, leaves no trace.
    fn record(engine: *Engine, update: *Update) void {
        if (!update.is_compared) return;
        const tracker = &engine.tracker.?;
        const kept = update.record orelse blk: {
            if (update.ref_count == 0 and !update.is_guarded) return;
            break :blk (tracker.get(&update.account.?.pubkey) orelse return).record;
        };
        if (update.is_stale) engine.counts.stale += 1 else kept.version = versionOf(update);
        kept.is_recent = true;
        kept.filter_count = update.ref_count;
        @memcpy(kept.filters[0..update.ref_count], update.refs[0..update.ref_count]);
        kept.digest = if (engine.change_filters > 0) engine.digestOf(update) else null;
        kept.era = tracker.era;
    }

    fn versionOf(update: *const Update) tracker_file.Version {
        const account = update.account.?;
        return .{
            .source_epoch = account.source_epoch,
            .slot = account.slot,
            .bank_id = account.bank_id,
            .write_version = account.write_version,
        };
    }

    fn findLeaver(engine: *Engine, update: *Update, ref: FilterRef) void {
        const filter = &engine.filters[ref.id];
        if (filter.generation != ref.generation or !filter.is_active) return;
        const bit = @as(u64, 1) << filter.bit;
        const consumer = &engine.consumers[filter.consumer];
        if (consumer.stamp == engine.stamp and consumer.mask & bit != 0) return;
        // A filter may match and not be sent to, since nothing has changed.
        for (update.refs[0..update.ref_count]) |other| if (other.id == ref.id) return;
        for (update.leavers[0..update.leaver_count]) |*leaver| {
            if (leaver.consumer != filter.consumer) continue;
            leaver.mask |= bit;
            return;
        }
        update.leavers[update.leaver_count] = .{ .consumer = filter.consumer, .mask = bit };
        update.leaver_count += 1;
    }

    /// Tells a consumer that the account matches these filters no longer.
    fn sayLeft(engine: *Engine, id: u16, mask: u64, update: *const Update) void {
        const account = update.account.?;
        var frame: extern struct { header: FrameHeader, body: layout.LeftBody } = .{
            .header = @as(*const FrameHeader, @ptrCast(update.head.ptr)).*,
            .body = .{
                .pubkey = account.pubkey,
                .owner = account.owner,
                .lamports = account.lamports,
                .slot = account.slot,
                .bank_id = account.bank_id,
                .write_version = account.write_version,
            },
        };
        frame.header.kind = @backingInt(FrameKind.left);
        frame.header.flags = 0;
        var left: Update = .{
            .kind = .left,
            .head = std.mem.asBytes(&frame),
            .tail = &.{},
            .slot = update.slot,
            .publish_ns = update.publish_ns,
            .payload = .{ .bytes = &.{} },
        };
        engine.consumers[id].mask = mask;
        engine.consumers[id].slices = &.{};
        _ = engine.deliver(id, &left);
    }

    fn startMatch(engine: *Engine) void {
        engine.stamp += 1;
        engine.touched_count = 0;
    }

    inline fn touch(engine: *Engine, filter: *const Filter, slices: Slices) void {
        const consumer = &engine.consumers[filter.consumer];
        const bit = @as(u64, 1) << filter.bit;
        if (consumer.stamp == engine.stamp) {
            consumer.mask |= bit;
            // Filters that want different parts get the whole.
            if (!std.mem.eql(u8, std.mem.sliceAsBytes(consumer.slices), std.mem.sliceAsBytes(slices))) consumer.slices = &.{};
            return;
        }
        consumer.slices = slices;
        consumer.stamp = engine.stamp;
        consumer.mask = bit;
        engine.touched[engine.touched_count] = filter.consumer;
        engine.touched_count += 1;
    }

    fn matchTransaction(engine: *Engine, update: *const Update) void {
        engine.startMatch();
        for (engine.transactions.slice()) |id| {
            const filter = &engine.filters[id];
            if (!filter.is_active) continue;
            if (filter.program) |*program| {
                const reference = filter_program.TransactionRef.init(update.head, update.tail, &.{}) catch continue;
                if (program.kind == .transactions and !filter_program.evaluateTransaction(program, &reference)) continue;
            }
            engine.touch(filter, &.{});
        }
        if (engine.keyed_transactions > 0) engine.matchTransactionKeys(update);
    }

    /// A probe for each key that the message names: the cost follows those, not the filters.
    fn matchTransactionKeys(engine: *Engine, update: *const Update) void {
        const reference = filter_program.TransactionRef.init(update.head, update.tail, &.{}) catch return;
        for (reference.keys) |*key| {
            const found = engine.index.lookup(.account, key);
            for (engine.index.unionOf(found, key_index.empty, &engine.union_buffer)) |id| {
                const filter = &engine.filters[id];
                if (!filter.is_active or !filter.is_keyed or filter.stamp == engine.stamp) continue;
                filter.stamp = engine.stamp;
                if (filter_program.evaluateTransaction(&filter.program.?, &reference)) engine.touch(filter, &.{});
            }
        }
    }

    fn matchSlot(engine: *Engine, update: *const Update) void {
        const body: *const layout.SlotBody = @ptrCast(update.head[@sizeOf(FrameHeader)..].ptr);
        const wanted = @as(u32, 1) << @intCast(body.status);
        engine.startMatch();
        for (engine.live[0..engine.live_count]) |id| {
            const consumer = &engine.consumers[id];
            const mask = engine.slotMask(consumer, wanted, body.status);
            if (mask == 0) continue;
            consumer.stamp = engine.stamp;
            consumer.mask = mask;
            consumer.slices = &.{};
            engine.touched[engine.touched_count] = id;
            engine.touched_count += 1;
        }
    }

    /// Without filters for slots a consumer gets those of its statuses, and all bits; with them, what they ask for.
    fn slotMask(engine: *Engine, consumer: *const Consumer, wanted: u32, status: u32) u64 {
        if (consumer.slot_filters == 0) return if (consumer.statuses & wanted != 0) std.math.maxInt(u64) else 0;
        var mask: u64 = 0;
        var rest = consumer.slot_filters;
        while (rest != 0) : (rest &= rest - 1) {
            const bit: u6 = @intCast(@ctz(rest));
            const program = &(engine.filters[consumer.filters[bit]].program orelse continue);
            if (filter_program.evaluateSlot(program, status)) mask |= @as(u64, 1) << bit;
        }
        return mask;
    }

    // Delivering

    /// Whether a consumer with the policy `block` has no room for it, or for being told that the account has left.
    fn isBlocked(engine: *Engine, update: *const Update) bool {
        var is_blocked = false;
        for (engine.touched[0..engine.touched_count]) |id| is_blocked = engine.isBlockedBy(id, update) or is_blocked;
        for (update.leavers[0..update.leaver_count]) |leaver| {
            if (engine.consumers[leaver.consumer].stamp == engine.stamp) continue; // it was asked with the others
            is_blocked = engine.isBlockedBy(leaver.consumer, update) or is_blocked;
        }
        return is_blocked;
    }

    fn isBlockedBy(engine: *Engine, id: u16, update: *const Update) bool {
        const consumer = &engine.consumers[id];
        if (engine.policyFor(consumer, update) != .block) return false;
        if (engine.hasRoom(id, update)) return false;
        consumer.producer.native.ring.awaitRoom();
        return !engine.hasRoom(id, update);
    }

    /// A cursor that can't be counts as room: the offer will find out.
    fn hasRoom(engine: *Engine, id: u16, update: *const Update) bool {
        const consumer = &engine.consumers[id];
        const producer = &consumer.producer.native.ring;
        var size: usize = 0;
        if (consumer.stamp == engine.stamp) {
            const is_sliced = consumer.slices.len > 0;
            const is_pooled = !is_sliced and update.tail.len >= engine.pool_threshold and consumer.pool_bytes_max > 0;
            if (is_pooled) {
                if (!engine.collect(id)) return true;
                const pinned = engine.pool.?.pinnedBytes(id);
                if (pinned > 0 and pinned + update.tail.len > consumer.pool_bytes_max) return false;
            }
            const payload = if (is_pooled) 0 else if (is_sliced) slicedLength(consumer.slices, update) else update.tail.len;
            size = ring.paddedSize(update.head.len + payload);
            // It never fits: a loss, and no reason to wait.
            if (size > producer.capacity - producer.reserved) size = 0;
        }
        for (update.leavers[0..update.leaver_count]) |leaver| {
            if (leaver.consumer == id) size += @sizeOf(FrameHeader) + @sizeOf(layout.LeftBody);
        }
        return size == 0 or producer.hasRoomFor(size, update.kind) catch true;
    }

    fn slicedLength(slices: Slices, update: *const Update) usize {
        var length: usize = 0;
        for (slices) |wanted| length += filter_program.cut(wanted, @intCast(update.tail.len)).length;
        return length;
    }

    /// Whether it is in the ring.
    fn deliver(engine: *Engine, id: u16, update: *Update) bool {
        const consumer = &engine.consumers[id];
        if (consumer.state != .live) return false;
        if (!consumer.backlog.isEmpty() and !engine.flush(id)) {
            // A cursor that can't be has ended it, and freed the filter that says what of the update travels.
            if (consumer.state == .live) engine.wait(id, update);
            return false;
        }
        return switch (engine.offer(id, update)) {
            .taken => true,
            .full => engine.onFull(id, update),
            .too_large => blk: {
                engine.lose(id, update);
                // It can never fit this ring: a loss that is said at once, and not an end.
                engine.sayGap(id);
                break :blk false;
            },
            .corrupt => blk: {
                engine.end(id, .peer_corrupt);
                break :blk false;
            },
        };
    }

    const Offer = enum { taken, full, too_large, corrupt };

    /// Blocks whose frames the consumer has given back are its no longer. False: its cursor can't be.
    fn collect(engine: *Engine, id: u16) bool {
        const consumer = &engine.consumers[id];
        if (consumer.pool_bytes_max == 0) return true;
        const producer = &consumer.producer.native.ring;
        producer.sync() catch return false;
        engine.pool.?.advance(id, producer.consumer_cursor_cached);
        return true;
    }

    /// Before the first of them is offered a payload: then what nobody reads any longer is free, and the payload goes where
    /// one was written not long ago, which the caches still have.
    fn collectTouched(engine: *Engine) void {
        for (engine.touched[0..engine.touched_count]) |id| _ = engine.collect(id);
    }

    fn collectAll(engine: *Engine) void {
        for (engine.live[0..engine.live_count]) |id| _ = engine.collect(id);
    }

    /// Offers a frame to a native ring: its payload in the pool, if it is large and the consumer has one, else in the ring.
    fn offerFrame(engine: *Engine, id: u16, head: []align(8) u8, payload: *Payload, publish_ns: u64, mask: u64) Offer {
        const consumer = &engine.consumers[id];
        const producer = &consumer.producer.native.ring;
        var frame: ring.Frame = .{ .head = head, .parts = &.{payload.bytes}, .publish_ns = publish_ns, .filter_mask = mask };
        const is_pooled = payload.bytes.len >= engine.pool_threshold and consumer.pool_bytes_max > 0;
        if (is_pooled) {
            if (!engine.collect(id)) return .corrupt;
            const pinned = engine.pool.?.pinnedBytes(id);
            if (pinned > 0 and pinned + payload.bytes.len > consumer.pool_bytes_max) return .full;
            if (engine.blockFor(payload)) |block| {
                const pool = &engine.pool.?;
                pool.offer(block, id, producer.cursor + ring.paddedSize(head.len)) catch return .full;
                frame.parts = &.{};
                frame.pool_block = pool.offset(block);
                frame.pool_generation = pool.generation(block);
            }
        }
        producer.offer(&frame) catch |err| {
            if (frame.pool_generation != 0) engine.pool.?.abort(id, producer.cursor);
            return switch (err) {
                error.Full => .full,
                error.TooLarge => .too_large,
                error.PeerCorrupt => .corrupt,
            };
        };
        return .taken;
    }

    /// The parts of an account's data that a consumer wants, and the head that says so.
    const Sliced = struct {
        head: [head_bytes_max]u8 align(8),
        head_length: usize,
        parts: [layout.filter_slices_max][]const u8,
        part_count: usize,

        const head_bytes_max = @sizeOf(FrameHeader) + @sizeOf(layout.AccountBody) + layout.signature_size;

        fn from(slices: Slices, update: *const Update, out: *Sliced) void {
            out.head_length = @min(update.head.len, head_bytes_max);
            @memcpy(out.head[0..out.head_length], update.head[0..out.head_length]);
            out.part_count = slices.len;
            var length: u32 = 0;
            var is_clipped = false;
            for (slices, 0..) |wanted, i| {
                const part = filter_program.cut(wanted, @intCast(update.tail.len));
                out.parts[i] = update.tail[part.offset..][0..part.length];
                length += part.length;
                is_clipped = is_clipped or part.length < wanted.length;
            }
            const header: *FrameHeader = @ptrCast(&out.head);
            header.flags |= layout.frame_flag_sliced;
            if (is_clipped) header.flags |= layout.frame_flag_clipped;
            const body: *layout.AccountBody = @ptrCast(@alignCast(out.head[@sizeOf(FrameHeader)..].ptr));
            body.data_length = length;
        }

        fn slice(sliced: *const Sliced) []const []const u8 {
            return sliced.parts[0..sliced.part_count];
        }
    };

    fn offerSlices(engine: *Engine, consumer: *Consumer, update: *const Update) Offer {
        _ = engine;
        var sliced: Sliced = undefined;
        Sliced.from(consumer.slices, update, &sliced);
        consumer.producer.native.ring.offer(&.{
            .head = sliced.head[0..sliced.head_length],
            .parts = sliced.slice(),
            .publish_ns = update.publish_ns,
            .filter_mask = consumer.mask,
        }) catch |err| return switch (err) {
            error.Full => .full,
            error.TooLarge => .too_large,
            error.PeerCorrupt => .corrupt,
        };
        return .taken;
    }

    /// Written once, for however many consumers. Null: the pool is full; then each gets a copy in its ring.
    fn blockFor(engine: *Engine, payload: *Payload) ?Block {
        if (payload.block) |block| return block;
        const pool = &engine.pool.?;
        const block = pool.alloc(payload.bytes.len) orelse blk: {
            engine.collectAll();
            break :blk pool.alloc(payload.bytes.len) orelse return null;
        };
        pool.retain(block); // until `settle`: an offer that is taken back must not free it
        copy(pool.bytes(block).ptr, payload.bytes);
        payload.block = block;
        return block;
    }

    /// Nobody else will be offered it.
    fn settle(engine: *Engine, payload: *Payload) void {
        if (payload.block) |block| engine.pool.?.release(block);
        payload.block = null;
    }

    fn offer(engine: *Engine, id: u16, update: *Update) Offer {
        const consumer = &engine.consumers[id];
        switch (consumer.producer) {
            .native => {
                if (update.kind == .slot) fillLosses(consumer, update.head);
                const outcome = if (consumer.slices.len > 0)
                    engine.offerSlices(consumer, update)
                else
                    engine.offerFrame(id, update.head, &update.payload, update.publish_ns, consumer.mask);
                if (outcome != .taken) return outcome;
            },
            .v9 => |producer| switch (producer.offer(&update.v9_frame, update.head, update.tail, update.publish_ns)) {
                0 => {},
                codeOf(.full) => return .full,
                codeOf(.peer_corrupt) => return .corrupt,
                else => return .too_large,
            },
        }
        consumer.frames += 1;
        consumer.bytes += update.head.len + update.tail.len;
        engine.markDirty(id);
        return .taken;
    }

    fn markDirty(engine: *Engine, id: u16) void {
        const consumer = &engine.consumers[id];
        if (consumer.is_dirty) return;
        consumer.is_dirty = true;
        engine.dirty[engine.dirty_count] = id;
        engine.dirty_count += 1;
    }

    /// What this connection lost of the slot stands in its own slot frame.
    fn fillLosses(consumer: *const Consumer, head: []align(8) u8) void {
        const body: *layout.SlotBody = @ptrCast(head[@sizeOf(FrameHeader)..].ptr);
        const losses: slot_counts.Counts = if (consumer.losses) |table| table.get(body.slot) else .{};
        body.accounts_lost = losses.accounts;
        body.transactions_lost = losses.transactions;
    }

    /// There is no room. Returns whether it got in at a second try.
    fn onFull(engine: *Engine, id: u16, update: *Update) bool {
        const consumer = &engine.consumers[id];
        // Frames of an open batch are room that the consumer can't give back: show them, look again.
        if (consumer.is_dirty) {
            engine.commitOne(id);
            _ = engine.collect(id);
            switch (engine.offer(id, update)) {
                .taken => return true,
                .corrupt => {
                    engine.end(id, .peer_corrupt);
                    return false;
                },
                else => {},
            }
        }
        switch (engine.policyFor(consumer, update)) {
            .drop_newest => {
                engine.lose(id, update);
                if (consumer.producer == .native) consumer.producer.native.ring.awaitRoom(); // to say so when there is some
            },
            .drop_oldest, .conflate => engine.wait(id, update),
            // A blocking consumer was asked before; marks and what was published around that are all that gets here.
            .disconnect, .block, _ => {
                engine.lose(id, update);
                engine.end(id, .slow_consumer);
            },
        }
        return false;
    }

    fn mayBlock(consumer: *const Consumer) bool {
        return consumer.policy == .block or consumer.transaction_policy == .block;
    }

    fn policyFor(engine: *Engine, consumer: *const Consumer, update: *const Update) layout.Policy {
        _ = engine;
        return if (update.kind == .transaction) consumer.transaction_policy else consumer.policy;
    }

    /// It waits in the backlog for room, by the consumer's policy.
    fn wait(engine: *Engine, id: u16, update: *Update) void {
        const consumer = &engine.consumers[id];
        const producer = &consumer.producer.native.ring;
        const policy = engine.policyFor(consumer, update);
        if (policy == .disconnect) {
            engine.lose(id, update);
            return engine.end(id, .slow_consumer);
        }
        if (policy == .drop_newest) return engine.lose(id, update);
        // All that is in the ring is older than this; but what another policy cares for must not go with the rest.
        const drops_oldest = consumer.policy == .drop_oldest and consumer.transaction_policy == .drop_oldest;
        if (drops_oldest) producer.skipCommitted();
        const key: ?*const Key = if (policy == .conflate) if (update.account) |account| &account.pubkey else null else null;
        @as(*FrameHeader, @ptrCast(update.head.ptr)).publish_ns = update.publish_ns;
        var sliced: Sliced = undefined;
        if (consumer.slices.len > 0) Sliced.from(consumer.slices, update, &sliced);
        const head: []align(8) const u8 = if (consumer.slices.len > 0) sliced.head[0..sliced.head_length] else update.head;
        const parts: []const []const u8 = if (consumer.slices.len > 0) sliced.slice() else &.{update.tail};
        while (true) {
            const outcome = consumer.backlog.push(key, head, parts, consumer.mask, update.slot) catch |err| {
                if (err == error.Full and drops_oldest and !consumer.backlog.isEmpty()) {
                    engine.loseWaiting(id);
                    continue;
                }
                return engine.lose(id, update);
            };
            if (outcome == .replaced) engine.countLoss(id, update.kind, outcome.replaced, true);
            break;
        }
        producer.awaitRoom();
        // The consumer may have moved before it could see that we wait.
        _ = engine.flush(id);
    }

    /// The oldest frame of the backlog makes room for a newer one.
    fn loseWaiting(engine: *Engine, id: u16) void {
        const backlog = &engine.consumers[id].backlog;
        const waiting = backlog.front().?;
        const header: *const FrameHeader = @ptrCast(waiting.head.ptr);
        engine.countLoss(id, @fromBackingInt(@intCast(header.kind)), waiting.slot, false);
        backlog.pop();
    }

    /// Moves what waits into the ring, as far as there is room. True: nothing waits any longer.
    pub fn flush(engine: *Engine, id: u16) bool {
        const consumer = engine.consumerAt(id) orelse return true;
        if (consumer.state != .live or consumer.producer != .native) return true;
        const producer = &consumer.producer.native.ring;
        if (!consumer.backlog.isEmpty()) _ = engine.collect(id);
        while (consumer.backlog.front()) |waiting| {
            const header: *const FrameHeader = @ptrCast(waiting.head.ptr);
            // It may have waited while others of its slot were lost.
            if (header.kind == @backingInt(FrameKind.slot)) fillLosses(consumer, waiting.head);
            var payload: Payload = .{ .bytes = waiting.tail };
            defer engine.settle(&payload);
            switch (engine.offerFrame(id, waiting.head, &payload, header.publish_ns, waiting.filter_mask)) {
                .taken => {},
                .full => {
                    engine.commitOne(id);
                    return false;
                },
                .too_large => {
                    engine.loseWaiting(id);
                    continue;
                },
                .corrupt => {
                    engine.end(id, .peer_corrupt);
                    return false;
                },
            }
            consumer.frames += 1;
            consumer.bytes += waiting.head.len + waiting.tail.len;
            if (header.kind != @backingInt(FrameKind.left)) engine.counts.deliveries += 1;
            engine.markDirty(id);
            consumer.backlog.pop();
        }
        producer.stopAwaitingRoom();
        return true;
    }

    /// Tells a consumer of its losses, if no frame has since, now or when there is room.
    fn sayGap(engine: *Engine, id: u16) void {
        const consumer = &engine.consumers[id];
        if (consumer.producer != .native) return;
        const producer = &consumer.producer.native.ring;
        if (producer.lost == 0) {
            consumer.is_gap_due = false;
            return;
        }
        var frame = std.mem.zeroes(extern struct { header: FrameHeader, body: layout.GapBody });
        frame.header.kind = @backingInt(FrameKind.gap);
        frame.body.lost_total = consumer.lost;
        _ = engine.mark(id, std.mem.asBytes(&frame));
    }

    /// `flush` after a wake-up: if that was not enough room, the consumer shall say when there is more. Not within a
    /// publish: a gap that is said here has the sequence of the newest update, which must be before it.
    pub fn flushAwaited(engine: *Engine, id: u16) bool {
        const consumer = engine.consumerAt(id) orelse return true;
        var is_empty = engine.flush(id);
        if (consumer.state != .live) return true;
        if (!is_empty) {
            consumer.producer.native.ring.awaitMoreRoom();
            // It may have moved before it could see that.
            is_empty = engine.flush(id);
        }
        if (consumer.state == .live and consumer.is_gap_due) engine.sayGap(id);
        return is_empty;
    }

    /// A matching update that the consumer does not get.
    fn lose(engine: *Engine, id: u16, update: *const Update) void {
        engine.countLoss(id, update.kind, update.slot, false);
    }

    fn countLoss(engine: *Engine, id: u16, kind: FrameKind, slot: u64, is_conflated: bool) void {
        const consumer = &engine.consumers[id];
        consumer.lost += 1;
        engine.counts.lost += 1;
        if (is_conflated) {
            consumer.conflated += 1;
            engine.counts.conflated += 1;
        }
        if (consumer.producer == .native) consumer.producer.native.ring.countLost(is_conflated);
        consumer.is_gap_due = true;
        if (kind != .account and kind != .transaction) return;
        const losses = consumer.losses orelse blk: {
            const memory = platform.pages(@sizeOf(SlotCounts));
            if (memory.code < 0) return; // the total is right all the same
            const table: *SlotCounts = @ptrFromInt(memory.address);
            table.clear();
            consumer.losses = table;
            break :blk table;
        };
        const counts = losses.of(slot);
        if (kind == .account) counts.accounts += 1 else counts.transactions += 1;
    }

    // Committing

    /// Makes what was published visible, and wakes who sleeps: all cursors, one fence, then all epochs (design D6).
    pub fn commit(engine: *Engine) void {
        engine.batch_ns = 0;
        const dirty = engine.dirty[0..engine.dirty_count];
        if (dirty.len == 0) return;
        for (dirty) |id| {
            const consumer = &engine.consumers[id];
            consumer.is_dirty = false;
            switch (consumer.producer) {
                .native => |producer| _ = producer.ring.commit(engine.newest_slot),
                .v9 => |producer| producer.commit(),
            }
        }
        platform.storeLoadFence();
        for (dirty) |id| switch (engine.consumers[id].producer) {
            // A failed byte means that the peer is gone: its socket's end tells our event loop.
            .native => |producer| _ = producer.notifyIfParked(),
            .v9 => {},
        };
        engine.dirty_count = 0;
    }

    fn commitOne(engine: *Engine, id: u16) void {
        const consumer = &engine.consumers[id];
        if (!consumer.is_dirty) return;
        consumer.is_dirty = false;
        engine.takeFrom(&engine.dirty, &engine.dirty_count, id);
        switch (consumer.producer) {
            .native => |producer| {
                _ = producer.ring.commit(engine.newest_slot);
                platform.storeLoadFence();
                _ = producer.notifyIfParked();
            },
            .v9 => |producer| producer.commit(),
        }
    }

    // Marks

    /// Puts a mark behind all frames of one consumer: a gap, an edit's place in the order, a goodbye. 0, or `full`.
    pub fn mark(engine: *Engine, id: u16, head: []align(8) u8) Code {
        const consumer = engine.consumerAt(id) orelse return codeOf(.bad_argument);
        if (consumer.state == .quarantined) return codeOf(.bad_argument); // it was told its end
        if (consumer.producer != .native) return 0;
        if (head.len < @sizeOf(FrameHeader)) return codeOf(.bad_argument);
        const producer = consumer.producer.native;
        const header: *FrameHeader = @ptrCast(head.ptr);
        if (header.kind == @backingInt(FrameKind.goodbye)) {
            // What has no room now never will: it is lost, and these last words say so.
            _ = engine.flush(id);
            while (!consumer.backlog.isEmpty()) engine.loseWaiting(id);
        }
        if (!consumer.backlog.isEmpty()) return codeOf(.full); // it would overtake what waits
        if (ring.isUpdate(@fromBackingInt(@intCast(header.kind)))) return codeOf(.bad_argument);
        header.sequence = engine.sequence;
        producer.ring.offer(&.{ .head = head, .publish_ns = platform.realtimeNs() }) catch |err| return codeOf(switch (err) {
            error.Full => .full,
            error.TooLarge => .too_large,
            error.PeerCorrupt => .peer_corrupt,
        });
        consumer.is_gap_due = false;
        _ = producer.ring.commit(engine.newest_slot);
        platform.storeLoadFence();
        _ = producer.notifyIfParked();
        if (consumer.is_dirty) {
            consumer.is_dirty = false;
            engine.takeFrom(&engine.dirty, &engine.dirty_count, id);
        }
        return 0;
    }

    // Figures

    pub fn info(engine: *Engine, out: *layout.FanoutInfo) void {
        out.* = .{
            .sequence = @floatFromInt(engine.sequence),
            .accounts = @floatFromInt(engine.counts.accounts),
            .transactions = @floatFromInt(engine.counts.transactions),
            .slots = @floatFromInt(engine.counts.slots),
            .deliveries = @floatFromInt(engine.counts.deliveries),
            .lost = @floatFromInt(engine.counts.lost),
            .conflated = @floatFromInt(engine.counts.conflated),
            .unchanged = @floatFromInt(engine.counts.unchanged),
            .stale = @floatFromInt(engine.counts.stale),
            .tracked = if (engine.tracker) |*tracker| @floatFromInt(tracker.table.len) else 0,
            .newest_slot = @floatFromInt(engine.newest_slot),
            .account_keys = @floatFromInt(engine.index.keyCount(.account)),
            .owner_keys = @floatFromInt(engine.index.keyCount(.owner)),
            .index_bytes = @floatFromInt(engine.index.committedSize()),
            .pool_bytes = if (engine.pool) |*pool| @floatFromInt(pool.memory.len) else 0,
            .pool_used_bytes = if (engine.pool) |*pool| @floatFromInt(pool.usedBytes()) else 0,
        };
    }

    pub fn consumerInfo(engine: *Engine, id: u16, out: *layout.FanoutConsumerInfo) Code {
        const consumer = engine.consumerAt(id) orelse return codeOf(.bad_argument);
        var account_keys: u64 = 0;
        var owner_keys: u64 = 0;
        var takes_transactions = false;
        for (consumer.filters) |filter| if (filter != none) {
            account_keys += engine.filters[filter].account_keys;
            owner_keys += engine.filters[filter].owner_keys;
            takes_transactions = takes_transactions or engine.filters[filter].transactions_place != none;
        };
        const is_awaited = consumer.producer == .native and consumer.producer.native.ring.space_epoch % 2 == 1;
        out.* = .{
            .account_keys = @floatFromInt(account_keys),
            .owner_keys = @floatFromInt(owner_keys),
            .takes_transactions = @floatFromInt(@intFromBool(takes_transactions)),
            .is_awaited = @floatFromInt(@intFromBool(is_awaited)),
            .frames = @floatFromInt(consumer.frames),
            .bytes = @floatFromInt(consumer.bytes),
            .lost = @floatFromInt(consumer.lost),
            .conflated = @floatFromInt(consumer.conflated),
            .waiting_frames = @floatFromInt(consumer.backlog.count),
            .waiting_bytes = @floatFromInt(consumer.backlog.usedBytes()),
            .pool_bytes = if (engine.pool) |*pool| @floatFromInt(pool.pinnedBytes(id)) else 0,
            .gap_due = if (consumer.is_gap_due) 1 else 0,
        };
        return 0;
    }
};
