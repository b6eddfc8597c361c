/**
 * The sender: what an application publishes through. Puts acceptor, admission, connections and fan-out together.
 * May touch: its parts, one timer. May not touch: a runtime, rings, sockets.
 * How it hangs together: docs/ARCHITECTURE.md; the messages: docs/protocol.md.
 *
 * @module
 */

import { EndReason as WireReason, FilterKind, Status } from "../native/abi.generated.ts";
import { load } from "../native/load.ts";
import type { Native } from "../native/native.ts";
import { describeStatus } from "../errors.ts";
import type { ConsumerEvent, ConsumerInfo, EndReason, RefusedEvent, SlotToken, SubscriptionEvent } from "../types.ts";
import { HalfSent } from "../v9/half_sent.ts";
import { V9Server } from "../v9/server.ts";
import {
  decodeFilterEdit,
  decodeSubscribe,
  encodeAck,
  encodeRefusal,
  filterKeys,
  type Message,
  type SubscribeRequest,
} from "../wire/messages.ts";
import { Acceptor } from "./acceptor.ts";
import { Admission } from "./admission.ts";
import type { Connection } from "./connection.ts";
import { Fanout } from "./fanout.ts";
import { Publisher } from "./publisher.ts";
import type { RemoteConsumer } from "./remote_consumer.ts";
import { type ResolvedSenderOptions, resolveSenderOptions, type SenderOptions } from "./sender_options.ts";
import { type SenderShare, ShareDesk } from "./share.ts";
import { SenderTimings } from "./timings.ts";

/** What a sender has done so far. Counts since `setupSender`. */
export interface SenderMetrics {
  /** Account updates published. */
  readonly accounts: number;
  /** Transactions published. */
  readonly transactions: number;
  /** Slot updates published. */
  readonly slots: number;
  /** Updates handed to rings, one per matching consumer; those that had to wait count when they are. */
  readonly deliveries: number;
  /** Matching updates that were not written for a consumer. What it skips by "drop-oldest" only it can count. */
  readonly lost: number;
  /** Those of them that a newer value of the same account replaced. */
  readonly conflated: number;
  /** Updates that changed nothing, and that filters with `onlyChanged` did not get: once for each such filter. */
  readonly unchanged: number;
  /** Updates that were older than what had been published of their account, as far as a consumer wants that. */
  readonly olderVersions: number;
  /** The newest slot that anything was published of; 0n before the first. */
  readonly newestSlot: bigint;
  /** Different keys of all filters, accounts and owners. */
  readonly keys: number;
  /** The pool: its size, and bytes of it in use. */
  readonly pool: { readonly capacityBytes: number; readonly usedBytes: number };
  /** Consumers ended because their ring was full (the original's `shm_ring_full`). */
  readonly ringFull: number;
  /** Consumers that are connected now. */
  readonly consumers: number;
  /** Consumers granted so far. */
  readonly connections: number;
  /** Connections that were refused, or never asked for anything: each is a `RefusedEvent`. */
  readonly refused: number;
  /** Bytes of all rings, and what belongs to them, of the present consumers. Pool, queues and index are not in it. */
  readonly memoryBytes: number;
  /** Sequence of the newest update; 0n before the first. */
  readonly sequence: bigint;
}

/** Keys that one filter may have, of both kinds, and different ones of each kind in all filters: some 50 bytes each. */
const KEYS_PER_CONSUMER_MAX = 1_000_000;
const KEYS_MAX = 4_000_000;
/** How often links are read even if nobody poked us, and cursors are checked even if nothing is published. */
const SWEEP_MS = 1000;

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
  const resolved = resolveSenderOptions(options);
  const native = await load();
  native.limitsRaise(); // each consumer takes a few descriptors; what the limit can't give, accepting will find out
  const sender = new Sender(native, resolved);
  if (options.onSubscription !== undefined) sender.onSubscription(options.onSubscription);
  if (options.onConsumer !== undefined) sender.onConsumer(options.onConsumer);
  try {
    await sender.start();
  } catch (error) {
    await sender.close();
    throw error;
  }
  return sender;
}

/** Why a subscription can't be kept, for the consumer to read. */
class TooManyKeys extends Error {}

function describeRefusal(status: number): string {
  switch (status) {
    case Status.filtersLimit:
      return `more keys than a sender keeps: ${KEYS_PER_CONSUMER_MAX} in a filter, ${KEYS_MAX} in all, and no endless ` +
        "number of different sets of consumers";
    case Status.memoryLimit:
      return "the sender has no memory for it";
    default:
      return `the sender can't make sense of it (${describeStatus(status)})`;
  }
}

