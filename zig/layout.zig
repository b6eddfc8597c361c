//! layout.zig: every number that two processes, or the two languages, must agree on.
//! May touch: nothing. Types and constants only, proven at comptime.
//! May not touch: memory, system calls.
//! Why here and only here: abi.zig turns this file into src/native/abi.generated.ts and into the hash that both
//! sides compare when the library is loaded. A changed field means a new `layout_version`, a changelog line, an ADR.

const std = @import("std");
const assert = std.debug.assert;
const Atomic = std.atomic.Value;

/// Version of the regions' layout and of the link protocol: one number, since a grant hands out both.
pub const layout_version = 1;

pub const cache_line_size = 64;

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

/// Frames start on multiples of this, so that every u64 in them is aligned.
pub const frame_align = 8;

/// Solana's limit for the data of an account; it also bounds a transaction's message and meta.
pub const payload_bytes_max = 10 * 1024 * 1024;
pub const signature_size = 64;
pub const address_size = 32;

/// Room at the end of a ring that only slot, mark and goodbye frames may use (design D11).
pub const reserved_bytes_min = 16 * 1024;
pub const reserved_fraction = 16;

fn magic(comptime text: *const [8]u8) u64 {
    return std.mem.readInt(u64, text, .little);
}

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
    /// Matching updates up to there, those that were lost included: what `FrameHeader.ordinal` counts, with more bits.
    producer_ordinal: Atomic(u64),
    /// The newest slot that the sender has published anything of, whatever this connection's filters.
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

pub const FrameKind = enum(u16) {
    account = 1,
    transaction = 2,
    slot = 3,
    /// Updates were lost and no data frame came since that could have said so.
    gap = 4,
    /// An edit of the connection's filters took effect here.
    filter = 5,
    /// The producer's last words: the reason in `closing` follows.
    goodbye = 6,
    /// An account matches filters of the connection no longer. An update like others, but for its size.
    left = 7,
    /// All that a request for state asked for stands before it.
    snapshot_complete = 8,
    /// A bank is dead, and what it wrote never was: restored and withdrawn accounts follow. An update like others.
    rollback = 9,
    /// Of an account nothing is known any longer, since all that was known was a dead bank's. The body is a `LeftBody`.
    withdrawn = 10,
    /// A connection that was resumed has caught up: from here on updates are live.
    resumed = 11,
    _,
};

/// In front of every frame (design D3). What differs per consumer stands here, never in a pool.
pub const FrameHeader = extern struct {
    /// Bytes of header and body, before padding to `frame_align`.
    length: u32,
    kind: u16,
    flags: u16,
    /// Place in the sender's one order of accounts, transactions and slots: the first is 1. Filters make holes.
    sequence: u64,
    /// When the sender committed to publishing it: nanoseconds since the Unix epoch.
    publish_ns: u64,
    /// When its source saw it, likewise; 0 if unknown.
    source_ns: u64,
    /// Which of the connection's named filters matched, by their bits; all ones in frames that no filter is asked for.
    filter_mask: u64,
    /// Matching updates that this connection did not get since its previous frame.
    lost: u32,
    /// Those of them that a newer value of the same account replaced.
    conflated: u32,
    pool_block: u32,
    pool_generation: u32,
    body_length: u32,
    /// Matching updates of this connection up to this frame, lost ones included: the first is 1. It wraps.
    ordinal: u32,

    comptime {
        assert(@sizeOf(FrameHeader) == 64);
    }
};

/// Bits of `FrameHeader.flags`.
pub const frame_flag_startup: u16 = 1 << 0;
pub const frame_flag_lossy: u16 = 1 << 1;
/// Account: the 64 bytes in front of the data are the signature of the writing transaction.
pub const frame_flag_signature: u16 = 1 << 2;
pub const frame_flag_executable: u16 = 1 << 3;
/// Transaction.
pub const frame_flag_vote: u16 = 1 << 4;
pub const frame_flag_failed: u16 = 1 << 5;
pub const frame_flag_meta: u16 = 1 << 6;
/// Account: only slices of the data follow, as the filter asked; and the data end before a slice does.
pub const frame_flag_sliced: u16 = 1 << 7;
pub const frame_flag_clipped: u16 = 1 << 8;
/// Account, slot: not a write, but what the sender knew of it when it was asked for state.
pub const frame_flag_state: u16 = 1 << 9;
/// Account: this version holds again, since a newer one was a dead bank's.
pub const frame_flag_restored: u16 = 1 << 10;

/// Followed by the signature (if flagged), then `data_length` bytes of data.
pub const AccountBody = extern struct {
    pubkey: [address_size]u8,
    owner: [address_size]u8,
    lamports: u64,
    rent_epoch: u64,
    slot: u64,
    /// 0 = unknown.
    bank_id: u64,
    write_version: u64,
    /// Bytes of data that follow, or lie in the pool.
    data_length: u32,
    /// Counts the sources of a sender: versions of a later one are newer (design D14).
    source_epoch: u32,
    /// Bytes of data that the account has: more than follow if a filter asked for slices.
    full_length: u32,
    pad_0: u32,

    comptime {
        assert(@sizeOf(AccountBody) == 120);
    }
};

/// An account has left filters of the connection, those in `FrameHeader.filter_mask`: it matches them no longer.
pub const LeftBody = extern struct {
    pubkey: [address_size]u8,
    /// The owner, by the write that made it leave.
    owner: [address_size]u8,
    lamports: u64,
    slot: u64,
    bank_id: u64,
    write_version: u64,

    comptime {
        assert(@sizeOf(LeftBody) == 96);
    }
};

