/**
 * What a sender says is wanted: as consumers subscribe, edit and leave; iterations and how slow they may be.
 * May touch: the public API.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  addressFromBytes,
  type Consumer,
  type Demand,
  type DemandChange,
  type DemandSnapshot,
  type NamedFilter,
} from "../../mod.ts";
import { Place } from "./support/place.ts";
import { keyOf } from "./support/updates.ts";
import { turn, until, within } from "./support/watchdog.ts";

const address = (seed: number) => addressFromBytes(keyOf(seed));
const list = (seeds: readonly number[]) => seeds.map(address).sort();

/** One iteration, a change at a time. */
class Reading implements AsyncDisposable {
  readonly #iterator: AsyncIterator<DemandChange>;

  constructor(demand: Demand) {
    this.#iterator = demand[Symbol.asyncIterator]();
  }

  async next(): Promise<DemandChange> {
    const { value, done } = await within(this.#iterator.next(), "a change of the demand");
    assert.ok(done !== true, "the iteration has not ended");
    return value;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#iterator.return!();
  }
}

function assertSnapshot(
  snapshot: DemandSnapshot,
  wanted: {
    accounts?: readonly number[];
    owners?: readonly number[];
    allAccounts?: boolean;
    transactions?: readonly number[] | "all";
  },
): void {
  const { accounts = [], owners = [], allAccounts = false, transactions = [] } = wanted;
  assert.deepEqual({
    accounts: [...snapshot.accounts].sort(),
    owners: [...snapshot.owners].sort(),
    allAccounts: snapshot.allAccounts,
    all: snapshot.transactions.all,
    transactions: [...snapshot.transactions.accounts].sort(),
  }, {
    accounts: list(accounts),
    owners: list(owners),
    allAccounts,
    all: transactions === "all",
    transactions: transactions === "all" ? [] : list(transactions),
  });
}

function assertKeys(keys: DemandChange["added"], accounts: readonly number[], owners: readonly number[] = []): void {
  assert.deepEqual([[...keys.accounts].sort(), [...keys.owners].sort()], [list(accounts), list(owners)]);
}

test("sender.demand begins with all that is wanted, and goes on with what changes", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: { demandDebounceMs: 1 } });
  await consumer.subscribe({ accounts: [keyOf(1), keyOf(2), keyOf(1)], owners: [keyOf(3)] });
  await using reading = new Reading(sender.demand);
  const first = await reading.next();
  assertKeys(first.added, [1, 2], [3]);
  assertKeys(first.removed, []);
  assertSnapshot(first.current, { accounts: [1, 2], owners: [3] });

  await consumer.unsubscribe({ accounts: [keyOf(2)] });
  const second = await reading.next();
  assertKeys(second.added, []);
  assertKeys(second.removed, [2]);
  assertSnapshot(second.current, { accounts: [1], owners: [3] });
  assertSnapshot(first.current, { accounts: [1, 2], owners: [3] });

  await consumer.subscribe({ transactions: true });
  const third = await reading.next();
  assertKeys(third.added, []);
  assert.equal(third.current.transactions.all, true);

  await consumer.close();
  const last = await reading.next();
  assertKeys(last.removed, [1], [3]);
  assertSnapshot(last.current, {});
});

test("an iteration begins at once, also with nothing; it ends with its sender", async () => {
  await using place = new Place();
  const sender = await place.sender({ demandDebounceMs: 3_600_000 });
  const iterator = sender.demand[Symbol.asyncIterator]();
  const first = await within(iterator.next(), "the first change");
  assert.ok(first.done !== true);
  assertKeys(first.value.added, []);
  assertSnapshot(first.value.current, {});
  const second = iterator.next();
  await sender.close();
  assert.equal((await within(second, "the end")).done, true);
  assert.equal((await iterator.next()).done, true);
  assertSnapshot(sender.demand.current, {});
  assert.equal((await sender.demand[Symbol.asyncIterator]().next()).done, true);
});

test("sender.demand of a closed sender that was never asked is refused", async () => {
  await using place = new Place();
  const sender = await place.sender();
  await sender.close();
  assert.throws(() => sender.demand, { code: "SENDER_CLOSED" });
});

