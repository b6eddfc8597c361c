/**
 * How many updates there were, and how many a second.
 * May touch: the monotonic clock.
 * May not touch: the updates.
 *
 * @module
 */

/** How many updates there were so far. */
export interface UpdateCounts {
  readonly accounts: number;
  readonly transactions: number;
  readonly slots: number;
  /** Over the last second. */
  readonly perSecond: number;
}

const RATE_WINDOW_MS = 1000;

/** Counts updates by kind, and how many there were in the last second. */
export class UpdateCounter {
  readonly #counts = { account: 0, transaction: 0, slot: 0 };
  readonly #samples: { atMs: number; total: number }[] = [{ atMs: performance.now(), total: 0 }];

  add(kind: "account" | "transaction" | "slot"): void {
    this.#counts[kind]++;
  }

  /** To be called a few times a second: each call is a sample of the rate. */
  sample(): UpdateCounts {
    const { account: accounts, transaction: transactions, slot: slots } = this.#counts;
    const newest = { atMs: performance.now(), total: accounts + transactions + slots };
    while (this.#samples.length > 1 && newest.atMs - this.#samples[1]!.atMs >= RATE_WINDOW_MS) this.#samples.shift();
    const oldest = this.#samples[0]!;
    this.#samples.push(newest);
    const perSecond = (1000 * (newest.total - oldest.total)) / Math.max(1, newest.atMs - oldest.atMs);
    return { accounts, transactions, slots, perSecond: Math.round(perSecond) };
  }
}
