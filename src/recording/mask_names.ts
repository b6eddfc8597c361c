/**
 * The names of filters in a recording: a frame has a mask of bits, and what they stood for is known while it is recorded only.
 * May touch: messages of the filter-names channel. May not touch: files.
 * Why names by mask, not by bit: a bit may stand for another filter by the time that its frame is read.
 *
 * @module
 */

import { FILTERS_PER_CONSUMER_MAX, FrameHeader } from "../native/abi.generated.ts";
import { FILTER_NAME_MAX } from "../stream/filter_names.ts";
import type { FilterLists } from "../stream/frame_view.ts";
import type { MaskNames } from "./format.ts";

/** Different masks that are remembered: beyond, what is needed is said anew. */
const WRITTEN_MAX = 1024;
/** Masks whose names are remembered, far more than a writer takes for known: what a file says is not believed. */
const READ_MAX = 8 * WRITTEN_MAX;
/** Longest message: every filter there can be, each with the longest name, each character escaped. */
const MESSAGE_BYTES_MAX = 64 * 1024;
const NONE: readonly string[] = Object.freeze([]);

function maskOf(frame: Uint8Array): bigint {
  return new DataView(frame.buffer, frame.byteOffset, frame.length).getBigUint64(FrameHeader.filterMask, true);
}

function isSame(a: readonly string[], b: readonly string[]): boolean {
  return a === b || a.length === b.length && a.every((name, i) => name === b[i]);
}

/** What a segment has said so far. */
export class MaskNamesWriter {
  readonly #said = new Map<bigint, readonly string[]>();

  /** @returns What has to stand before the frame, if its names are not known from what stands there already. */
  before(frame: Uint8Array, names: readonly string[]): Uint8Array | undefined {
    if (names.length === 0 && this.#said.size === 0) return undefined;
    const mask = maskOf(frame);
    if (isSame(this.#said.get(mask) ?? NONE, names)) return undefined;
    if (this.#said.size >= WRITTEN_MAX) this.#drop();
    this.#said.set(mask, names);
    return encode({ mask: String(mask), names });
  }

  /** Only those whose names can be said again: none that became nameless. */
  #drop(): void {
    for (const [mask, names] of this.#said) if (names.length > 0) this.#said.delete(mask);
    if (this.#said.size >= WRITTEN_MAX) this.#said.clear();
  }
}

function encode(said: MaskNames): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(said));
}

/** The names of frames that are read. */
export class MaskNamesReader implements FilterLists {
  readonly #names = new Map<bigint, readonly string[]>();

  /** Another segment: it says everything itself. */
  clear(): void {
    this.#names.clear();
  }

  /** Takes a message of the filter-names channel. @throws {RangeError} if it is none. */
  take(data: Uint8Array): void {
    if (data.length > MESSAGE_BYTES_MAX) throw new RangeError(`a message of the filter names has ${data.length} bytes`);
    let said: Partial<MaskNames> | null = null;
    try {
      said = JSON.parse(new TextDecoder().decode(data)) as Partial<MaskNames> | null;
    } catch { /* said below */ }
    const { mask, names } = said ?? {};
    const isSane = typeof mask === "string" && /^\d{1,20}$/.test(mask) && Array.isArray(names) &&
      names.length <= FILTERS_PER_CONSUMER_MAX &&
      names.every((name) => typeof name === "string" && name.length <= FILTER_NAME_MAX);
    if (!isSane) throw new RangeError("a message of the filter names is none");
    const key = BigInt(mask);
    // What was said last is what the writer counts on.
    if (!this.#names.delete(key) && this.#names.size >= READ_MAX) this.#names.delete(this.#names.keys().next().value!);
    this.#names.set(key, Object.freeze([...names]));
  }

  /** The names of a frame's filters. */
  of(frame: Uint8Array): readonly string[] {
    return this.#names.size === 0 || frame.length < FrameHeader.size ? NONE : this.#names.get(maskOf(frame)) ?? NONE;
  }

  in(low: number, high: number): readonly string[] {
    return this.#names.get(BigInt(high) << 32n | BigInt(low)) ?? NONE;
  }
}
