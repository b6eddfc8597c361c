/**
 * What happened to a connection, and what to do: in words, for errors.
 * May touch: nothing.
 *
 * @module
 */

import type { EndReason } from "../types.ts";

const WORDS: Readonly<Record<EndReason, string>> = {
  "closed": "this side closed it",
  "sender-closed": "the sender was closed",
  "handed-over": "another sender has taken its path over; connect again",
  "sender-gone": "its process has ended, or let go of the connection; connect again once it is back",
  "consumer-closed": "this side closed it",
  "consumer-gone": "this side has gone",
  "slow-consumer":
    "its ring for this consumer was full, or payloads that this consumer had not read were its share of the pool; " +
    "read faster, subscribe to less, or have the sender make larger rings and a larger pool",
  "idle": "it evicts who has said nothing for too long; keep this process's event loop free",
  "evicted": "it dropped this consumer and its protocol, version 9, does not say why; its log may",
  "peer-corrupt": "it wrote or said what makes no sense; restart it",
};

/** All of them. */
export const END_REASONS: readonly EndReason[] = Object.keys(WORDS) as EndReason[];

/** @param reason Why the connection ended. */
export function describeLoss(reason: EndReason): string {
  return WORDS[reason];
}
