//! v9/ring_file_test.zig: real files, real processes.
//! May touch: a directory of its own below /dev/shm. May not touch: what other processes have there.

const std = @import("std");
const layout = @import("../layout.zig");
const platform = @import("../platform/mod.zig");
const Patience = @import("../testing.zig").Patience;
const ring_file = @import("ring_file.zig");
const linux = std.os.linux;
const testing = std.testing;
const Code = platform.Code;
const Status = layout.Status;
const Created = ring_file.Created;
const Joined = ring_file.Joined;

const is_linux = platform.is_linux;

fn codeOf(status: Status) Code {
    return @backingInt(status);
}

const scratch_size = 100_000;

fn join(path: []const u8, out: *Joined) Code {
    return ring_file.join(path, platform.effectiveUid(), scratch_size, out);
}

/// A directory of this test alone.
const Place = struct {
    buffer: [64]u8,
    size: usize,

    fn init(name: []const u8) !Place {
        var place: Place = undefined;
        const text = try std.fmt.bufPrintSentinel(&place.buffer, "/dev/shm/qlaster-test-{d}-{s}", .{ platform.getPid(), name }, 0);
        place.size = text.len;
        try testing.expectEqual(0, platform.makeDirectory(text));
        return place;
    }

    fn path(place: *const Place) [:0]const u8 {
        return place.buffer[0..place.size :0];
    }

    fn file(place: *const Place, buffer: *[128]u8, name: []const u8) ![:0]const u8 {
        return std.fmt.bufPrintSentinel(buffer, "{s}/{s}", .{ place.path(), name }, 0);
    }

    /// Fails if something was left in it.
    fn deinit(place: *const Place) void {
        testing.expectEqual(0, platform.removeDirectory(place.path())) catch |failed| std.debug.print("left behind: {}\n", .{failed});
    }
};

fn exists(path: []const u8) bool {
    var buffer: [1024]u8 = undefined;
    const name = std.fmt.bufPrintSentinel(&buffer, "{s}", .{path}, 0) catch return false;
    var info: platform.FileInfo = undefined;
    return platform.statPath(name, &info, false) == 0;
}

test "create and join, with a file and without: both see the same bytes, private memory lies behind" {
    if (!is_linux) return error.SkipZigTest;
    const place: Place = try .init("a");
    defer place.deinit();
    for ([_][]const u8{ place.path(), "" }) |directory| {
        for ([_]u64{ 64, 4096, 65536, 1 << 20 }) |capacity| {
            var created: Created = undefined;
            try testing.expectEqual(0, ring_file.create(directory, 3, 77, capacity, &created));
            try testing.expectEqual(directory.len > 0, created.is_file);
            try testing.expectEqual(320 + capacity, platform.statDescriptor(created.fd).?.size);
            const head = [_]u8{ 0x63, 0x6d, 0x70, 0x6d, 0x71, 0x61, 0x68, 0x73, 0, 0, 2, 0 };
            const bytes: [*]u8 = @ptrFromInt(created.address);
            try testing.expectEqualSlices(u8, &head, bytes[0..12]);
            try testing.expectEqual(capacity - 1, std.mem.readInt(u32, bytes[12..16], .little));

            var joined: Joined = undefined;
            try testing.expectEqual(0, join(created.path.slice(), &joined));
            try testing.expectEqual(directory.len == 0, joined.is_sealed);
            try testing.expectEqual(capacity, joined.capacity);
            try testing.expectEqual(320, joined.header_size);
            try testing.expectEqual(320 + capacity, joined.ring_mapped_size);
            try testing.expectEqual(0, joined.scratch_offset % 65536);
            try testing.expect(joined.total_size - joined.scratch_offset >= scratch_size);
            const theirs: [*]u8 = @ptrFromInt(joined.address);
            bytes[created.size - 1] = 9;
            created.header().producer_publication.store(5, .release);
            try testing.expectEqual(9, theirs[320 + capacity - 1]);
            try testing.expectEqual(5, joined.header().producer_publication.load(.acquire));
            joined.header().consumer_release.store(4, .release);
            try testing.expectEqual(4, created.header().consumer_release.load(.acquire));
            theirs[joined.scratch_offset] = 1;
            theirs[joined.total_size - 1] = 1;

            try testing.expect(joined.present());
            created.remove();
            created.remove();
            try testing.expect(!joined.present());
            try testing.expectEqual(9, bytes[created.size - 1]);
            try testing.expectEqual(0, joined.retire());
            try testing.expectEqual(0, theirs[320 + capacity - 1]);
            theirs[0] = 1;
            try testing.expectEqual(0x63, bytes[0]);
            created.destroy();
            joined.destroy();
        }
    }
}

