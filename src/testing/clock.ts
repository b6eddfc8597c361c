/**
 * Time that goes on only when it is told to.
 * May touch: nothing of the machine's.
 *
 * @module
 */

import type { Clock, Timer } from "../native/clock.ts";

interface Due {
  readonly at: number;
  readonly call: () => void;
}

/** A clock that stands still. */
export class VirtualClock implements Clock {
  readonly #due = new Set<Due>();
  #now = 0;

  now(): number {
    return this.#now;
  }

  after(ms: number, call: () => void): Timer {
    const due = { at: this.#now + Math.max(0, ms), call };
    this.#due.add(due);
    return { clear: () => void this.#due.delete(due), ref() {}, unref() {} };
  }

  /** The first thing that is to happen until then; of several at the same time, the one that was asked for first. */
  next(until: number): Due | undefined {
    let first: Due | undefined;
    for (const due of this.#due) if (due.at <= until && (first === undefined || due.at < first.at)) first = due;
    return first;
  }

  /** Goes on to what is due, and has it happen. */
  run(due: Due): void {
    this.#due.delete(due);
    this.#now = Math.max(this.#now, due.at);
    due.call();
  }

  /** Goes on. */
  setNow(now: number): void {
    this.#now = now;
  }
}
