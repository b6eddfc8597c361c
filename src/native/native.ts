/**
 * The one door to the native library: what both runtimes offer, under the same names.
 * May touch: types only. May not touch: a runtime; deno.ts and bun.ts do that.
 *
 * @module
 */

import type { SYMBOLS } from "./abi.generated.ts";
import type { Clock } from "./clock.ts";

type Parameter = {
  i32: number;
  u32: number;
  f64: number;
  bool: boolean;
  usize: number;
  buffer: Uint8Array | Int32Array | Uint32Array | Float64Array;
};
/** Only libc has results of the size of a pointer: a number or a bigint, as the runtime likes. */
type Result = { i32: number; u32: number; f64: number; bool: boolean; isize: number | bigint; usize: number | bigint };
type Parameters<Names extends readonly string[]> = {
  -readonly [I in keyof Names]: Names[I] extends keyof Parameter ? Parameter[Names[I]] : never;
};

/** TypeScript's name of a function: the library's name, parameters, result. */
export type SymbolTable = {
  readonly [key: string]: readonly [name: string, parameters: readonly string[], result: string];
};

/** The functions of a table. */
export type Functions<Table extends SymbolTable> = {
  readonly [Name in keyof Table]: Table[Name] extends readonly [string, infer Names extends readonly string[], infer R]
    ? (...args: Parameters<Names>) => R extends keyof Result ? Result[R] : never
    : never;
};

/** Every symbol of the library as a function. A result below zero is a status (errors.ts). */
export type Symbols = Functions<typeof SYMBOLS>;

/** A descriptor that the runtime's event loop watches. */
export interface Watch {
  /** Stops and closes the descriptor. `onClose` is not called for it. */
  close(): void;
  ref(): void;
  unref(): void;
}

/** What a runtime adds to the symbols. */
export interface Runtime {
  readonly name: "deno" | "bun";
  /** Time, for what waits. */
  readonly clock: Clock;
  /** Chance, from 0 to below 1, for what is not to happen in step. */
  random(): number;
  /**
   * The memory at an address as a buffer: one per mapping, to be detached (`transfer(0)`) before it is unmapped.
   * @param length At most 4 GiB, the limit of one buffer in Bun.
   */
  memory(address: number, length: number): ArrayBuffer;
  /**
   * Puts our end of a socket pair into the event loop; it belongs to the runtime from here on, whatever the outcome.
   * @param onWake Bytes came; they are thrown away.
   * @param onClose The other end is closed: its process is gone, or let go.
   */
  watch(fd: number, onWake: () => void, onClose: () => void): Promise<Watch>;
  /**
   * Watches a listener: from here on its connections are taken.
   * @param listener Its native handle.
   * @param onLink Called with the native handle of each connection.
   */
  accept(listener: number, onLink: (link: number) => void): Promise<Watch>;
  /**
   * Puts a stream socket into the event loop and reads it; it belongs to the runtime from here on, whatever the outcome.
   * Descriptors that come along are closed unseen. The first bytes may come before the promise settles.
   * @param onBytes Bytes came, in memory that nobody writes again: keep them.
   * @param onClose The other side has closed, or sends nothing more. All bytes have been handed over.
   */
  stream(fd: number, onBytes: (bytes: Uint8Array) => void, onClose: () => void): Promise<Watch>;
}

/**
 * The library, loaded and checked. Opaque to users, and subject to change with every layout.
 * @internal
 */
export type Native = Symbols & Runtime;

/** What deno.ts and bun.ts export. Both functions throw what the runtime throws. */
export interface Adapter {
  /** Opens a library, a path or a name that the system's loader knows, with the functions of the table. */
  dlopen<Table extends SymbolTable>(path: string, table: Table): Functions<Table>;
  /** Opens the native library. */
  open(path: string): Native;
}

/** What became of a descriptor that a runtime was to adopt. It leaves open what it refuses: that is closed here. */
export async function closedIfRefused(
  symbols: Pick<Native, "fdClose">,
  fd: number,
  adopted: Promise<Watch>,
): Promise<Watch> {
  try {
    return await adopted;
  } catch (error) {
    symbols.fdClose(fd);
    throw error;
  }
}
