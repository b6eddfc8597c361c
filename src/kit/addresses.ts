/**
 * Addresses of the keys that a program has asked for: from 32 bytes to the text that it knows already, without base58.
 * May touch: what it is given. May not touch: Solana packages; rings.
 *
 * kit's own conversion takes 9 to 31 µs, this library's 1 to 2; looking bytes up that are known takes a tenth of that.
 *
 * @module
 */

import { addressFromBytes, bytesFromAddress } from "../address.ts";
import type { Address, ReadonlyUint8Array } from "../types.ts";

interface Entry<T> {
  readonly key: ReadonlyUint8Array;
  value: T;
  next: Entry<T> | undefined;
}

/** Thirty bits of a key: what both runtimes keep as a small integer. */
function hashOf(key: ReadonlyUint8Array): number {
  return key[0]! | (key[1]! << 8) | (key[2]! << 16) | ((key[3]! & 63) << 24);
}

function isSame(a: ReadonlyUint8Array, b: ReadonlyUint8Array): boolean {
  for (let i = 0; i < 32; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** A map whose keys are 32 bytes. It keeps the arrays that it is given as keys. */
export class KeyMap<T> {
  readonly #chains = new Map<number, Entry<T>>();

  get(key: ReadonlyUint8Array): T | undefined {
    for (let entry = this.#chains.get(hashOf(key)); entry !== undefined; entry = entry.next) {
      if (isSame(entry.key, key)) return entry.value;
    }
    return undefined;
  }

  set(key: ReadonlyUint8Array, value: T): void {
    const hash = hashOf(key);
    const first = this.#chains.get(hash);
    for (let entry = first; entry !== undefined; entry = entry.next) {
      if (isSame(entry.key, key)) return void (entry.value = value);
    }
    this.#chains.set(hash, { key, value, next: first });
  }

  delete(key: ReadonlyUint8Array): void {
    const hash = hashOf(key);
    let before: Entry<T> | undefined;
    for (let entry = this.#chains.get(hash); entry !== undefined; before = entry, entry = entry.next) {
      if (!isSame(entry.key, key)) continue;
      if (before !== undefined) before.next = entry.next;
      else if (entry.next !== undefined) this.#chains.set(hash, entry.next);
      else this.#chains.delete(hash);
      return;
    }
  }
}

/**
 * Addresses and their bytes, for the keys that matter to a program: those it subscribes to, and the programs and mints that
 * it meets all the time. Other keys are converted each time they are asked for, so the table has the size that you give it.
 *
 * @example
 * ```ts
 * import { AddressTable } from "@qlaster/core/kit";
 * import { address } from "@solana/kit";
 * import assert from "node:assert/strict";
 *
 * const vault = address("5ag267qtJvvp4swwj16AfQTkzqme2s5YJnP2CaJVsKeQ");
 * const table = new AddressTable([vault]);
 * assert.equal(table.addressOf(table.bytesOf(vault)), vault); // the string of above, not a new one
 * ```
 */
export class AddressTable {
  readonly #addresses = new KeyMap<Address>();
  readonly #bytes = new Map<string, ReadonlyUint8Array>();

  /** A table of these addresses. @throws {TypeError} for an address that is none. */
  constructor(addresses: Iterable<Address> = []) {
    for (const address of addresses) this.add(address);
  }

  /** How many there are. */
  get size(): number {
    return this.#bytes.size;
  }

  /**
   * Remembers an address. Again is no matter.
   * @returns Its 32 bytes: always the same array.
   * @throws {TypeError} for an address that is none.
   */
  add(address: Address): ReadonlyUint8Array {
    const known = this.#bytes.get(address);
    if (known !== undefined) return known;
    const bytes = bytesFromAddress(address);
    this.#bytes.set(address, bytes);
    this.#addresses.set(bytes, address);
    return bytes;
  }

  /** Forgets an address. */
  delete(address: Address): void {
    const bytes = this.#bytes.get(address);
    if (bytes === undefined) return;
    this.#bytes.delete(address);
    this.#addresses.delete(bytes);
  }

  /** The address of 32 bytes: from the table, else made now. */
  addressOf(bytes: ReadonlyUint8Array): Address {
    return this.#addresses.get(bytes) ?? addressFromBytes(bytes);
  }

  /** The 32 bytes of an address: from the table, else made now. @throws {TypeError} for an address that is none. */
  bytesOf(address: Address): ReadonlyUint8Array {
    return this.#bytes.get(address) ?? bytesFromAddress(address);
  }
}
