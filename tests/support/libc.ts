/**
 * The few system calls that a hostile peer makes and the library does not: through libc's FFI, in both runtimes.
 * May touch: Linux with glibc or musl. Loaded at the first use. Nothing here checks anything: that is the point.
 */

import process from "node:process";

type Buffer = Uint8Array | Int32Array;
interface Libc {
  memfd_create(name: Buffer, flags: number): number;
  ftruncate(fd: number, size: bigint): number;
  fcntl(fd: number, command: number, argument: number): number;
  ioctl(fd: number, request: bigint, argument: Buffer): number;
  mmap(address: null, size: bigint, protection: number, flags: number, fd: number, offset: bigint): unknown;
  munmap(address: unknown, size: bigint): number;
  close(fd: number): number;
  open(path: Buffer, flags: number, mode: number): number;
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, address: Buffer, length: number): number;
  listen(fd: number, backlog: number): number;
  connect(fd: number, address: Buffer, length: number): number;
  accept4(fd: number, address: null, length: null, flags: number): number;
  sendmsg(fd: number, message: Buffer, flags: number): number | bigint;
  recvmsg(fd: number, message: Buffer, flags: number): number | bigint;
  read(fd: number, buffer: Buffer, size: bigint): number | bigint;
  write(fd: number, buffer: Buffer, size: bigint): number | bigint;
  eventfd(value: number, flags: number): number;
  recv(fd: number, buffer: Buffer, size: bigint, flags: number): number;
  pipe2(pair: Buffer, flags: number): number;
  mkfifo(path: Buffer, mode: number): number;
  setgid(gid: number): number;
  setuid(uid: number): number;
  kill(pid: number, signal: number): number;
  /** Variadic; only for calls that take nothing but small numbers. */
  syscall(number: bigint, argument: bigint): number | bigint;
}

/** Name: parameters, result. "fd size" and the like are i32; sizes are 64 bits. */
const SYMBOLS = {
  memfd_create: [["buffer", "u32"], "i32"],
  ftruncate: [["i32", "i64"], "i32"],
  fcntl: [["i32", "i32", "i32"], "i32"],
  ioctl: [["i32", "u64", "buffer"], "i32"],
  mmap: [["pointer", "u64", "i32", "i32", "i32", "i64"], "pointer"],
  munmap: [["pointer", "u64"], "i32"],
  close: [["i32"], "i32"],
  open: [["buffer", "i32", "u32"], "i32"],
  socket: [["i32", "i32", "i32"], "i32"],
  bind: [["i32", "buffer", "u32"], "i32"],
  listen: [["i32", "i32"], "i32"],
  connect: [["i32", "buffer", "u32"], "i32"],
  accept4: [["i32", "pointer", "pointer", "i32"], "i32"],
  sendmsg: [["i32", "buffer", "i32"], "i64"],
  recvmsg: [["i32", "buffer", "i32"], "i64"],
  read: [["i32", "buffer", "u64"], "i64"],
  write: [["i32", "buffer", "u64"], "i64"],
  eventfd: [["u32", "i32"], "i32"],
  recv: [["i32", "buffer", "u64", "i32"], "i32"],
  pipe2: [["buffer", "i32"], "i32"],
  mkfifo: [["buffer", "u32"], "i32"],
  setgid: [["u32"], "i32"],
  setuid: [["u32"], "i32"],
  kill: [["i32", "i32"], "i32"],
  syscall: [["i64", "i64"], "i64"],
} as const;

// deno-lint-ignore no-explicit-any
const runtime = (globalThis as any).Deno;
// deno-lint-ignore no-explicit-any
const ffi = runtime === undefined ? (process as any).getBuiltinModule("bun:ffi") : undefined;

let opened: Libc | undefined;

