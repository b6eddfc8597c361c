/**
 * Our sender and a consumer of wire version 9 that shares no code with it: frames in the ring, signals, and what is counted.
 * May touch: the library as a user would, a raw peer. Linux only.
 *
 * @module
 */

import assert from "node:assert/strict";
import { setupConsumer } from "../../mod.ts";
import { guarded } from "../support/guarded.ts";
import { accountFrame, createdNsOf, slotFrame, subscribe, transactionFrame } from "../support/raw_v9.ts";
import { account, bodies, CAPACITY, dataFor, key, Scene, SKIP } from "./support/sender_scene.ts";

guarded("frames are the original's, byte for byte, for whoever asked for them, in one order", async (held) => {
  const scene = await Scene.open(held);
  const a = await scene.slot();
  const b = await scene.slot();
  await a.consumer.subscribe(a.slot.token, { accounts: [key(1), key(1)], owners: [key(9)] });
  await b.consumer.subscribe(b.slot.token, { transactions: true });
  const before = BigInt(Date.now()) * 1_000_000n;
  const signature = new Uint8Array(64).fill(0xcc);
  const text = (value: string) => new TextEncoder().encode(value);
  const { sender } = scene;
  assert.equal(
    sender.publishAccount(account({ data: text("hey"), executable: true, rentEpoch: 6n, writeVersion: 8n })),
    1,
  );
  assert.equal(sender.publishAccount(account({ pubkey: key(3), owner: key(9), bankId: 4n, signature })), 1);
  assert.equal(sender.publishAccount(account({ pubkey: key(3) })), 0);
  const transaction = { slot: 7n, index: 3, signature, message: text("tx") };
  assert.equal(sender.publishTransaction({ ...transaction, vote: true, meta: text("not on this wire") }), 1);
  assert.equal(sender.publishSlot({ slot: 456n, parent: 455n, status: "processed" }), 2);
  assert.equal(sender.publishSlot({ slot: 456n, parent: 455n, status: "confirmed" }), 0);
  const fromA = await a.slot.frames(3);
  assert.deepEqual(bodies(fromA), [
    accountFrame({
      pubkey: key(1),
      owner: key(2),
      lamports: 5n,
      executable: 1,
      rentEpoch: 6n,
      slot: 7n,
      writeVersion: 8n,
      payload: text("hey"),
    }),
    accountFrame({ pubkey: key(3), owner: key(9), lamports: 5n, rentEpoch: 2n ** 64n - 1n, slot: 7n }),
    slotFrame(456n),
  ]);
  const fromB = await b.slot.frames(2);
  assert.deepEqual(bodies(fromB), [
    transactionFrame({ slot: 7n, index: 3, vote: 1, signature, payload: text("tx") }),
    slotFrame(456n),
  ]);
  const times = [...fromA, ...fromB].map((frame) => createdNsOf(frame as Uint8Array));
  const after = BigInt(Date.now() + 1) * 1_000_000n;
  for (const time of times) assert.ok(before <= time && time <= after, `${before} <= ${time} <= ${after}`);
  assert.equal(times[2], times[4], "one update, one time");
  assert.deepEqual([a.slot.wake.take(), b.slot.wake.take()], [3, 2]);
}, SKIP);

guarded("frames that wrap arrive whole", async (held) => {
  const scene = await Scene.open(held);
  const { slot } = await scene.slot(subscribe({ accounts: [key(1)] }));
  for (let i = 0; i < 300; i++) {
    const data = Uint8Array.from({ length: 1 + (i * 37) % 1500 }, (_, at) => at * i);
    scene.sender.publishAccount(account({ data, lamports: BigInt(i) }));
    const expected = accountFrame({
      pubkey: key(1),
      owner: key(2),
      lamports: BigInt(i),
      rentEpoch: 2n ** 64n - 1n,
      slot: 7n,
      payload: data,
    });
    assert.deepEqual(bodies(slot.ring.readAll()), [expected]);
  }
  assert.ok(slot.ring.position > 3n * BigInt(CAPACITY));
}, SKIP);

guarded("large accounts are compressed as the original does, and others are not", async (held) => {
  const scene = await Scene.open(held, { ringCapacityBytes: 1 << 20 });
  const { slot } = await scene.slot(subscribe({ accounts: [key(1)] }));
  const view = (body: Uint8Array) => new DataView(body.buffer, body.byteOffset);
  scene.sender.publishAccount(account({ data: new Uint8Array(512_000) }));
  scene.sender.publishAccount(account({ data: new Uint8Array(511_999) }));
  const [large, below] = await slot.frames(2) as [Uint8Array, Uint8Array];
  assert.deepEqual([large[107], view(large).getUint32(108, true)], [1, 512_000]);
  assert.equal(view(large).getUint32(112, true), large.length - 116);
  assert.ok(large.length < 3000, `${large.length} bytes`);
  assert.deepEqual([below[107], below.length], [0, 116 + 511_999]);
  const noise = new Uint8Array(512_000);
  for (let at = 0; at < noise.length; at += 32_000) crypto.getRandomValues(noise.subarray(at, at + 32_000));
  scene.sender.publishAccount(account({ data: noise }));
  const [raw] = await slot.frames(1) as [Uint8Array];
  assert.deepEqual([raw[107], raw.length], [0, 116 + 512_000]);
}, SKIP);

