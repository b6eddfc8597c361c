/**
 * What a consumer wants of any sender: its filters as they were acknowledged, to be asked for again after a reconnect.
 * May touch: its own tables. May not touch: sessions; who restores sends the edits.
 * Bounded as filters are: a sender refuses what is beyond its limits, and what was refused is not wanted.
 *
 * @module
 */

import { FilterKind, FilterProgram } from "../native/abi.generated.ts";
import { KeySet } from "./key_set.ts";
import type { ReadonlyUint8Array } from "../types.ts";
import type { Edit, KeyLists } from "./session.ts";

/** The filter of `subscribe`. */
const SUBSCRIPTIONS = 0;
const NO_PROGRAM = new Uint8Array(0);
const NO_KEYS = { accounts: [], owners: [] } as const;

/** Keys of accounts or of owners, apart by whether state is wanted of them. */
class Keys {
  readonly #plain = new KeySet();
  readonly #stateful = new KeySet();

  /** Who once wanted state of a key still does. */
  add(keys: KeyLists["accounts"], state: boolean): void {
    if (state) {
      this.#plain.delete(keys);
      this.#stateful.add(keys);
    } else if (this.#stateful.size === 0) {
      this.#plain.add(keys);
    } else {
      this.#plain.add(keys.filter((key) => !this.#stateful.has(key)));
    }
  }

  delete(keys: KeyLists["accounts"]): void {
    this.#plain.delete(keys);
    this.#stateful.delete(keys);
  }

  get isEmpty(): boolean {
    return this.#plain.size + this.#stateful.size === 0;
  }

  has(key: ReadonlyUint8Array): boolean {
    return this.#plain.has(key) || this.#stateful.has(key);
  }

  of(state: boolean): Uint8Array[] {
    return (state ? this.#stateful : this.#plain).keys();
  }
}

interface Wanted {
  /** The edit that made it, without its keys. */
  readonly edit: Edit;
  transactions: boolean;
  readonly accounts: Keys;
  readonly owners: Keys;
}

function wantedBy(edit: Edit): Wanted {
  return {
    edit: { ...edit, accounts: [], owners: [] },
    transactions: edit.transactions,
    accounts: new Keys(),
    owners: new Keys(),
  };
}

function isOfAccounts({ program }: Edit): boolean {
  if (program.length < FilterProgram.size) return true;
  const kind = program[FilterProgram.kind]! | program[FilterProgram.kind + 1]! << 8;
  return kind === FilterKind.accounts;
}

/** The filters of one consumer. */
export class WantedFilters {
  readonly #byBit = new Map<number, Wanted>();

  /** An edit is in force. */
  apply(edit: Edit): void {
    const { op, bit, state } = edit;
    if (op === "drop") {
      this.#byBit.delete(bit);
      return;
    }
    let wanted = this.#byBit.get(bit);
    if (op === "remove") {
      wanted?.accounts.delete(edit.accounts);
      wanted?.owners.delete(edit.owners);
      if (edit.transactions && wanted !== undefined) wanted.transactions = false;
      return;
    }
    if (op === "replace" || wanted === undefined) this.#byBit.set(bit, wanted = wantedBy(edit));
    wanted.accounts.add(edit.accounts, state);
    wanted.owners.add(edit.owners, state);
    wanted.transactions ||= edit.transactions;
  }

  /** Whether a key stands in a list of a filter. */
  wants(bit: number, account: ReadonlyUint8Array, owner: ReadonlyUint8Array): boolean {
    const wanted = this.#byBit.get(bit);
    return wanted !== undefined && (wanted.accounts.has(account) || wanted.owners.has(owner));
  }

  /** Whether a filter can match nothing: it has lost all its keys, or there is none. */
  isEmpty(bit: number): boolean {
    const wanted = this.#byBit.get(bit);
    return wanted === undefined || (wanted.edit.isKeyed && wanted.accounts.isEmpty && wanted.owners.isEmpty);
  }

  /**
   * Whether an account that a filter matches may match it no longer by what is written to it: by its owner, or by a condition.
   * In doubt it may.
   */
  mayBeLeft(bit: number): boolean {
    const wanted = this.#byBit.get(bit);
    if (wanted === undefined || !wanted.owners.isEmpty) return true;
    const { program } = wanted.edit;
    if (program.length < FilterProgram.size) return false;
    return (program[FilterProgram.conditionCount]! | program[FilterProgram.conditionCount + 1]! << 8) > 0;
  }

  /** The edits that set each filter of accounts anew as it is, with state of all that it matches. Their keys are copies. */
  wholes(): Edit[] {
    const copies = (keys: Keys) => [...keys.of(false), ...keys.of(true)].map((key) => key.slice());
    const wholes: Edit[] = [];
    for (const [bit, { edit, transactions, accounts, owners }] of this.#byBit) {
      if (!isOfAccounts(edit)) continue;
      const whole: Edit = {
        ...edit,
        op: "replace",
        accounts: copies(accounts),
        owners: copies(owners),
        transactions,
        state: true,
      };
      // The filter of subscriptions has no program: without keys it matches no account.
      if (bit !== SUBSCRIPTIONS) wholes.push(whole);
      else if (whole.accounts.length + whole.owners.length > 0) {
        wholes.push({ ...whole, program: NO_PROGRAM, isKeyed: true });
      }
    }
    return wholes;
  }

  /** Whether there are filters of accounts, and state is wanted of all that they match. */
  get isStateful(): boolean {
    let hasAny = false;
    for (const edit of this.edits()) {
      const canMatch = !edit.isKeyed || edit.accounts.length + edit.owners.length > 0;
      if (!canMatch || !isOfAccounts(edit)) continue;
      if (!edit.state) return false;
      hasAny = true;
    }
    return hasAny;
  }

  /** The edits that make a connection without filters have these. Their keys are valid until the next `apply`. */
  *edits(): Generator<Edit, void, undefined> {
    for (const [bit, { edit, transactions, accounts, owners }] of this.#byBit) {
      const lists = (state: boolean) => ({ accounts: accounts.of(state), owners: owners.of(state), state });
      const addition = { op: "add", bit, program: NO_PROGRAM, isKeyed: true } as const;
      const isNamed = bit !== SUBSCRIPTIONS;
      // Keys that are asked for in the same way as their filter go with it, others behind it.
      if (isNamed) yield { ...edit, ...lists(edit.state), transactions, op: "replace" };
      else if (transactions) yield { ...addition, ...NO_KEYS, state: false, transactions };
      for (const state of isNamed ? [!edit.state] : [false, true]) {
        const keys = lists(state);
        if (keys.accounts.length + keys.owners.length === 0) continue;
        yield { ...addition, ...keys, transactions: false };
      }
    }
  }
}
