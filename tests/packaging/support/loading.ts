/**
 * Loads the library in a process of its own, because a process loads it once.
 * May touch: processes.
 */

import { writeFileSync } from "node:fs";
import { executable, type Runtime } from "../../support/runtime.ts";
import type { Temporary } from "../../support/temporary.ts";
import { Program } from "./command.ts";

/** What the child says. */
export interface Loading {
  readonly ok: boolean;
  readonly code?: string;
  readonly name?: string;
  /** Empty when there is no error. */
  readonly message: string;
  /** What is mapped, as "device inode path". */
  readonly libraries: readonly string[];
}

export interface LoadingOptions {
  /** The argument of `load`, as text. Default none. */
  readonly argument?: string;
  readonly env?: Record<string, string>;
  /** Deno's. Default --allow-ffi. */
  readonly permissions?: readonly string[];
}

/** Calls `load` of the package whose mod.ts that is. */
export async function loadIn(
  runtime: Runtime,
  modulePath: string,
  directory: Temporary,
  options: LoadingOptions = {},
): Promise<Loading> {
  const script = directory.at("load.ts");
  writeFileSync(
    script,
    `import { load } from "${modulePath}";
import process from "node:process";
const answer = await load(${options.argument ?? ""}).then(
  () => ({ ok: true, message: "" }),
  ({ name, code, message }) => ({ ok: false, name, code, message }),
);
console.log(JSON.stringify(answer));
process.stdin.once("end", () => process.exit(0)).resume();
`,
  );
  const run = runtime === "deno"
    ? [executable("deno"), "run", "--no-prompt", ...options.permissions ?? ["--allow-ffi"], script]
    : [executable("bun"), "run", script];
  using program = new Program(run, {
    cwd: directory.path,
    env: { DENO_DIR: directory.at("cache"), ...options.env },
  });
  const answer = await program.firstLine() as Omit<Loading, "libraries">;
  const libraries = program.libraries();
  await program.end();
  return { ...answer, libraries };
}
