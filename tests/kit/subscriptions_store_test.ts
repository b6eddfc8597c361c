/**
 * kit's reactive stores over a local feed.
 * May touch: the public API, kit. May not touch: the parts of the kit entry.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { createReactiveStoreWithInitialValueAndSlotTracking, isSolanaError } from "@solana/kit";
import { createRpcSubscriptions, currentAccount } from "../../src/kit/mod.ts";
import { Place } from "../unit/support/place.ts";
import { accountUpdate, keyOf } from "../unit/support/updates.ts";
import { turn, until } from "../unit/support/watchdog.ts";
import { CLOSED, Stage, VAULT } from "./support/subscriptions_stage.ts";

test("a store gets what came before its sender's answer", async () => {
  await using place = new Place();
  const update = accountUpdate({ lamports: 9n, slot: 1n });
  const sender = await place.sender({ onSubscription: () => queueMicrotask(() => sender.publishAccount(update)) });
  const rpc = createRpcSubscriptions(await place.consumer());
  for (let i = 0; i < 10; i++) {
    const store = rpc.accountNotifications(VAULT, { commitment: "processed", encoding: "base64" }).reactiveStore();
    store.connect();
    await until(() => store.getState().status === "loaded", "the value");
    store.reset();
    await until(() => sender.consumers()[0]!.accounts === 0, "the end of interest");
  }
});

test("reactiveStore() is kit's store over the feed", async () => {
  await using stage = await Stage.open();
  const store = stage.rpc.accountNotifications(VAULT, { commitment: "processed", encoding: "base64" }).reactiveStore();
  store.connect();
  await until(() => stage.keysWanted === 1, "the subscription");
  await stage.consumer.ping();
  await turn();
  stage.write(9n, 1n);
  await until(() => store.getState().status === "loaded", "a value");
  assert.equal(store.getState().data?.value.lamports, 9n);
  await stage.sender.close();
  await until(() => store.getState().status === "error", "the end");
  assert(isSolanaError(store.getState().error, CLOSED));
  assert.equal(store.getState().data?.value.lamports, 9n); // the last value stays
  store.reset();
});

test("a slot-tracking store has both its halves from the feed", async () => {
  await using stage = await Stage.open();
  const copy = {
    ...accountUpdate({ lamports: 1n, slot: 5n }),
    pubkey: keyOf(1),
    owner: keyOf(2),
    fullLength: 165,
    executable: false,
  };
  const cache = new Map([[VAULT as string, copy as never]]);
  const store = createReactiveStoreWithInitialValueAndSlotTracking({
    initialValueSource: currentAccount(cache as never, VAULT),
    initialValueMapper: (account) => account?.lamports ?? 0n,
    streamSource: stage.rpc.accountNotifications(VAULT, { commitment: "processed", encoding: "base64" }),
    streamValueMapper: (value) => value.lamports as bigint,
  });
  store.connect();
  await until(() => store.getState().data?.value === 1n, "the cache's value");
  await until(() => stage.keysWanted === 1, "the subscription");
  await stage.consumer.ping();
  await turn();
  stage.write(3n, 4n); // older than what is known
  stage.write(2n, 6n);
  await until(() => store.getState().data?.value === 2n, "the feed's value");
  store.reset();
});
