/**
 * How long to wait before the next try: doubling, with jitter, and not forgotten by a connection that dies at once.
 * May touch: nothing. The clock is its user's.
 *
 * @module
 */

/** Bounds of a wait, in milliseconds. */
export interface BackoffOptions {
  /** The first wait. Default 250. */
  readonly minMs?: number;
  /** The longest. Default 30000. */
  readonly maxMs?: number;
  /** A connection that has brought data for that long was a good one: the next wait is the first again. Default 10000. */
  readonly stableMs?: number;
}

/** How long what a server refused is not asked for. */
export const REFUSED_BACKOFF: BackoffOptions = { minMs: 1000, maxMs: 60_000 };

/** Counts failures. A server that accepts and then fails counts as much as one that is not there. */
export class Backoff {
  readonly #minMs: number;
  readonly #maxMs: number;
  readonly #stableMs: number;
  readonly #random: () => number;
  #failures = 0;

  /** @param random From 0 up to 1; for tests. @throws {RangeError} for bounds that are none. */
  constructor(options: BackoffOptions = {}, random: () => number = Math.random) {
    const { minMs = 250, maxMs = 30_000, stableMs = 10_000 } = options;
    if (!(minMs > 0 && minMs <= maxMs && maxMs <= 3_600_000)) {
      throw new RangeError(`backoff must have 0 < minMs <= maxMs <= 3600000, not ${minMs} and ${maxMs}`);
    }
    this.#minMs = minMs;
    this.#maxMs = maxMs;
    this.#stableMs = stableMs;
    this.#random = random;
  }

  /**
   * The wait after a connection that brought data for `dataMs` milliseconds, 0 if none came: from half of the bound up to
   * the bound, so that many clients of a server that restarts do not come back at once.
   */
  next(dataMs: number): number {
    if (dataMs >= this.#stableMs) this.#failures = 0;
    const bound = Math.min(this.#maxMs, this.#minMs * 2 ** Math.min(this.#failures++, 30));
    return bound * (0.5 + this.#random() / 2);
  }
}
