/**
 * Between a connection that pushes and a loop that pulls: what has come and was not taken yet, as one list.
 * May touch: nothing. May not touch: sockets; who pushes is told when to stop and when to go on.
 * The bound is the pusher's to keep: it asks `isFull` after each push, and stops reading its socket.
 *
 * @module
 */

import type { Update } from "../types.ts";

const BATCH_MAX = 4096;
const DONE: IteratorReturnResult<undefined> = { done: true, value: undefined };

/** Hands out everything that has come, in order, to one loop. */
export class BatchQueue implements AsyncIterator<readonly Update[], undefined> {
  /** Pushers append here, then call `flush`. */
  pending: Update[] = [];
  readonly #bytesMax: number;
  readonly #updatesMax: number;
  readonly #onRoom: () => void;
  readonly #onReturn: () => void;
  #bytes = 0;
  #isEnded = false;
  #failure: { readonly error: unknown } | undefined;
  #waiter: PromiseWithResolvers<IteratorResult<readonly Update[], undefined>> | undefined;

  /**
   * @param options.onRoom The loop has taken all that was there. @param options.onReturn The loop was left.
   */
  constructor(options: { bytesMax: number; updatesMax: number; onRoom: () => void; onReturn: () => void }) {
    this.#bytesMax = options.bytesMax;
    this.#updatesMax = options.updatesMax;
    this.#onRoom = options.onRoom;
    this.#onReturn = options.onReturn;
  }

  /** Whether the pusher should stop until `onRoom`. */
  get isFull(): boolean {
    return this.#bytes >= this.#bytesMax || this.pending.length >= this.#updatesMax;
  }

  /** What was appended may be taken. @param bytes How much memory it holds, roughly. */
  flush(bytes: number): void {
    this.#bytes += bytes;
    if (this.#waiter === undefined || this.pending.length === 0) return;
    const waiter = this.#waiter;
    this.#waiter = undefined;
    waiter.resolve({ done: false, value: this.#take() });
  }

  /** Ends the loop, after what is pending; with an error if there is one. */
  end(failure?: { readonly error: unknown }): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#failure = failure;
    const waiter = this.#waiter;
    this.#waiter = undefined;
    if (waiter !== undefined) this.#settle(waiter);
  }

  next(): Promise<IteratorResult<readonly Update[], undefined>> {
    if (this.pending.length > 0) {
      const value = this.#take();
      if (!this.#isEnded && this.pending.length === 0) this.#onRoom();
      return Promise.resolve({ done: false, value });
    }
    if (!this.#isEnded && this.#waiter !== undefined) {
      return Promise.reject(new TypeError("A source can be read by one loop at a time"));
    }
    const waiter = Promise.withResolvers<IteratorResult<readonly Update[], undefined>>();
    if (this.#isEnded) this.#settle(waiter);
    else {
      this.#waiter = waiter;
      this.#onRoom();
    }
    return waiter.promise;
  }

  return(): Promise<IteratorResult<readonly Update[], undefined>> {
    this.pending = [];
    this.#failure = undefined;
    this.#onReturn();
    this.end();
    return Promise.resolve(DONE);
  }

  #settle(waiter: PromiseWithResolvers<IteratorResult<readonly Update[], undefined>>): void {
    const failure = this.#failure;
    this.#failure = undefined; // thrown once
    if (failure === undefined) waiter.resolve(DONE);
    else waiter.reject(failure.error);
  }

  /** All of it, or as much as a loop should publish before it looks at its sockets and timers. */
  #take(): readonly Update[] {
    if (this.pending.length > BATCH_MAX) return this.pending.splice(0, BATCH_MAX);
    const value = this.pending;
    this.pending = [];
    this.#bytes = 0;
    return value;
  }
}
