/**
 * Senders of both runtimes, killed with -9 and started again at one path, under a consumer that goes on: it gets all that
 * each of them had committed, in order, learns of every death, and keeps nothing of it.
 * May touch: processes through agents, /proc, the temporary directory.
 */

import assert from "node:assert/strict";
import { Agent } from "../support/agent_process.ts";
import { eventually, type Footprint, footprintOf, settlesAt } from "../support/footprint.ts";
import { guarded, type Held } from "../support/guarded.ts";
import { type Runtime, RUNTIMES } from "../support/runtime.ts";
import { Temporary } from "../support/temporary.ts";

const ROUNDS = 6;

/** What a consumer has read of one connection. */
interface Read {
  readonly sequences: number[];
  /** Whose updates they are. */
  readonly rounds: number[];
  lost?: { readonly reason: string; readonly lastSequence: number };
}

/** A consumer that reads by itself, over whatever connections, and tells of what happens to them. */
async function startReading(agent: Agent, path: string, protocol: "native" | "v9"): Promise<void> {
  await agent.run(async (scope, { path, protocol }) => {
    const consumer = scope.consumer = await scope.qlaster.setupConsumer(path, {
      protocol,
      reconnect: { minMs: 1, maxMs: 20 },
      waitForSenderMs: Infinity,
      onConnection: ({ type }) => type !== "failed" && scope.emit({ type }),
    });
    await consumer.subscribe({ accounts: [new Uint8Array(32).fill(1)] });
    const reads: Read[] = scope.kept.reads = [{ sequences: [], rounds: [] }];
    scope.kept.continuities = [];
    scope.kept.reading = (async () => {
      for await (const update of consumer) {
        const read = reads.at(-1)!;
        if (update.kind === "account") {
          read.sequences.push(update.sequenceNumber);
          read.rounds.push(update.slotNumber);
        }
        if (update.kind !== "connection") continue;
        const { event } = update;
        if (event.type === "lost") read.lost = { reason: event.reason, lastSequence: Number(event.lastSequence) };
        else {
          reads.push({ sequences: [], rounds: [] });
          scope.kept.continuities.push(event.continuity);
        }
      }
    })();
  }, { path, protocol });
}

/**
 * A sender that publishes without end, once somebody has subscribed, and says how much the consumer must get. No faster than
 * that reads: it may stand still for as long as its machine likes, and is not to be dropped for it.
 */
async function startSending(held: Held, runtime: Runtime, path: string, round: number): Promise<Agent> {
  const agent = held.use(new Agent(runtime));
  await agent.run(async (scope, { path, round }) => {
    const sender = scope.sender = await scope.qlaster.setupSender({ path, ringCapacityBytes: 1 << 20 });
    const [pubkey, owner] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];
    const update = {
      kind: "account",
      pubkey,
      owner,
      lamports: 1n,
      data: new Uint8Array(50),
      slot: BigInt(round),
    } as const;
    sender.onSubscription(({ accounts }) => {
      if (accounts.length === 0) return;
      let count = 0;
      setInterval(() => {
        if (!scope.pace.hasRoom(sender, 20 * 1000)) return;
        sender.publishBatch(Array.from({ length: 20 }, () => update));
        scope.emit({ committed: count += 20 });
      }, 1);
    });
  }, { path, round });
  return agent;
}

/** What a consumer without a sender holds: each try to connect has a socket, for a moment or for longer. */
async function footprintBetweenTries(pid: number): Promise<Footprint> {
  let least = footprintOf(pid);
  let looks = 0;
  await eventually("what it holds becomes no less", () => {
    const now = footprintOf(pid);
    if (now.descriptors.length < least.descriptors.length) [least, looks] = [now, 0];
    return ++looks > 20;
  });
  return least;
}

