/**
 * A consumer as its sender sees it, whatever it speaks: one ring, what was asked for, what was delivered and lost.
 * May touch: its ring, to ask how far it has been read. May not touch: sockets, the index; subclasses own the former, the
 * fan-out the latter.
 * What is counted per update is counted by the native engine, where the consumer has a seat.
 *
 * @module
 */

import { FanoutConsumerInfo, RingInfo } from "../native/abi.generated.ts";
import type { Native } from "../native/native.ts";
import type { ConsumerInfo, EndReason, OverflowPolicy, SlotStatus } from "../types.ts";
import type { LinkPeer } from "./link.ts";
import { lossesOf, totalOf } from "./losses.ts";

/** What does not change from the first frame to the last. */
export interface RemoteConsumerOptions {
  readonly id: number;
  readonly name: string;
  readonly peer: LinkPeer;
  /** Handle of the producer's end. */
  readonly ring: number;
  readonly capacityBytes: number;
  /** All shared memory that it takes. */
  readonly memoryBytes: number;
}

/** Base of all kinds of consumers. */
export abstract class RemoteConsumer {
  readonly id: number;
  readonly name: string;
  readonly peer: LinkPeer;
  readonly ring: number;
  readonly capacityBytes: number;
  readonly memoryBytes: number;
  readonly connectedAt: number = Date.now();

  /** Counts the edits of its filters. */
  generation = 0;
  isEnded = false;
  /** Where the native engine has it, while it takes part. */
  seat: { readonly fanout: number; readonly number: number } | undefined;

  abstract readonly protocol: ConsumerInfo["protocol"];
  /** Whether it takes frames that are no updates: gap, goodbye. */
  abstract readonly takesMarks: boolean;
  /** The statuses of slots that it is told of; undefined for all. */
  readonly slotStatuses: ReadonlySet<SlotStatus> | undefined = undefined;
  /** What happens when its ring is full. */
  readonly policy: OverflowPolicy = "disconnect";
  readonly transactionPolicy: OverflowPolicy = "disconnect";
  /** It goes on behind this sequence, once it says so; undefined: it is new. */
  readonly resumeAfter: bigint | undefined = undefined;
  /** Most bytes that may wait for it at the sender. */
  readonly backlogBytes: number = 0;
  /** Most bytes of the pool that frames in its ring may hold. */
  readonly poolBytes: number = 0;

  protected readonly native: Native;
  readonly #info = new Float64Array(RingInfo.size / 8);
  readonly #counts = new Float64Array(FanoutConsumerInfo.size / 8);

  constructor(native: Native, options: RemoteConsumerOptions) {
    this.native = native;
    this.id = options.id;
    this.name = options.name;
    this.peer = options.peer;
    this.ring = options.ring;
    this.capacityBytes = options.capacityBytes;
    this.memoryBytes = options.memoryBytes;
  }

  /** Asks the engine what it has counted, as long as it knows. */
  noteCounts(): void {
    if (this.seat !== undefined) this.native.fanoutConsumerInfo(this.seat.fanout, this.seat.number, this.#counts);
  }

  /** Whether the sender waits for room in its ring. */
  get isAwaited(): boolean {
    this.noteCounts();
    return this.#counts[FanoutConsumerInfo.isAwaited / 8]! === 1;
  }

  /** Whether it may stop everybody. */
  get mayBlock(): boolean {
    return this.policy === "block" || this.transactionPolicy === "block";
  }

  /** Frames that it had been given when its counts were looked at last, by `isAwaited` or `info`. */
  get frames(): number {
    return this.#counts[FanoutConsumerInfo.frames / 8]!;
  }

  /** Looks for what nobody woke us for. */
  drain(): void {}

  /** False once the consumer has written a cursor that can't be. */
  refresh(): boolean {
    return this.native.ringInfo(this.ring, this.#info) >= 0;
  }

  /** Bytes that the consumer had given back when it was last looked at, by `refresh` or `info`. */
  get releasedBytes(): number {
    return this.#info[RingInfo.consumerCursor / 8]!;
  }

  info(): ConsumerInfo {
    if (!this.isEnded) this.refresh();
    this.noteCounts();
    const counted = (offset: number) => this.#counts[offset / 8]!;
    const losses = lossesOf((reason) => counted(FanoutConsumerInfo.lostBy + 8 * reason));
    const usedBytes = this.#info[RingInfo.producerCursor / 8]! - this.releasedBytes;
    const oldestUs = counted(FanoutConsumerInfo.oldestUs);
    return {
      id: this.id,
      name: this.name,
      protocol: this.protocol,
      pid: this.peer.pid,
      uid: this.peer.uid,
      connectedAt: this.connectedAt,
      accounts: counted(FanoutConsumerInfo.accountKeys),
      owners: counted(FanoutConsumerInfo.ownerKeys),
      transactions: counted(FanoutConsumerInfo.takesTransactions) === 1,
      policy: this.policy,
      ring: { capacityBytes: this.capacityBytes, usedBytes },
      waiting: {
        frames: counted(FanoutConsumerInfo.waitingFrames),
        bytes: counted(FanoutConsumerInfo.waitingBytes),
      },
      lag: {
        bytes: usedBytes,
        frames: counted(FanoutConsumerInfo.unreadFrames),
        ageUs: oldestUs === 0 ? 0 : Math.max(0, this.native.clockUs() - oldestUs),
      },
      poolBytes: counted(FanoutConsumerInfo.poolBytes),
      frames: this.frames,
      lost: totalOf(losses),
      conflated: losses.replaced,
      losses,
      parked: this.#info[RingInfo.parked / 8]! === 1,
    };
  }

  /** The last words to the consumer, if it may still listen; then everything of it is closed. May be called twice. */
  abstract close(reason: EndReason): void;

  /** Keeps the process alive, or does not, as far as it has something of its own that could. */
  ref(): void {}
  unref(): void {}
}
