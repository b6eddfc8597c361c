/**
 * A config file: options of a command by their names in camelCase, each read by the rules of its flag.
 * May touch: the file that it is given.
 *
 * @module
 */

import { readFileSync } from "node:fs";
import type { Command, Option } from "commander";
import { Failure } from "./failure.ts";

/** What a file says, as if it had been flags. @throws {Failure} for what no flag could say. */
export function readConfig(file: string, command: Command): Record<string, unknown> {
  let given: unknown;
  try {
    given = JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    throw new Failure(`Cannot read the config file "${file}": ${(error as Error).message}`);
  }
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw new Failure(`"${file}" must hold a JSON object`);
  }
  const options = new Map(command.options.map((option) => [option.attributeName(), option]));
  options.delete("config");
  const values: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(given)) {
    const option = options.get(key);
    if (option === undefined) {
      throw new Failure(`"${file}" has an unknown key "${key}": there are ${[...options.keys()].join(", ")}`);
    }
    try {
      values[key] = valueOf(option, value);
    } catch (error) {
      throw new Failure(`"${key}" in "${file}": ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return values;
}

function valueOf(option: Option, value: unknown): unknown {
  if (option.isBoolean()) {
    if (typeof value === "boolean") return value;
    throw new TypeError(`it must be true or false, not ${JSON.stringify(value)}`);
  }
  if (!option.variadic) return parsed(option, value, undefined);
  const list: readonly unknown[] = Array.isArray(value) ? value : [value];
  return list.reduce((before, one) => parsed(option, one, before), undefined);
}

/** @param before What the same option has so far, if it takes many. */
function parsed(option: Option, value: unknown, before: unknown): unknown {
  const { parseArg } = option;
  if (typeof value !== "string" && (typeof value !== "number" || parseArg === undefined)) {
    throw new TypeError(`it must be ${parseArg === undefined ? "" : "a number or "}text, not ${JSON.stringify(value)}`);
  }
  return parseArg === undefined ? value : parseArg(String(value), before);
}
