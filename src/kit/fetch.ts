/**
 * Reading accounts by address, as kit does by RPC: from the consumer's cache where that knows them, else from a node.
 * May touch: a cache, kit's own function for the rest. May not touch: rings.
 *
 * @module
 */

import {
  createReactiveActionStore,
  type EncodedAccount,
  type FetchAccountsConfig,
  fetchEncodedAccounts as fetchByRpc,
  type GetMultipleAccountsApi,
  type MaybeEncodedAccount,
  type ReactiveActionSource,
  type Rpc,
  SOLANA_ERROR__ACCOUNTS__ONE_OR_MORE_ACCOUNTS_NOT_FOUND,
  SolanaError,
  type SolanaRpcResponse,
} from "@solana/kit";
import type { CacheTrust, Distrust } from "../cache/account_cache.ts";
import type { Address } from "../types.ts";
import { type AccountSource, toEncodedAccount } from "./account.ts";
import type { AddressTable } from "./addresses.ts";

/** What knows accounts by address: `consumer.accounts`, or anything like it. */
export interface AccountSourceByAddress {
  /** The newest version; undefined for an account that it does not know. */
  get(address: Address): AccountSource | undefined;
  /** Why it may be behind its sender, if it says so. */
  readonly trust?: Pick<CacheTrust, "reasons">;
}

/** While one of these holds, what is known of an account may be the past. */
const BEHIND: readonly Distrust["reason"][] = ["disconnected", "snapshot", "loss"];

/** How accounts are fetched. */
export interface FetchOptions extends FetchAccountsConfig {
  /** Who is asked for what the cache does not know. Default: nobody. */
  readonly rpc?: Rpc<GetMultipleAccountsApi>;
  /** Where known keys have their text. */
  readonly addresses?: AddressTable;
}

/**
 * Reads accounts: kit's function of this name, answered by a cache as far as that goes.
 * @param cache A consumer's `accounts`.
 * @param addresses Any number.
 * @param options With an `rpc`, accounts that the cache does not know, or of which it has slices only, are asked for there, in
 * one request, with the rest of the options, such as `commitment` and `minContextSlot`; and all of them while the cache says
 * that it is disconnected, has lost updates, or is being sent what it missed. What it knows otherwise is as new as its feed,
 * whatever they say.
 * @returns In the order of `addresses`. An account that was closed, by the cache or by the RPC, does not exist; of one that
 * the cache does not know only an RPC can say that.
 * @throws {SolanaError} kit's `ACCOUNTS__ONE_OR_MORE_ACCOUNTS_NOT_FOUND` without an `rpc`, for accounts that the cache does
 * not know; what the RPC throws.
 */
export async function fetchEncodedAccounts(
  cache: AccountSourceByAddress,
  addresses: readonly Address[],
  options: FetchOptions = {},
): Promise<MaybeEncodedAccount[]> {
  const { rpc, addresses: table, ...config } = options;
  const isBehind = rpc !== undefined && cache.trust?.reasons.some(({ reason }) => BEHIND.includes(reason)) === true;
  const accounts = addresses.map((address) => isBehind ? undefined : known(cache, address, table));
  const unknown = [...new Set(addresses.filter((_, i) => accounts[i] === undefined))];
  if (unknown.length === 0) return accounts as MaybeEncodedAccount[];
  if (rpc === undefined) {
    throw new SolanaError(SOLANA_ERROR__ACCOUNTS__ONE_OR_MORE_ACCOUNTS_NOT_FOUND, { addresses: unknown });
  }
  const fetched = await fetchByRpc(rpc, unknown, config);
  const byAddress = new Map(fetched.map((account) => [account.address as Address, account]));
  return addresses.map((address, i) => accounts[i] ?? byAddress.get(address)!);
}

/** Reads one account. Otherwise as `fetchEncodedAccounts`. */
export async function fetchEncodedAccount(
  cache: AccountSourceByAddress,
  address: Address,
  options: FetchOptions = {},
): Promise<MaybeEncodedAccount> {
  return (await fetchEncodedAccounts(cache, [address], options))[0]!;
}

function known(
  cache: AccountSourceByAddress,
  address: Address,
  table: AddressTable | undefined,
): MaybeEncodedAccount | undefined {
  const found = cache.get(address);
  if (found === undefined || isPartial(found)) return undefined;
  const account = isClosed(found) ? { address, exists: false } : { ...toEncodedAccount(found, table), exists: true };
  return Object.freeze(account) as MaybeEncodedAccount;
}

/** Whether only slices of its data are known. A view says so; of a copy the length tells. */
function isPartial(account: AccountSource): boolean {
  return ("isSliced" in account && account.isSliced) || account.data.length !== account.fullLength;
}

/** Its last write took all lamports: there is no such account, as an RPC would say. */
function isClosed({ lamports }: AccountSource): boolean {
  return lamports === 0n;
}

/**
 * What a cache has of an account now, as the initial value that kit's stores ask for: beside a stream of
 * `createRpcSubscriptions`, `createReactiveStoreWithInitialValueAndSlotTracking` needs no RPC.
 * @returns Each run of its store reads the cache; null for an account that it does not know, and for one that was closed.
 */
export function currentAccount(
  cache: AccountSourceByAddress,
  address: Address,
  addresses?: AddressTable,
): ReactiveActionSource<SolanaRpcResponse<EncodedAccount | null>> {
  const read = (): SolanaRpcResponse<EncodedAccount | null> => {
    const copy = cache.get(address);
    return {
      context: { slot: copy?.slot ?? 0n },
      value: copy === undefined || isClosed(copy) ? null : toEncodedAccount(copy, addresses),
    };
  };
  return { reactiveStore: () => createReactiveActionStore(() => Promise.resolve(read())) };
}
