/**
 * An accepted link until its first words have come, which say whether it speaks the native protocol or wire version 9:
 * nothing wakes us yet, so a short timer looks, up to a deadline.
 * May touch: one link. May not touch: regions. A peer that stops midway costs one descriptor until the deadline.
 *
 * @module
 */

import { LinkKind } from "../native/abi.generated.ts";
import type { HalfReader, HalfSent } from "../v9/half_sent.ts";
import { FrameCutter, V9_CLIENT_BYTES_MAX } from "../v9/messages.ts";
import { decodeHello, type Hello, type Message, protocolError } from "../wire/messages.ts";
import type { DrainOutcome, Link, LinkProtocol } from "./link.ts";

const DELAY_MS_MAX = 50;
/** Who has sent that much at a time is in the middle of a long message, and waits for room in the socket. */
const LONG_BYTES = 4096;

/** How a handshake ends, by one of these. */
export interface HandshakeEvents {
  /** Takes over the link and the descriptor. */
  onHello(hello: Hello, wakeFd: number): void;
  /**
   * Takes over the link, for a peer that speaks version 9.
   * @param bodies Its first messages, at least one, undecoded. @param cutter Holds what came behind them.
   */
  onV9(bodies: readonly Uint8Array[], cutter: FrameCutter): void;
  /** Why version 9 is not spoken with this peer; undefined if it is. */
  readonly noV9: string | undefined;
  /** The link is closed already. */
  onFailure(reason: string): void;
}

/** Waits for a hello and the descriptor that comes with it, or for a message of version 9. */
export class Handshake implements HalfReader {
  readonly link: Link;
  /** What the peer speaks, once that is known. */
  protocol: LinkProtocol | undefined;
  readonly #timeoutMs: number;
  readonly #halfSent: HalfSent;
  readonly #events: HandshakeEvents;
  readonly #deadline: number;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #delayMs = 1;
  /** Of a peer that speaks version 9. */
  #cutter: FrameCutter | undefined;
  #isOver = false;

  /** @param timeoutMs From now to the end of the first message. */
  constructor(link: Link, timeoutMs: number, halfSent: HalfSent, events: HandshakeEvents) {
    this.link = link;
    this.#timeoutMs = timeoutMs;
    this.#halfSent = halfSent;
    this.#events = events;
    this.#deadline = performance.now() + timeoutMs;
  }

  /** Looks for the first time: the first message may be there already, so the callbacks may come before this returns. */
  start(): void {
    this.#look();
  }

  #look(): void {
    // The deadline first, the look second: time in which our own loop stood still does not count against the peer.
    const isLate = performance.now() >= this.#deadline;
    try {
      const outcome = this.#drain();
      if (this.#isOver) return;
      if (outcome === "end") return this.cancel("it closed the connection before it had said anything whole");
    } catch (error) {
      return this.cancel(error instanceof Error ? error.message : String(error));
    }
    if (isLate) {
      return this.cancel(`nothing whole came within ${this.#timeoutMs} ms (option handshakeTimeoutMs)`);
    }
    this.#timer = setTimeout(() => this.#look(), this.#delayMs);
    this.#delayMs = Math.min(DELAY_MS_MAX, 2 * this.#delayMs);
  }

  #drain(): DrainOutcome {
    if (this.#cutter === undefined) {
      const protocol = this.link.detect();
      if (protocol === "idle" || protocol === "end") return protocol;
      this.protocol = protocol;
      if (protocol === "native") return this.link.drain((message) => this.#onMessage(message));
      if (this.#events.noV9 !== undefined) {
        this.cancel(this.#events.noV9);
        return "idle";
      }
      this.link.descriptorsExpected = 0;
      this.#cutter = new FrameCutter(V9_CLIENT_BYTES_MAX);
    }
    const cutter = this.#cutter;
    return this.link.drainBytes((bytes) => this.#onBytes(cutter, bytes));
  }

  /** Stops the draining: what follows a hello is the connection's to read. */
  #onMessage(message: Message): false {
    if (message.kind !== LinkKind.hello) throw protocolError(`kind ${message.kind} is no hello`);
    const hello = decodeHello(message);
    const [wakeFd] = this.link.takeDescriptors(1);
    this.#isOver = true;
    this.#events.onHello(hello, wakeFd!);
    return false;
  }

  /** Stops the draining at the first whole message: the rest is read by whoever takes over. */
  #onBytes(cutter: FrameCutter, bytes: Uint8Array): boolean {
    const bodies = cutter.push(bytes);
    if (bytes.length >= LONG_BYTES) this.#delayMs = 1;
    if (bodies.length === 0) {
      this.#halfSent.note(this, cutter.pending, false);
      return !this.#isOver;
    }
    this.#isOver = true;
    this.#halfSent.note(this, 0, true); // from here on whoever takes over counts it
    this.#events.onV9(bodies, cutter);
    return false;
  }

  /** Ends it, unless it is over. @param reason Why, for people. */
  cancel(reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#halfSent.note(this, 0, true);
    this.link.close();
    this.#events.onFailure(reason);
  }

  giveUp(reason: string): void {
    this.cancel(reason);
  }
}
