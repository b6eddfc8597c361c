/**
 * From an accepted link to a granted consumer, or a refusal that says why.
 * May touch: links that are not connections yet. May not touch: the index, publishing.
 *
 * @module
 */

import {
  FRAME_ALIGN,
  HelloBody,
  LAYOUT_VERSION,
  LINK_BODY_BYTES_MAX,
  NAME_BYTES_MAX,
  RESERVED_BYTES_MIN,
  RESERVED_FRACTION,
  Status,
} from "../native/abi.generated.ts";
import type { Native } from "../native/native.ts";
import type { OverflowPolicy } from "../types.ts";
import { errorFromStatus } from "../errors.ts";
import type { HalfSent } from "../v9/half_sent.ts";
import type { FrameCutter } from "../v9/messages.ts";
import type { RefusedEvent } from "../types.ts";
import { encodeRefusal, type Grant, type Hello } from "../wire/messages.ts";
import { Connection, connectionBytes, type ConnectionEvents } from "./connection.ts";
import { Handshake } from "./handshake.ts";
import { Link, type LinkPeer, type LinkProtocol } from "./link.ts";

/** Connections that have not said hello yet. One more ends the oldest, so that silence can't lock others out. */
const HANDSHAKES_MAX = 256;
/** A consumer that lags may hold that part of the pool, and no more. */
const POOL_SHARES = 4;
const NO_POOL = { bytes: 0, shareBytes: 0, fd: -1 };
/** Bytes that may wait for a consumer that does not read its link: acks and pongs are small. */
const LINK_QUEUE_BYTES_MAX = 64 * 1024;
/** The user who may do everything anyway. */
const ROOT_UID = 0;
/** What those are told who come too late. */
export const CLOSING = "the sender is closing";
const NOBODY_KNOWN: LinkPeer = { pid: 0, uid: -1 };

/** Whom a sender admits, and what each gets. */
export interface AdmissionOptions {
  readonly ringCapacityBytes: number;
  readonly consumersMax: number;
  readonly uids: readonly number[];
  readonly handshakeTimeoutMs: number;
  /** What a consumer may ask to happen when its ring is full. */
  readonly policies: readonly OverflowPolicy[];
  /** Most bytes that may wait at the sender for one consumer. */
  readonly queueMaxBytes: number;
  /** Bytes of the sender's pool; 0 for none. */
  readonly poolBytes: number;
  /** Whether peers of wire version 9 are served. */
  readonly isV9Served: boolean;
}

/** What admission asks and tells its sender. */
export interface AdmissionEvents extends ConnectionEvents {
  /** Native consumers that are connected. */
  connectionCount(): number;
  /** Why there is no memory for regions of that many bytes; undefined if there is. */
  refusalOfMemory(bytes: number): string | undefined;
  onConnection(connection: Connection): void;
  /** A descriptor of the pool; the caller's. */
  poolDescriptor(): number;
  /** What a grant says of the sender. */
  abilities(): Pick<Grant, "sequence" | "hasState" | "hasHistory" | "historyFrom" | "hasTakeover">;
  onRefused(event: RefusedEvent): void;
  /** A peer of wire version 9: its link, its first messages, what came behind them. */
  onV9(link: Link, bodies: readonly Uint8Array[], cutter: FrameCutter): void;
}

/** Decides who becomes a consumer; of those who speak wire version 9 only who may ask. */
export class Admission {
  /** Connections that were refused, or never said hello. */
  refused = 0;
  /** Connections that were granted. */
  granted = 0;

  readonly #native: Native;
  readonly #options: AdmissionOptions;
  readonly #halfSent: HalfSent;
  readonly #events: AdmissionEvents;
  readonly #ownUid: number;
  #senderId: Uint8Array = crypto.getRandomValues(new Uint8Array(16));
  readonly #handshakes = new Set<Handshake>();
  #lastId = 0;
  /** Hellos that are being granted: they count against the limits already. */
  #opening = 0;
  #isClosed = false;

  constructor(native: Native, options: AdmissionOptions, halfSent: HalfSent, events: AdmissionEvents) {
    this.#native = native;
    this.#options = options;
    this.#halfSent = halfSent;
    this.#events = events;
    this.#ownUid = native.uid();
  }

