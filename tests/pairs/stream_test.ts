/**
 * The stream between real processes, in all four combinations of sender and consumer runtime: what a scripted sender
 * publishes is what each consumer gets, in every way of reading and waiting.
 * May touch: processes through agents, the temporary directory.
 * May not touch: src/. What is expected comes from tests/support/script.ts.
 */

import assert from "node:assert/strict";
import { Agent } from "../support/agent_process.ts";
import { eventually } from "../support/footprint.ts";
import { guarded, type Held } from "../support/guarded.ts";
import { PAIRS, RUNTIMES } from "../support/runtime.ts";
import { accountKey, createScript, expected, type Filter } from "../support/script.ts";
import { Temporary } from "../support/temporary.ts";

const MIB = 1024 * 1024;
const RING_BYTES = 32 * MIB;
const SEED = 20251126;
const COUNT = 300;

/** Opens a sender in the agent. Its consumers' comings and goings become events. */
async function openSender(
  agent: Agent,
  path: string,
  ringCapacityBytes: number,
  options: { readonly poolBytes?: number } = {},
): Promise<void> {
  await agent.run(async (scope, options) => {
    scope.sender = await scope.qlaster.setupSender(options);
    scope.sender.onConsumer((event) => scope.emit({ type: event.type, reason: (event as { reason?: string }).reason }));
    scope.sender.onSubscription((event) =>
      scope.emit({ type: "subscription", accounts: event.accounts.length, owners: event.owners.length })
    );
  }, { path, ringCapacityBytes, ...options });
}

/** How one consumer reads. */
interface Reading {
  readonly name: string;
  readonly mode: "for await" | "poll" | "batches" | "next" | "tryNext";
  readonly idle: "adaptive" | "park" | "yield" | "spin";
  readonly filter: Filter;
}

const READINGS: readonly Reading[] = [
  {
    name: "keys",
    mode: "for await",
    idle: "adaptive",
    filter: { accounts: [0, 1, 2, 3], owners: [], transactions: false },
  },
  { name: "owners", mode: "poll", idle: "park", filter: { accounts: [], owners: [0, 1, 2, 3, 4], transactions: true } },
  { name: "both", mode: "batches", idle: "yield", filter: { accounts: [5, 9], owners: [2], transactions: true } },
  { name: "nothing", mode: "next", idle: "park", filter: { accounts: [], owners: [], transactions: false } },
  { name: "absent", mode: "next", idle: "spin", filter: { accounts: [999], owners: [1], transactions: false } },
  { name: "polled", mode: "tryNext", idle: "park", filter: { accounts: [1, 7], owners: [0], transactions: true } },
];

/** Connects a consumer for each reading, subscribes, and starts to read. The result comes from `finishReading`. */
async function startReading(agent: Agent, path: string, readings: readonly Reading[]): Promise<void> {
  await agent.run(async ({ qlaster, script, kept }, { path, readings }) => {
    kept.readings = await Promise.all(readings.map(async ({ name, mode, idle, filter }) => {
      const consumer = await qlaster.setupConsumer(path, { reconnect: false, idle, name });
      // In two steps, which add up; and as base58 for half of the keys.
      await consumer.subscribe({ accounts: filter.accounts.map(script.accountKey), transactions: filter.transactions });
      const owners = filter.owners.map(script.ownerKey);
      await consumer.subscribe({
        owners: owners.map((owner, i) => i % 2 === 0 ? owner : qlaster.addressFromBytes(owner)),
      });
      const lines: string[] = [];
      let left = 0;
      // deno-lint-ignore no-explicit-any
      const note = (update: any): void => {
        if (update.kind === "gap") return void lines.push("gap");
        if (update.kind === "left") return void left++; // an owner has changed: tests/model says which
        const counts = update.kind === "slot"
          ? [update.accountsPublished, update.transactionsPublished, update.accountsLost, update.transactionsLost]
          : [];
        lines.push(script.describe(update, Number(update.sequence), counts.join(" ")));
      };
      const turn = () => new Promise((resolve) => setTimeout(resolve, 0));
      const read = async (): Promise<void> => {
        switch (mode) {
          case "for await":
            for await (const update of consumer) note(update);
            return;
          case "poll":
            while (consumer.ended === undefined) if (consumer.poll(note, 7) === 0) await turn();
            return;
          case "batches":
            for await (const batch of consumer.batches()) for (const update of batch) note(update);
            return;
          case "next":
            for (let isOver = false; !isOver;) {
              const update = await consumer.next(20);
              if (update !== undefined) note(update);
              else isOver = consumer.ended !== undefined;
            }
            return;
          case "tryNext":
            for (let isOver = false; !isOver;) {
              const copies = [consumer.tryNextUpdate(), consumer.tryNextTransaction(), consumer.tryNextSlot()];
              for (const copy of copies) if (copy !== undefined) note(copy);
              if (copies.some((copy) => copy !== undefined)) continue;
              isOver = consumer.ended !== undefined;
              await turn();
            }
            return;
        }
      };
      return { name, reading: read().then(() => ({ lines, left, end: consumer.ended, metrics: consumer.metrics })) };
    }));
  }, { path, readings });
}

