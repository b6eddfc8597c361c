/**
 * The consumer of ring_latency.ts: `for await` with the strategy that is asked for, or a loop around `poll`.
 * May touch: a consumer. Two latencies: from before `publishAccount`, and from the frame's own time stamp, which the
 * native library takes just before it copies the frame.
 *
 * @module
 */

import type { Consumer, UpdateView } from "../../mod.ts";
import { nowNs, nsFromFrame } from "../clock.ts";
import { LINE, NUMBER_AT, TIME_AT } from "../message.ts";
import { LatencyRecorder } from "../percentiles.ts";
import { connectToSender } from "./connect.ts";
import { PUBKEY } from "./keys.ts";
import { type LatencyTask, WARM_UP } from "./latency_task.ts";
import { answer, taskFromArguments } from "./task.ts";

const task = taskFromArguments<LatencyTask>();
const last = WARM_UP + task.samples;
const fromCall = new LatencyRecorder(task.samples);
const fromFrame = new LatencyRecorder(task.samples);
let sequence = 0;

function onUpdate(update: UpdateView): void {
  const read = nowNs();
  if (update.kind !== "account") throw new Error(`A ${update.kind} came, and only accounts were published`);
  let touched = 0;
  for (let at = LINE; at < task.bytes; at += LINE) touched += update.u8At(at);
  if (update.u32At(NUMBER_AT) !== ++sequence || touched === 0) {
    throw new Error(`Update ${sequence} is not what was published`);
  }
  if (sequence <= WARM_UP) return;
  fromCall.record(read - update.f64At(TIME_AT));
  fromFrame.record(read - nsFromFrame(update.publishNs));
}

async function readAll(consumer: Consumer): Promise<void> {
  if (task.waiting === "poll") {
    while (sequence < last) consumer.poll(onUpdate);
    return;
  }
  for await (const update of consumer) {
    onUpdate(update);
    if (sequence === last) break;
  }
}

const consumer = await connectToSender(task.path, task.waiting === "poll" ? {} : { idle: task.waiting });
await consumer.subscribe({ accounts: [PUBKEY] });
await readAll(consumer);
const { parks } = consumer.metrics;
await consumer.close();
answer({ fromCall: fromCall.percentiles(), fromFrame: fromFrame.percentiles(), parks });
