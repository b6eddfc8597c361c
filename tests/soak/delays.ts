/**
 * The tests of several processes with system calls that take their time: who has just told a peer something, or was told,
 * stands still for a moment, so that the other one gets ahead. A fault or a test that counts on an order shows.
 * May touch: child processes. Needs Linux's `strace`, which stops only at the calls that it delays.
 *
 * @module
 */

import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { executable, type Runtime, RUNTIMES } from "../support/runtime.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const FOLDERS = ["cli", "crash", "examples", "interop", "pairs", "sources", "workers"];
/** One run: the slowest file takes two minutes. */
const LIMIT_S = 420;

/** What is delayed, where, by how many microseconds, and which of a process's calls. */
const DELAYS: readonly (readonly [calls: string, delay: string])[] = [
  ["sendmsg", "delay_exit=15000:when=1+3"],
  ["sendmsg", "delay_enter=15000:when=2+3"],
  ["recvmsg", "delay_exit=10000:when=1+3"],
  ["io_submit", "delay_exit=15000:when=1+3"], // signals of rings
  ["close", "delay_exit=8000:when=1+9"],
  ["kill", "delay_enter=30000"],
  ["connect,accept4", "delay_exit=25000:when=1+2"],
  ["epoll_wait,epoll_pwait,epoll_pwait2", "delay_exit=6000:when=1+6"],
];

function commandOf(runtime: Runtime, file: string): string[] {
  const how = runtime === "bun" ? ["test", "--timeout=120000"] : ["test", "-A", "--no-check"];
  return [executable(runtime), ...how, file];
}

const oneOf = <T>(list: readonly T[]): T => list[Math.floor(Math.random() * list.length)]!;

/** Runs files by chance, one after the other, until the time is over. */
export function delays(_: string, minutes: number): string | undefined {
  if (spawnSync("strace", ["-V"]).status !== 0) return "no strace on PATH";
  const files = FOLDERS.flatMap((folder) =>
    readdirSync(join(ROOT, "tests", folder)).filter((name) => name.endsWith("_test.ts")).map((name) =>
      join("tests", folder, name)
    )
  );
  const deadline = performance.now() + minutes * 60_000;
  let count = 0;
  const failed: string[] = [];
  while (performance.now() < deadline) {
    const [[calls, delay], runtime, file] = [oneOf(DELAYS), oneOf(RUNTIMES), oneOf(files)];
    const tracing = ["-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", `trace=${calls}`];
    const command = ["strace", ...tracing, "-e", `inject=${calls}:${delay}`, ...commandOf(runtime, file)];
    const started = performance.now();
    const { status, stdout, stderr } = spawnSync("timeout", ["-k", "5", String(LIMIT_S), ...command], {
      cwd: ROOT,
      encoding: "utf8",
      env: { ...process.env, NO_COLOR: "1" },
      maxBuffer: 1 << 28,
      stdio: ["ignore", "pipe", "pipe"],
    });
    count++;
    const what = `${file} in ${runtime}, ${calls} ${delay}, ${Math.round((performance.now() - started) / 1000)} s`;
    console.log(`  ${status === 0 ? "ok    " : "FAILED"} ${what}`);
    if (status === 0) continue;
    failed.push(what);
    console.log(`${stdout}${stderr}`.split("\n").slice(-150).join("\n"));
    console.log(`again: ${command.join(" ")}`);
  }
  console.log(`${count} files with delays, ${failed.length} failed`);
  return failed.length === 0 ? undefined : failed.join("; ");
}
