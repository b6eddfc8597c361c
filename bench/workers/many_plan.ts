/**
 * How much the two sides of fanout.ts's end-to-end figures pass, computed alike on both.
 * May touch: its arguments.
 *
 * @module
 */

/** One sender to many consumers in one other process: first each side alone in turns, then both at once. */
export interface ManyTask {
  readonly path: string;
  readonly bytes: number;
  readonly consumers: number;
  readonly runs: number;
}

export interface ManySenderResult {
  readonly fillNs: readonly number[];
}
export interface ManyConsumersResult {
  readonly drainNs: readonly number[];
  readonly streamNs: readonly number[];
}

export const RING_BYTES = 1024 * 1024;
/** What half the ring holds, in whole batches. */
export const FILL_UPDATES = 1280;
export const BATCH = 64;
export const FILLS = 100;
export const STREAM_UPDATES = 256_000;
export const WARM_UP_RUNS = 2;

/** Of each run, the typical fill: who else is on the core ruins a few of them. */
export function typical(times: readonly number[]): number {
  return times.toSorted((a, b) => a - b)[times.length >> 1]!;
}
