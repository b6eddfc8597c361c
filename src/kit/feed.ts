/**
 * One consumer, read on behalf of everybody who listens through kit's interfaces: the loop, and who gets what.
 * May touch: the consumer, its filters whose names begin with "@kit/". May not touch: kit's requests, `@solana/kit`.
 *
 * @module
 */

import type { Consumer } from "../stream/consumer.ts";
import type { AccountView, RollbackView, SlotView, TransactionView, UpdateView } from "../stream/view.ts";
import { QlasterError } from "../errors.ts";
import type { Address, EndReason, ReadonlyUint8Array } from "../types.ts";
import type { NamedFilter } from "../wire/filters.ts";
import { AddressTable, KeyMap } from "./addresses.ts";
import { closedError } from "./errors.ts";
import { type ChainChange, SlotChain } from "./slot_chain.ts";

/** What is needed of a consumer. */
export type FeedConsumer = Pick<
  Consumer,
  "path" | "batches" | "setFilter" | "editFilter" | "removeFilter" | "ended"
>;

/** What a listener is told. */
export interface FeedListener {
  onAccount?(update: AccountView): void;
  onTransaction?(update: TransactionView): void;
  /** @param change What follows for updates of this slot and others. */
  onSlot?(update: SlotView, change: ChainChange): void;
  /** A slot is off the chain, or others are on it. Called before `onSlot`. */
  onChain?(change: ChainChange): void;
  onLoss?(lost: number): void;
  /** Nothing more comes. Undefined: since the consumer was closed here. */
  onEnd(error: unknown): void;
}

/** What a listener wants besides slots: updates of one account, those of a filter, none, or whatever comes. */
export type Interest =
  | { readonly account: Address }
  | { readonly filter: NamedFilter; readonly id: string }
  | "slots"
  | "all";

interface SharedFilter {
  readonly name: string;
  readonly listeners: Set<FeedListener>;
  readonly inForce: Promise<unknown>;
}

/** A listener that has been told to the sender, or will be. */
export interface Listening {
  /** Resolves when the sender knows. @throws {QlasterError} What filters throw; the feed's own end. */
  readonly inForce: Promise<void>;
  /** Ends it, also before that. May be called twice. */
  leave(): void;
}

const PREFIX = "@kit/";
const ACCOUNTS = `${PREFIX}accounts`;
const SLOTS = `${PREFIX}slots`;
const NO_NAMES: readonly string[] = [];
const NO_LISTENERS: ReadonlySet<FeedListener> = new Set();
const feeds = new WeakMap<FeedConsumer, Feed>();

