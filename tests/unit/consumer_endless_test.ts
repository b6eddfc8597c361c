/**
 * A sender that writes as fast as its consumer reads: whatever it writes, and however the consumer reads, the event loop gets
 * its turns, and nothing grows.
 * May touch: a consumer over a scripted sender's ring, through a native library that writes before each look at it.
 *
 * @module
 */

import assert from "node:assert/strict";
import { setImmediate } from "node:timers/promises";
import { before, test } from "node:test";
import { openConsumer } from "../../src/stream/consumer.ts";
import type { Consumer } from "../../src/stream/consumer.ts";
import { resolveConsumerOptions } from "../../src/stream/consumer_options.ts";
import { IDLE_STRATEGIES, type IdleStrategy } from "../../src/stream/idle.ts";
import type { Native } from "../../src/native/native.ts";
import { load } from "./support/native_pairs.ts";
import { CAPACITY_BYTES, Place } from "./support/place.ts";
import { ScriptedSender } from "./support/scripted_sender.ts";
import { slotUpdate } from "./support/updates.ts";
import { within } from "./support/watchdog.ts";

let native: Native;
before(async () => {
  native = await load();
});

const REST = { bankId: 0n, lossy: false, sourceNs: 0n };
const NO_COUNTS = { accountsPublished: 0, transactionsPublished: 0, accountsLost: 0, transactionsLost: 0 };
/** Where a reader that never stops is stopped, so that the test fails and does not hang. */
const LOOKS_MAX = 20_000;

/** A consumer, and how often it has looked at its ring, into which the sender writes each time. */
async function scene(
  place: Place,
  write: (sender: ScriptedSender, look: number) => void,
  idle: IdleStrategy = "park",
  lies: (counts: { readonly looks: number }) => Partial<Native> = () => ({}),
) {
  const sender = new ScriptedSender(native, place.path, { capacityBytes: CAPACITY_BYTES });
  const counts = { looks: 0 };
  const eager: Native = {
    ...native,
    ringPoll: (ring, records, count) => {
      if (counts.looks < LOOKS_MAX) write(sender, counts.looks++);
      return native.ringPoll(ring, records, count);
    },
    ...lies(counts),
  };
  const opening = openConsumer(eager, place.path, resolveConsumerOptions({ reconnect: false, idle }));
  await sender.grant();
  const consumer = await within(opening, "a consumer");
  return { sender, consumer, counts };
}

const writeMark = (sender: ScriptedSender, look: number) =>
  sender.engine.mark({ kind: "filter", generation: look, sourceNs: 0n });
const writeUpdateAndMark = (sender: ScriptedSender, look: number) => {
  sender.engine.publish({ ...slotUpdate({ slot: BigInt(look) }), ...REST, ...NO_COUNTS });
  writeMark(sender, look);
};

const WAYS: Readonly<Record<string, (consumer: Consumer) => Promise<unknown>>> = {
  next: (consumer) => consumer.next(),
  run: (consumer) => consumer.run(() => {}),
  batches: async (consumer) => {
    for await (const batch of consumer.batches()) for (const _ of batch);
  },
  "for await": async (consumer) => {
    for await (const _ of consumer);
  },
  readable: (consumer) => consumer.readable().getReader().read(),
  poll: (consumer) => Promise.resolve(consumer.poll(() => {})),
  tryNext: (consumer) => Promise.resolve(consumer.tryNextSlot()),
};

for (const [name, read] of Object.entries(WAYS)) {
  test(`${name}: endless marks, of which nothing is handed out, leave the event loop its turns`, async () => {
    await using place = new Place();
    const { sender, consumer, counts } = await scene(place, writeMark);
    const reading = read(consumer);
    reading.catch(() => {});
    for (let turn = 0; turn < 10; turn++) await setImmediate();
    const { looks } = counts;
    assert.ok(looks < LOOKS_MAX, `${looks} looks in ten turns`);
    await consumer.close();
    await within(Promise.allSettled([reading]), "the end of the reading");
    sender[Symbol.dispose]();
  });
}

for (const idle of IDLE_STRATEGIES) {
  test(`idle ${idle}: a ring that says that there is more, and has nothing, leaves the event loop its turns`, async () => {
    await using place = new Place();
    const { sender, consumer, counts } = await scene(place, () => {}, idle, (counts) => ({
      ringPark: () => counts.looks < LOOKS_MAX ? 0 : 1,
      ringSpin: () => counts.looks < LOOKS_MAX ? 1 : 0,
    }));
    const reading = consumer.run(() => {});
    reading.catch(() => {});
    for (let turn = 0; turn < 10; turn++) await setImmediate();
    assert.ok(counts.looks < LOOKS_MAX, `${counts.looks} looks in ten turns`);
    await consumer.close();
    sender[Symbol.dispose]();
  });
}

test("batches: one batch ends, whatever comes while it is read", async () => {
  await using place = new Place();
  const { sender, consumer } = await scene(place, writeUpdateAndMark);
  for await (const batch of consumer.batches()) {
    let count = 0;
    for (const _ of batch) count++;
    assert.ok(count <= 256, `${count} updates in one batch`);
    break;
  }
  await consumer.close();
  sender[Symbol.dispose]();
});

test("what follows many marks is read, in its order", async () => {
  await using place = new Place();
  const { sender, consumer } = await scene(
    place,
    (sender, look) => look < 100 ? writeMark(sender, look) : writeUpdateAndMark(sender, look),
  );
  for (let slot = 100; slot < 110; slot++) {
    const update = await within(consumer.next(), "an update");
    assert.ok(update?.kind === "slot");
    assert.equal(update.slotNumber, slot);
  }
  await consumer.close();
  sender[Symbol.dispose]();
});
