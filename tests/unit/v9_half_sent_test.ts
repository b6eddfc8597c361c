/**
 * HalfSent: whose message began first goes first, and nobody else.
 * May touch: the class under test.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type HalfReader, HalfSent } from "../../src/v9/half_sent.ts";

function readers(count: number): { readonly all: HalfReader[]; readonly gone: number[] } {
  const gone: number[] = [];
  return { all: Array.from({ length: count }, (_, i) => ({ giveUp: () => void gone.push(i) })), gone };
}

test("HalfSent.note() has the oldest give up, as many as it takes", () => {
  const { all: [a, b, c, d], gone } = readers(4);
  const halfSent = new HalfSent(100);
  halfSent.note(a!, 40, false);
  halfSent.note(b!, 30, false);
  halfSent.note(c!, 30, false);
  assert.deepEqual([gone, halfSent.total], [[], 100]);
  halfSent.note(c!, 31, false);
  assert.deepEqual([gone, halfSent.total], [[0], 61]);
  halfSent.note(d!, 100, false);
  assert.deepEqual([gone, halfSent.total], [[0, 1, 2], 100]);
  halfSent.note(d!, 101, false);
  assert.deepEqual([gone, halfSent.total], [[0, 1, 2, 3], 0]);
});

test("HalfSent.note() counts a message from its own beginning, and forgets who has finished", () => {
  const { all: [a, b, c], gone } = readers(3);
  const halfSent = new HalfSent(100);
  halfSent.note(a!, 10, false);
  halfSent.note(b!, 10, false);
  halfSent.note(a!, 20, true); // it has finished that one and begun another
  halfSent.note(c!, 80, false);
  assert.deepEqual([gone, halfSent.total], [[1], 100]);
  halfSent.note(a!, 0, false);
  halfSent.note(a!, 0, true);
  assert.equal(halfSent.total, 80);
});
