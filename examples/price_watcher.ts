/**
 * Prices of Orca's Whirlpools, each when it moves:
 *
 *   deno run --allow-ffi examples/price_watcher.ts [PATH]      bun examples/price_watcher.ts [PATH]
 *
 * A pool has 653 bytes, of which 16 travel here: the square root of its price, with 64 bits behind the point. Who is slow
 * gets of each pool the newest, and is told how many older ones were left out.
 * Source of the layout: `state/whirlpool.rs` of the Whirlpool program. The price is in the tokens' smallest units.
 *
 * @module
 */

import process from "node:process";
import { bytesFromAddress, setupConsumer } from "@qlaster/core";

const WHIRLPOOL_PROGRAM = bytesFromAddress("whirLbMiicVdio4qvUfM5KAg6Ct8VwpYzGff3uctyCc");
const POOL_SIZE = 653;
const SQRT_PRICE = { offset: 65, length: 16 };

const [path = "/tmp/qlaster.sock"] = process.argv.slice(2);
await using consumer = await setupConsumer(path, { policy: "conflate" });
await consumer.setFilter("pools", {
  accounts: { owners: [WHIRLPOOL_PROGRAM], dataSize: POOL_SIZE, dataSlice: SQRT_PRICE, onlyChanged: true },
});
console.log("watching");

for await (const update of consumer) {
  if (update.conflated > 0) console.log(`${update.conflated} older prices left out`);
  if (update.kind !== "account") continue;
  const root = update.u64NumberAt(8) + update.u64NumberAt(0) / 2 ** 64;
  console.log(`slot ${update.slot}: ${update.address} ${(root ** 2).toPrecision(6)}`);
}
