/**
 * What a consumer can be told, and what it does if it is not.
 * May touch: the values that it is given. May not touch: files, the native library.
 *
 * @module
 */

import { V9_IDLE_MS, V9_PING_MS } from "../native/abi.generated.ts";
import { PROTOCOL_CHOICES, type ProtocolChoice } from "./dial.ts";
import { IDLE_STRATEGIES, type IdleStrategy } from "./idle.ts";

const CONNECT_TIMEOUT_MS = 5000;
const REQUEST_TIMEOUT_MS = 30_000;

/** How a consumer is set up. */
export interface ConsumerOptions {
  /** Ends the wait for a grant, and later closes the consumer; its loops end without an error. */
  readonly signal?: AbortSignal;
  /** How to wait for updates. Default "adaptive". See docs/ARCHITECTURE.md. */
  readonly idle?: IdleStrategy;
  /** From the first attempt to the grant, in milliseconds. Default 5000. */
  readonly connectTimeoutMs?: number;
  /** For the answer to `subscribe` and `ping`, in milliseconds. Default 30000. */
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
  /** Measures what the original measures: see `timings`. Costs about a microsecond per update. Default false. */
  readonly timings?: boolean;
}

/** All of them, checked. */
export type ResolvedConsumerOptions = Required<Omit<ConsumerOptions, "signal">> & {
  readonly signal: AbortSignal | undefined;
};

function assertTimeout(value: number, name: string): number {
  if (!(value > 0 && value <= 0x7fffffff)) {
    throw new RangeError(`${name} must be from 1 to ${0x7fffffff} ms, not ${value}`);
  }
  return value;
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
  return {
    signal: options.signal,
    idle,
    connectTimeoutMs: assertTimeout(options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS, "connectTimeoutMs"),
    requestTimeoutMs: assertTimeout(options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS, "requestTimeoutMs"),
    name: options.name ?? "",
    uids: options.uids ?? [],
    protocol,
    v9PingMs: assertTimeout(options.v9PingMs ?? V9_PING_MS, "v9PingMs"),
    v9IdleMs: assertTimeout(options.v9IdleMs ?? V9_IDLE_MS, "v9IdleMs"),
    timings: options.timings === true,
  };
}
