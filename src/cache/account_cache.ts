/**
 * A consumer's accounts: the newest version of each that its filters match, complete as far as the sender knows, or with
 * the reason why it is not.
 * May touch: its store, what its consumer hands it. May not touch: rings, links; it asks and reads through its host.
 * The order of things: frames are applied in their order, edits of filters where they take effect among the frames, also if
 * their acknowledgement comes before that or after it.
 *
 * @module
 */

import { addressFromBytes, bytesFromAddressLike } from "../address.ts";
import { FilterKind, FilterProgram } from "../native/abi.generated.ts";
import { QlasterError } from "../errors.ts";
import type { Edit } from "../stream/session.ts";
import type { AccountPlace, AccountView, FilterLists, UpdateView } from "../stream/view.ts";
import type { Address, AddressLike, SubscriptionAck } from "../types.ts";
import { asksForChanges } from "../wire/filters.ts";
import { AccountStore, type Entry, type RemovalReason } from "./account_store.ts";
import { Completeness, type Distrust } from "./completeness.ts";

export type { RemovalReason } from "./account_store.ts";
export type { Distrust } from "./completeness.ts";

/** How a consumer keeps accounts. */
export interface CacheOptions {
  /** Most bytes of memory for accounts, keys and data together. Default 256 MiB. What finds no room is left out, and said. */
  readonly maxBytes?: number;
  /** After losses the sender is asked for everything again: at most once in that time, in milliseconds. Default 1000. */
  readonly refreshMs?: number;
}

/** Whether what a cache says is all that its sender knows. */
export interface CacheTrust {
  /** Whether each account that a filter matches is there, as it is by the last update that was read. */
  readonly isComplete: boolean;
  /** Why not; empty if it is. */
  readonly reasons: readonly Distrust[];
  /** Keys that were asked for by name and of which the sender knew nothing: whether they exist, it can't say. */
  readonly unknownKeys: number;
}

/** An account is known no longer. */
export interface AccountRemoved {
  /** The account. */
  readonly address: Address;
  /** Why. */
  readonly reason: RemovalReason;
}

/** What a cache needs of its consumer. */
export interface CacheHost {
  /** Names of the bits of masks; `now` says those of today. */
  readonly filters: FilterLists & { now(low: number, high: number): readonly string[] };
  /** Whether the sender of now keeps state; undefined while there is none. */
  readonly hasState: boolean | undefined;
  /** How many edits of filters are in force for the update that is read. */
  readonly filterGeneration: number;
  clockUs(): number;
  /** Whether a key or an owner stands in a filter's list, by what was acknowledged. */
  wants(bit: number, key: Uint8Array, owner: Uint8Array): boolean;
  /** Whether a filter has no keys any longer, by what was acknowledged, and so matches nothing. */
  isEmpty(bit: number): boolean;
  /** Whether an account may match a filter no longer by what is written to it: not of a filter by keys alone. */
  mayBeLeft(bit: number): boolean;
  /** Sets these filters anew, each with state, through `onEdit`. */
  refresh(bits: ReadonlySet<number>): void;
  /** Somebody waits for what is to be read; or nobody does any longer. */
  onWaiting(isAnybody: boolean): void;
}

/** Something that takes effect where the frames have got to an edit. */
interface Effect {
  readonly generation: number;
  readonly sequence: bigint;
  run(): void;
}

/**
 * The accounts of a consumer that was set up with the option `cache`, as of the last update that was read. Whoever waits for
 * them makes the consumer read, if nobody else does: if nobody ever has, or for a second, and no loop over it is open.
 * What is read so is handed out to nobody. So don't wait for them inside of a loop over the same consumer.
 */
export class AccountCache {
  readonly #store: AccountStore;
  readonly #host: CacheHost;
  readonly #completeness: Completeness;
  readonly #removedListeners = new Set<(event: AccountRemoved) => void>();
  /** In the order of their generations. */
  readonly #effects: Effect[] = [];
  /** Edits that added keys to a filter, asked for so far; by bit. */
  readonly #additions = new Map<number, number>();
  /** The edit of each filter that says what it is, or that it is no more: the one that was asked for last. */
  readonly #definitions = new Map<number, Edit>();
  readonly #place = {} as AccountPlace;
  #isTainted = false;
  /** Promises that wait: told of the end. */
  readonly #waiting = new Set<(error: unknown) => void>();
  readonly #readyWaiters = new Set<() => void>();
  #end: { readonly error: unknown; readonly isQuiet: boolean } | undefined;

