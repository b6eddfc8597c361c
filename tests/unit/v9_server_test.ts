/**
 * V9Server over a native library that is a fake, at times that the test sets: who is idle, and who only seems so.
 * May touch: fakes of rings, links and of `performance.now`. May not touch: sockets; tests/interop has those.
 *
 * @module
 */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { setImmediate } from "node:timers";
import { Status, V9Created } from "../../src/native/abi.generated.ts";
import type { Native } from "../../src/native/native.ts";
import type { Link } from "../../src/stream/link.ts";
import type { EndReason } from "../../src/types.ts";
import { HalfSent } from "../../src/v9/half_sent.ts";
import { encodePing, encodeSubscribe, FrameCutter } from "../../src/v9/messages.ts";
import { V9Server, type V9ServerOptions } from "../../src/v9/server.ts";
import type { V9Slot } from "../../src/v9/slot.ts";

const IDLE_MS = 30_000;
const PATH = "/proc/1/fd/99";

let nowMs = 0;
const realNow = performance.now;
beforeEach(() => {
  nowMs = 1_000_000;
  performance.now = () => nowMs;
});
afterEach(() => {
  performance.now = realNow;
});

/** A server whose rings are numbers, and what it did. */
class Fake implements Disposable {
  readonly ends: [slot: number, reason: EndReason][] = [];
  readonly directories: string[] = [];
  readonly refusals: string[] = [];
  readonly closedFds: number[] = [];
  readonly closedHandles: number[] = [];
  /** What was added to filters: numbers of keys. */
  readonly parts: [accounts: number, owners: number, transactions: boolean][] = [];
  /** How many names of files are taken. */
  namesTaken = 0;
  path: Uint8Array = new TextEncoder().encode(PATH);
  /** The other side of the newest connection closes. */
  hangUp = (): void => {};
  /** What v9RingCreate says to memory. */
  memoryStatus = 0;
  reaches = 1;
  memoryBytes = 0;
  memoryMaxBytes = 1 << 30;
  releasedBytes = 0;
  sendsWork = true;
  subscribeFails = false;
  openFails = false;
  readonly server: V9Server;
  readonly #sweeps: (() => void)[] = [];
  readonly #realSetInterval = globalThis.setInterval;
  #rings = 0;

