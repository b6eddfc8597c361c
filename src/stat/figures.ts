/**
 * What a sender shows of itself and of its consumers.
 * May touch: nothing; shapes only.
 *
 * @module
 */

import type { ConsumerInfo, EndReason, OverflowPolicy, SenderCounts } from "../types.ts";
import type { Histogram } from "./histogram.ts";

/** What a sender shows of one consumer, its label without control characters. Counts since it connected. */
export interface ConsumerStat extends Omit<ConsumerInfo, "lag"> {
  /** What happens to transactions when its ring is full. */
  readonly transactionPolicy: OverflowPolicy;
  /** Bytes of the frames that went into its ring. */
  readonly bytes: number;
  /** Its filters, the one of `subscribe` included. */
  readonly filters: number;
  /** Bytes that were sent to wake it. */
  readonly wakes: number;
  /** Times that it went to sleep until the next frame. By its own word. */
  readonly parks: number;
  /** Times that it looked for the next frame without pause, for at most a millisecond. By its own word. */
  readonly spins: number;
  /** Frames that it has taken, by its own word. */
  readonly read: number;
  /** How old the newest update is that it has not taken, in milliseconds: 0 if it has taken all. By its own word. */
  readonly lagMs: number;
  /** From publish to read, one record for each look at the ring that found something: the oldest update. By its own word. */
  readonly latency: Histogram;
}

/** Connections that have ended, by how. */
export interface EndCounts {
  /** The consumer closed it. */
  readonly consumerClosed: number;
  /** Its process has ended without a word. */
  readonly consumerGone: number;
  /** Its ring was full, or its part of the pool (the original's `shm_ring_full`). */
  readonly slowConsumer: number;
  /** It wrote or said what makes no sense. */
  readonly peerCorrupt: number;
  /** Wire version 9: it had said nothing for too long. */
  readonly idle: number;
}

/** A consumer that the sender has ended. */
export interface DroppedStat {
  /** Counts the sender's connections: the first is 1. */
  readonly id: number;
  /** The label that it gave itself, "" if none. Control characters are replaced. */
  readonly name: string;
  /** As the kernel reported it to the sender. */
  readonly pid: number;
  /** Why. */
  readonly reason: EndReason;
  /** When: milliseconds since the Unix epoch. */
  readonly at: number;
}

/** What a sender shows of itself. Counts since it was set up. */
export interface SenderStat extends SenderCounts {
  /** The socket's path. */
  readonly path: string;
  /** Its process, in our view of processes. */
  readonly pid: number;
  /** Milliseconds since the Unix epoch. */
  readonly startedAt: number;
  /** When this was read, likewise. */
  readonly readAt: number;
  /** Its process is gone: what is here are its last words. */
  readonly isGone: boolean;
  /** Its event loop has not run for more than three times as long as it means to. */
  readonly isStuck: boolean;
  /** Since its event loop ran last, in milliseconds. */
  readonly sinceBeatMs: number;
  /** Since it published last, in milliseconds; undefined if it never has. */
  readonly sincePublishMs: number | undefined;
  /** How late its event loop was, once a second. */
  readonly stalls: Histogram;
  /** The latest that it was, in milliseconds. */
  readonly stallMaxMs: number;
  /** Time by which it was late, in milliseconds. */
  readonly stallTotalMs: number;
  /** Sequence of the newest update. */
  readonly sequence: number;
  /** The newest slot; 0 before the first. */
  readonly newestSlot: number;
  /** Different account keys of all filters. */
  readonly accountKeys: number;
  /** Different owner keys of all filters. */
  readonly ownerKeys: number;
  /** Accounts that are remembered. */
  readonly trackedAccounts: number;
  /** Memory of the index of filters. */
  readonly indexBytes: number;
  /** Connections that have ended, by how. */
  readonly ended: EndCounts;
  /** The last one of them that the sender ended; undefined if it has ended none. */
  readonly dropped: DroppedStat | undefined;
  /** The present consumers, oldest first. */
  readonly consumers: readonly ConsumerStat[];
}
