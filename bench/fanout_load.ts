/**
 * Question: what does a firehose cost a sender and consumers that park, does a burst get lost, and how much memory does an
 * idle consumer take? Unit: parts of a core in %, µs, ns per update, KiB.
 * Rivals: the kernel's own wake-ups of the same run, through a socket pair, without a runtime; and as many processes of the
 * same runtime, woken by a plain Unix socket each.
 * The sender has the first core, all consumers share the second.
 *
 * @module
 */

import { join } from "node:path";
import type { Bench, BenchContext } from "./bench.ts";
import { floorProgram } from "./native_programs.ts";
import { percentilesOf } from "./percentiles.ts";
import { type BenchRecord, compared, recordFromRuns } from "./record.ts";
import { type Runtime, RUNTIMES, Workers } from "./worker.ts";
import {
  type IdleResult,
  type IdleTask,
  type LoadConsumerResult,
  type LoadSenderResult,
  type LoadSocketsResult,
  type LoadTask,
  WARM_UP_SECONDS,
} from "./workers/load_task.ts";

const ROUNDS = 3;
/** Of a stream. */
const SECONDS = 5 + WARM_UP_SECONDS;
const IDLE_CONSUMERS = 1024;
const IDLE_PROCESSES = 8;
const IDLE_CONSUMERS_QUICK = 64;
const FLOOR_SAMPLES = 1000;
/** A consumer that wants 1 % of 25,000 a second is woken that often. */
const FLOOR_GAP_US = 4000;

async function* run(context: BenchContext): AsyncGenerator<BenchRecord> {
  const floor = await floorRecord(context);
  if (floor !== undefined) yield floor;
  for (const runtime of RUNTIMES) {
    yield* firehose(context, runtime, floor);
    yield* feed(context, runtime);
    yield* idle(context, runtime);
  }
}

async function floorRecord(context: BenchContext): Promise<BenchRecord | undefined> {
  const program = floorProgram(context.quick);
  if ("missing" in program) return void context.note(`load: no floor, ${program.missing}`);
  const p99: number[] = [];
  for (let round = 0; round < (context.quick ? 1 : ROUNDS); round++) {
    await using workers = new Workers();
    const args = ["pair-latency", `${FLOOR_GAP_US}`, `${FLOOR_SAMPLES}`];
    const { samples } = await workers.run<{ samples: number[] }>("floor", [program.path, ...args]);
    p99.push(percentilesOf(samples).p99 / 1000);
  }
  return recordFromRuns("load a byte through a socket pair, poll and read, no runtime, p99", "µs", p99);
}

interface Round {
  readonly sender: LoadSenderResult;
  readonly consumers: readonly LoadConsumerResult[];
}

async function rounds(
  context: BenchContext,
  runtime: Runtime,
  name: string,
  task: Omit<LoadTask, "path">,
): Promise<Round[]> {
  const found: Round[] = [];
  for (let round = 0; round < (context.quick ? 1 : ROUNDS); round++) {
    context.note(`load: ${name}, round ${round + 1}`);
    await using workers = new Workers();
    const whole: LoadTask = { path: join(context.directory, `load-${runtime}-${name.length}-${round}.sock`), ...task };
    const [sender, ...consumers] = await Promise.all([
      workers.start<LoadSenderResult>(runtime, "load_sender.ts", whole, 0),
      ...Array.from(
        { length: task.consumers },
        (_, number) => workers.start<LoadConsumerResult>(runtime, "load_consumer.ts", { ...whole, number }, 1),
      ),
    ]);
    found.push({ sender, consumers });
  }
  return found;
}

const FIREHOSE = { perSecond: 25_000, seconds: SECONDS, consumers: 10, mix: "7.3 KB", wanted: 10, burst: 0 } as const;

/** The same updates' times alone, to as many processes of that runtime. */
async function* sockets(context: BenchContext, runtime: Runtime): AsyncGenerator<BenchRecord, BenchRecord> {
  const name = `load as many sockets without content, ${runtime}`;
  const found: LoadSocketsResult[] = [];
  for (let round = 0; round < (context.quick ? 1 : ROUNDS); round++) {
    context.note(`load: ${name}, round ${round + 1}`);
    await using workers = new Workers();
    const task: LoadTask = { path: join(context.directory, `sockets-${runtime}-${round}.sock`), ...FIREHOSE };
    const [, ...receivers] = await Promise.all([
      workers.start(runtime, "load_sockets.ts", { ...task, role: "send" }, 0),
      ...Array.from(
        { length: task.consumers },
        () => workers.start<LoadSocketsResult>(runtime, "load_sockets.ts", { ...task, role: "receive" }, 1),
      ),
    ]);
    found.push(...receivers);
  }
  yield recordFromRuns(`${name}, p50`, "µs", found.map(({ p50 }) => p50));
  const p99 = recordFromRuns(`${name}, p99`, "µs", found.map(({ p99 }) => p99));
  yield p99;
  yield recordFromRuns(`${name}, p99 of the first ${WARM_UP_SECONDS} s`, "µs", found.map(({ firstP99 }) => firstP99));
  return p99;
}

