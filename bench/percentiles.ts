/**
 * Percentiles of latencies in nanoseconds, as a whole and by run.
 * May touch: its arguments. May not touch: clocks.
 * Why a histogram: it keeps three digits from 1 ns to a minute, and recording allocates nothing.
 *
 * @module
 */

import { build, type Histogram } from "hdr-histogram-js";

/** All in nanoseconds. */
export interface Percentiles {
  readonly samples: number;
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
  /** The median of each run. */
  readonly p50Runs: readonly number[];
}

const NS_MAX = 60e9;

function histogram(): Histogram {
  return build({ lowestDiscernibleValue: 1, highestTrackableValue: NS_MAX, numberOfSignificantValueDigits: 3 });
}

/** Latencies are spread over this many runs, one after the other. */
export const RUNS = 5;

/** Collects a known number of samples. */
export class LatencyRecorder {
  readonly #all = histogram();
  readonly #runs = Array.from({ length: RUNS }, histogram);
  readonly #samplesPerRun: number;
  #samples = 0;

  constructor(samples: number) {
    this.#samplesPerRun = Math.ceil(samples / RUNS);
  }

  /** Clocks of two cores may disagree by a few nanoseconds: what is below one counts as one. */
  record(ns: number): void {
    const value = Math.min(NS_MAX, Math.max(1, Math.round(ns)));
    this.#all.recordValue(value);
    this.#runs[Math.floor(this.#samples++ / this.#samplesPerRun)]!.recordValue(value);
  }

  percentiles(): Percentiles {
    return {
      samples: this.#samples,
      p50: this.#all.getValueAtPercentile(50),
      p99: this.#all.getValueAtPercentile(99),
      p999: this.#all.getValueAtPercentile(99.9),
      max: this.#all.maxValue,
      p50Runs: this.#runs.filter(({ totalCount }) => totalCount > 0).map((run) => run.getValueAtPercentile(50)),
    };
  }
}

/** The percentiles of samples that were collected elsewhere. */
export function percentilesOf(samples: readonly number[]): Percentiles {
  const recorder = new LatencyRecorder(samples.length);
  for (const sample of samples) recorder.record(sample);
  return recorder.percentiles();
}
