/**
 * The demo itself, as `./dev demo` starts it, only shorter: real processes in both runtimes, judged by its own oracle.
 * May touch: processes, the temporary directory.
 * May not touch: the terminal.
 */

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../../examples/demo/main.ts", import.meta.url));
const RUNTIME_ARGS = process.versions.bun === undefined ? ["run", "--quiet", "-A"] : ["run"];
/** Of a run that takes a few seconds alone: a bound on hanging. */
const WATCHDOG_MS = 120_000;
const PATIENT = { timeout: WATCHDOG_MS + 10_000 };

interface DemoEnd {
  readonly code: number | null;
  readonly output: string;
  /** What is left in the directory in which the demo makes its own. */
  readonly leftBehind: readonly string[];
}

/** Runs the demo to its end. `onOutput` sees all that it has printed so far, each time that there is more. */
async function runDemo(args: string[], onOutput?: (demo: ChildProcess, output: string) => void): Promise<DemoEnd> {
  const temporary = mkdtempSync(join(tmpdir(), "qlaster-demo-test-"));
  try {
    const demo = spawn(process.execPath, [...RUNTIME_ARGS, MAIN, ...args], {
      env: { ...process.env, TMPDIR: temporary },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const watchdog = setTimeout(() => demo.kill("SIGKILL"), WATCHDOG_MS);
    let output = "";
    for (const stream of [demo.stdout, demo.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => {
        output += text;
        onOutput?.(demo, output);
      });
    }
    const code = await new Promise<number | null>((resolve) => demo.once("close", resolve));
    clearTimeout(watchdog);
    return { code, output, leftBehind: readdirSync(temporary) };
  } finally {
    rmSync(temporary, { recursive: true });
  }
}

for (const runtime of ["deno", "bun"]) {
  test(`demo with a sender in ${runtime} gives both consumers exactly what they asked for`, PATIENT, async () => {
    const args = ["--seconds", "1", "--transactions", "300", "--runtime", runtime];
    const { code, output, leftBehind } = await runDemo(args);
    assert.equal(code, 0, output);
    assert.match(output, /^ok {6}deno consumer.*\n +\d+ updates in order/m);
    assert.match(output, /^ok {6}bun consumer.*\n +\d+ updates in order/m);
    assert.deepEqual(leftBehind, []);
  });
}

for (const source of ["yellowstone", "rpc", "litesvm", "relay"]) {
  test(`demo fed by ${source} gives both consumers exactly what they asked for`, PATIENT, async () => {
    const { code, output, leftBehind } = await runDemo(["--source", source, "--seconds", "1", "--transactions", "300"]);
    assert.equal(code, 0, output);
    assert.match(output, /^ok {6}deno consumer.*\n +\d+ updates in order/m);
    assert.match(output, /^ok {6}bun consumer.*\n +\d+ updates in order/m);
    assert.deepEqual(leftBehind, []);
  });
}

test("demo that is interrupted says so, and leaves nothing behind", PATIENT, async () => {
  let interrupted = false;
  const { code, output, leftBehind } = await runDemo(["--seconds", "30"], (demo, output) => {
    if (interrupted || !output.includes("slot")) return;
    interrupted = true;
    // Not demo.kill(): after it, Deno reports the signal as the end, whatever the process made of it.
    process.kill(demo.pid!, "SIGTERM");
  });
  assert.equal(code, 143, output);
  assert.match(output, /Interrupted by SIGTERM/);
  assert.deepEqual(leftBehind, []);
});