  constructor(options: Partial<V9ServerOptions> = {}) {
    const native = {
      v9RingCreate: (
        directory: Uint8Array,
        length: number,
        _slot: number,
        _generation: number,
        _capacity: number,
        created: Uint8Array,
      ) => {
        this.directories.push(new TextDecoder().decode(directory.subarray(0, length)));
        if (length === 0 && this.memoryStatus < 0) return this.memoryStatus;
        if (length > 0 && this.namesTaken > 0) {
          this.namesTaken--;
          return Status.pathInUse;
        }
        const view = new DataView(created.buffer);
        view.setInt32(V9Created.wakeFd, 500 + this.#rings, true);
        view.setUint32(V9Created.pathLength, this.path.length, true);
        created.set(this.path, V9Created.path);
        return ++this.#rings;
      },
      v9Reaches: () => this.reaches,
      ringInfo: (_ring: number, info: Float64Array) => {
        info[3] = this.releasedBytes;
        return 0;
      },
      ringEnd: () => 0,
      close: (handle: number) => this.closedHandles.push(handle),
      v9Clean: () => 0,
      fdClose: (fd: number) => this.closedFds.push(fd),
      stream: (_fd: number, _onBytes: unknown, onClose: () => void) => {
        this.hangUp = onClose;
        return new Promise(() => {});
      },
    };
    // The sweep's timer is the test's: `sweep` is its tick.
    globalThis.setInterval = ((callback: () => void) => {
      this.#sweeps.push(callback);
      return this.#realSetInterval(() => {}, 1 << 30);
    }) as unknown as typeof setInterval;
    let id = 0;
    this.server = new V9Server(
      native as unknown as Native,
      {
        slotsMax: 3,
        ring: "memfd",
        ringDirectory: undefined,
        idleTimeoutMs: IDLE_MS,
        sharedTokens: false,
        slotStatuses: new Set(["processed"] as const),
        ringCapacityBytes: 65536,
        handshakeTimeoutMs: 5000,
        ...options,
      },
      new HalfSent(),
      {
        nextId: () => ++id,
        refusalOfMemory: (bytes) => this.memoryBytes + bytes > this.memoryMaxBytes ? "it is full" : undefined,
        onOpen: () => {
          if (this.openFails) throw new Error("no place is left");
        },
        subscribe: (_slot, { accounts, owners, transactions }) => {
          this.parts.push([accounts.length, owners.length, transactions]);
          if (this.subscribeFails) throw new Error("too many keys");
        },
        onGranted: () => {},
        onSubscribed: () => {},
        onRefused: ({ reason }) => void this.refusals.push(reason),
        onEnd: (slot: V9Slot, reason: EndReason) => {
          this.ends.push([slot.token.slotIndex, reason]);
          slot.close(reason);
        },
      },
    );
  }

  /** A connection that says this first. What it was told is in `replies`. */
  connect(...messages: Uint8Array[]): { replies: number[][]; isClosed: () => boolean } {
    const replies: number[][] = [];
    let isClosed = false;
    const fails = () => !this.sendsWork;
    const link = {
      peer: { pid: 1, uid: 0 },
      duplicate: () => 7,
      isSent: true,
      get hasFailed() {
        return fails();
      },
      send: (bytes: Uint8Array) => void replies.push([bytes[5]!, bytes[6]!, bytes[7]!]),
      sendWhole: (bytes: Uint8Array, descriptors: readonly number[] = []) => {
        replies.push([bytes[5]!, bytes[6]!, bytes[7]!, ...descriptors]);
        return this.sendsWork;
      },
      close: () => void (isClosed = true),
    };
    this.server.accept(link as unknown as Link, messages.map((message) => message.subarray(4)), new FrameCutter());
    return { replies, isClosed: () => isClosed };
  }

  /** The event loop runs for so long. */
  run(ms: number): void {
    for (const end = nowMs + ms; nowMs < end;) {
      nowMs += Math.min(1000, end - nowMs);
      this.sweep();
    }
  }

  sweep(): void {
    this.#sweeps.at(-1)!();
  }

  [Symbol.dispose](): void {
    this.server.close();
    globalThis.setInterval = this.#realSetInterval;
  }
}

const subscribe = (token?: { slotIndex: number; generation: bigint }) => {
  return encodeSubscribe({ token, accounts: [], owners: [], transactions: false });
};
const turns = async (count: number) => {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
};
const closed = async ({ isClosed }: { isClosed: () => boolean }) => {
  while (!isClosed()) await new Promise((resolve) => setTimeout(resolve, 1));
};
const token = (slotIndex: number, generation: bigint) => ({ slotIndex, generation });

test("silence for longer than the limit ends a slot, and nothing short of it", () => {
  using fake = new Fake();
  fake.connect(subscribe());
  fake.run(IDLE_MS);
  assert.deepEqual(fake.ends, []);
  fake.run(1000);
  assert.deepEqual(fake.ends, [[0, "idle"]]);
});

test("time in which our own loop stood still counts for nobody", () => {
  using fake = new Fake();
  fake.connect(subscribe());
  fake.run(IDLE_MS - 5000);
  nowMs += 10 * IDLE_MS;
  fake.sweep();
  fake.run(5000);
  assert.deepEqual(fake.ends, []);
  fake.run(1000);
  assert.deepEqual(fake.ends, [[0, "idle"]]);
});

test("after a standstill nobody is judged before what they said could be read", () => {
  using fake = new Fake();
  fake.connect(subscribe());
  fake.run(IDLE_MS - 500);
  nowMs += 60_000;
  fake.sweep(); // late
  nowMs += 1000;
  fake.sweep(); // the first on time: now the slot is over its limit
  assert.deepEqual(fake.ends, []);
  nowMs += 1000;
  fake.sweep();
  assert.deepEqual(fake.ends, [[0, "idle"]]);
});

test("a late ping does not rescue, and a late subscribe gets a new slot", () => {
  for (const isPing of [true, false]) {
    using fake = new Fake({ sharedTokens: true });
    fake.connect(subscribe());
    fake.run(IDLE_MS);
    nowMs += 1; // no sweep has noticed yet
    const { replies, isClosed } = fake.connect(isPing ? encodePing(token(0, 1n)) : subscribe(token(0, 1n)));
    assert.deepEqual(fake.ends, [[0, "idle"]]);
    assert.deepEqual(replies, isPing ? [] : [[5, 0, 2, 501]]);
    assert.equal(isClosed(), false);
  }
});

test("a ping in time rescues", () => {
  using fake = new Fake({ sharedTokens: true });
  fake.connect(subscribe());
  for (let i = 0; i < 5; i++) {
    fake.run(IDLE_MS);
    fake.connect(encodePing(token(0, 1n)));
  }
  assert.deepEqual(fake.ends, []);
});

test("the search for a free slot evicts who is idle", async () => {
  using fake = new Fake({ slotsMax: 1 });
  fake.connect(subscribe());
  fake.run(IDLE_MS);
  const early = fake.connect(subscribe());
  assert.ok(!early.isClosed(), "a slot may become free within some turns of the event loop");
  await closed(early); // not yet
  nowMs += 1;
  assert.deepEqual(fake.connect(subscribe()).replies, [[5, 0, 3, 501]]);
  assert.deepEqual(fake.ends, [[0, "idle"]]);
});

test("the time before the first slot counts for nobody, however long it was", () => {
  using fake = new Fake();
  nowMs += 1000;
  fake.connect(subscribe());
  fake.run(IDLE_MS);
  assert.deepEqual(fake.ends, []);
});

test("a ring is memory where the consumer can open ours, else a file", () => {
  using fake = new Fake({ ringDirectory: "/rings" });
  fake.connect(subscribe());
  fake.reaches = 0;
  fake.connect(subscribe());
  fake.reaches = 1;
  fake.memoryStatus = Status.unsupported;
  fake.connect(subscribe());
  assert.deepEqual(fake.directories, ["", "/rings", "", "/rings"]);
  using byOption = new Fake({ ring: "file" });
  byOption.connect(subscribe());
  assert.match(byOption.directories[0]!, /^\/(dev\/shm|tmp)\/qlaster-\d+$/);
});

test("a ring that can't be made closes the connection, and its place stays free", () => {
  using fake = new Fake();
  fake.memoryStatus = -24; // EMFILE
  const { replies, isClosed } = fake.connect(subscribe());
  assert.deepEqual([replies, isClosed(), fake.server.refused], [[], true, 1]);
  const [reason] = fake.refusals;
  assert.match(reason!, /^Cannot create a ring of 65536 bytes in memory \(.*EMFILE\)\): raise the limit of open files/);
  fake.memoryStatus = 0;
  assert.deepEqual(fake.connect(subscribe()).replies, [[5, 0, 2, 500]]);
});

