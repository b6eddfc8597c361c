/**
 * A consumer over several connections: what ends it while it tries again, and what stays then. In one process with its senders.
 * May touch: the public API, senders that do as they are told.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { LinkKind } from "../../src/native/abi.generated.ts";
import { type Footprint, footprintOf, settlesAt } from "../support/footprint.ts";
import { message, RawSender } from "../support/raw_peer.ts";
import { CountedSignal } from "./support/counted_signal.ts";
import { CAPACITY_BYTES, Place } from "./support/place.ts";
import { ScriptedSender } from "./support/scripted_sender.ts";
import { keyOf, slotUpdate } from "./support/updates.ts";
import { turn, within } from "./support/watchdog.ts";
import { native, nextLost, opened, QUICK, typesOf } from "./support/reconnecting.ts";

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
