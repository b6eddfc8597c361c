/**
 * The scripted stream of the ring tests: the same frames from the same seed as in ../rust/src/stream.rs, where the
 * generator and the hash are described; and both ends of a ring that carries it, by the native library alone.
 * May touch: the native library. May not touch: src/stream, src/v9, src/wire.
 */

import { setImmediate } from "node:timers";
import {
  AccountBody,
  FRAME_FLAG_EXECUTABLE,
  FrameHeader,
  FrameKind,
  PollRecord,
  RingInfo,
  Status,
  V9Account,
  V9Created,
} from "../../../src/native/abi.generated.ts";
import type { Native } from "../../../src/native/native.ts";
import * as libc from "../../support/libc.ts";

export const PAYLOAD_MAX: number = 65536 - V9Account.size;
const RECORD_WORDS = PollRecord.size / 4;
const BATCH = 256;
const LITTLE = true;

/** Two lanes of 32 bits. */
export class StreamHash {
  #a = 1;
  #b = 2;

  /** @param words The body, and zeros behind it up to an even count of words. */
  frame(words: Uint32Array, length: number): void {
    let [a, b] = [this.#a, this.#b];
    for (let i = 0; i < length / 4; i += 2) {
      a = Math.imul(a ^ words[i]!, 0x85ebca6b);
      a = (a << 13) | (a >>> 19);
      b = Math.imul(b ^ words[i + 1]!, 0xc2b2ae35);
      b = (b << 13) | (b >>> 19);
    }
    a = Math.imul(a ^ length, 0x85ebca6b);
    b = Math.imul(b, 0xc2b2ae35);
    this.#a = (a << 13) | (a >>> 19);
    this.#b = (b << 13) | (b >>> 19);
  }

  /** Bytes from anywhere. */
  bytes(bytes: Uint8Array): void {
    const words = new Uint32Array(Math.ceil(bytes.length / 8) * 2);
    new Uint8Array(words.buffer).set(bytes);
    this.frame(words, bytes.length);
  }

  get hex(): string {
    return [this.#a, this.#b].map((lane) => (lane >>> 0).toString(16).padStart(8, "0")).join("");
  }
}

export function hashOf(bytes: Uint8Array): string {
  const hash = new StreamHash();
  hash.bytes(bytes);
  return hash.hex;
}

/** Makes the bodies of the stream, one at a time. */
export class Script {
  /** The body of the newest frame, zeros behind it. */
  readonly words = new Uint32Array((V9Account.size + PAYLOAD_MAX) / 4 + 2);
  readonly payload: Uint8Array = new Uint8Array(this.words.buffer, V9Account.size);
  readonly #bytes = new Uint8Array(this.words.buffer);
  readonly #view = new DataView(this.words.buffer);
  #state: number;

  constructor(seed: number) {
    this.#state = (seed ^ 0x9e3779b9) || 1;
    this.#bytes.set([9, 2]);
  }

  #step(): number {
    let state = this.#state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state = state;
    return state >>> 0;
  }

  /** Frame `number`, the first being 1. Returns its payload's size. */
  frame(number: number): number {
    const r = this.#step();
    const exponent = (r >>> 8) % ((r & 255) < 230 ? 10 : 16);
    const size = Math.min((1 << exponent) + (this.#step() & ((1 << exponent) - 1)), PAYLOAD_MAX);
    const view = this.#view;
    u64(view, V9Account.createdNs, number, 0);
    for (let i = 0; i < 32; i += 4) {
      view.setUint32(V9Account.pubkey + i, number, LITTLE);
      view.setUint32(V9Account.owner + i, ~number, LITTLE);
    }
    u64(view, V9Account.lamports, number, 0);
    view.setUint8(V9Account.executable, number & 1);
    u64(view, V9Account.rentEpoch, ~number, ~0);
    u64(view, V9Account.slot, number >>> 8, 0);
    u64(view, V9Account.writeVersion, size, number);
    view.setUint32(V9Account.rawLength, size, LITTLE);
    view.setUint32(V9Account.wireLength, size, LITTLE);
    const first = V9Account.size / 4;
    const end = first + Math.ceil(size / 4);
    for (let i = first; i < end; i++) this.words[i] = this.#step();
    for (let at = V9Account.size + size; at < end * 4; at++) this.#bytes[at] = 0;
    this.words[end] = 0; // the hash takes words in pairs
    return size;
  }
}

function u64(view: DataView, at: number, low: number, high: number): void {
  view.setUint32(at, low, LITTLE);
  view.setUint32(at + 4, high, LITTLE);
}

/** What went through, as the Rust program tells it too. */
export interface Streamed {
  readonly frames: number;
  readonly bytes: number;
  readonly hash: string;
}

/** A ring of ours: handle and path. Its wake goes to nobody. @param directory "" for a memfd. */
export function createRing(native: Native, directory: string, capacity: number): { ring: number; path: string } {
  const bytes = new TextEncoder().encode(directory);
  const created = new Uint8Array(V9Created.size);
  const ring = native.v9RingCreate(bytes, bytes.length, 3, 7, capacity, created);
  if (ring < 0) throw new Error(`v9RingCreate: status ${ring}`);
  const view = new DataView(created.buffer);
  native.fdClose(view.getInt32(V9Created.wakeFd, LITTLE));
  const length = view.getUint32(V9Created.pathLength, LITTLE);
  return { ring, path: new TextDecoder().decode(created.subarray(V9Created.path, V9Created.path + length)) };
}

/** Somebody's ring; nobody signals its wake. */
export function joinRing(native: Native, path: string): number {
  const bytes = new TextEncoder().encode(path);
  const ring = native.v9RingJoin(bytes, bytes.length, libc.eventfd(), native.uid());
  if (ring < 0) throw new Error(`v9RingJoin: status ${ring}`);
  return ring;
}

function turn(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}

/** Writes the stream into a ring of ours, committing now and then, and its end; waits while it is full. */
export async function writeStream(native: Native, ring: number, frames: number, seed: number): Promise<Streamed> {
  const script = new Script(seed);
  const hash = new StreamHash();
  const head = new Uint8Array(FrameHeader.size + AccountBody.size);
  const view = new DataView(head.buffer);
  const targets = new Uint32Array([ring, 0]);
  const statuses = new Int32Array(targets.buffer);
  const body = FrameHeader.size;
  view.setUint16(FrameHeader.kind, FrameKind.account, LITTLE);
  let bytes = 0;
  for (let number = 1; number <= frames; number++) {
    const size = script.frame(number);
    hash.frame(script.words, V9Account.size + size);
    bytes += V9Account.size + size;
    view.setUint16(FrameHeader.flags, (number & 1) === 1 ? FRAME_FLAG_EXECUTABLE : 0, LITTLE);
    u64(view, FrameHeader.publishNs, number, 0);
    for (let i = 0; i < 32; i += 4) {
      view.setUint32(body + AccountBody.pubkey + i, number, LITTLE);
      view.setUint32(body + AccountBody.owner + i, ~number, LITTLE);
    }
    u64(view, body + AccountBody.lamports, number, 0);
    u64(view, body + AccountBody.rentEpoch, ~number, ~0);
    u64(view, body + AccountBody.slot, number >>> 8, 0);
    u64(view, body + AccountBody.writeVersion, size, number);
    view.setUint32(body + AccountBody.dataLength, size, LITTLE);
    while (native.ringOffer(head, head.length, script.payload, size, targets, 1, number % 64 === 0 ? 1 : 0) !== 1) {
      if (statuses[1] !== Status.full) throw new Error(`frame ${number}: status ${statuses[1]}`);
      native.ringCommit(targets, 1);
      await turn();
    }
  }
  native.ringCommit(targets, 1);
  // The sentinel needs room; what needs it in earnest is a sender that ends a full ring, which has the path instead.
  while (!hasRoomForEnd(native, ring)) await turn();
  const ended = native.ringEnd(ring, 0);
  if (ended < 0) throw new Error(`ringEnd: status ${ended}`);
  return { frames, bytes, hash: hash.hex };
}

function hasRoomForEnd(native: Native, ring: number): boolean {
  const info = new Float64Array(RingInfo.size / 8);
  native.ringInfo(ring, info);
  const [capacity, , produced, consumed] = info;
  return capacity! - (produced! - consumed!) >= 4;
}

/** Reads the stream from somebody's ring until its end. Waits by looking again: there are no signals in these tests. */
export async function readStream(native: Native, ring: number): Promise<Streamed> {
  const hash = new StreamHash();
  const memory = native.memory(native.ringAddress(ring), native.v9RingSize(ring));
  const source = new Uint8Array(memory);
  const words = new Uint32Array((V9Account.size + PAYLOAD_MAX) / 4 + 2);
  const aligned = new Uint8Array(words.buffer);
  const records = new Uint32Array(BATCH * RECORD_WORDS);
  let frames = 0;
  let bytes = 0;
  try {
    while (true) {
      const count = native.ringPoll(ring, records, BATCH);
      if (count === Status.endOfStream) break;
      if (count < 0 && count !== Status.wouldBlock) throw new Error(`after ${frames} frames: status ${count}`);
      if (count <= 0) {
        await turn();
        continue;
      }
      let taken = 0;
      for (let word = 0; word < count * RECORD_WORDS; word += RECORD_WORDS) {
        const at = records[word + PollRecord.frameOffset / 4]!;
        const end = records[word + PollRecord.payloadOffset / 4]! + records[word + PollRecord.payloadLength / 4]!;
        const inRing = records[word + PollRecord.ringBytes / 4]!;
        const length = end - at;
        if (inRing !== 4 + length) throw new Error(`frame ${frames + 1}: ${inRing} bytes of ring for ${length}`);
        aligned.set(source.subarray(at, end));
        aligned.fill(0, length, Math.ceil(length / 8) * 8);
        hash.frame(words, length);
        frames++;
        bytes += length;
        taken += inRing;
      }
      const released = native.ringRelease(ring, taken);
      if (released < 0) throw new Error(`ringRelease: status ${released}`);
    }
  } finally {
    memory.transfer(0);
  }
  return { frames, bytes, hash: hash.hex };
}
