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
import type { Backlog, EndReason } from "../types.ts";
import type { FilterNames } from "./filter_names.ts";
import {
  anyReaches,
  frameKind,
  frameLost,
  frameOffset,
  frameSize,
  type FrameViews,
  type ResumedCopy,
  type RingMemory,
  type RingView,
  type SnapshotCompleteView,
  Views,
} from "./view.ts";

/** Frames per native call: enough that the call's cost vanishes, few enough that room comes back soon. */
export const BATCH_MAX = 256;
/** Batches of nothing but marks that one `advance` goes through: a few hundred microseconds. */
const LOOKS_MAX = 16;
const RECORD_WORDS = PollRecord.size / 4;
const NO_RECORDS = new Uint32Array(0);
/** What any of them was told of its ring last. */
const ringInfo = new Float64Array(RingInfo.size / 8);
/** A reader that waits has no records: one that looks takes these, and gives them back if it finds nothing. */
let spareRecords: Uint32Array | undefined;

const REASON_OF_WIRE: Partial<Record<number, EndReason>> = {
  [WireReason.senderClosed]: "sender-closed",
  [WireReason.slowConsumer]: "slow-consumer",
  [WireReason.peerCorrupt]: "peer-corrupt",
  [WireReason.handedOver]: "handed-over",
};

/** How long the addresses of a closed ring stay taken, and of how many at most. */
const RETIRED_MS = 30_000;
const RETIRED_MAX = 64;
/** Each frees one, and says whether it could. */
const retired: (() => boolean)[] = [];

/**
 * Frees a ring's addresses when nothing that began while its views were valid can still be reading: here, or in a Worker that
 * has not let go.
 */
function closeLater(native: Native, ring: number, isHeld: () => boolean): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const close = () => {
    clearTimeout(timer);
    if (isHeld()) {
      wait();
      return false;
    }
    const at = retired.indexOf(close);
    if (at >= 0) retired.splice(at, 1);
    native.close(ring);
    return true;
  };
  const wait = () => {
    timer = setTimeout(close, RETIRED_MS);
    (timer as unknown as { unref?: () => void }).unref?.();
  };
  wait();
  retired.push(close);
  if (retired.length > RETIRED_MAX) retired.find((close) => close());
}

/** How a ring's bytes are seen. */
export interface RingLayout {
  /** Bytes at the ring's address: both mappings of it, and the pool behind them. Default: no pool. */
  readonly memoryBytes?: number;
  /** Those of them that are the pool. Default: all behind the mappings. */
  readonly poolBytes?: number;
  /** What the bits of masks stand for. */
  readonly filters?: FilterNames;
  /** What generations are counted from. Default 0. */
  readonly generationBase?: number;
  /** Whether marks of filter edits are handed out. */
  readonly hasMarks?: boolean;
  /** Default: those of this library's own frames. */
  createViews?(memory: RingMemory): FrameViews;
}

const NOTHING: Backlog = Object.freeze({ bytes: 0, frames: 0, ageUs: 0 });
const HIGH_WORD = 4294967296;

/** Marks have no place in the order of updates. */
function isUpdate(kind: number): boolean {
  return kind === FrameKind.account || kind === FrameKind.transaction || kind === FrameKind.slot ||
    kind === FrameKind.left || kind === FrameKind.rollback || kind === FrameKind.withdrawn;
}

/** The consumer's end of a ring. ../v9/reader.ts is one of wire version 9. */
export class RingReader {
  readonly #native: Native;
  readonly #ring: number;
  /** Bytes that are mapped at the ring's address. */
  readonly memoryBytes: number;
  readonly #capacity: number;
  readonly #memory: { -readonly [Key in keyof RingMemory]: RingMemory[Key] };
  /** What is seen of the mapping: the ring, and from the first payload in the pool on all of it. */
  readonly #buffers: ArrayBuffer[] = [];
  readonly #views: FrameViews;
  readonly #hasMarks: boolean;
  #records: Uint32Array = NO_RECORDS;
  #count = 0;
  #index = 0;
  /** Bytes of the frames that were handed out and not given back. */
  #readBytes = 0;
  #sequence = 0;
  #end: EndReason | undefined;
  /** A goodbye was read: nothing may follow it. */
  #hasGoodbye = false;
  /** Where reading ends: what is published by then, once the sender is not to be listened to any longer. */
  #endPosition = Infinity;
  #isClosed = false;
  #isRevoked = false;
  /** Lower half of the slot that was looked at last. */
  #lastSlotLow = -1;

