/**
 * Batch: what the engine is given, and what is left when it took a part of it.
 * May touch: one batch. May not touch: the native library; the test stands in for it by writing how much is done.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Batch, BATCH_UPDATES, COPIED_BYTES_MAX } from "../../src/wire/batch.ts";
import { FrameEncoder } from "../../src/wire/encoder.ts";
import { accountUpdate, patternBytes, slotUpdate, transactionUpdate, updateArbitrary } from "./support/updates.ts";
import type { Update } from "../../src/types.ts";

const NO_COUNTS = { accountsPublished: 0, transactionsPublished: 0, accountsLost: 0, transactionsLost: 0 };

function encode(encoder: FrameEncoder, update: Update): void {
  if (update.kind === "account") encoder.account(update);
  else if (update.kind === "transaction") encoder.transaction(update);
  else encoder.slot(update, NO_COUNTS);
}

/** Without the words of the header that the engine fills in: those may have anything in them. */
function textOf(head: Uint8Array, tail: Uint8Array): string {
  const [kindAndFlags, sourceNs, body] = [head.subarray(4, 8), head.subarray(24, 32), head.subarray(64)];
  return [kindAndFlags, sourceNs, body, tail].map((bytes) => bytes.toHex()).join(" ");
}

/** Head and tail as they are without a batch. */
function alone(update: Update): string {
  const encoder = new FrameEncoder();
  encode(encoder, update);
  return textOf(encoder.head.subarray(0, encoder.headLength), encoder.tail);
}

/** What the engine reads from it: lengths, head, tail, each padded to 8. Also where each ends. */
function itemsOf({ bytes, length }: Batch): { items: string[]; ends: number[] } {
  const view = new DataView(bytes.buffer);
  const [items, ends]: [string[], number[]] = [[], []];
  const padded = (size: number) => Math.ceil(size / 8) * 8;
  for (let at = 8; at < length;) {
    const [head, tail] = [view.getUint32(at, true), view.getUint32(at + 4, true)];
    const tailAt = at + 8 + padded(head);
    items.push(textOf(bytes.subarray(at + 8, at + 8 + head), bytes.subarray(tailAt, tailAt + tail)));
    at = tailAt + padded(tail);
    ends.push(at - 8);
  }
  return { items, ends };
}

test("updates stand one behind the other, as they are alone; what is done goes, the rest stays", () => {
  const batch = new Batch(); // the same for all runs: nothing of an earlier one may be seen
  batch.bytes.fill(0xa5, batch.length);
  fc.assert(
    fc.property(fc.array(updateArbitrary, { maxLength: 20 }), fc.nat(), (updates, part) => {
      batch.clear();
      const added: Update[] = [];
      for (const update of updates) {
        if (batch.isFull) break;
        encode(batch.encoder, update);
        assert.ok(batch.add());
        added.push(update);
      }
      const { items, ends } = itemsOf(batch);
      assert.deepEqual(items, added.map(alone));
      const done = part % (added.length + 1);
      new DataView(batch.bytes.buffer).setBigUint64(0, BigInt(done === 0 ? 0 : ends[done - 1]!), true);
      assert.equal(batch.takeDone(), done);
      assert.equal(batch.count, added.length - done);
      assert.deepEqual(itemsOf(batch).items, items.slice(done));
    }),
    { numRuns: 1000 },
  );
});

test("a payload that is too long is not taken in, and can be published from where it is", () => {
  const batch = new Batch();
  encode(batch.encoder, slotUpdate());
  assert.ok(batch.add());
  const large = [
    accountUpdate({ data: patternBytes(COPIED_BYTES_MAX + 1, 1) }),
    transactionUpdate({ message: patternBytes(COPIED_BYTES_MAX - 8, 2), meta: patternBytes(9, 3) }),
  ];
  for (const update of large) {
    encode(batch.encoder, update);
    const { head, at, headLength, tail } = batch.encoder;
    assert.ok(!batch.add());
    assert.equal(textOf(head.subarray(at, at + headLength), tail), alone(update));
    assert.deepEqual(itemsOf(batch).items, [alone(slotUpdate())]);
  }
  encode(batch.encoder, accountUpdate({ data: patternBytes(COPIED_BYTES_MAX, 1) }));
  assert.ok(batch.add());
});

test("it is full before anything could be too long for it, and after 64", () => {
  for (const bytes of [0, 165, COPIED_BYTES_MAX]) {
    const batch = new Batch();
    const update = accountUpdate({ data: patternBytes(bytes, 1), signature: patternBytes(64, 2) });
    while (!batch.isFull) {
      encode(batch.encoder, update);
      assert.ok(batch.add());
      assert.ok(batch.length <= batch.bytes.length);
    }
    assert.equal(itemsOf(batch).items.length, batch.count);
    if (bytes === 0) assert.equal(batch.count, BATCH_UPDATES);
    else assert.ok(batch.count >= 16, `${batch.count} of ${bytes} bytes`);
  }
});
