/**
 * The Yellowstone source against a server in a process of its own, which keeps a log of what it sends: order, content,
 * filters, and everything that can go wrong between the two.
 * May touch: the source as a user would. The oracle is the server's log; nothing of it comes from src/.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { Address } from "../../mod.ts";
import { type SourceEvent, yellowstone, type YellowstoneOptions } from "../../src/sources/yellowstone.ts";
import { CERTIFICATE } from "../support/geyser/certificate.ts";
import { GeyserServer } from "../support/geyser_server.ts";
import { addressOf, ownerAddressOf } from "../support/geyser/world.ts";
import { guarded, type Held } from "../support/guarded.ts";
import { until, within } from "../unit/support/watchdog.ts";
import { FakeDemand } from "./support/fake_demand.ts";
import { assertSame, lineOfSent, onceEach, Reader } from "./support/received.ts";

const ALL = { allAccounts: true, transactions: { all: true } } as const;
const FAST = { minMs: 5, maxMs: 50 } as const;

interface Rig {
  readonly server: GeyserServer;
  readonly source: ReturnType<typeof yellowstone>;
  readonly reader: Reader;
  readonly events: SourceEvent[];
}

async function rig(held: Held, options: Partial<YellowstoneOptions> = {}, manners: object = {}): Promise<Rig> {
  const server = held.use(await GeyserServer.start());
  await server.tell("manners", manners as Record<string, unknown>);
  const events: SourceEvent[] = [];
  const source = held.use(yellowstone({
    endpoint: server.endpoint,
    demand: ALL,
    backoff: FAST,
    onEvent: (event) => events.push(event),
    ...options,
  }));
  const reader = new Reader(source);
  await subscribed(server, 1);
  return { server, source, reader, events };
}

/** Waits until the server has had so many requests for filters. */
async function subscribed(server: GeyserServer, count: number): Promise<void> {
  for (;;) {
    if ((await server.requests()).length >= count) return;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

const sentLines = (server: GeyserServer) => server.sent().map(lineOfSent);

/** What was sent, each thing once, after the source has come to the newest slot: before, some of it may be sent only then. */
async function sentUntil(slot: bigint, { server, source }: Rig): Promise<string[]> {
  await until(() => source.metrics.completeSlot === slot, `slot ${slot}`);
  return onceEach(sentLines(server));
}

guarded("yellowstone() yields what the server sends, in order, field by field", async (held) => {
  const { server, source, reader, events } = await rig(held);
  await server.tell("advance", { slots: 40, writes: 30 });
  const sent = sentLines(server);
  assert.ok(sent.length > 40 * 40);
  await reader.has(sent.length);
  assertSame(reader.lines, sent);
  assert.deepEqual(events.map(({ type }) => type), ["connected"]);
  assert.ok(reader.updates.every((update) => update.lossy === false));
  const { metrics } = source;
  assert.equal(metrics.accounts + metrics.transactions + metrics.slots, sent.length);
  assert.equal(metrics.completeSlot, 1039n);
  source.close();
  await within(reader.ended, "the end");
  assert.equal(reader.error, undefined);
});

guarded("yellowstone() asks for keys and owners in filters of their own, and gets just these", async (held) => {
  const accounts = new Set([addressOf(1), addressOf(9)] as Address[]);
  const owners = new Set([ownerAddressOf(2)] as Address[]);
  const transactions = { accounts: new Set([addressOf(5)] as Address[]) };
  const { server, reader } = await rig(held, {
    demand: { accounts, owners, transactions },
    filterKeysMax: 1,
    votes: false,
  });
  assert.deepEqual(await server.requests(), [{
    accounts: {
      keys0: { account: [addressOf(1)] },
      keys1: { account: [addressOf(9)] },
      owners0: { owner: [ownerAddressOf(2)] },
    },
    slots: { slots: { interslotUpdates: true } },
    transactions: { transactions0: { vote: false, accountInclude: [addressOf(5)] } },
    commitment: 0,
  }]);
  await server.tell("advance", { slots: 20, writes: 40 });
  const sent = server.sent();
  await reader.has(sent.length);
  assertSame(reader.lines, sent.map(lineOfSent));
  for (const kind of ["account", "transaction"]) assert.ok(sent.some((update) => update.kind === kind));
});

guarded("yellowstone() never sends an empty filter: a demand for nothing asks for slots alone", async (held) => {
  const { server } = await rig(held, { demand: { accounts: new Set(), owners: new Set() } });
  assert.deepEqual(await server.requests(), [{ slots: { slots: { interslotUpdates: true } }, commitment: 0 }]);
});

guarded(
  "yellowstone() follows a demand of 1,000 changes on one stream, in few requests, and ends at the last",
  async (held) => {
    const demand = new FakeDemand({});
    const { server, source, reader } = await rig(held, { demand, filterIntervalMs: 1 });
    for (let i = 1; i <= 1000; i++) {
      demand.set({
        accounts: new Set(Array.from({ length: i % 7 }, (_, k) => addressOf(i + k)) as Address[]),
        owners: new Set((i % 3 === 0 ? [ownerAddressOf(i)] : []) as Address[]),
      });
      if (i % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    demand.set({ accounts: new Set([addressOf(3)] as Address[]) });
    const isLast = async () => {
      const { accounts = {} } = (await server.requests()).at(-1)!;
      return JSON.stringify(accounts) === JSON.stringify({ keys0: { account: [addressOf(3)] } });
    };
    while (!await isLast()) await new Promise((resolve) => setTimeout(resolve, 2));
    for (const { accounts = {}, slots } of await server.requests()) {
      assert.ok(slots !== undefined);
      for (const { account = [], owner = [] } of Object.values(accounts)) {
        assert.ok((account.length > 0) !== (owner.length > 0), "one kind of key in a filter, and at least one key");
      }
    }
    assert.equal((await server.status()).connections, 1);
    assert.ok(source.metrics.requests < 1000, "changes that come together make one request");
    await server.tell("advance", { slots: 12, writes: 64 });
    const sent = sentLines(server);
    await reader.has(sent.length);
    assertSame(reader.lines, sent);
    source.close();
    await within(reader.ended, "the end");
    assert.ok(demand.returned);
  },
);

for (const how of ["drop", "reset", "goaway", "lagged"] as const) {
  guarded(
    `yellowstone() misses nothing and repeats nothing when the connection ends again and again: ${how}`,
    async (held) => {
      const staged = await rig(held, {}, { chunkBytes: 1777 });
      const { server, source, reader, events } = staged;
      await server.tell("advance", { slots: 1 }); // before anything has come, there is nothing to go on from
      await until(() => source.metrics.completeSlot === 1000n, "the first slot");
      let newest = 1000;
      const rounds = 12;
      for (let round = 1; round <= rounds; round++) {
        await server.tell("advance", { slots: 1 + round % 3, writes: 5 + 13 * round });
        if (how === "lagged") await server.tell("fail", { code: 13, text: "lagged to send an update" });
        else await server.tell(how);
        // What was on its way is lost with a connection that is cut; the world goes on without us.
        await server.tell("advance", { slots: round % 4, writes: 9 });
        newest += 1 + round % 3 + round % 4;
        if (how === "goaway") await server.tell("drop"); // a server that says it goes, does so
        await subscribed(server, round + 1);
      }
      await server.tell("advance", { slots: 3, writes: 20 });
      const sent = await sentUntil(BigInt(newest + 3), staged);
      await reader.has(sent.length);
      assertSame([...reader.lines].sort(), [...sent].sort(), "the updates, sorted,");
      assertSame(reader.lines, sent, "in the order in which it happened");
      assert.equal(source.metrics.gaps, 0);
      assert.ok(source.metrics.connections > rounds);
      assert.ok(reader.updates.every((update) => update.lossy === false));
      const epochs = reader.updates.flatMap((update) => update.kind === "account" ? [update.sourceEpoch!] : []);
      assert.ok(new Set(epochs).size > 2, "each connection has an epoch of its own");
      assert.deepEqual(epochs, [...epochs].sort((a, b) => a - b));
      const lost = events.flatMap((event) => event.type === "lost" ? [event.error] : []);
      assert.ok(lost.length >= rounds);
      for (const error of lost) assert.equal(error.code, "SOURCE_LOST");
      if (how === "lagged") assert.match(lost[0]!.message, /status 13: lagged to send an update/);
    },
  );
}

for (const how of ["refused", "ignored", "not asked"] as const) {
  guarded(`yellowstone() says what is missing when a replay is ${how}`, async (held) => {
    const { server, source, reader, events } = await rig(held, { resume: how !== "not asked" });
    await server.tell("advance", { slots: 10 });
    const before = server.sent().length;
    await reader.has(before);
    await server.tell(
      "manners",
      how === "refused" ? { replayFrom: "1015" } : how === "ignored" ? { ignoresFromSlot: true } : {},
    );
    await server.tell("mute", { on: true });
    await server.tell("advance", { slots: 10 }); // nobody hears of these
    await server.tell("drop");
    await server.tell("mute", { on: false });
    await until(() => events.some(({ type }) => type === "lost"), "the loss");
    while (
      !(await server.requests()).slice(1).some(({ fromSlot }) => (fromSlot === undefined) === (how !== "ignored"))
    ) {
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    await server.tell("advance", { slots: 5 });
    await until(() => source.metrics.completeSlot === 1024n, "the newest slot");
    const gap = events.find((event) => event.type === "gap");
    assert.ok(gap?.type === "gap");
    assert.deepEqual([gap.afterSlot, gap.untilSlot], [1009n, 1020n]);
    if (how === "refused") assert.match(gap.reason, /last available: 1015/);
    assert.equal(source.metrics.gaps, 1);
    // Lossy until one whole slot has come.
    const lossy = (slot: bigint) =>
      new Set(reader.updates.filter((u) => u.kind === "account" && u.slot === slot).map((u) => u.lossy));
    assert.deepEqual([...lossy(1009n)], [false]);
    assert.deepEqual([...lossy(1020n)], [true]);
    assert.deepEqual([...lossy(1023n)], [false]);
  });
}

guarded("yellowstone() puts together frames that are cut anywhere", async (held) => {
  const { server, reader } = await rig(held, {}, { chunkBytes: 3 });
  await server.tell("advance", { slots: 3, writes: 20 });
  await server.tell("advance", { slots: 1, writes: 3, dataBytes: 100_000 });
  const sent = sentLines(server);
  await reader.has(sent.length);
  assertSame(reader.lines, sent);
});

guarded("yellowstone() reads messages of 10 MiB, and compressed ones", async (held) => {
  const { server, source, reader } = await rig(held, { compression: ["gzip"] }, { gzip: true });
  await server.tell("advance", { slots: 2, writes: 20 });
  await server.tell("advance", { slots: 1, writes: 2, dataBytes: 10_485_760 });
  const sent = sentLines(server);
  await reader.has(sent.length);
  assertSame(reader.lines, sent);
  assert.equal(source.metrics.gaps, 0);
});

guarded("yellowstone() makes the server wait while nobody takes what came, and loses nothing by it", async (held) => {
  const windowBytes = 1 << 17;
  const { server, source, reader } = await rig(held, { windowBytes });
  reader.stop();
  const burst = () => server.tell("advance", { slots: 4, writes: 60, dataBytes: 10_000 });
  let waiting = 0;
  // Until flow control has stopped the server: what it writes stays with it.
  for (let round = 0; round < 20 || waiting < 1 << 20; round++) {
    await burst();
    waiting = (await server.status()).subscribers[0]!.waitingBytes;
    assert.ok(round < 200, "the server is never stopped");
  }
  await until(() => source.metrics.pauses > 0, "a pause");
  const received = source.metrics.bytes;
  // What was taken, what waits here, what is on its way.
  assert.ok(received < 6 * windowBytes + (1 << 20), `${received} bytes came, of windows of ${windowBytes}`);
  reader.go();
  const sent = sentLines(server);
  await reader.has(sent.length);
  assertSame(reader.lines, sent);
  assert.equal(source.metrics.connections, 1);
});

guarded("yellowstone() gives up a connection over which nonsense comes, and goes on", async (held) => {
  const { server, source, reader, events } = await rig(held, { messageBytesMax: 1 << 20 });
  const nonsense = [
    "ff00000000", // no such flag
    "0000200000", // 2 MiB
    "0000000002" + "1207", // a field that is longer than its message
    "0000000003" + "12010a", // a field that ends in its tag
    "0000000001" + "13", // a group
    "000000000b" + "ffffffffffffffffffffff", // a number that does not end
    "0100000002" + "1f8b", // compressed, although nobody asked
  ];
  for (let round = 0; round < nonsense.length; round++) {
    await server.tell("advance", { slots: 2, writes: 10 });
    await server.tell("raw", { hex: nonsense[round] });
    await server.tell("advance", { slots: 1, writes: 10 });
    await subscribed(server, round + 2);
  }
  await server.tell("advance", { slots: 2, writes: 10 });
  const sent = onceEach(sentLines(server));
  await reader.has(sent.length);
  assertSame(reader.lines, sent);
  const codes = events.flatMap((event) => event.type === "lost" ? [event.error.code] : []);
  assert.deepEqual(codes, nonsense.map(() => "SOURCE_PROTOCOL"));
  assert.equal(source.metrics.gaps, 0);
});

guarded("yellowstone() notices that nobody is there: no answer, silence, much talk and nothing new", async (held) => {
  const { server, source, events } = await rig(held, { connectTimeoutMs: 400, silenceMs: 400, staleMs: 1200 }, {
    pingMs: 50,
  });
  const reasons = () => events.flatMap((event) => event.type === "lost" ? [event.error.message] : []);
  while (source.metrics.completeSlot < 0n) await server.tell("advance"); // a stall may have ended the connection already
  await until(() => reasons().some((text) => /no newer slot for \d+ ms/.test(text)), "what is stale");
  await server.tell("mute", { on: true }); // the socket stays open: half of it is dead
  await until(() => reasons().some((text) => /nothing came for \d+ ms/.test(text)), "silence");
  await server.tell("manners", { isDeaf: true });
  await until(() => reasons().some((text) => /no answer within 400 ms/.test(text)), "no answer");
  await server.tell("manners", {});
  await server.tell("mute", { on: false });
  const before = source.metrics.completeSlot;
  await server.tell("advance", { slots: 3 });
  await until(() => source.metrics.completeSlot === before + 3n, "data again");
});

guarded("yellowstone() answers pings", async (held) => {
  const { server } = await rig(held, {}, { pingMs: 20 });
  for (;;) {
    const { subscribers } = await server.status();
    if (subscribers[0]!.pongs >= 3) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
});

guarded("yellowstone() throws what will not go away, if nothing has come before", async (held) => {
  const { reader, source } = await rig(held, {}, {}).then(async () => {
    const server = held.use(await GeyserServer.start());
    await server.tell("manners", { refuse: { code: 16, text: "no such token" } });
    const source = held.use(yellowstone({ endpoint: server.endpoint, demand: ALL, xToken: "secret" }));
    return { reader: new Reader(source), source };
  });
  await within(reader.ended, "the end");
  assert.match(String(reader.error), /SOURCE|does not take/);
  assert.equal((reader.error as { code?: string }).code, "SOURCE_REFUSED");
  assert.match(String(reader.error), /status 16: no such token/);
  assert.doesNotMatch(String(reader.error), /secret/);
  assert.equal(source.metrics.connections, 1);
});

guarded("yellowstone() goes on trying once it has worked, and while the server is not there", async (held) => {
  const staged = await rig(held);
  const { server, source, reader, events } = staged;
  await server.tell("advance", { slots: 2 });
  await reader.has(server.sent().length);
  await server.tell("manners", { refuse: { code: 7, text: "too many connections" } });
  await server.tell("drop");
  await until(() => source.metrics.connections >= 6, "more tries");
  await server.tell("manners", {});
  await until(() => source.metrics.isConnected, "a connection");
  await server.tell("advance", { slots: 2 });
  const sent = await sentUntil(1003n, staged);
  await reader.has(sent.length);
  assertSame(reader.lines, sent);
  const waits = events.flatMap((event) => event.type === "lost" ? [event.retryMs] : []);
  assert.ok(waits.at(-1)! > waits[0]!, "each wait is longer");
});

guarded("yellowstone() speaks TLS, trusts the certificate that it is told to, and no other", async (held) => {
  const server = held.use(await GeyserServer.start({ tls: true }));
  const events: SourceEvent[] = [];
  const onEvent = (event: SourceEvent) => void events.push(event);
  const options = { endpoint: server.endpoint, demand: ALL, backoff: FAST, onEvent };
  const wary = held.use(yellowstone(options));
  const nothing = new Reader(wary);
  await until(() => wary.metrics.connections >= 3, "tries");
  assert.ok(events.every(({ type }) => type === "lost"));
  assert.equal((await server.requests()).length, 0);
  wary.close();
  await within(nothing.ended, "the end");
  const source = held.use(yellowstone({ ...options, ca: CERTIFICATE }));
  const reader = new Reader(source);
  await subscribed(server, 1);
  await server.tell("advance", { slots: 5 });
  const sent = sentLines(server);
  await reader.has(sent.length);
  assertSame(reader.lines, sent);
});

guarded("yellowstone() starts at a slot that was", async (held) => {
  const server = held.use(await GeyserServer.start());
  await server.tell("advance", { slots: 30 });
  const source = held.use(yellowstone({ endpoint: server.endpoint, demand: ALL, fromSlot: 1010n, backoff: FAST }));
  const reader = new Reader(source);
  await subscribed(server, 1);
  await server.tell("advance", { slots: 2 });
  const sent = sentLines(server);
  await reader.has(sent.length);
  assertSame(reader.lines, sent);
  assert.equal(reader.updates[0]!.slot, 1010n);
  assert.equal(source.metrics.gaps, 0);
});

guarded("yellowstone() ends by close(), by its signal, and when its loop is left", async (held) => {
  const server = held.use(await GeyserServer.start());
  const options = { endpoint: server.endpoint, demand: ALL };
  const abort = new AbortController();
  const aborted = new Reader(yellowstone({ ...options, signal: abort.signal }));
  const closed = yellowstone(options);
  const closedReader = new Reader(closed);
  await subscribed(server, 2);
  abort.abort();
  closed.close();
  closed.close();
  await within(Promise.all([aborted.ended, closedReader.ended]), "the ends");
  assert.deepEqual([aborted.error, closedReader.error], [undefined, undefined]);
  assert.throws(() => closed[Symbol.asyncIterator](), TypeError);

  const left = yellowstone(options);
  const leaving = (async () => {
    for await (const batch of left) if (batch.length > 0) break;
  })();
  await subscribed(server, 3);
  await server.tell("advance");
  await within(leaving, "the break");
  while ((await server.status()).subscribers.length > 0) await new Promise((resolve) => setTimeout(resolve, 2));
  const done = await new Reader(yellowstone({ ...options, signal: AbortSignal.abort() })).ended;
  assert.equal(done, undefined);
});

guarded("yellowstone() survives 100 connections that open and end in all ways while data flow", async (held) => {
  const server = held.use(await GeyserServer.start());
  let flows = true;
  const flow = (async () => {
    while (flows) await server.tell("advance", { slots: 1, writes: 40, dataBytes: 2000 });
  })();
  for (let i = 0; i < 100; i++) {
    const source = yellowstone({ endpoint: server.endpoint, demand: ALL, backoff: { minMs: 1, maxMs: 2 } });
    let batches = 0;
    for await (const _ of source) {
      if (++batches < 2) continue;
      if (i % 4 === 0) await server.tell("goaway");
      else if (i % 4 === 1) source.close();
      else if (i % 4 === 2) await server.tell("drop");
      break;
    }
  }
  flows = false;
  await flow;
});
