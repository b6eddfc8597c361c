/**
 * The benches' command and its arithmetic: that it runs, says what it should, and leaves nothing behind.
 * May touch: processes, the temporary directory. May not touch: how fast anything was.
 */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { rowsFromGoals } from "../../bench/goals.ts";
import { percentilesOf } from "../../bench/percentiles.ts";
import { compared, recordFromPercentiles, recordFromRuns } from "../../bench/record.ts";

const MAIN = fileURLToPath(new URL("../../bench/main.ts", import.meta.url));
const RUNTIME_ARGS = process.versions.bun === undefined ? ["run", "--quiet", "-A", "--no-check"] : ["run"];
const WATCHDOG_MS = 150_000;
/** Of a test that starts a bench: its watchdog speaks first. */
const PATIENT = { timeout: WATCHDOG_MS + 10_000 };

async function runBench(...args: string[]) {
  const temporary = mkdtempSync(join(tmpdir(), "qlaster-bench-test-"));
  try {
    const bench = spawn(process.execPath, [...RUNTIME_ARGS, MAIN, ...args], {
      env: { ...process.env, TMPDIR: temporary },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const watchdog = setTimeout(() => bench.kill("SIGTERM"), WATCHDOG_MS);
    let stdout = "";
    let stderr = "";
    bench.stdout.setEncoding("utf8").on("data", (text) => stdout += text);
    bench.stderr.setEncoding("utf8").on("data", (text) => stderr += text);
    const code = await new Promise<number | null>((resolve) => bench.once("close", resolve));
    clearTimeout(watchdog);
    return { code, stdout, stderr, leftBehind: readdirSync(temporary) };
  } finally {
    rmSync(temporary, { recursive: true });
  }
}

test("bench --json gives records with all that is needed to believe them", PATIENT, async () => {
  const { code, stdout, stderr, leftBehind } = await runBench("ffi", "--quick", "--json");
  assert.equal(code, 0, stderr);
  assert.deepEqual(leftBehind, []);
  const records = stdout.trim().split("\n").map((line) => JSON.parse(line));
  for (const { name, value, unit, peer, ratio, conditions } of records) {
    assert.match(name, /^ffi (deno|bun): /);
    assert.ok(value > 0, name);
    assert.equal(unit, "ns");
    assert.equal(typeof peer, typeof ratio === "number" ? "string" : "undefined");
    assert.ok(peer === undefined || records.some((record) => record.name === peer), peer);
    assert.ok(conditions.runs >= 5 && conditions.min <= value && value <= conditions.max, name);
    for (const key of ["cpu", "system", "deno", "bun", "commit", "date", "pinning"]) {
      assert.equal(typeof conditions[key], "string", key);
    }
  }
  assert.ok(["deno", "bun"].every((runtime) => records.some(({ name }) => name.includes(`${runtime}: ringPoll`))));
});

test("bench refuses an unknown name in one sentence that says which there are", PATIENT, async () => {
  const { code, stdout, stderr } = await runBench("nope");
  assert.equal(code, 2);
  assert.equal(stdout, "");
  assert.match(stderr, /^There is no bench "nope": choose among throughput, .*\n$/);
});

test("recordFromRuns() gives the median, the best and the worst", () => {
  const record = recordFromRuns("x", "ns", [3, 1, 2, 10], { bytes: 8 });
  assert.deepEqual(record, { name: "x", unit: "ns", value: 2.5, conditions: { bytes: 8, runs: 4, min: 1, max: 10 } });
  assert.deepEqual(compared(record, { ...record, name: "y", value: 5 }), { ...record, peer: "y", ratio: 0.5 });
  assert.equal(compared(record, undefined), record);
  assert.throws(() => recordFromRuns("x", "ns", []), /No run of "x"/);
});

test("recordFromPercentiles() leaves out percentiles that too few samples stand for", () => {
  const samples = (count: number) => Array.from({ length: count }, (_, i) => 1000 * (i % 1000 + 1));
  const few = recordFromPercentiles("x", percentilesOf(samples(100)));
  assert.equal(few.name, "x p50");
  assert.deepEqual(Object.keys(few.conditions), ["samples", "runs", "min", "max", "highest"]);
  const many = recordFromPercentiles("x", percentilesOf(samples(10_000)));
  assert.ok(Math.abs(many.value - 500) < 1);
  assert.ok(Math.abs(Number(many.conditions.p99) - 990) < 2 && Math.abs(Number(many.conditions.p999) - 999) < 2);
  assert.equal(many.conditions.runs, 5);
});

test("rowsFromGoals() takes what is to be flat for missed on either side", () => {
  const name = (size: string) => `fanout ${size} in the pool, each further of 10 consumers`;
  const ratios = [["7.3 KB", 0.8], ["90 KB", 1.2], ["1.7 MB", 1.21], ["10 MiB", -7.22]] as const;
  const rows = rowsFromGoals(ratios.map(([size, ratio]) => ({ ...recordFromRuns(name(size), "ns", [1]), ratio })));
  assert.deepEqual(rows.map(([, , ...rest]) => rest), [
    ["0.8 … 1.2", "0.800", "met"],
    ["0.8 … 1.2", "1.20", "met"],
    ["0.8 … 1.2", "1.21", "missed"],
    ["0.8 … 1.2", "-7.22", "missed"],
  ]);
});

test("rowsFromGoals() has bounds for the original's ring: by size for one side, by the crate's side for mixed pairs", () => {
  const figure = (name: string, ratio?: number) => ({
    ...recordFromRuns(name, "ns", [1]),
    ...(ratio !== undefined && { ratio }),
  });
  const rows = rowsFromGoals([
    figure("v9 18 B, rust to rust, push"),
    figure("v9 18 B, bun to bun, push", 0.25),
    figure("v9 18 B, bun to bun, push against kept buffers", 0.25),
    figure("v9 165 B, deno to deno, pop", 0.8),
    figure("v9 1 KiB, rust to bun, end to end", 0.96),
    figure("v9 1 KiB, bun to bun, end to end", 2),
  ]);
  assert.deepEqual(rows.map(([, name, bound, found, verdict]) => [name, bound, found, verdict]), [
    ["v9 18 B, bun to bun, push", "≥ 3", "4.00", "met"],
    ["v9 165 B, deno to deno, pop", "≥ 1.5", "1.25", "missed"],
    ["v9 1 KiB, rust to bun, end to end", "≥ 0.95", "0.960", "met"],
  ]);
});
