/**
 * The sender's side of one slot of wire version 9: its ring, its token, when its consumer last said something.
 * May touch: the native handle that it owns. May not touch: sockets; they are the peer's.
 *
 * @module
 */

import { EndReason as WireReason } from "../native/abi.generated.ts";
import type { Native } from "../native/native.ts";
import { RemoteConsumer, type RemoteConsumerOptions } from "../stream/remote_consumer.ts";
import type { EndReason, SlotStatus, SlotToken } from "../types.ts";
import type { V9Peer } from "./peer.ts";

/** What is decided about a slot before there is one. */
export interface V9SlotOptions extends RemoteConsumerOptions {
  readonly token: SlotToken;
  /** Who got it. */
  readonly owner: V9Peer;
  readonly slotStatuses: ReadonlySet<SlotStatus>;
  /** Other connections may use its token: the end of its owner's is not its consumer's. */
  readonly isShared: boolean;
  /** It answers a request that named another slot: such a consumer may never learn of this one. */
  readonly isUnclaimed: boolean;
  /** Now, by the idle clock. */
  readonly seenAt: number;
}

/** One slot. */
export class V9Slot extends RemoteConsumer {
  readonly protocol = "v9";
  readonly takesMarks = false;
  override readonly slotStatuses: ReadonlySet<SlotStatus>;
  readonly token: SlotToken;
  readonly owner: V9Peer;
  /** When its consumer last said something, by the idle clock. */
  seenAt: number;
  /** Its consumer was told of it. */
  isGranted = false;

  readonly #onClosed: (slot: V9Slot) => void;
  readonly #isShared: boolean;
  #isUnclaimed: boolean;
  #isFinished = false;

  /** @param onClosed Its place is free. */
  constructor(native: Native, options: V9SlotOptions, onClosed: (slot: V9Slot) => void) {
    super(native, options);
    this.token = options.token;
    this.owner = options.owner;
    this.slotStatuses = options.slotStatuses;
    this.seenAt = options.seenAt;
    this.#isShared = options.isShared;
    this.#isUnclaimed = options.isUnclaimed;
    this.#onClosed = onClosed;
  }

  /** Its consumer said something. */
  touch(now: number): void {
    this.seenAt = now;
    this.#isUnclaimed = false;
  }

  /** Whether it came as an answer to a token that was not live, and nobody has named or read it since. */
  get isOrphan(): boolean {
    if (!this.#isUnclaimed) return false;
    this.refresh();
    return this.releasedBytes === 0;
  }

  /** Writes the ring's sentinel, if it fits, and wakes the consumer: nothing follows. */
  finish(): void {
    if (this.isEnded || this.#isFinished) return;
    this.#isFinished = true;
    this.native.ringEnd(this.ring, WireReason.none);
  }

  /**
   * The sentinel, then the vanished path; both wake the consumer. The socket stays open: if it is closed already there is no
   * sentinel any more, since to a consumer of ours the two together are a sender that was closed in order.
   */
  close(_reason: EndReason): void {
    if (this.isEnded) return;
    this.refresh();
    if (!this.owner.isClosed || this.#isShared) this.finish();
    this.isEnded = true;
    this.native.close(this.ring);
    this.#onClosed(this);
  }
}
