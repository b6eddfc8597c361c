//! filter_program_test.zig: every condition at its edges, and both kinds of bytes that others write: programs, messages.
//! The comparison with a second implementation is tests/unit/filters_test.ts.

const std = @import("std");
const layout = @import("layout.zig");
const filter_program = @import("filter_program.zig");
const FilterRange = layout.FilterRange;
const Key = filter_program.Key;
const Opcode = layout.FilterOpcode;
const testing = std.testing;
const validate = filter_program.validate;

fn key(byte: u8) Key {
    return @splat(byte);
}

/// Writes programs, also such as no encoder would.
const Builder = struct {
    bytes: [4096]u8 = @splat(0),
    length: usize = @sizeOf(layout.FilterProgram),
    count: u16 = 0,

    fn add(builder: *Builder, opcode: Opcode, argument: u16, payload: []const u8) void {
        const condition: layout.FilterCondition = .{ .opcode = @backingInt(opcode), .argument = argument, .length = @intCast(payload.len) };
        builder.put(std.mem.asBytes(&condition));
        builder.put(payload);
        builder.count += 1;
    }

    fn addKeys(builder: *Builder, opcode: Opcode, keys: []const Key) void {
        builder.add(opcode, @intCast(keys.len), std.mem.sliceAsBytes(keys));
    }

    fn addMemcmp(builder: *Builder, offset: u32, bytes: []const u8) void {
        var payload: [256]u8 = @splat(0);
        const range: FilterRange = .{ .offset = offset, .length = @intCast(bytes.len) };
        @memcpy(payload[0..8], std.mem.asBytes(&range));
        @memcpy(payload[8..][0..bytes.len], bytes);
        builder.add(.memcmp, 1, payload[0 .. 8 + std.mem.alignForward(usize, bytes.len, 8)]);
    }

    fn put(builder: *Builder, bytes: []const u8) void {
        @memcpy(builder.bytes[builder.length..][0..bytes.len], bytes);
        builder.length += bytes.len;
    }

    fn finish(builder: *Builder, kind: layout.FilterKind) []u8 {
        const header: layout.FilterProgram = .{
            .kind = @backingInt(kind),
            .condition_count = builder.count,
            .length = @intCast(builder.length),
        };
        @memcpy(builder.bytes[0..@sizeOf(layout.FilterProgram)], std.mem.asBytes(&header));
        return builder.bytes[0..builder.length];
    }
};

fn words(comptime T: type, values: anytype) [@sizeOf(T) * values.len]u8 {
    const array: [values.len]T = values;
    return @bitCast(array);
}

const AccountOptions = struct {
    pubkey: u8 = 1,
    owner: Key = key(2),
    lamports: u64 = 1000,
    flags: u16 = 0,
    data: []const u8 = "",
    changed: ?bool = null,
};

/// The verdict of a program of one condition.
fn judge(builder: *Builder, options: AccountOptions) !filter_program.Verdict {
    const program = try validate(builder.finish(.accounts));
    const body: layout.AccountBody = .{
        .pubkey = key(options.pubkey),
        .owner = options.owner,
        .lamports = options.lamports,
        .rent_epoch = 0,
        .slot = 0,
        .bank_id = 0,
        .write_version = 0,
        .data_length = @intCast(options.data.len),
        .source_epoch = 0,
        .full_length = @intCast(options.data.len),
        .pad_0 = 0,
    };
    return filter_program.evaluateAccount(&program, &.{
        .body = &body,
        .flags = options.flags,
        .data = options.data,
        .changed = options.changed,
    });
}

fn expectAccount(expected: bool, builder: *Builder, options: AccountOptions) !void {
    const verdict = try judge(builder, options);
    try testing.expectEqual(expected, verdict.matched());
}

fn expectMalformed(builder: *Builder, kind: layout.FilterKind) !void {
    try testing.expectError(error.Malformed, validate(builder.finish(kind)));
}

test "an empty program matches every update of its kind, and none of another" {
    var builder: Builder = .{};
    try expectAccount(true, &builder, .{});
    const transactions = try validate(builder.finish(.transactions));
    const update: filter_program.TransactionRef = .{ .body = &transactionBody(7), .flags = 0, .keys = &.{}, .loaded = &.{} };
    try testing.expect(filter_program.evaluateTransaction(&transactions, &update));
    const slots = try validate(builder.finish(.slots));
    try testing.expect(filter_program.evaluateSlot(&slots, 0));
    try testing.expect(!filter_program.evaluateTransaction(&slots, &update));
    try testing.expect(!filter_program.evaluateSlot(&transactions, 0));
    try testing.expectError(error.Malformed, validate(builder.finish(@fromBackingInt(4))));
    try testing.expectError(error.Malformed, validate(builder.finish(@fromBackingInt(0))));
}

