/**
 * A hot loop in a Worker: it looks at every write of a program's accounts, and wakes this thread only for large balances.
 *
 *   deno run --allow-ffi --allow-read examples/worker_hot_loop.ts PROGRAM [PATH]      bun examples/worker_hot_loop.ts PROGRAM [PATH]
 *
 * The connection stays with this thread, which is free for timers, RPC and the like. The loop: support/hot_loop.ts.
 *
 * @module
 */

import process from "node:process";
import { bytesFromAddress, setupConsumer } from "@qlaster/core";
import type { Finding } from "./support/hot_loop.ts";

const [program = "", path = "/tmp/qlaster.sock"] = process.argv.slice(2);
await using consumer = await setupConsumer(path, { reconnect: false });
await consumer.setFilter("program", { accounts: { owners: [bytesFromAddress(program)] } });

const worker = new Worker(new URL("./support/hot_loop.ts", import.meta.url), { type: "module" });
worker.onmessage = ({ data }: MessageEvent<Finding>) => {
  console.log(`slot ${data.slot}: ${data.address} has ${data.lamports} lamports (one of ${data.looked})`);
};
worker.postMessage(consumer.share());
console.log("looking");

const { reason } = await consumer.whenEnded;
console.log("over:", reason);
worker.terminate();
