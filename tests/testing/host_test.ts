/**
 * The host in memory: the library as it is, and time, losses and ends as the test says.
 * May touch: the public API. May not touch: sockets, clocks.
 *
 * @module
 */

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import {
  addressFromBytes,
  type ConnectionEvent,
  type Consumer,
  isQlasterError,
  type StaleEvent,
  type UpdateView,
} from "../../mod.ts";
import { createRpcSubscriptions } from "../../src/kit/mod.ts";
import { createTestHost, type TestHost } from "../../src/testing/mod.ts";
import { accountUpdate, keyOf, slotUpdate, transactionUpdate } from "../unit/support/updates.ts";
import { within } from "../unit/support/watchdog.ts";

const slot = (number: bigint) => slotUpdate({ slot: number, parent: number - 1n });

/** What a loop has seen. */
async function loop(consumer: Consumer, seen: unknown[], of: (update: UpdateView) => unknown): Promise<void> {
  try {
    for await (const update of consumer) seen.push(of(update));
    seen.push("the end");
  } catch (error) {
    seen.push(isQlasterError(error) ? error.reason : error);
  }
}

test("a sender and a consumer of one host speak as any others do", async () => {
  await using host = await createTestHost();
  const told: string[] = [];
  const sender = await host.setupSender({ path: "feed", onConsumer: ({ type }) => void told.push(type) });
  const consumer = await host.setupConsumer("feed", { name: "bot" });
  await consumer.setFilter("rich", { accounts: { owners: [keyOf(2)], lamports: { gt: 10n } } });
  await consumer.subscribe({ transactions: true });
  assert.deepEqual([told, sender.consumers().map(({ name }) => name)], [["connected"], ["bot"]]);
  sender.publishBatch([
    accountUpdate({ lamports: 10n }),
    accountUpdate({ lamports: 11n }),
    transactionUpdate(),
    slot(5n),
  ]);
  const updates = host.drain(consumer);
  assert.deepEqual(updates.map(({ kind, sequence }) => [kind, sequence]), [
    ["account", 2n],
    ["transaction", 3n],
    ["slot", 4n],
  ]);
  assert(updates[0]?.kind === "account");
  assert.deepEqual([updates[0].lamports, updates[0].filters], [11n, ["rich"]]);
  sender.publishAccount(accountUpdate({ lamports: 12n, data: new Uint8Array(20_000).fill(7) })); // by the pool
  const [large] = host.drain(consumer);
  assert(large?.kind === "account" && large.data.length === 20_000 && large.data[19_999] === 7);
});

test("a bot's cache and its subscriptions of kit's are those of any other consumer", async () => {
  await using host = await createTestHost();
  const sender = await host.setupSender({ path: "feed", state: { maxBytes: 1 << 22, keep: "all" } });
  sender.publishAccount(accountUpdate({ lamports: 1n, slot: 5n, bankId: 1n }));
  const consumer = await host.setupConsumer("feed", { cache: true });
  await consumer.subscribe({ accounts: [keyOf(1)] });
  host.drain(consumer);
  assert.deepEqual([consumer.accounts.trust.isComplete, consumer.accounts.get(keyOf(1))?.lamports], [true, 1n]);
  sender.publishAccount(accountUpdate({ lamports: 2n, slot: 6n, bankId: 2n }));
  host.drain(consumer);
  assert.equal(consumer.accounts.get(keyOf(1))?.lamports, 2n);
  sender.publishSlot(slotUpdate({ slot: 6n, bankId: 2n, parent: 5n, status: "dead" }));
  host.drain(consumer);
  assert.equal(consumer.accounts.get(keyOf(1))?.lamports, 1n, "what the dead bank wrote is taken back");
  host.loseNext(consumer, 1);
  for (const lamports of [3n, 4n]) sender.publishAccount(accountUpdate({ lamports, slot: 7n, bankId: 3n }));
  host.drain(consumer);
  assert.ok(consumer.accounts.trust.reasons.some(({ reason }) => reason === "loss"));
  const ready = consumer.accounts.ready; // who waits has it read, once nobody else has for a second
  await host.advance(1000);
  assert.deepEqual((await within(ready, "everything again")).reasons, []);
  assert.equal(consumer.accounts.get(keyOf(1))?.lamports, 4n);

  const other = await host.setupConsumer("feed");
  const rpcSubscriptions = createRpcSubscriptions(other);
  const abort = new AbortController();
  const vault = addressFromBytes(keyOf(1)) as never;
  const notifications = await rpcSubscriptions.accountNotifications(vault, { encoding: "base64" })
    .subscribe({ abortSignal: abort.signal });
  sender.publishAccount(accountUpdate({ lamports: 5n, slot: 8n }));
  sender.publishSlot(slotUpdate({ slot: 8n, parent: 7n, status: "confirmed" }));
  const { value } = await within(notifications[Symbol.asyncIterator]().next(), "a notification");
  assert.equal(value.value.lamports, 5n);
  host.disconnect(other, "sender-gone");
  await assert.rejects(within(notifications[Symbol.asyncIterator]().next(), "the feed's end"));
});

