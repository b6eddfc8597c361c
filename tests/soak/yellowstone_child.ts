/**
 * The processes of the Yellowstone run: `server RATE`, `sender PATH PORT SECONDS`, `consumer PATH`.
 * May touch: the library; stdout, one JSON line when it has something to say.
 * Every account update carries its number, so that a consumer sees what is missing.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import * as http2 from "node:http2";
import process from "node:process";
import { addressFromBytes, setupConsumer, setupSender } from "../../mod.ts";
import { yellowstone } from "../../src/sources/yellowstone.ts";
import { encodeUpdate, frame } from "../support/geyser/protocol.ts";

const [role, ...args] = process.argv.slice(2);
const OWNER = new Uint8Array(32).fill(7);
const DATA_BYTES = 165;
const TICK_MS = 5;
const SLOT_MS = 400;
/** Room in each ring for what comes while a consumer's process is not running. */
const RING_BYTES = 16 << 20;
/** In the template, where the number goes: eight bytes that occur nowhere else. */
const MARK = Buffer.from("5afe5afe1234beef", "hex");

function say(message: unknown): void {
  const plain = (_: string, value: unknown) => typeof value === "bigint" ? Number(value) : value;
  process.stdout.write(`${JSON.stringify(message, plain)}\n`);
}

/** Sends so many updates a second, and a slot each 400 ms, to whoever subscribes; what it owes, it makes up for. */
function serve(rate: number): void {
  const template = frame(encodeUpdate({
    filters: ["owners0"],
    account: {
      account: {
        pubkey: Buffer.alloc(32, 9),
        owner: OWNER,
        lamports: "2039280",
        rentEpoch: (2n ** 64n - 1n).toString(),
        data: Buffer.concat([MARK, Buffer.alloc(DATA_BYTES - 8, 3)]),
        writeVersion: "3000000000",
        txnSignature: Buffer.concat([MARK, Buffer.alloc(56, 4)]),
      },
      slot: "447552001",
    },
    createdAt: { seconds: 1_790_000_000, nanos: 123_456_789 },
  }));
  const places = [template.indexOf(MARK), template.lastIndexOf(MARK)];
  const server = http2.createServer();
  server.on("stream", (stream: http2.ServerHttp2Stream) => {
    stream.on("error", () => {});
    stream.resume();
    stream.respond({ ":status": 200, "content-type": "application/grpc" });
    const started = performance.now();
    let sent = 0;
    let slots = 0;
    const timer = setInterval(() => {
      const elapsed = performance.now() - started;
      // Flow control may have stopped us: then the source is slower than the rate, and the count says so.
      while (sent < (elapsed / 1000) * rate && stream.writableLength < 4 << 20) {
        const count = 100;
        const block = Buffer.alloc(template.length * count);
        for (let i = 0; i < count; i++) {
          template.copy(block, i * template.length);
          sent++;
          for (const place of places) block.writeDoubleLE(sent, i * template.length + place);
        }
        stream.write(block);
      }
      for (; slots < elapsed / SLOT_MS; slots++) {
        const slot = 447_552_001 + slots;
        stream.write(
          frame(
            encodeUpdate({ filters: ["slots"], slot: { slot: String(slot), parent: String(slot - 1), status: 0 } }),
          ),
        );
      }
    }, TICK_MS);
    stream.on("close", () => {
      clearInterval(timer);
      say({ sent });
    });
  });
  server.listen(0, "127.0.0.1", () => say({ port: (server.address() as { port: number }).port }));
}

async function send(path: string, port: number, seconds: number): Promise<void> {
  await using sender = await setupSender({ path, ringCapacityBytes: RING_BYTES });
  say({ ready: true });
  while (sender.consumers().filter(({ owners }) => owners === 1).length < 5) {
    await new Promise((r) => setTimeout(r, 20));
  }
  const events: string[] = [];
  const source = yellowstone({
    endpoint: `http://127.0.0.1:${port}`,
    demand: { owners: new Set([addressFromBytes(OWNER)]) },
    onEvent: (event) => events.push(event.type),
  });
  setTimeout(() => source.close(), seconds * 1000);
  await sender.feed(source);
  const { accounts, slots, pauses, connections, lagMs } = source.metrics;
  say({ accounts, slots, pauses, connections, lagMs, events, lost: sender.metrics.lost });
}

async function consume(path: string): Promise<void> {
  const consumer = await setupConsumer(path, { idle: "park", policy: "drop-newest", reconnect: false });
  await consumer.subscribe({ owners: [OWNER] });
  let count = 0;
  let last = 0;
  let missing = 0;
  let lost = 0;
  let wrong = 0;
  for await (const batch of consumer.batches()) {
    for (const update of batch) {
      if ("lost" in update) lost += update.lost;
      if (update.kind !== "account") continue;
      const { data } = update;
      const number = new DataView(data.buffer as ArrayBuffer, data.byteOffset).getFloat64(0, true);
      count++;
      missing += number - last - 1;
      last = number;
      if (data.length !== DATA_BYTES || data.at(-1) !== 3) wrong++;
    }
  }
  say({ count, missing, lost, wrong });
}

if (role === "server") serve(Number(args[0]));
else if (role === "sender") await send(args[0]!, Number(args[1]), Number(args[2]));
else await consume(args[0]!);