/// What a request for state brought. Its filter stands in `FrameHeader.filter_mask`.
pub const SnapshotCompleteBody = extern struct {
    /// The request took effect here: what the sender knew by then was sent as state, what came later is live.
    as_of_sequence: u64,
    /// Accounts that matched: sent as state, or live meanwhile.
    known: u64,
    /// Keys of the request that the sender knows nothing of.
    unknown_keys: u64,
    /// Accounts that the sender has forgotten for want of memory since it began.
    evicted: u64,
    /// The edit that asked for it.
    generation: u32,
    /// Not 0: cut short, since the filter was replaced or removed.
    is_cut: u32,

    comptime {
        assert(@sizeOf(SnapshotCompleteBody) == 40);
    }
};

pub const RollbackBody = extern struct {
    slot: u64,
    /// 0: unknown, or all banks of the slot.
    bank_id: u64,
    /// Accounts whose newest version it had written: of each follows the version that holds again, or that there is none.
    accounts: u64,
    /// 0: what follows says all. Else accounts that the sender has forgotten for want of memory since it began, at least 1: some
    /// that this bank had written are among them, or what held before it is forgotten.
    evicted: u64,

    comptime {
        assert(@sizeOf(RollbackBody) == 32);
    }
};

pub const ResumedBody = extern struct {
    /// The sequence that the consumer had handled last.
    after: u64,
    /// Updates up to this one were replayed.
    replayed_to: u64,
    /// Updates from behind this one are live. What lies between the two is lost: how much of it matched, nobody knows.
    live_after: u64,
    /// Accounts that senders before this one, whose order it has taken over, had forgotten by then for want of memory.
    evicted: u64,

    comptime {
        assert(@sizeOf(ResumedBody) == 32);
    }
};

/// An edit of the connection's filters takes effect here: it holds for every greater sequence.
pub const FilterMarkBody = extern struct {
    /// Counts the edits of this connection.
    generation: u32,
    pad_0: u32,
};

/// Followed by the message. Then, if there are loaded addresses or a meta: padding to `frame_align`, the addresses that the
/// transaction loaded from lookup tables, the meta (transaction.zig).
pub const TransactionBody = extern struct {
    slot: u64,
    bank_id: u64,
    signature: [signature_size]u8,
    index: u32,
    message_length: u32,
    meta_length: u32,
    /// Loaded addresses of 32 bytes: those that it may write to, then the others. At most `loaded_keys_max` together.
    loaded_writable_count: u16,
    loaded_readonly_count: u16,

    comptime {
        assert(@sizeOf(TransactionBody) == 96);
    }
};

pub const SlotBody = extern struct {
    slot: u64,
    parent: u64,
    bank_id: u64,
    accounts_published: u64,
    transactions_published: u64,
    accounts_lost: u64,
    transactions_lost: u64,
    /// Index into TypeScript's SLOT_STATUSES, which is Yellowstone's numbering.
    status: u32,
    pad_0: u32,

    comptime {
        assert(@sizeOf(SlotBody) == 64);
    }
};

/// Body of a gap frame. The count itself stands in `FrameHeader.lost`.
pub const GapBody = extern struct {
    /// Updates lost on this connection since it began.
    lost_total: u64,
};

pub const GoodbyeBody = extern struct {
    reason: u32,
    pad_0: u32,
};

/// Why a producer ended a connection: `RingHeader.closing`, `GoodbyeBody.reason`, link message `goodbye`.
pub const EndReason = enum(u32) {
    none = 0,
    sender_closed = 1,
    slow_consumer = 2,
    peer_corrupt = 3,
    consumer_closed = 4,
    /// Another sender has taken the path over: it goes on with the same order of updates.
    handed_over = 5,
    _,
};

/// Why a consumer did not get an update that it wanted: a place in `lost_by`.
pub const LossReason = enum(u32) {
    /// A newer version of the account took its place: the policy `conflate`.
    replaced = 0,
    /// It jumped over it, by its own word: the policy `drop-oldest`.
    skipped = 1,
    /// Its ring had no room.
    ring_full = 2,
    /// Payloads that it has not given back are as much of the pool as it may hold.
    pool_share = 3,
    /// The pool had no room for the payload, and its ring none for a copy.
    pool_full = 4,
    /// What waits for it at the sender had reached its bound.
    queue_full = 5,
    /// It can never fit: its ring, or what may wait for it.
    too_large = 6,
    /// The system had no memory for what waits for it.
    no_memory = 7,
    /// It waited for room until the end of the connection.
    ended = 8,
};
pub const loss_reasons = @typeInfo(LossReason).@"enum".field_names.len;

/// What `ring_poll` writes for each frame: u32 values, checked once against what is published. TypeScript takes every
/// length and offset from here and none from shared memory. Offsets count from the start of the ring's data.
pub const PollRecord = extern struct {
    frame_offset: u32,
    kind: u16,
    flags: u16,
    /// Bytes of the ring from the end of the frame before to the end of this one: what giving it back frees.
    ring_bytes: u32,
    /// Matching updates that did not come between the frame before and this one.
    lost: u32,
    /// Account data or transaction message. Frames that have neither say here what `skip_to` made this consumer jump over:
    /// a slot frame by the lengths, the accounts and the transactions of its slot (at most 2^32 - 1); a gap by both lengths,
    /// low and high half, all updates.
    payload_offset: u32,
    payload_length: u32,
    /// Transaction meta, or the signature of an account.
    extra_offset: u32,
    extra_length: u32,

    comptime {
        assert(@sizeOf(PollRecord) == 32);
    }
};

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
    /// Updates that matched, and bytes of the ring that were committed and given back.
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

