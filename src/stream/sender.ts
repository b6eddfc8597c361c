/**
 * The sender: one order of updates, fanned out to the consumers whose filters match.
 * May touch: the native library through its connections, timers. May not touch: a runtime.
 * How it hangs together: docs/ARCHITECTURE.md; the messages: docs/protocol.md.
 *
 * @module
 */

import {
  AccountBody,
  CAPACITY_BYTES_MAX,
  CAPACITY_BYTES_MIN,
  EndReason as WireReason,
  FRAME_ALIGN,
  FrameHeader,
  LAYOUT_VERSION,
  OfferTarget,
  PART_SIZE,
  RESERVED_BYTES_MIN,
  RESERVED_FRACTION,
  Status,
} from "../native/abi.generated.ts";
import { accept } from "../native/accept.ts";
import { load } from "../native/load.ts";
import type { Native, Watch } from "../native/native.ts";
import { describeStatus, errorFromStatus, QlasterError } from "../errors.ts";
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
import { FrameEncoder } from "../wire/encoder.ts";
import { decodeSubscribe, encodeAck, encodeRefusal, type Hello, type Message } from "../wire/messages.ts";
import { Connection } from "./connection.ts";
import { feed } from "./feed.ts";
import { KeyIndex } from "./filter.ts";
import { Handshake } from "./handshake.ts";
import { Link } from "./link.ts";
import { SlotCounter } from "./slot_counter.ts";

/** How a sender is set up. */
export interface SenderOptions {
  /** Path of the Unix socket that consumers connect to. At most 94 bytes (macOS 90). */
  readonly path: string;
  /** Bytes of each consumer's ring: a power of two, 64 KiB to 1 GiB. Default 64 MiB; memory is committed as it is used. */
  readonly ringCapacityBytes?: number;
  /** Most bytes that the regions of all connections may take together. Default 1 GiB. */
  readonly memoryMaxBytes?: number;
  /** Most consumers at a time, 1 to 1024. Default 64. */
  readonly consumersMax?: number;
  /** Other users that may connect, by uid. Default: only the sender's own. */
  readonly uids?: readonly number[];
  /** How long a connection may take to say hello, in milliseconds. Default 5000. */
  readonly handshakeTimeoutMs?: number;
  /** Called for each accepted subscription. */
  readonly onSubscription?: (event: SubscriptionEvent) => void;
  /** Called when a consumer comes or goes. */
  readonly onConsumer?: (event: ConsumerEvent) => void;
}

/** What a sender has done so far. Counts since `setupSender`. */
export interface SenderMetrics {
  readonly accounts: number;
  readonly transactions: number;
  readonly slots: number;
  /** Frames handed to rings: one per update and matching consumer. */
  readonly deliveries: number;
  /** Matching updates that a connection did not get. */
  readonly lost: number;
  /** Connections ended because their ring was full (the original's `shm_ring_full`). */
  readonly ringFull: number;
  readonly consumers: number;
  readonly connections: number;
  /** Connections that were refused, or never said hello. */
  readonly refused: number;
  /** Bytes of all regions of the present connections. */
  readonly memoryBytes: number;
  /** Sequence of the newest update. */
  readonly sequence: bigint;
}

const RING_CAPACITY_DEFAULT = 64 * 1024 * 1024;
const MEMORY_MAX_DEFAULT = 1024 * 1024 * 1024;
const CONSUMERS_DEFAULT = 64;
const CONSUMERS_MAX = 1024;
const HANDSHAKE_TIMEOUT_MS = 5000;
/** Connections that have not said hello yet. More are closed at once. */
const HANDSHAKES_MAX = 256;
/** Keys that one consumer may subscribe to. */
const KEYS_MAX = 1_000_000;
/** Bytes that may wait for a consumer that does not read its link: acks and pongs are small. */
const LINK_QUEUE_BYTES_MAX = 64 * 1024;
/** How often links are read even if nobody poked us, and cursors are checked even if nothing is published. */
const SWEEP_MS = 1000;
/** Updates of one batch after which it is committed all the same, so that consumers start early. */
const BATCH_MAX = 256;
const TARGET_WORDS = OfferTarget.size / 4;

