/**
 * Question: what does an update cost its consumer, by each way to read it and by what is made of it, and does the loop leave
 * garbage? Unit: ns per update; bytes (Deno) or objects (Bun) per update, not yet collected. Rival: `poll` with a slot number, a length and 8 bytes of data.
 *
 * @module
 */

import { join } from "node:path";
import type { Bench, BenchContext } from "./bench.ts";
import { type BenchRecord, compared, recordFromRuns } from "./record.ts";
import { RUNTIMES, Workers } from "./worker.ts";
import type { CostsResult, CostsTask } from "./workers/consumer_costs_task.ts";

const RUNS = 9;
const RUNS_QUICK = 5;
const GARBAGE_UPDATES = 10_000_000;
const GARBAGE_UPDATES_QUICK = 200_000;

async function* run(context: BenchContext): AsyncGenerator<BenchRecord> {
  for (const runtime of RUNTIMES) {
    context.note(`costs: ${runtime}`);
    await using workers = new Workers();
    const task: CostsTask = {
      path: join(context.directory, "costs.sock"),
      runs: context.quick ? RUNS_QUICK : RUNS,
      garbageUpdates: context.quick ? GARBAGE_UPDATES_QUICK : GARBAGE_UPDATES,
    };
    const { costs, garbage, unit } = await workers.start<CostsResult>(runtime, "consumer_costs_task.ts", task, 1);
    const records = Object.entries(costs).map(([way, ns]) => recordFromRuns(`costs ${runtime}: ${way}`, "ns", ns));
    const [poll] = records;
    yield poll!;
    for (const record of records.slice(1)) yield compared(record, poll);
    for (const [loop, { updates, amount }] of Object.entries(garbage)) {
      yield recordFromRuns(`costs ${runtime}: garbage per update, ${loop}`, unit, [amount / updates], { updates });
    }
  }
}

export const consumerCosts: Bench = {
  name: "costs",
  question: "What does an update cost its consumer, by each way to read it, and does it leave garbage?",
  run,
};
