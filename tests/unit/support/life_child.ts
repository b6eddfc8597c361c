/**
 * The program of life_test.ts: opens what its name says, then has nothing more to do. A process that is kept alive says so
 * after a while that its caller sets (by a timer that keeps nothing alive), closes what it has, and ends.
 * May touch: the public API.
 *
 * @module
 */

import process from "node:process";
import { setTimeout } from "node:timers";
import { setupConsumer, setupSender } from "../../../mod.ts";
import { until } from "./watchdog.ts";

const [name = "", path = "", laterMs = ""] = process.argv.slice(2);

const sender = await setupSender({ path, ringCapacityBytes: 65536 });
const open: { close(): Promise<void> }[] = [sender];
switch (name) {
  case "sender":
    break;
  case "sender unref":
    sender.unref();
    break;
  case "sender unref ref":
    sender.unref();
    sender.ref();
    break;
  case "both unref before they meet":
    sender.unref();
    (await connect()).unref();
    break;
  default: {
    const consumer = await connect();
    sender.unref();
    if (name.startsWith("consumer unref")) consumer.unref();
    if (name === "consumer unref ref") consumer.ref();
  }
}
console.log("ready");
setTimeout(() => {
  console.log("alive");
  for (const each of open.reverse()) void each.close();
}, Number(laterMs)).unref();

async function connect() {
  const consumer = await setupConsumer(path);
  open.push(consumer);
  await until(() => sender.metrics.consumers === 1, "the consumer");
  return consumer;
}
