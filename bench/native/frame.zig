//! frame.zig: the account frame that both sides of a bench agree on, and both ends of a ring for it.
//! May touch: memory. May not touch: clocks.
//! The payload begins with the message's number; a reader touches one byte of each further cache line.

const std = @import("std");
const qlaster = @import("qlaster");
const layout = qlaster.layout;
const connection = qlaster.connection;

pub const capacity = 64 * 1024 * 1024;
const reserved = capacity / layout.reserved_fraction;
pub const head_size = @sizeOf(layout.FrameHeader) + @sizeOf(layout.AccountBody);
pub const batch_max = 256;

pub const Template = struct {
    head: [head_size]u8 align(8) = @splat(0),
    payload: []u8,

    pub fn init(payload: []u8) Template {
        var template: Template = .{ .payload = payload };
        const header: *layout.FrameHeader = @ptrCast(&template.head);
        const body: *layout.AccountBody = @ptrCast(@alignCast(template.head[@sizeOf(layout.FrameHeader)..]));
        header.kind = @backingInt(layout.FrameKind.account);
        body.data_length = @intCast(payload.len);
        @memset(payload, 1);
        return template;
    }

    pub fn number(template: *Template, sequence: u64) void {
        const header: *layout.FrameHeader = @ptrCast(&template.head);
        header.sequence = sequence;
        std.mem.writeInt(u32, template.payload[0..4], @truncate(sequence), .little);
    }
};

/// Reads what a consumer would; false if it is not message `sequence`.
pub fn check(payload: []const u8, sequence: u64) bool {
    if (std.mem.readInt(u32, payload[0..4], .little) != @as(u32, @truncate(sequence))) return false;
    var lines: usize = 0;
    var at: usize = 64;
    while (at < payload.len) : (at += 64) lines += payload[at];
    return lines == (payload.len - 1) / 64;
}

pub const Ends = struct {
    producer: connection.ProducerEnd,
    passed: [2]i32,

    pub fn create() !Ends {
        var ends: Ends = undefined;
        const code = connection.ProducerEnd.create(.{
            .capacity_bytes = capacity,
            .reserved_bytes = reserved,
            .sender_id = @splat(0),
            .connection_id = 1,
        }, &ends.passed, &ends.producer);
        if (code < 0) return error.CreateFailed;
        return ends;
    }

    /// Call in the other process.
    pub fn join(ends: *Ends) !connection.ConsumerEnd {
        var consumer: connection.ConsumerEnd = undefined;
        const code = connection.ConsumerEnd.join(ends.passed[0], ends.passed[1], null, capacity, qlaster.region.uid_any, &consumer);
        if (code < 0) return error.JoinFailed;
        ends.producer.destroy();
        return consumer;
    }
};

/// What the door's `ringCommit` does for one ring.
pub fn publish(end: *connection.ProducerEnd) void {
    _ = end.ring.commit(0);
    qlaster.platform.storeLoadFence();
    _ = end.notifyIfParked();
}
