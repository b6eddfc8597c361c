/**
 * What every list of cases over the native library has: the library, a note of what was called, handles that are none.
 * May touch: the native library through `load()`.
 *
 * @module
 */

import { load } from "../../../mod.ts";
import type { Native } from "../../../src/native/native.ts";

/** Handles that nobody has: index and generation out of range, or never given out. */
export const NONSENSE = [0, 1, 4095, 4096, 0x7fffffff, 0xffffffff];

/**
 * The library, and which of its symbols were called. Each list has its own, since its last case looks whether it has left
 * any out: what another list of the same process calls must not count.
 */
export function notedLibrary(): { native(): Promise<Native>; readonly called: ReadonlySet<string> } {
  const called = new Set<string>();
  let proxied: Native | undefined;
  const native = async () => {
    const library = await load();
    return proxied ??= new Proxy(library, {
      get(target, name: string) {
        called.add(name);
        return target[name as keyof Native];
      },
    });
  };
  return { native, called };
}
