/**
 * Idle consumers of fanout_load.ts, many in one process: says how much memory it has before and after.
 * May touch: consumers, /proc/self/smaps_rollup. They end with their first update.
 *
 * @module
 */

import { connectToSender } from "./connect.ts";
import { type IdleResult, type IdleTask, keyOf, residentBytes, SETTLE_MS } from "./load_task.ts";
import { answer, taskFromArguments } from "./task.ts";

const task = taskFromArguments<IdleTask & { readonly here: number }>();
// The first one brings the library, and code that all share.
const first = await connectToSender(task.path, { connectTimeoutMs: 60_000 });
await first.subscribe({ accounts: [keyOf(0)] });
const before = residentBytes();
const consumers = [first];
for (let i = 1; i < task.here; i++) {
  const consumer = await connectToSender(task.path, { connectTimeoutMs: 60_000, requestTimeoutMs: 60_000 });
  await consumer.subscribe({ accounts: [keyOf(0)] });
  consumers.push(consumer);
}
const updates = Promise.all(consumers.map((consumer) => consumer.next()));
await new Promise((resolve) => setTimeout(resolve, SETTLE_MS / 2));
const after = residentBytes();
await updates;
await Promise.all(consumers.map((consumer) => consumer.close()));
answer({ before, after } satisfies IdleResult);
