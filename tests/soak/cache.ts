/**
 * Ten thousand random schedules of a cache in one process, in each runtime, and 500 with senders in processes of both:
 * tests/model/cache_test.ts and cache_processes_test.ts. QLASTER_MODEL_RUNS multiplies their numbers, QLASTER_MODEL_SEED says
 * where they begin. May touch: child processes.
 *
 * @module
 */

import { spawn } from "node:child_process";
import process from "node:process";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { executable, OWN_RUNTIME, type Runtime, RUNTIMES } from "../support/runtime.ts";
import type { Played } from "./cache_child.ts";

const PROGRAM = fileURLToPath(new URL("./cache_child.ts", import.meta.url));
const SCHEDULES = 10_000;
const PROCESS_SCHEDULES = 500;

async function play(runtime: Runtime, args: readonly string[]): Promise<Played> {
  const command = runtime === "deno" ? ["run", "--quiet", "--no-check", "-A", PROGRAM] : ["run", PROGRAM];
  const child = spawn(executable(runtime), [...command, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
  const said = await text(child.stdout);
  const code = await ended;
  if (code !== 0) throw new Error(`${runtime} ended with ${code}: ${said}`);
  return JSON.parse(said) as Played;
}

/** @param minutes About how long it may take; what was not played then is said. */
export async function cache(minutes: number): Promise<string | undefined> {
  const { QLASTER_MODEL_RUNS, QLASTER_MODEL_SEED } = process.env;
  const scale = Number(QLASTER_MODEL_RUNS ?? 1);
  const seed = Number(QLASTER_MODEL_SEED ?? Math.floor(Math.random() * 2 ** 31));
  const until = performance.now() + 60_000 * minutes;
  const parts: readonly (readonly [runtime: Runtime, kind: string, schedules: number])[] = [
    ...RUNTIMES.map((runtime) => [runtime, "in-process", SCHEDULES * scale] as const),
    [OWN_RUNTIME, "processes", PROCESS_SCHEDULES * scale],
  ];
  const faults: string[] = [];
  for (const [runtime, kind, planned] of parts) {
    const seconds = Math.max(0, (until - performance.now()) / 1000);
    const played = await play(runtime, [kind, String(seed), String(planned), String(seconds)]);
    console.log(JSON.stringify({ runtime, kind, planned, ...played, faults: played.faults.length }));
    faults.push(...played.faults.map((fault) => `${runtime}, ${kind}: ${fault}`));
  }
  return faults.length === 0 ? undefined : faults.join("\n\n");
}
