/**
 * Which consumers want an update: an index from 32-byte keys to sets of consumers, exact.
 * May touch: its own tables. May not touch: consumers, beyond holding them.
 * Cost: one probe per key, whatever the number of consumers; some 76 bytes per key. Keys are chosen by others, so the
 * hash is keyed: nobody can make them collide. Sets are shared by all keys that have the same consumers.
 *
 * @module
 */

import { ADDRESS_SIZE } from "../native/abi.generated.ts";
import type { ReadonlyUint8Array } from "../types.ts";

const KEY_WORDS = ADDRESS_SIZE / 4;
const CAPACITY_MIN = 16;
/** Share of the table that may be taken, by keys or by what removed ones left. */
const LOAD_MAX = 0.7;

/** Who wants a key: never changed once it is made, so that keys can share it. */
interface ConsumerSet<T> {
  readonly members: readonly T[];
}

/** Open addressing with linear probing. A free place has no set; a removed key leaves the empty one. */
export class KeyIndex<T> {
  readonly #empty: ConsumerSet<T> = { members: [] };
  readonly #seed = crypto.getRandomValues(new Uint32Array(2));
  /** From a set and one more consumer to the set of both. */
  #joined = new Map<ConsumerSet<T>, Map<T, ConsumerSet<T>>>();
  #keys = new Uint32Array(CAPACITY_MIN * KEY_WORDS);
  #sets: (ConsumerSet<T> | undefined)[] = new Array(CAPACITY_MIN).fill(undefined);
  #taken = 0;
  /** Keys that somebody wants. */
  size = 0;

  // An aligned copy of the key that is being added.
  readonly #bytes = new Uint8Array(ADDRESS_SIZE);
  readonly #words = new Uint32Array(this.#bytes.buffer);

  /** False if it was there already. */
  add(key: ReadonlyUint8Array, consumer: T): boolean {
    this.#bytes.set(key as Uint8Array);
    const at = this.#find(this.#words, 0);
    const set = this.#sets[at];
    if (set?.members.includes(consumer) === true) return false;
    if (set === undefined) {
      this.#keys.set(this.#words, at * KEY_WORDS);
      this.#taken++;
    }
    if (set === undefined || set === this.#empty) this.size++;
    this.#sets[at] = this.#join(set ?? this.#empty, consumer);
    if (this.#taken > this.#sets.length * LOAD_MAX) this.#rebuild();
    return true;
  }

  /**
   * Who wants the key; undefined for nobody.
   * @param words The key is 8 of them, from index `at`.
   */
  get(words: Uint32Array, at: number): readonly T[] | undefined {
    const set = this.#sets[this.#find(words, at)];
    return set === this.#empty ? undefined : set?.members;
  }

  /** Forgets a consumer: looks at every key, which is quicker than to know each consumer's. */
  remove(consumer: T): void {
    const without = new Map<ConsumerSet<T>, ConsumerSet<T>>();
    for (let at = 0; at < this.#sets.length; at++) {
      const set = this.#sets[at];
      if (set === undefined || set === this.#empty) continue;
      let rest = without.get(set);
      if (rest === undefined) {
        const members = set.members.filter((member) => member !== consumer);
        rest = members.length === set.members.length ? set : members.length === 0 ? this.#empty : { members };
        without.set(set, rest);
      }
      this.#sets[at] = rest;
      if (rest === this.#empty) this.size--;
    }
    this.#joined = new Map(); // it may hold the consumer
    if (this.size * 4 < this.#sets.length && this.#sets.length > CAPACITY_MIN) this.#rebuild();
  }

  #join(set: ConsumerSet<T>, consumer: T): ConsumerSet<T> {
    let next = this.#joined.get(set);
    if (next === undefined) this.#joined.set(set, next = new Map());
    let joined = next.get(consumer);
    if (joined === undefined) next.set(consumer, joined = { members: [...set.members, consumer] });
    return joined;
  }

  /** The place of the key, or the free one where it belongs. */
  #find(words: Uint32Array, at: number): number {
    const mask = this.#sets.length - 1;
    const keys = this.#keys;
    let place = halfSipHash(this.#seed[0]!, this.#seed[1]!, words, at) & mask;
    while (this.#sets[place] !== undefined) {
      const key = place * KEY_WORDS;
      let i = 0;
      while (i < KEY_WORDS && keys[key + i] === words[at + i]) i++;
      if (i === KEY_WORDS) return place;
      place = (place + 1) & mask;
    }
    return place;
  }

  /** Makes a table that fits the keys that are left, and is at most half full. */
  #rebuild(): void {
    const [keys, sets] = [this.#keys, this.#sets];
    let capacity = CAPACITY_MIN;
    while (capacity < 2 * this.size) capacity *= 2;
    this.#keys = new Uint32Array(capacity * KEY_WORDS);
    this.#sets = new Array(capacity).fill(undefined);
    this.#taken = this.size;
    for (let from = 0; from < sets.length; from++) {
      const set = sets[from];
      if (set === undefined || set === this.#empty) continue;
      const at = this.#find(keys, from * KEY_WORDS);
      this.#keys.set(keys.subarray(from * KEY_WORDS, (from + 1) * KEY_WORDS), at * KEY_WORDS);
      this.#sets[at] = set;
    }
  }
}

/**
 * HalfSipHash-1-3 of a key's eight words: the keyed hash that Linux uses for its tables. Source: Aumasson and Bernstein,
 * "SipHash: a fast short-input PRF", and their reference for 32-bit words.
 */
function halfSipHash(k0: number, k1: number, words: Uint32Array, at: number): number {
  let v0 = k0 | 0;
  let v1 = k1 | 0;
  let v2 = k0 ^ 0x6c796765;
  let v3 = k1 ^ 0x74656473;
  // Eight words, the length, then three rounds to finish: one round each.
  for (let i = 0; i < KEY_WORDS + 4; i++) {
    const word = i < KEY_WORDS ? words[at + i]! | 0 : i === KEY_WORDS ? ADDRESS_SIZE << 24 : 0;
    if (i === KEY_WORDS + 1) v2 ^= 0xff;
    v3 ^= word;
    v0 = (v0 + v1) | 0;
    v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
    v2 = (v2 << 16) | (v2 >>> 16);
    v0 ^= word;
  }
  return (v1 ^ v3) >>> 0;
}
