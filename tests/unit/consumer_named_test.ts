/**
 * Named filters from one end to the other: what a consumer asks for is what it gets, by name.
 * May touch: the public API, one sender and one consumer. May not touch: messages, frames.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { addressFromBytes, type Consumer, type UpdateView } from "../../mod.ts";
import { Place } from "./support/place.ts";
import { accountUpdate, keyOf, patternBytes, slotUpdate, transactionUpdate } from "./support/updates.ts";
import { within } from "./support/watchdog.ts";

/** What `of` makes of all updates that are there. */
function read<T>(consumer: Consumer, of: (update: UpdateView) => T): T[] {
  const all: T[] = [];
  while (consumer.poll((update) => void all.push(of(update))) > 0);
  return all;
}

const names = (update: UpdateView): unknown => [update.kind, ...update.filters];

test("updates bear the names of the filters that they match, and come once", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  await consumer.subscribe({ accounts: [keyOf(1)] });
  await consumer.setFilter("rich", { accounts: { owners: [keyOf(2)], lamports: { gt: 100n } } });
  await consumer.setFilter("data", { accounts: { memcmp: [{ offset: 1, bytes: Uint8Array.of(7) }] } });
  const data = (byte: number) => Uint8Array.of(0, byte);
  sender.publishAccount(accountUpdate({ pubkey: keyOf(9), owner: keyOf(2), lamports: 101n, data: data(7) }));
  sender.publishAccount(accountUpdate({ pubkey: keyOf(9), owner: keyOf(2), lamports: 101n, data: data(8) })); // leaves one
  sender.publishAccount(accountUpdate({ pubkey: keyOf(1), owner: keyOf(2), lamports: 100n, data: data(7) }));
  sender.publishAccount(accountUpdate({ pubkey: keyOf(8), owner: keyOf(3), lamports: 500n, data: data(9) }));
  sender.publishSlot(slotUpdate());
  assert.deepEqual(read(consumer, names), [
    ["account", "rich", "data"],
    ["account", "rich"],
    ["left", "data"],
    ["account", "", "data"],
    ["slot"],
  ]);
  assert.equal(consumer.metrics.lost, 0);
});

test("an empty list matches nothing", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  await within(consumer.setFilter("a", { accounts: { accounts: [] } }), "the answer");
  await within(consumer.setFilter("b", { accounts: { owners: [] } }), "the answer");
  assert.equal(sender.publishAccount(accountUpdate()), 0);
  await within(consumer.editFilter("b", { add: [keyOf(2)] }), "the answer");
  assert.equal(sender.publishAccount(accountUpdate()), 1);
  assert.deepEqual(read(consumer, names), [["account", "b"]]);
});

test("edits hold from their answer on, for the updates behind its sequence", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  const publish = (owner: number) =>
    sender.publishAccount(accountUpdate({ pubkey: keyOf(50 + owner), owner: keyOf(owner) }));
  const set = await consumer.setFilter("a", { accounts: { owners: [keyOf(3)] } });
  assert.equal(set.sequence, 0n);
  assert.deepEqual([publish(3), publish(4)], [1, 0]);
  const edit = await consumer.editFilter("a", { add: [keyOf(4)], remove: [keyOf(3)] });
  assert.deepEqual([edit.sequence, publish(3), publish(4)], [2n, 0, 1]);
  await consumer.setFilter("a", { accounts: { owners: [keyOf(5)], dataSize: { min: 1 } } });
  assert.deepEqual([publish(4), publish(5)], [0, 1]);
  const removed = await consumer.removeFilter("a");
  assert.ok(removed.generation > edit.generation);
  assert.equal(publish(5), 0);
  assert.deepEqual(consumer.filterNames, []);
  const updates = read(consumer, ({ kind, sequence, filters }) => [kind, sequence, ...filters]);
  assert.deepEqual(updates.filter(([kind]) => kind === "account"), [
    ["account", 1n, "a"],
    ["account", 4n, "a"],
    ["account", 6n, "a"],
  ]);
});

test("unsubscribe() takes back what subscribe() asked for, and nothing else", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  await consumer.subscribe({ accounts: [keyOf(1), keyOf(3)], owners: [keyOf(2)], transactions: true });
  await consumer.setFilter("own", { accounts: { accounts: [keyOf(5)] } });
  await consumer.unsubscribe({ accounts: [keyOf(1), keyOf(5), keyOf(99)], owners: [keyOf(2)] });
  const publish = (pubkey: number) => sender.publishAccount(accountUpdate({ pubkey: keyOf(pubkey), owner: keyOf(2) }));
  assert.deepEqual([publish(1), publish(3), publish(5)], [0, 1, 1]);
  assert.equal(sender.publishTransaction(transactionUpdate()), 1);
  await consumer.unsubscribe({ transactions: true });
  assert.equal(sender.publishTransaction(transactionUpdate()), 0);
  const [info] = sender.consumers();
  assert.deepEqual([info?.accounts, info?.owners, info?.transactions], [2, 0, false]);
});

