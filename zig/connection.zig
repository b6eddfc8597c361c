//! connection.zig: the two ends of a connection: regions, ring and wake together.
//! May touch: what it is made of. May not touch: links, filters, policies: TypeScript decides.

const std = @import("std");
const layout = @import("layout.zig");
const platform = @import("platform/mod.zig");
const region = @import("region.zig");
const ring = @import("ring.zig");
const stat_page = @import("stat_page.zig");
const put = stat_page.put;
const Lock = @import("lock.zig").Lock;
const SlotCounts = @import("slot_counts.zig").SlotCounts;
const Wake = @import("wake.zig").Wake;
const Code = platform.Code;
const assert = std.debug.assert;

pub const ProducerEnd = struct {
    regions: region.Regions,
    ring: ring.Producer,
    /// The consumer's wake; set by `attach`.
    wake: ?Wake = null,
    wakes: u64 = 0,
    connection_id: u64,
    /// The lock of the fan-out that publishes into it, if any: other threads may do so at any time.
    lock: ?*Lock = null,

    /// On success the caller owns the descriptors in `passed`: ring, page.
    pub fn create(options: region.Options, passed: *[2]i32, out: *ProducerEnd) Code {
        var regions: region.Regions = undefined;
        const code = region.create(options, passed, &regions);
        if (code < 0) return code;
        out.* = .{
            .regions = regions,
            .connection_id = options.connection_id,
            .ring = .{
                .header = regions.header(),
                .page = regions.page(),
                .data = regions.data(),
                .capacity = regions.capacity_bytes,
                .reserved = regions.reserved_bytes,
            },
        };
        return 0;
    }

    /// Sends a byte if the consumer sleeps. Call after `storeLoadFence()`.
    pub fn notifyIfParked(end: *ProducerEnd) Code {
        if (!end.ring.shouldNotify()) return 0;
        end.wakes += 1;
        const wake = end.wake orelse return 0;
        return wake.notify();
    }

    pub fn finish(end: *ProducerEnd, reason: layout.EndReason) Code {
        end.ring.end(reason);
        platform.storeLoadFence();
        return end.notifyIfParked();
    }

    pub fn info(end: *ProducerEnd, out: *layout.RingInfo) Code {
        const code: Code = if (end.ring.sync()) 0 else |_| @backingInt(layout.Status.peer_corrupt);
        out.* = .{
            .capacity_bytes = @floatFromInt(end.ring.capacity),
            .reserved_bytes = @floatFromInt(end.ring.reserved),
            .producer_cursor = @floatFromInt(end.ring.committed),
            .consumer_cursor = @floatFromInt(end.ring.consumer_cursor_cached),
            .connection_id = @floatFromInt(end.connection_id),
            .closing = @floatFromInt(end.ring.header.closing.load(.monotonic)),
            .parked = if (end.ring.isParked()) 1 else 0,
            .wakes = @floatFromInt(end.wakes),
            .lost_pending = @floatFromInt(end.ring.lost),
            .producer_ordinal = @floatFromInt(end.ring.matched()),
            .consumer_ordinal = 0,
            .newest_slot = 0,
            .oldest_us = 0,
        };
        return code;
    }

    pub fn destroy(end: *ProducerEnd) void {
        if (end.wake) |wake| wake.destroy();
        end.regions.unmap();
    }
};

const spin_us_max = 1000;

/// Looks for a frame again and again, for at most `budget_us`. 1: there is one; 0: not yet.
pub fn spinOn(consumer: anytype, budget_us: u32) Code {
    const looks_per_clock = 64;
    if (consumer.hasMore()) return 1;
    const deadline = platform.monotonicNs() + @as(u64, @min(budget_us, spin_us_max)) * std.time.ns_per_us;
    while (true) {
        for (0..looks_per_clock) |_| {
            std.atomic.spinLoopHint();
            if (consumer.hasMore()) return 1;
        }
        if (platform.monotonicNs() >= deadline) return 0;
    }
}

