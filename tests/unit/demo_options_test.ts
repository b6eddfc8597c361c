/** The demo's command line: what it takes, and what it says to what it does not. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { parseOptions, UsageError } from "../../examples/demo/options.ts";

test("parseOptions() has defaults for everything", () => {
  const { seconds, runtime, transactionsMin, path, keep, help } = parseOptions([]);
  assert.deepEqual([seconds, runtime, transactionsMin, path, keep, help], [15, "deno", 2000, undefined, false, false]);
});

test("parseOptions() takes every flag", () => {
  const args = "--seconds=3 --runtime bun --transactions 500 --path /tmp/q.sock --keep -h".split(" ");
  const { seconds, runtime, transactionsMin, path, keep, help } = parseOptions(args);
  assert.deepEqual([seconds, runtime, transactionsMin, path, keep, help], [3, "bun", 500, "/tmp/q.sock", true, true]);
});

test("parseOptions() refuses what can't be meant, in one sentence", () => {
  const refused = [
    "--seconds=0",
    "--seconds=1.5",
    "--seconds=1e9",
    "--transactions=",
    "--runtime=node",
    "--path=",
    "--source=geyser",
    "--nope",
    "x",
  ];
  for (const arg of refused) {
    assert.throws(
      () => parseOptions([arg]),
      (error) => error instanceof UsageError && /^[^\n]+$/.test(error.message),
      arg,
    );
  }
});
