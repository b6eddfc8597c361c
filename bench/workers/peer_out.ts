/**
 * The sending process of peers.ts: opens its outlet and sends all.
 * May touch: a Unix socket, its stdout, or zeromq's npm package.
 *
 * @module
 */

import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import process from "node:process";
import type { Writable } from "node:stream";
import { type Outlet, sendAll } from "./peer_sender.ts";
import type { PeerTask } from "./peer_task.ts";
import { answer, taskFromArguments } from "./task.ts";

const CHUNK_BYTES = 64 * 1024;

const task = taskFromArguments<PeerTask>();
switch (task.way) {
  case "socket": {
    const server = createServer().listen(task.path);
    const [socket] = await once(server, "connection") as [Socket];
    await sendAll(outletOf(socket), task);
    await once(socket.resume(), "close");
    answer({});
    break;
  }
  case "pipe": // stdout is the pipe: there is nothing else to say
    await sendAll(outletOf(process.stdout), task);
    break;
  case "zeromq": {
    const { Push } = await import("zeromq");
    const push = new Push({ sendHighWaterMark: 1000 });
    await push.bind(`ipc://${task.path}`);
    await sendAll({ chunkBytes: 0, send: (bytes) => push.send(bytes) }, task);
    // Ending would throw away what is on its way: it is ended when the other process has all.
    setInterval(() => {}, 1000);
    break;
  }
}

function outletOf(stream: Writable): Outlet {
  return {
    chunkBytes: CHUNK_BYTES,
    send: (bytes) => stream.write(bytes) ? undefined : once(stream, "drain"),
  };
}