  /** Goes on as another sender, whose order of updates it is. Before the first connection. */
  adopt(senderId: Uint8Array): void {
    this.#senderId = senderId;
  }

  /** Takes an accepted connection. */
  onLink(handle: number): void {
    let link: Link;
    try {
      link = new Link(this.#native, handle, {
        descriptorsExpected: 1,
        queueBytesMax: LINK_QUEUE_BYTES_MAX,
        bodyBytesMax: HelloBody.size + NAME_BYTES_MAX,
      });
    } catch (error) {
      return this.#onRefused(NOBODY_KNOWN, undefined, error instanceof Error ? error.message : String(error));
    }
    if (this.#isClosed) return this.#refuse(link, undefined, Status.endOfStream, CLOSING);
    if (this.#handshakes.size >= HANDSHAKES_MAX) {
      const text = `${HANDSHAKES_MAX} connections had not said anything whole, and this was the oldest of them`;
      this.#handshakes.values().next().value?.cancel(text);
    }
    const noV9 = this.#refusalOfV9(link);
    if (!this.#mayConnect(link) && noV9 !== undefined) return this.#refuse(link, undefined, ...this.#wrongUid(link));
    const handshake = new Handshake(link, this.#options.handshakeTimeoutMs, this.#halfSent, {
      onHello: (hello, wakeFd) => {
        this.#handshakes.delete(handshake);
        void this.#onHello(link, hello, wakeFd);
      },
      onV9: (bodies, cutter) => {
        this.#handshakes.delete(handshake);
        this.#events.onV9(link, bodies, cutter);
      },
      noV9,
      onFailure: (reason) => {
        this.#handshakes.delete(handshake);
        this.#onRefused(link.peer, handshake.protocol, reason);
      },
    });
    this.#handshakes.add(handshake);
    handshake.start();
  }

