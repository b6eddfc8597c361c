/**
 * What all sources share: what they are told to bring, what they say about themselves, and their epochs.
 * May touch: nothing; types, and one counter of the process. May not touch: sockets, the native library.
 *
 * @module
 */

import type { QlasterError } from "../errors.ts";
import type { Address, Update } from "../types.ts";

/** What the consumers of a sender want, all together: the shape of `sender.demand.current`. */
export interface SourceFilter {
  /** Accounts by address. */
  readonly accounts?: ReadonlySet<Address>;
  /** Accounts by the program that owns them. */
  readonly owners?: ReadonlySet<Address>;
  /** Every account there is. Default false. */
  readonly allAccounts?: boolean;
  /** Transactions: all, or those that name one of these accounts. Default none. */
  readonly transactions?: { readonly all?: boolean; readonly accounts?: ReadonlySet<Address> };
}

/** What changes while a source runs: `sender.demand` is one. */
export interface SourceDemand extends AsyncIterable<{ readonly current: SourceFilter }> {
  /** What is wanted now. */
  readonly current: SourceFilter;
}

/** What a source tells its owner; none of it has to be acted on. */
export type SourceEvent =
  /** Data come again. `epoch` is the source epoch of its account updates. */
  | { readonly type: "connected"; readonly epoch: number; readonly resumedFrom: bigint | undefined }
  /** The connection ended, or was given up; the next try is in `retryMs` milliseconds. */
  | { readonly type: "lost"; readonly error: QlasterError; readonly retryMs: number }
  /**
   * The server does not take one thing that is asked for, and brings the others; the next try is in `retryMs` milliseconds.
   * Only by `rpc` and `relay`: elsewhere all is one request.
   */
  | { readonly type: "refused"; readonly error: QlasterError; readonly retryMs: number }
  /**
   * What happened after `afterSlot` until data came again, in `untilSlot`, is missing: the source could not be asked for
   * it. What comes next is marked `lossy`.
   */
  | { readonly type: "gap"; readonly afterSlot: bigint; readonly untilSlot: bigint; readonly reason: string };

/** Updates for `sender.feed`, in lists of what came at once. It can be iterated once. */
export interface Source extends AsyncIterable<readonly Update[]>, AsyncDisposable {
  /** Ends it: the iteration ends after what has been received. May be called twice. */
  close(): void;
}

let newestEpoch = 0;

/**
 * The source epoch of a new connection: greater than all before it, so that versions of accounts that came over it are newer
 * (`AccountUpdate.sourceEpoch`). Write versions are counters of one validator's process, and tell nothing across
 * connections. It is the clock's seconds since 1970, which fit 32 bits until 2106, or one more than the last: a process
 * that takes over what another one knows has to begin behind that one's epochs, too.
 */
export function nextSourceEpoch(): number {
  return newestEpoch = Math.max(newestEpoch + 1, Math.floor(Date.now() / 1000));
}

/** Whether a demand is one that changes. */
export function isDemand(value: SourceFilter | SourceDemand): value is SourceDemand {
  return Symbol.asyncIterator in value;
}
