/**
 * A path that is taken over while others than native consumers and a loop are at work: consumers of wire version 9, Workers,
 * other senders that want it too, an old one that does not answer, one of another kind.
 * May touch: processes through agents, the temporary directory, a raw sender of version 9.
 */

import assert from "node:assert/strict";
import { chmodSync } from "node:fs";
import process from "node:process";
import { isQlasterError, setupConsumer, setupSender } from "../../mod.ts";
import { Agent } from "../support/agent_process.ts";
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
import { RawV9Sender } from "../support/raw_v9.ts";
import { OWN_RUNTIME, RUNTIMES } from "../support/runtime.ts";
import { Temporary } from "../support/temporary.ts";

const NOBODY = 65534;
const PER_SENDER = 3000;
const WORKER = new URL("../workers/support/publisher_worker.ts", import.meta.url).href;

for (const runtime of RUNTIMES) {
  guarded(
    `a consumer of version 9 gets all that the old one published, and goes on at the new one, for ${runtime}`,
    async (held) => {
      const temporary = held.use(new Temporary());
      const path = temporary.at("s.sock");
      const v9 = { v9: { ring: "file" as const, ringDirectory: temporary.at("rings") } };
      const [consuming, native] = [agentAt(held, runtime), agentAt(held, runtime)];
      let sending = agentAt(held, "bun");
      await startSending(sending, path, false, v9);
      await startReading(consuming, path, "v9");
      await startReading(native, path);
      await startFeeding(sending, 0, 2);
      const ends: number[] = [];
      for (const next of ["deno", "bun"] as const) {
        await published(sending, (ends.at(-1) ?? 0) + PER_SENDER);
        const old = sending;
        sending = agentAt(held, next);
        await startSending(sending, path, true, v9);
        const { stoppedAt } = await stopped(old);
        await old.endsByItself();
        ends.push(stoppedAt);
        // It is told that its sender has closed, tries again, and has its filter at the new one.
        await consuming.event<{ seam: string }>(({ seam }) => seam === "resumed");
        await startFeeding(sending, stoppedAt, 2);
        for (const each of [consuming, native]) await readsFrom(each, sending);
      }
      await published(sending, ends.at(-1)! + PER_SENDER);
      await sending.run(({ sender }) => sender.close());
      const last = (await stopped(sending)).stoppedAt - 1;
      const { numbers, seams } = await finish(consuming, last);
      numbers.forEach((number, i) => assert.equal(number, i));
      assert.deepEqual(seams.slice(0, 4), ["sender-closed", "unknown", "sender-closed", "unknown"]);
      assert.deepEqual((await finish(native, last)).numbers, numbers);
    },
  );

  guarded(
    `Workers that publish in the old one: what got in is received, the rest throws; for ${runtime}`,
    async (held) => {
      const path = held.use(new Temporary()).at("s.sock");
      const old = held.use(new Agent(runtime, { hasWorkers: true }));
      const [consuming, taking] = [agentAt(held, "deno"), agentAt(held, "bun")];
      const policies = ["disconnect", "block"] as const;
      const workers = [1, 2, 3];
      await old.run(async ({ qlaster, emit, kept }, { path, policies, program, workers }) => {
        const onHandover = ({ sequence }: { sequence: bigint }) => emit({ sequence });
        const sender = await qlaster.setupSender({ path, ringCapacityBytes: 1 << 20, policies, onHandover });
        kept.start = () => {
          for (const number of workers) {
            const worker = new Worker(program, { type: "module" });
            worker.onmessage = (event) => emit({ worker: number, ...event.data });
            const [way, count] = ["one by one", Number.MAX_SAFE_INTEGER];
            worker.postMessage({ share: sender.share(), number, way, count });
          }
        };
      }, { path, policies, program: WORKER, workers });
      await consuming.run(async (scope, path) => {
        const reconnect = { minMs: 1, maxMs: 20 };
        const consumer = scope.consumer = await scope.qlaster.setupConsumer(path, { policy: "block", reconnect });
        await consumer.subscribe({ owners: [new Uint8Array(32).fill(7)] });
        const counts = scope.kept.counts = [0, 0, 0, 0];
        const seams: string[] = scope.kept.seams = [];
        scope.kept.total = 0;
        void consumer.run((update) => {
          if (update.kind === "connection") {
            seams.push(update.event.type === "lost" ? update.event.reason : update.event.continuity);
            scope.emit({ seam: update.event.type });
          } else if (update.kind === "account") {
            const { data } = update;
            const worker = data[0]!;
            const ordinal = data[4]! | data[5]! << 8 | data[6]! << 16;
            if (ordinal !== ++counts[worker]) scope.emit({ worker, ordinal, expected: counts[worker] });
            if (++scope.kept.total % 1000 === 0) scope.emit({ read: scope.kept.total });
          } else if (update.kind === "slot") {
            scope.emit({ slot: update.slotNumber });
          }
        });
      }, path);
      await old.run(({ kept }) => kept.start());
      await consuming.event<{ read: number }>(({ read }) => read >= 5000);
      await taking.run(async (scope, { path, policies }) => {
        while (scope.sender === undefined) {
          try {
            scope.sender = await scope.qlaster.setupSender({
              path,
              ringCapacityBytes: 1 << 20,
              policies,
              takeover: true,
            });
          } catch (error) {
            // Just then something waited for room.
            if (!scope.qlaster.isQlasterError(error, "TAKEOVER_REFUSED")) throw error;
          }
        }
      }, { path, policies });
      const { sequence } = await old.event<{ sequence: number }>(({ sequence }) => sequence !== undefined);
      for (const number of workers) {
        const { at, code } = await old.event<{ worker: number; at: string; code: string }>(({ worker, at }) =>
          worker === number && at !== "attached"
        );
        assert.deepEqual([at, code], ["error", "SENDER_CLOSED"]);
      }
      await consuming.event<{ seam: string }>(({ seam }) => seam === "resumed");
      await taking.run(({ sender }) => sender.publishSlot({ slot: 9n, parent: 8n, status: "processed" }));
      await consuming.event<{ slot: number }>(({ slot }) => slot === 9);
      const { total, seams, lost } = await consuming.run(({ kept, consumer }) => {
        return { total: kept.total, seams: kept.seams, lost: consumer.metrics.lost };
      });
      assert.deepEqual(consuming.takeEvents(({ ordinal }: { ordinal?: number }) => ordinal !== undefined), []);
      assert.deepEqual([total, seams, lost], [sequence, ["handed-over", "complete"], 0]);
    },
  );

  guarded(
    `two new ones that want the path at once get it one after the other, and no loss goes untold, for ${runtime}`,
    async (held) => {
      const path = held.use(new Temporary()).at("s.sock");
      const consuming = agentAt(held, runtime);
      let old = agentAt(held, "bun");
      await startSending(old, path, false);
      await startReading(consuming, path);
      await startFeeding(old, 0);
      let first = 0;
      for (let round = 0; round < 3; round++) {
        await published(old, first + PER_SENDER);
        const both = RUNTIMES.map((each) => agentAt(held, each));
        const sending = both.map((agent) => startSending(agent, path, true).then(() => agent));
        for (const each of sending) each.catch(() => {});
        const isFirst = await Promise.any(sending);
        const other = both.find((agent) => agent !== isFirst)!;
        ({ stoppedAt: first } = await stopped(old));
        await startFeeding(isFirst, first);
        // It was refused, or failed, or has waited for the first one and got it from that.
        const outcome = await sending[both.indexOf(other)]!.then(
          () => "got it",
          (error: { code?: string }) => error.code,
        );
        if (outcome !== "got it") {
          assert.match(String(outcome), /^TAKEOVER_(REFUSED|FAILED)$/);
          await published(isFirst, first + 200);
          await startSending(other, path, true);
        }
        ({ stoppedAt: first } = await stopped(isFirst));
        await startFeeding(old = other, first);
        await consuming.event<{ seam: string }>(({ seam }) => seam === "resumed");
      }
      await published(old, first + PER_SENDER);
      await readsFrom(consuming, old);
      await old.run(({ sender }) => sender.close());
      const last = (await stopped(old)).stoppedAt - 1;
      const { numbers, seams, lost } = await finish(consuming, last);
      // Who was away while both followed each other may have a gap, and is told so.
      if (!seams.slice(0, 12).some((seam) => seam === "state" || seam === "unknown")) {
        numbers.forEach((number, i) => assert.equal(number, i));
      } else {
        numbers.forEach((number, i) => assert.ok(i === 0 || number > numbers[i - 1]!));
      }
      assert.equal(lost, 0);
    },
  );
}

