/**
 * The sender: what an application publishes through. Puts acceptor, admission, connections and fan-out together.
 * May touch: its parts, one timer. May not touch: a runtime, rings, sockets.
 * How it hangs together: docs/ARCHITECTURE.md; the messages: docs/protocol.md.
 *
 * @module
 */

import { CAPACITY_BYTES_MAX, CAPACITY_BYTES_MIN, EndReason as WireReason, Status } from "../native/abi.generated.ts";
import { load } from "../native/load.ts";
import type { Native } from "../native/native.ts";
import { QlasterError } from "../errors.ts";
import type {
  AccountUpdate,
  ConsumerEvent,
  ConsumerInfo,
  EndReason,
  SlotUpdate,
  SubscriptionEvent,
  TransactionUpdate,
  Update,
} from "../types.ts";
import { decodeSubscribe, encodeAck, encodeRefusal, type Message } from "../wire/messages.ts";
import { Acceptor } from "./acceptor.ts";
import { Admission, connectionBytes } from "./admission.ts";
import type { Connection } from "./connection.ts";
import { CONNECTIONS_MAX, Fanout } from "./fanout.ts";
import { feed } from "./feed.ts";

/** How a sender is set up. */
export interface SenderOptions {
  /** Path of the Unix socket that consumers connect to. At most 95 bytes (macOS 91). */
  readonly path: string;
  /** Bytes of each consumer's ring: a power of two, 64 KiB to 1 GiB. Default 64 MiB; memory is committed as it is used. */
  readonly ringCapacityBytes?: number;
  /** Most bytes that the regions of all connections may take together. Default 1 GiB, or one connection if that is more. */
  readonly memoryMaxBytes?: number;
  /** Most consumers at a time, 1 to 1024. Default 64. */
  readonly consumersMax?: number;
  /** Other users that may connect, by uid. Default: only the sender's own. */
  readonly uids?: readonly number[];
  /** How long a connection may take to say hello, in milliseconds. Default 5000. */
  readonly handshakeTimeoutMs?: number;
  /** Called for each accepted subscription, as by `Sender.onSubscription`. */
  readonly onSubscription?: (event: SubscriptionEvent) => void;
  /** Called when a consumer comes or goes, as by `Sender.onConsumer`. */
  readonly onConsumer?: (event: ConsumerEvent) => void;
}

/** What a sender has done so far. Counts since `setupSender`. */
export interface SenderMetrics {
  /** Account updates published. */
  readonly accounts: number;
  /** Transactions published. */
  readonly transactions: number;
  /** Slot updates published. */
  readonly slots: number;
  /** Frames handed to rings: one per update and matching consumer. */
  readonly deliveries: number;
  /** Matching updates that a connection did not get. */
  readonly lost: number;
  /** Connections ended because their ring was full (the original's `shm_ring_full`). */
  readonly ringFull: number;
  /** Consumers that are connected now. */
  readonly consumers: number;
  /** Connections granted so far. */
  readonly connections: number;
  /** Connections that were refused, or never said hello. */
  readonly refused: number;
  /** Bytes of all regions of the present connections. */
  readonly memoryBytes: number;
  /** Sequence of the newest update; 0n before the first. */
  readonly sequence: bigint;
}

type Resolved = Required<Omit<SenderOptions, "onSubscription" | "onConsumer">>;

const RING_CAPACITY_DEFAULT = 64 * 1024 * 1024;
const MEMORY_MAX_DEFAULT = 1024 * 1024 * 1024;
const CONSUMERS_DEFAULT = 64;
const HANDSHAKE_TIMEOUT_MS = 5000;
/** Keys that one consumer may subscribe to, and those of all together: some 76 bytes each. */
const KEYS_PER_CONSUMER_MAX = 1_000_000;
const KEYS_MAX = 4_000_000;
/** How often links are read even if nobody poked us, and cursors are checked even if nothing is published. */
const SWEEP_MS = 1000;
/** Updates of one batch after which it is committed all the same, so that consumers start early. */
const BATCH_MAX = 256;

function integer(value: number, name: string, min: number, max: number): number {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new RangeError(`${name} must be an integer from ${min} to ${max}, not ${value}`);
  }
  return value;
}

