/**
 * The Rust program of tests/interop/rust: built when first asked for, started, and talked to in lines.
 * May touch: cargo, `.tools/`, processes that it started. May not touch: the library.
 * Why built here and not by each test: cargo's own lock makes it once per checkout, whoever comes first.
 */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Exit } from "../../support/agent_process.ts";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const SOURCES = "tests/interop/rust";
const TARGET = ".tools/interop/cargo";
const PROGRAM = join(ROOT, TARGET, "release/qlaster-interop-peer");
const LOG = join(ROOT, ".tools/log/interop-cargo.txt");

/** The program that is ready, or the reason why the tests that need it are skipped. */
export type RustPeer = { readonly path: string; readonly missing?: undefined } | { readonly missing: string };

let found: RustPeer | undefined;

/**
 * Builds it if its sources are newer: some seconds, before the watchdogs of tests.
 * @throws {Error} When it does not compile: that is a fault of ours, no reason to skip.
 */
export function rustPeer(): RustPeer {
  found ??= find();
  return found;
}

function find(): RustPeer {
  if (process.platform !== "linux") return { missing: "the Rust peer is for Linux" };
  if (isFresh()) return { path: PROGRAM };
  if (spawnSync("cargo", ["--version"]).status !== 0) {
    return { missing: "no cargo on PATH: Rust interop tests are skipped" };
  }
  const args = ["build", "--release", "--manifest-path", `${SOURCES}/Cargo.toml`, "--target-dir", TARGET];
  const { status, stderr } = spawnSync("cargo", args, { cwd: ROOT, encoding: "utf8", timeout: 240_000 });
  mkdirSync(join(LOG, ".."), { recursive: true });
  writeFileSync(LOG, stderr);
  if (status === 0) {
    utimesSync(PROGRAM, new Date(), new Date()); // cargo leaves the old time when it found nothing to do
    return { path: PROGRAM };
  }
  if (stderr.includes("could not compile")) throw new Error(`The Rust peer does not compile:\n${stderr}`);
  return { missing: `cargo could not build (see ${LOG}): Rust interop tests are skipped` };
}

/** Whether the program is younger than all that it is made of: then not even cargo is needed. */
function isFresh(): boolean {
  if (!existsSync(PROGRAM)) return false;
  const builtAt = statSync(PROGRAM).mtimeMs;
  return readdirSync(join(ROOT, SOURCES), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".rs") || name.endsWith(".toml"))
    .every((name) => statSync(join(ROOT, SOURCES, name)).mtimeMs <= builtAt);
}

/** One JSON line of the program: what happened (`event`) or an update (`kind`). */
export type Line = Readonly<Record<string, unknown>>;

/** An account, a transaction or a slot as the Rust consumer prints it, and as the Rust sender takes it. */
export type UpdateLine = Readonly<Record<string, string | number | boolean>>;

/** What the Rust consumer has counted. */
export interface Counts {
  readonly accounts: number;
  readonly transactions: number;
  readonly slots: number;
  /** Frames that were no updates. */
  readonly bad: number;
  readonly compressed: number;
  /** Of all payloads in order. */
  readonly hash: string;
}

/** The program, running. It ends with its stdin. */
export class RustProcess implements AsyncDisposable {
  readonly pid: number;
  /** Resolves when the process is gone and all its output has been read. */
  readonly ended: Promise<Exit>;
  readonly #process: ChildProcess;
  readonly #name: string;
  readonly #lines: Line[] = [];
  readonly #waiters = new Set<() => void>();
  #end: Exit | undefined;
  #stderr = "";

  constructor(peer: RustPeer, ...args: readonly (string | number)[]) {
    if (peer.missing !== undefined) throw new Error(peer.missing);
    const words = args.map(String);
    this.#name = words.slice(0, 2).join(" ");
    const child = spawn(peer.path, words, { stdio: ["pipe", "pipe", "pipe"] });
    this.#process = child;
    this.pid = child.pid!;
    child.stdin!.on("error", () => {}); // it is gone: `ended` tells
    child.stderr!.setEncoding("utf8").on("data", (text: string) => void (this.#stderr += text));
    const lines = createInterface({ input: child.stdout! }).on("line", (line) => {
      this.#lines.push(JSON.parse(line));
      this.#look();
    });
    const allRead = new Promise<void>((resolve) => lines.once("close", resolve));
    this.ended = new Promise((resolve) => {
      child.once("close", async (code, signal) => {
        await allRead;
        this.#end = { code, signal };
        this.#look();
        resolve(this.#end);
      });
    });
  }

  #look(): void {
    for (const look of [...this.#waiters]) look();
  }

  /** Waits until `ready` says something other than undefined. An end before that is an error that shows the lines. */
  #until<T>(what: string, ready: () => T | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      const look = () => {
        const value = ready();
        if (value === undefined && this.#end === undefined) return void this.#waiters.add(look);
        this.#waiters.delete(look);
        if (value !== undefined) return resolve(value);
        const end = this.#end!.code ?? this.#end!.signal;
        const last = this.#lines.slice(-5).map((line) => JSON.stringify(line)).join("\n");
        reject(new Error(`${this.#name} ended (${end}) without ${what}\n${last}\n${this.#stderr}`));
      };
      look();
    });
  }

  /** The first line that fits and was not taken, now or when it comes. */
  line(what: string, fits: (line: Line) => boolean): Promise<Line> {
    return this.#until(what, () => {
      const at = this.#lines.findIndex(fits);
      return at < 0 ? undefined : this.#lines.splice(at, 1)[0];
    });
  }

  /** The first event of that name, likewise. */
  event(name: string): Promise<Line> {
    return this.line(`the event "${name}"`, (line) => line["event"] === name);
  }

  /** So many updates, in their order: when they are there. */
  async updates(count: number): Promise<UpdateLine[]> {
    const isUpdate = (line: Line) => "kind" in line;
    await this.#until(`${count} updates`, () => this.#lines.filter(isUpdate).length >= count ? true : undefined);
    const taken = this.#lines.filter(isUpdate).slice(0, count);
    for (const line of taken) this.#lines.splice(this.#lines.indexOf(line), 1);
    return taken as UpdateLine[];
  }

  /** What has been said and not been taken. */
  get lines(): readonly Line[] {
    return this.#lines;
  }

  /** A command of the consumer. */
  say(command: string): void {
    this.#process.stdin!.write(`${command}\n`);
  }

  /** A command of the sender. */
  tell(command: UpdateLine): void {
    this.say(JSON.stringify(command));
  }

  /** The consumer's counts of this moment. */
  async counts(): Promise<Counts> {
    this.say("count");
    return await this.event("count") as unknown as Counts;
  }

  /** Not ChildProcess.kill(): after it, Deno reports the signal as the end, whatever the process made of it. */
  signal(name: "SIGKILL" | "SIGSTOP" | "SIGCONT"): void {
    if (this.#end === undefined) process.kill(this.pid, name);
  }

  closeInput(): void {
    this.#process.stdin!.end();
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
