/**
 * A consumer's named filters: from what users ask for to edits of the session, and the names that go with their bits.
 * May touch: a session's asking part, the names. May not touch: rings, what messages look like.
 *
 * @module
 */

import { bytesFromAddressLike } from "../address.ts";
import type { AddressLike, ReadonlyUint8Array, Subscription, SubscriptionAck } from "../types.ts";
import { type EncodedFilter, encodeFilter, type NamedFilter } from "../wire/filters.ts";
import { assertFilterName, type FilterEntry, type FilterNames } from "./filter_names.ts";
import type { Edit, KeyLists } from "./session.ts";
import { isQlasterError } from "../errors.ts";

/** Keys that a filter gains, and such that it loses. */
export interface FilterKeysEdit {
  /** Keys that it matches from now on, too. */
  readonly add?: Iterable<AddressLike>;
  /** Keys that it matches no longer. */
  readonly remove?: Iterable<AddressLike>;
  /** Send what you have of the keys that are added first, as for `subscribe`. Default false. */
  readonly state?: boolean;
}

const NO_KEYS: readonly ReadonlyUint8Array[] = [];
const NO_PROGRAM = new Uint8Array(0);

/** Asks the sender. Rejects for what it refuses. */
type Ask = (edit: Edit) => Promise<SubscriptionAck>;

/** Keys as bytes: 32 each. Spread and not Array.from, which takes what is no list for an empty one. */
function keysOf(list: Iterable<AddressLike> | undefined, what: string): ReadonlyUint8Array[] {
  return [...list ?? []].map((key) => bytesFromAddressLike(key, `Each of ${what}`));
}

/** @param isStateful State is wanted unless it is said otherwise. @throws {TypeError} for a key that is none. */
export function keyListsOf(subscription: Subscription, isStateful: boolean = false): KeyLists {
  return {
    accounts: keysOf(subscription.accounts, "accounts"),
    owners: keysOf(subscription.owners, "owners"),
    transactions: subscription.transactions === true,
    state: subscription.state ?? isStateful,
  };
}

/** The filters of one consumer. */
export class NamedFilters {
  readonly #names: FilterNames;
  readonly #ask: Ask;
  readonly #isStateful: boolean;

  /** @param isStateful State is wanted unless it is said otherwise. */
  constructor(names: FilterNames, ask: Ask, isStateful: boolean = false) {
    this.#names = names;
    this.#ask = ask;
    this.#isStateful = isStateful;
  }

  /** Adds to the filter of `subscribe`. */
  subscribe(lists: KeyLists): Promise<SubscriptionAck> {
    return this.#ask({ ...lists, op: "add", bit: 0, program: NO_PROGRAM, isKeyed: true });
  }

  /** Takes from it. */
  unsubscribe(lists: KeyLists): Promise<SubscriptionAck> {
    return this.#ask({ ...lists, op: "remove", bit: 0, program: NO_PROGRAM, isKeyed: true, state: false });
  }

  /** @param versions With its state: all versions that the sender keeps, for who takes over. */
  async set(name: string, filter: NamedFilter, versions: boolean = false): Promise<SubscriptionAck> {
    assertFilterName(name);
    const encoded = encodeFilter(filter, name);
    const existing = this.#names.get(name);
    const before = existing?.index;
    const entry = existing ?? this.#names.add(name, encoded.index);
    entry.index = encoded.index;
    try {
      return await this.#ask({
        op: "replace",
        bit: entry.bit,
        // The index has one list of account keys: whose updates they are for, the program says.
        accounts: encoded.index === "transactionKeys" ? encoded.indexTransactionKeys : encoded.indexAccounts,
        owners: encoded.indexOwners,
        transactions: false,
        program: encoded.program,
        isKeyed: encoded.index !== "all",
        state: encoded.state || (this.#isStateful && encoded.kind === "accounts" && filter.state === undefined),
        ...(versions ? { versions } : {}),
      });
    } catch (error) {
      // Refused: it is as it was. After anything else nobody knows, so the name stays until it is removed.
      if (isNotInForce(error)) {
        if (before === undefined) this.#names.free(entry);
        else entry.index = before;
      }
      throw error;
    }
  }

  async edit(name: string, { add, remove, state: wanted }: FilterKeysEdit): Promise<SubscriptionAck> {
    const entry = this.#entry(name, "edit");
    const { index } = entry;
    const state = wanted ?? (this.#isStateful && index !== "transactionKeys");
    if (index === "all") {
      throw new TypeError(
        `Cannot edit filter "${name}": it has no keys in the sender's index, of which setFilter() would have made a list`,
      );
    }
    const added = keysOf(add, "add");
    const removed = keysOf(remove, "remove");
    if (state && index === "transactionKeys") throw new TypeError(`Filter "${name}": state is of accounts`);
    const ask = (op: "add" | "remove", keys: readonly ReadonlyUint8Array[]) => {
      const lists = { ...listsFor(index, keys), state: state && op === "add" };
      return this.#ask({ ...lists, op, bit: entry.bit, program: NO_PROGRAM, isKeyed: true });
    };
    // Room first. A key in both lists is added.
    const answers = [];
    if (removed.length > 0) answers.push(ask("remove", removed));
    if (added.length > 0 || removed.length === 0) answers.push(ask("add", added));
    return (await Promise.all(answers)).at(-1)!;
  }

  async remove(name: string): Promise<SubscriptionAck> {
    const entry = this.#entry(name, "remove");
    this.#names.hide(entry);
    try {
      const ack = await this.#ask({ ...listsFor("accounts", NO_KEYS), ...DROP, bit: entry.bit });
      this.#names.retire(entry, ack.sequence);
      return ack;
    } catch (error) {
      this.#names.restore(entry);
      throw error;
    }
  }

  #entry(name: string, action: string): FilterEntry {
    assertFilterName(name);
    const entry = this.#names.get(name);
    if (entry === undefined) throw new RangeError(`Cannot ${action} filter "${name}": there is none of that name`);
    return entry;
  }
}

const DROP = { op: "drop", program: NO_PROGRAM, isKeyed: true } as const;
const NO_STATE = { state: false } as const;

function listsFor(index: EncodedFilter["index"], keys: readonly ReadonlyUint8Array[]): KeyLists {
  const isOwners = index === "owners";
  return { accounts: isOwners ? NO_KEYS : keys, owners: isOwners ? keys : NO_KEYS, transactions: false, ...NO_STATE };
}

/** Whether the sender has said so itself, or can't even be asked. */
function isNotInForce(error: unknown): boolean {
  return isQlasterError(error, "SUBSCRIBE_REFUSED") || isQlasterError(error, "V9_UNSUPPORTED");
}
