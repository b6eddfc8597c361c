/**
 * Several senders of the same updates, read as one stream: whoever is first wins, and the stream goes on as long as one of
 * them does.
 * May touch: its consumers, what is remembered of their updates. May not touch: rings, links.
 *
 * @module
 */

import { setImmediate } from "node:timers";
import { QlasterError } from "../errors.ts";
import { type Clock, HOST_CLOCK } from "../native/clock.ts";
import { type Consumer, refusePromise, setupConsumer } from "../stream/consumer.ts";
import type { ConsumerOptions } from "../stream/consumer_options.ts";
import type { FilterKeysEdit } from "../stream/named_filters.ts";
import type { UpdateView } from "../stream/view.ts";
import type { AddressLike, EndReason, Subscription, SubscriptionAck } from "../types.ts";
import type { NamedFilter } from "../wire/filters.ts";
import { Feed, type FeedInfo } from "./feed.ts";
import { FEEDS_MAX, FirstWins, type Verdict } from "./first_wins.ts";

/** How feeds are merged. The rest is as for one consumer, and holds for each. */
export interface MergeOptions
  extends Omit<ConsumerOptions, "cache" | "onConnection" | "onStale" | "staleAfterSlots" | "timings"> {
  /**
   * "shared": the senders have their updates of one source, a validator say, so that banks and write versions of the two
   * are the same numbers. "own": they have different sources, of which only slots can be compared; then the writes of an
   * account in one slot are told apart by their number, which is right as long as no feed has lost any of them. Default
   * "shared".
   */
  readonly versions?: "shared" | "own";
  /** Accounts that are remembered at least, and twice as many at most: 120 bytes each. Default 131072. */
  readonly accountsMax?: number;
  /** Transactions likewise: 96 bytes each. Default 65536. */
  readonly transactionsMax?: number;
}

/** What the feeds answered, in the order of their paths; undefined of one that is not connected. */
export type FeedAcks = readonly (SubscriptionAck | undefined)[];

const ACCOUNTS_MAX = 131_072;
const TRANSACTIONS_MAX = 65_536;
const REMEMBERED_MAX = 4 * 1024 * 1024;
/** Updates of one feed before the others have their turn. */
const UPDATES_PER_FEED = 64;
/** Updates looked at by one `poll`, duplicates included, so that it comes to an end. */
const LOOKS_PER_POLL = 4096;
const LIMIT = 256;
/** A loop that always finds an update still lets timers and sockets run. */
const UPDATES_PER_TURN = 256;
const TURN_MS = 2;
const CLOCK_EVERY = 16;
const NEVER = () => false;
/** What was looked at: nothing was there; or it is not to be handed out. */
const NOTHING = 0;
const SKIPPED = 1;

function remembered(value: number, name: string): number {
  if (!Number.isInteger(value) || value < 1 || value > REMEMBERED_MAX) {
    throw new RangeError(`${name} must be an integer from 1 to ${REMEMBERED_MAX}, not ${value}`);
  }
  return value;
}

/**
 * Connects to several senders that publish the same, and reads them as one stream: each update comes once, from whichever
 * feed has it first.
 * @param paths 2 to 8 paths. All senders have to be there, for as long as `waitForSenderMs` waits for them; afterwards each
 * may go and come back.
 * @throws {QlasterError} as `setupConsumer`, for the first that fails; {RangeError} or {TypeError} for options.
 *
 * @example
 * ```ts
 * import { setupMergedConsumer, setupSender } from "@qlaster/core";
 * import assert from "node:assert/strict";
 *
 * const paths = ["/tmp/qlaster-doc-merge-a.sock", "/tmp/qlaster-doc-merge-b.sock"];
 * await using a = await setupSender({ path: paths[0]!, ringCapacityBytes: 65536 });
 * await using b = await setupSender({ path: paths[1]!, ringCapacityBytes: 65536 });
 * await using consumer = await setupMergedConsumer(paths);
 * for (const sender of [a, b]) sender.publishSlot({ slot: 2n, parent: 1n, status: "processed" });
 * b.publishSlot({ slot: 3n, parent: 2n, status: "processed" });
 * const slots: bigint[] = [];
 * for await (const update of consumer) {
 *   if (update.kind === "slot") slots.push(update.slot);
 *   if (slots.length === 2) break;
 * }
 * assert.deepEqual(slots, [2n, 3n]); // and not 2n twice
 * ```
 */
