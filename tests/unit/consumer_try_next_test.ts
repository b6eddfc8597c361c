/**
 * tryNextUpdate(), tryNextTransaction(), tryNextSlot(): the original's names, each with its queue of copies.
 * May touch: the public API, one sender and one consumer. May not touch: timing.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Place } from "./support/place.ts";
import { accountUpdate, keyOf, patternBytes, slotUpdate, transactionUpdate } from "./support/updates.ts";
import { turn } from "./support/watchdog.ts";

const QUEUE_MAX = 2048;
const ROOM = { sender: { ringCapacityBytes: 4 * 1024 * 1024 } };

test("tryNext…() returns copies of its kind in order, and keeps the other kinds", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  await consumer.subscribe({ accounts: [keyOf(1)], transactions: true });
  assert.deepEqual([consumer.tryNextUpdate(), consumer.tryNextTransaction(), consumer.tryNextSlot()], [
    undefined,
    undefined,
    undefined,
  ]);
  for (let i = 1; i <= 3; i++) {
    sender.publishTransaction(transactionUpdate({ index: i }));
    sender.publishAccount(accountUpdate({ lamports: BigInt(i) }));
    sender.publishSlot(slotUpdate({ slot: BigInt(i) }));
  }
  assert.deepEqual([1, 2, 3, 4].map(() => consumer.tryNextSlot()?.slot), [1n, 2n, 3n, undefined]);
  assert.deepEqual([1, 2, 3, 4].map(() => consumer.tryNextUpdate()?.lamports), [1n, 2n, 3n, undefined]);
  assert.deepEqual([1, 2, 3, 4].map(() => consumer.tryNextTransaction()?.index), [1, 2, 3, undefined]);
  assert.deepEqual(consumer.metrics.discarded, { updates: 0, transactions: 0, slots: 0 });
  assert.equal(consumer.metrics.ring.usedBytes, 0, "the room is given back");
});

test("tryNextUpdate() returns a copy that lasts", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  await consumer.subscribe({ accounts: [keyOf(1)] });
  const data = patternBytes(700, 1);
  sender.publishAccount(accountUpdate({ data }));
  const copy = consumer.tryNextUpdate();
  for (let i = 0; i < 100; i++) {
    sender.publishAccount(accountUpdate({ data: patternBytes(700, i) }));
    consumer.tryNextUpdate();
  }
  await consumer.close();
  assert.deepEqual(copy?.data, data);
});

test("tryNext…() keeps the newest 2,048 of a kind that nobody asks for, and counts what went", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair(ROOM);
  await consumer.subscribe({ accounts: [keyOf(1)], transactions: true });
  const extra = 52;
  for (let i = 1; i <= QUEUE_MAX + extra; i++) {
    sender.publishSlot(slotUpdate({ slot: BigInt(i) }));
    sender.publishAccount(accountUpdate({ lamports: BigInt(i) }));
  }
  // Twice: one call puts no more than 4,096 updates aside.
  assert.equal(consumer.tryNextTransaction(), undefined);
  assert.equal(consumer.tryNextTransaction(), undefined);
  assert.deepEqual(consumer.metrics.discarded, { updates: extra, transactions: 0, slots: extra });
  for (let i = extra + 1; i <= QUEUE_MAX + extra; i++) assert.equal(consumer.tryNextSlot()?.slot, BigInt(i));
  assert.equal(consumer.tryNextSlot(), undefined);
  assert.equal(consumer.tryNextUpdate()?.lamports, BigInt(extra + 1));
});

test("tryNext…() stops reading at the first of its kind: the rest stays in the ring", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  for (let i = 1; i <= 5; i++) sender.publishSlot(slotUpdate({ slot: BigInt(i) }));
  assert.equal(consumer.tryNextSlot()?.slot, 1n);
  assert.equal(consumer.metrics.ring.usedBytes, 4 * 128);
});

test("tryNext…() reads over a gap and counts its losses", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: { poolBytes: 0 } });
  await consumer.subscribe({ accounts: [keyOf(1)] });
  sender.publishAccount(accountUpdate({ data: new Uint8Array(65536) }));
  sender.publishAccount(accountUpdate());
  assert.equal(consumer.tryNextUpdate()?.sequence, 2n);
  assert.equal(consumer.metrics.lost, 1);
});

test("tryNext…() gives what is left after the sender closed, then nothing, and `ended` says why", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  await consumer.subscribe({ transactions: true });
  sender.publishTransaction(transactionUpdate());
  sender.publishSlot(slotUpdate());
  await sender.close();
  for (let i = 0; i < 5; i++) await turn();
  assert.equal(consumer.ended, undefined, "something is left to read");
  assert.equal(consumer.tryNextSlot()?.kind, "slot");
  assert.equal(consumer.tryNextUpdate(), undefined);
  assert.deepEqual(consumer.ended, { reason: "sender-closed" });
  assert.equal(consumer.tryNextTransaction()?.kind, "transaction", "kept copies outlive the connection");
  assert.equal(consumer.tryNextTransaction(), undefined);
});

test("tryNext…() may be called inside a for await loop's body, and takes what comes next", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  for (let i = 1; i <= 3; i++) sender.publishSlot(slotUpdate({ slot: BigInt(i) }));
  const slots: (bigint | undefined)[] = [];
  for await (const update of consumer) {
    slots.push(update.kind === "slot" ? update.slot : undefined);
    if (slots.length === 1) slots.push(consumer.tryNextSlot()?.slot);
    if (slots.length === 3) break;
  }
  assert.deepEqual(slots, [1n, 2n, 3n]);
});
