/**
 * A consumer over several connections: in what order things are told, and what goes on. In one process with its senders;
 * tests/crash/reconnect_test.ts kills real ones.
 * May touch: the public API.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type ConnectionEvent, type Consumer, setupConsumer, type UpdateView } from "../../mod.ts";
import { type Footprint, footprintOf, settlesAt } from "../support/footprint.ts";
import { CAPACITY_BYTES, Place } from "./support/place.ts";
import { ScriptedSender } from "./support/scripted_sender.ts";
import { accountUpdate, keyOf, slotUpdate, transactionUpdate } from "./support/updates.ts";
import { turn, until, within } from "./support/watchdog.ts";
import { native, next, nextLost, nextResumed, opened, QUICK, restart, typesOf } from "./support/reconnecting.ts";

test("a consumer reads all of the old sender, is told of the loss, and goes on with the next one", async () => {
  await using place = new Place();
  const sender = await place.sender();
  const { consumer, events } = await opened(place);
  await consumer.subscribe({ accounts: [keyOf(1)] });
  sender.publishAccount(accountUpdate({ lamports: 1n }));
  sender.publishAccount(accountUpdate({ lamports: 2n }));
  await sender.close();
  const lamports: bigint[] = [];
  for (let i = 0; i < 2; i++) {
    const update = await next(consumer);
    assert.ok(update.kind === "account");
    lamports.push(update.lamports);
  }
  assert.deepEqual(lamports, [1n, 2n]);
  assert.equal(consumer.isConnected, true); // nothing is lost that has not been read
  const lost = await nextLost(consumer);
  assert.deepEqual(lost, {
    type: "lost",
    reason: "sender-closed",
    lastSequence: 2n,
    isOverwritten: false,
    retryMs: lost.retryMs,
  });
  assert.ok(lost.retryMs! >= 0.5 && lost.retryMs! <= 1);
  assert.deepEqual([consumer.isConnected, consumer.ended], [false, undefined]);
  assert.equal(await consumer.next(1), undefined);

  const another = await restart(place, undefined);
  const resumed = await nextResumed(consumer);
  assert.deepEqual({ ...resumed, downMs: 0, attempts: 0 }, {
    type: "resumed",
    continuity: "unknown",
    isSameSender: false,
    lastSequence: 2n,
    sequence: 0n,
    downMs: 0,
    attempts: 0,
  });
  assert.ok(resumed.downMs > 0 && resumed.attempts > 0);
  another.publishAccount(accountUpdate({ lamports: 3n }));
  const update = await next(consumer);
  assert.ok(update.kind === "account");
  assert.deepEqual([update.lamports, update.sequence, consumer.isConnected], [3n, 1n, true]);
  assert.deepEqual(typesOf(events).filter((type) => type !== "failed"), ["connected", "lost", "connected", "resumed"]);
  const connected = events.filter((event) => event.type === "connected");
  assert.deepEqual(connected.map(({ protocol, connection }) => [protocol, connection]), [["native", 1], ["native", 2]]);
  for (const { senderId } of connected) assert.match(senderId!, /^[0-9a-f]{32}$/);
  assert.notEqual(connected[0]!.senderId, connected[1]!.senderId);
  for (const event of events) {
    if (event.type !== "failed") continue;
    assert.equal((event.error as { code?: string }).code, "CONNECT_NO_SENDER");
    assert.ok(event.attempt > 0 && event.retryMs > 0);
  }
});

test("every way of reading sees the seam where it is", async () => {
  const ways: Record<string, (consumer: Consumer, note: (update: UpdateView) => boolean) => Promise<void>> = {
    "for await": async (consumer, note) => {
      for await (const update of consumer) if (note(update)) return;
    },
    "batches": async (consumer, note) => {
      for await (const batch of consumer.batches()) for (const update of batch) if (note(update)) return;
    },
    "poll": async (consumer, note) => {
      for (let isOver = false; !isOver;) {
        if (consumer.poll((update) => void (isOver ||= note(update)), 1) === 0) await turn();
      }
    },
    "next": async (consumer, note) => {
      while (!note(await next(consumer)));
    },
  };
  for (const [name, read] of Object.entries(ways)) {
    for (const idle of ["adaptive", "park", "yield", "spin"] as const) {
      await using place = new Place();
      const sender = await place.sender();
      const { consumer } = await opened(place, { idle });
      const kinds: string[] = [];
      const reading = read(consumer, (update) => {
        kinds.push(update.kind === "connection" ? update.event.type : `${update.kind} ${update.sequence}`);
        return kinds.length === 5;
      });
      sender.publishSlot(slotUpdate());
      sender.publishSlot(slotUpdate());
      (await restart(place, sender)).publishSlot(slotUpdate());
      await within(reading, `${name}, ${idle}`);
      assert.deepEqual(kinds, ["slot 1", "slot 2", "lost", "resumed", "slot 1"], `${name}, ${idle}`);
    }
  }
});

test("tryNext…() goes on by itself, without seams", async () => {
  await using place = new Place();
  const sender = await place.sender();
  const { consumer } = await opened(place);
  sender.publishSlot(slotUpdate({ slot: 1n }));
  await sender.close();
  assert.equal(consumer.tryNextSlot()?.slot, 1n);
  for (let i = 0; i < 5; i++) assert.equal(consumer.tryNextSlot(), undefined);
  (await restart(place, undefined)).publishSlot(slotUpdate({ slot: 2n }));
  let copy: { slot: bigint } | undefined;
  await until(() => (copy = consumer.tryNextSlot()) !== undefined, "the slot");
  assert.equal(copy?.slot, 2n);
});

test("a seam is an update like others, and lasts", async () => {
  await using place = new Place();
  const sender = await place.sender();
  const { consumer } = await opened(place);
  sender.publishSlot(slotUpdate());
  const slot = await next(consumer);
  await sender.close();
  const lost = await next(consumer);
  assert.throws(() => slot.sequence, TypeError);
  (await restart(place, undefined)).publishSlot(slotUpdate());
  const resumed = await next(consumer);
  await next(consumer);
  assert.ok(lost.kind === "connection" && resumed.kind === "connection");
  for (const seam of [lost, resumed]) {
    assert.deepEqual([seam.sequence, seam.sequenceNumber, seam.lost, seam.conflated, seam.sourceNs], [1n, 1, 0, 0, 0n]);
    assert.deepEqual([seam.filters, seam.filterMask, seam.lossy], [[], 0n, true]);
    assert.ok(seam.ageUs >= 0 && seam.publishNs > 0n);
    const { kind, event, sequence, publishNs, sourceNs, lost, conflated, lossy } = seam;
    assert.deepEqual(seam.copy(), { kind, event, sequence, publishNs, sourceNs, lost, conflated, lossy });
  }
  assert.equal(consumer.metrics.frames, 2); // not what the sender has sent
});

test("who does not read is told of the first loss and the last resumption alone", async () => {
  await using place = new Place();
  const { sender } = { sender: await place.sender() };
  const { consumer, events } = await opened(place);
  let another = await restart(place, sender);
  for (let i = 0; i < 5; i++) {
    await until(() => events.at(-1)?.type === "resumed", "resumed");
    another = await restart(place, another);
  }
  await until(() => events.filter(({ type }) => type === "resumed").length === 6, "the last");
  another.publishSlot(slotUpdate());
  const kinds: string[] = [];
  consumer.poll((update) => void kinds.push(update.kind === "connection" ? update.event.type : update.kind));
  assert.deepEqual(kinds, ["lost", "resumed", "slot"]);
  assert.equal(consumer.metrics.reconnects, 6);
});

test("metrics, freshness and identity over several connections", async () => {
  await using place = new Place();
  const stale: boolean[] = [];
  const sender = await place.sender();
  const { consumer } = await opened(place, { staleAfterSlots: 2, onStale: ({ isStale }) => stale.push(isStale) });
  sender.publishSlot(slotUpdate({ slot: 100n }));
  sender.publishSlot(slotUpdate({ slot: 101n }));
  assert.equal(consumer.poll(() => {}), 2);
  assert.equal(consumer.isStale, false);
  const { connectedAt } = consumer.metrics;
  await sender.close();
  await nextLost(consumer);
  assert.equal(consumer.isStale, true); // nobody can tell what was missed
  assert.deepEqual(consumer.freshness(), { seenSlot: 101n, knownSlot: 101n, behind: 0 });
  assert.deepEqual(consumer.lag(), { bytes: 0, frames: 0, ageUs: 0 });
  assert.deepEqual([consumer.metrics.connectedAt, consumer.protocol], [undefined, "native"]);
  assert.deepEqual(consumer.policy, { accounts: "disconnect", transactions: "disconnect" });
  assert.equal(consumer.slotToken, undefined);

  const another = await restart(place, undefined);
  await nextResumed(consumer);
  assert.equal(consumer.isStale, true); // nothing of the new sender has been seen yet
  another.publishSlot(slotUpdate({ slot: 105n }));
  assert.equal(consumer.freshness().behind, 4);
  assert.equal(consumer.lag().frames, 1);
  assert.equal(consumer.poll(() => {}), 1);
  assert.equal(consumer.isStale, false);
  const { frames, connection, reconnects, connectedAt: again, ring } = consumer.metrics;
  assert.deepEqual([frames, connection.frames, reconnects, ring.capacityBytes], [3, 1, 1, CAPACITY_BYTES]);
  assert.ok(again! >= connectedAt!);
  await turn();
  assert.deepEqual(stale, [true, false]);
});

test("slots of a new chain are seen, however low", async () => {
  await using place = new Place();
  const sender = await place.sender();
  const { consumer } = await opened(place);
  sender.publishSlot(slotUpdate({ slot: 1_000_000n }));
  assert.equal(consumer.poll(() => {}), 1);
  const another = await restart(place, sender);
  another.publishSlot(slotUpdate({ slot: 5n }));
  await until(() => consumer.poll(() => {}) > 0 && consumer.freshness().seenSlot === 5n, "the slot");
});

test("a slow consumer gets what its ring held, and connects again", async () => {
  await using place = new Place();
  const sender = await place.sender({ poolBytes: 0 });
  const { consumer } = await opened(place);
  const data = new Uint8Array(1000);
  await consumer.subscribe({ accounts: [keyOf(1)] });
  let published = 0n;
  while (sender.publishAccount(accountUpdate({ data })) === 1) published++;
  for (let i = 1n; i <= published; i++) assert.equal((await next(consumer)).sequence, i);
  const lost = await nextLost(consumer);
  assert.deepEqual([lost.reason, lost.lastSequence], ["slow-consumer", published]);
  const resumed = await nextResumed(consumer);
  assert.deepEqual([resumed.isSameSender, resumed.lastSequence], [true, published]);
  assert.equal(resumed.sequence, published + 1n); // one was published for nobody
  sender.publishAccount(accountUpdate({ data }));
  assert.equal((await next(consumer)).sequence, published + 2n);
});

test("a sender that takes everybody and drops them at once is asked ever more rarely", async () => {
  await using place = new Place();
  const sender = await place.sender();
  const { consumer, events } = await opened(place, { reconnect: { minMs: 1, maxMs: 64 } });
  await sender.close();
  for (let i = 0; i < 9; i++) {
    const scripted = new ScriptedSender(native, place.path, { capacityBytes: CAPACITY_BYTES });
    await scripted.grant();
    scripted[Symbol.dispose]();
    await until(() => events.filter(({ type }) => type === "lost").length === i + 2, "the next loss");
  }
  // Pauses double, whether an attempt failed or what it made did not last.
  const pauses = events.flatMap((event) => event.type === "lost" || event.type === "failed" ? [event.retryMs!] : []);
  pauses.forEach((ms, i) => {
    const longest = Math.min(64, 2 ** i);
    assert.ok(ms > longest / 2 - 1e-9 && ms <= longest, `pause ${i} of ${pauses.join(", ")}`);
  });
  await consumer.close();
});

test("waitForSenderMs waits for the first sender; without it there has to be one", async () => {
  await using place = new Place();
  const failed: ConnectionEvent[] = [];
  const waiting = place.consumer({ waitForSenderMs: Infinity, reconnect: QUICK, onConnection: (e) => failed.push(e) });
  await until(() => failed.length > 2, "attempts");
  const sender = await place.sender();
  const consumer = await within(waiting, "a consumer");
  await turn();
  const connected = failed.at(-1)!;
  assert.ok(connected.type === "connected" && connected.attempts === failed.length);
  sender.publishSlot(slotUpdate());
  assert.equal((await next(consumer)).kind, "slot"); // and no seam
  await sender.close();
  await consumer.close();
  await assert.rejects(setupConsumer(place.path), { code: "CONNECT_NO_SENDER" });
  await assert.rejects(setupConsumer(place.path, { waitForSenderMs: 20 }), { code: "CONNECT_NO_SENDER" });
  const aborting = new AbortController();
  const late = setupConsumer(place.path, { waitForSenderMs: Infinity, signal: aborting.signal });
  aborting.abort(new Error("enough"));
  await assert.rejects(within(late, "the end"), /enough/);
});

test("wire version 9: a new slot, subscriptions again", async () => {
  await using place = new Place();
  const sender = await place.sender();
  const { consumer, events } = await opened(place, { protocol: "v9" });
  const before = consumer.slotToken;
  await consumer.subscribe({ accounts: [keyOf(1)], owners: [keyOf(5)] });
  await consumer.subscribe({ transactions: true });
  sender.publishAccount(accountUpdate());
  await sender.close();
  assert.equal((await next(consumer)).kind, "account");
  const lost = await nextLost(consumer);
  assert.equal(lost.reason, "sender-closed");
  const asked = consumer.subscribe({ accounts: [keyOf(9)] });
  const another = await restart(place, undefined);
  const resumed = await nextResumed(consumer);
  assert.deepEqual([resumed.isSameSender, resumed.continuity], [undefined, "unknown"]);
  await within(asked, "the acknowledgement");
  assert.ok(consumer.slotToken !== undefined && consumer.slotToken !== before);
  for (
    const [fields, count] of [[{}, 1], [{ pubkey: keyOf(9) }, 1], [{ pubkey: keyOf(8), owner: keyOf(5) }, 1], [{
      pubkey: keyOf(8),
    }, 0]] as const
  ) {
    assert.equal(another.publishAccount(accountUpdate(fields)), count);
  }
  another.publishTransaction(transactionUpdate());
  const kinds = [];
  for (let i = 0; i < 4; i++) kinds.push((await next(consumer)).kind);
  assert.deepEqual(kinds, ["account", "account", "account", "transaction"]);
  assert.deepEqual(events.flatMap((event) => event.type === "connected" ? [event.protocol] : []), ["v9", "v9"]);
  await consumer.close();
});

test("a hundred restarts leave no descriptor, and no mapping but those that views may still be looking at", async () => {
  await using place = new Place();
  let sender = await place.sender();
  const { consumer } = await opened(place);
  await consumer.subscribe({ accounts: [keyOf(1)] });
  await consumer.setFilter("f", { accounts: { owners: [keyOf(3)] } });
  await sender.close();
  await nextLost(consumer);
  let before: Footprint | undefined;
  for (let i = 0; i < 100; i++) {
    sender = await place.sender();
    await nextResumed(consumer);
    await until(
      () => sender.publishAccount(accountUpdate({ owner: keyOf(3), lamports: BigInt(i) })) === 1,
      "the filters",
    );
    for (let isOver = false; !isOver;) {
      const update = await next(consumer);
      isOver = update.kind === "account" && update.lamports === BigInt(i);
    }
    await sender.close();
    await nextLost(consumer);
    if (i === 70) before = footprintOf("self"); // more rings than are kept for views that somebody still has
  }
  await settlesAt("self", before!);
  assert.equal(consumer.metrics.reconnects, 100);
});
