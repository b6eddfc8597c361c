/**
 * Whether a cache has all that its sender knows: which snapshots were asked for and have come, what was lost since.
 * May touch: its own books. May not touch: accounts.
 *
 * @module
 */

import type { RemovalReason } from "./account_store.ts";

/** Why a cache can't be trusted to have everything. */
export type Distrust =
  /** There is no filter of accounts yet. */
  | { readonly reason: "nothing-asked" }
  /** The sender is still sending what it knows, for these filters. */
  | { readonly reason: "snapshot"; readonly filters: readonly string[] }
  /** There is no connection: accounts are as they were when it was lost. */
  | { readonly reason: "disconnected" }
  /** Updates did not come, since this consumer did not read fast enough: the sender is asked for all once more. */
  | { readonly reason: "loss"; readonly lost: number }
  /** The sender's own source may have missed updates since the last snapshot. */
  | { readonly reason: "source" }
  /** The sender has forgotten accounts for want of memory, perhaps some of these. */
  | { readonly reason: "evicted"; readonly evicted: number }
  /** The sender keeps no state: only what came since is here. */
  | { readonly reason: "no-state" }
  /** These filters were set without asking for state. */
  | { readonly reason: "state-not-asked"; readonly filters: readonly string[] }
  /** There was no room for some accounts (`maxBytes`). */
  | { readonly reason: "full"; readonly refused: number };

/** Snapshots of one filter that are remembered while a request has no answer: a sender has no more under way, if it means well. */
const EARLY_MAX = 1024;

/** A request for what the sender knows. */
export interface Asked {
  readonly bit: number;
  readonly isState: boolean;
  /** All that the filter matches comes, not only what was added. */
  readonly isWhole: boolean;
  /** Gaps that concerned the filter before that. */
  readonly gapsBefore: number;
  readonly refusedBefore: number;
  /** Undefined while there is no answer. */
  generation: number | undefined;
}

/** What a snapshot-complete says. */
export interface Snapshot {
  readonly generation: number;
  readonly unknownKeys: number;
  readonly evicted: number;
  readonly isCut: boolean;
}

/** What this needs to know, and to have done. */
export interface CompletenessHost {
  readonly hasState: boolean | undefined;
  /** Accounts that found no room. */
  readonly refused: number;
  /** Whether a filter matches nothing, for want of keys. */
  isEmpty(bit: number): boolean;
  /** Whether an account may match a filter no longer by what is written to it. */
  mayBeLeft(bit: number): boolean;
  /** The names of bits. */
  names(low: number, high: number): readonly string[];
  /** A filter has named all that it matches. */
  settle(bit: number, reason: RemovalReason): void;
  /** Sets these filters anew, each with state. */
  refresh(bits: ReadonlySet<number>): void;
}

interface Filter {
  isStateAsked: boolean;
  unknownKeys: number;
  /** Since the last gap it has not been sent whole. */
  isBroken: boolean;
  /** Accounts that had found no room when it was asked for last. */
  refusedBefore: number;
}

/**
 * A *gap* is a place among the frames where some may be missing: a loss, or another connection. A filter that was asked for,
 * with state, after the last gap is whole again when its snapshot is complete.
 */
export class Completeness {
  isConnected = true;

  readonly #host: CompletenessHost;
  /** Filters of accounts that are in force. */
  readonly #filters = new Map<number, Filter>();
  #asked: Asked[] = [];
  /** The generation that made each filter what it is, or removed it. */
  readonly #latest = new Map<number, number>();
  /** Snapshots that are complete while a request for their filter has no answer, which could be theirs. */
  readonly #early = new Map<number, Snapshot[]>();
  /** How many gaps have concerned each filter. */
  readonly #gaps = new Map<number, number>();
  /** Since all was whole. */
  #lost = 0;
  #isLost = false;
  #isReconnected = false;
  #isSourceLoss = false;
  /** A filter has been sent whole since. */
  #hasNews = false;
  #evicted = 0;
  #refusedForgiven = 0;

  constructor(host: CompletenessHost) {
    this.#host = host;
  }