test "a memfd's size can't change; its number is high, and another one the next time" {
    if (!is_linux) return error.SkipZigTest;
    var numbers: [4]i32 = undefined;
    for (&numbers, 0..) |*number, index| {
        var created: Created = undefined;
        try testing.expectEqual(0, ring_file.create("", 0, index, 4096, &created));
        defer created.destroy();
        number.* = created.fd;
        try testing.expect(created.fd >= @min(platform.descriptorLimit(), 65536) / 2);
        for ([_]i64{ 0, 100, 1 << 20 }) |size| {
            try testing.expectEqual(linux.E.PERM, linux.errno(linux.ftruncate(created.fd, size)));
        }
        for (numbers[0..index]) |earlier| try testing.expect(earlier != number.*);
    }
}

test "create refuses: a wrong capacity, a path too long, a 0 in it, an unsafe directory, a process that can't be looked into" {
    if (!is_linux) return error.SkipZigTest;
    const place: Place = try .init("b");
    defer place.deinit();
    var created: Created = undefined;
    for ([_]u64{ 0, 1, 32, 63, 65, 100, 4095, 4 << 30, std.math.maxInt(u64), 1 << 63 }) |capacity| {
        for ([_][]const u8{ place.path(), "" }) |directory| {
            try testing.expectEqual(codeOf(.bad_argument), ring_file.create(directory, 0, 1, capacity, &created));
        }
    }
    const long: [layout.v9_path_bytes_max + 1]u8 = @splat('/');
    try testing.expectEqual(codeOf(.path_too_long), ring_file.create(&long, 0, 1, 64, &created));
    var nearly: [layout.v9_path_bytes_max - 4]u8 = @splat('a'); // with the file's name, too long
    @memcpy(nearly[0..place.path().len], place.path());
    nearly[place.path().len] = '/';
    try testing.expectEqual(codeOf(.path_too_long), ring_file.create(&nearly, 0, 1, 64, &created));
    try testing.expectEqual(codeOf(.bad_argument), ring_file.create("/dev/shm\x00", 0, 1, 64, &created));
    try testing.expectEqual(0, platform.setMode(place.path(), 0o777));
    try testing.expectEqual(codeOf(.directory_unsafe), ring_file.create(place.path(), 0, 1, 64, &created));
    try testing.expectEqual(0, platform.setMode(place.path(), 0o1777));
    try testing.expectEqual(0, ring_file.create(place.path(), 0, 1, 64, &created));
    var again: Created = undefined;
    try testing.expectEqual(codeOf(.path_in_use), ring_file.create(place.path(), 0, 1, 64, &again));
    created.destroy();

    const set_dumpable = 4;
    try testing.expectEqual(0, linux.prctl(set_dumpable, 0, 0, 0, 0));
    const refused = ring_file.create("", 0, 1, 64, &created);
    try testing.expectEqual(0, linux.prctl(set_dumpable, 1, 0, 0, 0));
    try testing.expectEqual(codeOf(.unsupported), refused);
}

test "create refuses a directory of which others can replace a part of the way" {
    if (!is_linux) return error.SkipZigTest;
    const place: Place = try .init("way");
    defer place.deinit();
    var buffers: [3][128]u8 = undefined;
    const wide = try place.file(&buffers[0], "wide");
    const below = try place.file(&buffers[1], "wide/rings");
    const link = try place.file(&buffers[2], "link");
    try testing.expectEqual(0, platform.makeDirectory(wide));
    try testing.expectEqual(0, platform.makeDirectory(below));
    try testing.expectEqual(0, linux.symlink(below, link));
    var created: Created = undefined;
    for ([_]struct { u32, Code }{
        .{ 0o777, codeOf(.directory_unsafe) },
        .{ 0o770, codeOf(.directory_unsafe) },
        .{ 0o1777, 0 },
        .{ 0o755, 0 },
    }) |case| {
        const mode, const expected = case;
        try testing.expectEqual(0, platform.setMode(wide, mode));
        try testing.expectEqual(expected, ring_file.create(below, 0, 1, 64, &created));
        if (expected == 0) created.destroy();
    }
    try testing.expectEqual(0, ring_file.create(link, 0, 1, 64, &created));
    created.destroy();
    if (platform.effectiveUid() == 0) {
        const nobody = 65534;
        for ([_][:0]const u8{ wide, link }) |name| {
            try testing.expectEqual(0, linux.lchown(name, nobody, nobody));
            const directory = if (name.ptr == link.ptr) link else below;
            try testing.expectEqual(codeOf(.directory_unsafe), ring_file.create(directory, 0, 1, 64, &created));
            try testing.expectEqual(0, linux.lchown(name, 0, 0));
        }
    }
    for ([_][:0]const u8{ below, wide }) |name| try testing.expectEqual(0, platform.removeDirectory(name));
    try testing.expectEqual(0, platform.unlink(link));
}

