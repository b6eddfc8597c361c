/**
 * How much the two sides of a throughput bench pass, computed alike on both.
 * May touch: its arguments.
 * Phases: first the producer fills the empty ring while the consumer sleeps, then the consumer empties it while the
 * producer sleeps: each side's cost alone. Then both at once: end to end. floor.zig does the same.
 *
 * @module
 */

import { AccountBody, FRAME_ALIGN, FrameHeader } from "../../src/native/abi.generated.ts";

/** What both workers are told. */
export interface ThroughputTask {
  readonly path: string;
  readonly bytes: number;
  /** Updates of one `publishBatch`; 1 for `publishAccount`. */
  readonly batch: number;
  readonly runs: number;
}

/** Nanoseconds per message, one for each run. */
export interface ProducerResult {
  readonly fillNs: readonly number[];
}
export interface ConsumerResult {
  readonly drainNs: readonly number[];
  readonly streamNs: readonly number[];
}

/** The default capacity: what a user gets. */
export const CAPACITY = 64 * 1024 * 1024;
/** Runs before those that count: the first round commits the ring's memory, and compilers settle. */
export const WARM_UP_RUNS = 2;
/** Less than the ring's room for data. */
const FILL_BYTES = 56 * 1024 * 1024;
const STREAM_BYTES = 256 * 1024 * 1024;
const STREAM_FRAMES_MAX = 500_000;

/** The numbers that both sides need. */
export function planOf({ bytes, runs }: ThroughputTask) {
  const size = Math.ceil((FrameHeader.size + AccountBody.size + bytes) / FRAME_ALIGN) * FRAME_ALIGN;
  return {
    /** Bytes that one frame takes in the ring. */
    frameSize: size,
    fillFrames: Math.floor(FILL_BYTES / size),
    streamFrames: Math.min(STREAM_FRAMES_MAX, Math.floor(STREAM_BYTES / size)),
    runs: WARM_UP_RUNS + runs,
  };
}

/** Leaves the other side's cache lines alone for a while. */
export function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 1));
}
