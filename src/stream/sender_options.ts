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
  STATE_PARTS_MAX,
  STATE_PARTS_MIN,
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
import { MemoryBudget, type OwnRegions } from "./memory_budget.ts";

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

/** What a sender keeps of the accounts that it publishes, for those who ask for state. */
export interface StateOptions {
  /**
   * Most bytes that it takes, all told: 4 MiB to 64 GiB, in parts of 64 KiB. When it is full, the accounts that nothing was
   * published of for longest are forgotten, and counted.
   */
  readonly maxBytes: number;
  /** "subscribed": accounts from when a filter matched them on. "all": all that are published. Default "subscribed". */
  readonly keep?: "subscribed" | "all";
}

/** What a sender keeps of the updates that it publishes, for consumers that lost their connection. */
export interface HistoryOptions {
  /** Bytes that it takes: 1 MiB to 64 GiB, in parts of 64 KiB. The oldest updates make room for new ones. */
  readonly bytes: number;
}

/** Another sender has taken over. */
export interface HandoverEvent {
  /** Its process, as the kernel reports it. Information only. */
  readonly pid: number;
  /** Place of the last update that was published here: the other one goes on behind it. */
  readonly sequence: bigint;
}

/** How a sender is set up. */
export interface SenderOptions {
  /** Path of the Unix socket that consumers connect to. At most 95 bytes (macOS 91). */
  readonly path: string;
  /** Bytes of each consumer's ring: a power of two, 64 KiB to 1 GiB. Default 64 MiB; memory is committed as it is used. */
  readonly ringCapacityBytes?: number;
  /**
   * Most bytes that the sender's regions may take together: rings and pages of all consumers, `poolBytes`,
   * `state.maxBytes` and `history.bytes`, each as large as it can become. Queues, index and remembered accounts are not in
   * it. Default: pool, state and history as they are set, and for consumers 1 GiB, or the ring of one if that is more.
   */
  readonly memoryMaxBytes?: number;
  /**
   * Most native consumers at a time, 1 to 1024. Default 64. Of the sender's 2,048 filters two are kept back for each of
   * them and of `v9.slotsMax`, or one if these are more than 512.
   */
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
   * Most bytes that wait at the sender for one consumer whose policy lets them; given back within seconds once it has
   * caught up. Default 16 MiB.
   */
  readonly queueMaxBytes?: number;
  /**
   * How long a consumer with the policy "block" may stop everybody without reading, in milliseconds, before its
   * connection ends: counted from the first update that is refused; of Workers, while `drained()` is awaited. Default
   * 10000.
   */
  readonly blockTimeoutMs?: number;
  /**
   * How long a consumer may read nothing while there is no room even to tell it of a loss, an edit or a slot, in
   * milliseconds, before its connection ends with "slow-consumer", whatever its policy. Looked at once a second; time in
   * which the sender's event loop stands still does not count. Default 10000.
   */
  readonly stallTimeoutMs?: number;
  /**
   * Bytes of the pool, into which large payloads are written once for all consumers: a multiple of 64 KiB from 1 MiB to
   * 1 GiB, or 0 for none. Default 256 MiB; memory is committed as it is used. One consumer holds a quarter at most:
   * beyond, its ring counts as full. Several that lag leave as much free as each holds; the rest goes into their rings. Only
   * consumers of the sender's own user use it.
   */
  readonly poolBytes?: number;
  /** Payloads from this size on go into the pool. Default 4096. */
  readonly poolThresholdBytes?: number;
  /**
   * Keeps the newest version of accounts, so that whoever asks with `state: true` gets what is known first; and takes back
   * what a dead bank wrote, by `rollback` and what follows it. Default: no state.
   */
  readonly state?: StateOptions;
  /**
   * Keeps the newest updates, so that a consumer that reconnects gets what it missed, through its filters. Default: no
   * history; 16 MiB of it with `takeover`, for those who come over.
   */
  readonly history?: HistoryOptions;
  /**
   * Takes the path and the order of updates over from the sender that lives there, if there is one that permits it; else
   * starts as usual. With `state`, what that sender knows is taken in first, for which this one reads all that it publishes.
   * Consumers of the old one connect again by themselves and go on without a gap. Default false.
   */
  readonly takeover?: boolean;
  /** How long taking over may take, in milliseconds. Default 30000. */
  readonly takeoverTimeoutMs?: number;
  /** Whether a sender of the same user that asks to take over gets the path. Default true. */
  readonly handover?: boolean;
  /** Called after another sender has taken over: this one is closed, and what it still had to publish is the other one's. */
  readonly onHandover?: (event: HandoverEvent) => void;
  /**
   * What becomes of an older version of an account after a newer one: by source epoch, slot, bank, write version. Default
   * "count"; "drop" with `state`, so that no account steps back.
   */
  readonly olderVersions?: "publish" | "count" | "drop";
  /** Accounts whose last version is remembered for that, for `onlyChanged` and for accounts that leave a filter. Default 262144. */
  readonly trackedAccountsMax?: number;
  /** For how long changes of `Sender.demand` are gathered before they are told, in milliseconds. Default 50. */
  readonly demandDebounceMs?: number;
  /** How consumers of wire version 9 are served; false for not at all. Only the sender's own user and root may be such. */
  readonly v9?: false | V9SenderOptions;
  /**
   * Whether to show counters in memory that others of the same user may read, so that `qlaster stat` and `openStat` see this
   * sender also while its event loop is stuck. Default true.
   */
  readonly stats?: boolean;
  /**
   * Whether to measure how long dispatching takes: see `Sender.timings`. Default false. The updates of a batch are then
   * published one by one, so that each has its time, and cost more.
   */
  readonly timings?: boolean;
  /** Called for each accepted subscription, as by `Sender.onSubscription`. */
  readonly onSubscription?: (event: SubscriptionEvent) => void;
  /** Called when a consumer comes or goes or is refused, as by `Sender.onConsumer`. */
  readonly onConsumer?: (event: ConsumerEvent) => void;
}

