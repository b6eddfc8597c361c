/**
 * The consumer against a sender of wire version 9 that is not ours: a raw one, after the reference of the Rust original,
 * with its manners and without any.
 * May touch: the public API, the raw sender beside it in this process, /proc.
 */

import assert from "node:assert/strict";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import process from "node:process";
import {
  addressFromBytes,
  type Consumer,
  type ConsumerOptions,
  isQlasterError,
  type QlasterError,
  setupConsumer,
  setupSender,
  type SlotCopy,
  type UpdateView,
} from "../../mod.ts";
import { Agent } from "../support/agent_process.ts";
import { eventually, type Footprint, footprintOf, settlesAt } from "../support/footprint.ts";
import { guarded, type Held } from "../support/guarded.ts";
import * as libc from "../support/libc.ts";
import * as raw from "../support/raw_v9.ts";
import { blockingWake, RawSlot, type RingLies } from "../support/raw_v9_sender.ts";
import { RUNTIMES } from "../support/runtime.ts";
import { Temporary } from "../support/temporary.ts";

const NOT_LINUX = process.platform === "linux" ? undefined : "the raw sender is Linux's";
const TOKEN: raw.Token = { index: 0, generation: 1n };
const CREATED_NS = 0x1122334455667788n;
const READY = raw.ready(TOKEN);
const CAPACITY = 4096;
/** For what must not come by itself while a test runs. */
const NEVER_MS = 1_000_000;

const linux = (name: string, body: (held: Held) => Promise<void>) => guarded(name, body, { skip: NOT_LINUX });
const readyShm = (slot: { path: string; capacity: number }, token = TOKEN) =>
  raw.readyShm(token, slot.path, slot.capacity);
const requestOf = async (link: raw.RawV9Link) => raw.parseRequest(await link.body());
/** The frames of the reference's examples. */
const accountFrame = (fields: raw.AccountFields = {}) =>
  raw.accountFrame({
    createdNs: CREATED_NS,
    pubkey: new Uint8Array(32).fill(0xaa),
    owner: new Uint8Array(32).fill(0xbb),
    lamports: 5n,
    executable: 1,
    rentEpoch: 6n,
    slot: 7n,
    writeVersion: 8n,
    payload: new TextEncoder().encode("hey"),
    ...fields,
  });
const transactionFrame = (fields: Parameters<typeof raw.transactionFrame>[0]) =>
  raw.transactionFrame({ createdNs: CREATED_NS, ...fields });
const slotFrame = (number: number | bigint) => raw.slotFrame(BigInt(number), CREATED_NS);

class Stage implements AsyncDisposable {
  readonly temporary = new Temporary();
  readonly sender = new raw.RawV9Sender(this.temporary.at("s.sock"));
  readonly path = this.sender.path;
  #rings = 0;
  #opened: (Disposable | AsyncDisposable)[] = [];
  #before: Footprint | undefined;

  static async open(held: Held): Promise<Stage> {
    const stage = held.use(new Stage());
    // Once around: what the runtime and the library open at the first use is no leak.
    const { consumer, link, ring } = await stage.granted();
    const next = consumer.next();
    ring.send(slotFrame(1));
    await next;
    await consumer.close();
    link.close();
    ring[Symbol.dispose]();
    stage.#before = footprintOf("self");
    return stage;
  }

  ring(capacity = CAPACITY, options: ConstructorParameters<typeof RawSlot>[2] = {}): RawSlot {
    return this.keep(new RawSlot(this.temporary.at(`ring-${this.#rings++}`), capacity, options));
  }

  keep<T extends Disposable | AsyncDisposable>(resource: T): T {
    this.#opened.push(resource);
    return resource;
  }

  connect(options: ConsumerOptions = {}): Promise<Consumer> {
    const connecting = setupConsumer(this.path, {
      reconnect: false,
      protocol: "v9",
      connectTimeoutMs: 20_000,
      ...options,
    });
    connecting.catch(() => {});
    return connecting;
  }

  /** A consumer with a slot. */
  async granted(
    options: ConsumerOptions = {},
    ring: RawSlot = this.ring(),
  ): Promise<{ consumer: Consumer; link: raw.RawV9Link; ring: RawSlot }> {
    const connecting = this.connect(options);
    const link = this.keep(await this.sender.accept());
    assert.equal((await requestOf(link)).token, undefined);
    link.send(readyShm(ring), [ring.wakeFd]);
    return { consumer: this.keep(await connecting), link, ring };
  }

