/**
 * gRPC's framing: chunks of a stream to whole messages, and a message to its frame.
 * May touch: the bytes that it is given. May not touch: sockets, what a message means.
 * A message inside one chunk is handed on in place. One that spans chunks is put together once, in memory of its length.
 *
 * @module
 */

import * as zlib from "node:zlib";

/** A frame that can't be, or that we did not ask for. */
export class FrameError extends Error {
  /** Tells it apart. */
  override readonly name = "FrameError";
}

/** How messages may be compressed: what is asked for in `grpc-accept-encoding`. */
export type Compression = "gzip" | "zstd";

const HEADER_SIZE = 5;
/** What one chunk may decompress to, or two of the longest messages: a few kilobytes can stand for gigabytes. */
const PLAIN_BYTES_PER_CHUNK_MAX = 256 * 1024 * 1024;

type Decompress = (bytes: Uint8Array, options: { maxOutputLength: number }) => Uint8Array;

/** What the runtime can decompress. zstd is missing in older ones. */
export function decompressorOf(encoding: string): Decompress | undefined {
  const table: Record<string, unknown> = zlib;
  if (encoding === "gzip") return zlib.gunzipSync;
  if (encoding === "zstd") return table["zstdDecompressSync"] as Decompress | undefined;
  return undefined;
}

/** Takes a stream's chunks, in order, and hands out its messages. */
export class FrameReader {
  /** The stream's `grpc-encoding`. */
  encoding = "identity";
  /** Messages so far that were compressed. */
  compressedCount = 0;
  /** Bytes that the compressed messages of the last chunk have become. */
  plainBytes = 0;
  readonly #messageBytesMax: number;
  readonly #onMessage: (bytes: Uint8Array, start: number, end: number) => void;
  readonly #header = new Uint8Array(HEADER_SIZE);
  /** Bytes of a header that is cut off at the end of a chunk. */
  #headerLength = 0;
  /** A message that has not come whole. */
  #partial: Uint8Array | undefined;
  #partialLength = 0;
  #isPartialCompressed = false;

  /** @param onMessage Gets each message where it stands; the bytes are never written again. */
  constructor(messageBytesMax: number, onMessage: (bytes: Uint8Array, start: number, end: number) => void) {
    this.#messageBytesMax = messageBytesMax;
    this.#onMessage = onMessage;
  }

  /** @throws {FrameError} and what `onMessage` throws; then the stream is of no more use. */
  push(chunk: Uint8Array): void {
    this.plainBytes = 0;
    let at = this.#partial === undefined ? this.#continueHeader(chunk) : this.#continueMessage(chunk, 0);
    const { length } = chunk;
    while (length - at >= HEADER_SIZE) {
      const size = this.#sizeOf(chunk, at);
      const isCompressed = chunk[at] === 1;
      at += HEADER_SIZE;
      if (length - at < size) {
        this.#begin(size, isCompressed);
        at = this.#continueMessage(chunk, at);
        return;
      }
      this.#deliver(chunk, at, at + size, isCompressed);
      at += size;
    }
    if (at < length) {
      this.#header.set(chunk.subarray(at));
      this.#headerLength = length - at;
    }
  }

  #sizeOf(bytes: Uint8Array, at: number): number {
    if (bytes[at]! > 1) throw new FrameError(`a message starts with ${bytes[at]}, which is no frame`);
    const size = bytes[at + 1]! * 0x1000000 + (bytes[at + 2]! << 16 | bytes[at + 3]! << 8 | bytes[at + 4]!);
    if (size > this.#messageBytesMax) {
      throw new FrameError(`a message of ${size} bytes is longer than the ${this.#messageBytesMax} that are taken`);
    }
    return size;
  }

  #begin(size: number, isCompressed: boolean): void {
    this.#partial = new Uint8Array(size);
    this.#partialLength = 0;
    this.#isPartialCompressed = isCompressed;
  }

  /** The rest of a header, and what follows of its message. @returns Where to go on in the chunk. */
  #continueHeader(chunk: Uint8Array): number {
    if (this.#headerLength === 0) return 0;
    const count = Math.min(HEADER_SIZE - this.#headerLength, chunk.length);
    this.#header.set(chunk.subarray(0, count), this.#headerLength);
    this.#headerLength += count;
    if (this.#headerLength < HEADER_SIZE) return chunk.length;
    this.#headerLength = 0;
    this.#begin(this.#sizeOf(this.#header, 0), this.#header[0] === 1);
    return this.#continueMessage(chunk, count);
  }

  #continueMessage(chunk: Uint8Array, at: number): number {
    const partial = this.#partial!;
    const count = Math.min(partial.length - this.#partialLength, chunk.length - at);
    partial.set(chunk.subarray(at, at + count), this.#partialLength);
    this.#partialLength += count;
    if (this.#partialLength === partial.length) {
      this.#partial = undefined;
      this.#deliver(partial, 0, partial.length, this.#isPartialCompressed);
    }
    return at + count;
  }

  #deliver(bytes: Uint8Array, start: number, end: number, isCompressed: boolean): void {
    if (!isCompressed) return this.#onMessage(bytes, start, end);
    const decompress = decompressorOf(this.encoding);
    if (decompress === undefined) throw new FrameError(`a message is compressed by "${this.encoding}"`);
    let plain: Uint8Array;
    try {
      plain = decompress(bytes.subarray(start, end), { maxOutputLength: this.#messageBytesMax });
    } catch (cause) {
      throw new FrameError("a compressed message does not decompress, or is too long then", { cause });
    }
    this.compressedCount++;
    this.plainBytes += plain.length;
    const plainBytesMax = Math.max(PLAIN_BYTES_PER_CHUNK_MAX, 2 * this.#messageBytesMax);
    if (this.plainBytes > plainBytesMax) {
      throw new FrameError(`the messages of one chunk decompress to more than ${plainBytesMax} bytes`);
    }
    this.#onMessage(plain, 0, plain.length);
  }
}

/** A message with its frame, in memory of its own. */
export function frameOf(message: Uint8Array): Uint8Array {
  const frame = new Uint8Array(HEADER_SIZE + message.length);
  new DataView(frame.buffer).setUint32(1, message.length);
  frame.set(message, HEADER_SIZE);
  return frame;
}
