//! records.zig: what is remembered of accounts, by the tracker: which version came last, what it wrote, which filters it
//! matched; and so which it leaves.
//! May touch: the engine's tracker; an update's refs and leavers. May not touch: rings: what has to be said is delivered.
//! Bounded: by the tracker. What is forgotten counts as changed, and leaves no filter.

const std = @import("std");
const layout = @import("layout.zig");
const key_index = @import("key_index.zig");
const tracker_file = @import("tracker.zig");
const state_file = @import("state.zig");
const engine_file = @import("engine.zig");
const delivery = @import("delivery.zig");
const Engine = engine_file.Engine;
const Filter = engine_file.Filter;
const Update = engine_file.Update;
const none = engine_file.none;
const FilterRef = tracker_file.FilterRef;
const FrameHeader = layout.FrameHeader;
const FrameKind = layout.FrameKind;
const Key = key_index.Key;

/// The consumer was given the account as state, or again: from here on it can leave the filter.
/// @param version What is known to be the newest version, if nothing else is known of the account.
pub fn rememberFor(engine: *Engine, id: u16, account: *const layout.AccountBody, version: ?tracker_file.Version) void {
    const filter = &engine.filters[id];
    const tracker = if (engine.tracker) |*one| one else return;
    if (!filter.is_tracked) return;
    const got = tracker.get(&account.pubkey) orelse return;
    if (got.is_new) if (version) |known| {
        got.record.version = known;
    };
    const ref: FilterRef = .{ .id = id, .generation = filter.generation };
    for (got.record.matched()) |other| if (other.id == ref.id and other.generation == ref.generation) return;
    dropStaleRefs(engine, got.record);
    if (got.record.filter_count == tracker_file.filters_max) return;
    got.record.filters[got.record.filter_count] = ref;
    got.record.filter_count += 1;
}

/// Filters that are gone make room.
fn dropStaleRefs(engine: *Engine, kept: *tracker_file.Record) void {
    var i: u8 = 0;
    while (i < kept.filter_count) {
        const ref = kept.filters[i];
        if (engine.filters[ref.id].generation == ref.generation) {
            i += 1;
            continue;
        }
        kept.filter_count -= 1;
        kept.filters[i] = kept.filters[kept.filter_count];
    }
}

/// The same of what is replayed, for several filters, by their bits.
pub fn rememberAll(engine: *Engine, id: u16, account: ?*const layout.AccountBody, mask: u64) void {
    const body = account orelse return;
    // With state, what was published once may have been taken back since: a version that never was must not keep an
    // older one out, which holds. Older versions are kept out by the state itself.
    const version: ?tracker_file.Version = if (engine.state == null) state_file.orderOf(body) else null;
    for (engine.consumers[id].filters) |filter| {
        if (filter != none and mask & @as(u64, 1) << engine.filters[filter].bit != 0) rememberFor(engine, filter, body, version);
    }
}

/// What is remembered of an account becomes an older version again.
pub fn rewind(engine: *Engine, update: *Update) void {
    const tracker = if (engine.tracker) |*one| one else return;
    const account = update.account.?;
    const found = tracker.find(&account.pubkey) orelse blk: {
        if (update.ref_count == 0) return;
        break :blk (tracker.get(&account.pubkey) orelse return).record;
    };
    for (found.matched()) |ref| findLeaver(engine, update, ref);
    found.version = versionOf(update);
    found.is_recent = true;
    setRefs(engine, found, update.refs[0..update.ref_count]);
    found.digest = null;
}

/// Nothing is known of an account any longer. Consumers that catch up are told so in their own time.
pub fn forgetRecord(engine: *Engine, key: *const Key) void {
    const tracker = if (engine.tracker) |*one| one else return;
    const found = tracker.find(key) orelse return;
    found.version = .{ .source_epoch = 0, .slot = 0, .bank_id = 0, .write_version = 0 };
    setRefs(engine, found, &.{});
    found.digest = null;
}

