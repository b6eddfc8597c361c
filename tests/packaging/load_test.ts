/**
 * Which library `load` takes, what it needs to be allowed, and what it says when there is none that fits.
 * May touch: the temporary directory, processes of both runtimes, Zig (libraries of other versions).
 */

import assert from "node:assert/strict";
import { copyFileSync, cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { ABI_HASH, LAYOUT_VERSION } from "../../src/native/abi.generated.ts";
import { OWN_RUNTIME as runtime } from "../support/runtime.ts";
import { Temporary } from "../support/temporary.ts";
import { tool } from "./support/command.ts";
import { loadIn } from "./support/loading.ts";
import { copyPublished, packaged, ROOT } from "./support/packages.ts";

const FILE_NAME = process.platform === "darwin" ? "libqlaster.dylib" : "libqlaster.so";
const BUILT = join(ROOT, "zig-out/lib", FILE_NAME);

/** A library of which only the version can be asked. */
async function libraryOfVersion(directory: Temporary, version: number, hash: number): Promise<string> {
  const name = `version${version}`;
  writeFileSync(
    directory.at(`${name}.zig`),
    `export fn qlaster_layout_version() u32 { return ${version}; }
export fn qlaster_abi_hash() u32 { return ${hash}; }
`,
  );
  const path = directory.at(`lib${name}.so`);
  await tool([
    process.env.QLASTER_ZIG ?? "zig",
    "build-lib",
    "-dynamic",
    "-OReleaseSmall",
    `-femit-bin=${path}`,
    directory.at(`${name}.zig`),
  ], directory.path);
  return path;
}

/** The published files, arranged as a checkout: what `load` sees there. */
async function checkout(directory: Temporary): Promise<string> {
  await copyPublished(directory.path);
  mkdirSync(directory.at("zig-out/lib"), { recursive: true });
  copyFileSync(BUILT, directory.at(`zig-out/lib/${FILE_NAME}`));
  return directory.at("mod.ts");
}

packaged(`load() in ${runtime} takes a checkout's build output before the embedded copy`, async (held) => {
  const directory = held.use(new Temporary());
  const { ok, libraries, message } = await loadIn(runtime, await checkout(directory), directory);
  assert.ok(ok, message);
  assert.deepEqual(libraries.map((line) => line.split(" ").at(-1)), [directory.at(`zig-out/lib/${FILE_NAME}`)]);
});

packaged(`load() in ${runtime} refuses build output that does not fit instead of hiding it`, async (held) => {
  const directory = held.use(new Temporary());
  const mod = await checkout(directory);
  copyFileSync(
    await libraryOfVersion(directory, LAYOUT_VERSION, (ABI_HASH ^ 1) >>> 0),
    directory.at(`zig-out/lib/${FILE_NAME}`),
  );
  const { code, message } = await loadIn(runtime, mod, directory);
  assert.equal(code, "NATIVE_LAYOUT_MISMATCH");
  assert.ok(message.includes(directory.at(`zig-out/lib/${FILE_NAME}`)), message);
  assert.match(message, /different builds of one version.*\.\/dev build/);
});

packaged(`load() in ${runtime} takes the path that it is given before QLASTER_NATIVE`, async (held) => {
  const directory = held.use(new Temporary());
  const mod = await checkout(directory);
  const own = directory.at("libqlaster-own.so");
  copyFileSync(BUILT, own);
  const { ok, libraries, message } = await loadIn(runtime, mod, directory, {
    argument: `{ path: ${JSON.stringify(own)} }`,
    permissions: ["--allow-ffi", "--allow-env"],
    env: { QLASTER_NATIVE: "/dev/null/libqlaster.so" },
  });
  assert.ok(ok, message);
  assert.deepEqual(libraries.map((line) => line.split(" ").at(-1)), [own]);
});

packaged(`load() in ${runtime} takes QLASTER_NATIVE and says so when it is not there`, async (held) => {
  const directory = held.use(new Temporary());
  const mod = await checkout(directory);
  const environment = {
    permissions: ["--allow-ffi", "--allow-env=QLASTER_NATIVE"],
    env: { QLASTER_NATIVE: "/dev/null/libqlaster.so" },
  };
  const { code, message } = await loadIn(runtime, mod, directory, environment);
  assert.equal(code, "NATIVE_NOT_FOUND");
  assert.match(message, /"\/dev\/null\/libqlaster\.so" \(QLASTER_NATIVE\)/);
});

for (
  const [version, verdict] of [
    [LAYOUT_VERSION - 1, /the library is the older one: upgrade it/],
    [LAYOUT_VERSION + 1, /the TypeScript is the older one: upgrade @qlaster\/core/],
  ] as const
) {
  packaged(
    `load({ path }) in ${runtime} names both sides of layout ${version}, and which to upgrade`,
    async (held) => {
      const directory = held.use(new Temporary());
      const path = await libraryOfVersion(directory, version, 0xabcdef01);
      const { code, message } = await loadIn(runtime, join(ROOT, "mod.ts"), directory, {
        argument: `{ path: ${JSON.stringify(path)} }`,
      });
      assert.equal(code, "NATIVE_LAYOUT_MISMATCH");
      const expected = `"${path}" (load({ path })): its layout version is ${version} (hash abcdef01), the TypeScript ` +
        `expects ${LAYOUT_VERSION} (hash ${ABI_HASH.toString(16)})`;
      assert.ok(message.includes(expected), message);
      assert.match(message, verdict);
    },
  );
}

packaged(`load() in ${runtime} without build output and embedded copy says how to get one`, async (held) => {
  const directory = held.use(new Temporary());
  cpSync(join(ROOT, "src"), directory.at("src"), { recursive: true });
  copyFileSync(join(ROOT, "mod.ts"), directory.at("mod.ts"));
  rmSync(directory.at("src/native/embedded"), { recursive: true });
  const { code, message } = await loadIn(runtime, directory.at("mod.ts"), directory);
  assert.equal(code, "NATIVE_NOT_FOUND");
  assert.match(message, /\.\/dev build/);
});

packaged(`load() in ${runtime} refuses a second library in one process`, async (held) => {
  const directory = held.use(new Temporary());
  const { name, message } = await loadIn(runtime, await checkout(directory), directory, {
    argument: `).then(() => load({ path: "/other.so" })`,
  });
  assert.equal(name, "TypeError");
  assert.match(message, /"\/other\.so".*default library.*already loaded/);
});

if (runtime === "deno") {
  // Not none at all: to a child without any, Deno's node:child_process gives its own.
  for (const permissions of [["--allow-read"], ["--allow-ffi=/usr"], ["--allow-all", "--deny-ffi"]]) {
    packaged(`load() in Deno with ${permissions.join(" ")} asks for --allow-ffi`, async (held) => {
      const directory = held.use(new Temporary());
      const { code, message } = await loadIn("deno", await checkout(directory), directory, { permissions });
      assert.equal(code, "NATIVE_PERMISSION", message);
      assert.match(message, /--allow-ffi/);
    });
  }

  packaged("load() in Deno does not look at QLASTER_NATIVE without the permission, and does not ask", async (held) => {
    const directory = held.use(new Temporary());
    const { ok, message } = await loadIn("deno", await checkout(directory), directory, {
      env: { QLASTER_NATIVE: "/dev/null/libqlaster.so" },
    });
    assert.ok(ok, message);
  });
}
