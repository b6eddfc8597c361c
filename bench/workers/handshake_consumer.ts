/**
 * The consumer of handshake.ts: connects, waits for its first frame, closes; then many at once.
 * May touch: consumers, and a plain Unix socket for comparison.
 *
 * @module
 */

import { connect, type Socket } from "node:net";
import { type Consumer, setupConsumer } from "../../mod.ts";
import { nowNs } from "../clock.ts";
import type { HandshakeResult, HandshakeTask } from "./handshake_task.ts";
import { answer, taskFromArguments } from "./task.ts";

const WARM_UP = 5;

const task = taskFromArguments<HandshakeTask>();

/** The consumer, and milliseconds from the call to its first frame. */
async function connected(): Promise<[Consumer, number]> {
  const started = nowNs();
  const consumer = await setupConsumer(task.path, { connectTimeoutMs: 10_000 });
  const update = await consumer.next();
  if (update?.kind !== "slot") throw new Error("The first frame is no slot");
  return [consumer, (nowNs() - started) / 1e6];
}

async function one(): Promise<number> {
  const [consumer, ms] = await connected();
  await consumer.close();
  return ms;
}

async function many(): Promise<number[]> {
  const all = await Promise.all(Array.from({ length: task.consumers }, connected));
  await Promise.all(all.map(([consumer]) => consumer.close()));
  return all.map(([, ms]) => ms);
}

function firstByte(): Promise<[Socket, number]> {
  const started = nowNs();
  return new Promise((resolve, reject) => {
    const socket = connect(task.socketPath, () => {}).once("error", reject);
    socket.once("data", () => resolve([socket, (nowNs() - started) / 1e6]));
  });
}

async function untilListening(): Promise<void> {
  while (true) {
    try {
      return (await firstByte())[0].destroy(), undefined;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

/** A pause between rounds, in which the sender closes what it had. */
function rest(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 20));
}

await untilListening();
await rest();
const coldMs = await one();
const result = { warmMs: [] as number[], firstMs: [] as number[], allMs: [] as number[], socketMs: [] as number[] };
for (let i = 0; i < WARM_UP + task.connections; i++) {
  const ms = await one();
  if (i >= WARM_UP) result.warmMs.push(ms);
}
for (let i = 0; i < 1 + task.rounds; i++) {
  await rest();
  const ms = await many();
  if (i === 0) continue;
  result.firstMs.push(Math.min(...ms));
  result.allMs.push(Math.max(...ms));
}
for (let i = 0; i < WARM_UP + task.connections; i++) {
  const [socket, ms] = await firstByte();
  socket.destroy();
  if (i >= WARM_UP) result.socketMs.push(ms);
}
const [last] = await firstByte();
last.write("done");
answer({ coldMs, ...result } satisfies HandshakeResult);
