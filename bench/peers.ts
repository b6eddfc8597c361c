/**
 * Question: what would the same messages cost by other means: the runtime's Unix socket, a pipe, a Worker, zeromq, and
 * the Rust crates shaq (as the original sender uses it, and at its best) and iceoryx2? Unit: M messages/s (GB/s), µs.
 * Compared with: our ring in the same runtime, same message, same run. Rust spins, so our ring spins against it; the
 * runtimes' means wait in the event loop, so our ring parks against them.
 *
 * @module
 */

import { join } from "node:path";
import type { IdleStrategy } from "../mod.ts";
import type { Bench, BenchContext } from "./bench.ts";
import { peersProgram } from "./native_programs.ts";
import { percentilesOf } from "./percentiles.ts";
import { type BenchRecord, compared, recordFromPercentiles } from "./record.ts";
import { BYTES, measure as measureLatency } from "./ring_latency.ts";
import { measurePair, rateRecord, sizeName } from "./ring_throughput.ts";
import { commandOf, type Runtime, RUNTIMES, WorkerError, Workers } from "./worker.ts";
import type { PeerResult } from "./workers/peer_receiver.ts";
import type { PeerTask, Way } from "./workers/peer_task.ts";

const SIZES: readonly number[] = [165, 10 * 1024, 1024 * 1024];
const SIZES_QUICK: readonly number[] = [165];
const RUNS = 5;
const RUN_BYTES = 64 * 1024 * 1024;
const MESSAGES_MAX = 50_000;
const GAP_US = 300;
const SAMPLES = 10_000;
const SAMPLES_QUICK = 300;
const WAYS: readonly Way[] = ["socket", "pipe", "postMessage", "zeromq"];
const WORDS: Readonly<Record<Way, string>> = {
  socket: "Unix socket",
  pipe: "pipe",
  postMessage: "Worker, postMessage",
  zeromq: "zeromq over ipc",
};
const CRATES = {
  shaq3: "Rust: shaq 3.0.0, bytes, as the original",
  shaq4: "Rust: shaq 4.0.0, one to one, fixed size",
  iceoryx2: "Rust: iceoryx2 0.10.0",
};

/** Our ring, by size for throughput, by strategy for latency. */
interface Ours {
  readonly rate: ReadonlyMap<number, BenchRecord>;
  readonly latency: ReadonlyMap<IdleStrategy, BenchRecord>;
}

async function* run(context: BenchContext): AsyncGenerator<BenchRecord> {
  let fastest: Ours | undefined;
  for (const runtime of RUNTIMES) {
    const ours = await measureOurs(context, runtime);
    fastest = ours; // Rust has no runtime of ours to be compared with: it is Bun, the last one
    yield* ours.rate.values();
    yield* ours.latency.values();
    for (const way of WAYS) yield* wayRecords(context, way, runtime, ours);
  }
  yield* crateRecords(context, fastest!);
}

async function measureOurs(context: BenchContext, runtime: Runtime): Promise<Ours> {
  const rate = new Map<number, BenchRecord>();
  for (const bytes of sizesOf(context)) {
    context.note(`peers: our ring, ${runtime}, ${sizeName(bytes)}`);
    const batch = Math.max(1, Math.min(256, Math.floor(RUN_BYTES / 64 / bytes)));
    const { streamNs } = await measurePair(context, runtime, runtime, bytes, batch, RUNS);
    rate.set(bytes, rateRecord(`our ring, ${runtime}, ${sizeName(bytes)}`, bytes, streamNs, { batch }));
  }
  const latency = new Map<IdleStrategy, BenchRecord>();
  for (const idle of ["park", "spin"] as const) {
    const found = await measureLatency(context, runtime, runtime, idle, GAP_US, samplesOf(context));
    const name = `our ring, ${runtime}, ${idle}, latency`;
    latency.set(idle, recordFromPercentiles(name, found.fromCall, { gapUs: GAP_US, bytes: BYTES }));
  }
  return { rate, latency };
}

