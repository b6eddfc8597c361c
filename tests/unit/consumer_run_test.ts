/**
 * Consumer.run() and Consumer.readable(): loops that the library owns, and what ends them.
 * May touch: the public API, one sender and one consumer.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Consumer, UpdateView } from "../../mod.ts";
import { CountedSignal } from "./support/counted_signal.ts";
import { Place } from "./support/place.ts";
import { accountUpdate, keyOf, patternBytes, slotUpdate } from "./support/updates.ts";
import { turn, until, within } from "./support/watchdog.ts";

/** Collects what a loop is given. */
function collector(): { sequences: number[]; note: (update: UpdateView) => void } {
  const sequences: number[] = [];
  return { sequences, note: (update) => void sequences.push(update.sequenceNumber) };
}

const upTo = (count: number) => Array.from({ length: count }, (_, i) => i + 1);

for (const idle of ["adaptive", "park", "yield", "spin"] as const) {
  test(`run() hands out all there is and all that comes, and resolves at a quiet end: ${idle}`, async () => {
    await using place = new Place();
    const { sender, consumer } = await place.pair({ consumer: { idle } });
    const { sequences, note } = collector();
    for (let i = 0; i < 300; i++) sender.publishSlot(slotUpdate());
    const running = consumer.run(note);
    await until(() => sequences.length === 300, "what there is");
    for (let i = 0; i < 5; i++) {
      sender.publishSlot(slotUpdate());
      await until(() => sequences.length === 301 + i, "what comes");
    }
    await sender.close();
    await within(running, "the end");
    assert.deepEqual(sequences, upTo(305));
    assert.deepEqual(consumer.ended, { reason: "sender-closed" });
    await consumer.run(() => assert.fail()); // and at once from then on
  });

  test(`run() ends with its signal, and leaves the consumer open: ${idle}`, async () => {
    await using place = new Place();
    const { sender, consumer } = await place.pair({ consumer: { idle } });
    const counted = new CountedSignal();
    const running = consumer.run(() => assert.fail(), { signal: counted.signal });
    await turn();
    await assert.rejects(consumer.next(), { code: "CONSUMER_BUSY" });
    await assert.rejects(consumer.run(() => {}), { code: "CONSUMER_BUSY" });
    assert.throws(() => consumer.poll(() => {}), { code: "CONSUMER_BUSY" });
    assert.throws(() => consumer.tryNextSlot(), { code: "CONSUMER_BUSY" });
    counted.abort();
    await within(running, "the end");
    assert.equal(counted.listeners, 0);
    await within(consumer.run(() => assert.fail(), { signal: counted.signal }), "the end at once");
    sender.publishSlot(slotUpdate());
    assert.equal((await within(consumer.next(), "a slot"))?.kind, "slot");
  });
}

test("run() gives timers and sockets their turn, however much there is to read", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  const stop = new AbortController();
  let [handed, turns] = [0, 0];
  // A stream that never ends: each update brings another one.
  sender.publishSlot(slotUpdate());
  const running = consumer.run(() => {
    handed++;
    sender.publishSlot(slotUpdate());
  }, { signal: stop.signal });
  const tick = setInterval(() => {
    if (++turns === 20) stop.abort();
  }, 0);
  await within(running, "the end");
  clearInterval(tick);
  assert.ok(turns >= 20 && handed >= 20);
});

test("run() ends with what its handler throws, that update having been delivered", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  for (let i = 0; i < 3; i++) sender.publishSlot(slotUpdate());
  const thrown = new Error("enough");
  const { sequences, note } = collector();
  await assert.rejects(
    consumer.run((update) => {
      note(update);
      if (sequences.length === 2) throw thrown;
    }),
    thrown,
  );
  await assert.rejects(consumer.run(() => Promise.resolve() as unknown as void), TypeError);
  assert.equal(await consumer.next(1), undefined); // the promise's update was delivered, too
  assert.deepEqual(sequences, [1, 2]);
});

test("run() ends with close(), from within its handler or from without", async () => {
  for (const where of ["within", "without"]) {
    await using place = new Place();
    const { sender, consumer } = await place.pair();
    let handed = 0;
    const running = consumer.run(() => {
      handed++;
      if (where === "within") void consumer.close();
    });
    await turn();
    sender.publishSlot(slotUpdate());
    sender.publishSlot(slotUpdate());
    await until(() => handed > 0, "an update");
    if (where === "without") await consumer.close();
    await within(running, "the end");
    assert.deepEqual(consumer.ended, { reason: "closed" });
  }
});

test("run() rejects when the sender drops a consumer that goes on with no other", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: { poolBytes: 0 } });
  await consumer.subscribe({ accounts: [keyOf(1)] });
  while (sender.publishAccount(accountUpdate({ data: new Uint8Array(1000) })) === 1);
  const { sequences, note } = collector();
  await assert.rejects(within(consumer.run(note), "the end"), { code: "CONNECTION_LOST", reason: "slow-consumer" });
  assert.deepEqual(sequences, upTo(sequences.length));
  assert.ok(sequences.length > 10);
});