test("two feeds are merged: what one loses the other has, and one goes on alone", async () => {
  await using host = await createTestHost();
  const senders = [await host.setupSender({ path: "a" }), await host.setupSender({ path: "b" })];
  const consumer = await host.setupMergedConsumer(["a", "b"]);
  await consumer.subscribe({ owners: [keyOf(2)] });
  host.loseNext(host.feedOf(consumer, 0), 2);
  const publish = (number: bigint) => {
    for (const sender of senders) {
      sender.publishAccount(accountUpdate({ pubkey: keyOf(10 + Number(number)), slot: number }));
    }
  };
  for (let number = 1n; number <= 4n; number++) publish(number);
  const slots = () => host.drain(consumer).flatMap((update) => update.kind === "account" ? [update.slot] : []);
  assert.deepEqual(slots().sort(), [1n, 2n, 3n, 4n]);
  assert.deepEqual(consumer.feeds.map(({ lost }) => lost), [2, 0]);
  host.disconnect(host.feedOf(consumer, 1), "sender-gone");
  await host.settle();
  publish(5n);
  assert.deepEqual(slots(), [5n]);
  const waiting = consumer.next(500);
  await host.advance(500);
  const seam = await within(waiting, "the host's time");
  assert(seam === undefined || seam.kind === "connection");
  assert.throws(() => host.feedOf(consumer, 2), RangeError);
});

test("wire version 9 is not simulated, and asking for it is refused", async () => {
  await using host = await createTestHost();
  await host.setupSender({ path: "feed", v9: true as never });
  await assert.rejects(host.setupConsumer("feed", { protocol: "v9" }), TypeError);
  await host.setupConsumer("feed", { protocol: "auto" });
});

test("there is no sender where nobody listens, and one path has one", async () => {
  await using host = await createTestHost();
  await assert.rejects(host.setupConsumer("feed"), (error) => isQlasterError(error, "CONNECT_NO_SENDER"));
  const sender = await host.setupSender({ path: "feed" });
  await assert.rejects(host.setupSender({ path: "feed" }), (error) => isQlasterError(error, "SENDER_PATH_IN_USE"));
  await sender.close();
  await host.setupSender({ path: "feed" });
});

test("time stands still until it is told to go on", async () => {
  await using host = await createTestHost({ startMs: 1_000 });
  const sender = await host.setupSender({ path: "feed" });
  const consumer = await host.setupConsumer("feed");
  sender.publishSlot(slot(1n));
  await host.advance(2.5);
  sender.publishSlot(slot(2n));
  await host.advance(1);
  const ages: number[] = [];
  consumer.poll((update) => void ages.push(update.ageUs));
  assert.deepEqual(ages, [3500, 1000]);

  let timed: UpdateView | undefined | "pending" = "pending";
  const asked = consumer.next(100).then((update) => timed = update);
  await host.advance(99);
  assert.equal(timed, "pending");
  await host.advance(1);
  await within(asked, "the end of the wait");
  assert.equal(timed, undefined);
  assert.equal(host.now, 1_103.5);
});

test("losses come when they are scripted, and are told by what follows", async () => {
  await using host = await createTestHost();
  const sender = await host.setupSender({ path: "feed" });
  const [first, second] = [await host.setupConsumer("feed"), await host.setupConsumer("feed")];
  const slotsOf = (consumer: Consumer) =>
    host.drain(consumer).map((update) => update.kind === "slot" ? [Number(update.slot), update.lost] : update.kind);
  sender.publishSlot(slot(1n));
  host.loseNext(first, 2);
  for (let number = 2n; number <= 5n; number++) sender.publishSlot(slot(number));
  assert.deepEqual(slotsOf(first), [[1, 0], [4, 2], [5, 0]]);
  assert.deepEqual(slotsOf(second), [[1, 0], [2, 0], [3, 0], [4, 0], [5, 0]]);
  host.loseNext(first, 1);
  sender.publishSlot(slot(6n));
  assert.deepEqual(slotsOf(first), []);
  host.loseNext(first, 1);
  sender.publishSlot(slot(7n));
  sender.publishSlot(slot(8n));
  assert.deepEqual(slotsOf(first), [[8, 2]]);
  assert.equal(first.metrics.lost, 4);
  for (let number = 9n; number < 20_000n; number++) { // many times around the ring
    if (number % 3n === 0n) host.loseNext(first, 1);
    sender.publishSlot(slot(number));
    if (number % 50n === 0n) slotsOf(first), slotsOf(second);
  }
  slotsOf(first);
  assert.equal(first.metrics.lost + first.metrics.frames, second.metrics.frames + host.drain(second).length);
});

