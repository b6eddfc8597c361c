/**
 * The sender alone of fanout.ts, from objects: encodes each update and hands it to the native fan-out. Both ends of all
 * rings are in this process; between two pieces that count the rings are emptied, and nothing of the payloads is read.
 * Versions are compared as a sender does by default.
 * May touch: the native library, directly.
 *
 * @module
 */

import { FanoutConsumer, FanoutOptions, FilterBody, FRAME_ALIGN, PollRecord } from "../../src/native/abi.generated.ts";
import { load } from "../../src/native/load.ts";
import type { AccountUpdate } from "../../src/types.ts";
import { FrameEncoder } from "../../src/wire/encoder.ts";
import { nowNs } from "../clock.ts";
import { OWNER, PUBKEY } from "./keys.ts";
import { answer, taskFromArguments } from "./task.ts";

export interface FanoutCallsTask {
  readonly bytes: number;
  readonly consumers: number;
  readonly ringBytes: number;
  readonly runs: number;
}

/** Nanoseconds per update, by run. */
export type FanoutCallsResult = Record<"one" | "batch" | "many", number[]>;

const BATCH = 64;
const PIECES = 256;
const WARM_UP_RUNS = 5;
const RECORDS = 256;
/** As by default: accounts that are remembered; older versions after newer ones are counted. */
const TRACKED = 262_144;
const GUARD = 1;

const { bytes, consumers: count, ringBytes, runs } = taskFromArguments<FanoutCallsTask>();
const native = await load();
const options = new Uint8Array(FanoutOptions.size);
const optionsView = new DataView(options.buffer);
crypto.getRandomValues(options.subarray(0, 16));
optionsView.setUint32(FanoutOptions.keysMax, 1_000_000, true);
optionsView.setUint32(FanoutOptions.keysPerConsumerMax, 1_000_000, true);
optionsView.setUint32(FanoutOptions.poolThreshold, 0xffff_ffff, true);
optionsView.setUint32(FanoutOptions.trackedMax, TRACKED, true);
optionsView.setUint32(FanoutOptions.guard, GUARD, true);
const fanout = checked(native.fanoutCreate(options));
const consumers = Array.from({ length: count }, connect);

const update: AccountUpdate = {
  kind: "account",
  pubkey: PUBKEY,
  owner: OWNER,
  lamports: 1n,
  slot: 1n,
  data: new Uint8Array(bytes).fill(1),
};
const encoder = new FrameEncoder();
const records = new Uint32Array(RECORDS * PollRecord.size / 4);
const many = new Uint8Array(8 + BATCH * (8 + 256 + padded(bytes)));
const manyWords = new Uint32Array(many.buffer);

/** Each publishes one batch. */
const WAYS: Record<keyof FanoutCallsResult, () => void> = {
  one() {
    for (let i = 0; i < BATCH; i++) {
      encoder.account(update);
      reached(
        native.fanoutPublish(fanout, encoder.head, encoder.headLength, encoder.tail, encoder.tail.length, 0),
        count,
      );
    }
  },
  batch() {
    for (let i = 0; i < BATCH; i++) {
      encoder.account(update);
      reached(
        native.fanoutPublish(fanout, encoder.head, encoder.headLength, encoder.tail, encoder.tail.length, 1),
        count,
      );
    }
    native.fanoutCommit(fanout);
  },
  many() {
    let at = 8;
    for (let i = 0; i < BATCH; i++) {
      encoder.account(update);
      manyWords[at >> 2] = encoder.headLength;
      manyWords[(at >> 2) + 1] = encoder.tail.length;
      many.set(encoder.head, at + 8);
      at += 8 + padded(encoder.headLength);
      many.set(encoder.tail, at);
      at += padded(encoder.tail.length);
    }
    reached(native.fanoutPublishMany(fanout, many, at, 1), BATCH * count);
  },
};

function connect(): number {
  const passed = new Int32Array(2);
  const ring = checked(native.ringCreate(ringBytes, ringBytes / 16, 1, new Uint8Array(16), passed));
  const consumer = checked(native.ringJoin(passed[0]!, passed[1]!, -1, ringBytes, 0, native.uid()));
  const options = new Uint8Array(FanoutConsumer.size);
  new DataView(options.buffer).setUint32(FanoutConsumer.statuses, 0xff, true);
  const id = checked(native.fanoutAdd(fanout, ring, options));
  const edit = new Uint8Array(FilterBody.size + 32);
  edit[FilterBody.op] = 1;
  edit[FilterBody.isLast] = 1;
  new DataView(edit.buffer).setUint32(FilterBody.accountCount, 1, true);
  edit.set(PUBKEY, FilterBody.size);
  checked(native.fanoutEdit(fanout, id, edit, edit.length));
  return consumer;
}

function checked(code: number): number {
  if (code < 0) throw new Error(`A native call failed: ${code}`);
  return code;
}

function reached(found: number, wanted: number): void {
  if (found !== wanted) throw new Error(`${found} deliveries of ${wanted}`);
}

function padded(size: number): number {
  return Math.ceil(size / FRAME_ALIGN) * FRAME_ALIGN;
}

/** Gives everything back, unread but for the heads. */
function empty(): void {
  for (const consumer of consumers) {
    for (let found; (found = native.ringPoll(consumer, records, RECORDS)) > 0;) {
      let size = 0;
      for (let i = 0; i < found; i++) size += records[(i * PollRecord.size + PollRecord.ringBytes) / 4]!;
      native.ringRelease(consumer, size);
    }
  }
}

/** The time of a typical batch: who else is on the core ruins a few of them. */
function run(publish: () => void): number {
  const times = new Float64Array(PIECES);
  for (let i = 0; i < PIECES; i++) {
    const started = nowNs();
    publish();
    times[i] = nowNs() - started;
    empty();
  }
  return times.sort()[PIECES / 2]! / BATCH;
}

const result: FanoutCallsResult = { one: [], batch: [], many: [] };
for (let i = 0; i < WARM_UP_RUNS; i++) for (const publish of Object.values(WAYS)) run(publish);
for (let i = 0; i < runs; i++) {
  for (const [way, publish] of Object.entries(WAYS)) result[way as keyof FanoutCallsResult].push(run(publish));
}
answer(result);
