/**
 * The producer of ring_throughput.ts: publishes through the public API, by `publishAccount` or `publishBatch`.
 * May touch: a sender. The update object is the same each time, and its data changes: making objects is the caller's.
 * Why it looks at `consumers()`: a sender ends the connection whose ring is full, so it must not get full here.
 *
 * @module
 */

import { type AccountUpdate, type Sender, setupSender } from "../../mod.ts";
import { nowNs } from "../clock.ts";
import { Message } from "../message.ts";
import { OWNER, PUBKEY } from "./keys.ts";
import { answer, taskFromArguments } from "./task.ts";
import { CAPACITY, pause, planOf, type ThroughputTask, WARM_UP_RUNS } from "./throughput_plan.ts";

const ROOM = CAPACITY / 2;

const task = taskFromArguments<ThroughputTask>();
const plan = planOf(task);
const message = new Message(task.bytes);
const update: AccountUpdate = {
  kind: "account",
  pubkey: PUBKEY,
  owner: OWNER,
  lamports: 1n,
  slot: 1n,
  data: message.bytes,
};
let sequence = 1;

function publish(sender: Sender, count: number): void {
  for (let i = 0; i < count; i++) {
    message.number(sequence++);
    if (sender.publishAccount(update) !== 1) throw new Error("The consumer is gone");
  }
}

function* updates(count: number): Generator<AccountUpdate> {
  for (let i = 0; i < count; i++) {
    message.number(sequence++);
    yield update;
  }
}

/** Publishes `count` updates that fit the ring. */
function produce(sender: Sender, count: number): void {
  if (task.batch === 1) return publish(sender, count);
  for (let left = count; left > 0; left -= task.batch) {
    const some = Math.min(left, task.batch);
    if (sender.publishBatch(updates(some)) !== some) throw new Error("The consumer is gone");
  }
}

function usedBytes(sender: Sender): number {
  return sender.consumers()[0]!.ring.usedBytes;
}

async function whenEmpty(sender: Sender): Promise<void> {
  while (usedBytes(sender) > 0) await pause();
}

/** Publishes as fast as the consumer lets us: at most a quarter of the ring between two looks. */
function stream(sender: Sender, count: number): void {
  const frames = Math.max(1, Math.floor(CAPACITY / 4 / plan.frameSize));
  for (let left = count; left > 0; left -= frames) {
    while (usedBytes(sender) > ROOM);
    produce(sender, Math.min(left, frames));
  }
}

// Without a pool, so that payloads of all sizes are in the ring, as in floor.zig: what the pool costs fanout.ts asks.
const sender = await setupSender({ path: task.path, ringCapacityBytes: CAPACITY, poolBytes: 0 });
const consumerGone = new Promise<void>((resolve) => {
  sender.onConsumer(({ type }) => type === "disconnected" && resolve());
});
await new Promise<void>((resolve) => void sender.onSubscription(() => resolve()));
const fillNs: number[] = [];
for (let run = 0; run < plan.runs; run++) {
  await whenEmpty(sender);
  const started = nowNs();
  produce(sender, plan.fillFrames);
  if (run >= WARM_UP_RUNS) fillNs.push((nowNs() - started) / plan.fillFrames);
}
await whenEmpty(sender);
stream(sender, plan.runs * plan.streamFrames);
await consumerGone;
answer({ fillNs });