function resolve(options: SenderOptions): Resolved {
  const { path, ringCapacityBytes = RING_CAPACITY_DEFAULT } = options;
  if (typeof path !== "string" || path === "") throw new TypeError("path must be a non-empty string");
  integer(ringCapacityBytes, "ringCapacityBytes", CAPACITY_BYTES_MIN, CAPACITY_BYTES_MAX);
  if ((ringCapacityBytes & (ringCapacityBytes - 1)) !== 0) {
    throw new RangeError(`ringCapacityBytes must be a power of two, ${ringCapacityBytes} is not`);
  }
  const bytesPerConnection = connectionBytes(ringCapacityBytes);
  const memoryMaxBytes = options.memoryMaxBytes ?? Math.max(MEMORY_MAX_DEFAULT, bytesPerConnection);
  return {
    path,
    ringCapacityBytes,
    memoryMaxBytes: integer(memoryMaxBytes, "memoryMaxBytes", bytesPerConnection, Number.MAX_SAFE_INTEGER),
    consumersMax: integer(options.consumersMax ?? CONSUMERS_DEFAULT, "consumersMax", 1, CONNECTIONS_MAX),
    handshakeTimeoutMs: integer(options.handshakeTimeoutMs ?? HANDSHAKE_TIMEOUT_MS, "handshakeTimeoutMs", 1, 3_600_000),
    uids: (options.uids ?? []).map((uid) => integer(uid, "Each of uids", 0, 0xffffffff)),
  };
}

/**
 * Binds `options.path` and waits for consumers.
 * @returns The sender. It keeps the process alive until `close()` or `unref()`.
 * @throws {QlasterError} `SENDER_PATH_IN_USE`, `SENDER_PATH_NOT_SOCKET`, `SENDER_DIRECTORY_UNSAFE`, `NATIVE_…`, `SYSTEM`
 * @throws {RangeError} for an option out of range.
 *
 * @example
 * ```ts
 * import { setupSender } from "@qlaster/core";
 * import assert from "node:assert/strict";
 *
 * await using sender = await setupSender({ path: "/tmp/qlaster-doc-sender.sock" });
 * const reached = sender.publishSlot({ slot: 2n, parent: 1n, status: "processed" });
 * assert.equal(reached, 0); // nobody is connected
 * ```
 */
export async function setupSender(options: SenderOptions): Promise<Sender> {
  const resolved = resolve(options);
  const native = await load();
  native.limitsRaise(); // each consumer takes a few descriptors; what the limit can't give, accepting will find out
  const sender = new Sender(native, resolved);
  if (options.onSubscription !== undefined) sender.onSubscription(options.onSubscription);
  if (options.onConsumer !== undefined) sender.onConsumer(options.onConsumer);
  await sender.start();
  return sender;
}

/** Publishes updates to every consumer that asked for them. Create one with {@linkcode setupSender}. */
export class Sender implements AsyncDisposable {
  /** The socket's path. */
  readonly path: string;

  readonly #native: Native;
  readonly #options: Resolved;
  readonly #fanout: Fanout;
  readonly #admission: Admission;
  readonly #connections = new Map<number, Connection>();
  /** Ends feeds. Next to it a plain flag, since asking a signal costs more than encoding an update. */
  readonly #closing = new AbortController();
  #isClosed = false;
  readonly #subscriptionListeners = new Set<(event: SubscriptionEvent) => void>();
  readonly #consumerListeners = new Set<(event: ConsumerEvent) => void>();
  #acceptor: Acceptor | undefined;
  #sweep: ReturnType<typeof setInterval> | undefined;
  #isRef = true;
  #ringFull = 0;

