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
import { errorFromStatus } from "../errors.ts";
import type { FrameCutter } from "../v9/messages.ts";
import { encodeRefusal, type Hello } from "../wire/messages.ts";
import { Connection, connectionBytes, type ConnectionEvents } from "./connection.ts";
import { Handshake } from "./handshake.ts";
import { Link } from "./link.ts";

/** Connections that have not said hello yet. One more ends the oldest, so that silence can't lock others out. */
const HANDSHAKES_MAX = 256;
/** Bytes that may wait for a consumer that does not read its link: acks and pongs are small. */
const LINK_QUEUE_BYTES_MAX = 64 * 1024;
/** The user who may do everything anyway. */
const ROOT_UID = 0;

/** Whom a sender admits, and what each gets. */
export interface AdmissionOptions {
  readonly ringCapacityBytes: number;
  readonly memoryMaxBytes: number;
  readonly consumersMax: number;
  readonly uids: readonly number[];
  readonly handshakeTimeoutMs: number;
  /** Whether peers of wire version 9 are served. */
  readonly isV9Served: boolean;
}

/** What admission asks and tells its sender. */
export interface AdmissionEvents extends ConnectionEvents {
  /** Native consumers that are connected. */
  connectionCount(): number;
  /** Bytes of shared memory that all consumers take. */
  memoryBytes(): number;
  onConnection(connection: Connection): void;
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
  readonly #events: AdmissionEvents;
  readonly #ownUid: number;
  readonly #senderId: Uint8Array = crypto.getRandomValues(new Uint8Array(16));
  readonly #handshakes = new Set<Handshake>();
  #lastId = 0;
  /** Hellos that are being granted: they count against the limits already. */
  #opening = 0;
  #isClosed = false;

  constructor(native: Native, options: AdmissionOptions, events: AdmissionEvents) {
    this.#native = native;
    this.#options = options;
    this.#events = events;
    this.#ownUid = native.uid();
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
    } catch {
      this.refused++; // gone already
      return;
    }
    if (this.#isClosed) return this.#refuse(link, Status.endOfStream, "the sender is closing");
    if (this.#handshakes.size >= HANDSHAKES_MAX) this.#handshakes.values().next().value?.cancel();
    const mayNative = this.#mayConnect(link);
    const mayV9 = this.#options.isV9Served && this.#mayOpenMemory(link);
    if (!mayNative && !mayV9) return this.#refuse(link, ...this.#wrongUid(link));
    const handshake = new Handshake(link, this.#options.handshakeTimeoutMs, {
      onHello: (hello, wakeFd) => {
        this.#handshakes.delete(handshake);
        void this.#onHello(link, hello, wakeFd);
      },
      onV9: !mayV9 ? undefined : (bodies, cutter) => {
        this.#handshakes.delete(handshake);
        this.#events.onV9(link, bodies, cutter);
      },
      onFailure: () => {
        this.#handshakes.delete(handshake);
        this.refused++;
      },
    });
    this.#handshakes.add(handshake);
    handshake.start();
  }

  #mayConnect({ peer }: Link): boolean {
    return peer.uid === this.#ownUid || this.#options.uids.includes(peer.uid);
  }

  /** Peers of version 9 open our memory by its path, which only we and root can. */
  #mayOpenMemory({ peer }: Link): boolean {
    return peer.uid === this.#ownUid || peer.uid === ROOT_UID;
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
  #refuse(link: Link, status: number, text: string): void {
    this.refused++;
    link.send(encodeRefusal(0, { status, text }));
    link.close();
  }

  async #onHello(link: Link, hello: Hello, wakeFd: number): Promise<void> {
    const refusal = this.#mayConnect(link) ? this.#refusalOf(hello) : this.#wrongUid(link);
    if (refusal !== undefined) {
      this.#refuse(link, ...refusal);
      this.#native.fdClose(wakeFd); // behind the refusal: its end makes the consumer look for what was said
      return;
    }
    const wake = this.#native.wakeOpen(wakeFd);
    if (wake < 0) {
      const error = errorFromStatus(wake, "Cannot use the wake that a consumer handed over");
      return this.#refuse(link, Status.badDescriptor, error.message);
    }
    const capacityBytes = this.#options.ringCapacityBytes;
    const share = Math.floor(capacityBytes / RESERVED_FRACTION / FRAME_ALIGN) * FRAME_ALIGN;
    this.#opening++;
    let connection: Connection;
    try {
      connection = await Connection.create(this.#native, this.#events, link, wake, {
        id: this.nextId(),
        name: hello.name,
        capacityBytes,
        reservedBytes: Math.max(RESERVED_BYTES_MIN, share),
        senderId: this.#senderId,
      });
    } catch (error) {
      this.#refuse(link, Status.badDescriptor, error instanceof Error ? error.message : String(error));
      this.#native.close(wake); // likewise
      return;
    } finally {
      this.#opening--;
    }
    if (connection.isEnded) return;
    if (this.#isClosed) return connection.close("sender-closed");
    this.granted++;
    link.bodyBytesMax = LINK_BODY_BYTES_MAX;
    this.#events.onConnection(connection);
  }

  #refusalOf(hello: Hello): [status: number, text: string] | undefined {
    const { consumersMax, memoryMaxBytes } = this.#options;
    if (this.#isClosed) return [Status.endOfStream, "the sender is closing"];
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
    const bytes = this.#events.memoryBytes() + this.openingBytes +
      connectionBytes(this.#options.ringCapacityBytes);
    if (bytes > memoryMaxBytes) {
      return [
        Status.memoryLimit,
        `${
          count + 1
        } consumers need ${bytes} bytes, the limit is ${memoryMaxBytes} (options memoryMaxBytes, ringCapacityBytes)`,
      ];
    }
    return undefined;
  }

  /** Lets go of everybody who has not said hello. */
  close(): void {
    this.#isClosed = true;
    for (const handshake of [...this.#handshakes]) handshake.cancel();
  }
}
