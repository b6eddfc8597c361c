/**
 * Our sender and a consumer of wire version 9 that shares no code with it: the whole life of a slot, byte by byte.
 * May touch: the library as a user would, a raw peer, child processes, /proc. Linux only.
 *
 * @module
 */

import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import process from "node:process";
import {
  type AccountUpdate,
  type ConsumerEvent,
  type Sender,
  type SenderOptions,
  setupConsumer,
  setupSender,
  type SubscriptionEvent,
} from "../../mod.ts";
import { Agent } from "../support/agent_process.ts";
import { eventually, footprintOf, settlesAt } from "../support/footprint.ts";
import { guarded, type Held } from "../support/guarded.ts";
import * as libc from "../support/libc.ts";
import {
  accountFrame,
  createdNsOf,
  framed,
  join,
  ping,
  RawV9Consumer,
  type RawV9Slot,
  ready,
  slotFrame,
  subscribe,
  timeless,
  type Token,
  transactionFrame,
} from "../support/raw_v9.ts";
import { OWN_RUNTIME, RUNTIMES } from "../support/runtime.ts";
import { Temporary } from "../support/temporary.ts";

const SKIP = process.platform === "linux" ? {} : { skip: "a raw peer of version 9 needs Linux" };
const AS_ROOT = process.getuid?.() === 0 ? SKIP : { skip: "becoming another user needs root" };
const NOBODY = 65534;
const CAPACITY = 65536;
const MIB = 1024 * 1024;
const F_GETFL = 3;
const O_NONBLOCK = 0o4000;
const key = (byte: number) => new Uint8Array(32).fill(byte);

/** A sender, and what it told the application. */
class Scene {
  readonly path: string;
  readonly sender: Sender;
  readonly temporary: Temporary;
  readonly events: ConsumerEvent[] = [];
  readonly subscriptions: SubscriptionEvent[] = [];
  readonly #held: Held;

  private constructor(held: Held, temporary: Temporary, sender: Sender) {
    this.#held = held;
    this.temporary = temporary;
    this.path = sender.path;
    this.sender = sender;
    sender.onConsumer((event) => void this.events.push(event));
    sender.onSubscription((event) => void this.subscriptions.push(event));
  }

  static async open(held: Held, options: Partial<SenderOptions> = {}): Promise<Scene> {
    const temporary = held.use(new Temporary());
    const path = temporary.at("s.sock");
    const sender = await setupSender({ path, ringCapacityBytes: CAPACITY, handshakeTimeoutMs: 20_000, ...options });
    return new Scene(held, temporary, held.use(sender));
  }

  connect(): RawV9Consumer {
    return this.#held.use(new RawV9Consumer(this.path));
  }

  async slot(request?: Uint8Array): Promise<{ consumer: RawV9Consumer; slot: RawV9Slot }> {
    const consumer = this.connect();
    return { consumer, slot: await consumer.open(request) };
  }

  /** Reasons of ends so far. */
  get ends(): string[] {
    return this.events.flatMap((event) => event.type === "disconnected" ? [event.reason] : []);
  }

  /** What it said of those whom it refused: protocol and reason. */
  get refusals(): string[] {
    return this.events.flatMap((event) => event.type === "refused" ? [`${event.protocol}: ${event.reason}`] : []);
  }

  /** Waits for the next refusals, each of which has to look like that. */
  async refuses(...patterns: RegExp[]): Promise<void> {
    await eventually(() => `${patterns.length} refusals, there are ${this.refusals}`, () => {
      return this.refusals.length >= patterns.length;
    });
    const refusals = this.refusals;
    assert.equal(refusals.length, patterns.length, refusals.join("\n"));
    patterns.forEach((pattern, i) => assert.match(refusals[i]!, pattern));
    assert.equal(this.sender.metrics.refused, patterns.length);
    for (const event of this.events) {
      if (event.type === "refused") assert.equal(event.pid > 0 && event.uid >= 0, true);
    }
  }

  async ended(count: number): Promise<void> {
    await eventually(() => `${count} ends, there are ${this.ends}`, () => this.ends.length >= count);
    assert.equal(this.ends.length, count);
  }
}

function account(fields: Partial<AccountUpdate> = {}): AccountUpdate {
  return { kind: "account", pubkey: key(1), owner: key(2), lamports: 5n, data: new Uint8Array(0), slot: 7n, ...fields };
}

/** Data with which an account's frame takes so many bytes of a ring. */
const dataFor = (frameBytes: number) => new Uint8Array(frameBytes - 4 - 116).fill(0x5a);

function bodies(frames: readonly (Uint8Array | "closed")[]): Uint8Array[] {
  return frames.map((frame) => {
    if (frame === "closed") throw new Error("It is closed");
    return timeless(frame);
  });
}

// Setting up

guarded(
  "a bootstrap gets the lowest slot, an empty ring whose path opens, and a wake that does not block",
  async (held) => {
    const scene = await Scene.open(held);
    const first = await scene.slot();
    assert.deepEqual(first.slot.token, { index: 0, generation: 1n });
    assert.match(first.slot.path, new RegExp(`^/proc/${process.pid}/fd/\\d+$`));
    assert.equal(first.slot.ring.capacity, CAPACITY);
    assert.equal(statSync(first.slot.path).size, 320 + CAPACITY);
    assert.deepEqual([...first.slot.ring.words.slice(8, 40)].filter((word) => word !== 0n), [], "all cursors are 0");
    assert.deepEqual(first.slot.ring.readAll(), []);
    assert.equal(first.slot.wake.take(), 0);
    assert.equal(libc.libc().fcntl(first.slot.wake.fd, F_GETFL, 0) & O_NONBLOCK, O_NONBLOCK);
    const second = await scene.slot();
    assert.deepEqual(second.slot.token, { index: 1, generation: 2n });
    assert.equal(first.consumer.link.unread.length, 0, "nothing is said without being asked");
    const [info] = scene.sender.consumers();
    assert.deepEqual({ ...info, connectedAt: 0 }, {
      id: 1,
      name: "",
      protocol: "v9",
      pid: process.pid,
      uid: process.getuid!(),
      connectedAt: 0,
      accounts: 0,
      owners: 0,
      transactions: false,
      policy: "disconnect",
      ring: { capacityBytes: CAPACITY, usedBytes: 0 },
      poolBytes: 0,
      waiting: { frames: 0, bytes: 0 },
      frames: 0,
      lost: 0,
      conflated: 0,
      losses: {
        replaced: 0,
        skipped: 0,
        ringFull: 0,
        poolShare: 0,
        poolFull: 0,
        queueFull: 0,
        tooLarge: 0,
        noMemory: 0,
        ended: 0,
      },
      parked: false,
    });
    const { consumers, connections, refused, memoryBytes } = scene.sender.metrics;
    assert.deepEqual([consumers, connections, refused, memoryBytes], [2, 2, 0, 2 * (320 + CAPACITY)]);
  },
  SKIP,
);

