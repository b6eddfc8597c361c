/**
 * Another sender of the same host as a source: consumes what it publishes, and fans it out again, with other filters, by
 * another policy, to other users, or in native form what a Rust sender publishes by wire version 9.
 *
 * @module
 */

import { isQlasterError, QlasterError } from "../errors.ts";
import { pause } from "../pause.ts";
import { type Consumer, setupConsumer } from "../stream/consumer.ts";
import type { ConnectionEvent } from "../stream/connection_view.ts";
import type { ConsumerOptions } from "../stream/consumer_options.ts";
import type { AccountView, TransactionView } from "../stream/view.ts";
import type { Address, Update } from "../types.ts";
import { Backoff, REFUSED_BACKOFF } from "./backoff.ts";
import { DemandFollower } from "./demand_follower.ts";
import { nextSourceEpoch, type Source, type SourceDemand, type SourceEvent, type SourceFilter } from "./source.ts";

export type { Source, SourceDemand, SourceEvent, SourceFilter } from "./source.ts";

/** How a relay is set up. */
export interface RelayOptions {
  /** What to ask for: `sender.demand`, by which it follows the consumers, or a filter that stays. */
  readonly demand: SourceDemand | SourceFilter;
  /**
   * How to consume: `policy`, `idle`, `reconnect` and whatever else `setupConsumer` takes. Default: park, reconnect for
   * ever, and wait for a sender that is not there yet.
   */
  readonly consumer?: Omit<ConsumerOptions, "signal">;
  /** Whether to ask for the state of what is wanted, of a sender that keeps one. Default true. */
  readonly state?: boolean;
  /** What happens to the connection. What it throws is an uncaught error of your process. */
  readonly onEvent?: (event: SourceEvent) => void;
  /** Ends the source. */
  readonly signal?: AbortSignal;
}

/** What is asked for, as sets that can be compared. */
interface Wanted {
  readonly accounts: ReadonlySet<Address>;
  readonly owners: ReadonlySet<Address>;
  readonly allAccounts: boolean;
  readonly allTransactions: boolean;
  readonly transactionAccounts: ReadonlySet<Address>;
}

/** What the other sender has taken of it. */
interface Asked {
  readonly accounts: Set<Address>;
  readonly owners: Set<Address>;
  allAccounts: boolean;
  /** All, or the keys in one text. */
  transactions: string;
}

/** Sources of the other sender that are told apart: the oldest is forgotten. */
const EPOCHS_MAX = 1024;
/** The slot in whose midst something was missing, and one whole slot. */
const LOSSY_SLOTS = 2;
const FOR_EVER_MS = 0x7fffffff;
const ALL_ACCOUNTS = "relay all accounts";
const TRANSACTIONS = "relay transactions";
/** Keys that are asked for at once: they are taken or refused together. */
const KEYS_PER_REQUEST = 4096;

const minus = (a: ReadonlySet<Address>, b: ReadonlySet<Address>) => [...a].filter((key) => !b.has(key));

/**
 * Consumes from the sender at `path`, from the first iteration on.
 *
 * **Kept**: order, slots, banks, write versions, the order of source epochs (as numbers of this process, since those of
 * two senders say nothing to each other), `startup`, `lossy`, and the time at which the source saw it. State that the other
 * sender had is `startup`. **Not kept**: marks, such as those of rollbacks: a sender with state makes its own.
 * **Loss**: what the other sender dropped for us, and what came while there was no connection, makes what follows `lossy`,
 * until one whole slot has come.
 * **Version 9**: keys are added and never taken back; all transactions instead of some; not all accounts.
 */
export function relay(path: string, options: RelayOptions): RelaySource {
  if (typeof path !== "string" || path === "") throw new TypeError("relay needs the path of a sender's socket");
  if (typeof options?.demand !== "object" || options.demand === null) {
    throw new TypeError("demand must be a sender's demand, or a filter: what is not asked for does not come");
  }
  return new RelaySource(path, options);
}

