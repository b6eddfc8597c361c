/**
 * Accounts, transactions and slots in place.
 * May touch: the ring's bytes, through the records that the native library checked.
 * May not touch: lengths in shared memory. Every offset and length used here comes from a record.
 *
 * @module
 */

import { addressFromBytes } from "../address.ts";
import {
  AccountBody,
  ADDRESS_SIZE,
  FRAME_ALIGN,
  FRAME_FLAG_CLIPPED,
  FRAME_FLAG_EXECUTABLE,
  FRAME_FLAG_FAILED,
  FRAME_FLAG_META,
  FRAME_FLAG_RESTORED,
  FRAME_FLAG_SLICED,
  FRAME_FLAG_STARTUP,
  FRAME_FLAG_STATE,
  FRAME_FLAG_VOTE,
  FrameHeader,
  SIGNATURE_SIZE,
  SlotBody,
  TransactionBody,
} from "../native/abi.generated.ts";
import {
  type Address,
  type LoadedAddresses,
  type ReadonlyUint8Array,
  SLOT_STATUSES,
  type SlotStatus,
} from "../types.ts";
import { type AccountCopy, NO_ADDRESSES, type SlotCopy, type TransactionCopy } from "./copies.ts";
import { FrameView, NO_NAMES, type RingMemory } from "./frame_view.ts";
import { EXTRA_LENGTH, EXTRA_OFFSET, PAYLOAD_LENGTH, PAYLOAD_OFFSET, RECORD_WORDS } from "./records.ts";

/** Where the parts of an account's frame stand, for who copies them: see {@linkcode AccountView.locate}. */
export interface AccountPlace {
  memory: RingMemory;
  /** Frame header and body, one behind the other; a multiple of 8. */
  at: number;
  flags: number;
  dataAt: number;
  dataLength: number;
  signatureAt: number;
  /** 0: there is none. */
  signatureLength: number;
}

const ALL_ONES = 0xffffffff;

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

  /**
   * Says where the parts stand.
   * @internal
   */
  locate(place: AccountPlace): void {
    place.memory = this.memory;
    place.at = this.at;
    place.flags = this.flags;
    place.dataAt = this.#dataAt;
    place.dataLength = this.#dataLength;
    place.signatureAt = this.#signatureAt;
    place.signatureLength = this.#signatureLength;
  }

  /** 32 bytes. */
  get pubkey(): ReadonlyUint8Array {
    return this.span(this.body + AccountBody.pubkey, ADDRESS_SIZE);
  }
  /** 32 bytes: the program that owns the account. */
  get owner(): ReadonlyUint8Array {
    return this.span(this.body + AccountBody.owner, ADDRESS_SIZE);
  }
  /** `pubkey` in base58: some 0.4 µs each time. */
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
  /** Not a write: what the sender knew of it when it was asked for state. Wire version 9: false. */
  get isState(): boolean {
    return (this.flags & FRAME_FLAG_STATE) !== 0;
  }
  /** Not a write: this version holds again, since a newer one was a dead bank's. Wire version 9: false. */
  get isRestored(): boolean {
    return (this.flags & FRAME_FLAG_RESTORED) !== 0;
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

  /** @internal */
  protected override headLength(): number {
    return AccountBody.size + this.#signatureLength;
  }
  /** @internal */
  protected override tailAt(): number {
    return this.#dataAt;
  }
  /** @internal */
  protected override tailLength(): number {
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
      sourceEpoch: this.sourceEpoch,
      fullLength: this.fullLength,
      isState: this.isState,
      isRestored: this.isRestored,
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
  /**
   * What it loaded from lookup tables, 32 bytes each and made when you ask; empty where the source did not say. Wire
   * version 9: empty.
   */
  get loadedAddresses(): LoadedAddresses<ReadonlyUint8Array> {
    return this.#loaded((offset) => this.span(offset, ADDRESS_SIZE));
  }

  /** They lie between the message, padded, and the meta. */
  #loaded<Key extends ReadonlyUint8Array>(keyAt: (offset: number) => Key): LoadedAddresses<Key> {
    const first = Math.ceil((this.#messageAt + this.#messageLength) / FRAME_ALIGN) * FRAME_ALIGN;
    const count = (this.#metaAt - first) / ADDRESS_SIZE; // below 0 where nothing follows the message
    if (count <= 0) return NO_ADDRESSES as LoadedAddresses<ReadonlyUint8Array> as LoadedAddresses<Key>;
    const keys = Array.from({ length: count }, (_, i) => keyAt(first + ADDRESS_SIZE * i));
    // The sender's word, which may change: it says which of them are which, not how many there are.
    const writableCount = this.memory.data.getUint16(this.body + TransactionBody.loadedWritableCount, true);
    return { writable: keys.slice(0, writableCount), readonly: keys.slice(writableCount) };
  }

  /** @internal */
  protected override headLength(): number {
    return TransactionBody.size;
  }
  /** @internal */
  protected override tailAt(): number {
    return this.#messageAt;
  }
  /** The message, the loaded addresses, the meta. @internal */
  protected override tailLength(): number {
    return this.#metaAt + this.#metaLength - this.#messageAt;
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
      loadedAddresses: this.#loaded((offset) => this.copySpan(offset, ADDRESS_SIZE)),
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
  #accountsSkipped = 0;
  #transactionsSkipped = 0;

  /** @internal */
  override bind(records: Uint32Array, index: number): void {
    super.bind(records, index);
    const word = index * RECORD_WORDS;
    this.#accountsSkipped = records[word + PAYLOAD_LENGTH]!;
    this.#transactionsSkipped = records[word + EXTRA_LENGTH]!;
  }

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
  /** Accounts of the slot that matched and did not come before this: not written for this connection, or skipped by it. */
  get accountsLost(): number {
    return this.number64(this.body + SlotBody.accountsLost) + this.#accountsSkipped;
  }
  /** Transactions of the slot, likewise. */
  get transactionsLost(): number {
    return this.number64(this.body + SlotBody.transactionsLost) + this.#transactionsSkipped;
  }

  /** With what was skipped among the lost. @internal */
  override writeFrame(out: Uint8Array, at: number): void {
    super.writeFrame(out, at);
    const view = new DataView(out.buffer, out.byteOffset + at + FrameHeader.size, SlotBody.size);
    view.setBigUint64(SlotBody.accountsLost, BigInt(this.accountsLost), true);
    view.setBigUint64(SlotBody.transactionsLost, BigInt(this.transactionsLost), true);
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
