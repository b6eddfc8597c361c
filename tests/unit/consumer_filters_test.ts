/**
 * Consumer.setFilter() and its siblings: what is asked, in which order, what becomes of names and of refusals.
 * May touch: a consumer of the public API, a sender that does as told. May not touch: the library's own sender.
 *
 * @module
 */

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { type Consumer, type ConsumerOptions, load, type NamedFilter } from "../../mod.ts";
import { FilterKind, LinkKind } from "../../src/native/abi.generated.ts";
import type { Native } from "../../src/native/native.ts";
import { encodeFilter } from "../../src/wire/filters.ts";
import { filterKeys, filterKeysMax, type FilterRequest } from "../../src/wire/messages.ts";
import type { GoldenAccount } from "./support/golden_frame.ts";
import type { EngineOptions } from "./support/native_pairs.ts";
import { Place } from "./support/place.ts";
import { ScriptedSender } from "./support/scripted_sender.ts";
import { accountUpdate, keyOf } from "./support/updates.ts";
import { turn, within } from "./support/watchdog.ts";

const CAPACITY = 64 * 1024;

let native: Native;
before(async () => {
  native = await load();
});

function key(number: number): Uint8Array<ArrayBuffer> {
  const bytes = keyOf(1);
  new DataView(bytes.buffer).setUint32(0, number, true);
  return bytes;
}

function account(fields: Partial<GoldenAccount> = {}): GoldenAccount {
  return {
    ...accountUpdate(),
    ...{ pubkey: keyOf(1), owner: keyOf(2), writeVersion: 1n, bankId: 2n, rentEpoch: 3n, executable: false },
    ...{ startup: false, signature: undefined, sourceEpoch: 7, lossy: false, sourceNs: 9n, ...fields },
  };
}

/** A sender and its consumer. */
async function open(
  place: Place,
  options: ConsumerOptions = {},
  engine: Partial<EngineOptions> = {},
): Promise<{ sender: ScriptedSender; consumer: Consumer } & Disposable> {
  const sender = new ScriptedSender(native, place.path, { capacityBytes: CAPACITY, ...engine });
  const [consumer] = await Promise.all([place.consumer(options), within(sender.grant(), "a hello")]);
  return { sender, consumer, [Symbol.dispose]: () => sender[Symbol.dispose]() };
}

/** What counts of a request. */
function gist(request: FilterRequest): unknown[] {
  const { op, bit, isLast, transactions, accountCount, ownerCount, programKind } = request;
  return [op, bit, isLast, transactions, accountCount, ownerCount, programKind];
}

test("setFilter() replaces a filter in one message: keys for the index, a program for the rest", async () => {
  await using place = new Place();
  using scene = await open(place);
  const { sender, consumer } = scene;
  const rows: [filter: NamedFilter, accounts: Uint8Array[], owners: Uint8Array[], kind: number][] = [
    [{ accounts: { owners: [keyOf(1), keyOf(2)], dataSize: 165 } }, [], [keyOf(1), keyOf(2)], FilterKind.accounts],
    [{ accounts: { accounts: [keyOf(3)], owners: [keyOf(4)] } }, [keyOf(3)], [], FilterKind.accounts],
    [{ accounts: true }, [], [], FilterKind.accounts],
    [{ transactions: { accountInclude: [keyOf(5)], vote: false } }, [keyOf(5)], [], FilterKind.transactions],
    [{ transactions: { failed: false } }, [], [], FilterKind.transactions],
    [{ slots: { statuses: ["finalized"] } }, [], [], FilterKind.slots],
  ];
  for (const [i, [filter, accounts, owners, kind]] of rows.entries()) {
    const setting = consumer.setFilter(`f${i}`, filter);
    const request = await sender.filterRequest();
    assert.deepEqual(gist(request), ["replace", i + 1, true, false, accounts.length, owners.length, kind]);
    assert.deepEqual(filterKeys(request), { accounts, owners });
    const program = encodeFilter(filter, "x").program;
    assert.deepEqual(request.body.slice(-program.length), program);
    sender.ack(request, { generation: i + 1, sequence: BigInt(10 * i) });
    assert.deepEqual(await within(setting, "the answer"), { generation: i + 1, sequence: BigInt(10 * i) });
  }
  assert.deepEqual(consumer.filterNames, rows.map((_, i) => `f${i}`));
  const again = consumer.setFilter("f2", { accounts: { lamports: 1n } });
  const request = await sender.filterRequest();
  assert.equal(request.bit, 3, "a name keeps its bit");
  sender.ack(request, { generation: 7, sequence: 60n });
  await within(again, "the answer");
});

