//! v9/relay.zig: one native thread per process that turns the signals of eventfds into bytes on socket pairs (design D8):
//! an eventfd is what wire version 9 wakes a consumer by, and what no event loop of Deno can take in.
//! May touch: the descriptors that were added, its own table. No allocation, no thread-local variable, no JavaScript.
//! May not touch: rings, handles.
//! Why the thread never touches a number that means something else by now: it alone closes what was added, in between
//! two waits; a caller only marks an entry as removed. Entry ids carry a generation, so that a stale one finds nothing.
//! Why it never ends: it waits without cost, and with no end there is no moment at which it ends while an entry is added.
//! The library must therefore stay loaded once the thread runs.

const std = @import("std");
const layout = @import("../layout.zig");
const platform = @import("../platform/mod.zig");
const Atomic = std.atomic.Value;
const Code = platform.Code;
const Status = layout.Status;
const assert = std.debug.assert;

const index_bits = 10;
pub const entries_max = 1 << index_bits;
/// An id is returned as an i32 of at least 0: 31 bits, less those of the index.
const Generation = u21;

const State = packed struct(u32) {
    phase: enum(u3) {
        free,
        /// Its descriptors are being stored.
        claimed,
        live,
        /// Our own reader is gone, or the eventfd can't be read: nothing will come any more.
        ended,
        /// Not used any more; the thread closes its descriptors.
        removed,
    },
    generation: Generation,
    unused: u8 = 0,
};

const Entry = struct {
    state: Atomic(u32),
    event_fd: i32,
    out_fd: i32,
    /// Also a caller may take signals away: that never waits, whatever the peer does.
    may_drain: bool,
};

/// All zero (free, generation 0), so it takes no room in the file and none in memory until it is used.
var entries: [entries_max]Entry = @splat(.{ .state = .init(0), .event_fd = 0, .out_fd = 0, .may_drain = false });

const Thread = enum(u32) { none, starting, running };
var thread = Atomic(u32).init(@backingInt(Thread.none));
/// Both are set before `thread` says running, and never again.
var poller: if (platform.is_linux) platform.Poller else void = undefined;
var control_fd: i32 = -1;
const control_token = std.math.maxInt(u64);

fn codeOf(status: Status) Code {
    return @backingInt(status);
}

fn load(entry: *const Entry) State {
    // Acquire: pairs with the release of whoever stored the phase: the descriptors are those of this generation.
    return @bitCast(entry.state.load(.acquire));
}

fn swap(entry: *Entry, old: State, new: State) bool {
    return entry.state.cmpxchgStrong(@bitCast(old), @bitCast(new), .acq_rel, .monotonic) == null;
}

fn find(id: u32) ?*Entry {
    const entry = &entries[id % entries_max];
    return if (load(entry).generation == id >> index_bits) entry else null;
}

/// Takes both over, whatever the outcome: `event_fd` as a peer handed it over, and our end of a socket pair. Returns an id.
/// Nothing is relayed before `arm`.
pub fn add(event_fd: i32, out_fd: i32) Code {
    const id = if (comptime platform.is_linux) enter(event_fd, out_fd) else codeOf(.unsupported);
    if (id < 0) {
        if (event_fd >= 0) _ = platform.closeForeign(event_fd);
        if (out_fd >= 0) _ = platform.close(out_fd);
    }
    return id;
}

fn enter(event_fd: i32, out_fd: i32) Code {
    // Also what is there already is taken: its frames are in the ring.
    const drains = platform.eventDrains(event_fd) orelse return codeOf(.bad_descriptor);
    if (!platform.isUnixStream(out_fd)) return codeOf(.bad_descriptor);
    const running = start();
    if (running < 0) return running;

    for (&entries, 0..) |*entry, index| {
        const old = load(entry);
        if (old.phase != .free) continue;
        const generation: Generation = if (old.generation == std.math.maxInt(Generation)) 1 else old.generation + 1;
        if (!swap(entry, old, .{ .phase = .claimed, .generation = generation })) continue;
        entry.event_fd = event_fd;
        entry.out_fd = out_fd;
        entry.may_drain = drains == .at_once;
        // Release: pairs with the acquire in `load`.
        entry.state.store(@bitCast(State{ .phase = .live, .generation = generation }), .release);
        const id = @as(u32, generation) << index_bits | @as(u32, @intCast(index));
        const added = poller.add(event_fd, id, .disarmed);
        if (added >= 0) return @intCast(id);
        // The thread knows nothing of it, so it is ours to free.
        entry.state.store(@bitCast(State{ .phase = .free, .generation = generation }), .release);
        return added;
    }
    return codeOf(.handles_exhausted);
}

