/**
 * Feeds a sender from an asynchronous source: takes what is ready, commits when it has to wait.
 * May touch: a sender's `stage` and `commit`. May not touch: connections.
 *
 * @module
 */

import { setImmediate } from "node:timers";
import type { Update } from "../types.ts";

/** What a feed needs of its sender. */
export interface Stage {
  /** Takes an update, unseen until `commit`. @returns False if there is no room: then it was not taken. */
  stage(update: Update): boolean;
  /** @returns False if there is no room for all that was taken: what is left goes out with a later call. */
  commit(): boolean;
  /** Waits for room. */
  drained?(): Promise<void>;
}

/** Updates after which a batch is committed even if more is ready. */
const BATCH_MAX = 256;
/** Microtasks in which a source that has a value at hand can deliver it: an async generator takes three. */
const PATIENCE_TICKS = 8;
/** A source that never makes us wait still lets timers and sockets run, after that many milliseconds. */
const TURN_MS = 2;

type Item = Update | readonly Update[];

/**
 * See `Sender.feed`.
 * @param signals Any of them ends the feed.
 */
export async function feed(stage: Stage, source: AsyncIterable<Item>, signals: readonly AbortSignal[]): Promise<void> {
  const iterator = source[Symbol.asyncIterator]();
  const stop = new Stop(signals);
  let staged = 0;
  let turnAt = performance.now() + TURN_MS;
  /** Waits until there is room for all that was taken. */
  const makeRoom = async () => {
    do await stop.orElse(stage.drained!()); while (!stop.isAborted && !stage.commit());
  };
  try {
    while (!stop.isAborted) {
      if (performance.now() >= turnAt) {
        if (!stage.commit()) await makeRoom();
        staged = 0;
        await new Promise<void>((resolve) => void setImmediate(resolve));
        turnAt = performance.now() + TURN_MS;
        continue;
      }
      const next = iterator.next();
      if (staged > 0 && !(await settlesSoon(next))) {
        if (!stage.commit()) await makeRoom();
        staged = 0;
        turnAt = Infinity; // a wait for the world is a turn: counted anew below
      }
      const result = await stop.orElse(next);
      if (result === undefined || result.done === true || stop.isAborted) break;
      if (turnAt === Infinity) turnAt = performance.now() + TURN_MS;
      const item = result.value;
      for (const update of Array.isArray(item) ? item as readonly Update[] : [item as Update]) {
        while (!stop.isAborted && !stage.stage(update)) {
          await makeRoom();
          staged = 0;
        }
        if (stop.isAborted) break;
        if (++staged >= BATCH_MAX) {
          if (!stage.commit()) await makeRoom();
          staged = 0;
        }
      }
    }
  } finally {
    try {
      // Whatever the reason, what was taken goes out; after an abort, what has no room is left to whoever publishes next.
      if (!stage.commit() && !stop.isAborted) await makeRoom();
    } finally {
      stop.dispose();
      // Not awaited: a source that hangs in its own wait would hang us too. Its failure to end is not ours to report.
      Promise.try(() => iterator.return?.()).then(undefined, () => {});
    }
  }
}

/** Whether a promise settles within a few microtasks, that is, without waiting for the world. */
async function settlesSoon(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const note = () => {
    settled = true;
  };
  promise.then(note, note);
  for (let tick = 0; tick < PATIENCE_TICKS && !settled; tick++) await undefined;
  return settled;
}

/**
 * Ends a wait when a signal is aborted. Not `Promise.race` with one long-lived promise: each race would leave a
 * reaction on it for as long as the feed runs.
 */
class Stop {
  readonly #signals: readonly AbortSignal[];
  isAborted: boolean;
  #resolve: (() => void) | undefined;
  readonly #onAbort = () => {
    this.isAborted = true;
    this.#resolve?.();
  };

  constructor(signals: readonly AbortSignal[]) {
    this.#signals = signals;
    this.isAborted = signals.some((signal) => signal.aborted);
    for (const signal of signals) signal.addEventListener("abort", this.#onAbort, { once: true });
  }

  /** What the promise settles to, or undefined on an abort. */
  orElse<T>(promise: Promise<T>): Promise<T | undefined> {
    return new Promise((resolve, reject) => {
      this.#resolve = () => resolve(undefined);
      promise.then(resolve, reject);
      if (this.isAborted) resolve(undefined);
    });
  }

  dispose(): void {
    for (const signal of this.#signals) signal.removeEventListener("abort", this.#onAbort);
  }
}
