/**
 * A sender and those who come and go: events and their order, refusals with their texts, what it knows of each.
 * May touch: the public API; the native library for peers that do not behave. May not touch: frames.
 *
 * @module
 */

import assert from "node:assert/strict";
import process from "node:process";
import { test } from "node:test";
import { type ConsumerEvent, load, type SubscriptionEvent } from "../../mod.ts";
import { Status } from "../../src/native/abi.generated.ts";
import { openSender } from "../../src/stream/sender.ts";
import { decodeHeader, decodeRefusal, encodeHello } from "../../src/wire/messages.ts";
import { socketPair } from "./support/native_pairs.ts";
import { CAPACITY_BYTES, Place } from "./support/place.ts";
import { keyOf, slotUpdate, transactionUpdate } from "./support/updates.ts";
import { until, within } from "./support/watchdog.ts";

const MEMORY_PER_CONSUMER = CAPACITY_BYTES + 2 * 65536;

test("onConsumer and onSubscription tell of everything, in its order", async () => {
  await using place = new Place();
  const log: string[] = [];
  const onConsumer = (event: ConsumerEvent) => {
    if (event.type === "refused") return void log.push(`refused ${event.reason}`);
    log.push(`${event.type} ${event.consumer.name}${event.type === "disconnected" ? ` ${event.reason}` : ""}`);
  };
  const onSubscription = (event: SubscriptionEvent) => void log.push(`subscription ${event.consumer.name}`);
  const sender = await place.sender({ onConsumer, onSubscription });
  const a = await place.consumer({ name: "a" });
  await a.subscribe({ accounts: [keyOf(1)] });
  const b = await place.consumer({ name: "b" });
  await b.subscribe({ transactions: true });
  await a.subscribe({ owners: [keyOf(2)] });
  await a.close();
  await until(() => log.length >= 6, "the end of a");
  await sender.close();
  await until(() => log.length >= 7, "the end of b");
  assert.deepEqual(log, [
    "connected a",
    "subscription a",
    "connected b",
    "subscription b",
    "subscription a",
    "disconnected a consumer-closed",
    "disconnected b sender-closed",
  ]);
});

test("a subscription event has the request's keys, and the state after it; it comes when the filter is in force", async () => {
  await using place = new Place();
  const events: SubscriptionEvent[] = [];
  const started = performance.now();
  const { sender, consumer } = await place.pair({
    sender: {
      onSubscription: (event) => {
        events.push(event);
        sender.publishTransaction(transactionUpdate({ index: events.length }));
      },
    },
  });
  await consumer.subscribe({ accounts: [keyOf(1), keyOf(1), keyOf(2)], owners: [keyOf(3)], transactions: true });
  await consumer.subscribe({ accounts: [keyOf(2)], transactions: false });
  await until(() => events.length === 2, "the events");
  const [first, second] = events as [SubscriptionEvent, SubscriptionEvent];
  assert.deepEqual(first.accounts, [keyOf(1), keyOf(1), keyOf(2)]);
  assert.deepEqual([first.owners, first.transactions], [[keyOf(3)], true]);
  assert.deepEqual([first.consumer.accounts, first.consumer.owners, first.consumer.transactions], [2, 1, true]);
  assert.deepEqual([second.accounts, second.owners, second.transactions], [[keyOf(2)], [], false]);
  assert.deepEqual([second.consumer.accounts, second.consumer.transactions], [2, true], "transactions stay");
  assert.ok(
    started <= first.receivedAt && first.receivedAt <= second.receivedAt && second.receivedAt <= performance.now(),
  );
  for (const index of [1, 2]) {
    const update = await within(consumer.next(), "what the listener published");
    assert.ok(update?.kind === "transaction" && update.index === index);
  }
});

test("onConsumer() and onSubscription() return a function that ends them", async () => {
  await using place = new Place();
  const sender = await place.sender();
  const log: string[] = [];
  const endConsumer = sender.onConsumer((event) => void log.push(event.type));
  const endSubscription = sender.onSubscription(() => void log.push("subscription"));
  const alwaysSeen: string[] = [];
  sender.onConsumer((event) => void alwaysSeen.push(event.type));
  const consumer = await place.consumer();
  await consumer.subscribe({});
  await until(() => log.length === 2, "the events");
  endConsumer();
  endSubscription();
  await consumer.subscribe({});
  await consumer.close();
  await until(() => alwaysSeen.length === 2, "the end");
  assert.deepEqual(log, ["connected", "subscription"]);
});

