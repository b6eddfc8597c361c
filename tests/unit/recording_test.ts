/**
 * Recording a consumer, and reading it back: views and copies equal to live, in order; names of filters, state, losses; whose end
 * ends it.
 * May touch: the public API, a temporary directory. May not touch: timing.
 *
 * @module
 */

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Update, UpdateView } from "../../mod.ts";
import { record, Recorder, replay, type ReplayOptions } from "../../src/recording/mod.ts";
import { MaskNamesReader } from "../../src/recording/mask_names.ts";
import { Place } from "./support/place.ts";
import { accountUpdate, patternBytes, slotUpdate, transactionUpdate } from "./support/updates.ts";
import { until, within } from "./support/watchdog.ts";
import { replayed, slotsOf, taken } from "./support/recordings.ts";

test("record() and replay(): the same views and copies as live, payloads of the pool, metas, marks and losses included", async () => {
  await using place = new Place();
  const sender = await place.sender({ poolBytes: 1 << 20 });
  const owner = patternBytes(32, 9);
  const both = [
    await place.consumer({ marks: true, name: "live" }),
    await place.consumer({ marks: true, name: "recorder" }),
  ];
  for (const consumer of both) {
    await consumer.subscribe({ owners: [owner], transactions: true });
    await consumer.setFilter("rich", { accounts: { owners: [owner], lamports: { gt: 10n } } });
  }
  const directory = join(place.directory, "recording");
  const abort = new AbortController();
  let recorded = 0;
  const onProgress = ({ updates }: { updates: number }) => void (recorded = updates);
  const recording = record(both[1]!, directory, { signal: abort.signal, flushMs: 1, onProgress });
  const updates: Update[] = [
    accountUpdate({ owner, signature: patternBytes(64, 1) }),
    accountUpdate({ owner, data: patternBytes(50_000, 2) }), // in the pool
    accountUpdate({ owner, data: new Uint8Array(0), executable: true }),
    transactionUpdate({ meta: patternBytes(5001, 4), failed: true }), // in the pool, with padding
    transactionUpdate({ message: patternBytes(99, 4), meta: patternBytes(3, 4) }),
    transactionUpdate({ vote: true, loadedAddresses: { writable: [patternBytes(32, 7)], readonly: [owner, owner] } }),
    accountUpdate({ owner: patternBytes(32, 1), pubkey: accountUpdate().pubkey, lamports: 0n }), // leaves both filters
    slotUpdate({ sourceNs: 5n }),
  ];
  sender.publishBatch(updates);
  const live = await taken(both[0]!, 2 + updates.length); // two edits of filters
  await until(() => recorded === live.length, "the recorder to have all");
  abort.abort();
  const progress = await within(recording, "the end of the recording");
  assert.equal(progress.updates, live.length);
  assert.deepEqual(readdirSync(directory), ["00000001.mcap"]);

  const views: ReturnType<UpdateView["copy"]>[] = [];
  for await (const view of replay(directory).views()) views.push(view.copy());
  // Of an edit each consumer has its own time.
  const comparable = (copies: typeof views) =>
    copies.map((copy) => copy.kind === "filter" ? { ...copy, publishNs: 0n } : copy);
  assert.deepEqual(comparable(views), comparable(live));
  assert.ok(views.some((view) => view.kind === "account" && view.filters.includes("rich")));
  assert.equal(views.some(({ kind }) => kind === "left"), true);

  const batches = await replayed(directory);
  assert.deepEqual(
    batches.map(({ receivedNs: _, ...copy }) => copy),
    live.filter(({ kind }) => kind === "account" || kind === "transaction" || kind === "slot")
      .map((copy) => ({ ...copy, sourceNs: copy.sourceNs === 0n ? copy.publishNs : copy.sourceNs })),
  );
  assert.ok(batches.every(({ receivedNs }, i) => i === 0 || receivedNs > batches[i - 1]!.receivedNs));
});

test("record() and replay(): state, and what a dead bank takes back, as live", async () => {
  await using place = new Place();
  const sender = await place.sender({ state: { maxBytes: 16 << 20, keep: "all" } });
  const both = [await place.consumer({ name: "live" }), await place.consumer({ name: "recorder" })];
  const owner = patternBytes(32, 9);
  const write = (key: number, slot: bigint, lamports: bigint) =>
    sender.publishAccount(
      accountUpdate({ pubkey: patternBytes(32, key), owner, slot, bankId: slot, lamports, writeVersion: lamports }),
    );
  write(1, 10n, 1n);
  sender.publishSlot(slotUpdate({ slot: 10n, parent: 9n, bankId: 10n, status: "finalized" }));
  for (const consumer of both) await consumer.setFilter("wallets", { accounts: { owners: [owner] }, state: true });
  const directory = join(place.directory, "recording");
  const abort = new AbortController();
  let recorded = 0;
  const onProgress = ({ updates }: { updates: number }) => void (recorded = updates);
  const recording = record(both[1]!, directory, { signal: abort.signal, flushMs: 1, onProgress });
  write(1, 11n, 2n);
  write(2, 11n, 3n);
  sender.publishSlot(slotUpdate({ slot: 11n, parent: 10n, bankId: 11n, status: "dead" }));
  write(1, 12n, 4n);
  const live: ReturnType<UpdateView["copy"]>[] = [];
  while (!live.some((copy) => copy.kind === "account" && copy.slot === 12n)) live.push(...await taken(both[0]!, 1));
  await until(() => recorded === live.length, "the recorder to have all");
  abort.abort();
  await within(recording, "the end of the recording");
  const views: ReturnType<UpdateView["copy"]>[] = [];
  for await (const view of replay(directory).views()) views.push(view.copy());
  // State, and its end, have their times by the consumer that asked.
  const comparable = (copies: typeof views) => copies.map((copy) => ({ ...copy, publishNs: 0n }));
  assert.deepEqual(comparable(views), comparable(live));
  const kinds = new Set(views.map(({ kind }) => kind));
  for (const kind of ["snapshot-complete", "rollback", "withdrawn"] as const) assert.ok(kinds.has(kind), kind);
  const accounts = views.filter((view) => view.kind === "account");
  assert.ok(accounts.some((view) => view.isState) && accounts.some((view) => view.isRestored));
  assert.ok(accounts.every((view) => view.filters.includes("wallets")));
});

