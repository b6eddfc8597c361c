/**
 * Base58 of any length against kit's codecs, and every text that is none. Addresses: address_test.ts.
 * May touch: `@solana/kit` as the judge. May not touch: the native library.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { getBase58Decoder, getBase58Encoder } from "@solana/kit";
import fc from "fast-check";
import { base58FromBytes, bytesFromBase58 } from "../../src/wire/base58.ts";

/** Also longer than a signature, and with zero bytes in front. */
const bytes = fc.tuple(fc.uint8Array({ maxLength: 140 }), fc.nat(140)).map(([bytes, zeros]) => bytes.fill(0, 0, zeros));

test("base58FromBytes() and bytesFromBase58() agree with kit's codecs and with each other", () => {
  fc.assert(
    fc.property(bytes, (bytes) => {
      const text = base58FromBytes(bytes);
      assert.equal(text, getBase58Decoder().decode(bytes));
      if (bytes.length > 128) assert.throws(() => bytesFromBase58(text, 128, "x"), RangeError);
      else assert.deepEqual(bytesFromBase58(text, 128, "x"), Uint8Array.from(getBase58Encoder().encode(text)));
    }),
    { numRuns: 500 },
  );
  for (const length of [0, 1, 2, 63, 64, 65, 127, 128]) {
    for (const bytes of [new Uint8Array(length), new Uint8Array(length).fill(255)]) {
      assert.equal(base58FromBytes(bytes), getBase58Decoder().decode(bytes));
      assert.deepEqual(bytesFromBase58(base58FromBytes(bytes), 128, "x"), bytes);
    }
  }
});

test("what is longer than it may be is refused at every bound, and so is what is no digit", () => {
  for (const length of [32, 64]) {
    const longest = new Uint8Array(length).fill(255);
    assert.deepEqual(bytesFromBase58(base58FromBytes(longest), length, "x"), longest);
    for (const longer of [Uint8Array.of(1, ...new Uint8Array(length)), new Uint8Array(length + 1)]) {
      assert.throws(() => bytesFromBase58(base58FromBytes(longer), length, "signature"), {
        name: "RangeError",
        message: new RegExp(`signature must stand for at most ${length} bytes`),
      });
    }
  }
  for (const character of ["0", "O", "I", "l", " ", "\u0131", "\uff11"]) {
    assert.throws(() => bytesFromBase58(`1${character}`, 64, "bytes"), {
      name: "TypeError",
      message: `bytes must be base58, "${character}" is not in its alphabet`,
    });
  }
});
