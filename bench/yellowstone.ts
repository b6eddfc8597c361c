/**
 * Question: how many account updates a second pass from a Geyser stream's socket into a ring, by our source? Unit:
 * thousands a second of processor time, all threads of the client counted, but not the reading of the ring, which is done
 * there as well; by the clock, with the reading, in the conditions. Rival:
 * `@grpc/grpc-js` with protobufjs, in the same run, from the same server.
 *
 * @module
 */

import { createServer } from "node:net";
import { join } from "node:path";
import type { Bench, BenchContext } from "./bench.ts";
import { type BenchRecord, compared, recordFromRuns } from "./record.ts";
import { type Runtime, RUNTIMES, Workers } from "./worker.ts";
import type { GeyserClient, GeyserClientResult, GeyserClientTask, GeyserServerTask } from "./workers/geyser_task.ts";

const DATA_BYTES = 165;
/** Rivals first: ours are compared with them. Updates of a run, so that each takes less than a second. */
const CLIENTS: readonly (readonly [client: GeyserClient, updates: number, peer?: GeyserClient])[] = [
  ["grpc-js raw", 100_000],
  ["grpc-js decoded", 60_000],
  ["grpc-js to ring", 60_000],
  ["source", 400_000, "grpc-js decoded"],
  ["source to ring", 500_000, "grpc-js to ring"],
];

async function* run(context: BenchContext): AsyncGenerator<BenchRecord> {
  for (const runtime of RUNTIMES) {
    const found = new Map<GeyserClient, BenchRecord>();
    for (const [client, updates, peer] of CLIENTS) {
      context.note(`yellowstone: ${client} in ${runtime}`);
      const { cpu, wall } = await measure(context, runtime, client, updates);
      const name = `yellowstone ${DATA_BYTES} B, ${runtime}: ${client}`;
      const byClock = recordFromRuns(name, "k/s", wall.map((value) => value / 1000));
      const conditions = { "by the clock": byClock.value, updates };
      const record = recordFromRuns(name, "k/s of a core", cpu.map((value) => value / 1000), conditions);
      found.set(client, record);
      yield compared(record, peer && found.get(peer));
    }
  }
}

async function measure(
  { directory, quick }: BenchContext,
  runtime: Runtime,
  client: GeyserClient,
  updates: number,
): Promise<GeyserClientResult> {
  await using workers = new Workers();
  const port = await freePort();
  const runs = 5;
  const serverTask: GeyserServerTask = { port, dataBytes: DATA_BYTES, streams: runs };
  const task: GeyserClientTask = {
    port,
    path: join(directory, `yellowstone-${runtime}.sock`),
    client,
    runs,
    updates: quick ? updates / 20 : updates,
  };
  // In Bun: Deno's HTTP/2 server does not survive clients that leave in the midst of a stream.
  const server = workers.start("bun", "geyser_server.ts", serverTask, 0);
  const result = workers.start<GeyserClientResult>(runtime, "geyser_client.ts", task, 1);
  server.catch(() => {}); // if it fails, so does its client
  return await result;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export const yellowstone: Bench = {
  name: "yellowstone",
  question: "How many updates a second pass from a Geyser stream's socket into a ring?",
  run,
};
