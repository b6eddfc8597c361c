/**
 * What a source is asked for, as that changes: one loop over a sender's demand, which ends with the source.
 * May touch: the demand. May not touch: connections; its owner does what is wanted.
 *
 * @module
 */

import { isDemand, type SourceDemand, type SourceFilter } from "./source.ts";

/** Follows a demand; of a filter, which does not change, it knows just that. */
export class DemandFollower {
  readonly #demand: SourceDemand | SourceFilter;
  #iterator: AsyncIterator<{ readonly current: SourceFilter }> | undefined;
  #isLeft = false;

  constructor(demand: SourceDemand | SourceFilter) {
    this.#demand = demand;
  }

  /** What is wanted now. */
  get current(): SourceFilter {
    return isDemand(this.#demand) ? this.#demand.current : this.#demand;
  }

  /**
   * Tells each change, one after the other, until the demand ends, as it does with its sender, or the source. Throws what
   * the demand does, or `onChange`.
   */
  async follow(onChange: (wanted: SourceFilter) => void | Promise<void>): Promise<void> {
    if (!isDemand(this.#demand) || this.#isLeft) return;
    this.#iterator = this.#demand[Symbol.asyncIterator]();
    for (;;) {
      const change = await this.#iterator.next();
      if (change.done === true || this.#isLeft) return;
      await onChange(change.value.current);
    }
  }

  /** Nothing more is told. Does not wait: a demand that waits for a change ends when its sender does. */
  leave(): void {
    this.#isLeft = true;
    Promise.try(() => this.#iterator?.return?.()).then(undefined, () => {});
  }
}
