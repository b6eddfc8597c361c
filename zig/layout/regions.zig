//! regions.zig: what sender and consumer share: a ring, a page of the consumer's own, a pool.

const std = @import("std");
const assert = std.debug.assert;
const Atomic = std.atomic.Value;
const sizes = @import("sizes.zig");
const cache_line_size = sizes.cache_line_size;
const magic = sizes.magic;

/// Version of the regions' layout and of the link protocol: one number, since a grant hands out both.
pub const layout_version = 1;

/// Parts of regions are multiples of this, whatever the page size of the machine (arm64 has up to 64 KiB).
pub const part_size = 64 * 1024;

pub const ring_magic: u64 = magic("QLASRING");
pub const page_magic: u64 = magic("QLASPAGE");

pub const capacity_bytes_min = 64 * 1024;
pub const capacity_bytes_max = 1024 * 1024 * 1024;

/// Where a block of a pool starts is said in units of this.
pub const pool_unit = 64;
pub const pool_bytes_min = 1024 * 1024;
pub const pool_bytes_max = 1024 * 1024 * 1024;

/// Room at the end of a ring that only slot, mark and goodbye frames may use (design D11).
pub const reserved_bytes_min = 16 * 1024;
pub const reserved_fraction = 16;

/// The part of a ring region that describes it. In the file it stands behind the data (so that the data may start on
/// a huge page); in memory it is mapped in front of them. Written by the producer alone; consumers map it read-only.
pub const RingHeader = extern struct {
    /// Stored last by the creator, before the region is passed on.
    magic: u64,
    layout_version: u32,
    header_size: u32,
    capacity_bytes: u64,
    reserved_bytes: u64,
    /// Random, the same for all connections of one sender: what a resume by sequence asks for.
    sender_id: [16]u8,
    connection_id: u64,
    pad_0: [8]u8,
    /// Bytes ever committed. It never decreases and is a multiple of `frame_align`.
    producer_cursor: Atomic(u64) align(cache_line_size),
    /// Matching updates of the newest commit and all before, whatever became of them: in a frame, lost, or waiting at the sender
    /// for room. `FrameHeader.ordinal`, with more bits, counts up to its frame. Stored without a frame, too.
    producer_ordinal: Atomic(u64),
    /// The newest slot that the sender has published anything of, whatever this connection's filters and room.
    newest_slot: Atomic(u64),
    pad_1: [40]u8,
    /// Not 0 once no frame will follow: the `EndReason`.
    closing: Atomic(u32) align(cache_line_size),
    /// Not 0 once blocks that this connection still sees may be reused (design D5). Reserved for pools.
    revoked: Atomic(u32),
    /// The consumer goes on here, past all that is older: the policy `drop-oldest`. Behind its cursor: nothing to skip.
    skip_to: Atomic(u64),
    pad_2: [48]u8,
    /// Odd while the producer waits for room (the mirror of `ConsumerPage.park_epoch`).
    space_epoch: Atomic(u32) align(cache_line_size),
    pad_3: [60]u8,

    comptime {
        assert(@offsetOf(RingHeader, "producer_cursor") == 1 * cache_line_size);
        assert(@offsetOf(RingHeader, "closing") == 2 * cache_line_size);
        assert(@offsetOf(RingHeader, "space_epoch") == 3 * cache_line_size);
        assert(@sizeOf(RingHeader) == 4 * cache_line_size);
        assert(@sizeOf(RingHeader) <= part_size);
    }
};

/// Latencies are counted in buckets: four for each power of two nanoseconds, from 128 ns on.
pub const latency_buckets = 112;
pub const latency_shift_min = 7;

/// One writer; each word by itself.
pub const ReadReport = extern struct {
    frames: u64,
    /// Matching updates that did not come, skipped ones included.
    lost: u64,
    /// Looks at the ring that found something.
    polls: u64,
    /// When what was handed out last had been published: nanoseconds since the Unix epoch.
    publish_ns: u64,
    /// From publish to read, of the oldest frame of each look.
    latency: [latency_buckets]u64,
    /// Times that it went to sleep, and that it looked without pause for a while.
    parks: u64,
    spins: u64,
};

/// What a consumer tells its producer: a region of its own, since every word has one writer (design D1).
/// The sender creates it and maps it read-only.
pub const ConsumerPage = extern struct {
    /// Written by the sender before the region is passed on; checked by the consumer when it joins.
    magic: u64,
    layout_version: u32,
    pad_0: [52]u8,
    /// Bytes ever released. It never decreases and never passes `producer_cursor`.
    consumer_cursor: Atomic(u64) align(cache_line_size),
    /// Updates in frames that `skip_to` made it jump over: what it lost that the producer had written.
    skipped_updates: Atomic(u64),
    pad_1: [48]u8,
    /// Odd while the consumer is parked, or about to be (design D6).
    park_epoch: Atomic(u32) align(cache_line_size),
    pad_2: [60]u8,
    /// What the consumer has handed to its application: information for the sender's stat page, and nothing else.
    read: ReadReport align(cache_line_size),

    comptime {
        assert(@offsetOf(ConsumerPage, "consumer_cursor") == 1 * cache_line_size);
        assert(@offsetOf(ConsumerPage, "park_epoch") == 2 * cache_line_size);
        assert(@offsetOf(ConsumerPage, "read") == 3 * cache_line_size);
        assert(@sizeOf(ConsumerPage) <= part_size);
    }
};
