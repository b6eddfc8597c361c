/**
 * A node's JSON-RPC as a source of updates: subscriptions over its WebSocket, by `@solana/kit`'s own client. For want of
 * something better: nodes skip notifications when they are busy, so all that comes is marked `lossy`.
 *
 * @module
 */

import { QlasterError } from "../errors.ts";
import { pause } from "../pause.ts";
import type { Update } from "../types.ts";
import { Backoff, type BackoffOptions } from "./backoff.ts";
import { BatchQueue } from "./batch_queue.ts";
import { DemandFollower } from "./demand_follower.ts";
import { type Clients, createClients } from "./rpc/kit.ts";
import { Overflow } from "./rpc/overflow.ts";
import { RpcSession } from "./rpc/session.ts";
import { nextSourceEpoch, type Source, type SourceDemand, type SourceEvent, type SourceFilter } from "./source.ts";

export type { BackoffOptions } from "./backoff.ts";
export type { Source, SourceDemand, SourceEvent, SourceFilter } from "./source.ts";

/** How an RPC source is set up. */
export interface RpcOptions {
  /** The node's WebSocket: `wss://host`, or `ws://` for one without TLS. */
  readonly url: string;
  /** Its HTTP, for the state of accounts. Default: the same, with `http` for `ws`, and one port below if there is a port. */
  readonly httpUrl?: string;
  /** What to ask for: `sender.demand`, by which it follows the consumers, or a filter that stays. Slots always come. */
  readonly demand: SourceDemand | SourceFilter;
  /** How final what is told has to be; slots are told when they are processed, and when they are final. Default "confirmed". */
  readonly commitment?: "processed" | "confirmed" | "finalized";
  /** Whether logs of votes are among those of all transactions. Default false. */
  readonly votes?: boolean;
  /** Whether the state of accounts that are asked for by address is read first. Default true. */
  readonly state?: boolean;
  /** Longest time without a newer slot: a socket that is dead says nothing else about it. Default 15000. */
  readonly staleMs?: number;
  /** Waits between connections. */
  readonly backoff?: BackoffOptions;
  /** Bytes that may wait to be taken; beyond, only the newest of each account is kept, 256 MiB of them. Default 8 MiB. */
  readonly pendingBytesMax?: number;
  /** The source epoch of a new connection. Default: the clock's seconds, so that a later process has greater ones, too. */
  readonly sourceEpoch?: () => number;
  /** What happens to the connection. What it throws is an uncaught error of your process. */
  readonly onEvent?: (event: SourceEvent) => void;
  /** Ends the source. */
  readonly signal?: AbortSignal;
}

/** What a source has done so far. */
export interface RpcMetrics {
  /** Connections so far that were tried. */
  readonly connections: number;
  /** Updates that nobody took in time, and that a newer one replaced. */
  readonly dropped: number;
  /** The newest slot; -1n before the first. */
  readonly newestSlot: bigint;
}

/** Most updates that wait to be taken, however small they are. */
const PENDING_MAX = 16_384;

/**
 * Subscribes to a node, from the first iteration on.
 *
 * **Told**: accounts by address, with their state first; accounts of programs, without; slots, processed and final; of
 * transactions what the node's logs say: signature, error, logs (`meta`), and no message. **Order**: of each account as the
 * node tells, and `writeVersion` counts that; between accounts, transactions and slots none is promised. **Not there**: all
 * accounts; the state of programs' accounts; write versions and signatures of writes. All that comes is `lossy`.
 *
 * @throws {TypeError} and {@linkcode RangeError} for options that can't be.
 */
export function rpc(options: RpcOptions): RpcSource {
  return new RpcSource(options);
}

/** See {@linkcode rpc}. */
export class RpcSource implements Source {
  readonly #options: RpcOptions;
  readonly #httpUrl: string;
  readonly #staleMs: number;
  readonly #queue: BatchQueue;
  readonly #overflow: Overflow;
  readonly #backoff: Backoff;
  readonly #closing = new AbortController();
  readonly #onAbort = () => this.close();
  readonly #wanted: DemandFollower;
  #session: RpcSession | undefined;
  #leaveSession: (() => void) | undefined;
  #isStarted = false;
  #connections = 0;
  #newestSlot = -1n;

