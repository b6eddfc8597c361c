/**
 * A consumer that comes back to the sender that it had lost: what it asks for, what it wants again, what it tells. The
 * sender does as the test says; tests of real ones: state_test.ts, and tests/crash.
 * May touch: the public API, a sender that does as it is told.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Consumer, type ConsumerOptions, load, type ResumedEvent, type UpdateView } from "../../mod.ts";
import { LinkKind } from "../../src/native/abi.generated.ts";
import type { Native } from "../../src/native/native.ts";
import { decodeSubscribe, type Hello, type Message, type SubscribeRequest } from "../../src/wire/messages.ts";
import { CAPACITY_BYTES, Place } from "./support/place.ts";
import { type Granted, ScriptedSender } from "./support/scripted_sender.ts";
import { accountUpdate, keyOf, slotUpdate } from "./support/updates.ts";
import { until, within } from "./support/watchdog.ts";

const native = await load() as Native;
const ONE = keyOf(101).subarray(0, 16);
const OTHER = keyOf(102).subarray(0, 16);
const slot = (slot: bigint) => ({
  ...slotUpdate({ slot }),
  ...{ bankId: 0n, lossy: false, sourceNs: 0n },
  ...{ accountsPublished: 0, transactionsPublished: 0, accountsLost: 0, transactionsLost: 0 },
});

async function next(consumer: Consumer): Promise<UpdateView> {
  const update = await within(consumer.next(), "an update");
  assert.ok(update !== undefined);
  return update;
}

/** The next seam, which has to come now. */
async function seam(consumer: Consumer): Promise<string> {
  const update = await next(consumer);
  assert.ok(update.kind === "connection", update.kind);
  const { event } = update;
  if (event.type === "lost") return `lost after ${event.lastSequence}`;
  const { continuity, isSameSender, lastSequence, sequence } = event satisfies ResumedEvent;
  const whose = isSameSender === true ? "the same" : "another";
  return `${continuity}, ${whose}, from ${lastSequence} to ${sequence}`;
}

/** Senders at one place, one after another, and one consumer of them all. */
class Stage implements AsyncDisposable {
  readonly place = new Place();
  consumer!: Consumer;
  sender!: ScriptedSender;

  async open(granted: Partial<Granted>, options: ConsumerOptions = {}): Promise<Hello> {
    this.sender = new ScriptedSender(native, this.place.path, { capacityBytes: CAPACITY_BYTES });
    const opening = this.place.consumer({ reconnect: { minMs: 1, maxMs: 5 }, ...options });
    const hello = await this.sender.grant(granted);
    this.consumer = await within(opening, "a consumer");
    return hello;
  }

  /** The sender goes, another one comes. Returns what the consumer says to it. */
  async restart(granted: Partial<Granted>): Promise<Hello> {
    this.sender[Symbol.dispose]();
    this.sender = new ScriptedSender(native, this.place.path, { capacityBytes: CAPACITY_BYTES });
    return await this.sender.grant(granted);
  }

  /** The next request, which has to be a subscription. It is acknowledged. */
  async subscription(generation = 1): Promise<SubscribeRequest> {
    const request = await this.sender.request();
    assert.equal(request.kind, LinkKind.subscribe);
    this.sender.ack(request, { sequence: 1n, generation });
    return decodeSubscribe(request);
  }

  async start(): Promise<Message> {
    const request = await this.sender.request();
    assert.equal(request.kind, LinkKind.start);
    this.sender.ack(request, { sequence: 0n, generation: 0 });
    return request;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.consumer?.close();
    this.sender?.[Symbol.dispose]();
    await this.place[Symbol.asyncDispose]();
  }
}

test("it asks to go on behind the last update that was handed out, and is told that nothing is missing", async () => {
  await using stage = new Stage();
  const first = await stage.open({ senderId: ONE, sequence: 0n });
  assert.equal(first.resume, undefined);
  const { consumer } = stage;
  const subscribing = consumer.subscribe({ accounts: [keyOf(1)] });
  await stage.subscription();
  await subscribing;
  for (const number of [1n, 2n, 3n]) stage.sender.engine.publish(slot(number));
  for (let i = 0; i < 3; i++) assert.equal((await next(consumer)).kind, "slot");
  consumer.poll(() => assert.fail());
  const losing = seam(consumer);
  const hello = await stage.restart({
    senderId: ONE,
    sequence: 9n,
    historyFrom: 1n,
    isResumed: true,
    hasHistory: true,
  });
  assert.deepEqual(hello.resume, { senderId: ONE, after: 3n });
  assert.equal(await losing, "lost after 3");
  const { accounts, state } = await stage.subscription();
  assert.deepEqual([accounts, state], [[keyOf(1)], false]);
  await stage.start();
  assert.equal(await seam(consumer), "complete, the same, from 3 to 3");
  stage.sender.engine.publish(slot(4n));
  stage.sender.engine.mark({ kind: "resumed", after: 3n, replayedTo: 9n, liveAfter: 9n, sourceNs: 0n });
  stage.sender.engine.publish(slot(5n));
  assert.deepEqual([(await next(consumer)).kind, (await next(consumer)).kind], ["slot", "slot"]); // the mark is hidden
});

