/**
 * The consumer against a sender of wire version 9 that is not ours: being evicted, how it is told, and for what.
 * May touch: the public API, a raw sender in this process, /proc.
 *
 * @module
 */

import assert from "node:assert/strict";
import { eventually, footprintOf } from "../support/footprint.ts";
import {
  accountFrame,
  CAPACITY,
  linux,
  lost,
  NEVER_MS,
  readyShm,
  requestOf,
  slotFrame,
  Stage,
  standStill,
} from "./support/consumer_stage.ts";

for (const [how, sentinel] of [["sentinel", true], ["its path alone", false]] as const) {
  for (const idle of ["park", "spin", "yield", "adaptive"] as const) {
    linux(`Consumer, ${idle}: an eviction is told by ${how}, after all that was published`, async (held) => {
      const stage = await Stage.open(held);
      const { consumer, ring, link } = await stage.granted({ idle, v9PingMs: NEVER_MS });
      for (let i = 0; i < 3; i++) ring.write(slotFrame(i));
      ring.evict({ sentinel });
      for (let i = 0; i < 3; i++) {
        const update = await consumer.next();
        assert.equal(update?.kind === "slot" && update.slotNumber, i);
      }
      await lost(consumer.next(), "evicted", /dropped this consumer/);
      assert.deepEqual(await consumer.whenEnded, { reason: "evicted" });
      await lost(consumer.subscribe({}), "evicted");
      await link.end(); // and said nothing: the old token is not used
    });
  }
}

linux("an eviction whose signal comes before the unlink is noticed, also by who sleeps", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, ring } = await stage.granted({ idle: "park" });
  const next = consumer.next();
  next.catch(() => {});
  ring.signal();
  await eventually("it has woken up and gone back to sleep", () => consumer.metrics.parks >= 2);
  ring.unlink();
  await lost(next, "evicted");
});

linux("an eviction is noticed although nobody reads or asks", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, ring } = await stage.granted();
  ring.unlink();
  assert.deepEqual(await consumer.whenEnded, { reason: "evicted" });
});

linux("subscribe() and ping() look first, and never use a token that is void", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, ring, link } = await stage.granted({ v9PingMs: NEVER_MS });
  ring.unlink();
  const asking = [consumer.subscribe({ transactions: true }), consumer.ping()];
  for (const each of asking) each.catch(() => {});
  for (const each of asking) await lost(each, "evicted");
  await link.end(); // and said nothing
});

for (const free of [0, 4]) {
  linux(`a consumer that was evicted with ${free} bytes free is told that it was slow`, async (held) => {
    const stage = await Stage.open(held);
    const { consumer, ring } = await stage.granted();
    const rest = accountFrame({ payload: new Uint8Array(CAPACITY - 2 * 22 - 4 - 116 - free) });
    ring.write(slotFrame(1));
    ring.write(slotFrame(2));
    ring.write(rest);
    assert.equal(ring.free, free);
    ring.evict();
    const kinds: string[] = [];
    await lost(
      (async () => {
        for await (const update of consumer) kinds.push(update.kind);
      })(),
      "slow-consumer",
      /full/,
    );
    assert.deepEqual(kinds, ["slot", "slot", "account"]);
  });
}

linux("a consumer that stood still is told so when it was evicted for it", async (held) => {
  const stage = await Stage.open(held);
  for (const v9PingMs of [NEVER_MS, 20]) { // a ping that comes after the silence does not rescue
    const { consumer, ring } = await stage.granted({ v9PingMs, v9IdleMs: 200 });
    ring.write(slotFrame(1));
    standStill(300);
    if (v9PingMs < 200) await new Promise((resolve) => setTimeout(resolve, 30));
    ring.evict();
    assert.equal((await consumer.next())?.kind, "slot");
    await lost(
      consumer.next(),
      "idle",
      /said nothing for 0\.2 s, and this process stood still for (0\.[3-9]|[1-9]\d*\.\d) s/,
    );
  }
});

linux("a silence of long ago is not the reason of an eviction of today", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, ring, link } = await stage.granted({ v9PingMs: 20, v9IdleMs: 60_000 });
  await requestOf(link);
  ring.unlink();
  await lost(consumer.next(), "evicted");
});

linux(
  "READY_SHM as the answer to a request is the end of the connection, and its descriptor is not kept",
  async (held) => {
    const stage = await Stage.open(held);
    const { consumer, link, ring } = await stage.granted();
    const other = stage.ring();
    ring.write(slotFrame(1));
    const asking = consumer.subscribe({ transactions: true });
    await requestOf(link);
    const before = footprintOf("self").descriptors.length;
    link.send(readyShm(other, { index: 1, generation: 2n }), [other.wakeFd]);
    await lost(asking, "evicted");
    await link.end();
    assert.equal((await consumer.next())?.kind, "slot");
    await lost(consumer.next(), "evicted");
    await eventually("it is closed", () => footprintOf("self").descriptors.length < before);
  },
);
