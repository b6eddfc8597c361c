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

/** One turn of the event loop: timers, sockets and other promises get their chance. */
function turn(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}

/** Waits on behalf of one consumer. At most one wait at a time. */
export class Idle {
  readonly #native: Native;
  readonly #ring: number;
  readonly #strategy: IdleStrategy;
  #wakeUp: (() => void) | undefined;
  #turnsLeft = ADAPTIVE_TURNS;
  /** Times that this consumer went to sleep. */
  parks = 0;

  constructor(native: Native, ring: number, strategy: IdleStrategy) {
    this.#native = native;
    this.#ring = ring;
    this.#strategy = strategy;
  }

  /** Frames came: the next pause may be short. */
  noteBusy(): void {
    this.#turnsLeft = ADAPTIVE_TURNS;
  }

  /**
   * Waits until there may be something to read: the caller looks again in any case.
   * @param deadline `performance.now()` at which to return all the same; Infinity for never.
   */
  async wait(deadline: number): Promise<void> {
    switch (this.#strategy) {
      case "spin":
        if (this.#native.ringSpin(this.#ring, SPIN_US) !== 1) await turn();
        return;
      case "yield":
        return await turn();
      case "park":
        return await this.#park(deadline);
      case "adaptive":
        if (this.#native.ringSpin(this.#ring, ADAPTIVE_SPIN_US) === 1) return;
        if (this.#turnsLeft > 0) {
          this.#turnsLeft--;
          return await turn();
        }
        return await this.#park(deadline);
    }
  }

  async #park(deadline: number): Promise<void> {
    if (this.#native.ringPark(this.#ring) !== 1) return;
    this.parks++;
    await this.sleep(deadline);
    this.#native.ringUnpark(this.#ring);
  }

  /** Waits for `wakeUp` alone, whatever the ring holds. */
  sleep(deadline: number): Promise<void> {
    return new Promise((resolve) => {
      let timer: ReturnType<typeof setTimeout> | undefined;
      this.#wakeUp = () => {
        this.#wakeUp = undefined;
        clearTimeout(timer);
        resolve();
      };
      const left = Math.max(0, deadline - performance.now());
      if (left <= TIMER_MS_MAX) timer = setTimeout(() => this.#wakeUp?.(), left);
    });
  }

  /** Ends the sleep, if there is one: a byte came, the sender is gone, or the consumer was closed. */
  wakeUp(): void {
    this.#wakeUp?.();
  }
}
