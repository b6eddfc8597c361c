/**
 * The producer of v9_ring.ts: frames that are encoded already but for number and time, by `ringOffer` into a ring that
 * it makes. One signal for each batch.
 * May touch: the native library, directly; what the public API costs on top is in throughput's records.
 *
 * @module
 */

import { RingInfo, Status, V9Created } from "../../src/native/abi.generated.ts";
import { load } from "../../src/native/load.ts";
import { nowNs, threadNs } from "../clock.ts";
import { answer, taskFromArguments } from "./task.ts";
import { CAPACITY, pause, V9Frame, type V9Task, WARM_UP_RUNS } from "./v9_task.ts";

const task = taskFromArguments<V9Task>();
const native = await load();
const frame = new V9Frame(task.bytes);
const { head, payload } = frame;
const info = new Float64Array(RingInfo.size / 8);
const ring = createRing();
const targets = new Uint32Array([ring, 0]);
const statuses = new Int32Array(targets.buffer);
let number = 0;

function createRing(): number {
  const directory = new TextEncoder().encode(task.directory);
  const created = new Uint8Array(V9Created.size);
  const handle = native.v9RingCreate(directory, directory.length, 0, 1, CAPACITY, created);
  if (handle < 0) throw new Error(`No ring: status ${handle}`);
  return handle;
}

/** Pushes as fast as the consumer lets us. */
function produce(count: number): void {
  for (let left = count; left > 0; left--) {
    frame.number(++number);
    const commit = number % task.batch === 0 || left === 1 ? 1 : 0;
    while (native.ringOffer(head, head.length, payload, payload.length, targets, 1, commit) !== 1) {
      if (statuses[1] !== Status.full) throw new Error(`Frame ${number}: status ${statuses[1]}`);
    }
  }
}

async function whenEmpty(): Promise<void> {
  while (native.ringInfo(ring, info) === 0 && usedBytes() > 0) await pause();
}

function usedBytes(): number {
  return info[RingInfo.producerCursor / 8]! - info[RingInfo.consumerCursor / 8]!;
}

const fillNs: number[] = [];
const fillWallNs: number[] = [];
for (let run = 0; run < WARM_UP_RUNS + task.runs; run++) {
  await whenEmpty();
  const started = [threadNs(), nowNs()] as const;
  produce(task.fillFrames);
  if (run < WARM_UP_RUNS) continue;
  fillNs.push((threadNs() - started[0]) / task.fillFrames);
  fillWallNs.push((nowNs() - started[1]) / task.fillFrames);
}
await whenEmpty();
produce((WARM_UP_RUNS + task.runs) * task.streamFrames);
await whenEmpty();
native.close(ring);
answer({ fillNs, fillWallNs });