interface Finished {
  readonly name: string;
  readonly lines: string[];
  /** How many accounts left. */
  readonly left: number;
  readonly end: { reason: string } | undefined;
  readonly metrics: { frames: number; lost: number; discarded: Record<string, number> };
}

function finishReading(agent: Agent): Promise<Finished[]> {
  return agent.run(({ kept }) =>
    // deno-lint-ignore no-explicit-any
    Promise.all(kept.readings.map(async ({ name, reading }: any) => ({ name, ...(await reading) })))
  );
}

async function publishScript(agent: Agent): Promise<void> {
  await agent.run(async ({ sender, script, pace }, { seed, count, capacity }) => {
    await pace.publishPaced(sender, script.createScript(seed, count), capacity);
  }, { seed: SEED, count: COUNT, capacity: RING_BYTES });
}

/** Which lines differ first, instead of a page of hashes. */
function assertLines(name: string, actual: readonly string[], wanted: readonly string[]): void {
  const at = wanted.findIndex((line, i) => line !== actual[i]);
  if (at >= 0) {
    assert.fail(`${name}: line ${at} of ${wanted.length} is\n  ${actual[at]}\nand should be\n  ${wanted[at]}`);
  }
  assert.equal(actual.length, wanted.length, `${name}: ${actual[wanted.length]}`);
}

const script = createScript(SEED, COUNT);

function assertGot(finished: readonly Finished[], readings: readonly Reading[]): void {
  for (const { name, mode, filter } of readings) {
    const got = finished.find((one) => one.name === name)!;
    let wanted = expected(script, filter);
    let lines = got.lines;
    if (mode === "tryNext") {
      // Each kind in its order; between the kinds there is none.
      const byKind = (list: readonly string[]) =>
        ["account", "transaction", "slot"].flatMap((kind) => list.filter((line) => line.startsWith(kind)));
      wanted = byKind(wanted);
      lines = byKind(lines);
    }
    assertLines(name, lines, wanted);
    assert.deepEqual(got.end, { reason: "sender-closed" }, name);
    // Those of "tryNext…" have no place for accounts that left.
    if (mode === "tryNext") assert.ok(got.metrics.frames >= wanted.length, name);
    else assert.equal(got.metrics.frames, wanted.length + got.left, name);
    assert.equal(got.metrics.lost, 0, name);
    assert.deepEqual(got.metrics.discarded, { updates: 0, transactions: 0, slots: 0 }, name);
  }
}

function pairOf(held: Held, sender: (typeof PAIRS)[number][0], consumer: (typeof PAIRS)[number][1]) {
  const temporary = held.use(new Temporary());
  return {
    path: temporary.at("s.sock"),
    sending: held.use(new Agent(sender)),
    reading: held.use(new Agent(consumer)),
  };
}

