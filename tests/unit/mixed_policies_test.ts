/**
 * A consumer with one policy for accounts and another for transactions: what the one drops is not the other's.
 * May touch: the library as a user would, the temporary directory.
 *
 * @module
 */

import assert from "node:assert/strict";
import { type OverflowPolicies, setupConsumer, setupSender } from "../../mod.ts";
import { guarded } from "../support/guarded.ts";
import { accountKey, ownerKey } from "../support/script.ts";
import { Temporary } from "../support/temporary.ts";

const TRANSACTIONS = 200;

const policies: readonly OverflowPolicies[] = [
  { accounts: "conflate", transactions: "drop-oldest" },
  { accounts: "drop-newest", transactions: "drop-oldest" },
];

for (const policy of policies) {
  guarded(
    `Sender, policy ${JSON.stringify(policy)}: transactions that find no room make nobody skip an account`,
    async (held) => {
      const path = held.use(new Temporary()).at("s.sock");
      const sender = held.use(await setupSender({ path, ringCapacityBytes: 65_536, poolBytes: 0 }));
      const consumer = held.use(await setupConsumer(path, { policy }));
      await consumer.subscribe({ accounts: [accountKey(1)], transactions: true });
      sender.publishAccount({
        pubkey: accountKey(1),
        owner: ownerKey(1),
        lamports: 7n,
        data: new Uint8Array(8),
        slot: 1n,
      });
      const [signature, message] = [new Uint8Array(64), new Uint8Array(1000)];
      for (let index = 0; index < TRANSACTIONS; index++) {
        sender.publishTransaction({ slot: 1n, index, signature, message });
      }
      const first = await consumer.next();
      assert.equal(first?.kind === "account" && first.lamports, 7n);
      for (let index = 0; index < TRANSACTIONS; index++) {
        const update = await consumer.next();
        assert.equal(update?.kind === "transaction" && update.index, index);
      }
      assert.equal(consumer.metrics.lost, 0);
    },
  );
}

guarded("Sender, blockTimeoutMs: who blocks by its transactions alone is ended, too", async (held) => {
  const path = held.use(new Temporary()).at("s.sock");
  const sender = held.use(
    await setupSender({ path, ringCapacityBytes: 65_536, poolBytes: 0, policies: ["block"], blockTimeoutMs: 20 }),
  );
  const ended = Promise.withResolvers<string>();
  sender.onConsumer((event) => event.type === "disconnected" && ended.resolve(event.reason));
  const consumer = held.use(
    await setupConsumer(path, { policy: { accounts: "disconnect", transactions: "block" } }),
  );
  await consumer.subscribe({ transactions: true });
  const transaction = { slot: 1n, signature: new Uint8Array(64), message: new Uint8Array(1000) };
  let index = 0;
  while (sender.publishTransaction({ ...transaction, index }) >= 0) index++;
  assert.ok(sender.congested);
  await sender.drained();
  assert.equal(await ended.promise, "slow-consumer");
  assert.equal(sender.publishTransaction({ ...transaction, index }), 0);
});

guarded("Sender, blockTimeoutMs: it runs from the first refusal, also if nobody waits for room", async (held) => {
  const path = held.use(new Temporary()).at("s.sock");
  const sender = held.use(
    await setupSender({ path, ringCapacityBytes: 65_536, poolBytes: 0, policies: ["block"], blockTimeoutMs: 20 }),
  );
  const ended = Promise.withResolvers<string>();
  sender.onConsumer((event) => event.type === "disconnected" && ended.resolve(event.reason));
  held.use(await setupConsumer(path, { policy: "block" }));
  const slot = { slot: 1n, parent: 0n, status: "processed" } as const;
  while (sender.publishSlot(slot) >= 0);
  assert.equal(await ended.promise, "slow-consumer");
  assert.equal(sender.publishSlot(slot), 0);
});

guarded(
  "Sender, stallTimeoutMs: who leaves no room to be told of a loss is ended, whatever its policy",
  async (held) => {
    const path = held.use(new Temporary()).at("s.sock");
    const sender = held.use(
      await setupSender({ path, ringCapacityBytes: 65_536, poolBytes: 0, stallTimeoutMs: 1 }),
    );
    const ended = Promise.withResolvers<string>();
    sender.onConsumer((event) => event.type === "disconnected" && ended.resolve(event.reason));
    const consumer = held.use(await setupConsumer(path, { policy: "drop-newest", reconnect: false }));
    let reached = 0;
    while (sender.publishSlot({ slot: 1n, parent: 0n, status: "processed" }) === 1) reached++;
    assert.equal(await ended.promise, "slow-consumer");
    // What is in the ring can be read all the same.
    let seen = 0;
    await assert.rejects(async () => {
      for await (const { kind } of consumer) if (kind === "slot") seen++;
    }, { code: "CONNECTION_LOST", reason: "slow-consumer" });
    assert.equal(seen, reached);
  },
);
