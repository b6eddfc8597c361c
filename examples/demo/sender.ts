/**
 * The sender process of the demo: LiteSVM's updates go into shared memory, paced as a cluster would; by way of one of the
 * library's sources if that was asked for.
 * May touch: the socket at its path, its log, its stdout.
 * May not touch: what a consumer gets. It does not even know the filters.
 * Why it waits for the consumers: the checker expects that each of them got the very first update.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { type Sender, setupSender } from "../../mod.ts";
import { demoSource } from "./demo_source.ts";
import { say, type SenderTask, startReporting, taskFromArguments } from "./messages.ts";
import { Pace, planOf } from "./plan.ts";
import { UpdateCounter } from "./update_counter.ts";
import { recordFromUpdate, UpdateLog } from "./update_log.ts";

const CONSUMERS_TIMEOUT_MS = 30_000;

const task = taskFromArguments<SenderTask>();
const source = await demoSource(task);
using log = new UpdateLog(task.log);
const subscribed = Promise.withResolvers<void>();
const subscribers = new Set<number>();
await using sender = await setupSender({
  path: task.path,
  onSubscription: ({ consumer }) => {
    subscribers.add(consumer.id);
    if (subscribers.size === task.consumers) subscribed.resolve();
  },
});
say({
  type: "ready",
  tokenAccounts: source.tokenAccounts.map((key) => Buffer.from(key).toString("base64")),
  tokenProgram: Buffer.from(source.tokenProgram).toString("base64"),
});
await waitForConsumers(sender);
await publishAll(sender, log);

async function waitForConsumers(sender: Sender): Promise<void> {
  const timer = setTimeout(
    () => subscribed.reject(new Error(`Only ${subscribers.size} of ${task.consumers} consumers have subscribed`)),
    CONSUMERS_TIMEOUT_MS,
  );
  await subscribed.promise.finally(() => clearTimeout(timer));
  // A relay asks for accounts first.
  const isAsked = () => sender.consumers().every(({ transactions }) => transactions);
  while (task.isRelayed && !isAsked()) await new Promise((resolve) => setTimeout(resolve, 1));
}

async function publishAll(sender: Sender, log: UpdateLog): Promise<void> {
  const counter = new UpdateCounter();
  const start = performance.now();
  let slot = 0n;
  using _reporting = startReporting(() => ({
    type: "sender",
    ...counter.sample(),
    slot: slot.toString(),
    elapsedSeconds: (performance.now() - start) / 1000,
  }));

  const pace = new Pace(planOf(task));
  for await (const batch of source.open(sender)) {
    log.write(...batch.map(recordFromUpdate));
    sender.publishBatch(batch);

    for (const update of batch) counter.add(update.kind);
    const last = batch.findLast(({ kind }) => kind === "transaction");
    if (last === undefined) continue;
    slot = last.slot;
    if (!source.isPaced) await pace.next();
  }
}
