/**
 * Memory for many blocks of some hundred bytes each: in chunks, each of blocks of one size, so that a block is overwritten
 * and given back without the collector.
 * May touch: its own memory. May not touch: what stands in the blocks.
 * Why not an ArrayBuffer for each: that costs some 300 bytes beside its content, and a pause for the collector per write.
 *
 * @module
 */

/** Blocks of one size begin at multiples of it, so words in them are aligned. */
const STEP = 64;
/** Up to here sizes differ by a step; beyond, by an eighth. */
const SMALL = 1024;
const CHUNK_BYTES = 128 * 1024;

/** Blocks of one size. */
export interface Chunk {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly words: Uint32Array;
  readonly data: DataView<ArrayBuffer>;
  readonly blockBytes: number;
  /** What gets a smaller block. */
  readonly bytesBelow: number;
  /** Offsets of blocks that are free. */
  readonly free: number[];
  /** Its place in the list of chunks with room; -1: it has none. */
  place: number;
}

/** A place for so many bytes. */
export interface Block {
  readonly chunk: Chunk;
  readonly at: number;
}

/** Bytes of the block that so many are put into. */
export function blockSize(bytes: number): number {
  const step = stepOf(bytes);
  return Math.ceil(bytes / step) * step;
}

function stepOf(bytes: number): number {
  return bytes <= SMALL ? STEP : 2 ** Math.floor(Math.log2(bytes - 1)) / 8;
}

/** Blocks up to a number of bytes in all. */
export class Arena {
  readonly #bytesMax: number;
  /** Chunks that have room, by the size of their blocks. */
  readonly #roomy = new Map<number, Chunk[]>();
  /** Bytes of all chunks. */
  bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** @returns Undefined if there is no room for it. What stands in it is anything. */
  allocate(bytes: number): Block | undefined {
    const size = blockSize(bytes);
    let chunks = this.#roomy.get(size);
    if (chunks === undefined) this.#roomy.set(size, chunks = []);
    const chunk = chunks.at(-1) ?? this.#add(size, chunks);
    if (chunk === undefined) return undefined;
    const at = chunk.free.pop()!;
    if (chunk.free.length === 0) this.#unlist(chunk, chunks);
    return { chunk, at };
  }

  /** Whether a block is the one that so many bytes get. */
  fits(chunk: Chunk, bytes: number): boolean {
    return bytes <= chunk.blockBytes && bytes > chunk.bytesBelow;
  }

  release(chunk: Chunk, at: number): void {
    const chunks = this.#roomy.get(chunk.blockBytes)!;
    chunk.free.push(at);
    if (chunk.place < 0) {
      chunk.place = chunks.length;
      chunks.push(chunk);
    }
    if (chunk.free.length * chunk.blockBytes < chunk.bytes.length) return;
    // Nothing is in it any more. One is kept, so that a block that comes and goes does not cost one each time.
    if (chunks.length > 1 || chunk.bytes.length > CHUNK_BYTES) this.#drop(chunk, chunks);
  }

  #drop(chunk: Chunk, chunks: Chunk[]): void {
    this.#unlist(chunk, chunks);
    this.bytes -= chunk.bytes.length;
  }

  /** Gives back chunks of other sizes that were kept. */
  #reclaim(): void {
    for (const chunks of this.#roomy.values()) {
      for (const chunk of [...chunks]) {
        if (chunk.free.length * chunk.blockBytes === chunk.bytes.length) this.#drop(chunk, chunks);
      }
    }
  }

  #roomFor(size: number): number {
    return Math.floor((this.#bytesMax - this.bytes) / size);
  }

  #add(size: number, chunks: Chunk[]): Chunk | undefined {
    const count = Math.max(1, Math.floor(CHUNK_BYTES / size));
    if (this.#roomFor(size) < count) this.#reclaim();
    const room = Math.min(count, this.#roomFor(size));
    if (room < 1) return undefined;
    const buffer = new ArrayBuffer(room * size);
    const free = Array.from({ length: room }, (_, i) => (room - 1 - i) * size);
    const chunk: Chunk = {
      bytes: new Uint8Array(buffer),
      words: new Uint32Array(buffer),
      data: new DataView(buffer),
      blockBytes: size,
      bytesBelow: size - stepOf(size),
      free,
      place: chunks.length,
    };
    chunks.push(chunk);
    this.bytes += buffer.byteLength;
    return chunk;
  }

  #unlist(chunk: Chunk, chunks: Chunk[]): void {
    const last = chunks.pop()!;
    if (last !== chunk) {
      chunks[chunk.place] = last;
      last.place = chunk.place;
    }
    chunk.place = -1;
  }
}
