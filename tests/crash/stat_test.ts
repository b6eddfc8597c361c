/**
 * The stat page of a sender whose event loop stands still while it publishes, and of one that is killed.
 * May touch: processes through agents, the temporary directory.
 */

import assert from "node:assert/strict";
import process from "node:process";
import { serveMetrics } from "../../src/observe/mod.ts";
import { openStat } from "../../src/stat/mod.ts";
import { Agent } from "../support/agent_process.ts";
import { eventually } from "../support/footprint.ts";
import { guarded } from "../support/guarded.ts";
import { RUNTIMES } from "../support/runtime.ts";
import { Temporary } from "../support/temporary.ts";

const skip = process.platform === "linux" ? undefined : "needs /proc";

for (const runtime of RUNTIMES) {
  guarded(`openStat() of a ${runtime} sender that is stuck, then killed: its figures, and what it is`, async (held) => {
    const temporary = held.use(new Temporary());
    const path = temporary.at("s.sock");
    const agent = held.use(new Agent(runtime));
    await agent.run(async (scope, path) => {
      scope.sender = await scope.qlaster.setupSender({ path });
    }, path);
    using page = openStat(path);
    // Not at once where the machine has just kept it from running for some seconds: that is being stuck, too.
    await eventually("its event loop runs", () => !page.read().isStuck);
    const served = held.use(await serveMetrics(path, { port: 0 }));
    const ask = async (target: string) => {
      const response = await fetch(`http://127.0.0.1:${served.port}${target}`);
      return { status: response.status, text: await response.text() };
    };
    await eventually("it is healthy", async () => (await ask("/health")).status === 200);
    assert.equal(page.read().pid, agent.pid);
    // For good: the kill ends it.
    const stuck = agent.run(({ sender }) => {
      for (let slot = 1n;; slot++) sender.publishSlot({ slot, parent: slot - 1n, status: "processed" });
    });
    stuck.catch(() => {});
    await eventually("it is seen to be stuck", () => page.read().isStuck);
    const { sequence, slots, newestSlot } = page.read();
    assert.ok(sequence > 0 && slots > 0 && newestSlot > 0);
    await eventually("what it publishes is seen all the same", () => page.read().sequence > sequence);
    using another = openStat(path); // also by who comes only now
    assert.ok(another.read().isStuck);
    const health = await ask("/health");
    assert.deepEqual([health.status, JSON.parse(health.text).isStuck], [503, true]);
    assert.match((await ask("/metrics")).text, /^qlaster_sender_event_loop_stuck\{[^}]+\} 1$/m);
    agent.signal("SIGKILL");
    await agent.ended;
    const last = page.read();
    assert.equal(last.isGone, true);
    assert.equal(last.isStuck, false);
    assert.ok(last.sequence >= sequence);
    assert.throws(() => openStat(path), { code: "CONNECT_NO_SENDER" });
    const gone = await ask("/health");
    assert.equal(gone.status, 503);
    assert.match(gone.text, /^Cannot look at the sender at /);
  }, { skip });
}
