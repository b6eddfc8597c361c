/**
 * A local feed for programs that are written with `@solana/kit`, versions 7 and 8: its account objects and decoders, its RPC
 * subscriptions, its publishers and stores.
 *
 * The only part of this library that imports Solana packages, but for the RPC source: `@solana/kit` is an optional peer, needed by whoever
 * imports this module.
 *
 * @module
 */

export { type AccountSource, decodeWith, toEncodedAccount } from "./account.ts";
export { AddressTable } from "./addresses.ts";
export type { FeedConsumer } from "./feed.ts";
export {
  type AccountSourceByAddress,
  currentAccount,
  fetchEncodedAccount,
  fetchEncodedAccounts,
  type FetchOptions,
} from "./fetch.ts";
export type { RpcSubscriptionsOptions, TransactionOutcome } from "./options.ts";
export { type FeedChannels, toDataPublisher } from "./publisher.ts";
export { createRpcSubscriptions, createRpcSubscriptionsTransport } from "./subscriptions.ts";
export { decodeMint, decodeToken, type MintData, type TokenData } from "./token.ts";
