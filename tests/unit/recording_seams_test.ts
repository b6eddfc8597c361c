/**
 * Seams in recordings: where the stream was interrupted, by the consumer's word or because another recorder went on.
 * May touch: the public API, a temporary directory. May not touch: timing.
 *
 * @module
 */

import assert from "node:assert/strict";
import { cpSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { ConnectionCopy, ConnectionEvent } from "../../mod.ts";
import { record, Recorder, replay, type ReplayOptions } from "../../src/recording/mod.ts";
import { decodeSeam, encodeSeam, type Seam } from "../../src/recording/seams.ts";
import { Place } from "./support/place.ts";
import { replayed } from "./support/recordings.ts";
import { accountUpdate, patternBytes, slotUpdate } from "./support/updates.ts";
import { until, within } from "./support/watchdog.ts";

/** All of a recording in one list: an update as its kind and slot, a seam as its event. */
async function storyOf(directory: string, options: ReplayOptions = {}) {
  const story: (string | ConnectionCopy["event"])[] = [];
  for await (const view of replay(directory, options).views()) {
    if (view.kind === "connection") story.push(view.copy().event);
    else story.push(`${view.kind}${"slot" in view ? ` ${view.slot}` : ""}`);
  }
  return story;
}

test("seams are recorded as the consumer had them: a sender that ends, another one, the same one that has kept all", async () => {
  await using place = new Place();
  const directory = join(place.directory, "recording");
  const abort = new AbortController();
  const sender = await place.sender({ history: { bytes: 8 << 20 } });
  const live: ConnectionEvent[] = [];
  const consumer = await place.consumer({
    reconnect: { minMs: 1, maxMs: 5 },
    policy: "disconnect",
    onConnection: (event) => {
      if (event.type === "lost" || event.type === "resumed") live.push(event);
    },
  });
  await consumer.subscribe({ owners: [accountUpdate().owner] });
  sender.publishSlot(slotUpdate({ slot: 1n }));
  // More than the ring holds, so that it is dropped; what came is read, and the sender has kept the rest.
  for (let slot = 2n; sender.metrics.ringFull === 0; slot++) {
    for (let i = 0; i < 100; i++) sender.publishAccount(accountUpdate({ slot, data: new Uint8Array(1000) }));
    await new Promise((resolve) => setImmediate(resolve));
  }
  const recording = record(consumer, directory, { signal: abort.signal, flushMs: 1 });
  const published = sender.metrics.accounts;
  await until(() => consumer.metrics.frames >= published + 1, "all, by two connections or more");
  await sender.close();
  const another = await place.sender();
  const isAnother = (event: ConnectionEvent) => event.type === "resumed" && event.isSameSender === false;
  await until(() => live.some(isAnother), "the next sender's connection");
  another.publishSlot(slotUpdate({ slot: 99n }));
  await until(() => consumer.metrics.frames >= published + 2, "the last slot");
  abort.abort();
  const { updates } = await within(recording, "the end");
  const story = await storyOf(directory);
  const seams = story.filter((item) => typeof item === "object");
  assert.deepEqual(seams, live);
  assert.equal(updates, story.length - seams.length, "seams are no updates");
  const [lost, resumed] = seams;
  assert.ok(lost?.type === "lost" && lost.reason === "slow-consumer" && lost.lastSequence > 0n);
  assert.ok(resumed?.type === "resumed" && resumed.continuity === "complete" && resumed.isSameSender === true);
  const [ended, next] = seams.slice(-2);
  assert.ok(ended?.type === "lost" && ended.reason === "sender-closed" && ended.lastSequence === BigInt(published + 1));
  assert.ok(next?.type === "resumed" && next.continuity === "unknown" && next.isSameSender === false);
  assert.deepEqual(story.slice(-3), [ended, next, "slot 99"]);
  // Behind a seek as well, and not in what a sender is fed with.
  assert.deepEqual((await storyOf(directory, { fromSlot: 99n, toSlot: 99n })).at(-1), "slot 99");
  assert.equal((await replayed(directory)).length, published + 2);
});

test("a recorder behind another one's files says so, and what that one left has its names", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  const [first, second] = [patternBytes(32, 1), patternBytes(32, 2)];
  const killed = join(place.directory, "recording");
  const directory = join(place.directory, "continued");
  await consumer.setFilter("first", { accounts: { owners: [first] } });
  const addTo = async (recorder: Recorder, owner: Uint8Array, slot: bigint, ns: bigint) => {
    sender.publishAccount(accountUpdate({ owner, slot }));
    recorder.add((await within(consumer.next(), "it"))!, ns);
  };
  await using left = await Recorder.open(killed);
  for (let slot = 1n; slot <= 3n; slot++) await addTo(left, first, slot, slot * 1_000_000_000n);
  left.flush();
  cpSync(killed, directory, { recursive: true }); // as a kill would leave it, but for the lock of a process that lives
  rmSync(join(directory, "recorder.lock"));
  await consumer.removeFilter("first");
  await consumer.setFilter("second", { accounts: { owners: [second] } }); // by the same bit
  const recorder = await Recorder.open(directory);
  assert.equal(recorder.progress.recovered, 3);
  await addTo(recorder, second, 4n, 10_500_000_000n);
  await recorder.close();
  await (await Recorder.open(directory)).close(); // adds nothing, so it says nothing
  const third = await Recorder.open(directory);
  await addTo(third, second, 5n, 11_000_000_000n);
  await third.close();
  const seam = (lastSequence: bigint, downMs: number) => ({
    ...{ type: "resumed", continuity: "unknown", isSameSender: undefined, lastSequence, sequence: undefined },
    ...{ downMs, attempts: 0 },
  });
  assert.deepEqual(await storyOf(directory), [
    ...["account 1", "account 2", "account 3"],
    seam(3n, 7500),
    "account 4",
    seam(4n, 500),
    "account 5",
  ]);
  const names: string[] = [];
  for await (const view of replay(directory).views()) names.push(...view.filters);
  assert.deepEqual(names, ["first", "first", "first", "second", "second"]);
  // A recorder that is killed behind a seam leaves it, too.
  const last = await Recorder.open(directory);
  await addTo(last, second, 6n, 12_000_000_000n);
  last.flush();
  const copy = join(place.directory, "once more");
  cpSync(directory, copy, { recursive: true });
  rmSync(join(copy, "recorder.lock"));
  await last.close();
  await (await Recorder.open(copy)).close();
  assert.deepEqual(await storyOf(copy), await storyOf(directory));
});

