/**
 * What one subscription has to wait for: its notifications of slots that have not reached its commitment yet.
 * May touch: what it is given. May not touch: feeds, clocks.
 *
 * Of each account a slot's last write is kept, which is what a node tells at these commitments, too.
 *
 * @module
 */

import type { Bank, ChainChange, Level, SlotChain } from "./slot_chain.ts";

/** A notification that waits. */
export interface Held {
  readonly bank: Bank;
  /** Of the same slot, a later one with the same key takes its place. */
  readonly key: unknown;
  /** Bytes that it keeps, about. */
  readonly bytes: number;
  /** Its time has come. */
  release(): void;
}

/** Bounds of what waits. */
export interface HoldLimits {
  readonly bytes: number;
  readonly slots: number;
}

/** Each entry's own cost, about. */
const ENTRY_BYTES = 200;

/** Holds the notifications of one subscription. */
export class Hold {
  readonly #level: Level;
  readonly #chain: SlotChain;
  readonly #limits: HoldLimits;
  readonly #slots = new Map<number, Map<unknown, Held>>();
  #bytes = 0;

  constructor(level: Level, chain: SlotChain, limits: HoldLimits) {
    this.#level = level;
    this.#chain = chain;
    this.#limits = limits;
  }

  /** Bytes that wait. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Releases it now, keeps it, or forgets it. False if there is no room for it. */
  admit(held: Held): boolean {
    switch (this.#chain.judge(held.bank, this.#level)) {
      case "yes":
        held.release();
        return true;
      case "no":
        return true;
      case "not yet":
        return this.#keep(held);
    }
  }

  #keep(held: Held): boolean {
    const { slot } = held.bank;
    let waiting = this.#slots.get(slot);
    if (waiting === undefined) this.#slots.set(slot, waiting = new Map());
    const before = waiting.get(held.key);
    if (before !== undefined) {
      this.#bytes -= before.bytes + ENTRY_BYTES;
      waiting.delete(held.key); // behind what came since
    }
    waiting.set(held.key, held);
    this.#bytes += held.bytes + ENTRY_BYTES;
    return this.#bytes <= this.#limits.bytes;
  }

  /** Applies what became of slots. */
  apply(change: ChainChange): void {
    if (this.#slots.size === 0) return;
    if (change.level >= this.#level) { for (const bank of change.reached) this.#settle(bank, true); }
    for (const bank of change.dead) this.#settle(bank, false);
    const [above, below] = change.settled;
    for (const slot of this.#slots.keys()) if (slot > above && slot < below) this.#forget(slot);
  }

  /** The oldest slot that has waited for too long: the feed does not tell of its commitment. */
  overdue(): number | undefined {
    for (const slot of this.#slots.keys()) if (this.#chain.newest - slot > this.#limits.slots) return slot;
    return undefined;
  }

  /** What is of the bank itself is released or not; of another bank of the slot only what this one excludes is forgotten. */
  #settle({ slot, bankId }: Bank, isReached: boolean): void {
    const waiting = this.#slots.get(slot);
    if (waiting === undefined) return;
    for (const [key, held] of waiting) {
      const isMeant = bankId === 0n || held.bank.bankId === 0n || held.bank.bankId === bankId;
      if (!isReached && !isMeant) continue;
      waiting.delete(key);
      this.#bytes -= held.bytes + ENTRY_BYTES;
      if (isReached && isMeant) held.release();
    }
    if (waiting.size === 0) this.#slots.delete(slot);
  }

  #forget(slot: number): void {
    for (const held of this.#slots.get(slot)!.values()) this.#bytes -= held.bytes + ENTRY_BYTES;
    this.#slots.delete(slot);
  }
}
