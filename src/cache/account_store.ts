/**
 * The newest version of each account that came, in memory of its own: what a cache keeps, without what it promises.
 * May touch: the bytes of frames at hand, its arena. May not touch: connections, filters, promises.
 * A write costs one look by a number made of the key's first 64 bits, a comparison of versions, and a copy over the version
 * before; nothing for the collector. Who asks for an account gets a copy of it, the same one until the next write.
 *
 * @module
 */

import {
  AccountBody,
  ADDRESS_SIZE,
  FRAME_FLAG_RESTORED,
  FRAME_FLAG_SIGNATURE,
  FRAME_FLAG_STATE,
  FrameHeader,
  FrameKind,
  PollRecord,
  SIGNATURE_SIZE,
} from "../native/abi.generated.ts";
import { type AccountPlace, AccountView, type FilterLists, type RingMemory } from "../stream/view.ts";
import type { ReadonlyUint8Array } from "../types.ts";
import { Arena, type Chunk } from "./arena.ts";

const BODY = FrameHeader.size;
const FIXED = BODY + AccountBody.size;
const KEY_WORDS = ADDRESS_SIZE / 4;
/** Up to here a loop over words is quicker than `set`, which wants a view made for it, for the collector to take back. */
const LOOP_BYTES = 512;
/** Of a frame's first body word, where the key begins. */
const KEY = (BODY + AccountBody.pubkey) / 4;
const OWNER = (BODY + AccountBody.owner) / 4;
const MASK = FrameHeader.filterMask / 4;
/** The parts of a version, the first counting most: where they stand, and of how many words they are. */
const VERSION = [
  [AccountBody.sourceEpoch, 1],
  [AccountBody.slot, 2],
  [AccountBody.bankId, 2],
  [AccountBody.writeVersion, 2],
].flatMap(([at, words]) => Array.from({ length: words! }, (_, i) => (BODY + at!) / 4 + words! - 1 - i));

/** Why an account is known no longer. */
export type RemovalReason =
  /** It matches no filter of this consumer any more: by a write, or since filters have changed. */
  | "left"
  /** All that was known of it was a dead bank's. */
  | "withdrawn"
  /** After a reconnect the sender did not name it. */
  | "unconfirmed"
  /** There is no room for it. */
  | "full";

/** That it was said to match some filters when so many edits were in force. */
interface StateOf {
  low: number;
  high: number;
  readonly generation: number;
}

/** What is kept of one account, or of one that is only waited for. */
export interface Entry {
  /** Another one with the same number. */
  next: Entry | undefined;
  /** Of one that is waited for, while nothing is known. */
  key: Uint8Array | undefined;
  /** Where it stands; undefined: nothing is known of it. */
  chunk: Chunk | undefined;
  at: number;
  flags: number;
  dataLength: number;
  /** Filters that it matched before a reconnect, or before they were set anew, and that have not confirmed it. */
  doubtLow: number;
  doubtHigh: number;
  /** Counts gaps. Versions of before one are not compared with those behind it. */
  epoch: number;
  /** How many edits of filters were in force when it was written. */
  generation: number;
  /**
   * Filters for whose sake it has come as state since, and how many edits were in force then; and those of before that, and
   * of which no later write says whether they match.
   */
  stateLow: number;
  stateHigh: number;
  stateGeneration: number;
  states: StateOf[] | undefined;
  /** Counts the writes of all accounts. */
  version: number;
  /** What was given out of this version. */
  copy: AccountView | undefined;
  /** Who wants to know of changes. */
  watchers: Set<() => void> | undefined;
}

/** What is told of an entry. */
export interface StoreEvents {
  onRemoved(entry: Entry, key: Uint8Array, reason: RemovalReason): void;
}

/** See the head of this file. */
export class AccountStore {
  /** Accounts of which something is known. */
  size = 0;
  /** Updates that were older than what is known, and so were left out. */
  older = 0;
  /** Accounts that were left out, or removed, for want of room. */
  refused = 0;
  /** How many edits of filters are in force for what comes. */
  generation = 0;

