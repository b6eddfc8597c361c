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
  FRAME_FLAG_EXECUTABLE,
  FRAME_FLAG_FAILED,
  FRAME_FLAG_LOSSY,
  FRAME_FLAG_META,
  FRAME_FLAG_STARTUP,
  FRAME_FLAG_VOTE,
  FrameHeader,
  FrameKind,
  GapBody,
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

const RECORD_WORDS = PollRecord.size / 4;
const KIND = PollRecord.kind / 4;
const FLAGS = PollRecord.flags / 4;
const RING_BYTES = PollRecord.ringBytes / 4;
const PAYLOAD_OFFSET = PollRecord.payloadOffset / 4;
const PAYLOAD_LENGTH = PollRecord.payloadLength / 4;
const EXTRA_OFFSET = PollRecord.extraOffset / 4;
const EXTRA_LENGTH = PollRecord.extraLength / 4;
const HIGH_WORD = 4294967296;

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

/** A copy that lasts. A sender takes it as it is. */
export interface AccountCopy extends AccountUpdate, Delivery {
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
}

/** A copy that lasts. A sender takes it as it is. */
export interface TransactionCopy extends TransactionUpdate, Delivery {
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

/** The bytes of one ring as seen by its views. */
export interface RingMemory {
  readonly bytes: Uint8Array;
  readonly data: DataView;
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

  /** @internal */
  constructor(memory: RingMemory) {
    this.memory = memory;
  }

  /** @internal */
  bind(records: Uint32Array, index: number): void {
    const word = index * RECORD_WORDS;
    this.at = records[word]!;
    this.body = this.at + FrameHeader.size;
    this.flags = records[word + FLAGS]!;
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
    return this.memory.data.getUint32(this.at + FrameHeader.lost, true);
  }
  /** Those of them that a newer value of the same account replaced. Wire version 9: 0. */
  get conflated(): number {
    return this.memory.data.getUint32(this.at + FrameHeader.conflated, true);
  }
  /** The source may have missed updates before this one. Wire version 9: true, since nobody can tell. */
  get lossy(): boolean {
    return (this.flags & FRAME_FLAG_LOSSY) !== 0;
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
  /** The account's data: a view. */
  get data(): ReadonlyUint8Array {
    return this.span(this.#dataAt, this.#dataLength);
  }
  /** Bytes of data. */
  get dataLength(): number {
    return this.#dataLength;
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

  /** Everything in an object that lasts. */
  copy(): Delivery & { readonly kind: "gap"; readonly lostTotal: number } {
    return { kind: "gap", ...this.delivery(), lostTotal: this.lostTotal };
  }
}

/** What a consumer reads: tell them apart by `kind`. */
export type UpdateView = AccountView | TransactionView | SlotView | GapView;

/** Gives records their views. */
export interface FrameViews {
  /** The view of a record; undefined for frames that only the library reads (goodbye). Called once for each, in order. */
  at(records: Uint32Array, index: number): UpdateView | undefined;
  /** The `lost` of a record's frame, whatever its kind. */
  lostBefore(records: Uint32Array, index: number): number;
}

/** One view of each kind, bound to a record at a time. */
export class Views implements FrameViews {
  readonly #account: AccountView;
  readonly #transaction: TransactionView;
  readonly #slot: SlotView;
  readonly #gap: GapView;

  constructor(memory: RingMemory) {
    this.#account = new AccountView(memory);
    this.#transaction = new TransactionView(memory);
    this.#slot = new SlotView(memory);
    this.#gap = new GapView(memory);
  }

  at(records: Uint32Array, index: number): UpdateView | undefined {
    const view = this.#of(records[index * RECORD_WORDS + KIND]!);
    view?.bind(records, index);
    return view;
  }

  lostBefore(records: Uint32Array, index: number): number {
    this.#gap.bind(records, index);
    return this.#gap.lost;
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
      default:
        return undefined;
    }
  }
}

/** Bytes that a record's frame takes in the ring. */
export function frameSize(records: Uint32Array, index: number): number {
  return records[index * RECORD_WORDS + RING_BYTES]!;
}