/** Calls what is a user's: what it throws is an uncaught error of the process, and no business of the loop's. */
function guarded(call: () => void): void {
  try {
    call();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

/** The reading of one consumer. */
export class Feed {
  #chain = new SlotChain();
  /** The keys that somebody has asked for. */
  readonly addresses = new AddressTable();

  readonly #consumer: FeedConsumer;
  readonly #listeners = new Set<FeedListener>();
  readonly #byAccount = new KeyMap<Set<FeedListener>>();
  readonly #filters = new Map<string, SharedFilter>();
  readonly #byName = new Map<string, ReadonlySet<FeedListener>>();
  readonly #all = new Set<FeedListener>();
  #reading: Promise<void> | undefined;
  #slotFilter: Promise<unknown> | undefined;
  /** Filters that are being removed: they have their place until the sender has said so. */
  readonly #removals = new Set<Promise<unknown>>();
  #hasAccountFilter = false;
  #lastName = 0;
  #end: { readonly error: unknown } | undefined;

  private constructor(consumer: FeedConsumer) {
    this.#consumer = consumer;
  }

  /** Everybody who listens to a consumer shares its reading. */
  static of(consumer: FeedConsumer): Feed {
    let feed = feeds.get(consumer);
    if (feed === undefined) feeds.set(consumer, feed = new Feed(consumer));
    return feed;
  }

  /** What became of slots, since the connection began. */
  get chain(): SlotChain {
    return this.#chain;
  }

  get path(): string {
    return this.#consumer.path;
  }

  /**
   * Listens from now on. What comes before the sender knows may be told already.
   * @throws {QlasterError} The feed's own end.
   */
  listen(listener: FeedListener, interest: Interest): Listening {
    if (this.#end !== undefined) throw this.#endError ?? this.#closedHere();
    this.#reading ??= this.#read();
    this.#listeners.add(listener);
    const { inForce, call } = this.#join(listener, interest);
    const leave = () => {
      if (this.#listeners.delete(listener)) call();
    };
    const known = inForce.then(() => {}, (error) => {
      leave();
      throw this.#endError ?? error;
    });
    return { inForce: known, leave };
  }

  get #endError(): unknown {
    return this.#end?.error;
  }

  #closedHere(): unknown {
    return closedError(new QlasterError("CONSUMER_CLOSED", `Cannot listen at "${this.path}"`));
  }

  #join(listener: FeedListener, interest: Interest): { inForce: Promise<unknown>; call: () => void } {
    if (interest === "all") {
      this.#all.add(listener);
      return { inForce: Promise.resolve(), call: () => void this.#all.delete(listener) };
    }
    const slots = this.#slotFilter ??= this.#consumer.setFilter(SLOTS, { slots: true });
    slots.catch(() => {
      if (this.#slotFilter === slots) this.#slotFilter = undefined; // the next who listens asks again
    });
    const { inForce, call } = interest === "slots"
      ? { inForce: undefined, call: () => {} }
      : "account" in interest
      ? this.#joinAccount(listener, interest.account)
      : this.#joinFilter(listener, interest);
    return { inForce: Promise.all([slots, inForce]), call };
  }

  #joinAccount(listener: FeedListener, address: Address) {
    const key = this.addresses.add(address);
    let listeners = this.#byAccount.get(key);
    if (listeners === undefined) this.#byAccount.set(key, listeners = new Set());
    listeners.add(listener);
    const call = () => {
      listeners.delete(listener);
      if (listeners.size > 0 || this.#byAccount.get(key) !== listeners) return;
      this.#byAccount.delete(key);
      this.addresses.delete(address);
      void this.#consumer.editFilter(ACCOUNTS, { remove: [key] }).catch(() => {}); // who is gone wants nothing
    };
    return { inForce: this.#addAccount(key), call };
  }

  /** Edits are in force in their order: who adds a key that is there already is answered after who was the first. */
  async #addAccount(key: ReadonlyUint8Array): Promise<void> {
    if (this.#hasAccountFilter) return void await this.#consumer.editFilter(ACCOUNTS, { add: [key] });
    this.#hasAccountFilter = true;
    try {
      await this.#consumer.setFilter(ACCOUNTS, { accounts: { accounts: [key] } });
    } catch (error) {
      this.#hasAccountFilter = false;
      throw error;
    }
  }

  #joinFilter(listener: FeedListener, { filter, id }: { filter: NamedFilter; id: string }) {
    let shared = this.#filters.get(id);
    if (shared === undefined) {
      const name = `${PREFIX}${++this.#lastName}`;
      const listeners = new Set<FeedListener>();
      const isWanted = () => this.#byName.get(name) === listeners;
      this.#byName.set(name, listeners);
      shared = { name, listeners, inForce: this.#setFilter(name, filter, isWanted) };
      this.#filters.set(id, shared);
    }
    const { name, listeners, inForce } = shared;
    listeners.add(listener);
    const call = () => {
      listeners.delete(listener);
      if (listeners.size > 0 || this.#filters.get(id) !== shared) return;
      this.#filters.delete(id);
      this.#byName.delete(name);
      this.#removeFilter(name);
    };
    return { inForce, call };
  }

  /** Waits for a place, as long as there are filters that leave one. */
  async #setFilter(name: string, filter: NamedFilter, isWanted: () => boolean): Promise<void> {
    while (isWanted()) {
      try {
        return void await this.#consumer.setFilter(name, filter);
      } catch (error) {
        if (!(error instanceof RangeError) || this.#removals.size === 0) throw error;
        await Promise.race(this.#removals);
      }
    }
  }

  #removeFilter(name: string): void {
    const removal = this.#consumer.removeFilter(name)
      .catch(() => {}) // who is gone wants nothing
      .finally(() => this.#removals.delete(removal));
    this.#removals.add(removal);
  }

  // Reading

  async #read(): Promise<void> {
    try {
      for await (const batch of this.#consumer.batches()) for (const update of batch) this.#take(update);
    } catch (error) {
      return this.#finish(closedError(error));
    }
    const { ended, path } = this.#consumer;
    if (ended === undefined || ended.reason === "closed") return this.#finish(undefined);
    const { reason } = ended;
    this.#finish(closedError(new QlasterError("CONNECTION_LOST", `The sender at "${path}" has closed`, { reason })));
  }

  #take(update: UpdateView): void {
    if (update.lost > 0) { for (const listener of this.#listeners) guarded(() => listener.onLoss?.(update.lost)); }
    switch (update.kind) {
      case "account":
        return this.#onAccount(update);
      case "transaction":
        return this.#tell(update.filters, (listener) => listener.onTransaction?.(update));
      case "slot":
        return this.#onSlot(update);
      case "connection":
        if (update.event.type === "lost") this.#onLost(update.event.reason);
        return;
      case "rollback":
        return this.#onRollback(update);
      default:
        return; // marks: they are for who set the filters
    }
  }

  #onAccount(update: AccountView): void {
    // Not writes, but what a sender remembers: sent for its own sake, or since what came after was on a dead fork.
    const isWrite = !update.isState && !update.isRestored;
    if (isWrite) {
      const listeners = this.#byAccount.get(update.pubkey) ?? NO_LISTENERS;
      for (const listener of listeners) guarded(() => listener.onAccount?.(update));
    }
    this.#tell(isWrite ? update.filters : NO_NAMES, (listener) => listener.onAccount?.(update));
  }

  #tell(names: readonly string[], call: (listener: FeedListener) => void): void {
    for (const name of names) {
      const listeners = this.#byName.get(name) ?? NO_LISTENERS;
      for (const listener of listeners) guarded(() => call(listener));
    }
    for (const listener of this.#all) guarded(() => call(listener));
  }

  #onSlot(update: SlotView): void {
    const change = this.#chain.note({
      slot: update.slotNumber,
      parent: Number(update.parent),
      bankId: update.bankId,
      status: update.status,
    });
    for (const listener of this.#listeners) {
      guarded(() => listener.onChain?.(change));
      guarded(() => listener.onSlot?.(update, change));
    }
  }

  /** A bank that the sender has given up: its updates are not to be waited for. */
  #onRollback({ slotNumber: slot, bankId }: RollbackView): void {
    const change = this.#chain.note({ slot, parent: -1, bankId, status: "dead" });
    for (const listener of this.#listeners) guarded(() => listener.onChain?.(change));
  }

  /**
   * The consumer goes on with another connection, but what was published meanwhile is missing, and kit's interfaces have no
   * word for that: whoever listens is told of an end, and may listen anew.
   */
  #onLost(reason: EndReason): void {
    this.#chain = new SlotChain();
    this.#slotFilter = undefined; // asked for again, so that who listens anew waits for the next sender
    this.#endAll(closedError(new QlasterError("CONNECTION_LOST", `Lost the sender at "${this.path}"`, { reason })));
  }

  #finish(error: unknown): void {
    this.#end = { error };
    this.#endAll(error);
  }

  #endAll(error: unknown): void {
    for (const listener of [...this.#listeners]) guarded(() => listener.onEnd(error));
    this.#listeners.clear();
    this.#all.clear();
  }
}