test "a process with few descriptors has no memory without a file: their numbers come again too soon" {
    if (!is_linux) return error.SkipZigTest;
    for ([_]u64{ 1023, 1024 }) |limit| {
        const pid = linux.fork();
        if (pid == 0) {
            var both: linux.rlimit = undefined;
            _ = linux.getrlimit(.NOFILE, &both);
            both.cur = limit;
            if (linux.setrlimit(.NOFILE, &both) != 0) linux.exit_group(77);
            var created: Created = undefined;
            const code = ring_file.create("", 0, 1, 64, &created);
            const expected = if (limit < 1024) codeOf(.unsupported) else 0;
            linux.exit_group(if (code == expected) 0 else 1);
        }
        const status = waitFor(@intCast(pid));
        if (status == 77 << 8) return error.SkipZigTest;
        try testing.expectEqual(0, status);
    }
}

test "missing directories are made, 0700; a relative one becomes absolute; the file is 0600; a foreign file is not removed" {
    if (!is_linux) return error.SkipZigTest;
    const place: Place = try .init("c");
    defer place.deinit();
    var buffer: [128]u8 = undefined;
    const deep = try place.file(&buffer, "x/y/");
    var created: Created = undefined;
    try testing.expectEqual(0, ring_file.create(deep, 255, std.math.maxInt(u64), 64, &created));
    try testing.expect(std.mem.endsWith(u8, created.path.slice(), "-255-18446744073709551615"));
    try testing.expect(std.mem.indexOf(u8, created.path.slice(), "//") == null);
    var info: platform.FileInfo = undefined;
    const name = created.path.bytes[0..created.path.length :0];
    try testing.expectEqual(0, platform.statPath(name, &info, false));
    try testing.expectEqual(0o600, info.mode);
    try testing.expectEqual(0, platform.unlink(name));
    const foreign = platform.createFile(name);
    created.destroy();
    try testing.expect(exists(name));
    _ = platform.close(foreign);
    try testing.expectEqual(0, platform.unlink(name));
    var directory_buffer: [128]u8 = undefined;
    for ([_][]const u8{ "x/y", "x" }) |part| {
        const directory = try place.file(&directory_buffer, part);
        try testing.expectEqual(0, platform.statPath(directory, &info, false));
        try testing.expectEqual(0o700, info.mode);
        try testing.expectEqual(0, platform.removeDirectory(directory));
    }

    var working: [4096]u8 = undefined;
    const size = platform.workingDirectory(&working);
    working[@intCast(size)] = 0;
    try testing.expectEqual(0, linux.chdir(place.path()));
    const made = ring_file.create("rel", 1, 2, 64, &created);
    try testing.expectEqual(0, linux.chdir(working[0..@intCast(size) :0]));
    try testing.expectEqual(0, made);
    try testing.expect(std.mem.startsWith(u8, created.path.slice(), place.path()));
    created.destroy();
    try testing.expectEqual(0, platform.removeDirectory(try place.file(&directory_buffer, "rel")));
}

test "a full file system is an error, and leaves no file" {
    if (!is_linux) return error.SkipZigTest;
    const place: Place = try .init("full");
    defer place.deinit();
    // In a namespace of its own, where it may mount a small file system: needs to be root.
    const pid = linux.fork();
    if (pid == 0) {
        const new_namespace = 0x0002_0000;
        if (linux.unshare(new_namespace) != 0) linux.exit_group(77);
        if (linux.mount("none", "/", null, linux.MS.REC | linux.MS.PRIVATE, 0) != 0) linux.exit_group(77);
        if (linux.mount("none", place.path(), "tmpfs", 0, @intFromPtr("size=64k")) != 0) linux.exit_group(77);
        var created: Created = undefined;
        if (ring_file.create(place.path(), 0, 1, 1 << 20, &created) != platform.errno.no_space) linux.exit_group(1);
        if (ring_file.create(place.path(), 0, 1, 4096, &created) != 0) linux.exit_group(2);
        linux.exit_group(0);
    }
    const status = waitFor(@intCast(pid));
    if (status == 77 << 8) return error.SkipZigTest;
    try testing.expectEqual(0, status);
}

/// A file that a hostile or odd peer made. Returns its path.
fn forge(place: *const Place, buffer: *[128]u8, size: usize, magic: u64, version: u32, mask: u32) ![:0]const u8 {
    const path = try place.file(buffer, "forged");
    _ = platform.unlink(path);
    const fd = platform.createFile(path);
    defer _ = platform.close(fd);
    try testing.expectEqual(0, linux.ftruncate(fd, @intCast(size)));
    var head: [16]u8 = undefined;
    std.mem.writeInt(u64, head[0..8], magic, .little);
    std.mem.writeInt(u32, head[8..12], version, .little);
    std.mem.writeInt(u32, head[12..16], mask, .little);
    if (size > 0) try testing.expectEqual(@min(size, 16), linux.pwrite(fd, &head, @min(size, 16), 0));
    return path;
}

