/**
 * How much a run of the demo streams, and how fast: the same for whoever has to know.
 * May touch: its arguments.
 *
 * @module
 */

/** A slot of a cluster. */
export const MS_PER_SLOT = 400;
const TRANSACTIONS_PER_SLOT_MIN = 150;

/** Slots, and transactions in each. */
export interface Plan {
  readonly slots: number;
  readonly transactionsPerSlot: number;
}

/** Both, from what the user asked for. */
export function planOf({ seconds, transactionsMin }: { seconds: number; transactionsMin: number }): Plan {
  const slots = Math.max(1, Math.floor((seconds * 1000) / MS_PER_SLOT));
  return { slots, transactionsPerSlot: Math.max(TRANSACTIONS_PER_SLOT_MIN, Math.ceil(transactionsMin / slots)) };
}

/** Waits as long as a stream is ahead of its plan. */
export class Pace {
  readonly #plan: Plan;
  readonly #start = performance.now();
  #transactions = 0;

  constructor(plan: Plan) {
    this.#plan = plan;
  }

  /** One more transaction. @returns When the next one is due; undefined if that is now. */
  next(): Promise<void> | undefined {
    this.#transactions++;
    const due = (this.#transactions * MS_PER_SLOT) / this.#plan.transactionsPerSlot;
    const aheadMs = this.#start + due - performance.now();
    // A timer can't wait for less; being ahead by less than that does not matter.
    return aheadMs < 1 ? undefined : new Promise((resolve) => setTimeout(resolve, aheadMs));
  }
}
