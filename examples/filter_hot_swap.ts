/**
 * A filter that changes all day: lines of its input add and remove accounts, and the stream says from where on it holds.
 *
 *   deno run --allow-ffi examples/filter_hot_swap.ts [PATH]      bun examples/filter_hot_swap.ts [PATH]
 *   +5ag267qtJvvp4swwj16AfQTkzqme2s5YJnP2CaJVsKeQ
 *   -5ag267qtJvvp4swwj16AfQTkzqme2s5YJnP2CaJVsKeQ
 *
 * @module
 */

import process from "node:process";
import { createInterface } from "node:readline";
import { bytesFromAddress, type Consumer, setupConsumer } from "@qlaster/core";

/** Applies each line when it comes. */
async function followInput(consumer: Consumer): Promise<void> {
  for await (const line of createInterface({ input: process.stdin })) {
    try {
      const keys = [bytesFromAddress(line.slice(1))];
      const edit = line.startsWith("-") ? { remove: keys } : { add: keys };
      const { generation } = await consumer.editFilter("watched", edit);
      console.log(`edit ${generation} is acknowledged`);
    } catch (error) {
      console.log((error as Error).message); // no address, or refused: the filter is as it was
    }
  }
  await consumer.close();
}

const [path = "/tmp/qlaster.sock"] = process.argv.slice(2);
await using consumer = await setupConsumer(path, { marks: true });
await consumer.setFilter("watched", { accounts: { accounts: [] } }); // matches nothing yet
console.log("ready");
void followInput(consumer);

for await (const update of consumer) {
  if (update.kind === "filter") console.log(`edit ${update.generation} holds from sequence ${update.sequence} on`);
  if (update.kind === "account") console.log(`${update.address} has ${update.lamports} lamports`);
}
