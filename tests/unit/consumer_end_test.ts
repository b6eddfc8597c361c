/**
 * How a consumer's connection ends, who hears of it, and what its views do afterwards.
 * May touch: the public API, one sender and one consumer. May not touch: other processes; kills are tests/crash's.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { ConsumerEvent, UpdateView } from "../../mod.ts";
import { CAPACITY_BYTES, Place } from "./support/place.ts";
import { accountUpdate, keyOf, patternBytes, slotUpdate, transactionUpdate } from "./support/updates.ts";
import { turn, until, within } from "./support/watchdog.ts";

test("close() frees everything at once, tells the sender, and may be called again", async () => {
  await using place = new Place();
  const events: ConsumerEvent[] = [];
  const { sender, consumer } = await place.pair({ sender: { onConsumer: (event) => events.push(event) } });
  await consumer.close();
  assert.deepEqual(consumer.ended, { reason: "closed" });
  await consumer.close();
  await consumer[Symbol.asyncDispose]();
  assert.deepEqual(await within(consumer.whenEnded, "the end"), { reason: "closed" });
  await until(() => events.length === 2, "the event");
  assert.ok(events[1]?.type === "disconnected");
  assert.equal(events[1].reason, "consumer-closed");
  assert.equal(sender.metrics.memoryBytes, 0);
});

test("reading a closed consumer gives nothing and throws nothing", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  sender.publishSlot(slotUpdate());
  await consumer.close();
  assert.equal(consumer.poll(() => assert.fail()), 0);
  assert.equal(await consumer.next(), undefined);
  assert.equal(consumer.tryNextSlot(), undefined);
  for await (const _ of consumer) assert.fail();
  for await (const _ of consumer.batches()) assert.fail();
});

test("metrics can be asked for before, during and after", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  const none = { frames: 0, bytes: 0, lost: 0, conflated: 0, undecodable: 0 };
  const { connectedAt } = consumer.metrics;
  assert.ok(connectedAt! <= Date.now());
  const fresh = {
    ...none,
    connection: none,
    reconnects: 0,
    connectedAt,
    parks: 0,
    discarded: { updates: 0, transactions: 0, slots: 0 },
    ring: { capacityBytes: CAPACITY_BYTES, usedBytes: 0 },
  };
  assert.deepEqual(consumer.metrics, fresh);
  sender.publishSlot(slotUpdate());
  sender.publishSlot(slotUpdate());
  assert.deepEqual(consumer.metrics, { ...fresh, ring: { ...fresh.ring, usedBytes: 256 } });
  consumer.poll(() => {}, 1);
  const some = { ...none, frames: 1, bytes: 128 };
  const read = { ...fresh, ...some, connection: some };
  assert.deepEqual(consumer.metrics, { ...read, ring: { ...fresh.ring, usedBytes: 128 } });
  await consumer.close();
  assert.deepEqual(consumer.metrics, { ...read, connectedAt: undefined });
});

test("views throw after close(), in every getter that looks at the ring, and do not crash the process", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: { poolBytes: 0 } });
  await consumer.subscribe({ accounts: [keyOf(1)], transactions: true });
  sender.publishAccount(accountUpdate({ signature: patternBytes(64, 1) }));
  const loadedAddresses = { writable: [keyOf(3)], readonly: [] };
  sender.publishTransaction(transactionUpdate({ meta: patternBytes(7, 1), loadedAddresses }));
  sender.publishSlot(slotUpdate());
  sender.publishAccount(accountUpdate({ data: new Uint8Array(CAPACITY_BYTES) }));
  const views: UpdateView[] = [];
  const spans: ArrayLike<number>[] = [];
  consumer.poll((view) => {
    views.push(view);
    if (view.kind === "account") spans.push(view.pubkey, view.owner, view.data, view.signature!);
    if (view.kind === "transaction") {
      spans.push(view.signature, view.message, view.meta!, view.loadedAddresses.writable[0]!);
    }
  });
  assert.deepEqual(views.map((view) => view.kind), ["account", "transaction", "slot", "gap"]);
  await consumer.close();
  // What a record said needs no look at the ring.
  const fromRecord = [
    ...["kind", "lossy", "executable", "startup", "vote", "failed", "dataLength", "constructor"],
    ...["lost", "isSliced", "isClipped", "fullLength", "isState", "isRestored"],
  ];
  let getters = 0;
  for (const view of views) {
    for (
      let at: object | null = Object.getPrototypeOf(view);
      at !== null && at !== Object.prototype;
      at = Object.getPrototypeOf(at)
    ) {
      for (const [name, { get }] of Object.entries(Object.getOwnPropertyDescriptors(at))) {
        if (get === undefined || fromRecord.includes(name)) continue;
        if (view.kind === "gap" && name === "filters") continue; // no filter is asked for
        assert.throws(() => get.call(view), TypeError, `${view.kind}.${name}`);
        getters++;
      }
    }
    assert.throws(() => view.copy(), TypeError);
    if (view.kind === "account") {
      for (const read of ["u8At", "u16At", "u32At", "u64At", "u64NumberAt", "f64At"] as const) {
        assert.throws(() => view[read](0), TypeError, read);
      }
    }
  }
  assert.ok(getters >= 4 * 6, `${getters} getters`);
  assert.deepEqual(spans.map((span) => [span.length, span[0]]), spans.map(() => [0, undefined]));
});

test("a view that was kept after its connection was lost throws, too", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  sender.publishSlot(slotUpdate());
  const view = await within(consumer.next(), "a slot");
  await sender.close();
  assert.equal(await within(consumer.next(), "the end"), undefined);
  assert.throws(() => view?.sequence, TypeError);
});

test("whenEnded resolves when the sender closes and nothing is left, although nobody reads", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  await sender.close();
  assert.deepEqual(await within(consumer.whenEnded, "the end"), { reason: "sender-closed" });
  assert.deepEqual(consumer.ended, { reason: "sender-closed" });
});

test("whenEnded waits until what came has been read, however it is read", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  sender.publishSlot(slotUpdate());
  sender.publishSlot(slotUpdate());
  await sender.close();
  for (let i = 0; i < 10; i++) await turn();
  assert.equal(consumer.ended, undefined);
  assert.equal(consumer.poll(() => {}, 1), 1);
  for (let i = 0; i < 10; i++) await turn();
  assert.equal(consumer.ended, undefined);
  assert.equal(consumer.poll(() => {}), 1);
  assert.deepEqual(await within(consumer.whenEnded, "the end"), { reason: "sender-closed" });
});

test("close() while updates are unread ends with closed, and later news of the sender changes nothing", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  sender.publishSlot(slotUpdate());
  await sender.close();
  await consumer.close();
  for (let i = 0; i < 10; i++) await turn();
  assert.deepEqual(consumer.ended, { reason: "closed" });
});

test("each consumer of a sender ends by itself", async () => {
  await using place = new Place();
  const sender = await place.sender();
  const consumers = [await place.consumer(), await place.consumer(), await place.consumer()];
  await until(() => sender.metrics.consumers === 3, "all");
  await consumers[1]!.close();
  await until(() => sender.metrics.consumers === 2, "the end of one");
  assert.equal(sender.publishSlot(slotUpdate()), 2);
  assert.deepEqual(consumers.map((consumer) => consumer.poll(() => {})), [1, 0, 1]);
  await sender.close();
  for (const consumer of [consumers[0]!, consumers[2]!]) {
    assert.deepEqual(await within(consumer.whenEnded, "the end"), { reason: "sender-closed" });
  }
});

test("await using closes both", async () => {
  await using place = new Place();
  const sender = await place.sender();
  {
    await using consumer = await place.consumer();
    await until(() => sender.metrics.consumers === 1, "the consumer");
    assert.equal(consumer.path, place.path);
  }
  await until(() => sender.metrics.consumers === 0, "its end");
});

test("a hundred consumers can come and go; nothing of them stays", async () => {
  await using place = new Place();
  const sender = await place.sender();
  for (let i = 1; i <= 100; i++) {
    await using consumer = await place.consumer();
    await until(() => sender.metrics.consumers === 1, "the consumer");
    sender.publishSlot(slotUpdate({ slot: BigInt(i) }));
    assert.equal((await within(consumer.next(), "a slot"))?.kind, "slot");
    await consumer.close();
    await until(() => sender.metrics.consumers === 0, "its end");
  }
  const { connections, deliveries, memoryBytes } = sender.metrics;
  assert.deepEqual([connections, deliveries, memoryBytes], [100, 100, 0]);
});
