/**
 * The demo's feed has to be what it says: real executions, whose effects add up.
 * May touch: nothing but memory.
 * May not touch: the native library.
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { getTokenDecoder } from "@solana-program/token";
import {
  type FeedUpdate,
  litesvmFeed,
  type LitesvmFeedOptions,
  slotUpdatesOf,
} from "../../examples/demo/litesvm_feed.ts";
import { RecentTransfers } from "../../examples/demo/token_decoder.ts";

const SMALL: LitesvmFeedOptions = { slots: 2, transactionsPerSlot: 30, accounts: 8, owners: 3, failEvery: 5 };

async function collect(options: LitesvmFeedOptions): Promise<FeedUpdate[]> {
  const updates: FeedUpdate[] = [];
  for await (const batch of (await litesvmFeed(options)).updates) updates.push(...batch);
  return updates;
}

function hex(bytes: Iterable<number>): string {
  return Buffer.from([...bytes]).toString("hex");
}

test("litesvmFeed() creates and destroys no tokens", async () => {
  const tokens = new Map<string, bigint>();
  const supply = () => [...tokens.values()].reduce((sum, amount) => sum + amount, 0n);
  let supplyAtStart = 0n;
  for await (const batch of (await litesvmFeed(SMALL)).updates) {
    for (const update of batch) {
      if (update.kind !== "account" || update.data.length !== 165) continue;
      tokens.set(hex(update.pubkey), getTokenDecoder().decode(update.data).amount);
    }
    supplyAtStart ||= supply();
    assert.equal(supply(), supplyAtStart, "after every transaction");
  }
  assert.equal(supplyAtStart, 8n * 1_000_000n * 10n ** 6n);
});

test("litesvmFeed() reports what a transaction changed, signed, before the transaction itself", async () => {
  const updates = await collect(SMALL);
  const transactions = updates.filter((update) => update.kind === "transaction");
  assert.equal(transactions.length, 60);
  assert.equal(transactions.filter(({ failed }) => failed).length, 12);
  assert.equal(new Set(transactions.map(({ signature }) => hex(signature))).size, 60);
  for (const transaction of transactions) {
    const at = updates.indexOf(transaction);
    const written = transaction.failed ? 1 : 3; // a failed one pays its fee; the others move tokens as well
    const signed = updates.filter((update) => update.kind === "account" && update.signature === transaction.signature);
    assert.deepEqual(updates.slice(at - written, at), signed);
  }
});

test("litesvmFeed() numbers writes, and links slots to their parents", async () => {
  const updates = await collect({ ...SMALL, slots: 40, transactionsPerSlot: 2 });
  let version = 0n;
  for (const update of updates) if (update.kind === "account") assert.equal(update.writeVersion, ++version);

  const slots = updates.filter((update) => update.kind === "slot");
  assert.equal(slots.length, slotUpdatesOf(40));
  const count = (wanted: string) => slots.filter(({ status }) => status === wanted).length;
  assert.deepEqual(["createdBank", "processed", "confirmed", "finalized"].map(count), [40, 40, 39, 9]);
  const created = slots.filter(({ status }) => status === "createdBank");
  for (const [i, { parent }] of created.entries()) if (i > 0) assert.equal(parent, created[i - 1]!.slot);
  assert.ok(created.some(({ slot, parent }) => slot - parent === 2n), "a leader misses its slot");
});

test("litesvmFeed() ends when its signal is aborted", async () => {
  const controller = new AbortController();
  let transactions = 0;
  const feed = await litesvmFeed({ ...SMALL, slots: Infinity, signal: controller.signal });
  for await (const batch of feed.updates) {
    if (batch.at(-1)!.kind === "transaction" && ++transactions === 10) controller.abort();
  }
  assert.equal(transactions, 10);
});

test("RecentTransfers.decode() reads the transfers of the feed, newest first", async () => {
  const updates = await collect(SMALL);
  const transfers = new RecentTransfers(3);
  for (const update of updates) {
    if (update.kind === "transaction") transfers.add({ ...update, failed: update.failed ?? false });
  }
  const decoded = transfers.decode();
  assert.deepEqual(decoded.map(({ index, failed }) => [index, failed]), [[29, true], [28, false], [27, false]]);
  assert.match(decoded[1]!.amount, /^[0-4]\.\d{6}$/);
  assert.equal(new Set(decoded.flatMap(({ source, destination }) => [source, destination])).size, 6);
});
