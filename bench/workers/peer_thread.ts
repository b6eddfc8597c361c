/**
 * The process of peers.ts with two threads: the main one posts to a Worker, which receives.
 * May touch: a Worker. Messages are copied, as structured clone does it; the Worker acknowledges every so many, because
 * `postMessage` has no backpressure of its own.
 *
 * @module
 */

import { once } from "node:events";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { PeerReceiver } from "./peer_receiver.ts";
import { sendAll } from "./peer_sender.ts";
import type { PeerTask } from "./peer_task.ts";
import { answer, taskFromArguments } from "./task.ts";

/** Messages that may be on their way. */
const WINDOW = 256;

if (isMainThread) await post(taskFromArguments<PeerTask>());
else receive(workerData as PeerTask);

async function post(task: PeerTask): Promise<void> {
  const worker = new Worker(new URL(import.meta.url), { workerData: task });
  let sent = 0;
  let acknowledged = 0;
  let goOn = () => {};
  const result = new Promise<object>((resolve, reject) => {
    worker.on("message", (message: object | number) => {
      if (typeof message === "object") return resolve(message);
      acknowledged = message;
      goOn();
    });
    worker.on("error", reject);
  });
  await once(worker, "online");
  await sendAll({
    chunkBytes: 0,
    send(bytes) {
      worker.postMessage(bytes);
      if (++sent - acknowledged < 2 * WINDOW) return undefined;
      return new Promise<void>((resolve) => goOn = resolve);
    },
  }, task);
  answer(await result);
}

function receive(task: PeerTask): void {
  const receiver = new PeerReceiver(task);
  let received = 0;
  parentPort!.on("message", (bytes: Uint8Array) => {
    receiver.receive(bytes);
    if (++received % WINDOW === 0) parentPort!.postMessage(received);
  });
  void receiver.whenDone.then((result) => parentPort!.postMessage(result));
}
