/**
 * The consumer's way into a sender of wire version 9: ask for a slot, take the descriptor that comes with the answer, join
 * the ring, have the sender's signals brought into the event loop.
 * May touch: the native library, one deadline. May not touch: frames.
 * Why the first answer is polled for: it brings a descriptor, which a runtime's read would drop, and no wake of ours is
 * known to the sender yet. Whatever fails on the way closes everything that was opened.
 *
 * @module
 */

import process from "node:process";
import { LINK_DESCRIPTORS_MAX, Status, V9_READY_SHM_BYTES_MAX } from "../native/abi.generated.ts";
import type { Native, Watch } from "../native/native.ts";
import { errorFromStatus, isQlasterError, QlasterError } from "../errors.ts";
import { pause } from "../pause.ts";
import { type Attempt, lateError, type Socket } from "../stream/dial.ts";
import type { Link } from "../stream/link.ts";
import { decodeServer, encodeSubscribe, type ReadyShm, type ServerMessage, type SlotToken } from "./messages.ts";

const DELAY_MS_MAX = 50;
const PREFIX_SIZE = 4;

/** Who gets the events of a connection: changes hands when the consumer is made. */
export interface HandlerV9 {
  onWake(): void;
  onBytes(bytes: Uint8Array): void;
  onClose(): void;
}

/** What a consumer with a slot holds. */
export interface GrantedV9 {
  readonly protocol: "v9";
  readonly link: Link;
  /** What the sender sends on the link from now on. */
  readonly stream: Watch;
  /** The sender's signals. */
  readonly watch: Watch;
  readonly handler: HandlerV9;
  /** Gives what came before the consumer was there to the handler of now. */
  replay(): void;
  /** Handle of the consumer's end of the ring. */
  readonly ring: number;
  readonly token: SlotToken;
}

/**
 * Asks for a slot on a fresh connection, which is its own from here on.
 * @throws {QlasterError} `CONNECT_…`, `REGION_REFUSED`; the signal's reason when it was aborted.
 */
export async function bootstrap(native: Native, socket: Socket, attempt: Attempt): Promise<GrantedV9> {
  const opened = new DisposableStack();
  opened.defer(() => socket.link.close());
  try {
    return await open(native, socket, attempt, opened);
  } catch (error) {
    opened.dispose();
    throw error;
  }
}

async function open(
  native: Native,
  { link, handle }: Socket,
  attempt: Attempt,
  opened: DisposableStack,
): Promise<GrantedV9> {
  link.send(encodeSubscribe({ token: undefined, accounts: [], owners: [], transactions: false }));
  if (!link.isSent) throw protocolError(attempt.action, "its socket has no room for a request");
  const { ready, wakeFd } = await firstAnswer(native, handle, attempt);

  const early: Uint8Array[] = [];
  let isClosedEarly = false;
  const handler: HandlerV9 = {
    onWake() {},
    onBytes: (bytes) => void early.push(bytes),
    onClose: () => void (isClosedEarly = true),
  };
  const onWake = () => handler.onWake();
  let watch: Watch | undefined;
  opened.defer(() => watch?.close());
  // A pipe, where there are no eventfds, is something that the runtime watches itself (macOS: not run). That its sender's
  // end closes is no news: the socket tells more.
  if (process.platform === "darwin") watch = await native.watch(wakeFd, onWake, () => {});

  const ring = join(native, ready.path, watch === undefined ? wakeFd : -1, link.peer.uid, attempt.action);
  opened.defer(() => void native.close(ring));
  watch ??= await relaySignals(native, ring, onWake);
  if (!attempt.isRef) watch.unref();

  const fd = native.linkFd(handle);
  if (fd < 0) throw errorFromStatus(fd, "Cannot duplicate a link");
  const stream = await native.stream(fd, (bytes) => handler.onBytes(bytes), () => handler.onClose());
  if (!attempt.isRef) stream.unref();
  const replay = () => {
    for (const bytes of early) handler.onBytes(bytes);
    if (isClosedEarly) handler.onClose();
  };
  return { protocol: "v9", link, stream, watch, handler, replay, ring, token: ready.token };
}

function protocolError(action: string, what: string, cause?: unknown): QlasterError {
  return new QlasterError("CONNECT_PROTOCOL", `${action}: ${what}`, { cause });
}

/**
 * The slot, and the descriptor of the sender's wake, which is the caller's. Reads the answer and not a byte more: the rest
 * is the stream's.
 */
