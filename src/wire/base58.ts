/**
 * Base58: bytes of any length to text and back, without kit (some 0.4 µs for 32 bytes to text and 0.6 back, against 8 to 31).
 * May touch: nothing. May not touch: Solana packages.
 * Source of the format: Bitcoin's alphabet, as Solana uses it; tests compare with `@solana/kit`. What is an address, is said in
 * ../address.ts.
 *
 * @module
 */

import type { ReadonlyUint8Array } from "../types.ts";

const ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const CHARACTERS = Uint8Array.from(ALPHABET, (character) => character.charCodeAt(0));
const DIGITS = new Int8Array(128).fill(-1);
for (let i = 0; i < 58; i++) DIGITS[CHARACTERS[i]!] = i;

// Five base-58 digits make one limb. Products stay below 2^53, so doubles compute them exactly.
const LIMB_DIGITS = 5;
const LIMB = 656_356_768; // 58 ** 5, which JavaScriptCore does not fold: ten times slower
const BITS_OF_LIMB = 29.2; // a little less than it has
const BYTES_OF_DIGIT = 0.732; // likewise

/** Room for a signature: what is longer gets its own. */
const KEPT_BYTES = 64;
const kept = roomFor(KEPT_BYTES);
const decoder = new TextDecoder();

function roomFor(bytes: number): { limbs: Float64Array; text: Uint8Array } {
  const limbs = Math.ceil(8 * bytes / BITS_OF_LIMB) + 1;
  return { limbs: new Float64Array(limbs), text: new Uint8Array(LIMB_DIGITS * limbs + bytes) };
}

/** The base58 text of some bytes. The time grows with the square of their number. */
export function base58FromBytes(bytes: ReadonlyUint8Array): string {
  const { length } = bytes;
  const { limbs, text } = length <= KEPT_BYTES ? kept : roomFor(length);
  // Two bytes at a time, the first alone where their number is odd.
  let used = 1;
  limbs[0] = (length & 1) === 1 ? bytes[0]! : 0;
  for (let at = length & 1; at < length; at += 2) {
    let carry = bytes[at]! * 256 + bytes[at + 1]!;
    for (let i = 0; i < used; i++) {
      const value = limbs[i]! * 65536 + carry;
      carry = Math.floor(value / LIMB);
      limbs[i] = value - carry * LIMB;
    }
    if (carry > 0) limbs[used++] = carry; // less than 2^16
  }
  let zeros = 0;
  while (zeros < length && bytes[zeros] === 0) zeros++;
  // Digits from the end of `text`; then leading zero digits give way to one "1" per leading zero byte.
  let end = text.length;
  for (let i = 0; i < used; i++) {
    let value = limbs[i]! | 0; // as an integer, whose division is exact and quick
    for (let digit = 0; digit < LIMB_DIGITS; digit++) {
      const next = (value / 58) | 0;
      text[--end] = CHARACTERS[value - 58 * next]!;
      value = next;
    }
  }
  while (end < text.length && text[end] === CHARACTERS[0]) end++;
  for (let i = 0; i < zeros; i++) text[--end] = CHARACTERS[0]!;
  return decoder.decode(text.subarray(end));
}

/** How a text is refused. */
export interface Base58Refusals {
  /** It has a character that is no digit. */
  character(character: string): never;
  /** It stands for more bytes than there may be. */
  overflow(): never;
}

/**
 * The bytes that a text stands for.
 * @param bytesMax Most bytes besides those of its leading zero digits, one for each; even. What it takes grows with their
 * product.
 */
export function decodeBase58(text: string, bytesMax: number, refusals: Base58Refusals): Uint8Array<ArrayBuffer> {
  // Big-endian limbs of 16 bits.
  const words = new Float64Array(bytesMax / 2);
  let zeros = 0;
  let isLeading = true;
  for (let at = 0; at < text.length; at += LIMB_DIGITS) {
    let factor = 1;
    let carry = 0;
    for (let i = at; i < Math.min(at + LIMB_DIGITS, text.length); i++) {
      const code = text.charCodeAt(i);
      const digit = code < 128 ? DIGITS[code]! : -1;
      if (digit < 0) refusals.character(text[i]!);
      if (isLeading && digit === 0) zeros++;
      else isLeading = false;
      carry = carry * 58 + digit;
      factor *= 58;
    }
    for (let i = words.length - 1; i >= 0; i--) {
      const value = words[i]! * factor + carry;
      carry = Math.floor(value / 65536);
      words[i] = value - carry * 65536;
    }
    if (carry > 0) refusals.overflow();
  }
  const bytes = new Uint8Array(bytesMax);
  for (let i = 0; i < words.length; i++) {
    bytes[2 * i] = words[i]! >> 8;
    bytes[2 * i + 1] = words[i]! & 255;
  }
  let first = 0;
  while (first < bytesMax && bytes[first] === 0) first++;
  if (first === zeros) return bytes; // as of each address
  const all = new Uint8Array(zeros + bytesMax - first);
  all.set(bytes.subarray(first), zeros);
  return all;
}

/**
 * The bytes that a text stands for, of a named property.
 * @param bytesMax Even.
 * @throws {TypeError} for text that is not base58. @throws {RangeError} for more than `bytesMax` bytes.
 */
export function bytesFromBase58(text: string, bytesMax: number, name: string): Uint8Array<ArrayBuffer> {
  const overflow = (): never => {
    throw new RangeError(`${name} must stand for at most ${bytesMax} bytes, it has ${text.length} digits`);
  };
  // Checked first, since the time grows with the length.
  if (text.length * BYTES_OF_DIGIT > bytesMax + 1) overflow();
  const bytes = decodeBase58(text, bytesMax, {
    overflow,
    character(character) {
      throw new TypeError(`${name} must be base58, "${character}" is not in its alphabet`);
    },
  });
  return bytes.length > bytesMax ? overflow() : bytes;
}