  #isDisposed = false;

  /** Closes all, and looks whether anything is left. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    for (const each of this.#opened.reverse()) {
      if (Symbol.asyncDispose in each) await each[Symbol.asyncDispose]();
      else each[Symbol.dispose]();
    }
    try {
      if (this.#before !== undefined) await settlesAt("self", this.#before);
      const maps = readFileSync("/proc/self/maps", "utf8");
      assert.ok(!maps.includes(this.temporary.path), "a ring is still mapped");
    } finally {
      this.sender[Symbol.dispose]();
      this.temporary[Symbol.dispose]();
    }
  }
}

async function rejectsWith(promise: Promise<unknown>, code: string, text: RegExp = /./): Promise<QlasterError> {
  const error = await promise.then(() => assert.fail("it did not fail"), (error) => error);
  assert.ok(isQlasterError(error), String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, text);
  return error;
}

async function lost(promise: Promise<unknown>, reason: string, text: RegExp = /./): Promise<void> {
  assert.equal((await rejectsWith(promise, "CONNECTION_LOST", text)).reason, reason);
}

/** The event loop stands still. */
function standStill(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

// The way in

linux(
  "setupConsumer() says hello twice, and speaks version 9 on a new connection to who does not know it",
  async (held) => {
    const stage = await Stage.open(held);
    const connecting = stage.connect({ protocol: "auto" });
    const first = await stage.sender.accept();
    await eventually("a hello comes", () => first.unread.length >= 16);
    const hello = first.unread;
    assert.equal(new TextDecoder().decode(hello.subarray(0, 4)), "QLAS");
    first.close(); // unread bytes make it a reset
    const second = await stage.sender.accept();
    await eventually("another hello comes", () => second.unread.length >= 16);
    assert.deepEqual(second.unread, hello);
    second.close();
    const link = stage.keep(await stage.sender.accept());
    const bootstrap = Uint8Array.fromHex("1c0000000901ff" + "00".repeat(8 + 8 + 8 + 1));
    await eventually("a request comes", () => link.unread.length >= bootstrap.length);
    assert.deepEqual(link.unread, bootstrap);
    const ring = stage.ring();
    link.send(readyShm(ring), [ring.wakeFd]);
    const consumer = stage.keep(await connecting);
    assert.equal(consumer.protocol, "v9");
  },
);

linux("setupConsumer() does not take a sender of ours that can't answer for one of version 9", async (held) => {
  const stage = await Stage.open(held);
  writeFileSync(`${stage.path}.lock`, "");
  const connecting = stage.connect({ protocol: "auto" });
  for (let i = 0; i < 2; i++) (await stage.sender.accept()).close();
  await rejectsWith(
    connecting,
    "CONNECT_REFUSED",
    /twice without an answer.* want of descriptors .* remove it, or say/,
  );
  const { consumer } = await stage.granted();
  assert.equal(consumer.protocol, "v9", "where it was said");
});

linux("setupConsumer() is served by a sender of ours that can answer only the second hello", async (held) => {
  const path = held.use(new Temporary()).at("s.sock");
  const deaf = held.use(new raw.RawV9Sender(path));
  const connecting = setupConsumer(path, { reconnect: false, connectTimeoutMs: 20_000 });
  const link = await deaf.accept();
  rmSync(path);
  const sender = held.use(await setupSender({ path, ringCapacityBytes: 65536 }));
  link.close();
  const consumer = held.use(await connecting);
  assert.deepEqual([consumer.protocol, sender.consumers().length], ["native", 1]);
});

linux("setupConsumer({ protocol }) tries no other", async (held) => {
  const stage = await Stage.open(held);
  const asNative = stage.connect({ protocol: "native" });
  (await stage.sender.accept()).close();
  await rejectsWith(asNative, "CONNECT_PROTOCOL", /closed the connection without an answer/);
  await assert.rejects(stage.connect({ protocol: "v8" as "v9" }), TypeError);
  const { consumer } = await stage.granted();
  assert.deepEqual([consumer.protocol, consumer.slotToken], ["v9", { slotIndex: 0, generation: 1n }]);
  await consumer.close();
  assert.deepEqual(consumer.slotToken, { slotIndex: 0, generation: 1n });
});

linux("setupConsumer() says what it may be when a sender of version 9 gives no slot", async (held) => {
  const stage = await Stage.open(held);
  for (const protocol of ["auto", "v9"] as const) {
    const connecting = stage.connect({ protocol });
    if (protocol === "auto") { for (let i = 0; i < 2; i++) (await stage.sender.accept()).close(); }
    const link = await stage.sender.accept();
    await requestOf(link);
    link.close();
    await rejectsWith(
      connecting,
      "CONNECT_REFUSED",
      /All its slots may be taken .* 30 s .* want of descriptors .* is no sender/,
    );
  }
});

linux("setupConsumer() ends with the deadline or the signal while a sender of version 9 is silent", async (held) => {
  const stage = await Stage.open(held);
  const ring = stage.ring();
  for (const said of [0, 3, 4, 20]) {
    const connecting = stage.connect({ connectTimeoutMs: 100 });
    using link = await stage.sender.accept();
    try {
      if (said > 0) link.send(readyShm(ring).subarray(0, said), [ring.wakeFd]);
    } catch {
      // Where the machine stood still, the deadline came first.
    }
    await rejectsWith(connecting, "CONNECT_TIMEOUT", /within 100 ms/);
  }
  const aborting = new AbortController();
  const connecting = stage.connect({ signal: aborting.signal });
  using _link = await stage.sender.accept();
  aborting.abort();
  await assert.rejects(connecting, { name: "AbortError" });
});

linux("setupConsumer() takes an answer that comes in pieces of four bytes", async (held) => {
  const stage = await Stage.open(held);
  const ring = stage.ring();
  const connecting = stage.connect();
  const link = stage.keep(await stage.sender.accept());
  await requestOf(link);
  const answer = readyShm(ring);
  for (let at = 0; at < answer.length; at += 4) {
    link.send(answer.subarray(at, at + 4), at === 0 ? [ring.wakeFd] : []);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  const consumer = stage.keep(await connecting);
  ring.send(slotFrame(3));
  assert.equal((await consumer.next())?.kind, "slot");
});

linux("a consumer keeps what came behind the first answer, in one write or more", async (held) => {
  const stage = await Stage.open(held);
  const ring = stage.ring();
  const connecting = stage.connect();
  const link = stage.keep(await stage.sender.accept());
  await requestOf(link);
  link.send(raw.join(readyShm(ring), READY.subarray(0, 4)), [ring.wakeFd]);
  const consumer = stage.keep(await connecting);
  const asking = consumer.subscribe({});
  await requestOf(link);
  link.send(READY.subarray(4));
  assert.deepEqual(await asking, { generation: 1, sequence: 0n });
});

interface Answer {
  readonly name: string;
  readonly code: string;
  readonly text?: RegExp;
  /** What it says; the ring's READY_SHM by default. */
  bytes?(ring: RawSlot): Uint8Array;
  readonly ring?: RingLies;
  readonly descriptors?: readonly ("wake" | "file" | "pipe" | "fifo")[];
  /** What stands where the ring should. */
  place?(path: string): void;
}

const ANSWERS: readonly Answer[] = [
  { name: "random bytes", code: "CONNECT_PROTOCOL", bytes: () => new Uint8Array(100).fill(77) },
  { name: "a length of 0", code: "CONNECT_PROTOCOL", bytes: () => new Uint8Array(8) },
  { name: "a length beyond 1024 bytes", code: "CONNECT_PROTOCOL", bytes: () => Uint8Array.of(253, 3, 0, 0, 9, 5) },
  { name: "a length of 2^32 - 1", code: "CONNECT_PROTOCOL", bytes: () => Uint8Array.of(255, 255, 255, 255) },
  { name: "READY", code: "CONNECT_PROTOCOL", bytes: () => READY },
  { name: "an unknown tag", code: "CONNECT_PROTOCOL", bytes: () => raw.framed(Uint8Array.of(9, 99, 0, 0)) },
  {
    name: "version 8",
    code: "CONNECT_PROTOCOL",
    text: /version 8/,
    bytes: (ring) => readyShm(ring).with(4, 8),
  },
  { name: "no slot's index", code: "CONNECT_PROTOCOL", bytes: (ring) => readyShm(ring).with(6, 255) },
  { name: "no path", code: "CONNECT_PROTOCOL", bytes: () => readyShm({ path: "", capacity: CAPACITY }) },
  { name: "no capacity", code: "CONNECT_PROTOCOL", bytes: ({ path }) => readyShm({ path, capacity: 0 }) },
  { name: "no descriptor", code: "CONNECT_PROTOCOL", text: /descriptor/, descriptors: [] },
  { name: "two descriptors", code: "LINK_PROTOCOL", descriptors: ["wake", "wake"] },
  { name: "253 descriptors", code: "LINK_PROTOCOL", descriptors: Array<"wake">(253).fill("wake") },
  { name: "a wake that is a file", code: "REGION_REFUSED", text: /not an eventfd/, descriptors: ["file"] },
  { name: "a wake that is a pipe", code: "REGION_REFUSED", text: /not an eventfd/, descriptors: ["pipe"] },
  { name: "a wake that is a FIFO", code: "REGION_REFUSED", text: /not an eventfd/, descriptors: ["fifo"] },
  {
    name: "a path that leads nowhere",
    code: "REGION_REFUSED",
    bytes: () => readyShm({ path: "/nowhere/at/all", capacity: 64 }),
  },
  { name: "a FIFO", code: "REGION_REFUSED", place: libc.makeFifo },
  { name: "a directory", code: "REGION_REFUSED", place: (path) => void mkdirSync(path) },
  { name: "an empty file", code: "REGION_REFUSED", place: (path) => writeFileSync(path, "") },
  { name: "a file of another kind", code: "REGION_REFUSED", place: (path) => writeFileSync(path, "x".repeat(5000)) },
  { name: "a wrong magic", code: "REGION_REFUSED", ring: { magic: 0x636d706d71616873n } },
  { name: "an unknown version", code: "REGION_REFUSED", ring: { version: 0x20001 } },
  { name: "a mask that is none", code: "REGION_REFUSED", ring: { mask: CAPACITY } },
  { name: "a mask beyond the file", code: "REGION_REFUSED", ring: { mask: 2 * CAPACITY - 1 } },
  { name: "a file that is too short", code: "REGION_REFUSED", ring: { fileSize: 320 + CAPACITY - 1 } },
  { name: "a file that is too long", code: "REGION_REFUSED", ring: { fileSize: 320 + 2 * CAPACITY } },
  { name: "a file of version 3.0 that claims 2.0", code: "REGION_REFUSED", ring: { fileSize: 384 + CAPACITY } },
  { name: "a file of version 2.0 that claims 3.0", code: "REGION_REFUSED", ring: { version: 0x30000 } },
];

for (const { name, code, text, bytes, ring: lies, descriptors, place } of ANSWERS) {
  linux(`setupConsumer() fails with ${code} on ${name}, and keeps nothing`, async (held) => {
    const stage = await Stage.open(held);
    const ring = stage.ring(CAPACITY, { lies });
    libc.makeFifo(stage.temporary.at("fifo"));
    const [pipe, signal] = libc.pipe(0);
    const fifo = libc.openExisting(stage.temporary.at("fifo"));
    const wakes = { wake: ring.wakeFd, file: libc.openFile(stage.temporary.at("file")), pipe, fifo };
    for (const fd of [wakes.file, pipe, signal, fifo]) stage.keep({ [Symbol.dispose]: () => libc.close(fd) });
    const path = stage.temporary.at("instead");
    place?.(path);
    const connecting = stage.connect();
    const link = stage.keep(await stage.sender.accept());
    await requestOf(link);
    const said = bytes?.(ring) ?? readyShm({ path: place === undefined ? ring.path : path, capacity: CAPACITY });
    link.send(said, (descriptors ?? ["wake"] as const).map((one) => wakes[one]));
    await rejectsWith(connecting, code, text);
    await link.end();
  });
}

linux("setupConsumer() fails with CONNECT_PROTOCOL when the sender closes within its answer", async (held) => {
  const stage = await Stage.open(held);
  const ring = stage.ring();
  for (const said of [1, 4, 30]) {
    const connecting = stage.connect();
    const link = await stage.sender.accept();
    await requestOf(link);
    link.send(readyShm(ring).subarray(0, said), [ring.wakeFd]);
    link.close();
    await rejectsWith(connecting, "CONNECT_PROTOCOL", /within its answer/);
  }
});

// Reading

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

// Asking

linux("subscribe() and ping() take READY in two writes, in the order of the questions", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, link, ring } = await stage.granted({ v9PingMs: NEVER_MS });
  const key = new Uint8Array(32).fill(1);
  const owner = new Uint8Array(32).fill(2);
  const answers = [
    consumer.subscribe({ accounts: [key, key], owners: [owner] }),
    consumer.subscribe({ transactions: true }),
    consumer.ping(),
    consumer.subscribe({}),
  ] as const;
  const empty = { kind: "subscribe", token: TOKEN, accounts: [], owners: [], transactions: false };
  assert.deepEqual(await requestOf(link), { ...empty, accounts: [key, key], owners: [owner] });
  assert.deepEqual(await requestOf(link), { ...empty, transactions: true });
  assert.deepEqual(await requestOf(link), empty);
  assert.deepEqual(await requestOf(link), empty);
  ring.send(slotFrame(1));
  for (let i = 0; i < 4; i++) {
    link.send(READY.subarray(0, 4));
    await new Promise((resolve) => setTimeout(resolve, 5));
    link.send(READY.subarray(4));
  }
  assert.deepEqual(await answers[0], { generation: 1, sequence: 22n });
  assert.deepEqual(await answers[1], { generation: 2, sequence: 22n });
  assert.ok((await answers[2]) > 0);
  assert.deepEqual(await answers[3], { generation: 3, sequence: 22n });
  assert.equal((await consumer.next())?.sequence, 22n);
});

linux("subscribe() splits what no message of version 9 holds", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, link } = await stage.granted({ v9PingMs: NEVER_MS });
  const keys = Array.from({ length: 131_073 }, (_, i) => {
    const key = new Uint8Array(32);
    new DataView(key.buffer).setUint32(0, i);
    return key;
  });
  const asking = consumer.subscribe({ accounts: keys, owners: keys.slice(0, 3), transactions: true });
  const [first, second] = [await requestOf(link), await requestOf(link)];
  assert.deepEqual([first.accounts.length, first.owners.length, first.transactions], [131_072, 3, false]);
  assert.deepEqual([second.accounts.length, second.owners.length, second.transactions], [1, 0, true]);
  assert.deepEqual(second.accounts[0], keys.at(-1));
  assert.deepEqual(first.accounts[131_071], keys[131_071]);
  link.send(raw.join(READY, READY));
  assert.deepEqual(await asking, { generation: 2, sequence: 0n });
});