export async function setupMergedConsumer(
  paths: readonly string[],
  options: MergeOptions = {},
): Promise<MergedConsumer> {
  return await openMergedConsumer(paths, options, setupConsumer, HOST_CLOCK);
}

/** Sets consumers up by a function. @internal */
export async function openMergedConsumer(
  paths: readonly string[],
  options: MergeOptions,
  setup: typeof setupConsumer,
  clock: Clock,
): Promise<MergedConsumer> {
  if (!Array.isArray(paths) || paths.length < 2 || paths.length > FEEDS_MAX) {
    throw new RangeError(`There must be 2 to ${FEEDS_MAX} paths`);
  }
  const { versions = "shared", accountsMax = ACCOUNTS_MAX, transactionsMax = TRANSACTIONS_MAX, ...others } = options;
  if (versions !== "shared" && versions !== "own") {
    throw new TypeError(`versions must be "shared" or "own", not ${versions}`);
  }
  const firstWins = new FirstWins({
    isVersionShared: versions === "shared",
    accountsMax: remembered(accountsMax, "accountsMax"),
    transactionsMax: remembered(transactionsMax, "transactionsMax"),
  });
  const feeds = paths.map((path, index) => new Feed(index, path));
  const setups = await Promise.allSettled(feeds.map(async (feed) => {
    feed.consumer = await setup(feed.path, { ...others, onConnection: (event) => feed.onConnection(event) });
  }));
  const failed = setups.find(({ status }) => status === "rejected");
  if (failed?.status === "rejected") {
    await Promise.all(feeds.map(({ consumer }) => consumer?.close()));
    throw failed.reason;
  }
  return new MergedConsumer(feeds, firstWins, clock);
}

/**
 * One stream of several feeds. Create it with {@linkcode setupMergedConsumer}; one reader at a time, as of a `Consumer`.
 *
 * What an update says of its delivery (`sequence`, `lost`, `filters`, the counts of a slot) is of its own feed: see `feed`.
 * Beside updates there come from each feed: "connection" where it was lost and where it goes on, "snapshot-complete", with
 * `marks` "filter", and a "gap" while no other feed is connected that could have what is missing.
 */
export class MergedConsumer implements AsyncDisposable {
  /** Resolves when no feed will bring anything more, with the reason of the last one; never rejects. */
  readonly whenEnded: Promise<{ readonly reason: EndReason }>;

  readonly #feeds: readonly Feed[];
  readonly #firstWins: FirstWins;
  readonly #clock: Clock;
  /** Whose turn it is, and how many of its updates were read. */
  #turnOf = 0;
  #taken = 0;
  /** Of the update that was handed out last. */
  #feed = 0;
  #isPolling = false;
  #isWaiting = false;
  #closeDeferred = false;
  #sinceTurn = 0;
  #lastTurnAt = performance.now();

  /** @internal Use {@linkcode setupMergedConsumer}. */
  constructor(feeds: readonly Feed[], firstWins: FirstWins, clock: Clock) {
    this.#firstWins = firstWins;
    this.#clock = clock;
    this.#feeds = feeds;
    let last: EndReason = "closed";
    const ends = feeds.map(async (feed) => {
      last = (await feed.reader.whenEnded).reason;
      feed.onEnd();
    });
    this.whenEnded = Promise.all(ends).then(() => ({ reason: last }));
  }

  // Reading

