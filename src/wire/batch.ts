/**
 * Encoded updates, one behind the other in one buffer: what a single native call publishes, which finds their keys in the
 * index together (`publishMany` in zig/groups.zig).
 * May touch: its own buffer. May not touch: the native library; outlet.ts calls it.
 *
 * @module
 */

import { FrameEncoder, HEAD_BYTES_MAX, padded } from "./encoder.ts";

/** Updates whose keys the engine looks up together (`look_ahead` there). */
export const BATCH_UPDATES = 64;
/**
 * Longest payload that is copied here, and so once more than where it is handed over by itself. Measured with ten consumers:
 * up to there Deno gains 10 to 15 %, since its calls are dear, and Bun nothing or little; beyond, Bun loses that much.
 */
export const COPIED_BYTES_MAX = 1024;

/** In front of all: afterwards, how many of the bytes behind it are published (u64). */
const DONE = 8;
/** In front of each: u32 bytes of its head, u32 bytes of its tail; both follow, each padded to 8. */
const ITEM = 8;
const ROOM = ITEM + HEAD_BYTES_MAX + COPIED_BYTES_MAX;
/** A full group of token accounts, or 24 of the largest that are copied: what stays in a first-level cache. */
const BYTES = DONE + 24 * ROOM;

/** Some 30 KiB, for as long as its publisher. */
export class Batch {
  readonly bytes: Uint8Array = new Uint8Array(BYTES);
  /** Writes where the next update goes. */
  readonly encoder: FrameEncoder = new FrameEncoder(this.bytes);
  /** Bytes of it that count. */
  length: number = DONE;
  /** Updates in it. */
  count = 0;

  readonly #words = new Uint32Array(this.bytes.buffer);

  constructor() {
    this.encoder.at = DONE + ITEM;
  }

  /** Whether it has to be published before anything else is encoded. */
  get isFull(): boolean {
    return this.count === BATCH_UPDATES || this.length + ROOM > BYTES;
  }

  /** Takes in what was encoded. @returns False if that is longer than what is copied: it stays where it is. */
  add(): boolean {
    const { at, headLength, tailLength } = this.encoder;
    if (tailLength > COPIED_BYTES_MAX) return false;
    const word = this.length >> 2;
    this.#words[word] = headLength;
    this.#words[word + 1] = tailLength;
    const tail = at + padded(headLength);
    this.encoder.copyTail(this.bytes, tail);
    this.#setLength(tail + padded(tailLength));
    this.count++;
    return true;
  }

  /** Takes out what was published. @returns How many updates. */
  takeDone(): number {
    const done = this.#words[0]!;
    const { count } = this;
    if (DONE + done === this.length) {
      this.clear();
      return count;
    }
    for (let at = DONE; at < DONE + done; this.count--) {
      at += ITEM + padded(this.#words[at >> 2]!) + padded(this.#words[(at >> 2) + 1]!);
    }
    this.bytes.copyWithin(DONE, DONE + done, this.length);
    this.#setLength(this.length - done);
    return count - this.count;
  }

  /** Forgets what is in it. */
  clear(): void {
    this.count = 0;
    this.#setLength(DONE);
  }

  #setLength(length: number): void {
    this.length = length;
    this.encoder.at = length + ITEM;
  }
}
