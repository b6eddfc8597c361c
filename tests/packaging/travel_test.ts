/**
 * The package reaches its users in several ways and must run in each without a toolchain, without a network and with no
 * permission but --allow-ffi: a program that streams through shared memory is started in an empty directory.
 * May touch: the temporary directory, processes of both runtimes, a loopback server.
 * Each runtime's test run shows its own half. What none shows (macOS, arm64, `deno compile`): docs/packaging.md.
 */

import assert from "node:assert/strict";
import { copyFileSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { delimiter, dirname, join } from "node:path";
import process from "node:process";
import { executable, OWN_RUNTIME, type Runtime, RUNTIMES } from "../support/runtime.ts";
import { Temporary } from "../support/temporary.ts";
import { Program, tool, which } from "./support/command.ts";
import { canPack, copyPublished, npmTarball, packaged, publishedFiles } from "./support/packages.ts";
import { application, applicationWithWorkers, worker } from "./support/program.ts";

const RUN = OWN_RUNTIME === "deno"
  ? [executable("deno"), "run", "--no-prompt", "--allow-ffi"]
  : [executable("bun"), "run"];
const EMBEDDED = ["darwin-arm64", "darwin-x64", "linux-arm64", "linux-x64"];

const BUNDLE = {
  deno: [executable("deno"), "bundle", "--quiet", "--output"],
  bun: [executable("bun"), "build", "--target=bun", "--outfile"],
};

/** Deno's bundler is esbuild, which it downloads into its cache at the first use. */
async function isBundlerThere(bundler: Runtime): Promise<boolean> {
  using directory = new Temporary();
  writeFileSync(directory.at("empty.ts"), "");
  try {
    await tool([...BUNDLE[bundler], directory.at("empty.js"), directory.at("empty.ts")], directory.path);
    return true;
  } catch (error) {
    if (!(error as Error).message.includes("esbuild")) throw error;
    return false;
  }
}

/** Starts the program in an empty directory and checks what it streams and where its library came from. */
async function assertTravels(command: readonly string[], env: Record<string, string> = {}) {
  using empty = new Temporary();
  using program = new Program(command, {
    cwd: empty.path,
    env: { DENO_DIR: empty.at("cache"), ...env },
  });
  assert.deepEqual(await program.firstLine(), { runtime: OWN_RUNTIME, slot: 7 });
  if (process.platform === "linux") {
    const libraries = program.libraries();
    assert.equal(libraries.length, 1, libraries.join());
    assert.match(libraries[0]!, /\/memfd:qlaster/);
  }
  const { code, errors } = await program.end();
  assert.deepEqual([code, errors], [0, ""]);
}

packaged(
  "deno publish would send every embedded library, the notices for what is in it, and no slow types",
  async () => {
    const files = await publishedFiles();
    for (const name of EMBEDDED) assert.ok(files.includes(`src/native/embedded/${name}.ts`), name);
    for (const name of ["LICENSE", "THIRD_PARTY_NOTICES"]) assert.ok(files.includes(name), name);
  },
);

packaged(`a copy of the published files runs in ${OWN_RUNTIME}`, async (held) => {
  const source = held.use(new Temporary());
  await copyPublished(source.path);
  writeFileSync(source.at("app.ts"), application("./mod.ts"));
  await assertTravels([...RUN, source.at("app.ts")]);
});

// musl's loader and dyld know no library by its SONAME: there each thread has an instance (docs/packaging.md).
packaged(`two Workers that start together share one instance in ${OWN_RUNTIME}`, async (held) => {
  const source = held.use(new Temporary());
  await copyPublished(source.path);
  writeFileSync(source.at("app.ts"), applicationWithWorkers());
  writeFileSync(source.at("worker.ts"), worker("./mod.ts"));
  // Deno wants to read a Worker's file as such; the library adds nothing to that.
  const read = OWN_RUNTIME === "deno" ? [`--allow-read=${source.path}`] : [];
  for (let i = 0; i < 5; i++) { // who comes first is chance
    using empty = new Temporary();
    using program = new Program([...RUN, ...read, source.at("app.ts")], {
      cwd: empty.path,
      env: { DENO_DIR: source.at("cache") },
    });
    const answer = await program.firstLine() as { handles: number[]; closed: number };
    assert.ok(answer.handles.every((handle) => handle >= 0), answer.handles.join());
    assert.notEqual(answer.handles[0], answer.handles[1]);
    assert.equal(answer.closed, 0, "the handle of one Worker is unknown to the other");
    const { code, errors } = await program.end();
    assert.deepEqual([code, errors], [0, ""]);
  }
}, { skip: process.platform === "linux" ? undefined : "only glibc finds a loaded library by its SONAME" });

for (const bundler of RUNTIMES) {
  packaged(`the one file of ${bundler}'s bundler runs in ${OWN_RUNTIME}`, async (held) => {
    const source = held.use(new Temporary());
    const target = held.use(new Temporary());
    await copyPublished(source.path);
    writeFileSync(source.at("app.ts"), application("./mod.ts"));
    await tool([...BUNDLE[bundler], target.at("app.js"), source.at("app.ts")], source.path);
    await assertTravels([...RUN, target.at("app.js")]);
  }, { skip: await isBundlerThere(bundler) ? undefined : "deno bundle has yet to fetch esbuild, without a network" });
}

const npm = which("npm");
const installers: Record<string, readonly string[] | undefined> = {
  bun: [executable("bun"), "add", "--ignore-scripts"],
  npm: npm === undefined
    ? undefined
    : [npm, "install", "--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts"],
};
for (const [name, command] of Object.entries(installers)) {
  packaged(`the npm tarball, installed by ${name}, runs and has types in ${OWN_RUNTIME}`, async (held) => {
    const project = held.use(new Temporary());
    copyFileSync(await npmTarball(), project.at("core.tgz"));
    writeFileSync(project.at("package.json"), `{ "type": "module" }`);
    await tool([...command ?? [], "./core.tgz"], project.path, { BUN_INSTALL_CACHE_DIR: project.at("cache") });
    for (const file of ["LICENSE", "THIRD_PARTY_NOTICES"]) {
      assert.ok(existsSync(project.at(`node_modules/@qlaster/core/${file}`)), file);
    }
    writeFileSync(project.at("app.ts"), application("@qlaster/core"));
    await assertTravels([...RUN, project.at("app.ts")]);

    // Packages that few need are their users' to add.
    for (const peer of ["litesvm", "@solana/kit"]) assert.ok(!existsSync(project.at(`node_modules/${peer}`)), peer);
    const { peerDependenciesMeta } = JSON.parse(
      readFileSync(project.at("node_modules/@qlaster/core/package.json"), "utf8"),
    );
    assert.deepEqual(peerDependenciesMeta, { "@solana/kit": { optional: true }, litesvm: { optional: true } });
    // The command as `bunx` runs it; Deno runs the same file.
    const cli = OWN_RUNTIME === "bun"
      ? [executable("bun"), "x", "qlaster"]
      : [executable("deno"), "run", "-A", "--no-prompt", "node_modules/@qlaster/core/qlaster.mjs"];
    const env = { PATH: `${dirname(executable("bun"))}${delimiter}${process.env.PATH}` };
    assert.match(await tool([...cli, "explain", "system"], project.path, env), /^SYSTEM\n/);
    assert.match(await tool([...cli, "doctor"], project.path, env), /^ok {4}round trip/m);

    writeFileSync(project.at("typed.ts"), TYPED);
    if (OWN_RUNTIME === "deno") await tool([executable("deno"), "check", "typed.ts"], project.path);
  }, {
    skip: command === undefined ? `there is no ${name}` : await canPack() ? undefined : "this Deno has no deno pack",
  });
}

/** An error if the types are missing, since everything would be `any`. */
const TYPED = `
import { type Consumer, setupConsumer, setupSender } from "@qlaster/core";
const consumer: Consumer = await setupConsumer("x.sock");
const update = await consumer.next();
if (update?.kind === "slot") update.slot satisfies bigint;
// @ts-expect-error: a path is a string
await setupSender({ path: 1 });
`;

if (OWN_RUNTIME === "bun") {
  for (const flags of [[], ["--minify", "--bytecode", "--format=esm"]]) {
    packaged(`bun build --compile ${flags.join(" ")} makes a program that needs nothing`, async (held) => {
      const source = held.use(new Temporary());
      const target = held.use(new Temporary());
      await copyPublished(source.path);
      writeFileSync(source.at("app.ts"), application("./mod.ts"));
      const compile = [executable("bun"), "build", "--compile", ...flags, "--outfile", target.at("app"), "app.ts"];
      await tool(compile, source.path);
      await assertTravels([target.at("app")]);
    });
  }
} else {
  packaged("a remote module in Deno runs from the cache after its server is gone", async (held) => {
    const source = held.use(new Temporary());
    const project = held.use(new Temporary());
    await copyPublished(source.path);
    const asked: string[] = [];
    const server = createServer((request, response) => {
      asked.push(request.url!);
      response.setHeader("content-type", "application/typescript").end(readFileSync(join(source.path, request.url!)));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    held.defer(() => void server.close());
    const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    writeFileSync(project.at("app.ts"), application(`http://${host}/mod.ts`));

    const DENO_DIR = project.at("cache");
    const permission = `--allow-import=${host}`; // jsr.io has it by default
    await tool([executable("deno"), "cache", "--no-check", permission, "app.ts"], project.path, { DENO_DIR });
    // All platforms, so that a cache that was filled on one machine serves another.
    for (const name of EMBEDDED) assert.ok(asked.includes(`/src/native/embedded/${name}.ts`), name);

    server.close();
    rmSync(source.path, { recursive: true });
    await assertTravels([...RUN, "--cached-only", permission, project.at("app.ts")], { DENO_DIR });
  });
}