function assertInteger(value: number, name: string, min: number, max: number): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new RangeError(`${name} must be an integer from ${min} to ${max}, not ${value}`);
  }
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
  if (typeof options.path !== "string" || options.path === "") throw new TypeError("path must be a non-empty string");
  const capacityBytes = options.ringCapacityBytes ?? RING_CAPACITY_DEFAULT;
  assertInteger(capacityBytes, "ringCapacityBytes", CAPACITY_BYTES_MIN, CAPACITY_BYTES_MAX);
  if ((capacityBytes & (capacityBytes - 1)) !== 0) {
    throw new RangeError(`ringCapacityBytes must be a power of two, ${capacityBytes} is not`);
  }
  const consumersMax = options.consumersMax ?? CONSUMERS_DEFAULT;
  assertInteger(consumersMax, "consumersMax", 1, CONSUMERS_MAX);
  const memoryMaxBytes = options.memoryMaxBytes ?? MEMORY_MAX_DEFAULT;
  assertInteger(memoryMaxBytes, "memoryMaxBytes", 0, Number.MAX_SAFE_INTEGER);
  const handshakeTimeoutMs = options.handshakeTimeoutMs ?? HANDSHAKE_TIMEOUT_MS;
  assertInteger(handshakeTimeoutMs, "handshakeTimeoutMs", 1, 3_600_000);
  const uids = options.uids ?? [];
  for (const uid of uids) assertInteger(uid, "uids", 0, 0xffffffff);

  const native = await load();
  native.limitsRaise(); // each consumer takes two descriptors; what the limit can't give, accepting will find out
  const path = new TextEncoder().encode(options.path);
  const listener = native.listen(path, path.length, uids.length > 0 ? 1 : 0);
  if (listener < 0) throw errorFromStatus(listener, `Cannot listen at "${options.path}"`);
  const sender = new Sender(native, listener, {
    ...options,
    ringCapacityBytes: capacityBytes,
    consumersMax,
    memoryMaxBytes,
    handshakeTimeoutMs,
    uids,
  });
  try {
    await sender.start();
  } catch (error) {
    await sender.close();
    throw error;
  }
  return sender;
}

/** Publishes updates to every consumer that asked for them. Create one with {@linkcode setupSender}. */
export class Sender implements AsyncDisposable {
  /** The socket's path. */
  readonly path: string;

  readonly #native: Native;
  readonly #options: Required<Omit<SenderOptions, "onSubscription" | "onConsumer">>;
  readonly #listener: number;
  readonly #ownUid: number;
  readonly #senderId: Uint8Array = crypto.getRandomValues(new Uint8Array(16));
  #server: Watch | undefined;
  #sweep: ReturnType<typeof setInterval> | undefined;
  readonly #closing = new AbortController();
  #isRef = true;

  readonly #handshakes = new Set<Handshake>();
  readonly #connections = new Map<number, Connection>();
  /** Hellos that are being granted: they count against the limits already. */
  #opening = 0;
  /** Sweeps in a row that found connections which the runtime had not accepted. */
  #leftOverSweeps = 0;
  #connectionCount = 0;
  readonly #accountIndex = new KeyIndex<Connection>();
  readonly #ownerIndex = new KeyIndex<Connection>();
  readonly #transactionConsumers = new Set<Connection>();

  readonly #encoder = new FrameEncoder();
  readonly #markEncoder = new FrameEncoder();
  readonly #markTarget = new Uint32Array(TARGET_WORDS);
  readonly #slotCounter = new SlotCounter();
  #sequence = 0;
  /** The connections that the present update goes to, and the same as the native library wants them. */
  readonly #matched: Connection[] = [];
  readonly #targets = new Uint32Array(TARGET_WORDS * CONSUMERS_MAX);
  readonly #statuses = new Int32Array(this.#targets.buffer);
  /** Connections with frames that are not committed yet. */
  readonly #dirty: Connection[] = [];
  #isInBatch = false;

