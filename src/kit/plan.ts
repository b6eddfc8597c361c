/**
 * From a request of kit's to what a local feed is asked for, and from its updates to what kit calls notifications.
 * May touch: requests, views. May not touch: consumers.
 * Source of the shapes: Solana's RPC methods `accountSubscribe`, `programSubscribe`, `slotSubscribe`, `rootSubscribe`,
 * `signatureSubscribe`, `logsSubscribe`, behind kit's transformers: every whole number is a bigint.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import type { Address, Commitment, TransactionError } from "@solana/kit";
import { addressFromBytes, bytesFromAddress } from "../address.ts";
import type { AccountCopy, AccountView, SlotView, TransactionCopy, TransactionView } from "../stream/view.ts";
import { base58FromBytes, bytesFromBase58 } from "../wire/base58.ts";
import type { Memcmp } from "../wire/filters.ts";
import type { AddressTable } from "./addresses.ts";
import { planError, unsupported } from "./errors.ts";
import type { Interest } from "./feed.ts";
import type { ResolvedOptions } from "./options.ts";
import { LEVEL, type Level } from "./slot_chain.ts";

/** kit's request: a method, and its parameters after kit's transformers. */
export interface Request {
  readonly methodName: string;
  readonly params: unknown;
}

/** What a request comes to. */
export interface Plan {
  readonly interest: Interest;
  /** Updates wait until their slot has got there. */
  readonly level: Level;
  /** Over after the first notification. */
  readonly isOnce: boolean;
  /** What tells the notifications of accounts apart. */
  keyOf?(update: AccountView): unknown;
  ofAccount?(update: AccountView | AccountCopy, key: unknown): unknown;
  ofTransaction?(update: TransactionView | TransactionCopy): unknown;
  /** Undefined for slot updates that are none. */
  ofSlot?(update: SlotView, root: number): unknown;
}

interface Config {
  readonly commitment?: Commitment;
  readonly encoding?: string;
  readonly filters?: readonly unknown[];
  readonly enableReceivedNotification?: boolean;
}

/** Base58 of more than that a node does not give. */
const BASE58_BYTES_MAX = 128;
const BASE58_TOO_LONG = "error: data too large for bs58 encoding";
const MEMCMP_BYTES_MAX = 128;
const UNKNOWN_ERROR = "UnknownError" as TransactionError;

/**
 * What a request comes to.
 * @throws {SolanaError} `RPC_SUBSCRIPTIONS__CANNOT_CREATE_SUBSCRIPTION_PLAN`: why, is its cause.
 */
export function planOf({ methodName, params }: Request, options: ResolvedOptions, addresses: AddressTable): Plan {
  const [subject, config = {}] = (Array.isArray(params) ? params : []) as [unknown, Config?];
  const level = () => levelOf(methodName, config.commitment, options.feedCommitment);
  try {
    switch (methodName) {
      case "accountNotifications":
        return accountPlan(subject as Address, encoderOf(methodName, config.encoding), level());
      case "programNotifications":
        return programPlan(subject as Address, config, encoderOf(methodName, config.encoding), level(), addresses);
      case "signatureNotifications":
        return signaturePlan(subject as string, config, level(), options);
      case "logsNotifications":
        return logsPlan(subject, level(), options);
      case "slotNotifications":
        return slotPlan((update, root) => {
          if (update.status !== "processed") return undefined;
          return { parent: update.parent, root: BigInt(Math.max(0, root)), slot: update.slot };
        });
      case "rootNotifications":
        return slotPlan((update) => update.status === "finalized" ? update.slot : undefined);
      default:
        throw unsupported(methodName, "a local feed does not carry it");
    }
  } catch (error) {
    // Our own checks of keys, signatures and filters.
    throw error instanceof TypeError || error instanceof RangeError ? planError(methodName, error) : error;
  }
}

/** kit leaves "finalized" out, which is the server's default: without a commitment that is what was asked for. */
function levelOf(methodName: string, asked: Commitment = "finalized", feed: Commitment): Level {
  const level = LEVEL[asked];
  if (level === undefined) throw unsupported(methodName, `there is no commitment "${asked}"`);
  if (level < LEVEL[feed]) {
    throw unsupported(methodName, `"${asked}" is asked for, and the feed has updates from "${feed}" on only`);
  }
  return level === LEVEL[feed] ? LEVEL.processed : level;
}

type Encoder = (data: Uint8Array) => unknown;

function encoderOf(methodName: string, encoding: string | undefined): Encoder {
  switch (encoding) {
    case "base64":
      return (data) => [Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("base64"), "base64"];
    case "base58":
      return (data) => [legacyBase58(data), "base58"];
    case undefined:
      return legacyBase58;
    default:
      throw unsupported(methodName, `its encoding "${encoding}" is made by nodes only: ask for "base64"`);
  }
}

function legacyBase58(data: Uint8Array): string {
  return data.length > BASE58_BYTES_MAX ? BASE58_TOO_LONG : base58FromBytes(data);
}

