/** What both sides of a latency bench are told. */

import type { IdleStrategy } from "../../mod.ts";

/** How the consumer waits: a strategy of `for await`, or a loop around `poll` that leaves the event loop no turn. */
export type Waiting = IdleStrategy | "poll";

/** One stream of messages, at a steady pace. */
export interface LatencyTask {
  readonly path: string;
  readonly bytes: number;
  readonly waiting: Waiting;
  /** From one message to the next. */
  readonly gapUs: number;
  readonly samples: number;
}

/** Messages before those that count. */
export const WARM_UP = 100;
/** Before the first message: the reader is waiting by then, and both compilers are done with what came so far. */
export const SETTLE_MS = 50;
