/**
 * What became of slots: which are confirmed, which are finalized, which were left on a fork. Told by slot updates alone.
 * May touch: numbers. May not touch: subscriptions, consumers.
 *
 * A slot that reaches a status has its ancestors reach it too, whether or not the feed says so of each: validators vote for
 * a chain, and a node that catches up skips statuses.
 *
 * @module
 */

import type { SlotStatus } from "../types.ts";

/** kit's commitments, as numbers that grow. */
export const LEVEL = { processed: 0, confirmed: 1, finalized: 2 } as const;
/** One of them. */
export type Level = (typeof LEVEL)[keyof typeof LEVEL];

/** A slot and which bank of it; 0 if that is not known. */
export interface Bank {
  readonly slot: number;
  readonly bankId: bigint;
}

/** What a slot update says, as numbers. */
export interface SlotNews extends Bank {
  readonly parent: number;
  readonly status: SlotStatus;
}

/** What follows from it for those who wait. */
export interface ChainChange {
  /** These have reached `level`, the oldest first. */
  readonly reached: readonly Bank[];
  readonly level: Level;
  /** These will never: a fork died. */
  readonly dead: readonly Bank[];
  /** Neither will other slots between these two, which are not meant themselves: another chain is final. */
  readonly settled: readonly [above: number, below: number];
}

interface Record extends Bank {
  parent: number;
  bankId: bigint;
  level: Level;
}

/** Slots of the newest root's past that are remembered, for updates that come late. */
const ROOTED_MAX = 512;
/** Slots that are followed at most: those that no root ends are forgotten, the oldest first. */
const FOLLOWED_MAX = 8192;
const NOTHING: readonly Bank[] = [];
const NONE_SETTLED = [0, 0] as const;

/** Whether two banks may be the same. */
function isSameBank(a: bigint, b: bigint): boolean {
  return a === b || a === 0n || b === 0n;
}

/** Follows the slots of one feed. */
export class SlotChain {
  readonly #slots = new Map<number, Record>();
  /** The newest slots of the final chain, in the order in which they became so. */
  readonly #rooted = new Map<number, bigint>();
  #newest = -1;
  #root = -1;

  /** The newest slot that was heard of; -1 before the first. */
  get newest(): number {
    return this.#newest;
  }

  /** The newest finalized slot; -1 before the first. */
  get root(): number {
    return this.#root;
  }

  /** Takes a slot update in. */
  note(news: SlotNews): ChainChange {
    if (news.slot > this.#newest) this.#newest = news.slot;
    if (news.status === "dead") return this.#die(news);
    const record = this.#follow(news);
    switch (news.status) {
      case "confirmed":
        return this.#raise(record, LEVEL.confirmed);
      case "finalized":
        return this.#raise(record, LEVEL.finalized);
      default:
        return { reached: NOTHING, level: LEVEL.processed, dead: NOTHING, settled: NONE_SETTLED };
    }
  }

  /** Whether an update of a bank has reached a level ("yes"), may do so yet, or never will ("no"). */
  judge({ slot, bankId }: Bank, level: Level): "yes" | "not yet" | "no" {
    if (level === LEVEL.processed) return "yes";
    const record = this.#slots.get(slot);
    if (record !== undefined && record.level >= level) return isSameBank(record.bankId, bankId) ? "yes" : "no";
    if (slot > this.#root) return "not yet";
    const rooted = this.#rooted.get(slot);
    if (rooted !== undefined) return isSameBank(rooted, bankId) ? "yes" : "no";
    const [oldest = -1] = this.#rooted.keys();
    // Older than what is remembered: what a source loads at its start is of such slots, and final.
    return slot < oldest ? "yes" : "no";
  }

  #follow({ slot, parent, bankId }: SlotNews): Record {
    let record = this.#slots.get(slot);
    if (record === undefined) {
      record = { slot, parent: -1, bankId: 0n, level: LEVEL.processed };
      this.#slots.set(slot, record);
      if (this.#slots.size > FOLLOWED_MAX) this.#slots.delete(this.#slots.keys().next().value!);
    }
    if (parent < slot) record.parent = parent;
    if (bankId !== 0n) record.bankId = bankId;
    return record;
  }

  #die({ slot, bankId }: SlotNews): ChainChange {
    const record = this.#slots.get(slot);
    if (record !== undefined && isSameBank(record.bankId, bankId)) this.#slots.delete(slot);
    return { reached: NOTHING, level: LEVEL.processed, dead: [{ slot, bankId }], settled: NONE_SETTLED };
  }

  #raise(tip: Record, level: Level): ChainChange {
    const reached: Record[] = [];
    let at: Record | undefined = tip;
    let below = tip.slot;
    while (at !== undefined && at.level < level) {
      at.level = level;
      reached.push(at);
      below = at.parent;
      at = this.#slots.get(at.parent);
    }
    reached.reverse();
    if (level !== LEVEL.finalized || reached.length === 0) {
      return { reached, level, dead: NOTHING, settled: NONE_SETTLED };
    }
    this.#root = Math.max(this.#root, tip.slot);
    this.#remember(reached);
    return { reached, level, dead: NOTHING, settled: [below, tip.slot] };
  }

  #remember(reached: readonly Record[]): void {
    for (const { slot, bankId } of reached) {
      this.#rooted.set(slot, bankId);
      if (this.#rooted.size > ROOTED_MAX) this.#rooted.delete(this.#rooted.keys().next().value!);
    }
    for (const slot of this.#slots.keys()) if (slot < this.#root) this.#slots.delete(slot);
  }
}
