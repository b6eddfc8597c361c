/**
 * Replaying a recording: into a sender, some slots of it, by its clock, at a speed.
 * May touch: the public API, a temporary directory. May not touch: timing.
 *
 * @module
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { Recorder, replay, ReplayClock } from "../../src/recording/mod.ts";
import { Place } from "./support/place.ts";
import { accountUpdate, patternBytes } from "./support/updates.ts";
import { within } from "./support/watchdog.ts";
import { recordSlots, replayed, slotsOf, taken } from "./support/recordings.ts";

test("replay() feeds a sender: its consumers get the same, with the recorded time beside the new one", async () => {
  await using place = new Place();
  const directory = join(place.directory, "recording");
  await recordSlots(directory, 1, 600);
  const { sender, consumer } = await place.pair({ sender: { ringCapacityBytes: 1 << 20 } });
  await consumer.subscribe({ owners: [accountUpdate().owner] });
  const feeding = sender.feed(replay(directory));
  const got = await taken(consumer, 1200);
  await feeding;
  for (let slot = 1; slot <= 600; slot++) {
    const [account, mark] = [got[2 * slot - 2]!, got[2 * slot - 1]!];
    assert.ok(account.kind === "account" && mark.kind === "slot");
    assert.deepEqual(account.data, patternBytes(100, slot));
    assert.equal(account.sourceNs, BigInt(slot) * 400_000_000n);
    assert.equal(mark.slot, BigInt(slot));
    assert.equal(mark.accountsPublished, 1);
    assert.ok(account.publishNs > account.sourceNs);
  }
});

test("fromSlot and toSlot: just those slots, over segments, also one that is not complete", async () => {
  await using place = new Place();
  const directory = join(place.directory, "recording");
  await recordSlots(directory, 1, 40, { rotateSlots: 7 });
  await using live = await Recorder.open(directory, { rotateSlots: 7 });
  live.add(accountUpdate({ slot: 41n }));
  live.flush();
  live.add(accountUpdate({ slot: 42n })); // not written out
  for (const [from, to] of [[1, 41], [7, 8], [20, 21], [38, 99], [41, 41], [50, 60]] as const) {
    const slots = new Set(slotsOf(await replayed(directory, { fromSlot: BigInt(from), toSlot: BigInt(to) })));
    const expected = Array.from({ length: 41 }, (_, i) => i + 1).filter((slot) => slot >= from && slot <= to);
    assert.deepEqual([...slots], expected);
  }
  const odd = await replayed(directory, { filter: (view) => view.kind === "account" && view.slotNumber % 2 === 1 });
  assert.deepEqual(slotsOf(odd), Array.from({ length: 21 }, (_, i) => 2 * i + 1));
});

test("ReplayClock: the same times in every replay, whoever sleeps is woken in order and before what is later", async () => {
  await using place = new Place();
  const directory = join(place.directory, "recording");
  await recordSlots(directory, 1, 6); // 400 ms each
  const run = async (speed: number | "max") => {
    const log: string[] = [];
    const clock = new ReplayClock();
    const tick = async () => {
      for (let i = 0; i < 4; i++) {
        await clock.sleep(i === 0 ? 500 : 450);
        log.push(`tick at ${clock.now()}`);
      }
    };
    void tick();
    for await (const batch of replay(directory, { speed, clock })) {
      for (const { kind, slot } of batch) log.push(`${kind} ${slot} at ${clock.nowNs / 1000n}`);
    }
    return log;
  };
  const log = await run("max");
  assert.deepEqual(log.slice(0, 6), [
    "account 1 at 400000",
    "slot 1 at 400000",
    "tick at 500",
    "account 2 at 800000",
    "slot 2 at 800000",
    "tick at 950",
  ]);
  assert.equal(log.length, 16);
  assert.deepEqual(await run(1000), log);
  assert.deepEqual(await run("max"), log);
});

test("replay() at a speed waits as long as the recording did, divided by it; an aborted signal ends the wait", async () => {
  await using place = new Place();
  const directory = join(place.directory, "recording");
  await recordSlots(directory, 1, 6);
  const started = performance.now();
  assert.equal((await replayed(directory, { speed: 10 })).length, 12);
  assert.ok(performance.now() - started >= 200); // 5 × 400 ms / 10
  const abort = new AbortController();
  const slots: number[] = [];
  for await (const batch of replay(directory, { speed: 0.001, signal: abort.signal })) {
    slots.push(...slotsOf(batch));
    // Both of the first slot: they were not published at the very same time. The next would come in minutes.
    if (slots.length === 2) setTimeout(() => abort.abort(), 1);
  }
  assert.deepEqual(slots, [1, 1]);
});

test("replay() that nobody wants any longer waits no longer", async () => {
  await using place = new Place();
  const directory = join(place.directory, "recording");
  await recordSlots(directory, 1, 6);
  const batches = replay(directory, { speed: 0.001 })[Symbol.asyncIterator]();
  for (let count = 0; count < 2;) count += (await batches.next()).value!.length;
  const pending = batches.next(); // the next slot would come in minutes
  assert.equal((await within(batches.return!(), "the end")).done, true);
  assert.equal((await within(pending, "the wait")).done, true);
});