/** 25,000 a second of the mean of the accounts that bots want; each of ten consumers wants 1 % of them. */
async function* firehose(
  context: BenchContext,
  runtime: Runtime,
  floor: BenchRecord | undefined,
): AsyncGenerator<BenchRecord> {
  const name = `load firehose 25 k/s of 7.3 KB, 10 consumers of 1 %, ${runtime}`;
  const sameRuntime = yield* sockets(context, runtime);
  const found = await rounds(context, runtime, name, FIREHOSE);
  const consumers = found.flatMap(({ consumers }) => consumers);
  yield recordFromRuns(`${name}, sender's load`, "%", found.map(({ sender }) => 100 * sender.load));
  yield recordFromRuns(`${name}, sender's publishing`, "ns", found.map(({ sender }) => sender.publishNs));
  yield recordFromRuns(`${name}, a consumer's load`, "%", consumers.map(({ load }) => 100 * load));
  yield recordFromRuns(`${name}, p50`, "µs", consumers.map(({ p50 }) => p50));
  const p99 = consumers.map(({ p99 }) => p99);
  yield compared(recordFromRuns(`${name}, p99`, "µs", p99), floor);
  yield compared(recordFromRuns(`${name}, p99 beside sockets`, "µs", p99), sameRuntime);
  const first = consumers.map(({ firstP99 }) => firstP99);
  yield recordFromRuns(`${name}, p99 of the first ${WARM_UP_SECONDS} s`, "µs", first);
  yield recordFromRuns(`${name}, lost`, "updates", found.map(lostOf));
}

/** 100,000 a second of everything, to one consumer that wants all of it, then a whole slot at once. */
async function* feed(context: BenchContext, runtime: Runtime): AsyncGenerator<BenchRecord> {
  const name = `load feed 100 k/s, then a slot of 30,000 at once, one consumer of all, ${runtime}`;
  const task = { perSecond: 100_000, seconds: SECONDS, consumers: 1, mix: "feed", wanted: 0, burst: 30_000 } as const;
  const found = await rounds(context, runtime, name, task);
  yield recordFromRuns(`${name}, sender's load`, "%", found.map(({ sender }) => 100 * sender.load));
  yield recordFromRuns(`${name}, sender's publishing`, "ns", found.map(({ sender }) => sender.publishNs));
  yield recordFromRuns(`${name}, the consumer's load`, "%", found.map(({ consumers }) => 100 * consumers[0]!.load));
  yield recordFromRuns(`${name}, the slot's publishing`, "ns", found.map(({ sender }) => sender.burstNs));
  yield recordFromRuns(`${name}, bytes of the slot`, "MB", found.map(({ sender }) => sender.burstBytes / 1e6));
  yield recordFromRuns(`${name}, most in the ring`, "MB", found.map(({ sender }) => sender.ringBytesMax / 1e6));
  yield recordFromRuns(`${name}, most in the pool`, "MB", found.map(({ sender }) => sender.poolBytesMax / 1e6));
  yield recordFromRuns(`${name}, lost`, "updates", found.map(lostOf));
}

/** By the sender, or by the consumers, or never arrived. */
function lostOf({ sender, consumers }: Round): number {
  const received = consumers.reduce((sum, { received }) => sum + received, 0);
  const lost = consumers.reduce((sum, { lost }) => sum + lost, 0);
  return Math.max(sender.lost, lost, sender.deliveries - received);
}

async function* idle(context: BenchContext, runtime: Runtime): AsyncGenerator<BenchRecord> {
  const consumers = context.quick ? IDLE_CONSUMERS_QUICK : IDLE_CONSUMERS;
  const name = `load ${consumers} idle consumers in ${IDLE_PROCESSES} processes, ${runtime}`;
  const [inAll, ofSender, ofProcess]: [number[], number[], number[]] = [[], [], []];
  for (let round = 0; round < (context.quick ? 1 : ROUNDS); round++) {
    context.note(`load: ${consumers} idle consumers, ${runtime}`);
    await using workers = new Workers();
    const task: IdleTask = { path: join(context.directory, `idle-${runtime}-${round}.sock`), consumers };
    const here = consumers / IDLE_PROCESSES;
    const found = await Promise.all([
      workers.start<IdleResult>(runtime, "idle_sender.ts", task, 0),
      ...Array.from(
        { length: IDLE_PROCESSES },
        () => workers.start<IdleResult>(runtime, "idle_consumers.ts", { ...task, here }, 1),
      ),
    ]);
    const each = (what: (result: IdleResult) => number, results: readonly IdleResult[]) =>
      results.reduce((sum, result) => sum + what(result), 0) / consumers / 1024;
    const own = ({ before, after }: IdleResult) => after.own - before.own;
    inAll.push(each(({ before, after }) => after.proportional - before.proportional, found));
    ofSender.push(each(own, found.slice(0, 1)));
    ofProcess.push(each(own, found.slice(1)));
  }
  yield recordFromRuns(`${name}, resident of each, in all`, "KiB", inAll);
  yield recordFromRuns(`${name}, of each, the sender's own`, "KiB", ofSender);
  yield recordFromRuns(`${name}, of each, its process's own`, "KiB", ofProcess);
}

export const fanoutLoad: Bench = {
  name: "load",
  question: "What does a firehose cost, does a burst get lost, how much memory does an idle consumer take?",
  run,
};
