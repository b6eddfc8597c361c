/**
 * Our sender and a consumer of wire version 9 that shares no code with it: how a slot ends, and what is left of it.
 * May touch: the library as a user would, a raw peer, /proc. Linux only.
 *
 * @module
 */

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { footprintOf, settlesAt } from "../support/footprint.ts";
import { guarded } from "../support/guarded.ts";
import * as libc from "../support/libc.ts";
import { framed, ping, slotFrame, subscribe } from "../support/raw_v9.ts";
import { account, bodies, CAPACITY, dataFor, key, Scene, SKIP } from "./support/sender_scene.ts";

guarded("a batch that overflows a ring ends its consumer, who still gets what came before", async (held) => {
  const scene = await Scene.open(held);
  const { slot } = await scene.slot(subscribe({ accounts: [key(1)] }));
  const other = await scene.slot();
  const updates = Array.from({ length: 100 }, (_, i) => account({ lamports: BigInt(i), data: dataFor(1000) }));
  scene.sender.publishBatch([...updates, { kind: "slot", slot: 9n, parent: 8n, status: "processed" }]);
  await scene.ended(1);
  assert.deepEqual([scene.ends, scene.sender.metrics.ringFull], [["slow-consumer"], 1]);
  assert.ok(slot.wake.take() >= 1);
  assert.equal(slot.ring.readAll().filter((frame) => frame !== "closed").length, 65);
  assert.deepEqual(bodies(other.slot.ring.readAll()), [slotFrame(9n)]);
}, SKIP);

for (
  const [name, free, hasSentinel] of [["736", 736, true], ["4", 4, true], ["3", 3, false], ["2", 2, false]] as const
) {
  guarded(
    `a full ring with ${name} bytes free ends its consumer, ${hasSentinel ? "with" : "without"} sentinel`,
    async (held) => {
      const scene = await Scene.open(held);
      const { consumer, slot } = await scene.slot(subscribe({ accounts: [key(1)] }));
      const other = await scene.slot(subscribe({ accounts: [key(1)] }));
      scene.sender.publishAccount(account({ data: dataFor(CAPACITY - free) }));
      assert.equal(other.slot.ring.readAll().length, 1);
      assert.equal(slot.wake.take(), 1);
      assert.ok(existsSync(slot.path));
      assert.equal(scene.sender.publishAccount(account({ data: dataFor(1000) })), 1);
      assert.ok(!existsSync(slot.path));
      assert.ok(slot.wake.take() >= 2, "for the sentinel, and again when the path was gone");
      const frames = slot.ring.readAll();
      assert.equal((frames[0] as Uint8Array).length, CAPACITY - free - 4);
      assert.deepEqual(frames.slice(1), hasSentinel ? ["closed"] : []);
      await scene.ended(1);
      assert.deepEqual([scene.ends, scene.sender.metrics.ringFull, scene.sender.metrics.lost], [
        ["slow-consumer"],
        1,
        1,
      ]);
      assert.equal(other.slot.ring.readAll().length, 1, "the other one got it");
      consumer.link.send(ping(slot.token));
      assert.equal(consumer.link.unread.length, 0);
      assert.ok(!consumer.link.isEnded, "the socket stays open");
      assert.deepEqual((await consumer.open()).token, { index: 0, generation: 3n });
    },
    SKIP,
  );
}

guarded("a consumer that makes its wake wait stops nobody, and ends", async (held) => {
  const scene = await Scene.open(held);
  const { slot } = await scene.slot(subscribe({ accounts: [key(1)] }));
  // The flag belongs to what both have: the next write on a full counter would wait for us.
  assert.equal(libc.libc().fcntl(slot.wake.fd, 4, 0), 0); // F_SETFL
  libc.libc().write(slot.wake.fd, new Uint8Array(8).fill(0xff).fill(0xfe, 0, 1), 8n);
  for (let i = 0; i < 100; i++) scene.sender.publishAccount(account());
  await scene.ended(1);
  assert.deepEqual(scene.ends, ["peer-corrupt"]);
}, SKIP);

