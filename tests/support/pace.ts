/**
 * Publishing no faster than consumers read: a full ring disconnects, and no test may depend on speed.
 * May touch: a sender. For the tests about slow consumers: not this.
 */

import type { Sender, Update } from "../../mod.ts";
import { roomOf } from "./script.ts";

/** What one consumer may hold of the sender's pool. */
const POOL_SHARES = 4;

/** Whether half of every ring and of every share of the pool is free, and at least `bytes`. */
export function hasRoom(sender: Sender, bytes: number): boolean {
  const shareBytes = sender.metrics.pool.capacityBytes / POOL_SHARES;
  return sender.consumers().every(({ ring, poolBytes }) => {
    const free = ring.capacityBytes - ring.usedBytes;
    return free >= ring.capacityBytes / 2 && free >= bytes + ring.capacityBytes / 8 && poolBytes <= shareBytes / 2;
  });
}

/** Waits for that. */
export async function waitForRoom(sender: Sender, bytes: number): Promise<void> {
  while (!hasRoom(sender, bytes)) await new Promise((resolve) => setTimeout(resolve, 1));
}

/** Cuts a list into pieces that fit a quarter of a ring each (or are one update). */
export function* chunksOf(updates: readonly Update[], capacityBytes: number): Generator<Update[]> {
  let chunk: Update[] = [];
  let bytes = 0;
  for (const update of updates) {
    if (chunk.length > 0 && (bytes + roomOf(update) > capacityBytes / 4 || chunk.length === 100)) {
      yield chunk;
      chunk = [];
      bytes = 0;
    }
    chunk.push(update);
    bytes += roomOf(update);
  }
  if (chunk.length > 0) yield chunk;
}

/** Publishes a third one by one, a third in batches, a third through `feed`. */
export async function publishPaced(sender: Sender, updates: readonly Update[], capacityBytes: number): Promise<void> {
  const third = Math.ceil(updates.length / 3);
  for (const update of updates.slice(0, third)) {
    await waitForRoom(sender, roomOf(update));
    if (update.kind === "account") sender.publishAccount(update);
    else if (update.kind === "transaction") sender.publishTransaction(update);
    else sender.publishSlot(update);
  }
  for (const chunk of chunksOf(updates.slice(third, 2 * third), capacityBytes)) {
    await waitForRoom(sender, chunk.reduce((sum, update) => sum + roomOf(update), 0));
    sender.publishBatch(chunk);
  }
  await sender.feed((async function* () {
    for (const chunk of chunksOf(updates.slice(2 * third), capacityBytes)) {
      await waitForRoom(sender, chunk.reduce((sum, update) => sum + roomOf(update), 0));
      if (chunk.length % 2 === 0) yield chunk;
      else yield* chunk;
    }
  })());
}
