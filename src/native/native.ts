/**
 * The one door to the native library: what both runtimes offer, under the same names.
 * May touch: types only. May not touch: a runtime; deno.ts and bun.ts do that.
 *
 * @module
 */

import type { SYMBOLS } from "./abi.generated.ts";

type Parameter = {
  i32: number;
  u32: number;
  f64: number;
  bool: boolean;
  buffer: Uint8Array | Int32Array | Uint32Array | Float64Array;
};
type Result = { i32: number; u32: number; f64: number; bool: boolean };
type Parameters<Names extends readonly string[]> = {
  -readonly [I in keyof Names]: Names[I] extends keyof Parameter ? Parameter[Names[I]] : never;
};

/** Every symbol of the library as a function. A result below zero is a status (errors.ts). */
export type Symbols = {
  readonly [Name in keyof typeof SYMBOLS]: (typeof SYMBOLS)[Name] extends
    readonly [string, infer Names extends readonly string[], infer R]
    ? (...args: Parameters<Names>) => R extends keyof Result ? Result[R] : never
    : never;
};

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
}

/** The library, loaded and checked. */
export type Native = Symbols & Runtime;

/** Opens the file as a library of these symbols. Throws what the runtime throws. */
export type Open = (path: string) => Native;
