/**
 * What a sender refuses: peers that break the protocol in each way we could think of. Each is dropped, the honest are
 * served, nothing leaks.
 * May touch: the library in this process, raw peers beside it, /proc, processes through agents.
 * Why in one process: the sum of all descriptors and mappings then shows a leak on either side.
 */

import assert from "node:assert/strict";
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import process from "node:process";
import { isQlasterError, load, setupConsumer, setupSender } from "../../mod.ts";
import { OVERFLOW_POLICIES } from "../../src/types.ts";
import { LINK_BODY_BYTES_MAX, LinkKind, Status, SubscribeBody } from "../../src/native/abi.generated.ts";
import { Agent } from "../support/agent_process.ts";
import { eventually } from "../support/footprint.ts";
import { guarded } from "../support/guarded.ts";
import * as libc from "../support/libc.ts";
import { concat, helloBody, message, RawConsumer, RawLink, RawWake } from "../support/raw_peer.ts";
import { OWN_RUNTIME, RUNTIMES } from "../support/runtime.ts";
import { Scene } from "../support/scene.ts";
import { Temporary } from "../support/temporary.ts";

const hello = (options: Parameters<typeof helloBody>[0] = {}) => message(LinkKind.hello, helloBody(options));

function noise(length: number, seed: number): Uint8Array {
  let state = seed;
  return Uint8Array.from({ length }, () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 24);
}

/** The Rust original's first message: an empty SUBSCRIBE of version 9, with its length in front. */
const V9_SUBSCRIBE = concat(Uint8Array.of(28, 0, 0, 0, 9, 1, 255), new Uint8Array(25));

guarded(
  "Sender, blockTimeoutMs: a consumer that says that it has read, and has not, stops everybody no longer than others",
  async (held) => {
    const temporary = held.use(new Temporary());
    const path = temporary.at("s.sock");
    const native = await load();
    const sender = held.use(
      await setupSender({ path, ringCapacityBytes: 65_536, poolBytes: 0, policies: ["block"], blockTimeoutMs: 300 }),
    );
    const ended = Promise.withResolvers<string>();
    sender.onConsumer((event) => event.type === "disconnected" && ended.resolve(event.reason));
    const consumer = held.use(await RawConsumer.connect(native, path, OVERFLOW_POLICIES.indexOf("block")));
    await eventually("it is connected", () => sender.metrics.consumers === 1);
    const slot = { slot: 1n, parent: 0n, status: "processed" } as const;
    while (sender.publishSlot(slot) >= 0);
    // As often as the event loop runs, for much longer than that.
    let refusals = 0;
    await eventually("it is ended", () => {
      if (sender.publishSlot(slot) < 0) refusals++;
      native.wakeNotify(consumer.senderWake);
      return sender.metrics.consumers === 0;
    });
    assert.ok(refusals > 0);
    assert.equal(await ended.promise, "slow-consumer");
  },
);

// Before the grant

/** Bytes that are no hello. `wakes`: descriptors that go with them. */
const NO_HELLOS: readonly (readonly [name: string, bytes: Uint8Array, wakes: number])[] = [
  ["20 random bytes", noise(20, 1), 0],
  ["5,000 random bytes with a descriptor", noise(5000, 2), 1],
  ["a message of version 9 that is none", Uint8Array.of(4, 0, 0, 0, 9, 1, 255, 0), 0],
  ["a wrong magic", message(LinkKind.hello, helloBody(), { magic: 0x12345678 }), 1],
  ["a body announced beyond the limit", message(LinkKind.hello, helloBody(), { bodyLength: 0xffffffff }), 1],
  ["a hello without a descriptor", hello(), 0],
  ["a hello with two descriptors", hello(), 2],
  ["a hello with four descriptors", hello(), 4],
  ["a hello with an empty body", message(LinkKind.hello), 1],
  ["a hello that is too short", message(LinkKind.hello, helloBody().subarray(0, 7)), 1],
  ["a hello whose name is longer than it", hello({ nameLength: 9, name: new Uint8Array(8) }), 1],
  ["a hello whose name is shorter than it", hello({ nameLength: 7, name: new Uint8Array(8) }), 1],
  ["a hello whose name is beyond the limit", hello({ name: new Uint8Array(65) }), 1],
  ["a hello whose name's length is huge", hello({ nameLength: 0xfffffff8 }), 1],
  ["a ping instead of a hello", message(LinkKind.ping), 1],
  ["a subscribe instead of a hello", message(LinkKind.subscribe, new Uint8Array(SubscribeBody.size)), 1],
  ["a grant instead of a hello", message(LinkKind.grant, new Uint8Array(40)), 1],
  ["an unknown kind", message(99), 1],
];

