/**
 * The consumer of ring_throughput.ts: reads by `poll`, checks each message's number and touches each of its lines.
 * May touch: a consumer. Between two empty polls it does nothing: a core of its own is what spinning costs.
 *
 * @module
 */

import type { Consumer, UpdateView } from "../../mod.ts";
import { nowNs } from "../clock.ts";
import { LINE, lineCount, NUMBER_AT } from "../message.ts";
import { connectToSender } from "./connect.ts";
import { PUBKEY } from "./keys.ts";
import { answer, taskFromArguments } from "./task.ts";
import { pause, planOf, type ThroughputTask, WARM_UP_RUNS } from "./throughput_plan.ts";

/** From here on one view of all the data is cheaper than a checked access for each line. */
const DATA_VIEW_MIN = 1024;

const task = taskFromArguments<ThroughputTask>();
const plan = planOf(task);
const lines = lineCount(task.bytes);
let sequence = 1;

function onUpdate(update: UpdateView): void {
  if (update.kind !== "account") throw new Error(`A ${update.kind} came, and only accounts were published`);
  let touched = 0;
  if (task.bytes < DATA_VIEW_MIN) {
    for (let at = LINE; at < task.bytes; at += LINE) touched += update.u8At(at);
  } else {
    const data = update.data;
    for (let at = LINE; at < data.length; at += LINE) touched += data[at]!;
  }
  if (update.u32At(NUMBER_AT) !== sequence || touched !== lines) {
    throw new Error(`Update ${sequence} is not what was published`);
  }
  sequence++;
}

function consume(consumer: Consumer, count: number): void {
  for (let left = count; left > 0;) left -= consumer.poll(onUpdate, Math.min(left, 256));
}

const consumer = await connectToSender(task.path);
await consumer.subscribe({ accounts: [PUBKEY] });
consumer.poll(onUpdate, 1); // the subscription's mark, which the producer waits for to be gone
const drainNs: number[] = [];
const streamNs: number[] = [];
for (let run = 0; run < plan.runs; run++) {
  while (consumer.metrics.ring.usedBytes < plan.fillFrames * plan.frameSize) await pause();
  const started = nowNs();
  consume(consumer, plan.fillFrames);
  if (run >= WARM_UP_RUNS) drainNs.push((nowNs() - started) / plan.fillFrames);
}
let started = nowNs();
for (let run = 0; run < plan.runs; run++) {
  consume(consumer, plan.streamFrames);
  const now = nowNs();
  if (run >= WARM_UP_RUNS) streamNs.push((now - started) / plan.streamFrames);
  started = now;
}
if (consumer.metrics.lost > 0) throw new Error(`${consumer.metrics.lost} updates were lost`);
await consumer.close();
answer({ drainNs, streamNs });
