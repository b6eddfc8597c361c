/**
 * Frames outside of a ring: updates written as frames, and frames of a file read through the same views as live ones.
 * May touch: its own buffers. Frames of a file are input: each is checked before a view is bound to it.
 *
 * @module
 */

import {
  AccountBody,
  ADDRESS_SIZE,
  FRAME_ALIGN,
  FRAME_FLAG_META,
  FRAME_FLAG_SIGNATURE,
  FrameHeader,
  FrameKind,
  PollRecord,
  SIGNATURE_SIZE,
  TransactionBody,
} from "../native/abi.generated.ts";
import type { FilterLists } from "../stream/frame_view.ts";
import type { Update } from "../types.ts";
import { type Delivery, type RingMemory, type UpdateView, Views } from "../stream/view.ts";
import { FrameEncoder } from "../wire/encoder.ts";
import { FRAME_BYTES_MIN } from "./format.ts";

const ALL_FILTERS = 2n ** 64n - 1n;
const LOST_MAX = 0xffffffff;

/** An update that some connection delivered, or one that none has. */
export type UpdateCopy = Update & Partial<Delivery>;

/** Encodes copies: what came over wire version 9, or never was in a ring. One frame at a time. */
export class CopyEncoder {
  readonly #encoder = new FrameEncoder();
  #view: DataView | undefined;

  /** Takes an update. @returns Bytes of its frame. @throws {TypeError} @throws {RangeError} for a field that can't be. */
  encode(update: UpdateCopy): number {
    const encoder = this.#encoder;
    if (update.kind === "account") encoder.account(update);
    else if (update.kind === "transaction") encoder.transaction(update);
    else {
      const { accountsPublished = 0, transactionsPublished = 0, accountsLost = 0, transactionsLost = 0 } =
        update as Partial<import("../types.ts").SlotCounts>;
      encoder.slot(update, { accountsPublished, transactionsPublished, accountsLost, transactionsLost });
    }
    const view = this.#view ??= new DataView(encoder.head.buffer);
    const length = encoder.headLength + encoder.tail.length;
    view.setUint32(FrameHeader.length, length, true);
    view.setBigUint64(FrameHeader.sequence, update.sequence ?? 0n, true);
    view.setBigUint64(FrameHeader.publishNs, update.publishNs ?? 0n, true);
    view.setBigUint64(FrameHeader.filterMask, ALL_FILTERS, true);
    view.setUint32(FrameHeader.lost, Math.min(update.lost ?? 0, LOST_MAX), true);
    view.setUint32(FrameHeader.conflated, Math.min(update.conflated ?? 0, LOST_MAX), true);
    view.setUint32(FrameHeader.poolBlock, 0, true);
    view.setUint32(FrameHeader.poolGeneration, 0, true);
    view.setUint32(FrameHeader.bodyLength, length - FrameHeader.size, true);
    view.setUint32(FrameHeader.ordinal, 0, true);
    return length;
  }

  /** Writes the frame that was encoded last. */
  write(out: Uint8Array, at: number): void {
    const { head, headLength, tail } = this.#encoder;
    out.set(head.subarray(0, headLength), at);
    out.set(tail, at + headLength);
  }
}

/** Gives frames that are not in a ring their views. One at a time: a view is valid until the next. */
export class FrameReader {
  readonly #records = new Uint32Array(PollRecord.size / 4);
  readonly #memory: { -readonly [Key in keyof RingMemory]: RingMemory[Key] };
  readonly #views: Views;

  /**
   * @param clockUs What `ageUs` of the views counts from.
   * @param filters What the masks mean; else they have no names.
   */
  constructor(clockUs: () => number, filters?: FilterLists) {
    const bytes = new Uint8Array(0);
    this.#memory = { bytes, data: new DataView(bytes.buffer), clockUs, filters };
    this.#views = new Views(this.#memory);
  }

  /**
   * The view of a frame.
   * @returns Undefined for a kind that this version does not know, or that has no view.
   * @throws {RangeError} if its lengths contradict each other.
   */
  read(frame: Uint8Array): UpdateView | undefined {
    const { bytes, buffer, byteOffset } = { bytes: frame, buffer: frame.buffer, byteOffset: frame.byteOffset };
    const data = new DataView(buffer, byteOffset, frame.length);
    const known = this.#check(data);
    if (!known) return undefined;
    this.#memory.bytes = bytes;
    this.#memory.data = data;
    return this.#views.at(this.#records, 0);
  }

  /** Fills the record, as the native library does for a frame in a ring. */
  #check(data: DataView): boolean {
    const length = data.byteLength;
    if (length < FrameHeader.size) throw new RangeError(`a frame has ${length} bytes, less than its header`);
    if (data.getUint32(FrameHeader.length, true) !== length) throw new RangeError("a frame's length is not its own");
    const kind = data.getUint16(FrameHeader.kind, true);
    const flags = data.getUint16(FrameHeader.flags, true);
    const bytesMin = FRAME_BYTES_MIN[kind];
    if (bytesMin === undefined) return false;
    if (length < bytesMin) throw new RangeError(`a frame of kind ${kind} has ${length} bytes, less than ${bytesMin}`);
    if (data.getUint32(FrameHeader.poolGeneration, true) !== 0) throw new RangeError("a frame refers to a pool");
    let [payloadOffset, payloadLength, extraOffset, extraLength] = [0, 0, 0, 0];
    let end = bytesMin;
    if (kind === FrameKind.account) {
      extraOffset = bytesMin;
      extraLength = (flags & FRAME_FLAG_SIGNATURE) === 0 ? 0 : SIGNATURE_SIZE;
      payloadOffset = extraOffset + extraLength;
      payloadLength = data.getUint32(FrameHeader.size + AccountBody.dataLength, true);
      end = payloadOffset + payloadLength;
    } else if (kind === FrameKind.transaction) {
      payloadOffset = bytesMin;
      payloadLength = data.getUint32(FrameHeader.size + TransactionBody.messageLength, true);
      extraLength = data.getUint32(FrameHeader.size + TransactionBody.metaLength, true);
      const loadedCount = data.getUint16(FrameHeader.size + TransactionBody.loadedWritableCount, true) +
        data.getUint16(FrameHeader.size + TransactionBody.loadedReadonlyCount, true);
      const hasMeta = (flags & FRAME_FLAG_META) !== 0;
      if (!hasMeta && extraLength > 0) throw new RangeError("a frame has a meta and says that it has none");
      // As zig/transaction.zig: what follows the message is aligned.
      extraOffset = payloadOffset + payloadLength;
      if (hasMeta || loadedCount > 0) extraOffset = Math.ceil(extraOffset / FRAME_ALIGN) * FRAME_ALIGN;
      extraOffset += ADDRESS_SIZE * loadedCount;
      end = extraOffset + extraLength;
    } else {
      end = length; // a newer version may say more
    }
    if (end !== length) throw new RangeError(`a frame of kind ${kind} has ${length} bytes, its parts ${end}`);
    const records = this.#records;
    records[PollRecord.frameOffset / 4] = 0;
    records[PollRecord.kind / 4] = kind | flags << 16;
    records[PollRecord.ringBytes / 4] = length;
    records[PollRecord.lost / 4] = data.getUint32(FrameHeader.lost, true);
    records[PollRecord.payloadOffset / 4] = payloadOffset;
    records[PollRecord.payloadLength / 4] = payloadLength;
    records[PollRecord.extraOffset / 4] = extraOffset;
    records[PollRecord.extraLength / 4] = extraLength;
    return true;
  }
}
