/**
 * Named filters, as users write them, to what a sender's engine takes: keys for its index, and a program for the rest.
 * May touch: what it is given. May not touch: the native library, links, the index.
 * Source of the format: zig/layout/filters.zig; zig/filter_program.zig checks and runs it.
 * Source of the meaning: Yellowstone's filters (`SubscribeRequestFilterAccounts`, `…Transactions`, `…Slots`). All
 * conditions of one filter hold at once; one key of a list suffices; several filters are alternatives. Where we differ,
 * the property says so.
 *
 * @module
 */

import { bytesFromAddressLike } from "../address.ts";
import {
  ADDRESS_SIZE,
  FILTER_KEYS_MAX,
  FILTER_MEMCMP_BYTES_MAX,
  FILTER_MEMCMPS_MAX,
  FILTER_SLICES_MAX,
  FilterCondition,
  FilterKind,
  FilterOpcode,
  FilterProgram,
  FilterRange,
  PAYLOAD_BYTES_MAX,
  SIGNATURE_SIZE,
} from "../native/abi.generated.ts";
import { type AddressLike, type ReadonlyUint8Array, SLOT_STATUSES, type SlotStatus } from "../types.ts";
import { bytesFromBase58 } from "./base58.ts";

/** Bytes that must stand at a place of an account's data. */
export interface Memcmp {
  /** Where, in bytes from the start of the data. */
  readonly offset: number;
  /** What: 0 to 128 bytes, or their base58 text (as in the RPC's `memcmp`). None at all: the data reach the offset. */
  readonly bytes: ReadonlyUint8Array | string;
}

/** A piece of an account's data, in bytes from its start. It ends at or before 10,485,760. */
export interface DataSlice {
  /** Where it begins. */
  readonly offset: number;
  /** How long it is. 0 is allowed: then none of the data travels. */
  readonly length: number;
}

/** Bounds of a balance, in lamports. All that are given must hold. */
export interface LamportsRange {
  /** Exactly this. */
  readonly eq?: bigint;
  /** Anything but this. */
  readonly ne?: bigint;
  /** Less than this. */
  readonly lt?: bigint;
  /** Greater than this. */
  readonly gt?: bigint;
}

/**
 * Which writes of accounts are wanted. All conditions that are given must hold; without any, every write matches.
 * An empty list of `accounts` or `owners` matches nothing (Yellowstone: everything), so that a list that happens to be
 * empty does not bring all of Solana.
 */
export interface AccountFilter {
  /** The account is one of these. Any number: they stand in the sender's index. */
  readonly accounts?: Iterable<AddressLike>;
  /** The account's owner is one of these. Any number; beside `accounts` at most 4,096. */
  readonly owners?: Iterable<AddressLike>;
  /** The account is none of these, at most 4,096. */
  readonly excludeAccounts?: Iterable<AddressLike>;
  /** The account's owner is none of these, at most 4,096: the vote program's accounts, say. */
  readonly excludeOwners?: Iterable<AddressLike>;
  /** Length of the data in bytes: exactly, or from `min` to `max`, both included. */
  readonly dataSize?: number | { readonly min?: number; readonly max?: number };
  /** Bytes that the data must contain, at most 8 places. */
  readonly memcmp?: readonly Memcmp[];
  /** The balance: exactly, or its bounds. */
  readonly lamports?: bigint | LamportsRange;
  /**
   * Whether the account is an initialised token account: owned by the Token program with 165 bytes of data, or by
   * Token-2022 with 165 or with its account type behind them. (Yellowstone looks at the data alone, and has only `true`.)
   */
  readonly tokenAccountState?: boolean;
  /** Whether the signature of the transaction that wrote it is known: not so for rewards, rent, and what a start loads. */
  readonly nonemptyTxnSignature?: boolean;
  /** Whether it was sent while the source was starting up. */
  readonly startup?: boolean;
  /**
   * Leave out writes that changed nothing since the last that was published, whoever got that; they are counted. A sender
   * that can't tell sends. Default false.
   */
  readonly onlyChanged?: boolean;
  /**
   * What travels of the data: at most 4 pieces, ascending, without overlap. Conditions look at the whole. A piece that
   * reaches past the end is cut and the update flagged (Yellowstone: left out). Default: all.
   */
  readonly dataSlice?: DataSlice | readonly DataSlice[];
}