  /** Whether another thread may still look at the ring's memory. */
  isHeldElsewhere: () => boolean = () => false;
  frames = 0;
  bytes = 0;
  lost = 0;
  /** Those of the lost that newer values replaced. */
  conflated = 0;
  /** Newest slot of the frames that were handed out; -1 before the first that has one. */
  seenSlot = -1;
  /** Edits of the filters that are in force for the frame that was handed out last. */
  filterGeneration: number;
  /** Place that the sender's last words had in its order: all that came before has been handled. 0: it said none, or told of losses. */
  goodbyeSequence = 0;
  /** A resumed connection has caught up, and how; undefined before that, and where there was nothing to resume. */
  resumed: ResumedCopy | undefined;
  /** Called for a snapshot that is complete, as it is handed out. */
  onSnapshot: ((view: SnapshotCompleteView) => void) | undefined;
  /** Called where a resumed connection could not be given all that it had missed; then nothing is handed out by that call. */
  onHole: ((resumed: ResumedCopy) => void) | undefined;
  /** Called where a resumed connection is one to a sender that has taken over from one that had forgotten accounts. */
  onForgotten: ((accounts: number) => void) | undefined;
  /** Nothing will follow, and `end` is not known yet: whoever waits must not wait for the ring. */
  isOver = false;
  /** The last look found nothing to hand out, but did not see all: what comes next is worth a turn of the event loop, and no sleep. */
  isCut = false;

