/**
 * Question: what does it cost to send one update to many: for each further consumer, by size, with a million keys in the
 * index? Unit: ns per update, ns per further consumer, M deliveries/s.
 * The sender alone: rings are emptied between two pieces that count, by moving the consumers' cursors, so that no reader
 * needs a core. Rivals: the crates shaq (a ring each) and iceoryx2 (publish and subscribe), a Unix socket for each consumer.
 * A firehose, parked consumers and idle ones are fanout_load.ts.
 *
 * @module
 */

import { join } from "node:path";
import type { Bench, BenchContext } from "./bench.ts";
import { AccountBody, FRAME_ALIGN, FrameHeader } from "../src/native/abi.generated.ts";
import { floorProgram, peersProgram } from "./native_programs.ts";
import { type BenchRecord, compared, type Conditions, recordFromRuns } from "./record.ts";
import { type Runtime, RUNTIMES, Workers } from "./worker.ts";
import type { FanoutCallsResult, FanoutCallsTask } from "./workers/fanout_calls.ts";
import type { ManyConsumersResult, ManySenderResult, ManyTask } from "./workers/many_plan.ts";
import type { PublishCallsResult, PublishCallsTask, PublishScene } from "./workers/publish_task.ts";
import type { FanoutSocketsResult, FanoutSocketsTask } from "./workers/fanout_sockets.ts";

const RUNS = 15;
const RUNS_QUICK = 3;
/** Of what has no runtime: its runs are so short that half a second of somebody else's work would spoil all of a process. */
const PROCESSES = 3;
/** Bytes of account data. */
const BYTES = 165;
const MANY = 10;
const HOT_RING = 256 * 1024;
/** The default capacity: what a user gets. */
const LARGE_RING = 64 * 1024 * 1024;
const CONSUMERS: readonly number[] = [1, 2, 4, 10, 64, 256, 1024];
const CONSUMERS_QUICK: readonly number[] = [1, 10];
/** Of payloads in the pool: 1 KiB, the mean of a firehose, an order book, a program, the largest account. */
const POOLED: readonly (readonly [bytes: number, name: string])[] = [
  [1024, "1 KiB"],
  [7475, "7.3 KB"],
  [92_160, "90 KB"],
  [1_782_579, "1.7 MB"],
  [10 * 1024 * 1024, "10 MiB"],
];
const THRESHOLDS: readonly number[] = [512, 1024, 2048, 4096, 8192, 16384];
/** As much as the rings of those who have all the keys. */
const RANDOM_BYTES = 2 ** 28;
const KEYS = 1_000_000;
const KEYS_QUICK = 10_000;
const KEYS_CONSUMERS = 1024;
const KEYS_CONSUMERS_QUICK = 16;
/** Accounts that a sender remembers by default: some of the keys, so that it has to forget others all the time. */
const TRACKED = 262_144;
const KEY_CASES = [
  { matches: false, text: "an update that nobody matches" },
  { matches: true, text: "an update that one matches" },
] as const;
const BATCH = 64;
/** Of large payloads: a consumer that keeps up gives them back soon. */
const BATCH_POOLED = 8;

type Api = "one" | "batch" | "many";
const APIS: Readonly<Record<Api, string>> = {
  one: "one by one",
  batch: `in batches of ${BATCH}`,
  many: `by publishMany of ${BATCH}`,
};

interface DeliverResult {
  readonly publishNs: readonly number[];
  readonly readNs: readonly number[];
}
interface IndexResult {
  readonly fewNs: readonly number[];
  readonly allNs: readonly number[];
}