test("setFilter() with an empty list matches nothing: it says so in two messages, since one would match everything", async () => {
  await using place = new Place();
  using scene = await open(place);
  const { sender, consumer } = scene;
  const filters: NamedFilter[] = [
    { accounts: { accounts: [] } },
    { accounts: { owners: [], dataSize: 1 } },
    { transactions: { accountInclude: [] } },
  ];
  for (const [i, filter] of filters.entries()) {
    const setting = consumer.setFilter("none", filter);
    const first = await sender.filterRequest();
    const kind = i === 2 ? FilterKind.transactions : FilterKind.accounts;
    assert.deepEqual(gist(first), ["replace", 1, false, false, 0, 0, kind]);
    sender.ack(first, { generation: 1, sequence: 1n });
    const last = await sender.filterRequest();
    assert.deepEqual(gist(last), ["add", 1, true, false, 0, 0, 0]);
    sender.ack(last, { generation: 2, sequence: 2n });
    assert.deepEqual(await within(setting, "the answer"), { generation: 2, sequence: 2n });
  }
});

test("setFilter() with a long list: in force with the last message, edits asked for later wait for that", async () => {
  await using place = new Place();
  using scene = await open(place);
  const { sender, consumer } = scene;
  const filter: NamedFilter = { accounts: { owners: Array.from({ length: 50_000 }, (_, i) => key(i)), dataSize: 165 } };
  const fits = filterKeysMax(encodeFilter(filter, "x").program.length);
  const setting = consumer.setFilter("long", filter);
  const later = consumer.subscribe({ accounts: [keyOf(9)] });
  const latest = consumer.removeFilter("long");
  const first = await sender.filterRequest();
  assert.deepEqual(gist(first), ["replace", 1, false, false, 0, fits, FilterKind.accounts]);
  sender.ack(first, { generation: 1, sequence: 0n });
  const last = await sender.filterRequest();
  assert.deepEqual(gist(last), ["add", 1, true, false, 0, 50_000 - fits, 0]);
  assert.deepEqual(filterKeys(last).owners.at(-1), key(49_999));
  sender.ack(last, { generation: 2, sequence: 5n });
  assert.deepEqual(await within(setting, "the answer"), { generation: 2, sequence: 5n });
  const subscribe = await sender.request();
  assert.equal(subscribe.kind, LinkKind.subscribe);
  const drop = await sender.filterRequest();
  assert.equal(drop.op, "drop");
  sender.ack(subscribe, { generation: 3, sequence: 5n });
  sender.ack(drop, { generation: 4, sequence: 5n });
  await within(Promise.all([later, latest]), "the answers");
});

test("a refused part ends it: nothing of the filter follows, the name is free", async () => {
  await using place = new Place();
  using scene = await open(place);
  const { sender, consumer } = scene;
  const owners = Array.from({ length: 80_000 }, (_, i) => key(i));
  const setting = consumer.setFilter("long", { accounts: { owners } });
  const waiting = consumer.unsubscribe({ transactions: true });
  sender.ack(await sender.filterRequest(), { generation: 1, sequence: 0n });
  sender.refuse(await sender.filterRequest(), "no room for 80,000 keys");
  await assert.rejects(within(setting, "the refusal"), {
    code: "SUBSCRIBE_REFUSED",
    message: /no room for 80,000 keys/,
  });
  assert.deepEqual(consumer.filterNames, []);
  const next = await sender.filterRequest();
  assert.deepEqual(gist(next), ["remove", 0, true, true, 0, 0, 0]);
  sender.ack(next, { generation: 1, sequence: 0n });
  await within(waiting, "the answer");
});

test("unsubscribe() takes keys from the filter of subscribe(), in several messages if it must", async () => {
  await using place = new Place();
  using scene = await open(place);
  const { sender, consumer } = scene;
  const fits = filterKeysMax(0);
  const accounts = Array.from({ length: fits + 2 }, (_, i) => key(i));
  const unsubscribed = consumer.unsubscribe({ accounts, owners: [keyOf(7)], transactions: true });
  const first = await sender.filterRequest();
  assert.deepEqual(gist(first), ["remove", 0, true, false, fits, 0, 0]);
  const last = await sender.filterRequest();
  assert.deepEqual(gist(last), ["remove", 0, true, true, 2, 1, 0]);
  assert.deepEqual(filterKeys(last), { accounts: accounts.slice(-2), owners: [keyOf(7)] });
  sender.ack(first, { generation: 1, sequence: 3n });
  sender.ack(last, { generation: 2, sequence: 4n });
  assert.deepEqual(await within(unsubscribed, "the answer"), { generation: 2, sequence: 4n });
  await assert.rejects(consumer.unsubscribe({ accounts: ["x" as never] }), TypeError);
});