test("the wake's descriptor is closed once it was sent, or could not be, or was not to be", () => {
  using fake = new Fake();
  fake.connect(subscribe());
  fake.sendsWork = false;
  assert.ok(fake.connect(subscribe()).isClosed());
  fake.subscribeFails = true;
  assert.ok(fake.connect(subscribe()).isClosed());
  assert.deepEqual(fake.closedFds, [500, 501, 502]);
  assert.deepEqual(fake.ends, [[1, "consumer-gone"], [1, "evicted"]]);
  assert.deepEqual([fake.server.granted, fake.server.refused], [1, 2]);
});

test("a READY that can't be sent ends the connection", () => {
  using fake = new Fake({ sharedTokens: true });
  const { replies, isClosed } = fake.connect(subscribe(), subscribe(token(0, 1n)));
  assert.deepEqual([replies, isClosed()], [[[5, 0, 1, 500], [3, 0, 1]], false]);
  fake.sendsWork = false;
  assert.ok(fake.connect(subscribe(token(0, 1n))).isClosed());
  assert.deepEqual(fake.ends, [], "the slot is another connection's");
});

test("memory that is taken leaves no room for a slot", () => {
  using fake = new Fake();
  fake.memoryMaxBytes = 100_000;
  fake.memoryBytes = 100_000 - 65536 - 320;
  assert.ok(!fake.connect(subscribe()).isClosed());
  fake.memoryBytes += 1;
  assert.ok(fake.connect(subscribe()).isClosed());
});

