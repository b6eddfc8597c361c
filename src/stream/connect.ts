/**
 * The consumer's way to a sender: connect, say hello with our wake, wait for regions and the sender's wake, join; or, with
 * a sender that knows no hello, wire version 9 (../v9/bootstrap.ts) on a new connection.
 * May touch: the native library, one deadline. May not touch: frames.
 * Whatever fails on the way closes everything that was opened.
 *
 * @module
 */

import { clearTimeout, setTimeout } from "node:timers";
import { LAYOUT_VERSION, LinkKind, Status } from "../native/abi.generated.ts";
import type { Native, Watch } from "../native/native.ts";
import { errorFromStatus, QlasterError } from "../errors.ts";
import { pause } from "../pause.ts";
import { bootstrap, type GrantedV9 } from "../v9/bootstrap.ts";
import { decodeGrant, decodeRefusal, type Grant, type Message, protocolError } from "../wire/messages.ts";
import { type Attempt, type Destination, dial, lateError } from "./dial.ts";
import type { Link } from "./link.ts";

/** How long after a hello that got no answer the second one is said. */
const SECOND_HELLO_MS = 50;
const LOCK_SUFFIX = ".lock";
/** How connecting fails to a file that is no socket: EACCES, and ECONNREFUSED on Linux, ENOTSOCK on macOS. */
const LOCK_THERE: ReadonlySet<number> = new Set([-13, -111, -38]);

/** Who gets the events of our wake: changes hands when the consumer is made. */
export interface WakeHandler {
  onWake(): void;
  onClose(): void;
}

