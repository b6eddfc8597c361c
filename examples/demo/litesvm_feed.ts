/**
 * A source of real Solana updates that needs no network: LiteSVM executes signed SPL-token transfers.
 * May touch: the bank of token_bank.ts, the clock of the machine.
 * May not touch: the console, files, the native library.
 * What it is not: a cluster. There are no votes and no forks, and one bank a slot.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import {
  type Address,
  getAddressEncoder,
  getBase58Encoder,
  signBytes,
  type Transaction,
  type TransactionMessageBytes,
} from "@solana/kit";
import { TOKEN_PROGRAM_ADDRESS } from "@solana-program/token";
import { FailedTransactionMetadata, type TransactionMetadata } from "litesvm";
import type { AccountUpdate, ReadonlyUint8Array, SlotStatus, SlotUpdate, TransactionUpdate } from "../../src/types.ts";
import { createTokenBank, type TokenAccount, type TokenBank } from "./token_bank.ts";
import { TransferTemplate } from "./transfer_template.ts";

/** An account update whose keys are bytes, as they are in a validator. */
export interface FeedAccountUpdate extends AccountUpdate {
  readonly pubkey: ReadonlyUint8Array;
  readonly owner: ReadonlyUint8Array;
}

/** What the feed yields. */
export type FeedUpdate = FeedAccountUpdate | TransactionUpdate | SlotUpdate;

/** What to generate; everything has a default. */
export interface LitesvmFeedOptions {
  /** Stop after so many slots. Default: never. */
  readonly slots?: number;
  readonly transactionsPerSlot?: number;
  /** Token accounts, spread over two mints: an even number, at least 4. */
  readonly accounts?: number;
  /** Wallets that own the token accounts. */
  readonly owners?: number;
  /** Every so many transactions one asks for more than there is, and fails. 0 for none. */
  readonly failEvery?: number;
  /** Ends the feed between two transactions. */
  readonly signal?: AbortSignal;
}

/** A feed, ready to run. */
export interface LitesvmFeed {
  /** 32 bytes each. */
  readonly tokenAccounts: readonly Uint8Array[];
  /** The program that owns every token account and mint. */
  readonly tokenProgram: Uint8Array;
  /**
   * First the state at the start; then slot by slot. Each array belongs together: the accounts that a transaction
   * wrote and the transaction itself, or one slot status. Their bytes are never reused.
   */
  readonly updates: AsyncGenerator<readonly FeedUpdate[], void, void>;
}

const MINTS = 2;
const MS_PER_SLOT = 400n;
const START_UNIX_SECONDS = 1_760_000_000n;
/** Now and then a leader misses its slot: then the parent is two slots back. */
const SKIPPED_SLOT_EVERY = 20;
const FINALIZED_SLOTS_BEHIND = 31;
/** LiteSVM's result objects are freed between turns of the event loop only. */
const TRANSACTIONS_PER_TURN = 256;
const RENT_EXEMPT_EPOCH = 2n ** 64n - 1n;
const MORE_THAN_THE_SUPPLY = 2n ** 63n;

/** How many slot updates a feed of so many slots yields: two as each begins and ends, the later ones for those behind it. */
export function slotUpdatesOf(slots: number): number {
  return 2 * slots + Math.max(0, slots - 1) + Math.max(0, slots - FINALIZED_SLOTS_BEHIND);
}

/** Sets up the bank (about 0.2 s) and returns its feed. */
export async function litesvmFeed(options: LitesvmFeedOptions = {}): Promise<LitesvmFeed> {
  const { accounts = 48, owners = 8 } = options;
  if (!Number.isInteger(accounts) || accounts % MINTS !== 0 || accounts < 2 * MINTS) {
    throw new RangeError(`Cannot spread ${accounts} token accounts over ${MINTS} mints: pass an even number from 4`);
  }
  const bank = await createTokenBank({ mints: MINTS, wallets: owners, tokenAccounts: accounts });
  const feed = new Feed(bank, options);
  return {
    tokenAccounts: bank.tokenAccounts.map(({ address }) => feed.keyBytes(address)),
    tokenProgram: feed.keyBytes(TOKEN_PROGRAM_ADDRESS),
    updates: feed.run(),
  };
}

