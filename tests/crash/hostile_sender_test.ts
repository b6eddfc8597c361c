/**
 * What a consumer refuses: senders that break the protocol, or write nonsense into the ring that we read. The consumer
 * ends with a reason; it never hangs, crashes, or keeps anything.
 * May touch: the library in this process, a raw sender beside it, regions forged through libc, /proc.
 */

import assert from "node:assert/strict";
import { type Consumer, isQlasterError, load, setupConsumer, setupSender } from "../../mod.ts";
import {
  AccountBody,
  CAPACITY_BYTES_MIN,
  EndReason,
  FRAME_FLAG_META,
  FRAME_FLAG_SIGNATURE,
  FrameHeader,
  FrameKind,
  LeftBody,
  LINK_BODY_BYTES_MAX,
  LinkKind,
  PART_SIZE,
  POOL_BYTES_MIN,
  SlotBody,
  TransactionBody,
} from "../../src/native/abi.generated.ts";
import type { Native } from "../../src/native/native.ts";
import { type Footprint, footprintOf, settlesAt } from "../support/footprint.ts";
import { guarded, type Held } from "../support/guarded.ts";
import * as libc from "../support/libc.ts";
import {
  concat,
  ForgedRegions,
  type Forgery,
  grantBody,
  message,
  type RawLink,
  RawSender,
  RawWake,
} from "../support/raw_peer.ts";
import { Temporary } from "../support/temporary.ts";

interface Stage {
  readonly native: Native;
  readonly path: string;
  readonly sender: RawSender;
  readonly before: Footprint;
}

async function openStage(held: Held): Promise<Stage> {
  const native = await load();
  const temporary = held.use(new Temporary());
  // Once around with an honest sender: what the runtime opens at the first use is no leak.
  const path = temporary.at("s.sock");
  const honest = await setupSender({ path, ringCapacityBytes: CAPACITY_BYTES_MIN });
  await (await setupConsumer(path, { reconnect: false })).close();
  await honest.close();
  // Two descriptors of the honest sender's connection may still be on their way out: settlesAt takes fewer, not more.
  const sender = held.use(new RawSender(native, path));
  return { native, path, sender, before: footprintOf("self") };
}

const grant = (options: Parameters<typeof grantBody>[0] = {}) => message(LinkKind.grant, grantBody(options));

// Before the consumer is granted

interface Answer {
  readonly name: string;
  readonly code: string;
  readonly bytes?: () => Uint8Array;
  readonly forgery?: Forgery;
  /** Which descriptors go along: of ring, page, wake, pool; "file" for one that is none of them. */
  readonly descriptors?: readonly ("ring" | "page" | "wake" | "pool" | "file")[];
}

const pooled = (poolBytes: number = POOL_BYTES_MIN) => () => grant({ poolBytes });
const ALL_FOUR = ["ring", "page", "wake", "pool"] as const;

