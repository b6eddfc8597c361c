//! engine.zig: the fan-out of one sender: what it consists of, made and unmade, and what is asked of it. What it does stands
//! in rooms, as functions of an engine: `consumers`, `edits`, `publishing`, `groups`, `matching`, `records`, `delivery`,
//! `waiting`, `marks`, `figures`.
//! May touch, with its rooms: its consumers' rings, the index, backlogs, the pool. May not touch: links, sockets, clocks but
//! for the time of a frame; what JavaScript has to decide or to close is told by `nextEvent`.
//! Why nothing here waits: a consumer is no reason to hold up the others. Threads of one process take turns by `lock`,
//! which is held for one call (design D10).

const std = @import("std");
const layout = @import("layout.zig");
const platform = @import("platform/mod.zig");
const region = @import("region.zig");
const connection = @import("connection.zig");
const key_index = @import("key_index.zig");
const filter_program = @import("filter_program.zig");
const v9 = @import("v9/ends.zig");
const Backlog = @import("backlog.zig").Backlog;
const Lock = @import("lock.zig").Lock;
const Pool = @import("pool.zig").Pool;
const Block = @import("pool.zig").Block;
const stat_page = @import("stat_page.zig");
const slot_counts = @import("slot_counts.zig");
const SlotCounts = slot_counts.SlotCounts;
const Signatures = @import("signatures.zig").Signatures;
const tracker_file = @import("tracker.zig");
const Tracker = tracker_file.Tracker;
const FilterRef = tracker_file.FilterRef;
const demand_file = @import("demand.zig");
const Demand = demand_file.Demand;
const snapshots = @import("snapshots.zig");
const catch_up = @import("catch_up.zig");
const History = @import("history.zig").History;
const state_file = @import("state.zig");
const State = state_file.State;
const consumers = @import("consumers.zig");
const edits = @import("edits.zig");
const publishing = @import("publishing.zig");
const groups = @import("groups.zig");
const waiting = @import("waiting.zig");
const marks = @import("marks.zig");
const figures = @import("figures.zig");
const FrameKind = layout.FrameKind;
const KeyIndex = key_index.KeyIndex;
const Key = key_index.Key;
const Code = platform.Code;
const Status = layout.Status;

pub const consumers_max = layout.fanout_consumers_max;
pub const filters_max = layout.filters_max;
pub const filters_per_consumer = 64;
/// Keys of one kind in one edit: as many as fit into a list of version 9; ours are shorter.
pub const keys_per_edit_max = layout.v9_list_keys_max;
/// Updates whose keys are looked up together.
pub const look_ahead = 64;
pub const reading_interval_ns = 200 * std.time.ns_per_ms;
/// Stands for no filter and no consumer.
pub const none = std.math.maxInt(u16);
/// What an edit of the index may cost a publish, in nanoseconds, while the filters of those who left are swept out.
pub const sweep_budget = 2_000;

pub fn codeOf(status: Status) Code {
    return @backingInt(status);
}

/// One named filter of one consumer, and what the index calls a consumer: it maps keys to sets of these.
pub const Filter = struct {
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
    /// Stands in `signatures` instead.
    is_signed: bool = false,
    /// A filter of transactions that the index has keys of: one of those must be the transaction's.
    is_keyed: bool = false,
    /// Of transactions by key: the update that it was tried for last. Of accounts: the last one that it matches and was not
    /// sent, since it changes nothing.
    stamp: u64 = 0,
    /// Requests for its state that are not answered.
    snapshots: u16 = 0,

    /// Any transaction may match it, whatever it names.
    pub fn takesTransactions(filter: *const Filter) bool {
        return filter.transactions_place != none or filter.is_signed;
    }
};

pub const Slices = []align(1) const layout.FilterRange;

pub const Producer = union(enum) {
    native: *connection.ProducerEnd,
    v9: *v9.ProducerEnd,
};

pub const LossReason = layout.LossReason;
/// By reason.
pub const LossCounts = [layout.loss_reasons]u64;

