/**
 * The consumer: reads updates in place, of one sender at a time, in its order, whichever protocol that speaks; and goes on
 * with the next one (connections.ts).
 * May touch: the native library through its parts (connections, reader, idle). May not touch: a runtime.
 *
 * @module
 */

import { setImmediate } from "node:timers";
import type { Clock, Timer } from "../native/clock.ts";
import { load } from "../native/load.ts";
import type { Native } from "../native/native.ts";
import { QlasterError } from "../errors.ts";
import type { Backlog, EndReason, SlotToken, Subscription, SubscriptionAck } from "../types.ts";
import type { NamedFilter } from "../wire/filters.ts";
import { Connections, type FirstConnection } from "./connections.ts";
import { ConsumerConnection } from "./consumer_connection.ts";
import {
  type ConsumerOptions,
  type Freshness,
  type OverflowPolicies,
  resolveConsumerOptions,
  type ResolvedConsumerOptions,
} from "./consumer_options.ts";
import { AccountCache, type CacheOptions } from "../cache/account_cache.ts";
import { CacheReading } from "../cache/cache_reading.ts";
import { FilterNames } from "./filter_names.ts";
import { type HandedOver, NativeSession } from "./native_session.ts";
import { Idle } from "./idle.ts";
import { type FilterKeysEdit, keyListsOf, NamedFilters } from "./named_filters.ts";
import { type Copies, CopyQueues, type QueueKind } from "./queues.ts";
import { BATCH_MAX, type RingReader } from "./reader.ts";
import { readableOf, type ReadableOptions, type ViewCopy } from "./readable.ts";
import { Backoff, Pause, RECONNECT_DEFAULTS, tryUntilConnected } from "./reconnect.ts";
import { type ConsumerShare, ReaderDesk } from "./reader_share.ts";
import { StaleWatch } from "./stale_watch.ts";
import { Latency } from "./timings.ts";
import type { AccountCopy, SlotCopy, TransactionCopy, UpdateView } from "./view.ts";

/** What came by one connection, or by all of a consumer's. */
export interface ReadCounts {
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
}

/** What a consumer has seen so far. Counts since `setupConsumer`, over all connections. */
export interface ConsumerMetrics extends ReadCounts {
  /** The same of the present connection, or of the last one while there is none. */
  readonly connection: ReadCounts;
  /** How often a lost connection was followed by another one. What was missed between them nobody has counted. */
  readonly reconnects: number;
  /** When the present connection was made, in milliseconds since the Unix epoch; undefined while there is none. */
  readonly connectedAt: number | undefined;
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

/** How {@linkcode Consumer.run} runs. */
export interface RunOptions {
  /** Ends the loop. */
  readonly signal?: AbortSignal;
}

/** A loop that always finds a frame still lets timers and sockets run: after that many frames, or that long. */
const FRAMES_PER_TURN = BATCH_MAX;
/** Updates of other kinds that one `tryNext…` puts aside at most: it never waits, also not for an end of them. */
const TAKEN_PER_TRY = 4096;
const CLOCK_EVERY = 16;
const NEVER = () => false;
const TURN_MS = 2;

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
  return await openConsumer(await load(), path, resolveConsumerOptions(options));
}

/** Connects through this library. @internal */
export async function openConsumer(native: Native, path: string, resolved: ResolvedConsumerOptions): Promise<Consumer> {
  const { reconnect = RECONNECT_DEFAULTS, waitForSenderMs: giveUpMs, onConnection } = resolved;
  const names = new FilterNames();
  const signal = resolved.signal ?? new AbortController().signal;
  const first = await tryUntilConnected({
    attempt: () => ConsumerConnection.open(native, { path, names, generationBase: 0, signal, isRef: true }, resolved),
    onFailed: (failed) => onConnection?.({ type: "failed", ...failed }),
    backoff: new Backoff(reconnect, native.random),
    pause: new Pause(native.clock),
    firstMs: 0,
    giveUpMs,
    signal,
  });
  return new Consumer(native, path, names, first, resolved);
}

/**
 * Reads the updates of one sender at a time, over as many connections as it takes. Create one with
 * {@linkcode setupConsumer}. One reader at a time.
 */