  #mayConnect({ peer }: Link): boolean {
    return peer.uid === this.#ownUid || this.#options.uids.includes(peer.uid);
  }

  /** Why a peer is not served in version 9, if it is not. Such peers open our ring by its path: only we and root can. */
  #refusalOfV9({ peer }: Link): string | undefined {
    if (!this.#options.isV9Served) return "it does not speak the native protocol, and no other is served (option v9)";
    if (peer.uid === this.#ownUid || peer.uid === ROOT_UID) return undefined;
    return `wire version 9 is for uid ${this.#ownUid} and root, and it runs as uid ${peer.uid}`;
  }

  #wrongUid({ peer }: Link): [status: number, text: string] {
    return [Status.wrongUid, `uid ${peer.uid} is not among those that may connect (option uids)`];
  }

  /** Bytes of shared memory of those that are being granted. */
  get openingBytes(): number {
    return this.#opening * connectionBytes(this.#options.ringCapacityBytes);
  }

  /** Counts the sender's consumers, of all kinds. */
  nextId(): number {
    return ++this.#lastId;
  }

  /** Says why, then closes. */
  #refuse(link: Link, protocol: LinkProtocol | undefined, status: number, text: string): void {
    link.send(encodeRefusal(0, { status, text }));
    link.close();
    this.#onRefused(link.peer, protocol, text);
  }

  #onRefused({ pid, uid }: LinkPeer, protocol: LinkProtocol | undefined, reason: string): void {
    this.refused++;
    this.#events.onRefused({ type: "refused", protocol, pid, uid, reason });
  }

  async #onHello(link: Link, hello: Hello, wakeFd: number): Promise<void> {
    const refusal = this.#mayConnect(link) ? this.#refusalOf(hello) : this.#wrongUid(link);
    if (refusal !== undefined) {
      this.#refuse(link, "native", ...refusal);
      this.#native.fdClose(wakeFd); // behind the refusal: its end makes the consumer look for what was said
      return;
    }
    const wake = this.#native.wakeOpen(wakeFd);
    if (wake < 0) {
      const error = errorFromStatus(wake, "Cannot use the wake that a consumer handed over");
      return this.#refuse(link, "native", Status.badDescriptor, error.message);
    }
    const capacityBytes = this.#options.ringCapacityBytes;
    const share = Math.floor(capacityBytes / RESERVED_FRACTION / FRAME_ALIGN) * FRAME_ALIGN;
    const may = (policy: OverflowPolicy) => this.#options.policies.includes(policy) ? policy : "disconnect";
    const wanted = hello.backlogBytes === 0 ? this.#options.queueMaxBytes : hello.backlogBytes;
    const abilities = this.#events.abilities();
    this.#opening++;
    let connection: Connection;
    let pool = NO_POOL;
    try {
      pool = this.#poolFor(link);
      connection = await Connection.create(this.#native, this.#events, link, wake, {
        id: this.nextId(),
        name: hello.name,
        capacityBytes,
        reservedBytes: Math.max(RESERVED_BYTES_MIN, share),
        senderId: this.#senderId,
        policy: may(hello.policy),
        transactionPolicy: may(hello.transactionPolicy),
        backlogBytes: Math.min(wanted, this.#options.queueMaxBytes),
        pool,
        abilities,
        resumeAfter: this.#resumeAfter(hello, abilities),
      });
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      this.#refuse(link, "native", Status.badDescriptor, text);
      this.#native.close(wake); // likewise
      return;
    } finally {
      this.#opening--;
      if (pool.fd >= 0) this.#native.fdClose(pool.fd);
    }
    if (connection.isEnded) return this.#onRefused(link.peer, "native", "it was gone before it got its ring");
    if (this.#isClosed) {
      connection.close("sender-closed");
      return this.#onRefused(link.peer, "native", CLOSING);
    }
    link.bodyBytesMax = LINK_BODY_BYTES_MAX;
    try {
      this.#events.onConnection(connection);
    } catch (error) {
      // No place is left, such as while those who were ended are kept for a while: it tries again, as after any loss.
      connection.close("consumer-gone");
      return this.#onRefused(link.peer, "native", error instanceof Error ? error.message : String(error));
    }
    this.granted++;
  }

  /** Who maps the pool can read all of it: consumers of another user get their payloads in their rings. */
  #poolFor({ peer }: Link): typeof NO_POOL {
    const { poolBytes } = this.#options;
    if (poolBytes === 0 || peer.uid !== this.#ownUid) return NO_POOL;
    return { bytes: poolBytes, shareBytes: poolBytes / POOL_SHARES, fd: this.#events.poolDescriptor() };
  }

  /** From where a consumer can go on, if it asks for that, and the order is ours and reaches back that far. */
  #resumeAfter({ resume }: Hello, { sequence, historyFrom }: ReturnType<AdmissionEvents["abilities"]>) {
    if (resume === undefined || historyFrom === undefined) return undefined;
    if (resume.after < historyFrom || resume.after > sequence) return undefined;
    return resume.senderId.every((byte, i) => byte === this.#senderId[i]) ? resume.after : undefined;
  }

  #refusalOf(hello: Hello): [status: number, text: string] | undefined {
    const { consumersMax } = this.#options;
    if (this.#isClosed) return [Status.endOfStream, CLOSING];
    if (hello.versionMin > LAYOUT_VERSION || hello.versionMax < LAYOUT_VERSION) {
      const older = hello.versionMax < LAYOUT_VERSION ? "consumer" : "sender";
      const theirs = `${hello.versionMin} to ${hello.versionMax}`;
      return [
        Status.badVersion,
        `the sender speaks version ${LAYOUT_VERSION}, the consumer ${theirs}: upgrade the ${older}`,
      ];
    }
    const count = this.#events.connectionCount() + this.#opening;
    if (count >= consumersMax) {
      return [
        Status.consumersLimit,
        `${count} consumers are connected, the limit is ${consumersMax} (option consumersMax)`,
      ];
    }
    const noMemory = this.#events.refusalOfMemory(connectionBytes(this.#options.ringCapacityBytes));
    if (noMemory !== undefined) return [Status.memoryLimit, noMemory];
    return undefined;
  }

  /** Lets go of everybody who has not said hello. */
  close(): void {
    this.#isClosed = true;
    for (const handshake of [...this.#handshakes]) handshake.cancel(CLOSING);
  }
}
