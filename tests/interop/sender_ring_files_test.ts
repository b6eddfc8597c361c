/**
 * Our sender's rings of wire version 9 as files: made, named, private, and removed, also those that a killed sender left.
 * May touch: the library as a user would, a raw peer, child processes, the directories of rings. Linux only.
 *
 * @module
 */

import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import process from "node:process";
import { setupSender } from "../../mod.ts";
import { Agent } from "../support/agent_process.ts";
import { guarded } from "../support/guarded.ts";
import { RawV9Consumer, subscribe } from "../support/raw_v9.ts";
import { OWN_RUNTIME } from "../support/runtime.ts";
import { Temporary } from "../support/temporary.ts";
import { account, CAPACITY, key, Scene, SKIP } from "./support/sender_scene.ts";

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
