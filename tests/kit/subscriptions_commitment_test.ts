/**
 * kit's RPC subscriptions over a local feed: what is held until a slot update says that it has its commitment, and for how long.
 * May touch: the public API, kit. May not touch: the parts of the kit entry.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { accountUpdate } from "../unit/support/updates.ts";
import { turn, until } from "../unit/support/watchdog.ts";
import { CLOSED, lamportsOf, next, PLAN, refusal, Stage } from "./support/subscriptions_stage.ts";

test("kit's default is confirmed: held until a slot update says so, never relabelled", async () => {
  await using stage = await Stage.open();
  const [processed, byDefault, confirmed, finalized] = [
    await stage.vault("processed"),
    await stage.vault(),
    await stage.vault("confirmed"),
    await stage.vault("finalized"),
  ];
  stage.write(1n, 10n);
  stage.write(2n, 10n);
  stage.slot(10n, "processed");
  stage.write(3n, 11n);
  stage.slot(11n, "processed");
  assert.deepEqual([await lamportsOf(processed), await lamportsOf(processed), await lamportsOf(processed)], [
    1n,
    2n,
    3n,
  ]);
  stage.slot(10n, "confirmed");
  assert.deepEqual([await lamportsOf(byDefault), await lamportsOf(confirmed)], [2n, 2n]); // of a slot the last
  stage.slot(11n, "finalized");
  assert.deepEqual([await lamportsOf(confirmed), await lamportsOf(finalized), await lamportsOf(finalized)], [
    3n,
    2n,
    3n,
  ]);
});

test("what a dead bank wrote is never told beyond processed", async () => {
  await using stage = await Stage.open();
  const confirmed = await stage.vault("confirmed");
  stage.write(1n, 10n);
  stage.slot(10n, "dead");
  stage.write(2n, 11n);
  stage.slot(11n, "confirmed");
  assert.equal(await lamportsOf(confirmed), 2n);
});

test("a feed that never tells of the commitment is an error, by slots and by bytes", async () => {
  await using stage = await Stage.open({ holdSlots: 3, holdBytes: 100_000 });
  const slow = await stage.vault("finalized");
  stage.write(1n, 1n);
  for (let slot = 1n; slot <= 5n; slot++) stage.slot(slot, "processed");
  assert.deepEqual(await refusal(next(slow)), { kit: CLOSED, own: "KIT_COMMITMENT_LATE" });
  await until(() => stage.keysWanted === 0, "the end of interest");

  const large = await stage.vault("finalized");
  for (let slot = 6n; slot < 9n; slot++) {
    const { frames } = stage.consumer.metrics;
    stage.sender.publishAccount(accountUpdate({ slot, data: new Uint8Array(50_000) }));
    // Its ring is small. What is too much ends the interest, and then no more comes.
    await until(() => stage.consumer.metrics.frames > frames || stage.keysWanted === 0, "the write");
    await turn();
  }
  assert.deepEqual(await refusal(next(large)), { kit: CLOSED, own: "KIT_COMMITMENT_LATE" });
});

test("a feed of a higher commitment hands on what it has, and refuses what is below", async () => {
  await using stage = await Stage.open({ feedCommitment: "confirmed" });
  const confirmed = await stage.vault("confirmed");
  stage.write(1n, 1n);
  assert.equal(await lamportsOf(confirmed), 1n);
  assert.deepEqual(await refusal(stage.vault("processed")), { kit: PLAN, own: "KIT_UNSUPPORTED" });
});
