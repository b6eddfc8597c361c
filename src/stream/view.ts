/**
 * Views of frames in place: one reused object per kind, no allocation per update until a property needs one.
 * May touch: the ring's bytes, through the records that the native library checked.
 * May not touch: lengths in shared memory. Every offset and length used here comes from a record.
 *
 * @module
 */

import { addressFromBytes } from "../address.ts";
import {
  AccountBody,
  ADDRESS_SIZE,
  FilterMarkBody,
  FRAME_FLAG_CLIPPED,
  FRAME_FLAG_EXECUTABLE,
  FRAME_FLAG_FAILED,
  FRAME_FLAG_LOSSY,
  FRAME_FLAG_META,
  FRAME_FLAG_SLICED,
  FRAME_FLAG_STARTUP,
  FRAME_FLAG_VOTE,
  FrameHeader,
  FrameKind,
  GapBody,
  LeftBody,
  PollRecord,
  SIGNATURE_SIZE,
  SlotBody,
  TransactionBody,
} from "../native/abi.generated.ts";
import {
  type AccountUpdate,
  type Address,
  type ReadonlyUint8Array,
  SLOT_STATUSES,
  type SlotCounts,
  type SlotStatus,
  type SlotUpdate,
  type TransactionUpdate,
} from "../types.ts";
import type { FilterNames } from "./filter_names.ts";

const RECORD_WORDS = PollRecord.size / 4;
/** Kind, and flags in the upper half. */
const KIND_AND_FLAGS = PollRecord.kind / 4;
const FLAGS_SHIFT = 8 * (PollRecord.flags - PollRecord.kind);
const KIND_MASK = (1 << FLAGS_SHIFT) - 1;
const RING_BYTES = PollRecord.ringBytes / 4;
const LOST = PollRecord.lost / 4;
const PAYLOAD_OFFSET = PollRecord.payloadOffset / 4;
const PAYLOAD_LENGTH = PollRecord.payloadLength / 4;
const EXTRA_OFFSET = PollRecord.extraOffset / 4;
const EXTRA_LENGTH = PollRecord.extraLength / 4;
const HIGH_WORD = 4294967296;
const ALL_ONES = 0xffffffff;
const NO_NAMES: readonly string[] = Object.freeze([]);

/**
 * What a connection adds to every update: its place in the order, its times, what is missing before it. From a sender of
 * wire version 9, which numbers nothing and tells of no loss, some of it is another thing or unknown.
 */
export interface Delivery {
  /**
   * Place in the sender's one order of updates; the first is 1, filters make holes. Wire version 9: bytes of the ring up to
   * the end of this frame, which only grow.
   */
  readonly sequence: bigint;
  /** When the sender published it: nanoseconds since the Unix epoch. */
  readonly publishNs: bigint;
  /** When its source saw it, likewise; 0n if unknown, as always from wire version 9. */
  readonly sourceNs: bigint;
  /** Matching updates that this connection did not get since its previous frame. Wire version 9: 0, it can't tell. */
  readonly lost: number;
  /** Those of them that a newer value of the same account replaced. Wire version 9: 0. */
  readonly conflated: number;
}

/** What a connection adds to updates that filters are asked for. */
export interface Matched {
  /** Names of this consumer's filters that it matches; "" is the one of `subscribe`. */
  readonly filters: readonly string[];
}

/** A copy that lasts. A sender takes it as it is: mind `fullLength`, if filters asked for slices. */
export interface AccountCopy extends AccountUpdate, Delivery, Matched {
  /** 32 bytes: the account's address. */
  readonly pubkey: Uint8Array;
  /** 32 bytes: the program that owns it. */
  readonly owner: Uint8Array;
  /** The account's data. */
  readonly data: Uint8Array;
  /** 64 bytes: the transaction that wrote it, where the source knows it. */
  readonly signature: Uint8Array | undefined;
  /** The validator's write counter. */
  readonly writeVersion: bigint;
  /** Which bank of the slot, 0n if unknown. */
  readonly bankId: bigint;
  /** The epoch at which it owes rent next. */
  readonly rentEpoch: bigint;
  /** Whether the account is a program. */
  readonly executable: boolean;
  /** Sent while the source was starting up, not because of a write. */
  readonly startup: boolean;
  /** The source may have missed updates before this one. */
  readonly lossy: boolean;
  /** When its source saw it: nanoseconds since the Unix epoch; 0n if unknown. */
  readonly sourceNs: bigint;
  /** Counts the sources of the sender: versions of a later one are newer. */
  readonly sourceEpoch: number;
  /** Bytes of data that the account has; `data` has fewer if filters asked for slices. */
  readonly fullLength: number;
}

