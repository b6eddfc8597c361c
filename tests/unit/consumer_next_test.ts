/**
 * Waiting for updates: next(), for await, batches().
 * May touch: the public API, one sender and one consumer. May not touch: speed; time-outs end, no matter when.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Consumer, IdleStrategy, Sender, UpdateView } from "../../mod.ts";
import { Place } from "./support/place.ts";
import { slotUpdate } from "./support/updates.ts";
import { turn, until, within } from "./support/watchdog.ts";

const STRATEGIES: IdleStrategy[] = ["adaptive", "park", "yield", "spin"];

function publish(sender: Sender, from: number, to = from): void {
  for (let slot = from; slot <= to; slot++) sender.publishSlot(slotUpdate({ slot: BigInt(slot) }));
}

const slotOf = (update: UpdateView | undefined): number => update?.kind === "slot" ? update.slotNumber : -1;

test("next() waits for what comes, with every strategy", async () => {
  for (const idle of STRATEGIES) {
    await using place = new Place();
    const { sender, consumer } = await place.pair({ consumer: { idle } });
    for (let slot = 1; slot <= 5; slot++) {
      const next = consumer.next();
      for (let i = 0; i < 12; i++) await turn(); // long enough that adaptive sleeps
      publish(sender, slot);
      assert.equal(slotOf(await within(next, `a slot (${idle})`)), slot);
    }
    publish(sender, 6, 40);
    for (let slot = 6; slot <= 40; slot++) assert.equal(slotOf(await within(consumer.next(), "a slot")), slot);
    if (idle === "park") assert.ok(consumer.metrics.parks >= 5);
    if (idle === "yield" || idle === "spin") assert.equal(consumer.metrics.parks, 0);
  }
});

test("next(timeoutMs) is undefined when nothing came, with every strategy, and the consumer goes on", async () => {
  for (const idle of STRATEGIES) {
    await using place = new Place();
    const { sender, consumer } = await place.pair({ consumer: { idle } });
    for (const timeoutMs of [0, 1, 10]) {
      const started = performance.now();
      assert.equal(await within(consumer.next(timeoutMs), "the end of the wait"), undefined);
      assert.ok(performance.now() - started >= timeoutMs - 1);
    }
    assert.equal(consumer.ended, undefined);
    publish(sender, 1);
    assert.equal(slotOf(await within(consumer.next(0), "a slot")), 1, "what is there is returned, however late it is");
    assert.equal(await within(consumer.next(-5), "the end of the wait"), undefined);
  }
});

test("next(timeoutMs) returns what comes in time", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ consumer: { idle: "park" } });
  const next = consumer.next(2 ** 31 - 1);
  publish(sender, 1);
  assert.equal(slotOf(await within(next, "a slot")), 1);
});

test("a second call while one waits is refused; the first goes on", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  const busy = { code: "CONSUMER_BUSY" };
  const first = consumer.next();
  await assert.rejects(consumer.next(), busy);
  await assert.rejects(consumer[Symbol.asyncIterator]().next(), busy);
  await assert.rejects(consumer.batches().next(), busy);
  assert.throws(() => consumer.tryNextSlot(), busy);
  assert.throws(() => consumer.poll(() => {}), busy);
  publish(sender, 1);
  assert.equal(slotOf(await within(first, "a slot")), 1);
});

test("a view of next() is whole until the next call, also while its sender publishes and closes", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  publish(sender, 1, 3);
  const view = await within(consumer.next(), "a slot");
  publish(sender, 4, 6);
  await sender.close();
  for (let i = 0; i < 5; i++) await turn();
  assert.equal(slotOf(view), 1);
  for (let slot = 2; slot <= 6; slot++) assert.equal(slotOf(await within(consumer.next(), "a slot")), slot);
  assert.equal(await within(consumer.next(), "the end"), undefined);
  assert.deepEqual(consumer.ended, { reason: "sender-closed" });
});

test("close() ends a waiting next() with undefined, with every strategy; so does each later one", async () => {
  for (const idle of STRATEGIES) {
    await using place = new Place();
    const { consumer } = await place.pair({ consumer: { idle } });
    const next = consumer.next();
    for (let i = 0; i < 12; i++) await turn();
    await consumer.close();
    assert.equal(await within(next, `the end (${idle})`), undefined);
    assert.equal(await within(consumer.next(), "the end"), undefined);
  }
});

test("the sender's close() ends a waiting next() with undefined, with every strategy", async () => {
  for (const idle of STRATEGIES) {
    await using place = new Place();
    const { sender, consumer } = await place.pair({ consumer: { idle } });
    const next = consumer.next();
    for (let i = 0; i < 12; i++) await turn();
    await sender.close();
    assert.equal(await within(next, `the end (${idle})`), undefined);
    assert.deepEqual(consumer.ended, { reason: "sender-closed" });
  }
});

test("for await hands out everything, lets timers run, and ends when the sender closes", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: { ringCapacityBytes: 1024 * 1024 } });
  let published = 2000;
  publish(sender, 1, published);
  let hasTimerRun = false;
  const timer = setTimeout(() => hasTimerRun = true, 0);
  const slots: number[] = [];
  const reading = (async () => {
    for await (const update of consumer) {
      slots.push(slotOf(update));
      // Never empty until a timer has run: a loop that lets none run would go on until the watchdog ends it.
      if (!hasTimerRun && slots.length === published - 1000) publish(sender, published + 1, published += 1000);
      if (slots.length === published) void sender.close();
    }
  })();
  await within(reading, "the end");
  clearTimeout(timer);
  assert.ok(hasTimerRun, "a loop that always finds something still lets timers run");
  assert.deepEqual(slots, Array.from({ length: published }, (_, i) => i + 1));
  assert.equal(consumer.metrics.frames, published);
});

test("break leaves the consumer open and the view valid, and the next loop goes on behind it", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  publish(sender, 1, 5);
  let last: UpdateView | undefined;
  for await (const update of consumer) {
    last = update;
    if (slotOf(update) === 2) break;
  }
  assert.equal(consumer.ended, undefined);
  publish(sender, 6, 6); // would overwrite the view if its room had been given back
  assert.equal(slotOf(last!), 2);
  const rest: number[] = [];
  for await (const update of consumer) {
    rest.push(slotOf(update));
    if (rest.length === 4) break;
  }
  assert.deepEqual(rest, [3, 4, 5, 6]);
});

test("an error in the loop's body comes out of it and leaves the consumer open", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  publish(sender, 1, 2);
  const failure = new Error("the body's");
  await assert.rejects(async () => {
    for await (const _ of consumer) throw failure;
  }, failure);
  assert.equal(slotOf(await within(consumer.next(), "a slot")), 2);
});

test("close() in the loop's body ends the loop", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  publish(sender, 1, 5);
  let count = 0;
  for await (const _ of consumer) {
    count++;
    await consumer.close();
  }
  assert.equal(count, 1);
});

test("an iterator's return() may be called at any time", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  publish(sender, 1);
  const iterator = consumer[Symbol.asyncIterator]();
  assert.deepEqual(await iterator.return!(), { value: undefined, done: true });
  assert.equal(slotOf((await iterator.next()).value), 1);
  await iterator.return!();
  await consumer.close();
  assert.deepEqual(await iterator.return!(), { value: undefined, done: true });
  assert.deepEqual(await iterator.next(), { value: undefined, done: true });
});

/** The batches of one consumer as lists of slots, until it ends or `count` are there. */
async function batches(consumer: Consumer, count: number): Promise<number[][]> {
  const lists: number[][] = [];
  for await (const batch of consumer.batches()) {
    assert.ok(batch.size > 0);
    lists.push(Array.from(batch, slotOf));
    assert.equal(batch.size, 0, "it has been iterated");
    if (lists.length === count) break;
  }
  return lists;
}

