/**
 * `qlaster send` by each source, against servers of the test's own; what is killed, what is stuck, what is refused.
 * May touch: processes that it starts, the temporary directory. The oracles are the servers' logs.
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { chmodSync, existsSync, readdirSync, statSync, writeFileSync } from "node:fs";
import process from "node:process";
import {
  type Address,
  addressFromBytes,
  type Consumer,
  type Sender,
  setupConsumer,
  setupSender,
  type UpdateView,
} from "../../mod.ts";
import { listSegments, Recorder, replay } from "../../src/recording/mod.ts";
import { Agent } from "../support/agent_process.ts";
import type { CommandedServer } from "../support/commanded.ts";
import { eventually } from "../support/footprint.ts";
import { keyOf, ownerAddressOf } from "../support/geyser/world.ts";
import { GeyserServer } from "../support/geyser_server.ts";
import { guarded, type Held } from "../support/guarded.ts";
import { RpcServer } from "../support/rpc_server.ts";
import { OWN_RUNTIME, RUNTIMES } from "../support/runtime.ts";
import { Temporary } from "../support/temporary.ts";
import { type Run, start, STARTS } from "./support/command.ts";

const OWNER = new Uint8Array(32).fill(2);
const NOBODY = 65534;
/** Of tests that start dozens of processes, each of which takes seconds where others want the cores. */
const MANY = { timeoutMs: 400_000 };
const onLinux = { skip: process.platform === "linux" ? undefined : "needs /proc" };
const hex = (bytes: ArrayLike<number>) => Buffer.from(bytes as Uint8Array).toString("hex");

/** Starts a sender, and waits until it can be connected to. */
async function sending(held: Held, of: ReturnType<typeof STARTS.get>, args: readonly string[]): Promise<Run> {
  const run = start(held, of!(args));
  let isOver = false;
  void run.ended.then(() => isOver = true);
  await eventually(() => `it sends: ${run.text.stderr}`, () => isOver || run.text.stderr.includes("sending from"));
  assert.ok(!isOver, run.text.stderr);
  return run;
}

/** A signal ends it as it should. Not child.kill(): Deno reports the signal as the end after that. */
async function interrupt(run: Run): Promise<void> {
  process.kill(run.child.pid!, "SIGINT");
  const { code, stderr } = await run.ended;
  assert.equal(code, 0, stderr);
  assert.match(stderr, /^sent \S+ updates/m);
}

/** A line for each account update, until there are as many. */
async function accountsOf(consumer: Consumer, count: number): Promise<string[]> {
  const lines: string[] = [];
  while (lines.length < count) {
    const update: UpdateView | undefined = await consumer.next();
    if (update === undefined) break;
    if (update.kind === "account") lines.push(`${hex(update.pubkey)} ${update.slot} ${update.lamports}`);
  }
  return lines;
}

/** The same, as the server says that it sent them. */
function accountsSent(server: CommandedServer): string[] {
  return server.sent().flatMap((sent) =>
    sent.kind === "account" ? [`${sent.pubkey} ${sent.slot} ${sent.lamports}`] : []
  );
}

