//! Steps: (install) the library for this machine; `test`; `stress`; `abi` (writes src/native/abi.generated.ts);
//! `cross` (every platform that we support, without running anything).

const std = @import("std");

pub fn build(b: *std.Build) void {
    const target = b.standardTargetOptions(.{});
    const optimize = b.standardOptimizeOption(.{});

    b.installArtifact(addLibrary(b, target, optimize));

    const tests = b.addTest(.{ .root_module = addRoot(b, target, optimize) });
    const run_tests = b.addRunArtifact(tests);
    run_tests.has_side_effects = true; // a test run from the cache would be no test
    b.step("test", "Run the tests beside the Zig code").dependOn(&run_tests.step);

    const tools = b.createModule(.{
        .root_source_file = b.path("zig/gen/abi.zig"),
        .target = b.graph.host,
        .imports = &.{.{ .name = "qlaster", .module = addRoot(b, b.graph.host, .debug) }},
    });
    const generate = b.addRunArtifact(b.addExecutable(.{ .name = "gen-abi", .root_module = tools }));
    const write = b.addUpdateSourceFiles();
    write.addCopyFileToSource(generate.captureStdOut(.{}), "src/native/abi.generated.ts");
    b.step("abi", "Write src/native/abi.generated.ts from zig/layout.zig").dependOn(&write.step);

    const stress_module = b.createModule(.{
        .root_source_file = b.path("zig/stress/ring_stress.zig"),
        .target = target,
        .optimize = optimize,
        // The same as the library's: the compiler crashes where only one of two modules is stripped (0.17.1).
        .strip = optimize != .debug,
        .single_threaded = false,
        .imports = &.{.{ .name = "qlaster", .module = addRoot(b, target, optimize) }},
    });
    const stress = b.addExecutable(.{ .name = "ring-stress", .root_module = stress_module });
    const run_stress = b.addRunArtifact(stress);
    run_stress.addPassthruArgs();
    b.step("stress", "Two processes pass frames through one ring: -- [frames] [seed]").dependOn(&run_stress.step);

    const cross = b.step("cross", "Compile for every supported platform");
    for ([_]std.Target.Query{
        .{ .cpu_arch = .x86_64, .os_tag = .linux, .abi = .none },
        .{ .cpu_arch = .aarch64, .os_tag = .linux, .abi = .none },
        .{ .cpu_arch = .x86_64, .os_tag = .macos },
        .{ .cpu_arch = .aarch64, .os_tag = .macos },
    }) |query| {
        const library = addLibrary(b, b.resolveTargetQuery(query), .safe);
        const folder = b.fmt("cross/{s}-{s}", .{ @tagName(query.os_tag.?), @tagName(query.cpu_arch.?) });
        cross.dependOn(&b.addInstallArtifact(library, .{ .dest_dir = .{ .override = .{ .custom = folder } } }).step);
    }
}

fn addRoot(b: *std.Build, target: std.Build.ResolvedTarget, optimize: std.builtin.Optimize) *std.Build.Module {
    return b.createModule(.{
        .root_source_file = b.path("zig/root.zig"),
        .target = target,
        .optimize = optimize,
        .strip = optimize != .debug,
        // Atomics must stay atomic: the host has threads, and other processes share the memory.
        .single_threaded = false,
    });
}

fn addLibrary(b: *std.Build, target: std.Build.ResolvedTarget, optimize: std.builtin.Optimize) *std.Build.Step.Compile {
    return b.addLibrary(.{ .name = "qlaster", .linkage = .dynamic, .root_module = addRoot(b, target, optimize) });
}
