/**
 * What a Yellowstone source can be told, and what it does if it is not.
 * May touch: the values that it is given. May not touch: sockets.
 *
 * @module
 */

import type { BackoffOptions } from "../backoff.ts";
import { nextSourceEpoch, type SourceDemand, type SourceEvent, type SourceFilter } from "../source.ts";
import { type Compression, decompressorOf } from "./frames.ts";
import type { GeyserCommitment } from "./request.ts";

/** How a Yellowstone source is set up. */
export interface YellowstoneOptions {
  /** Where the server is: `https://host:port`, or `http://` for one without TLS. */
  readonly endpoint: string;
  /** The provider's token, sent as `x-token`. */
  readonly xToken?: string;
  /** Further headers of the request. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Certificates to trust in place of the runtime's own list, PEM. */
  readonly ca?: string | readonly string[];
  /** What to ask for: `sender.demand`, by which it follows the consumers, or a filter that stays. Slots always come. */
  readonly demand: SourceDemand | SourceFilter;
  /**
   * How final what is sent has to be. Default "processed": each write as it happens. At the others a slot comes at once
   * when it has reached that, and of each account its last write in the slot.
   */
  readonly commitment?: GeyserCommitment;
  /** Of transactions, votes only (true) or none (false). Default both. */
  readonly votes?: boolean;
  /** Of transactions, failed ones only (true) or none (false). Default both. */
  readonly failed?: boolean;
  /** Whether `meta` of transactions is kept, as protobuf `TransactionStatusMeta`. Default true. */
  readonly meta?: boolean;
  /** The first slot to be sent, where the server still has it. Default: from now on. */
  readonly fromSlot?: bigint;
  /** Whether a new connection asks for what was missed since the one before. Default true. */
  readonly resume?: boolean;
  /** How the server may compress. Default not at all: it costs both sides more than a fast network does. */
  readonly compression?: readonly Compression[];
  /** Most keys in one filter of a request, as the provider limits them; more go into further filters. Default no limit. */
  readonly filterKeysMax?: number;
  /** Least time between two requests that change the filters, in milliseconds. Default 100. */
  readonly filterIntervalMs?: number;
  /** Longest silence, pings included; servers ping every 10 or 15 s. Default 45000. */
  readonly silenceMs?: number;
  /** Longest time without a status of a newer slot than before, whatever else comes. Default 30000. */
  readonly staleMs?: number;
  /** Longest wait for the server's first word. Default 10000. */
  readonly connectTimeoutMs?: number;
  /** Longest message, in bytes. Default 16 MiB: an account has 10 MiB at most. */
  readonly messageBytesMax?: number;
  /** Bytes on their way to us, and as many received and not taken: the bound of what a source holds. Default 8 MiB. */
  readonly windowBytes?: number;
  /** Waits between connections. */
  readonly backoff?: BackoffOptions;
  /** The source epoch of a new connection. Default: the clock's seconds, so that a later process has greater ones, too. */
  readonly sourceEpoch?: () => number;
  /** What happens to the connection. What it throws is an uncaught error of your process. */
  readonly onEvent?: (event: SourceEvent) => void;
  /** Ends the source. */
  readonly signal?: AbortSignal;
}

/** Every option with its value. */
export interface ResolvedYellowstoneOptions
  extends Required<Omit<YellowstoneOptions, "xToken" | "headers" | "ca" | "votes" | "failed" | "fromSlot" | "signal">> {
  readonly headers: Readonly<Record<string, string>>;
  readonly ca: string | readonly string[] | undefined;
  readonly votes: boolean | undefined;
  readonly failed: boolean | undefined;
  readonly fromSlot: bigint | undefined;
  readonly signal: AbortSignal | undefined;
}

const MS_MAX = 3_600_000;

function number(value: number, name: string, min: number, max: number): number {
  if (typeof value !== "number" || !(value >= min && value <= max)) {
    throw new RangeError(`${name} must be from ${min} to ${max}, not ${value}`);
  }
  return value;
}

/** @throws {TypeError} and {@linkcode RangeError} for what can't be. */
export function resolveYellowstoneOptions(options: YellowstoneOptions): ResolvedYellowstoneOptions {
  const url = URL.canParse(options.endpoint) ? new URL(options.endpoint) : undefined;
  if (url?.protocol !== "http:" && url?.protocol !== "https:") {
    throw new TypeError(`endpoint must be a URL that starts with http:// or https://, not "${options.endpoint}"`);
  }
  const { commitment = "processed", compression = [], fromSlot, demand } = options;
  if (!["processed", "confirmed", "finalized"].includes(commitment)) {
    throw new TypeError(`commitment must be processed, confirmed or finalized, not ${commitment}`);
  }
  if (typeof demand !== "object" || demand === null) {
    throw new TypeError("demand must be a sender's demand, or a filter: what is not asked for does not come");
  }
  for (const encoding of compression) {
    if (decompressorOf(encoding) === undefined) {
      throw new TypeError(`compression must be of what this runtime can read: gzip, zstd; not ${encoding}`);
    }
  }
  if (fromSlot !== undefined && (typeof fromSlot !== "bigint" || fromSlot < 0n)) {
    throw new TypeError("fromSlot must be a bigint from 0n");
  }
  const { xToken } = options;
  const { filterKeysMax = Infinity, messageBytesMax = 16 << 20, windowBytes = 8 << 20 } = options;
  return {
    endpoint: options.endpoint,
    headers: { ...options.headers, ...xToken === undefined ? {} : { "x-token": xToken } },
    ca: options.ca,
    demand,
    commitment,
    votes: options.votes,
    failed: options.failed,
    meta: options.meta ?? true,
    fromSlot,
    resume: options.resume ?? true,
    compression,
    filterKeysMax: filterKeysMax === Infinity
      ? 2 ** 31
      : Math.floor(number(filterKeysMax, "filterKeysMax", 1, 2 ** 31)),
    filterIntervalMs: number(options.filterIntervalMs ?? 100, "filterIntervalMs", 0, MS_MAX),
    silenceMs: number(options.silenceMs ?? 45_000, "silenceMs", 10, MS_MAX),
    staleMs: number(options.staleMs ?? 30_000, "staleMs", 10, MS_MAX),
    connectTimeoutMs: number(options.connectTimeoutMs ?? 10_000, "connectTimeoutMs", 1, MS_MAX),
    messageBytesMax: number(messageBytesMax, "messageBytesMax", 1024, 1 << 30),
    windowBytes: number(windowBytes, "windowBytes", 65_535, (1 << 30) - 1),
    backoff: options.backoff ?? {},
    sourceEpoch: options.sourceEpoch ?? nextSourceEpoch,
    onEvent: options.onEvent ?? (() => {}),
    signal: options.signal,
  };
}
