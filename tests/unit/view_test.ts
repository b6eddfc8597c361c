/**
 * Views over frames in place: every getter, the bounds of every read, copies that last.
 * May touch: frames of the second encoder (golden_frame.ts) at odd places in ordinary memory.
 * May not touch: the native library; views over real rings are reader_test.ts's.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { addressFromBytes } from "../../src/address.ts";
import { FilterNames } from "../../src/stream/filter_names.ts";
import {
  type AccountView,
  type FilterMarkView,
  type GapView,
  type LeftView,
  type SlotView,
  type TransactionView,
  type UpdateView,
  Views,
} from "../../src/stream/view.ts";
import { SLOT_STATUSES } from "../../src/types.ts";
import {
  type GoldenAccount,
  goldenFrame,
  type GoldenHeader,
  type GoldenLeft,
  type GoldenMark,
  type GoldenUpdate,
} from "./support/golden_frame.ts";
import {
  accountArbitrary,
  accountUpdate,
  patternBytes,
  slotArbitrary,
  slotUpdate,
  transactionArbitrary,
  transactionUpdate,
} from "./support/updates.ts";

const AT = 4096 + 8;
const HEADER: GoldenHeader = { sequence: 2n ** 53n - 1n, publishNs: 1_700_000_000_123_456_789n, lost: 3, conflated: 2 };
/** What the library says about losses: the frame's own word is not asked. */
const LOST = 5;
const CLOCK_US = 1_700_000_000_125_000;

/** Memory in which nothing but the frame makes sense, and the record that the library would write for it. */
function place(
  frame: { bytes: Uint8Array; kind: number; flags: number; payload: readonly number[]; extra: readonly number[] },
  filters?: FilterNames,
) {
  const bytes = new Uint8Array(AT + frame.bytes.length + 64).fill(0xa5);
  bytes.set(frame.bytes, AT);
  const records = new Uint32Array(3 * 8).fill(0xffffffff); // the middle one counts
  records.set([
    AT,
    frame.kind | frame.flags << 16,
    frame.bytes.length - 64,
    LOST,
    AT + frame.payload[0]!,
    frame.payload[1]!,
    AT + frame.extra[0]!,
    frame.extra[1]!,
  ], 8);
  const memory = { bytes, data: new DataView(bytes.buffer), clockUs: () => CLOCK_US, filters };
  return { bytes, records, views: new Views(memory) };
}

function viewOf(
  update: GoldenUpdate | GoldenLeft | GoldenMark,
  header = HEADER,
  filters?: FilterNames,
): { view: UpdateView; bytes: Uint8Array; records: Uint32Array } {
  const { views, records, bytes } = place(goldenFrame(update, header), filters);
  const view = views.at(records, 1);
  assert.ok(view !== undefined);
  return { view, bytes, records };
}

function account(fields: Partial<GoldenAccount> = {}): GoldenAccount {
  return {
    ...accountUpdate(fields),
    pubkey: patternBytes(32, 1),
    owner: patternBytes(32, 2),
    writeVersion: 1n,
    bankId: 2n,
    rentEpoch: 3n,
    executable: false,
    signature: fields.signature,
    startup: false,
    lossy: false,
    sourceNs: 4n,
    sourceEpoch: 0,
    ...(fields.sliced !== undefined && { sliced: fields.sliced }),
    ...(fields.clipped !== undefined && { clipped: fields.clipped }),
    ...(fields.fullLength !== undefined && { fullLength: fields.fullLength }),
  };
}

function transaction(): GoldenUpdate {
  return {
    ...transactionUpdate(),
    ...{ meta: patternBytes(9, 4), vote: true, failed: true, bankId: 1n, lossy: true, sourceNs: 1n },
    loadedAddresses: { writable: [patternBytes(32, 7)], readonly: [patternBytes(32, 8)] },
  };
}

