/**
 * Accounts of the stream as kit's: what its own functions make of them, and of the token programs' data.
 * May touch: the public API, kit, the token program's client as an oracle.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  address,
  decodeAccount,
  getBytesDecoder,
  getStructDecoder,
  getU64Decoder,
  isSolanaError,
  SOLANA_ERROR__ACCOUNTS__FAILED_TO_DECODE_ACCOUNT,
} from "@solana/kit";
import { getMintDecoder, getTokenDecoder, type Mint, type Token } from "@solana-program/token";
import fc from "fast-check";
import { addressFromBytes } from "../../src/address.ts";
import {
  AddressTable,
  decodeMint,
  decodeToken,
  decodeWith,
  type MintData,
  toEncodedAccount,
  type TokenData,
} from "../../src/kit/mod.ts";
import type { AccountCopy, AccountView } from "../../src/stream/view.ts";
import { Place } from "../unit/support/place.ts";
import { accountUpdate, keyOf, patternBytes } from "../unit/support/updates.ts";
import { within } from "../unit/support/watchdog.ts";

/** One account as it comes to a consumer, handed to `look` while its view is valid. */
async function arriving<T>(
  data: Uint8Array,
  look: (view: AccountView) => T,
  slice?: { offset: number; length: number },
) {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  await consumer.setFilter("all", { accounts: { accounts: [keyOf(1)], ...(slice && { dataSlice: slice }) } });
  sender.publishAccount(accountUpdate({ data, executable: true }));
  const update = await within(consumer.next(), "the account");
  assert(update?.kind === "account");
  const result = look(update);
  sender.publishAccount(accountUpdate({ data: new Uint8Array(data.length).fill(255) }));
  await within(consumer.next(), "another one"); // whatever was kept of the view would be void by now
  return result;
}

/** A copy with these data, without a feed. */
function copyOf(data: Uint8Array): AccountCopy {
  return {
    ...accountUpdate(),
    pubkey: keyOf(1),
    owner: keyOf(2),
    data,
    fullLength: data.length,
    executable: false,
  } as AccountCopy;
}

test("toEncodedAccount() gives kit's decodeAccount all that it spreads, and lasts", async () => {
  const account = await arriving(patternBytes(16, 3), (view) => toEncodedAccount(view));
  const decoded = decodeAccount(account, getStructDecoder([["a", getU64Decoder()], ["b", getU64Decoder()]]));
  const bytes = new DataView(patternBytes(16, 3).buffer);
  assert.deepEqual({ ...decoded }, {
    address: addressFromBytes(keyOf(1)),
    programAddress: addressFromBytes(keyOf(2)),
    lamports: 5_000_000_000n,
    executable: true,
    space: 16n,
    data: { a: bytes.getBigUint64(0, true), b: bytes.getBigUint64(8, true) },
  });
  assert(Object.isFrozen(account));
});

test("toEncodedAccount() of a slice has its bytes, and the space of the whole", async () => {
  const account = await arriving(patternBytes(100, 3), (view) => toEncodedAccount(view), { offset: 10, length: 5 });
  assert.deepEqual(account.data, patternBytes(100, 3).slice(10, 15));
  assert.equal(account.space, 100n);
});

test("decodeWith() decodes in place, and what it gives lasts", async () => {
  const decode = decodeWith(getStructDecoder([["head", getU64Decoder()], ["rest", getBytesDecoder()]]));
  const { address, data } = await arriving(patternBytes(20, 3), decode);
  assert.equal(address, addressFromBytes(keyOf(1)));
  assert.deepEqual(data.rest, patternBytes(20, 3).slice(8));
});

test("decodeWith() throws kit's error for data that do not decode, with the decoder's as its cause", () => {
  const decode = decodeWith(getStructDecoder([["head", getU64Decoder()]]));
  assert.throws(() => decode(copyOf(new Uint8Array(7))), (error) => {
    assert(isSolanaError(error, SOLANA_ERROR__ACCOUNTS__FAILED_TO_DECODE_ACCOUNT));
    assert.equal(error.context.address, addressFromBytes(keyOf(1)));
    assert(isSolanaError(error.cause));
    return true;
  });
});

const option = (value: fc.Arbitrary<Uint8Array>) =>
  fc.tuple(fc.constantFrom(0, 1), value).map((
    [tag, bytes],
  ) => [tag, 0, 0, 0, ...(tag === 0 ? new Uint8Array(bytes.length) : bytes)]);
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const parts = (...arbitraries: fc.Arbitrary<Iterable<number>>[]) =>
  fc.tuple(...arbitraries).map((lists) => Uint8Array.from(lists.flatMap((list) => [...list])));
