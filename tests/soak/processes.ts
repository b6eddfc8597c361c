/**
 * Child processes of the long runs, in either runtime, and what the kernel says of them.
 *
 * @module
 */

import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import process from "node:process";

const CHILD = new URL("./child.ts", import.meta.url).pathname;

/** The runtimes, with how to run a program in them. */
export const RUNTIMES: Record<string, string[]> = {
  deno: [process.env["QLASTER_DENO"] ?? "deno", "run", "--allow-ffi", CHILD],
  bun: [process.env["QLASTER_BUN"] ?? "bun", "run", CHILD],
};

/** A program that may do more than use the library. */
function commandOf(runtime: string, file: string): string[] {
  const command = RUNTIMES[runtime]![0]!;
  return runtime === "deno" ? [command, "run", "-A", "--no-check", file] : [command, "run", file];
}

/** A child with the JSON lines that it says. */
export class Child {
  readonly process: ChildProcess;
  readonly exit: Promise<number | null>;
  readonly #lines: Record<string, unknown>[] = [];
  #rest = "";
  #notify = () => {};
  #isOver = false;

  /** @param program A runtime that runs child.ts, or a runtime and another file. */
  constructor(program: string | readonly [runtime: string, file: string], ...args: string[]) {
    const [command, ...before] = typeof program === "string" ? RUNTIMES[program]! : commandOf(...program);
    this.process = spawn(command!, [...before, ...args], { stdio: ["ignore", "pipe", "inherit"] });
    this.process.stdout!.setEncoding("utf8").on("data", (text: string) => {
      const lines = (this.#rest + text).split("\n");
      this.#rest = lines.pop()!;
      this.#lines.push(...lines.map((line) => JSON.parse(line)));
      this.#notify();
    });
    this.exit = new Promise((resolve) =>
      this.process.on("close", (code) => {
        this.#isOver = true;
        this.#notify();
        resolve(code);
      })
    );
  }

  /** The next line; undefined once the child is over. */
  async next(): Promise<Record<string, unknown> | undefined> {
    while (this.#lines.length === 0 && !this.#isOver) await new Promise<void>((resolve) => this.#notify = resolve);
    return this.#lines.shift();
  }
}

/** What a process holds, by /proc: Linux only. */
export function footprint(pid: number): { descriptors: number; regions: number; threads: number; rssMiB: number } {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const number = (name: string) => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1]);
  return {
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    regions: readFileSync(`/proc/${pid}/maps`, "utf8").split("memfd:qlaster").length - 1,
    threads: number("Threads"),
    rssMiB: Math.round(number("VmRSS") / 1024),
  };
}