test("editFilter() adds and removes keys of the list that the index holds", async () => {
  await using place = new Place();
  using scene = await open(place);
  const { sender, consumer } = scene;
  const set = async (name: string, filter: NamedFilter) => {
    const setting = consumer.setFilter(name, filter);
    sender.ack(await sender.filterRequest(), { generation: 1, sequence: 0n });
    await within(setting, "the answer");
  };
  await set("owners", { accounts: { owners: [keyOf(1)] } });
  await set("accounts", { accounts: { accounts: [keyOf(1)], owners: [keyOf(2)] } });
  await set("transactions", { transactions: { accountRequired: [keyOf(1), keyOf(2)] } });
  await set("all", { accounts: true });
  const edit = consumer.editFilter("owners", { add: [keyOf(3), keyOf(4)], remove: new Set([keyOf(1)]) });
  const remove = await sender.filterRequest();
  assert.deepEqual(gist(remove), ["remove", 1, true, false, 0, 1, 0]);
  const add = await sender.filterRequest();
  assert.deepEqual(gist(add), ["add", 1, true, false, 0, 2, 0]);
  assert.deepEqual(filterKeys(add).owners, [keyOf(3), keyOf(4)]);
  sender.ack(remove, { generation: 5, sequence: 1n });
  sender.ack(add, { generation: 6, sequence: 2n });
  assert.deepEqual(await within(edit, "the answer"), { generation: 6, sequence: 2n });
  for (const [name, bit] of [["accounts", 2], ["transactions", 3]] as const) {
    const edit = consumer.editFilter(name, { remove: [keyOf(1)] });
    const request = await sender.filterRequest();
    assert.deepEqual(gist(request), ["remove", bit, true, false, 1, 0, 0]);
    sender.refuse(request, "not today");
    await assert.rejects(within(edit, "the refusal"), { code: "SUBSCRIBE_REFUSED", message: /not today/ });
  }
  await assert.rejects(consumer.editFilter("all", { add: [keyOf(1)] }), { name: "TypeError", message: /has no keys/ });
  await assert.rejects(consumer.editFilter("nobody", { add: [] }), {
    name: "RangeError",
    message: /none of that name/,
  });
  await assert.rejects(consumer.editFilter("owners", { add: [7 as never] }), TypeError);
});

test("names: 63 of them, of 1 to 64 characters; what is no filter asks nothing", async () => {
  await using place = new Place();
  using scene = await open(place);
  const { sender, consumer } = scene;
  for (const name of ["", 7 as never, undefined as never]) {
    await assert.rejects(consumer.setFilter(name, { accounts: true }), TypeError);
    await assert.rejects(consumer.removeFilter(name), TypeError);
  }
  await assert.rejects(consumer.setFilter("x".repeat(65), { accounts: true }), RangeError);
  await assert.rejects(consumer.setFilter("x", {} as never), TypeError);
  await assert.rejects(consumer.setFilter("x", { accounts: { lamprts: 1n } } as never), /no condition "lamprts"/);
  assert.deepEqual(consumer.filterNames, []);
  const settings: Promise<unknown>[] = [];
  for (let i = 1; i <= 63; i++) {
    settings.push(consumer.setFilter("x".repeat(64 - (i % 2)).slice(0, 60) + i, { accounts: true }));
    const request = await sender.filterRequest();
    assert.equal(request.bit, i);
    sender.ack(request, { generation: i, sequence: 0n });
  }
  await within(Promise.all(settings), "the answers");
  await assert.rejects(consumer.setFilter("one more", { accounts: true }), {
    name: "RangeError",
    message: /there are 63/,
  });
});

