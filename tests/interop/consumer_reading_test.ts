/**
 * The consumer against a sender of wire version 9 that is not ours: frames of every kind and place, in every way of reading.
 * May touch: the public API, a raw sender in this process.
 *
 * @module
 */

import assert from "node:assert/strict";
import { addressFromBytes, type SlotCopy, type UpdateView } from "../../mod.ts";
import { eventually } from "../support/footprint.ts";
import * as raw from "../support/raw_v9.ts";
import { blockingWake } from "../support/raw_v9_sender.ts";
import { accountFrame, CAPACITY, CREATED_NS, linux, lost, slotFrame, Stage } from "./support/consumer_stage.ts";

const transactionFrame = (fields: Parameters<typeof raw.transactionFrame>[0]) =>
  raw.transactionFrame({ createdNs: CREATED_NS, ...fields });

linux("views of version 9 have every field, and say nothing where it is silent", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, ring } = await stage.granted();
  const silence = { sourceNs: 0n, lost: 0, conflated: 0, lossy: true, bankId: 0n };
  const pubkey = new Uint8Array(32).map((_, i) => i);
  const owner = new Uint8Array(32).map((_, i) => 255 - i);
  const payload = new Uint8Array(24).map((_, i) => i + 1);
  ring.send(accountFrame({ pubkey, owner, payload, lamports: (1n << 63n) + 5n, rentEpoch: (1n << 64n) - 1n }));
  const account = await consumer.next();
  assert.ok(account?.kind === "account");
  assert.deepEqual(account.copy(), {
    kind: "account",
    ...silence,
    sequence: 4n + 116n + 24n,
    publishNs: CREATED_NS,
    pubkey,
    owner,
    lamports: (1n << 63n) + 5n,
    rentEpoch: (1n << 64n) - 1n,
    slot: 7n,
    writeVersion: 8n,
    executable: true,
    startup: false,
    signature: undefined,
    sourceEpoch: 0,
    fullLength: 24,
    isState: false,
    isRestored: false,
    filters: [""],
    data: payload,
  });
  assert.deepEqual([account.filterMask, account.filters, account.fullLength], [1n, [""], 24]);
  assert.deepEqual([account.isSliced, account.isClipped, account.sourceEpoch], [false, false, 0]);
  assert.deepEqual(
    [account.sequence, account.sequenceNumber, account.publishNs, account.sourceNs, account.lost, account.conflated],
    [144n, 144, CREATED_NS, 0n, 0, 0],
  );
  assert.deepEqual([account.slot, account.slotNumber, account.bankId, account.writeVersion], [7n, 7, 0n, 8n]);
  assert.deepEqual([account.lamports, account.rentEpoch], [(1n << 63n) + 5n, (1n << 64n) - 1n]);
  assert.deepEqual([account.executable, account.startup, account.lossy], [true, false, true]);
  assert.deepEqual([account.address, account.ownerAddress], [addressFromBytes(pubkey), addressFromBytes(owner)]);
  assert.deepEqual([[...account.data], account.dataLength, account.signature], [[...payload], 24, undefined]);
  assert.deepEqual([account.u8At(23), account.u16At(0), account.u32At(0)], [24, 0x201, 0x4030201]);
  assert.deepEqual([account.u64At(16), account.u64NumberAt(0)], [0x1817161514131211n, Number(0x0807060504030201n)]);
  assert.equal(account.f64At(0), new DataView(payload.buffer).getFloat64(0, true));
  assert.throws(() => account.u64At(17), RangeError);
  const age = Date.now() * 1000 - Number(CREATED_NS) / 1000;
  assert.ok(Math.abs(account.ageUs - age) < 60_000_000);

  ring.send(accountFrame({ executable: 0, payload: new Uint8Array(0) }));
  const empty = await consumer.next();
  assert.ok(empty?.kind === "account");
  assert.deepEqual([empty.executable, empty.dataLength, empty.data.length], [false, 0, 0]);

  const signature = new Uint8Array(64).map((_, i) => 2 * i);
  ring.send(transactionFrame({ slot: 1n << 60n, index: 0xffffffff, vote: 1, signature, payload }));
  const transaction = await consumer.next();
  assert.ok(transaction?.kind === "transaction");
  assert.deepEqual(transaction.copy(), {
    kind: "transaction",
    ...silence,
    sequence: BigInt(ring.position),
    publishNs: CREATED_NS,
    slot: 1n << 60n,
    index: 0xffffffff,
    vote: true,
    failed: false,
    filters: [""],
    signature,
    message: payload,
    meta: undefined,
    loadedAddresses: { writable: [], readonly: [] },
  });
  assert.deepEqual(transaction.loadedAddresses, { writable: [], readonly: [] });
  assert.deepEqual([transaction.slot, transaction.slotNumber, transaction.bankId], [1n << 60n, 2 ** 60, 0n]);
  assert.deepEqual([transaction.index, transaction.vote, transaction.failed], [0xffffffff, true, false]);
  assert.deepEqual([[...transaction.signature], [...transaction.message]], [[...signature], [...payload]]);
  assert.deepEqual([transaction.meta, transaction.lost, transaction.sourceNs], [undefined, 0, 0n]);
  assert.deepEqual([transaction.sequenceNumber, transaction.publishNs], [ring.position, CREATED_NS]);

  ring.send(slotFrame(456));
  const slot = await consumer.next();
  assert.ok(slot?.kind === "slot");
  const counts = { accountsPublished: 0, transactionsPublished: 0, accountsLost: 0, transactionsLost: 0 };
  assert.deepEqual(slot.copy(), {
    kind: "slot",
    ...silence,
    ...counts,
    sequence: BigInt(ring.position),
    publishNs: CREATED_NS,
    slot: 456n,
    parent: 0n,
    status: "processed",
  });
  assert.deepEqual([slot.filterMask, slot.filters], [2n ** 64n - 1n, []]);
  assert.deepEqual(consumer.freshness(), { seenSlot: 1n << 60n, knownSlot: 1n << 60n, behind: 0 });
  assert.deepEqual(consumer.lag(), { bytes: 0, frames: 0, ageUs: 0 });
  assert.deepEqual(consumer.policy, { accounts: "disconnect", transactions: "disconnect" });
  const unsupported = { code: "V9_UNSUPPORTED", message: /wire version 9/ };
  await assert.rejects(consumer.unsubscribe({ transactions: true }), unsupported);
  await assert.rejects(consumer.setFilter("x", { accounts: true }), unsupported);
  assert.deepEqual(consumer.filterNames, []);
  assert.deepEqual([slot.slotNumber, slot.sequenceNumber, slot.sequence], [456, ring.position, BigInt(ring.position)]);
  assert.equal(consumer.metrics.bytes, ring.position);
});

