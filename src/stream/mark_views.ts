/**
 * What a stream says besides updates, in place: losses, accounts that are gone, edits, ends of state, rollbacks.
 * May touch: the ring's bytes, through the records that the native library checked.
 *
 * @module
 */

import { addressFromBytes } from "../address.ts";
import {
  ADDRESS_SIZE,
  FilterMarkBody,
  FrameHeader,
  GapBody,
  LeftBody,
  ResumedBody,
  RollbackBody,
  SnapshotCompleteBody,
} from "../native/abi.generated.ts";
import type { Address, ReadonlyUint8Array } from "../types.ts";
import type {
  FilterMarkCopy,
  GapCopy,
  LeftCopy,
  ResumedCopy,
  RollbackCopy,
  SnapshotCompleteCopy,
  WithdrawnCopy,
} from "./copies.ts";
import { FrameView, HIGH_WORD, NO_NAMES } from "./frame_view.ts";
import { EXTRA_LENGTH, PAYLOAD_LENGTH, RECORD_WORDS } from "./records.ts";

/** Updates were lost (`lost` says how many since the previous frame), and nothing else came that could say so. */
export class GapView extends FrameView {
  /** Tells the views apart. */
  readonly kind = "gap";
  #skipped = 0;

  /** @internal */
  override bind(records: Uint32Array, index: number): void {
    super.bind(records, index);
    const word = index * RECORD_WORDS;
    this.#skipped = records[word + EXTRA_LENGTH]! * HIGH_WORD + records[word + PAYLOAD_LENGTH]!;
  }

  /** Updates lost on this connection since it began: not written for it, or skipped by it. */
  get lostTotal(): number {
    return this.number64(this.body + GapBody.lostTotal) + this.#skipped;
  }

  /** Empty: no filter is asked for. */
  override get filters(): readonly string[] {
    return NO_NAMES;
  }

  /** With what was skipped among the lost. @internal */
  override writeFrame(out: Uint8Array, at: number): void {
    super.writeFrame(out, at);
    const view = new DataView(out.buffer, out.byteOffset + at + FrameHeader.size, GapBody.size);
    view.setBigUint64(GapBody.lostTotal, BigInt(this.lostTotal), true);
  }

  /** Everything in an object that lasts. */
  copy(): GapCopy {
    return { kind: "gap", ...this.delivery(), lostTotal: this.lostTotal };
  }
}

/** An account that filters matched, and match no longer. */
export abstract class GoneView extends FrameView {
  /** 32 bytes: the account's address. */
  get pubkey(): ReadonlyUint8Array {
    return this.span(this.body + LeftBody.pubkey, ADDRESS_SIZE);
  }
  /** 32 bytes: its owner by now. A closed account's is the system program. */
  get owner(): ReadonlyUint8Array {
    return this.span(this.body + LeftBody.owner, ADDRESS_SIZE);
  }
  /** `pubkey` in base58: some 0.4 µs each time. */
  get address(): Address {
    return addressFromBytes(this.pubkey);
  }
  /** `owner` in base58, likewise. */
  get ownerAddress(): Address {
    return addressFromBytes(this.owner);
  }
  /** Balance in lamports: 0n if the account was closed. */
  get lamports(): bigint {
    return this.u64(this.body + LeftBody.lamports);
  }
  /** The slot of the write by which it left. */
  get slot(): bigint {
    return this.u64(this.body + LeftBody.slot);
  }
  /** `slot` as a number, exact to 2^53. */
  get slotNumber(): number {
    return this.number64(this.body + LeftBody.slot);
  }
  /** Which bank of the slot, 0n if unknown. */
  get bankId(): bigint {
    return this.u64(this.body + LeftBody.bankId);
  }
  /** The validator's write counter. */
  get writeVersion(): bigint {
    return this.u64(this.body + LeftBody.writeVersion);
  }

  /** @internal */
  protected gone(): Omit<LeftCopy, "kind"> {
    return {
      ...this.delivery(),
      pubkey: this.copySpan(this.body + LeftBody.pubkey, ADDRESS_SIZE),
      owner: this.copySpan(this.body + LeftBody.owner, ADDRESS_SIZE),
      lamports: this.lamports,
      slot: this.slot,
      bankId: this.bankId,
      writeVersion: this.writeVersion,
      filters: this.filters,
    };
  }
}

/**
 * An account has left filters, those in `filters`: by this write it matches them no longer, having matched before. Not for
 * filters that look at the address alone, nor where the sender remembers too few accounts. It remembers eight such
 * filters of an account, of all consumers together: beyond, one may be left without a word.
 */
export class LeftView extends GoneView {
  /** Tells the views apart. */
  readonly kind = "left";

  /** Everything in an object that lasts. */
  copy(): LeftCopy {
    return { kind: "left", ...this.gone() };
  }
}

/**
 * All that the sender knew of an account was written by a bank that is dead, so of the account nothing is known any longer.
 * The fields are those of the last such write, `filters` those that had matched it.
 */
export class WithdrawnView extends GoneView {
  /** Tells the views apart. */
  readonly kind = "withdrawn";

  /** Everything in an object that lasts. */
  copy(): WithdrawnCopy {
    return { kind: "withdrawn", ...this.gone() };
  }
}

