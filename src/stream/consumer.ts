/**
 * The consumer: reads one sender's updates in place, in its order, whichever protocol the sender speaks.
 * May touch: the native library through its parts (connect, session, reader, idle). May not touch: a runtime.
 *
 * @module
 */

import { setImmediate } from "node:timers";
import { load } from "../native/load.ts";
import type { Native } from "../native/native.ts";
import { QlasterError } from "../errors.ts";
import type { EndReason, SlotToken, Subscription, SubscriptionAck } from "../types.ts";
import type { GrantedV9 } from "../v9/bootstrap.ts";
import { V9Reader } from "../v9/reader.ts";
import { V9Session } from "../v9/session.ts";
import type { NamedFilter } from "../wire/filters.ts";
import { encodeHello } from "../wire/messages.ts";
import { connect, type GrantedNative } from "./connect.ts";
import {
  type ConsumerOptions,
  type Freshness,
  type OverflowPolicies,
  resolveConsumerOptions,
  type ResolvedConsumerOptions,
} from "./consumer_options.ts";
import { FilterNames } from "./filter_names.ts";
import { Idle } from "./idle.ts";
import { describeLoss } from "./loss.ts";
import { type FilterKeysEdit, keyListsOf, NamedFilters } from "./named_filters.ts";
import { NativeSession } from "./native_session.ts";
import { type Copies, CopyQueues, type QueueKind } from "./queues.ts";
import { type Backlog, BATCH_MAX, RingReader } from "./reader.ts";
import type { Edit, Session } from "./session.ts";
import { StaleWatch } from "./stale_watch.ts";
import { Latency } from "./timings.ts";
import type { AccountCopy, SlotCopy, TransactionCopy, UpdateView } from "./view.ts";

/** What a consumer has seen so far. Counts since `setupConsumer`. */
export interface ConsumerMetrics {
  /** Updates read. */
  readonly frames: number;
  /** Bytes of the ring that were read, those included that the policy "drop-oldest" had us skip. */
  readonly bytes: number;
  /** Matching updates that did not come, by the numbers of those that did. Wire version 9: 0, it has none. */
  readonly lost: number;
  /** Those of them that a newer value of the same account replaced, as far as the sender's frames say. */
  readonly conflated: number;
  /** Wire version 9: frames that could not be decoded and were left out, as the original leaves them out. */
  readonly undecodable: number;
  /** Times that it went to sleep. */
  readonly parks: number;
  /** Copies that `tryNext…` threw away because nobody asked for their kind. */
  readonly discarded: { readonly updates: number; readonly transactions: number; readonly slots: number };
  /** The ring: its size, and bytes between the sender's cursor and ours. */
  readonly ring: { readonly capacityBytes: number; readonly usedBytes: number };
}

/** The original's latencies of a consumer, in its names and units. */
export interface ConsumerTimings {
  /** Asking the native library for frames: the first update of a batch has the whole cost, the others 0. */
  readonly read: Latency;
  /** Making the view of an update. */
  readonly decode: Latency;
  /** Putting a copy into a queue: `tryNext…` only, since the other ways of reading have no queue. */
  readonly enqueue: Latency;
  /** From the sender's encoding to here by the wall clock, rounded up; 0 if the sender's time is unknown or in the future. */
  readonly full_read: Latency;
}

/** What one wake-up made available: iterate it once, before asking for the next. */
export interface Batch extends Iterable<UpdateView> {
  /** Frames that are ready, goodbyes included. */
  readonly size: number;
}

/** A loop that always finds a frame still lets timers and sockets run: after that many frames, or that long. */
const FRAMES_PER_TURN = BATCH_MAX;
/** Updates of other kinds that one `tryNext…` puts aside at most: it never waits, also not for an end of them. */
const TAKEN_PER_TRY = 4096;
const CLOCK_EVERY = 16;
const TURN_MS = 2;

/** What a consumer learns who still looked at shared payloads when the sender let go of it (design D5). */
const REVOKED =
  "its ring for this consumer was full, and payloads that were read last may have been overwritten while " +
  "they were read: do not trust them; read faster, copy first, or subscribe to less";

/** These end loops quietly. */
const QUIET: readonly EndReason[] = ["closed", "sender-closed"];