async function firstAnswer(
  native: Native,
  handle: number,
  attempt: Attempt,
): Promise<{ ready: ReadyShm; wakeFd: number }> {
  const { action, signal } = attempt;
  const answer = new Uint8Array(V9_READY_SHM_BYTES_MAX);
  const view = new DataView(answer.buffer);
  const received = new Uint32Array(1 + LINK_DESCRIPTORS_MAX);
  let wakeFd = -1;
  let filled = 0;
  let size = PREFIX_SIZE;
  let delayMs = 1;
  try {
    while (filled < size) {
      signal?.throwIfAborted();
      // The deadline first, the look second: time in which our own loop stood still does not count against the sender.
      const isLate = performance.now() >= attempt.deadline;
      const room = answer.subarray(filled, size);
      const status = native.linkReceive(handle, room, room.length, received, wakeFd < 0 ? 1 : 0);
      if (status === Status.wouldBlock) {
        if (isLate) throw lateError(attempt);
        await pause(delayMs, signal, attempt.isRef);
        delayMs = Math.min(DELAY_MS_MAX, 2 * delayMs);
        continue;
      }
      if (status === Status.endOfStream) throw goneError(action, filled > 0);
      if (status < 0) throw errorFromStatus(status, `${action}: cannot receive`);
      if (received[0]! > 0) wakeFd = received[1]!;
      filled += status;
      if (filled === PREFIX_SIZE) {
        size += view.getUint32(0, true);
        if (size > answer.length) {
          throw protocolError(action, `its answer would have ${size} bytes, the limit is ${answer.length}`);
        }
      }
    }
    return { ready: readyOf(answer.subarray(PREFIX_SIZE, size), wakeFd, action), wakeFd };
  } catch (error) {
    if (wakeFd >= 0) native.fdClose(wakeFd);
    throw error;
  }
}

function readyOf(body: Uint8Array, wakeFd: number, action: string): ReadyShm {
  let message: ServerMessage;
  try {
    message = decodeServer(body);
  } catch (cause) {
    throw protocolError(action, `its answer is none (${(cause as Error).message})`, cause);
  }
  if (message.kind !== "ready-shm") throw protocolError(action, "it does not answer a request for a slot with one");
  if (wakeFd < 0) throw protocolError(action, "its answer came without the descriptor that belongs to it");
  return message.ready;
}

function goneError(action: string, hasBegun: boolean): QlasterError {
  if (hasBegun) return new QlasterError("CONNECT_PROTOCOL", `${action}: it closed the connection within its answer`);
  return new QlasterError(
    "CONNECT_REFUSED",
    `${action}: it closed the connection without an answer. All its slots may be taken (of the Rust original's each ` +
      "stays taken for up to 30 s after its consumer has gone: try again then, or have it give more), it may be unable " +
      "to serve anybody, such as for want of descriptors or memory (a sender of this library tells its own application " +
      "why, by an event of type refused), or what listens there is no sender",
  );
}

/** @param wakeFd The native library's from here on, whatever the outcome. */
function join(native: Native, path: string, wakeFd: number, uid: number, action: string): number {
  const bytes = new TextEncoder().encode(path);
  const ring = native.v9RingJoin(bytes, bytes.length, wakeFd, uid);
  if (ring >= 0) return ring;
  const error = errorFromStatus(ring, `${action}: its ring "${path}" is not what it must be`);
  if (isQlasterError(error) && error.code !== "SYSTEM") throw error;
  throw new QlasterError("REGION_REFUSED", `${action}: ${error.message}`, { cause: error });
}

/** Brings the signals of the sender's eventfd into the event loop. */
async function relaySignals(native: Native, ring: number, onWake: () => void): Promise<Watch> {
  const pair = new Int32Array(2);
  const created = native.wakeCreate(pair);
  if (created < 0) throw errorFromStatus(created, "Cannot create a wake");
  const relayed = native.v9Relay(ring, pair[1]!);
  if (relayed < 0) {
    native.fdClose(pair[0]!);
    const isForeign = relayed === Status.badDescriptor;
    throw errorFromStatus(
      relayed,
      isForeign ? "Its wake is not an eventfd, the only kind that is read here" : "Cannot relay the sender's signals",
    );
  }
  // The other end closes with the ring, which is ours.
  return await native.watch(pair[0]!, onWake, () => {});
}
