/**
 * Publishing from a Worker through a sender that lives on another thread of the process (design D10).
 * May touch: the native engine by the share's handles; the words of the share. May not touch: anything that would have to
 * be closed: a Worker may be terminated at any instruction.
 *
 * @module
 */

import { load } from "../native/load.ts";
import type { Native } from "../native/native.ts";
import { isQlasterError, QlasterError } from "../errors.ts";
import type { Update } from "../types.ts";
import { Outlet } from "./outlet.ts";
import { Publisher } from "./publisher.ts";
import { instanceOf, type SenderShare, Signal } from "./share.ts";

/** Any long time: nothing happens then. */
const HOLD_MS = 60_000;

/**
 * Publishes through a sender of another thread of this process: call it in a Worker, with what `Sender.share()` returned.
 * @returns The publisher. It owns nothing that `terminate()` would leave behind, and keeps no Worker alive unless
 * it waits for room.
 * @throws {QlasterError} `SHARE_FOREIGN` in another process, or where this thread has another copy of the native library;
 * `SENDER_CLOSED`; `NATIVE_…`
 * @throws {TypeError} for what is no share.
 *
 * @example
 * ```ts
 * import { attachPublisher, setupSender } from "@qlaster/core";
 * import assert from "node:assert/strict";
 *
 * await using sender = await setupSender({ path: "/tmp/qlaster-doc-share.sock" });
 * // worker.postMessage(sender.share()), and in the Worker, with the message's data:
 * await using publisher = await attachPublisher(sender.share());
 * publisher.publishSlot({ slot: 2n, parent: 1n, status: "processed" });
 * assert.equal(sender.metrics.sequence, 1n);
 * ```
 */
export async function attachPublisher(share: SenderShare): Promise<Publisher> {
  if (typeof share?.instance !== "number") throw new TypeError("share must be what Sender.share() returns");
  const native = await load();
  if (instanceOf(native) !== share.instance) {
    throw new QlasterError("SHARE_FOREIGN", `Cannot attach to the sender at "${share.path}"`);
  }
  return new WorkerPublisher(native, share);
}

/** The engine's handle in another thread than the sender's. */
class WorkerOutlet extends Outlet {
  readonly #onEvents: () => void;

  constructor(native: Native, handle: number, onEvents: () => void) {
    super(native, handle);
    this.#onEvents = onEvents;
  }

  protected override onEvents(): void {
    this.#onEvents();
  }

  protected override onWork(): void {
    this.#onEvents();
  }
}

class WorkerPublisher extends Publisher {
  protected override readonly outlet: Outlet;
  readonly #native: Native;
  readonly #wake: number;
  readonly #signals: Int32Array<SharedArrayBuffer>;
  #isWatching = false;

  constructor(native: Native, share: SenderShare) {
    super(share.path);
    this.#native = native;
    this.#wake = share.wake;
    this.#signals = new Int32Array(share.signals);
    this.outlet = new WorkerOutlet(native, share.fanout, () => this.#poke());
    this.assertOpen();
  }

  /**
   * Has the sender's thread look for consumers to end, and for who waits. A Worker that is terminated in between leaves it
   * to the sender's look once a second.
   */
  #poke(): void {
    if (Atomics.exchange(this.#signals, Signal.poked, 1) === 0) this.#native.wakeNotify(this.#wake);
  }

  /**
   * Asks the sender's thread, which hears of room and bounds the wait, and sleeps until it answers. Not by a timer of our
   * own: that could not end a consumer, and 2 ms are hundreds of updates.
   */
  override async drained(): Promise<void> {
    if (!this.outlet.isCongested || this.isClosed) return;
    const seen = Atomics.load(this.#signals, Signal.room); // before we ask
    this.#poke();
    if (this.#isSenderClosed) return; // it answers nobody; if it closes from here on, it counts `room` up
    // In Bun such a wait alone keeps no Worker alive: one without a listener would end in the middle of it.
    const hold = setInterval(() => {}, HOLD_MS);
    await Atomics.waitAsync(this.#signals, Signal.room, seen).value;
    clearInterval(hold);
    this.outlet.isCongested = false;
  }

  override async feed(
    source: AsyncIterable<Update | readonly Update[]>,
    options: { signal?: AbortSignal } = {},
  ): Promise<void> {
    this.#watchClosing();
    try {
      await super.feed(source, options);
    } catch (error) {
      // The sender was closed after we looked and before its word of it came: an end, as anywhere else.
      if (!(this.#isSenderClosed && isQlasterError(error, "SENDER_CLOSED"))) throw error;
    }
  }

  /** A feed has to end with the sender while its source makes it wait. */
  #watchClosing(): void {
    this.assertOpen();
    if (this.#isWatching) return;
    this.#isWatching = true;
    const { value } = Atomics.waitAsync(this.#signals, Signal.closed, 0);
    void Promise.resolve(value).then(() => this.closing.abort());
  }

  get #isSenderClosed(): boolean {
    return Atomics.load(this.#signals, Signal.closed) === 1;
  }

  protected override assertOpen(): void {
    if (this.isClosed) throw new QlasterError("PUBLISHER_CLOSED", `Cannot publish at "${this.path}"`);
    if (this.#isSenderClosed) throw new QlasterError("SENDER_CLOSED", `Cannot publish at "${this.path}"`);
  }

  override close(): Promise<void> {
    if (this.isClosed) return Promise.resolve();
    this.outlet.commit();
    this.outlet.dropStaged(); // a feed's, for which there is no room
    this.isClosed = true;
    this.closing.abort();
    Atomics.notify(this.#signals, Signal.room); // for our own `drained`; others look once too often
    return Promise.resolve();
  }
}
