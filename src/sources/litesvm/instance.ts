/**
 * As much of `LiteSVM` as the source uses, and what comes out of a transaction as the meta that a validator would add.
 * May touch: types, bytes. May not touch: the package `litesvm`, which its user has and brings.
 *
 * @module
 */

import type { Address } from "../../types.ts";
import { ProtobufWriter } from "../yellowstone/protobuf.ts";

/** What `getAccount` returns. */
export type LitesvmAccount =
  | {
    readonly exists: true;
    readonly programAddress: Address;
    readonly lamports: bigint;
    readonly data: Uint8Array;
    readonly executable: boolean;
  }
  | { readonly exists: false };

/** kit's `Transaction`, as far as it matters. */
export interface LitesvmTransaction {
  /** The signed bytes. */
  readonly messageBytes: { readonly length: number };
  /** By signer, in the message's order. */
  readonly signatures: Readonly<Record<string, unknown>>;
}

/** What an executed transaction left behind: `TransactionMetadata` of `litesvm`. */
export interface LitesvmMetadata {
  /** 64 bytes. */
  signature(): Uint8Array;
  /** What programs logged. */
  logs(): string[];
  /** By instruction. */
  innerInstructions(): {
    instruction(): { programIdIndex(): number; accounts(): Uint8Array; data(): Uint8Array };
    stackHeight(): number;
  }[][];
  /** What it cost. */
  computeUnitsConsumed(): bigint;
  /** What the last program returned. */
  returnData(): { programId(): Uint8Array; data(): Uint8Array };
}

/** `FailedTransactionMetadata` of `litesvm`. */
export interface LitesvmFailure {
  /** Why. */
  err(): { toString(): string };
  /** What it did before. */
  meta(): LitesvmMetadata;
}

/** An instance of `LiteSVM`, version 1. */
export interface LitesvmInstance {
  /** Executes a transaction. */
  sendTransaction(transaction: unknown): unknown;
  /** An account as it is. */
  getAccount(address: unknown): unknown;
  /** The accounts of a program. */
  getProgramAccounts(address: unknown): unknown;
  /** Its clock. */
  getClock(): { slot: bigint };
}

/** Whether a transaction's outcome is a failure. Not by class: there may be two copies of the package. */
export function isFailure(outcome: LitesvmMetadata | LitesvmFailure): outcome is LitesvmFailure {
  return "err" in outcome;
}

/** Fields of `TransactionStatusMeta`. */
const Meta = {
  err: 1,
  innerInstructions: 5,
  logMessages: 6,
  loadedWritable: 12,
  loadedReadonly: 13,
  returnData: 14,
  returnDataNone: 15,
  computeUnitsConsumed: 16,
} as const;

const encoder = new TextEncoder();

/**
 * A protobuf `TransactionStatusMeta` of Solana's storage protocol, as Yellowstone sends it, of what LiteSVM knows: no fee
 * and no balances; and its error is text, where a validator has bincode.
 */
export function metaOf(
  outcome: LitesvmMetadata | LitesvmFailure,
  loaded: { readonly writable: readonly Uint8Array[]; readonly readonly: readonly Uint8Array[] },
): Uint8Array {
  const writer = new ProtobufWriter();
  if (isFailure(outcome)) {
    const error = encoder.encode(outcome.err().toString());
    writer.message(Meta.err, (inner) => inner.bytes(1, error));
  }
  const metadata = isFailure(outcome) ? outcome.meta() : outcome;
  metadata.innerInstructions().forEach((instructions, index) => {
    if (instructions.length === 0) return;
    writer.message(Meta.innerInstructions, (inner) => {
      inner.number(1, index);
      for (const each of instructions) {
        const instruction = each.instruction();
        inner.message(
          2,
          (one) =>
            one.number(1, instruction.programIdIndex()).bytes(2, instruction.accounts()).bytes(3, instruction.data())
              .number(4, each.stackHeight()),
        );
      }
    });
  });
  for (const log of metadata.logs()) writer.text(Meta.logMessages, log);
  for (const key of loaded.writable) writer.bytes(Meta.loadedWritable, key);
  for (const key of loaded.readonly) writer.bytes(Meta.loadedReadonly, key);
  const returned = metadata.returnData();
  if (returned.data().length === 0) writer.number(Meta.returnDataNone, true);
  else writer.message(Meta.returnData, (inner) => inner.bytes(1, returned.programId()).bytes(2, returned.data()));
  writer.number(Meta.computeUnitsConsumed, metadata.computeUnitsConsumed());
  return writer.finish().slice();
}
