/**
 * Publishing, the same on the sender's thread (sender.ts) and in a Worker (worker_publisher.ts).
 * May touch: its thread's outlet. May not touch: consumers, connections.
 *
 * @module
 */

import { QlasterError } from "../errors.ts";
import type { AccountUpdate, SlotUpdate, TransactionUpdate, Update } from "../types.ts";
import { feed } from "./feed.ts";
import { CONGESTED, type Outlet } from "./outlet.ts";

/** Updates of one batch after which it is committed all the same, so that consumers start early. */
const BATCH_MAX = 256;

/**
 * Publishes updates to every consumer that asked for them: a {@linkcode Sender}, or in a Worker what
 * {@linkcode attachPublisher} returns. All publishers of a sender share one order: each one's updates keep theirs.
 */
export abstract class Publisher implements AsyncDisposable {
  /** The path of the sender's socket. */
  readonly path: string;

  /** Ends feeds. Next to it a plain flag, since asking a signal costs more than encoding an update. @internal */
  protected readonly closing: AbortController = new AbortController();
  /** @internal */
  protected isClosed: boolean = false;
  /** @internal */
  protected abstract readonly outlet: Outlet;

  /** @internal */
  constructor(path: string) {
    this.path = path;
  }

  /**
   * Publishes a write of an account to every consumer that wants its key or its owner.
   * @returns The number of consumers into whose rings it went at once; -1 if it was not published, since a consumer
   * with the policy "block" has no room: then await `drained()` and try again. 0 also for an older version that is
   * dropped.
   * @throws {TypeError} or {@linkcode RangeError} for a field that is not what it must be; then nothing was published.
   * @throws {QlasterError} `SENDER_CLOSED`, `PUBLISHER_CLOSED`
   */
  publishAccount(update: Omit<AccountUpdate, "kind">): number {
    this.assertOpen();
    return this.outlet.publishAccount(update);
  }

  /** Publishes a transaction to every consumer that asked for it. Otherwise as `publishAccount`. */
  publishTransaction(update: Omit<TransactionUpdate, "kind">): number {
    this.assertOpen();
    return this.outlet.publishTransaction(update);
  }

  /**
   * Publishes a status of a slot to every consumer whose filters do not leave it out, with the number of accounts and
   * transactions published for that slot so far, and of those that each connection lost. Otherwise as `publishAccount`.
   */
  publishSlot(update: Omit<SlotUpdate, "kind">): number {
    this.assertOpen();
    return this.outlet.publishSlot(update);
  }

  /**
   * Publishes many updates with one commit and at most one wake per consumer (one more for each 256 updates).
   * @returns The number of deliveries.
   * @throws as the single ones; what came before the faulty update is published.
   * @throws {QlasterError} `SENDER_CONGESTED` when a consumer with the policy "block" has no room: its `published` says how
   * many updates went out before; await `drained()` and go on with the next.
   */
  publishBatch(updates: Iterable<Update>): number {
    this.assertOpen();
    let reached = 0;
    let published = 0;
    try {
      for (const update of updates) {
        const count = this.#stage(update);
        if (count === CONGESTED) {
          const text = `Cannot publish at "${this.path}": a consumer with the policy "block" has no room`;
          throw new QlasterError("SENDER_CONGESTED", text, { published });
        }
        reached += count;
        if (++published % BATCH_MAX === 0) this.outlet.commit();
      }
    } finally {
      this.outlet.commit();
    }
    return reached;
  }

  /** Whether a consumer with the policy "block" kept the last update from being published. */
  get congested(): boolean {
    return this.outlet.isCongested;
  }

  /**
   * Waits until there may be room for what could not be published.
   * @returns At once if nothing is in the way. A consumer that makes no room within `blockTimeoutMs` is ended.
   */
  abstract drained(): Promise<void>;

  /**
   * Publishes what an asynchronous source yields, one update or a list of them at a time. What has been taken is
   * committed no later than when the source makes us wait.
   * @param options.signal Ends it without an error.
   * @returns When the source has ended, or the signal was aborted, or this publisher or its sender was closed.
   * @throws what the source throws, and as `publishBatch`; what came before is published.
   */
  feed(source: AsyncIterable<Update | readonly Update[]>, options: { signal?: AbortSignal } = {}): Promise<void> {
    this.assertOpen();
    const stage = {
      stage: (update: Update) => this.#stage(update),
      commit: () => this.outlet.commit(),
      drained: () => this.drained(),
    };
    const signals = [this.closing.signal];
    if (options.signal !== undefined) signals.push(options.signal);
    return feed(stage, source, signals);
  }

  /** Publishes one update, unseen until the outlet's `commit`. */
  #stage(update: Update): number {
    this.assertOpen();
    this.outlet.openBatch();
    switch (update.kind) {
      case "account":
        return this.outlet.publishAccount(update);
      case "transaction":
        return this.outlet.publishTransaction(update);
      case "slot":
        return this.outlet.publishSlot(update);
      default:
        throw new TypeError(`kind must be account, transaction or slot, not ${(update as { kind: unknown }).kind}`);
    }
  }

  /** @internal */
  protected assertOpen(): void {
    if (this.isClosed) throw new QlasterError("SENDER_CLOSED", `Cannot publish at "${this.path}"`);
  }

  /** Frees everything that is its own. May be called twice. */
  abstract close(): Promise<void>;

  /** The same as `close()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
