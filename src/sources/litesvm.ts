/**
 * LiteSVM as a source of updates, for tests of who consumes them: a bank in this process, whose every transaction yields
 * what it wrote, itself, and its slot, as a validator would tell.
 *
 * @module
 */

import { addressFromBytes, bytesFromAddress } from "../address.ts";
import { QlasterError } from "../errors.ts";
import type { AccountUpdate, Address, ReadonlyUint8Array, SlotStatus, Update } from "../types.ts";
import { BatchQueue } from "./batch_queue.ts";
import { DemandFollower } from "./demand_follower.ts";
import {
  isFailure,
  type LitesvmAccount,
  type LitesvmFailure,
  type LitesvmInstance,
  type LitesvmMetadata,
  type LitesvmTransaction,
  metaOf,
} from "./litesvm/instance.ts";
import { keysOfMessage } from "./litesvm/message.ts";
import { nextSourceEpoch, type Source, type SourceDemand, type SourceFilter } from "./source.ts";

export type { LitesvmAccount, LitesvmFailure, LitesvmInstance, LitesvmMetadata } from "./litesvm/instance.ts";
export type { Source, SourceDemand, SourceFilter } from "./source.ts";

/** How a LiteSVM source is set up. */
export interface LitesvmOptions {
  /**
   * Whose state is told before its first change, marked `startup`: accounts by address, and those of programs, as soon as
   * they are asked for. Changes come of all accounts, whatever is asked for. Default none.
   */
  readonly demand?: SourceDemand | SourceFilter;
  /** Slots after which a slot is confirmed. Default 1. */
  readonly confirmedAfter?: number;
  /** Slots after which a slot is final. Default 31. */
  readonly finalizedAfter?: number;
  /** Most updates that may wait to be taken. Default 262144. */
  readonly pendingMax?: number;
}

/** A slot whose bank is not final. */
interface OpenSlot {
  readonly slot: bigint;
  readonly parent: bigint;
  readonly bankId: bigint;
}

interface Known {
  readonly lamports: bigint;
  readonly owner: Address;
  readonly data: Uint8Array;
  readonly executable: boolean;
}

const SYSTEM_PROGRAM = "11111111111111111111111111111111" as Address;
const KEY_SIZE = 32;
/** Bytes of a lookup table's account before its addresses. */
const TABLE_HEADER_SIZE = 56;

/**
 * Wraps an instance. Use `source.svm` from then on: what goes through it is told.
 *
 * **Told**: `sendTransaction` (a failed one that paid, too; not one that was refused before it ran), `airdrop`,
 * `setAccount`; `warpToSlot` and `setClock` end a slot and begin another one. **Order**: what a transaction wrote, then
 * itself. Accounts that it locked and left as they were are not told. **Not there**: forks, votes, skipped slots: `emit`
 * puts in what a test needs.
 *
 * @example
 * ```ts ignore
 * import { LiteSVM } from "litesvm";
 * import { litesvm } from "@qlaster/core/sources/litesvm";
 *
 * const source = litesvm(new LiteSVM(), { demand: sender.demand });
 * const fed = sender.feed(source);
 * source.svm.sendTransaction(transaction);
 * source.nextSlot();
 * ```
 */
export function litesvm<Instance extends LitesvmInstance>(
  svm: Instance,
  options: LitesvmOptions = {},
): LitesvmSource<Instance> {
  return new LitesvmSource(svm, options);
}

/** See {@linkcode litesvm}. */
export class LitesvmSource<Instance extends LitesvmInstance = LitesvmInstance> implements Source {
  /** The instance: everything that it can, told. */
  readonly svm: Instance;

  readonly #svm: Instance;
  readonly #queue: BatchQueue;
  readonly #pendingMax: number;
  readonly #confirmedAfter: number;
  readonly #finalizedAfter: number;
  readonly #epoch = nextSourceEpoch();
  readonly #wanted: DemandFollower | undefined;
  /** By address: what was told last, or was there before. */
  readonly #known = new Map<Address, Known>();
  /** What was asked for already. */
  #asked: { accounts: ReadonlySet<Address>; owners: ReadonlySet<Address> } = { accounts: new Set(), owners: new Set() };
  readonly #bytes = new Map<Address, Uint8Array>();
  /** Banks that are not final, oldest first; the last one is open. */
  #open: OpenSlot[] = [];
  #bankCount = 0n;
  #writeVersion = 0n;
  #index = 0;
  #invented = 0n;
  #drained: PromiseWithResolvers<void> | undefined;
  #isStarted = false;
  #isClosed = false;

