/**
 * Latencies and counts as the original has them: same names, whole microseconds, read and set to zero by `flush`.
 * May touch: its own numbers. May not touch: clocks; callers measure, and only where timings are switched on.
 * Nothing is exported by itself: the application polls. Each works on one thread, so that no flush is torn.
 *
 * @module
 */

/** What a {@linkcode Latency} has seen. */
export interface LatencySnapshot {
  /** Records. */
  readonly count: number;
  /** Their sum, in whole microseconds. */
  readonly total_us: number;
  /** The shortest, 0 if there is none. */
  readonly min_us: number;
  /** The longest, 0 if there is none. */
  readonly max_us: number;
}

/** How long something takes: count, sum, shortest and longest. */
export class Latency {
  #count = 0;
  #total = 0;
  #min = Infinity;
  #max = 0;

  /** Records one. @param us Microseconds: cut to whole ones, as the original's clock does; below zero counts as zero. */
  record(us: number): void {
    const whole = us > 0 ? Math.floor(us) : 0;
    this.#count++;
    this.#total += whole;
    if (whole < this.#min) this.#min = whole;
    if (whole > this.#max) this.#max = whole;
  }

  /** Mean in microseconds, 0 if there is none. */
  get average(): number {
    return this.#count === 0 ? 0 : this.#total / this.#count;
  }

  /** What was recorded since the last flush. */
  peek(): LatencySnapshot {
    const min = this.#count === 0 ? 0 : this.#min;
    return { count: this.#count, total_us: this.#total, min_us: min, max_us: this.#max };
  }

  /** The same, and starts anew. */
  flush(): LatencySnapshot {
    const snapshot = this.peek();
    this.#count = 0;
    this.#total = 0;
    this.#min = Infinity;
    this.#max = 0;
    return snapshot;
  }
}

/** How often something happened. */
export class Counter {
  #value = 0;

  /** Counts several. */
  add(count: number): void {
    this.#value += count;
  }

  /** Counts one. */
  inc(): void {
    this.#value++;
  }

  /** What was counted since the last flush. */
  peek(): number {
    return this.#value;
  }

  /** The same, and starts anew. */
  flush(): number {
    const value = this.#value;
    this.#value = 0;
    return value;
  }
}

/** What a sender records with the option `timings`. */
export class SenderTimings {
  /** One record per update: its whole dispatch, encoding, matching and all rings, also where nobody wants it. */
  readonly dispatch: Latency = new Latency();
  /**
   * One record per frame that a ring took: from before the encoding until it was there and, outside a batch, its consumer
   * woken. The start is shared, as in the original, and here so is the end: all rings are written in one call.
   */
  readonly shm_send: Latency = new Latency();
  /** Consumers that were ended because their ring was full. */
  readonly shm_ring_full: Counter = new Counter();

  /** @internal */
  recordSends(us: number, count: number): void {
    for (let i = 0; i < count; i++) this.shm_send.record(us);
  }
}
