/**
 * What the processes of tests/model/processes_test.ts do: publish updates, edit filters, read with pauses. Runs inside
 * agents; the test uses the same functions to say what an update is.
 * May touch: a sender or a consumer that it is given. May not touch: src/ at run time, files, processes.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { setImmediate } from "node:timers";
import type { Consumer, NamedFilter, Sender, SlotStatus, Update, UpdateView } from "../../../mod.ts";
import { accountKey, ownerKey } from "../../support/script.ts";

// Updates, as JSON can carry them

/** Keys and owners by their numbers, bytes by their length and seed. */
export type UpdateSpec =
  | {
    readonly kind: "account";
    readonly key: number;
    readonly owner: number;
    readonly lamports: number;
    readonly length: number;
    readonly seed: number;
    readonly slot: number;
    readonly startup: boolean;
    readonly hasSignature: boolean;
  }
  | {
    readonly kind: "transaction";
    readonly keys: readonly number[];
    readonly length: number;
    readonly seed: number;
    readonly slot: number;
    readonly vote: boolean;
    readonly failed: boolean;
    readonly signature: number;
    readonly hasMeta: boolean;
    /** Of the keys that it loaded from lookup tables. */
    readonly writable: readonly number[];
    readonly readonly: readonly number[];
  }
  | { readonly kind: "slot"; readonly slot: number; readonly status: SlotStatus };

/** The same first bytes for the same seed, whatever the length: what `memcmp` looks for. */
export function fill(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (seed * 53 + i * 7 + (i >> 8)) & 255);
}

export const signatureOf = (number: number): Uint8Array => fill(64, 100 + number);

/** A legacy message that names these keys. */
function messageOf(keys: readonly number[], length: number, seed: number): Uint8Array {
  const start = 4 + 32 * keys.length;
  const message = new Uint8Array(start + 32 + length);
  message.set([1, 0, 0, keys.length]);
  keys.forEach((key, i) => message.set(accountKey(key), 4 + 32 * i));
  message.set(fill(32 + length, seed), start);
  return message;
}

/** @param number Its place in the schedule: tells apart what is otherwise equal. */
export function updateOf(spec: UpdateSpec, number: number): Update {
  switch (spec.kind) {
    case "account":
      return {
        kind: "account",
        pubkey: accountKey(spec.key),
        owner: ownerKey(spec.owner),
        lamports: BigInt(spec.lamports),
        data: fill(spec.length, spec.seed),
        slot: BigInt(spec.slot),
        writeVersion: BigInt(number),
        startup: spec.startup,
        signature: spec.hasSignature ? signatureOf(0) : undefined,
      };
    case "transaction":
      return {
        kind: "transaction",
        slot: BigInt(spec.slot),
        index: number,
        signature: signatureOf(spec.signature),
        message: messageOf(spec.keys, spec.length, spec.seed),
        meta: spec.hasMeta ? fill(40, spec.seed) : undefined,
        loadedAddresses: { writable: spec.writable.map(accountKey), readonly: spec.readonly.map(accountKey) },
        vote: spec.vote,
        failed: spec.failed,
      };
    case "slot":
      return { kind: "slot", slot: BigInt(spec.slot), parent: BigInt(spec.slot - 1), status: spec.status };
  }
}

// Filters, likewise

export interface AccountFilterSpec {
  readonly accounts?: readonly number[];
  readonly owners?: readonly number[];
  readonly excludeAccounts?: readonly number[];
  readonly excludeOwners?: readonly number[];
  readonly dataSize?: number | { readonly min?: number; readonly max?: number };
  /** The seed of data that begin as wanted. */
  readonly memcmp?: number;
  readonly lamportsAbove?: number;
  readonly startup?: boolean;
  readonly nonemptyTxnSignature?: boolean;
  readonly onlyChanged?: true;
  readonly dataSlice?: readonly { readonly offset: number; readonly length: number }[];
}

export interface TransactionFilterSpec {
  readonly vote?: boolean;
  readonly failed?: boolean;
  readonly signature?: number;
  readonly accountInclude?: readonly number[];
  readonly accountExclude?: readonly number[];
  readonly accountRequired?: readonly number[];
}

export type FilterSpec =
  | { readonly accounts: AccountFilterSpec | true }
  | { readonly transactions: TransactionFilterSpec | true }
  | { readonly slots: { readonly statuses: readonly SlotStatus[] } | true };

