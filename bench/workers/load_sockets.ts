/**
 * The floor of fanout_load.ts's firehose in the same runtime: the same sender's loop and as many processes, woken by a plain
 * Unix socket each, which carries nothing but the time of each update.
 * May touch: plain sockets.
 *
 * @module
 */

import { connect, createServer, type Socket } from "node:net";
import { nowNs } from "../clock.ts";
import { ACCOUNTS, type LoadSocketsResult, type LoadTask, randomFrom, SETTLE_MS } from "./load_task.ts";
import { LoadLatency } from "./load_latency.ts";
import { answer, taskFromArguments } from "./task.ts";

const STAMP = Float64Array.BYTES_PER_ELEMENT;
const RETRY_MS = 20;

const task = taskFromArguments<LoadTask & { readonly role: "send" | "receive" }>();
await (task.role === "send" ? send() : receive());

async function send(): Promise<void> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => void sockets.push(socket)).listen(task.path);
  while (sockets.length < task.consumers) await pause(RETRY_MS);
  await pause(SETTLE_MS);
  const random = randomFrom(42);
  const total = task.perSecond * task.seconds;
  const started = nowNs();
  for (let published = 0; published < total;) {
    const due = Math.min(total, Math.floor((nowNs() - started) / 1e9 * task.perSecond)) - published;
    const wanted = new Uint32Array(task.consumers);
    // Consumer 0 wants the first accounts, and so on: what most updates are of, nobody wants.
    for (let i = 0; i < due; i++) {
      const consumer = Math.floor(random() * ACCOUNTS / task.wanted);
      if (consumer < task.consumers) wanted[consumer]!++;
    }
    const now = nowNs();
    for (const [i, socket] of sockets.entries()) {
      if (wanted[i]! > 0) socket.write(new Uint8Array(new Float64Array(wanted[i]!).fill(now).buffer));
    }
    published += due;
    await pause(1);
  }
  for (const socket of sockets) socket.end();
  server.close();
  answer({});
}

async function receive(): Promise<void> {
  const latency = new LoadLatency();
  const socket = await connected();
  let rest = new Uint8Array(0);
  socket.on("data", (chunk: Uint8Array) => {
    const bytes = new Uint8Array(rest.length + chunk.length);
    bytes.set(rest);
    bytes.set(chunk, rest.length);
    const whole = bytes.length - bytes.length % STAMP;
    for (const stamp of new Float64Array(bytes.buffer, 0, whole / STAMP)) latency.record(nowNs() - stamp);
    rest = bytes.subarray(whole);
  });
  await new Promise((resolve) => socket.once("end", resolve));
  answer(latency.result() satisfies LoadSocketsResult);
}

/** The other process may not be listening yet. */
async function connected(): Promise<Socket> {
  while (true) {
    const socket = connect(task.path);
    const isOpen = await new Promise<boolean>((resolve) => {
      socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    });
    if (isOpen) return socket;
    await pause(RETRY_MS);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
