/**
 * Both ways from bytes to a loaded library, in this process: each must work alone, since a machine may refuse the other.
 * May touch: the temporary directory.
 */

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import process from "node:process";
import { test } from "node:test";
import { ABI_HASH, SYMBOLS } from "../../src/native/abi.generated.ts";
import { embeddedLibrary } from "../../src/native/embedded.ts";
import { openFromFile, openFromMemory } from "../../src/native/extract.ts";
import type { Adapter } from "../../src/native/native.ts";
import { OWN_RUNTIME } from "../support/runtime.ts";
import { Temporary } from "../support/temporary.ts";

const adapter: Adapter = await import(`../../src/native/${OWN_RUNTIME}.ts`);
const bytes = Uint8Array.fromBase64((await embeddedLibrary()).base64);
const open = (path: string) => adapter.dlopen(path, { abiHash: SYMBOLS.abiHash });

test("openFromMemory() loads a library from no file", { skip: process.platform !== "linux" }, () => {
  assert.equal(openFromMemory(adapter, bytes, open).abiHash(), ABI_HASH);
});

test(
  "openFromMemory() keeps its descriptor, so that no number comes twice",
  { skip: process.platform !== "linux" },
  () => {
    const paths = [1, 2].map(() =>
      openFromMemory(adapter, bytes, (path) => {
        open(path);
        return path;
      })
    );
    assert.notEqual(paths[0], paths[1]);
  },
);

test("openFromFile() leaves no file behind", () => {
  using directory = new Temporary();
  assert.equal(openFromFile(adapter, bytes, open, [directory.path]).abiHash(), ABI_HASH);
  assert.deepEqual(readdirSync(directory.path), []);
});

test("openFromFile() goes on to the next directory", () => {
  using directory = new Temporary();
  assert.equal(openFromFile(adapter, bytes, open, ["/dev/null", directory.path]).abiHash(), ABI_HASH);
});

test("openFromFile() names every directory when none will do, and leaves no file behind", () => {
  using directory = new Temporary();
  const notALibrary = new Uint8Array(100);
  assert.throws(() => openFromFile(adapter, notALibrary, open, ["/dev/null", directory.path]), (error) => {
    assert.ok(error instanceof AggregateError);
    assert.equal(error.errors.length, 2);
    assert.match(error.message, /cannot create a file in \/dev\/null; /);
    return true;
  });
  assert.deepEqual(readdirSync(directory.path), []);
});

test("openFromFile() needs no directory of its own on this system", () => {
  assert.equal(openFromFile(adapter, bytes, open).abiHash(), ABI_HASH);
});
