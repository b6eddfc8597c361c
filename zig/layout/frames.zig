//! frames.zig: what stands in a ring: the header of each frame, its kinds, the bodies, and why one ends or does not come.

const std = @import("std");
const assert = std.debug.assert;
const sizes = @import("sizes.zig");
const signature_size = sizes.signature_size;
const address_size = sizes.address_size;

/// Frames start on multiples of this, so that every u64 in them is aligned.
pub const frame_align = 8;

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

/// A message with more keys than an index of one byte reaches is no message.
pub const message_keys_max = 256;
/// An instruction names each key of its transaction, loaded or not, by an index of one byte.
pub const loaded_keys_max = 256;
