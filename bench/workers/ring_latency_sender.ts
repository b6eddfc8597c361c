/**
 * The sender of ring_latency.ts: one account at a time, at a steady pace, with the time just before `publishAccount`.
 * May touch: a sender. Its core is kept busy between two messages: what is measured is the consumer's way to wake up.
 *
 * @module
 */

import { type AccountUpdate, setupSender } from "../../mod.ts";
import { nowNs, waitUntil } from "../clock.ts";
import { Message } from "../message.ts";
import { OWNER, PUBKEY } from "./keys.ts";
import { type LatencyTask, SETTLE_MS, WARM_UP } from "./latency_task.ts";
import { answer, taskFromArguments } from "./task.ts";

const task = taskFromArguments<LatencyTask>();
const message = new Message(task.bytes);
const update: AccountUpdate = {
  kind: "account",
  pubkey: PUBKEY,
  owner: OWNER,
  lamports: 1n,
  slot: 1n,
  data: message.bytes,
};
const sender = await setupSender({ path: task.path });
const consumerGone = new Promise<void>((resolve) => {
  sender.onConsumer(({ type }) => type === "disconnected" && resolve());
});
await new Promise<void>((resolve) => void sender.onSubscription(() => resolve()));
let next = nowNs() + SETTLE_MS * 1e6;
for (let sequence = 1; sequence <= WARM_UP + task.samples; sequence++) {
  await waitUntil(next);
  message.number(sequence);
  const sent = nowNs();
  message.time(sent);
  if (sender.publishAccount(update) !== 1) throw new Error("The consumer is gone");
  next = sent + task.gapUs * 1000;
}
await consumerGone;
answer({});
