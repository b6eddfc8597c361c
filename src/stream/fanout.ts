/**
 * The fan-out, seen from the sender's thread: its consumers, what each wants, and what became of them.
 * May touch: the engine's handle; the numbers of its consumers. May not touch: links, sockets.
 * What happens when a ring is full is the engine's by each consumer's policy; ending a consumer is the sender's.
 *
 * @module
 */

import {
  type EndReason as WireReason,
  FanoutConsumer,
  FanoutInfo,
  FanoutOptions as Layout,
  FilterBody,
  FilterOp,
  Status,
  V9_SLOT_NONE,
} from "../native/abi.generated.ts";
import type { Native } from "../native/native.ts";
import { errorFromStatus } from "../errors.ts";
import { type EndReason, OVERFLOW_POLICIES, SLOT_STATUSES } from "../types.ts";
import { FrameEncoder } from "../wire/encoder.ts";
import type { SubscribeRequest } from "../wire/messages.ts";
import { reasonOfWire } from "./connection.ts";
import { Outlet } from "./outlet.ts";
import type { RemoteConsumer } from "./remote_consumer.ts";
import type { SenderTimings } from "./timings.ts";

/** Most native consumers at a time. */
export const CONNECTIONS_MAX = 1024;
/** Most consumers of all kinds. */
export const CONSUMERS_MAX = CONNECTIONS_MAX + V9_SLOT_NONE;

const NUMBER_BITS = 16;
const ALL_STATUSES = (1 << SLOT_STATUSES.length) - 1;

/** How a fan-out is made. */
export interface FanoutOptions {
  /** Most different keys of all filters together, of each kind; and of one filter, of both kinds. */
  readonly keysMax: number;
  readonly keysPerConsumerMax: number;
  /** Bytes of the pool; 0 for none. */
  readonly poolBytes: number;
  /** Payloads from this size on go into the pool. */
  readonly poolThresholdBytes: number;
  /** Accounts that are remembered. */
  readonly trackedAccountsMax: number;
  /** What becomes of an older version of an account after a newer one. */
  readonly olderVersions: "publish" | "count" | "drop";
}

const GUARDS: readonly FanoutOptions["olderVersions"][] = ["publish", "count", "drop"];

/** What has been done so far. */
export interface FanoutCounts {
  readonly sequence: number;
  readonly accounts: number;
  readonly transactions: number;
  readonly slots: number;
  readonly deliveries: number;
  readonly lost: number;
  readonly conflated: number;
  readonly unchanged: number;
  readonly stale: number;
  readonly newestSlot: number;
  readonly keys: number;
  readonly poolBytes: number;
  readonly poolUsedBytes: number;
}

/** One sender's order of updates and its consumers. */
export class Fanout extends Outlet {
  readonly #end: (consumer: RemoteConsumer, reason: EndReason) => void;
  /** By their numbers in the engine. */
  readonly #consumers: (RemoteConsumer | undefined)[] = [];
  readonly #markEncoder = new FrameEncoder();
  readonly #info = new Float64Array(FanoutInfo.size / 8);
  #isClosed = false;

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
    const { policy, transactionPolicy, backlogBytes, poolBytes, slotStatuses } = consumer;
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
    const number = this.native.fanoutAdd(this.handle, consumer.ring, bytes);
    if (number < 0) throw errorFromStatus(number, "Cannot take a consumer in");
    consumer.seat = { fanout: this.handle, number };
    this.#consumers[number] = consumer;
  }

  /**
   * Adds to a consumer's default filter. In force for every update with a greater sequence than the present one.
   * @returns 0, or why it was refused: keys that it names may be gone then (docs/protocol.md).
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
    return status;
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

  // Now and then

  /** A consumer may have made room: what waits for it goes into its ring. */
  flush(consumer: RemoteConsumer): void {
    if (consumer.seat === undefined) return;
    this.note(this.native.fanoutFlush(this.handle, consumer.seat.number));
    this.isCongested = false; // the next publish finds out
  }

  /** What nobody woke us for: once a second. */
  sweep(): void {
    this.note(this.native.fanoutSweep(this.handle));
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

  /** A mark that does not fit is left out: acknowledgements and reasons come over the link as well. */
  #mark(consumer: RemoteConsumer): void {
    const { head, headLength } = this.#markEncoder;
    this.native.fanoutMark(this.handle, consumer.seat!.number, head, headLength);
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
      lost: at(FanoutInfo.lost),
      conflated: at(FanoutInfo.conflated),
      unchanged: at(FanoutInfo.unchanged),
      stale: at(FanoutInfo.stale),
      newestSlot: at(FanoutInfo.newestSlot),
      keys: at(FanoutInfo.accountKeys) + at(FanoutInfo.ownerKeys),
      poolBytes: at(FanoutInfo.poolBytes),
      poolUsedBytes: at(FanoutInfo.poolUsedBytes),
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
  view.setUint32(Layout.poolBytes, options.poolBytes, true);
  view.setUint32(Layout.poolThreshold, options.poolThresholdBytes, true);
  view.setUint32(Layout.trackedMax, options.trackedAccountsMax, true);
  view.setUint32(Layout.guard, GUARDS.indexOf(options.olderVersions), true);
  const handle = native.fanoutCreate(bytes);
  if (handle < 0) throw errorFromStatus(handle, "Cannot make the sender's index and pool");
  return handle;
}

/** A subscribe request as the body of a filter message: adds to the default filter. */
function encodeAddition({ accounts, owners, transactions }: SubscribeRequest): Uint8Array {
  const keys = [...accounts, ...owners];
  const bytes = new Uint8Array(FilterBody.size + 32 * keys.length);
  const view = new DataView(bytes.buffer);
  bytes[FilterBody.op] = FilterOp.add;
  bytes[FilterBody.transactions] = transactions ? 1 : 0;
  bytes[FilterBody.isLast] = 1;
  view.setUint32(FilterBody.accountCount, accounts.length, true);
  view.setUint32(FilterBody.ownerCount, owners.length, true);
  keys.forEach((key, i) => bytes.set(key as Uint8Array, FilterBody.size + 32 * i));
  return bytes;
}
