/**
 * Whole senders and consumers against those of the Rust program, which are written from the references of the original:
 * every kind of update field by field, filters, evictions, deaths, both ways.
 * May touch: the library as a user would, the Rust program, the temporary directory. May not touch: src/.
 */

import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import {
  type AccountUpdate,
  type Consumer,
  type ConsumerEvent,
  isQlasterError,
  type Sender,
  type SenderOptions,
  setupConsumer,
  setupSender,
  type SubscriptionEvent,
  type TransactionUpdate,
} from "../../mod.ts";
import { Agent } from "../support/agent_process.ts";
import { eventually } from "../support/footprint.ts";
import { guarded, type Held } from "../support/guarded.ts";
import { OWN_RUNTIME, RUNTIMES } from "../support/runtime.ts";
import { accountKey, ownerKey } from "../support/script.ts";
import { Temporary } from "../support/temporary.ts";
import { hashOf, Script, StreamHash } from "./support/ring_stream.ts";
import { rustPeer, RustProcess, type UpdateLine } from "./support/rust.ts";

const MIB = 1024 * 1024;
const U64_MAX = (1n << 64n) - 1n;
const peer = rustPeer();
const options = { skip: peer.missing };

const hex = (bytes: ArrayLike<number>) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const turn = () => new Promise<void>((resolve) => setTimeout(resolve, 0));

