/**
 * A consumer whose ring is full: what it asks for and is granted, who is woken, what it hears of losses, lag and staleness.
 * May touch: a consumer of the public API, a sender that does as told. May not touch: the library's own sender.
 *
 * @module
 */

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { type Consumer, type ConsumerOptions, load, type OverflowPolicy, type StaleEvent } from "../../mod.ts";
import type { Native } from "../../src/native/native.ts";
import { resolveConsumerOptions } from "../../src/stream/consumer_options.ts";
import { StaleWatch } from "../../src/stream/stale_watch.ts";
import type { Hello } from "../../src/wire/messages.ts";
import { footprintOf } from "../support/footprint.ts";
import type { GoldenAccount, GoldenUpdate } from "./support/golden_frame.ts";
import type { EngineOptions } from "./support/native_pairs.ts";
import { Place } from "./support/place.ts";
import { type Granted, ScriptedSender } from "./support/scripted_sender.ts";
import { accountUpdate, keyOf, patternBytes, slotUpdate } from "./support/updates.ts";
import { turn, until, within } from "./support/watchdog.ts";

const CAPACITY = 64 * 1024;
const descriptors = () => footprintOf("self").descriptors.length;
const POOLED = { poolBytes: 1024 * 1024, poolThreshold: 1024 };
/** So large that one is more than an eighth of the pool: of an evicted consumer it is reused at once. */
const REUSED_BYTES = 140_000;

let native: Native;
before(async () => {
  native = await load();
});

function account(fields: Partial<GoldenAccount> = {}): GoldenAccount {
  return {
    ...accountUpdate(),
    ...{ pubkey: keyOf(1), owner: keyOf(2), writeVersion: 1n, bankId: 2n, rentEpoch: 3n, executable: false },
    ...{ startup: false, signature: undefined, sourceEpoch: 7, lossy: false, sourceNs: 9n, ...fields },
  };
}

function slot(number: number): GoldenUpdate {
  return {
    ...slotUpdate({ slot: BigInt(number) }),
    ...{ bankId: 2n, lossy: false, sourceNs: 9n },
    ...{ accountsPublished: 0, transactionsPublished: 0, accountsLost: 0, transactionsLost: 0 },
  };
}

interface OpenOptions {
  readonly engine?: Partial<EngineOptions>;
  readonly granted?: Partial<Granted>;
  readonly consumer?: ConsumerOptions;
}

async function open(place: Place, options: OpenOptions = {}): Promise<
  { sender: ScriptedSender; consumer: Consumer; hello: Hello } & Disposable
> {
  const sender = new ScriptedSender(native, place.path, { capacityBytes: CAPACITY, ...options.engine });
  assert.equal(sender.engine.edit({ owners: [keyOf(2)] }), 0);
  const [consumer, hello] = await Promise.all([
    place.consumer(options.consumer),
    within(sender.grant(options.granted), "a hello"),
  ]);
  return { sender, consumer, hello, [Symbol.dispose]: () => sender[Symbol.dispose]() };
}

test("policy and queueBytes go into the hello, the grant decides", async () => {
  const rows: [options: ConsumerOptions, accounts: OverflowPolicy, transactions: OverflowPolicy, bytes: number][] = [
    [{}, "disconnect", "disconnect", 0],
    [{ policy: "drop-newest", queueBytes: 4096 }, "drop-newest", "drop-newest", 4096],
    [{ policy: "block" }, "block", "block", 0],
    [{ policy: "conflate" }, "conflate", "drop-newest", 0],
    [{ policy: { accounts: "conflate", transactions: "disconnect" } }, "conflate", "disconnect", 0],
  ];
  for (const [options, policy, transactionPolicy, backlogBytes] of rows) {
    await using place = new Place();
    const granted = { policy: "drop-oldest", transactionPolicy: "drop-newest" } as const;
    using scene = await open(place, { consumer: options, granted });
    const { hello, consumer } = scene;
    assert.deepEqual({ ...hello, name: undefined }, {
      ...{ versionMin: 1, versionMax: 1, name: undefined, policy, transactionPolicy, backlogBytes, resume: undefined },
    });
    assert.deepEqual(consumer.policy, { accounts: "drop-oldest", transactions: "drop-newest" });
  }
});

