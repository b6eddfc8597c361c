//! groups.zig: many updates in one call: their keys are looked up together, so that reads from memory overlap.
//! May touch: the engine's `group`; the index and consumers, to ask for their cache lines. May not touch: the order: each
//! update is published by itself (publishing.zig).
//! Why what was looked up stays good: the index is swept only between groups.

const std = @import("std");
const platform = @import("platform/mod.zig");
const key_index = @import("key_index.zig");
const engine_file = @import("engine.zig");
const publishing = @import("publishing.zig");
const matching = @import("matching.zig");
const delivery = @import("delivery.zig");
const records = @import("records.zig");
const waiting = @import("waiting.zig");
const Engine = engine_file.Engine;
const none = engine_file.none;
const look_ahead = engine_file.look_ahead;
const codeOf = engine_file.codeOf;
const Code = platform.Code;

/// Starts each update of `publishMany`; head and tail follow, each padded to 8 bytes.
pub const Item = extern struct { head_length: u32, tail_length: u32 };

/// Publishes updates that stand one behind the other, unseen until `commit`. Their keys are looked up in groups, so
/// that reads from memory overlap. Returns the number of deliveries; stops at the first update that can't be
/// published, which `done` says the place of.
pub fn publishMany(engine: *Engine, bytes: []align(8) u8, done: *usize) Code {
    var reached: Code = 0;
    while (done.* < bytes.len) {
        const group = &engine.group;
        const count_ = parseSome(engine, bytes, done.*);
        if (count_ == 0) return codeOf(.bad_argument);
        lookUp(engine, count_);
        for (group.updates[0..count_], 0..) |*update, i| {
            defer update.deinit();
            publishing.makeReady(engine, update);
            switch (update.kind) {
                .account => matching.matchSets(engine, update, group.sets[0][i], group.sets[1][i]),
                .transaction => matching.matchTransaction(engine, update),
                else => matching.matchSlot(engine, update),
            }
            const code = publishing.publishMatched(engine, update, true);
            if (code < 0) return code;
            reached += code;
            done.* = group.ends[i];
        }
        publishing.sweepSome(engine);
        if (engine.has_work) waiting.pump(engine, waiting.pump_publish_ns);
    }
    return reached;
}

fn parseSome(engine: *Engine, bytes: []align(8) u8, start: usize) usize {
    var at = start;
    var found: usize = 0;
    while (found < look_ahead and bytes.len - at >= @sizeOf(Item)) : (found += 1) {
        const item: *const Item = @ptrCast(@alignCast(bytes[at..].ptr));
        at += @sizeOf(Item);
        const head_size = std.mem.alignForward(usize, item.head_length, 8);
        const tail_size = std.mem.alignForward(usize, item.tail_length, 8);
        if (head_size + tail_size > bytes.len - at) break;
        const head: []align(8) u8 = @alignCast(bytes[at..][0..item.head_length]);
        if (!publishing.parse(engine, head, bytes[at + head_size ..][0..item.tail_length], &engine.group.updates[found])) break;
        at += head_size + tail_size;
        engine.group.ends[found] = at;
    }
    return found;
}

fn lookUp(engine: *Engine, count_: usize) void {
    const group = &engine.group;
    var accounts: usize = 0;
    for (group.updates[0..count_], 0..) |*update, i| {
        const account = update.account orelse continue;
        group.keys[0][accounts] = &account.pubkey;
        group.keys[1][accounts] = &account.owner;
        group.places[accounts] = @intCast(i);
        accounts += 1;
    }
    for (0..2) |kind| {
        const found = group.found[0..accounts];
        engine.index.lookupBatch(@fromBackingInt(@intCast(kind)), group.keys[kind][0..accounts], found);
        for (group.places[0..accounts], found) |place, set| group.sets[kind][place] = set;
        askForMatches(engine, found);
    }
    askForRecords(engine, group.places[0..accounts]);
}

/// And what comparing them with what is remembered reads: as a rule of those that somebody wants, of all where an account
/// that nobody wants may have left a filter.
fn askForRecords(engine: *Engine, places: []const u8) void {
    const tracker = if (engine.tracker) |*one| one else return;
    if (engine.tracked_filters == 0 and engine.guard == .off) return;
    const is_any = engine.any_accounts.len > 0 or (engine.tracked_filters > 0 and tracker.table.len > 0);
    const group = &engine.group;
    var count_: usize = 0;
    for (places) |place| {
        if (!is_any and group.sets[0][place] == key_index.empty and group.sets[1][place] == key_index.empty) continue;
        group.hashes[count_] = records.hashFor(tracker, &group.updates[place]);
        tracker.askForKey(group.hashes[count_]);
        count_ += 1;
    }
    for (group.hashes[0..count_]) |hash| tracker.askForRecord(hash);
}

/// What a match needs stands behind five pointers, none of them in a cache when there are many consumers. For a group
/// of updates each step is asked for before the next one is taken, so that the waits overlap. Of each set, the first
/// filter: where many match, the others cost more than the wait.
fn askForMatches(engine: *Engine, sets: []const key_index.SetId) void {
    const group = &engine.group;
    var count_: usize = 0;
    for (sets) |set| {
        if (set == key_index.empty) continue;
        engine.index.sets.askFor(set);
        group.wanted[count_] = set;
        count_ += 1;
    }
    if (count_ < 2) return;
    for (group.wanted[0..count_]) |set| engine.index.sets.askForMembers(set);
    for (group.wanted[0..count_], group.filters[0..count_]) |set, *filter| {
        const members = engine.index.sets.members(set);
        filter.* = if (members.len > 0) members[0] else 0;
        delivery.askFor(&engine.filters[filter.*]);
    }
    const consumers = group.consumers[0..count_];
    for (group.filters[0..count_], consumers) |filter, *consumer| {
        const id = engine.filters[filter].consumer;
        consumer.* = if (id == none) 0 else id;
        delivery.askFor(&engine.consumers[consumer.*]);
    }
    for (consumers) |id| if (delivery.nativeOf(engine, id)) |producer| delivery.askFor(producer);
    for (consumers) |id| if (delivery.nativeOf(engine, id)) |producer| producer.ring.askForFrame();
}
