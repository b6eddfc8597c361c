/**
 * State from one end to the other: what a sender knows comes first, then what changes; dead banks are taken back.
 * May touch: the public API, one sender and its consumers. May not touch: messages, frames.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { AccountUpdate, Consumer, Sender, SenderOptions, UpdateView } from "../../mod.ts";
import { Place } from "./support/place.ts";
import { accountUpdate, keyOf, patternBytes } from "./support/updates.ts";
import { turn, within } from "./support/watchdog.ts";

const STATE = { state: { maxBytes: 4 << 20, keep: "all" } } as const satisfies Partial<SenderOptions>;

/** Which of the test keys it is. */
const nameOf = (key: ArrayLike<number>): number => {
  for (let n = 0; n < 256; n++) if (keyOf(n).every((byte, i) => byte === key[i])) return n;
  return -1;
};

/** One line for each update. */
function line(update: UpdateView): string {
  switch (update.kind) {
    case "account": {
      const how = update.isState ? "state" : update.isRestored ? "restored" : "live";
      return `${how} ${nameOf(update.pubkey)} at ${update.slot}.${update.writeVersion}`;
    }
    case "left":
    case "withdrawn":
      return `${update.kind} ${nameOf(update.pubkey)}`;
    case "snapshot-complete": {
      const { known, unknownKeys, isCut } = update;
      return `complete [${update.filters}] known ${known} unknown ${unknownKeys}${isCut ? " cut" : ""}`;
    }
    case "rollback":
      return `rollback ${update.slot}.${update.bankId} accounts ${update.accounts}`;
    case "slot":
      return `slot ${update.slot} ${update.status}`;
    default:
      return update.kind;
  }
}

/** All updates up to the last of what was asked for. */
async function readTo(consumer: Consumer, isLast: (line: string) => boolean): Promise<string[]> {
  const lines: string[] = [];
  for await (const update of consumer) {
    lines.push(line(update));
    if (isLast(lines.at(-1)!)) return lines;
  }
  throw new Error(`ended after ${lines.join(", ")}`);
}

const toComplete = (consumer: Consumer) =>
  within(readTo(consumer, (line) => line.startsWith("complete")), "the end of the snapshot");

/** What is there now, the sender having had its turns. */
async function readNow(consumer: Consumer): Promise<string[]> {
  for (let i = 0; i < 3; i++) await turn();
  const lines: string[] = [];
  while (consumer.poll((update) => void lines.push(line(update))) > 0);
  return lines;
}

function publish(sender: Sender, key: number, slot: bigint, fields: Partial<AccountUpdate> = {}): void {
  sender.publishAccount(accountUpdate({ pubkey: keyOf(key), owner: keyOf(200), slot, ...fields }));
}

test("subscribe({ state }) brings what is known, once, then the mark, then what changes", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: STATE });
  publish(sender, 1, 10n, { writeVersion: 1n });
  publish(sender, 1, 10n, { writeVersion: 2n });
  publish(sender, 2, 11n);
  publish(sender, 3, 11n);
  const ack = await consumer.subscribe({ accounts: [keyOf(1), keyOf(2), keyOf(99)], state: true });
  const lines: string[] = [];
  for await (const update of consumer) {
    lines.push(line(update));
    if (update.kind !== "snapshot-complete") continue;
    assert.equal(update.generation, ack.generation);
    assert.equal(update.asOfSequence, 4n);
    assert.deepEqual(update.filters, [""]);
    assert.equal(update.evicted, 0);
    assert.equal(update.copy().known, 2);
    break;
  }
  assert.deepEqual(lines, ["state 1 at 10.2", "state 2 at 11.0", "complete [] known 2 unknown 1"]);
  publish(sender, 1, 12n);
  assert.deepEqual(await readNow(consumer), ["live 1 at 12.0"]);
  const { state } = sender.metrics;
  assert.deepEqual([state.accounts, state.evicted, state.maxBytes], [3, 0, 4 << 20]);
  assert.ok(state.bytes > 0 && state.bytes < state.maxBytes);
});

