/**
 * What anybody wants of a sender by now, so that who feeds it asks upstream for that and no more.
 * May touch: the engine's handle, to ask which keys are wanted for something else than it said last; one timer. May not
 * touch: consumers, their filters: the engine knows them (zig/demand.zig), so nothing here can be at odds with it.
 * Why nobody pays who does not ask: the engine keeps no books of it before the first question, and this room has none.
 *
 * @module
 */

import { setImmediate } from "node:timers";
import { addressFromBytes } from "../address.ts";
import {
  ADDRESS_SIZE,
  DEMAND_ACCOUNTS,
  DEMAND_TRANSACTIONS,
  DemandHead,
  DemandRecord,
} from "../native/abi.generated.ts";
import type { Native } from "../native/native.ts";
import { errorFromStatus } from "../errors.ts";
import type { Address } from "../types.ts";

/** Keys that are wanted now and were not before, or the other way round. */
export interface DemandKeys {
  /** Accounts by address. */
  readonly accounts: readonly Address[];
  /** Accounts by the program that owns them. */
  readonly owners: readonly Address[];
  /** Transactions that name the account. */
  readonly transactionAccounts: readonly Address[];
}

/**
 * What all consumers together want at one moment. Nothing changes it later. A filter's other conditions are not in it: who
 * feeds all that is named here feeds enough.
 */
export interface DemandSnapshot {
  /** Accounts by address. Beside `owners`, a filter's accounts: only those that are among these can match it. */
  readonly accounts: ReadonlySet<Address>;
  /** Accounts by the program that owns them. */
  readonly owners: ReadonlySet<Address>;
  /** Whether somebody has a filter of accounts without a list of keys: every account may match it. */
  readonly allAccounts: boolean;
  /**
   * Whether somebody wants transactions without a list of keys; and the keys of which transactions must name one:
   * `accountInclude`, without that the first of `accountRequired`.
   */
  readonly transactions: { readonly all: boolean; readonly accounts: ReadonlySet<Address> };
}

/**
 * How what is wanted has changed since the iteration said so last, or since `current` was looked at: a key that stood there
 * and has gone is told as removed, whether or not it was told as added.
 */
export interface DemandChange {
  /** Wanted from now on. Of the first change of an iteration: all that is wanted. */
  readonly added: DemandKeys;
  /** Wanted no longer. */
  readonly removed: DemandKeys;
  /** All that is wanted, as of when this is first looked at: mind the two that say "all", which are in no list of keys. */
  readonly current: DemandSnapshot;
}

/**
 * What consumers want of a sender. Iterate it any number of times: each iteration begins with all that is wanted and
 * goes on with what changes, until the sender is closed. Who reads slowly gets several changes in one, and what came and
 * went in between not at all, unless a `current` in which it stood was looked at.
 *
 * @example
 * ```ts
 * import { addressFromBytes, setupConsumer, setupSender } from "@qlaster/core";
 * import assert from "node:assert/strict";
 *
 * const key = new Uint8Array(32).fill(1);
 * await using sender = await setupSender({ path: "/tmp/qlaster-doc-demand.sock", ringCapacityBytes: 65536 });
 * await using consumer = await setupConsumer("/tmp/qlaster-doc-demand.sock");
 * await consumer.subscribe({ accounts: [key] });
 * for await (const { added, current } of sender.demand) {
 *   assert.deepEqual(added.accounts, [addressFromBytes(key)]); // to subscribe to upstream
 *   assert.equal(current.transactions.all, false);
 *   break;
 * }
 * ```
 */
export interface Demand extends AsyncIterable<DemandChange> {
  /** What is wanted at this moment. The first time all keys are looked at: a million take seconds. */
  readonly current: DemandSnapshot;
}

type List = keyof DemandKeys;
const LISTS = ["accounts", "owners", "transactionAccounts"] as const satisfies readonly List[];

/** What the engine is asked for at once: about a millisecond of making addresses. */
const RECORDS_MAX = 512;
/** Keys that the engine looks at for it: some 0.3 ms, for which nobody publishes. */
const STEPS_MAX = 4096;
/** Between two looks that found nothing: keys that are wanted no longer are in no hurry. */
const PAUSE_MS = 2;

const EMPTY: DemandSnapshot = {
  accounts: new Set(),
  owners: new Set(),
  allAccounts: false,
  transactions: { all: false, accounts: new Set() },
};

