/**
 * RingReader over a real ring: what a sender wrote and the native library carried, views show.
 * May touch: the native library, both ends of one ring; frames of the second encoder (golden_frame.ts), so that reader and
 * encoder can't be wrong in the same way. May not touch: links, sockets.
 *
 * @module
 */

import assert from "node:assert/strict";
import { before, test } from "node:test";
import fc from "fast-check";
import { EndReason as WireReason, FRAME_ALIGN, PollRecord, RingInfo, Status } from "../../src/native/abi.generated.ts";
import type { Native } from "../../src/native/native.ts";
import { FilterNames } from "../../src/stream/filter_names.ts";
import { RingReader } from "../../src/stream/reader.ts";
import type { AccountView, TransactionView, UpdateView } from "../../src/stream/view.ts";
import {
  type GoldenAccount,
  goldenFrame,
  type GoldenHeader,
  type GoldenMark,
  type GoldenUpdate,
} from "./support/golden_frame.ts";
import { type EngineOptions, EnginePair, load, ringHandles } from "./support/native_pairs.ts";
import {
  accountUpdate,
  keyOf,
  patternBytes,
  slotUpdate,
  transactionUpdate,
  updateArbitrary,
} from "./support/updates.ts";

const CAPACITY = 64 * 1024;
const POOL = 1024 * 1024;
const NO_COUNTS = { accountsPublished: 1, transactionsPublished: 2, accountsLost: 3, transactionsLost: 4 };
const REST = { bankId: 2n, lossy: false, sourceNs: 9n };

let native: Native;
before(async () => {
  native = await load();
});

function account(fields: Partial<GoldenAccount> = {}): GoldenAccount {
  return {
    ...accountUpdate(),
    ...{ pubkey: keyOf(1), owner: keyOf(2), writeVersion: 1n, rentEpoch: 3n, executable: false, startup: false },
    ...{ signature: undefined, sourceEpoch: 7, ...REST, ...fields },
  };
}

function slot(number: number): GoldenUpdate {
  return { ...slotUpdate({ slot: BigInt(number) }), ...REST, ...NO_COUNTS };
}

function padded(length: number): number {
  return Math.ceil(length / FRAME_ALIGN) * FRAME_ALIGN;
}