async function* wayRecords(
  context: BenchContext,
  way: Way,
  runtime: Runtime,
  ours: Ours,
): AsyncGenerator<BenchRecord> {
  const name = `${WORDS[way]}, ${runtime}`;
  for (const bytes of sizesOf(context)) {
    context.note(`peers: ${name}, ${sizeName(bytes)}`);
    const task: PeerTask = {
      way,
      path: join(context.directory, `${way}-${runtime}-${bytes}.sock`),
      bytes,
      runs: RUNS,
      messages: Math.min(MESSAGES_MAX, Math.floor(RUN_BYTES / bytes)),
      gapUs: GAP_US,
      samples: bytes === BYTES ? samplesOf(context) : 0,
    };
    let result: PeerResult;
    try {
      result = await measureWay(task, runtime);
    } catch (error) {
      if (!(error instanceof WorkerError)) throw error;
      return context.note(`peers: no figures of ${name}: ${error.reason}`);
    }
    yield compared(rateRecord(`${name}, ${sizeName(bytes)}`, bytes, result.streamNs), ours.rate.get(bytes));
    if (result.latency !== undefined) {
      const record = recordFromPercentiles(`${name}, latency`, result.latency, { gapUs: GAP_US, bytes });
      yield compared(record, ours.latency.get("park"));
    }
  }
}

async function measureWay(task: PeerTask, runtime: Runtime): Promise<PeerResult> {
  await using workers = new Workers();
  switch (task.way) {
    case "postMessage": // two threads of one process: the system places them
      return await workers.start<PeerResult>(runtime, "peer_thread.ts", task, undefined);
    case "pipe": {
      const words = [
        ...commandOf(runtime, "peer_out.ts", 0),
        "TASK",
        "|",
        ...commandOf(runtime, "peer_in.ts", 1),
        "TASK",
      ];
      const script = words.map((word) => word === "TASK" ? '"$1"' : word === "|" ? word : `'${word}'`).join(" ");
      return await workers.run<PeerResult>("pipe", ["sh", "-c", script, "sh", JSON.stringify(task)]);
    }
    default: {
      const sent = workers.start(runtime, "peer_out.ts", task, 0);
      const received = workers.start<PeerResult>(runtime, "peer_in.ts", task, 1);
      return await Promise.race([received, sent.then(() => received)]);
    }
  }
}

async function* crateRecords(context: BenchContext, ours: Ours): AsyncGenerator<BenchRecord> {
  context.note("peers: building the Rust crates, a minute the first time");
  const program = peersProgram(context.quick);
  if ("missing" in program) return context.note(`peers: no figures of Rust crates: ${program.missing}`);
  for (const [crate, name] of Object.entries(CRATES)) {
    context.note(`peers: ${name}`);
    for (const bytes of sizesOf(context)) {
      await using workers = new Workers();
      const command = [program.path, crate, "throughput", `${bytes}`, `${RUNS}`];
      const { streamNs } = await workers.run<{ streamNs: number[] }>(name, command);
      yield compared(rateRecord(`${name}, ${sizeName(bytes)}`, bytes, streamNs), ours.rate.get(bytes));
    }
    await using workers = new Workers();
    const command = [program.path, crate, "latency", `${GAP_US}`, `${samplesOf(context)}`];
    const { samples } = await workers.run<{ samples: number[] }>(name, command);
    const record = recordFromPercentiles(`${name}, latency`, percentilesOf(samples), { gapUs: GAP_US, bytes: BYTES });
    yield compared(record, ours.latency.get("spin"));
  }
}

function sizesOf({ quick }: BenchContext): readonly number[] {
  return quick ? SIZES_QUICK : SIZES;
}

function samplesOf({ quick }: BenchContext): number {
  return quick ? SAMPLES_QUICK : SAMPLES;
}

export const peers: Bench = {
  name: "peers",
  question: "What would the same messages cost by other means?",
  run,
};
