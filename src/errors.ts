/**
 * Every error of the library: one class, stable codes, each with its cause and its cure in one table.
 * May touch: nothing. May not touch: the native library (its statuses arrive here as numbers).
 *
 * @module
 */

import { Status, STATUS_BASE } from "./native/abi.generated.ts";
import type { EndReason } from "./types.ts";

/** Cause and cure of each code. A code, once published, keeps its meaning for ever. */
export const ERRORS = {
  NATIVE_PERMISSION: ["The native library may not be loaded", "run Deno with --allow-ffi (without a path)"],
  NATIVE_UNSUPPORTED: [
    "There is no native library for this system",
    "use Linux or macOS on x64 or arm64, with Deno or Bun",
  ],
  NATIVE_NOT_FOUND: [
    "The native library is not there",
    "build it with ./dev build, or pass its path to load({ path })",
  ],
  NATIVE_LAYOUT_MISMATCH: [
    "The native library and the TypeScript around it are of different versions",
    "take both from one build: run ./dev build, or remove the stale file",
  ],
  SENDER_PATH_IN_USE: ["Another sender lives at the path", "stop it, or choose another path"],
  SENDER_PATH_NOT_SOCKET: [
    "Something that is no socket stands at the path",
    "remove it yourself, or choose another path",
  ],
  SENDER_DIRECTORY_UNSAFE: [
    "Others may write to the socket's directory and replace the socket",
    "use a private directory, or one with the sticky bit such as /tmp",
  ],
  TAKEOVER_REFUSED: [
    "The sender at the path does not hand it over",
    "see the message; or stop that sender first, and start without takeover",
  ],
  TAKEOVER_FAILED: [
    "Taking the path over came to no end",
    "see the message: the old sender goes on unless it says that it has handed over; try again, with more time " +
    "(takeoverTimeoutMs), or with larger rings at the old sender if this one was too slow for it",
  ],
  SENDER_CONGESTED: [
    "A consumer that may stop the sender has no room",
    'await sender.drained(), then go on; or do not permit the policy "block" (option policies)',
  ],
  SENDER_CLOSED: ["The sender is closed", "create a new one with setupSender"],
  PUBLISHER_CLOSED: ["The publisher is closed", "attach another one with attachPublisher"],
  SHARE_FOREIGN: [
    "The share is of another process, or of another copy of the native library in this one",
    "attach in a Worker of the process that made it, load the same library file in both, and do without Workers on musl, " +
    "where each has a copy of its own",
  ],
  CONNECT_NO_SENDER: [
    "No sender listens at the path",
    "start the sender first, check the path, or wait for it by waitForSenderMs",
  ],
  CONNECT_REFUSED: ["The sender refused the connection", "see the message: it is the sender's own"],
  CONNECT_TIMEOUT: ["The sender did not answer in time", "check that its event loop runs, or raise connectTimeoutMs"],
  CONNECT_PROTOCOL: [
    "The other side does not speak this protocol",
    "check that a sender of this library owns the path",
  ],
  CONNECT_VERSION: ["Sender and consumer have no protocol version in common", "upgrade the older side"],
  CONNECT_UID: [
    "The sender is another user's, who may publish anything",
    "name the uid in the consumer's option uids if it is to be trusted",
  ],
  CONNECTION_LOST: [
    "The connection ended without a goodbye of ours",
    "see the error's reason, and its cause if there is one; connect again, or leave that to the option reconnect",
  ],
  CONSUMER_CLOSED: ["The consumer is closed", "create a new one with setupConsumer"],
  CONSUMER_BUSY: [
    "The consumer was read while it was being read",
    "use one reader at a time, and no poll inside a handler",
  ],
  CACHE_NO_STATE: [
    "The cache can't have what was before it, since nobody sends it",
    "give the sender the option state, and leave out state: false of the filters; or do without `ready`",
  ],
  SUBSCRIBE_REFUSED: [
    "The sender refused the subscription",
    "see the message: it is the sender's own",
  ],
  RING_PEER_CORRUPT: ["The other side wrote nonsense into shared memory", "restart it: it is buggy or hostile"],
  REGION_REFUSED: ["What the sender handed over is not what it must be", "restart the sender: it is buggy or hostile"],
  LINK_PROTOCOL: ["The other side broke the link's protocol", "restart it: it is buggy or hostile"],
  V9_FRAME_TOO_LARGE: [
    "A control message of wire version 9 is longer than its limit",
    "send fewer keys at a time; if it was received, restart the other side: it is buggy or hostile",
  ],
  V9_UNSUPPORTED: [
    "The sender speaks wire version 9, which has no such request",
    "subscribe to more and leave out what is not wanted as you read; to ask for less, connect anew; or have a sender of " +
    "this library",
  ],
  V9_VERSION: ["The bytes are of another wire version than 9", "check that both sides speak wire version 9"],
  V9_TAG: ["The message is not of a kind that may stand here", "check which side and channel the bytes are from"],
  V9_MALFORMED: ["A message of wire version 9 contradicts itself", "check who made it: lengths, flags and tokens"],
  V9_PAYLOAD_TOO_LARGE: [
    "A payload is longer than Solana's limit of 10 MiB",
    "check who made it: nothing real is longer",
  ],
  V9_DECODE: [
    "The bytes do not decode",
    "check that they are whole: something was cut off, or is not what it should be",
  ],
  STAT_UNAVAILABLE: [
    "The sender's stat page can't be read",
    "see the message; it needs Linux, the sender's user, its /proc, and the same version of the library",
  ],
  RECORDING_NOT_FOUND: ["There is no recording", "check the path: it is the directory that a recorder was given"],
  RECORDING_BUSY: ["Another recorder writes into the directory", "stop it, or take another directory"],
  RECORDING_CORRUPT: [
    "A file of the recording is damaged",
    "what came before it is good; take the segments behind it by a range of slots, or the file from a backup",
  ],
  RECORDING_VERSION: [
    "The file is no recording, or one of another version of the library",
    "replay it by the version that made it",
  ],
  READER_ONLY: [
    "A Worker's reader can't ask the sender",
    "subscribe, set filters and ping by the consumer whose share() it is, on its own thread",
  ],
  KIT_UNSUPPORTED: [
    "A local feed has no such subscription",
    "see the message: ask for it in another way, or have a node's RPC answer it",
  ],
  KIT_QUEUE_FULL: [
    "The loop over a subscription reads more slowly than notifications come",
    'read faster, raise queueMax, or set whenFull to "conflate" where only the newest matters',
  ],
  KIT_COMMITMENT_LATE: [
    "Notifications waited for their slot's commitment longer than there is room",
    "check that the sender publishes the statuses confirmed and finalized; raise holdBytes or holdSlots; or ask for less",
  ],
  SOURCE_FULL: [
    "More has been put into a source than it keeps",
    "feed a sender from it, and await drained() now and then",
  ],
  SOURCE_LOST: [
    "The connection to the source ended, or nothing came over it for too long",
    "see the message for what it said; the source connects again by itself",
  ],
  SOURCE_NEEDS_KIT: ["The RPC source needs @solana/kit, which does not load", "install @solana/kit >= 7 < 9"],
  SOURCE_REFUSED: [
    "The source's server does not take what it is asked for",
    "see the message: check endpoint, token, and the provider's limits on filters",
  ],
  SOURCE_PROTOCOL: [
    "The source's server sent what its protocol does not have",
    "check that the endpoint is one of this protocol; else report it to whoever runs it",
  ],
  MEMORY_LIMIT: [
    "The system has no memory for it",
    "give the host or container more; or lower poolBytes, state.maxBytes, history.bytes or ringCapacityBytes",
  ],
  SYSTEM: ["The operating system refused", "see the message for what and why"],
  INVARIANT: ["A promise of the library is broken", "this is a bug: please report it with the message"],
} as const satisfies Record<string, readonly [cause: string, cure: string]>;