for (const idle of ["park", "spin", "yield", "adaptive"] as const) {
  linux(
    `Consumer, ${idle}: frames of every place in the ring come whole, prefix or body split by its end`,
    async (held) => {
      const stage = await Stage.open(held);
      // 123 bytes each, odd: after 256 of them every place of a ring of 256 bytes was the first.
      const { consumer, ring } = await stage.granted({ idle }, stage.ring(256, { start: 2n ** 40n + 77n }));
      for (let i = 0; i < 256; i++) {
        const next = consumer.next();
        const payload = Uint8Array.of(i, 1, 255 - i);
        ring.send(accountFrame({ payload, writeVersion: BigInt(i) }));
        const update = await next;
        assert.ok(update?.kind === "account");
        assert.deepEqual([update.writeVersion, [...update.data]], [BigInt(i), [...payload]]);
        assert.deepEqual([...update.owner], Array(32).fill(0xbb));
        assert.equal(update.sequenceNumber, 2 ** 40 + 77 + 123 * (i + 1));
        assert.equal(consumer.poll(() => assert.fail()), 0); // gives the room back
        assert.equal(ring.released, ring.position);
      }
    },
  );
}

linux("frames that fill the ring to the last byte come, by poll, batches and tryNext", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, ring } = await stage.granted();
  const fill = () => {
    let count = 0;
    for (; ring.free >= 22; count++) ring.write(slotFrame(count));
    ring.signal();
    return count;
  };
  let seen = 0;
  const count = fill();
  consumer.poll((update) => {
    assert.equal(update.kind === "slot" && update.slotNumber, seen++);
  });
  assert.equal(seen, count);
  const second = fill();
  for await (const batch of consumer.batches()) {
    for (const update of batch) {
      assert.ok(update.kind === "slot");
      seen++;
    }
    if (seen === count + second) break;
  }
  const third = fill();
  for (let i = 0; i < third; i++) assert.equal(consumer.tryNextSlot()?.slot, BigInt(i));
  assert.equal(consumer.tryNextSlot(), undefined);
  assert.equal(ring.released, ring.position);
});

linux(
  "a compressed payload is decompressed; what does not decode is left out and counted, and the order stays",
  async (held) => {
    const stage = await Stage.open(held);
    const { consumer, ring } = await stage.granted();
    const block = Uint8Array.fromHex("1f0001002660000000000000");
    const zeros = accountFrame({ flags: 1, rawLength: 64, payload: block });
    ring.send(zeros);
    ring.send(accountFrame({ flags: 1, rawLength: 63, payload: block })); // gives another length
    ring.send(new Uint8Array(0));
    ring.send(slotFrame(1).with(0, 8));
    ring.send(zeros);
    ring.send(accountFrame({ executable: 2 }));
    const first = await consumer.next();
    assert.ok(first?.kind === "account");
    assert.deepEqual([first.data.length, [...first.data]], [64, Array(64).fill(0)]);
    assert.equal(first.copy().data.length, 64);
    assert.equal((await consumer.next())?.sequenceNumber, ring.position - 123); // what follows is undecodable
    assert.equal(consumer.poll(() => assert.fail()), 0);
    assert.equal(consumer.metrics.undecodable, 4);
    assert.equal(ring.released, ring.position);
    ring.send(slotFrame(2));
    assert.equal((await consumer.next())?.sequenceNumber, ring.position);
    await consumer.close();
    assert.equal(consumer.metrics.undecodable, 4);
  },
);

