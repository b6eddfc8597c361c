//! filters.zig: edits of named filters, and filter programs: the conditions of one named filter that the sender's index does
//! not hold (filter_program.zig). A consumer writes a program, the sender checks it once and then runs it for every
//! candidate update.

const std = @import("std");
const assert = std.debug.assert;
const link = @import("link.zig");
const sizes = @import("sizes.zig");
const link_body_bytes_max = link.link_body_bytes_max;
const address_size = sizes.address_size;

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
/// Sets of filters that keys of a sender have; those that the filters of one consumer made; bytes of their members.
pub const filter_sets_max = 1 << 18;
pub const filter_sets_made_max = 1 << 16;
pub const filter_set_bytes_max = 64 << 20;
/// Requests for state of one consumer that wait, and bytes of the keys of all of a sender.
pub const state_requests_max = 256;
pub const state_request_bytes_max = 128 << 20;

/// Most keys in one list of a program. Longer lists belong into the index, or are refused.
pub const filter_keys_max = 4096;
pub const filter_memcmps_max = 8;
pub const filter_memcmp_bytes_max = 128;
pub const filter_slices_max = 4;
/// Three full lists, eight full comparisons, and all the rest.
pub const filter_program_bytes_max = 3 * filter_keys_max * address_size + 2048;

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
