/**
 * A local feed, kit's RPC subscriptions of it, and how a test waits for notifications and refusals: used by all of
 * subscriptions*_test.ts.
 * May touch: the public API, kit.
 *
 * @module
 */

import assert from "node:assert/strict";
import {
  address,
  type Commitment,
  isSolanaError,
  type Signature,
  SOLANA_ERROR__RPC_SUBSCRIPTIONS__CANNOT_CREATE_SUBSCRIPTION_PLAN,
  SOLANA_ERROR__RPC_SUBSCRIPTIONS__CHANNEL_CONNECTION_CLOSED,
} from "@solana/kit";
import { addressFromBytes, type Consumer, isQlasterError, type Sender, type SlotStatus } from "../../../mod.ts";
import { createRpcSubscriptions, type RpcSubscriptionsOptions } from "../../../src/kit/mod.ts";
import { base58FromBytes } from "../../../src/wire/base58.ts";
import { Place } from "../../unit/support/place.ts";
import { accountUpdate, keyOf, patternBytes, slotUpdate } from "../../unit/support/updates.ts";
import { within } from "../../unit/support/watchdog.ts";

export const VAULT = address(addressFromBytes(keyOf(1)));
export const PROGRAM = address(addressFromBytes(keyOf(2)));
export const SIGNATURE = base58FromBytes(patternBytes(64, 5)) as Signature;

/** A feed, and kit's subscriptions of it. */
export class Stage implements AsyncDisposable {
  readonly sender: Sender;
  readonly consumer: Consumer;
  readonly rpc: ReturnType<typeof createRpcSubscriptions>;
  readonly abort = new AbortController();
  readonly #place: Place;

  private constructor(place: Place, sender: Sender, consumer: Consumer, options: RpcSubscriptionsOptions) {
    this.#place = place;
    this.sender = sender;
    this.consumer = consumer;
    this.rpc = createRpcSubscriptions(consumer, options);
  }

  static async open(options: RpcSubscriptionsOptions = {}): Promise<Stage> {
    const place = new Place();
    const { sender, consumer } = await place.pair();
    return new Stage(place, sender, consumer, options);
  }

  get signal(): { abortSignal: AbortSignal } {
    return { abortSignal: this.abort.signal };
  }

  vault(commitment?: Commitment) {
    const config = { encoding: "base64", ...(commitment && { commitment }) } as const;
    return this.rpc.accountNotifications(VAULT, config).subscribe(this.signal);
  }

  write(lamports: bigint, slot: bigint): void {
    this.sender.publishAccount(accountUpdate({ lamports, slot }));
  }

  slot(slot: bigint, status: SlotStatus): void {
    this.sender.publishSlot(slotUpdate({ slot, parent: slot - 1n, status }));
  }

  /** Keys that the sender knows this consumer to want. */
  get keysWanted(): number {
    const [info] = this.sender.consumers();
    return info!.accounts + info!.owners;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.abort.abort();
    await this.#place[Symbol.asyncDispose]();
  }
}

/** The next notification. */
export async function next<T>(notifications: AsyncIterable<T>): Promise<T> {
  const { value, done } = await within(notifications[Symbol.asyncIterator]().next(), "a notification");
  assert.equal(done ?? false, false, "the loop is over");
  return value;
}

export const lamportsOf = async (notifications: AsyncIterable<{ value: { lamports: bigint } }>) =>
  (await next(notifications)).value.lamports;

/** The rejection of a promise: kit's error, whose cause is ours. */
export async function refusal(promise: Promise<unknown>): Promise<{ kit: number; own: unknown }> {
  try {
    await within(promise, "a refusal");
  } catch (error) {
    assert(isSolanaError(error));
    const { cause } = error;
    return { kit: error.context.__code, own: isQlasterError(cause) ? cause.code : (cause as Error)?.name };
  }
  return assert.fail("it was not refused");
}

export const PLAN = SOLANA_ERROR__RPC_SUBSCRIPTIONS__CANNOT_CREATE_SUBSCRIPTION_PLAN;
export const CLOSED = SOLANA_ERROR__RPC_SUBSCRIPTIONS__CHANNEL_CONNECTION_CLOSED;
