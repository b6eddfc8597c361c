/**
 * Deaths and standstills of real processes, in both runtimes and both roles: the survivor gets everything and the
 * reason, and by the kernel's word nothing is left.
 * May touch: processes through agents, /proc, the temporary directory.
 */

import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { load, setupConsumer, setupSender } from "../../mod.ts";
import { Agent } from "../support/agent_process.ts";
import { eventually, type Footprint, footprintOf, settlesAt } from "../support/footprint.ts";
import { guarded, type Held } from "../support/guarded.ts";
import { RawSender } from "../support/raw_peer.ts";
import { PAIRS, type Runtime, RUNTIMES } from "../support/runtime.ts";
import { Temporary } from "../support/temporary.ts";

const STANDSTILL_MS = 5000;

interface ConsumerNews {
  readonly type: "connected" | "disconnected";
  readonly reason?: string;
  readonly name: string;
}
const isGone = ({ type, name }: ConsumerNews) => type === "disconnected" && name !== "warm-up";

/** A sender that has had and lost one consumer already, so that its runtime has opened what it opens at first. */
async function openSender(agent: Agent, path: string, ringCapacityBytes: number): Promise<Footprint> {
  await agent.run(async (scope, options) => {
    scope.sender = await scope.qlaster.setupSender(options);
    scope.sender.onConsumer((event) =>
      scope.emit({
        type: event.type,
        reason: (event as { reason?: string }).reason,
        name: event.type === "refused" ? "" : event.consumer.name,
      })
    );
  }, { path, ringCapacityBytes });
  await warmUp(agent, path);
  await eventually(
    "the warm-up is over",
    async () => (await agent.run(({ sender }) => sender.consumers())).length === 0,
  );
  return settledFootprint(agent.pid);
}

/** One consumer in this process, come and gone. */
async function warmUp(agent: Agent, path: string): Promise<void> {
  const consumer = await setupConsumer(path, { name: "warm-up" });
  await agent.run(({ sender }) => void sender.publishSlot({ slot: 0n, parent: 0n, status: "processed" }));
  assert.equal((await consumer.next())?.sequence, 1n);
  await consumer.close();
}

/** The footprint once it has stopped to change: what is being closed is on its way out, not held. */
async function settledFootprint(pid: number): Promise<Footprint> {
  let last = footprintOf(pid);
  let calm = 0;
  await eventually("the footprint settles", () => {
    const now = footprintOf(pid);
    calm = now.descriptors.length === last.descriptors.length && now.mappings.length === last.mappings.length
      ? calm + 1
      : 0;
    last = now;
    return calm >= 10;
  });
  return last;
}

/** A consumer that reads all accounts and says so after each 50. Its result: `finishReading`. */
async function startReading(agent: Agent, path: string, pauseAfter = Infinity): Promise<void> {
  await agent.run(async (scope, { path, pauseAfter }) => {
    const { qlaster, script, kept, emit } = scope;
    scope.consumer = await qlaster.setupConsumer(path, { reconnect: false, name: "reader" });
    await scope.consumer.subscribe({ owners: [script.ownerKey(0)] });
    const paused = new Promise<void>((resolve) => kept.resume = resolve);
    const sequences: number[] = [];
    kept.sequences = sequences;
    kept.reading = (async () => {
      try {
        for await (const update of scope.consumer) {
          sequences.push(Number(update.sequence));
          if (sequences.length % 50 === 0) emit({ read: sequences.length });
          if (sequences.length === pauseAfter) await paused;
        }
        return { sequences, end: scope.consumer.ended };
      } catch (error) {
        const { code, reason } = error as { code: string; reason: string };
        return { sequences, end: scope.consumer.ended, code, reason };
      }
    })();
  }, { path, pauseAfter: pauseAfter === Infinity ? -1 : pauseAfter });
}

interface Reading {
  readonly sequences: number[];
  readonly end: { readonly reason: string };
  readonly code?: string;
  readonly reason?: string;
}

