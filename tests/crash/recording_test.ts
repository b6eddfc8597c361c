/**
 * A recorder is killed: what it had written out comes back, in order and equal, by us and by another implementation of MCAP.
 * May touch: processes that it starts, the temporary directory.
 */

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { setupSender } from "../../mod.ts";
import { Recorder, replay } from "../../src/recording/mod.ts";
import { eventually } from "../support/footprint.ts";
import { guarded } from "../support/guarded.ts";
import { executable, type Runtime, RUNTIMES } from "../support/runtime.ts";
import { createScript, describe } from "../support/script.ts";
import { Temporary } from "../support/temporary.ts";

const CHILD = fileURLToPath(new URL("../support/recorder_child.ts", import.meta.url));

function startRecorder(runtime: Runtime, path: string, directory: string, options: Record<string, unknown>) {
  const flags = runtime === "deno" ? ["run", "--quiet", "--no-check", "-A"] : ["run"];
  const child = spawn(executable(runtime), [...flags, CHILD, path, directory, JSON.stringify(options)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const state = { isSubscribed: false, written: 0, isGone: false };
  createInterface({ input: child.stdout }).on("line", (line) => {
    if (line === "subscribed") state.isSubscribed = true;
    else state.written = Number(line);
  });
  child.once("close", () => void (state.isGone = true));
  return { state, kill: () => void process.kill(child.pid!, "SIGKILL") };
}

/** One line of text for each update, as the script's oracle writes them. */
async function described(directory: string): Promise<string[]> {
  const lines: string[] = [];
  for await (const batch of replay(directory)) {
    for (const update of batch) {
      const original = { ...update, sourceNs: update.sourceNs === update.publishNs ? 0n : update.sourceNs };
      const counts = update.kind === "slot"
        ? `${update.accountsPublished} ${update.transactionsPublished} ${update.accountsLost} ${update.transactionsLost}`
        : "";
      lines.push(describe(original, Number(update.sequence), counts));
    }
  }
  return lines;
}

for (const runtime of RUNTIMES) {
  guarded(`kill -9 of a ${runtime} recorder: all that it had flushed comes back, in order, equal`, async (held) => {
    const temporary = held.use(new Temporary());
    const path = temporary.at("s.sock");
    const directory = temporary.at("recording");
    const sender = held.use(await setupSender({ path, policies: ["disconnect"] }));
    const recorder = startRecorder(runtime, path, directory, { flushMs: 20, rotateSlots: 20 });
    held.defer(() => {
      if (!recorder.state.isGone) recorder.kill();
    });
    await eventually("it is subscribed", () => recorder.state.isSubscribed);
    const script = createScript(7, 600);
    const counts = new Map<bigint, [accounts: number, transactions: number]>();
    const published: string[] = [];
    for (const [i, update] of script.entries()) {
      const of = counts.get(update.slot) ?? [0, 0];
      counts.set(update.slot, of);
      if (update.kind === "account") of[0]++;
      if (update.kind === "transaction") of[1]++;
      published.push(describe(update, i + 1, update.kind === "slot" ? `${of[0]} ${of[1]} 0 0` : ""));
    }
    for (let i = 0; i < script.length; i += 50) {
      sender.publishBatch(script.slice(i, i + 50));
      if (i < 400) await eventually("they are written out", () => recorder.state.written >= i + 50);
    }
    recorder.kill();
    await eventually("it is gone", () => recorder.state.isGone);
    const { written } = recorder.state;
    const left = await described(directory);
    assert.ok(left.length >= written, `${left.length} are left of ${written}`);
    assert.deepEqual(left, published.slice(0, left.length));
    // The next recorder finishes what this one left, and nothing changes by that.
    await (await Recorder.open(directory)).close();
    assert.deepEqual(await described(directory), left);
    assertOpensInPython(directory, left.length);
  });
}

const PYTHON = `
import json, pathlib, struct, sys
from mcap.reader import make_reader
updates = slots = 0
last = 0
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.mcap")):
    with open(path, "rb") as file:
        reader = make_reader(file, validate_crcs=True)
        assert reader.get_header().profile == "qlaster"
        for schema, channel, message in reader.iter_messages():
            fields = {field["name"]: field for field in json.loads(schema.data)["fields"]}
            def number(name):
                field = fields[name]
                size = int(field["type"][1:]) // 8
                return int.from_bytes(message.data[field["offset"] : field["offset"] + size], "little")
            if channel.topic == "slot-index":
                slots += 1
                continue
            if channel.topic == "seam":
                assert json.loads(message.data)["type"] in ("lost", "resumed")
                continue
            if channel.topic == "filter-names":
                assert isinstance(json.loads(message.data)["names"], list)
                continue
            assert message.log_time > last
            last = message.log_time
            assert number("length") == len(message.data)
            assert number("sequence") & 0xFFFFFFFF == message.sequence
            if channel.topic == "account":
                assert number("full_length") == number("data_length")
            updates += 1
print(json.dumps({"updates": updates, "slots": slots}))
`;

/** As far as python3 with the package \`mcap\` is there. */
function assertOpensInPython(directory: string, updates: number): void {
  const hasMcap = spawnSync("python3", ["-c", "import mcap, zstandard"], { stdio: "ignore" }).status === 0;
  if (!hasMcap) return;
  const program = `${directory}.py`;
  writeFileSync(program, PYTHON);
  const { status, stdout, stderr } = spawnSync("python3", [program, directory], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  const seen = JSON.parse(stdout);
  assert.equal(seen.updates, updates);
  assert.ok(seen.slots > 0);
}
