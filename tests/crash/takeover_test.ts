/**
 * A path that is taken over from one process by another, in both runtimes, while one in a third reads: it gets each of many
 * updates once, in order. And what becomes of it when one of the two is killed with -9 in the middle.
 * May touch: processes through agents, the temporary directory.
 */

import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { dirname } from "node:path";
import { eventually } from "../support/footprint.ts";
import { guarded } from "../support/guarded.ts";
import {
  agentAt,
  finish,
  published,
  readsFrom,
  startFeeding,
  startReading,
  startSending,
  stopped,
} from "../support/handover.ts";
import { RUNTIMES } from "../support/runtime.ts";
import { Temporary } from "../support/temporary.ts";

const PER_SENDER = 6000;
const HANDOVERS = 4;

for (const runtime of RUNTIMES) {
  guarded(
    `updates go on over ${HANDOVERS} hand-overs between runtimes, each once and in order, for ${runtime}`,
    async (held) => {
      const path = held.use(new Temporary()).at("s.sock");
      const consuming = agentAt(held, runtime);
      let sending = agentAt(held, RUNTIMES[0]!);
      await startSending(sending, path, true); // nobody is there: an ordinary start
      await startReading(consuming, path);
      let first = 0;
      await startFeeding(sending, first);
      for (let round = 1; round <= HANDOVERS; round++) {
        await published(sending, first + PER_SENDER);
        const old = sending;
        sending = agentAt(held, RUNTIMES[round % 2]!);
        await startSending(sending, path, true);
        await old.event<{ handedOver: boolean }>(({ handedOver }) => handedOver);
        const { stoppedAt, message } = await stopped(old);
        assert.match(message, /handed over/);
        await old.endsByItself();
        await startFeeding(sending, first = stoppedAt);
        await readsFrom(consuming, sending);
      }
      await published(sending, first + PER_SENDER);
      const last = await sending.run(async ({ sender, emit }) => {
        await sender.close();
        emit({});
      }).then(() => stopped(sending));
      const { numbers, seams, lost } = await finish(consuming, last.stoppedAt - 1);
      assert.equal(numbers.length, last.stoppedAt);
      assert.ok(numbers.length >= PER_SENDER * (HANDOVERS + 1));
      numbers.forEach((number, i) => assert.equal(number, i));
      assert.equal(lost, 0);
      assert.deepEqual(
        seams.slice(0, 2 * HANDOVERS),
        Array.from({ length: HANDOVERS }, () => ["handed-over", "complete"]).flat(),
      );
      assert.deepEqual(readdirSync(dirname(path)), []);
    },
    { timeoutMs: 100_000 },
  );
}

guarded(
  "the old one is killed while it is read: the new one starts as usual, and the consumer finds it",
  async (held) => {
    const path = held.use(new Temporary()).at("s.sock");
    const [old, sending, consuming] = [agentAt(held, "bun"), agentAt(held, "deno"), agentAt(held, "bun")];
    await startSending(old, path, false);
    await startReading(consuming, path);
    await startFeeding(old, 0);
    await published(old, 1000);
    old.signal("SIGSTOP"); // it never answers
    const starting = startSending(sending, path, true);
    starting.catch(() => {});
    await sending.run((scope) => void scope.emit({}));
    old.signal("SIGKILL");
    await old.ended;
    await starting;
    await startFeeding(sending, 1_000_000);
    await eventually(
      "the new one's updates",
      async () => await consuming.run(({ kept }) => kept.numbers.at(-1)) >= 1_000_000,
    );
    assert.deepEqual(
      await consuming.run(({ kept }) => kept.seams),
      ["sender-gone", "unknown"],
    );
  },
);

guarded("the new one is killed before it has asked: the old one has given nothing up, and goes on", async (held) => {
  const path = held.use(new Temporary()).at("s.sock");
  const [old, sending, consuming] = [agentAt(held, "bun"), agentAt(held, "deno"), agentAt(held, "deno")];
  await startSending(old, path, false);
  await startReading(consuming, path);
  await startFeeding(old, 0);
  await published(old, 1000);
  // It is killed as soon as it has subscribed.
  await old.run(({ sender, emit, process }) => {
    sender.onConsumer((event) => {
      if (event.type === "disconnected" && event.consumer.name === "takeover") emit({ went: event.reason });
    });
    const stopKilling = sender.onSubscription(({ consumer }) => {
      if (consumer.name !== "takeover") return;
      stopKilling();
      process.kill(consumer.pid, "SIGKILL");
    });
  });
  const starting = startSending(sending, path, true);
  starting.catch(() => {});
  await old.event<{ went: string }>(({ went }) => went !== undefined);
  await sending.ended;
  const { published: now } = await published(old, 0);
  await published(old, now + 5000);
  assert.deepEqual(await consuming.run(({ kept }) => kept.seams), []);
  assert.ok(existsSync(path));
  const after = agentAt(held, "bun");
  await startSending(after, path, true); // the next one gets it
  const { stoppedAt } = await stopped(old);
  await startFeeding(after, stoppedAt);
  await readsFrom(consuming, after);
  await published(after, stoppedAt + 1000);
  await after.run(({ sender }) => sender.close());
  const last = await stopped(after);
  const { numbers, lost } = await finish(consuming, last.stoppedAt - 1);
  numbers.forEach((number, i) => assert.equal(number, i));
  assert.equal(lost, 0);
});

