/**
 * The RPC source against a node's stand-in in a process of its own, which keeps a log of what it sends.
 * May touch: the source as a user would. The oracle is the server's log; nothing of it comes from src/.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { type Address, addressFromBytes, bytesFromAddress, setupConsumer, setupSender } from "../../mod.ts";
import { rpc, type RpcOptions, type SourceEvent } from "../../src/sources/rpc.ts";
import { decodeMeta } from "../support/geyser/protocol.ts";
import { addressOf, ownerAddressOf } from "../support/geyser/world.ts";
import { guarded, type Held } from "../support/guarded.ts";
import { RpcServer } from "../support/rpc_server.ts";
import { Temporary } from "../support/temporary.ts";
import { until, within } from "../unit/support/watchdog.ts";
import { FakeDemand } from "./support/fake_demand.ts";
import { assertSame, Reader } from "./support/received.ts";

const FAST = { minMs: 5, maxMs: 50 } as const;
const keys = (...numbers: number[]) => new Set(numbers.map((number) => addressOf(number) as Address));
const hex = (bytes: unknown) => Buffer.from(bytes as Uint8Array).toString("hex");

async function rig(held: Held, options: Partial<RpcOptions> = {}) {
  const server = held.use(await RpcServer.start());
  const events: SourceEvent[] = [];
  const source = held.use(rpc({
    url: server.url,
    httpUrl: server.httpUrl,
    demand: { accounts: keys(1, 2) },
    backoff: FAST,
    onEvent: (event) => events.push(event),
    ...options,
  }));
  const reader = new Reader(source);
  return { server, source, reader, events };
}

/** Waits until the server has exactly so many subscriptions. */
async function subscribed(server: RpcServer, count: number): Promise<void> {
  while ((await server.status()).subscriptions.length !== count) await new Promise((resolve) => setTimeout(resolve, 2));
}

/** Accounts as they came, and as they were sent: what an RPC tells of them. */
function accountsOf(reader: Reader, startup = false): string[] {
  return reader.updates.flatMap((update) =>
    update.kind === "account" && update.startup === startup
      ? [
        `${update.slot} ${hex(update.pubkey)} ${hex(update.owner)} ${update.lamports} ${update.executable} ${
          hex(update.data)
        }`,
      ]
      : []
  );
}

function accountsSent(server: RpcServer): string[] {
  return server.sent().flatMap((sent) =>
    sent.kind === "account"
      ? [`${sent.slot} ${sent.pubkey} ${sent.owner} ${sent.lamports} ${sent.executable} ${sent.data}`]
      : []
  );
}

/** Sorted by key, each account's in their order. */
function byKey(lines: readonly string[]): string[] {
  const key = (line: string) => line.split(" ")[1]!;
  return lines.toSorted((a, b) => key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0);
}

guarded("rpc() tells accounts, programs, slots and logs that are asked for, as the node does", async (held) => {
  const demand = {
    accounts: keys(1, 2),
    owners: new Set([ownerAddressOf(3) as Address]),
    transactions: { accounts: keys(5) },
  };
  const { server, reader } = await rig(held, { demand });
  await subscribed(server, 5);
  await server.tell("advance", { slots: 12, writes: 60 });
  const sent = server.sent();
  await reader.has(sent.length);
  // Each subscription is a stream of its own: the last of one says nothing of the others, nor does the state that is read.
  await until(() => accountsOf(reader).length >= accountsSent(server).length, "accounts");
  const told = (updates: readonly { readonly kind: string }[], kind: string) =>
    updates.filter((update) => update.kind === kind).length;
  await until(() => told(reader.updates, "transaction") >= told(sent, "transaction"), "transactions");
  for (const status of ["processed", "finalized"]) {
    await until(
      () => reader.updates.filter((update) => update.kind === "slot" && update.status === status).length >= 12,
      `slots that are ${status}`,
    );
  }
  // In the order of each account: between accounts none is promised.
  assertSame(byKey(accountsOf(reader)), byKey(accountsSent(server)));
  const transactions = reader.updates.filter((update) => update.kind === "transaction");
  const logs = sent.filter((each) => each.kind === "transaction");
  assert.ok(logs.length > 0);
  logs.forEach((expected, i) => {
    const update = transactions[i]!;
    assert.ok(expected.kind === "transaction");
    assert.deepEqual([hex(update.signature), update.failed, update.slot.toString()], [
      expected.signature,
      expected.failed,
      expected.slot,
    ]);
    assert.deepEqual(decodeMeta(update.meta as Uint8Array).logMessages, expected.logs);
    assert.equal(addressFromBytes(update.loadedAddresses!.readonly[0] as Uint8Array), addressOf(5));
  });
  const processed = reader.updates.flatMap((update) =>
    update.kind === "slot" && update.status === "processed" ? [update.slot] : []
  );
  assert.deepEqual(processed, Array.from({ length: 12 }, (_, i) => 1000n + BigInt(i)));
  const final = reader.updates.flatMap((update) =>
    update.kind === "slot" && update.status === "finalized" ? [update.slot] : []
  );
  assert.deepEqual(final, Array.from({ length: 12 }, (_, i) => 968n + BigInt(i)));
  assert.ok(reader.updates.every(({ lossy }) => lossy), "nothing of it is sure");
  const versions = reader.updates.flatMap((update) => update.kind === "account" ? [update.writeVersion!] : []);
  assert.deepEqual(versions, [...versions].sort((a, b) => a < b ? -1 : 1));
});