guarded("a batch is one signal for each consumer, and each update outside one is one", async (held) => {
  const scene = await Scene.open(held);
  const { slot } = await scene.slot(subscribe({ accounts: [key(1)] }));
  scene.sender.publishBatch(Array.from({ length: 100 }, (_, i) => account({ lamports: BigInt(i) })));
  assert.equal(slot.wake.take(), 1);
  assert.equal(slot.ring.readAll().length, 100);
  for (let i = 0; i < 3; i++) scene.sender.publishAccount(account());
  assert.equal(slot.wake.take(), 3);
  scene.sender.publishAccount(account({ pubkey: key(77) }));
  assert.equal(slot.wake.take(), 0, "nothing for it, no signal");
}, SKIP);

guarded("slot updates come for the statuses of the option, and only for them", async (held) => {
  const scene = await Scene.open(held, { v9: { slotStatuses: ["confirmed", "dead"] } });
  const { slot } = await scene.slot();
  const statuses = ["processed", "confirmed", "finalized", "dead"] as const;
  statuses.forEach((status, i) => scene.sender.publishSlot({ slot: BigInt(i), parent: 0n, status }));
  assert.deepEqual(bodies(slot.ring.readAll()), [slotFrame(1n), slotFrame(3n)]);
}, SKIP);

guarded("a frame that can never fit is a loss, and not an end", async (held) => {
  const scene = await Scene.open(held);
  const { slot } = await scene.slot(subscribe({ accounts: [key(1)] }));
  const tooLarge = account({ data: dataFor(CAPACITY + 1) });
  assert.equal(scene.sender.publishAccount(tooLarge), 0);
  scene.sender.publishBatch([tooLarge, account({ lamports: 1n })]);
  assert.equal(slot.ring.readAll().length, 1);
  assert.equal(scene.sender.publishAccount(account({ data: dataFor(CAPACITY) })), 1, "one byte less fits");
  assert.deepEqual([scene.sender.metrics.lost, scene.sender.metrics.ringFull], [2, 0]);
  assert.equal(scene.sender.consumers()[0]!.lost, 2);
}, SKIP);

guarded("native consumers and those of version 9 share a path, an order, and no limit", async (held) => {
  const scene = await Scene.open(held, { consumersMax: 1, v9: { slotsMax: 1 } });
  const native = held.use(await setupConsumer(scene.path, { reconnect: false }));
  await native.subscribe({ accounts: [key(1)], transactions: true });
  const { consumer, slot } = await scene.slot();
  await consumer.subscribe(slot.token, { accounts: [key(1)] });
  assert.equal(scene.sender.publishAccount(account({ lamports: 42n })), 2);
  assert.equal(
    scene.sender.publishTransaction({
      slot: 7n,
      index: 0,
      signature: new Uint8Array(64),
      message: new Uint8Array(1),
    }),
    1,
  );
  assert.equal(scene.sender.publishSlot({ slot: 7n, parent: 6n, status: "processed" }), 2);
  assert.equal(bodies(await slot.frames(2)).length, 2);
  const kinds = [await native.next(), await native.next(), await native.next()].map((update) => update?.kind);
  assert.deepEqual(kinds, ["account", "transaction", "slot"]);
  assert.deepEqual(scene.sender.consumers().map(({ protocol }) => protocol), ["native", "v9"]);
  assert.equal(native.slotToken, undefined);
  // Neither end is the other's.
  consumer.link.close();
  await scene.ended(1);
  assert.equal(scene.sender.publishAccount(account()), 1);
}, SKIP);

guarded("timings have the original's names, and count what it counts", async (held) => {
  const scene = await Scene.open(held, { timings: true });
  const { slot } = await scene.slot(subscribe({ accounts: [key(1)] }));
  await scene.slot(subscribe({ accounts: [key(1)] }));
  const { timings } = scene.sender;
  assert.ok(timings !== undefined);
  scene.sender.publishAccount(account());
  scene.sender.publishAccount(account({ pubkey: key(50) }));
  assert.deepEqual([timings.dispatch.peek().count, timings.shm_send.peek().count], [2, 2]);
  slot.ring.readAll();
  scene.sender.publishAccount(account({ data: dataFor(65_500) }));
  assert.equal(timings.shm_ring_full.flush(), 1);
  const { count, total_us, min_us, max_us } = timings.dispatch.flush();
  assert.ok(count === 3 && min_us <= max_us && max_us <= total_us, `${count} ${total_us} ${min_us} ${max_us}`);
  assert.equal(timings.shm_send.flush().count, 3);
  assert.equal(timings.dispatch.peek().count, 0);
  assert.equal((await Scene.open(held)).sender.timings, undefined);
}, SKIP);
