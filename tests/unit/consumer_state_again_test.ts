/**
 * A consumer that asked for state and whose sender starts again: real senders that keep state.
 * May touch: the public API.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Consumer, ResumedEvent, Sender } from "../../mod.ts";
import { Place } from "./support/place.ts";
import { accountUpdate, keyOf, slotUpdate } from "./support/updates.ts";
import { within } from "./support/watchdog.ts";

const STATE = { state: { maxBytes: 4 << 20, keep: "all" }, poolBytes: 0 } as const;
const OWNER = keyOf(200);

/** What a bot would keep of each account: the newest update in the order of the stream. */
class Cache {
  readonly lamports = new Map<string, bigint>();
  /** Of the last time that it became complete. */
  known = 0;
  readonly seams: (string | ResumedEvent["continuity"])[] = [];

  constructor(readonly consumer: Consumer) {}

  /** Reads until as many snapshots have come. */
  async complete(count: number): Promise<void> {
    for (let completed = 0; completed < count;) {
      const update = await within(this.consumer.next(), "a snapshot");
      if (update?.kind === "account") this.lamports.set(update.address, update.lamports);
      if (update?.kind === "connection") {
        this.seams.push(update.event.type === "lost" ? update.event.reason : update.event.continuity);
      }
      if (update?.kind !== "snapshot-complete") continue;
      completed++;
      this.known = update.known;
    }
    this.consumer.poll(() => assert.fail());
  }
}

function publish(sender: Sender, key: number, lamports: bigint, slot = 1n): void {
  sender.publishAccount(accountUpdate({ pubkey: keyOf(key), owner: OWNER, lamports, slot }));
}

test("a sender that starts again: state of all that asked for it, and only then what changes", async () => {
  await using place = new Place();
  let sender = await place.sender(STATE);
  for (let key = 1; key <= 50; key++) publish(sender, key, 1n);
  const consumer = await place.consumer({ reconnect: { minMs: 1, maxMs: 5 } });
  const cache = new Cache(consumer);
  await consumer.subscribe({ accounts: [keyOf(1), keyOf(2)], state: true });
  await consumer.setFilter("mine", { accounts: { owners: [OWNER] }, state: true });
  await cache.complete(2);
  assert.equal(cache.lamports.size, 50);
  for (let round = 2n; round <= 4n; round++) {
    await sender.close();
    sender = await place.sender(STATE);
    for (let key = 1; key <= 40; key++) publish(sender, key, round, round);
    await cache.complete(2);
    assert.equal(cache.known, 40);
    assert.deepEqual(cache.seams.splice(0), ["sender-closed", "state"]);
    assert.deepEqual([...cache.lamports.values()].filter((lamports) => lamports === round).length, 40);
    publish(sender, 1, 100n, round);
    const update = await within(consumer.next(), "a change");
    assert.ok(update?.kind === "account" && update.lamports === 100n && !update.isState);
    consumer.poll(() => assert.fail());
  }
});

test("what was asked for without state makes the gap unknown; a sender that keeps none, too", async () => {
  await using place = new Place();
  const sender = await place.sender(STATE);
  const consumer = await place.consumer({ reconnect: { minMs: 1, maxMs: 5 } });
  const cache = new Cache(consumer);
  publish(sender, 1, 1n);
  await consumer.subscribe({ accounts: [keyOf(1)], state: true });
  await cache.complete(1);
  await sender.close();
  const without = await place.sender({ poolBytes: 0 });
  await cache.complete(1); // it knows nothing, and says so
  assert.equal(cache.known, 0);
  assert.deepEqual(cache.seams.splice(0), ["sender-closed", "unknown"]);
  await consumer.subscribe({ accounts: [keyOf(2)] });
  await without.close();
  const again = await place.sender(STATE);
  await cache.complete(1);
  assert.deepEqual(cache.seams, ["sender-closed", "unknown"]);
  again.publishSlot(slotUpdate());
  assert.equal((await within(consumer.next(), "a slot"))?.kind, "slot");
});
