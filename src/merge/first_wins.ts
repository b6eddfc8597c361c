/**
 * Of the same update from several feeds the first is handed out; of an account never an older version after a newer one.
 * May touch: what it remembers, the views at hand. May not touch: consumers.
 * What is the same: of an account the same slot, bank and write version; a transaction by signature and slot; a slot's
 * status by slot, bank and status.
 * Source epochs of different senders count different things, so they are never compared with each other: what a feed has
 * delivered counts as long as that feed's own source epoch lasts.
 *
 * @module
 */

import { AccountBody, FrameHeader } from "../native/abi.generated.ts";
import type {
  AccountPlace,
  AccountView,
  LeftView,
  RollbackView,
  SlotView,
  TransactionView,
  WithdrawnView,
} from "../stream/view.ts";
import { SLOT_STATUSES } from "../types.ts";
import { SeenTable } from "./seen_table.ts";

/** Most feeds: each has a counter in what is remembered of an account. */
export const FEEDS_MAX = 8;
/** Statuses of slots that are remembered: some 500 slots. */
const STATUSES_MAX = 4096;
/** Banks that were taken back. */
const DEAD_MAX = 512;
/** Slots by which all feeds have to be behind what was seen, for that to be another chain's. */
const RESET_SLOTS = 1024;
const COUNT_MAX = 0xffff;
const KEY_WORDS = 8;

/** What is remembered of an account: offsets in words. */
const SLOT = 0;
const BANK = 2;
const WRITE = 4;
const VERSION_WORDS = 6;
const FEED = 6;
const ERA = 7;
const PUBLISHED = 8;
/** Writes of this version that were handed out. */
const DELIVERED = 10;
/** How many of them each feed has brought, two in a word. */
const COUNTS = 11;
const HAS_LEFT = COUNTS + FEEDS_MAX / 2;
const ACCOUNT_WORDS = HAS_LEFT + 1;

/** What becomes of an update. */
export type Verdict = "first" | "duplicate" | "older";

/** How it is decided. */
export interface FirstWinsOptions {
  /** Whether write versions and banks of different feeds count the same things. */
  readonly isVersionShared: boolean;
  /** Accounts and transactions that are remembered at least. */
  readonly accountsMax: number;
  readonly transactionsMax: number;
}

/** See the head of this file. */
export class FirstWins {
  /** Microseconds by which the last duplicate was published after the first. */
  behindUs = 0;
  /** Times that everything was forgotten, since all feeds had begun another chain. */
  resets = 0;

  readonly #isVersionShared: boolean;
  readonly #accounts: SeenTable;
  readonly #transactions: SeenTable;
  readonly #slots = new SeenTable(5, 2, STATUSES_MAX);
  /** Which feeds have said so. */
  readonly #dead = new Map<string, number>();
  /** Source epoch of each feed; -1: it has said none since it has its sender. */
  readonly #epochs = new Float64Array(FEEDS_MAX).fill(-1);
  /** How often the source of each feed has begun anew. */
  readonly #eras = new Uint32Array(FEEDS_MAX);
  /** Newest slot of each feed, by its slot updates; -1: it has none. */
  readonly #newest = new Float64Array(FEEDS_MAX).fill(-1);
  #newestSlot = -1;
  readonly #key = new Uint32Array(18);
  readonly #bytes = new Uint8Array(this.#key.buffer);
  readonly #place = {} as AccountPlace;
  readonly #version = new Uint32Array(VERSION_WORDS);
  readonly #versions = new BigUint64Array(this.#version.buffer);
  readonly #time = new Uint32Array(2);
  readonly #times = new BigUint64Array(this.#time.buffer);

  constructor({ isVersionShared, accountsMax, transactionsMax }: FirstWinsOptions) {
    this.#isVersionShared = isVersionShared;
    this.#accounts = new SeenTable(KEY_WORDS, ACCOUNT_WORDS, accountsMax);
    this.#transactions = new SeenTable(18, 2, transactionsMax);
  }

  /** Accounts and transactions that are remembered. */
  get remembered(): { readonly accounts: number; readonly transactions: number } {
    return { accounts: this.#accounts.size, transactions: this.#transactions.size };
  }

  /** Takes the account, the version and the time of a frame with an account's body. */
  #takeAccount(view: AccountView): void {
    const place = this.#place;
    view.locate(place);
    const { data } = place.memory;
    const body = place.at + FrameHeader.size;
    for (let i = 0; i < KEY_WORDS; i++) this.#key[i] = data.getUint32(body + AccountBody.pubkey + 4 * i, true);
    for (let i = 0; i < 2; i++) {
      this.#version[SLOT + i] = data.getUint32(body + AccountBody.slot + 4 * i, true);
      this.#version[BANK + i] = data.getUint32(body + AccountBody.bankId + 4 * i, true);
      this.#version[WRITE + i] = data.getUint32(body + AccountBody.writeVersion + 4 * i, true);
      this.#time[i] = data.getUint32(place.at + FrameHeader.publishNs + 4 * i, true);
    }
  }