  /** @internal Use {@linkcode litesvm}. */
  constructor(svm: Instance, options: LitesvmOptions) {
    const { confirmedAfter = 1, finalizedAfter = 31, pendingMax = 262_144 } = options;
    if (!(confirmedAfter >= 0 && finalizedAfter >= confirmedAfter && pendingMax > 0)) {
      throw new RangeError("litesvm needs 0 <= confirmedAfter <= finalizedAfter, and a pendingMax above 0");
    }
    this.#svm = svm;
    this.#confirmedAfter = confirmedAfter;
    this.#finalizedAfter = finalizedAfter;
    this.#pendingMax = pendingMax;
    this.#wanted = options.demand === undefined ? undefined : new DemandFollower(options.demand);
    this.#queue = new BatchQueue({
      bytesMax: Infinity,
      updatesMax: pendingMax,
      onRoom: () => this.#onRoom(),
      onReturn: () => this.close(),
    });
    this.svm = this.#wrap(svm);
    const { slot } = svm.getClock();
    this.#openSlot(slot, slot > 0n ? slot - 1n : 0n);
  }

  /** Starts it. One loop can read it, once; what was told before is in it. */
  [Symbol.asyncIterator](): AsyncIterator<readonly Update[]> {
    if (this.#isStarted) throw new TypeError("A source can be iterated once");
    this.#isStarted = true;
    if (!this.#isClosed) void this.#followDemand();
    return this.#queue;
  }

  /** Ends the present slot, with its statuses, and begins the next one, with a blockhash of its own. */
  nextSlot(): void {
    const { slot } = this.#svm.getClock();
    const svm = this.svm as Instance & { warpToSlot(slot: bigint): void; expireBlockhash?(): void };
    svm.warpToSlot(slot + 1n);
    svm.expireBlockhash?.();
  }

  /** Puts in an update of the test's own: a dead slot, a fork, an account from nowhere. */
  emit(...updates: readonly Update[]): void {
    this.#assertRoom();
    this.#queue.pending.push(...updates);
    this.#queue.flush(0);
  }

  /** Waits until everything has been taken. */
  drained(): Promise<void> {
    if (this.#queue.pending.length === 0 || this.#isClosed) return Promise.resolve();
    this.#drained ??= Promise.withResolvers();
    return this.#drained.promise;
  }

  /** Ends it: the loop ends after what was told. The instance can be used on. May be called twice. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#queue.end();
    this.#onRoom();
    this.#wanted?.leave();
  }

  /** The same as `close()`. */
  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  #onRoom(): void {
    if (this.#queue.pending.length > 0 && !this.#isClosed) return;
    this.#drained?.resolve();
    this.#drained = undefined;
  }

  /** The instance, some of whose methods tell. */
  #wrap(svm: Instance): Instance {
    const told: Record<string, (...args: never[]) => unknown> = {
      sendTransaction: (transaction: LitesvmTransaction) => this.#send(transaction),
      airdrop: (address: Address, lamports: bigint) => this.#airdrop(address, lamports),
      setAccount: (account: { readonly address: Address }) => this.#setAccount(account),
      warpToSlot: (slot: bigint) => this.#moveClock(() => this.#call("warpToSlot", slot)),
      setClock: (clock: unknown) => this.#moveClock(() => this.#call("setClock", clock)),
    };
    return new Proxy(svm, {
      get: (target, name, receiver) =>
        typeof name === "string" && Object.hasOwn(told, name) && name in target
          ? told[name]
          : Reflect.get(target, name, receiver),
    });
  }

  #call(name: string, ...args: unknown[]): unknown {
    return (this.#svm as unknown as Record<string, (...args: unknown[]) => unknown>)[name]!(...args);
  }

  // What happens

  #send(transaction: LitesvmTransaction): unknown {
    this.#assertRoom();
    const message = bytesOf(transaction.messageBytes);
    const { keys, isWritable, lookups } = keysOfMessage(message);
    const loaded = this.#load(lookups);
    const writable = [...keys.filter((_, i) => isWritable(i)), ...loaded.writable].map((key) => this.#addressOf(key));
    // What is not known yet has to be known before it changes.
    for (const address of writable) if (!this.#known.has(address)) this.#known.set(address, this.#read(address));

    const outcome = this.#svm.sendTransaction(transaction) as LitesvmMetadata | LitesvmFailure;
    if (this.#isClosed) return outcome;
    const failed = isFailure(outcome);
    const signature = this.#signatureOf(transaction, this.#addressOf(keys[0]!));
    // What failed is rolled back, but its fee is paid; what was refused has not even done that.
    const changes = this.#changes(failed ? writable.slice(0, 1) : writable, signature);
    if (failed && changes.length === 0) return outcome;
    const { slot, bankId } = this.#open.at(-1)!;
    const meta = metaOf(outcome, loaded);
    const index = this.#index++;
    this.#queue.pending.push(...changes, {
      kind: "transaction",
      slot,
      bankId,
      index,
      signature,
      message,
      meta,
      ...lookups.length === 0 ? {} : { loadedAddresses: loaded },
      failed,
      vote: false,
      sourceNs: now(),
    });
    this.#queue.flush(0);
    return outcome;
  }

  #airdrop(address: Address, lamports: bigint): unknown {
    this.#assertRoom();
    const outcome = this.#call("airdrop", address, lamports);
    this.#tellAccount(address);
    return outcome;
  }

  #setAccount(account: { readonly address: Address }): unknown {
    this.#assertRoom();
    const result = this.#call("setAccount", account);
    this.#tellAccount(account.address);
    return result === this.#svm ? this.svm : result;
  }

  #tellAccount(address: Address): void {
    if (this.#isClosed) return;
    this.#queue.pending.push(...this.#changes([address], undefined));
    this.#queue.flush(0);
  }

  /** The slot may be another one afterwards: then the one before is over. */
  #moveClock(move: () => unknown): unknown {
    this.#assertRoom();
    const result = move();
    const { slot } = this.#svm.getClock();
    const last = this.#open.at(-1)!;
    if (slot === last.slot || this.#isClosed) return result === this.#svm ? this.svm : result;
    this.#tellSlot(last, "processed");
    const { length } = this.#open;
    const confirmed = this.#open[length - 1 - this.#confirmedAfter];
    if (confirmed !== undefined) this.#tellSlot(confirmed, "confirmed");
    if (length > this.#finalizedAfter) this.#tellSlot(this.#open.shift()!, "finalized");
    this.#openSlot(slot, last.slot < slot ? last.slot : slot > 0n ? slot - 1n : 0n);
    return result === this.#svm ? this.svm : result;
  }

  #openSlot(slot: bigint, parent: bigint): void {
    const open = { slot, parent, bankId: ++this.#bankCount };
    this.#open.push(open);
    this.#index = 0;
    this.#tellSlot(open, "createdBank");
  }

  #tellSlot({ slot, parent, bankId }: OpenSlot, status: SlotStatus): void {
    this.#queue.pending.push({ kind: "slot", slot, parent, bankId, status, sourceNs: now() });
    this.#queue.flush(0);
  }

  // Accounts

  /** Updates of those that are not as they were. */
  #changes(addresses: readonly Address[], signature: Uint8Array | undefined): AccountUpdate[] {
    const updates: AccountUpdate[] = [];
    for (const address of addresses) {
      const before = this.#known.get(address);
      const after = this.#read(address);
      if (before !== undefined && isSame(before, after)) continue;
      this.#known.set(address, after);
      updates.push(this.#update(address, after, signature, false));
    }
    return updates;
  }

  #update(address: Address, account: Known, signature: Uint8Array | undefined, startup: boolean): AccountUpdate {
    const { slot, bankId } = this.#open.at(-1)!;
    return {
      kind: "account",
      pubkey: this.#bytesOf(address),
      owner: this.#bytesOf(account.owner),
      lamports: account.lamports,
      data: account.data,
      executable: account.executable,
      slot,
      bankId,
      writeVersion: ++this.#writeVersion,
      signature,
      startup,
      sourceNs: now(),
      sourceEpoch: this.#epoch,
    };
  }

  /** An account that is not there is what a validator tells of one that was closed. */
  #read(address: Address): Known {
    const account = this.#svm.getAccount(address) as LitesvmAccount;
    if (!account.exists) return { lamports: 0n, owner: SYSTEM_PROGRAM, data: new Uint8Array(0), executable: false };
    const { lamports, programAddress: owner, executable } = account;
    return { lamports, owner, data: new Uint8Array(account.data), executable };
  }

  /** The addresses that lookup tables stand for. A table that is not there has none. */
  #load(lookups: ReturnType<typeof keysOfMessage>["lookups"]): { writable: Uint8Array[]; readonly: Uint8Array[] } {
    const loaded = { writable: [] as Uint8Array[], readonly: [] as Uint8Array[] };
    for (const { table, writable, readonly } of lookups) {
      const { data } = this.#read(this.#addressOf(table));
      const entry = (index: number) => data.slice(TABLE_HEADER_SIZE + index * KEY_SIZE).subarray(0, KEY_SIZE);
      const isThere = (key: Uint8Array) => key.length === KEY_SIZE;
      loaded.writable.push(...writable.map(entry).filter(isThere));
      loaded.readonly.push(...readonly.map(entry).filter(isThere));
    }
    return loaded;
  }

  /** With signatures unchecked there may be none: then one is made up, which no other has. */
  #signatureOf({ signatures }: LitesvmTransaction, payer: Address): Uint8Array {
    const signature = signatures[payer];
    if (signature instanceof Uint8Array && signature.length === 64) return signature.slice();
    const invented = new Uint8Array(64);
    new DataView(invented.buffer).setBigUint64(0, ++this.#invented);
    return invented;
  }

  // What is asked for

  async #followDemand(): Promise<void> {
    if (this.#wanted === undefined) return;
    try {
      this.#tellState(this.#wanted.current);
      await this.#wanted.follow((wanted) => this.#tellState(wanted));
    } catch (error) {
      this.#isClosed = true;
      this.#queue.end({ error });
    }
  }

  /** The state of what was not asked for before. */
  #tellState({ accounts = new Set(), owners = new Set() }: SourceFilter): void {
    const asked = this.#asked;
    this.#asked = { accounts, owners };
    const addresses = new Set([...accounts].filter((address) => !asked.accounts.has(address)));
    for (const owner of owners) {
      if (asked.owners.has(owner)) continue;
      const found = this.#svm.getProgramAccounts(owner) as readonly { readonly address: Address }[];
      for (const { address } of found) addresses.add(address);
    }
    for (const address of addresses) {
      const account = this.#read(address);
      this.#known.set(address, account);
      if (account.lamports === 0n) continue; // not there: nothing to tell
      this.#queue.pending.push(this.#update(address, account, undefined, true));
    }
    this.#queue.flush(0);
  }

  // Small things

  #assertRoom(): void {
    if (this.#queue.pending.length < this.#pendingMax || this.#isClosed) return;
    const text = `Cannot tell more than ${this.#pendingMax} updates that nobody takes`;
    throw new QlasterError("SOURCE_FULL", text);
  }

  #bytesOf(address: Address): Uint8Array {
    let bytes = this.#bytes.get(address);
    if (bytes === undefined) this.#bytes.set(address, bytes = bytesFromAddress(address));
    return bytes;
  }

  #addressOf(key: Uint8Array): Address {
    return addressFromBytes(key as ReadonlyUint8Array);
  }
}

function bytesOf(bytes: { readonly length: number }): Uint8Array {
  if (!(bytes instanceof Uint8Array)) throw new TypeError("messageBytes of a transaction must be a Uint8Array");
  return bytes.slice(); // its owner may change it
}

function isSame(a: Known, b: Known): boolean {
  return a.lamports === b.lamports && a.owner === b.owner && a.executable === b.executable &&
    a.data.length === b.data.length && a.data.every((byte, i) => byte === b.data[i]);
}

/** Nanoseconds since the Unix epoch. */
function now(): bigint {
  return BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e6));
}