/// 1,024 native ones, and the slots of version 9.
pub const fanout_consumers_max = 1280;
/// In the result of a publish: there is an event to ask for.
pub const fanout_event_flag = 1 << 30;
/// In the result of any call: snapshots or resumed consumers wait for nothing but time (`fanout_pump`).
pub const fanout_work_flag = 1 << 29;

/// How much of its memory a sender's state, or its history, takes: in parts of 64 KiB, at most 64 GiB.
pub const state_parts_min = 64;
pub const state_parts_max = 1 << 20;

/// How a fan-out is made.
pub const FanoutOptions = extern struct {
    /// Random and secret: keys are chosen by others.
    seed: [16]u8,
    keys_max: u32,
    keys_per_consumer_max: u32,
    pool_bytes: u32,
    pool_threshold: u32,
    /// Accounts that are remembered for `onlyChanged`, for leaving filters, and for the order of versions.
    tracked_max: u32,
    /// 0: versions are not compared; 1: older ones after newer ones are counted; 2: and not published.
    guard: u32,
    /// Most memory of the state, in parts of 64 KiB; 0: there is none.
    state_parts: u32,
    /// 0: what a filter has matched; 1: all accounts.
    state_keep: u32,
    /// Memory of the history, likewise.
    history_parts: u32,
    /// How long a consumer that gives nothing back may leave no room for marks, in milliseconds, before it is ended.
    stall_ms: u32,
    /// Not 0: there is a stat page, with this id.
    has_stats: u32,
    stat_id: [16]u8,
};

/// How a consumer takes part in a fan-out.
pub const FanoutConsumer = extern struct {
    seed: [16]u8,
    policy: u32,
    transaction_policy: u32,
    /// A bit for each slot status that it gets.
    statuses: u32,
    /// Most bytes that wait for it at the sender.
    backlog_bytes: u32,
    /// Most bytes of the pool that frames in its ring may hold; 0: its frames carry all of their payload.
    pool_bytes: u32,
    /// Not 0: it gets nothing until `fanout_start`, and then what came after `resume_after`.
    is_held: u32,
    resume_after: f64,
};

/// What `fanout_info` writes: counts since it was made, exact to 2^53.
pub const FanoutInfo = extern struct {
    sequence: f64,
    accounts: f64,
    transactions: f64,
    slots: f64,
    deliveries: f64,
    /// By `LossReason`.
    lost_by: [loss_reasons]f64,
    unchanged: f64,
    stale: f64,
    newest_slot: f64,
    account_keys: f64,
    owner_keys: f64,
    tracked: f64,
    index_bytes: f64,
    pool_bytes: f64,
    pool_used_bytes: f64,
    state_bytes: f64,
    state_accounts: f64,
    state_versions: f64,
    state_evicted: f64,
    /// Banks that were taken back, and accounts that were so.
    rollbacks: f64,
    rolled_back: f64,
    history_bytes: f64,
    /// A consumer that has handled this sequence, or a greater one, can be resumed; -1: none can.
    history_from: f64,
};

/// What a key is wanted for, in a DemandRecord: updates of the account, or of accounts that it owns; transactions that
/// name it.
pub const demand_accounts = 1;
pub const demand_transactions = 2;

/// What `fanout_demand` writes in front of its records.
pub const DemandHead = extern struct {
    /// 0: there may be more.
    is_done: u32,
    /// Whether a filter without keys asks for accounts, and for transactions.
    all_accounts: u32,
    all_transactions: u32,
    pad_0: u32,
};

/// A key that is wanted for something else than was told last.
pub const DemandRecord = extern struct {
    key: [address_size]u8,
    /// 0 account, 1 owner.
    kind: u8,
    was: u8,
    now: u8,
    pad_0: u8 = 0,

    comptime {
        assert(@sizeOf(DemandRecord) == 36);
    }
};

/// What `fanout_consumer_info` writes.
pub const FanoutConsumerInfo = extern struct {
    account_keys: f64,
    owner_keys: f64,
    takes_transactions: f64,
    /// 1 while the sender waits for room in its ring.
    is_awaited: f64,
    frames: f64,
    bytes: f64,
    /// By `LossReason`.
    lost_by: [loss_reasons]f64,
    waiting_frames: f64,
    waiting_bytes: f64,
    pool_bytes: f64,
    gap_due: f64,
    /// 1 while the mark of an edit waits for room.
    edit_due: f64,
    /// Requests for state that are not answered whole, and 1 while it is held or catches up.
    snapshots: f64,
    is_behind: f64,
};

/// One target of `ring_offer`: the ring's handle in, the outcome out.
pub const OfferTarget = extern struct {
    ring: u32,
    status: i32,
};

/// What `ring_info` writes. Cursors are f64: exact to 2^53 bytes.
pub const RingInfo = extern struct {
    capacity_bytes: f64,
    reserved_bytes: f64,
    producer_cursor: f64,
    consumer_cursor: f64,
    connection_id: f64,
    closing: f64,
    parked: f64,
    wakes: f64,
    lost_pending: f64,
    /// At a consumer's end: matching updates that the sender has offered it, and those that it has handed out; the newest
    /// slot that the sender knows; when the oldest frame that was not handed out was published, in µs since the Unix
    /// epoch, 0 for none.
    producer_ordinal: f64,
    consumer_ordinal: f64,
    newest_slot: f64,
    oldest_us: f64,
};

/// In front of every message on a link. Starts with ASCII "QLAS", which no v9 peer takes for a length (design D15).
pub const LinkHeader = extern struct {
    magic: u32,
    version: u16,
    kind: u16,
    body_length: u32,
    /// Chosen by who asks, echoed in the answer; 0 where no answer is expected.
    request_id: u32,

    comptime {
        assert(@sizeOf(LinkHeader) == 16);
    }
};

