/**
 * The receiving process of peers.ts: opens its inlet and says what it measured.
 * May touch: a Unix socket, its stdin, or zeromq's npm package.
 *
 * @module
 */

import { connect, type Socket } from "node:net";
import process from "node:process";
import { PeerReceiver } from "./peer_receiver.ts";
import type { PeerTask } from "./peer_task.ts";
import { answer, taskFromArguments } from "./task.ts";

const task = taskFromArguments<PeerTask>();
const receiver = new PeerReceiver(task);
switch (task.way) {
  case "socket": {
    const socket = await connected();
    socket.on("data", (bytes) => receiver.receive(bytes as Uint8Array));
    break;
  }
  case "pipe":
    process.stdin.on("data", (bytes: Uint8Array) => receiver.receive(bytes));
    break;
  case "zeromq": {
    const { Pull } = await import("zeromq");
    const pull = new Pull({ receiveHighWaterMark: 1000 });
    pull.connect(`ipc://${task.path}`);
    void (async () => {
      for await (const [bytes] of pull) receiver.receive(bytes!);
    })();
    break;
  }
}
answer(await receiver.whenDone);

/** The other process may not be listening yet. */
async function connected(): Promise<Socket> {
  while (true) {
    const socket = connect(task.path);
    const isOpen = await new Promise<boolean>((resolve) => {
      socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    });
    if (isOpen) return socket;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
