/**
 * A consumer as its sender sees it, whatever it speaks: one ring, what was asked for, what was delivered and lost.
 * May touch: its ring, to ask how far it has been read. May not touch: sockets, the index; subclasses own the former, the
 * fan-out the latter.
 * Why a class: the fan-out reads these fields for each update, and they lie at the same places for all kinds.
 *
 * @module
 */

import { RingInfo } from "../native/abi.generated.ts";
import type { Native } from "../native/native.ts";
import type { ConsumerInfo, EndReason, SlotStatus } from "../types.ts";
import type { LinkPeer } from "./link.ts";
import type { Counts } from "./slot_counter.ts";

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

  /** Account keys and owner keys in this consumer's filter. */
  accounts = 0;
  owners = 0;
  transactions = false;
  /** Counts the edits of the filter. */
  generation = 0;
  /** Frames handed to the ring. */
  frames = 0;
  lost = 0;
  /** The last update that matched, so that key and owner together count once. */
  matchedSequence = 0;
  /** Holds frames that are not committed yet. */
  isDirty = false;
  /** A gap frame did not fit: it is tried again when there may be room. */
  isGapDue = false;
  isEnded = false;

  abstract readonly protocol: ConsumerInfo["protocol"];
  /** Whether it takes frames that are no updates: gap, goodbye. */
  abstract readonly takesMarks: boolean;
  /** The statuses of slots that it is told of; undefined for all. */
  readonly slotStatuses: ReadonlySet<SlotStatus> | undefined = undefined;

  protected readonly native: Native;
  readonly #info = new Float64Array(RingInfo.size / 8);

  constructor(native: Native, options: RemoteConsumerOptions) {
    this.native = native;
    this.id = options.id;
    this.name = options.name;
    this.peer = options.peer;
    this.ring = options.ring;
    this.capacityBytes = options.capacityBytes;
    this.memoryBytes = options.memoryBytes;
  }

  /** Counts a matching update that can't be delivered. */
  countLoss(_kind: "account" | "transaction" | "slot", _slot: number): void {
    this.lost++;
  }

  /** What it lost of a slot, as far as its frames can say so; undefined for nothing. */
  lossesOf(_slot: number): Readonly<Counts> | undefined {
    return undefined;
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
    return {
      id: this.id,
      name: this.name,
      protocol: this.protocol,
      pid: this.peer.pid,
      uid: this.peer.uid,
      connectedAt: this.connectedAt,
      accounts: this.accounts,
      owners: this.owners,
      transactions: this.transactions,
      ring: {
        capacityBytes: this.capacityBytes,
        usedBytes: this.#info[RingInfo.producerCursor / 8]! - this.releasedBytes,
      },
      frames: this.frames,
      lost: this.lost,
      parked: this.#info[RingInfo.parked / 8]! === 1,
    };
  }

  /** The last words to the consumer, if it may still listen; then everything of it is closed. May be called twice. */
  abstract close(reason: EndReason): void;

  /** Keeps the process alive, or does not, as far as it has something of its own that could. */
  ref(): void {}
  unref(): void {}
}
