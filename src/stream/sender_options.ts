/**
 * What a sender can be told, and what it does if it is not.
 * May touch: the values that it is given. May not touch: files, the native library.
 *
 * @module
 */

import {
  CAPACITY_BYTES_MAX,
  CAPACITY_BYTES_MIN,
  PART_SIZE,
  POOL_BYTES_MAX,
  POOL_BYTES_MIN,
  V9_IDLE_MS,
  V9_PATH_BYTES_MAX,
  V9_SLOTS_DEFAULT,
} from "../native/abi.generated.ts";
import {
  type ConsumerEvent,
  OVERFLOW_POLICIES,
  type OverflowPolicy,
  SLOT_STATUSES,
  type SlotStatus,
  type SubscriptionEvent,
} from "../types.ts";
import { SLOTS_MAX, type V9ServerOptions } from "../v9/server.ts";
import { connectionBytes } from "./connection.ts";
import { CONNECTIONS_MAX } from "./fanout.ts";

/** How a sender serves consumers that speak wire version 9: those of the Rust original, or like it. */
export interface V9SenderOptions {
  /** Most of them at a time, each in a slot, 1 to 255. Native consumers do not count. Default 10, as the original. */
  readonly slotsMax?: number;
  /**
   * Whether their rings are memory, which vanishes with the sender, or files. Default "memfd"; where there is none, or the
   * consumer is in another pid namespace, a file all the same.
   */
  readonly ring?: "memfd" | "file";
  /** Where ring files are made. Default /dev/shm/qlaster-<pid>, on macOS /tmp/qlaster-<pid>. */
  readonly ringDirectory?: string;
  /** A consumer that has said nothing for longer is evicted, in milliseconds; reading says nothing. Default 30000. */
  readonly idleTimeoutMs?: number;
  /** Any connection may use any token, as in the original. Default false: a token belongs to the connection that got it. */
  readonly sharedTokens?: boolean;
  /** Statuses of which such consumers are told; their slot updates carry none. Default `["processed"]`. */
  readonly slotStatuses?: readonly SlotStatus[];
}

/** How a sender is set up. */
export interface SenderOptions {
  /** Path of the Unix socket that consumers connect to. At most 95 bytes (macOS 91). */
  readonly path: string;
  /** Bytes of each consumer's ring: a power of two, 64 KiB to 1 GiB. Default 64 MiB; memory is committed as it is used. */
  readonly ringCapacityBytes?: number;
  /**
   * Most bytes that the rings of all consumers may take together, without pool and queues. Default 1 GiB, or one
   * consumer's if that is more.
   */
  readonly memoryMaxBytes?: number;
  /** Most native consumers at a time, 1 to 1024. Default 64. */
  readonly consumersMax?: number;
  /** Other users that may connect, by uid. Default: only the sender's own. */
  readonly uids?: readonly number[];
  /** How long a connection may take to say hello, or to end what it began to say, in milliseconds. Default 5000. */
  readonly handshakeTimeoutMs?: number;
  /**
   * What a consumer may ask to happen when its ring is full; who asks for something else gets "disconnect". Default all
   * but "block", by which one consumer can stop everybody.
   */
  readonly policies?: readonly OverflowPolicy[];
  /**
   * Most bytes that wait at the sender for one consumer whose policy lets them; once used, kept until it leaves.
   * Default 16 MiB.
   */
  readonly queueMaxBytes?: number;
  /**
   * How long a consumer with the policy "block" may stop everybody, in milliseconds, before its connection ends:
   * counted while `drained()` is awaited. Default 10000.
   */
  readonly blockTimeoutMs?: number;
  /**
   * Bytes of the pool, into which large payloads are written once for all consumers: a multiple of 64 KiB from 1 MiB to
   * 1 GiB, or 0 for none. Default 256 MiB; memory is committed as it is used. One consumer holds a quarter at most:
   * beyond, its ring counts as full. Only consumers of the sender's own user use it.
   */
  readonly poolBytes?: number;
  /** Payloads from this size on go into the pool. Default 4096. */
  readonly poolThresholdBytes?: number;
  /** What becomes of an older version of an account after a newer one: by source epoch, slot, bank, write version. Default "count". */
  readonly olderVersions?: "publish" | "count" | "drop";
  /** Accounts whose last version is remembered for that, for `onlyChanged` and for accounts that leave a filter. Default 262144. */
  readonly trackedAccountsMax?: number;
  /** How consumers of wire version 9 are served; false for not at all. Only the sender's own user and root may be such. */
  readonly v9?: false | V9SenderOptions;
  /** Whether to measure how long dispatching takes: see `Sender.timings`. Default false. */
  readonly timings?: boolean;
  /** Called for each accepted subscription, as by `Sender.onSubscription`. */
  readonly onSubscription?: (event: SubscriptionEvent) => void;
  /** Called when a consumer comes or goes or is refused, as by `Sender.onConsumer`. */
  readonly onConsumer?: (event: ConsumerEvent) => void;
}

/** Every option with its value. */
export type ResolvedSenderOptions = Required<Omit<SenderOptions, "onSubscription" | "onConsumer" | "v9">> & {
  readonly v9: V9ServerOptions | undefined;
};

const RING_CAPACITY_DEFAULT = 64 * 1024 * 1024;
const MEMORY_MAX_DEFAULT = 1024 * 1024 * 1024;
const CONSUMERS_DEFAULT = 64;
const HANDSHAKE_TIMEOUT_MS = 5000;
const POLICIES_DEFAULT: readonly OverflowPolicy[] = ["disconnect", "drop-newest", "drop-oldest", "conflate"];
const QUEUE_MAX_BYTES = 16 * 1024 * 1024;
const BLOCK_TIMEOUT_MS = 10_000;
const POOL_BYTES = 256 * 1024 * 1024;
const POOL_THRESHOLD_BYTES = 4096;
const TRACKED_ACCOUNTS_MAX = 262_144;
/** Room for a ring file's name behind its directory. */
const RING_FILE_NAME_BYTES_MAX = 43;

