/**
 * KeyIndex against a plain Map, with keys that differ in few bits.
 * May touch: one index. May not touch: connections.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { KeyIndex } from "../../src/stream/filter.ts";

/** The number-th of many keys that are the same but for four bytes, wherever these stand. */
function key(number: number, at = 28): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(32).fill(255);
  new DataView(bytes.buffer).setUint32(at, number, true);
  return bytes;
}

/** Who wants the key, looked up in the middle of other words as the fan-out does; sorted, [] for nobody. */
function wanting<T>(index: KeyIndex<T>, key: Uint8Array, at = 3): T[] {
  const words = new Uint32Array(16).fill(7);
  new Uint8Array(words.buffer).set(key, 4 * at);
  return [...index.get(words, at) ?? []].sort();
}

const action = fc.record({
  name: fc.constantFrom("add", "add", "add", "add", "remove", "get"),
  number: fc.integer({ min: 0, max: 40 }),
  place: fc.constantFrom(0, 12, 28),
  consumer: fc.integer({ min: 1, max: 4 }),
  at: fc.constantFrom(0, 3, 8),
});

test("KeyIndex does what a Map from text to sets does", () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 300 }), (actions) => {
      const index = new KeyIndex<number>();
      const model = new Map<string, Set<number>>();
      for (const { name, number, place, consumer, at } of actions) {
        const bytes = key(number, place);
        const text = bytes.toHex();
        const wanted = model.get(text) ?? new Set();
        if (name === "add") {
          assert.equal(index.add(bytes, consumer), !wanted.has(consumer));
          model.set(text, wanted.add(consumer));
        } else if (name === "remove") {
          index.remove(consumer);
          for (const [text, consumers] of model) {
            if (consumers.delete(consumer) && consumers.size === 0) model.delete(text);
          }
        }
        assert.deepEqual(wanting(index, bytes, at), [...model.get(text) ?? []].sort());
        assert.equal(index.size, model.size);
      }
      for (const [text, consumers] of model) {
        assert.deepEqual(wanting(index, Uint8Array.fromHex(text)), [...consumers].sort());
      }
    }),
    { numRuns: 500 },
  );
});

test("KeyIndex tells tens of thousands of keys apart that differ in a few bytes, through growth and removal", () => {
  const index = new KeyIndex<string>();
  const count = 20_000;
  for (let i = 0; i < count; i++) {
    assert.ok(index.add(key(i), i % 2 === 0 ? "even" : "odd"));
    if (i % 3 === 0) assert.ok(index.add(key(i), "third"));
  }
  assert.equal(index.size, count);
  const expected = (i: number, gone: readonly string[]) =>
    [i % 2 === 0 ? "even" : "odd", ...(i % 3 === 0 ? ["third"] : [])].filter((name) => !gone.includes(name));
  const gone: string[] = [];
  for (const name of ["", "even", "third", "odd"]) {
    index.remove(name);
    gone.push(name);
    let size = 0;
    for (let i = 0; i < count; i++) {
      const consumers = expected(i, gone);
      if (consumers.length > 0) size++;
      assert.deepEqual(wanting(index, key(i)), consumers);
    }
    assert.equal(index.size, size);
    assert.deepEqual(wanting(index, key(count)), []);
  }
});

test("KeyIndex takes keys again that were removed, round after round", () => {
  const index = new KeyIndex<number>();
  for (let round = 1; round <= 200; round++) {
    for (let i = 0; i < 20; i++) assert.ok(index.add(key(i + round), round)); // most of them anew
    assert.equal(index.size, 20);
    assert.deepEqual(wanting(index, key(round)), [round]);
    assert.deepEqual(wanting(index, key(round - 1)), []);
    index.remove(round);
    assert.equal(index.size, 0);
  }
});

test("KeyIndex keeps its own copy of a key", () => {
  const index = new KeyIndex<string>();
  const mutable = key(1);
  index.add(mutable, "a");
  mutable.fill(2);
  assert.deepEqual(wanting(index, mutable), []);
  assert.deepEqual(wanting(index, key(1)), ["a"]);
});

test("KeyIndex takes a key at any offset of its buffer", () => {
  const index = new KeyIndex<string>();
  const buffer = new Uint8Array(64);
  buffer.set(key(1), 5);
  index.add(buffer.subarray(5, 37), "a");
  assert.deepEqual(wanting(index, key(1)), ["a"]);
});

test("what KeyIndex.get() returned does not change when somebody comes or goes", () => {
  const index = new KeyIndex<string>();
  index.add(key(1), "a");
  const words = new Uint32Array(key(1).buffer);
  const before = index.get(words, 0);
  index.add(key(1), "b");
  const both = index.get(words, 0);
  index.remove("a");
  assert.deepEqual([before, both, index.get(words, 0)], [["a"], ["a", "b"], ["b"]]);
});
