/**
 * What comes while nobody takes it: kit's client can't make a node wait, so of each account, and of the slots, the newest is
 * kept, and the rest is counted as dropped.
 * May touch: a queue. May not touch: sockets.
 *
 * @module
 */

import type { BatchQueue } from "../batch_queue.ts";
import type { Update } from "../../types.ts";

/** Different accounts that wait, at most; and their bytes. */
const WAITING_MAX = 65_536;
const WAITING_BYTES_MAX = 256 * 1024 * 1024;

/** Stands before a queue. */
export class Overflow {
  /** Updates that were replaced by newer ones, or for which there was no room. */
  dropped = 0;
  readonly #queue: BatchQueue;
  readonly #waiting = new Map<string, { readonly update: Update; readonly bytes: number }>();
  #waitingBytes = 0;

  constructor(queue: BatchQueue) {
    this.#queue = queue;
  }

  /** @param name What a newer update replaces it by. */
  push(name: string, update: Update, bytes: number): void {
    if (this.#waiting.size === 0 && !this.#queue.isFull) {
      this.#queue.pending.push(update);
      this.#queue.flush(bytes);
      return;
    }
    const before = this.#waiting.get(name);
    if (before !== undefined) {
      this.#forget(name, before.bytes);
      this.dropped++;
    }
    if (this.#waiting.size >= WAITING_MAX || this.#waitingBytes + bytes > WAITING_BYTES_MAX) {
      this.dropped++;
      return;
    }
    this.#waiting.set(name, { update, bytes }); // at the end: in the order of what is kept
    this.#waitingBytes += bytes;
  }

  /** There is room again. */
  release(): void {
    for (const [name, { update, bytes }] of this.#waiting) {
      if (this.#queue.isFull) return;
      this.#forget(name, bytes);
      this.#queue.pending.push(update);
      this.#queue.flush(bytes);
    }
  }

  #forget(name: string, bytes: number): void {
    this.#waiting.delete(name);
    this.#waitingBytes -= bytes;
  }
}
