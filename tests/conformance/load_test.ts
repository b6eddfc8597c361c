/**
 * `load()` and files that are not the native library, in processes of their own: the first call decides.
 * May touch: the native library, the temporary directory.
 *
 * @module
 */

import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { ABI_HASH } from "../../src/native/abi.generated.ts";
import { Agent } from "../support/agent_process.ts";
import { guarded, type Held } from "../support/guarded.ts";
import { OWN_RUNTIME } from "../support/runtime.ts";
import { Temporary } from "../support/temporary.ts";

async function loadElsewhere(held: Held, path: string): Promise<{ code?: string; message: string }> {
  const agent = held.use(new Agent(OWN_RUNTIME));
  return await agent.run(async ({ qlaster }, path) => {
    const error = await qlaster.load({ path }).then(() => ({ message: "loaded" }), (error) => error);
    return { code: (error as { code?: string }).code!, message: error.message as string };
  }, path);
}

guarded("load() says NATIVE_NOT_FOUND for a file that is not there, and for one that is no library", async (held) => {
  const temporary = held.use(new Temporary());
  writeFileSync(temporary.at("text.so"), "not a library");
  for (const path of [temporary.at("nothing.so"), temporary.at("text.so")]) {
    const { code, message } = await loadElsewhere(held, path);
    assert.equal(code, "NATIVE_NOT_FOUND");
    assert.ok(message.includes(path), message);
  }
});

guarded("load() says NATIVE_NOT_FOUND for another library", async (held) => {
  assert.equal((await loadElsewhere(held, "libc.so.6")).code, "NATIVE_NOT_FOUND");
});

const LIBRARY = fileURLToPath(new URL("../../zig-out/lib/libqlaster.so", import.meta.url));

/** The library with another hash: the one number that `abiHash` returns stands in its code as it is, on x64. */
function withAnotherHash(): Uint8Array | undefined {
  if (!existsSync(LIBRARY)) return undefined;
  const bytes = Uint8Array.from(readFileSync(LIBRARY));
  const hash = new Uint8Array(Uint32Array.of(ABI_HASH).buffer);
  let count = 0;
  for (let at = 0; at + 4 <= bytes.length; at++) {
    if (!hash.every((byte, i) => bytes[at + i] === byte)) continue;
    bytes[at]! ^= 1;
    count++;
  }
  return count > 0 ? bytes : undefined;
}

const patched = withAnotherHash();

guarded("load() says NATIVE_LAYOUT_MISMATCH for a library of another layout", async (held) => {
  const temporary = held.use(new Temporary());
  writeFileSync(temporary.at("other.so"), patched!);
  const { code, message } = await loadElsewhere(held, temporary.at("other.so"));
  assert.equal(code, "NATIVE_LAYOUT_MISMATCH");
  assert.ok(message.includes(ABI_HASH.toString(16)), message);
}, { skip: patched === undefined ? "the hash does not stand in the library's code as one number" : undefined });
