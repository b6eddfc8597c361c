/**
 * Frames of accounts as a ring holds them, and views of them, without a ring.
 * May touch: src/wire/encoder.ts, src/stream/view.ts.
 *
 * @module
 */

import {
  FRAME_FLAG_RESTORED,
  FRAME_FLAG_STATE,
  FrameHeader,
  FrameKind,
  LeftBody,
  PollRecord,
  SIGNATURE_SIZE,
  SnapshotCompleteBody,
} from "../../../src/native/abi.generated.ts";
import { AccountView, LeftView, SnapshotCompleteView, WithdrawnView } from "../../../src/stream/view.ts";
import type { AccountUpdate } from "../../../src/types.ts";
import { FrameEncoder } from "../../../src/wire/encoder.ts";

const RING_BYTES = 1 << 20;
const encoder = new FrameEncoder();

/** What a sender adds. */
export interface FrameFields {
  readonly mask?: bigint;
  readonly sequence?: bigint;
  readonly isState?: boolean;
  readonly isRestored?: boolean;
  readonly lost?: number;
  readonly conflated?: number;
}

/** A memory that frames are put into one behind the other, from its start again when it is full, as in a ring. */
export class FrameMemory {
  readonly bytes = new Uint8Array(RING_BYTES);
  readonly data = new DataView(this.bytes.buffer);
  readonly clockUs = (): number => 1_000_000;
  readonly #record = new Uint32Array(PollRecord.size / 4);
  #at = 0;

  account(update: AccountUpdate, fields: FrameFields = {}): AccountView {
    encoder.account(update);
    const { head, headLength, tail } = encoder;
    const at = this.#place(headLength + tail.length);
    this.bytes.set(head.subarray(0, headLength), at);
    this.bytes.set(tail, at + headLength);
    const flags = this.data.getUint16(at + FrameHeader.flags, true) | (fields.isState === true ? FRAME_FLAG_STATE : 0) |
      (fields.isRestored === true ? FRAME_FLAG_RESTORED : 0);
    const signatureLength = update.signature === undefined ? 0 : SIGNATURE_SIZE;
    return this.#bind(new AccountView(this), FrameKind.account, flags, at, fields, {
      payloadOffset: at + headLength,
      payloadLength: tail.length,
      extraOffset: at + headLength - signatureLength,
      extraLength: signatureLength,
    });
  }

  left(pubkey: Uint8Array, fields: FrameFields, slot = 0n): LeftView {
    const at = this.#place(FrameHeader.size + LeftBody.size);
    this.bytes.set(pubkey, at + FrameHeader.size + LeftBody.pubkey);
    this.data.setBigUint64(at + FrameHeader.size + LeftBody.slot, slot, true);
    return this.#bind(new LeftView(this), FrameKind.left, 0, at, fields);
  }

  withdrawn(pubkey: Uint8Array, fields: FrameFields = {}): WithdrawnView {
    const at = this.#place(FrameHeader.size + LeftBody.size);
    this.bytes.set(pubkey, at + FrameHeader.size + LeftBody.pubkey);
    return this.#bind(new WithdrawnView(this), FrameKind.withdrawn, 0, at, fields);
  }

  snapshotComplete(
    bit: number,
    generation: number,
    counts: { readonly unknownKeys?: number; readonly evicted?: number; readonly isCut?: boolean } = {},
    fields: FrameFields = {},
  ): SnapshotCompleteView {
    const at = this.#place(FrameHeader.size + SnapshotCompleteBody.size);
    const body = at + FrameHeader.size;
    this.data.setUint32(body + SnapshotCompleteBody.generation, generation, true);
    this.data.setBigUint64(body + SnapshotCompleteBody.unknownKeys, BigInt(counts.unknownKeys ?? 0), true);
    this.data.setBigUint64(body + SnapshotCompleteBody.evicted, BigInt(counts.evicted ?? 0), true);
    this.data.setUint32(body + SnapshotCompleteBody.isCut, counts.isCut === true ? 1 : 0, true);
    return this.#bind(new SnapshotCompleteView(this), FrameKind.snapshotComplete, 0, at, {
      ...fields,
      mask: 1n << BigInt(bit),
    });
  }

  #place(bytes: number): number {
    const size = Math.ceil(bytes / 8) * 8;
    if (this.#at + size > RING_BYTES) this.#at = 0;
    const at = this.#at;
    this.bytes.fill(0, at, at + size);
    this.#at += size;
    return at;
  }

  #bind<View extends { bind(records: Uint32Array, index: number): void }>(
    view: View,
    kind: number,
    flags: number,
    at: number,
    { mask = 1n, sequence = 1n, lost = 0, conflated = 0 }: FrameFields,
    parts: Partial<Record<"payloadOffset" | "payloadLength" | "extraOffset" | "extraLength", number>> = {},
  ): View {
    this.data.setBigUint64(at + FrameHeader.filterMask, mask, true);
    this.data.setBigUint64(at + FrameHeader.sequence, sequence, true);
    this.data.setUint32(at + FrameHeader.conflated, conflated, true);
    const record = this.#record;
    record[PollRecord.frameOffset / 4] = at;
    record[PollRecord.kind / 4] = kind | flags << 16;
    record[PollRecord.lost / 4] = lost;
    record[PollRecord.payloadOffset / 4] = parts.payloadOffset ?? 0;
    record[PollRecord.payloadLength / 4] = parts.payloadLength ?? 0;
    record[PollRecord.extraOffset / 4] = parts.extraOffset ?? 0;
    record[PollRecord.extraLength / 4] = parts.extraLength ?? 0;
    view.bind(record, 0);
    return view;
  }
}
