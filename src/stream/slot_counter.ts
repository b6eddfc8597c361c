/**
 * Counts updates by slot: what a sender published, and what a connection lost, so that a slot frame can say both.
 * May touch: its own map. Bounded: the slots longest untouched are forgotten.
 *
 * @module
 */

import type { SlotCounts } from "../types.ts";

/** Updates of one slot. */
export interface Counts {
  accounts: number;
  transactions: number;
}

const SLOTS_REMEMBERED = 512;

/** Counts of the newest slots, by slot number. */
export class SlotCounter {
  readonly #counts = new Map<number, Counts>();
  #lastSlot = -1;
  #last: Counts = { accounts: 0, transactions: 0 };

  #of(slot: number): Counts {
    if (slot === this.#lastSlot) return this.#last;
    let counts = this.#counts.get(slot);
    if (counts === undefined) counts = { accounts: 0, transactions: 0 };
    else this.#counts.delete(slot); // touched: it moves to the end of the map's order
    this.#counts.set(slot, counts);
    if (this.#counts.size > SLOTS_REMEMBERED) this.#counts.delete(this.#counts.keys().next().value!);
    this.#lastSlot = slot;
    this.#last = counts;
    return counts;
  }

  countAccount(slot: number): void {
    this.#of(slot).accounts++;
  }

  countTransaction(slot: number): void {
    this.#of(slot).transactions++;
  }

  /** What was counted for the slot; undefined for nothing. */
  get(slot: number): Readonly<Counts> | undefined {
    return this.#counts.get(slot);
  }

  /** The same as a slot frame says it, for a connection without losses. */
  countsOf(slot: number): SlotCounts {
    const counts = this.#counts.get(slot);
    return {
      accountsPublished: counts?.accounts ?? 0,
      transactionsPublished: counts?.transactions ?? 0,
      accountsLost: 0,
      transactionsLost: 0,
    };
  }
}
