/**
 * The program of a Worker that reads: answers what it has seen, and how it ended.
 * May touch: the library as a user would, messages.
 */

import type { ConsumerShare, IdleStrategy } from "../../../mod.ts";
import { attachReader } from "../../../src/worker/mod.ts";

/** What a Worker is asked to do. */
export interface ReadTask {
  readonly share: ConsumerShare;
  readonly idle: IdleStrategy;
  readonly way: "iterate" | "run" | "poll" | "some" | "names" | "stand still" | "close";
  /** Ends what stands still, as soon as it is not 0: Deno's terminate() does not, and it takes a core from whoever is next. */
  readonly stop: Int32Array;
}

const scope = globalThis as unknown as {
  onmessage: (event: { data: ReadTask }) => void;
  postMessage(answer: object): void;
};

async function work({ share, idle, way, stop }: ReadTask): Promise<string> {
  const reader = await attachReader(share, { idle });
  scope.postMessage({ at: "attached" });
  const seen: number[] = [];
  const names: (readonly string[])[] = [];
  let filters: readonly string[] = [];
  const note = (update: { kind: string; slotNumber?: number; filters: readonly string[] }) => {
    if (update.kind !== "account") return;
    seen.push(update.slotNumber!);
    if (update.filters.length > 0) filters = update.filters;
    if (seen.length % 1000 === 0) scope.postMessage({ at: "seen", count: seen.length });
  };
  try {
    if (way === "stand still") { // holds a view, and does not come back
      const view = await reader.next();
      scope.postMessage({ at: "standing" });
      while (Atomics.load(stop, 0) === 0) if (view?.kind === "account" && view.slotNumber < 0) break;
    }
    if (way === "close") {
      await reader.next();
      await reader.close();
    }
    if (way === "some") { for await (const update of reader) if (note(update as never), seen.length === 100) break; }
    if (way === "names") {
      await reader.run((update) => {
        if (update.kind === "account") names.push(update.filters);
      });
    }
    if (way === "iterate") { for await (const update of reader) note(update as never); }
    if (way === "run") await reader.run((update) => note(update as never));
    while (way === "poll" && reader.ended === undefined) {
      if (reader.poll((update) => note(update as never)) === 0) await new Promise((resolve) => setTimeout(resolve, 0));
    }
  } finally {
    const isInOrder = seen.every((slot, i) => slot === i + 1);
    scope.postMessage({ at: "end", count: seen.length, isInOrder, filters, names, lost: reader.metrics.lost });
  }
  if (way === "some") await reader.next(); // waits to its end
  return reader.ended?.reason ?? "none";
}

scope.onmessage = async ({ data }) => {
  try {
    scope.postMessage({ at: "over", reason: await work(data) });
  } catch (error) {
    const { code, reason, message } = error as { code?: string; reason?: string; message: string };
    scope.postMessage({ at: "over", code: code ?? message, reason });
  }
};
scope.postMessage({ at: "up" });
