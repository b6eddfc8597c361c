/**
 * Runs of cache schedules: a sender, a consumer with some policy, and schedules one after the other.
 * May touch: the public API; processes through the agent that it is given.
 *
 * @module
 */

import { type OverflowPolicy, type Sender, setupConsumer, setupSender, type Update } from "../../../mod.ts";
import { Agent } from "../../support/agent_process.ts";
import { type Runtime, RUNTIMES } from "../../support/runtime.ts";
import { Temporary } from "../../support/temporary.ts";
import { until } from "../../unit/support/watchdog.ts";
import { keyOf, patternBytes } from "../../unit/support/updates.ts";
import { type Act, CacheSchedules, randomOf, type SenderPort, type Tally } from "./cache_schedule.ts";

const POLICIES: readonly OverflowPolicy[] = ["disconnect", "drop-newest", "drop-oldest", "conflate"];
const STEPS = 15;

/** What a run is like, by its seed. */
interface Settings {
  readonly policy: OverflowPolicy;
  /** The sender has a history: who was lost goes on where it was. */
  readonly hasHistory: boolean;
  /** Its store is too small now and then. */
  readonly isSmall: boolean;
}

function settingsOf(seed: number): Settings {
  const random = randomOf(seed);
  return {
    policy: POLICIES[random(POLICIES.length)]!,
    hasHistory: random(2) === 0,
    isSmall: random(3) === 0,
  };
}

/** The least that a sender takes. */
const STATE_BYTES = 4 * 1024 * 1024;
/** Less than what makes the store forget: then the history does not reach back, either. */
const HISTORY_BYTES = 1024 * 1024;
const FILL_BYTES = 16_000;

function* updatesOf(act: Act): Generator<Update> {
  if (act.act !== "fill") return yield updateOf(act);
  for (let i = 0; i < act.count; i++) {
    const pubkey = new Uint8Array(32);
    new DataView(pubkey.buffer).setUint32(0, act.key + i);
    yield { kind: "account", pubkey, owner: keyOf(150), lamports: 1n, data: new Uint8Array(FILL_BYTES), slot: 1n };
  }
}

function updateOf(act: Exclude<Act, { act: "fill" }>): Update {
  if (act.act === "slot") {
    const { slot, parent, status } = act;
    return { kind: "slot", slot: BigInt(slot), parent: BigInt(parent), status };
  }
  const { key, owner, slot, version, size } = act;
  return {
    kind: "account",
    pubkey: keyOf(key),
    owner: keyOf(owner),
    lamports: BigInt(version),
    data: patternBytes(size, version),
    slot: BigInt(slot),
    writeVersion: BigInt(version),
  };
}

/** A sender in this process. */
class OwnSender implements SenderPort, AsyncDisposable {
  readonly restarts = 1;
  readonly handOvers = 2;
  readonly #path: string;
  readonly #settings: Settings;
  #sender: Sender | undefined;
  #handedOver = 0;

  constructor(path: string, settings: Settings) {
    this.#path = path;
    this.#settings = settings;
  }

  get isSmall(): boolean {
    return this.#settings.isSmall;
  }

  async restart(): Promise<void> {
    await this.#sender?.close();
    await this.#open(false);
  }

  async handOver(): Promise<void> {
    const before = this.#handedOver;
    await this.#open(true);
    await until(() => this.#handedOver > before, "word of it");
  }

  async #open(takeover: boolean): Promise<void> {
    this.#sender = await setupSender({
      path: this.#path,
      takeover,
      onHandover: () => this.#handedOver++,
      ringCapacityBytes: 65536,
      poolBytes: 0,
      state: { maxBytes: STATE_BYTES, keep: "all" },
      ...(this.#settings.hasHistory ? { history: { bytes: HISTORY_BYTES } } : {}),
    });
  }

  publish(acts: readonly Act[]): Promise<void> {
    this.#sender!.publishBatch(acts.flatMap((act) => [...updatesOf(act)]));
    return Promise.resolve();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#sender?.close();
  }
}

/** A sender in a process of its own, which is killed now and then. */
export class AgentSender implements SenderPort, AsyncDisposable {
  readonly restarts = 3;
  readonly handOvers = 3;
  readonly #path: string;
  readonly #runtimes: readonly Runtime[];
  readonly #isKilled: () => boolean;
  readonly #settings: Settings;
  #count = 0;
  #agent: Agent | undefined;
  kills = 0;
  /** Those that were closed. */
  closes = 0;

  /** @param runtimes One after the other. @param isKilled Whether this one is killed, and not closed. */
  constructor(path: string, runtimes: readonly Runtime[], settings: Settings, isKilled: () => boolean) {
    this.#path = path;
    this.#runtimes = runtimes;
    this.#settings = settings;
    this.#isKilled = isKilled;
  }

