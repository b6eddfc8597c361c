/**
 * Workers that read for a consumer of this thread: all that comes, in order; ends; refusals; what is left of them.
 * May touch: the public API, Workers, /proc.
 *
 * @module
 */

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { type Consumer, type ConsumerShare, type IdleStrategy, isQlasterError, setupConsumer } from "../../mod.ts";
import { attachReader } from "../../src/worker/mod.ts";
import { Place } from "../unit/support/place.ts";
import { accountUpdate, keyOf } from "../unit/support/updates.ts";
import { until, within } from "../unit/support/watchdog.ts";
import type { ReadTask } from "./support/reader_worker.ts";

const PROGRAM = new URL("./support/reader_worker.ts", import.meta.url).href;
/** No statement about speed: 64 of Deno's Workers take their time to start where others want the cores. */
const TIMEOUT = { timeout: 240_000 };

interface Answer {
  readonly at: "up" | "attached" | "seen" | "standing" | "end" | "over";
  readonly count?: number;
  readonly reason?: string;
  readonly code?: string;
  readonly isInOrder?: boolean;
  readonly names?: readonly (readonly string[])[];
}

/** A Worker that has got its task. */
class Reading implements Disposable {
  readonly #worker = new Worker(PROGRAM, { type: "module" });
  readonly #answers: Answer[] = [];
  readonly #stop = new Int32Array(new SharedArrayBuffer(4));
  #onAnswer = () => {};