/** A copy that lasts. A sender takes it as it is. */
export interface TransactionCopy extends TransactionUpdate, Delivery, Matched {
  /** 64 bytes: the first signature. */
  readonly signature: Uint8Array;
  /** The message bytes: legacy, v0 or v1. */
  readonly message: Uint8Array;
  /** What the source added, if anything. */
  readonly meta: Uint8Array | undefined;
  /** Whether it is a vote. */
  readonly vote: boolean;
  /** Whether it failed. */
  readonly failed: boolean;
  /** Which bank of the slot, 0n if unknown. */
  readonly bankId: bigint;
  /** The source may have missed updates before this one. */
  readonly lossy: boolean;
  /** When its source saw it: nanoseconds since the Unix epoch; 0n if unknown. */
  readonly sourceNs: bigint;
}

/** A copy that lasts. A sender takes it as it is (and counts for itself). */
export interface SlotCopy extends SlotUpdate, SlotCounts, Delivery {
  /** Which bank of the slot, 0n if unknown. */
  readonly bankId: bigint;
  /** The source may have missed updates before this one. */
  readonly lossy: boolean;
  /** When its source saw it: nanoseconds since the Unix epoch; 0n if unknown. */
  readonly sourceNs: bigint;
}

/** A copy that lasts: an account has left filters. Which of them the sender knows: see `LeftView`. */
export interface LeftCopy extends Delivery, Matched {
  /** Tells the copies apart. */
  readonly kind: "left";
  /** 32 bytes: the account's address. */
  readonly pubkey: Uint8Array;
  /** 32 bytes: its owner by now. */
  readonly owner: Uint8Array;
  /** Balance in lamports. */
  readonly lamports: bigint;
  /** The slot of the write by which it left. */
  readonly slot: bigint;
  /** Which bank of the slot, 0n if unknown. */
  readonly bankId: bigint;
  /** The validator's write counter. */
  readonly writeVersion: bigint;
  /** The source may have missed updates before this one. */
  readonly lossy: boolean;
}

/** A copy that lasts: an edit of the filters took effect. */
export interface FilterMarkCopy extends Delivery {
  /** Tells the copies apart. */
  readonly kind: "filter";
  /** Counts the edits of this connection's filters. */
  readonly generation: number;
  /** Never true. */
  readonly lossy: boolean;
}

/** A copy that lasts: updates were lost. */
export interface GapCopy extends Delivery {
  /** Tells the copies apart. */
  readonly kind: "gap";
  /** Updates lost on this connection since it began. */
  readonly lostTotal: number;
  /** Never true. */
  readonly lossy: boolean;
}

/** The bytes of one ring as seen by its views. */
export interface RingMemory {
  /** Both mappings of the ring, and behind them the pool, if there is one. */
  readonly bytes: Uint8Array;
  readonly data: DataView;
  /** What the bits of masks stand for. */
  readonly filters?: FilterNames | undefined;
  /** Microseconds since the Unix epoch. */
  clockUs(): number;
}

/** What all views share. A view is valid until the handler returns, or the loop asks for the next update. */
export abstract class FrameView {
  /** @internal */
  protected readonly memory: RingMemory;
  /** Offset of the frame. @internal */
  protected at = 0;
  /** Offset of its body. @internal */
  protected body = 0;
  /** @internal */
  protected flags = 0;
  #lost = 0;

  /** @internal */
  constructor(memory: RingMemory) {
    this.memory = memory;
  }

  /** @internal */
  bind(records: Uint32Array, index: number): void {
    const word = index * RECORD_WORDS;
    this.at = records[word]!;
    this.body = this.at + FrameHeader.size;
    this.flags = records[word + KIND_AND_FLAGS]! >>> FLAGS_SHIFT;
    this.#lost = records[word + LOST]!;
  }