test("options: what can't be is refused", () => {
  const rows: [options: unknown, name: string, message: RegExp][] = [
    [{ policy: "maybe" }, "TypeError", /policy must be one of disconnect, drop-newest, drop-oldest, conflate, block/],
    [{ policy: 3 }, "TypeError", /policy must be one of/],
    [{ policy: null }, "TypeError", /policy must be one of/],
    [{ policy: { accounts: "block" } }, "TypeError", /policy.transactions must be one of/],
    [{ policy: { transactions: "block" } }, "TypeError", /policy.accounts must be one of/],
    [{ queueBytes: -1 }, "RangeError", /queueBytes must be a whole number/],
    [{ queueBytes: 2 ** 32 }, "RangeError", /queueBytes must be a whole number/],
    [{ queueBytes: 1n }, "TypeError", /queueBytes must be a number/],
    [{ staleAfterSlots: 1.5 }, "RangeError", /staleAfterSlots must be a whole number/],
    [{ staleAfterSlots: -1 }, "RangeError", /staleAfterSlots must be a whole number/],
    [{ onStale: () => {} }, "TypeError", /onStale needs staleAfterSlots/],
    [{ onStale: 1, staleAfterSlots: 1 }, "TypeError", /onStale must be a function/],
  ];
  for (const [options, name, message] of rows) {
    assert.throws(() => resolveConsumerOptions(options as ConsumerOptions), { name, message });
  }
});

test("giving room back wakes a sender that waits for some, unless the policy is disconnect", async () => {
  for (const policy of ["drop-newest", "disconnect"] as const) {
    await using place = new Place();
    using scene = await open(place, { engine: { policy: "drop-newest" }, granted: { policy } });
    const { sender, consumer } = scene;
    let count = 0;
    while (sender.engine.publish(slot(++count)) === 1);
    await turn();
    const before = sender.wakes;
    while (consumer.poll(() => {}) > 0);
    if (policy === "disconnect") {
      await new Promise((resolve) => setTimeout(resolve, 20));
      assert.equal(sender.wakes, before);
    } else {
      await until(() => sender.wakes > before, "the byte");
    }
  }
});

test("a granted pool: payloads come from it, and its descriptor is not kept", async () => {
  await using place = new Place();
  using scene = await open(place, { engine: POOLED });
  const { sender, consumer } = scene;
  const before = descriptors();
  for (let i = 0; i < 5; i++) {
    assert.equal(sender.engine.publish(account({ data: patternBytes(50_000, i) })), 1);
    const update = await within(consumer.next(), "an account");
    assert.ok(update?.kind === "account");
    assert.deepEqual(update.data, patternBytes(50_000, i));
  }
  assert.ok(descriptors() <= before);
});

test("setupConsumer() refuses a pool that is none, and keeps no descriptor of it", async () => {
  await using place = new Place();
  await (await place.sender()).close(); // what a runtime opens at its first use is no leak
  const before = descriptors();
  {
    using sender = new ScriptedSender(native, place.path, { capacityBytes: CAPACITY, ...POOLED });
    const connecting = Promise.allSettled([place.consumer(), sender.grant({ poolBytes: 3 * 1024 * 1024 })]);
    const [outcome] = await within(connecting, "a refusal");
    assert.equal((outcome as PromiseRejectedResult).reason?.code, "REGION_REFUSED");
  }
  await until(() => descriptors() <= before, "the descriptors");
});

test("poll() throws CONNECTION_LOST, once, when bytes that it handed out may have been overwritten", async () => {
  await using place = new Place();
  using scene = await open(place, { engine: POOLED });
  const { sender, consumer } = scene;
  for (let i = 0; i < 3; i++) sender.engine.publish(account({ data: patternBytes(REUSED_BYTES, i) }));
  let count = 0;
  const poll = () =>
    consumer.poll(() => {
      count++;
      if (count === 2) sender.engine.remove();
    });
  const lost = { code: "CONNECTION_LOST", reason: "slow-consumer", message: /may have been overwritten.*do not trust/ };
  assert.throws(poll, lost);
  assert.deepEqual([count, consumer.ended], [3, { reason: "slow-consumer" }]);
  assert.equal(poll(), 0);
  assert.deepEqual(await consumer.whenEnded, { reason: "slow-consumer" });
});

test("next(), for await and batches() throw it when they are asked for more", async () => {
  const ways: ((consumer: Consumer, onUpdate: () => void) => Promise<unknown>)[] = [
    async (consumer, onUpdate) => {
      while (await consumer.next() !== undefined) onUpdate();
    },
    async (consumer, onUpdate) => {
      for await (const _ of consumer) onUpdate();
    },
    async (consumer, onUpdate) => {
      for await (const batch of consumer.batches()) for (const _ of batch) onUpdate();
    },
  ];
  for (const way of ways) {
    await using place = new Place();
    using scene = await open(place, { engine: POOLED });
    const { sender, consumer } = scene;
    for (let i = 0; i < 2; i++) sender.engine.publish(account({ data: patternBytes(REUSED_BYTES, i) }));
    let count = 0;
    const reading = way(consumer, () => {
      if (++count === 2) sender.engine.remove();
    });
    await assert.rejects(within(reading, "the end"), { code: "CONNECTION_LOST", message: /may have been overwritten/ });
    assert.equal(count, 2);
  }
});