pub const Consumer = struct {
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
    /// Holds frames, or figures, that are not committed.
    is_dirty: bool = false,
    /// The update that it has room for, if that goes into the pool: what others are given before it changes nothing.
    promised_stamp: u64 = 0,
    /// Losses that no frame has reported.
    is_gap_due: bool = false,
    /// An edit of its filters that no mark has told of: there was no room. A newer edit's mark says all that an older one's would.
    is_edit_due: bool = false,
    /// The newest edit that a mark was asked for.
    marked_generation: u32 = 0,
    /// Of what waits in the backlog: frames that may use the reserved room; marks of edits among them.
    waiting_marks: u32 = 0,
    waiting_edits: u32 = 0,
    /// Since when it has given nothing back while such a frame or mark found no room, in time that counts, and where it stood.
    is_stalled: bool = false,
    stalled_ms: u32 = 0,
    stalled_at: u64 = 0,
    /// The update that matched last, and by which filters.
    stamp: u64 = 0,
    mask: u64 = 0,
    /// What of the data travels; none: all of it.
    slices: Slices = &.{},
    filters: [filters_per_consumer]u16 = @splat(none),
    /// Of these, and the staged one.
    filter_count: u8 = 0,
    /// Being made: takes the place of the filter with its bit when it is complete.
    staged: u16 = none,
    frames: u64 = 0,
    bytes: u64 = 0,
    /// Matching updates that were not written for it.
    lost: u64 = 0,
    /// The same by reason, and with them those that were written and that it says it has skipped.
    lost_by: LossCounts = @splat(0),
    /// Why a frame found no room when that happened last.
    refused_by: LossReason = .ring_full,
    /// Counts of losses that the stat page does not have.
    is_loss_due: bool = false,
    end_reason: layout.EndReason = .none,
    backlog: Backlog = .{ .bytes_max = 0, .seed = @splat(0) },
    /// Once something was lost, or had to wait.
    missing: ?*slot_counts.Missing = null,
    /// Counts the edits of its filters.
    generation: u32 = 0,
    /// Requests for state.
    snapshots: snapshots.Queue = .{},
    /// A publish was refused for its sake.
    is_blocking: bool = false,

    /// Where it is, if it was resumed and is not live yet.
    progress: catch_up.Resume = .{},
    /// Its wake goes on with it.
    waits_for_room: bool = false,
    /// It is to take over, and is told also what is kept and not published.
    is_heir: bool = false,

    /// It gets nothing but from the history.
    pub fn isBehind(consumer: *const Consumer) bool {
        return consumer.progress.state != .live;
    }
};

/// A list of filters without order: adding and removing take constant time.
pub const FilterList = struct {
    items: [filters_max]u16 = undefined,
    len: u16 = 0,

    pub fn add(list: *FilterList, filter: u16) u16 {
        list.items[list.len] = filter;
        list.len += 1;
        return list.len - 1;
    }

    /// Returns the filter that has moved to `place`, or `none`.
    pub fn remove(list: *FilterList, place: u16) u16 {
        list.len -= 1;
        if (place == list.len) return none;
        list.items[place] = list.items[list.len];
        return list.items[place];
    }

    pub fn slice(list: *const FilterList) []const u16 {
        return list.items[0..list.len];
    }
};

pub const Options = struct {
    seed: [2]u64,
    keys_max: u32,
    /// In all of its filters together: see `edits`.
    keys_per_consumer_max: u32,
    /// Consumers that may be there at a time; 0: no filters are kept back for who may come.
    consumers_permitted: u32 = 0,
    pool_bytes: u32 = 0,
    pool_threshold: u32 = std.math.maxInt(u32),
    tracked_max: u32 = 0,
    guard: Guard = .off,
    /// Most bytes of the state; 0: there is none.
    state_bytes: usize = 0,
    state_keeps_all: bool = false,
    /// Bytes of the history; 0: there is none.
    history_bytes: usize = 0,
    /// The id of the stat page; null: there is none.
    stat_id: ?[16]u8 = null,
    stall_ms: u32 = std.math.maxInt(u32),
};

