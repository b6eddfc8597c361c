/**
 * The package as each registry would hand it out, made from the checkout once per run.
 * May touch: zig-out/npm/ (tools/pack.ts), the temporary directory.
 */

import { copyFileSync, mkdirSync, readdirSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { guarded } from "../../support/guarded.ts";
import { executable } from "../../support/runtime.ts";
import { tool } from "./command.ts";

export const ROOT = fileURLToPath(new URL("../../../", import.meta.url));

/** Type-checking, packing and compiling take seconds, and on a machine that others use minutes: for `guarded`. */
const TOOLS_MS = 540_000;

/** A test that needs the package, or a compiler. */
export function packaged(...[name, body, options]: Parameters<typeof guarded>): void {
  guarded(name, body, { timeoutMs: TOOLS_MS, ...options });
}

let published: Promise<string[]> | undefined;

/** The files that JSR would get, relative to the checkout. Fails on slow types, as publishing does. */
export function publishedFiles(): Promise<readonly string[]> {
  published ??= tool([executable("deno"), "publish", "--dry-run", "--allow-dirty"], ROOT).then((output) =>
    [...output.matchAll(/^ +(file:\/\/\S+) \(/gm)].map(([, url]) => relative(ROOT, fileURLToPath(url!)))
  );
  return published;
}

/** Puts the files that JSR would get into a directory of their own. */
export async function copyPublished(directory: string): Promise<void> {
  for (const file of await publishedFiles()) {
    mkdirSync(dirname(join(directory, file)), { recursive: true });
    copyFileSync(join(ROOT, file), join(directory, file));
  }
}

/** Whether this Deno has `deno pack`: the oldest that we support has not. */
export function canPack(): Promise<boolean> {
  return tool([executable("deno"), "pack", "--help"], ROOT).then(() => true, () => false);
}

let tarball: Promise<string> | undefined;

/** The path of the npm tarball, packed by `./dev pack`'s own program. */
export function npmTarball(): Promise<string> {
  const command = [executable("deno"), "run", "-A", "--no-check", "tools/pack.ts", "--allow-dirty"];
  tarball ??= tool(command, ROOT, { QLASTER_BUN: executable("bun") }).then(() => {
    const directory = join(ROOT, "zig-out/npm");
    return join(directory, readdirSync(directory).find((name) => name.endsWith(".tgz"))!);
  });
  return tarball;
}
