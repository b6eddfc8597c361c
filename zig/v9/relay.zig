const platform = @import("../platform/mod.zig");
pub fn add(event_fd: i32, out_fd: i32) platform.Code {
    _ = .{ event_fd, out_fd };
    return -4299;
}
pub fn arm(entry: u32) void {
    _ = entry;
}
pub fn remove(entry: u32) void {
    _ = entry;
}
