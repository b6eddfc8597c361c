/**
 * Reads one ring: asks the native library for a batch of records, hands out one view at a time, gives the room back.
 * May touch: one consumer ring. May not touch: links, waiting.
 * Lifetime of a view: until `advance` or `poll` is called again, which is when its bytes may be given back.
 *
 * @module
 */

import {
  EndReason as WireReason,
  FRAME_ALIGN,
  FrameKind,
  PollRecord,
  RingInfo,
  Status,
} from "../native/abi.generated.ts";
import type { Native } from "../native/native.ts";
import type { EndReason } from "../types.ts";
import { frameSize, type UpdateView, Views } from "./view.ts";

/** Frames per native call: enough that the call's cost vanishes, few enough that room comes back soon. */
export const BATCH_MAX = 256;
const RECORD_WORDS = PollRecord.size / 4;

const REASON_OF_WIRE: Partial<Record<number, EndReason>> = {
  [WireReason.senderClosed]: "sender-closed",
  [WireReason.slowConsumer]: "slow-consumer",
  [WireReason.peerCorrupt]: "peer-corrupt",
};

/** The consumer's end of a ring. */
export class RingReader {
  readonly #native: Native;
  readonly #ring: number;
  readonly #memory: ArrayBuffer;
  readonly #capacity: number;
  readonly #views: Views;
  readonly #records = new Uint32Array(BATCH_MAX * RECORD_WORDS);
  readonly #info = new Float64Array(RingInfo.size / 8);
  #count = 0;
  #index = 0;
  /** Bytes of the frames that were handed out and not given back. */
  #readBytes = 0;
  #end: EndReason | undefined;
  #isClosed = false;

  frames = 0;
  bytes = 0;
  lost = 0;

  constructor(native: Native, ring: number, capacityBytes: number) {
    this.#native = native;
    this.#ring = ring;
    this.#capacity = capacityBytes;
    this.#memory = native.memory(native.ringAddress(ring), 2 * capacityBytes);
    this.#views = new Views({
      bytes: new Uint8Array(this.#memory),
      data: new DataView(this.#memory),
      clockUs: native.clockUs,
    });
  }

  /** Why nothing will follow, once everything before it was handed out. */
  get end(): EndReason | undefined {
    return this.#index < this.#count ? undefined : this.#end;
  }

  /** Frames that are ready without another native call. */
  get ready(): number {
    return this.#count - this.#index;
  }

  /** Whether bytes that were handed out may still be looked at. */
  get isHeld(): boolean {
    return this.#readBytes > 0;
  }

  /** The next update, or undefined if there is none now. Voids the view handed out before. */
  advance(): UpdateView | undefined {
    if (this.#isClosed) return undefined;
    while (true) {
      if (this.#index === this.#count && !this.refill()) return undefined;
      // Room for large frames goes back before the batch is over.
      if (this.#readBytes >= this.#capacity / 8) this.release();
      const index = this.#index++;
      const size = frameSize(this.#records, index);
      this.#readBytes += size;
      const view = this.#views.at(this.#records, index);
      if (view === undefined) {
        this.#onMark(index);
        continue;
      }
      this.frames++;
      this.bytes += size;
      this.lost += view.lost;
      return view;
    }
  }

  /** Asks for the next batch. False if there is none; then `end` may say why. */
  refill(): boolean {
    if (this.#isClosed || this.#end !== undefined) return false;
    this.release();
    let count = this.#native.ringPoll(this.#ring, this.#records, BATCH_MAX);
    if (count === 1 && this.#records[PollRecord.kind / 4] === FrameKind.goodbye) {
      // Alone it is nothing to read: what counts is the end behind it.
      this.#native.ringRelease(this.#ring, frameSize(this.#records, 0));
      count = this.#native.ringPoll(this.#ring, this.#records, BATCH_MAX);
    }
    this.#index = 0;
    this.#count = Math.max(0, count);
    if (count >= 0) return count > 0;
    this.#end = count === Status.endOfStream ? this.#closingReason() : "peer-corrupt";
    return false;
  }

  /** Gives back what was handed out. */
  release(): void {
    if (this.#readBytes === 0) return;
    this.#native.ringRelease(this.#ring, this.#readBytes);
    this.#readBytes = 0;
  }

  #onMark(index: number): void {
    // Only goodbyes have no view; its reason stands in the ring's header too, where it is read once all is drained.
    if (this.#records[index * RECORD_WORDS + 1] !== FrameKind.goodbye) this.#end = "peer-corrupt";
  }

  #closingReason(): EndReason {
    this.#native.ringInfo(this.#ring, this.#info);
    return REASON_OF_WIRE[this.#info[RingInfo.closing / 8]!] ?? "sender-closed";
  }

  /** Bytes between the sender's cursor and ours. */
  get usedBytes(): number {
    if (this.#isClosed) return 0;
    this.#native.ringInfo(this.#ring, this.#info);
    const used = this.#info[RingInfo.producerCursor / 8]! - this.#info[RingInfo.consumerCursor / 8]!;
    // The sender's cursor is its word: shown, not trusted.
    return Math.min(Math.max(0, used), this.#capacity - (this.#capacity % FRAME_ALIGN));
  }

  /** Voids all views, then unmaps. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#count = 0;
    this.#index = 0;
    // A view that somebody kept throws from here on, instead of crashing the process.
    this.#memory.transfer(0);
    this.#native.close(this.#ring);
  }
}
