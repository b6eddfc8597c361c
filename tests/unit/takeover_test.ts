/**
 * Hand-over in one process: a new sender takes a path over from a live one, and nobody misses or gets twice anything.
 * May touch: the public API, one path. May not touch: messages, frames. With processes: tests/crash/takeover_test.ts.
 *
 * @module
 */

import assert from "node:assert/strict";
import { readdirSync, rmSync } from "node:fs";
import { test } from "node:test";
import {
  type ConnectionEvent,
  type Consumer,
  type HandoverEvent,
  isQlasterError,
  type Sender,
  type SlotUpdate,
} from "../../mod.ts";
import { Place } from "./support/place.ts";
import { accountUpdate, keyOf, patternBytes, slotUpdate, transactionUpdate } from "./support/updates.ts";
import { until, within } from "./support/watchdog.ts";

const MIB = 2 ** 20;
const STATE = { state: { maxBytes: 16 * MIB, keep: "all" } } as const;

async function open(place: Place, key = 1) {
  const events: ConnectionEvent[] = [];
  const consumer = await place.consumer({
    reconnect: { minMs: 60_000, maxMs: 60_000 }, // who waited for a pause would be too late
    onConnection: (event) => void events.push(event),
  });
  await consumer.subscribe({ accounts: [keyOf(key)] });
  return { consumer, events };
}

function publish(sender: Sender, count: number, from: number): void {
  for (let i = from; i < from + count; i++) sender.publishAccount(accountUpdate({ pubkey: keyOf(1), slot: BigInt(i) }));
}

/** Slots of the accounts, up to that one, and what was said of connections. */
async function readTo(consumer: Consumer, last: number): Promise<(number | string)[]> {
  const read: (number | string)[] = [];
  const reading = (async () => {
    for await (const update of consumer) {
      if (update.kind === "account" && read.push(update.slotNumber) > 0 && update.slotNumber === last) return;
      if (update.kind !== "connection") continue;
      const { event } = update;
      read.push(event.type === "lost" ? event.reason : event.continuity);
    }
  })();
  await within(reading, `update ${last}`).catch((error: Error) => {
    throw new Error(`${error.message}; read: ${read.join(" ")}`);
  });
  return read;
}

const range = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i);

test("consumers get each update once, in order, over several hand-overs; nothing is left behind", async () => {
  await using place = new Place();
  const handed: HandoverEvent[] = [];
  const onHandover = (event: HandoverEvent) => void handed.push(event);
  let sender = await place.sender({ onHandover });
  const { consumer, events } = await open(place);
  const reading = readTo(consumer, 499);
  publish(sender, 100, 0);
  for (let round = 1; round < 5; round++) {
    const old = sender;
    sender = await place.sender({ takeover: true, onHandover });
    await until(() => handed.length === round, "word of it");
    assert.equal(handed.at(-1)!.sequence, BigInt(100 * round));
    assert.throws(() => publish(old, 1, 0), (error) => {
      return isQlasterError(error, "SENDER_CLOSED") && /handed over/.test(error.message);
    });
    assert.equal(sender.metrics.sequence, BigInt(100 * round));
    publish(sender, 100, 100 * round);
    await until(() => events.filter(({ type }) => type === "resumed").length === round, "its return");
  }
  const seam = ["handed-over", "complete"];
  assert.deepEqual(await reading, [
    ...range(0, 100),
    ...range(1, 4).flatMap((round) => [...seam, ...range(100 * round, 100)]),
  ]);
  const resumed = events.filter((event) => event.type === "resumed");
  assert.deepEqual(resumed.map(({ isSameSender }) => isSameSender), [true, true, true, true]);
  assert.equal(consumer.metrics.lost, 0);
  assert.deepEqual(readdirSync(place.directory).sort(), ["s.sock", "s.sock.lock"]);
  await sender.close();
  assert.deepEqual(readdirSync(place.directory), []);
});

test("who was not sent the last updates by its filters misses nothing all the same", async () => {
  await using place = new Place();
  const old = await place.sender();
  const { consumer } = await open(place);
  publish(old, 3, 0);
  for (let i = 0; i < 100; i++) old.publishAccount(accountUpdate({ pubkey: keyOf(2) }));
  const sender = await place.sender({ takeover: true });
  publish(sender, 3, 3);
  // It reads only now: what the old one had written is all there, and so is what it missed of the new one.
  assert.deepEqual(await readTo(consumer, 5), [0, 1, 2, "handed-over", "complete", 3, 4, 5]);
});

test("who lost the last updates for want of room is not told that nothing is missing", async () => {
  await using place = new Place();
  const old = await place.sender({ policies: ["drop-newest"] });
  const { promise: isResumed, resolve } = Promise.withResolvers<void>();
  const onConnection = ({ type }: ConnectionEvent) => {
    if (type === "resumed") resolve();
  };
  const consumer = await place.consumer({ policy: "drop-newest", reconnect: { minMs: 1 }, onConnection });
  await consumer.subscribe({ accounts: [keyOf(1)] });
  for (let i = 0; i < 200; i++) {
    old.publishAccount(accountUpdate({ pubkey: keyOf(1), slot: BigInt(i), data: patternBytes(1000, 1) }));
  }
  const { lost } = old.metrics;
  assert.ok(lost > 0);
  const sender = await place.sender({ takeover: true });
  const reading = readTo(consumer, 1002);
  await isResumed;
  publish(sender, 3, 1000);
  assert.deepEqual((await reading).filter((one) => typeof one === "string"), ["handed-over", "unknown"]);
  assert.equal(consumer.metrics.lost, lost);
});