  /** The same of views that are rare. */
  #take(view: LeftView | WithdrawnView): void {
    this.#versions[SLOT / 2] = view.slot;
    this.#versions[BANK / 2] = view.bankId;
    this.#versions[WRITE / 2] = view.writeVersion;
    this.#bytes.set(view.pubkey as Uint8Array);
    this.#times[0] = view.publishNs;
  }

  /** The version at hand against what is remembered. */
  #compare(words: Uint32Array, at: number): number {
    const end = this.#isVersionShared ? WRITE + 2 : SLOT + 2;
    for (let pair = 0; pair < end; pair += 2) {
      for (let i = pair + 1; i >= pair; i--) {
        const theirs = this.#version[i]!;
        const ours = words[at + i]!;
        if (theirs !== ours) return theirs < ours ? -1 : 1;
      }
    }
    return 0;
  }

  /** @param found Where the account at hand stands; -1: it does not. */
  #remember(found: number, feed: number): number {
    const at = found >= 0 ? found : this.#accounts.insert(this.#key, 0);
    const { words } = this.#accounts;
    for (let i = 0; i < VERSION_WORDS; i++) words[at + i] = this.#version[i]!;
    words[at + FEED] = feed;
    words[at + ERA] = this.#eras[feed]!;
    words[at + PUBLISHED] = this.#time[0]!;
    words[at + PUBLISHED + 1] = this.#time[1]!;
    for (let i = DELIVERED; i < ACCOUNT_WORDS; i++) words[at + i] = 0;
    return at;
  }

  /** One write more of the version from a feed. @returns How many it has brought. */
  #count(words: Uint32Array, at: number, feed: number): number {
    const word = at + COUNTS + (feed >> 1);
    const shift = 16 * (feed & 1);
    const count = Math.min(COUNT_MAX, (words[word]! >>> shift & COUNT_MAX) + 1);
    words[word] = words[word]! & ~(COUNT_MAX << shift) | count << shift;
    return count;
  }

  /** Whether what is remembered at that place still counts: its feed's source has not begun anew. */
  #isValid(at: number): boolean {
    const { words } = this.#accounts;
    return at >= 0 && words[at + ERA] === this.#eras[words[at + FEED]!];
  }

  account(feed: number, view: AccountView): Verdict {
    this.#takeAccount(view);
    if (!this.#noteEpoch(feed, view.sourceEpoch)) return "older";
    const at = this.#accounts.find(this.#key, 0);
    const { words } = this.#accounts;
    if (!this.#isValid(at)) return this.#isDeadFor(feed) ? "older" : this.#first(at, feed);
    if (view.isRestored) return this.#isRememberedDead(words, at) ? this.#first(at, feed) : "duplicate";
    const order = this.#compare(words, at);
    if (order < 0) return "older";
    if (order > 0) return this.#isDeadFor(feed) ? "older" : this.#first(at, feed);
    // Without a write version of their own, writes of one version are told apart by their number.
    const isNumbered = this.#isVersionShared && (this.#version[WRITE] !== 0 || this.#version[WRITE + 1] !== 0);
    const count = isNumbered || view.isState ? 0 : this.#count(words, at, feed);
    if (count <= words[at + DELIVERED]!) return this.#duplicate(words, at + PUBLISHED);
    words[at + DELIVERED] = count;
    return "first";
  }

  /** False: it is of a source that is past. */
  #noteEpoch(feed: number, epoch: number): boolean {
    const before = this.#epochs[feed]!;
    if (epoch < before) return false;
    if (before >= 0 && epoch > before) this.#eras[feed] = this.#eras[feed]! + 1;
    this.#epochs[feed] = epoch;
    return true;
  }

  #first(found: number, feed: number): Verdict {
    const at = this.#remember(found, feed);
    const { words } = this.#accounts;
    words[at + DELIVERED] = this.#count(words, at, feed);
    return "first";
  }

  #duplicate(words: Uint32Array, at: number): Verdict {
    const ns = (this.#time[1]! - words[at + 1]!) * 4294967296 + (this.#time[0]! - words[at]!);
    this.behindUs = ns / 1000;
    return "duplicate";
  }

  left(feed: number, view: LeftView): Verdict {
    this.#take(view);
    let at = this.#accounts.find(this.#key, 0);
    const order = this.#isValid(at) ? this.#compare(this.#accounts.words, at) : 1;
    if (order < 0) return "older";
    if (order > 0) {
      if (this.#isDeadFor(feed)) return "older";
      at = this.#remember(at, feed);
    }
    const { words } = this.#accounts;
    if (words[at + HAS_LEFT] === 1) return this.#duplicate(words, at + PUBLISHED);
    words[at + HAS_LEFT] = 1;
    return "first";
  }

  withdrawn(feed: number, view: WithdrawnView): Verdict {
    this.#take(view);
    const at = this.#accounts.find(this.#key, 0);
    if (this.#isValid(at) && !this.#isRememberedDead(this.#accounts.words, at)) return "duplicate";
    // What comes next is newer than nothing.
    this.#version.fill(0);
    this.#remember(at, feed);
    return "first";
  }

  rollback(feed: number, { slot, bankId }: RollbackView): Verdict {
    const bank = `${slot} ${bankId}`;
    const before = this.#dead.get(bank);
    this.#dead.set(bank, (before ?? 0) | 1 << feed);
    if (before !== undefined) return "duplicate";
    if (this.#dead.size > DEAD_MAX) this.#dead.delete(this.#dead.keys().next().value!);
    return "first";
  }

  /** Whether the version at hand is of a bank that another feed has taken back, and this one has not yet. */
  #isDeadFor(feed: number): boolean {
    if (this.#dead.size === 0) return false;
    const by = this.#dead.get(`${this.#versions[SLOT / 2]} ${this.#versions[BANK / 2]}`);
    return by !== undefined && (by & 1 << feed) === 0;
  }

  #isRememberedDead(words: Uint32Array, at: number): boolean {
    if (this.#dead.size === 0) return false;
    const u64 = (i: number) => BigInt(words[at + i + 1]!) << 32n | BigInt(words[at + i]!);
    return this.#dead.has(`${u64(SLOT)} ${u64(BANK)}`) || this.#dead.has(`${u64(SLOT)} 0`);
  }

  transaction(view: TransactionView): Verdict {
    this.#bytes.set(view.signature as Uint8Array);
    this.#versions[SLOT / 2] = view.slot;
    this.#key[16] = this.#version[SLOT]!;
    this.#key[17] = this.#version[SLOT + 1]!;
    this.#times[0] = view.publishNs;
    return this.#once(this.#transactions);
  }

  slot(feed: number, view: SlotView): Verdict {
    const { slotNumber } = view;
    this.#newest[feed] = slotNumber;
    if (slotNumber > this.#newestSlot) this.#newestSlot = slotNumber;
    else if (slotNumber < this.#newestSlot - RESET_SLOTS) this.#noteReset();
    this.#versions[SLOT / 2] = view.slot;
    this.#versions[BANK / 2] = view.bankId;
    this.#key.set(this.#version.subarray(0, 4));
    this.#key[4] = SLOT_STATUSES.indexOf(view.status);
    this.#times[0] = view.publishNs;
    return this.#once(this.#slots);
  }

  /** By the key and the time at hand. */
  #once(table: SeenTable): Verdict {
    const at = table.find(this.#key, 0);
    if (at >= 0) return this.#duplicate(table.words, at);
    const inserted = table.insert(this.#key, 0);
    table.words.set(this.#time, inserted);
    return "first";
  }

  /** A feed has no connection any longer: it does not keep the others' chain from being the chain. */
  forgetFeed(feed: number): void {
    this.#newest[feed] = -1;
    this.#epochs[feed] = -1; // its next sender's may count anew
  }

  /** All feeds that are there say that the chain is far behind what was seen: it is another one. */
  #noteReset(): void {
    if (this.#newest.some((slot) => slot >= this.#newestSlot - RESET_SLOTS)) return;
    this.resets++;
    this.#accounts.clear();
    this.#transactions.clear();
    this.#slots.clear();
    this.#dead.clear();
    this.#newestSlot = this.#newest.reduce((newest, slot) => Math.max(newest, slot));
  }

  /** Slots that a feed is behind the newest one of all. */
  slotsBehind(feed: number): number | undefined {
    const newest = this.#newest[feed]!;
    return newest < 0 ? undefined : this.#newestSlot - newest;
  }
}
