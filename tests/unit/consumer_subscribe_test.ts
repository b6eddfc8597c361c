/**
 * Consumer.subscribe() and ping(): what is asked, when it is in force, what becomes of a question without an answer.
 * May touch: the public API, one sender and one consumer. May not touch: frames.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { addressFromBytes, type AddressLike, type SubscriptionEvent } from "../../mod.ts";
import { Place } from "./support/place.ts";
import { accountUpdate, keyOf, slotUpdate, transactionUpdate } from "./support/updates.ts";
import { turn, until, within } from "./support/watchdog.ts";

const KEYS_PER_MESSAGE_MAX = Math.floor((1024 * 1024 - 16) / 32);

/** Another key for each number. */
function key(number: number): Uint8Array<ArrayBuffer> {
  const bytes = keyOf(1);
  new DataView(bytes.buffer).setUint32(0, number, true);
  return bytes;
}

test("subscribe() answers with generation and sequence: nothing before comes, everything after does", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  sender.publishTransaction(transactionUpdate());
  sender.publishTransaction(transactionUpdate());
  assert.deepEqual(await consumer.subscribe({ transactions: true }), { generation: 1, sequence: 2n });
  assert.equal(sender.publishTransaction(transactionUpdate()), 1);
  assert.deepEqual(await consumer.subscribe({}), { generation: 2, sequence: 3n });
  assert.equal((await within(consumer.next(), "a transaction"))?.sequence, 3n);
  assert.equal(await consumer.next(0), undefined);
});

test("subscribe() takes addresses, bytes and any iterable, and adds", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  function* owners(): Generator<AddressLike> {
    yield addressFromBytes(keyOf(7));
    yield keyOf(8);
  }
  await consumer.subscribe({ accounts: new Set([addressFromBytes(keyOf(1)), keyOf(2)]), owners: owners() });
  await consumer.subscribe({ accounts: [keyOf(3)] });
  const [info] = sender.consumers();
  assert.deepEqual([info?.accounts, info?.owners, info?.transactions], [3, 2, false]);
  for (
    const [pubkey, owner, reached] of [[1, 0, 1], [2, 0, 1], [3, 0, 1], [0, 7, 1], [0, 8, 1], [0, 0, 0], [7, 1, 0]]
  ) {
    assert.equal(sender.publishAccount(accountUpdate({ pubkey: keyOf(pubkey!), owner: keyOf(owner!) })), reached);
  }
});

test("subscribe() refuses a key that is none, and asks nothing", async () => {
  await using place = new Place();
  const events: SubscriptionEvent[] = [];
  const { sender, consumer } = await place.pair({ sender: { onSubscription: (event) => events.push(event) } });
  for (const bad of [new Uint8Array(31), "x", 7, null, undefined, Array(32).fill(0)]) {
    await assert.rejects(consumer.subscribe({ accounts: [keyOf(1), bad as AddressLike] }), { name: "TypeError" });
    await assert.rejects(consumer.subscribe({ owners: [bad as AddressLike] }), { name: "TypeError" });
  }
  await assert.rejects(consumer.subscribe({ accounts: 7 as never }), TypeError);
  await consumer.ping();
  assert.deepEqual([events.length, sender.consumers()[0]?.accounts], [0, 0]);
});

test("subscribe() copies keys: a buffer that changes afterwards changes nothing", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  const mutable = keyOf(1);
  const subscribed = consumer.subscribe({ accounts: [mutable] });
  mutable.fill(9);
  await subscribed;
  assert.equal(sender.publishAccount(accountUpdate({ pubkey: keyOf(1) })), 1);
});