for (const runtime of RUNTIMES) {
  guarded(
    `the new one is killed with the path in its hands: the next starts as usual, and who was left is told; for ${runtime}`,
    async (held) => {
      const path = held.use(new Temporary()).at("s.sock");
      const consuming = agentAt(held, runtime);
      let old = agentAt(held, "deno");
      await startSending(old, path, false, { killed: "new" });
      await startReading(consuming, path);
      await startFeeding(old, 0);
      const begins: number[] = [];
      for (let round = 0; round < 3; round++) {
        const begin = begins.at(-1) ?? 0;
        await published(old, begin + 2000);
        const taking = agentAt(held, RUNTIMES[round % 2]!);
        const starting = startSending(taking, path, true);
        starting.catch(() => {}); // it dies
        const { stoppedAt, message } = await stopped(old);
        assert.match(message, /handed over/);
        await taking.ended;
        await old.endsByItself();
        // Lock and socket went with it: nobody is there to take over from.
        old = agentAt(held, RUNTIMES[(round + 1) % 2]!);
        await startSending(old, path, true, { killed: "new" });
        await consuming.event<{ continuity: string }>(({ continuity }) => continuity === "unknown");
        begins.push(stoppedAt + 1_000_000);
        await startFeeding(old, begins.at(-1)!);
        await readsFrom(consuming, old);
      }
      await published(old, begins.at(-1)! + 2000);
      await old.run(({ sender }) => sender.close());
      const { numbers, seams, lost } = await finish(consuming, (await stopped(old)).stoppedAt - 1);
      let expected = 0;
      for (const number of numbers) {
        // All of the old one, and then the next one from its first update on.
        if (begins.includes(number)) expected = number;
        assert.equal(number, expected++);
      }
      assert.equal(lost, 0);
      // It may have been at the new one before that died: nothing is missing until then.
      const told = seams.join(" ").replaceAll("handed-over complete sender-gone", "handed-over").split(" ");
      assert.deepEqual(told.slice(0, 6), Array.from({ length: 3 }, () => ["handed-over", "unknown"]).flat());
    },
  );

  guarded(
    `the old one is killed as soon as it has handed over: its last updates are read all the same; for ${runtime}`,
    async (held) => {
      const path = held.use(new Temporary()).at("s.sock");
      const consuming = agentAt(held, runtime);
      const [old, sending] = [agentAt(held, "bun"), agentAt(held, "deno")];
      await startSending(old, path, false, { killed: "old" });
      await startReading(consuming, path);
      await startFeeding(old, 0);
      await published(old, 2000);
      await startSending(sending, path, true);
      assert.equal((await old.ended).signal, "SIGKILL");
      const first = await sending.run(({ sender }) => Number(sender.metrics.sequence));
      await startFeeding(sending, first);
      await published(sending, first + 2000);
      await readsFrom(consuming, sending);
      await sending.run(({ sender }) => sender.close());
      const { numbers, seams, lost } = await finish(consuming, (await stopped(sending)).stoppedAt - 1);
      numbers.forEach((number, i) => assert.equal(number, i));
      assert.equal(lost, 0);
      // Its word, or its death, whichever is seen first.
      assert.match(seams[0]!, /^(handed-over|sender-gone)$/);
      assert.equal(seams[1], "complete");
    },
  );

  guarded(
    `the old one is killed while its state is read: what was read counts for nothing; for ${runtime}`,
    async (held) => {
      const path = held.use(new Temporary()).at("s.sock");
      const [old, sending] = [agentAt(held, runtime), agentAt(held, runtime === "bun" ? "deno" : "bun")];
      await startSending(old, path, false, { state: { maxBytes: 64 << 20, keep: "all" }, ringCapacityBytes: 1 << 20 });
      await old.run(({ sender, process }) => {
        for (let key = 0; key < 50_000; key++) {
          const pubkey = new Uint8Array(32);
          new DataView(pubkey.buffer).setUint32(0, key);
          sender.publishAccount({ pubkey, owner: pubkey, lamports: 1n, data: new Uint8Array(200), slot: 1n });
        }
        // Its ring holds a part of that: the new one is in the middle of it.
        sender.onSubscription(() => void setTimeout(() => process.kill(process.pid, "SIGKILL"), 5));
      });
      await startSending(sending, path, true, { state: { maxBytes: 64 << 20, keep: "all" } });
      await old.ended;
      const { sequence, accounts } = await sending.run(({ sender }) => {
        const { sequence, state } = sender.metrics;
        return { sequence: Number(sequence), accounts: state.accounts };
      });
      assert.deepEqual([sequence, accounts], [0, 0]);
    },
  );
}