for (const [name, bytes, wakes] of NO_HELLOS) {
  guarded(`Sender closes on ${name}`, async (held) => {
    const scene = await Scene.open(held);
    const link = held.use(RawLink.connect(scene.native, scene.path));
    const passed = Array.from({ length: wakes }, () => held.use(new RawWake(scene.native)));
    assert.equal(link.send(bytes, passed.map((wake) => wake.passed)), bytes.length);
    for (const wake of passed) wake[Symbol.dispose]();
    await link.end();
    link.close();
    await scene.refused(1);
    assert.deepEqual(scene.ends, []);
    await scene.assertUnharmed();
  });
}

guarded("Sender, at the deadline, closes on what stopped midway, and only on that", async (held) => {
  const scene = await Scene.open(held);
  const wake = held.use(new RawWake(scene.native));
  const long = message(LinkKind.hello, new Uint8Array(8), { bodyLength: LINK_BODY_BYTES_MAX });
  const halves: [bytes: Uint8Array, descriptors: number[]][] = [
    [new Uint8Array(0), []],
    [hello().subarray(0, 1), [wake.passed]],
    [hello().subarray(0, 15), []],
    [hello().subarray(0, 16), [wake.passed]],
    [hello().subarray(0, 23), [wake.passed]],
    [long, [wake.passed]],
  ];
  const links = halves.map(([bytes, descriptors]) => {
    const link = held.use(RawLink.connect(scene.native, scene.path));
    if (bytes.length > 0) assert.equal(link.send(bytes, descriptors), bytes.length);
    return link;
  });
  for (const link of links) await link.end();
  for (const link of links) link.close();
  wake[Symbol.dispose]();
  await scene.refused(halves.length);
  await scene.assertUnharmed();
});

guarded("Sender takes a hello that comes byte by byte", async (held) => {
  const scene = await Scene.open(held, { handshakeTimeoutMs: 20_000 });
  const link = held.use(RawLink.connect(scene.native, scene.path));
  const wake = held.use(new RawWake(scene.native));
  hello({ name: new TextEncoder().encode("slow") }).forEach((byte, i) => {
    assert.equal(link.send(Uint8Array.of(byte), i === 0 ? [wake.passed] : []), 1);
  });
  assert.equal((await link.message()).kind, LinkKind.grant);
  await eventually("it is connected", () => scene.sender.consumers()[1]?.name === "slow");
  link.close();
  wake[Symbol.dispose]();
  assert.equal(await scene.end(), "consumer-gone");
  await scene.assertUnharmed();
});

guarded("Sender refuses a wake that is no connected Unix stream socket", async (held) => {
  const scene = await Scene.open(held);
  const path = new TextEncoder().encode(scene.temporary.at("listening.sock"));
  const listener = scene.native.listen(path, path.length, 0);
  const descriptors: Record<string, number> = {
    "a regular file": libc.openFile(scene.temporary.at("file")),
    "an eventfd": libc.eventfd(),
    "a datagram socket": libc.datagramSocket(),
    "memory": libc.memfd(65536),
    "a listening socket": scene.native.listenerFd(listener),
  };
  for (const [name, fd] of Object.entries(descriptors)) {
    const link = held.use(RawLink.connect(scene.native, scene.path));
    link.send(hello(), [fd]);
    libc.close(fd);
    const { kind, body } = await link.message();
    assert.equal(kind, LinkKind.refuse, name);
    assert.equal(new DataView(body.buffer).getInt32(0, true), Status.badDescriptor, name);
    await link.end();
    link.close();
  }
  assert.equal(statSync(scene.temporary.at("file")).size, 0);
  scene.native.close(listener);
  await scene.refused(Object.keys(descriptors).length);
  await scene.assertUnharmed();
});

