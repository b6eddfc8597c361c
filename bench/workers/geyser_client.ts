/**
 * One way to take a Geyser stream, timed: how many updates pass in a second, and in a second of processor time.
 * May touch: the library, `@grpc/grpc-js`.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { connect as connectSocket } from "node:net";
import process from "node:process";
import { addressFromBytes, type Consumer, type Sender, setupConsumer, setupSender, type Update } from "../../mod.ts";
import { yellowstone } from "../../src/sources/yellowstone.ts";
import { decodeUpdate, encodeRequest } from "../../tests/support/geyser/protocol.ts";
import type { GeyserClientResult, GeyserClientTask } from "./geyser_task.ts";
import { answer, taskFromArguments } from "./task.ts";

const task = taskFromArguments<GeyserClientTask>();
const endpoint = `http://127.0.0.1:${task.port}`;
const OWNER = new Uint8Array(32).fill(7);
/** Enough for a consumer that keeps up: memory that is written for the first time is another question. */
const RING_BYTES = 4 << 20;
const BATCH_MAX = 2048;
/** Updates after which the ring is read: so many that measuring it apart costs nothing. */
const UNREAD = 4096;
/** Not counted: what is compiled, and windows that grow. */
const WARM_UP = Math.ceil(task.updates / 4);

/** Notes how far a run is. */
class Clock {
  count = 0;
  #started = 0;
  #cpu = process.cpuUsage();
  wall = 0;
  cpu = 0;
  #apart = 0;

  /** Does something whose processor time is not counted. */
  apart<T>(work: () => T): T {
    const before = process.cpuUsage();
    const result = work();
    const { user, system } = process.cpuUsage(before);
    this.#apart += user + system;
    return result;
  }