/** Every option with its value. */
export type ResolvedSenderOptions =
  & Required<
    Omit<SenderOptions, "onSubscription" | "onConsumer" | "onHandover" | "v9" | "state" | "history" | "memoryMaxBytes">
  >
  & {
    readonly memory: MemoryBudget;
    readonly v9: V9ServerOptions | undefined;
    readonly history: HistoryOptions | undefined;
    readonly state: Required<StateOptions> | undefined;
  };

const RING_CAPACITY_DEFAULT = 64 * 1024 * 1024;
/** Of all consumers, unless `memoryMaxBytes` is set. */
const CONSUMERS_BYTES_DEFAULT = 1024 * 1024 * 1024;
const CONSUMERS_DEFAULT = 64;
const HANDSHAKE_TIMEOUT_MS = 5000;
const POLICIES_DEFAULT: readonly OverflowPolicy[] = ["disconnect", "drop-newest", "drop-oldest", "conflate"];
const QUEUE_MAX_BYTES = 16 * 1024 * 1024;
const BLOCK_TIMEOUT_MS = 10_000;
const STALL_TIMEOUT_MS = 10_000;
const POOL_BYTES = 256 * 1024 * 1024;
const POOL_THRESHOLD_BYTES = 4096;
const TRACKED_ACCOUNTS_MAX = 262_144;
const DEMAND_DEBOUNCE_MS = 50;
const HISTORY_BYTES_MIN = 1024 * 1024;
const TAKEOVER_HISTORY: HistoryOptions = { bytes: 16 * 1024 * 1024 };
const TAKEOVER_TIMEOUT_MS = 30_000;
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
  limits: Pick<V9ServerOptions, "ringCapacityBytes" | "handshakeTimeoutMs">,
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

function resolveState({ maxBytes, keep = "subscribed" }: StateOptions): Required<StateOptions> {
  const [min, max] = [STATE_PARTS_MIN * PART_SIZE, STATE_PARTS_MAX * PART_SIZE];
  integer(maxBytes, "state.maxBytes", min, max);
  if (keep !== "subscribed" && keep !== "all") {
    throw new TypeError(`state.keep must be "subscribed" or "all", not ${keep}`);
  }
  return { maxBytes: Math.floor(maxBytes / PART_SIZE) * PART_SIZE, keep };
}

function resolveHistory({ bytes }: HistoryOptions): HistoryOptions {
  integer(bytes, "history.bytes", HISTORY_BYTES_MIN, STATE_PARTS_MAX * PART_SIZE);
  return { bytes: Math.floor(bytes / PART_SIZE) * PART_SIZE };
}

function poolSize(bytes: number): number {
  if (bytes === 0) return 0;
  integer(bytes, "poolBytes", POOL_BYTES_MIN, POOL_BYTES_MAX);
  if (bytes % PART_SIZE !== 0) throw new RangeError(`poolBytes must be a multiple of ${PART_SIZE}, ${bytes} is not`);
  return bytes;
}

