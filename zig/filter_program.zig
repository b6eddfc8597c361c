//! filter_program.zig: the conditions of one named filter, checked once and then run for every candidate update.
//! May touch: the program and the update that it is given, to read.
//! May not touch: the index (which holds a filter's main keys, and has found the candidates), allocation, system calls.
//! Why a program can be trusted after `validate`: every length, count and argument in it has been compared with the
//! bytes that are there, its form is the only one that means the same, and the engine runs its private copy.
//! What the conditions mean is Yellowstone's; where we differ, the comment says so.

const std = @import("std");
const layout = @import("layout.zig");
const Tail = @import("transaction.zig").Tail;
const FilterCondition = layout.FilterCondition;
const FilterProgram = layout.FilterProgram;
const FilterRange = layout.FilterRange;
const Kind = layout.FilterKind;
const Opcode = layout.FilterOpcode;
const assert = std.debug.assert;

pub const Key = [layout.address_size]u8;

/// A checked program. Refers to the bytes it was made from, which must outlive it and not change.
pub const Program = struct {
    kind: Kind,
    /// Nothing is left to ask: whatever the index finds matches, and travels whole.
    is_empty: bool,
    /// Whether `AccountUpdateRef.changed` decides anything: who runs only others need not find out.
    only_changed: bool = false,
    /// Runs of FilterCondition and payload, without `changed` and `slices`.
    conditions: []const u8,
    slices: []align(1) const FilterRange = &.{},
    /// Of the one transaction that it can match.
    signature: ?*const [layout.signature_size]u8 = null,
};

/// Bytes from a consumer: anything may be in them.
pub fn validate(bytes: []const u8) error{Malformed}!Program {
    if (bytes.len < @sizeOf(FilterProgram) or bytes.len > layout.filter_program_bytes_max) return error.Malformed;
    const header: *align(1) const FilterProgram = @ptrCast(bytes.ptr);
    if (header.length != bytes.len) return error.Malformed;
    const body = bytes[@sizeOf(FilterProgram)..];
    var program: Program = .{ .kind = @fromBackingInt(header.kind), .is_empty = header.condition_count == 0, .conditions = body };
    var opcode_last: u16 = 0;
    var at: usize = 0;
    for (0..header.condition_count) |_| {
        if (body.len - at < @sizeOf(FilterCondition)) return error.Malformed;
        const condition: *align(1) const FilterCondition = @ptrCast(body[at..].ptr);
        const start = at + @sizeOf(FilterCondition);
        if (condition.length > body.len - start) return error.Malformed;
        if (condition.opcode <= opcode_last) return error.Malformed;
        opcode_last = condition.opcode;
        const opcode: Opcode = @fromBackingInt(condition.opcode);
        const payload = body[start..][0..condition.length];
        if (kindOf(opcode) != program.kind) return error.Malformed;
        if (!isValid(opcode, condition.argument, payload)) return error.Malformed;
        switch (opcode) {
            .changed => {
                program.only_changed = true;
                program.conditions = body[0..at];
            },
            .first_signature => program.signature = payload[0..layout.signature_size],
            .slices => {
                program.slices = std.mem.bytesAsSlice(FilterRange, payload);
                if (!program.only_changed) program.conditions = body[0..at];
            },
            else => {},
        }
        at = start + payload.len;
    }
    if (at != body.len) return error.Malformed;
    return switch (program.kind) {
        .accounts, .transactions, .slots => program,
        _ => error.Malformed,
    };
}

fn kindOf(opcode: Opcode) ?Kind {
    return switch (opcode) {
        .startup, .signature, .data_size, .lamports, .lamports_not, .owners, .token_account => .accounts,
        .memcmp, .owners_not, .accounts_not, .changed, .slices => .accounts,
        .vote, .failed, .first_signature, .required, .excluded => .transactions,
        .statuses => .slots,
        _ => null,
    };
}

