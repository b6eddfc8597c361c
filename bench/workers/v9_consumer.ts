/**
 * The consumer of v9_ring.ts: reads by `ringPoll`, checks each frame's number and touches each line of its body in place.
 * May touch: the native library, directly; a ring that somebody made in its directory.
 *
 * @module
 */

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { PollRecord, RingInfo, Status, V9Account, V9Slot } from "../../src/native/abi.generated.ts";
import { load } from "../../src/native/load.ts";
import { nowNs, threadNs } from "../clock.ts";
import { LINE, lineCount } from "../message.ts";
import { answer, taskFromArguments } from "./task.ts";
import { pause, PREFIX, type V9Task, WARM_UP_RUNS } from "./v9_task.ts";

/** Frames of one poll. */
const BATCH = 256;
const RECORD_WORDS = PollRecord.size / 4;
const FRAME_OFFSET = PollRecord.frameOffset / 4;
const RING_BYTES = PollRecord.ringBytes / 4;

const task = taskFromArguments<V9Task>();
const native = await load();
const info = new Float64Array(RingInfo.size / 8);
const ring = await joinRing();
const memory = native.memory(native.ringAddress(ring), native.v9RingSize(ring));
const bytes = new Uint8Array(memory);
const view = new DataView(memory);
const records = new Uint32Array(BATCH * RECORD_WORDS);
const slotAt = task.bytes === V9Slot.size ? V9Slot.slot : V9Account.slot;
const lines = lineCount(task.bytes);
let number = 0;

/** Waits until there is one. Nobody signals: it has no wake. */
async function joinRing(): Promise<number> {
  while (true) {
    const [name] = readdirSync(task.directory);
    if (name !== undefined) {
      const path = new TextEncoder().encode(join(task.directory, name));
      const handle = native.v9RingJoin(path, path.length, -1, native.uid());
      if (handle >= 0) return handle;
    }
    await pause();
  }
}

function consume(count: number): void {
  for (let left = count; left > 0;) {
    const found = native.ringPoll(ring, records, Math.min(left, BATCH));
    if (found === Status.wouldBlock || found === 0) continue;
    if (found < 0) throw new Error(`After frame ${number}: status ${found}`);
    let taken = 0;
    for (let word = 0; word < found * RECORD_WORDS; word += RECORD_WORDS) {
      const at = records[word + FRAME_OFFSET]!;
      taken += records[word + RING_BYTES]!;
      let touched = 0;
      for (let line = LINE; line < task.bytes; line += LINE) touched += bytes[at + line]!;
      if (view.getUint32(at + slotAt, true) !== ++number || touched !== lines) {
        throw new Error(`Frame ${number} is not what was pushed`);
      }
    }
    native.ringRelease(ring, taken);
    left -= found;
  }
}

async function whenFilled(): Promise<void> {
  const filled = task.fillFrames * (PREFIX + task.bytes);
  while (native.ringInfo(ring, info) === 0 && usedBytes() < filled) await pause();
}

function usedBytes(): number {
  return info[RingInfo.producerCursor / 8]! - info[RingInfo.consumerCursor / 8]!;
}

const drainNs: number[] = [];
const drainWallNs: number[] = [];
const streamNs: number[] = [];
for (let run = 0; run < WARM_UP_RUNS + task.runs; run++) {
  await whenFilled();
  const started = [threadNs(), nowNs()] as const;
  consume(task.fillFrames);
  if (run < WARM_UP_RUNS) continue;
  drainNs.push((threadNs() - started[0]) / task.fillFrames);
  drainWallNs.push((nowNs() - started[1]) / task.fillFrames);
}
let started = nowNs();
for (let run = 0; run < WARM_UP_RUNS + task.runs; run++) {
  consume(task.streamFrames);
  const now = nowNs();
  if (run >= WARM_UP_RUNS) streamNs.push((now - started) / task.streamFrames);
  started = now;
}
native.close(ring);
answer({ drainNs, drainWallNs, streamNs });
