/**
 * A set of 32-byte keys in flat memory: 41 to 82 bytes a key, where a Set of strings takes two or three times as much.
 * May touch: its own memory. May not touch: the keys that it is given, which it copies.
 * Why not the runtime's Set: it knows bytes by identity only, and text of a million keys takes a second to make.
 *
 * @module
 */

import { ADDRESS_SIZE } from "../native/abi.generated.ts";
import type { ReadonlyUint8Array } from "../types.ts";

const WORDS = ADDRESS_SIZE / 4;
const CAPACITY_MIN = 8;
/** Of the table's places, at most half are taken: probes stay short. */
const PLACES_PER_KEY = 2;

/** What a set has until its first key: each consumer has several that never get one. */
const NOTHING = new Uint32Array(0);

/** The key at hand as words, and as the bytes of these: one for all sets, since none keeps it beyond a step. */
const atHand = new Uint32Array(WORDS);
const atHandBytes = new Uint8Array(atHand.buffer);

/** Keys, each once. */
export class KeySet {
  /** One behind the other, in any order. */
  #words = NOTHING;
  /** Index of a key + 1, at a place that its hash says, or behind it; 0: none. */
  #table = NOTHING;
  #count = 0;

  get size(): number {
    return this.#count;
  }

  has(key: ReadonlyUint8Array): boolean {
    if (this.#count === 0) return false;
    take(key);
    return this.#table[this.#find()] !== 0;
  }

  /** @param keys 32 bytes each. */
  add(keys: Iterable<ReadonlyUint8Array>): void {
    for (const key of keys) {
      take(key);
      const place = this.#find();
      if (this.#table[place] !== 0 && this.#table.length > 0) continue;
      if (PLACES_PER_KEY * (this.#count + 1) > this.#table.length) {
        this.#grow();
        this.#insert(this.#find());
      } else {
        this.#insert(place);
      }
    }
  }

  delete(keys: Iterable<ReadonlyUint8Array>): void {
    if (this.#count === 0) return;
    for (const key of keys) {
      take(key);
      const place = this.#find();
      const index = this.#table[place]! - 1;
      if (index < 0) continue;
      this.#vacate(place);
      // The last key moves into the hole.
      const last = --this.#count;
      if (index === last) continue;
      atHand.set(this.#words.subarray(WORDS * last, WORDS * (last + 1)));
      this.#table[this.#find()] = index + 1;
      this.#words.copyWithin(WORDS * index, WORDS * last, WORDS * (last + 1));
    }
  }

  /** Views of the keys, in any order: valid until the next change. */
  keys(): Uint8Array[] {
    const bytes = new Uint8Array(this.#words.buffer);
    return Array.from({ length: this.#count }, (_, i) => bytes.subarray(ADDRESS_SIZE * i, ADDRESS_SIZE * (i + 1)));
  }

  /** Where the key at hand stands, or would: a place that is taken by no other. 0 of an empty table. */
  #find(): number {
    const table = this.#table;
    const mask = table.length - 1;
    if (mask < 0) return 0;
    for (let place = hash(atHand, 0) & mask;; place = (place + 1) & mask) {
      const index = table[place]! - 1;
      if (index < 0 || this.#isKey(index)) return place;
    }
  }

  #isKey(index: number): boolean {
    const [words, key, at] = [this.#words, atHand, WORDS * index];
    for (let i = 0; i < WORDS; i++) if (words[at + i] !== key[i]) return false;
    return true;
  }

  #insert(place: number): void {
    if (WORDS * (this.#count + 1) > this.#words.length) {
      const words = new Uint32Array(WORDS * Math.max(CAPACITY_MIN, 2 * this.#count));
      words.set(this.#words);
      this.#words = words;
    }
    this.#words.set(atHand, WORDS * this.#count);
    this.#table[place] = ++this.#count;
  }

  #grow(): void {
    const table = this.#table = new Uint32Array(Math.max(PLACES_PER_KEY * CAPACITY_MIN, 2 * this.#table.length));
    const mask = table.length - 1;
    for (let index = 0; index < this.#count; index++) {
      let place = hash(this.#words, WORDS * index) & mask;
      while (table[place] !== 0) place = (place + 1) & mask;
      table[place] = index + 1;
    }
  }

  /** Keys behind a hole that would not be found any longer move into it. */
  #vacate(place: number): void {
    const table = this.#table;
    const mask = table.length - 1;
    let hole = place;
    for (let next = (hole + 1) & mask; table[next] !== 0; next = (next + 1) & mask) {
      const home = hash(this.#words, WORDS * (table[next]! - 1)) & mask;
      if (((next - home) & mask) < ((next - hole) & mask)) continue;
      table[hole] = table[next]!;
      hole = next;
    }
    table[hole] = 0;
  }
}

function take(key: ReadonlyUint8Array): void {
  atHandBytes.set(key as Uint8Array);
}

/** All words count: keys that are made to look alike in their first bytes are common. */
function hash(words: Uint32Array, at: number): number {
  let value = 0;
  for (let i = 0; i < WORDS; i++) {
    value = Math.imul(value ^ words[at + i]!, 0x9e3779b1);
    value ^= value >>> 15;
  }
  return value >>> 0;
}
