/**
 * Accounts of the feed as kit's: whole objects that its functions take, and decoding in place.
 * May touch: views and copies, `@solana/kit`. May not touch: rings.
 *
 * @module
 */

import {
  type Account,
  type Decoder,
  type EncodedAccount,
  type Lamports,
  SOLANA_ERROR__ACCOUNTS__FAILED_TO_DECODE_ACCOUNT,
  SolanaError,
} from "@solana/kit";
import { addressFromBytes } from "../address.ts";
import type { AccountCopy, AccountView } from "../stream/view.ts";
import type { Address, ReadonlyUint8Array } from "../types.ts";
import type { AddressTable } from "./addresses.ts";

/** Where an account comes from: a view of the stream, or its copy. */
export type AccountSource = AccountView | AccountCopy;

/** What both forms of an account are read by, without their data. */
type Head = Omit<EncodedAccount, "data">;

function headOf(source: AccountSource, addresses: AddressTable | undefined): { -readonly [K in keyof Head]: Head[K] } {
  const text = (bytes: ReadonlyUint8Array): Address => addresses?.addressOf(bytes) ?? addressFromBytes(bytes);
  return {
    address: text(source.pubkey),
    executable: source.executable,
    lamports: source.lamports as Lamports,
    programAddress: text(source.owner),
    space: BigInt(source.fullLength),
  };
}

/**
 * An account as kit has it: a plain object with properties of its own, which lasts. (kit spreads accounts as it decodes them,
 * and what a view offers by getters would be gone.)
 * @param source A view of the stream, or a copy. If only slices of its data came, `data` are these and `space` is what
 * the account has.
 * @param addresses Where known keys have their text. Without it each account costs two conversions, some 0.4 µs each.
 * @returns A frozen object with data of its own.
 *
 * @example
 * ```ts
 * import { setupConsumer, setupSender } from "@qlaster/core";
 * import { toEncodedAccount } from "@qlaster/core/kit";
 * import { decodeAccount, getStructDecoder, getU64Decoder } from "@solana/kit";
 * import assert from "node:assert/strict";
 *
 * const [pubkey, owner] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];
 * await using sender = await setupSender({ path: "/tmp/qlaster-doc-kit.sock", ringCapacityBytes: 65536 });
 * await using consumer = await setupConsumer("/tmp/qlaster-doc-kit.sock");
 * await consumer.subscribe({ accounts: [pubkey] });
 * sender.publishAccount({ pubkey, owner, lamports: 5n, data: Uint8Array.of(42, 0, 0, 0, 0, 0, 0, 0), slot: 1n });
 * const update = await consumer.next();
 * assert(update?.kind === "account");
 * const { data } = decodeAccount(toEncodedAccount(update), getStructDecoder([["price", getU64Decoder()]]));
 * assert.equal(data.price, 42n);
 * ```
 */
export function toEncodedAccount(source: AccountSource, addresses?: AddressTable): EncodedAccount {
  return Object.freeze({ ...headOf(source, addresses), data: source.data.slice() });
}

/**
 * Makes a function that decodes accounts in place: kit's `decodeAccount`, without a copy of the data before.
 * @param decoder Any decoder or codec of kit, or of a client that was generated for it. They copy what they keep.
 * @param addresses Where known keys have their text.
 * @returns For a view or copy the account with its data decoded, which lasts.
 * It throws `SolanaError` with kit's code for data that do not decode, and the decoder's own error as its cause.
 *
 * @example
 * ```ts
 * import { AddressTable, decodeWith } from "@qlaster/core/kit";
 * import { getStructDecoder, getU64Decoder } from "@solana/kit";
 * import assert from "node:assert/strict";
 *
 * const decodePrice = decodeWith(getStructDecoder([["price", getU64Decoder()]]), new AddressTable());
 * // for await (const update of consumer) if (update.kind === "account") console.log(decodePrice(update).data.price);
 * assert.equal(typeof decodePrice, "function");
 * ```
 */
export function decodeWith<T extends object>(
  decoder: Decoder<T>,
  addresses?: AddressTable,
): (source: AccountSource) => Account<T> {
  return (source) => decodeBy((bytes) => decoder.decode(bytes), source, addresses);
}

/** The account with what `decode` makes of its data. @throws {SolanaError} for what that throws. */
export function decodeBy<T extends object>(
  decode: (bytes: ReadonlyUint8Array) => T,
  source: AccountSource,
  addresses: AddressTable | undefined,
): Account<T> {
  const head = headOf(source, addresses);
  let data: T;
  try {
    data = decode(source.data);
  } catch (cause) {
    throw new SolanaError(SOLANA_ERROR__ACCOUNTS__FAILED_TO_DECODE_ACCOUNT, { address: head.address, cause });
  }
  return Object.freeze({ ...head, data });
}
