//! figures.zig: what the engine counts, for who asks by a call and for who looks at the stat page.
//! May touch: the stat page. May not touch: anything else, but to read it; a ring's cursor is read anew.
//! Why by copies: the page is another process's to read at any time, the engine's own counts are not.

const std = @import("std");
const layout = @import("layout.zig");
const platform = @import("platform/mod.zig");
const stat_page = @import("stat_page.zig");
const engine_file = @import("engine.zig");
const consumers = @import("consumers.zig");
const marks = @import("marks.zig");
const Engine = engine_file.Engine;
const Consumer = engine_file.Consumer;
const none = engine_file.none;
const codeOf = engine_file.codeOf;
const LossCounts = engine_file.LossCounts;
const Code = platform.Code;

pub fn info(engine: *Engine, out: *layout.FanoutInfo) void {
    for (engine.live[0..engine.live_count]) |id| marks.noteSkipped(engine, &engine.consumers[id]);
    out.* = .{
        .sequence = @floatFromInt(engine.sequence),
        .accounts = @floatFromInt(engine.counts.accounts),
        .transactions = @floatFromInt(engine.counts.transactions),
        .slots = @floatFromInt(engine.counts.slots),
        .deliveries = @floatFromInt(engine.counts.deliveries),
        .lost_by = floats(&engine.counts.lost_by),
        .unchanged = @floatFromInt(engine.counts.unchanged),
        .stale = @floatFromInt(engine.counts.stale),
        .tracked = if (engine.tracker) |*tracker| @floatFromInt(tracker.table.len) else 0,
        .newest_slot = @floatFromInt(engine.newest_slot),
        .account_keys = @floatFromInt(engine.index.keyCount(.account)),
        .owner_keys = @floatFromInt(engine.index.keyCount(.owner)),
        .index_bytes = @floatFromInt(engine.index.committedSize()),
        .pool_bytes = if (engine.pool) |*pool| @floatFromInt(pool.memory.len) else 0,
        .pool_used_bytes = if (engine.pool) |*pool| @floatFromInt(pool.usedBytes()) else 0,
        .state_bytes = if (engine.state) |*state| @floatFromInt(state.usedBytes()) else 0,
        .state_accounts = if (engine.state) |*state| @floatFromInt(state.table.len) else 0,
        .state_versions = if (engine.state) |*state| @floatFromInt(state.versions) else 0,
        .state_evicted = if (engine.state) |*state| @floatFromInt(state.evicted) else 0,
        .rollbacks = if (engine.state) |*state| @floatFromInt(state.rollbacks) else 0,
        .rolled_back = if (engine.state) |*state| @floatFromInt(state.rolled_back) else 0,
        .history_bytes = if (engine.history) |*history| @floatFromInt(history.usedBytes()) else 0,
        .history_from = if (engine.history) |*history| @floatFromInt(history.from()) else -1,
    };
}

fn floats(counts: *const LossCounts) [counts.len]f64 {
    var out: [counts.len]f64 = undefined;
    for (&out, counts) |*to, count| to.* = @floatFromInt(count);
    return out;
}

fn putAll(words: *LossCounts, values: *const LossCounts) void {
    for (words, values) |*word, value| stat_page.put(word, value);
}

pub fn showCounts(engine: *Engine, page: stat_page.StatPage) void {
    const header = page.header();
    const put = stat_page.put;
    put(&header.sequence, engine.sequence);
    put(&header.accounts, engine.counts.accounts);
    put(&header.transactions, engine.counts.transactions);
    put(&header.slots, engine.counts.slots);
    put(&header.deliveries, engine.counts.deliveries);
    if (engine.counts.is_loss_due) putAll(&header.lost_by, &engine.counts.lost_by);
    engine.counts.is_loss_due = false;
    put(&header.newest_slot, engine.newest_slot);
    put(&header.publish_ns, engine.published_ns);
}

/// What changes with every frame.
pub fn showConsumer(engine: *Engine, page: stat_page.StatPage, id: u16) void {
    const consumer = &engine.consumers[id];
    const entry = page.entry(id);
    const put = stat_page.put;
    put(&entry.frames, consumer.frames);
    put(&entry.bytes, consumer.bytes);
    if (consumer.is_loss_due) putAll(&entry.lost_by, &consumer.lost_by);
    consumer.is_loss_due = false;
    put(&entry.waiting_frames, consumer.backlog.count);
    put(&entry.waiting_bytes, consumer.backlog.usedBytes());
    switch (consumer.producer) {
        .native => |producer| {
            put(&entry.ordinal, producer.ring.matched());
            put(&entry.parked, @intFromBool(producer.ring.isParked()));
            put(&entry.wakes, producer.wakes);
        },
        .v9 => {},
    }
}

/// A consumer is known by more than its number. 0, or `bad_argument`.
pub fn identify(engine: *Engine, id: u16, identity: *const layout.StatIdentity) Code {
    const consumer = consumers.consumerAt(engine, id) orelse return codeOf(.bad_argument);
    if (consumer.state != .live) return codeOf(.bad_argument);
    const page = engine.stats orelse return 0;
    page.identify(id, identity);
    showAll(engine, page, id);
    return 0;
}

/// The sender's event loop runs. 1: there is a page.
pub fn beat(engine: *Engine, given: *const layout.StatBeat) Code {
    const page = engine.stats orelse return 0;
    page.beat(given);
    var counts: layout.FanoutInfo = undefined;
    info(engine, &counts); // which asks consumers what they have skipped
    showCounts(engine, page);
    const header = page.header();
    inline for (.{ "unchanged", "account_keys", "owner_keys", "tracked", "index_bytes", "pool_bytes", "pool_used_bytes" }) |name| {
        stat_page.put(&@field(header, name), @intFromFloat(@field(counts, name)));
    }
    stat_page.put(&header.older_versions, engine.counts.stale);
    for (engine.live[0..engine.live_count]) |id| showAll(engine, page, id);
    return 1;
}