export class Consumer implements AsyncDisposable {
  /** The socket's path. */
  readonly path: string;
  /** Resolves when nothing more will come, everything that came having been read; never rejects. */
  readonly whenEnded: Promise<{ readonly reason: EndReason }>;
  /** With the option `timings`: how long things take. Read and set to zero by `flush()`. */
  readonly timings: ConsumerTimings | undefined;

  readonly #connections: Connections;
  readonly #names: FilterNames;
  readonly #filters: NamedFilters;
  readonly #staleWatch: StaleWatch;
  readonly #clock: Clock;
  readonly #native: Native;
  readonly #reconnects: boolean;
  readonly #hasMarks: boolean;
  /** From `share()` on. */
  #desk: ReaderDesk | undefined;
  readonly #idle: Idle;
  readonly #signal: AbortSignal | undefined;
  /** Of the connection that is read, or was read last. */
  #reader!: RingReader;
  /** Inside `poll`'s handler: what voids views waits until it returns. */
  #isPolling = false;
  #isWaiting = false;
  /** Loops over updates or batches that have not been left. */
  #openLoops = 0;
  #closeDeferred = false;
  #framesSinceTurn = 0;
  #lastTurnAt = performance.now();
  /** What the last native poll took, until an update has been charged with it. Only with timings. */
  #pollUs = 0;
  /** Who used bytes that may have been overwritten has been told. */
  #isRevocationTold = false;

  readonly #cache: AccountCache | undefined;
  readonly #cacheReading: CacheReading | undefined;
  /** When everything was asked for again last, and whether it is to be. */
  #refreshedAt = -Infinity;
  readonly #refreshMs: number;
  #refreshTimer: Timer | undefined;
  #refreshBits = new Set<number>();
  readonly #isStateful: boolean;
  readonly #queues = new CopyQueues();
  readonly #onAbort = (): void => void this.close();

