/**
 * An accepted link until its hello has come: nothing wakes us yet, so a short timer looks, up to a deadline.
 * May touch: one link. May not touch: regions. A peer that stops midway costs one descriptor until the deadline.
 *
 * @module
 */

import { LinkKind } from "../native/abi.generated.ts";
import { decodeHello, type Hello, type Message, protocolError } from "../wire/messages.ts";
import type { Link } from "./link.ts";

const DELAY_MS_MAX = 50;

/** Waits for the hello and the descriptor that comes with it. */
export class Handshake {
  readonly link: Link;
  readonly #onHello: (hello: Hello, wakeFd: number) => void;
  readonly #onFailure: () => void;
  readonly #deadline: number;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #delayMs = 1;
  #isOver = false;

  /**
   * @param timeoutMs From now to the hello.
   * @param onHello Takes over the link and the descriptor. @param onFailure The link is closed already.
   */
  constructor(link: Link, timeoutMs: number, onHello: (hello: Hello, wakeFd: number) => void, onFailure: () => void) {
    this.link = link;
    this.#onHello = onHello;
    this.#onFailure = onFailure;
    this.#deadline = performance.now() + timeoutMs;
  }

  /** Looks for the first time: the hello may be there already, so the callbacks may come before this returns. */
  start(): void {
    this.#look();
  }

  #look(): void {
    // The deadline first, the look second: time in which our own loop stood still does not count against the peer.
    const isLate = performance.now() >= this.#deadline;
    try {
      const outcome = this.link.drain((message) => this.#onMessage(message));
      if (this.#isOver) return;
      if (outcome === "end" || isLate) return this.cancel();
    } catch {
      return this.cancel();
    }
    this.#timer = setTimeout(() => this.#look(), this.#delayMs);
    this.#delayMs = Math.min(DELAY_MS_MAX, 2 * this.#delayMs);
  }

  /** Stops the draining: what follows a hello is the connection's to read. */
  #onMessage(message: Message): false {
    if (message.kind !== LinkKind.hello) throw protocolError(`kind ${message.kind} is no hello`);
    const hello = decodeHello(message);
    const [wakeFd] = this.link.takeDescriptors(1);
    this.#isOver = true;
    this.#onHello(hello, wakeFd!);
    return false;
  }

  /** Ends it, unless it is over. */
  cancel(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.link.close();
    this.#onFailure();
  }
}
