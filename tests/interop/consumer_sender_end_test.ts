/**
 * The consumer when its sender of wire version 9 ends, killed or in order: it has read all, and takes neither for an eviction.
 * May touch: the public API, a raw sender in this process, senders of ours in others, /proc.
 *
 * @module
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { setupConsumer } from "../../mod.ts";
import { Agent } from "../support/agent_process.ts";
import { eventually } from "../support/footprint.ts";
import { RUNTIMES } from "../support/runtime.ts";
import { Temporary } from "../support/temporary.ts";
import {
  accountFrame,
  CAPACITY,
  linux,
  lost,
  NEVER_MS,
  rejectsWith,
  slotFrame,
  Stage,
  standStill,
} from "./support/consumer_stage.ts";

linux("a consumer hears of a sender's death by its socket, after all that was published", async (held) => {
  const stage = await Stage.open(held);
  const { consumer, ring, link } = await stage.granted({ idle: "park" });
  const asking = consumer.ping();
  asking.catch(() => {});
  ring.write(slotFrame(1));
  link.close(); // its ring stays where it was, as with a killed sender
  assert.equal((await consumer.next())?.kind, "slot");
  await lost(consumer.next(), "sender-gone", /its process has ended/);
  await lost(asking, "sender-gone");
});

for (const runtime of RUNTIMES) {
  for (const ring of ["memfd", "file"] as const) {
    linux(
      `a consumer hears of the death of a sender of ours, in ${runtime} with a ${ring}, and loses nothing`,
      async (held) => {
        const temporary = held.use(new Temporary());
        const path = temporary.at("s.sock");
        const agent = held.use(new Agent(runtime));
        await agent.run(async (scope, options) => {
          scope.sender = await scope.qlaster.setupSender(options);
        }, { path, ringCapacityBytes: 1 << 16, v9: { ring, ringDirectory: temporary.at("rings") } });
        const consumer = held.use(await setupConsumer(path, { reconnect: false, protocol: "v9" }));
        await consumer.subscribe({ transactions: true });
        await agent.run(({ sender }) => {
          for (let i = 0; i < 100; i++) sender.publishSlot({ slot: BigInt(i), parent: 0n, status: "processed" });
        });
        agent.signal("SIGKILL");
        await agent.ended;
        for (let i = 0; i < 100; i++) {
          const update = await consumer.next();
          assert.equal(update?.kind === "slot" && update.slotNumber, i);
        }
        await lost(consumer.next(), "sender-gone");
      },
    );
  }
}

for (const runtime of RUNTIMES) {
  linux(`a sender of ours in ${runtime} that takes long to die has not evicted`, async (held) => {
    const path = held.use(new Temporary()).at("s.sock");
    const agent = held.use(new Agent(runtime));
    await agent.run(async (scope, path) => {
      scope.sender = await scope.qlaster.setupSender({ path, ringCapacityBytes: 1 << 16 });
    }, path);
    const consumer = held.use(await setupConsumer(path, { reconnect: false, protocol: "v9", requestTimeoutMs: 500 }));
    // A killed process dies thread by thread, which takes a while on a busy machine: its main thread takes the way to its
    // descriptors along, the last one closes them.
    agent.run(({ libc }) => libc.endThread()).catch(() => {}); // no answer comes
    await eventually(
      "its main thread has ended",
      () => /^State:\tZ/m.test(readFileSync(`/proc/${agent.pid}/status`, "utf8")),
    );
    await rejectsWith(consumer.subscribe({}), "CONNECT_TIMEOUT");
    agent.signal("SIGKILL");
    await agent.ended;
    await lost(consumer.next(), "sender-gone");
  });
}

for (const isReading of [true, false]) {
  linux(`a sender that goes in order was closed, and has not evicted; reading: ${isReading}`, async (held) => {
    const stage = await Stage.open(held);
    for (const unread of [0, 3]) {
      const { consumer, ring, link } = await stage.granted({ idle: "park" });
      const next = isReading && unread === 0 ? consumer.next() : undefined;
      next?.catch(() => {});
      for (let i = 0; i < unread; i++) ring.write(slotFrame(i));
      ring.evict();
      if (unread === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      link.close();
      if (next !== undefined) assert.equal(await next, undefined);
      if (unread > 0) {
        let count = 0;
        for await (const update of consumer) count += update.kind === "slot" ? 1 : 0;
        assert.equal(count, unread);
      }
      assert.deepEqual(await consumer.whenEnded, { reason: "sender-closed" });
      await lost(consumer.subscribe({}), "sender-closed");
    }
  });
}

linux("a sender that goes in order while its consumer's event loop stands still has not evicted", async (held) => {
  const stage = await Stage.open(held);
  for (let i = 0; i < 10; i++) {
    const { consumer, ring, link } = await stage.granted({ idle: "park" });
    const next = consumer.next();
    next.catch(() => {});
    ring.evict();
    await new Promise((resolve) => setTimeout(resolve, i)); // it may have seen the sentinel by then, and waits for more
    link.close();
    standStill(200);
    assert.equal(await next, undefined);
    assert.deepEqual(await consumer.whenEnded, { reason: "sender-closed" });
  }
});

linux("a sender's end is in order only with a sentinel, and if nothing speaks for an eviction", async (held) => {
  const stage = await Stage.open(held);
  const cases = ["no sentinel", "behind", "silent"] as const;
  for (const what of cases) {
    const { consumer, ring, link } = await stage.granted({ idle: "park", v9PingMs: NEVER_MS, v9IdleMs: 100 });
    if (what === "behind") ring.write(accountFrame({ payload: new Uint8Array(CAPACITY / 2) }));
    if (what === "silent") standStill(150);
    ring.evict({ sentinel: what !== "no sentinel" });
    link.close();
    if (what === "behind") assert.equal((await consumer.next())?.kind, "account");
    await lost(consumer.next(), "sender-gone");
  }
});

for (const runtime of RUNTIMES) {
  linux(
    `a consumer of a sender of ours in ${runtime} ends quietly when that is closed, and misses nothing`,
    async (held) => {
      const temporary = held.use(new Temporary());
      const path = temporary.at("s.sock");
      const agent = held.use(new Agent(runtime));
      await agent.run(async (scope, options) => {
        scope.sender = await scope.qlaster.setupSender(options);
      }, { path, ringCapacityBytes: 1 << 16 });
      const consumers = [];
      for (const idle of ["park", "adaptive", "yield", "spin"] as const) {
        consumers.push(held.use(await setupConsumer(path, { reconnect: false, protocol: "v9", idle })));
      }
      const late = held.use(await setupConsumer(path, { reconnect: false, protocol: "v9" }));
      const reading = consumers.map(async (consumer) => {
        let count = 0;
        for await (const update of consumer) count += update.kind === "slot" ? 1 : 0;
        return [count, consumer.ended?.reason];
      });
      await agent.run(async ({ sender }) => {
        for (let i = 0; i < 100; i++) sender.publishSlot({ slot: BigInt(i), parent: 0n, status: "processed" });
        await sender.close();
      });
      assert.deepEqual(await Promise.all(reading), consumers.map(() => [100, "sender-closed"]));
      let count = 0;
      for await (const _ of late) count++;
      assert.deepEqual([count, late.ended?.reason], [100, "sender-closed"]);
    },
  );
}
