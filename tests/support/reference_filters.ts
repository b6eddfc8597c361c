/**
 * What each filter must match and what must travel, said a second time: plainly, slowly, and without the engine.
 * May touch: types only. May not touch: src/ at run time, the native library. It reads base58 and messages by itself.
 * Use as the oracle of property tests: `matchesOf(filters, update)`, and `ChangeTracker` for a stream of updates.
 *
 * @module
 */

import type { AccountUpdate, AddressLike, ReadonlyUint8Array, SlotUpdate, TransactionUpdate } from "../../src/types.ts";
import type {
  AccountFilter,
  DataSlice,
  LamportsRange,
  NamedFilter,
  SlotFilter,
  TransactionFilter,
} from "../../src/wire/filters.ts";

/** A write, and whether it changed anything; undefined: nobody knows. */
export type ReferenceAccount = AccountUpdate & { readonly changed?: boolean | undefined };
export type ReferenceUpdate = ReferenceAccount | TransactionUpdate | SlotUpdate;

/** What a filter makes of an update. "unchanged": it would match, had the write changed anything. */
export type ReferenceOutcome = "no" | "unchanged" | "yes";

/** What travels of the data of an account. */
export interface ReferenceSlices {
  /** Cut to the data; none: the data travel whole. */
  readonly slices: readonly DataSlice[];
  /** The data end before a slice does. */
  readonly clipped: boolean;
  /** What travels, one after the other. */
  readonly data: Uint8Array;
}

/** The names of the filters that match, in the order of the object. */
export function matchesOf(filters: Readonly<Record<string, NamedFilter>>, update: ReferenceUpdate): string[] {
  return Object.keys(filters).filter((name) => outcomeOf(filters[name]!, update) === "yes");
}

/** What one filter makes of one update. */
export function outcomeOf(filter: NamedFilter, update: ReferenceUpdate): ReferenceOutcome {
  if (update.kind === "account") {
    if (filter.accounts === undefined) return "no";
    const conditions = filter.accounts === true ? {} : filter.accounts;
    if (!accountMatches(conditions, update)) return "no";
    return conditions.onlyChanged === true && update.changed === false ? "unchanged" : "yes";
  }
  if (update.kind === "transaction") {
    if (filter.transactions === undefined) return "no";
    return transactionMatches(filter.transactions === true ? {} : filter.transactions, update) ? "yes" : "no";
  }
  if (filter.slots === undefined) return "no";
  const conditions: SlotFilter = filter.slots === true ? {} : filter.slots;
  return conditions.statuses === undefined || [...conditions.statuses].includes(update.status) ? "yes" : "no";
}

/** What travels to whoever has this filter alone. */
export function slicesOf(filter: NamedFilter, data: ReadonlyUint8Array): ReferenceSlices {
  const all = Array.from({ length: data.length }, (_, i) => data[i]!);
  const conditions = filter.accounts === undefined || filter.accounts === true ? {} : filter.accounts;
  if (conditions.dataSlice === undefined) return { slices: [], clipped: false, data: Uint8Array.from(all) };
  const asked = [conditions.dataSlice].flat() as DataSlice[];
  const pieces = asked.map(({ offset, length }) => all.slice(offset, offset + length));
  return {
    slices: asked.map(({ offset }, i) => ({ offset: Math.min(offset, all.length), length: pieces[i]!.length })),
    clipped: asked.some(({ length }, i) => pieces[i]!.length < length),
    data: Uint8Array.from(pieces.flat()),
  };
}

/** Remembers the newest write of each account, and says whether the next one changes anything. */
export class ChangeTracker {
  readonly #newest = new Map<string, string>();

  /** Whether the write changed owner, balance, data, or another property of the account; undefined for its first. */
  changed(update: AccountUpdate): boolean | undefined {
    const key = hex(bytesOf(update.pubkey));
    const content = [
      hex(bytesOf(update.owner)),
      update.lamports,
      update.executable ?? false,
      update.rentEpoch ?? 2n ** 64n - 1n,
      hex(update.data),
    ].join();
    const before = this.#newest.get(key);
    this.#newest.set(key, content);
    return before === undefined ? undefined : before !== content;
  }
}

// Accounts

function accountMatches(filter: AccountFilter, update: AccountUpdate): boolean {
  const { data } = update;
  if (filter.accounts !== undefined && !hasKey(filter.accounts, update.pubkey)) return false;
  if (filter.owners !== undefined && !hasKey(filter.owners, update.owner)) return false;
  if (filter.excludeAccounts !== undefined && hasKey(filter.excludeAccounts, update.pubkey)) return false;
  if (filter.excludeOwners !== undefined && hasKey(filter.excludeOwners, update.owner)) return false;
  if (typeof filter.dataSize === "number" && data.length !== filter.dataSize) return false;
  if (typeof filter.dataSize === "object") {
    if (filter.dataSize.min !== undefined && data.length < filter.dataSize.min) return false;
    if (filter.dataSize.max !== undefined && data.length > filter.dataSize.max) return false;
  }
  for (const { offset, bytes } of filter.memcmp ?? []) {
    const wanted = typeof bytes === "string" ? base58(bytes) : bytes;
    if (data.length < offset + wanted.length) return false;
    for (let i = 0; i < wanted.length; i++) if (data[offset + i] !== wanted[i]) return false;
  }
  if (typeof filter.lamports === "bigint" && update.lamports !== filter.lamports) return false;
  if (typeof filter.lamports === "object") {
    const { eq, ne, lt, gt }: LamportsRange = filter.lamports;
    if (eq !== undefined && !(update.lamports === eq)) return false;
    if (ne !== undefined && !(update.lamports !== ne)) return false;
    if (lt !== undefined && !(update.lamports < lt)) return false;
    if (gt !== undefined && !(update.lamports > gt)) return false;
  }
  if (filter.tokenAccountState !== undefined && filter.tokenAccountState !== isTokenAccount(update)) return false;
  if (filter.nonemptyTxnSignature !== undefined && filter.nonemptyTxnSignature !== (update.signature !== undefined)) {
    return false;
  }
  if (filter.startup !== undefined && filter.startup !== (update.startup ?? false)) return false;
  return true;
}

