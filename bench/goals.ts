/**
 * The goals that this project set itself, as ratios within one run, and whether a run met them.
 * May touch: its arguments.
 *
 * @module
 */

import type { BenchRecord } from "./record.ts";

interface Goal {
  readonly text: string;
  /** What to look at. */
  readonly records: RegExp;
  /** The figure that counts, from such a record. */
  readonly figure: (record: BenchRecord) => number;
  readonly atLeast?: number;
  readonly atMost?: number;
}

const speed = ({ ratio }: BenchRecord) => 1 / ratio!;
const ratio = (record: BenchRecord) => record.ratio!;

const GOALS: readonly Goal[] = [
  {
    text: "consumer at 165 B: speed of the Zig consumer",
    records: /^ring 165 B by 256, (\w+) to \1, consumer$/,
    figure: speed,
    atLeast: 0.7,
  },
  {
    text: "consumer from 4 KiB on: speed of the Zig consumer",
    records: /^ring (10 KiB|1 MiB) one by one, (\w+) to \2, consumer$/,
    figure: speed,
    atLeast: 0.95,
  },
  {
    text: "drained at 165 B, million frames per second",
    records: /^ring 165 B by 256, (\w+) to \1, consumer$/,
    figure: ({ value }) => 1000 / value,
    atLeast: 10,
  },
  {
    text: "spinning, median one way, against Zig to Zig",
    records: /^latency spin, gap 300 µs, (\w+) to \1, from the frame's time p50$/,
    figure: ratio,
    atMost: 2,
  },
  {
    text: "the same in a loop around `poll`",
    records: /^latency poll, gap 300 µs, (\w+) to \1, from the frame's time p50$/,
    figure: ratio,
    atMost: 2,
  },
  {
    text: "parked, median one way, against poll on a pipe",
    records: /^latency park, gap 300 µs, bun to bun p50$/,
    figure: ratio,
    atMost: 2,
  },
  {
    text: "parked, median one way, against poll on a pipe",
    records: /^latency park, gap 300 µs, deno to deno p50$/,
    figure: ratio,
    atMost: 3.5,
  },
  {
    text: "end to end from 4 KiB on, against memcpy over 64 MiB",
    records: /^ring .* one by one, (\w+) to \1, end to end against memcpy$/,
    figure: ratio,
    atLeast: 0.8,
  },
  {
    text: "push into the original's ring: speed of the crate",
    records: /^v9 (18 B|1 KiB|10 KiB|1 MiB), (\w+) to \2, push$/,
    figure: speed,
    atLeast: 3,
  },
  {
    text: "the same at 165 B",
    records: /^v9 165 B, (\w+) to \1, push$/,
    figure: speed,
    atLeast: 1.5,
  },
  {
    text: "pop from the original's ring: speed of the crate",
    records: /^v9 (18 B|1 KiB|10 KiB|1 MiB), (\w+) to \2, pop$/,
    figure: speed,
    atLeast: 3,
  },
  {
    text: "the same at 165 B",
    records: /^v9 165 B, (\w+) to \1, pop$/,
    figure: speed,
    atLeast: 1.5,
  },
  {
    text: "Rust and TypeScript, end to end, against the same crate side alone",
    records: /^v9 .*, (rust to (deno|bun)|(deno|bun) to rust), end to end$/,
    figure: ratio,
    atLeast: 0.95,
  },
];

/** One row for each record that a goal is about: goal, record, bound, figure, verdict. */
export function rowsFromGoals(records: readonly BenchRecord[]): string[][] {
  return GOALS.flatMap(({ text, records: pattern, figure, atLeast, atMost }) =>
    records.filter(({ name, ratio }) => pattern.test(name) && ratio !== undefined).map((record) => {
      const found = figure(record);
      const isMet = found >= (atLeast ?? -Infinity) && found <= (atMost ?? Infinity);
      const bound = atLeast === undefined ? `≤ ${atMost}` : `≥ ${atLeast}`;
      return [text, record.name, bound, found.toPrecision(3), isMet ? "met" : "missed"];
    })
  );
}