test("a filter by owner, program and slices: state by the same rules, changed or not", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: STATE });
  for (let key = 1; key <= 4; key++) publish(sender, key, 10n, { lamports: BigInt(key), data: patternBytes(20, key) });
  publish(sender, 5, 10n, { owner: keyOf(201), lamports: 9n });
  await consumer.setFilter("rich", {
    accounts: { owners: [keyOf(200)], lamports: { gt: 2n }, onlyChanged: true, dataSlice: { offset: 2, length: 3 } },
    state: true,
  });
  const seen: unknown[] = [];
  for await (const update of consumer) {
    if (update.kind === "account") {
      seen.push([nameOf(update.pubkey), [...update.data], update.fullLength, update.filters, update.isState]);
    }
    if (update.kind === "snapshot-complete") break;
  }
  const slice = (key: number) => [...patternBytes(20, key).slice(2, 5)];
  assert.deepEqual(seen, [[3, slice(3), 20, ["rich"], true], [4, slice(4), 20, ["rich"], true]]);
  // What came as state can leave.
  publish(sender, 3, 11n, { lamports: 1n });
  assert.deepEqual(await readNow(consumer), ["left 3"]);
});

test("a snapshot larger than the ring waits for the reader, who is not slow; live updates go on", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: STATE });
  const data = patternBytes(3000, 1);
  for (let key = 1; key <= 100; key++) publish(sender, key, 10n, { data });
  await consumer.subscribe({ owners: [keyOf(200)], state: true });
  publish(sender, 7, 11n, { data });
  publish(sender, 101, 11n, { data });
  const newest = new Map<number, bigint>();
  const counts = new Map<number, number>();
  let published = 0;
  for await (const update of consumer) {
    if (update.kind === "account") {
      const key = nameOf(update.pubkey);
      assert.ok((newest.get(key) ?? -1n) < update.slot, `account ${key} goes on`);
      newest.set(key, update.slot);
      counts.set(key, (counts.get(key) ?? 0) + 1);
      if (published < 20 && published * 4 < newest.size) {
        published++;
        publish(sender, published * 5, 12n, { data });
      }
    }
    if (update.kind === "snapshot-complete") {
      assert.deepEqual([update.unknownKeys, update.isCut], [0, false]);
      assert.ok(update.known >= 100);
      break;
    }
    await turn(); // so slowly that the ring is full most of the time
  }
  await readNow(consumer);
  assert.equal(newest.size, 101);
  assert.equal(consumer.metrics.lost, 0);
  assert.equal(consumer.ended, undefined);
});

test("without traffic and without a margin a snapshot ends all the same: one frame larger than it", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: { ...STATE, poolBytes: 0 } });
  publish(sender, 1, 10n, { data: patternBytes(45_000, 1) });
  publish(sender, 2, 10n, { data: patternBytes(45_000, 1) });
  publish(sender, 3, 10n, { data: patternBytes(100_000, 1) }); // fits no ring
  await consumer.subscribe({ accounts: [keyOf(1), keyOf(2), keyOf(3)], state: true });
  const lines = await toComplete(consumer);
  assert.deepEqual(lines.filter((line) => line !== "gap"), [
    "state 1 at 10.0",
    "state 2 at 10.0",
    "complete [] known 3 unknown 0",
  ]);
  assert.equal(consumer.metrics.lost, 1);
});

test("editFilter({ add, state }) brings the state of what was added, and of nothing else", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: STATE });
  for (let key = 1; key <= 4; key++) publish(sender, key, 10n);
  await consumer.setFilter("mine", { accounts: { accounts: [keyOf(1)] } });
  await consumer.editFilter("mine", { add: [keyOf(2), keyOf(3)], state: true });
  assert.deepEqual(await toComplete(consumer), [
    "state 2 at 10.0",
    "state 3 at 10.0",
    "complete [mine] known 2 unknown 0",
  ]);
  await consumer.setFilter("tx", { transactions: { accountInclude: [keyOf(1)] } });
  await assert.rejects(consumer.editFilter("tx", { add: [keyOf(2)], state: true }), TypeError);
  await assert.rejects(consumer.setFilter("tx", { transactions: true, state: true } as never), TypeError);
});

