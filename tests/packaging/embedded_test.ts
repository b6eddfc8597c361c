/**
 * The libraries inside the package: small, named by their bytes, the same whenever and wherever they are built, and
 * asking nothing of the system that their platform has not. macOS and arm64 are looked at, not run.
 * May touch: the generated modules, Zig in a copy of the sources.
 */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { SYMBOLS } from "../../src/native/abi.generated.ts";
import type { EmbeddedLibrary } from "../../src/native/embedded.ts";
import { guarded } from "../support/guarded.ts";
import { OWN_RUNTIME } from "../support/runtime.ts";
import { Temporary } from "../support/temporary.ts";
import { readBinary } from "./support/binary.ts";
import { tool } from "./support/command.ts";
import { ROOT } from "./support/packages.ts";

const FOLDER = join(ROOT, "src/native/embedded");
const PLATFORMS = ["darwin-arm64", "darwin-x64", "linux-arm64", "linux-x64"];
/** Zig's own linker puts them into every dylib. */
const ADDED_BY_LINKER = ["__dso_handle", "_mh_dylib_header"];
const SIZE_MAX = 300 * 1024;

async function embedded(platform: string): Promise<EmbeddedLibrary> {
  return (await import(join(FOLDER, `${platform}.ts`))).library;
}

test("embedded/ has a module for every platform and nothing else", () => {
  assert.deepEqual(readdirSync(FOLDER).sort(), PLATFORMS.map((platform) => `${platform}.ts`));
});

for (const platform of PLATFORMS) {
  const [system, machine] = platform.split("-");

  test(`the library for ${platform} is what its module says, and at most ${SIZE_MAX} bytes`, async () => {
    const { base64, sha256 } = await embedded(platform);
    const bytes = Uint8Array.fromBase64(base64);
    assert.ok(bytes.length <= SIZE_MAX, `${bytes.length}`);
    assert.equal(createHash("sha256").update(bytes).digest("hex"), sha256);
    const file = join(ROOT, "zig-out/cross", platform, `libqlaster.${system === "linux" ? "so" : "dylib"}`);
    assert.deepEqual(bytes, new Uint8Array(readFileSync(file)));
  });

  test(`the library for ${platform} offers our symbols and asks for the system's alone`, async () => {
    const { base64, soname } = await embedded(platform);
    const binary = readBinary(Uint8Array.fromBase64(base64));
    assert.equal(binary.machine, machine);
    const offered = binary.exported.filter((name) => !ADDED_BY_LINKER.includes(name));
    assert.deepEqual(offered.sort(), Object.values(SYMBOLS).map(([name]) => name).sort());
    assert.equal(binary.hasThreadLocals, false);
    assert.equal(binary.hasDebugInfo, false);
    if (system === "linux") {
      assert.equal(binary.format, "elf");
      assert.equal(binary.name, soname);
      assert.match(soname, /^libqlaster-[0-9a-f]{16}\.so$/);
      assert.deepEqual(binary.needed, []); // design D20: one library for glibc and musl
      assert.deepEqual(binary.undefined, []);
    } else {
      assert.equal(binary.format, "mach-o");
      assert.equal(soname, "");
      assert.deepEqual(binary.needed, ["/usr/lib/libSystem.B.dylib"]);
      assert.ok(binary.undefined.includes("mmap"), "the parser finds what is asked for");
      assert.equal(binary.isSigned, machine === "arm64");
    }
  });
}

// Runs no TypeScript, so once is enough.
const rebuild = OWN_RUNTIME === "deno" ? guarded : () => {};
rebuild("built again elsewhere, from nothing, the modules are the same to the byte", async (held) => {
  const copy = held.use(new Temporary());
  for (const file of ["build.zig", "build.zig.zon"]) cpSync(join(ROOT, file), copy.at(file));
  cpSync(join(ROOT, "zig"), copy.at("zig"), { recursive: true });
  mkdirSync(copy.at("src/native/embedded"), { recursive: true });
  const lz4 = process.env.QLASTER_LZ4;
  const options = lz4 === undefined ? [] : [`-Dlz4=${lz4}`];
  await tool([process.env.QLASTER_ZIG ?? "zig", "build", "embed", ...options], copy.path, {
    ZIG_LOCAL_CACHE_DIR: copy.at("cache"),
  });
  for (const platform of PLATFORMS) {
    const again = readFileSync(copy.at(`src/native/embedded/${platform}.ts`), "utf8");
    assert.ok(
      again === readFileSync(join(FOLDER, `${platform}.ts`), "utf8"),
      `${platform} differs: not reproducible, or the checkout's is stale (./dev build)`,
    );
  }
}, { timeoutMs: 600_000 });
