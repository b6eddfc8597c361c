/**
 * What happens on a cluster of the test's own: slots with writes and transactions, all made from numbers, and the history
 * that a replay is made of.
 * May touch: nothing. Nothing here comes from src/.
 */

import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { base58 } from "./base58.ts";
import type { WireObject } from "./protocol.ts";

/** Something that happened, as a line of a log: bytes in hex, u64s in decimals. */
export type WorldEvent =
  & { readonly slot: string; readonly createdNs: string }
  & (
    | {
      readonly kind: "account";
      readonly pubkey: string;
      readonly owner: string;
      readonly lamports: string;
      readonly data: string;
      readonly writeVersion: string;
      readonly rentEpoch: string;
      readonly executable: boolean;
      readonly signature: string | null;
      readonly startup: boolean;
    }
    | {
      readonly kind: "transaction";
      readonly signature: string;
      readonly index: number;
      readonly vote: boolean;
      readonly failed: boolean;
      /** Account keys, writable ones first. */
      readonly keys: readonly string[];
      readonly logs: readonly string[];
    }
    | { readonly kind: "slot"; readonly parent: string; readonly status: number }
  );

/** How much a slot has. */
export interface SlotPlan {
  readonly writes?: number;
  readonly dataBytes?: number;
}

const HISTORY_SLOTS = 150;
const RENT_EXEMPT = (2n ** 64n - 1n).toString();
const KEYS = 64;
const OWNERS = 4;
const WRITES_PER_TRANSACTION = 3;

const hash = (text: string, size: number) => createHash("sha512").update(text).digest().subarray(0, size);

/** The account's key with that number, 32 bytes. */
export const keyOf = (number: number): Buffer => hash(`key ${number}`, 32);
/** The owner's, likewise. */
export const ownerOf = (number: number): Buffer => hash(`owner ${number}`, 32);
/** Account `number`'s address and its owner's. */
export const addressOf = (number: number): string => base58(keyOf(number));
export const ownerAddressOf = (number: number): string => base58(ownerOf(number));

export class World {
  /** By slot, oldest first. */
  readonly history = new Map<bigint, WorldEvent[]>();
  #slot: bigint;
  #transactions = 0;
  #writeVersion = 0n;

  constructor(firstSlot: bigint) {
    this.#slot = firstSlot - 1n;
  }

  /** A new node of the same cluster: its counters are its own. */
  restartNode(): void {
    this.#writeVersion = 1_000_000n;
  }

  /** One more slot. @returns What happened in it, in order. */
  advance({ writes = 20, dataBytes = 165 }: SlotPlan): WorldEvent[] {
    const slot = ++this.#slot;
    const events: WorldEvent[] = [];
    const status = (of: bigint, status: number) =>
      events.push({ kind: "slot", slot: of.toString(), parent: (of - 1n).toString(), status, createdNs: now() });
    status(slot, 5);
    let index = 0;
    for (let i = 0; i < writes; i += WRITES_PER_TRANSACTION) {
      this.#transaction(slot, index++, Math.min(WRITES_PER_TRANSACTION, writes - i), dataBytes, events);
    }
    status(slot, 0);
    status(slot - 1n, 1);
    status(slot - 31n, 2);
    this.history.set(slot, events);
    if (this.history.size > HISTORY_SLOTS) this.history.delete(this.history.keys().next().value!);
    return events;
  }

  #transaction(slot: bigint, index: number, writes: number, dataBytes: number, events: WorldEvent[]): void {
    const number = this.#transactions++;
    const signature = hash(`transaction ${number}`, 64).toString("hex");
    const keys: string[] = [];
    for (let i = 0; i < writes; i++) {
      const account = (number * 7 + i * 5) % KEYS;
      keys.push(keyOf(account).toString("hex"));
      events.push({
        kind: "account",
        slot: slot.toString(),
        pubkey: keyOf(account).toString("hex"),
        owner: ownerOf(account % OWNERS).toString("hex"),
        // Some are above 2^53, which a JavaScript number can't hold.
        lamports: (number % 5 === 0 ? 2n ** 60n + BigInt(number) : BigInt(number)).toString(),
        data: Buffer.alloc(dataBytes, hash(`data ${number} ${i}`, 64)).toString("hex"),
        writeVersion: (++this.#writeVersion).toString(),
        rentEpoch: number % 3 === 0 ? number.toString() : RENT_EXEMPT,
        executable: number % 11 === 0,
        signature: number % 13 === 0 ? null : signature,
        startup: false,
        createdNs: now(),
      });
    }
    const failed = number % 4 === 0;
    const logs = [`log of ${number}`];
    events.push({
      kind: "transaction",
      slot: slot.toString(),
      signature,
      index,
      vote: number % 6 === 0,
      failed,
      keys,
      logs,
      createdNs: now(),
    });
  }
}