test "flags: startup, signature, wanted or not" {
    for ([_]struct { Opcode, u16 }{ .{ .startup, layout.frame_flag_startup }, .{ .signature, layout.frame_flag_signature } }) |case| {
        const opcode, const flag = case;
        for ([_]u16{ 0, 1 }) |wanted| {
            var builder: Builder = .{};
            builder.add(opcode, wanted, "");
            try expectAccount(wanted == 1, &builder, .{ .flags = flag });
            try expectAccount(wanted == 0, &builder, .{ .flags = ~flag });
        }
        var builder: Builder = .{};
        builder.add(opcode, 2, "");
        try expectMalformed(&builder, .accounts);
    }
}

test "data size: both bounds are included" {
    var builder: Builder = .{};
    builder.add(.data_size, 0, &words(u32, .{ 2, 4 }));
    for ([_][]const u8{ "", "a", "ab", "abcd", "abcde" }, [_]bool{ false, false, true, true, false }) |data, expected| {
        try expectAccount(expected, &builder, .{ .data = data });
    }
    var none: Builder = .{};
    none.add(.data_size, 0, &words(u32, .{ 0, 0 }));
    try expectAccount(true, &none, .{});
    try expectAccount(false, &none, .{ .data = "a" });
    var backwards: Builder = .{};
    backwards.add(.data_size, 0, &words(u32, .{ 5, 4 }));
    try expectMalformed(&backwards, .accounts);
}

test "lamports: ranges to the limits of u64, and any but one" {
    const max = std.math.maxInt(u64);
    const cases = [_]struct { u64, u64, u64, bool }{
        .{ 0, max, 0, true }, .{ 0, max, max, true }, .{ max, max, max, true }, .{ max, max, max - 1, false },
        .{ 0, 0, 0, true },   .{ 0, 0, 1, false },    .{ 5, 7, 4, false },      .{ 5, 7, 5, true },
        .{ 5, 7, 7, true },   .{ 5, 7, 8, false },
    };
    for (cases) |case| {
        var builder: Builder = .{};
        builder.add(.lamports, 0, &words(u64, .{ case[0], case[1] }));
        try expectAccount(case[3], &builder, .{ .lamports = case[2] });
    }
    var builder: Builder = .{};
    builder.add(.lamports_not, 0, &words(u64, .{max}));
    try expectAccount(false, &builder, .{ .lamports = max });
    try expectAccount(true, &builder, .{ .lamports = 0 });
    var backwards: Builder = .{};
    backwards.add(.lamports, 0, &words(u64, .{ 1, 0 }));
    try expectMalformed(&backwards, .accounts);
}

test "lists of keys: found at every place, exclude beats include, no owner matches nothing" {
    const keys = [_]Key{ key(2), key(4), key(6), key(8), key(255) };
    for (1..keys.len + 1) |count| {
        var owners: Builder = .{};
        owners.addKeys(.owners, keys[0..count]);
        for (0..256) |byte| {
            const owner = key(@intCast(byte));
            const expected = for (keys[0..count]) |*own| {
                if (std.mem.eql(u8, own, &owner)) break true;
            } else false;
            try expectAccount(expected, &owners, .{ .owner = owner });
        }
    }
    var last_differs = key(4);
    last_differs[31] = 5;
    var owners: Builder = .{};
    owners.addKeys(.owners, &.{ key(4), last_differs });
    try expectAccount(true, &owners, .{ .owner = last_differs });
    last_differs[31] = 6;
    try expectAccount(false, &owners, .{ .owner = last_differs });

    var both: Builder = .{};
    both.addKeys(.owners, &keys);
    both.addKeys(.owners_not, &.{key(4)});
    both.addKeys(.accounts_not, &.{key(9)});
    try expectAccount(true, &both, .{ .owner = key(2) });
    try expectAccount(false, &both, .{ .owner = key(4) });
    try expectAccount(false, &both, .{ .owner = key(2), .pubkey = 9 });

    var nobody: Builder = .{};
    nobody.addKeys(.owners, &.{});
    try expectAccount(false, &nobody, .{});
    var empty: Builder = .{};
    empty.addKeys(.owners_not, &.{});
    try expectMalformed(&empty, .accounts);
    var twice: Builder = .{};
    twice.addKeys(.owners, &.{ key(2), key(2) });
    try expectMalformed(&twice, .accounts);
    var unsorted: Builder = .{};
    unsorted.addKeys(.owners, &.{ key(4), key(2) });
    try expectMalformed(&unsorted, .accounts);
}

