/**
 * The sender of handshake.ts: each consumer that comes gets a slot at once, and so do those who are there already.
 * May touch: a sender, and a plain Unix socket for comparison. It ends when the consumer's process says so.
 *
 * @module
 */

import { createServer } from "node:net";
import { setupSender } from "../../mod.ts";
import type { HandshakeTask } from "./handshake_task.ts";
import { answer, taskFromArguments } from "./task.ts";

const task = taskFromArguments<HandshakeTask>();
// The first socket is the rival's, so that it is there when the sender is.
const server = createServer((socket) => {
  socket.on("error", () => {}).on("data", () => answer({})); // the one who is done says so
  socket.write("!");
});
await new Promise<void>((resolve) => void server.listen(task.socketPath, resolve));
let slot = 0n;
const sender = await setupSender({
  path: task.path,
  consumersMax: 2 * task.consumers,
  ringCapacityBytes: 1024 * 1024,
  onConsumer({ type }) {
    if (type === "connected") sender.publishSlot({ slot: ++slot, parent: slot - 1n, status: "processed" });
  },
});