test "join takes both versions and sizes rounded up, and refuses all others" {
    if (!is_linux) return error.SkipZigTest;
    const place: Place = try .init("d");
    defer place.deinit();
    const v2 = layout.shaq_version_2;
    const v3 = layout.shaq_version_3;
    const magic = layout.shaq_magic;
    const Case = struct { size: usize, magic: u64 = magic, version: u32 = v2, mask: u32 = 4095, expected: ?Status = null };
    const cases = [_]Case{
        .{ .size = 4416 },
        .{ .size = 8192 },
        .{ .size = 320 + 8191 },
        .{ .size = 320 + 8192, .expected = .bad_size },
        .{ .size = 4415, .expected = .bad_size },
        .{ .size = 4480, .expected = .bad_version }, // the header of 3.0, unreleased
        .{ .size = 4480, .version = v3 },
        .{ .size = 384 + 8191, .version = v3 },
        .{ .size = 384 + 8192, .version = v3, .expected = .bad_size },
        .{ .size = 4416, .version = v3, .expected = .bad_size },
        .{ .size = 384, .mask = 63 },
        .{ .size = 448, .mask = 63, .version = v3 },
        .{ .size = 352, .mask = 31, .expected = .bad_size },
        .{ .size = 4416, .mask = 4094, .expected = .bad_size },
        .{ .size = 4416, .mask = 8191, .expected = .bad_size },
        .{ .size = 4416, .mask = std.math.maxInt(u32), .expected = .bad_size },
        .{ .size = 4416, .mask = 0, .expected = .bad_size },
        .{ .size = 4416, .version = 0x0002_0001, .expected = .bad_version },
        .{ .size = 4416, .version = 0, .expected = .bad_version },
        .{ .size = 4416, .magic = 0, .expected = .bad_magic },
        .{ .size = 4416, .magic = @byteSwap(magic), .expected = .bad_magic },
        .{ .size = 0, .expected = .bad_size },
        .{ .size = 15, .expected = .bad_size },
        .{ .size = 16, .expected = .bad_size },
        .{ .size = 320 + (4 << 30), .mask = std.math.maxInt(u32), .expected = .bad_size },
    };
    for (cases) |case| {
        var buffer: [128]u8 = undefined;
        const path = try forge(&place, &buffer, case.size, case.magic, case.version, case.mask);
        var joined: Joined = undefined;
        const expected: Code = if (case.expected) |status| codeOf(status) else 0;
        try testing.expectEqual(expected, join(path, &joined));
        if (expected == 0) {
            try testing.expectEqual(if (case.version == v3) @as(usize, 384) else 320, joined.header_size);
            const last: *u8 = @ptrFromInt(joined.dataAddress() + @as(usize, @intCast(joined.capacity)) - 1);
            last.* = 1;
            joined.destroy();
            try testing.expectEqual(codeOf(.wrong_uid), ring_file.join(path, platform.effectiveUid() +% 1, scratch_size, &joined));
        }
        try testing.expectEqual(0, platform.unlink(path));
    }
}

test "join refuses what is no regular file, without a touch; links too, other than a descriptor's own" {
    if (!is_linux) return error.SkipZigTest;
    const place: Place = try .init("e");
    defer place.deinit();
    const before = countDescriptors();
    var joined: Joined = undefined;
    var buffer: [128]u8 = undefined;
    var link_buffer: [128]u8 = undefined;

    const fifo = try place.file(&buffer, "fifo");
    try testing.expectEqual(0, linux.mknodat(linux.AT.FDCWD, fifo, linux.S.IFIFO | 0o600, 0));
    // A writer that does not wait finds nobody to read, also while we look at it.
    try testing.expectEqual(codeOf(.bad_descriptor), join(fifo, &joined));
    try testing.expectEqual(linux.E.NXIO, linux.errno(linux.open(fifo, .{ .ACCMODE = .WRONLY, .NONBLOCK = true }, 0)));
    try testing.expectEqual(0, platform.unlink(fifo));

    const not_files = [_][]const u8{ "/dev/null", "/dev/zero", "/dev/shm", place.path(), "/proc/self/cwd", "/proc/self/fd/0" };
    for (not_files) |path| try testing.expectEqual(codeOf(.bad_descriptor), join(path, &joined));
    try testing.expectEqual(platform.errno.no_entry, join("/dev/shm/qlaster-no-such-file", &joined));
    try testing.expectEqual(platform.errno.no_entry, join("/proc/999999999/fd/3", &joined));
    try testing.expectEqual(codeOf(.bad_argument), join("", &joined));
    try testing.expectEqual(codeOf(.bad_argument), join("/dev/shm/a\x00b", &joined));
    const long: [layout.v9_path_bytes_max + 1]u8 = @splat('a');
    try testing.expectEqual(codeOf(.path_too_long), join(&long, &joined));

    const path = try forge(&place, &buffer, 4416, layout.shaq_magic, layout.shaq_version_2, 4095);
    const symbolic = try place.file(&link_buffer, "link");
    try testing.expectEqual(0, linux.symlink(path, symbolic));
    try testing.expectEqual(codeOf(.bad_descriptor), join(symbolic, &joined));
    try testing.expectEqual(0, platform.unlink(symbolic));

    // A descriptor's path is followed: to a pipe, a socket, a device, a directory, and to a file.
    var ends: [2]i32 = undefined;
    try testing.expectEqual(0, linux.pipe2(&ends, .{ .CLOEXEC = true }));
    const device: i32 = @intCast(linux.open("/dev/zero", .{}, 0));
    const directory: i32 = @intCast(linux.open("/dev/shm", .{ .DIRECTORY = true }, 0));
    const file: i32 = @intCast(linux.open(path, .{}, 0));
    const socket = platform.socketStream();
    for ([_]i32{ ends[0], ends[1], device, directory, file, socket }) |fd| {
        var name_buffer: [64]u8 = undefined;
        const name = try std.fmt.bufPrint(&name_buffer, "/proc/{d}/fd/{d}", .{ platform.getPid(), fd });
        const code = join(name, &joined);
        if (fd == file) {
            try testing.expectEqual(0, code);
            try testing.expect(joined.present());
            joined.destroy();
        } else {
            try testing.expectEqual(codeOf(.bad_descriptor), code);
        }
        _ = platform.close(fd);
    }
    try testing.expectEqual(0, platform.unlink(path));
    try testing.expectEqual(before, countDescriptors());
}

