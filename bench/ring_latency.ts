/**
 * Question: how long from `publishAccount` to the loop of a consumer that waits, by strategy and by gap? Unit: µs.
 * Rivals: Zig to Zig on the same ring (spinning; parked in `poll`), and the kernel alone: a message through a pipe and
 * through a socket pair, `poll` and `read`. A gap is the time between messages: the longer, the colder the core.
 *
 * @module
 */

import { join } from "node:path";
import { IDLE_STRATEGIES } from "../src/stream/idle.ts";
import type { Bench, BenchContext } from "./bench.ts";
import { floorProgram } from "./native_programs.ts";
import { type Percentiles, percentilesOf } from "./percentiles.ts";
import { type BenchRecord, compared, recordFromPercentiles } from "./record.ts";
import { pairs, type Runtime, Workers } from "./worker.ts";
import type { LatencyTask, Waiting } from "./workers/latency_task.ts";

/** Microseconds between messages, and how many messages: a minute for everything of one gap. */
const GAPS: readonly (readonly [gapUs: number, samples: number])[] = [
  [20, 50_000],
  [300, 10_000],
  [2000, 2000],
  [50_000, 100],
];
/** `poll` stands for a loop around it: what a program does that spins for itself. */
const WAITING: readonly Waiting[] = [...IDLE_STRATEGIES, "poll"];
const WAITING_QUICK: readonly Waiting[] = ["park", "spin", "poll"];
const GAPS_QUICK: typeof GAPS = [[300, 300]];
/** The gap at which each runtime is also measured against the other one. */
const MIXED_GAP_US = 300;
/** Bytes of account data. */
export const BYTES = 165;

type Floors = ReadonlyMap<string, BenchRecord>;

async function* run(context: BenchContext): AsyncGenerator<BenchRecord> {
  for (const [gapUs, samples] of context.quick ? GAPS_QUICK : GAPS) {
    const floors = await floorsOf(context, gapUs, samples);
    yield* floors.values();
    for (const [sender, consumer] of pairs(gapUs === MIXED_GAP_US && !context.quick)) {
      for (const waiting of context.quick ? WAITING_QUICK : WAITING) {
        context.note(`ring latency: ${waiting}, gap ${gapName(gapUs)}, ${sender} to ${consumer}`);
        const found = await measure(context, sender, consumer, waiting, gapUs, samples);
        const name = `latency ${waiting}, gap ${gapName(gapUs)}, ${sender} to ${consumer}`;
        const conditions = { waiting, gapUs, bytes: BYTES, parks: found.parks };
        // What may sleep is compared with what sleeps.
        const floor = floors.get(waiting === "park" || waiting === "adaptive" ? "pipe" : "spin");
        yield compared(recordFromPercentiles(name, found.fromCall, conditions), floor);
        yield compared(recordFromPercentiles(`${name}, from the frame's time`, found.fromFrame, conditions), floor);
      }
    }
  }
}

/** How gaps are written in names. */
export function gapName(gapUs: number): string {
  return gapUs < 1000 ? `${gapUs} µs` : `${gapUs / 1000} ms`;
}

/** Both from the same messages. */
export interface RingLatency {
  /** From just before `publishAccount`. */
  readonly fromCall: Percentiles;
  /** From the frame's own time. */
  readonly fromFrame: Percentiles;
  readonly parks: number;
}

/** Runs one sender and one consumer. */
export async function measure(
  { directory }: BenchContext,
  sender: Runtime,
  consumer: Runtime,
  waiting: Waiting,
  gapUs: number,
  samples: number,
): Promise<RingLatency> {
  await using workers = new Workers();
  const task: LatencyTask = { path: join(directory, "latency.sock"), bytes: BYTES, waiting, gapUs, samples };
  const [, found] = await Promise.all([
    workers.start(sender, "ring_latency_sender.ts", task, 0),
    workers.start<RingLatency>(consumer, "ring_latency_consumer.ts", task, 1),
  ]);
  return found;
}

async function floorsOf(context: BenchContext, gapUs: number, samples: number): Promise<Floors> {
  const program = floorProgram(context.quick);
  if ("missing" in program) {
    context.note(`ring latency: no floors, ${program.missing}`);
    return new Map();
  }
  const floors: readonly (readonly [key: string, name: string, args: readonly string[]])[] = [
    ["spin", "ring spin, zig to zig", ["ring-latency", "spin"]],
    ["park", "ring park in poll, zig to zig", ["ring-latency", "park"]],
    ["pipe", "message in a pipe, poll and read, no runtime", ["pipe-latency"]],
    ["pair", "message in a socket pair, poll and read, no runtime", ["pair-latency"]],
  ];
  const records = new Map<string, BenchRecord>();
  for (const [key, name, args] of floors) {
    await using workers = new Workers();
    const command = [program.path, ...args, `${gapUs}`, `${samples}`];
    const found = await workers.run<{ samples: number[] }>("floor", command);
    const full = `latency ${name}, gap ${gapName(gapUs)}`;
    records.set(key, recordFromPercentiles(full, percentilesOf(found.samples), { gapUs, bytes: BYTES }));
  }
  return records;
}

export const ringLatency: Bench = {
  name: "latency",
  question: "How long from publishing to a consumer that spins, yields, parks, or adapts, when messages are rare?",
  run,
};
