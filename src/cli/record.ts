/**
 * `qlaster record`, and the status line of whatever takes its time.
 * May touch: a consumer, a directory, stderr.
 *
 * @module
 */

import process from "node:process";
import { createLogUpdate } from "log-update";
import { record, type RecordingProgress } from "../recording/mod.ts";
import { connect, type FilterFlags } from "./tap.ts";
import { bytes, short } from "./text.ts";

/** One line on stderr that is redrawn on a terminal; elsewhere only the last one is said. */
export class StatusLine {
  readonly #update = process.stderr.isTTY === true ? createLogUpdate(process.stderr) : undefined;
  readonly #startedAt = performance.now();
  #shownAt = 0;

  /** Seconds so far. */
  get seconds(): number {
    return Math.max(0.001, (performance.now() - this.#startedAt) / 1000);
  }

  /** Shows a line, at most ten times a second. */
  show(line: () => string): void {
    const now = performance.now();
    if (this.#update === undefined || now - this.#shownAt < 100) return;
    this.#shownAt = now;
    this.#update(line());
  }

  /** A word in between, above the line. */
  say(text: string): void {
    this.#update?.clear();
    this.#shownAt = 0;
    process.stderr.write(`${text}\n`);
  }

  /** The last word. */
  end(line: string): void {
    this.#update?.clear();
    process.stderr.write(`${line}\n`);
  }
}

/** What `record` is asked for. */
export interface RecordFlags extends FilterFlags {
  readonly rotate?: number;
  readonly rotateSlots?: number;
  readonly maxSize?: number;
  readonly for?: number;
  /** End with the sender, and don't wait for the next one. */
  readonly once?: boolean;
  readonly sync?: boolean;
  readonly compress: boolean;
}

function describe({ updates, fileBytes, segments, lost, lastSlot }: RecordingProgress, seconds: number): string {
  const slot = lastSlot === undefined ? "" : `  slot ${lastSlot}`;
  const loss = lost > 0 ? `  ${lost} lost` : "";
  return `${short(updates)} updates  ${short(updates / seconds)}/s  ${
    bytes(fileBytes)
  } in ${segments} segments${slot}${loss}`;
}

/** Records until the signal, or as long as asked for; `once`: until the sender ends. */
export async function recordTo(
  path: string,
  directory: string,
  flags: RecordFlags,
  signal: AbortSignal,
): Promise<void> {
  const line = new StatusLine();
  const signals = flags.for === undefined ? [signal] : [signal, AbortSignal.timeout(flags.for)];
  const connected = await connect(path, "qlaster record", flags, {
    reconnect: flags.once !== true,
    onConnection: (event) => {
      if (event.type === "lost" && flags.once !== true) line.say(`lost: ${event.reason}; waits for the next sender`);
      if (event.type === "resumed") line.say(`goes on: what may be missing is ${event.continuity}`);
    },
  });
  await using consumer = connected.consumer;
  const progress = await record(consumer, directory, {
    ...(flags.rotate !== undefined && { rotateBytes: flags.rotate }),
    ...(flags.rotateSlots !== undefined && { rotateSlots: flags.rotateSlots }),
    ...(flags.maxSize !== undefined && { maxBytes: flags.maxSize }),
    sync: flags.sync === true ? "chunk" : "none",
    compression: flags.compress ? "zstd" : "none",
    signal: AbortSignal.any(signals),
    onProgress: (now) => line.show(() => describe(now, line.seconds)),
  });
  line.end(`recorded ${describe(progress, line.seconds)} into ${directory}`);
}