pub const ConsumerEnd = struct {
    regions: region.Regions,
    ring: ring.Consumer,
    /// The sender's wake; set where the sender may wait for room.
    wake: ?Wake = null,

    /// Takes over all descriptors, whatever the outcome.
    pub fn join(ring_fd: i32, page_fd: i32, pool: ?region.PoolDescriptor, capacity_bytes: u32, uid: u32, out: *ConsumerEnd) Code {
        var regions: region.Regions = undefined;
        const code = region.join(ring_fd, page_fd, pool, capacity_bytes, uid, &regions);
        if (pool) |given| if (given.fd >= 0) {
            _ = platform.closeForeign(given.fd);
        };
        if (ring_fd >= 0) _ = platform.closeForeign(ring_fd);
        if (page_fd >= 0) _ = platform.closeForeign(page_fd);
        if (code < 0) return code;
        out.* = .{
            .regions = regions,
            .ring = .{
                .header = regions.header(),
                .page = regions.page(),
                .data = regions.data(),
                .capacity = regions.capacity_bytes,
                .pool_bytes = regions.pool_bytes,
            },
        };
        return 0;
    }

    /// It may be made to skip frames: what they were will be counted. 0, or why not.
    pub fn prepareToSkip(end: *ConsumerEnd) Code {
        if (end.ring.skipped != null) return 0;
        const memory = platform.pages(@sizeOf(SlotCounts));
        if (memory.code < 0) return memory.code;
        const counts: *SlotCounts = @ptrFromInt(memory.address);
        counts.clear();
        end.ring.skipped = counts;
        return 0;
    }

    /// Notes in our page what was handed out, for the sender's stat page: how much, what was lost, how old the oldest was.
    pub fn report(end: *ConsumerEnd, records: []const layout.PollRecord) void {
        const page = &end.regions.page().read;
        var lost: u64 = 0;
        for (records) |record| lost += record.lost;
        put(&page.frames, page.frames +% records.len);
        if (lost > 0) put(&page.lost, page.lost +% lost);
        put(&page.polls, page.polls +% 1);
        const oldest_ns = end.ring.publishNs(records[0]);
        put(&page.publish_ns, end.ring.publishNs(records[records.len - 1]));
        const bucket = &page.latency[stat_page.bucketOf(platform.realtimeNs() -| oldest_ns)];
        put(bucket, bucket.* +% 1);
    }

    /// Tells the sender that there is room, if it waits for some. Call after a release.
    pub fn notifyIfAwaited(end: *ConsumerEnd) void {
        const wake = end.wake orelse return;
        if (end.ring.shouldNotify()) _ = wake.notify();
    }

    /// Waits for a frame without giving up the thread, for at most `budget_us`. 1: there is one; 0: not yet.
    pub fn spin(end: *ConsumerEnd, budget_us: u32) Code {
        const page = &end.regions.page().read;
        put(&page.spins, page.spins +% 1);
        return spinOn(&end.ring, budget_us);
    }

    /// Whether it may sleep: a byte will come.
    pub fn park(end: *ConsumerEnd) bool {
        if (!end.ring.park()) return false;
        const page = &end.regions.page().read;
        put(&page.parks, page.parks +% 1);
        return true;
    }

    pub fn info(end: *ConsumerEnd, out: *layout.RingInfo) Code {
        out.* = .{
            .capacity_bytes = @floatFromInt(end.ring.capacity),
            .reserved_bytes = @floatFromInt(end.regions.reserved_bytes),
            .producer_cursor = @floatFromInt(end.ring.header.producer_cursor.load(.monotonic)),
            .consumer_cursor = @floatFromInt(end.ring.released),
            .connection_id = @floatFromInt(end.ring.header.connection_id),
            .closing = @floatFromInt(end.ring.header.closing.load(.monotonic)),
            .parked = @floatFromInt(end.ring.epoch % 2),
            .wakes = 0,
            .lost_pending = 0,
            .producer_ordinal = @floatFromInt(end.ring.header.producer_ordinal.load(.monotonic)),
            .consumer_ordinal = @floatFromInt(end.ring.ordinal),
            .newest_slot = @floatFromInt(end.ring.header.newest_slot.load(.monotonic)),
            .oldest_us = @as(f64, @floatFromInt(end.ring.oldestNs())) / std.time.ns_per_us,
        };
        return 0;
    }

    /// Lets go of everything but the addresses: nobody is told of room any longer.
    pub fn retire(end: *ConsumerEnd) Code {
        if (end.wake) |wake| wake.destroy();
        end.wake = null;
        return end.regions.retire();
    }

    pub fn destroy(end: *ConsumerEnd) void {
        if (end.wake) |wake| wake.destroy();
        if (end.ring.skipped) |counts| platform.unmap(@intFromPtr(counts), @sizeOf(SlotCounts));
        end.regions.unmap();
    }
};
