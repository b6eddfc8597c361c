/**
 * What a sender publishes, to whom, in which order; what it refuses; what is lost and who hears of it.
 * May touch: the public API, one sender and its consumers in one process.
 * May not touch: timing; a consumer that reads in the same turn sees what was committed before.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type AccountUpdate,
  type Consumer,
  isQlasterError,
  type SlotUpdate,
  type TransactionUpdate,
  type Update,
  type UpdateView,
} from "../../mod.ts";
import { CAPACITY_BYTES, Place } from "./support/place.ts";
import { accountUpdate, keyOf, patternBytes, slotUpdate, transactionUpdate } from "./support/updates.ts";
import { turn, until, within } from "./support/watchdog.ts";

type Copy = ReturnType<UpdateView["copy"]>;

/** All that is there now. */
function read(consumer: Consumer): Copy[] {
  const copies: Copy[] = [];
  while (consumer.poll((update) => void copies.push(update.copy())) > 0);
  return copies;
}

test("each field that is not what it must be is refused, and nothing is published", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  await consumer.subscribe({ accounts: [keyOf(1)], owners: [keyOf(2)], transactions: true });
  const u64s = (names: string[]): [name: string, value: unknown, error: string][] =>
    names.flatMap((name) => [
      [name, 1, "TypeError"],
      [name, "1", "TypeError"],
      [name, null, name === "slot" || name === "lamports" || name === "parent" ? "TypeError" : ""],
      [name, -1n, "RangeError"],
      [name, 2n ** 64n, "RangeError"],
    ]);
  const keys = (names: string[]): [name: string, value: unknown, error: string][] =>
    names.flatMap((name) => [
      [name, undefined, "TypeError"],
      [name, new Uint8Array(31), "TypeError"],
      [name, new Uint8Array(33), "TypeError"],
      [name, Array(32).fill(1), "TypeError"],
      [name, "not base58: 0OIl and thirty-two of it", "TypeError"],
      [name, "", "TypeError"],
    ]);
  const bytes = (name: string): [name: string, value: unknown, error: string][] => [
    [name, null, "TypeError"],
    [name, "text", "TypeError"],
    [name, [1, 2], "TypeError"],
    [name, new ArrayBuffer(8), "TypeError"],
    [name, new Uint16Array(8), "TypeError"],
    [name, new Uint8Array(10 * 1024 * 1024 + 1), "RangeError"],
  ];
  const signature: [name: string, value: unknown, error: string][] = [
    ["signature", new Uint8Array(63), "TypeError"],
    ["signature", new Uint8Array(65), "TypeError"],
    ["signature", null, "TypeError"],
    ["signature", "5".repeat(64), "TypeError"],
  ];
  const accountRows = [
    ...u64s(["lamports", "slot", "writeVersion", "bankId", "rentEpoch", "sourceNs"]),
    ...keys(["pubkey", "owner"]),
    ...bytes("data"),
    ...signature,
  ];
  const transactionRows: typeof accountRows = [
    ...u64s(["slot", "bankId", "sourceNs"]),
    ...bytes("message"),
    ...bytes("meta"),
    ...signature,
    ["signature", undefined, "TypeError"],
    ...[-1, 0.5, 2 ** 32, NaN, Infinity].map((value) => ["index", value, "RangeError"] as [string, unknown, string]),
    ["index", 1n, "RangeError"],
    ["index", "1", "RangeError"],
    ["index", undefined, "RangeError"],
  ];
  const slotRows: typeof accountRows = [
    ...u64s(["slot", "parent", "bankId", "sourceNs"]),
    ["status", "rooted", "TypeError"],
    ["status", 0, "TypeError"],
    ["status", undefined, "TypeError"],
  ];
  const publish: [update: Update, rows: typeof accountRows, one: (update: never) => number][] = [
    [accountUpdate(), accountRows, (update) => sender.publishAccount(update)],
    [transactionUpdate(), transactionRows, (update) => sender.publishTransaction(update)],
    [slotUpdate(), slotRows, (update) => sender.publishSlot(update)],
  ];
  for (const [update, rows, one] of publish) {
    for (const [name, value, error] of rows) {
      if (error === "") continue; // null stands for "left out" there
      const bad = { ...update, [name]: value } as never;
      const what = `${update.kind} ${name} ${typeof value} ${String(value).slice(0, 20)}`;
      assert.throws(() => one(bad), {
        name: error,
        message: new RegExp(value === "" ? "is no address" : `${name}|is no address`),
      }, what);
      assert.throws(() => sender.publishBatch([bad]), { name: error }, what);
    }
    assert.throws(() => one(null as never), TypeError);
    assert.throws(() => one(undefined as never), TypeError);
  }
  for (const kind of ["gap", "block", undefined]) {
    assert.throws(() => sender.publishBatch([{ ...slotUpdate(), kind } as never]), {
      name: "TypeError",
      message: /kind must be/,
    });
  }
  const { accounts, transactions, slots, deliveries, sequence } = sender.metrics;
  assert.deepEqual([accounts, transactions, slots, deliveries, sequence], [0, 0, 0, 0, 0n]);
  assert.equal(sender.publishSlot(slotUpdate({ slot: 9n })), 1);
  assert.deepEqual(read(consumer).map((copy) => [copy.kind, copy.sequence]), [["slot", 1n]]);
});