test "memcmp: at the end, past it, of no bytes, of the longest" {
    const data = "0123456789";
    const cases = [_]struct { u32, []const u8, bool }{
        .{ 0, "0", true },                        .{ 0, data, true },                            .{ 7, "789", true },
        .{ 7, "780", false },                     .{ 8, "89?", false },                          .{ 10, "", true },
        .{ 11, "", false },                       .{ 0, "", true },                              .{ 10, "x", false },
        .{ layout.payload_bytes_max, "", false }, .{ layout.payload_bytes_max - 1, "9", false },
    };
    for (cases) |case| {
        var builder: Builder = .{};
        builder.addMemcmp(case[0], case[1]);
        try expectAccount(case[2], &builder, .{ .data = data });
    }
    var empty: Builder = .{};
    empty.addMemcmp(0, "");
    try expectAccount(true, &empty, .{});

    const longest: [layout.filter_memcmp_bytes_max + 1]u8 = @splat(7);
    var builder: Builder = .{};
    builder.addMemcmp(0, longest[1..]);
    try expectAccount(true, &builder, .{ .data = &longest });
    var longer: Builder = .{};
    longer.addMemcmp(0, &longest);
    try expectMalformed(&longer, .accounts);
    inline for (.{ .{ layout.payload_bytes_max, "9" }, .{ layout.payload_bytes_max + 1, "" }, .{ std.math.maxInt(u32), "9" } }) |case| {
        var beyond: Builder = .{};
        beyond.addMemcmp(case[0], case[1]);
        try expectMalformed(&beyond, .accounts);
    }
    var dirty: Builder = .{};
    dirty.addMemcmp(0, "a");
    dirty.bytes[dirty.length - 1] = 1; // in the padding
    try expectMalformed(&dirty, .accounts);
}

test "memcmp: all of several must hold" {
    var builder: Builder = .{};
    var payload: [32]u8 = @splat(0);
    payload[0..8].* = words(u32, .{ 1, 1 });
    payload[8] = 'b';
    payload[16..24].* = words(u32, .{ 3, 2 });
    payload[24..26].* = "de".*;
    builder.add(.memcmp, 2, &payload);
    try expectAccount(true, &builder, .{ .data = "abcde" });
    try expectAccount(false, &builder, .{ .data = "abcdx" });
    try expectAccount(false, &builder, .{ .data = "axcde" });
    for ([_]u16{ 0, 1, 3, layout.filter_memcmps_max + 1 }) |count| {
        var wrong: Builder = .{};
        wrong.add(.memcmp, count, &payload);
        try expectMalformed(&wrong, .accounts);
    }
}

fn programKey(comptime hex: *const [64]u8) Key {
    var result: Key = undefined;
    _ = std.fmt.hexToBytes(&result, hex) catch unreachable;
    return result;
}

test "token account: the rule of spl-token and spl-token-2022" {
    const token = programKey("06ddf6e1d765a193d9cbe146ceeb79ac1cb485ed5f5b37913a8cf5857eff00a9");
    const token_2022 = programKey("06ddf6e1ee758fde18425dbce46ccddab61afc4d83b90d27febdf928d8a18bfc");
    var wanted: Builder = .{};
    wanted.add(.token_account, 1, "");
    var unwanted: Builder = .{};
    unwanted.add(.token_account, 0, "");

    var data: [400]u8 = @splat(0);
    const cases = [_]struct { Key, usize, u8, u8, bool }{
        .{ token, 165, 1, 0, true },       .{ token, 165, 2, 0, true },       .{ token, 165, 0, 0, false },
        .{ token, 164, 1, 0, false },      .{ token, 166, 1, 2, false },      .{ token, 0, 1, 0, false },
        .{ token_2022, 165, 1, 0, true },  .{ token_2022, 166, 1, 2, true },  .{ token_2022, 166, 1, 1, false },
        .{ token_2022, 166, 0, 2, false }, .{ token_2022, 355, 1, 2, false }, .{ token_2022, 356, 1, 2, true },
        .{ token_2022, 108, 1, 0, false }, .{ key(2), 165, 1, 0, false },
    };
    for (cases) |case| {
        data[108] = case[2];
        data[165] = case[3];
        try expectAccount(case[4], &wanted, .{ .owner = case[0], .data = data[0..case[1]] });
        try expectAccount(!case[4], &unwanted, .{ .owner = case[0], .data = data[0..case[1]] });
    }
}

