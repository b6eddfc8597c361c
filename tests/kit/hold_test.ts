/**
 * What waits for its commitment, against a model: a list of slots with parents, and the rules of a chain.
 * May touch: the chain of slots and the hold alone.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Hold } from "../../src/kit/hold.ts";
import { LEVEL, type Level, SlotChain } from "../../src/kit/slot_chain.ts";
import type { SlotStatus } from "../../src/types.ts";

const LIMITS = { bytes: 1_000_000, slots: 512 };

/** A hold, and what it has released. */
class Rig {
  readonly chain = new SlotChain();
  readonly released: string[] = [];
  readonly hold: Hold;

  constructor(level: Level, limits = LIMITS) {
    this.hold = new Hold(level, this.chain, limits);
  }

  slot(slot: number, parent: number, status: SlotStatus, bankId = 0n): void {
    this.hold.apply(this.chain.note({ slot, parent, status, bankId }));
  }

  admit(slot: number, what: string, bankId = 0n): boolean {
    const [key] = what;
    return this.hold.admit({ bank: { slot, bankId }, key, bytes: 100, release: () => this.released.push(what) });
  }

  take(): string[] {
    return this.released.splice(0);
  }
}

test("it waits until its slot has the commitment, and keeps of each key the last of the slot", () => {
  const rig = new Rig(LEVEL.confirmed);
  rig.admit(5, "a1");
  rig.admit(5, "b1");
  rig.admit(5, "a2");
  rig.slot(5, 4, "processed");
  assert.deepEqual(rig.take(), []);
  rig.slot(5, 4, "confirmed");
  assert.deepEqual(rig.take(), ["b1", "a2"]);
  rig.admit(5, "a3"); // late, and no longer in doubt
  assert.deepEqual(rig.take(), ["a3"]);
  assert.equal(rig.hold.bytes, 0);
});

test("a slot's commitment is its ancestors', the oldest first", () => {
  const rig = new Rig(LEVEL.confirmed);
  for (const slot of [1, 2, 4]) {
    rig.admit(slot, `a${slot}`);
    rig.slot(slot, slot === 4 ? 2 : slot - 1, "processed");
  }
  rig.slot(4, 2, "confirmed");
  assert.deepEqual(rig.take(), ["a1", "a2", "a4"]);
});

test("finalized is confirmed, too; confirmed is not finalized", () => {
  const confirmed = new Rig(LEVEL.confirmed);
  const finalized = new Rig(LEVEL.finalized);
  for (const rig of [confirmed, finalized]) {
    rig.admit(1, "a");
    rig.slot(1, 0, "processed");
    rig.admit(2, "b");
    rig.slot(2, 1, "processed");
    rig.slot(2, 1, "confirmed");
  }
  assert.deepEqual([confirmed.take(), finalized.take()], [["a", "b"], []]);
  for (const rig of [confirmed, finalized]) rig.slot(1, 0, "finalized");
  assert.deepEqual([confirmed.take(), finalized.take()], [[], ["a"]]);
  assert.equal(confirmed.chain.root, 1);
});

test("what is of a fork that another chain outlives is forgotten, as what is of a dead bank", () => {
  const rig = new Rig(LEVEL.confirmed);
  rig.slot(1, 0, "processed");
  rig.slot(2, 1, "processed");
  rig.admit(2, "fork");
  rig.slot(3, 1, "processed");
  rig.admit(3, "chain");
  rig.slot(4, 3, "processed");
  rig.admit(4, "dead");
  rig.slot(4, 3, "dead");
  rig.slot(3, 1, "finalized");
  assert.deepEqual(rig.take(), ["chain"]);
  assert.equal(rig.hold.bytes, 0);
  rig.admit(2, "late, of the fork");
  assert.deepEqual(rig.take(), []);
  rig.admit(1, "late, of the chain");
  rig.admit(0, "older than all that is remembered");
  assert.deepEqual(rig.take(), ["late, of the chain", "older than all that is remembered"]);
});

test("of two banks of one slot only the one that got there counts", () => {
  const rig = new Rig(LEVEL.confirmed);
  rig.admit(7, "a", 70n);
  rig.admit(7, "b", 71n);
  rig.admit(7, "c"); // its source does not say
  rig.slot(7, 6, "processed", 71n);
  rig.slot(7, 6, "confirmed", 71n);
  assert.deepEqual(rig.take(), ["b", "c"]);
  rig.admit(7, "late", 70n);
  assert.deepEqual([rig.take(), rig.hold.bytes], [[], 0]);

  rig.admit(8, "d", 80n);
  rig.admit(8, "e", 81n);
  rig.slot(8, 7, "dead", 80n);
  rig.slot(8, 7, "confirmed", 81n);
  assert.deepEqual(rig.take(), ["e"]);
});

test("it has a bound in bytes, and says which slot has waited for too long", () => {
  const rig = new Rig(LEVEL.finalized, { bytes: 1000, slots: 10 });
  assert.deepEqual(["a", "b", "c", "d"].map((key) => rig.admit(1, key)), [true, true, true, false]);
  for (let slot = 1; slot <= 11; slot++) rig.slot(slot, slot - 1, "processed");
  assert.equal(rig.hold.overdue(), undefined);
  rig.slot(12, 11, "processed");
  assert.equal(rig.hold.overdue(), 1);
});

/** A tree of slots: each has a parent below it. The chain that wins is the one of the last slot. */
const tree = fc.array(fc.nat(), { minLength: 1, maxLength: 30 }).map((picks) => {
  const parents = [0];
  for (const [i, pick] of picks.entries()) parents.push(i - pick % Math.min(i + 1, 4));
  return parents; // of slots 1 to picks.length, at their own index; 0 is the first root
});

test("whatever the forks, exactly the winning chain's notifications come, each once and in order", () => {
  fc.assert(
    fc.property(tree, fc.constantFrom(LEVEL.confirmed, LEVEL.finalized), fc.boolean(), (parents, level, eager) => {
      const rig = new Rig(level);
      const chain = new Set<number>();
      for (let slot = parents.length - 1; slot > 0; slot = parents[slot]!) chain.add(slot);
      const status = level === LEVEL.confirmed ? "confirmed" : "finalized";
      for (let slot = 1; slot < parents.length; slot++) {
        rig.admit(slot, `k${slot}`);
        rig.slot(slot, parents[slot]!, "processed");
        if (eager && chain.has(slot) && slot % 3 === 0) rig.slot(slot, parents[slot]!, status);
      }
      const last = parents.length - 1;
      rig.slot(last, parents[last]!, status);
      const wanted = [...chain].sort((a, b) => a - b).map((slot) => `k${slot}`);
      assert.deepEqual(rig.take(), wanted);
      rig.slot(last, parents[last]!, "finalized");
      assert.deepEqual(rig.take(), []);
      assert.equal(rig.hold.bytes, 0);
    }),
  );
});
