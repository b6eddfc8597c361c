/**
 * ref() and unref(): who keeps a process alive. Each case is a process of its own, of the runtime that runs the test.
 * May touch: child processes of this runtime, a temporary directory. May not touch: this process's own handles.
 *
 * @module
 */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Place } from "./support/place.ts";
import { within } from "./support/watchdog.ts";

const CHILD = fileURLToPath(new URL("./support/life_child.ts", import.meta.url));
const ARGUMENTS = process.versions.bun === undefined ? ["run", "--no-check", "-A", CHILD] : [CHILD];

/** After that time a process that is still there has been kept alive. */
const STAYS_MS = 300;
/** Likewise for one that should have ended by then, however slow the machine was. */
const ENDS_MS = 20_000;

/** What the child said, once it has ended by itself. */
async function run(name: string, laterMs: number): Promise<{ code: number | null; lines: string[] }> {
  await using place = new Place();
  const child = spawn(process.execPath, [...ARGUMENTS, name, place.path, String(laterMs)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    let text = "";
    child.stdout.on("data", (chunk) => text += chunk);
    const code = await within(
      new Promise<number | null>((resolve) => child.once("close", resolve)),
      `the end of a process that should let itself end (${name})`,
    );
    return { code, lines: text.trim().split("\n") };
  } finally {
    child.kill("SIGKILL");
  }
}

for (
  const [name, lines] of [
    ["sender", ["ready", "alive"]],
    ["sender unref", ["ready"]],
    ["sender unref ref", ["ready", "alive"]],
    ["consumer", ["ready", "alive"]],
    ["consumer unref", ["ready"]],
    ["consumer unref ref", ["ready", "alive"]],
    ["both unref before they meet", ["ready"]],
  ] as const
) {
  const stays = lines.length === 2;
  test(`a process ${stays ? "stays alive for" : "ends in spite of"} an open ${name}`, async () => {
    assert.deepEqual(await run(name, stays ? STAYS_MS : ENDS_MS), { code: 0, lines: [...lines] });
  });
}
