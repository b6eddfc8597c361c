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
import { frameSize, type FrameViews, type RingMemory, type UpdateView, Views } from "./view.ts";

/** Frames per native call: enough that the call's cost vanishes, few enough that room comes back soon. */
export const BATCH_MAX = 256;
const RECORD_WORDS = PollRecord.size / 4;

const REASON_OF_WIRE: Partial<Record<number, EndReason>> = {
  [WireReason.senderClosed]: "sender-closed",
  [WireReason.slowConsumer]: "slow-consumer",
  [WireReason.peerCorrupt]: "peer-corrupt",
};

/** How long the addresses of a closed ring stay taken, and of how many at most. */
const RETIRED_MS = 30_000;
const RETIRED_MAX = 64;
const retired: (() => void)[] = [];

/** Frees a ring's addresses when nothing that began while its views were valid can still be reading. */
function closeLater(native: Native, ring: number): void {
  const close = () => {
    clearTimeout(timer);
    const at = retired.indexOf(close);
    if (at >= 0) retired.splice(at, 1);
    native.close(ring);
  };
  const timer = setTimeout(close, RETIRED_MS);
  (timer as unknown as { unref?: () => void }).unref?.();
  retired.push(close);
  if (retired.length > RETIRED_MAX) retired[0]!();
}

/** How a ring's bytes are seen. */
export interface RingLayout {
  /** Bytes at the ring's address. */
  readonly memoryBytes: number;
  createViews(memory: RingMemory): FrameViews;
}

/** The consumer's end of a ring. ../v9/reader.ts is one of wire version 9. */
export class RingReader {
  readonly #native: Native;
  readonly #ring: number;
  readonly #memory: ArrayBuffer;
  readonly #capacity: number;
  readonly #views: FrameViews;
  readonly #records = new Uint32Array(BATCH_MAX * RECORD_WORDS);
  readonly #info = new Float64Array(RingInfo.size / 8);
  #count = 0;
  #index = 0;
  /** Bytes of the frames that were handed out and not given back. */
  #readBytes = 0;
  #end: EndReason | undefined;
  /** A goodbye was read: nothing may follow it. */
  #hasGoodbye = false;
  /** Where reading ends: what is published by then, once the sender is not to be listened to any longer. */
  #endPosition = Infinity;
  #isClosed = false;

  frames = 0;
  bytes = 0;
  lost = 0;
  /** Nothing will follow, and `end` is not known yet: whoever waits must not wait for the ring. */
  isOver = false;
  /** The last look found nothing, but did not see all: what comes next is worth a turn of the event loop, and no sleep. */
  isCut = false;

  /** @param layout Of a ring that is not this library's own. */
  constructor(native: Native, ring: number, capacityBytes: number, layout?: RingLayout) {
    this.#native = native;
    this.#ring = ring;
    this.#capacity = capacityBytes;
    this.#memory = native.memory(native.ringAddress(ring), layout?.memoryBytes ?? 2 * capacityBytes);
    const memory = {
      bytes: new Uint8Array(this.#memory),
      data: new DataView(this.#memory),
      clockUs: native.clockUs,
    };
    this.#views = layout?.createViews(memory) ?? new Views(memory);
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
      if (this.#hasGoodbye) return this.#stop("peer-corrupt");
      const index = this.#index++;
      const size = frameSize(this.#records, index);
      this.#readBytes += size;
      const view = this.#views.at(this.#records, index);
      if (view === undefined) {
        this.#onGoodbye(index);
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
    this.isCut = false;
    this.release();
    if (this.#endPosition < Infinity && this.#position >= this.#endPosition) {
      this.#end = this.announcedEnd; // the sender may have said why before it went
      return false;
    }
    let count = this.#native.ringPoll(this.#ring, this.#records, BATCH_MAX);
    if (count === 1 && this.#records[PollRecord.kind / 4] === FrameKind.goodbye && !this.#hasGoodbye) {
      // Alone it is nothing to read: what counts is the end behind it.
      this.#onGoodbye(0);
      this.#native.ringRelease(this.#ring, frameSize(this.#records, 0));
      count = this.#native.ringPoll(this.#ring, this.#records, BATCH_MAX);
    }
    this.#index = 0;
    this.#count = Math.max(0, count);
    if (count >= 0) return count > 0;
    if (count === Status.wouldBlock) {
      this.isCut = true;
      return false;
    }
    this.#end = count === Status.endOfStream ? this.onEndOfStream() : "peer-corrupt";
    return false;
  }

  /** All has been handed out. Why nothing follows, if that is known. */
  protected onEndOfStream(): EndReason | undefined {
    return this.announcedEnd ?? "sender-closed";
  }

  /** Lets what has been published be read, and nothing that comes from now on. */
  freeze(): void {
    if (this.#endPosition === Infinity) this.#endPosition = this.usedBytes + this.#position;
  }

  /** Why the sender says that it has ended, whether or not everything has been read; undefined while it goes on. */
  get announcedEnd(): EndReason | undefined {
    if (this.#isClosed) return this.#end;
    this.#native.ringInfo(this.#ring, this.#info);
    const closing = this.#info[RingInfo.closing / 8]!;
    return closing === 0 ? undefined : REASON_OF_WIRE[closing] ?? "sender-closed";
  }

  #stop(reason: EndReason): undefined {
    this.#end = reason;
    this.#index = this.#count;
    return undefined;
  }

  /** Gives back what was handed out. */
  release(): void {
    if (this.#readBytes === 0) return;
    this.#native.ringRelease(this.#ring, this.#readBytes);
    this.#readBytes = 0;
  }

  /** The one kind without a view. Its reason stands in the ring's header too, where it is read once all is drained. */
  #onGoodbye(index: number): void {
    this.#hasGoodbye = true;
    this.lost += this.#views.lostBefore(this.#records, index);
  }

  /** Frames that could not be decoded, and were left out: a sender of this library's own protocol writes none. */
  get undecodable(): number {
    return 0;
  }

  /** Bytes between the sender's cursor and ours. */
  get usedBytes(): number {
    if (this.#isClosed) return 0;
    this.#native.ringInfo(this.#ring, this.#info);
    const used = this.#info[RingInfo.producerCursor / 8]! - this.#info[RingInfo.consumerCursor / 8]!;
    // The sender's cursor is its word: shown, not trusted.
    return Math.min(Math.max(0, used), this.#capacity - (this.#capacity % FRAME_ALIGN));
  }

  /** Bytes that were ever given back. */
  get #position(): number {
    this.#native.ringInfo(this.#ring, this.#info);
    return this.#info[RingInfo.consumerCursor / 8]!;
  }

  protected get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Voids all views and lets the shared memory go. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#count = 0;
    this.#index = 0;
    // A view that somebody kept throws from here on, instead of crashing the process. What a runtime does in the
    // background with bytes of a view that was still valid reads zeros.
    this.#memory.transfer(0);
    this.#native.ringRetire(this.#ring);
    closeLater(this.#native, this.#ring);
  }
}
