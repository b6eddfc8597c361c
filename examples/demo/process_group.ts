/**
 * The processes of one run: if one fails all end, and none outlives the run.
 * May touch: the children that it was given.
 * May not touch: what they do.
 * Why a failure is reported a moment late: when a sender dies its consumers fail too, and the reader wants the cause.
 *
 * @module
 */

import { setTimeout as sleep } from "node:timers/promises";
import type { Child } from "./child.ts";

const FAILURES_SETTLE_MS = 300;

/** Children that end together. */
export class ProcessGroup {
  readonly #children: Child[] = [];
  readonly #failures: string[] = [];
  readonly #aborted = Promise.withResolvers<never>();
  #closing = false;

  /** @param signal Ends what is guarded, with its reason. */
  constructor(signal: AbortSignal) {
    // Whoever is guarded sees the rejection; if nobody is at that moment, the next one will.
    this.#aborted.promise.catch(() => {});
    const abort = () => this.#aborted.reject(signal.reason);
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
  }

  /** Takes charge of a child: it is killed at the end, if it is still there. */
  add(child: Child): Child {
    this.#children.push(child);
    return child;
  }

  /** Takes charge of a child whose failure is everybody's. */
  addEssential(child: Child): Child {
    child.ended.then(async ({ ok, reason }) => {
      if (ok || this.#closing) return;
      this.#failures.push(`The ${child.name} ${reason}`);
      await sleep(FAILURES_SETTLE_MS);
      this.abort(new Error(this.#failures.join("\n")));
    });
    return this.add(child);
  }

  /** Ends what is guarded, now and later. */
  abort(reason: Error): void {
    this.#aborted.reject(reason);
  }

  /** What the promise resolves to, unless the group is aborted before. */
  guard<T>(promise: Promise<T>): Promise<T> {
    return Promise.race([promise, this.#aborted.promise]);
  }

  /** Waits until all children have ended, and throws if an essential one has failed. */
  async allEnded(): Promise<void> {
    await this.guard(Promise.all(this.#children.map(({ ended }) => ended)));
    if (this.#failures.length > 0) throw new Error(this.#failures.join("\n"));
  }

  /** Kills who is still there, and waits until nobody is: then the files are nobody's any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing = true;
    for (const child of this.#children) child.kill();
    await Promise.all(this.#children.map(({ ended }) => ended));
  }
}
