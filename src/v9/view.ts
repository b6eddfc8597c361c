/**
 * Views of frames of wire version 9 in place: the same views as of native frames, with other offsets. What version 9 does
 * not say reads as zero, false or undefined; ../stream/view.ts says so at each property.
 * May touch: the ring's bytes, through the records that the native library checked.
 * May not touch: lengths in shared memory. Every offset and length used here comes from a record.
 * Why classes of their own and no branch in the native ones: those are the hot path of whoever has no version 9 at all.
 *
 * @module
 */

import {
  ADDRESS_SIZE,
  FrameKind,
  PollRecord,
  SIGNATURE_SIZE,
  V9Account,
  V9Slot,
  V9Transaction,
} from "../native/abi.generated.ts";
import {
  type AccountCopy,
  AccountView,
  frameSize,
  type FrameViews,
  type RingMemory,
  SlotView,
  type TransactionCopy,
  TransactionView,
  type UpdateView,
} from "../stream/view.ts";
import type { ReadonlyUint8Array, SlotStatus } from "../types.ts";

const RECORD_WORDS = PollRecord.size / 4;
const KIND = PollRecord.kind / 4;

/** The same place in all three kinds of frames. */
const CREATED_NS = V9Slot.createdNs;

/** What the frames of one ring share. */
interface V9Memory extends RingMemory {
  /** Bytes of the ring up to the end of the frame at hand. */
  position: number;
}

function ageUs(memory: RingMemory, createdNs: number): number {
  return memory.clockUs() - createdNs / 1000;
}

/** `at` of the base class is where the frame's version byte stands: offsets count from there. */
class V9AccountView extends AccountView {
  declare protected readonly memory: V9Memory;

  override get sequence(): bigint {
    return BigInt(this.memory.position);
  }
  override get sequenceNumber(): number {
    return this.memory.position;
  }
  override get publishNs(): bigint {
    return this.u64(this.at + CREATED_NS);
  }
  override get sourceNs(): bigint {
    return 0n;
  }
  override get ageUs(): number {
    return ageUs(this.memory, this.number64(this.at + CREATED_NS));
  }
  override get lost(): number {
    return 0;
  }
  override get conflated(): number {
    return 0;
  }

  override get pubkey(): ReadonlyUint8Array {
    return this.span(this.at + V9Account.pubkey, ADDRESS_SIZE);
  }
  override get owner(): ReadonlyUint8Array {
    return this.span(this.at + V9Account.owner, ADDRESS_SIZE);
  }
  override get lamports(): bigint {
    return this.u64(this.at + V9Account.lamports);
  }
  override get rentEpoch(): bigint {
    return this.u64(this.at + V9Account.rentEpoch);
  }
  override get slot(): bigint {
    return this.u64(this.at + V9Account.slot);
  }
  override get slotNumber(): number {
    return this.number64(this.at + V9Account.slot);
  }
  override get bankId(): bigint {
    return 0n;
  }
  override get writeVersion(): bigint {
    return this.u64(this.at + V9Account.writeVersion);
  }

  override copy(): AccountCopy {
    return {
      kind: "account",
      ...this.delivery(),
      pubkey: this.copySpan(this.at + V9Account.pubkey, ADDRESS_SIZE),
      owner: this.copySpan(this.at + V9Account.owner, ADDRESS_SIZE),
      lamports: this.lamports,
      rentEpoch: this.rentEpoch,
      slot: this.slot,
      bankId: this.bankId,
      writeVersion: this.writeVersion,
      executable: this.executable,
      startup: this.startup,
      signature: undefined,
      data: this.data.slice(),
    };
  }
}

class V9TransactionView extends TransactionView {
  declare protected readonly memory: V9Memory;

  override get sequence(): bigint {
    return BigInt(this.memory.position);
  }
  override get sequenceNumber(): number {
    return this.memory.position;
  }
  override get publishNs(): bigint {
    return this.u64(this.at + CREATED_NS);
  }
  override get sourceNs(): bigint {
    return 0n;
  }
  override get ageUs(): number {
    return ageUs(this.memory, this.number64(this.at + CREATED_NS));
  }
  override get lost(): number {
    return 0;
  }
  override get conflated(): number {
    return 0;
  }

  override get slot(): bigint {
    return this.u64(this.at + V9Transaction.slot);
  }
  override get slotNumber(): number {
    return this.number64(this.at + V9Transaction.slot);
  }
  override get bankId(): bigint {
    return 0n;
  }
  override get index(): number {
    return this.memory.data.getUint32(this.at + V9Transaction.index, true);
  }
  override get signature(): ReadonlyUint8Array {
    return this.span(this.at + V9Transaction.signature, SIGNATURE_SIZE);
  }

  override copy(): TransactionCopy {
    return {
      kind: "transaction",
      ...this.delivery(),
      slot: this.slot,
      bankId: this.bankId,
      index: this.index,
      vote: this.vote,
      failed: this.failed,
      signature: this.copySpan(this.at + V9Transaction.signature, SIGNATURE_SIZE),
      message: this.message.slice(),
      meta: undefined,
    };
  }
}

class V9SlotView extends SlotView {
  declare protected readonly memory: V9Memory;

  override get sequence(): bigint {
    return BigInt(this.memory.position);
  }
  override get sequenceNumber(): number {
    return this.memory.position;
  }
  override get publishNs(): bigint {
    return this.u64(this.at + CREATED_NS);
  }
  override get sourceNs(): bigint {
    return 0n;
  }
  override get ageUs(): number {
    return ageUs(this.memory, this.number64(this.at + CREATED_NS));
  }
  override get lost(): number {
    return 0;
  }
  override get conflated(): number {
    return 0;
  }

  override get slot(): bigint {
    return this.u64(this.at + V9Slot.slot);
  }
  override get slotNumber(): number {
    return this.number64(this.at + V9Slot.slot);
  }
  override get parent(): bigint {
    return 0n;
  }
  override get bankId(): bigint {
    return 0n;
  }
  override get status(): SlotStatus {
    return "processed";
  }
  override get accountsPublished(): number {
    return 0;
  }
  override get transactionsPublished(): number {
    return 0;
  }
  override get accountsLost(): number {
    return 0;
  }
  override get transactionsLost(): number {
    return 0;
  }
}

/** One view of each kind, bound to a record at a time. */
export class V9Views implements FrameViews {
  readonly #memory: V9Memory;
  readonly #account: V9AccountView;
  readonly #transaction: V9TransactionView;
  readonly #slot: V9SlotView;

  constructor(memory: RingMemory) {
    this.#memory = { ...memory, position: 0 };
    this.#account = new V9AccountView(this.#memory);
    this.#transaction = new V9TransactionView(this.#memory);
    this.#slot = new V9SlotView(this.#memory);
  }

  /** Bytes of the ring before the next record. */
  set position(value: number) {
    this.#memory.position = value;
  }

  at(records: Uint32Array, index: number): UpdateView | undefined {
    this.#memory.position += frameSize(records, index);
    const view = this.#of(records[index * RECORD_WORDS + KIND]!);
    view?.bind(records, index);
    return view;
  }

  /** Version 9 tells of no loss. */
  lostBefore(): number {
    return 0;
  }

  #of(kind: number): UpdateView | undefined {
    switch (kind) {
      case FrameKind.account:
        return this.#account;
      case FrameKind.transaction:
        return this.#transaction;
      case FrameKind.slot:
        return this.#slot;
      default:
        return undefined;
    }
  }
}