  /** @returns Whether the run is over. */
  add(count: number): boolean {
    const before = this.count;
    this.count += count;
    if (before < WARM_UP && this.count >= WARM_UP) {
      this.count = WARM_UP;
      this.#started = performance.now();
      this.#cpu = process.cpuUsage();
      this.#apart = 0;
    }
    if (this.count < WARM_UP + task.updates) return false;
    const { user, system } = process.cpuUsage(this.#cpu);
    const counted = this.count - WARM_UP;
    this.wall = counted / ((performance.now() - this.#started) / 1e3);
    this.cpu = counted / ((user + system - this.#apart) / 1e6);
    return true;
  }
}

/** Reads everything that has come into the ring; the last byte of each update is looked at. */
function drain(consumer: Consumer): number {
  let sum = 0;
  let count = 0;
  for (let batch = -1; batch !== 0;) {
    batch = consumer.poll((update) => {
      if (update.kind === "account") sum += update.data.at(-1)!;
    });
    count += batch;
  }
  if (sum < 0) throw new Error("no such bytes");
  return count;
}

const demand = { owners: new Set([addressFromBytes(OWNER)]) };

async function source(): Promise<Clock> {
  const clock = new Clock();
  await using source = yellowstone({ endpoint, demand });
  for await (const batch of source) if (clock.add(batch.length)) break;
  return clock;
}

async function sourceToRing(sender: Sender, consumer: Consumer): Promise<Clock> {
  const clock = new Clock();
  const source = yellowstone({ endpoint, demand });
  let unread = 0;
  await sender.feed((async function* () {
    for await (const batch of source) {
      // What has come while this process was not running may be more than the ring holds.
      for (let i = 0; i < batch.length; i += BATCH_MAX) {
        const part = batch.length <= BATCH_MAX ? batch : batch.slice(i, i + BATCH_MAX);
        yield part;
        unread += part.length;
        if (unread < UNREAD) continue;
        unread = 0;
        if (clock.add(clock.apart(() => drain(consumer)))) return;
      }
    }
  })());
  source.close();
  return clock;
}

async function grpcJs(onMessage: (message: Buffer, clock: Clock) => number): Promise<Clock> {
  const grpc = await import("@grpc/grpc-js");
  const same = (bytes: Buffer) => bytes;
  const type = grpc.makeGenericClientConstructor({
    subscribe: {
      path: "/geyser.Geyser/Subscribe",
      requestStream: true,
      responseStream: true,
      requestSerialize: same,
      requestDeserialize: same,
      responseSerialize: same,
      responseDeserialize: same,
    },
  }, "Geyser");
  const client = new type(`127.0.0.1:${task.port}`, grpc.credentials.createInsecure(), {
    "grpc-node.flow_control_window": 8 << 20,
  }) as unknown as { subscribe(): import("@grpc/grpc-js").ClientDuplexStream<Buffer, Buffer>; close(): void };
  const call = client.subscribe();
  const clock = new Clock();
  await new Promise<void>((resolve, reject) => {
    let isOver = false;
    call.on("data", (message: Buffer) => {
      if (isOver || !clock.add(onMessage(message, clock))) return;
      isOver = true;
      call.cancel();
      resolve();
    });
    call.on("error", (error) => isOver ? resolve() : reject(error));
    call.write(Buffer.from(encodeRequest({ accounts: { owners0: { owner: [] } } })));
  });
  client.close();
  return clock;
}

/** As an application that uses protobufjs would write it. */
function toUpdate(message: Buffer): Update {
  const { account, createdAt } = decodeUpdate(message);
  const info = account!.account!;
  return {
    kind: "account",
    pubkey: info.pubkey,
    owner: info.owner,
    lamports: BigInt(info.lamports.toString()),
    data: info.data,
    slot: BigInt(account!.slot.toString()),
    writeVersion: BigInt(info.writeVersion.toString()),
    signature: info.txnSignature,
    sourceNs: BigInt(createdAt.seconds.toString()) * 1_000_000_000n + BigInt(createdAt.nanos),
  };
}

/** A sender with one consumer, which wants it all. */
async function withRing(run: (sender: Sender, consumer: Consumer) => Promise<Clock>): Promise<Clock> {
  await using sender = await setupSender({ path: task.path, ringCapacityBytes: RING_BYTES });
  await using consumer = await setupConsumer(task.path, { idle: "park" });
  await consumer.subscribe({ owners: [OWNER] });
  return await run(sender, consumer);
}

function grpcJsToRing(): Promise<Clock> {
  return withRing((sender, consumer) => {
    let batch: Update[] = [];
    let unread = 0;
    return grpcJs((message, clock) => {
      batch.push(toUpdate(message));
      if (batch.length < 64) return 0;
      sender.publishBatch(batch);
      batch = [];
      unread += 64;
      if (unread < UNREAD) return 0;
      unread = 0;
      return clock.apart(() => drain(consumer));
    });
  });
}

const CLIENTS: Record<GeyserClientTask["client"], () => Promise<Clock>> = {
  "source": source,
  "source to ring": () => withRing(sourceToRing),
  "grpc-js raw": () => grpcJs(() => 1),
  "grpc-js decoded": () =>
    grpcJs((message) => {
      if (decodeUpdate(message).account!.account!.data.length === 0) throw new Error("an account without data");
      return 1;
    }),
  "grpc-js to ring": grpcJsToRing,
};

/** The server may still be starting. */
async function untilListening(): Promise<void> {
  for (;;) {
    const isThere = await new Promise<boolean>((resolve) => {
      const socket = connectSocket(task.port, "127.0.0.1", () => resolve(true)).once("error", () => resolve(false));
      socket.once("connect", () => socket.destroy());
    });
    if (isThere) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

await untilListening();
const wall: number[] = [];
const cpu: number[] = [];
for (let i = 0; i < task.runs; i++) {
  const clock = await CLIENTS[task.client]();
  wall.push(clock.wall);
  cpu.push(clock.cpu);
}
answer({ wall, cpu } satisfies GeyserClientResult);
