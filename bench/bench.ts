/**
 * What a bench is to the command that runs it.
 * May touch: nothing; types only.
 *
 * @module
 */

import type { BenchRecord } from "./record.ts";

/** What a bench gets. */
export interface BenchContext {
  /** Seconds instead of minutes: fewer samples, fewer sizes. */
  readonly quick: boolean;
  /** A private directory for sockets. */
  readonly directory: string;
  /** Says what is going on, to whoever waits. */
  note(text: string): void;
}

/** One question, and how it is answered. */
export interface Bench {
  readonly name: string;
  /** What it asks, in one line. */
  readonly question: string;
  /** Yields figures as they are found. What cannot be measured here is a note, unless it is ours: that throws. */
  run(context: BenchContext): AsyncIterable<BenchRecord>;
}
