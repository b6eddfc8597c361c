/**
 * Writes one MCAP file, chunk by chunk, of which each is in the kernel's hands when `flush` returns.
 * May touch: the file that it is given. May not touch: names and directories; recorder.ts decides those.
 * Why not `McapWriter` of the same package: it ends a chunk by its size only, and what is unflushed is lost when the process
 * is killed. Its own builders of records and chunks are used; the order of records is that of the specification.
 *
 * @module
 */

import { writeSync } from "node:fs";
import process from "node:process";
import { crc32, zstdCompressSync } from "node:zlib";
import { McapChunkBuilder, McapConstants, McapRecordBuilder, type McapTypes } from "@mcap/core";
import { CHANNELS, PROFILE, schemaText, SEGMENT_METADATA } from "./format.ts";

/** One message, as MCAP has them. */
export type SegmentMessage = McapTypes.Message;

const LIBRARY = `@qlaster/core (${process.versions.bun === undefined ? "deno" : "bun"})`;

/** Writes the whole of one segment. Synchronous: a chunk goes to the page cache, which takes a fraction of a millisecond. */
export class SegmentWriter {
  readonly #fd: number;
  readonly #isCompressed: boolean;
  readonly #records = new McapRecordBuilder();
  readonly #chunk = new McapChunkBuilder({ useMessageIndex: true });
  readonly #chunkIndexes: McapTypes.ChunkIndex[] = [];
  readonly #metadataIndexes: McapTypes.MetadataIndex[] = [];
  readonly #counts = new Map<number, bigint>();
  #position = 0;
  #crc = 0;
  #startTime = 0n;
  #endTime = 0n;
  #messages = 0n;

  /** @param fd An empty file, which stays the caller's. */
  constructor(fd: number, options: { readonly isCompressed: boolean }) {
    this.#fd = fd;
    this.#isCompressed = options.isCompressed;
    const records = this.#records;
    records.writeMagic();
    records.writeHeader({ profile: PROFILE, library: LIBRARY });
    // In front of all chunks, so that each can be understood by itself.
    this.#describeChannels();
    this.#write();
  }

