/**
 * Writes updates into a directory of MCAP segments, so that nothing of them is lost but what came within the last `flushMs`
 * before the process was killed.
 * May touch: the directory. May not touch: consumers; record.ts reads for it.
 *
 * @module
 */

import { closeSync, fsyncSync, rmSync } from "node:fs";
import { AccountBody, FrameHeader, SlotBody, TransactionBody } from "../native/abi.generated.ts";
import { isQlasterError } from "../errors.ts";
import type { LostEvent, ResumedEvent } from "../stream/connection_view.ts";
import { FrameView, type UpdateView } from "../stream/view.ts";
import {
  ACCOUNT_CHANNEL,
  FILTER_NAMES_CHANNEL,
  MARK_CHANNEL,
  SEAM_CHANNEL,
  SLOT_CHANNEL,
  SLOT_INDEX_CHANNEL,
  SlotIndexEntry,
  TRANSACTION_CHANNEL,
} from "./format.ts";
import {
  beginRecovery,
  completePart,
  createPart,
  deleteCopies,
  DirectoryLock,
  listSegments,
  type Segment,
} from "./directory.ts";
import { CopyEncoder, type UpdateCopy } from "./frames.ts";
import { MaskNamesReader, MaskNamesWriter } from "./mask_names.ts";
import { encodeSeam } from "./seams.ts";
import { corrupt, IndexedSegment, readSegment } from "./segment_reader.ts";
import { type SegmentMessage, SegmentWriter } from "./segment_writer.ts";

/** How a recording is made. */
export interface RecordOptions {
  /** A segment ends when it has this many bytes. Default 1 GiB; at most a quarter of `maxBytes`. */
  readonly rotateBytes?: number;
  /** A segment ends when it has updates of this many slots. Default 1500, which is ten minutes. */
  readonly rotateSlots?: number;
  /** Most bytes of all segments: the oldest complete ones are deleted. Default: no limit. */
  readonly maxBytes?: number;
  /** A chunk is written out when it has this many bytes, uncompressed. Default 1 MiB; at most a quarter of `rotateBytes`. */
  readonly chunkBytes?: number;
  /** … or when its oldest update has waited for this long, in milliseconds. Default 250. */
  readonly flushMs?: number;
  /** Whether a chunk is forced to the disk at once, for the case that the machine fails. Default "none". */
  readonly sync?: "none" | "chunk";
  /** Default "zstd". */
  readonly compression?: "zstd" | "none";
  /** Ends the recording, without an error. */
  readonly signal?: AbortSignal;
  /** Called after each chunk. */
  readonly onProgress?: (progress: RecordingProgress) => void;
}

/** What a recorder has done so far. */
export interface RecordingProgress {
  /** Updates and marks that are in files; seams are not counted. */
  readonly updates: number;
  /** Bytes that they were as frames. */
  readonly frameBytes: number;
  /** Bytes that the files of this recorder have. */
  readonly fileBytes: number;
  /** Segments that this recorder has begun. */
  readonly segments: number;
  /** Updates that the consumer lost, by what its frames say. */
  readonly lost: number;
  /** The highest slot; undefined before the first. */
  readonly lastSlot: bigint | undefined;
  /** Updates that were found in what an earlier recorder left unfinished. */
  readonly recovered: number;
}

const MIB = 1024 * 1024;
const CHUNK_BYTES_MAX = 64 * MIB;

type Resolved = Required<Omit<RecordOptions, "signal" | "onProgress" | "maxBytes">> & { readonly maxBytes: number };

function completeBytesOf(directory: string): number {
  return listSegments(directory).reduce((sum, { isPart, size }) => isPart ? sum : sum + size, 0);
}

function bounded(value: number, name: string, min: number, max: number): number {
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw new RangeError(`${name} must be a whole number from ${min} to ${max}, not ${value}`);
}

