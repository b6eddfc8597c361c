/**
 * The consumers of publish_calls.ts, all in this process. They take a look now and then, all at once, and read nothing of
 * the payloads: what the sender's core does in between is publishing alone.
 * May touch: consumers. They end with their senders.
 *
 * @module
 */

import type { Consumer } from "../../mod.ts";
import { connectToSender } from "./connect.ts";
import { keyOf, type PublishCallsTask, scenePath } from "./publish_task.ts";
import { answer, taskFromArguments } from "./task.ts";

const LOOK_MS = 2;
const KEYS_PER_EDIT = 10_000;

const task = taskFromArguments<PublishCallsTask>();
const consumers: Consumer[] = [];
for (const [number, scene] of task.scenes.entries()) {
  for (let i = 0; i < scene.consumers; i++) {
    const options = { connectTimeoutMs: 60_000, requestTimeoutMs: 60_000 };
    const consumer = await connectToSender(scenePath(task, number), options);
    // An owner each, so that both tables are asked; and so accounts that match can leave the filter: they are remembered.
    await consumer.subscribe({ owners: [keyOf(0x4000_0000 + i)] });
    const accounts: Uint8Array[] = scene.keys === 0 ? [keyOf(0)] : [];
    for (let key = i; key < scene.keys; key += scene.consumers) accounts.push(keyOf(key));
    while (accounts.length > 0) await consumer.subscribe({ accounts: accounts.splice(0, KEYS_PER_EDIT) });
    consumers.push(consumer);
  }
}
while (consumers.some(({ ended }) => ended === undefined)) {
  for (const consumer of consumers) {
    if (consumer.ended === undefined) { while (consumer.poll(() => {}) > 0); }
  }
  await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
}
answer({});