linux("an answer that comes too late is not taken for the answer to the next question", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, link } = await stage.granted({ v9PingMs: NEVER_MS, requestTimeoutMs: 100 });
  await rejectsWith(consumer.subscribe({}), "CONNECT_TIMEOUT");
  const second = consumer.subscribe({ transactions: true });
  await requestOf(link);
  await requestOf(link);
  link.send(READY);
  await rejectsWith(second, "CONNECT_TIMEOUT");
  const third = consumer.subscribe({});
  await requestOf(link);
  link.send(raw.join(READY, READY));
  assert.deepEqual(await third, { generation: 3, sequence: 0n });
});

linux("an answer that comes while the consumer's event loop stands still is in time", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, link } = await stage.granted({ v9PingMs: NEVER_MS, requestTimeoutMs: 200 });
  for (let i = 0; i < 10; i++) {
    const asking = consumer.subscribe({});
    asking.catch(() => {});
    await requestOf(link);
    link.send(READY);
    standStill(300);
    await asking;
  }
});

linux("a consumer pings by itself, with its token", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, link } = await stage.granted({ v9PingMs: 10 });
  for (let i = 0; i < 3; i++) {
    const { kind, token } = await requestOf(link);
    assert.deepEqual([kind, token], ["ping", TOKEN]);
  }
  assert.equal(consumer.ended, undefined);
});

