/**
 * Consumers come, read for a moment and are killed with -9, over and over, in both runtimes, while the sender publishes.
 * At the end the sender must hold what it held at the start.
 *
 * @module
 */

import { join } from "node:path";
import { Child, footprint, RUNTIMES } from "./processes.ts";

const CONSUMERS = 4;

export async function churn(directory: string, minutes: number): Promise<string | undefined> {
  for (const senderRuntime of Object.keys(RUNTIMES)) {
    const seconds = (minutes * 60) / Object.keys(RUNTIMES).length;
    const path = join(directory, `churn-${senderRuntime}.sock`);
    const sender = new Child(senderRuntime, "sender", path, String(seconds + 5));
    await sender.next();
    await killOneRound(path); // what the first consumers make a runtime allocate for good
    const before = await settle(sender.process.pid!, 0);
    const deadline = performance.now() + seconds * 1000;
    let killed = 0;
    while (performance.now() < deadline) killed += await killOneRound(path);
    const after = await settle(sender.process.pid!, before.descriptors);
    const sent = await sender.next();
    console.log(
      `${senderRuntime} sender: ${killed} consumers killed; before ${JSON.stringify(before)}, after ${
        JSON.stringify(after)
      }`,
    );
    console.log(`  ${JSON.stringify(sent)}`);
    if (await sender.exit !== 0) return `the ${senderRuntime} sender failed`;
    // The pool is one region, from the beginning. Threads are only shown: the library starts none, and the runtimes' own come and go.
    if (after.descriptors > before.descriptors || after.regions > before.regions) {
      return `the ${senderRuntime} sender kept something`;
    }
  }
  return undefined;
}

/** Starts consumers, lets them read, kills them. Returns how many there were. */
async function killOneRound(path: string): Promise<number> {
  const children = Array.from(
    { length: CONSUMERS },
    (_, i) => new Child(Object.keys(RUNTIMES)[i % 2]!, "consumer", path),
  );
  for (const child of children) await child.next();
  for (const child of children) child.process.kill("SIGKILL");
  for (const child of children) await child.exit;
  return children.length;
}

/** Waits until no region and no more descriptors are left: the runtimes close theirs a little later than we ours. */
async function settle(pid: number, descriptors: number): Promise<ReturnType<typeof footprint>> {
  const deadline = performance.now() + 2000;
  const isSettled = ({ regions, descriptors: now }: ReturnType<typeof footprint>) =>
    regions === 0 && now <= descriptors;
  while (!isSettled(footprint(pid)) && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return footprint(pid);
}
