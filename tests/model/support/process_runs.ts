/**
 * Many schedules of real processes: what tests/model/processes_test.ts and `./dev soak processes` share.
 * May touch: fast-check, the environment, processes through process_stage.ts.
 *
 * @module
 */

import process from "node:process";
import fc from "fast-check";
import type { Held } from "../../support/guarded.ts";
import { RUNTIMES } from "../../support/runtime.ts";
import { CERTAIN, type Schedule, schedule } from "./process_schedule.ts";
import { Stage } from "./process_stage.ts";

/**
 * Plays them on one stage for each runtime of the sender, at the same time: a schedule waits for a sender's clock more than
 * it works. QLASTER_MODEL_SEED makes the same schedules again, QLASTER_MODEL_PATH plays only that one of them.
 * @param held What ends the processes.
 * @returns How often what has happened.
 * @throws for the first schedule that fails, with what makes it again.
 */
export async function playSchedules(count: number, held: Pick<Held, "use">): Promise<Record<string, number>> {
  const { QLASTER_MODEL_SEED, QLASTER_MODEL_PATH } = process.env;
  const seed = Number(QLASTER_MODEL_SEED ?? (Math.random() * 2 ** 31) | 0);
  const only = QLASTER_MODEL_PATH === undefined ? undefined : Number(QLASTER_MODEL_PATH);
  const random = fc.sample(schedule, { numRuns: only === undefined ? count : Math.max(count, only + 1), seed });
  const stages = RUNTIMES.map((runtime) => held.use(new Stage(runtime)));
  // Those that are not random on each of them.
  const schedules = [...CERTAIN.flatMap((one) => stages.map(() => one)), ...random];
  let failure: Error | undefined;
  await Promise.all(stages.map(async (stage, lane) => {
    for (let i = lane; i < schedules.length && failure === undefined; i += stages.length) {
      if (only !== undefined && i !== only) continue;
      try {
        await stage.play(schedules[i]!);
      } catch (error) {
        const again = `QLASTER_MODEL_SEED=${seed} QLASTER_MODEL_PATH=${i}`;
        const text = `Schedule ${i}, ${again}: ${(error as Error).stack}\n${describe(schedules[i]!)}`;
        failure ??= new Error(text);
      }
    }
  }));
  if (failure !== undefined) throw failure;
  const tally: Record<string, number> = { seed };
  for (const stage of stages) {
    for (const [what, count] of Object.entries(stage.tally)) tally[what] = (tally[what] ?? 0) + count;
  }
  return tally;
}

/** Who does what; of the updates only how many. */
function describe({ kill, consumers, rounds }: Schedule): string {
  const short = rounds.map(({ chunks, ...others }) => ({
    chunks: chunks.map(({ isBatch, updates, turns }) => `${updates.length}${isBatch ? " in a batch" : ""}, ${turns}`),
    ...others,
  }));
  return [{ kill }, ...consumers, ...short].map((part) => JSON.stringify(part)).join("\n");
}
