/**
 * A clock for idle time-outs that stands still while our own event loop does: what a peer said meanwhile waits unread in
 * its socket, so the time says nothing about the peer.
 * May touch: the times it is given. May not touch: clocks, timers.
 *
 * @module
 */

/** How much later than planned a tick may come and still be on time, in milliseconds. */
const LATE_MS = 500;

/** Time in which the event loop ran, in milliseconds. */
export class IdleClock {
  readonly #tickMsMax: number;
  #ran = 0;
  #lastTick: number;
  #ticksOnTime = 0;

  /** @param periodMs Between ticks, as planned. @param nowMs Of a clock that never goes back, as all times here. */
  constructor(periodMs: number, nowMs: number) {
    this.#tickMsMax = periodMs + LATE_MS;
    this.#lastTick = nowMs;
  }

  /** The present time. Since a tick that is overdue it stands still. */
  now(nowMs: number): number {
    const since = nowMs - this.#lastTick;
    return since > this.#tickMsMax ? this.#ran : this.#ran + since;
  }

  /**
   * Says that the event loop runs.
   * @returns Whether it has run on time for two ticks in a row: then what peers said has been read, and silence is theirs.
   */
  tick(nowMs: number): boolean {
    const since = nowMs - this.#lastTick;
    this.#lastTick = nowMs;
    if (since > this.#tickMsMax) {
      this.#ticksOnTime = 0;
      return false;
    }
    this.#ran += since;
    this.#ticksOnTime++;
    return this.#ticksOnTime >= 2;
  }
}
