/**
 * The stat page: the figures of a sender as outsiders read them, and what they refuse to believe.
 * May touch: the public API, the lock file, a temporary directory.
 *
 * @module
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { isDeepStrictEqual } from "node:util";
import { test } from "node:test";
import type { ConsumerInfo } from "../../mod.ts";
import { bucketEndNs, type ConsumerStat, Histogram, openStat } from "../../src/stat/mod.ts";
import { Place } from "./support/place.ts";
import { accountUpdate, keyOf, patternBytes, slotUpdate, transactionUpdate } from "./support/updates.ts";
import { until } from "./support/watchdog.ts";

const skip = process.platform === "linux" ? {} : { skip: "needs /proc" };

/** What the page and the sender both say of a consumer. */
const knownOf = (one: ConsumerStat | ConsumerInfo) => {
  const { id, pid, uid, protocol, policy, accounts, owners, transactions, connectedAt } = one;
  const { frames, lost, conflated, poolBytes, waiting, ring } = one;
  return {
    ...{ id, pid, uid, protocol, policy, accounts, owners, transactions, connectedAt },
    ...{ frames, lost, conflated, poolBytes, waiting, ring },
  };
};

test("openStat(): what a sender says of itself and its consumers, as far as it has committed", skip, async () => {
  await using place = new Place();
  const sender = await place.sender({ poolBytes: 1 << 20 });
  const reader = await place.consumer({ name: "reader", policy: "conflate" });
  const sleeper = await place.consumer({ name: "\u001b[2Jevil\u202e", policy: "drop-newest" });
  await reader.subscribe({ owners: [keyOf(2)], accounts: [keyOf(8), keyOf(9)], transactions: true });
  await reader.setFilter("more", { accounts: { owners: [keyOf(3)] } });
  await sleeper.subscribe({ owners: [keyOf(2)] });
  for (let i = 0; i < 100; i++) {
    sender.publishAccount(accountUpdate({ data: patternBytes(5000, i), lamports: BigInt(i) }));
  }
  for (let i = 0; i < 400; i++) sender.publishAccount(accountUpdate({ data: patternBytes(1000, i) }));
  sender.publishTransaction(transactionUpdate());
  sender.publishSlot(slotUpdate({ slot: 1234n }));
  using page = openStat(place.path);
  const { metrics } = sender;
  const stat = page.read();
  for (const name of ["accounts", "transactions", "slots", "deliveries", "lost", "conflated"] as const) {
    assert.equal(stat[name], metrics[name], name);
  }
  assert.equal(stat.sequence, Number(metrics.sequence));
  assert.equal(stat.newestSlot, 1234);
  assert.equal(stat.pid, process.pid);
  assert.equal(stat.isGone, false);
  assert.ok(stat.sincePublishMs! >= 0);
  assert.ok(stat.consumers.length === 2);
  // Losses and reads are shown at the next beat of the event loop.
  let read = 0;
  while (reader.poll(() => void read++) > 0);
  await until(() => page.read().consumers[0]!.read >= read, "the reader's word"); // marks count there
  // The page is as of the last beat or publish, the sender's word as of now: what waited for room has moved since, perhaps.
  const both = () => [page.read().consumers.map(knownOf), sender.consumers().map(knownOf)] as const;
  await until(() => isDeepStrictEqual(...both()), "a page that says what the sender says").catch((late) => {
    assert.deepEqual(...both());
    throw late;
  });
  const [first, second] = page.read().consumers;
  assert.equal(first!.name, "reader");
  assert.equal(first!.filters, 2);
  assert.ok(first!.latency.count > 0 && first!.latency.percentileUs(0.5) > 0);
  assert.equal(second!.name, "�[2Jevil�");
  assert.ok(second!.lost > 0);
  await reader.close();
  await until(() => page.read().consumers.length === 1, "its end");
  assert.deepEqual(page.read().consumers.map(({ id }) => id), [2]);
  await sender.close();
  assert.equal(page.read().isGone, true);
  assert.throws(() => openStat(place.path), { code: "CONNECT_NO_SENDER" });
});

