/**
 * An accepted connection that speaks wire version 9: its control socket, and the slots that it got over it.
 * May touch: one link and its duplicate in the runtime's event loop. May not touch: rings, the index; the server does.
 * Replies go out through the native link, each in one piece: the original reads the one with a descriptor at one go.
 * What we never do: write to the socket without being asked, since the original would take that for its next reply.
 *
 * @module
 */

import type { Native, Watch } from "../native/native.ts";
import { isQlasterError } from "../errors.ts";
import type { Link, LinkPeer } from "../stream/link.ts";
import type { EndReason, SlotToken } from "../types.ts";
import type { HalfReader, HalfSent } from "./half_sent.ts";
import {
  type ClientMessage,
  decodeClient,
  encodeReady,
  encodeReadyShm,
  type FrameCutter,
  type SubscribeV9,
} from "./messages.ts";
import type { V9Slot } from "./slot.ts";

const NOTHING = new Uint8Array(0);

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
  /** A new slot, which gets frames from here on; a text if there is none, which says why. Throws what stands in the way. */
  open(peer: V9Peer, request: SubscribeV9): OpenedSlot | string;
  /** Adds to a slot's filter. Throws if there are too many keys. */
  subscribe(slot: V9Slot, request: SubscribeV9): void;
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
  readonly #events: V9PeerEvents;
  #watch: Watch | undefined;
  #isRef = true;
  #isClosed = false;

  /** @param cutter Holds what came behind the first messages. */
  constructor(native: Native, link: Link, cutter: FrameCutter, halfSent: HalfSent, events: V9PeerEvents) {
    this.#native = native;
    this.#link = link;
    this.#cutter = cutter;
    this.#halfSent = halfSent;
    this.#events = events;
  }

  /** Whether its socket is closed. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  get identity(): LinkPeer {
    return this.#link.peer;
  }

  /** Answers the first messages, then has the runtime read the socket. Never rejects. */
  async start(bodies: readonly Uint8Array[]): Promise<void> {
    this.#guard(() => this.#onBodies(bodies));
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
    this.#guard(() => {
      let isNew = false;
      for (let more = bytes; !this.#isClosed; more = NOTHING) {
        const bodies = this.#cutter.push(more);
        if (bodies.length === 0) return this.#halfSent.note(this, this.#cutter.pending, isNew);
        isNew = true;
        this.#onBodies(bodies);
      }
    });
  }

  #onBodies(bodies: readonly Uint8Array[]): void {
    for (const body of bodies) {
      if (this.#isClosed) return;
      this.#onMessage(decodeClient(body));
    }
  }

  /** Whatever is wrong with it ends this connection and no other. Without a word: version 9 has none for it. */
  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    const isTheirFault = isQlasterError(error) && error.code.startsWith("V9_");
    // Who has a slot has been heard of: its end says enough.
    this.close(isTheirFault ? "peer-corrupt" : "evicted", this.slots.size === 0 ? textOf(error) : undefined);
  }

  #onMessage(message: ClientMessage): void {
    switch (message.kind) {
      case "ping":
        this.#events.find(this, message.token); // the sign of life is all
        return;
      case "subscribe":
        return this.#onSubscribe(message.request);
    }
  }

  #onSubscribe(request: SubscribeV9): void {
    const receivedAt = performance.now();
    let slot = request.token && this.#events.find(this, request.token);
    if (slot !== undefined) {
      this.#events.subscribe(slot, request);
      if (!this.#link.sendWhole(encodeReady(slot.token))) return this.close("consumer-gone");
    } else {
      slot = this.#open(request);
      if (slot === undefined) return;
    }
    this.#events.onSubscribed(slot, request, receivedAt);
  }

  /** A new slot and its announcement. Undefined: the connection is closed. */
  #open(request: SubscribeV9): V9Slot | undefined {
    const opened = this.#tryOpen(request);
    if (typeof opened === "string") {
      this.close("evicted", opened);
      return undefined;
    }
    const { slot, path, wakeFd } = opened;
    try {
      const { token, capacityBytes } = slot;
      if (!this.#link.sendWhole(encodeReadyShm({ token, path, capacityBytes }), [wakeFd])) {
        this.close("consumer-gone");
        return undefined;
      }
    } finally {
      this.#native.fdClose(wakeFd);
    }
    this.wasGranted = true;
    this.#events.onGranted(slot);
    return slot;
  }

  giveUp(reason: string): void {
    this.close("evicted", this.slots.size === 0 ? reason : undefined);
  }

  #tryOpen(request: SubscribeV9): OpenedSlot | string {
    try {
      return this.#events.open(this, request);
    } catch (error) {
      return textOf(error);
    }
  }

  /** Closes the socket, which is all that the consumer is told here. May be called twice. @see V9PeerEvents.onClosed */
  close(reason: EndReason, refusal?: string): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
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
