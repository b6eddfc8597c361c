//! copy.zig: how payloads are copied into and out of shared memory.

const builtin = @import("builtin");

/// From this many bytes on, x86's `rep movsb` beats the vector loop: by a tenth to a seventh into memory that nobody else has in
/// a cache, and several times into lines that a reader on another core had before; below, it loses (docs/adr/0003).
const string_copy_min = 4 * 1024;

/// `source` and `target` never overlap: one is private memory, the other a ring.
pub inline fn copy(target: [*]u8, source: []const u8) void {
    if (builtin.cpu.arch == .x86_64 and source.len >= string_copy_min) {
        asm volatile ("rep movsb"
            :
            : [target] "{rdi}" (target),
              [source] "{rsi}" (source.ptr),
              [count] "{rcx}" (source.len),
            : .{ .memory = true, .rdi = true, .rsi = true, .rcx = true });
        return;
    }
    @memcpy(target[0..source.len], source);
}
