/**
 * FrameEncoder against a second encoder that was written from zig/layout/frames.zig alone, byte by byte.
 * May touch: one encoder. May not touch: the native library, which sets length, times and losses (reader_test.ts).
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { addressFromBytes } from "../../src/address.ts";
import { SLOT_STATUSES, type SlotCounts, type TransactionUpdate } from "../../src/types.ts";
import { FrameEncoder } from "../../src/wire/encoder.ts";
import { goldenFrame, type GoldenUpdate } from "./support/golden_frame.ts";
import { accountUpdate, patternBytes, slotUpdate, transactionUpdate, updateArbitrary } from "./support/updates.ts";

const NO_COUNTS: SlotCounts = { accountsPublished: 0, transactionsPublished: 0, accountsLost: 0, transactionsLost: 0 };

function encode(encoder: FrameEncoder, update: GoldenUpdate): Uint8Array {
  if (update.kind === "account") encoder.account(update);
  else if (update.kind === "transaction") encoder.transaction(update);
  else encoder.slot(update, update);
  return frameOf(encoder);
}

function frameOf(encoder: FrameEncoder): Uint8Array {
  const bytes = new Uint8Array(encoder.headLength + encoder.tail.length);
  bytes.set(encoder.head.subarray(0, encoder.headLength));
  bytes.set(encoder.tail, encoder.headLength);
  return bytes;
}

/** What the native library sets is 0 until then. */
function expected(update: GoldenUpdate): Uint8Array {
  const { bytes } = goldenFrame(update, { sequence: 0n });
  bytes.fill(0, 0, 4); // length
  bytes.fill(0, 32, 40); // filter mask
  bytes.fill(0, 56, 60); // body length
  return bytes;
}

const counts = fc.record({
  accountsPublished: fc.maxSafeNat(),
  transactionsPublished: fc.maxSafeNat(),
  accountsLost: fc.maxSafeNat(),
  transactionsLost: fc.maxSafeNat(),
});
const golden: fc.Arbitrary<GoldenUpdate> = fc.tuple(updateArbitrary, counts)
  .map(([update, counts]) => update.kind === "slot" ? { ...update, ...counts } : update);

test("FrameEncoder writes the bytes of zig/layout.zig, whatever it has encoded before", () => {
  const encoder = new FrameEncoder();
  fc.assert(
    fc.property(golden, (update) => {
      assert.deepEqual(encode(encoder, update), expected(update));
    }),
    { numRuns: 1000 },
  );
});

test("FrameEncoder writes each flag and each field at its own place", () => {
  const base: GoldenUpdate[] = [
    {
      ...accountUpdate(),
      pubkey: patternBytes(32, 1),
      owner: patternBytes(32, 2),
      writeVersion: 0n,
      bankId: 0n,
      rentEpoch: 0n,
      executable: false,
      signature: undefined,
      startup: false,
      sourceEpoch: 0,
      lossy: false,
      sourceNs: 0n,
    },
    { ...transactionUpdate(), meta: undefined, vote: false, failed: false, bankId: 0n, lossy: false, sourceNs: 0n },
    { ...slotUpdate(), ...NO_COUNTS, bankId: 0n, lossy: false, sourceNs: 0n },
  ];
  let changes = 0;
  for (const update of base) {
    for (const [name, value] of Object.entries(update)) {
      const changed = value === false
        ? true
        : typeof value === "bigint"
        ? 0x8877665544332211n
        : name === "signature" || name === "meta"
        ? patternBytes(64, 9)
        : name === "status"
        ? "createdBank"
        : typeof value === "number"
        ? 0x76543210
        : undefined;
      if (changed === undefined) continue;
      const one = { ...update, [name]: changed } as GoldenUpdate;
      assert.deepEqual(encode(new FrameEncoder(), one), expected(one), `${update.kind} ${name}`);
      changes++;
    }
  }
  assert.equal(changes, 12 + 8 + 10);
});

test("FrameEncoder uses the documented defaults for what is left out", () => {
  const encoder = new FrameEncoder();
  encoder.account({
    pubkey: patternBytes(32, 1),
    owner: patternBytes(32, 2),
    lamports: 1n,
    data: patternBytes(3, 3),
    slot: 2n,
  });
  const account: GoldenUpdate = {
    kind: "account",
    pubkey: patternBytes(32, 1),
    owner: patternBytes(32, 2),
    lamports: 1n,
    data: patternBytes(3, 3),
    slot: 2n,
    writeVersion: 0n,
    bankId: 0n,
    rentEpoch: 2n ** 64n - 1n,
    executable: false,
    signature: undefined,
    startup: false,
    lossy: false,
    sourceNs: 0n,
    sourceEpoch: 0,
  };
  assert.deepEqual(frameOf(encoder), expected(account));
});