test("consumers() shows each present consumer, oldest first", async () => {
  await using place = new Place();
  const before = Date.now();
  const sender = await place.sender();
  assert.deepEqual(sender.consumers(), []);
  const a = await place.consumer({ name: "ä first" });
  const b = await place.consumer();
  await until(() => sender.metrics.consumers === 2, "both");
  await a.subscribe({ accounts: [keyOf(1), keyOf(2)], owners: [keyOf(3)], transactions: true });
  sender.publishSlot(slotUpdate());
  const [first, second] = sender.consumers();
  const native = await load();
  assert.ok(first!.lag.ageUs > 0 && first!.lag.ageUs < 1e6 * (Date.now() - before + 1000));
  assert.deepEqual({ ...first, connectedAt: 0, parked: false, lag: { ...first!.lag, ageUs: 0 } }, {
    id: 1,
    name: "ä first",
    protocol: "native",
    pid: process.pid,
    uid: native.uid(),
    connectedAt: 0,
    accounts: 2,
    owners: 1,
    transactions: true,
    policy: "disconnect",
    ring: { capacityBytes: CAPACITY_BYTES, usedBytes: 128 + 72 }, // the slot, and the mark of the edit
    waiting: { frames: 0, bytes: 0 },
    lag: { bytes: 128 + 72, frames: 1, ageUs: 0 }, // a mark is no update
    poolBytes: 0,
    frames: 1,
    lost: 0,
    conflated: 0,
    losses: {
      replaced: 0,
      skipped: 0,
      ringFull: 0,
      poolShare: 0,
      poolFull: 0,
      queueFull: 0,
      tooLarge: 0,
      noMemory: 0,
      ended: 0,
    },
    parked: false,
  });
  assert.ok(first!.connectedAt >= before - 1 && first!.connectedAt <= Date.now());
  assert.deepEqual([second?.id, second?.name, second?.accounts, second?.transactions], [2, "", 0, false]);
  a.poll(() => {});
  assert.equal(sender.consumers()[0]?.ring.usedBytes, 0);
  await a.close();
  await until(() => sender.consumers().length === 1, "the end of a");
  assert.equal(sender.consumers()[0]?.id, 2);
  assert.equal(b.ended, undefined);
});

test("consumers() shows who sleeps", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ consumer: { idle: "park" } });
  assert.equal(sender.consumers()[0]?.parked, false);
  const next = consumer.next();
  await until(() => sender.consumers()[0]!.parked, "the sleep");
  sender.publishSlot(slotUpdate());
  assert.equal((await within(next, "the slot"))?.kind, "slot");
  assert.equal(sender.consumers()[0]?.parked, false);
});

test("metrics count connections, memory and refusals, and give memory back", async () => {
  await using place = new Place();
  const sender = await place.sender();
  for (let i = 1; i <= 3; i++) {
    const consumer = await place.consumer();
    await until(() => sender.metrics.consumers === 1, "the consumer");
    assert.deepEqual([sender.metrics.connections, sender.metrics.memoryBytes], [i, MEMORY_PER_CONSUMER]);
    await consumer.close();
    await until(() => sender.metrics.consumers === 0, "its end");
    assert.equal(sender.metrics.memoryBytes, 0);
  }
  assert.equal(sender.metrics.refused, 0);
});

test("consumersMax: one more is refused with the sender's own text, and admitted when a place is free", async () => {
  await using place = new Place();
  const sender = await place.sender({ consumersMax: 2 });
  const first = await place.consumer();
  await place.consumer();
  await assert.rejects(place.consumer(), {
    code: "CONNECT_REFUSED",
    message: /2 consumers are connected, the limit is 2 \(option consumersMax\)/,
  });
  assert.deepEqual([sender.metrics.refused, sender.metrics.consumers], [1, 2]);
  await first.close();
  await until(() => sender.metrics.consumers === 1, "a free place");
  await place.consumer();
});

test("one more than there is a place for in the fan-out costs its own connection, and nobody else's", async () => {
  await using place = new Place();
  const native = await load();
  let isFull = true;
  const small = {
    ...native,
    fanoutAdd: (...args: Parameters<typeof native.fanoutAdd>) =>
      isFull ? Status.consumersLimit : native.fanoutAdd(...args),
  };
  const refusals: string[] = [];
  await using sender = await openSender(small, {
    path: place.path,
    ringCapacityBytes: CAPACITY_BYTES,
    onConsumer: (event) => void (event.type === "refused" && refusals.push(event.reason)),
  });
  const consumer = await place.consumer();
  await assert.rejects(within(consumer.next(), "its end"), { code: "CONNECTION_LOST", reason: "sender-gone" });
  await until(() => refusals.length === 1, "the refusal");
  assert.equal(sender.metrics.consumers, 0);
  assert.equal(sender.metrics.memoryBytes, 0);
  isFull = false;
  await (await place.consumer()).ping();
  assert.deepEqual([sender.metrics.connections, sender.metrics.refused], [1, 1]);
});