guarded("rpc() hears what a node says right behind its answer to a subscription", async (held) => {
  const server = held.use(await RpcServer.start());
  await server.tell("behind", { writes: 20 });
  const source = held.use(rpc({ url: server.url, httpUrl: server.httpUrl, demand: { accounts: keys(5, 7) } }));
  const reader = new Reader(source);
  await subscribed(server, 3);
  assert.ok(accountsSent(server).length > 2);
  await until(() => accountsOf(reader).length >= accountsSent(server).length, "the accounts");
  assertSame(byKey(accountsOf(reader)), byKey(accountsSent(server)));
});

guarded("rpc() reads the state of accounts once it is subscribed to them, and not before", async (held) => {
  const { server } = await rig(held, { demand: { accounts: keys(1, 2, 3) } });
  let requests: Awaited<ReturnType<RpcServer["requests"]>> = [];
  while (!requests.some(({ method }) => method === "getMultipleAccounts")) requests = await server.requests();
  // Whatever is written after a state was read is told by a subscription.
  const last = requests.findLastIndex(({ method }) => method === "accountSubscribe");
  assert.equal(requests.filter(({ method }) => method === "accountSubscribe").length, 3);
  assert.ok(requests.findIndex(({ method }) => method === "getMultipleAccounts") > last);
});

guarded("rpc() reads the state of accounts first, and again after a loss", async (held) => {
  const server = held.use(await RpcServer.start());
  await server.tell("advance", { slots: 10, writes: 60 });
  const events: SourceEvent[] = [];
  const source = held.use(rpc({
    url: server.url,
    httpUrl: server.httpUrl,
    demand: { accounts: keys(...Array.from({ length: 64 }, (_, i) => i), 1000) },
    backoff: FAST,
    onEvent: (event) => events.push(event),
  }));
  const reader = new Reader(source);
  await until(() => accountsOf(reader, true).length === 64, "the state of all that are there");
  for (const update of reader.updates) {
    if (update.kind !== "account") continue;
    const state = await server.tell<{ data: string; lamports: string }>("state", {
      address: addressFromBytes(update.pubkey as Uint8Array),
    });
    assert.deepEqual([hex(update.data), update.lamports.toString(), update.slot], [state.data, state.lamports, 1009n]);
  }
  await server.tell("advance", { slots: 1 });
  await until(() => source.metrics.newestSlot === 1010n, "a slot");
  await server.tell("close", { code: 1011 });
  await until(() => accountsOf(reader, true).length === 128, "the state of all again");
  await subscribed(server, 66);
  await server.tell("advance", { slots: 2 });
  await until(() => source.metrics.newestSlot === 1012n, "a slot");
  await until(() => events.length >= 4, "events");
  assert.deepEqual(events.map(({ type }) => type).slice(0, 4), ["connected", "lost", "connected", "gap"]);
  const gap = events[3]!;
  assert.deepEqual(gap.type === "gap" && [gap.afterSlot, gap.untilSlot], [1010n, 1011n]);
  const epochs = [
    ...new Set(reader.updates.flatMap((update) => update.kind === "account" ? [update.sourceEpoch!] : [])),
  ];
  assert.equal(epochs.length, 2);
  assert.ok(epochs[0]! < epochs[1]!);
});