test("a filter that is replaced or removed while its state comes: the mark says that it was cut", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: STATE });
  const data = patternBytes(3000, 1);
  for (let key = 1; key <= 100; key++) publish(sender, key, 10n, { data });
  await consumer.setFilter("all", { accounts: true, state: true });
  await consumer.setFilter("all", { accounts: { accounts: [keyOf(100)] }, state: true });
  const first = await toComplete(consumer);
  assert.match(first.at(-1)!, /^complete \[all\] known \d+ unknown 0 cut$/);
  assert.ok(first.length < 50, "the ring was full before all was sent");
  assert.deepEqual(await toComplete(consumer), ["state 100 at 10.0", "complete [all] known 1 unknown 0"]);
  await consumer.setFilter("all", { accounts: true, state: true });
  await consumer.removeFilter("all");
  assert.match((await toComplete(consumer)).at(-1)!, /cut$/);
});

test("a sender without state says at once that it knows nothing; slots and transactions have none", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  publish(sender, 1, 10n);
  await consumer.subscribe({ accounts: [keyOf(1), keyOf(2)], owners: [keyOf(200)], state: true });
  assert.deepEqual(await toComplete(consumer), ["complete [] known 0 unknown 2"]);
  assert.deepEqual(sender.metrics.state, {
    bytes: 0,
    maxBytes: 0,
    accounts: 0,
    versions: 0,
    evicted: 0,
    rollbacks: 0,
    rolledBack: 0,
  });
});

test("keep: subscribed knows accounts from when a filter matched them on, closed ones included", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: { state: { maxBytes: 4 << 20 } } });
  publish(sender, 1, 10n);
  publish(sender, 2, 10n);
  await consumer.subscribe({ accounts: [keyOf(1)] });
  publish(sender, 1, 11n);
  publish(sender, 2, 11n);
  await consumer.unsubscribe({ accounts: [keyOf(1)] });
  publish(sender, 1, 12n, { lamports: 0n, data: new Uint8Array(0) }); // known, so it is brought up to date
  const late = await place.consumer();
  await late.subscribe({ accounts: [keyOf(1), keyOf(2)], state: true });
  assert.deepEqual(await toComplete(late), ["state 1 at 12.0", "complete [] known 1 unknown 1"]);
});

test("what is forgotten for want of memory is unknown, and counted", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: { state: { maxBytes: 4 << 20, keep: "all" } } });
  const data = patternBytes(10_000, 1);
  const count = 250;
  for (let key = 0; key < count; key++) publish(sender, key, 10n, { data });
  const { accounts, evicted, bytes } = sender.metrics.state;
  assert.ok(evicted > 20 && accounts + evicted === count, `${accounts} and ${evicted}`);
  assert.ok(bytes <= 4 << 20, `${bytes} bytes`);
  await consumer.subscribe({ accounts: Array.from({ length: count }, (_, key) => keyOf(key)), state: true });
  const lines = await toComplete(consumer);
  assert.equal(lines.at(-1), `complete [] known ${accounts} unknown ${evicted}`);
});

const slot = (sender: Sender, slot: bigint, parent: bigint, status: "processed" | "finalized" | "dead", bankId = 0n) =>
  sender.publishSlot({ slot, parent, status, bankId });