function integer(value: number, name: string, min: number, max: number): number {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new RangeError(`${name} must be an integer from ${min} to ${max}, not ${value}`);
  }
  return value;
}

function resolveV9(
  options: V9SenderOptions,
  limits: Pick<V9ServerOptions, "ringCapacityBytes" | "memoryMaxBytes" | "handshakeTimeoutMs">,
): V9ServerOptions {
  const { ring = "memfd", ringDirectory, slotStatuses = ["processed"] } = options;
  if (ring !== "memfd" && ring !== "file") throw new TypeError(`v9.ring must be "memfd" or "file", not ${ring}`);
  if (ringDirectory !== undefined) {
    if (typeof ringDirectory !== "string" || ringDirectory === "" || ringDirectory.includes("\0")) {
      throw new TypeError("v9.ringDirectory must be a non-empty string without NUL");
    }
    const room = V9_PATH_BYTES_MAX - RING_FILE_NAME_BYTES_MAX;
    integer(new TextEncoder().encode(ringDirectory).length, "The bytes of v9.ringDirectory", 1, room);
  }
  for (const status of slotStatuses) {
    if (SLOT_STATUSES.includes(status)) continue;
    throw new TypeError(`Each of v9.slotStatuses must be one of ${SLOT_STATUSES.join(", ")}, not ${status}`);
  }
  return {
    ...limits,
    slotsMax: integer(options.slotsMax ?? V9_SLOTS_DEFAULT, "v9.slotsMax", 1, SLOTS_MAX),
    ring,
    ringDirectory,
    idleTimeoutMs: integer(options.idleTimeoutMs ?? V9_IDLE_MS, "v9.idleTimeoutMs", 1, 86_400_000),
    sharedTokens: options.sharedTokens === true,
    slotStatuses: new Set(slotStatuses),
  };
}

function poolSize(bytes: number): number {
  if (bytes === 0) return 0;
  integer(bytes, "poolBytes", POOL_BYTES_MIN, POOL_BYTES_MAX);
  if (bytes % PART_SIZE !== 0) throw new RangeError(`poolBytes must be a multiple of ${PART_SIZE}, ${bytes} is not`);
  return bytes;
}

/** @throws {TypeError} or {RangeError} for an option that is not what it must be. */
export function resolveSenderOptions(options: SenderOptions): ResolvedSenderOptions {
  const { path, ringCapacityBytes = RING_CAPACITY_DEFAULT } = options;
  if (typeof path !== "string" || path === "") throw new TypeError("path must be a non-empty string");
  integer(ringCapacityBytes, "ringCapacityBytes", CAPACITY_BYTES_MIN, CAPACITY_BYTES_MAX);
  if ((ringCapacityBytes & (ringCapacityBytes - 1)) !== 0) {
    throw new RangeError(`ringCapacityBytes must be a power of two, ${ringCapacityBytes} is not`);
  }
  const bytesPerConnection = connectionBytes(ringCapacityBytes);
  const memoryMaxBytes = options.memoryMaxBytes ?? Math.max(MEMORY_MAX_DEFAULT, bytesPerConnection);
  integer(memoryMaxBytes, "memoryMaxBytes", bytesPerConnection, Number.MAX_SAFE_INTEGER);
  const policies = options.policies ?? POLICIES_DEFAULT;
  for (const policy of policies) {
    if (OVERFLOW_POLICIES.includes(policy)) continue;
    throw new TypeError(`Each of policies must be one of ${OVERFLOW_POLICIES.join(", ")}, not ${policy}`);
  }
  const { olderVersions = "count" } = options;
  if (!["publish", "count", "drop"].includes(olderVersions)) {
    throw new TypeError(`olderVersions must be "publish", "count" or "drop", not ${olderVersions}`);
  }
  const handshakeTimeoutMs = options.handshakeTimeoutMs ?? HANDSHAKE_TIMEOUT_MS;
  integer(handshakeTimeoutMs, "handshakeTimeoutMs", 1, 3_600_000);
  const limits = { ringCapacityBytes, memoryMaxBytes, handshakeTimeoutMs };
  return {
    ...limits,
    path,
    consumersMax: integer(options.consumersMax ?? CONSUMERS_DEFAULT, "consumersMax", 1, CONNECTIONS_MAX),
    policies,
    queueMaxBytes: integer(options.queueMaxBytes ?? QUEUE_MAX_BYTES, "queueMaxBytes", 4096, 0x7fffffff),
    blockTimeoutMs: integer(options.blockTimeoutMs ?? BLOCK_TIMEOUT_MS, "blockTimeoutMs", 1, 0x7fffffff),
    poolBytes: poolSize(options.poolBytes ?? POOL_BYTES),
    poolThresholdBytes: integer(
      options.poolThresholdBytes ?? POOL_THRESHOLD_BYTES,
      "poolThresholdBytes",
      64,
      0xffffffff,
    ),
    olderVersions,
    trackedAccountsMax: integer(
      options.trackedAccountsMax ?? TRACKED_ACCOUNTS_MAX,
      "trackedAccountsMax",
      1,
      16 * 1024 * 1024,
    ),
    timings: options.timings === true,
    v9: options.v9 === false ? undefined : resolveV9(options.v9 ?? {}, limits),
    uids: (options.uids ?? []).map((uid) => integer(uid, "Each of uids", 0, 0xffffffff)),
  };
}
