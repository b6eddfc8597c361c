/**
 * History from one end to the other: who loses the connection while the sender lives goes on where it was.
 * May touch: the public API, one sender and its consumers. May not touch: messages, frames.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { ConnectionEvent, Consumer, ConsumerOptions, Sender, UpdateView } from "../../mod.ts";
import { Place } from "./support/place.ts";
import { accountUpdate, keyOf, patternBytes, slotUpdate, transactionUpdate } from "./support/updates.ts";
import { until, within } from "./support/watchdog.ts";

const HISTORY = { history: { bytes: 4 << 20 } } as const;

function publish(sender: Sender, key: number, slot: bigint, bytes = 3000): void {
  sender.publishAccount(accountUpdate({ pubkey: keyOf(key), owner: keyOf(200), slot, data: patternBytes(bytes, 1) }));
}

/** So much that whoever does not read is dropped: its ring has 64 KiB. */
function overflow(sender: Sender, from: number, count = 40): void {
  for (let i = 0; i < count; i++) publish(sender, 1, BigInt(from + i));
}

async function open(place: Place, options: ConsumerOptions = {}) {
  const events: ConnectionEvent[] = [];
  const consumer = await place.consumer({
    reconnect: { minMs: 1, maxMs: 20 },
    ...options,
    onConnection: (event) => void events.push(event),
  });
  const resumed = () => events.filter((event) => event.type === "resumed");
  return { consumer, events, resumed };
}

const gist = (update: UpdateView): string =>
  update.kind === "account" || update.kind === "slot"
    ? `${update.kind} ${update.slot} [${update.filters}]`
    : update.kind === "connection"
    ? `connection ${update.event.type}`
    : update.kind;

async function readTo(consumer: Consumer, isLast: (update: UpdateView) => boolean): Promise<string[]> {
  return await within(
    (async () => {
      const all: string[] = [];
      for await (const update of consumer) {
        const isOver = isLast(update);
        all.push(gist(update));
        if (isOver) return all;
      }
      return all;
    })(),
    "the last update",
  );
}

test("who was too slow is dropped, comes back, and has missed nothing", async () => {
  await using place = new Place();
  const sender = await place.sender(HISTORY);
  const { consumer, resumed } = await open(place);
  await consumer.subscribe({ accounts: [keyOf(1)], transactions: true });
  overflow(sender, 1);
  await until(() => sender.metrics.consumers === 0, "the end of the slow one");
  const seen = await Promise.all([
    readTo(consumer, (update) => update.kind === "slot"),
    until(() => resumed().length === 1, "its return").then(() => {
      publish(sender, 1, 41n);
      sender.publishTransaction(transactionUpdate());
      sender.publishSlot(slotUpdate({ slot: 42n }));
    }),
  ]).then(([seen]) => seen);
  const accounts = seen.filter((line) => line.startsWith("account"));
  assert.deepEqual(accounts, Array.from({ length: 41 }, (_, i) => `account ${i + 1} []`));
  assert.deepEqual(seen.slice(-2), ["transaction", "slot 42 []"]);
  const [event] = resumed();
  assert.ok(event?.type === "resumed");
  assert.deepEqual([event.continuity, event.isSameSender], ["complete", true]);
});

test("what it missed comes by its filters: slices, slots, several at once", async () => {
  await using place = new Place();
  const sender = await place.sender(HISTORY);
  const { consumer, resumed } = await open(place);
  await consumer.setFilter("slice", { accounts: { owners: [keyOf(200)], dataSlice: { offset: 1, length: 2 } } });
  await consumer.setFilter("whole", { accounts: { accounts: [keyOf(1)] } });
  await consumer.setFilter("ends", { slots: { statuses: ["finalized"] } });
  overflow(sender, 1);
  await until(() => sender.metrics.consumers === 0, "the end of the slow one");
  publish(sender, 2, 100n);
  sender.publishSlot(slotUpdate({ slot: 100n, status: "processed" }));
  sender.publishSlot(slotUpdate({ slot: 100n, status: "finalized" }));
  publish(sender, 2, 100n); // behind the slot frames, which were published by then
  const lengths: number[] = [];
  const counts: number[] = [];
  const seen = await readTo(consumer, (update) => {
    if (update.kind === "account") lengths.push(update.dataLength);
    if (update.kind === "slot") counts.push(update.accountsPublished, update.accountsLost);
    return update.kind === "slot";
  });
  assert.deepEqual(
    seen.filter((line) => !line.startsWith("connection")),
    [
      ...Array.from({ length: 40 }, (_, i) => `account ${i + 1} [slice,whole]`),
      "account 100 [slice]",
      "slot 100 [ends]",
    ],
  );
  assert.deepEqual(lengths, [...Array.from({ length: 40 }, () => 3000), 2]);
  assert.deepEqual(counts, [1, 0], "what the slot frame said to others");
  assert.equal(resumed().length, 1);
});