linux("close() closes the socket, rejects who waits, and unmaps the ring", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, link } = await stage.granted();
  const asking = consumer.subscribe({});
  asking.catch(() => {});
  await requestOf(link);
  await consumer.close();
  await rejectsWith(asking, "CONSUMER_CLOSED");
  await rejectsWith(consumer.ping(), "CONSUMER_CLOSED");
  await link.end();
  assert.deepEqual(await consumer.whenEnded, { reason: "closed" });
  assert.equal(await consumer.next(), undefined);
});

// The end

for (const [how, sentinel] of [["sentinel", true], ["its path alone", false]] as const) {
  for (const idle of ["park", "spin", "yield", "adaptive"] as const) {
    linux(`Consumer, ${idle}: an eviction is told by ${how}, after all that was published`, async (held) => {
      const stage = await Stage.open(held);
      const { consumer, ring, link } = await stage.granted({ idle, v9PingMs: NEVER_MS });
      for (let i = 0; i < 3; i++) ring.write(slotFrame(i));
      ring.evict({ sentinel });
      for (let i = 0; i < 3; i++) {
        const update = await consumer.next();
        assert.equal(update?.kind === "slot" && update.slotNumber, i);
      }
      await lost(consumer.next(), "evicted", /dropped this consumer/);
      assert.deepEqual(await consumer.whenEnded, { reason: "evicted" });
      await lost(consumer.subscribe({}), "evicted");
      await link.end(); // and said nothing: the old token is not used
    });
  }
}

