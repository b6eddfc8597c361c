/**
 * Question: what does the Rust original's ring cost: our push and pop against the crate's, for bodies of 18 B (slots) to
 * 1 MiB (accounts)? Unit: ns per frame for each side alone, M frames/s (GB/s from 4 KiB on) end to end.
 * Rivals: the crate shaq 3.0.0 as the original uses it, from Rust to Rust; the same with buffers that are kept; for pairs
 * of Rust and TypeScript, what the side in Rust does alone.
 * One side alone is measured in time of its thread, since what else runs on its core is no cost of a push. Both together
 * take real time, and are compared with real time. All pairs take turns, several rounds of them, so that a ratio is made
 * of neighbours.
 *
 * @module
 */

import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import type { Bench, BenchContext } from "./bench.ts";
import { peersProgram } from "./native_programs.ts";
import { type BenchRecord, compared, recordFromRuns } from "./record.ts";
import { rateRecord, sizeName, SIZES } from "./ring_throughput.ts";
import { type Runtime, RUNTIMES, Workers } from "./worker.ts";
import { CAPACITY, PREFIX, type V9ConsumerResult, type V9ProducerResult, type V9Task } from "./workers/v9_task.ts";
import { WARM_UP_RUNS } from "./workers/v9_task.ts";

const SIZES_QUICK: readonly number[] = [165];
/** Of each of the rounds. */
const RUNS = 3;
const ROUNDS = 3;
const RUNS_QUICK = 5;
/** Less than the ring's room. */
const FILL_BYTES = 48 * 1024 * 1024;
const FILL_FRAMES_MAX = 1_000_000;
/** More than the ring's room, or what it holds of earlier would count as fast. */
const STREAM_BYTES = 80 * 1024 * 1024;
/** A sign of life needs less of all. */
const QUICK_PART = 10;
/** Of one signal. */
const BATCH_BYTES_MAX = 1024 * 1024;
const BATCH_MAX = 256;

/** The crate as the original uses it, the crate with buffers that are kept, or ours. */
type Side = "rust" | "lean" | Runtime;
type Pair = readonly [producer: Side, consumer: Side];

const ALONE: readonly Pair[] = [["rust", "rust"], ["lean", "lean"], ...RUNTIMES.map((ours): Pair => [ours, ours])];
const MIXED: readonly Pair[] = RUNTIMES.flatMap((ours): Pair[] => [["rust", ours], [ours, "rust"]]);

/** What was found of one pair, in all rounds. */
type Found = { readonly [Key in keyof (V9ProducerResult & V9ConsumerResult)]: number[] };

async function* run(context: BenchContext): AsyncGenerator<BenchRecord> {
  const program = peersProgram(context.quick);
  if ("missing" in program) return context.note(`v9: nothing to compare with: ${program.missing}`);
  // Files elsewhere may be written to a disk.
  const parent = existsSync("/dev/shm") ? "/dev/shm" : context.directory;
  const directory = mkdtempSync(join(parent, "qlaster-bench-v9-"));
  const remove = () => rmSync(directory, { recursive: true, force: true });
  process.once("exit", remove); // a command that is interrupted comes to no `finally`
  try {
    for (const bytes of context.quick ? SIZES_QUICK : SIZES) {
      context.note(`v9: ${sizeName(bytes)}`);
      const found = await measureSize(program.path, directory, bytes, context.quick);
      yield* sizeRecords(found, bytes);
    }
  } finally {
    process.off("exit", remove);
    remove();
  }
}

function planOf(bytes: number, quick: boolean): Omit<V9Task, "directory"> {
  const part = quick ? QUICK_PART : 1;
  const frames = (total: number) => Math.floor(total / (PREFIX + bytes) / part);
  return {
    bytes,
    fillFrames: Math.min(FILL_FRAMES_MAX, frames(FILL_BYTES)),
    streamFrames: frames(STREAM_BYTES),
    runs: quick ? RUNS_QUICK : RUNS,
    batch: Math.max(1, Math.min(BATCH_MAX, Math.floor(BATCH_BYTES_MAX / bytes))),
  };
}

