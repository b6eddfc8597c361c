/**
 * `./dev` decides what runs and whether it passed, so its judgement is tested: which tools it takes, what it says
 * when there are none, and how it counts.
 * May touch: temporary folders that stand for .tools/ and for a machine's PATH.
 * May not touch: .tools/, the network.
 *
 * @module
 */

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));
const versions = Object.fromEntries(
  readFileSync(join(root, "tools/tools.env"), "utf8").matchAll(/^(\w+)=(.*)$/gm).map((
    [, name, value],
  ) => [name, value]),
);
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

/** Runs shell text with the functions of tools/ loaded, as ./dev loads them. */
function shell(text: string, options: { path?: string; input?: string } = {}) {
  const tools = mkdtempSync(join(tmpdir(), "qlaster-dev-test-"));
  const { status, stdout, stderr } = spawnSync("/bin/sh", [
    "-euc",
    `tools=${tools}\n. tools/tools.env\n. tools/setup.sh\n. tools/suites.sh\n${text}`,
  ], {
    cwd: root,
    encoding: "utf8",
    input: options.input ?? "",
    env: { ...process.env, PATH: options.path ?? process.env.PATH, QLASTER_SUITE_LIMIT_S: "50" },
  });
  rmSync(tools, { recursive: true });
  return { status, stdout, stderr };
}

/** A PATH with the ordinary commands of a bare machine and the given fake tools, which print a version. */
function machine(fakes: Record<string, string>): { path: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), "qlaster-dev-test-"));
  for (const name of ["awk", "cat", "cmp", "dirname", "mkdir", "sed", "sh"]) {
    symlinkSync(execFileSync("/bin/sh", ["-c", `command -v ${name}`], { encoding: "utf8" }).trim(), join(path, name));
  }
  for (const [name, output] of Object.entries(fakes)) {
    writeFileSync(join(path, name), `#!/bin/sh\necho '${output}'\n`);
    chmodSync(join(path, name), 0o755);
  }
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) };
}

test("the versions in package.json and deno.json are those of tools.env and of each other", () => {
  const deno = JSON.parse(readFileSync(join(root, "deno.json"), "utf8"));
  assert.deepEqual(manifest.engines, { bun: `>=${versions.BUN_FLOOR}`, deno: `>=${versions.DENO_FLOOR}` });
  for (const field of ["name", "version", "license", "exports"]) assert.deepEqual(deno[field], manifest[field], field);
});

