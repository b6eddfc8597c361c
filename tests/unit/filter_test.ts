/**
 * KeyIndex against a plain Map, with keys that share their hash.
 * May touch: one index. May not touch: connections.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { KeyIndex } from "../../src/stream/filter.ts";

/** Few prefixes and few rests: 53 bits are the hash, so most pairs of keys collide in one bucket. */
const key = fc.record({
  prefix: fc.constantFrom(0, 1, 255),
  bit: fc.constantFrom(0, 5, 7), // of byte 6: bits 5 to 7 are no longer part of the hash
  last: fc.constantFrom(0, 1, 2),
}).map(({ prefix, bit, last }) => {
  const bytes = new Uint8Array(32);
  bytes.fill(prefix, 0, 6);
  bytes[6] = 1 << bit;
  bytes[31] = last;
  return bytes;
});
const action = fc.record({
  name: fc.constantFrom("add", "add", "remove", "get"),
  key,
  consumer: fc.integer({ min: 1, max: 4 }),
  at: fc.constantFrom(0, 1, 64),
});

test("KeyIndex does what a Map from text to sets does, however keys collide", () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 200 }), (actions) => {
      const index = new KeyIndex<number>();
      const model = new Map<string, Set<number>>();
      for (const { name, key, consumer, at } of actions) {
        const text = key.toHex();
        const wanted = model.get(text) ?? new Set();
        if (name === "add") {
          assert.equal(index.add(key, consumer), !wanted.has(consumer));
          model.set(text, wanted.add(consumer));
        } else if (name === "remove") {
          index.remove(key, consumer);
          wanted.delete(consumer);
          if (wanted.size === 0) model.delete(text);
        }
        const frame = new Uint8Array(at + 40).fill(7);
        frame.set(key, at);
        const got = index.get(frame, at);
        assert.deepEqual(got && [...got].sort(), model.has(text) ? [...model.get(text)!].sort() : undefined);
        assert.equal(index.isEmpty, model.size === 0);
      }
    }),
    { numRuns: 300 },
  );
});

test("KeyIndex keeps its own copy of a key", () => {
  const index = new KeyIndex<string>();
  const key = new Uint8Array(32).fill(1);
  index.add(key, "a");
  key.fill(2);
  assert.equal(index.get(key, 0), undefined);
  assert.deepEqual(index.get(new Uint8Array(32).fill(1), 0), ["a"]);
});

test("KeyIndex tells 256 keys of one hash apart", () => {
  const index = new KeyIndex<number>();
  const keys = Array.from({ length: 256 }, (_, i) => {
    const key = new Uint8Array(32).fill(9);
    key[31] = i;
    return key;
  });
  keys.forEach((key, i) => assert.ok(index.add(key, i)));
  keys.forEach((key, i) => assert.deepEqual(index.get(key, 0), [i]));
  for (let i = 0; i < 256; i += 2) index.remove(keys[i]!, i);
  keys.forEach((key, i) => assert.deepEqual(index.get(key, 0), i % 2 === 0 ? undefined : [i]));
});

test("KeyIndex.get() finds a key whose bytes have their highest bits set", () => {
  const index = new KeyIndex<number>();
  const key = new Uint8Array(32).fill(255);
  index.add(key, 1);
  assert.deepEqual(index.get(key, 0), [1]);
  index.remove(key, 2); // somebody who never asked for it
  assert.deepEqual(index.get(key, 0), [1]);
  index.remove(key, 1);
  assert.ok(index.isEmpty);
});