  /** By numbers of 30 bits, which both runtimes keep as they are; larger ones V8 puts into objects and hashes anew. */
  readonly #entries = new Map<number, Entry>();
  /** Odd, and told to nobody: who makes accounts can't make many of one number without making their first 64 bits alike. */
  readonly #salt: readonly [number, number] = [oddWord(), oddWord()];
  readonly #arena: Arena;
  readonly #filters: FilterLists | undefined;
  readonly #clockUs: () => number;
  readonly #events: StoreEvents;
  /** Views in place: one for each chunk that was looked into. */
  readonly #peeks = new WeakMap<Chunk, AccountView>();
  readonly #record = new Uint32Array(PollRecord.size / 4);
  #epoch = 0;
  #version = 0;
  /** Filters that take changes only. */
  #changesLow = 0;
  #changesHigh = 0;
  /** The memory of the frames at hand, by words. */
  #source: Uint8Array | undefined;
  #sourceWords: Uint32Array = new Uint32Array(0);
  readonly #key = new Uint32Array(KEY_WORDS);
  readonly #keyBytes = new Uint8Array(this.#key.buffer);

  /** @param filters What the bits of masks stand for. @param clockUs Microseconds since the Unix epoch. */
  constructor(bytesMax: number, filters: FilterLists | undefined, clockUs: () => number, events: StoreEvents) {
    this.#arena = new Arena(bytesMax);
    this.#filters = filters;
    this.#clockUs = clockUs;
    this.#events = events;
  }

  /** Bytes of memory that is set aside for accounts. */
  get bytes(): number {
    return this.#arena.bytes;
  }

  // What comes

  /** Takes a write, if it is not older than what is known. @returns The entry that has changed. */
  write(view: AccountPlace): Entry | undefined {
    const words = this.#wordsOf(view.memory);
    const from = view.at / 4;
    const entry = this.#find(words, from + KEY);
    if (entry?.chunk === undefined) return this.#put(entry, view, words, from, 0, 0);
    const isState = (view.flags & FRAME_FLAG_STATE) !== 0;
    const own = entry.chunk.words;
    const mask = entry.at / 4 + MASK;
    const isCompared = entry.epoch === this.#epoch && (view.flags & FRAME_FLAG_RESTORED) === 0;
    if (isCompared && isOlder(words, from, entry)) {
      this.older++;
      // That a filter matches it holds all the same: that is of the account, if it comes as state.
      if (isState) {
        own[mask] = own[mask]! | words[from + MASK]!;
        own[mask + 1] = own[mask + 1]! | words[from + MASK + 1]!;
        this.#confirmState(entry, words[from + MASK]!, words[from + MASK + 1]!);
      }
      return undefined;
    }
    // State is sent for the sake of one filter. A write says of all whether they match, but of those that take changes only:
    // it may be none, and what leaves them is said.
    if (isState) return this.#put(entry, view, words, from, own[mask]!, own[mask + 1]!);
    const low = own[mask]! & this.#changesLow & ~words[from + MASK]!;
    const high = own[mask + 1]! & this.#changesHigh & ~words[from + MASK + 1]!;
    return this.#put(entry, view, words, from, low, high);
  }

  /** A filter takes changes only, or may; or it does not. */
  setChangesOnly(bit: number, isSo: boolean): void {
    const [low, high] = maskOf(bit);
    this.#changesLow = isSo ? this.#changesLow | low : this.#changesLow & ~low;
    this.#changesHigh = isSo ? this.#changesHigh | high : this.#changesHigh & ~high;
  }