test("run() goes on over connections, seams included", async () => {
  await using place = new Place();
  const sender = await place.sender();
  const consumer = await place.consumer({ reconnect: { minMs: 1, maxMs: 5 } });
  const kinds: string[] = [];
  const running = consumer.run((update) => {
    kinds.push(update.kind === "connection" ? update.event.type : update.kind);
    if (kinds.length === 4) void consumer.close();
  });
  sender.publishSlot(slotUpdate());
  await sender.close();
  const another = await place.sender();
  await until(() => another.metrics.consumers === 1, "the consumer");
  another.publishSlot(slotUpdate());
  await within(running, "the end");
  assert.deepEqual(kinds, ["slot", "lost", "resumed", "slot"]);
});

// Streams

/** All that a stream gives. */
async function read(consumer: Consumer, count: number, highWaterMark?: number): Promise<unknown[]> {
  const copies: unknown[] = [];
  for await (const copy of consumer.readable(highWaterMark === undefined ? {} : { highWaterMark })) {
    copies.push(copy);
    if (copies.length === count) break;
  }
  return copies;
}

test("readable() gives copies that last, and closes at a quiet end", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  await consumer.subscribe({ accounts: [keyOf(1)] });
  for (let i = 0; i < 100; i++) {
    sender.publishAccount(accountUpdate({ data: patternBytes(50, i), lamports: BigInt(i) }));
  }
  sender.publishSlot(slotUpdate());
  const reading = read(consumer, Infinity);
  await sender.close();
  const copies = await within(reading, "the end") as { kind: string; data: Uint8Array; lamports: bigint }[];
  assert.equal(copies.length, 101);
  copies.slice(0, 100).forEach(({ data, lamports }, i) => {
    assert.deepEqual([data, lamports], [patternBytes(50, i), BigInt(i)]);
  });
  assert.equal(copies[100]!.kind, "slot");
});

test("readable() takes no more than its mark: the rest waits in the ring, and counts as unread", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  for (let i = 0; i < 20; i++) sender.publishSlot(slotUpdate());
  const reader = consumer.readable({ highWaterMark: 3 }).getReader();
  for (let taken = 1; taken <= 10; taken++) {
    const { value } = await within(reader.read(), "a copy");
    assert.equal(value?.sequence, BigInt(taken));
    for (let i = 0; i < 5; i++) await turn();
    const waiting = 20 - consumer.metrics.frames;
    assert.ok(waiting >= 20 - taken - 3, `${waiting} of 20 after ${taken}`);
  }
  await reader.cancel();
});

test("readable(): cancel lets go, also while it waits; others may read then", async () => {
  for (const idle of ["adaptive", "spin"] as const) {
    await using place = new Place();
    const { sender, consumer } = await place.pair({ consumer: { idle } });
    const stream = consumer.readable({ highWaterMark: 1 });
    await turn();
    await assert.rejects(consumer.next(), { code: "CONSUMER_BUSY" });
    await within(stream.cancel(), "the cancelling");
    for (let i = 0; i < 5; i++) await turn();
    sender.publishSlot(slotUpdate());
    assert.equal((await within(consumer.next(), "a slot"))?.kind, "slot");
  }
});

test("readable() is broken by a lost connection, after all that had come; by a second reader at once", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: { poolBytes: 0 } });
  await consumer.subscribe({ accounts: [keyOf(1)] });
  let published = 0;
  while (sender.publishAccount(accountUpdate({ data: new Uint8Array(1000) })) === 1) published++;
  const copies: unknown[] = [];
  const reading = (async () => {
    for await (const copy of consumer.readable()) copies.push(copy);
  })();
  await assert.rejects(within(reading, "the end"), { code: "CONNECTION_LOST", reason: "slow-consumer" });
  assert.equal(copies.length, published);

  const other = await place.consumer();
  const waiting = other.next();
  await assert.rejects(read(other, 1), { code: "CONSUMER_BUSY" });
  await other.close();
  await waiting;
});

test("readable() goes on over connections, seams included", async () => {
  await using place = new Place();
  const sender = await place.sender();
  const consumer = await place.consumer({ reconnect: { minMs: 1, maxMs: 5 } });
  const reading = read(consumer, 4);
  sender.publishSlot(slotUpdate());
  await sender.close();
  const another = await place.sender();
  await until(() => another.metrics.consumers === 1, "the consumer");
  another.publishSlot(slotUpdate());
  const copies = await within(reading, "four copies") as { kind: string; sequence: bigint }[];
  assert.deepEqual(copies.map(({ kind, sequence }) => [kind, sequence]), [
    ["slot", 1n],
    ["connection", 1n],
    ["connection", 1n],
    ["slot", 1n],
  ]);
});

test("readable() refuses a mark that can't be", async () => {
  await using place = new Place();
  const { consumer } = await place.pair();
  for (const highWaterMark of [0, -1, 1.5, NaN, Infinity, 65537]) {
    assert.throws(() => consumer.readable({ highWaterMark }), RangeError);
  }
});
