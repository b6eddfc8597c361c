/**
 * What `send --from litesvm` sends: a LiteSVM bank in this process, in which wallets pay each other in SPL tokens by real,
 * signed transactions. For trying a bot without a network.
 * May touch: the package `litesvm`, loaded only here; timers.
 * Why no kit: one kind of message, whose bytes are all known but its amount and its blockhash.
 *
 * @module
 */

import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign } from "node:crypto";
import { createRequire } from "node:module";
import { join } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { addressFromBytes, bytesFromAddress } from "../address.ts";
import { litesvm, type LitesvmInstance, type LitesvmSource } from "../sources/litesvm.ts";
import type { SourceDemand } from "../sources/source.ts";
import type { Address, Update } from "../types.ts";
import { Failure } from "./failure.ts";

/** As much of the class `LiteSVM`, version 1, as is used. */
interface Bank extends LitesvmInstance {
  withTransactionHistory(capacity: bigint): Bank;
  setAccount(account: {
    readonly address: Address;
    readonly lamports: bigint;
    readonly programAddress: Address;
    readonly data: Uint8Array;
    readonly executable: boolean;
    readonly space: bigint;
  }): void;
  latestBlockhash(): Address;
}

/** How much of it. */
export interface TransferOptions {
  readonly demand: SourceDemand;
  readonly signal: AbortSignal;
  /** Transfers a second. Default 1000. */
  readonly rate?: number;
  /** Ends after so many slots of 400 ms. Default: never. */
  readonly slots?: number;
}

const TOKEN_PROGRAM = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA" as Address;
const SYSTEM_PROGRAM = "11111111111111111111111111111111" as Address;
const PACKAGE = "litesvm"; // not a literal where it is imported: bundlers would want it
const WALLETS = 64;
const DECIMALS = 6;
const LAMPORTS = 1_000_000_000_000_000n;
/** A million tokens each, which go in a circle. */
const UNITS = 1_000_000_000_000n;
/** No amount repeats within so many transfers, and so no signature does. */
const AMOUNTS = 5_000_000;
const SLOT_MS = 400;
const TICK_MS = 20;
const TICKS_OF_SLOT = SLOT_MS / TICK_MS;
/** DER of an Ed25519 private key, before its 32 bytes. */
const PKCS8_PREFIX = Uint8Array.fromHex("302e020100300506032b657004220420");

/** Beside this program, or where it is run: as one executable it has nothing beside it. */
async function loadBank(): Promise<Bank> {
  const places = [
    () => PACKAGE,
    () => pathToFileURL(createRequire(join(process.cwd(), "package.json")).resolve(PACKAGE)).href,
  ];
  let cause: unknown;
  for (const place of places) {
    try {
      const { LiteSVM } = await import(place()) as { LiteSVM: new () => Bank };
      return new LiteSVM();
    } catch (error) {
      cause ??= error;
    }
  }
  const text =
    "send --from litesvm needs the package litesvm: install it here (bun add litesvm@1, deno add npm:litesvm@1)";
  throw new Failure(text, { cause });
}

/** One who gives and gets. The same in every run, so that an address can be looked up in the next one. */
interface Wallet {
  readonly key: KeyObject;
  readonly address: Address;
  readonly token: Address;
}

function seedOf(name: string): Uint8Array {
  return createHash("sha256").update(`qlaster send --from litesvm: ${name}`).digest();
}

function walletOf(index: number): Wallet {
  const der = new Uint8Array([...PKCS8_PREFIX, ...seedOf(`wallet ${index}`)]);
  const key = createPrivateKey({ key: der as never, format: "der", type: "pkcs8" });
  const spki = new Uint8Array(createPublicKey(key).export({ format: "der", type: "spki" }));
  const token = addressFromBytes(seedOf(`token account ${index}`));
  return { key, address: addressFromBytes(spki.subarray(-32)), token };
}

/** The state of a mint without authorities. */
function mintData(supply: bigint): Uint8Array {
  const data = new Uint8Array(82);
  new DataView(data.buffer).setBigUint64(36, supply, true);
  data.set([DECIMALS, 1], 44);
  return data;
}