/// Of the header itself; what follows is agreed on by hello and grant, so this one stays.
pub const link_version: u16 = 1;
pub const link_magic: u32 = std.mem.readInt(u32, "QLAS", .little);
pub const link_body_bytes_max = 1024 * 1024;
pub const link_descriptors_max = 4;

pub const LinkKind = enum(u16) {
    /// Consumer to sender, with one descriptor: the consumer's wake.
    hello = 1,
    /// Sender to consumer, with three: ring, consumer page, the sender's wake; and the pool, if there is one.
    grant = 2,
    subscribe = 3,
    ack = 4,
    ping = 5,
    pong = 6,
    /// Either side, before it closes: the reason.
    goodbye = 7,
    /// The sender's answer to a hello or request that it does not grant: a status and a text.
    refuse = 8,
    /// Consumer to sender: edits one filter. Answered like subscribe.
    filter = 9,
    /// Consumer to sender: a resumed connection has its filters, and wants what it missed. Answered like subscribe.
    start = 10,
    /// A new sender to an old one: it wants the path and the order of updates.
    takeover = 11,
    /// Its answer: the last sequence.
    handover = 12,
    _,
};

/// Body of a hello, followed by `name_length` bytes of UTF-8.
pub const HelloBody = extern struct {
    version_min: u16,
    version_max: u16,
    name_length: u32,
    /// A `Policy` for accounts and slots, and one for transactions.
    policy: u16,
    transaction_policy: u16,
    /// Most bytes that may wait at the sender, for policies that let them; 0: as the sender likes.
    backlog_bytes: u32,
    /// The sequence that it handled last, and at which sender: to be resumed from there. An id of zeros: it is new.
    resume_after: u64,
    resume_sender_id: [16]u8,

    comptime {
        assert(@sizeOf(HelloBody) == 40);
    }
};
pub const name_bytes_max = 64;

pub const GrantBody = extern struct {
    version: u16,
    pad_0: u16,
    reserved_bytes: u32,
    capacity_bytes: u64,
    connection_id: u64,
    sender_id: [16]u8,
    /// Bytes of the pool, which comes as a fourth descriptor; 0: there is none.
    pool_bytes: u32,
    /// What happens when the ring is full, as far as the sender permits what was asked for.
    policy: u16,
    transaction_policy: u16,
    /// Sequence of the newest update.
    sequence: u64,
    /// A consumer that has handled this sequence, or a greater one, can be resumed; all ones: none can.
    history_from: u64,
    /// What else the sender does: `grant_has_…`.
    features: u32,
    /// Not 0: the connection is resumed. It gets nothing until it says `start`, and then what it missed.
    is_resumed: u32,

    comptime {
        assert(@sizeOf(GrantBody) == 72);
    }
};

/// It keeps state, and so answers requests for it; it can tell of room in rings of any policy.
pub const grant_has_state: u32 = 1 << 0;
pub const grant_has_history: u32 = 1 << 1;
/// It lets another sender of its user take its path over.
pub const grant_has_takeover: u32 = 1 << 2;

/// Body of a handover.
pub const HandoverBody = extern struct {
    sequence: u64,
    newest_slot: u64,
    /// Accounts forgotten for want of memory, by it and those before it.
    evicted: u64,
};

/// What happens to a consumer whose ring is full (design D12).
pub const Policy = enum(u32) {
    /// Its connection ends, as in the original.
    disconnect = 0,
    /// The update is lost.
    drop_newest = 1,
    /// What it has not read is skipped, and the newest updates wait at the sender.
    drop_oldest = 2,
    /// Updates wait at the sender, the newest of each account.
    conflate = 3,
    /// Nothing is published until it has room.
    block = 4,
    _,
};

/// What an edit does to one named filter of a connection.
pub const FilterOp = enum(u8) {
    /// Adds keys, and makes the filter if there is none.
    add = 1,
    /// Takes keys away.
    remove = 2,
    /// Makes it anew, in one step.
    replace = 3,
    /// Takes it away.
    drop = 4,
    _,
};

/// Edits one filter. Followed by the account keys, then the owner keys, 32 bytes each, then the program.
pub const FilterBody = extern struct {
    op: u8,
    /// Which filter: its bit in `FrameHeader.filter_mask`. 0 is the one of subscribe messages.
    bit: u8,
    /// Not 0: all transactions, too (add), or no longer (remove).
    transactions: u8,
    /// 0: more keys follow in further messages of op add, and the filter is in force with the last one (op replace).
    is_last: u8,
    account_count: u32,
    owner_count: u32,
    program_length: u32,
    /// `filter_flag_state`, `filter_flag_versions`.
    flags: u32,

    comptime {
        assert(@sizeOf(FilterBody) == 20);
    }
};
/// Of filter and subscribe messages: what the sender knows of these keys comes first (op add, replace), and then
/// `snapshot_complete`, once, for all messages of a request.
pub const filter_flag_state: u32 = 1 << 0;
/// Of subscribe messages: more of the same request follow, which only matters for its state.
pub const filter_flag_more: u32 = 1 << 1;
/// Of filter messages that ask for state, by who is to take over: of each account all versions that are kept, and what is known of
/// forks, as slot frames flagged `state`.
pub const filter_flag_versions: u32 = 1 << 2;
pub const filters_per_consumer_max = 64;
/// Filters of a sender.
pub const filters_max = 2048;
/// Sets of filters that keys of a sender have; those that one filter made; bytes of their members.
pub const filter_sets_max = 1 << 18;
pub const filter_sets_made_max = 1 << 16;
pub const filter_set_bytes_max = 64 << 20;
/// Requests for state of one consumer that wait, and bytes of the keys of all of a sender.
pub const state_requests_max = 256;
pub const state_request_bytes_max = 128 << 20;

