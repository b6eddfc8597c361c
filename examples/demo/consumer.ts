/**
 * A consumer process of the demo: it reads what its filter selects, logs all of it, and says how it goes.
 * May touch: the socket at its path, its filter and log, its stdout.
 * May not touch: what is right. It logs what it got, whatever that is; checker.ts judges.
 * Why it decodes so little: whoever decodes every update measures the decoder, not the stream.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { readFileSync } from "node:fs";
import { build } from "hdr-histogram-js";
import { setupConsumer } from "../../mod.ts";
import {
  type ConsumerFilter,
  type ConsumerReport,
  type ConsumerTask,
  startReporting,
  taskFromArguments,
} from "./messages.ts";
import { RecentBalances, RecentTransfers } from "./token_decoder.ts";
import { UpdateCounter } from "./update_counter.ts";
import { recordFromReceived, UpdateLog } from "./update_log.ts";

const LOG_BUFFER_BYTES = 64 * 1024;

const task = taskFromArguments<ConsumerTask>();
const filter: ConsumerFilter = JSON.parse(readFileSync(task.filter, "utf8"));
const counter = new UpdateCounter();
const lagUs = build();
const transfers = new RecentTransfers(5);
const balances = new RecentBalances(3);

using log = new UpdateLog(task.log, LOG_BUFFER_BYTES);
await using consumer = await setupConsumer(task.path, { reconnect: false, name: task.name });
using _reporting = startReporting(report);
await consumer.subscribe({
  accounts: filter.accounts.map((key) => Buffer.from(key, "base64")),
  owners: filter.owners.map((key) => Buffer.from(key, "base64")),
  transactions: filter.transactions,
});

// Ends when the sender has closed and everything was read; throws if it is gone, or if this process was too slow.
for await (const update of consumer) {
  const { kind } = update;
  if (kind !== "account" && kind !== "transaction" && kind !== "slot" && kind !== "gap") continue; // not published
  lagUs.recordValue(Math.max(1, Math.round(update.ageUs))); // before the log line, which takes longer than the stream
  log.write(recordFromReceived(update));
  if (update.kind === "gap") continue;
  counter.add(update.kind);
  if (update.kind === "transaction" && update.message.length > 0) transfers.add(update); // an RPC has none
  if (update.kind === "account") balances.add(update);
}

function report(): ConsumerReport {
  const { lost, ring } = consumer.metrics;
  return {
    type: "consumer",
    ...counter.sample(),
    lagUs: { p50: lagUs.getValueAtPercentile(50), p99: lagUs.getValueAtPercentile(99) },
    lost,
    ring,
    transfers: transfers.decode(),
    balances: balances.decode(),
  };
}