function slot(): GoldenUpdate {
  return {
    ...slotUpdate(),
    ...{ bankId: 0n, lossy: false, sourceNs: 0n },
    ...{ accountsPublished: 0, transactionsPublished: 0, accountsLost: 0, transactionsLost: 0 },
  };
}

const LIVE = { isState: false, isRestored: false };
const DELIVERY = { sequence: HEADER.sequence, publishNs: HEADER.publishNs, lost: LOST, conflated: 2 };

test("AccountView shows every field, and copy() has them all", () => {
  fc.assert(fc.property(accountArbitrary, (update) => {
    const view = viewOf(update).view as AccountView;
    const {
      kind,
      pubkey,
      owner,
      lamports,
      rentEpoch,
      slot,
      bankId,
      writeVersion,
      executable,
      startup,
      lossy,
      signature,
      data,
      sourceNs,
      sourceEpoch,
    } = view;
    assert.deepEqual(
      {
        kind,
        pubkey,
        owner,
        lamports,
        rentEpoch,
        slot,
        bankId,
        writeVersion,
        executable,
        startup,
        lossy,
        signature,
        data,
        sourceNs,
        sourceEpoch,
      },
      update,
    );
    assert.equal(view.address, addressFromBytes(update.pubkey));
    assert.equal(view.ownerAddress, addressFromBytes(update.owner));
    assert.equal(view.dataLength, update.data.length);
    assert.equal(view.slotNumber, Number(update.slot));
    assert.deepEqual([view.fullLength, view.isSliced, view.isClipped], [update.data.length, false, false]);
    assert.deepEqual(view.copy(), { ...update, ...DELIVERY, fullLength: update.data.length, ...LIVE, filters: [] });
  }));
});

test("TransactionView shows every field, and copy() has them all", () => {
  fc.assert(fc.property(transactionArbitrary, (update) => {
    const view = viewOf(update).view as TransactionView;
    const { kind, slot, index, signature, message, meta, loadedAddresses, vote, failed } = view;
    const { bankId, lossy, sourceNs } = view;
    assert.deepEqual(
      { kind, slot, index, signature, message, meta, loadedAddresses, vote, failed, bankId, lossy, sourceNs },
      update,
    );
    assert.equal(view.slotNumber, Number(update.slot));
    assert.deepEqual(view.copy(), { ...update, ...DELIVERY, filters: [] });
  }));
});

test("TransactionView: how many loaded addresses there are is the record's word, whatever the frame says", () => {
  const keys = [patternBytes(32, 1), patternBytes(32, 2), patternBytes(32, 3)];
  const update = { ...transaction(), loadedAddresses: { writable: keys.slice(0, 1), readonly: keys.slice(1) } };
  const { view, bytes } = viewOf(update as GoldenUpdate);
  assert.ok(view.kind === "transaction");
  const counts = new DataView(bytes.buffer, AT + 64 + 96 - 4);
  counts.setUint16(2, 9999, true);
  assert.deepEqual(view.loadedAddresses, update.loadedAddresses);
  counts.setUint16(0, 9999, true);
  assert.deepEqual(view.loadedAddresses, { writable: keys, readonly: [] });
  assert.deepEqual(view.copy().loadedAddresses, { writable: keys, readonly: [] });
});

test("SlotView shows every field, and copy() has them all", () => {
  const counts = fc.record({
    accountsPublished: fc.maxSafeNat(),
    transactionsPublished: fc.maxSafeNat(),
    accountsLost: fc.maxSafeNat(),
    transactionsLost: fc.maxSafeNat(),
  }, { noNullPrototype: true });
  fc.assert(fc.property(slotArbitrary, counts, (slot, counts) => {
    const update = { ...slot, ...counts };
    const view = viewOf(update).view as SlotView;
    const { kind, parent, status, bankId, lossy, sourceNs } = view;
    const { accountsPublished, transactionsPublished, accountsLost, transactionsLost } = view;
    assert.deepEqual({
      ...{ kind, slot: view.slot, parent, status, bankId, lossy, sourceNs },
      ...{ accountsPublished, transactionsPublished, accountsLost, transactionsLost },
    }, update);
    assert.equal(view.slotNumber, Number(update.slot));
    assert.deepEqual(view.copy(), { ...update, ...DELIVERY });
  }));
});