for (const [name, of] of STARTS) {
  guarded(`${name}: send --from yellowstone: what the server sends for what its consumers want`, async (held) => {
    const temporary = held.use(new Temporary());
    const path = temporary.at("s.sock");
    const server = held.use(await GeyserServer.start());
    const run = await sending(held, of, ["send", "--from", "yellowstone", "--source", server.endpoint, "--path", path]);
    const consumer = held.use(await setupConsumer(path, { reconnect: false }));
    await consumer.subscribe({ owners: [ownerAddressOf(3) as Address] });
    await eventually(
      "the filter is there",
      async () => JSON.stringify(await server.requests()).includes(ownerAddressOf(3)),
    );
    await server.tell("advance", { slots: 20, writes: 30 });
    const sent = accountsSent(server);
    assert.ok(sent.length > 20);
    assert.deepEqual(await accountsOf(consumer, sent.length), sent);
    await interrupt(run);
  });

  guarded(`${name}: send --from rpc: what the node tells for what its consumers want`, async (held) => {
    const temporary = held.use(new Temporary());
    const path = temporary.at("s.sock");
    const server = held.use(await RpcServer.start());
    const run = await sending(held, of, [
      ...["send", "--from", "rpc", "--source", server.url, "--requests", server.httpUrl, "--path", path],
    ]);
    const consumer = held.use(await setupConsumer(path, { reconnect: false }));
    await consumer.subscribe({ accounts: [keyOf(1)] });
    // It is subscribed to slots and the account, and has read the state of that: there is none before the first write.
    await eventually("the state is asked for", async () => {
      return (await server.requests()).some(({ method }) => method === "getMultipleAccounts");
    });
    assert.equal((await server.status()).subscriptions.length, 2);
    await server.tell("advance", { slots: 30, writes: 60 });
    const sent = accountsSent(server);
    assert.ok(sent.length > 5);
    assert.deepEqual(await accountsOf(consumer, sent.length), sent);
    await interrupt(run);
  });

  guarded(`${name}: send --from litesvm: token transfers, as many as asked for, then the end`, async (held) => {
    const temporary = held.use(new Temporary());
    const path = temporary.at("s.sock");
    const run = await sending(held, of, [
      ...["send", "--from", "litesvm", "--path", path, "--rate", "500", "--slots", "2", "--wait-for", "1"],
    ]);
    const consumer = held.use(await setupConsumer(path, { reconnect: false }));
    await consumer.subscribe({
      transactions: true,
      owners: ["TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA" as Address],
    });
    const amounts = new Map<string, bigint>();
    let [transactions, failed] = [0, 0];
    const signatures = new Set<string>();
    for (let update = await consumer.next(); update !== undefined; update = await consumer.next()) {
      if (update.kind === "transaction") {
        transactions++;
        if (update.failed) failed++;
        signatures.add(hex(update.signature));
      } else if (update.kind === "account" && update.dataLength === 165) { // not the mint, told once as state
        amounts.set(update.address, update.u64At(64));
      }
    }
    // 500 a second, 2 slots of 400 ms; the first may have begun before the subscription.
    assert.ok(transactions > 0 && transactions <= 400, `${transactions}`);
    assert.equal(signatures.size, transactions);
    assert.equal(failed, 0);
    assert.equal(amounts.size, 64);
    assert.equal((await run.ended).code, 0);
  });

  guarded(`${name}: send --from relay: another sender's updates again`, async (held) => {
    const temporary = held.use(new Temporary());
    const [first, path] = [temporary.at("first.sock"), temporary.at("s.sock")];
    const sender = held.use(await setupSender({ path: first }));
    const run = await sending(held, of, ["send", "--from", "relay", "--source", first, "--path", path]);
    const consumer = held.use(await setupConsumer(path, { reconnect: false }));
    await consumer.subscribe({ owners: [OWNER] });
    await eventually("the demand is there", () => sender.demand.current.owners.size === 1);
    const expected: string[] = [];
    for (let slot = 1n; slot <= 50n; slot++) {
      const pubkey = new Uint8Array(32).fill(Number(slot));
      sender.publishAccount({ pubkey, owner: OWNER, lamports: 7n * slot, data: new Uint8Array(9), slot });
      expected.push(`${hex(pubkey)} ${slot} ${7n * slot}`);
    }
    assert.deepEqual(await accountsOf(consumer, 50), expected);
    await interrupt(run);
  });

  guarded(
    `${name}: send --from relay waits for a sender that is not there, says so once, and goes on`,
    async (held) => {
      const temporary = held.use(new Temporary());
      const [first, path] = [temporary.at("first.sock"), temporary.at("s.sock")];
      const run = await sending(held, of, ["send", "--from", "relay", "--source", first, "--path", path]);
      await eventually("it says so", () => run.text.stderr.includes("CONNECT_NO_SENDER"));
      const sender = held.use(await setupSender({ path: first }));
      await eventually("it is there", () => sender.metrics.consumers === 1);
      await eventually("it says that, too", () => run.text.stderr.includes("source connected"));
      await interrupt(run);
      const says = run.text.stderr.split("\n").filter((line) => line.startsWith("source "));
      assert.equal(says.filter((line) => line.includes("CONNECT_NO_SENDER")).length, 1, says.join("\n"));
      assert.match(says[0]!, /^source lost: Cannot receive from ".*first\.sock" \(CONNECT_NO_SENDER\): /);
    },
  );

  guarded(`${name}: record, kill -9, replay: all that had been written, in order`, async (held) => {
    const temporary = held.use(new Temporary());
    const [path, directory, second] = ["s.sock", "recording", "again.sock"].map((each) => temporary.at(each));
    const sender = held.use(await setupSender({ path: path! }));
    const recording = start(held, of(["record", path!, directory!, "--all", "--no-compress"]));
    await eventually(() => `it records: ${recording.text.stderr}`, () => sender.demand.current.allAccounts);
    for (let i = 1; i <= 300; i++) {
      const pubkey = new Uint8Array(32).fill(i % 250);
      const data = new Uint8Array(1000);
      sender.publishAccount({ pubkey, owner: OWNER, lamports: BigInt(i), data, slot: BigInt(i) });
    }
    const written = async () => {
      const lamports: number[] = [];
      for await (const batch of replay(directory!)) {
        for (const update of batch) if (update.kind === "account") lamports.push(Number(update.lamports));
      }
      return lamports;
    };
    await eventually(
      "all is written",
      async () => existsSync(directory!) && listSegments(directory!).length > 0 && (await written()).length === 300,
    );
    process.kill(recording.child.pid!, "SIGKILL");
    await recording.ended;
    assert.ok(readdirSync(directory!).some((file) => file.endsWith(".part")));
    const lamports = await written();
    assert.deepEqual(lamports, Array.from({ length: 300 }, (_, i) => i + 1));
    const args = ["replay", directory!, "--path", second!, "--speed", "max", "--wait-for", "1", "--to-slot", "200"];
    const replaying = await sending(held, of, args);
    const consumer = held.use(await setupConsumer(second!, { reconnect: false }));
    await consumer.subscribe({ owners: [OWNER] });
    const got = await accountsOf(consumer, Infinity);
    assert.deepEqual(got.map((line) => Number(line.split(" ")[2])), Array.from({ length: 200 }, (_, i) => i + 1));
    assert.equal((await replaying.ended).code, 0);
  });

  guarded(
    `${name}: record goes on with the next sender and says what can be missing; --once does not`,
    async (held) => {
      const temporary = held.use(new Temporary());
      const [path, directory, other] = ["s.sock", "recording", "other"].map((each) => temporary.at(each));
      const first = held.use(await setupSender({ path: path! }));
      const args = ["--owner", addressFromBytes(OWNER)];
      const recording = start(held, of(["record", path!, directory!, ...args]));
      const once = start(held, of(["record", path!, other!, ...args, "--once"]));
      const subscribed = (sender: Sender, count: number) =>
        sender.consumers().filter(({ owners }) => owners === 1).length === count;
      await eventually(() => recording.text.stderr + once.text.stderr, () => subscribed(first, 2));
      const publish = (sender: Sender, slot: bigint) =>
        sender.publishAccount({ pubkey: OWNER, owner: OWNER, lamports: slot, data: new Uint8Array(3), slot });
      for (let slot = 1n; slot <= 5n; slot++) publish(first, slot);
      await first.close();
      const ended = await once.ended;
      assert.equal(ended.code, 0, ended.stderr);
      assert.match(ended.stderr, /^recorded 5 updates/);
      const second = held.use(await setupSender({ path: path! }));
      await eventually("it is back", () => subscribed(second, 1));
      for (let slot = 6n; slot <= 9n; slot++) publish(second, slot);
      await eventually("it has all", () => second.consumers()[0]!.ring.usedBytes === 0);
      process.kill(recording.child.pid!, "SIGINT");
      const { code, stderr } = await recording.ended;
      assert.equal(code, 0, stderr);
      assert.match(
        stderr,
        /^lost: sender-closed; waits for the next sender\ngoes on: what may be missing is unknown\nrecorded 9 updates/,
      );
      const story: string[] = [];
      for await (const view of replay(directory!).views()) {
        if (view.kind !== "connection") story.push(`${"slot" in view ? view.slot : view.kind}`);
        else story.push(view.event.type === "lost" ? view.event.reason : view.event.continuity);
      }
      assert.deepEqual(story, ["1", "2", "3", "4", "5", "sender-closed", "unknown", "6", "7", "8", "9"]);
    },
  );

  guarded(`${name}: record rotates and keeps a size; replay goes by speed, slots, and again`, async (held) => {
    const temporary = held.use(new Temporary());
    const [path, directory, again] = ["s.sock", "recording", "again.sock"].map((each) => temporary.at(each));
    const sender = held.use(await setupSender({ path: path! }));
    const recording = start(
      held,
      of(["record", path!, directory!, "--all", "--no-compress", "--rotate", "64K", "--max-size", "1M"]),
    );
    await eventually(() => recording.text.stderr, () => sender.demand.current.allAccounts);
    const sizes = () =>
      existsSync(directory!)
        ? readdirSync(directory!).filter((file) => file.includes(".mcap"))
          .map((file) => statSync(`${directory}/${file}`, { throwIfNoEntry: false })?.size ?? 0)
        : [];
    // 2.5 MB in all, some of it at a time, as slots come; and the newest slot that is in files.
    for (let slot = 1n; slot <= 25n; slot++) {
      for (let i = 0; i < 100; i++) {
        const pubkey = new Uint8Array(32).fill(i);
        sender.publishAccount({ pubkey, owner: OWNER, lamports: slot, data: new Uint8Array(1000), slot });
      }
      await eventually("it has been read", () => sender.consumers()[0]!.ring.usedBytes === 0);
    }
    process.kill(recording.child.pid!, "SIGINT");
    assert.equal((await recording.ended).code, 0);
    const all = sizes();
    assert.ok(all.length >= 4 && all.reduce((sum, size) => sum + size, 0) <= 1 << 20, all.join());
    assert.ok(all.every((size) => size <= (64 + 16 + 8) << 10), all.join()); // and a chunk, and the index
    const slots = new Set<bigint>();
    for await (const batch of replay(directory!)) for (const update of batch) slots.add(update.slot);
    const [oldest, newest] = [[...slots][0]!, 25n];
    assert.ok(oldest > 1n && slots.has(newest) && slots.size >= 4);
    const replayed = async (count: number, ...flags: string[]) => {
      const run = await sending(held, of, ["replay", directory!, "--path", again!, "--wait-for", "1", ...flags]);
      const consumer = held.use(await setupConsumer(again!, { reconnect: false }));
      await consumer.subscribe({ owners: [OWNER] });
      const got = (await accountsOf(consumer, count)).map((line) => Number(line.split(" ")[1]));
      return { got, run, consumer };
    };
    const from = Number(newest) - 1;
    const range = ["--from-slot", String(from), "--to-slot", String(from)];
    const some = await replayed(Infinity, ...range, "--speed", "1000");
    assert.deepEqual([some.got.length, new Set(some.got)], [100, new Set([from])]);
    assert.equal((await some.run.ended).code, 0);
    const round = await replayed(250, ...range, "--speed", "max", "--loop");
    assert.deepEqual([round.got.length, new Set(round.got)], [250, new Set([from])]);
    await round.consumer.close();
    await interrupt(round.run);
    const staying = await replayed(100, ...range, "--speed", "max", "--stay");
    assert.equal(await staying.consumer.tryNextUpdate(), undefined, "it has ended, and the sender stays");
    assert.ok(staying.consumer.isConnected);
    await staying.consumer.close();
    await interrupt(staying.run);
  });

  guarded(
    `${name}: top and stat of a sender that is stuck say so; of one that was killed, that nobody is there`,
    async (held) => {
      const temporary = held.use(new Temporary());
      const path = temporary.at("s.sock");
      const agent = held.use(new Agent(RUNTIMES.find((runtime) => runtime === name) ?? OWN_RUNTIME));
      await agent.run(async (scope, path) => {
        scope.sender = await scope.qlaster.setupSender({ path });
        scope.sender.publishSlot({ slot: 77n, parent: 76n, status: "processed" });
      }, path);
      // For good: the kill ends it.
      const stuck = agent.run(() => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0));
      stuck.catch(() => {});
      const run = (...args: string[]) => start(held, of(args)).ended;
      await eventually("top says that it is stuck", async () => {
        const { code, stdout, stderr } = await run("top", path, "--every", "50ms");
        assert.equal(code, 0, stderr);
        return /STUCK: its event loop has not run for \d/.test(stdout) && /^slot 77 {2}sequence 1 /m.test(stdout);
      });
      assert.match((await run("stat", path)).stdout, /STUCK/);
      assert.match((await run("stat", path, "--prom")).stdout, /^qlaster_sender_event_loop_stuck\{[^}]+\} 1$/m);
      const refused = await run("tap", path);
      assert.equal(refused.code, 1);
      assert.match(refused.stderr, /^qlaster: .*\(CONNECT_TIMEOUT; qlaster explain CONNECT_TIMEOUT\)$/m);
      agent.signal("SIGKILL");
      await agent.ended;
      for (const args of [["top", path], ["stat", path], ["tap", path], ["record", path, temporary.at("r")]]) {
        const { code, stderr } = await run(...args);
        assert.equal(code, 1, String(args));
        assert.match(stderr, /^qlaster: Cannot .*CONNECT_NO_SENDER\)\n$/, String(args));
      }
    },
    { ...onLinux, ...MANY },
  );

  guarded(`${name}: bench, a quick one: a row for each size, a plot, a latency`, async (held) => {
    const { code, stdout, stderr } = await start(held, of(["bench", "--for", "50ms"])).ended;
    assert.equal(code, 0, stderr);
    for (const size of ["165 B", "1024 B", "10240 B"]) {
      assert.match(stdout, new RegExp(`^${size} +\\d`, "m"));
      assert.match(stdout, new RegExp(`^ +${size} [█░]{40} \\d\\S*/s$`, "m"));
    }
    if (process.platform !== "linux") return;
    assert.match(stdout, /^publish to read, parked, one process: p50 \d.*, p99 \d.* of [1-9]\d*$/m);
  });

  guarded(`${name}: a config file says what flags say, in their words; flags come first`, async (held) => {
    const temporary = held.use(new Temporary());
    const [path, file, directory] = ["s.sock", "config.json", "recording"].map((name) => temporary.at(name));
    const recorder = await Recorder.open(directory!);
    for (const slot of [1n, 2n, 3n]) recorder.add({ kind: "slot", slot, parent: slot - 1n, status: "processed" });
    await recorder.close();
    const config = { from: "replay", source: directory, speed: 2, fromSlot: 2, ringSize: "128K", policy: "conflate" };
    writeFileSync(file!, JSON.stringify({ ...config, loop: true, consumers: "3", waitFor: 1 }));
    const { child, ended, text } = start(held, of(["send", "--config", file!, "--path", path!, "--speed", "max"]));
    await eventually(() => `it sends: ${text.stderr}`, () => text.stderr.includes("sending from replay"));
    const consumer = held.use(await setupConsumer(path!, { policy: "conflate", reconnect: false }));
    const { slot } = await consumer.next() as { slot: bigint };
    assert.equal(slot, 2n);
    assert.equal(consumer.metrics.ring.capacityBytes, 128 * 1024);
    const other = held.use(await setupConsumer(path!, { policy: "drop-newest", reconnect: false }));
    assert.deepEqual(
      [consumer.policy.accounts, other.policy.accounts],
      ["conflate", "disconnect"],
      "only what the file permits",
    );
    process.kill(child.pid!, "SIGTERM");
    assert.equal((await ended).code, 0);
  });

  guarded(`${name}: replay --loop sends every round whole, though its versions begin anew`, async (held) => {
    const temporary = held.use(new Temporary());
    const [path, directory] = ["s.sock", "recording"].map((name) => temporary.at(name));
    const recorder = await Recorder.open(directory!);
    for (let slot = 1n; slot <= 3n; slot++) {
      const update = { pubkey: OWNER, owner: OWNER, lamports: slot, data: new Uint8Array(8) };
      recorder.add({ kind: "account", ...update, slot, writeVersion: slot, sourceEpoch: 2e9 + Number(slot) });
    }
    await recorder.close();
    const flags = ["--speed", "max", "--loop", "--wait-for", "1", "--state", "4M"]; // older versions are dropped then
    const run = start(held, of(["replay", directory!, "--path", path!, ...flags]));
    await eventually(() => `it sends: ${run.text.stderr}`, () => run.text.stderr.includes("sending from replay"));
    const consumer = held.use(await setupConsumer(path!, { policy: "drop-newest", reconnect: false }));
    await consumer.subscribe({ owners: [OWNER] });
    const slots: bigint[] = [];
    while (slots.length < 9) {
      const view = await consumer.next();
      if (view?.kind === "account") slots.push(view.slot);
    }
    assert.deepEqual(slots, [1n, 2n, 3n, 1n, 2n, 3n, 1n, 2n, 3n]);
    await interrupt(run);
  });

  guarded(`${name}: send serves the users that --uid names, tap believes theirs`, async (held) => {
    const temporary = held.use(new Temporary());
    chmodSync(temporary.path, 0o1777);
    const [path, theirs] = ["s.sock", "theirs.sock"].map((file) => temporary.at(file));
    const flags = ["--ring-size", "1M", "--memory", "300M", "--uid", String(NOBODY)];
    const run = await sending(held, of, ["send", "--from", "litesvm", "--path", path!, ...flags]);
    const other = held.use(new Agent(OWN_RUNTIME));
    await other.run(async (scope, { path, theirs, uid }) => {
      const { qlaster, libc } = scope;
      await qlaster.load();
      libc.becomeUser(uid);
      scope.consumer = await qlaster.setupConsumer(path, { uids: [0] });
      const sender = scope.sender = await qlaster.setupSender({ path: theirs, uids: [0] });
      let slot = 1n;
      setInterval(() => sender.publishSlot({ slot: ++slot, parent: slot - 1n, status: "processed" }), 5);
    }, { path: path!, theirs: theirs!, uid: NOBODY });
    const refused = await start(held, of(["tap", theirs!, "-n", "1"])).ended;
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /CONNECT_UID/);
    const tapped = await start(held, of(["tap", theirs!, "-n", "1", "--uid", String(NOBODY)])).ended;
    assert.match(tapped.stdout, /^slot \d+/, tapped.stderr);
    await interrupt(run);
  }, { skip: process.getuid?.() === 0 ? undefined : "becoming another user needs root" });

  guarded(`${name}: what can't be sent, in one sentence`, async (held) => {
    const temporary = held.use(new Temporary());
    const path = temporary.at("s.sock");
    const taken = temporary.at("taken.sock");
    held.use(await setupSender({ path: taken }));
    let configs = 0;
    const config = (text: string) => {
      const file = temporary.at(`${configs++}.json`);
      writeFileSync(file, text);
      return ["send", "--config", file, "--path", path];
    };
    const cases: [args: string[], code: number, says: RegExp][] = [
      [["send", "--from", "yellowstone", "--path", path], 1, /send --from yellowstone needs --source/],
      [["send", "--path", path], 1, /^qlaster: send needs --from: one of yellowstone, rpc, litesvm, relay, replay/],
      [["send", "--from", "litesvm", "--path", taken], 1, /SENDER_PATH_IN_USE/],
      [["send", "--from", "litesvm", "--path", temporary.at("no/where/s")], 1, /^qlaster: /],
      [["send", "--from", "litesvm", "--path", path, "--rate", "fast"], 2, /--rate must be a number from 0/],
      [["send", "--from", "replay", "--source", temporary.at("none"), "--path", path], 1, /RECORDING_NOT_FOUND/],
      [config('{ "form": "rpc" }'), 1, /unknown key "form"/],
      [config('[{ "from": "rpc" }]'), 1, /must hold a JSON object/],
      [config('{ "from": "stdin" }'), 1, /^qlaster: "from" in .*: Allowed choices are yellowstone, /],
      [config('{ "from": "litesvm", "rate": "fast" }'), 1, /^qlaster: "rate" in .*: --rate must be a number from 0/],
      [config('{ "from": "litesvm", "stay": "no" }'), 1, /^qlaster: "stay" in .*: it must be true or false/],
      [
        config('{ "from": "litesvm", "policy": ["none"] }'),
        1,
        /^qlaster: "policy" in .*: Allowed choices are disconnect/,
      ],
      [config('{ "from": "yellowstone", "token": 5 }'), 1, /^qlaster: "token" in .*: it must be text, not 5/],
      [["send", "--config", temporary.at("none.json"), "--path", path], 1, /Cannot read the config file/],
      [["bench", "--for", "ever"], 2, /--for must be a duration/],
      [["top"], 2, /missing required argument 'path'/],
      [["record", path], 2, /missing required argument 'directory'/],
      [["doctor", "--hard"], 2, /unknown option '--hard'/],
    ];
    for (const [args, code, says] of cases) {
      const result = await start(held, of(args)).ended;
      assert.equal(result.code, code, `${args}: ${result.stderr}`);
      assert.match(result.stderr, says, String(args));
      assert.doesNotMatch(result.stderr, /\n {4}at /, "no stack");
    }
  }, MANY);
}
