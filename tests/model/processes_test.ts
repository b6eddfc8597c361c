/**
 * Real processes of both runtimes against the reference: random schedules in which a sender publishes while consumers with
 * different policies edit their filters, stop to read, and are killed. What is checked: `checkConsumer` in
 * support/process_stage.ts.
 * May touch: processes through support/process_runs.ts.
 * A failure prints QLASTER_MODEL_SEED and QLASTER_MODEL_PATH, which play that schedule again, as far as real time lets them:
 * a schedule fixes what each process does, not when. For the same reason nothing is shrunk: a smaller schedule that passes
 * proves nothing. QLASTER_MODEL_RUNS multiplies the number of schedules, QLASTER_MODEL_VERBOSE says what was seen.
 *
 * @module
 */

import assert from "node:assert/strict";
import process from "node:process";
import { guarded } from "../support/guarded.ts";
import { playSchedules } from "./support/process_runs.ts";

const SCHEDULES = 50;
const { QLASTER_MODEL_RUNS, QLASTER_MODEL_PATH, QLASTER_MODEL_VERBOSE } = process.env;
const scale = Number(QLASTER_MODEL_RUNS ?? 1);

/** What schedules are there for. Each of it happens in one of those that are not random: see `CERTAIN`. */
const MUST_HAPPEN = [
  "kills",
  "edits",
  "left",
  "disconnected",
  "waits of the sender",
  "slots with losses",
  "lost by drop-newest/drop-newest",
  "lost by drop-oldest/drop-oldest",
  "lost by conflate/conflate",
];

guarded(
  "Sender and consumers in real processes: each consumer gets what the reference says, or is told how much is lost",
  async (held) => {
    const tally = await playSchedules(Math.ceil(SCHEDULES * scale), held);
    if (QLASTER_MODEL_VERBOSE !== undefined) console.log(JSON.stringify(tally, null, 1));
    assert.equal(tally["uncertain"], undefined, "the reference can always tell");
    if (scale < 1 || QLASTER_MODEL_PATH !== undefined) return;
    for (const what of MUST_HAPPEN) assert.ok(tally[what]! > 0, `${what}: never; seed ${tally["seed"]}`);
  },
  { timeoutMs: 300_000 * Math.max(1, scale) },
);