/**
 * A bank is dead, or the finalized chain skips it: what it wrote never was. For each account whose newest version it had
 * written follows, to whom it matches, the version that holds again (`isRestored`), or a `withdrawn`.
 */
export class RollbackView extends FrameView {
  /** Tells the views apart. */
  readonly kind = "rollback";

  /** The slot whose bank it was. */
  get slot(): bigint {
    return this.u64(this.body + RollbackBody.slot);
  }
  /** `slot` as a number, exact to 2^53. */
  get slotNumber(): number {
    return this.number64(this.body + RollbackBody.slot);
  }
  /** Which bank of the slot, 0n if unknown. */
  get bankId(): bigint {
    return this.u64(this.body + RollbackBody.bankId);
  }
  /** Accounts that are taken back, whatever the filters. */
  get accounts(): number {
    return this.number64(this.body + RollbackBody.accounts);
  }
  /**
   * 0: what follows says all. Else accounts that the sender has forgotten for want of memory since it began: some that this bank had
   * written are among them, so that nobody takes them back, or what held before it is, so that `withdrawn` may say too much.
   */
  get evicted(): number {
    return this.number64(this.body + RollbackBody.evicted);
  }
  /** Empty: no filter is asked for. */
  override get filters(): readonly string[] {
    return NO_NAMES;
  }

  /** Everything in an object that lasts. */
  copy(): RollbackCopy {
    return {
      kind: "rollback",
      ...this.delivery(),
      slot: this.slot,
      bankId: this.bankId,
      accounts: this.accounts,
      evicted: this.evicted,
    };
  }
}

/** All that a request for state asked for stands before this: `filters` has the one filter that it was for. */
export class SnapshotCompleteView extends FrameView {
  /** Tells the views apart. */
  readonly kind = "snapshot-complete";

  /** Counts the edits of this consumer's filters, as their acknowledgements do: which of them asked. */
  get generation(): number {
    const base = this.memory.generationBase ?? 0;
    return base + this.memory.data.getUint32(this.body + SnapshotCompleteBody.generation, true);
  }
  /** What the sender knew by then came as state, what it got later came live. */
  get asOfSequence(): bigint {
    return this.u64(this.body + SnapshotCompleteBody.asOfSequence);
  }
  /** Accounts that matched: as state, or live meanwhile. */
  get known(): number {
    return this.number64(this.body + SnapshotCompleteBody.known);
  }
  /** Keys of the request that the sender knows nothing of. */
  get unknownKeys(): number {
    return this.number64(this.body + SnapshotCompleteBody.unknownKeys);
  }
  /** Accounts that the sender has forgotten for want of memory since it began. */
  get evicted(): number {
    return this.number64(this.body + SnapshotCompleteBody.evicted);
  }
  /** The filter was replaced or removed before all was sent. */
  get isCut(): boolean {
    return this.memory.data.getUint32(this.body + SnapshotCompleteBody.isCut, true) !== 0;
  }

  /** Everything in an object that lasts. */
  copy(): SnapshotCompleteCopy {
    return {
      kind: "snapshot-complete",
      ...this.delivery(),
      filters: this.filters,
      generation: this.generation,
      asOfSequence: this.asOfSequence,
      known: this.known,
      unknownKeys: this.unknownKeys,
      evicted: this.evicted,
      isCut: this.isCut,
    };
  }
}

/** A resumed connection has caught up: what follows is live. */
export class ResumedView extends FrameView {
  /** Tells the views apart. */
  readonly kind = "resumed";

  /** The sequence that had been handled last. */
  get after(): bigint {
    return this.u64(this.body + ResumedBody.after);
  }
  /** Updates up to this one were replayed. */
  get replayedTo(): bigint {
    return this.u64(this.body + ResumedBody.replayedTo);
  }
  /** Updates from behind this one are live; what lies between the two is lost. */
  get liveAfter(): bigint {
    return this.u64(this.body + ResumedBody.liveAfter);
  }
  /** Accounts that senders before this one, whose order it has taken over, had forgotten by then for want of memory. */
  get evicted(): number {
    return this.number64(this.body + ResumedBody.evicted);
  }
  /** Empty: no filter is asked for. */
  override get filters(): readonly string[] {
    return NO_NAMES;
  }

  /** Everything in an object that lasts. */
  copy(): ResumedCopy {
    return {
      kind: "resumed",
      ...this.delivery(),
      after: this.after,
      replayedTo: this.replayedTo,
      liveAfter: this.liveAfter,
      evicted: this.evicted,
    };
  }
}

/** An edit of this consumer's filters took effect here: it holds for every update with a greater sequence. */
export class FilterMarkView extends FrameView {
  /** Tells the views apart. */
  readonly kind = "filter";

  /** Counts the edits of this consumer's filters, as their acknowledgements do. */
  get generation(): number {
    const base = this.memory.generationBase ?? 0;
    return base + this.memory.data.getUint32(this.body + FilterMarkBody.generation, true);
  }

  /** Empty: no filter is asked for. */
  override get filters(): readonly string[] {
    return NO_NAMES;
  }

  /** Everything in an object that lasts. */
  copy(): FilterMarkCopy {
    return { kind: "filter", ...this.delivery(), generation: this.generation };
  }
}
