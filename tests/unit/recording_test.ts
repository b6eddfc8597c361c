/**
 * Recording and replay: what was read comes back equal and in order; rotation, limits, slots, time; damaged files.
 * May touch: the public API, a temporary directory. May not touch: timing.
 *
 * @module
 */

import assert from "node:assert/strict";
import {
  closeSync,
  cpSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import type { ConnectionCopy, ConnectionEvent, Consumer, Update, UpdateView } from "../../mod.ts";
import {
  listSegments,
  record,
  Recorder,
  replay,
  ReplayClock,
  type ReplayedUpdate,
  type ReplayOptions,
} from "../../src/recording/mod.ts";
import { CopyEncoder, FrameReader } from "../../src/recording/frames.ts";
import { MaskNamesReader } from "../../src/recording/mask_names.ts";
import { SegmentWriter } from "../../src/recording/segment_writer.ts";
import { ACCOUNT_CHANNEL, FILTER_NAMES_CHANNEL, SLOT_INDEX_CHANNEL } from "../../src/recording/format.ts";
import { decodeSeam, encodeSeam, type Seam } from "../../src/recording/seams.ts";
import { Place } from "./support/place.ts";
import {
  accountArbitrary,
  accountUpdate,
  patternBytes,
  slotUpdate,
  transactionArbitrary,
  transactionUpdate,
} from "./support/updates.ts";
import { until, within } from "./support/watchdog.ts";

/** All of a recording, as batches for a sender. */
async function replayed(directory: string, options: ReplayOptions = {}): Promise<ReplayedUpdate[]> {
  const all: ReplayedUpdate[] = [];
  for await (const batch of replay(directory, options)) all.push(...batch);
  return all;
}

/** What a consumer gets, until it has as many as asked for. */
async function taken(consumer: Consumer, count: number): Promise<ReturnType<UpdateView["copy"]>[]> {
  const all: ReturnType<UpdateView["copy"]>[] = [];
  while (all.length < count) {
    const update = await within(consumer.next(), `update ${all.length + 1} of ${count}`);
    all.push(update!.copy());
  }
  return all;
}

/** One account and its slot per slot, an account having `bytes` of data. */
async function recordSlots(directory: string, from: number, to: number, options = {}, bytes = 100): Promise<void> {
  await using recorder = await Recorder.open(directory, options);
  for (let slot = from; slot <= to; slot++) {
    const publishNs = BigInt(slot) * 400_000_000n;
    const data = patternBytes(bytes, slot);
    recorder.add({ ...accountUpdate({ slot: BigInt(slot), data }), publishNs, sequence: BigInt(2 * slot) }, publishNs);
    const facts = { publishNs: publishNs + 1n, sequence: BigInt(2 * slot + 1) };
    recorder.add({ ...slotUpdate({ slot: BigInt(slot), parent: BigInt(slot - 1) }), ...facts }, publishNs + 1n);
    recorder.flush();
  }
}

const slotsOf = (updates: readonly ReplayedUpdate[]) => updates.map(({ slot }) => Number(slot));

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

test("replay() feeds a sender: its consumers get the same, with the recorded time beside the new one", async () => {
  await using place = new Place();
  const directory = join(place.directory, "recording");
  await recordSlots(directory, 1, 600);
  const { sender, consumer } = await place.pair({ sender: { ringCapacityBytes: 1 << 20 } });
  await consumer.subscribe({ owners: [accountUpdate().owner] });
  const feeding = sender.feed(replay(directory));
  const got = await taken(consumer, 1200);
  await feeding;
  for (let slot = 1; slot <= 600; slot++) {
    const [account, mark] = [got[2 * slot - 2]!, got[2 * slot - 1]!];
    assert.ok(account.kind === "account" && mark.kind === "slot");
    assert.deepEqual(account.data, patternBytes(100, slot));
    assert.equal(account.sourceNs, BigInt(slot) * 400_000_000n);
    assert.equal(mark.slot, BigInt(slot));
    assert.equal(mark.accountsPublished, 1);
    assert.ok(account.publishNs > account.sourceNs);
  }
});

test("rotateSlots, rotateBytes and maxBytes bound segments and directory; a later recorder goes on", async () => {
  await using place = new Place();
  const directory = join(place.directory, "recording");
  await recordSlots(directory, 1, 25, { rotateSlots: 10 });
  assert.deepEqual(readdirSync(directory), ["00000001.mcap", "00000002.mcap", "00000003.mcap"]);
  await recordSlots(directory, 26, 27, { rotateSlots: 10 });
  assert.equal(listSegments(directory).length, 4);
  assert.deepEqual(slotsOf(await replayed(directory)), Array.from({ length: 54 }, (_, i) => 1 + (i >> 1)));
  // Incompressible, some 40 KB a slot: 2 MB of it into a directory that may have 1 MiB.
  const limited = join(place.directory, "limited");
  const maxBytes = 1 << 20;
  await recordSlots(limited, 1, 50, { maxBytes, compression: "none" }, 40_000);
  const segments = listSegments(limited);
  assert.ok(segments.length >= 3);
  assert.ok(segments.every(({ size }) => size <= maxBytes / 4 + 50_000));
  assert.ok(segments.reduce((sum, { size }) => sum + size, 0) <= maxBytes);
  const kept = slotsOf(await replayed(limited));
  assert.deepEqual(kept, Array.from({ length: kept.length }, (_, i) => 51 - kept.length / 2 + (i >> 1)));
});

test("fromSlot and toSlot: just those slots, over segments, also one that is not complete", async () => {
  await using place = new Place();
  const directory = join(place.directory, "recording");
  await recordSlots(directory, 1, 40, { rotateSlots: 7 });
  await using live = await Recorder.open(directory, { rotateSlots: 7 });
  live.add(accountUpdate({ slot: 41n }));
  live.flush();
  live.add(accountUpdate({ slot: 42n })); // not written out
  for (const [from, to] of [[1, 41], [7, 8], [20, 21], [38, 99], [41, 41], [50, 60]] as const) {
    const slots = new Set(slotsOf(await replayed(directory, { fromSlot: BigInt(from), toSlot: BigInt(to) })));
    const expected = Array.from({ length: 41 }, (_, i) => i + 1).filter((slot) => slot >= from && slot <= to);
    assert.deepEqual([...slots], expected);
  }
  const odd = await replayed(directory, { filter: (view) => view.kind === "account" && view.slotNumber % 2 === 1 });
  assert.deepEqual(slotsOf(odd), Array.from({ length: 21 }, (_, i) => 2 * i + 1));
});

test("ReplayClock: the same times in every replay, whoever sleeps is woken in order and before what is later", async () => {
  await using place = new Place();
  const directory = join(place.directory, "recording");
  await recordSlots(directory, 1, 6); // 400 ms each
  const run = async (speed: number | "max") => {
    const log: string[] = [];
    const clock = new ReplayClock();
    const tick = async () => {
      for (let i = 0; i < 4; i++) {
        await clock.sleep(i === 0 ? 500 : 450);
        log.push(`tick at ${clock.now()}`);
      }
    };
    void tick();
    for await (const batch of replay(directory, { speed, clock })) {
      for (const { kind, slot } of batch) log.push(`${kind} ${slot} at ${clock.nowNs / 1000n}`);
    }
    return log;
  };
  const log = await run("max");
  assert.deepEqual(log.slice(0, 6), [
    "account 1 at 400000",
    "slot 1 at 400000",
    "tick at 500",
    "account 2 at 800000",
    "slot 2 at 800000",
    "tick at 950",
  ]);
  assert.equal(log.length, 16);
  assert.deepEqual(await run(1000), log);
  assert.deepEqual(await run("max"), log);
});

test("replay() at a speed waits as long as the recording did, divided by it; an aborted signal ends the wait", async () => {
  await using place = new Place();
  const directory = join(place.directory, "recording");
  await recordSlots(directory, 1, 6);
  const started = performance.now();
  assert.equal((await replayed(directory, { speed: 10 })).length, 12);
  assert.ok(performance.now() - started >= 200); // 5 × 400 ms / 10
  const abort = new AbortController();
  const slots: number[] = [];
  for await (const batch of replay(directory, { speed: 0.001, signal: abort.signal })) {
    slots.push(...slotsOf(batch));
    // Both of the first slot: they were not published at the very same time. The next would come in minutes.
    if (slots.length === 2) setTimeout(() => abort.abort(), 1);
  }
  assert.deepEqual(slots, [1, 1]);
});

test("replay() that nobody wants any longer waits no longer", async () => {
  await using place = new Place();
  const directory = join(place.directory, "recording");
  await recordSlots(directory, 1, 6);
  const batches = replay(directory, { speed: 0.001 })[Symbol.asyncIterator]();
  for (let count = 0; count < 2;) count += (await batches.next()).value!.length;
  const pending = batches.next(); // the next slot would come in minutes
  assert.equal((await within(batches.return!(), "the end")).done, true);
  assert.equal((await within(pending, "the wait")).done, true);
});

test("a cut file: a segment says so, a part gives what is whole, a recorder finishes it", async () => {
  await using place = new Place();
  const directory = join(place.directory, "recording");
  await recordSlots(directory, 1, 20);
  const path = join(directory, "00000001.mcap");
  const whole = readFileSync(path);
  for (let cut = 0; cut < whole.length; cut += 997) {
    writeFileSync(path, whole.subarray(0, cut));
    await assert.rejects(replayed(directory), { code: "RECORDING_CORRUPT" }, `cut at ${cut}`);
  }
  const part = join(directory, "00000002.mcap.part");
  writeFileSync(path, whole);
  truncateSync(path, 0);
  writeFileSync(path, whole);
  writeFileSync(part, whole.subarray(0, Math.floor(whole.length * 0.6)));
  const before = slotsOf(await replayed(directory));
  assert.ok(before.length > 40 && before.length < 80);
  await using recorder = await Recorder.open(directory);
  assert.equal(recorder.progress.recovered, before.length - 40);
  assert.deepEqual(readdirSync(directory).sort(), ["00000001.mcap", "00000003.mcap", "recorder.lock"]);
  assert.deepEqual(slotsOf(await replayed(directory)), before);
  assert.ok(slotsOf(await replayed(directory, { fromSlot: 3n })).length > 0); // its slots are indexed
});

test("a recorder that ends while it finishes what another left has lost nothing, and nothing is there twice", async () => {
  await using place = new Place();
  const directory = join(place.directory, "recording");
  await recordSlots(directory, 1, 40);
  const path = join(directory, "00000001.mcap");
  renameSync(path, `${path}.part`);
  const before = slotsOf(await replayed(directory));
  for (const after of [1, 3, 2]) {
    let flushes = 0;
    const onProgress = () => {
      if (++flushes === after) throw new Error("as if it were killed");
    };
    await assert.rejects(Recorder.open(directory, { rotateSlots: 2, onProgress, chunkBytes: 1024 }), /killed/);
    assert.deepEqual(slotsOf(await replayed(directory)), before, `${after} flushes`);
    assert.ok(readdirSync(directory).length > 1, "there are copies");
  }
  await using recorder = await Recorder.open(directory, { rotateSlots: 10 });
  assert.equal(recorder.progress.recovered, before.length);
  assert.deepEqual(slotsOf(await replayed(directory)), before);
  assert.ok(readdirSync(directory).every((name) => !name.includes(".part")));
});

/** A segment of a writer that is ours and means no good: chunks of messages. */
function writeSegment(
  path: string,
  chunks: readonly (readonly (readonly [channelId: number, logTime: bigint, data: Uint8Array])[])[],
  isComplete = true,
): void {
  const fd = openSync(path, "w");
  const writer = new SegmentWriter(fd, { isCompressed: true });
  let sequence = 0;
  for (const chunk of chunks) {
    for (const [channelId, logTime, data] of chunk) {
      writer.add({ channelId, sequence: sequence++, logTime, publishTime: logTime, data });
    }
    writer.flush();
  }
  if (isComplete) writer.end(new Map([["first_slot", "1"], ["last_slot", "9"], ["last_sequence", "9"]]));
  closeSync(fd);
}

const text = (said: unknown) => new TextEncoder().encode(JSON.stringify(said));

test("a file that says what no recorder writes is refused, in all that looks at it, and not believed", async () => {
  await using place = new Place();
  const slot = (number: bigint) => {
    const entry = new Uint8Array(16);
    new DataView(entry.buffer).setBigUint64(0, number, true);
    return entry;
  };
  const nonsense = text({ mask: "1", names: ["x".repeat(65)] });
  const files: Record<string, Parameters<typeof writeSegment>[1]> = {
    "overlapping chunks": [[[SLOT_INDEX_CHANNEL, 5n, slot(1n)], [ACCOUNT_CHANNEL, 9n, new Uint8Array(8)]], [[
      SLOT_INDEX_CHANNEL,
      6n,
      slot(2n),
    ]]],
    "names that are none": [[[FILTER_NAMES_CHANNEL, 1n, nonsense], [SLOT_INDEX_CHANNEL, 2n, slot(1n)]]],
    "a short entry of the slot index": [[[SLOT_INDEX_CHANNEL, 2n, new Uint8Array(3)]]],
  };
  for (const [name, chunks] of Object.entries(files)) {
    const directory = join(place.directory, name);
    mkdirSync(directory);
    writeSegment(join(directory, "00000001.mcap"), chunks);
    await assert.rejects(replayed(directory, { fromSlot: 1n }), { code: "RECORDING_CORRUPT" }, name);
  }
  const directory = join(place.directory, "part");
  mkdirSync(directory);
  writeSegment(join(directory, "00000001.mcap.part"), [[[FILTER_NAMES_CHANNEL, 1n, nonsense]]], false);
  await assert.rejects(Recorder.open(directory), { code: "RECORDING_CORRUPT" });
});

test("a record that says it has 2^40 bytes is not waited for: an error, or the end of a part", async () => {
  await using place = new Place();
  const directory = join(place.directory, "recording");
  await recordSlots(directory, 1, 3);
  const path = join(directory, "00000001.mcap");
  const whole = readFileSync(path);
  const record = new Uint8Array(9);
  record[0] = 6; // a chunk
  new DataView(record.buffer).setBigUint64(1, 1n << 40n, true);
  // Behind the magic and the header's record.
  const at = 8 + 9 + Number(new DataView(whole.buffer, whole.byteOffset).getBigUint64(9, true));
  writeFileSync(path, Uint8Array.from([...whole.subarray(0, at), ...record]));
  truncateSync(path, 400 * 1024 * 1024); // zeros that no disk holds
  await assert.rejects(replayed(directory), { code: "RECORDING_CORRUPT", message: /longer than/ });
  writeFileSync(path, whole);
  const part = join(directory, "00000002.mcap.part");
  writeFileSync(part, Uint8Array.from([...whole.subarray(0, at), ...record]));
  truncateSync(part, 400 * 1024 * 1024);
  assert.equal((await replayed(directory)).length, 6);
});

test("names of masks: what was said last is known, however much a file has said", () => {
  const reader = new MaskNamesReader();
  const frameOf = (mask: number) => {
    const frame = new Uint8Array(64);
    new DataView(frame.buffer).setBigUint64(32, BigInt(mask), true);
    return frame;
  };
  const most = 8192;
  for (let mask = 1; mask <= most; mask++) reader.take(text({ mask: String(mask), names: [`${mask}`] }));
  reader.take(text({ mask: "1", names: ["again"] }));
  for (let mask = most + 1; mask <= most + 100; mask++) reader.take(text({ mask: String(mask), names: [`${mask}`] }));
  assert.deepEqual(reader.of(frameOf(1)), ["again"]);
  assert.deepEqual(reader.of(frameOf(2)), []);
  assert.deepEqual(reader.of(frameOf(102)), ["102"]);
  assert.deepEqual(reader.of(frameOf(most + 100)), [`${most + 100}`]);
  assert.throws(() => reader.take(text({ mask: "1", names: Array(65).fill("x") })), RangeError);
  assert.throws(() => reader.take(text({ mask: "1", names: ["x".repeat(65)] })), RangeError);
  assert.throws(() => reader.take(text({ mask: "1", names: [], more: "x".repeat(70_000) })), RangeError);
  reader.take(text({ mask: "1", names: Array(64).fill("\u0001".repeat(64)) })); // the longest that a writer says
});

test("flipped bits: an error or the same updates, never others", async () => {
  await using place = new Place();
  const directory = join(place.directory, "recording");
  await recordSlots(directory, 1, 5);
  const path = join(directory, "00000001.mcap");
  const whole = readFileSync(path);
  const good = await replayed(directory);
  let refused = 0;
  for (let at = 0; at < whole.length; at += 61) {
    const bytes = Uint8Array.from(whole);
    bytes[at]! ^= 1 << (at % 8);
    writeFileSync(path, bytes);
    try {
      const got = await replayed(directory);
      assert.deepEqual(got, good.slice(0, got.length), `a bit of byte ${at}`);
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      refused++;
      assert.match((error as { code: string }).code, /^RECORDING_(CORRUPT|VERSION)$/, `a bit of byte ${at}`);
    }
  }
  assert.ok(refused > 0);
});

test("a frame of a file is checked before it is read: whatever its bytes, a view or an error", () => {
  const reader = new FrameReader(() => 0);
  const encoder = new CopyEncoder();
  const frameOf = (update: Update) => {
    const frame = new Uint8Array(encoder.encode(update));
    encoder.write(frame, 0);
    return frame;
  };
  fc.assert(fc.property(fc.oneof(accountArbitrary, transactionArbitrary), (update) => {
    const copy = reader.read(frameOf(update))!.copy() as unknown as Record<string, unknown>;
    for (const [name, value] of Object.entries(update)) assert.deepEqual(copy[name], value, name);
  }));
  const edits = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 8 });
  fc.assert(fc.property(fc.oneof(accountArbitrary, transactionArbitrary), edits, fc.nat(), (update, changes, cut) => {
    const frame = frameOf(update);
    for (const [at, value] of changes) frame[at % Math.min(200, frame.length)] = value;
    try {
      reader.read(cut % 3 === 0 ? frame.subarray(0, cut % frame.length) : frame)?.copy();
    } catch (error) {
      assert.ok(error instanceof RangeError);
      assert.match(error.message, /^a frame/);
    }
  }));
});

