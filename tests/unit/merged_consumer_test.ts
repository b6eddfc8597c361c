/**
 * Two senders read as one stream: ways of reading, filters of both, one that goes and comes back, one that stands still.
 * May touch: the public API. Senders of other processes: tests/pairs/merge_test.ts.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type MergedConsumer,
  type MergeOptions,
  type Sender,
  setupMergedConsumer,
  type UpdateView,
} from "../../mod.ts";
import { Place } from "./support/place.ts";
import { accountUpdate, keyOf, slotUpdate, transactionUpdate } from "./support/updates.ts";
import { LIMIT_MS, turn, until, within } from "./support/watchdog.ts";

/** Two senders, and one stream of both. */
class Pair implements AsyncDisposable {
  readonly places = [new Place(), new Place()] as const;
  senders: Sender[] = [];
  consumer!: MergedConsumer;

  static async open(options: MergeOptions = {}): Promise<Pair> {
    const pair = new Pair();
    for (const place of pair.places) pair.senders.push(await place.sender());
    pair.consumer = await within(
      setupMergedConsumer(pair.places.map(({ path }) => path), {
        reconnect: { minMs: 1, maxMs: 20 },
        connectTimeoutMs: LIMIT_MS,
        ...options,
      }),
      "the consumers",
    );
    return pair;
  }

  get a(): Sender {
    return this.senders[0]!;
  }
  get b(): Sender {
    return this.senders[1]!;
  }

  /** What comes until `count` have come, in words. */
  async read(count: number): Promise<string[]> {
    const words: string[] = [];
    while (words.length < count) {
      const update = await within(this.consumer.next(), `update ${words.length + 1} of ${count}`);
      assert.ok(update !== undefined);
      words.push(describe(update, this.consumer.feed));
    }
    return words;
  }

