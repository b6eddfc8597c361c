//! root.zig: imports every file, so that no test and no export is forgotten.

const builtin = @import("builtin");

pub const abi = @import("abi.zig");
pub const layout = @import("layout.zig");
pub const platform = @import("platform/mod.zig");
pub const connection = @import("connection.zig");
pub const ring = @import("ring.zig");
pub const region = @import("region.zig");
pub const wake = @import("wake.zig");
pub const link = @import("link.zig");
pub const listener = @import("listener.zig");
pub const handles = @import("handles.zig");
pub const backlog = @import("backlog.zig");
pub const engine = @import("engine.zig");
pub const consumers = @import("consumers.zig");
pub const edits = @import("edits.zig");
pub const publishing = @import("publishing.zig");
pub const groups = @import("groups.zig");
pub const matching = @import("matching.zig");
pub const records = @import("records.zig");
pub const delivery = @import("delivery.zig");
pub const waiting = @import("waiting.zig");
pub const marks = @import("marks.zig");
pub const figures = @import("figures.zig");
pub const stat_page = @import("stat_page.zig");
pub const slot_counts = @import("slot_counts.zig");
pub const signatures = @import("signatures.zig");
pub const tracker = @import("tracker.zig");
pub const transaction = @import("transaction.zig");
pub const filter_program = @import("filter_program.zig");
pub const pool = @import("pool.zig");
pub const pool_soak = @import("pool_soak.zig");
pub const v9_frame = @import("v9/frame.zig");
pub const v9_relay = @import("v9/relay.zig");
pub const v9_ring_file = @import("v9/ring_file.zig");
pub const v9_shaq = @import("v9/shaq.zig");
pub const v9_lz4 = @import("v9/lz4.zig");
pub const span = @import("span.zig");
pub const key_table = @import("key_table.zig");
pub const arena = @import("arena.zig");
pub const forks = @import("forks.zig");
pub const state = @import("state.zig");
pub const snapshots = @import("snapshots.zig");
pub const rollback = @import("rollback.zig");
pub const history = @import("history.zig");
pub const catch_up = @import("catch_up.zig");
pub const consumer_sets = @import("consumer_sets.zig");
pub const key_index = @import("key_index.zig");
pub const demand = @import("demand.zig");

/// Tests and tools keep the standard library's handler: it prints where.
pub const panic = if (builtin.output_mode == .Lib and !builtin.is_test)
    @import("panic.zig")
else
    @import("std").debug.FullPanic(@import("std").debug.defaultPanic);

comptime {
    _ = @import("exports.zig");
}

test {
    _ = .{ abi, layout, platform, connection, ring, region, wake, link, listener, handles, backlog, engine, slot_counts, tracker };
    _ = .{ consumers, edits, publishing, groups, matching, records, delivery, waiting, marks, figures, signatures };
    _ = .{ transaction, filter_program, pool };
    _ = .{ arena, forks, state, snapshots, rollback, history, catch_up };
    _ = .{ span, key_table, consumer_sets, key_index, demand };
    _ = .{ v9_frame, v9_lz4, v9_relay, v9_ring_file, v9_shaq };
    _ = @import("key_index_test.zig");
    _ = @import("ring_test.zig");
    _ = @import("engine_test/edits.zig");
    _ = @import("engine_test/lag.zig");
    _ = @import("engine_test/losses.zig");
    _ = @import("engine_test/marks.zig");
    _ = @import("engine_test/matching.zig");
    _ = @import("engine_test/policies.zig");
    _ = @import("engine_test/pool.zig");
    _ = @import("engine_test/publishing.zig");
    _ = @import("engine_test/rollback.zig");
    _ = @import("engine_test/state.zig");
    _ = @import("state_test.zig");
    _ = @import("v9/ring_file_test.zig");
    _ = @import("filter_program_test.zig");
    _ = @import("pool_test.zig");
    if (builtin.os.tag == .linux) _ = @import("platform/vdso.zig");
}
