/**
 * What one connection brings, as updates in a queue: repeated ones left out, the end of slots noted, gaps found.
 * May touch: the queue, the seam. May not touch: sockets.
 * The cursor is made here, of updates that are in the queue, which loses none: never of a status whose slot did not come.
 *
 * @module
 */

import type { BatchQueue } from "../batch_queue.ts";
import { SLOT_STATUSES, type SlotStatus } from "../../types.ts";
import { Decoded, UpdateDecoder } from "./decoder.ts";
import { bits48, Seam } from "./seam.ts";

/** What has been received so far. */
export interface ReceiverCounts {
  accounts: number;
  transactions: number;
  slots: number;
  /** Updates that a replay repeated. */
  duplicates: number;
  pings: number;
}

/** Remembered of the newest slots: at the full feed of a busy cluster about four slots, in 3 MiB. */
const SEAM_UPDATES = 131_072;
/** Slots before the newest complete one that are asked for again: their writes may have come late, or on another fork. */
const OVERLAP_SLOTS = 2;
const TRANSACTION = -100;

/** Lives as long as its source; a connection begins with `begin`. */
export class Receiver {
  readonly counts: ReceiverCounts = { accounts: 0, transactions: 0, slots: 0, duplicates: 0, pings: 0 };
  /** The newest slot that is complete, as far as it was asked for; -1 before the first. */
  completeSlot = -1;
  /** The newest slot of any status; -1 before the first. */
  newestSlot = -1;
  /** When that became newer: `performance.now()`. */
  advancedAt = 0;
  /** How much later the newest slot came than the quickest one, by the server's clock and ours: whatever they differ by. */
  lagMs = 0;
  /** The server has asked whether we are there. */
  wasPinged = false;

  readonly #queue: BatchQueue;
  readonly #decoder = new UpdateDecoder();
  readonly #seam = new Seam(SEAM_UPDATES);
  /** Of the slot status that closes a slot, by number. */
  readonly #completeStatus: number;
  readonly #onGap: (afterSlot: number, untilSlot: number) => void;
  /** Whether nothing has come over the present connection yet. */
  #isFresh = true;
  #firstSlot = 0;
  /** Where the present connection was asked to start; -1 if it was not. */
  #resumedFrom = -1;
  /** The least time from the server's seeing a slot to ours, with what the two clocks differ by. */
  #leastDelayMs = Infinity;
  /** Since when the lag has been too long; 0 if it is not. */
  #laggingSince = 0;
  /** Ends of slots until what comes is no longer marked lossy. */
  #lossySlots = 0;

  /** @param onGap Data of a new connection begin later than those before ended. */
  constructor(
    queue: BatchQueue,
    options: { commitment: SlotStatus; meta: boolean },
    onGap: (afterSlot: number, untilSlot: number) => void,
  ) {
    this.#queue = queue;
    this.#completeStatus = SLOT_STATUSES.indexOf(options.commitment);
    this.#decoder.withMeta = options.meta;
    this.#onGap = onGap;
  }