test("dataSlice: only the slices travel, and the view says so", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  const dataSlice = [{ offset: 2, length: 3 }, { offset: 160, length: 10 }];
  await consumer.setFilter("part", { accounts: { owners: [keyOf(2)], dataSlice } });
  const data = patternBytes(165, 3);
  sender.publishAccount(accountUpdate({ data }));
  await consumer.subscribe({ accounts: [keyOf(1)] });
  sender.publishAccount(accountUpdate({ data }));
  const seen = read(consumer, (update) => {
    assert.ok(update.kind === "account");
    return [update.isSliced, update.isClipped, update.fullLength, [...update.data]];
  });
  const slices = [...data.subarray(2, 5), ...data.subarray(160)];
  assert.deepEqual(seen, [[true, true, 165, slices], [false, false, 165, [...data]]]);
});

test("onlyChanged: what changes nothing does not come, is counted, and takes no account out of a filter", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  await consumer.setFilter("all", { accounts: { owners: [keyOf(2)] } });
  await consumer.setFilter("changes", { accounts: { owners: [keyOf(2)], onlyChanged: true } });
  await consumer.setFilter("key", { accounts: { accounts: [keyOf(1)], onlyChanged: true } });
  const write = (fields: Parameters<typeof accountUpdate>[0] = {}) =>
    accountUpdate({ data: patternBytes(10, 1), ...fields });
  const updates = [{}, {}, {}, { lamports: 6n }, { lamports: 6n }, { lamports: 6n, owner: keyOf(3) }].map(write);
  sender.publishAccount(updates[0]!);
  sender.publishBatch(updates.slice(1));
  // Nothing but the owner was changed, and back again.
  for (const owner of [3, 2, 2]) sender.publishAccount(write({ lamports: 6n, owner: keyOf(owner) }));
  assert.deepEqual(read(consumer, names), [
    ["account", "all", "changes", "key"],
    ["account", "all"],
    ["account", "all"],
    ["account", "all", "changes", "key"],
    ["account", "all"],
    ["account", "key"],
    ["left", "all", "changes"],
    ["account", "all", "changes", "key"],
    ["account", "all"],
  ]);
  assert.equal(sender.metrics.unchanged, 3 * 2 + 1 + 2);
});

test("filters of transactions and of slots", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  await consumer.setFilter("failed", { transactions: { failed: true } });
  await consumer.setFilter("signed", { transactions: { signature: patternBytes(64, 9) } });
  await consumer.setFilter("done", { slots: { statuses: ["finalized"] } });
  sender.publishTransaction(transactionUpdate());
  sender.publishTransaction(transactionUpdate({ failed: true }));
  sender.publishTransaction(transactionUpdate({ failed: true, signature: patternBytes(64, 9) }));
  sender.publishSlot(slotUpdate());
  sender.publishSlot(slotUpdate({ status: "finalized" }));
  assert.deepEqual(read(consumer, names), [
    ["transaction", "failed"],
    ["transaction", "failed", "signed"],
    ["slot", "done"],
  ]);
  await consumer.removeFilter("done");
  sender.publishSlot(slotUpdate());
  assert.deepEqual(read(consumer, names), [["slot"]], "without such a filter all slots come");
});

test("filters find a transaction by what it has loaded from lookup tables; a copy goes out as it came", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  const [market, oracle, mint] = [keyOf(101), keyOf(102), keyOf(103)];
  await consumer.setFilter("any", { transactions: { accountInclude: [oracle, mint] } });
  await consumer.setFilter("both", { transactions: { accountRequired: [market, oracle] } });
  await consumer.setFilter("others", { transactions: { accountExclude: [oracle] } });
  const publish = (writable: Uint8Array[], readonly: Uint8Array[], meta?: Uint8Array) =>
    sender.publishTransaction(transactionUpdate({ loadedAddresses: { writable, readonly }, meta }));
  assert.equal(publish([market], [oracle]), 1);
  assert.equal(publish([mint], [], patternBytes(5, 1)), 1);
  assert.equal(publish([], [oracle], patternBytes(9000, 1)), 1, "by the pool");
  sender.publishTransaction({
    ...transactionUpdate(),
    loadedAddresses: { writable: [addressFromBytes(oracle)], readonly: [addressFromBytes(market)] }, // as kit has them
  });
  const copies = read(consumer, (update) => update.kind === "transaction" ? update.copy() : undefined);
  assert.deepEqual(copies.map((copy) => [copy?.filters, copy?.loadedAddresses]), [
    [["any", "both"], { writable: [market], readonly: [oracle] }],
    [["any", "others"], { writable: [mint], readonly: [] }],
    [["any"], { writable: [], readonly: [oracle] }],
    [["any", "both"], { writable: [oracle], readonly: [market] }],
  ]);
  for (const copy of copies) sender.publishTransaction(copy!);
  const contents = (list: typeof copies) =>
    list.map((copy) => ({ ...copy, sequence: undefined, publishNs: undefined }));
  const again = read(consumer, (update) => update.kind === "transaction" ? update.copy() : undefined);
  assert.deepEqual(contents(again), contents(copies));
});
