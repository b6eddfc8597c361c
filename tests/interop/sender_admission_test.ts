/**
 * Our sender and whom it takes for a consumer of wire version 9: by user, memory and option; and what it says of the others.
 * May touch: the library as a user would, a raw peer, child processes. Linux only.
 *
 * @module
 */

import assert from "node:assert/strict";
import { chmodSync, rmSync, writeFileSync } from "node:fs";
import process from "node:process";
import { setupConsumer } from "../../mod.ts";
import { Agent } from "../support/agent_process.ts";
import { eventually } from "../support/footprint.ts";
import { guarded } from "../support/guarded.ts";
import { ping, RawV9Consumer, slotFrame, subscribe } from "../support/raw_v9.ts";
import { OWN_RUNTIME } from "../support/runtime.ts";
import { Temporary } from "../support/temporary.ts";
import { bodies, CAPACITY, Scene, SKIP } from "./support/sender_scene.ts";

const AS_ROOT = process.getuid?.() === 0 ? SKIP : { skip: "becoming another user needs root" };
const NOBODY = 65534;

guarded("memoryMaxBytes bounds rings of both protocols together", async (held) => {
  const native = CAPACITY + 2 * 65536;
  const scene = await Scene.open(held, { memoryMaxBytes: native + CAPACITY + 320, poolBytes: 0 });
  const consumer = held.use(await setupConsumer(scene.path, { reconnect: false }));
  await scene.slot();
  const late = scene.connect();
  late.link.send(subscribe());
  await late.link.end();
  await assert.rejects(setupConsumer(scene.path, { protocol: "native" }), { code: "CONNECT_REFUSED" });
  assert.equal(consumer.ended, undefined);
  assert.equal(scene.sender.metrics.memoryBytes, native + CAPACITY + 320);
  await scene.refuses(
    /^v9: with it the sender would need \d+ bytes .rings \d+., the limit is \d+: raise memoryMaxBytes, /,
    /^native: with it the sender would need \d+ bytes .rings \d+., the limit is \d+: raise memoryMaxBytes, /,
  );
}, SKIP);

guarded("v9: false closes on whatever is not the native protocol", async (held) => {
  const scene = await Scene.open(held, { v9: false });
  const consumer = scene.connect();
  consumer.link.send(subscribe());
  await consumer.link.end();
  await scene.refuses(/^v9: it does not speak the native protocol, and no other is served \(option v9\)$/);
}, SKIP);

guarded(
  "who leaves or comes too late is told of, too, and a slot that can't be made, with what helps",
  async (held) => {
    const temporary = held.use(new Temporary());
    const ringDirectory = temporary.at("above/rings");
    const scene = await Scene.open(held, { v9: { ring: "file", ringDirectory } });
    rmSync(temporary.at("above"), { recursive: true });
    writeFileSync(temporary.at("above"), "");
    const [silent, midway, asking, pinging] = [scene.connect(), scene.connect(), scene.connect(), scene.connect()];
    silent.link.close();
    await eventually("it is seen", () => scene.refusals.length === 1);
    midway.link.send(subscribe().subarray(0, 20));
    midway.link.close();
    await eventually("it is seen", () => scene.refusals.length === 2);
    asking.link.send(subscribe());
    await asking.link.end();
    pinging.link.send(ping({ index: 0, generation: 1n }));
    pinging.link.close();
    await eventually("it is seen", () => scene.refusals.length === 4);
    const late = scene.connect();
    late.link.send(Uint8Array.of(28, 0, 0, 0));
    await eventually("it was accepted, and what it said was read", () => late.link.isTaken);
    assert.equal(scene.sender.metrics.refused, 4);
    await scene.sender.close();
    await late.link.end();
    await scene.refuses(
      /^undefined: it closed the connection before it had said anything whole$/,
      /^v9: it closed the connection before it had said anything whole$/,
      /^v9: Cannot create a ring of 65536 bytes in ".*\/rings" \(not a directory .*: .* in the option v9\.ringDirectory/,
      /^v9: it closed the connection before it had a slot$/,
      /^v9: the sender is closing$/,
    );
  },
  SKIP,
);

guarded("another user is no consumer of version 9, even one that may be a native one", async (held) => {
  const scene = await Scene.open(held, { uids: [NOBODY] });
  chmodSync(scene.temporary.path, 0o755);
  const agent = held.use(new Agent(OWN_RUNTIME));
  const reply = await agent.run(async ({ qlaster, libc, kept }, { path, uid, request }) => {
    await qlaster.load();
    libc.becomeUser(uid);
    kept.consumer = await qlaster.setupConsumer(path, { reconnect: false, protocol: "native" });
    const calls = libc.libc();
    const fd = calls.socket(1, 1, 0); // blocking: the sender is another process
    const address = Uint8Array.from([1, 0, ...new TextEncoder().encode(path), 0]);
    if (calls.connect(fd, address, address.length) !== 0) throw new Error("connect failed");
    calls.write(fd, Uint8Array.from(request), BigInt(request.length));
    return Number(calls.read(fd, new Uint8Array(100), 100n));
  }, { path: scene.path, uid: NOBODY, request: [...subscribe()] });
  assert.ok(reply <= 0, `${reply} bytes came`); // the end, or a reset
  assert.deepEqual(scene.sender.consumers().map(({ protocol, uid }) => [protocol, uid]), [["native", NOBODY]]);
  await scene.refuses(/^v9: wire version 9 is for uid 0 and root, and it runs as uid 65534$/);
}, AS_ROOT);

guarded("root may be a consumer of version 9, and a native one only if it is named", async (held) => {
  const temporary = held.use(new Temporary());
  chmodSync(temporary.path, 0o1777);
  const path = temporary.at("s.sock");
  const agent = held.use(new Agent(OWN_RUNTIME));
  await agent.run(async (scope, { path, uid }) => {
    await scope.qlaster.load();
    scope.libc.becomeUser(uid);
    scope.sender = await scope.qlaster.setupSender({ path, ringCapacityBytes: 65536 });
  }, { path, uid: NOBODY });
  const consumer = held.use(new RawV9Consumer(path));
  const slot = await consumer.open();
  await agent.run(({ sender }) => sender.publishSlot({ slot: 3n, parent: 2n, status: "processed" }));
  assert.deepEqual(bodies(await slot.frames(1)), [slotFrame(3n)]);
  const refused = { code: "CONNECT_REFUSED", message: /uid 0 is not among those/ };
  await assert.rejects(setupConsumer(path, { protocol: "native", uids: [NOBODY] }), refused);
  await agent.run(({ sender }) => sender.close());
}, AS_ROOT);
