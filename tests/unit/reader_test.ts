/**
 * RingReader over a real ring: what FrameEncoder wrote and the native library carried, views show.
 * May touch: the native library, both ends of one ring. May not touch: links, sockets.
 *
 * @module
 */

import assert from "node:assert/strict";
import { before, test } from "node:test";
import fc from "fast-check";
import { EndReason as WireReason, RingInfo, Status } from "../../src/native/abi.generated.ts";
import type { Native } from "../../src/native/native.ts";
import { RingReader } from "../../src/stream/reader.ts";
import { FrameEncoder } from "../../src/wire/encoder.ts";
import { goldenFrame } from "./support/golden_frame.ts";
import { load, ringHandles } from "./support/native_pairs.ts";
import { accountUpdate, patternBytes, slotUpdate, transactionUpdate, updateArbitrary } from "./support/updates.ts";

const CAPACITY = 64 * 1024;
const NO_COUNTS = { accountsPublished: 1, transactionsPublished: 2, accountsLost: 3, transactionsLost: 4 };

let native: Native;
before(async () => {
  native = await load();
});

/** One ring with its two ends. */
class RingPair implements Disposable {
  readonly #handles = ringHandles(native, CAPACITY);
  readonly reader = new RingReader(native, this.#handles.consumer, CAPACITY);
  readonly encoder = new FrameEncoder();
  readonly #target = new Uint32Array(2);

  /** Copies what the encoder holds into the ring. */
  offer(commit = true): number {
    this.#target[0] = this.#handles.producer;
    const { head, headLength, tail } = this.encoder;
    const taken = native.ringOffer(head, headLength, tail, tail.length, this.#target, 1, commit ? 1 : 0);
    return taken === 1 ? 0 : this.#target[1]! | 0;
  }
  offerSlot(sequence: number): number {
    this.encoder.slot(slotUpdate({ slot: BigInt(sequence) }), sequence, NO_COUNTS);
    return this.offer();
  }
  end(reason: number): void {
    assert.equal(native.ringEnd(this.#handles.producer, reason), 0);
  }
  usedAtProducer(): number {
    const info = new Float64Array(RingInfo.size / 8);
    assert.equal(native.ringInfo(this.#handles.producer, info), 0);
    return info[RingInfo.producerCursor / 8]! - info[RingInfo.consumerCursor / 8]!;
  }
  [Symbol.dispose](): void {
    this.reader.close();
    native.close(this.#handles.producer);
  }
}

test("what was encoded comes out of a ring as it was, byte for byte, for thousands of frames", () => {
  using ring = new RingPair();
  let sequence = 0;
  fc.assert(
    fc.property(updateArbitrary, (update) => {
      sequence++;
      ring.encoder.startBatch();
      if (update.kind === "account") ring.encoder.account(update, sequence);
      else if (update.kind === "transaction") ring.encoder.transaction(update, sequence);
      else ring.encoder.slot(update, sequence, NO_COUNTS);
      assert.equal(ring.offer(), 0);
      const view = ring.reader.advance();
      assert.ok(view !== undefined && view.kind !== "gap");
      const { sequence: place, publishNs, lost, conflated, ...rest } = view.copy();
      assert.deepEqual(rest, update.kind === "slot" ? { ...update, ...NO_COUNTS } : update);
      assert.deepEqual([place, lost, conflated], [BigInt(sequence), 0, 0]);
      assert.ok(publishNs > 1_600_000_000_000_000_000n && Math.abs(view.ageUs) < 60_000_000, "a time of today");
      const golden = goldenFrame(update.kind === "slot" ? { ...update, ...NO_COUNTS } : update, {
        sequence: place,
        publishNs,
      });
      assert.equal(ring.reader.bytes % 8, 0);
      assert.equal(view.kind === "account" ? view.dataLength : 0, view.kind === "account" ? golden.payload[1] : 0);
    }),
    { numRuns: 3000 },
  );
  assert.equal(ring.reader.frames, sequence);
});

test("the frame in the ring has the golden bytes, lengths and time included", () => {
  const { producer, consumer } = ringHandles(native, CAPACITY);
  const memory = native.memory(native.ringAddress(consumer), 2 * CAPACITY);
  const encoder = new FrameEncoder();
  const records = new Uint32Array(8);
  const updates = [
    {
      ...accountUpdate(),
      pubkey: patternBytes(32, 1),
      owner: patternBytes(32, 2),
      writeVersion: 1n,
      bankId: 2n,
      rentEpoch: 3n,
      executable: true,
      signature: patternBytes(64, 8),
      startup: true,
      lossy: true,
      sourceNs: 9n,
    },
    {
      ...transactionUpdate(),
      meta: patternBytes(11, 3),
      vote: true,
      failed: true,
      bankId: 5n,
      lossy: true,
      sourceNs: 9n,
    },
    { ...slotUpdate(), ...NO_COUNTS, bankId: 5n, lossy: true, sourceNs: 9n },
  ];
  updates.forEach((update, i) => {
    encoder.startBatch();
    if (update.kind === "account") encoder.account(update, i + 1);
    else if (update.kind === "transaction") encoder.transaction(update, i + 1);
    else encoder.slot(update, i + 1, NO_COUNTS);
    const target = Uint32Array.of(producer, 0);
    assert.equal(
      native.ringOffer(encoder.head, encoder.headLength, encoder.tail, encoder.tail.length, target, 1, 1),
      1,
    );
    assert.equal(native.ringPoll(consumer, records, 1), 1);
    const publishNs = new DataView(encoder.head.buffer).getBigUint64(16, true);
    const golden = goldenFrame(update, { sequence: BigInt(i + 1), publishNs });
    const at = records[0]!;
    assert.deepEqual(new Uint8Array(memory.slice(at, at + golden.bytes.length)), golden.bytes);
    assert.deepEqual([...records], [
      ...[at, golden.kind, golden.flags, (golden.bytes.length + 7) & ~7],
      ...[at + golden.payload[0], golden.payload[1], at + golden.extra[0], golden.extra[1]],
    ]);
    assert.equal(native.ringRelease(consumer, (golden.bytes.length + 7) & ~7), 0);
  });
  memory.transfer(0);
  native.close(consumer);
  native.close(producer);
});

test("advance() hands out what is committed and nothing else, in order", () => {
  using ring = new RingPair();
  assert.equal(ring.reader.advance(), undefined);
  ring.encoder.slot(slotUpdate(), 1, NO_COUNTS);
  assert.equal(ring.offer(false), 0);
  assert.equal(ring.reader.advance(), undefined, "not committed");
  assert.equal(ring.offerSlot(2), 0);
  assert.equal(ring.reader.advance()?.sequenceNumber, 1);
  assert.equal(ring.reader.ready, 1);
  assert.equal(ring.reader.advance()?.sequenceNumber, 2);
  assert.equal(ring.reader.advance(), undefined);
});

test("release() gives back what was handed out, and only that", () => {
  using ring = new RingPair();
  for (let i = 1; i <= 3; i++) ring.offerSlot(i);
  ring.reader.advance();
  assert.ok(ring.reader.isHeld);
  assert.equal(ring.usedAtProducer(), 3 * 128);
  ring.reader.release();
  assert.equal(ring.reader.isHeld, false);
  assert.equal(ring.usedAtProducer(), 2 * 128);
  assert.equal(ring.reader.usedBytes, 2 * 128);
  assert.equal(ring.reader.advance()?.sequenceNumber, 2);
});

test("a full ring is drained frame by frame: room comes back before a batch is over", () => {
  using ring = new RingPair();
  let count = 0;
  while (ring.offerSlot(count + 1) === 0) count++;
  assert.equal(count, CAPACITY / 128);
  assert.equal(ring.offerSlot(count + 1), Status.full);
  for (let i = 1; i <= CAPACITY / 8 / 128 + 1; i++) assert.equal(ring.reader.advance()?.sequenceNumber, i);
  assert.equal(ring.offerSlot(count + 1), 0, "an eighth of the ring came back in the middle of a batch");
  let last = 0;
  for (let view = ring.reader.advance(); view !== undefined; view = ring.reader.advance()) last = view.sequenceNumber;
  assert.equal(last, count + 1);
  assert.equal(ring.reader.frames, count + 1);
  assert.equal(ring.reader.bytes, (count + 1) * 128);
});

test("end says why, after everything before it was handed out", () => {
  const rows: [reason: number, expected: string][] = [
    [WireReason.senderClosed, "sender-closed"],
    [WireReason.slowConsumer, "slow-consumer"],
    [WireReason.peerCorrupt, "peer-corrupt"],
    [77, "sender-closed"],
  ];
  for (const [reason, expected] of rows) {
    using ring = new RingPair();
    ring.offerSlot(1);
    ring.encoder.goodbye(1, reason);
    ring.offer();
    ring.end(reason);
    assert.equal(ring.reader.end, undefined);
    assert.equal(ring.reader.advance()?.sequenceNumber, 1);
    assert.equal(ring.reader.end, undefined);
    assert.equal(ring.reader.advance(), undefined);
    assert.equal(ring.reader.end, expected);
    assert.equal(ring.reader.frames, 1, "a goodbye is not counted");
  }
});

test("lost adds up what the frames say", () => {
  using ring = new RingPair();
  ring.encoder.account(accountUpdate({ data: patternBytes(CAPACITY, 1) }), 1);
  assert.equal(ring.offer(), Status.tooLarge);
  assert.equal(ring.offer(), Status.tooLarge);
  ring.offerSlot(3);
  const view = ring.reader.advance();
  assert.deepEqual([view?.lost, ring.reader.lost], [2, 2]);
});

test("close() voids views: they throw, and what was taken from them is empty", () => {
  const ring = new RingPair();
  ring.encoder.account(accountUpdate({ signature: patternBytes(64, 1) }), 1);
  ring.offer();
  ring.encoder.transaction(transactionUpdate({ meta: patternBytes(4, 1) }), 2);
  ring.offer();
  ring.offerSlot(3);
  const views = [ring.reader.advance()!, ring.reader.advance()!, ring.reader.advance()!];
  const data = views[0]!.kind === "account" ? views[0]!.data : undefined;
  ring[Symbol.dispose]();
  assert.equal(data?.length, 0);
  assert.equal(data?.[0], undefined);
  for (const view of views) {
    assert.throws(() => view.sequence, TypeError);
    assert.throws(() => view.copy(), TypeError);
  }
  assert.equal(ring.reader.advance(), undefined);
  assert.equal(ring.reader.refill(), false);
  assert.equal(ring.reader.usedBytes, 0);
  ring.reader.close();
});
