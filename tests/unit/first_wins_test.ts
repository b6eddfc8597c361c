/**
 * What is new of several feeds: whatever they lose, however far one is behind, and when what is remembered is too little.
 * May touch: src/merge, frames without a ring.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { FirstWins, type FirstWinsOptions } from "../../src/merge/first_wins.ts";
import { SeenTable } from "../../src/merge/seen_table.ts";
import { FrameMemory } from "./support/account_frames.ts";
import { accountUpdate, keyOf } from "./support/updates.ts";

const OPTIONS: FirstWinsOptions = { isVersionShared: true, accountsMax: 100, transactionsMax: 100 };
const memory = new FrameMemory();

interface Write {
  readonly key: number;
  readonly slot: number;
  readonly writeVersion: number;
}

function view(
  { key, slot, writeVersion }: Write,
  fields: Parameters<FrameMemory["account"]>[1] & { sourceEpoch?: number; bankId?: bigint } = {},
) {
  const { sourceEpoch = 0, bankId = 0n } = fields;
  const version = { slot: BigInt(slot), writeVersion: BigInt(writeVersion), bankId, sourceEpoch };
  return memory.account(accountUpdate({ pubkey: keyOf(key), ...version }), fields);
}

test("SeenTable remembers at least as many as it was told, the latest, and what is asked for again", () => {
  fc.assert(fc.property(
    fc.integer({ min: 1, max: 20 }),
    fc.array(fc.record({ key: fc.nat({ max: 60 }), isAsked: fc.boolean() }), { maxLength: 400, size: "max" }),
    (countMax, steps) => {
      const table = new SeenTable(2, 1, countMax);
      const values = new Map<number, number>();
      /** Keys by when they were used last. */
      let recent: number[] = [];
      steps.forEach(({ key, isAsked }, i) => {
        const words = Uint32Array.of(key, 7);
        const at = table.find(words, 0);
        const isRecent = recent.slice(-countMax).includes(key);
        if (at >= 0) assert.equal(table.words[at], values.get(key), "its own value");
        else assert.ok(!isRecent, "the latest are there");
        if (at < 0 && isAsked) return;
        const place = at >= 0 ? at : table.insert(words, 0);
        if (at < 0) assert.equal(table.words[place], 0);
        table.words[place] = i + 1;
        values.set(key, i + 1);
        recent = [...recent.filter((other) => other !== key), key];
        assert.ok(table.size <= 2 * countMax);
      });
      table.clear();
      assert.equal(table.size, 0);
      for (const key of values.keys()) assert.equal(table.find(Uint32Array.of(key, 7), 0), -1);
    },
  ));
});

test("SeenTable: what is looked up again and again stays", () => {
  const table = new SeenTable(1, 1, 4);
  const place = table.insert(Uint32Array.of(1), 0);
  table.words[place] = 5;
  for (let key = 2; key < 100; key++) {
    table.insert(Uint32Array.of(key), 0);
    const at = table.find(Uint32Array.of(1), 0);
    assert.equal(table.words[at], 5);
  }
});

/** Writes of some accounts in the order of their chain. */
const writes = fc.array(fc.record({ key: fc.nat({ max: 3 }), isNewSlot: fc.boolean() }), {
  minLength: 1,
  maxLength: 40,
})
  .map((steps) => {
    let slot = 10;
    return steps.map(({ key, isNewSlot }, i): Write => ({
      key,
      slot: slot += isNewSlot ? 1 : 0,
      writeVersion: 100 + i,
    }));
  });
/** How two feeds take turns, and what each loses. */
const turns = fc.array(fc.record({ feed: fc.nat({ max: 1 }), isLost: fc.boolean() }), {
  minLength: 100,
  maxLength: 100,
});

test("each write comes once and in order, from whichever feed has it first; the other may lose what it likes", () => {
  fc.assert(fc.property(writes, turns, fc.nat({ max: 1 }), (writes, turns, lossy) => {
    const firstWins = new FirstWins(OPTIONS);
    const next = [0, 0];
    const got: Write[] = [];
    const take = (feed: number, isLost: boolean) => {
      const write = writes[next[feed]!++];
      if (write === undefined || (isLost && feed === lossy)) return;
      if (firstWins.account(feed, view(write)) === "first") got.push(write);
    };
    for (const { feed, isLost } of turns) take(feed, isLost);
    for (const feed of [0, 1]) while (next[feed]! < writes.length) take(feed, false);
    for (const key of [0, 1, 2, 3]) {
      const versions = got.filter((write) => write.key === key).map(({ writeVersion }) => writeVersion);
      const all = writes.filter((write) => write.key === key).map(({ writeVersion }) => writeVersion);
      assert.deepEqual(versions, [...versions].sort((a, b) => a - b), "none after a newer one");
      assert.equal(new Set(versions).size, versions.length, "none twice");
      assert.equal(versions.at(-1), all.at(-1), "the newest came");
    }
    // What is missing was older when the feed that had it brought it.
    if (!turns.some(({ isLost }) => isLost)) assert.equal(got.length, writes.length);
  }));
});