guarded("Sender refuses versions that it does not speak, and says which side to upgrade", async (held) => {
  const scene = await Scene.open(held);
  for (const [versionMin, versionMax, side] of [[2, 9, "sender"], [0, 0, "consumer"]] as const) {
    const link = held.use(RawLink.connect(scene.native, scene.path));
    const wake = held.use(new RawWake(scene.native));
    link.send(hello({ versionMin, versionMax }), [wake.passed]);
    const { kind, body } = await link.message();
    assert.equal(kind, LinkKind.refuse);
    assert.equal(new DataView(body.buffer).getInt32(0, true), Status.badVersion);
    assert.match(new TextDecoder().decode(body.subarray(8)), new RegExp(`upgrade the ${side}$`));
    await link.end();
    link.close();
    wake[Symbol.dispose]();
  }
  await scene.refused(2);
  await scene.assertUnharmed();
});

guarded("Sender ends who says hello twice, at once or later, even if his wake stays open", async (held) => {
  const scene = await Scene.open(held);
  for (const isLater of [false, true]) {
    const link = held.use(RawLink.connect(scene.native, scene.path));
    const wake = held.use(new RawWake(scene.native));
    link.send(isLater ? hello() : concat(hello(), hello()), [wake.passed]);
    wake.closePassed();
    if (isLater) {
      await link.message();
      link.send(hello());
    }
    await link.end();
    await scene.assertServes(); // many turns of the event loop: whatever was to come of the hello has come
    await eventually("no connection is left of it", () => scene.sender.consumers().length === 1);
    link.close();
    wake[Symbol.dispose]();
  }
  await scene.assertUnharmed();
});

guarded(
  "Sender bears 300 connections that say nothing: the connected are served, and later the others",
  async (held) => {
    const scene = await Scene.open(held, { handshakeTimeoutMs: 1000 });
    const links = Array.from({ length: 300 }, () => held.use(RawLink.connect(scene.native, scene.path)));
    assert.equal(scene.sender.publishSlot({ slot: 1n, parent: 0n, status: "processed" }), 1);
    for (const link of links) await link.end();
    for (const link of links) link.close();
    await scene.refused(300);
    const consumer = held.use(await setupConsumer(scene.path, { reconnect: false, name: "honest" }));
    await consumer.close();
  },
);

guarded("Sender bears 200 consumers that are gone as soon as they have said hello", async (held) => {
  const scene = await Scene.open(held);
  for (let i = 0; i < 200; i++) {
    using link = RawLink.connect(scene.native, scene.path);
    using wake = new RawWake(scene.native);
    if (i % 2 === 0) link.send(hello(), [wake.passed]);
  }
  await scene.assertUnharmed();
});

guarded("Sender refuses consumers beyond its limits of number and memory", async (held) => {
  const few = await Scene.open(held, { consumersMax: 2 });
  const second = held.use(await setupConsumer(few.path, { reconnect: false }));
  await assert.rejects(setupConsumer(few.path), (error) => {
    assert.ok(isQlasterError(error, "CONNECT_REFUSED"));
    assert.match(error.message, /consumersMax/);
    return true;
  });
  await second.close();
  await few.assertUnharmed();

  const small = await Scene.open(held, { memoryMaxBytes: 2 * (65536 + 2 * 65536), poolBytes: 0 });
  const other = held.use(await setupConsumer(small.path, { reconnect: false }));
  await assert.rejects(setupConsumer(small.path), (error) => {
    assert.ok(isQlasterError(error, "CONNECT_REFUSED"));
    assert.match(error.message, /memoryMaxBytes/);
    return true;
  });
  await other.close();
});

// After the grant

interface Breach {
  readonly name: string;
  readonly reason: "peer-corrupt" | "consumer-gone" | "consumer-closed";
  run(consumer: RawConsumer, scene: Scene): void | Promise<void>;
}

function subscribe(accounts: number, owners: number, transactions: number, keys: number): Uint8Array {
  const body = new Uint8Array(SubscribeBody.size + 32 * keys);
  new Uint32Array(body.buffer, 0, 3).set([accounts, owners, transactions]);
  return message(LinkKind.subscribe, body);
}

/** Frames to this consumer until its ring is full or the sender has had enough of it. */
async function fillRing(scene: Scene): Promise<void> {
  for (let i = 0; i < 2000 && scene.sender.consumers().length > 1; i++) {
    scene.sender.publishSlot({ slot: 1n, parent: 0n, status: "processed" });
    // The honest consumer of the scene has to keep up; nobody else does.
    if (i % 100 === 99) await scene.drainHonest();
  }
}

