//! abi.zig: what layout.zig says, as text. The text is the body of src/native/abi.generated.ts; its hash is what the
//! library and TypeScript compare when they meet.
//! May touch: layout.zig, by reflection.

const std = @import("std");
const layout = @import("layout.zig");

const structs = .{
    "RingHeader", "ConsumerPage",       "FrameHeader",   "AccountBody",     "TransactionBody",      "SlotBody",      "GapBody",       "LeftBody",     "FilterMarkBody", "GoodbyeBody",
    "PollRecord", "OfferTarget",        "RingInfo",      "LinkHeader",      "HelloBody",            "GrantBody",     "SubscribeBody", "AckBody",      "RefuseBody",     "V9Subscribe",
    "V9Token",    "V9ReadyShm",         "V9Account",     "V9Transaction",   "V9Slot",               "ShaqHeader",    "V9Created",     "FilterBody",   "FanoutOptions",  "FanoutConsumer",
    "FanoutInfo", "FanoutConsumerInfo", "FilterProgram", "FilterCondition", "FilterRange",          "FilterVerdict", "DemandHead",    "DemandRecord",
    // Of the stat page.
    "ReadReport",     "StatHeader",
    "StatEntry",  "StatIdentity",       "StatBeat",      "StatDropped",
    // Of state, resuming and taking over.
        "SnapshotCompleteBody", "RollbackBody",  "ResumedBody",   "HandoverBody",
};
const enums = .{ "FrameKind", "EndReason", "LinkKind", "Status", "V9Tag", "Policy", "FilterOp", "FilterKind", "FilterOpcode", "FilterOutcome", "LossReason", "StatEnd" };
const constants = .{
    "layout_version",           "part_size",                "capacity_bytes_min",      "capacity_bytes_max",      "frame_align",
    "payload_bytes_max",        "signature_size",           "address_size",            "reserved_bytes_min",      "reserved_fraction",
    "frame_flag_startup",       "frame_flag_lossy",         "frame_flag_signature",    "frame_flag_executable",   "frame_flag_vote",
    "frame_flag_failed",        "frame_flag_meta",          "frame_flag_sliced",       "frame_flag_clipped",      "link_magic",
    "link_version",             "link_body_bytes_max",      "link_descriptors_max",    "name_bytes_max",          "status_base",
    "v9_version",               "v9_slots_default",         "v9_slot_none",            "v9_idle_ms",              "v9_ping_ms",
    "v9_control_bytes_max",     "v9_list_keys_max",         "v9_ready_shm_bytes_max",  "v9_path_bytes_max",       "v9_sentinel",
    "v9_flag_lz4",              "frame_flag_decompressed",  "v9_compress_bytes_min",   "v9_compress_probe_bytes", "v9_compress_gain_min",
    "filters_per_consumer_max", "fanout_consumers_max",     "fanout_event_flag",       "pool_bytes_min",          "pool_bytes_max",
    "shaq_capacity_bytes_min",  "shaq_capacity_bytes_max",  "filter_keys_max",         "filter_memcmps_max",      "filter_memcmp_bytes_max",
    "filter_slices_max",        "filter_program_bytes_max", "loaded_keys_max",         "demand_accounts",         "demand_transactions",
    // Of the stat page.
    "latency_buckets",          "latency_shift_min",        "stat_version",            "stat_header_size",        "loss_reasons",
    "stat_ends",
    // Of state, resuming and taking over.
                   "frame_flag_state",         "frame_flag_restored",     "fanout_work_flag",        "state_parts_min",
    "state_parts_max",          "grant_has_state",          "grant_has_history",       "grant_has_takeover",      "filter_flag_state",
    "filter_flag_more",         "filter_flag_versions",     "filters_max",             "filter_sets_max",         "filter_sets_made_max",
    "filter_set_bytes_max",     "state_requests_max",       "state_request_bytes_max",
};

pub const text: []const u8 = blk: {
    @setEvalBranchQuota(400_000);
    var out: []const u8 = "";
    for (constants) |name| {
        out = out ++ std.fmt.comptimePrint("export const {s} = {d};\n", .{ upper(name), @field(layout, name) });
    }
    for (structs) |name| {
        const T = @field(layout, name);
        out = out ++ std.fmt.comptimePrint("\n/** Offsets in bytes. */\nexport const {s} = {{\n  size: {d},\n", .{ name, @sizeOf(T) });
        for (@typeInfo(T).@"struct".field_names) |field| {
            if (std.mem.startsWith(u8, field, "pad_")) continue;
            out = out ++ std.fmt.comptimePrint("  {s}: {d},\n", .{ camel(field), @offsetOf(T, field) });
        }
        out = out ++ "} as const;\n";
    }
    for (enums) |name| {
        out = out ++ std.fmt.comptimePrint("\nexport const {s} = {{\n", .{name});
        const info = @typeInfo(@field(layout, name)).@"enum";
        for (info.field_names, info.field_values) |field, value| {
            out = out ++ std.fmt.comptimePrint("  {s}: {d},\n", .{ camel(field), value });
        }
        out = out ++ "} as const;\n";
    }
    out = out ++ "\n/** TypeScript's name: the library's name, parameters, result. */\nexport const SYMBOLS = {\n";
    for (layout.symbols) |symbol| {
        out = out ++ std.fmt.comptimePrint("  {s}: [\"{s}\", [", .{ camel(symbol.name[symbol_prefix.len..]), symbol.name });
        for (symbol.parameters, 0..) |parameter, i| {
            out = out ++ (if (i == 0) "" else ", ") ++ "\"" ++ @tagName(parameter) ++ "\"";
        }
        out = out ++ "], \"" ++ @tagName(symbol.result) ++ "\"],\n";
    }
    out = out ++ "} as const;\n";
    break :blk out;
};

const symbol_prefix = "qlaster_";

/// FNV-1a, 32 bits.
pub const hash: u32 = blk: {
    @setEvalBranchQuota(text.len * 10);
    var value: u32 = 0x811c9dc5;
    for (text) |byte| value = (value ^ byte) *% 0x01000193;
    break :blk value;
};

fn upper(comptime name: []const u8) []const u8 {
    var out: [name.len]u8 = undefined;
    for (name, 0..) |c, i| out[i] = std.ascii.toUpper(c);
    const copy = out;
    return &copy;
}

fn camel(comptime name: []const u8) []const u8 {
    var out: []const u8 = "";
    var raise = false;
    for (name) |c| {
        if (c == '_') {
            raise = true;
            continue;
        }
        out = out ++ [_]u8{if (raise) std.ascii.toUpper(c) else c};
        raise = false;
    }
    return out;
}
