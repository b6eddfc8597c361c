/**
 * An example as its user runs it: a process of the runtime that runs the tests, and the lines that it prints.
 * May touch: child processes.
 *
 * @module
 */

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { executable, OWN_RUNTIME } from "../../support/runtime.ts";
import { within } from "../../unit/support/watchdog.ts";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));

/** What a Deno program may do, as its head says. */
export type Permission = "ffi" | "env" | "net" | "read" | "write" | "sys";

/** A running example. */
export class Program implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #exit: Promise<number | null>;
  readonly #errors: string[] = [];
  readonly #lines: string[] = [];
  #onLine: (() => void) | undefined;
  #isOver = false;

  /** @param name File name in examples/. */
  constructor(name: string, args: readonly string[], permissions: readonly Permission[] = ["ffi"]) {
    const file = `examples/${name}`;
    const allowed = permissions.map((permission) => `--allow-${permission}`);
    const own = OWN_RUNTIME === "deno" ? ["run", "--no-check", "--no-prompt", ...allowed, file] : [file];
    const child = spawn(executable(OWN_RUNTIME), [...own, ...args], {
      cwd: ROOT,
      env: { ...process.env, NO_COLOR: "1" },
    });
    this.#child = child;
    createInterface({ input: child.stdout! }).on("line", (line) => {
      this.#lines.push(line);
      this.#onLine?.();
    });
    child.stderr!.on("data", (bytes) => void this.#errors.push(String(bytes)));
    this.#exit = new Promise((resolve) =>
      child.on("close", (code) => {
        this.#isOver = true;
        this.#onLine?.();
        resolve(code);
      })
    );
  }

  /** The next line. Throws what the program said at its end, if there is none. */
  async line(): Promise<string> {
    while (this.#lines.length === 0) {
      assert(!this.#isOver, `The program is over: ${this.#errors.join("")}`);
      await within(new Promise<void>((resolve) => this.#onLine = resolve), "a line of the program");
    }
    return this.#lines.shift()!;
  }

  /** The next line that is like this. */
  async lineLike(pattern: RegExp): Promise<string> {
    while (true) {
      const line = await this.line();
      if (pattern.test(line)) return line;
    }
  }

  /** Says something to it. */
  write(text: string): void {
    this.#child.stdin!.write(text);
  }

  /** How it ended by itself, its errors being none. */
  async exit(): Promise<number | null> {
    const code = await within(this.#exit, "the program's end");
    assert.equal(this.#errors.join(""), "");
    return code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#exit;
  }
}
