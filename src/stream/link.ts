/**
 * A link: whole messages over a native link that moves bytes, with bounds on both directions.
 * May touch: one native link handle, a retry timer. May not touch: what messages mean.
 * Of wire version 9 it knows how to tell it from the native protocol; its messages are cut by src/v9/messages.ts.
 *
 * @module
 */

import { LINK_BODY_BYTES_MAX, LINK_DESCRIPTORS_MAX, LINK_MAGIC, LinkHeader, Status } from "../native/abi.generated.ts";
import type { Native } from "../native/native.ts";
import { errorFromStatus } from "../errors.ts";
import { decodeHeader, type Message, protocolError } from "../wire/messages.ts";

const RECEIVE_BYTES = 16 * 1024;
/** Longest `drain`, in milliseconds: a peer that never stops talking must not hold the event loop. */
const DRAIN_MS = 2;
const RETRY_MS = 2;
const NO_DESCRIPTORS = new Int32Array(1);
const NO_BYTES = new Uint8Array(0);
/** A link that waits has no buffer: one that reads takes this, and gives it back. */
let spare: Uint8Array | undefined;
/** What came with what any of them has received last: how many descriptors, and which. */
const received = new Uint32Array(1 + LINK_DESCRIPTORS_MAX);
/** What tells the protocols apart: a magic, or a length, which is never as great as that magic. */
const FIRST_WORD_SIZE = Uint32Array.BYTES_PER_ELEMENT;

/** Who is on the other side, by the kernel's word. */
export interface LinkPeer {
  readonly pid: number;
  readonly uid: number;
}

/** A message that waits for room in the socket. */
interface Pending {
  bytes: Uint8Array;
  descriptors: Int32Array | undefined;
}

/** What `drain` found: everything was read, there is or may be more, or the other side closed. */
export type DrainOutcome = "idle" | "more" | "end";

/** What the other side speaks. */
export type LinkProtocol = "native" | "v9";

/** Takes a message. False stops the draining: what follows is left for the next. */
export type OnMessage = (message: Message) => unknown;

/** Takes bytes, valid until it returns. False stops the draining. */
export type OnBytes = (bytes: Uint8Array) => unknown;

/** One end of a link. */
export class Link {
  readonly peer: LinkPeer;
  /** How many descriptors the next message may bring; 0 after it came. */
  descriptorsExpected: number;
  /** Longest body that is accepted. */
  bodyBytesMax: number;
  /** Something that had to wait went into the socket: wake the peer for it, since nobody else will (design D7). */
  onSentLater: (() => void) | undefined;

  readonly #native: Native;
  readonly #handle: number;
  readonly #queueBytesMax: number;
  readonly #queue: Pending[] = [];
  #queueBytes = 0;
  #hasFailed = false;
  #retry: ReturnType<typeof setTimeout> | undefined;
  /** Empty while nothing has come that was not handed over. */
  #buffer: Uint8Array = NO_BYTES;
  #filled = 0;
  #descriptors: number[] = [];
  #closed = false;

  /**
   * @param options.queueBytesMax Most bytes that wait for a peer that does not read; beyond, `send` throws.
   */
  constructor(
    native: Native,
    handle: number,
    options: { descriptorsExpected: number; queueBytesMax: number; bodyBytesMax?: number },
  ) {
    this.bodyBytesMax = options.bodyBytesMax ?? LINK_BODY_BYTES_MAX;
    this.#native = native;
    this.#handle = handle;
    this.descriptorsExpected = options.descriptorsExpected;
    this.#queueBytesMax = options.queueBytesMax;
    const peer = new Int32Array(3);
    const status = native.linkPeer(handle, peer);
    if (status < 0) {
      native.close(handle);
      throw errorFromStatus(status, "Cannot ask who is on the other side of a link");
    }
    this.peer = { pid: peer[0]!, uid: peer[1]! >>> 0 };
  }

