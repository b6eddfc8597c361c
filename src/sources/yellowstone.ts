/**
 * Yellowstone gRPC (Geyser) as a source of updates: `sender.feed(yellowstone({ endpoint, demand: sender.demand }))`.
 *
 * Its protocol is spoken here, over the runtime's own HTTP/2, and decoded once, where the bytes stand: there is no native
 * add-on and no other package. What consumers want is what the server is asked for, changed in place; when they block, it
 * is stopped by flow control; when a connection ends, the next one goes on from the last complete slot, if the server still
 * has it, and says so if not.
 *
 * @module
 */

import { QlasterError } from "../errors.ts";
import { pause } from "../pause.ts";
import type { Update } from "../types.ts";
import { Backoff } from "./backoff.ts";
import { BatchQueue } from "./batch_queue.ts";
import { DemandFollower } from "./demand_follower.ts";
import type { Source, SourceEvent } from "./source.ts";
import {
  type ResolvedYellowstoneOptions,
  resolveYellowstoneOptions,
  type YellowstoneOptions,
} from "./yellowstone/options.ts";
import { Receiver } from "./yellowstone/receiver.ts";
import { encodePing, encodeSubscribeRequest } from "./yellowstone/request.ts";
import { GeyserStream, GrpcStatus, type StreamEnd } from "./yellowstone/stream.ts";

export type { BackoffOptions } from "./backoff.ts";
export type { Source, SourceDemand, SourceEvent, SourceFilter } from "./source.ts";
export type { Compression } from "./yellowstone/frames.ts";
export type { YellowstoneOptions } from "./yellowstone/options.ts";
export type { GeyserCommitment } from "./yellowstone/request.ts";

/** What a source has done so far. */
export interface YellowstoneMetrics {
  /** Whether there is a connection that the server has answered. */
  readonly isConnected: boolean;
  /** Connections so far that were tried. */
  readonly connections: number;
  /** Account updates that were handed on. */
  readonly accounts: number;
  /** Transactions, likewise. */
  readonly transactions: number;
  /** Statuses of slots, likewise. */
  readonly slots: number;
  /** Updates that a replay repeated, and that were left out. */
  readonly duplicates: number;
  /** Times that something is missing. */
  readonly gaps: number;
  /** Bytes of messages and their frames. */
  readonly bytes: number;
  /** Requests for filters. */
  readonly requests: number;
  /** Times that reading was stopped, since nobody took what had come. */
  readonly pauses: number;
  /** The newest slot of any status; -1n before the first. */
  readonly newestSlot: bigint;
  /** How much later than at its best what is new comes, by the server's clock and ours, in milliseconds. */
  readonly lagMs: number;
  /** The newest complete slot, at the commitment that was asked for; -1n before the first. */
  readonly completeSlot: bigint;
}

/** Most updates that wait to be taken, however small they are. */
const PENDING_MAX = 65_536;
const LOOKS_PER_STALE = 4;
const NO_REPLAY = "the server did not send what came between";
const CLOSED: StreamEnd = { kind: "closed", status: undefined, text: "it was closed" };
/** Refusals that will not go away by asking again. */
const FINAL: readonly (number | undefined)[] = [
  GrpcStatus.invalidArgument,
  GrpcStatus.permissionDenied,
  GrpcStatus.unimplemented,
  GrpcStatus.unauthenticated,
];

/**
 * Subscribes to a Yellowstone server, from the first iteration on.
 *
 * **Order**: as the server sends. Writes of a slot come before its status "processed"; transactions may come after it.
 * **Not there**: the state before the first update; what happened between two connections, if the server can't replay it:
 * then a `gap` event says so, and what comes next is `lossy`, until one whole slot has come. Banks (`bankId`) are not told.
 * **Errors**: an iteration throws {@linkcode QlasterError} `SOURCE_REFUSED` if the server refuses the very first
 * subscription for a reason that lasts: a wrong token, a filter that it does not take. After that it goes on trying.
 *
 * @throws {TypeError} and {@linkcode RangeError} for options that can't be.
 */
export function yellowstone(options: YellowstoneOptions): YellowstoneSource {
  return new YellowstoneSource(resolveYellowstoneOptions(options));
}

/** See {@linkcode yellowstone}. */
export class YellowstoneSource implements Source {
  readonly #options: ResolvedYellowstoneOptions;
  readonly #queue: BatchQueue;
  readonly #receiver: Receiver;
  readonly #backoff: Backoff;
  readonly #closing = new AbortController();
  readonly #onAbort = () => this.close();
  readonly #wanted: DemandFollower;
  #stream: GeyserStream | undefined;
  #leaveConnection = () => {};
  #isStarted = false;
  /** The server has answered over the present connection. */
  #isConnected = false;
  /** Data have come over any connection. */
  #hasWorked = false;
  /** When the first data of the present connection came. */
  #dataSince = 0;
  #staleTimer: ReturnType<typeof setInterval> | undefined;

