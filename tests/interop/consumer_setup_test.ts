/**
 * The consumer against a sender of wire version 9 that is not ours: which protocol it speaks, and what it makes of answers, good
 * and bad ones.
 * May touch: the public API, a raw sender in this process, /proc.
 *
 * @module
 */

import assert from "node:assert/strict";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { setupConsumer, setupSender } from "../../mod.ts";
import { eventually } from "../support/footprint.ts";
import * as libc from "../support/libc.ts";
import * as raw from "../support/raw_v9.ts";
import type { RawSlot, RingLies } from "../support/raw_v9_sender.ts";
import { Temporary } from "../support/temporary.ts";
import {
  CAPACITY,
  linux,
  READY,
  readyShm,
  rejectsWith,
  requestOf,
  slotFrame,
  Stage,
} from "./support/consumer_stage.ts";

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