  constructor(native: Native, ring: number, capacityBytes: number, layout: RingLayout = {}) {
    this.#native = native;
    this.#ring = ring;
    this.#capacity = capacityBytes;
    this.memoryBytes = layout.memoryBytes ?? 2 * capacityBytes;
    this.#memory = {
      ...this.#see(layout.poolBytes === undefined ? 2 * capacityBytes : this.memoryBytes - layout.poolBytes),
      filters: layout.filters,
      generationBase: layout.generationBase,
      clockUs: native.clockUs,
    };
    this.#views = layout.createViews?.(this.#memory) ?? new Views(this.#memory);
    this.#hasMarks = layout.hasMarks === true;
    this.filterGeneration = layout.generationBase ?? 0;
  }

  /** The first bytes of the mapping. */
  #see(bytes: number): Pick<RingMemory, "bytes" | "data"> {
    const buffer = this.#native.memory(this.#native.ringAddress(this.#ring), bytes);
    this.#buffers.push(buffer);
    return { bytes: new Uint8Array(buffer), data: new DataView(buffer) };
  }

  /**
   * Makes the pool visible where a record needs it, and not before: V8 takes what an ArrayBuffer shows for memory of its
   * own, and collects garbage for each buffer of the default pool's size, some milliseconds a connection.
   */
  #seePoolIfNeeded(): void {
    const { bytes } = this.#memory;
    if (bytes.length === this.memoryBytes || !anyReaches(this.#records, this.#count, bytes.length)) return;
    Object.assign(this.#memory, this.#see(this.memoryBytes));
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
  advance(): RingView | undefined {
    if (this.#isClosed) return undefined;
    for (let looks = 0;;) {
      if (this.#index === this.#count) {
        // A sender that goes on with marks, which nobody is handed, must not keep us here.
        if (looks++ === LOOKS_MAX) return this.#cut();
        if (!this.refill()) return undefined;
      }
      // Room for large frames goes back before the batch is over.
      if (this.#readBytes >= this.#capacity / 8) {
        this.release();
        if (this.#isRevoked) return undefined;
      }
      if (this.#hasGoodbye) return this.#stop("peer-corrupt");
      const index = this.#index++;
      const size = frameSize(this.#records, index);
      this.#readBytes += size;
      const view = this.#views.at(this.#records, index);
      if (view === undefined) {
        this.#onGoodbye(index);
        continue;
      }
      this.bytes += size;
      if (view.lost > 0) this.#countLoss(view);
      if (view.kind !== "account") { // most are
        const course = this.#noteMark(view);
        if (course === "skip") continue;
        if (course === "stop") return undefined;
      }
      this.frames++;
      this.#noteSlot(index);
      return view;
    }
  }

  #cut(): undefined {
    this.isCut = true;
    return undefined;
  }

  /** What a mark says to us, and what becomes of it. */
  #noteMark(view: RingView): "hand out" | "skip" | "stop" {
    switch (view.kind) {
      case "filter":
        this.filterGeneration = view.generation;
        break;
      case "resumed":
        this.resumed = view.copy();
        if (view.evicted > 0) this.onForgotten?.(view.evicted);
        // What is missing is said by whoever resumed, before anything that follows.
        if (view.replayedTo < view.liveAfter && this.onHole !== undefined) {
          this.onHole(this.resumed);
          return "stop";
        }
        break;
      case "snapshot-complete":
        this.onSnapshot?.(view);
        return "hand out";
      default:
        return "hand out";
    }
    // A loss that it tells of is handed out all the same: nothing else would.
    return this.#hasMarks || view.lost > 0 ? "hand out" : "skip";
  }

  #countLoss(view: RingView): void {
    this.lost += view.lost;
    this.conflated += Math.min(view.lost, view.conflated); // the latter is the sender's word alone
  }

  #noteSlot(index: number): void {
    const at = this.#views.slotOffsets[frameKind(this.#records, index)]!;
    if (at < 0) return;
    const offset = frameOffset(this.#records, index) + at;
    // Most updates are of the slot of the one before: half of it tells, and slots that differ by 2^32 are not of one chain.
    const low = this.#memory.data.getUint32(offset, true);
    if (low === this.#lastSlotLow) return;
    this.#lastSlotLow = low;
    const slot = this.#number64(offset);
    if (slot > this.seenSlot) this.seenSlot = slot;
  }

  #number64(offset: number): number {
    const { data } = this.#memory;
    return data.getUint32(offset + 4, true) * HIGH_WORD + data.getUint32(offset, true);
  }

  /** Asks for the next batch. False if there is none; then `end` may say why. */
  refill(): boolean {
    if (this.#isClosed || this.#end !== undefined) return false;
    this.isCut = false;
    this.release();
    if (this.#isRevoked) return false;
    if (this.#endPosition < Infinity && this.#position >= this.#endPosition) {
      this.#end = this.announcedEnd; // the sender may have said why before it went
      return false;
    }
    if (this.#records.length === 0) {
      this.#records = spareRecords ?? new Uint32Array(BATCH_MAX * RECORD_WORDS);
      spareRecords = undefined;
    }
    let count = this.#native.ringPoll(this.#ring, this.#records, BATCH_MAX);
    if (count === 1 && frameKind(this.#records, 0) === FrameKind.goodbye && !this.#hasGoodbye) {
      // Alone it is nothing to read: what counts is the end behind it.
      this.#onGoodbye(0);
      this.#native.ringRelease(this.#ring, frameSize(this.#records, 0));
      count = this.#native.ringPoll(this.#ring, this.#records, BATCH_MAX);
    }
    this.#index = 0;
    this.#count = Math.max(0, count);
    if (count > 0) {
      this.#seePoolIfNeeded();
      return true;
    }
    spareRecords ??= this.#records;
    this.#records = NO_RECORDS;
    if (count === 0) return false;
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
    this.#native.ringInfo(this.#ring, ringInfo);
    const closing = ringInfo[RingInfo.closing / 8]!;
    return closing === 0 ? undefined : REASON_OF_WIRE[closing] ?? "sender-closed";
  }

  #stop(reason: EndReason): undefined {
    this.#end = reason;
    this.#index = this.#count;
    return undefined;
  }

  /**
   * Gives back what was handed out. If the sender had let go of us before, bytes of the pool that were looked at may have
   * been overwritten meanwhile (design D5): then this is the end, and `isRevoked` says so.
   */
  release(): void {
    if (this.#readBytes === 0) return;
    this.#sequence = this.lastSequence;
    const status = this.#native.ringRelease(this.#ring, this.#readBytes);
    this.#readBytes = 0;
    if (status !== Status.revoked) return;
    this.#isRevoked = true;
    this.#stop("slow-consumer");
  }

  /**
   * `sequence` of the update that was handed out last, or that a mark repeats: what was before it has been handled. 0 before
   * the first.
   */
  get lastSequence(): number {
    const { sequenceOffset } = this.#views;
    const index = this.#index - (this.#hasGoodbye ? 2 : 1); // nothing was handed out for a goodbye
    if (this.#readBytes === 0 || index < 0 || sequenceOffset < 0) return this.#sequence;
    return this.#number64(frameOffset(this.#records, index) + sequenceOffset);
  }

  /** Whether what was handed out last may not have been what the sender had published. */
  get isRevoked(): boolean {
    return this.#isRevoked;
  }

  /** The one kind without a view. Its reason stands in the ring's header too, where it is read once all is drained. */
  #onGoodbye(index: number): void {
    this.#hasGoodbye = true;
    const { sequenceOffset } = this.#views;
    const lost = frameLost(this.#records, index);
    this.lost += lost;
    if (sequenceOffset < 0 || lost > 0) return;
    this.goodbyeSequence = this.#number64(frameOffset(this.#records, index) + sequenceOffset);
  }

  /** Frames that could not be decoded, and were left out: a sender of this library's own protocol writes none. */
  get undecodable(): number {
    return 0;
  }

  /** Bytes between the sender's cursor and ours. */
  get usedBytes(): number {
    if (this.#isClosed) return 0;
    this.#native.ringInfo(this.#ring, ringInfo);
    const used = ringInfo[RingInfo.producerCursor / 8]! - ringInfo[RingInfo.consumerCursor / 8]!;
    // The sender's cursor is its word: shown, not trusted.
    return Math.min(Math.max(0, used), this.#capacity - (this.#capacity % FRAME_ALIGN));
  }

  /**
   * What the sender has had for us and we have not handed out: in the ring, waiting at the sender, lost and not told of yet.
   * The sender's words: shown, not trusted.
   */
  get backlog(): Backlog {
    if (this.#isClosed) return NOTHING;
    const bytes = Math.max(0, this.usedBytes - this.#readBytes);
    const info = ringInfo;
    // Both wrap at 32 bits here.
    let frames = (info[RingInfo.producerOrdinal / 8]! - info[RingInfo.consumerOrdinal / 8]!) >>> 0;
    for (let i = this.#index; i < this.#count; i++) {
      frames += frameLost(this.#records, i) + (isUpdate(frameKind(this.#records, i)) ? 1 : 0);
    }
    const oldestUs = this.#index < this.#count
      ? this.#number64(frameOffset(this.#records, this.#index) + this.#views.publishOffset) / 1000
      : info[RingInfo.oldestUs / 8]!;
    return { bytes, frames, ageUs: oldestUs === 0 ? 0 : Math.max(0, this.#native.clockUs() - oldestUs) };
  }

  /** Newest slot that the sender says it knows of; 0 if it has said none. */
  get knownSlot(): number {
    if (this.#isClosed) return Math.max(0, this.seenSlot);
    this.#native.ringInfo(this.#ring, ringInfo);
    return Math.max(0, this.seenSlot, ringInfo[RingInfo.newestSlot / 8]!);
  }

  /** Bytes that were ever given back. */
  get #position(): number {
    this.#native.ringInfo(this.#ring, ringInfo);
    return ringInfo[RingInfo.consumerCursor / 8]!;
  }

  protected get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Voids all views and lets the shared memory go. */
  close(): void {
    if (this.#isClosed) return;
    this.#sequence = this.lastSequence;
    this.#readBytes = 0;
    this.#isClosed = true;
    this.isCut = false;
    this.#count = 0;
    this.#index = 0;
    // A view that somebody kept throws from here on, instead of crashing the process. What a runtime does in the
    // background with bytes of a view that was still valid reads zeros.
    for (const buffer of this.#buffers) buffer.transfer(0);
    this.#native.ringRetire(this.#ring);
    closeLater(this.#native, this.#ring, () => this.isHeldElsewhere());
  }
}
