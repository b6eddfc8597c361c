/**
 * Consumers that lag, each within its part of the pool, and one that reads: what they hold takes nothing from it. What never
 * goes there: slices.
 * May touch: the library as a user would, the temporary directory.
 *
 * @module
 */

import assert from "node:assert/strict";
import { type Consumer, type OverflowPolicy, setupConsumer, setupSender } from "../../mod.ts";
import { guarded } from "../support/guarded.ts";
import { accountKey, ownerKey } from "../support/script.ts";
import { Temporary } from "../support/temporary.ts";

const LAGGARDS = 4;
const POOL_BYTES = 1 << 20;
/** So many fill a quarter of the pool. */
const ROUNDS = 4;
/** Neither fits a ring: without a block of the pool it is lost. */
const [HELD_BYTES, READ_BYTES] = [64 * 1024, 100_000];

function account(key: number, bytes: number) {
  return { pubkey: accountKey(key), owner: ownerKey(1), lamports: 7n, data: new Uint8Array(bytes), slot: 1n };
}

/** How many accounts it is shown. */
function readAll(consumer: Consumer): number {
  let count = 0;
  while (consumer.poll(({ kind }) => void (count += kind === "account" ? 1 : 0)) > 0);
  return count;
}

for (const policy of ["drop-newest", "conflate", "disconnect"] as const satisfies OverflowPolicy[]) {
  guarded(
    `Sender, pool: ${LAGGARDS} that lag by "${policy}" take no update from one that reads each at once`,
    async (held) => {
      const path = held.use(new Temporary()).at("s.sock");
      const sender = held.use(await setupSender({ path, ringCapacityBytes: 65_536, poolBytes: POOL_BYTES }));
      for (let i = 0; i < LAGGARDS; i++) {
        const laggard = held.use(await setupConsumer(path, { policy, reconnect: false }));
        await laggard.subscribe({ accounts: [accountKey(10 + i)] });
      }
      const reader = held.use(await setupConsumer(path, { reconnect: false }));
      await reader.subscribe({ accounts: [accountKey(1)] });
      for (let round = 0; round < ROUNDS; round++) {
        for (let i = 0; i < LAGGARDS; i++) sender.publishAccount(account(10 + i, HELD_BYTES));
      }
      if (policy !== "disconnect") {
        const { pool, losses } = sender.metrics;
        assert.equal(pool.usedBytes, 3 * LAGGARDS * HELD_BYTES);
        const shares = sender.consumers().filter(({ poolBytes }) => poolBytes > 0);
        assert.deepEqual(shares.map(({ poolBytes }) => poolBytes), Array(LAGGARDS).fill(3 * HELD_BYTES));
        if (policy === "drop-newest") assert.equal(losses.poolShare, LAGGARDS);
      }
      let count = 0;
      for (let i = 0; i < 10; i++) {
        sender.publishAccount(account(1, READ_BYTES));
        count += readAll(reader);
      }
      assert.equal(count, 10);
      assert.equal(reader.metrics.lost, 0);
    },
  );
}

guarded("Sender, pool: slices travel in the ring, also those that had to wait", async (held) => {
  const path = held.use(new Temporary()).at("s.sock");
  const sender = held.use(await setupSender({ path, ringCapacityBytes: 65_536, poolBytes: POOL_BYTES }));
  const consumer = held.use(await setupConsumer(path, { policy: "conflate", reconnect: false }));
  const accounts = Array.from({ length: 20 }, (_, i) => accountKey(i));
  await consumer.setFilter("parts", { accounts: { accounts, dataSlice: { offset: 0, length: 8192 } } });
  for (let i = 0; i < accounts.length; i++) sender.publishAccount(account(i, 20_000));
  assert.ok(sender.consumers()[0]!.waiting.frames > 0);
  for (let count = 0; count < accounts.length;) {
    const update = await consumer.next();
    if (update?.kind !== "account") continue;
    assert.equal(update.data.length, 8192);
    assert.equal(sender.metrics.pool.usedBytes, 0);
    count += 1;
  }
  assert.equal(consumer.metrics.lost, 0);
});
