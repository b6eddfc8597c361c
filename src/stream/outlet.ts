/**
 * One thread's way into a fan-out: encodes updates and hands them to the native engine, which gives them their one order,
 * finds who wants them and copies each into the rings of all that match (zig/engine.zig, docs/ARCHITECTURE.md).
 * May touch: the engine's handle. May not touch: consumers; fanout.ts does, on the sender's thread.
 * Threads take turns natively, for the time of one call (design D10), so each may have an outlet of its own.
 *
 * @module
 */

import { FANOUT_EVENT_FLAG, FANOUT_WORK_FLAG, Status } from "../native/abi.generated.ts";
import type { Native } from "../native/native.ts";
import { errorFromStatus, QlasterError } from "../errors.ts";
import type { AccountUpdate, SlotUpdate, TransactionUpdate, Update } from "../types.ts";
import { Batch } from "../wire/batch.ts";
import { FrameEncoder } from "../wire/encoder.ts";
import type { SenderTimings } from "./timings.ts";

/** What a publish returns when a consumer with the policy "block" has no room: nobody got the update. */
export const CONGESTED = -1;

const NO_COUNTS = { accountsPublished: 0, transactionsPublished: 0, accountsLost: 0, transactionsLost: 0 };

/** What became of staged updates. */
export interface Tally {
  /** Updates that the engine has taken. */
  published: number;
  /** Their deliveries. */
  reached: number;
}

/**
 * Updates go out one by one, or are staged: encoded into a batch, which one call publishes, and unseen until a commit. What
 * is published by itself goes behind what was staged before.
 */
export abstract class Outlet {
  /** The engine's handle. */
  readonly handle: number;
  /** Whether the last publish was refused for want of room, and nobody has made any since. */
  isCongested = false;
  /** Counts what is staged. Whoever wants figures of its own puts one in its place for as long. */
  tally: Tally = { published: 0, reached: 0 };

  protected readonly native: Native;
  readonly #timings: SenderTimings | undefined;
  readonly #encoder = new FrameEncoder();
  /** Made when it is needed: not every sender publishes batches. */
  #batch: Batch | undefined;
  /** Something is staged, here or in the engine. */
  #isBatchOpen = false;

  /** @param timings Where to record how long things take, if anybody wants to know. */
  constructor(native: Native, handle: number, timings?: SenderTimings) {
    this.native = native;
    this.handle = handle;
    this.#timings = timings;
  }

  /** Nobody got an update, for want of room. */
  protected onRefused(): void {
    this.isCongested = true;
  }

  /** The engine has given consumers up, and somebody has to end them. */
  protected abstract onEvents(): void;

  /** Snapshots wait for nothing but time, and somebody has to give them some. */
  protected abstract onWork(): void;

  publishAccount(update: Omit<AccountUpdate, "kind">): number {
    if (!this.publishStaged()) return CONGESTED;
    this.#encoder.account(update);
    return this.#publish(this.#encoder);
  }

  publishTransaction(update: Omit<TransactionUpdate, "kind">): number {
    if (!this.publishStaged()) return CONGESTED;
    this.#encoder.transaction(update);
    return this.#publish(this.#encoder);
  }

  publishSlot(update: Omit<SlotUpdate, "kind">): number {
    if (!this.publishStaged()) return CONGESTED;
    this.#encoder.slot(update, NO_COUNTS); // the engine fills them in
    return this.#publish(this.#encoder);
  }

  // Batches

  /**
   * Takes an update into the open batch: what is staged shares time stamps and stays unseen until `commit`.
   * @returns False if there is no room for what was staged before, or for this one: then it was not taken.
   */
  stage(update: Update): boolean {
    const batch = this.#batch ??= new Batch();
    if (batch.isFull && !this.publishStaged()) return false;
    encode(batch.encoder, update);
    this.#isBatchOpen = true;
    // Where everybody's time is measured, each update has its own.
    if (this.#timings === undefined && batch.add()) return true;
    // A large payload is not copied twice.
    const { at } = batch.encoder;
    if (!this.publishStaged()) return false;
    const reached = this.#publish(batch.encoder, at);
    if (reached === CONGESTED) return false;
    this.tally.published++;
    this.tally.reached += reached;
    return true;
  }

  /**
   * Hands what is staged to the engine.
   * @returns False if there is no room for all of it: what is left stays staged.
   * @throws {QlasterError} `SENDER_CLOSED`; then nothing is staged any more.
   */
  publishStaged(isLast = false): boolean {
    const batch = this.#batch;
    if (batch === undefined || batch.count === 0) return true;
    const result = this.native.fanoutPublishMany(this.handle, batch.bytes, batch.length, isLast ? 1 : 0);
    if (result < 0 && result !== Status.wouldBlock) {
      batch.clear();
      throw failure(result);
    }
    this.tally.published += batch.takeDone();
    if (result < 0) {
      this.onRefused();
      this.onEvents(); // of those that were published
      return false;
    }
    this.tally.reached += this.note(result);
    return true;
  }

  /** Forgets what is staged and not published. */
  dropStaged(): void {
    this.#batch?.clear();
  }

  /**
   * Makes what was staged visible, and wakes who sleeps.
   * @returns False if there is no room for all of it: what is left stays staged.
   */
  commit(): boolean {
    if (this.#batch !== undefined && this.#batch.count > 0) {
      const isDone = this.publishStaged(true);
      if (isDone) this.#isBatchOpen = false;
      return isDone;
    }
    this.#isBatchOpen = false;
    const result = this.native.fanoutCommit(this.handle);
    if (result >= 0) this.note(result); // else it was closed, which committed
    return true;
  }

  /** @param at Where its head is. */
  #publish({ head, headLength, tail }: FrameEncoder, at = 0): number {
    const startedUs = this.#timings === undefined ? 0 : this.native.clockUs();
    const isBatch = this.#isBatchOpen ? 1 : 0;
    const place = at === 0 ? head : head.subarray(at);
    const result = this.native.fanoutPublish(this.handle, place, headLength, tail, tail.length, isBatch);
    if (result < 0) {
      if (result !== Status.wouldBlock) throw failure(result);
      this.onRefused();
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

  /** Takes the flags out of a result, and has looked after what they tell of. */
  protected note(result: number): number {
    if (result < FANOUT_WORK_FLAG) return result;
    if ((result & FANOUT_EVENT_FLAG) !== 0) this.onEvents();
    if ((result & FANOUT_WORK_FLAG) !== 0) this.onWork();
    return result & ~(FANOUT_EVENT_FLAG | FANOUT_WORK_FLAG);
  }
}

function encode(encoder: FrameEncoder, update: Update): void {
  switch (update.kind) {
    case "account":
      return encoder.account(update);
    case "transaction":
      return encoder.transaction(update);
    case "slot":
      return encoder.slot(update, NO_COUNTS); // the engine fills them in
    default:
      throw new TypeError(`kind must be account, transaction or slot, not ${(update as { kind: unknown }).kind}`);
  }
}

function failure(status: number): Error {
  const text = "Cannot publish an update";
  return status === Status.badHandle ? new QlasterError("SENDER_CLOSED", text) : errorFromStatus(status, text);
}