/**
 * Which transactions are wanted. All conditions that are given must hold; without any, every transaction matches. The
 * keys of a transaction are those that its message names itself, and those that it loaded from lookup tables, as far as the
 * sender's source gives them (`loadedAddresses`).
 */
export interface TransactionFilter {
  /** Whether it is a vote. */
  readonly vote?: boolean;
  /** Whether it failed. */
  readonly failed?: boolean;
  /** Its first signature: 64 bytes, or their base58 text. */
  readonly signature?: ReadonlyUint8Array | string;
  /** It names one of these. Any number: they stand in the sender's index. An empty list matches nothing. */
  readonly accountInclude?: Iterable<AddressLike>;
  /** It names none of these, at most 4,096. */
  readonly accountExclude?: Iterable<AddressLike>;
  /** It names all of these, at most 4,096. Put the rarest first: without `accountInclude`, the index holds that one. */
  readonly accountRequired?: Iterable<AddressLike>;
}

/** Which slot updates are wanted. */
export interface SlotFilter {
  /** The status is one of these. Default: any. An empty list matches nothing. */
  readonly statuses?: Iterable<SlotStatus>;
}

/** One filter: of one kind, since it is one bit in the mask of the frames it matches. `true` takes all of that kind. */
export type NamedFilter =
  | {
    readonly accounts: AccountFilter | true;
    readonly transactions?: undefined;
    readonly slots?: undefined;
    /**
     * Send what you have of what it matches first, as for `subscribe`; what `onlyChanged` would leave out comes as well.
     * Default false.
     */
    readonly state?: boolean;
  }
  | {
    readonly transactions: TransactionFilter | true;
    readonly accounts?: undefined;
    readonly slots?: undefined;
    readonly state?: undefined;
  }
  | {
    readonly slots: SlotFilter | true;
    readonly accounts?: undefined;
    readonly transactions?: undefined;
    readonly state?: undefined;
  };

/** What the sender's engine needs to know of one filter. */
export interface EncodedFilter {
  /** What it is about. */
  readonly kind: "accounts" | "transactions" | "slots";
  /**
   * Which of the three lists leads to this filter; the others are empty. An update whose keys are not in the list can't
   * match. "all": there is no such list, every update of the kind is a candidate.
   */
  readonly index: "accounts" | "owners" | "transactionKeys" | "all";
  readonly indexAccounts: readonly Uint8Array[];
  readonly indexOwners: readonly Uint8Array[];
  readonly indexTransactionKeys: readonly Uint8Array[];
  /** The other conditions. */
  readonly program: Uint8Array;
  /** What the sender knows of what it matches comes first. */
  readonly state: boolean;
}

const U64_MAX = (1n << 64n) - 1n;
const NO_KEYS: readonly Uint8Array[] = [];
const KINDS = ["accounts", "transactions", "slots"] as const;
const ACCOUNT_CONDITIONS = [
  "accounts",
  "owners",
  "excludeAccounts",
  "excludeOwners",
  "dataSize",
  "memcmp",
  "lamports",
  "tokenAccountState",
  "nonemptyTxnSignature",
  "startup",
  "onlyChanged",
  "dataSlice",
] as const satisfies readonly (keyof AccountFilter)[];
const TRANSACTION_CONDITIONS = [
  "vote",
  "failed",
  "signature",
  "accountInclude",
  "accountExclude",
  "accountRequired",
] as const satisfies readonly (keyof TransactionFilter)[];

/**
 * Splits a filter into keys for the sender's index and a program for the rest.
 * @param name For messages only.
 * @throws {TypeError} for what is no filter, or has a condition that is unknown or of the wrong type.
 * @throws {RangeError} for values and lists beyond the limits, and bounds between which nothing lies.
 */
