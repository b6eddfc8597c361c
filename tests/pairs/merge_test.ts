/**
 * Two senders in processes of their own, of both runtimes, read as one stream: one of them is killed, or stopped, in the
 * middle. May touch: processes through agents, the temporary directory, the public API.
 */

import assert from "node:assert/strict";
import { setupMergedConsumer } from "../../mod.ts";
import { Agent } from "../support/agent_process.ts";
import { guarded, type Held } from "../support/guarded.ts";
import { type Runtime, RUNTIMES } from "../support/runtime.ts";
import { Temporary } from "../support/temporary.ts";

const SLOTS = 300;
const HARM_AT = 60;
const WRITES = 3;

async function openSender(held: Held, runtime: Runtime, path: string): Promise<Agent> {
  const agent = held.use(new Agent(runtime));
  await agent.run(async (scope, path) => {
    scope.sender = await scope.qlaster.setupSender({ path, ringCapacityBytes: 1 << 20 });
  }, path);
  return agent;
}

/** Publishes the same as every other: some writes of two accounts, a transaction, the slot. Returns at once. */
function start(
  agent: Agent,
  slots: { readonly from: number; readonly to: number; readonly writes: number },
): Promise<void> {
  return agent.run(({ sender }, { from, to, writes }) => {
    let slot = from;
    const bytes = (byte: number, length = 32) => new Uint8Array(length).fill(byte);
    const step = () => {
      const position = { slot: BigInt(slot) };
      for (let write = 1; write <= writes; write++) {
        const writeVersion = BigInt(10 * slot + write);
        const account = { owner: bytes(9), lamports: 1n, data: bytes(write, 8), ...position, writeVersion };
        sender.publishAccount({ pubkey: bytes(1 + write % 2), ...account });
      }
      const signature = bytes(slot % 250, 64);
      sender.publishTransaction({ signature, message: bytes(1, 100), index: 0, ...position });
      sender.publishSlot({ parent: BigInt(slot - 1), status: "processed", ...position });
      if (slot++ < to) setTimeout(step, 1);
    };
    step();
  }, slots);
}

for (const victim of RUNTIMES) {
  for (const harm of ["SIGKILL", "SIGSTOP"] as const) {
    const other = RUNTIMES.find((runtime) => runtime !== victim) ?? victim;
    guarded(
      `a sender in ${victim} gets ${harm}, the stream goes on with that in ${other}: nothing is missing, nothing comes twice`,
      async (held) => {
        const temporary = held.use(new Temporary());
        const paths = [temporary.at("a.sock"), temporary.at("b.sock")];
        const [a, b] = [await openSender(held, victim, paths[0]!), await openSender(held, other, paths[1]!)];
        const consumer = held.use(await setupMergedConsumer(paths, { policy: "drop-newest" }));
        await consumer.subscribe({ owners: [new Uint8Array(32).fill(9)], transactions: true });
        const range = { from: 1, to: SLOTS, writes: WRITES };
        await Promise.all([start(a, range), start(b, range)]);
        const versions = new Map<string, number[]>();
        const slots: number[] = [];
        const transactions: number[] = [];
        let isHarmed = false;
        let isLost = false;
        for await (const update of consumer) {
          if (update.kind === "account") {
            const of = versions.get(update.address) ?? [];
            versions.set(update.address, [...of, Number(update.writeVersion)]);
          }
          if (update.kind === "transaction") transactions.push(update.slotNumber);
          if (update.kind === "connection" && update.event.type === "lost") isLost = true;
          if (update.kind !== "slot") continue;
          slots.push(update.slotNumber);
          if (update.slotNumber >= HARM_AT && !isHarmed) {
            isHarmed = true;
            a.signal(harm);
          }
          // By the victim alone, perhaps, if it was so much quicker: then all that it had published is here.
          if (update.slotNumber === SLOTS) break;
        }
        const all = Array.from({ length: SLOTS }, (_, i) => i + 1);
        assert.deepEqual(slots, all);
        assert.deepEqual(transactions, all);
        const expected = (remainder: number) =>
          all.flatMap((slot) =>
            Array.from({ length: WRITES }, (_, i) => i + 1).filter((write) => write % 2 === remainder)
              .map((write) => 10 * slot + write)
          );
        assert.deepEqual([...versions.values()].map(String).sort(), [expected(0), expected(1)].map(String).sort());
        const [first, second] = consumer.feeds;
        assert.ok(first!.first + second!.first >= SLOTS * (WRITES + 2));
        assert.ok(first!.lost === 0 && second!.lost === 0);
        if (harm === "SIGSTOP") {
          assert.ok(!isLost && first!.isConnected, "who stands still is not lost");
          a.signal("SIGCONT");
        }
      },
    );
  }
}
