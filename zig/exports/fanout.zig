//! fanout.zig: the door, fan-outs, their consumers and their stat page.

const std = @import("std");
const layout = @import("../layout.zig");
const platform = @import("../platform/mod.zig");
const handles = @import("../handles.zig");
const Engine = @import("../engine.zig").Engine;
const results = @import("results.zig");
const Code = platform.Code;
const codeOf = results.codeOf;
const register = results.register;

export fn qlaster_fanout_create(options: ?*align(4) const layout.FanoutOptions) Code {
    const given = options orelse return codeOf(.bad_argument);
    const engine = Engine.create(.{
        .seed = @bitCast(given.seed),
        .keys_max = given.keys_max,
        .keys_per_consumer_max = given.keys_per_consumer_max,
        .consumers_permitted = given.consumers_permitted,
        .pool_bytes = given.pool_bytes,
        .pool_threshold = given.pool_threshold,
        .tracked_max = given.tracked_max,
        .guard = @fromBackingInt(@intCast(@min(given.guard, 2))),
        .state_bytes = if (given.state_parts == 0) 0 else @as(usize, std.math.clamp(given.state_parts, layout.state_parts_min, layout.state_parts_max)) * layout.part_size,
        .state_keeps_all = given.state_keep != 0,
        .history_bytes = @as(usize, @min(given.history_parts, layout.state_parts_max)) * layout.part_size,
        .stat_id = if (given.has_stats != 0) given.stat_id else null,
        .stall_ms = given.stall_ms,
    }) catch |err| return codeOf(switch (err) {
        error.OutOfMemory => .memory_limit,
        error.BadArgument => .bad_argument,
    });
    return register(.{ .fanout = engine }) orelse {
        engine.destroy();
        return codeOf(.handles_exhausted);
    };
}

/// A fan-out for the time of one call. Threads take turns (design D10).
const Turn = struct {
    handle: u32,
    engine: *Engine,

    fn begin(handle: u32) ?Turn {
        const engine = (handles.pin(handle, .fanout) orelse return null).*;
        engine.lock.acquire();
        return .{ .handle = handle, .engine = engine };
    }

    fn over(turn: Turn) void {
        turn.engine.lock.release();
        handles.unpin(turn.handle);
    }

    /// A count, and in bit 30 whether there is an event to ask for, in bit 29 whether there is work that only wants time.
    fn result(turn: Turn, code: Code) Code {
        if (code < 0) return code;
        var out = code;
        if (turn.engine.events_count > 0) out |= event_flag;
        if (turn.engine.has_work) out |= layout.fanout_work_flag;
        return out;
    }
};
const event_flag = layout.fanout_event_flag;

fn consumerId(number: u32) u16 {
    return std.math.cast(u16, number) orelse std.math.maxInt(u16);
}

/// Takes a ring, of whichever kind, as a consumer. Returns its number, below 1024. Its handle stays good, and must be
/// removed before it is closed for good.
export fn qlaster_fanout_add(handle: u32, ring_handle: u32, options: ?*align(8) const layout.FanoutConsumer) Code {
    const given = options orelse return codeOf(.bad_argument);
    if (!(given.resume_after >= 0 and given.resume_after <= 1 << 53)) return codeOf(.bad_argument);
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    return turn.engine.add(ring_handle, .{
        .policy = @fromBackingInt(given.policy),
        .transaction_policy = @fromBackingInt(given.transaction_policy),
        .statuses = given.statuses,
        .backlog_bytes = given.backlog_bytes,
        .pool_bytes = given.pool_bytes,
        .seed = given.seed,
        .resume_after = if (given.is_held != 0) @intFromFloat(given.resume_after) else null,
    });
}

/// @param is_gone Its process is, so nobody reads the pool through it any longer.
export fn qlaster_fanout_remove(handle: u32, id: u32, is_gone: u32) Code {
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    turn.engine.remove(consumerId(id), is_gone != 0);
    return 0;
}

/// What has to be done now and then: once a second, and after consumers left. 1: nothing is left to do.
/// @param elapsed_ms Since the last time, as far as it counts for who leaves no room.
export fn qlaster_fanout_sweep(handle: u32, elapsed_ms: u32) Code {
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    return turn.result(if (turn.engine.sweep(elapsed_ms)) 1 else 0);
}

/// What the next batches are stamped with, in microseconds since the Unix epoch, up to 2^53; 0: the machine's clock.
export fn qlaster_fanout_clock(handle: u32, us: f64) Code {
    if (!(us >= 0 and us <= 1 << 53)) return codeOf(.bad_argument);
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    turn.engine.clock_ns = @as(u64, @intFromFloat(us)) * std.time.ns_per_us;
    return turn.result(0);
}

