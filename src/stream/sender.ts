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
import { isQlasterError, QlasterError } from "../errors.ts";
import type {
  ConsumerEvent,
  ConsumerInfo,
  EndReason,
  RefusedEvent,
  SenderCounts,
  SlotToken,
  SubscriptionEvent,
} from "../types.ts";
import { HalfSent } from "../v9/half_sent.ts";
import { IdleClock } from "../v9/idle_clock.ts";
import { V9Server } from "../v9/server.ts";
import {
  decodeFilterEdit,
  decodeSubscribe,
  encodeAck,
  encodeHandover,
  encodeRefusal,
  filterKeys,
  type Message,
  type SubscribeRequest,
} from "../wire/messages.ts";
import { Acceptor } from "./acceptor.ts";
import { Admission } from "./admission.ts";
import type { Connection } from "./connection.ts";
import { type Demand, SenderDemand } from "./demand.ts";
import { type Dropped, Fanout } from "./fanout.ts";
import { describeRefusal, KEYS_MAX, KEYS_PER_CONSUMER_MAX } from "./filter_limits.ts";
import { isDrop, totalOf } from "./losses.ts";
import { Publisher } from "./publisher.ts";
import type { RemoteConsumer } from "./remote_consumer.ts";
import {
  type HandoverEvent,
  type ResolvedSenderOptions,
  resolveSenderOptions,
  type SenderOptions,
} from "./sender_options.ts";
import { type SenderShare, ShareDesk } from "./share.ts";
import { type Taken, takeOver } from "./takeover.ts";
import { SenderTimings } from "./timings.ts";
import type { UpdateView } from "./view.ts";

/** What a sender keeps of updates. */
export interface HistoryMetrics {
  /** Bytes in use. */
  readonly bytes: number;
  /** Updates that are there, the newest ones. */
  readonly updates: number;
}

/** What a sender keeps of accounts. */
export interface StateMetrics {
  /** Bytes that it takes. */
  readonly bytes: number;
  /** Bytes that it may take. */
  readonly maxBytes: number;
  /** Accounts that are known, closed ones included. */
  readonly accounts: number;
  /** Versions of them: more than one where banks are not final yet. */
  readonly versions: number;
  /** Accounts forgotten for want of room. */
  readonly evicted: number;
  /** Banks that were taken back. */
  readonly rollbacks: number;
  /** Accounts that were taken back, once for each bank. */
  readonly rolledBack: number;
}

/** What a sender has done so far. Counts since `setupSender`. */
export interface SenderMetrics extends SenderCounts {
  /** The newest slot that anything was published of; 0n before the first. */
  readonly newestSlot: bigint;
  /** Different keys of all filters, accounts and owners. */
  readonly keys: number;
  /** What is kept of accounts: see the option `state`; all 0 without it. */
  readonly state: StateMetrics;
  /** What is kept of updates: see the option `history`; all 0 without it. */
  readonly history: HistoryMetrics;
  /** Consumers ended because their ring was full (the original's `shm_ring_full`). */
  readonly ringFull: number;
  /** Consumers that are connected now. */
  readonly consumers: number;
  /** What counts against the option `memoryMaxBytes`, pool, state and history included, and that limit. */
  readonly memory: { readonly bytes: number; readonly maxBytes: number };
  /** Sequence of the newest update; 0n before the first. */
  readonly sequence: bigint;
}

/** How often links are read even if nobody poked us, and cursors are checked even if nothing is published. */
const SWEEP_MS = 1000;
/** How long a path may be held by who was seen to die, and how often to look. */
const DYING_MS = 10_000;
const DYING_LOOK_MS = 10;