test("FrameEncoder pads a message in front of a meta with zeros, and an empty meta is not none", () => {
  const encoder = new FrameEncoder();
  for (let length = 0; length <= 17; length++) {
    for (const [i, meta] of [undefined, new Uint8Array(0), patternBytes(5, 1), undefined].entries()) {
      const loadedAddresses = { writable: [], readonly: i === 3 ? [patternBytes(32, 3)] : [] };
      const update: GoldenUpdate = {
        ...transactionUpdate({ message: patternBytes(length, 2), loadedAddresses }),
        meta,
        vote: false,
        failed: false,
        bankId: 0n,
        lossy: false,
        sourceNs: 0n,
      };
      assert.deepEqual(encode(encoder, update), expected(update), `${length} ${meta?.length}`);
    }
  }
});

test("FrameEncoder takes loaded addresses in either form, 256 at most, and refuses what is none", () => {
  const encoder = new FrameEncoder();
  const keys = Array.from({ length: 256 }, (_, i) => patternBytes(32, i));
  const refused = (loadedAddresses: unknown, error: typeof TypeError, message: RegExp) => {
    encoder.slot(slotUpdate(), NO_COUNTS);
    const before = frameOf(encoder);
    const update = { ...transactionUpdate(), loadedAddresses } as TransactionUpdate;
    assert.throws(
      () => encoder.transaction(update),
      (thrown) => thrown instanceof error && message.test(thrown.message),
    );
    assert.deepEqual(frameOf(encoder), before, "nothing was written");
  };
  const [writable, readonly] = [keys.slice(0, 200), keys.slice(200)];
  encoder.transaction(transactionUpdate({ loadedAddresses: { writable, readonly } }));
  const bytes = encoder.tail.slice();
  const base58 = (list: Uint8Array[]) => list.map(addressFromBytes);
  encoder.transaction({
    ...transactionUpdate(),
    loadedAddresses: { writable: base58(writable), readonly: base58(readonly) },
  });
  assert.deepEqual(encoder.tail, bytes);
  assert.equal(bytes.length, 216 + 256 * 32);
  refused({ writable: keys, readonly: [keys[0]] }, RangeError, /has 257 addresses, a transaction at most 256$/);
  refused({ writable: keys }, TypeError, /loadedAddresses\.readonly must be a list of addresses$/);
  refused({ writable: patternBytes(32, 1), readonly: [] }, TypeError, /loadedAddresses\.writable must be a list/);
  refused(
    { writable: [patternBytes(31, 1)], readonly: [] },
    TypeError,
    /an address of loadedAddresses\.writable must be/,
  );
  refused({ writable: [], readonly: ["no address"] }, TypeError, /is no address/);
});

test("FrameEncoder hands data over as it is, without a copy", () => {
  const encoder = new FrameEncoder();
  const data = patternBytes(1000, 1);
  encoder.account(accountUpdate({ data }));
  assert.equal(encoder.tail, data);
  const message = patternBytes(500, 1);
  encoder.transaction(transactionUpdate({ message }));
  assert.equal(encoder.tail, message);
});

test("FrameEncoder writes every status as its place in SLOT_STATUSES, Yellowstone's numbers", () => {
  const encoder = new FrameEncoder();
  const yellowstone = ["processed", "confirmed", "finalized", "firstShredReceived", "completed", "createdBank", "dead"];
  assert.deepEqual([...SLOT_STATUSES], yellowstone);
  SLOT_STATUSES.forEach((status, number) => {
    encoder.slot(slotUpdate({ status }), NO_COUNTS);
    assert.equal(encoder.head[64 + 56], number);
  });
});

test("FrameEncoder.slotLosses() changes the losses and nothing else", () => {
  const encoder = new FrameEncoder();
  encoder.slot(slotUpdate(), { ...NO_COUNTS, accountsPublished: 5, transactionsPublished: 6 });
  encoder.slotLosses(3, 2 ** 40);
  const update: GoldenUpdate = {
    ...slotUpdate(),
    bankId: 0n,
    lossy: false,
    sourceNs: 0n,
    accountsPublished: 5,
    transactionsPublished: 6,
    accountsLost: 3,
    transactionsLost: 2 ** 40,
  };
  assert.deepEqual(frameOf(encoder), expected(update));
});

test("FrameEncoder writes marks and goodbyes, and leaves nothing of the frame before", () => {
  const encoder = new FrameEncoder();
  const before = accountUpdate({ owner: new Uint8Array(32).fill(255), pubkey: new Uint8Array(32).fill(255) });
  encoder.account(before);
  encoder.goodbye(2);
  let frame = frameOf(encoder);
  assert.equal(frame.length, 64 + 8);
  assert.deepEqual([frame[4], frame[5], frame[6], frame[7]], [6, 0, 0, 0]);
  assert.deepEqual([...frame.subarray(64)], [2, 0, 0, 0, 0, 0, 0, 0]);
  encoder.account(before);
  encoder.filterMark(0x01020304);
  frame = frameOf(encoder);
  assert.deepEqual([frame[4], frame[5], ...frame.subarray(64)], [5, 0, 4, 3, 2, 1, 0, 0, 0, 0]);
});
