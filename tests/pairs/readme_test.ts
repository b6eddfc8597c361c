/**
 * The README's programs, as they stand there, run as their reader would: a sender and a consumer in every pair of runtimes.
 * Only the socket's path is another, so that tests don't meet.
 */

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import process from "node:process";
import { eventually } from "../support/footprint.ts";
import { guarded, type Held } from "../support/guarded.ts";
import { executable, PAIRS, type Runtime } from "../support/runtime.ts";
import { Temporary } from "../support/temporary.ts";

const ROOT = new URL("../../", import.meta.url);
const PATH = "/tmp/qlaster.sock";

/** The programs of README.md: the code block that follows the mention of each file. */
function program(name: string, path: string): string {
  const readme = readFileSync(new URL("README.md", ROOT), "utf8");
  const code = readme.split(`\`${name}\``)[1]?.split("```ts\n")[1]?.split("```")[0];
  assert.ok(code?.includes(`"${PATH}"`), `README.md has no ${name} that uses ${PATH}`);
  return code.replaceAll(PATH, path);
}

/** A folder in which `@qlaster/core` means this checkout, as after an installation. */
function project(directory: Temporary): void {
  writeFileSync(
    directory.at("deno.json"),
    JSON.stringify({ imports: { "@qlaster/core": new URL("mod.ts", ROOT).href } }),
  );
  mkdirSync(directory.at("node_modules/@qlaster"), { recursive: true });
  symlinkSync(ROOT.pathname, directory.at("node_modules/@qlaster/core"));
  for (const name of ["sender.ts", "consumer.ts"]) {
    writeFileSync(directory.at(name), program(name, directory.at("s.sock")));
  }
}

function start(held: Held, runtime: Runtime, directory: Temporary, name: string): ChildProcess {
  const args = runtime === "deno" ? ["run", "--no-check", "--allow-ffi", name] : [name];
  const child = spawn(executable(runtime), args, {
    cwd: directory.path,
    env: { ...process.env, NO_COLOR: "1" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  held.defer(() => {
    child.kill("SIGKILL");
    return new Promise((resolve) =>
      child.exitCode === null && child.signalCode === null ? child.on("exit", resolve) : resolve()
    );
  });
  return child;
}

async function lines(child: ChildProcess, count: number): Promise<string[]> {
  let text = "";
  for await (const chunk of child.stdout!.setEncoding("utf8")) {
    text += chunk;
    const whole = text.split("\n").slice(0, -1);
    if (whole.length >= count) return whole;
  }
  throw new Error(`It ended after ${JSON.stringify(text)}`);
}

for (const [senderRuntime, consumerRuntime] of PAIRS) {
  guarded(
    `README.md: its sender in ${senderRuntime} and its consumer in ${consumerRuntime} run as shown`,
    async (held) => {
      const directory = held.use(new Temporary());
      project(directory);
      const sender = start(held, senderRuntime, directory, "sender.ts");
      await eventually("the sender listens", () => {
        assert.equal(sender.exitCode, null, "the sender goes on");
        return existsSync(directory.at("s.sock"));
      });
      const seen = await lines(start(held, consumerRuntime, directory, "consumer.ts"), 2);
      const rows = seen.map((line) => /^(\d+)n (\d+)n -?\d+ µs$/.exec(line) ?? assert.fail(line));
      for (const row of rows) assert.equal(BigInt(row[2]!), BigInt(row[1]!) * 100n);
      assert.equal(BigInt(rows[1]![1]!), BigInt(rows[0]![1]!) + 1n);
    },
  );
}