/** One ring with its two ends. */
class RingPair implements Disposable {
  readonly #handles = ringHandles(native, CAPACITY);
  readonly reader = new RingReader(native, this.#handles.consumer, CAPACITY);
  readonly #target = new Uint32Array(2);

  /** Copies a frame into the ring. The library fills in what it does in every frame. */
  offer(update: GoldenUpdate | GoldenMark, header: GoldenHeader = { sequence: 0n }, commit = true): number {
    this.#target[0] = this.#handles.producer;
    const { bytes } = goldenFrame(update, header);
    const nothing = new Uint8Array(0);
    const taken = native.ringOffer(bytes, bytes.length, nothing, 0, this.#target, 1, commit ? 1 : 0);
    return taken === 1 ? 0 : this.#target[1]! | 0;
  }
  offerSlot(sequence: number, commit = true): number {
    return this.offer(slot(sequence), { sequence: BigInt(sequence) }, commit);
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

/** A reader at an engine. */
class EngineReader extends EnginePair {
  readonly reader: RingReader;

  constructor(options: Partial<EngineOptions> = {}, filters?: FilterNames, own: Native = native) {
    super(native, { capacityBytes: CAPACITY, ...options });
    const memoryBytes = 2 * CAPACITY + (options.poolBytes ?? 0);
    this.reader = new RingReader(own, this.consumer, CAPACITY, { memoryBytes, ...(filters && { filters }) });
    assert.equal(this.edit({ accounts: [keyOf(1)], owners: [keyOf(2)], transactions: true }), 0);
  }

  /** Publishes slots until the ring is full. Returns how many got in. */
  fill(): number {
    let count = 0;
    while (this.publish(slot(count + 1)) === 1) count++;
    return count;
  }

  drain(): UpdateView["kind"][] {
    const kinds: UpdateView["kind"][] = [];
    for (let view = this.reader.advance(); view !== undefined; view = this.reader.advance()) kinds.push(view.kind);
    return kinds;
  }

  override [Symbol.dispose](): void {
    this.reader.close();
    super[Symbol.dispose]();
  }
}

test("what was written comes out of a ring as it was, byte for byte, for thousands of frames", () => {
  using ring = new RingPair();
  let sequence = 0n;
  fc.assert(
    fc.property(updateArbitrary, (update) => {
      sequence++;
      const golden = update.kind === "slot" ? { ...update, ...NO_COUNTS } : update;
      assert.equal(ring.offer(golden, { sequence }), 0);
      const view = ring.reader.advance();
      assert.ok(view?.kind === "account" || view?.kind === "transaction" || view?.kind === "slot");
      const { sequence: place, publishNs, lost, conflated, ...rest } = view.copy();
      const filters = update.kind === "slot" ? {} : { filters: [] };
      assert.deepEqual(rest, {
        ...golden,
        ...filters,
        ...(update.kind === "account" && { fullLength: update.data.length, isState: false, isRestored: false }),
      });
      assert.deepEqual([place, lost, conflated], [sequence, 0, 0]);
      assert.ok(publishNs > 1_600_000_000_000_000_000n && Math.abs(view.ageUs) < 60_000_000, "a time of today");
      assert.equal(ring.reader.bytes % 8, 0);
    }),
    { numRuns: 3000 },
  );
  assert.equal(BigInt(ring.reader.frames), sequence);
});

test("the frame in the ring has the golden bytes, with what the library fills in; the record has its lengths", () => {
  const { producer, consumer } = ringHandles(native, CAPACITY);
  const memory = native.memory(native.ringAddress(consumer), 2 * CAPACITY);
  const records = new Uint32Array(PollRecord.size / 4);
  const updates: GoldenUpdate[] = [
    account({ executable: true, signature: patternBytes(64, 8), startup: true, lossy: true }),
    { ...transactionUpdate(), meta: patternBytes(11, 3), vote: true, failed: true, ...REST, lossy: true },
    { ...slotUpdate(), ...NO_COUNTS, ...REST, lossy: true },
  ];
  updates.forEach((update, i) => {
    const header = { sequence: BigInt(i + 1), publishNs: 1_700_000_000_123_456_789n + BigInt(i) };
    const offered = goldenFrame(update, { ...header, lost: 77, conflated: 77, ordinal: 77, filterMask: 0n }).bytes;
    const target = Uint32Array.of(producer, 0);
    assert.equal(native.ringOffer(offered, offered.length, new Uint8Array(0), 0, target, 1, 1), 1);
    assert.equal(native.ringPoll(consumer, records, 1), 1);
    const golden = goldenFrame(update, { ...header, ordinal: i + 1 });
    const at = records[0]!;
    assert.deepEqual(new Uint8Array(memory.slice(at, at + golden.bytes.length)), golden.bytes);
    assert.deepEqual([...records], [
      ...[at, golden.kind | golden.flags << 16, padded(golden.bytes.length), 0],
      ...[at + golden.payload[0], golden.payload[1], at + golden.extra[0], golden.extra[1]],
    ]);
    assert.equal(native.ringRelease(consumer, padded(golden.bytes.length)), 0);
  });
  memory.transfer(0);
  native.close(consumer);
  native.close(producer);
});

test("advance() hands out what is committed and nothing else, in order", () => {
  using ring = new RingPair();
  assert.equal(ring.reader.advance(), undefined);
  assert.equal(ring.offerSlot(1, false), 0);
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
    ring.offer({ kind: "goodbye", reason, sourceNs: 0n });
    ring.end(reason);
    assert.equal(ring.reader.end, undefined);
    assert.equal(ring.reader.advance()?.sequenceNumber, 1);
    assert.equal(ring.reader.end, undefined);
    assert.equal(ring.reader.advance(), undefined);
    assert.equal(ring.reader.end, expected);
    assert.equal(ring.reader.frames, 1, "a goodbye is not counted");
  }
});

test("lost and conflated add up what the numbers of the frames say", () => {
  using ring = new EngineReader({ policy: "drop-newest" });
  const count = ring.fill();
  const lostMore = 4;
  for (let i = 0; i < lostMore; i++) assert.equal(ring.publish(account({ data: patternBytes(CAPACITY / 4, 1) })), 0);
  assert.equal(ring.drain().filter((kind) => kind === "slot").length, count);
  const before = ring.reader.lost;
  ring.sweep(); // says the gap, if nothing has
  ring.publish(slot(1));
  const views: [string, number][] = [];
  for (let view = ring.reader.advance(); view !== undefined; view = ring.reader.advance()) {
    views.push([view.kind, view.lost]);
  }
  const lost = 1 + lostMore; // one slot, at the end of fill()
  assert.equal(ring.reader.lost, lost);
  assert.equal(views.reduce((sum, [, lost]) => sum + lost, before), lost);
  assert.equal(ring.reader.conflated, 0);
});

test("conflate: of an account the newest comes, the others are counted", () => {
  using ring = new EngineReader({ policy: "conflate" });
  const big = (lamports: bigint) => account({ lamports, data: patternBytes(4000, 1) });
  let inRing = 0;
  while (ring.publish(big(0n)) === 1) inRing++; // the last one waits
  for (let i = 1n; i <= 5n; i++) ring.publish(big(i));
  assert.equal(ring.drain().length, inRing);
  assert.deepEqual([ring.reader.lost, ring.reader.conflated], [0, 0]);
  ring.flush();
  const view = ring.reader.advance() as AccountView;
  assert.deepEqual([view.kind, view.lamports, view.lost, view.conflated], ["account", 5n, 5, 5]);
  assert.deepEqual([ring.reader.lost, ring.reader.conflated], [5, 5]);
  assert.equal(ring.reader.advance(), undefined);
});

test("drop-oldest: what is skipped is lost, and its room comes back", () => {
  using ring = new EngineReader({ policy: "drop-oldest" });
  const count = ring.fill(); // and one more, that waits and lets all of them be skipped
  assert.equal(ring.reader.advance(), undefined, "nothing but stale frames");
  assert.equal(ring.reader.usedBytes, 0);
  ring.flush();
  const view = ring.reader.advance();
  assert.deepEqual([view?.kind, view?.sequence, view?.lost], ["slot", BigInt(count + 1), count]);
  assert.equal(ring.reader.lost, count);
  assert.equal(ring.publish(slot(1)), 1);
  const next = ring.reader.advance();
  assert.deepEqual([next?.sequence, next?.lost], [BigInt(count + 2), 0]);
});

test("drop-oldest: what of a slot was skipped its frame says, and the newest edit is told of all the same", () => {
  using ring = new EngineReader({ policy: "drop-oldest" });
  const pair = new Int32Array(2);
  assert.equal(native.wakeCreate(pair), 0);
  const wake = native.wakeOpen(pair[1]!);
  assert.equal(native.ringAttach(ring.consumer, wake), 0);
  const write = (slot: number) => ring.publish(account({ slot: BigInt(slot), data: patternBytes(1000, 1) }));
  const read = (end: number) => {
    const seen: Record<number, number> = { 5: 0, 6: 0 };
    for (let view; (view = ring.reader.advance());) {
      if (view.kind === "account") seen[view.slotNumber]!++;
      if (view.kind === "slot" && view.slotNumber === end) return { seen, lost: view.accountsLost };
    }
    return { seen, lost: -1 };
  };
  // Some are handed out before the rest is skipped, in two steps.
  let count = 0;
  while (count < 3) count += write(5);
  assert.equal(ring.reader.advance()?.kind, "account");
  ring.mark({ kind: "filter", generation: 6, sourceNs: 0n });
  ring.mark({ kind: "filter", generation: 7, sourceNs: 0n });
  while (write(5 + count % 2) === 1) count++;
  count++; // the one that waits
  for (let i = 0; i < 2; i++) assert.equal(ring.reader.advance()?.kind, "account", "what was asked for before stays");
  assert.equal(ring.reader.filterGeneration, 0);
  for (let i = 0; i < 4; i++) ring.flush();
  const rest = read(0);
  assert.equal(ring.reader.filterGeneration, 7);
  ring.flush();
  for (let view; (view = ring.reader.advance());) if (view.kind === "account") rest.seen[view.slotNumber]!++;
  const came = 3 + rest.seen[5]! + rest.seen[6]!;
  assert.equal(ring.reader.lost, count - came);
  ring.publish(slot(5));
  ring.publish(slot(6));
  const [five, six] = [read(5).lost, read(6).lost];
  assert.equal(five + six, count - came);
  assert.ok(five > 0 && six > 0, `${five} and ${six}`);
  native.close(wake);
  native.fdClose(pair[0]!);
});

const POOLED = { poolBytes: POOL, poolThreshold: 1024 };

test("payloads in the pool read like others, and are given back with their frames", () => {
  using ring = new EngineReader(POOLED);
  const updates: GoldenUpdate[] = [
    account({ data: patternBytes(300, 1) }),
    account({ data: patternBytes(200_000, 2), signature: patternBytes(64, 4) }),
    {
      ...transactionUpdate(),
      message: patternBytes(1021, 5),
      meta: patternBytes(3001, 6),
      vote: false,
      failed: true,
      ...REST,
    },
    { ...transactionUpdate(), message: patternBytes(5000, 5), meta: undefined, vote: false, failed: true, ...REST },
  ];
  for (const update of updates) assert.equal(ring.publish(update), 1);
  assert.ok(ring.poolUsedBytes >= 200_000 + 5000);
  for (const update of updates) {
    const view = ring.reader.advance();
    assert.ok(view?.kind === "account" || view?.kind === "transaction");
    const { sequence: _, publishNs: __, lost, conflated, filters: ___, ...rest } = view.copy();
    assert.deepEqual(rest, {
      ...update,
      ...(update.kind === "account" && { fullLength: update.data.length, isState: false, isRestored: false }),
    });
    assert.deepEqual([lost, conflated], [0, 0]);
    if (view.kind === "account") {
      assert.equal(view.u64At(8), new DataView(view.copy().data.buffer).getBigUint64(8, true));
    }
  }
  assert.equal(ring.reader.advance(), undefined);
  assert.equal(ring.reader.usedBytes, 0);
  ring.sweep();
  assert.equal(ring.poolUsedBytes, 0);
});

test("the pool is seen from the first payload in it on, what was seen before stays, and all of it is let go", () => {
  const seen: number[] = [];
  const memory = (address: number, length: number) => {
    seen.push(length);
    return native.memory(address, length);
  };
  using ring = new EngineReader(POOLED, undefined, { ...native, memory });
  const inline = account({ data: patternBytes(100, 1) });
  const pooled = account({ data: patternBytes(5000, 2) });
  const meta = patternBytes(3000, 3);
  assert.equal(ring.publish(inline), 1);
  const early = (ring.reader.advance() as AccountView).data;
  assert.deepEqual(seen, [2 * CAPACITY]);
  assert.equal(ring.publish(pooled), 1);
  assert.equal(ring.publish(inline), 1);
  const empty = { ...transactionUpdate(), message: new Uint8Array(0), meta, vote: false, failed: false, ...REST };
  assert.equal(ring.publish(empty), 1);
  assert.deepEqual((ring.reader.advance() as AccountView).data, pooled.data);
  assert.deepEqual(seen, [2 * CAPACITY, 2 * CAPACITY + POOL]);
  assert.deepEqual((ring.reader.advance() as AccountView).data, inline.data);
  const late = (ring.reader.advance() as TransactionView).meta!;
  assert.deepEqual(late, meta);
  assert.equal(seen.length, 2);
  assert.equal(early.length, 100); // as long as the reader lives it is no fault to hold it
  ring.reader.close();
  assert.deepEqual([early.length, late.length], [0, 0]);
});

/** So large that two are more than an eighth of the pool: of an evicted consumer they are reused at once. */
const REUSED_BYTES = 70_000;

test("who had payloads in the pool reads on after the sender has let go, while they are kept", () => {
  using ring = new EngineReader(POOLED);
  for (let i = 0; i < 3; i++) ring.publish(account({ data: patternBytes(5000, i) }));
  ring.publish(slot(9));
  assert.equal(ring.reader.advance()?.kind, "account");
  ring.remove();
  for (let i = 1; i < 3; i++) assert.deepEqual((ring.reader.advance() as AccountView).data, patternBytes(5000, i));
  assert.equal(ring.reader.advance()?.kind, "slot");
  ring.reader.release();
  assert.deepEqual([ring.reader.isRevoked, ring.reader.end], [false, undefined]);
});

test("release() after what was looked at was reused: who looked learns that it is over", () => {
  using ring = new EngineReader(POOLED);
  for (let i = 0; i < 3; i++) ring.publish(account({ data: patternBytes(REUSED_BYTES, i) }));
  ring.publish(slot(9));
  assert.equal(ring.reader.advance()?.kind, "account");
  ring.remove();
  assert.deepEqual([ring.reader.isRevoked, ring.reader.end], [false, undefined]);
  ring.reader.release();
  assert.deepEqual([ring.reader.isRevoked, ring.reader.end], [true, "slow-consumer"]);
  assert.equal(ring.reader.advance(), undefined, "what is left is no better");
  assert.equal(ring.reader.refill(), false);
  assert.equal(ring.reader.ready, 0);
});

test("advance() finds out by itself, in the middle of a batch and at its end", () => {
  for (const [count, perTurn] of [[2, 2], [3, 3]]) {
    using ring = new EngineReader(POOLED);
    for (let i = 0; i < count!; i++) ring.publish(account({ data: patternBytes(REUSED_BYTES, i) }));
    for (let i = 0; i < perTurn!; i++) assert.equal(ring.reader.advance()?.kind, "account");
    ring.remove();
    assert.equal(ring.reader.advance(), undefined);
    assert.deepEqual([ring.reader.isRevoked, ring.reader.end], [true, "slow-consumer"]);
  }
  using ring = new EngineReader(POOLED);
  for (let i = 0; i < 2; i++) ring.publish(account({ data: patternBytes(REUSED_BYTES, i) }));
  for (let i = 0; i < CAPACITY / 8 / 128 + 8; i++) ring.publish(slot(i));
  for (let i = 0; i < 2; i++) assert.equal(ring.reader.advance()?.kind, "account");
  ring.remove();
  let handedOut = 0;
  while (ring.reader.advance() !== undefined) handedOut++;
  assert.ok(handedOut < CAPACITY / 8 / 128 + 8, "room that goes back in the middle tells");
  assert.deepEqual([ring.reader.isRevoked, ring.reader.end], [true, "slow-consumer"]);
});

test("who had nothing of the pool reads on after the sender has let go", () => {
  using ring = new EngineReader(POOLED);
  for (let i = 1; i <= 3; i++) ring.publish(slot(i));
  assert.equal(ring.reader.advance()?.kind, "slot");
  ring.remove();
  assert.deepEqual(ring.drain(), ["slot", "slot"]);
  assert.deepEqual([ring.reader.isRevoked, ring.reader.end], [false, undefined]);
});

test("views name the filters that matched, and tell of accounts that left", () => {
  const names = new FilterNames();
  const { bit } = names.add("token", "owners");
  using ring = new EngineReader({}, names);
  assert.equal(ring.edit({ op: "replace", bit, owners: [keyOf(5)] }), 0);
  const update = { pubkey: keyOf(9), owner: keyOf(5) };
  assert.equal(ring.publish(account(update)), 1);
  assert.deepEqual(ring.reader.advance()?.filters, ["token"]);
  ring.publish(account({ ...update, owner: keyOf(2) }));
  const moved = ring.reader.advance();
  assert.deepEqual([moved?.kind, moved?.filters, moved?.filterMask], ["account", [""], 1n]);
  const left = ring.reader.advance();
  assert.ok(left?.kind === "left");
  assert.deepEqual([left.pubkey, left.owner, left.filters, left.lost], [keyOf(9), keyOf(2), ["token"], 0]);
  ring.publish(account({ pubkey: keyOf(1), owner: keyOf(5) }));
  assert.deepEqual(ring.reader.advance()?.filters, ["", "token"]);
  ring.publish(slot(3));
  assert.deepEqual(ring.reader.advance()?.filters, []);
});

test("backlog counts what was not handed out, whether or not it was looked at", async () => {
  using ring = new EngineReader({ policy: "drop-newest" });
  assert.deepEqual(ring.reader.backlog, { bytes: 0, frames: 0, ageUs: 0 });
  for (let i = 1; i <= 3; i++) ring.publish(slot(i));
  await new Promise((resolve) => setTimeout(resolve, 30));
  const unseen = ring.reader.backlog;
  assert.deepEqual([unseen.bytes, unseen.frames], [3 * 128, 3]);
  assert.ok(unseen.ageUs > 15_000 && unseen.ageUs < 60_000_000, `${unseen.ageUs}`);
  ring.reader.advance();
  ring.publish(slot(4));
  const { bytes, frames, ageUs } = ring.reader.backlog;
  assert.deepEqual([bytes, frames], [3 * 128, 3]);
  assert.ok(ageUs > 15_000, "the oldest is the second of four");
  assert.equal(ring.drain().length, 3);
  assert.deepEqual(ring.reader.backlog, { bytes: 0, frames: 0, ageUs: 0 });
  const count = ring.fill();
  assert.deepEqual(
    [ring.reader.backlog.bytes, ring.reader.backlog.frames],
    [count * 128, count + 1],
    "with the one lost",
  );
  ring.reader.close();
  assert.deepEqual(ring.reader.backlog, { bytes: 0, frames: 0, ageUs: 0 });
});

test("seenSlot is the newest that was handed out, knownSlot the newest that the sender had published anything of", () => {
  using ring = new EngineReader();
  assert.deepEqual([ring.reader.seenSlot, ring.reader.knownSlot], [-1, 0]);
  ring.publish(account({ slot: 12n }));
  ring.publish({ ...transactionUpdate({ slot: 9n }), meta: undefined, vote: false, failed: false, ...REST });
  ring.publish(account({ slot: 40n, pubkey: keyOf(8), owner: keyOf(8) })); // which does not match
  assert.deepEqual([ring.reader.seenSlot, ring.reader.knownSlot], [-1, 40], "whatever was written for it");
  ring.publish(slot(2));
  assert.deepEqual([ring.reader.seenSlot, ring.reader.knownSlot], [-1, 40]);
  const seen: number[] = [];
  while (ring.reader.advance() !== undefined) seen.push(ring.reader.seenSlot);
  assert.deepEqual(seen, [12, 12, 12]);
  ring.publish(slot(2 ** 40));
  ring.reader.advance();
  assert.deepEqual([ring.reader.seenSlot, ring.reader.knownSlot], [2 ** 40, 2 ** 40]);
});

test("close() voids views: they throw, and what was taken from them is empty", () => {
  const ring = new RingPair();
  ring.offer(account({ signature: patternBytes(64, 1) }));
  ring.offer({ ...transactionUpdate(), meta: patternBytes(4, 1), vote: false, failed: false, ...REST });
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
