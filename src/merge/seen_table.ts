/**
 * What was seen lately: keys of a fixed number of words, each with a few words more, up to a number of them.
 * May touch: its own memory. May not touch: what the words mean.
 * How it forgets: two tables of half the size. When the younger is full it becomes the older, and what stood in that is
 * forgotten, but for what was looked up meanwhile, which moves on. So at least the latest half is always there.
 *
 * @module
 */

/** Of a table's places, at most half are taken: probes stay short. */
const PLACES_PER_KEY = 2;

interface Generation {
  /** Keys and values, one behind the other. */
  readonly words: Uint32Array;
  /** Index + 1 of what stands at a place, or 0. */
  readonly table: Uint32Array;
  count: number;
}

/** See the head of this file. */
export class SeenTable {
  readonly #keyWords: number;
  readonly #valueWords: number;
  readonly #countMax: number;
  readonly #seed = crypto.getRandomValues(new Uint32Array(1))[0]!;
  readonly #value: Uint32Array;
  #young: Generation;
  #old: Generation;

  /** @param countMax How many are remembered at least. Twice as many have room. */
  constructor(keyWords: number, valueWords: number, countMax: number) {
    this.#keyWords = keyWords;
    this.#valueWords = valueWords;
    this.#countMax = countMax;
    this.#value = new Uint32Array(valueWords);
    this.#young = this.#generation();
    this.#old = this.#generation();
  }

  #generation(): Generation {
    const places = 2 ** Math.ceil(Math.log2(PLACES_PER_KEY * this.#countMax));
    return {
      words: new Uint32Array(this.#countMax * (this.#keyWords + this.#valueWords)),
      table: new Uint32Array(places),
      count: 0,
    };
  }

  /** Where values stand that `find` and `insert` have found: until the next call. */
  get words(): Uint32Array {
    return this.#young.words;
  }

  /** How many are remembered. */
  get size(): number {
    return this.#young.count + this.#old.count;
  }

  /** @returns Where the key's value begins in `words`; -1 if it is not there. */
  find(key: Uint32Array, at: number): number {
    const hash = this.#hash(key, at);
    const index = this.#indexIn(this.#young, hash, key, at);
    if (index >= 0) return this.#valueAt(index);
    const before = this.#indexIn(this.#old, hash, key, at);
    if (before < 0) return -1;
    // It will be forgotten with the older table: the newer one has it from now on. Which may be where it stands, by then.
    const from = this.#valueAt(before);
    for (let i = 0; i < this.#valueWords; i++) this.#value[i] = this.#old.words[from + i]!;
    const to = this.#insert(hash, key, at);
    this.words.set(this.#value, to);
    return to;
  }

  /** Remembers a key that is not there. @returns Where its value begins in `words`: zeros. */
  insert(key: Uint32Array, at: number): number {
    return this.#insert(this.#hash(key, at), key, at);
  }

  clear(): void {
    for (const generation of [this.#young, this.#old]) {
      generation.table.fill(0);
      generation.count = 0;
    }
  }

  #insert(hash: number, key: Uint32Array, at: number): number {
    if (this.#young.count === this.#countMax) {
      const { table } = this.#old;
      table.fill(0);
      this.#old.count = 0;
      [this.#young, this.#old] = [this.#old, this.#young];
    }
    const { words, table } = this.#young;
    const mask = table.length - 1;
    let place = hash & mask;
    while (table[place] !== 0) place = (place + 1) & mask;
    const index = this.#young.count++;
    table[place] = index + 1;
    const start = index * (this.#keyWords + this.#valueWords);
    for (let i = 0; i < this.#keyWords; i++) words[start + i] = key[at + i]!;
    words.fill(0, start + this.#keyWords, start + this.#keyWords + this.#valueWords);
    return start + this.#keyWords;
  }

  #valueAt(index: number): number {
    return index * (this.#keyWords + this.#valueWords) + this.#keyWords;
  }

  #indexIn({ words, table }: Generation, hash: number, key: Uint32Array, at: number): number {
    const mask = table.length - 1;
    const size = this.#keyWords + this.#valueWords;
    probe: for (let place = hash & mask;; place = (place + 1) & mask) {
      const index = table[place]! - 1;
      if (index < 0) return -1;
      const start = index * size;
      for (let i = 0; i < this.#keyWords; i++) if (words[start + i] !== key[at + i]) continue probe;
      return index;
    }
  }

  /** Seeded, since keys are chosen by others. Murmur3's steps. */
  #hash(key: Uint32Array, at: number): number {
    let hash = this.#seed;
    for (let i = 0; i < this.#keyWords; i++) {
      let word = Math.imul(key[at + i]!, 0xcc9e2d51);
      word = Math.imul(word << 15 | word >>> 17, 0x1b873593);
      hash ^= word;
      hash = Math.imul(hash << 13 | hash >>> 19, 5) + 0xe6546b64 | 0;
    }
    hash = Math.imul(hash ^ hash >>> 16, 0x85ebca6b);
    hash = Math.imul(hash ^ hash >>> 13, 0xc2b2ae35);
    return (hash ^ hash >>> 16) >>> 0;
  }
}