  /** A write has said of all filters whether they match, but for these, of which holds what was said before. */
  #confirmAll(entry: Entry, low: number, high: number): void {
    entry.states = (low | high) === 0 ? undefined : this.#saidBefore(entry, low, high);
    entry.generation = this.generation;
    entry.stateLow = entry.stateHigh = 0;
  }

  /** When it was said of these filters that they match, where that is not now. */
  #saidBefore(entry: Entry, low: number, high: number): StateOf[] | undefined {
    const { states, stateLow, stateHigh } = entry;
    // As a rule no filter is edited, and no state comes.
    if (states === undefined && (stateLow | stateHigh) === 0 && entry.generation === this.generation) return undefined;
    const said = [...states ?? [], { low: stateLow, high: stateHigh, generation: entry.stateGeneration }]
      .map((one) => ({ ...one, low: one.low & low, high: one.high & high }));
    const rest = { low, high, generation: entry.generation };
    for (const one of said) {
      rest.low &= ~one.low;
      rest.high &= ~one.high;
    }
    const before = [...said, rest].filter((one) => (one.low | one.high) !== 0 && one.generation !== this.generation);
    return before.length === 0 ? undefined : before;
  }

  #confirm(entry: Entry, low: number, high: number): void {
    entry.doubtLow &= ~low;
    entry.doubtHigh &= ~high;
  }

  /** It has come as state, for the sake of these filters. */
  #confirmState(entry: Entry, low: number, high: number): void {
    this.#confirm(entry, low, high);
    if (entry.stateGeneration !== this.generation) {
      if ((entry.stateLow | entry.stateHigh) !== 0) {
        const before = { low: entry.stateLow, high: entry.stateHigh, generation: entry.stateGeneration };
        (entry.states ??= []).push(before);
      }
      entry.stateLow = entry.stateHigh = 0;
      entry.stateGeneration = this.generation;
    }
    entry.stateLow |= low;
    entry.stateHigh |= high;
    if (entry.states === undefined) return;
    for (const state of entry.states) {
      state.low &= ~low;
      state.high &= ~high;
    }
    entry.states = entry.states.filter(({ low, high }) => (low | high) !== 0);
  }

  /** @param low Filters that match it besides those of the frame. */
  #put(
    found: Entry | undefined,
    view: AccountPlace,
    words: Uint32Array,
    from: number,
    low: number,
    high: number,
  ): Entry | undefined {
    const signatureBytes = view.signatureLength === 0 ? 0 : SIGNATURE_SIZE;
    const bytes = FIXED + signatureBytes + view.dataLength;
    let { chunk, at } = found ?? NOWHERE;
    if (chunk === undefined || !this.#arena.fits(chunk, bytes)) {
      const block = this.#arena.allocate(bytes);
      if (block === undefined) {
        this.refused++;
        // What is known is older now than what is not.
        if (found?.chunk !== undefined) this.#remove(found, "full");
        return undefined;
      }
      if (chunk !== undefined) this.#arena.release(chunk, at);
      ({ chunk, at } = block);
    }
    const entry = found ?? this.#make(words[from + KEY]!, words[from + KEY + 1]!);
    if (entry.chunk === undefined) this.size++;
    entry.key = undefined;
    entry.chunk = chunk;
    entry.at = at;
    entry.flags = signatureBytes === 0 ? view.flags & ~FRAME_FLAG_SIGNATURE : view.flags;
    entry.dataLength = view.dataLength;
    entry.epoch = this.#epoch;
    entry.version = ++this.#version;
    entry.copy = undefined;
    const to = at / 4;
    const into = chunk.words;
    copyWords(words, from, into, to, FIXED / 4);
    if (signatureBytes > 0) {
      chunk.bytes.set(view.memory.bytes.subarray(view.signatureAt, view.signatureAt + SIGNATURE_SIZE), at + FIXED);
    }
    this.#copyData(view, words, chunk, at + FIXED + signatureBytes);
    if ((view.flags & FRAME_FLAG_STATE) !== 0) this.#confirmState(entry, into[to + MASK]!, into[to + MASK + 1]!);
    else {
      this.#confirm(entry, into[to + MASK]!, into[to + MASK + 1]!);
      this.#confirmAll(entry, low, high);
    }
    into[to + MASK] = into[to + MASK]! | low;
    into[to + MASK + 1] = into[to + MASK + 1]! | high;
    return entry;
  }

  #copyData(view: AccountPlace, words: Uint32Array, chunk: Chunk, at: number): void {
    const { dataAt, dataLength } = view;
    if (dataLength > LOOP_BYTES || (dataAt & 3) !== 0) {
      chunk.bytes.set(view.memory.bytes.subarray(dataAt, dataAt + dataLength), at);
      return;
    }
    const into = chunk.words;
    const from = dataAt / 4;
    const to = at / 4;
    const whole = dataLength >>> 2;
    copyWords(words, from, into, to, whole);
    for (let i = 4 * whole; i < dataLength; i++) chunk.bytes[at + i] = view.memory.bytes[dataAt + i]!;
  }

  /** An account matches these filters no longer. */
  leave(key: ReadonlyUint8Array, low: number, high: number): void {
    const entry = this.find(key);
    if (entry?.chunk !== undefined) this.#narrow(entry, low, high, "left");
  }

  /** Nothing is known of an account any longer. */
  withdraw(key: ReadonlyUint8Array): void {
    const entry = this.find(key);
    if (entry?.chunk !== undefined) this.#remove(entry, "withdrawn");
  }

  #narrow(entry: Entry, low: number, high: number, reason: RemovalReason): void {
    const { words } = entry.chunk!;
    const at = entry.at / 4 + MASK;
    words[at] = words[at]! & ~low;
    words[at + 1] = words[at + 1]! & ~high;
    entry.doubtLow &= ~low;
    entry.doubtHigh &= ~high;
    if (!isMatched(entry)) this.#remove(entry, reason);
  }

  // What changes for many

  /** Some frames are missing, a rollback perhaps: what comes counts, be it older than what is known. */
  forgetVersions(): void {
    this.#epoch++;
  }

  /**
   * There is another connection: what is known may be the past. It stays, in doubt, until a filter's snapshot is complete;
   * what that did not name goes.
   */
  doubtAll(): void {
    this.#epoch++;
    for (const entry of this.known()) doubt(entry, 0xffffffff, 0xffffffff);
  }

  /** A filter is set anew by the edit of that generation: what it matched before is in doubt. */
  doubtFilter(bit: number, generation: number): void {
    const [low, high] = maskOf(bit);
    for (const entry of this.known()) if (isBefore(entry, low, high, generation)) doubt(entry, low, high);
  }

  /** A filter has named all that it matches: what is still in doubt for its sake does not match it. */
  settle(bit: number, reason: RemovalReason): void {
    const [low, high] = maskOf(bit);
    for (const entry of this.known()) {
      if (((entry.doubtLow & low) | (entry.doubtHigh & high)) === 0) continue;
      entry.doubtLow &= ~low;
      entry.doubtHigh &= ~high;
      if (!isMatched(entry)) this.#remove(entry, reason);
    }
  }

  /**
   * A filter has lost keys, or has gone, by the edit of that generation.
   * @param isGone Says of an account that matched it before, whether it does no longer.
   */
  drop(bit: number, generation: number, isGone: (key: Uint8Array, owner: Uint8Array) => boolean): void {
    const [low, high] = maskOf(bit);
    for (const entry of this.known()) {
      const { words, bytes } = entry.chunk!;
      const at = entry.at / 4 + MASK;
      const isDoubted = ((entry.doubtLow & low) | (entry.doubtHigh & high)) !== 0;
      const isMatch = ((words[at]! & low) | (words[at + 1]! & high)) !== 0;
      // What is in doubt was said before that edit in any case, whenever the account was written.
      if (!isDoubted && !(isMatch && isBefore(entry, low, high, generation))) continue;
      const owner = bytes.subarray(entry.at + 4 * OWNER, entry.at + 4 * OWNER + ADDRESS_SIZE);
      if (isGone(this.keyOf(entry), owner)) this.#narrow(entry, low, high, "left");
    }
  }

  // What is known

  find(key: ReadonlyUint8Array): Entry | undefined {
    this.#keyBytes.set(key as Uint8Array);
    return this.#find(this.#key, 0);
  }

  /** The entry of an account that is waited for, whether something is known of it or not. */
  await(key: ReadonlyUint8Array): Entry {
    const found = this.find(key);
    if (found !== undefined) return found;
    const entry = this.#make(this.#key[0]!, this.#key[1]!);
    entry.key = this.#keyBytes.slice();
    return entry;
  }

  /** Nobody waits for it any longer. */
  forget(entry: Entry): void {
    if (entry.watchers?.size === 0) entry.watchers = undefined;
    if (entry.chunk === undefined && entry.watchers === undefined) this.#unlink(entry);
  }

  /** Every account of which something is known. */
  *known(): Generator<Entry, void, undefined> {
    for (let entry of this.#entries.values()) {
      while (true) {
        const { next } = entry; // the entry may be removed meanwhile
        if (entry.chunk !== undefined) yield entry;
        if (next === undefined) break;
        entry = next;
      }
    }
  }

  keyOf(entry: Entry): Uint8Array {
    if (entry.chunk === undefined) return entry.key!;
    const at = entry.at + 4 * KEY;
    return entry.chunk.bytes.subarray(at, at + ADDRESS_SIZE);
  }

  /** A view that lasts: the same object until the next write. */
  copyOf(entry: Entry): AccountView | undefined {
    const { chunk, at } = entry;
    if (chunk === undefined || entry.copy !== undefined) return entry.copy;
    const bytes = chunk.bytes.slice(at, at + this.#lengthOf(entry));
    const memory = { bytes, data: new DataView(bytes.buffer), filters: this.#filters, clockUs: this.#clockUs };
    return entry.copy = this.#bind(new AccountView(memory), entry, 0);
  }

  /** A view in place, valid until the next change: one for each chunk. */
  peek(entry: Entry): AccountView | undefined {
    const { chunk } = entry;
    if (chunk === undefined) return undefined;
    let view = this.#peeks.get(chunk);
    if (view === undefined) {
      const { bytes, data } = chunk;
      view = new AccountView({ bytes, data, filters: this.#filters, clockUs: this.#clockUs });
      this.#peeks.set(chunk, view);
    }
    return this.#bind(view, entry, entry.at);
  }

  #lengthOf(entry: Entry): number {
    return FIXED + ((entry.flags & FRAME_FLAG_SIGNATURE) === 0 ? 0 : SIGNATURE_SIZE) + entry.dataLength;
  }

  #bind(view: AccountView, entry: Entry, at: number): AccountView {
    const record = this.#record;
    const hasSignature = (entry.flags & FRAME_FLAG_SIGNATURE) !== 0;
    const dataAt = at + FIXED + (hasSignature ? SIGNATURE_SIZE : 0);
    record[PollRecord.frameOffset / 4] = at;
    record[PollRecord.kind / 4] = FrameKind.account | entry.flags << 8 * (PollRecord.flags - PollRecord.kind);
    record[PollRecord.payloadOffset / 4] = dataAt;
    record[PollRecord.payloadLength / 4] = entry.dataLength;
    record[PollRecord.extraOffset / 4] = at + FIXED;
    record[PollRecord.extraLength / 4] = hasSignature ? SIGNATURE_SIZE : 0;
    view.bind(record, 0);
    return view;
  }

  // The table

  #wordsOf(memory: RingMemory): Uint32Array {
    const { bytes } = memory; // a ring's are others once its pool is needed
    if (bytes !== this.#source) {
      const { buffer, byteOffset, byteLength } = bytes;
      this.#source = bytes;
      this.#sourceWords = new Uint32Array(buffer, byteOffset, byteLength >>> 2);
    }
    return this.#sourceWords;
  }

  #numberOf(first: number, second: number): number {
    const [one, other] = this.#salt;
    return (Math.imul(first, one) + Math.imul(second, other)) >>> 2;
  }

  #find(words: Uint32Array, at: number): Entry | undefined {
    let entry = this.#entries.get(this.#numberOf(words[at]!, words[at + 1]!));
    while (entry !== undefined && !hasKey(entry, words, at)) entry = entry.next;
    return entry;
  }

  #make(first: number, second: number): Entry {
    const number = this.#numberOf(first, second);
    const entry: Entry = {
      next: this.#entries.get(number),
      key: undefined,
      chunk: undefined,
      at: 0,
      flags: 0,
      dataLength: 0,
      doubtLow: 0,
      doubtHigh: 0,
      epoch: this.#epoch,
      generation: 0,
      stateLow: 0,
      stateHigh: 0,
      stateGeneration: 0,
      states: undefined,
      version: 0,
      copy: undefined,
      watchers: undefined,
    };
    this.#entries.set(number, entry);
    return entry;
  }

  #remove(entry: Entry, reason: RemovalReason): void {
    const { chunk, at } = entry;
    const key = this.keyOf(entry).slice();
    this.#unlinkUnlessAwaited(entry, key);
    this.#arena.release(chunk!, at);
    entry.chunk = undefined;
    entry.copy = undefined;
    entry.doubtLow = entry.doubtHigh = 0;
    this.size--;
    this.#events.onRemoved(entry, key, reason);
  }

  #unlinkUnlessAwaited(entry: Entry, key: Uint8Array): void {
    if (entry.watchers !== undefined) entry.key = key;
    else this.#unlink(entry);
  }

  #unlink(entry: Entry): void {
    const key = this.keyOf(entry);
    const view = new DataView(key.buffer, key.byteOffset);
    const number = this.#numberOf(view.getUint32(0, true), view.getUint32(4, true));
    let before = this.#entries.get(number);
    if (before === entry) {
      if (entry.next === undefined) this.#entries.delete(number);
      else this.#entries.set(number, entry.next);
      return;
    }
    while (before !== undefined && before.next !== entry) before = before.next;
    if (before !== undefined) before.next = entry.next;
  }
}

