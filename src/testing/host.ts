/**
 * A host in memory: senders and consumers of one process, with the library's own engine, rings, filters and views, over
 * sockets and a clock that are the test's.
 * May touch: the native library, whose calls for sockets, wakes and time it answers by itself. May not touch: sockets,
 * timers; of both the code above arms some that never fire, and unreferenced.
 *
 * @module
 */

import process from "node:process";
import { setImmediate } from "node:timers";
import {
  EndReason as WireReason,
  FANOUT_EVENT_FLAG,
  FrameHeader,
  FrameKind,
  PollRecord,
  Status,
} from "../native/abi.generated.ts";
import { type MergedConsumer, type MergeOptions, openMergedConsumer } from "../merge/merged_consumer.ts";
import { load } from "../native/load.ts";
import type { Native } from "../native/native.ts";
import { type Consumer, openConsumer } from "../stream/consumer.ts";
import { type ConsumerOptions, resolveConsumerOptions } from "../stream/consumer_options.ts";
import { openSender, type Sender } from "../stream/sender.ts";
import type { SenderOptions } from "../stream/sender_options.ts";
import { frameKind, frameOffset, type UpdateView } from "../stream/view.ts";
import { VirtualClock } from "./clock.ts";
import { VirtualSockets } from "./sockets.ts";

/** An update that lasts: what `copy()` of a view gives. */
export type UpdateCopy = ReturnType<UpdateView["copy"]>;

/** Ends that a test can have a connection come to. A sender's own close is `sender.close()`. */
export type ScriptedEnd = "sender-gone" | "slow-consumer" | "peer-corrupt";

/** How a host is made. */
export interface TestHostOptions {
  /** What time it is at first, in milliseconds since the Unix epoch. Default 1,000,000,000. */
  readonly startMs?: number;
}

/** Early enough for its nanoseconds to be exact as numbers, for months. */
const START_MS = 1_000_000_000;
const RING_BYTES = 1 << 20;
const POOL_BYTES = 1 << 20;
/** Turns of the event loop after which something never comes to rest. */
const TURNS_MAX = 10_000;
const REASON_SHIFT = 16;
const WIRE_REASON = { "slow-consumer": WireReason.slowConsumer, "peer-corrupt": WireReason.peerCorrupt } as const;
const RECORD_WORDS = PollRecord.size / 4;
const RING_BYTES_AT = PollRecord.ringBytes / 4;
const LOST_AT = PollRecord.lost / 4;
const decoder = new TextDecoder();

function turn(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}

/** Where the engine has a consumer. */
interface Seat {
  readonly fanout: number;
  readonly number: number;
}

/** What the host knows of a consumer's connection. */
interface Line {
  /** The handle of the producer's end of its ring. */
  producer: number;
  bytes: DataView | undefined;
  onClose: () => void;
  /** Updates that are to be lost, and the sequence after which. */
  losing: number;
  losingFrom: number;
  /** Lost, and not told yet. */
  lost: number;
}

/**
 * Makes a host in memory, for a bot's own tests: its senders and consumers are the real ones, but nothing of them is a
 * socket or a timer, time goes on when the test says so, and losses and ends come when it says so.
 * @throws {QlasterError} `NATIVE_…`; `SYSTEM` without a descriptor or memory for rings, which are real.
 *
 * @example
 * ```ts
 * import { createTestHost } from "@qlaster/core/testing";
 * import assert from "node:assert/strict";
 *
 * await using host = await createTestHost();
 * const sender = await host.setupSender({ path: "feed" });
 * const consumer = await host.setupConsumer("feed"); // what the bot does, by what it is given in place of `setupConsumer`
 * await consumer.subscribe({ transactions: true });
 *
 * host.loseNext(consumer, 2);
 * for (let slot = 1n; slot <= 3n; slot++) sender.publishSlot({ slot, parent: slot - 1n, status: "processed" });
 * const [update] = host.drain(consumer);
 * assert(update?.kind === "slot" && update.slot === 3n && update.lost === 2);
 * ```
 */
export async function createTestHost(options: TestHostOptions = {}): Promise<TestHost> {
  const { startMs = START_MS } = options;
  if (!(startMs > 0 && startMs <= 2 ** 42)) throw new RangeError(`startMs must be from 1 to 2^42, not ${startMs}`);
  return new TestHost(await load(), startMs);
}