test("the new one knows what the old one knew: state, forks, large payloads; and what was published meanwhile", async () => {
  await using place = new Place();
  const old = await place.sender({ ...STATE, ringCapacityBytes: MIB, poolBytes: MIB });
  const write = (sender: Sender, key: number, slot: bigint, bytes: number) =>
    sender.publishAccount(
      accountUpdate({ pubkey: keyOf(key), owner: keyOf(200), slot, bankId: slot, data: patternBytes(bytes, key) }),
    );
  for (let key = 1; key <= 50; key++) write(old, key, 1n, key === 7 ? 20_000 : 100);
  const published = old.metrics.sequence;
  old.onConsumer(({ type }) => {
    if (type === "connected") write(old, 60, 2n, 100);
  });
  // Of its questions the last one, behind that for state.
  old.onSubscription(({ transactions }) => {
    if (!transactions) return;
    old.publishTransaction(transactionUpdate());
    old.publishSlot(slotUpdate({ slot: 2n, bankId: 2n, parent: 1n }));
  });
  const sender = await place.sender({ ...STATE, takeover: true });
  assert.equal(sender.metrics.sequence, published + 3n);
  assert.equal(sender.metrics.state.accounts, 51);
  const consumer = await place.consumer();
  await consumer.setFilter("all", { accounts: { owners: [keyOf(200)] }, state: true });
  const known = new Map<string, Uint8Array>();
  await within(
    (async () => {
      for await (const update of consumer) {
        if (update.kind === "account") known.set(update.pubkey.join(), update.data.slice());
        if (update.kind === "snapshot-complete") return;
      }
    })(),
    "the snapshot",
  );
  assert.equal(known.size, 51);
  assert.deepEqual(known.get(keyOf(7).join()), patternBytes(20_000, 7));
});

test("the new one takes back what a dead bank wrote as the old one would have: versions, forks, banks known to be dead", async () => {
  await using place = new Place();
  let sender = await place.sender(STATE);
  const write = (key: number, slot: bigint, bankId: bigint, writeVersion = 1n) =>
    sender.publishAccount(accountUpdate({ pubkey: keyOf(key), owner: keyOf(200), slot, bankId, writeVersion }));
  const slot = (slot: bigint, parent: bigint, status: SlotUpdate["status"], bankId = 0n) =>
    sender.publishSlot(slotUpdate({ slot, parent, status, bankId }));
  const keys = [1, 2, 3, 4, 5].map((key) => keyOf(key));
  const consumer = await place.consumer({ reconnect: { minMs: 1 }, cache: true });
  await consumer.subscribe({ accounts: keys });
  slot(9n, 8n, "finalized");
  write(1, 10n, 1n);
  write(2, 10n, 1n);
  slot(10n, 9n, "processed", 1n);
  write(1, 11n, 2n); // a fork that is given up, without a word
  write(3, 11n, 2n);
  slot(11n, 10n, "processed", 2n);
  slot(12n, 10n, "processed", 3n);
  slot(12n, 10n, "dead", 9n); // another try at the slot
  write(2, 13n, 4n);
  write(2, 10n, 1n, 2n); // late: kept, and not published
  slot(13n, 12n, "processed", 4n);
  for (let hand = 0; hand < 2; hand++) sender = await place.sender({ ...STATE, takeover: true });
  const before = sender.metrics.olderVersions;
  write(4, 12n, 9n);
  assert.equal(sender.metrics.olderVersions, before + 1, "of a bank that is dead");
  slot(13n, 12n, "dead", 4n);
  slot(14n, 12n, "finalized", 5n); // whose parent the first one was told of
  write(5, 14n, 5n);
  await within(consumer.accounts.waitFor(keyOf(5), () => true), "the last one");
  await within(consumer.accounts.ready, "the cache");
  const versions = keys.map((key) => consumer.accounts.get(key)).map((one) => one && `${one.slot}.${one.writeVersion}`);
  assert.deepEqual(versions, ["10.1", "10.2", undefined, undefined, "14.1"]);
  const { accounts, rollbacks, rolledBack } = sender.metrics.state;
  assert.deepEqual([accounts, rollbacks, rolledBack], [3, 2, 3]);
});

test("who asks for all versions has to be one that may take over", async () => {
  await using place = new Place();
  await place.sender({ ...STATE, handover: false });
  const consumer = await place.consumer();
  await assert.rejects(consumer.askForVersions(), (error) => {
    return isQlasterError(error, "SUBSCRIBE_REFUSED") && /handover/.test(error.message);
  });
});