linux("an eviction whose signal comes before the unlink is noticed, also by who sleeps", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, ring } = await stage.granted({ idle: "park" });
  const next = consumer.next();
  next.catch(() => {});
  ring.signal();
  await eventually("it has woken up and gone back to sleep", () => consumer.metrics.parks >= 2);
  ring.unlink();
  await lost(next, "evicted");
});

linux("an eviction is noticed although nobody reads or asks", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, ring } = await stage.granted();
  ring.unlink();
  assert.deepEqual(await consumer.whenEnded, { reason: "evicted" });
});

linux("subscribe() and ping() look first, and never use a token that is void", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, ring, link } = await stage.granted({ v9PingMs: NEVER_MS });
  ring.unlink();
  const asking = [consumer.subscribe({ transactions: true }), consumer.ping()];
  for (const each of asking) each.catch(() => {});
  for (const each of asking) await lost(each, "evicted");
  await link.end(); // and said nothing
});

for (const free of [0, 4]) {
  linux(`a consumer that was evicted with ${free} bytes free is told that it was slow`, async (held) => {
    const stage = await Stage.open(held);
    const { consumer, ring } = await stage.granted();
    const rest = accountFrame({ payload: new Uint8Array(CAPACITY - 2 * 22 - 4 - 116 - free) });
    ring.write(slotFrame(1));
    ring.write(slotFrame(2));
    ring.write(rest);
    assert.equal(ring.free, free);
    ring.evict();
    const kinds: string[] = [];
    await lost(
      (async () => {
        for await (const update of consumer) kinds.push(update.kind);
      })(),
      "slow-consumer",
      /full/,
    );
    assert.deepEqual(kinds, ["slot", "slot", "account"]);
  });
}