const ANSWERS: readonly Answer[] = [
  { name: "random bytes", code: "LINK_PROTOCOL", bytes: () => new Uint8Array(100).fill(77), descriptors: [] },
  { name: "random bytes with descriptors", code: "LINK_PROTOCOL", bytes: () => new Uint8Array(100).fill(77) },
  {
    name: "a body beyond the limit",
    code: "LINK_PROTOCOL",
    bytes: () => message(LinkKind.grant, grantBody(), { bodyLength: LINK_BODY_BYTES_MAX + 1 }),
  },
  { name: "a pong", code: "LINK_PROTOCOL", bytes: () => message(LinkKind.pong), descriptors: [] },
  { name: "a pong with descriptors", code: "LINK_PROTOCOL", bytes: () => message(LinkKind.pong) },
  {
    name: "a refusal with descriptors",
    code: "LINK_PROTOCOL",
    bytes: () => message(LinkKind.refuse, new Uint8Array(8)),
  },
  {
    name: "a refusal shorter than its text",
    code: "LINK_PROTOCOL",
    bytes: () => message(LinkKind.refuse, Uint8Array.of(0, 0, 0, 0, 200, 0, 0, 0)),
    descriptors: [],
  },
  {
    name: "a refusal",
    code: "CONNECT_REFUSED",
    bytes: () => message(LinkKind.refuse, new Uint8Array(8)),
    descriptors: [],
  },
  { name: "a grant without descriptors", code: "LINK_PROTOCOL", descriptors: [] },
  { name: "a grant with two descriptors", code: "LINK_PROTOCOL", descriptors: ["ring", "page"] },
  { name: "a grant with four descriptors", code: "LINK_PROTOCOL", descriptors: ["ring", "page", "wake", "wake"] },
  {
    name: "a grant that is too short",
    code: "LINK_PROTOCOL",
    bytes: () => message(LinkKind.grant, grantBody().subarray(0, 39)),
  },
  {
    name: "a grant that is too long",
    code: "LINK_PROTOCOL",
    bytes: () => message(LinkKind.grant, concat(grantBody(), new Uint8Array(1))),
  },
  { name: "a grant of version 2", code: "CONNECT_VERSION", bytes: () => grant({ version: 2 }) },
  { name: "a grant of a ring of 0 bytes", code: "REGION_REFUSED", bytes: () => grant({ capacityBytes: 0n }) },
  { name: "a grant of a ring of 2^33 bytes", code: "REGION_REFUSED", bytes: () => grant({ capacityBytes: 1n << 33n }) },
  {
    name: "a grant of a ring of 2^64 - 1 bytes",
    code: "REGION_REFUSED",
    bytes: () => grant({ capacityBytes: (1n << 64n) - 1n }),
  },
  {
    name: "a grant of a ring larger than its region",
    code: "REGION_REFUSED",
    bytes: () => grant({ capacityBytes: 131072n }),
  },
  { name: "a grant of a ring of 65,537 bytes", code: "REGION_REFUSED", bytes: () => grant({ capacityBytes: 65537n }) },
  { name: "ring and page swapped", code: "REGION_REFUSED", descriptors: ["page", "ring", "wake"] },
  { name: "a wake that is memory", code: "REGION_REFUSED", descriptors: ["ring", "page", "ring"] },
  { name: "a ring that is a socket", code: "REGION_REFUSED", descriptors: ["wake", "page", "wake"] },
  { name: "a ring that is a regular file", code: "REGION_REFUSED", descriptors: ["file", "page", "wake"] },
  { name: "a page that is a regular file", code: "REGION_REFUSED", descriptors: ["ring", "file", "wake"] },
  { name: "a wake that is a regular file", code: "REGION_REFUSED", descriptors: ["ring", "page", "file"] },
  { name: "a ring without its magic", code: "REGION_REFUSED", forgery: { ringMagic: 1n } },
  { name: "a page without its magic", code: "REGION_REFUSED", forgery: { pageMagic: 1n } },
  { name: "regions of another version", code: "REGION_REFUSED", forgery: { version: 2 } },
  { name: "a ring that says another capacity", code: "REGION_REFUSED", forgery: { headerCapacity: 131072n } },
  { name: "a short ring", code: "REGION_REFUSED", forgery: { ringSize: CAPACITY_BYTES_MIN } },
  { name: "an empty ring region", code: "REGION_REFUSED", forgery: { ringSize: 4096 } },
  { name: "a long ring", code: "REGION_REFUSED", forgery: { ringSize: CAPACITY_BYTES_MIN + 2 * PART_SIZE } },
  { name: "a short page", code: "REGION_REFUSED", forgery: { pageSize: 4096 } },
  { name: "a ring without seals", code: "REGION_REFUSED", forgery: { ringSeals: undefined } },
  { name: "a ring with size seals only", code: "REGION_REFUSED", forgery: { ringSeals: libc.SEALS_SIZE } },
  { name: "a ring whose seals can grow", code: "REGION_REFUSED", forgery: { ringSeals: libc.SEALS_RING & ~1 } },
  { name: "a ring that may shrink", code: "REGION_REFUSED", forgery: { ringSeals: libc.SEALS_RING & ~2 } },
  { name: "a grant of an unknown policy", code: "LINK_PROTOCOL", bytes: () => grant({ policy: 5 }) },
  {
    name: "a grant of an unknown policy for transactions",
    code: "LINK_PROTOCOL",
    bytes: () => grant({ transactionPolicy: 0xffff }),
  },
  { name: "a grant of a pool that does not come", code: "LINK_PROTOCOL", bytes: pooled() },
  { name: "a grant without the pool that comes", code: "LINK_PROTOCOL", descriptors: ALL_FOUR },
  {
    name: "a pool larger than its region",
    code: "REGION_REFUSED",
    bytes: pooled(2 * POOL_BYTES_MIN),
    descriptors: ALL_FOUR,
  },
  { name: "a pool of one byte", code: "REGION_REFUSED", bytes: pooled(1), descriptors: ALL_FOUR },
  { name: "a pool of 2^32 - 1 bytes", code: "REGION_REFUSED", bytes: pooled(0xffffffff), descriptors: ALL_FOUR },
  {
    name: "a pool that is a regular file",
    code: "REGION_REFUSED",
    bytes: pooled(),
    descriptors: ["ring", "page", "wake", "file"],
  },
  {
    name: "a pool that is a socket",
    code: "REGION_REFUSED",
    bytes: pooled(),
    descriptors: ["ring", "page", "wake", "wake"],
  },
  {
    name: "a pool without seals",
    code: "REGION_REFUSED",
    bytes: pooled(),
    descriptors: ALL_FOUR,
    forgery: { poolSeals: undefined },
  },
  {
    name: "a pool that may shrink",
    code: "REGION_REFUSED",
    bytes: pooled(),
    descriptors: ALL_FOUR,
    forgery: { poolSeals: libc.SEALS_RING & ~2 },
  },
  {
    name: "a short pool",
    code: "REGION_REFUSED",
    bytes: pooled(),
    descriptors: ALL_FOUR,
    forgery: { poolSize: PART_SIZE },
  },
  { name: "a page without seals", code: "REGION_REFUSED", forgery: { pageSeals: undefined } },
  { name: "a page that may shrink", code: "REGION_REFUSED", forgery: { pageSeals: libc.SEALS_SIZE & ~2 } },
];

