/**
 * IdleClock: counts the time in which ticks came as planned, and no other.
 * May touch: src/v9/idle_clock.ts. No clock is read: times are numbers of the test.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { IdleClock } from "../../src/v9/idle_clock.ts";

const PERIOD_MS = 1000;

test("IdleClock runs with ticks that come on time, and between them", () => {
  const clock = new IdleClock(PERIOD_MS, 5000);
  assert.equal(clock.now(5000), 0);
  assert.equal(clock.now(5700), 700);
  clock.tick(6000);
  clock.tick(7400);
  assert.equal(clock.now(7400), 2400);
  assert.equal(clock.now(8000), 3000);
});

test("IdleClock stands still while no tick comes, and goes on from there", () => {
  const clock = new IdleClock(PERIOD_MS, 0);
  clock.tick(1000);
  assert.equal(clock.now(2500), 2500);
  assert.equal(clock.now(2501), 1000, "a tick is overdue: nobody knows how long the loop stood still");
  assert.equal(clock.now(60_000), 1000);
  clock.tick(60_000);
  assert.equal(clock.now(60_000), 1000);
  assert.equal(clock.now(60_100), 1100);
});

test("IdleClock.tick() says whether two ticks in a row were on time", () => {
  const clock = new IdleClock(PERIOD_MS, 0);
  const verdicts = [1000, 2000, 3000, 60_000, 61_000, 62_000, 63_501].map((at) => clock.tick(at));
  assert.deepEqual(verdicts, [false, true, true, false, false, true, false]);
});

test("IdleClock never runs faster than the clock, and never loses a tick that was on time", () => {
  fc.assert(fc.property(fc.array(fc.integer({ min: 0, max: 4000 }), { maxLength: 50 }), (steps) => {
    const clock = new IdleClock(PERIOD_MS, 0);
    let at = 0;
    let onTime = 0;
    for (const step of steps) {
      at += step;
      if (step <= 1500) onTime += step;
      clock.tick(at);
      assert.equal(clock.now(at), onTime);
      assert.ok(onTime <= at);
    }
  }));
});
