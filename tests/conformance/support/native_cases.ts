/**
 * What the cases over `Native` have in common: the library, pairs of links and of ring ends, frames.
 * May touch: the native library through `load()`, the temporary directory.
 *
 * @module
 */

import assert from "node:assert/strict";
import {
  AccountBody,
  CAPACITY_BYTES_MIN,
  FrameHeader,
  FrameKind,
  PollRecord,
  RESERVED_BYTES_MIN,
  RingInfo,
  SlotBody,
} from "../../../src/native/abi.generated.ts";
import type { Native } from "../../../src/native/native.ts";
import type { Held } from "../../support/guarded.ts";
import { Temporary } from "../../support/temporary.ts";
import { notedLibrary } from "./noted_library.ts";

export const CAPACITY = CAPACITY_BYTES_MIN;
export const EBADF = -9;
export const ENOENT = -2;

/** The library; notes which symbols were called. */
export const { native, called } = notedLibrary();

export const utf8 = (text: string) => new TextEncoder().encode(text);

export function listen(library: Native, path: string): number {
  const bytes = utf8(path);
  return library.listen(bytes, bytes.length, 0);
}

export function connect(library: Native, path: string): number {
  const bytes = utf8(path);
  return library.linkConnect(bytes, bytes.length);
}

/** Two connected links. */
export function linkPair(held: Held, library: Native): [number, number] {
  const temporary = held.use(new Temporary());
  const listener = listen(library, temporary.at("s.sock"));
  const one = connect(library, temporary.at("s.sock"));
  const other = library.listenerAccept(listener);
  assert.ok(listener >= 0 && one >= 0 && other >= 0);
  library.close(listener);
  held.defer(() => void [one, other].forEach((link) => library.close(link)));
  return [one, other];
}

export interface Ring {
  readonly producer: number;
  readonly consumer: number;
}

export function ringPair(held: Held, library: Native, capacity = CAPACITY): Ring {
  const passed = new Int32Array(2);
  const producer = library.ringCreate(capacity, RESERVED_BYTES_MIN, 42, new Uint8Array(16).fill(7), passed);
  assert.ok(producer >= 0);
  const consumer = library.ringJoin(passed[0]!, passed[1]!, -1, capacity, 0, library.uid());
  assert.ok(consumer >= 0, `${consumer}`);
  held.defer(() => void [producer, consumer].forEach((handle) => library.close(handle)));
  return { producer, consumer };
}

export function frame(kind: number, bodyLength: number): Uint8Array {
  const bytes = new Uint8Array(FrameHeader.size + bodyLength);
  new DataView(bytes.buffer).setUint16(FrameHeader.kind, kind, true);
  return bytes;
}

/** An account frame's head for `length` bytes of data, which are the tail. */
export function accountHead(length: number): Uint8Array {
  const head = frame(FrameKind.account, AccountBody.size);
  new DataView(head.buffer).setUint32(FrameHeader.size + AccountBody.dataLength, length, true);
  return head;
}

export const slotFrame = () => frame(FrameKind.slot, SlotBody.size);
export const SLOT_SIZE = FrameHeader.size + SlotBody.size;

/** Offers to one ring: what the call returned, and the target's status. */
export function offer(
  library: Native,
  ring: number,
  head: Uint8Array,
  tail = new Uint8Array(0),
  commit = 1,
): [number, number] {
  const targets = new Uint32Array([ring, 99]);
  const taken = library.ringOffer(head, head.length, tail, tail.length, targets, 1, commit);
  return [taken, new Int32Array(targets.buffer)[1]!];
}

export function poll(library: Native, ring: number, count = 16): number | number[][] {
  const words = PollRecord.size / 4;
  const records = new Uint32Array(count * words);
  const found = library.ringPoll(ring, records, count);
  return found < 0 ? found : Array.from({ length: found }, (_, i) => [...records.subarray(i * words, (i + 1) * words)]);
}

export function infoOf(library: Native, ring: number): (offset: number) => number {
  const info = new Float64Array(RingInfo.size / 8);
  assert.equal(library.ringInfo(ring, info), 0);
  return (offset) => info[offset / 8]!;
}
