/**
 * A raw sender of wire version 9, after the reference of the Rust original, and consumers of ours at it: used by all of
 * consumer_*_test.ts.
 * May touch: the public API, the raw sender beside it in this process, /proc. Linux only.
 *
 * @module
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import process from "node:process";
import { type Consumer, type ConsumerOptions, isQlasterError, type QlasterError, setupConsumer } from "../../../mod.ts";
import { type Footprint, footprintOf, settlesAt } from "../../support/footprint.ts";
import { guarded, type Held } from "../../support/guarded.ts";
import * as raw from "../../support/raw_v9.ts";
import { RawSlot } from "../../support/raw_v9_sender.ts";
import { Temporary } from "../../support/temporary.ts";

const NOT_LINUX = process.platform === "linux" ? undefined : "the raw sender is Linux's";
export const TOKEN: raw.Token = { index: 0, generation: 1n };
export const CREATED_NS = 0x1122334455667788n;
export const READY = raw.ready(TOKEN);
export const CAPACITY = 4096;
/** For what must not come by itself while a test runs. */
export const NEVER_MS = 1_000_000;

export const linux = (name: string, body: (held: Held) => Promise<void>) => guarded(name, body, { skip: NOT_LINUX });
export const readyShm = (slot: { path: string; capacity: number }, token = TOKEN) =>
  raw.readyShm(token, slot.path, slot.capacity);
export const requestOf = async (link: raw.RawV9Link) => raw.parseRequest(await link.body());

/** The frames of the reference's examples. */
export const accountFrame = (fields: raw.AccountFields = {}) =>
  raw.accountFrame({
    createdNs: CREATED_NS,
    pubkey: new Uint8Array(32).fill(0xaa),
    owner: new Uint8Array(32).fill(0xbb),
    lamports: 5n,
    executable: 1,
    rentEpoch: 6n,
    slot: 7n,
    writeVersion: 8n,
    payload: new TextEncoder().encode("hey"),
    ...fields,
  });
export const slotFrame = (number: number | bigint) => raw.slotFrame(BigInt(number), CREATED_NS);

export class Stage implements AsyncDisposable {
  readonly temporary = new Temporary();
  readonly sender = new raw.RawV9Sender(this.temporary.at("s.sock"));
  readonly path = this.sender.path;
  #rings = 0;
  #opened: (Disposable | AsyncDisposable)[] = [];
  #before: Footprint | undefined;

  static async open(held: Held): Promise<Stage> {
    const stage = held.use(new Stage());
    // Once around: what the runtime and the library open at the first use is no leak.
    const { consumer, link, ring } = await stage.granted();
    const next = consumer.next();
    ring.send(slotFrame(1));
    await next;
    await consumer.close();
    link.close();
    ring[Symbol.dispose]();
    stage.#before = footprintOf("self");
    return stage;
  }

  ring(capacity = CAPACITY, options: ConstructorParameters<typeof RawSlot>[2] = {}): RawSlot {
    return this.keep(new RawSlot(this.temporary.at(`ring-${this.#rings++}`), capacity, options));
  }

  keep<T extends Disposable | AsyncDisposable>(resource: T): T {
    this.#opened.push(resource);
    return resource;
  }

  connect(options: ConsumerOptions = {}): Promise<Consumer> {
    const connecting = setupConsumer(this.path, {
      reconnect: false,
      protocol: "v9",
      connectTimeoutMs: 20_000,
      ...options,
    });
    connecting.catch(() => {});
    return connecting;
  }

  /** A consumer with a slot. */
  async granted(
    options: ConsumerOptions = {},
    ring: RawSlot = this.ring(),
  ): Promise<{ consumer: Consumer; link: raw.RawV9Link; ring: RawSlot }> {
    const connecting = this.connect(options);
    const link = this.keep(await this.sender.accept());
    assert.equal((await requestOf(link)).token, undefined);
    link.send(readyShm(ring), [ring.wakeFd]);
    return { consumer: this.keep(await connecting), link, ring };
  }

  #isDisposed = false;

  /** Closes all, and looks whether anything is left. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    for (const each of this.#opened.reverse()) {
      if (Symbol.asyncDispose in each) await each[Symbol.asyncDispose]();
      else each[Symbol.dispose]();
    }
    try {
      if (this.#before !== undefined) await settlesAt("self", this.#before);
      const maps = readFileSync("/proc/self/maps", "utf8");
      assert.ok(!maps.includes(this.temporary.path), "a ring is still mapped");
    } finally {
      this.sender[Symbol.dispose]();
      this.temporary[Symbol.dispose]();
    }
  }
}

export async function rejectsWith(promise: Promise<unknown>, code: string, text: RegExp = /./): Promise<QlasterError> {
  const error = await promise.then(() => assert.fail("it did not fail"), (error) => error);
  assert.ok(isQlasterError(error), String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, text);
  return error;
}

export async function lost(promise: Promise<unknown>, reason: string, text: RegExp = /./): Promise<void> {
  assert.equal((await rejectsWith(promise, "CONNECTION_LOST", text)).reason, reason);
}

/** The event loop stands still. */
export function standStill(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
