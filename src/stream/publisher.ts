/**
 * Publishing, the same on the sender's thread (sender.ts) and in a Worker (worker_publisher.ts).
 * May touch: its thread's outlet. May not touch: consumers, connections.
 *
 * @module
 */

import { QlasterError } from "../errors.ts";
import type { AccountUpdate, SlotUpdate, TransactionUpdate, Update } from "../types.ts";
import { feed } from "./feed.ts";
import type { Outlet } from "./outlet.ts";

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
  /** It is closed, since another sender has taken over. @internal */
  protected isHandedOver: boolean = false;
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
   * many updates went out before; await `drained()` and go on with the next. Up to 64 more may have been taken from the
   * iterable.
   */
  publishBatch(updates: Iterable<Update>): number {
    this.assertOpen();
    const { outlet } = this;
    const before = outlet.tally; // of a feed, or of a batch whose iterable publishes, too
    if (!outlet.publishStaged()) throw this.#congested(0);
    const tally = outlet.tally = { published: 0, reached: 0 };
    const congested = () => {
      outlet.dropStaged();
      return this.#congested(tally.published);
    };
    let fault: { readonly error: unknown } | undefined;
    try {
      try {
        let staged = 0;
        for (const update of updates) {
          if (!this.#stage(update)) throw congested();
          if (++staged % BATCH_MAX === 0 && !outlet.commit()) throw congested();
        }
      } catch (error) {
        fault = { error };
      }
      // Whatever was thrown, what came before goes out; if there is no room for that, that was the first to fail.
      if (!outlet.commit()) throw congested();
      if (fault !== undefined) throw fault.error;
    } finally {
      outlet.tally = before;
    }
    return tally.reached;
  }

  #congested(published: number): QlasterError {
    const text = `Cannot publish at "${this.path}": a consumer with the policy "block" has no room`;
    return new QlasterError("SENDER_CONGESTED", text, { published });
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

  /** Takes one update, unseen until the outlet's `commit`. False if there is no room. */
  #stage(update: Update): boolean {
    this.assertOpen();
    return this.outlet.stage(update);
  }

  /** @internal */
  protected assertOpen(): void {
    if (!this.isClosed) return;
    const why = this.isHandedOver ? ", which was handed over to another sender" : "";
    throw new QlasterError("SENDER_CLOSED", `Cannot publish at "${this.path}"${why}`);
  }

  /** Frees everything that is its own. May be called twice. */
  abstract close(): Promise<void>;

  /** The same as `close()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