test("a seam in a file is what another language reads, and is checked", () => {
  const text = (seam: Seam) => JSON.parse(new TextDecoder().decode(encodeSeam(seam)));
  const lost: Seam = {
    type: "lost",
    reason: "sender-gone",
    lastSequence: 2n ** 60n,
    isOverwritten: false,
    retryMs: 10,
  };
  assert.deepEqual(text(lost), {
    ...{ type: "lost", reason: "sender-gone", lastSequence: "1152921504606846976", isOverwritten: false },
    ...{ retryMs: 10, missingMax: null },
  });
  const resumed: Seam = {
    ...{ type: "resumed", continuity: "unknown", isSameSender: true, lastSequence: 7n, sequence: 12n },
    ...{ downMs: 1.5, attempts: 2 },
  };
  assert.equal(text(resumed).missingMax, "5");
  assert.equal(text({ ...resumed, continuity: "complete" }).missingMax, "0");
  assert.equal(text({ ...resumed, isSameSender: false }).missingMax, null);
  const unknown = { isSameSender: undefined, sequence: undefined };
  for (const seam of [lost, { ...lost, retryMs: undefined }, resumed, { ...resumed, ...unknown }]) {
    assert.deepEqual(decodeSeam(encodeSeam(seam)), seam);
  }
  const change = (seam: Seam, fields: object) => new TextEncoder().encode(JSON.stringify({ ...text(seam), ...fields }));
  const lies = [
    ...["", "null", "[]", '"lost"', "{}"].map((json) => new TextEncoder().encode(json)),
    ...[{ reason: "tired" }, { lastSequence: 5 }, { lastSequence: "-1" }, { isOverwritten: 1 }, { retryMs: "soon" }]
      .map((fields) => change(lost, fields)),
    ...[{ continuity: "so so" }, { isSameSender: 1 }, { sequence: "x" }, { downMs: -1 }, { attempts: null }]
      .map((fields) => change(resumed, fields)),
  ];
  for (const lie of lies) assert.throws(() => decodeSeam(lie), RangeError, new TextDecoder().decode(lie));
});