test("one recorder at a time for a directory; no recording, and what is none, are told apart", async () => {
  await using place = new Place();
  const directory = join(place.directory, "recording");
  {
    await using _ = await Recorder.open(directory);
    await assert.rejects(Recorder.open(directory), { code: "RECORDING_BUSY" });
  }
  assert.deepEqual(readdirSync(directory), []);
  writeFileSync(join(directory, "recorder.lock"), "4194305 1\n"); // nobody can have that number
  await (await Recorder.open(directory)).close();
  await assert.rejects(replayed(directory), { code: "RECORDING_NOT_FOUND" });
  await assert.rejects(replayed(join(directory, "none")), { code: "RECORDING_NOT_FOUND" });
  writeFileSync(join(directory, "00000001.mcap"), "not at all");
  await assert.rejects(replayed(directory), { code: "RECORDING_CORRUPT" });
  for (const options of [{ chunkBytes: 1 }, { flushMs: 0 }, { maxBytes: 5 }, { rotateSlots: 0.5 }]) {
    await assert.rejects(Recorder.open(directory, options), RangeError);
  }
  for (const speed of [0, -1, NaN, Infinity]) assert.throws(() => replay(directory, { speed }), RangeError);
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

/** All of a recording in one list: an update as its kind and slot, a seam as its event. */
async function storyOf(directory: string, options: ReplayOptions = {}) {
  const story: (string | ConnectionCopy["event"])[] = [];
  for await (const view of replay(directory, options).views()) {
    if (view.kind === "connection") story.push(view.copy().event);
    else story.push(`${view.kind}${"slot" in view ? ` ${view.slot}` : ""}`);
  }
  return story;
}

test("seams are recorded as the consumer had them: a sender that ends, another one, the same one that has kept all", async () => {
  await using place = new Place();
  const directory = join(place.directory, "recording");
  const abort = new AbortController();
  const sender = await place.sender({ history: { bytes: 8 << 20 } });
  const live: ConnectionEvent[] = [];
  const consumer = await place.consumer({
    reconnect: { minMs: 1, maxMs: 5 },
    policy: "disconnect",
    onConnection: (event) => {
      if (event.type === "lost" || event.type === "resumed") live.push(event);
    },
  });
  await consumer.subscribe({ owners: [accountUpdate().owner] });
  sender.publishSlot(slotUpdate({ slot: 1n }));
  // More than the ring holds, so that it is dropped; what came is read, and the sender has kept the rest.
  for (let slot = 2n; sender.metrics.ringFull === 0; slot++) {
    for (let i = 0; i < 100; i++) sender.publishAccount(accountUpdate({ slot, data: new Uint8Array(1000) }));
    await new Promise((resolve) => setImmediate(resolve));
  }
  const recording = record(consumer, directory, { signal: abort.signal, flushMs: 1 });
  const published = sender.metrics.accounts;
  await until(() => consumer.metrics.frames >= published + 1, "all, by two connections or more");
  await sender.close();
  const another = await place.sender();
  const isAnother = (event: ConnectionEvent) => event.type === "resumed" && event.isSameSender === false;
  await until(() => live.some(isAnother), "the next sender's connection");
  another.publishSlot(slotUpdate({ slot: 99n }));
  await until(() => consumer.metrics.frames >= published + 2, "the last slot");
  abort.abort();
  const { updates } = await within(recording, "the end");
  const story = await storyOf(directory);
  const seams = story.filter((item) => typeof item === "object");
  assert.deepEqual(seams, live);
  assert.equal(updates, story.length - seams.length, "seams are no updates");
  const [lost, resumed] = seams;
  assert.ok(lost?.type === "lost" && lost.reason === "slow-consumer" && lost.lastSequence > 0n);
  assert.ok(resumed?.type === "resumed" && resumed.continuity === "complete" && resumed.isSameSender === true);
  const [ended, next] = seams.slice(-2);
  assert.ok(ended?.type === "lost" && ended.reason === "sender-closed" && ended.lastSequence === BigInt(published + 1));
  assert.ok(next?.type === "resumed" && next.continuity === "unknown" && next.isSameSender === false);
  assert.deepEqual(story.slice(-3), [ended, next, "slot 99"]);
  // Behind a seek as well, and not in what a sender is fed with.
  assert.deepEqual((await storyOf(directory, { fromSlot: 99n, toSlot: 99n })).at(-1), "slot 99");
  assert.equal((await replayed(directory)).length, published + 2);
});

test("a recorder behind another one's files says so, and what that one left has its names", async () => {
  await using place = new Place();
  const { sender, consumer } = await place.pair();
  const [first, second] = [patternBytes(32, 1), patternBytes(32, 2)];
  const killed = join(place.directory, "recording");
  const directory = join(place.directory, "continued");
  await consumer.setFilter("first", { accounts: { owners: [first] } });
  const addTo = async (recorder: Recorder, owner: Uint8Array, slot: bigint, ns: bigint) => {
    sender.publishAccount(accountUpdate({ owner, slot }));
    recorder.add((await within(consumer.next(), "it"))!, ns);
  };
  await using left = await Recorder.open(killed);
  for (let slot = 1n; slot <= 3n; slot++) await addTo(left, first, slot, slot * 1_000_000_000n);
  left.flush();
  cpSync(killed, directory, { recursive: true }); // as a kill would leave it, but for the lock of a process that lives
  rmSync(join(directory, "recorder.lock"));
  await consumer.removeFilter("first");
  await consumer.setFilter("second", { accounts: { owners: [second] } }); // by the same bit
  const recorder = await Recorder.open(directory);
  assert.equal(recorder.progress.recovered, 3);
  await addTo(recorder, second, 4n, 10_500_000_000n);
  await recorder.close();
  await (await Recorder.open(directory)).close(); // adds nothing, so it says nothing
  const third = await Recorder.open(directory);
  await addTo(third, second, 5n, 11_000_000_000n);
  await third.close();
  const seam = (lastSequence: bigint, downMs: number) => ({
    ...{ type: "resumed", continuity: "unknown", isSameSender: undefined, lastSequence, sequence: undefined },
    ...{ downMs, attempts: 0 },
  });
  assert.deepEqual(await storyOf(directory), [
    ...["account 1", "account 2", "account 3"],
    seam(3n, 7500),
    "account 4",
    seam(4n, 500),
    "account 5",
  ]);
  const names: string[] = [];
  for await (const view of replay(directory).views()) names.push(...view.filters);
  assert.deepEqual(names, ["first", "first", "first", "second", "second"]);
  // A recorder that is killed behind a seam leaves it, too.
  const last = await Recorder.open(directory);
  await addTo(last, second, 6n, 12_000_000_000n);
  last.flush();
  const copy = join(place.directory, "once more");
  cpSync(directory, copy, { recursive: true });
  rmSync(join(copy, "recorder.lock"));
  await last.close();
  await (await Recorder.open(copy)).close();
  assert.deepEqual(await storyOf(copy), await storyOf(directory));
});

test("a seam in a file is what another language reads, and is checked", () => {
  const text = (seam: Seam) => JSON.parse(new TextDecoder().decode(encodeSeam(seam)));
  const lost: Seam = {
    type: "lost",
    reason: "sender-gone",
    lastSequence: 2n ** 60n,
    isOverwritten: false,
    retryMs: 10,
  };
  assert.deepEqual(text(lost), {
    ...{ type: "lost", reason: "sender-gone", lastSequence: "1152921504606846976", isOverwritten: false },
    ...{ retryMs: 10, missingMax: null },
  });
  const resumed: Seam = {
    ...{ type: "resumed", continuity: "unknown", isSameSender: true, lastSequence: 7n, sequence: 12n },
    ...{ downMs: 1.5, attempts: 2 },
  };
  assert.equal(text(resumed).missingMax, "5");
  assert.equal(text({ ...resumed, continuity: "complete" }).missingMax, "0");
  assert.equal(text({ ...resumed, isSameSender: false }).missingMax, null);
  const unknown = { isSameSender: undefined, sequence: undefined };
  for (const seam of [lost, { ...lost, retryMs: undefined }, resumed, { ...resumed, ...unknown }]) {
    assert.deepEqual(decodeSeam(encodeSeam(seam)), seam);
  }
  const change = (seam: Seam, fields: object) => new TextEncoder().encode(JSON.stringify({ ...text(seam), ...fields }));
  const lies = [
    ...["", "null", "[]", '"lost"', "{}"].map((json) => new TextEncoder().encode(json)),
    ...[{ reason: "tired" }, { lastSequence: 5 }, { lastSequence: "-1" }, { isOverwritten: 1 }, { retryMs: "soon" }]
      .map((fields) => change(lost, fields)),
    ...[{ continuity: "so so" }, { isSameSender: 1 }, { sequence: "x" }, { downMs: -1 }, { attempts: null }]
      .map((fields) => change(resumed, fields)),
  ];
  for (const lie of lies) assert.throws(() => decodeSeam(lie), RangeError, new TextDecoder().decode(lie));
});
