/**
 * Consumer.poll(): what its handler may do and what it may not.
 * May touch: the public API, one sender and one consumer. May not touch: timing.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Sender, UpdateView } from "../../mod.ts";
import { CAPACITY_BYTES, Place } from "./support/place.ts";
import { accountUpdate, keyOf, patternBytes, slotUpdate } from "./support/updates.ts";
import { until, within } from "./support/watchdog.ts";

function publish(sender: Sender, from: number, to: number): void {
  for (let slot = from; slot <= to; slot++) sender.publishSlot(slotUpdate({ slot: BigInt(slot) }));
}

const slotOf = (update: UpdateView): number => update.kind === "slot" ? update.slotNumber : -1;

test("poll() hands out what is there, in order, never waits, and gives the room back", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  assert.equal(consumer.poll(() => assert.fail()), 0);
  publish(sender, 1, 10);
  assert.equal(consumer.metrics.ring.usedBytes, 1280);
  const slots: number[] = [];
  assert.equal(consumer.poll((update) => void slots.push(slotOf(update))), 10);
  assert.deepEqual(slots, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  assert.equal(consumer.metrics.ring.usedBytes, 0);
  assert.equal(sender.consumers()[0]?.ring.usedBytes, 0);
});

test("poll() hands out at most limit, by default 256; the rest comes next time", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  publish(sender, 1, 300);
  const slots: number[] = [];
  const take = (update: UpdateView) => void slots.push(slotOf(update));
  assert.equal(consumer.poll(take, 0), 0);
  assert.equal(consumer.poll(take, 1), 1);
  assert.equal(consumer.poll(take, 7), 7);
  assert.equal(consumer.poll(take), 256);
  assert.equal(consumer.poll(take, 1000), 36);
  assert.deepEqual(slots, Array.from({ length: 300 }, (_, i) => i + 1));
});

test("poll() with a limit beyond a batch goes on over batches", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  publish(sender, 1, 400);
  let count = 0;
  assert.equal(consumer.poll(() => void count++, Infinity), 400);
  assert.equal(count, 400);
});

test("poll() sees what its own handler publishes, as far as limit goes", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  publish(sender, 1, 1);
  const count = consumer.poll((update) => publish(sender, slotOf(update) + 1, slotOf(update) + 1), 50);
  assert.equal(count, 50);
});

test("poll(), next(), tryNext…() and iteration are refused inside a handler; the poll goes on", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  publish(sender, 1, 3);
  const busy = { code: "CONSUMER_BUSY" };
  const pending: Promise<unknown>[] = [];
  const slots: number[] = [];
  assert.equal(
    consumer.poll((update) => {
      assert.throws(() => consumer.poll(() => assert.fail()), busy);
      assert.throws(() => consumer.tryNextSlot(), busy);
      assert.throws(() => consumer.tryNextUpdate(), busy);
      assert.throws(() => consumer.tryNextTransaction(), busy);
      pending.push(assert.rejects(consumer.next(), busy));
      pending.push(assert.rejects(consumer[Symbol.asyncIterator]().next(), busy));
      pending.push(assert.rejects(consumer.batches().next(), busy));
      slots.push(slotOf(update)); // none of them has moved the view
    }),
    3,
  );
  await within(Promise.all(pending), "the refusals");
  assert.deepEqual(slots, [1, 2, 3]);
});

test("what a handler throws comes out of poll(); its update counts as delivered, the rest stays", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  publish(sender, 1, 3);
  const failure = new Error("the handler's");
  assert.throws(() =>
    consumer.poll((update) => {
      if (slotOf(update) === 2) throw failure;
    }), failure);
  assert.equal(consumer.metrics.ring.usedBytes, 128, "two were given back");
  const slots: number[] = [];
  assert.equal(consumer.poll((update) => void slots.push(slotOf(update))), 1);
  assert.deepEqual(slots, [3]);
});

test("a handler that returns a promise is refused, whatever becomes of the promise", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  publish(sender, 1, 4);
  const handlers: ((update: UpdateView) => unknown)[] = [
    async () => await undefined,
    () => Promise.reject(new Error("must not become an unhandled rejection")),
    () => ({ then: (resolve?: () => void) => resolve?.() }),
  ];
  for (const handler of handlers) {
    assert.throws(() => consumer.poll(handler as () => void), { name: "TypeError", message: /returned a promise/ });
  }
  const slots: number[] = [];
  consumer.poll((update) => void slots.push(slotOf(update)));
  assert.deepEqual(slots, [4], "each refused one was delivered");
  await new Promise((resolve) => setTimeout(resolve, 0));
});

test("what a handler returns that is no promise is ignored", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  for (const value of [null, 0, "x", {}, { then: 1 }, () => {}]) {
    publish(sender, 1, 1);
    assert.equal(consumer.poll((() => value) as () => void), 1);
  }
});

test("close() inside a handler takes effect when it returns: its view is whole until then, and it is the last", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  await consumer.subscribe({ accounts: [keyOf(1)] });
  const data = patternBytes(500, 1);
  sender.publishAccount(accountUpdate({ data }));
  publish(sender, 1, 3);
  let count = 0;
  let kept: UpdateView | undefined;
  assert.equal(
    consumer.poll((update) => {
      count++;
      kept = update;
      void consumer.close();
      void consumer.close();
      assert.equal(consumer.ended, undefined);
      assert.ok(update.kind === "account");
      assert.deepEqual(update.copy().data, data);
    }),
    1,
  );
  assert.equal(count, 1);
  assert.deepEqual(consumer.ended, { reason: "closed" });
  assert.throws(() => kept?.sequence, TypeError);
  assert.equal(consumer.poll(() => assert.fail()), 0);
  await until(() => sender.metrics.consumers === 0, "the sender's notice");
});

test("close() inside a handler that then throws closes all the same", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  publish(sender, 1, 2);
  const failure = new Error("the handler's");
  assert.throws(() =>
    consumer.poll(() => {
      void consumer.close();
      throw failure;
    }), failure);
  assert.deepEqual(consumer.ended, { reason: "closed" });
});

test("an abort inside a handler takes effect when it returns", async () => {
  await using place = new Place();
  const controller = new AbortController();
  const { sender, consumer } = await place.pair({ consumer: { signal: controller.signal } });
  publish(sender, 1, 2);
  const count = consumer.poll((update) => {
    controller.abort();
    assert.equal(slotOf(update), 1);
  });
  assert.equal(count, 1);
  assert.deepEqual(consumer.ended, { reason: "closed" });
});

test("the sender's close() inside a handler: what is in the ring is delivered, then the end", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  publish(sender, 1, 5);
  const slots: number[] = [];
  consumer.poll((update) => {
    if (slotOf(update) === 1) void sender.close();
    slots.push(slotOf(update));
  });
  assert.deepEqual(slots, [1, 2, 3, 4, 5]);
  assert.deepEqual(await within(consumer.whenEnded, "the end"), { reason: "sender-closed" });
});

test("poll() is refused while next() waits, and works again afterwards", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  const next = consumer.next();
  assert.throws(() => consumer.poll(() => {}), { code: "CONSUMER_BUSY" });
  publish(sender, 1, 2);
  await within(next, "an update");
  assert.equal(consumer.poll(() => {}), 1);
});

test("a long handler sees the same bytes from first to last, although the sender fills the ring", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  await consumer.subscribe({ accounts: [keyOf(1)] });
  const data = patternBytes(1000, 7);
  sender.publishAccount(accountUpdate({ data }));
  consumer.poll((update) => {
    for (let i = 0; i < CAPACITY_BYTES / 1000; i++) {
      sender.publishAccount(accountUpdate({ data: patternBytes(1000, i) }));
    }
    assert.ok(update.kind === "account");
    assert.deepEqual(update.copy().data, data);
  }, 1);
  assert.equal(sender.metrics.ringFull, 1, "it was full, and then the consumer was let go");
});
