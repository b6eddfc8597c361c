/**
 * The consumer: reads one sender's updates in place, in its order.
 * May touch: the native library through its parts (connect, link, reader, idle). May not touch: a runtime.
 *
 * @module
 */

import { setImmediate } from "node:timers";
import { EndReason as WireReason, LinkKind } from "../native/abi.generated.ts";
import { load } from "../native/load.ts";
import type { Native } from "../native/native.ts";
import { bytesFromAddressLike } from "../address.ts";
import { QlasterError } from "../errors.ts";
import type { EndReason, ReadonlyUint8Array, Subscription, SubscriptionAck } from "../types.ts";
import {
  decodeAck,
  decodeGoodbye,
  decodeRefusal,
  encodeEmpty,
  encodeGoodbye,
  encodeHello,
  encodeSubscribe,
  KEYS_PER_MESSAGE_MAX,
  type Message,
  protocolError,
} from "../wire/messages.ts";
import { connect, type Granted } from "./connect.ts";
import { Idle, IDLE_STRATEGIES, type IdleStrategy } from "./idle.ts";
import { type Copies, CopyQueues, type QueueKind } from "./queues.ts";
import { BATCH_MAX, RingReader } from "./reader.ts";
import { Requests } from "./requests.ts";
import type { AccountCopy, SlotCopy, TransactionCopy, UpdateView } from "./view.ts";

/** How a consumer is set up. */
export interface ConsumerOptions {
  /** Ends the wait for a grant, and later closes the consumer; its loops end without an error. */
  readonly signal?: AbortSignal;
  /** How to wait for updates. Default "adaptive". See docs/ARCHITECTURE.md. */
  readonly idle?: IdleStrategy;
  /** From the first attempt to the grant, in milliseconds. Default 5000. */
  readonly connectTimeoutMs?: number;
  /** For the answer to `subscribe` and `ping`, in milliseconds. Default 30000. */
  readonly requestTimeoutMs?: number;
  /** A label that the sender shows for this consumer: at most 64 bytes of UTF-8. */
  readonly name?: string;
  /** Other users whose senders are trusted, by uid. Default: only one's own, and root. */
  readonly uids?: readonly number[];
}

/** What a consumer has seen so far. Counts since `setupConsumer`. */
export interface ConsumerMetrics {
  /** Updates read. */
  readonly frames: number;
  /** Bytes of those frames in the ring. */
  readonly bytes: number;
  /** Matching updates that did not come, as the sender says. */
  readonly lost: number;
  /** Times that it went to sleep. */
  readonly parks: number;
  /** Copies that `tryNext…` threw away because nobody asked for their kind. */
  readonly discarded: { readonly updates: number; readonly transactions: number; readonly slots: number };
  /** The ring: its size, and bytes between the sender's cursor and ours. */
  readonly ring: { readonly capacityBytes: number; readonly usedBytes: number };
}

/** What one wake-up made available: iterate it once, before asking for the next. */
export interface Batch extends Iterable<UpdateView> {
  /** Frames that are ready, goodbyes included. */
  readonly size: number;
}

const CONNECT_TIMEOUT_MS = 5000;
const REQUEST_TIMEOUT_MS = 30_000;
/** A loop that always finds a frame still lets timers and sockets run: after that many frames, or that long. */
const FRAMES_PER_TURN = BATCH_MAX;
/** Updates of other kinds that one `tryNext…` puts aside at most: it never waits, also not for an end of them. */
const TAKEN_PER_TRY = 4096;
const CLOCK_EVERY = 16;
const TURN_MS = 2;

/** These end loops quietly. */
const QUIET: readonly EndReason[] = ["closed", "sender-closed"];

function assertTimeout(value: number, name: string): number {
  if (!(value > 0 && value <= 0x7fffffff)) {
    throw new RangeError(`${name} must be from 1 to ${0x7fffffff} ms, not ${value}`);
  }
  return value;
}

/**
 * Connects to the sender at `path` and maps its ring. Slots come from now on; accounts and transactions by `subscribe`.
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
  const idle = options.idle ?? "adaptive";
  if (!IDLE_STRATEGIES.includes(idle)) {
    throw new TypeError(`idle must be one of ${IDLE_STRATEGIES.join(", ")}, not ${idle}`);
  }
  const connectTimeoutMs = assertTimeout(options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS, "connectTimeoutMs");
  const requestTimeoutMs = assertTimeout(options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS, "requestTimeoutMs");
  const hello = encodeHello(options.name ?? "");
  const native = await load();
  const granted = await connect(native, path, hello, connectTimeoutMs, options.uids ?? [], options.signal);
  return new Consumer(native, path, granted, idle, requestTimeoutMs, options.signal);
}

/** Reads the updates of one sender. Create one with {@linkcode setupConsumer}. One reader at a time. */
export class Consumer implements AsyncDisposable {
  /** The socket's path. */
  readonly path: string;
  /** Resolves when nothing more will come, everything that came having been read; never rejects. */
  readonly whenEnded: Promise<{ readonly reason: EndReason }>;

