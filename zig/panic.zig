//! panic.zig: what happens when a promise that we made ourselves is broken (design D21): one line on descriptor 2, then
//! a trap. No allocation, no formatting, no thread-local state. No input may lead here.

const platform = @import("platform/mod.zig");

pub fn call(message: []const u8, return_address: ?usize) noreturn {
    @branchHint(.cold);
    _ = return_address;
    platform.writeStderr("qlaster: invariant broken in the native library: ");
    platform.writeStderr(message);
    platform.writeStderr(". This is a bug of qlaster, please report it\n");
    @trap();
}

fn fail(comptime message: []const u8) noreturn {
    @branchHint(.cold);
    call(message, null);
}

pub fn sentinelMismatch(expected: anytype, found: @TypeOf(expected)) noreturn {
    _ = found;
    fail("sentinel mismatch");
}
pub fn unwrapError(err: anyerror) noreturn {
    _ = &err;
    fail("attempt to unwrap error");
}
pub fn outOfBounds(index: usize, len: usize) noreturn {
    _ = index;
    _ = len;
    fail("index out of bounds");
}
pub fn startGreaterThanEnd(start: usize, end: usize) noreturn {
    _ = start;
    _ = end;
    fail("start index is larger than end index");
}
pub fn inactiveUnionField(active: anytype, accessed: @TypeOf(active)) noreturn {
    _ = accessed;
    fail("access of inactive union field");
}
pub fn sliceCastLenRemainder(len: usize) noreturn {
    _ = len;
    fail("slice length does not divide exactly");
}
pub fn reachedUnreachable() noreturn {
    fail("reached unreachable code");
}
pub fn unwrapNull() noreturn {
    fail("use of a null value");
}
pub fn castToNull() noreturn {
    fail("cast to a null pointer");
}
pub fn incorrectAlignment() noreturn {
    fail("incorrect alignment");
}
pub fn invalidErrorCode() noreturn {
    fail("invalid error code");
}
pub fn integerOutOfBounds() noreturn {
    fail("integer does not fit");
}
pub fn integerOverflow() noreturn {
    fail("integer overflow");
}
pub fn shlOverflow() noreturn {
    fail("left shift overflowed");
}
pub fn shrOverflow() noreturn {
    fail("right shift overflowed");
}
pub fn divideByZero() noreturn {
    fail("division by zero");
}
pub fn exactDivisionRemainder() noreturn {
    fail("exact division left a remainder");
}
pub fn integerPartOutOfBounds() noreturn {
    fail("float does not fit an integer");
}
pub fn corruptSwitch() noreturn {
    fail("switch on a corrupt value");
}
pub fn shiftRhsTooBig() noreturn {
    fail("shift is too large");
}
pub fn invalidEnumValue() noreturn {
    fail("invalid enum value");
}
pub fn forLenMismatch() noreturn {
    fail("for loop over unequal lengths");
}
pub fn copyLenMismatch() noreturn {
    fail("copy of unequal lengths");
}
pub fn memcpyAlias() noreturn {
    fail("copy of overlapping memory");
}
pub fn noreturnReturned() noreturn {
    fail("noreturn function returned");
}
pub fn loadUninstantiableType() noreturn {
    fail("load of an uninstantiable type");
}
pub fn unexpectedErrorCode(err: anyerror) noreturn {
    _ = &err;
    fail("unexpected error code");
}
