/**
 * Reads the messages of one MCAP file in order: from its beginning, or in a complete one from a time on.
 * May touch: the file, read only. Checks every chunk's CRC. Everything in it is input.
 *
 * @module
 */

import { type FileHandle, open } from "node:fs/promises";
import { zstdDecompressSync } from "node:zlib";
import { McapIndexedReader, McapStreamReader, type McapTypes } from "@mcap/core";
import { QlasterError } from "../errors.ts";
import {
  CHANNELS,
  FILTER_NAMES_CHANNEL,
  PROFILE,
  SEGMENT_METADATA,
  SLOT_INDEX_CHANNEL,
  SlotIndexEntry,
} from "./format.ts";
import type { SegmentMessage } from "./segment_writer.ts";

const READ_BYTES = 1024 * 1024;
/** What a chunk may become: more than the largest account, and a bound for what a file can make us allocate. */
const CHUNK_BYTES_MAX = 256 * 1024 * 1024;
/** Longest record as it stands in the file, which is read whole: a length of 2^60 must not make us read all there is. */
const RECORD_BYTES_MAX = 128 * 1024 * 1024;

const decompressHandlers: McapTypes.DecompressHandlers = {
  zstd: (bytes, size) => {
    if (size > BigInt(CHUNK_BYTES_MAX)) throw new Error(`a chunk of ${size} bytes is beyond ${CHUNK_BYTES_MAX}`);
    return zstdDecompressSync(bytes, { maxOutputLength: Number(size) });
  },
};

/** What a whole segment says of itself. */
export interface SegmentSummary {
  /** Lowest and highest slot of its updates; undefined if it has none. */
  readonly firstSlot: bigint | undefined;
  readonly lastSlot: bigint | undefined;
  /** Place of the last update in its sender's order; undefined if it does not say. */
  readonly lastSequence: bigint | undefined;
  /** `logTime` of the last message; 0n if there is none. */
  readonly endTime: bigint;
}

/** What is wrong with a file. */
export function corrupt(path: string, cause: unknown): QlasterError {
  const text = cause instanceof Error ? cause.message : String(cause);
  return new QlasterError("RECORDING_CORRUPT", `Cannot read "${path}" (${text})`, { cause });
}

/** Checks that messages are of this library, and of this version of its frames. */
class ChannelCheck {
  readonly #path: string;
  readonly #known = new Map<number, number>();

  constructor(path: string) {
    this.#path = path;
  }

  header({ profile }: { profile: string }): void {
    if (profile === PROFILE) return;
    throw new QlasterError("RECORDING_VERSION", `Cannot read "${this.#path}": its MCAP profile is "${profile}"`);
  }

  channel({ id, topic, messageEncoding }: McapTypes.Channel): void {
    const own = CHANNELS.findIndex((channel) => channel?.topic === topic);
    if (own < 0) return; // somebody else's, or a newer library's
    const expected = CHANNELS[own]!.encoding;
    if (messageEncoding !== expected) {
      const text = `Cannot read "${this.#path}": channel "${topic}" is ${messageEncoding}, expected ${expected}`;
      throw new QlasterError("RECORDING_VERSION", text);
    }
    this.#known.set(id, own);
  }

  /** Our number of the channel; -1 for one that is not ours. */
  own(id: number): number {
    return this.#known.get(id) ?? -1;
  }
}

/** Tells apart what the file says from what its owner has to know. */
async function* guarded<T>(path: string, items: AsyncIterable<T>): AsyncGenerator<T, void, undefined> {
  try {
    yield* items;
  } catch (error) {
    throw error instanceof QlasterError ? error : corrupt(path, error);
  }
}

/**
 * All messages, in the order of the file.
 * @param isPart The file may end anywhere: what is whole is read, then it is over.
 * @throws {QlasterError} `RECORDING_CORRUPT`, `RECORDING_VERSION`
 */
export function readSegment(path: string, isPart: boolean): AsyncGenerator<SegmentMessage, void, undefined> {
  return guarded(path, readStream(path, isPart));
}

async function* readStream(path: string, isPart: boolean): AsyncGenerator<SegmentMessage, void, undefined> {
  const file = await open(path, "r");
  try {
    const reader = new McapStreamReader({ decompressHandlers, validateCrcs: true });
    const check = new ChannelCheck(path);
    const buffer = new Uint8Array(READ_BYTES);
    let isTorn = false;
    while (!isTorn) {
      const { bytesRead } = await file.read(buffer, 0, buffer.length, null);
      if (bytesRead === 0) break;
      reader.append(buffer.subarray(0, bytesRead));
      const next = () => {
        try {
          return reader.nextRecord();
        } catch (error) {
          if (!isPart) throw error;
          isTorn = true; // by the machine's end: what the kernel had not written out
          return undefined;
        }
      };
      for (let record = next(); record !== undefined; record = next()) {
        if (record.type === "Header") check.header(record);
        else if (record.type === "Channel") check.channel(record);
        else if (record.type === "Message") {
          const channelId = check.own(record.channelId);
          if (channelId > 0) yield { ...record, channelId };
        }
      }
      if (reader.bytesRemaining() <= RECORD_BYTES_MAX) continue;
      if (!isPart) throw new Error(`a record is longer than ${RECORD_BYTES_MAX} bytes`);
      isTorn = true;
    }
    if (!isPart && !reader.done()) throw new Error("it ends in the middle: it was cut");
  } finally {
    await file.close();
  }
}

