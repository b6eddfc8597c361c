/**
 * What comes to a consumer, as kit's `DataPublisher`: the base of its iterables and stores.
 * May touch: feeds. May not touch: consumers, rings.
 *
 * @module
 */

import type { DataPublisher, EncodedAccount, SolanaRpcResponse } from "@solana/kit";
import type { AccountView, SlotCopy, SlotView, TransactionCopy, TransactionView } from "../stream/view.ts";
import { toEncodedAccount } from "./account.ts";
import { Feed, type FeedConsumer } from "./feed.ts";
import { publisherOf } from "./subscriptions.ts";

/** The channels of a feed, and what each of them carries. */
export type FeedChannels = {
  /** Each write of an account that comes. */
  account: SolanaRpcResponse<EncodedAccount>;
  /** Each transaction. */
  transaction: TransactionCopy;
  /** Each slot. */
  slot: SlotCopy;
  /** kit's `CHANNEL_CONNECTION_CLOSED`, whose cause is this library's error: the feed is over. */
  error: unknown;
};

/**
 * All that the consumer's own subscription and filters bring, as kit's `DataPublisher`.
 * @param consumer From here on read by kit's interfaces alone. May also serve `createRpcSubscriptions`: what these have
 * asked for is then among what comes.
 * @returns A publisher whose values last. It reads from now on.
 *
 * @example
 * ```ts
 * import { setupConsumer, setupSender } from "@qlaster/core";
 * import { toDataPublisher } from "@qlaster/core/kit";
 * import assert from "node:assert/strict";
 *
 * await using sender = await setupSender({ path: "/tmp/qlaster-doc-publisher.sock", ringCapacityBytes: 65536 });
 * await using consumer = await setupConsumer("/tmp/qlaster-doc-publisher.sock");
 * const publisher = toDataPublisher(consumer);
 * const slot = new Promise((resolve) => publisher.on("slot", resolve));
 * sender.publishSlot({ slot: 2n, parent: 1n, status: "processed" });
 * assert.equal(((await slot) as { slot: bigint }).slot, 2n);
 * ```
 */
export function toDataPublisher(consumer: FeedConsumer): DataPublisher<FeedChannels> {
  const feed = Feed.of(consumer);
  const of = <T>() => new Set<(data: T) => void>();
  const listeners = { account: of<unknown>(), transaction: of<unknown>(), slot: of<unknown>(), error: of<unknown>() };
  const tell = (channel: keyof FeedChannels, make: () => unknown) => {
    if (listeners[channel].size === 0) return;
    const value = make();
    for (const listener of [...listeners[channel]]) listener(value);
  };
  const onEnd = (error: unknown) => {
    if (error !== undefined) tell("error", () => error);
  };
  const listener = {
    onAccount: (update: AccountView) =>
      tell("account", () => ({
        context: { slot: update.slot },
        value: toEncodedAccount(update, feed.addresses),
      })),
    onTransaction: (update: TransactionView) => tell("transaction", () => update.copy()),
    onSlot: (update: SlotView) => tell("slot", () => update.copy()),
    onEnd,
  };
  try {
    feed.listen(listener, "all").inForce.catch(onEnd);
  } catch (error) {
    queueMicrotask(() => onEnd(error)); // once there can be listeners
  }
  return publisherOf<FeedChannels>(listeners);
}