/** A host in memory. Create one with {@linkcode createTestHost}. */
export class TestHost implements AsyncDisposable {
  readonly #native: Native;
  readonly #startMs: number;
  readonly #clock = new VirtualClock();
  readonly #sockets: VirtualSockets;
  /** The host's library, as senders and consumers have it. */
  readonly #shared: Native;
  /** A wake that nobody listens to: rings have one, and ours are woken by the test. */
  readonly #deafWake: number;
  readonly #deafEnd: number;
  /** Wakes of both ends of rings, by the handles of these. */
  readonly #wakes = new Map<number, number>();
  readonly #producerOf = new Map<number, number>();
  readonly #seats = new Map<number, Seat>();
  readonly #senders = new Map<number, Sender>();
  readonly #events = new Map<number, number[]>();
  readonly #lines = new Map<Consumer, Line>();
  readonly #opened: AsyncDisposable[] = [];
  /** Counts what happens. */
  #activity = 0;

  /** @internal Use {@linkcode createTestHost}. */
  constructor(native: Native, startMs: number) {
    this.#native = native;
    this.#startMs = startMs;
    this.#sockets = new VirtualSockets((fd) => void native.fdClose(fd));
    const pair = new Int32Array(2);
    native.wakeCreate(pair);
    this.#deafEnd = pair[0]!;
    this.#deafWake = native.wakeOpen(pair[1]!);
    this.#shared = this.#simulate();
  }

  // Senders and consumers