/// What is not remembered counts as changed.
pub fn isChanged(engine: *Engine, update: *Update) bool {
    if (update.changed) |known| return known;
    const is_changed = if (engine.tracker) |*tracker| blk: {
        const known = tracker.find(&update.account.?.pubkey) orelse break :blk true;
        const before = known.digest orelse break :blk true;
        break :blk known.era != tracker.era or before != digestOf(engine, update);
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

pub fn remember(engine: *Engine, update: *Update, id: u16, filter: *const Filter) void {
    // Who catches up is told in its own time (catch_up.zig).
    if (engine.behind_count > 0 and engine.consumers[filter.consumer].isBehind()) return;
    if (update.ref_count == update.refs.len) return;
    update.refs[update.ref_count] = .{ .id = id, .generation = filter.generation };
    update.ref_count += 1;
}

/// Its key's, made once.
pub fn hashFor(tracker: *const tracker_file.Tracker, update: *Update) u64 {
    const known = update.record_hash orelse tracker.hashOf(&update.account.?.pubkey);
    update.record_hash = known;
    return known;
}

/// Compares the account with what was published of it before. False: an older version, which is not to be published.
pub fn compareWithRecord(engine: *Engine, update: *Update) bool {
    const tracker = if (engine.tracker) |*one| one else return true;
    update.is_guarded = engine.guard != .off and engine.touched_count > 0;
    if (engine.tracked_filters == 0 and !update.is_guarded) {
        tracker.is_blind = true;
        return true;
    }
    update.is_compared = true;
    if (tracker.table.len == 0) return true;
    const found = tracker.findHashed(hashFor(tracker, update), &update.account.?.pubkey) orelse return true;
    update.record = found;
    update.is_stale = engine.guard != .off and versionOf(update).isOlderThan(found.version);
    if (update.is_stale and engine.guard == .drop) {
        engine.counts.stale += 1;
        return false;
    }
    for (found.matched()) |ref| findLeaver(engine, update, ref);
    return true;
}

/// Remembers the account as it is published. Who is in no filter, and was in none, leaves no trace.
pub fn record(engine: *Engine, update: *Update) void {
    if (!update.is_compared) return;
    const tracker = &engine.tracker.?;
    const kept = update.record orelse blk: {
        if (update.ref_count == 0 and !update.is_guarded) return;
        break :blk (tracker.getHashed(hashFor(tracker, update), &update.account.?.pubkey) orelse return).record;
    };
    if (update.is_stale) engine.counts.stale += 1 else kept.version = versionOf(update);
    kept.is_recent = true;
    setRefs(engine, kept, update.refs[0..update.ref_count]);
    // Who keeps the newest version does not have an older one that came late: what follows it counts as changed.
    kept.digest = if (engine.change_filters > 0 and !update.is_stale) digestOf(engine, update) else null;
    kept.era = tracker.era;
}

/// The filters that match it now; those of consumers that catch up stay as they were told.
fn setRefs(engine: *Engine, kept: *tracker_file.Record, matching: []const FilterRef) void {
    var refs: [tracker_file.filters_max]FilterRef = undefined;
    var count: u8 = @intCast(matching.len);
    @memcpy(refs[0..count], matching);
    if (engine.behind_count > 0) for (kept.matched()) |ref| {
        const filter = &engine.filters[ref.id];
        if (filter.generation != ref.generation or filter.consumer == none or count == refs.len) continue;
        if (!engine.consumers[filter.consumer].isBehind()) continue;
        refs[count] = ref;
        count += 1;
    };
    kept.filter_count = count;
    @memcpy(kept.filters[0..count], refs[0..count]);
}

/// Takes filters of a consumer, by their bits, out of what is remembered of an account. Returns those that were there.
pub fn forgetFor(engine: *Engine, id: u16, key: *const Key, mask: u64) u64 {
    const tracker = if (engine.tracker) |*one| one else return 0;
    const found = tracker.find(key) orelse return 0;
    var gone: u64 = 0;
    var i: u8 = 0;
    while (i < found.filter_count) {
        const ref = found.filters[i];
        const filter = &engine.filters[ref.id];
        const bit = @as(u64, 1) << filter.bit;
        if (filter.generation == ref.generation and filter.consumer == id and mask & bit != 0) {
            gone |= bit;
            found.filter_count -= 1;
            found.filters[i] = found.filters[found.filter_count];
        } else i += 1;
    }
    return gone;
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
    if (engine.behind_count > 0 and engine.consumers[filter.consumer].isBehind()) return;
    const bit = @as(u64, 1) << filter.bit;
    const consumer = &engine.consumers[filter.consumer];
    if (consumer.stamp == engine.stamp and consumer.mask & bit != 0) return;
    // It matches, and is not sent to, since nothing has changed. (More may match than the update's refs hold.)
    if (filter.stamp == engine.stamp) return;
    for (update.leavers[0..update.leaver_count]) |*leaver| {
        if (leaver.consumer != filter.consumer) continue;
        leaver.mask |= bit;
        return;
    }
    update.leavers[update.leaver_count] = .{ .consumer = filter.consumer, .mask = bit };
    update.leaver_count += 1;
}

/// What `left` and `withdrawn` say: which account, by the version that took it away.
pub const Departure = extern struct { header: FrameHeader, body: layout.LeftBody };

/// @param header Of that version's frame, or zeros for a frame that still gets its place in the order.
pub fn departure(kind: FrameKind, header: FrameHeader, account: *const layout.AccountBody) Departure {
    var frame: Departure = .{
        .header = header,
        .body = .{
            .pubkey = account.pubkey,
            .owner = account.owner,
            .lamports = account.lamports,
            .slot = account.slot,
            .bank_id = account.bank_id,
            .write_version = account.write_version,
        },
    };
    frame.header.kind = @backingInt(kind);
    frame.header.flags = 0;
    return frame;
}

/// The update that a departure's frame is. It holds as long as the frame.
pub fn departureUpdate(kind: FrameKind, frame: *Departure, publish_ns: u64, is_due: bool) Update {
    return .{
        .kind = kind,
        .head = std.mem.asBytes(frame),
        .tail = &.{},
        .slot = frame.body.slot,
        .publish_ns = publish_ns,
        .payload = .{ .bytes = &.{} },
        .is_due = is_due,
    };
}

/// Tells a consumer that the account matches these filters no longer.
pub fn sayLeft(engine: *Engine, id: u16, mask: u64, update: *const Update) void {
    const header: *const FrameHeader = @ptrCast(update.head.ptr);
    var frame = departure(.left, header.*, update.account.?);
    var left = departureUpdate(.left, &frame, update.publish_ns, update.is_due);
    engine.consumers[id].mask = mask;
    engine.consumers[id].slices = &.{};
    _ = delivery.deliver(engine, id, &left);
}
