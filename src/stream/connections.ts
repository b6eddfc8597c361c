/**
 * The connections of one consumer, one after another: what ends, what is told of it, and how it goes on.
 * May touch: connections, edits, the seam between two of them. May not touch: reading; who reads asks for the end.
 * In this order, always: everything that had come is read; "lost" is told; attempts, with pauses; the filters are set again;
 * "resumed" is told; the new ring is read. So no update of the new connection comes before its filters hold.
 *
 * @module
 */

import { setImmediate } from "node:timers";
import type { Native } from "../native/native.ts";
import { QlasterError } from "../errors.ts";
import type { EndReason } from "../types.ts";
import {
  type ConnectionEvent,
  ConnectionView,
  type Continuity,
  type LostEvent,
  type ResumedEvent,
} from "./connection_view.ts";
import { ConsumerConnection } from "./consumer_connection.ts";
import type { ResolvedConsumerOptions } from "./consumer_options.ts";
import { Edits } from "./edits.ts";
import type { ResumePoint } from "../wire/messages.ts";
import type { FilterNames } from "./filter_names.ts";
import { describeLoss } from "./loss.ts";
import type { RingReader } from "./reader.ts";
import type { ResumedCopy } from "./view.ts";
import { Backoff, Pause, RECONNECT_DEFAULTS, tryUntilConnected } from "./reconnect.ts";

/** These end loops quietly, unless it was tried in vain to go on. */
const QUIET: readonly EndReason[] = ["closed", "sender-closed"];

/** What a consumer learns who still looked at shared payloads when the sender let go of it (design D5). */
const REVOKED =
  "its ring for this consumer was full, and payloads that were read last may have been overwritten while " +
  "they were read: do not trust them; read faster, copy first, or subscribe to less";

/** Who reads. */
export interface ConnectionsHost {
  /** There may be something to hand out: whoever waits looks again. */
  onWake(): void;
  /** Another ring is to be read, or none. */
  onRing(ring: number | undefined): void;
  /** Its reader. */
  onReader(reader: RingReader): void;
  /** Whether somebody reads just now, and will find by himself that nothing more comes. */
  isReading(): boolean;
  /** Nothing more will ever come. */
  onEnd(): void;
}

/** Sums over connections. */
export interface Counts {
  readonly frames: number;
  readonly bytes: number;
  readonly lost: number;
  readonly conflated: number;
  readonly undecodable: number;
}

const NO_COUNTS: Counts = { frames: 0, bytes: 0, lost: 0, conflated: 0, undecodable: 0 };

function countsOf({ reader }: ConsumerConnection): Counts {
  const { frames, bytes, lost, conflated, undecodable } = reader;
  return { frames, bytes, lost, conflated, undecodable };
}

function sumOf(one: Counts, other: Counts): Counts {
  return {
    frames: one.frames + other.frames,
    bytes: one.bytes + other.bytes,
    lost: one.lost + other.lost,
    conflated: one.conflated + other.conflated,
    undecodable: one.undecodable + other.undecodable,
  };
}

/** From the worst to the best. */
const CONTINUITIES: readonly Continuity[] = ["unknown", "state", "complete"];

/** A first connection, and what it took. */
export interface FirstConnection {
  readonly connection: ConsumerConnection;
  readonly attempts: number;
}

/** See the head of this file. */
export class Connections {
  readonly path: string;
  readonly edits: Edits;
  readonly whenEnded: Promise<{ readonly reason: EndReason }>;
  /** What is to be handed out before anything else. */
  hasSeam = false;
  /** Told of accounts that a sender had forgotten of which it was not said yet. */
  onForgotten: ((accounts: number) => void) | undefined;

  readonly #native: Native;
  readonly #names: FilterNames;
  readonly #options: ResolvedConsumerOptions;
  readonly #host: ConnectionsHost;
  readonly #backoff: Backoff;
  readonly #pause: Pause;
  /** Made for the first attempt to connect again. */
  #ending: AbortController | undefined;
  #resolveEnded!: (end: { readonly reason: EndReason }) => void;