test "only changed: unknown counts as changed; what would not match anyway is not counted" {
    var builder: Builder = .{};
    builder.add(.lamports, 0, &words(u64, .{ 5, 5 }));
    builder.add(.changed, 0, "");
    for ([_]?bool{ null, true, false }, [_]layout.FilterOutcome{ .yes, .yes, .unchanged }) |changed, outcome| {
        try testing.expectEqual(outcome, (try judge(&builder, .{ .lamports = 5, .changed = changed })).outcome);
        try testing.expectEqual(.no, (try judge(&builder, .{ .lamports = 6, .changed = changed })).outcome);
    }
    try testing.expect((try validate(builder.finish(.accounts))).only_changed);
}

test "slices: cut to the data and flagged, nothing left of the data, refused out of order" {
    var builder: Builder = .{};
    builder.add(.slices, 3, &words(u32, .{ 1, 2, 3, 0, 5, 4 }));
    const cases = [_]struct { []const u8, [6]u32, bool }{
        .{ "0123456789", .{ 1, 2, 3, 0, 5, 4 }, false }, .{ "012345678", .{ 1, 2, 3, 0, 5, 4 }, false },
        .{ "01234567", .{ 1, 2, 3, 0, 5, 3 }, true },    .{ "01234", .{ 1, 2, 3, 0, 5, 0 }, true },
        .{ "01", .{ 1, 1, 2, 0, 2, 0 }, true },          .{ "", .{ 0, 0, 0, 0, 0, 0 }, true },
    };
    for (cases) |case| {
        const verdict = try judge(&builder, .{ .data = case[0] });
        try testing.expectEqual(.yes, verdict.outcome);
        try testing.expectEqual(3, verdict.slices.len);
        for (verdict.slices, 0..) |slice, i| {
            const left = filter_program.cut(slice, @intCast(case[0].len));
            try testing.expectEqual(case[1][2 * i], left.offset);
            try testing.expectEqual(case[1][2 * i + 1], left.length);
        }
        try testing.expectEqual(case[2], verdict.clipped);
    }
    inline for (.{
        .{ 1, .{ 0, 2 }, true },                                        .{ 2, .{ 0, 2, 2, 1 }, true },
        .{ 2, .{ 0, 2, 1, 1 }, false },                                 .{ 2, .{ 2, 2, 0, 1 }, false },
        .{ 1, .{ 0, layout.payload_bytes_max }, true },                 .{ 1, .{ 1, layout.payload_bytes_max }, false },
        .{ 1, .{ std.math.maxInt(u32), std.math.maxInt(u32) }, false }, .{ 2, .{ 0, 2 }, false },
        .{ 0, .{ 0, 0 }, false },                                       .{ 5, .{ 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, false },
    }) |case| {
        var other: Builder = .{};
        other.add(.slices, case[0], &words(u32, case[1]));
        if (case[2]) _ = try validate(other.finish(.accounts)) else try expectMalformed(&other, .accounts);
    }
}

test "validate: conditions in their order, each once, of the program's kind" {
    var backwards: Builder = .{};
    backwards.add(.signature, 1, "");
    backwards.add(.startup, 1, "");
    try expectMalformed(&backwards, .accounts);
    var twice: Builder = .{};
    twice.add(.startup, 1, "");
    twice.add(.startup, 1, "");
    try expectMalformed(&twice, .accounts);
    var vote: Builder = .{};
    vote.add(.vote, 1, "");
    try expectMalformed(&vote, .accounts);
    _ = try validate(vote.finish(.transactions));
    var unknown: Builder = .{};
    unknown.add(@fromBackingInt(13), 0, "");
    try expectMalformed(&unknown, .accounts);
    var trailing: Builder = .{};
    trailing.put(&@as([8]u8, @splat(0)));
    try expectMalformed(&trailing, .accounts);
    var missing: Builder = .{};
    missing.count = 1;
    try expectMalformed(&missing, .accounts);
    var huge: Builder = .{};
    huge.add(.startup, 1, "");
    std.mem.writeInt(u32, huge.bytes[12..16], std.math.maxInt(u32), .little);
    try expectMalformed(&huge, .accounts);
}

// Transactions

fn transactionBody(comptime byte: u8) layout.TransactionBody {
    return .{
        .slot = 0,
        .bank_id = 0,
        .signature = @splat(byte),
        .index = 0,
        .message_length = 0,
        .meta_length = 0,
        .loaded_writable_count = 0,
        .loaded_readonly_count = 0,
    };
}

test "transactions: vote, failed, signature, all required, none excluded, loaded keys count" {
    const own = [_]Key{ key(1), key(2), key(1) };
    const loaded = [_]Key{key(3)};
    const update: filter_program.TransactionRef = .{ .body = &transactionBody(7), .flags = layout.frame_flag_vote, .keys = &own, .loaded = &loaded };
    const signature: [64]u8 = @splat(7);
    var other_signature = signature;
    other_signature[63] = 8;
    inline for (.{
        .{ .vote, 1, "", true },                                                     .{ .vote, 0, "", false },
        .{ .failed, 1, "", false },                                                  .{ .failed, 0, "", true },
        .{ .first_signature, 0, &signature, true },                                  .{ .first_signature, 0, &other_signature, false },
        .{ .required, 1, &key(3), true },                                            .{ .required, 1, &key(4), false },
        .{ .required, 3, &(key(1) ++ key(2) ++ key(3)), true },                      .{ .required, 3, &(key(1) ++ key(2) ++ key(4)), false },
        .{ .required, 5, &(key(1) ++ key(2) ++ key(3) ++ key(4) ++ key(5)), false }, .{ .excluded, 1, &key(4), true },
        .{ .excluded, 2, &(key(0) ++ key(2)), false },                               .{ .excluded, 1, &key(3), false },
    }) |case| {
        var builder: Builder = .{};
        builder.add(case[0], case[1], case[2]);
        const program = try validate(builder.finish(.transactions));
        try testing.expectEqual(case[3], filter_program.evaluateTransaction(&program, &update));
    }
    var builder: Builder = .{};
    builder.addKeys(.required, &.{key(1)});
    builder.addKeys(.excluded, &.{key(1)});
    const program = try validate(builder.finish(.transactions));
    try testing.expect(!filter_program.evaluateTransaction(&program, &update));
}

test "slots: one of the statuses; one that nobody knows matches only who takes all" {
    var builder: Builder = .{};
    builder.add(.statuses, 0b101, "");
    const program = try validate(builder.finish(.slots));
    for ([_]u32{ 0, 1, 2, 15, 16, 0xffff_ffff }, [_]bool{ true, false, true, false, false, false }) |status, expected| {
        try testing.expectEqual(expected, filter_program.evaluateSlot(&program, status));
    }
}

// Messages

const Message = struct {
    bytes: [40_000]u8 = @splat(0xee),
    length: usize = 0,

    fn put(message: *Message, bytes: []const u8) void {
        @memcpy(message.bytes[message.length..][0..bytes.len], bytes);
        message.length += bytes.len;
    }

    /// Keys 1, 2, …; legacy if the version is null.
    fn init(message: *Message, version: ?u8, signatures: u8, count: u16) void {
        if (version) |number| message.put(&.{0x80 | number});
        message.put(&.{ signatures, 0, 0 });
        if (version == 1) {
            message.put(&@as([36]u8, @splat(0xaa))); // mask and blockhash
            message.put(&.{ 0, @intCast(count) });
        } else if (count < 128) {
            message.put(&.{@intCast(count)});
        } else {
            message.put(&.{ @intCast(count & 0x7f | 0x80), @intCast(count >> 7) });
        }
        for (0..count) |i| message.put(&key(@truncate(i + 1)));
        if (version != 1) message.put(&@as([32]u8, @splat(0xbb))); // blockhash
    }

    fn text(message: *const Message) []const u8 {
        return message.bytes[0..message.length];
    }
};

test "accountKeys finds those of legacy, v0 and v1 messages, and refuses every message that is cut before their end" {
    for ([_]?u8{ null, 0, 1 }) |version| {
        for ([_]u16{ 1, 2, 38, 64, 127, 128, 255, 256 }) |count| {
            if (version == 1 and count > 255) continue;
            var message: Message = .{};
            message.init(version, 1, count);
            for (0..message.length) |length| {
                try testing.expectError(error.Malformed, filter_program.accountKeys(message.text()[0..length]));
            }
            message.put("what follows"); // instructions
            const keys = (try filter_program.accountKeys(message.text())).keys;
            try testing.expectEqual(count, keys.len);
            for (keys, 1..) |*found, i| try testing.expectEqualSlices(u8, &key(@truncate(i)), found);
        }
    }
}

test "accountKeys refuses unknown versions, more keys than an index reaches, fewer keys than signatures, long lengths" {
    for ([_]u8{ 2, 3, 127 }) |version| {
        var message: Message = .{};
        message.init(version, 1, 3);
        try testing.expectError(error.Malformed, filter_program.accountKeys(message.text()));
    }
    for ([_]?u8{ null, 0, 1 }) |version| {
        var message: Message = .{};
        message.init(version, 4, 3);
        try testing.expectError(error.Malformed, filter_program.accountKeys(message.text()));
    }
    var many: Message = .{};
    many.init(null, 1, 257);
    try testing.expectError(error.Malformed, filter_program.accountKeys(many.text()));
    // One key, its number written in each wrong way.
    for ([_][]const u8{ &.{ 0x81, 0x00 }, &.{ 0x81, 0x80, 0x00 }, &.{ 0x81, 0x80, 0x80, 0x00 }, &.{ 0x81, 0x80, 0x04 } }) |length| {
        var message: Message = .{};
        message.put(&.{ 1, 0, 0 });
        message.put(length);
        message.put(&@as([3000]u8, @splat(1)));
        try testing.expectError(error.Malformed, filter_program.accountKeys(message.text()));
    }
}

// Fuzzing

/// A program with all that there is, so that every cut and every flip meets something.
fn fullProgram(builder: *Builder, kind: layout.FilterKind) []u8 {
    switch (kind) {
        .accounts => {
            builder.add(.startup, 0, "");
            builder.add(.signature, 1, "");
            builder.add(.data_size, 0, &words(u32, .{ 0, 400 }));
            builder.add(.lamports, 0, &words(u64, .{ 1, 1 << 63 }));
            builder.add(.lamports_not, 0, &words(u64, .{77}));
            builder.addKeys(.owners, &.{ key(1), key(2), key(9) });
            builder.add(.token_account, 0, "");
            builder.addMemcmp(3, "hello");
            builder.addKeys(.owners_not, &.{ key(3), key(4) });
            builder.addKeys(.accounts_not, &.{key(5)});
            builder.add(.changed, 0, "");
            builder.add(.slices, 2, &words(u32, .{ 0, 8, 64, 8 }));
        },
        .transactions => {
            builder.add(.vote, 0, "");
            builder.add(.failed, 0, "");
            builder.add(.first_signature, 0, &@as([64]u8, @splat(7)));
            builder.addKeys(.required, &.{ key(1), key(2) });
            builder.addKeys(.excluded, &.{ key(3), key(4) });
        },
        else => builder.add(.statuses, 0b111, ""),
    }
    return builder.finish(kind);
}

/// Whatever was accepted can be run. `seed` decides on the update.
fn runAll(program: *const filter_program.Program, random: std.Random) !void {
    var data: [400]u8 = undefined;
    random.bytes(&data);
    const length = random.uintAtMost(u32, data.len);
    if (length >= 8 and random.boolean()) data[3..8].* = "hello".*;
    const body: layout.AccountBody = .{
        .pubkey = key(random.uintAtMost(u8, 9)),
        .owner = key(random.uintAtMost(u8, 9)),
        .lamports = random.int(u64),
        .rent_epoch = 0,
        .slot = 0,
        .bank_id = 0,
        .write_version = 0,
        .data_length = length,
        .source_epoch = 0,
        .full_length = length,
        .pad_0 = 0,
    };
    const verdict = filter_program.evaluateAccount(program, &.{
        .body = &body,
        .flags = random.int(u16),
        .data = data[0..length],
        .changed = ([_]?bool{ null, false, true })[random.uintLessThan(usize, 3)],
    });
    try testing.expect(verdict.slices.len <= layout.filter_slices_max);
    for (verdict.slices) |slice| {
        const left = filter_program.cut(slice, length);
        try testing.expect(left.offset + left.length <= length);
    }
    const keys = [_]Key{ key(random.uintAtMost(u8, 5)), key(2) };
    _ = filter_program.evaluateTransaction(program, &.{
        .body = &transactionBody(7),
        .flags = random.int(u16),
        .keys = keys[0..random.uintAtMost(usize, keys.len)],
        .loaded = keys[0..random.uintAtMost(usize, keys.len)],
    });
    _ = filter_program.evaluateSlot(program, random.int(u32));
}

const kinds = [_]layout.FilterKind{ .accounts, .transactions, .slots };

test "fuzz: a program that is cut anywhere is malformed" {
    for (kinds) |kind| {
        var builder: Builder = .{};
        const bytes = fullProgram(&builder, kind);
        _ = try validate(bytes);
        for (0..bytes.len) |length| {
            try testing.expectError(error.Malformed, validate(bytes[0..length]));
            // Also with a header that says so.
            if (length < @sizeOf(layout.FilterProgram)) continue;
            var copy: [4096]u8 = undefined;
            @memcpy(copy[0..length], bytes[0..length]);
            std.mem.writeInt(u32, copy[4..8], @intCast(length), .little);
            try testing.expectError(error.Malformed, validate(copy[0..length]));
        }
    }
}

test "fuzz: programs with flipped bits, at any address, are malformed or run" {
    var prng = std.Random.DefaultPrng.init(0x51a5);
    const random = prng.random();
    var accepted: u32 = 0;
    for (kinds) |kind| {
        var builder: Builder = .{};
        const bytes = fullProgram(&builder, kind);
        var copy: [4097]u8 = undefined;
        for (0..8 * bytes.len + 20_000) |round| {
            const place = copy[round % 2 ..][0..bytes.len];
            @memcpy(place, bytes);
            // First each bit alone, then some at random.
            if (round < 8 * bytes.len) {
                place[round / 8] ^= @as(u8, 1) << @intCast(round % 8);
            } else for (0..random.intRangeAtMost(u32, 1, 6)) |_| {
                place[random.uintLessThan(usize, bytes.len)] = random.int(u8);
            }
            const program = validate(place) catch continue;
            accepted += 1;
            try runAll(&program, random);
        }
    }
    try testing.expect(accepted > 1000);
}

test "fuzz: random bytes, also behind a true header, are malformed or run" {
    var prng = std.Random.DefaultPrng.init(0xf117);
    const random = prng.random();
    for (0..100_000) |round| {
        var bytes: [256]u8 = undefined;
        random.bytes(&bytes);
        const length = random.uintAtMost(usize, bytes.len);
        if (round % 4 != 0 and length >= 8) {
            const header: layout.FilterProgram = .{
                .kind = random.intRangeAtMost(u16, 0, 4),
                .condition_count = random.uintAtMost(u16, 3),
                .length = @intCast(length),
            };
            @memcpy(bytes[0..8], std.mem.asBytes(&header));
            // Small numbers are likelier to be right.
            for (bytes[8..length]) |*byte| if (random.uintLessThan(u8, 4) != 0) {
                byte.* = if (random.boolean()) 0 else random.uintAtMost(u8, 40);
            };
        }
        const program = validate(bytes[0..length]) catch continue;
        try runAll(&program, random);
    }
}

test "fuzz: accountKeys of random bytes and of messages with flipped bits stays inside the message" {
    var prng = std.Random.DefaultPrng.init(0x385);
    const random = prng.random();
    for (0..100_000) |round| {
        var message: Message = .{};
        if (round % 2 == 0) {
            message.length = random.uintAtMost(usize, 1300);
            random.bytes(message.bytes[0..message.length]);
            if (message.length > 0 and random.boolean()) message.bytes[0] = 0x80 | random.uintAtMost(u8, 2);
        } else {
            message.init(([_]?u8{ null, 0, 1 })[round % 3], 1, random.intRangeAtMost(u16, 0, 40));
            for (0..random.uintAtMost(usize, 3)) |_| {
                message.bytes[random.uintLessThan(usize, @min(60, message.length))] = random.int(u8);
            }
        }
        const whole = message.text();
        const keys = (filter_program.accountKeys(whole) catch continue).keys;
        try testing.expect(keys.len <= layout.message_keys_max);
        if (keys.len == 0) continue;
        const start = @intFromPtr(keys.ptr) - @intFromPtr(whole.ptr);
        try testing.expect(start + keys.len * @sizeOf(Key) <= whole.len);
    }
}
