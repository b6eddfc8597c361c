/**
 * Random schedules of a sender in this process, and one consumer's cache against what the sender knows.
 * May touch: the public API, through support/cache_schedule.ts.
 * A failure prints the seed: QLASTER_MODEL_SEED plays that run alone. QLASTER_MODEL_RUNS multiplies their number.
 *
 * @module
 */

import assert from "node:assert/strict";
import process from "node:process";
import { guarded } from "../support/guarded.ts";
import { playCacheRun } from "./support/cache_runs.ts";
import type { Tally } from "./support/cache_schedule.ts";

/** Several tests, so that none of them takes long. */
const PARTS = 8;
const RUNS = 25;
const SCHEDULES_PER_RUN = 50;
const { QLASTER_MODEL_RUNS, QLASTER_MODEL_SEED, QLASTER_MODEL_VERBOSE } = process.env;
const scale = Number(QLASTER_MODEL_RUNS ?? 1);

const MUST_HAPPEN = [
  "dead banks",
  "rollbacks",
  "withdrawn",
  "left",
  "losses",
  "restarts",
  "state",
  "not empty",
  "bursts",
  "evictions",
  "incomplete ones",
  "resumed: complete",
  "hand-overs",
  "lost: handed-over",
];

/** Of all parts together. */
const tally: Tally = {};
const parts = QLASTER_MODEL_SEED === undefined ? PARTS : 1;
const runs = QLASTER_MODEL_SEED === undefined ? Math.ceil(RUNS * scale) : 1;

for (let part = 1; part <= parts; part++) {
  guarded(`a cache is what its sender knows after random schedules, and no account steps back (${part})`, async () => {
    const first = QLASTER_MODEL_SEED === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(QLASTER_MODEL_SEED);
    const before = tally["quiescences"] ?? 0;
    for (let run = 0; run < runs; run++) await playCacheRun(first + run, SCHEDULES_PER_RUN, tally);
    assert.equal(tally["quiescences"]! - before, runs * SCHEDULES_PER_RUN);
    if (part < PARTS) return;
    if (QLASTER_MODEL_VERBOSE !== undefined) console.log(JSON.stringify(tally, null, 1));
    if (runs < RUNS) return;
    for (const what of MUST_HAPPEN) assert.ok(tally[what]! > 0, `${what}: never; seed ${first}`);
  }, { timeoutMs: 300_000 * Math.max(1, scale) });
}