test("batches() yields what is there as one, up to 256, and waits for more", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  publish(sender, 1, 3);
  assert.deepEqual(await within(batches(consumer, 1), "a batch"), [[1, 2, 3]]);
  const more = batches(consumer, 1);
  for (let i = 0; i < 12; i++) await turn();
  publish(sender, 4);
  assert.deepEqual(await within(more, "a batch"), [[4]]);
  publish(sender, 1, 300);
  assert.deepEqual((await within(batches(consumer, 2), "two batches")).map((list) => list.length), [256, 44]);
});

test("what a loop leaves of a batch comes with the next one, none twice", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  publish(sender, 1, 10);
  const slots: number[] = [];
  for await (const batch of consumer.batches()) {
    for (const update of batch) {
      slots.push(slotOf(update));
      if (slots.length % 3 === 0) break;
    }
    if (slots.length >= 10) break;
  }
  assert.deepEqual(slots, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
});

test("batches() ends when the sender closes, everything having been yielded, and no empty batch for a goodbye", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  publish(sender, 1, 3);
  await sender.close();
  assert.deepEqual(await within(batches(consumer, Infinity), "the end").then((lists) => lists.flat()), [1, 2, 3]);
  await using other = new Place();
  const pair = await other.pair();
  const reading = batches(pair.consumer, Infinity);
  for (let i = 0; i < 12; i++) await turn();
  await pair.sender.close();
  assert.deepEqual(await within(reading, "the end"), []);
});