/** The demand of one sender. */
export class SenderDemand implements Demand {
  readonly #native: Native;
  readonly #fanout: number;
  readonly #debounceMs: number;
  readonly #keys: Record<List, Set<Address>> = {
    accounts: new Set(),
    owners: new Set(),
    transactionAccounts: new Set(),
  };
  /** Sets that a snapshot has: they are copied before they change. */
  readonly #lent = new Set<Set<Address>>();
  #allAccounts = false;
  #allTransactions = false;
  readonly #readers = new Set<Reader>();
  /** Keys in it are those that the engine has told. */
  readonly #records = new Uint8Array(DemandHead.size + RECORDS_MAX * DemandRecord.size);
  readonly #head = new DataView(this.#records.buffer);
  /** Something may have changed since the engine last said that this was all. */
  #isBehind = true;
  #isCollecting = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isClosed = false;

  /** @throws {QlasterError} `MEMORY_LIMIT` */
  constructor(native: Native, fanout: number, debounceMs: number) {
    this.#native = native;
    this.#fanout = fanout;
    this.#debounceMs = debounceMs;
    const status = native.fanoutDemandStart(fanout);
    if (status < 0) throw errorFromStatus(status, "Cannot keep books of what is wanted");
  }

  get current(): DemandSnapshot {
    if (this.#isClosed) return EMPTY;
    while (this.#isBehind) this.#collect();
    this.#tellReaders();
    for (const reader of this.#readers) reader.see();
    return this.#snapshot();
  }

  [Symbol.asyncIterator](): AsyncIterator<DemandChange> {
    const reader = new Reader(
      this.#keys,
      () => this.#stateOf(),
      () => this.#snapshot(),
      () => void this.#readers.delete(reader),
    );
    if (this.#isClosed) reader.close();
    else this.#readers.add(reader);
    // Whoever begins is not made to wait for more to come.
    if (this.#isBehind && !this.#isClosed) queueMicrotask(() => void this.#run());
    return reader;
  }

  /** Filters have changed. */
  touch(): void {
    this.#isBehind = true;
    if (this.#readers.size === 0) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.#run();
    }, this.#debounceMs);
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    for (const reader of this.#readers) reader.close();
    this.#readers.clear();
  }

  /** Asks the engine until it has no more to say, with turns of the event loop in between. */
  async #run(): Promise<void> {
    if (this.#isCollecting) return;
    this.#isCollecting = true;
    try {
      while (this.#isBehind && !this.#isClosed && this.#readers.size > 0) {
        const count = this.#collect();
        if (count < RECORDS_MAX || !this.#isBehind) this.#tellReaders();
        if (!this.#isBehind) break;
        await new Promise<void>((resolve) => {
          if (count > 0) setImmediate(resolve);
          else setTimeout(resolve, this.#isFresh() ? 0 : PAUSE_MS);
        });
      }
    } catch (error) {
      for (const reader of this.#readers) reader.fail(error);
      this.#readers.clear();
    } finally {
      this.#isCollecting = false;
    }
  }

  #isFresh(): boolean {
    for (const reader of this.#readers) if (reader.isFresh) return true;
    return false;
  }

  /** Takes some of what the engine has to say. @throws {QlasterError} `MEMORY_LIMIT` */
  #collect(): number {
    const count = this.#native.fanoutDemand(this.#fanout, this.#records, RECORDS_MAX, STEPS_MAX);
    if (count < 0) throw errorFromStatus(count, "Cannot find out what is wanted");
    for (let i = 0; i < count; i++) this.#note(DemandHead.size + i * DemandRecord.size);
    this.#allAccounts = this.#head.getUint32(DemandHead.allAccounts, true) === 1;
    this.#allTransactions = this.#head.getUint32(DemandHead.allTransactions, true) === 1;
    this.#isBehind = this.#head.getUint32(DemandHead.isDone, true) === 0;
    return count;
  }

  #note(at: number): void {
    const bytes = this.#records;
    const key = addressFromBytes(bytes.subarray(at + DemandRecord.key, at + DemandRecord.key + ADDRESS_SIZE));
    const isOwner = bytes[at + DemandRecord.kind] === 1;
    const now = bytes[at + DemandRecord.now]!;
    const changed = now ^ bytes[at + DemandRecord.was]!;
    if ((changed & DEMAND_ACCOUNTS) !== 0) {
      this.#change(isOwner ? "owners" : "accounts", key, (now & DEMAND_ACCOUNTS) !== 0);
    }
    if ((changed & DEMAND_TRANSACTIONS) !== 0) {
      this.#change("transactionAccounts", key, (now & DEMAND_TRANSACTIONS) !== 0);
    }
  }

  #change(list: List, key: Address, isWanted: boolean): void {
    let keys = this.#keys[list];
    if (this.#lent.delete(keys)) keys = this.#keys[list] = new Set(keys);
    if (isWanted) keys.add(key);
    else keys.delete(key);
    for (const reader of this.#readers) reader.note(list, key, isWanted);
  }

  #tellReaders(): void {
    for (const reader of this.#readers) reader.tell();
  }

  #stateOf(): State {
    return { allAccounts: this.#allAccounts, allTransactions: this.#allTransactions, isBehind: this.#isBehind };
  }

  #snapshot(): DemandSnapshot {
    if (this.#isClosed) return EMPTY;
    const { accounts, owners, transactionAccounts } = this.#keys;
    for (const list of LISTS) this.#lent.add(this.#keys[list]);
    return {
      accounts,
      owners,
      allAccounts: this.#allAccounts,
      transactions: { all: this.#allTransactions, accounts: transactionAccounts },
    };
  }
}

interface State {
  readonly allAccounts: boolean;
  readonly allTransactions: boolean;
  readonly isBehind: boolean;
}

interface Waiter {
  resolve(result: IteratorResult<DemandChange>): void;
  reject(error: unknown): void;
}

/** One iteration: what it was not told yet is one difference, however long it takes to ask. */
class Reader implements AsyncIterator<DemandChange> {
  /** It has been told nothing. */
  isFresh = true;

  /** All that is wanted now. */
  readonly #keys: Readonly<Record<List, ReadonlySet<Address>>>;
  readonly #state: () => State;
  readonly #snapshot: () => DemandSnapshot;
  readonly #onReturn: () => void;
  /** Whether a key is wanted by now, of those that it was told the opposite of, or may have seen otherwise in between. */
  readonly #untold: Record<List, Map<Address, boolean>> = {
    accounts: new Map(),
    owners: new Map(),
    transactionAccounts: new Map(),
  };
  /** Those of them that stood in a `current` which was looked at: to be told even if they are soon as they were. */
  readonly #seen: Record<List, Set<Address>> = {
    accounts: new Set(),
    owners: new Set(),
    transactionAccounts: new Set(),
  };
  /** The same of what says "all". */
  #hasSeenAll = false;
  #toldAccounts = false;
  #toldTransactions = false;
  readonly #waiters: Waiter[] = [];
  #isClosed = false;
  #failure: { readonly error: unknown } | undefined;

  constructor(
    keys: Readonly<Record<List, ReadonlySet<Address>>>,
    state: () => State,
    snapshot: () => DemandSnapshot,
    onReturn: () => void,
  ) {
    this.#keys = keys;
    this.#state = state;
    this.#snapshot = snapshot;
    this.#onReturn = onReturn;
  }

  note(list: List, key: Address, isWanted: boolean): void {
    if (this.isFresh) return;
    const untold = this.#untold[list];
    if (this.#seen[list].has(key) || !untold.delete(key)) untold.set(key, isWanted);
  }

  /** Its owner has, or may have, what is wanted now, although it was not told all of it. */
  see(): void {
    if (this.isFresh) return;
    for (const list of LISTS) for (const key of this.#untold[list].keys()) this.#seen[list].add(key);
    const { allAccounts, allTransactions } = this.#state();
    if (allAccounts !== this.#toldAccounts || allTransactions !== this.#toldTransactions) this.#hasSeenAll = true;
  }

  /** Hands over what there is, if somebody waits for it. */
  tell(): void {
    if (this.#waiters.length > 0 && this.#hasNews()) {
      this.#waiters.shift()!.resolve({ value: this.#take(), done: false });
    }
  }

  #hasNews(): boolean {
    const { allAccounts, allTransactions, isBehind } = this.#state();
    if (this.isFresh) return !isBehind;
    return this.#hasSeenAll || allAccounts !== this.#toldAccounts || allTransactions !== this.#toldTransactions ||
      LISTS.some((list) => this.#untold[list].size > 0);
  }

  #take(): DemandChange {
    const { allAccounts, allTransactions } = this.#state();
    const [added, removed] = this.isFresh
      ? [this.#all(), keysOf(() => [])]
      : [this.#untoldOf(true), this.#untoldOf(false)];
    this.isFresh = false;
    this.#toldAccounts = allAccounts;
    this.#toldTransactions = allTransactions;
    this.#clear();
    const look = () => {
      this.see(); // more may be in it than was told with it
      return this.#snapshot();
    };
    let current: DemandSnapshot | undefined;
    return {
      added,
      removed,
      get current() {
        return current ??= look();
      },
    };
  }

  #all(): DemandKeys {
    return keysOf((list) => [...this.#keys[list]]);
  }

  #untoldOf(isWanted: boolean): DemandKeys {
    return keysOf((list) => {
      const keys: Address[] = [];
      for (const [key, is] of this.#untold[list]) if (is === isWanted) keys.push(key);
      return keys;
    });
  }

  next(): Promise<IteratorResult<DemandChange>> {
    if (this.#failure !== undefined) {
      const { error } = this.#failure;
      this.#failure = undefined;
      return Promise.reject(error);
    }
    if (this.#isClosed) return Promise.resolve({ value: undefined, done: true });
    if (this.#waiters.length === 0 && this.#hasNews()) return Promise.resolve({ value: this.#take(), done: false });
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }));
  }

  return(): Promise<IteratorResult<DemandChange>> {
    this.#onReturn();
    this.close();
    return Promise.resolve({ value: undefined, done: true });
  }

  close(): void {
    this.#isClosed = true;
    for (const { resolve } of this.#waiters.splice(0)) resolve({ value: undefined, done: true });
    this.#clear();
  }

  #clear(): void {
    this.#hasSeenAll = false;
    for (const list of LISTS) {
      this.#untold[list].clear();
      this.#seen[list].clear();
    }
  }

  /** Whoever waits learns of it, or else who asks next. */
  fail(error: unknown): void {
    const waiter = this.#waiters.shift();
    if (waiter === undefined) this.#failure = { error };
    else waiter.reject(error);
    this.close();
  }
}

function keysOf(keys: (list: List) => readonly Address[]): DemandKeys {
  return { accounts: keys("accounts"), owners: keys("owners"), transactionAccounts: keys("transactionAccounts") };
}
