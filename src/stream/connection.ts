/**
 * The sender's side of one consumer: its link, wake and ring, from the granted hello to the end.
 * May touch: the native handles that it owns. May not touch: the index, other connections, policies: sender.ts decides.
 *
 * @module
 */

import { setImmediate } from "node:timers";
import { EndReason as WireReason, LAYOUT_VERSION, LinkKind, RingInfo } from "../native/abi.generated.ts";
import type { Native, Watch } from "../native/native.ts";
import { errorFromStatus } from "../errors.ts";
import type { ConsumerInfo, EndReason } from "../types.ts";
import {
  decodeGoodbye,
  encodeEmpty,
  encodeGoodbye,
  encodeGrant,
  type Message,
  protocolError,
} from "../wire/messages.ts";
import type { Link } from "./link.ts";
import { type Counts, SlotCounter } from "./slot_counter.ts";

/** The reasons that a sender tells its consumer, as numbers of the wire. */
const WIRE_REASON: Partial<Record<EndReason, number>> = {
  "sender-closed": WireReason.senderClosed,
  "slow-consumer": WireReason.slowConsumer,
  "peer-corrupt": WireReason.peerCorrupt,
};

/** What a connection tells its sender. */
export interface ConnectionEvents {
  /** A subscribe message: answer it with `connection.link`. May throw a protocol error. */
  onSubscribe(connection: Connection, message: Message): void;
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
}

/** One granted consumer. */
export class Connection {
  readonly id: number;
  readonly name: string;
  readonly link: Link;
  /** Handle of the producer's end. */
  readonly ring: number;
  readonly capacityBytes: number;
  readonly connectedAt: number = Date.now();

  /** Account keys and owner keys in this consumer's filter. */
  accounts = 0;
  owners = 0;
  transactions = false;
  /** Counts the edits of the filter. */
  generation = 0;
  /** Frames handed to the ring. */
  frames = 0;
  lost = 0;
  /** The last update that matched, so that key and owner together count once. */
  matchedSequence = 0;
  /** Holds frames that are not committed yet. */
  isDirty = false;
  /** A gap frame did not fit: it is tried again when there may be room. */
  isGapDue = false;
  isEnded = false;

  readonly #native: Native;
  readonly #events: ConnectionEvents;
  readonly #wake: number;
  #watch: Watch | undefined;
  readonly #lossesBySlot = new SlotCounter();
  readonly #info = new Float64Array(RingInfo.size / 8);
  #isDrainDue = false;

  private constructor(
    native: Native,
    events: ConnectionEvents,
    link: Link,
    wake: number,
    ring: number,
    options: ConnectionOptions,
  ) {
    this.#native = native;
    this.#events = events;
    this.link = link;
    link.onSentLater = () => this.poke();
    this.#wake = wake;
    this.ring = ring;
    this.id = options.id;
    this.name = options.name;
    this.capacityBytes = options.capacityBytes;
  }

  /**
   * Creates the regions and grants them. On failure everything but the link is closed.
   * @param wakeFd The consumer's wake end; taken over.
   */
  static async create(
    native: Native,
    events: ConnectionEvents,
    link: Link,
    wakeFd: number,
    options: ConnectionOptions,
  ): Promise<Connection> {
    const wake = native.wakeOpen(wakeFd);
    if (wake < 0) throw errorFromStatus(wake, "Cannot use the wake that a consumer handed over");
    const passed = new Int32Array(2);
    const ring = native.ringCreate(options.capacityBytes, options.reservedBytes, options.id, options.senderId, passed);
    if (ring < 0) {
      native.close(wake);
      throw errorFromStatus(ring, `Cannot create a ring of ${options.capacityBytes} bytes`);
    }
    const descriptors = [...passed];
    const connection = new Connection(native, events, link, wake, ring, options);
    try {
      const attached = native.ringAttach(ring, wake);
      if (attached < 0) throw errorFromStatus(attached, "Cannot give a ring its wake");
      const pair = new Int32Array(2);
      const created = native.wakeCreate(pair);
      if (created < 0) throw errorFromStatus(created, "Cannot create a wake");
      descriptors.push(pair[1]!);
      connection.#watch = await native.watch(pair[0]!, () => connection.drain(), () => connection.#onPeerGone());
      const grant = {
        version: LAYOUT_VERSION,
        capacityBytes: options.capacityBytes,
        reservedBytes: options.reservedBytes,
        connectionId: options.id,
        senderId: options.senderId,
      };
      link.send(encodeGrant(grant), descriptors);
      // The socket of a fresh connection is empty: a grant that does not fit is a peer that plays games.
      if (!link.isSent) throw protocolError("the peer's socket has no room for a grant");
      connection.poke();
      return connection;
    } catch (error) {
      connection.#watch?.close();
      native.close(ring);
      native.close(wake);
      throw error;
    } finally {
      for (const fd of descriptors) native.fdClose(fd);
    }
  }

  /** Wakes the consumer to read its link. A peer that is gone is found by its socket's end. */
  poke(): void {
    this.#native.wakeNotify(this.#wake);
  }

  /** Sends a message and wakes the consumer for it. */
  tell(bytes: Uint8Array): void {
    this.link.send(bytes);
    this.poke();
  }

  /** Reads the link. Whatever is wrong with it ends this connection and no other. */
  drain(): void {
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

  /** Counts a matching update that can't be delivered. */
  countLoss(kind: "account" | "transaction" | "slot", slot: number): void {
    this.lost++;
    if (kind === "account") this.#lossesBySlot.countAccount(slot);
    else if (kind === "transaction") this.#lossesBySlot.countTransaction(slot);
  }

  /** What this connection lost of a slot; undefined for nothing. */
  lossesOf(slot: number): Readonly<Counts> | undefined {
    return this.#lossesBySlot.get(slot);
  }

  /** False once the consumer has written a cursor that can't be. */
  refresh(): boolean {
    return this.#native.ringInfo(this.ring, this.#info) >= 0;
  }

  info(): ConsumerInfo {
    if (!this.isEnded) this.refresh();
    const at = (offset: number) => this.#info[offset / 8]!;
    return {
      id: this.id,
      name: this.name,
      pid: this.link.peer.pid,
      uid: this.link.peer.uid,
      connectedAt: this.connectedAt,
      accounts: this.accounts,
      owners: this.owners,
      transactions: this.transactions,
      ring: {
        capacityBytes: this.capacityBytes,
        usedBytes: at(RingInfo.producerCursor) - at(RingInfo.consumerCursor),
      },
      frames: this.frames,
      lost: this.lost,
      parked: at(RingInfo.parked) === 1,
    };
  }

  /** The last words on ring and link, if the consumer may still listen; then everything is closed. */
  close(reason: EndReason): void {
    if (this.isEnded) return;
    this.refresh();
    this.isEnded = true;
    const wireReason = WIRE_REASON[reason];
    if (wireReason !== undefined) {
      this.#native.ringEnd(this.ring, wireReason);
      try {
        this.tell(encodeGoodbye(wireReason));
      } catch {
        // It does not read its link: the ring's word has to do.
      }
    }
    this.link.close();
    this.#watch?.close();
    this.#native.close(this.#wake);
    this.#native.close(this.ring);
  }

  ref(): void {
    this.#watch?.ref();
  }

  unref(): void {
    this.#watch?.unref();
  }
}
