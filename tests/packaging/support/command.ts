/**
 * Runs a command as on a machine that has nothing: no network, no tools on PATH, an empty home, no temporary directory.
 * May touch: processes; /proc, to see what a process has mapped.
 */

import { type ChildProcessByStdio, execFile, spawn, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import process from "node:process";
import type { Readable, Writable } from "node:stream";

/** Put before a command, it takes the network away; empty where the kernel does not let us. */
const unshare = which("unshare");
const WITHOUT_NETWORK = unshare !== undefined && spawnSync(unshare, ["-rn", "true"]).status === 0
  ? [unshare, "-rn"]
  : [];

/** What the user of a command would have set, and nothing else. */
const NOWHERE = "/dev/null/nowhere"; // not even root can create it
const BARE = { PATH: NOWHERE, TMPDIR: NOWHERE, NO_COLOR: "1" };

const LIMIT_MS = 540_000;

export interface CommandOptions {
  readonly cwd: string;
  /** Added to the bare environment. */
  readonly env?: Record<string, string>;
}

/** A running program that ends when its input does. Kill it by disposing of it. */
export class Program implements Disposable {
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #watchdog: ReturnType<typeof setTimeout>;
  readonly #ended: Promise<number | null>;
  #output = "";
  #errors = "";
  #onOutput: () => void = () => {};

  constructor(command: readonly string[], options: CommandOptions) {
    const [name, ...rest] = command;
    const [file, ...args] = [...WITHOUT_NETWORK, which(name!) ?? name!, ...rest];
    this.#child = spawn(file!, args, {
      cwd: options.cwd,
      env: { ...BARE, HOME: options.cwd, ...options.env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.#child.stdin.on("error", () => {}); // it may be gone already
    this.#watchdog = setTimeout(() => this.#child.kill("SIGKILL"), LIMIT_MS);
    this.#child.stderr.setEncoding("utf8").on("data", (text: string) => this.#errors += text);
    this.#child.stdout.setEncoding("utf8").on("data", (text: string) => {
      this.#output += text;
      this.#onOutput();
    });
    this.#ended = new Promise((resolve, reject) => {
      this.#child.once("error", reject);
      this.#child.once("close", (code) => {
        clearTimeout(this.#watchdog);
        resolve(code);
        this.#onOutput();
      });
    });
  }

  /** The value that the program prints as its first line, in JSON. */
  async firstLine(): Promise<unknown> {
    const line = new Promise<void>((resolve) => {
      this.#onOutput = () => {
        if (this.#output.includes("\n")) resolve();
      };
      this.#onOutput();
    });
    await Promise.race([line, this.#ended]);
    const end = this.#output.indexOf("\n");
    if (end < 0) throw new Error(`It ended without an answer (code ${await this.#ended}):\n${this.#errors}`);
    return JSON.parse(this.#output.slice(0, end));
  }

  /** Closes its input and waits for its end. */
  async end(): Promise<{ code: number | null; output: string; errors: string }> {
    this.#child.stdin.end();
    const code = await this.#ended;
    return { code, output: this.#output, errors: this.#errors };
  }

  /** The files that hold the native library in its memory, as "device inode path". */
  libraries(): string[] {
    const lines = readFileSync(`/proc/${this.#child.pid}/maps`, "utf8").split("\n");
    const files = lines.filter((line) => /^\S+ r-x.*\/(lib|memfd:)qlaster/.test(line))
      .map((line) => line.split(/\s+/).slice(3).join(" "));
    return [...new Set(files)];
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#watchdog);
    this.#child.kill("SIGKILL");
  }
}

/**
 * Runs a developer's tool to its end, with the environment as it is and with the network.
 * @returns What it printed. Rejects when it fails.
 */
export function tool(command: readonly string[], cwd: string, env: Record<string, string> = {}): Promise<string> {
  const [file, ...args] = command;
  const options = {
    cwd,
    encoding: "utf8",
    timeout: LIMIT_MS,
    maxBuffer: 1 << 26,
    env: { ...process.env, NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1", ...env },
  } as const;
  return new Promise((resolve, reject) => {
    execFile(file!, args, options, (error, stdout, stderr) => {
      if (error === null) resolve(`${stdout}${stderr}`);
      else reject(new Error(`${command.join(" ")} failed\n${stdout}${stderr}`, { cause: error }));
    });
  });
}

/** The path of a tool, undefined if there is none. */
export function which(name: string): string | undefined {
  const { status, stdout } = spawnSync("/bin/sh", ["-c", `command -v ${name}`], { encoding: "utf8" });
  return status === 0 ? stdout.trim() : undefined;
}