async function* run(context: BenchContext): AsyncGenerator<BenchRecord> {
  const program = floorProgram(context.quick);
  if ("missing" in program) context.note(`fanout: no figures of the native side, ${program.missing}`);
  let ours: BenchRecord | undefined;
  if (!("missing" in program)) {
    const native = new Native(context, program.path);
    for await (const record of native.records()) {
      if (record.name === `fanout ${MANY} consumers, 165 B in the ring, zig ${APIS.batch}`) ours = record;
      yield record;
    }
  }
  for (const runtime of RUNTIMES) yield* callRecords(context, runtime, ours);
  for (const runtime of RUNTIMES) yield* manyRecords(context, runtime, ours);
  for (const runtime of RUNTIMES) yield* keyRecords(context, runtime);
  yield* crateRecords(context, ours);
  for (const runtime of RUNTIMES) yield* socketRecords(context, runtime, ours);
}

/** What the program without a runtime finds. */
class Native {
  readonly #context: BenchContext;
  readonly #path: string;
  readonly #runs: number;

  constructor(context: BenchContext, path: string) {
    this.#context = context;
    this.#path = path;
    this.#runs = (context.quick ? RUNS_QUICK : RUNS) / PROCESSES;
  }

  async *records(): AsyncGenerator<BenchRecord> {
    for (const api of ["batch", "many", "one"] as const) {
      const { publishNs } = await this.#deliver(BYTES, MANY, HOT_RING, 0, api);
      yield* deliveries(`fanout ${MANY} consumers, 165 B in the ring, zig ${APIS[api]}`, publishNs, {
        ringBytes: HOT_RING,
      });
    }
    yield* this.#byConsumers();
    yield* this.#byMemory();
    yield* this.#bySize();
    if (!this.#context.quick) yield* this.#byThreshold();
    yield* this.#byKeys();
  }

  async *#byConsumers(): AsyncGenerator<BenchRecord> {
    const { quick } = this.#context;
    for (const [ringBytes, name] of [[HOT_RING, "256 KiB"], [LARGE_RING, "64 MiB"]] as const) {
      // All rings of 64 MiB that are written to have to fit the memory.
      const counts = (quick ? CONSUMERS_QUICK : CONSUMERS).filter((count) => count * ringBytes <= 2 ** 30);
      yield* slopes(
        counts,
        `165 B in rings of ${name}`,
        { ringBytes },
        (count) => this.#deliver(BYTES, count, ringBytes, 0),
      );
    }
  }