  /** The number of the feed, from 0, that the update came from which was handed out last. */
  get feed(): number {
    return this.#feed;
  }

  /** What each feed has brought, in the order of their paths. */
  get feeds(): FeedInfo[] {
    return this.#feeds.map((feed) => feed.info(this.#firstWins.slotsBehind(feed.index)));
  }

  /** The consumer of one of them. @internal */
  consumerOf(feed: number): Consumer | undefined {
    return this.#feeds[feed]?.reader;
  }

  /** Accounts and transactions that are remembered, to tell what is new. */
  get remembered(): { readonly accounts: number; readonly transactions: number } {
    return this.#firstWins.remembered;
  }

  /**
   * Hands what is there to `handler`, as `Consumer.poll`. Never waits.
   * @param handler Gets the view, and the number of its feed. It must be done with the view when it returns.
   * @param limit Most updates to hand out. Default 256.
   * @returns How many were handed out. Of duplicates 4,096 are looked at, so 0 does not always mean that nothing is there.
   * @throws {QlasterError} `CONSUMER_BUSY`; what the handler throws. {@linkcode TypeError} if it returns a promise.
   */
  poll(handler: (update: UpdateView, feed: number) => void, limit: number = LIMIT): number {
    this.#assertIdle();
    this.#isPolling = true;
    let count = 0;
    try {
      for (let looks = 0; count < limit && looks < LOOKS_PER_POLL && !this.#closeDeferred; looks++) {
        const update = this.#look();
        if (update === NOTHING) break;
        if (update === SKIPPED) continue;
        count++;
        refusePromise(handler(update, this.#feed));
      }
    } finally {
      this.#isPolling = false;
      for (const { reader } of this.#feeds) reader.releaseTaken();
      if (this.#closeDeferred) void this.close();
    }
    return count;
  }

  /**
   * Waits for the next update, as `Consumer.next`.
   * @returns A view that is valid until the consumer is asked again; undefined after `timeoutMs`, or at a quiet end.
   * @throws {QlasterError} `CONNECTION_LOST` once no feed is left, where none connects again (`reconnect: false`);
   * `CONSUMER_BUSY`
   */
  next(timeoutMs?: number): Promise<UpdateView | undefined> {
    return this.#next(timeoutMs, NEVER);
  }

  async #next(timeoutMs: number | undefined, isLeft: () => boolean): Promise<UpdateView | undefined> {
    this.#assertIdle();
    if (Number.isNaN(timeoutMs)) throw new RangeError("timeoutMs must be a number of milliseconds, not NaN");
    const deadline = timeoutMs === undefined ? Infinity : this.#clock.now() + timeoutMs;
    this.#isWaiting = true;
    try {
      while (true) {
        if (this.#isTurnDue()) await this.#turn();
        if (isLeft()) return undefined;
        const isLate = this.#clock.now() >= deadline; // judged only after one more look
        const update = this.#look();
        if (update === SKIPPED) continue;
        if (update !== NOTHING) return update;
        if (this.ended !== undefined) return this.#throwUnlessQuiet();
        if (isLate) return undefined;
        await this.#wait(deadline);
      }
    } finally {
      this.#isWaiting = false;
    }
  }

  /** Iterates over all updates: each view is valid until the loop asks for the next. `break` leaves the consumer open. */
  [Symbol.asyncIterator](): AsyncIterator<UpdateView> {
    let isOpen = true;
    return {
      next: () => {
        // The way without a promise of our own, as long as there is something and the event loop has had its turn.
        if (!this.#isWaiting && !this.#isPolling && !this.#isTurnDue()) {
          const update = this.#look();
          if (typeof update === "object") return Promise.resolve({ value: update, done: false });
        }
        return this.#next(undefined, () => !isOpen)
          .then((value) => value === undefined ? { value, done: true } : { value, done: false });
      },
      return: () => {
        isOpen = false;
        this.#stopWaiting(); // who still waits for the next one, waits no longer
        return Promise.resolve({ value: undefined, done: true });
      },
    };
  }

  /** Iterates over what each wake-up made available. What a loop leaves of a batch comes with the next one. */
  async *batches(): AsyncGenerator<Iterable<UpdateView>, void, undefined> {
    while (true) {
      const first = await this.next();
      if (first === undefined) return;
      yield this.#batch(first);
      await this.#turn();
    }
  }

  *#batch(first: UpdateView): Generator<UpdateView, void, undefined> {
    yield first;
    for (let looks = 0; looks < LOOKS_PER_POLL; looks++) {
      const update = this.#look();
      if (update === NOTHING) return;
      if (update !== SKIPPED) yield update;
    }
  }

  /** Reads one update of whichever feed has one. */
  #look(): UpdateView | typeof NOTHING | typeof SKIPPED {
    for (let tried = 0; tried < this.#feeds.length; tried++) {
      if (this.#taken >= UPDATES_PER_FEED) this.#passOn();
      const feed = this.#feeds[this.#turnOf]!;
      const update = feed.reader.tryTake();
      if (update === undefined) {
        this.#passOn();
        continue;
      }
      this.#taken++;
      this.#sinceTurn++;
      if (!this.#isWanted(feed, update)) return SKIPPED;
      this.#feed = feed.index;
      return update;
    }
    return NOTHING;
  }

  #passOn(): void {
    this.#turnOf = (this.#turnOf + 1) % this.#feeds.length;
    this.#taken = 0;
  }

  #isWanted(feed: Feed, update: UpdateView): boolean {
    feed.lost += update.lost;
    const verdict = this.#judge(feed.index, update);
    if (verdict === undefined) return update.kind !== "gap" || !this.#hasOther(feed);
    feed.count(verdict, this.#firstWins.behindUs);
    return verdict === "first";
  }

  /** Undefined for what is no update. */
  #judge(feed: number, update: UpdateView): Verdict | undefined {
    const firstWins = this.#firstWins;
    switch (update.kind) {
      case "account":
        return firstWins.account(feed, update);
      case "transaction":
        return firstWins.transaction(update);
      case "slot":
        return firstWins.slot(feed, update);
      case "left":
        return firstWins.left(feed, update);
      case "withdrawn":
        return firstWins.withdrawn(feed, update);
      case "rollback":
        return firstWins.rollback(feed, update);
      case "connection":
        if (update.event.type === "lost") firstWins.forgetFeed(feed);
        return undefined;
      default:
        return undefined;
    }
  }

  #hasOther(feed: Feed): boolean {
    return this.#feeds.some((other) => other !== feed && other.reader.isConnected);
  }

  /** Until one of them may have something; the caller looks again in any case. */
  async #wait(deadline: number): Promise<void> {
    const open = this.#feeds.filter(({ reader }) => reader.ended === undefined);
    await Promise.all(open.map(({ reader }) => reader.whenReadable(deadline).then(() => this.#stopWaiting())));
  }

  #stopWaiting(): void {
    for (const { reader } of this.#feeds) reader.stopWaiting();
  }

  #assertIdle(): void {
    if (this.#isPolling) throw new QlasterError("CONSUMER_BUSY", "Cannot read inside a handler of poll");
    if (this.#isWaiting) throw new QlasterError("CONSUMER_BUSY", "Cannot read while another call waits");
  }

  #isTurnDue(): boolean {
    if (this.#sinceTurn >= UPDATES_PER_TURN) return true;
    return this.#sinceTurn % CLOCK_EVERY === CLOCK_EVERY - 1 && performance.now() - this.#lastTurnAt > TURN_MS;
  }

  async #turn(): Promise<void> {
    await new Promise<void>((resolve) => void setImmediate(resolve));
    this.#sinceTurn = 0;
    this.#lastTurnAt = performance.now();
  }

  #throwUnlessQuiet(): undefined {
    const ends = this.#feeds.map(({ path, reader }) => ({ path, reason: reader.ended!.reason }));
    const loud = ends.find(({ reason }) => reason !== "closed" && reason !== "sender-closed");
    if (loud === undefined) return undefined;
    const all = ends.map(({ path, reason }) => `"${path}" (${reason})`).join(", ");
    throw new QlasterError("CONNECTION_LOST", `Lost all senders: ${all}`, { reason: loud.reason });
  }

  // Asking

  /**
   * Adds to what this consumer gets, of all feeds: see `Consumer.subscribe`.
   * @returns When it is in force at the feeds that are connected; the others are asked when they are there again.
   * @throws what a feed throws that refuses; others may have it in force.
   */
  subscribe(subscription: Subscription): Promise<FeedAcks> {
    const lasting = withLists(subscription, ["accounts", "owners"]);
    return this.#ask((consumer) => consumer.subscribe(lasting));
  }

  /** Takes back what `subscribe` had asked for: see `Consumer.unsubscribe`. Answers as `subscribe`. */
  unsubscribe(subscription: Subscription): Promise<FeedAcks> {
    const lasting = withLists(subscription, ["accounts", "owners"]);
    return this.#ask((consumer) => consumer.unsubscribe(lasting));
  }

  /** Sets a filter by name: see `Consumer.setFilter`. Answers as `subscribe`. Its lists are gone through once per feed. */
  setFilter(name: string, filter: NamedFilter): Promise<FeedAcks> {
    return this.#ask((consumer) => consumer.setFilter(name, filter));
  }

  /** Adds keys to a named filter, or takes some away: see `Consumer.editFilter`. Answers as `subscribe`. */
  editFilter(name: string, edit: FilterKeysEdit): Promise<FeedAcks> {
    const lasting = withLists(edit, ["add", "remove"]);
    return this.#ask((consumer) => consumer.editFilter(name, lasting));
  }

  /** Removes a named filter: see `Consumer.removeFilter`. Answers as `subscribe`. */
  removeFilter(name: string): Promise<FeedAcks> {
    return this.#ask((consumer) => consumer.removeFilter(name));
  }

  async #ask(ask: (consumer: Consumer) => Promise<SubscriptionAck>): Promise<FeedAcks> {
    if (this.ended !== undefined) {
      throw new QlasterError("CONSUMER_CLOSED", "Cannot ask any sender: all feeds have ended");
    }
    return await Promise.all(this.#feeds.map((feed) => feed.whileConnected(ask)));
  }

  // Life

  /** Why nothing more comes, by one of the feeds; undefined while one may bring something. */
  get ended(): { readonly reason: EndReason } | undefined {
    let ended: { readonly reason: EndReason } | undefined;
    for (const { reader } of this.#feeds) if ((ended = reader.ended) === undefined) return undefined;
    return ended;
  }

  /** Whether a feed is connected. */
  get isConnected(): boolean {
    return this.#feeds.some(({ reader }) => reader.isConnected);
  }

  /** Keeps the process alive (the default). */
  ref(): void {
    for (const { reader } of this.#feeds) reader.ref();
  }

  /** Lets the process end although the consumer is open. */
  unref(): void {
    for (const { reader } of this.#feeds) reader.unref();
  }

  /** Closes all feeds; all views are void. Inside a handler of `poll`: when it returns. May be called twice. */
  async close(): Promise<void> {
    if (this.#isPolling) this.#closeDeferred = true;
    else await Promise.all(this.#feeds.map(({ reader }) => reader.close()));
  }

  /** The same as `close()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** The same with lists that can be gone through once for each feed. */
function withLists<T extends { readonly [Name in Names]?: Iterable<AddressLike> }, Names extends string>(
  given: T,
  names: readonly Names[],
): T {
  const lists: { [Name in Names]?: Iterable<AddressLike> } = {};
  for (const name of names) if (given[name] !== undefined) lists[name] = [...given[name]];
  return { ...given, ...lists };
}
