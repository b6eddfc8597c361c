/**
 * A test with a watchdog, whose resources go whatever happens: `node:test`'s own timeout leaves them behind.
 * May touch: `node:test`, timers. May not touch: what is tested.
 */

import { test } from "node:test";

/** What a test holds: given back in reverse order at its end, also when the watchdog ends it. */
export interface Held {
  use<T extends Disposable | AsyncDisposable>(resource: T): T;
  defer(release: () => void | Promise<void>): void;
}

const WATCHDOG_MS = 100_000;

/**
 * @param options.skip Why it can't run here; undefined if it can.
 * @param options.timeoutMs The watchdog's patience: a bound on hanging, no statement about speed.
 */
export function guarded(
  name: string,
  body: (held: Held) => Promise<void>,
  options: { skip?: string | undefined; timeoutMs?: number } = {},
): void {
  const timeoutMs = options.timeoutMs ?? WATCHDOG_MS;
  const skip = options.skip === undefined ? {} : { skip: options.skip };
  test(options.skip === undefined ? name : `${name} (skipped: ${options.skip})`, {
    timeout: timeoutMs + 10_000,
    ...skip,
  }, async () => {
    const stack = new AsyncDisposableStack();
    let timer: ReturnType<typeof setTimeout> | undefined;
    try {
      const late = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error(`The watchdog ended it after ${timeoutMs} ms`)), timeoutMs);
      });
      const running = body({
        use: (resource) => stack.use(resource),
        defer: (release) => stack.defer(release),
      });
      running.catch(() => {}); // it may fail after the watchdog, for want of what was taken from it
      await Promise.race([running, late]);
    } finally {
      clearTimeout(timer);
      await stack.disposeAsync();
    }
  });
}
