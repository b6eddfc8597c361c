/**
 * A drop-in for kit's RPC subscriptions: the same object, served by a consumer instead of a node.
 * May touch: kit's requests, feeds. May not touch: rings.
 *
 * kit's own loops have three faults, which these have not: leaving one does not unsubscribe, what waits for one has no
 * bound, and what comes before it first asks is gone. So the loops are made here, and only stores are kit's.
 *
 * @module
 */

import { setImmediate } from "node:timers";
import {
  createReactiveStoreFromDataPublisherFactory,
  createSolanaRpcSubscriptionsApi,
  type DataPublisher,
  DEFAULT_RPC_SUBSCRIPTIONS_CONFIG,
  type PendingRpcSubscriptionsRequest,
  type RpcSubscriptions,
  type RpcSubscriptionsTransport,
  type SolanaRpcSubscriptionsApi,
} from "@solana/kit";
import { openingError, overrun } from "./errors.ts";
import { Feed, type FeedConsumer } from "./feed.ts";
import { type ResolvedOptions, resolveOptions, type RpcSubscriptionsOptions } from "./options.ts";
import { type Plan, planOf, type Request } from "./plan.ts";
import { Queue } from "./queue.ts";
import { type Sink, Subscription } from "./subscription.ts";

const METHODS = [
  "accountNotifications",
  "logsNotifications",
  "programNotifications",
  "rootNotifications",
  "signatureNotifications",
  "slotNotifications",
] as const;
/** Only nodes have these; they are there to say so. */
const REFUSED = ["blockNotifications", "slotsUpdatesNotifications", "voteNotifications"] as const;

/** What an RPC subscription's publisher says. */
type Events = { readonly notification: unknown; readonly error: unknown };
type Listeners = { readonly [Channel in keyof Events]: Set<(data: unknown) => void> };

/**
 * kit's RPC subscriptions over a local feed: a program that has them from `createSolanaRpcSubscriptions(url)` changes this
 * line and no other.
 *
 * - **Methods**: `accountNotifications` and `programNotifications` (`dataSize`, `memcmp`; the encodings base64, base58 and
 *   none), `slotNotifications`, `rootNotifications`, `signatureNotifications`, and with the option `readMeta`
 *   `logsNotifications`. `root` of a slot is 0 until the feed has told of a finalized one. The others are refused by kit's `CANNOT_CREATE_SUBSCRIPTION_PLAN`.
 * - **Commitment**: kit's default is "confirmed". A feed is "processed" (option `feedCommitment`), so notifications wait
 *   until slot updates say that their slot, or a descendant of it, has got there; those of dead forks are never told. At
 *   "processed" each write is told at once; a node tells the last one of a slot.
 * - **Ends**: leaving a loop unsubscribes, as aborting its signal does. A feed that is lost or closed is an error,
 *   `CHANNEL_CONNECTION_CLOSED`, whose cause is this library's, also where the consumer will connect again: what was missed
 *   meanwhile the program has to make up for, as with a node. Then subscribe again; that waits until there is a sender.
 *   Closing the consumer ends the loops quietly.
 * - **Loops**: one reads a subscription; kit lets several. For a second one subscribe again: the sender is asked once.
 * - **Bounds**: `queueMax` notifications wait for a loop, beyond that see `whenFull`; `holdBytes` and `holdSlots` for what
 *   waits for its commitment. Signatures, logs and programs with different filters take one of the consumer's 63 filters each.
 *
 * @param consumer From here on read by the subscriptions alone: to read it yourself as well, set up another one. Of this
 * library's own protocol: what is asked of a sender of wire version 9 is refused by `CANNOT_CREATE_SUBSCRIPTION_PLAN`, since
 * its slots do not say what is confirmed. `toDataPublisher`, the views' decoders and a relay take it.
 * @returns kit's object. It holds nothing before the first subscription, and goes with the consumer.
 * @throws {TypeError} {@linkcode RangeError} for an option that can't be.
 *
 * @example
 * ```ts
 * import { setupConsumer, setupSender } from "@qlaster/core";
 * import { createRpcSubscriptions } from "@qlaster/core/kit";
 * import { address } from "@solana/kit";
 * import assert from "node:assert/strict";
 *
 * await using sender = await setupSender({ path: "/tmp/qlaster-doc-rpc.sock", ringCapacityBytes: 65536 });
 * await using consumer = await setupConsumer("/tmp/qlaster-doc-rpc.sock");
 * const rpcSubscriptions = createRpcSubscriptions(consumer); // was: createSolanaRpcSubscriptions("wss://...")
 *
 * const vault = address("5ag267qtJvvp4swwj16AfQTkzqme2s5YJnP2CaJVsKeQ");
 * const notifications = await rpcSubscriptions
 *   .accountNotifications(vault, { commitment: "processed", encoding: "base64" })
 *   .subscribe({ abortSignal: AbortSignal.timeout(5000) });
 * sender.publishAccount({ pubkey: vault, owner: vault, lamports: 7n, data: new Uint8Array(1), slot: 1n });
 * for await (const { value } of notifications) {
 *   assert.equal(value.lamports, 7n);
 *   break; // unsubscribes
 * }
 * ```
 */
