/**
 * The fan-out: gives updates their one order, finds who wants them, copies each into the rings of all that match.
 * May touch: rings of its consumers through the native library; the filter index. May not touch: links, sockets.
 * What happens when a ring refuses a frame is decided here; ending the consumer is the sender's.
 *
 * @module
 */

import {
  AccountBody,
  type EndReason as WireReason,
  FrameHeader,
  OfferTarget,
  Status,
  V9_SLOT_NONE,
} from "../native/abi.generated.ts";
import type { Native } from "../native/native.ts";
import { errorFromStatus } from "../errors.ts";
import type { AccountUpdate, EndReason, SlotUpdate, TransactionUpdate, Update } from "../types.ts";
import { FrameEncoder } from "../wire/encoder.ts";
import type { SubscribeRequest } from "../wire/messages.ts";
import { KeyIndex } from "./filter.ts";
import type { RemoteConsumer } from "./remote_consumer.ts";
import { SlotCounter } from "./slot_counter.ts";
import type { SenderTimings } from "./timings.ts";

/** Most native consumers at a time. */
export const CONNECTIONS_MAX = 1024;
/** Most consumers of all kinds. */
const CONSUMERS_MAX = CONNECTIONS_MAX + V9_SLOT_NONE;
const TARGET_WORDS = OfferTarget.size / 4;
const PUBKEY_WORD = (FrameHeader.size + AccountBody.pubkey) / 4;
const OWNER_WORD = (FrameHeader.size + AccountBody.owner) / 4;

/** One sender's order of updates and its consumers. */
export class Fanout {
  /** Sequence of the newest update; 0 before the first. */
  sequence = 0;
  accounts = 0;
  transactions = 0;
  slots = 0;
  /** Frames handed to rings: one per update and matching consumer. */
  deliveries = 0;
  /** Matching updates that a consumer did not get. */
  lost = 0;

  readonly #native: Native;
  readonly #end: (consumer: RemoteConsumer, reason: EndReason) => void;
  readonly #timings: SenderTimings | undefined;
  readonly #consumers = new Set<RemoteConsumer>();
  readonly #accountIndex = new KeyIndex<RemoteConsumer>();
  readonly #ownerIndex = new KeyIndex<RemoteConsumer>();
  readonly #transactionConsumers = new Set<RemoteConsumer>();
  readonly #slotCounter = new SlotCounter();

  readonly #encoder = new FrameEncoder();
  readonly #markEncoder = new FrameEncoder();
  readonly #markTarget = new Uint32Array(TARGET_WORDS);
  /** The consumers that the present update goes to, and the same as the native library wants them. */
  readonly #matched: RemoteConsumer[] = [];
  readonly #targets = new Uint32Array(TARGET_WORDS * CONSUMERS_MAX);
  readonly #statuses = new Int32Array(this.#targets.buffer);
  /** Consumers with frames that are not committed yet. */
  readonly #dirty: RemoteConsumer[] = [];
  #isBatchOpen = false;
  /** When the present update's dispatch began. */
  #dispatchUs = 0;

  /**
   * @param end Ends a consumer: its ring is full, or it wrote a cursor that can't be.
   * @param timings Where to record how long things take, if anybody wants to know.
   */
  constructor(
    native: Native,
    end: (consumer: RemoteConsumer, reason: EndReason) => void,
    timings: SenderTimings | undefined,
  ) {
    this.#native = native;
    this.#end = end;
    this.#timings = timings;
  }

  // Who wants what

  add(consumer: RemoteConsumer): void {
    this.#consumers.add(consumer);
  }

