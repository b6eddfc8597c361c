/**
 * 100,000 updates a second from a Geyser server through a sender to five consumers, for minutes: what arrives, what is
 * missing, and whether memory stays where it is.
 *
 * @module
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Child } from "./processes.ts";

const RATE = 100_000;
const CONSUMERS = ["deno", "bun", "deno", "bun", "bun"];
const SAMPLE_MS = 5000;
/**
 * What the most of the sender's own memory may be greater by in the second half than in the first. It goes up and down with
 * collections: one sample says nothing.
 */
const GROWTH_MIB_MAX = 64;
const FILE = new URL("./yellowstone_child.ts", import.meta.url).pathname;

/** Memory of a process's own, without the regions that it shares. */
function ownMiB(pid: number): number {
  return Math.round(Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024);
}

export async function yellowstoneSoak(directory: string, minutes: number): Promise<string | undefined> {
  const faults: string[] = [];
  for (const runtime of ["bun", "deno"]) {
    const fault = await one(runtime, join(directory, `yellowstone-${runtime}.sock`), minutes);
    if (fault !== undefined) faults.push(`${runtime}: ${fault}`);
  }
  return faults.length === 0 ? undefined : faults.join("; ");
}

async function one(runtime: string, path: string, minutes: number): Promise<string | undefined> {
  const server = new Child(["bun", FILE], "server", String(RATE));
  const port = Number((await server.next())?.["port"]);
  const sender = new Child([runtime, FILE], "sender", path, String(port), String(minutes * 60));
  await sender.next();
  const consumers = CONSUMERS.map((runtime) => new Child([runtime, FILE], "consumer", path));
  const samples: number[] = [];
  const timer = setInterval(() => {
    if (sender.process.exitCode === null) samples.push(ownMiB(sender.process.pid!));
  }, SAMPLE_MS);
  const sent = await sender.next();
  clearInterval(timer);
  const received = await Promise.all(consumers.map((consumer) => consumer.next()));
  server.process.kill();
  if (sent === undefined) return "the sender ended";
  const half = samples.length >> 1;
  const [early, late] = [samples.slice(0, half), samples.slice(half)];
  const growth = Math.max(...late) - Math.max(...early);
  const range = (list: number[]) => `${Math.min(...list)} to ${Math.max(...list)} MiB`;
  console.log(
    `  ${runtime} sender: ${JSON.stringify(sent)}; own memory ${range(early)}, then ${range(late)}`,
  );
  console.log(
    `  rate ${Math.round(Number(sent["accounts"]) / (minutes * 60))}/s; consumers: ${JSON.stringify(received)}`,
  );
  if (received.some((result) => result === undefined)) return "a consumer ended";
  if (received.some((result) => Number(result!["wrong"]) > 0)) return "an update is wrong";
  if (received.some((result) => Number(result!["missing"]) > Number(result!["lost"]))) {
    return "a loss was not announced";
  }
  if (Number(sent["connections"]) !== 1) return "the source had to connect again";
  if (growth > GROWTH_MIB_MAX) return `the sender's own memory grew by ${growth} MiB`;
  return undefined;
}