  #describeChannels(): bigint[] {
    const lengths = [0n, 0n];
    CHANNELS.forEach((channel, id) => {
      if (channel === undefined) return;
      const data = new TextEncoder().encode(schemaText(channel));
      lengths[0]! += this.#records.writeSchema({ id, name: channel.schema, encoding: "qlaster-fields", data });
    });
    CHANNELS.forEach((channel, id) => {
      if (channel === undefined) return;
      const { topic, encoding: messageEncoding } = channel;
      lengths[1]! += this.#records.writeChannel({ id, schemaId: id, topic, messageEncoding, metadata: new Map() });
    });
    return lengths;
  }

  /** Bytes in the file. */
  get size(): number {
    return this.#position;
  }

  /** Bytes that wait for `flush`, uncompressed. */
  get pending(): number {
    return this.#chunk.byteLength;
  }

  /** Messages that wait for `flush`. */
  get pendingCount(): number {
    return this.#chunk.numMessages;
  }

  /** Takes a message into the open chunk. Its bytes are copied. */
  add(message: SegmentMessage): void {
    if (this.#messages === 0n) this.#startTime = message.logTime;
    this.#endTime = message.logTime;
    this.#messages++;
    this.#counts.set(message.channelId, (this.#counts.get(message.channelId) ?? 0n) + 1n);
    this.#chunk.addMessage(message);
  }

  /** Ends the open chunk, if anything is in it. When this returns, nothing but the machine's own end can lose it. */
  flush(): void {
    const chunk = this.#chunk;
    if (chunk.numMessages === 0) return;
    const { buffer, messageStartTime, messageEndTime } = chunk;
    const records = this.#isCompressed ? zstdCompressSync(buffer) : buffer;
    const compression = this.#isCompressed ? "zstd" : "";
    const uncompressedSize = BigInt(buffer.length);
    const chunkStartOffset = BigInt(this.#position);
    const chunkLength = this.#records.writeChunk({
      messageStartTime,
      messageEndTime,
      uncompressedSize,
      uncompressedCrc: crc32(buffer),
      compression,
      records,
    });
    let at = chunkStartOffset + chunkLength;
    const messageIndexOffsets = new Map<number, bigint>();
    for (const index of chunk.indices) {
      messageIndexOffsets.set(index.channelId, at);
      at += this.#records.writeMessageIndex(index);
    }
    this.#chunkIndexes.push({
      messageStartTime,
      messageEndTime,
      chunkStartOffset,
      chunkLength,
      messageIndexOffsets,
      messageIndexLength: at - chunkStartOffset - chunkLength,
      compression,
      compressedSize: BigInt(records.length),
      uncompressedSize,
    });
    chunk.reset();
    this.#write();
  }

  /** Ends the file: what is pending, what is to be known of the whole, the index. */
  end(metadata: ReadonlyMap<string, string>): void {
    this.flush();
    const offset = BigInt(this.#position);
    const length = this.#records.writeMetadata({ name: SEGMENT_METADATA, metadata: new Map(metadata) });
    this.#metadataIndexes.push({ name: SEGMENT_METADATA, offset, length });
    this.#write();
    this.#records.writeDataEnd({ dataSectionCrc: this.#crc });
    this.#write();
    this.#writeSummary();
  }

  #writeSummary(): void {
    const records = this.#records;
    const { Opcode } = McapConstants;
    const start = BigInt(this.#position);
    const groups: McapTypes.SummaryOffset[] = [];
    let at = start;
    const group = (groupOpcode: number, groupLength: bigint) => {
      if (groupLength > 0n) groups.push({ groupOpcode, groupStart: at, groupLength });
      at += groupLength;
    };
    const sum = <T>(items: Iterable<T>, write: (item: T) => bigint) => {
      let length = 0n;
      for (const item of items) length += write(item);
      return length;
    };
    const [schemas, channels] = this.#describeChannels();
    group(Opcode.SCHEMA, schemas!);
    group(Opcode.CHANNEL, channels!);
    const channelCount = CHANNELS.length - 1;
    const statistics = records.writeStatistics({
      messageCount: this.#messages,
      schemaCount: channelCount,
      channelCount,
      attachmentCount: 0,
      metadataCount: this.#metadataIndexes.length,
      chunkCount: this.#chunkIndexes.length,
      messageStartTime: this.#startTime,
      messageEndTime: this.#endTime,
      channelMessageCounts: this.#counts,
    });
    group(Opcode.STATISTICS, statistics);
    group(Opcode.METADATA_INDEX, sum(this.#metadataIndexes, (index) => records.writeMetadataIndex(index)));
    group(Opcode.CHUNK_INDEX, sum(this.#chunkIndexes, (index) => records.writeChunkIndex(index)));
    const summaryOffsetStart = at;
    for (const offset of groups) records.writeSummaryOffset(offset);
    // The checksum covers the summary up to itself, which stands in the footer: opcode, length, two offsets.
    const footer = new DataView(new ArrayBuffer(1 + 8 + 8 + 8));
    footer.setUint8(0, Opcode.FOOTER);
    footer.setBigUint64(1, 20n, true);
    footer.setBigUint64(9, start, true);
    footer.setBigUint64(17, summaryOffsetStart, true);
    const summaryCrc = crc32(new Uint8Array(footer.buffer), crc32(records.buffer));
    records.writeFooter({ summaryStart: start, summaryOffsetStart, summaryCrc });
    records.writeMagic();
    this.#write();
  }

  #write(): void {
    const bytes = this.#records.buffer;
    this.#records.reset();
    this.#crc = crc32(bytes, this.#crc);
    for (let written = 0; written < bytes.length;) {
      written += writeSync(this.#fd, bytes, written, bytes.length - written);
    }
    this.#position += bytes.length;
  }
}
