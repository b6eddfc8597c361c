/**
 * The rival of fanout.ts in the runtime: a Unix socket for each consumer, one process sends, another one receives all.
 * Messages of a batch go to each socket in one write. May touch: plain sockets.
 *
 * @module
 */

import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import process from "node:process";
import { nowNs } from "../clock.ts";
import { answer, taskFromArguments } from "./task.ts";

export interface FanoutSocketsTask {
  readonly role: "send" | "receive";
  readonly path: string;
  readonly bytes: number;
  readonly consumers: number;
  readonly runs: number;
}

/** Nanoseconds of the sending process by message, whatever the number of consumers: real time, and time of its processor. */
export interface FanoutSocketsResult {
  readonly sendNs: readonly number[];
  readonly cpuNs: readonly number[];
}

const BATCH = 64;
const BATCHES = 256;
const WARM_UP_RUNS = 2;
const NS_PER_US = 1000;

const { role, path, bytes, consumers, runs } = taskFromArguments<FanoutSocketsTask>();
await (role === "send" ? send() : receive());

async function send(): Promise<void> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => void sockets.push(socket)).listen(path);
  while (sockets.length < consumers) await once(server, "connection");
  const sendNs: number[] = [];
  const cpuNs: number[] = [];
  const message = new Uint8Array(bytes).fill(1);
  for (let run = 0; run < WARM_UP_RUNS + runs; run++) {
    const started = nowNs();
    const cpu = process.cpuUsage();
    for (let i = 0; i < BATCHES; i++) {
      // New bytes each time, as they would be: a socket may still hold the last ones.
      const batch = new Uint8Array(BATCH * bytes);
      for (let k = 0; k < BATCH; k++) batch.set(message, k * bytes);
      await Promise.all(sockets.map((socket) => socket.write(batch) ? undefined : once(socket, "drain")));
    }
    while (sockets.some((socket) => socket.writableLength > 0)) await new Promise((resolve) => setImmediate(resolve));
    const { user, system } = process.cpuUsage(cpu);
    if (run < WARM_UP_RUNS) continue;
    sendNs.push((nowNs() - started) / (BATCH * BATCHES));
    cpuNs.push((user + system) * NS_PER_US / (BATCH * BATCHES));
  }
  for (const socket of sockets) socket.end();
  answer({ sendNs, cpuNs } satisfies FanoutSocketsResult);
}

async function receive(): Promise<void> {
  const wanted = (WARM_UP_RUNS + runs) * BATCHES * BATCH * bytes;
  await Promise.all(Array.from({ length: consumers }, async () => {
    const socket = await connected();
    let got = 0;
    socket.on("data", (chunk: Uint8Array) => void (got += chunk.length));
    await once(socket, "end");
    if (got !== wanted) throw new Error(`${got} bytes of ${wanted} came`);
  }));
  answer({});
}

/** The other process may not be listening yet. */
async function connected(): Promise<Socket> {
  while (true) {
    const socket = connect(path);
    const isOpen = await new Promise<boolean>((resolve) => {
      socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    });
    if (isOpen) return socket;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
