/**
 * How a consumer waits for the next frame: a ladder from burning a core to sleeping in the event loop.
 * May touch: one ring's spin, park and unpark; the event loop's turn. May not touch: frames.
 *
 * | strategy | does | costs |
 * |---|---|---|
 * | `spin` | looks without pause, one turn of the event loop per millisecond | a core |
 * | `yield` | one look per turn of the event loop | a core, shared with the process's other work |
 * | `park` | sleeps at once | a system call of the sender and a wake-up per burst |
 * | `adaptive` | spins for microseconds, yields for a few turns while frames keep coming, then parks | little when idle |
 *
 * @module
 */

import { setImmediate } from "node:timers";
import { type Clock, HOST_CLOCK, type Timer } from "../native/clock.ts";
import type { Native } from "../native/native.ts";

/** See the table in this file's head, and docs/ARCHITECTURE.md. */
export type IdleStrategy = "adaptive" | "park" | "yield" | "spin";

/** Every {@linkcode IdleStrategy}. */
export const IDLE_STRATEGIES: readonly IdleStrategy[] = ["adaptive", "park", "yield", "spin"];

/** Longer waits, of more than 24 days, have no timer. */
const TIMER_MS_MAX = 0x7fffffff;
const SPIN_US = 1000;
const ADAPTIVE_SPIN_US = 20;
/** Turns of the event loop that `adaptive` gives a stream that has just been busy. */
const ADAPTIVE_TURNS = 8;
/**
 * Waits in a row that ended at once, without anything to hand out: then the event loop has its turn all the same. A ring that
 * says that it has something, and has nothing, must not keep everybody waiting.
 */
const EMPTY_WAITS_MAX = 16;

/** One turn of the event loop: timers, sockets and other promises get their chance. */
function turn(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}

/** Waits on behalf of one consumer, on whichever ring it reads. At most one wait at a time. */
export class Idle {
  readonly #native: Native;
  readonly #clock: Clock;
  #ring: number | undefined;
  readonly #strategy: IdleStrategy;
  #wakeUp: (() => void) | undefined;
  #turnsLeft = ADAPTIVE_TURNS;
  #emptyWaits = 0;
  /** Times that this consumer went to sleep. */
  parks = 0;

  constructor(native: Native, ring: number | undefined, strategy: IdleStrategy, clock: Clock = HOST_CLOCK) {
    this.#native = native;
    this.#clock = clock;
    this.#ring = ring;
    this.#strategy = strategy;
  }

  /** The ring to wait on from now on. Undefined: there is none, and only `wakeUp` ends a wait. */
  set ring(ring: number | undefined) {
    this.#ring = ring;
  }

  /** Frames came: the next pause may be short. */
  noteBusy(): void {
    this.#turnsLeft = ADAPTIVE_TURNS;
    this.#emptyWaits = 0;
  }

  /**
   * Waits until there may be something to read: the caller looks again in any case.
   * @param deadline the clock's time at which to return all the same; Infinity for never.
   */
  async wait(deadline: number): Promise<void> {
    const ring = this.#ring;
    if (ring === undefined) return await this.sleep(deadline);
    switch (this.#strategy) {
      case "spin":
        if (this.#native.ringSpin(ring, SPIN_US) !== 1 || this.#isTurnDue()) await turn();
        return;
      case "yield":
        return await turn();
      case "park":
        return await this.#park(ring, deadline);
      case "adaptive":
        if (this.#native.ringSpin(ring, ADAPTIVE_SPIN_US) === 1) {
          if (this.#isTurnDue()) await turn();
          return;
        }
        if (this.#turnsLeft > 0) {
          this.#turnsLeft--;
          return await turn();
        }
        return await this.#park(ring, deadline);
    }
  }

  async #park(ring: number, deadline: number): Promise<void> {
    if (this.#native.ringPark(ring) !== 1) {
      if (this.#isTurnDue()) await turn();
      return;
    }
    this.parks++;
    await this.sleep(deadline);
    this.#native.ringUnpark(ring);
  }

  /** Asked when there is something in the ring, or so it says. */
  #isTurnDue(): boolean {
    if (++this.#emptyWaits < EMPTY_WAITS_MAX) return false;
    this.#emptyWaits = 0;
    return true;
  }

  /** Waits for `wakeUp` alone, whatever the ring holds. */
  sleep(deadline: number): Promise<void> {
    return new Promise((resolve) => {
      let timer: Timer | undefined;
      this.#wakeUp = () => {
        this.#wakeUp = undefined;
        timer?.clear();
        resolve();
      };
      const left = Math.max(0, deadline - this.#clock.now());
      if (left <= TIMER_MS_MAX) timer = this.#clock.after(left, () => this.#wakeUp?.());
    });
  }

  /** Ends the sleep, if there is one: a byte came, the sender is gone, or the consumer was closed. */
  wakeUp(): void {
    this.#wakeUp?.();
  }
}