const manyKeys = (count: number) => Array.from({ length: count }, (_, i) => new Uint8Array(32).fill(i));

test("a long list is added in parts, and what comes behind it waits", async () => {
  using fake = new Fake({ sharedTokens: true });
  const request = { accounts: manyKeys(10_000), owners: manyKeys(5000), transactions: true };
  const { replies } = fake.connect(subscribe(), encodeSubscribe({ token: token(0, 1n), ...request }), subscribe());
  assert.deepEqual([replies.length, fake.parts], [1, [[0, 0, false], [4096, 0, false]]]);
  await turns(1);
  assert.deepEqual(fake.parts.slice(2), [[4096, 0, false]]);
  await turns(2);
  assert.deepEqual(fake.parts.slice(3), [[1808, 2288, false], [0, 2712, true], [0, 0, false]]);
  assert.deepEqual(replies.map(([tag, index]) => [tag, index]), [[5, 0], [3, 0], [5, 1]]);
});

test("who goes amid a long list is forgotten, and so is the descriptor of a slot that was not announced", async () => {
  using fake = new Fake();
  const request = { token: undefined, accounts: manyKeys(10_000), owners: [], transactions: false };
  const { replies, isClosed } = fake.connect(encodeSubscribe(request));
  await turns(1);
  fake.hangUp();
  await turns(3);
  assert.deepEqual([replies, isClosed(), fake.closedFds], [[], true, [500]]);
  assert.deepEqual([fake.ends, fake.parts.length], [[[0, "consumer-gone"]], 2]);
  assert.equal(fake.refusals.length, 1);
});

test("the last key that a list may hold comes in the last part", async () => {
  using fake = new Fake();
  fake.connect(encodeSubscribe({ token: undefined, accounts: manyKeys(4096), owners: [], transactions: true }));
  await turns(1);
  assert.deepEqual(fake.parts, [[4096, 0, true]]);
});

test("a file whose name is taken gets another generation, 64 times at most", () => {
  using fake = new Fake({ ring: "file" });
  fake.namesTaken = 2;
  assert.deepEqual(fake.connect(subscribe()).replies, [[5, 0, 3, 500]]);
  assert.deepEqual(fake.connect(subscribe()).replies, [[5, 1, 4, 501]]);
  fake.namesTaken = 1000;
  assert.ok(fake.connect(subscribe()).isClosed());
  assert.equal(1000 - fake.namesTaken, 64);
  assert.match(fake.refusals[0]!, /files that are none of our rings stand there/);
});

test("a path that is not UTF-8 leaves nothing open", () => {
  using fake = new Fake({ ring: "file" });
  fake.path = Uint8Array.of(0x2f, 0xff);
  assert.ok(fake.connect(subscribe()).isClosed());
  assert.deepEqual([fake.closedFds, fake.closedHandles], [[500], [1]]);
  assert.match(fake.refusals[0]!, /not UTF-8: make v9\.ringDirectory an absolute path/);
  assert.throws(() => fake.server.prepare(), { code: "SYSTEM" });
  assert.deepEqual([fake.closedFds, fake.closedHandles], [[500, 501], [1, 2]]);
});

test("a slot for which the fan-out has no place is none: its ring and wake are closed, and the next one is served", async () => {
  using fake = new Fake();
  fake.openFails = true;
  const { replies, isClosed } = fake.connect(
    encodeSubscribe({ token: undefined, accounts: [], owners: [], transactions: true }),
  );
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(isClosed());
  assert.deepEqual(replies, []);
  assert.deepEqual(fake.closedFds, [500]);
  assert.deepEqual(fake.closedHandles, [1]);
  assert.deepEqual(fake.refusals, ["no place is left"]);
  fake.openFails = false;
  const other = fake.connect(encodeSubscribe({ token: undefined, accounts: [], owners: [], transactions: true }));
  assert.equal(other.replies.length, 1);
});
