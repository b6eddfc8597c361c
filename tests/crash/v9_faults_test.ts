/**
 * Deaths where wire version 9 is spoken: of consumers with a frame in their hands, of senders with consumers of both
 * runtimes; and the one thing that a peer can kill with, a ring's file that it makes smaller.
 * May touch: the library as a user would, raw peers, child processes. Linux only.
 */

import assert from "node:assert/strict";
import { truncateSync } from "node:fs";
import process from "node:process";
import { type ConsumerEvent, setupConsumer, setupSender } from "../../mod.ts";
import { Agent, type Exit } from "../support/agent_process.ts";
import { eventually, footprintOf, settlesAt } from "../support/footprint.ts";
import { guarded } from "../support/guarded.ts";
import { RawV9Consumer, RawV9Sender, readyShm, slotFrame } from "../support/raw_v9.ts";
import { RawSlot } from "../support/raw_v9_sender.ts";
import { type Runtime, RUNTIMES } from "../support/runtime.ts";
import { Temporary } from "../support/temporary.ts";

const SKIP = process.platform === "linux" ? {} : { skip: "raw peers of version 9 need Linux" };
const CAPACITY = 1 << 20;

/** By the kernel's hand. Bun's crash handler turns the signal into an end of its own. */
function assertKilledByBus({ code, signal }: Exit, runtime: Runtime, stderr: string): void {
  if (runtime === "deno") assert.deepEqual({ code, signal }, { code: null, signal: "SIGBUS" }, stderr);
  else assert.ok(signal === "SIGBUS" || /bus error|SIGBUS/i.test(stderr), `code ${code}, signal ${signal}: ${stderr}`);
}

for (const runtime of RUNTIMES) {
  guarded(
    `the documented exception: a sender that cuts its ring's file ends our consumer, in ${runtime}`,
    async (held) => {
      const temporary = held.use(new Temporary());
      const sender = held.use(new RawV9Sender(temporary.at("s.sock")));
      const ring = held.use(new RawSlot(temporary.at("ring"), CAPACITY));
      const agent = held.use(new Agent(runtime));
      const connecting = agent.run(async (scope, path) => {
        scope.consumer = await scope.qlaster.setupConsumer(path, { reconnect: false, protocol: "v9" });
      }, sender.path);
      const link = held.use(await sender.accept());
      await link.body();
      link.send(readyShm({ index: 0, generation: 1n }, ring.path, CAPACITY), [ring.wakeFd]);
      await connecting;
      ring.write(slotFrame(1n));
      const read = () => agent.run(({ consumer }) => consumer.poll(() => {}));
      assert.equal(await read(), 1);
      truncateSync(ring.path, 0);
      await assert.rejects(read());
      assertKilledByBus(await agent.ended, runtime, agent.stderr);
    },
    SKIP,
  );

  guarded(
    `the documented exception: a consumer that cuts its ring's file ends our sender, in ${runtime}`,
    async (held) => {
      const temporary = held.use(new Temporary());
      const path = temporary.at("s.sock");
      const agent = held.use(new Agent(runtime));
      const publish = () => {
        return agent.run(({ sender }) => sender.publishSlot({ slot: 1n, parent: 0n, status: "processed" }));
      };
      for (const ring of ["memfd", "file"] as const) {
        await agent.run(async (scope, options) => {
          scope.sender = await scope.qlaster.setupSender(options);
        }, { path, ringCapacityBytes: CAPACITY, v9: { ring, ringDirectory: temporary.at("rings") } });
        const consumer = held.use(new RawV9Consumer(path));
        const slot = await consumer.open();
        assert.equal(await publish(), 1);
        const cut = () => truncateSync(slot.path, 0);
        if (ring === "memfd") {
          assert.throws(cut, "memory can't be cut");
          assert.equal(await publish(), 1);
          await agent.run(({ sender }) => sender.close());
          consumer[Symbol.dispose]();
          continue;
        }
        cut(); // and nobody here looks into it
        await assert.rejects(publish());
        assertKilledByBus(await agent.ended, runtime, agent.stderr);
      }
    },
    SKIP,
  );

  guarded(
    `a consumer of version 9 killed in ${runtime} with a frame in its hands costs its slot, and the others nothing`,
    async (held) => {
      const temporary = held.use(new Temporary());
      const path = temporary.at("s.sock");
      const ends: string[] = [];
      const onConsumer = (event: ConsumerEvent) => void (event.type === "disconnected" && ends.push(event.reason));
      const sender = held.use(await setupSender({ path, ringCapacityBytes: 65536, v9: { slotsMax: 2 }, onConsumer }));
      const other = held.use(await setupConsumer(path, { reconnect: false, protocol: "v9" }));
      const warm = await setupConsumer(path, { protocol: "v9" }); // what the runtime opens at the first use is no leak
      await warm.close();
      await eventually("it is gone", () => ends.length === 1);
      const before = footprintOf("self");
      {
        await using agent = new Agent(runtime);
        await agent.run(async (scope, path) => {
          const consumer = await scope.qlaster.setupConsumer(path, { reconnect: false, protocol: "v9", idle: "spin" });
          setTimeout(function look() {
            consumer.poll((update) => {
              scope.emit(update.kind);
              Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
            });
            setTimeout(look, 1);
          });
        }, path);
        assert.equal(sender.publishSlot({ slot: 1n, parent: 0n, status: "processed" }), 2);
        await agent.event((event) => event === "slot");
        agent.signal("SIGKILL");
        await agent.ended;
      }
      await eventually("its slot is free", () => ends.length === 2);
      assert.deepEqual(ends[1], "consumer-gone");
      await settlesAt("self", before);
      const next = held.use(await setupConsumer(path, { reconnect: false, protocol: "v9" }));
      assert.equal(next.slotToken?.slotIndex, 1);
      assert.equal(sender.publishSlot({ slot: 2n, parent: 1n, status: "processed" }), 2);
      for (const slot of [1n, 2n]) {
        const update = await other.next();
        assert.equal(update?.kind === "slot" && update.slot, slot);
      }
    },
    SKIP,
  );

  for (const ring of ["memfd", "file"] as const) {
    guarded(
      `consumers of version 9 in both runtimes get all of a sender killed in ${runtime}, with a ${ring}, then sender-gone`,
      async (held) => {
        const temporary = held.use(new Temporary());
        const options = {
          path: temporary.at("s.sock"),
          ringCapacityBytes: 65536,
          v9: { ring, ringDirectory: temporary.at("rings") },
        };
        const sending = held.use(new Agent(runtime));
        await sending.run(async (scope, options) => {
          scope.sender = await scope.qlaster.setupSender(options);
        }, options);
        const reading = RUNTIMES.map((one) => held.use(new Agent(one)));
        for (const agent of reading) {
          await agent.run(async (scope, path) => {
            const consumer = await scope.qlaster.setupConsumer(path, { reconnect: false, protocol: "v9" });
            let count = 0;
            (async () => {
              for await (const _ of consumer) count++;
            })().catch((error) => scope.emit([count, error.code, error.reason]));
          }, options.path);
        }
        await sending.run(({ sender }) => {
          for (let i = 0; i < 100; i++) sender.publishSlot({ slot: BigInt(i), parent: 0n, status: "processed" });
        });
        sending.signal("SIGKILL");
        await sending.ended;
        for (const agent of reading) {
          assert.deepEqual(await agent.event(Array.isArray), [100, "CONNECTION_LOST", "sender-gone"]);
        }
      },
      SKIP,
    );
  }
}