const NOWHERE: Pick<Entry, "chunk" | "at"> = { chunk: undefined, at: 0 };

function oddWord(): number {
  return Math.floor(Math.random() * 2 ** 32) | 1;
}

/** Four at a time, which takes a quarter less of either runtime. */
function copyWords(words: Uint32Array, from: number, into: Uint32Array, to: number, count: number): void {
  let i = 0;
  for (; i + 4 <= count; i += 4) {
    into[to + i] = words[from + i]!;
    into[to + i + 1] = words[from + i + 1]!;
    into[to + i + 2] = words[from + i + 2]!;
    into[to + i + 3] = words[from + i + 3]!;
  }
  for (; i < count; i++) into[to + i] = words[from + i]!;
}

function hasKey(entry: Entry, words: Uint32Array, at: number): boolean {
  const { chunk, key } = entry;
  if (chunk === undefined) {
    const view = new DataView(key!.buffer, key!.byteOffset);
    for (let i = 0; i < KEY_WORDS; i++) if (view.getUint32(4 * i, true) !== words[at + i]) return false;
    return true;
  }
  const own = chunk.words;
  const start = entry.at / 4 + KEY;
  for (let i = 0; i < KEY_WORDS; i++) if (own[start + i] !== words[at + i]) return false;
  return true;
}