fn isValid(opcode: Opcode, argument: u16, payload: []const u8) bool {
    return switch (opcode) {
        .startup, .signature, .token_account, .vote, .failed => argument <= 1 and payload.len == 0,
        .changed => argument == 0 and payload.len == 0,
        .data_size => argument == 0 and payload.len == 8 and
            number(u32, payload, 0) <= number(u32, payload, 4) and number(u32, payload, 0) <= layout.payload_bytes_max,
        .lamports => argument == 0 and payload.len == 16 and number(u64, payload, 0) <= number(u64, payload, 8),
        .lamports_not => argument == 0 and payload.len == 8,
        // No owner is a condition of its own: nothing matches, until keys are added.
        .owners => areKeys(argument, payload),
        .owners_not, .accounts_not, .required, .excluded => argument > 0 and areKeys(argument, payload),
        .memcmp => areMemcmps(argument, payload),
        .slices => areSlices(argument, payload),
        .first_signature => argument == 0 and payload.len == layout.signature_size,
        .statuses => payload.len == 0,
        _ => false,
    };
}

fn areKeys(count: u16, payload: []const u8) bool {
    if (count > layout.filter_keys_max or payload.len != @as(usize, count) * @sizeOf(Key)) return false;
    const keys = keysOf(payload);
    for (1..@max(keys.len, 1)) |i| if (compare(&keys[i - 1], &keys[i]) != .lt) return false;
    return true;
}

fn areMemcmps(count: u16, payload: []const u8) bool {
    if (count == 0 or count > layout.filter_memcmps_max) return false;
    var at: usize = 0;
    for (0..count) |_| {
        if (payload.len - at < @sizeOf(FilterRange)) return false;
        const range: *align(1) const FilterRange = @ptrCast(payload[at..].ptr);
        if (range.length > layout.filter_memcmp_bytes_max or !endsInData(range)) return false;
        at += @sizeOf(FilterRange);
        const padded = paddedLength(range.length);
        if (payload.len - at < padded) return false;
        if (!std.mem.allEqual(u8, payload[at + range.length .. at + padded], 0)) return false;
        at += padded;
    }
    return at == payload.len;
}

fn areSlices(count: u16, payload: []const u8) bool {
    if (count == 0 or count > layout.filter_slices_max) return false;
    if (payload.len != @as(usize, count) * @sizeOf(FilterRange)) return false;
    var end: u32 = 0;
    for (std.mem.bytesAsSlice(FilterRange, payload)) |*slice| {
        if (slice.offset < end or !endsInData(slice)) return false;
        end = slice.offset + slice.length;
    }
    return true;
}

fn endsInData(range: *align(1) const FilterRange) bool {
    return range.offset <= layout.payload_bytes_max and range.length <= layout.payload_bytes_max - range.offset;
}

fn paddedLength(length: u32) usize {
    return std.mem.alignForward(usize, length, 8);
}

fn number(comptime T: type, payload: []const u8, at: usize) T {
    return std.mem.readInt(T, payload[at..][0..@sizeOf(T)], .little);
}

fn keysOf(payload: []const u8) []const Key {
    return std.mem.bytesAsSlice(Key, payload);
}

/// The order of `memcmp`, eight bytes at a time.
fn compare(a: *const Key, b: *const Key) std.math.Order {
    inline for (0..@sizeOf(Key) / 8) |i| {
        const x = std.mem.readInt(u64, a[8 * i ..][0..8], .big);
        const y = std.mem.readInt(u64, b[8 * i ..][0..8], .big);
        if (x != y) return if (x < y) .lt else .gt;
    }
    return .eq;
}

fn contains(sorted: []const Key, key: *const Key) bool {
    var low: usize = 0;
    var high = sorted.len;
    while (low < high) {
        const middle = low + (high - low) / 2;
        switch (compare(&sorted[middle], key)) {
            .lt => low = middle + 1,
            .gt => high = middle,
            .eq => return true,
        }
    }
    return false;
}

const Conditions = struct {
    rest: []const u8,

    const Condition = struct { opcode: Opcode, argument: u16, payload: []const u8 };

    fn next(conditions: *Conditions) ?Condition {
        if (conditions.rest.len == 0) return null;
        const header: *align(1) const FilterCondition = @ptrCast(conditions.rest.ptr);
        const rest = conditions.rest[@sizeOf(FilterCondition)..];
        conditions.rest = rest[header.length..];
        return .{ .opcode = @fromBackingInt(header.opcode), .argument = header.argument, .payload = rest[0..header.length] };
    }
};

// Accounts

