/**
 * What a slot frame says to a consumer that wants all of the slot: published before it is what came before it and what was
 * lost before it, by whatever policy, and however long the frame has waited at the sender.
 * May touch: the library as a user would, the temporary directory.
 *
 * @module
 */

import assert from "node:assert/strict";
import { type Consumer, type OverflowPolicies, setupConsumer, setupSender } from "../../mod.ts";
import { guarded } from "../support/guarded.ts";
import { accountKey, ownerKey } from "../support/script.ts";
import { Temporary } from "../support/temporary.ts";

const KEYS = 12;
const ROUNDS = 60;
const policies: readonly OverflowPolicies[] = [
  { accounts: "conflate", transactions: "conflate" },
  { accounts: "conflate", transactions: "drop-newest" },
  { accounts: "drop-newest", transactions: "conflate" },
  { accounts: "drop-oldest", transactions: "drop-oldest" },
  { accounts: "drop-newest", transactions: "drop-newest" },
];

/** Reads on, and holds each slot frame against what has come of its slot. */
class Barriers {
  readonly #came = new Map<number, { accounts: number; transactions: number }>();
  count = 0;
  /** Of all frames: what they said was lost. */
  lost = 0;

  read(consumer: Consumer, limit: number): number {
    return consumer.poll((update) => {
      if (update.kind !== "account" && update.kind !== "transaction" && update.kind !== "slot") return;
      const came = this.#came.get(update.slotNumber) ?? { accounts: 0, transactions: 0 };
      this.#came.set(update.slotNumber, came);
      if (update.kind !== "slot") {
        came[`${update.kind}s`] += 1;
        return;
      }
      const { accountsPublished, accountsLost, transactionsPublished, transactionsLost } = update;
      const place = `slot ${update.slotNumber}, frame ${update.sequenceNumber}`;
      assert.equal(came.accounts + accountsLost, accountsPublished, `${place}: accounts`);
      assert.equal(came.transactions + transactionsLost, transactionsPublished, `${place}: transactions`);
      this.count += 1;
      this.lost += accountsLost + transactionsLost;
    }, limit);
  }
}

for (const policy of policies) {
  guarded(`A slot frame, ${JSON.stringify(policy)}: published is what came and what was lost`, async (held) => {
    const path = held.use(new Temporary()).at("s.sock");
    const sender = held.use(await setupSender({ path, ringCapacityBytes: 65_536, poolBytes: 0 }));
    const consumer = held.use(await setupConsumer(path, { reconnect: false, policy, queueBytes: 24 * 1024 }));
    await consumer.subscribe({ owners: [ownerKey(1)], transactions: true });
    const barriers = new Barriers();
    const signature = new Uint8Array(64);
    for (let round = 0; round < ROUNDS; round++) {
      const slot = BigInt(10 + Math.floor(round / 4));
      // Said before anything of the slot, in the middle of it, and when the next one has begun.
      sender.publishSlot({ slot, parent: slot - 1n, status: "processed" });
      for (let i = 0; i < 2 * KEYS; i++) {
        const data = new Uint8Array(400 + 97 * ((round + i) % 9));
        const fields = { owner: ownerKey(1), lamports: 1n, data, slot, writeVersion: BigInt(round * KEYS + i) };
        sender.publishAccount({ ...fields, pubkey: accountKey(i * i % KEYS) });
        if (i % 3 === 0) sender.publishTransaction({ slot, index: i, signature, message: data });
      }
      sender.publishSlot({ slot, parent: slot - 1n, status: "processed" });
      sender.publishSlot({ slot: slot - 1n, parent: slot - 2n, status: "confirmed" });
      // Most of the time it is too slow; now and then it reads all there is.
      barriers.read(consumer, 1 + round % 7);
      if (round % 10 === 9) await caughtUp(consumer, barriers);
    }
    await caughtUp(consumer, barriers);
    for (let slot = 10n; slot < 10n + BigInt(ROUNDS / 4); slot++) {
      sender.publishSlot({ slot, parent: slot - 1n, status: "confirmed" });
    }
    await caughtUp(consumer, barriers);
    assert.ok(barriers.count > ROUNDS / 4 && barriers.lost > 0, `${barriers.count} frames said ${barriers.lost} lost`);

    async function caughtUp(consumer: Consumer, barriers: Barriers): Promise<void> {
      while (barriers.read(consumer, 1000) > 0 || sender.consumers()[0]!.waiting.frames > 0) {
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    }
  });
}
