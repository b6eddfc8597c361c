/**
 * `./dev pack`: the npm tarball, zig-out/npm/qlaster-core-VERSION.tgz. Arguments go to `deno pack` (--allow-dirty, …).
 * May touch: zig-out/npm/.
 *
 * Why there is JavaScript in it: Deno refuses to strip types from files under node_modules, as Node does. `deno pack`
 * makes .js and .d.ts of the modules that `deno publish` would send to JSR, so that both registries get the same files.
 * Why it is not used as it is: its manifest has no more than deno.json says, hence no description, engines, peers.
 *
 * @module
 */

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../", import.meta.url));
const out = join(root, "zig-out/npm");
const packed = join(out, "deno-pack.tgz");
const folder = join(out, "package");
const bun = process.env.QLASTER_BUN ?? "bun";

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
// Without source maps: they carry absolute paths of this machine and would double the size.
run(process.execPath, ["pack", "--quiet", "--no-source-maps", "--output", packed, ...process.argv.slice(2)], root);
run("tar", ["-xzf", packed, "-C", out], root);
rmSync(packed);

const own = manifestIn(root);
const emitted = manifestIn(folder);
for (const field of ["private", "scripts", "devDependencies", "files"]) delete own[field];
// What `bunx` runs. A file of its own: of JSR's there is none that may begin with a line for the shell.
writeFileSync(
  join(folder, "qlaster.mjs"),
  '#!/usr/bin/env bun\nimport process from "node:process";\nimport { main } from "./src/cli/mod.js";\nprocess.exit(await main());\n',
  { mode: 0o755 },
);
const bin = { qlaster: "./qlaster.mjs" };
const manifest = { ...own, exports: emitted.exports, main: emitted.main, types: emitted.types, bin };
writeFileSync(join(folder, "package.json"), `${JSON.stringify(manifest, undefined, 2)}\n`);
run(bun, ["pm", "pack", "--quiet", "--ignore-scripts", "--destination", out], folder);

function manifestIn(directory: string): Record<string, unknown> {
  return JSON.parse(readFileSync(join(directory, "package.json"), "utf8"));
}

function run(command: string, args: readonly string[], cwd: string): void {
  execFileSync(command, args, { cwd, stdio: ["ignore", "inherit", "inherit"] });
}
