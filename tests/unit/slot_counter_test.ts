/**
 * SlotCounter: counts per slot, and which of them it forgets.
 * May touch: one counter. May not touch: senders.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SlotCounter } from "../../src/stream/slot_counter.ts";

const SLOTS_REMEMBERED = 512;

function published(counter: SlotCounter, slot: number): [accounts: number, transactions: number] {
  const { accountsPublished, transactionsPublished, accountsLost, transactionsLost } = counter.countsOf(slot);
  assert.deepEqual([accountsLost, transactionsLost], [0, 0]);
  return [accountsPublished, transactionsPublished];
}

test("SlotCounter counts accounts and transactions of interleaved slots", () => {
  const action = fc.tuple(fc.boolean(), fc.integer({ min: 0, max: 5 }));
  fc.assert(fc.property(fc.array(action, { maxLength: 300 }), (actions) => {
    const counter = new SlotCounter();
    const model = new Map<number, [number, number]>();
    for (const [isAccount, slot] of actions) {
      const counts = model.get(slot) ?? [0, 0];
      model.set(slot, counts);
      if (isAccount) {
        counter.countAccount(slot);
        counts[0]++;
      } else {
        counter.countTransaction(slot);
        counts[1]++;
      }
      for (let s = 0; s <= 5; s++) assert.deepEqual(published(counter, s), model.get(s) ?? [0, 0]);
    }
  }));
});

test("SlotCounter.countsOf() is 0 for a slot that it does not know, and remembers nothing of it", () => {
  const counter = new SlotCounter();
  for (let slot = 0; slot < 10_000; slot++) assert.deepEqual(published(counter, slot), [0, 0]);
  counter.countAccount(0);
  assert.deepEqual(published(counter, 0), [1, 0]);
});

test("SlotCounter remembers 512 slots", () => {
  const counter = new SlotCounter();
  for (let slot = 1; slot <= SLOTS_REMEMBERED; slot++) counter.countAccount(slot);
  for (let slot = 1; slot <= SLOTS_REMEMBERED; slot++) assert.deepEqual(published(counter, slot), [1, 0]);
  counter.countAccount(SLOTS_REMEMBERED + 1);
  assert.deepEqual(published(counter, 1), [0, 0]);
  assert.deepEqual(published(counter, 2), [1, 0]);
  assert.deepEqual(published(counter, SLOTS_REMEMBERED + 1), [1, 0]);
});

test("SlotCounter forgets the slots longest untouched, not the one in which updates keep coming", () => {
  const counter = new SlotCounter();
  const current = 1_000_000;
  let expected = 0;
  // Accounts of old slots, as at a source's start, between those of the current one.
  for (let slot = 1; slot <= 3 * SLOTS_REMEMBERED; slot++) {
    counter.countAccount(current);
    counter.countAccount(slot);
    expected++;
  }
  assert.deepEqual(published(counter, current), [expected, 0]);
});