/// From now on the next signal sends a byte. Call it before the last look at the ring, on the way to sleep: what the ring
/// did not show then is signalled after, and finds the entry armed. Signals up to now are taken away, since their frames
/// are in the ring; where that could wait they stay, and arming itself sends a byte: one too many, and none too few.
/// `end_of_stream`: no signal will come any more.
/// One entry's `arm` and `remove` are never called at once (a handle's object sees to that).
pub fn arm(id: u32) Code {
    if (comptime !platform.is_linux) return codeOf(.unsupported);
    const entry = find(id) orelse return codeOf(.bad_handle);
    switch (load(entry).phase) {
        .live => {},
        .ended => return codeOf(.end_of_stream),
        .free, .claimed, .removed => return codeOf(.bad_handle),
    }
    if (entry.may_drain) _ = platform.eventDrainAtOnce(entry.event_fd);
    return @min(poller.arm(entry.event_fd, id), 0);
}

/// Nothing is relayed any more, at the latest when the thread has woken up; then it closes both descriptors.
pub fn remove(id: u32) void {
    if (comptime !platform.is_linux) return;
    const entry = find(id) orelse return;
    while (true) {
        const old = load(entry);
        if (old.generation != id >> index_bits) return;
        if (old.phase != .live and old.phase != .ended) return;
        // Strong, and again if it fails: the thread may have said `ended` meanwhile.
        if (swap(entry, old, .{ .phase = .removed, .generation = old.generation })) break;
    }
    _ = platform.eventSignal(control_fd);
}

fn start() Code {
    while (true) {
        // Acquire: pairs with the release below.
        switch (@as(Thread, @fromBackingInt(thread.load(.acquire)))) {
            .running => return 0,
            .starting => platform.threadYield(), // another thread is about to start it
            .none => {
                const none = @backingInt(Thread.none);
                if (thread.cmpxchgStrong(none, @backingInt(Thread.starting), .acquire, .monotonic) != null) continue;
                const code = startOnce();
                const next: Thread = if (code < 0) .none else .running;
                thread.store(@backingInt(next), .release);
                return code;
            },
        }
    }
}

fn startOnce() Code {
    const created = platform.Poller.create(&poller);
    if (created < 0) return created;
    var control: [2]i32 = undefined;
    var code = platform.eventCreate(&control);
    if (code < 0) {
        poller.destroy();
        return code;
    }
    _ = platform.close(control[1]); // the same event
    control_fd = control[0];
    code = poller.add(control_fd, control_token, .always);
    if (code >= 0) code = platform.threadStart(run);
    if (code < 0) {
        poller.destroy();
        _ = platform.close(control_fd);
    }
    return code;
}

// The thread's side

fn run() noreturn {
    var tokens: [platform.Poller.events_max]u64 = undefined;
    while (true) {
        var is_control = false;
        for (poller.wait(&tokens)) |token| {
            if (token == control_token) is_control = true else relay(@truncate(token));
        }
        // After the others: none of them may find its descriptors closed.
        if (is_control) {
            _ = platform.eventDrain(control_fd); // before the look: a removal from now on signals again
            for (&entries) |*entry| closeRemoved(entry);
        }
    }
}

