/**
 * Files of recordings: how many and how large, and whose. Those that are cut, flipped, or written by who means no good are an
 * error, or give the same updates, never others.
 * May touch: the public API, a temporary directory, files through the writer of segments.
 *
 * @module
 */

import assert from "node:assert/strict";
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import type { Update } from "../../mod.ts";
import { listSegments, Recorder, replay } from "../../src/recording/mod.ts";
import { CopyEncoder, FrameReader } from "../../src/recording/frames.ts";
import { MaskNamesReader } from "../../src/recording/mask_names.ts";
import { SegmentWriter } from "../../src/recording/segment_writer.ts";
import { ACCOUNT_CHANNEL, FILTER_NAMES_CHANNEL, SLOT_INDEX_CHANNEL } from "../../src/recording/format.ts";
import { Place } from "./support/place.ts";
import { accountArbitrary, transactionArbitrary } from "./support/updates.ts";
import { recordSlots, replayed, slotsOf } from "./support/recordings.ts";

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