/**
 * Connects to the sender at `path` and maps its ring. Slots come from now on; accounts and transactions by `subscribe`.
 * A sender that is the Rust original (wire version 9) is served as well, without anything to set: see `protocol`.
 * @returns The consumer. It keeps the process alive until `close()` or `unref()`.
 * @throws {QlasterError} `CONNECT_NO_SENDER`, `CONNECT_REFUSED`, `CONNECT_TIMEOUT`, `CONNECT_VERSION`, `CONNECT_UID`,
 * `CONNECT_PROTOCOL`, `LINK_PROTOCOL`, `REGION_REFUSED`, `NATIVE_…`
 *
 * @example
 * ```ts
 * import { setupConsumer, setupSender } from "@qlaster/core";
 * import assert from "node:assert/strict";
 *
 * await using sender = await setupSender({ path: "/tmp/qlaster-doc-consumer.sock", ringCapacityBytes: 65536 });
 * await using consumer = await setupConsumer("/tmp/qlaster-doc-consumer.sock");
 * sender.publishSlot({ slot: 2n, parent: 1n, status: "processed" });
 * const update = await consumer.next();
 * assert.equal(update?.kind === "slot" && update.slot, 2n);
 * ```
 */
export async function setupConsumer(path: string, options: ConsumerOptions = {}): Promise<Consumer> {
  if (typeof path !== "string" || path === "") throw new TypeError("path must be a non-empty string");
  const resolved = resolveConsumerOptions(options);
  const { connectTimeoutMs: timeoutMs, protocol, uids, signal } = resolved;
  const hello = encodeHello(resolved.name, {
    policy: resolved.policy.accounts,
    transactionPolicy: resolved.policy.transactions,
    backlogBytes: resolved.queueBytes,
  });
  const native = await load();
  const granted = await connect(native, hello, { path, protocol, timeoutMs, uids, signal });
  let parts: Parts;
  try {
    parts = openParts(native, path, granted, resolved);
  } catch (error) {
    granted.link.close();
    granted.watch.close();
    if (granted.protocol === "v9") granted.stream.close();
    else native.close(granted.senderWake);
    native.close(granted.ring);
    throw error;
  }
  return new Consumer(native, path, parts, resolved);
}

/** What differs by protocol. */
interface Parts {
  readonly session: Session;
  readonly reader: RingReader;
  readonly ring: number;
  readonly capacityBytes: number;
  /** What the bits of masks stand for. */
  readonly names: FilterNames;
  readonly policy: OverflowPolicies;
}

/** The original's only one. */
const V9_POLICY: OverflowPolicies = Object.freeze({ accounts: "disconnect", transactions: "disconnect" });

function openParts(
  native: Native,
  path: string,
  granted: GrantedNative | GrantedV9,
  options: ResolvedConsumerOptions,
): Parts {
  const { ring } = granted;
  const names = new FilterNames();
  if (granted.protocol === "native") {
    const { capacityBytes, poolBytes, policy, transactionPolicy } = granted.grant;
    const session = new NativeSession(native, path, granted, options.requestTimeoutMs);
    const memoryBytes = 2 * capacityBytes + poolBytes;
    const reader = new RingReader(native, ring, capacityBytes, {
      memoryBytes,
      filters: names,
      hasMarks: options.marks,
    });
    const policies = Object.freeze({ accounts: policy, transactions: transactionPolicy });
    return { session, reader, ring, capacityBytes, names, policy: policies };
  }
  const reader = new V9Reader(native, ring);
  const session = new V9Session(native, path, granted, reader, {
    requestTimeoutMs: options.requestTimeoutMs,
    pingMs: options.v9PingMs,
    idleMs: options.v9IdleMs,
  });
  return { session, reader, ring, capacityBytes: reader.capacityBytes, names, policy: V9_POLICY };
}

/** Reads the updates of one sender. Create one with {@linkcode setupConsumer}. One reader at a time. */
export class Consumer implements AsyncDisposable {
  /** The socket's path. */
  readonly path: string;
  /** Resolves when nothing more will come, everything that came having been read; never rejects. */
  readonly whenEnded: Promise<{ readonly reason: EndReason }>;

  /** What the sender speaks: this library's own protocol, or wire version 9 of the Rust original. */
  readonly protocol: "native" | "v9";
  /**
   * What happens when this consumer reads too slowly and its ring is full: what was asked for, as far as the sender permits
   * it. Wire version 9: "disconnect".
   */
  readonly policy: OverflowPolicies;
  /** With the option `timings`: how long things take. Read and set to zero by `flush()`. */
  readonly timings: ConsumerTimings | undefined;

