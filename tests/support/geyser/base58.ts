/**
 * Base58 by bigints: slow, short, and not that of src/.
 */

const ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/** Bytes to text. */
export function base58(bytes: Uint8Array): string {
  let text = "";
  for (let value = bytes.reduce((sum, byte) => sum * 256n + BigInt(byte), 0n); value > 0n; value /= 58n) {
    text = ALPHABET[Number(value % 58n)] + text;
  }
  for (const byte of bytes) {
    if (byte !== 0) break;
    text = `1${text}`;
  }
  return text;
}