/**
 * Binds `options.path` and waits for consumers.
 * @returns The sender. It keeps the process alive until `close()` or `unref()`.
 * @throws {QlasterError} `SENDER_PATH_IN_USE`, `SENDER_PATH_NOT_SOCKET`, `SENDER_DIRECTORY_UNSAFE`, `NATIVE_…`, `SYSTEM`; with
 * `takeover` also `TAKEOVER_REFUSED`, `TAKEOVER_FAILED`, `CONNECT_…`
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
  return await openSender(await load(), options);
}

/** Opens a sender on this library. @internal */
export async function openSender(native: Native, options: SenderOptions): Promise<Sender> {
  const resolved = resolveSenderOptions(options);
  native.limitsRaise(); // each consumer takes a few descriptors; what the limit can't give, accepting will find out
  const listen = (sender: Sender) => {
    if (options.onSubscription !== undefined) sender.onSubscription(options.onSubscription);
    if (options.onConsumer !== undefined) sender.onConsumer(options.onConsumer);
    return sender;
  };
  const sender = listen(new Sender(native, resolved, options.onHandover));
  try {
    if (await sender.start(resolved.takeover)) return sender;
    // Nobody was there, or no longer. What it may have said is not known to be all: it counts for nothing.
    await sender.close();
    const fresh = listen(new Sender(native, resolved, options.onHandover));
    try {
      await fresh.start(false);
    } catch (error) {
      await fresh.close();
      if (!isQlasterError(error, "SENDER_PATH_IN_USE")) throw error;
      const text = `Cannot take over "${options.path}": another sender has got the path meanwhile`;
      throw new QlasterError("TAKEOVER_REFUSED", text, { cause: error });
    }
    return fresh;
  } catch (error) {
    await sender.close();
    throw error;
  }
}