  /** Where a new connection should start, to miss nothing; undefined if nothing was complete yet. */
  get resumeSlot(): number | undefined {
    return this.completeSlot < 0 ? undefined : Math.max(this.#firstSlot, this.completeSlot - OVERLAP_SLOTS);
  }

  /** Nothing before that slot is wanted: as if all that had come. */
  startAt(slot: number): void {
    this.#firstSlot = slot;
    this.completeSlot = slot - 1;
  }

  /**
   * A connection begins.
   * @param resumeSlot It was asked to go on from there; undefined: it starts at what happens now.
   */
  begin(epoch: number, resumeSlot: number | undefined): void {
    this.#decoder.epoch = epoch;
    this.#isFresh = true;
    this.advancedAt = performance.now();
    this.#laggingSince = 0;
    this.#resumedFrom = resumeSlot ?? -1;
    if (resumeSlot === undefined) this.#seam.end();
    else this.#seam.begin(resumeSlot);
  }

  /** Takes one message. @throws {ProtobufError} for nonsense. */
  take(bytes: Uint8Array, start: number, end: number): void {
    const decoder = this.#decoder;
    switch (decoder.decode(bytes, start, end)) {
      case Decoded.account: {
        if (this.#isFresh) this.#onFirst(decoder.slotNumber);
        const { slotNumber, signature } = decoder;
        const key = bits48(decoder.pubkey, 0);
        const version = signature === undefined ? -Number(decoder.writeVersion) - 1 : bits48(signature, 0);
        if (this.#isKnown(slotNumber, key, version)) return;
        this.counts.accounts++;
        this.#queue.pending.push(decoder.account());
        return;
      }
      case Decoded.transaction: {
        if (this.#isFresh) this.#onFirst(decoder.slotNumber);
        if (this.#isKnown(decoder.slotNumber, TRANSACTION, bits48(decoder.signature!, 0))) return;
        this.counts.transactions++;
        this.#queue.pending.push(decoder.transaction());
        return;
      }
      case Decoded.slot:
        this.#takeSlot();
        return;
      case Decoded.ping:
        this.counts.pings++;
        this.wasPinged = true;
        return;
      default: // a pong, or what a newer server has and we did not ask for
        return;
    }
  }

  /** The application has made the server wait: what comes late is not the server's fault. */
  forgiveLag(): void {
    this.#laggingSince = 0;
    this.advancedAt = performance.now();
  }

  /** Why what comes is not fresh; undefined if it is. Ask now and then. @param staleMs How late it may be. */
  staleText(staleMs: number): string | undefined {
    const now = performance.now();
    if (now - this.advancedAt > staleMs) return `no newer slot for ${Math.round(now - this.advancedAt)} ms`;
    if (this.lagMs <= staleMs) this.#laggingSince = 0;
    else if (this.#laggingSince === 0) this.#laggingSince = now; // a replay may need a while to catch up
    else if (now - this.#laggingSince > staleMs) return `what comes is ${Math.round(this.lagMs)} ms late`;
    return undefined;
  }

  #takeSlot(): void {
    const decoder = this.#decoder;
    const { slotNumber, status } = decoder;
    if (status === this.#completeStatus && this.#isFresh) this.#onFirst(slotNumber);
    if (slotNumber > this.newestSlot) {
      this.newestSlot = slotNumber;
      this.advancedAt = performance.now();
      if (decoder.sourceNs > 0n) {
        // Not Date.now(): a clock that is set right in between would make all that follows late, over every connection.
        const delayMs = performance.timeOrigin + performance.now() - Number(decoder.sourceNs / 1_000_000n);
        if (delayMs < this.#leastDelayMs) this.#leastDelayMs = delayMs;
        this.lagMs = delayMs - this.#leastDelayMs;
      }
    }
    const update = decoder.slotUpdate();
    if (update !== undefined && !this.#isKnown(slotNumber, -1 - status, 0)) {
      this.counts.slots++;
      this.#queue.pending.push(update);
    }
    if (status !== this.#completeStatus) return;
    if (slotNumber > this.completeSlot) this.completeSlot = slotNumber;
    if (this.#lossySlots > 0 && --this.#lossySlots === 0) decoder.lossy = false;
  }

  /** The first data of a connection show whether it goes on where the one before ended. */
  #onFirst(slot: number): void {
    this.#isFresh = false;
    const { completeSlot } = this;
    if (completeSlot < 0) return this.startAt(slot); // nothing was before
    // A replay begins before, and the complete slot is one that it has.
    if (this.#resumedFrom >= 0 && slot <= Math.max(completeSlot, this.#resumedFrom)) return;
    // The slot in whose midst it starts, and one whole slot.
    this.#lossySlots = 2;
    this.#decoder.lossy = true;
    this.#onGap(completeSlot, slot);
  }

  #isKnown(slot: number, key: number, version: number): boolean {
    if (this.#seam.covers(slot) && this.#seam.has(slot, key, version)) {
      this.counts.duplicates++;
      return true;
    }
    this.#seam.note(slot, key, version);
    return false;
  }
}
