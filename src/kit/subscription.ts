/**
 * One subscription through kit's interfaces: a plan, what waits for its commitment, and where notifications go.
 * May touch: the feed, its hold. May not touch: the consumer.
 *
 * @module
 */

import type { AccountCopy, AccountView, SlotView, TransactionView } from "../stream/view.ts";
import { overrun } from "./errors.ts";
import type { Feed, FeedListener } from "./feed.ts";
import { Hold } from "./hold.ts";
import type { ResolvedOptions } from "./options.ts";
import type { Plan, Request } from "./plan.ts";
import { type ChainChange, LEVEL } from "./slot_chain.ts";

/** Where notifications go. */
export interface Sink {
  /** @param key Of what the notification is; undefined for what none takes the place of. */
  push(key: unknown, notification: unknown): void;
  fail(error: unknown): void;
  end(): void;
}

const SLOT = "slot";

/** What a transaction's copy keeps besides its bytes is little. */
function sizeOf(update: TransactionView): number {
  return update.message.length + (update.meta?.length ?? 0);
}

/** Listens to the feed on behalf of one sink. */
export class Subscription implements FeedListener {
  readonly #request: Request;
  readonly #plan: Plan;
  readonly #feed: Feed;
  readonly #options: ResolvedOptions;
  readonly #sink: Sink;
  readonly #hold: Hold | undefined;
  #leave: (() => void) | undefined;
  #isOver = false;
  /** Settled once it is over: rejected where the feed is. */
  readonly #over = Promise.withResolvers<void>();

  constructor(feed: Feed, request: Request, plan: Plan, options: ResolvedOptions, sink: Sink) {
    this.#request = request;
    this.#plan = plan;
    this.#feed = feed;
    this.#options = options;
    this.#sink = sink;
    if (plan.level === LEVEL.processed) return;
    this.#hold = new Hold(plan.level, feed.chain, { bytes: options.holdBytes, slots: options.holdSlots });
  }

  /** Resolves when the sender knows, or nobody wants to know any longer. @throws what `Feed.listen` throws, and its end. */
  async open(): Promise<void> {
    const { inForce, leave } = this.#feed.listen(this, this.#plan.interest);
    this.#leave = leave;
    // While there is no sender, what is asked for is not answered.
    await Promise.race([inForce, this.#over.promise]);
  }

  /** Listens no longer. May be called twice. */
  close(): void {
    this.#isOver = true;
    this.#leave?.();
    this.#leave = undefined;
    this.#over.resolve();
  }

  onAccount(update: AccountView): void {
    const { keyOf, ofAccount } = this.#plan;
    if (this.#isOver || keyOf === undefined || ofAccount === undefined) return;
    const key = keyOf(update);
    if (this.#hold === undefined) return this.#push(key, ofAccount(update, key));
    const { slotNumber: slot, bankId } = update;
    const copy: AccountCopy = update.copy();
    this.#keep({ slot, bankId }, key, update.dataLength, () => ofAccount(copy, key));
  }

  onTransaction(update: TransactionView): void {
    const { ofTransaction } = this.#plan;
    if (this.#isOver || ofTransaction === undefined) return;
    if (this.#hold === undefined) return this.#push(undefined, ofTransaction(update));
    const { slotNumber: slot, bankId } = update;
    const copy = update.copy();
    this.#keep({ slot, bankId }, Symbol(), sizeOf(update), () => ofTransaction(copy));
  }

  #keep(bank: { slot: number; bankId: bigint }, key: unknown, bytes: number, make: () => unknown): void {
    const release = () => this.#push(typeof key === "symbol" ? undefined : key, make());
    if (this.#hold!.admit({ bank, key, bytes, release })) return;
    this.#fail(`${this.#options.holdBytes} bytes wait, the latest of slot ${bank.slot}`);
  }

  onChain(change: ChainChange): void {
    this.#hold?.apply(change);
    const overdue = this.#hold?.overdue();
    if (overdue !== undefined) this.#fail(`slot ${overdue} has waited for ${this.#options.holdSlots} slots`);
  }

  #fail(why: string): void {
    if (this.#isOver) return;
    this.close();
    const { methodName } = this.#request;
    this.#sink.fail(overrun("KIT_COMMITMENT_LATE", `Cannot go on with ${methodName} of "${this.#feed.path}" (${why})`));
  }

  onSlot(update: SlotView): void {
    if (this.#isOver) return;
    const notification = this.#plan.ofSlot?.(update, this.#feed.chain.root);
    if (notification !== undefined) this.#push(SLOT, notification);
  }

  onLoss(lost: number): void {
    this.#options.onLoss?.(lost);
  }

  onEnd(error: unknown): void {
    if (this.#isOver) return;
    // Without an error the consumer was closed, and says so to who waits for its answer.
    if (error !== undefined) this.#over.reject(error);
    this.#leave?.();
    this.#leave = undefined;
    this.#isOver = true;
    if (error === undefined) this.#sink.end();
    else this.#sink.fail(error);
  }

  #push(key: unknown, notification: unknown): void {
    if (this.#isOver) return;
    this.#sink.push(key, notification);
    if (!this.#plan.isOnce) return;
    this.close();
    this.#sink.end();
  }
}