function resolve(options: RecordOptions): Resolved {
  const maxBytes = options.maxBytes === undefined
    ? Infinity
    : bounded(options.maxBytes, "maxBytes", MIB, Number.MAX_SAFE_INTEGER);
  const rotateBytes = Math.min(
    bounded(options.rotateBytes ?? 1024 * MIB, "rotateBytes", 65536, Number.MAX_SAFE_INTEGER),
    Math.floor(maxBytes / 4),
  );
  const chunkBytes = bounded(options.chunkBytes ?? MIB, "chunkBytes", 1024, CHUNK_BYTES_MAX);
  const { sync = "none", compression = "zstd" } = options;
  if (sync !== "none" && sync !== "chunk") throw new TypeError(`sync must be "none" or "chunk", not ${sync}`);
  if (compression !== "zstd" && compression !== "none") {
    throw new TypeError(`compression must be "zstd" or "none", not ${compression}`);
  }
  return {
    maxBytes,
    rotateBytes,
    rotateSlots: bounded(options.rotateSlots ?? 1500, "rotateSlots", 1, Number.MAX_SAFE_INTEGER),
    // A segment is ended between chunks.
    chunkBytes: Math.min(chunkBytes, Math.floor(rotateBytes / 4)),
    flushMs: bounded(options.flushMs ?? 250, "flushMs", 1, 60_000),
    sync,
    compression,
  };
}

/** A segment that is being written. */
interface Open {
  readonly fd: number;
  readonly path: string;
  readonly writer: SegmentWriter;
  readonly slots: Set<bigint>;
  readonly names: MaskNamesWriter;
  firstSlot: bigint | undefined;
  lastSlot: bigint | undefined;
  lastSequence: bigint;
  updates: number;
}

/** Writes a recording. One at a time for a directory; what a killed one left is finished first. */
export class Recorder implements AsyncDisposable {
  /** Where the segments are. */
  readonly directory: string;
  readonly #options: Resolved;
  readonly #onProgress: RecordOptions["onProgress"];
  readonly #lock: DirectoryLock;
  readonly #encoder = new CopyEncoder();
  readonly #indexEntry = new Uint8Array(SlotIndexEntry.size);
  #open: Open | undefined;
  #nextNumber = 1;
  #isClosed = false;
  /** Of the messages in files, so that times only grow. */
  #lastTime = 0n;
  /** What was there before this recorder, until something follows it: the sequence of its last update. */
  #before: { readonly lastSequence: bigint } | undefined;
  /** When the oldest update that is in no file came; 0 for none. */
  #pendingSince = 0;
  /** Added and in no file. */
  #pendingUpdates = 0;
  #pendingBytes = 0;
  /** Of segments that are complete. */
  #completeBytes = 0;
  #ownBytes = 0;
  #stats = { updates: 0, frameBytes: 0, segments: 0, lost: 0, recovered: 0 };
  #lastSlot: bigint | undefined;

  private constructor(directory: string, lock: DirectoryLock, options: RecordOptions) {
    this.directory = directory;
    this.#lock = lock;
    this.#options = resolve(options);
    this.#onProgress = options.onProgress;
  }

  /**
   * Takes a directory, makes it if need be, and finishes what a killed recorder left there.
   * @throws {QlasterError} `RECORDING_BUSY`, `RECORDING_VERSION`. {@linkcode RangeError} for an option out of range.
   */
  static async open(directory: string, options: RecordOptions = {}): Promise<Recorder> {
    resolve(options);
    const lock = DirectoryLock.take(directory);
    const recorder = new Recorder(directory, lock, options);
    try {
      deleteCopies(directory);
      for (const segment of listSegments(directory)) {
        recorder.#nextNumber = Math.max(recorder.#nextNumber, segment.number + 1);
      }
      recorder.#completeBytes = completeBytesOf(directory);
      for (const segment of listSegments(directory)) if (segment.isPart) await recorder.#recover(segment);
      await recorder.#lookBehind();
    } catch (error) {
      recorder.#abandon();
      throw error;
    }
    return recorder;
  }

