/**
 * The command line of the benches.
 * May touch: its arguments. May not touch: the process.
 *
 * @module
 */

import { parseArgs } from "node:util";

/** What the user asked for. */
export interface BenchOptions {
  /** Names of benches; none means all. */
  readonly names: readonly string[];
  readonly quick: boolean;
  readonly json: boolean;
  readonly help: boolean;
}

/** Something on the command line that can't be meant; its message is for the user. */
export class UsageError extends Error {
  override name = "UsageError";
}

/** @param known The names of all benches. @throws {UsageError} */
export function parseOptions(args: readonly string[], known: readonly string[]): BenchOptions {
  const { values, positionals } = parse(args);
  const unknown = positionals.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new UsageError(`There is no bench "${unknown}": choose among ${known.join(", ")}`);
  return { names: positionals, ...values };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        quick: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}
