/**
 * When a consumer that has lost its sender tries again, and when it stops trying.
 * May touch: one timer at a time. May not touch: sockets; who is asked for an attempt makes it.
 * Why a connection has to last before pauses are short again: a sender that takes everybody and drops them at once would
 * otherwise be asked without a pause, for ever.
 *
 * @module
 */

import { type Clock, HOST_CLOCK, type Timer } from "../native/clock.ts";
import { isQlasterError, type QlasterErrorCode } from "../errors.ts";

/** How a consumer that has lost its sender comes back: see the option `reconnect` of a consumer. */
export interface ReconnectOptions {
  /** The shortest pause before an attempt, in milliseconds. Default 10. */
  readonly minMs?: number;
  /** The longest. Pauses double from one attempt to the next, up to that. Default 1000. */
  readonly maxMs?: number;
  /** How long a connection has to last for pauses to begin at `minMs` again, in milliseconds. Default 10000. */
  readonly settledMs?: number;
  /** Ends the consumer that has had no connection for that long, in milliseconds. Default: never. */
  readonly giveUpMs?: number;
}

/** All of them. */
export type ResolvedReconnect = Required<ReconnectOptions>;

export const RECONNECT_DEFAULTS: ResolvedReconnect = Object.freeze({
  minMs: 10,
  maxMs: 1000,
  settledMs: 10_000,
  giveUpMs: Infinity,
});

/** Another attempt can't end in another way: the sender is of another version, or somebody's whom we don't trust. */
const FINAL: readonly QlasterErrorCode[] = [
  "CONNECT_VERSION",
  "CONNECT_UID",
  "INVARIANT",
  "NATIVE_PERMISSION",
  "NATIVE_UNSUPPORTED",
  "NATIVE_NOT_FOUND",
  "NATIVE_LAYOUT_MISMATCH",
];

/** Whether it is of no use to try again. What is no {@linkcode QlasterError} is a mistake, the caller's or ours. */
export function isFinal(error: unknown): boolean {
  return !isQlasterError(error) || FINAL.includes(error.code);
}

/** Pauses that double, each shortened at random by up to a half: consumers of one sender do not come back in step. */
export class Backoff {
  readonly #options: ResolvedReconnect;
  readonly #random: () => number;
  #pauseMs: number;

  /** @param random From 0 to below 1, as `Math.random`. */
  constructor(options: ResolvedReconnect, random: () => number = Math.random) {
    this.#options = options;
    this.#random = random;
    this.#pauseMs = options.minMs;
  }

  /** The pause before the next attempt, in milliseconds. */
  next(): number {
    const longest = this.#pauseMs;
    this.#pauseMs = Math.min(this.#options.maxMs, 2 * longest);
    return longest * (1 - this.#random() / 2);
  }

  /** A connection has ended. @param livedMs How long it had lasted. */
  noteEnd(livedMs: number): void {
    if (livedMs >= this.#options.settledMs) this.#pauseMs = this.#options.minMs;
  }
}

/** A timer of which the process need not wait. */
export class Pause {
  readonly clock: Clock;
  #timer: Timer | undefined;
  #isRef = true;

  constructor(clock: Clock = HOST_CLOCK) {
    this.clock = clock;
  }

  /** Resolves after `ms`, or when the signal is aborted. */
  wait(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.#timer?.clear();
        this.#timer = undefined;
        signal.removeEventListener("abort", done);
        resolve();
      };
      this.#timer = this.clock.after(ms, done);
      if (!this.#isRef) this.#timer.unref();
      if (signal.aborted) done();
      else signal.addEventListener("abort", done, { once: true });
    });
  }

  /** Whether the process waits for it: from now on, also for the pause that is under way. */
  set isRef(isRef: boolean) {
    this.#isRef = isRef;
    if (isRef) this.#timer?.ref();
    else this.#timer?.unref();
  }

  get isRef(): boolean {
    return this.#isRef;
  }
}

/** An attempt that failed, to be followed by another one. */
export interface FailedAttempt {
  readonly error: Error;
  /** Counts those since the loss: the first is 1. */
  readonly attempt: number;
  /** Milliseconds until the next one. */
  readonly retryMs: number;
}

/** What {@linkcode tryUntilConnected} needs. */
export interface Trying<Connection> {
  /** @param attempts Counts them: the first is 1. */
  attempt(attempts: number): Promise<Connection>;
  onFailed(failed: FailedAttempt): void;
  readonly backoff: Backoff;
  readonly pause: Pause;
  /** Before the first attempt. */
  readonly firstMs: number;
  /** From now on. */
  readonly giveUpMs: number;
  readonly signal: AbortSignal;
}

/**
 * Tries until it works.
 * @throws The signal's reason when it was aborted; the last attempt's error once `giveUpMs` are over, and at once if that
 * error is final.
 */
export async function tryUntilConnected<Connection>(
  { attempt, onFailed, backoff, pause, firstMs, giveUpMs, signal }: Trying<Connection>,
): Promise<{ connection: Connection; attempts: number }> {
  const { clock } = pause;
  const giveUpAt = clock.now() + giveUpMs;
  let retryMs = firstMs;
  for (let attempts = 1;; attempts++) {
    if (retryMs > 0) await pause.wait(retryMs, signal);
    signal.throwIfAborted();
    const isLast = clock.now() >= giveUpAt; // judged only after one more attempt
    try {
      return { connection: await attempt(attempts), attempts };
    } catch (error) {
      signal.throwIfAborted();
      if (isLast || isFinal(error)) throw error;
      retryMs = Math.min(backoff.next(), Math.max(0, giveUpAt - clock.now()));
      onFailed({ error: error as Error, attempt: attempts, retryMs });
    }
  }
}
