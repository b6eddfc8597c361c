/**
 * How old updates are when a loop gets them, every second: from the sender's publish, and from its source where that says.
 *
 *   deno run --allow-ffi examples/latency_probe.ts [PATH [IDLE]]      bun examples/latency_probe.ts [PATH [IDLE]]
 *
 * IDLE is how the loop waits: adaptive (the default), park, yield or spin. Ages are by the wall clock of this host.
 *
 * @module
 */

import process from "node:process";
import { type IdleStrategy, setupConsumer } from "@qlaster/core";

const [path = "/tmp/qlaster.sock", idle = "adaptive"] = process.argv.slice(2);
await using consumer = await setupConsumer(path, { idle: idle as IdleStrategy, policy: "drop-oldest" });
await consumer.setFilter("all", { accounts: true });
await consumer.setFilter("transactions", { transactions: true });
console.log("probing");

/** The value below which so much of a sorted list is. */
function quantile(sorted: readonly number[], share: number): string {
  return sorted.length === 0 ? "-" : sorted[Math.ceil(share * sorted.length) - 1]!.toFixed(1);
}

let published: number[] = [];
let sources: number[] = [];

setInterval(() => {
  for (const [name, ages] of [["publish", published], ["source", sources]] as const) {
    ages.sort((a, b) => a - b);
    const [p50, p99, max] = [0.5, 0.99, 1].map((share) => quantile(ages, share));
    console.log(`${ages.length} updates since ${name}: p50 ${p50}, p99 ${p99}, max ${max} µs`);
  }
  const { frames, ageUs } = consumer.lag();
  if (frames > 0) console.log(`${frames} unread, the oldest for ${ageUs.toFixed(0)} µs`);
  [published, sources] = [[], []];
}, 1000);

for await (const update of consumer) {
  const age = update.ageUs;
  published.push(age);
  if (update.sourceNs > 0n) sources.push(age + Number(update.publishNs - update.sourceNs) / 1000);
}
process.exit(); // the interval would keep it
