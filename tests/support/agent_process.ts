/**
 * A child process that runs functions of the test (agent.ts), from the test's side.
 * May touch: processes that it started. May not touch: the library.
 */

import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Scope } from "./agent.ts";
import { executable, type Runtime } from "./runtime.ts";

const PROGRAM = fileURLToPath(new URL("./agent.ts", import.meta.url));
/** What the README promises to be enough. `/dev/stdout` and the like need none. */
const DENO_ARGS = ["run", "--quiet", "--no-prompt", "--no-check", "--allow-ffi"];

/** What a function in the agent threw. */
export class AgentError extends Error {
  readonly code: string | undefined;
  readonly reason: string | undefined;

  constructor(error: { name: string; message: string; code?: string; reason?: string; stack?: string }) {
    super(`${error.name}: ${error.message}\nin the agent:\n${error.stack}`);
    this.name = error.name;
    this.code = error.code;
    this.reason = error.reason;
  }
}

/** How a process ended: one of the two is null. */
export interface Exit {
  readonly code: number | null;
  readonly signal: string | null;
}

interface Waiter {
  readonly resolve: (value: never) => void;
  readonly reject: (error: Error) => void;
}

export class Agent implements AsyncDisposable {
  readonly runtime: Runtime;
  readonly pid: number;
  /** Resolves when the process is gone and all its output has been read. */
  readonly ended: Promise<Exit>;
  readonly #process: ChildProcess;
  readonly #requests = new Map<number, Waiter>();
  #requestCount = 0;
  readonly #events: unknown[] = [];
  readonly #eventWaiters = new Set<() => void>();
  #end: Exit | undefined;
  #stderr = "";

  /**
   * @param options.openFilesMax The most descriptors that it can have.
   * @param options.hasWorkers It may start Workers, whose files Deno wants to be allowed to read.
   */
  constructor(runtime: Runtime, options: { openFilesMax?: number; hasWorkers?: boolean } = {}) {
    this.runtime = runtime;
    const denoArgs = options.hasWorkers === true ? [...DENO_ARGS, "--allow-read"] : DENO_ARGS;
    const command = [executable(runtime), ...runtime === "deno" ? denoArgs : ["run"], PROGRAM];
    if (options.openFilesMax !== undefined) {
      command.unshift("sh", "-c", `ulimit -n ${options.openFilesMax} && exec "$0" "$@"`);
    }
    const child = spawn(command[0]!, command.slice(1), {
      env: { ...process.env, NO_COLOR: "1" },
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.#process = child;
    this.pid = child.pid!;
    child.stdin.on("error", () => {}); // it is gone: `ended` tells
    child.stderr.setEncoding("utf8").on("data", (text: string) => void (this.#stderr += text));
    const lines = createInterface({ input: child.stdout }).on("line", (line) => this.#onLine(line));
    const allRead = new Promise<void>((resolve) => lines.once("close", resolve));
    this.ended = new Promise((resolve) => {
      child.once("error", (error) => void (this.#stderr += error.message));
      child.once("close", async (code, signal) => {
        await allRead;
        this.#end = { code, signal };
        for (const { reject } of this.#requests.values()) reject(this.#endError());
        this.#requests.clear();
        for (const look of [...this.#eventWaiters]) look();
        resolve(this.#end);
      });
    });
  }

  #endError(): Error {
    return new Error(`The ${this.runtime} agent ended (${this.#end?.code ?? this.#end?.signal}):\n${this.#stderr}`);
  }

  #onLine(line: string): void {
    const message = JSON.parse(line);
    if ("event" in message) {
      this.#events.push(message.event);
      for (const look of [...this.#eventWaiters]) look();
      return;
    }
    const request = this.#requests.get(message.id);
    this.#requests.delete(message.id);
    if (message.error !== undefined) request?.reject(new AgentError(message.error));
    else request?.resolve(message.result as never);
  }

  /**
   * Runs a function there. It is sent as its text, so it sees its parameters and the globals, nothing else.
   * @param argument and the result go as JSON; bigints arrive here as numbers.
   */
  run<A, R>(body: (scope: Scope, argument: A) => R | Promise<R>, argument?: A): Promise<R> {
    if (this.#end !== undefined) return Promise.reject(this.#endError());
    const id = ++this.#requestCount;
    return new Promise<R>((resolve, reject) => {
      this.#requests.set(id, { resolve: resolve as Waiter["resolve"], reject });
      this.#process.stdin!.write(`${JSON.stringify({ id, source: body.toString(), argument })}\n`);
    });
  }

  /** The first event that fits and was not taken, now or when it comes. */
  event<E>(fits: (event: E) => boolean): Promise<E> {
    return new Promise((resolve, reject) => {
      const look = () => {
        const at = this.#events.findIndex((event) => fits(event as E));
        if (at < 0 && this.#end === undefined) return void this.#eventWaiters.add(look);
        this.#eventWaiters.delete(look);
        if (at < 0) reject(this.#endError());
        else resolve(this.#events.splice(at, 1)[0] as E);
      };
      look();
    });
  }

  /** All events that fit and were not taken. */
  takeEvents<E>(fits: (event: E) => boolean): E[] {
    const taken = this.#events.filter((event) => fits(event as E));
    for (const event of taken) this.#events.splice(this.#events.indexOf(event), 1);
    return taken as E[];
  }

  /** Not ChildProcess.kill(): after it, Deno reports the signal as the end, whatever the process made of it. */
  signal(name: "SIGKILL" | "SIGSTOP" | "SIGCONT" | "SIGTERM"): void {
    if (this.#end === undefined) process.kill(this.pid, name);
  }

  /** The end of its stdin: it ends, unless it was told to outlive that. */
  closeInput(): void {
    this.#process.stdin!.end();
  }

  /** The end of its stdin, after which nothing of ours keeps it alive: then it has to end with 0, and not by `exit`. */
  async endsByItself(): Promise<void> {
    await this.run((scope) => void (scope.outlivesInput = true));
    this.closeInput();
    const { code, signal } = await this.ended;
    if (code !== 0) throw new Error(`The ${this.runtime} agent ended with ${code ?? signal}:\n${this.#stderr}`);
  }

  get stderr(): string {
    return this.#stderr;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.signal("SIGKILL");
    } catch {
      // Gone, and its output not yet read.
    }
    await this.ended;
  }
}