/** An account as RPC has it. */
function rpcAccount(update: AccountView | AccountCopy, owner: Address, encode: Encoder) {
  return {
    data: encode(update.data as Uint8Array),
    executable: update.executable,
    lamports: update.lamports,
    owner,
    rentEpoch: update.rentEpoch,
    space: BigInt(update.fullLength),
  };
}

function accountPlan(account: Address, encode: Encoder, level: Level): Plan {
  bytesFromAddress(account);
  // The owner is nearly always the one of before.
  let [ownerBytes, owner]: [Uint8Array, Address] = [new Uint8Array(0), "" as Address];
  const ownerOf = (bytes: Uint8Array): Address => {
    if (Buffer.compare(ownerBytes, bytes) !== 0) [ownerBytes, owner] = [bytes.slice(), addressFromBytes(bytes)];
    return owner;
  };
  return {
    interest: { account },
    level,
    isOnce: false,
    keyOf: () => account,
    ofAccount: (update) => ({
      context: { slot: update.slot },
      value: rpcAccount(update, ownerOf(update.owner as Uint8Array), encode),
    }),
  };
}

function programPlan(program: Address, config: Config, encode: Encoder, level: Level, addresses: AddressTable): Plan {
  const { dataSize, memcmp } = conditionsOf(config.filters ?? []);
  const filter = {
    accounts: { owners: [bytesFromAddress(program)], ...dataSize, ...(memcmp.length > 0 && { memcmp }) },
  };
  return {
    interest: { filter, id: `program ${program} ${idOf(config.filters ?? [])}` },
    level,
    isOnce: false,
    keyOf: (update) => addresses.addressOf(update.pubkey),
    ofAccount: (update, pubkey) => ({
      context: { slot: update.slot },
      value: { account: rpcAccount(update, program, encode), pubkey },
    }),
  };
}

/** The same text for what is alike. */
function idOf(value: unknown): string {
  return JSON.stringify(value, (_, each) => typeof each === "bigint" ? Number(each) : each);
}

/** RPC's filters, which all have to hold. */
function conditionsOf(filters: readonly unknown[]): { dataSize?: { dataSize: number }; memcmp: Memcmp[] } {
  let dataSize: { dataSize: number } | undefined;
  const memcmp: Memcmp[] = [];
  for (const filter of filters as readonly Record<string, unknown>[]) {
    if (filter.dataSize !== undefined) {
      const size = Number(filter.dataSize);
      if (dataSize !== undefined && dataSize.dataSize !== size) {
        throw new RangeError(`No account has ${dataSize.dataSize} and ${size} bytes of data`);
      }
      dataSize = { dataSize: size };
    } else if (filter.memcmp !== undefined) {
      const { offset, bytes, encoding } = filter.memcmp as {
        offset: bigint | number;
        bytes: string;
        encoding?: string;
      };
      memcmp.push({ offset: Number(offset), bytes: memcmpBytes(bytes, encoding) });
    } else {
      throw new TypeError(`A filter must be one of dataSize and memcmp, not ${Object.keys(filter).join(", ")}`);
    }
  }
  return { ...(dataSize !== undefined && { dataSize }), memcmp };
}

function memcmpBytes(bytes: string, encoding = "base58"): Uint8Array {
  if (encoding === "base64") return new Uint8Array(Buffer.from(bytes, "base64"));
  return bytesFromBase58(bytes, MEMCMP_BYTES_MAX, "memcmp.bytes");
}

function signaturePlan(signature: string, config: Config, level: Level, options: ResolvedOptions): Plan {
  if (config.enableReceivedNotification === true) {
    throw unsupported("signatureNotifications", "only a node knows when it has received a transaction");
  }
  return {
    interest: { filter: { transactions: { signature } }, id: `signature ${signature}` },
    level,
    isOnce: true,
    ofTransaction: (update) => ({ context: { slot: update.slot }, value: { err: outcomeOf(update, options).err } }),
  };
}

function logsPlan(subject: unknown, level: Level, options: ResolvedOptions): Plan {
  if (options.readMeta === undefined) {
    throw unsupported(
      "logsNotifications",
      "logs are in the sender's meta, if anywhere: say how to read it (option readMeta)",
    );
  }
  const mentions = (subject as { mentions?: readonly Address[] } | null)?.mentions;
  const transactions = mentions !== undefined
    ? { accountInclude: mentions }
    : subject === "allWithVotes"
    ? true
    : { vote: false };
  return {
    interest: { filter: { transactions }, id: `logs ${idOf(subject)}` },
    level,
    isOnce: false,
    ofTransaction: (update) => {
      const { err, logs } = outcomeOf(update, options);
      const value = { err, logs: logs ?? [], signature: base58FromBytes(update.signature) };
      return { context: { slot: update.slot }, value };
    },
  };
}

function outcomeOf({ meta, failed }: TransactionView | TransactionCopy, { readMeta }: ResolvedOptions) {
  const outcome = meta === undefined ? undefined : readMeta?.(meta);
  return { err: outcome?.err ?? (failed ? UNKNOWN_ERROR : null), logs: outcome?.logs };
}

function slotPlan(ofSlot: NonNullable<Plan["ofSlot"]>): Plan {
  return { interest: "slots", level: LEVEL.processed, isOnce: false, ofSlot };
}
