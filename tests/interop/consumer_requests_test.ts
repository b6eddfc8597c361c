/**
 * The consumer against a sender of wire version 9 that is not ours: what it asks on its socket, and which answers it takes.
 * May touch: the public API, a raw sender in this process.
 *
 * @module
 */

import assert from "node:assert/strict";
import * as raw from "../support/raw_v9.ts";
import {
  linux,
  NEVER_MS,
  READY,
  rejectsWith,
  requestOf,
  slotFrame,
  Stage,
  standStill,
  TOKEN,
} from "./support/consumer_stage.ts";

linux("subscribe() and ping() take READY in two writes, in the order of the questions", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, link, ring } = await stage.granted({ v9PingMs: NEVER_MS });
  const key = new Uint8Array(32).fill(1);
  const owner = new Uint8Array(32).fill(2);
  const answers = [
    consumer.subscribe({ accounts: [key, key], owners: [owner] }),
    consumer.subscribe({ transactions: true }),
    consumer.ping(),
    consumer.subscribe({}),
  ] as const;
  const empty = { kind: "subscribe", token: TOKEN, accounts: [], owners: [], transactions: false };
  assert.deepEqual(await requestOf(link), { ...empty, accounts: [key, key], owners: [owner] });
  assert.deepEqual(await requestOf(link), { ...empty, transactions: true });
  assert.deepEqual(await requestOf(link), empty);
  assert.deepEqual(await requestOf(link), empty);
  ring.send(slotFrame(1));
  for (let i = 0; i < 4; i++) {
    link.send(READY.subarray(0, 4));
    await new Promise((resolve) => setTimeout(resolve, 5));
    link.send(READY.subarray(4));
  }
  assert.deepEqual(await answers[0], { generation: 1, sequence: 22n });
  assert.deepEqual(await answers[1], { generation: 2, sequence: 22n });
  assert.ok((await answers[2]) > 0);
  assert.deepEqual(await answers[3], { generation: 3, sequence: 22n });
  assert.equal((await consumer.next())?.sequence, 22n);
});

linux("subscribe() splits what no message of version 9 holds", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, link } = await stage.granted({ v9PingMs: NEVER_MS });
  const keys = Array.from({ length: 131_073 }, (_, i) => {
    const key = new Uint8Array(32);
    new DataView(key.buffer).setUint32(0, i);
    return key;
  });
  const asking = consumer.subscribe({ accounts: keys, owners: keys.slice(0, 3), transactions: true });
  const [first, second] = [await requestOf(link), await requestOf(link)];
  assert.deepEqual([first.accounts.length, first.owners.length, first.transactions], [131_072, 3, false]);
  assert.deepEqual([second.accounts.length, second.owners.length, second.transactions], [1, 0, true]);
  assert.deepEqual(second.accounts[0], keys.at(-1));
  assert.deepEqual(first.accounts[131_071], keys[131_071]);
  link.send(raw.join(READY, READY));
  assert.deepEqual(await asking, { generation: 2, sequence: 0n });
});

linux("an answer that comes too late is not taken for the answer to the next question", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, link } = await stage.granted({ v9PingMs: NEVER_MS, requestTimeoutMs: 100 });
  await rejectsWith(consumer.subscribe({}), "CONNECT_TIMEOUT");
  const second = consumer.subscribe({ transactions: true });
  await requestOf(link);
  await requestOf(link);
  link.send(READY);
  await rejectsWith(second, "CONNECT_TIMEOUT");
  const third = consumer.subscribe({});
  await requestOf(link);
  link.send(raw.join(READY, READY));
  assert.deepEqual(await third, { generation: 3, sequence: 0n });
});

linux("an answer that comes while the consumer's event loop stands still is in time", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, link } = await stage.granted({ v9PingMs: NEVER_MS, requestTimeoutMs: 200 });
  for (let i = 0; i < 10; i++) {
    const asking = consumer.subscribe({});
    asking.catch(() => {});
    await requestOf(link);
    link.send(READY);
    standStill(300);
    await asking;
  }
});

linux("a consumer pings by itself, with its token", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, link } = await stage.granted({ v9PingMs: 10 });
  for (let i = 0; i < 3; i++) {
    const { kind, token } = await requestOf(link);
    assert.deepEqual([kind, token], ["ping", TOKEN]);
  }
  assert.equal(consumer.ended, undefined);
});

linux("close() closes the socket, rejects who waits, and unmaps the ring", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, link } = await stage.granted();
  const asking = consumer.subscribe({});
  asking.catch(() => {});
  await requestOf(link);
  await consumer.close();
  await rejectsWith(asking, "CONSUMER_CLOSED");
  await rejectsWith(consumer.ping(), "CONSUMER_CLOSED");
  await link.end();
  assert.deepEqual(await consumer.whenEnded, { reason: "closed" });
  assert.equal(await consumer.next(), undefined);
});
