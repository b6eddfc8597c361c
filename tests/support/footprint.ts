/**
 * What a process holds, by the kernel's word: descriptors, mappings of our regions, threads.
 * May touch: /proc, timers. May not touch: the process itself.
 */

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import "./settled_runtime.ts";

/** What a leak would change. */
export interface Footprint {
  /** Where each descriptor leads, e.g. "socket:[123]". */
  readonly descriptors: readonly string[];
  /** Mappings of our regions. */
  readonly mappings: readonly string[];
  /** Names of the threads, without those by which a runtime names its own helpers: it starts them when it likes. */
  readonly threads: readonly string[];
}

/** A thread of ours would have its parent's name: the library names none. */
const HELPERS = /^(JITWorker|Heap ?Helper|.*ollector Thread|Bun Pool|HTTP Client|V8 |tokio)/;

type Pid = number | "self";

function list(path: string, read: (entry: string) => string): string[] {
  return readdirSync(path).flatMap((entry) => {
    try {
      return [read(`${path}/${entry}`)];
    } catch {
      return []; // gone since the directory was read, as the one that reads it
    }
  });
}

export function footprintOf(pid: Pid): Footprint {
  return {
    descriptors: list(`/proc/${pid}/fd`, (path) => readlinkSync(path)).sort(),
    mappings: readFileSync(`/proc/${pid}/maps`, "utf8").split("\n").filter((line) => line.includes("/memfd:qlaster")),
    threads: list(`/proc/${pid}/task`, (path) => readFileSync(`${path}/comm`, "utf8").trim())
      .filter((name) => !HELPERS.test(name)).sort(),
  };
}

const EVENTUALLY_MS = 30_000;

/** Looks until `condition` holds: for states that no event tells. Fails with `what` after a deadline. */
export async function eventually(
  what: string | (() => string),
  condition: () => boolean | Promise<boolean>,
  timeoutMs: number = EVENTUALLY_MS,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (true) {
    const isLate = performance.now() >= deadline; // judged only after one more look
    if (await condition()) return;
    if (isLate) throw new Error(`Not in ${timeoutMs} ms: ${typeof what === "string" ? what : what()}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** What is in `after` and was not in `before`, as a text for a failed test. */
function surplus(before: readonly string[], after: readonly string[]): string {
  const left = [...before];
  return after.filter((entry) => {
    const at = left.indexOf(entry);
    if (at >= 0) left.splice(at, 1);
    return at < 0;
  }).join(", ");
}

/**
 * Waits until a process holds no more than it did.
 * @param options.threads Also count threads; a runtime starts some of its own when it likes, so not everywhere.
 */
export async function settlesAt(pid: Pid, before: Footprint, options: { threads?: boolean } = {}): Promise<void> {
  let now = footprintOf(pid);
  await eventually(
    () =>
      `process ${pid} holds no more than before; descriptors: ${before.descriptors.length} -> ${now.descriptors.length} ` +
      `(${
        surplus(before.descriptors, now.descriptors)
      }), mappings: ${before.mappings.length} -> ${now.mappings.length} ` +
      `(${surplus(before.mappings, now.mappings)}), threads: ${before.threads.length} -> ${now.threads.length} ` +
      `(${surplus(before.threads, now.threads)})`,
    () => {
      now = footprintOf(pid);
      return now.descriptors.length <= before.descriptors.length && now.mappings.length <= before.mappings.length &&
        (options.threads !== true || now.threads.length <= before.threads.length);
    },
  );
}
