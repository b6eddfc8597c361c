/**
 * Names of filters as another thread sees them: the same as those of the thread that sets them, at every instant.
 * May touch: the names and their shared bytes.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { FilterNames } from "../../src/stream/filter_names.ts";
import {
  createSharedNames,
  MirroredNames,
  RETIRED_SHARED_MAX,
  writeSharedNames,
} from "../../src/stream/shared_names.ts";

function mirrored(): { names: FilterNames; mirror: MirroredNames; buffer: SharedArrayBuffer } {
  const names = new FilterNames();
  const buffer = createSharedNames();
  writeSharedNames(buffer, names.state);
  names.onChange = (state) => writeSharedNames(buffer, state);
  return { names, mirror: new MirroredNames(buffer), buffer };
}

test("a mirror says of every mask and sequence what the names say, whatever is set and removed", () => {
  const step = fc.oneof(
    fc.record({ do: fc.constant("add" as const), name: fc.string({ unit: "binary", minLength: 1, maxLength: 5 }) }),
    fc.record({ do: fc.constantFrom("retire" as const, "free" as const), which: fc.nat(62) }),
    fc.record({ do: fc.constant("look" as const), mask: fc.bigInt(0n, 2n ** 64n - 1n), back: fc.nat(3) }),
  );
  fc.assert(fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
    const { names, mirror } = mirrored();
    let [sequence, looked] = [10n, 0n];
    for (const step of steps) {
      sequence++;
      if (step.do === "add") {
        if (names.get(step.name) === undefined && names.names.length < 63) names.add(step.name, "all");
      } else if (step.do === "look") {
        const at = sequence - BigInt(step.back);
        if (at < looked) continue; // frames are asked about in their order
        looked = at;
        const [low, high] = [Number(step.mask & 0xffffffffn), Number(step.mask >> 32n)];
        assert.deepEqual(mirror.in(low, high, { sequence: at }), names.in(low, high, { sequence: at }));
        assert.deepEqual(new Set(mirror.names), new Set(names.names));
      } else {
        const name = names.names[step.which];
        if (name === undefined) continue;
        if (step.do === "retire") names.retire(names.get(name)!, sequence);
        else names.free(names.get(name)!);
      }
    }
  }));
});

test("there is room for as many of the longest names as there can be, and for the newest that were removed", () => {
  const { names, mirror } = mirrored();
  const longest = (i: number) => String.fromCharCode(i + 1).repeat(64); // six bytes of JSON for most characters
  for (let i = 0; i < 2 * RETIRED_SHARED_MAX; i++) {
    const entry = names.add("\ud800".repeat(63) + String.fromCharCode(i), "all");
    names.retire(entry, 2n ** 64n - 1n);
  }
  for (let i = 0; i < 63; i++) names.add(i < 31 ? longest(i) : "\udfff".repeat(62) + i, "all");
  assert.deepEqual(mirror.names, names.names);
  assert.equal(mirror.in(2, 0, { sequence: 1n })[0], "\ud800".repeat(63) + String.fromCharCode(RETIRED_SHARED_MAX));
});

test("what is being written is not looked at, and what was written before that is", () => {
  const { names, mirror, buffer } = mirrored();
  names.add("one", "all");
  assert.deepEqual(mirror.in(2, 0, { sequence: 1n }), ["one"]);
  names.add("two", "all");
  // In the middle of a third: half of it stands where "one" stood alone.
  const [words, bytes] = [new Int32Array(buffer, 0, 3), new Uint8Array(buffer, 12)];
  const other = 1 - (Atomics.load(words, 0) & 1);
  bytes.fill(1, other * (bytes.length / 2), other * (bytes.length / 2) + 40); // no JSON
  assert.deepEqual(mirror.in(6, 0, { sequence: 2n }), ["one", "two"]);
  names.add("three", "all");
  assert.deepEqual(mirror.in(14, 0, { sequence: 3n }), ["one", "two", "three"]);
});
