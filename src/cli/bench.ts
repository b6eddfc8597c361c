/**
 * `qlaster bench`: what this machine does, in a few seconds: publishing, reading, and from publish to read.
 * May touch: a sender and a consumer of its own, stdout. The thorough benches are `./dev bench` in a checkout.
 *
 * @module
 */

import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { openStat } from "../stat/page.ts";
import { setupConsumer } from "../stream/consumer.ts";
import { setupSender } from "../stream/sender.ts";
import { bar, duration, short, table } from "./text.ts";

const BATCH = 256;

/** Runs them for that long each, and prints a table and a plot. @param signal Ends it, with nothing said. */
export async function bench(
  ms: number,
  signal: AbortSignal,
  sizes: readonly number[] = [165, 1024, 10_240],
): Promise<void> {
  const path = join(tmpdir(), `qlaster-bench-${process.pid}.sock`);
  await using sender = await setupSender({ path, ringCapacityBytes: 16 << 20 });
  await using consumer = await setupConsumer(path, { name: "bench" });
  const owner = new Uint8Array(32).fill(2);
  await consumer.subscribe({ owners: [owner] });
  const rows: string[][] = [];
  const rates: number[] = [];
  let slot = 1n;
  for (const size of sizes) {
    const update = {
      pubkey: new Uint8Array(32).fill(1),
      owner,
      lamports: 1n,
      data: new Uint8Array(size),
      slot: slot++,
    };
    let [published, read, publishMs, readMs] = [0, 0, 0, 0];
    const deadline = performance.now() + ms;
    do { // once at least, however busy the machine is
      const started = performance.now();
      for (let i = 0; i < BATCH; i++) published += sender.publishAccount(update);
      const middle = performance.now();
      publishMs += middle - started;
      while (read < published) read += consumer.poll(() => {}, BATCH);
      readMs += performance.now() - middle;
      await new Promise<void>((resolve) => setTimeout(resolve, 0));
    } while (performance.now() < deadline && !signal.aborted);
    if (signal.aborted) return;
    const rate = published / (publishMs + readMs) * 1000;
    rates.push(rate);
    const ns = (total: number) => duration(total / published * 1000);
    rows.push([`${size} B`, ns(publishMs), ns(readMs), `${short(rate)}/s`, `${short(rate * size)}B/s`]);
  }
  process.stdout.write(`${table(["data", "publish", "read", "both", "payload"], rows).join("\n")}\n\n`);
  const most = Math.max(...rates);
  rows.forEach((row, i) => process.stdout.write(`${row[0]!.padStart(8)} ${bar(rates[i]! / most, 40)} ${row[3]}\n`));
  await latency(path, sender, consumer, ms, signal);
}

async function latency(
  path: string,
  sender: Awaited<ReturnType<typeof setupSender>>,
  consumer: Awaited<ReturnType<typeof setupConsumer>>,
  ms: number,
  signal: AbortSignal,
): Promise<void> {
  if (process.platform !== "linux") return;
  using page = openStat(path);
  const seen = () => page.read().consumers[0]?.latency;
  await new Promise((resolve) => setTimeout(resolve, 1100)); // the sender shows consumers' words once a second
  const before = seen();
  const deadline = performance.now() + ms;
  for (let slot = 10n, read = 0; (read === 0 || performance.now() < deadline) && !signal.aborted; slot++) {
    const next = consumer.next(1000);
    await new Promise((resolve) => setTimeout(resolve, 1));
    sender.publishSlot({ slot, parent: slot - 1n, status: "processed" });
    if (await next !== undefined) read++;
  }
  if (signal.aborted) return;
  await new Promise((resolve) => setTimeout(resolve, 1100));
  const after = seen();
  if (before === undefined || after === undefined) return;
  const histogram = after.since(before);
  const [p50, p99] = [0.5, 0.99].map((share) => duration(histogram.percentileUs(share)));
  process.stdout.write(`\npublish to read, parked, one process: p50 ${p50}, p99 ${p99} of ${histogram.count}\n`);
}