export function encodeFilter(filter: NamedFilter, name: string): EncodedFilter {
  const where = `Filter "${name}"`;
  assertObject(filter, where, [...KINDS, "state"]);
  const state = boolean(filter.state, `${where}: state`) === true;
  const given = KINDS.filter((kind) => filter[kind] !== undefined);
  if (given.length !== 1) {
    throw new TypeError(`${where} must have one of ${KINDS.join(", ")}, it has ${given.join(" and ") || "none"}`);
  }
  const kind = given[0]!;
  const conditions = filter[kind] === true ? {} : filter[kind];
  const at = `${where}: ${kind}`;
  if (kind === "accounts") return { ...encodeAccounts(conditions as AccountFilter, at), state };
  if (state) throw new TypeError(`${where}: state is of accounts, not of ${kind}`);
  return kind === "transactions"
    ? { ...encodeTransactions(conditions as TransactionFilter, at), state }
    : { ...encodeSlots(conditions as SlotFilter, at), state };
}

function encodeAccounts(filter: AccountFilter, at: string): Omit<EncodedFilter, "state"> {
  assertObject(filter, at, ACCOUNT_CONDITIONS);
  const accounts = filter.accounts === undefined ? undefined : keysOf(filter.accounts, `${at}.accounts`);
  const owners = filter.owners === undefined ? undefined : keysOf(filter.owners, `${at}.owners`);
  const program = new ProgramWriter(FilterKind.accounts);

  program.flag(FilterOpcode.startup, boolean(filter.startup, `${at}.startup`));
  program.flag(FilterOpcode.signature, boolean(filter.nonemptyTxnSignature, `${at}.nonemptyTxnSignature`));
  if (filter.dataSize !== undefined) {
    const [min, max] = dataSize(filter.dataSize, `${at}.dataSize`);
    program.condition(FilterOpcode.dataSize, 0, 8).setUint32(0, min, true);
    program.last.setUint32(4, max, true);
  }
  if (filter.lamports !== undefined) {
    const { min, max, not } = lamports(filter.lamports, `${at}.lamports`);
    if (min > 0n || max < U64_MAX) {
      program.condition(FilterOpcode.lamports, 0, 16).setBigUint64(0, min, true);
      program.last.setBigUint64(8, max, true);
    }
    if (not !== undefined) program.condition(FilterOpcode.lamportsNot, 0, 8).setBigUint64(0, not, true);
  }
  if (accounts !== undefined && owners !== undefined) program.keys(FilterOpcode.owners, owners, `${at}.owners`);
  program.flag(FilterOpcode.tokenAccount, boolean(filter.tokenAccountState, `${at}.tokenAccountState`));
  if (filter.memcmp !== undefined) encodeMemcmps(program, filter.memcmp, `${at}.memcmp`);
  program.exclusions(FilterOpcode.ownersNot, filter.excludeOwners, `${at}.excludeOwners`);
  program.exclusions(FilterOpcode.accountsNot, filter.excludeAccounts, `${at}.excludeAccounts`);
  if (boolean(filter.onlyChanged, `${at}.onlyChanged`) === true) program.condition(FilterOpcode.changed, 0, 0);
  if (filter.dataSlice !== undefined) encodeSlices(program, filter.dataSlice, `${at}.dataSlice`);

  return {
    kind: "accounts",
    index: accounts !== undefined ? "accounts" : owners !== undefined ? "owners" : "all",
    indexAccounts: accounts ?? NO_KEYS,
    indexOwners: accounts === undefined ? owners ?? NO_KEYS : NO_KEYS,
    indexTransactionKeys: NO_KEYS,
    program: program.finish(),
  };
}

function encodeMemcmps(program: ProgramWriter, memcmps: readonly Memcmp[], at: string): void {
  assertArray(memcmps, at, FILTER_MEMCMPS_MAX, "comparisons");
  if (memcmps.length === 0) return;
  const pieces = memcmps.map((memcmp, i) => {
    const here = `${at}[${i}]`;
    assertObject(memcmp, here, ["offset", "bytes"]);
    const bytes = typeof memcmp.bytes === "string"
      ? bytesFromBase58(memcmp.bytes, FILTER_MEMCMP_BYTES_MAX, `${here}.bytes`)
      : memcmp.bytes;
    if (!(bytes instanceof Uint8Array)) throw new TypeError(`${here}.bytes must be a Uint8Array or base58 text`);
    if (bytes.length > FILTER_MEMCMP_BYTES_MAX) {
      throw new RangeError(`${here}.bytes has ${bytes.length} bytes, the limit is ${FILTER_MEMCMP_BYTES_MAX}`);
    }
    return { offset: range(memcmp.offset, bytes.length, here), bytes };
  });
  const size = pieces.reduce((sum, { bytes }) => sum + FilterRange.size + padded(bytes.length), 0);
  const view = program.condition(FilterOpcode.memcmp, pieces.length, size);
  let to = 0;
  for (const { offset, bytes } of pieces) {
    view.setUint32(to + FilterRange.offset, offset, true);
    view.setUint32(to + FilterRange.length, bytes.length, true);
    new Uint8Array(view.buffer, to + FilterRange.size).set(bytes);
    to += FilterRange.size + padded(bytes.length);
  }
}