/// Followed by the account keys, then the owner keys, 32 bytes each.
pub const SubscribeBody = extern struct {
    account_count: u32,
    owner_count: u32,
    transactions: u32,
    /// `filter_flag_…`.
    flags: u32,
};

pub const AckBody = extern struct {
    sequence: u64,
    generation: u32,
    pad_0: u32,
};

/// Followed by `text_length` bytes of UTF-8 that say what to do.
pub const RefuseBody = extern struct {
    status: i32,
    text_length: u32,
};

// Wire version 9 and the shaq ring: the formats of the Rust original, as it is (docs/interop.md). Packed fields of
// several bytes are arrays here, since nothing in them is aligned; all are little-endian.

pub const v9_version: u8 = 9;

pub const V9Tag = enum(u8) {
    subscribe = 1,
    account = 2,
    ready = 3,
    ping = 4,
    ready_shm = 5,
    transaction = 6,
    slot = 7,
    _,
};

/// The original's number of slots, and the index that stands for "no slot".
pub const v9_slots_default = 10;
pub const v9_slot_none = 255;
/// A slot whose consumer has said nothing for longer than this is evicted.
pub const v9_idle_ms = 30_000;
/// How often our consumer pings.
pub const v9_ping_ms = 10_000;
/// Longest body of a control frame that is read.
pub const v9_control_bytes_max = 16 * 1024 * 1024;
/// Most keys in one list: 4,194,304 bytes of elements.
pub const v9_list_keys_max = 131_072;
/// The original receives READY_SHM, prefix included, into a buffer of this size, in one piece.
pub const v9_ready_shm_bytes_max = 1024;
pub const v9_path_bytes_max = v9_ready_shm_bytes_max - 4 - @sizeOf(V9ReadyShm) - 8;
/// Length prefix in a ring that stands for "closed".
pub const v9_sentinel: u32 = 0xffff_ffff;
/// Account flags. Any other bit is malformed.
pub const v9_flag_lz4: u8 = 1;
/// In `PollRecord.flags`: the payload was compressed, and lies decompressed in private memory.
pub const frame_flag_decompressed: u16 = 1 << 15;
/// When the original compresses: from this size on, if the first bytes alone shrink by 0.75 %, and the whole shrinks.
pub const v9_compress_bytes_min = 512_000;
pub const v9_compress_probe_bytes = 8192;
pub const v9_compress_gain_min = 75;

/// SUBSCRIBE: then `account_count` keys, u64 owner count, that many keys, a bool.
pub const V9Subscribe = extern struct {
    version: u8,
    tag: u8,
    slot_index: u8,
    slot_generation: [8]u8,
    account_count: [8]u8,

    comptime {
        assert(@sizeOf(V9Subscribe) == 19);
    }
};

/// PING and READY.
pub const V9Token = extern struct {
    version: u8,
    tag: u8,
    slot_index: u8,
    slot_generation: [8]u8,

    comptime {
        assert(@sizeOf(V9Token) == 11);
    }
};

/// READY_SHM: then the path, then u64 capacity.
pub const V9ReadyShm = extern struct {
    version: u8,
    tag: u8,
    slot_index: u8,
    slot_generation: [8]u8,
    path_length: [8]u8,

    comptime {
        assert(@sizeOf(V9ReadyShm) == 19);
        assert(v9_path_bytes_max == 993);
    }
};

/// In front of an account's payload.
pub const V9Account = extern struct {
    version: u8,
    tag: u8,
    created_ns: [8]u8,
    pubkey: [address_size]u8,
    owner: [address_size]u8,
    lamports: [8]u8,
    executable: u8,
    rent_epoch: [8]u8,
    slot: [8]u8,
    write_version: [8]u8,
    flags: u8,
    raw_length: [4]u8,
    wire_length: [4]u8,

    comptime {
        assert(@sizeOf(V9Account) == 116);
    }
};

/// In front of a transaction's payload.
pub const V9Transaction = extern struct {
    version: u8,
    tag: u8,
    created_ns: [8]u8,
    slot: [8]u8,
    index: [4]u8,
    vote: u8,
    signature: [signature_size]u8,
    payload_length: [4]u8,

    comptime {
        assert(@sizeOf(V9Transaction) == 91);
    }
};

pub const V9Slot = extern struct {
    version: u8,
    tag: u8,
    created_ns: [8]u8,
    slot: [8]u8,

    comptime {
        assert(@sizeOf(V9Slot) == 18);
    }
};

pub const shaq_magic: u64 = 0x7368_6171_6d70_6d63;
/// Versions 2.0 and 3.0 of the crate's ABI. Both count bytes; 3.0 has the waiters' word, so its data begin later.
pub const shaq_version_2: u32 = 0x0002_0000;
pub const shaq_version_3: u32 = 0x0003_0000;
pub const shaq_capacity_bytes_min = 64;
/// One of our buffers holds the ring and what does not lie in one piece in it, and has at most 4 GiB.
pub const shaq_capacity_bytes_max = 2 * 1024 * 1024 * 1024;

pub const ShaqHeader = extern struct {
    /// Stored last by the creator.
    magic: Atomic(u64),
    version: u32,
    buffer_mask: u32,
    pad_0: [48]u8,
    producer_reservation: Atomic(u64) align(cache_line_size),
    pad_1: [56]u8,
    producer_publication: Atomic(u64) align(cache_line_size),
    pad_2: [56]u8,
    consumer_reservation: Atomic(u64) align(cache_line_size),
    pad_3: [56]u8,
    consumer_release: Atomic(u64) align(cache_line_size),
    pad_4: [56]u8,

    comptime {
        assert(@offsetOf(ShaqHeader, "producer_reservation") == 64);
        assert(@offsetOf(ShaqHeader, "producer_publication") == 128);
        assert(@offsetOf(ShaqHeader, "consumer_reservation") == 192);
        assert(@offsetOf(ShaqHeader, "consumer_release") == 256);
        assert(@sizeOf(ShaqHeader) == 320);
    }
};

