/**
 * The other end of kit's range: the tests of this folder once more, with kit 7, in a copy of the package that has no other.
 * May touch: a temporary directory, child processes of the runtime that runs the tests.
 *
 * @module
 */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { executable, OWN_RUNTIME } from "../support/runtime.ts";
import { Temporary } from "../support/temporary.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const COPIED = ["mod.ts", "deno.json", "src", "tests/kit", "tests/support", "tests/unit/support"];
/** What these tests import from packages, besides kit. */
const LINKED = ["@solana-program", "@types", "fast-check", "pure-rand"];
const KIT = "kit-7";
const SUITES = readdirSync(new URL("./", import.meta.url)).filter((name) =>
  name.endsWith("_test.ts") && name !== "versions_test.ts"
);

/** A package like ours, whose only kit is the older one. */
function copyInto(directory: string): void {
  for (const name of COPIED) cpSync(join(ROOT, name), join(directory, name), { recursive: true });
  const modules = join(directory, "node_modules");
  mkdirSync(join(modules, "@solana"), { recursive: true });
  for (const name of LINKED) symlinkSync(join(ROOT, "node_modules", name), join(modules, name));
  symlinkSync(join(ROOT, "node_modules", KIT), join(modules, "@solana/kit"));
  const own = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  own.devDependencies["@solana/kit"] = own.devDependencies[KIT].split("@").at(-1);
  delete own.devDependencies[KIT];
  writeFileSync(join(directory, "package.json"), JSON.stringify(own));
}

function run(args: readonly string[], directory: string): Promise<{ code: number; output: string }> {
  const env = {
    ...process.env,
    NO_COLOR: "1",
    QLASTER_NATIVE: join(ROOT, `zig-out/lib/libqlaster.${process.platform === "darwin" ? "dylib" : "so"}`),
  };
  return new Promise((resolve) => {
    execFile(executable(OWN_RUNTIME), args, { cwd: directory, env, timeout: 400_000 }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : 1, output: stdout + stderr });
    });
  });
}

test("everything of this folder holds with the oldest kit that is supported", { timeout: 420_000 }, async () => {
  using temporary = new Temporary();
  copyInto(temporary.path);
  const version =
    JSON.parse(readFileSync(join(temporary.path, "node_modules/@solana/kit/package.json"), "utf8")).version;
  assert.match(version, /^7\./);
  const suites = SUITES.map((name) => join("tests/kit", name));
  const args = OWN_RUNTIME === "bun" ? ["test", "--timeout=60000", ...suites] : ["test", "-A", "--no-check", ...suites];
  const { code, output } = await run(args, temporary.path);
  assert.equal(code, 0, output);
  const passed = OWN_RUNTIME === "bun" ? / (\d+) pass/.exec(output) : /(\d+) passed/.exec(output);
  assert(Number(passed?.[1]) > 40, output);
});