export function filterOf(spec: FilterSpec): NamedFilter {
  if ("slots" in spec) return { slots: spec.slots };
  if ("transactions" in spec) {
    if (spec.transactions === true) return { transactions: true };
    const { signature, accountInclude, accountExclude, accountRequired, ...flags } = spec.transactions;
    return {
      transactions: {
        ...flags,
        ...(signature !== undefined && { signature: signatureOf(signature) }),
        ...(accountInclude !== undefined && { accountInclude: accountInclude.map(accountKey) }),
        ...(accountExclude !== undefined && { accountExclude: accountExclude.map(accountKey) }),
        ...(accountRequired !== undefined && { accountRequired: accountRequired.map(accountKey) }),
      },
    };
  }
  if (spec.accounts === true) return { accounts: true };
  const { accounts, owners, excludeAccounts, excludeOwners, memcmp, lamportsAbove, ...plain } = spec.accounts;
  return {
    accounts: {
      ...plain,
      ...(accounts !== undefined && { accounts: accounts.map(accountKey) }),
      ...(owners !== undefined && { owners: owners.map(ownerKey) }),
      ...(excludeAccounts !== undefined && { excludeAccounts: excludeAccounts.map(accountKey) }),
      ...(excludeOwners !== undefined && { excludeOwners: excludeOwners.map(ownerKey) }),
      ...(memcmp !== undefined && { memcmp: [{ offset: 1, bytes: fill(3, memcmp).slice(1) }] }),
      ...(lamportsAbove !== undefined && { lamports: { gt: BigInt(lamportsAbove) } }),
    },
  };
}

// What arrives

/** Everything of an update but its place, as one line. A view has these fields; so has what the reference expects. */
// deno-lint-ignore no-explicit-any
export function contentOf(update: any): string {
  const hash = (bytes: Uint8Array | undefined) =>
    bytes === undefined ? "-" : `${bytes.length}:${createHash("sha256").update(bytes).digest("hex").slice(0, 16)}`;
  const { kind } = update;
  switch (kind) {
    case "account": {
      const { pubkey, owner, lamports, slot, writeVersion, startup, signature, data } = update;
      const { isSliced, isClipped, fullLength } = update;
      return [kind, hash(pubkey), hash(owner), lamports, slot, writeVersion, startup, hash(signature), hash(data)]
        .concat([isSliced, isClipped, fullLength]).join(" ");
    }
    case "transaction": {
      const { slot, index, signature, message, meta, vote, failed, loadedAddresses } = update;
      const loaded = [loadedAddresses.writable.map(hash), "|", loadedAddresses.readonly.map(hash)].flat();
      return [kind, slot, index, hash(signature), hash(message), hash(meta), vote, failed, ...loaded].join(" ");
    }
    case "slot": {
      const { slot, parent, status, accountsPublished, transactionsPublished } = update;
      return [kind, slot, parent, status, accountsPublished, transactionsPublished].join(" ");
    }
    default: { // left
      const { pubkey, owner, lamports, slot, writeVersion } = update;
      return [kind, hash(pubkey), hash(owner), lamports, slot, writeVersion].join(" ");
    }
  }
}

/** One frame as a consumer saw it. */
export interface Seen {
  readonly kind: UpdateView["kind"];
  readonly sequence: number;
  readonly lost: number;
  readonly content: string;
  /** Sorted. */
  readonly filters: readonly string[];
  /** What the consumer said when it had this frame. */
  readonly generation: number;
  /** Of a slot. */
  readonly accountsLost?: number;
  readonly transactionsLost?: number;
  /** Of a gap. */
  readonly lostTotal?: number;
}

// The sender

/** What goes out without a turn of the event loop; then so many turns. */
export interface Chunk {
  readonly isBatch: boolean;
  readonly updates: readonly UpdateSpec[];
  readonly turns: number;
}

const turn = () => new Promise<void>((resolve) => void setImmediate(resolve));

/**
 * Publishes all of it in its order, waiting where a consumer's policy is "block".
 * @param first Number of the first update.
 * @param onChunk Called before each chunk.
 * @returns How often it had to wait.
 */
export async function publish(
  sender: Sender,
  chunks: readonly Chunk[],
  first: number,
  onChunk: (index: number) => void,
): Promise<number> {
  let number = first;
  let waits = 0;
  for (const [i, { isBatch, updates, turns }] of chunks.entries()) {
    onChunk(i);
    let rest = updates.map((spec, j) => updateOf(spec, number + j));
    number += updates.length;
    while (rest.length > 0) {
      const done = isBatch ? publishBatch(sender, rest) : publishOne(sender, rest[0]!) < 0 ? 0 : 1;
      rest = rest.slice(done);
      if (rest.length === 0 || (!isBatch && done === 1)) continue;
      waits++;
      await sender.drained();
    }
    for (let j = 0; j < turns; j++) await turn();
  }
  return waits;
}

function publishOne(sender: Sender, update: Update): number {
  if (update.kind === "account") return sender.publishAccount(update);
  return update.kind === "transaction" ? sender.publishTransaction(update) : sender.publishSlot(update);
}

/** @returns How many went out. */
function publishBatch(sender: Sender, updates: readonly Update[]): number {
  try {
    sender.publishBatch(updates);
    return updates.length;
  } catch (error) {
    if ((error as { code?: string }).code !== "SENDER_CONGESTED") throw error;
    return (error as { published?: number }).published!;
  }
}