linux("a consumer that stood still is told so when it was evicted for it", async (held) => {
  const stage = await Stage.open(held);
  for (const v9PingMs of [NEVER_MS, 20]) { // a ping that comes after the silence does not rescue
    const { consumer, ring } = await stage.granted({ v9PingMs, v9IdleMs: 200 });
    ring.write(slotFrame(1));
    standStill(300);
    if (v9PingMs < 200) await new Promise((resolve) => setTimeout(resolve, 30));
    ring.evict();
    assert.equal((await consumer.next())?.kind, "slot");
    await lost(
      consumer.next(),
      "idle",
      /said nothing for 0\.2 s, and this process stood still for (0\.[3-9]|[1-9]\d*\.\d) s/,
    );
  }
});

linux("a silence of long ago is not the reason of an eviction of today", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, ring, link } = await stage.granted({ v9PingMs: 20, v9IdleMs: 60_000 });
  await requestOf(link);
  ring.unlink();
  await lost(consumer.next(), "evicted");
});

linux("a consumer hears of a sender's death by its socket, after all that was published", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, ring, link } = await stage.granted({ idle: "park" });
  const asking = consumer.ping();
  asking.catch(() => {});
  ring.write(slotFrame(1));
  link.close(); // its ring stays where it was, as with a killed sender
  assert.equal((await consumer.next())?.kind, "slot");
  await lost(consumer.next(), "sender-gone", /its process has ended/);
  await lost(asking, "sender-gone");
});

for (const runtime of RUNTIMES) {
  for (const ring of ["memfd", "file"] as const) {
    linux(
      `a consumer hears of the death of a sender of ours, in ${runtime} with a ${ring}, and loses nothing`,
      async (held) => {
        const temporary = held.use(new Temporary());
        const path = temporary.at("s.sock");
        const agent = held.use(new Agent(runtime));
        await agent.run(async (scope, options) => {
          scope.sender = await scope.qlaster.setupSender(options);
        }, { path, ringCapacityBytes: 1 << 16, v9: { ring, ringDirectory: temporary.at("rings") } });
        const consumer = held.use(await setupConsumer(path, { reconnect: false, protocol: "v9" }));
        await consumer.subscribe({ transactions: true });
        await agent.run(({ sender }) => {
          for (let i = 0; i < 100; i++) sender.publishSlot({ slot: BigInt(i), parent: 0n, status: "processed" });
        });
        agent.signal("SIGKILL");
        await agent.ended;
        for (let i = 0; i < 100; i++) {
          const update = await consumer.next();
          assert.equal(update?.kind === "slot" && update.slotNumber, i);
        }
        await lost(consumer.next(), "sender-gone");
      },
    );
  }
}

