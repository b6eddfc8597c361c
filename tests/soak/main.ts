/**
 * The long runs: `./dev soak [name …] [--minutes N]`. Not run by CI; what they showed is in tests/soak/RESULTS.md.
 * May touch: child processes, a private temporary directory. Each run ends by itself and says what it saw.
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
import { delays } from "./delays.ts";
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
  delays,
};

const USAGE = `Usage: ./dev soak [name ...] [--minutes N]

  ring         10^8 frames between two native processes, each checked
  rust         the same with the crate shaq at the other end, each way; needs cargo
  streams      all four pairs of runtimes, millions of updates each, every one checked
  processes    500 random schedules in real processes of both runtimes
  cache        10,000 random schedules in each runtime, and 500 with senders in other processes
  churn        consumers come, read and are killed; what the sender holds is counted
  yellowstone  100,000 updates a second from a Geyser server to five consumers
  delays       the tests of several processes, with system calls that take their time; needs strace

--minutes (default 10) is how long cache, churn, delays, streams and yellowstone may take, each.`;

function refuse(text: string): never {
  console.error(`soak: ${text} (--help says what there is)`);
  process.exit(2);
}

function asked() {
  try {
    return parseArgs({
      options: { minutes: { type: "string", default: "10" }, help: { type: "boolean", short: "h", default: false } },
      allowPositionals: true,
    });
  } catch (error) {
    refuse((error as Error).message);
  }
}

const { values, positionals } = asked();
if (values.help) {
  console.log(USAGE);
  process.exit(0);
}
const minutes = Number(values.minutes);
if (!(minutes > 0)) refuse(`--minutes ${values.minutes} is not a number above 0`);
const unknown = positionals.find((name) => !Object.hasOwn(runs, name));
if (unknown !== undefined) refuse(`there is no run "${unknown}"`);
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
