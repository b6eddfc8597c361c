/**
 * What sources are made of: the queue between socket and loop, waits, the seam between connections.
 * May touch: src/sources. May not touch: sockets. No test waits for time to pass.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { pause } from "../../src/pause.ts";
import { Backoff } from "../../src/sources/backoff.ts";
import { BatchQueue } from "../../src/sources/batch_queue.ts";
import { nextSourceEpoch } from "../../src/sources/source.ts";
import { Receiver } from "../../src/sources/yellowstone/receiver.ts";
import { bits48, Seam } from "../../src/sources/yellowstone/seam.ts";
import { yellowstone } from "../../src/sources/yellowstone.ts";
import { encodeUpdate } from "../support/geyser/protocol.ts";
import { slotUpdate } from "./support/updates.ts";
import { within } from "./support/watchdog.ts";

function queueOf(options: { bytesMax?: number; updatesMax?: number } = {}) {
  const calls: string[] = [];
  const queue = new BatchQueue({
    bytesMax: 1000,
    updatesMax: 10,
    ...options,
    onRoom: () => void calls.push("room"),
    onReturn: () => void calls.push("return"),
  });
  return { queue, calls };
}

test("BatchQueue hands out all that has come, in order, and says when there is room", async () => {
  const { queue, calls } = queueOf();
  queue.pending.push(slotUpdate({ slot: 1n }));
  queue.flush(600);
  queue.pending.push(slotUpdate({ slot: 2n }));
  queue.flush(600);
  assert.ok(queue.isFull);
  const first = await queue.next();
  assert.deepEqual(first.value?.map(({ slot }) => slot), [1n, 2n]);
  assert.ok(!queue.isFull);
  assert.deepEqual(calls, ["room"]);
  const waiting = queue.next();
  queue.flush(10); // nothing was appended: nobody is woken for that
  queue.pending.push(slotUpdate({ slot: 3n }));
  queue.flush(10);
  assert.deepEqual((await waiting).value?.map(({ slot }) => slot), [3n]);
});

test("BatchQueue hands out much in parts, and there is room when all was taken", async () => {
  const { queue, calls } = queueOf({ updatesMax: 100_000 });
  for (let i = 0; i < 10_000; i++) queue.pending.push(slotUpdate({ slot: BigInt(i) }));
  queue.flush(2000);
  const slots: bigint[] = [];
  for (let part = 0; part < 3; part++) {
    assert.ok(queue.isFull);
    assert.deepEqual(calls, []);
    slots.push(...(await queue.next()).value!.map(({ slot }) => slot));
  }
  assert.deepEqual(calls, ["room"]);
  assert.ok(!queue.isFull);
  assert.deepEqual(slots, Array.from({ length: 10_000 }, (_, i) => BigInt(i)));
});

test("BatchQueue is full by count, too, and takes one reader at a time", async () => {
  const { queue } = queueOf({ updatesMax: 2 });
  const waiting = queue.next();
  await assert.rejects(queue.next(), TypeError);
  queue.pending.push(slotUpdate(), slotUpdate());
  assert.ok(queue.isFull);
  queue.flush(0);
  assert.equal((await waiting).value?.length, 2);
});

test("BatchQueue ends after what is pending, with its error once", async () => {
  const { queue } = queueOf();
  queue.pending.push(slotUpdate());
  queue.flush(1);
  queue.end({ error: new Error("that's it") });
  queue.end();
  assert.equal((await queue.next()).value?.length, 1);
  await assert.rejects(queue.next(), /that's it/);
  assert.deepEqual(await queue.next(), { done: true, value: undefined });

  const { queue: left, calls } = queueOf();
  left.pending.push(slotUpdate());
  assert.equal((await left.return()).done, true);
  assert.equal((await left.next()).done, true);
  assert.deepEqual(calls, ["return"]);
});

test("Backoff doubles up to its bound, with jitter, and forgets only what was stable", () => {
  const waits = (random: number, dataMs: number[]) => {
    const backoff = new Backoff({ minMs: 100, maxMs: 1000, stableMs: 5000 }, () => random);
    return dataMs.map((ms) => backoff.next(ms));
  };
  assert.deepEqual(waits(0.999999999, [0, 0, 0, 0, 0]).map(Math.round), [100, 200, 400, 800, 1000]);
  assert.deepEqual(waits(0, [0, 0, 0, 0, 0]), [50, 100, 200, 400, 500]);
  // Connections that live shortly count as failures, one that lives does not.
  assert.deepEqual(waits(0, [100, 100, 100, 5000, 100]), [50, 100, 200, 50, 100]);
  for (const bounds of [{ minMs: 0 }, { minMs: 10, maxMs: 5 }, { maxMs: Infinity }]) {
    assert.throws(() => new Backoff(bounds), RangeError);
  }
});

test("pause() ends at once when its signal is aborted", async () => {
  const abort = new AbortController();
  const waiting = pause(3_600_000, abort.signal);
  abort.abort();
  await within(waiting, "the end of the pause");
  await within(pause(3_600_000, abort.signal), "no pause");
});

test("Seam knows what came from the replayed slots on, and statuses that they repeat", () => {
  const seam = new Seam(4);
  seam.note(10, 111, 1);
  seam.note(9, -3, 0); // a status of the slot before
  seam.note(11, 222, 2);
  assert.ok(!seam.has(10, 111, 1), "nothing is repeated within a connection");
  assert.ok(seam.begin(11));
  assert.deepEqual([seam.has(10, 111, 1), seam.has(11, 222, 2), seam.has(11, 222, 3), seam.has(9, -3, 0)], [
    false,
    true,
    false,
    true,
  ]);
  assert.deepEqual([seam.covers(11), seam.covers(12)], [true, false]);
  seam.end();
  assert.ok(!seam.covers(11));
  for (let i = 0; i < 5; i++) seam.note(12, i, 0);
  assert.equal(seam.begin(12), false, "not all is remembered");
  assert.ok(!seam.has(12, 0, 0));
  assert.ok(seam.has(12, 4, 0));
});

test("bits48() takes six bytes", () => {
  assert.equal(bits48(Uint8Array.of(9, 0, 0, 0, 0, 1, 2), 1), 0x102);
  assert.equal(bits48(new Uint8Array(6).fill(255), 0), 2 ** 48 - 1);
});

test("Receiver tells how much later than at its best a slot comes, whatever happens to our clock", () => {
  const receiver = new Receiver(queueOf().queue, { commitment: "processed", meta: true }, () => {});
  const take = (slot: number, createdMs: number) => {
    const createdAt = { seconds: Math.floor(createdMs / 1000), nanos: Math.floor(createdMs % 1000) * 1e6 };
    const bytes = encodeUpdate({ filters: ["slots"], slot: { slot, parent: slot - 1, status: 0 }, createdAt });
    receiver.take(bytes, 0, bytes.length);
  };
  const { now } = Date;
  const started = now();
  try {
    take(1, started);
    assert.ok(receiver.lagMs < 1000, `${receiver.lagMs}`);
    Date.now = () => now() + 3_600_000; // it was set
    take(2, now());
    assert.ok(receiver.lagMs < 30_000, `${receiver.lagMs}`);
    take(3, now() - 60_000);
    assert.ok(receiver.lagMs >= 59_000 && receiver.lagMs < 90_000, `${receiver.lagMs}`);
  } finally {
    Date.now = now;
  }
});

test("nextSourceEpoch() grows, from one process to the next, too", () => {
  const seconds = Math.floor(Date.now() / 1000);
  const [first, second] = [nextSourceEpoch(), nextSourceEpoch()];
  assert.ok(first >= seconds, "an earlier process has had those of before");
  assert.ok(second > first && second <= 0xffffffff);
});

test("yellowstone() refuses options that can't be, before it connects", () => {
  const good = { endpoint: "https://localhost:1", demand: {} };
  yellowstone(good);
  for (const endpoint of ["localhost:1", "ftp://x", "", "unix:/x"]) {
    assert.throws(() => yellowstone({ ...good, endpoint }), TypeError, endpoint);
  }
  assert.throws(() => yellowstone({ ...good, commitment: "sure" as "processed" }), TypeError);
  assert.throws(() => yellowstone({ ...good, demand: undefined as never }), TypeError);
  assert.throws(() => yellowstone({ ...good, compression: ["br" as "gzip"] }), TypeError);
  assert.throws(() => yellowstone({ ...good, windowBytes: 1 }), RangeError);
  assert.throws(() => yellowstone({ ...good, silenceMs: NaN }), RangeError);
  assert.throws(() => yellowstone({ ...good, fromSlot: 5 as never }), TypeError);
  assert.throws(() => yellowstone({ ...good, backoff: { minMs: -1 } }), RangeError);
});
