/**
 * Both ends of native objects in one process: a socket pair as two links, a ring with its producer and its consumer.
 * May touch: the native library through `load()`. May not touch: files.
 *
 * @module
 */

import assert from "node:assert/strict";
import { FanoutConsumer, FanoutInfo, FanoutOptions } from "../../../src/native/abi.generated.ts";
import { load } from "../../../src/native/load.ts";
import type { Native } from "../../../src/native/native.ts";
import { OVERFLOW_POLICIES, type OverflowPolicy } from "../../../src/types.ts";
import { encodeFilterEdit, type FilterEdit } from "../../../src/wire/messages.ts";
import { goldenFrame, type GoldenHeader, type GoldenMark, type GoldenUpdate } from "./golden_frame.ts";

export { load };

/** Two native links, connected to each other; whoever takes one closes it. */
export function linkHandles(native: Native): [ours: number, theirs: number] {
  const pair = socketPair(native);
  return pair.map((fd) => {
    const link = native.linkAdopt(fd);
    assert.ok(link >= 0, `linkAdopt gave ${link}`);
    assert.equal(native.fdClose(fd), 0); // the link has a duplicate
    return link;
  }) as [number, number];
}

/** Two connected sockets. Descriptors travel from the second to the first only: that is how wakes are made. */
export function socketPair(native: Native): [number, number] {
  const pair = new Int32Array(2);
  assert.equal(native.wakeCreate(pair), 0);
  return [pair[1]!, pair[0]!];
}

/** A ring whose two ends are both ours. */
export function ringHandles(native: Native, capacityBytes: number): { producer: number; consumer: number } {
  const passed = new Int32Array(2);
  const producer = createRing(native, capacityBytes, passed);
  return { producer, consumer: joinRing(native, capacityBytes, [...passed], 0) };
}

function createRing(native: Native, capacityBytes: number, passed: Int32Array): number {
  const producer = native.ringCreate(capacityBytes, 16384, 1, new Uint8Array(16), passed);
  assert.ok(producer >= 0, `ringCreate gave ${producer}`);
  return producer;
}

function joinRing(native: Native, capacityBytes: number, passed: readonly number[], poolBytes: number): number {
  const [ringFd, pageFd, poolFd = -1] = passed;
  const consumer = native.ringJoin(ringFd!, pageFd!, poolFd, capacityBytes, poolBytes, native.uid());
  assert.ok(consumer >= 0, `ringJoin gave ${consumer}`);
  return consumer;
}

const HEADER_LENGTH = 16;
const NO_KEYS = { accounts: [], owners: [], program: new Uint8Array(0) };

/** How the consumer of an engine is treated. */
export interface EngineOptions {
  readonly capacityBytes: number;
  readonly policy?: OverflowPolicy;
  readonly poolBytes?: number;
  /** Payloads from this size on go into the pool. */
  readonly poolThreshold?: number;
  readonly backlogBytes?: number;
  /** Keys in all of the consumer's filters. Default 1000. */
  readonly keysMax?: number;
}

/** A fan-out of the native library with one consumer, which is who takes `passed`. */
export class Engine implements Disposable {
  /** Handle of the producer's end. */
  readonly producer: number;
  /** Ring, page, and the pool if there is one: whoever takes them closes them. */
  readonly passed: readonly number[];
  readonly #native: Native;
  readonly #fanout: number;
  readonly #id: number;

