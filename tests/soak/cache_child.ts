/**
 * Cache schedules in a process of its own, so in either runtime: `cache_child.ts in-process|processes SEED SCHEDULES SECONDS`.
 * May touch: the library, processes; stdout, one JSON line at the end. After a failure the next run is played all the same.
 *
 * @module
 */

import process from "node:process";
import { playCacheProcesses, playCacheRun } from "../model/support/cache_runs.ts";
import type { Tally } from "../model/support/cache_schedule.ts";

const [kind, seed, schedules, seconds] = process.argv.slice(2) as [string, string, string, string];
/** More than that say no more. */
const FAULTS_MAX = 10;

const SCHEDULES_PER_RUN = 50;
const SCHEDULES_PER_PROCESS_RUN = 10;

/** What it has to say. */
export interface Played {
  readonly seed: number;
  readonly schedules: number;
  readonly seconds: number;
  readonly faults: readonly string[];
  readonly tally: Tally;
}

const [play, perRun] = kind === "processes"
  ? [playCacheProcesses, SCHEDULES_PER_PROCESS_RUN] as const
  : [playCacheRun, SCHEDULES_PER_RUN] as const;
const started = performance.now();
const elapsed = () => (performance.now() - started) / 1000;
const faults: string[] = [];
const tally: Tally = {};
let run = 0;
for (; run * perRun < Number(schedules) && elapsed() < Number(seconds) && faults.length < FAULTS_MAX; run++) {
  try {
    await play(Number(seed) + run, perRun, tally);
  } catch (error) {
    faults.push((error as Error).message);
  }
}
const said: Played = { seed: Number(seed), schedules: run * perRun, seconds: Math.round(elapsed()), faults, tally };
process.stdout.write(`${JSON.stringify(said)}\n`);
