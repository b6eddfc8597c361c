/**
 * A server of the demo that is not ours: it runs the bank, and tells what happens in it as a Yellowstone or a JSON-RPC server
 * would, to the one that subscribes. Run by Bun: Deno's HTTP/2 server does not survive every client.
 * May touch: sockets of the loopback, its stdout.
 * May not touch: the library; the protocol is encoded by protobufjs.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import process from "node:process";
import { getAddressDecoder } from "@solana/kit";
import { litesvmFeed } from "./litesvm_feed.ts";
import { say, taskFromArguments, type UpstreamTask } from "./messages.ts";
import { Pace, planOf } from "./plan.ts";
import type { Upstream } from "./upstream_server.ts";

const task = taskFromArguments<UpstreamTask>();
const plan = planOf(task);
const feed = await litesvmFeed(plan);
const address = (key: Uint8Array) => getAddressDecoder().decode(key);
const wanted = {
  program: address(feed.tokenProgram),
  accounts: feed.tokenAccounts.slice(0, task.accounts).map(address),
};
const server: Upstream = task.source === "yellowstone"
  ? await (await import("./upstream_yellowstone.ts")).serveYellowstone(wanted, task.log)
  : (await import("./upstream_rpc.ts")).serveRpc(wanted);
const base64 = (key: Uint8Array) => Buffer.from(key).toString("base64");
say({
  type: "upstream",
  url: server.url,
  tokenAccounts: feed.tokenAccounts.map(base64),
  tokenProgram: base64(feed.tokenProgram),
});

const start = await feed.updates.next(); // the state at the beginning
server.setState(start.value ?? []);
await server.subscribed;
const pace = new Pace(plan);
await server.tell(start.value ?? []);
for await (const batch of feed.updates) {
  await server.tell(batch);
  if (batch.some(({ kind }) => kind === "transaction")) await pace.next();
}
await server.left; // whoever has read all of it goes
process.exit(0);
