/**
 * A consumer's accounts: complete before the first decision, as a sender with state sends them; kept right over edits,
 * losses, forks, restarts; waited for with and without somebody who reads.
 * May touch: the public API.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { AccountUpdate, Consumer, ConsumerOptions, Sender, SenderOptions } from "../../mod.ts";
import { Place } from "./support/place.ts";
import { accountUpdate, keyOf, slotUpdate } from "./support/updates.ts";
import { turn, until, within } from "./support/watchdog.ts";

const STATE = { state: { maxBytes: 16 * 1024 * 1024, keep: "all" } } as const;
const OWNER = keyOf(2);

function account(key: number, fields: Partial<AccountUpdate> = {}): AccountUpdate {
  const slot = fields.slot ?? 1n;
  return accountUpdate({ pubkey: keyOf(key), owner: OWNER, slot, lamports: 100n * slot, ...fields });
}

async function opened(
  place: Place,
  options: { sender?: Omit<Partial<SenderOptions>, "path">; consumer?: ConsumerOptions } = {},
): Promise<{ sender: Sender; consumer: Consumer }> {
  const sender = await place.sender({ ...STATE, ...options.sender });
  const consumer = await place.consumer({ cache: true, reconnect: { minMs: 1, maxMs: 20 }, ...options.consumer });
  return { sender, consumer };
}

const ready = (consumer: Consumer) => within(consumer.accounts.ready, "the cache");

function known(consumer: Consumer): number[] {
  return Array.from({ length: 40 }, (_, i) => i + 1).filter((key) => consumer.accounts.has(keyOf(key)));
}

test("ready: all that the sender knows is there before the first decision, though nobody reads", async () => {
  await using place = new Place();
  const { sender, consumer } = await opened(place);
  for (let key = 3; key < 20; key++) sender.publishAccount(account(key));
  sender.publishAccount(account(3, { slot: 2n }));
  await consumer.subscribe({ owners: [OWNER] });
  const trust = await ready(consumer);
  assert.deepEqual(trust, { isComplete: true, reasons: [], unknownKeys: 0 });
  assert.equal(consumer.accounts.size, 17);
  assert.equal(consumer.accounts.get(keyOf(3))!.lamports, 200n);
  assert.deepEqual(consumer.accounts.get(keyOf(4))!.filters, [""]);
  let slots = 0;
  for (const { slotNumber } of consumer.accounts) slots += slotNumber;
  assert.equal(slots, 18);
  // And then what changes, for who reads.
  sender.publishAccount(account(3, { slot: 3n }));
  const update = await within(consumer.next(), "the change");
  assert.ok(
    update?.kind === "account" && consumer.accounts.get(keyOf(3))!.slot === 3n,
    "it is there before the handler",
  );
});

test("an account that is not there yet, closed ones, and keys that nobody knows", async () => {
  await using place = new Place();
  const { sender, consumer } = await opened(place);
  sender.publishAccount(account(3, { lamports: 0n, data: new Uint8Array(0) }));
  await consumer.subscribe({ accounts: [keyOf(3), keyOf(4), keyOf(5)] });
  assert.equal((await ready(consumer)).unknownKeys, 2);
  assert.equal(consumer.accounts.get(keyOf(3))!.lamports, 0n);
  assert.equal(consumer.accounts.get(keyOf(4)), undefined);
  const waiting = consumer.accounts.waitFor(keyOf(4), ({ lamports }) => lamports > 100n);
  sender.publishAccount(account(4, { slot: 1n }));
  sender.publishAccount(account(4, { slot: 2n }));
  assert.equal((await within(waiting, "the account")).lamports, 200n);
});

test("a sender without state says so", async () => {
  await using place = new Place();
  const { sender, consumer } = await opened(place, { sender: { state: undefined } as unknown as SenderOptions });
  await consumer.subscribe({ owners: [OWNER] });
  assert.deepEqual(consumer.accounts.trust.reasons, [{ reason: "no-state" }]);
  await assert.rejects(within(consumer.accounts.ready, "an answer"), { code: "CACHE_NO_STATE" });
  const waiting = consumer.accounts.waitFor(keyOf(3), () => true);
  sender.publishAccount(account(3));
  assert.equal((await within(waiting, "what comes")).slot, 1n);
});

test("what has left a filter while a consumer was gone goes, though its sender replays only what came", async () => {
  await using place = new Place();
  const seams: string[] = [];
  const { sender, consumer } = await opened(place, {
    sender: { history: { bytes: 4 << 20 } },
    consumer: { onConnection: (event) => void (event.type === "resumed" && seams.push(event.continuity)) },
  });
  for (let key = 3; key <= 6; key++) sender.publishAccount(account(key));
  await consumer.setFilter("of", { accounts: { owners: [OWNER] } });
  await consumer.setFilter("rich", { accounts: { accounts: [keyOf(4), keyOf(5)], lamports: { gt: 50n } } });
  await consumer.setFilter("keys", { accounts: { accounts: [keyOf(6)] } });
  await ready(consumer);
  assert.deepEqual(known(consumer), [3, 4, 5, 6]);
  // Too much for who does not read.
  const data = new Uint8Array(3000);
  for (let slot = 2n; slot < 50n; slot++) sender.publishAccount(account(3, { slot, data }));
  await until(() => sender.metrics.consumers === 0, "the end of the slow one");
  const another = keyOf(9);
  sender.publishAccount(account(3, { slot: 60n, owner: another }));
  sender.publishAccount(account(4, { slot: 60n, owner: another })); // still rich
  sender.publishAccount(account(5, { slot: 60n, owner: another, lamports: 1n }));
  sender.publishAccount(account(6, { slot: 60n, owner: another }));
  const reading = (async () => {
    for await (const update of consumer) if (update.kind === "slot") return;
  })();
  await until(() => seams.length > 0, "its return");
  sender.publishSlot(slotUpdate({ slot: 61n }));
  await within(reading, "all that it has missed");
  assert.deepEqual(seams, ["complete"]);
  assert.deepEqual((await ready(consumer)).reasons, []);
  assert.deepEqual(known(consumer), [4, 6]);
  assert.equal(consumer.accounts.get(keyOf(4))!.slot, 60n);
  assert.deepEqual(consumer.accounts.get(keyOf(6))!.filters, ["keys"]);
});

test("wire version 9 has no state: a cache says so, and has what came since", async () => {
  await using place = new Place();
  const { sender, consumer } = await opened(place, { consumer: { protocol: "v9" } });
  sender.publishAccount(account(3));
  await consumer.subscribe({ owners: [OWNER], accounts: [keyOf(5)] });
  assert.deepEqual(consumer.accounts.trust, {
    isComplete: false,
    reasons: [{ reason: "no-state" }],
    unknownKeys: 0,
  });
  await assert.rejects(within(consumer.accounts.ready, "an answer"), { code: "CACHE_NO_STATE" });
  sender.publishAccount(account(4));
  assert.equal((await within(consumer.accounts.waitFor(keyOf(4), () => true), "what comes")).slot, 1n);
  assert.deepEqual(known(consumer), [4]);
  assert.equal(consumer.accounts.trust.isComplete, false);
});

test("without the option there are no accounts; options that are none are refused", async () => {
  await using place = new Place();
  await place.sender();
  const consumer = await place.consumer();
  assert.throws(() => consumer.accounts, TypeError);
  await assert.rejects(place.consumer({ cache: { maxBytes: 1 } }), RangeError);
  await assert.rejects(place.consumer({ cache: 1 as unknown as boolean }), TypeError);
});

test("filters that are edited: keys that go, filters that are set anew or removed", async () => {
  await using place = new Place();
  const { sender, consumer } = await opened(place);
  for (let key = 3; key <= 8; key++) sender.publishAccount(account(key));
  await consumer.setFilter("a", { accounts: { accounts: [3, 4, 5].map(keyOf) } });
  await consumer.setFilter("b", { accounts: { accounts: [5, 6].map(keyOf) } });
  await ready(consumer);
  assert.deepEqual(known(consumer), [3, 4, 5, 6]);
  await consumer.editFilter("a", { remove: [keyOf(4), keyOf(5)], add: [keyOf(7)] });
  await ready(consumer);
  assert.deepEqual(known(consumer), [3, 5, 6, 7], "the other filter has the fifth");
  await consumer.setFilter("b", { accounts: { accounts: [keyOf(6), keyOf(8)] } });
  await ready(consumer);
  assert.deepEqual(known(consumer), [3, 6, 7, 8]);
  await consumer.removeFilter("a");
  sender.publishSlot(slotUpdate());
  await within(consumer.next(), "something behind it");
  assert.deepEqual(known(consumer), [6, 8]);
  await consumer.subscribe({ owners: [OWNER] });
  await consumer.removeFilter("b");
  await ready(consumer);
  assert.deepEqual(known(consumer), [3, 4, 5, 6, 7, 8]);
  await consumer.unsubscribe({ owners: [OWNER] });
  sender.publishSlot(slotUpdate());
  await within(consumer.next(), "something behind it");
  assert.deepEqual(known(consumer), []);
});

test("an account leaves with the write by which no filter matches it", async () => {
  await using place = new Place();
  const { sender, consumer } = await opened(place);
  const gone: string[] = [];
  consumer.accounts.onRemoved(({ reason }) => void gone.push(reason));
  for (const key of [3, 4]) sender.publishAccount(account(key));
  await consumer.setFilter("rich", { accounts: { owners: [OWNER], lamports: { gt: 50n } } });
  await consumer.setFilter("fourth", { accounts: { accounts: [keyOf(4)] } });
  await ready(consumer);
  for (const key of [3, 4]) sender.publishAccount(account(key, { lamports: 7n, slot: 2n }));
  sender.publishSlot(slotUpdate({ slot: 2n }));
  for await (const update of consumer) if (update.kind === "slot") break;
  assert.deepEqual(known(consumer), [4]);
  assert.equal(consumer.accounts.get(keyOf(4))!.lamports, 7n);
  await turn();
  assert.deepEqual(gone, ["left"]);
});

test("onlyChanged: an account stays by writes that change nothing, and goes with the one by which it leaves", async () => {
  await using place = new Place();
  const { sender, consumer } = await opened(place);
  await consumer.setFilter("changes", { accounts: { owners: [OWNER], onlyChanged: true }, state: true });
  await ready(consumer);
  const read = () => void consumer.poll(() => {}, 100);
  for (const slot of [1n, 2n, 3n]) {
    sender.publishAccount(account(3, { lamports: 7n, slot }));
    read();
    assert.deepEqual(known(consumer), [3]);
    assert.ok(consumer.accounts.trust.isComplete);
  }
  sender.publishAccount(account(3, { lamports: 7n, slot: 4n, owner: keyOf(9) }));
  read();
  assert.deepEqual(known(consumer), []);
  assert.ok(consumer.accounts.trust.isComplete);
});

test("onlyChanged: who drops the filter beside it keeps what it matches, though the last write of that was sent for the other", async () => {
  await using place = new Place();
  const { sender, consumer } = await opened(place);
  const read = () => void consumer.poll(() => {}, 100);
  await consumer.setFilter("all", { accounts: { owners: [OWNER] }, state: true });
  await consumer.setFilter("changes", { accounts: { owners: [OWNER], onlyChanged: true }, state: true });
  await ready(consumer);
  for (const slot of [1n, 2n]) for (const key of [3, 4]) sender.publishAccount(account(key, { lamports: 7n, slot }));
  read();
  assert.deepEqual(consumer.accounts.get(keyOf(3))!.filters, ["all", "changes"]);
  assert.equal(consumer.accounts.get(keyOf(3))!.slot, 2n);
  await consumer.removeFilter("all");
  sender.publishAccount(account(4, { lamports: 7n, slot: 3n, owner: keyOf(9) }));
  read();
  assert.deepEqual(known(consumer), [3]);
  assert.deepEqual(consumer.accounts.peek(keyOf(3))!.filters, ["changes"]);
  // Set anew without it, the filter is told by each write.
  await consumer.setFilter("changes", { accounts: { accounts: [keyOf(3)] }, state: true });
  await consumer.setFilter("all", { accounts: { owners: [OWNER] }, state: true });
  await ready(consumer);
  await consumer.removeFilter("changes");
  sender.publishAccount(account(3, { lamports: 8n, slot: 4n, owner: keyOf(9) }));
  read();
  assert.deepEqual(known(consumer), []);
  assert.ok(consumer.accounts.trust.isComplete);
});

test("what a dead bank wrote is taken back", async () => {
  await using place = new Place();
  const { sender, consumer } = await opened(place);
  await consumer.subscribe({ owners: [OWNER] });
  sender.publishAccount(account(3, { slot: 10n, bankId: 1n }));
  sender.publishAccount(account(3, { slot: 11n, bankId: 2n }));
  sender.publishAccount(account(4, { slot: 11n, bankId: 2n }));
  sender.publishSlot(slotUpdate({ slot: 11n, parent: 10n, bankId: 2n }));
  await ready(consumer);
  assert.deepEqual([3, 4].map((key) => consumer.accounts.get(keyOf(key))!.slot), [11n, 11n]);
  sender.publishSlot(slotUpdate({ slot: 11n, parent: 10n, bankId: 2n, status: "dead" }));
  await within(consumer.accounts.waitFor(keyOf(3), ({ slot }) => slot === 10n), "the version that holds again");
  await until(() => (consumer.poll(() => {}), !consumer.accounts.has(keyOf(4))), "the fourth's withdrawal");
});

test("what its sender has forgotten nobody takes back: the cache says so, once a bank that wrote such is dead", async () => {
  await using place = new Place();
  const sender = await place.sender({
    state: { maxBytes: 4 * 1024 * 1024, keep: "all" },
    ringCapacityBytes: 8 * 1024 * 1024,
  });
  const consumer = await place.consumer({ cache: true });
  const die = (slot: bigint) => sender.publishSlot(slotUpdate({ slot, parent: slot - 1n, status: "dead" }));
  await consumer.subscribe({ accounts: [keyOf(3), keyOf(4)] });
  sender.publishAccount(account(3, { slot: 1n }));
  sender.publishSlot(slotUpdate({ slot: 1n, parent: 0n, status: "finalized" }));
  sender.publishAccount(account(3, { slot: 2n }));
  sender.publishAccount(account(4, { slot: 3n }));
  for (let i = 0; i < 300; i++) {
    const pubkey = keyOf(9);
    new DataView(pubkey.buffer).setUint32(0, i);
    sender.publishAccount(accountUpdate({ pubkey, slot: 4n, data: new Uint8Array(16_000) }));
  }
  const { accounts } = consumer;
  const read = async () => {
    sender.publishAccount(account(5, { slot: 9n }));
    sender.publishSlot(slotUpdate({ slot: 10n, parent: 9n }));
    await until(() => {
      let isLast = false;
      consumer.poll((update) => void (isLast ||= update.kind === "slot" && update.slotNumber === 10));
      return isLast;
    }, "all of it");
  };
  await read();
  const { evicted } = sender.metrics.state;
  assert.ok(evicted > 1);
  assert.equal(accounts.trust.isComplete, true);
  sender.publishAccount(account(6, { slot: 5n }));
  die(5n); // of which nothing is forgotten; but whether there was anything before it nobody knows
  await read();
  assert.deepEqual(accounts.trust.reasons, [{ reason: "evicted", evicted }]);
  die(2n);
  await read();
  assert.equal(accounts.get(keyOf(3))?.slot, 2n, "the version that is dead stays");
});

test("after a loss all is asked for again, and right", async () => {
  await using place = new Place();
  const { sender, consumer } = await opened(place, { consumer: { policy: "drop-newest" } });
  await consumer.subscribe({ owners: [OWNER] });
  await ready(consumer);
  for (let round = 1n; round <= 40n; round++) {
    for (let key = 3; key <= 30; key++) sender.publishAccount(account(key, { slot: round, data: new Uint8Array(200) }));
  }
  await until(() => (consumer.poll(() => {}), consumer.metrics.lost > 0), "the loss");
  const [reason] = consumer.accounts.trust.reasons.filter(({ reason }) => reason === "loss");
  assert.ok(reason !== undefined);
  await ready(consumer);
  for (let key = 3; key <= 30; key++) assert.equal(consumer.accounts.get(keyOf(key))?.slot, 40n, `key ${key}`);
  assert.ok(consumer.accounts.trust.isComplete);
});

test("another sender at the path: what it does not know goes, what it knows counts, be it older", async () => {
  await using place = new Place();
  const { sender, consumer } = await opened(place);
  const gone: string[] = [];
  consumer.accounts.onRemoved(({ address, reason }) => void gone.push(`${address} ${reason}`));
  for (const key of [3, 4]) sender.publishAccount(account(key, { slot: 9n }));
  await consumer.subscribe({ owners: [OWNER] });
  await ready(consumer);
  const { address } = consumer.accounts.get(keyOf(4))!;
  await sender.close();
  await until(() => !consumer.isConnected, "the loss");
  consumer.poll(() => {});
  assert.deepEqual(known(consumer), [3, 4]);
  assert.ok(consumer.accounts.trust.reasons.some(({ reason }) => reason === "disconnected"));
  const second = await place.sender(STATE);
  second.publishAccount(account(3, { slot: 5n }));
  assert.ok((await ready(consumer)).isComplete);
  assert.deepEqual(known(consumer), [3]);
  assert.equal(consumer.accounts.get(keyOf(3))!.slot, 5n);
  await turn();
  assert.deepEqual(gone, [`${address} unconfirmed`]);
});

test("what somebody reads the cache does not read away; who waits for it beside a loop gets it by that", async () => {
  await using place = new Place();
  const { sender, consumer } = await opened(place);
  await consumer.subscribe({ owners: [OWNER] });
  const slots: number[] = [];
  const running = consumer.run((update) => {
    if (update.kind === "slot") slots.push(update.slotNumber);
  });
  await ready(consumer);
  const latest = consumer.accounts.latest(keyOf(3));
  for (let slot = 1n; slot <= 50n; slot++) {
    const next = latest.next();
    sender.publishAccount(account(3, { slot }));
    sender.publishSlot(slotUpdate({ slot }));
    assert.equal((await within(next, "the account")).value!.slot, slot);
  }
  await until(() => slots.length === 50, "all slots at who reads");
  const waiting = latest.next();
  await consumer.close();
  assert.equal((await within(waiting, "a quiet end")).done, true);
  await running;
  await assert.rejects(consumer.accounts.waitFor(keyOf(9), () => true), { code: "CONSUMER_CLOSED" });
  assert.equal(consumer.accounts.get(keyOf(3))!.slot, 50n, "what is known stays");
});

test("a loop that is open keeps what comes for itself; once it is left, who waits is served", async () => {
  await using place = new Place();
  const { sender, consumer } = await opened(place);
  await consumer.subscribe({ accounts: [keyOf(3)] });
  let waiting: Promise<unknown> | undefined;
  for await (const update of consumer) {
    if (update.kind === "snapshot-complete") {
      waiting = consumer.accounts.waitFor(keyOf(3), ({ slot }) => slot === 7n);
      sender.publishSlot(slotUpdate({ slot: 5n }));
      await turn();
      await turn();
      continue;
    }
    assert.ok(update.kind === "slot");
    break;
  }
  sender.publishAccount(account(3, { slot: 7n }));
  await within(waiting!, "the account, though nobody reads any longer");
});

test("who leaves a loop over one account while it waits is not waited for any longer", async () => {
  await using place = new Place();
  const { sender, consumer } = await opened(place);
  await consumer.subscribe({ accounts: [keyOf(3)] });
  await ready(consumer);
  const latest = consumer.accounts.latest(keyOf(3));
  const asked = latest.next();
  await turn();
  await latest.return!();
  assert.deepEqual(await within(asked, "the end of the wait"), { value: undefined, done: true });
  assert.deepEqual(await latest.next(), { value: undefined, done: true });
  sender.publishSlot(slotUpdate({ slot: 5n })); // nothing of it is read away
  assert.equal((await within(consumer.next(), "the slot"))?.kind, "slot");
});
