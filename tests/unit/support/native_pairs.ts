/**
 * Both ends of native objects in one process: a socket pair as two links, a ring with its producer and its consumer.
 * May touch: the native library through `load()`. May not touch: files.
 *
 * @module
 */

import assert from "node:assert/strict";
import { load } from "../../../src/native/load.ts";
import type { Native } from "../../../src/native/native.ts";

export { load };

/** Two native links, connected to each other; whoever takes one closes it. */
export function linkHandles(native: Native): [ours: number, theirs: number] {
  const pair = socketPair(native);
  return pair.map((fd) => {
    const link = native.linkAdopt(fd);
    assert.ok(link >= 0, `linkAdopt gave ${link}`);
    assert.equal(native.fdClose(fd), 0); // the link has a duplicate
    return link;
  }) as [number, number];
}

/** Two connected sockets. Descriptors travel from the second to the first only: that is how wakes are made. */
export function socketPair(native: Native): [number, number] {
  const pair = new Int32Array(2);
  assert.equal(native.wakeCreate(pair), 0);
  return [pair[1]!, pair[0]!];
}

/** A ring whose two ends are both ours. */
export function ringHandles(native: Native, capacityBytes: number): { producer: number; consumer: number } {
  const passed = new Int32Array(2);
  const producer = native.ringCreate(capacityBytes, 16384, 1, new Uint8Array(16), passed);
  assert.ok(producer >= 0, `ringCreate gave ${producer}`);
  const consumer = native.ringJoin(passed[0]!, passed[1]!, capacityBytes, native.uid());
  assert.ok(consumer >= 0, `ringJoin gave ${consumer}`);
  return { producer, consumer };
}