fn countDescriptors() usize {
    var names: platform.Directory = undefined;
    if (names.open("/proc/self/fd", 100_000) < 0) return 0;
    defer names.close();
    var count: usize = 0;
    while (names.next()) |_| count += 1;
    return count;
}

fn countMappings() usize {
    const fd: i32 = @intCast(linux.open("/proc/self/maps", .{ .CLOEXEC = true }, 0));
    defer _ = platform.close(fd);
    var count: usize = 0;
    while (true) {
        var buffer: [4096]u8 = undefined;
        const size = linux.read(fd, &buffer, buffer.len);
        if (size == 0 or size > buffer.len) return count;
        count += std.mem.count(u8, buffer[0..size], "\n");
    }
}

test "1000 times create, join, destroy: no descriptor, no mapping, no file is left" {
    if (!is_linux) return error.SkipZigTest;
    const place: Place = try .init("f");
    defer place.deinit();
    var descriptors: usize = 0;
    var mappings: usize = 0;
    for (0..1001) |round| {
        for ([_][]const u8{ place.path(), "" }) |directory| {
            var created: Created = undefined;
            try testing.expectEqual(0, ring_file.create(directory, 1, round, 4096, &created));
            var joined: Joined = undefined;
            try testing.expectEqual(0, join(created.path.slice(), &joined));
            // Refused ones leave nothing either.
            var other: Joined = undefined;
            try testing.expectEqual(codeOf(.wrong_uid), ring_file.join(created.path.slice(), platform.effectiveUid() +% 1, scratch_size, &other));
            created.destroy();
            joined.destroy();
        }
        if (round == 0) {
            descriptors = countDescriptors();
            mappings = countMappings();
        }
    }
    try testing.expectEqual(descriptors, countDescriptors());
    try testing.expectEqual(mappings, countMappings());
}

// Leftovers

fn waitFor(pid: i32) i32 {
    var status: i32 = 0;
    while (linux.errno(linux.wait4(pid, &status, 0, null)) == .INTR) {}
    return status;
}

const Holding = enum { created, mapped_only, joined, open_only };

/// A process that makes a ring in `directory`, says so, and stays as it is until it is killed.
const Child = struct {
    pid: i32,

    fn init(directory: []const u8, generation: u64, holding: Holding) !Child {
        var ends: [2]i32 = undefined;
        try testing.expectEqual(0, linux.pipe2(&ends, .{ .CLOEXEC = true }));
        const pid = linux.fork();
        if (pid == 0) {
            var created: Created = undefined;
            if (ring_file.create(directory, 2, generation, 65536, &created) != 0) linux.exit_group(1);
            switch (holding) {
                .created => {},
                .mapped_only => _ = platform.close(created.fd),
                .open_only => platform.unmap(created.address, created.size),
                .joined => {
                    // As the consumer of a sender that has died.
                    var joined: Joined = undefined;
                    if (join(created.path.slice(), &joined) != 0) linux.exit_group(2);
                    platform.unmap(created.address, created.size);
                    _ = platform.close(created.fd);
                },
            }
            _ = linux.write(ends[1], "!", 1);
            while (true) _ = linux.pause();
        }
        _ = platform.close(ends[1]);
        var byte: [1]u8 = undefined;
        try testing.expectEqual(1, linux.read(ends[0], &byte, 1));
        _ = platform.close(ends[0]);
        return .{ .pid = @intCast(pid) };
    }

    fn kill(child: Child) void {
        _ = linux.kill(child.pid, .KILL);
        _ = waitFor(child.pid);
    }
};