function encodeSlices(program: ProgramWriter, given: DataSlice | readonly DataSlice[], at: string): void {
  const slices = Array.isArray(given) ? given as readonly DataSlice[] : [given as DataSlice];
  assertArray(slices, at, FILTER_SLICES_MAX, "slices");
  if (slices.length === 0) {
    throw new RangeError(`${at} is empty: leave it out for all data, or give a length of 0 for none`);
  }
  let end = 0;
  slices.forEach((slice, i) => {
    const here = `${at}[${i}]`;
    assertObject(slice, here, ["offset", "length"]);
    const length = size(slice.length, `${here}.length`);
    const offset = range(slice.offset, length, here);
    if (offset < end) {
      throw new RangeError(
        `${here} begins at ${offset}, before ${end}, where the one before it ends: sort and join them`,
      );
    }
    end = offset + length;
  });
  const view = program.condition(FilterOpcode.slices, slices.length, FilterRange.size * slices.length);
  slices.forEach(({ offset, length }, i) => {
    view.setUint32(FilterRange.size * i + FilterRange.offset, offset, true);
    view.setUint32(FilterRange.size * i + FilterRange.length, length, true);
  });
}

function encodeTransactions(filter: TransactionFilter, at: string): Omit<EncodedFilter, "state"> {
  assertObject(filter, at, TRANSACTION_CONDITIONS);
  const program = new ProgramWriter(FilterKind.transactions);
  program.flag(FilterOpcode.vote, boolean(filter.vote, `${at}.vote`));
  program.flag(FilterOpcode.failed, boolean(filter.failed, `${at}.failed`));
  if (filter.signature !== undefined) {
    const signature = typeof filter.signature === "string"
      ? bytesFromBase58(filter.signature, SIGNATURE_SIZE, `${at}.signature`)
      : filter.signature;
    if (!(signature instanceof Uint8Array) || signature.length !== SIGNATURE_SIZE) {
      throw new TypeError(`${at}.signature must be ${SIGNATURE_SIZE} bytes or their base58 text`);
    }
    new Uint8Array(program.condition(FilterOpcode.firstSignature, 0, SIGNATURE_SIZE).buffer).set(signature);
  }
  const include = filter.accountInclude === undefined
    ? undefined
    : keysOf(filter.accountInclude, `${at}.accountInclude`);
  let required = filter.accountRequired === undefined ? [] : keysOf(filter.accountRequired, `${at}.accountRequired`);
  let indexed = include;
  if (include === undefined && required.length > 0) {
    const first = required[0]!;
    indexed = [first];
    required = required.filter((key) => compareBytes(key, first) !== 0);
  }
  program.exclusions(FilterOpcode.required, required, `${at}.accountRequired`);
  program.exclusions(FilterOpcode.excluded, filter.accountExclude, `${at}.accountExclude`);
  return {
    kind: "transactions",
    index: indexed === undefined ? "all" : "transactionKeys",
    indexAccounts: NO_KEYS,
    indexOwners: NO_KEYS,
    indexTransactionKeys: indexed ?? NO_KEYS,
    program: program.finish(),
  };
}

