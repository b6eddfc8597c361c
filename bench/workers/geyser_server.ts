/**
 * A Geyser server that sends the same accounts again and again, as fast as its client takes them. Encoded once, by
 * protobufjs: what it costs per update is next to nothing.
 * May touch: its socket.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import * as http2 from "node:http2";
import { setImmediate } from "node:timers";
import { encodeUpdate, frame } from "../../tests/support/geyser/protocol.ts";
import type { GeyserServerTask } from "./geyser_task.ts";
import { answer, taskFromArguments } from "./task.ts";

const task = taskFromArguments<GeyserServerTask>();
const BLOCK_BYTES = 64 * 1024;
const BLOCKS_PER_TURN = 16;

const blocks: Buffer[] = [];
let frames: Buffer[] = [];
for (let i = 0, bytes = 0; blocks.length < 32; i++) {
  const message = frame(encodeUpdate({
    filters: ["keys0"],
    account: {
      account: {
        pubkey: Buffer.alloc(32, `key ${i}`),
        owner: Buffer.alloc(32, 7),
        lamports: "2039280",
        rentEpoch: (2n ** 64n - 1n).toString(),
        data: Buffer.alloc(task.dataBytes, i),
        writeVersion: (3_000_000_000n + BigInt(i)).toString(),
        txnSignature: Buffer.alloc(64, `signature ${i}`),
      },
      slot: "447552001",
    },
    createdAt: { seconds: 1_790_000_000, nanos: 123_456_789 },
  }));
  frames.push(message);
  bytes += message.length;
  if (bytes < BLOCK_BYTES) continue;
  blocks.push(Buffer.concat(frames));
  frames = [];
  bytes = 0;
}

let streams = 0;
const server = http2.createServer();
server.on("session", (session) => void session.on("error", () => {}));
server.on("stream", (stream: http2.ServerHttp2Stream) => {
  let isOpen = true;
  stream.on("error", () => {});
  stream.on("close", () => {
    isOpen = false;
    if (++streams === task.streams) answer({});
  });
  stream.resume();
  stream.respond({ ":status": 200, "content-type": "application/grpc" });
  let next = 0;
  const write = () => {
    // In turns: Bun says that there is room on a stream whose peer has gone, until it can tell of the end.
    for (let i = 0; i < BLOCKS_PER_TURN && isOpen; i++) if (!stream.write(blocks[next++ % blocks.length]!)) return;
    if (isOpen) setImmediate(write);
  };
  stream.on("drain", write);
  write();
});
server.listen(task.port, "127.0.0.1");