  /**
   * As `setupSender`: at a path of this host, which may be any text. By default with a ring and a pool of 1 MiB each, and
   * without wire version 9, which this host has not.
   */
  async setupSender(options: SenderOptions): Promise<Sender> {
    let fanout = -1;
    const native = this.#facade({
      fanoutCreate: (bytes) => {
        fanout = this.#native.fanoutCreate(bytes);
        if (fanout >= 0) this.#native.fanoutClock(fanout, 1000 * this.now);
        return fanout;
      },
    });
    const defaults = { ringCapacityBytes: RING_BYTES, poolBytes: POOL_BYTES };
    const sender = await openSender(native, { ...defaults, ...options, v9: false });
    this.#senders.set(fanout, sender);
    this.#opened.push(sender);
    return sender;
  }

  /**
   * As `setupConsumer`: to a sender of this host.
   * @throws {TypeError} for wire version 9, which this host has not: connect to a real sender for that.
   */
  async setupConsumer(path: string, options: ConsumerOptions = {}): Promise<Consumer> {
    if (options.protocol === "v9") throw new TypeError("A host in memory has no wire version 9");
    const line: Line = { producer: -1, bytes: undefined, onClose() {}, losing: 0, losingFrom: 0, lost: 0 };
    const native = this.#facade({
      ringJoin: (ringFd, pageFd, poolFd, ...sizes) => {
        line.producer = this.#producerOf.get(ringFd) ?? -1;
        for (const fd of [ringFd, pageFd, poolFd]) if (fd >= 0) this.#sockets.release(fd);
        return this.#native.ringJoin(ringFd, pageFd, poolFd, ...sizes);
      },
      memory: (address, length) => {
        const memory = this.#native.memory(address, length);
        line.bytes = new DataView(memory);
        return memory;
      },
      watch: (fd, onWake, onClose) => {
        line.onClose = onClose;
        return this.#shared.watch(fd, onWake, onClose);
      },
      ringPoll: (ring, records, max) => this.#poll(line, ring, records, max),
      ringRelease: (ring, bytes) => {
        const status = this.#native.ringRelease(ring, bytes);
        this.#notify(ring);
        return status;
      },
    });
    const resolved = resolveConsumerOptions({ ...options, protocol: "native" });
    const consumer = await openConsumer(native, path, resolved);
    this.#lines.set(consumer, line);
    this.#opened.push(consumer);
    return consumer;
  }

  /**
   * As `setupMergedConsumer`: to senders of this host. What is to happen to one of its feeds only, `feedOf` says.
   * @throws as `setupMergedConsumer`
   */
  setupMergedConsumer(paths: readonly string[], options: MergeOptions = {}): Promise<MergedConsumer> {
    return openMergedConsumer(paths, options, (path, of) => this.setupConsumer(path, of), this.#clock);
  }

  // What a test does

  /**
   * One feed of a merged consumer, for `loseNext` and `disconnect`. It is not to be read.
   * @param feed Its number, from 0.
   * @throws {RangeError} if there is none.
   */
  feedOf(merged: MergedConsumer, feed: number): Consumer {
    const consumer = merged.consumerOf(feed);
    if (consumer === undefined) throw new RangeError(`There is no feed ${feed}`);
    return consumer;
  }

  /** Milliseconds since the Unix epoch, by this host's clock: what updates are stamped with, and aged by. */
  get now(): number {
    return this.#startMs + this.#clock.now();
  }

  /**
   * Reads all that is there, without waiting: copies that last.
   * @throws {QlasterError} as `poll` of a consumer; `CONSUMER_BUSY` if a loop reads it: then `settle()`.
   */
  drain(consumer: Consumer | MergedConsumer): UpdateCopy[] {
    const all: UpdateCopy[] = [];
    while (consumer.poll((update: UpdateView) => void all.push(update.copy())) > 0);
    return all;
  }

  /** Resolves when nothing happens any longer: loops have read what is there, requests are answered. */
  async settle(): Promise<void> {
    for (let turns = 0; turns < TURNS_MAX; turns++) {
      const before = this.#activity;
      await turn();
      await turn();
      if (this.#activity === before) return;
    }
    throw new Error(`This host has not come to rest in ${TURNS_MAX} turns of the event loop`);
  }

  /**
   * Lets time go on, stopping wherever something is due until then: `next(timeoutMs)`, pauses before the next attempt to
   * connect, looks for staleness. Everything settles at each stop, and at the end.
   */
  async advance(ms: number): Promise<void> {
    if (!(ms >= 0 && ms < Infinity)) throw new RangeError(`ms must be from 0 on, not ${ms}`);
    const until = this.#clock.now() + ms;
    await this.settle();
    for (let due = this.#clock.next(until); due !== undefined; due = this.#clock.next(until)) {
      this.#clock.run(due);
      await this.settle();
    }
    this.#clock.setNow(until);
    for (const fanout of this.#senders.keys()) this.#native.fanoutClock(fanout, 1000 * this.now);
  }

  /**
   * Has a consumer lose the next updates that match, of those that are published from now on. The one behind them says how
   * many it lost.
   */
  loseNext(consumer: Consumer, count: number): void {
    if (!Number.isSafeInteger(count) || count < 0) throw new RangeError(`count must be a whole number, not ${count}`);
    const line = this.#lineOf(consumer);
    if (line.losing === 0) line.losingFrom = Number(this.#senderOf(line)?.metrics.sequence ?? 0n);
    line.losing += count;
  }

  /**
   * Ends a consumer's connection. What was published before is still read; then, unless it says `reconnect: false`, it
   * connects again as time goes on.
   */
  disconnect(consumer: Consumer, reason: ScriptedEnd): void {
    const line = this.#lineOf(consumer);
    if (reason === "sender-gone") {
      this.#activity++;
      return queueMicrotask(line.onClose);
    }
    const seat = this.#seats.get(line.producer);
    if (seat === undefined) return; // it has no connection
    this.#events.set(seat.fanout, [
      ...this.#events.get(seat.fanout) ?? [],
      seat.number | WIRE_REASON[reason] << REASON_SHIFT,
    ]);
    this.#senders.get(seat.fanout)?.publishBatch([]); // looks for events
  }

  /** Closes everything that was opened here. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const each of this.#opened.splice(0).reverse()) await each[Symbol.asyncDispose]();
    this.#native.close(this.#deafWake);
    this.#native.fdClose(this.#deafEnd);
  }

  #lineOf(consumer: Consumer): Line {
    const line = this.#lines.get(consumer);
    if (line === undefined) throw new TypeError("consumer must be one of this host's");
    return line;
  }

  #senderOf({ producer }: Line): Sender | undefined {
    const seat = this.#seats.get(producer);
    return seat && this.#senders.get(seat.fanout);
  }

  // The library

  #facade(own: Partial<Native>): Native {
    return { ...this.#shared, ...own };
  }

  #simulate(): Native {
    const native = this.#native;
    const sockets = this.#sockets;
    const pathOf = (bytes: Parameters<Native["listen"]>[0], length: number) =>
      decoder.decode((bytes as Uint8Array).subarray(0, length));
    return {
      ...native,
      clock: this.#clock,
      random: () => 0, // pauses have their full length
      clockUs: () => 1000 * this.now,
      limitsRaise: () => 0,
      listen: (path, length) => sockets.listen(pathOf(path, length)),
      accept: (listener, onLink) => Promise.resolve(sockets.accept(listener, onLink)),
      listenerAccept: () => Status.wouldBlock,
      listenerPass: () => Status.unsupported, // no other process could go on with it
      linkConnect: (path, length) => sockets.connect(pathOf(path, length)),
      linkPeer: (_, peer) => {
        peer.set([process.pid, native.uid(), 0]);
        return 0;
      },
      linkSend: (link, bytes, length, descriptors, count) => {
        this.#activity++;
        return sockets.send(link, (bytes as Uint8Array).subarray(0, length), [
          ...(descriptors as Int32Array).subarray(0, count),
        ]);
      },
      linkReceive: (link, bytes, length, descriptors) =>
        sockets.receive(link, (bytes as Uint8Array).subarray(0, length), descriptors as Uint32Array),
      wakeCreate: (pair) => {
        pair.set(sockets.createWake());
        return 0;
      },
      wakeOpen: (fd) => sockets.openWake(fd),
      wakeNotify: (wake) => {
        this.#activity++;
        sockets.notify(wake);
        return 0;
      },
      watch: (fd, onWake, onClose) => Promise.resolve(sockets.watch(fd, onWake, onClose)),
      fdClose: (fd) => {
        sockets.closeDescriptor(fd);
        return 0;
      },
      close: (handle) => {
        if (!VirtualSockets.ownsHandle(handle)) {
          for (const table of [this.#wakes, this.#seats, this.#senders]) table.delete(handle);
          return native.close(handle);
        }
        this.#activity++;
        sockets.closeHandle(handle);
        return 0;
      },
      ringCreate: (capacityBytes, reservedBytes, id, senderId, passed) => {
        const ring = native.ringCreate(capacityBytes, reservedBytes, id, senderId, passed);
        if (ring >= 0) this.#producerOf.set((passed as Int32Array)[0]!, ring);
        return ring;
      },
      ringAttach: (ring, wake) => {
        this.#wakes.set(ring, wake);
        return native.ringAttach(ring, this.#deafWake);
      },
      ringEnd: (ring, reason) => {
        const status = native.ringEnd(ring, reason);
        this.#notify(ring);
        return status;
      },
      fanoutAdd: (fanout, ring, bytes) => {
        const number = native.fanoutAdd(fanout, ring, bytes);
        if (number >= 0) this.#seats.set(ring, { fanout, number });
        return number;
      },
      fanoutPublish: (...args) => this.#published(args[0], native.fanoutPublish(...args)),
      fanoutPublishMany: (...args) => this.#published(args[0], native.fanoutPublishMany(...args)),
      fanoutCommit: (fanout) => this.#published(fanout, native.fanoutCommit(fanout)),
      fanoutFlush: (...args) => this.#published(args[0], native.fanoutFlush(...args)),
      fanoutSweep: (...args) => this.#published(args[0], native.fanoutSweep(...args)),
      fanoutMark: (...args) => this.#published(args[0], native.fanoutMark(...args)),
      fanoutStatAnnounce: () => 0, // nobody outside this process can find its listeners
      fanoutEvent: (fanout) => this.#events.get(fanout)?.shift() ?? native.fanoutEvent(fanout),
    };
  }

  #notify(ring: number): void {
    const wake = this.#wakes.get(ring);
    if (wake !== undefined) this.#sockets.notify(wake);
  }

  /** Wakes whoever may have got something, and says whether there are events. */
  #published(fanout: number, result: number): number {
    this.#activity++;
    for (const [ring, seat] of this.#seats) if (seat.fanout === fanout) this.#notify(ring);
    const hasEvents = (this.#events.get(fanout)?.length ?? 0) > 0;
    return result >= 0 && hasEvents ? result | FANOUT_EVENT_FLAG : result;
  }

  /** What a ring holds, without what is to be lost: the next frame says that it is missing, and frees its room. */
  #poll(line: Line, ring: number, records: Parameters<Native["ringPoll"]>[1], max: number): number {
    const count = this.#native.ringPoll(ring, records, max);
    if (count > 0) this.#activity++;
    if (count <= 0 || (line.losing === 0 && line.lost === 0)) return count;
    const words = records as Uint32Array;
    let kept = 0;
    let bytes = 0;
    for (let i = 0; i < count; i++) {
      const at = i * RECORD_WORDS;
      if (this.#isLost(line, words, i)) {
        line.lost += 1 + words[at + LOST_AT]!;
        bytes += words[at + RING_BYTES_AT]!;
        continue;
      }
      const to = kept++ * RECORD_WORDS;
      words.copyWithin(to, at, at + RECORD_WORDS);
      words[to + LOST_AT]! += line.lost;
      words[to + RING_BYTES_AT]! += bytes;
      [line.lost, bytes] = [0, 0];
    }
    if (bytes > 0 && kept > 0) words[(kept - 1) * RECORD_WORDS + RING_BYTES_AT]! += bytes;
    else if (bytes > 0) this.#native.ringRelease(ring, bytes);
    return kept;
  }

  #isLost(line: Line, words: Uint32Array, index: number): boolean {
    if (line.losing === 0) return false;
    const kind = frameKind(words, index);
    const isUpdate = kind === FrameKind.account || kind === FrameKind.transaction || kind === FrameKind.slot;
    const sequence = line.bytes!.getBigUint64(frameOffset(words, index) + FrameHeader.sequence, true);
    if (!isUpdate || sequence <= line.losingFrom) return false;
    line.losing--;
    return true;
  }
}
