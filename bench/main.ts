/**
 * The benches' command: runs those that are asked for, and prints what they found.
 * May touch: a private temporary directory, the terminal. Figures go to stdout, progress to stderr.
 * Run by `./dev bench`, in either runtime. Exit code 0: all was measured; 1: something broke; 2: no such bench; 128 + n: signal n.
 *
 * @module
 */

import { mkdtempSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import type { Bench, BenchContext } from "./bench.ts";
import { consumerCosts } from "./consumer_costs.ts";
import { fanout } from "./fanout.ts";
import { fanoutLoad } from "./fanout_load.ts";
import { ffiCall } from "./ffi_call.ts";
import { handshake } from "./handshake.ts";
import { describeMachine } from "./machine.ts";
import { type BenchOptions, parseOptions, UsageError } from "./options.ts";
import { peers } from "./peers.ts";
import type { BenchRecord } from "./record.ts";
import { linesFromMachine, tableFromRecords } from "./report.ts";
import { ringLatency } from "./ring_latency.ts";
import { ringThroughput } from "./ring_throughput.ts";
import { v9Ring } from "./v9_ring.ts";
import { killAll } from "./worker.ts";
import { yellowstone } from "./yellowstone.ts";

const BENCHES: readonly Bench[] = [
  ringThroughput,
  ringLatency,
  handshake,
  ffiCall,
  fanout,
  fanoutLoad,
  peers,
  v9Ring,
  consumerCosts,
  yellowstone,
];

const USAGE = `Usage: ./dev bench [name ...] [--quick] [--json]

${BENCHES.map(({ name, question }) => `  ${name.padEnd(12)} ${question}`).join("\n")}

  --quick      fewer sizes and samples: all benches within 30 s, instead of minutes
  --json       one record a line: name, value, unit, peer, ratio, conditions
`;

process.exitCode = await main(process.argv.slice(2));

async function main(args: readonly string[]): Promise<number> {
  let options: BenchOptions;
  try {
    options = parseOptions(args, BENCHES.map(({ name }) => name));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    console.error(`${error.message} (--help says what each asks)`);
    return 2;
  }
  if (options.help) {
    console.log(USAGE);
    return 0;
  }
  const directory = mkdtempSync(join(tmpdir(), "qlaster-bench-"));
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.once(signal, () => {
      killAll();
      rmSync(directory, { recursive: true, force: true });
      process.exit(128 + constants.signals[signal]);
    });
  }
  try {
    await measure(options, directory);
    return 0;
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    return 1;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function measure({ names, quick, json }: BenchOptions, directory: string): Promise<void> {
  const machine = describeMachine();
  if (!json) console.log(linesFromMachine(machine));
  const context: BenchContext = { quick, directory, note: (text) => console.error(text) };
  for (const bench of BENCHES.filter(({ name }) => names.length === 0 || names.includes(name))) {
    const records: BenchRecord[] = [];
    for await (const record of bench.run(context)) {
      if (json) console.log(JSON.stringify({ ...record, conditions: { ...record.conditions, ...machine } }));
      else records.push(record);
    }
    if (!json) console.log(`\n${bench.question}\n\n${tableFromRecords(records)}`);
  }
}
