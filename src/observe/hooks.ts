/**
 * Hooks for who has logs and metrics of his own: a structured log, OpenTelemetry. Silent unless called.
 * May touch: a sender's events; stat pages. May not touch: any library: what is asked for is taken by its shape.
 *
 * @module
 */

import type { Sender } from "../stream/sender.ts";
import type { ConsumerStat, SenderStat } from "../stat/figures.ts";
import { snakeCase } from "./names.ts";

/** One thing that happened, with its values: for `pino`, `console`, or a function of yours. */
export interface LogRecord {
  /** How much it matters. */
  readonly level: "info" | "warn";
  /** What, as one word for machines. */
  readonly event: "consumer_connected" | "consumer_disconnected" | "consumer_refused";
  /** The sender's path. */
  readonly path: string;
  /** The rest. */
  readonly [field: string]: unknown;
}

/**
 * Says what happens at a sender.
 * @param log Gets each record. What it throws is an uncaught error of your process.
 * @returns A function that ends it.
 */
export function logSender(sender: Sender, log: (record: LogRecord) => void): () => void {
  const { path } = sender;
  return sender.onConsumer((event) => {
    if (event.type === "refused") {
      const { pid, uid, protocol, reason } = event;
      return log({ level: "warn", event: "consumer_refused", path, pid, uid, protocol, reason });
    }
    const { id, name, pid, uid, protocol, frames, lost } = event.consumer;
    const facts = { path, id, name, pid, uid, protocol, frames, lost };
    if (event.type === "connected") return log({ level: "info", event: "consumer_connected", ...facts });
    const isQuiet = event.reason === "consumer-closed" || event.reason === "sender-closed";
    log({ level: isQuiet ? "info" : "warn", event: "consumer_disconnected", reason: event.reason, ...facts });
  });
}

/** As much of OpenTelemetry's `Meter` as is used (`@opentelemetry/api` 1.x). */
export interface MeterLike {
  /** A counter that is read when it is exported. */
  createObservableCounter(name: string, options?: { description?: string; unit?: string }): ObservableLike;
  /** A value that is read when it is exported. */
  createObservableGauge(name: string, options?: { description?: string; unit?: string }): ObservableLike;
}

/** As much of its `Observable` as is used. */
export interface ObservableLike {
  /** Asks for a callback. */
  addCallback(callback: (result: ResultLike) => void): void;
  /** Asks for it no longer. */
  removeCallback(callback: (result: ResultLike) => void): void;
}

/** As much of its `ObservableResult` as is used. */
export interface ResultLike {
  /** Notes a value. */
  observe(value: number, attributes?: Record<string, string | number>): void;
}

type Reading = readonly [name: string, unit: string, isCounter: boolean, value: (consumer: ConsumerStat) => number];
const READINGS: readonly Reading[] = [
  ["qlaster.consumer.frames", "{frame}", true, (c) => c.frames],
  ["qlaster.consumer.bytes", "By", true, (c) => c.bytes],
  ["qlaster.consumer.lag", "ms", false, (c) => c.lagMs],
  ["qlaster.consumer.ring.used", "By", false, (c) => c.ring.usedBytes],
  ["qlaster.consumer.latency.p99", "us", false, (c) => c.latency.percentileUs(0.99)],
];

function attributesOf({ id, name }: ConsumerStat): Record<string, string | number> {
  return { "consumer.id": id, "consumer.name": name };
}

/**
 * Gives a sender's figures to OpenTelemetry.
 * @param meter `metrics.getMeter("qlaster")` of `@opentelemetry/api`.
 * @param read Asked when metrics are exported: `() => page.read()` of an open stat page.
 * @returns A function that ends it.
 */
export function observeBy(meter: MeterLike, read: () => SenderStat): () => void {
  const ends: (() => void)[] = [];
  const add = (observable: ObservableLike, callback: (result: ResultLike) => void) => {
    observable.addCallback(callback);
    ends.push(() => observable.removeCallback(callback));
  };
  add(meter.createObservableCounter("qlaster.sender.updates", { unit: "{update}" }), (result) => {
    const stat = read();
    for (const kind of ["account", "transaction", "slot"] as const) result.observe(stat[`${kind}s`], { kind });
  });
  add(meter.createObservableGauge("qlaster.sender.stuck"), (result) => result.observe(read().isStuck ? 1 : 0));
  add(meter.createObservableCounter("qlaster.consumer.lost", { unit: "{update}" }), (result) => {
    for (const consumer of read().consumers) {
      for (const [reason, count] of Object.entries(consumer.losses)) {
        result.observe(count, { ...attributesOf(consumer), reason: snakeCase(reason) });
      }
    }
  });
  for (const [name, unit, isCounter, value] of READINGS) {
    const observable = isCounter
      ? meter.createObservableCounter(name, { unit })
      : meter.createObservableGauge(name, { unit });
    add(observable, (result) => {
      for (const consumer of read().consumers) {
        result.observe(value(consumer), attributesOf(consumer));
      }
    });
  }
  return () => ends.splice(0).forEach((end) => end());
}
