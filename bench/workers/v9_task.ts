/**
 * How much the two sides of a ring of version 9 pass, computed once for both, and for the Rust program: peers/src/v9.rs
 * does the same phases, and its frames have the same content.
 * May touch: its arguments.
 * Phases as in throughput_plan.ts: the producer fills the empty ring while the consumer sleeps, the consumer empties it
 * while the producer sleeps, several times; then both at once.
 *
 * @module
 */

import { AccountBody, FrameHeader, FrameKind, SlotBody, V9Account, V9Slot } from "../../src/native/abi.generated.ts";
import { LINE } from "../message.ts";

/** What both sides are told. */
export interface V9Task {
  /** Nothing is in it but the ring, which the producer makes there. */
  readonly directory: string;
  /** Bytes of a frame's body: 18 makes it a slot, more an account. */
  readonly bytes: number;
  readonly fillFrames: number;
  readonly streamFrames: number;
  readonly runs: number;
  /** Frames of one signal. */
  readonly batch: number;
}

/** Nanoseconds per frame, one for each run. Alone: those that the thread ran, and all that passed. */
export interface V9ProducerResult {
  readonly fillNs: readonly number[];
  readonly fillWallNs: readonly number[];
}
export interface V9ConsumerResult {
  readonly drainNs: readonly number[];
  readonly drainWallNs: readonly number[];
  readonly streamNs: readonly number[];
}

/** As the original's default. */
export const CAPACITY = 64 * 1024 * 1024;
/** Before each body. */
export const PREFIX = 4;
export const WARM_UP_RUNS = 2;
const LITTLE = true;

/** A native frame whose slot holds its number. Payloads don't compress, but where a reader looks there is a 1. */
export class V9Frame {
  readonly head: Uint8Array;
  readonly payload: Uint8Array;
  readonly #view: DataView;
  readonly #slotAt: number;

  constructor(bytes: number) {
    const isSlot = bytes === V9Slot.size;
    this.head = new Uint8Array(FrameHeader.size + (isSlot ? SlotBody.size : AccountBody.size));
    this.payload = new Uint8Array(isSlot ? 0 : bytes - V9Account.size).fill(1);
    this.#view = new DataView(this.head.buffer);
    this.#slotAt = FrameHeader.size + (isSlot ? SlotBody.slot : AccountBody.slot);
    this.#view.setUint16(FrameHeader.kind, isSlot ? FrameKind.slot : FrameKind.account, LITTLE);
    if (isSlot) return;
    this.head.fill(1, FrameHeader.size + AccountBody.pubkey, FrameHeader.size + AccountBody.slot);
    this.#view.setUint32(FrameHeader.size + AccountBody.dataLength, this.payload.length, LITTLE);
    let state = 0x9e3779b9;
    for (let i = 0; i < this.payload.length; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      if ((V9Account.size + i) % LINE !== 0) this.payload[i] = state;
    }
  }

  /** The time is the number too: looking at a clock is no part of a push, on neither side. */
  number(value: number): void {
    this.#view.setUint32(this.#slotAt, value, LITTLE);
    this.#view.setUint32(FrameHeader.publishNs, value, LITTLE);
  }
}

/** Leaves the other side's cache lines alone for a while. */
export function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 1));
}
