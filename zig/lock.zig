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
            // Monotonic: a look, nothing follows from it. Acquire: as in `acquire`.
            if (lock.state.load(.monotonic) == free and lock.state.cmpxchgWeak(free, held, .acquire, .monotonic) == null) return;
        }
        // Acquire: pairs with the release in `release`. Who sleeps leaves the word at `awaited`, so that whoever holds the lock
        // then wakes somebody; the kernel compares it under its own lock, so no wake falls between look and sleep.
        while (lock.state.swap(awaited, .acquire) != free) platform.futexWait(&lock.state.raw, awaited);
    }

    pub fn release(lock: *Lock) void {
        // Release: pairs with the acquire in `acquire` and `acquireSlow`. What was done under the lock is seen by the next.
        if (lock.state.swap(free, .release) == awaited) platform.futexWakeOne(&lock.state.raw);
    }
};
