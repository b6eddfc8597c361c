/**
 * The calls of ffi_call.ts: each symbol in a loop of its own, written out, so that the runtime's compiler can inline it
 * as it does in the library. Both ends of one ring are in this process.
 * May touch: the native library, directly.
 *
 * @module
 */

import {
  AccountBody,
  FrameHeader,
  FrameKind,
  OfferTarget,
  PollRecord,
  RingInfo,
} from "../../src/native/abi.generated.ts";
import { load } from "../../src/native/load.ts";
import { nowNs } from "../clock.ts";
import { answer, taskFromArguments } from "./task.ts";

export interface FfiTask {
  readonly runs: number;
}

/** Nanoseconds per call, by run; the first is the call that does nothing. */
export type FfiResult = Record<string, number[]>;

const CALLS = 20_000;
const WARM_UP_RUNS = 10;
/** Frames in a round of offers and polls. */
const FRAMES = 256;
const ROUNDS = 80;
const DATA_SIZE = 165;
const CAPACITY = 1024 * 1024;

const { runs } = taskFromArguments<FfiTask>();
const native = await load();
const passed = new Int32Array(2);
const producer = native.ringCreate(CAPACITY, CAPACITY / 16, 1, new Uint8Array(16), passed);
const consumer = native.ringJoin(passed[0]!, passed[1]!, -1, CAPACITY, 0, native.uid());
const pair = new Int32Array(2);
native.wakeCreate(pair);
const wake = native.wakeOpen(pair[1]!);
for (const handle of [producer, consumer, wake]) if (handle < 0) throw new Error(`A handle is ${handle}`);

const head = new Uint8Array(FrameHeader.size + AccountBody.size);
const headView = new DataView(head.buffer);
headView.setUint16(FrameHeader.kind, FrameKind.account, true);
headView.setUint32(FrameHeader.size + AccountBody.dataLength, DATA_SIZE, true);
const data = new Uint8Array(DATA_SIZE);
const target = new Uint32Array(OfferTarget.size / 4);
target[0] = producer;
const records = new Uint32Array(FRAMES * PollRecord.size / 4);
const info = new Float64Array(RingInfo.size / 8);
const frameSize = Math.ceil((head.length + DATA_SIZE) / 8) * 8;

/** Each returns the time that its calls took. */
const LOOPS: Record<string, () => number> = {
  "layoutVersion (does nothing)"() {
    const started = nowNs();
    for (let i = 0; i < CALLS; i++) native.layoutVersion();
    return (nowNs() - started) / CALLS;
  },
  clockUs() {
    const started = nowNs();
    for (let i = 0; i < CALLS; i++) native.clockUs();
    return (nowNs() - started) / CALLS;
  },
  "ringPoll, empty"() {
    const started = nowNs();
    for (let i = 0; i < CALLS; i++) native.ringPoll(consumer, records, FRAMES);
    return (nowNs() - started) / CALLS;
  },
  "ringSpin, 0 µs"() {
    const started = nowNs();
    for (let i = 0; i < CALLS; i++) native.ringSpin(consumer, 0);
    return (nowNs() - started) / CALLS;
  },
  "ringPark and ringUnpark"() {
    const started = nowNs();
    for (let i = 0; i < CALLS; i++) {
      native.ringPark(consumer);
      native.ringUnpark(consumer);
    }
    return (nowNs() - started) / CALLS;
  },
  ringInfo() {
    const started = nowNs();
    for (let i = 0; i < CALLS; i++) native.ringInfo(consumer, info);
    return (nowNs() - started) / CALLS;
  },
  "ringCommit, nothing to show"() {
    const started = nowNs();
    for (let i = 0; i < CALLS; i++) native.ringCommit(target, 1);
    return (nowNs() - started) / CALLS;
  },
  [`ringOffer of ${DATA_SIZE} B, its commit later`]: () => round(0, "offer"),
  [`ringOffer of ${DATA_SIZE} B with commit`]: () => round(1, "offer"),
  [`ringPoll of ${FRAMES} frames, by frame`]: () => round(0, "poll"),
  "ringRelease of one frame": () => round(0, "release"),
  "wakeNotify (a system call)"() {
    const started = nowNs();
    for (let i = 0; i < CALLS; i++) native.wakeNotify(wake); // full after 278: then it is the refused call
    return (nowNs() - started) / CALLS;
  },
};

/** Fills and empties the ring. @returns The time that one part took, by frame. */
function round(commit: 0 | 1, part: "offer" | "poll" | "release"): number {
  const times = { offer: 0, poll: 0, release: 0 };
  for (let i = 0; i < ROUNDS; i++) {
    // One stamp for each round, as one for each batch: the encoder's job.
    headView.setBigUint64(FrameHeader.publishNs, 0n, true);
    const started = nowNs();
    for (let k = 0; k < FRAMES; k++) native.ringOffer(head, head.length, data, DATA_SIZE, target, 1, commit);
    times.offer += nowNs() - started;
    native.ringCommit(target, 1);
    const polling = nowNs();
    const found = native.ringPoll(consumer, records, FRAMES);
    const polled = nowNs();
    times.poll += polled - polling;
    if (found !== FRAMES) throw new Error(`${found} frames of ${FRAMES} came`);
    for (let k = 0; k < FRAMES; k++) native.ringRelease(consumer, frameSize);
    times.release += nowNs() - polled;
  }
  return times[part] / (ROUNDS * FRAMES);
}

const result: FfiResult = {};
// All of them first: the compilers have seen everything before anything counts.
for (let run = 0; run < WARM_UP_RUNS; run++) for (const loop of Object.values(LOOPS)) loop();
for (const [name, loop] of Object.entries(LOOPS)) result[name] = Array.from({ length: runs }, loop);
answer(result);