guarded("a first request may ask for something, and one connection may have several slots", async (held) => {
  const scene = await Scene.open(held);
  const { consumer, slot } = await scene.slot(subscribe({ accounts: [key(1)] }));
  const other = await consumer.open(subscribe({ transactions: true }));
  assert.deepEqual([slot.token.index, other.token.index], [0, 1]);
  scene.sender.publishAccount(account());
  assert.deepEqual([(await slot.frames(1)).length, other.ring.readAll()], [1, []]);
  consumer.link.close();
  await scene.ended(2);
  assert.deepEqual(scene.ends, ["consumer-gone", "consumer-gone"]);
}, SKIP);

guarded("frames are the original's, byte for byte, for whoever asked for them, in one order", async (held) => {
  const scene = await Scene.open(held);
  const a = await scene.slot();
  const b = await scene.slot();
  await a.consumer.subscribe(a.slot.token, { accounts: [key(1), key(1)], owners: [key(9)] });
  await b.consumer.subscribe(b.slot.token, { transactions: true });
  const before = BigInt(Date.now()) * 1_000_000n;
  const signature = new Uint8Array(64).fill(0xcc);
  const text = (value: string) => new TextEncoder().encode(value);
  const { sender } = scene;
  assert.equal(
    sender.publishAccount(account({ data: text("hey"), executable: true, rentEpoch: 6n, writeVersion: 8n })),
    1,
  );
  assert.equal(sender.publishAccount(account({ pubkey: key(3), owner: key(9), bankId: 4n, signature })), 1);
  assert.equal(sender.publishAccount(account({ pubkey: key(3) })), 0);
  const transaction = { slot: 7n, index: 3, signature, message: text("tx") };
  assert.equal(sender.publishTransaction({ ...transaction, vote: true, meta: text("not on this wire") }), 1);
  assert.equal(sender.publishSlot({ slot: 456n, parent: 455n, status: "processed" }), 2);
  assert.equal(sender.publishSlot({ slot: 456n, parent: 455n, status: "confirmed" }), 0);
  const fromA = await a.slot.frames(3);
  assert.deepEqual(bodies(fromA), [
    accountFrame({
      pubkey: key(1),
      owner: key(2),
      lamports: 5n,
      executable: 1,
      rentEpoch: 6n,
      slot: 7n,
      writeVersion: 8n,
      payload: text("hey"),
    }),
    accountFrame({ pubkey: key(3), owner: key(9), lamports: 5n, rentEpoch: 2n ** 64n - 1n, slot: 7n }),
    slotFrame(456n),
  ]);
  const fromB = await b.slot.frames(2);
  assert.deepEqual(bodies(fromB), [
    transactionFrame({ slot: 7n, index: 3, vote: 1, signature, payload: text("tx") }),
    slotFrame(456n),
  ]);
  const times = [...fromA, ...fromB].map((frame) => createdNsOf(frame as Uint8Array));
  const after = BigInt(Date.now() + 1) * 1_000_000n;
  for (const time of times) assert.ok(before <= time && time <= after, `${before} <= ${time} <= ${after}`);
  assert.equal(times[2], times[4], "one update, one time");
  assert.deepEqual([a.slot.wake.take(), b.slot.wake.take()], [3, 2]);
}, SKIP);

guarded("frames that wrap arrive whole", async (held) => {
  const scene = await Scene.open(held);
  const { slot } = await scene.slot(subscribe({ accounts: [key(1)] }));
  for (let i = 0; i < 300; i++) {
    const data = Uint8Array.from({ length: 1 + (i * 37) % 1500 }, (_, at) => at * i);
    scene.sender.publishAccount(account({ data, lamports: BigInt(i) }));
    const expected = accountFrame({
      pubkey: key(1),
      owner: key(2),
      lamports: BigInt(i),
      rentEpoch: 2n ** 64n - 1n,
      slot: 7n,
      payload: data,
    });
    assert.deepEqual(bodies(slot.ring.readAll()), [expected]);
  }
  assert.ok(slot.ring.position > 3n * BigInt(CAPACITY));
}, SKIP);

guarded("large accounts are compressed as the original does, and others are not", async (held) => {
  const scene = await Scene.open(held, { ringCapacityBytes: 1 << 20 });
  const { slot } = await scene.slot(subscribe({ accounts: [key(1)] }));
  const view = (body: Uint8Array) => new DataView(body.buffer, body.byteOffset);
  scene.sender.publishAccount(account({ data: new Uint8Array(512_000) }));
  scene.sender.publishAccount(account({ data: new Uint8Array(511_999) }));
  const [large, below] = await slot.frames(2) as [Uint8Array, Uint8Array];
  assert.deepEqual([large[107], view(large).getUint32(108, true)], [1, 512_000]);
  assert.equal(view(large).getUint32(112, true), large.length - 116);
  assert.ok(large.length < 3000, `${large.length} bytes`);
  assert.deepEqual([below[107], below.length], [0, 116 + 511_999]);
  const noise = new Uint8Array(512_000);
  for (let at = 0; at < noise.length; at += 32_000) crypto.getRandomValues(noise.subarray(at, at + 32_000));
  scene.sender.publishAccount(account({ data: noise }));
  const [raw] = await slot.frames(1) as [Uint8Array];
  assert.deepEqual([raw[107], raw.length], [0, 116 + 512_000]);
}, SKIP);

guarded("requests that dribble or come in one go are answered one by one, in their order", async (held) => {
  const scene = await Scene.open(held);
  const consumer = scene.connect();
  await consumer.link.dribble(subscribe(), 2);
  const slot = consumer.taken(await consumer.link.received());
  await consumer.link.dribble(subscribe({ token: slot.token, accounts: [key(1)] }), 2);
  await consumer.expectReady(slot.token);
  const many = Array.from({ length: 20 }, (_, i) => subscribe({ token: slot.token, accounts: [key(2 + i)] }));
  consumer.link.send(join(ping(slot.token), ...many, ping(slot.token)));
  for (let i = 0; i < many.length; i++) await consumer.expectReady(slot.token);
  assert.equal(consumer.link.unread.length, 0, "pings are not answered");
  assert.equal(scene.sender.consumers()[0]!.accounts, 21);
  // The first message and more of them at once, as a foreign consumer may say them.
  const hasty = scene.connect();
  hasty.link.send(join(subscribe(), subscribe({ token: { index: 1, generation: 2n }, transactions: true })));
  const received = await hasty.link.received();
  assert.equal(received.descriptors.length, 1);
  await eventually("both are in force", () => scene.sender.consumers()[1]?.transactions === true);
}, SKIP);

guarded("131,072 keys in each list are taken in one request", async (held) => {
  const scene = await Scene.open(held);
  const { consumer, slot } = await scene.slot();
  const keys = Array.from({ length: 131_072 }, (_, i) => {
    const bytes = key(0);
    new DataView(bytes.buffer).setUint32(0, i, true);
    return bytes;
  });
  await consumer.link.sendLong(subscribe({ token: slot.token, accounts: keys, owners: keys }));
  await consumer.expectReady(slot.token);
  const [info] = scene.sender.consumers();
  assert.deepEqual([info!.accounts, info!.owners], [131_072, 131_072]);
}, SKIP);