guarded("rpc() follows a demand that changes 1,000 times, and subscribes to no more than that", async (held) => {
  const demand = new FakeDemand({});
  const { server, source, reader } = await rig(held, { demand, state: false });
  for (let i = 1; i <= 1000; i++) {
    demand.set({ accounts: keys(...Array.from({ length: i % 5 }, (_, k) => (i + k) % 60)) });
    if (i % 20 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  demand.set({ accounts: keys(7, 8) });
  const wanted = ["slot", ...[...keys(7, 8)].map((key) => `account ${key}`)].sort();
  for (let told: string[] = []; told.join() !== wanted.join();) {
    const { subscriptions } = await server.status();
    told = subscriptions.map(({ kind, param }) => param === undefined ? kind : `${kind} ${param}`).sort();
  }
  // And not by another connection, which would begin anew: what is left while the node's answer is awaited is left.
  assert.equal(source.metrics.connections, 1);
  await server.tell("advance", { slots: 10, writes: 64 });
  await until(() => source.metrics.newestSlot === 1009n, "the newest slot");
  await until(() => accountsOf(reader).length >= accountsSent(server).length, "the accounts");
  assertSame(byKey(accountsOf(reader)), byKey(accountsSent(server)));
  source.close();
  await subscribed(server, 0);
  await within(reader.ended, "the end");
  assert.ok(demand.returned);
});

const USELESS = {
  drop: /WebSocket .* (was closed|failed)/,
  silence: /no newer slot for \d+ ms/,
  deaf: /no newer slot for \d+ ms/,
  garbage: /what can't be read/,
} as const;

for (const how of ["drop", "silence", "deaf", "garbage"] as const) {
  guarded(`rpc() notices a connection that is of no more use, and makes another one: ${how}`, async (held) => {
    const isStale = how === "silence" || how === "deaf";
    const { server, source, events } = await rig(held, isStale ? { staleMs: 300 } : {});
    const count = (type: SourceEvent["type"]) => events.filter((event) => event.type === type).length;
    /** A stall of the machine makes a connection stale, too: then there is another one, and slots come by that. */
    const advanceUntil = async (condition: () => boolean) => {
      while (!condition()) {
        await server.tell("advance", { slots: 1 });
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    };
    await advanceUntil(() => source.metrics.newestSlot >= 1001n);
    const lostBefore = count("lost");
    if (how === "drop") await server.tell("drop");
    if (how === "silence") await server.tell("mute", { on: true });
    if (how === "deaf") await server.tell("deaf", { on: true });
    if (how === "garbage") await server.tell("garbage", { text: "{nonsense" });
    await until(() => count("lost") > lostBefore, "the loss");
    const connectedBefore = count("connected");
    if (how === "deaf") await server.tell("drop");
    await server.tell("mute", { on: false });
    await server.tell("deaf", { on: false });
    await advanceUntil(() => count("connected") > connectedBefore);
    await until(() => count("gap") > 0, "the gap");
    const lost = events.filter((event) => event.type === "lost")[lostBefore]!;
    assert.equal(lost.error.code, "SOURCE_LOST");
    assert.match(lost.error.message, USELESS[how]);
  });
}

guarded(
  "rpc() tells a gap from the last slot that came, over a connection that told accounts and no slot",
  async (held) => {
    const { server, source, reader, events } = await rig(held);
    while (!(await server.requests()).some(({ method }) => method === "getMultipleAccounts"));
    await server.tell("advance", { slots: 3, writes: 64 });
    await until(() => source.metrics.newestSlot === 1002n, "a slot");
    await server.tell("mute", { on: true });
    await server.tell("drop");
    await until(() => accountsOf(reader, true).length > 0, "the state by another connection");
    assert.equal(source.metrics.newestSlot, 1002n);
    await server.tell("drop");
    await server.tell("mute", { on: false });
    const gap = () => events.find((event) => event.type === "gap");
    while (gap() === undefined) {
      await server.tell("advance", { slots: 1 });
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    assert.equal(gap()!.afterSlot, 1002n);
  },
);

guarded("rpc() keeps the newest of each account while nobody takes what comes", async (held) => {
  const { server, source, reader } = await rig(held, {
    demand: { accounts: keys(1, 2, 3) },
    state: false,
    pendingBytesMax: 50_000,
  });
  await subscribed(server, 4);
  await server.tell("advance", { slots: 1 });
  await until(() => source.metrics.newestSlot === 1000n, "a slot");
  reader.stop();
  await server.tell("advance", { slots: 30, writes: 64, dataBytes: 10_000 });
  await until(() => source.metrics.newestSlot === 1030n && source.metrics.dropped > 0, "drops");
  reader.go();
  const newest = new Map(
    server.sent().flatMap((sent) => sent.kind === "account" ? [[sent.pubkey, sent.data] as const] : []),
  );
  await until(() => {
    const got = new Map(
      reader.updates.flatMap((u) => u.kind === "account" ? [[hex(u.pubkey), hex(u.data)] as const] : []),
    );
    return [...newest].every(([key, data]) => got.get(key) === data);
  }, "the newest of each");
  assert.ok(reader.updates.length < server.sent().length);
});

guarded("sender.feed(rpc()) brings accounts and logs to a consumer that asks for them", async (held) => {
  const temporary = held.use(new Temporary());
  const server = held.use(await RpcServer.start());
  const sender = held.use(await setupSender({ path: temporary.at("s.sock") }));
  const consumer = held.use(await setupConsumer(temporary.at("s.sock"), { idle: "park" }));
  await consumer.subscribe({ accounts: [addressOf(3) as Address] });
  await consumer.setFilter("mine", { transactions: { accountInclude: [addressOf(5) as Address] } });
  const source = held.use(rpc({ url: server.url, httpUrl: server.httpUrl, demand: sender.demand }));
  const fed = sender.feed(source);
  await subscribed(server, 3);
  await server.tell("advance", { slots: 10, writes: 60 });
  const sent = server.sent();
  const accounts = sent.filter(({ kind }) => kind === "account").length;
  const transactions = sent.filter(({ kind }) => kind === "transaction").length;
  const seen = { account: 0, transaction: 0 };
  while (seen.account < accounts || seen.transaction < transactions) {
    const update = await within(consumer.next(), "an update");
    if (update!.kind === "account") assert.equal(addressFromBytes(update!.pubkey as Uint8Array), addressOf(3));
    if (update!.kind === "account" && update!.startup) continue; // its state, if that was read only after writes
    if (update!.kind === "account" || update!.kind === "transaction") seen[update!.kind]++;
  }
  assert.deepEqual(seen, { account: accounts, transaction: transactions });
  source.close();
  await within(fed, "the end of the feed");
});

guarded("rpc() brings what the node takes, though it refuses something else", async (held) => {
  const demand = new FakeDemand({ accounts: keys(1) });
  const { server, reader, events } = await rig(held, { demand, backoff: FAST });
  await subscribed(server, 2);
  const [taken, refused] = [2, 3].map((number) => addressOf(number) as Address);
  await server.tell("refuse", { word: refused });
  demand.set({ accounts: keys(1, 2, 3) });
  await until(() => events.filter(({ type }) => type === "refused").length >= 2, "a subscription and a state refused");
  await subscribed(server, 3);
  await server.tell("advance", { slots: 10, writes: 100 });
  await until(() => accountsOf(reader).some((line) => line.includes(hex(bytesFromAddress(taken!)))), "what is taken");
  for (const event of events) if (event.type === "refused") assert.equal(event.error.code, "SOURCE_REFUSED");
  assert.ok(!events.some(({ type }) => type === "lost"), JSON.stringify(events.map(({ type }) => type)));
  // It is asked for again, until it is taken.
  await server.tell("refuse", {});
  await subscribed(server, 4);
  assert.equal((await server.status()).connections, 1);
});

guarded("rpc() refuses options that can't be", () => {
  for (const url of ["http://x", "nowhere", ""]) assert.throws(() => rpc({ url, demand: {} }), TypeError);
  assert.throws(() => rpc({ url: "ws://x", demand: undefined as never }), TypeError);
  assert.throws(() => rpc({ url: "ws://x", demand: {}, staleMs: 0 }), RangeError);
  assert.throws(() => rpc({ url: "ws://x", demand: {}, pendingBytesMax: 0 }), RangeError);
  return Promise.resolve();
});
