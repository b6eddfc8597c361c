/**
 * A scripted stream: the same list of updates from the same seed in every process, and what a filter leaves of it.
 * May touch: `node:crypto`. May not touch: src/ (types aside): it is the oracle that src/ is compared with.
 */

import { createHash } from "node:crypto";
import type { AccountUpdate, SlotStatus, TransactionUpdate, Update } from "../../mod.ts";

/** The largest account that Solana allows. */
export const DATA_BYTES_MAX = 10 * 1024 * 1024;
const KEYS = 40;
const OWNERS = 5;
const STATUSES: readonly SlotStatus[] = [
  "processed",
  "confirmed",
  "finalized",
  "firstShredReceived",
  "completed",
  "createdBank",
  "dead",
];

/** mulberry32: 32 bits of state are enough for a script. */
function createRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function digest(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex").slice(0, 24);
}

/** 32 bytes that differ in every part for each `kind` and number. */
function key(kind: string, number: number): Uint8Array {
  return Uint8Array.from(createHash("sha256").update(`${kind} ${number}`).digest());
}

export const accountKey = (number: number): Uint8Array => key("account", number);
export const ownerKey = (number: number): Uint8Array => key("owner", number);

function fill(length: number, random: () => number): Uint8Array {
  const bytes = new Uint8Array(length);
  const words = new Uint32Array(bytes.buffer, 0, length >> 2);
  let state = (random() * 4294967296) >>> 0;
  for (let i = 0; i < words.length; i++) words[i] = state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  for (let i = words.length * 4; i < length; i++) bytes[i] = i;
  return bytes;
}

function sizeOf(random: () => number): number {
  const die = random();
  if (die < 0.1) return 0;
  if (die < 0.65) return Math.floor(random() * 400);
  if (die < 0.92) return Math.floor(random() * 10_000);
  if (die < 0.98) return Math.floor(random() * 200_000);
  return Math.floor(random() * 2_000_000);
}

/** The first `count` updates: about 70 % accounts, 20 % transactions, 10 % slots; one account of exactly 10 MiB. */
export function createScript(seed: number, count: number): Update[] {
  const random = createRandom(seed);
  const chance = (p: number) => random() < p;
  const someKeys = () =>
    Array.from({ length: Math.floor(random() * 20) }, () => accountKey(Math.floor(random() * KEYS)));
  const u64 = () => (BigInt(Math.floor(random() * 4294967296)) << 32n) | BigInt(Math.floor(random() * 4294967296));
  const updates: Update[] = [];
  let slot = 1000n;
  for (let i = 0; i < count; i++) {
    const die = random();
    const isLargest = i === count >> 1;
    if (isLargest || die < 0.7) {
      const update: AccountUpdate = {
        kind: "account",
        pubkey: accountKey(Math.floor(random() * KEYS)),
        owner: ownerKey(Math.floor(random() * OWNERS)),
        lamports: u64(),
        data: fill(isLargest ? DATA_BYTES_MAX : sizeOf(random), random),
        slot,
        writeVersion: u64(),
        bankId: u64(),
        rentEpoch: u64(),
        executable: chance(0.2),
        signature: chance(0.5) ? fill(64, random) : undefined,
        startup: chance(0.2),
        lossy: chance(0.2),
        sourceNs: u64(),
      };
      updates.push(update);
    } else if (die < 0.9) {
      const update: TransactionUpdate = {
        kind: "transaction",
        slot,
        index: Math.floor(random() * 4294967296),
        signature: fill(64, random),
        message: fill(1 + Math.floor(random() * 4096), random),
        meta: chance(0.5) ? fill(Math.floor(random() * 3000), random) : undefined,
        loadedAddresses: chance(0.3) ? { writable: someKeys(), readonly: someKeys() } : undefined,
        vote: chance(0.5),
        failed: chance(0.5),
        bankId: u64(),
        lossy: chance(0.2),
        sourceNs: u64(),
      };
      updates.push(update);
    } else {
      updates.push({
        kind: "slot",
        slot,
        parent: slot - 1n,
        status: STATUSES[Math.floor(random() * STATUSES.length)]!,
        bankId: u64(),
        lossy: chance(0.2),
        sourceNs: u64(),
      });
      if (chance(0.5)) slot++;
    }
  }
  return updates;
}

/** Bytes that an update takes at most in a ring. */
export function roomOf(update: Update): number {
  const head = 256;
  if (update.kind === "account") return head + update.data.length;
  if (update.kind === "transaction") {
    const { writable, readonly } = update.loadedAddresses ?? { writable: [], readonly: [] };
    return head + update.message.length + 32 * (writable.length + readonly.length) + (update.meta?.length ?? 0);
  }
  return head;
}

/** What a consumer asked for, as plain numbers of keys. */
export interface Filter {
  readonly accounts: readonly number[];
  readonly owners: readonly number[];
  readonly transactions: boolean;
}

/** All of an update that is expected to arrive, as one line of text. */
export function describe(update: Update, sequence: number, counts: string): string {
  const hex = (bytes: Uint8Array) => digest(Uint8Array.from(bytes));
  switch (update.kind) {
    case "account":
      return [
        "account",
        sequence,
        hex(update.pubkey as Uint8Array),
        hex(update.owner as Uint8Array),
        update.lamports,
        update.slot,
        update.writeVersion,
        update.bankId,
        update.rentEpoch,
        update.executable,
        update.startup,
        update.lossy,
        update.sourceNs,
        update.signature === undefined ? "-" : hex(update.signature as Uint8Array),
        update.data.length,
        hex(update.data as Uint8Array),
      ].join(" ");
    case "transaction":
      return [
        "transaction",
        sequence,
        update.slot,
        update.index,
        hex(update.signature as Uint8Array),
        update.message.length,
        hex(update.message as Uint8Array),
        update.meta === undefined ? "-" : hex(update.meta as Uint8Array),
        ...update.loadedAddresses?.writable.map((key) => hex(key as Uint8Array)) ?? [],
        "|",
        ...update.loadedAddresses?.readonly.map((key) => hex(key as Uint8Array)) ?? [],
        update.vote,
        update.failed,
        update.bankId,
        update.lossy,
        update.sourceNs,
      ].join(" ");
    case "slot":
      return [
        "slot",
        sequence,
        update.slot,
        update.parent,
        update.status,
        update.bankId,
        update.lossy,
        update.sourceNs,
        counts,
      ].join(" ");
  }
}

/** What a consumer with that filter gets of a script: the meaning of filters, written a second time. */
export function expected(script: readonly Update[], filter: Filter): string[] {
  const name = (bytes: Uint8Array) => digest(bytes);
  const accounts = new Set(filter.accounts.map((number) => name(accountKey(number))));
  const owners = new Set(filter.owners.map((number) => name(ownerKey(number))));
  const published = new Map<bigint, { accounts: number; transactions: number }>();
  const lines: string[] = [];
  script.forEach((update, i) => {
    const counts = published.get(update.slot) ?? { accounts: 0, transactions: 0 };
    published.set(update.slot, counts);
    if (update.kind === "account") counts.accounts++;
    if (update.kind === "transaction") counts.transactions++;
    const isWanted = update.kind === "slot" || (update.kind === "transaction" && filter.transactions) ||
      (update.kind === "account" &&
        (accounts.has(name(update.pubkey as Uint8Array)) || owners.has(name(update.owner as Uint8Array))));
    if (isWanted) lines.push(describe(update, i + 1, `${counts.accounts} ${counts.transactions} 0 0`));
  });
  return lines;
}
