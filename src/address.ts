/**
 * Base58 addresses: bytes to text and back, without kit (1 to 2 µs against 8 to 31).
 * May touch: nothing. May not touch: Solana packages; the types are declared in types.ts.
 * Source of the format: Bitcoin's base58 alphabet, as Solana uses it; tests compare with `@solana/kit`.
 *
 * @module
 */

import { ADDRESS_SIZE } from "./native/abi.generated.ts";
import type { Address, AddressLike, ReadonlyUint8Array } from "./types.ts";

const ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const CHARACTERS = Uint8Array.from(ALPHABET, (character) => character.charCodeAt(0));
const DIGITS = new Int8Array(128).fill(-1);
for (let i = 0; i < 58; i++) DIGITS[CHARACTERS[i]!] = i;

// Five base-58 digits make one limb. Products stay below 2^53, so doubles compute them exactly.
const LIMB = 58 ** 5;
const LIMB_COUNT = 9; // 58^45 > 2^256
const limbs = new Float64Array(LIMB_COUNT);
const text = new Uint8Array(5 * LIMB_COUNT + ADDRESS_SIZE);
const decoder = new TextDecoder();

/**
 * The base58 text of 32 bytes.
 * @throws {TypeError} unless there are exactly 32.
 */
export function addressFromBytes(bytes: ReadonlyUint8Array): Address {
  if (bytes.length !== ADDRESS_SIZE) throw new TypeError(`An address has 32 bytes, these are ${bytes.length}`);
  limbs.fill(0);
  let used = 1;
  for (let at = 0; at < ADDRESS_SIZE; at += 2) {
    let carry = bytes[at]! * 256 + bytes[at + 1]!;
    for (let i = 0; i < used; i++) {
      const value = limbs[i]! * 65536 + carry;
      carry = Math.floor(value / LIMB);
      limbs[i] = value - carry * LIMB;
    }
    while (carry > 0) {
      limbs[used++] = carry % LIMB;
      carry = Math.floor(carry / LIMB);
    }
  }
  let zeros = 0;
  while (zeros < ADDRESS_SIZE && bytes[zeros] === 0) zeros++;
  // Digits from the end of `text`; then leading zero digits give way to one "1" per leading zero byte.
  let end = text.length;
  for (let i = 0; i < used; i++) {
    let value = limbs[i]!;
    for (let digit = 0; digit < 5; digit++) {
      text[--end] = CHARACTERS[value % 58]!;
      value = Math.floor(value / 58);
    }
  }
  while (end < text.length && text[end] === CHARACTERS[0]) end++;
  for (let i = 0; i < zeros; i++) text[--end] = CHARACTERS[0]!;
  return decoder.decode(text.subarray(end)) as Address;
}

/**
 * The 32 bytes of a base58 address.
 * @throws {TypeError} for text that is no address.
 */
export function bytesFromAddress(address: string): Uint8Array {
  const fail = (why: string): never => {
    throw new TypeError(`"${address.length > 60 ? `${address.slice(0, 60)}…` : address}" is no address: ${why}`);
  };
  if (address.length < 32 || address.length > 44) fail(`it has ${address.length} characters, not 32 to 44`);
  // Big-endian limbs of 16 bits.
  const words = new Float64Array(ADDRESS_SIZE / 2);
  let zeros = 0;
  let leading = true;
  for (let at = 0; at < address.length; at += 5) {
    let factor = 1;
    let carry = 0;
    for (let i = at; i < Math.min(at + 5, address.length); i++) {
      const code = address.charCodeAt(i);
      const digit = code < 128 ? DIGITS[code]! : -1;
      if (digit < 0) fail(`"${address[i]}" is not in base58's alphabet`);
      if (leading && digit === 0) zeros++;
      else leading = false;
      carry = carry * 58 + digit;
      factor *= 58;
    }
    for (let i = words.length - 1; i >= 0; i--) {
      const value = words[i]! * factor + carry;
      carry = Math.floor(value / 65536);
      words[i] = value - carry * 65536;
    }
    if (carry > 0) fail("it stands for more than 32 bytes");
  }
  const bytes = new Uint8Array(ADDRESS_SIZE);
  for (let i = 0; i < words.length; i++) {
    bytes[2 * i] = words[i]! >> 8;
    bytes[2 * i + 1] = words[i]! & 255;
  }
  let leadingBytes = 0;
  while (leadingBytes < ADDRESS_SIZE && bytes[leadingBytes] === 0) leadingBytes++;
  if (leadingBytes !== zeros) fail(`it stands for ${ADDRESS_SIZE - leadingBytes + zeros} bytes, not 32`);
  return bytes;
}

/**
 * The bytes of a key in either form. What is given as bytes is returned as it is, not copied.
 * @throws {TypeError} for anything else.
 */
export function bytesFromAddressLike(key: AddressLike, name: string): ReadonlyUint8Array {
  if (typeof key === "string") return bytesFromAddress(key);
  if (!(key instanceof Uint8Array) || key.length !== ADDRESS_SIZE) {
    throw new TypeError(`${name} must be a base58 address or its 32 bytes`);
  }
  return key as ReadonlyUint8Array;
}