test("removeFilter(): the bit is used again only after the answer, and unread frames bear the old name", async () => {
  await using place = new Place();
  using scene = await open(place, { marks: true });
  const { sender, consumer } = scene;
  const { engine } = sender;
  let generation = 0;
  /** Does what the request says, and answers. */
  const obey = (request: FilterRequest & { requestId: number }, sequence: bigint) => {
    assert.equal(engine.editBy(request.body), 0);
    engine.mark({ kind: "filter", generation: ++generation, sourceNs: 0n });
    sender.ack(request, { generation, sequence });
  };
  const setting = consumer.setFilter("old", { accounts: { owners: [keyOf(2)] } });
  obey(await sender.filterRequest(), 0n);
  await within(setting, "the answer");
  assert.equal(engine.publish(account()), 1); // sequence 1, unread
  const removing = consumer.removeFilter("old");
  assert.deepEqual(consumer.filterNames, []);
  await assert.rejects(consumer.removeFilter("old"), RangeError);
  const other = consumer.setFilter("other", { accounts: { owners: [keyOf(3)] } });
  const drop = await sender.filterRequest();
  assert.deepEqual(gist(drop), ["drop", 1, true, false, 0, 0, 0]);
  const replace = await sender.filterRequest();
  assert.equal(replace.bit, 2, "the removal is not acknowledged");
  obey(drop, 1n);
  obey(replace, 1n);
  await within(Promise.all([removing, other]), "the answers");
  const newer = consumer.setFilter("new", { accounts: { owners: [keyOf(2)] } });
  const reuse = await sender.filterRequest();
  assert.equal(reuse.bit, 1);
  obey(reuse, 1n);
  await within(newer, "the answer");
  assert.equal(engine.publish(account()), 1);
  const seen: unknown[] = [];
  while (
    consumer.poll((update) => {
      if (update.kind === "filter") seen.push(update.generation);
      else seen.push([update.sequence, update.filters]);
    }) > 0
  );
  assert.deepEqual(seen, [1, [1n, ["old"]], 2, 3, 4, [2n, ["new"]]]);
});

test("what an engine refuses leaves the filter as it was, also in the middle of a long list", {
  timeout: 60_000, // of Bun without an argument: 5 s, which a busy machine needs for lists that long
}, async () => {
  await using place = new Place();
  using scene = await open(place, {}, { keysMax: 60_000 });
  const { sender, consumer } = scene;
  const { engine } = sender;
  /** Answers requests as a sender does. */
  const serving = (async () => {
    for (let generation = 1;; generation++) {
      const request = await sender.filterRequest();
      if (engine.editBy(request.body) < 0) sender.refuse(request, "too many keys");
      else sender.ack(request, { generation, sequence: 0n });
    }
  })();
  const obey = (edit: Promise<unknown>): Promise<string> =>
    within(edit.then(() => "done", (error) => error.code), "the answer");
  const filterOf = (count: number): NamedFilter => ({
    accounts: { owners: Array.from({ length: count }, (_, i) => key(i)) },
  });
  const publish = (owner: Uint8Array) => engine.publish(account({ owner }));
  assert.equal(await obey(consumer.setFilter("a", filterOf(3))), "done");
  assert.equal(await obey(consumer.setFilter("a", filterOf(70_000))), "SUBSCRIBE_REFUSED");
  assert.deepEqual([publish(key(2)), publish(key(3)), publish(key(40_000))], [1, 0, 0]);
  assert.equal(await obey(consumer.editFilter("a", { add: [keyOf(9)] })), "done");
  assert.deepEqual(
    [publish(key(2)), publish(key(3)), publish(keyOf(9))],
    [1, 0, 1],
    "of the refused one nothing is left",
  );
  assert.equal(await obey(consumer.setFilter("b", filterOf(70_000))), "SUBSCRIBE_REFUSED");
  assert.deepEqual(consumer.filterNames, ["a"]);
  assert.equal(await obey(consumer.setFilter("b", filterOf(50_000))), "done");
  assert.deepEqual([publish(key(49_999)), publish(key(50_000))], [1, 0]);
  await consumer.close();
  await assert.rejects(within(serving, "the end"), { name: "AssertionError" }); // a goodbye is no filter
});

test("a removal that was refused leaves the filter as it was", async () => {
  await using place = new Place();
  using scene = await open(place);
  const { sender, consumer } = scene;
  const setting = consumer.setFilter("a", { accounts: true });
  sender.ack(await sender.filterRequest(), { generation: 1, sequence: 0n });
  await within(setting, "the answer");
  const removing = consumer.removeFilter("a");
  sender.refuse(await sender.filterRequest(), "no");
  await assert.rejects(within(removing, "the refusal"), { code: "SUBSCRIBE_REFUSED" });
  assert.deepEqual(consumer.filterNames, ["a"]);
});

test("an edit of a closed consumer is refused with CONSUMER_CLOSED, also one that waits", async () => {
  await using place = new Place();
  using scene = await open(place);
  const { consumer } = scene;
  const owners = Array.from({ length: 40_000 }, (_, i) => key(i));
  const before = [consumer.setFilter("a", { accounts: { owners } }), consumer.unsubscribe({})];
  const refusals = Promise.allSettled(before);
  await consumer.close();
  const after = Promise.allSettled([consumer.setFilter("b", { accounts: true }), consumer.unsubscribe({})]);
  for (const outcome of [...await within(refusals, "the refusals"), ...await within(after, "the refusals")]) {
    assert.equal((outcome as PromiseRejectedResult).reason?.code, "CONSUMER_CLOSED");
  }
  await turn();
});
