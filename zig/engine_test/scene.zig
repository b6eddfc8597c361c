//! scene.zig: what the tests of the engine share: one with up to five consumers, whose real rings are read in this process.
//! May touch: the engine, both ends of its rings, the handles that it finds them by. May not touch: the door.

const std = @import("std");
const layout = @import("../layout.zig");
const handles = @import("../handles.zig");
const connection = @import("../connection.zig");
const region = @import("../region.zig");
const Engine = @import("../engine.zig").Engine;
const testing = std.testing;

pub const capacity = 65536;
pub const reserved = 16384;
pub const Key = [layout.address_size]u8;

pub fn key(n: u32) Key {
    var bytes: Key = @splat(0);
    std.mem.writeInt(u32, bytes[0..4], n, .little);
    return bytes;
}

pub const Account = extern struct { header: layout.FrameHeader, body: layout.AccountBody };
pub const Transaction = extern struct { header: layout.FrameHeader, body: layout.TransactionBody };
pub const Slot = extern struct { header: layout.FrameHeader, body: layout.SlotBody };

pub fn sum(counts: *const [layout.loss_reasons]f64) f64 {
    var total: f64 = 0;
    for (counts) |count| total += count;
    return total;
}

pub const Scene = struct {
    engine: *Engine,
    consumers: [5]Reader = undefined,
    count: usize = 0,

    pub const Reader = struct { id: u16, producer: u32, end: connection.ConsumerEnd };

    pub const pool_bytes = 1 << 20;
    pub const threshold = 2000;
    pub const keys_per_consumer_max = 5_000;

    pub fn init() !Scene {
        return .initWith(0);
    }

    pub fn initWith(state_bytes: usize) !Scene {
        return .initWithHistory(state_bytes, 0);
    }

    /// With a history the state keeps all accounts: nobody is there yet who asks for them.
    pub fn initWithHistory(state_bytes: usize, history_bytes: usize) !Scene {
        return .{ .engine = try Engine.create(.{
            .seed = .{ 1, 2 },
            .keys_max = 10_000,
            .keys_per_consumer_max = keys_per_consumer_max,
            .pool_bytes = pool_bytes,
            .pool_threshold = threshold,
            .tracked_max = 1000,
            .guard = .drop,
            .state_bytes = state_bytes,
            .state_keeps_all = history_bytes > 0,
            .history_bytes = history_bytes,
        }) };
    }

    pub fn deinit(scene: *Scene) void {
        scene.engine.destroy();
        for (scene.consumers[0..scene.count]) |*consumer| {
            _ = handles.close(consumer.producer);
            consumer.end.destroy();
        }
    }

    pub fn connect(scene: *Scene, policy: layout.Policy) !*Reader {
        return scene.connectWith(policy, policy, 1 << 20);
    }

    pub fn connectWith(scene: *Scene, policy: layout.Policy, transactions: layout.Policy, backlog_bytes: u32) !*Reader {
        return scene.resumeWith(policy, transactions, backlog_bytes, null);
    }

    pub fn resumeWith(scene: *Scene, policy: layout.Policy, transactions: layout.Policy, backlog_bytes: u32, after: ?u64) !*Reader {
        const reader = &scene.consumers[scene.count];
        var passed: [2]i32 = undefined;
        var producer: connection.ProducerEnd = undefined;
        try testing.expectEqual(0, connection.ProducerEnd.create(.{
            .capacity_bytes = capacity,
            .reserved_bytes = reserved,
            .sender_id = @splat(1),
            .connection_id = 1,
        }, &passed, &producer));
        try testing.expectEqual(0, connection.ConsumerEnd.join(passed[0], passed[1], .{ .fd = scene.engine.poolDescriptor(), .size = pool_bytes }, capacity, region.uid_any, &reader.end));
        try testing.expectEqual(0, reader.end.prepareToSkip());
        reader.producer = handles.add(.{ .producer = producer }).?;
        const id = scene.engine.add(reader.producer, .{
            .policy = policy,
            .transaction_policy = transactions,
            .statuses = 1,
            .backlog_bytes = backlog_bytes,
            .pool_bytes = pool_bytes / 4,
            .seed = @splat(5),
            .resume_after = after,
        });
        try testing.expect(id >= 0);
        reader.id = @intCast(id);
        scene.count += 1;
        return reader;
    }

    pub fn subscribe(scene: *Scene, reader: *Reader, accounts: []const Key, owners: []const Key) !void {
        try testing.expectEqual(0, scene.edit(reader, .add, 0, accounts, owners));
    }

    pub fn edit(scene: *Scene, reader: *Reader, op: layout.FilterOp, bit: u6, accounts: []const Key, owners: []const Key) i32 {
        return scene.engine.edit(reader.id, &.{
            .op = op,
            .bit = bit,
            .takes_transactions = false,
            .is_last = true,
            .accounts = accounts,
            .owners = owners,
            .program = &.{},
        });
    }

    /// Goes on with all that waits for nothing but time, however little of it there was for each turn.
    pub fn pumpAll(scene: *Scene) void {
        scene.engine.pumpOn();
        while (scene.engine.has_work) scene.engine.pumpOn();
    }

    pub fn account(scene: *Scene, pubkey: u32, owner: u32, slot: u64, data: []const u8) i32 {
        var head = std.mem.zeroes(Account);
        head.header.kind = @backingInt(layout.FrameKind.account);
        head.body.pubkey = key(pubkey);
        head.body.owner = key(owner);
        head.body.slot = slot;
        head.body.data_length = @intCast(data.len);
        return scene.engine.publish(std.mem.asBytes(&head), data, false);
    }

    pub fn accountIn(scene: *Scene, pubkey: u32, slot: u64, bank: u64) i32 {
        var head = std.mem.zeroes(Account);
        head.header.kind = @backingInt(layout.FrameKind.account);
        head.body.pubkey = key(pubkey);
        head.body.slot = slot;
        head.body.bank_id = bank;
        return scene.engine.publish(std.mem.asBytes(&head), "", false);
    }

    pub fn transaction(scene: *Scene) i32 {
        var head = std.mem.zeroes(Transaction);
        head.header.kind = @backingInt(layout.FrameKind.transaction);
        return scene.engine.publish(std.mem.asBytes(&head), "", false);
    }

    /// Updates that a consumer did not get, by reason; and all of them.
    pub fn lostBy(scene: *Scene, reader: *const Reader, reason: layout.LossReason) f64 {
        var info: layout.FanoutConsumerInfo = undefined;
        _ = scene.engine.consumerInfo(reader.id, &info);
        return info.lost_by[@backingInt(reason)];
    }

    pub fn lostInAll(scene: *Scene, reader: *const Reader) f64 {
        var info: layout.FanoutConsumerInfo = undefined;
        _ = scene.engine.consumerInfo(reader.id, &info);
        return sum(&info.lost_by);
    }

    pub fn bankDies(scene: *Scene, slot: u64, bank: u64) i32 {
        var head = std.mem.zeroes(Slot);
        head.header.kind = @backingInt(layout.FrameKind.slot);
        head.body.slot = slot;
        head.body.bank_id = bank;
        head.body.status = 6;
        return scene.engine.publish(std.mem.asBytes(&head), "", false);
    }

    pub fn slotFrame(scene: *Scene, number: u64, status: u32) i32 {
        var head = std.mem.zeroes(Slot);
        head.header.kind = @backingInt(layout.FrameKind.slot);
        head.body.slot = number;
        head.body.status = status;
        return scene.engine.publish(std.mem.asBytes(&head), "", false);
    }

    pub const Seen = struct { kind: layout.FrameKind, sequence: u64, flags: u16, mask: u64, lost: u32, conflated: u32, slot: u64, bank: u64, account: u32, first_byte: u8, accounts_published: u64, accounts_lost: u64 };

    /// The next frame, released at once; null if there is none.
    pub fn read(scene: *Scene, reader: *Reader) !?Seen {
        var records: [1]layout.PollRecord = undefined;
        if (try reader.end.ring.poll(&records) == 0) {
            // It may have skipped all there was, and so have made room.
            _ = scene.engine.flush(reader.id);
            scene.engine.commit();
            if (try reader.end.ring.poll(&records) == 0) return null;
        }
        const record = records[0];
        const data = reader.end.ring.data;
        const header: *const layout.FrameHeader = @ptrCast(@alignCast(data + record.frame_offset));
        const body = data + record.frame_offset + @sizeOf(layout.FrameHeader);
        var seen: Seen = .{
            .kind = @fromBackingInt(@intCast(record.kind)),
            .sequence = header.sequence,
            .flags = header.flags,
            .mask = header.filter_mask,
            .lost = record.lost,
            .conflated = header.conflated,
            .slot = 0,
            .bank = 0,
            .account = 0,
            .first_byte = if (record.payload_length > 0 and record.kind == @backingInt(layout.FrameKind.account)) data[record.payload_offset] else 0,
            .accounts_published = 0,
            .accounts_lost = 0,
        };
        switch (seen.kind) {
            .account => {
                const account_body: *const layout.AccountBody = @ptrCast(@alignCast(body));
                seen.slot = account_body.slot;
                seen.bank = account_body.bank_id;
                seen.account = std.mem.readInt(u32, account_body.pubkey[0..4], .little);
            },
            .withdrawn => {
                const gone: *const layout.LeftBody = @ptrCast(@alignCast(body));
                seen.account = std.mem.readInt(u32, gone.pubkey[0..4], .little);
            },
            .rollback => {
                const dead: *const layout.RollbackBody = @ptrCast(@alignCast(body));
                seen.bank = dead.bank_id;
            },
            .slot => {
                const slot: *const layout.SlotBody = @ptrCast(@alignCast(body));
                seen.slot = slot.slot;
                seen.accounts_published = slot.accounts_published;
                seen.accounts_lost = slot.accounts_lost + record.payload_length;
            },
            else => {},
        }
        try reader.end.ring.release(record.ring_bytes);
        _ = scene.engine.flush(reader.id);
        scene.engine.commit();
        return seen;
    }

    pub fn expectSequence(scene: *Scene, reader: *Reader, sequence: ?u64) !void {
        const seen = try scene.read(reader);
        try testing.expectEqual(sequence, if (seen) |frame| frame.sequence else null);
    }
};

pub fn poll(reader: *Scene.Reader) !layout.PollRecord {
    var records: [1]layout.PollRecord = undefined;
    try testing.expectEqual(1, try reader.end.ring.poll(&records));
    return records[0];
}