const BREACHES: readonly Breach[] = [
  { name: "says random bytes", reason: "peer-corrupt", run: (consumer) => void consumer.tell(noise(999, 3)) },
  { name: "speaks version 9", reason: "peer-corrupt", run: (consumer) => void consumer.tell(V9_SUBSCRIBE) },
  {
    name: "announces a body beyond the limit",
    reason: "peer-corrupt",
    run: (consumer) => void consumer.tell(message(LinkKind.ping, undefined, { bodyLength: LINK_BODY_BYTES_MAX + 1 })),
  },
  {
    name: "sends a kind that is a sender's",
    reason: "peer-corrupt",
    run: (consumer) => void consumer.tell(message(LinkKind.ack, new Uint8Array(16))),
  },
  { name: "sends an unknown kind", reason: "peer-corrupt", run: (consumer) => void consumer.tell(message(1234)) },
  {
    name: "subscribes with too short a body",
    reason: "peer-corrupt",
    run: (consumer) => void consumer.tell(message(LinkKind.subscribe, new Uint8Array(8))),
  },
  {
    name: "subscribes to fewer keys than it sends",
    reason: "peer-corrupt",
    run: (consumer) => void consumer.tell(subscribe(1, 1, 0, 3)),
  },
  {
    name: "subscribes to more keys than it sends",
    reason: "peer-corrupt",
    run: (consumer) => void consumer.tell(subscribe(2, 2, 0, 3)),
  },
  {
    name: "subscribes to 2^32 - 1 keys",
    reason: "peer-corrupt",
    run: (consumer) => void consumer.tell(subscribe(0xffffffff, 0, 0, 0)),
  },
  {
    name: "subscribes to counts that sum up past 32 bits",
    reason: "peer-corrupt",
    run: (consumer) => void consumer.tell(subscribe(0xffffffff, 2, 0, 1)),
  },
  {
    name: "subscribes with 2 for a boolean",
    reason: "peer-corrupt",
    run: (consumer) => void consumer.tell(subscribe(0, 0, 2, 0)),
  },
  {
    name: "says goodbye without a reason",
    reason: "peer-corrupt",
    run: (consumer) => void consumer.tell(message(LinkKind.goodbye)),
  },
  {
    name: "says goodbye",
    reason: "consumer-closed",
    run: (consumer) => void consumer.tell(message(LinkKind.goodbye, Uint8Array.of(4, 0, 0, 0))),
  },
  {
    name: "sends a descriptor that nobody asked for",
    reason: "peer-corrupt",
    run: (consumer, { native }) => {
      using wake = new RawWake(native);
      consumer.tell(message(LinkKind.ping), [wake.passed]);
    },
  },
  {
    name: "pings without ever reading",
    reason: "peer-corrupt",
    run: async (consumer, scene) => {
      const pings = concat(...Array.from({ length: 500 }, () => message(LinkKind.ping)));
      await eventually("the sender has had enough", () => {
        // What fits: at a partial send the next one starts amid a message, which is no ping. So only whole bursts.
        consumer.tell(pings);
        return scene.sender.consumers().length === 1;
      });
    },
  },
  { name: "closes its link and keeps its wake", reason: "consumer-gone", run: (consumer) => consumer.link.close() },
  {
    name: "lets the sender's wake go and keeps its link",
    reason: "consumer-gone",
    run: (consumer) => consumer.closeSenderWake(),
  },
  {
    name: "closes both wakes and keeps its link",
    reason: "consumer-gone",
    run: (consumer) => {
      consumer.wake[Symbol.dispose]();
      consumer.closeSenderWake();
    },
  },
  {
    name: "stops midway in a message, then closes its link",
    reason: "consumer-gone",
    run: (consumer) => {
      consumer.tell(message(LinkKind.subscribe, new Uint8Array(16), { bodyLength: 100_000 }));
      consumer.link.close();
    },
  },
  {
    name: "writes a cursor from the future",
    reason: "peer-corrupt",
    run: (consumer) => void (consumer.cursor = 1n << 40n),
  },
  {
    name: "writes a cursor that is not a frame's",
    reason: "peer-corrupt",
    run: (consumer) => void (consumer.cursor = 4n),
  },
  {
    name: "writes the largest cursor",
    reason: "peer-corrupt",
    run: (consumer) => void (consumer.cursor = (1n << 64n) - 8n),
  },
  {
    name: "writes a cursor from the future and gets a full ring",
    reason: "peer-corrupt",
    run: async (consumer, scene) => {
      consumer.cursor = 1n << 40n;
      await fillRing(scene);
    },
  },
  {
    name: "writes a cursor backwards",
    reason: "peer-corrupt",
    run: (consumer, scene) => {
      scene.sender.publishSlot({ slot: 1n, parent: 0n, status: "processed" });
      consumer.cursor = 128n;
      assert.equal(scene.sender.consumers()[1]!.ring.usedBytes, 0); // the sender has seen it
      consumer.cursor = 0n;
    },
  },
];

