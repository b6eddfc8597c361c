/**
 * A process of the demo, in either runtime, that talks JSON lines on its stdout.
 * May touch: processes that it started.
 * May not touch: the terminal. What a child writes to stderr is kept for whoever reports its failure.
 * Why permissions are listed per program: a reader sees what the library needs (FFI alone) and what the rest adds.
 *
 * @module
 */

import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** What a program can be run by. */
export type Runtime = "deno" | "bun";

/** A program of the demo: its file beside this one, and the permissions that Deno has to give it. */
export interface Program {
  readonly file: string;
  readonly permissions: readonly string[];
}

/** How a child ended. */
export interface ChildEnd {
  readonly ok: boolean;
  /** Empty if all went well. */
  readonly reason: string;
}

const STDERR_CHARACTERS_MAX = 4000;

/** A started program. */
export class Child {
  readonly name: string;
  /** Resolves, never rejects, when the process is gone and all its output has been read. */
  readonly ended: Promise<ChildEnd>;
  readonly #process: ChildProcess;
  #stderr = "";

  constructor(
    name: string,
    runtime: Runtime,
    program: Program,
    args: readonly string[],
    onLine: (line: string) => void,
  ) {
    this.name = name;
    const script = fileURLToPath(new URL(program.file, import.meta.url));
    const runtimeArgs = runtime === "deno" ? ["run", "--quiet", "--no-prompt", ...program.permissions] : ["run"];
    const child = spawn(executable(runtime), [...runtimeArgs, script, ...args], {
      env: { ...process.env, NO_COLOR: "1" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#process = child;
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_CHARACTERS_MAX);
    });
    const lines = createInterface({ input: child.stdout }).on("line", onLine);
    const allRead = new Promise<void>((resolve) => lines.once("close", resolve));
    this.ended = new Promise((resolve) => {
      child.once("error", (error) => resolve({ ok: false, reason: `cannot be started: ${error.message}` }));
      child.once("close", async (code, signal) => {
        await allRead;
        const how = signal ? `was ended by ${signal}` : `ended with exit code ${code}`;
        resolve({ ok: code === 0, reason: code === 0 ? "" : [how, this.#stderr.trim()].filter(Boolean).join(":\n") });
      });
    });
  }

  /** Ends the process now. It has nothing to tidy up: its files are in the demo's directory. */
  kill(): void {
    this.#process.kill("SIGKILL");
  }
}

/** Where `./dev` says that a runtime is; else this process's own, or the one on PATH. */
function executable(runtime: Runtime): string {
  const own: Runtime = process.versions.bun === undefined ? "deno" : "bun";
  return process.env[`QLASTER_${runtime.toUpperCase()}`] || (runtime === own ? process.execPath : runtime);
}