test("a key is wanted as long as anybody wants it", async () => {
  await using place = new Place();
  const { sender, consumer: a } = await place.pair({ sender: { demandDebounceMs: 1 } });
  const b = await place.consumer();
  await a.subscribe({ accounts: [keyOf(1)] });
  await b.setFilter("one", { accounts: { accounts: [keyOf(1), keyOf(2)] } });
  await b.setFilter("other", { accounts: { accounts: [keyOf(1)] } });
  await using reading = new Reading(sender.demand);
  assertKeys((await reading.next()).added, [1, 2]);
  await a.close();
  await b.removeFilter("other");
  await b.editFilter("one", { remove: [keyOf(2)] });
  const change = await reading.next();
  assertKeys(change.removed, [2]);
  await b.editFilter("one", { remove: [keyOf(1)] });
  assertKeys((await reading.next()).removed, [1]);
  await until(() => sender.metrics.consumers === 1, "the end of a");
});

test("what consumers of wire version 9 want counts as well", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: { demandDebounceMs: 1 }, consumer: { protocol: "v9" } });
  const native = await place.consumer({ protocol: "native" });
  await consumer.subscribe({ accounts: [keyOf(1), keyOf(2)], owners: [keyOf(3)] });
  await native.subscribe({ accounts: [keyOf(2)] });
  await using reading = new Reading(sender.demand);
  const first = await reading.next();
  assertKeys(first.added, [1, 2], [3]);
  assertSnapshot(first.current, { accounts: [1, 2], owners: [3] });
  await consumer.subscribe({ transactions: true, accounts: [keyOf(4)] });
  const second = await reading.next();
  assertKeys(second.added, [4]);
  assertSnapshot(second.current, { accounts: [1, 2, 4], owners: [3], transactions: "all" });
  await consumer.close();
  const last = await reading.next();
  assertKeys(last.removed, [1, 4], [3]);
  assertSnapshot(last.current, { accounts: [2] });
});

test("named filters want what their index holds: keys of accounts, owners, transactions, or all", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  const wants = async (filter: NamedFilter, wanted: Parameters<typeof assertSnapshot>[1]) => {
    await consumer.setFilter("it", filter);
    assertSnapshot(sender.demand.current, wanted);
  };
  await wants({ accounts: { accounts: [keyOf(1)] } }, { accounts: [1] });
  await wants({ accounts: { owners: [keyOf(2)], dataSize: 5 } }, { owners: [2] });
  await wants({ accounts: { accounts: [keyOf(1)], owners: [keyOf(2)] } }, { accounts: [1] });
  await wants({ accounts: { dataSize: 5 } }, { allAccounts: true });
  await wants({ accounts: true }, { allAccounts: true });
  await wants({ accounts: { accounts: [] } }, {});
  await wants({ transactions: { accountInclude: [keyOf(1), keyOf(2)] } }, { transactions: [1, 2] });
  await wants({ transactions: { accountRequired: [keyOf(3), keyOf(4)] } }, { transactions: [3] });
  await wants({ transactions: { accountInclude: [] } }, {});
  await wants({ transactions: { vote: false } }, { transactions: "all" });
  await wants({ transactions: { accountExclude: [keyOf(1)] } }, { transactions: "all" });
  await wants({ slots: true }, {});
  await consumer.subscribe({ accounts: [keyOf(1)] });
  await wants({ transactions: { accountInclude: [keyOf(1)] } }, { accounts: [1], transactions: [1] });
  await consumer.removeFilter("it");
  assertSnapshot(sender.demand.current, { accounts: [1] });
  await consumer.editFilter("none", { add: [keyOf(7)] }).then(
    () => assert.fail("there is no such filter"),
    (error) => assert.ok(error instanceof RangeError),
  );
  assertSnapshot(sender.demand.current, { accounts: [1] });
});

test("a filter in several messages is wanted when it is whole, and what it replaces is wanted until then", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: { demandDebounceMs: 0 } });
  const keys = Array.from({ length: 70_000 }, (_, i) => {
    const key = new Uint8Array(32);
    new DataView(key.buffer).setUint32(0, i + 1);
    return key;
  });
  await consumer.setFilter("it", { accounts: { accounts: [keyOf(1)] } });
  await using reading = new Reading(sender.demand);
  assertKeys((await reading.next()).added, [1]);
  await consumer.setFilter("it", { accounts: { accounts: keys } });
  const added = new Set<string>();
  const removed: string[] = [];
  while (added.size < keys.length || removed.length === 0) {
    const change = await reading.next();
    for (const key of change.added.accounts) {
      assert.ok(!added.has(key));
      added.add(key);
    }
    removed.push(...change.removed.accounts);
  }
  assert.deepEqual(removed, [address(1)]);
  assert.equal(sender.demand.current.accounts.size, keys.length);
  await consumer.close();
  while (added.size > 0) for (const key of (await reading.next()).removed.accounts) assert.ok(added.delete(key));
  assertSnapshot(sender.demand.current, {});
});