/** See {@linkcode relay}. */
export class RelaySource implements Source {
  readonly #path: string;
  readonly #options: RelayOptions;
  readonly #closing = new AbortController();
  readonly #onAbort = () => this.close();
  #consumer: Consumer | undefined;
  readonly #wanted: DemandFollower;
  readonly #asked: Asked = { accounts: new Set(), owners: new Set(), allAccounts: false, transactions: "" };
  #lastWanted: SourceFilter = {};
  /** The last of those that ask, one after the other. */
  #asking: Promise<void> = Promise.resolve();
  #refused = new Backoff(REFUSED_BACKOFF);
  #isToAskAgain = false;
  #isStarted = false;
  /** Why the following of the demand failed: the loop throws it. */
  #failure: { readonly error: unknown } | undefined;

  // Versions
  #sender = "";
  readonly #epochs = new Map<string, number>();

  // Loss
  #lossySlots = 0;
  #newestSlot = -1n;
  #gapAfter: { readonly slot: bigint; readonly reason: string } | undefined;

  /** @internal Use {@linkcode relay}. */
  constructor(path: string, options: RelayOptions) {
    this.#path = path;
    this.#options = options;
    this.#wanted = new DemandFollower(options.demand);
    options.signal?.addEventListener("abort", this.#onAbort, { once: true });
    if (options.signal?.aborted) this.close();
  }

  /** Starts it. One loop can read it, once. */
  [Symbol.asyncIterator](): AsyncIterator<readonly Update[]> {
    if (this.#isStarted) throw new TypeError("A source can be iterated once");
    this.#isStarted = true;
    const batches = this.#run();
    return {
      next: () => batches.next(),
      // A generator is told that nobody wants more when its own wait is over: by the other sender's next update, if ever.
      return: () => {
        this.close();
        return batches.return();
      },
    };
  }

  /** Ends it: the loop ends after what has come. May be called twice. */
  close(): void {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    void this.#consumer?.close();
    this.#wanted.leave();
  }

  /** The same as `close()`. */
  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  async *#run(): AsyncGenerator<readonly Update[], void, undefined> {
    if (this.#closing.signal.aborted) return;
    try {
      const consumer = await setupConsumer(this.#path, {
        idle: "park",
        waitForSenderMs: FOR_EVER_MS,
        ...this.#options.consumer,
        signal: this.#closing.signal,
        onConnection: (event) => this.#onConnection(event),
      }).catch((error) => {
        if (this.#closing.signal.aborted) return undefined;
        throw error;
      });
      if (consumer === undefined) return;
      this.#consumer = consumer;
      void this.#followDemand(consumer);
      for await (const batch of consumer.batches()) {
        const updates: Update[] = [];
        for (const view of batch) {
          if (view.lost > 0) this.#onLoss(`${view.lost} updates were dropped by the sender`);
          switch (view.kind) {
            case "account":
              updates.push(this.#account(view));
              break;
            case "transaction":
              updates.push(this.#transaction(view));
              break;
            case "slot": {
              const { slot, parent, status, bankId, sourceNs } = view;
              updates.push({
                kind: "slot",
                slot,
                parent,
                status,
                bankId,
                sourceNs,
                lossy: this.#isLossy(slot, view.lossy),
              });
              if (status === "processed" && this.#lossySlots > 0) this.#lossySlots--;
              break;
            }
            case "connection":
              if (view.event.type === "resumed" && view.event.continuity !== "complete") {
                this.#onLoss("the connection was lost");
              }
              break;
            default: // marks of the connection's own
          }
        }
        if (updates.length > 0) yield updates;
      }
    } finally {
      this.close();
    }
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  #account(view: AccountView): Update {
    const { pubkey, owner, lamports, data, slot, writeVersion, bankId, rentEpoch, executable, signature, sourceNs } =
      view.copy();
    return {
      kind: "account",
      pubkey,
      owner,
      lamports,
      data,
      slot,
      writeVersion,
      bankId,
      rentEpoch,
      executable,
      signature,
      startup: view.startup || view.isState,
      lossy: this.#isLossy(slot, view.lossy),
      sourceNs,
      sourceEpoch: this.#epochOf(view.sourceEpoch),
    };
  }

  #transaction(view: TransactionView): Update {
    const { slot, index, signature, message, meta, vote, failed, bankId, sourceNs, loadedAddresses } = view.copy();
    const lossy = this.#isLossy(slot, view.lossy);
    return {
      kind: "transaction",
      slot,
      index,
      signature,
      message,
      meta,
      loadedAddresses,
      vote,
      failed,
      bankId,
      lossy,
      sourceNs,
    };
  }

  /** Epochs of the other sender in the order in which they began, among those of this process. */
  #epochOf(epoch: number): number {
    const name = `${this.#sender}/${epoch}`;
    let own = this.#epochs.get(name);
    if (own === undefined) {
      this.#epochs.set(name, own = nextSourceEpoch());
      if (this.#epochs.size > EPOCHS_MAX) this.#epochs.delete(this.#epochs.keys().next().value!);
    }
    return own;
  }

  // Loss

  #onLoss(reason: string): void {
    this.#lossySlots = LOSSY_SLOTS;
    this.#gapAfter ??= { slot: this.#newestSlot, reason };
  }

  /** @param slot Of an update: the first one after a loss ends the gap. */
  #isLossy(slot: bigint, isMarked: boolean): boolean {
    if (this.#gapAfter !== undefined) {
      const { slot: afterSlot, reason } = this.#gapAfter;
      this.#gapAfter = undefined;
      this.#tell({ type: "gap", afterSlot, untilSlot: slot, reason });
    }
    if (slot > this.#newestSlot) this.#newestSlot = slot;
    return isMarked || this.#lossySlots > 0;
  }

  #onConnection(event: ConnectionEvent): void {
    if (event.type === "connected") {
      // Without an identity, as by version 9, each connection may be another sender's.
      this.#sender = event.senderId ?? `connection ${event.connection}`;
      this.#tell({ type: "connected", epoch: 0, resumedFrom: undefined });
    } else if (event.type === "lost" || event.type === "failed") {
      const text = `Cannot receive from "${this.#path}"`;
      const error = event.type === "failed"
        ? new QlasterError("SOURCE_LOST", `${text} (${codeOf(event.error)})`, { cause: event.error })
        : new QlasterError("SOURCE_LOST", `${text} (${event.reason})`, { reason: event.reason });
      this.#tell({ type: "lost", error, retryMs: event.retryMs ?? 0 });
    }
    this.#options.consumer?.onConnection?.(event);
  }

  #tell(event: SourceEvent): void {
    const { onEvent } = this.#options;
    if (onEvent !== undefined) queueMicrotask(() => onEvent(event));
  }

  // What is asked for

  async #followDemand(consumer: Consumer): Promise<void> {
    try {
      await this.#ask(consumer, this.#wanted.current);
      await this.#wanted.follow((wanted) => this.#ask(consumer, wanted));
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    if (this.#closing.signal.aborted) return;
    this.#failure = { error };
    this.close();
  }

  /** Tells the other sender how what is wanted differs from what it has taken. */
  #ask(consumer: Consumer, wanted: SourceFilter): Promise<void> {
    this.#lastWanted = wanted;
    this.#asking = this.#asking.then(async () => {
      const refusal = await this.#askOnce(consumer, wantedOf(wanted));
      if (refusal === undefined) this.#refused = new Backoff(REFUSED_BACKOFF);
      else this.#askAgain(consumer, refusal);
    });
    return this.#asking;
  }

  /** What one consumer wants and the other sender does not take must not be the end of what all others want. */
  #askAgain(consumer: Consumer, cause: Error): void {
    const retryMs = this.#refused.next(0);
    const text = `Cannot receive all from "${this.#path}" (${cause.message})`;
    this.#tell({ type: "refused", error: new QlasterError("SOURCE_REFUSED", text, { cause }), retryMs });
    if (this.#isToAskAgain) return;
    this.#isToAskAgain = true;
    const { signal } = this.#closing;
    pause(retryMs, signal).then(() => {
      this.#isToAskAgain = false;
      return signal.aborted ? undefined : this.#ask(consumer, this.#lastWanted);
    }).catch((error) => this.#fail(error));
  }

  /** @returns What was refused last, if anything was. */
  async #askOnce(consumer: Consumer, wanted: Wanted): Promise<Error | undefined> {
    const isV9 = consumer.protocol === "v9";
    const state = this.#options.state !== false && !isV9;
    const asked = this.#asked;
    let refusal: Error | undefined;
    const take = async (request: Promise<unknown>, onTaken: () => void): Promise<void> => {
      try {
        await request;
        onTaken();
      } catch (error) {
        if (!isRefusal(error)) throw error;
        refusal = error;
      }
    };
    for (const list of ["accounts", "owners"] as const) {
      const added = minus(wanted[list], asked[list]);
      for (let at = 0; at < added.length; at += KEYS_PER_REQUEST) {
        const keys = added.slice(at, at + KEYS_PER_REQUEST);
        await take(consumer.subscribe(state ? { [list]: keys, state } : { [list]: keys }), () => {
          for (const key of keys) asked[list].add(key);
        });
      }
    }
    const transactions = transactionsOf(wanted, isV9);
    if (isV9) { // it can be asked for more, and for nothing else
      if (transactions !== "" && transactions !== asked.transactions) {
        await take(consumer.subscribe({ transactions: true }), () => asked.transactions = transactions);
      }
      return refusal;
    }
    for (const list of ["accounts", "owners"] as const) {
      const removed = minus(asked[list], wanted[list]);
      if (removed.length === 0) continue;
      await take(consumer.unsubscribe({ [list]: removed }), () => {
        for (const key of removed) asked[list].delete(key);
      });
    }
    if (wanted.allAccounts !== asked.allAccounts) {
      const request = wanted.allAccounts
        ? consumer.setFilter(ALL_ACCOUNTS, { accounts: true, state })
        : consumer.removeFilter(ALL_ACCOUNTS);
      await take(request, () => asked.allAccounts = wanted.allAccounts);
    }
    if (transactions !== asked.transactions) {
      const accountInclude = [...wanted.transactionAccounts];
      const request = transactions === ""
        ? consumer.removeFilter(TRANSACTIONS)
        : consumer.setFilter(TRANSACTIONS, { transactions: wanted.allTransactions ? true : { accountInclude } });
      await take(request, () => asked.transactions = transactions);
    }
    return refusal;
  }
}

function wantedOf(filter: SourceFilter): Wanted {
  return {
    accounts: filter.accounts ?? new Set(),
    owners: filter.owners ?? new Set(),
    allAccounts: filter.allAccounts === true,
    allTransactions: filter.transactions?.all === true,
    transactionAccounts: filter.transactions?.accounts ?? new Set(),
  };
}

/** All, or the keys; nothing: "". By version 9 some are all. */
function transactionsOf({ allTransactions, transactionAccounts }: Wanted, isV9: boolean): string {
  if (allTransactions || (isV9 && transactionAccounts.size > 0)) return "all";
  return [...transactionAccounts].sort().join();
}

/** Whether an edit was not taken, and left what was in force as it was: by a limit of the other sender, or of any. */
function isRefusal(error: unknown): error is Error {
  return isQlasterError(error, "SUBSCRIBE_REFUSED") || error instanceof RangeError;
}

/** What an attempt failed by, in short. */
function codeOf(error: Error): string {
  return isQlasterError(error) ? error.code : error.message;
}