/// A native account frame, wherever its parts lie.
pub const AccountUpdateRef = struct {
    body: *const layout.AccountBody,
    flags: u16,
    data: []const u8,
    /// Whether the write changed anything; null if the sender can't tell (the account's first), which counts as a change.
    changed: ?bool = null,

    /// @param head FrameHeader, AccountBody, the signature if there is one. @param tail The data.
    pub fn init(head: []align(8) const u8, tail: []const u8) error{Malformed}!AccountUpdateRef {
        const fixed = @sizeOf(layout.FrameHeader) + @sizeOf(layout.AccountBody);
        if (head.len < fixed) return error.Malformed;
        const header: *const layout.FrameHeader = @ptrCast(head.ptr);
        if (header.kind != @backingInt(layout.FrameKind.account)) return error.Malformed;
        const has_signature = header.flags & layout.frame_flag_signature != 0;
        if (head.len != fixed + if (has_signature) @as(usize, layout.signature_size) else 0) return error.Malformed;
        const body: *const layout.AccountBody = @ptrCast(@alignCast(head[@sizeOf(layout.FrameHeader)..].ptr));
        if (body.data_length != tail.len or tail.len > layout.payload_bytes_max) return error.Malformed;
        return .{ .body = body, .flags = header.flags, .data = tail };
    }
};

pub const Verdict = struct {
    outcome: layout.FilterOutcome,
    /// The data end before a slice does.
    clipped: bool = false,
    /// As the filter has them: `cut` them to the data. None: the data travel whole.
    slices: []align(1) const FilterRange = &.{},

    pub fn matched(verdict: *const Verdict) bool {
        return verdict.outcome == .yes;
    }
};

/// What a slice leaves of that many bytes of data, maybe nothing.
pub fn cut(slice: FilterRange, data_length: u32) FilterRange {
    const offset = @min(slice.offset, data_length);
    return .{ .offset = offset, .length = @min(slice.length, data_length - offset) };
}

/// The index has found the filter by one of its keys, or it has none.
pub inline fn evaluateAccount(program: *const Program, update: *const AccountUpdateRef) Verdict {
    if (program.kind != .accounts) return .{ .outcome = .no };
    // The most usual: a list of accounts or owners, and nothing else.
    if (program.is_empty) return .{ .outcome = .yes };
    return evaluateConditions(program, update);
}

fn evaluateConditions(program: *const Program, update: *const AccountUpdateRef) Verdict {
    var conditions: Conditions = .{ .rest = program.conditions };
    while (conditions.next()) |condition| if (!accountHolds(&condition, update)) return .{ .outcome = .no };
    if (program.only_changed and !(update.changed orelse true)) return .{ .outcome = .unchanged };

    const data_length: u32 = @intCast(update.data.len);
    const clipped = for (program.slices) |slice| {
        if (cut(slice, data_length).length < slice.length) break true;
    } else false;
    return .{ .outcome = .yes, .clipped = clipped, .slices = program.slices };
}

inline fn accountHolds(condition: *const Conditions.Condition, update: *const AccountUpdateRef) bool {
    const payload = condition.payload;
    switch (condition.opcode) {
        .startup => return hasFlag(update.flags, layout.frame_flag_startup, condition.argument),
        .signature => return hasFlag(update.flags, layout.frame_flag_signature, condition.argument),
        .data_size => return update.data.len >= number(u32, payload, 0) and update.data.len <= number(u32, payload, 4),
        .lamports => return update.body.lamports >= number(u64, payload, 0) and update.body.lamports <= number(u64, payload, 8),
        .lamports_not => return update.body.lamports != number(u64, payload, 0),
        .owners => return contains(keysOf(payload), &update.body.owner),
        .token_account => return isTokenAccount(update) == (condition.argument == 1),
        .memcmp => return memcmpsHold(condition.argument, payload, update.data),
        .owners_not => return !contains(keysOf(payload), &update.body.owner),
        .accounts_not => return !contains(keysOf(payload), &update.body.pubkey),
        else => return false,
    }
}

fn hasFlag(flags: u16, flag: u16, argument: u16) bool {
    return (flags & flag != 0) == (argument == 1);
}

/// A comparison that reaches past the end of the data fails, even one of no bytes.
fn memcmpsHold(count: u16, payload: []const u8, data: []const u8) bool {
    var at: usize = 0;
    for (0..count) |_| {
        const range: *align(1) const FilterRange = @ptrCast(payload[at..].ptr);
        const bytes = payload[at + @sizeOf(FilterRange) ..][0..range.length];
        if (range.offset > data.len or bytes.len > data.len - range.offset) return false;
        if (!std.mem.eql(u8, bytes, data[range.offset..][0..bytes.len])) return false;
        at += @sizeOf(FilterRange) + paddedLength(range.length);
    }
    return true;
}

