/**
 * kit's RPC subscriptions over a local feed: loops that do not keep up, feeds that lose something or end, and what comes after.
 * May touch: the public API, kit. May not touch: the parts of the kit entry.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { createRpcSubscriptions, createRpcSubscriptionsTransport } from "../../src/kit/mod.ts";
import { Place } from "../unit/support/place.ts";
import { accountUpdate, slotUpdate } from "../unit/support/updates.ts";
import { turn, until, within } from "../unit/support/watchdog.ts";
import { CLOSED, lamportsOf, next, PROGRAM, refusal, Stage, VAULT } from "./support/subscriptions_stage.ts";

test("a loop that does not keep up gets an error, or by option the newest", async () => {
  await using stage = await Stage.open({ queueMax: 3 });
  const strict = await stage.vault("processed");
  await using other = await Stage.open({ queueMax: 3, whenFull: "conflate" });
  const newest = await other.vault("processed");
  for (const { sender, consumer } of [stage, other]) {
    for (let i = 1n; i <= 10n; i++) sender.publishAccount(accountUpdate({ lamports: i }));
    await until(() => consumer.metrics.frames >= 10, "all updates");
    await turn();
  }
  const seen: bigint[] = [];
  assert.deepEqual(
    await refusal((async () => {
      for await (const { value } of strict) seen.push(value.lamports);
    })()),
    { kit: CLOSED, own: "KIT_QUEUE_FULL" },
  );
  assert.deepEqual(seen, [1n, 2n, 3n]);
  assert.deepEqual([await lamportsOf(newest), await lamportsOf(newest), await lamportsOf(newest)], [1n, 2n, 10n]);
});

test("a feed that ends is an error in every loop, and for whoever comes later", async () => {
  await using stage = await Stage.open();
  const [first, second] = [await stage.vault("processed"), await stage.vault("confirmed")];
  stage.write(1n, 1n);
  await stage.sender.close();
  assert.equal(await lamportsOf(first), 1n);
  for (const ask of [() => next(first), () => next(second), () => stage.vault("processed")]) {
    assert.deepEqual(await refusal(ask()), { kit: CLOSED, own: "CONNECTION_LOST" });
  }
});

test("where the consumer connects again, loops end all the same, and subscribing anew waits for the next sender", async () => {
  await using place = new Place();
  const first = await place.sender();
  const rpc = createRpcSubscriptions(await place.consumer({ reconnect: true }));
  const { signal: abortSignal } = new AbortController();
  const subscribe = () =>
    rpc.accountNotifications(VAULT, { commitment: "confirmed", encoding: "base64" }).subscribe({ abortSignal });
  const before = await subscribe();
  first.publishAccount(accountUpdate({ slot: 1n }));
  await first.close();
  assert.deepEqual(await refusal(next(before)), { kit: CLOSED, own: "CONNECTION_LOST" });
  const asked = subscribe();
  const second = await place.sender();
  const after = await within(asked, "the subscription");
  second.publishAccount(accountUpdate({ slot: 2n, lamports: 2n }));
  second.publishSlot(slotUpdate({ slot: 1n, parent: 0n, status: "confirmed" })); // of the order of before
  second.publishSlot(slotUpdate({ slot: 2n, parent: 1n, status: "confirmed" }));
  assert.equal(await lamportsOf(after), 2n);
});

test("an abort while there is no sender ends the subscribing, and nothing of it is left for the next one", async () => {
  await using place = new Place();
  const first = await place.sender();
  const consumer = await place.consumer({ reconnect: true });
  const rpc = createRpcSubscriptions(consumer);
  const slots = await rpc.slotNotifications().subscribe({ abortSignal: new AbortController().signal });
  await first.close();
  assert.deepEqual(await refusal(next(slots)), { kit: CLOSED, own: "CONNECTION_LOST" });

  const abort = new AbortController();
  const pending = rpc.accountNotifications(VAULT, { commitment: "processed", encoding: "base64" });
  const asked = pending.subscribe({ abortSignal: abort.signal });
  const byProgram = rpc.programNotifications(PROGRAM).subscribe({ abortSignal: abort.signal });
  const transport = createRpcSubscriptionsTransport(consumer);
  const published = transport(
    { request: { methodName: "slotNotifications", params: [] }, signal: abort.signal } as never,
  );
  await turn();
  abort.abort(new Error("enough"));
  for (const each of [asked, byProgram]) {
    const notifications = await within<AsyncIterable<unknown>>(each, "the end of the subscribing");
    assert.deepEqual(await notifications[Symbol.asyncIterator]().next(), { value: undefined, done: true });
  }
  await assert.rejects(within(published, "the end of the publisher"), { message: "enough" }); // as kit says it

  const second = await place.sender();
  await until(() => second.metrics.consumers === 1, "the next connection");
  const { signal: abortSignal } = new AbortController();
  await within(rpc.slotNotifications().subscribe({ abortSignal }), "a subscription behind them");
  await until(() => second.consumers()[0]!.accounts + second.consumers()[0]!.owners === 0, "the end of interest");
  assert.deepEqual(consumer.filterNames.filter((name) => /[0-9]/.test(name)), []);
});

test("who subscribes as the feed is lost is told so, and leaves nothing in the next sender's filters", async () => {
  await using place = new Place();
  const first = await place.sender();
  const consumer = await place.consumer({ reconnect: true });
  const rpc = createRpcSubscriptions(consumer);
  const { signal: abortSignal } = new AbortController();
  const asked = rpc.accountNotifications(VAULT).subscribe({ abortSignal });
  await first.close();
  assert.deepEqual(await refusal(asked), { kit: CLOSED, own: "CONNECTION_LOST" });
  const second = await place.sender();
  await within(rpc.slotNotifications().subscribe({ abortSignal }), "a subscription behind it");
  assert.equal(second.consumers()[0]!.accounts, 0);
});

test("closing the consumer ends the loops quietly", async () => {
  await using stage = await Stage.open();
  const notifications = await stage.vault("processed");
  const reader = notifications[Symbol.asyncIterator]();
  const asked = reader.next();
  await stage.consumer.close();
  assert.deepEqual(await within(asked, "the end"), { value: undefined, done: true });
  assert.deepEqual(await refusal(stage.vault("processed")), { kit: CLOSED, own: "CONSUMER_CLOSED" });
});

test("losses are told to who asks for them", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ consumer: { policy: "drop-newest" } });
  let lost = 0;
  const rpc = createRpcSubscriptions(consumer, { onLoss: (count) => void (lost += count) });
  const { signal: abortSignal } = new AbortController();
  await rpc.accountNotifications(VAULT, { commitment: "processed", encoding: "base64" }).subscribe({ abortSignal });
  let missed = 0;
  while (missed < 3) if (sender.publishAccount(accountUpdate({ data: new Uint8Array(2000) })) === 0) missed++;
  await until(() => consumer.lag().frames === 0 || lost > 0, "room");
  sender.publishAccount(accountUpdate());
  await until(() => lost > 0, "the loss");
  assert(lost >= 3);
});
