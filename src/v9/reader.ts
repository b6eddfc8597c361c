/**
 * Reads a ring of wire version 9: the same reading, other frames, and an end without a reason.
 * May touch: one consumer ring. May not touch: sockets; who finds the reason is the session.
 *
 * @module
 */

import { RingInfo } from "../native/abi.generated.ts";
import type { Native } from "../native/native.ts";
import { RingReader } from "../stream/reader.ts";
import type { EndReason } from "../types.ts";
import { V9Views } from "./view.ts";

/** Who hears of what only the reading shows. */
export interface ReaderWatcher {
  /** The ring is empty. */
  onEmpty(): void;
  /** The sender's sentinel was reached. */
  onSentinel(): void;
}

function infoOf(native: Native, ring: number): Float64Array {
  const info = new Float64Array(RingInfo.size / 8);
  native.ringInfo(ring, info);
  return info;
}

/** The consumer's end of a ring of wire version 9. */
export class V9Reader extends RingReader {
  readonly capacityBytes: number;
  /** Set before the first read. */
  watcher: ReaderWatcher | undefined;
  /** Why the sender has ended if its sentinel is still to come, where that is known; else who watches finds out. */
  sentinelMeans: EndReason | undefined;

  readonly #views: V9Views;
  readonly #native: Native;
  readonly #ring: number;
  readonly #info = new Float64Array(RingInfo.size / 8);
  /** The sender's cursor as it was seen last, and what the ring held when that was seen first. */
  #publication = 0;
  #usedThen = 0;
  #undecodable = 0;

  constructor(native: Native, ring: number) {
    const capacityBytes = infoOf(native, ring)[RingInfo.capacityBytes / 8]!;
    let views!: V9Views;
    super(native, ring, capacityBytes, {
      memoryBytes: native.v9RingSize(ring),
      poolBytes: 0,
      createViews: (memory) => views = new V9Views(memory),
    });
    this.#views = views;
    this.#native = native;
    this.#ring = ring;
    this.capacityBytes = capacityBytes;
  }

  override refill(): boolean {
    if (this.isOver || this.isClosed) return false;
    if (super.refill()) {
      this.#look();
      // Here and not by adding up: frames that could not be decoded, with none behind them, are given back unseen.
      this.#views.position = this.#info[RingInfo.consumerCursor / 8]!;
      return true;
    }
    if (!this.isCut && !this.isOver && this.end === undefined) this.watcher?.onEmpty();
    return false;
  }

  /** The sender says nothing about why: that takes a look at its socket. */
  protected override onEndOfStream(): EndReason | undefined {
    this.#look();
    this.isOver = true;
    this.watcher?.onSentinel();
    return this.sentinelMeans;
  }

  override get announcedEnd(): EndReason | undefined {
    return undefined;
  }

  #look(): void {
    if (this.isClosed) return;
    const info = this.#info;
    this.#native.ringInfo(this.#ring, info);
    this.#undecodable = info[RingInfo.lostPending / 8]!;
    const publication = info[RingInfo.producerCursor / 8]!;
    if (publication === this.#publication) return;
    this.#publication = publication;
    this.#usedThen = publication - info[RingInfo.consumerCursor / 8]!;
  }

  /** Whether the ring was more than half full when what the sender published last was seen first. */
  get wasBehind(): boolean {
    this.#look();
    return this.#usedThen > this.capacityBytes / 2;
  }

  /** Bytes that the sender has ever published: comparable with the `sequence` of a view. */
  get publishedBytes(): number {
    this.#look();
    return this.#publication;
  }

  /** Bytes, as the `sequence` of a view. */
  override get lastSequence(): number {
    return this.#views.position;
  }

  override get undecodable(): number {
    this.#look();
    return this.#undecodable;
  }

  override close(): void {
    this.#look();
    super.close();
  }
}
