/**
 * A process of a bench, pinned to a core, that says what it found in one line of JSON.
 * May touch: processes that it started. May not touch: what they measure.
 * Why `taskset`: neither runtime can pin itself. Its other threads (compiler, collector) share the core, as they would
 * on a machine that gives each process one.
 *
 * @module
 */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** What a program can be run by. */
export type Runtime = "deno" | "bun";
export const RUNTIMES: readonly Runtime[] = ["deno", "bun"];

/** Who sends to whom: each runtime to itself, and to the other one if `isMixed`. */
export function pairs(isMixed: boolean): (readonly [Runtime, Runtime])[] {
  const all = RUNTIMES.flatMap((sender) => RUNTIMES.map((receiver) => [sender, receiver] as const));
  return all.filter(([sender, receiver]) => isMixed || sender === receiver);
}

/** Which core: two sides, two cores; undefined for any. */
export type Core = 0 | 1 | undefined;

/** Whether processes are pinned. If not, figures say so. */
export const isPinned = availableParallelism() >= 2 && spawnSync("taskset", ["-c", "0", "true"]).status === 0;

const TIMEOUT_MS = 120_000;

/** Processes that run now. */
const running = new Set<ChildProcess>();

/** Ends all processes, for a command that was interrupted. */
export function killAll(): void {
  for (const child of running) kill(child);
}

/** Each is started as a group of its own: a pipe is two processes and a shell. */
function kill(child: ChildProcess): void {
  if (!running.has(child)) return;
  try {
    process.kill(-child.pid!, "SIGKILL");
  } catch {
    // It ended this moment.
  }
}
const STDERR_CHARACTERS_MAX = 2000;

/** What runs a program: the words before its own arguments. */
export function commandOf(runtime: Runtime, file: string, core: Core): string[] {
  const script = fileURLToPath(new URL(`workers/${file}`, import.meta.url));
  return [
    ...pinning(core),
    executable(runtime),
    ...(runtime === "deno" ? ["run", "-A", "--no-check"] : ["run"]),
    script,
  ];
}

function pinning(core: Core): string[] {
  return core !== undefined && isPinned ? ["taskset", "-c", String(core)] : [];
}

/** Where `./dev` says that a runtime is; else this process's own, or the one on PATH. */
export function executable(runtime: Runtime): string {
  const own: Runtime = process.versions.bun === undefined ? "deno" : "bun";
  return process.env[`QLASTER_${runtime.toUpperCase()}`] || (runtime === own ? process.execPath : runtime);
}

/** Runs programs that belong together; ends all of them when one fails or it takes too long. */
export class Workers implements AsyncDisposable {
  readonly #children: { readonly child: ChildProcess; readonly closed: Promise<void> }[] = [];

  /** Starts a TypeScript program of `workers/`. @returns What it says in its only line. */
  start<Result>(runtime: Runtime, file: string, task: object, core: Core): Promise<Result> {
    return this.run(`${file} in ${runtime}`, [...commandOf(runtime, file, core), JSON.stringify(task)]);
  }

  /** Starts any program that says one line of JSON. */
  run<Result>(name: string, [command, ...args]: readonly string[]): Promise<Result> {
    const child = spawn(command!, args, {
      detached: true,
      env: { ...process.env, NO_COLOR: "1" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    running.add(child);
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => stdout += text);
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr = (stderr + text).slice(-STDERR_CHARACTERS_MAX);
    });
    const ended = new Promise<string>((resolve) => {
      child.once("error", (error) => resolve(`cannot be started: ${error.message}`));
      child.once("close", (code, signal) => resolve(code === 0 ? "" : `ended with ${signal ?? `exit code ${code}`}`));
    });
    const timer = setTimeout(() => kill(child), TIMEOUT_MS);
    const closed = ended.then(() => {
      clearTimeout(timer);
      running.delete(child);
    });
    this.#children.push({ child, closed });
    return ended.then((failure) => {
      if (failure !== "") throw new WorkerError(`${name} ${failure}`, stderr.trim());
      return JSON.parse(stdout) as Result;
    });
  }

  /** Kills who is still there, and waits until nobody is. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const { child } of this.#children) kill(child);
    await Promise.all(this.#children.map(({ closed }) => closed));
  }
}

/** A program of a bench failed. */
export class WorkerError extends Error {
  override name = "WorkerError";
  /** @param stderr The end of what it said. */
  constructor(message: string, readonly stderr: string) {
    super(stderr === "" ? message : `${message}:\n${stderr}`);
  }

  /** Why, in one line. */
  get reason(): string {
    const lines = this.stderr.split("\n").map((line) => line.trim());
    return lines.find((line) => /error|panic|cannot/i.test(line)) ?? this.message.split("\n")[0]!;
  }
}
