//! library.zig: the door, what concerns no object in particular: the library itself, the clock, descriptors, closing handles.

const std = @import("std");
const layout = @import("../layout.zig");
const abi = @import("../abi.zig");
const platform = @import("../platform/mod.zig");
const handles = @import("../handles.zig");
const results = @import("results.zig");
const Code = platform.Code;
const codeOf = results.codeOf;

export fn qlaster_abi_hash() u32 {
    platform.init();
    return abi.hash;
}

export fn qlaster_layout_version() u32 {
    return layout.layout_version;
}

var instance = std.atomic.Value(u64).init(0);

/// What tells this loaded copy of the library from all others, in this process and elsewhere: the `candidate` of whoever
/// asked first, a random whole number from 1 on.
export fn qlaster_instance(candidate: f64) f64 {
    if (!(candidate >= 1 and candidate <= 1 << 53)) return 0;
    const own: u64 = @intFromFloat(candidate);
    // Monotonic: the number is all that is passed on.
    return @floatFromInt(instance.cmpxchgStrong(0, own, .monotonic, .monotonic) orelse own);
}

/// Microseconds since the Unix epoch. An f64 resolves a quarter of one.
export fn qlaster_clock_us() f64 {
    return @as(f64, @floatFromInt(platform.realtimeNs())) / std.time.ns_per_us;
}

export fn qlaster_uid() u32 {
    return platform.effectiveUid();
}

export fn qlaster_close(handle: u32) Code {
    return if (handles.close(handle)) 0 else codeOf(.bad_handle);
}

/// For descriptors that may be a peer's: closing one can't be made to wait.
export fn qlaster_fd_close(fd: i32) Code {
    return platform.closeForeign(fd);
}

export fn qlaster_limits_raise() Code {
    return platform.raiseDescriptorLimit();
}