test "clean removes what a killed process left, and nothing that a live one has open or mapped" {
    if (!is_linux) return error.SkipZigTest;
    const place: Place = try .init("g");
    defer place.deinit();
    for (std.enums.values(Holding), 1..) |holding, generation| {
        const child: Child = try .init(place.path(), generation, holding);
        var buffer: [128]u8 = undefined;
        var name: [64]u8 = undefined;
        const path = try place.file(&buffer, try std.fmt.bufPrint(&name, "{d}-2-{d}", .{ child.pid, generation }));
        for (0..3) |_| try testing.expectEqual(0, ring_file.clean(place.path()));
        try testing.expect(exists(path));
        child.kill();
        try testing.expect(exists(path));
        try testing.expectEqual(1, ring_file.clean(place.path()));
        try testing.expect(!exists(path));
        try testing.expectEqual(0, ring_file.clean(place.path()));
    }
}

test "clean leaves what is not a ring file: other names, other content, links, directories, FIFOs" {
    if (!is_linux) return error.SkipZigTest;
    const place: Place = try .init("h");
    defer place.deinit();
    const before = countDescriptors();
    var buffer: [128]u8 = undefined;
    var link_buffer: [128]u8 = undefined;
    const forged = try forge(&place, &buffer, 4416, layout.shaq_magic, layout.shaq_version_2, 4095);
    const names = [_][]const u8{
        "a",               "1-2",                      "1-2-3-4", "1-2-3x", "-1-2",   "1--2",    "0-1-2",
        "99999999999-1-2", "1-2-3.tmp",                "01-2-3",  "1-02-3", "1-2-03", "1-255-3", "1-256-3",
        "2024-10-08",      "1-2-18446744073709551616",
    };
    for (names) |name| {
        const path = try place.file(&link_buffer, name);
        try testing.expectEqual(0, linux.link(forged, path));
    }
    const link = try place.file(&link_buffer, "1-1-1");
    try testing.expectEqual(0, linux.symlink(forged, link));
    const fifo = try place.file(&link_buffer, "1-1-2");
    try testing.expectEqual(0, linux.mknodat(linux.AT.FDCWD, fifo, linux.S.IFIFO | 0o600, 0));
    const directory = try place.file(&link_buffer, "1-1-3");
    try testing.expectEqual(0, platform.makeDirectory(directory));
    const text = try place.file(&link_buffer, "1-1-4");
    const file = platform.createFile(text);
    try testing.expectEqual(18, linux.write(file, "somebody's text...", 18));
    _ = platform.close(file);
    try testing.expectEqual(0, ring_file.clean(place.path()));

    // One whose file is a ring.
    const dead = try place.file(&link_buffer, "1-1-6");
    try testing.expectEqual(0, platform.rename(forged, dead));
    try testing.expectEqual(1, ring_file.clean(place.path()));
    for (names ++ [_][]const u8{ "1-1-1", "1-1-2", "1-1-4" }) |name| {
        try testing.expectEqual(0, platform.unlink(try place.file(&link_buffer, name)));
    }
    try testing.expectEqual(0, platform.removeDirectory(try place.file(&link_buffer, "1-1-3")));
    try testing.expectEqual(before, countDescriptors());
    try testing.expectEqual(platform.errno.no_entry, ring_file.clean("/dev/shm/qlaster-no-such-directory"));
    try testing.expectEqual(codeOf(.bad_argument), ring_file.clean("\x00"));
}

test "clean leaves files that are named like dates, unless all of what they are is a ring's" {
    if (!is_linux) return error.SkipZigTest;
    const place: Place = try .init("dates");
    defer place.deinit();
    const magic = layout.shaq_magic;
    const v2 = layout.shaq_version_2;
    const v3 = layout.shaq_version_3;
    const Case = struct { u64, u64, u32, u32, Code }; // size, magic, version, mask, how many are removed
    for ([_]Case{
        .{ 20, 0, 0, 0, 0 },
        .{ 100, 0, 0, 0, 0 },
        .{ 320, 0, 0, 0, 0 },
        .{ 320 + 32, 0, 0, 0, 0 },
        .{ 320 + 65, 0, 0, 0, 0 },
        .{ 4096, 0, 0, 0, 0 },
        .{ 320 + 4096, 0, 1, 0, 0 },
        .{ 320 + 4096, 0, 0, 0, 1 },
        .{ 320 + 64, 0, 0, 0, 1 },
        .{ 16, magic, v2, 63, 0 },
        .{ 320 + 64, magic, v2, 62, 0 },
        .{ 320 + 64, magic, v2, 127, 0 },
        .{ 320 + 64, magic, v2 + 1, 63, 0 },
        .{ 320 + 128, magic, v2, 63, 0 },
        .{ 320 + 64, magic, v3, 63, 0 },
        .{ 320 + 64, magic + 1, v2, 63, 0 },
        .{ 320 + 64, magic, v2, 63, 1 },
        .{ 384 + 64, magic, v3, 63, 1 },
    }) |case| {
        const size, const first, const version, const mask, const removed = case;
        var buffer: [128]u8 = undefined;
        var name_buffer: [128]u8 = undefined;
        const forged = try forge(&place, &buffer, @intCast(size), first, version, mask);
        const name = try place.file(&name_buffer, "2024-10-15");
        try testing.expectEqual(0, platform.rename(forged, name));
        testing.expectEqual(removed, ring_file.clean(place.path())) catch |failed| {
            std.debug.print("{any}\n", .{case});
            return failed;
        };
        try testing.expectEqual(removed == 0, exists(name));
        _ = platform.unlink(name);
    }
}

