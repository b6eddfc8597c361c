/**
 * The command `qlaster`, run as its users run it: each runtime, and one executable by `bun build --compile`.
 * May touch: processes that it starts, the temporary directory.
 */

import assert from "node:assert/strict";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import {
  type Address,
  addressFromBytes,
  bytesFromAddress,
  type Sender,
  setupConsumer,
  setupSender,
} from "../../mod.ts";
import { main } from "../../src/cli/mod.ts";
import { ERRORS } from "../../src/errors.ts";
import { replay } from "../../src/recording/mod.ts";
import { eventually } from "../support/footprint.ts";
import { guarded, type Held } from "../support/guarded.ts";
import { Temporary } from "../support/temporary.ts";
import { compiled, type Run, start, STARTS } from "./support/command.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const OWNER = new Uint8Array(32).fill(2);
/** Of tests that start dozens of processes, each of which takes seconds where others want the cores. */
const MANY = { timeoutMs: 400_000 };
const OWNER_ADDRESS = "8qbHbw2BbbTHBW1sbeqakYXVKRQM8Ne7pLK7m6CVfeR";

/** A sender of this process, with one consumer that reads, and updates that come by themselves. */
async function scriptedSender(held: Held, path: string): Promise<Sender> {
  // Room for a minute: who reads is a process of its own, which may be started slowly, and have to wait for its disk.
  const sender = held.use(await setupSender({ path, ringCapacityBytes: 16 << 20 }));
  const consumer = held.use(await setupConsumer(path, { name: "reader" }));
  await consumer.subscribe({ owners: [OWNER] });
  let slot = 0n;
  const timer = setInterval(() => {
    slot++;
    for (let i = 0; i < 10; i++) {
      sender.publishAccount({
        pubkey: new Uint8Array(32).fill(1),
        owner: OWNER,
        lamports: slot,
        data: new Uint8Array(100),
        slot,
      });
    }
    sender.publishSlot({ slot, parent: slot - 1n, status: "processed" });
    while (consumer.poll(() => {}) > 0);
  }, 10);
  held.defer(() => clearInterval(timer));
  return sender;
}

/** What `top` writes into a pipe once the sender runs: for a moment after a stall of the machine it is stuck. */
async function topOf(run: () => Run["ended"]): Promise<string> {
  let text = "";
  await eventually(() => `top says that it runs: ${text}`, async () => {
    const { code, stdout, stderr } = await run();
    assert.equal(code, 0, stderr);
    text = stdout;
    return /running\nslot \d+ {2}sequence \d+/.test(text);
  });
  return text;
}

/** The command in this process, and what it writes. */
async function mainHere(args: string[]): Promise<{ readonly exitCode: number; readonly said: string }> {
  const write = process.stdout.write;
  let said = "";
  process.stdout.write = ((text: string) => {
    said += text;
    return true;
  }) as typeof write;
  try {
    return { exitCode: await main(args), said };
  } finally {
    process.stdout.write = write;
  }
}