class Feed {
  readonly #bank: TokenBank;
  readonly #transactionsPerSlot: number;
  readonly #slotsMax: number;
  readonly #failEvery: number;
  readonly #signal: AbortSignal | undefined;
  readonly #keys = new Map<Address, Uint8Array>();
  readonly #templates = new Map<string, TransferTemplate>();
  /** The last state that was reported, to tell what a transaction changed from what it only locked. */
  readonly #reported = new Map<Address, FeedAccountUpdate>();
  #bankId = 0n;
  #writeVersion = 0n;
  #transactions = 0;

  constructor(bank: TokenBank, options: LitesvmFeedOptions) {
    this.#bank = bank;
    this.#transactionsPerSlot = options.transactionsPerSlot ?? 150;
    this.#slotsMax = options.slots ?? Infinity;
    this.#failEvery = options.failEvery ?? 11;
    this.#signal = options.signal;
  }

  async *run(): AsyncGenerator<readonly FeedUpdate[], void, void> {
    let parent = this.#bank.svm.getClock().slot;
    yield this.#initialState(parent);

    const open: OpenSlot[] = []; // processed, not yet finalized; the newest is last
    for (let n = 1; n <= this.#slotsMax; n++) {
      const slot = parent + (n % SKIPPED_SLOT_EVERY === 0 ? 2n : 1n);
      const blockhash = this.#startSlot(slot);
      const current: OpenSlot = { slot, parent, bankId: this.#bankId };

      yield [slotUpdate(current, "createdBank")];
      for (let index = 0; index < this.#transactionsPerSlot; index++) {
        if (this.#signal?.aborted) return;
        yield await this.#transfer(slot, index, blockhash);
        if (this.#transactions % TRANSACTIONS_PER_TURN === 0) await new Promise((resolve) => setTimeout(resolve, 0));
      }
      yield [slotUpdate(current, "processed")];

      const previous = open.at(-1);
      if (previous) yield [slotUpdate(previous, "confirmed")];
      open.push(current);
      if (open.length > FINALIZED_SLOTS_BEHIND) yield [slotUpdate(open.shift()!, "finalized")];
      parent = slot;
    }
  }

  /** The 32 bytes of an address; kit takes 22 µs to decode one, and the same few come again and again. */
  keyBytes(address: Address): Uint8Array {
    let bytes = this.#keys.get(address);
    if (!bytes) {
      bytes = new Uint8Array(getAddressEncoder().encode(address));
      this.#keys.set(address, bytes);
    }
    return bytes;
  }

  /** LiteSVM has no blocks: moving the clock and drawing a new blockhash is what makes a slot. */
  #startSlot(slot: bigint): ReadonlyUint8Array {
    const { svm } = this.#bank;
    this.#bankId += 1n;
    const clock = svm.getClock();
    clock.slot = slot;
    clock.unixTimestamp = START_UNIX_SECONDS + (this.#bankId * MS_PER_SLOT) / 1000n;
    svm.setClock(clock);
    svm.expireBlockhash();
    return getBase58Encoder().encode(svm.latestBlockhash());
  }

  #initialState(slot: bigint): FeedUpdate[] {
    const { mints, wallets, tokenAccounts } = this.#bank;
    const addresses = [...mints, ...[...wallets, ...tokenAccounts].map(({ address }) => address)];
    return addresses.map((address) => ({ ...this.#readAccount(address, slot), startup: true, sourceNs: now() }));
  }

  async #transfer(slot: bigint, index: number, blockhash: ReadonlyUint8Array): Promise<FeedUpdate[]> {
    const count = this.#transactions++;
    const template = this.#template(...this.#pair(count));
    const fails = this.#failEvery > 0 && this.#transactions % this.#failEvery === 0;
    // Up to 5 tokens; no amount repeats within 5 million transfers, and so no signature does.
    const amount = fails ? MORE_THAN_THE_SUPPLY + BigInt(count) : BigInt(1 + ((count * 3_090_169) % 5_000_000));
    const message = template.message(amount, blockhash);
    const signature = await signBytes(template.signer.keyPair.privateKey, message);
    const transaction: Transaction = {
      messageBytes: message as ReadonlyUint8Array as TransactionMessageBytes,
      signatures: { [template.signer.address]: signature },
    };
    const result = this.#bank.svm.sendTransaction(transaction);

    const failed = result instanceof FailedTransactionMetadata;
    // What failed is rolled back, but its fee is paid all the same.
    const written = failed ? [template.signer.address] : template.writable;
    const sourceNs = now();
    const updates: FeedUpdate[] = [];
    for (const address of written) {
      const before = this.#reported.get(address);
      const after = this.#readAccount(address, slot, before);
      if (after !== before) updates.push({ ...after, signature, sourceNs });
    }
    const meta = metaBytes(result);
    const bankId = this.#bankId;
    updates.push({ kind: "transaction", slot, bankId, index, signature, message, meta, failed, vote: false, sourceNs });
    return updates;
  }

  /** Every account gives once and takes once per round, and each round pairs them differently. */
  #pair(count: number): [source: TokenAccount, destination: TokenAccount] {
    const { tokenAccounts } = this.#bank;
    const round = Math.floor(count / tokenAccounts.length);
    const step = MINTS * (1 + (round % (tokenAccounts.length / MINTS - 1))); // a multiple of MINTS: the same mint
    const source = count % tokenAccounts.length;
    return [tokenAccounts[source]!, tokenAccounts[(source + step) % tokenAccounts.length]!];
  }

  #template(source: TokenAccount, destination: TokenAccount): TransferTemplate {
    const key = source.address + destination.address;
    let template = this.#templates.get(key);
    if (!template) {
      template = new TransferTemplate(source, destination);
      this.#templates.set(key, template);
    }
    return template;
  }

  /** The account as the bank has it now; `before` itself if it is unchanged. */
  #readAccount(address: Address, slot: bigint, before?: FeedAccountUpdate): FeedAccountUpdate {
    const account = this.#bank.svm.getAccount(address);
    if (!account.exists) throw new Error(`Cannot read account ${address}: no transfer closes one`);
    const data = new Uint8Array(account.data);
    if (before?.lamports === account.lamports && isEqual(before.data, data)) return before;

    const after: FeedAccountUpdate = {
      kind: "account",
      pubkey: this.keyBytes(address),
      owner: this.keyBytes(account.programAddress),
      lamports: account.lamports,
      data,
      slot,
      bankId: this.#bankId,
      writeVersion: ++this.#writeVersion,
      rentEpoch: RENT_EXEMPT_EPOCH,
      executable: account.executable,
    };
    this.#reported.set(address, after);
    return after;
  }
}

/** A slot whose bank is not final yet. */
type OpenSlot = Pick<SlotUpdate, "slot" | "parent" | "bankId">;

function slotUpdate(slot: OpenSlot, status: SlotStatus): SlotUpdate {
  return { kind: "slot", ...slot, status, sourceNs: now() };
}

/** What a validator adds to a transaction, as JSON. */
function metaBytes(result: TransactionMetadata | FailedTransactionMetadata): Uint8Array {
  const failed = result instanceof FailedTransactionMetadata;
  const meta = failed ? result.meta() : result;
  return Buffer.from(JSON.stringify({
    error: failed ? result.err().toString() : null,
    computeUnits: Number(meta.computeUnitsConsumed()),
    logs: meta.logs(),
  }));
}

function isEqual(a: ReadonlyUint8Array, b: ReadonlyUint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/** Nanoseconds since the Unix epoch. */
function now(): bigint {
  return BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e6));
}
