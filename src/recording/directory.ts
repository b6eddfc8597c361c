/**
 * The directory of a recording: its segments, who writes it, and what a writer that was killed left behind.
 * May touch: files of the directory whose names are its own.
 *
 * @module
 */

import {
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { QlasterError } from "../errors.ts";
import { parseSegmentName, PART_SUFFIX, recoveringName, segmentName } from "./format.ts";

/** A file of a recording. */
export interface Segment {
  /** Counts the segments of a recording: the first is 1. */
  readonly number: number;
  /** Where it is. */
  readonly path: string;
  /** It is being written, or its writer was killed: it ends anywhere. */
  readonly isPart: boolean;
  /** Bytes, when it was looked at. */
  readonly size: number;
}

/**
 * The segments in a directory, in their order; without the copies of a part whose recovery is not over.
 * @throws {QlasterError} `RECORDING_NOT_FOUND`
 */
export function listSegments(directory: string): Segment[] {
  return listAll(directory).segments;
}

function listAll(directory: string): { readonly segments: Segment[]; readonly copies: Segment[] } {
  let names: string[];
  try {
    names = readdirSync(directory);
  } catch (cause) {
    throw new QlasterError("RECORDING_NOT_FOUND", `Cannot read the directory "${directory}"`, { cause });
  }
  const segments: Segment[] = [];
  let copiedTo = Infinity;
  for (const name of names) {
    const parsed = parseSegmentName(name);
    if (parsed === undefined) continue;
    const path = join(directory, name);
    // A recorder may rename or remove it meanwhile.
    const found = statSync(path, { throwIfNoEntry: false });
    // Opening a pipe would wait for who writes to it.
    if (found?.isFile() !== true) continue;
    const { number, isPart } = parsed;
    segments.push({ number, isPart, path, size: found.size });
    copiedTo = Math.min(copiedTo, parsed.copiedTo ?? Infinity);
  }
  segments.sort((a, b) => a.number - b.number || Number(a.isPart) - Number(b.isPart));
  return {
    segments: segments.filter(({ number }) => number < copiedTo),
    copies: segments.filter(({ number }) => number >= copiedTo),
  };
}

/** What a recorder that was killed while it recovered a part had made of it: the part is still there. */
export function deleteCopies(directory: string): void {
  for (const { path } of listAll(directory).copies) rmSync(path, { force: true });
}

/**
 * From now on the part is one that is being copied, so that nobody takes both it and its copies, whenever this process ends.
 * @param copiedTo The number of the first copy.
 * @returns Its path.
 */
export function beginRecovery({ path, number }: Segment, copiedTo: number): string {
  const recovering = join(dirname(path), recoveringName(number, copiedTo));
  renameSync(path, recovering);
  return recovering;
}

const LOCK_NAME = "recorder.lock";

/** Tells a process from a later one with its number: when it began, by Linux' word. Empty where nobody says. */
function startOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
  } catch {
    return "";
  }
}

function isAlive(holder: string): boolean {
  const [pid, start = ""] = holder.trim().split(" ");
  if (!/^\d+$/.test(pid ?? "")) return false;
  try {
    process.kill(Number(pid), 0);
  } catch (error) {
    return (error as { code?: string }).code === "EPERM";
  }
  return start === "" || startOf(Number(pid)) === start;
}

/** One recorder's hold of a directory. It ends with `release`, or is taken over when its process is gone. */
export class DirectoryLock {
  readonly #path: string;
  readonly #text = `${process.pid} ${startOf(process.pid)}\n`;

  private constructor(path: string) {
    this.#path = path;
  }

  /** Makes the directory if it is not there. @throws {QlasterError} `RECORDING_BUSY` */
  static take(directory: string): DirectoryLock {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const lock = new DirectoryLock(join(directory, LOCK_NAME));
    for (let attempt = 0; attempt < 2; attempt++) {
      try {
        writeFileSync(lock.#path, lock.#text, { flag: "wx", mode: 0o600 });
        return lock;
      } catch (error) {
        if ((error as { code?: string }).code !== "EEXIST") throw error;
      }
      const holder = existsSync(lock.#path) ? readFileSync(lock.#path, "utf8") : "";
      if (isAlive(holder)) {
        const text = `Cannot record into "${directory}": process ${holder.split(" ")[0]} does`;
        throw new QlasterError("RECORDING_BUSY", text);
      }
      rmSync(lock.#path, { force: true });
    }
    throw new QlasterError("RECORDING_BUSY", `Cannot record into "${directory}": somebody else takes it just now`);
  }

  release(): void {
    if (existsSync(this.#path) && readFileSync(this.#path, "utf8") === this.#text) rmSync(this.#path, { force: true });
  }
}

/** A new segment that is to be written. */
export function createPart(directory: string, number: number): { readonly fd: number; readonly path: string } {
  const path = join(directory, segmentName(number) + PART_SUFFIX);
  return { fd: openSync(path, "wx", 0o600), path };
}

/** A part is whole: it gets its name. */
export function completePart(path: string): void {
  renameSync(path, path.slice(0, -PART_SUFFIX.length));
}