for (const [senderRuntime, consumerRuntime] of PAIRS) {
  const pair = `${senderRuntime} to ${consumerRuntime}`;

  guarded(`Consumer, ${pair}: every way of reading and waiting gets exactly what its filter wants`, async (held) => {
    const { path, sending, reading } = pairOf(held, senderRuntime, consumerRuntime);
    await openSender(sending, path, RING_BYTES);
    await startReading(reading, path, READINGS);
    await publishScript(sending);
    const totals = await sending.run(async ({ sender }) => {
      const metrics = sender.metrics;
      await sender.close(); // quiet for the loops, once everything is delivered
      return metrics;
    });
    const finished = await finishReading(reading);
    assertGot(finished, READINGS);
    const of = (kind: string) => script.filter((update) => update.kind === kind).length;
    assert.equal(totals.accounts, of("account"));
    assert.equal(totals.transactions, of("transaction"));
    assert.equal(totals.slots, of("slot"));
    assert.equal(totals.deliveries, finished.reduce((sum, { lines }) => sum + lines.length, 0));
    assert.equal(totals.lost, 0);
    assert.equal(totals.consumers, READINGS.length);
    assert.equal(Number(totals.sequence), COUNT);
  });

  guarded(`Consumer.subscribe(), ${pair}: takes 100,000 keys, and adds to what was asked before`, async (held) => {
    const { path, sending, reading } = pairOf(held, senderRuntime, consumerRuntime);
    await openSender(sending, path, MIB);
    const acks = await reading.run(async (scope, path) => {
      scope.consumer = await scope.qlaster.setupConsumer(path, { reconnect: false });
      // 100,000 keys are four messages; the last of them is the one to be found.
      const keys = Array.from({ length: 100_000 }, (_, i) => {
        const bytes = new Uint8Array(32);
        new DataView(bytes.buffer).setUint32(0, Math.imul(i, 2654435761) >>> 0);
        new DataView(bytes.buffer).setUint32(28, i);
        return bytes;
      });
      scope.kept.keys = keys;
      const first = await scope.consumer.subscribe({ accounts: keys });
      const second = await scope.consumer.subscribe({
        owners: [scope.qlaster.addressFromBytes(scope.script.ownerKey(3))],
      });
      const third = await scope.consumer.subscribe({ transactions: true });
      const fourth = await scope.consumer.subscribe({ accounts: [keys[0]!, keys[0]!, keys[1]!] }); // nothing new
      return [first, second, third, fourth].map(({ generation }) => generation);
    }, path);
    assert.deepEqual(acks, [4, 5, 6, 7]);
    const info = await sending.run(({ sender }) => sender.consumers());
    assert.equal(info[0]!.accounts, 100_000);
    assert.equal(info[0]!.owners, 1);
    assert.equal(info[0]!.transactions, true);

    const reached = await sending.run(({ sender, script }) => {
      const account = (pubkey: Uint8Array, owner: Uint8Array) =>
        sender.publishAccount({ pubkey, owner, lamports: 1n, data: new Uint8Array(3), slot: 1n });
      const key = (i: number) => {
        const bytes = new Uint8Array(32);
        new DataView(bytes.buffer).setUint32(0, Math.imul(i, 2654435761) >>> 0);
        new DataView(bytes.buffer).setUint32(28, i);
        return bytes;
      };
      const almost = key(50_000);
      almost[31]!++;
      almost[30]!++;
      return [
        account(key(0), script.ownerKey(0)),
        account(key(99_999), script.ownerKey(3)), // both match: delivered once
        account(almost, script.ownerKey(0)), // the same first bytes as a wanted key
        account(script.accountKey(0), script.ownerKey(3)),
        sender.publishTransaction({ slot: 1n, index: 0, signature: new Uint8Array(64), message: new Uint8Array(1) }),
        sender.publishSlot({ slot: 1n, parent: 0n, status: "processed" }),
      ];
    });
    assert.deepEqual(reached, [1, 1, 0, 1, 1, 1]);
    const sequences = await reading.run(async ({ consumer }) => {
      const list = [];
      while (list.length < 5) list.push(Number((await consumer.next())!.sequence));
      return list;
    });
    assert.deepEqual(sequences, [1, 2, 4, 5, 6]);
  });

  guarded(
    `Consumer.subscribe(), ${pair}: what is published after ack.sequence is delivered, what came before is not`,
    async (held) => {
      const { path, sending, reading } = pairOf(held, senderRuntime, consumerRuntime);
      await openSender(sending, path, MIB);
      await reading.run(async (scope, path) => {
        scope.consumer = await scope.qlaster.setupConsumer(path, { reconnect: false });
      }, path);
      await sending.run(({ sender, script, pace, kept }) => {
        kept.publishing = (async () => {
          let account = 0;
          while (kept.stop !== true) {
            for (let i = 0; i < 10; i++, account++) {
              sender.publishAccount({
                pubkey: script.accountKey(account % 3),
                owner: script.ownerKey(0),
                lamports: BigInt(account),
                data: new Uint8Array(10),
                slot: 1n,
              });
            }
            await pace.waitForRoom(sender, 100_000);
            await new Promise((resolve) => setTimeout(resolve, 1));
          }
          return account;
        })();
      });
      const seen = await reading.run(async ({ consumer, script }) => {
        const lists: number[][] = [];
        const acks: number[] = [];
        for (const number of [0, 1]) {
          // Reads while it asks, as a real consumer does.
          const sequences: number[] = [];
          const ack = await consumer.subscribe({ accounts: [script.accountKey(number)] });
          acks.push(Number(ack.sequence));
          while (sequences.length < 50) {
            const update = await consumer.next();
            sequences.push(Number(update!.sequence));
          }
          lists.push(sequences);
        }
        return { lists, acks };
      });
      await sending.run(({ kept }) => {
        kept.stop = true;
        return kept.publishing;
      });
      // Sequence n is account (n - 1) % 3.
      const isKey = (sequence: number, number: number) => (sequence - 1) % 3 === number;
      const [first, second] = seen.lists;
      const [ackFirst, ackSecond] = seen.acks as [number, number];
      const wantedAfter = (sequence: number) =>
        (isKey(sequence, 0) && sequence > ackFirst) || (isKey(sequence, 1) && sequence > ackSecond);
      const all = [...first!, ...second!];
      const wanted: number[] = [];
      for (let sequence = ackFirst + 1; wanted.length < all.length; sequence++) {
        if (wantedAfter(sequence)) wanted.push(sequence);
      }
      assert.deepEqual(all, wanted);
    },
  );

  guarded(
    `Consumer, ${pair}: an account larger than the ring is a loss that it is told of, not the end`,
    async (held) => {
      const { path, sending, reading } = pairOf(held, senderRuntime, consumerRuntime);
      await openSender(sending, path, 64 * 1024, { poolBytes: 0 });
      await reading.run(async (scope, path) => {
        scope.consumer = await scope.qlaster.setupConsumer(path, { reconnect: false });
        await scope.consumer.subscribe({ owners: [scope.script.ownerKey(0)] });
      }, path);
      const sent = await sending.run(({ sender, script }) => {
        const account = (bytes: number, slot: bigint) => ({
          kind: "account" as const,
          pubkey: script.accountKey(0),
          owner: script.ownerKey(0),
          lamports: 1n,
          data: new Uint8Array(bytes),
          slot,
        });
        const reached = [
          sender.publishAccount(account(100, 7n)),
          sender.publishAccount(account(60_000, 7n)), // more than the ring less its reserved room
          sender.publishSlot({ slot: 7n, parent: 6n, status: "processed" }),
          sender.publishBatch([
            account(200, 8n),
            account(script.DATA_BYTES_MAX, 8n),
            account(100_000, 8n),
            account(300, 8n),
          ]),
          sender.publishSlot({ slot: 8n, parent: 7n, status: "processed" }),
          sender.publishSlot({ slot: 7n, parent: 6n, status: "confirmed" }),
        ];
        return { reached, info: sender.consumers()[0]!, metrics: sender.metrics };
      });
      const got = await reading.run(async ({ consumer }) => {
        const list = [];
        while (list.length < 9) {
          // deno-lint-ignore no-explicit-any
          const update: any = await consumer.next();
          list.push([
            update.kind,
            Number(update.sequence),
            update.lost,
            update.lostTotal ?? update.accountsLost ?? update.dataLength,
          ]);
        }
        return { list, metrics: consumer.metrics, ended: consumer.ended ?? null };
      });
      assert.deepEqual(got.list, [
        ["account", 1, 0, 100],
        ["gap", 2, 1, 1],
        ["slot", 3, 0, 1],
        ["account", 4, 0, 200],
        ["gap", 5, 1, 2],
        ["gap", 6, 1, 3],
        ["account", 7, 0, 300],
        ["slot", 8, 0, 2],
        ["slot", 9, 0, 1],
      ]);
      assert.equal(got.metrics.lost, 3);
      assert.equal(got.ended, null);
      assert.deepEqual(sent.reached, [1, 0, 1, 2, 1, 1]);
      assert.equal(sent.info.lost, 3);
      assert.equal(sent.metrics.lost, 3);
      assert.equal(sent.metrics.ringFull, 0);
      assert.equal(sent.metrics.deliveries, 6);
      assert.equal(sent.info.frames, 6, "ConsumerInfo.frames counts frames that were handed over");
      assert.equal((await sending.run(({ sender }) => sender.consumers())).length, 1);
    },
  );

  guarded(
    `Sender.consumers(), ${pair}: says who is connected, what it asked for and whether it sleeps; ping answers`,
    async (held) => {
      const { path, sending, reading } = pairOf(held, senderRuntime, consumerRuntime);
      await openSender(sending, path, 64 * 1024);
      await reading.run(async (scope, { path, name }) => {
        scope.consumer = await scope.qlaster.setupConsumer(path, { reconnect: false, idle: "park", name });
        await scope.consumer.subscribe({ accounts: [scope.script.accountKey(1), scope.script.accountKey(2)] });
      }, { path, name: "Zürich \u{1F40E}" });
      assert.deepEqual(await sending.event(({ type }: { type: string }) => type === "subscription"), {
        type: "subscription",
        accounts: 2,
        owners: 0,
      });
      const round = await reading.run(({ consumer }) => consumer.ping());
      assert.ok(round >= 0);
      await sending.run(({ sender }) => void sender.publishSlot({ slot: 1n, parent: 0n, status: "dead" }));
      const info = (await sending.run(({ sender }) => sender.consumers()))[0]!;
      assert.equal(info.id, 1);
      assert.equal(info.name, "Zürich \u{1F40E}");
      assert.equal(info.pid, reading.pid);
      assert.equal(info.uid, process.getuid!());
      assert.ok(info.connectedAt > 1.7e12);
      assert.equal(info.accounts, 2);
      assert.equal(info.owners, 0);
      assert.equal(info.transactions, false);
      assert.deepEqual(info.ring, { capacityBytes: 65536, usedBytes: 128 + 72 }); // a slot, and the mark of the edit
      assert.equal(info.frames, 1);
      assert.equal(info.lost, 0);
      assert.equal(info.parked, false);
      const status = await reading.run(async ({ consumer, kept }) => {
        const update = await consumer.next();
        const status = update?.kind === "slot" && update.status;
        kept.reading = consumer.next();
        return status;
      });
      assert.equal(status, "dead");
      await eventually(
        "the consumer sleeps",
        async () => (await sending.run(({ sender }) => sender.consumers()))[0]!.parked,
      );
      // Asleep on its ring, it still answers on its link.
      await reading.run(({ consumer }) => consumer.ping());
      await sending.run(({ sender }) => void sender.publishSlot({ slot: 2n, parent: 1n, status: "processed" }));
      assert.equal(
        await reading.run(async ({ kept, consumer }) => {
          const slot = (await kept.reading).slot;
          await consumer.close();
          return slot;
        }),
        2,
      );
      assert.equal(
        (await sending.event(({ type }: { type: string; reason: string }) => type === "disconnected")).reason,
        "consumer-closed",
      );
      assert.deepEqual(await sending.run(({ sender }) => sender.consumers()), []);
    },
  );

  guarded(`Consumer, ${pair}: an aborted signal ends every loop quietly, and the sender hears of it`, async (held) => {
    const { path, sending, reading } = pairOf(held, senderRuntime, consumerRuntime);
    await openSender(sending, path, 64 * 1024);
    const ends = await reading.run(async (scope, path) => {
      const aborting = new AbortController();
      const open = () => scope.qlaster.setupConsumer(path, { reconnect: false, signal: aborting.signal, idle: "park" });
      const consumers = await Promise.all([open(), open(), open()]);
      const [first, second, third] = consumers as [typeof scope.consumer, typeof scope.consumer, typeof scope.consumer];
      const loops = [
        (async () => {
          for await (const _ of first) throw new Error("nothing was published");
          return "for await";
        })(),
        (async () => {
          for await (const _ of second.batches()) throw new Error("nothing was published");
          return "batches";
        })(),
        third.next().then((update) => update ?? "next"),
      ];
      await new Promise((resolve) => setTimeout(resolve, 20)); // let them park: either way it has to work
      aborting.abort();
      const outcomes = await Promise.all(loops);
      const reasons = await Promise.all(consumers.map(async (consumer) => (await consumer.whenEnded).reason));
      const late = await scope.qlaster.setupConsumer(path, { reconnect: false, signal: aborting.signal }).then(
        () => "connected",
        (error) => error.name,
      );
      return { outcomes, reasons, late };
    }, path);
    assert.deepEqual(ends, {
      outcomes: ["for await", "batches", "next"],
      reasons: ["closed", "closed", "closed"],
      late: "AbortError",
    });
    for (let i = 0; i < 3; i++) {
      const { reason } = await sending.event(({ type }: { type: string; reason: string }) => type === "disconnected");
      assert.equal(reason, "consumer-closed");
    }
  });
}

