/**
 * As much of `@solana/kit` as the source uses, and its loading: an optional peer, loaded when a source first runs.
 * May touch: kit. May not touch: updates, sockets of its own.
 * Why kit's own client: request ids, coalescing, several subscriptions per socket, integers above 2^53 are its trade.
 *
 * @module
 */

import { QlasterError } from "../../errors.ts";
import type { Address } from "../../types.ts";
import { openChannel } from "./channel.ts";

/** kit's default: what the public node of mainnet takes. */
const SUBSCRIPTIONS_PER_SOCKET_MAX = 100;
/** kit's default: so long after the last message it says something. */
const PING_MS = 5000;

/** An account in base64, as a node tells it. */
export interface RpcAccount {
  readonly data: readonly [string, string];
  readonly executable: boolean;
  readonly lamports: bigint;
  readonly owner: Address;
}

interface InSlot<Value> {
  readonly context: { readonly slot: bigint };
  readonly value: Value;
}

/** What `slotNotifications` says. */
export interface SlotNotification {
  readonly slot: bigint;
  readonly parent: bigint;
  readonly root: bigint;
}

/** What `logsNotifications` says. */
export interface LogsNotification {
  readonly signature: string;
  readonly err: unknown;
  readonly logs: readonly string[] | null;
}

interface Pending<Notification> {
  subscribe(options: { abortSignal: AbortSignal }): Promise<AsyncIterable<Notification>>;
}

interface Commitment {
  readonly commitment: string;
}

/** kit's client of PubSub. */
export interface Subscriptions {
  slotNotifications(): Pending<SlotNotification>;
  accountNotifications(address: Address, config: Commitment & { encoding: "base64" }): Pending<InSlot<RpcAccount>>;
  programNotifications(
    program: Address,
    config: Commitment & { encoding: "base64" },
  ): Pending<InSlot<{ readonly pubkey: Address; readonly account: RpcAccount }>>;
  logsNotifications(
    filter: "all" | "allWithVotes" | { readonly mentions: readonly [Address] },
    config: Commitment,
  ): Pending<InSlot<LogsNotification>>;
}

/** kit's client of requests. */
export interface Requests {
  getMultipleAccounts(addresses: readonly Address[], config: Commitment & { encoding: "base64" }): {
    send(options: { abortSignal: AbortSignal }): Promise<InSlot<readonly (RpcAccount | null)[]>>;
  };
}

/** Both. */
export interface Clients {
  readonly subscriptions: Subscriptions;
  readonly requests: Requests;
}

/** @throws {QlasterError} `SOURCE_NEEDS_KIT` */
export async function createClients(url: string, httpUrl: string): Promise<Clients> {
  let kit;
  try {
    kit = await import("@solana/kit");
  } catch (cause) {
    throw new QlasterError("SOURCE_NEEDS_KIT", `Cannot receive from ${url}`, { cause });
  }
  // As kit puts its own client together, but for the socket.
  const createChannel = async ({ abortSignal }: { abortSignal: AbortSignal }) =>
    kit.getRpcSubscriptionsChannelWithAutoping({
      abortSignal,
      channel: kit.getRpcSubscriptionsChannelWithBigIntJSONSerialization(
        await openChannel(url, abortSignal) as Parameters<
          typeof kit.getRpcSubscriptionsChannelWithBigIntJSONSerialization
        >[0],
      ),
      intervalMs: PING_MS,
    });
  const transport = kit.createRpcSubscriptionsTransportFromChannelCreator(
    kit.getChannelPoolingChannelCreator(createChannel as never, {
      maxSubscriptionsPerChannel: SUBSCRIPTIONS_PER_SOCKET_MAX,
      minChannels: 1,
    }),
  );
  return {
    subscriptions: kit.createSolanaRpcSubscriptionsFromTransport(transport) as unknown as Subscriptions,
    requests: kit.createSolanaRpc(httpUrl) as unknown as Requests,
  };
}