test "clean removes an empty file only if its maker is known to be dead, and in no directory that was named to us" {
    if (!is_linux) return error.SkipZigTest;
    const place: Place = try .init("empty");
    defer place.deinit();
    const pid = linux.fork();
    if (pid == 0) linux.exit_group(0);
    _ = waitFor(@intCast(pid));
    var own_buffer: [128]u8 = undefined;
    const own = try std.fmt.bufPrintSentinel(&own_buffer, "{s}/qlaster-{d}", .{ place.path(), pid }, 0);
    try testing.expectEqual(0, platform.makeDirectory(own));
    for ([_][]const u8{ place.path(), own }) |directory| {
        for ([_]i32{ 1, @intCast(pid) }) |maker| {
            var buffer: [128]u8 = undefined;
            const path = try std.fmt.bufPrintSentinel(&buffer, "{s}/{d}-1-5", .{ directory, maker }, 0);
            _ = platform.close(platform.createFile(path));
            const is_removed = directory.ptr == own.ptr and maker != 1 and platform.inFirstPidNamespace();
            try testing.expectEqual(@intFromBool(is_removed), ring_file.clean(directory));
            try testing.expectEqual(!is_removed, exists(path));
            _ = platform.unlink(path);
        }
    }
    try testing.expectEqual(0, platform.removeDirectory(own));
}

test "clean without a directory: what dead senders left in the default place, directory and all; a live one's stays" {
    if (!is_linux) return error.SkipZigTest;
    var buffer: [64]u8 = undefined;
    const own = try std.fmt.bufPrintSentinel(&buffer, "/dev/shm/qlaster-{d}", .{platform.getPid()}, 0);
    var created: Created = undefined;
    try testing.expectEqual(0, ring_file.create(own, 0, 1, 4096, &created));
    var dead_buffer: [64]u8 = undefined;
    var gone: Child = try .init(own, 9, .open_only);
    gone.kill();
    gone = try .init(own, 9, .open_only);
    gone.kill();
    // Named after a process that is gone.
    const dead = try std.fmt.bufPrintSentinel(&dead_buffer, "/dev/shm/qlaster-{d}", .{gone.pid}, 0);
    (try Child.init(dead, 1, .created)).kill();
    try testing.expect(exists(dead));
    // The place is everybody's: another process that cleans just now takes some away, or looks at one, which we then leave.
    const patience: Patience = .begin();
    while (true) {
        try testing.expect(ring_file.clean("") >= 0);
        // Nothing is left there but what is in use.
        if (!exists(dead) and ring_file.clean(own) == 0) break;
        try testing.expect(patience.goesOn());
    }
    try testing.expect(exists(created.path.slice()));
    created.destroy();
    try testing.expect(!exists(own)); // the last one takes the directory along
}

test "who opens a file while it is proven a leftover neither ends us nor gets it" {
    if (!is_linux) return error.SkipZigTest;
    const place: Place = try .init("lease");
    defer place.deinit();
    var buffer: [128]u8 = undefined;
    const path = try forge(&place, &buffer, 4416, layout.shaq_magic, layout.shaq_version_2, 4095);
    const opened = platform.openRegular(path, false);
    try testing.expectEqual(0, opened.code);
    const Open = struct {
        fn now(name: [:0]const u8) Code {
            const pid = linux.fork();
            if (pid == 0) {
                const flags: linux.O = .{ .ACCMODE = .RDWR, .NONBLOCK = true };
                linux.exit_group(@intCast(@backingInt(linux.errno(linux.open(name, flags, 0)))));
            }
            return waitFor(@intCast(pid));
        }
    };
    const found = platform.withSoleUse(opened.fd, path, Open.now);
    try testing.expectEqual(@as(Code, @backingInt(linux.E.AGAIN)) << 8, found.code);
    try testing.expectEqual(0, Open.now(path)); // and after it, they can
    const other = platform.openRegular(path, false);
    try testing.expectEqual(platform.errno.again, platform.withSoleUse(opened.fd, path, Open.now).code);
    for ([_]i32{ opened.fd, other.fd }) |fd| _ = platform.close(fd);
    try testing.expectEqual(0, platform.unlink(path));
}

test "a file that a dead process with our pid left is replaced" {
    if (!is_linux) return error.SkipZigTest;
    const place: Place = try .init("i");
    defer place.deinit();
    var created: Created = undefined;
    try testing.expectEqual(0, ring_file.create(place.path(), 0, 1, 4096, &created));
    _ = platform.close(created.fd); // as the kernel does at kill -9
    platform.unmap(created.address, created.size);
    try testing.expectEqual(0, ring_file.create(place.path(), 0, 1, 4096, &created));
    created.destroy();
}

