/**
 * A consumer that goes on over several connections, and what it says of them: used by all of consumer_reconnect*_test.ts.
 * May touch: the public API.
 *
 * @module
 */

import assert from "node:assert/strict";
import {
  type ConnectionEvent,
  type Consumer,
  type ConsumerOptions,
  load,
  type LostEvent,
  type ResumedEvent,
  type Sender,
  type UpdateView,
} from "../../../mod.ts";
import type { Native } from "../../../src/native/native.ts";
import type { Place } from "./place.ts";
import { until, within } from "./watchdog.ts";

export const native = await load() as Native;
export const QUICK = { minMs: 1, maxMs: 5 };

/** A consumer that goes on, and what it says. */
export async function opened(
  place: Place,
  options: ConsumerOptions = {},
): Promise<{ consumer: Consumer; events: ConnectionEvent[] }> {
  const events: ConnectionEvent[] = [];
  const onConnection = (event: ConnectionEvent) => void events.push(event);
  return { consumer: await place.consumer({ reconnect: QUICK, onConnection, ...options }), events };
}

export const typesOf = (events: readonly ConnectionEvent[]) =>
  events.map(({ type }) => type).filter((type, i, all) => type !== "failed" || all[i - 1] !== "failed");

export async function next(consumer: Consumer): Promise<UpdateView> {
  const update = await within(consumer.next(), "an update");
  assert.ok(update !== undefined);
  return update;
}

export async function nextLost(consumer: Consumer): Promise<LostEvent> {
  const update = await next(consumer);
  assert.ok(update.kind === "connection" && update.event.type === "lost", update.kind);
  return update.event;
}

export async function nextResumed(consumer: Consumer): Promise<ResumedEvent> {
  const update = await next(consumer);
  assert.ok(update.kind === "connection" && update.event.type === "resumed", update.kind);
  return update.event;
}

/** A new sender at the same path, that knows the consumer. */
export async function restart(place: Place, before: Sender | undefined): Promise<Sender> {
  await before?.close();
  const sender = await place.sender();
  await until(() => sender.metrics.consumers === 1, "the consumer at the new sender");
  return sender;
}
