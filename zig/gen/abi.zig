//! gen/abi.zig: writes src/native/abi.generated.ts to standard output (`zig build abi`).

const std = @import("std");
const abi = @import("qlaster").abi;

pub fn main(init: std.process.Init) !void {
    var buffer: [4096]u8 = undefined;
    var stdout = std.Io.File.stdout().writerStreaming(init.io, &buffer);
    const out = &stdout.interface;
    try out.writeAll("// Generated from zig/layout.zig by `zig build abi`. Do not edit: change the layout and build.\n\n");
    try out.print("export const ABI_HASH = {d};\n", .{abi.hash});
    try out.writeAll(abi.text);
    try out.flush();
}