/** All pairs by their names. */
async function measureSize(
  program: string,
  directory: string,
  bytes: number,
  quick: boolean,
): Promise<Map<string, Found>> {
  const found = new Map<string, Found>();
  for (let round = 0; round < (quick ? 1 : ROUNDS); round++) {
    for (const pair of quick ? ALONE : [...ALONE, ...MIXED]) {
      const task = { ...planOf(bytes, quick), directory: join(directory, "pair") };
      mkdirSync(task.directory);
      try {
        const result = await measurePair(program, pair, task);
        const all = found.get(pairName(pair)) ?? nothing();
        found.set(pairName(pair), all);
        for (const key of Object.keys(all) as (keyof Found)[]) all[key].push(...result[key]);
      } finally {
        rmSync(task.directory, { recursive: true });
      }
    }
  }
  return found;
}

function nothing(): Found {
  return { fillNs: [], fillWallNs: [], drainNs: [], drainWallNs: [], streamNs: [] };
}

function pairName([producer, consumer]: Pair): string {
  return `${producer} to ${consumer}`;
}

async function measurePair(
  program: string,
  [producer, consumer]: Pair,
  task: V9Task,
): Promise<V9ProducerResult & V9ConsumerResult> {
  await using workers = new Workers();
  const start = <Result>(side: Side, verb: string, file: string, core: 0 | 1): Promise<Result> => {
    if (side !== "rust" && side !== "lean") return workers.start<Result>(side, file, task, core);
    const { directory, bytes, fillFrames, streamFrames, runs } = task;
    const numbers = [bytes, fillFrames, streamFrames, WARM_UP_RUNS, runs].map(String);
    const manner = side === "lean" ? "lean" : "original";
    // It pins itself.
    return workers.run<Result>(`shaq ${verb}`, [program, "v9", verb, manner, directory, ...numbers]);
  };
  const [made, read] = await Promise.all([
    start<V9ProducerResult>(producer, "produce", "v9_producer.ts", 0),
    start<V9ConsumerResult>(consumer, "consume", "v9_consumer.ts", 1),
  ]);
  return { ...made, ...read };
}

function* sizeRecords(found: ReadonlyMap<string, Found>, bytes: number): Generator<BenchRecord> {
  const rust = pairRecords(found, ["rust", "rust"], bytes);
  const lean = pairRecords(found, ["lean", "lean"], bytes);
  yield* Object.values(rust);
  yield* Object.values(lean);
  for (const runtime of RUNTIMES) {
    const ours = pairRecords(found, [runtime, runtime], bytes);
    for (const what of ["push", "pop", "both"] as const) {
      yield compared(ours[what], rust[what]);
      yield compared({ ...ours[what], name: `${ours[what].name} against kept buffers` }, lean[what]);
    }
  }
  for (const pair of MIXED) {
    const result = found.get(pairName(pair));
    if (result === undefined) continue;
    const { both } = pairRecords(found, pair, bytes);
    const [alone, side] = pair[0] === "rust" ? [result.fillWallNs, "producer"] : [result.drainWallNs, "consumer"];
    const limit = rateRecord(`v9 ${sizeName(bytes)}, ${pairName(pair)}, the crate's ${side} alone`, bytes, alone);
    yield limit;
    yield compared(both, limit);
    yield compared({ ...both, name: `${both.name} against rust to rust` }, rust.both);
  }
}

function pairRecords(found: ReadonlyMap<string, Found>, pair: Pair, bytes: number) {
  const { fillNs, drainNs, streamNs } = found.get(pairName(pair))!;
  const name = (what: string) => `v9 ${sizeName(bytes)}, ${pairName(pair)}, ${what}`;
  const conditions = { bytes, ringBytes: CAPACITY };
  return {
    push: recordFromRuns(name("push"), "ns", fillNs, conditions),
    pop: recordFromRuns(name("pop"), "ns", drainNs, conditions),
    both: rateRecord(name("end to end"), bytes, streamNs, conditions),
  };
}

export const v9Ring: Bench = {
  name: "v9",
  question: "What does the Rust original's ring cost: our push and pop against the crate's?",
  run,
};