test("GapView shows the losses", () => {
  const view = viewOf({ kind: "gap", lostTotal: 2n ** 40n + 7n, sourceNs: 4n }).view as GapView;
  assert.deepEqual([view.kind, view.lost, view.lostTotal, view.filters], ["gap", LOST, 2 ** 40 + 7, []]);
  assert.deepEqual(view.copy(), { kind: "gap", ...DELIVERY, sourceNs: 4n, lossy: false, lostTotal: 2 ** 40 + 7 });
});

test("FilterMarkView shows the generation", () => {
  const view = viewOf({ kind: "filter", generation: 0xfffffffe, sourceNs: 0n }).view as FilterMarkView;
  assert.deepEqual([view.kind, view.generation, view.filters], ["filter", 0xfffffffe, []]);
  assert.deepEqual(view.copy(), { kind: "filter", ...DELIVERY, sourceNs: 0n, lossy: false, generation: 0xfffffffe });
});

test("LeftView shows every field, and copy() has them all", () => {
  const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
  const key = fc.uint8Array({ minLength: 32, maxLength: 32 });
  const left = fc.record({
    kind: fc.constant("left" as const),
    ...{ pubkey: key, owner: key, lamports: u64, slot: u64, bankId: u64, writeVersion: u64, sourceNs: u64 },
  }, { noNullPrototype: true });
  fc.assert(fc.property(left, (update) => {
    const view = viewOf(update).view as LeftView;
    const { kind, pubkey, owner, lamports, slot, bankId, writeVersion, sourceNs } = view;
    assert.deepEqual({ kind, pubkey, owner, lamports, slot, bankId, writeVersion, sourceNs }, update);
    assert.deepEqual([view.address, view.ownerAddress], [addressFromBytes(pubkey), addressFromBytes(owner)]);
    assert.equal(view.slotNumber, Number(update.slot));
    assert.deepEqual(view.copy(), { ...update, ...DELIVERY, lossy: false, filters: [] });
  }));
});

test("AccountView of slices says so, and how long the whole is", () => {
  const update = account({ data: patternBytes(12, 1), sliced: true, clipped: true, fullLength: 10 * 1024 * 1024 });
  const sliced = viewOf(update).view as AccountView;
  assert.deepEqual([sliced.isSliced, sliced.isClipped, sliced.dataLength], [true, true, 12]);
  assert.equal(sliced.fullLength, 10 * 1024 * 1024);
  assert.deepEqual([sliced.copy().data, sliced.copy().fullLength], [patternBytes(12, 1), 10 * 1024 * 1024]);
  const { views, records } = place({ ...goldenFrame(update, HEADER), flags: 128 }); // flags are the record's
  const whole = views.at(records, 1) as AccountView;
  assert.deepEqual([whole.isSliced, whole.isClipped], [true, false]);
});

