/**
 * Senders that hand a path over, in processes of their own, and a consumer in another one that notes what it gets.
 * May touch: processes through agents.
 */

import type { SenderOptions } from "../../mod.ts";
import { Agent } from "./agent_process.ts";
import { eventually } from "./footprint.ts";
import type { Held } from "./guarded.ts";
import type { Runtime } from "./runtime.ts";

/**
 * Reads by itself, and notes the numbers of updates, what is said of connections, and whose updates it gets as they are
 * published: what a new sender kept for it comes first.
 */
export async function startReading(agent: Agent, path: string, protocol: "native" | "v9" = "native"): Promise<void> {
  await agent.run(async (scope, { path, protocol }) => {
    const consumer = scope.consumer = await scope.qlaster.setupConsumer(path, {
      protocol,
      reconnect: { minMs: 1, maxMs: 20 },
      waitForSenderMs: Infinity,
      marks: true,
    });
    await consumer.subscribe({ accounts: [new Uint8Array(32).fill(1)] });
    scope.kept.numbers = [];
    scope.kept.seams = [];
    scope.kept.liveFrom = 0;
    scope.kept.reading = (async () => {
      let isLive = true;
      for await (const update of consumer) {
        if (update.kind === "account") {
          scope.kept.numbers.push(update.slotNumber);
          if (isLive) scope.kept.liveFrom = Number(update.lamports);
        }
        if (update.kind === "resumed") isLive = true; // it has caught up
        if (update.kind !== "connection") continue;
        const { event } = update;
        scope.kept.seams.push(event.type === "lost" ? event.reason : event.continuity);
        isLive = event.type !== "lost" && event.continuity !== "complete"; // nothing was kept for it
        scope.emit({ seam: event.type, continuity: event.type === "lost" ? undefined : event.continuity });
      }
    })();
  }, { path, protocol });
}

/**
 * A sender with state.
 * @param more.killed Who gets kill -9 as soon as the old one, which this is, has given the path up: the new one, or itself.
 */
export async function startSending(
  agent: Agent,
  path: string,
  takeover: boolean,
  more: Omit<Partial<SenderOptions>, "path"> & { readonly killed?: "new" | "old" } = {},
): Promise<void> {
  const { killed, ...options } = more;
  await agent.run(async (scope, { path, takeover, killed, options }) => {
    const { libc, process } = scope;
    const SIGKILL = 9;
    scope.sender = await scope.qlaster.setupSender({
      path,
      takeover,
      ringCapacityBytes: 4 << 20,
      state: { maxBytes: 4 << 20, keep: "all" },
      onHandover: ({ pid }: { readonly pid: number }) => {
        if (killed !== undefined) libc.libc().kill(killed === "new" ? pid : process.pid, SIGKILL);
        scope.emit({ handedOver: true });
      },
      ...options,
    });
  }, { path, takeover, killed, options });
}

/** How far a feeder goes on while somebody is away: what a new sender keeps for him holds several times as much. */
const LEAD_MAX = 10_000;

/**
 * Publishes numbered updates in a loop from `first` on, each with the number of its process. No faster than they are read,
 * and not much further than who is away can catch up with: a consumer may stand still for as long as its machine likes.
 * @param consumers How many read.
 * @returns At once; the feeder says where it has stopped once its sender was taken over.
 */
export async function startFeeding(agent: Agent, first: number, consumers = 1): Promise<void> {
  await agent.run((scope, { first, consumers, leadMax }) => {
    const { sender, pace, process } = scope;
    const [pubkey, owner, lamports] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2), BigInt(process.pid)];
    let next = first;
    let allThere = first;
    const timer = setInterval(() => {
      try {
        if (sender.consumers().length >= consumers) allThere = next;
        const isPaused = next - allThere >= leadMax || !pace.hasRoom(sender, 50 * 1000);
        if (isPaused) return void sender.publishBatch([]); // throws if it was taken over
        for (let i = 0; i < 50; i++) {
          sender.publishAccount({ pubkey, owner, lamports, data: new Uint8Array(50), slot: BigInt(next) });
          next++;
        }
        scope.emit({ published: next });
      } catch (error) {
        clearInterval(timer);
        scope.emit({ stoppedAt: next, message: (error as Error).message });
      }
    }, 1);
  }, { first, consumers, leadMax: LEAD_MAX });
}

export const published = (agent: Agent, atLeast: number) =>
  agent.event<{ published: number }>(({ published }) => published >= atLeast);
/**
 * Waits until the consumer gets what that sender's feeder publishes as it is published. Who is away, or still catches up,
 * when the next one takes over, has a gap, and misses the end if the sender closes.
 */
export function readsFrom(consuming: Agent, sending: Agent): Promise<void> {
  return eventually(
    () => `it reads what ${sending.pid} publishes`,
    async () => await consuming.run(({ kept }) => kept.liveFrom as number) === sending.pid,
  );
}
export const stopped = (agent: Agent) =>
  agent.event<{ stoppedAt: number; message: string }>(({ stoppedAt }) => stoppedAt >= 0);

export async function finish(
  consuming: Agent,
  last: number,
): Promise<{ numbers: number[]; seams: string[]; lost: number }> {
  await eventually("the last update", async () => await consuming.run((scope) => scope.kept.numbers.at(-1)) === last);
  return await consuming.run(async ({ kept, consumer }) => {
    const { lost } = consumer.metrics;
    await consumer.close();
    await kept.reading;
    return { numbers: kept.numbers, seams: kept.seams, lost };
  });
}

export function agentAt(held: Held, runtime: Runtime): Agent {
  return held.use(new Agent(runtime));
}
