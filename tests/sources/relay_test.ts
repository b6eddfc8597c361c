/**
 * The relay: what one sender publishes comes out of another one, as it was, and no more than was asked for.
 * May touch: the library as a user would. The oracle is what was published.
 *
 * @module
 */

import assert from "node:assert/strict";
import { createServer, type Socket } from "node:net";
import {
  addressFromBytes,
  type Consumer,
  type Sender,
  type SenderOptions,
  setupConsumer,
  setupSender,
  type Update,
} from "../../mod.ts";
import { relay, type RelayOptions, type SourceEvent } from "../../src/sources/relay.ts";
import { guarded, type Held } from "../support/guarded.ts";
import { Temporary } from "../support/temporary.ts";
import { accountUpdate, keyOf, patternBytes, slotUpdate, transactionUpdate } from "../unit/support/updates.ts";
import { until, within } from "../unit/support/watchdog.ts";
import { assertSame, lineOf } from "./support/received.ts";

const KEYS = [1, 2, 3, 4].map((seed) => addressFromBytes(keyOf(seed)));

interface Rig {
  readonly path: string;
  readonly above: Sender;
  readonly below: Sender;
  readonly events: SourceEvent[];
  readonly fed: Promise<void>;
  connect(): Promise<Consumer>;
}

async function rig(held: Held, options: Partial<RelayOptions> = {}, above: Partial<SenderOptions> = {}): Promise<Rig> {
  const temporary = held.use(new Temporary());
  const path = temporary.at("above.sock");
  const upper = held.use(await setupSender({ path, ...above }));
  const lower = held.use(await setupSender({ path: temporary.at("below.sock"), demandDebounceMs: 1 }));
  const events: SourceEvent[] = [];
  const source = held.use(relay(path, { demand: lower.demand, onEvent: (event) => events.push(event), ...options }));
  const fed = lower.feed(source);
  fed.catch(() => {}); // looked at where it matters
  await until(() => upper.consumers().length === 1, "the relay");
  return {
    path,
    above: upper,
    below: lower,
    events,
    fed,
    connect: async () => held.use(await setupConsumer(lower.path, { idle: "park" })),
  };
}

/** Everything that a slot has. */
function slotOf(slot: bigint): Update[] {
  return [
    ...[1, 2, 3, 4].map((seed) =>
      accountUpdate({
        slot,
        pubkey: keyOf(seed),
        owner: keyOf(100 + seed % 2),
        writeVersion: slot * 10n + BigInt(seed),
        data: patternBytes(seed * 3000, Number(slot)),
        signature: patternBytes(64, seed),
        bankId: 3n,
        sourceNs: 5n,
        rentEpoch: 9n,
        executable: seed === 2,
        startup: seed === 3,
      })
    ),
    transactionUpdate({ slot, message: legacyMessage(1), meta: patternBytes(9, 1), failed: true, sourceNs: 5n }),
    transactionUpdate({ slot, index: 5, message: legacyMessage(2), sourceNs: 5n, vote: true }),
    slotUpdate({ slot, parent: slot - 1n, sourceNs: 5n }),
  ];
}

/** A message that names one key. */
function legacyMessage(seed: number): Uint8Array {
  return Uint8Array.from([1, 0, 0, 1, ...keyOf(seed), ...new Uint8Array(32), 0]);
}

/** As it is told by a source: with every default. */
function line(update: Update): string {
  const full = update.kind === "account"
    ? accountUpdate({ startup: false, executable: false, ...update })
    : { sourceNs: 0n, ...update };
  return lineOf(update.kind === "transaction" ? { vote: false, failed: false, ...full } as Update : full as Update);
}

/** Reads until a slot has reached "processed". */
async function readTo(consumer: Consumer, slot: bigint): Promise<Update[]> {
  const updates: Update[] = [];
  for (;;) {
    const update = (await within(consumer.next(), `slot ${slot}`))!.copy() as Update;
    if (["account", "transaction", "slot"].includes(update.kind)) updates.push(update);
    if (update.kind === "slot" && update.slot === slot) return updates;
  }
}

for (const protocol of ["native", "v9"] as const) {
  guarded(`relay() passes on what consumers below want, as it was: ${protocol}`, async (held) => {
    const { above, connect } = await rig(held, { consumer: { protocol } });
    const consumer = await connect();
    await consumer.subscribe({
      accounts: [KEYS[0]!, KEYS[1]!],
      owners: [addressFromBytes(keyOf(101))],
      transactions: true,
    });
    const wants = () => above.consumers()[0]!;
    await until(() => wants().accounts === 2 && wants().owners === 1 && wants().transactions, "the demand above");
    const published: Update[] = [];
    for (let slot = 10n; slot < 20n; slot++) {
      const updates = slotOf(slot);
      published.push(...updates);
      above.publishBatch(updates);
    }
    const received = await readTo(consumer, 19n);
    const wanted = published.filter((update) => update.kind !== "account" || update.pubkey[0] !== keyOf(4)[0]);
    if (protocol === "native") assertSame(received.map(line), wanted.map(line));
    else {
      // Version 9 says less: of slots only their number, of transactions no meta, no banks, no times.
      const brief = (updates: Update[]) =>
        updates.map((u) => `${u.kind} ${u.slot} ${u.kind === "account" ? `${u.writeVersion} ${u.data.length}` : ""}`);
      assertSame(brief(received), brief(wanted));
    }
  });
}

