/**
 * The sender of fanout_load.ts: a piece of the stream each millisecond, then perhaps a burst.
 * May touch: a sender. Updates are made beforehand: what is measured is publishing, not their source.
 *
 * @module
 */

import process from "node:process";
import { type AccountUpdate, setupSender } from "../../mod.ts";
import { nowNs } from "../clock.ts";
import { OWNER } from "./keys.ts";
import {
  ACCOUNTS,
  AWAY_MS,
  keyOf,
  lengthFrom,
  type LoadSenderResult,
  type LoadTask,
  randomFrom,
  SETTLE_MS,
} from "./load_task.ts";
import { answer, taskFromArguments } from "./task.ts";

/** Different updates that are published in turn. */
const UPDATES = 4096;
const BUFFER_BYTES = 10 * 2 ** 20;

const task = taskFromArguments<LoadTask>();
const random = randomFrom(42);
const buffer = new Uint8Array(BUFFER_BYTES).fill(1);
const updates = Array.from({ length: UPDATES }, (): AccountUpdate => {
  const length = lengthFrom(task.mix, random);
  // Not all from the same place: a source's data is not in a cache either.
  const at = Math.floor(random() * (BUFFER_BYTES - length));
  return {
    kind: "account",
    pubkey: keyOf(Math.floor(random() * ACCOUNTS)),
    owner: OWNER,
    lamports: 1n,
    slot: 1n, // and no write version: the next time round none of them is older than the one before
    data: buffer.subarray(at, at + length),
  };
});

let subscribed = 0;
let gone = 0;
const all = Promise.withResolvers<void>();
const none = Promise.withResolvers<void>();
const sender = await setupSender({
  path: task.path,
  onSubscription: () => void (++subscribed === task.consumers && all.resolve()),
  onConsumer: ({ type }) => void (type === "disconnected" && ++gone === task.consumers && none.resolve()),
});
await all.promise;
await pause(SETTLE_MS);

let next = 0;
let published = 0;
let deliveries = 0;
let publishing = 0;
let ringBytesMax = 0;
let poolBytesMax = 0;

function* take(count: number): Generator<AccountUpdate> {
  for (let i = 0; i < count; i++) yield updates[next++ % UPDATES]!;
}

function publish(count: number): number {
  const started = nowNs();
  deliveries += sender.publishBatch(take(count));
  const ns = nowNs() - started;
  published += count;
  return ns;
}

function look(): void {
  for (const { ring, poolBytes } of sender.consumers()) {
    ringBytesMax = Math.max(ringBytesMax, ring.usedBytes);
    poolBytesMax = Math.max(poolBytesMax, poolBytes);
  }
}

const cpu = process.cpuUsage();
const started = nowNs();
const total = task.perSecond * task.seconds;
for (let looks = 0; published < total;) {
  // As many as are due by now.
  const due = Math.min(total, Math.floor((nowNs() - started) / 1e9 * task.perSecond)) - published;
  if (due > 0) publishing += publish(due);
  if (++looks % 100 === 0) look();
  await pause(1);
}
const { user, system } = process.cpuUsage(cpu);
const load = (user + system) * 1000 / (nowNs() - started);
const publishNs = publishing / published;

let burstNs = 0;
let burstBytes = 0;
if (task.burst > 0) {
  await pause(AWAY_MS); // consumers have counted and look away by now
  for (let i = 0; i < task.burst; i++) burstBytes += updates[(next + i) % UPDATES]!.data.length;
  burstNs = publish(task.burst);
  look();
}
const { lost } = sender.metrics;
await Promise.race([none.promise, pause(20_000)]);
answer(
  {
    load,
    published,
    deliveries,
    lost: Number(lost),
    publishNs,
    burstNs: task.burst > 0 ? burstNs / task.burst : 0,
    burstBytes,
    ringBytesMax,
    poolBytesMax,
  } satisfies LoadSenderResult,
);

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
