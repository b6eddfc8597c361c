//! door.zig: the library's functions: what they take, what they return, what they write.

const std = @import("std");
const assert = std.debug.assert;

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
    /// At a consumer's end: matching updates that the sender had for it, lost and waiting ones included, and those that it has handed out; the newest
    /// slot that the sender knows; when the oldest frame that was not handed out was published, in µs since the Unix
    /// epoch, 0 for none.
    producer_ordinal: f64,
    consumer_ordinal: f64,
    newest_slot: f64,
    oldest_us: f64,
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
    /// More filters than a sender keeps, or has left for one that has some.
    filters_limit = status_base - 120,
    /// More keys than one consumer may have in its filters.
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
