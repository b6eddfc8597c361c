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
  PART_SIZE,
  RESERVED_BYTES_MIN,
  RESERVED_FRACTION,
  Status,
} from "../native/abi.generated.ts";
import type { Native } from "../native/native.ts";
import { encodeRefusal, type Hello } from "../wire/messages.ts";
import { Connection, type ConnectionEvents } from "./connection.ts";
import { Handshake } from "./handshake.ts";
import { Link } from "./link.ts";

/** Connections that have not said hello yet. One more ends the oldest, so that silence can't lock others out. */
const HANDSHAKES_MAX = 256;
/** Bytes that may wait for a consumer that does not read its link: acks and pongs are small. */
const LINK_QUEUE_BYTES_MAX = 64 * 1024;

/** Bytes of one connection's regions: ring and its header, consumer page. */
export function connectionBytes(ringCapacityBytes: number): number {
  return ringCapacityBytes + 2 * PART_SIZE;
}

/** Whom a sender admits, and what each gets. */
export interface AdmissionOptions {
  readonly ringCapacityBytes: number;
  readonly memoryMaxBytes: number;
  readonly consumersMax: number;
  readonly uids: readonly number[];
  readonly handshakeTimeoutMs: number;
}

/** What admission asks and tells its sender. */
export interface AdmissionEvents extends ConnectionEvents {
  /** Consumers that are connected. */
  connectionCount(): number;
  onConnection(connection: Connection): void;
}

/** Decides who becomes a consumer. */
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
    const { uid } = link.peer;
    if (uid !== this.#ownUid && !this.#options.uids.includes(uid)) {
      this.#refuse(link, Status.wrongUid, `uid ${uid} is not among those that may connect (option uids)`);
      return;
    }
    const handshake = new Handshake(
      link,
      this.#options.handshakeTimeoutMs,
      (hello, wakeFd) => {
        this.#handshakes.delete(handshake);
        void this.#onHello(link, hello, wakeFd);
      },
      () => {
        this.#handshakes.delete(handshake);
        this.refused++;
      },
    );
    this.#handshakes.add(handshake);
    handshake.start();
  }

  /** Says why, then closes. */
  #refuse(link: Link, status: number, text: string): void {
    this.refused++;
    link.send(encodeRefusal(0, { status, text }));
    link.close();
  }

  async #onHello(link: Link, hello: Hello, wakeFd: number): Promise<void> {
    const refusal = this.#refusalOf(hello);
    if (refusal !== undefined) {
      this.#native.fdClose(wakeFd);
      return this.#refuse(link, ...refusal);
    }
    const capacityBytes = this.#options.ringCapacityBytes;
    const share = Math.floor(capacityBytes / RESERVED_FRACTION / FRAME_ALIGN) * FRAME_ALIGN;
    this.#opening++;
    let connection: Connection;
    try {
      connection = await Connection.create(this.#native, this.#events, link, wakeFd, {
        id: ++this.#lastId,
        name: hello.name,
        capacityBytes,
        reservedBytes: Math.max(RESERVED_BYTES_MIN, share),
        senderId: this.#senderId,
      });
    } catch (error) {
      return this.#refuse(link, Status.badDescriptor, error instanceof Error ? error.message : String(error));
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
    const bytes = (count + 1) * connectionBytes(this.#options.ringCapacityBytes);
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
