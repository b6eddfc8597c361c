/**
 * One thread's way into a fan-out: encodes updates and hands them to the native engine, which gives them their one order,
 * finds who wants them and copies each into the rings of all that match (zig/engine.zig, docs/ARCHITECTURE.md).
 * May touch: the engine's handle. May not touch: consumers; fanout.ts does, on the sender's thread.
 * Threads take turns natively, for the time of one call (design D10), so each may have an outlet of its own.
 *
 * @module
 */

import { FANOUT_EVENT_FLAG, Status } from "../native/abi.generated.ts";
import type { Native } from "../native/native.ts";
import { errorFromStatus, QlasterError } from "../errors.ts";
import type { AccountUpdate, SlotUpdate, TransactionUpdate } from "../types.ts";
import { FrameEncoder } from "../wire/encoder.ts";
import type { SenderTimings } from "./timings.ts";

/** What a publish returns when a consumer with the policy "block" has no room: nobody got the update. */
export const CONGESTED = -1;

const NO_COUNTS = { accountsPublished: 0, transactionsPublished: 0, accountsLost: 0, transactionsLost: 0 };

/** Outside a batch each update is committed by itself. */
export abstract class Outlet {
  /** The engine's handle. */
  readonly handle: number;
  /** Whether the last publish was refused for want of room, and nobody has made any since. */
  isCongested = false;

  protected readonly native: Native;
  readonly #timings: SenderTimings | undefined;
  readonly #encoder = new FrameEncoder();
  #isBatchOpen = false;

  /** @param timings Where to record how long things take, if anybody wants to know. */
  constructor(native: Native, handle: number, timings?: SenderTimings) {
    this.native = native;
    this.handle = handle;
    this.#timings = timings;
  }

  /** The engine has given consumers up, and somebody has to end them. */
  protected abstract onEvents(): void;

  /** Opens a batch: its updates share a time stamp and stay unseen until `commit`. */
  openBatch(): void {
    this.#isBatchOpen = true;
  }

  /** Makes what was published in the batch visible, and wakes who sleeps. */
  commit(): void {
    this.#isBatchOpen = false;
    const result = this.native.fanoutCommit(this.handle);
    if (result >= 0) this.note(result); // else it was closed, which committed
  }

  publishAccount(update: Omit<AccountUpdate, "kind">): number {
    this.#encoder.account(update);
    return this.#publish();
  }

  publishTransaction(update: Omit<TransactionUpdate, "kind">): number {
    this.#encoder.transaction(update);
    return this.#publish();
  }

  publishSlot(update: Omit<SlotUpdate, "kind">): number {
    this.#encoder.slot(update, NO_COUNTS); // the engine fills them in
    return this.#publish();
  }

  #publish(): number {
    const { head, headLength, tail } = this.#encoder;
    const startedUs = this.#timings === undefined ? 0 : this.native.clockUs();
    const isBatch = this.#isBatchOpen ? 1 : 0;
    const result = this.native.fanoutPublish(this.handle, head, headLength, tail, tail.length, isBatch);
    if (result < 0) {
      if (result === Status.badHandle) throw new QlasterError("SENDER_CLOSED", "Cannot publish an update");
      if (result !== Status.wouldBlock) throw errorFromStatus(result, "Cannot publish an update");
      this.isCongested = true;
      return CONGESTED;
    }
    const reached = this.note(result);
    if (this.#timings !== undefined) {
      const us = this.native.clockUs() - startedUs;
      this.#timings.recordSends(us, reached);
      this.#timings.dispatch.record(us);
    }
    return reached;
  }

  /** Takes the flag for events out of a result, and has the events looked at if there are any. */
  protected note(result: number): number {
    if ((result & FANOUT_EVENT_FLAG) === 0) return result;
    this.onEvents();
    return result & ~FANOUT_EVENT_FLAG;
  }
}
