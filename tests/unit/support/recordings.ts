/**
 * Recordings for tests: made of slots, read back.
 * May touch: the public API of recording.
 *
 * @module
 */

import type { Consumer, UpdateView } from "../../../mod.ts";
import { Recorder, replay, type ReplayedUpdate, type ReplayOptions } from "../../../src/recording/mod.ts";
import { accountUpdate, patternBytes, slotUpdate } from "./updates.ts";
import { within } from "./watchdog.ts";

/** All of a recording, as batches for a sender. */
export async function replayed(directory: string, options: ReplayOptions = {}): Promise<ReplayedUpdate[]> {
  const all: ReplayedUpdate[] = [];
  for await (const batch of replay(directory, options)) all.push(...batch);
  return all;
}

/** What a consumer gets, until it has as many as asked for. */
export async function taken(consumer: Consumer, count: number): Promise<ReturnType<UpdateView["copy"]>[]> {
  const all: ReturnType<UpdateView["copy"]>[] = [];
  while (all.length < count) {
    const update = await within(consumer.next(), `update ${all.length + 1} of ${count}`);
    all.push(update!.copy());
  }
  return all;
}

/** One account and its slot per slot, an account having `bytes` of data. */
export async function recordSlots(
  directory: string,
  from: number,
  to: number,
  options = {},
  bytes = 100,
): Promise<void> {
  await using recorder = await Recorder.open(directory, options);
  for (let slot = from; slot <= to; slot++) {
    const publishNs = BigInt(slot) * 400_000_000n;
    const data = patternBytes(bytes, slot);
    recorder.add({ ...accountUpdate({ slot: BigInt(slot), data }), publishNs, sequence: BigInt(2 * slot) }, publishNs);
    const facts = { publishNs: publishNs + 1n, sequence: BigInt(2 * slot + 1) };
    recorder.add({ ...slotUpdate({ slot: BigInt(slot), parent: BigInt(slot - 1) }), ...facts }, publishNs + 1n);
    recorder.flush();
  }
}

export const slotsOf = (updates: readonly ReplayedUpdate[]) => updates.map(({ slot }) => Number(slot));