for (const { name, code, bytes, forgery, descriptors } of ANSWERS) {
  guarded(`setupConsumer() fails with ${code} on ${name}`, async (held) => {
    const { native, path, sender, before } = await openStage(held);
    {
      using regions = new ForgedRegions(forgery);
      using wake = new RawWake(native);
      using temporary = new Temporary();
      const file = libc.openFile(temporary.at("file"));
      const numbers = { ring: regions.ringFd, page: regions.pageFd, wake: wake.passed, pool: regions.poolFd, file };
      const connecting = setupConsumer(path, { reconnect: false, connectTimeoutMs: 20_000 });
      connecting.catch(() => {});
      const hello = await sender.acceptHello();
      hello.link.send((bytes ?? grant)(), (descriptors ?? ["ring", "page", "wake"]).map((one) => numbers[one]));
      native.wakeNotify(hello.wake);
      await assert.rejects(connecting, (error) => {
        assert.ok(isQlasterError(error), String(error));
        assert.equal(error.code, code, error.message);
        return true;
      });
      hello.link.close();
      native.close(hello.wake);
      libc.close(file);
    }
    await settlesAt("self", before);
  });
}

for (const [name, more] of [["a second one", grant()], ["random bytes", new Uint8Array(50).fill(3)]] as const) {
  guarded(`setupConsumer() and its consumer keep nothing of a grant that is followed by ${name}`, async (held) => {
    const { native, path, sender, before } = await openStage(held);
    {
      using regions = new ForgedRegions();
      using wake = new RawWake(native);
      const connecting = setupConsumer(path, { reconnect: false, connectTimeoutMs: 20_000 });
      connecting.catch(() => {});
      const hello = await sender.acceptHello();
      hello.link.send(concat(grant(), more), [regions.ringFd, regions.pageFd, wake.passed]);
      wake.closePassed();
      native.wakeNotify(hello.wake);
      // The nonsense is in the same segment as the grant: found before the consumer is there, or right after.
      const error = await connecting.then((consumer) => consumer.next(), (error) => error).catch((error) => error);
      assert.ok(isQlasterError(error), String(error));
      assert.ok(error.code === "LINK_PROTOCOL" || error.reason === "peer-corrupt", error.message);
      hello.link.close();
      native.close(hello.wake);
    }
    await settlesAt("self", before);
  });
}

