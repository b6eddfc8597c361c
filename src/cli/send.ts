/**
 * `qlaster send` and `qlaster replay`: a sender that is fed by a source, with a status line and, if asked for, a port for
 * probes.
 * May touch: a sender, a source, stderr. Sources are loaded when they are asked for.
 *
 * @module
 */

import type { ReplayedUpdate } from "../recording/mod.ts";
import { setupSender } from "../stream/sender.ts";
import type { Sender } from "../stream/sender.ts";
import type { OverflowPolicy, Update } from "../types.ts";
import { Failure } from "./failure.ts";
import { StatusLine } from "./record.ts";
import { bytes, plain, short } from "./text.ts";

/** What a source can be. */
export const SOURCES = ["yellowstone", "rpc", "litesvm", "relay", "replay"] as const;
/** One of them. */
export type SourceName = typeof SOURCES[number];

/** What `send` is asked for. */
export interface SendFlags {
  readonly path?: string;
  readonly from?: SourceName;
  /** Yellowstone's or the node's address, the other sender's path, the recording's directory. */
  readonly source?: string;
  /** Of `rpc`: where requests go, if not where its `source` lets guess. */
  readonly requests?: string;
  readonly token?: string;
  readonly commitment?: "processed" | "confirmed" | "finalized";
  readonly speed?: number | "max";
  readonly fromSlot?: bigint;
  readonly toSlot?: bigint;
  readonly loop?: boolean;
  /** Of `litesvm`: transfers a second, and after how many slots it ends. */
  readonly rate?: number;
  readonly slots?: number;
  readonly waitFor?: number;
  readonly stay?: boolean;
  readonly httpPort?: number;
  readonly httpHost?: string;
  readonly ringSize?: number;
  readonly consumers?: number;
  readonly memory?: number;
  readonly uid?: number[];
  readonly policy?: OverflowPolicy[];
  readonly state?: number;
}

/** What feeds the sender, and how far that is, where it has an end. */
interface Fed {
  readonly updates: AsyncIterable<readonly Update[]>;
  readonly progress?: () => string;
}

async function sourceOf(
  name: SourceName,
  sender: Sender,
  flags: SendFlags,
  signal: AbortSignal,
  say: (text: string) => void,
): Promise<Fed> {
  if (name === "litesvm") {
    const { rate, slots } = flags;
    const { tokenTransfers } = await import("./token_transfers.ts");
    return {
      updates: await tokenTransfers({
        demand: sender.demand,
        signal,
        ...(rate !== undefined && { rate }),
        ...(slots !== undefined && { slots }),
      }),
    };
  }
  const address = flags.source;
  if (address === undefined) throw new Failure(`send --from ${name} needs --source: where its updates come from`);
  let said = "";
  const onEvent = (event: { type: string; error?: Error; reason?: string }) => {
    const why = event.error?.message ?? event.reason;
    const text = `source ${event.type}${why === undefined ? "" : `: ${why}`}`;
    // A source tries for ever: the same thing is said once.
    if (text !== said) say(text);
    said = text;
  };
  const { commitment } = flags;
  switch (name) {
    case "yellowstone": {
      const { yellowstone } = await import("../sources/yellowstone.ts");
      const updates = yellowstone({
        endpoint: address,
        demand: sender.demand,
        onEvent,
        signal,
        ...(flags.token !== undefined && { xToken: flags.token }),
        ...(commitment !== undefined && { commitment }),
      });
      return { updates };
    }
    case "rpc": {
      const { rpc } = await import("../sources/rpc.ts");
      const updates = rpc({
        url: address,
        ...(flags.requests !== undefined && { httpUrl: flags.requests }),
        demand: sender.demand,
        onEvent,
        signal,
        ...(commitment !== undefined && { commitment }),
      });
      return { updates };
    }
    case "relay": {
      const { relay } = await import("../sources/relay.ts");
      return { updates: relay(address, { demand: sender.demand, onEvent, signal }) };
    }
    case "replay":
      return await replays(address, flags, signal);
  }
}

/** The same so many epochs later: what a round brings is newer than all of the round before. */
function inEpoch(update: ReplayedUpdate, later: number): ReplayedUpdate {
  if (later === 0 || update.kind !== "account") return update;
  return { ...update, sourceEpoch: update.sourceEpoch + later };
}