for (const runtime of RUNTIMES) {
  for (const protocol of ["native", "v9"] as const) {
    guarded(
      `a consumer in ${runtime} goes on over senders in both runtimes that are killed, ${protocol}`,
      async (held) => {
        const path = held.use(new Temporary()).at("s.sock");
        const consuming = held.use(new Agent(runtime));
        const starting = startReading(consuming, path, protocol);
        const committed: number[] = [];
        let before: Footprint | undefined;
        for (let round = 1; round <= ROUNDS; round++) {
          const sending = await startSending(held, RUNTIMES[round % 2]!, path, round);
          await starting;
          await consuming.event<{ type: string }>(({ type }) => type === "connected");
          if (round > 1) await consuming.event<{ type: string }>(({ type }) => type === "resumed");
          await sending.event<{ committed: number }>(({ committed }) => committed > 200);
          sending.signal("SIGKILL");
          await sending.ended;
          const said = sending.takeEvents<{ committed: number }>(({ committed }) => committed > 0);
          committed.push(Math.max(200, ...said.map(({ committed }) => committed)));
          await consuming.event<{ type: string }>(({ type }) => type === "lost");
          if (round === 2) before = await footprintBetweenTries(consuming.pid);
        }
        // Rings that views may still be looking at stay mapped for a while: those are bounded, not gone.
        await settlesAt(consuming.pid, { ...before!, mappings: Array(4 * ROUNDS).fill("") });
        const reads: Read[] = await consuming.run(async ({ kept, consumer }) => {
          await consumer.close();
          await kept.reading;
          return kept.reads;
        });
        assert.equal(reads.length, ROUNDS);
        reads.forEach(({ sequences, rounds, lost }, i) => {
          assert.deepEqual(new Set(rounds), new Set([i + 1]), `connection ${i + 1}`);
          assert.ok(sequences.length >= committed[i]!, `${sequences.length} of at least ${committed[i]}`);
          assert.deepEqual(lost, { reason: "sender-gone", lastSequence: sequences.at(-1) });
          if (protocol === "native") sequences.forEach((sequence, at) => assert.equal(sequence, at + 1));
          else assert.deepEqual(sequences, [...sequences].sort((a, b) => a - b));
        });
        await consuming.endsByItself();
      },
      { timeoutMs: 100_000 },
    );
  }

  guarded(`a consumer in ${runtime} that has lost its sender keeps the process, unless it is unref'd`, async (held) => {
    for (const isRef of [false, true]) {
      const path = held.use(new Temporary()).at("s.sock");
      const consuming = held.use(new Agent(runtime));
      const sending = held.use(new Agent(runtime));
      await sending.run(async (scope, path) => {
        scope.sender = await scope.qlaster.setupSender({ path });
      }, path);
      await consuming.run(async (scope, { path, isRef }) => {
        const consumer = scope.consumer = await scope.qlaster.setupConsumer(path, {
          reconnect: isRef ? { minMs: 1, maxMs: 20 } : { minMs: 1_000_000 },
          onConnection: ({ type }) => scope.emit(type),
        });
        scope.outlivesInput = true;
        if (!isRef) consumer.unref();
        // With a reference it lives until it has found the next sender; then it says so, and closes.
        void (async () => {
          for await (const update of consumer) {
            if (update.kind === "connection" && update.event.type === "resumed") await consumer.close();
          }
        })();
      }, { path, isRef });
      sending.signal("SIGKILL");
      await sending.ended;
      await consuming.event((type) => type === "lost");
      consuming.closeInput();
      if (isRef) {
        await consuming.event((type) => type === "failed");
        const another = held.use(new Agent(runtime));
        await another.run(async (scope, path) => {
          scope.sender = await scope.qlaster.setupSender({ path });
        }, path);
      }
      assert.deepEqual(await consuming.ended, { code: 0, signal: null });
    }
  });
}

for (const runtime of RUNTIMES) {
  guarded(
    `a consumer in ${runtime} that stands still again and again misses nothing of a sender with a history`,
    async (held) => {
      const path = held.use(new Temporary()).at("s.sock");
      const [sending, consuming] = [held.use(new Agent("deno")), held.use(new Agent(runtime))];
      await sending.run(async (scope, path) => {
        const sender = scope.sender = await scope.qlaster.setupSender({
          path,
          ringCapacityBytes: 1 << 16,
          history: { bytes: 64 << 20 },
        });
        sender.onConsumer((event) => event.type === "disconnected" && scope.emit({ reason: event.reason }));
        const [pubkey, owner] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];
        scope.kept.publish = (count: number) => {
          for (let i = 0; i < count; i++) {
            const slot = BigInt(scope.kept.slot = (scope.kept.slot ?? 0) + 1);
            sender.publishAccount({ pubkey, owner, lamports: 1n, data: new Uint8Array(200), slot });
          }
        };
      }, path);
      await startReading(consuming, path, "native");
      const hasCome = (count: number) =>
        eventually(
          `${count} have come`,
          async () =>
            count === await consuming.run(({ kept }) =>
              (kept.reads as Read[]).reduce((sum, { rounds }) => sum + rounds.length, 0)
            ),
        );
      for (let round = 1; round <= 5; round++) {
        consuming.signal("SIGSTOP");
        await sending.run(({ kept }) => kept.publish(1000)); // several times its ring
        await sending.event<{ reason: string }>(({ reason }) => reason === "slow-consumer");
        await sending.run(({ kept }) => kept.publish(100));
        consuming.signal("SIGCONT");
        await consuming.event<{ type: string }>(({ type }) => type === "resumed");
        // Once all of the history is in its ring, who has not read it yet may be slow again.
        await hasCome(1200 * round - 100);
        await sending.run(({ kept }) => kept.publish(100));
        await hasCome(1200 * round);
      }
      const { slots, continuities } = await consuming.run(({ kept, consumer }) => {
        void consumer.close();
        return { slots: (kept.reads as Read[]).flatMap(({ rounds }) => rounds), continuities: kept.continuities };
      });
      assert.deepEqual(slots, Array.from({ length: 6000 }, (_, i) => i + 1));
      assert.deepEqual(continuities, Array(5).fill("complete"));
    },
    { timeoutMs: 100_000 },
  );
}
