/**
 * One clock for all processes, in nanoseconds: CLOCK_REALTIME, which also stamps our frames.
 * May touch: libc's `clock_gettime`, through the FFI of either runtime; that takes 20 to 40 ns.
 * Why not `performance.now()`: it counts from the start of its own process, and Deno coarsens it.
 *
 * @module
 */

import process from "node:process";

interface DenoFfi {
  dlopen(path: string, symbols: object): { symbols: { clock_gettime: (id: number, out: Int32Array) => number } };
}

const LIBC = process.platform === "darwin" ? "libSystem.dylib" : "libc.so.6";
const CLOCK_REALTIME = 0;
const CLOCK_THREAD_CPUTIME_ID = process.platform === "darwin" ? 16 : 3;
/** Seconds are counted modulo this (12 days), so that nanoseconds stay exact in a number. */
const SECONDS = 2 ** 20;
const NS_PER_SECOND = 1e9;

const out = new Int32Array(4);
const clockGettime = open();

function open(): (id: number, out: Int32Array) => number {
  const { Deno: deno } = globalThis as unknown as { Deno?: DenoFfi };
  if (deno !== undefined) {
    const symbol = { parameters: ["i32", "buffer"], result: "i32" };
    return deno.dlopen(LIBC, { clock_gettime: symbol }).symbols.clock_gettime;
  }
  const ffi = (process as unknown as { getBuiltinModule(name: string): DenoFfi }).getBuiltinModule("bun:ffi");
  return ffi.dlopen(LIBC, { clock_gettime: { args: ["i32", "buffer"], returns: "i32" } }).symbols.clock_gettime;
}

/** Now, in nanoseconds since some moment that all processes share. */
export function nowNs(): number {
  return nsOf(CLOCK_REALTIME);
}

/** Nanoseconds that this thread has run: what others do on its core does not count. Takes a system call. */
export function threadNs(): number {
  return nsOf(CLOCK_THREAD_CPUTIME_ID);
}

function nsOf(clock: number): number {
  clockGettime(clock, out);
  return (out[0]! & (SECONDS - 1)) * NS_PER_SECOND + out[2]!;
}

/** A time of a frame, in the same nanoseconds. */
export function nsFromFrame(time: bigint): number {
  return Number(time % BigInt(SECONDS * NS_PER_SECOND));
}

/** Keeps the core busy until then, turning the event loop all the while: sockets get their chance. */
export async function waitUntil(ns: number): Promise<void> {
  while (nowNs() < ns) await new Promise<void>((resolve) => void setImmediate(resolve));
}