test("all fields arrive; kit's addresses and bytes are the same; a copy can be published again", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  await consumer.subscribe({ accounts: ["So11111111111111111111111111111111111111112" as never], transactions: true });
  const account: AccountUpdate = accountUpdate({
    pubkey: "So11111111111111111111111111111111111111112" as never,
    owner: "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA" as never,
    writeVersion: 2n ** 64n - 1n,
    bankId: 3n,
    rentEpoch: 4n,
    executable: true,
    signature: patternBytes(64, 1),
    startup: true,
    lossy: true,
    sourceNs: 5n,
  });
  const transaction: TransactionUpdate = transactionUpdate({
    meta: patternBytes(9, 1),
    vote: true,
    failed: true,
    bankId: 1n,
    lossy: true,
    sourceNs: 2n,
  });
  const slot: SlotUpdate = slotUpdate({ status: "dead", bankId: 1n, lossy: true, sourceNs: 2n });
  assert.equal(sender.publishBatch([account, transaction, slot]), 3);
  const first = read(consumer);
  assert.equal(sender.publishBatch(first as Update[]), 3);
  const second = read(consumer);
  assert.equal(first.length, 3);
  const bare = (copy: Copy) => {
    const { sequence: _s, publishNs: _p, filters: _f, ...rest } = copy as Copy & { filters?: unknown };
    return rest;
  };
  assert.deepEqual(bare(first[0]!), {
    ...account,
    pubkey: (first[0] as AccountUpdate).pubkey,
    owner: (first[0] as AccountUpdate).owner,
    sourceEpoch: 0,
    fullLength: account.data.length,
    isState: false,
    isRestored: false,
    lost: 0,
    conflated: 0,
  });
  assert.deepEqual(bare(first[1]!), { ...transaction, lost: 0, conflated: 0 });
  // Accounts and transactions are counted again, and the sender counts for itself.
  assert.deepEqual(bare(first[2]!), {
    ...slot,
    lost: 0,
    conflated: 0,
    accountsPublished: 1,
    transactionsPublished: 1,
    accountsLost: 0,
    transactionsLost: 0,
  });
  assert.deepEqual(second.slice(0, 2).map(bare), first.slice(0, 2).map(bare));
  assert.deepEqual(bare(second[2]!), { ...bare(first[2]!), accountsPublished: 2, transactionsPublished: 2 });
  assert.deepEqual(second.map((copy) => copy.sequence), [4n, 5n, 6n]);
});

test("a view itself can be published again, straight from the ring", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  const other = await place.consumer({ name: "other" });
  await consumer.subscribe({ accounts: [keyOf(1)] });
  await other.subscribe({ accounts: [keyOf(1)] });
  sender.publishAccount(accountUpdate({ data: patternBytes(3000, 4), signature: patternBytes(64, 2) }));
  const reached = consumer.poll((view) => {
    if (view.kind === "account") assert.equal(sender.publishAccount(view), 2);
  }, 1);
  assert.equal(reached, 1);
  const [first, again] = read(other) as AccountUpdate[];
  assert.deepEqual({ ...again, sequence: 1n, publishNs: 0n }, { ...first, sequence: 1n, publishNs: 0n });
});