/** A stable name of what went wrong. */
export type QlasterErrorCode = keyof typeof ERRORS;

/** What an error says besides its message: see the fields of {@linkcode QlasterError}. */
export interface QlasterErrorOptions {
  /** How many updates of the batch went out before. */
  readonly published?: number | undefined;
  /** What went wrong below. */
  readonly cause?: unknown;
  /** {@linkcode QlasterError.reason} */
  readonly reason?: EndReason;
  /** {@linkcode QlasterError.found} */
  readonly found?: number;
  /** {@linkcode QlasterError.expected} */
  readonly expected?: number;
  /** {@linkcode QlasterError.max} */
  readonly max?: number;
}

/** What the library throws for the world's faults. Your own mistakes are `TypeError` and `RangeError`. */
export class QlasterError extends Error {
  /** Always "QlasterError": tells ours apart even where two copies of the library are loaded. */
  override readonly name = "QlasterError";
  /** What went wrong; {@linkcode ERRORS} has its cause and cure. */
  readonly code: QlasterErrorCode;
  /** Why the connection ended, for `CONNECTION_LOST`. */
  readonly reason: EndReason | undefined;
  /** How many updates of the batch went out before, for `SENDER_CONGESTED`. */
  readonly published: number | undefined;
  /** What was there: a version, a tag, a length in bytes. For `V9_VERSION`, `V9_TAG`, `V9_…_TOO_LARGE`. */
  readonly found: number | undefined;
  /** What should have been there instead, as the original says it: for `V9_VERSION` and `V9_TAG`. */
  readonly expected: number | undefined;
  /** The most that there may be: for `V9_FRAME_TOO_LARGE` and `V9_PAYLOAD_TOO_LARGE`. */
  readonly max: number | undefined;

