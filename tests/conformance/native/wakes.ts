/**
 * Cases over `Native`: wakes, and who watches them.
 * May touch: the native library through `load()`, libc for descriptors of other types, the temporary directory.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Status } from "../../../src/native/abi.generated.ts";
import type { Watch } from "../../../src/native/native.ts";
import { eventually, footprintOf, settlesAt } from "../../support/footprint.ts";
import { guarded } from "../../support/guarded.ts";
import * as libc from "../../support/libc.ts";
import { Temporary } from "../../support/temporary.ts";
import { EBADF, native } from "../support/native_cases.ts";

guarded(
  "Native.wakeOpen() takes a descriptor over whatever it is, and wants a connected Unix stream socket",
  async (held) => {
    const library = await native();
    const temporary = held.use(new Temporary());
    for (const fd of [libc.eventfd(), libc.datagramSocket(), libc.memfd(4096), libc.openFile(temporary.at("file"))]) {
      assert.equal(library.wakeOpen(fd), Status.badDescriptor);
      assert.equal(library.fdClose(fd), EBADF, "it is closed");
    }
    assert.equal(library.wakeOpen(-1), Status.badDescriptor);
  },
);

guarded(
  "Native.watch() tells of each wake and of the other end's close, and stops when it is told to",
  async (held) => {
    const library = await native();
    const before = footprintOf("self");
    const pair = new Int32Array(2);
    assert.equal(library.wakeCreate(pair), 0);
    let wakes = 0;
    let closes = 0;
    const watch: Watch = await library.watch(pair[0]!, () => wakes++, () => closes++);
    const wake = library.wakeOpen(pair[1]!);
    assert.equal(library.wakeNotify(wake), 0);
    await eventually("the first wake", () => wakes === 1);
    watch.unref();
    watch.ref();
    for (let i = 0; i < 100_000; i++) assert.equal(library.wakeNotify(wake), 0); // full is "signalled"
    await eventually("another wake", () => wakes > 1);
    assert.equal(closes, 0);
    library.close(wake);
    await eventually("the close", () => closes === 1);
    watch.close();

    library.wakeCreate(pair);
    const second = await library.watch(pair[0]!, () => {}, () => closes++);
    const kept = library.wakeOpen(pair[1]!);
    second.close();
    await eventually("nobody listens", () => library.wakeNotify(kept) < 0);
    assert.equal(closes, 1, "no close for one's own close");
    library.close(kept);
    held.defer(() => settlesAt("self", before));
  },
);