  /** @internal Use {@linkcode rpc}. */
  constructor(options: RpcOptions) {
    const { url, demand, staleMs = 15_000, pendingBytesMax = 8 << 20 } = options;
    if (!URL.canParse(url) || !/^wss?:$/.test(new URL(url).protocol)) {
      throw new TypeError(`url must start with ws:// or wss://, not be "${url}"`);
    }
    if (typeof demand !== "object" || demand === null) {
      throw new TypeError("demand must be a sender's demand, or a filter: what is not asked for does not come");
    }
    if (!(staleMs >= 10 && staleMs <= 3_600_000)) {
      throw new RangeError(`staleMs must be from 10 to 3600000, not ${staleMs}`);
    }
    if (!(pendingBytesMax > 0)) throw new RangeError(`pendingBytesMax must be above 0, not ${pendingBytesMax}`);
    this.#options = options;
    this.#httpUrl = options.httpUrl ?? httpUrlOf(url);
    this.#staleMs = staleMs;
    this.#wanted = new DemandFollower(demand);
    this.#backoff = new Backoff(options.backoff);
    this.#queue = new BatchQueue({
      bytesMax: pendingBytesMax,
      updatesMax: PENDING_MAX,
      onRoom: () => this.#overflow.release(),
      onReturn: () => this.close(),
    });
    this.#overflow = new Overflow(this.#queue);
    options.signal?.addEventListener("abort", this.#onAbort, { once: true });
    if (options.signal?.aborted) this.close();
  }

  /** Starts it. One loop can read it, once. */
  [Symbol.asyncIterator](): AsyncIterator<readonly Update[]> {
    if (this.#isStarted) throw new TypeError("A source can be iterated once");
    this.#isStarted = true;
    if (!this.#closing.signal.aborted) {
      this.#wanted.follow((wanted) => this.#session?.want(wanted)).catch((error) => this.#stop({ error }));
      void this.#run();
    }
    return this.#queue;
  }

  /** What has been done so far. */
  get metrics(): RpcMetrics {
    return { connections: this.#connections, dropped: this.#overflow.dropped, newestSlot: this.#newestSlot };
  }

  /** Ends it: the loop ends after what has come. May be called twice. */
  close(): void {
    this.#stop();
  }

  /** The same as `close()`. */
  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  async #run(): Promise<void> {
    const { url } = this.#options;
    const { signal } = this.#closing;
    try {
      while (!signal.aborted) {
        this.#connections++;
        // New ones each time: kit keeps sockets, and what it knows of them, as long as its client.
        const clients = await createClients(url, this.#httpUrl);
        if (signal.aborted) return;
        const { text, cause, dataMs } = await this.#receive(clients);
        this.#session = undefined;
        if (signal.aborted) return;
        const retryMs = this.#backoff.next(dataMs);
        this.#tell({
          type: "lost",
          error: new QlasterError("SOURCE_LOST", `Cannot receive from ${url} (${text})`, { cause }),
          retryMs,
        });
        await pause(retryMs, signal);
      }
    } catch (error) {
      this.#stop({ error });
    }
  }

  /** One session, from its beginning to its end. */
  #receive(clients: Clients): Promise<{ text: string; cause: unknown; dataMs: number }> {
    const { promise, resolve } = Promise.withResolvers<{ text: string; cause: unknown; dataMs: number }>();
    const { commitment = "confirmed", votes = false, state = true, sourceEpoch = nextSourceEpoch } = this.#options;
    const epoch = sourceEpoch();
    const before = this.#newestSlot;
    let since = 0;
    const session = new RpcSession(clients, { commitment, votes, state, epoch, staleMs: this.#staleMs }, {
      onUpdate: (name, update, bytes) => {
        if (update.kind === "slot" && since === 0) {
          since = performance.now();
          this.#tell({ type: "connected", epoch, resumedFrom: undefined });
          const reason = "a node tells nothing of what was before";
          if (before >= 0n) this.#tell({ type: "gap", afterSlot: before, untilSlot: update.slot, reason });
        }
        if (session.newestSlot >= 0n) this.#newestSlot = session.newestSlot; // accounts may come before its first slot
        this.#overflow.push(name, update, bytes);
      },
      onRefused: (text, cause, retryMs) => {
        const error = new QlasterError("SOURCE_REFUSED", `Cannot receive all from ${this.#options.url} (${text})`, {
          cause,
        });
        this.#tell({ type: "refused", error, retryMs });
      },
      onEnd: (text, cause) => resolve({ text, cause, dataMs: since === 0 ? 0 : performance.now() - since }),
    });
    this.#session = session;
    this.#leaveSession = () => {
      session.close();
      resolve({ text: "it was closed", cause: undefined, dataMs: 0 });
    };
    session.want(this.#wanted.current);
    return promise;
  }

  #stop(failure?: { readonly error: unknown }): void {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    this.#leaveSession?.();
    this.#wanted.leave();
    this.#queue.end(failure);
  }

  #tell(event: SourceEvent): void {
    const { onEvent } = this.#options;
    if (onEvent !== undefined) queueMicrotask(() => onEvent(event));
  }
}

/** Nodes listen for WebSockets one port above HTTP; providers at the same address. */
function httpUrlOf(url: string): string {
  const http = new URL(url.replace(/^ws/, "http"));
  if (http.port !== "") http.port = String(Number(http.port) - 1);
  return http.href;
}