function isOlder(words: Uint32Array, from: number, { chunk, at }: Entry): boolean {
  const own = chunk!.words;
  const start = at / 4;
  for (let i = 0; i < VERSION.length; i++) {
    const part = VERSION[i]!;
    const theirs = words[from + part]!;
    const ours = own[start + part]!;
    if (theirs !== ours) return theirs < ours;
  }
  return false;
}

/** Whether that it matches a filter was said before an edit of it. */
function isBefore(entry: Entry, low: number, high: number, generation: number): boolean {
  if (((entry.stateLow & low) | (entry.stateHigh & high)) !== 0) return entry.stateGeneration < generation;
  const before = entry.states?.find((state) => ((state.low & low) | (state.high & high)) !== 0);
  return (before?.generation ?? entry.generation) < generation;
}

/** Whether a filter matches it, or is not known not to. */
function isMatched({ chunk, at, doubtLow, doubtHigh }: Entry): boolean {
  const { words } = chunk!;
  return (words[at / 4 + MASK]! | words[at / 4 + MASK + 1]! | doubtLow | doubtHigh) !== 0;
}

function doubt(entry: Entry, low: number, high: number): void {
  const { words } = entry.chunk!;
  const at = entry.at / 4 + MASK;
  entry.doubtLow |= words[at]! & low;
  entry.doubtHigh |= words[at + 1]! & high;
  words[at] = words[at]! & ~low;
  words[at + 1] = words[at + 1]! & ~high;
}

function maskOf(bit: number): [low: number, high: number] {
  return bit < 32 ? [1 << bit >>> 0, 0] : [0, 1 << (bit - 32) >>> 0];
}