  readonly #session: Session;
  readonly #names: FilterNames;
  readonly #filters: NamedFilters;
  readonly #staleWatch: StaleWatch;
  readonly #reader: RingReader;
  readonly #capacityBytes: number;
  readonly #idle: Idle;
  readonly #signal: AbortSignal | undefined;
  #ended: { readonly reason: EndReason } | undefined;
  #resolveEnded!: (end: { readonly reason: EndReason }) => void;
  /** Why it will end once what is in the ring has been read. */
  #pendingEnd: EndReason | undefined;
  /** Inside `poll`'s handler: what voids views waits until it returns. */
  #isPolling = false;
  #isWaiting = false;
  #closeDeferred = false;
  #framesSinceTurn = 0;
  #lastTurnAt = performance.now();
  /** What the last native poll took, until an update has been charged with it. Only with timings. */
  #pollUs = 0;
  /** Who used bytes that may have been overwritten has been told. */
  #isRevocationTold = false;

  readonly #queues = new CopyQueues();
  readonly #onAbort = (): void => void this.close();

  /** @internal Use {@linkcode setupConsumer}. */
  constructor(
    native: Native,
    path: string,
    parts: Parts,
    options: Pick<ResolvedConsumerOptions, "idle" | "timings" | "signal" | "staleAfterSlots" | "onStale">,
  ) {
    this.path = path;
    this.protocol = parts.session.protocol;
    this.policy = parts.policy;
    this.#session = parts.session;
    this.#names = parts.names;
    this.#filters = new NamedFilters(parts.names, (edit) => this.#edit(edit));
    this.#reader = parts.reader;
    this.#staleWatch = new StaleWatch({
      seenSlot: () => this.#reader.seenSlot,
      knownSlot: () => this.#reader.knownSlot,
      staleAfterSlots: options.staleAfterSlots,
      onStale: options.onStale,
    });
    this.#capacityBytes = parts.capacityBytes;
    this.#idle = new Idle(native, parts.ring, options.idle);
    this.#signal = options.signal;
    this.timings = options.timings
      ? { read: new Latency(), decode: new Latency(), enqueue: new Latency(), full_read: new Latency() }
      : undefined;
    this.whenEnded = new Promise((resolve) => this.#resolveEnded = resolve);
    this.#session.start({ onWake: () => this.#idle.wakeUp(), onEnd: (reason) => this.#endAfterReading(reason) });
    if (this.#signal?.aborted === true) void this.close();
    else this.#signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  // Reading

  /**
   * Hands what is there to `handler`, one reused view at a time, and gives the room back. Never waits.
   * @param handler Must be done with the view when it returns; a promise is refused.
   * @param limit Most updates to hand out. Default 256.
   * @returns How many were handed out. 0 also when the connection has ended: see `ended`.
   * @throws {QlasterError} `CONSUMER_BUSY` inside a handler; `CONNECTION_LOST` if bytes that the handler was given may have
   * been overwritten meanwhile, since the sender had dropped this consumer as too slow: do not trust them. What the handler
   * throws, its update having been delivered.
   */
  poll(handler: (update: UpdateView) => void, limit: number = BATCH_MAX): number {
    if (this.#isPolling) throw new QlasterError("CONSUMER_BUSY", "Cannot poll inside a handler of poll");
    if (this.#isWaiting) throw new QlasterError("CONSUMER_BUSY", "Cannot poll while next() waits");
    this.#isPolling = true;
    let count = 0;
    try {
      while (count < limit) {
        const update = this.#take();
        if (update === undefined) break;
        count++;
        const result: unknown = handler(update);
        if (typeof (result as PromiseLike<void> | undefined)?.then === "function") {
          (result as PromiseLike<void>).then(undefined, () => {});
          throw new TypeError(
            "The handler of poll returned a promise: its view would be void by then. Use next() or for await",
          );
        }
        if (this.#closeDeferred) break;
      }
    } finally {
      this.#isPolling = false;
      this.#reader.release();
      if (this.#closeDeferred) void this.close();
    }
    this.#throwIfRevoked();
    return count;
  }

  /**
   * Waits for the next update.
   * @param timeoutMs Longest wait, in milliseconds. Default: none.
   * @returns A view that is valid until the consumer is asked again; undefined after `timeoutMs`, or at a quiet end.
   * @throws {QlasterError} `CONNECTION_LOST` with its `reason`, once everything in the ring has been read (who
   * was dropped and reads on a second later may find payloads in the sender's pool overwritten, and is told so by it);
   * `CONSUMER_BUSY` while another call waits.
   */
  async next(timeoutMs?: number): Promise<UpdateView | undefined> {
    this.#assertIdle();
    if (Number.isNaN(timeoutMs)) throw new RangeError("timeoutMs must be a number of milliseconds, not NaN");
    const deadline = timeoutMs === undefined ? Infinity : performance.now() + timeoutMs;
    this.#isWaiting = true;
    try {
      if (this.#isTurnDue()) await this.#turn();
      while (true) {
        const isLate = performance.now() >= deadline; // judged only after one more look
        const update = this.#take();
        if (update !== undefined) return update;
        if (this.#ended !== undefined) return this.#throwUnlessQuiet();
        if (isLate) return undefined;
        await this.#wait(deadline);
      }
    } finally {
      this.#isWaiting = false;
    }
  }

  /** Iterates over all updates: each view is valid until the loop asks for the next. `break` leaves the consumer open. */
  [Symbol.asyncIterator](): AsyncIterator<UpdateView> {
    return {
      next: () => {
        // The way without a promise of our own, as long as there is something and the event loop has had its turn.
        if (!this.#isWaiting && !this.#isPolling && !this.#isTurnDue()) {
          const update = this.#take();
          if (update !== undefined) return Promise.resolve({ value: update, done: false });
        }
        return this.next().then((value) => value === undefined ? { value, done: true } : { value, done: false });
      },
      return: () => Promise.resolve({ value: undefined, done: true }),
    };
  }

  /** Iterates over what each wake-up made available. What a loop leaves of a batch comes with the next one. */
  async *batches(): AsyncGenerator<Batch, void, undefined> {
    const batch = new ReadyBatch(this.#reader, () => this.#take());
    while (true) {
      this.#assertIdle();
      this.#isWaiting = true;
      try {
        await this.#turn();
        while (this.#reader.ready === 0 && !this.#refill()) {
          this.#noteEnd();
          if (this.#ended !== undefined) return void this.#throwUnlessQuiet();
          await this.#wait(Infinity);
        }
      } finally {
        this.#isWaiting = false;
      }
      this.#idle.noteBusy();
      yield batch;
    }
  }

  /** The next account update as a copy, if one is there. Never waits. The other kinds are kept: 2,048 of each. */
  tryNextUpdate(): AccountCopy | undefined {
    return this.#tryNext("account");
  }

  /** The next transaction, likewise. */
  tryNextTransaction(): TransactionCopy | undefined {
    return this.#tryNext("transaction");
  }

  /** The next slot, likewise. */
  tryNextSlot(): SlotCopy | undefined {
    return this.#tryNext("slot");
  }

  #tryNext<Kind extends QueueKind>(kind: Kind): Copies[Kind] | undefined {
    this.#assertIdle();
    for (let taken = 0; taken < TAKEN_PER_TRY && this.#queues.isEmpty(kind); taken++) {
      const update = this.#take();
      if (update === undefined) break;
      if (this.timings === undefined) this.#queues.keep(update);
      else this.#keepTimed(update, this.timings);
    }
    this.#reader.release();
    if (this.#reader.isRevoked) this.#queues.disown();
    else this.#queues.confirm();
    const copy = this.#queues.shift(kind);
    if (copy === undefined) this.#throwIfRevoked();
    return copy;
  }

  /** Once: whoever was handed out bytes that may have been overwritten has to know. */
  #throwIfRevoked(): void {
    if (!this.#reader.isRevoked || this.#isRevocationTold) return;
    this.#isRevocationTold = true;
    this.#noteEnd();
    throw this.#lostError();
  }

  #take(): UpdateView | undefined {
    const update = this.timings === undefined ? this.#reader.advance() : this.#advanceTimed(this.timings);
    if (update !== undefined) {
      this.#framesSinceTurn++;
      this.#idle.noteBusy();
      return update;
    }
    this.#noteEnd();
    return undefined;
  }

  #refill(): boolean {
    if (this.timings === undefined) return this.#reader.refill();
    const started = performance.now();
    const found = this.#reader.refill();
    if (found) this.#pollUs += 1000 * (performance.now() - started);
    return found;
  }

  #advanceTimed(timings: ConsumerTimings): UpdateView | undefined {
    if (this.#reader.ready === 0 && !this.#refill()) return undefined;
    const started = performance.now();
    const update = this.#reader.advance();
    if (update === undefined) return undefined;
    timings.decode.record(1000 * (performance.now() - started));
    timings.read.record(this.#pollUs);
    this.#pollUs = 0;
    timings.full_read.record(update.publishNs === 0n ? 0 : Math.ceil(update.ageUs));
    return update;
  }

  #keepTimed(update: UpdateView, timings: ConsumerTimings): void {
    const started = performance.now();
    this.#queues.keep(update);
    timings.enqueue.record(1000 * (performance.now() - started));
  }

  /** Until there may be something to do; the caller looks again in any case. */
  #wait(deadline: number): Promise<void> {
    if (this.#reader.isCut) return this.#turn();
    // Where a ring is over and the reason is still looked for, only the session ends the sleep.
    return this.#reader.isOver ? this.#idle.sleep(deadline) : this.#idle.wait(deadline);
  }

  #assertIdle(): void {
    if (this.#isPolling) throw new QlasterError("CONSUMER_BUSY", "Cannot read inside a handler of poll");
    if (this.#isWaiting) throw new QlasterError("CONSUMER_BUSY", "Cannot read while another call waits");
  }

  #isTurnDue(): boolean {
    if (this.#framesSinceTurn >= FRAMES_PER_TURN) return true;
    return this.#framesSinceTurn % CLOCK_EVERY === CLOCK_EVERY - 1 && performance.now() - this.#lastTurnAt > TURN_MS;
  }

  async #turn(): Promise<void> {
    await new Promise<void>((resolve) => void setImmediate(resolve));
    this.#framesSinceTurn = 0;
    this.#lastTurnAt = performance.now();
  }

  /** The ring is empty: is that all there will ever be? */
  #noteEnd(): void {
    if (this.#ended !== undefined) return;
    const reason = this.#reader.end;
    if (reason !== undefined) return this.#end(reason);
    // Judged after a look that found nothing, and the flag was set before the look: nothing can have come since.
    if (this.#pendingEnd === undefined || this.#reader.isCut) return;
    if (this.#reader.refill() || this.#reader.isCut) return;
    this.#end(this.#reader.end ?? this.#pendingEnd);
  }

  #throwUnlessQuiet(): undefined {
    const { reason } = this.#ended!;
    this.#isRevocationTold = true;
    if (QUIET.includes(reason)) return undefined;
    throw this.#lostError();
  }

  #lostError(): QlasterError {
    // Not ended yet: there is still something to read.
    const reason = this.#ended?.reason ?? this.#reader.announcedEnd ?? this.#pendingEnd ?? "sender-gone";
    const what = this.#reader.isRevoked ? REVOKED : this.#session.explain(reason) ?? describeLoss(reason);
    return new QlasterError("CONNECTION_LOST", `Lost the sender at "${this.path}" (${reason}: ${what})`, { reason });
  }

  // Asking

  /**
   * Adds to what this consumer gets: accounts by key OR by owner, all transactions.
   * @param subscription Keys as base58 addresses or 32 bytes each; at most a million in all.
   * @returns When it is in force. Wire version 9, which says neither: `generation` counts our requests that were answered,
   * `sequence` is what the sender had published by then.
   * @throws {TypeError} for a key that is none. {@linkcode QlasterError} `SUBSCRIBE_REFUSED`: part of it may be in
   * force, and keys that it names may be gone though they were there before; `CONNECT_TIMEOUT`, `CONNECTION_LOST`,
   * `CONSUMER_CLOSED`
   */
  async subscribe(subscription: Subscription): Promise<SubscriptionAck> {
    const lists = keyListsOf(subscription);
    const doubt = this.#doubt();
    if (doubt !== undefined) await doubt;
    this.#assertAskable();
    return await this.#session.subscribe(lists);
  }

  /**
   * Takes back what `subscribe` had asked for: keys, and with `transactions: true` all transactions. What was not
   * subscribed to is ignored. Named filters are not touched.
   * @returns When it is in force. Updates of before may still be unread.
   * @throws {TypeError} for a key that is none. {@linkcode QlasterError} `SUBSCRIBE_REFUSED`, `CONNECT_TIMEOUT`,
   * `CONNECTION_LOST`, `CONSUMER_CLOSED`; `V9_UNSUPPORTED` from a sender of wire version 9, which can only add.
   */
  async unsubscribe(subscription: Subscription): Promise<SubscriptionAck> {
    return await this.#filters.unsubscribe(keyListsOf(subscription));
  }

  /**
   * Sets a filter by name, in the place of the one that had this name, in one step. What matches several filters comes
   * once: its `filters` says their names.
   * @param name Chosen by you, 1 to 64 characters; at most 63 of them at a time.
   * @returns When it is in force.
   * @throws {TypeError} {@linkcode RangeError} for what is no filter or beyond a limit. {@linkcode QlasterError}
   * `SUBSCRIBE_REFUSED`: then the filter is as it was before. `CONNECT_TIMEOUT`, `CONNECTION_LOST`, `CONSUMER_CLOSED`;
   * `V9_UNSUPPORTED` from a sender of wire version 9.
   *
   * @example
   * ```ts
   * import { setupConsumer, setupSender } from "@qlaster/core";
   * import assert from "node:assert/strict";
   *
   * const [pubkey, owner] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];
   * await using sender = await setupSender({ path: "/tmp/qlaster-doc-filter.sock", ringCapacityBytes: 65536 });
   * await using consumer = await setupConsumer("/tmp/qlaster-doc-filter.sock");
   * await consumer.setFilter("rich", { accounts: { owners: [owner], lamports: { gt: 10n } } });
   * sender.publishAccount({ pubkey, owner, lamports: 11n, data: new Uint8Array(0), slot: 1n });
   * for await (const update of consumer) {
   *   if (update.kind !== "account") continue;
   *   assert.deepEqual(update.filters, ["rich"]);
   *   break;
   * }
   * ```
   */
  async setFilter(name: string, filter: NamedFilter): Promise<SubscriptionAck> {
    return await this.#filters.set(name, filter);
  }

  /**
   * Adds keys to a named filter, or takes some away: of the list that the sender's index holds, which is `accounts`, or
   * `owners` where there are no accounts, or a transaction filter's `accountInclude` (without it, the first of
   * `accountRequired`).
   * @returns When all of it is in force. Keys that are removed go first; a long list takes several messages, each of which
   * holds as it comes.
   * @throws {TypeError} for a key that is none, and for a filter without such a list. {@linkcode RangeError} for a name that
   * is none. {@linkcode QlasterError} as `setFilter`; what was refused may have been done in part, and keys that were
   * to be added may be gone though they were there before: then set the filter anew.
   */
  async editFilter(name: string, edit: FilterKeysEdit): Promise<SubscriptionAck> {
    return await this.#filters.edit(name, edit);
  }

  /**
   * Removes a named filter. Updates of before may still be unread, and bear its name.
   * @returns When nothing matches it any longer.
   * @throws {RangeError} for a name that is none. {@linkcode QlasterError} as `setFilter`.
   */
  async removeFilter(name: string): Promise<SubscriptionAck> {
    return await this.#filters.remove(name);
  }

  /** Names of the filters that were set and not removed. */
  get filterNames(): readonly string[] {
    return this.#names.names;
  }

  async #edit(edit: Edit): Promise<SubscriptionAck> {
    const doubt = this.#doubt();
    if (doubt !== undefined) await doubt;
    this.#assertAskable();
    return await this.#session.edit(edit);
  }

  /**
   * Asks the sender for a sign of life.
   * @returns The round trip in milliseconds: through both event loops, so it tells how busy they are.
   * @throws {QlasterError} `CONNECT_TIMEOUT`, `CONNECTION_LOST`, `CONSUMER_CLOSED`
   */
  async ping(): Promise<number> {
    const started = performance.now();
    const doubt = this.#doubt();
    if (doubt !== undefined) await doubt;
    this.#assertAskable();
    await this.#session.ping();
    return performance.now() - started;
  }

  /** Something to wait for while it is uncertain whether the sender still serves us. */
  #doubt(): Promise<void> | undefined {
    return this.#ended === undefined ? this.#session.doubt() : undefined;
  }

  #assertAskable(): void {
    if (this.#ended !== undefined || this.#pendingEnd !== undefined) throw this.#requestError();
  }

  #requestError(): QlasterError {
    return this.#ended?.reason === "closed"
      ? new QlasterError("CONSUMER_CLOSED", `Cannot ask the sender at "${this.path}"`)
      : this.#lostError();
  }

  #endAfterReading(reason: EndReason): void {
    if (this.#pendingEnd !== undefined || this.#ended !== undefined) return;
    this.#pendingEnd = reason;
    this.#reader.freeze();
    this.#session.rejectAll(this.#requestError());
    // With nothing left to read it is over now, even if nobody reads. But who holds a view keeps it until he asks again.
    void this.#endIfUnread();
    this.#idle.wakeUp();
  }

  async #endIfUnread(): Promise<void> {
    while (this.#ended === undefined) {
      if (this.#isPolling || this.#isWaiting || this.#reader.ready > 0 || this.#reader.isHeld) return;
      if (this.#reader.refill()) return;
      if (!this.#reader.isCut) return this.#noteEnd();
      await this.#turn();
    }
  }

  // Life

  /** Why nothing more comes; undefined while it may, or while something is left to read. */
  get ended(): { readonly reason: EndReason } | undefined {
    return this.#ended;
  }

  /**
   * How far this consumer is behind its sender: bytes and matching updates that were published and not handed out, lost
   * ones included, and the microseconds since the oldest of them was published. All 0 when nothing is unread. Wire version
   * 9, which numbers nothing: updates and age of what has been looked at.
   */
  lag(): Backlog {
    return this.#reader.backlog;
  }

  /** How far this consumer is behind its sender in slots. Wire version 9, which does not say: never behind. */
  freshness(): Freshness {
    return this.#staleWatch.freshness;
  }

  /**
   * Whether the reading is more than `staleAfterSlots` slots behind what the sender knows; false without that option. What
   * a bot decides by state that is stale, it decides by the past.
   */
  get isStale(): boolean {
    return this.#staleWatch.isStale;
  }

  /**
   * How many edits of this consumer's filters are in force for the update that was handed out last: compare it with the
   * `generation` of an acknowledgement. Wire version 9, which marks nothing: 0.
   */
  get filterGeneration(): number {
    return this.#reader.filterGeneration;
  }

  /** Wire version 9: what the sender knows this consumer by, also after its end. Undefined for the native protocol. */
  get slotToken(): SlotToken | undefined {
    return this.#session.slotToken;
  }

  /** What this consumer has seen so far. */
  get metrics(): ConsumerMetrics {
    return {
      frames: this.#reader.frames,
      bytes: this.#reader.bytes,
      lost: this.#reader.lost,
      conflated: this.#reader.conflated,
      undecodable: this.#reader.undecodable,
      parks: this.#idle.parks,
      discarded: this.#queues.discarded,
      ring: { capacityBytes: this.#capacityBytes, usedBytes: this.#reader.usedBytes },
    };
  }

  /** Keeps the process alive (the default). */
  ref(): void {
    this.#session.ref();
  }

  /** Lets the process end although the consumer is open. */
  unref(): void {
    this.#session.unref();
  }

  /** Says goodbye and frees everything; all views are void. Inside a handler of `poll`: when it returns. May be called twice. */
  close(): Promise<void> {
    if (this.#isPolling) {
      this.#closeDeferred = true;
    } else if (this.#ended === undefined) {
      this.#session.goodbye();
      this.#end("closed");
    }
    return Promise.resolve();
  }

  /** The same as `close()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #end(reason: EndReason): void {
    if (this.#ended !== undefined) return;
    this.#ended = { reason };
    this.#staleWatch.close();
    this.#signal?.removeEventListener("abort", this.#onAbort);
    this.#session.close();
    this.#session.rejectAll(this.#requestError());
    this.#idle.wakeUp();
    this.#reader.close();
    this.#resolveEnded(this.#ended);
  }
}

/** The frames of one native poll. */
class ReadyBatch implements Batch {
  readonly #reader: RingReader;
  readonly #take: () => UpdateView | undefined;

  constructor(reader: RingReader, take: () => UpdateView | undefined) {
    this.#reader = reader;
    this.#take = take;
  }

  get size(): number {
    return this.#reader.ready;
  }

  *[Symbol.iterator](): Generator<UpdateView, void, undefined> {
    while (this.#reader.ready > 0) {
      const update = this.#take();
      if (update !== undefined) yield update;
    }
  }
}
