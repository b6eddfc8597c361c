/**
 * A slot as a raw sender of wire version 9 makes it: a ring in a file with its wake, with lies where a test wants them.
 * May touch: libc, files, raw_v9.ts. May not touch: anything under src/, which it is to be a match for.
 */

import { unlinkSync } from "node:fs";
import * as libc from "./libc.ts";
import { RawV9Ring, u64 } from "./raw_v9.ts";

/** Descriptors of a wake: what the consumer gets, and what the sender signals. An eventfd is both. */
export interface RawWakeEnds {
  readonly passed: number;
  readonly signal: number;
}

/** An eventfd on which a read waits: what the original's consumer hangs on. */
export function blockingWake(): RawWakeEnds {
  const fd = libc.blockingEventfd();
  return { passed: fd, signal: fd };
}

/** How a ring's file differs from a good one of version 2.0. */
export type RingLies = NonNullable<Parameters<typeof RawV9Ring.create>[2]>;

/** A ring and its wake. The producer is the test. */
export class RawSlot implements Disposable {
  readonly path: string;
  readonly capacity: number;
  readonly #ring: RawV9Ring;
  readonly #wake: RawWakeEnds;
  readonly #open: Set<number>;
  #isDisposed = false;

  /** @param options.start Bytes that have passed already, as in a ring that is in use since long. */
  constructor(
    path: string,
    capacity: number,
    options: { lies?: RingLies | undefined; wake?: RawWakeEnds; start?: bigint } = {},
  ) {
    this.path = path;
    this.capacity = capacity;
    this.#ring = RawV9Ring.create(path, capacity, options.lies);
    if (options.start !== undefined) {
      this.#ring.position = options.start;
      for (const offset of [64, 128, 192, 256]) this.#ring.words[offset / 8] = options.start;
    }
    const fd = options.wake === undefined ? libc.eventfd() : -1;
    this.#wake = options.wake ?? { passed: fd, signal: fd };
    this.#open = new Set([this.#wake.passed, this.#wake.signal]);
  }

  /** The descriptor to hand over. */
  get wakeFd(): number {
    return this.#wake.passed;
  }
  /** Bytes that the consumer gave back. */
  get released(): number {
    return Number(this.#ring.released);
  }
  /** Bytes ever published. */
  get position(): number {
    return Number(this.#ring.position);
  }
  get free(): number {
    return this.#ring.freeBytes;
  }
  /** Lies about how much is published. */
  set publication(value: bigint) {
    this.#ring.forgePublication(value);
  }

  /** Publishes bytes as they are. */
  push(bytes: Uint8Array): void {
    if (!this.#ring.publish(bytes)) throw new Error("The ring is full");
  }

  /** Publishes a frame. */
  write(body: Uint8Array): void {
    if (!this.#ring.write(body)) throw new Error("The ring is full");
  }

  /** One frame, and a signal. */
  send(body: Uint8Array): void {
    this.write(body);
    this.signal();
  }

  signal(): void {
    libc.libc().write(this.#wake.signal, u64(1n), 8n);
  }

  /** Evicts as the original does: sentinel if there is room for it and the test wants it, signal, unlink. */
  evict(options: { sentinel?: boolean } = {}): void {
    if (options.sentinel !== false) this.#ring.writeSentinel();
    this.signal();
    this.unlink();
  }

  unlink(): void {
    unlinkSync(this.path);
  }

  #close(fd: number): void {
    if (this.#open.delete(fd)) libc.close(fd);
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#close(this.#wake.passed);
    this.#close(this.#wake.signal);
    this.#ring[Symbol.dispose]();
  }
}