guarded("each accepted request is forwarded as it came, the bootstrap too, after its answer", async (held) => {
  const scene = await Scene.open(held);
  const { consumer, slot } = await scene.slot();
  await consumer.subscribe(slot.token, { accounts: [key(2), key(1), key(2)], owners: [key(3)], transactions: true });
  const stale = { index: 7, generation: 99n };
  consumer.link.send(subscribe({ token: stale, owners: [key(5)] }));
  const other = consumer.taken(await consumer.link.received());
  await eventually("three events", () => scene.subscriptions.length === 3);
  assert.deepEqual(
    scene.subscriptions.map(({ consumer, receivedAt: _, ...request }) => ({ ...request, id: consumer.id })),
    [
      { accounts: [], owners: [], transactions: false, token: undefined, id: 1 },
      {
        accounts: [key(2), key(1), key(2)],
        owners: [key(3)],
        transactions: true,
        token: { slotIndex: 0, generation: 1n },
        id: 1,
      },
      {
        accounts: [],
        owners: [key(5)],
        transactions: false,
        token: { slotIndex: 7, generation: 99n },
        id: 2,
      },
    ],
  );
  assert.equal(other.token.index, 1);
  const connections = scene.events.map((event) => event.type === "connected" && event.consumer.id);
  assert.deepEqual(connections, [1, 2]);
}, SKIP);

guarded("a batch is one signal for each consumer, and each update outside one is one", async (held) => {
  const scene = await Scene.open(held);
  const { slot } = await scene.slot(subscribe({ accounts: [key(1)] }));
  scene.sender.publishBatch(Array.from({ length: 100 }, (_, i) => account({ lamports: BigInt(i) })));
  assert.equal(slot.wake.take(), 1);
  assert.equal(slot.ring.readAll().length, 100);
  for (let i = 0; i < 3; i++) scene.sender.publishAccount(account());
  assert.equal(slot.wake.take(), 3);
  scene.sender.publishAccount(account({ pubkey: key(77) }));
  assert.equal(slot.wake.take(), 0, "nothing for it, no signal");
}, SKIP);

guarded("slot updates come for the statuses of the option, and only for them", async (held) => {
  const scene = await Scene.open(held, { v9: { slotStatuses: ["confirmed", "dead"] } });
  const { slot } = await scene.slot();
  const statuses = ["processed", "confirmed", "finalized", "dead"] as const;
  statuses.forEach((status, i) => scene.sender.publishSlot({ slot: BigInt(i), parent: 0n, status }));
  assert.deepEqual(bodies(slot.ring.readAll()), [slotFrame(1n), slotFrame(3n)]);
}, SKIP);

guarded("a batch that overflows a ring ends its consumer, who still gets what came before", async (held) => {
  const scene = await Scene.open(held);
  const { slot } = await scene.slot(subscribe({ accounts: [key(1)] }));
  const other = await scene.slot();
  const updates = Array.from({ length: 100 }, (_, i) => account({ lamports: BigInt(i), data: dataFor(1000) }));
  scene.sender.publishBatch([...updates, { kind: "slot", slot: 9n, parent: 8n, status: "processed" }]);
  await scene.ended(1);
  assert.deepEqual([scene.ends, scene.sender.metrics.ringFull], [["slow-consumer"], 1]);
  assert.ok(slot.wake.take() >= 1);
  assert.equal(slot.ring.readAll().filter((frame) => frame !== "closed").length, 65);
  assert.deepEqual(bodies(other.slot.ring.readAll()), [slotFrame(9n)]);
}, SKIP);

// Tokens

guarded("a token that is not live gets a new slot with nothing but what was asked for", async (held) => {
  const scene = await Scene.open(held);
  for (const token of [{ index: 0, generation: 9n }, { index: 200, generation: 1n }, { index: 254, generation: 0n }]) {
    const { slot } = await scene.slot(subscribe({ token, accounts: [key(1)] }));
    scene.sender.publishAccount(account());
    assert.equal(slot.ring.readAll().length, 1);
  }
}, SKIP);

guarded(
  "an evicted consumer's old token gets a new slot over the same socket, and the old filter is gone",
  async (held) => {
    const scene = await Scene.open(held);
    const { consumer, slot } = await scene.slot(subscribe({ accounts: [key(1)] }));
    scene.sender.publishAccount(account({ data: dataFor(CAPACITY - 100) }));
    scene.sender.publishAccount(account());
    await scene.ended(1);
    const fresh = await consumer.open(subscribe({ token: slot.token, accounts: [key(2)] }));
    assert.deepEqual(fresh.token, { index: 0, generation: 2n });
    assert.notEqual(fresh.path, slot.path);
    scene.sender.publishAccount(account());
    scene.sender.publishAccount(account({ pubkey: key(2) }));
    assert.equal(fresh.ring.readAll().length, 1);
  },
  SKIP,
);

guarded("answers to dead tokens that nobody uses are taken back", async (held) => {
  const scene = await Scene.open(held, { v9: { slotsMax: 2 } });
  const { consumer } = await scene.slot();
  const dead: Token = { index: 0, generation: 1000n };
  let last: RawV9Slot | undefined;
  for (let i = 0; i < 20; i++) {
    last = await consumer.open(subscribe({ token: dead }));
    assert.deepEqual(last.token, { index: 1, generation: BigInt(2 + i) });
  }
  await scene.ended(19);
  assert.deepEqual(new Set(scene.ends), new Set(["idle"]));
  assert.equal(scene.sender.consumers().length, 2);
  // The one that is used stays, and then there is no room.
  await consumer.subscribe(last!.token, { accounts: [key(1)] });
  consumer.link.send(subscribe({ token: dead }));
  await consumer.link.end();
  await scene.ended(21);
}, SKIP);

guarded("an answer to a dead token that is read is in use", async (held) => {
  const scene = await Scene.open(held);
  const { consumer } = await scene.slot();
  const used = await consumer.open(subscribe({ token: { index: 0, generation: 1000n } }));
  scene.sender.publishSlot({ slot: 1n, parent: 0n, status: "processed" });
  assert.equal(used.ring.readAll().length, 1);
  const another = await consumer.open(subscribe({ token: { index: 0, generation: 1001n } }));
  assert.deepEqual([used.token.index, another.token.index], [1, 2]);
  assert.equal(scene.sender.consumers().length, 3);
}, SKIP);

guarded("a token belongs to the connection that got it", async (held) => {
  const scene = await Scene.open(held);
  const { slot } = await scene.slot();
  const stranger = scene.connect();
  const own = await stranger.open(subscribe({ token: slot.token, transactions: true }));
  assert.deepEqual(own.token, { index: 1, generation: 2n });
  assert.deepEqual(scene.sender.consumers().map(({ transactions }) => transactions), [false, true]);
}, SKIP);