test("batches() lets timers run although there is always a batch", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  publish(sender, 1);
  let isTimerRun = false;
  const timer = setTimeout(() => isTimerRun = true, 0);
  let count = 0;
  for await (const batch of consumer.batches()) {
    for (const _ of batch) publish(sender, 1);
    if (isTimerRun) break;
    if (++count === 100_000) break; // nothing else would end a loop that lets nobody in
  }
  clearTimeout(timer);
  assert.ok(isTimerRun);
});

test("batches() ends when the consumer closes", async () => {
  await using place = new Place();
  const { consumer } = await place.pair();
  const reading = batches(consumer, Infinity);
  for (let i = 0; i < 12; i++) await turn();
  await consumer.close();
  assert.deepEqual(await within(reading, "the end"), []);
  assert.deepEqual(await within(batches(consumer, Infinity), "the end"), []);
});

test("the ways of reading can be mixed, one after the other", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  publish(sender, 1, 8);
  assert.equal(slotOf(await consumer.next()), 1);
  assert.equal(consumer.tryNextSlot()?.slot, 2n);
  const polled: number[] = [];
  consumer.poll((update) => void polled.push(slotOf(update)), 2);
  assert.deepEqual(polled, [3, 4]);
  for await (const update of consumer) {
    assert.equal(slotOf(update), 5);
    break;
  }
  for await (const batch of consumer.batches()) {
    assert.deepEqual(Array.from(batch, slotOf), [6, 7, 8]);
    break;
  }
  assert.equal(await consumer.next(0), undefined);
});

test("a sender in the same loop can keep a consumer busy for ever, and both get their turns", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  let published = 0;
  const timer = setInterval(() => publish(sender, ++published), 0);
  let read = 0;
  await within(
    (async () => {
      for await (const update of consumer) {
        assert.equal(slotOf(update), ++read);
        if (read === 100) break;
      }
    })(),
    "a hundred updates",
  );
  clearInterval(timer);
  await until(() => published >= 100, "the publisher");
});

test("who leaves a loop while it waits is not waited for, and takes nothing from who reads next", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  const loop = consumer[Symbol.asyncIterator]();
  const asked = loop.next();
  await turn();
  await loop.return!();
  assert.deepEqual(await within(asked, "the end of the wait"), { value: undefined, done: true });
  publish(sender, 7);
  assert.equal(slotOf((await within(consumer.next(), "the slot"))!), 7);
});