for (const runtime of RUNTIMES) {
  linux(`a sender of ours in ${runtime} that takes long to die has not evicted`, async (held) => {
    const path = held.use(new Temporary()).at("s.sock");
    const agent = held.use(new Agent(runtime));
    await agent.run(async (scope, path) => {
      scope.sender = await scope.qlaster.setupSender({ path, ringCapacityBytes: 1 << 16 });
    }, path);
    const consumer = held.use(await setupConsumer(path, { reconnect: false, protocol: "v9", requestTimeoutMs: 500 }));
    // A killed process dies thread by thread, which takes a while on a busy machine: its main thread takes the way to its
    // descriptors along, the last one closes them.
    agent.run(({ libc }) => libc.endThread()).catch(() => {}); // no answer comes
    await eventually(
      "its main thread has ended",
      () => /^State:\tZ/m.test(readFileSync(`/proc/${agent.pid}/status`, "utf8")),
    );
    await rejectsWith(consumer.subscribe({}), "CONNECT_TIMEOUT");
    agent.signal("SIGKILL");
    await agent.ended;
    await lost(consumer.next(), "sender-gone");
  });
}

for (const isReading of [true, false]) {
  linux(`a sender that goes in order was closed, and has not evicted; reading: ${isReading}`, async (held) => {
    const stage = await Stage.open(held);
    for (const unread of [0, 3]) {
      const { consumer, ring, link } = await stage.granted({ idle: "park" });
      const next = isReading && unread === 0 ? consumer.next() : undefined;
      next?.catch(() => {});
      for (let i = 0; i < unread; i++) ring.write(slotFrame(i));
      ring.evict();
      if (unread === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      link.close();
      if (next !== undefined) assert.equal(await next, undefined);
      if (unread > 0) {
        let count = 0;
        for await (const update of consumer) count += update.kind === "slot" ? 1 : 0;
        assert.equal(count, unread);
      }
      assert.deepEqual(await consumer.whenEnded, { reason: "sender-closed" });
      await lost(consumer.subscribe({}), "sender-closed");
    }
  });
}

linux("a sender that goes in order while its consumer's event loop stands still has not evicted", async (held) => {
  const stage = await Stage.open(held);
  for (let i = 0; i < 10; i++) {
    const { consumer, ring, link } = await stage.granted({ idle: "park" });
    const next = consumer.next();
    next.catch(() => {});
    ring.evict();
    await new Promise((resolve) => setTimeout(resolve, i)); // it may have seen the sentinel by then, and waits for more
    link.close();
    standStill(200);
    assert.equal(await next, undefined);
    assert.deepEqual(await consumer.whenEnded, { reason: "sender-closed" });
  }
});

linux("a sender's end is in order only with a sentinel, and if nothing speaks for an eviction", async (held) => {
  const stage = await Stage.open(held);
  const cases = ["no sentinel", "behind", "silent"] as const;
  for (const what of cases) {
    const { consumer, ring, link } = await stage.granted({ idle: "park", v9PingMs: NEVER_MS, v9IdleMs: 100 });
    if (what === "behind") ring.write(accountFrame({ payload: new Uint8Array(CAPACITY / 2) }));
    if (what === "silent") standStill(150);
    ring.evict({ sentinel: what !== "no sentinel" });
    link.close();
    if (what === "behind") assert.equal((await consumer.next())?.kind, "account");
    await lost(consumer.next(), "sender-gone");
  }
});

for (const runtime of RUNTIMES) {
  linux(
    `a consumer of a sender of ours in ${runtime} ends quietly when that is closed, and misses nothing`,
    async (held) => {
      const temporary = held.use(new Temporary());
      const path = temporary.at("s.sock");
      const agent = held.use(new Agent(runtime));
      await agent.run(async (scope, options) => {
        scope.sender = await scope.qlaster.setupSender(options);
      }, { path, ringCapacityBytes: 1 << 16 });
      const consumers = [];
      for (const idle of ["park", "adaptive", "yield", "spin"] as const) {
        consumers.push(held.use(await setupConsumer(path, { reconnect: false, protocol: "v9", idle })));
      }
      const late = held.use(await setupConsumer(path, { reconnect: false, protocol: "v9" }));
      const reading = consumers.map(async (consumer) => {
        let count = 0;
        for await (const update of consumer) count += update.kind === "slot" ? 1 : 0;
        return [count, consumer.ended?.reason];
      });
      await agent.run(async ({ sender }) => {
        for (let i = 0; i < 100; i++) sender.publishSlot({ slot: BigInt(i), parent: 0n, status: "processed" });
        await sender.close();
      });
      assert.deepEqual(await Promise.all(reading), consumers.map(() => [100, "sender-closed"]));
      let count = 0;
      for await (const _ of late) count++;
      assert.deepEqual([count, late.ended?.reason], [100, "sender-closed"]);
    },
  );
}

linux(
  "READY_SHM as the answer to a request is the end of the connection, and its descriptor is not kept",
  async (held) => {
    const stage = await Stage.open(held);
    const { consumer, link, ring } = await stage.granted();
    const other = stage.ring();
    ring.write(slotFrame(1));
    const asking = consumer.subscribe({ transactions: true });
    await requestOf(link);
    const before = footprintOf("self").descriptors.length;
    link.send(readyShm(other, { index: 1, generation: 2n }), [other.wakeFd]);
    await lost(asking, "evicted");
    await link.end();
    assert.equal((await consumer.next())?.kind, "slot");
    await lost(consumer.next(), "evicted");
    await eventually("it is closed", () => footprintOf("self").descriptors.length < before);
  },
);

// Nonsense

interface Nonsense {
  readonly name: string;
  write(ring: RawSlot): void;
}

const NONSENSE: readonly Nonsense[] = [
  { name: "a cursor beyond the capacity", write: (ring) => ring.publication = BigInt(CAPACITY + 1) },
  { name: "a cursor of 2^64 - 1", write: (ring) => ring.publication = (1n << 64n) - 1n },
  { name: "a cursor within a prefix", write: (ring) => ring.publication = 3n },
  { name: "a length beyond what is published", write: (ring) => ring.push(Uint8Array.of(1, 0, 0, 0)) },
  { name: "a length beyond the capacity", write: (ring) => ring.push(Uint8Array.of(0, 0, 0, 127, 9, 7)) },
];

for (const [i, { name, write }] of NONSENSE.entries()) {
  const idle = (["park", "adaptive", "yield", "spin"] as const)[i % 4]!;
  linux(`Consumer, ${idle}: ends with peer-corrupt on ${name}, after what was good`, async (held) => {
    const stage = await Stage.open(held);
    const { consumer, ring } = await stage.granted({ idle });
    const next = consumer.next();
    next.catch(() => {});
    write(ring);
    ring.signal();
    await lost(next, "peer-corrupt");
    await lost(consumer.subscribe({}), "peer-corrupt");
  });
}

linux("a cursor that goes back is the end, after what was good", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, ring } = await stage.granted();
  ring.send(slotFrame(1));
  assert.equal((await consumer.next())?.kind, "slot");
  ring.publication = 5n;
  ring.signal();
  await lost(consumer.next(), "peer-corrupt");
});