for (const { name, reason, run } of BREACHES) {
  guarded(`Sender ends a consumer with ${reason} that ${name}`, async (held) => {
    const scene = await Scene.open(held);
    const consumer = held.use(await RawConsumer.connect(scene.native, scene.path));
    await eventually("it is connected", () => scene.sender.consumers().length === 2);
    await run(consumer, scene);
    assert.equal(await scene.end(), reason);
    // Ours is gone entirely while the peer still holds what it has.
    await scene.assertSenderFreed(consumer);
    consumer[Symbol.dispose]();
    await scene.drainHonest();
    await scene.assertUnharmed();
  });
}

guarded("Sender is not impressed by a park epoch that changes at will, nor by a flood of wake-ups", async (held) => {
  const scene = await Scene.open(held);
  const consumer = held.use(await RawConsumer.connect(scene.native, scene.path));
  await eventually("it is connected", () => scene.sender.consumers().length === 2);
  for (let i = 0; i < 300; i++) {
    consumer.parkEpoch = Math.imul(i, 2654435761) >>> 0;
    for (let j = 0; j < 50; j++) scene.native.wakeNotify(consumer.senderWake);
    scene.sender.publishSlot({ slot: 1n, parent: 0n, status: "processed" });
    consumer.cursor = BigInt(128 * (i + 1));
    if (i % 100 === 99) await scene.drainHonest();
  }
  assert.equal(scene.sender.consumers().length, 2);
  consumer.tell(message(LinkKind.ping));
  assert.equal((await consumer.link.message()).kind, LinkKind.pong);
  consumer[Symbol.dispose]();
  assert.equal(await scene.end(), "consumer-gone");
  await scene.drainHonest();
  await scene.assertUnharmed();
});

// The path

const isRoot = process.getuid?.() === 0;

