/**
 * The sender's side of one consumer: its link, wake and ring, from the granted hello to the end.
 * May touch: the native handles that it owns. May not touch: the index, other connections, policies: sender.ts decides.
 *
 * @module
 */

import { setImmediate } from "node:timers";
import { EndReason as WireReason, LAYOUT_VERSION, LinkKind, PART_SIZE } from "../native/abi.generated.ts";
import type { Native, Watch } from "../native/native.ts";
import { errorFromStatus } from "../errors.ts";
import type { EndReason, OverflowPolicy } from "../types.ts";
import {
  decodeGoodbye,
  encodeEmpty,
  encodeGoodbye,
  encodeGrant,
  type Grant,
  type Message,
  protocolError,
} from "../wire/messages.ts";
import type { Link } from "./link.ts";
import { RemoteConsumer } from "./remote_consumer.ts";

/** The reasons that a sender tells its consumer, as numbers of the wire. */
const WIRE_REASON: Partial<Record<EndReason, number>> = {
  "sender-closed": WireReason.senderClosed,
  "slow-consumer": WireReason.slowConsumer,
  "peer-corrupt": WireReason.peerCorrupt,
  "handed-over": WireReason.handedOver,
};

/** Why the native engine has given a consumer up. */
export function reasonOfWire(reason: number): EndReason {
  return reason === WireReason.slowConsumer ? "slow-consumer" : "peer-corrupt";
}

/** What a connection tells its sender. */
export interface ConnectionEvents {
  /** A subscribe message: answer it with `connection.link`. May throw a protocol error. */
  onSubscribe(connection: Connection, message: Message): void;
  /** An edit of a named filter, likewise. */
  onFilter(connection: Connection, message: Message): void;
  /** A resumed consumer has its filters, likewise. */
  onStart(connection: Connection, message: Message): void;
  /** A new sender wants what is ours, likewise. */
  onTakeover(connection: Connection, message: Message): void;
  /** It has read: there may be room in its ring. */
  onRoom(connection: Connection): void;
  /** The consumer is gone, or broke the protocol. */
  onEnd(connection: Connection, reason: EndReason): void;
}

/** What the sender decided about a consumer before it was granted. */
export interface ConnectionOptions {
  readonly id: number;
  readonly name: string;
  readonly capacityBytes: number;
  readonly reservedBytes: number;
  readonly senderId: Uint8Array;
  /** What happens when its ring is full, and how much may wait for it then. */
  readonly policy: OverflowPolicy;
  readonly transactionPolicy: OverflowPolicy;
  readonly backlogBytes: number;
  /** Bytes of the pool, most bytes of it for this connection, and its descriptor; 0 and -1 for none. */
  readonly pool: { readonly bytes: number; readonly shareBytes: number; readonly fd: number };
  /** What the grant says of the sender. */
  readonly abilities: Partial<Grant>;
  /** It goes on behind this sequence; undefined: it is new. */
  readonly resumeAfter: bigint | undefined;
}

/** Bytes of one connection's regions: ring and its header, consumer page. */
export function connectionBytes(ringCapacityBytes: number): number {
  return ringCapacityBytes + 2 * PART_SIZE;
}

/** One granted consumer. */
export class Connection extends RemoteConsumer {
  readonly protocol = "native";
  readonly takesMarks = true;
  override readonly policy: OverflowPolicy;
  override readonly transactionPolicy: OverflowPolicy;
  override readonly backlogBytes: number;
  override readonly poolBytes: number;
  override readonly resumeAfter: bigint | undefined;
  readonly link: Link;

  readonly #events: ConnectionEvents;
  readonly #wake: number;
  #watch: Watch | undefined;
  #isDrainDue = false;

  private constructor(
    native: Native,
    events: ConnectionEvents,
    link: Link,
    wake: number,
    ring: number,
    options: ConnectionOptions,
  ) {
    const { id, name, capacityBytes } = options;
    super(native, { id, name, peer: link.peer, ring, capacityBytes, memoryBytes: connectionBytes(capacityBytes) });
    this.#events = events;
    this.link = link;
    link.onSentLater = () => this.poke();
    this.#wake = wake;
    this.policy = options.policy;
    this.transactionPolicy = options.transactionPolicy;
    this.backlogBytes = options.backlogBytes;
    this.poolBytes = options.pool.shareBytes;
    this.resumeAfter = options.resumeAfter;
  }

