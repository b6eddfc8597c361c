const platform = @import("../platform/mod.zig");
pub const Created = struct {
    address: usize,
    pub fn pathSlice(c: *const Created) []const u8 {
        _ = c;
        return "";
    }
    pub fn destroy(c: *Created) void {
        _ = c;
    }
};
pub const Joined = struct {
    address: usize,
    scratch_offset: usize,
    total_size: usize,
    header_size: usize,
    capacity: u64,
    pub fn present(j: *const Joined) bool {
        _ = j;
        return false;
    }
    pub fn retire(j: *Joined) platform.Code {
        _ = j;
        return 0;
    }
    pub fn destroy(j: *Joined) void {
        _ = j;
    }
};
pub fn create(directory: []const u8, slot_index: u8, generation: u64, capacity: u64, out: *Created) platform.Code {
    _ = .{ directory, slot_index, generation, capacity, out };
    return -4299;
}
pub fn join(path: []const u8, uid: u32, out: *Joined) platform.Code {
    _ = .{ path, uid, out };
    return -4299;
}
pub fn clean(directory: []const u8) platform.Code {
    _ = directory;
    return -4299;
}
pub fn sameNamespace(pid: i32) bool {
    _ = pid;
    return false;
}
