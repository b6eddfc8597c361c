//! stat_page.zig: what a sender shows of itself to whoever may look, and what TypeScript tells it for that (ADR 0024).

const std = @import("std");
const assert = std.debug.assert;
const frames = @import("frames.zig");
const regions = @import("regions.zig");
const sizes = @import("sizes.zig");
const loss_reasons = frames.loss_reasons;
const latency_buckets = regions.latency_buckets;
const ReadReport = regions.ReadReport;
const magic = sizes.magic;
const name_bytes_max = sizes.name_bytes_max;

pub const stat_magic: u64 = magic("QLASSTAT");
/// Of the stat page, which readers of other versions of the library look at.
pub const stat_version = 2;
pub const stat_header_size = 4096;

/// What a sender shows of itself to whoever may read its memory (ADR 0024). One writer: the sender. Each word by itself is
/// what it was at some time; no two belong together, but for the identity of an entry.
pub const StatHeader = extern struct {
    magic: u64,
    version: u32,
    header_size: u32,
    entry_size: u32,
    entry_count: u32,
    /// Random: the sender's lock file has the same.
    id: [16]u8,
    pid: u64,
    started_ns: u64,
    /// Entries from this one on were never used.
    entries_used: u64,
    /// When the sender's event loop ran last, how often it means to, how often it did: ns since the Unix epoch, ns, count.
    beat_ns: u64,
    beat_interval_ns: u64,
    beats: u64,
    /// Time by which the event loop was late, in all and at most.
    stall_total_ns: u64,
    stall_max_ns: u64,
    /// When something was published last; 0: never.
    publish_ns: u64,
    sequence: u64,
    accounts: u64,
    transactions: u64,
    slots: u64,
    deliveries: u64,
    /// By `LossReason`.
    lost_by: [loss_reasons]u64,
    unchanged: u64,
    older_versions: u64,
    newest_slot: u64,
    account_keys: u64,
    owner_keys: u64,
    tracked: u64,
    index_bytes: u64,
    pool_bytes: u64,
    pool_used_bytes: u64,
    /// What TypeScript counts: `StatBeat`.
    connections: u64,
    refused: u64,
    memory_bytes: u64,
    /// Connections that ended, by `StatEnd`.
    ended: [stat_ends]u64,
    /// The last one that the sender ended. Stands between two even versions that are the same.
    dropped_version: u32,
    dropped_reason: u32,
    dropped: StatDropped,
    /// How late the event loop was, at each beat.
    stalls: [latency_buckets]u64,

    comptime {
        assert(@sizeOf(StatHeader) <= stat_header_size);
    }
};

/// One consumer. What it is stands between two even versions that are the same; its counters are words by themselves.
pub const StatEntry = extern struct {
    version: u32,
    /// 0: nobody; 1: a consumer.
    state: u32,
    id: u64,
    connected_ms: u64,
    pid: u32,
    uid: u32,
    /// 0: native; 1: wire version 9.
    protocol: u32,
    policy: u32,
    transaction_policy: u32,
    name_length: u32,
    name: [name_bytes_max]u8,
    frames: u64,
    bytes: u64,
    /// By `LossReason`.
    lost_by: [loss_reasons]u64,
    /// Updates that matched, waiting and lost ones included, and bytes of the ring that were committed and given back.
    ordinal: u64,
    producer_cursor: u64,
    consumer_cursor: u64,
    ring_bytes: u64,
    waiting_frames: u64,
    waiting_bytes: u64,
    /// Age of what it has handed out last, behind what was published last; 0 if it has handed out all.
    behind_ns: u64,
    pool_bytes: u64,
    account_keys: u64,
    owner_keys: u64,
    takes_transactions: u64,
    filters: u64,
    parked: u64,
    wakes: u64,
    /// The consumer's own words, copied at each beat; zeros from version 9.
    read: ReadReport,
};

/// What a consumer is, as TypeScript says it.
pub const StatIdentity = extern struct {
    id: f64,
    connected_ms: f64,
    pid: u32,
    uid: u32,
    protocol: u32,
    policy: u32,
    transaction_policy: u32,
    name_length: u32,
    name: [name_bytes_max]u8,
};

/// How a connection ended, as its sender saw it. The last three were the sender's doing.
pub const StatEnd = enum(u32) {
    consumer_closed = 0,
    consumer_gone = 1,
    slow_consumer = 2,
    peer_corrupt = 3,
    /// Wire version 9: it had said nothing for too long.
    idle = 4,
};
pub const stat_ends = @typeInfo(StatEnd).@"enum".field_names.len;

/// A consumer that the sender has ended.
pub const StatDropped = extern struct {
    id: f64,
    /// When: milliseconds since the Unix epoch; 0: none was.
    at_ms: f64,
    pid: u32,
    name_length: u32,
    name: [name_bytes_max]u8,
};

/// A beat of the sender's event loop, and what only TypeScript counts.
pub const StatBeat = extern struct {
    interval_ns: f64,
    stall_ns: f64,
    connections: f64,
    refused: f64,
    memory_bytes: f64,
    /// By `StatEnd`.
    ended: [stat_ends]f64,
    /// The last one that the sender ended, and why: a `StatEnd`.
    dropped_reason: u32,
    pad_0: u32 = 0,
    dropped: StatDropped,
};
