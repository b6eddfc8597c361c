/**
 * What both sides of fanout_load.ts are told, and the stream that they agree on.
 * May touch: its arguments, /proc/self/smaps_rollup.
 *
 * @module
 */

import { readFileSync } from "node:fs";

/** A stream of accounts, at a steady pace, to consumers that park. */
export interface LoadTask {
  readonly path: string;
  /** Updates per second, in pieces of a millisecond: a source delivers what has come, not one by one. */
  readonly perSecond: number;
  readonly seconds: number;
  readonly consumers: number;
  readonly mix: Mix;
  /** Each consumer wants this many of `ACCOUNTS`, others than the next one; 0: all of their owner's. */
  readonly wanted: number;
  /** This many updates at once, at the end, while consumers look away; 0: none. */
  readonly burst: number;
}

export interface LoadSenderResult {
  /** Time of its processor by time, from 0 to 1. */
  readonly load: number;
  readonly published: number;
  readonly deliveries: number;
  readonly lost: number;
  /** Nanoseconds of publishing by update. */
  readonly publishNs: number;
  readonly burstNs: number;
  readonly burstBytes: number;
  readonly ringBytesMax: number;
  readonly poolBytesMax: number;
}

/** From an update's time until it was read, µs. */
export interface LoadSocketsResult {
  readonly p50: number;
  readonly p99: number;
  /** In the first `WARM_UP_SECONDS`, which the others leave out. */
  readonly firstP99: number;
}

export interface LoadConsumerResult extends LoadSocketsResult {
  readonly load: number;
  readonly received: number;
  readonly lost: number;
}

/** Lengths of data: all about as large as the mean of the accounts that bots want, or as the whole feed has them. */
export type Mix = "7.3 KB" | "feed";

export const ACCOUNTS = 1000;
/** Of a stream: how long after the first update its latencies do not count. */
export const WARM_UP_SECONDS = 2;
/** Before what counts, and after it. */
export const SETTLE_MS = 1000;
/** How long consumers look away from a burst. */
export const AWAY_MS = 1500;

/** The key of an account. */
export function keyOf(number: number): Uint8Array {
  const key = new Uint8Array(32).fill(3);
  new DataView(key.buffer).setUint32(0, number, true);
  return key;
}

/** Always the same numbers, from 0 to 1. */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Parts of the whole feed: how many, and from how many bytes to how many. */
const FEED: readonly (readonly [part: number, from: number, to: number])[] = [
  [0.35, 0, 0],
  [0.35, 165, 165],
  [0.12, 200, 1500],
  [0.1, 1536, 5120],
  [0.07, 5120, 25_600],
  [0.0099, 25_600, 102_400],
  [0.0001, 2 ** 20, 10 * 2 ** 20],
];

/** The length of one account's data. */
export function lengthFrom(mix: Mix, random: () => number): number {
  // Exponential, as far as an account's limit goes; the mean is the one that gives the mix its name.
  if (mix === "7.3 KB") return Math.min(100_000, Math.round(-Math.log(1 - random()) * 7475));
  let chosen = random();
  for (const [part, from, to] of FEED) {
    if (chosen < part) return Math.round(from + random() * (to - from));
    chosen -= part;
  }
  return 0;
}

/** Consumers that have nothing to do. */
export interface IdleTask {
  readonly path: string;
  readonly consumers: number;
}

/** What a process has in memory; shared pages count by the number of those who share them. */
export interface Resident {
  readonly proportional: number;
  readonly own: number;
}

export interface IdleResult {
  readonly before: Resident;
  readonly after: Resident;
}

export function residentBytes(): Resident {
  // What the collector has not got round to is not the consumers'.
  (globalThis as { Bun?: { gc(force: boolean): void } }).Bun?.gc(true);
  (globalThis as { gc?: () => void }).gc?.();
  const text = readFileSync("/proc/self/smaps_rollup", "utf8");
  const kilobytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text)?.[1] ?? NaN);
  return {
    proportional: 1024 * kilobytes("Pss"),
    own: 1024 * (kilobytes("Private_Clean") + kilobytes("Private_Dirty")),
  };
}