guarded("with sharedTokens any connection may use any token, as in the original", async (held) => {
  const scene = await Scene.open(held, { v9: { sharedTokens: true } });
  const { slot } = await scene.slot();
  const other = scene.connect();
  other.link.send(subscribe({ token: slot.token, accounts: [key(1)] }));
  await other.expectReady(slot.token);
  scene.sender.publishAccount(account());
  assert.equal(slot.ring.readAll().length, 1);
}, SKIP);

guarded("with sharedTokens a slot outlives the connection that got it, until nobody names it", async (held) => {
  const scene = await Scene.open(held, { v9: { sharedTokens: true, idleTimeoutMs: 1000 } });
  const { consumer, slot } = await scene.slot();
  const other = scene.connect();
  other.link.send(subscribe({ token: slot.token, accounts: [key(1)] }));
  await other.expectReady(slot.token);
  consumer.link.close();
  const third = scene.connect();
  third.link.send(subscribe({ token: slot.token, accounts: [key(2)] }));
  await third.expectReady(slot.token);
  assert.deepEqual(scene.ends, []);
  scene.sender.publishAccount(account());
  assert.equal((await slot.frames(1)).length, 1);
  await scene.ended(1);
  assert.deepEqual([scene.ends, slot.ring.readAll(), existsSync(slot.path)], [["idle"], ["closed"], false]);
}, SKIP);

guarded("a slot whose owner has gone ends with its sender, in order", async (held) => {
  const scene = await Scene.open(held, { v9: { sharedTokens: true } });
  const { consumer, slot } = await scene.slot();
  consumer.link.close();
  const other = scene.connect();
  other.link.send(subscribe({ token: slot.token }));
  await other.expectReady(slot.token);
  await scene.sender.close();
  assert.deepEqual([scene.ends, slot.ring.readAll()], [["sender-closed"], ["closed"]]);
}, SKIP);

guarded("answers that nobody reads wait, up to a bound; then the connection ends", async (held) => {
  const scene = await Scene.open(held);
  const patient = await scene.slot();
  const request = subscribe({ token: patient.slot.token });
  for (let i = 0; i < 100; i++) await patient.consumer.link.sendLong(join(...Array(30).fill(request)));
  for (let i = 0; i < 3000; i++) await patient.consumer.expectReady(patient.slot.token);
  const deaf = await scene.slot();
  const other = subscribe({ token: deaf.slot.token });
  const sending = deaf.consumer.link.sendLong(join(...Array(10_000).fill(other))).catch(() => {});
  await eventually("it is ended", () => scene.ends.length > 0);
  deaf.consumer.link.close();
  await sending;
  assert.deepEqual(scene.ends, ["peer-corrupt"]);
  assert.deepEqual(scene.refusals, []);
  await patient.consumer.subscribe(patient.slot.token, { accounts: [key(1)] });
}, SKIP);

guarded("two connections that subscribe at once with one token lose nothing of each other's", async (held) => {
  const scene = await Scene.open(held, { v9: { sharedTokens: true } });
  const { consumer, slot: { token, ring } } = await scene.slot();
  const other = scene.connect();
  for (let round = 0; round < 20; round++) {
    const keys = [key(2 * round), key(2 * round + 1)] as const;
    await Promise.all([
      consumer.link.dribble(subscribe({ token, accounts: [keys[0]] }), 7),
      other.link.dribble(subscribe({ token, accounts: [keys[1]], transactions: round === 7 }), 11),
    ]);
    await Promise.all([consumer.expectReady(token), other.expectReady(token)]);
  }
  const [info] = scene.sender.consumers();
  assert.deepEqual([info!.accounts, info!.transactions], [40, true]);
  for (let i = 0; i < 40; i++) assert.equal(scene.sender.publishAccount(account({ pubkey: key(i) })), 1);
  assert.equal(ring.readAll().length, 40);
}, SKIP);

guarded("who restarts at once gets the only slot again, every time", async (held) => {
  const scene = await Scene.open(held, { v9: { slotsMax: 1 } });
  for (let i = 0; i < 50; i++) {
    const { consumer } = await scene.slot();
    consumer.link.close();
  }
  assert.deepEqual(scene.refusals, []);
}, SKIP);

guarded(
  "without a free slot the connection is closed without a word, and a freed one is given out again",
  async (held) => {
    const scene = await Scene.open(held, { v9: { slotsMax: 2 } });
    const first = await scene.slot();
    await scene.slot();
    const third = scene.connect();
    third.link.send(subscribe());
    await third.link.end();
    await scene.refuses(/^v9: all 2 slots are taken \(option v9\.slotsMax\)$/);
    first.consumer.link.close();
    await scene.ended(1);
    const { slot } = await scene.slot();
    assert.deepEqual(slot.token, { index: 0, generation: 4n }, "the failed attempt was counted");
  },
  SKIP,
);

guarded("memoryMaxBytes bounds rings of both protocols together", async (held) => {
  const native = CAPACITY + 2 * 65536;
  const scene = await Scene.open(held, { memoryMaxBytes: native + CAPACITY + 320, poolBytes: 0 });
  const consumer = held.use(await setupConsumer(scene.path, { reconnect: false }));
  await scene.slot();
  const late = scene.connect();
  late.link.send(subscribe());
  await late.link.end();
  await assert.rejects(setupConsumer(scene.path, { protocol: "native" }), { code: "CONNECT_REFUSED" });
  assert.equal(consumer.ended, undefined);
  assert.equal(scene.sender.metrics.memoryBytes, native + CAPACITY + 320);
  await scene.refuses(
    /^v9: with it the sender would need \d+ bytes .rings \d+., the limit is \d+: raise memoryMaxBytes, /,
    /^native: with it the sender would need \d+ bytes .rings \d+., the limit is \d+: raise memoryMaxBytes, /,
  );
}, SKIP);

// Ends

for (
  const [name, free, hasSentinel] of [["736", 736, true], ["4", 4, true], ["3", 3, false], ["2", 2, false]] as const
) {
  guarded(
    `a full ring with ${name} bytes free ends its consumer, ${hasSentinel ? "with" : "without"} sentinel`,
    async (held) => {
      const scene = await Scene.open(held);
      const { consumer, slot } = await scene.slot(subscribe({ accounts: [key(1)] }));
      const other = await scene.slot(subscribe({ accounts: [key(1)] }));
      scene.sender.publishAccount(account({ data: dataFor(CAPACITY - free) }));
      assert.equal(other.slot.ring.readAll().length, 1);
      assert.equal(slot.wake.take(), 1);
      assert.ok(existsSync(slot.path));
      assert.equal(scene.sender.publishAccount(account({ data: dataFor(1000) })), 1);
      assert.ok(!existsSync(slot.path));
      assert.ok(slot.wake.take() >= 2, "for the sentinel, and again when the path was gone");
      const frames = slot.ring.readAll();
      assert.equal((frames[0] as Uint8Array).length, CAPACITY - free - 4);
      assert.deepEqual(frames.slice(1), hasSentinel ? ["closed"] : []);
      await scene.ended(1);
      assert.deepEqual([scene.ends, scene.sender.metrics.ringFull, scene.sender.metrics.lost], [
        ["slow-consumer"],
        1,
        1,
      ]);
      assert.equal(other.slot.ring.readAll().length, 1, "the other one got it");
      consumer.link.send(ping(slot.token));
      assert.equal(consumer.link.unread.length, 0);
      assert.ok(!consumer.link.isEnded, "the socket stays open");
      assert.deepEqual((await consumer.open()).token, { index: 0, generation: 3n });
    },
    SKIP,
  );
}

