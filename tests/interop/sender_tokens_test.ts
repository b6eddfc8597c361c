/**
 * Our sender and a consumer of wire version 9 that shares no code with it: what a token is good for, and slots that
 * are given out again.
 * May touch: the library as a user would, a raw peer. Linux only.
 *
 * @module
 */

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { guarded } from "../support/guarded.ts";
import { type RawV9Slot, subscribe, type Token } from "../support/raw_v9.ts";
import { account, CAPACITY, dataFor, key, Scene, SKIP } from "./support/sender_scene.ts";

guarded("a token that is not live gets a new slot with nothing but what was asked for", async (held) => {
  const scene = await Scene.open(held);
  for (const token of [{ index: 0, generation: 9n }, { index: 200, generation: 1n }, { index: 254, generation: 0n }]) {
    const { slot } = await scene.slot(subscribe({ token, accounts: [key(1)] }));
    scene.sender.publishAccount(account());
    assert.equal(slot.ring.readAll().length, 1);
  }
}, SKIP);

guarded(
  "an evicted consumer's old token gets a new slot over the same socket, and the old filter is gone",
  async (held) => {
    const scene = await Scene.open(held);
    const { consumer, slot } = await scene.slot(subscribe({ accounts: [key(1)] }));
    scene.sender.publishAccount(account({ data: dataFor(CAPACITY - 100) }));
    scene.sender.publishAccount(account());
    await scene.ended(1);
    const fresh = await consumer.open(subscribe({ token: slot.token, accounts: [key(2)] }));
    assert.deepEqual(fresh.token, { index: 0, generation: 2n });
    assert.notEqual(fresh.path, slot.path);
    scene.sender.publishAccount(account());
    scene.sender.publishAccount(account({ pubkey: key(2) }));
    assert.equal(fresh.ring.readAll().length, 1);
  },
  SKIP,
);

guarded("answers to dead tokens that nobody uses are taken back", async (held) => {
  const scene = await Scene.open(held, { v9: { slotsMax: 2 } });
  const { consumer } = await scene.slot();
  const dead: Token = { index: 0, generation: 1000n };
  let last: RawV9Slot | undefined;
  for (let i = 0; i < 20; i++) {
    last = await consumer.open(subscribe({ token: dead }));
    assert.deepEqual(last.token, { index: 1, generation: BigInt(2 + i) });
  }
  await scene.ended(19);
  assert.deepEqual(new Set(scene.ends), new Set(["idle"]));
  assert.equal(scene.sender.consumers().length, 2);
  // The one that is used stays, and then there is no room.
  await consumer.subscribe(last!.token, { accounts: [key(1)] });
  consumer.link.send(subscribe({ token: dead }));
  await consumer.link.end();
  await scene.ended(21);
}, SKIP);

guarded("an answer to a dead token that is read is in use", async (held) => {
  const scene = await Scene.open(held);
  const { consumer } = await scene.slot();
  const used = await consumer.open(subscribe({ token: { index: 0, generation: 1000n } }));
  scene.sender.publishSlot({ slot: 1n, parent: 0n, status: "processed" });
  assert.equal(used.ring.readAll().length, 1);
  const another = await consumer.open(subscribe({ token: { index: 0, generation: 1001n } }));
  assert.deepEqual([used.token.index, another.token.index], [1, 2]);
  assert.equal(scene.sender.consumers().length, 3);
}, SKIP);

guarded("a token belongs to the connection that got it", async (held) => {
  const scene = await Scene.open(held);
  const { slot } = await scene.slot();
  const stranger = scene.connect();
  const own = await stranger.open(subscribe({ token: slot.token, transactions: true }));
  assert.deepEqual(own.token, { index: 1, generation: 2n });
  assert.deepEqual(scene.sender.consumers().map(({ transactions }) => transactions), [false, true]);
}, SKIP);

guarded("with sharedTokens any connection may use any token, as in the original", async (held) => {
  const scene = await Scene.open(held, { v9: { sharedTokens: true } });
  const { slot } = await scene.slot();
  const other = scene.connect();
  other.link.send(subscribe({ token: slot.token, accounts: [key(1)] }));
  await other.expectReady(slot.token);
  scene.sender.publishAccount(account());
  assert.equal(slot.ring.readAll().length, 1);
}, SKIP);

guarded("with sharedTokens a slot outlives the connection that got it, until nobody names it", async (held) => {
  const scene = await Scene.open(held, { v9: { sharedTokens: true, idleTimeoutMs: 1000 } });
  const { consumer, slot } = await scene.slot();
  const other = scene.connect();
  other.link.send(subscribe({ token: slot.token, accounts: [key(1)] }));
  await other.expectReady(slot.token);
  consumer.link.close();
  const third = scene.connect();
  third.link.send(subscribe({ token: slot.token, accounts: [key(2)] }));
  await third.expectReady(slot.token);
  assert.deepEqual(scene.ends, []);
  scene.sender.publishAccount(account());
  assert.equal((await slot.frames(1)).length, 1);
  await scene.ended(1);
  assert.deepEqual([scene.ends, slot.ring.readAll(), existsSync(slot.path)], [["idle"], ["closed"], false]);
}, SKIP);

guarded("a slot whose owner has gone ends with its sender, in order", async (held) => {
  const scene = await Scene.open(held, { v9: { sharedTokens: true } });
  const { consumer, slot } = await scene.slot();
  consumer.link.close();
  const other = scene.connect();
  other.link.send(subscribe({ token: slot.token }));
  await other.expectReady(slot.token);
  await scene.sender.close();
  assert.deepEqual([scene.ends, slot.ring.readAll()], [["sender-closed"], ["closed"]]);
}, SKIP);

guarded("two connections that subscribe at once with one token lose nothing of each other's", async (held) => {
  const scene = await Scene.open(held, { v9: { sharedTokens: true } });
  const { consumer, slot: { token, ring } } = await scene.slot();
  const other = scene.connect();
  for (let round = 0; round < 20; round++) {
    const keys = [key(2 * round), key(2 * round + 1)] as const;
    await Promise.all([
      consumer.link.dribble(subscribe({ token, accounts: [keys[0]] }), 7),
      other.link.dribble(subscribe({ token, accounts: [keys[1]], transactions: round === 7 }), 11),
    ]);
    await Promise.all([consumer.expectReady(token), other.expectReady(token)]);
  }
  const [info] = scene.sender.consumers();
  assert.deepEqual([info!.accounts, info!.transactions], [40, true]);
  for (let i = 0; i < 40; i++) assert.equal(scene.sender.publishAccount(account({ pubkey: key(i) })), 1);
  assert.equal(ring.readAll().length, 40);
}, SKIP);

guarded("who restarts at once gets the only slot again, every time", async (held) => {
  const scene = await Scene.open(held, { v9: { slotsMax: 1 } });
  for (let i = 0; i < 50; i++) {
    const { consumer } = await scene.slot();
    consumer.link.close();
  }
  assert.deepEqual(scene.refusals, []);
}, SKIP);

guarded(
  "without a free slot the connection is closed without a word, and a freed one is given out again",
  async (held) => {
    const scene = await Scene.open(held, { v9: { slotsMax: 2 } });
    const first = await scene.slot();
    await scene.slot();
    const third = scene.connect();
    third.link.send(subscribe());
    await third.link.end();
    await scene.refuses(/^v9: all 2 slots are taken \(option v9\.slotsMax\)$/);
    first.consumer.link.close();
    await scene.ended(1);
    const { slot } = await scene.slot();
    assert.deepEqual(slot.token, { index: 0, generation: 4n }, "the failed attempt was counted");
  },
  SKIP,
);