for (const senderRuntime of RUNTIMES) {
  guarded(`Sender in ${senderRuntime}: consumers in both runtimes at once get the same updates`, async (held) => {
    const temporary = held.use(new Temporary());
    const path = temporary.at("s.sock");
    const sending = held.use(new Agent(senderRuntime));
    const readers = RUNTIMES.map((runtime) => held.use(new Agent(runtime)));
    const readings = READINGS.filter(({ name }) => ["owners", "both"].includes(name));
    await openSender(sending, path, RING_BYTES);
    await Promise.all(readers.map((reader) => startReading(reader, path, readings)));
    await publishScript(sending);
    await sending.run(({ sender }) => sender.close());
    for (const reader of readers) assertGot(await finishReading(reader), readings);
  });
}

guarded(
  "Consumer.subscribe(): a list far longer than a socket holds goes out as fast as the sender takes it",
  async (held) => {
    const { path, sending, reading } = pairOf(held, "bun", "deno");
    await openSender(sending, path, MIB);
    // 400,000 keys are 60 times what a socket holds. Were each portion to wait for the sender's sweep, it would be late.
    const generation = await reading.run(async ({ qlaster }, path) => {
      const keys = Array.from({ length: 400_000 }, (_, i) => {
        const bytes = new Uint8Array(32);
        new DataView(bytes.buffer).setUint32(0, i);
        return bytes;
      });
      const consumer = await qlaster.setupConsumer(path, { reconnect: false });
      return (await consumer.subscribe({ accounts: keys })).generation;
    }, path);
    assert.equal(generation, 13);
    assert.equal((await sending.run(({ sender }) => sender.consumers()))[0]!.accounts, 400_000);
  },
);

guarded("script: has an account of exactly 10 MiB, an empty one, and something for each reading", () => {
  const accounts = script.filter((update) => update.kind === "account");
  assert.ok(accounts.some(({ data }) => data.length === 10 * MIB));
  assert.ok(accounts.some(({ data }) => data.length === 0));
  for (const { name, filter } of READINGS) assert.ok(expected(script, filter).length > 10, name);
  assert.notDeepEqual(accountKey(0), accountKey(1));
  return Promise.resolve();
});