/** The state of an account of `mint` that `owner` may spend from. */
function tokenData(mint: Address, owner: Address, amount: bigint): Uint8Array {
  const data = new Uint8Array(165);
  data.set(bytesFromAddress(mint), 0);
  data.set(bytesFromAddress(owner), 32);
  new DataView(data.buffer).setBigUint64(64, amount, true);
  data[108] = 1; // initialized
  return data;
}

/** A `TransferChecked` of one wallet to another, as a message without version. */
function messageOf(from: Wallet, to: Wallet, mint: Address, blockhash: Address, amount: bigint): Uint8Array {
  const keys = [from.address, from.token, to.token, mint, TOKEN_PROGRAM].map(bytesFromAddress);
  const message = new Uint8Array([
    ...[1, 0, 2], // one signer, no readonly signer, two readonly others
    ...[keys.length, ...keys.flatMap((key) => [...key])],
    ...bytesFromAddress(blockhash),
    ...[1, 4], // one instruction, of the fifth key
    ...[4, 1, 3, 2, 0], // its accounts: source, mint, destination, authority
    ...[10, 12, 0, 0, 0, 0, 0, 0, 0, 0, DECIMALS],
  ]);
  new DataView(message.buffer).setBigUint64(message.length - 9, amount, true);
  return message;
}

/** Sets up the bank, and says how one transfer is made. */
function createTransfers(bank: Bank): (source: LitesvmSource<Bank>) => void {
  const mint = addressFromBytes(seedOf("mint"));
  const wallets = Array.from({ length: WALLETS }, (_, i) => walletOf(i));
  const set = (address: Address, programAddress: Address, data: Uint8Array) =>
    bank.setAccount({
      ...{ address, programAddress, data, lamports: LAMPORTS, executable: false },
      space: BigInt(data.length),
    });
  set(mint, TOKEN_PROGRAM, mintData(UNITS * BigInt(WALLETS)));
  for (const { address, token } of wallets) {
    set(address, SYSTEM_PROGRAM, new Uint8Array(0));
    set(token, TOKEN_PROGRAM, tokenData(mint, address, UNITS));
  }
  let count = 0;
  return (source) => {
    const from = wallets[count % WALLETS]!;
    const to = wallets[(count + 1) % WALLETS]!;
    const amount = BigInt(1 + (count * 3_090_169) % AMOUNTS);
    count++;
    const messageBytes = messageOf(from, to, mint, bank.latestBlockhash(), amount);
    const signature = new Uint8Array(sign(null, messageBytes, from.key));
    source.svm.sendTransaction({ messageBytes, signatures: { [from.address]: signature } });
  };
}

/** A second's transfers are spread over its ticks; a bank that can't keep up has longer slots. */
async function drive(
  source: LitesvmSource<Bank>,
  transfer: (source: LitesvmSource<Bank>) => void,
  options: { readonly rate: number; readonly slots: number },
  signal: AbortSignal,
): Promise<void> {
  let due = 0;
  for (let slot = 0; slot < options.slots && !signal.aborted; slot++) {
    for (let tick = 0; tick < TICKS_OF_SLOT && !signal.aborted; tick++) {
      for (due += options.rate * TICK_MS / 1000; due >= 1; due--) transfer(source);
      await Promise.all([source.drained(), new Promise((resolve) => setTimeout(resolve, TICK_MS))]);
    }
    source.nextSlot();
  }
  await source.drained();
}

/**
 * Transfers at that rate, in slots of 400 ms.
 * @throws {Failure} without the package `litesvm`.
 */
export async function tokenTransfers(options: TransferOptions): Promise<AsyncIterable<readonly Update[]>> {
  // Without a history it takes the same memory for ever.
  const bank = (await loadBank()).withTransactionHistory(0n);
  const transfer = createTransfers(bank);
  const source = litesvm(bank, { demand: options.demand });
  const { rate = 1000, slots = Infinity } = options;
  return (async function* () {
    const over = new AbortController();
    const signal = AbortSignal.any([options.signal, over.signal]);
    signal.addEventListener("abort", () => source.close(), { once: true });
    const driving = drive(source, transfer, { rate, slots }, signal).finally(() => source.close());
    driving.catch(() => {}); // said below, once the loop has ended
    try {
      yield* source;
      await driving;
    } finally {
      over.abort();
    }
  })();
}
