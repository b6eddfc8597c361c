/**
 * Updates to publish: one example of each kind, and arbitraries that give every field every value.
 * May touch: types only. May not touch: the wire.
 *
 * @module
 */

import fc from "fast-check";
import {
  type AccountUpdate,
  type LoadedAddresses,
  SLOT_STATUSES,
  type SlotUpdate,
  type TransactionUpdate,
} from "../../../src/types.ts";

/** Bytes that differ from place to place and from seed to seed. */
export function patternBytes(length: number, seed: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8) * 7 + seed * 17 + 1) & 255);
}

/** 32 bytes that stand for the seed. */
export function keyOf(seed: number): Uint8Array<ArrayBuffer> {
  return patternBytes(32, seed);
}

export function accountUpdate(fields: Partial<AccountUpdate> = {}): AccountUpdate {
  return {
    kind: "account",
    pubkey: keyOf(1),
    owner: keyOf(2),
    lamports: 5_000_000_000n,
    data: patternBytes(165, 3),
    slot: 77n,
    ...fields,
  };
}

export function transactionUpdate(
  fields: Partial<TransactionUpdate> & { readonly loadedAddresses?: LoadedAddresses<Uint8Array> } = {},
): TransactionUpdate & { readonly loadedAddresses: LoadedAddresses<Uint8Array> } {
  return {
    kind: "transaction",
    slot: 77n,
    index: 4,
    signature: patternBytes(64, 5),
    message: patternBytes(215, 6),
    loadedAddresses: { writable: [], readonly: [] },
    ...fields,
  };
}

export function slotUpdate(fields: Partial<SlotUpdate> = {}): SlotUpdate {
  return { kind: "slot", slot: 77n, parent: 76n, status: "processed", ...fields };
}

/** An update with every field given. */
export type Full<T> =
  & Required<Omit<T, Optional>>
  & { readonly [Name in Optional & keyof T]: T[Name] };
type Optional = "signature" | "meta";
/** Its keys as bytes. */
export type FullAccount = Full<AccountUpdate> & { readonly pubkey: Uint8Array; readonly owner: Uint8Array };

/** Likewise. */
export type FullTransaction = Full<TransactionUpdate> & { readonly loadedAddresses: LoadedAddresses<Uint8Array> };

const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const bytesOf = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
/** So that `deepEqual` compares what was published with what came. */
const PLAIN = { noNullPrototype: true } as const;
const someKeys = fc.oneof(fc.constant([]), fc.array(bytesOf(32), { maxLength: 3 }));

export const accountArbitrary: fc.Arbitrary<FullAccount> = fc.record({
  kind: fc.constant("account" as const),
  pubkey: bytesOf(32),
  owner: bytesOf(32),
  lamports: u64,
  data: fc.uint8Array({ maxLength: 300 }),
  slot: u64,
  writeVersion: u64,
  bankId: u64,
  rentEpoch: u64,
  executable: fc.boolean(),
  signature: fc.option(bytesOf(64), { nil: undefined }),
  startup: fc.boolean(),
  lossy: fc.boolean(),
  sourceNs: u64,
  sourceEpoch: fc.integer({ min: 0, max: 0xffffffff }),
}, PLAIN);

export const transactionArbitrary: fc.Arbitrary<FullTransaction> = fc.record({
  kind: fc.constant("transaction" as const),
  slot: u64,
  index: fc.integer({ min: 0, max: 0xffffffff }),
  signature: bytesOf(64),
  message: fc.uint8Array({ maxLength: 300 }),
  meta: fc.option(fc.uint8Array({ maxLength: 100 }), { nil: undefined }),
  loadedAddresses: fc.record({ writable: someKeys, readonly: someKeys }, PLAIN),
  vote: fc.boolean(),
  failed: fc.boolean(),
  bankId: u64,
  lossy: fc.boolean(),
  sourceNs: u64,
}, PLAIN);

export const slotArbitrary: fc.Arbitrary<Full<SlotUpdate>> = fc.record({
  kind: fc.constant("slot" as const),
  slot: u64,
  parent: u64,
  status: fc.constantFrom(...SLOT_STATUSES),
  bankId: u64,
  lossy: fc.boolean(),
  sourceNs: u64,
}, PLAIN);

export const updateArbitrary: fc.Arbitrary<FullAccount | FullTransaction | Full<SlotUpdate>> = fc.oneof(
  accountArbitrary,
  transactionArbitrary,
  slotArbitrary,
);