fn showAll(engine: *Engine, page: stat_page.StatPage, id: u16) void {
    const consumer = &engine.consumers[id];
    const entry = page.entry(id);
    const put = stat_page.put;
    var counts: layout.FanoutConsumerInfo = undefined;
    if (consumerInfo(engine, id, &counts) < 0) return;
    inline for (.{ "account_keys", "owner_keys", "takes_transactions", "pool_bytes" }) |name| {
        put(&@field(entry, name), @intFromFloat(@field(counts, name)));
    }
    var filters: u64 = 0;
    for (consumer.filters) |filter| filters += @intFromBool(filter != none);
    put(&entry.filters, filters);
    switch (consumer.producer) {
        .native => |producer| {
            put(&entry.ring_bytes, producer.ring.capacity);
        },
        .v9 => |producer| {
            var info_of_ring: layout.RingInfo = undefined;
            if (producer.info(&info_of_ring) >= 0) {
                put(&entry.ring_bytes, @intFromFloat(info_of_ring.capacity_bytes));
                put(&entry.producer_cursor, @intFromFloat(info_of_ring.producer_cursor));
                put(&entry.consumer_cursor, @intFromFloat(info_of_ring.consumer_cursor));
            }
        },
    }
    showConsumer(engine, page, id);
    showReading(engine, page, id);
}

/// How far a consumer has read: looked at together, so that the difference means something.
pub fn showReading(engine: *Engine, page: stat_page.StatPage, id: u16) void {
    const consumer = &engine.consumers[id];
    const producer = switch (consumer.producer) {
        .native => |one| one,
        .v9 => return,
    };
    const entry = page.entry(id);
    // Where the cursor is nonsense, the sweep finds out.
    _ = producer.ring.sync() catch {};
    stat_page.put(&entry.producer_cursor, producer.ring.committed);
    stat_page.put(&entry.consumer_cursor, producer.ring.consumer_cursor_cached);
    stat_page.copyReport(&entry.read, &producer.ring.page.read);
    const is_behind = producer.ring.consumer_cursor_cached < producer.ring.committed or consumer.backlog.count > 0;
    // Who has never read anything is behind by the oldest frame that it has.
    const read_ns = if (entry.read.publish_ns > 0) entry.read.publish_ns else producer.ring.oldestNs();
    stat_page.put(&entry.behind_ns, if (is_behind and read_ns > 0) engine.published_ns -| read_ns else 0);
}

const Unread = struct { frames: u64 = 0, oldest_ns: u64 = 0 };

/// What a consumer has not given back, as its cursor says now.
fn unreadOf(consumer: *Consumer) Unread {
    const producer = switch (consumer.producer) {
        .native => |one| &one.ring,
        .v9 => return .{},
    };
    // Where the cursor is nonsense, the sweep finds out.
    producer.sync() catch {};
    const in_ring_ns = producer.oldestNs();
    return .{ .frames = producer.unreadFrames(), .oldest_ns = if (in_ring_ns > 0) in_ring_ns else oldestWaitingNs(consumer) };
}

fn oldestWaitingNs(consumer: *Consumer) u64 {
    const waiting = consumer.backlog.front() orelse return 0;
    const header: *const layout.FrameHeader = @ptrCast(waiting.head.ptr);
    return header.publish_ns;
}

pub fn consumerInfo(engine: *Engine, id: u16, out: *layout.FanoutConsumerInfo) Code {
    const consumer = consumers.consumerAt(engine, id) orelse return codeOf(.bad_argument);
    var account_keys: u64 = 0;
    var owner_keys: u64 = 0;
    var takes_transactions = false;
    for (consumer.filters) |filter| if (filter != none) {
        account_keys += engine.filters[filter].account_keys;
        owner_keys += engine.filters[filter].owner_keys;
        takes_transactions = takes_transactions or engine.filters[filter].takesTransactions();
    };
    if (consumer.state != .quarantined) marks.noteSkipped(engine, consumer);
    // Who lags at a snapshot holds up nobody.
    const is_waited_for = consumer.is_blocking or !consumer.waits_for_room;
    const unread: Unread = if (consumer.state != .quarantined) unreadOf(consumer) else .{};
    const is_awaited = consumer.producer == .native and consumer.producer.native.ring.space_epoch % 2 == 1 and is_waited_for;
    out.* = .{
        .account_keys = @floatFromInt(account_keys),
        .owner_keys = @floatFromInt(owner_keys),
        .takes_transactions = @floatFromInt(@intFromBool(takes_transactions)),
        .is_awaited = @floatFromInt(@intFromBool(is_awaited)),
        .frames = @floatFromInt(consumer.frames),
        .bytes = @floatFromInt(consumer.bytes),
        .lost_by = floats(&consumer.lost_by),
        .waiting_frames = @floatFromInt(consumer.backlog.count),
        .waiting_bytes = @floatFromInt(consumer.backlog.usedBytes()),
        .pool_bytes = if (engine.pool) |*pool| @floatFromInt(pool.pinnedBytes(id)) else 0,
        .gap_due = if (consumer.is_gap_due) 1 else 0,
        .snapshots = @floatFromInt(consumer.snapshots.count),
        .is_behind = @floatFromInt(@intFromBool(consumer.isBehind())),
        .edit_due = if (consumer.is_edit_due) 1 else 0,
        .unread_frames = @floatFromInt(unread.frames),
        .oldest_us = @as(f64, @floatFromInt(unread.oldest_ns)) / std.time.ns_per_us,
    };
    return 0;
}
