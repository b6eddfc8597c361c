/**
 * Base58 addresses against kit's codecs, and every text that is none.
 * May touch: `@solana/kit` as the judge. May not touch: the native library.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Address as KitAddress, getAddressDecoder, getAddressEncoder, isAddress } from "@solana/kit";
import fc from "fast-check";
import { addressFromBytes, bytesFromAddress, bytesFromAddressLike } from "../../src/address.ts";
import type { Address } from "../../src/types.ts";

const RUNS = { numRuns: 500 };
const encoder = getAddressEncoder();
const decoder = getAddressDecoder();
/** Keys with zero bytes in front are as frequent as others: there base58 has its traps. */
const key = fc.tuple(fc.integer({ min: 0, max: 32 }), fc.uint8Array({ minLength: 32, maxLength: 32 }))
  .map(([zeros, bytes]) => bytes.fill(0, 0, zeros));

test("addressFromBytes() and bytesFromAddress() agree with kit's codecs and with each other", () => {
  fc.assert(
    fc.property(key, (bytes) => {
      const text = addressFromBytes(bytes);
      assert.equal(text, decoder.decode(bytes));
      assert.deepEqual(bytesFromAddress(text), bytes);
      assert.deepEqual(bytesFromAddress(text), Uint8Array.from(encoder.encode(text)));
    }),
    RUNS,
  );
});

test("addressFromBytes() is right at the ends of the range", () => {
  assert.equal(addressFromBytes(new Uint8Array(32)), "1".repeat(32));
  for (let bit = 0; bit < 256; bit++) {
    const bytes = new Uint8Array(32);
    bytes[bit >> 3] = 1 << (bit & 7);
    assert.equal(addressFromBytes(bytes), decoder.decode(bytes));
    assert.deepEqual(bytesFromAddress(addressFromBytes(bytes)), bytes);
    const full = bytes.map((byte) => byte ^ 255);
    assert.equal(addressFromBytes(full), decoder.decode(full));
    assert.deepEqual(bytesFromAddress(addressFromBytes(full)), full);
  }
  const largest = new Uint8Array(32).fill(255);
  assert.deepEqual(bytesFromAddress(decoder.decode(largest)), largest);
});

test("addressFromBytes() refuses anything but 32 bytes", () => {
  for (const length of [0, 1, 31, 33, 64]) {
    assert.throws(() => addressFromBytes(new Uint8Array(length)), {
      name: "TypeError",
      message: new RegExp(`${length}`),
    });
  }
});

test("bytesFromAddress() takes and refuses the same texts as kit", () => {
  const text = fc.oneof(
    key.map(addressFromBytes),
    // One character changed, taken away, doubled.
    fc.tuple(key.map(addressFromBytes), fc.nat(43), fc.string({ unit: "binary-ascii", minLength: 0, maxLength: 2 }))
      .map(([address, at, other]) => address.slice(0, at) + other + address.slice(at + 1)),
    fc.string({ unit: "binary-ascii", minLength: 30, maxLength: 46 }),
    fc.string({ unit: "binary", minLength: 30, maxLength: 46 }),
    fc.string({
      unit: fc.constantFrom(..."123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"),
      minLength: 31,
      maxLength: 45,
    }),
    fc.tuple(fc.nat(44), fc.nat(44)).map(([ones, zs]) => "1".repeat(ones) + "z".repeat(zs)),
  );
  fc.assert(
    fc.property(text, (text) => {
      if (isAddress(text)) assert.deepEqual(bytesFromAddress(text), Uint8Array.from(encoder.encode(text)));
      else assert.throws(() => bytesFromAddress(text), TypeError);
    }),
    { numRuns: 2000 },
  );
});

test("bytesFromAddress() says what is wrong with a text", () => {
  const rows: [text: string, why: RegExp][] = [
    ["", /it has 0 characters, not 32 to 44/],
    ["1".repeat(31), /it has 31 characters/],
    ["1".repeat(45), /it has 45 characters/],
    ["x".repeat(5000), /^"x{60}…" is no address: it has 5000 characters/],
    ["1".repeat(33), /it stands for 33 bytes, not 32/],
    ["2".repeat(32), /it stands for 23 bytes, not 32/],
    ["z".repeat(44), /it stands for more than 32 bytes/],
    // 2^256 and 2^256 - 1: the first number that is too large, and the last that is not.
    ["JEKNVnkbo3jma5nREBBJCDoXFVeKkD56V3xKrvRmWxFH", /it stands for more than 32 bytes/],
    ["1".repeat(31) + "0", /"0" is not in base58's alphabet/],
    ["1".repeat(31) + "O", /"O" is not/],
    ["1".repeat(31) + "I", /"I" is not/],
    ["1".repeat(31) + "l", /"l" is not/],
    ["1".repeat(31) + " ", /" " is not/],
    ["1".repeat(31) + "\u0131", /is not in base58's alphabet/],
    ["1".repeat(31) + "\uff11", /is not in base58's alphabet/],
  ];
  for (const [text, message] of rows) assert.throws(() => bytesFromAddress(text), { name: "TypeError", message }, text);
  assert.deepEqual(
    bytesFromAddress("JEKNVnkbo3jma5nREBBJCDoXFVeKkD56V3xKrvRmWxFG"),
    new Uint8Array(32).fill(255),
  );
});

test("bytesFromAddressLike() takes text and bytes, the latter as they are, and names what it refuses", () => {
  const bytes = new Uint8Array(32).fill(7);
  assert.equal(bytesFromAddressLike(bytes, "pubkey"), bytes);
  assert.deepEqual(bytesFromAddressLike(addressFromBytes(bytes), "pubkey"), bytes);
  const wrong = [
    new Uint8Array(31),
    new Uint8Array(33),
    new Uint16Array(32),
    Array(32).fill(1),
    1,
    1n,
    null,
    undefined,
    {},
  ];
  for (const key of wrong) {
    assert.throws(() => bytesFromAddressLike(key as Uint8Array, "pubkey"), {
      name: "TypeError",
      message: /pubkey must be/,
    });
  }
});

test("Address is kit's type, both ways", () => {
  const ours: Address = addressFromBytes(new Uint8Array(32));
  const kits: KitAddress = ours;
  const oursAgain: Address = kits;
  assert.equal(oursAgain, ours);
});
