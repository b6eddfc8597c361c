/**
 * The native library as a file (design D20): it needs no other library, no thread-local storage, no foreign symbol, and
 * exports what the generated table says; and that table is what its hash says.
 * May touch: the built library and abi.generated.ts, as bytes. May not touch: readelf, which a machine need not have.
 *
 * @module
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { ABI_HASH, LAYOUT_VERSION, SYMBOLS } from "../../src/native/abi.generated.ts";
import { load } from "../../src/native/load.ts";
import { ElfFile } from "./support/elf_file.ts";

const LIBRARY = fileURLToPath(new URL("../../zig-out/lib/libqlaster.so", import.meta.url));
const GENERATED = fileURLToPath(new URL("../../src/native/abi.generated.ts", import.meta.url));
const SIZE_MAX = 300 * 1024;
const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const PT_INTERP = 3;
const PT_TLS = 7;
const DT_NEEDED = 1;
const DT_TEXTREL = 22;

const elsewhere = process.platform === "linux" ? false : `an ELF file is Linux's, this is ${process.platform}`;

test("the library is a small ELF file for this CPU", { skip: elsewhere }, () => {
  const bytes = readFileSync(LIBRARY);
  assert.ok(bytes.length <= SIZE_MAX, `${bytes.length} bytes, the limit is ${SIZE_MAX}`);
  const file = new ElfFile(bytes);
  assert.equal(file.machine, { x64: 62, arm64: 183 }[process.arch as "x64" | "arm64"]);
});

test("the library needs no library, no interpreter and no thread-local storage", { skip: elsewhere }, () => {
  const file = new ElfFile(readFileSync(LIBRARY));
  const types = file.segments.map((segment) => segment.type);
  assert.ok(types.includes(PT_LOAD) && types.includes(PT_DYNAMIC), "it was read rightly");
  assert.equal(types.includes(PT_TLS), false, "PT_TLS");
  assert.equal(types.includes(PT_INTERP), false, "PT_INTERP");
  assert.ok(file.dynamic.length > 0, "it was read rightly");
  assert.deepEqual(file.dynamic.filter((entry) => entry.tag === DT_NEEDED || entry.tag === DT_TEXTREL), []);
});

test("no segment of the library is writable and executable at once", { skip: elsewhere }, () => {
  const file = new ElfFile(readFileSync(LIBRARY));
  for (const { type, flags } of file.segments) if (type === PT_LOAD) assert.notEqual(flags & 3, 3);
});

test("the library leaves no symbol undefined and exports those of abi.generated.ts, no more, no fewer", {
  skip: elsewhere,
}, () => {
  const { symbols } = new ElfFile(readFileSync(LIBRARY));
  assert.deepEqual(symbols.filter((symbol) => !symbol.isDefined).map((symbol) => symbol.name), []);
  const exported = symbols.filter((symbol) => symbol.isGlobal).map((symbol) => symbol.name);
  assert.deepEqual(exported.sort(), Object.values(SYMBOLS).map(([name]) => name).sort());
});

test("abi.generated.ts says what the library's layout says", async () => {
  const native = await load();
  assert.equal(native.abiHash(), ABI_HASH);
  assert.equal(native.layoutVersion(), LAYOUT_VERSION);
});

test("abi.generated.ts has not been edited: its text has the hash that it names", () => {
  const text = readFileSync(GENERATED, "utf8");
  const [, hash, body] = /^\/\/ Generated [^\n]*\n\nexport const ABI_HASH = (\d+);\n([^]*)$/.exec(text)!;
  let value = 0x811c9dc5; // FNV-1a, as in zig/abi.zig
  for (const byte of new TextEncoder().encode(body)) value = Math.imul(value ^ byte, 0x01000193) >>> 0;
  assert.equal(value, Number(hash));
});

test("SYMBOLS takes and gives numbers and buffers only, under the library's names", () => {
  const types = ["i32", "u32", "f64", "bool", "buffer"];
  for (const [key, [name, parameters, result]] of Object.entries(SYMBOLS)) {
    assert.equal(name, `qlaster_${key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`);
    for (const type of parameters) assert.ok(types.includes(type), name);
    assert.ok(types.slice(0, 4).includes(result), name);
  }
});