/// What becomes of an older version of an account after a newer one.
pub const Guard = enum(u8) { off = 0, count = 1, drop = 2 };

/// The bytes behind a head, and the block of the pool that they were written into once somebody wanted them from there.
pub const Payload = struct {
    bytes: []const u8,
    block: ?Block = null,
    /// For its sake all consumers were asked what they have given back.
    has_collected: bool = false,
};

/// The update that is being published.
pub const Update = struct {
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
    /// Filters that match it and do not get it, since it changes nothing.
    unchanged: u16 = 0,
    /// What is remembered of the account, if it was compared with that; and what came of it.
    record: ?*tracker_file.Record = null,
    /// Its key's, for the tracker, once that was asked.
    record_hash: ?u64 = null,
    is_compared: bool = false,
    is_guarded: bool = false,
    is_stale: bool = false,
    /// The tracked filters that match.
    refs: [tracker_file.filters_max]FilterRef = undefined,
    ref_count: u8 = 0,
    /// The consumers that the account leaves filters of, and which.
    leavers: [tracker_file.filters_max]struct { consumer: u16, mask: u64 } = undefined,
    leaver_count: u8 = 0,
    /// A part of something that has begun: it waits where others would be refused.
    is_due: bool = false,

    pub fn deinit(update: *Update) void {
        update.v9_frame.deinit();
    }
};

/// What `publishMany` is at. Not on its stack: some 40 KB, which a safe build would fill each time.
pub const Group = struct {
    updates: [look_ahead]Update,
    /// Where each ends in the buffer.
    ends: [look_ahead]usize,
    /// What the index has found for each, by kind of key.
    sets: [2][look_ahead]key_index.SetId,
    // What is looked up: of those updates that are of accounts.
    keys: [2][look_ahead]*const Key,
    places: [look_ahead]u8,
    found: [look_ahead]key_index.SetId,
    // What is asked for.
    hashes: [look_ahead]u64,
    wanted: [look_ahead]key_index.SetId,
    filters: [look_ahead]u16,
    consumers: [look_ahead]u16,
};

