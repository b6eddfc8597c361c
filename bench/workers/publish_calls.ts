/**
 * What publishing through the public API costs the sender alone, by `publishBatch` or one by one, with few keys and with
 * many. The consumers are in another process (publish_readers.ts), which empties them now and then and never parks: no piece
 * that counts waits for them or wakes them.
 * May touch: a sender. Updates are fresh in the cache, as what a decoder has just made; their keys are random, so that the
 * index never is.
 *
 * @module
 */

import { type AccountUpdate, type Sender, setupSender } from "../../mod.ts";
import { AccountBody, FRAME_ALIGN, FrameHeader } from "../../src/native/abi.generated.ts";
import { nowNs } from "../clock.ts";
import {
  keyOf,
  type PublishCallsResult,
  type PublishCallsTask,
  type PublishScene,
  scenePath,
  writeKey,
} from "./publish_task.ts";
import { answer, taskFromArguments } from "./task.ts";

const PIECES = 512;
const WARM_UP_RUNS = 3;
const CONNECT_POLL_MS = 20;
/** Part of the fullest ring after which we wait for the readers. */
const FULL = 0.25;
/** Pieces after which that is looked at: looking at a thousand consumers takes longer than a piece. */
const LOOK_EVERY = 16;
/** Laps of the rings that are a first one in each of them, though keys are random. */
const FIRST_LAPS = 1.25;

/** mulberry32. */
function createRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  };
}

interface Stage {
  readonly sender: Sender;
  readonly scene: PublishScene;
}

async function createStage(number: number): Promise<Stage> {
  const scene = task.scenes[number]!;
  const sender = await setupSender({
    path: scenePath(task, number),
    ringCapacityBytes: task.ringBytes,
    consumersMax: scene.consumers,
  });
  const keys = scene.keys === 0 ? scene.consumers : scene.keys;
  const subscribed = () => sender.consumers().reduce((sum, { accounts }) => sum + accounts, 0);
  while (subscribed() < keys) await new Promise((resolve) => setTimeout(resolve, CONNECT_POLL_MS));
  return { sender, scene };
}

const task = taskFromArguments<PublishCallsTask>();
const updates: AccountUpdate[] = Array.from({ length: task.batch }, (_, i) => ({
  kind: "account",
  pubkey: new Uint8Array(32),
  owner: keyOf(0x5000_0000 + i),
  lamports: 1n,
  slot: 1n,
  data: new Uint8Array(task.bytes).fill(1),
}));
const random = createRandom(42);
let stranger = 0x6000_0000;

/** Waits until all rings are empty, if one is rather full. */
function makeRoom({ sender }: Stage): void {
  const fullest = () => Math.max(...sender.consumers().map(({ ring }) => ring.usedBytes));
  if (fullest() > FULL * task.ringBytes) { while (fullest() > 0); }
}

/** The time of a typical piece: who else is on the core ruins a few of them. */
function run(stage: Stage): number {
  const { sender, scene } = stage;
  const wanted = scene.matches ? (scene.keys === 0 ? scene.consumers : 1) * task.batch : 0;
  const times = new Float64Array(PIECES);
  for (let piece = 0; piece < PIECES; piece++) {
    if (scene.keys === 0 || piece % LOOK_EVERY === 0) makeRoom(stage);
    for (const { pubkey } of updates) {
      writeKey(pubkey as Uint8Array, !scene.matches ? stranger++ : scene.keys === 0 ? 0 : random() % scene.keys);
    }
    const started = nowNs();
    let reached = 0;
    if (task.isSingle) { for (const update of updates) reached += sender.publishAccount(update); }
    else reached = sender.publishBatch(updates);
    times[piece] = nowNs() - started;
    if (reached !== wanted) throw new Error(`${reached} deliveries of ${wanted}`);
  }
  return times.sort()[PIECES / 2]! / task.batch;
}

/** Until every ring is written to all over: then its pages are there. */
function runFirstLap(stage: Stage): number[] {
  const { consumers, keys, matches } = stage.scene;
  if (!matches) return [];
  const frame = Math.ceil((FrameHeader.size + AccountBody.size + task.bytes) / FRAME_ALIGN) * FRAME_ALIGN;
  const frames = FIRST_LAPS * task.ringBytes / frame * (keys === 0 ? 1 : consumers);
  return Array.from({ length: Math.ceil(frames / (PIECES * task.batch)) }, () => run(stage));
}

const stages = await Promise.all(task.scenes.map((_, i) => createStage(i)));
const firstLaps = stages.map(runFirstLap);
const scenes = stages.map((): number[] => []);
for (let i = 0; i < WARM_UP_RUNS + task.runs; i++) {
  for (const [j, stage] of stages.entries()) {
    const found = run(stage);
    if (i >= WARM_UP_RUNS) scenes[j]!.push(found);
    await new Promise((resolve) => setTimeout(resolve)); // for the links
  }
}
await Promise.all(stages.map(({ sender }) => sender.close()));
answer(
  { scenes: scenes.map((runs, i) => ({ firstLap: firstLaps[i]!, runs })) } satisfies PublishCallsResult,
);
