/**
 * Cases over `Native`: what the library says of itself and its process, and programs of filters.
 * May touch: the native library through `load()`.
 *
 * @module
 */

import assert from "node:assert/strict";
import process from "node:process";
import {
  ABI_HASH,
  FilterKind,
  FilterOpcode,
  FilterOutcome,
  FilterVerdict,
  LAYOUT_VERSION,
  Status,
} from "../../../src/native/abi.generated.ts";
import { guarded } from "../../support/guarded.ts";
import { OWN_RUNTIME } from "../../support/runtime.ts";
import { accountHead, native } from "../support/native_cases.ts";

guarded("Native.abiHash() and layoutVersion() are those of the generated table", async () => {
  const library = await native();
  assert.equal(library.abiHash(), ABI_HASH);
  assert.equal(library.layoutVersion(), LAYOUT_VERSION);
  assert.equal(library.name, OWN_RUNTIME);
});

guarded("Native.instance() keeps the first candidate that can be one", async () => {
  const library = await native();
  for (const nonsense of [0, -1, 0.5, NaN, Infinity, 2 ** 54]) assert.equal(library.instance(nonsense), 0);
  const own = library.instance(11);
  assert.ok(Number.isSafeInteger(own) && own > 0);
  assert.equal(library.instance(22), own);
});

guarded("Native.clockUs() is the wall clock, uid() the effective user, limitsRaise() may be repeated", async () => {
  const library = await native();
  const before = Date.now();
  const clock = library.clockUs() / 1000;
  const after = Date.now();
  assert.ok(clock >= before - 1 && clock <= after + 1, `${before} <= ${clock} <= ${after}`);
  assert.equal(library.uid(), process.geteuid!());
  assert.equal(library.limitsRaise(), 0);
  assert.equal(library.limitsRaise(), 0);
});

guarded("Native.filterEvaluate() says whether a frame matches, and what of its data travels", async () => {
  const library = await native();
  const verdict = new Uint8Array(FilterVerdict.size);
  const words = new Uint32Array(verdict.buffer);
  const [tail, nothing] = [new Uint8Array(8), new Uint8Array(0)];
  const head = accountHead(8);
  const evaluate = (program: Uint8Array) =>
    library.filterEvaluate(program, program.length, head, head.length, tail, tail.length, -1, verdict);
  assert.equal(evaluate(Uint8Array.of(FilterKind.accounts, 0, 0, 0, 8, 0, 0, 0)), FilterOutcome.yes);
  assert.deepEqual([...words.slice(0, 3)], [FilterOutcome.yes, 0, 0]);
  assert.equal(evaluate(Uint8Array.of(FilterKind.slots, 0, 0, 0, 8, 0, 0, 0)), FilterOutcome.no);
  const slices = [FilterOpcode.slices, 0, 1, 0, 8, 0, 0, 0, 6, 0, 0, 0, 4, 0, 0, 0];
  assert.equal(evaluate(Uint8Array.of(FilterKind.accounts, 0, 1, 0, 24, 0, 0, 0, ...slices)), FilterOutcome.yes);
  assert.deepEqual([...words.slice(0, 3)], [FilterOutcome.yes, 1, 1], "one slice, clipped");
  assert.deepEqual([...words.slice(FilterVerdict.slices / 4).slice(0, 2)], [6, 2]);
  assert.equal(evaluate(nothing), Status.peerCorrupt);
  assert.equal(evaluate(Uint8Array.of(FilterKind.accounts, 0, 1, 0, 8, 0, 0, 0)), Status.peerCorrupt);
});