test("tryNextUpdate() hands out no copy of bytes that may have been overwritten", async () => {
  await using place = new Place();
  using scene = await open(place, { engine: POOLED });
  const { sender, consumer } = scene;
  sender.engine.publish(account({ data: patternBytes(REUSED_BYTES, 1), lamports: 1n }));
  sender.engine.publish(slot(1));
  assert.equal(consumer.tryNextSlot()?.slot, 1n); // the account is kept, and was given back unharmed
  sender.engine.publish(account({ data: patternBytes(REUSED_BYTES, 2), lamports: 2n }));
  sender.engine.publish(slot(2));
  sender.engine.remove();
  assert.throws(() => consumer.tryNextSlot(), { code: "CONNECTION_LOST", message: /may have been overwritten/ });
  assert.equal(consumer.tryNextUpdate()?.lamports, 1n);
  assert.equal(consumer.tryNextUpdate(), undefined);
});

test("tryNext… leaves marks and accounts that left aside", async () => {
  await using place = new Place();
  using scene = await open(place, { consumer: { marks: true } });
  const { sender, consumer } = scene;
  sender.engine.publish(account());
  sender.engine.publish(account({ owner: keyOf(3) })); // it leaves
  sender.engine.mark({ kind: "filter", generation: 1, sourceNs: 0n });
  sender.engine.publish(slot(5));
  assert.equal(consumer.tryNextSlot()?.slot, 5n);
  assert.equal(consumer.tryNextUpdate()?.pubkey.length, 32);
  assert.equal(consumer.tryNextUpdate(), undefined);
  assert.equal(consumer.metrics.frames, 4);
});

test("lag() says what is unread, be it in the ring, waiting or lost; metrics what was lost", async () => {
  await using place = new Place();
  using scene = await open(place, { engine: { policy: "conflate" }, granted: { policy: "conflate" } });
  const { sender, consumer } = scene;
  assert.deepEqual(consumer.lag(), { bytes: 0, frames: 0, ageUs: 0 });
  let published = 0;
  const publish = () => {
    published++;
    return sender.engine.publish(account({ data: patternBytes(4000, 1), lamports: BigInt(published) }));
  };
  while (publish() === 1);
  for (let i = 0; i < 3; i++) publish();
  await new Promise((resolve) => setTimeout(resolve, 30));
  const { frames, bytes, ageUs } = consumer.lag();
  assert.equal(frames, published, "with one that waits, and three that it has replaced");
  assert.equal(bytes, (published - 4) * (64 + 120 + 4000), "of the ring");
  assert.ok(ageUs > 15_000);
  assert.equal(consumer.poll(() => {}, 2), 2);
  assert.equal(consumer.lag().frames, published - 2);
  while (consumer.poll(() => {}) > 0);
  assert.deepEqual(consumer.lag(), { bytes: 0, frames: 4, ageUs: 0 }, "what has not come into the ring yet");
  sender.engine.flush();
  const update = await within(consumer.next(), "the newest");
  assert.deepEqual([update?.kind === "account" && update.lamports, update?.lost], [BigInt(published), 3]);
  assert.deepEqual([consumer.metrics.lost, consumer.metrics.conflated], [3, 3]);
  assert.deepEqual(consumer.lag(), { bytes: 0, frames: 0, ageUs: 0 });
});

test("a full ring hides neither lag nor staleness; the sender sees the same", async () => {
  for (const policy of ["conflate", "drop-newest", "drop-oldest"] as const) {
    await using place = new Place();
    const sender = await place.sender({ ringCapacityBytes: CAPACITY, poolBytes: 0 });
    const consumer = await place.consumer({ reconnect: false, policy, staleAfterSlots: 4 });
    await consumer.subscribe({ owners: [keyOf(2)] });
    sender.publishSlot(slotUpdate({ slot: 100n }));
    while (consumer.poll(() => {}) > 0);
    assert.equal(consumer.isStale, false);
    const update = (slot: bigint) => accountUpdate({ owner: keyOf(2), slot, data: patternBytes(1000, 1) });
    for (let slot = 101n; slot <= 600n; slot++) {
      sender.publishAccount(update(slot));
      sender.publishSlot(slotUpdate({ slot }));
    }
    assert.deepEqual(consumer.freshness(), { seenSlot: 100n, knownSlot: 600n, behind: 500 }, policy);
    assert.equal(consumer.isStale, true);
    const seen = consumer.lag();
    const told = sender.consumers()[0]!.lag;
    assert.equal(seen.frames, 1000, policy);
    assert.deepEqual({ ...told, ageUs: 0 }, { ...seen, ageUs: 0 });
    assert.ok(seen.ageUs > 0 && Math.abs(told.ageUs - seen.ageUs) < 1e6);
    let updates = 0;
    const count = ({ kind }: { readonly kind: string }) => void (updates += kind === "gap" ? 0 : 1);
    while (consumer.lag().frames > 0) if (consumer.poll(count) === 0) await turn();
    assert.deepEqual(consumer.lag(), { bytes: 0, frames: 0, ageUs: 0 });
    await until(() => sender.consumers()[0]!.lag.frames === 0, "all given back");
    assert.deepEqual(sender.consumers()[0]!.lag, { bytes: 0, frames: 0, ageUs: 0 });
    assert.equal(updates + consumer.metrics.lost, 1000, policy);
  }
});

