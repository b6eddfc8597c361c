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
  FRAME_FLAG_SIGNATURE,
  FrameHeader,
  FrameKind,
  SIGNATURE_SIZE,
  V9Account,
  V9Slot,
  V9Transaction,
} from "../native/abi.generated.ts";
import { FrameEncoder } from "../wire/encoder.ts";
import { type FrameView, NO_NAMES } from "../stream/frame_view.ts";
import {
  type AccountCopy,
  type AccountPlace,
  AccountView,
  frameKind,
  frameSize,
  type FrameViews,
  NO_ADDRESSES,
  type RingMemory,
  type RingView,
  slotOffsets,
  SlotView,
  type TransactionCopy,
  TransactionView,
} from "../stream/view.ts";
import type { LoadedAddresses, ReadonlyUint8Array, SlotStatus } from "../types.ts";

/** The same place in all three kinds of frames. */
const CREATED_NS = V9Slot.createdNs;
const SLOT_OFFSETS = slotOffsets({
  [FrameKind.account]: V9Account.slot,
  [FrameKind.transaction]: V9Transaction.slot,
  [FrameKind.slot]: V9Slot.slot,
});

const encoder = new FrameEncoder();

function accountFrame(copy: AccountCopy): FrameEncoder {
  encoder.account(copy);
  return encoder;
}

/** There are subscriptions, and no other filters. */
const SUBSCRIBED = 1n;
const SUBSCRIBED_NAMES: readonly string[] = Object.freeze([""]);
const ALL_FILTERS = 2n ** 64n - 1n;

/** What the frames of one ring share. */
interface V9Memory extends RingMemory {
  /** Bytes of the ring up to the end of the frame at hand. */
  position: number;
}

// deno-lint-ignore no-explicit-any -- TypeScript wants just these parameters of what a class is mixed into
type FrameViewClass = abstract new (...parameters: any[]) => FrameView;

/**
 * What version 9 says of every frame, whatever its kind: when it was encoded, and little else. `at` of the base class is
 * where the frame's version byte stands: offsets count from there.
 */
function withV9Header<Base extends FrameViewClass>(Base: Base) {
  abstract class V9View extends Base {
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
      return this.memory.clockUs() - this.number64(this.at + CREATED_NS) / 1000;
    }
    override get lost(): number {
      return 0;
    }
    override get conflated(): number {
      return 0;
    }
    override get filterMask(): bigint {
      return SUBSCRIBED;
    }
    override get filters(): readonly string[] {
      return SUBSCRIBED_NAMES;
    }
  }
  return V9View;
}

class V9AccountView extends withV9Header(AccountView) {
  /**
   * As a native frame, which is made for it.
   * @internal
   */
  override locate(place: AccountPlace): void {
    const { head, headLength, tail } = accountFrame(this.copy());
    const bytes = new Uint8Array(Math.ceil((headLength + tail.length) / 8) * 8);
    bytes.set(head.subarray(0, headLength));
    bytes.set(tail, headLength);
    const data = new DataView(bytes.buffer);
    data.setBigUint64(FrameHeader.publishNs, this.publishNs, true);
    data.setBigUint64(FrameHeader.filterMask, SUBSCRIBED, true);
    place.memory = { bytes, data, filters: this.memory.filters, clockUs: this.memory.clockUs };
    place.at = 0;
    place.flags = this.flags & ~FRAME_FLAG_SIGNATURE;
    place.dataAt = headLength;
    place.dataLength = tail.length;
    place.signatureAt = 0;
    place.signatureLength = 0;
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
  override get sourceEpoch(): number {
    return 0;
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
      sourceEpoch: 0,
      fullLength: this.dataLength,
      isState: false,
      isRestored: false,
      filters: SUBSCRIBED_NAMES,
      data: this.data.slice(),
    };
  }
}

class V9TransactionView extends withV9Header(TransactionView) {
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
  override get loadedAddresses(): LoadedAddresses<ReadonlyUint8Array> {
    return NO_ADDRESSES;
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
      filters: SUBSCRIBED_NAMES,
      signature: this.copySpan(this.at + V9Transaction.signature, SIGNATURE_SIZE),
      message: this.message.slice(),
      meta: undefined,
      loadedAddresses: NO_ADDRESSES,
    };
  }
}

class V9SlotView extends withV9Header(SlotView) {
  override get filterMask(): bigint {
    return ALL_FILTERS;
  }
  override get filters(): readonly string[] {
    return NO_NAMES;
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
  readonly publishOffset: number = CREATED_NS;
  readonly sequenceOffset: number = -1;
  readonly slotOffsets: Int32Array = SLOT_OFFSETS;
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
  get position(): number {
    return this.#memory.position;
  }
  set position(value: number) {
    this.#memory.position = value;
  }

  at(records: Uint32Array, index: number): RingView | undefined {
    this.#memory.position += frameSize(records, index);
    const view = this.#of(frameKind(records, index));
    view?.bind(records, index);
    return view;
  }

  #of(kind: number): RingView | undefined {
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
