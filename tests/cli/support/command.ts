/**
 * The command `qlaster` as a process: by a runtime, or as one executable.
 * May touch: processes that it starts.
 */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import type { Held } from "../../support/guarded.ts";
import { executable, RUNTIMES } from "../../support/runtime.ts";

const ENTRY = fileURLToPath(new URL("../../../src/cli/mod.ts", import.meta.url));

/** A command that runs. */
export interface Run {
  readonly child: ChildProcess;
  readonly ended: Promise<{ code: number | null; stdout: string; stderr: string }>;
  readonly text: { stdout: string; stderr: string };
}

/** How a command is started. */
export type Start = (args: readonly string[]) => [command: string, args: readonly string[]];

/** By each runtime, from this checkout; and as the one executable that Bun makes of it. */
export const STARTS: ReadonlyMap<string, Start> = new Map<string, Start>([
  ...RUNTIMES.map((runtime): [string, Start] => [
    runtime,
    (args) => {
      const flags = runtime === "deno" ? ["run", "--quiet", "--no-check", "-A"] : ["run"];
      return [executable(runtime), [...flags, ENTRY, ...args]];
    },
  ]),
  ["the executable", (args) => [compiled(), args]],
]);

let binary: string | undefined;

/** The executable, made by the first who asks, and gone with this process. */
export function compiled(): string {
  if (binary !== undefined) return binary;
  const directory = mkdtempSync(join(tmpdir(), "qlaster-cli-"));
  process.once("exit", () => rmSync(directory, { recursive: true, force: true }));
  const file = join(directory, "qlaster");
  // As docs/operating.md says: by the second flag it finds the packages of where it is run.
  const flags = ["--compile", "--compile-autoload-package-json"];
  const built = spawnSync(executable("bun"), ["build", ...flags, ENTRY, "--outfile", file], { encoding: "utf8" });
  if (built.status !== 0) throw new Error(`bun build --compile failed: ${built.error?.message ?? built.stderr}`);
  return binary = file;
}

/** Starts it; it ends with the test at the latest. */
export function start(held: Held, [command, args]: ReturnType<Start>, cwd?: string): Run {
  const child = spawn(command, args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, NO_COLOR: "1" },
    ...(cwd !== undefined && { cwd }),
  });
  const text = { stdout: "", stderr: "" };
  child.stdout!.setEncoding("utf8").on("data", (part: string) => void (text.stdout += part));
  child.stderr!.setEncoding("utf8").on("data", (part: string) => void (text.stderr += part));
  const ended = once(child, "close").then(([code]) => ({ code: code as number | null, ...text }));
  held.defer(() => {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
  });
  return { child, ended, text };
}