  /** An error whose message is the action, the code's cause and its cure. @param action What was being done, with its values. */
  constructor(code: QlasterErrorCode, action: string, options: QlasterErrorOptions = {}) {
    super(
      `${action}: ${ERRORS[code][0]}; ${ERRORS[code][1]}`,
      options.cause === undefined ? {} : { cause: options.cause },
    );
    this.code = code;
    this.reason = options.reason;
    this.published = options.published;
    this.found = options.found;
    this.expected = options.expected;
    this.max = options.max;
  }
}

/** Whether `value` is a {@linkcode QlasterError}, of whatever copy of the library, and of that code if one is given. */
export function isQlasterError(value: unknown, code?: QlasterErrorCode): value is QlasterError {
  return value instanceof Error && value.name === "QlasterError" && "code" in value &&
    (code === undefined || value.code === code);
}

const CODE_OF_STATUS: Partial<Record<number, QlasterErrorCode>> = {
  [Status.peerCorrupt]: "RING_PEER_CORRUPT",
  [Status.filtersLimit]: "SUBSCRIBE_REFUSED",
  [Status.filterKeysLimit]: "SUBSCRIBE_REFUSED",
  [Status.keysLimit]: "SUBSCRIBE_REFUSED",
  [Status.setsLimit]: "SUBSCRIBE_REFUSED",
  [Status.requestsLimit]: "SUBSCRIBE_REFUSED",
  [Status.badMagic]: "REGION_REFUSED",
  [Status.badVersion]: "REGION_REFUSED",
  [Status.badSize]: "REGION_REFUSED",
  [Status.sealMissing]: "REGION_REFUSED",
  [Status.badDescriptor]: "REGION_REFUSED",
  [Status.wrongUid]: "REGION_REFUSED",
  [Status.tooManyDescriptors]: "LINK_PROTOCOL",
  [Status.controlTruncated]: "SYSTEM", // the kernel dropped descriptors: this process has no room for more
  [Status.pathInUse]: "SENDER_PATH_IN_USE",
  [Status.pathNotSocket]: "SENDER_PATH_NOT_SOCKET",
  [Status.directoryUnsafe]: "SENDER_DIRECTORY_UNSAFE",
  [Status.v9Version]: "V9_VERSION",
  [Status.v9Tag]: "V9_TAG",
  [Status.v9Malformed]: "V9_MALFORMED",
  [Status.v9TooLarge]: "V9_PAYLOAD_TOO_LARGE",
  [Status.v9Decode]: "V9_DECODE",
  [Status.handlesExhausted]: "SYSTEM",
  [Status.memoryLimit]: "MEMORY_LIMIT",
};

const NAME_OF_STATUS = new Map<number, string>(Object.entries(Status).map(([name, value]) => [value, name]));

/** The errno values that a user can meet here, with what they mean in this place. Linux's numbers. */
const ERRNO_TEXT: Partial<Record<number, string>> = {
  1: "operation not permitted (EPERM)",
  2: "no such file or directory (ENOENT)",
  12: "not enough memory (ENOMEM)",
  13: "permission denied (EACCES)",
  20: "not a directory (ENOTDIR)",
  23: "too many open files in the system (ENFILE)",
  24: "too many open files: raise the limit (EMFILE)",
  28: "no space left (ENOSPC)",
  30: "read-only file system (EROFS)",
  36: "name too long (ENAMETOOLONG)",
  38: "not supported by this kernel (ENOSYS)",
  40: "a symbolic link stands there (ELOOP)",
};

/** A result below zero, in words. */
export function describeStatus(status: number): string {
  if (status > STATUS_BASE) return ERRNO_TEXT[-status] ?? `errno ${-status}`;
  return NAME_OF_STATUS.get(status) ?? `status ${status}`;
}

/** Turns a result below zero into the error to throw. `action` says what was being done, with its values. */
export function errorFromStatus(status: number, action: string, options: QlasterErrorOptions = {}): Error {
  const text = `${action} (${describeStatus(status)})`;
  switch (status) {
    case Status.badArgument:
      return new RangeError(`${text}: an argument is out of range`);
    case Status.pathTooLong:
      return new RangeError(`${text}: the path has too many bytes for a Unix socket`);
    case Status.badHandle:
      return new QlasterError("INVARIANT", text);
    default:
      return new QlasterError(CODE_OF_STATUS[status] ?? "SYSTEM", text, options);
  }
}
