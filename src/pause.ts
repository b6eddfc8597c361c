/**
 * A wait that can be cut short. Any room may use it.
 * May touch: one timer.
 *
 * @module
 */

import { clearTimeout, setTimeout } from "node:timers";

/**
 * Waits, or until the signal is aborted; never rejects.
 * @param isRef Whether the process waits for it, too.
 */
export function pause(ms: number, signal: AbortSignal | undefined, isRef = true): Promise<void> {
  if (signal?.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    if (!isRef) timer.unref();
    signal?.addEventListener("abort", done, { once: true });
  });
}
