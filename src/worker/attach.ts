/**
 * A Worker's consumer: reads in its thread a ring whose connection stays with another one of the process.
 * May touch: the share's ring by its handle, the words of the share. May not touch: anything that would have to be closed:
 * a Worker may be terminated at any instruction.
 *
 * @module
 */

import { load } from "../native/load.ts";
import type { Native } from "../native/native.ts";
import { QlasterError } from "../errors.ts";
import { Consumer } from "../stream/consumer.ts";
import { ConsumerConnection } from "../stream/consumer_connection.ts";
import { type ConsumerOptions, resolveConsumerOptions } from "../stream/consumer_options.ts";
import { RingReader } from "../stream/reader.ts";
import { type ConsumerShare, END_REASONS, ReaderSignal } from "../stream/reader_share.ts";
import type { Session, SessionHost } from "../stream/session.ts";
import { instanceOf } from "../stream/share.ts";
import { MirroredNames } from "../stream/shared_names.ts";

/** How a Worker reads. */
export type ReaderOptions = Pick<ConsumerOptions, "idle" | "signal" | "timings" | "staleAfterSlots" | "onStale">;

/** Any long time: nothing happens then. */
const HOLD_MS = 60_000;

/**
 * Reads in this Worker what a consumer of another thread is connected for: call it with what `Consumer.share()` returned.
 * @param options How to wait, and the like. `idle: "spin"` is the hot loop: a core, in slices of a millisecond, between
 * which the Worker's event loop has a turn.
 * @returns A consumer that reads in all ways that there are. What is asked of the sender is asked on the other thread; here
 * `subscribe` and the like throw `READER_ONLY`. It owns nothing that `terminate()` would leave behind, and keeps the
 * Worker alive until its end, or `unref()`.
 * @throws {QlasterError} `SHARE_FOREIGN` in another process, or where this thread has another copy of the native library;
 * `CONSUMER_BUSY` if it has a reader already; `CONSUMER_CLOSED`; `NATIVE_…`
 * @throws {TypeError} for what is no share.
 *
 * @example
 * ```ts
 * import { setupConsumer, setupSender } from "@qlaster/core";
 * import { attachReader } from "@qlaster/core/worker";
 * import assert from "node:assert/strict";
 *
 * await using sender = await setupSender({ path: "/tmp/qlaster-doc-reader.sock", ringCapacityBytes: 65536 });
 * await using consumer = await setupConsumer("/tmp/qlaster-doc-reader.sock", { reconnect: false });
 * // worker.postMessage(consumer.share()), and in the Worker, with the message's data:
 * await using reader = await attachReader(consumer.share());
 * sender.publishSlot({ slot: 2n, parent: 1n, status: "processed" });
 * const update = await reader.next();
 * assert.equal(update?.kind === "slot" && update.slot, 2n);
 * ```
 */
export async function attachReader(share: ConsumerShare, options: ReaderOptions = {}): Promise<Consumer> {
  if (typeof share?.instance !== "number" || typeof share.ring !== "number") {
    throw new TypeError("share must be what Consumer.share() returns");
  }
  const resolved = resolveConsumerOptions({ ...options, marks: share.marks, reconnect: false });
  const native = await load();
  const action = `Cannot attach to the consumer of "${share.path}"`;
  if (instanceOf(native) !== share.instance) throw new QlasterError("SHARE_FOREIGN", action);
  const signals = new Int32Array(share.signals);
  if (Atomics.load(signals, ReaderSignal.closed) === 1) throw new QlasterError("CONSUMER_CLOSED", action);
  if (Atomics.exchange(signals, ReaderSignal.taken, 1) === 1) throw new QlasterError("CONSUMER_BUSY", action);
  const own = borrowing(native, share, signals);
  const names = new MirroredNames(share.names);
  const reader = new RingReader(own, share.ring, share.capacityBytes, {
    memoryBytes: share.memoryBytes,
    filters: names,
    generationBase: 0,
    hasMarks: share.marks,
  });
  const session = new BorrowedSession(share.path, signals);
  const connection = ConsumerConnection.of(own, share.ring, {
    session,
    reader,
    capacityBytes: share.capacityBytes,
    policy: share.policy,
    senderId: share.senderId,
  });
  const consumer = new Consumer(own, share.path, names, { connection, attempts: 1 }, resolved);
  session.onClosed = () => void consumer.close();
  return consumer;
}

/** The library without what would let go of the ring, which is the other thread's. */
function borrowing(native: Native, { ring }: ConsumerShare, signals: Int32Array<SharedArrayBuffer>): Native {
  const isClosed = () => Atomics.load(signals, ReaderSignal.closed) === 1;
  return {
    ...native,
    // Once the consumer is closed there are zeros where the ring was. There is nothing to read then, and who waits sleeps
    // until the session hears of it.
    ringPoll: (handle, records, count) => isClosed() ? 0 : native.ringPoll(handle, records, count),
    ringSpin: (handle, budgetUs) => isClosed() ? 0 : native.ringSpin(handle, budgetUs),
    ringPark: (handle) => isClosed() ? 1 : native.ringPark(handle),
    // Its reader has let go of the memory: so the other thread may.
    ringRetire: () => {
      Atomics.store(signals, ReaderSignal.gone, 1);
      Atomics.notify(signals, ReaderSignal.gone);
      return 0;
    },
    close: (handle) => handle === ring ? 0 : native.close(handle),
  };
}

/** What a Worker hears of a connection that it does not have. */
class BorrowedSession implements Session {
  readonly protocol = "native";
  readonly slotToken = undefined;
  /** The consumer is closed where it is connected. */
  onClosed: () => void = () => {};
  readonly #path: string;
  readonly #signals: Int32Array<SharedArrayBuffer>;
  #hold: ReturnType<typeof setInterval> | undefined;
  #isClosed = false;

  constructor(path: string, signals: Int32Array<SharedArrayBuffer>) {
    this.#path = path;
    this.#signals = signals;
    this.ref();
  }

  start(host: SessionHost): void {
    void this.#listen(host);
  }

  async #listen(host: SessionHost): Promise<void> {
    let seen = 0;
    while (!this.#isClosed) {
      await Atomics.waitAsync(this.#signals, ReaderSignal.wake, seen).value;
      // Before the look: what comes from now on ends the next wait at once.
      seen = Atomics.load(this.#signals, ReaderSignal.wake);
      if (this.#isClosed) return;
      if (Atomics.load(this.#signals, ReaderSignal.closed) === 1) return this.onClosed();
      const over = Atomics.load(this.#signals, ReaderSignal.over);
      if (over > 0) host.onEnd(END_REASONS[over - 1]!);
      host.onWake();
    }
  }

  doubt(): undefined {
    return undefined;
  }

  subscribe(): Promise<never> {
    return this.#refuse();
  }

  edit(): Promise<never> {
    return this.#refuse();
  }

  begin(): Promise<never> {
    return this.#refuse();
  }

  ping(): Promise<never> {
    return this.#refuse();
  }

  #refuse(): Promise<never> {
    return Promise.reject(new QlasterError("READER_ONLY", `Cannot ask the sender at "${this.#path}" from a Worker`));
  }

  rejectAll(): void {}

  explain(): undefined {
    return undefined;
  }

  /** In Bun a wait for a word keeps no Worker alive. */
  ref(): void {
    this.#hold ??= setInterval(() => {}, HOLD_MS);
  }

  unref(): void {
    clearInterval(this.#hold);
    this.#hold = undefined;
  }

  goodbye(): void {}

  close(): void {
    this.#isClosed = true;
    this.unref();
  }
}
