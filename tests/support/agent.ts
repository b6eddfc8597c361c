/**
 * The program of a child process: runs the functions that a test sends it, in whichever runtime it was started by.
 * May touch: stdin (requests), stdout (answers and events), the library as a user would.
 * Ends with its stdin, so that it can't outlive the test.
 */

import process from "node:process";
import { createInterface } from "node:readline";
import { writeSync } from "node:fs";
import * as qlaster from "../../mod.ts";
import * as peer from "../model/support/process_peer.ts";
import * as libc from "./libc.ts";
import * as pace from "./pace.ts";
import * as script from "./script.ts";
import "./settled_runtime.ts"; // others compare what this process holds

/** What a function that was sent here can use. It sees nothing else: no closure comes along. */
export interface Scope {
  readonly qlaster: typeof qlaster;
  readonly script: typeof script;
  readonly pace: typeof pace;
  readonly peer: typeof peer;
  readonly libc: typeof libc;
  readonly process: typeof process;
  /** Tells the test something, after all that was told before. Returns when the kernel has it. */
  emit(event: unknown): void;
  /** What a later function is to find. */
  // deno-lint-ignore no-explicit-any
  readonly kept: Record<string, any>;
  sender: qlaster.Sender;
  consumer: qlaster.Consumer;
  /** True: the end of stdin is not the end of the process. */
  outlivesInput: boolean;
}

function tell(value: unknown): void {
  const bytes = new TextEncoder().encode(
    `${JSON.stringify(value, (_, field: unknown) => typeof field === "bigint" ? Number(field) : field)}\n`,
  );
  for (let sent = 0; sent < bytes.length;) {
    try {
      sent += writeSync(1, bytes, sent);
    } catch (error) {
      if ((error as { code?: string }).code !== "EAGAIN") throw error;
    }
  }
}

const scope: Scope = {
  qlaster,
  script,
  pace,
  peer,
  libc,
  process,
  emit: (event) => tell({ event }),
  kept: {},
  // Set by the functions that need them, before those that use them.
  sender: undefined as unknown as qlaster.Sender,
  consumer: undefined as unknown as qlaster.Consumer,
  outlivesInput: false,
};

interface Request {
  readonly id: number;
  readonly source: string;
  readonly argument: unknown;
}

async function serve({ id, source, argument }: Request): Promise<void> {
  try {
    const body = new Function(`return (${source})`)() as (scope: Scope, argument: unknown) => unknown;
    tell({ id, result: await body(scope, argument) ?? null });
  } catch (error) {
    const { name, message, code, reason, stack } = error as Error & { code?: string; reason?: string };
    tell({ id, error: { name, message, code, reason, stack } });
  }
}

createInterface({ input: process.stdin })
  .on("line", (line) => void serve(JSON.parse(line)))
  .on("close", () => {
    if (!scope.outlivesInput) process.exit(0);
  });
tell({ event: "ready" });
