/**
 * The log that a process keeps of its updates: one JSON object a line, bytes as base64, u64s as decimal strings.
 * May touch: one file.
 * May not touch: what is right. Only checker.ts compares, and it shares no code with this file.
 * Why the sender's side is unbuffered: a line has to be in the file before its update is published.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { closeSync, openSync, writeSync } from "node:fs";
import type { ReadonlyUint8Array, SlotCounts, SlotUpdate, TransactionUpdate } from "../../src/types.ts";
import type { FeedAccountUpdate, FeedUpdate } from "./litesvm_feed.ts";

/** What a consumer gets: updates, with what the sender and the connection add to them. */
export type ReceivedUpdate =
  & (FeedAccountUpdate | TransactionUpdate | (SlotUpdate & SlotCounts) | { readonly kind: "gap" })
  & { readonly sequence: bigint; readonly lost: number; readonly conflated: number };

type JsonRecord = Record<string, string | number | boolean | null>;

const RENT_EXEMPT_EPOCH = 2n ** 64n - 1n;

/** An update as the sender logs it: every field, those that were left out with their documented defaults. */
export function recordFromUpdate(update: FeedUpdate): JsonRecord {
  const common = {
    kind: update.kind,
    slot: update.slot.toString(),
    bankId: (update.bankId ?? 0n).toString(),
    lossy: update.lossy ?? false,
    sourceNs: (update.sourceNs ?? 0n).toString(),
  };
  switch (update.kind) {
    case "account":
      return {
        ...common,
        pubkey: base64(update.pubkey),
        owner: base64(update.owner),
        lamports: update.lamports.toString(),
        rentEpoch: (update.rentEpoch ?? RENT_EXEMPT_EPOCH).toString(),
        writeVersion: (update.writeVersion ?? 0n).toString(),
        executable: update.executable ?? false,
        startup: update.startup ?? false,
        signature: base64(update.signature),
        data: base64(update.data),
      };
    case "transaction":
      return {
        ...common,
        index: update.index,
        vote: update.vote ?? false,
        failed: update.failed ?? false,
        signature: base64(update.signature),
        message: base64(update.message),
        meta: base64(update.meta),
      };
    case "slot":
      return { ...common, parent: update.parent.toString(), status: update.status };
  }
}

/** An update as a consumer logs it: a view of the library has all the fields of an update, and more. */
export function recordFromReceived(update: ReceivedUpdate): JsonRecord {
  const { kind, lost, conflated } = update;
  const received = { sequence: update.sequence.toString(), lost, conflated };
  if (kind === "gap") return { kind, ...received };
  if (kind !== "slot") return { ...recordFromUpdate(update), ...received };
  const { accountsPublished, transactionsPublished, accountsLost, transactionsLost } = update;
  const counts = { accountsPublished, transactionsPublished, accountsLost, transactionsLost };
  return { ...recordFromUpdate(update), ...received, ...counts };
}

/** Appends records to a new file. */
export class UpdateLog {
  readonly #file: number;
  readonly #bufferBytesMax: number;
  #buffer = "";

  /** @param bufferBytesMax How much may be kept back before it is written; 0 writes at once. */
  constructor(path: string, bufferBytesMax = 0) {
    this.#file = openSync(path, "wx", 0o600);
    this.#bufferBytesMax = bufferBytesMax;
  }

  write(...records: readonly JsonRecord[]): void {
    for (const record of records) this.#buffer += JSON.stringify(record) + "\n";
    if (this.#buffer.length > this.#bufferBytesMax) this.#flush();
  }

  [Symbol.dispose](): void {
    this.#flush();
    closeSync(this.#file);
  }

  #flush(): void {
    const bytes = Buffer.from(this.#buffer);
    this.#buffer = "";
    for (let written = 0; written < bytes.length;) written += writeSync(this.#file, bytes, written);
  }
}

function base64(bytes: ReadonlyUint8Array): string;
function base64(bytes: ReadonlyUint8Array | undefined): string | null;
function base64(bytes: ReadonlyUint8Array | undefined): string | null {
  return bytes ? Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64") : null;
}
