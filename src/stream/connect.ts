/**
 * The consumer's way to a grant: connect, say hello with our wake, wait for regions and the sender's wake, join.
 * May touch: the native library, one deadline. May not touch: frames.
 * Whatever fails on the way closes everything that was opened.
 *
 * @module
 */

import { LAYOUT_VERSION, LinkKind, Status } from "../native/abi.generated.ts";
import type { Native, Watch } from "../native/native.ts";
import { errorFromStatus, QlasterError } from "../errors.ts";
import { decodeGrant, decodeRefusal, type Grant, type Message, protocolError } from "../wire/messages.ts";
import { Link } from "./link.ts";

/** Bytes of requests that may wait for a sender that does not read its link. */
const LINK_QUEUE_BYTES_MAX = 64 * 1024 * 1024;
const RETRY_MS = 5;

/** Who gets the events of our wake: changes hands when the consumer is made. */
export interface WakeHandler {
  onWake(): void;
  onClose(): void;
}

/** What a granted consumer holds. */
export interface Granted {
  readonly link: Link;
  readonly watch: Watch;
  readonly handler: WakeHandler;
  /** Handle of the sender's wake. */
  readonly senderWake: number;
  /** Handle of the consumer's end of the ring. */
  readonly ring: number;
  readonly grant: Grant;
}

/**
 * @param timeoutMs From the first attempt to the grant.
 * @param uids Users other than our own whose senders are trusted.
 * @throws {QlasterError} `CONNECT_…`, `REGION_REFUSED`; the signal's reason when it was aborted.
 */
export async function connect(
  native: Native,
  path: string,
  hello: Uint8Array,
  timeoutMs: number,
  uids: readonly number[],
  signal: AbortSignal | undefined,
): Promise<Granted> {
  const action = `Cannot connect to "${path}"`;
  const deadline = performance.now() + timeoutMs;
  const link = await connectLink(native, path, action, deadline, signal);
  const { uid } = link.peer;
  // Whoever may write into the path's directory could have put a sender of false updates there. Root can do so anyway.
  if (uid !== native.uid() && uid !== 0 && !uids.includes(uid)) {
    link.close();
    throw new QlasterError("CONNECT_UID", `${action}: its sender runs as uid ${uid}`);
  }
  const pair = new Int32Array(2);
  const created = native.wakeCreate(pair);
  if (created < 0) {
    link.close();
    throw errorFromStatus(created, "Cannot create a wake");
  }
  const handler: WakeHandler = { onWake() {}, onClose() {} };
  let watch: Watch | undefined;
  try {
    watch = await native.watch(pair[0]!, () => handler.onWake(), () => handler.onClose());
    link.send(hello, [pair[1]!]);
    if (!link.isSent) throw protocolError("the sender's socket has no room for a hello");
  } catch (error) {
    watch?.close();
    link.close();
    throw error;
  } finally {
    native.fdClose(pair[1]!);
  }
  try {
    const answer = await firstMessage(link, handler, deadline, signal);
    if (typeof answer === "string") {
      throw answer === "late"
        ? new QlasterError("CONNECT_TIMEOUT", `${action} within ${timeoutMs} ms`)
        : new QlasterError("CONNECT_PROTOCOL", `${action}: it closed the connection without an answer`);
    }
    if (answer.message.kind === LinkKind.refuse) {
      const refusal = decodeRefusal(answer.message);
      const code = refusal.status === Status.badVersion ? "CONNECT_VERSION" : "CONNECT_REFUSED";
      throw new QlasterError(code, `${action}: ${refusal.text}`);
    }
    return join(native, link, watch, handler, answer, action);
  } catch (error) {
    watch.close();
    link.close();
    throw error;
  }
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function connectLink(
  native: Native,
  path: string,
  action: string,
  deadline: number,
  signal: AbortSignal | undefined,
): Promise<Link> {
  const bytes = new TextEncoder().encode(path);
  while (true) {
    signal?.throwIfAborted();
    const handle = native.linkConnect(bytes, bytes.length);
    if (handle >= 0) return new Link(native, handle, { descriptorsExpected: 3, queueBytesMax: LINK_QUEUE_BYTES_MAX });
    switch (-handle) {
      case 11: // EAGAIN on Linux: the listener's queue is full
      case 35: // on macOS
        if (performance.now() >= deadline) {
          throw new QlasterError("CONNECT_TIMEOUT", `${action}: the sender accepts nobody`);
        }
        await delay(RETRY_MS);
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

/** A grant with its descriptors, or a refusal without. */
interface Answer {
  readonly message: Message;
  readonly descriptors: readonly number[];
}

/** Waits for one message. The sender pokes our wake when it is there. */
async function firstMessage(
  link: Link,
  handler: WakeHandler,
  deadline: number,
  signal: AbortSignal | undefined,
): Promise<Answer | "late" | "end"> {
  let answer: Answer | undefined;
  let isClosed = false;
  while (true) {
    signal?.throwIfAborted();
    const isLate = performance.now() >= deadline; // judged only after one more look
    const outcome = link.drain((message) => {
      answer = { message, descriptors: link.takeDescriptors(message.kind === LinkKind.grant ? 3 : 0) };
      return false; // what follows is the consumer's to read
    });
    if (answer !== undefined) return answer;
    if (outcome === "end" || isClosed) return "end";
    if (isLate) return "late";
    await new Promise<void>((resolve) => {
      const timer = setTimeout(done, Math.max(1, deadline - performance.now()));
      function done() {
        clearTimeout(timer);
        signal?.removeEventListener("abort", done);
        resolve();
      }
      handler.onWake = done;
      handler.onClose = () => {
        isClosed = true;
        done();
      };
      signal?.addEventListener("abort", done, { once: true });
    });
  }
}

function join(native: Native, link: Link, watch: Watch, handler: WakeHandler, answer: Answer, action: string): Granted {
  const { message } = answer;
  if (message.kind !== LinkKind.grant) throw protocolError(`kind ${message.kind} is no answer to a hello`);
  const [ringFd, pageFd, wakeFd] = answer.descriptors;
  const close = (...fds: number[]) => fds.forEach((fd) => native.fdClose(fd));
  let grant: Grant;
  try {
    grant = decodeGrant(message);
  } catch (error) {
    close(ringFd!, pageFd!, wakeFd!);
    throw error;
  }
  if (grant.version !== LAYOUT_VERSION) {
    close(ringFd!, pageFd!, wakeFd!);
    throw new QlasterError(
      "CONNECT_VERSION",
      `${action}: it grants version ${grant.version}, we speak ${LAYOUT_VERSION}`,
    );
  }
  const senderWake = native.wakeOpen(wakeFd!);
  if (senderWake < 0) {
    close(ringFd!, pageFd!);
    throw errorFromStatus(senderWake, `${action}: its wake is not what it must be`);
  }
  // A capacity beyond 32 bits wraps to a number that the library refuses.
  const ring = native.ringJoin(ringFd!, pageFd!, Math.min(grant.capacityBytes, 0xffffffff), link.peer.uid);
  if (ring < 0) {
    native.close(senderWake);
    throw ring === Status.badArgument
      ? new QlasterError("REGION_REFUSED", `${action}: it grants a ring of ${grant.capacityBytes} bytes`)
      : errorFromStatus(ring, `${action}: its regions are not what they must be`);
  }
  return { link, watch, handler, senderWake, ring, grant };
}
