/**
 * Addresses: 32 bytes to base58 text and back, and either of them from whoever uses this library.
 * May touch: base58. May not touch: Solana packages; the types are declared in types.ts.
 *
 * @module
 */

import { ADDRESS_SIZE } from "./native/abi.generated.ts";
import type { Address, AddressLike, ReadonlyUint8Array } from "./types.ts";
import { base58FromBytes, decodeBase58 } from "./wire/base58.ts";

/**
 * The base58 text of 32 bytes.
 * @throws {TypeError} unless there are exactly 32.
 */
export function addressFromBytes(bytes: ReadonlyUint8Array): Address {
  if (bytes.length !== ADDRESS_SIZE) throw new TypeError(`An address has 32 bytes, these are ${bytes.length}`);
  return base58FromBytes(bytes) as Address;
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
  const bytes = decodeBase58(address, ADDRESS_SIZE, {
    character: (character) => fail(`"${character}" is not in base58's alphabet`),
    overflow: () => fail("it stands for more than 32 bytes"),
  });
  if (bytes.length !== ADDRESS_SIZE) fail(`it stands for ${bytes.length} bytes, not 32`);
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
