/**
 * The consumers of fanout.ts's end-to-end figures, all in this process: each reads by `poll`, in turns, checks each
 * message's number and touches each of its lines.
 * May touch: consumers.
 *
 * @module
 */

import type { UpdateView } from "../../mod.ts";
import { AccountBody, FRAME_ALIGN, FrameHeader } from "../../src/native/abi.generated.ts";
import { nowNs } from "../clock.ts";
import { LINE, lineCount, NUMBER_AT } from "../message.ts";
import { connectToSender } from "./connect.ts";
import { PUBKEY } from "./keys.ts";
import {
  FILL_UPDATES,
  FILLS,
  type ManyConsumersResult,
  type ManyTask,
  STREAM_UPDATES,
  typical,
  WARM_UP_RUNS,
} from "./many_plan.ts";
import { answer, taskFromArguments } from "./task.ts";

const task = taskFromArguments<ManyTask>();
const lines = lineCount(task.bytes);

class Reader {
  sequence = 1;
  readonly onUpdate = (update: UpdateView): void => {
    if (update.kind !== "account") throw new Error(`A ${update.kind} came, and only accounts were published`);
    let touched = 0;
    for (let at = LINE; at < task.bytes; at += LINE) touched += update.u8At(at);
    if (update.u32At(NUMBER_AT) !== this.sequence || touched !== lines) {
      throw new Error(`Update ${this.sequence} is not what was published`);
    }
    this.sequence++;
  };
}

const readers = await Promise.all(Array.from({ length: task.consumers }, async () => {
  const consumer = await connectToSender(task.path);
  await consumer.subscribe({ accounts: [PUBKEY] });
  return { consumer, reader: new Reader() };
}));
for (const { consumer, reader } of readers) consumer.poll(reader.onUpdate, 1); // the subscription's mark

/** Reads until each consumer has had this many in all. */
function readUntil(count: number): void {
  for (let behind = true; behind;) {
    behind = false;
    for (const { consumer, reader } of readers) {
      if (reader.sequence > count) continue;
      consumer.poll(reader.onUpdate, Math.min(256, count + 1 - reader.sequence));
      behind ||= reader.sequence <= count;
    }
  }
}

const drainNs: number[] = [];
const streamNs: number[] = [];
let count = 0;
const [last] = readers.slice(-1);
const full = FILL_UPDATES * Math.ceil((FrameHeader.size + AccountBody.size + task.bytes) / FRAME_ALIGN) * FRAME_ALIGN;
for (let run = 0; run < WARM_UP_RUNS + task.runs; run++) {
  const times: number[] = [];
  for (let fill = 0; fill < FILLS; fill++) {
    // Those in front of it are served first.
    while (last!.consumer.metrics.ring.usedBytes < full);
    count += FILL_UPDATES;
    const started = nowNs();
    readUntil(count);
    times.push((nowNs() - started) / FILL_UPDATES);
  }
  if (run >= WARM_UP_RUNS) drainNs.push(typical(times));
}
let started = nowNs();
for (let run = 0; run < WARM_UP_RUNS + task.runs; run++) {
  count += STREAM_UPDATES;
  readUntil(count);
  const now = nowNs();
  if (run >= WARM_UP_RUNS) streamNs.push((now - started) / STREAM_UPDATES);
  started = now;
}
await Promise.all(readers.map(({ consumer }) => consumer.close()));
answer({ drainNs, streamNs } satisfies ManyConsumersResult);
