/**
 * An accepted connection that speaks wire version 9: its control socket, and the slots that it got over it.
 * May touch: one link and its duplicate in the runtime's event loop. May not touch: rings, the index; the server does.
 * Replies go out through the native link, in order; that with a descriptor in one piece, as the original reads it.
 * Messages are answered one after the other. Long ones take several turns of the event loop: publishing goes on meanwhile.
 * What we never do: write to the socket without being asked, since the original would take that for its next reply.
 *
 * @module
 */

import { clearTimeout, setImmediate, setTimeout } from "node:timers";
import type { Native, Watch } from "../native/native.ts";
import { isQlasterError } from "../errors.ts";
import type { Link, LinkPeer } from "../stream/link.ts";
import { onceHeard } from "../stream/turns.ts";
import type { EndReason, SlotToken } from "../types.ts";
import type { SubscribeRequest } from "../wire/messages.ts";
import type { HalfReader, HalfSent } from "./half_sent.ts";
import {
  type ClientWords,
  encodeReady,
  encodeReadyShm,
  type FrameCutter,
  partsOf,
  readClient,
  type SubscribeKeys,
  type SubscribeV9,
  wholeOf,
} from "./messages.ts";
import type { V9Slot } from "./slot.ts";

const NOTHING = new Uint8Array(0);
/** Keys that one connection adds in one turn of the event loop: a few milliseconds at most. */
const KEYS_PER_TURN = 4096;
/**
 * How often room for a slot is looked for: the end of a socket that is closed already has to get through the event loop,
 * which takes Deno three turns, and either runtime more on a busy machine. The later ones take a millisecond each.
 */
const TURNS_FOR_ROOM = 16;
const LOOKS_FOR_ROOM = 36;

/** A slot just made, and how its consumer finds it. */
export interface OpenedSlot {
  readonly slot: V9Slot;
  readonly path: string;
  /** The wake's descriptor to pass on; the peer closes it. */
  readonly wakeFd: number;
}

/** What a peer asks and tells its server. */
export interface V9PeerEvents {
  /** The live slot of a token that this peer may use. The token's being named counts as a sign of life. */
  find(peer: V9Peer, token: SlotToken): V9Slot | undefined;
  /** Whether there is a place for one more slot. */
  hasRoom(peer: V9Peer): boolean;
  /**
   * A new slot, which gets frames from here on; a text if there is none, which says why. Throws what stands in the way.
   * @param isClaimed It answers a request without a token.
   */
  open(peer: V9Peer, isClaimed: boolean): OpenedSlot | string;
  /** Adds to a slot's filter. Throws if there are too many keys. */
  subscribe(slot: V9Slot, request: SubscribeRequest): void;
  /** The answer was written: the slot is its consumer's. */
  onGranted(slot: V9Slot): void;
  /** A subscription is in force, and answered. */
  onSubscribed(slot: V9Slot, request: SubscribeV9, receivedAt: number): void;
  /**
   * The connection is closed. Its slots end for that reason.
   * @param refusal Why it did not get what it asked for, or can't have anything, in words; undefined if it went by itself.
   */
  onClosed(peer: V9Peer, reason: EndReason, refusal: string | undefined): void;
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 1));
}

/** Work that may have to wait: it yields what for. Without that it is done at once. */
type Work = Generator<Promise<void>, void>;

/** One connection. */
export class V9Peer implements HalfReader {
  /** The slots that it got and that have not ended. */
  readonly slots = new Set<V9Slot>();
  /** Whether it ever got a slot. */
  wasGranted = false;

  readonly #native: Native;
  readonly #link: Link;
  readonly #cutter: FrameCutter;
  readonly #halfSent: HalfSent;
  readonly #timeoutMs: number;
  readonly #events: V9PeerEvents;
  /** Messages that wait for the one that is being answered, which stands first. */
  readonly #bodies: Uint8Array[] = [];
  #bodyBytes = 0;
  #isWorking = false;
  /** How many may be added before the event loop has to have a turn. */
  #keysLeft = KEYS_PER_TURN;
  /** Runs while a message has begun and not ended, and there is no slot. */
  #deadline: ReturnType<typeof setTimeout> | undefined;
  #watch: Watch | undefined;
  #isRef = true;
  #isClosed = false;