/// What ABI 3.0 adds: the number of consumers that wait on a futex, on the low half of `producer_publication`.
pub const ShaqHeader3 = extern struct {
    base: ShaqHeader,
    waiters: Atomic(u64) align(cache_line_size),
    pad_0: [56]u8,

    comptime {
        assert(@offsetOf(ShaqHeader3, "waiters") == 320);
        assert(@sizeOf(ShaqHeader3) == 384);
    }
};

/// What `v9_ring_create` writes: the descriptor to pass (the caller's), and the path to name in READY_SHM.
pub const V9Created = extern struct {
    wake_fd: i32,
    path_length: u32,
    path: [v9_path_bytes_max + 7]u8,

    comptime {
        assert(@sizeOf(V9Created) == 1008);
    }
};

// Filter programs: the conditions of one named filter that the sender's index does not hold (filter_program.zig). A
// consumer writes one, the sender checks it once and then runs it for every candidate update.

/// Most keys in one list of a program. Longer lists belong into the index, or are refused.
pub const filter_keys_max = 4096;
pub const filter_memcmps_max = 8;
pub const filter_memcmp_bytes_max = 128;
pub const filter_slices_max = 4;
/// Three full lists, eight full comparisons, and all the rest.
pub const filter_program_bytes_max = 3 * filter_keys_max * address_size + 2048;
/// A message with more keys than an index of one byte reaches is no message.
pub const message_keys_max = 256;
/// An instruction names each key of its transaction, loaded or not, by an index of one byte.
pub const loaded_keys_max = 256;

/// What a filter is about: a filter is of one kind.
pub const FilterKind = enum(u16) {
    accounts = 1,
    transactions = 2,
    slots = 3,
    _,
};

/// One condition. In a program they stand in this order, which is that of the evaluation: the cheap ones first, and each
/// at most once.
pub const FilterOpcode = enum(u16) {
    /// The argument says whether it must be flagged so. No payload.
    startup = 1,
    /// The argument: whether the signature of the writing transaction is there. No payload.
    signature = 2,
    /// u32 least, u32 most length of the data.
    data_size = 3,
    /// u64 least, u64 most.
    lamports = 4,
    /// u64: any but this.
    lamports_not = 5,
    /// The argument counts keys (0: nothing matches), ascending: one of them is the owner.
    owners = 6,
    /// The argument: whether the account is a valid token account of one of the token programs. No payload.
    token_account = 7,
    /// The argument counts comparisons: a FilterRange and that many bytes, padded with zeros to 8. All must hold.
    memcmp = 8,
    /// The argument counts keys, ascending: none of them is the owner.
    owners_not = 9,
    /// The argument counts keys, ascending: none of them is the account.
    accounts_not = 10,
    /// Not a write that left the account as it was. No payload. Nothing but `slices` follows.
    changed = 11,
    /// Not a condition: what travels of the data. The argument counts FilterRanges, ascending, without overlap.
    slices = 12,
    /// Transaction. The argument says whether it must be one. No payload.
    vote = 32,
    failed = 33,
    /// 64 bytes: the first signature.
    first_signature = 34,
    /// The argument counts keys, ascending: the transaction names all of them.
    required = 35,
    /// The argument counts keys, ascending: the transaction names none of them.
    excluded = 36,
    /// Slot. The argument has a bit for each status that is wanted. No payload.
    statuses = 64,
    _,
};

/// Starts a program; the conditions follow. Everything in a program is a multiple of 8 bytes long.
pub const FilterProgram = extern struct {
    kind: u16,
    condition_count: u16,
    /// Bytes of the program, with this header.
    length: u32,

    comptime {
        assert(@sizeOf(FilterProgram) == 8);
    }
};

/// Starts a condition; `length` bytes of payload follow.
pub const FilterCondition = extern struct {
    opcode: u16,
    argument: u16,
    length: u32,

    comptime {
        assert(@sizeOf(FilterCondition) == 8);
        const scalars = 16 * @sizeOf(FilterCondition) + 64 + filter_slices_max * @sizeOf(FilterRange);
        const memcmps = filter_memcmps_max * (@sizeOf(FilterRange) + filter_memcmp_bytes_max);
        assert(3 * filter_keys_max * address_size + memcmps + scalars <= filter_program_bytes_max);
        assert(filter_program_bytes_max <= link_body_bytes_max / 2);
    }
};

/// A piece of an account's data. It ends at or before `payload_bytes_max`, whatever the account's length.
pub const FilterRange = extern struct {
    offset: u32,
    length: u32,
};

pub const FilterOutcome = enum(u32) {
    no = 0,
    /// It would match, had the write changed anything: counted, not sent.
    unchanged = 1,
    yes = 2,
};

/// What `filter_evaluate` writes.
pub const FilterVerdict = extern struct {
    outcome: u32,
    /// 0: the data travel whole.
    slice_count: u32,
    /// Whether the data end before a slice does: not 0.
    clipped: u32,
    pad_0: u32,
    /// Cut to the data.
    slices: [filter_slices_max]FilterRange,

    comptime {
        assert(@sizeOf(FilterVerdict) == 48);
    }
};

/// Results below zero: -1 … -4095 are -errno; ours are `status_base - n`. Numbers never change meaning.
pub const status_base = -4096;

