/**
 * The programs that the tests take on the journey, as text: a user's application, which imports the package by whatever
 * specifier it has there. Plain JavaScript, so that one text is a .ts, a .js and a bundle's input.
 */

/**
 * Streams one slot through shared memory to itself, prints what came, and stays until its input ends.
 * The socket is in the working directory, which is the only place that it may write to.
 */
export function application(specifier: string): string {
  return `
import { setupConsumer, setupSender } from "${specifier}";
import process from "node:process";

const sender = await setupSender({ path: "application.sock", ringCapacityBytes: 65536 });
const consumer = await setupConsumer("application.sock");
sender.publishSlot({ slot: 7n, parent: 6n, status: "finalized" });
const update = await consumer.next();
console.log(JSON.stringify({
  runtime: process.versions.bun === undefined ? "deno" : "bun",
  slot: Number(update.slot),
}));
process.stdin.once("end", async () => {
  await consumer.close();
  await sender.close();
}).resume();
`;
}

/** Starts two Workers at once, each of which loads the library and makes a handle; prints who could close whose. */
export function applicationWithWorkers(): string {
  return `
import process from "node:process";

const workers = ["a", "b"].map(() => new Worker(new URL("./worker.ts", import.meta.url), { type: "module" }));
const ask = (worker, message) => new Promise((resolve, reject) => {
  worker.onmessage = (event) => resolve(event.data);
  worker.onerror = (event) => reject(new Error(event.message));
  worker.postMessage(message);
});
const handles = await Promise.all(workers.map((worker, i) => ask(worker, { listen: "worker" + i + ".sock" })));
const closed = await ask(workers[0], { close: handles[1] });
console.log(JSON.stringify({ runtime: process.versions.bun === undefined ? "deno" : "bun", handles, closed }));
process.stdin.once("end", () => process.exit(0)).resume();
`;
}

export function worker(specifier: string): string {
  return `
import { load } from "${specifier}";

self.onmessage = async ({ data }) => {
  const native = await load();
  const path = new TextEncoder().encode(data.listen ?? "");
  self.postMessage(data.listen === undefined ? native.close(data.close) : native.listen(path, path.length, 0));
};
`;
}