  /** The one that is read, or was read last. */
  #current: ConsumerConnection;
  /** One that has not all filters yet. */
  #candidate: ConsumerConnection | undefined;
  /** Whether the current one has been lost. */
  #lost: { readonly reason: EndReason; readonly at: number } | undefined;
  #ended: { readonly reason: EndReason } | undefined;
  #cause: unknown;
  #seam: ConnectionView[] = [];
  /** How many there were. */
  #count = 0;
  /** Those that were read. */
  #readCount = 0;
  /** Of those before the current one. */
  #counts = NO_COUNTS;
  /** Newest slot that was handed out by those before the current one; -1 for none. */
  #seenSlot = -1;
  /** Place of what was handed out last, and in whose order. */
  #position: { readonly senderId: string | undefined; readonly sequence: bigint };
  /** From where the next connection would like to go on. */
  #resumePoint: ResumePoint | undefined;
  /** What was known of a gap before this one, that nobody has been told of. */
  #carried: Continuity = "complete";

  constructor(
    native: Native,
    path: string,
    names: FilterNames,
    first: FirstConnection,
    options: ResolvedConsumerOptions,
    host: ConnectionsHost,
  ) {
    const { connection, attempts } = first;
    this.path = path;
    this.#native = native;
    this.#pause = new Pause(native.clock);
    this.#names = names;
    this.#options = options;
    this.#host = host;
    this.#current = connection;
    this.#position = { senderId: connection.senderId, sequence: 0n };
    this.#backoff = new Backoff(options.reconnect ?? RECONNECT_DEFAULTS, native.random);
    this.edits = new Edits(options.reconnect !== undefined, options.cache !== undefined);
    this.whenEnded = new Promise((resolve) => this.#resolveEnded = resolve);
    this.#start(connection, attempts);
    this.#use(connection);
  }

  // What is

  get current(): ConsumerConnection {
    return this.#current;
  }

  get isConnected(): boolean {
    return this.#ended === undefined && this.#lost === undefined;
  }

  get ended(): { readonly reason: EndReason } | undefined {
    return this.#ended;
  }

  /** Whether loops end without an error. */
  get isEndQuiet(): boolean {
    return this.#ended !== undefined && QUIET.includes(this.#ended.reason) && this.#cause === undefined;
  }

  /** How often a connection was followed by another one. */
  get reconnects(): number {
    return this.#readCount - 1;
  }

  /** Of all connections together. */
  get counts(): Counts {
    return sumOf(this.#counts, countsOf(this.#current));
  }

  /** Of the current one. */
  get currentCounts(): Counts {
    return countsOf(this.#current);
  }

  /** Newest slot that was handed out; -1 for none. */
  get seenSlot(): number {
    const { seenSlot } = this.#current.reader;
    return seenSlot >= 0 ? seenSlot : this.#seenSlot;
  }

  /** Whether nobody can tell how old it is what was handed out last. */
  get isAgeUnknown(): boolean {
    return this.#lost !== undefined || (this.#readCount > 1 && this.#current.reader.seenSlot < 0);
  }

  /** The seam that is to be handed out next. */
  takeSeam(): ConnectionView | undefined {
    const view = this.#seam.shift();
    this.hasSeam = this.#seam.length > 0;
    return view;
  }

  // Errors

  lostError(): QlasterError {
    const reason = this.#ended?.reason ?? this.#lost?.reason ?? this.#current.knownEnd ?? "sender-gone";
    const { reader, session } = this.#current;
    const what = reader.isRevoked ? REVOKED : session.explain(reason) ?? describeLoss(reason);
    const cause = this.#cause;
    const last = cause === undefined ? "" : `; the last attempt to connect again: ${(cause as Error).message}`;
    return new QlasterError("CONNECTION_LOST", `Lost the sender at "${this.path}" (${reason}: ${what})${last}`, {
      reason,
      cause,
    });
  }

  requestError(): QlasterError {
    return this.#ended?.reason === "closed"
      ? new QlasterError("CONSUMER_CLOSED", `Cannot ask the sender at "${this.path}"`)
      : this.lostError();
  }

  /** @throws {QlasterError} if there is no connection whose sender would answer. */
  assertAnswered(): void {
    if (!this.isConnected || this.#current.pendingEnd !== undefined) throw this.requestError();
  }

  /** @throws {QlasterError} if no sender will ever answer. */
  assertAskable(): void {
    if (this.#ended !== undefined) throw this.requestError();
    if (this.#options.reconnect === undefined) this.assertAnswered();
  }

  // What happens

  #emit(event: ConnectionEvent): void {
    const { onConnection } = this.#options;
    // Not from within: what it throws is nobody's who reads.
    if (onConnection !== undefined) queueMicrotask(() => onConnection(event));
  }

  #tell(event: LostEvent | ResumedEvent): void {
    this.#emit(event);
    // A loop that has not read of one connection at all is told of the first loss and of what follows in the end.
    const waiting = this.#seam.at(-1)?.event;
    if (event.type === "lost" && waiting?.type === "resumed") {
      this.#carried = waiting.continuity;
      this.#seam.pop();
    } else {
      this.#seam.push(new ConnectionView(event, () => this.#native.clockUs()));
    }
    this.hasSeam = this.#seam.length > 0;
  }

  #tellResumed(
    continuity: Continuity,
    known: Pick<ResumedEvent, "isSameSender" | "lastSequence" | "sequence" | "attempts" | "downMs">,
  ): void {
    const worst = CONTINUITIES[Math.min(CONTINUITIES.indexOf(continuity), CONTINUITIES.indexOf(this.#carried))]!;
    this.#carried = "complete";
    this.#tell({ type: "resumed", continuity: worst, ...known });
  }

  #start(connection: ConsumerConnection, attempts: number): void {
    if (!this.#pause.isRef) connection.session.unref();
    connection.start({
      onWake: () => {
        if (connection === this.#current) this.#host.onWake();
      },
      onOver: () => this.#onOver(connection),
    });
    connection.reader.onSnapshot = (view) => this.edits.noteSnapshot(view);
    connection.reader.onForgotten = (accounts) => this.onForgotten?.(accounts);
    if (connection.isResumed) connection.reader.onHole = (resumed) => this.#onHole(connection, resumed);
    const { protocol } = connection.session;
    this.#emit({
      type: "connected",
      protocol,
      senderId: connection.senderId,
      connection: ++this.#count,
      attempts,
    });
  }

  #use(connection: ConsumerConnection): void {
    this.#readCount++;
    this.#current = connection;
    this.#lost = undefined;
    this.#host.onRing(connection.ring);
    this.#host.onReader(connection.reader);
    this.edits.attach(connection.session);
  }

  #onOver(connection: ConsumerConnection): void {
    if (connection !== this.#current) return connection.session.rejectAll(this.lostError());
    if (this.#options.reconnect === undefined) this.edits.rejectAll(this.requestError());
    else this.edits.detach();
    connection.session.rejectAll(this.requestError());
    // With nothing left to read it is over now, even if nobody reads. But who holds a view keeps it until he asks again.
    void this.#endIfUnread(connection);
    this.#host.onWake();
  }

  async #endIfUnread(connection: ConsumerConnection): Promise<void> {
    const { reader } = connection;
    while (this.isConnected && connection === this.#current) {
      if (this.#host.isReading() || reader.ready > 0 || reader.isHeld) return;
      if (reader.refill()) return;
      if (!reader.isCut) return this.noteEnd();
      await new Promise<void>((resolve) => void setImmediate(resolve));
    }
  }

  /** The ring is empty: is that all there will ever be? */
  noteEnd(): void {
    if (!this.isConnected) return;
    const reason = this.#current.findEnd();
    if (reason !== undefined) this.#lose(reason);
  }

  #lose(reason: EndReason): void {
    const connection = this.#current;
    const { reconnect } = this.#options;
    const { reader, session } = connection;
    this.edits.detach();
    session.rejectAll(this.requestError());
    connection.close();
    if (reader.seenSlot >= 0) this.#seenSlot = reader.seenSlot;
    this.#resumePoint = connection.resumePoint(this.#resumePoint);
    if (reader.lastSequence > 0) {
      this.#position = { senderId: connection.senderId, sequence: BigInt(reader.lastSequence) };
    }
    this.#backoff.noteEnd(connection.ageMs);
    // Who has taken over is there already.
    const pauseMs = () => reason === "handed-over" ? 0 : this.#backoff.next();
    const retryMs = reconnect === undefined ? undefined : pauseMs();
    const lost: LostEvent = {
      type: "lost",
      reason,
      lastSequence: this.#position.sequence,
      isOverwritten: reader.isRevoked,
      retryMs,
    };
    if (retryMs === undefined) {
      this.#emit(lost);
      this.#end(reason);
      return;
    }
    this.#lost = { reason, at: this.#native.clock.now() };
    this.#tell(lost);
    this.#host.onRing(undefined);
    this.#host.onWake();
    void this.#goOn(retryMs, reconnect!.giveUpMs);
  }

  #endingSignal(): AbortSignal {
    const ending = this.#ending ??= new AbortController();
    if (this.#ended !== undefined) ending.abort();
    return ending.signal;
  }

  async #goOn(firstMs: number, giveUpMs: number): Promise<void> {
    const lost = this.#lost!;
    try {
      const { connection: { connection, sequence }, attempts } = await tryUntilConnected({
        attempt: (attempts) => this.#attempt(attempts),
        onFailed: (failed) => this.#emit({ type: "failed", ...failed }),
        backoff: this.#backoff,
        pause: this.#pause,
        firstMs,
        giveUpMs,
        signal: this.#endingSignal(),
      });
      this.#candidate = undefined;
      this.#resume(connection, { sequence, attempts, downMs: this.#native.clock.now() - lost.at });
    } catch (error) {
      if (this.#ended !== undefined) return;
      this.#cause = error;
      this.#end(lost.reason);
    }
  }

  /** A connection that has all filters. */
  async #attempt(attempts: number): Promise<{ connection: ConsumerConnection; sequence: bigint | undefined }> {
    const signal = this.#endingSignal();
    const connection = await ConsumerConnection.open(this.#native, {
      path: this.path,
      names: this.#names,
      generationBase: this.edits.generationBase,
      resume: this.#resumePoint,
      signal,
      isRef: this.#pause.isRef,
    }, this.#options);
    this.#candidate = connection;
    try {
      signal.throwIfAborted();
      this.#start(connection, attempts);
      const { isResumed, session } = connection;
      const sequence = await this.edits.restore(session, { isResumed });
      if (isResumed) await session.begin();
      signal.throwIfAborted();
      return { connection, sequence: isResumed ? this.#resumePoint!.after : sequence };
    } catch (error) {
      this.#candidate = undefined;
      connection.session.goodbye();
      connection.close();
      throw error;
    }
  }

  #resume(
    connection: ConsumerConnection,
    known: Pick<ResumedEvent, "sequence" | "attempts" | "downMs">,
  ): void {
    const { senderId, sequence: lastSequence } = this.#position;
    const isKnown = senderId !== undefined && connection.senderId !== undefined;
    const hasState = connection.grant?.hasState === true && this.edits.isStateful;
    this.#counts = this.counts;
    this.#names.forgetRetired();
    this.#tellResumed(connection.isResumed ? "complete" : hasState ? "state" : "unknown", {
      isSameSender: isKnown ? senderId === connection.senderId : undefined,
      lastSequence,
      ...known,
    });
    this.#use(connection);
    // It may have ended while the filters were set.
    if (connection.pendingEnd !== undefined) this.#onOver(connection);
    this.#host.onWake();
  }

  /** What was kept of what we missed was too short: what is missing is told before what follows, and state makes up for it. */
  #onHole(connection: ConsumerConnection, { replayedTo, liveAfter }: ResumedCopy): void {
    connection.reader.onHole = undefined; // there is one at most
    const hasState = connection.grant?.hasState === true && this.edits.isStateful;
    this.#tellResumed(hasState ? "state" : "unknown", {
      isSameSender: true,
      lastSequence: replayedTo,
      sequence: liveAfter,
      attempts: 0,
      downMs: 0,
    });
    if (!hasState) return;
    this.edits.renewState(connection.session).catch(() => connection.abandon("sender-gone"));
  }

  // Life

  set isRef(isRef: boolean) {
    this.#pause.isRef = isRef;
    for (const connection of [this.#current, this.#candidate]) {
      if (isRef) connection?.session.ref();
      else connection?.session.unref();
    }
  }

  close(): void {
    if (this.#ended !== undefined) return;
    if (this.#lost === undefined) this.#current.session.goodbye();
    this.#seam = [];
    this.hasSeam = false;
    this.#end("closed");
  }

  #end(reason: EndReason): void {
    this.#ended = { reason };
    this.#ending?.abort();
    const error = this.requestError();
    this.edits.rejectAll(error);
    this.#candidate?.session.rejectAll(error); // whose attempt then ends, and closes it
    this.#current.session.close();
    this.#current.session.rejectAll(error);
    this.#host.onEnd();
    this.#current.close();
    this.#resolveEnded(this.#ended);
  }
}
