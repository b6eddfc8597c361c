/**
 * The loops of consumer_costs.ts: a sender and a consumer of one process; the ring is filled, then emptied, and only that
 * is timed. Token accounts of 165 bytes, of 64 keys.
 * May touch: the public API.
 *
 * @module
 */

import process from "node:process";
import { decodeAccount } from "@solana/kit";
import { getTokenDecoder } from "@solana-program/token";
import { type AccountView, addressFromBytes, type Consumer, setupConsumer, setupSender } from "../../mod.ts";
import { AddressTable, decodeToken, toEncodedAccount } from "../../src/kit/mod.ts";
import { nowNs } from "../clock.ts";
import { answer, taskFromArguments } from "./task.ts";

export interface CostsTask {
  readonly path: string;
  readonly runs: number;
  readonly garbageUpdates: number;
}

export interface CostsResult {
  /** Nanoseconds per update, by run. */
  readonly costs: Record<string, number[]>;
  /** What the heap has grown by within the loops. */
  readonly garbage: Record<string, Grown>;
  /** In Deno bytes, by V8's counter. In Bun objects: JavaScriptCore counts bytes at collections only. */
  readonly unit: "B" | "objects";
}

export interface Grown {
  readonly updates: number;
  readonly amount: number;
}

const UPDATES = 50_000;
/** As many as the ring has room for, about: looking at the heap takes long. */
const GARBAGE_ROUND = 100_000;
/** A heap that has become smaller by that much has been collected; by less, it was swept. */
const COLLECTED = 10_000;
/** Ways that take microseconds. */
const UPDATES_SLOW = 5_000;
const WARM_UP_RUNS = 3;
const KEYS = 64;

const { path, runs, garbageUpdates } = taskFromArguments<CostsTask>();
const owner = new Uint8Array(32).fill(9);
const mint = new Uint8Array(32).fill(8);
const keys = Array.from({ length: KEYS }, (_, i) => new Uint8Array(32).fill(100 + i));
const data = new Uint8Array(165);
data.set(mint);
data.set(owner, 32);
data[108] = 1;
const known = new AddressTable([...keys, owner, mint].map(addressFromBytes));
const sender = await setupSender({ path });
const options = { idle: "spin", reconnect: false } as const;
let consumer = await setupConsumer(path, options);
await consumer.subscribe({ owners: [owner] });

/** One of each key. Made once: the less garbage there is, the sooner it is counted. */
const updates = keys.map((pubkey) => ({ pubkey, owner, lamports: 1n, data, slot: 400_000_000n }));

function fill(count: number): void {
  for (let i = 0; i < count; i++) sender.publishAccount(updates[i % KEYS]!);
}

/** Not a variable of the module: V8 keeps such numbers in objects, a new one for each value. */
const sums = new Float64Array(1);

function look(update: { kind: string }): void {
  if (update.kind !== "account") return;
  const account = update as AccountView;
  sums[0]! += account.slotNumber + account.dataLength + account.u64NumberAt(64);
}

function pollAll(count: number, handler: (update: never) => void): void {
  for (let left = count; left > 0;) {
    const found = consumer.poll(handler as Parameters<Consumer["poll"]>[0], left);
    if (found === 0 && consumer.ended !== undefined) {
      throw new Error(`The consumer has ended: ${consumer.ended.reason}`);
    }
    left -= found;
  }
}

const made: unknown[] = [];
const making = (make: (account: AccountView) => unknown) => (count: number) => {
  pollAll(count, (update: AccountView) => void (made[0] = make(update)));
};
const tokenDecoder = getTokenDecoder();