pub const Status = enum(i32) {
    // Normal flow: 1 … 99.
    would_block = status_base - 1,
    full = status_base - 2,
    /// The other end is closed.
    end_of_stream = status_base - 3,
    /// The frame can never fit into this ring.
    too_large = status_base - 4,
    /// Blocks of the pool that were looked at may have been reused meanwhile.
    revoked = status_base - 5,
    // The world: 100 … 199.
    peer_corrupt = status_base - 100,
    /// A region without the right magic.
    bad_magic = status_base - 101,
    bad_version = status_base - 102,
    bad_size = status_base - 103,
    seal_missing = status_base - 104,
    /// Not a descriptor of the type that belongs here.
    bad_descriptor = status_base - 105,
    too_many_descriptors = status_base - 106,
    control_truncated = status_base - 107,
    /// A live sender holds the path.
    path_in_use = status_base - 108,
    /// Something that is no socket stands at the path.
    path_not_socket = status_base - 109,
    /// Others may write into the directory, and it lacks the sticky bit.
    directory_unsafe = status_base - 110,
    wrong_uid = status_base - 111,
    handles_exhausted = status_base - 112,
    memory_limit = status_base - 113,
    consumers_limit = status_base - 114,
    /// More filters than a sender keeps.
    filters_limit = status_base - 120,
    /// More keys than one filter may have.
    filter_keys_limit = status_base - 121,
    /// More different keys than a sender keeps.
    keys_limit = status_base - 122,
    /// More different sets of filters that keys have than a sender keeps.
    sets_limit = status_base - 123,
    /// More requests for state, or more of their keys, than may wait.
    requests_limit = status_base - 124,
    // Wire version 9: the original's error kinds (reference: InvalidWireVersion, InvalidMessageTag, MalformedPayload,
    // PayloadTooLarge, DecodeError).
    v9_version = status_base - 115,
    v9_tag = status_base - 116,
    v9_malformed = status_base - 117,
    v9_too_large = status_base - 118,
    v9_decode = status_base - 119,
    // Your mistake: 200 ….
    bad_handle = status_base - 200,
    bad_argument = status_base - 201,
    path_too_long = status_base - 202,
    unsupported = status_base - 203,
};

/// The library's symbols: name, parameters, result. i32, u32, f64, bool and buffer only (design D19).
pub const Symbol = struct { name: []const u8, parameters: []const Type, result: Type };
pub const Type = enum { i32, u32, f64, bool, buffer, void };

