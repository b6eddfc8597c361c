/**
 * Time as a recording had it: for applications whose decisions are to come out the same in every replay.
 * May touch: its own numbers. May not touch: the real clock.
 *
 * @module
 */

interface Sleeper {
  readonly dueNs: bigint;
  readonly order: number;
  readonly resolve: () => void;
}

/**
 * A clock that stands where the replay is: at the time at which the sender had published the update that was handed out
 * last. It only moves by updates, and never goes back, so that it reads the same in every replay of the same recording, at
 * whatever speed.
 */
export class ReplayClock {
  #nowNs: bigint;
  #sleepers: Sleeper[] = [];
  #count = 0;

  /** A clock that has not begun. @param startNs What it shows before the first update: nanoseconds since the Unix epoch. */
  constructor(startNs: bigint = 0n) {
    this.#nowNs = startNs;
  }

  /** Nanoseconds since the Unix epoch. */
  get nowNs(): bigint {
    return this.#nowNs;
  }

  /** Milliseconds since the Unix epoch: in the place of `Date.now()`. */
  now(): number {
    return Number(this.#nowNs / 1_000_000n);
  }

  /**
   * Sleeps for some of the recording's time.
   * @returns When that is over: before the first update that is as late is handed out. At the end of the replay all that
   * sleep are woken, the earliest first.
   */
  sleep(ms: number): Promise<void> {
    if (!(ms >= 0 && ms <= Number.MAX_SAFE_INTEGER)) throw new RangeError(`ms must not be below 0, nor ${ms}`);
    return new Promise((resolve) => {
      const dueNs = this.#nowNs + BigInt(Math.round(ms * 1e6));
      this.#sleepers.push({ dueNs, order: this.#count++, resolve });
      this.#sleepers.sort((a, b) => a.dueNs < b.dueNs ? -1 : a.dueNs > b.dueNs ? 1 : a.order - b.order);
    });
  }

  /**
   * Moves on, and lets those who sleep until then run first, one after the other. The replay calls it; who has a recording of
   * his own may, too.
   * @param ns Nanoseconds since the Unix epoch. Earlier than now: it stays where it is.
   */
  async advanceTo(ns: bigint): Promise<void> {
    while (this.#sleepers.length > 0 && this.#sleepers[0]!.dueNs <= ns) {
      const sleeper = this.#sleepers.shift()!;
      if (sleeper.dueNs > this.#nowNs) this.#nowNs = sleeper.dueNs;
      sleeper.resolve();
      // What it does next, as far as it waits for nothing else, and may sleep again.
      for (let tick = 0; tick < TICKS; tick++) await undefined;
    }
    if (ns > this.#nowNs) this.#nowNs = ns;
  }

  /** Nothing more comes. @internal */
  async end(): Promise<void> {
    while (this.#sleepers.length > 0) await this.advanceTo(this.#sleepers[0]!.dueNs);
  }
}

/** Microtasks that somebody who was woken gets before the clock goes on. */
const TICKS = 16;