for (const [name, of] of STARTS) {
  guarded(`${name}: explain, doctor, and refusals in one sentence`, async (held) => {
    const temporary = held.use(new Temporary());
    const explain = await start(held, of(["explain", "connect_timeout"])).ended;
    assert.equal(explain.code, 0);
    assert.match(explain.stdout, /^CONNECT_TIMEOUT\n {2}The sender did not answer in time\./);
    const doctor = await start(held, of(["doctor"])).ended;
    assert.equal(doctor.code, 0, doctor.stdout);
    assert.match(doctor.stdout, /^ok {4}round trip/m);
    const nowhere = temporary.at("nothing.sock");
    const complete: Record<string, string[]> = {
      ...{ send: [], tap: [nowhere], top: [nowhere], stat: [nowhere], bench: [], doctor: [], explain: ["SYSTEM"] },
      ...{ record: [nowhere, temporary.at("r")], replay: [temporary.at("r")] },
    };
    const cases: [args: string[], code: number, says: RegExp][] = [
      ...Object.entries(complete).map(([command, args]): [string[], number, RegExp] =>
        [
          ...[[command, ...args, "--nonsense"], 2, /^qlaster: unknown option '--nonsense'\n/],
        ] as never
      ),
      ...["tap", "top", "stat", "record", "replay", "explain"].map((command): [string[], number, RegExp] =>
        [
          ...[[command], 2, /^qlaster: missing required argument '(path|directory|code)'\n/],
        ] as never
      ),
      [["replay", nowhere], 1, /^qlaster: replay needs --path: where consumers connect/],
      [["explain", "NOPE"], 1, /^qlaster: There is no code "NOPE"/],
      [["tap", nowhere], 1, /^qlaster: Cannot connect to .*CONNECT_NO_SENDER/],
      [["stat", nowhere], 1, /^qlaster: Cannot look at the sender at .*CONNECT_NO_SENDER/],
      [["top", nowhere], 1, /^qlaster: Cannot look at the sender/],
      [["record", nowhere, temporary.at("r")], 1, /^qlaster: Cannot connect to/],
      [["replay", nowhere, "--path", temporary.at("s")], 1, /RECORDING_NOT_FOUND/],
      [["send", "--from", "relay"], 1, /^qlaster: send needs --path/],
      [["send", "--path", temporary.at("s"), "--from", "nobody"], 2, /Allowed choices are yellowstone/],
      [["tap"], 2, /^qlaster: missing required argument 'path'/],
      [["tap", nowhere, "--nonsense"], 2, /^qlaster: unknown option '--nonsense'/],
      [["tap", nowhere, "--count", "many"], 2, /must be a number from 0/],
      [["dance"], 2, /^qlaster: unknown command 'dance'/],
    ];
    for (const [args, code, says] of cases) {
      const result = await start(held, of(args)).ended;
      assert.equal(result.code, code, `${args}: ${result.stderr}`);
      assert.match(result.stderr, says, String(args));
      assert.doesNotMatch(result.stderr, /\n {4}at /, "no stack");
    }
  }, MANY);

  guarded(`${name}: tap decodes token accounts and mints, filters, and ends with its sender`, async (held) => {
    const temporary = held.use(new Temporary());
    const path = temporary.at("s.sock");
    const sender = held.use(await setupSender({ path }));
    const [mint, holder] = [new Uint8Array(32).fill(7), new Uint8Array(32).fill(8)];
    const tokenProgram = bytesFromAddress("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA" as Address);
    const account = new Uint8Array(165);
    account.set(mint, 0);
    account.set(holder, 32);
    new DataView(account.buffer).setBigUint64(64, 123_456n, true);
    const mintData = new Uint8Array(82);
    new DataView(mintData.buffer).setBigUint64(36, 999n, true);
    mintData[44] = 6;
    const [tokenOnly, transactions] = [
      ["--owner", "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA", "--count", "3"],
      ["--account", addressFromBytes(mint), "--transactions", "--policy", "drop-oldest"],
    ].map((args) => start(held, of(["tap", path, ...args])));
    await eventually(
      () => `both are subscribed: ${tokenOnly!.text.stderr}${transactions!.text.stderr}`,
      () => sender.consumers().filter(({ accounts, owners }) => accounts + owners > 0).length === 2,
    );
    assert.deepEqual(sender.consumers().map(({ policy }) => policy).sort(), ["disconnect", "drop-oldest"]);
    const write = (pubkey: Uint8Array, owner: Uint8Array, data: Uint8Array) =>
      sender.publishAccount({ pubkey, owner, lamports: 5n, data, slot: 9n });
    write(new Uint8Array(32).fill(1), OWNER, new Uint8Array(3)); // nobody's
    write(mint, tokenProgram, mintData);
    write(new Uint8Array(32).fill(3), tokenProgram, account);
    const message = new Uint8Array(200).fill(1);
    const signature = new Uint8Array(64).fill(0xab);
    sender.publishTransaction({ signature, slot: 9n, index: 4, vote: false, failed: true, message });
    sender.publishSlot({ slot: 9n, parent: 8n, status: "confirmed" });
    const tokens = (await tokenOnly!.ended).stdout.trim().split("\n");
    const age = String.raw`\d[\d.]* (ns|µs|ms|s)`;
    assert.equal(tokens.length, 3);
    assert.match(tokens[0]!, new RegExp(`^account \\w+  slot 9  5 lamports  mint supply 999 decimals 6  ${age}$`));
    const held8 = `token 123456 of mint ${addressFromBytes(mint)} held by ${addressFromBytes(holder)}`;
    assert.match(tokens[1]!, new RegExp(`^account \\w+  slot 9  5 lamports  ${held8}  ${age}$`));
    assert.match(tokens[2]!, new RegExp(`^slot 9  confirmed  parent 8  3 accounts 1 transactions  ${age}$`));
    await eventually("the others came, too", () => transactions!.text.stdout.split("\n").length === 4);
    await sender.close();
    const { code, stdout } = await transactions!.ended;
    assert.equal(code, 0);
    assert.match(
      stdout,
      /^account .*mint supply 999.*\ntransaction abababababababab… {2}slot 9 #4 {2}failed {2}200 bytes/,
    );
  });

  guarded(`${name}: tap, stat and top of a scripted sender, by its own figures`, async (held) => {
    const temporary = held.use(new Temporary());
    const path = temporary.at("s.sock");
    const sender = await scriptedSender(held, path);
    const tap = await start(held, of(["tap", path, "--owner", OWNER_ADDRESS, "--count", "30", "--json"])).ended;
    assert.equal(tap.code, 0, tap.stderr);
    const updates = tap.stdout.trim().split("\n").map((line) => JSON.parse(line));
    assert.equal(updates.length, 30);
    assert.ok(
      updates.some(({ kind, owner, lamports, slot }) =>
        kind === "account" && owner === OWNER_ADDRESS && lamports === slot
      ),
    );
    const pretty = await start(held, of(["tap", path, "--all", "--count", "12", "--hex"])).ended;
    assert.match(pretty.stdout, /^account \w+ {2}slot \d+ {2}\d+ lamports {2}100 bytes of 8qbHb/m);
    const timed = await start(held, of(["tap", path, "--for", "300ms"])).ended;
    assert.equal(timed.code, 0);
    if (process.platform !== "linux") return;
    const before = sender.metrics.accounts;
    const stat = await start(held, of(["stat", path, "--json"])).ended;
    assert.equal(stat.code, 0, stat.stderr);
    const figures = JSON.parse(stat.stdout);
    assert.ok(figures.accounts >= before && figures.accounts <= sender.metrics.accounts);
    assert.equal(figures.pid, process.pid);
    assert.equal(figures.consumers[0].name, "reader");
    assert.match(await topOf(() => start(held, of(["top", path])).ended), /^1 reader +\d/m);
    const prom = await start(held, of(["stat", path, "--prom"])).ended;
    assert.match(prom.stdout, /^qlaster_sender_updates_total\{path="[^"]+",kind="account"\} \d+$/m);
  });

  guarded(`${name}: record, then replay and send to a consumer`, async (held) => {
    const temporary = held.use(new Temporary());
    const [path, directory] = [temporary.at("s.sock"), temporary.at("recording")];
    await scriptedSender(held, path);
    const recording = start(held, of(["record", path, directory, "--owner", OWNER_ADDRESS, "--rotate-slots", "20"]));
    await eventually("two segments", () => existsSync(directory) && readdirSync(directory).length >= 4);
    process.kill(recording.child.pid!, "SIGINT"); // not child.kill(): Deno reports the signal as the end after that
    const recorded = await recording.ended;
    assert.equal(recorded.code, 0, recorded.stderr);
    assert.match(recorded.stderr, /^recorded \S+ updates/);
    let count = 0;
    for await (const batch of replay(directory)) count += batch.length;
    assert.ok(count > 200);
    const second = temporary.at("replayed.sock");
    writeFileSync(temporary.at("config.json"), JSON.stringify({ from: "replay", source: directory, speed: "max" }));
    for (
      const args of [
        ["replay", directory, "--path", second, "--speed", "max", "--wait-for", "1", "--http-port", "0"],
        ["send", "--config", temporary.at("config.json"), "--path", second, "--wait-for", "1", "--http-port", "0"],
      ]
    ) {
      const replaying = start(held, of(args));
      await eventually("it sends", () => replaying.text.stderr.includes("sending from"));
      if (process.platform === "linux") {
        const url = /http:\/\/\S+/.exec(replaying.text.stderr)![0];
        await eventually("it is well", async () => { // which it is not for a moment after a stall of the machine
          const health = await fetch(`${url}/health`);
          const { isStuck } = await health.json() as { isStuck: boolean };
          assert.equal(health.status, isStuck ? 503 : 200);
          return !isStuck;
        });
        assert.match(await (await fetch(`${url}/metrics`)).text(), /qlaster_sender_up/);
        assert.equal((await fetch(`${url}/nothing`)).status, 404);
        // On this host's own address, and no other one, not even of the same interface.
        await assert.rejects(fetch(`${url.replace("127.0.0.1", "127.0.0.2")}/health`));
      }
      const consumer = held.use(await setupConsumer(second, { reconnect: false }));
      await consumer.subscribe({ owners: [OWNER] });
      let got = 0;
      while (await consumer.next() !== undefined) got++;
      assert.equal(got, count);
      assert.equal((await replaying.ended).code, 0);
    }
  });
}

for (const [name, of] of STARTS) {
  guarded(`${name}: bench ends by a signal, and leaves nothing`, async (held) => {
    const { child, ended, text } = start(held, of(["bench", "--for", "1h"]));
    const socket = join(tmpdir(), `qlaster-bench-${child.pid}.sock`);
    await eventually(() => `it runs: ${text.stderr}`, () => existsSync(socket));
    process.kill(child.pid!, "SIGINT");
    const { code, stdout, stderr } = await ended;
    assert.deepEqual([code, stdout, stderr], [0, "", ""]);
    assert.ok(!existsSync(socket));
  });
}

guarded("the executable needs nothing beside it where it runs, and no checkout", async (held) => {
  const temporary = held.use(new Temporary());
  const path = temporary.at("s.sock");
  await scriptedSender(held, path);
  const begin = (...args: string[]) => start(held, [compiled(), args], temporary.path);
  const run = (...args: string[]) => begin(...args).ended;
  const explained = await run("explain", "SYSTEM");
  assert.equal(explained.code, 0, explained.stderr);
  const doctor = await run("doctor");
  assert.equal(doctor.code, 0, doctor.stdout + doctor.stderr);
  assert.match(doctor.stdout, /^ok {4}round trip/m);
  const tapped = await run("tap", path, "--all", "-n", "5");
  assert.equal(tapped.code, 0, tapped.stderr);
  assert.equal(tapped.stdout.trim().split("\n").length, 5);
  if (process.platform === "linux") {
    assert.match((await run("stat", path)).stdout, /^1 reader/m);
    assert.match((await run("stat", path, "--prom")).stdout, /^qlaster_sender_up\{path="[^"]+"\} 1$/m);
    await topOf(() => run("top", path, "--every", "50ms"));
  }
  let directory = "";
  let count = 0;
  for (let attempt = 1; count === 0; attempt++) { // the machine may stand still just then
    directory = temporary.at(`recording${attempt}`);
    const recorded = await run("record", path, directory, "--owner", OWNER_ADDRESS, "--for", "500ms");
    assert.equal(recorded.code, 0, recorded.stderr);
    for await (const batch of replay(directory)) count += batch.length;
  }
  const second = temporary.at("again.sock");
  const replaying = begin("replay", directory, "--path", second, "--speed", "max", "--wait-for", "1");
  await eventually("it sends", () => replaying.text.stderr.includes("sending from"));
  const consumer = held.use(await setupConsumer(second, { reconnect: false }));
  await consumer.subscribe({ owners: [OWNER] });
  let got = 0;
  while (await consumer.next() !== undefined) got++;
  assert.equal(got, count);
  assert.equal((await replaying.ended).code, 0);
  // It carries no litesvm, and there is none where it runs.
  const bank = await run("send", "--from", "litesvm", "--path", temporary.at("bank.sock"));
  assert.equal(bank.code, 1);
  assert.match(bank.stderr, /^qlaster: send --from litesvm needs the package litesvm: install it/m);
  assert.doesNotMatch(bank.stderr, /\n {4}at /, "no stack");
  assert.equal((await run("tap", temporary.at("none"))).code, 1);
  assert.equal((await run("tap")).code, 2);
}, MANY);

test("explain has a cause and a cure for every code", async () => {
  for (const [code, [cause, cure]] of Object.entries(ERRORS)) {
    const { exitCode, said } = await mainHere(["explain", code.toLowerCase()]);
    assert.equal(exitCode, 0, code);
    assert.equal(said, `${code}\n  ${cause}.\n  What to do: ${cure}.\n`);
  }
});

guarded("tap neither shows nor counts slots of before its filter is in force", async (held) => {
  const path = held.use(new Temporary()).at("s.sock");
  const sender = held.use(await setupSender({ path }));
  // In one thread, so that nothing can be asked for before this slot is there.
  sender.onConsumer(({ type }) => {
    if (type === "connected") sender.publishSlot({ slot: 8n, parent: 7n, status: "processed" });
  });
  sender.onSubscription(() => {
    sender.publishAccount({ pubkey: OWNER, owner: OWNER, lamports: 5n, data: new Uint8Array(3), slot: 9n });
  });
  const { exitCode, said } = await mainHere(["tap", path, "--owner", OWNER_ADDRESS, "--count", "1"]);
  assert.equal(exitCode, 0);
  assert.match(said, /^account \w+ {2}slot 9 .*\n$/);
});

guarded("./dev cli runs the command from the checkout", async (held) => {
  const { code, stdout, stderr } = await start(held, ["sh", ["dev", "cli", "explain", "system"]], ROOT).ended;
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^SYSTEM\n/);
});

guarded("doctor says what to change: Deno without its permission, few descriptors", async (held) => {
  const deno = STARTS.get("deno")!(["doctor"]);
  const [command, args] = deno;
  const others = ["--no-prompt", "--allow-read", "--allow-write", "--allow-env", "--allow-sys", "--allow-net"];
  const without = args.flatMap((arg) => arg === "-A" ? others : [arg]);
  const refused = await start(held, [command, without]).ended;
  assert.equal(refused.code, 1, refused.stdout);
  assert.match(refused.stdout, /^BAD {3}native library .*\n +-> run Deno with --allow-ffi/m);
  assert.match(refused.stderr, /^qlaster: something keeps the library from working/);
  const few = ["sh", ["-c", 'ulimit -n 1000 && exec "$0" "$@"', command, ...args]] as const;
  const limited = await start(held, [few[0], few[1]]).ended;
  assert.equal(limited.code, 0, limited.stdout + limited.stderr);
  assert.match(limited.stdout, /^note {2}descriptors +hard limit 1000: .*\n +-> LimitNOFILE=65536/m);
  const rest = ["memfd", "memory", "cores", "huge pages", "clock"];
  for (const what of ["runtime", "native library", "round trip", "stat page", ...rest]) {
    assert.match(limited.stdout, new RegExp(`^(ok  |note)  ${what} `, "m"));
  }
}, { skip: process.platform === "linux" ? undefined : "needs /proc" });