test("edits without an answer are asked for behind what was missed", async () => {
  await using stage = new Stage();
  await stage.open({ senderId: ONE, sequence: 5n });
  const { consumer } = stage;
  const asked = consumer.subscribe({ accounts: [keyOf(1)] });
  await stage.sender.request();
  const losing = seam(consumer);
  const hello = await stage.restart({ senderId: ONE, sequence: 9n, isResumed: true });
  assert.deepEqual(hello.resume, { senderId: ONE, after: 5n }); // from where the first connection began
  await losing;
  await stage.start();
  assert.deepEqual((await stage.subscription()).accounts, [keyOf(1)]);
  await within(asked, "the acknowledgement");
  assert.equal(await seam(consumer), "complete, the same, from 0 to 5");
});

test("state is wanted again of a sender that does not resume, and of one that does only what had not come", async () => {
  await using stage = new Stage();
  const keeps = { senderId: ONE, sequence: 5n, hasState: true };
  await stage.open(keeps);
  const { consumer } = stage;
  const asking = consumer.subscribe({ accounts: [keyOf(1)], state: true });
  assert.equal((await stage.subscription(1)).state, true);
  await asking;

  // The connection ends before the state has come.
  await stage.restart({ ...keeps, isResumed: true });
  assert.equal((await stage.subscription(1)).state, true);
  await stage.start();
  assert.deepEqual([await seam(consumer), await seam(consumer)], ["lost after 0", "complete, the same, from 0 to 5"]);
  stage.sender.engine.mark(
    { kind: "snapshot-complete", asOfSequence: 5n, known: 0n, generation: 1, sourceNs: 0n },
    { filterMask: 1n },
  );
  const complete = await next(consumer);
  assert.ok(complete.kind === "snapshot-complete");
  assert.equal(complete.generation, 2); // 1 of the first connection
  consumer.poll(() => assert.fail());

  // It has come.
  await stage.restart({ ...keeps, isResumed: true });
  assert.equal((await stage.subscription(1)).state, false);
  await stage.start();
  assert.deepEqual([await seam(consumer), await seam(consumer)], ["lost after 0", "complete, the same, from 0 to 5"]);

  // Another sender knows nothing of what was missed.
  await stage.restart({ ...keeps, senderId: OTHER });
  assert.equal((await stage.subscription(1)).state, true);
  assert.deepEqual([await seam(consumer), await seam(consumer)], ["lost after 0", "state, another, from 0 to 1"]);

  // And one that keeps no state can't make up for it.
  await stage.restart({ senderId: keyOf(103).subarray(0, 16), sequence: 5n });
  await stage.subscription(1);
  assert.deepEqual([await seam(consumer), await seam(consumer)], ["lost after 0", "unknown, another, from 0 to 1"]);
});

test("state of some filters is no state of all", async () => {
  await using stage = new Stage();
  await stage.open({ senderId: ONE, hasState: true });
  const { consumer } = stage;
  for (const state of [true, false]) {
    const asking = consumer.subscribe({ accounts: [keyOf(state ? 1 : 2)], state });
    await stage.subscription(1);
    await asking;
  }
  await stage.restart({ senderId: OTHER, hasState: true });
  const [one, other] = [await stage.subscription(1), await stage.subscription(2)];
  assert.deepEqual([one.accounts, one.state, other.accounts, other.state], [[keyOf(2)], false, [keyOf(1)], true]);
  assert.deepEqual([await seam(consumer), await seam(consumer)], ["lost after 0", "unknown, another, from 0 to 1"]);
});

for (const state of [true, false]) {
  test(`a history that was too short is told where it is${state ? ", and state makes up for it" : ""}`, async () => {
    await using stage = new Stage();
    await stage.open({ senderId: ONE, sequence: 5n, hasState: true }, { marks: true });
    const { consumer } = stage;
    const asking = consumer.subscribe({ accounts: [keyOf(1)], state });
    await stage.subscription(1);
    await asking;
    stage.sender.engine.mark(
      { kind: "snapshot-complete", asOfSequence: 5n, known: 0n, generation: 1, sourceNs: 0n },
      { filterMask: 1n },
    );
    assert.equal((await next(consumer)).kind, "snapshot-complete");
    consumer.poll(() => assert.fail());
    await stage.restart({ senderId: ONE, sequence: 20n, hasState: true, isResumed: true });
    assert.equal((await stage.subscription(1)).state, false);
    await stage.start();
    assert.deepEqual([await seam(consumer), await seam(consumer)], ["lost after 0", "complete, the same, from 0 to 5"]);
    const { engine } = stage.sender;
    engine.publish(slot(1n));
    engine.mark({ kind: "resumed", after: 5n, replayedTo: 8n, liveAfter: 12n, sourceNs: 0n });
    engine.publish(slot(2n));
    assert.equal((await next(consumer)).kind, "slot");
    assert.equal(await seam(consumer), `${state ? "state" : "unknown"}, the same, from 8 to 12`);
    if (state) assert.equal((await stage.subscription(2)).state, true);
    assert.equal((await next(consumer)).kind, "slot");
  });
}

