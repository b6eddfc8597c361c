/**
 * Whether a reading is too far behind what its sender knows: judged now and then, told once per change.
 * May touch: one timer, which keeps no process alive. May not touch: rings; who asks says how far behind it is.
 *
 * @module
 */

import { type Clock, HOST_CLOCK, type Timer } from "../native/clock.ts";
import type { Freshness, StaleEvent } from "./consumer_options.ts";

const LOOK_MS = 1000;

/** What is watched, and whom to tell. */
export interface StaleWatchOptions {
  readonly seenSlot: () => number;
  readonly knownSlot: () => number;
  /** Whether nobody can tell, such as while there is no sender: then it is stale. */
  readonly isUnknown: () => boolean;
  readonly staleAfterSlots: number | undefined;
  readonly onStale: ((event: StaleEvent) => void) | undefined;
  /** Default: the machine's. */
  readonly clock?: Clock;
}

/** Judges one reading. */
export class StaleWatch {
  readonly #options: StaleWatchOptions;
  #timer: Timer | undefined;
  /** What the sender knew when somebody looked for the first time; 0: nothing yet. */
  #firstKnown = 0;
  #isStale = false;

  constructor(options: StaleWatchOptions) {
    this.#options = options;
    if (options.staleAfterSlots !== undefined) this.#lookLater();
  }

  #lookLater(): void {
    this.#timer = (this.#options.clock ?? HOST_CLOCK).after(LOOK_MS, () => {
      this.#lookLater();
      void this.isStale;
    });
    this.#timer.unref();
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
    const isStale = freshness.behind > staleAfterSlots || this.#options.isUnknown();
    if (isStale !== this.#isStale) {
      this.#isStale = isStale;
      // Not from within a getter: what it throws is nobody's who asks.
      if (onStale !== undefined) queueMicrotask(() => onStale({ ...freshness, isStale }));
    }
    return isStale;
  }

  close(): void {
    this.#timer?.clear();
  }
}