/** Looks until nothing is unread and nothing waits: no event tells. */
export async function whenRead(sender: Sender): Promise<void> {
  while (sender.consumers().some(({ ring, waiting }) => ring.usedBytes > 0 || waiting.frames > 0)) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

// A consumer

export type EditSpec =
  | {
    readonly op: "subscribe" | "unsubscribe";
    readonly accounts: readonly number[];
    readonly owners: readonly number[];
    readonly transactions: boolean;
  }
  | { readonly op: "set"; readonly name: string; readonly filter: FilterSpec }
  | {
    readonly op: "add" | "take";
    readonly name: string;
    readonly list: "accounts" | "owners";
    readonly keys: readonly number[];
  }
  | { readonly op: "remove"; readonly name: string };

/** When an edit took effect; undefined if nobody said. */
export type Acked = { readonly sequence: number; readonly generation: number } | null;

export type ReadingMode = "for await" | "poll" | "batches";

/** Reads one consumer until its end, with pauses, and asks for what it is told to ask for. */
export class ReadingPeer {
  readonly seen: Seen[] = [];
  readonly #consumer: Consumer;
  #paused: PromiseWithResolvers<void> | undefined;
  readonly #reading: Promise<string | undefined>;

  constructor(consumer: Consumer, mode: ReadingMode) {
    this.#consumer = consumer;
    this.#reading = this.#read(mode).then(() => undefined, (error) => {
      if ((error as { code?: string }).code !== "CONNECTION_LOST") throw error;
      return (error as Error).message;
    });
  }

  /** From the next update on, which it keeps, nothing more is read. */
  pause(): void {
    this.#paused ??= Promise.withResolvers();
  }

  resume(): void {
    this.#paused?.resolve();
    this.#paused = undefined;
  }

  /** @returns Answers in the order of the edits. None after the end. */
  async edit(edits: readonly EditSpec[], isAtOnce: boolean): Promise<Acked[]> {
    const ask = (edit: EditSpec): Promise<Acked> =>
      this.#ask(edit).then(
        ({ sequence, generation }) => ({ sequence: Number(sequence), generation }),
        (error) => {
          if ((error as { code?: string }).code !== "CONNECTION_LOST") throw error;
          return null;
        },
      );
    if (isAtOnce) return await Promise.all(edits.map(ask));
    const answers: Acked[] = [];
    for (const edit of edits) answers.push(await ask(edit));
    return answers;
  }

  async #ask(edit: EditSpec) {
    const consumer = this.#consumer;
    switch (edit.op) {
      case "subscribe":
      case "unsubscribe":
        return await consumer[edit.op]({
          accounts: edit.accounts.map(accountKey),
          owners: edit.owners.map(ownerKey),
          transactions: edit.transactions,
        });
      case "set":
        return await consumer.setFilter(edit.name, filterOf(edit.filter));
      case "add":
      case "take": {
        const keys = edit.keys.map(edit.list === "owners" ? ownerKey : accountKey);
        return await consumer.editFilter(edit.name, edit.op === "add" ? { add: keys } : { remove: keys });
      }
      case "remove":
        return await consumer.removeFilter(edit.name);
    }
  }

  async #read(mode: ReadingMode): Promise<void> {
    const consumer = this.#consumer;
    switch (mode) {
      case "for await":
        for await (const update of consumer) {
          this.#note(update);
          await this.#paused?.promise;
        }
        return;
      case "batches":
        for await (const batch of consumer.batches()) {
          for (const update of batch) {
            this.#note(update);
            await this.#paused?.promise;
          }
        }
        return;
      case "poll":
        while (consumer.ended === undefined) {
          await this.#paused?.promise;
          if (consumer.poll((update) => this.#note(update), 5) === 0) {
            await new Promise((resolve) => setTimeout(resolve, 0));
          }
        }
    }
  }

  #note(update: UpdateView): void {
    const { kind, lost, filters } = update;
    const isMark = kind === "gap" || kind === "filter";
    this.seen.push({
      kind,
      sequence: update.sequenceNumber,
      lost,
      content: isMark ? "" : contentOf(update),
      filters: [...filters].sort(),
      generation: this.#consumer.filterGeneration,
      ...(kind === "slot" && { accountsLost: update.accountsLost, transactionsLost: update.transactionsLost }),
      ...(kind === "gap" && { lostTotal: update.lostTotal }),
    });
  }

  /** Once the connection has ended. */
  async finish(): Promise<Finished> {
    this.resume();
    const error = await this.#reading;
    const { frames, lost, conflated } = this.#consumer.metrics;
    const reason = this.#consumer.ended?.reason ?? "";
    return { seen: this.seen, error: error ?? "", reason, frames, lost, conflated };
  }
}

export interface Finished {
  readonly seen: readonly Seen[];
  /** Empty for none. */
  readonly error: string;
  readonly reason: string;
  readonly frames: number;
  readonly lost: number;
  readonly conflated: number;
}
