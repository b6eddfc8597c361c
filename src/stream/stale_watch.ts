/**
 * Whether a reading is too far behind what its sender knows: judged now and then, told once per change.
 * May touch: one timer, which keeps no process alive. May not touch: rings; who asks says how far behind it is.
 *
 * @module
 */

import { clearInterval, setInterval } from "node:timers";
import type { Freshness, StaleEvent } from "./consumer_options.ts";

const LOOK_MS = 1000;

/** What is watched, and whom to tell. */
export interface StaleWatchOptions {
  readonly seenSlot: () => number;
  readonly knownSlot: () => number;
  readonly staleAfterSlots: number | undefined;
  readonly onStale: ((event: StaleEvent) => void) | undefined;
}

/** Judges one reading. */
export class StaleWatch {
  readonly #options: StaleWatchOptions;
  readonly #timer: ReturnType<typeof setInterval> | undefined;
  /** What the sender knew when somebody looked for the first time; 0: nothing yet. */
  #firstKnown = 0;
  #isStale = false;

  constructor(options: StaleWatchOptions) {
    this.#options = options;
    if (options.staleAfterSlots === undefined) return;
    this.#timer = setInterval(() => void this.isStale, LOOK_MS).unref();
  }

  get freshness(): Freshness {
    const seen = this.#options.seenSlot();
    const known = this.#options.knownSlot();
    if (this.#firstKnown === 0) this.#firstKnown = known;
    return {
      seenSlot: seen < 0 ? undefined : BigInt(seen),
      knownSlot: BigInt(known),
      behind: Math.max(0, known - (seen < 0 ? this.#firstKnown : seen)),
    };
  }

  get isStale(): boolean {
    const { staleAfterSlots, onStale } = this.#options;
    if (staleAfterSlots === undefined) return false;
    const freshness = this.freshness;
    const isStale = freshness.behind > staleAfterSlots;
    if (isStale !== this.#isStale) {
      this.#isStale = isStale;
      // Not from within a getter: what it throws is nobody's who asks.
      if (onStale !== undefined) queueMicrotask(() => onStale({ ...freshness, isStale }));
    }
    return isStale;
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
