//! Steps: (install) the library for this machine; `test`; `stress`; `stress-engine`; `bench-index`; `bench-pool`; `abi` (writes src/native/abi.generated.ts);
//! `cross` (every platform that we support, without running anything); `embed` (`cross`, and what the package ships of
//! it: src/native/embedded/).

const std = @import("std");

pub fn build(b: *std.Build) void {
    // What is tested and measured here is the code that is shipped. `-Dcpu=native` makes another one.
    const target = b.standardTargetOptions(.{ .default_target = shippedFor(b.graph.host.result) });
    const optimize = b.standardOptimizeOption(.{});
    const lz4 = findLz4(b) orelse return; // Zig fetches the package, then calls this function again

    const root = addRoot(b, target, optimize, lz4);
    const library = b.addLibrary(.{ .name = "qlaster", .linkage = .dynamic, .root_module = root });
    const stay = addStay(b);
    b.getInstallStep().dependOn(&b.addInstallLibFile(marked(b, stay, library), library.out_filename).step);

    const tests = b.addTest(.{ .root_module = addRoot(b, target, optimize, lz4) });
    const run_tests = b.addRunArtifact(tests);
    run_tests.has_side_effects = true; // a test run from the cache would be no test
    b.step("test", "Run the tests beside the Zig code").dependOn(&run_tests.step);

    const tools = b.createModule(.{
        .root_source_file = b.path("zig/gen/abi.zig"),
        .target = b.graph.host,
        .imports = &.{.{ .name = "qlaster", .module = addRoot(b, b.graph.host, .debug, lz4) }},
    });
    const generate = b.addRunArtifact(b.addExecutable(.{ .name = "gen-abi", .root_module = tools }));
    const write = b.addUpdateSourceFiles();
    write.addCopyFileToSource(generate.captureStdOut(.{}), "src/native/abi.generated.ts");
    b.step("abi", "Write src/native/abi.generated.ts from zig/layout.zig").dependOn(&write.step);

    for ([_][2][]const u8{
        .{ "stress", "Two processes pass frames through one ring: -- [frames] [seed]" },
        .{ "stress-engine", "Threads publish, look, end and sweep, all at once: -- [steps] [seed]" },
    }, [_][]const u8{ "ring_stress", "engine_stress" }) |step, name| {
        const stress = b.addExecutable(.{
            .name = name,
            .root_module = b.createModule(.{
                .root_source_file = b.path(b.fmt("zig/stress/{s}.zig", .{name})),
                .target = target,
                .optimize = optimize,
                // The same as the library's: the compiler crashes where only one of two modules is stripped (0.17.1).
                .strip = optimize != .debug,
                .single_threaded = false,
                .imports = &.{.{ .name = "qlaster", .module = addRoot(b, target, optimize, lz4) }},
            }),
        });
        const run_stress = b.addRunArtifact(stress);
        run_stress.addPassthruArgs();
        b.step(step[0], step[1]).dependOn(&run_stress.step);
    }

    const bench_module = b.createModule(.{
        .root_source_file = b.path("zig/stress/index_bench.zig"),
        .target = target,
        // A bench of Debug code answers nobody's question.
        .optimize = if (optimize == .debug) .safe else optimize,
        .strip = true,
        .single_threaded = false,
        .imports = &.{.{ .name = "qlaster", .module = addRoot(b, target, if (optimize == .debug) .safe else optimize, lz4) }},
    });
    const run_bench = b.addRunArtifact(b.addExecutable(.{ .name = "index-bench", .root_module = bench_module }));
    run_bench.addPassthruArgs();
    b.step("bench-index", "What a lookup in the filter index costs: -- [keys] [runs]").dependOn(&run_bench.step);

    const bench_pool = b.addExecutable(.{
        .name = "bench-pool",
        .root_module = b.createModule(.{
            .root_source_file = b.path("zig/stress/pool_bench.zig"),
            .target = target,
            .optimize = .safe, // what is shipped, whatever the rest is built as
            .strip = true,
            .single_threaded = false,
            .imports = &.{.{ .name = "qlaster", .module = addRoot(b, target, .safe, lz4) }},
        }),
    });
    const run_bench_pool = b.addRunArtifact(bench_pool);
    run_bench_pool.addPassthruArgs();
    b.step("bench-pool", "What the pool costs, whether it crumbles, and who gets what of it: -- [rounds [allocations]]").dependOn(&run_bench_pool.step);

    addCross(b, lz4, stay);
}

/// The tool that marks a library as one that is never unloaded.
fn addStay(b: *std.Build) *std.Build.Step.Compile {
    return b.addExecutable(.{
        .name = "gen-stay",
        .root_module = b.createModule(.{ .root_source_file = b.path("zig/gen/stay.zig"), .target = b.graph.host }),
    });
}

fn marked(b: *std.Build, stay: *std.Build.Step.Compile, library: *std.Build.Step.Compile) std.Build.LazyPath {
    const run = b.addRunArtifact(stay);
    run.addFileArg(library.getEmittedBin());
    return run.addOutputFileArg(library.out_filename);
}

const Platform = struct {
    /// As `process.platform` and `process.arch` say it.
    name: []const u8,
    file: []const u8,
    query: std.Target.Query,
};

/// Baseline CPUs, so that the result runs everywhere and is the same wherever it was built (docs/adr/0030); no libc on
/// Linux, so that one library serves glibc and musl (design D20).
const platforms = [_]Platform{
    .{ .name = "linux-x64", .file = "libqlaster.so", .query = linuxOn(.x86_64) },
    .{ .name = "linux-arm64", .file = "libqlaster.so", .query = linuxOn(.aarch64) },
    .{ .name = "darwin-x64", .file = "libqlaster.dylib", .query = darwinOn(.x86_64) },
    .{ .name = "darwin-arm64", .file = "libqlaster.dylib", .query = darwinOn(.aarch64) },
};