test("a connection ends as the test says, is made again as time goes on, and filters are there again", async () => {
  await using host = await createTestHost();
  const sender = await host.setupSender({ path: "feed" });
  for (const reason of ["sender-gone", "slow-consumer", "peer-corrupt"] as const) {
    const events: string[] = [];
    const onConnection = (event: ConnectionEvent) =>
      void events.push(event.type === "lost" ? `lost: ${event.reason}` : event.type);
    const consumer = await host.setupConsumer("feed", { onConnection, reconnect: { minMs: 1000 } });
    await consumer.subscribe({ accounts: [keyOf(1)] });
    const seen: unknown[] = [];
    void loop(consumer, seen, (update) => update.kind === "connection" ? update.event.type : update.kind);
    sender.publishAccount(accountUpdate());
    host.disconnect(consumer, reason);
    await host.settle();
    assert.deepEqual(events, ["connected", `lost: ${reason}`]);
    sender.publishAccount(accountUpdate()); // nobody gets it
    await host.advance(1000);
    assert.deepEqual(events.slice(2), ["connected", "resumed"]);
    sender.publishAccount(accountUpdate());
    await host.settle();
    assert.deepEqual(seen, ["account", "lost", "resumed", "account"], reason);
    await consumer.close();
  }
});

test("without reconnecting, the loop is told why", async () => {
  await using host = await createTestHost();
  const sender = await host.setupSender({ path: "feed" });
  const gone = await host.setupConsumer("feed", { reconnect: false });
  const closed = await host.setupConsumer("feed", { reconnect: false });
  const [one, other]: unknown[][] = [[], []];
  void loop(gone, one!, ({ kind }) => kind);
  void loop(closed, other!, ({ kind }) => kind);
  sender.publishSlot(slot(1n));
  host.disconnect(gone, "slow-consumer");
  await host.settle();
  assert.deepEqual([one, other], [["slot", "slow-consumer"], ["slot"]]);
  assert.deepEqual(sender.consumers().length, 1);
  await sender.close();
  await host.settle();
  assert.deepEqual(other, ["slot", "the end"]);
});

test("a consumer may wait for its sender, and staleness is looked for, in the host's time", async () => {
  await using host = await createTestHost();
  const waiting = host.setupConsumer("feed", { waitForSenderMs: 60_000, reconnect: { minMs: 1000, maxMs: 1000 } });
  await host.advance(5_000);
  const sender = await host.setupSender({ path: "feed" });
  await host.advance(1_000);
  await within(waiting, "the consumer");

  const stale: StaleEvent[] = [];
  const consumer = await host.setupConsumer("feed", { staleAfterSlots: 2, onStale: (event) => void stale.push(event) });
  sender.publishSlot(slot(10n));
  host.drain(consumer);
  for (let number = 11n; number < 16n; number++) sender.publishSlot(slot(number));
  await host.advance(1000);
  host.drain(consumer);
  await host.advance(1000);
  assert.deepEqual(stale.map(({ isStale, behind }) => [isStale, behind]), [[true, 5], [false, 0]]);
});

/** A small bot: what it does is all that its test is about. */
async function bot(consumer: Consumer): Promise<string[]> {
  const log: string[] = [];
  await consumer.setFilter("vault", { accounts: { accounts: [keyOf(1)] } });
  for await (const update of consumer) {
    if (update.lost > 0) log.push(`${update.lost} lost`);
    if (update.kind === "account") log.push(`${update.lamports} at ${update.ageUs}`);
    if (update.kind === "connection") log.push(update.event.type);
  }
  return log;
}

async function story(host: TestHost): Promise<string[]> {
  const sender = await host.setupSender({ path: "feed" });
  const consumer = await host.setupConsumer("feed", { reconnect: { minMs: 50 } });
  const log = bot(consumer);
  await host.settle();
  for (let i = 1n; i < 50n; i++) {
    sender.publishAccount(accountUpdate({ lamports: i }));
    if (i % 7n === 0n) host.loseNext(consumer, Number(i % 3n));
    if (i % 20n === 0n) host.disconnect(consumer, "sender-gone");
    await host.advance(Number(i % 5n) * 10);
  }
  await consumer.close();
  return await log;
}

test("the same story is told the same way every time", async () => {
  const told: string[][] = [];
  for (let i = 0; i < 3; i++) {
    await using host = await createTestHost();
    told.push(await story(host));
  }
  assert(told[0]!.length > 30 && told[0]!.includes("resumed"));
  assert.deepEqual(told[1], told[0]);
  assert.deepEqual(told[2], told[0]);
});

test("nothing is left of a host", async () => {
  const descriptors = () => readdirSync("/proc/self/fd").length;
  const once = async () => {
    await using host = await createTestHost();
    await story(host);
  };
  await once();
  const before = descriptors();
  for (let i = 0; i < 10; i++) await once();
  await within(until(() => descriptors() <= before), "the descriptors");
});

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
}