pub const Engine = struct {
    lock: Lock = .{},
    index: *KeyIndex,
    /// Sequence of the newest update; 0 before the first.
    sequence: u64 = 0,
    newest_slot: u64 = 0,
    /// The same, as all rings have been told.
    told_slot: u64 = 0,
    /// The time of an open batch; 0 for none.
    batch_ns: u64 = 0,
    /// When anything was published last.
    published_ns: u64 = 0,
    /// When the stat page was told last how far consumers have read, besides by the beat.
    reading_shown_ns: u64 = 0,
    /// What updates are stamped with, where somebody else says what time it is; 0: the machine's clock.
    clock_ns: u64 = 0,
    counts: struct {
        accounts: u64 = 0,
        transactions: u64 = 0,
        slots: u64 = 0,
        deliveries: u64 = 0,
        lost_by: LossCounts = @splat(0),
        is_loss_due: bool = false,
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
    /// Filters that are kept back for each consumer that may be there, for all of them, and how many of those they have.
    kept_each: u32 = 0,
    kept_count: u32 = 0,
    kept_taken: u32 = 0,
    any_accounts: FilterList = .{},
    transactions: FilterList = .{},
    /// Filters of transactions that are found by a signature.
    signatures: Signatures = .{},
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
    /// Another sender takes the order of updates over: nobody publishes.
    is_frozen: bool = false,
    union_buffer: [filters_max]u16 = undefined,
    group: Group = undefined,
    /// Of an edit's keys, by kind: those that were not there already.
    added: [2][keys_per_edit_max / key_index.batch_max]u64 = undefined,
    /// The keys of a transaction that are looked up together.
    probes: struct { keys: [look_ahead]*const Key, sets: [look_ahead]key_index.SetId } = undefined,
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
    /// How long a consumer may leave no room for marks.
    stall_ms: u32 = std.math.maxInt(u32),
    /// From the first question for it on.
    demand: ?Demand = null,
    state: ?State = null,
    history: ?History = null,
    /// Consumers that are held, or catch up.
    behind_count: u32 = 0,
    heir_count: u32 = 0,
    /// Of a sender that takes over: all of what it asked for has come.
    is_seeded: bool = false,
    /// Accounts that the senders before had forgotten.
    inherited_evicted: u64 = 0,
    verdict: @import("forks.zig").Verdict = .{},
    /// Not all that dead banks wrote is taken back.
    is_rolling_back: bool = false,
    /// How much of that a call does. Tests have less.
    rollback_pace: @import("rollback.zig").Pace = .{},
    /// Requests for state that are not answered, and bytes of their keys.
    snapshot_count: u32 = 0,
    request_bytes: usize = 0,
    /// Snapshots, or what is taken back, wait for nothing but time.
    has_work: bool = false,
    pump_turn: u32 = 0,

    stats: ?stat_page.StatPage = null,

    // What is asked of it, room by room.

    pub const add = consumers.add;
    pub const remove = consumers.remove;
    pub const nextEvent = consumers.nextEvent;
    pub const sweep = consumers.sweep;
    pub const Edit = edits.Edit;
    pub const edit = edits.edit;
    pub const keepBack = edits.keepBack;
    pub const startDemand = edits.startDemand;
    pub const collectDemand = edits.collectDemand;
    pub const wants = edits.wants;
    pub const publish = publishing.publish;
    pub const commit = publishing.commit;
    pub const seed = publishing.seed;
    pub const adopt = publishing.adopt;
    pub const Item = groups.Item;
    pub const publishMany = groups.publishMany;
    pub const flush = waiting.flush;
    pub const flushAwaited = waiting.flushAwaited;
    pub const startHeld = waiting.startHeld;
    pub const pumpOn = waiting.pumpOn;
    pub const finishRollback = @import("rollback.zig").finish;
    pub const mark = marks.mark;
    pub const info = figures.info;
    pub const consumerInfo = figures.consumerInfo;
    pub const identify = figures.identify;
    pub const beat = figures.beat;

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
        if (options.state_bytes > 0) engine.state = try .init(.{}, .{ options.seed[0], ~options.seed[1] }, options.state_bytes, options.state_keeps_all);
        errdefer if (engine.state) |*state| state.deinit();
        if (options.history_bytes > 0) engine.history = try .init(options.history_bytes);
        errdefer if (engine.history) |*history| history.deinit();
        if (options.stat_id) |id| engine.stats = try .create(id);
        errdefer if (engine.stats) |page| page.destroy();
        engine.stall_ms = options.stall_ms;
        edits.keepBack(engine, options.consumers_permitted);
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
        engine.demand = null;
        engine.state = null;
        engine.history = null;
        engine.guard = .off;
        engine.stats = null;
        engine.rollback_pace = .{};
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
        for (0..consumers_max) |id| consumers.remove(engine, @intCast(id), true);
        if (engine.pool) |*pool| {
            const memory = pool.memory;
            pool.deinit();
            platform.unmap(@intFromPtr(memory.ptr), memory.len);
            closeMemory(engine.pool_memory);
        }
        if (engine.stats) |page| page.destroy();
        engine.stats = null;
        engine.rollback_pace = .{};
        for (&engine.filters) |*filter| edits.freeProgram(filter);
        if (engine.tracker) |*tracker| tracker.deinit();
        if (engine.demand) |*demand| demand.deinit();
        if (engine.state) |*state| state.deinit();
        if (engine.history) |*history| history.deinit();
        engine.index.destroy();
        platform.unmap(@intFromPtr(engine), @sizeOf(Engine));
    }

    /// The pool is about to reuse what an evicted consumer may be looking at. Its ring is still pinned, to be told here.
    fn onReuse(context: *anyopaque, id: u16) void {
        const engine: *Engine = @ptrCast(@alignCast(context));
        engine.consumers[id].producer.native.ring.revoke();
    }
};
