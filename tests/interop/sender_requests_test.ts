/**
 * Our sender and a consumer of wire version 9 that shares no code with it: asking for a slot and for updates, and
 * the answers.
 * May touch: the library as a user would, a raw peer, /proc. Linux only.
 *
 * @module
 */

import assert from "node:assert/strict";
import { statSync } from "node:fs";
import process from "node:process";
import { eventually } from "../support/footprint.ts";
import { guarded } from "../support/guarded.ts";
import * as libc from "../support/libc.ts";
import { join, ping, subscribe } from "../support/raw_v9.ts";
import { account, CAPACITY, key, Scene, SKIP } from "./support/sender_scene.ts";

const F_GETFL = 3;
const O_NONBLOCK = 0o4000;

guarded(
  "a bootstrap gets the lowest slot, an empty ring whose path opens, and a wake that does not block",
  async (held) => {
    const scene = await Scene.open(held);
    const first = await scene.slot();
    assert.deepEqual(first.slot.token, { index: 0, generation: 1n });
    assert.match(first.slot.path, new RegExp(`^/proc/${process.pid}/fd/\\d+$`));
    assert.equal(first.slot.ring.capacity, CAPACITY);
    assert.equal(statSync(first.slot.path).size, 320 + CAPACITY);
    assert.deepEqual([...first.slot.ring.words.slice(8, 40)].filter((word) => word !== 0n), [], "all cursors are 0");
    assert.deepEqual(first.slot.ring.readAll(), []);
    assert.equal(first.slot.wake.take(), 0);
    assert.equal(libc.libc().fcntl(first.slot.wake.fd, F_GETFL, 0) & O_NONBLOCK, O_NONBLOCK);
    const second = await scene.slot();
    assert.deepEqual(second.slot.token, { index: 1, generation: 2n });
    assert.equal(first.consumer.link.unread.length, 0, "nothing is said without being asked");
    const [info] = scene.sender.consumers();
    assert.deepEqual({ ...info, connectedAt: 0 }, {
      id: 1,
      name: "",
      protocol: "v9",
      pid: process.pid,
      uid: process.getuid!(),
      connectedAt: 0,
      accounts: 0,
      owners: 0,
      transactions: false,
      policy: "disconnect",
      ring: { capacityBytes: CAPACITY, usedBytes: 0 },
      lag: { bytes: 0, frames: 0, ageUs: 0 },
      poolBytes: 0,
      waiting: { frames: 0, bytes: 0 },
      frames: 0,
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
    const { consumers, connections, refused, memoryBytes } = scene.sender.metrics;
    assert.deepEqual([consumers, connections, refused, memoryBytes], [2, 2, 0, 2 * (320 + CAPACITY)]);
  },
  SKIP,
);

guarded("a first request may ask for something, and one connection may have several slots", async (held) => {
  const scene = await Scene.open(held);
  const { consumer, slot } = await scene.slot(subscribe({ accounts: [key(1)] }));
  const other = await consumer.open(subscribe({ transactions: true }));
  assert.deepEqual([slot.token.index, other.token.index], [0, 1]);
  scene.sender.publishAccount(account());
  assert.deepEqual([(await slot.frames(1)).length, other.ring.readAll()], [1, []]);
  consumer.link.close();
  await scene.ended(2);
  assert.deepEqual(scene.ends, ["consumer-gone", "consumer-gone"]);
}, SKIP);

guarded("requests that dribble or come in one go are answered one by one, in their order", async (held) => {
  const scene = await Scene.open(held);
  const consumer = scene.connect();
  await consumer.link.dribble(subscribe(), 2);
  const slot = consumer.taken(await consumer.link.received());
  await consumer.link.dribble(subscribe({ token: slot.token, accounts: [key(1)] }), 2);
  await consumer.expectReady(slot.token);
  const many = Array.from({ length: 20 }, (_, i) => subscribe({ token: slot.token, accounts: [key(2 + i)] }));
  consumer.link.send(join(ping(slot.token), ...many, ping(slot.token)));
  for (let i = 0; i < many.length; i++) await consumer.expectReady(slot.token);
  assert.equal(consumer.link.unread.length, 0, "pings are not answered");
  assert.equal(scene.sender.consumers()[0]!.accounts, 21);
  // The first message and more of them at once, as a foreign consumer may say them.
  const hasty = scene.connect();
  hasty.link.send(join(subscribe(), subscribe({ token: { index: 1, generation: 2n }, transactions: true })));
  const received = await hasty.link.received();
  assert.equal(received.descriptors.length, 1);
  await eventually("both are in force", () => scene.sender.consumers()[1]?.transactions === true);
}, SKIP);

guarded("131,072 keys in each list are taken in one request", async (held) => {
  const scene = await Scene.open(held);
  const { consumer, slot } = await scene.slot();
  const keys = Array.from({ length: 131_072 }, (_, i) => {
    const bytes = key(0);
    new DataView(bytes.buffer).setUint32(0, i, true);
    return bytes;
  });
  await consumer.link.sendLong(subscribe({ token: slot.token, accounts: keys, owners: keys }));
  await consumer.expectReady(slot.token);
  const [info] = scene.sender.consumers();
  assert.deepEqual([info!.accounts, info!.owners], [131_072, 131_072]);
}, SKIP);

guarded("each accepted request is forwarded as it came, the bootstrap too, after its answer", async (held) => {
  const scene = await Scene.open(held);
  const { consumer, slot } = await scene.slot();
  await consumer.subscribe(slot.token, { accounts: [key(2), key(1), key(2)], owners: [key(3)], transactions: true });
  const stale = { index: 7, generation: 99n };
  consumer.link.send(subscribe({ token: stale, owners: [key(5)] }));
  const other = consumer.taken(await consumer.link.received());
  await eventually("three events", () => scene.subscriptions.length === 3);
  assert.deepEqual(
    scene.subscriptions.map(({ consumer, receivedAt: _, ...request }) => ({ ...request, id: consumer.id })),
    [
      { accounts: [], owners: [], transactions: false, token: undefined, id: 1 },
      {
        accounts: [key(2), key(1), key(2)],
        owners: [key(3)],
        transactions: true,
        token: { slotIndex: 0, generation: 1n },
        id: 1,
      },
      {
        accounts: [],
        owners: [key(5)],
        transactions: false,
        token: { slotIndex: 7, generation: 99n },
        id: 2,
      },
    ],
  );
  assert.equal(other.token.index, 1);
  const connections = scene.events.map((event) => event.type === "connected" && event.consumer.id);
  assert.deepEqual(connections, [1, 2]);
}, SKIP);

guarded("answers that nobody reads wait, up to a bound; then the connection ends", async (held) => {
  const scene = await Scene.open(held);
  const patient = await scene.slot();
  const request = subscribe({ token: patient.slot.token });
  for (let i = 0; i < 100; i++) await patient.consumer.link.sendLong(join(...Array(30).fill(request)));
  for (let i = 0; i < 3000; i++) await patient.consumer.expectReady(patient.slot.token);
  const deaf = await scene.slot();
  const other = subscribe({ token: deaf.slot.token });
  const sending = deaf.consumer.link.sendLong(join(...Array(10_000).fill(other))).catch(() => {});
  await eventually("it is ended", () => scene.ends.length > 0);
  deaf.consumer.link.close();
  await sending;
  assert.deepEqual(scene.ends, ["peer-corrupt"]);
  assert.deepEqual(scene.refusals, []);
  await patient.consumer.subscribe(patient.slot.token, { accounts: [key(1)] });
}, SKIP);