/** Why a subscription can't be kept, for the consumer to read. */
class SubscriptionRefused extends Error {
  constructor(readonly status: number, text: string) {
    super(text);
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
  readonly #handoverListeners = new Set<(event: HandoverEvent) => void>();
  #acceptor: Acceptor | undefined;
  #sweep: ReturnType<typeof setInterval> | undefined;
  /** What consumers did not do while we stood still says nothing about them. */
  readonly #clock = new IdleClock(SWEEP_MS, performance.now());
  /** `performance.now()` at the last sweep, and what the clock said. */
  #sweptAt = 0;
  #ranAtSweep = 0;
  #isRef = true;
  /** Connections that have ended, by how. */
  readonly #ended = new Map<EndReason, number>();
  /** The last one that this side ended. */
  #dropped: Dropped | undefined;
  /** Who waits until there is room again. */
  readonly #drainWaiters: (() => void)[] = [];
  #blockTimer: ReturnType<typeof setTimeout> | undefined;
  /** Who stops everybody: what it had been given by then; since when, and when it did last (`performance.now()`). */
  readonly #blockers = new Map<RemoteConsumer, { readonly frames: number; readonly since: number; lastAt: number }>();
  /** From the first question for it on. */
  #demand: SenderDemand | undefined;
  /** From the first `share()` on. */
  #desk: ShareDesk | undefined;

  /** @internal Use {@linkcode setupSender}. */
  constructor(
    native: Native,
    options: ResolvedSenderOptions,
    onHandover: ((event: HandoverEvent) => void) | undefined,
  ) {
    super(options.path);
    if (onHandover !== undefined) this.#handoverListeners.add(onHandover);
    this.#native = native;
    this.#options = options;
    this.timings = options.timings ? new SenderTimings() : undefined;
    const onEnd = (consumer: RemoteConsumer, reason: EndReason) => this.#end(consumer, reason);
    const onRefused = (event: RefusedEvent) => this.#emit(this.#consumerListeners, event);
    const limits = {
      keysMax: KEYS_MAX,
      keysPerConsumerMax: KEYS_PER_CONSUMER_MAX,
      consumersPermitted: options.consumersMax + (options.v9?.slotsMax ?? 0),
    };
    this.outlet = new Fanout(native, { ...options, ...limits }, onEnd, this.timings);
    this.outlet.onBlocked = () => this.#startBlockTimer();
    const halfSent = new HalfSent();
    this.#admission = new Admission(native, { ...options, isV9Served: options.v9 !== undefined }, halfSent, {
      connectionCount: () => this.#connectionCount(),
      refusalOfMemory: (bytes) => this.#refusalOfMemory(bytes),
      onConnection: (connection) => this.#onConnection(connection),
      onRefused,
      onV9: (link, bodies, cutter) => this.#v9?.accept(link, bodies, cutter),
      poolDescriptor: () => this.outlet.poolDescriptor(),
      abilities: () => this.#abilities(),
      onSubscribe: (connection, message) => this.#onSubscribe(connection, message),
      onFilter: (connection, message) => this.#onFilter(connection, message),
      onStart: (connection, message) => this.#onStart(connection, message),
      onTakeover: (connection, message) => this.#onTakeover(connection, message),
      onRoom: (connection) => this.#onRoom(connection),
      onEnd,
    });
    this.#v9 = options.v9 && new V9Server(native, options.v9, halfSent, {
      nextId: () => this.#admission.nextId(),
      refusalOfMemory: (bytes) => this.#refusalOfMemory(bytes),
      onOpen: (slot) => this.outlet.add(slot),
      subscribe: (slot, request) => this.#subscribe(slot, request),
      onGranted: (slot) => this.#onGranted(slot),
      onSubscribed: (slot, request, receivedAt) => this.#onSubscribed(slot, request, request.token, receivedAt),
      onRefused,
      onEnd,
    });
  }

  /**
   * @param isTakingOver Goes on with the order of who lives at the path.
   * @returns False, and nothing was started: it is to take over, and there is nobody.
   * @internal
   */
  async start(isTakingOver: boolean): Promise<boolean> {
    this.#v9?.prepare(); // first: what stands in the way is found before anybody gives his path up
    const taken = isTakingOver ? await this.#takeOver() : undefined;
    if (isTakingOver && taken === undefined) return false;
    this.#acceptor = await this.#listen(taken);
    this.outlet.announce(this.#acceptor.listener);
    this.#sweptAt = performance.now();
    this.#sweep = setInterval(() => this.#onSweep(), SWEEP_MS);
    this.#beat(0);
    (this.#sweep as unknown as { unref?: () => void }).unref?.();
    return true;
  }

  // Taking over

  async #takeOver(): Promise<Taken | undefined> {
    const { takeoverTimeoutMs: timeoutMs, state } = this.#options;
    const seed = (view: UpdateView) => this.outlet.seed(view);
    const closeDescriptor = (fd: number) => void this.#native.fdClose(fd);
    const taken = await takeOver({ path: this.path, timeoutMs, wantsAll: state !== undefined, closeDescriptor, seed });
    if (taken === undefined) return undefined;
    try {
      this.outlet.adopt(taken);
    } catch (error) {
      for (const fd of taken.descriptors) this.#native.fdClose(fd);
      throw error;
    }
    this.#admission.adopt(taken.senderId);
    return taken;
  }

  async #listen(taken: Taken | undefined): Promise<Acceptor> {
    const isForAll = this.#options.uids.length > 0;
    const onLink = (link: number) => this.#admission.onLink(link);
    if (taken !== undefined) return await Acceptor.take(this.#native, this.path, isForAll, onLink, taken.descriptors);
    const deadline = performance.now() + (this.#options.takeover ? DYING_MS : 0);
    while (true) {
      try {
        return await Acceptor.listen(this.#native, this.path, isForAll, onLink);
      } catch (error) {
        // Who is about to take over has seen it die, which takes the kernel a moment.
        if (!isQlasterError(error, "SENDER_PATH_IN_USE") || performance.now() >= deadline) throw error;
        await new Promise<void>((resolve) => void setTimeout(resolve, DYING_LOOK_MS));
      }
    }
  }

  /** Why nothing is ever handed over to this one. */
  #refusalOfHeir({ peer }: Connection): string | undefined {
    if (this.#acceptor === undefined) return "it has only begun: try again";
    if (!this.#options.handover) return "its option handover is false";
    if (peer.uid !== this.#native.uid()) return `it is of uid ${this.#native.uid()}, and who asks of uid ${peer.uid}`;
    return undefined;
  }

  /** Why nothing is handed over to who asks for it now. */
  #refusalOfTakeover(connection: Connection): string | undefined {
    const refusal = this.#refusalOfHeir(connection);
    if (refusal !== undefined) return refusal;
    // What a batch or feed has no room for would be lost.
    if (!this.outlet.commit()) return 'a consumer with the policy "block" has no room: try again';
    return undefined;
  }

  /** A new sender has read all that we have published so far, and wants the rest: it gets it, and that is our end. */
  #onTakeover(connection: Connection, message: Message): void {
    const refuse = (text: string) =>
      connection.tell(encodeRefusal(message.requestId, { status: Status.unsupported, text }));
    const refusal = this.#refusalOfTakeover(connection);
    if (refusal !== undefined) return refuse(refusal);
    const { outlet } = this;
    outlet.freeze(true); // Workers, too: from here on the order has its last update
    if (connection.isEnded) return outlet.freeze(false); // it was too slow for that
    const acceptor = this.#acceptor!;
    const descriptors = acceptor.pass();
    if (descriptors === undefined) {
      outlet.freeze(false);
      return refuse("it has no descriptors left");
    }
    const { sequence, newestSlot, stateEvicted } = outlet.counts;
    const answer = { sequence: BigInt(sequence), newestSlot: BigInt(newestSlot), evicted: BigInt(stateEvicted) };
    const isSent = connection.link.sendWhole(encodeHandover(message.requestId, answer), descriptors);
    for (const fd of descriptors) this.#native.fdClose(fd);
    if (!isSent) {
      outlet.freeze(false); // nobody is there who could go on
      return this.#end(connection, "consumer-gone");
    }
    connection.poke();
    acceptor.yield();
    this.isHandedOver = true;
    this.#shut("handed-over");
    this.#emit(this.#handoverListeners, { pid: connection.peer.pid, sequence: answer.sequence });
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

  /** From the first update that is refused, whether or not anybody waits for room. */
  #startBlockTimer(): void {
    for (const consumer of [...this.#consumers.values()]) this.#noteBlocker(consumer);
    if (this.#blockTimer !== undefined) return;
    this.#blockTimer = setTimeout(() => this.#onBlockTimeout(), this.#options.blockTimeoutMs);
    if (!this.#isRef) (this.#blockTimer as unknown as { unref?: () => void }).unref?.();
  }

  /**
   * The time counts against a consumer until that has been given something: by its word alone that it has read, it could stop
   * everybody for ever.
   */
  #noteBlocker(consumer: RemoteConsumer): void {
    if (!consumer.mayBlock || !consumer.isAwaited) return;
    const { blockTimeoutMs } = this.#options;
    const now = performance.now();
    const { frames } = consumer;
    const known = this.#blockers.get(consumer);
    // A refusal of long ago that nobody has tried again since is no part of this.
    if (known?.frames !== frames || now - known.lastAt >= blockTimeoutMs) {
      this.#blockers.set(consumer, { frames, since: now, lastAt: now });
    } else if (now - known.since < blockTimeoutMs) known.lastAt = now;
    else this.#end(consumer, "slow-consumer");
  }

  /** It has read: what waits for it may go on, and who waits for it to read. */
  #onRoom(connection: Connection): void {
    this.#noteBlocker(connection); // a Worker may have been refused since
    if (connection.isEnded) return;
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
    for (const consumer of [...this.#blockers.keys()]) if (consumer.isAwaited) this.#end(consumer, "slow-consumer");
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
    this.outlet.pump();
    const isBlocked = [...this.#consumers.values()].some((consumer) => consumer.mayBlock && consumer.isAwaited);
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

  /**
   * What consumers want by now, so that who feeds this sender asks upstream for that and no more: the keys and owners of
   * all filters in force, of both protocols. It costs nothing before it is first asked for; from then on some 200
   * bytes for each key that is wanted.
   * @throws {QlasterError} `MEMORY_LIMIT`, `SENDER_CLOSED`
   */
  get demand(): Demand {
    if (this.#demand === undefined) {
      this.assertOpen();
      const demand = new SenderDemand(this.#native, this.outlet.handle, this.#options.demandDebounceMs);
      this.outlet.onFilters = () => demand.touch();
      this.#demand = demand;
    }
    return this.#demand;
  }

  /** What has been done so far. */
  get metrics(): SenderMetrics {
    const counts = this.outlet.counts;
    const { accounts, transactions, slots, deliveries, losses, sequence } = counts;
    const { memory } = this.#options;
    return {
      accounts,
      transactions,
      slots,
      deliveries,
      lost: totalOf(losses),
      conflated: losses.replaced,
      losses,
      unchanged: counts.unchanged,
      olderVersions: counts.stale,
      newestSlot: BigInt(counts.newestSlot),
      keys: counts.accountKeys + counts.ownerKeys,
      pool: { capacityBytes: counts.poolBytes, usedBytes: counts.poolUsedBytes },
      state: {
        bytes: counts.stateBytes,
        maxBytes: this.#options.state?.maxBytes ?? 0,
        accounts: counts.stateAccounts,
        versions: counts.stateVersions,
        evicted: counts.stateEvicted,
        rollbacks: counts.rollbacks,
        rolledBack: counts.rolledBack,
      },
      history: {
        bytes: counts.historyBytes,
        updates: counts.historyFrom < 0 ? 0 : sequence - counts.historyFrom,
      },
      ringFull: this.#ended.get("slow-consumer") ?? 0,
      consumers: this.#consumers.size,
      ...this.#connectionCounts(),
      memory: { bytes: memory.ownBytes + this.#memoryBytes(), maxBytes: memory.maxBytes },
      sequence: BigInt(sequence),
    };
  }

  /** Of both protocols, and what their rings take. */
  #connectionCounts(): Pick<SenderCounts, "connections" | "refused" | "memoryBytes"> {
    return {
      connections: this.#admission.granted + (this.#v9?.granted ?? 0),
      refused: this.#admission.refused + (this.#v9?.refused ?? 0),
      memoryBytes: this.#memoryBytes(),
    };
  }

  /** Native consumers that are connected. */
  #connectionCount(): number {
    let count = 0;
    for (const { protocol } of this.#consumers.values()) if (protocol === "native") count++;
    return count;
  }

  /** Why there is no memory for one more consumer; those that are being granted count already. */
  #refusalOfMemory(bytes: number): string | undefined {
    return this.#options.memory.refusalOf(this.#memoryBytes() + this.#admission.openingBytes, bytes);
  }

  /** Of consumers; the sender's own is the budget's to know. */
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
      if (!(error instanceof SubscriptionRefused)) throw error;
      return connection.tell(encodeRefusal(message.requestId, { status: error.status, text: error.message }));
    }
    this.#acknowledge(connection, message);
    this.#onSubscribed(connection, request, undefined, receivedAt);
  }

  /** An edit is in force: said among the frames, and then in answer. */
  #acknowledge(connection: Connection, message: Message): void {
    this.outlet.markEdit(connection);
    const sequence = BigInt(this.outlet.counts.sequence);
    connection.tell(encodeAck(message.requestId, { sequence, generation: connection.generation }));
    this.outlet.pump(); // what it asked for may be there
  }

  /** What a grant says of us. */
  #abilities() {
    const { sequence, historyFrom } = this.outlet.counts;
    return {
      sequence: BigInt(sequence),
      hasState: this.#options.state !== undefined,
      hasHistory: this.#options.history !== undefined,
      hasTakeover: this.#options.handover,
      historyFrom: historyFrom < 0 ? undefined : BigInt(historyFrom),
    };
  }

  /** A resumed consumer has its filters: what it missed, and what comes. */
  #onStart(connection: Connection, message: Message): void {
    const status = this.outlet.begin(connection);
    if (status < 0) {
      const text = "nothing was resumed, or it has begun already";
      return connection.tell(encodeRefusal(message.requestId, { status, text }));
    }
    const sequence = connection.resumeAfter!;
    connection.tell(encodeAck(message.requestId, { sequence, generation: connection.generation }));
    this.outlet.pump();
  }

  #onFilter(connection: Connection, message: Message): void {
    const request = decodeFilterEdit(message);
    const receivedAt = performance.now();
    const refusal = request.versions ? this.#refusalOfHeir(connection) : undefined;
    if (refusal !== undefined) {
      return connection.tell(encodeRefusal(message.requestId, { status: Status.unsupported, text: refusal }));
    }
    const status = this.outlet.edit(connection, request.body);
    if (status < 0) {
      const text = describeRefusal(status, this.outlet.counts);
      return connection.tell(encodeRefusal(message.requestId, { status, text }));
    }
    this.#acknowledge(connection, message);
    if (request.op !== "add" && request.op !== "replace") return;
    const transactions = request.transactions || request.programKind === FilterKind.transactions;
    this.#onSubscribed(connection, { ...filterKeys(request), transactions }, undefined, receivedAt);
  }

  /** Adds to a consumer's filter. @throws {SubscriptionRefused} if there would be more than is kept. */
  #subscribe(consumer: RemoteConsumer, request: SubscribeRequest): void {
    const status = this.outlet.subscribe(consumer, request);
    if (status < 0) throw new SubscriptionRefused(status, describeRefusal(status, this.outlet.counts));
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
    this.#ended.set(reason, (this.#ended.get(reason) ?? 0) + 1);
    if (isDrop(reason)) this.#dropped = { consumer, reason, at: Date.now() };
    if (reason === "slow-consumer") {
      this.timings?.shm_ring_full.inc();
      this.outlet.sayGoodbye(consumer, WireReason.slowConsumer);
    } else if (reason === "sender-closed") {
      this.outlet.sayGoodbye(consumer, WireReason.senderClosed);
    } else if (reason === "handed-over") {
      this.outlet.sayGoodbye(consumer, WireReason.handedOver);
    }
    consumer.close(reason);
    // After close() nobody writes the pool, so what is unread in it stays as it is.
    const isGone = reason === "consumer-gone" || reason === "sender-closed" || reason === "handed-over";
    this.outlet.remove(consumer, isGone);
    this.#blockers.delete(consumer);
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
    const now = performance.now();
    this.#clock.tick(now);
    const ran = this.#clock.now(now);
    this.outlet.sweep(ran - this.#ranAtSweep);
    this.#ranAtSweep = ran;
    this.#desk?.look();
    this.#beat(Math.max(0, now - this.#sweptAt - SWEEP_MS));
    this.#sweptAt = now;
  }

  /** Shows outsiders that the event loop runs. @param stallMs By how much it was late. */
  #beat(stallMs: number): void {
    this.outlet.beat({
      intervalMs: SWEEP_MS,
      stallMs,
      ...this.#connectionCounts(),
      ended: this.#ended,
      dropped: this.#dropped,
    });
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
    this.#shut("sender-closed");
    return Promise.resolve();
  }

  #shut(reason: "sender-closed" | "handed-over"): void {
    if (this.isClosed) return;
    this.#desk?.tellClosed();
    this.outlet.commit();
    this.outlet.freeze(true); // what is taken back of a dead bank has an end
    this.outlet.dropStaged(); // a feed's, for which there is no room
    this.isClosed = true;
    this.closing.abort();
    clearInterval(this.#sweep);
    this.#acceptor?.close();
    this.#admission.close();
    this.#v9?.close();
    this.#demand?.close();
    for (const consumer of [...this.#consumers.values()]) this.#end(consumer, reason);
    this.outlet.close();
    this.#resumePublishing();
    this.#desk?.close();
  }
}
