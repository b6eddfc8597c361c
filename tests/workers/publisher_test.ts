/**
 * Workers that publish through one sender: order, losses, ends, and what is left of them. The sender's process is of the
 * runtime that runs the tests; the consumers are other processes, of both runtimes.
 * May touch: processes through agents, the temporary directory. May not touch: src/.
 */

import assert from "node:assert/strict";
import type { ConsumerOptions, SenderOptions, SenderShare } from "../../mod.ts";
import { Agent, type AgentError } from "../support/agent_process.ts";
import { footprintOf, settlesAt } from "../support/footprint.ts";
import { guarded, type Held } from "../support/guarded.ts";
import { OWN_RUNTIME, RUNTIMES } from "../support/runtime.ts";
import { Temporary } from "../support/temporary.ts";
import type { Answer, Task } from "./support/publisher_worker.ts";

const PROGRAM = new URL("./support/publisher_worker.ts", import.meta.url).href;
/** Small, so that Workers have to wait for room again and again. */
const RING_BYTES = 65_536;
const WORKERS = 4;
const UPDATES = 20_000;

type Way = Task["way"];

/** A process with a sender that Workers publish through. */
class Sending {
  readonly agent: Agent;
  readonly path: string;

  constructor(held: Held) {
    this.path = held.use(new Temporary()).at("s.sock");
    this.agent = held.use(new Agent(OWN_RUNTIME, { hasWorkers: true }));
  }

  static async open(held: Held, options: Omit<Partial<SenderOptions>, "path"> = {}): Promise<Sending> {
    const sending = new Sending(held);
    await sending.agent.run(async ({ qlaster, emit, kept }, { program, options }) => {
      const sender = await qlaster.setupSender(options);
      sender.onConsumer((event) => emit({ type: event.type, reason: (event as { reason?: string }).reason }));
      kept.sender = sender;
      kept.workers = new Map<number, Worker>();
      kept.start = (number: number) => {
        const worker = new Worker(program, { type: "module" });
        worker.onerror = (event) => emit({ worker: number, at: "error", code: event.message });
        worker.onmessage = (event) => emit({ worker: number, ...event.data });
        kept.workers.set(number, worker);
      };
      kept.post = (number: number, task: object) =>
        kept.workers.get(number).postMessage({ ...task, number, share: sender.share() });
    }, {
      program: PROGRAM,
      options: {
        path: sending.path,
        ringCapacityBytes: RING_BYTES,
        policies: ["disconnect", "block"] as const,
        blockTimeoutMs: 600_000, // consumers are other processes, which may have to wait for a core
        ...options,
      },
    });
    return sending;
  }

  start(number: number, way: Way, count: number): Promise<void> {
    return this.agent.run(({ kept }, { number, task }) => {
      kept.start(number);
      kept.post(number, task);
    }, { number, task: { way, count: count === Infinity ? Number.MAX_SAFE_INTEGER : count } });
  }

  /** Another task for a Worker that has done its first. */
  post(number: number, way: Way, count: number): Promise<void> {
    return this.agent.run(({ kept }, { number, task }) => kept.post(number, task), { number, task: { way, count } });
  }

  /** What a Worker says, apart from having attached. */
  async answer(number: number, at?: Answer["at"]): Promise<Answer> {
    return await this.agent.event<Answer & { worker: number }>((event) =>
      event.worker === number && (at === undefined ? event.at !== "attached" : event.at === at)
    );
  }

  async done(number: number): Promise<void> {
    const { worker: _, ...answer } = await this.answer(number) as Answer & { worker: number };
    assert.deepEqual(answer, { at: "done" });
  }

  terminate(number: number): Promise<void> {
    return this.agent.run(({ kept }, number) => {
      kept.workers.get(number).terminate();
      kept.workers.delete(number);
    }, number);
  }

  /** The reason why a consumer was ended. */
  async disconnected(): Promise<string> {
    return (await this.agent.event<{ type: string; reason: string }>(({ type }) => type === "disconnected")).reason;
  }

  close(): Promise<void> {
    return this.agent.run(({ kept }) => kept.sender.close());
  }

  metrics(): Promise<{ accounts: number; transactions: number }> {
    return this.agent.run(({ kept }) => kept.sender.metrics);
  }
}

/** What a consumer has seen. */
interface Seen {
  /** Updates of each Worker. */
  readonly counts: Record<string, number>;
  /** The first thing that was not as it had to be. */
  readonly fault?: string;
  readonly lost: number;
}

/** A process with a consumer that wants everything of the Workers. */
class Reading {
  readonly agent: Agent;

  private constructor(agent: Agent) {
    this.agent = agent;
  }

