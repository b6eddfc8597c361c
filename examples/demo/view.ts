/**
 * What a person sees while the demo runs: a screen that is redrawn in place, or plain lines where there is no terminal.
 * May touch: the stream that it was given.
 * May not touch: processes, files.
 * Why log-update: it rewrites only what changed, keeps to the terminal's size and gives the cursor back.
 *
 * @module
 */

import type { WriteStream } from "node:tty";
import { createLogUpdate } from "log-update";
import { decodedLines, type DemoState, lineFromState, screenFromState } from "./screen.ts";

/** Shows states, one after the other. Give the terminal back by disposing of it. */
export interface View extends Disposable {
  show(state: DemoState): void;
  /** Shows the last state, and leaves it there. */
  showLast(state: DemoState): void;
}

const PLAIN_INTERVAL_MS = 1000;

/** A screen for a terminal, else plain lines. */
export function createView(stream: WriteStream): View {
  // A pseudo-terminal may report a size of 0: nothing can be drawn there.
  return stream.isTTY && stream.columns > 0 && stream.rows > 0 ? new ScreenView(stream) : new LinesView(stream);
}

class ScreenView implements View {
  readonly #draw: ReturnType<typeof createLogUpdate>;

  constructor(stream: WriteStream) {
    this.#draw = createLogUpdate(stream);
  }

  show(state: DemoState): void {
    this.#draw(screenFromState(state));
  }

  showLast(state: DemoState): void {
    this.show(state);
  }

  [Symbol.dispose](): void {
    this.#draw.done();
  }
}

/** One line a second, without control characters. */
class LinesView implements View {
  readonly #stream: WriteStream;
  #shownAtMs = -Infinity;

  constructor(stream: WriteStream) {
    this.#stream = stream;
  }

  show(state: DemoState): void {
    const atMs = performance.now();
    if (!state.sender.report || atMs - this.#shownAtMs < PLAIN_INTERVAL_MS) return;
    this.#shownAtMs = atMs;
    this.#stream.write(lineFromState(state) + "\n");
  }

  showLast(state: DemoState): void {
    this.#stream.write([lineFromState(state), ...decodedLines(state)].join("\n") + "\n");
  }

  [Symbol.dispose](): void {}
}