test("filters: key OR owner, each update once; transactions only on request; slots always; nothing asked, nothing sent", async () => {
  await using place = new Place();
  const sender = await place.sender();
  const byKey = await place.consumer();
  const byOwner = await place.consumer();
  const byBoth = await place.consumer();
  const nothing = await place.consumer();
  await until(() => sender.metrics.consumers === 4, "the consumers");
  await byKey.subscribe({ accounts: [keyOf(1)] });
  await byOwner.subscribe({ owners: [keyOf(2)] });
  await byBoth.subscribe({ accounts: [keyOf(1)], owners: [keyOf(2)], transactions: true });
  await nothing.subscribe({ accounts: [], owners: [], transactions: false });
  const reached = [
    sender.publishAccount(accountUpdate()), // key 1, owner 2
    sender.publishAccount(accountUpdate({ owner: keyOf(9) })), // key 1
    sender.publishAccount(accountUpdate({ pubkey: keyOf(9) })), // owner 2
    sender.publishAccount(accountUpdate({ pubkey: keyOf(2), owner: keyOf(1) })), // a key is no owner
    sender.publishTransaction(transactionUpdate()),
    sender.publishSlot(slotUpdate()),
  ];
  assert.deepEqual(reached, [3, 2, 2, 0, 1, 4]);
  const sequences = (consumer: Consumer) => read(consumer).map((copy) => Number(copy.sequence));
  assert.deepEqual(sequences(byKey), [1, 2, 6]);
  assert.deepEqual(sequences(byOwner), [1, 2, 3, 6], "the second says that it has left");
  assert.deepEqual(sequences(byBoth), [1, 2, 3, 5, 6]);
  assert.deepEqual(sequences(nothing), [6]);
  assert.equal(sender.metrics.deliveries, 12);
});

test("updates that are published one by one have a time each", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  await consumer.subscribe({ accounts: [keyOf(1)], transactions: true });
  const publishers = [
    () => sender.publishAccount(accountUpdate()),
    () => sender.publishTransaction(transactionUpdate()),
    () => sender.publishSlot(slotUpdate()),
  ];
  for (const publish of publishers) {
    const times = new Set<bigint>();
    await until(() => {
      publish();
      for (const copy of read(consumer)) times.add(copy.publishNs);
      return times.size >= 3;
    }, "a clock that goes on");
  }
});

test("publishBatch() has one time for all, and returns the deliveries", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: { ringCapacityBytes: 1024 * 1024 } });
  await consumer.subscribe({ accounts: [keyOf(1)] });
  const updates = [accountUpdate(), accountUpdate({ pubkey: keyOf(5) }), slotUpdate(), accountUpdate()];
  assert.equal(sender.publishBatch(updates), 3);
  assert.equal(sender.publishBatch([]), 0);
  const copies = read(consumer);
  assert.deepEqual(copies.map((copy) => copy.sequence), [1n, 3n, 4n]);
  assert.equal(new Set(copies.map((copy) => copy.publishNs)).size, 1);
});

test("publishBatch() commits every 256 updates: nothing is seen before, all of them after", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: { ringCapacityBytes: 1024 * 1024 } });
  const seen: number[] = [];
  function* updates() {
    for (let i = 0; i < 600; i++) {
      seen.push(read(consumer).length);
      yield slotUpdate({ slot: BigInt(i) });
    }
  }
  assert.equal(sender.publishBatch(updates()), 600);
  assert.deepEqual(seen.flatMap((count, i) => count === 0 ? [] : [[i, count]]), [[256, 256], [512, 256]]);
  assert.equal(read(consumer).length, 88);
});

test("publishBatch() publishes what came before a faulty update, or before its source threw", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  const bad = slotUpdate({ slot: -1n });
  assert.throws(() => sender.publishBatch([slotUpdate(), slotUpdate(), bad, slotUpdate()]), RangeError);
  assert.deepEqual(read(consumer).map((copy) => copy.sequence), [1n, 2n]);
  const failure = new Error("no more");
  function* source() {
    yield slotUpdate();
    throw failure;
  }
  assert.throws(() => sender.publishBatch(source()), failure);
  assert.deepEqual(read(consumer).map((copy) => copy.sequence), [3n]);
  assert.equal(sender.publishSlot(slotUpdate()), 1);
  assert.equal(read(consumer).length, 1, "no batch was left open");
});