test("what matched by an edit without an answer may have left meanwhile: a cache asks for it again, whole", async () => {
  await using stage = new Stage();
  const keeps = { senderId: ONE, sequence: 5n, hasState: true, hasHistory: true };
  await stage.open(keeps, { cache: { refreshMs: 1 } });
  const { consumer } = stage;
  const { accounts } = consumer;
  const [byKey, byOwner, owner] = [keyOf(1), keyOf(3), keyOf(2)];
  /** The edit is in force, and all that it matches has been sent. */
  const complete = (generation: number) => {
    const { engine } = stage.sender;
    engine.mark({ kind: "filter", generation, sourceNs: 0n });
    const mark = { kind: "snapshot-complete", asOfSequence: 5n, known: 0n, generation, sourceNs: 0n } as const;
    engine.mark(mark, { filterMask: 1n });
    consumer.poll(() => {});
  };
  const asked = consumer.subscribe({ accounts: [byKey] });
  await stage.subscription(1);
  await asked;
  complete(1);
  assert.deepEqual(accounts.trust.reasons, []);

  // In force at once, and the sender is gone before it has said so.
  const unanswered = consumer.subscribe({ owners: [owner] });
  assert.deepEqual(decodeSubscribe(await stage.sender.request()).owners, [owner]);
  assert.equal(stage.sender.engine.edit({ owners: [owner] }), 0);
  stage.sender.engine.mark({ kind: "filter", generation: 2, sourceNs: 0n });
  stage.sender.engine.publish({
    ...accountUpdate(),
    ...{ pubkey: byOwner, owner, writeVersion: 1n, bankId: 0n, rentEpoch: 0n, executable: false },
    ...{ startup: false, signature: undefined, sourceEpoch: 0, lossy: false, sourceNs: 0n },
  });
  consumer.poll(() => {});
  assert.ok(accounts.has(byOwner));

  // Meanwhile it has another owner: whoever replays what was missed knows nothing of that filter, and says nothing.
  await stage.restart({ ...keeps, sequence: 9n, isResumed: true });
  assert.deepEqual((await stage.subscription(1)).accounts, [byKey]);
  await stage.start();
  assert.deepEqual([await seam(consumer), await seam(consumer)], ["lost after 1", "complete, the same, from 1 to 1"]);
  assert.deepEqual((await stage.subscription(2)).owners, [owner]);
  await within(unanswered, "the answer");
  complete(2);
  assert.deepEqual(accounts.trust.reasons, [{ reason: "snapshot", filters: [""] }]);
  assert.ok(accounts.has(byOwner));
  const again = await stage.sender.filterRequest();
  assert.deepEqual([again.op, again.bit, again.accountCount, again.ownerCount], ["replace", 0, 1, 1]);
  stage.sender.ack(again, { sequence: 9n, generation: 3 });
  await until(() => (complete(3), accounts.trust.isComplete), "all of it");
  assert.ok(!accounts.has(byOwner));
});

test("what was missed twice without a word between is told by the worse of the two", async () => {
  await using stage = new Stage();
  await stage.open({ senderId: ONE, sequence: 5n });
  const { consumer } = stage;
  await stage.restart({ senderId: OTHER, sequence: 7n });
  await until(() => consumer.metrics.reconnects === 1, "the next connection");
  const hello = await stage.restart({ senderId: OTHER, sequence: 9n, isResumed: true });
  assert.deepEqual(hello.resume, { senderId: OTHER, after: 7n });
  await stage.start();
  await until(() => consumer.metrics.reconnects === 2, "the next connection");
  assert.deepEqual([await seam(consumer), await seam(consumer)], ["lost after 0", "unknown, another, from 0 to 7"]);
});

test("a sender that resumes what nobody asked for breaks the protocol", async () => {
  await using place = new Place();
  using sender = new ScriptedSender(native, place.path, { capacityBytes: CAPACITY_BYTES });
  const opening = place.consumer();
  opening.catch(() => {});
  await sender.grant({ isResumed: true });
  await assert.rejects(within(opening, "a refusal"), { code: "LINK_PROTOCOL" });
});
