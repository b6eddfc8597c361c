/**
 * Durations in the buckets of the stat page: four for each power of two nanoseconds, so that a percentile is off by less
 * than a fifth.
 * May touch: its own numbers. May not touch: clocks.
 *
 * @module
 */

import { LATENCY_BUCKETS, LATENCY_SHIFT_MIN } from "../native/abi.generated.ts";

/** The least duration that counts in the bucket behind `index`, in nanoseconds: the upper bound of the bucket at it. */
export function bucketEndNs(index: number): number {
  const next = index + 1;
  return (4 + (next % 4)) * 2 ** (LATENCY_SHIFT_MIN - 2 + Math.floor(next / 4));
}

/** How often something took how long. */
export class Histogram {
  /** By bucket. */
  readonly counts: readonly number[];
  /** Of all. */
  readonly count: number;

  /** Of counts, one for each bucket. */
  constructor(counts: readonly number[]) {
    this.counts = counts;
    this.count = counts.reduce((sum, count) => sum + count, 0);
  }

  /** What came since `earlier`. A consumer that began anew has its own. */
  since(earlier: Histogram): Histogram {
    return new Histogram(this.counts.map((count, i) => Math.max(0, count - earlier.counts[i]!)));
  }

  /** Both together. */
  plus(other: Histogram): Histogram {
    return new Histogram(this.counts.map((count, i) => count + other.counts[i]!));
  }

  /**
   * What that share of all did not exceed.
   * @param share From 0 to 1.
   * @returns Microseconds, the upper bound of a bucket; 0 if there is none.
   */
  percentileUs(share: number): number {
    if (this.count === 0) return 0;
    let left = share * this.count;
    for (let i = 0; i < this.counts.length; i++) {
      left -= this.counts[i]!;
      if (left <= 0 && this.counts[i]! > 0) return bucketEndNs(i) / 1000;
    }
    return bucketEndNs(this.counts.length - 1) / 1000;
  }

  /** None. */
  static get empty(): Histogram {
    return new Histogram(new Array<number>(LATENCY_BUCKETS).fill(0));
  }
}
