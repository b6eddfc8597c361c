/**
 * What becomes of a descriptor that a runtime's event loop can't take.
 * May touch: the native library, a file of the test's own.
 *
 * @module
 */

import assert from "node:assert/strict";
import { fstatSync, openSync } from "node:fs";
import { test } from "node:test";
import { load } from "../../src/native/load.ts";
import { Place } from "./support/place.ts";

test("a descriptor that the event loop refuses is closed", async () => {
  await using place = new Place();
  const native = await load();
  const nothing = () => {};
  for (const adopt of [native.watch, native.stream]) {
    const fd = openSync(`${place.directory}/file`, "w"); // nothing to wait for in a file
    await assert.rejects(adopt(fd, nothing, nothing));
    assert.throws(() => fstatSync(fd), { code: "EBADF" });
  }
});