/** What a granted consumer holds. */
export interface GrantedNative {
  readonly protocol: "native";
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
 * Connects and joins.
 * @throws {QlasterError} `CONNECT_…`, `REGION_REFUSED`; the signal's reason when it was aborted.
 */
export async function connect(
  native: Native,
  hello: Uint8Array,
  destination: Destination,
): Promise<GrantedNative | GrantedV9> {
  const attempt: Attempt = {
    ...destination,
    action: `Cannot connect to "${destination.path}"`,
    deadline: performance.now() + destination.timeoutMs,
  };
  if (destination.protocol !== "v9") {
    let granted = await sayHello(native, hello, attempt);
    // A sender of our own may have been unable to answer, such as for want of descriptors: it gets a second chance.
    if (granted === undefined && destination.protocol === "auto" && await pauseWithin(attempt)) {
      granted = await sayHello(native, hello, attempt);
    }
    if (granted !== undefined) return granted;
    if (destination.protocol === "native") {
      throw new QlasterError("CONNECT_PROTOCOL", `${attempt.action}: it closed the connection without an answer`);
    }
    if (hasLock(native, destination.path)) throw lockedError(attempt);
  }
  return await bootstrap(native, await dial(native, attempt), attempt);
}

/** Waits before the second hello. False if there is no time for one. */
async function pauseWithin(attempt: Attempt): Promise<boolean> {
  if (performance.now() + SECOND_HELLO_MS >= attempt.deadline) return false;
  await pause(SECOND_HELLO_MS, attempt.signal, attempt.isRef);
  attempt.signal?.throwIfAborted();
  return true;
}

/**
 * Whether a sender's lock file is there, which the Rust original has not. Asked without reading the file, which in Deno
 * would take a permission: connecting to what is no socket fails, and in another way than to what is not there.
 */
function hasLock(native: Native, path: string): boolean {
  const bytes = new TextEncoder().encode(`${path}${LOCK_SUFFIX}`);
  const handle = native.linkConnect(bytes, bytes.length);
  if (handle >= 0) native.close(handle); // a socket is no lock
  return LOCK_THERE.has(handle);
}

function lockedError({ action, path }: Attempt): QlasterError {
  return new QlasterError(
    "CONNECT_REFUSED",
    `${action}: it closed the connection twice without an answer. By its lock file it is a sender of this library, ` +
      "which can't serve anybody just now, such as for want of descriptors (see its events of type refused). If it is " +
      `the Rust original, "${path}${LOCK_SUFFIX}" was left by a sender that was killed: remove it, or say protocol: "v9"`,
  );
}

/** In our own protocol. Undefined when the sender closed the connection without a byte: it knows no hello. */
async function sayHello(native: Native, hello: Uint8Array, attempt: Attempt): Promise<GrantedNative | undefined> {
  const { action } = attempt;
  const { link } = await dial(native, attempt);
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
    if (!attempt.isRef) watch.unref();
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
    const answer = await firstMessage(link, handler, attempt);
    if (answer === "late") throw lateError(attempt);
    if (answer === "end" && link.isMidway) {
      throw new QlasterError("CONNECT_PROTOCOL", `${action}: it closed the connection within its answer`);
    }
    if (answer === "end") {
      watch.close();
      link.close();
      return undefined;
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

/** A grant with its descriptors, or a refusal without. */
interface Answer {
  readonly message: Message;
  readonly descriptors: readonly number[];
}

/** Waits for one message. The sender pokes our wake when it is there. */
async function firstMessage(
  link: Link,
  handler: WakeHandler,
  { deadline, signal, isRef }: Attempt,
): Promise<Answer | "late" | "end"> {
  let answer: Answer | undefined;
  let isClosed = false;
  while (true) {
    signal?.throwIfAborted();
    const isLate = performance.now() >= deadline; // judged only after one more look
    const outcome = link.drain((message) => {
      answer = { message, descriptors: link.takeDescriptors(descriptorsOf(message)) };
      return false; // what follows is the consumer's to read
    });
    if (answer !== undefined) return answer;
    if (outcome === "end" || isClosed) return "end";
    if (isLate) return "late";
    await new Promise<void>((resolve) => {
      const timer = setTimeout(done, Math.max(1, deadline - performance.now()));
      if (!isRef) timer.unref();
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

/** Of a grant: ring, page, wake, and the pool if there is one. */
function descriptorsOf(message: Message): number {
  if (message.kind !== LinkKind.grant) return 0;
  return decodeGrant(message).poolBytes > 0 ? 4 : 3;
}

/** Whether the sender may wait for room in our ring, and wants to hear of it. */
function mayAwaitRoom(grant: Grant): boolean {
  const { policy, transactionPolicy, hasState, hasHistory } = grant;
  return policy !== "disconnect" || transactionPolicy !== "disconnect" || hasState || hasHistory;
}

function join(
  native: Native,
  link: Link,
  watch: Watch,
  handler: WakeHandler,
  answer: Answer,
  action: string,
): GrantedNative {
  const { message } = answer;
  if (message.kind !== LinkKind.grant) throw protocolError(`kind ${message.kind} is no answer to a hello`);
  const [ringFd, pageFd, wakeFd, poolFd = -1] = answer.descriptors;
  const grant = decodeGrant(message);
  if (grant.version !== LAYOUT_VERSION) {
    for (const fd of answer.descriptors) native.fdClose(fd);
    throw new QlasterError(
      "CONNECT_VERSION",
      `${action}: it grants version ${grant.version}, we speak ${LAYOUT_VERSION}`,
    );
  }
  const senderWake = native.wakeOpen(wakeFd!);
  if (senderWake < 0) {
    for (const fd of answer.descriptors) if (fd !== wakeFd) native.fdClose(fd);
    throw errorFromStatus(senderWake, `${action}: its wake is not what it must be`);
  }
  // A capacity beyond 32 bits wraps to a number that the library refuses.
  const capacityBytes = Math.min(grant.capacityBytes, 0xffffffff);
  const ring = native.ringJoin(ringFd!, pageFd!, poolFd, capacityBytes, grant.poolBytes, link.peer.uid);
  if (ring < 0) {
    native.close(senderWake);
    throw ring === Status.badArgument
      ? new QlasterError(
        "REGION_REFUSED",
        `${action}: it grants a ring of ${grant.capacityBytes} bytes and a pool of ${grant.poolBytes}`,
      )
      : errorFromStatus(ring, `${action}: its regions are not what they must be`);
  }
  // Giving room back then wakes the sender, if it waits for some.
  const attached = mayAwaitRoom(grant) ? native.ringAttach(ring, senderWake) : 0;
  if (attached < 0) {
    native.close(ring);
    native.close(senderWake);
    throw errorFromStatus(attached, `${action}: its wake can't be attached to the ring`);
  }
  return { protocol: "native", link, watch, handler, senderWake, ring, grant };
}