/** Publishes updates to every consumer that asked for them. Create one with {@linkcode setupSender}. */
export class Sender extends Publisher {
  /** How long things take, by the original's names; undefined unless the option `timings` is true. */
  readonly timings: SenderTimings | undefined;

  readonly #native: Native;
  readonly #options: ResolvedSenderOptions;
  /** @internal */
  protected override readonly outlet: Fanout;
  readonly #admission: Admission;
  readonly #v9: V9Server | undefined;
  /** By id. */
  readonly #consumers = new Map<number, RemoteConsumer>();
  readonly #subscriptionListeners = new Set<(event: SubscriptionEvent) => void>();
  readonly #consumerListeners = new Set<(event: ConsumerEvent) => void>();
  #acceptor: Acceptor | undefined;
  #sweep: ReturnType<typeof setInterval> | undefined;
  #isRef = true;
  #ringFull = 0;
  /** Who waits until there is room again. */
  readonly #drainWaiters: (() => void)[] = [];
  #blockTimer: ReturnType<typeof setTimeout> | undefined;
  /** From the first `share()` on. */
  #desk: ShareDesk | undefined;

  /** @internal Use {@linkcode setupSender}. */
  constructor(native: Native, options: ResolvedSenderOptions) {
    super(options.path);
    this.#native = native;
    this.#options = options;
    this.timings = options.timings ? new SenderTimings() : undefined;
    const onEnd = (consumer: RemoteConsumer, reason: EndReason) => this.#end(consumer, reason);
    const onRefused = (event: RefusedEvent) => this.#emit(this.#consumerListeners, event);
    const limits = { keysMax: KEYS_MAX, keysPerConsumerMax: KEYS_PER_CONSUMER_MAX };
    this.outlet = new Fanout(native, { ...options, ...limits }, onEnd, this.timings);
    const halfSent = new HalfSent();
    this.#admission = new Admission(native, { ...options, isV9Served: options.v9 !== undefined }, halfSent, {
      connectionCount: () => this.#connectionCount(),
      memoryBytes: () => this.#memoryBytes(),
      onConnection: (connection) => this.#onConnection(connection),
      onRefused,
      onV9: (link, bodies, cutter) => this.#v9?.accept(link, bodies, cutter),
      poolDescriptor: () => this.outlet.poolDescriptor(),
      onSubscribe: (connection, message) => this.#onSubscribe(connection, message),
      onFilter: (connection, message) => this.#onFilter(connection, message),
      onRoom: (connection) => this.#onRoom(connection),
      onEnd,
    });
    this.#v9 = options.v9 && new V9Server(native, options.v9, halfSent, {
      nextId: () => this.#admission.nextId(),
      memoryBytes: () => this.#memoryBytes() + this.#admission.openingBytes,
      onOpen: (slot) => this.outlet.add(slot),
      subscribe: (slot, request) => this.#subscribe(slot, request),
      onGranted: (slot) => this.#onGranted(slot),
      onSubscribed: (slot, request, receivedAt) => this.#onSubscribed(slot, request, request.token, receivedAt),
      onRefused,
      onEnd,
    });
  }

  /** @internal */
  async start(): Promise<void> {
    this.#v9?.prepare();
    const isForAll = this.#options.uids.length > 0;
    this.#acceptor = await Acceptor.listen(this.#native, this.path, isForAll, (link) => this.#admission.onLink(link));
    this.#sweep = setInterval(() => this.#onSweep(), SWEEP_MS);
    (this.#sweep as unknown as { unref?: () => void }).unref?.();
  }

  // Room

  /** Waits until there may be room: see {@linkcode Publisher.drained}. */
  override drained(): Promise<void> {
    if (!this.outlet.isCongested || this.isClosed) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#drainWaiters.push(resolve);
    this.#startBlockTimer();
    return promise;
  }

  #startBlockTimer(): void {
    this.#blockTimer ??= setTimeout(() => this.#onBlockTimeout(), this.#options.blockTimeoutMs);
  }

  /** It has read: what waits for it may go on, and who waits for it to read. */
  #onRoom(connection: Connection): void {
    this.outlet.flush(connection);
    this.#resumePublishing();
  }

  #resumePublishing(): void {
    clearTimeout(this.#blockTimer);
    this.#blockTimer = undefined;
    this.#desk?.tellRoom();
    if (this.#drainWaiters.length === 0) return;
    this.outlet.isCongested = false;
    for (const resolve of this.#drainWaiters.splice(0)) resolve();
  }

  /** Nobody may stop everybody for longer. */
  #onBlockTimeout(): void {
    this.#blockTimer = undefined;
    for (const consumer of [...this.#consumers.values()]) {
      const { policy, transactionPolicy } = consumer;
      if ((policy === "block" || transactionPolicy === "block") && consumer.isAwaited) {
        this.#end(consumer, "slow-consumer");
      }
    }
    this.#resumePublishing();
  }

  // Workers

  /**
   * What a Worker of this process needs to publish through this sender: post it there, and `attachPublisher` it. Everybody's
   * updates are in one order; connections stay with this thread, whose event loop has to run now and then.
   * @returns Always the same object. It is no use to other processes, nor after `close()`.
   * @throws {QlasterError} `SENDER_CLOSED`, `SYSTEM`
   */
  share(): SenderShare {
    this.assertOpen();
    this.#desk ??= new ShareDesk(this.#native, this.outlet.handle, this.path, () => this.#onWorkers());
    return this.#desk.share;
  }

  /** Workers have left something to do: consumers to be ended, or they wait for room. */
  #onWorkers(): void {
    if (this.isClosed) return;
    this.outlet.onEvents();
    const isBlocked = [...this.#consumers.values()].some((consumer) =>
      (consumer.policy === "block" || consumer.transactionPolicy === "block") && consumer.isAwaited
    );
    if (isBlocked) this.#startBlockTimer();
    else this.#resumePublishing();
  }

  // Consumers

  /** The present consumers, oldest first. */
  consumers(): ConsumerInfo[] {
    return [...this.#consumers.values()].map((consumer) => consumer.info());
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
   * Calls `listener` when a consumer comes or goes, and when somebody is refused, with the reason. What it throws is an uncaught error of your process.
   * @returns A function that ends it.
   */
  onConsumer(listener: (event: ConsumerEvent) => void): () => void {
    this.#consumerListeners.add(listener);
    return () => void this.#consumerListeners.delete(listener);
  }

  /** What has been done so far. */
  get metrics(): SenderMetrics {
    const counts = this.outlet.counts;
    const { accounts, transactions, slots, deliveries, lost, sequence } = counts;
    return {
      accounts,
      transactions,
      slots,
      deliveries,
      lost,
      conflated: counts.conflated,
      unchanged: counts.unchanged,
      olderVersions: counts.stale,
      newestSlot: BigInt(counts.newestSlot),
      keys: counts.keys,
      pool: { capacityBytes: counts.poolBytes, usedBytes: counts.poolUsedBytes },
      ringFull: this.#ringFull,
      consumers: this.#consumers.size,
      connections: this.#admission.granted + (this.#v9?.granted ?? 0),
      refused: this.#admission.refused + (this.#v9?.refused ?? 0),
      memoryBytes: this.#memoryBytes(),
      sequence: BigInt(sequence),
    };
  }

  /** Native consumers that are connected. */
  #connectionCount(): number {
    let count = 0;
    for (const { protocol } of this.#consumers.values()) if (protocol === "native") count++;
    return count;
  }

  #memoryBytes(): number {
    let bytes = 0;
    for (const { memoryBytes } of this.#consumers.values()) bytes += memoryBytes;
    return bytes;
  }

  #onConnection(connection: Connection): void {
    this.outlet.add(connection);
    this.#onGranted(connection);
    connection.drain(); // what it said while it was being granted woke nobody
  }

  #onGranted(consumer: RemoteConsumer): void {
    if (!this.#isRef) consumer.unref();
    this.#consumers.set(consumer.id, consumer);
    this.#emit(this.#consumerListeners, { type: "connected", consumer: consumer.info() });
  }

  #onSubscribe(connection: Connection, message: Message): void {
    const request = decodeSubscribe(message);
    const receivedAt = performance.now();
    try {
      this.#subscribe(connection, request);
    } catch (error) {
      if (!(error instanceof TooManyKeys)) throw error;
      return connection.tell(encodeRefusal(message.requestId, { status: Status.memoryLimit, text: error.message }));
    }
    this.#acknowledge(connection, message);
    this.#onSubscribed(connection, request, undefined, receivedAt);
  }

  /** An edit is in force: said among the frames, and then in answer. */
  #acknowledge(connection: Connection, message: Message): void {
    this.outlet.markEdit(connection);
    const sequence = BigInt(this.outlet.counts.sequence);
    connection.tell(encodeAck(message.requestId, { sequence, generation: connection.generation }));
  }

  #onFilter(connection: Connection, message: Message): void {
    const request = decodeFilterEdit(message);
    const receivedAt = performance.now();
    const status = this.outlet.edit(connection, request.body);
    if (status < 0) {
      const text = describeRefusal(status);
      return connection.tell(encodeRefusal(message.requestId, { status, text }));
    }
    this.#acknowledge(connection, message);
    if (request.op !== "add" && request.op !== "replace") return;
    const transactions = request.transactions || request.programKind === FilterKind.transactions;
    this.#onSubscribed(connection, { ...filterKeys(request), transactions }, undefined, receivedAt);
  }

  /** Adds to a consumer's filter. @throws {TooManyKeys} if there would be more than are kept. */
  #subscribe(consumer: RemoteConsumer, request: SubscribeRequest): void {
    const status = this.outlet.subscribe(consumer, request);
    if (status < 0) throw new TooManyKeys(describeRefusal(status));
  }

  #onSubscribed(
    consumer: RemoteConsumer,
    request: SubscribeRequest,
    token: SlotToken | undefined,
    receivedAt: number,
  ): void {
    if (this.#subscriptionListeners.size === 0) return;
    this.#emit(this.#subscriptionListeners, {
      consumer: consumer.info(),
      // Lists that came over version 9 are made when they are looked at.
      get accounts() {
        return request.accounts as Uint8Array[];
      },
      get owners() {
        return request.owners as Uint8Array[];
      },
      transactions: request.transactions,
      token,
      receivedAt,
    });
  }

  /** Frees everything of a consumer at once. */
  #end(consumer: RemoteConsumer, reason: EndReason): void {
    if (consumer.isEnded) return;
    if (reason === "slow-consumer") {
      this.#ringFull++;
      this.timings?.shm_ring_full.inc();
      this.outlet.sayGoodbye(consumer, WireReason.slowConsumer);
    } else if (reason === "sender-closed") {
      this.outlet.sayGoodbye(consumer, WireReason.senderClosed);
    }
    consumer.close(reason);
    // After close() nobody writes the pool, so what is unread in it stays as it is.
    this.outlet.remove(consumer, reason === "consumer-gone" || reason === "sender-closed");
    this.#resumePublishing();
    if (!this.#consumers.delete(consumer.id)) return; // ended before it was announced
    this.#emit(this.#consumerListeners, { type: "disconnected", consumer: consumer.info(), reason });
  }

  /** Listeners run after us, so that they may publish and close. What they throw is an uncaught error of the process. */
  #emit<E>(listeners: Set<(event: E) => void>, event: E): void {
    for (const listener of listeners) queueMicrotask(() => listener(event));
  }

  /** Finds what no wake tells: a link closed behind a wake that is not, a cursor that can't be, room for a due gap. */
  #onSweep(): void {
    void this.#acceptor?.sweep();
    for (const consumer of [...this.#consumers.values()]) {
      consumer.drain();
      if (!consumer.isEnded && !consumer.refresh()) this.#end(consumer, "peer-corrupt");
    }
    this.outlet.sweep();
    this.#desk?.look();
  }

  // Life

  /** Keeps the process alive (the default). */
  ref(): void {
    this.#isRef = true;
    this.#acceptor?.ref();
    this.#v9?.ref();
    for (const consumer of this.#consumers.values()) consumer.ref();
  }

  /** Lets the process end although the sender is open. */
  unref(): void {
    this.#isRef = false;
    this.#acceptor?.unref();
    this.#v9?.unref();
    for (const consumer of this.#consumers.values()) consumer.unref();
  }

  /**
   * Says goodbye to every consumer, removes the socket, frees everything. Consumers still read what is in their rings;
   * what waited for room in one is not delivered, and counts as lost. May be called twice.
   */
  override close(): Promise<void> {
    if (this.isClosed) return Promise.resolve();
    this.#desk?.tellClosed();
    this.outlet.commit();
    this.isClosed = true;
    this.closing.abort();
    clearInterval(this.#sweep);
    this.#acceptor?.close();
    this.#admission.close();
    this.#v9?.close();
    for (const consumer of [...this.#consumers.values()]) this.#end(consumer, "sender-closed");
    this.outlet.close();
    this.#resumePublishing();
    this.#desk?.close();
    return Promise.resolve();
  }
}
