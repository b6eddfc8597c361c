/**
 * The schedules of cache_test.ts with senders in processes of both runtimes, closed or killed in the middle.
 * May touch: processes, through support/cache_runs.ts. QLASTER_MODEL_SEED and QLASTER_MODEL_RUNS as there.
 *
 * @module
 */

import assert from "node:assert/strict";
import process from "node:process";
import { guarded } from "../support/guarded.ts";
import { playCacheProcesses } from "./support/cache_runs.ts";
import type { Tally } from "./support/cache_schedule.ts";

const RUNS = 5;
const SCHEDULES_PER_RUN = 10;
const { QLASTER_MODEL_RUNS, QLASTER_MODEL_SEED, QLASTER_MODEL_VERBOSE } = process.env;
const scale = Number(QLASTER_MODEL_RUNS ?? 1);

guarded("a cache is what its sender knows, also when that is another process and is killed", async () => {
  const tally: Tally = {};
  const seed = QLASTER_MODEL_SEED === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(QLASTER_MODEL_SEED);
  const runs = QLASTER_MODEL_SEED === undefined ? Math.ceil(RUNS * scale) : 1;
  for (let run = 0; run < runs; run++) await playCacheProcesses(seed + run, SCHEDULES_PER_RUN, tally);
  if (QLASTER_MODEL_VERBOSE !== undefined) console.log(JSON.stringify(tally, null, 1));
  const { kills = 0, closes = 0, restarts = 0 } = tally;
  assert.ok(kills >= closes && kills + closes >= restarts, `${kills} kills of ${restarts} restarts; seed ${seed}`);
}, { timeoutMs: 300_000 * Math.max(1, scale) });
