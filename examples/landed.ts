/**
 * Did my transaction land? Asked of the local feed, before it is sent:
 *
 *   deno run --allow-ffi examples/landed.ts SIGNATURE [PATH [SECONDS]]      bun examples/landed.ts SIGNATURE [PATH [SECONDS]]
 *
 * @module
 */

import process from "node:process";
import { setupConsumer } from "@qlaster/core";

/** Where and how a transaction was executed; undefined if that is not known within the time. */
async function landed(path: string, signature: string, seconds: number) {
  await using consumer = await setupConsumer(path, { signal: AbortSignal.timeout(1000 * seconds) });
  await consumer.setFilter("mine", { transactions: { signature } });
  console.log("waiting"); // send it now
  let found: { slot: bigint; index: number; failed: boolean } | undefined;
  for await (const update of consumer) {
    if (update.kind === "transaction") {
      const { slot, index, failed } = update;
      found = { slot, index, failed };
      console.log("processed in slot", slot);
    } else if (update.kind === "slot" && update.slot === found?.slot) {
      if (update.status === "confirmed") return found;
      if (update.status === "dead") found = undefined; // its fork died; it may land once more
    }
  }
  return undefined; // the signal ends the loop quietly
}

const [signature = "", path = "/tmp/qlaster.sock", seconds = "60"] = process.argv.slice(2);
const result = await landed(path, signature, Number(seconds));
if (result === undefined) console.log("not seen");
else console.log(result.failed ? "confirmed, and failed" : "confirmed", `in slot ${result.slot}, #${result.index}`);
process.exitCode = result === undefined ? 1 : 0;
