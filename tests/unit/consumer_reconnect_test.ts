/**
 * A consumer over several connections: in what order things are told, what is restored, what ends it. In one process with
 * its senders; tests/crash/reconnect_test.ts kills real ones.
 * May touch: the public API, senders that do as they are told.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  addressFromBytes,
  type ConnectionEvent,
  type Consumer,
  type ConsumerOptions,
  load,
  type LostEvent,
  type ResumedEvent,
  type Sender,
  setupConsumer,
  type UpdateView,
} from "../../mod.ts";
import { LinkKind } from "../../src/native/abi.generated.ts";
import type { Native } from "../../src/native/native.ts";
import { type Footprint, footprintOf, settlesAt } from "../support/footprint.ts";
import { message, RawSender } from "../support/raw_peer.ts";
import { CountedSignal } from "./support/counted_signal.ts";
import { CAPACITY_BYTES, Place } from "./support/place.ts";
import { ScriptedSender } from "./support/scripted_sender.ts";
import { accountUpdate, keyOf, slotUpdate, transactionUpdate } from "./support/updates.ts";
import { turn, until, within } from "./support/watchdog.ts";

const native = await load() as Native;
const QUICK = { minMs: 1, maxMs: 5 };

/** A consumer that goes on, and what it says. */
async function opened(
  place: Place,
  options: ConsumerOptions = {},
): Promise<{ consumer: Consumer; events: ConnectionEvent[] }> {
  const events: ConnectionEvent[] = [];
  const onConnection = (event: ConnectionEvent) => void events.push(event);
  return { consumer: await place.consumer({ reconnect: QUICK, onConnection, ...options }), events };
}

const typesOf = (events: readonly ConnectionEvent[]) =>
  events.map(({ type }) => type).filter((type, i, all) => type !== "failed" || all[i - 1] !== "failed");

async function next(consumer: Consumer): Promise<UpdateView> {
  const update = await within(consumer.next(), "an update");
  assert.ok(update !== undefined);
  return update;
}

async function nextLost(consumer: Consumer): Promise<LostEvent> {
  const update = await next(consumer);
  assert.ok(update.kind === "connection" && update.event.type === "lost", update.kind);
  return update.event;
}

async function nextResumed(consumer: Consumer): Promise<ResumedEvent> {
  const update = await next(consumer);
  assert.ok(update.kind === "connection" && update.event.type === "resumed", update.kind);
  return update.event;
}

/** A new sender at the same path, that knows the consumer. */
async function restart(place: Place, before: Sender | undefined): Promise<Sender> {
  await before?.close();
  const sender = await place.sender();
  await until(() => sender.metrics.consumers === 1, "the consumer at the new sender");
  return sender;
}

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

test("all filters are restored as they were edited, under the same names and bits", async () => {
  await using place = new Place();
  const sender = await place.sender();
  const { consumer } = await opened(place, { marks: true });
  const [one, two, three, owner] = [keyOf(11), keyOf(12), keyOf(13), keyOf(14)];
  await consumer.subscribe({ accounts: [one, addressFromBytes(two)], owners: [owner] });
  await consumer.subscribe({ accounts: [three], transactions: true });
  await consumer.unsubscribe({ accounts: [one], transactions: true });
  await consumer.setFilter("gone", { slots: true });
  await consumer.setFilter("replaced", { accounts: { accounts: [one] } });
  await consumer.setFilter("rich", { accounts: { owners: [one], lamports: { gt: 10n } } });
  await consumer.setFilter("ends", { slots: { statuses: ["finalized"] } });
  await consumer.removeFilter("gone");
  await consumer.setFilter("replaced", { accounts: { owners: [two] } });
  await consumer.editFilter("rich", { add: [three], remove: [one] });
  await consumer.setFilter("all", { transactions: true });

  const publish = (sender: Sender) => {
    const none = keyOf(99);
    for (const pubkey of [one, two, three, none]) {
      for (const owned of [one, two, three, owner, none]) {
        for (const lamports of [10n, 11n]) sender.publishAccount(accountUpdate({ pubkey, owner: owned, lamports }));
      }
    }
    sender.publishTransaction(transactionUpdate());
    sender.publishSlot(slotUpdate());
    sender.publishSlot(slotUpdate({ status: "finalized" }));
  };
  const take = async (sender: Sender) => {
    publish(sender);
    const taken: string[] = [];
    while (true) {
      const update = await next(consumer);
      if (update.kind === "filter") continue;
      const what: unknown[] = update.kind === "account" ? [update.address, update.ownerAddress, update.lamports] : [];
      taken.push([update.kind, update.filters, update.filterMask, update.sequence, ...what].join(" "));
      if (update.kind !== "slot" || update.status !== "finalized") continue;
      consumer.poll(() => assert.fail()); // gives the last one back
      return taken;
    }
  };
  const before = await take(sender);
  assert.ok(before.length > 10 && before.some((line) => line.includes(",rich")), before.join("\n"));
  for (let i = 0; i < 3; i++) {
    const another = await restart(place, i === 0 ? sender : undefined);
    await nextLost(consumer);
    await nextResumed(consumer);
    assert.deepEqual(await take(another), before);
    assert.deepEqual(consumer.filterNames, ["replaced", "rich", "ends", "all"]);
    await another.close();
  }
  assert.equal(consumer.metrics.reconnects, 3);
});