  /** What is whole in a part goes into new segments; then the part is removed. */
  async #recover(segment: Segment): Promise<void> {
    const path = beginRecovery(segment, this.#nextNumber);
    const names = new MaskNamesReader();
    for await (const message of readSegment(path, true)) {
      if (message.channelId === SLOT_INDEX_CHANNEL) continue;
      const frame = message.data;
      if (message.channelId === FILTER_NAMES_CHANNEL) {
        try {
          names.take(frame);
        } catch (error) {
          throw corrupt(path, error);
        }
        continue;
      }
      if (message.channelId === SEAM_CHANNEL) {
        this.#appendSeam(message);
        continue;
      }
      const slot = slotOfFrame(message);
      const filters = names.of(frame);
      this.#append(message.channelId, frame, { ...message, slot, filters, sequence: BigInt(message.sequence) });
      this.#stats.recovered++;
      this.#lastTime = message.logTime;
    }
    this.#complete();
    this.#stats.updates = 0; // those were the other recorder's
    this.#stats.frameBytes = 0;
    rmSync(path, { force: true });
    this.#completeBytes = completeBytesOf(this.directory); // now that the copies count
  }

  /** Where the recording goes on, if there is one. A segment that can't be read is its readers' to find. */
  async #lookBehind(): Promise<void> {
    const last = listSegments(this.directory).at(-1);
    if (last === undefined) return;
    let lastSequence = 0n;
    try {
      await using segment = await IndexedSegment.open(last.path);
      const summary = await segment.summary();
      lastSequence = summary.lastSequence ?? 0n;
      if (summary.endTime > this.#lastTime) this.#lastTime = summary.endTime;
    } catch (error) {
      if (!isQlasterError(error)) throw error;
    }
    this.#before = { lastSequence };
  }

  /** What has been done so far. */
  get progress(): RecordingProgress {
    const { updates, frameBytes, segments, lost, recovered } = this.#stats;
    return {
      updates,
      frameBytes,
      fileBytes: this.#ownBytes + (this.#open?.writer.size ?? 0),
      segments,
      lost,
      lastSlot: this.#lastSlot,
      recovered,
    };
  }

  /**
   * Adds what a consumer read, or an update that was in no ring. It is in a file after `flush`, which is called by itself when
   * a chunk is full; by time only by `record`. Where a connection was lost or goes on (`connection`), that is noted as a seam.
   * @param receivedNs When it came: nanoseconds since the Unix epoch. Default now.
   */
  add(update: UpdateView | UpdateCopy, receivedNs: bigint = nowNs()): void {
    if (update.kind === "connection") return this.addSeam(update.event, update.publishNs, receivedNs);
    const length = this.measure(update);
    const frame = new Uint8Array(length);
    this.write(update, frame, 0);
    this.addFrame(frame, update, receivedNs);
  }

  /** Bytes of an update's frame. Has to be called before `write`. @internal */
  measure(update: UpdateView | UpdateCopy): number {
    return update instanceof FrameView ? update.frameLength() : this.#encoder.encode(update as UpdateCopy);
  }

  /** @internal */
  write(update: UpdateView | UpdateCopy, out: Uint8Array, at: number): void {
    if (update instanceof FrameView) update.writeFrame(out, at);
    else this.#encoder.write(out, at);
  }

  /** @internal */
  addFrame(frame: Uint8Array, facts: FrameFacts, receivedNs: bigint): void {
    const logTime = this.#timeOf(receivedNs);
    const { kind, sequence = 0n, publishNs = 0n, lost = 0, filters = [] } = facts;
    this.#stats.lost += lost;
    const publishTime = publishNs === 0n ? logTime : publishNs;
    const slot = (facts as { readonly slot?: bigint }).slot;
    const channelId = CHANNEL_OF_KIND[kind] ?? MARK_CHANNEL;
    this.#append(channelId, frame, { sequence, logTime, publishTime, slot, filters });
  }

  /** Notes where the stream was interrupted, or goes on. @internal */
  addSeam(seam: LostEvent | ResumedEvent, publishNs: bigint, receivedNs: bigint): void {
    const logTime = this.#timeOf(receivedNs);
    const sequence = Number(seam.lastSequence & 0xffffffffn);
    this.#appendSeam({ sequence, logTime, publishTime: publishNs, data: encodeSeam(seam) });
  }

