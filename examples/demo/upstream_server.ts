/**
 * What the servers of upstream.ts have in common.
 * May touch: nothing; types only.
 *
 * @module
 */

import type { FeedUpdate } from "./litesvm_feed.ts";

/** What a subscriber has to ask for before anything happens, so that it misses nothing. Addresses. */
export interface Wanted {
  readonly program: string;
  readonly accounts: readonly string[];
}

/** A server with one subscriber. */
export interface Upstream {
  readonly url: string;
  /** Somebody has asked for all that is wanted. */
  readonly subscribed: Promise<void>;
  /** It has gone. */
  readonly left: Promise<void>;
  /** What can be read before anything has changed. */
  setState(updates: readonly FeedUpdate[]): void;
  /** Sends those that it has asked for. */
  tell(updates: readonly FeedUpdate[]): Promise<void> | void;
}