  readonly #native: Native;
  readonly #granted: Granted;
  readonly #reader: RingReader;
  readonly #idle: Idle;
  readonly #signal: AbortSignal | undefined;
  readonly #requests: Requests;
  #ended: { readonly reason: EndReason } | undefined;
  #resolveEnded!: (end: { readonly reason: EndReason }) => void;
  /** Why it will end once what is in the ring has been read: the sender's sockets are closed, or said nonsense. */
  #pendingEnd: "sender-gone" | "peer-corrupt" | undefined;
  #isDrainDue = false;
  /** Inside `poll`'s handler: what voids views waits until it returns. */
  #isPolling = false;
  #isWaiting = false;
  #closeDeferred = false;
  #framesSinceTurn = 0;
  #lastTurnAt = performance.now();

  readonly #queues = new CopyQueues();
  readonly #onAbort = (): void => void this.close();

  /** @internal Use {@linkcode setupConsumer}. */
  constructor(
    native: Native,
    path: string,
    granted: Granted,
    idle: IdleStrategy,
    requestTimeoutMs: number,
    signal: AbortSignal | undefined,
  ) {
    this.#native = native;
    this.path = path;
    this.#granted = granted;
    this.#reader = new RingReader(native, granted.ring, granted.grant.capacityBytes);
    this.#idle = new Idle(native, granted.ring, idle);
    this.#requests = new Requests(`"${path}"`, requestTimeoutMs);
    this.#signal = signal;
    this.whenEnded = new Promise((resolve) => this.#resolveEnded = resolve);
    granted.handler.onWake = () => this.#onWake();
    granted.link.onSentLater = () => void native.wakeNotify(granted.senderWake);
    granted.handler.onClose = () => this.#endAfterReading("sender-gone");
    if (signal?.aborted === true) void this.close();
    else signal?.addEventListener("abort", this.#onAbort, { once: true });
    // What came while the grant was on its way has poked a handler that is no longer there.
    queueMicrotask(() => this.#onWake());
  }

  // Reading

  /**
   * Hands what is there to `handler`, one reused view at a time, and gives the room back. Never waits.
   * @param handler Must be done with the view when it returns; a promise is refused.
   * @param limit Most updates to hand out. Default 256.
   * @returns How many were handed out. 0 also when the connection has ended: see `ended`.
   * @throws {QlasterError} `CONSUMER_BUSY` inside a handler; what the handler throws, its update having been delivered.
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
    return count;
  }

  /**
   * Waits for the next update.
   * @param timeoutMs Longest wait, in milliseconds. Default: none.
   * @returns A view that is valid until the consumer is asked again; undefined after `timeoutMs`, or at a quiet end.
   * @throws {QlasterError} `CONNECTION_LOST` with its `reason`, once everything that was published has been read;
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
        await this.#idle.wait(deadline);
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
        while (this.#reader.ready === 0 && !this.#reader.refill()) {
          this.#noteEnd();
          if (this.#ended !== undefined) return void this.#throwUnlessQuiet();
          await this.#idle.wait(Infinity);
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
      this.#queues.keep(update);
    }
    this.#reader.release();
    return this.#queues.shift(kind);
  }

  #take(): UpdateView | undefined {
    const update = this.#reader.advance();
    if (update !== undefined) {
      this.#framesSinceTurn++;
      this.#idle.noteBusy();
      return update;
    }
    this.#noteEnd();
    return undefined;
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
    if (this.#pendingEnd !== undefined && !this.#reader.refill()) this.#end(this.#reader.end ?? this.#pendingEnd);
  }

  #throwUnlessQuiet(): undefined {
    const { reason } = this.#ended!;
    if (QUIET.includes(reason)) return undefined;
    throw this.#lostError();
  }

  #lostError(): QlasterError {
    // Not ended yet: there is still something to read.
    const reason = this.#ended?.reason ?? this.#reader.announcedEnd ?? this.#pendingEnd ?? "sender-gone";
    return new QlasterError("CONNECTION_LOST", `Lost the sender at "${this.path}" (${reason})`, { reason });
  }

  // Asking

  /**
   * Adds to what this consumer gets: accounts by key OR by owner, all transactions.
   * @param subscription Keys as base58 addresses or 32 bytes each; at most a million in all.
   * @returns When it is in force.
   * @throws {TypeError} for a key that is none. {@linkcode QlasterError} `SUBSCRIBE_REFUSED`, `CONNECT_TIMEOUT`,
   * `CONNECTION_LOST`, `CONSUMER_CLOSED`
   */
  async subscribe(subscription: Subscription): Promise<SubscriptionAck> {
    // Spread and not Array.from, which takes what is no list for an empty one.
    const accounts = [...subscription.accounts ?? []].map((key) => bytesFromAddressLike(key, "Each of accounts"));
    const owners = [...subscription.owners ?? []].map((key) => bytesFromAddressLike(key, "Each of owners"));
    let last: Promise<Message>;
    const answers: Promise<Message>[] = [];
    do {
      // A long list goes in several messages; the answer to the last one stands for all.
      const some: ReadonlyUint8Array[] = accounts.splice(0, KEYS_PER_MESSAGE_MAX);
      const others = owners.splice(0, KEYS_PER_MESSAGE_MAX - some.length);
      const isLast = accounts.length + owners.length === 0;
      const request = { accounts: some, owners: others, transactions: isLast && subscription.transactions === true };
      last = this.#request((id) => encodeSubscribe(id, request));
      answers.push(last);
    } while (accounts.length + owners.length > 0);
    for (const answer of await Promise.all(answers)) {
      if (answer.kind === LinkKind.refuse) {
        throw new QlasterError("SUBSCRIBE_REFUSED", `Cannot subscribe: ${decodeRefusal(answer).text}`);
      }
    }
    return decodeAck(await last);
  }

  /**
   * Asks the sender for a sign of life.
   * @returns The round trip in milliseconds: through both event loops, so it tells how busy they are.
   * @throws {QlasterError} `CONNECT_TIMEOUT`, `CONNECTION_LOST`, `CONSUMER_CLOSED`
   */
  async ping(): Promise<number> {
    const started = performance.now();
    await this.#request((id) => encodeEmpty(LinkKind.ping, id));
    return performance.now() - started;
  }

  #request(encode: (id: number) => Uint8Array): Promise<Message> {
    if (this.#ended !== undefined || this.#pendingEnd !== undefined) return Promise.reject(this.#requestError());
    return this.#requests.ask((id) => {
      this.#granted.link.send(encode(id));
      this.#native.wakeNotify(this.#granted.senderWake);
    });
  }

  #requestError(): QlasterError {
    return this.#ended?.reason === "closed"
      ? new QlasterError("CONSUMER_CLOSED", `Cannot ask the sender at "${this.path}"`)
      : this.#lostError();
  }

