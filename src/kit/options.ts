/**
 * What a drop-in for kit's subscriptions can be told, and what it does if it is not.
 * May touch: the values that it is given.
 *
 * @module
 */

import type { Commitment, TransactionError } from "@solana/kit";
import type { ReadonlyUint8Array } from "../types.ts";

/** What a sender's `meta` says of a transaction, where somebody knows how to read it. */
export interface TransactionOutcome {
  /** Why it failed; null if it did not. */
  readonly err?: TransactionError | null;
  /** The lines of its log. */
  readonly logs?: readonly string[];
}

/** How subscriptions behave. */
export interface RpcSubscriptionsOptions {
  /** Notifications that may wait for a loop. Default 8192. */
  readonly queueMax?: number;
  /**
   * What happens at that number. "error" (the default): the loop throws once it has read them. "conflate": a newer
   * notification takes the place of the last one of the same account that waits; of slots and roots, of the last. Where
   * there is none, and for signatures and logs, it is an error all the same.
   */
  readonly whenFull?: "error" | "conflate";
  /** Bytes that may wait for "confirmed" or "finalized", for each subscription; beyond, it is an error. Default 64 MiB. */
  readonly holdBytes?: number;
  /** Slots for which a notification may wait for them; beyond, it is an error. Default 512, three and a half minutes. */
  readonly holdSlots?: number;
  /**
   * The commitment at which the sender publishes updates: what is asked for below it is refused, at it handed on at once,
   * beyond it held until the slot gets there. Default "processed".
   */
  readonly feedCommitment?: Commitment;
  /**
   * Reads the `meta` of a transaction, which is the sender's own: without it `logsNotifications` is refused, and the error
   * of a failed transaction is told as "UnknownError", which kit takes for an error that it does not know.
   */
  readonly readMeta?: (meta: ReadonlyUint8Array) => TransactionOutcome | undefined;
  /** Called with their number when updates were lost on the way to this consumer: kit's interfaces have no word for it. */
  readonly onLoss?: (lost: number) => void;
}

/** All of them, checked. */
export type ResolvedOptions =
  & Required<Omit<RpcSubscriptionsOptions, "readMeta" | "onLoss">>
  & Pick<RpcSubscriptionsOptions, "readMeta" | "onLoss">;

function count(value: number, name: string): number {
  if (!(Number.isSafeInteger(value) && value > 0)) {
    throw new RangeError(`${name} must be a whole number from 1 on, not ${value}`);
  }
  return value;
}

function oneOf<T extends string>(value: T, name: string, values: readonly T[]): T {
  if (!values.includes(value)) throw new TypeError(`${name} must be one of ${values.join(", ")}, not ${value}`);
  return value;
}

/** @throws {TypeError} @throws {RangeError} for an option that can't be. */
export function resolveOptions(options: RpcSubscriptionsOptions): ResolvedOptions {
  const { readMeta, onLoss } = options;
  return {
    queueMax: count(options.queueMax ?? 8192, "queueMax"),
    whenFull: oneOf(options.whenFull ?? "error", "whenFull", ["error", "conflate"]),
    holdBytes: count(options.holdBytes ?? 64 << 20, "holdBytes"),
    holdSlots: count(options.holdSlots ?? 512, "holdSlots"),
    feedCommitment: oneOf(options.feedCommitment ?? "processed", "feedCommitment", [
      "processed",
      "confirmed",
      "finalized",
    ]),
    ...(readMeta !== undefined && { readMeta }),
    ...(onLoss !== undefined && { onLoss }),
  };
}
