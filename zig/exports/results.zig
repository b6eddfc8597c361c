//! results.zig: what the parts of the door answer with: a code, or the handle of what was made.

const layout = @import("../layout.zig");
const platform = @import("../platform/mod.zig");
const handles = @import("../handles.zig");
const Status = layout.Status;
const Code = platform.Code;

pub fn codeOf(status: Status) Code {
    return @backingInt(status);
}

pub fn register(object: handles.Object) ?Code {
    const handle = handles.add(object) orelse return null;
    return @intCast(handle);
}