test("generations go on where those of the last connection ended", async () => {
  await using place = new Place();
  const sender = await place.sender();
  const { consumer } = await opened(place, { marks: true });
  await consumer.subscribe({ accounts: [keyOf(1)] });
  await consumer.setFilter("a", { slots: true });
  const old = await consumer.setFilter("b", { slots: true });
  assert.equal(old.generation, 3);
  let sequence = 0n;
  let last = old.generation;
  for (let i = 0, before: Sender | undefined = sender; i < 3; i++, before = undefined) {
    await before?.close();
    while ((await next(consumer)).kind === "filter"); // marks; then the loss
    const another = await restart(place, undefined);
    await nextResumed(consumer);
    assert.ok(consumer.filterGeneration >= last, `${consumer.filterGeneration} after ${last}`);
    const ack = await consumer.setFilter("c", { slots: true });
    assert.ok(ack.generation > last);
    another.publishSlot(slotUpdate());
    for (let generation = consumer.filterGeneration;;) {
      const update = await next(consumer);
      if (update.kind === "slot") break;
      assert.ok(update.kind === "filter" && update.generation > generation);
      generation = update.generation;
    }
    assert.equal(consumer.filterGeneration, ack.generation);
    last = ack.generation;
    sequence = ack.sequence;
    await another.close();
  }
  assert.equal(sequence, 0n);
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

// Edits

test("edits that are asked for while there is no sender wait for the next one, in their order", async () => {
  await using place = new Place();
  const sender = await place.sender();
  const { consumer, events } = await opened(place);
  await consumer.subscribe({ accounts: [keyOf(1)] });
  await sender.close();
  await nextLost(consumer);
  const key = keyOf(2);
  let settled = 0;
  const asked = [
    consumer.subscribe({ accounts: [key] }),
    consumer.setFilter("f", { accounts: { accounts: [keyOf(3)] } }),
    consumer.editFilter("f", { add: [keyOf(4)] }),
    consumer.unsubscribe({ accounts: [keyOf(1)] }),
    consumer.setFilter("g", { slots: true }),
    consumer.removeFilter("g"),
  ].map(async (ack) => {
    const { generation } = await ack;
    settled++;
    return generation;
  });
  key.fill(0); // a caller's buffer is his own again
  assert.deepEqual(consumer.filterNames, ["f"]);
  await assert.rejects(consumer.ping(), { code: "CONNECTION_LOST", reason: "sender-closed" });
  await turn();
  assert.equal(settled, 0);
  const another = await restart(place, undefined);
  // 1 of the first connection, 1 for what was restored.
  assert.deepEqual(await within(Promise.all(asked), "the acknowledgements"), [3, 4, 5, 6, 7, 8]);
  assert.ok(typesOf(events).includes("resumed"));
  const match = (pubkey: Uint8Array) => another.publishAccount(accountUpdate({ pubkey }));
  assert.deepEqual([1, 2, 3, 4, 5].map((seed) => match(keyOf(seed))), [0, 1, 1, 1, 0]);
  // And so they are wanted of the one after that.
  consumer.poll(() => {});
  const third = await restart(place, another);
  const again = (pubkey: Uint8Array) => third.publishAccount(accountUpdate({ pubkey }));
  await until(() => (consumer.poll(() => {}), consumer.metrics.reconnects === 2), "the next connection");
  assert.deepEqual([1, 2, 3, 4, 5].map((seed) => again(keyOf(seed))), [0, 1, 1, 1, 0]);
});

test("edits that wait are rejected by close(), and by the end", async () => {
  for (const end of ["close", "give up"]) {
    await using place = new Place();
    const sender = await place.sender();
    const { consumer } = await opened(place, { reconnect: { ...QUICK, giveUpMs: end === "close" ? Infinity : 20 } });
    await sender.close();
    await nextLost(consumer);
    const asked = [consumer.subscribe({ accounts: [keyOf(1)] }), consumer.setFilter("f", { slots: true })];
    if (end === "close") await consumer.close();
    const code = end === "close" ? "CONSUMER_CLOSED" : "CONNECTION_LOST";
    for (const each of asked) await assert.rejects(within(each, "a rejection"), { code });
    await assert.rejects(consumer.subscribe({}), { code });
  }
});

test("an edit that a sender has not answered when it goes is asked for again of the next one", async () => {
  await using place = new Place();
  const { consumer, scripted } = await (async () => {
    const scripted = new ScriptedSender(native, place.path, { capacityBytes: CAPACITY_BYTES });
    const opening = opened(place, { policy: "disconnect" });
    await scripted.grant();
    return { scripted, ...await opening };
  })();
  const first = consumer.subscribe({ accounts: [keyOf(1)] });
  const request = await scripted.request();
  assert.equal(request.kind, LinkKind.subscribe);
  scripted.ack(request, { sequence: 0n, generation: 1 });
  await within(first, "the first");
  const second = consumer.subscribe({ accounts: [keyOf(2)] });
  const pinging = consumer.ping();
  await scripted.request();
  scripted[Symbol.dispose]();
  await assert.rejects(within(pinging, "the ping"), { code: "CONNECTION_LOST", reason: "sender-gone" });
  const sender = await restart(place, undefined);
  assert.equal((await within(second, "the second")).generation, 3);
  for (const seed of [1, 2]) assert.equal(sender.publishAccount(accountUpdate({ pubkey: keyOf(seed) })), 1);
});

test("what a sender refuses is not asked for again", async () => {
  await using place = new Place();
  const scripted = new ScriptedSender(native, place.path, { capacityBytes: CAPACITY_BYTES });
  const opening = opened(place);
  await scripted.grant();
  const { consumer } = await opening;
  const refused = consumer.subscribe({ accounts: [keyOf(1)] });
  scripted.refuse(await scripted.request(), "no");
  await assert.rejects(within(refused, "a refusal"), { code: "SUBSCRIBE_REFUSED" });
  const granted = consumer.subscribe({ accounts: [keyOf(2)] });
  scripted.ack(await scripted.request(), { sequence: 0n, generation: 1 });
  await within(granted, "a grant");
  scripted[Symbol.dispose]();
  const sender = await restart(place, undefined);
  await nextLost(consumer);
  await nextResumed(consumer);
  assert.deepEqual([1, 2].map((seed) => sender.publishAccount(accountUpdate({ pubkey: keyOf(seed) }))), [0, 1]);
});

test("a sender that refuses what is wanted is no sender: it is said, and tried again", async () => {
  await using place = new Place();
  const sender = await place.sender();
  const { consumer, events } = await opened(place);
  await consumer.subscribe({ accounts: [keyOf(1)] });
  await sender.close();
  const scripted = new ScriptedSender(native, place.path, { capacityBytes: CAPACITY_BYTES });
  await nextLost(consumer);
  await scripted.grant();
  scripted.refuse(await scripted.request(), "too many keys");
  const refusal = () => events.find((event) => event.type === "failed" && /too many keys/.test(event.error.message));
  await until(() => refusal() !== undefined, "the refusal");
  scripted[Symbol.dispose]();
  const another = await restart(place, undefined);
  await nextResumed(consumer);
  assert.equal(another.publishAccount(accountUpdate()), 1);
});

// Ends

/** A consumer whose sender has gone, in one of the states in which it tries again. */
const PHASES: Record<string, (place: Place) => Promise<{ onEnd(): void }>> = {
  pausing: () => Promise.resolve({ onEnd() {} }),
  connecting: async (place) => {
    const sender = new RawSender(native, place.path);
    const link = await sender.accept(); // and says nothing
    return { onEnd: () => (link.close(), sender[Symbol.dispose]()) };
  },
  restoring: async (place) => {
    const sender = new ScriptedSender(native, place.path, { capacityBytes: CAPACITY_BYTES });
    await sender.grant();
    await sender.request(); // and does not answer
    return { onEnd: () => sender[Symbol.dispose]() };
  },
};

async function isCalm(before: Footprint): Promise<void> {
  await settlesAt("self", { ...before, mappings: footprintOf("self").mappings });
}

for (const [phase, enter] of Object.entries(PHASES)) {
  for (const way of ["close", "abort"]) {
    test(`${way} while ${phase}: the end at once, and nothing stays`, async () => {
      await using place = new Place();
      for (const isWarm of [false, true]) {
        const before = footprintOf("self");
        const sender = await place.sender();
        const counted = new CountedSignal();
        const { consumer, events } = await opened(place, {
          signal: counted.signal,
          reconnect: phase === "pausing" ? { minMs: 1_000_000 } : QUICK,
        });
        await consumer.subscribe({ accounts: [keyOf(1)] });
        await sender.close();
        await nextLost(consumer);
        const { onEnd } = await enter(place);
        const reading = consumer.next();
        const asked = consumer.subscribe({ accounts: [keyOf(2)] });
        asked.catch(() => {});
        if (way === "abort") counted.abort();
        else await consumer.close();
        assert.deepEqual(consumer.ended, { reason: "closed" });
        assert.deepEqual(await within(consumer.whenEnded, "the end"), { reason: "closed" });
        assert.equal(await within(reading, "the reader's end"), undefined);
        await assert.rejects(asked, { code: "CONSUMER_CLOSED" });
        assert.equal(counted.listeners, 0);
        onEnd();
        const told = events.length;
        await sender[Symbol.asyncDispose]();
        if (isWarm) await isCalm(before);
        assert.equal(events.length, told);
        assert.equal(consumer.isConnected, false);
      }
    });
  }
}

test("a sender of another version, or of another user, is the end: no loop waits for what can't come", async () => {
  await using place = new Place();
  const sender = await place.sender();
  const { consumer, events } = await opened(place);
  await sender.close();
  const raw = new RawSender(native, place.path);
  await nextLost(consumer);
  const { link, wake } = await raw.acceptHello();
  const text = new TextEncoder().encode("we speak 7");
  const body = new Uint8Array(8 + text.length);
  const view = new DataView(body.buffer);
  view.setInt32(0, -4211, true);
  view.setUint32(4, text.length, true);
  body.set(text, 8);
  const { Status } = await import("../../src/native/abi.generated.ts");
  view.setInt32(0, Status.badVersion, true);
  link.send(message(LinkKind.refuse, body));
  native.wakeNotify(wake);
  await assert.rejects(within(consumer.next(), "the end"), (error: Error & { code?: string; reason?: string }) => {
    assert.deepEqual([error.code, error.reason], ["CONNECTION_LOST", "sender-closed"]);
    assert.equal((error.cause as { code?: string }).code, "CONNECT_VERSION");
    assert.match(error.message, /we speak 7/);
    return true;
  });
  assert.deepEqual(consumer.ended, { reason: "sender-closed" });
  assert.deepEqual(typesOf(events), ["connected", "lost"]);
  link.close();
  native.close(wake);
  raw[Symbol.dispose]();
});

test("giveUpMs ends it: loops throw, with the last attempt's error", async () => {
  await using place = new Place();
  const sender = await place.sender();
  const { consumer, events } = await opened(place, { reconnect: { ...QUICK, giveUpMs: 10 } });
  await sender.close();
  const kinds: string[] = [];
  const reading = (async () => {
    for await (const update of consumer) kinds.push(update.kind);
  })();
  await assert.rejects(within(reading, "the end"), (error: Error & { code?: string }) => {
    assert.equal(error.code, "CONNECTION_LOST");
    assert.equal((error.cause as { code?: string }).code, "CONNECT_NO_SENDER");
    return true;
  });
  assert.deepEqual(kinds, ["connection"]);
  assert.deepEqual(await within(consumer.whenEnded, "the end"), { reason: "sender-closed" });
  assert.ok(!events.some(({ type }) => type === "resumed"));
  await consumer.close();
});

test("reconnect: false ends with the connection; the event says so, the stream does not", async () => {
  await using place = new Place();
  const sender = await place.sender();
  const { consumer, events } = await opened(place, { reconnect: false });
  sender.publishSlot(slotUpdate());
  await sender.close();
  const kinds: string[] = [];
  for await (const update of consumer) kinds.push(update.kind);
  assert.deepEqual(kinds, ["slot"]);
  await turn();
  const [, lost, ...others] = events;
  assert.deepEqual(lost, {
    type: "lost",
    reason: "sender-closed",
    lastSequence: 1n,
    isOverwritten: false,
    retryMs: undefined,
  });
  assert.deepEqual(others, []);
});

test("who closes is told nothing", async () => {
  await using place = new Place();
  await place.sender();
  const { consumer, events } = await opened(place);
  await consumer.close();
  await turn();
  assert.deepEqual(typesOf(events), ["connected"]);
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