  /**
   * Place in the sender's one order of updates; the first is 1, filters make holes. Wire version 9: bytes of the ring up to
   * the end of this frame, which only grow.
   */
  get sequence(): bigint {
    return this.u64(this.at + FrameHeader.sequence);
  }
  /** The same as a number, exact to 2^53. */
  get sequenceNumber(): number {
    return this.number64(this.at + FrameHeader.sequence);
  }
  /** When the sender published it: nanoseconds since the Unix epoch. Wire version 9: when it encoded it. */
  get publishNs(): bigint {
    return this.u64(this.at + FrameHeader.publishNs);
  }
  /** When its source saw it, likewise; 0n if unknown, as always from wire version 9. */
  get sourceNs(): bigint {
    return this.u64(this.at + FrameHeader.sourceNs);
  }
  /** Microseconds since it was published, by the host's wall clock; a step of the clock shows. */
  get ageUs(): number {
    return this.memory.clockUs() - this.number64(this.at + FrameHeader.publishNs) / 1000;
  }
  /** Matching updates that this connection did not get since its previous frame. Wire version 9: 0, it can't tell. */
  get lost(): number {
    return this.#lost;
  }
  /** Those of them that a newer value of the same account replaced. Wire version 9: 0. */
  get conflated(): number {
    return this.memory.data.getUint32(this.at + FrameHeader.conflated, true);
  }
  /** The source may have missed updates before this one. Wire version 9: true, since nobody can tell. */
  get lossy(): boolean {
    return (this.flags & FRAME_FLAG_LOSSY) !== 0;
  }
  /**
   * Which of this consumer's filters it matches, a bit for each; all ones where no filter is asked for, as of most slots.
   * Bit 0 is the one of `subscribe`. Wire version 9, where there is no other: 1n, of slots all ones.
   */
  get filterMask(): bigint {
    return this.u64(this.at + FrameHeader.filterMask);
  }
  /**
   * The same as names, in the order of their bits; "" is the one of `subscribe`. Empty where no filter is asked for. The
   * array is shared and frozen.
   */
  get filters(): readonly string[] {
    const at = this.at + FrameHeader.filterMask;
    const { data, filters } = this.memory;
    return filters?.in(data.getUint32(at, true), data.getUint32(at + 4, true), this) ?? NO_NAMES;
  }

  /** @internal */
  protected u64(offset: number): bigint {
    return this.memory.data.getBigUint64(offset, true);
  }
  /** @internal */
  protected number64(offset: number): number {
    const data = this.memory.data;
    return data.getUint32(offset + 4, true) * HIGH_WORD + data.getUint32(offset, true);
  }
  /** @internal */
  protected span(offset: number, length: number): ReadonlyUint8Array {
    return this.memory.bytes.subarray(offset, offset + length);
  }
  /** @internal */
  protected copySpan(offset: number, length: number): Uint8Array {
    return this.memory.bytes.slice(offset, offset + length);
  }
  /** @internal */
  protected delivery(): Delivery & { lossy: boolean } {
    return {
      sequence: this.sequence,
      publishNs: this.publishNs,
      sourceNs: this.sourceNs,
      lost: this.lost,
      conflated: this.conflated,
      lossy: this.lossy,
    };
  }
}

/**
 * One write of an account, in place. `pubkey`, `owner`, `data` and `signature` are views into read-only shared memory:
 * valid as long as this view, and a write into them ends the process. `copy()` lasts.
 */
export class AccountView extends FrameView {
  /** Tells the views apart. */
  readonly kind = "account";
  #dataAt = 0;
  #dataLength = 0;
  #signatureAt = 0;
  #signatureLength = 0;

  /** @internal */
  override bind(records: Uint32Array, index: number): void {
    super.bind(records, index);
    const word = index * RECORD_WORDS;
    this.#dataAt = records[word + PAYLOAD_OFFSET]!;
    this.#dataLength = records[word + PAYLOAD_LENGTH]!;
    this.#signatureAt = records[word + EXTRA_OFFSET]!;
    this.#signatureLength = records[word + EXTRA_LENGTH]!;
  }

