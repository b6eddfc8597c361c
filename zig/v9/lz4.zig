pub const State = [16416]u8;
pub fn compress(source: []const u8, target: []u8, state: *align(8) State) ?usize {
    _ = .{ source, target, state };
    return null;
}
pub fn decompress(source: []const u8, target: []u8) ?usize {
    _ = .{ source, target };
    return null;
}
pub fn bound(n: usize) usize {
    return n + n / 255 + 16;
}
