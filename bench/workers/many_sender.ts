/**
 * The sender of fanout.ts's end-to-end figures: publishes through the public API, by `publishBatch`.
 * May touch: a sender. The update object is the same each time, and its data changes: making objects is the caller's.
 *
 * @module
 */

import { type AccountUpdate, setupSender } from "../../mod.ts";
import { nowNs } from "../clock.ts";
import { Message } from "../message.ts";
import { OWNER, PUBKEY } from "./keys.ts";
import {
  BATCH,
  FILL_UPDATES,
  FILLS,
  type ManySenderResult,
  type ManyTask,
  RING_BYTES,
  STREAM_UPDATES,
} from "./many_plan.ts";
import { typical, WARM_UP_RUNS } from "./many_plan.ts";
import { answer, taskFromArguments } from "./task.ts";

const task = taskFromArguments<ManyTask>();
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
let subscribed = 0;
let gone = 0;
const all = Promise.withResolvers<void>();
const none = Promise.withResolvers<void>();
const sender = await setupSender({
  path: task.path,
  ringCapacityBytes: RING_BYTES,
  onSubscription: () => void (++subscribed === task.consumers && all.resolve()),
  onConsumer: ({ type }) => void (type === "disconnected" && ++gone === task.consumers && none.resolve()),
});
await all.promise;

function* batch(): Generator<AccountUpdate> {
  for (let i = 0; i < BATCH; i++) {
    message.number(sequence++);
    yield update;
  }
}

function publish(count: number): void {
  for (let left = count; left > 0; left -= BATCH) {
    if (sender.publishBatch(batch()) !== BATCH * task.consumers) throw new Error("A consumer is gone");
  }
}

/** Bytes in the fullest ring. */
function usedBytes(): number {
  return Math.max(...sender.consumers().map(({ ring }) => ring.usedBytes));
}

const fillNs: number[] = [];
for (let run = 0; run < WARM_UP_RUNS + task.runs; run++) {
  const times: number[] = [];
  for (let fill = 0; fill < FILLS; fill++) {
    while (usedBytes() > 0);
    const started = nowNs();
    publish(FILL_UPDATES);
    times.push((nowNs() - started) / FILL_UPDATES);
  }
  if (run >= WARM_UP_RUNS) fillNs.push(typical(times));
}
while (usedBytes() > 0);
for (let left = (WARM_UP_RUNS + task.runs) * STREAM_UPDATES; left > 0; left -= FILL_UPDATES / 2) {
  while (usedBytes() > RING_BYTES / 2);
  publish(FILL_UPDATES / 2);
}
await none.promise;
answer({ fillNs } satisfies ManySenderResult);