  /**
   * Creates the regions and grants them. On failure everything but link and wake is closed.
   * @param wake The consumer's, as a handle; the connection's from success on.
   * @param options.pool.fd Stays the caller's.
   */
  static async create(
    native: Native,
    events: ConnectionEvents,
    link: Link,
    wake: number,
    options: ConnectionOptions,
  ): Promise<Connection> {
    const passed = new Int32Array(2);
    const ring = native.ringCreate(options.capacityBytes, options.reservedBytes, options.id, options.senderId, passed);
    if (ring < 0) throw errorFromStatus(ring, `Cannot create a ring of ${options.capacityBytes} bytes`);
    const descriptors = [...passed];
    const connection = new Connection(native, events, link, wake, ring, options);
    try {
      const attached = native.ringAttach(ring, wake);
      if (attached < 0) throw errorFromStatus(attached, "Cannot give a ring its wake");
      const pair = new Int32Array(2);
      const created = native.wakeCreate(pair);
      if (created < 0) throw errorFromStatus(created, "Cannot create a wake");
      descriptors.push(pair[1]!);
      connection.#watch = await native.watch(pair[0]!, () => connection.#onWake(), () => connection.#onPeerGone());
      const grant = {
        version: LAYOUT_VERSION,
        capacityBytes: options.capacityBytes,
        reservedBytes: options.reservedBytes,
        connectionId: options.id,
        senderId: options.senderId,
        policy: options.policy,
        transactionPolicy: options.transactionPolicy,
        poolBytes: options.pool.bytes,
        ...options.abilities,
        isResumed: options.resumeAfter !== undefined,
      };
      if (options.pool.bytes > 0) descriptors.push(options.pool.fd);
      link.send(encodeGrant(grant), descriptors);
      // The socket of a fresh connection is empty: a grant that does not fit is a peer that plays games.
      if (!link.isSent) throw protocolError("the peer's socket has no room for a grant");
      connection.poke();
      return connection;
    } catch (error) {
      connection.#watch?.close();
      native.close(ring);
      throw error;
    } finally {
      for (const fd of descriptors) if (fd !== options.pool.fd) native.fdClose(fd);
    }
  }

  /** Wakes the consumer to read its link. A peer that is gone is found by its socket's end. */
  poke(): void {
    this.native.wakeNotify(this.#wake);
  }

  /** Sends a message and wakes the consumer for it. */
  tell(bytes: Uint8Array): void {
    this.link.send(bytes);
    this.poke();
  }

  /** It wakes us for a message, or because it has read what we waited for. */
  #onWake(): void {
    this.drain();
    if (!this.isEnded) this.#events.onRoom(this);
  }

  /** Reads the link. Whatever is wrong with it ends this connection and no other. */
  override drain(): void {
    if (this.isEnded) return;
    try {
      const outcome = this.link.drain((message) => this.#onMessage(message));
      if (outcome === "end") this.#events.onEnd(this, "consumer-gone");
      else if (outcome === "more") this.#drainLater();
    } catch {
      this.#events.onEnd(this, "peer-corrupt");
    }
  }

  /** The rest of what it has to say, after the event loop has had its turn. */
  #drainLater(): void {
    if (this.#isDrainDue) return;
    this.#isDrainDue = true;
    setImmediate(() => {
      this.#isDrainDue = false;
      this.drain();
    });
  }

  #onMessage(message: Message): void {
    switch (message.kind) {
      case LinkKind.subscribe:
        return this.#events.onSubscribe(this, message);
      case LinkKind.filter:
        return this.#events.onFilter(this, message);
      case LinkKind.start:
        return this.#events.onStart(this, message);
      case LinkKind.takeover:
        return this.#events.onTakeover(this, message);
      case LinkKind.ping:
        return this.tell(encodeEmpty(LinkKind.pong, message.requestId));
      case LinkKind.goodbye:
        decodeGoodbye(message);
        return this.#events.onEnd(this, "consumer-closed");
      default:
        throw protocolError(`kind ${message.kind} is not a consumer's`);
    }
  }

  /** The wake's other end is closed. What the consumer said before it closed may still be in the link. */
  #onPeerGone(): void {
    this.drain();
    if (!this.isEnded) this.#events.onEnd(this, "consumer-gone");
  }

  /** The last words go on ring and link. */
  close(reason: EndReason): void {
    if (this.isEnded) return;
    this.refresh();
    this.isEnded = true;
    const wireReason = WIRE_REASON[reason];
    if (wireReason !== undefined) {
      this.native.ringEnd(this.ring, wireReason);
      try {
        this.tell(encodeGoodbye(wireReason));
      } catch {
        // It does not read its link: the ring's word has to do.
      }
    }
    this.link.close();
    this.#watch?.close();
    this.native.close(this.#wake);
    this.native.close(this.ring);
  }

  override ref(): void {
    this.#watch?.ref();
  }

  override unref(): void {
    this.#watch?.unref();
  }
}