test("FrameView.filters names the bits of the mask, with one array per mask", () => {
  const names = new FilterNames();
  const entries = Array.from({ length: 40 }, (_, i) => names.add(`f${i + 1}`, "all"));
  const of = (update: GoldenUpdate | GoldenLeft | GoldenMark, filterMask: bigint, sequence = 1n) =>
    viewOf(update, { sequence, filterMask }, names).view;
  assert.deepEqual(of(account(), 1n).filters, [""]);
  assert.deepEqual(of(account(), 0b111n).filters, ["", "f1", "f2"]);
  assert.deepEqual(of(transaction(), 1n << 40n | 1n << 31n | 1n << 32n).filters, ["f31", "f32", "f40"]);
  assert.deepEqual(of(account(), 1n << 63n | 2n).filters, ["f1"], "a bit without a name");
  assert.equal(of(account(), 2n ** 64n - 1n).filters.length, 41);
  assert.equal(of(account(), 2n ** 64n - 1n).filterMask, 2n ** 64n - 1n);
  assert.deepEqual(of(slot(), 2n ** 64n - 1n).filters, [], "nobody asked for slots by name");
  assert.deepEqual(of(slot(), 0b10n).filters, ["f1"]);
  assert.deepEqual(of(slot(), 0xffffffffn).filters.length, 32);
  assert.deepEqual(of({ kind: "filter", generation: 1, sourceNs: 0n }, 0b10n).filters, []);
  for (const mask of [0b110n, 1n << 33n | 1n]) {
    assert.equal(of(account(), mask).filters, of(transaction(), mask).filters);
    assert.ok(Object.isFrozen(of(account(), mask).filters));
  }
  assert.deepEqual((of(account(), 0b10n) as AccountView).copy().filters, ["f1"]);
  names.free(entries[0]!);
  assert.deepEqual(of(account(), 0b110n).filters, ["f2"], "lists follow the names");
});

test("a removed name stands for its bit up to the sequence of its removal, also when the bit has another by then", () => {
  const names = new FilterNames();
  const old = names.add("old", "all");
  const at = (sequence: bigint) => viewOf(account(), { sequence, filterMask: 0b10n }, names).view.filters;
  assert.deepEqual(at(5n), ["old"]);
  names.hide(old);
  assert.equal(names.get("old"), undefined);
  assert.notEqual(names.add("new", "all").bit, old.bit, "its removal is not acknowledged");
  names.retire(old, 10n);
  assert.equal(names.add("newer", "all").bit, old.bit);
  assert.deepEqual([at(6n), at(10n)], [["old"], ["old"]]);
  assert.deepEqual([at(11n), at(12n)], [["newer"], ["newer"]]);
});

test("Views have what a connection adds: place, times, losses", () => {
  const { view } = viewOf(account());
  assert.deepEqual([view.sequence, view.sequenceNumber], [2n ** 53n - 1n, 2 ** 53 - 1]);
  assert.deepEqual([view.publishNs, view.sourceNs, view.lost, view.conflated], [HEADER.publishNs, 4n, LOST, 2]);
  assert.ok(Math.abs(view.ageUs - 1543.211) <= 0.5, `${view.ageUs}`);
});

test("Views.at() has no view for a goodbye, no kind, a kind of the future", () => {
  for (const kind of [0, 6, 12, 65535]) {
    const { views, records } = place({ ...goldenFrame(account(), HEADER), kind });
    assert.equal(views.at(records, 1), undefined);
  }
});

test("Views.at() reuses one view per kind, which then shows the new frame alone", () => {
  const first = goldenFrame(account({ signature: patternBytes(64, 3), data: patternBytes(100, 4) }), HEADER);
  const second = goldenFrame(account({ data: patternBytes(5, 5) }), { sequence: 2n });
  const bytes = new Uint8Array(4096);
  bytes.set(first.bytes, 8);
  bytes.set(second.bytes, 1024);
  const records = Uint32Array.from([
    ...[8, 1 | first.flags << 16, first.bytes.length - 64, 0, 8 + first.payload[0], 100, 8 + first.extra[0], 64],
    ...[1024, 1 | second.flags << 16, second.bytes.length - 64, 0, 1024 + second.payload[0], 5],
    ...[1024 + second.extra[0], 0],
  ]);
  const views = new Views({ bytes, data: new DataView(bytes.buffer), clockUs: () => 0 });
  const view = views.at(records, 0) as AccountView;
  const kept = view.copy();
  assert.equal(views.at(records, 1), view);
  assert.deepEqual([view.sequence, view.signature, view.dataLength], [2n, undefined, 5]);
  assert.deepEqual([kept.sequence, kept.signature, kept.data], [
    HEADER.sequence,
    patternBytes(64, 3),
    patternBytes(100, 4),
  ]);
});

