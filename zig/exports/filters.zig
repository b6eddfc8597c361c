//! filters.zig: the door, filter programs by themselves.

const layout = @import("../layout.zig");
const platform = @import("../platform/mod.zig");
const filter_program = @import("../filter_program.zig");
const results = @import("results.zig");
const Code = platform.Code;
const codeOf = results.codeOf;

/// Runs a filter program against one native frame, without an index: for tests, and to see why a filter does not match.
/// `changed`: 0 no, 1 yes, else unknown. Returns the outcome, or `peer_corrupt` for bytes that are no program.
export fn qlaster_filter_evaluate(
    program: ?[*]const u8,
    program_length: u32,
    head: ?[*]align(8) const u8,
    head_length: u32,
    tail: ?[*]const u8,
    tail_length: u32,
    changed: i32,
    verdict: ?*align(4) layout.FilterVerdict,
) Code {
    const program_bytes: []const u8 = if (program_length == 0) &.{} else (program orelse return codeOf(.bad_argument))[0..program_length];
    const head_bytes = (head orelse return codeOf(.bad_argument))[0..head_length];
    const out = verdict orelse return codeOf(.bad_argument);
    const tail_bytes: []const u8 = if (tail_length == 0) &.{} else (tail orelse return codeOf(.bad_argument))[0..tail_length];
    const checked = filter_program.validate(program_bytes) catch |err| return switch (err) {
        error.Malformed => codeOf(.peer_corrupt),
    };
    const outcome = filter_program.evaluateFrame(&checked, head_bytes, tail_bytes, switch (changed) {
        0 => false,
        1 => true,
        else => null,
    }, out) catch |err| return switch (err) {
        error.Malformed => codeOf(.bad_argument),
    };
    return @intCast(@backingInt(outcome));
}
