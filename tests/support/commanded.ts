/**
 * A server of a test in a process of its own, run by Bun, that does what it is told: one JSON line a command, one an answer.
 * May touch: that process and its log. May not touch: the library.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { WorldEvent } from "./geyser/world.ts";
import { executable } from "./runtime.ts";
import { Temporary } from "./temporary.ts";

/** A line of its log. */
export type Sent = WorldEvent & { readonly connection: number };

export class CommandedServer implements AsyncDisposable {
  readonly port: number;
  readonly #process: ChildProcess;
  readonly #temporary: Temporary;
  readonly #waiters: Map<number, PromiseWithResolvers<unknown>>;
  #count = 0;

  protected constructor(started: Started) {
    this.port = started.port;
    this.#process = started.child;
    this.#temporary = started.temporary;
    this.#waiters = started.waiters;
  }

  /** Tells it to do something, and waits until it has. */
  async tell<Result = unknown>(what: string, details: Readonly<Record<string, unknown>> = {}): Promise<Result> {
    const id = ++this.#count;
    const waiter = Promise.withResolvers<unknown>();
    this.#waiters.set(id, waiter);
    this.#process.stdin!.write(JSON.stringify({ ...details, id, do: what }) + "\n");
    return await waiter.promise as Result;
  }

  /** Everything that it has sent, in order; ask only when it has answered. */
  sent(): Sent[] {
    const text = readFileSync(this.#temporary.at("sent.jsonl"), "utf8");
    return text.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line) as Sent);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const gone = new Promise((resolve) => this.#process.once("exit", resolve));
      this.#process.kill("SIGKILL");
      await gone;
    }
    this.#temporary[Symbol.dispose]();
  }
}

/** A process that listens. */
export interface Started {
  readonly child: ChildProcess;
  readonly temporary: Temporary;
  readonly port: number;
  readonly waiters: Map<number, PromiseWithResolvers<unknown>>;
}

/** Starts a program of this directory. Its first argument is the file of its log. */
export async function startServer(file: string, ...args: readonly string[]): Promise<Started> {
  const temporary = new Temporary();
  const program = fileURLToPath(new URL(file, import.meta.url));
  const child = spawn(executable("bun"), ["run", program, temporary.at("sent.jsonl"), ...args], {
    env: { ...process.env, NO_COLOR: "1" },
    stdio: ["pipe", "pipe", "inherit"],
  });
  const started = Promise.withResolvers<number>();
  const waiters: Started["waiters"] = new Map();
  child.stdin.on("error", () => {});
  createInterface({ input: child.stdout }).on("line", (line) => {
    const said = JSON.parse(line) as { port?: number; id?: number; result?: unknown; error?: string };
    if (said.port !== undefined) started.resolve(said.port);
    else if (said.id !== undefined) {
      waiters.get(said.id)?.resolve(said.result);
      waiters.delete(said.id);
    } else console.error(`the server of the test: ${said.error}`);
  });
  child.once("exit", (code) => {
    const error = new Error(`The server of the test is gone (${code})`);
    started.reject(error);
    for (const waiter of waiters.values()) waiter.reject(error);
  });
  return { child, temporary, port: await started.promise, waiters };
}
