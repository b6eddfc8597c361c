/**
 * What went wrong, in one sentence, and with which exit code.
 * May touch: nothing.
 *
 * @module
 */

import { isQlasterError } from "../errors.ts";
import { plain } from "./text.ts";

/** Said as it is: no stack, exit code 1. */
export class Failure extends Error {}

/** One helpful sentence, for a terminal: what a peer has said of it is text and no more. */
export function sentence(error: unknown): string {
  const text = plain(error instanceof Error ? error.message : String(error));
  return isQlasterError(error) ? `${text} (${error.code}; qlaster explain ${error.code})` : text;
}

/** @throws {Failure} unless it is a number within bounds. */
export function numberOf(text: string, name: string, min: number, max: number = Number.MAX_SAFE_INTEGER): number {
  const value = Number(text);
  if (text.trim() === "" || !(value >= min && value <= max)) {
    throw new Failure(`${name} must be a number from ${min} to ${max}, not "${text}"`);
  }
  return value;
}

const UNITS: Readonly<Record<string, number>> = { "": 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** "512M" and the like. @throws {Failure} */
export function bytesOf(text: string, name: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?$/i.exec(text.trim());
  if (match === null) throw new Failure(`${name} must be a size such as 512M or 20G, not "${text}"`);
  return Math.round(Number(match[1]) * UNITS[match[2]!.toLowerCase()]!);
}

const SECONDS: Readonly<Record<string, number>> = { ms: 0.001, s: 1, m: 60, h: 3600, "": 1 };

/** "250ms", "10s", "5m", "2h": milliseconds. @throws {Failure} */
export function durationOf(text: string, name: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|)$/.exec(text.trim());
  if (match === null) throw new Failure(`${name} must be a duration such as 10s or 5m, not "${text}"`);
  return Number(match[1]) * SECONDS[match[2]!]! * 1000;
}