function budget(memoryMaxBytes: number | undefined, ringCapacityBytes: number, own: OwnRegions): MemoryBudget {
  const bytesPerConnection = connectionBytes(ringCapacityBytes);
  const ownBytes = own.poolBytes + own.stateBytes + own.historyBytes;
  const maxBytes = memoryMaxBytes ?? ownBytes + Math.max(CONSUMERS_BYTES_DEFAULT, bytesPerConnection);
  integer(maxBytes, "memoryMaxBytes", 0, Number.MAX_SAFE_INTEGER);
  const memory = new MemoryBudget(maxBytes, own);
  memory.assertFits(bytesPerConnection);
  return memory;
}

/** @throws {TypeError} or {RangeError} for an option that is not what it must be. */
export function resolveSenderOptions(options: SenderOptions): ResolvedSenderOptions {
  const { path, ringCapacityBytes = RING_CAPACITY_DEFAULT } = options;
  if (typeof path !== "string" || path === "") throw new TypeError("path must be a non-empty string");
  integer(ringCapacityBytes, "ringCapacityBytes", CAPACITY_BYTES_MIN, CAPACITY_BYTES_MAX);
  if ((ringCapacityBytes & (ringCapacityBytes - 1)) !== 0) {
    throw new RangeError(`ringCapacityBytes must be a power of two, ${ringCapacityBytes} is not`);
  }
  const policies = options.policies ?? POLICIES_DEFAULT;
  for (const policy of policies) {
    if (OVERFLOW_POLICIES.includes(policy)) continue;
    throw new TypeError(`Each of policies must be one of ${OVERFLOW_POLICIES.join(", ")}, not ${policy}`);
  }
  const state = options.state === undefined ? undefined : resolveState(options.state);
  const { olderVersions = state === undefined ? "count" : "drop" } = options;
  if (!["publish", "count", "drop"].includes(olderVersions)) {
    throw new TypeError(`olderVersions must be "publish", "count" or "drop", not ${olderVersions}`);
  }
  const takeover = options.takeover === true;
  const handshakeTimeoutMs = options.handshakeTimeoutMs ?? HANDSHAKE_TIMEOUT_MS;
  integer(handshakeTimeoutMs, "handshakeTimeoutMs", 1, 3_600_000);
  const limits = { ringCapacityBytes, handshakeTimeoutMs };
  const poolBytes = poolSize(options.poolBytes ?? POOL_BYTES);
  const wanted = options.history ?? (takeover ? TAKEOVER_HISTORY : undefined);
  const history = wanted === undefined ? undefined : resolveHistory(wanted);
  const memory = budget(options.memoryMaxBytes, ringCapacityBytes, {
    poolBytes,
    stateBytes: state?.maxBytes ?? 0,
    historyBytes: history?.bytes ?? 0,
  });
  return {
    ...limits,
    memory,
    path,
    consumersMax: integer(options.consumersMax ?? CONSUMERS_DEFAULT, "consumersMax", 1, CONNECTIONS_MAX),
    policies,
    queueMaxBytes: integer(options.queueMaxBytes ?? QUEUE_MAX_BYTES, "queueMaxBytes", 4096, 0x7fffffff),
    blockTimeoutMs: integer(options.blockTimeoutMs ?? BLOCK_TIMEOUT_MS, "blockTimeoutMs", 1, 0x7fffffff),
    stallTimeoutMs: integer(options.stallTimeoutMs ?? STALL_TIMEOUT_MS, "stallTimeoutMs", 1, 0x7fffffff),
    poolBytes,
    poolThresholdBytes: integer(
      options.poolThresholdBytes ?? POOL_THRESHOLD_BYTES,
      "poolThresholdBytes",
      64,
      0xffffffff,
    ),
    olderVersions,
    state,
    history,
    takeover,
    takeoverTimeoutMs: integer(options.takeoverTimeoutMs ?? TAKEOVER_TIMEOUT_MS, "takeoverTimeoutMs", 1, 3_600_000),
    handover: options.handover !== false,
    trackedAccountsMax: integer(
      options.trackedAccountsMax ?? TRACKED_ACCOUNTS_MAX,
      "trackedAccountsMax",
      1,
      16 * 1024 * 1024,
    ),
    demandDebounceMs: integer(options.demandDebounceMs ?? DEMAND_DEBOUNCE_MS, "demandDebounceMs", 0, 3_600_000),
    stats: options.stats !== false,
    timings: options.timings === true,
    v9: options.v9 === false ? undefined : resolveV9(options.v9 ?? {}, limits),
    uids: (options.uids ?? []).map((uid) => integer(uid, "Each of uids", 0, 0xffffffff)),
  };
}