  /** Adds to a consumer's filter. In force for every update with a greater sequence than the present one. */
  subscribe(consumer: RemoteConsumer, request: SubscribeRequest): void {
    for (const key of request.accounts) if (this.#accountIndex.add(key, consumer)) consumer.accounts++;
    for (const key of request.owners) if (this.#ownerIndex.add(key, consumer)) consumer.owners++;
    if (request.transactions) {
      consumer.transactions = true;
      this.#transactionConsumers.add(consumer);
    }
    consumer.generation++;
  }

  /** Forgets a consumer that has ended. */
  remove(consumer: RemoteConsumer): void {
    if (consumer.accounts > 0) this.#accountIndex.remove(consumer);
    if (consumer.owners > 0) this.#ownerIndex.remove(consumer);
    this.#transactionConsumers.delete(consumer);
    this.#consumers.delete(consumer);
    const dirtyAt = this.#dirty.indexOf(consumer);
    if (dirtyAt >= 0) this.#dirty.splice(dirtyAt, 1);
  }

  /** Keys in the index, those of all consumers. */
  get keys(): number {
    return this.#accountIndex.size + this.#ownerIndex.size;
  }

  // Publishing. Outside a batch each update is committed by itself.

  /** Opens a batch: its updates share a time stamp and stay unseen until `commit`. */
  openBatch(): void {
    if (this.#isBatchOpen) return;
    this.#isBatchOpen = true;
    this.#encoder.startBatch();
  }

  get isBatchOpen(): boolean {
    return this.#isBatchOpen;
  }

  /** Makes what was published in the batch visible, and wakes who sleeps. */
  commit(): void {
    this.#isBatchOpen = false;
    const dirty = this.#dirty;
    if (dirty.length === 0) return;
    for (let i = 0; i < dirty.length; i++) {
      dirty[i]!.isDirty = false;
      this.#targets[i * TARGET_WORDS] = dirty[i]!.ring;
    }
    this.#native.ringCommit(this.#targets, dirty.length);
    dirty.length = 0;
  }

  publishAccount(update: Omit<AccountUpdate, "kind">): number {
    this.#startDispatch();
    this.#encoder.account(update, this.sequence + 1);
    this.sequence++;
    this.accounts++;
    const slot = Number(update.slot);
    this.#slotCounter.countAccount(slot);
    this.#matched.length = 0;
    const words = this.#encoder.headWords;
    if (this.#accountIndex.size > 0) this.#match(this.#accountIndex.get(words, PUBKEY_WORD));
    if (this.#ownerIndex.size > 0) this.#match(this.#ownerIndex.get(words, OWNER_WORD));
    return this.#endDispatch(this.#deliver("account", slot));
  }

  publishTransaction(update: Omit<TransactionUpdate, "kind">): number {
    this.#startDispatch();
    this.#encoder.transaction(update, this.sequence + 1);
    this.sequence++;
    this.transactions++;
    const slot = Number(update.slot);
    this.#slotCounter.countTransaction(slot);
    this.#matched.length = 0;
    this.#match(this.#transactionConsumers);
    return this.#endDispatch(this.#deliver("transaction", slot));
  }

  publishSlot(update: Omit<SlotUpdate, "kind">): number {
    this.#startDispatch();
    const slot = Number(update.slot);
    this.#encoder.slot(update, this.sequence + 1, this.#slotCounter.countsOf(slot));
    this.sequence++;
    this.slots++;
    // Those with losses of this slot get a frame of their own; it takes its place in the order all the same.
    const withLosses: RemoteConsumer[] = [];
    this.#matched.length = 0;
    for (const consumer of this.#consumers) {
      if (consumer.slotStatuses !== undefined && !consumer.slotStatuses.has(update.status)) continue;
      if (consumer.lossesOf(slot) === undefined) this.#addTarget(consumer);
      else withLosses.push(consumer);
    }
    let reached = this.#deliver("slot", slot);
    for (const consumer of withLosses) {
      const losses = consumer.lossesOf(slot)!;
      this.#encoder.slotLosses(losses.accounts, losses.transactions);
      this.#matched.length = 0;
      this.#addTarget(consumer);
      reached += this.#deliver("slot", slot);
    }
    return this.#endDispatch(reached);
  }

  /** Before an update is encoded: outside a batch it gets a time stamp of its own. */
  #startDispatch(): void {
    if (!this.#isBatchOpen) this.#encoder.startBatch();
    if (this.#timings !== undefined) this.#dispatchUs = this.#native.clockUs();
  }

  /** After an update is in all rings that it could get into. */
  #endDispatch(reached: number): number {
    if (this.#timings !== undefined) this.#timings.dispatch.record(this.#native.clockUs() - this.#dispatchUs);
    return reached;
  }

  /** The producer's last words to one consumer, if it takes such: a frame behind all others. */
  sayGoodbye(consumer: RemoteConsumer, wireReason: (typeof WireReason)[keyof typeof WireReason]): void {
    if (!consumer.takesMarks) return;
    this.#markEncoder.startBatch();
    this.#markEncoder.goodbye(this.sequence, wireReason);
    this.#offerMark(consumer);
  }

  /** Adds consumers to the targets of the present update, each once. */
  #match(consumers: Iterable<RemoteConsumer> | undefined): void {
    if (consumers === undefined) return;
    for (const consumer of consumers) {
      if (consumer.matchedSequence === this.sequence) continue;
      consumer.matchedSequence = this.sequence;
      this.#addTarget(consumer);
    }
  }

  #addTarget(consumer: RemoteConsumer): void {
    this.#targets[this.#matched.length * TARGET_WORDS] = consumer.ring;
    this.#matched.push(consumer);
  }

  /** Copies the encoded frame into the ring of each matched consumer, and commits unless a batch is open. */
  #deliver(kind: Update["kind"], slot: number): number {
    const count = this.#matched.length;
    if (count === 0) return 0;
    const { head, headLength, tail } = this.#encoder;
    const commit = this.#isBatchOpen ? 0 : 1;
    let taken = this.#native.ringOffer(head, headLength, tail, tail.length, this.#targets, count, commit);
    if (taken < 0) throw errorFromStatus(taken, "Cannot hand a frame to its rings");
    if (this.#timings !== undefined) this.#timings.recordSends(this.#native.clockUs() - this.#dispatchUs, taken);
    const refused = taken < count ? this.#refused() : [];
    for (let i = 0; i < count; i++) {
      const consumer = this.#matched[i]!;
      if (this.#statuses[i * TARGET_WORDS + 1]! === 0) consumer.frames++;
      if (commit === 0 && !consumer.isDirty) {
        consumer.isDirty = true;
        this.#dirty.push(consumer);
      }
    }
    for (const [consumer, status] of refused) {
      if (this.#onRefused(consumer, status, kind, slot)) taken++;
    }
    this.deliveries += taken;
    return taken;
  }

  /** The targets that did not take the frame. Collected first: ending a consumer offers marks, which need the targets. */
  #refused(): [RemoteConsumer, number][] {
    const refused: [RemoteConsumer, number][] = [];
    this.#matched.forEach((consumer, i) => {
      const status = this.#statuses[i * TARGET_WORDS + 1]!;
      if (status < 0) refused.push([consumer, status]);
    });
    return refused;
  }

  /** Returns whether the frame got in at a second try. */
  #onRefused(consumer: RemoteConsumer, status: number, kind: Update["kind"], slot: number): boolean {
    switch (status) {
      case Status.tooLarge:
        this.#countLoss(consumer, kind, slot);
        // It can never fit this ring: a loss, which a gap frame reports at once, and not an eviction.
        this.reportGap(consumer);
        return false;
      case Status.full:
        // Frames of an open batch are room that the consumer can't give back: show them, look again.
        if (this.#isBatchOpen && this.#offerAgain(consumer)) {
          consumer.frames++;
          return true;
        }
        this.#countLoss(consumer, kind, slot);
        this.#end(consumer, "slow-consumer");
        return false;
      default:
        this.#end(consumer, "peer-corrupt");
        return false;
    }
  }

  /** Tells a consumer of its losses, if it takes that, now or when there is room: `consumer.isGapDue` says which. */
  reportGap(consumer: RemoteConsumer): void {
    if (!consumer.takesMarks) return;
    this.#markEncoder.startBatch();
    this.#markEncoder.gap(this.sequence, consumer.lost);
    consumer.isGapDue = !this.#offerMark(consumer);
  }

  #countLoss(consumer: RemoteConsumer, kind: Update["kind"], slot: number): void {
    consumer.countLoss(kind, slot);
    this.lost++;
  }

  #offerAgain(consumer: RemoteConsumer): boolean {
    this.#markTarget[0] = consumer.ring;
    this.#native.ringCommit(this.#markTarget, 1);
    const { head, headLength, tail } = this.#encoder;
    return this.#native.ringOffer(head, headLength, tail, tail.length, this.#markTarget, 1, 0) === 1;
  }

  #offerMark(consumer: RemoteConsumer): boolean {
    const { head, headLength, tail } = this.#markEncoder;
    this.#markTarget[0] = consumer.ring;
    return this.#native.ringOffer(head, headLength, tail, tail.length, this.#markTarget, 1, 1) === 1;
  }
}
