/**
 * The program of a Worker without a listener: publishes more than fits, and ends when it has.
 * May touch: the library as a user would; what it was started with.
 */

import { parentPort, workerData } from "node:worker_threads";
import { attachPublisher } from "../../../mod.ts";

const publisher = await attachPublisher(workerData);
for (let ordinal = 1; ordinal <= 1_000; ordinal++) {
  const data = new Uint8Array(8 + ordinal % 100);
  new Uint32Array(data.buffer, 0, 2).set([0, ordinal]);
  const account = { pubkey: data32(1), owner: data32(7), lamports: 1n, data, slot: 1n };
  while (publisher.publishAccount(account) === -1) {
    parentPort!.postMessage("staged"); // the ring is full: somebody may begin to read
    await publisher.drained();
  }
}

function data32(byte: number): Uint8Array {
  return new Uint8Array(32).fill(byte);
}