test("memoryMaxBytes: one more is refused with what it would take", async () => {
  await using place = new Place();
  const sender = await place.sender({ memoryMaxBytes: 2 * MEMORY_PER_CONSUMER - 1, poolBytes: 0 });
  await place.consumer();
  await assert.rejects(place.consumer(), {
    code: "CONNECT_REFUSED",
    message: new RegExp(
      `with it the sender would need ${2 * MEMORY_PER_CONSUMER} bytes \\(rings ${
        2 * MEMORY_PER_CONSUMER
      }\\), the limit ` +
        `is ${2 * MEMORY_PER_CONSUMER - 1}: raise memoryMaxBytes, or lower ringCapacityBytes`,
    ),
  });
  assert.equal(sender.metrics.refused, 1);
});

test("memoryMaxBytes: pool, state and history count, and the text names them", async () => {
  await using place = new Place();
  const [poolBytes, stateBytes, historyBytes] = [1 << 20, 4 << 20, 2 << 20];
  const own = poolBytes + stateBytes + historyBytes;
  const options = { poolBytes, state: { maxBytes: stateBytes }, history: { bytes: historyBytes } };
  const maxBytes = own + MEMORY_PER_CONSUMER;
  await assert.rejects(place.sender({ ...options, memoryMaxBytes: maxBytes - 1 }), {
    name: "RangeError",
    message: `memoryMaxBytes has no room for one consumer: with it the sender would need ${maxBytes} bytes ` +
      `(rings ${MEMORY_PER_CONSUMER}, pool ${poolBytes}, state ${stateBytes}, history ${historyBytes}), the limit is ` +
      `${maxBytes - 1}: raise memoryMaxBytes, or lower ringCapacityBytes, poolBytes, state.maxBytes, history.bytes`,
  });
  const sender = await place.sender({ ...options, memoryMaxBytes: maxBytes });
  assert.deepEqual(sender.metrics.memory, { bytes: own, maxBytes });
  await place.consumer();
  assert.deepEqual(sender.metrics.memory, { bytes: maxBytes, maxBytes });
  await assert.rejects(place.consumer(), { code: "CONNECT_REFUSED", message: /state 4194304, history 2097152\)/ });
});

test("memoryMaxBytes: by default a GiB for consumers, beside what is set", async () => {
  await using place = new Place();
  const sender = await place.sender({ state: { maxBytes: 4 << 20 } });
  const own = (256 << 20) + (4 << 20);
  assert.deepEqual(sender.metrics.memory, { bytes: own, maxBytes: own + 2 ** 30 });
});

test("memoryMaxBytes: a limit holds also for those who come at the same moment", async () => {
  await using place = new Place();
  const sender = await place.sender({ memoryMaxBytes: 2 * MEMORY_PER_CONSUMER, poolBytes: 0 });
  const outcomes = await within(Promise.allSettled(Array.from({ length: 6 }, () => place.consumer())), "the answers");
  assert.deepEqual(outcomes.map((outcome) => outcome.status).sort(), [
    "fulfilled",
    "fulfilled",
    ...Array(4).fill("rejected"),
  ]);
  for (const outcome of outcomes) {
    if (outcome.status === "rejected") assert.equal((outcome.reason as { code: string }).code, "CONNECT_REFUSED");
  }
  assert.deepEqual([sender.metrics.consumers, sender.metrics.refused], [2, 4]);
});

/** Connects natively and says what it is told to. Returns what came back once the sender has closed. */
async function knock(place: Place, hello: Uint8Array | undefined, withWake = true): Promise<Uint8Array> {
  const native = await load();
  const path = new TextEncoder().encode(place.path);
  const link = native.linkConnect(path, path.length);
  assert.ok(link >= 0);
  const [ours, theirs] = socketPair(native);
  if (hello !== undefined) {
    const sent = native.linkSend(link, hello, hello.length, Int32Array.of(theirs), withWake ? 1 : 0);
    assert.equal(sent, hello.length);
  }
  native.fdClose(theirs);
  const answer = new Uint8Array(4096);
  let length = 0;
  await until(() => {
    const count = native.linkReceive(link, answer.subarray(length), answer.length - length, new Uint32Array(4), 3);
    if (count > 0) length += count;
    return count === Status.endOfStream;
  }, "the end of the link");
  native.close(link);
  const wake = native.linkAdopt(ours);
  native.fdClose(ours);
  await until(
    () => native.linkReceive(wake, new Uint8Array(9), 9, new Uint32Array(1), 0) === Status.endOfStream,
    "the end of the wake that was handed over",
  );
  native.close(wake);
  return answer.slice(0, length);
}

