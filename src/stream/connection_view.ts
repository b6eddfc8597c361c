/**
 * What a consumer tells of its connections: to `onConnection` when it happens, and in the stream where it belongs among
 * the updates.
 * May touch: nothing; values only.
 *
 * @module
 */

import type { EndReason } from "../types.ts";
import type { Delivery } from "./view.ts";

const NO_NAMES: readonly string[] = Object.freeze([]);

/**
 * What is known of the updates between the last one that was handed out and those that follow:
 * - "complete": none is missing, none comes twice; the sender had kept what was published meanwhile, and it comes next.
 * - "state": some may be missing, but of each account that a filter matches the newest version comes again, and is told
 *   to be complete by an update of the kind "snapshot-complete". Transactions and slots may be missing.
 * - "unknown": some may be missing, and nothing replaces them.
 */
export type Continuity = "complete" | "state" | "unknown";

/** There is a connection. The first one is told of before `setupConsumer` returns. */
export interface ConnectedEvent {
  /** Tells the events apart. */
  readonly type: "connected";
  /** What the sender speaks. */
  readonly protocol: "native" | "v9";
  /** Identity of the sender, 32 hexadecimal digits: another one after each start. Wire version 9 has none: undefined. */
  readonly senderId: string | undefined;
  /** Counts the connections of this consumer: the first is 1. */
  readonly connection: number;
  /** How many attempts it took since the loss, or since `setupConsumer`. */
  readonly attempts: number;
}

/** A connection has ended, and everything that had come by it has been read. */
export interface LostEvent {
  /** Tells the events apart. */
  readonly type: "lost";
  /** Why. Never "closed": who closes is told nothing. */
  readonly reason: EndReason;
  /** Place of the last update that was handed out, in the order of that sender; 0n if there was none. */
  readonly lastSequence: bigint;
  /**
   * Payloads that were read last may have been overwritten while they were read, since the sender needed their room and had
   * dropped this consumer as too slow: do not trust them.
   */
  readonly isOverwritten: boolean;
  /** Milliseconds until the first attempt to connect again; undefined if there will be none (`reconnect: false`). */
  readonly retryMs: number | undefined;
}

/** An attempt to connect, or to set the filters again, has failed. There will be another one. */
export interface FailedEvent {
  /** Tells the events apart. */
  readonly type: "failed";
  /** Why: a `QlasterError`. */
  readonly error: Error;
  /** Counts the attempts since the loss, or since `setupConsumer`: the first is 1. */
  readonly attempt: number;
  /** Milliseconds until the next one. */
  readonly retryMs: number;
}

/**
 * There is a connection again, and all filters are in force. Where a sender's history turns out too short for what is
 * "complete", a second one follows, where updates are missing: with their number, no attempts, and no time.
 */
export interface ResumedEvent {
  /** Tells the events apart. */
  readonly type: "resumed";
  /** What may be missing. */
  readonly continuity: Continuity;
  /** Whether it is the sender of before, and so its order; undefined if nobody can say, as with wire version 9. */
  readonly isSameSender: boolean | undefined;
  /** Place of the last update that was handed out, in the order of the sender of before; 0n if there was none. */
  readonly lastSequence: bigint;
  /**
   * All filters hold for every update with a greater sequence, in the order of this sender. Undefined if there are none, or
   * if that is not known. From the same sender, at most `sequence - lastSequence` updates are missing.
   */
  readonly sequence: bigint | undefined;
  /** Milliseconds without a connection. */
  readonly downMs: number;
  /** How many attempts it took. */
  readonly attempts: number;
}

/** What `onConnection` is told. */
export type ConnectionEvent = ConnectedEvent | LostEvent | FailedEvent | ResumedEvent;

/** A copy that lasts: the seam between two connections. */
export interface ConnectionCopy extends Delivery {
  /** Tells the copies apart. */
  readonly kind: "connection";
  /** What happened. */
  readonly event: LostEvent | ResumedEvent;
  /** Whether updates may be missing here. */
  readonly lossy: boolean;
}

/**
 * Where a connection was lost, or another one goes on, among the updates: an object of its own, which lasts. It has no place
 * in a sender's order: `sequence` is that of the last update before it.
 */
export class ConnectionView {
  /** Tells the views apart. */
  readonly kind = "connection";
  /** What happened. */
  readonly event: LostEvent | ResumedEvent;
  /** Place of the last update that was handed out; 0n if there was none. */
  readonly sequence: bigint;
  /** When it happened: nanoseconds since the Unix epoch. */
  readonly publishNs: bigint;
  /** 0n. */
  readonly sourceNs = 0n;
  /** 0: how many are missing is not known. */
  readonly lost = 0;
  /** 0. */
  readonly conflated = 0;
  /** Whether updates may be missing here: of a loss always, since what follows is not known yet. */
  readonly lossy: boolean;
  /** 0n: no filter is asked for. */
  readonly filterMask = 0n;
  /** Empty: no filter is asked for. */
  readonly filters: readonly string[] = NO_NAMES;
  readonly #atUs: number;
  readonly #clockUs: () => number;

  /** @internal */
  constructor(event: LostEvent | ResumedEvent, clockUs: () => number) {
    this.event = event;
    this.sequence = event.lastSequence;
    this.lossy = event.type === "lost" || event.continuity !== "complete";
    this.#clockUs = clockUs;
    this.#atUs = clockUs();
    this.publishNs = BigInt(Math.floor(this.#atUs)) * 1000n;
  }

  /** `sequence` as a number, exact to 2^53. */
  get sequenceNumber(): number {
    return Number(this.sequence);
  }
  /** Microseconds since it happened, by the host's wall clock. */
  get ageUs(): number {
    return this.#clockUs() - this.#atUs;
  }

  /** Everything in a plain object. */
  copy(): ConnectionCopy {
    const { kind, event, sequence, publishNs, sourceNs, lost, conflated, lossy } = this;
    return { kind, event, sequence, publishNs, sourceNs, lost, conflated, lossy };
  }
}
