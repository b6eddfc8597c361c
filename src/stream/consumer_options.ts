/**
 * What a consumer can be told, and what it does if it is not.
 * May touch: the values that it is given. May not touch: files, the native library.
 *
 * @module
 */

import { V9_IDLE_MS, V9_PING_MS } from "../native/abi.generated.ts";
import type { CacheOptions } from "../cache/account_cache.ts";
import { OVERFLOW_POLICIES, type OverflowPolicy } from "../types.ts";
import type { ConnectionEvent } from "./connection_view.ts";
import { PROTOCOL_CHOICES, type ProtocolChoice } from "./dial.ts";
import { IDLE_STRATEGIES, type IdleStrategy } from "./idle.ts";
import { RECONNECT_DEFAULTS, type ReconnectOptions, type ResolvedReconnect } from "./reconnect.ts";

const CONNECT_TIMEOUT_MS = 5000;
const REQUEST_TIMEOUT_MS = 30_000;
const QUEUE_BYTES_MAX = 0xffffffff;
const CACHE_BYTES = 256 * 1024 * 1024;
const CACHE_REFRESH_MS = 1000;
const CACHE_BYTES_MIN = 64 * 1024;

/** What happens to accounts and slots, and what to transactions, for which there is no room. */
export interface OverflowPolicies {
  /** Of accounts and slots. */
  readonly accounts: OverflowPolicy;
  /** Of transactions. */
  readonly transactions: OverflowPolicy;
}

/** How far the reading is behind the sender. */
export interface Freshness {
  /** The newest slot of the updates that were handed out; undefined before the first. */
  readonly seenSlot: bigint | undefined;
  /** The newest slot that the sender has published anything of, whatever this consumer asks for or has room for; 0n: none. */
  readonly knownSlot: bigint;
  /**
   * Slots between the two. Before the first update was handed out: how many the sender has come on since somebody looked
   * for the first time.
   */
  readonly behind: number;
}

/** The reading has become stale, or fresh again. */
export interface StaleEvent extends Freshness {
  /** Whether it is stale now. */
  readonly isStale: boolean;
}

/** How a consumer is set up. */
export interface ConsumerOptions {
  /** Ends the wait for a grant, and later closes the consumer; its loops end without an error. */
  readonly signal?: AbortSignal;
  /** How to wait for updates. Default "adaptive". See docs/ARCHITECTURE.md. */
  readonly idle?: IdleStrategy;
  /** From the first attempt to the grant, in milliseconds. Default 5000. */
  readonly connectTimeoutMs?: number;
  /** For the answer to `subscribe`, an edit of a filter, and `ping`, in milliseconds. Default 30000. */
  readonly requestTimeoutMs?: number;
  /** A label that the sender shows for this consumer: at most 64 bytes of UTF-8. */
  readonly name?: string;
  /** Other users whose senders are trusted, by uid. Default: only one's own, and root. */
  readonly uids?: readonly number[];
  /**
   * "native": this library's own protocol. "v9": that of the Rust original. Default "auto": native, and v9 on a new
   * connection if the sender closes the first one without an answer, as the original does; that takes none of its slots.
   */
  readonly protocol?: ProtocolChoice;
  /** Wire version 9: how often the sender hears of us by itself, in milliseconds. Default 10000. */
  readonly v9PingMs?: number;
  /** Wire version 9: the silence for which the sender evicts; an end after a longer one is told as "idle". Default 30000. */
  readonly v9IdleMs?: number;
  /**
   * What happens when this consumer reads too slowly and its ring is full, as far as the sender permits: see the getter
   * `policy` of the consumer. One for all, or one for accounts and slots and another for transactions. Default
   * "disconnect"; of transactions the same as of accounts, but "drop-newest" for "conflate", since no transaction replaces
   * another. "drop-oldest" drops what is older only if both are so: what another policy cares for is not dropped, so then
   * the update waits at the sender, and is lost if there is no room there.
   */
  readonly policy?: OverflowPolicy | OverflowPolicies;
  /**
   * Most bytes that may wait for this consumer at the sender, by the policies "drop-oldest" and "conflate"; the sender has
   * a limit of its own. Default 0: as the sender likes.
   */
  readonly queueBytes?: number;
  /**
   * Hands out where an edit of this consumer's filters takes effect, as an update of the kind "filter". Default false: see
   * `filterGeneration` of the consumer.
   */
  readonly marks?: boolean;
  /**
   * How many slots the reading may be behind what the sender knows before it is stale: see `isStale`, `onStale`. It is judged
   * by the slots of what was handed out: who asks for no slots is behind while nothing else of the newest ones matches.
   */
  readonly staleAfterSlots?: number;
  /**
   * Called when the reading becomes stale, and when it is fresh again, once each: judged once a second, and when `isStale`
   * is asked for. Needs `staleAfterSlots`.
   */
  readonly onStale?: (event: StaleEvent) => void;
  /**
   * What becomes of a consumer whose sender has gone, whatever the reason: by default it connects again by itself, for ever,
   * with pauses that grow, and sets its filters again. False: it ends. See the README, "When it ends".
   */
  readonly reconnect?: boolean | ReconnectOptions;
  /**
   * Called when a connection was made, lost, tried for in vain, or resumed. The stream has updates of the kind "connection"
   * where it was lost and resumed. What it throws is an uncaught error of the process.
   */
  readonly onConnection?: (event: ConnectionEvent) => void;
  /**
   * How long `setupConsumer` tries until there is a sender that takes this consumer, in milliseconds; Infinity: until the
   * signal is aborted. Pauses are those of `reconnect`. Default 0: one attempt.
   */
  readonly waitForSenderMs?: number;
  /**
   * Keeps the newest version of each account that filters match: see `accounts` of the consumer. Then `state` is true in
   * every filter that does not say otherwise. Default false.
   */
  readonly cache?: boolean | CacheOptions;
  /** Measures what the original measures: see `timings`. Costs about a microsecond per update. Default false. */
  readonly timings?: boolean;
}

