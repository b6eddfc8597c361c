/**
 * A sender of ours that a raw consumer of wire version 9 talks to, and what both are made of: used by all of sender_*_test.ts.
 * May touch: the library as a user would, a raw peer. Linux only.
 *
 * @module
 */

import assert from "node:assert/strict";
import process from "node:process";
import {
  type AccountUpdate,
  type ConsumerEvent,
  type Sender,
  type SenderOptions,
  setupSender,
  type SubscriptionEvent,
} from "../../../mod.ts";
import { eventually } from "../../support/footprint.ts";
import type { Held } from "../../support/guarded.ts";
import { RawV9Consumer, type RawV9Slot, timeless } from "../../support/raw_v9.ts";
import { Temporary } from "../../support/temporary.ts";

export const SKIP = process.platform === "linux" ? {} : { skip: "a raw peer of version 9 needs Linux" };
export const CAPACITY = 65536;
export const key = (byte: number) => new Uint8Array(32).fill(byte);

/** A sender, and what it told the application. */
export class Scene {
  readonly path: string;
  readonly sender: Sender;
  readonly temporary: Temporary;
  readonly events: ConsumerEvent[] = [];
  readonly subscriptions: SubscriptionEvent[] = [];
  readonly #held: Held;

  private constructor(held: Held, temporary: Temporary, sender: Sender) {
    this.#held = held;
    this.temporary = temporary;
    this.path = sender.path;
    this.sender = sender;
    sender.onConsumer((event) => void this.events.push(event));
    sender.onSubscription((event) => void this.subscriptions.push(event));
  }

  static async open(held: Held, options: Partial<SenderOptions> = {}): Promise<Scene> {
    const temporary = held.use(new Temporary());
    const path = temporary.at("s.sock");
    const sender = await setupSender({ path, ringCapacityBytes: CAPACITY, handshakeTimeoutMs: 20_000, ...options });
    return new Scene(held, temporary, held.use(sender));
  }

  connect(): RawV9Consumer {
    return this.#held.use(new RawV9Consumer(this.path));
  }

  async slot(request?: Uint8Array): Promise<{ consumer: RawV9Consumer; slot: RawV9Slot }> {
    const consumer = this.connect();
    return { consumer, slot: await consumer.open(request) };
  }

  /** Reasons of ends so far. */
  get ends(): string[] {
    return this.events.flatMap((event) => event.type === "disconnected" ? [event.reason] : []);
  }

  /** What it said of those whom it refused: protocol and reason. */
  get refusals(): string[] {
    return this.events.flatMap((event) => event.type === "refused" ? [`${event.protocol}: ${event.reason}`] : []);
  }

  /** Waits for the next refusals, each of which has to look like that. */
  async refuses(...patterns: RegExp[]): Promise<void> {
    await eventually(() => `${patterns.length} refusals, there are ${this.refusals}`, () => {
      return this.refusals.length >= patterns.length;
    });
    const refusals = this.refusals;
    assert.equal(refusals.length, patterns.length, refusals.join("\n"));
    patterns.forEach((pattern, i) => assert.match(refusals[i]!, pattern));
    assert.equal(this.sender.metrics.refused, patterns.length);
    for (const event of this.events) {
      if (event.type === "refused") assert.equal(event.pid > 0 && event.uid >= 0, true);
    }
  }

  async ended(count: number): Promise<void> {
    await eventually(() => `${count} ends, there are ${this.ends}`, () => this.ends.length >= count);
    assert.equal(this.ends.length, count);
  }
}

export function account(fields: Partial<AccountUpdate> = {}): AccountUpdate {
  return { kind: "account", pubkey: key(1), owner: key(2), lamports: 5n, data: new Uint8Array(0), slot: 7n, ...fields };
}

/** Data with which an account's frame takes so many bytes of a ring. */
export const dataFor = (frameBytes: number) => new Uint8Array(frameBytes - 4 - 116).fill(0x5a);

export function bodies(frames: readonly (Uint8Array | "closed")[]): Uint8Array[] {
  return frames.map((frame) => {
    if (frame === "closed") throw new Error("It is closed");
    return timeless(frame);
  });
}
