/**
 * The names of one consumer's filters: which bit of a frame's mask stands for which.
 * May touch: its own tables. May not touch: links, rings.
 * Why a bit has a history: a name is gone with the acknowledgement of its removal, frames of before may still be unread,
 * and the bit may already stand for another one.
 *
 * @module
 */

import { FILTERS_PER_CONSUMER_MAX } from "../native/abi.generated.ts";
import type { EncodedFilter } from "../wire/filters.ts";

/** Most names at a time: the first bit is that of subscriptions. */
export const NAMED_FILTERS_MAX: number = FILTERS_PER_CONSUMER_MAX - 1;
/** Longest name, in characters. */
export const FILTER_NAME_MAX = 64;
/** Removed names that are remembered until the reading has passed their end: beyond, the oldest is forgotten. */
const RETIRED_MAX = 1024;
/** Lists of names that are kept. A sender may send any mask. */
const CACHE_MAX = 1024;

const NONE: readonly string[] = Object.freeze([]);

/** A name that is in use. */
export interface FilterEntry {
  readonly name: string;
  readonly bit: number;
  /** Which of its lists stands in the sender's index, as it was asked for last. */
  index: EncodedFilter["index"];
}

/** A name that was removed, and may stand in frames that are not read yet. */
export interface RetiredName {
  readonly bit: number;
  readonly name: string;
  /** The last sequence for which the bit stands for this name. */
  readonly until: bigint;
}

/** What masks are read by. */
export interface NamesState {
  /** What the bits stand for now. */
  readonly bits: readonly (readonly [bit: number, name: string])[];
  /** What they stood for, the newest last. */
  readonly retired: readonly RetiredName[];
}

/** @throws {TypeError} @throws {RangeError} */
export function assertFilterName(name: string): void {
  if (typeof name !== "string") throw new TypeError(`A filter's name must be a string, not ${typeof name}`);
  if (name === "") throw new TypeError('A filter\'s name must not be "": that is the one of subscribe()');
  if (name.length > FILTER_NAME_MAX) {
    throw new RangeError(`The filter's name has ${name.length} characters, the limit is ${FILTER_NAME_MAX}`);
  }
}

/** The names of one consumer. */
export class FilterNames {
  readonly #byName = new Map<string, FilterEntry>();
  /** Names that may stand in masks, those included whose removal was not acknowledged. */
  readonly #byBit: (string | undefined)[] = [""];
  #retired: RetiredName[] = [];
  readonly #narrow = new Map<number, readonly string[]>();
  readonly #wide = new Map<bigint, readonly string[]>();

  /** Called after each change of what masks are read by. */
  onChange: (state: NamesState) => void = () => {};

  /** Takes over what others say. */
  protected adopt({ bits, retired }: NamesState): void {
    this.#byBit.length = 0;
    for (const [bit, name] of bits) this.#byBit[bit] = name;
    this.#retired = [...retired];
    this.#forgetLists();
  }

  /** What masks are read by. */
  get state(): NamesState {
    return { bits: this.bits, retired: this.#retired };
  }

  /** What the bits stand for now. */
  get bits(): (readonly [bit: number, name: string])[] {
    return this.#byBit.flatMap((name, bit) => name === undefined ? [] : [[bit, name] as const]);
  }

  get(name: string): FilterEntry | undefined {
    return this.#byName.get(name);
  }

  /** Names in use. */
  get names(): string[] {
    return [...this.#byName.keys()];
  }

  /** @throws {RangeError} if all bits are taken, or wait for an acknowledgement. */
  add(name: string, index: FilterEntry["index"]): FilterEntry {
    let bit = 1;
    while (bit < FILTERS_PER_CONSUMER_MAX && this.#byBit[bit] !== undefined) bit++;
    if (bit === FILTERS_PER_CONSUMER_MAX) {
      throw new RangeError(`Cannot set filter "${name}": there are ${NAMED_FILTERS_MAX}, remove one and await that`);
    }
    const entry: FilterEntry = { name, bit, index };
    this.#byName.set(name, entry);
    this.#byBit[bit] = name;
    this.#changed();
    return entry;
  }

  /** The name is free; the bit still stands for it, until `retire` or `free`. */
  hide(entry: FilterEntry): void {
    if (this.#byName.get(entry.name) === entry) this.#byName.delete(entry.name);
  }

  /** It was not removed after all. */
  restore(entry: FilterEntry): void {
    if (!this.#byName.has(entry.name)) this.#byName.set(entry.name, entry);
  }

  /** It was removed: frames up to `until` may still bear its bit. */
  retire(entry: FilterEntry, until: bigint): void {
    this.#retired.push({ bit: entry.bit, name: entry.name, until });
    if (this.#retired.length > RETIRED_MAX) this.#retired.shift();
    this.free(entry);
  }

  /** It never was: no frame bears its bit. */
  free(entry: FilterEntry): void {
    this.hide(entry);
    this.#byBit[entry.bit] = undefined;
    this.#changed();
  }

  /** Frames of another connection follow, on which no removed filter was ever in force. */
  forgetRetired(): void {
    this.#retired = [];
  }

  /**
   * The names in a mask, by their bits. The same array for the same mask, as long as no name changes.
   * @param frame Where the mask stands. Frames are asked about in their order.
   */
  in(low: number, high: number, frame: { readonly sequence: bigint }): readonly string[] {
    if (this.#retired.length > 0) {
      const { sequence } = frame;
      this.#retired = this.#retired.filter(({ until }) => until >= sequence);
      if (this.#retired.length > 0) return this.#list(low, high, sequence);
    }
    if (high === 0) {
      let names = this.#narrow.get(low);
      if (names === undefined) keep(this.#narrow, low, names = this.#list(low, 0, undefined));
      return names;
    }
    const mask = (BigInt(high) << 32n) | BigInt(low);
    let names = this.#wide.get(mask);
    if (names === undefined) keep(this.#wide, mask, names = this.#list(low, high, undefined));
    return names;
  }

  /** The names that the bits of a mask have by now. */
  now(low: number, high: number): readonly string[] {
    return this.#list(low, high, undefined);
  }

  #list(low: number, high: number, sequence: bigint | undefined): readonly string[] {
    const names: string[] = [];
    for (let bit = 0; bit < FILTERS_PER_CONSUMER_MAX; bit++) {
      if (((bit < 32 ? low : high) & (1 << (bit & 31))) === 0) continue;
      const retired = sequence === undefined ? undefined : this.#retired.find((each) => each.bit === bit);
      const name = retired?.name ?? this.#byBit[bit];
      if (name !== undefined) names.push(name);
    }
    return names.length === 0 ? NONE : Object.freeze(names);
  }

  #changed(): void {
    this.#forgetLists();
    this.onChange(this.state);
  }

  #forgetLists(): void {
    this.#narrow.clear();
    this.#wide.clear();
  }
}

function keep<Key>(lists: Map<Key, readonly string[]>, key: Key, names: readonly string[]): void {
  if (lists.size >= CACHE_MAX) lists.clear();
  lists.set(key, names);
}