  constructor(native: Native, options: EngineOptions) {
    const poolBytes = options.poolBytes ?? 0;
    this.#native = native;
    const engine = new DataView(new ArrayBuffer(FanoutOptions.size));
    engine.setUint32(FanoutOptions.keysMax, 1 << 20, true);
    engine.setUint32(FanoutOptions.keysPerConsumerMax, options.keysMax ?? 1000, true);
    engine.setUint32(FanoutOptions.poolBytes, poolBytes, true);
    engine.setUint32(FanoutOptions.poolThreshold, options.poolThreshold ?? 0xffffffff, true);
    engine.setUint32(FanoutOptions.trackedMax, 1000, true);
    engine.setUint32(FanoutOptions.stallMs, 10_000, true);
    this.#fanout = native.fanoutCreate(new Uint8Array(engine.buffer));
    assert.ok(this.#fanout >= 0, `fanoutCreate gave ${this.#fanout}`);
    const passed = new Int32Array(2);
    this.producer = createRing(native, options.capacityBytes, passed);
    this.passed = poolBytes > 0 ? [...passed, native.fanoutPoolFd(this.#fanout)] : [...passed];
    const consumer = new DataView(new ArrayBuffer(FanoutConsumer.size));
    const policy = OVERFLOW_POLICIES.indexOf(options.policy ?? "disconnect");
    consumer.setUint32(FanoutConsumer.policy, policy, true);
    consumer.setUint32(FanoutConsumer.transactionPolicy, policy, true);
    consumer.setUint32(FanoutConsumer.statuses, 0xffffffff, true);
    consumer.setUint32(FanoutConsumer.backlogBytes, options.backlogBytes ?? 1 << 20, true);
    consumer.setUint32(FanoutConsumer.poolBytes, poolBytes, true);
    this.#id = native.fanoutAdd(this.#fanout, this.producer, new Uint8Array(consumer.buffer));
    assert.ok(this.#id >= 0, `fanoutAdd gave ${this.#id}`);
  }

  /** Edits one filter of the consumer. */
  edit(edit: Partial<FilterEdit>): number {
    const whole = { op: "add", bit: 0, transactions: false, isLast: true, ...NO_KEYS, ...edit } as const;
    return this.editBy(encodeFilterEdit(1, whole).slice(HEADER_LENGTH));
  }

  /** Edits one filter by a message's body. */
  editBy(body: Uint8Array): number {
    return this.#native.fanoutEdit(this.#fanout, this.#id, body, body.length);
  }

  /** Returns how many consumers got it at once. */
  publish(update: GoldenUpdate): number {
    const { bytes, payload } = goldenFrame(update, { sequence: 0n });
    const head = bytes.slice(0, payload[0]);
    const tail = bytes.slice(payload[0]);
    const reached = this.#native.fanoutPublish(this.#fanout, head, head.length, tail, tail.length, 0);
    assert.ok(reached >= 0, `fanoutPublish gave ${reached}`);
    return reached & 1;
  }

  flush(): void {
    assert.ok(this.#native.fanoutFlush(this.#fanout, this.#id) >= 0);
  }

  /** Lets go of the consumer, which may still read. */
  remove(): void {
    assert.equal(this.#native.fanoutRemove(this.#fanout, this.#id, 0), 0);
  }

  sweep(elapsedMs = 0): void {
    assert.ok(this.#native.fanoutSweep(this.#fanout, elapsedMs) >= 0);
  }

  /** Puts a mark behind all frames. */
  mark(update: GoldenMark, header: Partial<GoldenHeader> = {}): void {
    const { bytes } = goldenFrame(update, { sequence: 0n, ...header });
    assert.equal(this.#native.fanoutMark(this.#fanout, this.#id, bytes, bytes.length), 0);
  }

  get poolUsedBytes(): number {
    const info = new Float64Array(FanoutInfo.size / 8);
    assert.equal(this.#native.fanoutInfo(this.#fanout, info), 0);
    return info[FanoutInfo.poolUsedBytes / 8]!;
  }

  [Symbol.dispose](): void {
    this.#native.close(this.#fanout);
    this.#native.close(this.producer);
  }
}

/** An engine whose consumer's end is ours, too. */
export class EnginePair extends Engine {
  /** Handle of the consumer's end: whoever reads it closes it. */
  readonly consumer: number;

  constructor(native: Native, options: EngineOptions) {
    super(native, options);
    this.consumer = joinRing(native, options.capacityBytes, this.passed, options.poolBytes ?? 0);
  }
}