test("openStat(): how a consumer waits, by what it does", skip, async () => {
  await using place = new Place();
  const sender = await place.sender();
  const parker = await place.consumer({ name: "parker", idle: "park" });
  const spinner = await place.consumer({ name: "spinner", idle: "spin" });
  const poller = await place.consumer({ name: "poller" });
  for (let slot = 1n; slot <= 3n; slot++) {
    const both = Promise.all([parker.next(), spinner.next()]);
    await new Promise((resolve) => setImmediate(resolve)); // they wait by then
    sender.publishSlot(slotUpdate({ slot }));
    await both;
    while (poller.poll(() => {}) > 0);
  }
  using page = openStat(place.path);
  const seen = (name: string) => page.read().consumers.find((consumer) => consumer.name === name)!;
  await until(() => seen("spinner").spins >= 3 && seen("parker").parks >= 3, "their words");
  assert.equal(seen("parker").spins, 0);
  assert.equal(seen("spinner").parks, 0);
  assert.deepEqual([seen("poller").parks, seen("poller").spins], [0, 0]);
  assert.equal(seen("parker").parks, parker.metrics.parks);
});

test("a beat a second, late ones counted; without the option there is no page", skip, async () => {
  await using place = new Place();
  const sender = await place.sender();
  using page = openStat(place.path);
  await until(() => !page.read().isStuck, "a beat that is not older than three");
  const stalledFrom = performance.now();
  while (performance.now() - stalledFrom < 1300); // our own event loop, which is the sender's
  await until(() => page.read().stallMaxMs > 100, "the late beat");
  assert.ok(page.read().stalls.count >= 1);
  await sender.close();
  const silent = await place.sender({ stats: false });
  assert.equal(readFileSync(`${place.path}.lock`, "utf8"), "");
  assert.throws(() => openStat(place.path), { code: "STAT_UNAVAILABLE" });
  await silent.close();
  assert.equal(existsSync(`${place.path}.lock`), false);
});

test("openStat() follows the lock file only to a page of the same id", skip, async () => {
  await using place = new Place();
  await place.sender();
  const lock = `${place.path}.lock`;
  const [pid, fd, id] = readFileSync(lock, "utf8").trim().split(" ");
  const lies = [
    "",
    "nonsense",
    `${pid} ${fd} ${"0".repeat(32)}\n`,
    `${pid} 0 ${id}\n`,
    `${pid} 999999 ${id}\n`,
    `${pid} ../../../etc/passwd ${id}\n`,
    "x".repeat(100_000),
  ];
  for (const lie of lies) {
    writeFileSync(lock, lie);
    assert.throws(() => openStat(place.path), /STAT_UNAVAILABLE|Cannot look at the sender/, lie.slice(0, 40));
  }
  writeFileSync(lock, `1 ${fd} ${id}\n`); // the kernel knows better who holds the lock
  openStat(place.path).close();
  assert.throws(() => openStat(place.path + "x"), { code: "CONNECT_NO_SENDER" });
});

test(
  "openStat() does not wait for what is no file: a pipe in the place of the lock, or of the page",
  skip,
  async () => {
    await using place = new Place();
    await place.sender();
    const lock = `${place.path}.lock`;
    const [, , id] = readFileSync(lock, "utf8").trim().split(" ");
    const pipe = `${place.path}x.lock`;
    assert.equal(spawnSync("mkfifo", [pipe]).status, 0);
    assert.throws(() => openStat(`${place.path}x`), { code: "STAT_UNAVAILABLE" });
    // One that is open at both ends, so that there is a descriptor; then nobody writes to it any longer.
    const both = openSync(pipe, "r+");
    const reader = openSync(pipe, "r");
    closeSync(both);
    writeFileSync(lock, `${process.pid} ${reader} ${id}\n`);
    assert.throws(() => openStat(place.path), { code: "STAT_UNAVAILABLE" });
    const folder = openSync(place.directory, "r");
    writeFileSync(lock, `${process.pid} ${folder} ${id}\n`);
    assert.throws(() => openStat(place.path), { code: "STAT_UNAVAILABLE" });
    closeSync(reader);
    closeSync(folder);
  },
);

test("Histogram: bounds of buckets, percentiles, differences", () => {
  assert.deepEqual([0, 1, 2, 3, 4].map(bucketEndNs), [160, 192, 224, 256, 320]);
  const counts = Histogram.empty.counts.map((_, i) => i === 4 ? 90 : i === 40 ? 10 : 0);
  const histogram = new Histogram(counts);
  assert.equal(histogram.count, 100);
  assert.equal(histogram.percentileUs(0.5), 0.32);
  assert.equal(histogram.percentileUs(0.95), bucketEndNs(40) / 1000);
  assert.equal(histogram.since(histogram).count, 0);
  assert.equal(histogram.plus(histogram).count, 200);
  assert.equal(Histogram.empty.percentileUs(0.5), 0);
});
