/**
 * What a consumer refuses before it is granted: answers that break the protocol, and regions that are not what they should be.
 * It fails with a reason; it never hangs, crashes, or keeps anything.
 * May touch: the library in this process, a raw sender beside it, regions forged through libc, /proc.
 *
 * @module
 */

import assert from "node:assert/strict";
import { isQlasterError, setupConsumer } from "../../mod.ts";
import {
  CAPACITY_BYTES_MIN,
  LINK_BODY_BYTES_MAX,
  LinkKind,
  PART_SIZE,
  POOL_BYTES_MIN,
} from "../../src/native/abi.generated.ts";
import { settlesAt } from "../support/footprint.ts";
import { guarded } from "../support/guarded.ts";
import * as libc from "../support/libc.ts";
import { concat, ForgedRegions, type Forgery, grantBody, message, type RawLink, RawWake } from "../support/raw_peer.ts";
import { Temporary } from "../support/temporary.ts";
import { grant, openStage, pooled } from "./support/hostile_sender.ts";

interface Answer {
  readonly name: string;
  readonly code: string;
  readonly bytes?: () => Uint8Array;
  readonly forgery?: Forgery;
  /** Which descriptors go along: of ring, page, wake, pool; "file" for one that is none of them. */
  readonly descriptors?: readonly ("ring" | "page" | "wake" | "pool" | "file")[];
}

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