test("a dead bank: rollback, then what holds again or that there is nothing", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: STATE });
  await consumer.subscribe({ accounts: [keyOf(1), keyOf(2), keyOf(3)] });
  publish(sender, 1, 10n, { bankId: 1n });
  publish(sender, 1, 11n, { bankId: 2n });
  publish(sender, 2, 11n, { bankId: 2n });
  publish(sender, 3, 11n, { bankId: 2n });
  publish(sender, 3, 12n, { bankId: 3n });
  await readNow(consumer);
  slot(sender, 11n, 10n, "dead", 2n);
  assert.deepEqual(await readNow(consumer), [
    "slot 11 dead",
    "rollback 11.2 accounts 2",
    "withdrawn 2",
    "restored 1 at 10.0",
  ]);
  publish(sender, 1, 11n, { bankId: 2n, writeVersion: 9n }); // too late
  publish(sender, 2, 11n, { bankId: 4n });
  assert.deepEqual(await readNow(consumer), ["live 2 at 11.0"]);
  await consumer.setFilter("again", { accounts: { accounts: [keyOf(1), keyOf(2), keyOf(3)] }, state: true });
  assert.deepEqual(await toComplete(consumer), [
    "state 1 at 10.0",
    "state 2 at 11.0",
    "state 3 at 12.0",
    "complete [again] known 3 unknown 0",
  ]);
  assert.deepEqual([sender.metrics.state.rollbacks, sender.metrics.state.rolledBack], [1, 2]);
});

/** A bank that wrote many accounts, and the one before it, both read. */
async function manyWritten(place: Place, count: number): Promise<{ sender: Sender; consumer: Consumer }> {
  const { sender, consumer } = await place.pair({
    sender: { state: { maxBytes: 64 << 20, keep: "all" }, ringCapacityBytes: 1 << 25 },
  });
  await consumer.subscribe({ owners: [keyOf(200)] });
  for (const [slot, bankId] of [[10n, 1n], [11n, 2n]] as const) {
    for (let n = 0; n < count; n++) sender.publishAccount(numbered(n, slot, bankId));
    while (consumer.poll(() => {}) > 0);
  }
  return { sender, consumer };
}

const numbered = (n: number, slot: bigint, bankId: bigint) => {
  const pubkey = new Uint8Array(new Uint32Array([n, 0, 0, 0, 0, 0, 0, 7]).buffer);
  return accountUpdate({ pubkey, owner: keyOf(200), slot, bankId, data: new Uint8Array(8) });
};
const numberOf = (pubkey: ArrayLike<number>): number => pubkey[0]! | pubkey[1]! << 8;

test("a dead bank with many accounts is taken back in parts, and nobody sees that but by the time it takes", async () => {
  const COUNT = 20_000;
  await using place = new Place();
  const { sender, consumer } = await manyWritten(place, COUNT);
  const late = await place.consumer();
  slot(sender, 11n, 10n, "dead", 2n);
  assert.ok(sender.metrics.state.versions > COUNT, "not in one call");
  const last = COUNT - 1;
  // What is written meanwhile comes behind what held before, and what is asked for is what holds.
  for (const n of [0, 1, last]) sender.publishAccount(numbered(n, 12n, 3n));
  sender.publishBatch([numbered(last - 1, 12n, 3n), numbered(2, 12n, 3n)]);
  await late.setFilter("all", { accounts: { owners: [keyOf(200)] }, state: true });
  const slots = new Map<number, bigint[]>();
  const lateSlots = new Map<number, bigint>();
  let [isComplete, isRead] = [false, false];
  while (!isComplete || !isRead) {
    const isTakenBack = sender.metrics.state.versions <= COUNT + 5; // then all of it is in the ring
    const read = consumer.poll((update) => {
      if (update.kind !== "account") return;
      const n = numberOf(update.pubkey);
      slots.set(n, [...slots.get(n) ?? [], update.slot]);
    });
    isRead = isTakenBack && read === 0;
    late.poll((update) => {
      if (update.kind === "account") lateSlots.set(numberOf(update.pubkey), update.slot);
      if (update.kind === "snapshot-complete") isComplete = true;
    });
    await turn();
  }
  const written = new Set([0, 1, 2, last - 1, last]);
  for (let n = 0; n < COUNT; n++) {
    assert.deepEqual(slots.get(n), written.has(n) ? [10n, 12n] : [10n], `account ${n}`);
    assert.equal(lateSlots.get(n), written.has(n) ? 12n : 10n, `account ${n} of who came late`);
  }
  assert.deepEqual([sender.metrics.state.rollbacks, sender.metrics.state.rolledBack], [1, COUNT]);
});

