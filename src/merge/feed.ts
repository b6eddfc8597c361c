/**
 * One of the feeds that are merged: its consumer, and what it has brought.
 * May touch: its consumer. May not touch: other feeds.
 *
 * @module
 */

import type { ConnectionEvent } from "../stream/connection_view.ts";
import type { Consumer } from "../stream/consumer.ts";
import { Latency, type LatencySnapshot } from "../stream/timings.ts";
import type { SubscriptionAck } from "../types.ts";
import type { Verdict } from "./first_wins.ts";

/** What one feed has brought. Counts since the start. */
export interface FeedInfo {
  /** The socket's path. */
  readonly path: string;
  /** Whether there is a connection. */
  readonly isConnected: boolean;
  /** Updates that no other feed had brought before. */
  readonly first: number;
  /** Updates that another one had. */
  readonly duplicates: number;
  /** Updates that were older than what was known of their account. */
  readonly older: number;
  /** Updates that matched and did not come by this feed. */
  readonly lost: number;
  /** By how much its duplicates were published after the first ones: by the senders' clock, 0 if before. */
  readonly behind: LatencySnapshot;
  /** Slots between its newest slot update and the newest of all feeds; undefined while it has none. */
  readonly slotsBehind: number | undefined;
}

/** See the head of this file. */
export class Feed {
  readonly index: number;
  readonly path: string;
  /** Undefined while it is set up. */
  consumer: Consumer | undefined;
  lost = 0;

  #first = 0;
  #duplicates = 0;
  #older = 0;
  readonly #behind = new Latency();
  /** Who asks the sender, and does not wait for another connection. */
  readonly #askers = new Set<() => void>();

  constructor(index: number, path: string) {
    this.index = index;
    this.path = path;
  }

  /** Its consumer, once that is set up. */
  get reader(): Consumer {
    return this.consumer!;
  }

  count(verdict: Verdict, behindUs: number): void {
    if (verdict === "first") this.#first++;
    else if (verdict === "older") this.#older++;
    else {
      this.#duplicates++;
      this.#behind.record(behindUs);
    }
  }

  info(slotsBehind: number | undefined): FeedInfo {
    return {
      path: this.path,
      isConnected: this.reader.isConnected,
      first: this.#first,
      duplicates: this.#duplicates,
      older: this.#older,
      lost: this.lost,
      behind: this.#behind.peek(),
      slotsBehind,
    };
  }

  onConnection(event: ConnectionEvent): void {
    if (event.type === "lost") this.onEnd();
  }

  /** It will answer nobody, or not before it has another connection. */
  onEnd(): void {
    for (const giveUp of [...this.#askers]) giveUp();
  }

  /**
   * Asks its sender.
   * @returns Its answer; undefined if there is no connection, or none any longer: its consumer asks again on the next one.
   */
  whileConnected(ask: (consumer: Consumer) => Promise<SubscriptionAck>): Promise<SubscriptionAck | undefined> {
    if (this.reader.ended !== undefined) return Promise.resolve(undefined);
    const isConnected = this.reader.isConnected;
    return new Promise((resolve, reject) => {
      const giveUp = (): void => {
        this.#askers.delete(giveUp);
        resolve(undefined);
      };
      this.#askers.add(giveUp);
      ask(this.reader).then(
        (ack) => (this.#askers.delete(giveUp), resolve(ack)),
        (error) => (this.#askers.delete(giveUp), reject(error)),
      );
      if (!isConnected) giveUp();
    });
  }
}