/// The descriptor of the pool, for a consumer: the caller's. `unsupported`: there is no pool.
export fn qlaster_fanout_pool_fd(handle: u32) Code {
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    return turn.engine.poolDescriptor();
}

/// `body`: a FilterBody and what follows it, as it came over the link: checked here.
export fn qlaster_fanout_edit(handle: u32, id: u32, body: ?[*]const u8, length: u32) Code {
    const bytes = (body orelse return codeOf(.bad_argument))[0..length];
    if (length < @sizeOf(layout.FilterBody)) return codeOf(.bad_argument);
    const head: *align(1) const layout.FilterBody = @ptrCast(bytes.ptr);
    const keys = bytes[@sizeOf(layout.FilterBody)..];
    const accounts_size = @as(u64, head.account_count) * layout.address_size;
    const owners_size = @as(u64, head.owner_count) * layout.address_size;
    if (accounts_size + owners_size + head.program_length != keys.len) return codeOf(.bad_argument);
    if (head.bit >= layout.filters_per_consumer_max) return codeOf(.bad_argument);
    const owners_at: usize = @intCast(accounts_size);
    const program_at: usize = @intCast(accounts_size + owners_size);
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    return turn.result(turn.engine.edit(consumerId(id), &.{
        .op = @fromBackingInt(head.op),
        .bit = @intCast(head.bit),
        .takes_transactions = head.transactions != 0,
        .is_last = head.is_last != 0,
        .accounts = std.mem.bytesAsSlice([layout.address_size]u8, keys[0..owners_at]),
        .owners = std.mem.bytesAsSlice([layout.address_size]u8, keys[owners_at..program_at]),
        .program = keys[program_at..],
        .wants_state = head.flags & layout.filter_flag_state != 0,
        .wants_versions = head.flags & layout.filter_flag_versions != 0,
    }));
}

/// Publishes one update. Returns how many consumers got it, with a flag for events, or `would_block`: nobody did.
export fn qlaster_fanout_publish(handle: u32, head: ?[*]align(8) u8, head_length: u32, tail: ?[*]const u8, tail_length: u32, is_batch: u32) Code {
    const head_bytes = (head orelse return codeOf(.bad_argument))[0..head_length];
    if (tail_length > 3 * layout.payload_bytes_max) return codeOf(.bad_argument);
    const tail_bytes: []const u8 = if (tail_length == 0) &.{} else (tail orelse return codeOf(.bad_argument))[0..tail_length];
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    if (turn.engine.is_frozen) return codeOf(.bad_handle);
    return turn.result(turn.engine.publish(head_bytes, tail_bytes, is_batch != 0));
}

/// Publishes many updates that stand in one buffer, as a batch. The first word of the buffer says, afterwards, how many
/// of its bytes are done. Returns the number of deliveries.
export fn qlaster_fanout_publish_many(handle: u32, items: ?[*]align(8) u8, length: u32, commit: u32) Code {
    const bytes = (items orelse return codeOf(.bad_argument))[0..length];
    if (length < 8) return codeOf(.bad_argument);
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    if (turn.engine.is_frozen) return codeOf(.bad_handle);
    var done: usize = 0;
    const code = turn.engine.publishMany(@alignCast(bytes[8..]), &done);
    if (commit != 0) turn.engine.commit();
    std.mem.writeInt(u64, bytes[0..8], done, .little);
    return turn.result(code);
}

export fn qlaster_fanout_commit(handle: u32) Code {
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    turn.engine.commit();
    return turn.result(0);
}

/// A resumed consumer has its filters: it gets what it missed, and then what comes.
export fn qlaster_fanout_start(handle: u32, id: u32) Code {
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    return turn.result(turn.engine.startHeld(consumerId(id)));
}

/// Goes on with what waits for nothing but time: snapshots, resumed consumers. The result's flag says whether there is more.
export fn qlaster_fanout_pump(handle: u32) Code {
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    turn.engine.pumpOn();
    return turn.result(0);
}

/// From here on nobody publishes, in no thread: as if the fan-out were closed. 0 takes it back.
export fn qlaster_fanout_freeze(handle: u32, is_frozen: u32) Code {
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    turn.engine.finishRollback();
    turn.engine.commit();
    turn.engine.is_frozen = is_frozen != 0;
    return turn.result(0);
}

