/**
 * The demo's command: one sender, two consumers, a live view, and a verdict.
 * May touch: a private temporary directory, signals, the terminal.
 * May not touch: the library; only the processes of demo_run.ts do.
 * Run by `./dev demo`, in either runtime. Exit code 0: all is well; 1: it is not; 2: the command line makes no sense;
 * 128 + n: signal n.
 *
 * @module
 */

import { mkdtempSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { type DemoResult, runDemo } from "./demo_run.ts";
import { type DemoOptions, parseOptions, USAGE, UsageError } from "./options.ts";
import { createView } from "./view.ts";

/** A signal that asks the demo to end. */
class Interruption extends Error {
  constructor(readonly signal: NodeJS.Signals) {
    super(`Interrupted by ${signal}`);
  }
}

process.exitCode = await main(process.argv.slice(2));

async function main(args: readonly string[]): Promise<number> {
  let options: DemoOptions;
  try {
    options = parseOptions(args);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    console.error(`${error.message} (--help shows all options)`);
    return 2;
  }
  if (options.help) {
    console.log(USAGE);
    return 0;
  }

  using interruption = catchSignals();
  const directory = mkdtempSync(join(tmpdir(), "qlaster-demo-"));
  try {
    using view = createView(process.stdout);
    const result = await runDemo(options, directory, view, interruption.signal);
    console.log(verdict(result));
    return result.ok ? 0 : 1;
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    return error instanceof Interruption ? 128 + constants.signals[error.signal] : 1;
  } finally {
    if (options.keep) console.log(`Logs: ${directory}`);
    else rmSync(directory, { recursive: true, force: true });
  }
}

/** A signal that is aborted when the user, or whoever started this, wants it to end. */
function catchSignals(): Disposable & { signal: AbortSignal } {
  const controller = new AbortController();
  const onSignal = (name: NodeJS.Signals) => controller.abort(new Interruption(name));
  const names = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const name of names) process.on(name, onSignal);
  return {
    signal: controller.signal,
    [Symbol.dispose](): void {
      for (const name of names) process.off(name, onSignal);
    },
  };
}

function verdict({ ok, checks, transactions, seconds }: DemoResult): string {
  const lines = checks.map(({ ok, consumer, text }) => `${ok ? "ok    " : "FAILED"}  ${consumer}\n        ${text}`);
  const what = `${transactions.toLocaleString("en")} transactions in ${seconds.toFixed(1)} s`;
  const end = ok
    ? `Both consumers got exactly what they asked for, of ${what}.`
    : `The check failed, after ${what}. --keep keeps the logs.`;
  return ["", ...lines, end].join("\n");
}