  /** Nothing more is there. */
  async assertQuiet(): Promise<void> {
    for (let i = 0; i < 3; i++) {
      await turn();
      this.consumer.poll((update) => assert.fail(`${describe(update, this.consumer.feed)} came`));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.consumer.close();
    for (const place of this.places) await place[Symbol.asyncDispose]();
  }
}

function describe(update: UpdateView, feed: number): string {
  const name = "ab"[feed];
  switch (update.kind) {
    case "account":
      return `${name} account ${update.slot}.${update.writeVersion}`;
    case "transaction":
      return `${name} transaction ${update.index}`;
    case "slot":
      return `${name} slot ${update.slot} ${update.status}`;
    case "connection":
      return `${name} ${update.event.type}`;
    default:
      return `${name} ${update.kind}`;
  }
}

const account = (slot: bigint, writeVersion: bigint) => accountUpdate({ slot, writeVersion });

test("each update comes once, from whichever sender has it first; each feed's part is told", async () => {
  await using pair = await Pair.open();
  const { a, b, consumer } = pair;
  await consumer.subscribe({ owners: [keyOf(2)], transactions: true });
  a.publishAccount(account(5n, 1n));
  assert.deepEqual(await pair.read(1), ["a account 5.1"]);
  b.publishAccount(account(5n, 1n));
  b.publishAccount(account(5n, 2n));
  assert.deepEqual(await pair.read(1), ["b account 5.2"]);
  a.publishAccount(account(5n, 2n));
  a.publishTransaction(transactionUpdate({ index: 1 }));
  assert.deepEqual(await pair.read(1), ["a transaction 1"]);
  b.publishTransaction(transactionUpdate({ index: 1 }));
  b.publishTransaction(transactionUpdate({ index: 1, slot: 78n }));
  assert.deepEqual(await pair.read(1), ["b transaction 1"], "in another slot it is another one");
  a.publishSlot(slotUpdate());
  assert.deepEqual(await pair.read(1), ["a slot 77 processed"]);
  b.publishSlot(slotUpdate());
  b.publishSlot(slotUpdate({ status: "confirmed" }));
  assert.deepEqual(await pair.read(1), ["b slot 77 confirmed"]);
  a.publishAccount(account(4n, 9n));
  await pair.assertQuiet();
  const [first, second] = consumer.feeds;
  assert.deepEqual(
    [first!.first, first!.duplicates, first!.older, first!.slotsBehind, first!.isConnected],
    [3, 1, 1, 0, true],
  );
  assert.deepEqual([second!.first, second!.duplicates, second!.older], [3, 3, 0]);
  assert.equal(second!.behind.count, 3);
  assert.deepEqual(consumer.remembered, { accounts: 1, transactions: 2 });
});

test("poll, for await and batches read the same stream; views are those of a consumer", async () => {
  await using pair = await Pair.open();
  const { a, b, consumer } = pair;
  for (const sender of [a, b]) for (let slot = 1n; slot <= 6n; slot++) sender.publishSlot(slotUpdate({ slot }));
  const slots: number[] = [];
  await until(() => (consumer.poll((update, feed) => {
    assert.ok(update.kind === "slot" && feed === consumer.feed);
    slots.push(update.slotNumber);
  }, 2),
    slots.length === 2), "two slots");
  for await (const update of consumer) {
    if (update.kind === "slot") slots.push(update.slotNumber);
    if (slots.length === 4) break;
  }
  for await (const batch of consumer.batches()) {
    for (const update of batch) if (update.kind === "slot") slots.push(update.slotNumber);
    if (slots.length === 6) break;
  }
  assert.deepEqual(slots, [1, 2, 3, 4, 5, 6]);
  a.publishSlot(slotUpdate({ slot: 7n }));
  let error: unknown;
  await until(() =>
    consumer.poll(() => {
      try {
        consumer.poll(() => {});
      } catch (thrown) {
        error = thrown;
      }
    }) === 1, "a seventh");
  assert.equal((error as { code?: string }).code, "CONSUMER_BUSY");
});

test("one reader at a time", async () => {
  await using pair = await Pair.open();
  const { consumer } = pair;
  const waiting = consumer.next();
  assert.throws(() => consumer.poll(() => {}), { code: "CONSUMER_BUSY" });
  await assert.rejects(consumer.next(), { code: "CONSUMER_BUSY" });
  pair.b.publishSlot(slotUpdate());
  assert.equal((await within(waiting, "a slot"))?.kind, "slot");
  assert.equal(await within(consumer.next(1), "the time-out"), undefined);
  pair.b.publishSlot(slotUpdate({ slot: 78n }));
  assert.throws(() => {
    while (consumer.poll(() => Promise.resolve() as never) === 0);
  }, TypeError);
});

test("the stream goes on when one sender goes; it is read again when it comes back, filters and all", async () => {
  await using pair = await Pair.open();
  const { b, consumer, places } = pair;
  await consumer.subscribe({ owners: [keyOf(2)] });
  await consumer.setFilter("other", { accounts: { owners: [keyOf(3)] } });
  await pair.a.close();
  assert.deepEqual(await pair.read(1), ["a lost"]);
  assert.equal(consumer.isConnected, true);
  b.publishAccount(account(5n, 1n));
  assert.deepEqual(await pair.read(1), ["b account 5.1"]);
  const [first, second] = await within(consumer.editFilter("other", { add: [keyOf(4)] }), "the edit without the first");
  assert.ok(first === undefined && second !== undefined);
  pair.senders[0] = await places[0].sender();
  assert.deepEqual(await pair.read(1), ["a resumed"]);
  await until(() => pair.a.consumers()[0]?.owners === 3, "the filters at the first");
  pair.a.publishAccount(account(5n, 1n));
  pair.a.publishAccount(accountUpdate({ pubkey: keyOf(9), owner: keyOf(4), slot: 5n }));
  assert.deepEqual(await pair.read(1), ["a account 5.0"]);
  await b.close();
  assert.deepEqual(await pair.read(1), ["b lost"]);
  pair.a.publishAccount(account(5n, 2n));
  assert.deepEqual(await pair.read(1), ["a account 5.2"]);
});

test("a feed that stands still delays nobody, and shows how far it is behind", async () => {
  await using pair = await Pair.open();
  const { a, b, consumer } = pair;
  b.publishSlot(slotUpdate({ slot: 1n }));
  for (let slot = 1n; slot <= 50n; slot++) a.publishSlot(slotUpdate({ slot }));
  assert.equal((await pair.read(50)).at(-1), "a slot 50 processed");
  await pair.assertQuiet();
  assert.deepEqual(consumer.feeds.map(({ slotsBehind }) => slotsBehind), [0, 49]);
});

test("what an edit is refused by one feed rejects; an unknown name does", async () => {
  await using pair = await Pair.open();
  await assert.rejects(pair.consumer.editFilter("none", { add: [keyOf(1)] }), RangeError);
  await assert.rejects(pair.consumer.removeFilter("none"), RangeError);
  await pair.consumer.setFilter("it", { accounts: true });
  await pair.consumer.removeFilter("it");
  await pair.consumer.subscribe({ accounts: new Set([keyOf(1)]).values() });
  await until(() => pair.senders.every((sender) => sender.consumers()[0]?.accounts === 1), "a list that is there once");
  await pair.consumer.unsubscribe({ accounts: [keyOf(1)] });
});

test("it ends when it is closed, by its signal, or when all feeds have ended and do not connect again", async () => {
  const controller = new AbortController();
  await using pair = await Pair.open({ signal: controller.signal });
  const waiting = pair.consumer.next();
  controller.abort();
  assert.equal(await within(waiting, "the end"), undefined);
  assert.equal((await within(pair.consumer.whenEnded, "the end")).reason, "closed");
  await assert.rejects(pair.consumer.subscribe({ accounts: [] }), { code: "CONSUMER_CLOSED" });

  await using single = await Pair.open({ reconnect: false });
  await single.a.close();
  single.b.publishSlot(slotUpdate());
  assert.deepEqual(await single.read(1), ["b slot 77 processed"]);
  assert.ok(!single.consumer.ended);
  const last = single.consumer.next();
  await single.b.close();
  assert.equal(await within(last, "a quiet end"), undefined);
  assert.equal((await within(single.consumer.whenEnded, "the end")).reason, "sender-closed");
});

test("all chains began anew: what was seen is forgotten once every feed says so", async () => {
  await using pair = await Pair.open();
  const { a, b, consumer } = pair;
  await consumer.subscribe({ owners: [keyOf(2)] });
  for (const sender of [a, b]) {
    sender.publishAccount(account(9000n, 1n));
    sender.publishSlot(slotUpdate({ slot: 9000n }));
  }
  await pair.read(2);
  await until(() => (consumer.poll(() => {}), consumer.feeds.every(({ slotsBehind }) => slotsBehind === 0)), "both");
  a.publishSlot(slotUpdate({ slot: 2n }));
  await pair.read(1);
  a.publishAccount(account(3n, 1n));
  await pair.assertQuiet();
  b.publishSlot(slotUpdate({ slot: 3n }));
  b.publishAccount(account(3n, 1n));
  assert.deepEqual(await pair.read(2), ["b slot 3 processed", "b account 3.1"]);
});

test("paths and options that are none are refused; so is everything if one sender is not there", async () => {
  await using pair = await Pair.open();
  const paths = pair.places.map(({ path }) => path);
  await assert.rejects(setupMergedConsumer([paths[0]!]), RangeError);
  await assert.rejects(setupMergedConsumer(paths, { accountsMax: 0 }), RangeError);
  await assert.rejects(setupMergedConsumer(paths, { versions: "other" as "own" }), TypeError);
  await assert.rejects(setupMergedConsumer([...paths, `${paths[0]}-none`]), { code: "CONNECT_NO_SENDER" });
  await until(
    () => pair.senders.every((sender) => sender.metrics.consumers === 1),
    "those that were set up are closed",
  );
});

test("who leaves a loop while it waits is not waited for, and takes nothing from who reads next", async () => {
  await using pair = await Pair.open();
  const loop = pair.consumer[Symbol.asyncIterator]();
  const asked = loop.next();
  await turn();
  await loop.return!();
  assert.deepEqual(await within(asked, "the end of the wait"), { value: undefined, done: true });
  pair.a.publishSlot(slotUpdate({ slot: 7n }));
  assert.equal((await within(pair.consumer.next(), "the slot"))?.kind, "slot");
});
