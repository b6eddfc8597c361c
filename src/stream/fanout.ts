/**
 * The fan-out, seen from the sender's thread: its consumers, what each wants, and what became of them.
 * May touch: the engine's handle; the numbers of its consumers. May not touch: links, sockets.
 * What happens when a ring is full is the engine's by each consumer's policy; ending a consumer is the sender's.
 *
 * @module
 */

import { setImmediate } from "node:timers";
import {
  type EndReason as WireReason,
  FanoutConsumer,
  FanoutInfo,
  FanoutOptions as Layout,
  FILTER_FLAG_STATE,
  FilterBody,
  FilterOp,
  NAME_BYTES_MAX,
  PART_SIZE,
  StatBeat,
  StatDropped,
  StatIdentity,
  Status,
  V9_SLOT_NONE,
} from "../native/abi.generated.ts";
import type { Native } from "../native/native.ts";
import { errorFromStatus } from "../errors.ts";
import { type EndReason, type LossCounts, OVERFLOW_POLICIES, SLOT_STATUSES } from "../types.ts";
import { FrameEncoder } from "../wire/encoder.ts";
import type { Handover, SubscribeRequest } from "../wire/messages.ts";
import { reasonOfWire } from "./connection.ts";
import { type Drop, ENDS, lossesOf } from "./losses.ts";
import { Outlet } from "./outlet.ts";
import type { RemoteConsumer } from "./remote_consumer.ts";
import type { HistoryOptions, StateOptions } from "./sender_options.ts";
import type { SenderTimings } from "./timings.ts";
import type { UpdateView } from "./view.ts";

/** Most native consumers at a time. */
export const CONNECTIONS_MAX = 1024;
/** Most consumers of all kinds. */
export const CONSUMERS_MAX = CONNECTIONS_MAX + V9_SLOT_NONE;

const NUMBER_BITS = 16;
const ALL_STATUSES = (1 << SLOT_STATUSES.length) - 1;

/** How a fan-out is made. */
export interface FanoutOptions {
  /** Most different keys of all filters together, of each kind; and of all filters of one consumer, of both kinds. */
  readonly keysMax: number;
  readonly keysPerConsumerMax: number;
  /** Consumers of all kinds that may be there at a time: for each of them filters are kept back. */
  readonly consumersPermitted: number;
  /** Bytes of the pool; 0 for none. */
  readonly poolBytes: number;
  /** Payloads from this size on go into the pool. */
  readonly poolThresholdBytes: number;
  /** Accounts that are remembered. */
  readonly trackedAccountsMax: number;
  /** What becomes of an older version of an account after a newer one. */
  readonly olderVersions: "publish" | "count" | "drop";
  /** What is kept of accounts; undefined: nothing. */
  readonly state: Required<StateOptions> | undefined;
  /** What is kept of updates; undefined: nothing. */
  readonly history: HistoryOptions | undefined;
  /** Whether there is a stat page. */
  readonly stats: boolean;
  /** How long a consumer that reads nothing may leave no room for marks, in milliseconds. */
  readonly stallTimeoutMs: number;
}

const GUARDS: readonly FanoutOptions["olderVersions"][] = ["publish", "count", "drop"];

/** What has been done so far. */
export interface FanoutCounts {
  readonly sequence: number;
  readonly accounts: number;
  readonly transactions: number;
  readonly slots: number;
  readonly deliveries: number;
  readonly losses: LossCounts;
  readonly unchanged: number;
  readonly stale: number;
  readonly newestSlot: number;
  /** Different keys in all filters. */
  readonly accountKeys: number;
  readonly ownerKeys: number;
  readonly poolBytes: number;
  readonly poolUsedBytes: number;
  readonly stateBytes: number;
  readonly stateAccounts: number;
  readonly stateVersions: number;
  readonly stateEvicted: number;
  readonly rollbacks: number;
  readonly rolledBack: number;
  readonly historyBytes: number;
  /** Who has handled this sequence, or a greater one, can be resumed; -1: nobody can. */
  readonly historyFrom: number;
}

/** What only the sender's thread knows. */
export interface Beat {
  readonly intervalMs: number;
  /** How late the event loop was. */
  readonly stallMs: number;
  readonly connections: number;
  readonly refused: number;
  readonly memoryBytes: number;
  /** Connections that have ended, by how. */
  readonly ended: ReadonlyMap<EndReason, number>;
  readonly dropped: Dropped | undefined;
}

