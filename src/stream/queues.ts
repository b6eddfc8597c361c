/**
 * Copies of updates by kind, for callers that ask for one kind at a time (the original's three queues).
 * May touch: its own lists. Bounded: the oldest of a kind that nobody asks for go, and are counted.
 *
 * @module
 */

import type { AccountCopy, SlotCopy, TransactionCopy, UpdateView } from "./view.ts";

/** The copy of each kind. */
export interface Copies {
  account: AccountCopy;
  transaction: TransactionCopy;
  slot: SlotCopy;
}

/** A kind that has a queue. */
export type QueueKind = keyof Copies;

const KINDS: readonly QueueKind[] = ["account", "transaction", "slot"];

/** Copies of each kind that are kept, as the original does. */
const QUEUE_MAX = 2048;

/** Three queues. */
export class CopyQueues {
  readonly #queues: { [Kind in QueueKind]: Copies[Kind][] } = { account: [], transaction: [], slot: [] };
  readonly #discarded = { account: 0, transaction: 0, slot: 0 };
  /** Copies of each kind, the newest ones, whose bytes were not given back since. */
  readonly #unconfirmed = { account: 0, transaction: 0, slot: 0 };

  /** Copies that nobody asked for in time. */
  get discarded(): { updates: number; transactions: number; slots: number } {
    const { account, transaction, slot } = this.#discarded;
    return { updates: account, transactions: transaction, slots: slot };
  }

  isEmpty(kind: QueueKind): boolean {
    return this.#queues[kind].length === 0;
  }

  /** Copies an update into the queue of its kind. Marks have none: the consumer counts the losses. */
  keep(update: UpdateView): void {
    if (update.kind !== "account" && update.kind !== "transaction" && update.kind !== "slot") return;
    const queue: unknown[] = this.#queues[update.kind];
    queue.push(update.copy());
    this.#unconfirmed[update.kind]++;
    if (queue.length <= QUEUE_MAX) return;
    queue.shift();
    this.#discarded[update.kind]++;
  }

  /** What was copied was still what the sender had written. */
  confirm(): void {
    for (const kind of KINDS) this.#unconfirmed[kind] = 0;
  }

  /** It may have been overwritten while it was copied. */
  disown(): void {
    for (const kind of KINDS) {
      const queue = this.#queues[kind];
      queue.length = Math.max(0, queue.length - this.#unconfirmed[kind]);
    }
    this.confirm();
  }

  shift<Kind extends QueueKind>(kind: Kind): Copies[Kind] | undefined {
    return this.#queues[kind].shift();
  }
}
