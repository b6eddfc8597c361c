//! main.zig: floors for the benches, without a runtime: our ring, our fan-out, a pipe, a socket pair, libc's memcpy.
//! Usage: floor throughput BYTES BATCH RUNS | ring-latency spin|park GAP_US SAMPLES | pipe-latency GAP_US SAMPLES |
//! pair-latency GAP_US SAMPLES | memcpy BYTES RUNS | fanout BYTES CONSUMERS RING_BYTES THRESHOLD one|batch|many PIECE RUNS
//! alone|read | fanout-index KEYS CONSUMERS nobody|one one|batch|many TRACKED RUNS | copies BYTES RINGS RING_BYTES PIECE
//! RUNS | lines BYTES RUNS. Prints one JSON object; exit code 0 if all messages were right.
//! Linux only: it forks and pins.

const std = @import("std");
const fanout = @import("fanout.zig");
const latency = @import("latency.zig");
const memcpy = @import("memcpy.zig");
const memory = @import("memory.zig");
const throughput = @import("throughput.zig");
const qlaster = @import("qlaster");

const Mode = enum { throughput, @"ring-latency", @"pipe-latency", @"pair-latency", memcpy, fanout, @"fanout-index", copies, lines };
const Args = std.process.Args.Iterator;

fn word(args: *Args) ![]const u8 {
    return args.next() orelse error.ArgumentMissing;
}

fn choice(comptime T: type, args: *Args) !T {
    return std.meta.stringToEnum(T, try word(args)) orelse error.ChoiceUnknown;
}

fn number(args: *Args) !u32 {
    return std.fmt.parseInt(u32, try word(args), 10);
}

pub fn main(init: std.process.Init.Minimal) !void {
    qlaster.platform.init();
    var args = init.args.iterate();
    _ = args.next();
    switch (std.meta.stringToEnum(Mode, try word(&args)) orelse return error.ModeUnknown) {
        .throughput => {
            const bytes = try number(&args);
            const batch = try number(&args);
            try throughput.run(bytes, batch, try number(&args));
        },
        .@"ring-latency" => {
            const strategy = std.meta.stringToEnum(latency.Strategy, try word(&args)) orelse return error.StrategyUnknown;
            const gap_us = try number(&args);
            try latency.ring(strategy, gap_us, try number(&args));
        },
        .@"pipe-latency" => {
            const gap_us = try number(&args);
            try latency.descriptors(.pipe, gap_us, try number(&args));
        },
        .@"pair-latency" => {
            const gap_us = try number(&args);
            try latency.descriptors(.pair, gap_us, try number(&args));
        },
        .memcpy => {
            const bytes = try number(&args);
            try memcpy.run(bytes, try number(&args));
        },
        .copies => {
            const bytes = try number(&args);
            const rings = try number(&args);
            const ring_bytes = try number(&args);
            const piece = try number(&args);
            try memory.copies(bytes, rings, ring_bytes, piece, try number(&args));
        },
        .lines => {
            const bytes = try number(&args);
            try memory.lines(bytes, try number(&args));
        },
        // Fields are evaluated in the order in which they are written.
        .fanout => try fanout.deliver(.{
            .bytes = try number(&args),
            .consumers = try number(&args),
            .ring_bytes = try number(&args),
            .threshold = try number(&args),
            .api = try choice(fanout.Api, &args),
            .piece = try number(&args),
            .runs = try number(&args),
            .has_reader = try choice(enum { alone, read }, &args) == .read,
        }),
        .@"fanout-index" => try fanout.index(.{
            .keys = try number(&args),
            .consumers = try number(&args),
            .matches = try choice(enum { nobody, one }, &args) == .one,
            .api = try choice(fanout.Api, &args),
            .tracked = try number(&args),
            .runs = try number(&args),
        }),
    }
}