  /** When something is said to have been received: later than all before. Notes first that another recorder was before. */
  #timeOf(receivedNs: bigint): bigint {
    if (this.#isClosed) throw new TypeError("The recorder is closed");
    const before = this.#before;
    if (before !== undefined) {
      this.#before = undefined;
      const downMs = Math.max(0, Math.round(Number(receivedNs - this.#lastTime) / 1e3) / 1e3);
      const { lastSequence } = before;
      this.addSeam(
        {
          ...{ type: "resumed", continuity: "unknown", isSameSender: undefined, lastSequence, sequence: undefined },
          ...{ downMs, attempts: 0 },
        },
        receivedNs,
        receivedNs,
      );
    }
    this.#lastTime = receivedNs > this.#lastTime ? receivedNs : this.#lastTime + 1n;
    return this.#lastTime;
  }

  #appendSeam(message: Omit<SegmentMessage, "channelId">): void {
    this.#open ??= this.#begin();
    this.#open.writer.add({ ...message, channelId: SEAM_CHANNEL });
    if (this.#pendingSince === 0) this.#pendingSince = performance.now();
  }

  #append(
    channelId: number,
    data: Uint8Array,
    facts: {
      readonly sequence: bigint;
      readonly logTime: bigint;
      readonly publishTime: bigint;
      readonly slot: bigint | undefined;
      readonly filters: readonly string[];
    },
  ): void {
    const { logTime, publishTime, slot } = facts;
    const isNewSlot = slot !== undefined && this.#open?.slots.has(slot) === false;
    if (isNewSlot && this.#open!.slots.size >= this.#options.rotateSlots) this.#complete();
    const open = this.#open ??= this.#begin();
    const sequence = Number(facts.sequence & 0xffffffffn);
    if (slot !== undefined && !open.slots.has(slot)) {
      open.slots.add(slot);
      if (open.firstSlot === undefined || slot < open.firstSlot) open.firstSlot = slot;
      if (open.lastSlot === undefined || slot > open.lastSlot) open.lastSlot = slot;
      if (this.#lastSlot === undefined || slot > this.#lastSlot) this.#lastSlot = slot;
      const view = new DataView(this.#indexEntry.buffer);
      view.setBigUint64(SlotIndexEntry.slot, slot, true);
      view.setBigUint64(SlotIndexEntry.sequence, facts.sequence, true);
      const entry = { channelId: SLOT_INDEX_CHANNEL, sequence, logTime, publishTime, data: this.#indexEntry };
      open.writer.add(entry);
    }
    const names = open.names.before(data, facts.filters);
    if (names !== undefined) {
      open.writer.add({ channelId: FILTER_NAMES_CHANNEL, sequence, logTime, publishTime, data: names });
    }
    open.writer.add({ channelId, sequence, logTime, publishTime, data });
    open.updates++;
    if (facts.sequence > 0n) open.lastSequence = facts.sequence;
    this.#pendingUpdates++;
    this.#pendingBytes += data.length;
    if (this.#pendingSince === 0) this.#pendingSince = performance.now();
    if (open.writer.pending >= this.#options.chunkBytes) this.flush();
  }

  #begin(): Open {
    const { fd, path } = createPart(this.directory, this.#nextNumber++);
    this.#stats.segments++;
    const writer = new SegmentWriter(fd, { isCompressed: this.#options.compression === "zstd" });
    const [slots, names] = [new Set<bigint>(), new MaskNamesWriter()];
    const none = { firstSlot: undefined, lastSlot: undefined, lastSequence: 0n, updates: 0 };
    return { fd, path, writer, slots, names, ...none };
  }

  /** Milliseconds until the oldest update that is in no file has waited long enough; undefined if there is none. */
  get dueInMs(): number | undefined {
    if (this.#pendingSince === 0) return undefined;
    return Math.max(0, this.#pendingSince + this.#options.flushMs - performance.now());
  }

  /** Writes out what was added. When it returns, the end of this process loses nothing of it. */
  flush(): void {
    this.#pendingSince = 0;
    const open = this.#open;
    if (open === undefined || open.writer.pendingCount === 0) return;
    open.writer.flush();
    this.#noteWritten();
    if (this.#options.sync === "chunk") fsyncSync(open.fd);
    if (open.writer.size >= this.#options.rotateBytes) this.#complete();
    this.#deleteOldest();
    this.#onProgress?.(this.progress);
  }

  #noteWritten(): void {
    this.#stats.updates += this.#pendingUpdates;
    this.#stats.frameBytes += this.#pendingBytes;
    this.#pendingUpdates = 0;
    this.#pendingBytes = 0;
  }

  /** Ends the open segment. */
  #complete(): void {
    const open = this.#open;
    if (open === undefined) return;
    this.#pendingSince = 0;
    const metadata = new Map([["updates", String(open.updates)]]);
    if (open.firstSlot !== undefined) metadata.set("first_slot", String(open.firstSlot));
    if (open.lastSlot !== undefined) metadata.set("last_slot", String(open.lastSlot));
    if (open.lastSequence > 0n) metadata.set("last_sequence", String(open.lastSequence));
    open.writer.end(metadata);
    this.#noteWritten();
    if (this.#options.sync === "chunk") fsyncSync(open.fd);
    this.#open = undefined; // whatever comes, the descriptor is closed once
    closeSync(open.fd);
    completePart(open.path);
    this.#completeBytes += open.writer.size;
    this.#ownBytes += open.writer.size;
    this.#deleteOldest();
  }

  #deleteOldest(): void {
    const { maxBytes } = this.#options;
    if (this.#completeBytes + (this.#open?.writer.size ?? 0) <= maxBytes) return;
    const segments = listSegments(this.directory).filter(({ isPart }) => !isPart);
    this.#completeBytes = segments.reduce((sum, { size }) => sum + size, 0);
    for (const { path, size } of segments) {
      if (this.#completeBytes + (this.#open?.writer.size ?? 0) <= maxBytes) return;
      rmSync(path, { force: true });
      this.#completeBytes -= size;
    }
  }

  #abandon(): void {
    this.#isClosed = true;
    if (this.#open !== undefined) closeSync(this.#open.fd);
    this.#open = undefined;
    this.#lock.release();
  }

  /** Writes out and completes the last segment, and lets go of the directory. May be called twice. */
  close(): Promise<void> {
    if (this.#isClosed) return Promise.resolve();
    try {
      this.#complete();
    } finally {
      this.#abandon();
    }
    return Promise.resolve();
  }

  /** The same as `close()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** What is to be known of a frame besides its bytes. */
export interface FrameFacts {
  readonly kind: string;
  readonly sequence?: bigint;
  readonly publishNs?: bigint;
  readonly lost?: number;
  readonly filters?: readonly string[];
}

const CHANNEL_OF_KIND: Readonly<Record<string, number>> = {
  account: ACCOUNT_CHANNEL,
  transaction: TRANSACTION_CHANNEL,
  slot: SLOT_CHANNEL,
};

/** Offset of the slot in the frames of each channel, which a recovered file is believed: they passed a checksum. */
function slotOfFrame({ channelId, data }: SegmentMessage): bigint | undefined {
  const offset = SLOT_OFFSETS[channelId];
  if (offset === undefined || data.length < offset + 8) return undefined;
  return new DataView(data.buffer, data.byteOffset, data.length).getBigUint64(offset, true);
}

const SLOT_OFFSETS: Readonly<Record<number, number>> = {
  [ACCOUNT_CHANNEL]: FrameHeader.size + AccountBody.slot,
  [TRANSACTION_CHANNEL]: FrameHeader.size + TransactionBody.slot,
  [SLOT_CHANNEL]: FrameHeader.size + SlotBody.slot,
};

/** Nanoseconds since the Unix epoch, by this process's clock. */
export function nowNs(): bigint {
  return BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000)) * 1000n;
}
