/**
 * The long runs: `./dev soak [name …] [--minutes N]`. Not run by CI; what they showed is in tests/soak/RESULTS.md.
 * May touch: child processes, a private temporary directory. Each run ends by itself and says what it saw.
 *
 * | run | what it does |
 * |---|---|
 * | ring | 10⁸ frames between two native processes, each checked |
 * | rust | the same with the crate `shaq` at the other end, each way; needs cargo |
 * | streams | all four pairs of runtimes, millions of updates each, every one checked |
 * | processes | 500 random schedules of tests/model/processes_test.ts, in real processes of both runtimes |
 * | cache | 10,000 random schedules of tests/model/cache_test.ts in each runtime, and 500 with senders in other processes |
 * | churn | consumers come, read and are killed, for minutes; descriptors, mappings and memory of the sender are counted |
 * | yellowstone | 100,000 updates a second from a Geyser server to five consumers, for minutes, with each runtime as the sender |
 *
 * @module
 */

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { cache } from "./cache.ts";
import { churn } from "./churn.ts";
import { rust } from "./rust.ts";
import { schedules } from "./schedules.ts";
import { streams } from "./streams.ts";
import { yellowstoneSoak } from "./yellowstone.ts";

const ROOT = new URL("../../", import.meta.url).pathname;

/** Returns what went wrong, or undefined. */
type Run = (directory: string, minutes: number) => Promise<string | undefined> | string | undefined;

const runs: Record<string, Run> = {
  ring: () => {
    const frames = "100000000";
    const command = ["zig", "build", "stress", "-Doptimize=ReleaseSafe", "--", frames];
    const { status } = spawnSync(join(ROOT, "dev"), command, { cwd: ROOT, stdio: "inherit", timeout: 3_600_000 });
    return status === 0 ? undefined : `the stress ended with ${status}`;
  },
  rust,
  streams,
  processes: schedules,
  cache: (_, minutes) => cache(minutes),
  churn,
  yellowstone: yellowstoneSoak,
};

const { values, positionals } = parseArgs({
  options: { minutes: { type: "string", default: "10" } },
  allowPositionals: true,
});
const unknown = positionals.find((name) => !(name in runs));
const minutes = Number(values.minutes);
if (unknown !== undefined || !(minutes > 0)) {
  console.error(
    `soak: ${unknown ?? `--minutes ${values.minutes}`} is not known; runs: ${Object.keys(runs).join(", ")}`,
  );
  process.exit(2);
}
const directory = mkdtempSync(join(tmpdir(), "qlaster-soak-"));
let failed = 0;
const names = positionals.length > 0 ? positionals : Object.keys(runs);
for (const name of names) {
  const started = performance.now();
  const fault = await runs[name]!(directory, minutes);
  if (fault !== undefined) failed++;
  console.log(
    `${fault === undefined ? "ok    " : "FAILED"} ${name}, ${Math.round((performance.now() - started) / 1000)} s${
      fault ? `: ${fault}` : ""
    }`,
  );
}
rmSync(directory, { recursive: true, force: true });
console.log(`${names.length - failed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
