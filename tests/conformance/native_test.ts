/**
 * One list of cases over `Native`: each symbol does what it says and refuses what it must, whichever adapter is under it.
 * Run by both runtimes, so for both adapters. The cases stand in files by what they are about, and are one list all the same,
 * in one process: the last one looks whether any symbol was left out.
 * May touch: its cases, their folder.
 *
 * @module
 */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { SYMBOLS } from "../../src/native/abi.generated.ts";
import { guarded } from "../support/guarded.ts";
import { called } from "./support/native_cases.ts";
// In this order.
import "./native/library.ts";
import "./native/handles.ts";
import "./native/links.ts";
import "./native/wakes.ts";
import "./native/rings.ts";

guarded("Native: every symbol of the table was called by these cases", () => {
  // Those of wire version 9 have a file of their own, tests/interop/ring_test.ts; the fan-out's are in fanout_test.ts.
  const isElsewhere = (name: string) => name.startsWith("v9") || name.startsWith("fanout");
  const missing = Object.keys(SYMBOLS).filter((name) => !called.has(name) && !isElsewhere(name));
  assert.deepEqual(missing, []);
  // Cases that nobody imports are run by nobody, and other cases may call the same symbols.
  const own = readFileSync(new URL(import.meta.url), "utf8");
  const forgotten = readdirSync(new URL("native/", import.meta.url)).filter((file) =>
    !own.includes(`"./native/${file}"`)
  );
  assert.deepEqual(forgotten, []);
  return Promise.resolve();
});