  static async open(
    held: Held,
    sending: Sending,
    runtime: Agent["runtime"],
    options: ConsumerOptions,
  ): Promise<Reading> {
    const agent = held.use(new Agent(runtime));
    await agent.run(async (scope, { path, options }) => {
      scope.consumer = await scope.qlaster.setupConsumer(path, { reconnect: false, ...options });
      await scope.consumer.subscribe({ owners: [new Uint8Array(32).fill(7)], transactions: true });
    }, { path: sending.path, options });
    return new Reading(agent);
  }

  /** Reads and checks until the sender is closed, or `total` updates came. */
  read(total: number = Infinity): Promise<Seen> {
    return this.agent.run(async ({ consumer }, total) => {
      const counts: Record<string, number> = {};
      let fault: string | undefined;
      let sequence = 0n;
      let seen = 0;
      for await (const update of consumer) {
        if (update.kind !== "account" && update.kind !== "transaction") continue;
        const bytes = update.kind === "account" ? update.data : update.message;
        const [number, ordinal] = new Uint32Array(bytes.slice(0, 8).buffer) as unknown as [number, number];
        const due = (counts[number] ?? 0) + 1;
        if (ordinal !== due) fault ??= `update ${ordinal} of Worker ${number}, where ${due} was due`;
        if (bytes.length !== 8 + ordinal % 100) fault ??= `${bytes.length} bytes in update ${ordinal}`;
        if (update.sequence <= sequence) fault ??= `sequence ${update.sequence} after ${sequence}`;
        counts[number] = ordinal;
        sequence = update.sequence;
        if (++seen === total) break;
      }
      return { counts, lost: consumer.metrics.lost, ...fault === undefined ? {} : { fault } };
    }, total === Infinity ? Number.MAX_SAFE_INTEGER : total);
  }
}

guarded(
  `four Workers publish at once, and consumers get each one's updates in its order: ${OWN_RUNTIME}`,
  async (held) => {
    const sending = await Sending.open(held);
    const options: ConsumerOptions = { policy: "block" };
    const readers = await Promise.all(RUNTIMES.map((runtime) => Reading.open(held, sending, runtime, options)));
    const total = WORKERS * UPDATES;
    const reading = readers.map((reader) => reader.read(total));
    const ways: readonly Way[] = ["one by one", "batches", "feed", "transactions"];
    // Looks at the same rings as they are written.
    await sending.agent.run(({ kept }) => void setInterval(() => kept.sender.consumers(), 1));
    for (const [number, way] of ways.entries()) await sending.start(number, way, UPDATES);
    for (const number of ways.keys()) await sending.done(number);
    const counts = Object.fromEntries(ways.map((_, number) => [number, UPDATES]));
    for (const seen of await Promise.all(reading)) assert.deepEqual(seen, { counts, lost: 0 });
    const { accounts, transactions } = await sending.metrics();
    assert.equal(accounts + transactions, total);
  },
  { timeoutMs: 300_000 },
);

guarded(`a slow consumer is ended although only Workers publish: ${OWN_RUNTIME}`, async (held) => {
  const sending = await Sending.open(held);
  await Reading.open(held, sending, OWN_RUNTIME, { policy: "disconnect" });
  await sending.start(0, "one by one", 5_000);
  assert.equal(await sending.disconnected(), "slow-consumer");
  await sending.done(0);
});

guarded(`a consumer that stops Workers for too long is ended, and they go on: ${OWN_RUNTIME}`, async (held) => {
  const sending = await Sending.open(held, { blockTimeoutMs: 50 });
  await Reading.open(held, sending, OWN_RUNTIME, { policy: "block" });
  for (const [number, way] of (["one by one", "batches", "feed"] as const).entries()) {
    await sending.start(number, way, 5_000);
  }
  assert.equal(await sending.disconnected(), "slow-consumer");
  for (const number of [0, 1, 2]) await sending.done(number);
});

guarded(`a Worker that nothing else keeps alive waits for room: ${OWN_RUNTIME}`, async (held) => {
  const sending = await Sending.open(held);
  const reader = await Reading.open(held, sending, OWN_RUNTIME, { policy: "block" });
  await sending.agent.run(({ process, kept, emit }, program) => {
    const { Worker } = process.getBuiltinModule("node:worker_threads");
    const worker = new Worker(new URL(program), { workerData: kept.sender.share() });
    worker.on("message", (at: string) => emit({ worker: 0, at }));
    worker.on("exit", (code: number) => emit({ worker: 0, exit: code }));
  }, new URL("./support/waiting_worker.ts", import.meta.url).href);
  await sending.answer(0, "staged");
  const { counts } = await reader.read(1_000);
  assert.deepEqual(counts, { 0: 1_000 });
  const { exit } = await sending.agent.event<{ exit?: number }>((event) => event.exit !== undefined);
  assert.equal(exit, 0);
});

/** Of a batch, what waits in the Worker itself until so many can be published by one call. */
const GROUP = 64;

