/**
 * Sends what peer_task.ts says, in whatever way.
 * May touch: one outlet. As fast as it goes means: many messages in one write where the way allows it, as `publishBatch`
 * does, and no more in flight than its own backpressure lets through.
 *
 * @module
 */

import { nowNs, waitUntil } from "../clock.ts";
import { Message } from "../message.ts";
import { type PeerTask, streamed, WARM_UP } from "./peer_task.ts";

/** Where messages go. */
export interface Outlet {
  /** Bytes of messages that one `send` should carry while speed counts; 0 for one message. */
  readonly chunkBytes: number;
  /** @returns undefined, or when there is room again. */
  send(bytes: Uint8Array): Promise<unknown> | undefined;
}

const SETTLE_MS = 50;

/** Sends all. */
export async function sendAll(outlet: Outlet, task: PeerTask): Promise<void> {
  const message = new Message(task.bytes);
  let number = 0;
  const perChunk = Math.max(1, Math.floor(outlet.chunkBytes / task.bytes));
  for (let left = streamed(task); left > 0; left -= perChunk) {
    const count = Math.min(left, perChunk);
    // A fresh buffer each time: the outlet may keep it until it is written.
    const chunk = new Uint8Array(count * task.bytes);
    for (let i = 0; i < count; i++) {
      message.number(++number);
      chunk.set(message.bytes, i * task.bytes);
    }
    const room = outlet.send(chunk);
    if (room !== undefined) await room;
  }
  if (task.samples === 0) return;
  let next = nowNs() + SETTLE_MS * 1e6;
  for (let i = 0; i < WARM_UP + task.samples; i++) {
    await waitUntil(next);
    message.number(++number);
    const sent = nowNs();
    message.time(sent);
    const room = outlet.send(message.bytes.slice());
    if (room !== undefined) await room;
    next = sent + task.gapUs * 1000;
  }
}