test("subscribe() sends a long list in several messages; its answer stands for all", async () => {
  await using place = new Place();
  const events: SubscriptionEvent[] = [];
  const { sender, consumer } = await place.pair({ sender: { onSubscription: (event) => events.push(event) } });
  const accounts = Array.from({ length: KEYS_PER_MESSAGE_MAX + 5000 }, (_, i) => key(i));
  const owners = Array.from({ length: 3000 }, (_, i) => key(100_000 + i));
  assert.deepEqual(await within(consumer.subscribe({ accounts, owners, transactions: true }), "the answer"), {
    generation: 2,
    sequence: 0n,
  });
  const [info] = sender.consumers();
  assert.deepEqual([info?.accounts, info?.owners, info?.transactions], [accounts.length, owners.length, true]);
  await until(() => events.length === 2, "the events");
  assert.deepEqual(events.map((event) => [event.accounts.length, event.owners.length, event.transactions]), [
    [KEYS_PER_MESSAGE_MAX, 0, false],
    [5000, 3000, true],
  ]);
  for (const at of [0, KEYS_PER_MESSAGE_MAX - 1, KEYS_PER_MESSAGE_MAX, accounts.length - 1]) {
    assert.equal(sender.publishAccount(accountUpdate({ pubkey: accounts[at]!, owner: keyOf(9) })), 1);
  }
  assert.equal(sender.publishAccount(accountUpdate({ pubkey: keyOf(9), owner: owners[2999]! })), 1);
  assert.equal(sender.publishAccount(accountUpdate({ pubkey: owners[0]!, owner: accounts[0]! })), 0);
});

test("a closed consumer's filter is gone from the index", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  await consumer.subscribe({ accounts: [keyOf(1)], owners: [keyOf(2)], transactions: true });
  await consumer.close();
  await until(() => sender.metrics.consumers === 0, "the sender's notice");
  assert.equal(sender.publishAccount(accountUpdate()), 0);
  assert.equal(sender.publishTransaction(transactionUpdate()), 0);
});

test("many questions at once each get their own answer", async () => {
  await using place = new Place();
  const { consumer } = await place.pair();
  const acks = await within(
    Promise.all(Array.from({ length: 20 }, (_, i) => consumer.subscribe({ accounts: [key(i)] }))),
    "the answers",
  );
  assert.deepEqual(acks.map((ack) => ack.generation), Array.from({ length: 20 }, (_, i) => i + 1));
  const pings = await within(Promise.all(Array.from({ length: 20 }, () => consumer.ping())), "the answers");
  assert.ok(pings.every((ms) => ms >= 0 && Number.isFinite(ms)));
});

test("a question works while the consumer waits, and while it sleeps", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ consumer: { idle: "park" } });
  const next = consumer.next();
  await until(() => sender.consumers()[0]!.parked, "the sleep");
  await within(consumer.ping(), "an answer");
  await within(consumer.subscribe({ transactions: true }), "an answer");
  sender.publishTransaction(transactionUpdate());
  assert.equal((await within(next, "the transaction"))?.kind, "transaction");
});

test("an answer that comes with the end counts, for who connects again and for who does not", async () => {
  for (const reconnect of [false, true]) {
    await using place = new Place();
    const { sender, consumer } = await place.pair({ consumer: { reconnect } });
    sender.onSubscription(() => void sender.close()); // it has answered by then
    const { generation } = await within(consumer.subscribe({ transactions: true }), "the answer");
    assert.equal(generation, 1);
  }
});

test("a question to a sender that closes is refused with CONNECTION_LOST", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  const ping = consumer.ping();
  const subscribed = consumer.subscribe({});
  await Promise.all([
    sender.close(),
    assert.rejects(within(ping, "the refusal"), { code: "CONNECTION_LOST" }),
    assert.rejects(within(subscribed, "the refusal"), { code: "CONNECTION_LOST" }),
  ]);
});

test("a question after the sender is gone is refused at once, although updates are left to read", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ consumer: { requestTimeoutMs: 20_000 } });
  sender.publishSlot(slotUpdate());
  const ping = consumer.ping();
  await sender.close();
  await assert.rejects(within(ping, "the refusal"), { code: "CONNECTION_LOST" }); // from here on it knows
  assert.equal(consumer.ended, undefined, "the slot is unread");
  await assert.rejects(within(consumer.ping(), "the refusal"), { code: "CONNECTION_LOST" });
  await assert.rejects(within(consumer.subscribe({ transactions: true }), "the refusal"), { code: "CONNECTION_LOST" });
  assert.equal((await consumer.next())?.kind, "slot");
});

test("a question to a closed consumer is refused with CONSUMER_CLOSED, also one that waits", async () => {
  await using place = new Place();
  const { consumer } = await place.pair();
  const waiting = consumer.ping();
  await consumer.close();
  const closed = { code: "CONSUMER_CLOSED", message: new RegExp(place.path) };
  await assert.rejects(within(waiting, "the refusal"), closed);
  await assert.rejects(within(consumer.ping(), "the refusal"), closed);
  await assert.rejects(within(consumer.subscribe({}), "the refusal"), closed);
  await turn();
});
