/**
 * How late updates come, while a process is young and afterwards: a runtime compiles what is called often, on threads that
 * here share the core of all consumers.
 * May touch: the clock.
 *
 * @module
 */

import { nowNs } from "../clock.ts";
import { LatencyRecorder } from "../percentiles.ts";
import { type LoadSocketsResult, WARM_UP_SECONDS } from "./load_task.ts";

/** Roughly: a share of the accounts has about that share of the updates. */
const SAMPLES = 1_000_000;

/** Records nanoseconds. */
export class LoadLatency {
  readonly #first = new LatencyRecorder(SAMPLES);
  readonly #steady = new LatencyRecorder(SAMPLES);
  #started = 0;

  /** @param ns From the update's time until now. */
  record(ns: number): void {
    if (this.#started === 0) this.#started = nowNs();
    const isFirst = nowNs() - this.#started < WARM_UP_SECONDS * 1e9;
    (isFirst ? this.#first : this.#steady).record(ns);
  }

  result(): LoadSocketsResult {
    const { p50, p99 } = this.#steady.percentiles();
    return { p50: p50 / 1000, p99: p99 / 1000, firstP99: this.#first.percentiles().p99 / 1000 };
  }
}
