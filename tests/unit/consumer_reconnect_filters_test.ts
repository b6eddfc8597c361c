/**
 * A consumer over several connections: filters are restored, and edits wait for the next sender. In one process with its senders.
 * May touch: the public API, senders that do as they are told.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { addressFromBytes, type Sender } from "../../mod.ts";
import { LinkKind } from "../../src/native/abi.generated.ts";
import { CAPACITY_BYTES, Place } from "./support/place.ts";
import { ScriptedSender } from "./support/scripted_sender.ts";
import { accountUpdate, keyOf, slotUpdate, transactionUpdate } from "./support/updates.ts";
import { turn, until, within } from "./support/watchdog.ts";
import { native, next, nextLost, nextResumed, opened, QUICK, restart, typesOf } from "./support/reconnecting.ts";

test("all filters are restored as they were edited, under the same names and bits", async () => {
  await using place = new Place();
  const sender = await place.sender();
  const { consumer } = await opened(place, { marks: true });
  const [one, two, three, owner] = [keyOf(11), keyOf(12), keyOf(13), keyOf(14)];
  await consumer.subscribe({ accounts: [one, addressFromBytes(two)], owners: [owner] });
  await consumer.subscribe({ accounts: [three], transactions: true });
  await consumer.unsubscribe({ accounts: [one], transactions: true });
  await consumer.setFilter("gone", { slots: true });
  await consumer.setFilter("replaced", { accounts: { accounts: [one] } });
  await consumer.setFilter("rich", { accounts: { owners: [one], lamports: { gt: 10n } } });
  await consumer.setFilter("ends", { slots: { statuses: ["finalized"] } });
  await consumer.removeFilter("gone");
  await consumer.setFilter("replaced", { accounts: { owners: [two] } });
  await consumer.editFilter("rich", { add: [three], remove: [one] });
  await consumer.setFilter("all", { transactions: true });

  const publish = (sender: Sender) => {
    const none = keyOf(99);
    for (const pubkey of [one, two, three, none]) {
      for (const owned of [one, two, three, owner, none]) {
        for (const lamports of [10n, 11n]) sender.publishAccount(accountUpdate({ pubkey, owner: owned, lamports }));
      }
    }
    sender.publishTransaction(transactionUpdate());
    sender.publishSlot(slotUpdate());
    sender.publishSlot(slotUpdate({ status: "finalized" }));
  };
  const take = async (sender: Sender) => {
    publish(sender);
    const taken: string[] = [];
    while (true) {
      const update = await next(consumer);
      if (update.kind === "filter") continue;
      const what: unknown[] = update.kind === "account" ? [update.address, update.ownerAddress, update.lamports] : [];
      taken.push([update.kind, update.filters, update.filterMask, update.sequence, ...what].join(" "));
      if (update.kind !== "slot" || update.status !== "finalized") continue;
      consumer.poll(() => assert.fail()); // gives the last one back
      return taken;
    }
  };
  const before = await take(sender);
  assert.ok(before.length > 10 && before.some((line) => line.includes(",rich")), before.join("\n"));
  for (let i = 0; i < 3; i++) {
    const another = await restart(place, i === 0 ? sender : undefined);
    await nextLost(consumer);
    await nextResumed(consumer);
    assert.deepEqual(await take(another), before);
    assert.deepEqual(consumer.filterNames, ["replaced", "rich", "ends", "all"]);
    await another.close();
  }
  assert.equal(consumer.metrics.reconnects, 3);
});

test("generations go on where those of the last connection ended", async () => {
  await using place = new Place();
  const sender = await place.sender();
  const { consumer } = await opened(place, { marks: true });
  await consumer.subscribe({ accounts: [keyOf(1)] });
  await consumer.setFilter("a", { slots: true });
  const old = await consumer.setFilter("b", { slots: true });
  assert.equal(old.generation, 3);
  let sequence = 0n;
  let last = old.generation;
  for (let i = 0, before: Sender | undefined = sender; i < 3; i++, before = undefined) {
    await before?.close();
    while ((await next(consumer)).kind === "filter"); // marks; then the loss
    const another = await restart(place, undefined);
    await nextResumed(consumer);
    assert.ok(consumer.filterGeneration >= last, `${consumer.filterGeneration} after ${last}`);
    const ack = await consumer.setFilter("c", { slots: true });
    assert.ok(ack.generation > last);
    another.publishSlot(slotUpdate());
    for (let generation = consumer.filterGeneration;;) {
      const update = await next(consumer);
      if (update.kind === "slot") break;
      assert.ok(update.kind === "filter" && update.generation > generation);
      generation = update.generation;
    }
    assert.equal(consumer.filterGeneration, ack.generation);
    last = ack.generation;
    sequence = ack.sequence;
    await another.close();
  }
  assert.equal(sequence, 0n);
});

test("edits that are asked for while there is no sender wait for the next one, in their order", async () => {
  await using place = new Place();
  const sender = await place.sender();
  const { consumer, events } = await opened(place);
  await consumer.subscribe({ accounts: [keyOf(1)] });
  await sender.close();
  await nextLost(consumer);
  const key = keyOf(2);
  let settled = 0;
  const asked = [
    consumer.subscribe({ accounts: [key] }),
    consumer.setFilter("f", { accounts: { accounts: [keyOf(3)] } }),
    consumer.editFilter("f", { add: [keyOf(4)] }),
    consumer.unsubscribe({ accounts: [keyOf(1)] }),
    consumer.setFilter("g", { slots: true }),
    consumer.removeFilter("g"),
  ].map(async (ack) => {
    const { generation } = await ack;
    settled++;
    return generation;
  });
  key.fill(0); // a caller's buffer is his own again
  assert.deepEqual(consumer.filterNames, ["f"]);
  await assert.rejects(consumer.ping(), { code: "CONNECTION_LOST", reason: "sender-closed" });
  await turn();
  assert.equal(settled, 0);
  const another = await restart(place, undefined);
  // 1 of the first connection, 1 for what was restored.
  assert.deepEqual(await within(Promise.all(asked), "the acknowledgements"), [3, 4, 5, 6, 7, 8]);
  assert.ok(typesOf(events).includes("resumed"));
  const match = (pubkey: Uint8Array) => another.publishAccount(accountUpdate({ pubkey }));
  assert.deepEqual([1, 2, 3, 4, 5].map((seed) => match(keyOf(seed))), [0, 1, 1, 1, 0]);
  // And so they are wanted of the one after that.
  consumer.poll(() => {});
  const third = await restart(place, another);
  const again = (pubkey: Uint8Array) => third.publishAccount(accountUpdate({ pubkey }));
  await until(() => (consumer.poll(() => {}), consumer.metrics.reconnects === 2), "the next connection");
  assert.deepEqual([1, 2, 3, 4, 5].map((seed) => again(keyOf(seed))), [0, 1, 1, 1, 0]);
});

test("edits that wait are rejected by close(), and by the end", async () => {
  for (const end of ["close", "give up"]) {
    await using place = new Place();
    const sender = await place.sender();
    const { consumer } = await opened(place, { reconnect: { ...QUICK, giveUpMs: end === "close" ? Infinity : 20 } });
    await sender.close();
    await nextLost(consumer);
    const asked = [consumer.subscribe({ accounts: [keyOf(1)] }), consumer.setFilter("f", { slots: true })];
    if (end === "close") await consumer.close();
    const code = end === "close" ? "CONSUMER_CLOSED" : "CONNECTION_LOST";
    for (const each of asked) await assert.rejects(within(each, "a rejection"), { code });
    await assert.rejects(consumer.subscribe({}), { code });
  }
});

test("an edit that a sender has not answered when it goes is asked for again of the next one", async () => {
  await using place = new Place();
  const { consumer, scripted } = await (async () => {
    const scripted = new ScriptedSender(native, place.path, { capacityBytes: CAPACITY_BYTES });
    const opening = opened(place, { policy: "disconnect" });
    await scripted.grant();
    return { scripted, ...await opening };
  })();
  const first = consumer.subscribe({ accounts: [keyOf(1)] });
  const request = await scripted.request();
  assert.equal(request.kind, LinkKind.subscribe);
  scripted.ack(request, { sequence: 0n, generation: 1 });
  await within(first, "the first");
  const second = consumer.subscribe({ accounts: [keyOf(2)] });
  const pinging = consumer.ping();
  await scripted.request();
  scripted[Symbol.dispose]();
  await assert.rejects(within(pinging, "the ping"), { code: "CONNECTION_LOST", reason: "sender-gone" });
  const sender = await restart(place, undefined);
  assert.equal((await within(second, "the second")).generation, 3);
  for (const seed of [1, 2]) assert.equal(sender.publishAccount(accountUpdate({ pubkey: keyOf(seed) })), 1);
});

test("what a sender refuses is not asked for again", async () => {
  await using place = new Place();
  const scripted = new ScriptedSender(native, place.path, { capacityBytes: CAPACITY_BYTES });
  const opening = opened(place);
  await scripted.grant();
  const { consumer } = await opening;
  const refused = consumer.subscribe({ accounts: [keyOf(1)] });
  scripted.refuse(await scripted.request(), "no");
  await assert.rejects(within(refused, "a refusal"), { code: "SUBSCRIBE_REFUSED" });
  const granted = consumer.subscribe({ accounts: [keyOf(2)] });
  scripted.ack(await scripted.request(), { sequence: 0n, generation: 1 });
  await within(granted, "a grant");
  scripted[Symbol.dispose]();
  const sender = await restart(place, undefined);
  await nextLost(consumer);
  await nextResumed(consumer);
  assert.deepEqual([1, 2].map((seed) => sender.publishAccount(accountUpdate({ pubkey: keyOf(seed) }))), [0, 1]);
});

test("a sender that refuses what is wanted is no sender: it is said, and tried again", async () => {
  await using place = new Place();
  const sender = await place.sender();
  const { consumer, events } = await opened(place);
  await consumer.subscribe({ accounts: [keyOf(1)] });
  await sender.close();
  const scripted = new ScriptedSender(native, place.path, { capacityBytes: CAPACITY_BYTES });
  await nextLost(consumer);
  await scripted.grant();
  scripted.refuse(await scripted.request(), "too many keys");
  const refusal = () => events.find((event) => event.type === "failed" && /too many keys/.test(event.error.message));
  await until(() => refusal() !== undefined, "the refusal");
  scripted[Symbol.dispose]();
  const another = await restart(place, undefined);
  await nextResumed(consumer);
  assert.equal(another.publishAccount(accountUpdate()), 1);
});