fn relay(id: u32) void {
    const entry = find(id) orelse return;
    const state = load(entry);
    if (state.phase != .live) return;
    const drained = platform.eventDrain(entry.event_fd);
    // Nothing there: somebody else has read it, or `arm` has, called again. A byte too many does no harm.
    const is_signal = drained > 0 or drained == platform.errno.again;
    const sent = if (is_signal) platform.sendMessage(entry.out_fd, "!", &.{}) else platform.errno.pipe;
    // Full: signalled already.
    if (sent >= 0 or sent == platform.errno.again) return;
    // The entry stays disarmed, so an end does not report itself again and again. JavaScript reads the end of its stream.
    platform.socketShutdown(entry.out_fd);
    var ended = state;
    ended.phase = .ended;
    _ = swap(entry, state, ended); // unless it was removed meanwhile
}

fn closeRemoved(entry: *Entry) void {
    var state = load(entry);
    if (state.phase != .removed) return;
    // The peer holds the same description, so closing our descriptor alone would not take it out of the set.
    poller.remove(entry.event_fd);
    _ = platform.closeForeign(entry.event_fd);
    _ = platform.close(entry.out_fd);
    state.phase = .free;
    // Release: pairs with the acquire in `load`: the descriptors are ours no longer.
    entry.state.store(@bitCast(state), .release);
}

// Tests

const testing = std.testing;

/// A wake as a sender makes it, and the ends of a socket pair.
const Setup = struct {
    signal_fd: i32,
    in_fd: i32,
    id: u32,

    fn init(event_fd: i32, signal_fd: i32) !Setup {
        var pair: [2]i32 = undefined;
        try testing.expectEqual(0, platform.socketPair(&pair));
        const id = add(event_fd, pair[1]);
        if (id < 0) std.debug.print("add: {d}\n", .{id});
        try testing.expect(id >= 0);
        return .{ .signal_fd = signal_fd, .in_fd = pair[0], .id = @intCast(id) };
    }

    fn event() !Setup {
        var event_fds: [2]i32 = undefined;
        try testing.expectEqual(0, platform.eventCreate(&event_fds));
        return init(event_fds[1], event_fds[0]);
    }

    fn deinit(setup: Setup) void {
        remove(setup.id);
        if (setup.signal_fd >= 0) _ = platform.close(setup.signal_fd);
        // The thread closes its end: the stream ends.
        testing.expectEqual(0, setup.next()) catch unreachable;
        _ = platform.close(setup.in_fd);
    }

    /// Waits for what comes: 1 or more bytes, or 0 at the end.
    fn next(setup: Setup) Code {
        while (true) {
            const code = setup.look();
            if (code != platform.errno.again) return code;
            var polled = [_]linux.pollfd{.{ .fd = setup.in_fd, .events = linux.POLL.IN, .revents = 0 }};
            _ = linux.poll(&polled, 1, patience_ms);
        }
    }

    fn look(setup: Setup) Code {
        var buffer: [64]u8 = undefined;
        var truncated = false;
        return platform.receiveMessage(setup.in_fd, &buffer, &.{}, &truncated).code;
    }
};

const linux = std.os.linux;
const common = @import("../testing.zig");
const Patience = common.Patience;
const patience_ms = common.patience_ms;

/// Waits until the thread has dealt with all that came before: another entry's signal is behind it.
fn settle() !void {
    const other = try Setup.event();
    defer other.deinit();
    for (0..2) |_| {
        try testing.expectEqual(0, arm(other.id));
        try testing.expectEqual(8, platform.eventSignal(other.signal_fd));
        try testing.expectEqual(1, other.next());
    }
}

test "a signal after arm sends one byte; one before it, or without it, none" {
    if (!platform.is_linux) return error.SkipZigTest;
    const setup = try Setup.event();
    defer setup.deinit();
    for (0..3) |_| {
        try testing.expectEqual(8, platform.eventSignal(setup.signal_fd));
        try settle();
        try testing.expectEqual(platform.errno.again, setup.look());
        try testing.expectEqual(0, arm(setup.id));
        try settle();
        try testing.expectEqual(platform.errno.again, setup.look());
        for (0..5) |_| try testing.expectEqual(8, platform.eventSignal(setup.signal_fd));
        try testing.expectEqual(1, setup.next());
        try settle();
        try testing.expectEqual(platform.errno.again, setup.look());
    }
}

