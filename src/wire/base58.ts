/**
 * Base58 text of any length to bytes: signatures and memcmp bytes. Addresses have a quicker way (address.ts).
 * May touch: nothing.
 *
 * @module
 */

const ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/**
 * The bytes that the text stands for.
 * @throws {TypeError} for text that is not base58. @throws {RangeError} for more than `bytesMax` bytes.
 */
export function bytesFromBase58(text: string, bytesMax: number, name: string): Uint8Array<ArrayBuffer> {
  const tooLong = () =>
    new RangeError(`${name} must stand for at most ${bytesMax} bytes, it has ${text.length} digits`);
  // One digit is 0.732 bytes. Checked first, since the time grows with the square of the length.
  if (text.length * 0.732 > bytesMax + 1) throw tooLong();
  const bytes: number[] = []; // the lowest first
  let zeros = 0;
  for (const character of text) {
    const digit = ALPHABET.indexOf(character);
    if (digit < 0) throw new TypeError(`${name} must be base58, "${character}" is not in its alphabet`);
    if (digit === 0 && bytes.length === 0) {
      zeros++;
      continue;
    }
    let carry = digit;
    for (let i = 0; i < bytes.length; i++) {
      carry += bytes[i]! * 58;
      bytes[i] = carry & 255;
      carry >>= 8;
    }
    if (carry > 0) bytes.push(carry);
  }
  if (zeros + bytes.length > bytesMax) throw tooLong();
  const result = new Uint8Array(zeros + bytes.length);
  result.set(bytes.reverse(), zeros);
  return result;
}