const CHATTER: readonly [name: string, bytes: Uint8Array][] = [
  ["random bytes", new Uint8Array(100).fill(9)],
  ["a length beyond the limit", Uint8Array.of(255, 255, 255, 255)],
  ["a frame of data", raw.framed(slotFrame(1))],
  ["READY of version 8", READY.with(4, 8)],
  ["READY without a slot", READY.with(6, 255)],
  ["one READY too many", raw.join(READY, READY, READY, READY)],
];

for (const [name, bytes] of CHATTER) {
  linux(`Consumer ends with peer-corrupt on ${name} in its socket`, async (held) => {
    const stage = await Stage.open(held);
    const { consumer, link } = await stage.granted({ v9PingMs: NEVER_MS });
    const asking = Promise.allSettled([consumer.subscribe({}), consumer.ping()]);
    await requestOf(link);
    await requestOf(link);
    link.send(bytes);
    await lost(consumer.next(), "peer-corrupt");
    await asking;
    await link.end();
  });
}

linux("descriptors that nobody asked for are closed unseen", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, link, ring } = await stage.granted({ v9PingMs: NEVER_MS });
  const before = footprintOf("self");
  const asking = consumer.subscribe({});
  await requestOf(link);
  link.send(READY, [ring.wakeFd, ring.wakeFd]);
  await asking;
  await settlesAt("self", before);
});

// Timings

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
