/**
 * What a consumer refuses in the ring that it reads: cursors and frames that are nonsense. It ends with a reason, after what was
 * good; it never hangs, crashes, or keeps anything.
 * May touch: the library in this process, a raw sender beside it, regions forged through libc, /proc.
 *
 * @module
 */

import assert from "node:assert/strict";
import {
  AccountBody,
  CAPACITY_BYTES_MIN,
  EndReason,
  FRAME_FLAG_META,
  FRAME_FLAG_SIGNATURE,
  FrameHeader,
  FrameKind,
  LeftBody,
  POOL_BYTES_MIN,
  SlotBody,
  TransactionBody,
} from "../../src/native/abi.generated.ts";
import { guarded } from "../support/guarded.ts";
import type { ForgedRegions } from "../support/raw_peer.ts";
import { goodSlot, withPrey, writeFrame } from "./support/hostile_sender.ts";

interface Nonsense {
  readonly name: string;
  /** Returns the cursor to publish. */
  write(regions: ForgedRegions): number | bigint;
}

const body = FrameHeader.size;

/** zig/layout/regions.zig's pool_unit. */
const POOL_UNIT = 64;

const NONSENSE: readonly Nonsense[] = [
  { name: "a cursor beyond the capacity", write: () => CAPACITY_BYTES_MIN + 8 },
  { name: "a cursor of 2^64 - 8", write: () => (1n << 64n) - 8n },
  { name: "a cursor that is not a multiple of 8", write: (regions) => goodSlot(regions, 0) + 4 },
  { name: "a cursor with no frame behind it", write: () => 4096 },
  { name: "a cursor of 8 bytes, less than a header", write: () => 8 },
  {
    name: "a frame of length 0",
    write: (regions) => writeFrame(regions, 0, FrameKind.slot, SlotBody.size, (view) => view.setUint32(0, 0, true)),
  },
  {
    name: "a frame shorter than its header",
    write: (regions) => writeFrame(regions, 0, FrameKind.slot, SlotBody.size, (view) => view.setUint32(0, 63, true)),
  },
  {
    name: "a frame longer than what is published",
    write: (regions) => writeFrame(regions, 0, FrameKind.slot, SlotBody.size, (view) => view.setUint32(0, 136, true)),
  },
  {
    name: "a frame of length 2^32 - 1",
    write: (regions) => writeFrame(regions, 0, FrameKind.account, 200, (view) => view.setUint32(0, 0xffffffff, true)),
  },
  { name: "a frame of kind 0", write: (regions) => writeFrame(regions, 0, 0, 64) },
  { name: "a frame of an unknown kind", write: (regions) => writeFrame(regions, 0, 4711, 64) },
  { name: "a filter mark that is too long", write: (regions) => writeFrame(regions, 0, FrameKind.filter, 64) },
  { name: "a filter mark without a body", write: (regions) => writeFrame(regions, 0, FrameKind.filter, 0) },
  { name: "a left that is too short", write: (regions) => writeFrame(regions, 0, FrameKind.left, LeftBody.size - 8) },
  { name: "a left that is too long", write: (regions) => writeFrame(regions, 0, FrameKind.left, LeftBody.size + 8) },
  {
    name: "an account whose payload begins behind the pool",
    write: (regions) =>
      writeFrame(regions, 0, FrameKind.account, AccountBody.size, (view) => {
        view.setUint32(FrameHeader.poolGeneration, 1, true);
        view.setUint32(FrameHeader.poolBlock, POOL_BYTES_MIN / POOL_UNIT, true);
        view.setUint32(body + AccountBody.dataLength, 1, true);
      }),
  },
  {
    name: "an account whose payload ends behind the pool",
    write: (regions) =>
      writeFrame(regions, 0, FrameKind.account, AccountBody.size, (view) => {
        view.setUint32(FrameHeader.poolGeneration, 1, true);
        view.setUint32(FrameHeader.poolBlock, POOL_BYTES_MIN / POOL_UNIT - 1, true);
        view.setUint32(body + AccountBody.dataLength, POOL_UNIT + 1, true);
      }),
  },
  {
    name: "a transaction whose block is at 2^38 bytes",
    write: (regions) =>
      writeFrame(regions, 0, FrameKind.transaction, TransactionBody.size, (view) => {
        view.setUint32(FrameHeader.poolGeneration, 1, true);
        view.setUint32(FrameHeader.poolBlock, 0xffffffff, true);
        view.setUint32(body + TransactionBody.messageLength, 1, true);
      }),
  },
  {
    name: "an account that says it is in the pool, and has its data in the frame, too",
    write: (regions) =>
      writeFrame(regions, 0, FrameKind.account, AccountBody.size + 8, (view) => {
        view.setUint32(FrameHeader.poolGeneration, 1, true);
        view.setUint32(body + AccountBody.dataLength, 8, true);
      }),
  },
  { name: "a slot that is too short", write: (regions) => writeFrame(regions, 0, FrameKind.slot, SlotBody.size - 8) },
  { name: "a gap that is too long", write: (regions) => writeFrame(regions, 0, FrameKind.gap, 16) },
  { name: "a goodbye without a body", write: (regions) => writeFrame(regions, 0, FrameKind.goodbye, 0) },
  { name: "an account without a body", write: (regions) => writeFrame(regions, 0, FrameKind.account, 8) },
  {
    name: "an account whose data exceed the frame",
    write: (regions) =>
      writeFrame(
        regions,
        0,
        FrameKind.account,
        AccountBody.size + 8,
        (view) => view.setUint32(body + AccountBody.dataLength, 9, true),
      ),
  },
  {
    name: "an account whose data's length wraps",
    write: (regions) =>
      writeFrame(
        regions,
        0,
        FrameKind.account,
        AccountBody.size,
        (view) => view.setUint32(body + AccountBody.dataLength, 0xffffff90, true),
      ),
  },
  {
    name: "an account with data beyond Solana's limit",
    write: (regions) =>
      writeFrame(
        regions,
        0,
        FrameKind.account,
        AccountBody.size,
        (view) => view.setUint32(body + AccountBody.dataLength, 10 * 1024 * 1024 + 1, true),
      ),
  },
  {
    name: "an account that flags a signature which it has not",
    write: (regions) =>
      writeFrame(
        regions,
        0,
        FrameKind.account,
        AccountBody.size,
        (view) => view.setUint16(FrameHeader.flags, FRAME_FLAG_SIGNATURE, true),
      ),
  },
  {
    name: "a transaction whose message exceeds the frame",
    write: (regions) =>
      writeFrame(
        regions,
        0,
        FrameKind.transaction,
        TransactionBody.size,
        (view) => view.setUint32(body + TransactionBody.messageLength, 1, true),
      ),
  },
  {
    name: "a transaction with a meta that it does not flag",
    write: (regions) =>
      writeFrame(
        regions,
        0,
        FrameKind.transaction,
        TransactionBody.size + 8,
        (view) => view.setUint32(body + TransactionBody.metaLength, 8, true),
      ),
  },
  {
    name: "a transaction whose loaded addresses exceed the frame",
    write: (regions) =>
      writeFrame(regions, 0, FrameKind.transaction, TransactionBody.size + 32, (view) => {
        view.setUint16(body + TransactionBody.loadedWritableCount, 1, true);
        view.setUint16(body + TransactionBody.loadedReadonlyCount, 1, true);
      }),
  },
  {
    name: "a transaction with more loaded addresses than any has",
    write: (regions) =>
      writeFrame(regions, 0, FrameKind.transaction, TransactionBody.size + 32 * 257, (view) => {
        view.setUint16(body + TransactionBody.loadedWritableCount, 256, true);
        view.setUint16(body + TransactionBody.loadedReadonlyCount, 1, true);
      }),
  },
  {
    name: "a transaction whose lengths wrap",
    write: (regions) =>
      writeFrame(regions, 0, FrameKind.transaction, TransactionBody.size, (view) => {
        view.setUint16(FrameHeader.flags, FRAME_FLAG_META, true);
        view.setUint32(body + TransactionBody.messageLength, 0xfffffff8, true);
        view.setUint32(body + TransactionBody.metaLength, 8, true);
      }),
  },
];