test("a peer that says nothing is let go after handshakeTimeoutMs, and counted as refused", async () => {
  await using place = new Place();
  const refusals: unknown[] = [];
  const onConsumer = (event: ConsumerEvent) => void refusals.push(event);
  const sender = await place.sender({ handshakeTimeoutMs: 1, onConsumer });
  assert.equal((await knock(place, undefined)).length, 0);
  assert.equal((await knock(place, encodeHello("half").subarray(0, 20))).length, 0);
  assert.equal(sender.metrics.refused, 2);
  const reason = "nothing whole came within 1 ms (option handshakeTimeoutMs)";
  const who = { type: "refused", pid: process.pid, uid: process.getuid!(), reason };
  assert.deepEqual(refusals, [{ ...who, protocol: undefined }, { ...who, protocol: "native" }]);
});

test("a peer that says nonsense, or hello without a wake, is let go at once", async () => {
  await using place = new Place();
  const sender = await place.sender({ handshakeTimeoutMs: 3_600_000 });
  assert.equal((await knock(place, new Uint8Array(64).fill(7))).length, 0);
  assert.equal((await knock(place, encodeHello("no wake"), false)).length, 0);
  assert.equal(sender.metrics.refused, 2);
  assert.equal(sender.metrics.consumers, 0);
});

test("a hello of another version is refused with who has to upgrade", async () => {
  await using place = new Place();
  const refusals: string[] = [];
  const sender = await place.sender({
    onConsumer: (event) => void (event.type === "refused" && refusals.push(`${event.protocol}: ${event.reason}`)),
  });
  for (
    const [min, max, text] of [
      [2, 9, "the sender speaks version 1, the consumer 2 to 9: upgrade the sender"],
      [0, 0, "the sender speaks version 1, the consumer 0 to 0: upgrade the consumer"],
    ] as const
  ) {
    const hello = encodeHello("x");
    new DataView(hello.buffer).setUint16(16, min, true);
    new DataView(hello.buffer).setUint16(18, max, true);
    const answer = await knock(place, hello);
    const { kind, requestId } = decodeHeader(answer);
    assert.deepEqual(decodeRefusal({ kind, requestId, body: answer.subarray(16) }), {
      status: Status.badVersion,
      text,
    });
    assert.equal(refusals.pop(), `native: ${text}`);
  }
  assert.equal(sender.metrics.refused, 2);
});

test("a consumer without a goodbye is gone: its link is closed, or only its wake", async () => {
  for (const what of ["link", "wake", "both"]) {
    await using place = new Place();
    const reasons: string[] = [];
    const sender = await place.sender({
      onConsumer: (event) => event.type === "disconnected" && reasons.push(event.reason),
    });
    const native = await load();
    const path = new TextEncoder().encode(place.path);
    const link = native.linkConnect(path, path.length);
    const [ours, theirs] = socketPair(native);
    const hello = encodeHello(what);
    assert.equal(native.linkSend(link, hello, hello.length, Int32Array.of(theirs), 1), hello.length);
    native.fdClose(theirs);
    const granted = new Uint32Array(5);
    await until(() => native.linkReceive(link, new Uint8Array(256), 256, granted, 4) > 0, "a grant");
    assert.equal(granted[0], 4);
    await until(() => sender.metrics.consumers === 1, "the consumer");
    const [, ring, page, senderWake, pool] = [...granted];
    for (const fd of [ring!, page!, pool!]) native.fdClose(fd);
    if (what !== "wake") native.close(link);
    if (what !== "link") { for (const fd of [ours, senderWake!]) native.fdClose(fd); }
    await until(() => reasons.length === 1, `the end (${what})`);
    assert.deepEqual([reasons, sender.metrics.consumers], [["consumer-gone"], 0]);
    if (what === "wake") native.close(link);
    if (what === "link") { for (const fd of [ours, senderWake!]) native.fdClose(fd); }
  }
});

test("a sender goes on after peers that misbehaved", async () => {
  await using place = new Place();
  const sender = await place.sender();
  await knock(place, new Uint8Array(64).fill(7));
  const consumer = await place.consumer();
  await until(() => sender.metrics.consumers === 1, "the consumer");
  sender.publishSlot(slotUpdate());
  assert.equal((await within(consumer.next(), "the slot"))?.kind, "slot");
});

test("close() lets go of who has not said hello yet", async () => {
  await using place = new Place();
  const sender = await place.sender({ handshakeTimeoutMs: 3_600_000 });
  const waiting = knock(place, undefined);
  const after = await place.consumer(); // accepted after the silent one
  await sender.close();
  assert.equal((await within(waiting, "the end")).length, 0);
  assert.deepEqual(await within(after.whenEnded, "the end"), { reason: "sender-closed" });
});
