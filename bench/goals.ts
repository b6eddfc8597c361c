/**
 * The goals that this project set itself, as ratios within one run where that is possible, and whether a run met them.
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
const value = (record: BenchRecord) => record.value;

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
  {
    text: "million deliveries per second and core, native",
    records: /^fanout 10 consumers, 165 B in the ring, zig .*, deliveries$/,
    figure: value,
    atLeast: 20,
  },
  {
    text: "million deliveries per second and core, from objects",
    records: /^fanout 10 consumers, 165 B in the ring, (deno|bun) .*, deliveries$/,
    figure: value,
    atLeast: 10,
  },
  {
    text: "fan-out end to end, of what the slower side allows",
    records: /^fanout .*, end to end, of what the slower side allows$/,
    figure: value,
    atLeast: 0.8,
  },
  {
    text: "ns for each further consumer, 165 B",
    records: /^fanout 165 B in rings of 256 KiB, each further of/,
    figure: value,
    atMost: 29,
  },
  {
    text: "the same by reference, within 20 % of 1 KiB",
    records: /^fanout .* in the pool, each further of/,
    figure: ratio,
    atLeast: 0.8, // flat is flat: a consumer that costs less than nothing says that the figure is noise
    atMost: 1.2,
  },
  {
    text: "ns more for a million keys, nobody matches",
    records: /^fanout an update that nobody matches, (by publishMany|deno|bun).*, difference$/,
    figure: value,
    atMost: 50,
  },
  {
    text: "ns more for a million keys, one matches",
    records: /^fanout an update that one matches(?: and that is remembered)?, (by publishMany|deno|bun).*, difference$/,
    figure: value,
    atMost: 150,
  },
  {
    text: "firehose, sender's part of a core in %",
    records: /^load firehose .*, sender's load$/,
    figure: value,
    atMost: 10,
  },
  {
    text: "firehose, a consumer's part of a core in %",
    records: /^load firehose .*, a consumer's load$/,
    figure: value,
    atMost: 2,
  },
  {
    text: "firehose, p99 against the kernel's wake-ups",
    records: /^load firehose .*, p99$/,
    figure: ratio,
    atMost: 3,
  },
  {
    text: "firehose, p99 against as many sockets in the same runtime",
    records: /^load firehose .*, p99 beside sockets$/,
    figure: ratio,
    atMost: 3,
  },
  { text: "whole feed and a slot at once, lost", records: /^load feed .*, lost$/, figure: value, atMost: 0 },
  {
    text: "KiB resident of an idle consumer, at both ends",
    records: /^load .* idle consumers .*, resident of each, in all$/,
    figure: value,
    atMost: 64,
  },
];

/** One row for each record that a goal is about: goal, record, bound, figure, verdict. */
export function rowsFromGoals(records: readonly BenchRecord[]): string[][] {
  return GOALS.flatMap(({ text, records: pattern, figure, atLeast, atMost }) =>
    records.filter((record) => pattern.test(record.name) && Number.isFinite(figure(record))).map((record) => {
      const found = figure(record);
      const isMet = found >= (atLeast ?? -Infinity) && found <= (atMost ?? Infinity);
      return [text, record.name, boundOf({ atLeast, atMost }), found.toPrecision(3), isMet ? "met" : "missed"];
    })
  );
}

function boundOf({ atLeast, atMost }: Pick<Goal, "atLeast" | "atMost">): string {
  if (atMost === undefined) return `≥ ${atLeast}`;
  return atLeast === undefined ? `≤ ${atMost}` : `${atLeast} … ${atMost}`;
}
