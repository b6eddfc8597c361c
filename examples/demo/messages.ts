/**
 * What the processes of the demo say to each other: a task as the only argument, then JSON lines on stdout.
 * May touch: its own stdout, a timer.
 * May not touch: updates. They go through shared memory, never through here.
 * Why JSON lines: the `ipc` channels of Deno and Bun do not understand each other; a pipe is a pipe.
 *
 * @module
 */

import { writeSync } from "node:fs";
import process from "node:process";
import type { RecentTransfer, TokenBalance } from "./token_decoder.ts";
import type { UpdateCounts } from "./update_counter.ts";

/** A source of the library that the demo can run through; undefined for none. */
export type SourceName = "yellowstone" | "rpc" | "litesvm" | "relay";

/** What a server of upstream.ts has to do. */
export interface UpstreamTask {
  readonly source: "yellowstone" | "rpc";
  /** Where to log what is sent, before it is. */
  readonly log: string;
  readonly seconds: number;
  readonly transactionsMin: number;
  /** How many token accounts somebody asks for by key. */
  readonly accounts: number;
}

/** What the sender has to do. */
export interface SenderTask {
  /** By which source to get updates, and from where. */
  readonly source?: SourceName | undefined;
  readonly upstream?: {
    readonly url: string;
    readonly tokenAccounts: readonly string[];
    readonly tokenProgram: string;
  };
  /** Whether its only consumer is a relay, which asks for everything, one thing after the other. */
  readonly isRelayed?: boolean;
  readonly path: string;
  readonly log: string;
  readonly seconds: number;
  readonly transactionsMin: number;
  /** How many consumers to wait for before the first update, so that each of them misses nothing. */
  readonly consumers: number;
}

/** What a consumer has to do. */
export interface ConsumerTask {
  readonly name: string;
  readonly path: string;
  readonly log: string;
  /** A file with a {@linkcode ConsumerFilter}, which the checker reads as well. */
  readonly filter: string;
}

/** A subscription in JSON: keys in base64. */
export interface ConsumerFilter {
  readonly accounts: readonly string[];
  readonly owners: readonly string[];
  readonly transactions: boolean;
}

/** The sender is listening; these are the keys, in base64, that a filter can name. */
export interface SenderReady {
  readonly type: "ready";
  readonly tokenAccounts: readonly string[];
  readonly tokenProgram: string;
}

/** A server is listening there. */
export interface UpstreamReady extends Omit<SenderReady, "type"> {
  readonly type: "upstream";
  readonly url: string;
}

/** What the sender did so far. */
export interface SenderReport extends UpdateCounts {
  readonly type: "sender";
  readonly slot: string;
  readonly elapsedSeconds: number;
}

/** What a consumer got so far. */
export interface ConsumerReport extends UpdateCounts {
  readonly type: "consumer";
  /** From publish to read, over the whole run. */
  readonly lagUs: { readonly p50: number; readonly p99: number };
  readonly lost: number;
  readonly ring: { readonly capacityBytes: number; readonly usedBytes: number };
  readonly transfers: readonly RecentTransfer[];
  readonly balances: readonly TokenBalance[];
}

/** Anything that a child says. */
export type Message = SenderReady | UpstreamReady | SenderReport | ConsumerReport;

const STDOUT = 1;
const REPORT_INTERVAL_MS = 200;

/** The task that this process was started with. */
export function taskFromArguments<Task>(): Task {
  const json = process.argv[2];
  if (json === undefined) throw new Error("Cannot start: no task given; this program is started by main.ts");
  return JSON.parse(json);
}

/** Says something to the process that started this one. Throws if that is gone. */
export function say(message: Message): void {
  writeSync(STDOUT, JSON.stringify(message) + "\n"); // console.log would ignore a closed pipe
}

/** Says what `report` returns five times a second, and once more when disposed of. */
export function startReporting(report: () => Message): Disposable {
  const timer = setInterval(() => {
    try {
      say(report());
    } catch (error) {
      // Nothing is streamed for nobody. Throwing would not do: while a module's top level is waiting, Bun prints what
      // a timer throws, and goes on.
      console.error(error);
      process.exit(1);
    }
  }, REPORT_INTERVAL_MS);
  return {
    [Symbol.dispose](): void {
      clearInterval(timer);
      say(report());
    },
  };
}
