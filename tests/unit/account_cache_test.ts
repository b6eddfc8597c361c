/**
 * What a cache promises, with frames and acknowledgements in any order: trust and its reasons, waiting, edits of filters.
 * May touch: src/cache, frames without a ring.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { AccountCache, type CacheHost } from "../../src/cache/account_cache.ts";
import { ConnectionView } from "../../src/stream/connection_view.ts";
import type { Edit } from "../../src/stream/session.ts";
import type { SubscriptionAck } from "../../src/types.ts";
import { encodeFilter, type NamedFilter } from "../../src/wire/filters.ts";
import { FrameMemory } from "./support/account_frames.ts";
import { accountUpdate, keyOf } from "./support/updates.ts";
import { turn, within } from "./support/watchdog.ts";

/** A cache whose consumer is the test. */
class Rig {
  readonly memory = new FrameMemory();
  readonly cache: AccountCache;
  hasState: boolean | undefined = true;
  filterGeneration = 0;
  refreshes = 0;
  /** The filters that were asked for last. */
  refreshed: number[] = [];
  isWaiting = false;
  readonly empty = new Set<number>();
  mayBeLeft = (_bit: number): boolean => false;
  wanted = (_bit: number, _key: Uint8Array, _owner: Uint8Array): boolean => false;
  #lastGeneration = 0;

  constructor(maxBytes = 1 << 20) {
    const names = (low: number) => ["", "a", "b"].filter((_, bit) => (low & 1 << bit) !== 0);
    // deno-lint-ignore no-this-alias
    const rig = this;
    const host: CacheHost = {
      filters: { in: names, now: names },
      get hasState() {
        return rig.hasState;
      },
      get filterGeneration() {
        return rig.filterGeneration;
      },
      clockUs: () => 0,
      wants: (bit, key, owner) => this.wanted(bit, key, owner),
      isEmpty: (bit) => this.empty.has(bit),
      mayBeLeft: (bit) => this.mayBeLeft(bit),
      refresh: (bits) => {
        this.refreshes++;
        this.refreshed = [...bits];
      },
      onWaiting: (isAnybody) => void (this.isWaiting = isAnybody),
    };
    this.cache = new AccountCache({ maxBytes }, host);
  }