for (const [i, { name, write }] of NONSENSE.entries()) {
  // Each way of reading and of waiting, in turn.
  const idle = (["park", "adaptive", "yield", "spin"] as const)[i % 4]!;
  const mode = (["next", "batches", "poll", "for await"] as const)[(i >> 1) % 4]!;
  guarded(
    `Consumer, ${idle}, ${mode}: ends with peer-corrupt on ${name}`,
    (held) =>
      withPrey(held, idle, async ({ native, consumer, regions, wake }) => {
        const reading = (async () => {
          if (mode === "next") await consumer.next();
          if (mode === "for await") { for await (const _ of consumer) throw new Error("that was no update"); }
          if (mode === "batches") { for await (const batch of consumer.batches()) for (const _ of batch); }
          if (mode === "poll") {
            while (consumer.ended === undefined) {
              assert.equal(consumer.poll(() => {}), 0);
              await new Promise((resolve) => setTimeout(resolve, 1));
            }
            await consumer.next();
          }
        })();
        reading.catch(() => {});
        regions.producerCursor = BigInt(write(regions));
        native.wakeNotify(wake);
        await assert.rejects(reading, { code: "CONNECTION_LOST", reason: "peer-corrupt" });
        assert.deepEqual(await consumer.whenEnded, { reason: "peer-corrupt" });
        await assert.rejects(consumer.subscribe({ transactions: true }), { code: "CONNECTION_LOST" });
        await assert.rejects(consumer.ping(), { code: "CONNECTION_LOST" });
      }),
  );
}