/** What does not compress. */
function noise(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const script = new Script(length);
  for (let at = 0; at < length;) {
    const part = script.payload.subarray(0, Math.min(script.frame(1), length - at));
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Accounts with something special each: empty, small, all limits, large and compressible, large and not. */
const ACCOUNTS: readonly (AccountUpdate & { readonly writeVersion: bigint; readonly rentEpoch: bigint })[] = [
  { data: new Uint8Array(0), lamports: 0n, slot: 0n, writeVersion: 0n, rentEpoch: 0n, executable: false },
  { data: Uint8Array.of(1, 2, 3), lamports: 5n, slot: 7n, writeVersion: 8n, rentEpoch: 6n, executable: true },
  { data: noise(165), lamports: U64_MAX, slot: U64_MAX, writeVersion: U64_MAX, rentEpoch: U64_MAX, executable: true },
  { data: new Uint8Array(511_999).fill(7), lamports: 1n, slot: 2n, writeVersion: 3n, rentEpoch: 4n, executable: false },
  { data: new Uint8Array(643_072).fill(0xab), lamports: 9n, slot: 1n << 53n, writeVersion: 1n, rentEpoch: 0n },
  { data: noise(600_000), lamports: 2n, slot: 3n, writeVersion: (1n << 53n) + 1n, rentEpoch: 1n, executable: false },
].map((fields, i) => ({ kind: "account", pubkey: accountKey(i), owner: ownerKey(i % 2), ...fields }));

const TRANSACTIONS: readonly TransactionUpdate[] = [
  { kind: "transaction", slot: 7n, index: 3, signature: noise(64), message: Uint8Array.of(0x74, 0x78), vote: false },
  { kind: "transaction", slot: U64_MAX, index: 0xffffffff, signature: noise(64), message: noise(4096), vote: true },
  { kind: "transaction", slot: 0n, index: 0, signature: noise(64), message: new Uint8Array(0), vote: true },
];

/** How the Rust consumer prints a payload. */
function printed(bytes: Uint8Array): UpdateLine {
  return { length: bytes.length, ...(bytes.length > 64 ? { hash: hashOf(bytes) } : { payload: hex(bytes) }) };
}

function accountLine(update: (typeof ACCOUNTS)[number]): UpdateLine {
  return {
    kind: "account",
    pubkey: hex(update.pubkey as Uint8Array),
    owner: hex(update.owner as Uint8Array),
    lamports: `${update.lamports}`,
    executable: update.executable ?? false,
    rentEpoch: `${update.rentEpoch}`,
    slot: `${update.slot}`,
    writeVersion: `${update.writeVersion}`,
    ...printed(update.data as Uint8Array),
  };
}

function transactionLine(update: TransactionUpdate): UpdateLine {
  return {
    kind: "transaction",
    slot: `${update.slot}`,
    index: update.index,
    vote: update.vote ?? false,
    signature: hex(update.signature as Uint8Array),
    ...printed(update.message as Uint8Array),
  };
}

const compressed = (update: AccountUpdate) => update.data.length === 643_072;
const nowNs = () => BigInt(Date.now()) * 1_000_000n;

// Our sender, Rust consumers

interface Stage {
  readonly sender: Sender;
  readonly path: string;
  readonly rings: string;
  readonly subscriptions: SubscriptionEvent[];
  readonly events: ConsumerEvent[];
}

async function openSender(held: Held, v9: NonNullable<SenderOptions["v9"]>, capacity = 4 * MIB): Promise<Stage> {
  const temporary = held.use(new Temporary());
  const [path, rings] = [temporary.at("s.sock"), temporary.at("rings")];
  const subscriptions: SubscriptionEvent[] = [];
  const events: ConsumerEvent[] = [];
  const sender = held.use(
    await setupSender({
      path,
      ringCapacityBytes: capacity,
      v9: v9 === false ? false : { ringDirectory: rings, ...v9 },
      onSubscription: (event) => void subscriptions.push(event),
      onConsumer: (event) => void events.push(event),
    }),
  );
  return { sender, path, rings, subscriptions, events };
}

/** A Rust consumer that is connected and has subscribed. */
async function rustConsumer(held: Held, path: string, ...args: (string | number)[]): Promise<RustProcess> {
  const consumer = held.use(new RustProcess(peer, "consumer", path, ...args));
  await consumer.event("ready");
  if (args.includes("--accounts") || args.includes("--owners")) await consumer.event("subscribed");
  if (args.includes("--transactions")) await consumer.event("subscribed");
  return consumer;
}

async function disconnected(stage: Stage): Promise<string> {
  const isEnd = (event: ConsumerEvent) => event.type === "disconnected";
  await eventually("a consumer is disconnected", () => stage.events.some(isEnd));
  const [event] = stage.events.splice(stage.events.findIndex(isEnd), 1);
  return (event as { reason: string }).reason;
}

for (const ring of ["memfd", "file"] as const) {
  guarded(`a Rust consumer gets every field of every kind from our sender (${ring})`, async (held) => {
    const { sender, path } = await openSender(held, { ring });
    const owners = [ownerKey(0), ownerKey(1)].map(hex).join(",");
    const consumer = await rustConsumer(held, path, "--owners", owners, "--transactions", "--print");
    const before = nowNs();
    for (const update of ACCOUNTS) assert.equal(sender.publishAccount(update), 1);
    for (const update of TRANSACTIONS) assert.equal(sender.publishTransaction({ ...update, meta: noise(30) }), 1);
    assert.equal(sender.publishSlot({ slot: 456n, parent: 455n, status: "processed" }), 1);
    // Another status is no slot update in version 9.
    assert.equal(sender.publishSlot({ slot: 456n, parent: 455n, status: "confirmed" }), 0);
    assert.equal(sender.publishSlot({ slot: U64_MAX, parent: 455n, status: "processed" }), 1);
    const after = nowNs() + 1_000_000n;

    const lines = await consumer.updates(ACCOUNTS.length + TRANSACTIONS.length + 2);
    const expected = [
      ...ACCOUNTS.map((update) => ({ ...accountLine(update), compressed: compressed(update) })),
      ...TRANSACTIONS.map(transactionLine),
      { kind: "slot", slot: "456" },
      { kind: "slot", slot: `${U64_MAX}` },
    ];
    for (const [i, { created, wireLength, ...line }] of lines.entries()) {
      assert.deepEqual(line, expected[i], `update ${i}`);
      assert.ok(BigInt(created as string) >= before && BigInt(created as string) <= after, `update ${i}: ${created}`);
      if (line["compressed"] === true) assert.ok((wireLength as number) < 4000);
    }
    const { bad, accounts, transactions, slots } = await consumer.counts();
    assert.deepEqual([bad, accounts, transactions, slots], [0, ACCOUNTS.length, TRANSACTIONS.length, 2]);
  }, options);

  guarded(`a Rust consumer gets everything up to close(), then the sentinel (${ring})`, async (held) => {
    const { sender, path, rings } = await openSender(held, { ring });
    const consumer = await rustConsumer(held, path);
    for (let slot = 1n; slot <= 1000n; slot++) sender.publishSlot({ slot, parent: 0n, status: "processed" });
    await sender.close();
    assert.equal((await consumer.event("closed"))["why"], "sentinel");
    assert.equal((await consumer.event("count"))["slots"], 1000);
    if (existsSync(rings)) assert.deepEqual(readdirSync(rings), []);
  }, options);

  guarded(`a Rust consumer that does not read is evicted, and gets what was before (${ring})`, async (held) => {
    const stage = await openSender(held, { ring }, 65536);
    const consumer = await rustConsumer(held, stage.path);
    consumer.say("stop-reading");
    await consumer.counts(); // commands are taken in order; the reader may be about to wait
    let published = 0;
    for (let i = 1; stage.events.every((event) => event.type !== "disconnected"); i++) {
      published += stage.sender.publishSlot({ slot: 1n, parent: 0n, status: "processed" });
      if (i % 100 === 0) await turn();
    }
    assert.equal(await disconnected(stage), "slow-consumer");
    assert.ok(published >= Math.floor(65536 / 22));
    consumer.say("read");
    const { why } = await consumer.event("closed");
    assert.ok(why === "sentinel" || why === "path", `${why}`);
    assert.equal((await consumer.event("count"))["slots"], published);
    // Its token is worthless now. As with the original, each try makes a slot that it can't use; here the last one goes.
    for (let i = 0; i < 3; i++) {
      consumer.say(`subscribe owners=${hex(ownerKey(0))}`);
      await consumer.event("error");
      assert.ok(stage.sender.consumers().length <= 1);
    }
  }, options);

  guarded(`a killed Rust consumer frees its slot at once (${ring})`, async (held) => {
    const stage = await openSender(held, { ring, slotsMax: 1 });
    for (let i = 0; i < 12; i++) {
      const consumer = await rustConsumer(held, stage.path);
      consumer.signal("SIGKILL");
      assert.equal(await disconnected(stage), "consumer-gone");
    }
    assert.equal(stage.sender.consumers().length, 0);
    if (existsSync(stage.rings)) assert.deepEqual(readdirSync(stage.rings), []);
  }, options);

  guarded(`a Rust consumer of a killed sender of ours learns it from its ping (${ring})`, async (held) => {
    const temporary = held.use(new Temporary());
    const agent = held.use(new Agent(OWN_RUNTIME));
    const sender = { path: temporary.at("s.sock"), v9: { ring, ringDirectory: temporary.at("rings") } };
    await agent.run(async (scope, given) => {
      scope.sender = await scope.qlaster.setupSender(given);
    }, sender);
    const consumer = await rustConsumer(held, sender.path);
    await agent.run(({ sender }) => sender.publishSlot({ slot: 1n, parent: 0n, status: "processed" }));
    await eventually("the slot is there", async () => (await consumer.counts()).slots === 1);
    agent.signal("SIGKILL");
    await agent.ended;
    consumer.say("ping");
    assert.match(`${(await consumer.event("error"))["error"]}`, /^Io: /);

    // The next sender leaves nothing of the dead one, once nobody has its files open.
    consumer.signal("SIGKILL");
    await consumer.ended;
    const next = held.use(await setupSender(sender));
    const leftovers = existsSync(sender.v9.ringDirectory) ? readdirSync(sender.v9.ringDirectory) : [];
    assert.deepEqual(leftovers, []);
    await rustConsumer(held, next.path);
  }, options);
}

guarded(
  "a Rust consumer killed between a frame's prefix and its body costs its slot, and the others nothing",
  async (held) => {
    const stage = await openSender(held, { slotsMax: 2 }, 65536);
    const other = await rustConsumer(held, stage.path);
    for (let i = 0; i < 3; i++) {
      const consumer = await rustConsumer(held, stage.path, "--stop-within", 5);
      for (let slot = 1n; slot <= 10n; slot++) stage.sender.publishSlot({ slot, parent: 0n, status: "processed" });
      await consumer.event("within");
      assert.equal(stage.sender.publishSlot({ slot: 11n, parent: 0n, status: "processed" }), 2);
      consumer.signal("SIGKILL");
      assert.equal(await disconnected(stage), "consumer-gone");
    }
    await eventually("the other one has all", async () => (await other.counts()).slots === 33);
    assert.deepEqual(stage.sender.consumers().map(({ pid }) => pid), [other.pid]);
  },
  options,
);

guarded("our sender forwards what a Rust consumer subscribes to, with its token", async (held) => {
  const stage = await openSender(held, {});
  const keys = [accountKey(2), accountKey(1), accountKey(2)];
  const consumer = await rustConsumer(held, stage.path, "--accounts", keys.map(hex).join(","), "--transactions");
  await eventually("three requests are forwarded", () => stage.subscriptions.length >= 3);
  const [bootstrap, accounts, transactions] = stage.subscriptions as [SubscriptionEvent, ...SubscriptionEvent[]];
  assert.deepEqual([bootstrap.token, bootstrap.accounts.length, bootstrap.transactions], [undefined, 0, false]);
  assert.deepEqual(accounts!.token, { slotIndex: 0, generation: 1n });
  assert.deepEqual(accounts!.accounts.map(hex), keys.map(hex));
  assert.deepEqual([transactions!.accounts.length, transactions!.transactions], [0, true]);
  const [info] = stage.sender.consumers();
  assert.deepEqual([info!.protocol, info!.pid, info!.accounts, info!.transactions], ["v9", consumer.pid, 2, true]);
  assert.equal(stage.subscriptions.length, 3);
}, options);

guarded("two Rust consumers and one of ours get what each asked for", async (held) => {
  const { sender, path } = await openSender(held, {});
  const one = await rustConsumer(held, path, "--owners", hex(ownerKey(0)), "--print");
  const other = await rustConsumer(held, path, "--accounts", hex(accountKey(9)), "--transactions", "--print");
  const ours = held.use(await setupConsumer(path, { reconnect: false }));
  await ours.subscribe({ owners: [ownerKey(0), ownerKey(1)], transactions: true });
  const account = { lamports: 1n, data: noise(100), slot: 1n };
  assert.equal(sender.publishAccount({ ...account, pubkey: accountKey(1), owner: ownerKey(0) }), 2);
  assert.equal(sender.publishAccount({ ...account, pubkey: accountKey(9), owner: ownerKey(1) }), 2);
  assert.equal(sender.publishAccount({ ...account, pubkey: accountKey(3), owner: ownerKey(2) }), 0);
  assert.equal(sender.publishTransaction(TRANSACTIONS[0]!), 2);
  assert.equal(sender.publishSlot({ slot: 1n, parent: 0n, status: "processed" }), 3);
  const kinds = (lines: UpdateLine[]) => lines.map((line) => `${line["kind"]} ${line["pubkey"] ?? ""}`);
  assert.deepEqual(kinds(await one.updates(2)), [`account ${hex(accountKey(1))}`, "slot "]);
  assert.deepEqual(kinds(await other.updates(3)), [`account ${hex(accountKey(9))}`, "transaction ", "slot "]);
  const got: string[] = [];
  while (got.at(-1) !== "slot") got.push((await ours.next())!.kind);
  assert.deepEqual(got, ["account", "account", "transaction", "slot"]);
}, options);

guarded("a Rust consumer that says nothing is evicted, one that pings is not", async (held) => {
  // Long: where its machine stands still, the other one's pings do not come either.
  const stage = await openSender(held, { idleTimeoutMs: 6000 });
  const silent = await rustConsumer(held, stage.path);
  const alive = await rustConsumer(held, stage.path, "--ping-ms", 50);
  assert.equal(await disconnected(stage), "idle");
  assert.equal((await silent.event("closed"))["why"], "sentinel");
  assert.deepEqual(stage.sender.consumers().map(({ pid }) => pid), [alive.pid]);
  assert.equal(stage.sender.publishSlot({ slot: 1n, parent: 0n, status: "processed" }), 1);
  await eventually("the slot is there", async () => (await alive.counts()).slots === 1);
}, options);

guarded("a Rust consumer for whom there is no slot sees the connection closed; then there is one", async (held) => {
  const stage = await openSender(held, { slotsMax: 1 });
  const first = await rustConsumer(held, stage.path);
  const second = held.use(new RustProcess(peer, "consumer", stage.path));
  assert.match(`${(await second.event("error"))["error"]}`, /closed before it was ready/);
  first.say("exit");
  assert.equal(await disconnected(stage), "consumer-gone");
  await rustConsumer(held, stage.path);
}, options);

guarded("a Rust consumer notices nothing over 20,000 mixed updates", async (held) => {
  const count = 20_000;
  const { sender, path } = await openSender(held, {}, 2 * MIB);
  const consumer = await rustConsumer(
    held,
    path,
    ...["--owners", hex(ownerKey(0)), "--transactions", "--count", count, "--ping-ms", 20],
  );
  const script = new Script(5);
  const hash = new StreamHash();
  const counts = { accounts: 0, transactions: 0, slots: 0, compressed: 0 };
  const large = ACCOUNTS.find(compressed)!;
  for (let number = 1; number <= count; number++) {
    while (sender.consumers().some(({ ring }) => ring.usedBytes > MIB)) await turn();
    const size = script.frame(number);
    const data = number % 5000 === 0 ? large.data as Uint8Array : script.payload.slice(0, size);
    const slot = BigInt(number);
    let taken: number;
    if (number % 10 === 3) {
      counts.slots++;
      hash.bytes(new Uint8Array(0));
      taken = sender.publishSlot({ slot, parent: slot - 1n, status: "processed" });
    } else if (number % 10 < 3 && number % 5000 !== 0) {
      counts.transactions++;
      hash.bytes(data);
      taken = sender.publishTransaction({ slot, index: number, signature: noise(64), message: data });
    } else {
      counts.accounts++;
      if (data === large.data) counts.compressed++;
      hash.bytes(data);
      taken = sender.publishAccount({ pubkey: accountKey(number), owner: ownerKey(0), lamports: slot, data, slot });
    }
    assert.equal(taken, 1, `update ${number}`);
  }
  await consumer.event("done");
  const { event: _, ...told } = await consumer.event("count");
  assert.deepEqual(told, { ...counts, bad: 0, hash: hash.hex });
}, { ...options, timeoutMs: 100_000 });

// A Rust sender, our consumers

async function openRust(held: Held, capacity = 4 * MIB, ...args: (string | number)[]) {
  const temporary = held.use(new Temporary());
  const [path, rings] = [temporary.at("s.sock"), temporary.at("rings")];
  const sender = held.use(new RustProcess(peer, "sender", path, "--dir", rings, "--capacity", capacity, ...args));
  await sender.event("listening");
  return { sender, path, rings };
}

/** Reads to the end and says why it came. */
async function readToEnd(consumer: Consumer, onUpdate: () => void = () => {}): Promise<string> {
  try {
    for await (const _ of consumer) onUpdate();
  } catch (error) {
    if (!isQlasterError(error, "CONNECTION_LOST")) throw error;
    return error.reason!;
  }
  return consumer.ended!.reason;
}

/** How the Rust sender is told an update: a large payload as one byte and a count. */
function told(line: UpdateLine, name: string, bytes: Uint8Array): UpdateLine {
  const { length: _length, payload: _payload, hash: _hash, ...fields } = line;
  const isFlat = bytes.length > 200 && new Set(bytes).size === 1;
  return { ...fields, [name]: isFlat ? `${hex(bytes.subarray(0, 1))}x${bytes.length}` : hex(bytes) };
}

const toldAccount = (update: (typeof ACCOUNTS)[number]) => told(accountLine(update), "data", update.data as Uint8Array);
const toldTransaction = (update: TransactionUpdate) =>
  told(transactionLine(update), "payload", update.message as Uint8Array);

guarded("the Rust sender and the Rust consumer understand each other", async (held) => {
  const { sender, path, rings } = await openRust(held);
  const owners = [ownerKey(0), ownerKey(1)].map(hex).join(",");
  const consumer = await rustConsumer(held, path, "--owners", owners, "--transactions", "--print");
  for (const update of ACCOUNTS) {
    sender.tell(toldAccount(update));
    const [{ created: _, wireLength, ...line }] = await consumer.updates(1) as [UpdateLine];
    assert.deepEqual(line, { ...accountLine(update), compressed: compressed(update) });
    assert.equal(wireLength, compressed(update) ? 2533 : update.data.length);
  }
  for (const update of TRANSACTIONS) {
    sender.tell(toldTransaction(update));
    const [{ created: _, wireLength: _w, ...line }] = await consumer.updates(1) as [UpdateLine];
    assert.deepEqual(line, transactionLine(update));
  }
  sender.tell({ kind: "exit" });
  assert.deepEqual(await sender.ended, { code: 0, signal: null });
  assert.deepEqual(readdirSync(rings), []);
}, options);

guarded("our consumer gets every field of every kind from a Rust sender, in every way of reading", async (held) => {
  const { sender, path } = await openRust(held);
  const consumer = held.use(await setupConsumer(path, { reconnect: false }));
  await consumer.subscribe({ owners: [ownerKey(0)], transactions: true });
  await consumer.subscribe({ owners: [ownerKey(1)] });
  for (const update of ACCOUNTS) {
    const before = nowNs() - 1_000_000n;
    sender.tell(toldAccount(update));
    const view = await consumer.next();
    assert.ok(view?.kind === "account");
    const copy = view.copy();
    assert.deepEqual(accountLine(copy), accountLine(update));
    assert.deepEqual(accountLine({ ...copy, pubkey: view.pubkey, data: view.data }), accountLine(update));
    assert.ok(copy.publishNs >= before && copy.publishNs <= nowNs() + 1_000_000n);
  }
  for (const update of TRANSACTIONS) {
    sender.tell(toldTransaction(update));
    let copy;
    await eventually("the transaction is there", () => (copy = consumer.tryNextTransaction()) !== undefined);
    assert.deepEqual(transactionLine(copy!), transactionLine(update));
  }
  for (const slot of [0n, 456n, U64_MAX]) {
    sender.tell({ kind: "slot", slot: `${slot}` });
    const slots: bigint[] = [];
    await eventually("the slot is there", () => {
      consumer.poll((view) => void (view.kind === "slot" && slots.push(view.slot)));
      return slots.length > 0;
    });
    assert.deepEqual(slots, [slot]);
  }
  assert.deepEqual([consumer.metrics.frames, consumer.metrics.lost], [ACCOUNTS.length + TRANSACTIONS.length + 3, 0]);
}, options);

guarded("our consumer burns one slot, subscribes with its token, and pings by itself", async (held) => {
  const { sender, path } = await openRust(held);
  const consumer = held.use(await setupConsumer(path, { reconnect: false, v9PingMs: 30 }));
  await consumer.subscribe({ accounts: [accountKey(1), accountKey(2)], owners: [ownerKey(3)], transactions: true });
  const bootstrap = await sender.event("subscribe");
  assert.deepEqual([bootstrap["generation"], bootstrap["accounts"], bootstrap["transactions"]], [undefined, [], false]);
  const request = await sender.event("subscribe");
  assert.deepEqual([request["slotIndex"], request["generation"]], [0, "1"]);
  assert.deepEqual(request["accounts"], [accountKey(1), accountKey(2)].map(hex));
  assert.deepEqual([request["owners"], request["transactions"]], [[hex(ownerKey(3))], true]);
  for (let i = 0; i < 3; i++) assert.equal((await sender.event("ping"))["live"], true);
  await consumer.close();
  await sender.line("its end", (line) => line["event"] === "disconnected" && line["why"] === "end of file");
}, options);

guarded("two consumers of ours get what each asked for from a Rust sender", async (held) => {
  const { sender, path } = await openRust(held);
  const [one, other] = [
    held.use(await setupConsumer(path, { reconnect: false })),
    held.use(await setupConsumer(path, { reconnect: false })),
  ];
  await one.subscribe({ owners: [ownerKey(0)] });
  await other.subscribe({ accounts: [accountKey(9)], transactions: true });
  const account = { kind: "account", lamports: "1", slot: "1", data: "00" };
  sender.tell({ ...account, pubkey: hex(accountKey(1)), owner: hex(ownerKey(0)) });
  sender.tell({ ...account, pubkey: hex(accountKey(9)), owner: hex(ownerKey(1)) });
  for (const [consumer, key] of [[one, accountKey(1)], [other, accountKey(9)]] as const) {
    const view = await consumer.next();
    assert.equal(view?.kind === "account" && hex(view.pubkey), hex(key));
  }
  sender.tell({ kind: "transaction", slot: "1", index: "2", signature: hex(noise(64)), payload: "7478" });
  assert.equal((await other.next())?.kind, "transaction");
  sender.tell({ kind: "slot", slot: "5" });
  for (const consumer of [one, other]) assert.equal((await consumer.next())?.kind, "slot");
}, options);

guarded(
  "our consumer that did not read learns that a Rust sender has evicted it, after all it was sent",
  async (held) => {
    const { sender, path, rings } = await openRust(held, 65536);
    const consumer = held.use(await setupConsumer(path, { reconnect: false }));
    await consumer.subscribe({ owners: [ownerKey(0)] });
    sender.tell({ kind: "bulk", count: 1000, seed: 1, owner: hex(ownerKey(0)) });
    assert.equal((await sender.event("evicted"))["why"], "full");
    const { delivered } = await sender.event("dispatched");
    let count = 0;
    const reason = await readToEnd(consumer, () => count++);
    assert.ok(reason === "slow-consumer" || reason === "evicted", reason);
    assert.equal(count, delivered);
    await eventually("the file is gone", () => readdirSync(rings).length === 0);

    const again = held.use(await setupConsumer(path, { reconnect: false }));
    sender.tell({ kind: "slot", slot: "5" });
    assert.equal((await again.next())?.kind, "slot");
  },
  options,
);

guarded("our consumer that was silent for too long learns that a Rust sender has evicted it", async (held) => {
  const { sender, path } = await openRust(held, MIB, "--idle-ms", 200);
  const consumer = held.use(await setupConsumer(path, { reconnect: false, v9PingMs: 600_000 }));
  const reading = readToEnd(consumer);
  const nudge = setInterval(() => sender.tell({ kind: "slot", slot: "1" }), 20);
  held.defer(() => clearInterval(nudge));
  assert.equal((await sender.event("evicted"))["why"], "idle");
  const reason = await reading;
  assert.ok(reason === "idle" || reason === "evicted", reason);
}, options);

guarded("our consumer gets all that a killed Rust sender had published, then sender-gone", async (held) => {
  const { sender, path } = await openRust(held);
  const consumer = held.use(await setupConsumer(path, { reconnect: false }));
  await consumer.subscribe({ owners: [ownerKey(0)] });
  sender.tell({ kind: "bulk", count: 1000, seed: 2, owner: hex(ownerKey(0)) });
  assert.equal((await sender.event("dispatched"))["delivered"], 1000);
  sender.signal("SIGKILL");
  await sender.ended;
  let count = 0;
  assert.equal(await readToEnd(consumer, () => count++), "sender-gone");
  assert.equal(count, 1000);
}, options);

guarded("our killed consumer costs a Rust sender one slot, and the others nothing", async (held) => {
  const { sender, path } = await openRust(held, 65536);
  const agent = held.use(new Agent(OWN_RUNTIME));
  const consumer = held.use(await setupConsumer(path, { reconnect: false }));
  await agent.run(async (scope, given) => {
    scope.consumer = await scope.qlaster.setupConsumer(given, { reconnect: false });
    await scope.consumer.subscribe({ owners: [new Uint8Array(32).fill(1)] });
  }, path);
  agent.signal("SIGKILL");
  await agent.ended;
  sender.tell({ kind: "bulk", count: 1000, seed: 1, owner: "01".repeat(32) });
  assert.equal((await sender.event("evicted"))["why"], "full");
  sender.tell({ kind: "slot", slot: "5" });
  assert.equal((await consumer.next())?.kind, "slot");
}, options);

guarded("our consumer killed with a frame in its hands costs a Rust sender nothing but that slot", async (held) => {
  const { sender, path } = await openRust(held, 65536);
  for (const runtime of RUNTIMES) {
    const agent = held.use(new Agent(runtime));
    await agent.run(async (scope, path) => {
      const consumer = await scope.qlaster.setupConsumer(path, { reconnect: false, idle: "spin" });
      setTimeout(function look() {
        consumer.poll((update) => {
          scope.emit(update.kind);
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
        });
        setTimeout(look, 1);
      });
    }, path);
    const consumer = held.use(await setupConsumer(path, { reconnect: false }));
    sender.tell({ kind: "slot", slot: "4" });
    await agent.event((event) => event === "slot");
    agent.signal("SIGKILL");
    await agent.ended;
    sender.tell({ kind: "slot", slot: "5" });
    for (const slot of [4n, 5n]) {
      const update = await consumer.next();
      assert.equal(update?.kind === "slot" && update.slot, slot);
    }
  }
}, options);

guarded("our consumer gets 20,000 accounts of a Rust sender, each byte of them", async (held) => {
  const { sender, path } = await openRust(held, 64 * MIB);
  const consumer = held.use(await setupConsumer(path, { reconnect: false }));
  await consumer.subscribe({ owners: [ownerKey(0)] });
  sender.tell({ kind: "bulk", count: 20_000, seed: 3, owner: hex(ownerKey(0)) });
  const hash = new StreamHash();
  for (let number = 1n; number <= 20_000n; number++) {
    const view = await consumer.next();
    assert.ok(view?.kind === "account" && view.lamports === number, `${view?.kind} instead of account ${number}`);
    hash.bytes(view.data as Uint8Array);
  }
  const { delivered, hash: sent } = await sender.event("dispatched");
  assert.deepEqual([delivered, sent], [20_000, hash.hex]);
}, options);
