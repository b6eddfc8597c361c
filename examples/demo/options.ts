/**
 * The command line of the demo.
 * May touch: its arguments.
 * May not touch: the process. Whether to print and with which code to end is main.ts's business.
 *
 * @module
 */

import { parseArgs } from "node:util";
import type { Runtime } from "./child.ts";
import type { SourceName } from "./messages.ts";

/** What the user asked for. */
export interface DemoOptions {
  readonly seconds: number;
  readonly runtime: Runtime;
  /** By which source of the library the sender gets its updates; undefined for none: from the bank itself. */
  readonly source: SourceName | undefined;
  readonly transactionsMin: number;
  readonly path: string | undefined;
  readonly keep: boolean;
  readonly help: boolean;
}

/** Something on the command line that can't be meant; its message is for the user. */
export class UsageError extends Error {
  override name = "UsageError";
}

/** What `--help` prints. */
export const USAGE = `Usage: ./dev demo [options]

One sender process and two consumer processes, one in Deno and one in Bun, stream live Solana
token transfers through shared memory; then a checker proves that each got exactly its share.

  --seconds N        how long to run, 1 to 240 (default 15)
  --runtime NAME     the sender's runtime, deno or bun (default deno)
  --source NAME      have the sender fed by a source of the library, each with a server of its own here:
                     yellowstone, rpc, litesvm, relay (default: by the bank itself)
  --transactions N   run at least so many transactions, 1 to 100000 (default 2000)
  --path PATH        the Unix socket (default: in a private directory)
  --keep             keep the logs, and say where they are
  --help             print this
`;

// The checker reads whole logs, and a transaction takes 2.5 KB of them.
const SECONDS_MAX = 240;
const TRANSACTIONS_MAX = 100_000;

const SOURCES: readonly SourceName[] = ["yellowstone", "rpc", "litesvm", "relay"];
const isSourceName = (name: string): name is SourceName => (SOURCES as readonly string[]).includes(name);

/** Reads the command line. Throws {@linkcode UsageError}. */
export function parseOptions(args: readonly string[]): DemoOptions {
  const { seconds, runtime, source, transactions, path, keep, help } = parse(args);
  if (runtime !== "deno" && runtime !== "bun") {
    throw new UsageError(`Cannot run the sender in "${runtime}": --runtime takes deno or bun`);
  }
  if (source !== undefined && !isSourceName(source)) {
    throw new UsageError(`Cannot be fed by "${source}": --source takes ${SOURCES.join(", ")}`);
  }
  if (path === "") throw new UsageError("Cannot listen on an empty path: --path takes the path of a Unix socket");
  return {
    seconds: integer("--seconds", seconds, SECONDS_MAX),
    runtime,
    source,
    transactionsMin: integer("--transactions", transactions, TRANSACTIONS_MAX),
    path,
    keep,
    help,
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        seconds: { type: "string", default: "15" },
        runtime: { type: "string", default: "deno" },
        source: { type: "string" },
        transactions: { type: "string", default: "2000" },
        path: { type: "string" },
        keep: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    }).values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}

function integer(flag: string, text: string, max: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || value > max) {
    throw new UsageError(`Cannot use ${flag} "${text}": it takes a whole number from 1 to ${max}`);
  }
  return value;
}