guarded("setupConsumer() ends with the deadline, the signal or the link, when no answer comes", async (held) => {
  const { native, path, sender, before } = await openStage(held);
  const attempt = async (options: Parameters<typeof setupConsumer>[1], act: (link: RawLink) => void, fits: object) => {
    const connecting = setupConsumer(path, { reconnect: false, ...options });
    connecting.catch(() => {});
    const { link, wake } = await sender.acceptHello();
    act(link);
    await assert.rejects(connecting, fits);
    link.close();
    native.close(wake);
  };
  const aborting = new AbortController();
  await attempt({ connectTimeoutMs: 100 }, () => {}, { code: "CONNECT_TIMEOUT" });
  await attempt({ connectTimeoutMs: 300 }, (link) => void link.send(grant().subarray(0, 20)), {
    code: "CONNECT_TIMEOUT",
  });
  await attempt({ connectTimeoutMs: 20_000, signal: aborting.signal }, () => aborting.abort(), { name: "AbortError" });
  await settlesAt("self", before);
  // Nobody takes the hello: the connection waits in the listener's queue.
  await assert.rejects(setupConsumer(path, { connectTimeoutMs: 100 }), { code: "CONNECT_TIMEOUT" });
});

guarded("setupConsumer() fails with CONNECT_PROTOCOL when the link closes without an answer", async (held) => {
  const { native, path, sender, before } = await openStage(held);
  const connecting = setupConsumer(path, { reconnect: false, connectTimeoutMs: 20_000, protocol: "native" });
  connecting.catch(() => {});
  const { link, wake } = await sender.acceptHello();
  link.close();
  native.close(wake);
  await assert.rejects(connecting, { code: "CONNECT_PROTOCOL" });
  await settlesAt("self", before);
});

// After the grant

/** A granted consumer whose ring we can write as we like. */
interface Prey {
  readonly native: Native;
  readonly consumer: Consumer;
  readonly regions: ForgedRegions;
  readonly link: RawLink;
  readonly wake: number;
}

type Idle = "park" | "spin" | "yield" | "adaptive";

/** It has a pool. */
async function withPrey(held: Held, idle: Idle, body: (prey: Prey) => Promise<void>): Promise<void> {
  const { native, path, sender, before } = await openStage(held);
  {
    using regions = new ForgedRegions();
    using wake = new RawWake(native);
    const connecting = setupConsumer(path, {
      reconnect: false,
      connectTimeoutMs: 20_000,
      idle,
      requestTimeoutMs: 20_000,
    });
    connecting.catch(() => {});
    const hello = await sender.acceptHello();
    hello.link.send(pooled()(), [regions.ringFd, regions.pageFd, wake.passed, regions.poolFd]);
    wake.closePassed();
    native.wakeNotify(hello.wake);
    await using consumer = await connecting;
    await body({ native, consumer, regions, link: hello.link, wake: hello.wake });
    hello.link.close();
    native.close(hello.wake);
  }
  await settlesAt("self", before);
}

/** Writes a frame at `at`; what `lie` changes of it last. Returns its end. */
function writeFrame(
  regions: ForgedRegions,
  at: number,
  kind: number,
  bodyLength: number,
  lie: (view: DataView, at: number) => void = () => {},
): number {
  const { view } = regions.ring;
  view.setUint32(at + FrameHeader.length, FrameHeader.size + bodyLength, true);
  view.setUint16(at + FrameHeader.kind, kind, true);
  view.setUint32(at + FrameHeader.bodyLength, bodyLength, true);
  lie(view, at);
  return at + ((FrameHeader.size + bodyLength + 7) & ~7);
}

