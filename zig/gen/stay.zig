//! gen/stay.zig: marks a compiled library as one that stays loaded, once it is, until the process ends.
//! Arguments: the compiled library, the file to write.
//! Why: the relay's thread (zig/v9/relay.zig) runs its code, and a runtime unloads a library with the last Worker that
//! has loaded it. The linker has an option for it (-z nodelete) that the build system does not pass on. Mach-O is copied
//! as it is: there is no such thread on macOS.

const std = @import("std");

const size_max = 64 * 1024 * 1024;
const program_header_dynamic = 2; // PT_DYNAMIC
const dynamic_flags = 0x6fff_fffb; // DT_FLAGS_1. There is one: the linker says in it that it binds at once.
const flag_nodelete = 0x8; // DF_1_NODELETE

pub fn main(init: std.process.Init) !void {
    const arena = init.arena.allocator();
    const cwd: std.Io.Dir = .cwd();
    const arguments = try init.minimal.args.toSlice(arena);
    const input, const output = arguments[1..3].*;
    const bytes = try cwd.readFileAlloc(init.io, input, arena, .limited(size_max));
    if (std.mem.eql(u8, bytes[0..4], "\x7fELF")) try mark(bytes);
    try cwd.writeFile(init.io, .{ .sub_path = output, .data = bytes });
}

/// A 64-bit little-endian ELF, as our linker makes it.
fn mark(bytes: []u8) !void {
    const headers_offset = read(u64, bytes, 32);
    const header_size = read(u16, bytes, 54);
    const header_count = read(u16, bytes, 56);
    for (0..header_count) |index| {
        const header = bytes[@intCast(headers_offset + index * header_size)..];
        if (read(u32, header, 0) != program_header_dynamic) continue;
        const entries = bytes[@intCast(read(u64, header, 8))..][0..@intCast(read(u64, header, 32))];
        var at: usize = 0;
        while (at + 16 <= entries.len) : (at += 16) {
            if (read(u64, entries, at) != dynamic_flags) continue;
            std.mem.writeInt(u64, entries[at + 8 ..][0..8], read(u64, entries, at + 8) | flag_nodelete, .little);
            return;
        }
    }
    return error.FlagsMissing;
}

fn read(comptime Int: type, bytes: []const u8, offset: usize) Int {
    return std.mem.readInt(Int, bytes[offset..][0..@sizeOf(Int)], .little);
}
