/**
 * `qlaster tap`: prints what a consumer gets, for people or for programs.
 * May touch: a consumer, stdout.
 *
 * @module
 */

import process from "node:process";
import { addressFromBytes } from "../address.ts";
import { type Consumer, setupConsumer } from "../stream/consumer.ts";
import type { ConsumerOptions } from "../stream/consumer_options.ts";
import type { AccountView, UpdateView } from "../stream/view.ts";
import type { Address, OverflowPolicy, Subscription } from "../types.ts";
import { duration } from "./text.ts";

/** What of a sender's stream is wanted. */
export interface FilterFlags {
  readonly account?: string[];
  readonly owner?: string[];
  readonly transactions?: boolean;
  readonly all?: boolean;
  readonly uid?: number[];
  readonly policy?: OverflowPolicy;
}

/**
 * Connects, and subscribes as the flags say: without any, slots alone. Slots come from the beginning, what was asked for
 * once the consumer's `filterGeneration` is the one told here.
 */
export async function connect(
  path: string,
  name: string,
  flags: FilterFlags,
  options: ConsumerOptions,
): Promise<{ readonly consumer: Consumer; readonly generation: number }> {
  const consumer = await setupConsumer(path, {
    name,
    policy: flags.policy ?? "disconnect",
    uids: flags.uid ?? [],
    ...options,
  });
  try {
    const subscription: Subscription = {
      accounts: (flags.account ?? []) as Address[],
      owners: (flags.owner ?? []) as Address[],
      transactions: flags.transactions === true || flags.all === true,
    };
    const isEmpty = flags.account === undefined && flags.owner === undefined && !subscription.transactions;
    const acks = [];
    if (!isEmpty) acks.push(await consumer.subscribe(subscription));
    if (flags.all === true) acks.push(await consumer.setFilter("all", { accounts: {} }));
    // Wire version 9 marks nothing: there it begins at once.
    return { consumer, generation: consumer.protocol === "v9" ? 0 : acks.at(-1)?.generation ?? 0 };
  } catch (error) {
    await consumer.close();
    throw error;
  }
}

const TOKEN_PROGRAMS = ["TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA", "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb"];
const TOKEN_ACCOUNT_BYTES = 165;
const MINT_BYTES = 82;

/** An account of the token programs: amounts without decimals, since the mint knows those. */
function tokenText(view: AccountView): string | undefined {
  if (!TOKEN_PROGRAMS.includes(view.ownerAddress) || view.isSliced) return undefined;
  const key = (at: number) => addressFromBytes(view.data.subarray(at, at + 32));
  if (view.dataLength === MINT_BYTES) return `mint supply ${view.u64At(36)} decimals ${view.u8At(44)}`;
  if (view.dataLength < TOKEN_ACCOUNT_BYTES) return undefined;
  return `token ${view.u64At(64)} of mint ${key(0)} held by ${key(32)}`;
}

function hex(bytes: ArrayLike<number>): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function pretty(view: UpdateView, withHex: boolean): string {
  const lost = "lost" in view && view.lost > 0 ? `  (${view.lost} lost before)` : "";
  const age = "ageUs" in view ? duration(Math.max(0, view.ageUs)) : "";
  switch (view.kind) {
    case "account": {
      const what = tokenText(view) ?? `${view.dataLength} bytes of ${view.ownerAddress}`;
      const data = withHex ? `\n  ${hex(view.data)}` : "";
      return `account ${view.address}  slot ${view.slot}  ${view.lamports} lamports  ${what}  ${age}${lost}${data}`;
    }
    case "transaction": {
      const failed = view.failed ? "  failed" : "";
      const data = withHex ? `\n  ${hex(view.message)}` : "";
      return `transaction ${hex(view.signature).slice(0, 16)}…  slot ${view.slot} #${view.index}${
        view.vote ? "  vote" : ""
      }${failed}  ${view.message.length} bytes  ${age}${lost}${data}`;
    }
    case "slot":
      return `slot ${view.slot}  ${view.status}  parent ${view.parent}  ${view.accountsPublished} accounts ` +
        `${view.transactionsPublished} transactions  ${age}${lost}`;
    default:
      return `${view.kind}${lost}`;
  }
}

/** As JSON: bigints as strings, bytes as hex, keys in base58. */
function json(view: UpdateView): string {
  return JSON.stringify(view.copy(), (name, value: unknown) => {
    if (typeof value === "bigint") return String(value);
    if (!(value instanceof Uint8Array)) return value;
    return (name === "pubkey" || name === "owner") && value.length === 32 ? addressFromBytes(value) : hex(value);
  });
}

/** What `tap` is asked for. */
export interface TapFlags extends FilterFlags {
  readonly json?: boolean;
  readonly hex?: boolean;
  readonly count?: number;
  readonly for?: number;
}

/** Waits until a slow reader of our output has room. */
async function write(text: string): Promise<void> {
  if (process.stdout.write(text)) return;
  await new Promise<void>((resolve) => void process.stdout.once("drain", () => resolve()));
}

/** Prints until it has printed as many, or for as long, as asked for; else until the sender ends or the signal comes. */
export async function tap(path: string, flags: TapFlags, signal: AbortSignal): Promise<void> {
  const connected = await connect(path, "qlaster tap", flags, { reconnect: false, signal });
  await using consumer = connected.consumer;
  const deadline = flags.for === undefined ? Infinity : performance.now() + flags.for;
  let left = flags.count ?? Infinity;
  while (left > 0 && !signal.aborted) {
    const waitMs = deadline - performance.now();
    if (waitMs <= 0) return;
    const view = await consumer.next(Math.min(waitMs, 0x7fffffff));
    if (view === undefined) {
      if (consumer.ended !== undefined) return;
      continue;
    }
    if (consumer.filterGeneration < connected.generation) continue; // a slot of before: not what was asked for
    left--;
    await write(`${flags.json === true ? json(view) : pretty(view, flags.hex === true)}\n`);
  }
}