test("publishBatch() keeps the order of what is copied and what is not, and takes each before it asks for the next", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: { ringCapacityBytes: 1024 * 1024 } });
  await consumer.subscribe({ accounts: [keyOf(1)], transactions: true });
  const sizes = [0, 165, 1024, 1025, 9, 5000, 5000, 1024, 0]; // up to 1,024 they are gathered; from 4,096 on in the pool
  const data = new Uint8Array(5000);
  function* source() { // one object, one buffer
    for (let round = 0; round < 20; round++) {
      for (const size of sizes) {
        data.fill(round + size);
        yield accountUpdate({ data: data.subarray(0, size), lamports: BigInt(round) });
        if (size === 9) yield transactionUpdate({ meta: data.subarray(0, 9), message: data.subarray(0, 2000) });
      }
      data.fill(255);
    }
  }
  assert.equal(sender.publishBatch(source()), 20 * (sizes.length + 1));
  const copies = read(consumer);
  assert.deepEqual(copies.map(({ sequence }) => Number(sequence)), Array.from({ length: 200 }, (_, i) => i + 1));
  const accounts = copies.filter((copy) => copy.kind === "account");
  assert.deepEqual(
    accounts.map((copy) => [Number(copy.lamports), copy.data.length, copy.data.at(0), copy.data.at(-1)]),
    Array.from({ length: 20 }, (_, round) =>
      sizes.map((size) => {
        const byte = size === 0 ? undefined : (round + size) & 255;
        return [round, size, byte, byte];
      })).flat(),
  );
  const transactions = copies.filter((copy) => copy.kind === "transaction");
  assert.deepEqual(
    transactions.map(({ message, meta }) => [message.length, message[1999], meta?.length, meta?.[8]]),
    Array.from({ length: 20 }, (_, round) => [2000, round + 9, 9, round + 9]),
  );
});

test("publishBatch() with a consumer that blocks says how many went out, whatever stopped it; nothing else is lost", async () => {
  await using place = new Place();
  const options = { ringCapacityBytes: 65_536, policies: ["block" as const], poolBytes: 0, blockTimeoutMs: 60_000 };
  const { sender, consumer } = await place.pair({ sender: options, consumer: { policy: "block" } });
  await consumer.subscribe({ accounts: [keyOf(1)] });
  const total = 4000; // some 200 fit at a time
  const updates: Update[] = Array.from({ length: total }, (_, i) => accountUpdate({ lamports: BigInt(i) }));
  const seen: number[] = [];
  const outcomes = { congested: 0, faulty: 0 };
  let published = 0;
  for (let attempt = 0; published < total; attempt++) {
    // One is faulty, before or behind where there is no room: whichever comes first in the batch decides.
    const faulty = published + 7 * attempt;
    const some = updates.slice(published).map((update, i) =>
      published + i === faulty ? slotUpdate({ slot: -1n }) : update
    );
    let error: unknown;
    try {
      sender.publishBatch(some);
    } catch (caught) {
      error = caught;
    }
    if (error instanceof RangeError) {
      outcomes.faulty++;
      published = faulty;
    } else if (error !== undefined) {
      assert.ok(isQlasterError(error, "SENDER_CONGESTED"), `${error}`);
      outcomes.congested++;
      published += error.published!;
      assert.ok(published <= faulty);
      assert.ok(sender.congested);
      assert.equal(sender.publishAccount(accountUpdate()), -1);
    } else published = total;
    for (const copy of read(consumer)) if (copy.kind === "account") seen.push(Number(copy.lamports));
    assert.equal(seen.length, published, "all that went out was committed");
    await within(sender.drained(), "room");
  }
  assert.deepEqual(seen, Array.from({ length: total }, (_, i) => i));
  assert.ok(outcomes.congested >= 5 && outcomes.faulty >= 5, JSON.stringify(outcomes));
});