/// Takes into state and history what another sender has published: a frame as it came, with its sequence.
export fn qlaster_fanout_seed(handle: u32, head: ?[*]align(8) u8, head_length: u32, tail: ?[*]const u8, tail_length: u32) Code {
    const head_bytes = (head orelse return codeOf(.bad_argument))[0..head_length];
    if (tail_length > 3 * layout.payload_bytes_max) return codeOf(.bad_argument);
    const tail_bytes: []const u8 = if (tail_length == 0) &.{} else (tail orelse return codeOf(.bad_argument))[0..tail_length];
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    return turn.engine.seed(head_bytes, tail_bytes);
}

/// Goes on with the order of another sender, of which these were the last sequence, the newest slot, and the accounts that it had
/// forgotten. Only before the first update.
export fn qlaster_fanout_adopt(handle: u32, sequence: f64, newest_slot: f64, evicted: f64) Code {
    for ([_]f64{ sequence, newest_slot, evicted }) |number| if (!(number >= 0 and number <= 1 << 53)) return codeOf(.bad_argument);
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    return turn.engine.adopt(@intFromFloat(sequence), @intFromFloat(newest_slot), @intFromFloat(evicted));
}

/// Moves what waits for a consumer into its ring. 1: nothing waits any longer. 0: it is full again.
export fn qlaster_fanout_flush(handle: u32, id: u32) Code {
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    const is_empty = turn.engine.flushAwaited(consumerId(id));
    turn.engine.commit();
    return turn.result(if (is_empty) 1 else 0);
}

/// Puts a mark behind all frames of one consumer. 0, or `full`.
export fn qlaster_fanout_mark(handle: u32, id: u32, head: ?[*]align(8) u8, head_length: u32) Code {
    const head_bytes = (head orelse return codeOf(.bad_argument))[0..head_length];
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    return turn.engine.mark(consumerId(id), head_bytes);
}

/// A consumer that has to be ended: its number, and its `EndReason` times 65536. `would_block`: none.
export fn qlaster_fanout_event(handle: u32) Code {
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    const event = turn.engine.nextEvent() orelse return codeOf(.would_block);
    return @intCast(@as(u32, event.id) | @backingInt(event.reason) << 16);
}

export fn qlaster_fanout_info(handle: u32, out: ?*align(8) layout.FanoutInfo) Code {
    const info = out orelse return codeOf(.bad_argument);
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    turn.engine.info(info);
    return 0;
}

export fn qlaster_fanout_demand_start(handle: u32) Code {
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    return turn.engine.startDemand();
}

/// Writes a DemandHead and `records_max` DemandRecords at most, having looked at `steps` keys at most. Returns their number.
export fn qlaster_fanout_demand(handle: u32, out: ?*align(4) layout.DemandHead, records_max: u32, steps: u32) Code {
    const head = out orelse return codeOf(.bad_argument);
    if (records_max > 1 << 20) return codeOf(.bad_argument);
    const records = @as([*]layout.DemandRecord, @ptrFromInt(@intFromPtr(head) + @sizeOf(layout.DemandHead)));
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    return turn.engine.collectDemand(head, records[0..records_max], steps);
}

export fn qlaster_fanout_consumer_info(handle: u32, id: u32, out: ?*align(8) layout.FanoutConsumerInfo) Code {
    const info = out orelse return codeOf(.bad_argument);
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    return turn.engine.consumerInfo(consumerId(id), info);
}

// Stat page

/// Writes into the listener's lock file where the fan-out's stat page is found: pid, descriptor, id.
export fn qlaster_fanout_stat_announce(handle: u32, listener_handle: u32) Code {
    const listener = handles.pin(listener_handle, .listener) orelse return codeOf(.bad_handle);
    defer handles.unpin(listener_handle);
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    const page = turn.engine.stats orelse return codeOf(.unsupported);
    return listener.announce(page.memory.passed_fd, page.header().id);
}

export fn qlaster_fanout_stat_identify(handle: u32, id: u32, identity: ?*align(8) const layout.StatIdentity) Code {
    const given = identity orelse return codeOf(.bad_argument);
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    return turn.engine.identify(consumerId(id), given);
}

/// 1: there is a page; 0: there is none.
export fn qlaster_fanout_stat_beat(handle: u32, beat: ?*align(8) const layout.StatBeat) Code {
    const given = beat orelse return codeOf(.bad_argument);
    const turn = Turn.begin(handle) orelse return codeOf(.bad_handle);
    defer turn.over();
    return turn.engine.beat(given);
}