const token_program = address("06ddf6e1d765a193d9cbe146ceeb79ac1cb485ed5f5b37913a8cf5857eff00a9");
const token_2022_program = address("06ddf6e1ee758fde18425dbce46ccddab61afc4d83b90d27febdf928d8a18bfc");
const token_account_size = 165;
const token_multisig_size = 355;
const token_state_offset = 108;
const token_type_account = 2;

fn address(comptime hex: *const [64]u8) Key {
    var key: Key = undefined;
    _ = std.fmt.hexToBytes(&key, hex) catch unreachable;
    return key;
}

/// The rule of `valid_account_data` in spl-token and spl-token-2022: initialised, and of a size that only accounts have,
/// or marked as an account behind the base. Yellowstone looks at the data alone; we ask that the owner fits, too.
fn isTokenAccount(update: *const AccountUpdateRef) bool {
    const data = update.data;
    if (data.len < token_account_size or data[token_state_offset] == 0) return false;
    const owner = &update.body.owner;
    if (data.len == token_account_size) {
        return compare(owner, &token_program) == .eq or compare(owner, &token_2022_program) == .eq;
    }
    if (data.len == token_multisig_size or data[token_account_size] != token_type_account) return false;
    return compare(owner, &token_2022_program) == .eq;
}

// Transactions

/// A native transaction frame, wherever its parts lie.
pub const TransactionRef = struct {
    body: *const layout.TransactionBody,
    flags: u16,
    /// The message's own keys; none if it is malformed: then whoever takes all still gets it.
    keys: []const Key,
    /// Those that it loaded from lookup tables, if the source has said so.
    loaded: []const Key,

    /// @param head FrameHeader, TransactionBody. @param tail What follows them: transaction.zig.
    pub fn init(head: []align(8) const u8, tail: []const u8) error{Malformed}!TransactionRef {
        if (head.len != @sizeOf(layout.FrameHeader) + @sizeOf(layout.TransactionBody)) return error.Malformed;
        const header: *const layout.FrameHeader = @ptrCast(head.ptr);
        if (header.kind != @backingInt(layout.FrameKind.transaction)) return error.Malformed;
        const body: *const layout.TransactionBody = @ptrCast(@alignCast(head[@sizeOf(layout.FrameHeader)..].ptr));
        const parts = Tail.of(body, header.flags) orelse return error.Malformed;
        if (parts.length != tail.len) return error.Malformed;
        const message = tail[0..body.message_length];
        return .{
            .body = body,
            .flags = header.flags,
            .keys = if (accountKeys(message)) |found| found.keys else |_| &.{},
            .loaded = keysOf(tail[parts.loaded_offset..parts.meta_offset]),
        };
    }

    pub fn names(update: *const TransactionRef, key: *const Key) bool {
        for (update.keys) |*own| if (std.mem.eql(u8, own, key)) return true;
        for (update.loaded) |*own| if (std.mem.eql(u8, own, key)) return true;
        return false;
    }
};

/// The index has found the filter by one of its keys, or it has none.
pub fn evaluateTransaction(program: *const Program, update: *const TransactionRef) bool {
    if (program.kind != .transactions) return false;
    var conditions: Conditions = .{ .rest = program.conditions };
    while (conditions.next()) |condition| if (!transactionHolds(&condition, update)) return false;
    return true;
}

inline fn transactionHolds(condition: *const Conditions.Condition, update: *const TransactionRef) bool {
    switch (condition.opcode) {
        .vote => return hasFlag(update.flags, layout.frame_flag_vote, condition.argument),
        .failed => return hasFlag(update.flags, layout.frame_flag_failed, condition.argument),
        .first_signature => return std.mem.eql(u8, condition.payload, &update.body.signature),
        .required => {
            const required = keysOf(condition.payload);
            // They differ from one another, so this also bounds the work.
            if (required.len > update.keys.len + update.loaded.len) return false;
            for (required) |*key| if (!update.names(key)) return false;
            return true;
        },
        .excluded => {
            const excluded = keysOf(condition.payload);
            for (update.keys) |*key| if (contains(excluded, key)) return false;
            for (update.loaded) |*key| if (contains(excluded, key)) return false;
            return true;
        },
        else => return false,
    }
}