function encodeSlots(filter: SlotFilter, at: string): Omit<EncodedFilter, "state"> {
  assertObject(filter, at, ["statuses"]);
  const program = new ProgramWriter(FilterKind.slots);
  if (filter.statuses !== undefined) {
    assertIterable(filter.statuses, `${at}.statuses`, "slot statuses");
    let bits = 0;
    for (const status of filter.statuses) {
      const index = SLOT_STATUSES.indexOf(status);
      if (index < 0) {
        throw new TypeError(`${at}.statuses must be of ${SLOT_STATUSES.join(", ")}, not ${String(status)}`);
      }
      bits |= 1 << index;
    }
    program.condition(FilterOpcode.statuses, bits, 0);
  }
  return {
    kind: "slots",
    index: "all",
    indexAccounts: NO_KEYS,
    indexOwners: NO_KEYS,
    indexTransactionKeys: NO_KEYS,
    program: program.finish(),
  };
}

/** Whether a program leaves out what changes nothing (`onlyChanged`). */
export function asksForChanges(program: ReadonlyUint8Array): boolean {
  const { byteOffset, length } = program;
  const view = new DataView(program.buffer as ArrayBuffer, byteOffset, length);
  for (let at = FilterProgram.size; at + FilterCondition.size <= length;) {
    if (view.getUint16(at + FilterCondition.opcode, true) === FilterOpcode.changed) return true;
    at += FilterCondition.size + view.getUint32(at + FilterCondition.length, true);
  }
  return false;
}

/** Conditions one after the other; the caller keeps to the order of their opcodes. */
class ProgramWriter {
  readonly #kind: number;
  readonly #parts: { readonly opcode: number; readonly argument: number; readonly payload: Uint8Array }[] = [];
  /** The payload of the last condition, to be filled. It has a buffer of its own. */
  last: DataView<ArrayBuffer> = new DataView(new ArrayBuffer(0));

  constructor(kind: number) {
    this.#kind = kind;
  }

  condition(opcode: number, argument: number, size: number): DataView<ArrayBuffer> {
    const payload = new Uint8Array(size);
    this.#parts.push({ opcode, argument, payload });
    return this.last = new DataView(payload.buffer);
  }

  flag(opcode: number, wanted: boolean | undefined): void {
    if (wanted !== undefined) this.condition(opcode, wanted ? 1 : 0, 0);
  }

  /** A list of which all, or none, must hold: an empty one asks for nothing. */
  exclusions(opcode: number, given: Iterable<AddressLike> | undefined, at: string): void {
    const keys = given === undefined ? NO_KEYS : keysOf(given, at);
    if (keys.length > 0) this.keys(opcode, keys, at);
  }

  /** Sorted, each once, as binary search wants them. */
  keys(opcode: number, given: readonly Uint8Array[], at: string): void {
    const sorted = [...given].sort(compareBytes);
    const keys = sorted.filter((key, i) => i === 0 || compareBytes(key, sorted[i - 1]!) !== 0);
    if (keys.length > FILTER_KEYS_MAX) {
      throw new RangeError(
        `${at} has ${keys.length} keys, the limit is ${FILTER_KEYS_MAX}: every candidate update is compared with ` +
          "them. Only the list that the sender's index holds has no limit: accounts, or owners without accounts, or " +
          "accountInclude",
      );
    }
    const payload = new Uint8Array(this.condition(opcode, keys.length, ADDRESS_SIZE * keys.length).buffer);
    keys.forEach((key, i) => payload.set(key, ADDRESS_SIZE * i));
  }