test("record(): what the consumer lost is said by its frames, as it is counted", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair({
    sender: { ringCapacityBytes: 1 << 16 },
    consumer: { policy: "drop-newest" },
  });
  await consumer.subscribe({ owners: [accountUpdate().owner] });
  for (let i = 0; i < 2000; i++) sender.publishAccount(accountUpdate({ slot: BigInt(i + 1) }));
  const directory = join(place.directory, "recording");
  let seen = { updates: 0, lost: 0 };
  const recording = record(consumer, directory, { flushMs: 1, onProgress: (now) => void (seen = now) });
  await until(() => seen.updates > 0, "what was in the ring");
  await until(() => seen.lost > 0, "the loss to be said");
  await sender.close();
  const progress = await within(recording, "the end of the recording");
  assert.ok(progress.lost > 0);
  let [accounts, lost] = [0, 0];
  const kinds = new Set<string>();
  for await (const view of replay(directory).views()) {
    kinds.add(view.kind);
    lost += view.lost;
    if (view.kind === "account") accounts++;
  }
  assert.deepEqual([...kinds], ["account", "gap"]);
  assert.equal(lost, progress.lost);
  assert.equal(accounts + lost, 2000);
});

test("names of filters: what a name stood for when a frame was written, also behind a seek, after a kill, and of hostile files", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  const directory = join(place.directory, "recording");
  const [first, second] = [patternBytes(32, 1), patternBytes(32, 2)];
  await consumer.setFilter("first", { accounts: { owners: [first] } });
  const recorder = await Recorder.open(directory);
  const add = async (owner: Uint8Array, slot: bigint) => {
    sender.publishAccount(accountUpdate({ owner, slot }));
    recorder.add((await within(consumer.next(), "it"))!);
  };
  for (let slot = 1n; slot <= 5n; slot++) await add(first, slot);
  await consumer.removeFilter("first");
  await consumer.setFilter("second", { accounts: { owners: [second] } }); // by the same bit
  for (let slot = 6n; slot <= 9n; slot++) await add(second, slot);
  recorder.flush(); // and no close: as after a kill
  const namesOf = async (options: ReplayOptions) => {
    const names: string[] = [];
    for await (const view of replay(directory, options).views()) names.push(...view.filters);
    return names;
  };
  const expected = [...Array<string>(5).fill("first"), ...Array<string>(4).fill("second")];
  assert.deepEqual(await namesOf({}), expected);
  await recorder.close();
  assert.deepEqual(await namesOf({}), expected);
  assert.deepEqual(await namesOf({ fromSlot: 4n }), expected.slice(3));
  assert.deepEqual(await namesOf({ fromSlot: 8n }), expected.slice(7));
  const reader = new MaskNamesReader();
  for (
    const text of ["", "null", "[]", '{"mask":"x","names":[]}', '{"mask":"1","names":[1]}', '{"mask":"1","names":{}}']
  ) {
    assert.throws(() => reader.take(new TextEncoder().encode(text)), RangeError, text);
  }
});

test("record() ends with its consumer: quietly with a closed sender, and by its error with a lost one", async () => {
  await using place = new Place();
  const directory = join(place.directory, "recording");
  const { sender, consumer } = await place.pair();
  const recording = record(consumer, directory);
  sender.publishSlot(slotUpdate());
  await sender.close();
  assert.equal((await within(recording, "the end")).updates, 1);
  assert.deepEqual(slotsOf(await replayed(directory)), [77]);
});

test("record() goes on with the next sender", async () => {
  await using place = new Place();
  const directory = join(place.directory, "recording");
  const abort = new AbortController();
  const sender = await place.sender();
  const consumer = await place.consumer({ reconnect: { minMs: 1, maxMs: 5 } });
  const recording = record(consumer, directory, { signal: abort.signal });
  sender.publishSlot(slotUpdate({ slot: 1n }));
  await sender.close();
  const another = await place.sender();
  await until(() => consumer.metrics.reconnects === 1, "the next connection");
  another.publishSlot(slotUpdate({ slot: 2n }));
  await until(() => consumer.metrics.frames === 2, "the second slot");
  abort.abort();
  assert.equal((await within(recording, "the end")).updates, 2);
  assert.deepEqual(slotsOf(await replayed(directory)), [1, 2]);
});