for (const runtime of RUNTIMES) {
  guarded(
    `setupSender() refuses the path of a live sender in ${runtime}, and takes it after that one's end`,
    async (held) => {
      const scene = await Scene.open(held);
      const other = held.use(new Agent(runtime));
      const open = (path: string) =>
        other.run(async (scope, path) => {
          scope.sender = await scope.qlaster.setupSender({ path });
        }, path);
      await assert.rejects(open(scene.path), { code: "SENDER_PATH_IN_USE" });
      await assert.rejects(setupSender({ path: scene.path }), { code: "SENDER_PATH_IN_USE" });
      await scene.assertServes();
      await scene.sender.close();
      await open(scene.path);
      await assert.rejects(setupSender({ path: scene.path }), { code: "SENDER_PATH_IN_USE" });
    },
  );

  guarded(
    `Sender refuses a consumer in ${runtime} of a user that it does not name, and serves one that it does, without the pool`,
    async (held) => {
      const nobody = 65534;
      const scene = await Scene.open(held, { uids: [4242] });
      chmodSync(scene.temporary.path, 0o755);
      const named = await Scene.open(held, { uids: [4242, nobody] });
      chmodSync(named.temporary.path, 0o755);
      const ownOnly = await Scene.open(held);
      chmodSync(ownOnly.temporary.path, 0o755);

      const agent = held.use(new Agent(runtime));
      await agent.run(async ({ qlaster, libc }, uid) => {
        await qlaster.load();
        libc.becomeUser(uid);
      }, nobody);
      const connect = (path: string) =>
        agent.run(async (scope, path) => {
          scope.consumer = await scope.qlaster.setupConsumer(path, { reconnect: false });
        }, path);
      await assert.rejects(connect(scene.path), { code: "CONNECT_REFUSED", message: /uid 65534 is not among those/ });
      await scene.refused(1);
      await scene.assertServes();
      await assert.rejects(connect(ownOnly.path), { code: "SYSTEM", message: /permission denied/ });
      await ownOnly.assertServes();
      await connect(named.path);
      assert.equal(named.sender.consumers().at(-1)!.uid, nobody);
      named.sender.publishSlot({ slot: 9n, parent: 8n, status: "processed" });
      assert.equal(await agent.run(async ({ consumer }) => (await consumer.next())!.kind), "slot");

      // Who maps the pool can read all of it: what is large goes into the other user's ring, and into the pool for ours.
      const key = new Uint8Array(32).fill(7);
      const data = Uint8Array.from({ length: 20_000 }, (_, i) => i % 251);
      const publish = () => named.sender.publishAccount({ pubkey: key, owner: key, lamports: 1n, slot: 9n, data });
      await agent.run(async ({ consumer }) => await consumer.subscribe({ accounts: [new Uint8Array(32).fill(7)] }));
      const read = () =>
        agent.run(async ({ consumer }) => {
          const update = await consumer.next();
          if (update?.kind !== "account") throw new Error(`A ${update?.kind} came`);
          return update.data.length === 20_000 && update.data.every((byte, i) => byte === i % 251);
        });
      assert.equal(publish(), 1);
      assert.equal(named.sender.metrics.pool.usedBytes, 0);
      assert.equal(await read(), true);
      const own = held.use(await setupConsumer(named.path));
      await own.subscribe({ accounts: [key] });
      assert.equal(publish(), 2);
      assert.ok(named.sender.metrics.pool.usedBytes >= data.length);
      assert.equal(await read(), true);
      const update = await own.next();
      assert.ok(update?.kind === "account" && update.data.every((byte, i) => byte === data[i]));
    },
    { skip: isRoot ? undefined : "becoming another user needs root" },
  );
}

guarded("setupSender() refuses a path that is no socket, and leaves it as it is", async (held) => {
  const scene = await Scene.open(held);
  const path = scene.temporary.at("letter.txt");
  writeFileSync(path, "important");
  await assert.rejects(setupSender({ path }), { code: "SENDER_PATH_NOT_SOCKET" });
  assert.equal(readFileSync(path, "utf8"), "important");
  const directory = scene.temporary.at("directory");
  mkdirSync(directory);
  await assert.rejects(setupSender({ path: directory }), { code: "SENDER_PATH_NOT_SOCKET" });
  await scene.assertUnharmed();
});

guarded("setupSender() refuses a directory in which others may replace its socket", async (held) => {
  const scene = await Scene.open(held);
  const directory = scene.temporary.at("open");
  mkdirSync(directory);
  for (const [mode, isSafe] of [[0o777, false], [0o770, false], [0o1777, true], [0o755, true]] as const) {
    chmodSync(directory, mode);
    const opening = setupSender({ path: `${directory}/s.sock` });
    if (isSafe) await (await opening).close();
    else await assert.rejects(opening, { code: "SENDER_DIRECTORY_UNSAFE" }, mode.toString(8));
  }
  const path = scene.temporary.at("made/s.sock");
  await using _ = await setupSender({ path });
  assert.equal(statSync(scene.temporary.at("made")).mode & 0o777, 0o700);
  await assert.rejects(setupSender({ path: `/tmp/${"x".repeat(100)}` }), RangeError);
});

guarded("setupConsumer() names what stands at the path: nothing, a file, a dead sender's socket", async (held) => {
  const scene = await Scene.open(held);
  writeFileSync(scene.temporary.at("file"), "");
  const dead = held.use(new Agent(OWN_RUNTIME));
  await dead.run(async (scope, path) => {
    scope.sender = await scope.qlaster.setupSender({ path });
  }, scene.temporary.at("dead.sock"));
  await dead[Symbol.asyncDispose]();
  for (const name of ["nothing", "file", "dead.sock", "nothing/s.sock", "file/s.sock"]) {
    await assert.rejects(setupConsumer(scene.temporary.at(name)), { code: "CONNECT_NO_SENDER" }, name);
  }
  await scene.assertUnharmed();
});
