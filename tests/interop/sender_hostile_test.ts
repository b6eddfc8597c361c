/**
 * Our sender and peers that do not speak wire version 9 well: nonsense, messages that never end, connections without number.
 * What they cost is bounded, and nobody else's.
 * May touch: the library as a user would, a raw peer, child processes, /proc. Linux only.
 *
 * @module
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { Agent } from "../support/agent_process.ts";
import { eventually, footprintOf } from "../support/footprint.ts";
import { guarded } from "../support/guarded.ts";
import { framed, join, ping, RawV9Consumer, type RawV9Slot, ready, subscribe } from "../support/raw_v9.ts";
import { RUNTIMES } from "../support/runtime.ts";
import { Temporary } from "../support/temporary.ts";
import { account, key, Scene, SKIP } from "./support/sender_scene.ts";

const MIB = 1024 * 1024;

const GARBAGE: readonly (readonly [name: string, bytes: Uint8Array])[] = [
  ["an HTTP request", new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n")],
  ["16 MiB and a byte announced", Uint8Array.of(1, 0, 0, 1)],
  ["an empty message", Uint8Array.of(0, 0, 0, 0)],
  ["one byte of a message", Uint8Array.of(1, 0, 0, 0, 9)],
  ["another version", framed(subscribe().slice(4).fill(8, 0, 1))],
  ["an unknown tag", framed(Uint8Array.of(9, 77, 0, 0, 0))],
  ["a sender's message", ready({ index: 0, generation: 1n })],
  ["a ping without a slot", framed(Uint8Array.of(9, 4, 255, 0, 0, 0, 0, 0, 0, 0, 0))],
  ["a subscribe message that is cut", framed(subscribe().slice(4, -1))],
  ["a subscribe message with a flag of 2", framed(join(subscribe().slice(4, -1), Uint8Array.of(2)))],
  ["a list that is longer than the message", framed(subscribe({ accounts: [key(1)] }).slice(4).fill(2, 11, 12))],
];

for (const [name, bytes] of GARBAGE) {
  guarded(`Sender closes without a word on ${name}, first or later`, async (held) => {
    const scene = await Scene.open(held);
    const honest = await scene.slot();
    const stranger = scene.connect();
    stranger.link.send(bytes);
    await stranger.link.end();
    await scene.refuses(/^v9: (?!undefined)..../);
    const { consumer } = await scene.slot();
    consumer.link.send(bytes);
    await consumer.link.end();
    await scene.ended(1);
    assert.deepEqual([scene.ends, scene.sender.metrics.refused], [["peer-corrupt"], 1]);
    scene.sender.publishSlot({ slot: 1n, parent: 0n, status: "processed" });
    assert.equal(honest.slot.ring.readAll().length, 1);
  }, SKIP);
}

guarded("a connection that stops before its first message is over is closed at the deadline", async (held) => {
  const scene = await Scene.open(held, { handshakeTimeoutMs: 300 });
  const pieces = [[], [28], [28, 0, 0, 0], [28, 0, 0, 0, 9, 1], [28, 0, 128, 0, 9, 1, 255]];
  const consumers = pieces.map((piece) => {
    const consumer = scene.connect();
    if (piece.length > 0) consumer.link.send(Uint8Array.from(piece));
    return consumer;
  });
  for (const { link } of consumers) await link.end();
  const late = /: nothing whole came within 300 ms \(option handshakeTimeoutMs\)$/;
  await scene.refuses(...pieces.map(() => late));
  // The last two have said their length: it is no native hello.
  assert.deepEqual(scene.refusals.filter((text) => text.startsWith("v9")).length, 3);
}, SKIP);

guarded("the deadline is for every message of who has no slot, and for none of who has", async (held) => {
  const scene = await Scene.open(held, { handshakeTimeoutMs: 300 });
  const { consumer, slot } = await scene.slot();
  const stranger = scene.connect();
  const request = subscribe({ token: slot.token, accounts: [key(1)] });
  consumer.link.send(request.subarray(0, 20));
  stranger.link.send(ping({ index: 9, generation: 9n }));
  // Each piece is in time, but not the whole; where the machine stands still, the deadline comes before the last piece.
  await stranger.link.dribble(subscribe().subarray(0, 20), 3).catch(() => {});
  await stranger.link.end();
  await scene.refuses(/^v9: the rest of its message did not come within 300 ms \(option handshakeTimeoutMs\)$/);
  consumer.link.send(request.subarray(20));
  await consumer.expectReady(slot.token);
}, SKIP);

guarded("no message is longer than one with two full lists", async (held) => {
  const scene = await Scene.open(held);
  const longest = scene.connect();
  longest.link.send(Uint8Array.of(28, 0, 128, 0));
  const longer = scene.connect();
  longer.link.send(Uint8Array.of(29, 0, 128, 0));
  await longer.link.end();
  await scene.refuses(/^v9: .*it has 8388637 bytes, the limit is 8388636/);
}, SKIP);

guarded("descriptors that come along are refused", async (held) => {
  const scene = await Scene.open(held);
  const { slot } = await scene.slot();
  const stranger = scene.connect();
  stranger.link.send(subscribe(), [slot.wake.fd]);
  await stranger.link.end();
  await scene.refuses(/^v9: .*it brought descriptors that nobody asked for/);
}, SKIP);

guarded("connections that never ask for a slot are bounded", async (held) => {
  const scene = await Scene.open(held);
  const honest = await scene.slot();
  const nobody = ping({ index: 9, generation: 9n });
  const idle = Array.from({ length: 260 }, () => {
    const consumer = scene.connect();
    consumer.link.send(nobody);
    return consumer;
  });
  await eventually("the oldest are closed", () => {
    return idle.slice(0, 4).every(({ link }) => link.receiveOnce() !== undefined && link.isEnded);
  });
  await scene.refuses(...Array(4).fill(/^v9: 256 connections had no slot, and this was the oldest of them$/));
  const slot = await idle.at(-1)!.open();
  assert.equal(slot.token.index, 1);
  assert.ok(!honest.consumer.link.isEnded);
}, SKIP);

for (const runtime of RUNTIMES) {
  guarded(`200 messages of 16 MiB that are announced and never come take no memory, in ${runtime}`, async (held) => {
    const temporary = held.use(new Temporary());
    const path = temporary.at("s.sock");
    const agent = held.use(new Agent(runtime));
    await agent.run(async (scope, path) => {
      scope.sender = await scope.qlaster.setupSender({ path, ringCapacityBytes: 65536, handshakeTimeoutMs: 60_000 });
    }, path);
    const rss = () => {
      return Number(/VmRSS:\s*(\d+) kB/.exec(readFileSync(`/proc/${agent.pid}/status`, "utf8"))![1]) * 1024;
    };
    const half = () => held.use(new RawV9Consumer(path));
    await half().open();
    const before = rss();
    for (let i = 0; i < 200; i++) half().link.send(Uint8Array.of(0, 0, 0, 1, 9, 1, 255)); // 16 MiB, three bytes of it
    await half().open(); // behind them in the queue
    await agent.run(() => new Promise((resolve) => setTimeout(resolve, 200))); // handshakes look every 50 ms
    const grown = rss() - before;
    assert.ok(grown < 200 * MIB, `${grown} bytes`);
  }, SKIP);

  guarded(`accepting goes on after descriptors ran out, in ${runtime}`, async (held) => {
    const temporary = held.use(new Temporary());
    const path = temporary.at("s.sock");
    const openFilesMax = 120;
    const agent = held.use(new Agent(runtime, { openFilesMax }));
    await agent.run(async (scope, path) => {
      const v9 = { slotsMax: 255 };
      scope.sender = await scope.qlaster.setupSender({
        path,
        ringCapacityBytes: 65536,
        v9,
        handshakeTimeoutMs: 20_000,
      });
    }, path);
    const honest = held.use(new RawV9Consumer(path));
    const slot = await honest.open();
    const many = Array.from({ length: 60 }, () => held.use(new RawV9Consumer(path)));
    for (const { link } of many) link.send(subscribe());
    await eventually("descriptors run out", () => footprintOf(agent.pid).descriptors.length >= openFilesMax - 6);
    await agent.run(({ sender }) => sender.publishSlot({ slot: 1n, parent: 0n, status: "processed" }));
    assert.equal((await slot.frames(1)).length, 1, "those who were there go on");
    for (const consumer of many) consumer[Symbol.dispose]();
    // A place in the queue may still be refused while the others are cleared away.
    let fresh: RawV9Slot | undefined;
    await eventually("somebody new gets a slot", async () => {
      const consumer = held.use(new RawV9Consumer(path));
      consumer.link.send(subscribe());
      const received = await consumer.link.received();
      if (received.bytes.length > 0) fresh = consumer.taken(received);
      return fresh !== undefined;
    });
    await agent.run(({ sender }) => sender.publishSlot({ slot: 2n, parent: 1n, status: "processed" }));
    assert.deepEqual([(await fresh!.frames(1)).length, (await slot.frames(1)).length], [1, 1]);
  }, SKIP);
}

guarded("messages that are never finished are bounded over all connections: the oldest go", async (held) => {
  const scene = await Scene.open(held, { handshakeTimeoutMs: 60_000 });
  const honest = await scene.slot();
  const begun = framed(new Uint8Array(8 * MIB)).subarray(0, 7 * MIB);
  const first = scene.connect();
  await first.open(); // one with a slot, and its second message
  const links = [first.link, ...Array.from({ length: 11 }, () => scene.connect().link)];
  for (const link of links) {
    try {
      await link.sendLong(begun);
    } catch {
      // Closed meanwhile.
    }
  }
  // Nine times 7 MiB fit into 64.
  await eventually(
    "three are closed",
    () => links.slice(0, 3).every((link) => link.unread.length === 0 && link.isEnded),
  );
  await scene.refuses(
    /^v9: unfinished messages took more than 67108864 bytes, and its was the oldest$/,
    /^v9: unfinished messages took more than/,
  );
  assert.deepEqual(scene.ends, ["evicted"]);
  for (const link of links.slice(3)) assert.ok(link.unread.length === 0 && !link.isEnded);
  await honest.consumer.subscribe(honest.slot.token, { accounts: [key(1)] });
  scene.sender.publishAccount(account());
  assert.equal((await honest.slot.frames(1)).length, 1);
}, SKIP);