async function replays(directory: string, flags: SendFlags, signal: AbortSignal): Promise<Fed> {
  const { replay } = await import("../recording/mod.ts");
  const { speed = 1, fromSlot, toSlot } = flags;
  const once = () =>
    replay(directory, {
      speed,
      signal,
      ...(fromSlot !== undefined && { fromSlot }),
      ...(toSlot !== undefined && { toSlot }),
    });
  let [present, round] = [once(), 1];
  const progress = () => {
    const { segment, segments } = present.progress;
    return `segment ${segment}/${segments}${round > 1 ? `  round ${round}` : ""}`;
  };
  const updates = (async function* () {
    for (let later = 0;;) {
      let isEmpty = true;
      let [first, last] = [Infinity, 0];
      for await (const batch of present) {
        isEmpty = false;
        for (const update of batch) {
          if (update.kind !== "account") continue;
          first = Math.min(first, update.sourceEpoch);
          last = Math.max(last, update.sourceEpoch);
        }
        yield batch.map((update) => inEpoch(update, later));
      }
      later += Math.max(0, last - first) + 1;
      if (flags.loop !== true || isEmpty || signal.aborted) return;
      present = once();
      round++;
    }
  })();
  return { updates, progress };
}

function describe(sender: Sender, seconds: number, progress: () => string = () => ""): string {
  const { accounts, transactions, slots, consumers, newestSlot, lost, pool } = sender.metrics;
  const updates = accounts + transactions + slots;
  return `${short(updates)} updates  ${short(updates / seconds)}/s  slot ${newestSlot}  ${consumers} consumers  ` +
    `${short(lost)} lost  pool ${bytes(pool.usedBytes)}  ${progress()}`.trimEnd();
}

/** So long after it has come, a consumer that asks for nothing is one that wants slots alone. */
const ASKS_WITHIN_MS = 1000;

/** Waits for consumers, so that a replay is not over before somebody listens, and for what the last of them asks for. */
async function consumersOf(sender: Sender, count: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const isThere = () => sender.metrics.consumers >= count;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const onTime = () => {
    timer = undefined;
    if (isThere()) resolve();
  };
  const onConsumer = () => {
    if (isThere()) timer ??= setTimeout(onTime, ASKS_WITHIN_MS);
  };
  const stopConsumers = sender.onConsumer(onConsumer);
  const stopSubscriptions = sender.onSubscription(() => {
    if (isThere()) resolve();
  });
  signal.addEventListener("abort", () => resolve(), { once: true });
  if (signal.aborted || count === 0) resolve();
  onConsumer();
  await promise;
  clearTimeout(timer);
  stopConsumers();
  stopSubscriptions();
}

/** Runs a sender until its source ends or the signal comes. @param command How it was asked for. */
export async function send(flags: SendFlags, signal: AbortSignal, command: "send" | "replay" = "send"): Promise<void> {
  const { path, from } = flags;
  if (path === undefined) {
    throw new Failure(`${command} needs --path: where consumers connect, such as /run/qlaster/feed.sock`);
  }
  if (from === undefined) {
    throw new Failure(`send needs --from: one of ${SOURCES.join(", ")}`);
  }
  await using sender = await setupSender({
    path,
    ...(flags.ringSize !== undefined && { ringCapacityBytes: flags.ringSize }),
    ...(flags.consumers !== undefined && { consumersMax: flags.consumers }),
    ...(flags.memory !== undefined && { memoryMaxBytes: flags.memory }),
    ...(flags.uid !== undefined && { uids: flags.uid }),
    ...(flags.policy !== undefined && { policies: flags.policy }),
    ...(flags.state !== undefined && { state: { maxBytes: flags.state, keep: "subscribed" } }),
  });
  const line = new StatusLine();
  const say = (text: string) => line.say(plain(text));
  const served = flags.httpPort === undefined
    ? undefined
    : await (await import("../observe/http.ts")).serveMetrics(path, {
      port: flags.httpPort,
      host: flags.httpHost ?? "127.0.0.1",
    });
  if (served !== undefined) say(`health and metrics at http://${flags.httpHost ?? "127.0.0.1"}:${served.port}`);
  let progress: (() => string) | undefined;
  const timer = setInterval(() => line.show(() => describe(sender, line.seconds, progress)), 500);
  try {
    const source = await sourceOf(from, sender, flags, signal, say);
    progress = source.progress;
    say(`sending from ${from} at ${path}`);
    if (flags.waitFor !== undefined) await consumersOf(sender, flags.waitFor, signal);
    await sender.feed(source.updates, { signal });
    if (flags.stay === true && !signal.aborted) {
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    }
  } finally {
    clearInterval(timer);
    line.end(`sent ${describe(sender, line.seconds, progress)}`);
    await served?.[Symbol.asyncDispose]();
  }
}