test("what the old one has forgotten the new one does not know, either, and says so to who goes on", async () => {
  await using place = new Place();
  const SMALL = { state: { maxBytes: 4 * MIB, keep: "all" }, ringCapacityBytes: 8 * MIB } as const;
  const old = await place.sender(SMALL);
  const consumer = await place.consumer({ reconnect: { minMs: 1 }, cache: true });
  await consumer.subscribe({ accounts: [keyOf(1)] });
  publish(old, 1, 0);
  for (let i = 0; i < 300; i++) {
    const pubkey = new Uint8Array(32).fill(9);
    new DataView(pubkey.buffer).setUint32(0, i);
    old.publishAccount(accountUpdate({ pubkey, data: patternBytes(16_000, 1) }));
  }
  const { evicted } = old.metrics.state;
  assert.ok(evicted > 0);
  assert.equal((await within(consumer.accounts.ready, "the cache")).isComplete, true); // it has got the account
  const sender = await place.sender({ ...SMALL, takeover: true });
  assert.ok(sender.metrics.state.evicted >= evicted);
  // Others come and go meanwhile: there is no connection, state is on its way.
  await until(() => {
    consumer.poll(() => {});
    return consumer.accounts.trust.reasons.map(({ reason }) => reason).join() === "evicted";
  }, "word of it");
  assert.ok(consumer.isConnected);
  assert.deepEqual(consumer.accounts.trust.reasons, [{ reason: "evicted", evicted }]);
});

test("nobody there: an ordinary start; who permits nothing, or has another user's path, refuses and goes on", async () => {
  await using place = new Place();
  const old = await place.sender({ takeover: true, handover: false });
  const { consumer, events } = await open(place);
  publish(old, 1, 0);
  await assert.rejects(place.sender({ takeover: true }), (error) => isQlasterError(error, "TAKEOVER_REFUSED"));
  await until(() => old.metrics.consumers === 1, "the end of who asked");
  publish(old, 1, 1);
  assert.deepEqual(await readTo(consumer, 1), [0, 1]);
  assert.deepEqual(events.map(({ type }) => type), ["connected"]);
});

test("an old one that has no room for what waits refuses; afterwards it hands over", async () => {
  await using place = new Place();
  const old = await place.sender({ policies: ["block", "disconnect"], blockTimeoutMs: 3_600_000 });
  const consumer = await place.consumer({ policy: "block" });
  await consumer.subscribe({ accounts: [keyOf(1)] });
  const batch = Array.from(
    { length: 200 },
    (_, i) => accountUpdate({ kind: "account", pubkey: keyOf(1), slot: BigInt(i), data: patternBytes(1000, 1) }),
  );
  const feeding = old.feed((async function* () {
    yield batch;
  })());
  await until(() => old.congested, "a full ring");
  await assert.rejects(place.sender({ takeover: true }), (error) => isQlasterError(error, "TAKEOVER_REFUSED"));
  let count = 0;
  const reading = consumer.run(() => void count++).catch(() => {});
  await within(feeding, "the feed");
  const sender = await place.sender({ takeover: true });
  assert.equal(sender.metrics.sequence, 200n);
  await within(reading, "the end");
  assert.equal(count, 200);
});

test("two that want the path at once: one gets it, the other says why not, or takes it from that one", async () => {
  await using place = new Place();
  await place.sender();
  const both = await Promise.allSettled([place.sender({ takeover: true }), place.sender({ takeover: true })]);
  const failed = both.filter((one) => one.status === "rejected");
  assert.ok(failed.length <= 1);
  for (const { reason } of failed) assert.match(String(reason.code), /TAKEOVER|CONNECT/);
  const consumer = await place.consumer();
  await consumer.ping();
});

test("nobody can be asked, but the path is somebody's: the new one says so, and leaves it to him", async () => {
  await using place = new Place();
  const old = await place.sender();
  rmSync(place.path); // as between the end of one and the beginning of another: a lock, and no socket
  await assert.rejects(
    place.sender({ takeover: true }),
    (error) => isQlasterError(error, "TAKEOVER_REFUSED") && error.message.includes("has got the path meanwhile"),
  );
  old.publishSlot({ slot: 1n, parent: 0n, status: "processed" }); // it goes on
});

test("what stands in the way of a new sender is found before the old one gives its path up", async () => {
  await using place = new Place();
  const old = await place.sender();
  const { consumer, events } = await open(place);
  publish(old, 1, 0);
  const v9 = { ring: "file", ringDirectory: `${place.path}.lock/below-a-file` } as const;
  await assert.rejects(place.sender({ takeover: true, v9 }));
  publish(old, 1, 1);
  assert.deepEqual(await readTo(consumer, 1), [0, 1]);
  assert.deepEqual(events.map(({ type }) => type), ["connected"]);
});

test("a newest slot that nobody can count by is no reason to leave the path to nobody", async () => {
  for (const slot of [2n ** 60n, 2n ** 64n - 1n]) {
    await using place = new Place();
    const old = await place.sender();
    old.publishSlot(slotUpdate({ slot }));
    const sender = await place.sender({ takeover: true });
    assert.equal(sender.metrics.sequence, 1n);
  }
});
