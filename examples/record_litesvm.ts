/**
 * Makes a recording of real SPL-token transfers, for benches, tests and replays:
 *
 *     deno run -A examples/record_litesvm.ts DIRECTORY [TRANSACTIONS]     (or: bun …)
 *
 * 20,000 transactions unless told otherwise, executed by LiteSVM, each with the accounts that it wrote, in slots of 400 ms.
 * May touch: the directory, stdout.
 */

import process from "node:process";
import { Recorder } from "../src/recording/mod.ts";
import { litesvmFeed } from "./demo/litesvm_feed.ts";

const [directory, wanted = "20000"] = process.argv.slice(2);
if (directory === undefined || !/^\d+$/.test(wanted)) {
  console.error("usage: record_litesvm.ts DIRECTORY [TRANSACTIONS]");
  process.exit(2);
}
const PER_SLOT = 500;
const SLOT_NS = 400_000_000n;
const START_NS = 1_760_000_000_000_000_000n;

await using recorder = await Recorder.open(directory);
const feed = await litesvmFeed({
  slots: Math.ceil(Number(wanted) / PER_SLOT),
  transactionsPerSlot: PER_SLOT,
  accounts: 200,
});
let [sequence, transactions, firstSlot] = [0n, 0, -1n];
const startedAt = performance.now();
for await (const updates of feed.updates) {
  for (const update of updates) {
    if (firstSlot < 0n) firstSlot = update.slot;
    sequence++;
    if (update.kind === "transaction" && ++transactions % 5000 === 0) console.log(`${transactions} of ${wanted}`);
    // Times as a cluster would have them, so that a replay at speed 1 takes as long as it did there.
    const publishNs = START_NS + (update.slot - firstSlot) * SLOT_NS;
    recorder.add({ ...update, sequence, publishNs }, publishNs);
  }
}
recorder.flush();
const { updates, fileBytes } = recorder.progress;
const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
console.log(`${transactions} transactions, ${updates} updates, ${fileBytes} bytes in ${directory}, ${seconds} s`);
