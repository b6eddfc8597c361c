/**
 * A consumer of fanout_load.ts: parks, reads the head of each update, counts; looks away from a burst, then takes it.
 * May touch: a consumer. It ends when it has all that it wants.
 *
 * @module
 */

import process from "node:process";
import type { UpdateView } from "../../mod.ts";
import { nowNs, nsFromFrame } from "../clock.ts";
import { connectToSender } from "./connect.ts";
import { OWNER } from "./keys.ts";
import { LoadLatency } from "./load_latency.ts";
import { AWAY_MS, keyOf, type LoadConsumerResult, type LoadTask } from "./load_task.ts";
import { answer, taskFromArguments } from "./task.ts";

const task = taskFromArguments<LoadTask & { readonly number: number }>();
const consumer = await connectToSender(task.path, { connectTimeoutMs: 20_000, idle: "park" });
const keys = Array.from({ length: task.wanted }, (_, i) => keyOf(task.number * task.wanted + i));
await consumer.subscribe(task.wanted === 0 ? { owners: [OWNER] } : { accounts: keys });

const latency = new LoadLatency();
let received = 0;
function onUpdate(update: UpdateView): void {
  received++;
  latency.record(nowNs() - nsFromFrame(update.publishNs));
}

let cpu = process.cpuUsage();
let started = nowNs();
// Who wants a share doesn't know how many updates that is: a while without any is the end.
const end = task.wanted === 0 ? task.perSecond * task.seconds : Infinity;
const timer = setInterval(() => {
  if (received === before && received > 0) finish();
  if (before === 0) {
    cpu = process.cpuUsage();
    started = nowNs();
  }
  before = received;
}, 500);
let before = 0;
let load = 0;

function measureLoad(): void {
  const { user, system } = process.cpuUsage(cpu);
  load = (user + system) * 1000 / (nowNs() - started);
}

for await (const update of consumer) {
  onUpdate(update);
  if (received === end) break;
}
clearInterval(timer);
measureLoad();
if (task.burst > 0) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3 * AWAY_MS);
  const all = received + task.burst;
  const deadline = nowNs() + 10e9;
  while (received < all && nowNs() < deadline) consumer.poll(() => void received++);
}
finish();

function finish(): void {
  if (load === 0) measureLoad();
  const { lost } = consumer.metrics;
  answer({ load, received, lost: Number(lost), ...latency.result() } satisfies LoadConsumerResult);
}
