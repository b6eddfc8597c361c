/**
 * Question: what does one account update cost its producer, its consumer, and both together, from TypeScript to
 * TypeScript? Unit: ns per update for each side alone, M updates/s (GB/s from 4 KiB on) end to end.
 * Rivals: the same from Zig to Zig on the same ring; libc's memcpy for what is bound by memory.
 *
 * @module
 */

import { join } from "node:path";
import type { Bench, BenchContext } from "./bench.ts";
import { floorProgram } from "./native_programs.ts";
import { type BenchRecord, compared, recordFromRuns } from "./record.ts";
import { pairs, type Runtime, Workers } from "./worker.ts";
import type { ConsumerResult, ProducerResult, ThroughputTask } from "./workers/throughput_plan.ts";

/** Bytes of account data. */
export const SIZES: readonly number[] = [18, 165, 1024, 10 * 1024, 1024 * 1024];
const SIZES_QUICK: readonly number[] = [165];
const RUNS = 7;
const RUNS_QUICK = 5;
/** From here on bytes per second say more than messages per second. */
const BULK_MIN = 4096;
/** Bytes of data in one batch. */
const BATCH_BYTES_MAX = 1024 * 1024;
const BATCH_MAX = 256;

/** Tells how fast messages of this size pass, in the unit that suits it. */
export function rateRecord(name: string, bytes: number, nsPerMessage: readonly number[], conditions = {}): BenchRecord {
  const isBulk = bytes >= BULK_MIN;
  const rates = nsPerMessage.map((ns) => isBulk ? bytes / ns : 1000 / ns);
  return recordFromRuns(name, isBulk ? "GB/s" : "M/s", rates, { bytes, ...conditions });
}

/** How sizes are written in names. */
export function sizeName(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 1024 * 1024 ? `${bytes / 1024} KiB` : `${bytes / 1024 / 1024} MiB`;
}

type FloorResult = ProducerResult & ConsumerResult;

async function* run(context: BenchContext): AsyncGenerator<BenchRecord> {
  const runs = context.quick ? RUNS_QUICK : RUNS;
  for (const bytes of context.quick ? SIZES_QUICK : SIZES) {
    const memcpy = bytes >= BULK_MIN ? await memcpyFloor(context, bytes, runs) : undefined;
    if (memcpy !== undefined) yield memcpy;
    const batchMax = Math.max(1, Math.min(BATCH_MAX, Math.floor(BATCH_BYTES_MAX / bytes)));
    for (const batch of context.quick ? [batchMax] : new Set([1, batchMax])) {
      yield* size(context, bytes, batch, runs, memcpy);
    }
  }
}

async function* size(
  context: BenchContext,
  bytes: number,
  batch: number,
  runs: number,
  memcpy: BenchRecord | undefined,
): AsyncGenerator<BenchRecord> {
  const floor = await floorRecords(context, bytes, batch, runs);
  yield* floor?.values() ?? [];
  for (const [producer, consumer] of pairs(!context.quick)) {
    context.note(`ring throughput: ${sizeName(bytes)}, batches of ${batch}, ${producer} to ${consumer}`);
    const result = await measurePair(context, producer, consumer, bytes, batch, runs);
    for (const [side, record] of recordsOf(`${producer} to ${consumer}`, result, bytes, batch)) {
      yield compared(record, floor?.get(side));
      if (side === "end to end" && memcpy !== undefined) {
        yield compared({ ...record, name: `${record.name} against memcpy` }, memcpy);
      }
    }
  }
}

/** Runs one producer and one consumer through all phases. */
export async function measurePair(
  context: BenchContext,
  producer: Runtime,
  consumer: Runtime,
  bytes: number,
  batch: number,
  runs: number,
): Promise<ProducerResult & ConsumerResult> {
  await using workers = new Workers();
  const task: ThroughputTask = { path: join(context.directory, "throughput.sock"), bytes, batch, runs };
  const [made, read] = await Promise.all([
    workers.start<ProducerResult>(producer, "ring_producer.ts", task, 0),
    workers.start<ConsumerResult>(consumer, "ring_consumer.ts", task, 1),
  ]);
  return { ...made, ...read };
}

function recordsOf(pair: string, result: FloorResult, bytes: number, batch: number): Map<string, BenchRecord> {
  const how = batch === 1 ? "one by one" : `by ${batch}`;
  const name = (side: string) => `ring ${sizeName(bytes)} ${how}, ${pair}, ${side}`;
  const conditions = { bytes, batch, ringBytes: 64 * 1024 * 1024 };
  return new Map([
    ["producer", recordFromRuns(name("producer"), "ns", result.fillNs, conditions)],
    ["consumer", recordFromRuns(name("consumer"), "ns", result.drainNs, conditions)],
    ["end to end", rateRecord(name("end to end"), bytes, result.streamNs, conditions)],
  ]);
}

async function floorRecords(
  { note, quick }: BenchContext,
  bytes: number,
  batch: number,
  runs: number,
): Promise<Map<string, BenchRecord> | undefined> {
  const program = floorProgram(quick);
  if ("missing" in program) return void note(`ring throughput: no floor, ${program.missing}`);
  await using workers = new Workers();
  const args = [bytes, batch, runs].map(String);
  const result = await workers.run<FloorResult>("floor", [program.path, "throughput", ...args]);
  return recordsOf("zig to zig", result, bytes, batch);
}

async function memcpyFloor({ quick }: BenchContext, bytes: number, runs: number): Promise<BenchRecord | undefined> {
  const program = floorProgram(quick);
  if ("missing" in program) return undefined;
  await using workers = new Workers();
  const { copyNs } = await workers.run<{ copyNs: number[] }>("floor", [program.path, "memcpy", `${bytes}`, `${runs}`]);
  return rateRecord(`memcpy ${sizeName(bytes)} over 64 MiB, touched`, bytes, copyNs);
}

export const ringThroughput: Bench = {
  name: "throughput",
  question: "What does an update cost its producer, its consumer, and how many pass end to end?",
  run,
};
