//! signatures.zig: the filters that wait for one transaction by its signature, found by that: what a transaction costs does not
//! depend on how many there are.
//! May touch: its own table. May not touch: filters, of which it knows no more than a number; whether one matches is asked of
//! its program.
//! Why no secret is in the hash: who chooses signatures can fill one bucket, and what falls into it, one transaction in
//! 4,096, is compared with those in it, at most as many as a sender keeps filters.

const std = @import("std");
const layout = @import("layout.zig");
const assert = std.debug.assert;

pub const Signature = [layout.signature_size]u8;

const bucket_bits = 12;
const bucket_count = 1 << bucket_bits;

/// All zeros: nobody waits.
pub const Signatures = struct {
    /// By the hash: 1 + a filter. 0: there is none.
    heads: [bucket_count]u16 = @splat(0),
    /// By the filter: the next one of its bucket, likewise.
    next: [layout.filters_max]u16 = @splat(0),
    count: u16 = 0,

    pub fn add(signatures: *Signatures, signature: *const Signature, filter: u16) void {
        assert(signatures.count < layout.filters_max);
        const head = &signatures.heads[bucketOf(signature)];
        signatures.next[filter] = head.*;
        head.* = 1 + filter;
        signatures.count += 1;
    }

    /// Of a filter that was added with this signature.
    pub fn remove(signatures: *Signatures, signature: *const Signature, filter: u16) void {
        var link = &signatures.heads[bucketOf(signature)];
        while (link.* != 1 + filter) link = &signatures.next[link.* - 1];
        link.* = signatures.next[filter];
        signatures.count -= 1;
    }

    /// Those that may wait for it: nobody else does.
    pub fn candidates(signatures: *const Signatures, signature: *const Signature) Candidates {
        return .{ .signatures = signatures, .rest = signatures.heads[bucketOf(signature)] };
    }

    pub const Candidates = struct {
        signatures: *const Signatures,
        rest: u16,

        pub fn next(candidates_: *Candidates) ?u16 {
            if (candidates_.rest == 0) return null;
            const filter = candidates_.rest - 1;
            candidates_.rest = candidates_.signatures.next[filter];
            return filter;
        }
    };
};

/// Signatures begin with a point that nobody chooses freely: any part of it is as good as random.
fn bucketOf(signature: *const Signature) usize {
    return @intCast(std.mem.readInt(u64, signature[0..8], .little) *% 0x9e3779b97f4a7c15 >> (64 - bucket_bits));
}

test "20,000 random steps: whoever waits is found, and nobody who was taken out; buckets are shared and stay apart" {
    const testing = std.testing;
    var signatures: Signatures = .{};
    var waiting: [layout.filters_max]?u8 = @splat(null);
    var prng: std.Random.DefaultPrng = .init(3);
    const random = prng.random();
    var count: u16 = 0;
    for (0..20_000) |step| {
        errdefer std.debug.print("step {d}\n", .{step});
        const filter = random.uintLessThan(u16, layout.filters_max);
        if (waiting[filter]) |number| {
            signatures.remove(&numbered(number), filter);
            waiting[filter] = null;
            count -= 1;
        } else if (random.uintLessThan(u32, 3) > 0) {
            waiting[filter] = random.int(u8);
            signatures.add(&numbered(waiting[filter].?), filter);
            count += 1;
        }
        try testing.expectEqual(count, signatures.count);
        if (step % 100 > 0) continue;
        const wanted = random.int(u8);
        var found: std.StaticBitSet(layout.filters_max) = .empty;
        var candidates = signatures.candidates(&numbered(wanted));
        while (candidates.next()) |candidate| {
            try testing.expect(!found.isSet(candidate) and waiting[candidate] != null);
            found.set(candidate);
        }
        for (waiting, 0..) |number, id| if (number == wanted) try testing.expect(found.isSet(id));
    }
}

/// Two of them are in each bucket.
fn numbered(number: u8) Signature {
    var signature: Signature = @splat(number);
    std.mem.writeInt(u64, signature[0..8], number / 2, .little);
    return signature;
}
