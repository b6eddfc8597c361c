/**
 * What all views of frames share: a place in a ring, and what its header says.
 * May touch: the ring's bytes, through the records that the native library checked.
 * May not touch: lengths in shared memory. Every offset and length used here comes from a record.
 *
 * @module
 */

import { FRAME_FLAG_LOSSY, FrameHeader } from "../native/abi.generated.ts";
import type { ReadonlyUint8Array } from "../types.ts";
import type { Delivery } from "./copies.ts";
import { FLAGS_SHIFT, KIND_AND_FLAGS, LOST, RECORD_WORDS } from "./records.ts";

/** 2^32: what the upper half of a u64 counts. */
export const HIGH_WORD = 4294967296;
/** No body without a payload is longer. */
const BARE_BODY_MAX = 1024;
/** Where no filter is asked for. */
export const NO_NAMES: readonly string[] = Object.freeze([]);

/** What the bits of masks stand for. */
export interface FilterLists {
  /** The names in a mask, by their bits. @param frame Where the mask stands. */
  in(low: number, high: number, frame: { readonly sequence: bigint }): readonly string[];
}
/** The bytes of one ring as seen by its views. */
export interface RingMemory {
  /** Both mappings of the ring, and behind them the pool, if there is one and any payload was in it. */
  readonly bytes: Uint8Array;
  readonly data: DataView;
  /** What the bits of masks stand for. */
  readonly filters?: FilterLists | undefined;
  /** What generations are counted from: those of this consumer's connections before. */
  readonly generationBase?: number | undefined;
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

  /** Bytes of the frame with all of its payload, also where that lies in the pool: what `writeFrame` writes. @internal */
  frameLength(): number {
    return FrameHeader.size + this.headLength() + this.tailLength();
  }
  /** Bytes of that which stand before the payload. @internal */
  frameHeadLength(): number {
    return FrameHeader.size + this.headLength();
  }
  /**
   * Writes the frame as it would stand in a ring without a pool (docs/protocol.md), for recordings. Lengths are those that
   * were checked.
   * @internal
   */
  writeFrame(out: Uint8Array, at: number): void {
    const { bytes } = this.memory;
    const head = FrameHeader.size + this.headLength();
    const tail = this.tailLength();
    out.set(bytes.subarray(this.at, this.at + head), at);
    if (tail > 0) out.set(bytes.subarray(this.tailAt(), this.tailAt() + tail), at + head);
    const view = new DataView(out.buffer, out.byteOffset + at, FrameHeader.size);
    view.setUint32(FrameHeader.length, head + tail, true);
    view.setUint16(FrameHeader.flags, this.flags, true);
    view.setUint32(FrameHeader.lost, this.#lost, true);
    view.setUint32(FrameHeader.poolBlock, 0, true);
    view.setUint32(FrameHeader.poolGeneration, 0, true);
    view.setUint32(FrameHeader.bodyLength, head + tail - FrameHeader.size, true);
  }
  /** Bytes of the body that stand in the ring in any case. @internal */
  protected headLength(): number {
    // Of a kind without a payload that is the whole body. The word is the sender's, hence the bound.
    return Math.min(this.memory.data.getUint32(this.at + FrameHeader.bodyLength, true), BARE_BODY_MAX);
  }
  /** Where the rest of the frame is, and how long. @internal */
  protected tailAt(): number {
    return 0;
  }
  /** @internal */
  protected tailLength(): number {
    return 0;
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