  /** @internal Use {@linkcode setupSender}. */
  constructor(native: Native, options: Resolved) {
    this.#native = native;
    this.#options = options;
    this.path = options.path;
    const onEnd = (connection: Connection, reason: EndReason) => this.#end(connection, reason);
    this.#fanout = new Fanout(native, onEnd);
    this.#admission = new Admission(native, options, {
      connectionCount: () => this.#connections.size,
      onConnection: (connection) => this.#onConnection(connection),
      onSubscribe: (connection, message) => this.#onSubscribe(connection, message),
      onEnd,
    });
  }

  /** @internal */
  async start(): Promise<void> {
    const isForAll = this.#options.uids.length > 0;
    this.#acceptor = await Acceptor.listen(this.#native, this.path, isForAll, (link) => this.#admission.onLink(link));
    this.#sweep = setInterval(() => this.#onSweep(), SWEEP_MS);
    (this.#sweep as unknown as { unref?: () => void }).unref?.();
  }

  // Publishing

  /**
   * Publishes a write of an account to every consumer that wants its key or its owner.
   * @returns The number of consumers that it was handed to.
   * @throws {TypeError} or {@linkcode RangeError} for a field that is not what it must be; then nothing was published.
   * @throws {QlasterError} `SENDER_CLOSED`
   */
  publishAccount(update: Omit<AccountUpdate, "kind">): number {
    this.#assertOpen();
    return this.#fanout.publishAccount(update);
  }

  /** Publishes a transaction to every consumer that asked for transactions. Otherwise as `publishAccount`. */
  publishTransaction(update: Omit<TransactionUpdate, "kind">): number {
    this.#assertOpen();
    return this.#fanout.publishTransaction(update);
  }

  /**
   * Publishes a status of a slot to every consumer, with the number of accounts and transactions published for that slot
   * so far, and of those that each connection lost. Otherwise as `publishAccount`.
   */
  publishSlot(update: Omit<SlotUpdate, "kind">): number {
    this.#assertOpen();
    return this.#fanout.publishSlot(update);
  }

  /**
   * Publishes many updates with one commit and at most one wake per consumer (one more for each 256 updates).
   * @returns The number of deliveries.
   * @throws as the single ones; what came before the faulty update is published.
   */
  publishBatch(updates: Iterable<Update>): number {
    this.#assertOpen();
    let reached = 0;
    let staged = 0;
    try {
      for (const update of updates) {
        reached += this.#stage(update);
        if (++staged % BATCH_MAX === 0) this.#fanout.commit();
      }
    } finally {
      this.#fanout.commit();
    }
    return reached;
  }

  /**
   * Publishes what an asynchronous source yields, one update or a list of them at a time. What has been taken is
   * committed no later than when the source makes us wait.
   * @param options.signal Ends it without an error.
   * @returns When the source has ended, or the signal was aborted, or the sender was closed.
   * @throws what the source throws, and as `publishBatch`; what came before is published.
   */
  feed(source: AsyncIterable<Update | readonly Update[]>, options: { signal?: AbortSignal } = {}): Promise<void> {
    this.#assertOpen();
    const stage = { stage: (update: Update) => this.#stage(update), commit: () => this.#fanout.commit() };
    const signals = [this.#closing.signal];
    if (options.signal !== undefined) signals.push(options.signal);
    return feed(stage, source, signals);
  }

  /** Publishes one update, unseen until the fan-out's `commit`. */
  #stage(update: Update): number {
    this.#assertOpen();
    this.#fanout.openBatch();
    switch (update.kind) {
      case "account":
        return this.#fanout.publishAccount(update);
      case "transaction":
        return this.#fanout.publishTransaction(update);
      case "slot":
        return this.#fanout.publishSlot(update);
      default:
        throw new TypeError(`kind must be account, transaction or slot, not ${(update as { kind: unknown }).kind}`);
    }
  }

  #assertOpen(): void {
    if (this.#isClosed) throw new QlasterError("SENDER_CLOSED", `Cannot publish at "${this.path}"`);
  }

  // Consumers

  /** The present consumers, oldest first. */
  consumers(): ConsumerInfo[] {
    return [...this.#connections.values()].map((connection) => connection.info());
  }

  /**
   * Calls `listener` for each accepted subscription, after it is in force and acknowledged. What it throws is an
   * uncaught error of your process.
   * @returns A function that ends it.
   */
  onSubscription(listener: (event: SubscriptionEvent) => void): () => void {
    this.#subscriptionListeners.add(listener);
    return () => void this.#subscriptionListeners.delete(listener);
  }

  /**
   * Calls `listener` when a consumer comes or goes. What it throws is an uncaught error of your process.
   * @returns A function that ends it.
   */
  onConsumer(listener: (event: ConsumerEvent) => void): () => void {
    this.#consumerListeners.add(listener);
    return () => void this.#consumerListeners.delete(listener);
  }

  /** What has been done so far. */
  get metrics(): SenderMetrics {
    const { accounts, transactions, slots, deliveries, lost, sequence } = this.#fanout;
    return {
      accounts,
      transactions,
      slots,
      deliveries,
      lost,
      ringFull: this.#ringFull,
      consumers: this.#connections.size,
      connections: this.#admission.granted,
      refused: this.#admission.refused,
      memoryBytes: this.#connections.size * connectionBytes(this.#options.ringCapacityBytes),
      sequence: BigInt(sequence),
    };
  }

  #onConnection(connection: Connection): void {
    if (!this.#isRef) connection.unref();
    this.#connections.set(connection.id, connection);
    this.#fanout.add(connection);
    this.#emit(this.#consumerListeners, { type: "connected", consumer: connection.info() });
    connection.drain(); // what it said while it was being granted woke nobody
  }

  #onSubscribe(connection: Connection, message: Message): void {
    const request = decodeSubscribe(message);
    const receivedAt = performance.now();
    const { accounts, owners, transactions } = request;
    const fresh = accounts.length + owners.length;
    const own = connection.accounts + connection.owners + fresh;
    const all = this.#fanout.keys + fresh;
    if (own > KEYS_PER_CONSUMER_MAX || all > KEYS_MAX) {
      const text = own > KEYS_PER_CONSUMER_MAX
        ? `${own} keys are more than a consumer may have, which is ${KEYS_PER_CONSUMER_MAX}`
        : `${all} keys of all consumers are more than a sender keeps, which is ${KEYS_MAX}`;
      return connection.tell(encodeRefusal(message.requestId, { status: Status.memoryLimit, text }));
    }
    this.#fanout.subscribe(connection, request);
    const sequence = BigInt(this.#fanout.sequence);
    connection.tell(encodeAck(message.requestId, { sequence, generation: connection.generation }));
    this.#emit(this.#subscriptionListeners, {
      consumer: connection.info(),
      accounts: accounts as Uint8Array[],
      owners: owners as Uint8Array[],
      transactions,
      receivedAt,
    });
  }

  /** Frees everything of a connection at once. */
  #end(connection: Connection, reason: EndReason): void {
    if (connection.isEnded) return;
    if (reason === "slow-consumer") {
      this.#ringFull++;
      this.#fanout.sayGoodbye(connection, WireReason.slowConsumer);
    } else if (reason === "sender-closed") {
      this.#fanout.sayGoodbye(connection, WireReason.senderClosed);
    }
    connection.close(reason);
    this.#fanout.remove(connection);
    if (!this.#connections.delete(connection.id)) return; // ended before it was announced
    this.#emit(this.#consumerListeners, { type: "disconnected", consumer: connection.info(), reason });
  }

  /** Listeners run after us, so that they may publish and close. What they throw is an uncaught error of the process. */
  #emit<E>(listeners: Set<(event: E) => void>, event: E): void {
    for (const listener of listeners) queueMicrotask(() => listener(event));
  }

  /** Finds what no wake tells: a link closed behind a wake that is not, a cursor that can't be, room for a due gap. */
  #onSweep(): void {
    void this.#acceptor?.sweep();
    for (const connection of [...this.#connections.values()]) {
      connection.drain();
      if (!connection.isEnded && !connection.refresh()) this.#end(connection, "peer-corrupt");
      if (!connection.isEnded && connection.isGapDue) this.#fanout.reportGap(connection);
    }
  }

  // Life

  /** Keeps the process alive (the default). */
  ref(): void {
    this.#isRef = true;
    this.#acceptor?.ref();
    for (const connection of this.#connections.values()) connection.ref();
  }

  /** Lets the process end although the sender is open. */
  unref(): void {
    this.#isRef = false;
    this.#acceptor?.unref();
    for (const connection of this.#connections.values()) connection.unref();
  }

  /** Says goodbye to every consumer, removes the socket, frees everything. May be called twice. */
  close(): Promise<void> {
    if (this.#isClosed) return Promise.resolve();
    this.#fanout.commit();
    this.#isClosed = true;
    this.#closing.abort();
    clearInterval(this.#sweep);
    this.#acceptor?.close();
    this.#admission.close();
    for (const connection of [...this.#connections.values()]) this.#end(connection, "sender-closed");
    return Promise.resolve();
  }

  /** The same as `close()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