export function libc(): Libc {
  opened ??= openFirst(["libc.so.6", "libc.so", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1"]);
  return opened;
}

function openFirst(names: readonly string[]): Libc {
  const table = Object.fromEntries(
    Object.entries(SYMBOLS).map(([name, [parameters, result]]) => [
      name,
      runtime === undefined ? { args: parameters, returns: result } : { parameters, result },
    ]),
  );
  let failure: unknown;
  for (const name of names) {
    try {
      return (runtime ?? ffi).dlopen(name, table).symbols;
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

const text = (value: string) => new TextEncoder().encode(`${value}\0`);

function done(result: number, what: string): number {
  if (result < 0) throw new Error(`${what} failed`);
  return result;
}

const SEAL = { SEAL: 1, SHRINK: 2, GROW: 4, WRITE: 8, FUTURE_WRITE: 16 } as const;
/** What a page must have, and what a ring must have. */
export const SEALS_SIZE: number = SEAL.SEAL | SEAL.SHRINK | SEAL.GROW;
export const SEALS_RING: number = SEALS_SIZE | SEAL.FUTURE_WRITE;

/** Where a buffer lies, for the structures that point to others. It must stay referenced for as long. */
export function addressOf(buffer: Uint8Array): bigint {
  const address: number | bigint = runtime === undefined
    ? ffi.ptr(buffer)
    : runtime.UnsafePointer.value(runtime.UnsafePointer.of(buffer));
  return BigInt(address);
}

/** An unsealed memfd of that size. */
export function memfd(size: number): number {
  const fd = done(libc().memfd_create(text("hostile"), 2 | 1), "memfd_create"); // MFD_ALLOW_SEALING | MFD_CLOEXEC
  done(libc().ftruncate(fd, BigInt(size)), "ftruncate");
  return fd;
}

export function seal(fd: number, seals: number): void {
  done(libc().fcntl(fd, 1033, seals), "fcntl(F_ADD_SEALS)");
}

/** A mapping that may be written: before the region is sealed, as a hostile sender would. */
export class Mapping implements Disposable {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly #buffer: ArrayBuffer;
  readonly #address: unknown;

  constructor(fd: number, size: number) {
    this.#address = libc().mmap(null, BigInt(size), 1 | 2, 1, fd, 0n); // PROT_READ | PROT_WRITE, MAP_SHARED
    const number = runtime === undefined ? this.#address : runtime.UnsafePointer.value(this.#address);
    if (BigInt.asIntN(64, BigInt(number)) === -1n) throw new Error("mmap failed");
    this.#buffer = runtime === undefined
      ? ffi.toArrayBuffer(this.#address, 0, size)
      : runtime.UnsafePointerView.getArrayBuffer(this.#address, size);
    this.bytes = new Uint8Array(this.#buffer);
    this.view = new DataView(this.#buffer);
  }

  [Symbol.dispose](): void {
    const size = this.bytes.length;
    this.#buffer.transfer(0);
    done(libc().munmap(this.#address, BigInt(size)), "munmap");
  }
}

/** A regular file, opened for writing. */
export function openFile(path: string): number {
  return done(libc().open(text(path), 2 | 0o100, 0o600), "open"); // O_RDWR | O_CREAT
}

/** What is at the path, for reading and writing; -1 if it can't be opened. */
export function openExisting(path: string): number {
  return libc().open(text(path), 2 | 0o2000000, 0); // O_RDWR | O_CLOEXEC
}

export function eventfd(): number {
  return done(libc().eventfd(0, 0o4000), "eventfd"); // EFD_NONBLOCK
}

/** An eventfd on which a read waits. */
export function blockingEventfd(): number {
  return done(libc().eventfd(0, 0), "eventfd");
}

/** The end to read from, the end to write to. */
export function pipe(flags: number): [read: number, write: number] {
  const pair = new Int32Array(2);
  done(libc().pipe2(pair, flags), "pipe2");
  return [pair[0]!, pair[1]!];
}

export function makeFifo(path: string): void {
  done(libc().mkfifo(text(path), 0o600), "mkfifo");
}

/** A datagram socket: no stream. */
export function datagramSocket(): number {
  return done(libc().socket(1, 2, 0), "socket"); // AF_UNIX, SOCK_DGRAM
}

/** Takes what stands in a socket, without waiting. @returns Whether there was anything. */
export function drainSocket(fd: number): boolean {
  return libc().recv(fd, scratch, BigInt(scratch.length), 0x40) > 0; // MSG_DONTWAIT
}
const scratch = new Uint8Array(1024);

export function close(fd: number): void {
  done(libc().close(fd), "close");
}

/** Ends the calling thread alone. Of a main thread: the process is as if it were dying, and holds its descriptors still. */
export function endThread(): void {
  libc().syscall(process.arch === "arm64" ? 93n : 60n, 0n); // SYS_exit
}

/** For good, in all threads. */
export function becomeUser(uid: number): void {
  done(libc().setgid(uid), "setgid");
  done(libc().setuid(uid), "setuid");
}