/** All of them, checked. */
export type ResolvedConsumerOptions =
  & Required<
    Omit<ConsumerOptions, "signal" | "policy" | "staleAfterSlots" | "onStale" | "onConnection" | "reconnect" | "cache">
  >
  & Pick<ConsumerOptions, "staleAfterSlots" | "onStale" | "onConnection">
  & {
    readonly signal: AbortSignal | undefined;
    readonly policy: OverflowPolicies;
    /** Undefined: there is none. */
    readonly cache: Required<CacheOptions> | undefined;
    /** Undefined: it ends with its connection. */
    readonly reconnect: ResolvedReconnect | undefined;
  };

function assertPolicy(value: OverflowPolicy, name: string): OverflowPolicy {
  if (!OVERFLOW_POLICIES.includes(value)) {
    throw new TypeError(`${name} must be one of ${OVERFLOW_POLICIES.join(", ")}, not ${value}`);
  }
  return value;
}

function resolvePolicies(given: ConsumerOptions["policy"] = "disconnect"): OverflowPolicies {
  if (typeof given === "object" && given !== null) {
    return {
      accounts: assertPolicy(given.accounts, "policy.accounts"),
      transactions: assertPolicy(given.transactions, "policy.transactions"),
    };
  }
  const accounts = assertPolicy(given, "policy");
  return { accounts, transactions: accounts === "conflate" ? "drop-newest" : accounts };
}

function assertCount(value: number, name: string, max: number): number {
  if (typeof value !== "number") throw new TypeError(`${name} must be a number, not ${typeof value}`);
  if (!Number.isInteger(value) || value < 0 || value > max) {
    throw new RangeError(`${name} must be a whole number from 0 to ${max}, not ${value}`);
  }
  return value;
}

function assertTimeout(value: number, name: string): number {
  if (!(value > 0 && value <= 0x7fffffff)) {
    throw new RangeError(`${name} must be from 1 to ${0x7fffffff} ms, not ${value}`);
  }
  return value;
}

function assertWait(value: number, name: string): number {
  if (typeof value !== "number" || !(value >= 0)) {
    throw new RangeError(`${name} must be milliseconds from 0 to Infinity, not ${value}`);
  }
  return value;
}

