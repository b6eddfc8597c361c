//! report.zig: one JSON object on stdout.
//! May touch: stdout. May not touch: what is measured.

const std = @import("std");
const linux = std.os.linux;

var buffer: [64 * 1024]u8 = undefined;
var used: usize = 0;

fn write(comptime format: []const u8, args: anytype) void {
    const text = std.fmt.bufPrint(buffer[used..], format, args) catch {
        flush();
        return write(format, args);
    };
    used += text.len;
}

fn flush() void {
    var at: usize = 0;
    while (at < used) {
        const written: isize = @bitCast(linux.write(1, buffer[at..].ptr, used - at));
        if (written <= 0) break;
        at += @intCast(written);
    }
    used = 0;
}

/// Writes lists of nanoseconds by name.
pub fn lists(items: []const struct { name: []const u8, values: []const u64, divisor: u64 = 1 }) void {
    write("{{", .{});
    for (items, 0..) |item, i| {
        write("{s}\"{s}\":[", .{ if (i == 0) "" else ",", item.name });
        for (item.values, 0..) |value, k| {
            const ratio = @as(f64, @floatFromInt(value)) / @as(f64, @floatFromInt(item.divisor));
            write("{s}{d:.3}", .{ if (k == 0) "" else ",", ratio });
        }
        write("]", .{});
    }
    write("}}\n", .{});
    flush();
}
