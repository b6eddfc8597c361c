/**
 * Time, for what waits for it: the machine's, or a test's.
 * May touch: the runtime's timers. May not touch: what they are for.
 * What only shares a loop fairly, or measures, asks the machine itself.
 *
 * @module
 */

import { clearTimeout, setTimeout } from "node:timers";

/** Something that is to happen. */
export interface Timer {
  /** It is not to happen any longer. */
  clear(): void;
  /** The process waits for it (the default), or does not. */
  ref(): void;
  unref(): void;
}

/** Where time comes from. */
export interface Clock {
  /** Milliseconds since some moment; they never go back. */
  now(): number;
  /** Calls back once, after so many milliseconds. */
  after(ms: number, call: () => void): Timer;
}

/** The machine's. */
export const HOST_CLOCK: Clock = {
  now: () => performance.now(),
  after(ms, call) {
    const timer = setTimeout(call, ms);
    return { clear: () => clearTimeout(timer), ref: () => void timer.ref(), unref: () => void timer.unref() };
  },
};
