/**
 * The consumer against a sender of wire version 9 that writes nonsense into its ring or its socket: it ends with a reason.
 * May touch: the public API, a raw sender in this process, /proc.
 *
 * @module
 */

import assert from "node:assert/strict";
import { footprintOf, settlesAt } from "../support/footprint.ts";
import * as raw from "../support/raw_v9.ts";
import type { RawSlot } from "../support/raw_v9_sender.ts";
import { CAPACITY, linux, lost, NEVER_MS, READY, requestOf, slotFrame, Stage } from "./support/consumer_stage.ts";

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
