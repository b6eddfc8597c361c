/**
 * One connection to a node: its subscriptions, as updates, until the first of them fails or slots come no more.
 * May touch: kit's clients, timers. May not touch: what happens after it.
 * What a node says is input: what could not be published ends the session, and not who feeds a sender from it.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { bytesFromAddress } from "../../address.ts";
import { PAYLOAD_BYTES_MAX } from "../../native/abi.generated.ts";
import { pause } from "../../pause.ts";
import type { Address, Update } from "../../types.ts";
import { bytesFromBase58 } from "../../wire/base58.ts";
import { Backoff, REFUSED_BACKOFF } from "../backoff.ts";
import type { SourceFilter } from "../source.ts";
import { ProtobufWriter } from "../yellowstone/protobuf.ts";
import type { Clients, LogsNotification, RpcAccount, SlotNotification } from "./kit.ts";

/** How a session works. */
export interface SessionOptions {
  readonly commitment: string;
  readonly votes: boolean;
  readonly staleMs: number;
  readonly state: boolean;
  readonly epoch: number;
}

/** Who gets what comes. `name`: what a newer update replaces it by. */
export interface SessionHandlers {
  onUpdate(name: string, update: Update, bytes: number): void;
  /** The node does not take a subscription, and goes on with the others; it is asked again in so many milliseconds. */
  onRefused(text: string, cause: unknown, retryMs: number): void;
  /** Called once, unless it is closed before. */
  onEnd(text: string, cause: unknown): void;
}

/** Accounts of one `getMultipleAccounts`: the RPC's limit. */
const ACCOUNTS_PER_REQUEST = 100;
/** Slots whose parents are remembered, for the chain from one root to the next. */
const PARENTS_MAX = 512;
const LOOKS_PER_STALE = 4;
/** How the names of subscriptions to accounts begin. */
const ACCOUNT = "account ";
const SIGNATURE_SIZE = 64;
const NO_MESSAGE = new Uint8Array(0);
const SYSTEM_PROGRAM = new Uint8Array(32);
const encoder = new TextEncoder();
/** Fields of `TransactionStatusMeta`. */
const Meta = { err: 1, logMessages: 6 } as const;

/** What is subscribed to, or asked for. */
interface Subscription {
  readonly abort: AbortController;
  /** Settles when the node has answered, or there is nothing to wait for any more. */
  readonly answer: PromiseWithResolvers<void>;
  isAnswered: boolean;
  isWanted: boolean;
  /** State was read although the node had not answered: it is read again behind the answer. */
  isStateEarly: boolean;
}

/** A running session. */
export class RpcSession {
  /** The newest slot; -1n before the first. */
  newestSlot = -1n;
  readonly #clients: Clients;
  readonly #options: SessionOptions;
  readonly #handlers: SessionHandlers;
  readonly #abort = new AbortController();
  /** By kind and key. */
  readonly #subscribed = new Map<string, Subscription>();
  /** The newest slot that was told of an account, of those whose state is asked for. */
  readonly #toldSlots = new Map<Address, bigint>();
  readonly #parents = new Map<bigint, bigint>();
  readonly #timer: ReturnType<typeof setInterval>;
  #root = -1n;
  #heardAt = performance.now();
  #lookedAt = performance.now();
  #arrivals = 0n;