  #onWake(): void {
    if (this.#ended !== undefined || this.#pendingEnd === "peer-corrupt") return this.#idle.wakeUp();
    try {
      const outcome = this.#granted.link.drain((message) => this.#onMessage(message));
      if (outcome === "end") this.#endAfterReading("sender-gone");
      else if (outcome === "more") this.#drainLater();
    } catch {
      this.#endAfterReading("peer-corrupt");
    }
    this.#idle.wakeUp();
  }

  #onMessage(message: Message): void {
    switch (message.kind) {
      case LinkKind.ack:
        decodeAck(message); // an answer that can't be read breaks the protocol, whoever asked
        break;
      case LinkKind.pong:
        break;
      case LinkKind.refuse:
        decodeRefusal(message);
        break;
      case LinkKind.goodbye:
        decodeGoodbye(message); // the ring says the same, behind the last frame: that is where it counts
        return;
      default:
        throw protocolError(`kind ${message.kind} is not a sender's`);
    }
    this.#requests.answer(message);
  }

  /** The rest of what the sender has to say, after the event loop has had its turn. */
  #drainLater(): void {
    if (this.#isDrainDue) return;
    this.#isDrainDue = true;
    setImmediate(() => {
      this.#isDrainDue = false;
      this.#onWake();
    });
  }

  #endAfterReading(reason: "sender-gone" | "peer-corrupt"): void {
    if (this.#pendingEnd !== undefined || this.#ended !== undefined) return;
    this.#pendingEnd = reason;
    this.#reader.freeze();
    this.#requests.rejectAll(this.#requestError());
    // With nothing left to read it is over now, even if nobody reads. But who holds a view keeps it until he asks again.
    const isUnread = this.#isPolling || this.#isWaiting || this.#reader.ready > 0 || this.#reader.isHeld;
    if (!isUnread && !this.#reader.refill()) this.#noteEnd();
    this.#idle.wakeUp();
  }

  // Life

  /** Why nothing more comes; undefined while it may, or while something is left to read. */
  get ended(): { readonly reason: EndReason } | undefined {
    return this.#ended;
  }

  /** What this consumer has seen so far. */
  get metrics(): ConsumerMetrics {
    return {
      frames: this.#reader.frames,
      bytes: this.#reader.bytes,
      lost: this.#reader.lost,
      parks: this.#idle.parks,
      discarded: this.#queues.discarded,
      ring: { capacityBytes: this.#granted.grant.capacityBytes, usedBytes: this.#reader.usedBytes },
    };
  }

  /** Keeps the process alive (the default). */
  ref(): void {
    this.#granted.watch.ref();
  }

  /** Lets the process end although the consumer is open. */
  unref(): void {
    this.#granted.watch.unref();
  }

  /** Says goodbye and frees everything; all views are void. Inside a handler of `poll`: when it returns. May be called twice. */
  close(): Promise<void> {
    if (this.#isPolling) {
      this.#closeDeferred = true;
    } else if (this.#ended === undefined) {
      try {
        this.#granted.link.send(encodeGoodbye(WireReason.consumerClosed));
        this.#native.wakeNotify(this.#granted.senderWake);
      } catch {
        // A link that takes nothing more: the sender sees the close.
      }
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
    this.#signal?.removeEventListener("abort", this.#onAbort);
    this.#granted.link.close();
    this.#granted.watch.close();
    this.#native.close(this.#granted.senderWake);
    this.#requests.rejectAll(this.#requestError());
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
