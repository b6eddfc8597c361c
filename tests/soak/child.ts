/**
 * A child process of the long runs: `child.ts sender PATH SECONDS` or `child.ts consumer PATH`.
 * May touch: the library; stdout, one JSON line when it has something to say.
 *
 * @module
 */

import process from "node:process";
import { setImmediate } from "node:timers";
import { setupConsumer, setupSender } from "../../mod.ts";

const [role, path, seconds] = process.argv.slice(2) as [string, string, string | undefined];
const OWNER = new Uint8Array(32).fill(7);
const KEY = new Uint8Array(32).fill(9);
/** Updates between two turns of the event loop, and the most that may wait unread in a ring. */
const BURST = 200;
const DATA_MAX = 2000;
/** Half of what one consumer may hold of the sender's pool by default. */
const POOL_ROOM = 32 * 1024 * 1024;

function say(message: unknown): void {
  const plain = (_: string, value: unknown) => typeof value === "bigint" ? Number(value) : value;
  process.stdout.write(`${JSON.stringify(message, plain)}\n`);
}

function turn(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}

/** Publishes as fast as the slowest consumer's ring allows, until the time is over. */
async function send(): Promise<void> {
  const ended: Record<string, number> = {};
  const sender = await setupSender({
    path,
    ringCapacityBytes: 4 * 1024 * 1024,
    onConsumer: (event) => {
      if (event.type === "disconnected") ended[event.reason] = (ended[event.reason] ?? 0) + 1;
    },
  });
  say({ ready: true });
  const data = new Uint8Array(DATA_MAX);
  const deadline = performance.now() + Number(seconds) * 1000;
  let count = 0n;
  while (performance.now() < deadline) {
    await turn();
    // Room for a burst in every ring: this run is about correctness, not about who gives up first.
    if (
      sender.consumers().some(({ ring, poolBytes }) => ring.usedBytes > ring.capacityBytes / 2 || poolBytes > POOL_ROOM)
    ) continue;
    for (let i = 0; i < BURST; i++) {
      count++;
      const length = Number((count * 7919n) % BigInt(DATA_MAX));
      data.fill(Number(count & 255n), 0, length);
      sender.publishAccount({
        pubkey: KEY,
        owner: OWNER,
        lamports: count,
        data: data.subarray(0, length),
        slot: count / 1000n,
      });
    }
  }
  await sender.close();
  say({ published: Number(count), ended, metrics: sender.metrics });
}

/** Checks every update; says how many there were. */
async function receive(): Promise<void> {
  const consumer = await setupConsumer(path, { reconnect: false });
  await consumer.subscribe({ owners: [OWNER] });
  say({ ready: true });
  let expected = 0n;
  let count = 0;
  for await (const update of consumer) {
    if (update.kind !== "account") continue;
    const { lamports, dataLength } = update;
    if (expected !== 0n && lamports !== expected) throw new Error(`update ${lamports} came instead of ${expected}`);
    if (dataLength !== Number((lamports * 7919n) % BigInt(DATA_MAX))) {
      throw new Error(`update ${lamports} has ${dataLength} bytes`);
    }
    const byte = Number(lamports & 255n);
    if (!update.data.every((value) => value === byte)) throw new Error(`update ${lamports} has wrong bytes`);
    expected = lamports + 1n;
    count++;
  }
  say({ received: count, last: Number(expected - 1n), lost: consumer.metrics.lost, ended: consumer.ended });
}

await (role === "sender" ? send() : receive());