/** A connection that the sender has ended itself. */
export interface Dropped {
  readonly consumer: RemoteConsumer;
  readonly reason: Drop;
  /** Milliseconds since the Unix epoch. */
  readonly at: number;
}

/** One sender's order of updates and its consumers. */
export class Fanout extends Outlet {
  readonly #end: (consumer: RemoteConsumer, reason: EndReason) => void;
  /** By their numbers in the engine. */
  readonly #consumers: (RemoteConsumer | undefined)[] = [];
  readonly #markEncoder = new FrameEncoder();
  readonly #info = new Float64Array(FanoutInfo.size / 8);
  readonly #beat = new Uint8Array(StatBeat.size);
  /** Called when filters have changed, in force or refused, or gone with their consumer. */
  onFilters: (() => void) | undefined;
  #isClosed = false;
  #isPumpDue = false;
  /** The frame that is taken in. */
  #seedFrame = new Uint8Array(0);

  /**
   * @param end Ends a consumer: its ring is full, or it wrote a cursor that can't be.
   * @param timings Where to record how long things take, if anybody wants to know.
   * @throws {QlasterError} `MEMORY_LIMIT`, `SYSTEM` if there is no memory for it.
   */
  constructor(
    native: Native,
    options: FanoutOptions,
    end: (consumer: RemoteConsumer, reason: EndReason) => void,
    timings: SenderTimings | undefined,
  ) {
    super(native, createEngine(native, options), timings);
    this.#end = end;
  }

  // Who wants what

  /** The pool's descriptor, to be passed and closed; -1 if there is no pool. */
  poolDescriptor(): number {
    const fd = this.native.fanoutPoolFd(this.handle);
    if (fd === Status.unsupported) return -1;
    if (fd < 0) throw errorFromStatus(fd, "Cannot pass the pool on");
    return fd;
  }

  /** @throws {QlasterError} `SYSTEM`… if there is no place or memory for it. */
  add(consumer: RemoteConsumer): void {
    const bytes = new Uint8Array(FanoutConsumer.size);
    const view = new DataView(bytes.buffer);
    crypto.getRandomValues(bytes.subarray(FanoutConsumer.seed, FanoutConsumer.seed + 16));
    const { policy, transactionPolicy, backlogBytes, poolBytes, slotStatuses, resumeAfter } = consumer;
    let statuses = ALL_STATUSES;
    if (slotStatuses !== undefined) {
      statuses = 0;
      for (const status of slotStatuses) statuses |= 1 << SLOT_STATUSES.indexOf(status);
    }
    view.setUint32(FanoutConsumer.policy, OVERFLOW_POLICIES.indexOf(policy), true);
    view.setUint32(FanoutConsumer.transactionPolicy, OVERFLOW_POLICIES.indexOf(transactionPolicy), true);
    view.setUint32(FanoutConsumer.statuses, statuses, true);
    view.setUint32(FanoutConsumer.backlogBytes, backlogBytes, true);
    view.setUint32(FanoutConsumer.poolBytes, poolBytes, true);
    if (resumeAfter !== undefined) {
      view.setUint32(FanoutConsumer.isHeld, 1, true);
      view.setFloat64(FanoutConsumer.resumeAfter, Number(resumeAfter), true);
    }
    const number = this.native.fanoutAdd(this.handle, consumer.ring, bytes);
    if (number < 0) throw errorFromStatus(number, "Cannot take a consumer in");
    consumer.seat = { fanout: this.handle, number };
    this.#consumers[number] = consumer;
    this.native.fanoutStatIdentify(this.handle, number, encodeIdentity(consumer));
  }

  /**
   * Adds to a consumer's default filter. In force for every update with a greater sequence than the present one.
   * @returns 0, or why it was refused: then nothing has changed.
   */
  subscribe(consumer: RemoteConsumer, request: SubscribeRequest): number {
    return this.edit(consumer, encodeAddition(request));
  }

  /**
   * Applies the body of a filter message. @returns 0, or why it was refused: docs/protocol.md says what is left then.
   */
  edit(consumer: RemoteConsumer, body: Uint8Array): number {
    const status = this.native.fanoutEdit(this.handle, consumer.seat!.number, body, body.length);
    if (status >= 0) consumer.generation++;
    this.onFilters?.();
    return status < 0 ? status : this.note(status);
  }

