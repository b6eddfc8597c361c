//! exports.zig: the door (design D19), by subject. Only the files of exports/ have `export fn`; no logic: find the object, call
//! one method, map the outcome to a code by an exhaustive switch.
//! Arguments come from our own TypeScript; still, no argument may lead to a panic.

comptime {
    _ = @import("exports/library.zig");
    _ = @import("exports/links.zig");
    _ = @import("exports/rings.zig");
    _ = @import("exports/fanout.zig");
    _ = @import("exports/filters.zig");
    _ = @import("exports/v9.zig");
}