  // Requests
  #isRequestDue = false;
  #requestTimer: ReturnType<typeof setTimeout> | undefined;
  #requestedAt = -Infinity;
  #pings = 0;

  // What is counted
  #connections = 0;
  #gaps = 0;
  #bytes = 0;
  #requests = 0;
  #pauses = 0;
  #isPaused = false;
  /** Why what came between is missing, for the event. */
  #gapReason = NO_REPLAY;
  #connectedEvent: SourceEvent | undefined;

  /** @internal Use {@linkcode yellowstone}. */
  constructor(options: ResolvedYellowstoneOptions) {
    this.#options = options;
    this.#wanted = new DemandFollower(options.demand);
    this.#backoff = new Backoff(options.backoff);
    this.#queue = new BatchQueue({
      bytesMax: options.windowBytes,
      updatesMax: PENDING_MAX,
      onRoom: () => this.#onRoom(),
      onReturn: () => this.close(),
    });
    this.#receiver = new Receiver(this.#queue, options, (after, until) => this.#onGap(after, until));
    options.signal?.addEventListener("abort", this.#onAbort, { once: true });
    if (options.signal?.aborted) this.close();
  }

  /** Starts it. One loop can read it, once. */
  [Symbol.asyncIterator](): AsyncIterator<readonly Update[]> {
    if (this.#isStarted) throw new TypeError("A source can be iterated once");
    this.#isStarted = true;
    if (!this.#closing.signal.aborted) {
      this.#wanted.follow(() => this.#onDemand()).catch((error) => this.#stop({ error }));
      void this.#run();
    }
    return this.#queue;
  }

  /** What has been done so far. */
  get metrics(): YellowstoneMetrics {
    const { accounts, transactions, slots, duplicates } = this.#receiver.counts;
    return {
      isConnected: this.#isConnected,
      connections: this.#connections,
      accounts,
      transactions,
      slots,
      duplicates,
      gaps: this.#gaps,
      bytes: this.#bytes,
      requests: this.#requests,
      pauses: this.#pauses,
      newestSlot: BigInt(this.#receiver.newestSlot),
      lagMs: this.#receiver.lagMs,
      completeSlot: BigInt(this.#receiver.completeSlot),
    };
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

  // Connections

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const { fromSlot } = this.#options;
    let resumeSlot = fromSlot === undefined ? undefined : Number(fromSlot);
    if (resumeSlot !== undefined) this.#receiver.startAt(resumeSlot);
    try {
      while (!signal.aborted) {
        const end = await this.#connect(resumeSlot);
        if (signal.aborted) return;
        const wasReplayRefused = resumeSlot !== undefined && this.#dataSince === 0 && isReplayRefusal(end);
        if (!this.#hasWorked && !wasReplayRefused && FINAL.includes(end.status)) {
          throw new QlasterError("SOURCE_REFUSED", this.#text(end), { cause: end.cause });
        }
        const dataMs = this.#dataSince === 0 ? 0 : performance.now() - this.#dataSince;
        if (wasReplayRefused) this.#gapReason = end.text;
        if (wasReplayRefused) resumeSlot = undefined;
        else if (this.#hasWorked) resumeSlot = this.#options.resume ? this.#receiver.resumeSlot : undefined;
        const retryMs = this.#backoff.next(dataMs);
        const code = end.kind === "protocol" ? "SOURCE_PROTOCOL" : "SOURCE_LOST";
        this.#tell({ type: "lost", error: new QlasterError(code, this.#text(end), { cause: end.cause }), retryMs });
        await pause(retryMs, signal);
      }
    } catch (error) {
      this.#stop({ error });
    }
  }

  /** One connection, from its beginning to its end. */
  #connect(resumeSlot: number | undefined): Promise<StreamEnd> {
    const { promise, resolve } = Promise.withResolvers<StreamEnd>();
    const receiver = this.#receiver;
    const epoch = this.#options.sourceEpoch();
    receiver.begin(epoch, resumeSlot);
    this.#connections++;
    this.#dataSince = 0;
    this.#isPaused = false;
    this.#isRequestDue = false;
    this.#connectedEvent = {
      type: "connected",
      epoch,
      resumedFrom: resumeSlot === undefined ? undefined : BigInt(resumeSlot),
    };
    const stream = new GeyserStream(this.#options, {
      onMessage: (bytes, start, end) => receiver.take(bytes, start, end),
      onChunkEnd: (bytes, memoryBytes) => this.#onChunkEnd(bytes, memoryBytes),
      onEnd: (end) => {
        this.#isConnected = false;
        this.#stream = undefined;
        clearTimeout(this.#requestTimer);
        this.#requestTimer = undefined;
        clearInterval(this.#staleTimer);
        resolve(end);
      },
    });
    this.#stream = stream;
    this.#leaveConnection = () => resolve(CLOSED);
    this.#request(resumeSlot === undefined ? undefined : BigInt(resumeSlot));
    if (this.#queue.isFull) this.#pause();
    const { staleMs } = this.#options;
    this.#staleTimer = setInterval(() => this.#onStaleLook(), staleMs / LOOKS_PER_STALE);
    return promise;
  }

  #onChunkEnd(bytes: number, memoryBytes: number): void {
    this.#bytes += bytes;
    const receiver = this.#receiver;
    if (!this.#isConnected) {
      this.#isConnected = true;
      this.#tell(this.#connectedEvent!);
    }
    if (this.#queue.pending.length > 0) {
      if (this.#dataSince === 0) {
        this.#dataSince = performance.now();
        this.#hasWorked = true;
      }
      this.#queue.flush(memoryBytes);
      if (this.#queue.isFull) this.#pause();
    }
    if (receiver.wasPinged) {
      receiver.wasPinged = false;
      this.#stream?.write(encodePing(++this.#pings)); // so that what stands between sees traffic both ways
    }
  }

  #onGap(after: number, until: number): void {
    this.#gaps++;
    const reason = this.#options.resume ? this.#gapReason : "it was not asked to go on from there (option resume)";
    this.#gapReason = NO_REPLAY;
    this.#tell({ type: "gap", afterSlot: BigInt(after), untilSlot: BigInt(until), reason });
  }

  /** A server that says much and nothing new is as bad as one that is silent. */
  #onStaleLook(): void {
    const { staleMs } = this.#options;
    if (this.#isPaused) return this.#receiver.forgiveLag();
    const behind = this.#receiver.staleText(staleMs);
    if (behind !== undefined) this.#stream?.fail({ kind: "lost", status: undefined, text: behind });
  }

  // Pressure

  #pause(): void {
    if (this.#isPaused || this.#stream === undefined) return;
    this.#isPaused = true;
    this.#pauses++;
    this.#stream.pause();
  }

  /** Everything that had come was taken. */
  #onRoom(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#receiver.forgiveLag();
    this.#stream?.resume();
  }

  // What is asked for

  #onDemand(): void {
    this.#isRequestDue = true;
    this.#requestIfDue();
  }

  /** Sends what is wanted now, if it changed, the server has read what was sent before, and enough time has passed. */
  #requestIfDue(): void {
    const stream = this.#stream;
    if (!this.#isRequestDue || stream === undefined || !stream.isSent || this.#requestTimer !== undefined) return;
    const waitMs = this.#requestedAt + this.#options.filterIntervalMs - performance.now();
    if (waitMs <= 0) return this.#request(undefined);
    this.#requestTimer = setTimeout(() => {
      this.#requestTimer = undefined;
      this.#requestIfDue();
    }, waitMs);
  }

  #request(fromSlot: bigint | undefined): void {
    this.#isRequestDue = false;
    this.#requestedAt = performance.now();
    this.#requests++;
    this.#stream?.write(
      encodeSubscribeRequest(this.#wanted.current, this.#options, fromSlot),
      () => this.#requestIfDue(),
    );
  }

  // The end

  #stop(failure?: { readonly error: unknown }): void {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    clearTimeout(this.#requestTimer);
    clearInterval(this.#staleTimer);
    this.#stream?.close();
    this.#stream = undefined;
    this.#leaveConnection();
    this.#isConnected = false;
    this.#wanted.leave();
    this.#queue.end(failure);
  }

  /** Its owner's code runs after ours, so that it may close the source. */
  #tell(event: SourceEvent): void {
    queueMicrotask(() => this.#options.onEvent(event));
  }

  #text(end: StreamEnd): string {
    return `Cannot receive from ${this.#options.endpoint} (${end.text})`;
  }
}

/** Whether it is the replay that the server can't do. */
function isReplayRefusal({ status, text }: StreamEnd): boolean {
  if (status === GrpcStatus.outOfRange) return true;
  // A server that has no buffer says so with another status, and names what it was asked for.
  return (status === GrpcStatus.internal || status === GrpcStatus.failedPrecondition ||
    status === GrpcStatus.invalidArgument) &&
    /from_?slot|replay/i.test(text);
}