function resolveCache(given: ConsumerOptions["cache"] = false): Required<CacheOptions> | undefined {
  if (given === false) return undefined;
  if (given !== true && (typeof given !== "object" || given === null)) {
    throw new TypeError(`cache must be true, false or an object, not ${given}`);
  }
  const { maxBytes = CACHE_BYTES, refreshMs = CACHE_REFRESH_MS } = given === true ? {} : given;
  if (!Number.isInteger(maxBytes) || maxBytes < CACHE_BYTES_MIN) {
    throw new RangeError(`cache.maxBytes must be an integer from ${CACHE_BYTES_MIN}, not ${maxBytes}`);
  }
  return { maxBytes, refreshMs: assertTimeout(refreshMs, "cache.refreshMs") };
}

function resolveReconnect(given: ConsumerOptions["reconnect"] = true): ResolvedReconnect | undefined {
  if (given === false) return undefined;
  if (given === true) return RECONNECT_DEFAULTS;
  if (typeof given !== "object" || given === null) {
    throw new TypeError(`reconnect must be true, false or an object, not ${given}`);
  }
  const minMs = assertTimeout(given.minMs ?? RECONNECT_DEFAULTS.minMs, "reconnect.minMs");
  const maxMs = assertTimeout(given.maxMs ?? Math.max(minMs, RECONNECT_DEFAULTS.maxMs), "reconnect.maxMs");
  if (maxMs < minMs) throw new RangeError(`reconnect.maxMs is ${maxMs}, less than minMs, which is ${minMs}`);
  return {
    minMs,
    maxMs,
    settledMs: assertWait(given.settledMs ?? RECONNECT_DEFAULTS.settledMs, "reconnect.settledMs"),
    giveUpMs: assertWait(given.giveUpMs ?? RECONNECT_DEFAULTS.giveUpMs, "reconnect.giveUpMs"),
  };
}

/** @throws {TypeError} @throws {RangeError} for an option that can't be. */
export function resolveConsumerOptions(options: ConsumerOptions): ResolvedConsumerOptions {
  const idle = options.idle ?? "adaptive";
  if (!IDLE_STRATEGIES.includes(idle)) {
    throw new TypeError(`idle must be one of ${IDLE_STRATEGIES.join(", ")}, not ${idle}`);
  }
  const protocol = options.protocol ?? "auto";
  if (!PROTOCOL_CHOICES.includes(protocol)) {
    throw new TypeError(`protocol must be one of ${PROTOCOL_CHOICES.join(", ")}, not ${protocol}`);
  }
  const { staleAfterSlots, onStale, onConnection } = options;
  if (onConnection !== undefined && typeof onConnection !== "function") {
    throw new TypeError("onConnection must be a function");
  }
  if (staleAfterSlots !== undefined) assertCount(staleAfterSlots, "staleAfterSlots", Number.MAX_SAFE_INTEGER);
  if (onStale !== undefined && typeof onStale !== "function") throw new TypeError("onStale must be a function");
  if (onStale !== undefined && staleAfterSlots === undefined) {
    throw new TypeError("onStale needs staleAfterSlots: how many slots are too many");
  }
  return {
    signal: options.signal,
    policy: resolvePolicies(options.policy),
    queueBytes: assertCount(options.queueBytes ?? 0, "queueBytes", QUEUE_BYTES_MAX),
    ...(staleAfterSlots !== undefined && { staleAfterSlots }),
    ...(onStale !== undefined && { onStale }),
    ...(onConnection !== undefined && { onConnection }),
    cache: resolveCache(options.cache),
    reconnect: resolveReconnect(options.reconnect),
    waitForSenderMs: assertWait(options.waitForSenderMs ?? 0, "waitForSenderMs"),
    idle,
    connectTimeoutMs: assertTimeout(options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS, "connectTimeoutMs"),
    requestTimeoutMs: assertTimeout(options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS, "requestTimeoutMs"),
    name: options.name ?? "",
    uids: options.uids ?? [],
    protocol,
    v9PingMs: assertTimeout(options.v9PingMs ?? V9_PING_MS, "v9PingMs"),
    v9IdleMs: assertTimeout(options.v9IdleMs ?? V9_IDLE_MS, "v9IdleMs"),
    marks: options.marks === true,
    timings: options.timings === true,
  };
}