export function createRpcSubscriptions(
  consumer: FeedConsumer,
  options: RpcSubscriptionsOptions = {},
): RpcSubscriptions<SolanaRpcSubscriptionsApi> {
  const source = new Source(consumer, resolveOptions(options));
  // What kit itself does with parameters: defaults, checks, whole numbers.
  const api = createSolanaRpcSubscriptionsApi(DEFAULT_RPC_SUBSCRIPTIONS_CONFIG) as unknown as Record<
    string,
    (...params: unknown[]) => { readonly request: Request }
  >;
  const subscriptions: Record<string, unknown> = {};
  for (const name of [...METHODS, ...REFUSED]) {
    subscriptions[name] = (...params: unknown[]) => source.pending(api[name]!(...params).request);
  }
  return Object.freeze(subscriptions) as unknown as RpcSubscriptions<SolanaRpcSubscriptionsApi>;
}

/**
 * The same as a transport, for `createSolanaRpcSubscriptionsFromTransport` and compositions of one's own. Loops are kit's
 * then, with their faults: see `createRpcSubscriptions`.
 *
 * @param consumer As for `createRpcSubscriptions`.
 * @throws {TypeError} {@linkcode RangeError} for an option that can't be.
 */
export function createRpcSubscriptionsTransport(
  consumer: FeedConsumer,
  options: Omit<RpcSubscriptionsOptions, "queueMax" | "whenFull"> = {},
): RpcSubscriptionsTransport {
  const source = new Source(consumer, resolveOptions(options));
  const transport = ({ request, signal }: { request: Request; signal: AbortSignal }) => source.publish(request, signal);
  return transport as unknown as RpcSubscriptionsTransport;
}

/** Subscriptions of one consumer with one set of options. */
class Source {
  readonly #feed: Feed;
  readonly #options: ResolvedOptions;

  constructor(consumer: FeedConsumer, options: ResolvedOptions) {
    this.#feed = Feed.of(consumer);
    this.#options = options;
  }

  pending(request: Request): PendingRpcSubscriptionsRequest<unknown> {
    return {
      reactiveStore: () =>
        createReactiveStoreFromDataPublisherFactory<unknown>({
          createDataPublisher: (signal) => this.publish(request, signal) as Promise<DataPublisher>,
          dataChannelName: "notification",
          errorChannelName: "error",
        }),
      subscribe: ({ abortSignal }) => this.#iterate(request, abortSignal),
    };
  }