  /** A resumed consumer has its filters: it gets what it missed. @returns 0, or why it was refused. */
  begin(consumer: RemoteConsumer): number {
    const status = this.native.fanoutStart(this.handle, consumer.seat!.number);
    return status < 0 ? status : this.note(status);
  }

  /** Forgets a consumer that has ended. @param isGone Nothing that it may still read will be overwritten: its process, or
   * the sender, is gone. */
  remove(consumer: RemoteConsumer, isGone: boolean): void {
    const { seat } = consumer;
    if (seat === undefined || this.#consumers[seat.number] !== consumer) return;
    consumer.noteCounts();
    this.#consumers[seat.number] = undefined;
    consumer.seat = undefined;
    this.native.fanoutRemove(this.handle, seat.number, isGone ? 1 : 0);
    this.onFilters?.();
  }

  /** What else happens when an update is refused for want of room. */
  onBlocked: () => void = () => {};

  protected override onRefused(): void {
    super.onRefused();
    this.onBlocked();
  }

  /** Ends the consumers that the engine has given up. */
  override onEvents(): void {
    while (!this.#isClosed) {
      const event = this.native.fanoutEvent(this.handle);
      if (event < 0) return;
      const consumer = this.#consumers[event & ((1 << NUMBER_BITS) - 1)];
      const reason = reasonOfWire(event >>> NUMBER_BITS);
      if (consumer !== undefined) this.#end(consumer, reason);
    }
  }

  // Taking over

  /** Nobody publishes any longer, in no thread, until this is taken back. What was published is visible. */
  freeze(isFrozen: boolean): void {
    this.note(this.native.fanoutFreeze(this.handle, isFrozen ? 1 : 0));
  }

  /** Takes in what another sender has published, as it came. */
  seed(view: UpdateView): void {
    switch (view.kind) {
      case "account":
      case "transaction":
      case "slot":
      case "rollback":
      case "withdrawn":
      case "snapshot-complete":
        break;
      default:
        return; // other marks have no place in the order, and say nothing of accounts
    }
    const length = view.frameLength();
    if (this.#seedFrame.length < length) this.#seedFrame = new Uint8Array(2 * length);
    view.writeFrame(this.#seedFrame, 0);
    const headLength = view.frameHeadLength();
    const tail = this.#seedFrame.subarray(headLength, length);
    const status = this.native.fanoutSeed(this.handle, this.#seedFrame, headLength, tail, tail.length);
    if (status < 0) throw errorFromStatus(status, "Cannot take in what another sender has published");
  }

  /** Goes on with the order of another sender, and knows as little as that one of what it had forgotten. @throws {QlasterError} */
  adopt({ sequence, newestSlot, evicted }: Handover): void {
    // The other two are for show: whatever they are, they are no reason to leave the path to nobody.
    const shown = (value: bigint) => Math.min(Number(value), Number.MAX_SAFE_INTEGER);
    const status = this.native.fanoutAdopt(this.handle, Number(sequence), shown(newestSlot), shown(evicted));
    if (status < 0) throw errorFromStatus(status, "Cannot go on with the order of another sender");
  }

  // Now and then

  /** Goes on with snapshots once the event loop has had its turn, and again, until they are done or wait for room. */
  protected override onWork(): void {
    if (this.#isPumpDue) return;
    this.#isPumpDue = true;
    setImmediate(() => {
      this.#isPumpDue = false;
      this.pump();
    });
  }

  /** Goes on with snapshots, for a moment. */
  pump(): void {
    if (!this.#isClosed) this.note(this.native.fanoutPump(this.handle));
  }

  /** A consumer may have made room: what waits for it goes into its ring. */
  flush(consumer: RemoteConsumer): void {
    if (consumer.seat === undefined) return;
    this.note(this.native.fanoutFlush(this.handle, consumer.seat.number));
    this.isCongested = false; // the next publish finds out
  }

  /**
   * What nobody woke us for: once a second.
   * @param elapsedMs Since the last time, as far as this thread has listened to consumers meanwhile.
   */
  sweep(elapsedMs: number): void {
    this.publishStaged(); // what a feed that was ended had no room for
    this.note(this.native.fanoutSweep(this.handle, Math.round(elapsedMs)));
  }

  /** Where an edit of a consumer's filters takes effect, for the consumer to see among its frames. */
  markEdit(consumer: RemoteConsumer): void {
    if (!consumer.takesMarks || consumer.seat === undefined) return;
    this.#markEncoder.filterMark(consumer.generation);
    this.#mark(consumer);
  }

  /** The producer's last words to one consumer, if it takes such: a frame behind all others. */
  sayGoodbye(consumer: RemoteConsumer, wireReason: (typeof WireReason)[keyof typeof WireReason]): void {
    if (!consumer.takesMarks || consumer.seat === undefined) return;
    this.#markEncoder.goodbye(wireReason);
    this.#mark(consumer);
  }

  /** The mark of an edit that has no room waits for some; a goodbye is left out: the link says it as well. */
  #mark(consumer: RemoteConsumer): void {
    const { head, headLength } = this.#markEncoder;
    this.native.fanoutMark(this.handle, consumer.seat!.number, head, headLength);
  }

  // What outsiders see (../stat/page.ts)

  /** Says in the lock file where the stat page is. Without one, nobody is the worse for it. */
  announce(listener: number): void {
    this.native.fanoutStatAnnounce(this.handle, listener);
  }

  /** The event loop runs. */
  beat(beat: Beat): void {
    const view = new DataView(this.#beat.buffer);
    view.setFloat64(StatBeat.intervalNs, beat.intervalMs * 1e6, true);
    view.setFloat64(StatBeat.stallNs, beat.stallMs * 1e6, true);
    view.setFloat64(StatBeat.connections, beat.connections, true);
    view.setFloat64(StatBeat.refused, beat.refused, true);
    view.setFloat64(StatBeat.memoryBytes, beat.memoryBytes, true);
    ENDS.forEach((reason, i) => view.setFloat64(StatBeat.ended + 8 * i, beat.ended.get(reason) ?? 0, true));
    if (beat.dropped !== undefined) encodeDropped(beat.dropped, this.#beat);
    this.native.fanoutStatBeat(this.handle, this.#beat);
  }

  /** What has been done so far. */
  get counts(): FanoutCounts {
    this.native.fanoutInfo(this.handle, this.#info);
    const at = (offset: number) => this.#info[offset / 8]!;
    return {
      sequence: at(FanoutInfo.sequence),
      accounts: at(FanoutInfo.accounts),
      transactions: at(FanoutInfo.transactions),
      slots: at(FanoutInfo.slots),
      deliveries: at(FanoutInfo.deliveries),
      losses: lossesOf((reason) => at(FanoutInfo.lostBy + 8 * reason)),
      unchanged: at(FanoutInfo.unchanged),
      stale: at(FanoutInfo.stale),
      newestSlot: at(FanoutInfo.newestSlot),
      accountKeys: at(FanoutInfo.accountKeys),
      ownerKeys: at(FanoutInfo.ownerKeys),
      poolBytes: at(FanoutInfo.poolBytes),
      poolUsedBytes: at(FanoutInfo.poolUsedBytes),
      stateBytes: at(FanoutInfo.stateBytes),
      stateAccounts: at(FanoutInfo.stateAccounts),
      stateVersions: at(FanoutInfo.stateVersions),
      stateEvicted: at(FanoutInfo.stateEvicted),
      rollbacks: at(FanoutInfo.rollbacks),
      rolledBack: at(FanoutInfo.rolledBack),
      historyBytes: at(FanoutInfo.historyBytes),
      historyFrom: at(FanoutInfo.historyFrom),
    };
  }

  /** Gives all memory back; consumers are removed first. May be called twice. */
  close(): void {
    if (this.#isClosed) return;
    this.counts; // the last ones stay to be read
    this.#isClosed = true;
    this.native.close(this.handle);
  }
}

/** @throws {QlasterError} `MEMORY_LIMIT`, `SYSTEM` if there is no memory for it. */
function createEngine(native: Native, options: FanoutOptions): number {
  const bytes = new Uint8Array(Layout.size);
  const view = new DataView(bytes.buffer);
  crypto.getRandomValues(bytes.subarray(Layout.seed, Layout.seed + 16));
  view.setUint32(Layout.keysMax, options.keysMax, true);
  view.setUint32(Layout.keysPerConsumerMax, options.keysPerConsumerMax, true);
  view.setUint32(Layout.consumersPermitted, options.consumersPermitted, true);
  view.setUint32(Layout.poolBytes, options.poolBytes, true);
  view.setUint32(Layout.poolThreshold, options.poolThresholdBytes, true);
  view.setUint32(Layout.trackedMax, options.trackedAccountsMax, true);
  view.setUint32(Layout.guard, GUARDS.indexOf(options.olderVersions), true);
  view.setUint32(Layout.historyParts, (options.history?.bytes ?? 0) / PART_SIZE, true);
  if (options.state !== undefined) {
    view.setUint32(Layout.stateParts, options.state.maxBytes / PART_SIZE, true);
    view.setUint32(Layout.stateKeep, options.state.keep === "all" ? 1 : 0, true);
  }
  view.setUint32(Layout.hasStats, options.stats ? 1 : 0, true);
  crypto.getRandomValues(bytes.subarray(Layout.statId, Layout.statId + 16));
  view.setUint32(Layout.stallMs, options.stallTimeoutMs, true);
  const handle = native.fanoutCreate(bytes);
  if (handle < 0) throw errorFromStatus(handle, "Cannot make the sender's index and pool");
  return handle;
}

/** Whom the sender has ended last, for the stat page. */
function encodeDropped({ consumer, reason, at }: Dropped, beat: Uint8Array): void {
  const view = new DataView(beat.buffer);
  const place = StatBeat.dropped;
  const name = beat.subarray(place + StatDropped.name, place + StatDropped.name + NAME_BYTES_MAX);
  const { written } = new TextEncoder().encodeInto(consumer.name, name);
  view.setUint32(StatBeat.droppedReason, ENDS.indexOf(reason), true);
  view.setFloat64(place + StatDropped.id, consumer.id, true);
  view.setFloat64(place + StatDropped.atMs, at, true);
  view.setUint32(place + StatDropped.pid, consumer.peer.pid, true);
  view.setUint32(place + StatDropped.nameLength, written, true);
}

/** Who a consumer is, for the stat page. */
function encodeIdentity(consumer: RemoteConsumer): Uint8Array {
  const bytes = new Uint8Array(StatIdentity.size);
  const view = new DataView(bytes.buffer);
  const { written } = new TextEncoder().encodeInto(
    consumer.name,
    bytes.subarray(StatIdentity.name, StatIdentity.name + NAME_BYTES_MAX),
  );
  view.setFloat64(StatIdentity.id, consumer.id, true);
  view.setFloat64(StatIdentity.connectedMs, consumer.connectedAt, true);
  view.setUint32(StatIdentity.pid, consumer.peer.pid, true);
  view.setUint32(StatIdentity.uid, consumer.peer.uid, true);
  view.setUint32(StatIdentity.protocol, consumer.protocol === "v9" ? 1 : 0, true);
  view.setUint32(StatIdentity.policy, OVERFLOW_POLICIES.indexOf(consumer.policy), true);
  view.setUint32(StatIdentity.transactionPolicy, OVERFLOW_POLICIES.indexOf(consumer.transactionPolicy), true);
  view.setUint32(StatIdentity.nameLength, written, true);
  return bytes;
}

/** A subscribe request as the body of a filter message: adds to the default filter. */
function encodeAddition({ accounts, owners, transactions, state, hasMore }: SubscribeRequest): Uint8Array {
  const keys = [...accounts, ...owners];
  const bytes = new Uint8Array(FilterBody.size + 32 * keys.length);
  const view = new DataView(bytes.buffer);
  bytes[FilterBody.op] = FilterOp.add;
  bytes[FilterBody.transactions] = transactions ? 1 : 0;
  bytes[FilterBody.isLast] = hasMore === true ? 0 : 1;
  view.setUint32(FilterBody.flags, state === true ? FILTER_FLAG_STATE : 0, true);
  view.setUint32(FilterBody.accountCount, accounts.length, true);
  view.setUint32(FilterBody.ownerCount, owners.length, true);
  keys.forEach((key, i) => bytes.set(key as Uint8Array, FilterBody.size + 32 * i));
  return bytes;
}