  /** @internal Use {@linkcode setupConsumer}. */
  constructor(
    native: Native,
    path: string,
    names: FilterNames,
    first: FirstConnection,
    options: ResolvedConsumerOptions,
  ) {
    this.path = path;
    this.#names = names;
    this.#signal = options.signal;
    this.#clock = native.clock;
    this.#native = native;
    this.#reconnects = options.reconnect !== undefined;
    this.#hasMarks = options.marks;
    this.#idle = new Idle(native, undefined, options.idle, native.clock);
    this.timings = options.timings
      ? { read: new Latency(), decode: new Latency(), enqueue: new Latency(), full_read: new Latency() }
      : undefined;
    this.#reader = first.connection.reader;
    const connections = this.#connections = new Connections(native, path, names, first, options, {
      onWake: () => this.#onWake(),
      onRing: (ring) => this.#idle.ring = ring,
      onReader: (reader) => this.#reader = reader,
      isReading: () => this.#isPolling || this.#isWaiting,
      onEnd: () => this.#onEnd(),
    });
    this.whenEnded = connections.whenEnded;
    this.#isStateful = options.cache !== undefined;
    this.#refreshMs = options.cache?.refreshMs ?? 0;
    if (options.cache !== undefined) {
      connections.onForgotten = (accounts) => this.#cache?.onForgotten(accounts);
      this.#cacheReading = new CacheReading({
        isBeingRead: () => this.#isPolling || this.#isWaiting || this.#openLoops > 0,
        readAway: () => this.#handOut(() => {}, BATCH_MAX),
        whenReadable: () => this.#waitAlone(Infinity),
        stopWaiting: () => this.#idle.wakeUp(),
        isEnded: () => this.ended !== undefined,
        pause: (ms) => new Promise((resolve) => void this.#clock.after(ms, resolve)),
      });
      const cache = this.#cache = this.#makeCache(native, options.cache);
      connections.edits.onAsk = (edit, answer, isWhole) => cache.onEdit(edit, answer, isWhole);
    }
    this.#filters = new NamedFilters(names, async (edit) => {
      connections.assertAskable();
      return await connections.edits.ask(edit);
    }, this.#isStateful);
    this.#staleWatch = new StaleWatch({
      seenSlot: () => connections.seenSlot,
      knownSlot: () => Math.max(this.#reader.knownSlot, connections.seenSlot),
      isUnknown: () => connections.isAgeUnknown,
      staleAfterSlots: options.staleAfterSlots,
      onStale: options.onStale,
      clock: native.clock,
    });
    if (this.#signal?.aborted === true) void this.close();
    else this.#signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  #onWake(): void {
    if (this.#desk === undefined) return this.#idle.wakeUp();
    const { pendingEnd } = this.#connections.current;
    if (pendingEnd !== undefined) this.#desk.tellOver(pendingEnd);
    else this.#desk.wake();
  }

  // Workers

  /**
   * Lends the reading to a Worker of this process: post it there, and `attachReader` it (`@qlaster/core/worker`). This thread
   * goes on to subscribe and to set filters, whose names the Worker knows at once; it reads no longer, and its event loop has
   * to run now and then: who sleeps in the Worker is woken by it. What is read is counted by the Worker's reader.
   * @returns Always the same object, for one Worker. When its reader closes, so does this consumer. A
   * Worker that is terminated leaves nothing behind but the addresses of its ring, once this consumer is closed; to read
   * on, set up another one.
   * @throws {TypeError} unless it was set up with `reconnect: false`, since a Worker reads one connection, and without a cache.
   * @throws {QlasterError} `CONSUMER_BUSY` while somebody reads; `CONSUMER_CLOSED`, `CONNECTION_LOST`; `V9_UNSUPPORTED` from a
   * sender of wire version 9.
   */
  share(): ConsumerShare {
    if (this.#desk !== undefined) return this.#desk.share;
    this.#assertIdle();
    if (this.#reconnects) throw new TypeError("share() needs a consumer that was set up with reconnect: false");
    if (this.#cache !== undefined) {
      throw new TypeError("share() needs a consumer without a cache, which this thread fills");
    }
    this.#connections.assertAnswered();
    const { current } = this.#connections;
    if (this.protocol === "v9") throw new QlasterError("V9_UNSUPPORTED", `Cannot share the reading of "${this.path}"`);
    const { ring, capacityBytes, policy, senderId, reader } = current;
    const { memoryBytes } = reader;
    const lent = { path: this.path, ring, capacityBytes, memoryBytes, policy, senderId, marks: this.#hasMarks };
    const desk = this.#desk = new ReaderDesk(this.#native, lent, this.#names, () => {
      this.#isWaiting = false;
      reader.refill(); // finds the end that the Worker has found
      this.#connections.noteEnd();
      void this.close(); // unless that was the end: what the Worker had taken and not handed out is gone
    });
    reader.release(); // what was handed out here is void
    reader.isHeldElsewhere = () => desk.isHeld;
    this.#isWaiting = true; // to the end: nobody reads here
    return desk.share;
  }

  /** What the sender speaks, or the last one spoke: this library's own protocol, or wire version 9 of the Rust original. */
  get protocol(): "native" | "v9" {
    return this.#connections.current.session.protocol;
  }

  /**
   * What happens when this consumer reads too slowly and its ring is full: what was asked for, as far as the sender permits
   * it, or the last one did. Wire version 9: "disconnect".
   */
  get policy(): OverflowPolicies {
    return this.#connections.current.policy;
  }

  #makeCache(native: Native, options: Required<CacheOptions>): AccountCache {
    // deno-lint-ignore no-this-alias
    const consumer = this;
    const { edits } = this.#connections;
    return new AccountCache(options, {
      filters: this.#names,
      get hasState() {
        const { isConnected, current } = consumer.#connections;
        return isConnected ? current.grant?.hasState === true : undefined;
      },
      get filterGeneration() {
        return consumer.#reader.filterGeneration;
      },
      clockUs: () => native.clockUs(),
      wants: (bit, key, owner) => edits.wants(bit, key, owner),
      isEmpty: (bit) => edits.isEmpty(bit),
      mayBeLeft: (bit) => edits.mayBeLeft(bit),
      refresh: (bits) => this.#refreshCache(bits),
      onWaiting: (isAnybody) => this.#cacheReading!.isWanted = isAnybody,
    });
  }

  /** Asks for all that these filters match, but not too often. */
  #refreshCache(bits: ReadonlySet<number>): void {
    for (const bit of bits) this.#refreshBits.add(bit);
    if (this.#refreshTimer !== undefined || this.ended !== undefined) return;
    const dueMs = Math.max(0, this.#refreshedAt + this.#refreshMs - this.#clock.now());
    this.#refreshTimer = this.#clock.after(dueMs, () => {
      this.#refreshTimer = undefined;
      this.#refreshedAt = this.#clock.now();
      const due = this.#refreshBits;
      this.#refreshBits = new Set();
      if (this.ended === undefined) void this.#connections.edits.askForAll(due);
    });
    this.#refreshTimer.unref();
  }

  /**
   * The newest version of each account that filters match, as of the last update that was read, with what it is worth.
   * @throws {TypeError} unless the consumer was set up with the option `cache`.
   *
   * @example
   * ```ts
   * import { setupConsumer, setupSender } from "@qlaster/core";
   * import assert from "node:assert/strict";
   *
   * const [pubkey, owner] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];
   * const path = "/tmp/qlaster-doc-cache.sock";
   * await using sender = await setupSender({ path, state: { maxBytes: 2 ** 24, keep: "all" } });
   * sender.publishAccount({ pubkey, owner, lamports: 5n, data: new Uint8Array(8), slot: 1n });
   * await using consumer = await setupConsumer(path, { cache: true });
   * await consumer.subscribe({ owners: [owner] });
   * await consumer.accounts.ready; // all that the sender knows is here
   * assert.equal(consumer.accounts.get(pubkey)?.lamports, 5n);
   * ```
   */
  get accounts(): AccountCache {
    if (this.#cache === undefined) {
      throw new TypeError("There are no accounts: set the consumer up with the option cache");
    }
    return this.#cache;
  }

  // Reading

  /**
   * Hands what is there to `handler`, one reused view at a time, and gives the room back. Never waits.
   * @param handler Must be done with the view when it returns; a promise is refused.
   * @param limit Most updates to hand out. Default 256.
   * @returns How many were handed out, updates of the kind "connection" included. 0 also while there is no connection, and
   * after the end: see `isConnected` and `ended`.
   * @throws {QlasterError} `CONSUMER_BUSY` inside a handler; with `reconnect: false` `CONNECTION_LOST` if bytes that the handler was given may have
   * been overwritten meanwhile, since the sender had dropped this consumer as too slow: do not trust them. What the handler
   * throws, its update having been delivered.
   */
  poll(handler: (update: UpdateView) => void, limit: number = BATCH_MAX): number {
    if (this.#isPolling) throw new QlasterError("CONSUMER_BUSY", "Cannot poll inside a handler of poll");
    if (this.#isWaiting) throw new QlasterError("CONSUMER_BUSY", "Cannot poll while another call waits");
    this.#cacheReading?.noteReader();
    return this.#handOut(handler, limit);
  }

  #handOut(handler: (update: UpdateView) => void, limit: number): number {
    this.#isPolling = true;
    let count = 0;
    try {
      while (count < limit) {
        const update = this.#take();
        if (update === undefined) break;
        count++;
        refusePromise(handler(update));
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
   * Hands all updates to `handler`, as `poll` does, and waits for more by itself: the fastest loop that leaves the event loop
   * its turns. Until then nobody else reads.
   * @param handler Must be done with the view when it returns; a promise is refused.
   * @param options.signal Ends the loop, not the consumer.
   * @returns Resolves when the signal was aborted, and at a quiet end.
   * @throws {QlasterError} as `next` at the other ends, and as `poll`. What the handler throws: that ends the loop, its update
   * having been delivered, and leaves the consumer open.
   *
   * @example
   * \`\`\`ts
   * import { setupConsumer, setupSender } from "@qlaster/core";
   * import assert from "node:assert/strict";
   *
   * await using sender = await setupSender({ path: "/tmp/qlaster-doc-run.sock", ringCapacityBytes: 65536 });
   * await using consumer = await setupConsumer("/tmp/qlaster-doc-run.sock");
   * for (let slot = 2n; slot < 5n; slot++) sender.publishSlot({ slot, parent: slot - 1n, status: "processed" });
   * const stop = new AbortController();
   * const slots: number[] = [];
   * await consumer.run((update) => {
   *   if (update.kind === "slot" && slots.push(update.slotNumber) === 3) stop.abort();
   * }, { signal: stop.signal });
   * assert.deepEqual(slots, [2, 3, 4]);
   * \`\`\`
   */
  async run(handler: (update: UpdateView) => void, options: RunOptions = {}): Promise<void> {
    const { signal } = options;
    this.#assertIdle();
    const isStopped = () => signal?.aborted === true;
    const onAbort = () => this.#idle.wakeUp();
    signal?.addEventListener("abort", onAbort, { once: true });
    this.#begin();
    try {
      while (!isStopped()) {
        if (this.#handOut(handler, BATCH_MAX) === 0) {
          if (!await this.#untilReady(isStopped)) return;
        } else if (this.#framesSinceTurn >= FRAMES_PER_TURN || performance.now() - this.#lastTurnAt > TURN_MS) {
          await this.#turn();
        }
      }
    } finally {
      this.#finish();
      signal?.removeEventListener("abort", onAbort);
    }
  }

  /** Waits until something can be handed out. False at a quiet end, and where it `isStopped`. @throws at the other ends */
  async #untilReady(isStopped: () => boolean): Promise<boolean> {
    if (this.#reader.isCut) await this.#turn(); // what was looked at last was all in vain
    while (this.#ready === 0 && !this.#refill()) {
      this.#connections.noteEnd();
      if (this.#connections.hasSeam) return true;
      if (this.ended !== undefined) return this.#throwUnlessQuiet() ?? false;
      if (isStopped()) return false;
      await this.#wait(Infinity);
    }
    return true;
  }

  /**
   * A web stream of copies, seams included. What it has not room for stays in the ring, where it counts as unread. It ends as
   * `for await` does; `cancel` leaves the consumer open. As long as it is read, nobody else reads.
   * @throws {RangeError} for a `highWaterMark` that can't be.
   */
  readable(options?: ReadableOptions): ReadableStream<ViewCopy> {
    return readableOf({
      copies: (limit, isStopped) => this.#copies(limit, isStopped),
      wakeUp: () => this.#idle.wakeUp(),
    }, options);
  }

  async #copies(limit: number, isStopped: () => boolean): Promise<ViewCopy[] | undefined> {
    this.#assertIdle();
    this.#begin();
    try {
      if (this.#isTurnDue()) await this.#turn();
      while (await this.#untilReady(isStopped)) {
        const copies: ViewCopy[] = [];
        while (copies.length < limit) {
          const update = this.#take();
          if (update === undefined) break;
          copies.push(update.copy());
        }
        this.#reader.release();
        if (!this.#reader.isRevoked) {
          if (copies.length > 0) return copies;
          continue;
        }
        // What was copied may have been overwritten before: nobody gets it. The loss that follows says so, or the end.
        this.#throwIfRevoked();
        const seams = copies.filter(({ kind }) => kind === "connection");
        if (seams.length > 0) return seams;
      }
      return undefined;
    } finally {
      this.#finish();
    }
  }

  /**
   * Waits for the next update.
   * @param timeoutMs Longest wait, in milliseconds. Default: none.
   * @returns A view that is valid until the consumer is asked again; undefined after `timeoutMs`, or at a quiet end.
   * @throws {QlasterError} `CONNECTION_LOST` with its `reason`, once everything has been read and there will be no other
   * connection (who was dropped and reads on a second later may find payloads in the sender's pool overwritten, and is
   * told so by it); `CONSUMER_BUSY` while another call waits.
   */
  next(timeoutMs?: number): Promise<UpdateView | undefined> {
    return this.#next(timeoutMs, NEVER);
  }

  async #next(timeoutMs: number | undefined, isLeft: () => boolean): Promise<UpdateView | undefined> {
    this.#assertIdle();
    if (Number.isNaN(timeoutMs)) throw new RangeError("timeoutMs must be a number of milliseconds, not NaN");
    const deadline = timeoutMs === undefined ? Infinity : this.#clock.now() + timeoutMs;
    this.#begin();
    try {
      if (this.#isTurnDue()) await this.#turn();
      while (true) {
        if (isLeft()) return undefined;
        const isLate = this.#clock.now() >= deadline; // judged only after one more look
        const update = this.#take();
        if (update !== undefined) return update;
        if (this.ended !== undefined) return this.#throwUnlessQuiet();
        if (isLate) return undefined;
        await this.#wait(deadline);
      }
    } finally {
      this.#finish();
    }
  }

  /** Iterates over all updates: each view is valid until the loop asks for the next. `break` leaves the consumer open. */
  [Symbol.asyncIterator](): AsyncIterator<UpdateView> {
    let isOpen = true;
    const leave = () => {
      if (isOpen) this.#closeLoop();
      isOpen = false;
    };
    this.#openLoops++;
    return {
      next: () => {
        // The way without a promise of our own, as long as there is something and the event loop has had its turn.
        if (!this.#isWaiting && !this.#isPolling && !this.#isTurnDue()) {
          const update = this.#take();
          if (update !== undefined) return Promise.resolve({ value: update, done: false });
        }
        return this.#next(undefined, () => !isOpen)
          .then((value) => value === undefined ? { value, done: true } : { value, done: false });
      },
      return: () => {
        leave();
        this.#idle.wakeUp(); // who still waits for the next one, waits no longer
        return Promise.resolve({ value: undefined, done: true });
      },
    };
  }

  /** Iterates over what each wake-up made available. What a loop leaves of a batch comes with the next one. */
  async *batches(): AsyncGenerator<Batch, void, undefined> {
    const batch = new ReadyBatch(() => this.#ready, () => this.#take());
    this.#openLoops++;
    try {
      while (true) {
        this.#assertIdle();
        this.#begin();
        try {
          await this.#turn();
          if (!await this.#untilReady(() => false)) return;
        } finally {
          this.#finish();
        }
        this.#idle.noteBusy();
        yield batch;
      }
    } finally {
      this.#closeLoop();
    }
  }

  /** What can be handed out without asking the ring. */
  get #ready(): number {
    return this.#reader.ready + (this.#connections.hasSeam ? 1 : 0);
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

  /** Once: whoever was handed out bytes that may have been overwritten has to know. Of a loss that is survived it is said. */
  #throwIfRevoked(): void {
    if (!this.#reader.isRevoked || this.#isRevocationTold) return;
    this.#connections.noteEnd();
    if (this.ended === undefined) return;
    this.#isRevocationTold = true;
    throw this.#connections.lostError();
  }

  // For who reads several consumers

  /**
   * The next update, if one is there: valid until the next call, or `releaseTaken`.
   * @internal
   */
  tryTake(): UpdateView | undefined {
    this.#assertIdle();
    return this.#take();
  }

  /**
   * The room of what was taken is free.
   * @internal
   */
  releaseTaken(): void {
    this.#reader.release();
  }

  /**
   * Waits until there may be something to take, or until `stopWaiting`. Not after the end.
   * @internal
   */
  whenReadable(deadline: number): Promise<void> {
    return this.#wait(deadline);
  }

  /** @internal */
  stopWaiting(): void {
    this.#idle.wakeUp();
  }

  #take(): UpdateView | undefined {
    const update = this.#takeRaw();
    if (update !== undefined) this.#cache?.take(update);
    return update;
  }

  #takeRaw(): UpdateView | undefined {
    if (this.#connections.hasSeam) return this.#connections.takeSeam();
    const update = this.timings === undefined ? this.#reader.advance() : this.#advanceTimed(this.timings);
    if (update !== undefined) {
      this.#framesSinceTurn++;
      this.#idle.noteBusy();
      return update;
    }
    this.#connections.noteEnd();
    return this.#connections.takeSeam();
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
  async #wait(deadline: number): Promise<void> {
    // Who reads for a cache's sake waits just now: he has to have stopped, and there may be something by then.
    const other = this.#cacheReading?.stop();
    if (other !== undefined) return await other;
    return await this.#waitAlone(deadline);
  }

  #waitAlone(deadline: number): Promise<void> {
    if (this.#reader.isCut) return this.#turn();
    // Where a ring is over and the reason is still looked for, only the session ends the sleep.
    return this.#reader.isOver ? this.#idle.sleep(deadline) : this.#idle.wait(deadline);
  }

  #begin(): void {
    this.#isWaiting = true;
    this.#cacheReading?.noteReader();
  }

  #finish(): void {
    this.#isWaiting = false;
    this.#cacheReading?.noteReadEnd();
  }

  #closeLoop(): void {
    this.#openLoops--;
    this.#cacheReading?.noteReadEnd();
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

  #throwUnlessQuiet(): undefined {
    this.#isRevocationTold = true;
    if (this.#connections.isEndQuiet) return undefined;
    throw this.#connections.lostError();
  }

  // Asking

  /**
   * Adds to what this consumer gets: accounts by key OR by owner, all transactions. While there is no connection, this and
   * the other edits wait for the next one.
   * @param subscription Keys as base58 addresses or 32 bytes each; at most a million in all.
   * @returns When it is in force. Wire version 9, which says neither: `generation` counts our requests that were answered,
   * `sequence` is what the sender had published by then.
   * @throws {TypeError} for a key that is none. {@linkcode QlasterError} `SUBSCRIBE_REFUSED`: of a list
   * of more than some 32,000 keys, which takes several messages, the first ones may be in force; `CONNECT_TIMEOUT`, `CONNECTION_LOST`,
   * `CONSUMER_CLOSED`
   */
  async subscribe(subscription: Subscription): Promise<SubscriptionAck> {
    return await this.#filters.subscribe(keyListsOf(subscription, this.#isStateful));
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
   * is none. {@linkcode QlasterError} as `setFilter`; of a long list, what was refused may have been done in part.
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

  /**
   * Asks the sender for all that it keeps of accounts, in all versions, and what it knows of forks: see takeover.ts. It ends
   * with a "snapshot-complete".
   * @internal
   */
  async askForVersions(): Promise<SubscriptionAck> {
    return await this.#filters.set("state", { accounts: true, state: true }, true);
  }

  /** What the sender has granted; undefined in wire version 9. @internal */
  get grant(): { readonly hasTakeover: boolean; readonly senderId: Uint8Array } | undefined {
    return this.#connections.current.grant;
  }

  /**
   * Asks the sender for its path and order of updates: see takeover.ts.
   * @internal
   */
  async takeOver(): Promise<HandedOver> {
    this.#connections.assertAnswered();
    const { session } = this.#connections.current;
    if (!(session instanceof NativeSession)) throw new TypeError("Wire version 9 hands nothing over");
    return await session.takeOver();
  }

  /** Names of the filters that were set and not removed. */
  get filterNames(): readonly string[] {
    return this.#names.names;
  }

  /**
   * Asks the sender for a sign of life.
   * @returns The round trip in milliseconds: through both event loops, so it tells how busy they are.
   * @throws {QlasterError} `CONNECT_TIMEOUT`, `CONSUMER_CLOSED`; `CONNECTION_LOST`, also while there is no connection
   */
  async ping(): Promise<number> {
    const started = performance.now();
    const { current } = this.#connections;
    if (this.#connections.isConnected) await current.session.doubt();
    this.#connections.assertAnswered();
    await current.session.ping();
    return performance.now() - started;
  }

  // Life

  /** Why nothing more will ever come; undefined while it may, or while something is left to read. */
  get ended(): { readonly reason: EndReason } | undefined {
    return this.#connections.ended;
  }

  /**
   * Whether there is a connection whose filters are in force. False between the updates of the kind "connection" that tell of
   * a loss and of what follows, and after the end.
   */
  get isConnected(): boolean {
    return this.#connections.isConnected;
  }

  /**
   * How far this consumer is behind its sender: all matching updates that were published and not handed out, be they in the
   * ring, waiting at the sender for room in it, or lost and not told of yet; and, of what is in the ring, the bytes and the
   * microseconds since the oldest was published. All 0 when there is nothing of that, and while there is no connection.
   * While what it missed before it resumed is sent, updates count once that has come to them. Wire version 9, which numbers
   * nothing: updates and age of what has been looked at.
   */
  lag(): Backlog {
    return this.#reader.backlog;
  }

  /** How far this consumer is behind its sender in slots. Wire version 9, which does not say: never behind. */
  freshness(): Freshness {
    return this.#staleWatch.freshness;
  }

  /**
   * Whether the reading is more than `staleAfterSlots` slots behind what the sender knows; false without that option. True
   * while there is no connection, and until something with a slot came by the next one. What a bot decides by state that is
   * stale, it decides by the past.
   */
  get isStale(): boolean {
    return this.#staleWatch.isStale;
  }

  /**
   * How many edits of this consumer's filters are in force for the update that was handed out last, over all connections:
   * compare it with the `generation` of an acknowledgement. Wire version 9, which marks nothing: 0.
   */
  get filterGeneration(): number {
    return this.#reader.filterGeneration;
  }

  /** Wire version 9: what the sender knows this consumer by, also after its end. Undefined for the native protocol. */
  get slotToken(): SlotToken | undefined {
    return this.#connections.current.session.slotToken;
  }

  /** What this consumer has seen so far. */
  get metrics(): ConsumerMetrics {
    const { current, counts, currentCounts, reconnects, isConnected } = this.#connections;
    return {
      ...counts,
      connection: currentCounts,
      reconnects,
      connectedAt: isConnected ? current.connectedAt : undefined,
      parks: this.#idle.parks,
      discarded: this.#queues.discarded,
      ring: { capacityBytes: current.capacityBytes, usedBytes: this.#reader.usedBytes },
    };
  }

  /** Keeps the process alive (the default), also while there is no connection. */
  ref(): void {
    this.#connections.isRef = true;
  }

  /** Lets the process end although the consumer is open. */
  unref(): void {
    this.#connections.isRef = false;
  }

  /** Says goodbye and frees everything; all views are void. Inside a handler of `poll`: when it returns. May be called twice. */
  close(): Promise<void> {
    if (this.#isPolling) this.#closeDeferred = true;
    else this.#connections.close();
    return Promise.resolve();
  }

  /** The same as `close()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #onEnd(): void {
    this.#desk?.tellClosed();
    this.#staleWatch.close();
    this.#signal?.removeEventListener("abort", this.#onAbort);
    this.#idle.wakeUp();
    this.#refreshTimer?.clear();
    this.#cache?.onEnd(this.#connections.requestError(), this.#connections.isEndQuiet);
  }
}

/** @throws {TypeError} if a handler returned a promise. @internal */
export function refusePromise(result: unknown): void {
  if (typeof (result as PromiseLike<void> | undefined)?.then !== "function") return;
  (result as PromiseLike<void>).then(undefined, () => {});
  throw new TypeError("The handler returned a promise: its view would be void by then. Use next() or for await");
}

/** What one wake-up made available. An iterator with one result that it fills anew: a generator makes one per update. */
class ReadyBatch implements Batch, Iterator<UpdateView, undefined> {
  readonly #ready: () => number;
  readonly #take: () => UpdateView | undefined;
  readonly #result = { value: undefined as UpdateView | undefined, done: false };
  /** What comes meanwhile is of the next batch: a sender that never stops must not make one without end. */
  #left = 0;

  constructor(ready: () => number, take: () => UpdateView | undefined) {
    this.#ready = ready;
    this.#take = take;
  }

  get size(): number {
    return this.#ready();
  }

  [Symbol.iterator](): Iterator<UpdateView, undefined> {
    this.#left = this.#ready();
    return this;
  }

  next(): IteratorResult<UpdateView, undefined> {
    let update: UpdateView | undefined;
    while (update === undefined && this.#left > 0 && this.#ready() > 0) {
      this.#left--;
      update = this.#take();
    }
    this.#result.value = update;
    this.#result.done = update === undefined;
    return this.#result as IteratorResult<UpdateView, undefined>;
  }
}
