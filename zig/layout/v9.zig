//! v9.zig: wire version 9 and the shaq ring: the formats of the Rust original, as it is (docs/interop.md). Packed fields of
//! several bytes are arrays here, since nothing in them is aligned; all are little-endian.

const std = @import("std");
const assert = std.debug.assert;
const Atomic = std.atomic.Value;
const sizes = @import("sizes.zig");
const cache_line_size = sizes.cache_line_size;
const signature_size = sizes.signature_size;
const address_size = sizes.address_size;

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