  get isSmall(): boolean {
    return this.#settings.isSmall;
  }

  async restart(): Promise<void> {
    await this.#end();
    await this.#open(false);
  }

  /** By a process of the other runtime. */
  async handOver(): Promise<void> {
    const before = this.#agent!;
    await this.#open(true);
    await before.event<{ handedOver: true }>(({ handedOver }) => handedOver);
    await before[Symbol.asyncDispose]();
  }

  async #open(takeover: boolean): Promise<void> {
    const agent = this.#agent = new Agent(this.#runtimes[this.#count++ % this.#runtimes.length]!);
    const { hasHistory } = this.#settings;
    const options = [this.#path, takeover, STATE_BYTES, hasHistory ? HISTORY_BYTES : 0] as const;
    await agent.run(async (scope, [path, takeover, maxBytes, history]) => {
      scope.sender = await scope.qlaster.setupSender({
        path,
        takeover,
        onHandover: () => scope.emit({ handedOver: true }),
        ringCapacityBytes: 65536,
        poolBytes: 0,
        state: { maxBytes, keep: "all" },
        ...(history > 0 ? { history: { bytes: history } } : {}),
      });
    }, options);
  }

  async #end(): Promise<void> {
    const agent = this.#agent;
    if (agent === undefined) return;
    // One of two is killed in any case: at least half of them.
    if ((this.kills + this.closes) % 2 === 0 || this.#isKilled()) {
      this.kills++;
    } else {
      this.closes++;
      await agent.run(({ sender }) => sender.close());
    }
    await agent[Symbol.asyncDispose]();
  }

  publish(acts: readonly Act[]): Promise<void> {
    return this.#agent!.run(({ sender }, acts) => {
      // The same as updatesOf and keyOf, which do not come along.
      const pattern = (length: number, seed: number) =>
        Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8) * 7 + seed * 17 + 1) & 255);
      sender.publishBatch(acts.flatMap((act): Update[] => {
        if (act.act === "fill") {
          return Array.from({ length: act.count }, (_, i) => {
            const pubkey = new Uint8Array(32);
            new DataView(pubkey.buffer).setUint32(0, act.key + i);
            const data = new Uint8Array(16_000);
            return { kind: "account", pubkey, owner: pattern(32, 150), lamports: 1n, data, slot: 1n };
          });
        }
        const slot = BigInt(act.slot);
        if (act.act === "slot") return [{ kind: "slot", slot, parent: BigInt(act.parent), status: act.status }];
        return [{
          kind: "account",
          pubkey: pattern(32, act.key),
          owner: pattern(32, act.owner),
          lamports: BigInt(act.version),
          data: pattern(act.size, act.version),
          slot,
          writeVersion: BigInt(act.version),
        }];
      }));
    }, acts);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent?.[Symbol.asyncDispose]();
  }
}

/** Schedules with senders in processes of both runtimes; some of them get kill -9. */
export async function playCacheProcesses(seed: number, schedules: number, tally: Tally): Promise<void> {
  using temporary = new Temporary();
  const path = temporary.at("s.sock");
  const random = randomOf(seed + 1);
  await using port = new AgentSender(path, RUNTIMES, settingsOf(seed), () => random(2) === 0);
  await playRun(path, port, seed, schedules, tally);
  tally["kills"] = (tally["kills"] ?? 0) + port.kills;
  tally["closes"] = (tally["closes"] ?? 0) + port.closes;
}

/** @throws with the seed in its text. */
export async function playCacheRun(seed: number, schedules: number, tally: Tally): Promise<void> {
  using temporary = new Temporary();
  const path = temporary.at("s.sock");
  await using port = new OwnSender(path, settingsOf(seed));
  await playRun(path, port, seed, schedules, tally);
}

/** The same with any sender. */
export async function playRun(
  path: string,
  port: SenderPort,
  seed: number,
  schedules: number,
  tally: Tally,
): Promise<void> {
  await port.restart();
  const { policy } = settingsOf(seed);
  await using consumer = await setupConsumer(path, {
    policy,
    cache: { refreshMs: 1 },
    reconnect: { minMs: 1, maxMs: 10, settledMs: 0 },
  });
  const played = new CacheSchedules(consumer, port, seed, tally);
  for (let i = 0; i < schedules; i++) {
    try {
      await played.play(STEPS);
    } catch (error) {
      throw new Error(`QLASTER_MODEL_SEED=${seed}, policy ${policy}, schedule ${i}: ${(error as Error).message}`);
    }
  }
}
