/**
 * This library's errors as kit's: the nearest of its codes, with ours as the cause.
 * May touch: `@solana/kit`. kit's list of codes is closed, so ours can only be a cause.
 *
 * @module
 */

import {
  isSolanaError,
  SOLANA_ERROR__RPC_SUBSCRIPTIONS__CANNOT_CREATE_SUBSCRIPTION_PLAN,
  SOLANA_ERROR__RPC_SUBSCRIPTIONS__CHANNEL_CONNECTION_CLOSED,
  SolanaError,
} from "@solana/kit";
import { isQlasterError, QlasterError, type QlasterErrorCode } from "../errors.ts";

/** A feed, or one subscription of it, is over. */
export function closedError(cause: unknown): SolanaError {
  return new SolanaError(SOLANA_ERROR__RPC_SUBSCRIPTIONS__CHANNEL_CONNECTION_CLOSED, { cause });
}

/** There can be no such subscription. */
export function planError(notificationName: string, cause: unknown): SolanaError {
  return new SolanaError(SOLANA_ERROR__RPC_SUBSCRIPTIONS__CANNOT_CREATE_SUBSCRIPTION_PLAN, { notificationName, cause });
}

/** Its slots have neither parent nor status, so what is confirmed can't be told; its transactions do not say whether they failed. */
const NO_V9 =
  "its sender speaks wire version 9, which says neither what is confirmed nor what has failed, and takes nothing " +
  "back: have a sender of this library (its source relay reads such senders), or read the consumer yourself, with " +
  "toEncodedAccount and the decoders of this entry, or with toDataPublisher";

/** Why a subscription did not come about: since there is no feed any longer, or since the sender did not agree. */
export function openingError(notificationName: string, error: unknown): SolanaError {
  if (isSolanaError(error)) return error;
  if (isQlasterError(error, "V9_UNSUPPORTED")) return unsupported(notificationName, NO_V9);
  const isOver = isQlasterError(error, "CONNECTION_LOST") || isQlasterError(error, "CONSUMER_CLOSED");
  return isOver ? closedError(error) : planError(notificationName, error);
}

/** There can be none, since a feed has not what is asked for. @param why What, and what to do instead. */
export function unsupported(notificationName: string, why: string): SolanaError {
  return planError(
    notificationName,
    new QlasterError("KIT_UNSUPPORTED", `Cannot subscribe to ${notificationName}: ${why}`),
  );
}

/** A subscription that can't go on. */
export function overrun(code: QlasterErrorCode, action: string): SolanaError {
  return closedError(new QlasterError(code, action));
}
