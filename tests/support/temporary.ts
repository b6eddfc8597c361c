/**
 * A directory of a test's own, private as a sender wants it, that goes with everything in it.
 * May touch: the temporary directory.
 */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export class Temporary implements Disposable {
  readonly path: string = mkdtempSync(join(tmpdir(), "qlaster-test-"));

  /** The path of something in it. */
  at(name: string): string {
    return join(this.path, name);
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}