const version_flag = 0x80;
const header_length = 3;
const blockhash_length = 32;
/// Version, header, config mask, blockhash, number of instructions.
const v1_count_offset = 1 + header_length + 4 + blockhash_length + 1;

/// The keys that a message names itself, as it is signed: legacy, v0, v1 (SIMD-0385). Not those of lookup tables.
/// A publisher's bytes are input. Looks no further than what follows the keys.
pub fn accountKeys(message: []const u8) error{Malformed}!struct { keys: []const Key } {
    if (message.len == 0) return error.Malformed;
    const versioned = message[0] & version_flag != 0;
    const start: usize, const count: usize, const signatures: u8, const behind: usize = switch (message[0]) {
        version_flag | 1 => blk: {
            if (message.len <= v1_count_offset) return error.Malformed;
            break :blk .{ v1_count_offset + 1, message[v1_count_offset], message[1], 0 };
        },
        else => blk: {
            if (versioned and message[0] != version_flag) return error.Malformed;
            const header: usize = @intFromBool(versioned);
            const length = try shortLength(message, header + header_length);
            break :blk .{ length.end, length.value, message[header], blockhash_length };
        },
    };
    if (count > layout.message_keys_max or signatures > count) return error.Malformed;
    const size = count * @sizeOf(Key);
    if (message.len - start < size + behind) return error.Malformed;
    return .{ .keys = keysOf(message[start..][0..size]) };
}

/// Solana's compact-u16: seven bits a byte, the low ones first. Each number has one form.
fn shortLength(message: []const u8, at: usize) error{Malformed}!struct { value: usize, end: usize } {
    var value: usize = 0;
    for (0..3) |i| {
        if (at + i >= message.len) return error.Malformed;
        const byte = message[at + i];
        value |= @as(usize, byte & 0x7f) << @intCast(7 * i);
        if (byte & 0x80 != 0) continue;
        if (i > 0 and byte == 0) return error.Malformed;
        return if (value > std.math.maxInt(u16)) error.Malformed else .{ .value = value, .end = at + i + 1 };
    }
    return error.Malformed;
}

// Slots

/// @param status `SlotBody.status`.
pub fn evaluateSlot(program: *const Program, status: u32) bool {
    if (program.kind != .slots) return false;
    var conditions: Conditions = .{ .rest = program.conditions };
    while (conditions.next()) |condition| {
        assert(condition.opcode == .statuses);
        if (status >= @bitSizeOf(u16) or condition.argument >> @intCast(status) & 1 == 0) return false;
    }
    return true;
}

/// For the test door: whichever kind of frame it is.
pub fn evaluateFrame(
    program: *const Program,
    head: []align(8) const u8,
    tail: []const u8,
    changed: ?bool,
    out: *align(4) layout.FilterVerdict,
) error{Malformed}!layout.FilterOutcome {
    if (head.len < @sizeOf(layout.FrameHeader)) return error.Malformed;
    const header: *const layout.FrameHeader = @ptrCast(head.ptr);
    var verdict: Verdict = .{ .outcome = .no };
    switch (@as(layout.FrameKind, @fromBackingInt(header.kind))) {
        .account => {
            var update = try AccountUpdateRef.init(head, tail);
            update.changed = changed;
            verdict = evaluateAccount(program, &update);
        },
        .transaction => {
            const update = try TransactionRef.init(head, tail);
            if (evaluateTransaction(program, &update)) verdict.outcome = .yes;
        },
        .slot => {
            if (head.len != @sizeOf(layout.FrameHeader) + @sizeOf(layout.SlotBody)) return error.Malformed;
            const body: *const layout.SlotBody = @ptrCast(@alignCast(head[@sizeOf(layout.FrameHeader)..].ptr));
            if (evaluateSlot(program, body.status)) verdict.outcome = .yes;
        },
        else => return error.Malformed,
    }
    out.* = .{
        .outcome = @backingInt(verdict.outcome),
        .slice_count = @intCast(verdict.slices.len),
        .clipped = @intFromBool(verdict.clipped),
        .pad_0 = 0,
        .slices = @splat(.{ .offset = 0, .length = 0 }),
    };
    const data_length: u32 = @intCast(tail.len);
    for (verdict.slices, out.slices[0..verdict.slices.len]) |slice, *target| target.* = cut(slice, data_length);
    return verdict.outcome;
}