/** Counts turns of the event loop. */
function countTurns(): { count: number } & Disposable {
  let isCounting = true;
  const turns = { count: 0, [Symbol.dispose]: () => void (isCounting = false) };
  const count = () => {
    if (isCounting) setImmediate(count);
    turns.count++;
  };
  setImmediate(count);
  return turns;
}

for (const how of ["next", "poll", "tryNext", "batches"] as const) {
  linux(
    `frames behind a flood that can't be decoded arrive, and the event loop keeps turning: ${how}`,
    async (held) => {
      const stage = await Stage.open(held);
      const { consumer, ring } = await stage.granted({ idle: "park" }, stage.ring(1 << 20));
      const frames = 250_000;
      ring.push(new Uint8Array(4 * frames)); // frames of no bytes
      ring.send(slotFrame(7));
      using turns = countTurns();
      const got: number[] = [];
      const take = (update: UpdateView | SlotCopy | undefined) => {
        if (update?.kind === "slot") got.push(Number(update.slot));
      };
      if (how === "next") take(await consumer.next());
      if (how === "batches") {
        for await (const batch of consumer.batches()) {
          for (const update of batch) take(update);
          break;
        }
      }
      while (got.length === 0) {
        if (how === "poll") consumer.poll(take);
        else take(consumer.tryNextSlot());
        await new Promise((resolve) => setImmediate(resolve));
      }
      assert.deepEqual(got, [7]);
      assert.equal(consumer.metrics.undecodable, frames);
      assert.ok(turns.count >= 10, `${turns.count} turns`);
      assert.ok(consumer.metrics.parks < 5, `${consumer.metrics.parks} parks`);
    },
  );
}

for (const isRead of [true, false]) {
  linux(`an end behind a flood that can't be decoded is reached, ${isRead ? "read" : "unread"}`, async (held) => {
    const stage = await Stage.open(held);
    const { consumer, link, ring } = await stage.granted({ idle: "park" }, stage.ring(1 << 20));
    ring.push(new Uint8Array(4 * 200_000));
    if (isRead) ring.write(slotFrame(7));
    ring.push(new Uint8Array(4 * 50_000));
    using turns = countTurns();
    link.close(); // killed
    if (isRead) {
      await eventually("its end is noticed", () => turns.count > 50);
      assert.equal(consumer.ended, undefined);
      assert.equal((await consumer.next())?.kind, "slot");
      await lost(consumer.next(), "sender-gone");
    }
    assert.equal((await consumer.whenEnded).reason, "sender-gone");
    assert.equal(consumer.metrics.undecodable, 250_000);
    assert.ok(turns.count >= 10, `${turns.count} turns`);
  });
}

linux("a ring of version 3.0 is read where its data are", async (held) => {
  const stage = await Stage.open(held);
  const lies = { version: 0x30000, headerSize: 384 };
  const { consumer, ring } = await stage.granted({}, stage.ring(256, { lies }));
  for (let i = 0; i < 50; i++) {
    ring.send(slotFrame(i));
    const update = await consumer.next();
    assert.equal(update?.kind === "slot" && update.slotNumber, i);
  }
});

linux("a consumer with a wake that blocks reads like any other", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, ring } = await stage.granted({ idle: "park" }, stage.ring(CAPACITY, { wake: blockingWake() }));
  for (let i = 0; i < 20; i++) {
    const next = consumer.next();
    await new Promise((resolve) => setTimeout(resolve, 1)); // most of the time it sleeps by then
    ring.send(slotFrame(i));
    const update = await next;
    assert.equal(update?.kind === "slot" && update.slotNumber, i);
  }
});

linux("timings are the original's: one record for each update", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, ring } = await stage.granted({ timings: true });
  ring.send(accountFrame({ createdNs: BigInt(Date.now() - 1000) * 1_000_000n }));
  ring.send(accountFrame({ createdNs: 0n }));
  ring.send(accountFrame({ createdNs: 1n << 63n }));
  ring.send(accountFrame({ createdNs: 0n, flags: 2 })); // does not decode: counts nowhere
  await consumer.next();
  consumer.poll(() => {}, 1);
  assert.ok(consumer.tryNextUpdate() !== undefined);
  const { read, decode, enqueue, full_read } = consumer.timings!;
  assert.deepEqual([read, decode, enqueue, full_read].map((each) => each.peek().count), [3, 3, 1, 3]);
  const { min_us, max_us } = full_read.flush();
  assert.equal(min_us, 0);
  assert.ok(max_us >= 1_000_000);
  assert.equal(full_read.peek().count, 0);
  const { consumer: other } = await stage.granted();
  assert.equal(other.timings, undefined);
});