guarded(
  "Consumer ends with peer-corrupt when the sender's cursor goes back, after what was good was read",
  (held) =>
    withPrey(held, "park", async ({ native, consumer, regions, wake }) => {
      regions.producerCursor = BigInt(goodSlot(regions, goodSlot(regions, 0)));
      native.wakeNotify(wake);
      assert.equal((await consumer.next())?.kind, "slot");
      assert.equal((await consumer.next())?.kind, "slot");
      const third = consumer.next();
      third.catch(() => {});
      regions.producerCursor = 128n;
      native.wakeNotify(wake);
      await assert.rejects(third, { code: "CONNECTION_LOST", reason: "peer-corrupt" });
    }),
);

guarded(
  "AccountView keeps to the lengths that were checked, whatever the sender writes into the frame afterwards",
  (held) =>
    withPrey(held, "park", async ({ native, consumer, regions, wake }) => {
      const end = writeFrame(
        regions,
        0,
        FrameKind.account,
        AccountBody.size + 16,
        (view) => view.setUint32(body + AccountBody.dataLength, 16, true),
      );
      regions.producerCursor = BigInt(end);
      native.wakeNotify(wake);
      const view = await consumer.next();
      assert.ok(view?.kind === "account");
      regions.ring.view.setUint32(FrameHeader.length, 0xffffffff, true);
      regions.ring.view.setUint32(FrameHeader.bodyLength, 0xffffffff, true);
      regions.ring.view.setUint16(FrameHeader.flags, 0xffff, true);
      regions.ring.view.setUint32(body + AccountBody.dataLength, 0xffffffff, true);
      assert.equal(view.data.length, 16);
      assert.equal(view.dataLength, 16);
      assert.equal(view.signature, undefined);
      assert.equal(view.copy().data.length, 16);
      assert.throws(() => view.u64At(9), RangeError);
    }),
);

guarded("Consumer ends with the reason in the ring's header, an unknown one included", async (held) => {
  for (const [closing, reason] of [[EndReason.slowConsumer, "slow-consumer"], [99, "sender-closed"]] as const) {
    await withPrey(held, "park", async ({ native, consumer, regions, wake }) => {
      regions.producerCursor = BigInt(goodSlot(regions, 0));
      regions.closing = closing;
      native.wakeNotify(wake);
      assert.equal((await consumer.next())?.kind, "slot");
      await consumer.next().catch(() => {});
      assert.deepEqual(await consumer.whenEnded, { reason });
    });
  }
});