test("what comes and goes within the debounce, or while nobody asks for the next change, is not told", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: { demandDebounceMs: 1 } });
  const { demand } = sender;
  await using slow = new Reading(demand);
  await using quick = new Reading(demand);
  await slow.next();
  await quick.next();
  for (let i = 1; i <= 5; i++) {
    await consumer.subscribe({ accounts: [keyOf(i)] });
    assertKeys((await quick.next()).added, [i]);
  }
  for (let i = 1; i <= 4; i++) {
    await consumer.unsubscribe({ accounts: [keyOf(i)] });
    assertKeys((await quick.next()).removed, [i]);
  }
  await consumer.subscribe({ owners: [keyOf(1)], transactions: true });
  assertKeys((await quick.next()).added, [], [1]);
  const change = await slow.next();
  assertKeys(change.added, [5], [1]);
  assertKeys(change.removed, []);
  assertSnapshot(change.current, { accounts: [5], owners: [1], transactions: "all" });
  const next = slow.next();
  await consumer.subscribe({ accounts: [keyOf(6)] });
  await consumer.unsubscribe({ accounts: [keyOf(6)] });
  await consumer.subscribe({ accounts: [keyOf(7)] });
  const merged = await next;
  assert.ok(merged.added.accounts.includes(address(7)) || merged.added.accounts.includes(address(6)));
});

test('what stood in a "current" that was looked at and has gone is told, though it never was as added', async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: { demandDebounceMs: 1 } });
  const { demand } = sender;
  await using reading = new Reading(demand);
  await using witness = new Reading(demand);
  const first = await reading.next();
  await witness.next();
  for (const look of [() => demand.current, () => first.current]) {
    await consumer.subscribe({ accounts: [keyOf(1)], transactions: true });
    assertKeys((await witness.next()).added, [1]); // now the other one has it untold
    assertSnapshot(look(), { accounts: [1], transactions: "all" });
    await consumer.unsubscribe({ accounts: [keyOf(1)], transactions: true });
    assertKeys((await witness.next()).removed, [1]);
    const change = await reading.next();
    assertKeys(change.removed, [1]);
    assertSnapshot(change.current, {});
  }
  // What says "all" alone.
  await consumer.subscribe({ transactions: true });
  await witness.next();
  assertSnapshot(demand.current, { transactions: "all" });
  await consumer.unsubscribe({ transactions: true });
  await witness.next();
  assertSnapshot((await reading.next()).current, {});
});

test("break ends an iteration and no other; several may wait at once", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({ sender: { demandDebounceMs: 1 } });
  for await (const { added } of sender.demand) {
    assertKeys(added, []);
    break;
  }
  const iterator = sender.demand[Symbol.asyncIterator]();
  await within(iterator.next(), "the first");
  const both = [iterator.next(), iterator.next()];
  await consumer.subscribe({ accounts: [keyOf(1)] });
  const one = await within(both[0]!, "the second");
  assertKeys(one.value!.added, [1]);
  await consumer.subscribe({ accounts: [keyOf(2)] });
  assertKeys((await within(both[1]!, "the third")).value!.added, [2]);
  const last = iterator.next();
  await iterator.return!();
  assert.equal((await last).done, true);
});

test("a snapshot does not change; the demand without an iteration is as of now", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  const before = sender.demand.current;
  await consumer.subscribe({ accounts: [keyOf(1)] });
  const after = sender.demand.current;
  await consumer.subscribe({ accounts: [keyOf(2)] });
  assertSnapshot(before, {});
  assertSnapshot(after, { accounts: [1] });
  assertSnapshot(sender.demand.current, { accounts: [1, 2] });
});