  async #iterate(request: Request, signal: AbortSignal): Promise<AsyncIterable<unknown>> {
    const plan = this.#plan(request);
    const { queueMax: max, whenFull } = this.#options;
    const onAbort = () => queue.end();
    const queue = new Queue<unknown>({
      max,
      conflates: whenFull === "conflate" && plan.ofTransaction === undefined,
      onLeave: () => {
        signal.removeEventListener("abort", onAbort);
        subscription.close();
      },
      overrun: () =>
        overrun("KIT_QUEUE_FULL", `Cannot go on with ${request.methodName} of "${this.#feed.path}" (${max} wait)`),
    });
    const subscription = new Subscription(this.#feed, request, plan, this.#options, queue);
    if (signal.aborted) {
      queue.end();
      return queue;
    }
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      await this.#open(subscription, request);
    } catch (error) {
      signal.removeEventListener("abort", onAbort);
      throw error;
    }
    return queue;
  }

  /**
   * Without a queue: for listeners that take what comes, such as kit's stores.
   * @throws the signal's reason once that is aborted, as kit does.
   */
  async publish(request: Request, signal: AbortSignal): Promise<DataPublisher<Events>> {
    signal.throwIfAborted();
    const { methodName } = request;
    const listeners = { notification: new Set<(data: unknown) => void>(), error: new Set<(data: unknown) => void>() };
    const early = new Early(listeners, this.#options.queueMax, () => {
      end();
      early.tell("error", overrun("KIT_QUEUE_FULL", `Cannot go on with ${methodName} of "${this.#feed.path}"`));
    });
    const close = () => subscription.close();
    const end = () => {
      close();
      signal.removeEventListener("abort", close);
    };
    const sink: Sink = {
      push: (_key, notification) => early.tell("notification", notification),
      fail: (error) => {
        end();
        early.tell("error", error);
      },
      end,
    };
    const subscription = new Subscription(this.#feed, request, this.#plan(request), this.#options, sink);
    signal.addEventListener("abort", close, { once: true });
    try {
      await this.#open(subscription, request);
    } catch (error) {
      end();
      throw error;
    }
    signal.throwIfAborted();
    return early.publisher();
  }

  #plan(request: Request): Plan {
    return planOf(request, this.#options, this.#feed.addresses);
  }

  async #open(subscription: Subscription, { methodName }: Request): Promise<void> {
    try {
      await subscription.open();
    } catch (error) {
      throw openingError(methodName, error);
    }
  }
}

/**
 * What is told before anybody can listen: a sender's answer and its updates come by two ways, and often the updates first.
 * It waits for the first listener, at most until the turn after the publisher was handed out. An error waits as long as it
 * takes.
 */
class Early {
  readonly #listeners: Listeners;
  readonly #waiting: { -readonly [Channel in keyof Events]: unknown[] | undefined } = { notification: [], error: [] };
  readonly #max: number;
  readonly #onFull: () => void;

  constructor(listeners: Listeners, max: number, onFull: () => void) {
    this.#listeners = listeners;
    this.#max = max;
    this.#onFull = onFull;
  }

  tell(channel: keyof Events, data: unknown): void {
    const waiting = this.#waiting[channel];
    if (waiting === undefined) { for (const listener of [...this.#listeners[channel]]) listener(data); }
    else if (waiting.length < this.#max) waiting.push(data);
    else this.#onFull();
  }

  publisher(): DataPublisher<Events> {
    setImmediate(() => {
      if (this.#listeners.notification.size === 0) this.#waiting.notification = undefined;
    });
    const { on } = publisherOf<Events>(this.#listeners);
    return {
      on: (channel, listener, options) => {
        const stop = on(channel, listener, options);
        queueMicrotask(() => this.#release(channel));
        return stop;
      },
    };
  }

  #release(channel: keyof Events): void {
    if (this.#listeners[channel].size === 0) return;
    const waiting = this.#waiting[channel] ?? [];
    this.#waiting[channel] = undefined;
    for (const data of waiting) this.tell(channel, data);
  }
}

/** kit's `DataPublisher` over sets of listeners. */
export function publisherOf<Channels extends Record<string, unknown>>(
  listeners: { readonly [Channel in keyof Channels]: Set<(data: unknown) => void> },
): DataPublisher<Channels> {
  return {
    on(channel, listener, options) {
      const { signal } = options ?? {};
      if (signal?.aborted === true) return () => {};
      const own = (data: unknown) => listener(data as never); // so that the same function may listen twice
      listeners[channel].add(own);
      const stop = () => {
        listeners[channel].delete(own);
        signal?.removeEventListener("abort", stop);
      };
      signal?.addEventListener("abort", stop, { once: true });
      return stop;
    },
  };
}