pub const symbols = [_]Symbol{
    .{ .name = "qlaster_abi_hash", .parameters = &.{}, .result = .u32 },
    .{ .name = "qlaster_layout_version", .parameters = &.{}, .result = .u32 },
    .{ .name = "qlaster_instance", .parameters = &.{.f64}, .result = .f64 },
    .{ .name = "qlaster_clock_us", .parameters = &.{}, .result = .f64 },
    .{ .name = "qlaster_uid", .parameters = &.{}, .result = .u32 },
    .{ .name = "qlaster_close", .parameters = &.{.u32}, .result = .i32 },
    .{ .name = "qlaster_fd_close", .parameters = &.{.i32}, .result = .i32 },
    .{ .name = "qlaster_limits_raise", .parameters = &.{}, .result = .i32 },
    .{ .name = "qlaster_listen", .parameters = &.{ .buffer, .u32, .u32 }, .result = .i32 },
    .{ .name = "qlaster_listener_fd", .parameters = &.{.u32}, .result = .i32 },
    .{ .name = "qlaster_listener_accept", .parameters = &.{.u32}, .result = .i32 },
    .{ .name = "qlaster_listener_pass", .parameters = &.{ .u32, .buffer }, .result = .i32 },
    .{ .name = "qlaster_listener_yield", .parameters = &.{.u32}, .result = .i32 },
    .{ .name = "qlaster_listener_take", .parameters = &.{ .buffer, .u32, .u32, .i32, .i32 }, .result = .i32 },
    .{ .name = "qlaster_link_adopt", .parameters = &.{.i32}, .result = .i32 },
    .{ .name = "qlaster_link_fd", .parameters = &.{.u32}, .result = .i32 },
    .{ .name = "qlaster_link_connect", .parameters = &.{ .buffer, .u32 }, .result = .i32 },
    .{ .name = "qlaster_link_peer", .parameters = &.{ .u32, .buffer }, .result = .i32 },
    .{ .name = "qlaster_link_send", .parameters = &.{ .u32, .buffer, .u32, .buffer, .u32 }, .result = .i32 },
    .{ .name = "qlaster_link_receive", .parameters = &.{ .u32, .buffer, .u32, .buffer, .u32 }, .result = .i32 },
    .{ .name = "qlaster_wake_create", .parameters = &.{.buffer}, .result = .i32 },
    .{ .name = "qlaster_wake_open", .parameters = &.{.i32}, .result = .i32 },
    .{ .name = "qlaster_wake_notify", .parameters = &.{.u32}, .result = .i32 },
    .{ .name = "qlaster_ring_create", .parameters = &.{ .u32, .u32, .f64, .buffer, .buffer }, .result = .i32 },
    .{ .name = "qlaster_ring_attach", .parameters = &.{ .u32, .u32 }, .result = .i32 },
    .{ .name = "qlaster_ring_join", .parameters = &.{ .i32, .i32, .i32, .u32, .u32, .u32 }, .result = .i32 },
    .{ .name = "qlaster_ring_address", .parameters = &.{.u32}, .result = .f64 },
    .{ .name = "qlaster_ring_info", .parameters = &.{ .u32, .buffer }, .result = .i32 },
    .{ .name = "qlaster_ring_offer", .parameters = &.{ .buffer, .u32, .buffer, .u32, .buffer, .u32, .u32 }, .result = .i32 },
    .{ .name = "qlaster_ring_commit", .parameters = &.{ .buffer, .u32 }, .result = .i32 },
    .{ .name = "qlaster_ring_end", .parameters = &.{ .u32, .u32 }, .result = .i32 },
    .{ .name = "qlaster_ring_poll", .parameters = &.{ .u32, .buffer, .u32 }, .result = .i32 },
    .{ .name = "qlaster_ring_release", .parameters = &.{ .u32, .u32 }, .result = .i32 },
    .{ .name = "qlaster_ring_park", .parameters = &.{.u32}, .result = .i32 },
    .{ .name = "qlaster_ring_unpark", .parameters = &.{.u32}, .result = .i32 },
    .{ .name = "qlaster_ring_retire", .parameters = &.{.u32}, .result = .i32 },
    .{ .name = "qlaster_ring_spin", .parameters = &.{ .u32, .u32 }, .result = .i32 },
    .{ .name = "qlaster_fanout_create", .parameters = &.{.buffer}, .result = .i32 },
    .{ .name = "qlaster_fanout_pool_fd", .parameters = &.{.u32}, .result = .i32 },
    .{ .name = "qlaster_fanout_add", .parameters = &.{ .u32, .u32, .buffer }, .result = .i32 },
    .{ .name = "qlaster_fanout_remove", .parameters = &.{ .u32, .u32, .u32 }, .result = .i32 },
    .{ .name = "qlaster_fanout_sweep", .parameters = &.{ .u32, .u32 }, .result = .i32 },
    .{ .name = "qlaster_fanout_clock", .parameters = &.{ .u32, .f64 }, .result = .i32 },
    .{ .name = "qlaster_fanout_edit", .parameters = &.{ .u32, .u32, .buffer, .u32 }, .result = .i32 },
    .{ .name = "qlaster_fanout_publish", .parameters = &.{ .u32, .buffer, .u32, .buffer, .u32, .u32 }, .result = .i32 },
    .{ .name = "qlaster_fanout_publish_many", .parameters = &.{ .u32, .buffer, .u32, .u32 }, .result = .i32 },
    .{ .name = "qlaster_fanout_commit", .parameters = &.{.u32}, .result = .i32 },
    .{ .name = "qlaster_fanout_start", .parameters = &.{ .u32, .u32 }, .result = .i32 },
    .{ .name = "qlaster_fanout_pump", .parameters = &.{.u32}, .result = .i32 },
    .{ .name = "qlaster_fanout_freeze", .parameters = &.{ .u32, .u32 }, .result = .i32 },
    .{ .name = "qlaster_fanout_seed", .parameters = &.{ .u32, .buffer, .u32, .buffer, .u32 }, .result = .i32 },
    .{ .name = "qlaster_fanout_adopt", .parameters = &.{ .u32, .f64, .f64, .f64 }, .result = .i32 },
    .{ .name = "qlaster_fanout_flush", .parameters = &.{ .u32, .u32 }, .result = .i32 },
    .{ .name = "qlaster_fanout_mark", .parameters = &.{ .u32, .u32, .buffer, .u32 }, .result = .i32 },
    .{ .name = "qlaster_fanout_event", .parameters = &.{.u32}, .result = .i32 },
    .{ .name = "qlaster_fanout_stat_announce", .parameters = &.{ .u32, .u32 }, .result = .i32 },
    .{ .name = "qlaster_fanout_stat_identify", .parameters = &.{ .u32, .u32, .buffer }, .result = .i32 },
    .{ .name = "qlaster_fanout_stat_beat", .parameters = &.{ .u32, .buffer }, .result = .i32 },
    .{ .name = "qlaster_fanout_info", .parameters = &.{ .u32, .buffer }, .result = .i32 },
    .{ .name = "qlaster_fanout_demand_start", .parameters = &.{.u32}, .result = .i32 },
    .{ .name = "qlaster_fanout_demand", .parameters = &.{ .u32, .buffer, .u32, .u32 }, .result = .i32 },
    .{ .name = "qlaster_fanout_consumer_info", .parameters = &.{ .u32, .u32, .buffer }, .result = .i32 },
    .{
        .name = "qlaster_filter_evaluate",
        .parameters = &.{ .buffer, .u32, .buffer, .u32, .buffer, .u32, .i32, .buffer },
        .result = .i32,
    },
    .{ .name = "qlaster_v9_ring_create", .parameters = &.{ .buffer, .u32, .u32, .f64, .f64, .buffer }, .result = .i32 },
    .{ .name = "qlaster_v9_ring_join", .parameters = &.{ .buffer, .u32, .i32, .u32 }, .result = .i32 },
    .{ .name = "qlaster_v9_ring_size", .parameters = &.{.u32}, .result = .f64 },
    .{ .name = "qlaster_v9_ring_present", .parameters = &.{.u32}, .result = .i32 },
    .{ .name = "qlaster_v9_relay", .parameters = &.{ .u32, .i32 }, .result = .i32 },
    .{ .name = "qlaster_v9_clean", .parameters = &.{ .buffer, .u32 }, .result = .i32 },
    .{ .name = "qlaster_v9_reaches", .parameters = &.{.i32}, .result = .i32 },
    .{ .name = "qlaster_v9_encode", .parameters = &.{ .buffer, .u32, .buffer, .u32, .u32, .buffer, .u32 }, .result = .i32 },
    .{ .name = "qlaster_v9_decode", .parameters = &.{ .buffer, .u32, .buffer, .buffer, .u32 }, .result = .i32 },
};