test("the demand is the union of what all consumers want, whatever they do", async () => {
  const who = fc.nat({ max: 2 });
  const keys = fc.uniqueArray(fc.nat({ max: 5 }), { maxLength: 3 });
  const step = fc.oneof(
    fc.record({
      what: fc.constantFrom("subscribe", "unsubscribe"),
      who,
      keys,
      owners: keys,
      transactions: fc.boolean(),
    }),
    fc.record({ what: fc.constantFrom("accounts", "transactions"), who, keys, name: fc.constantFrom("a", "b") }),
    fc.record({ what: fc.constantFrom("add", "remove"), who, keys, name: fc.constantFrom("a", "b") }),
    fc.record({ what: fc.constantFrom("drop"), who, name: fc.constantFrom("a", "b") }),
    fc.record({ what: fc.constantFrom("leave", "look"), who }),
  );
  interface Model {
    consumer: Consumer;
    accounts: Set<number>;
    owners: Set<number>;
    transactions: boolean;
    named: Map<string, { kind: "accounts" | "transactions"; keys: Set<number> }>;
  }
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 30, size: "max" }), async (steps) => {
      await using place = new Place();
      const sender = await place.sender({ demandDebounceMs: 0 });
      const told = { accounts: new Set<string>(), owners: new Set<string>(), transactionAccounts: new Set<string>() };
      const iterator = sender.demand[Symbol.asyncIterator]();
      const reading = (async () => {
        for (let one; (one = await iterator.next()).done !== true;) {
          for (const name of ["accounts", "owners", "transactionAccounts"] as const) {
            for (const key of one.value.added[name]) assert.ok(!told[name].has(key) && told[name].add(key));
            for (const key of one.value.removed[name]) assert.ok(told[name].delete(key), "it was wanted");
          }
        }
      })();
      const join = async (): Promise<Model> => ({
        consumer: await place.consumer(),
        accounts: new Set(),
        owners: new Set(),
        transactions: false,
        named: new Map(),
      });
      const models = [await join(), await join(), await join()];
      const compare = async (models: readonly Model[]) => {
        const wanted = { accounts: new Set<number>(), owners: new Set<number>(), transactions: new Set<number>() };
        for (const { accounts, owners, named } of models) {
          for (const key of accounts) wanted.accounts.add(key);
          for (const key of owners) wanted.owners.add(key);
          for (const { kind, keys } of named.values()) for (const key of keys) wanted[kind].add(key);
        }
        const { current } = sender.demand;
        assert.deepEqual([
          [...current.accounts].sort(),
          [...current.owners].sort(),
          [...current.transactions.accounts].sort(),
          current.transactions.all,
        ], [
          list([...wanted.accounts]),
          list([...wanted.owners]),
          list([...wanted.transactions]),
          models.some(({ transactions }) => transactions),
        ]);
        await turn();
        assert.deepEqual([...told.accounts].sort(), list([...wanted.accounts]));
        assert.deepEqual([...told.owners].sort(), list([...wanted.owners]));
        assert.deepEqual([...told.transactionAccounts].sort(), list([...wanted.transactions]));
      };
      for (const one of steps) {
        const model = models[one.who]!;
        const { consumer } = model;
        const bytes = "keys" in one ? one.keys.map(keyOf) : [];
        switch (one.what) {
          case "subscribe":
          case "unsubscribe": {
            if (!("owners" in one)) break;
            await consumer[one.what]({
              accounts: bytes,
              owners: one.owners.map(keyOf),
              transactions: one.transactions,
            });
            const change = one.what === "subscribe" ? "add" : "delete";
            for (const key of one.keys) model.accounts[change](key);
            for (const key of one.owners) model.owners[change](key);
            if (one.transactions) model.transactions = one.what === "subscribe";
            break;
          }
          case "accounts":
          case "transactions": {
            if (!("name" in one) || !("keys" in one)) break;
            const filter: NamedFilter = one.what === "accounts"
              ? { accounts: { accounts: bytes } }
              : { transactions: { accountInclude: bytes } };
            await consumer.setFilter(one.name, filter);
            model.named.set(one.name, { kind: one.what, keys: new Set(one.keys) });
            break;
          }
          case "add":
          case "remove": {
            if (!("name" in one) || !("keys" in one) || !model.named.has(one.name)) break;
            await consumer.editFilter(one.name, { [one.what]: bytes });
            const { keys } = model.named.get(one.name)!;
            for (const key of one.keys) keys[one.what === "add" ? "add" : "delete"](key);
            break;
          }
          case "drop":
            if (!("name" in one) || !model.named.delete(one.name)) break;
            await consumer.removeFilter(one.name);
            break;
          case "leave":
            await consumer.close();
            models[one.who] = await join();
            await until(() => sender.metrics.consumers === models.length, "the end of who left");
            break;
          case "look":
            await compare(models);
        }
      }
      await compare(models);
      await iterator.return!();
      await reading;
    }),
    { numRuns: 40 },
  );
});
