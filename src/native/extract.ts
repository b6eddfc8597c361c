/**
 * Gives a library that exists only as bytes a path for the system's loader.
 * May touch: libc through the adapter: Deno's own file functions would need permissions beyond --allow-ffi.
 * Only functions with a fixed number of arguments: on Apple's arm64 the others take theirs elsewhere, so that calling
 * `open` or `fcntl` through FFI passes garbage.
 *
 * @module
 */

import process from "node:process";
import type { Adapter } from "./native.ts";

const WRITE = {
  write: ["write", ["i32", "buffer", "usize"], "isize"],
  close: ["close", ["i32"], "i32"],
} as const;
const MEMORY = { ...WRITE, memfdCreate: ["memfd_create", ["buffer", "u32"], "i32"] } as const;
const FILE = {
  ...WRITE,
  mkstemp: ["mkstemp", ["buffer"], "i32"],
  unlink: ["unlink", ["buffer"], "i32"],
} as const;
const CONFSTR = { confstr: ["confstr", ["i32", "buffer", "usize"], "usize"] } as const;

const MFD_CLOEXEC = 1;
const MFD_NOEXEC_SEAL = 8;
const CS_DARWIN_USER_TEMP_DIR = 65537;

/**
 * Opens the bytes from memory (Linux): no directory has to be writable, and nothing is left behind.
 *
 * The descriptor stays open for ever, even where `open` fails, which it may do after the loader has done its part: the
 * loader remembers a library by its path, and with the number reused `/proc/self/fd/N` would silently give the old one.
 */
export function openFromMemory<T>(adapter: Adapter, bytes: Uint8Array, open: (path: string) => T): T {
  const libc = dlopenLibc(adapter, MEMORY);
  const name = cString("qlaster");
  // A kernel with vm.memfd_noexec=2 refuses what is not marked "never executed", which concerns execve, not mmap. One
  // before 6.3 does not know the mark.
  let fd = libc.memfdCreate(name, MFD_CLOEXEC | MFD_NOEXEC_SEAL);
  if (fd < 0) fd = libc.memfdCreate(name, MFD_CLOEXEC);
  if (fd < 0) throw new Error("memfd_create failed");
  try {
    writeAll(libc, fd, bytes);
  } catch (error) {
    libc.close(fd);
    throw error;
  }
  return open(`/proc/self/fd/${fd}`);
}

/**
 * Opens the bytes from a file in a temporary directory, which is gone when this returns: macOS, and Linux where memory
 * cannot be executed.
 * @param directories Tried one after the other: some are read-only, some forbid executable mappings.
 */
export function openFromFile<T>(
  adapter: Adapter,
  bytes: Uint8Array,
  open: (path: string) => T,
  directories: readonly string[] = temporaryDirectories(adapter),
): T {
  const libc = dlopenLibc(adapter, FILE);
  const errors: unknown[] = [];
  for (const directory of directories) {
    const name = cString(`${directory}/qlaster-XXXXXX`);
    const fd = libc.mkstemp(name); // 0600, and no one else's link is followed
    if (fd < 0) {
      errors.push(new Error(`cannot create a file in ${directory}`));
      continue;
    }
    try {
      try {
        writeAll(libc, fd, bytes);
      } finally {
        libc.close(fd);
      }
      return open(new TextDecoder().decode(name.subarray(0, -1)));
    } catch (error) {
      errors.push(error);
    } finally {
      libc.unlink(name);
    }
  }
  throw new AggregateError(errors, errors.map((error) => (error as Error).message).join("; "));
}

/** Not TMPDIR: it may be anything, and reading it takes a permission. */
function temporaryDirectories(adapter: Adapter): string[] {
  if (process.platform !== "darwin") return ["/tmp", "/var/tmp", "/dev/shm"];
  const buffer = new Uint8Array(1024);
  const size = Number(dlopenLibc(adapter, CONFSTR).confstr(CS_DARWIN_USER_TEMP_DIR, buffer, buffer.length));
  const own = size > 1 && size <= buffer.length ? [new TextDecoder().decode(buffer.subarray(0, size - 1))] : [];
  return [...own.map((path) => path.replace(/\/$/, "")), "/tmp"];
}

function dlopenLibc<Table extends typeof MEMORY | typeof FILE | typeof CONFSTR>(adapter: Adapter, table: Table) {
  // musl takes every name that begins with "libc." for its own.
  return adapter.dlopen(process.platform === "darwin" ? "/usr/lib/libSystem.B.dylib" : "libc.so.6", table);
}

function cString(text: string): Uint8Array {
  return new TextEncoder().encode(`${text}\0`);
}

interface Writer {
  write(fd: number, bytes: Uint8Array, size: number): number | bigint;
}

function writeAll(libc: Writer, fd: number, bytes: Uint8Array): void {
  for (let written = 0; written < bytes.length;) {
    const rest = bytes.subarray(written);
    const count = Number(libc.write(fd, rest, rest.length));
    if (count <= 0) throw new Error(`wrote ${written} of ${bytes.length} bytes`);
    written += count;
  }
}
