/**
 * Watchdogs: what a test waits for comes, or the test fails and says what did not come.
 * May touch: timers. May not touch: the library.
 * Why so long: the machine is shared and slow at times; no test passes or fails by its speed.
 *
 * @module
 */

import { setImmediate } from "node:timers";

/** How long anything may take that a test waits for. */
export const LIMIT_MS = 50_000;
const LOOK_MS = 1;

/** What the promise settles to; an error if it takes absurdly long. */
export async function within<T>(promise: PromiseLike<T>, what: string): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come within ${LIMIT_MS} ms`)), LIMIT_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Looks again and again until the condition holds. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + LIMIT_MS;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`${what} did not come within ${LIMIT_MS} ms`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

/** One turn of the event loop: every microtask that was due has run. */
export function turn(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}