guarded("relay() follows the demand: added, taken back, everything, some transactions", async (held) => {
  const { above, below, connect } = await rig(held);
  const consumer = await connect();
  const wants = () => above.consumers()[0]!;
  await consumer.subscribe({ accounts: KEYS });
  await until(() => wants().accounts === 4, "four keys");
  await consumer.unsubscribe({ accounts: KEYS.slice(1) });
  await until(() => wants().accounts === 1, "one key");
  await consumer.setFilter("some", { transactions: { accountInclude: [KEYS[2]!] } });
  await until(() => wants().accounts === 2, "a key of transactions");
  await consumer.setFilter("all", { accounts: true });
  above.publishBatch(slotOf(5n)); // may be before the filter is in force above
  await until(() => {
    above.publishBatch([accountUpdate({ pubkey: keyOf(77), slot: 6n, writeVersion: above.metrics.sequence })]);
    return below.metrics.accounts > 10;
  }, "accounts that nobody named");
  await consumer.removeFilter("all");
  await consumer.removeFilter("some");
  await until(() => wants().accounts === 1 && wants().transactions === false, "the demand above");
});

guarded("relay() marks what follows a loss, and says so", async (held) => {
  const { above, below, connect, events } = await rig(held, { consumer: { policy: "drop-newest" } }, {
    ringCapacityBytes: 65536,
    poolBytes: 0,
  });
  const consumer = await connect();
  await consumer.setFilter("all", { accounts: true });
  await until(() => {
    above.publishBatch(slotOf(1n));
    return below.metrics.accounts > 0;
  }, "the demand above");
  // More than its ring holds, before it can read.
  for (let slot = 10n; slot < 40n; slot++) above.publishBatch(slotOf(slot));
  assert.ok(above.metrics.lost > 0);
  await until(() => events.some(({ type }) => type === "gap"), "a gap");
  // It may be of the first slots already, and of the others much be unread: then there would be no room for what follows.
  await until(() => above.consumers()[0]!.ring.usedBytes === 0, "all is read");
  for (let slot = 50n; slot < 56n; slot++) {
    above.publishBatch(slotOf(slot));
    await readTo(consumer, slot).then((updates) => {
      const last = updates.filter((update) => update.slot === slot && update.kind === "account");
      if (slot === 55n) assert.deepEqual(last.map(({ lossy }) => lossy), [false, false, false, false]);
    });
  }
  const gap = events.find(({ type }) => type === "gap");
  assert.match(gap?.type === "gap" ? gap.reason : "", /dropped/);
});

guarded("relay() goes on with the next sender at the path: newer epochs, a gap", async (held) => {
  const { path, above, connect, events } = await rig(held, { consumer: { reconnect: { minMs: 1, maxMs: 20 } } });
  const consumer = await connect();
  await consumer.subscribe({ accounts: KEYS });
  await until(() => above.consumers()[0]!.accounts === 4, "the demand above");
  above.publishBatch(slotOf(10n));
  const before = await readTo(consumer, 10n);
  await above.close();
  const next = held.use(await setupSender({ path }));
  await until(() => next.consumers()[0]?.accounts === 4, "the relay, with its filters");
  next.publishBatch(slotOf(20n));
  const after = await readTo(consumer, 20n);
  const epochs = (
    updates: Update[],
  ) => [...new Set(updates.flatMap((u) => u.kind === "account" ? [u.sourceEpoch!] : []))];
  assert.ok(epochs(after)[0]! > epochs(before)[0]!);
  assert.ok(after.filter(({ kind }) => kind === "account").every(({ lossy }) => lossy));
  await until(
    () => events.some((event) => event.type === "gap" && event.afterSlot === 10n && event.untilSlot === 20n),
    "a gap",
  );
});

guarded("relay() waits for a sender that is not there, and ends when it is told to", async (held) => {
  const temporary = held.use(new Temporary());
  const abort = new AbortController();
  const source = relay(temporary.at("nobody.sock"), { demand: {}, signal: abort.signal });
  const ended = (async () => {
    for await (const _ of source) assert.fail("nothing can come");
  })();
  abort.abort();
  await within(ended, "the end");
  assert.throws(() => source[Symbol.asyncIterator](), TypeError);
  assert.throws(() => relay("", { demand: {} }), TypeError);
  assert.throws(() => relay("/x", {} as never), TypeError);
});

