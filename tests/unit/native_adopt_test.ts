/**
 * What becomes of a descriptor that a runtime's event loop can't take.
 * May touch: the native library, /proc/self/fd. May not touch: the runtime's own files, whose descriptors it keeps books of.
 *
 * @module
 */

import assert from "node:assert/strict";
import { statSync } from "node:fs";
import process from "node:process";
import { test } from "node:test";
import { load } from "../../src/native/load.ts";

const DESCRIPTORS = process.platform === "linux" ? "/proc/self/fd" : "/dev/fd";

/** What is open by that number; undefined if nothing is. */
function opened(fd: number): string | undefined {
  const found = statSync(`${DESCRIPTORS}/${fd}`, { throwIfNoEntry: false });
  return found && `${found.dev} ${found.ino}`;
}

test("a descriptor that the event loop refuses is closed", async () => {
  const native = await load();
  const nothing = () => {};
  for (const adopt of [native.watch, native.stream]) {
    const memory = new Int32Array(2); // nothing to wait for in memory
    const ring = native.ringCreate(65536, 16384, 1, new Uint8Array(16), memory);
    assert.ok(ring >= 0);
    for (const fd of memory) {
      const region = opened(fd);
      assert.notEqual(region, undefined);
      await assert.rejects(adopt(fd, nothing, nothing));
      assert.notEqual(opened(fd), region); // another thread may have the number by now
    }
    native.close(ring);
  }
});