test("unchanged counts what was published, not what a consumer that blocks has kept from it", async () => {
  await using place = new Place();
  const options = { ringCapacityBytes: 65_536, policies: ["block" as const, "drop-newest" as const], poolBytes: 0 };
  const { sender, consumer } = await place.pair({ sender: options, consumer: { policy: "block" } });
  await consumer.subscribe({ accounts: [keyOf(1)] });
  const changes = await place.consumer({ policy: "drop-newest" });
  await changes.setFilter("changes", { accounts: { accounts: [keyOf(1)], onlyChanged: true } });
  let published = 0;
  while (sender.publishAccount(accountUpdate()) >= 0) published++;
  assert.equal(sender.metrics.unchanged, published - 1);
  for (let i = 0; i < 5; i++) {
    assert.equal(sender.publishAccount(accountUpdate()), -1);
    assert.throws(() => sender.publishBatch([accountUpdate(), accountUpdate()]), { code: "SENDER_CONGESTED" });
  }
  assert.equal(sender.metrics.unchanged, published - 1);
  assert.equal(read(consumer).length, published);
  await within(sender.drained(), "room");
  assert.equal(sender.publishAccount(accountUpdate()), 1);
  assert.equal(sender.metrics.unchanged, published);
  assert.deepEqual(read(changes).map(({ kind }) => kind), ["account"]);
});

test("timings see each update of a batch by itself", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: { timings: true } });
  await consumer.subscribe({ accounts: [keyOf(1)] });
  sender.publishBatch([accountUpdate(), slotUpdate(), accountUpdate({ pubkey: keyOf(9) }), accountUpdate()]);
  assert.deepEqual([sender.timings?.dispatch.peek().count, sender.timings?.shm_send.peek().count], [4, 3]);
  assert.deepEqual(read(consumer).map(({ sequence }) => sequence), [1n, 2n, 4n]);
});

test("publishing from inside a batch's source keeps one order, and everything gets out", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  function* source() {
    yield slotUpdate({ slot: 1n });
    sender.publishSlot(slotUpdate({ slot: 2n }));
    sender.publishBatch([slotUpdate({ slot: 3n })]);
    yield slotUpdate({ slot: 4n });
  }
  sender.publishBatch(source());
  assert.deepEqual(read(consumer).map((copy) => copy.kind === "slot" && copy.slot), [1n, 2n, 3n, 4n]);
});

test("close() from inside a batch's source ends the batch with SENDER_CLOSED; what came before is delivered", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  function* source() {
    yield slotUpdate({ slot: 1n });
    void sender.close();
    yield slotUpdate({ slot: 2n });
  }
  assert.throws(() => sender.publishBatch(source()), { code: "SENDER_CLOSED" });
  assert.deepEqual(read(consumer).map((copy) => copy.kind === "slot" && copy.slot), [1n]);
  assert.deepEqual(await within(consumer.whenEnded, "the end"), { reason: "sender-closed" });
});

test("publishBatch() works while a feed has a batch open, and so does another feed", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: { ringCapacityBytes: 1024 * 1024 } });
  async function* source(from: number) {
    for (let i = 0; i < 50; i++) yield slotUpdate({ slot: BigInt(from + i) });
  }
  const fed = [sender.feed(source(1000)), sender.feed(source(2000))];
  for (let i = 0; i < 20; i++) {
    sender.publishBatch([slotUpdate({ slot: BigInt(i) })]);
    await undefined; // between the microtasks of the feeds
  }
  await within(Promise.all(fed), "the feeds' ends");
  const copies = read(consumer);
  assert.equal(copies.length, 120);
  assert.deepEqual(copies.map((copy) => Number(copy.sequence)), Array.from({ length: 120 }, (_, i) => i + 1));
  for (const [from, to] of [[0, 20], [1000, 1050], [2000, 2050]] as const) {
    const slots = copies.map((copy) => copy.kind === "slot" ? Number(copy.slot) : -1).filter((slot) =>
      slot >= from && slot < to
    );
    assert.deepEqual(slots, Array.from({ length: to - from }, (_, i) => from + i));
  }
});