test("without write versions, and of different sources, writes of one slot are told apart by their number", () => {
  fc.assert(fc.property(writes, turns, fc.boolean(), (writes, turns, isVersionShared) => {
    const firstWins = new FirstWins({ ...OPTIONS, isVersionShared });
    const next = [0, 0];
    const got: Write[] = [];
    const take = (feed: number) => {
      const write = writes[next[feed]!++];
      if (write === undefined) return;
      // Of one source there are none; of two each counts for itself, and has its own banks.
      const own = isVersionShared ? 0 : write.writeVersion + 1000 * (1 - feed);
      const frame = view({ ...write, writeVersion: own }, { bankId: isVersionShared ? 0n : BigInt(feed) });
      if (firstWins.account(feed, frame) === "first") got.push(write);
    };
    for (const { feed } of turns) take(feed);
    for (const feed of [0, 1]) while (next[feed]! < writes.length) take(feed);
    for (const key of [0, 1, 2, 3]) {
      const of = (list: Write[]) => list.filter((write) => write.key === key).map(({ writeVersion }) => writeVersion);
      assert.deepEqual(of(got), of(writes));
    }
  }));
});

test("state from one feed is a duplicate of what another brought, unless it is newer", () => {
  const firstWins = new FirstWins(OPTIONS);
  assert.equal(firstWins.account(0, view({ key: 1, slot: 5, writeVersion: 3 })), "first");
  assert.equal(firstWins.account(1, view({ key: 1, slot: 5, writeVersion: 3 }, { isState: true })), "duplicate");
  assert.equal(firstWins.account(1, view({ key: 1, slot: 4, writeVersion: 9 }, { isState: true })), "older");
  assert.equal(firstWins.account(1, view({ key: 1, slot: 6, writeVersion: 1 }, { isState: true })), "first");
  assert.equal(firstWins.account(0, view({ key: 1, slot: 6, writeVersion: 1 })), "duplicate");
});

test("source epochs: a source that begins anew is believed, as to what its own feed brought", () => {
  const firstWins = new FirstWins(OPTIONS);
  assert.equal(firstWins.account(0, view({ key: 1, slot: 50, writeVersion: 3 }, { sourceEpoch: 7 })), "first");
  assert.equal(firstWins.account(1, view({ key: 1, slot: 50, writeVersion: 3 }, { sourceEpoch: 2 })), "duplicate");
  assert.equal(firstWins.account(1, view({ key: 2, slot: 50, writeVersion: 4 }, { sourceEpoch: 2 })), "first");
  // The second feed's source begins anew: what the first one brought still counts, what it brought itself does not.
  assert.equal(firstWins.account(1, view({ key: 1, slot: 3, writeVersion: 1 }, { sourceEpoch: 3 })), "older");
  assert.equal(firstWins.account(1, view({ key: 2, slot: 3, writeVersion: 1 }, { sourceEpoch: 3 })), "first");
  assert.equal(
    firstWins.account(1, view({ key: 2, slot: 60, writeVersion: 1 }, { sourceEpoch: 2 })),
    "older",
    "of the past",
  );
  // Another sender at its path may count epochs anew: that is no new source.
  firstWins.forgetFeed(1);
  assert.equal(firstWins.account(1, view({ key: 2, slot: 2, writeVersion: 1 }, { sourceEpoch: 0 })), "older");
});

test("an account leaves once; and is not missed if the feed that brought the write goes", () => {
  const firstWins = new FirstWins(OPTIONS);
  const left = (slot: number) => memory.left(keyOf(1), { mask: 1n }, BigInt(slot));
  assert.equal(firstWins.account(0, view({ key: 1, slot: 5, writeVersion: 0 })), "first");
  assert.equal(firstWins.account(1, view({ key: 1, slot: 5, writeVersion: 0 })), "duplicate");
  assert.equal(firstWins.left(1, left(5)), "first");
  assert.equal(firstWins.left(0, left(5)), "duplicate");
  assert.equal(firstWins.left(0, left(4)), "older");
  assert.equal(firstWins.left(0, left(6)), "first");
  assert.equal(firstWins.account(1, view({ key: 1, slot: 5, writeVersion: 1 })), "older");
});

test("beyond what is remembered a duplicate is taken for new, and no sooner", () => {
  const firstWins = new FirstWins({ ...OPTIONS, accountsMax: 4 });
  for (let key = 0; key < 4; key++) firstWins.account(0, view({ key, slot: 5, writeVersion: 1 }));
  for (let key = 0; key < 4; key++) {
    assert.equal(firstWins.account(1, view({ key, slot: 5, writeVersion: 1 })), "duplicate");
  }
  for (let key = 10; key < 20; key++) firstWins.account(0, view({ key, slot: 5, writeVersion: 1 }));
  assert.equal(firstWins.account(1, view({ key: 0, slot: 5, writeVersion: 1 })), "first");
  assert.ok(firstWins.remembered.accounts <= 8);
});