/** Each reads that many updates. */
const WAYS: Record<string, readonly [updates: number, read: (count: number) => void | Promise<void>]> = {
  "poll: slot number, length, 8 bytes": [UPDATES, (count) => pollAll(count, look)],
  "batches(): the same": [UPDATES, async (count) => {
    let left = count;
    for await (const batch of consumer.batches()) {
      for (const update of batch) {
        look(update);
        left--;
      }
      if (left === 0) break;
    }
  }],
  "for await: the same": [UPDATES, async (count) => {
    let left = count;
    for await (const update of consumer) {
      look(update);
      if (--left === 0) break;
    }
  }],
  "poll: pubkey and data as views": [UPDATES, making((account) => [account.pubkey, account.data])],
  "poll: slot as a bigint, u64At": [UPDATES, making((account) => account.slot + account.u64At(64))],
  "poll: address": [UPDATES_SLOW, making((account) => account.address)],
  "poll: copy()": [UPDATES, making((account) => account.copy())],
  "poll: toEncodedAccount, known addresses": [UPDATES, making((account) => toEncodedAccount(account, known))],
  "poll: toEncodedAccount": [UPDATES_SLOW, making((account) => toEncodedAccount(account))],
  "poll: decodeToken, known addresses": [UPDATES, making((account) => decodeToken(account, known))],
  "poll: decodeToken": [UPDATES_SLOW, making((account) => decodeToken(account))],
  "poll: the token client's decoder": [
    UPDATES_SLOW,
    making((account) => decodeAccount(toEncodedAccount(account, known), tokenDecoder)),
  ],
};

async function measure(updates: number, read: (count: number) => void | Promise<void>): Promise<number> {
  fill(updates);
  const started = nowNs();
  await read(updates);
  return (nowNs() - started) / updates;
}

const costs: Record<string, number[]> = {};
for (const [way, [updates, read]] of Object.entries(WAYS)) {
  for (let i = 0; i < WARM_UP_RUNS; i++) await measure(updates, read);
  const found = costs[way] = [] as number[];
  for (let i = 0; i < runs; i++) found.push(await measure(updates, read));
}

type HeapStats = { heapStats(): { objectTypeCounts: Record<string, number> } };
const jsc = process.versions.bun === undefined
  ? undefined
  : (process as unknown as { getBuiltinModule(name: string): HeapStats }).getBuiltinModule("bun:jsc");

const collect = (globalThis as { Bun?: { gc(isSync: boolean): void } }).Bun?.gc;

/** What is on the heap, used or not. */
function heap(): number {
  if (jsc === undefined) return process.memoryUsage().heapUsed;
  return Object.values(jsc.heapStats().objectTypeCounts).reduce((all, count) => all + count, 0);
}

/**
 * What the heap grows by in the loops alone, but for what counting costs. A collection makes it shrink: those rounds are left
 * out, and done again.
 */
function garbageOf(handler: (update: never) => void, wanted: number): Grown {
  let [updates, amount] = [0, 0];
  for (let round = 0; updates < wanted && round < 4 * wanted / GARBAGE_ROUND; round++) {
    fill(GARBAGE_ROUND);
    collect?.(true); // what the sender left: counting takes as long as there is something to count
    const [first, before] = [heap(), heap()];
    pollAll(GARBAGE_ROUND, handler);
    const grown = heap() - before - (before - first);
    if (Math.min(grown, before - first) < -COLLECTED) continue;
    updates += GARBAGE_ROUND;
    amount += grown;
  }
  return { updates, amount };
}

const garbage = {
  "poll as above": garbageOf(look, garbageUpdates),
  // That the counter sees what there is: an array of two views.
  "poll with two views": garbageOf(
    (update: AccountView) => void (made[0] = [update.pubkey, update.data]),
    GARBAGE_ROUND,
  ),
};
await consumer.close();
consumer = await setupConsumer(path, { ...options, cache: true });
await consumer.setFilter("all", { accounts: { owners: [owner] } });
const [first] = Object.entries(WAYS);
const [way, [count, read]] = first!;
for (let i = 0; i < WARM_UP_RUNS; i++) await measure(count, read);
const cached = costs[`cache on, ${way}`] = [] as number[];
for (let i = 0; i < runs; i++) cached.push(await measure(count, read));
if (consumer.accounts?.get(addressFromBytes(keys[0]!)) === undefined) throw new Error("Nothing was kept");
if (sums[0] === 0 || made[0] === undefined) throw new Error("Nothing was read");
await consumer.close();
await sender.close();
answer({ costs, garbage, unit: jsc === undefined ? "B" : "objects" } satisfies CostsResult);