function finishReading(agent: Agent): Promise<Reading> {
  return agent.run(async ({ kept }) => {
    kept.resume();
    return await kept.reading;
  });
}

/** Publishes accounts until `stopPublishing`, no faster than they are read; says each sequence before it publishes it. */
async function startPublishing(agent: Agent): Promise<void> {
  await agent.run(({ sender, script, pace, kept, emit }) => {
    kept.publishing = (async () => {
      while (kept.stop !== true) {
        const sequence = Number(sender.metrics.sequence) + 1;
        await pace.waitForRoom(sender, 1000);
        emit({ publishing: sequence });
        sender.publishAccount({
          pubkey: script.accountKey(sequence % 7),
          owner: script.ownerKey(0),
          lamports: BigInt(sequence),
          data: new Uint8Array(500),
          slot: 1n,
        });
        if (sequence % 8 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
      }
    })();
  });
}

async function stopPublishing(agent: Agent): Promise<number> {
  return await agent.run(async ({ sender, kept }) => {
    kept.stop = true;
    await kept.publishing;
    return Number(sender.metrics.sequence);
  });
}

/** From the first that the consumer was to get: the warm-up has taken number 1. */
const numbers = (last: number) => Array.from({ length: last - 1 }, (_, i) => i + 2);

function leftOvers(temporary: Temporary): string[] {
  return readdirSync(temporary.path).sort();
}

/** What a process has left in shared memory: its number is in the names. */
const sharedObjects = (pid: number) =>
  existsSync("/dev/shm") ? readdirSync("/dev/shm").filter((name) => name.includes(`qlaster-${pid}`)) : [];

function pairOf(held: Held, senderRuntime: Runtime, consumerRuntime: Runtime) {
  const temporary = held.use(new Temporary());
  return {
    temporary,
    path: temporary.at("s.sock"),
    sending: held.use(new Agent(senderRuntime)),
    reading: held.use(new Agent(consumerRuntime)),
  };
}

/** The path works for whoever comes next. */
async function assertServes(sending: Agent, path: string): Promise<void> {
  await using consumer = await setupConsumer(path, { name: "warm-up" });
  const sequence = await sending.run(({ sender }) => {
    sender.publishSlot({ slot: 1n, parent: 0n, status: "confirmed" });
    return Number(sender.metrics.sequence);
  });
  assert.equal(Number((await consumer.next())?.sequence), sequence);
}

for (const [senderRuntime, consumerRuntime] of PAIRS) {
  const pair = `${senderRuntime} to ${consumerRuntime}`;

  guarded(
    `Sender, ${pair}: a consumer killed amid the stream is consumer-gone, and all that was its is freed`,
    async (held) => {
      const { path, sending, reading } = pairOf(held, senderRuntime, consumerRuntime);
      const before = await openSender(sending, path, 1 << 20);
      await startReading(reading, path);
      await startPublishing(sending);
      await reading.event(({ read }: { read?: number }) => read === 100);
      assert.ok(footprintOf(sending.pid).mappings.length > before.mappings.length, "it does show while it lives");
      reading.signal("SIGKILL");
      assert.equal((await reading.ended).signal, "SIGKILL");
      assert.equal((await sending.event(isGone)).reason, "consumer-gone");
      await stopPublishing(sending);
      await settlesAt(sending.pid, before, { threads: true });
      assert.equal((await sending.run(({ sender }) => sender.metrics)).memoryBytes, 0);
      await assertServes(sending, path);
    },
  );

  guarded(
    `Consumer, ${pair}: a sender killed amid the stream is sender-gone, after all that it had published`,
    async (held) => {
      const { temporary, path, sending, reading } = pairOf(held, senderRuntime, consumerRuntime);
      await openSender(sending, path, 1 << 20);
      // The reader's runtime has its own first time.
      await reading.run(
        async ({ qlaster }, path) => await (await qlaster.setupConsumer(path, { name: "warm-up" })).close(),
        path,
      );
      const before = await settledFootprint(reading.pid);
      const sender = sending.pid;
      await startReading(reading, path, 50);
      await startPublishing(sending);
      await reading.event(({ read }: { read?: number }) => read === 50);
      // The reader stands still now: what follows waits in the ring while the sender dies.
      await sending.event(({ publishing }: { publishing?: number }) => publishing! >= 300);
      sending.signal("SIGKILL");
      await sending.ended;
      const announced = sending.takeEvents(({ publishing }: { publishing?: number }) => publishing !== undefined)
        .map(({ publishing }) => publishing!);
      const { sequences, end: lost, code, reason } = await finishReading(reading);
      const last = Math.max(300, ...announced);
      // The last announced may not have been published any more.
      assert.ok(sequences.length === last - 1 || sequences.length === last - 2, `${sequences.length} of ${last - 1}`);
      assert.deepEqual(sequences, numbers(sequences.length + 1));
      assert.deepEqual([code, reason, lost], ["CONNECTION_LOST", "sender-gone", { reason: "sender-gone" }]);
      await settlesAt(reading.pid, before, { threads: true });
      assert.deepEqual(leftOvers(temporary), ["s.sock", "s.sock.lock"]);
      assert.deepEqual(sharedObjects(sender), []);

      // The next sender takes the path over, the same consumer's process reads from it, and the end leaves nothing.
      const next = await setupSender({ path, ringCapacityBytes: 1 << 16 });
      await reading.run(async (scope, path) => {
        scope.consumer = await scope.qlaster.setupConsumer(path, { reconnect: false });
      }, path);
      next.publishSlot({ slot: 5n, parent: 4n, status: "finalized" });
      assert.equal(await reading.run(async ({ consumer }) => (await consumer.next())?.sequence), 1);
      await next.close();
      const end = await reading.run(async ({ consumer }) => {
        await consumer.next(); // it ends for who has read all
        return (await consumer.whenEnded).reason;
      });
      assert.equal(end, "sender-closed");
      assert.deepEqual(leftOvers(temporary), []);
    },
  );

  guarded(
    `Sender, ${pair}: a consumer that does not read is slow-consumer on both sides, after what was delivered`,
    async (held) => {
      const { path, sending, reading } = pairOf(held, senderRuntime, consumerRuntime);
      await openSender(sending, path, 1 << 16);
      await startReading(reading, path, 1); // reads one, then stands still
      const sent = await sending.run(({ sender, script }) => {
        let delivered = 0;
        while (true) {
          const reached = sender.publishAccount({
            pubkey: script.accountKey(0),
            owner: script.ownerKey(0),
            lamports: 1n,
            data: new Uint8Array(1000),
            slot: 1n,
          });
          if (reached === 0) break;
          delivered++;
        }
        return { delivered, metrics: sender.metrics, consumers: sender.consumers() };
      });
      assert.equal((await sending.event(isGone)).reason, "slow-consumer");
      assert.deepEqual(sent.consumers, []);
      assert.equal(sent.metrics.ringFull, 1);
      assert.equal(sent.metrics.lost, 1);
      const { sequences, code, reason } = await finishReading(reading);
      assert.deepEqual(sequences, numbers(sent.delivered + 1));
      assert.deepEqual([code, reason], ["CONNECTION_LOST", "slow-consumer"]);
      await assertServes(sending, path);
    },
  );

  guarded(`Consumer, ${pair}: a sender that ends with exit code 7, without closing, is sender-gone`, async (held) => {
    const { path, sending, reading } = pairOf(held, senderRuntime, consumerRuntime);
    await openSender(sending, path, 1 << 16);
    await startReading(reading, path);
    sending.run(({ sender, script, process }) => {
      for (let i = 0; i < 20; i++) {
        sender.publishAccount({
          pubkey: script.accountKey(0),
          owner: script.ownerKey(0),
          lamports: 1n,
          data: new Uint8Array(10),
          slot: 1n,
        });
      }
      process.exit(7);
    }).catch(() => {}); // no answer comes
    assert.deepEqual(await sending.ended, { code: 7, signal: null });
    const { sequences, reason } = await finishReading(reading);
    assert.deepEqual(sequences, numbers(21));
    assert.equal(reason, "sender-gone");
  });
}

/** Stops a process for a while; `while it stands` the others go on. */
async function standStill(agent: Agent): Promise<void> {
  agent.signal("SIGSTOP");
  await new Promise((resolve) => setTimeout(resolve, STANDSTILL_MS)); // the length of the fault, not a synchronisation
  agent.signal("SIGCONT");
}

for (const role of ["consumer", "sender"] as const) {
  guarded(`Consumer: a ${role} that stands still for 5 s loses nothing and nobody, in all pairs`, async (held) => {
    await Promise.all(PAIRS.map(async ([senderRuntime, consumerRuntime]) => {
      const pair = `${senderRuntime} to ${consumerRuntime}`;
      const { path, sending, reading } = pairOf(held, senderRuntime, consumerRuntime);
      await openSender(sending, path, 1 << 20);
      await startReading(reading, path);
      await startPublishing(sending);
      await reading.event(({ read }: { read?: number }) => read === 50);
      const ping = role === "sender"
        ? reading.run(({ consumer, kept }) => void (kept.ping = consumer.ping()))
        : undefined;
      await ping;
      await standStill(role === "sender" ? sending : reading);
      const read = await reading.run(({ kept }) => kept.sequences.length as number);
      await reading.event(({ read: now }: { read?: number }) => now! >= read + 50); // it goes on
      const last = await stopPublishing(sending);
      const consumers = await sending.run(({ sender }) => sender.consumers());
      assert.deepEqual(consumers.map(({ name, lost }) => [name, lost]), [["reader", 0]], pair);
      if (role === "sender") assert.ok(await reading.run(({ kept }) => kept.ping as Promise<number>) >= 0, pair);
      await sending.run(({ sender }) => sender.close());
      const { sequences, end, code } = await finishReading(reading);
      assert.deepEqual(sequences, numbers(last), pair);
      assert.deepEqual([code, end], [undefined, { reason: "sender-closed" }], pair);
      assert.deepEqual(sending.takeEvents(isGone).map(({ reason }) => reason), ["sender-closed"], pair);
    }));
  }, { timeoutMs: 100_000 });
}

for (const runtime of RUNTIMES) {
  guarded(
    `Sender.unref() in ${runtime} lets the process end with code 0, although a consumer is connected`,
    async (held) => {
      const temporary = held.use(new Temporary());
      const path = temporary.at("s.sock");
      const sending = held.use(new Agent(runtime));
      await openSender(sending, path, 1 << 16);
      await using consumer = await setupConsumer(path, { reconnect: false });
      await sending.run((scope) => {
        scope.outlivesInput = true;
        scope.sender.unref();
      });
      await using late = await setupConsumer(path, { reconnect: false }); // one that comes after unref() keeps nothing alive either
      sending.closeInput();
      assert.deepEqual(await sending.ended, { code: 0, signal: null });
      for (const one of [consumer, late]) await assert.rejects(one.next(), { reason: "sender-gone" });
    },
  );

  guarded(`Sender.ref() in ${runtime} keeps the process; Sender.close() lets it end with code 0`, async (held) => {
    const temporary = held.use(new Temporary());
    const path = temporary.at("s.sock");
    const sending = held.use(new Agent(runtime));
    await openSender(sending, path, 1 << 16);
    await sending.run((scope) => {
      scope.outlivesInput = true;
      scope.sender.unref();
      scope.sender.ref();
      // The only thing that it still waits for: a consumer that asks for transactions.
      scope.sender.onSubscription(() => void scope.sender.close());
    });
    sending.closeInput();
    const consumer = await setupConsumer(path, { reconnect: false }); // served: the process is alive
    await consumer.subscribe({ transactions: true });
    assert.equal(await consumer.next(), undefined);
    assert.deepEqual(consumer.ended, { reason: "sender-closed" });
    assert.deepEqual(await sending.ended, { code: 0, signal: null });
    assert.deepEqual(leftOvers(temporary), []);
  });

  guarded(`Consumer.unref() and Consumer.close() in ${runtime} let the process end with code 0`, async (held) => {
    const temporary = held.use(new Temporary());
    const path = temporary.at("s.sock");
    const reasons: string[] = [];
    const sender = held.use(await setupSender({ path, ringCapacityBytes: 1 << 16 }));
    sender.onConsumer((event) => {
      if (event.type === "disconnected") reasons.push(event.reason);
    });
    for (const [way, reason] of [["unref", "consumer-gone"], ["close", "consumer-closed"]] as const) {
      await using reading = new Agent(runtime);
      await reading.run(async (scope, { path, way }) => {
        scope.outlivesInput = true;
        scope.consumer = await scope.qlaster.setupConsumer(path, { reconnect: false });
        await scope.consumer.subscribe({ transactions: true });
        scope.consumer[way]();
      }, { path, way });
      reading.closeInput();
      assert.deepEqual(await reading.ended, { code: 0, signal: null });
      await eventually("the sender knows", () => reasons.length > 0);
      assert.equal(reasons.shift(), reason);
    }
  });

  guarded(
    `setupConsumer() in ${runtime}: killed while it waits for a grant, it leaves nothing at the sender`,
    async (held) => {
      const native = await load();
      const temporary = held.use(new Temporary());
      const sender = held.use(new RawSender(native, temporary.at("raw.sock")));
      const reading = held.use(new Agent(runtime));
      await reading.run(
        ({ qlaster }, path) => void qlaster.setupConsumer(path, { reconnect: false, connectTimeoutMs: 60_000 }),
        sender.path,
      );
      const { link, wake } = await sender.acceptHello();
      reading.signal("SIGKILL");
      await link.end();
      assert.ok(native.wakeNotify(wake) < 0);
      link.close();
      native.close(wake);
    },
  );

  guarded(`Sender in ${runtime}: a consumer killed at any point of its handshake costs nothing`, async (held) => {
    const temporary = held.use(new Temporary());
    const path = temporary.at("s.sock");
    const sending = held.use(new Agent(runtime));
    const before = await openSender(sending, path, 1 << 16);
    const dying = RUNTIMES.map((one) => held.use(new Agent(one)));
    sending.signal("SIGSTOP"); // so that no handshake gets further than the hello
    for (const agent of dying) {
      await agent.run(({ qlaster }, path) => {
        for (let i = 0; i < 10; i++) {
          qlaster.setupConsumer(path, { reconnect: false, connectTimeoutMs: 60_000 }).catch(() => {});
        }
      }, path);
      await agent.run(() => {}); // a turn later: some hellos are out
      agent.signal("SIGKILL");
      await agent.ended;
    }
    sending.signal("SIGCONT");
    await assertServes(sending, path);
    await eventually(
      "nobody is left",
      async () => (await sending.run(({ sender }) => sender.consumers())).length === 0,
    );
    await settlesAt(sending.pid, before);
  });

  guarded(`setupConsumer() in ${runtime} fails when the sender is killed before it answers`, async (held) => {
    const temporary = held.use(new Temporary());
    const path = temporary.at("s.sock");
    const [sending, reading] = [held.use(new Agent(runtime)), held.use(new Agent(runtime))];
    await openSender(sending, path, 1 << 16);
    sending.signal("SIGSTOP");
    const before = await reading.run(async ({ qlaster, kept }, path) => {
      await qlaster.load();
      kept.connecting = qlaster.setupConsumer(path, { reconnect: false, connectTimeoutMs: 60_000 }).then(
        () => "connected",
        (error) => error.code,
      );
      return null;
    }, path);
    assert.equal(before, null);
    sending.signal("SIGKILL");
    await sending.ended;
    const code = await reading.run(({ kept }) => kept.connecting as Promise<string>);
    // By the time: nobody listens any more, or the connection in the queue was closed.
    assert.match(code, /^(CONNECT_PROTOCOL|CONNECT_NO_SENDER)$/);
  });
}