function now(): string {
  return (BigInt(Date.now()) * 1_000_000n + 123_456n).toString();
}

/** An event as a `SubscribeUpdate`, for those of a subscriber's filters that it matched. */
export function updateOf(event: WorldEvent, filters: readonly string[]): WireObject {
  const created = BigInt(event.createdNs);
  const createdAt = { seconds: (created / 1_000_000_000n).toString(), nanos: Number(created % 1_000_000_000n) };
  const bytes = (hex: string) => Buffer.from(hex, "hex");
  switch (event.kind) {
    case "account": {
      const { pubkey, owner, lamports, executable, rentEpoch, data, writeVersion, signature } = event;
      const account = {
        pubkey: bytes(pubkey),
        lamports,
        owner: bytes(owner),
        executable,
        rentEpoch,
        data: bytes(data),
        writeVersion,
        ...signature === null ? {} : { txnSignature: bytes(signature) },
      };
      return { filters, account: { account, slot: event.slot, isStartup: event.startup }, createdAt };
    }
    case "transaction": {
      const { signature, index, vote, failed, keys, logs } = event;
      const transaction = {
        signature: bytes(signature),
        isVote: vote,
        index: index.toString(),
        transaction: { signatures: [bytes(signature)], message: messageOf(event) },
        meta: {
          ...failed ? { err: { err: Buffer.from([1]) } } : {},
          fee: "5000",
          logMessages: logs,
          ...keys.length < 3 ? {} : { loadedWritableAddresses: [bytes(keys[2]!)] },
        },
      };
      return { filters, transaction: { transaction, slot: event.slot }, createdAt };
    }
    case "slot":
      return { filters, slot: { slot: event.slot, parent: event.parent, status: event.status }, createdAt };
  }
}

/** The parts of a transaction's message: v0 if it names three keys, the third from a lookup table, else legacy. */
export function messageOf(event: Extract<WorldEvent, { kind: "transaction" }>): WireObject {
  const keys = event.keys.slice(0, 2).map((key) => Buffer.from(key, "hex"));
  const isVersioned = event.keys.length === 3;
  return {
    header: { numRequiredSignatures: 1, numReadonlySignedAccounts: 0, numReadonlyUnsignedAccounts: 0 },
    accountKeys: keys,
    recentBlockhash: hash(`blockhash ${event.slot}`, 32),
    instructions: [{
      programIdIndex: 0,
      accounts: Buffer.from(keys.map((_, i) => i)),
      data: Buffer.from(event.signature.slice(0, 8), "hex"),
    }],
    versioned: isVersioned,
    addressTableLookups: isVersioned
      ? [{ accountKey: hash("table", 32), writableIndexes: Buffer.from([7]), readonlyIndexes: Buffer.alloc(0) }]
      : [],
  };
}

/** The same as it is signed, laid out by hand. */
export function signedMessageOf(event: Extract<WorldEvent, { kind: "transaction" }>): Buffer {
  const keys = event.keys.slice(0, 2).map((key) => Buffer.from(key, "hex"));
  const isVersioned = event.keys.length === 3;
  return Buffer.concat([
    Buffer.from(isVersioned ? [0x80] : []),
    Buffer.from([1, 0, 0, keys.length]),
    ...keys,
    hash(`blockhash ${event.slot}`, 32),
    Buffer.from([1, 0, keys.length, ...keys.map((_, i) => i), 4]),
    Buffer.from(event.signature.slice(0, 8), "hex"),
    ...isVersioned ? [Buffer.from([1]), hash("table", 32), Buffer.from([1, 7, 0])] : [],
  ]);
}