test "a peer that makes its event blocking again stops neither us nor the thread" {
    if (!platform.is_linux) return error.SkipZigTest;
    const setup = try Setup.event();
    defer setup.deinit();
    try testing.expectEqual(0, linux.fcntl(setup.signal_fd, linux.F.SETFL, 0));
    try testing.expectEqual(0, arm(setup.id));
    try testing.expectEqual(8, platform.eventSignal(setup.signal_fd));
    try testing.expectEqual(1, setup.next());
    try testing.expectEqual(0, arm(setup.id)); // drains an empty blocking event: would wait for ever
    try settle();
}

test "arm without draining: what was signalled before sends one byte, and no more" {
    if (!platform.is_linux) return error.SkipZigTest;
    const setup = try Setup.event();
    defer setup.deinit();
    find(setup.id).?.may_drain = false; // as on a kernel before 5.8
    for (0..5) |_| try testing.expectEqual(8, platform.eventSignal(setup.signal_fd));
    try testing.expectEqual(0, arm(setup.id));
    try testing.expectEqual(1, setup.next());
    for (0..3) |_| {
        try testing.expectEqual(0, arm(setup.id));
        try settle();
        try testing.expectEqual(platform.errno.again, setup.look());
    }
    try testing.expectEqual(8, platform.eventSignal(setup.signal_fd));
    try testing.expectEqual(1, setup.next());
}

test "our own reader gone: the entry ends; stale and foreign ids are refused" {
    if (!platform.is_linux) return error.SkipZigTest;
    const event_fd: i32 = @intCast(linux.eventfd(0, linux.EFD.CLOEXEC));
    defer _ = platform.close(event_fd);
    var pair: [2]i32 = undefined;
    try testing.expectEqual(0, platform.socketPair(&pair));
    const id: u32 = @intCast(add(platform.duplicate(event_fd), pair[1]));
    _ = platform.close(pair[0]);
    try testing.expectEqual(0, arm(id));
    try testing.expectEqual(8, platform.eventSignal(event_fd));
    try settle();
    try testing.expectEqual(codeOf(.end_of_stream), arm(id));
    remove(id);
    remove(id);
    try testing.expectEqual(codeOf(.bad_handle), arm(id));
    try testing.expectEqual(codeOf(.bad_handle), arm(0));
    try testing.expectEqual(codeOf(.bad_handle), arm(std.math.maxInt(u32)));
    remove(12345);
    try settle();
}

test "add refuses what is no eventfd, and what is no socket pair, and closes both" {
    if (!platform.is_linux) return error.SkipZigTest;
    var pair: [2]i32 = undefined;
    try testing.expectEqual(0, platform.socketPair(&pair));
    defer for (pair) |fd| {
        _ = platform.close(fd);
    };
    const memory = platform.memoryCreate(4096, .read_write);
    defer _ = platform.close(memory.fd);
    const zero: i32 = @intCast(linux.open("/dev/zero", .{}, 0));
    defer _ = platform.close(zero);
    const fifo_path = common.path("relay.fifo");
    _ = platform.unlink(&fifo_path);
    try testing.expectEqual(0, linux.mknodat(linux.AT.FDCWD, &fifo_path, linux.S.IFIFO | 0o600, 0));
    const fifo: i32 = @intCast(linux.open(&fifo_path, .{ .ACCMODE = .RDWR }, 0));
    defer _ = platform.close(fifo);
    _ = platform.unlink(&fifo_path);
    var ends: [2]i32 = undefined;
    try testing.expectEqual(0, linux.pipe2(&ends, .{ .CLOEXEC = true }));
    defer for (ends) |fd| {
        _ = platform.close(fd);
    };
    const timer: i32 = @intCast(linux.timerfd_create(.MONOTONIC, .{}));
    defer _ = platform.close(timer);
    for ([_]i32{ memory.fd, zero, fifo, ends[0], ends[1], pair[0], timer, -1, 0x7fff_0000 }) |fd| {
        const mine = platform.duplicate(fd);
        const out = platform.duplicate(pair[1]);
        try testing.expectEqual(codeOf(.bad_descriptor), add(mine, out));
        try testing.expect(platform.statDescriptor(out) == null);
        if (mine >= 0) try testing.expect(platform.statDescriptor(mine) == null);
    }
    const event_fd: i32 = @intCast(linux.eventfd(0, linux.EFD.CLOEXEC));
    defer _ = platform.close(event_fd);
    try testing.expectEqual(codeOf(.bad_descriptor), add(platform.duplicate(event_fd), platform.duplicate(memory.fd)));
}