for (const [name, cursor] of [["ahead", 1n << 40n], ["behind itself", 10n]] as const) {
  guarded(`a release cursor that is ${name} ends its consumer`, async (held) => {
    const scene = await Scene.open(held);
    const { slot } = await scene.slot(subscribe({ accounts: [key(1)] }));
    scene.sender.publishAccount(account({ data: dataFor(60_000) }));
    slot.ring.readAll();
    scene.sender.publishAccount(account({ data: dataFor(60_000) })); // looked at the cursor
    slot.ring.release(cursor);
    scene.sender.publishAccount(account({ data: dataFor(60_000) }));
    await scene.ended(1);
    assert.deepEqual([scene.ends, scene.sender.metrics.ringFull], [["peer-corrupt"], 0]);
  }, SKIP);
}

guarded("a closed socket frees its slot at once, and everything of it", async (held) => {
  const scene = await Scene.open(held, { v9: { slotsMax: 1 } });
  const warm = await scene.slot(); // what the runtime opens at the first use of something is no leak
  warm.consumer[Symbol.dispose]();
  await scene.ended(1);
  const before = footprintOf("self");
  for (let i = 0; i < 12; i++) {
    const { consumer, slot } = await scene.slot(subscribe({ accounts: [key(1)] }));
    assert.equal(slot.token.index, 0);
    scene.sender.publishAccount(account());
    assert.equal((await slot.frames(1)).length, 1);
    consumer[Symbol.dispose]();
    await scene.ended(2 + i);
    assert.ok(!existsSync(slot.path));
  }
  assert.deepEqual(new Set(scene.ends), new Set(["consumer-gone"]));
  await settlesAt("self", before);
}, SKIP);

guarded("who says nothing is evicted, who pings or subscribes is not, and reading says nothing", async (held) => {
  const scene = await Scene.open(held, { v9: { idleTimeoutMs: 1500 } });
  const silent = await scene.slot();
  const pinging = await scene.slot();
  const subscribing = await scene.slot();
  const timer = setInterval(() => {
    pinging.consumer.link.send(ping(pinging.slot.token));
    subscribing.consumer.link.send(subscribe({ token: subscribing.slot.token }));
    scene.sender.publishSlot({ slot: 1n, parent: 0n, status: "processed" });
    for (const { slot } of [silent, pinging, subscribing]) slot.ring.readAll();
  }, 100);
  held.defer(() => clearInterval(timer));
  await scene.ended(1);
  assert.deepEqual(scene.ends, ["idle"]);
  assert.deepEqual(scene.sender.consumers().map(({ id }) => id), [2, 3]);
  assert.ok(!existsSync(silent.slot.path));
  assert.ok(!silent.consumer.link.isEnded);
  // A ping does not bring it back, nor end anything; asking again brings a new slot.
  silent.consumer.link.send(ping(silent.slot.token));
  assert.deepEqual((await silent.consumer.open()).token, { index: 0, generation: 4n });
}, SKIP);

guarded("Sender.close() ends rings with a sentinel, removes their paths and closes sockets", async (held) => {
  const scene = await Scene.open(held);
  const { consumer, slot } = await scene.slot();
  scene.sender.publishSlot({ slot: 1n, parent: 0n, status: "processed" });
  await scene.sender.close();
  assert.deepEqual(slot.ring.readAll().slice(1), ["closed"]);
  assert.ok(!existsSync(slot.path));
  await consumer.link.end();
  await scene.ended(1);
  assert.deepEqual(scene.ends, ["sender-closed"]);
}, SKIP);

guarded(
  "a connection that is closed for what it said leaves no sentinel: that is for an end in order",
  async (held) => {
    const scene = await Scene.open(held);
    const { consumer, slot } = await scene.slot();
    scene.sender.publishSlot({ slot: 1n, parent: 0n, status: "processed" });
    consumer.link.send(framed(Uint8Array.of(9, 77)));
    await scene.ended(1);
    assert.deepEqual(bodies(slot.ring.readAll()), [slotFrame(1n)]);
    assert.ok(!existsSync(slot.path));
    assert.ok(slot.wake.take() >= 2, "for the frame, and when the path was gone");
  },
  SKIP,
);
