/**
 * A demand as a sender has one, changed by the test.
 * May touch: nothing.
 */

import type { SourceDemand, SourceFilter } from "../../../src/sources/source.ts";

export class FakeDemand implements SourceDemand {
  current: SourceFilter;
  readonly #changes: SourceFilter[] = [];
  #waiter: (() => void) | undefined;
  returned = false;

  constructor(current: SourceFilter) {
    this.current = current;
  }

  set(next: SourceFilter): void {
    this.current = next;
    this.#changes.push(next);
    this.#waiter?.();
  }

  [Symbol.asyncIterator](): AsyncIterator<{ readonly current: SourceFilter }> {
    return {
      next: async () => {
        while (this.#changes.length === 0) await new Promise<void>((resolve) => this.#waiter = resolve);
        return { done: false, value: { current: this.#changes.shift()! } };
      },
      return: () => {
        this.returned = true;
        return Promise.resolve({ done: true, value: undefined });
      },
    };
  }
}