fn linuxOn(arch: std.Target.Cpu.Arch) std.Target.Query {
    return .{ .cpu_arch = arch, .os_tag = .linux, .abi = .none, .cpu_model = .baseline, .cpu_features_add = featuresOf(arch) };
}

fn darwinOn(arch: std.Target.Cpu.Arch) std.Target.Query {
    // The oldest macOS that Bun runs on; without it Zig takes a much newer one.
    const oldest: std.Target.Query.OsVersion = .{ .semver = .{ .major = 13, .minor = 0, .patch = 0 } };
    return .{
        .cpu_arch = arch,
        .os_tag = .macos,
        .os_version_min = oldest,
        .cpu_model = .baseline,
        .cpu_features_add = featuresOf(arch),
    };
}

/// PREFETCHW asks for a line that is to be written, and takes it from the core that reads the ring; without it a prefetch
/// leaves that core its copy, and the store has to wait.
fn featuresOf(arch: std.Target.Cpu.Arch) std.Target.Cpu.Feature.Set {
    return if (arch == .x86_64) std.Target.x86.featureSet(&.{.prfchw}) else .empty;
}

/// On a machine that we ship nothing for: its own.
fn shippedFor(host: std.Target) std.Target.Query {
    for (platforms) |platform| {
        if (platform.query.cpu_arch == host.cpu.arch and platform.query.os_tag == host.os.tag) return platform.query;
    }
    return .{};
}

/// Compiles for every supported platform, on any of them.
fn addCross(b: *std.Build, lz4: std.Build.LazyPath, stay: *std.Build.Step.Compile) void {
    const cross = b.step("cross", "Compile for every supported platform: zig-out/cross/");
    const embed = b.step("embed", "Write src/native/embedded/: the libraries of all platforms as TypeScript modules");
    const generator = b.addExecutable(.{
        .name = "gen-embed",
        .root_module = b.createModule(.{ .root_source_file = b.path("zig/gen/embed.zig"), .target = b.graph.host }),
    });
    const write = b.addUpdateSourceFiles();
    embed.dependOn(&write.step);

    for (platforms) |platform| {
        const name, const file_name, const query = .{ platform.name, platform.file, platform.query };
        const library = b.addLibrary(.{
            // The linker makes the SONAME of it; zig/gen/embed.zig fills the hash in.
            .name = if (query.os_tag == .linux) "qlaster-0000000000000000" else "qlaster",
            .linkage = .dynamic,
            .root_module = addRoot(b, b.resolveTargetQuery(query), .safe, lz4),
        });
        const generate = b.addRunArtifact(generator);
        generate.addFileArg(marked(b, stay, library));
        generate.addArg(name);
        const shipped = generate.addOutputFileArg(file_name);
        const module = generate.addOutputFileArg("module.ts");
        const install = b.addInstallFile(shipped, b.fmt("cross/{s}/{s}", .{ name, file_name }));
        cross.dependOn(&install.step);
        embed.dependOn(&install.step);
        write.addCopyFileToSource(module, b.fmt("src/native/embedded/{s}.ts", .{name}));
    }
}

/// The folder with lz4.c and lz4.h: what -Dlz4 names (`./dev` does, see tools/setup.sh), else the package.
fn findLz4(b: *std.Build) ?std.Build.LazyPath {
    const says = "Folder with lz4.c and lz4.h of LZ4 1.9.4 [default: the package of build.zig.zon]";
    if (b.option([]const u8, "lz4", says)) |folder| return .{ .cwd_relative = folder };
    const package = b.lazyDependency("lz4", .{}) orelse return null;
    return package.path("lib");
}

fn addRoot(
    b: *std.Build,
    target: std.Build.ResolvedTarget,
    optimize: std.builtin.Optimize,
    lz4: std.Build.LazyPath,
) *std.Build.Module {
    const root = b.createModule(.{
        .root_source_file = b.path("zig/root.zig"),
        .target = target,
        .optimize = optimize,
        .strip = optimize != .debug,
        // Atomics must stay atomic: the host has threads, and other processes share the memory.
        .single_threaded = false,
        // Nothing here is unwound: a failed assertion traps (zig/panic.zig). They would be 15 KB of each library.
        .unwind_tables = if (optimize == .debug) null else .none,
    });
    root.addCSourceFile(.{ .file = lz4.path(b, "lz4.c"), .flags = &lz4_flags });
    return root;
}

/// The same in every mode, so that the tests try what is shipped.
const lz4_flags = [_][]const u8{
    "-O3",
    // No libc, no heap; zig/v9/lz4.zig brings the state. Calls of these three find compiler_rt's.
    "-DLZ4_FREESTANDING=1",
    "-DLZ4_memcpy=__builtin_memcpy",
    "-DLZ4_memmove=__builtin_memmove",
    "-DLZ4_memset=__builtin_memset",
    // Nothing of it is a symbol of our library, and what nobody calls does not get in.
    "-DLZ4LIB_VISIBILITY=",
    "-fvisibility=hidden",
    "-ffunction-sections",
    // LZ4 computes where a match would be before it checks that it is there. UBSan, which Zig turns on for C, calls the
    // address alone undefined, and would make a trap of what a peer sent.
    "-fno-sanitize=undefined",
    // Asks for symbols of a libc.
    "-fno-stack-protector",
};