/** Every module that a module loads, itself included; packages by their names. */
function graphOf(module: string, seen: Set<string> = new Set()): Set<string> {
  if (seen.has(module)) return seen;
  seen.add(module);
  if (!module.endsWith(".ts")) return seen;
  const source = readFileSync(module, "utf8").replaceAll(/^ *(\*|\/\/).*$/gm, "");
  for (const [, isType, name] of source.matchAll(/^(?:import|export) (type )?(?:[^;"]* from )?"([^"]+)";$/gm)) {
    if (isType === undefined) graphOf(name!.startsWith(".") ? join(dirname(module), name!) : name!, seen);
  }
  return seen;
}

test("run-time dependencies are exact and explained, and the entry that everybody loads has none", () => {
  const explained = readFileSync(join(root, "docs/dependencies.md"), "utf8");
  for (const [name, version] of Object.entries(manifest.dependencies as Record<string, string>)) {
    assert.match(version, /^\d+\.\d+\.\d+$/, name);
    assert.match(explained, new RegExp(`\\| \`${name}\` +\\| ${version} `), `${name} in docs/dependencies.md`);
  }
  for (const entry of ["mod.ts", "src/v9/mod.ts"]) {
    const packages = [...graphOf(join(root, entry))].filter((name) =>
      !name.endsWith(".ts") && !name.startsWith("node:")
    );
    assert.deepEqual(packages, [], entry);
  }
  assert.ok(graphOf(join(root, "src/recording/mod.ts")).has("@mcap/core")); // the look sees what is there
});

test("the release of LZ4 is the same wherever it is written, and so is what build.zig.zon repeats", () => {
  const { LZ4_PINNED, LZ4_C_SHA256, LZ4_H_SHA256, ZIG_FLOOR } = versions;
  const read = (file: string) => readFileSync(join(root, file), "utf8");
  const zon = read("build.zig.zon");
  assert.ok(zon.includes(`/lz4/lz4/archive/refs/tags/v${LZ4_PINNED}.tar.gz"`));
  assert.ok(zon.includes(`.version = "${manifest.version}"`));
  assert.ok(zon.includes(`.minimum_zig_version = "${ZIG_FLOOR}"`));
  for (const sum of [LZ4_C_SHA256, LZ4_H_SHA256]) assert.match(sum!, /^[0-9a-f]{64}$/);
  for (const file of ["build.zig", "zig/v9/lz4.zig", "THIRD_PARTY_NOTICES", "docs/dependencies.md"]) {
    assert.deepEqual(new Set(read(file).match(/(?<=LZ4 |release )1\.\d+\.\d+/g)), new Set([LZ4_PINNED]), file);
  }
});

test("version_of lz4 takes the two files by their contents, and look_for by their names", () => {
  const files = "mkdir -p $tools/lz4-$LZ4_PINNED; cd $tools/lz4-$LZ4_PINNED; echo c >lz4.c; echo h >lz4.h";
  const sums = "LZ4_C_SHA256=$(sha256_of lz4.c); LZ4_H_SHA256=$(sha256_of lz4.h)";
  const version = 'version_of lz4 "$PWD/lz4"';
  assert.equal(shell(`${files}; ${sums}; ${version}`).stdout.trim(), versions.LZ4_PINNED);
  for (const fault of ["echo x >>lz4.c", "echo x >>lz4.h", "rm lz4.h", "LZ4_C_SHA256=$LZ4_H_SHA256"]) {
    assert.equal(shell(`${files}; ${sums}; ${fault}; ${version}`).stdout.trim(), "", fault);
  }
  assert.equal(shell(`${files}; look_for lz4 && [ "$lz4" = "$PWD" ]`).status, 0);
  assert.notEqual(shell("look_for lz4").status, 0);
});

test("the lock file has every dependency in its exact version and names no registry", () => {
  const lock = readFileSync(join(root, "bun.lock"), "utf8");
  for (const [name, wanted] of Object.entries(manifest.devDependencies)) {
    // A second version of a package has a name of ours: "npm:package@version".
    const [, original = name, version] = /^(?:npm:(.+)@)?(\d+\.\d+\.\d+)$/.exec(String(wanted)) ?? [];
    assert.ok(version !== undefined, `${name}: ${wanted}`);
    // The second element is the registry; it is empty for the default one.
    assert.ok(lock.includes(`"${name}": ["${original}@${version}", "",`), `${name}@${version}`);
  }
  assert.doesNotMatch(lock, /:\/\//);
});

test("fits() takes a tool from its floor on, and of Zig only the same minor version", () => {
  const rows: [name: string, version: string, expected: boolean][] = [
    ["zig", "0.17.0", true],
    ["zig", "0.17.9", true],
    ["zig", "0.16.9", false],
    ["zig", "0.18.0", false],
    ["zig", "0.17.1-dev.12+abcdef", false],
    ["deno", "2.7.11", false],
    ["deno", "2.7.12", true],
    ["deno", "2.10.0", true],
    ["deno", "3.0.0", true],
    ["bun", "1.3.13", false],
    ["bun", "1.4.0", true],
    ["bun", "1.10.0-canary.1", true],
    ["bun", "", false],
  ];
  for (const [name, version, expected] of rows) {
    assert.equal(shell(`fits ${name} '${version}'`).status === 0, expected, `${name} ${version}`);
  }
});

test("find_tool() passes over a tool that is too old or no such tool", () => {
  for (const output of ["deno 2.7.11 (stable)", "", "something else"]) {
    using bare = machine({ deno: output });
    const { status, stdout } = shell("find_tool deno", bare);
    assert.deepEqual([status !== 0, stdout], [true, ""], output);
  }
  using modern = machine({ zig: versions.ZIG_PINNED });
  assert.equal(shell("find_tool zig", modern).stdout.trim(), join(modern.path, "zig"));
});

test("install_tool() names in one sentence what to install when no client is there", () => {
  for (
    const [name, named] of [
      ["zig", /python3/],
      ["deno", /npm, or python3/],
      ["bun", /npm, or python3/],
      ["lz4", /\.tools\/lz4-[0-9.]+\/, or python3/],
    ] as const
  ) {
    using bare = machine({});
    const { status, stderr } = shell(`install_tool ${name}`, bare);
    assert.equal(status, 1);
    assert.match(stderr, new RegExp(`^dev: needs ${name}[ .][^\n]+\n$`));
    assert.match(stderr, named);
  }
});

test("install_tool() says which tool on PATH it does not take, and why", () => {
  using old = machine({ bun: "1.3.13" });
  const { stderr } = shell("install_tool bun", old);
  assert.ok(
    stderr.startsWith(`dev: ${join(old.path, "bun")} is 1.3.13, needed is bun >= ${versions.BUN_FLOOR}`),
    stderr,
  );
});

test("counts_of_zig() counts failures, crashes, leaks and timeouts as failed", () => {
  const rows: [line: string, counts: string][] = [
    ["Build Summary: 3/3 steps succeeded; 12/12 tests passed", "12 0 0"],
    ["Build Summary: 3/3 steps succeeded; 1/2 tests passed (1 skipped)", "1 0 1"],
    ["Build Summary: 1/3 steps succeeded (1 failed); 3/6 tests passed (1 skipped, 1 failed, 1 crashed)", "3 2 1"],
    ["Build Summary: 1/3 steps succeeded (1 failed); 1/3 tests passed (1 skipped, 1 timed out)", "1 1 1"],
    ["Build Summary: 3/3 steps succeeded", ""], // nothing ran: compilation failed, or Zig had the result in its cache
  ];
  for (const [input, counts] of rows) {
    assert.equal(shell("counts_of_zig", { input: `${input}\n` }).stdout.trim(), counts);
  }
});

test("counts_of_deno() reads the closing line, not the steps in it", () => {
  const input = "x ... ok\n\nFAILED | 3 passed (7 steps) | 1 failed (2 steps) | 2 ignored (6s)\n\nerror: Test failed\n";
  assert.equal(shell("counts_of_deno", { input }).stdout.trim(), "3 1 2");
  assert.equal(shell("counts_of_deno", { input: "x ..." }).stdout.trim(), "0 0 0");
});

test("counts_of_bun() reads the closing lines", () => {
  const input =
    "(pass) 9 fail\n\n 12 pass\n 1 skip\n 1 todo\n 3 fail\n 1 error\nRan 17 tests across 2 files. [5.02s]\n";
  assert.equal(shell("counts_of_bun", { input }).stdout.trim(), "12 3 1");
});

test("finish_suites() ends with the sums", () => {
  const { status, stdout } = shell(`
    suite one line echo 'stress: 3 passed, 0 failed' 2>/dev/null
    suite two line echo 'stress: 4 passed, 0 failed, 2 skipped' 2>/dev/null
    finish_suites`);
  assert.deepEqual([status, ...stdout.trimEnd().split("\n").slice(-2)], [0, "2 skipped", "7 passed, 0 failed"]);
});

test("suite() makes one failure of a suite that ran nothing, died without counting, or did not end", () => {
  // Only what is to be stopped has a short limit: a machine that stands still for that long would stop the others, too.
  const rows: [suite: string, remark: string][] = [
    ["suite x line sh -c 'exit 0'", "ran no test"],
    ["suite x line sh -c 'exit 1'", "exit code 1"],
    ["limit=$suite_limit_s suite_limit_s=2; suite x line sleep 1000; suite_limit_s=$limit", "stopped after 2 s"],
  ];
  for (const [suite, remark] of rows) {
    const { status, stdout } = shell(
      `{ ${suite}; } 2>/dev/null; suite y line echo '1 passed, 0 failed'; finish_suites`,
    );
    assert.equal(status, 1);
    assert.match(stdout, new RegExp(`^x +0 passed +1 failed .*${remark}$`, "m"));
    assert.equal(stdout.trimEnd().split("\n").at(-1), "1 passed, 1 failed", "and the next suite ran");
  }
});