  /** 32 bytes. */
  get pubkey(): ReadonlyUint8Array {
    return this.span(this.body + AccountBody.pubkey, ADDRESS_SIZE);
  }
  /** 32 bytes: the program that owns the account. */
  get owner(): ReadonlyUint8Array {
    return this.span(this.body + AccountBody.owner, ADDRESS_SIZE);
  }
  /** `pubkey` in base58: about 1 to 2 µs each time. */
  get address(): Address {
    return addressFromBytes(this.pubkey);
  }
  /** `owner` in base58, likewise. */
  get ownerAddress(): Address {
    return addressFromBytes(this.owner);
  }
  /** Balance in lamports. */
  get lamports(): bigint {
    return this.u64(this.body + AccountBody.lamports);
  }
  /** The epoch at which it owes rent next. */
  get rentEpoch(): bigint {
    return this.u64(this.body + AccountBody.rentEpoch);
  }
  /** The slot in which it was written. */
  get slot(): bigint {
    return this.u64(this.body + AccountBody.slot);
  }
  /** `slot` as a number, exact to 2^53. */
  get slotNumber(): number {
    return this.number64(this.body + AccountBody.slot);
  }
  /** Which bank of the slot, 0n if unknown, as always from wire version 9. */
  get bankId(): bigint {
    return this.u64(this.body + AccountBody.bankId);
  }
  /** The validator's write counter. */
  get writeVersion(): bigint {
    return this.u64(this.body + AccountBody.writeVersion);
  }
  /** Whether the account is a program. */
  get executable(): boolean {
    return (this.flags & FRAME_FLAG_EXECUTABLE) !== 0;
  }
  /** Sent while the source was starting up, not because of a write. Wire version 9: false. */
  get startup(): boolean {
    return (this.flags & FRAME_FLAG_STARTUP) !== 0;
  }
  /** 64 bytes: the transaction that wrote it, where the source knows it. Wire version 9: undefined. */
  get signature(): ReadonlyUint8Array | undefined {
    return this.#signatureLength === 0 ? undefined : this.span(this.#signatureAt, SIGNATURE_SIZE);
  }
  /** The account's data: a view. If `isSliced`, the slices that filters asked for, one behind the other. */
  get data(): ReadonlyUint8Array {
    return this.span(this.#dataAt, this.#dataLength);
  }
  /** Bytes of `data`. */
  get dataLength(): number {
    return this.#dataLength;
  }
  /** Bytes of data that the account has: more than came if `isSliced`. */
  get fullLength(): number {
    return this.isSliced ? this.memory.data.getUint32(this.body + AccountBody.fullLength, true) : this.#dataLength;
  }
  /** Only slices of the data came, since all filters that it matches want the same. Wire version 9: false. */
  get isSliced(): boolean {
    return (this.flags & FRAME_FLAG_SLICED) !== 0;
  }
  /** The data end before a slice does: that one is shorter, or empty. Wire version 9: false. */
  get isClipped(): boolean {
    return (this.flags & FRAME_FLAG_CLIPPED) !== 0;
  }
  /** Counts the sources of the sender: versions of a later one are newer, whatever their slots. Wire version 9: 0. */
  get sourceEpoch(): number {
    return this.memory.data.getUint32(this.body + AccountBody.sourceEpoch, true);
  }

  #check(offset: number, size: number): number {
    if (!(offset >= 0 && offset + size <= this.#dataLength)) {
      throw new RangeError(
        `Bytes ${offset} to ${offset + size} are beyond the account's ${this.#dataLength} bytes of data`,
      );
    }
    return this.#dataAt + offset;
  }
  /** The byte of the data at `offset`. Throws a `RangeError` beyond its end; so do its siblings. Little-endian all. */
  u8At(offset: number): number {
    return this.memory.data.getUint8(this.#check(offset, 1));
  }
  /** Two bytes as an unsigned number. */
  u16At(offset: number): number {
    return this.memory.data.getUint16(this.#check(offset, 2), true);
  }
  /** Four bytes as an unsigned number. */
  u32At(offset: number): number {
    return this.memory.data.getUint32(this.#check(offset, 4), true);
  }
  /** Eight bytes as an unsigned bigint. */
  u64At(offset: number): bigint {
    return this.memory.data.getBigUint64(this.#check(offset, 8), true);
  }
  /** A u64 as a number, exact to 2^53: the cheap way to read a token amount. */
  u64NumberAt(offset: number): number {
    return this.number64(this.#check(offset, 8));
  }
  /** An IEEE 754 double. */
  f64At(offset: number): number {
    return this.memory.data.getFloat64(this.#check(offset, 8), true);
  }

  /** Everything in an object that lasts and that a sender takes. */
  copy(): AccountCopy {
    return {
      kind: "account",
      ...this.delivery(),
      pubkey: this.copySpan(this.body + AccountBody.pubkey, ADDRESS_SIZE),
      owner: this.copySpan(this.body + AccountBody.owner, ADDRESS_SIZE),
      lamports: this.lamports,
      rentEpoch: this.rentEpoch,
      slot: this.slot,
      bankId: this.bankId,
      writeVersion: this.writeVersion,
      executable: this.executable,
      startup: this.startup,
      sourceEpoch: this.sourceEpoch,
      fullLength: this.fullLength,
      filters: this.filters,
      signature: this.#signatureLength === 0 ? undefined : this.copySpan(this.#signatureAt, SIGNATURE_SIZE),
      data: this.copySpan(this.#dataAt, this.#dataLength),
    };
  }
}

/** One executed transaction, in place. `signature`, `message` and `meta` live as long as this view; `copy()` lasts. */
export class TransactionView extends FrameView {
  /** Tells the views apart. */
  readonly kind = "transaction";
  #messageAt = 0;
  #messageLength = 0;
  #metaAt = 0;
  #metaLength = 0;

  /** @internal */
  override bind(records: Uint32Array, index: number): void {
    super.bind(records, index);
    const word = index * RECORD_WORDS;
    this.#messageAt = records[word + PAYLOAD_OFFSET]!;
    this.#messageLength = records[word + PAYLOAD_LENGTH]!;
    this.#metaAt = records[word + EXTRA_OFFSET]!;
    this.#metaLength = records[word + EXTRA_LENGTH]!;
  }

  /** The slot that executed it. */
  get slot(): bigint {
    return this.u64(this.body + TransactionBody.slot);
  }
  /** `slot` as a number, exact to 2^53. */
  get slotNumber(): number {
    return this.number64(this.body + TransactionBody.slot);
  }
  /** Which bank of the slot, 0n if unknown, as always from wire version 9. */
  get bankId(): bigint {
    return this.u64(this.body + TransactionBody.bankId);
  }
  /** Position in the block. */
  get index(): number {
    return this.memory.data.getUint32(this.body + TransactionBody.index, true);
  }
  /** Whether it is a vote. */
  get vote(): boolean {
    return (this.flags & FRAME_FLAG_VOTE) !== 0;
  }
  /** Whether it failed. Wire version 9, which does not say: false. */
  get failed(): boolean {
    return (this.flags & FRAME_FLAG_FAILED) !== 0;
  }
  /** 64 bytes: the first signature. */
  get signature(): ReadonlyUint8Array {
    return this.span(this.body + TransactionBody.signature, SIGNATURE_SIZE);
  }
  /** The message bytes: legacy, v0 or v1. Wire version 9: the transaction's payload, whatever its sender puts there. */
  get message(): ReadonlyUint8Array {
    return this.span(this.#messageAt, this.#messageLength);
  }
  /** What the source added, if anything. Wire version 9: undefined. */
  get meta(): ReadonlyUint8Array | undefined {
    return (this.flags & FRAME_FLAG_META) === 0 ? undefined : this.span(this.#metaAt, this.#metaLength);
  }

  /** Everything in an object that lasts and that a sender takes. */
  copy(): TransactionCopy {
    return {
      kind: "transaction",
      ...this.delivery(),
      slot: this.slot,
      bankId: this.bankId,
      index: this.index,
      vote: this.vote,
      failed: this.failed,
      filters: this.filters,
      signature: this.copySpan(this.body + TransactionBody.signature, SIGNATURE_SIZE),
      message: this.copySpan(this.#messageAt, this.#messageLength),
      meta: (this.flags & FRAME_FLAG_META) === 0 ? undefined : this.copySpan(this.#metaAt, this.#metaLength),
    };
  }
}

/**
 * A slot reached a status. The counts say what belongs to it, and what of it this connection lost. From wire version 9 comes
 * the slot's number alone: the counts are 0.
 */
export class SlotView extends FrameView {
  /** Tells the views apart. */
  readonly kind = "slot";

  /** Empty, unless the sender was asked for slots by name and says so. */
  override get filters(): readonly string[] {
    const at = this.at + FrameHeader.filterMask;
    const { data } = this.memory;
    const isAll = data.getUint32(at, true) === ALL_ONES && data.getUint32(at + 4, true) === ALL_ONES;
    return isAll ? NO_NAMES : super.filters;
  }

  /** The slot's number. */
  get slot(): bigint {
    return this.u64(this.body + SlotBody.slot);
  }
  /** `slot` as a number, exact to 2^53. */
  get slotNumber(): number {
    return this.number64(this.body + SlotBody.slot);
  }
  /** The slot that it builds on. Wire version 9, which does not say: 0n. */
  get parent(): bigint {
    return this.u64(this.body + SlotBody.parent);
  }
  /** Which bank of the slot, 0n if unknown, as always from wire version 9. */
  get bankId(): bigint {
    return this.u64(this.body + SlotBody.bankId);
  }
  /** What it reached. Wire version 9, which does not say: "processed". */
  get status(): SlotStatus {
    // A number that we don't know can only come from a sender that breaks the protocol; "dead" misleads least.
    return SLOT_STATUSES[this.memory.data.getUint32(this.body + SlotBody.status, true)] ?? "dead";
  }
  /** Accounts that the sender published for the slot, whatever the filters. */
  get accountsPublished(): number {
    return this.number64(this.body + SlotBody.accountsPublished);
  }
  /** Transactions that the sender published for the slot, whatever the filters. */
  get transactionsPublished(): number {
    return this.number64(this.body + SlotBody.transactionsPublished);
  }
  /** Accounts of the slot that matched and did not reach this connection. */
  get accountsLost(): number {
    return this.number64(this.body + SlotBody.accountsLost);
  }
  /** Transactions of the slot that matched and did not reach this connection. */
  get transactionsLost(): number {
    return this.number64(this.body + SlotBody.transactionsLost);
  }

  /** Everything in an object that lasts and that a sender takes. */
  copy(): SlotCopy {
    return {
      kind: "slot",
      ...this.delivery(),
      slot: this.slot,
      parent: this.parent,
      status: this.status,
      bankId: this.bankId,
      accountsPublished: this.accountsPublished,
      transactionsPublished: this.transactionsPublished,
      accountsLost: this.accountsLost,
      transactionsLost: this.transactionsLost,
    };
  }
}

/** Updates were lost (`lost` says how many since the previous frame), and nothing else came that could say so. */
export class GapView extends FrameView {
  /** Tells the views apart. */
  readonly kind = "gap";

  /** Updates lost on this connection since it began. */
  get lostTotal(): number {
    return this.number64(this.body + GapBody.lostTotal);
  }

  /** Empty: no filter is asked for. */
  override get filters(): readonly string[] {
    return NO_NAMES;
  }

  /** Everything in an object that lasts. */
  copy(): GapCopy {
    return { kind: "gap", ...this.delivery(), lostTotal: this.lostTotal };
  }
}

/**
 * An account has left filters, those in `filters`: by this write it matches them no longer, having matched before. Not for
 * filters that look at the address alone, nor where the sender remembers too few accounts. It remembers eight such
 * filters of an account, of all consumers together: beyond, one may be left without a word.
 */
export class LeftView extends FrameView {
  /** Tells the views apart. */
  readonly kind = "left";

  /** 32 bytes: the account's address. */
  get pubkey(): ReadonlyUint8Array {
    return this.span(this.body + LeftBody.pubkey, ADDRESS_SIZE);
  }
  /** 32 bytes: its owner by now. A closed account's is the system program. */
  get owner(): ReadonlyUint8Array {
    return this.span(this.body + LeftBody.owner, ADDRESS_SIZE);
  }
  /** `pubkey` in base58: about 1 to 2 µs each time. */
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

  /** Everything in an object that lasts. */
  copy(): LeftCopy {
    return {
      kind: "left",
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

/** An edit of this consumer's filters took effect here: it holds for every update with a greater sequence. */
export class FilterMarkView extends FrameView {
  /** Tells the views apart. */
  readonly kind = "filter";

  /** Counts the edits of this connection's filters, as their acknowledgements do. */
  get generation(): number {
    return this.memory.data.getUint32(this.body + FilterMarkBody.generation, true);
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

/** What a consumer reads: tell them apart by `kind`. */
export type UpdateView = AccountView | TransactionView | SlotView | GapView | LeftView | FilterMarkView;

/** Gives records their views. */
export interface FrameViews {
  /** Where a frame says when it was published: u64 nanoseconds, from the frame's offset. */
  readonly publishOffset: number;
  /** Where a frame of each kind says its slot, likewise; -1 for kinds that have none. */
  readonly slotOffsets: Int32Array;
  /** The view of a record; undefined for frames that only the library reads (goodbye). Called once for each, in order. */
  at(records: Uint32Array, index: number): UpdateView | undefined;
}

const SLOT_OFFSETS = slotOffsets({
  [FrameKind.account]: FrameHeader.size + AccountBody.slot,
  [FrameKind.transaction]: FrameHeader.size + TransactionBody.slot,
  [FrameKind.slot]: FrameHeader.size + SlotBody.slot,
  [FrameKind.left]: FrameHeader.size + LeftBody.slot,
});

/** A table with a place for every kind. */
export function slotOffsets(known: Readonly<Record<number, number>>): Int32Array {
  return Int32Array.from({ length: Math.max(...Object.values(FrameKind)) + 1 }, (_, kind) => known[kind] ?? -1);
}

/** One view of each kind, bound to a record at a time. */
export class Views implements FrameViews {
  readonly publishOffset: number = FrameHeader.publishNs;
  readonly slotOffsets: Int32Array = SLOT_OFFSETS;
  readonly #account: AccountView;
  readonly #transaction: TransactionView;
  readonly #slot: SlotView;
  readonly #gap: GapView;
  readonly #left: LeftView;
  readonly #filter: FilterMarkView;

  constructor(memory: RingMemory) {
    this.#account = new AccountView(memory);
    this.#transaction = new TransactionView(memory);
    this.#slot = new SlotView(memory);
    this.#gap = new GapView(memory);
    this.#left = new LeftView(memory);
    this.#filter = new FilterMarkView(memory);
  }

  at(records: Uint32Array, index: number): UpdateView | undefined {
    const view = this.#of(frameKind(records, index));
    view?.bind(records, index);
    return view;
  }

  #of(kind: number): UpdateView | undefined {
    switch (kind) {
      case FrameKind.account:
        return this.#account;
      case FrameKind.transaction:
        return this.#transaction;
      case FrameKind.slot:
        return this.#slot;
      case FrameKind.gap:
        return this.#gap;
      case FrameKind.left:
        return this.#left;
      case FrameKind.filter:
        return this.#filter;
      default:
        return undefined;
    }
  }
}

/** Where a record's frame begins. */
export function frameOffset(records: Uint32Array, index: number): number {
  return records[index * RECORD_WORDS]!;
}

/** What a record's frame is. */
export function frameKind(records: Uint32Array, index: number): number {
  return records[index * RECORD_WORDS + KIND_AND_FLAGS]! & KIND_MASK;
}

/** Matching updates that did not come before a record's frame. */
export function frameLost(records: Uint32Array, index: number): number {
  return records[index * RECORD_WORDS + LOST]!;
}

/** Bytes of the ring that giving a record's frame back frees: its own, and those of frames before it that were skipped. */
export function frameSize(records: Uint32Array, index: number): number {
  return records[index * RECORD_WORDS + RING_BYTES]!;
}