const TOKEN = hex(base58("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"));
const TOKEN_2022 = hex(base58("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb"));

/** spl-token's `Account::valid_account_data`, and that of spl-token-2022, each for its own program's accounts. */
function isTokenAccount({ owner, data }: AccountUpdate): boolean {
  const [ACCOUNT, MULTISIG, STATE, ACCOUNT_TYPE] = [165, 355, 108, 2];
  const program = hex(bytesOf(owner));
  const base = data.length === ACCOUNT && data[STATE] !== 0;
  const extended = data.length > ACCOUNT && data.length !== MULTISIG && data[ACCOUNT] === ACCOUNT_TYPE &&
    data[STATE] !== 0;
  if (program === TOKEN) return base;
  if (program === TOKEN_2022) return base || extended;
  return false;
}

// Transactions

function transactionMatches(filter: TransactionFilter, update: TransactionUpdate): boolean {
  if (filter.vote !== undefined && filter.vote !== (update.vote ?? false)) return false;
  if (filter.failed !== undefined && filter.failed !== (update.failed ?? false)) return false;
  if (filter.signature !== undefined) {
    const wanted = typeof filter.signature === "string" ? base58(filter.signature) : filter.signature;
    if (hex(wanted) !== hex(update.signature)) return false;
  }
  const keys = transactionKeys(update);
  const names = (key: AddressLike) => hasKey(keys, key);
  if (filter.accountInclude !== undefined && ![...filter.accountInclude].some(names)) return false;
  if (filter.accountExclude !== undefined && [...filter.accountExclude].some(names)) return false;
  if (filter.accountRequired !== undefined && ![...filter.accountRequired].every(names)) return false;
  return true;
}

/** The keys that a transaction names: those in its message, and those that it loaded from lookup tables. */
export function transactionKeys({ message, loadedAddresses }: TransactionUpdate): AddressLike[] {
  return [...messageKeys(message), ...loadedAddresses?.writable ?? [], ...loadedAddresses?.readonly ?? []];
}

/**
 * The keys that a message names itself: legacy, v0 and v1, as it is signed. None for what is no message: it ends before
 * its keys (legacy and v0: before its blockhash) do, has more than 256 of them, or fewer than signatures.
 */
export function messageKeys(message: ReadonlyUint8Array): Uint8Array[] {
  const bytes = Array.from({ length: message.length }, (_, i) => message[i]!);
  const take = (count: number) => {
    if (bytes.length < count) throw new RangeError("The message ends");
    return bytes.splice(0, count);
  };
  try {
    let signatures: number;
    let count: number;
    let behind = 32; // the blockhash
    if (bytes[0] === 0x81) { // SIMD-0385
      take(1);
      signatures = take(3)[0]!; // the header
      take(4); // the mask of the configuration
      take(32); // the blockhash
      take(1); // how many instructions
      count = take(1)[0]!;
      behind = 0;
    } else {
      if (bytes[0] === 0x80) take(1);
      else if (bytes[0]! > 0x80) throw new RangeError("No known version");
      signatures = take(3)[0]!; // the header
      count = 0;
      for (let shift = 0;; shift += 7) { // compact-u16
        const byte = take(1)[0]!;
        count += (byte & 127) * 2 ** shift;
        if (byte === 0 && shift > 0) throw new RangeError("Not the shortest form");
        if (byte < 128) break;
        if (shift === 14) throw new RangeError("Longer than three bytes");
      }
    }
    if (count > 256 || signatures > count) throw new RangeError("No message");
    const keys = Array.from({ length: count }, () => Uint8Array.from(take(32)));
    take(behind);
    return keys;
  } catch (error) {
    if (error instanceof RangeError) return [];
    throw error;
  }
}

// Bytes

function hasKey(list: Iterable<AddressLike>, key: AddressLike): boolean {
  const wanted = hex(bytesOf(key));
  return [...list].some((other) => hex(bytesOf(other)) === wanted);
}

function bytesOf(key: AddressLike): ReadonlyUint8Array {
  return typeof key === "string" ? base58(key) : key;
}

function hex(bytes: ReadonlyUint8Array): string {
  return Array.from({ length: bytes.length }, (_, i) => bytes[i]!.toString(16).padStart(2, "0")).join("");
}

/** As one great number. Leading ones are leading zero bytes. */
function base58(text: string): Uint8Array {
  const alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
  let value = 0n;
  for (const character of text) value = value * 58n + BigInt(alphabet.indexOf(character));
  const bytes: number[] = [];
  for (; value > 0n; value >>= 8n) bytes.unshift(Number(value & 255n));
  const zeros = text.length - text.replace(/^1+/, "").length;
  return Uint8Array.from([...new Array<number>(zeros).fill(0), ...bytes]);
}
