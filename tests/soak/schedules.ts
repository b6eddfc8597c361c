/**
 * Ten times the random schedules that the test run plays with real processes: tests/model/processes_test.ts.
 * QLASTER_MODEL_RUNS multiplies their number, QLASTER_MODEL_SEED and QLASTER_MODEL_PATH play one again.
 *
 * @module
 */

import process from "node:process";
import { playSchedules } from "../model/support/process_runs.ts";

const SCHEDULES = 500;

export async function schedules(): Promise<string | undefined> {
  await using held = new AsyncDisposableStack();
  try {
    const count = Math.ceil(SCHEDULES * Number(process.env.QLASTER_MODEL_RUNS ?? 1));
    console.log(JSON.stringify({ schedules: count, ...await playSchedules(count, held) }));
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
