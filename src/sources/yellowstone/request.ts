/**
 * What is wanted, as a `SubscribeRequest` of Yellowstone.
 * May touch: nothing. May not touch: sockets, demands.
 * Two of its rules make mistakes expensive: conditions of one filter are ANDed, so keys and owners stand in filters of
 * their own; and an empty filter matches everything, so none is written but by intent.
 *
 * @module
 */

import type { SourceFilter } from "../source.ts";
import { ProtobufWriter } from "./protobuf.ts";

/** How final what is sent has to be. */
export type GeyserCommitment = "processed" | "confirmed" | "finalized";

const COMMITMENTS: readonly GeyserCommitment[] = ["processed", "confirmed", "finalized"];

/** Fields of `SubscribeRequest`. */
const Request = { accounts: 1, slots: 2, transactions: 3, commitment: 6, ping: 9, fromSlot: 11 } as const;
/** Entries of its maps. */
const Entry = { name: 1, filter: 2 } as const;
const Accounts = { account: 2, owner: 3 } as const;
const Slots = { interslotUpdates: 2 } as const;
const Transactions = { vote: 1, failed: 2, accountInclude: 3 } as const;

/** How requests are made, the same for all of a source. */
export interface RequestOptions {
  readonly commitment: GeyserCommitment;
  /** Most keys of one filter; more go into further ones. */
  readonly filterKeysMax: number;
  /** Transactions: undefined takes both. */
  readonly votes: boolean | undefined;
  readonly failed: boolean | undefined;
}

function entry(request: ProtobufWriter, map: number, name: string, write: (filter: ProtobufWriter) => void): void {
  request.message(map, (entry) => entry.text(Entry.name, name).message(Entry.filter, write));
}

/** Filters of at most `max` keys each. An empty set makes none. */
function keyFilters(
  request: ProtobufWriter,
  name: string,
  field: number,
  keys: ReadonlySet<string>,
  max: number,
): void {
  const all = [...keys];
  for (let i = 0; i < all.length; i += max) {
    entry(request, Request.accounts, `${name}${i / max}`, (filter) => {
      for (const key of all.slice(i, i + max)) filter.text(field, key);
    });
  }
}

/**
 * A request that replaces all filters of a stream. Slots are always asked for.
 * @param fromSlot Replay from there; only in the first request of a stream, since each one replays.
 */
export function encodeSubscribeRequest(
  wanted: SourceFilter,
  options: RequestOptions,
  fromSlot: bigint | undefined,
): Uint8Array {
  const request = new ProtobufWriter();
  const { accounts = new Set(), owners = new Set(), allAccounts = false, transactions = {} } = wanted;
  if (allAccounts) {
    entry(request, Request.accounts, "all", () => {}); // empty by intent: everything
  } else {
    keyFilters(request, "keys", Accounts.account, accounts, options.filterKeysMax);
    keyFilters(request, "owners", Accounts.owner, owners, options.filterKeysMax);
  }
  entry(request, Request.slots, "slots", (filter) => filter.number(Slots.interslotUpdates, true));

  const keys = [...transactions.accounts ?? []];
  const isAll = transactions.all === true;
  const filterCount = isAll ? 1 : Math.ceil(keys.length / options.filterKeysMax);
  for (let i = 0; i < filterCount; i++) {
    entry(request, Request.transactions, `transactions${i}`, (filter) => {
      if (options.votes !== undefined) filter.number(Transactions.vote, options.votes);
      if (options.failed !== undefined) filter.number(Transactions.failed, options.failed);
      if (isAll) return;
      const from = i * options.filterKeysMax;
      for (const key of keys.slice(from, from + options.filterKeysMax)) filter.text(Transactions.accountInclude, key);
    });
  }
  request.number(Request.commitment, COMMITMENTS.indexOf(options.commitment));
  if (fromSlot !== undefined) request.number(Request.fromSlot, fromSlot);
  return request.finish();
}

/** A request that the server answers with a pong, and that changes no filter. */
export function encodePing(id: number): Uint8Array {
  return new ProtobufWriter().message(Request.ping, (ping) => ping.number(1, id)).finish();
}