test("copy() shares no byte with the frame, and none with another copy", () => {
  const updates: GoldenUpdate[] = [
    account({ signature: patternBytes(64, 3) }),
    transaction(),
  ];
  for (const update of updates) {
    const { view, bytes } = viewOf(update);
    const copy = view.copy() as unknown as Record<string, unknown>;
    const expected = structuredClone(copy);
    const loaded = Object.values(copy["loadedAddresses"] ?? {}).flat();
    const arrays = [...Object.values(copy), ...loaded].filter((value) => value instanceof Uint8Array);
    assert.equal(arrays.length, update.kind === "account" ? 4 : 5);
    assert.equal(new Set([bytes, ...arrays].map((array) => array.buffer)).size, arrays.length + 1);
    bytes.fill(0);
    assert.deepEqual(copy, expected);
  }
});

test("AccountView.u8At() and its siblings read little-endian at any offset, and refuse what is not all inside", () => {
  const data = patternBytes(41, 7);
  const { view, bytes } = viewOf(account({ data }));
  const account_ = view as AccountView;
  const truth = new DataView(data.buffer, data.byteOffset, data.length);
  const readers: [name: string, size: number, read: (at: number) => unknown, expected: (at: number) => unknown][] = [
    ["u8At", 1, (at) => account_.u8At(at), (at) => truth.getUint8(at)],
    ["u16At", 2, (at) => account_.u16At(at), (at) => truth.getUint16(at, true)],
    ["u32At", 4, (at) => account_.u32At(at), (at) => truth.getUint32(at, true)],
    ["u64At", 8, (at) => account_.u64At(at), (at) => truth.getBigUint64(at, true)],
    ["u64NumberAt", 8, (at) => account_.u64NumberAt(at), (at) => Number(truth.getBigUint64(at, true))],
    ["f64At", 8, (at) => account_.f64At(at), (at) => truth.getFloat64(at, true)],
  ];
  assert.ok(
    bytes.length >= AT + 64 + 120 + data.length + 64,
    "memory goes on behind the data: only the check can refuse",
  );
  for (const [name, size, read, expected] of readers) {
    for (let at = 0; at + size <= data.length; at++) assert.equal(read(at), expected(at), `${name}(${at})`);
    const beyond = [
      data.length - size + 1,
      data.length,
      data.length + 1,
      -1,
      -size,
      -0.5,
      2 ** 31,
      2 ** 32,
      2 ** 53,
      Infinity,
      -Infinity,
      NaN,
    ];
    for (const at of beyond) {
      assert.throws(
        () => read(at),
        { name: "RangeError", message: /beyond the account's 41 bytes of data/ },
        `${name}(${at})`,
      );
    }
  }
});

test("AccountView.u8At() refuses everything in an account without data", () => {
  const view = viewOf(account({ data: new Uint8Array(0) })).view as AccountView;
  assert.equal(view.data.length, 0);
  assert.throws(() => view.u8At(0), RangeError);
});

test("SlotView.status is dead for a number that we do not know", () => {
  for (const number of [SLOT_STATUSES.length, 255, 0xffffffff]) {
    const { view, bytes } = viewOf(slot());
    new DataView(bytes.buffer).setUint32(AT + 64 + 56, number, true);
    assert.equal((view as SlotView).status, "dead");
  }
});

test("a view takes lengths and flags from the record, whatever a sender writes into the frame meanwhile", () => {
  const { view, bytes } = viewOf(account({ data: patternBytes(8, 1) }));
  const frame = new DataView(bytes.buffer, AT);
  frame.setUint32(0, 0xffffffff, true);
  frame.setUint16(6, 0xffff, true);
  frame.setUint32(56, 0xffffffff, true);
  frame.setUint32(64 + 104, 0xffffffff, true);
  const copy = (view as AccountView).copy();
  assert.deepEqual([copy.data.length, copy.executable, copy.startup, copy.lossy, copy.signature], [
    8,
    false,
    false,
    false,
    undefined,
  ]);
});