  readonly #subscriptionListeners = new Set<(event: SubscriptionEvent) => void>();
  readonly #consumerListeners = new Set<(event: ConsumerEvent) => void>();
  #accounts = 0;
  #transactions = 0;
  #slots = 0;
  #deliveries = 0;
  #lost = 0;
  #ringFull = 0;
  #refused = 0;

  /** @internal Use {@linkcode setupSender}. */
  constructor(
    native: Native,
    listener: number,
    options: SenderOptions & Required<Omit<SenderOptions, "onSubscription" | "onConsumer">>,
  ) {
    this.#native = native;
    this.#listener = listener;
    this.#options = options;
    this.#ownUid = native.uid();
    this.path = options.path;
    if (options.onSubscription !== undefined) this.#subscriptionListeners.add(options.onSubscription);
    if (options.onConsumer !== undefined) this.#consumerListeners.add(options.onConsumer);
  }

  /** @internal */
  async start(): Promise<void> {
    this.#server = await this.#serve();
    this.#sweep = setInterval(() => this.#onSweep(), SWEEP_MS);
    (this.#sweep as unknown as { unref?: () => void }).unref?.();
  }

  #serve(): Promise<Watch> {
    const fd = this.#native.listenerFd(this.#listener);
    if (fd < 0) throw errorFromStatus(fd, `Cannot listen at "${this.path}"`);
    return accept(this.#native, fd, (link) => this.#onLink(link));
  }

  // Publishing

  /**
   * Publishes a write of an account to every consumer that wants its key or its owner.
   * @returns The number of consumers that it was handed to.
   * @throws {TypeError} {@linkcode RangeError} for a field that is not what it must be; then nothing was published.
   * @throws {QlasterError} `SENDER_CLOSED`
   */
  publishAccount(update: Omit<AccountUpdate, "kind">): number {
    this.#assertOpen();
    this.#startBatchUnlessInOne();
    this.#encoder.account(update, this.#sequence + 1);
    this.#sequence++;
    this.#accounts++;
    const slot = Number(update.slot);
    this.#slotCounter.countAccount(slot);
    this.#matched.length = 0;
    const head = this.#encoder.head;
    this.#match(this.#accountIndex.get(head, FrameHeader.size + AccountBody.pubkey));
    if (!this.#ownerIndex.isEmpty) this.#match(this.#ownerIndex.get(head, FrameHeader.size + AccountBody.owner));
    return this.#deliver("account", slot);
  }

  /** Publishes a transaction to every consumer that asked for transactions. Otherwise as `publishAccount`. */
  publishTransaction(update: Omit<TransactionUpdate, "kind">): number {
    this.#assertOpen();
    this.#startBatchUnlessInOne();
    this.#encoder.transaction(update, this.#sequence + 1);
    this.#sequence++;
    this.#transactions++;
    const slot = Number(update.slot);
    this.#slotCounter.countTransaction(slot);
    this.#matched.length = 0;
    this.#match(this.#transactionConsumers);
    return this.#deliver("transaction", slot);
  }

  /**
   * Publishes a status of a slot to every consumer, with the number of accounts and transactions published for that slot
   * so far, and of those that each connection lost. Otherwise as `publishAccount`.
   */
  publishSlot(update: Omit<SlotUpdate, "kind">): number {
    this.#assertOpen();
    this.#startBatchUnlessInOne();
    const slot = Number(update.slot);
    const counts = this.#slotCounter.countsOf(slot);
    this.#encoder.slot(update, this.#sequence + 1, counts);
    this.#sequence++;
    this.#slots++;
    // Those with losses of this slot get a frame of their own; it takes its place in the order all the same.
    const withLosses: Connection[] = [];
    this.#matched.length = 0;
    for (const connection of this.#connections.values()) {
      if (connection.lossesOf(slot) === undefined) this.#match([connection]);
      else withLosses.push(connection);
    }
    let reached = this.#deliver("slot", slot);
    for (const connection of withLosses) {
      const losses = connection.lossesOf(slot)!;
      this.#encoder.slotLosses(losses.accounts, losses.transactions);
      this.#matched.length = 0;
      this.#match([connection]);
      reached += this.#deliver("slot", slot);
    }
    return reached;
  }

  /**
   * Publishes many updates with one commit and at most one wake per consumer (one more for each 256 updates).
   * @returns The number of deliveries.
   * @throws as the single ones; what came before the faulty update is published.
   */
  publishBatch(updates: Iterable<Update>): number {
    this.#assertOpen();
    if (this.#isInBatch) throw new QlasterError("INVARIANT", "Cannot publish a batch while one is being published");
    let reached = 0;
    let staged = 0;
    try {
      for (const update of updates) {
        reached += this.stage(update);
        if (++staged % BATCH_MAX === 0) this.commit();
      }
    } finally {
      this.commit();
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
    return feed(
      this,
      source,
      options.signal === undefined ? [this.#closing.signal] : [this.#closing.signal, options.signal],
    );
  }

  /** Publishes one update, unseen until `commit`. @internal */
  stage(update: Update): number {
    this.#assertOpen();
    if (!this.#isInBatch) {
      this.#isInBatch = true;
      this.#encoder.startBatch();
    }
    switch (update.kind) {
      case "account":
        return this.publishAccount(update);
      case "transaction":
        return this.publishTransaction(update);
      case "slot":
        return this.publishSlot(update);
      default:
        throw new TypeError(`kind must be account, transaction or slot, not ${(update as { kind: unknown }).kind}`);
    }
  }

  /** Makes what was staged visible. @internal */
  commit(): void {
    this.#isInBatch = false;
    const dirty = this.#dirty;
    if (dirty.length === 0) return;
    for (let i = 0; i < dirty.length; i++) {
      dirty[i]!.isDirty = false;
      this.#targets[i * TARGET_WORDS] = dirty[i]!.ring;
    }
    this.#native.ringCommit(this.#targets, dirty.length);
    dirty.length = 0;
  }

  get #isClosed(): boolean {
    return this.#closing.signal.aborted;
  }

  #assertOpen(): void {
    if (this.#isClosed) throw new QlasterError("SENDER_CLOSED", `Cannot publish at "${this.path}"`);
  }

  #startBatchUnlessInOne(): void {
    if (!this.#isInBatch) this.#encoder.startBatch();
  }

  /** Adds connections to the targets of the present update, each once. */
  #match(connections: Iterable<Connection> | undefined): void {
    if (connections === undefined) return;
    const sequence = this.#sequence;
    for (const connection of connections) {
      if (connection.matchedSequence === sequence) continue;
      connection.matchedSequence = sequence;
      this.#targets[this.#matched.length * TARGET_WORDS] = connection.ring;
      this.#matched.push(connection);
    }
  }

  /** Copies the encoded frame into the ring of each matched connection, and commits unless a batch is open. */
  #deliver(kind: Update["kind"], slot: number): number {
    const count = this.#matched.length;
    if (count === 0) return 0;
    const { head, headLength, tail } = this.#encoder;
    const commit = this.#isInBatch ? 0 : 1;
    let taken = this.#native.ringOffer(head, headLength, tail, tail.length, this.#targets, count, commit);
    if (taken < 0) throw errorFromStatus(taken, "Cannot hand a frame to its rings");
    if (taken < count) taken += this.#onRefused(kind, slot);
    for (const connection of this.#matched) {
      if (connection.isEnded) continue;
      connection.frames++;
      if (commit === 0 && !connection.isDirty) {
        connection.isDirty = true;
        this.#dirty.push(connection);
      }
    }
    this.#deliveries += taken;
    return taken;
  }

  /** Some rings did not take the frame. Returns how many did at a second try. */
  #onRefused(kind: Update["kind"], slot: number): number {
    let taken = 0;
    // Ending a connection publishes marks, which may use the targets: so first collect.
    const refused: [Connection, number][] = [];
    this.#matched.forEach((connection, i) => {
      const status = this.#statuses[i * TARGET_WORDS + 1]!;
      if (status < 0) refused.push([connection, status]);
    });
    for (const [connection, status] of refused) {
      switch (status) {
        case Status.tooLarge:
          this.#onTooLarge(connection, kind, slot);
          break;
        case Status.full:
          // Frames of an open batch are room that the consumer can't give back: show them, look again.
          if (connection.isDirty && this.#offerAgain(connection)) taken++;
          else {
            connection.countLoss(kind, slot);
            this.#lost++;
            this.#end(connection, "slow-consumer");
          }
          break;
        default:
          this.#end(connection, "peer-corrupt");
      }
    }
    return taken;
  }