test("a sender that closes has taken back all of a dead bank", async () => {
  const COUNT = 20_000;
  await using place = new Place();
  const { sender, consumer } = await manyWritten(place, COUNT);
  slot(sender, 11n, 10n, "dead", 2n);
  await sender.close();
  let restored = 0;
  for await (const update of consumer) if (update.kind === "account" && update.isRestored) restored++;
  assert.equal(restored, COUNT);
});

test("a finalized chain that skips slots takes back what they wrote, the newest first", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: STATE });
  await consumer.subscribe({ owners: [keyOf(200)] });
  publish(sender, 1, 10n);
  publish(sender, 1, 11n);
  publish(sender, 1, 12n);
  publish(sender, 2, 12n, { owner: keyOf(201) });
  publish(sender, 2, 13n);
  for (const [number, parent] of [[11n, 10n], [12n, 11n], [13n, 10n]] as const) {
    slot(sender, number, parent, "processed");
  }
  await readNow(consumer);
  slot(sender, 13n, 10n, "finalized");
  assert.deepEqual(await readNow(consumer), [
    "slot 13 finalized",
    "rollback 12.0 accounts 1",
    "restored 1 at 10.0",
  ]);
  assert.equal(sender.metrics.state.versions, 2);
});

test("what leaves a filter by a rollback is said", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: STATE });
  await consumer.setFilter("rich", { accounts: { owners: [keyOf(200)], lamports: { gt: 10n } } });
  publish(sender, 1, 10n, { lamports: 1n });
  publish(sender, 1, 11n, { lamports: 100n });
  slot(sender, 11n, 10n, "dead");
  assert.deepEqual(await readNow(consumer), ["live 1 at 11.0", "slot 11 dead", "rollback 11.0 accounts 1", "left 1"]);
});

test("an older version is kept, not published, and holds once the newer one is dead", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: STATE });
  await consumer.subscribe({ accounts: [keyOf(1)] });
  publish(sender, 1, 12n, { bankId: 3n });
  publish(sender, 1, 11n, { bankId: 2n });
  assert.deepEqual(await readNow(consumer), ["live 1 at 12.0"]);
  slot(sender, 12n, 10n, "dead", 3n);
  assert.deepEqual(await readNow(consumer), ["slot 12 dead", "rollback 12.3 accounts 1", "restored 1 at 11.0"]);
  assert.equal(sender.metrics.olderVersions, 1);
});

test("options of the state that can't be are refused", async () => {
  await using place = new Place();
  for (const maxBytes of [0, 1, 2 ** 40, NaN]) {
    await assert.rejects(place.sender({ state: { maxBytes } }), { name: "RangeError", message: /state.maxBytes/ });
  }
  await assert.rejects(place.sender({ state: { maxBytes: 4 << 20, keep: "some" as never } }), TypeError);
});

test("who skips by drop-oldest is told that a snapshot is complete all the same, and of rollbacks that he has lost", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({
    sender: { ...STATE, poolBytes: 0 },
    consumer: { policy: "drop-oldest" },
  });
  publish(sender, 1, 10n);
  publish(sender, 1, 11n);
  await consumer.subscribe({ accounts: [keyOf(1), keyOf(2)], state: true });
  for (let i = 0; i < 3; i++) await turn(); // the snapshot stands in the ring
  sender.publishSlot({ slot: 11n, parent: 10n, status: "dead" });
  for (let slot = 20n; slot < 60n; slot++) publish(sender, 2, slot, { data: patternBytes(3000, 1) });
  let lost = 0;
  const lines: string[] = [];
  for await (const update of consumer) {
    lost += update.lost;
    lines.push(line(update));
    if (update.kind === "account" && update.slot === 59n) break;
  }
  assert.ok(lines.includes("complete [] known 1 unknown 1"), lines.join());
  assert.ok(!lines.some((line) => line.startsWith("state") || line.startsWith("rollback")), "they were skipped");
  // State, rollback, what holds again, the slot, and writes: whatever was not handed out.
  const handedOut = lines.filter((line) => line.startsWith("live")).length;
  assert.equal(lost, 4 + 40 - handedOut);
});