guarded(`what a Worker had staged when it was terminated is seen, but for a group's: ${OWN_RUNTIME}`, async (held) => {
  const sending = await Sending.open(held);
  const reader = await Reading.open(held, sending, OWN_RUNTIME, { policy: "disconnect" });
  await sending.start(0, "stop in a batch", GROUP + 1);
  await sending.answer(0, "staged");
  await sending.terminate(0);
  assert.deepEqual(await reader.read(GROUP), { counts: { 0: GROUP }, lost: 0 });
});

guarded(`a share is refused in another process, and so is what is no share: ${OWN_RUNTIME}`, async (held) => {
  const sending = await Sending.open(held);
  const other = held.use(new Agent(OWN_RUNTIME));
  const share = await sending.agent.run(({ kept }) => kept.sender.share() as SenderShare);
  const path = held.use(new Temporary()).at("other.sock");
  const attach = (share: unknown) =>
    other.run(async ({ qlaster }, { share, path }) => {
      // With a sender of its own, so that the handles mean something here.
      await using _sender = await qlaster.setupSender({ path });
      await qlaster.attachPublisher(share as SenderShare);
    }, { share, path });
  await assert.rejects(attach(share), (error: AgentError) => {
    assert.equal(error.code, "SHARE_FOREIGN");
    assert.match(error.message, /another process.*attach in a Worker of the process that made it/);
    return true;
  });
  await assert.rejects(attach({}), (error: AgentError) => error.name === "TypeError");
});

guarded(`a closed sender's Workers can publish no more, and wait for nothing: ${OWN_RUNTIME}`, async (held) => {
  const sending = await Sending.open(held);
  await Reading.open(held, sending, OWN_RUNTIME, { policy: "block" });
  await sending.start(0, "attach", 0);
  await sending.start(1, "feed nothing", 0);
  await sending.start(2, "one by one", Infinity); // waits for room before long
  await sending.done(0);
  await sending.answer(1, "staged");
  await sending.answer(2, "attached");
  await sending.agent.run(async ({ kept }) => {
    kept.share = kept.sender.share();
    await kept.sender.close();
    kept.post = (number: number, task: object) =>
      kept.workers.get(number).postMessage({ ...task, number, share: kept.share });
  });
  await sending.done(1);
  assert.equal((await sending.answer(2) as { code: string }).code, "SENDER_CLOSED");
  for (const way of ["one by one", "batches", "feed"] as const) {
    await sending.post(0, way, 1);
    assert.equal((await sending.answer(0) as { code: string }).code, "SENDER_CLOSED", way);
  }
  await sending.start(3, "attach", 0);
  assert.equal((await sending.answer(3) as { code: string }).code, "SENDER_CLOSED");
});

/** Moments differ from run to run; the seed would not make a schedule come back. */
const TERMINATED = 100;
const AT_ONCE = 4;
/** What the runtimes start and open at the first Workers is no leak. */
const WARM_UP = 8;

guarded(
  `a hundred Workers terminated while they publish leave nothing, and the process ends: ${OWN_RUNTIME}`,
  async (held) => {
    const sending = await Sending.open(held);
    const readers = await Promise.all(
      RUNTIMES.map((runtime) => Reading.open(held, sending, runtime, { policy: "block" })),
    );
    const reading = Promise.all(readers.map((reader) => reader.read()));
    reading.catch(() => {}); // what ends it before its time is the test's own failure
    const ways: Way[] = ["one by one", "batches", "feed", "transactions"];
    // Deno's terminate() only ends a Worker that returns to its event loop, as all of the others do.
    if (OWN_RUNTIME === "bun") ways.push("stop in a batch");
    const runAndTerminate = async (number: number) => {
      const way = ways[number % ways.length]!;
      await sending.start(number, way, way === "stop in a batch" ? 20 : Infinity);
      if (number % 9 > 0) await sending.answer(number, "attached"); // else while it still loads
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 20)); // to end it anywhere
      await sending.terminate(number);
    };
    const terminateAll = async (from: number, to: number) => {
      for (let number = from; number < to; number += AT_ONCE) {
        await Promise.all(Array.from({ length: AT_ONCE }, (_, i) => runAndTerminate(number + i)));
      }
    };
    await terminateAll(0, WARM_UP);
    const before = footprintOf(sending.agent.pid);
    await terminateAll(WARM_UP, WARM_UP + TERMINATED);
    await settlesAt(sending.agent.pid, before, { threads: true });

    await sending.close();
    // Not before: a Worker that was terminated last may still have published something.
    const { accounts, transactions } = await sending.metrics();
    assert.ok(accounts > 0 && transactions > 0);
    for (const { fault, lost, counts } of await reading) {
      assert.equal(fault, undefined);
      assert.equal(lost, 0);
      assert.equal(Object.values(counts).reduce((sum, count) => sum + count, 0), accounts + transactions);
    }
    await sending.agent.endsByItself();
  },
  { timeoutMs: 300_000 },
);