  /** What the memory alone takes for it: as many frames of that length copied into as many rings, and lines at random. */
  async *#byMemory(): AsyncGenerator<BenchRecord> {
    const frame = Math.ceil((FrameHeader.size + AccountBody.size + BYTES) / FRAME_ALIGN) * FRAME_ALIGN;
    const what = `${frame} B only copied into ${HOT_RING / 1024} KiB each`;
    this.#context.note(`fanout: ${what}`);
    yield* slopes(
      this.#context.quick ? CONSUMERS_QUICK : CONSUMERS,
      what,
      { ringBytes: HOT_RING, bytes: frame },
      async (count) => {
        const results = await this.#run<{ copyNs: number[] }>(["copies", frame, count, HOT_RING, BATCH, this.#runs]);
        return { publishNs: results.flatMap(({ copyNs }) => copyNs), readNs: [] };
      },
    );
    const results = await this.#run<{ lineNs: number[] }>(["lines", RANDOM_BYTES, this.#runs]);
    const name = `fanout a line at random of ${RANDOM_BYTES / 2 ** 20} MiB, ${BATCH} asked for at once`;
    yield recordFromRuns(name, "ns", results.flatMap(({ lineNs }) => lineNs), { bytes: RANDOM_BYTES });
  }

  async *#bySize(): AsyncGenerator<BenchRecord> {
    const counts = this.#context.quick ? CONSUMERS_QUICK : [1, 10, 64];
    const smallest = new Map<number, BenchRecord>();
    for (const [bytes, name] of this.#context.quick ? POOLED.slice(0, 2) : POOLED) {
      const conditions = { ringBytes: HOT_RING, bytes, batch: BATCH_POOLED };
      const measure = (count: number) => this.#deliver(bytes, count, HOT_RING, 1, "batch", BATCH_POOLED);
      yield* slopes(counts, `${name} in the pool`, conditions, measure, smallest);
    }
  }

  /** Where the pool begins to pay: the sender's cost, and what the first consumer's reading costs, on another core. */
  async *#byThreshold(): AsyncGenerator<BenchRecord> {
    for (const bytes of THRESHOLDS) {
      for (const consumers of [1, 2, 4, 10]) {
        for (const [ringBytes, ring] of [[2 ** 20, "1 MiB"], [LARGE_RING, "64 MiB"]] as const) {
          let inRing: readonly [BenchRecord, BenchRecord] | undefined;
          for (const [threshold, where] of [[0, "ring"], [1, "pool"]] as const) {
            const found = await this.#deliver(bytes, consumers, ringBytes, threshold, "batch", BATCH, "read");
            const name = `fanout threshold ${bytes} B, ${consumers} consumers, rings of ${ring}`;
            const records = [
              recordFromRuns(`${name}, in the ${where}, sender`, "ns", found.publishNs),
              recordFromRuns(`${name}, in the ${where}, reader`, "ns", found.readNs),
            ] as const;
            yield compared(records[0], inRing?.[0]);
            yield compared(records[1], inRing?.[1]);
            inRing = records;
          }
        }
      }
    }
  }

  async *#byKeys(): AsyncGenerator<BenchRecord> {
    const keys = this.#context.quick ? KEYS_QUICK : KEYS;
    for (const { matches, text } of KEY_CASES) {
      for (const api of ["many", "batch", "one"] as const) {
        for (const tracked of matches ? [0, TRACKED] : [0]) {
          const what = tracked === 0 ? text : `${text} and that is remembered`;
          this.#context.note(`fanout: ${what}, ${APIS[api]}`);
          const args = ["fanout-index", keys, KEYS_CONSUMERS, matches ? "one" : "nobody", api, tracked, this.#runs];
          const results = await this.#run<IndexResult>(args);
          const [fewNs, allNs] = [results.flatMap(({ fewNs }) => fewNs), results.flatMap(({ allNs }) => allNs)];
          const few = matches ? "one key of one consumer" : "an empty index";
          const base = recordFromRuns(`fanout ${what}, ${APIS[api]}, ${few}`, "ns", fewNs);
          yield base;
          const name = `fanout ${what}, ${APIS[api]}, ${keys} keys of ${KEYS_CONSUMERS} consumers`;
          yield compared(recordFromRuns(name, "ns", allNs), base);
          yield recordFromRuns(`${name}, difference`, "ns", allNs.map((ns, i) => ns - fewNs[i]!));
        }
      }
    }
  }

  async #deliver(
    bytes: number,
    consumers: number,
    ringBytes: number,
    threshold: number,
    api: Api = "batch",
    piece = BATCH,
    reader: "alone" | "read" = "alone",
  ): Promise<DeliverResult> {
    this.#context.note(
      `fanout: ${bytes} B, ${consumers} consumers, ${threshold === 0 ? "ring" : "pool"}, ${APIS[api]}`,
    );
    const args = ["fanout", bytes, consumers, ringBytes, threshold, api, piece, this.#runs, reader];
    const results = await this.#run<DeliverResult>(args);
    return {
      publishNs: results.flatMap(({ publishNs }) => publishNs),
      readNs: results.flatMap(({ readNs }) => readNs),
    };
  }

  async #run<Result>(args: readonly (string | number)[]): Promise<Result[]> {
    const results: Result[] = [];
    for (let i = 0; i < PROCESSES; i++) {
      await using workers = new Workers();
      results.push(await workers.run<Result>("floor", [this.#path, ...args.map(String)]));
    }
    return results;
  }
}

function* deliveries(
  name: string,
  ns: readonly number[],
  conditions: Conditions,
  peer?: BenchRecord,
): Generator<BenchRecord> {
  yield compared(recordFromRuns(name, "ns", ns, conditions), peer);
  yield recordFromRuns(`${name}, deliveries`, "M/s", ns.map((each) => 1000 * MANY / each), conditions);
}

/** The cost by the number of consumers, and what each further one adds: runs of two numbers are paired in their order. */
async function* slopes(
  counts: readonly number[],
  what: string,
  conditions: Conditions,
  measure: (count: number) => Promise<DeliverResult>,
  base = new Map<number, BenchRecord>(),
): AsyncGenerator<BenchRecord> {
  let first: readonly number[] | undefined;
  for (const count of counts) {
    const { publishNs } = await measure(count);
    yield recordFromRuns(`fanout ${what}, ${count} consumers`, "ns", publishNs, conditions);
    if (first !== undefined) {
      const each = publishNs.map((ns, i) => (ns - first![i]!) / (count - 1));
      const record = recordFromRuns(`fanout ${what}, each further of ${count} consumers`, "ns", each, conditions);
      yield compared(record, base.get(count));
      if (!base.has(count)) base.set(count, record);
    }
    first ??= publishNs;
  }
}

/** From objects: encoder and native call, in each runtime. */
async function* callRecords(
  context: BenchContext,
  runtime: Runtime,
  ours: BenchRecord | undefined,
): AsyncGenerator<BenchRecord> {
  context.note(`fanout: from objects, ${runtime}`);
  await using workers = new Workers();
  const task: FanoutCallsTask = {
    bytes: BYTES,
    consumers: MANY,
    ringBytes: HOT_RING,
    runs: context.quick ? RUNS_QUICK : RUNS,
  };
  const found = await workers.start<FanoutCallsResult>(runtime, "fanout_calls.ts", task, 0);
  for (const api of ["batch", "many", "one"] as const) {
    const name = `fanout ${MANY} consumers, 165 B in the ring, ${runtime} ${APIS[api]}`;
    yield* deliveries(name, found[api], { ringBytes: HOT_RING }, ours);
  }
}

/** Through the public API, the sender on one core and all consumers on the other: each side alone, and both at once. */
async function* manyRecords(
  context: BenchContext,
  runtime: Runtime,
  ours: BenchRecord | undefined,
): AsyncGenerator<BenchRecord> {
  context.note(`fanout: end to end, ${runtime}`);
  await using workers = new Workers();
  const path = join(context.directory, `many-${runtime}.sock`);
  const task: ManyTask = { path, bytes: BYTES, consumers: MANY, runs: context.quick ? RUNS_QUICK : RUNS };
  const [{ fillNs }, { drainNs, streamNs }] = await Promise.all([
    workers.start<ManySenderResult>(runtime, "many_sender.ts", task, 0),
    workers.start<ManyConsumersResult>(runtime, "many_consumers.ts", task, 1),
  ]);
  yield* deliveries(`fanout ${MANY} consumers, 165 B in the ring, ${runtime} publishBatch of 64`, fillNs, {
    ringBytes: 2 ** 20,
  }, ours);
  const consumers = recordFromRuns(`fanout ${MANY} consumers, 165 B, ${runtime}, all consumers`, "ns", drainNs);
  yield consumers;
  const slower = Math.max(recordFromRuns("sender", "ns", fillNs).value, consumers.value);
  const name = `fanout ${MANY} consumers, 165 B, ${runtime}, end to end`;
  yield recordFromRuns(name, "ns", streamNs);
  yield recordFromRuns(`${name}, of what the slower side allows`, "", streamNs.map((ns) => slower / ns));
}

/** A million keys through the public API: the sender on one core; the consumers, on the other, look now and then. */
async function* keyRecords(context: BenchContext, runtime: Runtime): AsyncGenerator<BenchRecord> {
  const keys = context.quick ? KEYS_QUICK : KEYS;
  const consumers = context.quick ? KEYS_CONSUMERS_QUICK : KEYS_CONSUMERS;
  for (const { matches, text } of KEY_CASES) {
    context.note(`fanout: ${text}, ${runtime}`);
    await using workers = new Workers();
    const scenes: readonly PublishScene[] = [{ consumers: 1, keys: 0, matches }, { consumers, keys, matches }];
    const task: PublishCallsTask = {
      path: join(context.directory, `keys-${runtime}-${matches ? "one" : "nobody"}.sock`),
      bytes: BYTES,
      ringBytes: HOT_RING,
      batch: BATCH,
      isSingle: false,
      scenes,
      runs: context.quick ? RUNS_QUICK : RUNS,
    };
    const [{ scenes: found }] = await Promise.all([
      workers.start<PublishCallsResult>(runtime, "publish_calls.ts", task, 0),
      workers.start(runtime, "publish_readers.ts", task, 1),
    ]);
    const [few, all] = [found[0]!.runs, found[1]!.runs];
    const name = `fanout ${text}, ${runtime} publishBatch of ${BATCH}`;
    const base = recordFromRuns(`${name}, one key of one consumer`, "ns", few);
    yield base;
    const many = `${name}, ${keys} keys of ${consumers} consumers`;
    yield compared(recordFromRuns(many, "ns", all), base);
    yield recordFromRuns(`${many}, difference`, "ns", all.map((ns, i) => ns - few[i]!));
    const { firstLap } = found[1]!;
    if (firstLap.length > 0) yield recordFromRuns(`${many}, first lap of the rings`, "ns", firstLap);
  }
}

async function* crateRecords(context: BenchContext, ours: BenchRecord | undefined): AsyncGenerator<BenchRecord> {
  const program = peersProgram(context.quick);
  if ("missing" in program) return context.note(`fanout: no figures of Rust crates: ${program.missing}`);
  const runs = context.quick ? RUNS_QUICK : RUNS;
  for (const [crate, name] of [["shaq4", "shaq 4.0.0, a ring each"], ["iceoryx2", "iceoryx2 0.10.0"]] as const) {
    for (const bytes of [BYTES, 7475]) {
      for (const receivers of [1, 4, MANY]) {
        context.note(`fanout: ${name}, ${bytes} B, ${receivers} receivers`);
        await using workers = new Workers();
        const { publishNs } = await workers.run<{ publishNs: number[] }>(
          name,
          [program.path, crate, `fanout-${bytes}`, `${receivers}`, `${runs}`],
        );
        const record = recordFromRuns(`fanout peer ${name}, ${bytes} B, ${receivers} receivers`, "ns", publishNs);
        yield compared(record, receivers === MANY && bytes === BYTES ? ours : undefined);
      }
    }
  }
}

async function* socketRecords(
  context: BenchContext,
  runtime: Runtime,
  ours: BenchRecord | undefined,
): AsyncGenerator<BenchRecord> {
  const path = join(context.directory, `fanout-${runtime}.sock`);
  context.note(`fanout: a Unix socket each, ${runtime}`);
  await using workers = new Workers();
  const task = { path, bytes: BYTES, consumers: MANY, runs: context.quick ? RUNS_QUICK : RUNS };
  const [found] = await Promise.all([
    workers.start<FanoutSocketsResult>(
      runtime,
      "fanout_sockets.ts",
      { role: "send", ...task } satisfies FanoutSocketsTask,
      0,
    ),
    workers.start(runtime, "fanout_sockets.ts", { role: "receive", ...task } satisfies FanoutSocketsTask, 1),
  ]);
  const name = `fanout peer a Unix socket each, ${runtime}, ${BYTES} B, ${MANY} receivers`;
  yield compared(recordFromRuns(name, "ns", found.sendNs), ours);
  yield recordFromRuns(`${name}, time of its processor`, "ns", found.cpuNs);
}

export const fanout: Bench = {
  name: "fanout",
  question: "What does it cost to send one update to many: by consumer, by size, with a million keys?",
  run,
};
