/**
 * The fan-out: gives updates their one order, finds who wants them, copies each into the rings of all that match.
 * May touch: rings of its connections through the native library; the filter index. May not touch: links, sockets.
 * What happens when a ring refuses a frame is decided here; ending the connection is the sender's.
 *
 * @module
 */

import {
  AccountBody,
  type EndReason as WireReason,
  FrameHeader,
  OfferTarget,
  Status,
} from "../native/abi.generated.ts";
import type { Native } from "../native/native.ts";
import { errorFromStatus } from "../errors.ts";
import type { AccountUpdate, EndReason, SlotUpdate, TransactionUpdate, Update } from "../types.ts";
import { FrameEncoder } from "../wire/encoder.ts";
import type { SubscribeRequest } from "../wire/messages.ts";
import type { Connection } from "./connection.ts";
import { KeyIndex } from "./filter.ts";
import { SlotCounter } from "./slot_counter.ts";

/** Most connections at a time. */
export const CONNECTIONS_MAX = 1024;
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
  /** Matching updates that a connection did not get. */
  lost = 0;

  readonly #native: Native;
  readonly #end: (connection: Connection, reason: EndReason) => void;
  readonly #connections = new Set<Connection>();
  readonly #accountIndex = new KeyIndex<Connection>();
  readonly #ownerIndex = new KeyIndex<Connection>();
  readonly #transactionConsumers = new Set<Connection>();
  readonly #slotCounter = new SlotCounter();

  readonly #encoder = new FrameEncoder();
  readonly #markEncoder = new FrameEncoder();
  readonly #markTarget = new Uint32Array(TARGET_WORDS);
  /** The connections that the present update goes to, and the same as the native library wants them. */
  readonly #matched: Connection[] = [];
  readonly #targets = new Uint32Array(TARGET_WORDS * CONNECTIONS_MAX);
  readonly #statuses = new Int32Array(this.#targets.buffer);
  /** Connections with frames that are not committed yet. */
  readonly #dirty: Connection[] = [];
  #isBatchOpen = false;

  /** @param end Ends a connection: its ring is full, or it wrote a cursor that can't be. */
  constructor(native: Native, end: (connection: Connection, reason: EndReason) => void) {
    this.#native = native;
    this.#end = end;
  }

  // Who wants what

  add(connection: Connection): void {
    this.#connections.add(connection);
  }

  /** Adds to a connection's filter. In force for every update with a greater sequence than the present one. */
  subscribe(connection: Connection, request: SubscribeRequest): void {
    for (const key of request.accounts) if (this.#accountIndex.add(key, connection)) connection.accounts++;
    for (const key of request.owners) if (this.#ownerIndex.add(key, connection)) connection.owners++;
    if (request.transactions) {
      connection.transactions = true;
      this.#transactionConsumers.add(connection);
    }
    connection.generation++;
  }

  /** Forgets a connection that has ended. */
  remove(connection: Connection): void {
    if (connection.accounts > 0) this.#accountIndex.remove(connection);
    if (connection.owners > 0) this.#ownerIndex.remove(connection);
    this.#transactionConsumers.delete(connection);
    this.#connections.delete(connection);
    const dirtyAt = this.#dirty.indexOf(connection);
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
    if (!this.#isBatchOpen) this.#encoder.startBatch();
    this.#encoder.account(update, this.sequence + 1);
    this.sequence++;
    this.accounts++;
    const slot = Number(update.slot);
    this.#slotCounter.countAccount(slot);
    this.#matched.length = 0;
    const words = this.#encoder.headWords;
    if (this.#accountIndex.size > 0) this.#match(this.#accountIndex.get(words, PUBKEY_WORD));
    if (this.#ownerIndex.size > 0) this.#match(this.#ownerIndex.get(words, OWNER_WORD));
    return this.#deliver("account", slot);
  }

  publishTransaction(update: Omit<TransactionUpdate, "kind">): number {
    if (!this.#isBatchOpen) this.#encoder.startBatch();
    this.#encoder.transaction(update, this.sequence + 1);
    this.sequence++;
    this.transactions++;
    const slot = Number(update.slot);
    this.#slotCounter.countTransaction(slot);
    this.#matched.length = 0;
    this.#match(this.#transactionConsumers);
    return this.#deliver("transaction", slot);
  }

  publishSlot(update: Omit<SlotUpdate, "kind">): number {
    if (!this.#isBatchOpen) this.#encoder.startBatch();
    const slot = Number(update.slot);
    this.#encoder.slot(update, this.sequence + 1, this.#slotCounter.countsOf(slot));
    this.sequence++;
    this.slots++;
    // Those with losses of this slot get a frame of their own; it takes its place in the order all the same.
    const withLosses: Connection[] = [];
    this.#matched.length = 0;
    for (const connection of this.#connections) {
      if (connection.lossesOf(slot) === undefined) this.#addTarget(connection);
      else withLosses.push(connection);
    }
    let reached = this.#deliver("slot", slot);
    for (const connection of withLosses) {
      const losses = connection.lossesOf(slot)!;
      this.#encoder.slotLosses(losses.accounts, losses.transactions);
      this.#matched.length = 0;
      this.#addTarget(connection);
      reached += this.#deliver("slot", slot);
    }
    return reached;
  }

  /** The producer's last words to one consumer: a frame behind all others. */
  sayGoodbye(connection: Connection, wireReason: (typeof WireReason)[keyof typeof WireReason]): void {
    this.#markEncoder.startBatch();
    this.#markEncoder.goodbye(this.sequence, wireReason);
    this.#offerMark(connection);
  }

  /** Adds connections to the targets of the present update, each once. */
  #match(connections: Iterable<Connection> | undefined): void {
    if (connections === undefined) return;
    for (const connection of connections) {
      if (connection.matchedSequence === this.sequence) continue;
      connection.matchedSequence = this.sequence;
      this.#addTarget(connection);
    }
  }

  #addTarget(connection: Connection): void {
    this.#targets[this.#matched.length * TARGET_WORDS] = connection.ring;
    this.#matched.push(connection);
  }

  /** Copies the encoded frame into the ring of each matched connection, and commits unless a batch is open. */
  #deliver(kind: Update["kind"], slot: number): number {
    const count = this.#matched.length;
    if (count === 0) return 0;
    const { head, headLength, tail } = this.#encoder;
    const commit = this.#isBatchOpen ? 0 : 1;
    let taken = this.#native.ringOffer(head, headLength, tail, tail.length, this.#targets, count, commit);
    if (taken < 0) throw errorFromStatus(taken, "Cannot hand a frame to its rings");
    const refused = taken < count ? this.#refused() : [];
    for (let i = 0; i < count; i++) {
      const connection = this.#matched[i]!;
      if (this.#statuses[i * TARGET_WORDS + 1]! === 0) connection.frames++;
      if (commit === 0 && !connection.isDirty) {
        connection.isDirty = true;
        this.#dirty.push(connection);
      }
    }
    for (const [connection, status] of refused) {
      if (this.#onRefused(connection, status, kind, slot)) taken++;
    }
    this.deliveries += taken;
    return taken;
  }

  /** The targets that did not take the frame. Collected first: ending a connection offers marks, which need the targets. */
  #refused(): [Connection, number][] {
    const refused: [Connection, number][] = [];
    this.#matched.forEach((connection, i) => {
      const status = this.#statuses[i * TARGET_WORDS + 1]!;
      if (status < 0) refused.push([connection, status]);
    });
    return refused;
  }

  /** Returns whether the frame got in at a second try. */
  #onRefused(connection: Connection, status: number, kind: Update["kind"], slot: number): boolean {
    switch (status) {
      case Status.tooLarge:
        this.#countLoss(connection, kind, slot);
        // It can never fit this ring: a loss, which a gap frame reports at once, and not an eviction.
        this.reportGap(connection);
        return false;
      case Status.full:
        // Frames of an open batch are room that the consumer can't give back: show them, look again.
        if (this.#isBatchOpen && this.#offerAgain(connection)) {
          connection.frames++;
          return true;
        }
        this.#countLoss(connection, kind, slot);
        this.#end(connection, "slow-consumer");
        return false;
      default:
        this.#end(connection, "peer-corrupt");
        return false;
    }
  }

  /** Tells a connection of its losses, now or when there is room: `connection.isGapDue` says which. */
  reportGap(connection: Connection): void {
    this.#markEncoder.startBatch();
    this.#markEncoder.gap(this.sequence, connection.lost);
    connection.isGapDue = !this.#offerMark(connection);
  }

  #countLoss(connection: Connection, kind: Update["kind"], slot: number): void {
    connection.countLoss(kind, slot);
    this.lost++;
  }

  #offerAgain(connection: Connection): boolean {
    this.#markTarget[0] = connection.ring;
    this.#native.ringCommit(this.#markTarget, 1);
    const { head, headLength, tail } = this.#encoder;
    return this.#native.ringOffer(head, headLength, tail, tail.length, this.#markTarget, 1, 0) === 1;
  }

  #offerMark(connection: Connection): boolean {
    const { head, headLength, tail } = this.#markEncoder;
    this.#markTarget[0] = connection.ring;
    return this.#native.ringOffer(head, headLength, tail, tail.length, this.#markTarget, 1, 1) === 1;
  }
}
