/**
 * KeySet against the runtime's own set of texts.
 * May touch: KeySet. May not touch: the native library.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { KeySet } from "../../src/stream/key_set.ts";

/** Few different keys, so that they meet again; some differ in their last byte alone. */
function keyOf(number: number): Uint8Array {
  const key = new Uint8Array(32);
  key[31] = number;
  if (number % 3 === 0) key[0] = number;
  return key;
}

const text = (key: Uint8Array) => Array.from(key).join(" ");
const numbers = fc.array(fc.integer({ min: 0, max: 99 }), { maxLength: 60 });
const steps = fc.array(fc.tuple(fc.boolean(), numbers), { maxLength: 30 });

test("KeySet holds what was added and not deleted, each key once", () => {
  fc.assert(fc.property(steps, (steps) => {
    const [set, model] = [new KeySet(), new Set<string>()];
    for (const [isAdded, list] of steps) {
      const keys = list.map(keyOf);
      if (isAdded) set.add(keys);
      else set.delete(keys);
      for (const key of keys.map(text)) isAdded ? model.add(key) : model.delete(key);
      assert.equal(set.size, model.size);
      for (const key of keys) assert.equal(set.has(key), model.has(text(key)));
      assert.deepEqual(set.keys().map(text).sort(), [...model].sort());
    }
  }));
});

test("KeySet copies: a caller's buffer may be used again", () => {
  const [set, key] = [new KeySet(), keyOf(3)];
  set.add([key]);
  key.fill(0);
  assert.deepEqual(set.keys().map(text), [text(keyOf(3))]);
});

test("KeySet grows to a hundred thousand keys and back to none", () => {
  const set = new KeySet();
  const keys = Array.from({ length: 100_000 }, (_, i) => {
    const key = new Uint8Array(32);
    new DataView(key.buffer).setUint32(28, i);
    return key;
  });
  set.add(keys);
  set.add(keys.slice(0, 10));
  assert.equal(set.size, keys.length);
  set.delete(keys.slice(1));
  assert.deepEqual(set.keys(), [keys[0]]);
  set.delete(keys);
  assert.equal(set.size, 0);
});
