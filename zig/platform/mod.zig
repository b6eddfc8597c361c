//! platform/: the only system calls of the project. One namespace per operating system, the same names in each.
//! May touch: the kernel. May not touch: layout, rings, policy.
//! Convention: a function returns a `Code`: 0 or more is the result, below zero is -errno. A kernel's answer is input.

const builtin = @import("builtin");

const system = switch (builtin.os.tag) {
    .linux => @import("linux.zig"),
    .macos => @import("darwin.zig"),
    else => @compileError("Qlaster runs on Linux and macOS"),
};

/// Elsewhere its names are missing, as those of `system` would be.
const linux_only = if (is_linux) @import("linux_only.zig") else system;

/// 0 or more: a result. -1 … -4095: -errno. Below: a `layout.Status`.
pub const Code = i32;

/// What `stat` says about a path or descriptor, as far as it matters here.
pub const FileInfo = struct {
    kind: Kind,
    device: u64,
    inode: u64,
    mode: u32,
    uid: u32,
    size: u64,

    pub const Kind = enum { regular, directory, socket, pipe, other };

    pub fn same(a: FileInfo, b: FileInfo) bool {
        return a.device == b.device and a.inode == b.inode;
    }
};

pub const Peer = extern struct { pid: i32, uid: u32, gid: u32 };

/// Which of the promises that a memory object can make have to be there.
pub const Seals = enum {
    /// The size can't change.
    size,
    /// Nor can anyone map it writable from now on.
    size_and_future_write,
};

/// What the one who gets `Memory.passed_fd` may do with it, where descriptors and not seals decide.
pub const Access = enum { read_only, read_write };

pub const Memory = struct { code: Code, fd: i32 = -1, passed_fd: i32 = -1 };

pub const MemoryVerdict = enum { ok, not_memory, wrong_size, seal_missing };

pub const Mapped = struct { code: Code, address: usize = 0 };

/// A file that was opened, and what it is.
pub const Opened = struct { code: Code, fd: i32 = -1, info: FileInfo = undefined };

/// Whether a file had no other user. `code`: what was done then has returned; -EAGAIN: it has other users.
pub const SoleUse = union(enum) { unknown, code: Code };

/// What one `receiveMessage` brought.
pub const Received = struct {
    /// Bytes, 0 at the end of the stream, or a code.
    code: Code,
    descriptor_count: u32 = 0,
};

pub const init = system.init;
pub const close = system.close;
pub const closeForeign = system.closeForeign;
pub const duplicate = system.duplicate;
pub const duplicateAbove = system.duplicateAbove;
pub const descriptorLimit = system.descriptorLimit;
pub const getPid = system.getPid;
pub const effectiveUid = system.effectiveUid;
pub const realtimeNs = system.realtimeNs;
pub const monotonicNs = system.monotonicNs;
pub const storeLoadFence = system.storeLoadFence;
pub const loadLoadFence = system.loadLoadFence;
pub const futexWake = system.futexWake;
pub const futexWait = system.futexWait;
pub const futexWakeOne = system.futexWakeOne;
pub const eventCreate = system.eventCreate;
pub const eventSignalShared = system.eventSignalShared;
pub const eventIsNonBlocking = system.eventIsNonBlocking;
pub const pages = system.pages;
pub const writeStderr = system.writeStderr;
pub const raiseDescriptorLimit = system.raiseDescriptorLimit;

pub const memoryCreate = system.memoryCreate;
pub const memorySeal = system.memorySeal;
pub const memoryCheck = system.memoryCheck;
pub const map = system.map;
pub const mapRing = system.mapRing;
pub const mapAt = system.mapAt;
pub const overlay = system.overlay;
pub const mapWithTail = system.mapWithTail;
pub const unmap = system.unmap;
pub const reserve = system.reserve;
pub const commit = system.commit;
pub const decommit = system.decommit;

pub const socketStream = system.socketStream;
pub const socketPair = system.socketPair;
pub const socketBind = system.socketBind;
pub const socketListen = system.socketListen;
pub const socketAccept = system.socketAccept;
pub const socketConnect = system.socketConnect;
pub const socketPeer = system.socketPeer;
pub const refuseDescriptors = system.refuseDescriptors;
pub const isUnixStream = system.isUnixStream;
pub const isUnixListener = system.isUnixListener;
pub const setNonBlocking = system.setNonBlocking;
pub const sendMessage = system.sendMessage;
pub const receiveMessage = system.receiveMessage;

pub const openLockFile = system.openLockFile;
pub const lockExclusive = system.lockExclusive;
pub const statPath = system.statPath;
pub const statDescriptor = system.statDescriptor;
pub const rename = system.rename;
pub const unlink = system.unlink;
pub const setMode = system.setMode;
pub const makeDirectory = system.makeDirectory;
pub const removeDirectory = system.removeDirectory;
pub const workingDirectory = system.workingDirectory;
pub const createFile = system.createFile;
pub const openRegular = system.openRegular;
pub const readAt = system.readAt;
pub const replaceContents = system.replaceContents;
pub const allocate = system.allocate;
pub const hasHugePages = system.hasHugePages;
pub const isShrinkSealed = system.isShrinkSealed;
pub const isDumpable = system.isDumpable;
pub const canOpenOurDescriptors = system.canOpenOurDescriptors;
pub const processExists = system.processExists;

/// What only Linux has. Who uses it asks `is_linux` at comptime.
pub const is_linux = builtin.os.tag == .linux;
pub const withSoleUse = linux_only.withSoleUse;
pub const inFirstPidNamespace = linux_only.inFirstPidNamespace;
pub const Directory = linux_only.Directory;
pub const eventSignal = system.eventSignal;
pub const isDying = system.isDying;
pub const eventDrains = linux_only.eventDrains;
pub const eventDrainAtOnce = linux_only.eventDrainAtOnce;
pub const eventDrain = linux_only.eventDrain;
pub const socketShutdown = system.socketShutdown;
pub const Poller = linux_only.Poller;
pub const threadStart = linux_only.threadStart;
pub const threadYield = system.threadYield;

pub const errno = system.errno;
