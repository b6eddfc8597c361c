/**
 * What the threads that publish through one sender have in common: handles that are good in all of them, and a few words
 * of memory. Here from the side of the sender's thread.
 * May touch: one wake; the words. May not touch: consumers, the fan-out.
 *
 * Workers own nothing that outlives them, since `terminate()` runs no code of theirs: no descriptor, no handle, no mapping.
 * They wake the sender's thread by its own wake; it wakes them by `Atomics.notify`, which takes no descriptor.
 *
 * @module
 */

import type { Native, Watch } from "../native/native.ts";
import { errorFromStatus } from "../errors.ts";

/**
 * What a Worker needs to publish: see `Sender.share`. To be posted as it is; its fields are the library's own business.
 */
export interface SenderShare {
  /** Which loaded copy of the native library, of which process, the handles belong to. */
  readonly instance: number;
  /** The path of the sender's socket, for messages. */
  readonly path: string;
  /** Handle of the fan-out. */
  readonly fanout: number;
  /** Handle of what wakes the sender's thread. */
  readonly wake: number;
  /** Words that all threads see. */
  readonly signals: SharedArrayBuffer;
}

/** Indexes of the words of `SenderShare.signals`, each an i32. */
export const Signal = {
  /** Counted up, and notified, whenever there may be room. */
  room: 0,
  /** 1, and notified, once the sender is closed. */
  closed: 1,
  /** 1 while the sender's thread has been woken and has not looked yet: a second wake would tell nothing new. */
  poked: 2,
} as const;
const SIGNAL_COUNT = 3;

/** What tells this copy of the library from all others. */
export function instanceOf(native: Native): number {
  const [high, low] = crypto.getRandomValues(new Uint32Array(2));
  return native.instance(1 + (high! >>> 12) * 2 ** 32 + low!); // used by whoever is first
}

/** Where Workers leave word for the sender's thread. */
export class ShareDesk {
  readonly share: SenderShare;

  readonly #native: Native;
  readonly #onPoke: () => void;
  readonly #signals: Int32Array<SharedArrayBuffer>;
  #watch: Watch | undefined;
  #isClosed = false;

  /**
   * @param onPoke A Worker has left something to do.
   * @throws {QlasterError} `SYSTEM` if there is no descriptor or handle for it.
   */
  constructor(native: Native, fanout: number, path: string, onPoke: () => void) {
    this.#native = native;
    const signals = new SharedArrayBuffer(4 * SIGNAL_COUNT);
    this.#signals = new Int32Array(signals);
    const pair = new Int32Array(2);
    const created = native.wakeCreate(pair);
    if (created < 0) throw errorFromStatus(created, "Cannot create a wake");
    const [own, workers] = pair as unknown as [number, number];
    const wake = native.wakeOpen(workers);
    if (wake < 0) {
      native.fdClose(own);
      throw errorFromStatus(wake, "Cannot create a wake");
    }
    this.share = { instance: instanceOf(native), path, fanout, wake, signals };
    this.#onPoke = onPoke;
    void this.#open(own);
  }

  /** A poke that comes earlier waits in the socket. */
  async #open(fd: number): Promise<void> {
    try {
      this.#watch = await this.#native.watch(fd, () => this.look(), () => {});
      this.#watch.unref(); // the sender itself keeps the process, or does not
    } catch {
      // The runtime had no room for it: the sender looks once a second anyway.
    }
    if (this.#isClosed) this.#watch?.close();
  }

  /** Also once a second: a Worker may have been terminated between the word and the wake, and then no other would wake. */
  look(): void {
    Atomics.store(this.#signals, Signal.poked, 0); // before the look: what comes now pokes again
    this.#onPoke();
  }

  /** Who waits for room may try again. */
  tellRoom(): void {
    Atomics.add(this.#signals, Signal.room, 1);
    Atomics.notify(this.#signals, Signal.room);
  }

  /** Nobody may publish any longer. */
  tellClosed(): void {
    Atomics.store(this.#signals, Signal.closed, 1);
    Atomics.notify(this.#signals, Signal.closed);
    this.tellRoom();
  }

  /** May be called once. */
  close(): void {
    this.#isClosed = true;
    this.#watch?.close();
    this.#native.close(this.share.wake);
  }
}