test("what is more than its ring comes at its pace, while updates go on", async () => {
  await using place = new Place();
  const sender = await place.sender(HISTORY);
  const { consumer, resumed } = await open(place);
  await consumer.subscribe({ accounts: [keyOf(1)] });
  overflow(sender, 1, 300);
  await until(() => sender.metrics.consumers === 0, "the end of the slow one");
  let next = 301n;
  const seen = await readTo(consumer, (update) => {
    if (update.kind === "account" && resumed().length > 0 && next <= 400n) publish(sender, 1, next++);
    return update.kind === "account" && update.slot === 400n;
  });
  const accounts = seen.filter((line) => line.startsWith("account"));
  assert.deepEqual(accounts, Array.from({ length: 400 }, (_, i) => `account ${i + 1} []`));
  assert.ok(resumed().length >= 1);
});

test("a history that is too short: what is missing is told, then it is live", async () => {
  await using place = new Place();
  const sender = await place.sender({ history: { bytes: 1 << 20 } });
  const { consumer, resumed, events } = await open(place);
  await consumer.subscribe({ accounts: [keyOf(1)] });
  overflow(sender, 1, 1000);
  await until(() => sender.metrics.consumers === 0, "the end of the slow one");
  assert.ok(sender.metrics.history.bytes <= 1 << 20);
  assert.ok(sender.metrics.history.updates < 400);
  const seen = await Promise.all([
    readTo(consumer, (update) => update.kind === "account" && update.slot === 2000n),
    until(() => resumed().length === 1, "its return").then(() => publish(sender, 1, 2000n)),
  ]).then(([seen]) => seen);
  assert.deepEqual(seen.at(-1), "account 2000 []");
  const [event] = resumed();
  assert.ok(event?.type === "resumed" && event.continuity === "unknown");
  assert.equal(event.isSameSender, true);
  const lost = events.find((one) => one.type === "lost");
  assert.ok(lost?.type === "lost" && event.sequence !== undefined && event.sequence - lost.lastSequence > 900n);
});

test("state that was asked for comes behind what was missed, and not twice", async () => {
  await using place = new Place();
  const sender = await place.sender({ ...HISTORY, state: { maxBytes: 4 << 20, keep: "all" } });
  publish(sender, 3, 1n);
  const { consumer, resumed } = await open(place);
  await consumer.subscribe({ accounts: [keyOf(1)] });
  overflow(sender, 2);
  await until(() => sender.metrics.consumers === 0, "the end of the slow one");
  await readTo(consumer, (update) => update.kind === "account" && update.slot === 41n);
  await until(() => resumed().length === 1, "its return");
  await consumer.setFilter("all", { accounts: { owners: [keyOf(200)] }, state: true });
  const states: string[] = [];
  await readTo(consumer, (update) => {
    if (update.kind === "account") states.push(`${update.isState} ${update.slot}`);
    return update.kind === "snapshot-complete";
  });
  assert.deepEqual(states.sort(), ["true 1", "true 41"]);
});

test("options of the history that can't be are refused", async () => {
  await using place = new Place();
  for (const bytes of [0, 1000, 2 ** 40, NaN]) {
    await assert.rejects(place.sender({ history: { bytes } }), { name: "RangeError", message: /history.bytes/ });
  }
});