  /** @param share Without it, its task comes by `post`. */
  constructor(share?: ConsumerShare, way?: ReadTask["way"], idle?: IdleStrategy) {
    this.#worker.onmessage = ({ data }) => {
      this.#answers.push(data);
      this.#onAnswer();
    };
    if (share !== undefined) this.post(share, way, idle);
  }

  post(share: ConsumerShare, way: ReadTask["way"] = "iterate", idle: IdleStrategy = "adaptive"): void {
    this.#worker.postMessage({ share, way, idle, stop: this.#stop } satisfies ReadTask);
  }

  /** The next answer of a kind; others are forgotten. */
  async answer(at: Answer["at"]): Promise<Answer> {
    while (true) {
      const answer = this.#answers.shift();
      if (answer === undefined) await within(new Promise<void>((resolve) => this.#onAnswer = resolve), `"${at}"`);
      else if (answer.at === at) return answer;
      else if (answer.at === "over") assert.fail(JSON.stringify(answer));
    }
  }

  [Symbol.dispose](): void {
    Atomics.store(this.#stop, 0, 1);
    this.#worker.terminate();
  }
}

async function subscribed(place: Place): Promise<{ sender: Awaited<ReturnType<Place["sender"]>>; consumer: Consumer }> {
  const { sender, consumer } = await place.pair({ sender: { ringCapacityBytes: 1 << 22 } });
  await consumer.setFilter("mine", { accounts: { accounts: [keyOf(1)] } });
  return { sender, consumer };
}

for (
  const [way, idle] of [["iterate", "park"], ["run", "adaptive"], ["run", "spin"], ["poll", "yield"]] as const
) {
  test(`a Worker reads all that comes, in order: ${way}, ${idle}`, TIMEOUT, async () => {
    await using place = new Place();
    const { sender, consumer } = await subscribed(place);
    using reading = new Reading(consumer.share(), way, idle);
    await reading.answer("attached");
    assert.throws(() => consumer.poll(() => {}), (error) => isQlasterError(error, "CONSUMER_BUSY"));
    for (let slot = 1n; slot <= 20_000n; slot++) {
      while (sender.publishAccount(accountUpdate({ slot })) === -1);
      if (slot % 500n === 0n) await new Promise((resolve) => setTimeout(resolve, 0)); // it may sleep in between
      if (slot % 2000n === 0n) await reading.answer("seen"); // its ring is small
    }
    await consumer.ping(); // this thread still asks
    await sender.close();
    const end = await reading.answer("end");
    assert.deepEqual({ ...end }, { at: "end", count: 20_000, isInOrder: true, filters: ["mine"], names: [], lost: 0 });
    assert.deepEqual({ ...await reading.answer("over") }, { at: "over", reason: "sender-closed" });
    assert.deepEqual(await within(consumer.whenEnded, "the end"), { reason: "sender-closed" });
  });
}

test("a Worker knows the names of filters that are set, replaced and removed while it reads", TIMEOUT, async () => {
  await using place = new Place();
  const { sender, consumer } = await subscribed(place);
  using reading = new Reading(consumer.share(), "names", "spin"); // no turn for messages but between slices
  await reading.answer("attached");
  const publish = (slot: bigint) => assert.equal(sender.publishAccount(accountUpdate({ slot })), 1);
  publish(1n);
  await consumer.setFilter("later", { accounts: { accounts: [keyOf(1)] } });
  publish(2n);
  await consumer.removeFilter("mine");
  publish(3n);
  for (let i = 0; i < 100; i++) { // all day long
    await consumer.setFilter(`of ${i}`, { accounts: { owners: [keyOf(2)] } });
    publish(4n + BigInt(i));
    await consumer.removeFilter(`of ${i}`);
  }
  await sender.close();
  const { names } = await reading.answer("end");
  const own = Array.from({ length: 100 }, (_, i) => [`of ${i}`, "later"]);
  assert.deepEqual(names, [["mine"], ["mine", "later"], ["later"], ...own]);
});

test("closing the consumer ends the Worker's loop quietly, and closing the reader the consumer", TIMEOUT, async () => {
  await using place = new Place();
  const { sender, consumer } = await subscribed(place);
  using reading = new Reading(consumer.share());
  await reading.answer("attached");
  await consumer.close();
  assert.deepEqual({ ...await reading.answer("over") }, { at: "over", reason: "closed" });

  const other = await place.consumer();
  using closing = new Reading(other.share(), "close");
  await closing.answer("attached");
  sender.publishSlot({ slot: 2n, parent: 1n, status: "processed" });
  assert.deepEqual(await within(other.whenEnded, "the end"), { reason: "closed" });
  await until(() => sender.metrics.consumers === 0, "the end at the sender");
});

test(
  "shares are for one reader, of this process, and of a consumer that stays with one connection",
  TIMEOUT,
  async () => {
    await using place = new Place();
    const { consumer } = await subscribed(place);
    const share = consumer.share();
    assert.equal(consumer.share(), share);
    await assert.rejects(
      attachReader({ ...share, instance: share.instance + 1 }),
      (error) => isQlasterError(error, "SHARE_FOREIGN"),
    );
    await assert.rejects(attachReader({} as ConsumerShare), TypeError);
    const reader = await attachReader(share);
    await assert.rejects(attachReader(share), (error) => isQlasterError(error, "CONSUMER_BUSY"));
    await assert.rejects(reader.subscribe({ accounts: [keyOf(2)] }), (error) => isQlasterError(error, "READER_ONLY"));
    await assert.rejects(reader.ping(), (error) => isQlasterError(error, "READER_ONLY"));
    await consumer.close();
    await within(reader.whenEnded, "the reader's end");
    await assert.rejects(attachReader(share), (error) => isQlasterError(error, "CONSUMER_CLOSED"));
    const again = await setupConsumer(place.path);
    assert.throws(() => again.share(), TypeError);
    await again.close();
  },
);

test("a view that a Worker still holds is zeros once the consumer is closed, and no crash", TIMEOUT, async () => {
  await using place = new Place();
  const { sender, consumer } = await subscribed(place);
  using reading = new Reading(consumer.share(), "stand still");
  await reading.answer("attached");
  sender.publishAccount(accountUpdate());
  await reading.answer("standing");
  await consumer.close();
  await new Promise((resolve) => setTimeout(resolve, 50)); // it goes on looking
  sender.publishAccount(accountUpdate());
});

test("64 Workers at once read all that comes, each for its consumer, and take no descriptors", TIMEOUT, async () => {
  await using place = new Place();
  const sender = await place.sender({ ringCapacityBytes: 1 << 16, consumersMax: 64 });
  const descriptors = () => readdirSync("/proc/self/fd").length;
  const round = async (readers: number) => {
    const consumers = await Promise.all(Array.from({ length: readers }, () => place.consumer()));
    const mine = { accounts: { accounts: [keyOf(1)] } };
    await Promise.all(consumers.map((consumer) => consumer.setFilter("mine", mine)));
    using readings = new DisposableStack();
    const workers: Reading[] = [];
    for (const _ of consumers) { // one after the other: the watchdog is each one's
      const worker = readings.use(new Reading());
      await worker.answer("up");
      workers.push(worker);
    }
    const idle = descriptors(); // a runtime's Worker has some of its own
    workers.forEach((worker, i) => worker.post(consumers[i]!.share(), "some"));
    await Promise.all(workers.map((worker) => worker.answer("attached")));
    for (let slot = 1n; slot <= 100n; slot++) {
      assert.equal(sender.publishAccount(accountUpdate({ slot })), readers);
      if (slot % 25n === 0n) await new Promise((resolve) => setTimeout(resolve, 0));
    }
    const ends = await Promise.all(workers.map((worker) => worker.answer("end")));
    for (const { count, isInOrder } of ends) assert.deepEqual([count, isInOrder], [100, true]);
    assert.ok(descriptors() <= idle + 2, `${idle} with idle Workers, ${descriptors()} with reading ones`);
    readings.dispose(); // while they wait for more
    for (const consumer of consumers) await consumer.close();
    await until(() => sender.metrics.consumers === 0, "the end of all");
  };
  await round(1);
  const before = descriptors();
  await round(64);
  await until(() => descriptors() <= before + 2, "the descriptors");
});

test("terminated Workers leave no descriptor behind", TIMEOUT, async () => {
  await using place = new Place();
  const sender = await place.sender({ ringCapacityBytes: 1 << 16 });
  const descriptors = () => readdirSync("/proc/self/fd").length;
  const once = async () => {
    const consumer = await place.consumer();
    using reading = new Reading(consumer.share());
    await reading.answer("attached");
    sender.publishSlot({ slot: 2n, parent: 1n, status: "processed" });
    reading[Symbol.dispose](); // in the midst of its wait
    await consumer.close();
  };
  await once();
  await until(() => sender.metrics.consumers === 0, "the end of the first");
  const before = descriptors();
  for (let i = 0; i < 20; i++) await once();
  await until(() => sender.metrics.consumers === 0 && descriptors() <= before + 2, "the descriptors");
});
