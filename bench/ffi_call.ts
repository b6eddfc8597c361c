/**
 * Question: what does one call through the door cost, for each symbol that is called per update, batch or wait?
 * Unit: ns per call. Rival: a call that takes and does nothing (`layoutVersion`), the runtime's own price of a call.
 *
 * @module
 */

import type { Bench, BenchContext } from "./bench.ts";
import { type BenchRecord, compared, recordFromRuns } from "./record.ts";
import { RUNTIMES, Workers } from "./worker.ts";
import type { FfiResult, FfiTask } from "./workers/ffi_calls.ts";

const RUNS = 15;
const RUNS_QUICK = 5;

async function* run(context: BenchContext): AsyncGenerator<BenchRecord> {
  for (const runtime of RUNTIMES) {
    context.note(`ffi: ${runtime}`);
    await using workers = new Workers();
    const task: FfiTask = { runs: context.quick ? RUNS_QUICK : RUNS };
    const result = await workers.start<FfiResult>(runtime, "ffi_calls.ts", task, 1);
    const records = Object.entries(result).map(([call, ns]) => recordFromRuns(`ffi ${runtime}: ${call}`, "ns", ns));
    const [nothing] = records;
    yield nothing!;
    for (const record of records.slice(1)) yield compared(record, nothing);
  }
}

export const ffiCall: Bench = {
  name: "ffi",
  question: "What does one native call cost, for each symbol on a hot path?",
  run,
};
