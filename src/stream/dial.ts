/**
 * A connection to a trusted sender's socket: the first step of every protocol.
 * May touch: the native library, one deadline. May not touch: what is said on the connection.
 *
 * @module
 */

import { LINK_DESCRIPTORS_MAX } from "../native/abi.generated.ts";
import type { Native } from "../native/native.ts";
import { errorFromStatus, QlasterError } from "../errors.ts";
import { pause } from "../pause.ts";
import { Link } from "./link.ts";

/** Bytes of requests that may wait for a sender that does not read its link. */
const LINK_QUEUE_BYTES_MAX = 64 * 1024 * 1024;
const RETRY_MS = 5;

/** Which protocol a consumer speaks: "auto" tries its own first. */
export type ProtocolChoice = "auto" | "native" | "v9";

/** Every {@linkcode ProtocolChoice}. */
export const PROTOCOL_CHOICES: readonly ProtocolChoice[] = ["auto", "native", "v9"];

/** How to reach a sender, and which. */
export interface Destination {
  readonly path: string;
  readonly protocol: ProtocolChoice;
  /** From the first attempt to the grant. */
  readonly timeoutMs: number;
  /** Users other than our own whose senders are trusted. */
  readonly uids: readonly number[];
  readonly signal: AbortSignal | undefined;
  /** Whether the process waits for it. */
  readonly isRef: boolean;
}

/** One way to a sender, with what its errors say. */
export interface Attempt extends Destination {
  readonly action: string;
  /** `performance.now()` at which it is over. */
  readonly deadline: number;
}

/** A connection to a sender that we trust. */
export interface Socket {
  readonly link: Link;
  /** The link's native handle, which stays the link's. */
  readonly handle: number;
}

/** The deadline is past, and there was no answer. */
export function lateError({ action, timeoutMs }: Attempt): QlasterError {
  return new QlasterError("CONNECT_TIMEOUT", `${action} within ${timeoutMs} ms`);
}

/**
 * Connects, without ever blocking, unless the sender is somebody whom we don't trust.
 * @throws {QlasterError} `CONNECT_NO_SENDER`, `CONNECT_TIMEOUT`, `CONNECT_UID`; the signal's reason when it was aborted.
 */
export async function dial(native: Native, attempt: Attempt): Promise<Socket> {
  const socket = await connectLink(native, attempt);
  const { uid } = socket.link.peer;
  // Whoever may write into the path's directory could have put a sender of false updates there. Root can do so anyway.
  if (uid !== native.uid() && uid !== 0 && !attempt.uids.includes(uid)) {
    socket.link.close();
    throw new QlasterError("CONNECT_UID", `${attempt.action}: its sender runs as uid ${uid}`);
  }
  return socket;
}

async function connectLink(native: Native, attempt: Attempt): Promise<Socket> {
  const { path, action, deadline, signal } = attempt;
  const bytes = new TextEncoder().encode(path);
  while (true) {
    signal?.throwIfAborted();
    const handle = native.linkConnect(bytes, bytes.length);
    if (handle >= 0) {
      const options = { descriptorsExpected: LINK_DESCRIPTORS_MAX, queueBytesMax: LINK_QUEUE_BYTES_MAX };
      const link = new Link(native, handle, options);
      return { link, handle };
    }
    switch (-handle) {
      case 11: // EAGAIN on Linux: the listener's queue is full
      case 35: // on macOS
        if (performance.now() >= deadline) {
          throw new QlasterError("CONNECT_TIMEOUT", `${action}: the sender accepts nobody`);
        }
        await pause(RETRY_MS, signal, attempt.isRef);
        break;
      case 2: // ENOENT
      case 20: // ENOTDIR
      case 61: // ECONNREFUSED on macOS
      case 111: // ECONNREFUSED on Linux
        throw new QlasterError("CONNECT_NO_SENDER", action);
      default:
        throw errorFromStatus(handle, action);
    }
  }
}
