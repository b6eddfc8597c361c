/**
 * kit's interfaces over a sender of wire version 9, which says less: what they refuse, and say what to do instead; what goes.
 * May touch: the public API, kit.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  address,
  isSolanaError,
  type Signature,
  SOLANA_ERROR__RPC_SUBSCRIPTIONS__CANNOT_CREATE_SUBSCRIPTION_PLAN,
} from "@solana/kit";
import { addressFromBytes, isQlasterError } from "../../mod.ts";
import {
  createRpcSubscriptions,
  decodeToken,
  fetchEncodedAccount,
  toDataPublisher,
  toEncodedAccount,
} from "../../src/kit/mod.ts";
import { relay } from "../../src/sources/relay.ts";
import { base58FromBytes } from "../../src/wire/base58.ts";
import { Place } from "../unit/support/place.ts";
import { accountUpdate, keyOf, patternBytes, slotUpdate } from "../unit/support/updates.ts";
import { until, within } from "../unit/support/watchdog.ts";

const VAULT = address(addressFromBytes(keyOf(1)));
const PROGRAM = address(addressFromBytes(keyOf(2)));
const PLAN = SOLANA_ERROR__RPC_SUBSCRIPTIONS__CANNOT_CREATE_SUBSCRIPTION_PLAN;
const V9 = { consumer: { protocol: "v9" } } as const;
const signal = () => ({ abortSignal: AbortSignal.timeout(20_000) });

test("subscriptions of a sender of version 9 are refused, with what to do instead, and nothing is asked of it", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair(V9);
  const rpc = createRpcSubscriptions(consumer);
  for (
    const request of [
      rpc.accountNotifications(VAULT, { commitment: "processed", encoding: "base64" }),
      rpc.programNotifications(PROGRAM, { commitment: "processed", encoding: "base64" }),
      rpc.signatureNotifications(base58FromBytes(patternBytes(64, 5)) as Signature),
      rpc.slotNotifications(),
      rpc.rootNotifications(),
    ]
  ) {
    await assert.rejects(within<unknown>(request.subscribe(signal()), "a refusal"), (error) => {
      assert(isSolanaError(error, PLAN));
      assert(isQlasterError(error.cause, "KIT_UNSUPPORTED"));
      assert.match(error.cause.message, /wire version 9.*relay.*toEncodedAccount.*toDataPublisher/);
      return true;
    });
  }
  const [info] = sender.consumers();
  assert.deepEqual([info!.accounts, info!.owners, info!.transactions], [0, 0, false]);
});

test("views of version 9 decode, and its accounts come by a publisher and from a cache", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ consumer: { ...V9.consumer, cache: true } });
  await consumer.subscribe({ accounts: [VAULT] });
  const amounts: bigint[] = [];
  toDataPublisher(consumer).on("account", ({ value }) => void amounts.push(value.lamports));
  const data = new Uint8Array(165);
  data[64] = 42;
  data[108] = 1;
  sender.publishAccount(accountUpdate({ data, lamports: 9n }));
  await until(() => amounts.length === 1, "the account");
  assert.deepEqual(amounts, [9n]);
  const account = await fetchEncodedAccount(consumer.accounts, VAULT);
  assert(account.exists);
  assert.deepEqual([account.lamports, account.programAddress, account.space], [9n, PROGRAM, 165n]);

  const other = await place.consumer(V9.consumer);
  await other.subscribe({ accounts: [VAULT] });
  sender.publishAccount(accountUpdate({ data, lamports: 10n }));
  const update = await within(other.next(), "the account's view");
  assert(update?.kind === "account");
  assert.equal(toEncodedAccount(update).lamports, 10n);
  assert.equal(decodeToken(update).data.amount, 42n);
});

test("behind a relay, accounts of a sender of version 9 are subscribed to as any others", async () => {
  await using original = new Place();
  await using place = new Place();
  const upstream = await original.sender();
  const { sender, consumer } = await place.pair();
  const source = relay(original.path, { demand: sender.demand, consumer: { protocol: "v9" } });
  const feeding = sender.feed(source);
  const rpc = createRpcSubscriptions(consumer);
  const request = rpc.accountNotifications(VAULT, { commitment: "processed", encoding: "base64" });
  const notifications = await within(request.subscribe(signal()), "a subscription");
  await until(() => upstream.consumers()[0]?.accounts === 1, "the demand upstream");
  upstream.publishAccount(accountUpdate({ lamports: 11n }));
  upstream.publishSlot(slotUpdate());
  for await (const { value } of notifications) {
    assert.equal(value.lamports, 11n);
    break;
  }
  await source[Symbol.asyncDispose]();
  await within(feeding, "the end of the feed");
});

test("a slot filter that was refused is asked for again by the next who subscribes", async () => {
  await using place = new Place();
  const { consumer } = await place.pair();
  const { setFilter } = consumer;
  let refused = 1;
  Object.defineProperty(consumer, "setFilter", {
    value: (...args: Parameters<typeof setFilter>) =>
      args[0] === "@kit/slots" && refused-- > 0
        ? Promise.reject(new Error("not now"))
        : Reflect.apply(setFilter, consumer, args),
  });
  const rpc = createRpcSubscriptions(consumer);
  await assert.rejects(rpc.slotNotifications().subscribe(signal()));
  await within(rpc.slotNotifications().subscribe(signal()), "a subscription");
});
