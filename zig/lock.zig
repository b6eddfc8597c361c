//! lock.zig: one short lock between the threads of a process that publish through one sender (design D10).
//! May touch: its own word; the kernel, to sleep. It is held for the time of one call, never across a return to JavaScript.

const std = @import("std");
const platform = @import("platform/mod.zig");
const Atomic = std.atomic.Value;

pub const Lock = struct {
    state: Atomic(u32) = .init(free),

    const free = 0;
    const held = 1;
    /// Held, and somebody sleeps for it.
    const awaited = 2;
    /// A call takes less than a microsecond: worth a look before sleeping.
    const looks = 100;

    pub fn acquire(lock: *Lock) void {
        // Acquire: pairs with the release in `release`.
        if (lock.state.cmpxchgStrong(free, held, .acquire, .monotonic) == null) return;
        lock.acquireSlow();
    }

    fn acquireSlow(lock: *Lock) void {
        @branchHint(.cold);
        for (0..looks) |_| {
            std.atomic.spinLoopHint();
            if (lock.state.load(.monotonic) == free and lock.state.cmpxchgWeak(free, held, .acquire, .monotonic) == null) return;
        }
        while (lock.state.swap(awaited, .acquire) != free) platform.futexWait(&lock.state.raw, awaited);
    }

    pub fn release(lock: *Lock) void {
        if (lock.state.swap(free, .release) == awaited) platform.futexWakeOne(&lock.state.raw);
    }
};
