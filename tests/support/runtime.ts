/**
 * The two runtimes: their names, and where their executables are.
 * May touch: the environment. May not touch: processes; agent_process.ts starts them.
 */

import process from "node:process";

/** What a program can be run by. */
export type Runtime = "deno" | "bun";

export const RUNTIMES: readonly Runtime[] = ["deno", "bun"];

/** The runtime of this very process. */
export const OWN_RUNTIME: Runtime = process.versions.bun === undefined ? "deno" : "bun";

/** Sender's and consumer's runtime: all four combinations. */
export const PAIRS: readonly (readonly [sender: Runtime, consumer: Runtime])[] = RUNTIMES.flatMap((sender) =>
  RUNTIMES.map((consumer) => [sender, consumer] as const)
);

/** Where `./dev` says that a runtime is; else this process's own, or the one on PATH. */
export function executable(runtime: Runtime): string {
  return process.env[`QLASTER_${runtime.toUpperCase()}`] || (runtime === OWN_RUNTIME ? process.execPath : runtime);
}