const tokenBytes = parts(
  bytes(72),
  option(bytes(32)),
  fc.constantFrom([0], [1], [2]),
  option(bytes(8)),
  bytes(8),
  option(bytes(32)),
);
const mintBytes = parts(option(bytes(32)), bytes(9), fc.constantFrom([0], [1]), option(bytes(32)));

test("decodeToken() gives what the token program's own client gives", () => {
  const known = new AddressTable([addressFromBytes(keyOf(1)), addressFromBytes(keyOf(2))]);
  fc.assert(fc.property(tokenBytes, fc.boolean(), (data, withTable) => {
    const decoded = decodeToken(copyOf(data), withTable ? known : undefined);
    const typed: Account<Token> = decoded; // the generated client's type fits
    assert.deepEqual(typed.data, getTokenDecoder().decode(data));
    assert.equal(decoded.programAddress, addressFromBytes(keyOf(2)));
  }));
});

test("decodeMint() gives what the token program's own client gives", () => {
  fc.assert(fc.property(mintBytes, (data) => {
    const typed: Account<Mint> = decodeMint(copyOf(data));
    assert.deepEqual(typed.data, getMintDecoder().decode(data));
  }));
});

interface Account<T> {
  readonly data: T;
}

test("both take Token-2022's longer accounts, and neither takes the other's", () => {
  const of = (size: number, type: number) => {
    const data = new Uint8Array(size);
    data[165] = type;
    return copyOf(data);
  };
  const token: TokenData = decodeToken(of(200, 2)).data;
  const mint: MintData = decodeMint(of(200, 1)).data;
  assert.deepEqual([token.amount, mint.supply], [0n, 0n]);
  for (const wrong of [of(200, 1), of(82, 0), of(164, 0), of(0, 0), of(355, 0)]) {
    assert.throws(
      () => decodeToken(wrong),
      (error) => isSolanaError(error, SOLANA_ERROR__ACCOUNTS__FAILED_TO_DECODE_ACCOUNT),
    );
  }
  for (const wrong of [of(200, 2), of(165, 0), of(81, 0)]) {
    assert.throws(
      () => decodeMint(wrong),
      (error) => isSolanaError(error, SOLANA_ERROR__ACCOUNTS__FAILED_TO_DECODE_ACCOUNT),
    );
  }
});

test("whatever the bytes are, the token decoders throw kit's error or decode", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), fc.boolean(), (data, isMint) => {
    try {
      (isMint ? decodeMint : decodeToken)(copyOf(data));
    } catch (error) {
      assert(isSolanaError(error, SOLANA_ERROR__ACCOUNTS__FAILED_TO_DECODE_ACCOUNT));
    }
  }));
});

test("AddressTable gives the strings that it has, makes others, and forgets", () => {
  const own = address("5ag267qtJvvp4swwj16AfQTkzqme2s5YJnP2CaJVsKeQ");
  const table = new AddressTable([own, own]);
  assert.equal(table.size, 1);
  assert.equal(table.bytesOf(own), table.add(own));
  assert.equal(table.addressOf(table.bytesOf(own).slice()), own);
  assert.equal(table.addressOf(keyOf(5)), addressFromBytes(keyOf(5)));
  assert.deepEqual(table.bytesOf(addressFromBytes(keyOf(5))), keyOf(5));
  table.delete(own);
  table.delete(own);
  assert.deepEqual([table.size, table.addressOf(table.bytesOf(own))], [0, own]);
  assert.throws(() => table.add("nonsense" as typeof own), TypeError);
});

test("AddressTable tells keys apart that begin alike", () => {
  const keys = Array.from({ length: 20 }, (_, i) => Uint8Array.from({ length: 32 }, (_, at) => at === 31 ? i : 9));
  fc.assert(fc.property(fc.array(fc.nat(19)), fc.array(fc.nat(19)), (added, removed) => {
    const table = new AddressTable(added.map((i) => addressFromBytes(keys[i]!)));
    for (const i of removed) table.delete(addressFromBytes(keys[i]!));
    const left = new Set(added.filter((i) => !removed.includes(i)));
    assert.equal(table.size, left.size);
    for (const key of keys) assert.equal(table.addressOf(key), addressFromBytes(key));
  }));
});