  /**
   * @param cutter Holds what came behind the first messages.
   * @param timeoutMs From a message's first bytes to its last, as long as there is no slot.
   */
  constructor(
    native: Native,
    link: Link,
    cutter: FrameCutter,
    halfSent: HalfSent,
    timeoutMs: number,
    events: V9PeerEvents,
  ) {
    this.#native = native;
    this.#link = link;
    this.#cutter = cutter;
    this.#halfSent = halfSent;
    this.#timeoutMs = timeoutMs;
    this.#events = events;
  }

  /** Whether its socket is closed. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  get identity(): LinkPeer {
    return this.#link.peer;
  }

  /** Answers the first messages, and has the runtime read the socket. Never rejects. */
  async start(bodies: readonly Uint8Array[]): Promise<void> {
    this.#take(bodies);
    this.#onBytes(NOTHING);
    if (this.#isClosed) return;
    try {
      const fd = this.#link.duplicate();
      const onClose = () => this.close("consumer-gone");
      const watch = await this.#native.stream(fd, (bytes) => this.#onBytes(bytes), onClose);
      this.#watch = watch;
      if (this.#isClosed) watch.close();
      else if (!this.#isRef) watch.unref();
    } catch (error) {
      this.#fail(error); // no descriptor is left, or the like
    }
  }

  #onBytes(bytes: Uint8Array): void {
    this.#keysLeft = KEYS_PER_TURN;
    let isNew = false;
    try {
      for (let more = bytes; !this.#isClosed; more = NOTHING) {
        const bodies = this.#cutter.push(more);
        if (bodies.length === 0) break;
        isNew = true;
        this.#take(bodies);
      }
    } catch (error) {
      return this.#fail(error);
    }
    this.#noteUnfinished(isNew);
  }

  #take(bodies: readonly Uint8Array[]): void {
    for (const body of bodies) {
      this.#bodies.push(body);
      this.#bodyBytes += body.length;
    }
    void this.#answerAll();
  }

  /** Answers one message after the other. Those that need not wait are answered before this returns. Never rejects. */
  async #answerAll(): Promise<void> {
    if (this.#isWorking) return; // who works goes on with what has come
    this.#isWorking = true;
    let hasWaited = false;
    try {
      while (!this.#isClosed && this.#bodies.length > 0) {
        const body = this.#bodies[0]!;
        for (const wait of this.#onMessage(readClient(body))) {
          await wait;
          hasWaited = true;
          if (this.#isClosed) return;
        }
        this.#bodies.shift();
        this.#bodyBytes -= body.length;
      }
      if (hasWaited) this.#noteUnfinished(true);
    } catch (error) {
      // Whatever is wrong with it ends this connection and no other. Without a word: version 9 has none for it.
      this.#fail(error);
    } finally {
      this.#isWorking = false;
    }
  }

  /** Counts what it makes us keep, and the time that it takes. @param isNew A message has ended since. */
  #noteUnfinished(isNew: boolean): void {
    if (this.#isClosed) return;
    // As long as messages wait, what is kept began with the first of them.
    this.#halfSent.note(this, this.#cutter.pending + this.#bodyBytes, isNew && this.#bodies.length === 0);
    if (this.#isClosed) return;
    const isMidway = this.#cutter.pending > 0 && this.slots.size === 0;
    if (isNew || !isMidway) this.#stopDeadline();
    if (!isMidway || this.#deadline !== undefined) return;
    // Time in which our own loop stood still does not count against the peer.
    const onTime = () => onceHeard(() => this.#onLate(timer));
    const timer = this.#deadline = setTimeout(onTime, this.#timeoutMs).unref();
  }

  #onLate(timer: ReturnType<typeof setTimeout>): void {
    if (this.#deadline !== timer) return;
    this.close(
      "evicted",
      `the rest of its message did not come within ${this.#timeoutMs} ms (option handshakeTimeoutMs)`,
    );
  }

  #stopDeadline(): void {
    clearTimeout(this.#deadline);
    this.#deadline = undefined;
  }

  #fail(error: unknown): void {
    const isTheirFault = isQlasterError(error) && (error.code.startsWith("V9_") || error.code === "LINK_PROTOCOL");
    this.#refuse(isTheirFault ? "peer-corrupt" : "evicted", textOf(error));
  }

  /** Closes, and says why, unless it has a slot: such a one has been heard of, and its end says enough. */
  #refuse(reason: EndReason, text: string): void {
    const hasSlot = [...this.slots].some(({ isGranted }) => isGranted);
    this.close(reason, hasSlot ? undefined : text);
  }

  *#onMessage(message: ClientWords): Work {
    switch (message.kind) {
      case "ping":
        this.#events.find(this, message.token); // the sign of life is all
        return;
      case "subscribe":
        return yield* this.#onSubscribe(message.request);
    }
  }

  *#onSubscribe(request: SubscribeKeys): Work {
    const receivedAt = performance.now();
    const known = request.token && this.#events.find(this, request.token);
    if (known !== undefined) {
      yield* this.#fill(known, request);
      // One that has ended meanwhile is as good as one that was not there.
      if (!known.isEnded) {
        this.#link.send(encodeReady(known.token));
        if (this.#link.hasFailed) return this.close("consumer-gone");
        return this.#events.onSubscribed(known, wholeOf(request), receivedAt);
      }
    }
    yield* this.#open(request, receivedAt);
  }

  /** Adds to a slot's filter, some keys in each turn of the event loop. */
  *#fill(slot: V9Slot, request: SubscribeKeys): Work {
    for (const part of partsOf(request, KEYS_PER_TURN)) {
      if (this.#keysLeft <= 0) {
        yield turn();
        this.#keysLeft = KEYS_PER_TURN;
      }
      if (slot.isEnded) return;
      this.#events.subscribe(slot, part);
      this.#keysLeft -= part.accounts.length + part.owners.length;
    }
  }

  /** A new slot and its announcement, or the end of the connection. */
  *#open(request: SubscribeKeys, receivedAt: number): Work {
    // The announcement goes out in one piece, so behind nothing that waits for room.
    while (!this.#link.isSent && !this.#link.hasFailed) yield this.#sent();
    for (let i = 0; i < LOOKS_FOR_ROOM && !this.#events.hasRoom(this); i++) yield i < TURNS_FOR_ROOM ? turn() : pause();
    const opened = this.#tryOpen(request.token === undefined);
    if (typeof opened === "string") return this.close("evicted", opened);
    const { slot, path, wakeFd } = opened;
    try {
      yield* this.#fill(slot, request);
      if (slot.isEnded) {
        return this.#refuse("evicted", "its ring was full before it could be told of it (option ringCapacityBytes)");
      }
      const { token, capacityBytes } = slot;
      const isSent = this.#link.sendWhole(encodeReadyShm({ token, path, capacityBytes }), [wakeFd]);
      if (!isSent) return this.close("consumer-gone");
    } finally {
      this.#native.fdClose(wakeFd);
    }
    this.wasGranted = true;
    this.#events.onGranted(slot);
    this.#events.onSubscribed(slot, wholeOf(request), receivedAt);
  }

  #tryOpen(isClaimed: boolean): OpenedSlot | string {
    try {
      return this.#events.open(this, isClaimed);
    } catch (error) {
      return textOf(error);
    }
  }

  /** The socket has taken what waited. */
  #sent(): Promise<void> {
    return new Promise((resolve) => {
      this.#link.onSentLater = () => {
        if (this.#link.isSent || this.#link.hasFailed) resolve();
      };
    });
  }

  giveUp(reason: string): void {
    this.#refuse("evicted", reason);
  }

  /** Closes the socket, which is all that the consumer is told here. May be called twice. @see V9PeerEvents.onClosed */
  close(reason: EndReason, refusal?: string): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#stopDeadline();
    this.#bodies.length = 0;
    this.#halfSent.note(this, 0, true);
    this.#watch?.close();
    this.#link.close();
    this.#events.onClosed(this, reason, refusal);
  }

  ref(): void {
    this.#isRef = true;
    this.#watch?.ref();
  }

  unref(): void {
    this.#isRef = false;
    this.#watch?.unref();
  }
}
