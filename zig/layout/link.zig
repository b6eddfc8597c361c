//! link.zig: messages on the Unix socket between a sender and a consumer.

const std = @import("std");
const assert = std.debug.assert;

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