for (const [what, state] of [["with", { maxBytes: 4 << 20 }], ["without", undefined]] as const) {
  guarded(
    `another user may be a consumer, and takes nothing over, ${what} state`,
    async (held) => {
      const temporary = held.use(new Temporary());
      chmodSync(temporary.path, 0o755);
      const path = temporary.at("s.sock");
      const old = held.use(await setupSender({ path, uids: [NOBODY], state: { maxBytes: 4 << 20 } }));
      const other = agentAt(held, OWN_RUNTIME);
      const taking = other.run(async ({ qlaster, libc }, { path, uid, options }) => {
        await qlaster.load();
        libc.becomeUser(uid);
        await qlaster.setupSender({ path, takeover: true, ...options });
      }, { path, uid: NOBODY, options: state === undefined ? {} : { state } });
      await assert.rejects(taking, { code: "TAKEOVER_REFUSED", message: /of uid 0, and who asks of uid 65534/ });
      assert.equal(old.publishSlot({ slot: 1n, parent: 0n, status: "processed" }) >= 0, true);
    },
    { skip: process.getuid?.() === 0 ? undefined : "becoming another user needs root" },
  );
}

guarded("an old one that does not answer in time keeps its path, and goes on once it can", async (held) => {
  const path = held.use(new Temporary()).at("s.sock");
  const [old, consuming] = [agentAt(held, "bun"), agentAt(held, "deno")];
  await startSending(old, path, false);
  await startReading(consuming, path);
  await startFeeding(old, 0);
  await published(old, 1000);
  old.signal("SIGSTOP");
  const taking = setupSender({ path, takeover: true, takeoverTimeoutMs: 300 });
  await assert.rejects(
    taking,
    (error) => isQlasterError(error, "CONNECT_TIMEOUT") || isQlasterError(error, "TAKEOVER_FAILED"),
  );
  old.signal("SIGCONT");
  const { published: now } = await published(old, 1000);
  await published(old, now + 2000);
  await old.run(({ sender }) => sender.close());
  const { numbers, seams, lost } = await finish(consuming, (await stopped(old)).stoppedAt - 1);
  numbers.forEach((number, i) => assert.equal(number, i));
  assert.deepEqual([seams.slice(0, 1), lost], [["sender-closed"], 0]);
});

