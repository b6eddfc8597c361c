/**
 * Receives what peer_sender.ts sends: messages, or a stream of bytes that is cut into messages of one size.
 * May touch: its arguments and the clock. Checks the number of each message, and touches each of its lines.
 *
 * @module
 */

import { nowNs } from "../clock.ts";
import { checkMessage, TIME_AT } from "../message.ts";
import { LatencyRecorder, type Percentiles } from "../percentiles.ts";
import { type PeerTask, streamed, WARM_UP, WARM_UP_RUNS } from "./peer_task.ts";

/** What a way of passing messages is measured by. */
export interface PeerResult {
  readonly streamNs: readonly number[];
  readonly latency: Percentiles | undefined;
}

/** Give it all bytes in their order; it resolves when the last one has come. */
export class PeerReceiver {
  readonly whenDone: Promise<PeerResult>;
  readonly #task: PeerTask;
  readonly #streamed: number;
  readonly #streamNs: number[] = [];
  readonly #latency: LatencyRecorder;
  /** A message that came in pieces. */
  readonly #partial: Uint8Array;
  #filled = 0;
  #number = 0;
  #runStarted = 0;
  #resolve!: (result: PeerResult) => void;

  constructor(task: PeerTask) {
    this.#task = task;
    this.#streamed = streamed(task);
    this.#latency = new LatencyRecorder(Math.max(1, task.samples));
    this.#partial = new Uint8Array(task.bytes);
    this.whenDone = new Promise((resolve) => this.#resolve = resolve);
    this.#runStarted = nowNs();
  }

  receive(bytes: Uint8Array): void {
    const now = this.#number < this.#streamed ? 0 : nowNs();
    const size = this.#task.bytes;
    let at = 0;
    if (this.#filled > 0) {
      at = Math.min(bytes.length, size - this.#filled);
      this.#partial.set(bytes.subarray(0, at), this.#filled);
      this.#filled += at;
      if (this.#filled < size) return;
      this.#filled = 0;
      this.#onMessage(this.#partial, viewOf(this.#partial), 0, now);
    }
    const view = viewOf(bytes);
    for (; at + size <= bytes.length; at += size) this.#onMessage(bytes, view, at, now);
    if (at === bytes.length) return;
    this.#partial.set(bytes.subarray(at));
    this.#filled = bytes.length - at;
  }

  #onMessage(bytes: Uint8Array, view: DataView, at: number, now: number): void {
    const { messages, samples } = this.#task;
    const number = ++this.#number;
    checkMessage(bytes, view, at, this.#task.bytes, number);
    if (number > this.#streamed + WARM_UP) this.#latency.record(now - view.getFloat64(at + TIME_AT, true));
    if (number <= this.#streamed && number % messages === 0) this.#onRun(number / messages);
    if (number === this.#streamed + (samples > 0 ? WARM_UP + samples : 0)) {
      this.#resolve({
        streamNs: this.#streamNs,
        latency: samples > 0 ? this.#latency.percentiles() : undefined,
      });
    }
  }

  #onRun(run: number): void {
    const now = nowNs();
    if (run > WARM_UP_RUNS) this.#streamNs.push((now - this.#runStarted) / this.#task.messages);
    this.#runStarted = now;
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