test("feed() makes what it took visible before its source has to wait, and ends with its sender", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  let isReturned = false;
  async function* source() {
    try {
      yield [slotUpdate({ slot: 1n }), slotUpdate({ slot: 2n })];
      yield slotUpdate({ slot: 3n });
      await new Promise(() => {}); // for ever
    } finally {
      isReturned = true;
    }
  }
  const fed = sender.feed(source());
  const slots: bigint[] = [];
  await until(() => {
    for (const copy of read(consumer)) if (copy.kind === "slot") slots.push(copy.slot);
    return slots.length === 3;
  }, "the updates");
  assert.deepEqual(slots, [1n, 2n, 3n]);
  await sender.close();
  await within(fed, "the feed's end");
  assert.equal(isReturned, false, "a generator that waits can't be ended, and nobody waits for it");
});

test("feed() ends with its signal and leaves the sender open", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: { ringCapacityBytes: 16 << 20 } }); // for a turn's slots, each µs
  const controller = new AbortController();
  async function* source() {
    for (let i = 0n; true; i++) {
      yield slotUpdate({ slot: i });
      await turn();
    }
  }
  const fed = sender.feed(source(), { signal: controller.signal });
  let count = 0;
  await until(() => (count += read(consumer).length) >= 3, "updates");
  controller.abort();
  await within(fed, "the feed's end");
  read(consumer);
  assert.equal(sender.publishSlot(slotUpdate()), 1);
});

test("a slot frame counts what was published for the slot, whoever got it", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  for (let i = 0; i < 3; i++) sender.publishAccount(accountUpdate({ slot: 5n }));
  sender.publishAccount(accountUpdate({ slot: 6n }));
  for (let i = 0; i < 2; i++) sender.publishTransaction(transactionUpdate({ slot: 5n }));
  for (const slot of [5n, 6n, 7n, 5n]) sender.publishSlot(slotUpdate({ slot, status: "confirmed" }));
  const counts = read(consumer).map((copy) =>
    copy.kind === "slot" &&
    [copy.slot, copy.accountsPublished, copy.transactionsPublished, copy.accountsLost, copy.transactionsLost]
  );
  assert.deepEqual(counts, [[5n, 3, 2, 0, 0], [6n, 1, 0, 0, 0], [7n, 0, 0, 0, 0], [5n, 3, 2, 0, 0]]);
});

test("an update that can never fit a ring is a loss that its consumer hears of, and not an eviction", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: { poolBytes: 0 } });
  const other = await place.consumer({ name: "other" });
  await until(() => sender.metrics.consumers === 2, "the other");
  await consumer.subscribe({ accounts: [keyOf(1)], transactions: true });
  const data = new Uint8Array(CAPACITY_BYTES);
  assert.equal(sender.publishAccount(accountUpdate({ slot: 5n, data })), 0);
  assert.equal(sender.publishTransaction(transactionUpdate({ slot: 5n, message: data })), 0);
  assert.equal(sender.publishAccount(accountUpdate({ slot: 5n })), 1);
  assert.equal(sender.publishSlot(slotUpdate({ slot: 5n })), 2);
  const [first, second, third, fourth, ...rest] = read(consumer);
  assert.deepEqual(rest, []);
  assert.ok(first?.kind === "gap" && second?.kind === "gap" && third?.kind === "account" && fourth?.kind === "slot");
  assert.deepEqual([first.sequence, first.lost, first.lostTotal], [1n, 1, 1]);
  assert.deepEqual([second.sequence, second.lost, second.lostTotal], [2n, 1, 2]);
  assert.deepEqual([third.sequence, third.lost], [3n, 0]);
  assert.deepEqual([fourth.accountsPublished, fourth.transactionsPublished], [2, 1]);
  assert.deepEqual([fourth.accountsLost, fourth.transactionsLost], [1, 1]);
  const [untouched] = read(other);
  assert.ok(untouched?.kind === "slot");
  assert.deepEqual([untouched.accountsLost, untouched.transactionsLost], [0, 0], "the losses are this connection's");
  assert.equal(consumer.metrics.lost, 2);
  const [info, otherInfo] = sender.consumers();
  assert.deepEqual([info?.frames, info?.lost, otherInfo?.frames, otherInfo?.lost], [2, 2, 1, 0]);
  const { lost, ringFull, consumers } = sender.metrics;
  assert.deepEqual([lost, ringFull, consumers], [2, 0, 2]);
});