  constructor(clients: Clients, options: SessionOptions, handlers: SessionHandlers) {
    this.#clients = clients;
    this.#options = options;
    this.#handlers = handlers;
    this.#follow(
      "slots",
      (signal) => clients.subscriptions.slotNotifications().subscribe({ abortSignal: signal }),
      (notification) => {
        this.#onSlot(notification);
      },
    );
    this.#timer = setInterval(() => this.#onLook(), options.staleMs / LOOKS_PER_STALE);
  }

  /** Ends it without a word. */
  close(): void {
    clearInterval(this.#timer);
    this.#abort.abort();
  }

  /** Subscribes to what is new in a filter, and to what is no longer in it no more. */
  want({ accounts = new Set(), owners = new Set(), transactions = {} }: SourceFilter): void {
    const { commitment, state, votes } = this.#options;
    const { subscriptions } = this.#clients;
    const config = { commitment, encoding: "base64" } as const;
    const kept = new Set(["slots"]);
    const added: Address[] = [];
    for (const address of accounts) {
      kept.add(`${ACCOUNT}${address}`);
      if (this.#subscribed.get(`${ACCOUNT}${address}`)?.isWanted) continue;
      added.push(address);
      this.#follow(
        `${ACCOUNT}${address}`,
        (signal) => subscriptions.accountNotifications(address, config).subscribe({ abortSignal: signal }),
        ({ context, value }) => this.#onAccount(address, value, context.slot, false),
      );
    }
    for (const owner of owners) {
      kept.add(`program ${owner}`);
      this.#follow(
        `program ${owner}`,
        (signal) => subscriptions.programNotifications(owner, config).subscribe({ abortSignal: signal }),
        ({ context, value }) => this.#onAccount(value.pubkey, value.account, context.slot, false),
      );
    }
    const logs = transactions.all === true ? ["all"] : [...transactions.accounts ?? []];
    for (const key of logs) {
      kept.add(`logs ${key}`);
      const filter = key !== "all" ? { mentions: [key as Address] as const } : votes ? "allWithVotes" : "all";
      this.#follow(
        `logs ${key}`,
        (signal) => subscriptions.logsNotifications(filter, { commitment }).subscribe({ abortSignal: signal }),
        ({ context, value }) => this.#onLogs(key === "all" ? undefined : key as Address, value, context.slot),
      );
    }
    for (const [name, subscription] of this.#subscribed) {
      if (kept.has(name)) continue;
      subscription.isWanted = false;
      if (subscription.isAnswered) this.#leave(name, subscription);
    }
    if (state) void this.#readState(added);
  }

  // What is subscribed to

  #follow<Notification>(
    name: string,
    subscribe: (signal: AbortSignal) => Promise<AsyncIterable<Notification>>,
    onNotification: (notification: Notification) => void,
  ): void {
    const known = this.#subscribed.get(name);
    if (known !== undefined) {
      known.isWanted = true;
      return;
    }
    const abort = new AbortController();
    const answer = Promise.withResolvers<void>();
    const subscription: Subscription = { abort, answer, isAnswered: false, isWanted: true, isStateEarly: false };
    this.#subscribed.set(name, subscription);
    const signal = AbortSignal.any([abort.signal, this.#abort.signal]);
    const backoff = new Backoff(REFUSED_BACKOFF);
    void (async () => {
      for (let refusals = 0; !signal.aborted; refusals++) {
        try {
          subscription.isAnswered = false;
          const notifications = await subscribe(signal);
          subscription.isAnswered = true;
          answer.resolve();
          if (!subscription.isWanted) this.#leave(name, subscription);
          if ((refusals > 0 || subscription.isStateEarly) && this.#options.state && name.startsWith(ACCOUNT)) {
            subscription.isStateEarly = false;
            void this.#readState([name.slice(ACCOUNT.length) as Address]);
          }
          for await (const notification of notifications) onNotification(notification);
          if (!signal.aborted) this.#end(`the subscription to ${name} ended`, undefined);
          return;
        } catch (error) {
          if (signal.aborted) return;
          // One consumer's wish that the node does not take must not be the end of all others'.
          if (name === "slots" || !isRefusal(error)) {
            return this.#end(`the subscription to ${name} failed: ${textOf(error)}`, error);
          }
          subscription.isAnswered = true; // the node has nothing to leave
          answer.resolve();
          if (!subscription.isWanted) return this.#leave(name, subscription);
          const retryMs = backoff.next(0);
          this.#handlers.onRefused(`the subscription to ${name} was refused: ${textOf(error)}`, error, retryMs);
          await pause(retryMs, signal);
        } finally {
          if (signal.aborted) answer.resolve();
        }
      }
    })();
  }

  /**
   * Only of what the node has answered: kit knows no id before that, so it would leave without a word, and the node would
   * go on telling until the socket ends.
   */
  #leave(name: string, { abort }: Subscription): void {
    this.#subscribed.delete(name);
    this.#toldSlots.delete(name.slice(ACCOUNT.length) as Address);
    abort.abort();
  }

  /**
   * Subscribed first, and read once the node has answered: what comes between is told, and is newer. What was written
   * between a state that is read before and the answer would be told by nobody.
   */
  async #readState(addresses: readonly Address[]): Promise<void> {
    const { signal } = this.#abort;
    const backoff = new Backoff(REFUSED_BACKOFF);
    for (let i = 0; i < addresses.length && !signal.aborted;) {
      try {
        await this.#readSome(addresses.slice(i, i + ACCOUNTS_PER_REQUEST));
        i += ACCOUNTS_PER_REQUEST;
      } catch (error) {
        if (signal.aborted) return;
        const text = `the state of accounts can't be read: ${textOf(error)}`;
        if (!isRefusal(error)) return this.#end(text, error);
        const retryMs = backoff.next(0); // too many requests, most likely
        this.#handlers.onRefused(text, error, retryMs);
        await pause(retryMs, signal);
      }
    }
  }

  async #readSome(addresses: readonly Address[]): Promise<void> {
    const { commitment, staleMs } = this.#options;
    const subscriptionTo = (address: Address) => this.#subscribed.get(`${ACCOUNT}${address}`);
    // One that the node leaves without an answer must not keep back the state of all others.
    const answered = new AbortController();
    const limit = pause(staleMs, AbortSignal.any([answered.signal, this.#abort.signal]));
    const answers = addresses.map((address) => subscriptionTo(address)?.answer.promise);
    await Promise.race([Promise.all(answers).then(() => answered.abort()), limit]);
    const wanted = addresses.filter((address) => subscriptionTo(address)?.isWanted);
    if (wanted.length === 0 || this.#abort.signal.aborted) return;
    for (const address of wanted) {
      const subscription = subscriptionTo(address)!;
      if (!subscription.isAnswered) subscription.isStateEarly = true;
    }
    const { context, value } = await this.#clients.requests
      .getMultipleAccounts(wanted, { commitment, encoding: "base64" })
      .send({ abortSignal: this.#abort.signal });
    wanted.forEach((address, at) => {
      const account = value[at];
      if ((this.#toldSlots.get(address) ?? -1n) >= context.slot || account === null || account === undefined) return;
      this.#onAccount(address, account, context.slot, true);
    });
  }

  #onAccount(address: Address, account: RpcAccount, slot: bigint, startup: boolean): void {
    assertU64(slot, "an account's slot");
    assertU64(account.lamports, "a balance");
    if (this.#subscribed.has(`${ACCOUNT}${address}`)) this.#toldSlots.set(address, slot);
    const data = Buffer.from(account.data[0], "base64");
    assertPublishable(data, "an account");
    const { lamports, owner, executable } = account;
    // A closed account belongs to the system program.
    const ownerBytes = lamports === 0n && data.length === 0 ? SYSTEM_PROGRAM : bytesFromAddress(owner);
    this.#handlers.onUpdate(`${ACCOUNT}${address}`, {
      kind: "account",
      pubkey: bytesFromAddress(address),
      owner: ownerBytes,
      lamports,
      data: new Uint8Array(data.buffer, data.byteOffset, data.length),
      slot,
      writeVersion: ++this.#arrivals, // a node tells none: the order in which they came
      executable,
      startup,
      lossy: true,
      sourceEpoch: this.#options.epoch,
    }, data.length);
  }

  #onLogs(mentioned: Address | undefined, { signature, err, logs }: LogsNotification, slot: bigint): void {
    assertU64(slot, "the slot of logs");
    const bytes = bytesFromBase58(signature, SIGNATURE_SIZE, "signature");
    if (bytes.length !== SIGNATURE_SIZE) throw new RangeError(`a signature has ${bytes.length} bytes`);
    const meta = new ProtobufWriter();
    if (err !== null) {
      const error = encoder.encode(
        JSON.stringify(err, (_key, value) => typeof value === "bigint" ? value.toString() : value),
      );
      meta.message(Meta.err, (inner) => inner.bytes(1, error));
    }
    for (const log of logs ?? []) meta.text(Meta.logMessages, log);
    const said = meta.finish().slice();
    assertPublishable(said, "what a node says of a transaction");
    const loadedAddresses = mentioned === undefined
      ? undefined
      : { writable: [], readonly: [bytesFromAddress(mentioned)] };
    this.#handlers.onUpdate(`logs ${signature}`, {
      kind: "transaction",
      slot,
      index: 0,
      signature: bytes,
      message: NO_MESSAGE,
      meta: said,
      loadedAddresses,
      failed: err !== null,
      lossy: true,
    }, said.length);
  }

  #onSlot({ slot, parent, root }: SlotNotification): void {
    assertU64(slot, "a slot");
    assertU64(parent, "a slot's parent");
    assertU64(root, "a root");
    // What follows goes from child to parent, which has to come to an end.
    if (parent >= slot && slot > 0n) throw new RangeError(`slot ${slot} has the parent ${parent}`);
    if (slot > this.newestSlot) {
      this.newestSlot = slot;
      this.#heardAt = performance.now();
    }
    this.#parents.set(slot, parent);
    if (this.#parents.size > PARENTS_MAX) this.#parents.delete(this.#parents.keys().next().value!);
    this.#handlers.onUpdate("slot", { kind: "slot", slot, parent, status: "processed", lossy: true }, 0);
    if (root <= this.#root) return;
    // Every slot between two roots is final as well, if it is an ancestor of the newer one.
    const final: bigint[] = [];
    for (let at: bigint | undefined = root; at !== undefined && at > this.#root; at = this.#parents.get(at)) {
      final.push(at);
      if (this.#root < 0n) break;
    }
    this.#root = root;
    for (const at of final.reverse()) {
      const parentOf = this.#parents.get(at) ?? (at > 0n ? at - 1n : 0n);
      this.#handlers.onUpdate(
        "root",
        { kind: "slot", slot: at, parent: parentOf, status: "finalized", lossy: true },
        0,
      );
    }
  }

  #onLook(): void {
    const now = performance.now();
    const { staleMs } = this.#options;
    const stoodStill = now - this.#lookedAt > (2 * staleMs) / LOOKS_PER_STALE;
    this.#lookedAt = now;
    if (stoodStill) this.#heardAt = Math.max(this.#heardAt, now - staleMs / 2);
    else if (now - this.#heardAt > staleMs) {
      this.#end(`no newer slot for ${Math.round(now - this.#heardAt)} ms`, undefined);
    }
  }

  #end(text: string, cause: unknown): void {
    if (this.#abort.signal.aborted) return;
    this.close();
    this.#handlers.onEnd(text, cause);
  }
}

/** Of kit's errors: the number, for what JSON-RPC says its own, which is below 0; and HTTP's status. */
interface ErrorContext {
  readonly __code?: number;
  readonly statusCode?: number;
}

/** Whether it is the node that says no, and not the way to it that is broken. */
function isRefusal(error: unknown): boolean {
  const context = (error as { readonly context?: ErrorContext } | undefined)?.context;
  return (context?.__code ?? 0) < 0 || context?.statusCode !== undefined;
}

/** @throws {TypeError} for what no 64 bits without sign are. */
function assertU64(value: unknown, name: string): void {
  if (typeof value === "bigint" && BigInt.asUintN(64, value) === value) return;
  throw new TypeError(`${name} is no number of 64 bits`);
}

/** @throws {RangeError} for more than a frame holds. */
function assertPublishable(bytes: Uint8Array, name: string): void {
  if (bytes.length <= PAYLOAD_BYTES_MAX) return;
  throw new RangeError(`${name} has ${bytes.length} bytes, more than the ${PAYLOAD_BYTES_MAX} that can be published`);
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