  finish(): Uint8Array {
    let length: number = FilterProgram.size;
    for (const { payload } of this.#parts) length += FilterCondition.size + payload.length;
    const bytes = new Uint8Array(length);
    const view = new DataView(bytes.buffer);
    view.setUint16(FilterProgram.kind, this.#kind, true);
    view.setUint16(FilterProgram.conditionCount, this.#parts.length, true);
    view.setUint32(FilterProgram.length, length, true);
    let at = FilterProgram.size;
    for (const { opcode, argument, payload } of this.#parts) {
      view.setUint16(at + FilterCondition.opcode, opcode, true);
      view.setUint16(at + FilterCondition.argument, argument, true);
      view.setUint32(at + FilterCondition.length, payload.length, true);
      bytes.set(payload, at + FilterCondition.size);
      at += FilterCondition.size + payload.length;
    }
    return bytes;
  }
}

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < ADDRESS_SIZE; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return 0;
}

function padded(length: number): number {
  return Math.ceil(length / 8) * 8;
}

/** The keys as bytes that nobody else can change. */
function keysOf(list: Iterable<AddressLike>, at: string): Uint8Array[] {
  assertIterable(list, at, "addresses");
  return Array.from(list, (key, i) => {
    const bytes = bytesFromAddressLike(key, `${at}[${i}]`) as Uint8Array;
    return bytes === key ? bytes.slice() : bytes;
  });
}

// A misspelt condition would be one less, and so more updates than anybody asked for.
function assertObject(value: unknown, at: string, known: readonly string[]): asserts value is object {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new TypeError(`${at} must be an object, not ${describe(value)}`);
  }
  for (const name of Object.keys(value)) {
    if (!known.includes(name)) throw new TypeError(`${at} has no condition "${name}"; there are ${known.join(", ")}`);
  }
}

function assertArray(value: unknown, at: string, countMax: number, what: string): asserts value is readonly unknown[] {
  if (!Array.isArray(value)) throw new TypeError(`${at} must be an array, not ${describe(value)}`);
  if (value.length > countMax) throw new RangeError(`${at} has ${value.length} ${what}, the limit is ${countMax}`);
}

/** Text and bytes are iterable too, and never meant. */
function assertIterable(value: unknown, at: string, what: string): void {
  const isIterable = typeof value === "object" && value !== null && Symbol.iterator in value;
  if (!isIterable || ArrayBuffer.isView(value)) {
    throw new TypeError(`${at} must be a list of ${what}, not ${describe(value)}`);
  }
}

function describe(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  return typeof value === "object" ? value.constructor?.name ?? "an object" : `${typeof value} ${String(value)}`;
}

function boolean(value: boolean | undefined, at: string): boolean | undefined {
  if (value !== undefined && typeof value !== "boolean") {
    throw new TypeError(`${at} must be a boolean, not ${describe(value)}`);
  }
  return value;
}

function size(value: number, at: string): number {
  if (typeof value !== "number") throw new TypeError(`${at} must be a number, not ${describe(value)}`);
  if (!Number.isInteger(value) || value < 0 || value > PAYLOAD_BYTES_MAX) {
    throw new RangeError(`${at} must be a whole number from 0 to ${PAYLOAD_BYTES_MAX}, not ${value}`);
  }
  return value;
}

/** @returns The offset, if that many bytes can stand there. */
function range(offset: number, length: number, at: string): number {
  size(offset, `${at}.offset`);
  if (offset + length > PAYLOAD_BYTES_MAX) {
    throw new RangeError(`${at} ends at ${offset + length}, no account has more than ${PAYLOAD_BYTES_MAX} bytes`);
  }
  return offset;
}

function dataSize(value: NonNullable<AccountFilter["dataSize"]>, at: string): [min: number, max: number] {
  if (typeof value === "number") return [size(value, at), value];
  assertObject(value, at, ["min", "max"]);
  const min = size(value.min ?? 0, `${at}.min`);
  const max = size(value.max ?? PAYLOAD_BYTES_MAX, `${at}.max`);
  if (min > max) throw new RangeError(`${at} can't hold: min is ${min}, max is ${max}`);
  return [min, max];
}

function lamports(value: bigint | LamportsRange, at: string): { min: bigint; max: bigint; not: bigint | undefined } {
  if (typeof value === "bigint") value = { eq: value };
  assertObject(value, at, ["eq", "ne", "lt", "gt"]);
  let min = 0n;
  let max = U64_MAX;
  for (const name of ["eq", "ne", "lt", "gt"] as const) { // `eq` first: the others may narrow it to nothing
    const bound = value[name];
    if (bound === undefined) continue;
    if (typeof bound !== "bigint") throw new TypeError(`${at}.${name} must be a bigint, not ${describe(bound)}`);
    if (bound < 0n || bound > U64_MAX) {
      throw new RangeError(`${at}.${name} must fit 64 bits without sign, ${bound} does not`);
    }
    if (name === "gt" && bound >= min) min = bound + 1n;
    if (name === "lt" && bound <= max) max = bound - 1n;
    if (name === "eq") min = max = bound;
  }
  if (min > max || (min === max && value.ne === min)) {
    throw new RangeError(`${at} can't hold: nothing lies between its bounds`);
  }
  return { min, max, not: value.ne };
}