const goodSlot = (regions: ForgedRegions, at: number) => writeFrame(regions, at, FrameKind.slot, SlotBody.size);

interface Nonsense {
  readonly name: string;
  /** Returns the cursor to publish. */
  write(regions: ForgedRegions): number | bigint;
}

const body = FrameHeader.size;
/** zig/layout.zig's pool_unit. */
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

interface Chatter {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly withDescriptor?: boolean;
}

const CHATTER: readonly Chatter[] = [
  { name: "random bytes", bytes: new Uint8Array(100).fill(9) },
  { name: "a second grant", bytes: grant() },
  { name: "an unknown kind", bytes: message(77) },
  { name: "a subscribe", bytes: message(LinkKind.subscribe, new Uint8Array(16)) },
  { name: "an ack that is too short", bytes: message(LinkKind.ack, new Uint8Array(3)) },
  { name: "a refusal shorter than its text", bytes: message(LinkKind.refuse, Uint8Array.of(0, 0, 0, 0, 200, 0, 0, 0)) },
  { name: "a goodbye of one byte", bytes: message(LinkKind.goodbye, new Uint8Array(1)) },
  { name: "a descriptor that nobody asked for", bytes: message(LinkKind.pong), withDescriptor: true },
];

for (const { name, bytes, withDescriptor } of CHATTER) {
  guarded(
    `Consumer ends with peer-corrupt on ${name} in its link, even while it waits for an answer`,
    (held) =>
      withPrey(held, "park", async ({ native, consumer, link, wake }) => {
        const waiting = Promise.allSettled([
          consumer.next(),
          consumer.ping(),
          consumer.subscribe({ transactions: true }),
        ]);
        using other = new RawWake(native);
        link.send(bytes, withDescriptor === true ? [other.passed] : []);
        native.wakeNotify(wake);
        for (const outcome of await waiting) {
          assert.equal(outcome.status, "rejected");
          assert.ok(isQlasterError(outcome.reason, "CONNECTION_LOST"));
          assert.equal(outcome.reason.reason, "peer-corrupt");
        }
      }),
  );
}

guarded(
  "Consumer drops answers to questions that it did not ask, and takes a wrong one for what it is",
  (held) =>
    withPrey(held, "park", async ({ native, consumer, link, wake }) => {
      link.send(message(LinkKind.pong, undefined, { requestId: 4711 }));
      link.send(message(LinkKind.ack, new Uint8Array(16), { requestId: 4711 }));
      native.wakeNotify(wake);
      const subscribing = consumer.subscribe({ transactions: true });
      link.send(message(LinkKind.pong, undefined, { requestId: 1 })); // no ack
      native.wakeNotify(wake);
      await assert.rejects(subscribing, { code: "LINK_PROTOCOL" });
      assert.equal(consumer.ended, undefined);
    }),
);

guarded(
  "Consumer delivers what is in the ring, then ends with sender-gone, when a sender's sockets close",
  (held) =>
    withPrey(held, "park", async ({ native, consumer, regions, link, wake }) => {
      regions.producerCursor = BigInt(goodSlot(regions, goodSlot(regions, 0)));
      link.close();
      native.close(wake);
      assert.equal((await consumer.next())?.kind, "slot");
      assert.equal((await consumer.next())?.kind, "slot");
      await assert.rejects(consumer.next(), { code: "CONNECTION_LOST", reason: "sender-gone" });
    }),
);

guarded(
  "Consumer.close() ends a subscribe that waits for a sender which never reads its link",
  (held) =>
    withPrey(held, "park", async ({ consumer }) => {
      const keys = Array.from({ length: 50_000 }, (_, i) => new Uint8Array(32).fill(i)); // far more than the socket holds
      const asking = consumer.subscribe({ accounts: keys });
      asking.catch(() => {});
      await consumer.close();
      await assert.rejects(asking, { code: "CONSUMER_CLOSED" });
    }),
);