  /**
   * Sends a message, now or as soon as the socket takes it. The descriptors stay the caller's and must stay open until
   * `isSent`.
   * @throws {QlasterError} `LINK_PROTOCOL` when the peer has not read for too long.
   */
  send(bytes: Uint8Array, descriptors?: readonly number[]): void {
    if (this.#closed) return;
    if (this.#queueBytes + bytes.length > this.#queueBytesMax) throw protocolError("the peer does not read its link");
    this.#queue.push({ bytes, descriptors: descriptors && Int32Array.from(descriptors) });
    this.#queueBytes += bytes.length;
    this.flush();
  }

  /** Sends a message now and as a whole. False: it did not fit or the peer is gone, and the link is of no more use. */
  sendWhole(bytes: Uint8Array, descriptors: readonly number[] = []): boolean {
    if (this.#closed || this.#queue.length > 0) return false;
    const passed = descriptors.length === 0 ? NO_DESCRIPTORS : Int32Array.from(descriptors);
    return this.#native.linkSend(this.#handle, bytes, bytes.length, passed, descriptors.length) === bytes.length;
  }

  /** Whether everything went into the socket. */
  get isSent(): boolean {
    return this.#queue.length === 0 && !this.#hasFailed;
  }

  /** Whether the kernel refused a message, such as for too many descriptors under way. */
  get hasFailed(): boolean {
    return this.#hasFailed;
  }

  /** Whether a message has begun and not ended. */
  get isMidway(): boolean {
    return this.#filled > 0;
  }

  /** Tries again what did not fit. Never throws: a closed peer is found by `drain`. */
  flush(): void {
    clearTimeout(this.#retry);
    while (!this.#closed && this.#queue.length > 0) {
      const first = this.#queue[0]!;
      const descriptors = first.descriptors ?? NO_DESCRIPTORS;
      const count = first.descriptors?.length ?? 0;
      const sent = this.#native.linkSend(this.#handle, first.bytes, first.bytes.length, descriptors, count);
      if (sent === Status.wouldBlock) {
        this.#retry = setTimeout(() => this.#retryFlush(), RETRY_MS);
        return;
      }
      if (sent < 0) {
        this.#hasFailed = sent !== Status.endOfStream; // a peer that is gone is found by `drain`
        this.#queue.length = 0;
        this.#queueBytes = 0;
        return;
      }
      this.#queueBytes -= sent;
      first.descriptors = undefined; // they went with the first byte
      first.bytes = first.bytes.subarray(sent);
      if (first.bytes.length === 0) this.#queue.shift();
    }
  }

  #retryFlush(): void {
    const before = this.#queueBytes;
    this.flush();
    if (this.#queueBytes < before) this.onSentLater?.();
  }

  /**
   * Receives until the first four bytes are there, which say what the other side speaks. They stay to be read.
   * @returns The protocol; "idle" or "end" if they have not come, or never will.
   * @throws {QlasterError} `LINK_PROTOCOL` for too many descriptors.
   */
  detect(): LinkProtocol | "idle" | "end" {
    while (this.#filled < FIRST_WORD_SIZE) {
      const outcome = this.#receive();
      if (outcome === "more") continue;
      this.#letGo();
      return outcome;
    }
    const word = new DataView(this.#buffer.buffer).getUint32(LinkHeader.magic, true);
    return word === LINK_MAGIC ? "native" : "v9";
  }

  /**
   * Reads what is there and hands over whole messages, for at most two milliseconds.
   * @throws {QlasterError} `LINK_PROTOCOL` for nonsense; what `onMessage` throws.
   */
  drain(onMessage: OnMessage): DrainOutcome {
    const deadline = performance.now() + DRAIN_MS;
    try {
      // First what an earlier draining left.
      while (this.#deliver(onMessage, deadline)) {
        if (this.#closed) return "idle";
        const outcome = this.#receive();
        if (outcome !== "more") return outcome;
      }
      return this.#closed ? "idle" : "more";
    } finally {
      this.#letGo();
    }
  }

  /**
   * Reads what is there and hands it over uncut, for at most two milliseconds: for a protocol without descriptors.
   * @throws {QlasterError} `LINK_PROTOCOL` for a descriptor; what `onBytes` throws.
   */
  drainBytes(onBytes: OnBytes): DrainOutcome {
    const deadline = performance.now() + DRAIN_MS;
    try {
      while (!this.#closed) {
        if (this.#descriptors.length > 0) throw protocolError("it brought descriptors that nobody asked for");
        const bytes = this.#buffer.subarray(0, this.#filled);
        this.#filled = 0;
        // Time is looked at behind what was handed over: each call gets on, however late its thread is.
        if (bytes.length > 0 && (onBytes(bytes) === false || performance.now() >= deadline)) return "more";
        const outcome = this.#receive();
        if (outcome !== "more") return outcome;
      }
      return "idle";
    } finally {
      this.#letGo();
    }
  }

  /** Gives the buffer back, unless something stands in it. */
  #letGo(): void {
    if (this.#filled > 0) return;
    if (this.#buffer.length === RECEIVE_BYTES) spare ??= this.#buffer;
    this.#buffer = NO_BYTES;
  }

  /** Receives once, into the free part of the buffer. */
  #receive(): DrainOutcome {
    if (this.#buffer.length === 0) {
      this.#buffer = spare ?? new Uint8Array(RECEIVE_BYTES);
      spare = undefined;
    }
    const room = this.#buffer.subarray(this.#filled);
    const expected = this.descriptorsExpected;
    const status = this.#native.linkReceive(this.#handle, room, room.length, received, expected);
    if (status === Status.wouldBlock) return "idle";
    if (status === Status.endOfStream) return "end";
    if (status < 0) throw errorFromStatus(status, "Cannot receive from a link");
    for (let i = 0; i < received[0]!; i++) this.#descriptors.push(received[1 + i]!);
    this.descriptorsExpected = Math.max(0, expected - received[0]!);
    this.#filled += status;
    return "more";
  }

  /** Hands over the whole messages in the buffer. False if it stopped before it had seen them all. */
  #deliver(onMessage: OnMessage, deadline: number): boolean {
    let at = 0;
    let goesOn = true;
    while (goesOn && this.#filled - at >= LinkHeader.size) {
      const header = decodeHeader(this.#buffer.subarray(at, at + LinkHeader.size), this.bodyBytesMax);
      const size = LinkHeader.size + header.bodyLength;
      if (this.#filled - at < size) {
        this.#makeRoom(at, size);
        return true;
      }
      const body = this.#buffer.slice(at + LinkHeader.size, at + size);
      at += size;
      goesOn = onMessage({ kind: header.kind, requestId: header.requestId, body }) !== false;
      if (this.#closed) return false;
      if (this.#descriptors.length > 0) throw protocolError("it brought descriptors that nobody asked for");
      if (performance.now() >= deadline) goesOn = false;
    }
    if (at > 0) {
      this.#buffer.copyWithin(0, at, this.#filled);
      this.#filled -= at;
    }
    // A long message is over: give its memory back.
    if (this.#filled === 0 && this.#buffer.length !== RECEIVE_BYTES) this.#buffer = NO_BYTES;
    return goesOn;
  }

  /** Moves the unread bytes to the front of a buffer that holds the message which they begin. */
  #makeRoom(at: number, size: number): void {
    const unread = this.#buffer.subarray(at, this.#filled);
    // Doubles with what has come, so that a mere announcement of a long message costs nothing.
    const wanted = Math.min(size, Math.max(RECEIVE_BYTES, 2 * unread.length));
    if (this.#buffer.length >= wanted && this.#buffer.length > unread.length) {
      this.#buffer.copyWithin(0, at, this.#filled);
    } else {
      const larger = new Uint8Array(wanted);
      larger.set(unread);
      this.#buffer = larger;
    }
    this.#filled = unread.length;
  }

  /**
   * The descriptors that came with the message just delivered; the caller owns them.
   * @throws {QlasterError} `LINK_PROTOCOL` if they are not that many.
   */
  takeDescriptors(count: number): number[] {
    if (this.#descriptors.length !== count) {
      throw protocolError(`it brought ${this.#descriptors.length} descriptors, not ${count}`);
    }
    this.descriptorsExpected = 0;
    return this.#descriptors.splice(0);
  }

  /**
   * A duplicate of the socket's descriptor, for the runtime's event loop to read; the caller owns it.
   * @throws {QlasterError} `SYSTEM`
   */
  duplicate(): number {
    const fd = this.#native.linkFd(this.#handle);
    if (fd < 0) throw errorFromStatus(fd, "Cannot duplicate a link's descriptor");
    return fd;
  }

  /** Closes the socket and every descriptor that nobody took. May be called twice. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#retry);
    for (const fd of this.#descriptors.splice(0)) this.#native.fdClose(fd);
    this.#native.close(this.#handle);
  }
}