guarded("relay() lets go of the other sender when its own closes, though nothing comes", async (held) => {
  const { above, below, connect } = await rig(held);
  const consumer = await connect();
  await consumer.subscribe({ accounts: KEYS });
  await until(() => above.consumers()[0]?.accounts === 4, "the demand above");
  await below.close();
  await until(() => above.metrics.consumers === 0, "the relay has gone");
});

const STRANGERS = {
  "says what is no protocol": (socket: Socket) => void socket.write(patternBytes(4000, 7)),
  "says half a message and goes": (socket: Socket) => void socket.end(patternBytes(3, 7)),
  "takes the connection and says nothing": () => {},
};

for (const [what, greet] of Object.entries(STRANGERS)) {
  guarded(`relay() gets nothing from a peer that ${what}, and goes on with a sender`, async (held) => {
    const temporary = held.use(new Temporary());
    const path = temporary.at("above.sock");
    const sockets = new Set<Socket>();
    const stranger = createServer((socket) => {
      sockets.add(socket);
      socket.on("error", () => {});
      greet(socket);
    });
    await new Promise<void>((resolve) => stranger.listen(path, resolve));
    const events: SourceEvent[] = [];
    const consumer = { connectTimeoutMs: 200, reconnect: { minMs: 1, maxMs: 20 } };
    const demand = { allAccounts: true };
    const source = held.use(relay(path, { demand, consumer, onEvent: (event) => events.push(event) }));
    const received: Update[] = [];
    const ended = (async () => {
      for await (const batch of source) received.push(...batch);
    })();
    await until(() => sockets.size > 1, "another try");
    await until(() => events.length > 1, "word of both");
    for (const event of events) {
      assert.ok(event.type === "lost" && event.error.code === "SOURCE_LOST", JSON.stringify(event));
      assert.match(event.error.message, /above\.sock/);
    }
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => stranger.close(resolve));

    const above = held.use(await setupSender({ path }));
    await until(() => {
      above.publishBatch(slotOf(2n));
      return received.length > 0;
    }, "updates of a sender");
    source.close();
    await within(ended, "the end");
  });
}

guarded("relay() follows a demand that changes 1,000 times, and asks for no more than that", async (held) => {
  const numbered = (n: number) => new Uint8Array(new Uint32Array([n, 1, 0, 0, 0, 0, 0, 0]).buffer);
  const { above, below, connect } = await rig(held);
  const consumer = await connect();
  for (let n = 0; n < 500; n++) {
    const key = addressFromBytes(numbered(n));
    await consumer.subscribe({ accounts: [key] });
    if (n % 100 !== 0) await consumer.unsubscribe({ accounts: [key] });
  }
  assert.equal(below.demand.current.accounts.size, 5);
  await until(() => above.consumers()[0]!.accounts === 5, "the last demand above");
  const kept = [0, 100, 200, 300, 400].map((n) => accountUpdate({ pubkey: numbered(n), slot: 3n }));
  above.publishBatch([...slotOf(3n).slice(0, 4), ...kept, slotUpdate({ slot: 3n })]);
  const accounts = (await readTo(consumer, 3n)).filter((update) => update.kind === "account");
  assert.deepEqual(accounts.map(({ pubkey }) => pubkey), kept.map(({ pubkey }) => pubkey));
});

guarded("relay() brings what the sender above takes, though it refuses something else", async (held) => {
  // That many consumers have one filter each kept back for them, and the relay has its own from here on.
  const { path, above, events, connect } = await rig(held, {}, { ringCapacityBytes: 65_536, consumersMax: 600 });
  const consumer = await connect();
  await consumer.subscribe({ accounts: [KEYS[0]!] });
  await until(() => above.consumers()[0]!.accounts === 1, "the demand above");
  // All others that a sender keeps are somebody else's.
  const others: Consumer[] = [];
  let isFull = false;
  while (!isFull) {
    const other = held.use(await setupConsumer(path));
    others.push(other);
    const outcomes = await Promise.allSettled(
      Array.from({ length: 63 }, (_, i) => other.setFilter(`${i}`, { accounts: { owners: [keyOf(200)] } })),
    );
    isFull = outcomes.some(({ status }) => status === "rejected");
  }
  await consumer.subscribe({ transactions: true });
  await consumer.subscribe({ accounts: [KEYS[1]!] });
  const refused = () => events.filter(({ type }) => type === "refused");
  await until(() => refused().length > 0, "the refusal");
  for (const event of refused()) assert.equal(event.type === "refused" && event.error.code, "SOURCE_REFUSED");
  await until(() => above.consumers().some(({ accounts }) => accounts === 2), "what was wanted after that");
  above.publishBatch(slotOf(3n));
  const kinds = async (slot: bigint) => (await readTo(consumer, slot)).map(({ kind }) => kind);
  assert.deepEqual(await kinds(3n), ["account", "account", "slot"]);
  await others[0]!.close();
  await until(() => above.consumers().some(({ transactions }) => transactions), "what was refused before");
  above.publishBatch(slotOf(4n));
  assert.deepEqual(await kinds(4n), ["account", "account", "transaction", "transaction", "slot"]);
});
