/**
 * The sender process of the demo: LiteSVM's updates go into shared memory, paced as a cluster would.
 * May touch: the socket at its path, its log, its stdout.
 * May not touch: what a consumer gets. It does not even know the filters.
 * Why it waits for the consumers: the checker expects that each of them got the very first update.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { setTimeout as sleep } from "node:timers/promises";
import { type Sender, setupSender } from "../../mod.ts";
import { litesvmFeed } from "./litesvm_feed.ts";
import { say, type SenderTask, startReporting, taskFromArguments } from "./messages.ts";
import { UpdateCounter } from "./update_counter.ts";
import { recordFromUpdate, UpdateLog } from "./update_log.ts";

const MS_PER_SLOT = 400;
const TRANSACTIONS_PER_SLOT_MIN = 150;
const CONSUMERS_TIMEOUT_MS = 30_000;
/** A timer can't wait for less; being ahead by less than that does not matter. */
const TIMER_MS_MIN = 1;

const task = taskFromArguments<SenderTask>();
const slots = Math.max(1, Math.floor((task.seconds * 1000) / MS_PER_SLOT));
const transactionsPerSlot = Math.max(TRANSACTIONS_PER_SLOT_MIN, Math.ceil(task.transactionsMin / slots));

const feed = await litesvmFeed({ slots, transactionsPerSlot });
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
  tokenAccounts: feed.tokenAccounts.map((key) => Buffer.from(key).toString("base64")),
  tokenProgram: Buffer.from(feed.tokenProgram).toString("base64"),
});
await waitForConsumers();
await publishAll(sender, log);

async function waitForConsumers(): Promise<void> {
  const timer = setTimeout(
    () => subscribed.reject(new Error(`Only ${subscribers.size} of ${task.consumers} consumers have subscribed`)),
    CONSUMERS_TIMEOUT_MS,
  );
  await subscribed.promise.finally(() => clearTimeout(timer));
}

async function publishAll(sender: Sender, log: UpdateLog): Promise<void> {
  const counter = new UpdateCounter();
  const start = performance.now();
  let slot = 0n;
  let transactions = 0;
  using _reporting = startReporting(() => ({
    type: "sender",
    ...counter.sample(),
    slot: slot.toString(),
    elapsedSeconds: (performance.now() - start) / 1000,
  }));

  for await (const batch of feed.updates) {
    log.write(...batch.map(recordFromUpdate));
    sender.publishBatch(batch);

    for (const update of batch) counter.add(update.kind);
    const transaction = batch.find(({ kind }) => kind === "transaction");
    if (!transaction) continue;
    slot = transaction.slot;
    transactions++;
    const aheadMs = start + (transactions * MS_PER_SLOT) / transactionsPerSlot - performance.now();
    if (aheadMs >= TIMER_MS_MIN) await sleep(aheadMs);
  }
}
