/**
 * Latency and Counter: the original's arithmetic.
 * May touch: src/stream/timings.ts.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Counter, Latency } from "../../src/stream/timings.ts";

const EMPTY = { count: 0, total_us: 0, min_us: 0, max_us: 0 };

test("Latency reads zero everywhere before the first record", () => {
  const latency = new Latency();
  assert.deepEqual([latency.peek(), latency.average, latency.flush()], [EMPTY, 0, EMPTY]);
});

test("Latency.record() counts whole microseconds, and nothing below zero", () => {
  const latency = new Latency();
  for (const us of [7.9, 3.2, 12]) latency.record(us);
  assert.deepEqual(latency.peek(), { count: 3, total_us: 22, min_us: 3, max_us: 12 });
  assert.equal(latency.average, 22 / 3);
  latency.record(-5);
  latency.record(NaN);
  assert.deepEqual(latency.peek(), { count: 5, total_us: 22, min_us: 0, max_us: 12 });
});

test("Latency.flush() returns what peek() does, and starts anew", () => {
  fc.assert(fc.property(fc.array(fc.nat(), { minLength: 1 }), (values) => {
    const latency = new Latency();
    for (const us of values) latency.record(us);
    const expected = {
      count: values.length,
      total_us: values.reduce((sum, us) => sum + us, 0),
      min_us: Math.min(...values),
      max_us: Math.max(...values),
    };
    assert.deepEqual([latency.peek(), latency.flush(), latency.peek()], [expected, expected, EMPTY]);
    latency.record(9);
    assert.deepEqual(latency.peek(), { count: 1, total_us: 9, min_us: 9, max_us: 9 });
  }));
});

test("Counter counts, and flush() starts anew", () => {
  const counter = new Counter();
  counter.inc();
  counter.add(41);
  assert.deepEqual([counter.peek(), counter.flush(), counter.peek()], [42, 42, 0]);
});