/**
 * All chunks that overlap in time would be unpacked at once, to merge their messages; those of a recorder never do.
 * @throws {Error} if some do.
 */
function assertInOrder(chunks: readonly McapTypes.ChunkIndex[]): void {
  const ordered = chunks.toSorted((a, b) => a.messageStartTime < b.messageStartTime ? -1 : 1);
  for (let i = 1; i < ordered.length; i++) {
    if (ordered[i]!.messageStartTime < ordered[i - 1]!.messageEndTime) throw new Error("chunks overlap in time");
  }
}

/** Random access to a complete segment. */
export class IndexedSegment implements AsyncDisposable {
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #reader: McapIndexedReader;
  readonly #check: ChannelCheck;

  private constructor(path: string, file: FileHandle, reader: McapIndexedReader) {
    this.#path = path;
    this.#file = file;
    this.#reader = reader;
    this.#check = new ChannelCheck(path);
    this.#check.header(reader.header);
    for (const channel of reader.channelsById.values()) this.#check.channel(channel);
    assertInOrder(reader.chunkIndexes);
  }

  /** @throws {QlasterError} `RECORDING_CORRUPT`, `RECORDING_VERSION` */
  static async open(path: string): Promise<IndexedSegment> {
    const file = await open(path, "r");
    try {
      const { size } = await file.stat();
      const readable: McapTypes.IReadable = {
        size: () => Promise.resolve(BigInt(size)),
        read: async (offset, length) => {
          if (offset + length > BigInt(size)) throw new Error("an index points beyond the end of the file");
          if (length > BigInt(RECORD_BYTES_MAX)) throw new Error(`a record is longer than ${RECORD_BYTES_MAX} bytes`);
          const bytes = new Uint8Array(Number(length));
          const { bytesRead } = await file.read(bytes, 0, bytes.length, Number(offset));
          if (bytesRead !== bytes.length) throw new Error("the file became shorter");
          return bytes;
        },
      };
      return new IndexedSegment(path, file, await McapIndexedReader.Initialize({ readable, decompressHandlers }));
    } catch (error) {
      await file.close();
      throw error instanceof QlasterError ? error : corrupt(path, error);
    }
  }

  /** What it says of itself. */
  async summary(): Promise<SegmentSummary> {
    const endTime = this.#reader.statistics?.messageEndTime ?? 0n;
    try {
      for await (const { metadata } of this.#reader.readMetadata({ name: SEGMENT_METADATA })) {
        const number = (name: string) => metadata.has(name) ? BigInt(metadata.get(name)!) : undefined;
        return {
          firstSlot: number("first_slot"),
          lastSlot: number("last_slot"),
          lastSequence: number("last_sequence"),
          endTime,
        };
      }
    } catch (error) {
      throw corrupt(this.#path, error);
    }
    return { firstSlot: undefined, lastSlot: undefined, lastSequence: undefined, endTime };
  }

  /** The time of the first update of any slot from `slot` on; undefined if there is none. Reads the small slot channel only. */
  async timeOfSlot(slot: bigint): Promise<bigint | undefined> {
    const topics = [CHANNELS[SLOT_INDEX_CHANNEL]!.topic];
    try {
      for await (const { data, logTime } of this.#reader.readMessages({ topics })) {
        if (data.length < SlotIndexEntry.size) throw new Error("a message of the slot index is too short");
        const view = new DataView(data.buffer, data.byteOffset, data.length);
        if (view.getBigUint64(SlotIndexEntry.slot, true) >= slot) return logTime;
      }
    } catch (error) {
      throw corrupt(this.#path, error);
    }
    return undefined;
  }

  /** Hands out what was said of filters' names up to a time, for who begins to read there. */
  async filterNamesUntil(endTime: bigint, take: (data: Uint8Array) => void): Promise<void> {
    const topics = [CHANNELS[FILTER_NAMES_CHANNEL]!.topic];
    try {
      for await (const { data } of this.#reader.readMessages({ topics, endTime })) take(data);
    } catch (error) {
      throw corrupt(this.#path, error);
    }
  }

  /** All messages from a time on. Times only grow, so their order is that of the file. */
  messagesFrom(startTime: bigint): AsyncGenerator<SegmentMessage, void, undefined> {
    const check = this.#check;
    const messages = this.#reader.readMessages({ startTime, validateCrcs: true });
    return guarded(
      this.#path,
      (async function* () {
        for await (const message of messages) {
          const channelId = check.own(message.channelId);
          if (channelId > 0) yield { ...message, channelId };
        }
      })(),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}
