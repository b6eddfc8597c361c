/**
 * Records what a consumer reads, until it ends.
 * May touch: the consumer, as any application does; a recorder. May not touch: rings, files.
 * Why through a stage: whether what was read had been overwritten meanwhile is known when it has been given back (design D5).
 *
 * @module
 */

import { ConnectionView } from "../stream/connection_view.ts";
import type { Consumer } from "../stream/consumer.ts";
import type { UpdateView } from "../stream/view.ts";
import type { UpdateCopy } from "./frames.ts";
import { type FrameFacts, nowNs, Recorder, type RecordingProgress, type RecordOptions } from "./recorder.ts";

const MIB = 1024 * 1024;
/** A staging area that a burst of large accounts has made larger is given back. */
const STAGE_KEPT_BYTES = 16 * MIB;
/** Updates of one turn: the consumer's own batch. */
const BATCH_MAX = 256;

interface StagedFrame {
  readonly at: number;
  readonly length: number;
  readonly facts: FrameFacts & { readonly slot: bigint | undefined };
}

/** Frames that were read and are not to be trusted yet: the next look at the ring says whether the pool was overwritten. */
class Stage {
  #bytes = new Uint8Array(MIB);
  #used = 0;
  readonly #staged: (StagedFrame | ConnectionView)[] = [];

  take(recorder: Recorder, given: UpdateView, isForeign: boolean): void {
    if (given.kind === "connection") {
      // What was read last, and all of it stands before this, is not to be trusted.
      if (given.event.type === "lost" && given.event.isOverwritten) this.clear();
      return void this.#staged.push(given);
    }
    // Frames of wire version 9 have another layout: they are written anew.
    const update = isForeign ? given.copy() as UpdateCopy : given;
    const length = recorder.measure(update);
    this.#reserve(length);
    recorder.write(update, this.#bytes, this.#used);
    const { kind, sequence, publishNs, lost, filters } = given;
    const slot = "slot" in given ? given.slot : undefined;
    this.#staged.push({ at: this.#used, length, facts: { kind, sequence, publishNs, lost, slot, filters } });
    this.#used += length;
  }

  #reserve(length: number): void {
    if (this.#used + length <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(2 * this.#bytes.length, this.#used + length));
    larger.set(this.#bytes.subarray(0, this.#used));
    this.#bytes = larger;
  }

  commit(recorder: Recorder, receivedNs: bigint): void {
    for (const staged of this.#staged) {
      if (staged instanceof ConnectionView) recorder.addSeam(staged.event, staged.publishNs, receivedNs);
      else recorder.addFrame(this.#bytes.subarray(staged.at, staged.at + staged.length), staged.facts, receivedNs);
    }
    this.clear();
  }

  clear(): void {
    this.#staged.length = 0;
    this.#used = 0;
    if (this.#bytes.length > STAGE_KEPT_BYTES) this.#bytes = new Uint8Array(MIB);
  }
}

/**
 * Records everything that a consumer gets, until it ends or the signal is aborted. The consumer reads for the recorder alone,
 * and is not closed by it.
 * @param directory Made if it is not there. A recording may be continued: segments are added.
 * @returns What was recorded, once the last segment is complete.
 * @throws {QlasterError} `RECORDING_BUSY`, `RECORDING_VERSION`; `CONNECTION_LOST` as the consumer's own `next()`, what
 * came before being recorded. What the file system throws, such as for a full disk.
 */
export async function record(
  consumer: Consumer,
  directory: string,
  options: RecordOptions = {},
): Promise<RecordingProgress> {
  const recorder = await Recorder.open(directory, options);
  try {
    await pump(consumer, recorder, options.signal);
  } finally {
    await recorder.close();
  }
  return recorder.progress;
}

/** How long a sleep may last before the signal is looked at. */
const LOOK_MS = 200;

async function pump(consumer: Consumer, recorder: Recorder, signal: AbortSignal | undefined): Promise<void> {
  const stage = new Stage();
  // The next sender may speak another protocol.
  const take = (update: UpdateView) => stage.take(recorder, update, consumer.protocol === "v9");
  while (signal?.aborted !== true) {
    const first = await consumer.next(Math.min(recorder.dueInMs ?? LOOK_MS, LOOK_MS));
    if (first === undefined && consumer.ended !== undefined) return;
    if (first !== undefined) {
      take(first);
      // Gives back what was read. If it may have been overwritten before it was copied, that throws, or the loss says so.
      consumer.poll(take, BATCH_MAX - 1);
      if (!consumer.isConnected) consumer.poll(take, 1);
      stage.commit(recorder, nowNs());
    }
    if (recorder.dueInMs === 0) recorder.flush();
  }
}