guarded("a frame that can never fit is a loss, and not an end", async (held) => {
  const scene = await Scene.open(held);
  const { slot } = await scene.slot(subscribe({ accounts: [key(1)] }));
  const tooLarge = account({ data: dataFor(CAPACITY + 1) });
  assert.equal(scene.sender.publishAccount(tooLarge), 0);
  scene.sender.publishBatch([tooLarge, account({ lamports: 1n })]);
  assert.equal(slot.ring.readAll().length, 1);
  assert.equal(scene.sender.publishAccount(account({ data: dataFor(CAPACITY) })), 1, "one byte less fits");
  assert.deepEqual([scene.sender.metrics.lost, scene.sender.metrics.ringFull], [2, 0]);
  assert.equal(scene.sender.consumers()[0]!.lost, 2);
}, SKIP);

guarded("a consumer that makes its wake wait stops nobody, and ends", async (held) => {
  const scene = await Scene.open(held);
  const { slot } = await scene.slot(subscribe({ accounts: [key(1)] }));
  // The flag belongs to what both have: the next write on a full counter would wait for us.
  assert.equal(libc.libc().fcntl(slot.wake.fd, 4, 0), 0); // F_SETFL
  libc.libc().write(slot.wake.fd, new Uint8Array(8).fill(0xff).fill(0xfe, 0, 1), 8n);
  for (let i = 0; i < 100; i++) scene.sender.publishAccount(account());
  await scene.ended(1);
  assert.deepEqual(scene.ends, ["peer-corrupt"]);
}, SKIP);

for (const [name, cursor] of [["ahead", 1n << 40n], ["behind itself", 10n]] as const) {
  guarded(`a release cursor that is ${name} ends its consumer`, async (held) => {
    const scene = await Scene.open(held);
    const { slot } = await scene.slot(subscribe({ accounts: [key(1)] }));
    scene.sender.publishAccount(account({ data: dataFor(60_000) }));
    slot.ring.readAll();
    scene.sender.publishAccount(account({ data: dataFor(60_000) })); // looked at the cursor
    slot.ring.release(cursor);
    scene.sender.publishAccount(account({ data: dataFor(60_000) }));
    await scene.ended(1);
    assert.deepEqual([scene.ends, scene.sender.metrics.ringFull], [["peer-corrupt"], 0]);
  }, SKIP);
}

guarded("a closed socket frees its slot at once, and everything of it", async (held) => {
  const scene = await Scene.open(held, { v9: { slotsMax: 1 } });
  const warm = await scene.slot(); // what the runtime opens at the first use of something is no leak
  warm.consumer[Symbol.dispose]();
  await scene.ended(1);
  const before = footprintOf("self");
  for (let i = 0; i < 12; i++) {
    const { consumer, slot } = await scene.slot(subscribe({ accounts: [key(1)] }));
    assert.equal(slot.token.index, 0);
    scene.sender.publishAccount(account());
    assert.equal((await slot.frames(1)).length, 1);
    consumer[Symbol.dispose]();
    await scene.ended(2 + i);
    assert.ok(!existsSync(slot.path));
  }
  assert.deepEqual(new Set(scene.ends), new Set(["consumer-gone"]));
  await settlesAt("self", before);
}, SKIP);

guarded("who says nothing is evicted, who pings or subscribes is not, and reading says nothing", async (held) => {
  const scene = await Scene.open(held, { v9: { idleTimeoutMs: 1500 } });
  const silent = await scene.slot();
  const pinging = await scene.slot();
  const subscribing = await scene.slot();
  const timer = setInterval(() => {
    pinging.consumer.link.send(ping(pinging.slot.token));
    subscribing.consumer.link.send(subscribe({ token: subscribing.slot.token }));
    scene.sender.publishSlot({ slot: 1n, parent: 0n, status: "processed" });
    for (const { slot } of [silent, pinging, subscribing]) slot.ring.readAll();
  }, 100);
  held.defer(() => clearInterval(timer));
  await scene.ended(1);
  assert.deepEqual(scene.ends, ["idle"]);
  assert.deepEqual(scene.sender.consumers().map(({ id }) => id), [2, 3]);
  assert.ok(!existsSync(silent.slot.path));
  assert.ok(!silent.consumer.link.isEnded);
  // A ping does not bring it back, nor end anything; asking again brings a new slot.
  silent.consumer.link.send(ping(silent.slot.token));
  assert.deepEqual((await silent.consumer.open()).token, { index: 0, generation: 4n });
}, SKIP);

guarded("Sender.close() ends rings with a sentinel, removes their paths and closes sockets", async (held) => {
  const scene = await Scene.open(held);
  const { consumer, slot } = await scene.slot();
  scene.sender.publishSlot({ slot: 1n, parent: 0n, status: "processed" });
  await scene.sender.close();
  assert.deepEqual(slot.ring.readAll().slice(1), ["closed"]);
  assert.ok(!existsSync(slot.path));
  await consumer.link.end();
  await scene.ended(1);
  assert.deepEqual(scene.ends, ["sender-closed"]);
}, SKIP);

guarded(
  "a connection that is closed for what it said leaves no sentinel: that is for an end in order",
  async (held) => {
    const scene = await Scene.open(held);
    const { consumer, slot } = await scene.slot();
    scene.sender.publishSlot({ slot: 1n, parent: 0n, status: "processed" });
    consumer.link.send(framed(Uint8Array.of(9, 77)));
    await scene.ended(1);
    assert.deepEqual(bodies(slot.ring.readAll()), [slotFrame(1n)]);
    assert.ok(!existsSync(slot.path));
    assert.ok(slot.wake.take() >= 2, "for the frame, and when the path was gone");
  },
  SKIP,
);

// Those who do not speak it well

