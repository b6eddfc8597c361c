/**
 * What a bench finds out: one record per figure.
 * May touch: its arguments.
 * May not touch: processes, files. Who measures is the bench; who prints is report.ts.
 *
 * @module
 */

import type { Percentiles } from "./percentiles.ts";

/** Under what circumstances a figure holds: whatever a reader needs to believe it, or to get it again. */
export type Conditions = Readonly<Record<string, string | number | boolean>>;

/** One figure. The value is the median of the runs, or of the samples for a latency. */
export interface BenchRecord {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** The name of the record that this one is compared with, from the same run. */
  readonly peer?: string;
  /** This value divided by the peer's. */
  readonly ratio?: number;
  readonly conditions: Conditions;
}

/** A record with its peer and ratio, if the peer was measured in this run. */
export function compared(record: BenchRecord, peer: BenchRecord | undefined): BenchRecord {
  if (peer === undefined) return record;
  return { ...record, peer: peer.name, ratio: round(record.value / peer.value) };
}

/** The median of repeated runs, with the best and the worst in the conditions. */
export function recordFromRuns(
  name: string,
  unit: string,
  runs: readonly number[],
  conditions: Conditions = {},
): BenchRecord {
  const sorted = runs.toSorted((a, b) => a - b);
  if (sorted.length === 0) throw new Error(`No run of "${name}" was measured`);
  const spread = { runs: sorted.length, min: round(sorted[0]!), max: round(sorted.at(-1)!) };
  return { name, unit, value: round(median(sorted)), conditions: { ...conditions, ...spread } };
}

/** The median latency, with the higher percentiles in the conditions as far as there were enough samples for them. */
export function recordFromPercentiles(name: string, found: Percentiles, conditions: Conditions = {}): BenchRecord {
  const { samples, p50Runs, p99, p999, max } = found;
  const high = { p99: microseconds(p99), ...(samples >= 10_000 && { p999: microseconds(p999) }) };
  return {
    name: `${name} p50`,
    unit: "µs",
    value: microseconds(found.p50),
    conditions: {
      ...conditions,
      samples,
      runs: p50Runs.length,
      min: microseconds(Math.min(...p50Runs)),
      max: microseconds(Math.max(...p50Runs)),
      ...(samples >= 1000 && high),
      highest: microseconds(max),
    },
  };
}

function microseconds(ns: number): number {
  return round(ns / 1000);
}

function median(sorted: readonly number[]): number {
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Four digits: more than any of these figures can be relied on. */
function round(value: number): number {
  return Number(value.toPrecision(4));
}