  /** Keys that were asked for by name and that the sender does not know. */
  get unknownKeys(): number {
    let sum = 0;
    for (const { unknownKeys } of this.#filters.values()) sum += unknownKeys;
    return sum;
  }

  get reasons(): Distrust[] {
    const { hasState, refused } = this.#host;
    const reasons: Distrust[] = [];
    const isStateless = hasState === false && this.#filters.size > 0;
    const missing = new Set<number>();
    const without = new Set<number>();
    for (const { bit, isState } of this.#asked) if (isState) missing.add(bit);
    for (const [bit, { isBroken, isStateAsked }] of this.#filters) {
      if (!isStateAsked) without.add(bit);
      else if (isBroken && !this.#host.isEmpty(bit)) missing.add(bit);
    }
    if (this.#filters.size === 0 && missing.size === 0) reasons.push({ reason: "nothing-asked" });
    if (!this.isConnected) reasons.push({ reason: "disconnected" });
    if (isStateless) reasons.push({ reason: "no-state" });
    else if (missing.size > 0) reasons.push({ reason: "snapshot", filters: this.#names(missing) });
    if (without.size > 0) reasons.push({ reason: "state-not-asked", filters: this.#names(without) });
    if (this.#isLost) reasons.push({ reason: "loss", lost: this.#lost });
    if (this.#isSourceLoss) reasons.push({ reason: "source" });
    if (this.#evicted > 0) reasons.push({ reason: "evicted", evicted: this.#evicted });
    if (refused > this.#refusedForgiven) reasons.push({ reason: "full", refused: refused - this.#refusedForgiven });
    return reasons;
  }

  #names(bits: Iterable<number>): readonly string[] {
    let [low, high] = [0, 0];
    for (const bit of bits) {
      if (bit < 32) low |= 1 << bit;
      else high |= 1 << (bit - 32);
    }
    return this.#host.names(low >>> 0, high >>> 0);
  }

  // Asking

  /** @param isWhole All that the filter matches will come; of one that is not there yet it will in any case. */
  ask(bit: number, { isState, isWhole }: { readonly isState: boolean; readonly isWhole: boolean }): Asked {
    const isFirst = !this.#filters.has(bit) && !this.#asked.some((asked) => asked.bit === bit);
    const asked: Asked = {
      bit,
      isState,
      isWhole: isWhole || isFirst,
      gapsBefore: this.#gapsOf(bit),
      refusedBefore: this.#host.refused,
      generation: undefined,
    };
    this.#asked.push(asked);
    return asked;
  }

  acknowledge(asked: Asked, generation: number): void {
    asked.generation = generation;
    const { bit, isState, isWhole, refusedBefore } = asked;
    // Answers do not come in the order of what they answer: a later edit has made another filter of it, or none.
    if (generation < (this.#latest.get(bit) ?? 0)) return this.refuse(asked);
    if (isWhole) this.#latest.set(bit, generation);
    const filter = this.#filters.get(bit);
    if (filter === undefined || isWhole) {
      this.#filters.set(bit, { isStateAsked: isState, unknownKeys: 0, isBroken: false, refusedBefore });
    } else if (!isState) {
      filter.isStateAsked = false;
    }
    const isMissed = asked.gapsBefore < this.#gapsOf(bit);
    if (isMissed) this.#filters.get(bit)!.isBroken = true;
    if (isMissed || !isState) this.#asked = this.#asked.filter((each) => each !== asked);
    this.#takeEarly(bit);
    this.#noteWhole();
  }

  refuse(asked: Asked): void {
    this.#asked = this.#asked.filter((each) => each !== asked);
    this.#takeEarly(asked.bit);
    this.#noteWhole();
  }

  /** A filter has lost keys: with the last of them what is missing of it. */
  onNarrowed(): void {
    this.#noteWhole();
  }

  /** There is no such filter of accounts any longer. */
  forget(bit: number, generation: number): void {
    if (generation < (this.#latest.get(bit) ?? 0)) return;
    this.#latest.set(bit, generation);
    this.#filters.delete(bit);
    this.#asked = this.#asked.filter((asked) => asked.bit !== bit || (asked.generation ?? Infinity) > generation);
    this.#noteWhole();
  }

  // What comes

  /** The sender has forgotten so many accounts since it began. */
  onForgotten(accounts: number): void {
    this.#evicted = Math.max(this.#evicted, accounts);
  }

  /** Its generation says which request it answers; one without an answer yet could be that. */
  onSnapshot(bit: number, { generation, unknownKeys, evicted, isCut }: Snapshot): void {
    this.onForgotten(evicted);
    const early = this.#early.get(bit) ?? [];
    early.push({ generation, unknownKeys, evicted, isCut });
    if (early.length > EARLY_MAX) early.shift(); // a later one answers what an earlier one would have
    this.#early.set(bit, early);
    this.#takeEarly(bit);
  }

  #takeEarly(bit: number): void {
    if (this.#asked.some((asked) => asked.bit === bit && asked.generation === undefined)) return;
    const early = this.#early.get(bit) ?? [];
    this.#early.delete(bit);
    for (const snapshot of early) this.#onComplete(bit, snapshot);
  }

  #onComplete(bit: number, { generation, unknownKeys, isCut }: Snapshot): void {
    const answered = this.#asked.filter((asked) => asked.bit === bit && asked.generation! <= generation);
    if (answered.length === 0) return;
    this.#asked = this.#asked.filter((asked) => !answered.includes(asked));
    const filter = this.#filters.get(bit);
    if (isCut || filter === undefined) return this.#noteWhole(); // what cut it short asks for itself
    // Set anew since: what it was before has come whole, what it is now has not.
    if (generation < (this.#latest.get(bit) ?? 0)) return this.#noteWhole();
    filter.unknownKeys += unknownKeys;
    const whole = answered.findLast(({ isWhole }) => isWhole);
    // What came before a gap says nothing of what is behind it.
    if (whole !== undefined) {
      filter.isBroken = false;
      this.#hasNews = true;
      this.#host.settle(bit, this.#isReconnected ? "unconfirmed" : "left");
    }
    this.#noteWhole();
  }

  /** Once every filter has been sent whole since the last gap, nothing is missing. */
  #noteWhole(): void {
    if (this.#isWaiting || this.#isAnyBroken) return this.#repair();
    this.#isReconnected = false;
    this.#isLost = false;
    this.#lost = 0;
    if (this.#hasNews) this.#isSourceLoss = false;
    this.#hasNews = false;
    // Whoever found no room before the last request of any filter has been named again since.
    let forgiven = Infinity;
    for (const { refusedBefore } of this.#filters.values()) forgiven = Math.min(forgiven, refusedBefore);
    if (forgiven < Infinity) this.#refusedForgiven = Math.max(this.#refusedForgiven, forgiven);
  }

  get #isWaiting(): boolean {
    return this.#asked.some(({ isState }) => isState);
  }

  get #isAnyBroken(): boolean {
    for (const [bit, { isBroken, isStateAsked }] of this.#filters) {
      if (isBroken && isStateAsked && !this.#host.isEmpty(bit)) return true;
    }
    return false;
  }

  /** Asks again for what is broken, unless something is still to come. */
  #repair(): void {
    if (!this.#isAnyBroken || this.#isWaiting || !this.isConnected || this.#host.hasState !== true) return;
    const broken = new Set<number>();
    for (const [bit, { isBroken }] of this.#filters) if (isBroken) broken.add(bit);
    this.#host.refresh(broken);
  }

  // Gaps

  #gapsOf(bit: number): number {
    return this.#gaps.get(bit) ?? 0;
  }

  /** @param isConcerned Of a filter that is not, nothing is missing. */
  #break(isConcerned: (bit: number) => boolean = () => true): void {
    const bits = new Set([...this.#filters.keys(), ...this.#asked.map(({ bit }) => bit)]);
    for (const bit of bits) if (isConcerned(bit)) this.#gaps.set(bit, this.#gapsOf(bit) + 1);
    for (const [bit, filter] of this.#filters) if (isConcerned(bit)) filter.isBroken = !this.#host.isEmpty(bit);
    // A snapshot that the gap may have fallen into says nothing: it is not waited for, and asking anew cuts it short.
    this.#asked = this.#asked.filter(({ bit, generation }) => generation === undefined || !isConcerned(bit));
  }

  /** Updates that matched did not come. */
  onLoss(lost: number): void {
    this.#isLost = true;
    this.#lost += lost;
    this.#break();
    this.#noteWhole(); // of filters without keys nothing is missing
  }

  /** There is another connection: its filters were asked for before this is said, each with all that it matches. */
  onReconnect(): void {
    this.#isReconnected = true;
    this.#evicted = 0; // what this sender has forgotten its snapshots say
    for (const [bit, filter] of this.#filters) {
      // Of one without keys nobody says what it matched before, so who adds some is not enough.
      filter.isBroken = !this.#host.isEmpty(bit) || this.#asked.some((asked) => asked.bit === bit && !asked.isWhole);
      filter.unknownKeys = 0;
    }
    // What was asked for may have been given up meanwhile, for an edit of before, or for a gap before it: nobody waits for it.
    this.#repair();
  }

  /**
   * Another connection of the same sender replays all that was missed; but it does not know what the filters matched before,
   * and so does not say what has left them meanwhile. Those that can be left are asked for again.
   */
  onReplay(): void {
    this.#break((bit) => this.#host.mayBeLeft(bit));
    this.#repair();
  }

  onSourceLoss(): void {
    this.#isSourceLoss = true;
  }

  /** Somebody wants everything again. */
  askAgain(): void {
    this.#break();
    this.#repair();
  }
}
