/**
 * Idle's ladder, over a ring that is a fake: what it asks of the library, and what ends its sleep.
 * May touch: a fake of the library's spin, park and unpark. May not touch: rings.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Native } from "../../src/native/native.ts";
import { Idle, IDLE_STRATEGIES, type IdleStrategy } from "../../src/stream/idle.ts";
import { turn, within } from "./support/watchdog.ts";

const RING = 41;

/** Answers as told and notes what it was asked. */
class FakeRing {
  readonly calls: string[] = [];
  hasFrame = false;

  idle(strategy: IdleStrategy): Idle {
    const note = (name: string, result: (...rest: number[]) => number) => (ring: number, ...rest: number[]) => {
      assert.equal(ring, RING);
      this.calls.push([name, ...rest].join(" "));
      return result(...rest);
    };
    const native = {
      ringSpin: note("spin", () => this.hasFrame ? 1 : 0),
      ringPark: note("park", () => this.hasFrame ? 0 : 1),
      ringUnpark: note("unpark", () => 0),
    };
    return new Idle(native as unknown as Native, RING, strategy);
  }

  /** What it was asked since the last time. */
  take(): string[] {
    return this.calls.splice(0);
  }
}

/** Whether a promise has settled, without waiting for it. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  void promise.finally(() => settled = true);
  await turn();
  await turn();
  return settled;
}

test("IDLE_STRATEGIES has all four", () => {
  assert.deepEqual([...IDLE_STRATEGIES].sort(), ["adaptive", "park", "spin", "yield"]);
});

test("spin: looks for a millisecond, then gives the event loop a turn, and never parks", async () => {
  const ring = new FakeRing();
  const idle = ring.idle("spin");
  for (let i = 0; i < 3; i++) await within(idle.wait(Infinity), "a turn");
  assert.deepEqual(ring.take(), ["spin 1000", "spin 1000", "spin 1000"]);
  ring.hasFrame = true;
  await within(idle.wait(Infinity), "a frame");
  assert.equal(idle.parks, 0);
});

test("yield: one turn of the event loop, no native call", async () => {
  const ring = new FakeRing();
  const idle = ring.idle("yield");
  let timers = 0;
  const timer = setInterval(() => timers++, 0);
  while (timers < 3) await within(idle.wait(Infinity), "a turn"); // a wait that gave no turn would never end this
  clearInterval(timer);
  assert.deepEqual(ring.take(), []);
  assert.equal(idle.parks, 0);
});

test("park: sleeps until it is woken, and unparks", async () => {
  const ring = new FakeRing();
  const idle = ring.idle("park");
  const sleep = idle.wait(Infinity);
  assert.equal(await isSettled(sleep), false);
  assert.deepEqual(ring.take(), ["park"]);
  idle.wakeUp();
  await within(sleep, "the end of the sleep");
  assert.deepEqual(ring.take(), ["unpark"]);
  assert.equal(idle.parks, 1);
  idle.wakeUp(); // with nobody asleep: nothing
  const again = idle.wait(Infinity);
  assert.equal(await isSettled(again), false, "a wake-up while awake is not kept for the next sleep");
  idle.wakeUp();
  await within(again, "the end of the sleep");
  assert.equal(idle.parks, 2);
});

test("park: does not sleep when something came meanwhile", async () => {
  const ring = new FakeRing();
  ring.hasFrame = true;
  const idle = ring.idle("park");
  await within(idle.wait(Infinity), "a frame");
  assert.deepEqual(ring.take(), ["park"], "and the library has unparked by itself");
  assert.equal(idle.parks, 0);
});

test("park: ends at the deadline, also one that is past", async () => {
  const ring = new FakeRing();
  const idle = ring.idle("park");
  const started = performance.now();
  await within(idle.wait(started + 20), "the deadline");
  assert.ok(performance.now() - started >= 19, "timers may be a millisecond early, not more");
  await within(idle.wait(performance.now() - 1000), "the deadline");
  await within(idle.wait(-Infinity), "the deadline");
  assert.deepEqual(ring.take(), ["park", "unpark", "park", "unpark", "park", "unpark"]);
});

test("park: a wake-up cancels the deadline's timer", async () => {
  const ring = new FakeRing();
  const idle = ring.idle("park");
  const first = idle.wait(performance.now() + 30);
  idle.wakeUp();
  await within(first, "the end of the sleep");
  const second = idle.wait(Infinity);
  await new Promise((resolve) => setTimeout(resolve, 60)); // past the first one's deadline
  assert.equal(await isSettled(second), false, "the first sleep's timer does not end the second");
  idle.wakeUp();
  await within(second, "the end of the sleep");
});

test("adaptive: spins briefly, yields for eight turns, then parks; frames start it over", async () => {
  const ring = new FakeRing();
  const idle = ring.idle("adaptive");
  for (let round = 0; round < 2; round++) {
    for (let i = 0; i < 8; i++) await within(idle.wait(Infinity), "a turn");
    assert.deepEqual(ring.take(), Array(8).fill("spin 20"));
    const sleep = idle.wait(Infinity);
    assert.equal(await isSettled(sleep), false);
    assert.deepEqual(ring.take(), ["spin 20", "park"]);
    idle.wakeUp();
    await within(sleep, "the end of the sleep");
    assert.deepEqual(ring.take(), ["unpark"]);
    idle.noteBusy();
  }
  assert.equal(idle.parks, 2);
});

test("adaptive: a sleep that brought nothing is followed by another, without turns between", async () => {
  const ring = new FakeRing();
  const idle = ring.idle("adaptive");
  for (let i = 0; i < 8; i++) await idle.wait(Infinity);
  ring.take();
  await within(idle.wait(0), "the deadline");
  await within(idle.wait(0), "the deadline");
  assert.deepEqual(ring.take(), ["spin 20", "park", "unpark", "spin 20", "park", "unpark"]);
});

test("adaptive: a frame that comes while it spins ends the wait at once", async () => {
  const ring = new FakeRing();
  ring.hasFrame = true;
  const idle = ring.idle("adaptive");
  await within(idle.wait(Infinity), "a frame");
  assert.deepEqual(ring.take(), ["spin 20"]);
});
