/**
 * What `ring_poll` said of each frame: places in its records, which the native library has checked.
 * May touch: records, which are private memory. May not touch: shared memory.
 *
 * @module
 */

import { PollRecord } from "../native/abi.generated.ts";

export const RECORD_WORDS = PollRecord.size / 4;
/** Kind, and flags in the upper half. */
export const KIND_AND_FLAGS = PollRecord.kind / 4;
export const FLAGS_SHIFT = 8 * (PollRecord.flags - PollRecord.kind);
export const KIND_MASK = (1 << FLAGS_SHIFT) - 1;
export const RING_BYTES = PollRecord.ringBytes / 4;
export const LOST = PollRecord.lost / 4;
export const PAYLOAD_OFFSET = PollRecord.payloadOffset / 4;
export const PAYLOAD_LENGTH = PollRecord.payloadLength / 4;
export const EXTRA_OFFSET = PollRecord.extraOffset / 4;
export const EXTRA_LENGTH = PollRecord.extraLength / 4;
/** Where a record's frame begins. */
export function frameOffset(records: Uint32Array, index: number): number {
  return records[index * RECORD_WORDS]!;
}

/** What a record's frame is. */
export function frameKind(records: Uint32Array, index: number): number {
  return records[index * RECORD_WORDS + KIND_AND_FLAGS]! & KIND_MASK;
}

/** Matching updates that did not come before a record's frame. */
export function frameLost(records: Uint32Array, index: number): number {
  return records[index * RECORD_WORDS + LOST]!;
}

/** Bytes of the ring that giving a record's frame back frees: its own, and those of frames before it that were skipped. */
export function frameSize(records: Uint32Array, index: number): number {
  return records[index * RECORD_WORDS + RING_BYTES]!;
}

/** Whether any of the first records has bytes from an offset on. */
export function anyReaches(records: Uint32Array, count: number, offset: number): boolean {
  for (let word = 0; word < count * RECORD_WORDS; word += RECORD_WORDS) {
    if (records[word + PAYLOAD_OFFSET]! >= offset || records[word + EXTRA_OFFSET]! >= offset) return true;
  }
  return false;
}