guarded("a sender of the original's protocol hands nothing over", async (held) => {
  const path = held.use(new Temporary()).at("s.sock");
  const original = held.use(new RawV9Sender(path));
  const taking = setupSender({ path, takeover: true, takeoverTimeoutMs: 40_000 });
  const refused = assert.rejects(taking, (error) => isQlasterError(error, "TAKEOVER_REFUSED"));
  for (let attempt = 0; attempt < 3; attempt++) {
    using link = await original.accept(); // it reads a length that it takes for too long
    link.close();
  }
  await refused;
});

guarded("a new one that keeps state, after an old one that kept none: what it knows begins with it", async (held) => {
  const path = held.use(new Temporary()).at("s.sock");
  const old = agentAt(held, OWN_RUNTIME === "bun" ? "deno" : "bun");
  await old.run(async (scope, path) => void (scope.sender = await scope.qlaster.setupSender({ path })), path);
  await startFeeding(old, 0);
  await published(old, 500);
  await using sender = await setupSender({ path, takeover: true, state: { maxBytes: 4 << 20, keep: "all" } });
  const { stoppedAt } = await stopped(old);
  const { sequence, newestSlot } = sender.metrics;
  assert.deepEqual([Number(sequence), Number(newestSlot)], [stoppedAt, stoppedAt - 1]);
  await using consumer = await setupConsumer(path, { cache: true });
  await consumer.subscribe({ accounts: [new Uint8Array(32).fill(1)] });
  await eventually("all that it knows", async () => (await consumer.accounts.ready).isComplete);
  assert.ok(consumer.accounts.trust.unknownKeys + consumer.accounts.size === 1);
});
