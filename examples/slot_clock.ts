/**
 * A clock of slots: how long each took, what it held, and how far behind its confirmation and finality are.
 *
 *   deno run --allow-ffi examples/slot_clock.ts [PATH]      bun examples/slot_clock.ts [PATH]
 *
 * @module
 */

import process from "node:process";
import { setupConsumer, type SlotStatus } from "@qlaster/core";

const [path = "/tmp/qlaster.sock"] = process.argv.slice(2);
await using consumer = await setupConsumer(path);
await consumer.setFilter("clock", { slots: { statuses: ["processed", "confirmed", "finalized"] } });
console.log("ticking");

const newest: Partial<Record<SlotStatus, bigint>> = {};
let lastNs: bigint | undefined;

for await (const update of consumer) {
  if (update.kind !== "slot") continue;
  const { slot, status } = update;
  newest[status] = slot;
  if (status !== "processed") continue;
  const ms = lastNs === undefined ? "-" : Number(update.publishNs - lastNs) / 1e6;
  lastNs = update.publishNs;
  const behind = (status: SlotStatus) => newest[status] === undefined ? "unknown" : `${slot - newest[status]} behind`;
  console.log(
    `slot ${slot}: ${ms} ms, ${update.accountsPublished} accounts, ${update.transactionsPublished} transactions;`,
    `confirmed ${behind("confirmed")}, finalized ${behind("finalized")}`,
  );
}
