/** What the workers of peers.ts are told: the same work for each way of passing messages. */

/** `pipe` is stdout to stdin; `postMessage` goes to a thread of the same process. */
export type Way = "socket" | "pipe" | "zeromq" | "postMessage";

export interface PeerTask {
  readonly way: Way;
  readonly path: string;
  readonly bytes: number;
  /** As fast as it goes: messages of each run. */
  readonly runs: number;
  readonly messages: number;
  /** Then one at a time: microseconds between two, and how many. 0 samples: none. */
  readonly gapUs: number;
  readonly samples: number;
}

/** Runs before those that count. */
export const WARM_UP_RUNS = 2;
/** Single messages before those that count. */
export const WARM_UP = 100;

/** Messages of the first part. */
export function streamed({ runs, messages }: PeerTask): number {
  return (WARM_UP_RUNS + runs) * messages;
}