const GARBAGE: readonly (readonly [name: string, bytes: Uint8Array])[] = [
  ["an HTTP request", new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n")],
  ["16 MiB and a byte announced", Uint8Array.of(1, 0, 0, 1)],
  ["an empty message", Uint8Array.of(0, 0, 0, 0)],
  ["one byte of a message", Uint8Array.of(1, 0, 0, 0, 9)],
  ["another version", framed(subscribe().slice(4).fill(8, 0, 1))],
  ["an unknown tag", framed(Uint8Array.of(9, 77, 0, 0, 0))],
  ["a sender's message", ready({ index: 0, generation: 1n })],
  ["a ping without a slot", framed(Uint8Array.of(9, 4, 255, 0, 0, 0, 0, 0, 0, 0, 0))],
  ["a subscribe message that is cut", framed(subscribe().slice(4, -1))],
  ["a subscribe message with a flag of 2", framed(join(subscribe().slice(4, -1), Uint8Array.of(2)))],
  ["a list that is longer than the message", framed(subscribe({ accounts: [key(1)] }).slice(4).fill(2, 11, 12))],
];

for (const [name, bytes] of GARBAGE) {
  guarded(`Sender closes without a word on ${name}, first or later`, async (held) => {
    const scene = await Scene.open(held);
    const honest = await scene.slot();
    const stranger = scene.connect();
    stranger.link.send(bytes);
    await stranger.link.end();
    await scene.refuses(/^v9: (?!undefined)..../);
    const { consumer } = await scene.slot();
    consumer.link.send(bytes);
    await consumer.link.end();
    await scene.ended(1);
    assert.deepEqual([scene.ends, scene.sender.metrics.refused], [["peer-corrupt"], 1]);
    scene.sender.publishSlot({ slot: 1n, parent: 0n, status: "processed" });
    assert.equal(honest.slot.ring.readAll().length, 1);
  }, SKIP);
}

guarded("a connection that stops before its first message is over is closed at the deadline", async (held) => {
  const scene = await Scene.open(held, { handshakeTimeoutMs: 300 });
  const pieces = [[], [28], [28, 0, 0, 0], [28, 0, 0, 0, 9, 1], [28, 0, 128, 0, 9, 1, 255]];
  const consumers = pieces.map((piece) => {
    const consumer = scene.connect();
    if (piece.length > 0) consumer.link.send(Uint8Array.from(piece));
    return consumer;
  });
  for (const { link } of consumers) await link.end();
  const late = /: nothing whole came within 300 ms \(option handshakeTimeoutMs\)$/;
  await scene.refuses(...pieces.map(() => late));
  // The last two have said their length: it is no native hello.
  assert.deepEqual(scene.refusals.filter((text) => text.startsWith("v9")).length, 3);
}, SKIP);

guarded("the deadline is for every message of who has no slot, and for none of who has", async (held) => {
  const scene = await Scene.open(held, { handshakeTimeoutMs: 300 });
  const { consumer, slot } = await scene.slot();
  const stranger = scene.connect();
  const request = subscribe({ token: slot.token, accounts: [key(1)] });
  consumer.link.send(request.subarray(0, 20));
  stranger.link.send(ping({ index: 9, generation: 9n }));
  // Each piece is in time, but not the whole; where the machine stands still, the deadline comes before the last piece.
  await stranger.link.dribble(subscribe().subarray(0, 20), 3).catch(() => {});
  await stranger.link.end();
  await scene.refuses(/^v9: the rest of its message did not come within 300 ms \(option handshakeTimeoutMs\)$/);
  consumer.link.send(request.subarray(20));
  await consumer.expectReady(slot.token);
}, SKIP);

guarded("no message is longer than one with two full lists", async (held) => {
  const scene = await Scene.open(held);
  const longest = scene.connect();
  longest.link.send(Uint8Array.of(28, 0, 128, 0));
  const longer = scene.connect();
  longer.link.send(Uint8Array.of(29, 0, 128, 0));
  await longer.link.end();
  await scene.refuses(/^v9: .*it has 8388637 bytes, the limit is 8388636/);
}, SKIP);

guarded("descriptors that come along are refused", async (held) => {
  const scene = await Scene.open(held);
  const { slot } = await scene.slot();
  const stranger = scene.connect();
  stranger.link.send(subscribe(), [slot.wake.fd]);
  await stranger.link.end();
  await scene.refuses(/^v9: .*it brought descriptors that nobody asked for/);
}, SKIP);

guarded("connections that never ask for a slot are bounded", async (held) => {
  const scene = await Scene.open(held);
  const honest = await scene.slot();
  const nobody = ping({ index: 9, generation: 9n });
  const idle = Array.from({ length: 260 }, () => {
    const consumer = scene.connect();
    consumer.link.send(nobody);
    return consumer;
  });
  await eventually("the oldest are closed", () => {
    return idle.slice(0, 4).every(({ link }) => link.receiveOnce() !== undefined && link.isEnded);
  });
  await scene.refuses(...Array(4).fill(/^v9: 256 connections had no slot, and this was the oldest of them$/));
  const slot = await idle.at(-1)!.open();
  assert.equal(slot.token.index, 1);
  assert.ok(!honest.consumer.link.isEnded);
}, SKIP);

for (const runtime of RUNTIMES) {
  guarded(`200 messages of 16 MiB that are announced and never come take no memory, in ${runtime}`, async (held) => {
    const temporary = held.use(new Temporary());
    const path = temporary.at("s.sock");
    const agent = held.use(new Agent(runtime));
    await agent.run(async (scope, path) => {
      scope.sender = await scope.qlaster.setupSender({ path, ringCapacityBytes: 65536, handshakeTimeoutMs: 60_000 });
    }, path);
    const rss = () => {
      return Number(/VmRSS:\s*(\d+) kB/.exec(readFileSync(`/proc/${agent.pid}/status`, "utf8"))![1]) * 1024;
    };
    const half = () => held.use(new RawV9Consumer(path));
    await half().open();
    const before = rss();
    for (let i = 0; i < 200; i++) half().link.send(Uint8Array.of(0, 0, 0, 1, 9, 1, 255)); // 16 MiB, three bytes of it
    await half().open(); // behind them in the queue
    await agent.run(() => new Promise((resolve) => setTimeout(resolve, 200))); // handshakes look every 50 ms
    const grown = rss() - before;
    assert.ok(grown < 200 * MIB, `${grown} bytes`);
  }, SKIP);

  guarded(`accepting goes on after descriptors ran out, in ${runtime}`, async (held) => {
    const temporary = held.use(new Temporary());
    const path = temporary.at("s.sock");
    const openFilesMax = 120;
    const agent = held.use(new Agent(runtime, { openFilesMax }));
    await agent.run(async (scope, path) => {
      const v9 = { slotsMax: 255 };
      scope.sender = await scope.qlaster.setupSender({
        path,
        ringCapacityBytes: 65536,
        v9,
        handshakeTimeoutMs: 20_000,
      });
    }, path);
    const honest = held.use(new RawV9Consumer(path));
    const slot = await honest.open();
    const many = Array.from({ length: 60 }, () => held.use(new RawV9Consumer(path)));
    for (const { link } of many) link.send(subscribe());
    await eventually("descriptors run out", () => footprintOf(agent.pid).descriptors.length >= openFilesMax - 6);
    await agent.run(({ sender }) => sender.publishSlot({ slot: 1n, parent: 0n, status: "processed" }));
    assert.equal((await slot.frames(1)).length, 1, "those who were there go on");
    for (const consumer of many) consumer[Symbol.dispose]();
    // A place in the queue may still be refused while the others are cleared away.
    let fresh: RawV9Slot | undefined;
    await eventually("somebody new gets a slot", async () => {
      const consumer = held.use(new RawV9Consumer(path));
      consumer.link.send(subscribe());
      const received = await consumer.link.received();
      if (received.bytes.length > 0) fresh = consumer.taken(received);
      return fresh !== undefined;
    });
    await agent.run(({ sender }) => sender.publishSlot({ slot: 2n, parent: 1n, status: "processed" }));
    assert.deepEqual([(await fresh!.frames(1)).length, (await slot.frames(1)).length], [1, 1]);
  }, SKIP);
}

guarded("messages that are never finished are bounded over all connections: the oldest go", async (held) => {
  const scene = await Scene.open(held, { handshakeTimeoutMs: 60_000 });
  const honest = await scene.slot();
  const begun = framed(new Uint8Array(8 * MIB)).subarray(0, 7 * MIB);
  const first = scene.connect();
  await first.open(); // one with a slot, and its second message
  const links = [first.link, ...Array.from({ length: 11 }, () => scene.connect().link)];
  for (const link of links) {
    try {
      await link.sendLong(begun);
    } catch {
      // Closed meanwhile.
    }
  }
  // Nine times 7 MiB fit into 64.
  await eventually(
    "three are closed",
    () => links.slice(0, 3).every((link) => link.unread.length === 0 && link.isEnded),
  );
  await scene.refuses(
    /^v9: unfinished messages took more than 67108864 bytes, and its was the oldest$/,
    /^v9: unfinished messages took more than/,
  );
  assert.deepEqual(scene.ends, ["evicted"]);
  for (const link of links.slice(3)) assert.ok(link.unread.length === 0 && !link.isEnded);
  await honest.consumer.subscribe(honest.slot.token, { accounts: [key(1)] });
  scene.sender.publishAccount(account());
  assert.equal((await honest.slot.frames(1)).length, 1);
}, SKIP);

guarded("v9: false closes on whatever is not the native protocol", async (held) => {
  const scene = await Scene.open(held, { v9: false });
  const consumer = scene.connect();
  consumer.link.send(subscribe());
  await consumer.link.end();
  await scene.refuses(/^v9: it does not speak the native protocol, and no other is served \(option v9\)$/);
}, SKIP);

guarded(
  "who leaves or comes too late is told of, too, and a slot that can't be made, with what helps",
  async (held) => {
    const temporary = held.use(new Temporary());
    const ringDirectory = temporary.at("above/rings");
    const scene = await Scene.open(held, { v9: { ring: "file", ringDirectory } });
    rmSync(temporary.at("above"), { recursive: true });
    writeFileSync(temporary.at("above"), "");
    const [silent, midway, asking, pinging] = [scene.connect(), scene.connect(), scene.connect(), scene.connect()];
    silent.link.close();
    await eventually("it is seen", () => scene.refusals.length === 1);
    midway.link.send(subscribe().subarray(0, 20));
    midway.link.close();
    await eventually("it is seen", () => scene.refusals.length === 2);
    asking.link.send(subscribe());
    await asking.link.end();
    pinging.link.send(ping({ index: 0, generation: 1n }));
    pinging.link.close();
    await eventually("it is seen", () => scene.refusals.length === 4);
    const late = scene.connect();
    late.link.send(Uint8Array.of(28, 0, 0, 0));
    await eventually("it was accepted, and what it said was read", () => late.link.isTaken);
    assert.equal(scene.sender.metrics.refused, 4);
    await scene.sender.close();
    await late.link.end();
    await scene.refuses(
      /^undefined: it closed the connection before it had said anything whole$/,
      /^v9: it closed the connection before it had said anything whole$/,
      /^v9: Cannot create a ring of 65536 bytes in ".*\/rings" \(not a directory .*: .* in the option v9\.ringDirectory/,
      /^v9: it closed the connection before it had a slot$/,
      /^v9: the sender is closing$/,
    );
  },
  SKIP,
);

guarded("where no ring file can be made there is no sender, and the error says what helps", async (held) => {
  const temporary = held.use(new Temporary());
  writeFileSync(temporary.at("file"), "");
  mkdirSync(temporary.at("open"));
  chmodSync(temporary.at("open"), 0o777);
  const path = temporary.at("s.sock");
  const cases = [
    [
      `${temporary.at("file")}/rings`,
      "SYSTEM",
      /Cannot create a ring of 65536 bytes in ".*" \(not a directory .*ringDir/,
    ],
    [
      temporary.at("open"),
      "SENDER_DIRECTORY_UNSAFE",
      /others may write to it or to a directory above.* v9\.ringDirectory$/,
    ],
  ] as const;
  for (const [ringDirectory, code, message] of cases) {
    for (const ring of ["file", "memfd"] as const) {
      const setup = setupSender({ path, ringCapacityBytes: CAPACITY, v9: { ring, ringDirectory } });
      await assert.rejects(setup, { code, message });
      assert.equal(existsSync(path), false);
    }
  }
  await Scene.open(held, { v9: { ring: "file", ringDirectory: temporary.at("rings") } });
  assert.deepEqual(readdirSync(temporary.at("rings")), [], "the ring that was tried is gone");
}, SKIP);

guarded("two senders of one process make their ring files in one directory", async (held) => {
  const ringDirectory = held.use(new Temporary()).at("rings");
  const scenes = [];
  for (let i = 0; i < 3; i++) scenes.push(await Scene.open(held, { v9: { ring: "file", ringDirectory } }));
  const slots = [];
  for (const scene of scenes) slots.push((await scene.slot()).slot);
  assert.equal(new Set(slots.map(({ path }) => path)).size, 3);
  assert.deepEqual(slots.map(({ token }) => token), [1n, 2n, 3n].map((generation) => ({ index: 0, generation })));
  for (const { refusals } of scenes) assert.deepEqual(refusals, []);
}, SKIP);

guarded("another user is no consumer of version 9, even one that may be a native one", async (held) => {
  const scene = await Scene.open(held, { uids: [NOBODY] });
  chmodSync(scene.temporary.path, 0o755);
  const agent = held.use(new Agent(OWN_RUNTIME));
  const reply = await agent.run(async ({ qlaster, libc, kept }, { path, uid, request }) => {
    await qlaster.load();
    libc.becomeUser(uid);
    kept.consumer = await qlaster.setupConsumer(path, { reconnect: false, protocol: "native" });
    const calls = libc.libc();
    const fd = calls.socket(1, 1, 0); // blocking: the sender is another process
    const address = Uint8Array.from([1, 0, ...new TextEncoder().encode(path), 0]);
    if (calls.connect(fd, address, address.length) !== 0) throw new Error("connect failed");
    calls.write(fd, Uint8Array.from(request), BigInt(request.length));
    return Number(calls.read(fd, new Uint8Array(100), 100n));
  }, { path: scene.path, uid: NOBODY, request: [...subscribe()] });
  assert.ok(reply <= 0, `${reply} bytes came`); // the end, or a reset
  assert.deepEqual(scene.sender.consumers().map(({ protocol, uid }) => [protocol, uid]), [["native", NOBODY]]);
  await scene.refuses(/^v9: wire version 9 is for uid 0 and root, and it runs as uid 65534$/);
}, AS_ROOT);

guarded("root may be a consumer of version 9, and a native one only if it is named", async (held) => {
  const temporary = held.use(new Temporary());
  chmodSync(temporary.path, 0o1777);
  const path = temporary.at("s.sock");
  const agent = held.use(new Agent(OWN_RUNTIME));
  await agent.run(async (scope, { path, uid }) => {
    await scope.qlaster.load();
    scope.libc.becomeUser(uid);
    scope.sender = await scope.qlaster.setupSender({ path, ringCapacityBytes: 65536 });
  }, { path, uid: NOBODY });
  const consumer = held.use(new RawV9Consumer(path));
  const slot = await consumer.open();
  await agent.run(({ sender }) => sender.publishSlot({ slot: 3n, parent: 2n, status: "processed" }));
  assert.deepEqual(bodies(await slot.frames(1)), [slotFrame(3n)]);
  const refused = { code: "CONNECT_REFUSED", message: /uid 0 is not among those/ };
  await assert.rejects(setupConsumer(path, { protocol: "native", uids: [NOBODY] }), refused);
  await agent.run(({ sender }) => sender.close());
}, AS_ROOT);

// Together with the native protocol

guarded("native consumers and those of version 9 share a path, an order, and no limit", async (held) => {
  const scene = await Scene.open(held, { consumersMax: 1, v9: { slotsMax: 1 } });
  const native = held.use(await setupConsumer(scene.path, { reconnect: false }));
  await native.subscribe({ accounts: [key(1)], transactions: true });
  const { consumer, slot } = await scene.slot();
  await consumer.subscribe(slot.token, { accounts: [key(1)] });
  assert.equal(scene.sender.publishAccount(account({ lamports: 42n })), 2);
  assert.equal(
    scene.sender.publishTransaction({
      slot: 7n,
      index: 0,
      signature: new Uint8Array(64),
      message: new Uint8Array(1),
    }),
    1,
  );
  assert.equal(scene.sender.publishSlot({ slot: 7n, parent: 6n, status: "processed" }), 2);
  assert.equal(bodies(await slot.frames(2)).length, 2);
  const kinds = [await native.next(), await native.next(), await native.next()].map((update) => update?.kind);
  assert.deepEqual(kinds, ["account", "transaction", "slot"]);
  assert.deepEqual(scene.sender.consumers().map(({ protocol }) => protocol), ["native", "v9"]);
  assert.equal(native.slotToken, undefined);
  // Neither end is the other's.
  consumer.link.close();
  await scene.ended(1);
  assert.equal(scene.sender.publishAccount(account()), 1);
}, SKIP);

guarded("timings have the original's names, and count what it counts", async (held) => {
  const scene = await Scene.open(held, { timings: true });
  const { slot } = await scene.slot(subscribe({ accounts: [key(1)] }));
  await scene.slot(subscribe({ accounts: [key(1)] }));
  const { timings } = scene.sender;
  assert.ok(timings !== undefined);
  scene.sender.publishAccount(account());
  scene.sender.publishAccount(account({ pubkey: key(50) }));
  assert.deepEqual([timings.dispatch.peek().count, timings.shm_send.peek().count], [2, 2]);
  slot.ring.readAll();
  scene.sender.publishAccount(account({ data: dataFor(65_500) }));
  assert.equal(timings.shm_ring_full.flush(), 1);
  const { count, total_us, min_us, max_us } = timings.dispatch.flush();
  assert.ok(count === 3 && min_us <= max_us && max_us <= total_us, `${count} ${total_us} ${min_us} ${max_us}`);
  assert.equal(timings.shm_send.flush().count, 3);
  assert.equal(timings.dispatch.peek().count, 0);
  assert.equal((await Scene.open(held)).sender.timings, undefined);
}, SKIP);

// Files

guarded("ring files are private, reserved, named as the original's, and removed when their slot ends", async (held) => {
  const directory = held.use(new Temporary()).at("rings");
  const scene = await Scene.open(held, { v9: { ring: "file", ringDirectory: directory } });
  const { consumer, slot } = await scene.slot(subscribe({ accounts: [key(1)] }));
  assert.equal(slot.path, `${directory}/${process.pid}-0-1`);
  const { mode, size, blocks } = statSync(slot.path);
  assert.deepEqual([mode & 0o777, size], [0o600, 320 + CAPACITY]);
  assert.ok(blocks * 512 >= size, "a full disk is an error at creation, not a crash later");
  assert.equal(statSync(directory).mode & 0o777, 0o700);
  scene.sender.publishAccount(account());
  assert.equal((await slot.frames(1)).length, 1);
  consumer.link.close();
  await scene.ended(1);
  assert.ok(!existsSync(slot.path));
}, SKIP);

guarded("a sender killed leaves no path to memory, and files that the next start removes", async (held) => {
  const temporary = held.use(new Temporary());
  const directory = temporary.at("rings");
  for (const ring of ["memfd", "file"] as const) {
    const agent = held.use(new Agent(OWN_RUNTIME));
    const path = temporary.at(`${ring}.sock`);
    await agent.run(async (scope, [path, ring, ringDirectory]) => {
      const v9 = { ring, ringDirectory };
      scope.sender = await scope.qlaster.setupSender({ path, ringCapacityBytes: 65536, v9 });
    }, [path, ring, directory] as [string, "memfd" | "file", string]);
    const consumer = held.use(new RawV9Consumer(path));
    const slot = await consumer.open();
    assert.ok(existsSync(slot.path));
    agent.signal("SIGKILL");
    await agent.ended;
    await consumer.link.end();
    assert.equal(existsSync(slot.path), ring === "file");
    slot.ring.readAll(); // what was mapped stays readable
    if (ring === "memfd") continue;
    // Not before nobody uses it any more.
    await Scene.open(held, { v9: { ringDirectory: directory } });
    assert.ok(existsSync(slot.path));
    consumer[Symbol.dispose]();
  }
  writeFileSync(`${directory}/notes.txt`, "no ring");
  const living = await Scene.open(held, { v9: { ring: "file", ringDirectory: directory } });
  await living.slot();
  assert.deepEqual(readdirSync(directory).sort(), [`${process.pid}-0-1`, "notes.txt"]);
  await Scene.open(held, { v9: { ringDirectory: directory } });
  assert.deepEqual(readdirSync(directory).sort(), [`${process.pid}-0-1`, "notes.txt"]);
}, SKIP);

guarded("what a killed sender left in the default place goes with the next start of any sender", async (held) => {
  const temporary = held.use(new Temporary());
  const agent = held.use(new Agent(OWN_RUNTIME));
  const path = temporary.at("s.sock");
  await agent.run(async (scope, path) => {
    scope.sender = await scope.qlaster.setupSender({ path, ringCapacityBytes: 65536, v9: { ring: "file" } });
  }, path);
  const consumer = held.use(new RawV9Consumer(path));
  const slot = await consumer.open();
  assert.equal(slot.path, `/dev/shm/qlaster-${agent.pid}/${agent.pid}-0-1`);
  agent.signal("SIGKILL");
  await agent.ended;
  assert.ok(existsSync(slot.path));
  consumer[Symbol.dispose]();
  await Scene.open(held);
  assert.ok(!existsSync(`/dev/shm/qlaster-${agent.pid}`));
}, SKIP);
