/**
 * All four pairs of runtimes: a sender as fast as its consumers, two consumers, every update checked.
 *
 * @module
 */

import { join } from "node:path";
import { Child, RUNTIMES } from "./processes.ts";

export async function streams(directory: string, minutes: number): Promise<string | undefined> {
  const seconds = (minutes * 60) / Object.keys(RUNTIMES).length;
  for (const senderRuntime of Object.keys(RUNTIMES)) {
    const path = join(directory, `streams-${senderRuntime}.sock`);
    const sender = new Child(senderRuntime, "sender", path, String(seconds));
    await sender.next();
    const consumers = Object.keys(RUNTIMES).map((runtime) => [runtime, new Child(runtime, "consumer", path)] as const);
    for (const [runtime, consumer] of consumers) {
      if ((await consumer.next())?.["ready"] !== true) return `the ${runtime} consumer did not start`;
    }
    const sent = await sender.next();
    for (const [runtime, consumer] of consumers) {
      const received = await consumer.next();
      console.log(`${senderRuntime} -> ${runtime}: ${JSON.stringify(received)} of ${sent?.["published"]}`);
      if (await consumer.exit !== 0) return `the ${runtime} consumer failed`;
      if (received?.["last"] !== sent?.["published"] || received?.["lost"] !== 0) {
        return `the ${runtime} consumer missed some`;
      }
    }
    if (await sender.exit !== 0) return `the ${senderRuntime} sender failed`;
  }
  return undefined;
}
