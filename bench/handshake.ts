/**
 * Question: how long from calling `setupConsumer` to the first frame: alone, in a fresh process, and when 100 consumers
 * come at once? Unit: ms. Rival: the runtime's own Unix socket, from `net.connect` to the first byte.
 *
 * @module
 */

import { join } from "node:path";
import type { Bench, BenchContext } from "./bench.ts";
import { type BenchRecord, compared, recordFromRuns } from "./record.ts";
import { type Runtime, RUNTIMES, Workers } from "./worker.ts";
import type { HandshakeResult, HandshakeTask } from "./workers/handshake_task.ts";

const CONSUMERS = 100;

async function* run(context: BenchContext): AsyncGenerator<BenchRecord> {
  for (const runtime of RUNTIMES) {
    context.note(`handshake: ${runtime} to ${runtime}`);
    yield* recordsOf(runtime, await measure(context, runtime));
  }
}

async function measure({ directory, quick }: BenchContext, runtime: Runtime): Promise<HandshakeResult> {
  await using workers = new Workers();
  const task: HandshakeTask = {
    path: join(directory, "handshake.sock"),
    socketPath: join(directory, `plain-${runtime}.sock`),
    connections: quick ? 20 : 500,
    rounds: quick ? 3 : 15,
    consumers: CONSUMERS,
  };
  const [, result] = await Promise.all([
    workers.start(runtime, "handshake_sender.ts", task, 0),
    workers.start<HandshakeResult>(runtime, "handshake_consumer.ts", task, 1),
  ]);
  return result;
}

function recordsOf(runtime: Runtime, result: HandshakeResult): BenchRecord[] {
  const name = (what: string) => `handshake ${runtime}: ${what}`;
  const socket = recordFromRuns(name("Unix socket, connect to first byte"), "ms", result.socketMs);
  const conditions = { ringBytes: 1024 * 1024 };
  return [
    socket,
    compared(recordFromRuns(name("connect to first frame"), "ms", result.warmMs, conditions), socket),
    recordFromRuns(name("the same, first in its process (loads the library)"), "ms", [result.coldMs], conditions),
    recordFromRuns(name(`${CONSUMERS} at once, the first to have a frame`), "ms", result.firstMs, conditions),
    recordFromRuns(name(`${CONSUMERS} at once, until all have one`), "ms", result.allMs, conditions),
  ];
}

export const handshake: Bench = {
  name: "handshake",
  question: "How long from connecting to the first frame, alone and with 100 consumers at once?",
  run,
};