test "entries_max entries at once, then no more; removed ones make room, and nothing is left open" {
    if (!platform.is_linux) return error.SkipZigTest;
    _ = platform.raiseDescriptorLimit();
    const event_fd: i32 = @intCast(linux.eventfd(0, linux.EFD.CLOEXEC));
    defer _ = platform.close(event_fd);
    var pair: [2]i32 = undefined;
    try testing.expectEqual(0, platform.socketPair(&pair));
    defer for (pair) |fd| {
        _ = platform.close(fd);
    };
    try settle();
    if (platform.descriptorLimit() < 2 * entries_max + 64) return error.SkipZigTest;
    for (0..3) |_| {
        var ids: [entries_max]u32 = undefined;
        var count: usize = 0;
        while (true) {
            const id = add(platform.duplicate(event_fd), platform.duplicate(pair[1]));
            if (id >= 0) {
                ids[count] = @intCast(id);
                count += 1;
                continue;
            }
            try testing.expectEqual(codeOf(.handles_exhausted), id);
            break;
        }
        try testing.expectEqual(entries_max, count);
        try testing.expectEqual(0, arm(ids[17]));
        try testing.expectEqual(8, platform.eventSignal(event_fd));
        var polled = [_]linux.pollfd{.{ .fd = pair[0], .events = linux.POLL.IN, .revents = 0 }};
        try testing.expectEqual(1, linux.poll(&polled, 1, patience_ms));
        var buffer: [8]u8 = undefined;
        var truncated = false;
        try testing.expectEqual(1, platform.receiveMessage(pair[0], &buffer, &.{}, &truncated).code);
        for (ids) |id| remove(id);
        const patience: Patience = .begin();
        while (freeCount() < entries_max) try testing.expect(patience.goesOn());
    }
}

fn freeCount() usize {
    var count: usize = 0;
    for (&entries) |*entry| count += @intFromBool(load(entry).phase == .free);
    return count;
}

test "no wake is lost: a sender in another thread, arm and look again" {
    if (!platform.is_linux) return error.SkipZigTest;
    for ([_]bool{ true, false }) |may_drain| try wakeMany(may_drain);
}

fn wakeMany(may_drain: bool) !void {
    const setup = try Setup.event();
    defer setup.deinit();
    find(setup.id).?.may_drain = may_drain;
    const rounds = 20_000;
    var published = Atomic(u32).init(0);
    var consumed = Atomic(u32).init(0);
    const sender = try std.Thread.spawn(.{}, struct {
        fn run(signal_fd: i32, to: *Atomic(u32), from: *const Atomic(u32)) void {
            for (1..rounds + 1) |number| {
                to.store(@intCast(number), .release);
                _ = platform.eventSignal(signal_fd);
                // Lock step now and then, so that the consumer goes to sleep.
                if (number % 4 == 0) while (from.load(.acquire) != number) platform.threadYield();
            }
        }
    }.run, .{ setup.signal_fd, &published, &consumed });
    var seen: u32 = 0;
    while (seen < rounds) {
        const now = published.load(.acquire);
        if (now != seen) {
            seen = now;
            consumed.store(now, .release);
            continue;
        }
        try testing.expectEqual(0, arm(setup.id));
        if (published.load(.acquire) != seen) continue;
        try testing.expect(setup.next() > 0); // a lost one would wait for ever
    }
    sender.join();
    while (setup.look() > 0) {}
    try settle();
    while (setup.look() > 0) {}
}
