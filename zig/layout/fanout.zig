//! fanout.zig: how a fan-out and its consumers are made, and what they say of themselves.

const std = @import("std");
const assert = std.debug.assert;
const frames = @import("frames.zig");
const sizes = @import("sizes.zig");
const loss_reasons = frames.loss_reasons;
const address_size = sizes.address_size;

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
    /// In all filters of a consumer together, of both kinds.
    keys_per_consumer_max: u32,
    /// Consumers that may be there at a time: for each of them filters are kept back. 0: none are.
    consumers_permitted: u32,
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
    /// Matching updates that it has not given back: in its ring, waiting, lost and not told of yet. And when the oldest frame
    /// that is in its ring or waits was published, in µs since the Unix epoch, 0 for none. 0 for rings of version 9.
    unread_frames: f64,
    oldest_us: f64,
};