test("a loss inside a batch comes in its place, and what was staged before it gets out", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: { poolBytes: 0 } });
  await consumer.subscribe({ accounts: [keyOf(1)] });
  const data = new Uint8Array(CAPACITY_BYTES);
  assert.equal(sender.publishBatch([accountUpdate(), accountUpdate({ data }), accountUpdate(), slotUpdate()]), 3);
  const copies = read(consumer);
  assert.deepEqual(copies.map((copy) => [copy.kind, Number(copy.sequence), copy.lost]), [
    ["account", 1, 0],
    ["gap", 2, 1],
    ["account", 3, 0],
    ["slot", 4, 0],
  ]);
});

test("a consumer whose ring is full is disconnected as slow-consumer, both sides hear of it, and nothing sent is lost", async () => {
  for (const batch of [false, true]) {
    await using place = new Place();
    const reasons: string[] = [];
    const { sender, consumer } = await place.pair({
      sender: { onConsumer: (event) => event.type === "disconnected" && reasons.push(event.reason) },
    });
    const other = await place.consumer({ name: "reads" });
    await until(() => sender.metrics.consumers === 2, "the other");
    await consumer.subscribe({ transactions: true });
    await other.subscribe({ transactions: true });
    let taken = 0;
    let published = 0;
    const atOther: number[] = [];
    while (sender.metrics.ringFull === 0) {
      const before = sender.metrics.deliveries;
      const updates = [transactionUpdate({ index: ++published })];
      if (batch) sender.publishBatch(updates);
      else sender.publishTransaction(updates[0]!);
      const reached = sender.metrics.deliveries - before;
      if (reached === 2) taken++;
      else assert.equal(reached, 1, "the other one gets it all the same");
      other.poll((update) => void (update.kind === "transaction" && atOther.push(update.index)));
    }
    await until(() => reasons.length === 1, "the event");
    assert.deepEqual(reasons, ["slow-consumer"]);
    const { ringFull, lost, consumers } = sender.metrics;
    assert.deepEqual([ringFull, lost, consumers], [1, 1, 1]);
    assert.deepEqual(atOther, Array.from({ length: published }, (_, i) => i + 1));
    for (let i = 1; i <= taken; i++) {
      const update = await within(consumer.next(), "what had been published");
      assert.ok(update?.kind === "transaction" && update.index === i);
    }
    const isLost = (error: unknown) => {
      const { code, reason, message } = error as { code: string; reason: string; message: string };
      assert.deepEqual([code, reason], ["CONNECTION_LOST", "slow-consumer"]);
      assert.match(message, /slow-consumer/);
      return true;
    };
    await assert.rejects(within(consumer.next(), "the end"), isLost);
    await assert.rejects(within(consumer.next(), "the end again"), isLost);
    await assert.rejects(consumer.ping(), isLost);
    assert.deepEqual(consumer.ended, { reason: "slow-consumer" });
  }
});

test("slots have room of their own: a ring that is full of transactions still takes one", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  await consumer.subscribe({ transactions: true });
  const usable = CAPACITY_BYTES - 16 * 1024;
  const size = 64 + 96 + 1024;
  for (let i = 0; i < Math.floor(usable / size); i++) {
    assert.equal(sender.publishTransaction(transactionUpdate({ message: new Uint8Array(1024) })), 1);
  }
  assert.equal(sender.publishSlot(slotUpdate()), 1);
  assert.equal(read(consumer).at(-1)?.kind, "slot");
});

test("a batch larger than a ring evicts a consumer that can't read meanwhile, after it was shown what it got", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  await consumer.subscribe({ transactions: true });
  const updates = Array.from(
    { length: 200 },
    (_, index) => transactionUpdate({ index, message: new Uint8Array(1024) }),
  );
  const reached = sender.publishBatch(updates);
  assert.ok(reached > 0 && reached < 200);
  assert.equal(sender.metrics.ringFull, 1);
  const indexes = read(consumer).map((copy) => copy.kind === "transaction" ? copy.index : -1);
  assert.deepEqual(indexes, Array.from({ length: reached }, (_, i) => i));
  assert.deepEqual(await within(consumer.whenEnded, "the end"), { reason: "slow-consumer" });
});