test "another process of the same user joins a ring without a file, and sees its end" {
    if (!is_linux) return error.SkipZigTest;
    var created: Created = undefined;
    try testing.expectEqual(0, ring_file.create("", 0, 1, 4096, &created));
    const pid = linux.fork();
    if (pid == 0) {
        _ = platform.close(created.fd); // only its maker's descriptor leads there
        var joined: Joined = undefined;
        if (join(created.path.slice(), &joined) != 0) linux.exit_group(1);
        if (!joined.is_sealed) linux.exit_group(2);
        if (!joined.present()) linux.exit_group(3);
        joined.header().consumer_release.store(1, .release);
        while (joined.present()) platform.threadYield();
        linux.exit_group(0);
    }
    while (created.header().consumer_release.load(.acquire) == 0) {
        var status: i32 = 0;
        if (linux.wait4(@intCast(pid), &status, linux.W.NOHANG, null) != 0) return error.ChildFailed;
    }
    created.destroy();
    try testing.expectEqual(0, waitFor(@intCast(pid)));
}

test "reaches: ourselves and our equals, not nobody" {
    if (!is_linux) return error.SkipZigTest;
    try testing.expect(ring_file.reaches(platform.getPid()));
    try testing.expect(!ring_file.reaches(0));
    try testing.expect(!ring_file.reaches(-1));
    try testing.expect(!ring_file.reaches(999_999_999));
}

const Right = enum {
    same,
    no_capabilities,
    none_effective,
    only_ptrace,
    another_group,
    another_user,
    another_user_with_ptrace,
    another_user_with_ptrace_and_search,
};

/// Takes rights away from this process. False: it has none to give.
fn become(right: Right) bool {
    const sys_ptrace = 1 << 19;
    const dac_read_search = 1 << 2;
    const nobody = 65534;
    if (right != .same and linux.geteuid() != 0) return false;
    if (right == .another_group and linux.setgid(nobody) != 0) return false;
    if (right == .another_user or right == .another_user_with_ptrace or right == .another_user_with_ptrace_and_search) {
        const keep_capabilities = 8;
        if (linux.prctl(keep_capabilities, 1, 0, 0, 0) != 0) return false;
        if (linux.setuid(nobody) != 0) return false;
    }
    const effective: u32, const permitted: u32 = switch (right) {
        .same => return true,
        .another_user, .no_capabilities, .another_group => .{ 0, 0 },
        .none_effective => .{ 0, sys_ptrace },
        .only_ptrace, .another_user_with_ptrace => .{ sys_ptrace, sys_ptrace },
        .another_user_with_ptrace_and_search => .{ sys_ptrace | dac_read_search, sys_ptrace | dac_read_search },
    };
    const Half = extern struct { effective: u32, permitted: u32, inheritable: u32 };
    const header: extern struct { version: u32, pid: i32 } = .{ .version = 0x2008_0522, .pid = 0 };
    const halves: [2]Half = .{
        .{ .effective = effective, .permitted = permitted, .inheritable = 0 },
        .{ .effective = 0, .permitted = 0, .inheritable = 0 },
    };
    if (linux.errno(linux.syscall2(.capset, @intFromPtr(&header), @intFromPtr(&halves))) != .SUCCESS) return false;
    const set_dumpable = 4; // a change of credentials took it, and with it our look at /proc/<pid>/ns
    return linux.prctl(set_dumpable, 1, 0, 0, 0) == 0;
}

test "reaches: says what the kernel says, whatever the other process may do" {
    if (!is_linux) return error.SkipZigTest;
    for (std.enums.values(Right)) |right| {
        var created: Created = undefined;
        try testing.expectEqual(0, ring_file.create("", 0, 1, 64, &created));
        defer created.destroy();
        var told: [2]i32 = undefined;
        try testing.expectEqual(0, platform.socketPair(&told));
        defer for (told) |fd| {
            _ = platform.close(fd);
        };
        const pid = linux.fork();
        if (pid == 0) {
            // 2: it could not be tried. The child lives until it has been looked at.
            var verdict: [1]u8 = .{2};
            if (become(right)) {
                const opened = platform.openRegular(created.path.bytes[0..created.path.length :0], true);
                verdict[0] = if (opened.code >= 0) 1 else 0;
            }
            _ = linux.write(told[1], &verdict, 1);
            while (true) _ = linux.syscall4(.ppoll, 0, 0, 0, 0);
        }
        const child: i32 = @intCast(pid);
        defer _ = waitFor(child);
        defer _ = linux.kill(child, .KILL);
        var verdict: [1]u8 = undefined;
        while (linux.errno(linux.read(told[0], &verdict, 1)) == .AGAIN) platform.threadYield();
        if (verdict[0] == 2) continue;
        testing.expectEqual(verdict[0] == 1, ring_file.reaches(child)) catch |failed| {
            std.debug.print("with {s}\n", .{@tagName(right)});
            return failed;
        };
        if (right == .same) try testing.expectEqual(1, verdict[0]);
    }
}