  #offerAgain(connection: Connection): boolean {
    const target = this.#markTarget;
    target[0] = connection.ring;
    this.#native.ringCommit(target, 1);
    const { head, headLength, tail } = this.#encoder;
    return this.#native.ringOffer(head, headLength, tail, tail.length, target, 1, 0) === 1;
  }

  /** The frame can never fit this ring: a loss, which a gap frame reports at once, and not an eviction. */
  #onTooLarge(connection: Connection, kind: Update["kind"], slot: number): void {
    const lostTotal = connection.countLoss(kind, slot);
    this.#lost++;
    this.#markEncoder.startBatch();
    this.#markEncoder.gap(this.#sequence, lostTotal);
    this.#offerMark(connection); // if even that does not fit, the next frame's `lost` says it
  }

  #offerMark(connection: Connection): void {
    const { head, headLength, tail } = this.#markEncoder;
    this.#markTarget[0] = connection.ring;
    this.#native.ringOffer(head, headLength, tail, tail.length, this.#markTarget, 1, 1);
  }

  // Consumers

  /** The present consumers, oldest first. */
  consumers(): ConsumerInfo[] {
    return [...this.#connections.values()].map((connection) => connection.info());
  }

  /**
   * Calls `listener` for each accepted subscription, after it is in force and acknowledged.
   * @returns A function that ends it.
   */
  onSubscription(listener: (event: SubscriptionEvent) => void): () => void {
    this.#subscriptionListeners.add(listener);
    return () => void this.#subscriptionListeners.delete(listener);
  }

  /**
   * Calls `listener` when a consumer comes or goes.
   * @returns A function that ends it.
   */
  onConsumer(listener: (event: ConsumerEvent) => void): () => void {
    this.#consumerListeners.add(listener);
    return () => void this.#consumerListeners.delete(listener);
  }

  /** What has been done so far. */
  get metrics(): SenderMetrics {
    return {
      accounts: this.#accounts,
      transactions: this.#transactions,
      slots: this.#slots,
      deliveries: this.#deliveries,
      lost: this.#lost,
      ringFull: this.#ringFull,
      consumers: this.#connections.size,
      connections: this.#connectionCount,
      refused: this.#refused,
      memoryBytes: this.#connections.size * this.#bytesPerConnection,
      sequence: BigInt(this.#sequence),
    };
  }

  get #bytesPerConnection(): number {
    return this.#options.ringCapacityBytes + 2 * PART_SIZE; // ring and its header, consumer page
  }

  #onLink(handle: number): void {
    let link: Link;
    try {
      link = new Link(this.#native, handle, { descriptorsExpected: 1, queueBytesMax: LINK_QUEUE_BYTES_MAX });
    } catch {
      this.#refused++; // gone already
      return;
    }
    if (this.#isClosed || this.#handshakes.size >= HANDSHAKES_MAX) {
      this.#refused++;
      link.close();
      return;
    }
    const { uid } = link.peer;
    if (uid !== this.#ownUid && !this.#options.uids.includes(uid)) {
      this.#refuse(link, Status.wrongUid, `uid ${uid} is not among those that may connect (option uids)`);
      return;
    }
    const handshake = new Handshake(
      link,
      this.#options.handshakeTimeoutMs,
      (hello, wakeFd) => {
        this.#handshakes.delete(handshake);
        void this.#onHello(link, hello, wakeFd);
      },
      () => {
        this.#handshakes.delete(handshake);
        this.#refused++;
      },
    );
    this.#handshakes.add(handshake);
    handshake.start();
  }

  /** Says why, then closes. */
  #refuse(link: Link, status: number, text: string): void {
    this.#refused++;
    link.send(encodeRefusal(0, { status, text }));
    link.close();
  }

  async #onHello(link: Link, hello: Hello, wakeFd: number): Promise<void> {
    const refusal = this.#refusalOf(hello);
    if (refusal !== undefined) {
      this.#native.fdClose(wakeFd);
      this.#refuse(link, ...refusal);
      return;
    }
    const capacityBytes = this.#options.ringCapacityBytes;
    const reservedBytes = Math.max(
      RESERVED_BYTES_MIN,
      Math.floor(capacityBytes / RESERVED_FRACTION / FRAME_ALIGN) * FRAME_ALIGN,
    );
    const events = {
      onSubscribe: (connection: Connection, message: Message) => this.#onSubscribe(connection, message),
      onEnd: (connection: Connection, reason: EndReason) => this.#end(connection, reason),
    };
    this.#opening++;
    let connection: Connection;
    try {
      connection = await Connection.create(this.#native, events, link, wakeFd, {
        id: ++this.#connectionCount,
        name: hello.name,
        capacityBytes,
        reservedBytes,
        senderId: this.#senderId,
      });
    } catch (error) {
      this.#refuse(link, Status.badDescriptor, error instanceof Error ? error.message : String(error));
      return;
    } finally {
      this.#opening--;
    }
    if (connection.isEnded) return;
    if (this.#isClosed) return connection.close("sender-closed");
    if (!this.#isRef) connection.unref();
    this.#connections.set(connection.id, connection);
    this.#emit(this.#consumerListeners, { type: "connected", consumer: connection.info() });
  }

  #refusalOf(hello: Hello): [status: number, text: string] | undefined {
    if (this.#isClosed) return [Status.endOfStream, "the sender is closing"];
    if (hello.versionMin > LAYOUT_VERSION || hello.versionMax < LAYOUT_VERSION) {
      const older = hello.versionMax < LAYOUT_VERSION ? "consumer" : "sender";
      return [
        Status.badVersion,
        `the sender speaks version ${LAYOUT_VERSION}, the consumer ${hello.versionMin} to ${hello.versionMax}: upgrade the ${older}`,
      ];
    }
    const count = this.#connections.size + this.#opening;
    if (count >= this.#options.consumersMax) {
      return [
        Status.consumersLimit,
        `${count} consumers are connected, the limit is ${this.#options.consumersMax} (option consumersMax)`,
      ];
    }
    const bytes = (count + 1) * this.#bytesPerConnection;
    if (bytes > this.#options.memoryMaxBytes) {
      return [
        Status.memoryLimit,
        `${
          count + 1
        } consumers need ${bytes} bytes, the limit is ${this.#options.memoryMaxBytes} (options memoryMaxBytes, ringCapacityBytes)`,
      ];
    }
    return undefined;
  }

  #onSubscribe(connection: Connection, message: Message): void {
    const request = decodeSubscribe(message);
    const receivedAt = performance.now();
    const keys = connection.accounts.length + connection.owners.length + request.accounts.length +
      request.owners.length;
    if (keys > KEYS_MAX) {
      const text = `${keys} keys are more than a consumer may have, which is ${KEYS_MAX}`;
      connection.tell(encodeRefusal(message.requestId, { status: Status.memoryLimit, text }));
      return;
    }
    for (const key of request.accounts as Uint8Array[]) {
      if (this.#accountIndex.add(key, connection)) connection.accounts.push(key);
    }
    for (const key of request.owners as Uint8Array[]) {
      if (this.#ownerIndex.add(key, connection)) connection.owners.push(key);
    }
    if (request.transactions) {
      connection.transactions = true;
      this.#transactionConsumers.add(connection);
    }
    // In force from here on: whatever is published after the acknowledgement's sequence is matched with it.
    connection.generation++;
    connection.tell(
      encodeAck(message.requestId, { sequence: BigInt(this.#sequence), generation: connection.generation }),
    );
    this.#emit(this.#subscriptionListeners, {
      consumer: connection.info(),
      accounts: request.accounts as Uint8Array[],
      owners: request.owners as Uint8Array[],
      transactions: request.transactions,
      receivedAt,
    });
  }

  /** Frees everything of a connection at once. */
  #end(connection: Connection, reason: EndReason): void {
    if (connection.isEnded) return;
    if (reason === "slow-consumer") this.#ringFull++;
    const wireReason = reason === "slow-consumer"
      ? WireReason.slowConsumer
      : reason === "sender-closed"
      ? WireReason.senderClosed
      : undefined;
    if (wireReason !== undefined) {
      this.#markEncoder.startBatch();
      this.#markEncoder.goodbye(this.#sequence, wireReason);
      this.#offerMark(connection);
    }
    connection.close(reason);
    for (const key of connection.accounts) this.#accountIndex.remove(key, connection);
    for (const key of connection.owners) this.#ownerIndex.remove(key, connection);
    this.#transactionConsumers.delete(connection);
    const dirtyAt = this.#dirty.indexOf(connection);
    if (dirtyAt >= 0) this.#dirty.splice(dirtyAt, 1);
    if (!this.#connections.delete(connection.id)) return; // ended before it was announced
    this.#emit(this.#consumerListeners, { type: "disconnected", consumer: connection.info(), reason });
  }

  /** Listeners run after us, so that they may publish and close; what they throw is theirs. */
  #emit<E>(listeners: Set<(event: E) => void>, event: E): void {
    for (const listener of listeners) queueMicrotask(() => listener(event));
  }

  /** Finds what no wake tells: a link that was closed behind a wake that was not, a cursor that can't be. */
  #onSweep(): void {
    void this.#acceptLeftOvers();
    for (const connection of [...this.#connections.values()]) {
      connection.drain();
      if (!connection.isEnded && !connection.refresh()) this.#end(connection, "peer-corrupt");
    }
  }

  /**
   * Takes connections that the runtime left in the queue. Deno 2.9 stops accepting, without a word, once descriptors ran
   * out: so when it left some twice in a row, it gets a new duplicate of the listening socket.
   */
  async #acceptLeftOvers(): Promise<void> {
    let found = 0;
    while (found < HANDSHAKES_MAX) {
      const link = this.#native.listenerAccept(this.#listener);
      if (link < 0) break;
      found++;
      this.#onLink(link);
    }
    this.#leftOverSweeps = found === 0 ? 0 : this.#leftOverSweeps + 1;
    if (this.#leftOverSweeps < 2) return;
    this.#leftOverSweeps = 0;
    try {
      const server = await this.#serve();
      this.#server?.close();
      this.#server = server;
      if (!this.#isRef) server.unref();
      if (this.#isClosed) server.close();
    } catch {
      // Still no descriptors: the next sweep tries again, and accepts by itself meanwhile.
    }
  }

  // Life

  /** Keeps the process alive (the default). */
  ref(): void {
    this.#setRef(true);
  }

  /** Lets the process end although the sender is open. */
  unref(): void {
    this.#setRef(false);
  }

  #setRef(isRef: boolean): void {
    this.#isRef = isRef;
    const method = isRef ? "ref" : "unref";
    this.#server?.[method]();
    for (const connection of this.#connections.values()) connection[method]();
  }

  /** Says goodbye to every consumer, removes the socket, frees everything. May be called twice. */
  close(): Promise<void> {
    if (this.#isClosed) return Promise.resolve();
    this.commit();
    this.#closing.abort();
    clearInterval(this.#sweep);
    const status = this.#native.close(this.#listener); // first: nobody new finds the path
    this.#server?.close();
    for (const handshake of [...this.#handshakes]) handshake.cancel();
    for (const connection of [...this.#connections.values()]) this.#end(connection, "sender-closed");
    if (status < 0) {
      return Promise.reject(new QlasterError("INVARIANT", `Cannot close the listener (${describeStatus(status)})`));
    }
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