  /** @internal */
  constructor(options: Pick<Required<CacheOptions>, "maxBytes">, host: CacheHost) {
    this.#host = host;
    const store = this.#store = new AccountStore(options.maxBytes, host.filters, () => host.clockUs(), {
      onRemoved: (entry, key, reason) => this.#onRemoved(entry, key, reason),
    });
    this.#completeness = new Completeness({
      get hasState() {
        return host.hasState;
      },
      get refused() {
        return store.refused;
      },
      isEmpty: (bit) => host.isEmpty(bit),
      mayBeLeft: (bit) => host.mayBeLeft(bit),
      names: (low, high) => host.filters.now(low, high),
      settle: (bit, reason) => store.settle(bit, reason),
      refresh: (bits) => host.refresh(bits),
    });
  }

  // What is known

  /** Accounts that are known. */
  get size(): number {
    return this.#store.size;
  }

  /** Bytes of memory that is set aside for them, without the table that finds them: some 200 bytes more for each. */
  get bytes(): number {
    return this.#store.bytes;
  }

  /** Updates that were older than what was known, and so changed nothing. */
  get older(): number {
    return this.#store.older;
  }

  /**
   * An account by its newest version: a view that lasts, and does not change. The same object until the next version.
   * @returns Undefined if nothing is known of it: see `trust` for what that means. A closed account is known, with 0
   * lamports and no data.
   * @throws {TypeError} for what is no address. Bytes are cheaper than text, by some 0.6 µs.
   */
  get(address: AddressLike): AccountView | undefined {
    const entry = this.#store.find(bytesFromAddressLike(address, "address"));
    return entry === undefined ? undefined : this.#store.copyOf(entry);
  }

  /** Whether something is known of an account. */
  has(address: AddressLike): boolean {
    return this.#store.find(bytesFromAddressLike(address, "address"))?.chunk !== undefined;
  }

  /**
   * The same as `get`, without a copy: one view for many accounts, valid until the cache is asked again, or the consumer for
   * the next update.
   */
  peek(address: AddressLike): AccountView | undefined {
    const entry = this.#store.find(bytesFromAddressLike(address, "address"));
    return entry === undefined ? undefined : this.#store.peek(entry);
  }

  /** All accounts that are known, in no order; each view is valid until the next. Not to be read from meanwhile. */
  *[Symbol.iterator](): Generator<AccountView, void, undefined> {
    for (const entry of this.#store.known()) yield this.#store.peek(entry)!;
  }

  // What it is worth

  /** Whether that is all, and if not why. */
  get trust(): CacheTrust {
    const { reasons } = this.#completeness;
    return { isComplete: reasons.length === 0, reasons, unknownKeys: this.#completeness.unknownKeys };
  }

  /**
   * Resolves as soon as all that the sender knows is here, also again after a loss: at once, if it is. The trust says what
   * the sender itself can't know.
   * @throws {QlasterError} `CACHE_NO_STATE` if the sender keeps no state, or a filter was set without; then the cache has
   * what came since. What the consumer ends with.
   */
  get ready(): Promise<CacheTrust> {
    return this.#wait((check) => {
      this.#readyWaiters.add(check);
      return () => this.#readyWaiters.delete(check);
    }, () => {
      const { reasons } = this.trust;
      if (reasons.some(({ reason }) => PASSING.includes(reason))) return undefined;
      for (const each of reasons) {
        if (each.reason === "no-state") throw noState("the sender keeps none (its option state)");
        if (each.reason !== "state-not-asked") continue;
        throw noState(`it was not asked for, of these filters: ${each.filters.map(quoted).join(", ")}`);
      }
      return this.trust;
    }, []);
  }

  /**
   * Waits until an account is as wanted, which it may be already.
   * @param predicate Gets a view that is valid until it returns; called for each version that is read while it waits.
   * @returns The account as by `get`.
   * @throws the signal's reason once that is aborted; what the predicate throws; what the consumer ends with.
   */
  waitFor(
    address: AddressLike,
    predicate: (account: AccountView) => boolean,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<AccountView> {
    const key = bytesFromAddressLike(address, "address");
    return this.#waitForEntry(key, () => {
      const entry = this.#store.find(key);
      const view = entry === undefined ? undefined : this.#store.peek(entry);
      return view !== undefined && predicate(view) ? this.#store.copyOf(entry!) : undefined;
    }, [options.signal]);
  }

  /**
   * An account as it is now, if it is known, and then each time it has changed: what changes while the loop is busy comes as
   * one. Undefined stands for an account that is known no longer.
   * @param options.signal Ends it without an error, as does the quiet end of the consumer.
   * @throws what the consumer ends with.
   */
  latest(
    address: AddressLike,
    options: { readonly signal?: AbortSignal } = {},
  ): AsyncIterableIterator<AccountView | undefined> {
    const key = bytesFromAddressLike(address, "address").slice();
    const { signal } = options;
    const left = new AbortController();
    let seen = 0;
    let isOver = false;
    const look = (): { readonly account: AccountView | undefined } | undefined => {
      const entry = this.#store.find(key);
      const version = entry?.chunk === undefined ? 0 : entry.version;
      if (version === seen) return undefined;
      seen = version;
      return { account: version === 0 ? undefined : this.#store.copyOf(entry!) };
    };
    const isAborted = (): boolean => signal?.aborted === true || left.signal.aborted;
    const iterator: AsyncIterableIterator<AccountView | undefined> = {
      next: async () => {
        if (isOver || isAborted()) return { value: undefined, done: true };
        try {
          const { account } = await this.#waitForEntry(key, look, [signal, left.signal]);
          return { value: account, done: false };
        } catch (error) {
          isOver = true;
          if (isAborted() || this.#end?.isQuiet === true) return { value: undefined, done: true };
          throw error;
        }
      },
      return: () => {
        left.abort(); // and who still waits for the next one, waits no longer
        return Promise.resolve({ value: undefined, done: true });
      },
      [Symbol.asyncIterator]: () => iterator,
    };
    return iterator;
  }

  /**
   * Has the sender send everything again, as after a loss: then `ready` is when it has come. For accounts that found no room
   * before, once others have gone.
   */
  refresh(): void {
    this.#completeness.askAgain();
  }

  /**
   * Calls `listener` for each account that is known no longer, with the reason. What it throws is an uncaught error of the
   * process.
   * @returns A function that ends it.
   */
  onRemoved(listener: (event: AccountRemoved) => void): () => void {
    this.#removedListeners.add(listener);
    return () => void this.#removedListeners.delete(listener);
  }

  // Waiting

  #waitForEntry<T>(
    key: ReturnType<typeof bytesFromAddressLike>,
    look: () => T | undefined,
    signals: readonly (AbortSignal | undefined)[],
  ): Promise<T> {
    return this.#wait(
      (check) => {
        const entry = this.#store.await(key);
        (entry.watchers ??= new Set()).add(check);
        return () => {
          entry.watchers?.delete(check);
          this.#store.forget(entry);
        };
      },
      look,
      signals,
    );
  }

  /** @param watch Has `check` called after each change, until what it returns is called. @param signals Any of them ends it. */
  #wait<T>(
    watch: (check: () => void) => () => void,
    look: () => T | undefined,
    signals: readonly (AbortSignal | undefined)[],
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      const check = (): boolean => {
        try {
          const found = look();
          if (found === undefined) return false;
          settle(() => resolve(found));
        } catch (error) {
          settle(() => reject(error));
        }
        return true;
      };
      const onEnd = (error: unknown): void => settle(() => reject(error));
      const aborted = () => signals.find((signal) => signal?.aborted === true);
      const onAbort = (): void => settle(() => reject(aborted()?.reason));
      const unwatch: { call?: () => void } = {};
      const settle = (how: () => void): void => {
        unwatch.call?.();
        for (const signal of signals) signal?.removeEventListener("abort", onAbort);
        if (this.#waiting.delete(onEnd) && this.#waiting.size === 0) this.#host.onWaiting(false);
        how();
      };
      if (aborted() !== undefined) return onAbort();
      if (check()) return;
      if (this.#end !== undefined) return onEnd(this.#end.error);
      unwatch.call = watch(check);
      for (const signal of signals) signal?.addEventListener("abort", onAbort, { once: true });
      this.#waiting.add(onEnd);
      if (this.#waiting.size === 1) this.#host.onWaiting(true);
    });
  }

  #tell(entry: Entry): void {
    if (entry.watchers !== undefined) { for (const check of [...entry.watchers]) check(); }
  }

  #onRemoved(entry: Entry, key: Uint8Array, reason: RemovalReason): void {
    this.#tell(entry);
    if (this.#removedListeners.size === 0) return;
    const event = { address: addressFromBytes(key), reason };
    for (const listener of this.#removedListeners) queueMicrotask(() => listener(event));
  }

  #tellReady(): void {
    for (const check of [...this.#readyWaiters]) check();
  }

  // What the consumer hands over

  /**
   * An update that is read, before anybody gets it.
   * @internal
   */
  take(update: UpdateView): void {
    this.#store.generation = this.#host.filterGeneration;
    // The seam of two connections has a place in the order of the sender before it: edits may be of the one behind it.
    if (this.#effects.length > 0) this.#runEffects(update.kind === "connection" ? 0n : update.sequence);
    if (update.kind !== "connection" && (update.lost > 0 || update.lossy)) this.#noteLoss(update);
    switch (update.kind) {
      case "account": {
        update.locate(this.#place);
        const entry = this.#store.write(this.#place);
        if (entry?.watchers !== undefined) this.#tell(entry);
        return;
      }
      case "left": {
        const mask = update.filterMask;
        return this.#store.leave(update.pubkey, Number(mask & LOW), Number(mask >> 32n));
      }
      case "rollback":
        // Older versions hold again. A restored one may have been conflated with a write behind it, which does not say so.
        this.#store.forgetVersions();
        return this.onForgotten(update.evicted);
      case "withdrawn":
        return this.#store.withdraw(update.pubkey);
      case "connection":
        return update.event.type === "lost"
          ? this.onLost(update.event.isOverwritten)
          : this.onResumed(update.event.continuity === "complete");
      case "snapshot-complete":
        this.#completeness.onSnapshot(bitOf(update.filterMask), update);
        // Where the edit took effect was not told: what was written behind it was taken for older.
        if (update.generation > this.#host.filterGeneration) this.#completeness.askAgain();
        return this.#tellReady();
    }
  }

  #noteLoss(update: UpdateView): void {
    const lost = update.lost - update.conflated; // whose newest value has come, or will
    if (lost > 0) {
      this.#store.forgetVersions();
      this.#completeness.onLoss(lost);
    } else if (update.lossy) this.#completeness.onSourceLoss();
  }

  /**
   * The sender has forgotten so many accounts, and may have failed to say what holds of some of these.
   * @internal
   */
  onForgotten(accounts: number): void {
    this.#completeness.onForgotten(accounts);
  }

  /**
   * A connection was lost.
   * @param isOverwritten What was read of it last may have been overwritten meanwhile.
   * @internal
   */
  onLost(isOverwritten: boolean = false): void {
    this.#completeness.isConnected = false;
    this.#isTainted ||= isOverwritten;
  }

  /**
   * There is a connection again, and nothing of it was read yet. @param isComplete All that was missed is replayed.
   * @internal
   */
  onResumed(isComplete: boolean): void {
    this.#completeness.isConnected = true;
    if (!isComplete || this.#isTainted) {
      this.#store.doubtAll();
      this.#completeness.onReconnect();
      // Without a gap nobody sends it again by himself.
      if (isComplete) this.#completeness.askAgain();
    } else {
      this.#completeness.onReplay();
    }
    this.#isTainted = false;
    this.#tellReady();
  }

  /**
   * An edit is asked for. @param isWhole It names all that its filter matches, though it adds to it.
   * @internal
   */
  onEdit(edit: Edit, answer: Promise<SubscriptionAck>, isWhole: boolean = false): void {
    const { op, bit } = edit;
    const isOfAccounts = op === "replace"
      ? isAboutAccounts(edit)
      : op === "add" && edit.accounts.length + edit.owners.length > 0;
    const asked = isOfAccounts
      ? this.#completeness.ask(bit, { isState: edit.state, isWhole: isWhole || op === "replace" })
      : undefined;
    // What names all that its filter matches leaves nothing open.
    if (isOfAccounts && asked?.isWhole !== true) this.#additions.set(bit, this.#additionsTo(bit) + 1);
    const additions = this.#additionsTo(bit);
    const isDefinition = op === "replace" || op === "drop";
    const isOfChanges = op === "replace" && isOfAccounts && asksForChanges(edit.program);
    if (isDefinition) this.#definitions.set(bit, edit);
    // Where it takes effect is known late: until then it may be either.
    if (isOfChanges) this.#store.setChangesOnly(bit, true);
    answer.then((ack) => {
      const { generation, sequence } = ack;
      if (isDefinition && !isOfChanges) {
        this.#at(generation, sequence, () => {
          if (this.#definitions.get(bit) === edit) this.#store.setChangesOnly(bit, false);
        });
      }
      if (op === "replace") {
        // Nothing will match one without keys: that needs no snapshot, which a loss would have it wait for in vain.
        const isEmpty = edit.isKeyed && edit.accounts.length + edit.owners.length === 0;
        this.#at(generation, sequence, () => {
          if (isEmpty) this.#store.drop(bit, generation, () => true);
          else this.#store.doubtFilter(bit, generation);
        });
      }
      if (op === "drop" || (op === "replace" && !isOfAccounts)) {
        this.#completeness.forget(bit, generation);
        this.#at(generation, sequence, () => this.#store.drop(bit, generation, () => true));
      }
      if (op === "remove") {
        this.#at(generation, sequence, () => {
          this.#store.drop(bit, generation, (key, owner) => !this.#host.wants(bit, key, owner));
          // What was added since may be what is wanted: an account may have left in between, of which nobody was told.
          if (this.#additionsTo(bit) !== additions) this.#completeness.askAgain();
        });
        this.#completeness.onNarrowed();
      }
      if (asked !== undefined) this.#completeness.acknowledge(asked, generation);
      this.#tellReady();
    }, () => {
      if (asked !== undefined) this.#completeness.refuse(asked);
      this.#tellReady();
    });
  }

  #additionsTo(bit: number): number {
    return this.#additions.get(bit) ?? 0;
  }

  #at(generation: number, sequence: bigint, run: () => void): void {
    // Answers do not come in the order of what they answer.
    let at = this.#effects.length;
    while (at > 0 && this.#effects[at - 1]!.generation > generation) at--;
    this.#effects.splice(at, 0, { generation, sequence, run });
    this.#runEffects(0n);
  }

  /** Those that the frames have got to. Where a mark had no room, the place of the edit tells. */
  #runEffects(sequence: bigint): void {
    const { filterGeneration } = this.#host;
    while (this.#effects.length > 0) {
      const [effect] = this.#effects as [Effect];
      if (effect.generation > filterGeneration && sequence <= effect.sequence) return;
      this.#effects.shift();
      effect.run();
    }
  }

  /**
   * The consumer has ended: what is known stays, and nobody waits for more.
   * @internal
   */
  onEnd(error: unknown, isQuiet: boolean): void {
    this.#end = { error, isQuiet };
    this.#completeness.isConnected = false;
    for (const onEnd of [...this.#waiting]) onEnd(error);
  }
}

function noState(why: string): QlasterError {
  return new QlasterError("CACHE_NO_STATE", `Cannot complete the cache: ${why}`);
}

const LOW = 0xffffffffn;
/** What passes, if one waits. */
const PASSING: readonly Distrust["reason"][] = ["nothing-asked", "snapshot", "disconnected", "loss"];

function quoted(name: string): string {
  return name === "" ? "that of subscribe()" : `"${name}"`;
}

/** A mask of one filter. */
function bitOf(mask: bigint): number {
  let bit = 0;
  while (bit < 63 && (mask >> BigInt(bit) & 1n) === 0n) bit++;
  return bit;
}

/** Without a program a filter is of accounts. */
function isAboutAccounts({ program }: Edit): boolean {
  if (program.length < FilterProgram.size) return true;
  return (program[FilterProgram.kind]! | program[FilterProgram.kind + 1]! << 8) === FilterKind.accounts;
}