  /** An edit; what is returned answers it. */
  edit(
    edit: Partial<Edit>,
    isWhole = false,
  ): { readonly generation: number; answer(at?: number): Promise<void>; refuse(): Promise<void> } {
    const { promise, resolve, reject } = Promise.withResolvers<SubscriptionAck>();
    const full: Edit = {
      op: "add",
      bit: 0,
      accounts: [],
      owners: [],
      transactions: false,
      state: true,
      program: new Uint8Array(0),
      isKeyed: true,
      ...edit,
    };
    this.cache.onEdit(full, promise, isWhole);
    const generation = ++this.#lastGeneration;
    return {
      generation,
      /** @param at Of what was asked for again behind others. */
      answer: (at = generation) => (resolve({ generation: at, sequence: 1000n * BigInt(at) }), turn()),
      refuse: () => (this.#lastGeneration--, reject(new Error("refused")), turn()),
    };
  }

  replace(bit: number, filter: NamedFilter, state = true): ReturnType<Rig["edit"]> {
    const { indexAccounts, indexOwners, program } = encodeFilter(filter, "it");
    return this.edit({ op: "replace", bit, accounts: indexAccounts, owners: indexOwners, program, state });
  }

  account(
    key: number,
    fields: Parameters<FrameMemory["account"]>[1] & { readonly slot?: bigint; readonly owner?: number } = {},
  ) {
    const { slot = 1n, owner = 2 } = fields;
    const update = accountUpdate({ pubkey: keyOf(key), owner: keyOf(owner), slot, lamports: 100n * slot });
    this.cache.take(this.memory.account(update, fields));
  }

  complete(bit: number, generation: number, counts: Parameters<FrameMemory["snapshotComplete"]>[2] = {}): void {
    this.cache.take(this.memory.snapshotComplete(bit, generation, counts));
  }

  get reasons(): string[] {
    return this.cache.trust.reasons.map(({ reason }) => reason);
  }

  get keys(): number[] {
    return [1, 2, 3, 4, 5].filter((key) => this.cache.has(keyOf(key)));
  }
}

/** Whether a promise has settled, and to what. */
function watch<T>(promise: Promise<T>): { readonly value: T | undefined; readonly error: unknown } {
  const watched: { value: T | undefined; error: unknown } = { value: undefined, error: undefined };
  promise.then((value) => watched.value = value, (error) => watched.error = error);
  return watched;
}

test("a cache is complete once each snapshot that was asked for has come", async () => {
  const rig = new Rig();
  assert.deepEqual(rig.reasons, ["nothing-asked"]);
  const ready = watch(rig.cache.ready);
  assert.ok(rig.isWaiting);
  const first = rig.edit({ owners: [keyOf(2)] });
  assert.deepEqual(rig.reasons, ["snapshot"]);
  await first.answer();
  const second = rig.replace(1, { accounts: { accounts: [keyOf(3)] } });
  rig.filterGeneration = 2;
  rig.account(1, { isState: true });
  rig.complete(0, first.generation, { unknownKeys: 3 });
  await turn();
  assert.deepEqual(rig.cache.trust.reasons, [{ reason: "snapshot", filters: ["a"] }]);
  assert.equal(ready.value, undefined);
  rig.complete(1, second.generation, { unknownKeys: 1 }); // before its answer
  await turn();
  assert.equal(rig.cache.trust.isComplete, false);
  await second.answer();
  assert.deepEqual(rig.cache.trust, { isComplete: true, reasons: [], unknownKeys: 4 });
  assert.deepEqual(ready.value, rig.cache.trust);
  assert.ok(!rig.isWaiting);
  assert.deepEqual(await within(rig.cache.ready, "what is ready already"), rig.cache.trust);
  assert.ok(!rig.isWaiting);
});

test("a refused request leaves things as they were", async () => {
  const rig = new Rig();
  await rig.edit({ accounts: [keyOf(1)] }).answer();
  rig.filterGeneration = 1;
  rig.complete(0, 1);
  assert.ok(rig.cache.trust.isComplete);
  const refused = rig.replace(1, { accounts: true });
  assert.deepEqual(rig.reasons, ["snapshot"]);
  await refused.refuse();
  assert.ok(rig.cache.trust.isComplete);
});

test("a sender without state, and a filter without it, are said; ready says so", async () => {
  const rig = new Rig();
  rig.hasState = false;
  await rig.edit({ accounts: [keyOf(1)] }).answer();
  assert.deepEqual(rig.reasons, ["no-state"]);
  await assert.rejects(rig.cache.ready, { code: "CACHE_NO_STATE" });
  rig.hasState = true;
  await rig.replace(1, { accounts: true }, false).answer();
  rig.filterGeneration = 2;
  rig.complete(0, 1);
  assert.deepEqual(rig.cache.trust.reasons, [{ reason: "state-not-asked", filters: ["a"] }]);
  await assert.rejects(rig.cache.ready, /"a"/);
  await rig.replace(1, { slots: true }).answer();
  assert.ok(rig.cache.trust.isComplete, "it is no filter of accounts any more");
});

test("after a loss everything is asked for once more, and complete when it has come", async () => {
  const rig = new Rig();
  await rig.edit({ accounts: [keyOf(1), keyOf(2)] }).answer();
  rig.filterGeneration = 1;
  rig.account(1);
  rig.account(2);
  rig.complete(0, 1);
  rig.account(1, { slot: 2n, lost: 3, conflated: 3 });
  assert.ok(rig.cache.trust.isComplete, "of what was replaced the newest has come");
  rig.account(1, { slot: 3n, lost: 3, conflated: 1 });
  assert.deepEqual(rig.reasons, ["snapshot", "loss"]);
  assert.equal(rig.refreshes, 1);
  const again = rig.edit({ op: "replace", accounts: [keyOf(1), keyOf(2)] });
  await again.answer();
  rig.filterGeneration = again.generation;
  rig.account(1, { slot: 4n, isState: true });
  rig.account(1, { slot: 5n, lost: 1 });
  assert.equal(rig.refreshes, 2, "what was on its way may be lost, too");
  rig.complete(0, again.generation);
  assert.deepEqual(rig.reasons, ["snapshot", "loss"], "what it brought was before the second loss");
  assert.equal(rig.refreshes, 2);
  const last = rig.edit({ op: "replace", accounts: [keyOf(1), keyOf(2)] });
  rig.filterGeneration = last.generation;
  rig.account(1, { slot: 6n, isState: true });
  rig.complete(0, last.generation);
  await last.answer();
  assert.ok(rig.cache.trust.isComplete);
  assert.deepEqual(rig.keys, [1], "what the last one did not name is gone");
});

test("after a reconnect what the new snapshots do not name goes, and is told", async () => {
  const rig = new Rig();
  const gone: string[] = [];
  rig.cache.onRemoved(({ address, reason }) =>
    void gone.push(`${address === rig.cache.get(keyOf(1))?.address} ${reason}`)
  );
  await rig.edit({ owners: [keyOf(2)] }).answer();
  rig.filterGeneration = 1;
  rig.account(1, { slot: 9n });
  rig.account(2, { slot: 9n });
  rig.complete(0, 1);
  rig.cache.onLost();
  assert.deepEqual(rig.reasons, ["disconnected"]);
  assert.deepEqual(rig.keys, [1, 2], "as they were");
  const again = rig.edit({ owners: [keyOf(2)] }, true);
  await again.answer();
  rig.cache.onResumed(false);
  assert.deepEqual(rig.reasons, ["snapshot"]);
  rig.filterGeneration = again.generation;
  rig.account(1, { slot: 3n, isState: true });
  assert.equal(rig.cache.get(keyOf(1))!.slot, 3n, "another sender's versions are not compared");
  rig.account(1, { slot: 2n });
  assert.equal(rig.cache.get(keyOf(1))!.slot, 3n);
  assert.deepEqual(rig.keys, [1, 2]);
  rig.complete(0, again.generation);
  assert.deepEqual(rig.keys, [1]);
  assert.ok(rig.cache.trust.isComplete);
  await turn();
  assert.deepEqual(gone, ["false unconfirmed"]);
});

test("a resumed connection that misses nothing leaves everything as it is", async () => {
  const rig = new Rig();
  await rig.edit({ owners: [keyOf(2)] }).answer();
  rig.filterGeneration = 1;
  rig.account(1, { slot: 9n });
  rig.complete(0, 1);
  rig.cache.onLost();
  const ready = watch(rig.cache.ready);
  rig.cache.onResumed(true);
  await turn();
  assert.ok(ready.value?.isComplete);
  assert.deepEqual(rig.keys, [1]);
});

test("what was asked of another sender, and answered before its frames were reached, is asked for again behind a gap", async () => {
  for (const hasLoss of [true, false]) {
    const rig = new Rig();
    rig.mayBeLeft = () => true;
    await rig.edit({ owners: [keyOf(2)] }).answer();
    rig.filterGeneration = 1;
    rig.account(1);
    rig.complete(0, 1);
    if (!hasLoss) rig.cache.onLost();
    const again = rig.edit({ owners: [keyOf(2)] }, true); // for the next connection; frames of the old one are still unread
    if (hasLoss) rig.account(1, { slot: 2n, lost: 1 });
    else rig.cache.onResumed(true);
    rig.cache.onLost();
    await again.answer();
    const before = rig.refreshes;
    rig.cache.onResumed(false);
    assert.equal(rig.refreshes, before + 1);
    assert.ok(rig.reasons.includes("snapshot"));
    const last = rig.edit({ op: "replace", owners: [keyOf(2)] });
    await last.answer();
    rig.filterGeneration = last.generation;
    rig.complete(0, again.generation);
    rig.complete(0, last.generation);
    assert.ok(rig.cache.trust.isComplete, JSON.stringify(rig.cache.trust));
  }
});

test("an edit that another sender has answered takes effect among its frames, not where the one before had got further", async () => {
  const rig = new Rig();
  await rig.edit({ owners: [keyOf(2)] }).answer();
  rig.filterGeneration = 1;
  rig.account(1);
  rig.complete(0, 1);
  const again = rig.edit({ owners: [keyOf(2)] }, true);
  const set = rig.replace(1, { accounts: { accounts: [keyOf(3)] } });
  const drop = rig.edit({ op: "drop", bit: 1, state: false });
  for (const each of [again, set, drop]) await each.answer();
  const lastSequence = 1_000_000n; // of the sender before; the other one begins anew
  rig.cache.take(
    new ConnectionView(
      { type: "lost", reason: "sender-gone", lastSequence, isOverwritten: false, retryMs: 1 },
      () => 0,
    ),
  );
  const known = { isSameSender: false, lastSequence, sequence: 3n, downMs: 1, attempts: 1 };
  rig.cache.take(new ConnectionView({ type: "resumed", continuity: "state", ...known }, () => 0));
  rig.filterGeneration = again.generation;
  rig.account(1, { isState: true });
  rig.complete(0, again.generation);
  rig.filterGeneration = set.generation;
  rig.account(3, { isState: true, mask: 2n });
  rig.complete(1, set.generation);
  assert.deepEqual(rig.keys, [1, 3]);
  rig.filterGeneration = drop.generation;
  rig.account(1, { slot: 2n });
  assert.deepEqual(rig.keys, [1], "the filter has gone, and what it matched");
});

test("a loss is no more, once no filter has keys that it could be of", async () => {
  const rig = new Rig();
  await rig.edit({ accounts: [keyOf(1)] }).answer();
  rig.filterGeneration = 1;
  rig.complete(0, 1);
  rig.account(1, { lost: 3 });
  assert.deepEqual(rig.reasons, ["snapshot", "loss"]);
  rig.empty.add(0);
  await rig.edit({ op: "remove", accounts: [keyOf(1)] }).answer();
  assert.deepEqual(rig.reasons, []);
  rig.account(1, { lost: 3 });
  assert.deepEqual(rig.reasons, [], "of before the edit");
});

test("a resumed connection does not say what has left a filter meanwhile: what may be left is asked for again", async () => {
  const rig = new Rig();
  await rig.edit({ op: "replace", bit: 1, owners: [keyOf(2)] }).answer();
  await rig.edit({ op: "replace", bit: 2, accounts: [keyOf(3)] }).answer();
  rig.filterGeneration = 2;
  rig.account(1, { mask: 2n });
  rig.account(3, { mask: 4n });
  rig.complete(1, 1);
  rig.complete(2, 2);
  assert.deepEqual(rig.reasons, []);
  rig.mayBeLeft = (bit) => bit === 1;
  rig.cache.onLost();
  rig.cache.onResumed(true);
  assert.deepEqual(rig.reasons, ["snapshot"]);
  assert.deepEqual(rig.refreshed, [1], "of a filter by keys nothing is missing");
  const again = rig.edit({ op: "replace", bit: 1, owners: [keyOf(2)] });
  await again.answer();
  rig.filterGeneration = again.generation;
  assert.deepEqual(rig.keys, [1, 3], "until it is known that it has left");
  rig.complete(1, again.generation);
  assert.deepEqual(rig.keys, [3]);
  assert.deepEqual(rig.reasons, []);
});

test("a replay that concerns other filters leaves a request of this one, which has no answer yet, to be answered", async () => {
  const rig = new Rig();
  rig.mayBeLeft = (bit) => bit === 0;
  await rig.edit({ owners: [keyOf(2)] }).answer();
  const before = rig.replace(1, { accounts: { accounts: [keyOf(3)] } });
  await before.answer();
  rig.filterGeneration = 2;
  rig.complete(0, 1);
  rig.account(3, { mask: 2n, owner: 9 });
  const after = rig.replace(1, { accounts: { accounts: [keyOf(4)] } });
  rig.complete(1, before.generation); // before that has an answer
  rig.cache.onLost();
  rig.cache.onResumed(true);
  await after.answer();
  rig.filterGeneration = after.generation;
  rig.account(4, { mask: 2n, owner: 9 });
  assert.deepEqual(rig.keys, [3, 4]);
  rig.complete(1, after.generation);
  assert.deepEqual(rig.keys, [4], "what the filter no longer names is gone");
});

test("the snapshot of what a filter was before heals no gap of what it is since", async () => {
  const rig = new Rig();
  await rig.replace(1, { accounts: { accounts: [keyOf(3)] } }).answer();
  rig.filterGeneration = 1;
  rig.account(3, { mask: 2n });
  rig.complete(1, 1);
  const anew = rig.replace(1, { accounts: { accounts: [keyOf(4)] } });
  rig.account(3, { mask: 2n, slot: 2n, lost: 1 }); // the gap
  rig.cache.onLost();
  // The next connection is asked for the filter as it was acknowledged, and behind that for what has no answer.
  const restored = rig.edit({ op: "replace", bit: 1, accounts: [keyOf(3)] }, true);
  await restored.answer();
  rig.cache.onResumed(false);
  rig.filterGeneration = restored.generation;
  rig.account(3, { mask: 2n, isState: true });
  rig.complete(1, restored.generation);
  rig.refreshed = [];
  const generation = restored.generation + 1;
  await anew.answer(generation);
  rig.filterGeneration = generation;
  rig.account(4, { mask: 2n, isState: true });
  rig.complete(1, generation);
  assert.deepEqual(rig.reasons, ["snapshot", "loss"]);
  assert.deepEqual(rig.refreshed, [1]);
  const last = rig.replace(1, { accounts: { accounts: [keyOf(4)] } });
  await last.answer(generation + 1);
  rig.filterGeneration = generation + 1;
  rig.account(4, { mask: 2n, isState: true });
  rig.complete(1, generation + 1);
  assert.deepEqual(rig.reasons, []);
  assert.deepEqual(rig.keys, [4]);
});

test("an edit takes effect where it stands among the frames, whenever it is acknowledged", async () => {
  for (const isEarly of [true, false]) {
    const rig = new Rig();
    await rig.edit({ accounts: [keyOf(1), keyOf(2)], owners: [keyOf(7)] }).answer();
    rig.filterGeneration = 1;
    rig.account(1);
    rig.account(2);
    rig.account(3, { owner: 7 });
    rig.complete(0, 1);
    rig.wanted = (_bit, key, owner) => key[0] === keyOf(2)[0] || owner[0] === keyOf(7)[0];
    const removal = rig.edit({ op: "remove", accounts: [keyOf(1), keyOf(3)] });
    if (isEarly) await removal.answer();
    rig.account(1, { slot: 2n, sequence: 999n }); // still before it
    assert.deepEqual(rig.keys, [1, 2, 3]);
    rig.filterGeneration = removal.generation;
    rig.account(2, { slot: 2n });
    if (!isEarly) await removal.answer();
    assert.deepEqual(rig.keys, [2, 3], "the third is there by its owner");
    const drop = rig.edit({ op: "drop" });
    rig.filterGeneration = drop.generation;
    await drop.answer();
    assert.deepEqual(rig.keys, []);
    assert.deepEqual(rig.reasons, ["nothing-asked"]);
  }
});

test("a filter that is set anew drops what it does not match, and nothing that another filter matches", async () => {
  for (const isEarly of [true, false]) {
    const rig = new Rig();
    await rig.replace(1, { accounts: { owners: [keyOf(2)] } }).answer();
    await rig.edit({ accounts: [keyOf(3)] }).answer();
    rig.filterGeneration = 2;
    rig.account(1, { mask: 2n });
    rig.account(2, { mask: 2n });
    rig.account(3, { mask: 3n });
    rig.complete(1, 1);
    rig.complete(0, 2);
    const anew = rig.replace(1, { accounts: { accounts: [keyOf(1), keyOf(4)] } });
    if (isEarly) await anew.answer();
    rig.filterGeneration = anew.generation;
    rig.account(1, { mask: 2n, isState: true });
    rig.account(4, { mask: 2n });
    rig.complete(1, anew.generation);
    if (!isEarly) await anew.answer();
    assert.deepEqual(rig.keys, [1, 3, 4]);
    assert.ok(rig.cache.trust.isComplete);
    rig.cache.take(rig.memory.left(keyOf(3), { mask: 1n }));
    assert.deepEqual(rig.keys, [1, 4]);
    rig.cache.take(rig.memory.withdrawn(keyOf(1), { mask: 2n }));
    assert.deepEqual(rig.keys, [4]);
  }
});

test("a write that a filter of changes leaves out says nothing of that filter, until it is set anew", async () => {
  for (const isEarly of [true, false]) {
    const rig = new Rig();
    await rig.replace(1, { accounts: { owners: [keyOf(2)], onlyChanged: true } }).answer();
    await rig.edit({ owners: [keyOf(2)] }).answer();
    rig.filterGeneration = 2;
    for (const key of [1, 2, 3]) rig.account(key, { mask: 3n });
    rig.complete(1, 1);
    rig.complete(0, 2);
    for (const key of [1, 2, 3]) rig.account(key, { mask: 1n, slot: 2n });
    rig.cache.take(rig.memory.left(keyOf(1), { mask: 2n }));
    assert.deepEqual([1, 2].map((key) => rig.cache.peek(keyOf(key))!.filterMask), [1n, 3n]);
    // It takes other keys, and all writes: what it does not name, it does not match, whatever was written meanwhile.
    const anew = rig.replace(1, { accounts: { accounts: [keyOf(3)] } });
    if (isEarly) await anew.answer();
    rig.filterGeneration = anew.generation;
    rig.account(2, { mask: 1n, slot: 3n });
    rig.account(3, { mask: 2n, isState: true });
    if (!isEarly) await anew.answer();
    rig.complete(1, anew.generation);
    assert.deepEqual([1, 2, 3].map((key) => rig.cache.peek(keyOf(key))!.filterMask), [1n, 1n, 3n]);
    rig.account(3, { mask: 1n, slot: 4n });
    const drop = rig.edit({ op: "drop" });
    rig.filterGeneration = drop.generation;
    await drop.answer();
    assert.deepEqual(rig.keys, []);
  }
});

test("what the sender forgot, what its source missed, and what found no room are said", async () => {
  const rig = new Rig(64 * 1024);
  await rig.edit({ owners: [keyOf(2)] }).answer();
  rig.filterGeneration = 1;
  rig.cache.take(rig.memory.account(accountUpdate({ pubkey: keyOf(1), data: new Uint8Array(100_000) })));
  rig.cache.take(rig.memory.account(accountUpdate({ pubkey: keyOf(2), lossy: true })));
  rig.complete(0, 1, { evicted: 4 });
  assert.deepEqual(rig.cache.trust.reasons, [{ reason: "evicted", evicted: 4 }, { reason: "full", refused: 1 }]);
  rig.cache.take(rig.memory.account(accountUpdate({ pubkey: keyOf(2), lossy: true })));
  assert.deepEqual(rig.reasons, ["source", "evicted", "full"]);
  assert.equal((await rig.cache.ready).isComplete, false, "ready is what can be had");
  rig.cache.refresh();
  assert.equal(rig.refreshes, 1);
  const again = rig.edit({ op: "replace", owners: [keyOf(2)] });
  await again.answer();
  rig.filterGeneration = again.generation;
  rig.complete(0, again.generation, { evicted: 4 });
  assert.deepEqual(rig.reasons, ["evicted"]);
});

test("waitFor() resolves with the version that fits, now or later", async () => {
  const rig = new Rig();
  rig.account(1, { slot: 5n });
  const now = await within(rig.cache.waitFor(keyOf(1), ({ slot }) => slot === 5n), "what is there");
  assert.equal(now, rig.cache.get(keyOf(1)));
  const controller = new AbortController();
  const later = watch(rig.cache.waitFor(keyOf(2), ({ slot }) => slot === 7n));
  const never = watch(rig.cache.waitFor(keyOf(2), () => false, { signal: controller.signal }));
  const throws = watch(rig.cache.waitFor(keyOf(2), () => {
    throw new Error("no");
  }));
  assert.ok(rig.isWaiting && !rig.cache.has(keyOf(2)) && rig.cache.size === 1, "who is waited for is not there yet");
  rig.account(2, { slot: 6n });
  rig.account(2, { slot: 7n });
  rig.account(2, { slot: 8n });
  await turn();
  assert.equal(later.value?.slot, 7n);
  assert.equal((throws.error as Error).message, "no");
  assert.equal(never.error, undefined);
  controller.abort(new Error("enough"));
  await turn();
  assert.equal(String(never.error), "Error: enough");
  assert.ok(!rig.isWaiting);
  await assert.rejects(rig.cache.waitFor(keyOf(1), () => false, { signal: controller.signal }), /enough/);
  const ended = watch(rig.cache.waitFor(keyOf(3), () => true));
  rig.cache.onEnd(new Error("over"), false);
  await turn();
  assert.equal((ended.error as Error).message, "over");
  await assert.rejects(rig.cache.waitFor(keyOf(3), () => true), /over/);
  assert.equal((await rig.cache.waitFor(keyOf(1), () => true)).slot, 5n, "what is there stays");
});

test("latest() gives what is there, then each time what is there by then", async () => {
  const rig = new Rig();
  const controller = new AbortController();
  const iterator = rig.cache.latest(keyOf(1), { signal: controller.signal });
  const first = watch(iterator.next());
  await turn();
  assert.equal(first.value, undefined, "nothing is known");
  rig.account(1, { slot: 1n });
  await turn();
  assert.equal(first.value!.value!.slot, 1n);
  rig.account(1, { slot: 2n });
  rig.account(1, { slot: 3n });
  const second = await within(iterator.next(), "the second");
  assert.equal(second.value!.slot, 3n);
  const third = watch(iterator.next());
  rig.cache.take(rig.memory.withdrawn(keyOf(1)));
  await turn();
  assert.deepEqual(third.value, { value: undefined, done: false });
  const fourth = watch(iterator.next());
  rig.account(1, { slot: 2n });
  await turn();
  assert.equal(fourth.value!.value!.slot, 2n);
  const last = watch(iterator.next());
  controller.abort();
  await turn();
  assert.equal(last.value!.done, true);
  assert.equal((await iterator.next()).done, true);
  assert.ok(!rig.isWaiting);
  for await (const account of rig.cache.latest(keyOf(1))) {
    assert.equal(account?.slot, 2n);
    break;
  }
});

test("a mark that had no room: the snapshot that says so is asked for once more", async () => {
  const rig = new Rig();
  await rig.edit({ accounts: [keyOf(1)] }).answer();
  rig.account(1, { isState: true });
  rig.complete(0, 1); // and the generation is still 0
  assert.equal(rig.refreshes, 1);
  assert.deepEqual(rig.reasons, ["snapshot"]);
});