test("freshness() hears of slots that nothing was written of, and a newcomer of what was before it", async () => {
  await using place = new Place();
  const sender = await place.sender();
  const consumer = await place.consumer({ staleAfterSlots: 4 });
  await consumer.setFilter("none", { slots: { statuses: [] } });
  await consumer.subscribe({ owners: [keyOf(2)] });
  sender.publishAccount(accountUpdate({ owner: keyOf(2), slot: 100n }));
  while (consumer.poll(() => {}) > 0);
  sender.publishSlot(slotUpdate({ slot: 104n }));
  assert.deepEqual(consumer.freshness(), { seenSlot: 100n, knownSlot: 104n, behind: 4 });
  assert.equal(consumer.isStale, false);
  sender.publishSlot(slotUpdate({ slot: 105n }));
  assert.equal(consumer.isStale, true);
  assert.deepEqual(consumer.lag(), { bytes: 0, frames: 0, ageUs: 0 });
  const newcomer = await place.consumer();
  assert.deepEqual(newcomer.freshness(), { seenSlot: undefined, knownSlot: 105n, behind: 0 });
});

test("freshness() and isStale compare what was read with what the sender knows; onStale hears of each change once", async () => {
  await using place = new Place();
  const events: StaleEvent[] = [];
  const options = { staleAfterSlots: 2, onStale: (event: StaleEvent) => void events.push(event) };
  using scene = await open(place, { consumer: options });
  const { sender, consumer } = scene;
  assert.deepEqual(consumer.freshness(), { seenSlot: undefined, knownSlot: 0n, behind: 0 });
  sender.engine.publish(slot(100));
  assert.deepEqual(consumer.freshness(), { seenSlot: undefined, knownSlot: 100n, behind: 0 });
  consumer.poll(() => {});
  for (let i = 101; i <= 102; i++) sender.engine.publish(slot(i));
  assert.deepEqual(consumer.freshness(), { seenSlot: 100n, knownSlot: 102n, behind: 2 });
  assert.equal(consumer.isStale, false);
  sender.engine.publish(slot(103));
  assert.equal(consumer.isStale, true);
  assert.equal(consumer.isStale, true);
  assert.equal(events.length, 0, "not from within a getter");
  await turn();
  assert.deepEqual(events, [{ seenSlot: 100n, knownSlot: 103n, behind: 3, isStale: true }]);
  consumer.poll(() => {}, 1);
  assert.equal(consumer.isStale, false);
  await turn();
  assert.deepEqual(events.at(-1), { seenSlot: 101n, knownSlot: 103n, behind: 2, isStale: false });
  for (let i = 104; i <= 106; i++) sender.engine.publish(slot(i));
  await until(() => events.length === 3, "the timer's look");
  assert.equal(events[2]?.isStale, true);
});

test("without staleAfterSlots nothing is ever stale; before the first update the first look counts", () => {
  let [seen, known] = [-1, 0];
  const watch = (staleAfterSlots?: number) =>
    new StaleWatch({
      seenSlot: () => seen,
      knownSlot: () => known,
      isUnknown: () => false,
      staleAfterSlots,
      onStale: undefined,
    });
  using_(watch(5), (stale) => {
    assert.equal(stale.isStale, false);
    known = 1000;
    assert.equal(stale.isStale, false, "it may just have come");
    known = 1006;
    assert.deepEqual([stale.isStale, stale.freshness.behind], [true, 6]);
    seen = 1003;
    assert.deepEqual([stale.isStale, stale.freshness.behind], [false, 3]);
    seen = 1010;
    assert.equal(stale.freshness.behind, 0);
  });
  using_(watch(), (never) => {
    seen = 0;
    assert.deepEqual([never.isStale, never.freshness.behind], [false, 1006]);
  });
});

function using_(watch: StaleWatch, use: (watch: StaleWatch) => void): void {
  try {
    use(watch);
  } finally {
    watch.close();
  }
}
