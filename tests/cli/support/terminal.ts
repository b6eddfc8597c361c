/**
 * A terminal of 80×24: a pseudo-terminal that a command runs on, and what a person would see there.
 * May touch: Linux' pseudo-terminals, processes that it starts. Escape sequences are `@xterm/headless`'s to understand.
 *
 * @module
 */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, openSync, read, writeSync } from "node:fs";
import process from "node:process";
import xterm from "@xterm/headless";
import { eventually } from "../../support/footprint.ts";
import type { Held } from "../../support/guarded.ts";
import { libc } from "../../support/libc.ts";

/** What a terminal has by custom, and what `top` promises to fit. */
export const COLUMNS = 80;
export const LINES = 24;

/** Of Linux' asm-generic: let others open the other end; its number; the window's size. */
const TIOCSPTLCK = 0x40045431n;
const TIOCGPTN = 0x80045430n;
const TIOCSWINSZ = 0x5414n;
const FLAGS = constants.O_RDWR | constants.O_NOCTTY;

/** A command on a terminal. It ends with the test at the latest. */
export class Terminal {
  readonly #emulator = new xterm.Terminal({ cols: COLUMNS, rows: LINES, allowProposedApi: true });
  readonly #master: number;
  readonly #child: ChildProcess;
  readonly #over: Promise<unknown>;

  private constructor(master: number, child: ChildProcess) {
    this.#master = master;
    this.#child = child;
    const drained = new Promise<void>((resolve) => this.#read(new Uint8Array(65_536), resolve));
    this.#over = Promise.all([drained, once(child, "exit")]);
  }

  /** Starts it, with standard input, output and error on the terminal. */
  static start(held: Held, [command, args]: readonly [string, readonly string[]], cwd?: string): Terminal {
    const master = openSync("/dev/ptmx", FLAGS);
    const number = new Int32Array(1);
    if (libc().ioctl(master, TIOCSPTLCK, number) !== 0) throw new Error("the terminal can't be unlocked");
    if (libc().ioctl(master, TIOCGPTN, number) !== 0) throw new Error("the terminal has no number");
    const size = new Int32Array(new Uint16Array([LINES, COLUMNS, 0, 0]).buffer);
    if (libc().ioctl(master, TIOCSWINSZ, size) !== 0) throw new Error("the terminal has no size");
    const other = openSync(`/dev/pts/${number[0]}`, FLAGS);
    const { NO_COLOR: _, ...env } = process.env;
    const child = spawn(command, args, {
      stdio: [other, other, other],
      env: { ...env, TERM: "xterm" },
      ...(cwd !== undefined && { cwd }),
    });
    closeSync(other);
    const terminal = new Terminal(master, child);
    held.defer(async () => {
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
      await terminal.#over;
    });
    return terminal;
  }

  /** Until the last one that has the other end has gone: then reading is an error. */
  #read(buffer: Uint8Array, end: () => void): void {
    read(this.#master, buffer, 0, buffer.length, null, (error, count) => {
      if (error !== null || count === 0) {
        closeSync(this.#master);
        return end();
      }
      this.#emulator.write(buffer.slice(0, count));
      this.#read(buffer, end);
    });
  }

  /** The 24 lines as a person sees them now, without spaces at their ends. */
  async screen(): Promise<string[]> {
    await new Promise<void>((resolve) => this.#emulator.write("", resolve)); // behind all that came
    const { active } = this.#emulator.buffer;
    return Array.from({ length: LINES }, (_, i) => active.getLine(active.baseY + i)?.translateToString(true) ?? "");
  }

  /** Lines that have left the screen by its top. */
  get scrolled(): number {
    return this.#emulator.buffer.active.baseY;
  }

  /** Lines on the screen that were too long for it, and go on in the next one. */
  get wrapped(): number {
    const { active } = this.#emulator.buffer;
    return Array.from({ length: active.length }, (_, i) => active.getLine(i)).filter((line) => line?.isWrapped).length;
  }

  /** Waits for a screen. @returns Its lines. */
  async shows(what: string, isIt: (text: string) => boolean): Promise<string[]> {
    let lines: string[] = [];
    await eventually(() => `${what}:\n${lines.join("\n")}`, async () => {
      lines = await this.screen();
      return isIt(lines.join("\n"));
    });
    return lines;
  }

  /** Presses keys. */
  type(keys: string): void {
    writeSync(this.#master, keys);
  }

  /** The exit code, once it has ended and all that it wrote is on the screen. */
  async ended(): Promise<number | null> {
    await this.#over;
    return this.#child.exitCode;
  }

  /** Of the command. */
  get pid(): number {
    return this.#child.pid!;
  }
}
