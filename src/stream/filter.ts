/**
 * Which consumers want an update: an index from key to consumers, exact, for keys OR owners (the original's meaning).
 * May touch: its own maps. May not touch: connections, beyond holding them.
 * Cost: one probe per key, whatever the number of consumers.
 *
 * @module
 */

import type { ReadonlyUint8Array } from "../types.ts";

/** A key and who wants it. */
interface Entry<T> {
  readonly key: Uint8Array;
  readonly consumers: T[];
}

/** The first 53 bits of a key as a number: a cheap hash. Who shares it is told apart by all 32 bytes. */
function hash(bytes: ReadonlyUint8Array, at: number): number {
  const low = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
  const high = bytes[at + 4]! | (bytes[at + 5]! << 8) | ((bytes[at + 6]! & 31) << 16);
  return high * 4294967296 + (low >>> 0);
}

function equal(key: Uint8Array, bytes: ReadonlyUint8Array, at: number): boolean {
  for (let i = 0; i < key.length; i++) if (key[i] !== bytes[at + i]) return false;
  return true;
}

/** A map from 32-byte keys to sets of consumers. */
export class KeyIndex<T> {
  readonly #buckets = new Map<number, Entry<T>[]>();

  /** False if it was there already. */
  add(key: ReadonlyUint8Array, consumer: T): boolean {
    const bucket = this.#buckets.get(hash(key, 0));
    const entry = bucket?.find((candidate) => equal(candidate.key, key, 0));
    if (entry !== undefined) {
      if (entry.consumers.includes(consumer)) return false;
      entry.consumers.push(consumer);
      return true;
    }
    const fresh: Entry<T> = { key: Uint8Array.from(key as Uint8Array), consumers: [consumer] };
    if (bucket === undefined) this.#buckets.set(hash(key, 0), [fresh]);
    else bucket.push(fresh);
    return true;
  }

  remove(key: ReadonlyUint8Array, consumer: T): void {
    const code = hash(key, 0);
    const bucket = this.#buckets.get(code);
    const entry = bucket?.find((candidate) => equal(candidate.key, key, 0));
    if (bucket === undefined || entry === undefined) return;
    const at = entry.consumers.indexOf(consumer);
    if (at >= 0) entry.consumers.splice(at, 1);
    if (entry.consumers.length > 0) return;
    bucket.splice(bucket.indexOf(entry), 1);
    if (bucket.length === 0) this.#buckets.delete(code);
  }

  /** Who wants the key whose 32 bytes start at `at`; undefined for nobody. The array is the index's own: read it at once. */
  get(bytes: ReadonlyUint8Array, at: number): readonly T[] | undefined {
    const bucket = this.#buckets.get(hash(bytes, at));
    if (bucket === undefined) return undefined;
    for (const entry of bucket) if (equal(entry.key, bytes, at)) return entry.consumers;
    return undefined;
  }

  get isEmpty(): boolean {
    return this.#buckets.size === 0;
  }
}
